/*
 * Values: integers, floating-point numbers and vectors from pools of edge values, and x87 and vector state made of them.
 */
#include <string.h>

#include "insn.h"

static const u64 integers[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    0x7f,
    0x80,
    0x81,
    0xfe,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xfffe,
    0xffff,
    0x10000,
    0x7fffffff,
    0x80000000,
    0xfffffffe,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xfffffffffffffffe,
    0xffffffffffffffff,
    0x5555555555555555,
    0xaaaaaaaaaaaaaaaa,
    0x0123456789abcdef,
    0xffffffff80000000,
    0xffffffffffff8000,
    0xffffffffffffff80,
};
static const u32 singles[] = {
    0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000,
    0x3f800000, 0xbf800000, 0x3f7fffff, 0x3f800001, 0x3f000000, 0x3fc00000, 0x40200000, 0x4b000001,
    0x4b7fffff, 0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, 0x5effffff, 0x5f000000, 0xdf000000,
    0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fa00000, 0xff800001,
    0x7fffffff, 0x34000000, 0x33ffffff, 0x00000100, 0x1f800000, 0x60000000,
};
static const u64 doubles[] = {
    0,
    0x8000000000000000,
    1,
    0x8000000000000001,
    0x000fffffffffffff,
    0x0010000000000000,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x3fefffffffffffff,
    0x3ff0000000000001,
    0x3fe0000000000000,
    0x3ff8000000000000,
    0x4004000000000000,
    0x41dfffffffc00000,
    0x41e0000000000000,
    0xc1e0000000000000,
    0xc1e0000000200000,
    0x43dfffffffffffff,
    0x43e0000000000000,
    0xc3e0000000000000,
    0x4330000000000001,
    0x7fefffffffffffff,
    0xffefffffffffffff,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff8000000000000,
    0xfff8000000000000,
    0x7ff4000000000000,
    0xfff0000000000001,
    0x36a0000000000000,
    0x380fffffe0000000,
    0x47efffffe0000000,
    0x47efffffefffffff,
    0x369fffffffffffff,
    0x1ff0000000000000,
    0x6000000000000000,
};
static const struct {
    u64 mantissa;
    u16 exponent;
} extendeds[] = {
    {0, 0},
    {0, 0x8000},
    {0x8000000000000000, 0x3fff},
    {0x8000000000000000, 0xbfff},
    {0xc000000000000000, 0x3fff},
    {0x8000000000000000, 0x3ffe},
    {0xffffffffffffffff, 0x3ffe},
    {0x8000000000000001, 0x3fff},
    {0xa000000000000000, 0x4000},
    {0xc90fdaa22168c235, 0x4000},
    {0xc90fdaa22168c235, 0x3fff},
    {0xb504f333f9de6484, 0x3ffe},
    {1, 0},
    {1, 0x8000},
    {0x7fffffffffffffff, 0},
    {0x8000000000000000, 0} /* pseudo-denormal */,
    {0x8000000000000000, 1},
    {0xffffffffffffffff, 0x7ffe},
    {0xffffffffffffffff, 0xfffe},
    {0x8000000000000000, 0x7fff},
    {0x8000000000000000, 0xffff},
    {0xc000000000000000, 0x7fff},
    {0xc000000000000000, 0xffff},
    {0xa000000000000000, 0x7fff},
    {0x8000000000000001, 0xffff},
    {0, 0x7fff} /* unsupported */,
    {0x4000000000000000, 0x7fff},
    {1, 0x3fff} /* unnormal */,
    {0xffffffff00000000, 0x401d},
    {0x8000000000000000, 0x401e},
    {0x8000000000000000, 0xc01e},
    {0x8000000000000000, 0x403e},
    {0x8000000000000000, 0xc03e},
    {0xffffffffffffffff, 0x403d},
    {0xde0b6b3a763ffff0, 0x403a},
    {0xde0b6b3a76400000, 0x403a},
    {0x8000000000000000, 0x407e},
    {0xffffff7fffffffff, 0x407e},
    {0xffffff8000000000, 0x407e},
    {0x8000000000000000, 0x3f6a},
    {0x8000000000000000, 0x3c00},
    {0xfffffffffffffbff, 0x43fe},
    {0x8000000000000000, 0x3bcd},
    {0x9fffffffffffffff, 0x400d},
    {0x8000000000000000, 0x3fbe},
    {0x8000000000000000, 0x403f},
};

u64 integer_value(struct random *r)
{
    u64 v = random_next(r), pick = random_next(r);

    switch (pick & 7) {
    case 0:
    case 1: return v;
    case 2: return v >> (pick >> 8 & 63);
    case 3: return (u64)((i64)v >> (pick >> 8 & 63));
    default: return integers[(pick >> 8 & 0xffff) % ARRAY_SIZE(integers)] + (pick >> 40 & 15 ? 0 : v);
    }
}
static u32 single_value(struct random *r)
{
    u64 pick = random_next(r);

    switch (pick & 7) {
    case 0: return (u32)random_next(r);
    case 1: return (u32)(random_next(r) & 0x81ffffff) | 0x3e000000; /* about 1 */
    default: return singles[(pick >> 8) % ARRAY_SIZE(singles)];
    }
}
static u64 double_value(struct random *r)
{
    u64 pick = random_next(r);

    switch (pick & 7) {
    case 0: return random_next(r);
    case 1: return (random_next(r) & 0x803fffffffffffff) | 0x3fc0000000000000;
    default: return doubles[(pick >> 8) % ARRAY_SIZE(doubles)];
    }
}
void extended_value(struct random *r, u8 to[10])
{
    u64 pick = random_next(r), mantissa;
    u16 exponent;

    switch (pick & 7) {
    case 0:
        mantissa = random_next(r);
        exponent = (u16)random_next(r);
        break;
    case 1:
    case 2: /* an ordinary number */
        mantissa = random_next(r) | 1ull << 63;
        exponent = (u16)((pick >> 8 & 0x8000) | (0x3fff + (pick >> 30) % 130 - 65));
        break;
    default:
        mantissa = extendeds[(pick >> 8) % ARRAY_SIZE(extendeds)].mantissa;
        exponent = extendeds[(pick >> 8) % ARRAY_SIZE(extendeds)].exponent;
        break;
    }
    memcpy(to, &mantissa, 8);
    memcpy(to + 8, &exponent, 2);
}

/* Four words: integers that saturate, half-precision numbers. */
static u64 words_value(struct random *r)
{
    static const u16 words[] = {0,      1,      0x7f,   0x80,   0xff,   0x100,  0x3ff,  0x400,
                                0x3c00, 0x7bff, 0x7c00, 0x7d00, 0x7e00, 0x7fff, 0x8000, 0x8001,
                                0xbc00, 0xfc00, 0xfd01, 0xff7f, 0xff80, 0xffff, 0x5555, 0x80ff};
    u64 v = 0, pick = random_next(r);

    for (unsigned n = 0; n < 4; n++, pick >>= 16)
        v = v << 16 | (pick & 0xe000 ? words[(pick & 0xfff) % ARRAY_SIZE(words)] : pick << 3 & 0xffff);
    return v;
}

/* 16 bytes of one kind. */
void vector_value(struct random *r, u8 to[16])
{
    unsigned kind = (random_next(r) >> 11 & 0xffff) % 10;

    for (unsigned n = 0; n < 16; n += 8) {
        u64 v;

        switch (kind) {
        case 0:
        case 1:
        case 2: v = single_value(r) | (u64)single_value(r) << 32; break;
        case 3:
        case 4:
        case 5: v = double_value(r); break;
        case 6: v = integer_value(r); break;
        case 7:
        case 8: v = words_value(r); break;
        default: v = random_next(r); break;
        }
        memcpy(to + n, &v, 8);
    }
}

void data_background(u8 data[DATA_SIZE])
{
    struct random r = {0x5851f42d4c957f2d};

    for (unsigned n = 0; n < DATA_SIZE; n += 16)
        vector_value(&r, data + n);
}

/* ---- state ---- */

void random_fx(struct random *r, u8 fx[512])
{
    u64 pick = random_next(r);
    u16 fcw = 0x37f, fsw, top = pick >> 3 & 7;
    u32 mxcsr = 0x1f80;
    u8 tags;

    memset(fx, 0, 512);
    if (pick & 1) { /* rounding and precision; sometimes unmasked */
        fcw = (u16)((pick >> 16 & 0xf00) | 0x7f);
        if (!(pick >> 28 & 7))
            fcw &= (u16)(pick >> 32) | 0xffc0;
    }
    if (pick & 2)
        mxcsr |= (pick >> 40 & 0x6000) | (pick >> 56 & 7 ? 0 : 0x8000) | (pick >> 59 & 7 ? 0 : 0x40);
    if (!(pick >> 50 & 15))
        mxcsr = (mxcsr & ~(u32)0x1f80) | (u32)(random_next(r) & 0x1fbf);
    else if (!(pick >> 34 & 15)) /* overflow and underflow alone: nothing else keeps these from being seen */
        mxcsr &= ~(u32)0xc00;
    if (!(pick >> 46 & 3))
        mxcsr |= (u32)(random_next(r) & 0x3f);

    pick = random_next(r);
    fsw = (u16)(top << 11 | (pick & 0x4700));
    if (!(pick & 7))
        fsw |= (u16)(pick >> 16 & 0x7f);
    else if (!(pick & 3))
        fsw |= (u16)(pick >> 16 & 0x7f & fcw); /* flags that are masked */
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    switch (pick >> 24 & 7) {
    case 0: tags = 0; break;
    case 1: tags = (u8)(pick >> 32); break;
    case 2: tags = 0xff; break;
    case 3: tags = (u8) ~(1 << top); break;              /* ST(0) is empty */
    default: tags = (u8) ~(1 << ((top - 1) & 7)); break; /* room for a push */
    }
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = tags;
    memcpy(fx + 24, &mxcsr, 4);
    fx[28] = fx[29] = 0xff; /* MXCSR_MASK */
    for (unsigned n = 0; n < 8; n++)
        extended_value(r, fx + 32 + 16 * n);
    for (unsigned n = 0; n < 16; n++)
        vector_value(r, fx + 160 + 16 * n);
}

void random_ymm(struct random *r, struct insn_state *s)
{
    if (!host_has_ymm() || random_chance(r, 16)) /* all initial */
        return;
    for (unsigned n = 0; n < 16; n++)
        if (!random_chance(r, 8))
            vector_value(r, s->ymm[n]);
}

/* The operand's bytes: of the kinds that the instruction may want. */
void random_operand(struct random *r, u16 op, u8 to[16])
{
    if (x86_ops[op].attributes & X86_OP_X87 && random_chance(r, 2)) {
        memset(to, 0, 16);
        extended_value(r, to);
        return;
    }
    if (random_chance(r, 3)) {
        for (unsigned n = 0; n < 16; n += 8) {
            u64 v = integer_value(r);

            memcpy(to + n, &v, 8);
        }
        return;
    }
    vector_value(r, to);
}
