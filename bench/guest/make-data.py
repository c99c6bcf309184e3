#!/usr/bin/python3
"""Make the fixed data of the entries: make-data.py FOLDER. The same on every machine."""
import random
import sys
from pathlib import Path

FUNCTIONS = 250
TEXT_BYTES = 4 << 20


def functions():
    """A C file of 250 small functions: loops, switches, calls, structures."""
    dice = random.Random(250)
    lines = ["struct item { int key, value; struct item *next; };"]
    for i in range(FUNCTIONS):
        a, b, c = (dice.randrange(3, 100) for _ in range(3))
        body = [
            f"for (int k = 0; k < n; k++) s += p[k] ^ {b};" if i % 32 == 0 else f"s += n > {c} ? {b} : *p;",
            f"s += list->key * {c};",
            f"if (n > {b}) s -= p[{c}];",
            f"s ^= f{dice.randrange(i) if i else 0}({b}, p, list);",
            f"p[n & 7] = s * n + {b};",
            f"s = n & {b} ? s << 3 : {c};",
            f"list->value = n / {b};",
            f"s -= p[n] * {b};",
        ][i % 8]
        lines.append(f"__attribute__((noinline)) int f{i}(int n, int *p, struct item *list) {{ int s = {a}; {body} return s; }}")
    return "\n".join(lines) + "\n"


def text():
    """Words as frequent as in a language, numbers, and some bytes that do not compress."""
    dice = random.Random(4)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(dice.choices(letters, range(26, 0, -1), k=dice.randrange(1, 11))) for _ in range(5000)]
    weights = [1 / (i + 2) for i in range(len(words))]
    parts, size = [], 0
    while size < TEXT_BYTES:
        line = " ".join(dice.choices(words, weights, k=400)).encode() + b" %d\n" % dice.randrange(10**6) + dice.randbytes(200)
        parts.append(line)
        size += len(line)
    return b"".join(parts)[:TEXT_BYTES]


def is_prime(number):
    return all(number % small for small in range(3, 2000, 2)) and pow(2, number - 1, number) == 1


def rsa_key(bits=2048, exponent=65537):
    """An RSA private key in DER (RFC 8017, A.1.2). It guards nothing."""
    dice = random.Random(bits)

    def prime():
        while True:
            number = dice.getrandbits(bits // 2) | 3 << (bits // 2 - 2) | 1
            if is_prime(number) and (number - 1) % exponent:
                return number

    def tlv(tag, content):
        size = len(content)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        return bytes([tag]) + length + content

    p, q = prime(), prime()
    d = pow(exponent, -1, (p - 1) * (q - 1))
    numbers = [0, p * q, exponent, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)]
    return tlv(0x30, b"".join(tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "functions.c").write_text(functions())
    (folder / "text").write_bytes(text())
    (folder / "rsa.der").write_bytes(rsa_key())


if __name__ == "__main__":
    main()
