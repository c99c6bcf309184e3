/*
 * AES, SHA, GFNI, carry-less multiplication and CRC-32C, computed: for hosts that lack the instructions (FIPS 197, FIPS
 * 180-4).
 */
#include "engine/interp/fp.h"

typedef union xmm_parts parts;

/* ---- AES: the state's byte n is row n % 4, column n / 4 ---- */

/* Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
static u8 gf_multiply(u8 a, u8 b)
{
    u8 r = 0;

    for (; b; b >>= 1) {
        if (b & 1)
            r ^= a;
        a = a << 1 ^ (a & 0x80 ? 0x1b : 0);
    }
    return r;
}

xmm soft_GF2P8MULB(xmm a, xmm b)
{
    parts x = {a}, y = {b}, r;

    for (unsigned n = 0; n < 16; n++)
        r.b[n] = gf_multiply(x.b[n], y.b[n]);
    return r.v;
}

/* v^254; 0 has none and gives 0. */
static u8 gf_inverse(u8 v)
{
    u8 r = 1;

    for (unsigned e = 254; e; e >>= 1) {
        if (e & 1)
            r = gf_multiply(r, v);
        v = gf_multiply(v, v);
    }
    return r;
}

static u8 rotate_left8(u8 v, unsigned n)
{
    return v << n | v >> (8 - n);
}

/* The S-box by its definition: inverse, then an affine map. Slow, and needs no table that could be wrong. */
static u8 sub_byte(u8 v)
{
    v = gf_inverse(v);
    return v ^ rotate_left8(v, 1) ^ rotate_left8(v, 2) ^ rotate_left8(v, 3) ^ rotate_left8(v, 4) ^ 0x63;
}
static u8 inv_sub_byte(u8 v)
{
    v ^= 0x63;
    return gf_inverse(rotate_left8(v, 1) ^ rotate_left8(v, 3) ^ rotate_left8(v, 6));
}

/* Substitute and shift rows (by +1 when encrypting, -1 when decrypting). */
static parts sub_and_shift(xmm a, bool inverse)
{
    parts x = {a}, r;

    for (unsigned n = 0; n < 16; n++) {
        unsigned row = n % 4, column = n / 4;
        u8 v = x.b[((inverse ? column - row : column + row) % 4) * 4 + row];

        r.b[n] = inverse ? inv_sub_byte(v) : sub_byte(v);
    }
    return r;
}

/* Each column times the polynomial with coefficients c[0] (of the row itself), c[1] (the next row) ... */
static xmm mix_columns(parts x, const u8 c[4])
{
    parts r;

    for (unsigned n = 0; n < 16; n++) {
        r.b[n] = 0;
        for (unsigned k = 0; k < 4; k++)
            r.b[n] ^= gf_multiply(x.b[(n & ~3u) | ((n + k) & 3)], c[k]);
    }
    return r.v;
}
static const u8 mix[4] = {2, 3, 1, 1}, inverse_mix[4] = {14, 11, 13, 9};

xmm soft_AESENC(xmm a, xmm b)
{
    return mix_columns(sub_and_shift(a, false), mix) ^ b;
}
xmm soft_AESENCLAST(xmm a, xmm b)
{
    return sub_and_shift(a, false).v ^ b;
}
xmm soft_AESDEC(xmm a, xmm b)
{
    return mix_columns(sub_and_shift(a, true), inverse_mix) ^ b;
}
xmm soft_AESDECLAST(xmm a, xmm b)
{
    return sub_and_shift(a, true).v ^ b;
}
xmm soft_AESIMC(xmm a, xmm b)
{
    return mix_columns((parts){b}, inverse_mix);
}

xmm soft_AESKEYGENASSIST(xmm a, xmm b, u8 imm)
{
    parts y = {b}, r;

    for (unsigned n = 0; n < 2; n++) {
        u32 v = y.d[2 * n + 1], s = 0;

        for (unsigned k = 0; k < 4; k++)
            s |= (u32)sub_byte(v >> 8 * k) << 8 * k;
        r.d[2 * n] = s;
        r.d[2 * n + 1] = (s >> 8 | s << 24) ^ imm;
    }
    return r.v;
}

/* ---- GFNI: every byte times an 8x8 bit matrix, the eight bytes of b's quadword; row 0 of it is for bit 7 ---- */

static xmm affine(xmm a, xmm b, u8 imm, bool inverse)
{
    parts x = {a}, y = {b}, r;

    for (unsigned n = 0; n < 16; n++) {
        u8 v = inverse ? gf_inverse(x.b[n]) : x.b[n];

        r.b[n] = imm;
        for (unsigned bit = 0; bit < 8; bit++)
            r.b[n] ^= __builtin_parity(y.b[(n & 8) + 7 - bit] & v) << bit;
    }
    return r.v;
}
xmm soft_GF2P8AFFINEQB(xmm a, xmm b, u8 imm)
{
    return affine(a, b, imm, false);
}
xmm soft_GF2P8AFFINEINVQB(xmm a, xmm b, u8 imm)
{
    return affine(a, b, imm, true);
}

/* ---- carry-less multiplication ---- */

xmm soft_PCLMULQDQ(xmm a, xmm b, u8 imm)
{
    u64 x = a[imm & 1], y = b[imm >> 4 & 1];
    u128 r = 0;

    for (unsigned n = 0; n < 64; n++)
        if (y >> n & 1)
            r ^= (u128)x << n;
    return (xmm){(u64)r, (u64)(r >> 64)};
}

/* ---- SHA-1: element 3 of a vector is the first of its four words ---- */

static u32 rotate_left(u32 v, unsigned n)
{
    return v << n | v >> (32 - n);
}
static u32 rotate_right(u32 v, unsigned n)
{
    return v >> n | v << (32 - n);
}

xmm soft_SHA1NEXTE(xmm a, xmm b)
{
    parts x = {a}, y = {b};

    y.d[3] += rotate_left(x.d[3], 30);
    return y.v;
}
xmm soft_SHA1MSG1(xmm a, xmm b)
{
    parts x = {a}, y = {b}, r = {.d = {y.d[2] ^ x.d[0], y.d[3] ^ x.d[1], x.d[0] ^ x.d[2], x.d[1] ^ x.d[3]}};

    return r.v;
}
xmm soft_SHA1MSG2(xmm a, xmm b)
{
    parts x = {a}, y = {b}, r;

    r.d[3] = rotate_left(x.d[3] ^ y.d[2], 1);
    r.d[2] = rotate_left(x.d[2] ^ y.d[1], 1);
    r.d[1] = rotate_left(x.d[1] ^ y.d[0], 1);
    r.d[0] = rotate_left(x.d[0] ^ r.d[3], 1);
    return r.v;
}
xmm soft_SHA1RNDS4(xmm state, xmm words, u8 imm)
{
    static const u32 constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    parts x = {state}, w = {words}, r;
    u32 a = x.d[3], b = x.d[2], c = x.d[1], d = x.d[0], e = 0;

    for (unsigned n = 0; n < 4; n++) {
        u32 f = imm == 0 ? (b & c) ^ (~b & d) : imm == 2 ? (b & c) ^ (b & d) ^ (c & d) : b ^ c ^ d;
        u32 next = f + rotate_left(a, 5) + w.d[3 - n] + e + constant[imm];

        e = d;
        d = c;
        c = rotate_left(b, 30);
        b = a;
        a = next;
    }
    r.d[3] = a;
    r.d[2] = b;
    r.d[1] = c;
    r.d[0] = d;
    return r.v;
}

/* ---- SHA-256 ---- */

xmm soft_SHA256MSG1(xmm a, xmm b)
{
    parts x = {a}, y = {b};
    u32 w[5] = {x.d[0], x.d[1], x.d[2], x.d[3], y.d[0]};

    for (unsigned n = 0; n < 4; n++)
        x.d[n] = w[n] + (rotate_right(w[n + 1], 7) ^ rotate_right(w[n + 1], 18) ^ w[n + 1] >> 3);
    return x.v;
}
xmm soft_SHA256MSG2(xmm a, xmm b)
{
    parts x = {a}, y = {b};
    u32 w[6] = {y.d[2], y.d[3]};

    for (unsigned n = 0; n < 4; n++)
        w[n + 2] = x.d[n] + (rotate_right(w[n], 17) ^ rotate_right(w[n], 19) ^ w[n] >> 10);
    for (unsigned n = 0; n < 4; n++)
        x.d[n] = w[n + 2];
    return x.v;
}
xmm soft_SHA256RNDS2(xmm first, xmm second, xmm words)
{
    parts x = {first}, y = {second}, wk = {words}, r;
    u32 a = y.d[3], b = y.d[2], c = x.d[3], d = x.d[2], e = y.d[1], f = y.d[0], g = x.d[1], h = x.d[0];

    for (unsigned n = 0; n < 2; n++) {
        u32 t1 = h + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) + ((e & f) ^ (~e & g)) +
                 wk.d[n];
        u32 t2 =
            (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    r.d[3] = a;
    r.d[2] = b;
    r.d[1] = e;
    r.d[0] = f;
    return r.v;
}

/* ---- CRC-32C: reflected polynomial 11EDC6F41h ---- */

u32 soft_CRC32(u32 crc, u64 value, unsigned size)
{
    for (unsigned n = 0; n < size; n++) {
        crc ^= (u8)(value >> 8 * n);
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return crc;
}
