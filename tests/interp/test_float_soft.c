/*
 * FMA and half-precision conversions computed in integers (float_soft.c): against the host's instructions on random operands
 * that meet the edges, in all rounding modes; and against a table of results that CPUs gave, for hosts without them.
 *
 *   test_float_soft [N]     N random cases a form
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/interp/fp.h"

enum { MXCSR_RC = 3 << 13 };
static unsigned cases = 20000;
static struct interp_fp fp;

/* xorshift64*: the same cases every time. */
static u64 seed = 0x9e3779b97f4a7c15;
static u64 random64(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1d;
}
static u64 random_below(u64 n)
{
    return random64() % n;
}

static u32 pick_mxcsr(void)
{
    u64 r = random64();

    return MXCSR_MASKS | (r & MXCSR_RC) | (r >> 20 & 3 ? 0 : r & MXCSR_FTZ) |
           (r >> 24 & 3 ? 0 : r & MXCSR_DAZ);
}

/* ---- operands ---- */

struct format {
    unsigned fraction, exponent; /* bits */
};
static const struct format single = {23, 8}, wide = {52, 11};

/* A fraction: edges, few bits set (exact products, ties), anything. */
static u64 pick_fraction(const struct format *f)
{
    u64 all = (1ull << f->fraction) - 1;

    switch (random_below(6)) {
    case 0: return 0;
    case 1: return random_below(3);
    case 2: return all - random_below(3);
    case 3: return 1ull << random_below(f->fraction);
    case 4: return random64() & all & (all << random_below(f->fraction));
    default: return random64() & all;
    }
}
/* A number whose exponent is of a kind in which operations of three meet an edge. */
static u64 pick(const struct format *f)
{
    i64 top = (1 << f->exponent) - 1, bias = top / 2, exponent, near = (i64)random_below(2 * f->fraction + 6);

    switch (random_below(12)) {
    case 0: exponent = (i64)random_below(top + 1); break;
    case 1: exponent = (i64)random_below(4); break;
    case 2: exponent = top - (i64)random_below(4); break;
    case 3: exponent = top; break;
    case 4: exponent = 0; break;
    case 5: /* two of them make the least product */
    case 6: exponent = bias / 2 - f->fraction - 3 + near; break;
    case 7: exponent = bias + bias / 2 - f->fraction - 3 + near; break;
    case 8: exponent = near; break;
    default: exponent = bias - f->fraction - 3 + near; break;
    }
    return (random64() & 1) << (f->fraction + f->exponent) | (u64)exponent << f->fraction | pick_fraction(f);
}
static u64 pick32(void)
{
    return pick(&single) | pick(&single) << 32;
}
static u64 pick64(void)
{
    return pick(&wide);
}

/* Minus the product, or a little beside it: what is left of the sum are its last bits. */
static u32 cancel32(u32 a, u32 b)
{
    float x, y;
    u32 r;

    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    x *= -y;
    memcpy(&r, &x, 4);
    return r + (u32)random_below(3) - 1;
}
static u64 cancel64(u64 a, u64 b)
{
    double x, y;
    u64 r;

    memcpy(&x, &a, 8);
    memcpy(&y, &b, 8);
    x *= -y;
    memcpy(&r, &x, 8);
    return r + random_below(3) - 1;
}

/* Three operands; sometimes one of them, whichever, nearly cancels the product of the others. */
static void pick_operands(union xmm_parts v[3], bool doubles)
{
    for (unsigned n = 0; n < 3; n++)
        for (unsigned k = 0; k < 2; k++)
            v[n].q[k] = doubles ? pick64() : pick32();
    if (random_below(3))
        return;
    for (unsigned k = 0, n = (unsigned)random_below(3); k < (doubles ? 2 : 4); k++) {
        if (doubles)
            v[n].q[k] = cancel64(v[(n + 1) % 3].q[k], v[(n + 2) % 3].q[k]);
        else
            v[n].d[k] = cancel32(v[(n + 1) % 3].d[k], v[(n + 2) % 3].d[k]);
    }
}

/* ---- comparing ---- */

typedef xmm operation(xmm a, xmm b, xmm c, u8 imm);

static void run(operation *f, const union xmm_parts v[3], u8 imm, u32 mxcsr, xmm *result, u32 *flags)
{
    u32 saved = fp_get_mxcsr();

    fp_set_mxcsr(mxcsr);
    *result = f(v[0].v, v[1].v, v[2].v, imm);
    *flags = fp_get_mxcsr() & MXCSR_FLAGS;
    fp_set_mxcsr(saved);
}

static void compare(const char *name, u32 feature, operation *host, operation *computed, bool doubles)
{
    if (!(fp.host & feature)) {
        print_message("%s: not on this host\n", name);
        return;
    }
    for (unsigned n = 0; n < cases; n++) {
        u32 mxcsr = pick_mxcsr(), f1, f2;
        union xmm_parts v[3];
        u8 imm = (u8)random64();
        xmm r1, r2;

        pick_operands(v, doubles);
        run(host, v, imm, mxcsr, &r1, &f1);
        run(computed, v, imm, mxcsr, &r2, &f2);
        if (memcmp(&r1, &r2, 16) || f1 != f2)
            fail_msg(
                "%s imm %02x a %016lx.%016lx b %016lx.%016lx c %016lx.%016lx mxcsr %04x: host %016lx.%016lx "
                "%02x, computed %016lx.%016lx %02x",
                name, imm, (long)v[0].q[1], (long)v[0].q[0], (long)v[1].q[1], (long)v[1].q[0],
                (long)v[2].q[1], (long)v[2].q[0], mxcsr, (long)r1[1], (long)r1[0], f1, (long)r2[1],
                (long)r2[0], f2);
    }
}

#define WRAP(name, host_call, soft_call)                                                                     \
    static xmm host_##name(xmm a, xmm b, xmm c, u8 imm)                                                      \
    {                                                                                                        \
        return host_call;                                                                                    \
    }                                                                                                        \
    static xmm computed_##name(xmm a, xmm b, xmm c, u8 imm)                                                  \
    {                                                                                                        \
        return soft_call;                                                                                    \
    }
#define WRAP_FMA(name, ...)     WRAP(name, xmm_##name(&fp, a, b, c), soft_##name(a, b, c))
#define WRAP_CONVERT(name, ...) WRAP(name, xmm_##name(&fp, a, b), soft_##name(a, b))
#define WRAP_CONVERT_IMM(name, form, bytes, count, mask, ...)                                                \
    WRAP(name, xmm_##name(&fp, a, b, imm), soft_##name(a, b, imm &(mask)))
FP_FMA(WRAP_FMA)
FP_F16C_FLOAT(WRAP_CONVERT)
FP_F16C_IMM_FLOAT(WRAP_CONVERT_IMM)

#define IS_DOUBLE_ps false
#define IS_DOUBLE_ss false
#define IS_DOUBLE_pd true
#define IS_DOUBLE_sd true
#define COMPARE_FMA(name, form, bytes, tiny, ...)                                                            \
    compare(#name, FP_HOST_FMA, host_##name, computed_##name, IS_DOUBLE_##tiny);
#define COMPARE_F16C(name, ...) compare(#name, FP_HOST_F16C, host_##name, computed_##name, false);

static void test_fma(void **state)
{
    FP_FMA(COMPARE_FMA)
}
static void test_half_random(void **state)
{
    FP_F16C_FLOAT(COMPARE_F16C)
    FP_F16C_IMM_FLOAT(COMPARE_F16C)
}

/* Every half there is becomes a single and itself again, quiet if it is a NaN. */
static void test_half_all(void **state)
{
    u32 saved = fp_get_mxcsr();

    for (u32 v = 0; v < 0x10000; v++) {
        bool nan = (v & 0x7fff) > 0x7c00, signalling = nan && !(v & 0x200);
        union xmm_parts s;
        xmm h;
        u32 flags;

        fp_set_mxcsr(MXCSR_MASKS | MXCSR_DAZ | MXCSR_FTZ);
        s.v = soft_VCVTPH2PS((xmm){0, 0}, (xmm){v, 0});
        h = soft_VCVTPS2PH((xmm){0, 0}, s.v, 0);
        flags = fp_get_mxcsr() & MXCSR_FLAGS;
        fp_set_mxcsr(saved);
        assert_int_equal(h[0], v | (nan ? 0x200 : 0));
        assert_int_equal(h[1], 0);
        assert_int_equal(flags, signalling ? MXCSR_IE : 0);
    }
}

/* ---- what CPUs gave ---- */

struct vector {
    const char *name;
    operation *computed;
    u16 mxcsr; /* rounding, FTZ, DAZ */
    u8 imm;
    u64 a, b, c, result;
    u8 flags;
};
#define V(name, ...) {#name, computed_##name, __VA_ARGS__},
static const struct vector vectors[] = {
#include "float_vectors.h"
};
#undef V

static void test_vectors(void **state)
{
    for (size_t n = 0; n < ARRAY_SIZE(vectors); n++) {
        const struct vector *t = &vectors[n];
        const union xmm_parts v[3] = {{.q = {t->a}}, {.q = {t->b}}, {.q = {t->c}}};
        u32 flags;
        xmm r;

        run(t->computed, v, t->imm, MXCSR_MASKS | t->mxcsr, &r, &flags);
        if (r[0] != t->result || r[1] || flags != t->flags)
            fail_msg("vector %u, %s: %016lx.%016lx %02x, must be %016lx %02x", (unsigned)n, t->name,
                     (long)r[1], (long)r[0], flags, (long)t->result, t->flags);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fma),
        cmocka_unit_test(test_half_random),
        cmocka_unit_test(test_half_all),
        cmocka_unit_test(test_vectors),
    };

    if (argc > 1)
        cases = (unsigned)atoi(argv[1]);
    fp.host = fp_host_features();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
