"""Programs that compute the same in a guest and on the host, to the last bit: the C library's mathematics and string functions
in the variants that it picks for the processor, compiled loops for every instruction set, OpenSSL. The host is the oracle."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from initramfs import add_program, pack
from machine import TIMEOUT

pytestmark = pytest.mark.own

SOURCES = Path(__file__).parent / "programs"
HOST_FLAGS = set(re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
V3 = {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}

# Name: the flags of gcc and the source.
BASE = {
    **{f"libm-{name}{bits}": f"-m{bits} -O2 -DTYPE='{kind}' -D'F(x)=x{suffix}' libm.c -lm"
       for bits in (32, 64) for name, kind, suffix in (("f", "float", "##f"), ("d", "double", ""), ("l", "long double", "##l"))},
    "strings32": "-m32 -O2 strings.c",
    "strings64": "-O2 strings.c",
    "kernels-x87": "-m32 -march=i686 -O2 -mfpmath=387 kernels.c -lm",
    "kernels-x87-fast": "-m32 -march=i686 -Ofast -mfpmath=387 kernels.c -lm",
    "kernels-sse32": "-m32 -O3 -msse2 -mfpmath=sse kernels.c -lm",
    "kernels-plain": "-O0 kernels.c -lm",
    "kernels-v1": "-O3 -march=x86-64 kernels.c -lm",
    "kernels-v2": "-O3 -march=x86-64-v2 kernels.c -lm",
}
WITH_V3 = {
    "kernels-v3": "-O3 -march=x86-64-v3 kernels.c -lm",
    "kernels-v3-32": "-m32 -O3 -march=x86-64-v3 -mfpmath=sse kernels.c -lm",
    "kernels-v3-fast": "-Ofast -march=x86-64-v3 kernels.c -lm",  # with libmvec's vector functions
}
# The C library of the host shall pick what it picks on a v2.
ONLY_V2 = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-FMA,-BMI2,-ERMS,-FSRM"}

# What OpenSSL is told to leave alone: CPUID 1.EDX and ECX, 7.EBX. Each makes it take another path; the results stay.
OPENSSL = {
    "all": ":",
    "no SHA-NI": ":~0x20000000",
    "no AVX2, BMI2, ADX": ":~0x20080128",
    "no AVX, AES-NI, PCLMULQDQ": "~0x1200000200000000:~0x20080128",
    "no SSSE3": "~0x1200020200000000:~0x20080128",
}
OPENSSL_COMMANDS = ["dgst -sha1 data", "dgst -sha256 data", "dgst -sha512 data", "dgst -sha3-256 data", "dgst -md5 data",
                    "dgst -blake2b512 data", "dgst -sha256 -sign rsa.pem -hex data", "pkeyutl -sign -inkey ed.pem -rawin -in data",
                    "pkeyutl -derive -inkey ec.pem -peerkey peer.pem", "pkeyutl -derive -inkey x.pem -peerkey xpeer.pem"] + [
    f"enc -{cipher} -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0123456789abcdef0123456789abcdef"
    " -in data" for cipher in ("aes-256-cbc", "aes-256-ctr", "aes-256-ecb", "chacha20", "camellia-256-cbc", "aria-256-ctr")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder with the programs; /programs in the guest."""
    root = tmp_path_factory.mktemp("programs")
    folder = root / "programs"
    folder.mkdir()
    for name, words in {**BASE, **WITH_V3}.items():
        subprocess.run(f"gcc -static -s -std=gnu11 -D_GNU_SOURCE -ffp-contract=fast -o {folder / name} {words}", shell=True,
                       check=True, cwd=SOURCES)
    return root


def add_openssl(root):
    """OpenSSL with its libraries, keys and data."""
    folder = root / "programs"
    add_program(root, shutil.which("openssl"), "programs/openssl")
    (folder / "data").write_bytes(bytes(n * n * 31 >> 3 & 255 for n in range(20000)))
    (folder / "openssl.cnf").touch()

    def make(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    make("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pem")
    make("genpkey", "-algorithm", "ed25519", "-out", "ed.pem")
    for name, words in {"ec": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "x": ("x25519",)}.items():
        make("genpkey", "-algorithm", *words, "-out", f"{name}.pem")
        make("genpkey", "-algorithm", *words, "-out", "other.pem")
        make("pkey", "-in", "other.pem", "-pubout", "-out", f"{name if name == 'x' else ''}peer.pem")


def compare(linux, guest, tmp_path, root, commands, *words, env=None):
    """Run the commands in the guest and on the host and compare what they say."""
    (root / "programs" / "run").write_text("cd /programs\nexport OPENSSL_CONF=/programs/openssl.cnf\n" + "".join(
        f"echo '=== {name}'; {command}\n" for name, command in commands.items()) + "echo '=== END'\n")
    (tmp_path / "initrd").write_bytes(guest.initrd.read_bytes() + pack(root))
    vm = linux("--clock", "icount", *words, initrd=tmp_path / "initrd", append="guest.run=sh+/programs/run", memory="512M")
    assert vm.wait_exit(10 * TIMEOUT) == 0
    output = re.sub("\r+\n", "\n", vm.output())
    wrong = []
    for name, command in commands.items():
        wanted = subprocess.run(["sh", "-c", command], cwd=root / "programs", capture_output=True, text=True, check=True,
                                env={**os.environ, "OPENSSL_CONF": "openssl.cnf", **(env or {})}).stdout
        found = re.search(rf"^=== {re.escape(name)}\n(.*?)^===", output, re.MULTILINE | re.DOTALL)
        if not found or found[1] != wanted:
            lines = set(wanted.splitlines())
            wrong.append(f"{name}: " + ("no output" if not found else
                                        "; ".join([line for line in found[1].splitlines() if line not in lines][:5])))
    assert not wrong, "\n".join(wrong)


def commands_of(programs):
    return {name: f"./{name}" for name in programs}


@pytest.mark.skipif(not V3 <= HOST_FLAGS, reason="the host has no AVX2 and FMA to compare with")
def test_programs(linux, guest, tmp_path, tree):
    compare(linux, guest, tmp_path, tree, commands_of({**BASE, **WITH_V3}))


@pytest.mark.long
@pytest.mark.skipif(not V3 <= HOST_FLAGS, reason="the host has no AVX2 and FMA to compare with")
def test_programs_by_the_other_maker(linux, guest, tmp_path, tree):
    compare(linux, guest, tmp_path, tree, commands_of({**BASE, **WITH_V3}), "--cpu", "v3,vendor=AuthenticAMD", "--cpus", "2")


@pytest.mark.long
def test_programs_without_avx(linux, guest, tmp_path, tree):
    compare(linux, guest, tmp_path, tree, commands_of(BASE), "--cpu", "v2", env=ONLY_V2)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_openssl(linux, guest, tmp_path):
    root = tmp_path / "root"
    (root / "programs").mkdir(parents=True)
    add_openssl(root)
    compare(linux, guest, tmp_path, root, {
        f"{words.split(' -K')[0]}, {name}": f"OPENSSL_ia32cap='{caps}' ./openssl {words} 2>/dev/null | md5sum"
        for name, caps in OPENSSL.items() for words in OPENSSL_COMMANDS})
