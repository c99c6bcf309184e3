/*
 * The computed vector instructions (simd_soft.c, crypto_soft.c) against the host's, on edge values and random ones, in all
 * rounding modes: results and MXCSR flags. What the host lacks is skipped, and said so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/interp/fp.h"

enum { RANDOM_CASES = 3000, MXCSR_RC = 3 << 13 };

static const u64 edges[] = {
    0,
    1,
    UINT64_MAX,
    0x8000000080000000,
    0x7fffffff7fffffff,
    0x8000800080008000,
    0x7fff7fff7fff7fff,
    0x8080808080808080,
    0x7f7f7f7f7f7f7f7f,
    0x00ff00ff00ff00ff,
    0x0123456789abcdef,
    0x3f8000003f800000,
    0xbf800000bf800000,
    0x7f8000007f800000,
    0xff800000ff800000, /* singles: 1, -1, infinities */
    0x7fc000007fa00000,
    0x0000000100000001,
    0x807fffff007fffff,
    0x0080000000800000, /* NaNs, denormals, least normal */
    0x3f0000003fc00000,
    0xbf0000004b000001,
    0x4b8000004affffff,
    0x7f7fffff7f7fffff, /* ties, integral, greatest */
    0x3ff0000000000000,
    0xbff0000000000000,
    0x7ff0000000000000,
    0x7ff8000000000001,
    0x7ff0000000000001,
    0x0000000000000001,
    0x800fffffffffffff,
    0x0010000000000000,
    0x3fe0000000000000,
    0x3ff8000000000000,
    0x4330000000000001,
    0x432fffffffffffff,
    0x7fefffffffffffff,
    0xc004000000000000,
};

/* xorshift64*: the same cases every time. */
static u64 seed = 0x9e3779b97f4a7c15;
static u64 random64(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1d;
}
static u64 pick(void)
{
    u64 r = random64();

    switch (r & 3) {
    case 0: return random64();
    case 1: return (edges[r / 4 % ARRAY_SIZE(edges)] & 0xffffffff) | random64() << 32;
    default: return edges[r / 4 % ARRAY_SIZE(edges)];
    }
}
static xmm pick_xmm(void)
{
    return (xmm){pick(), pick()};
}

static struct interp_fp fp;

/* A rounding mode, sometimes with FTZ or DAZ; no flags set. */
static u32 pick_mxcsr(void)
{
    u64 r = random64();

    return MXCSR_MASKS | (r & MXCSR_RC) | (r >> 20 & 7 ? 0 : r & MXCSR_FTZ) |
           (r >> 24 & 7 ? 0 : r & MXCSR_DAZ);
}

typedef xmm operation(xmm a, xmm b, xmm x0, u8 imm);

/* Both ways; the whole register counts, and the flags. */
static void compare(const char *name, u32 feature, operation *host, operation *soft, u8 imm_mask)
{
    u32 saved = fp_get_mxcsr();

    if (!(fp.host & feature)) {
        print_message("%s: not on this host\n", name);
        return;
    }
    for (unsigned n = 0; n < RANDOM_CASES; n++) {
        xmm a = pick_xmm(), b = pick_xmm(), x0 = pick_xmm(), r1, r2;
        u8 imm = random64() & imm_mask;
        u32 mxcsr = pick_mxcsr(), f1, f2;

        fp_set_mxcsr(mxcsr);
        r1 = host(a, b, x0, imm);
        f1 = fp_get_mxcsr();
        fp_set_mxcsr(mxcsr);
        r2 = soft(a, b, x0, imm);
        f2 = fp_get_mxcsr();
        fp_set_mxcsr(saved);
        if (memcmp(&r1, &r2, 16) || f1 != f2)
            fail_msg(
                "%s imm %02x a %016lx.%016lx b %016lx.%016lx x0 %016lx.%016lx mxcsr %04x: host %016lx.%016lx "
                "%04x, computed %016lx.%016lx %04x",
                name, imm, (long)a[1], (long)a[0], (long)b[1], (long)b[0], (long)x0[1], (long)x0[0], mxcsr,
                (long)r1[1], (long)r1[0], f1, (long)r2[1], (long)r2[0], f2);
    }
}

/* One test a list, with a pair of wrappers for each instruction. */
#define WRAP(name, host_call, soft_call)                                                                     \
    static xmm host_##name(xmm a, xmm b, xmm x0, u8 imm)                                                     \
    {                                                                                                        \
        return host_call;                                                                                    \
    }                                                                                                        \
    static xmm computed_##name(xmm a, xmm b, xmm x0, u8 imm)                                                 \
    {                                                                                                        \
        return soft_call;                                                                                    \
    }
#define WRAP2(name, ...)     WRAP(name, xmm_##name(&fp, a, b), soft_##name(a, b))
#define WRAP_XMM0(name, ...) WRAP(name, xmm_##name(&fp, a, b, x0), soft_##name(a, b, x0))
#define WRAP_IMM(name, form, bytes, count, mask, ...)                                                        \
    WRAP(name, xmm_##name(&fp, a, b, imm), soft_##name(a, b, imm &mask))
FP_SSSE3_INT(WRAP2)
FP_SSE4_INT(WRAP2)
FP_CRYPTO(WRAP2)
FP_SSE3_FLOAT(WRAP2)
FP_XMM0_BLEND(WRAP_XMM0)
FP_XMM0_CRYPTO(WRAP_XMM0)
FP_VNNI(WRAP_XMM0)
FP_IMM_INT(WRAP_IMM)
FP_IMM_CRYPTO(WRAP_IMM)
FP_IMM_FLOAT(WRAP_IMM)
FP_IMM_VCOMPARE(WRAP_IMM)

#define COMPARE(name, form, bytes, feature, ...)                                                             \
    compare(#name, FP_HOST_##feature, host_##name, computed_##name, 0);
#define COMPARE_FLOAT(name, form, bytes, tiny, feature)                                                      \
    compare(#name, FP_HOST_##feature, host_##name, computed_##name, 0);
#define COMPARE_IMM(name, form, bytes, count, mask, lane, feature)                                           \
    compare(#name, FP_HOST_##feature, host_##name, computed_##name, 0xff);
#define COMPARE_IMM_FLOAT(name, form, bytes, count, mask, lane, tiny, feature)                               \
    compare(#name, FP_HOST_##feature, host_##name, computed_##name, 0xff);

static void test_integer(void **state)
{
    FP_SSSE3_INT(COMPARE)
    FP_SSE4_INT(COMPARE)
    FP_XMM0_BLEND(COMPARE)
    FP_IMM_INT(COMPARE_IMM)
    FP_VNNI(COMPARE)
}
static void test_float(void **state)
{
    FP_SSE3_FLOAT(COMPARE_FLOAT)
    FP_IMM_FLOAT(COMPARE_IMM_FLOAT)
    FP_IMM_VCOMPARE(COMPARE_IMM_FLOAT)
}
static void test_crypto(void **state)
{
    FP_CRYPTO(COMPARE)
    FP_XMM0_CRYPTO(COMPARE)
    FP_IMM_CRYPTO(COMPARE_IMM)
}

/* Short alphabets, so that strings match and end within the register. */
static xmm pick_string(void)
{
    union xmm_parts v;

    for (unsigned n = 0; n < 16; n++)
        v.b[n] = (const u8[]){0, 'a', 'b', 'c', 0x80, 0xff, 'a', 'b'}[random64() >> 20 & 7];
    if (random64() & 1)
        for (unsigned n = 0; n < 16; n++)
            v.b[n] |= !v.b[n];
    return v.v;
}
static void test_strings(void **state)
{
    if (!(fp.host & FP_HOST_SSE4_2))
        skip();
    for (unsigned n = 0; n < 100 * RANDOM_CASES; n++) {
        xmm a = pick_string(), b = pick_string(), m1, m2;
        i64 la = (i64)(random64() % 40) - 20, lb = (i64)(random64() % 40) - 20;
        i64 ca = la > 16 ? 16 : la < -16 ? -16 : la, cb = lb > 16 ? 16 : lb < -16 ? -16 : lb;
        u8 imm = random64() & 0x7f;
        bool explicit_lengths = random64() >> 30 & 1;
        u32 r1, r2;

        if (explicit_lengths) {
            r1 = fp_pcmpestri(a, b, ca, cb, imm);
            r2 = soft_PCMPESTRI(a, b, la, lb, imm);
            m1 = fp_pcmpestrm(a, b, ca, cb, imm);
            m2 = soft_PCMPESTRM(a, b, la, lb, imm);
        } else {
            r1 = fp_pcmpistri(a, b, imm);
            r2 = soft_PCMPISTRI(a, b, imm);
            m1 = fp_pcmpistrm(a, b, imm);
            m2 = soft_PCMPISTRM(a, b, imm);
        }
        if (r1 != r2 || memcmp(&m1, &m2, 16))
            fail_msg(
                "%s imm %02x a %016lx.%016lx (%d) b %016lx.%016lx (%d): host %x %016lx.%016lx, computed %x "
                "%016lx.%016lx",
                explicit_lengths ? "PCMPESTR" : "PCMPISTR", imm, (long)a[1], (long)a[0], (int)la, (long)b[1],
                (long)b[0], (int)lb, r1, (long)m1[1], (long)m1[0], r2, (long)m2[1], (long)m2[0]);
    }
}

/* RFC 3720 B.4: 32 bytes of zeros; and a byte at a time is the same. */
static void test_crc32(void **state)
{
    u32 crc = 0xffffffff, by_byte = 0xffffffff;

    for (unsigned n = 0; n < 4; n++)
        crc = soft_CRC32(crc, 0, 8);
    for (unsigned n = 0; n < 32; n++)
        by_byte = soft_CRC32(by_byte, 0, 1);
    assert_int_equal(~crc, 0x8a9136aa);
    assert_int_equal(~by_byte, 0x8a9136aa);
}

/* APM 4: a field is moved to bit 0, the rest becomes zero; the low bits of the source replace a field. Length 0 is 64. */
static void test_fields(void **state)
{
    static const struct {
        u8 length, index;
        u64 extracted, inserted;
    } table[] = {
        {0, 0, 0x0123456789abcdef, 0xfedcba9876543210},
        {8, 0, 0xef, 0x0123456789abcd10},
        {8, 8, 0xcd, 0x0123456789ab10ef},
        {4, 60, 0, 0x0123456789abcdef},
        {16, 48, 0x123, 0x3210456789abcdef},
        {1, 0, 1, 0x0123456789abcdee},
        {63, 0, 0x0123456789abcdef, 0x7edcba9876543210},
        {63, 1, 0x0091a2b3c4d5e6f7, 0xfdb97530eca86421},
        {33, 31, 0x2468acf, 0x3b2a190809abcdef},
        {64 + 8, 64 + 8, 0xcd, 0x0123456789ab10ef},
    };

    for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
        assert_int_equal(soft_EXTRQ(0x0123456789abcdef, table[n].length, table[n].index), table[n].extracted);
        assert_int_equal(
            soft_INSERTQ(0x0123456789abcdef, 0xfedcba9876543210, table[n].length, table[n].index),
            table[n].inserted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integer), cmocka_unit_test(test_float), cmocka_unit_test(test_crypto),
        cmocka_unit_test(test_strings), cmocka_unit_test(test_crc32), cmocka_unit_test(test_fields),
    };

    fp.host = fp_host_features();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
