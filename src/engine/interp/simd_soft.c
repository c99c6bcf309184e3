/*
 * The vector instructions beyond SSE2, computed: for hosts that lack them. Integer operations work on arrays of elements;
 * floating point is built from SSE2 instructions in the same order of operations, so that the exception flags come out
 * alike. tests/interp/test_simd_soft.c compares each with the host's instruction.
 */
#include "engine/interp/fp.h"

#include <string.h>

typedef union xmm_parts parts;

/* Element by element: x[n], y[n] are the operands' elements in array `f` of `count`. */
#define ELEMENTS(name, f, count, expression)                                                                 \
    xmm soft_##name(xmm a, xmm b)                                                                            \
    {                                                                                                        \
        parts x = {a}, y = {b}, r;                                                                           \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++)                                                               \
            r.f[n] = expression;                                                                             \
        (void)x;                                                                                             \
        return r.v;                                                                                          \
    }

static i16 saturate16(i32 v)
{
    return v > INT16_MAX ? INT16_MAX : v < INT16_MIN ? INT16_MIN : v;
}

/* ---- SSE3 moves, SSSE3 ---- */

ELEMENTS(MOVSLDUP, d, 4, y.d[n & 2])
ELEMENTS(MOVSHDUP, d, 4, y.d[n | 1])
ELEMENTS(MOVDDUP, q, 2, y.q[0])

ELEMENTS(PSHUFB, b, 16, y.b[n] & 0x80 ? 0 : x.b[y.b[n] & 15])
ELEMENTS(PABSB, b, 16, y.sb[n] < 0 ? -y.sb[n] : y.sb[n])
ELEMENTS(PABSW, w, 8, y.sw[n] < 0 ? -y.sw[n] : y.sw[n])
ELEMENTS(PABSD, d, 4, y.sd[n] < 0 ? -y.d[n] : y.d[n])
ELEMENTS(PSIGNB, b, 16, y.sb[n] < 0 ? -x.b[n] : y.sb[n] ? x.b[n] : 0)
ELEMENTS(PSIGNW, w, 8, y.sw[n] < 0 ? -x.w[n] : y.sw[n] ? x.w[n] : 0)
ELEMENTS(PSIGND, d, 4, y.sd[n] < 0 ? -x.d[n] : y.sd[n] ? x.d[n] : 0)
ELEMENTS(PMULHRSW, w, 8, (((x.sw[n] * y.sw[n]) >> 14) + 1) >> 1)
ELEMENTS(PMADDUBSW, sw, 8, saturate16(x.b[2 * n] * y.sb[2 * n] + x.b[2 * n + 1] * y.sb[2 * n + 1]))

/* Horizontal: p and q are neighbours, of a for the low half of the result and of b for the high one. */
#define HORIZONTAL(name, f, count, expression)                                                               \
    xmm soft_##name(xmm a, xmm b)                                                                            \
    {                                                                                                        \
        parts in[2] = {{a}, {b}}, r;                                                                         \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++) {                                                             \
            const parts *h = &in[n >= (count) / 2];                                                          \
            unsigned k = 2 * n % (count);                                                                    \
                                                                                                             \
            r.f[n] = expression(h->f[k], h->f[k + 1]);                                                       \
        }                                                                                                    \
        return r.v;                                                                                          \
    }
#define PLUS(p, q)            ((p) + (q))
#define MINUS(p, q)           ((p) - (q))
#define PLUS_SATURATED(p, q)  saturate16((p) + (q))
#define MINUS_SATURATED(p, q) saturate16((p) - (q))
HORIZONTAL(PHADDW, w, 8, PLUS)
HORIZONTAL(PHADDD, d, 4, PLUS)
HORIZONTAL(PHADDSW, sw, 8, PLUS_SATURATED)
HORIZONTAL(PHSUBW, w, 8, MINUS)
HORIZONTAL(PHSUBD, d, 4, MINUS)
HORIZONTAL(PHSUBSW, sw, 8, MINUS_SATURATED)

/* ---- SSE4 integer ---- */

ELEMENTS(PMOVSXBW, sw, 8, y.sb[n])
ELEMENTS(PMOVSXBD, sd, 4, y.sb[n])
ELEMENTS(PMOVSXBQ, sq, 2, y.sb[n])
ELEMENTS(PMOVSXWD, sd, 4, y.sw[n])
ELEMENTS(PMOVSXWQ, sq, 2, y.sw[n])
ELEMENTS(PMOVSXDQ, sq, 2, y.sd[n])
ELEMENTS(PMOVZXBW, w, 8, y.b[n])
ELEMENTS(PMOVZXBD, d, 4, y.b[n])
ELEMENTS(PMOVZXBQ, q, 2, y.b[n])
ELEMENTS(PMOVZXWD, d, 4, y.w[n])
ELEMENTS(PMOVZXWQ, q, 2, y.w[n])
ELEMENTS(PMOVZXDQ, q, 2, y.d[n])
ELEMENTS(PMULDQ, sq, 2, (i64)x.sd[2 * n] * y.sd[2 * n])
ELEMENTS(PMULLD, d, 4, x.d[n] * y.d[n])
ELEMENTS(PCMPEQQ, q, 2, x.q[n] == y.q[n] ? UINT64_MAX : 0)
ELEMENTS(PCMPGTQ, q, 2, x.sq[n] > y.sq[n] ? UINT64_MAX : 0)
#define MIN(p, q) ((p) < (q) ? (p) : (q))
#define MAX(p, q) ((p) > (q) ? (p) : (q))
ELEMENTS(PMINSB, sb, 16, MIN(x.sb[n], y.sb[n]))
ELEMENTS(PMINSD, sd, 4, MIN(x.sd[n], y.sd[n]))
ELEMENTS(PMINUW, w, 8, MIN(x.w[n], y.w[n]))
ELEMENTS(PMINUD, d, 4, MIN(x.d[n], y.d[n]))
ELEMENTS(PMAXSB, sb, 16, MAX(x.sb[n], y.sb[n]))
ELEMENTS(PMAXSD, sd, 4, MAX(x.sd[n], y.sd[n]))
ELEMENTS(PMAXUW, w, 8, MAX(x.w[n], y.w[n]))
ELEMENTS(PMAXUD, d, 4, MAX(x.d[n], y.d[n]))

static u16 saturate_u16(i32 v)
{
    return v > UINT16_MAX ? UINT16_MAX : v < 0 ? 0 : v;
}
ELEMENTS(PACKUSDW, w, 8, saturate_u16(n < 4 ? x.sd[n] : y.sd[n - 4]))

xmm soft_PHMINPOSUW(xmm a, xmm b)
{
    parts y = {b}, r = {{0, 0}};

    r.w[0] = y.w[0];
    for (unsigned n = 1; n < 8; n++)
        if (y.w[n] < r.w[0]) {
            r.w[0] = y.w[n];
            r.w[1] = n;
        }
    return r.v;
}

/* Blends: by the sign of the element in XMM0, or by a bit of the immediate. */
#define BLEND_SIGN(name, f, count)                                                                           \
    xmm soft_##name(xmm a, xmm b, xmm x0)                                                                    \
    {                                                                                                        \
        parts x = {a}, y = {b}, mask = {x0};                                                                 \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++)                                                               \
            if (mask.f[n] < 0)                                                                               \
                x.f[n] = y.f[n];                                                                             \
        return x.v;                                                                                          \
    }
BLEND_SIGN(PBLENDVB, sb, 16)
BLEND_SIGN(BLENDVPS, sd, 4)
BLEND_SIGN(BLENDVPD, sq, 2)
#define BLEND_IMM(name, f, count)                                                                            \
    xmm soft_##name(xmm a, xmm b, u8 imm)                                                                    \
    {                                                                                                        \
        parts x = {a}, y = {b};                                                                              \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++)                                                               \
            if (imm >> n & 1)                                                                                \
                x.f[n] = y.f[n];                                                                             \
        return x.v;                                                                                          \
    }
BLEND_IMM(BLENDPS, d, 4)
BLEND_IMM(BLENDPD, q, 2)
BLEND_IMM(PBLENDW, w, 8)

xmm soft_MPSADBW(xmm a, xmm b, u8 imm)
{
    parts x = {a}, y = {b}, r;
    unsigned from = (imm >> 2 & 1) * 4, block = (imm & 3) * 4;

    for (unsigned n = 0; n < 8; n++) {
        u16 sum = 0;

        for (unsigned k = 0; k < 4; k++) {
            int d = x.b[from + n + k] - y.b[block + k];

            sum += d < 0 ? -d : d;
        }
        r.w[n] = sum;
    }
    return r.v;
}

/* ---- AVX-VNNI: unsigned bytes of b times signed bytes of c, or signed words, added to the doublewords of a ---- */

static u32 saturate32(i64 v)
{
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? (u32)INT32_MIN : (u32)v;
}
#define DOT_PRODUCT(name, each, x, y, finish)                                                                \
    xmm soft_##name(xmm a, xmm b, xmm c)                                                                     \
    {                                                                                                        \
        parts r = {a}, p = {b}, q = {c};                                                                     \
                                                                                                             \
        for (unsigned n = 0; n < 4; n++) {                                                                   \
            i64 sum = r.sd[n];                                                                               \
                                                                                                             \
            for (unsigned k = n * (each); k < (n + 1) * (each); k++)                                         \
                sum += (i64)p.x[k] * q.y[k];                                                                 \
            r.d[n] = finish(sum);                                                                            \
        }                                                                                                    \
        return r.v;                                                                                          \
    }
DOT_PRODUCT(VPDPBUSD, 4, b, sb, (u32))
DOT_PRODUCT(VPDPBUSDS, 4, b, sb, saturate32)
DOT_PRODUCT(VPDPWSSD, 2, sw, sw, (u32))
DOT_PRODUCT(VPDPWSSDS, 2, sw, sw, saturate32)

/* ---- SSE4A: bit fields; a length of 0 is 64, and what lies beyond bit 63 is zero and is lost (undefined in APM 4) ---- */

static u64 field_mask(unsigned length)
{
    return length & 63 ? (1ull << (length & 63)) - 1 : UINT64_MAX;
}
u64 soft_EXTRQ(u64 v, unsigned length, unsigned index)
{
    return v >> (index & 63) & field_mask(length);
}
u64 soft_INSERTQ(u64 v, u64 field, unsigned length, unsigned index)
{
    u64 mask = field_mask(length);

    return (v & ~(mask << (index & 63))) | (field & mask) << (index & 63);
}

/* ---- floating point ---- */

/* One SSE2 operation; volatile, because it sets flags in MXCSR. */
#define OPERATION(name)                                                                                      \
    static xmm op_##name(xmm a, xmm b)                                                                       \
    {                                                                                                        \
        asm volatile(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                                        \
        return a;                                                                                            \
    }
OPERATION(addps)
OPERATION(addpd)
OPERATION(addss)
OPERATION(addsd)
OPERATION(subps)
OPERATION(subpd)
OPERATION(subss)
OPERATION(subsd)
OPERATION(mulps)
OPERATION(mulpd)

/* Only the elements that count are operated on, so that the others raise no flags. */
#define EACH(count, f, size, calculation)                                                                    \
    for (unsigned n = 0; n < (count); n++) {                                                                 \
        parts p = {{0, 0}}, q = {{0, 0}};                                                                    \
                                                                                                             \
        calculation r.f[n] = p.f[0];                                                                         \
    }
xmm soft_ADDSUBPS(xmm a, xmm b)
{
    parts x = {a}, y = {b}, r;

    EACH(4, d, 4, p.d[0] = x.d[n]; q.d[0] = y.d[n]; p.v = (n & 1 ? op_addss : op_subss)(p.v, q.v);)
    return r.v;
}
xmm soft_ADDSUBPD(xmm a, xmm b)
{
    parts x = {a}, y = {b}, r;

    EACH(2, q, 8, p.q[0] = x.q[n]; q.q[0] = y.q[n]; p.v = (n & 1 ? op_addsd : op_subsd)(p.v, q.v);)
    return r.v;
}

/* The even and the odd elements of a and b. */
static void gather_ps(xmm a, xmm b, xmm *even, xmm *odd)
{
    parts x = {a}, y = {b};
    parts e = {.d = {x.d[0], x.d[2], y.d[0], y.d[2]}}, o = {.d = {x.d[1], x.d[3], y.d[1], y.d[3]}};

    *even = e.v;
    *odd = o.v;
}
static void gather_pd(xmm a, xmm b, xmm *even, xmm *odd)
{
    *even = (xmm){a[0], b[0]};
    *odd = (xmm){a[1], b[1]};
}
#define HORIZONTAL_FLOAT(name, type, operation)                                                              \
    xmm soft_##name(xmm a, xmm b)                                                                            \
    {                                                                                                        \
        xmm even, odd;                                                                                       \
                                                                                                             \
        gather_##type(a, b, &even, &odd);                                                                    \
        return operation(even, odd);                                                                         \
    }
HORIZONTAL_FLOAT(HADDPS, ps, op_addps)
HORIZONTAL_FLOAT(HADDPD, pd, op_addpd)
HORIZONTAL_FLOAT(HSUBPS, ps, op_subps)
HORIZONTAL_FLOAT(HSUBPD, pd, op_subpd)

/*
 * Dot products: products of the selected elements (the others are +0), sums of neighbours, sums of those, and each element
 * that is asked for. Every element is summed in its own order, which shows in which of several NaNs it keeps.
 */
#define ASK(f, count)                                                                                        \
    for (unsigned n = 0; n < (count); n++)                                                                   \
        if (!(imm >> n & 1))                                                                                 \
            t.f[n] = 0;
#define SELECT(f, count)                                                                                     \
    for (unsigned n = 0; n < (count); n++)                                                                   \
        if (!(imm >> (4 + n) & 1))                                                                           \
            x.f[n] = y.f[n] = 0;
xmm soft_DPPS(xmm a, xmm b, u8 imm)
{
    parts x = {a}, y = {b}, t, u;

    SELECT(d, 4)
    t.v = op_mulps(x.v, y.v);
    u = (parts){.d = {t.d[1], t.d[0], t.d[3], t.d[2]}};
    t.v = op_addps(u.v, t.v);
    u = (parts){.d = {t.d[2], t.d[3], t.d[0], t.d[1]}};
    t.v = op_addps(t.v, u.v);
    ASK(d, 4)
    return t.v;
}
xmm soft_DPPD(xmm a, xmm b, u8 imm)
{
    parts x = {a}, y = {b}, t;

    SELECT(q, 2)
    t.v = op_mulpd(x.v, y.v);
    t.v = op_addpd(t.v, (xmm){t.q[1], t.q[0]});
    ASK(q, 2)
    return t.v;
}

/*
 * Rounding to an integral value: a number whose last fraction bit is worth 1 or more is integral already; of another the
 * fraction is cut off and, by mode, 1 added to the magnitude. Flags: invalid for a signalling NaN, inexact unless bit 3 of
 * the immediate says not to; no denormal exception.
 */
static void raise_flags(u32 flags)
{
    fp_set_mxcsr(fp_get_mxcsr() | flags);
}
static u64 round_bits(u64 v, unsigned fraction_bits, unsigned exponent_bits, u8 imm)
{
    unsigned bias = (1u << (exponent_bits - 1)) - 1,
             exponent = v >> fraction_bits & ((1u << exponent_bits) - 1);
    u64 sign = v & 1ull << (fraction_bits + exponent_bits), fraction = v & ((1ull << fraction_bits) - 1);
    u64 quiet = 1ull << (fraction_bits - 1);
    unsigned mode = imm & 4 ? fp_get_mxcsr() >> 13 & 3 : imm & 3;
    u64 magnitude, lost, half;
    bool up;

    if (exponent == (1u << exponent_bits) - 1) {
        if (fraction && !(fraction & quiet))
            raise_flags(MXCSR_IE);
        return fraction ? v | quiet : v;
    }
    if (exponent >= bias + fraction_bits)
        return v;
    if (!exponent && fraction && fp_get_mxcsr() & MXCSR_DAZ)
        return sign;
    if (!exponent && !fraction)
        return v;
    /* As a fixed-point number of magnitude and what is below 1. */
    if (exponent + 1 < bias) { /* below one half */
        magnitude = 0;
        lost = 1;
        half = 2;
    } else {
        unsigned shift = bias + fraction_bits - exponent; /* 1 .. fraction_bits + 1 */
        u64 all = fraction | 1ull << fraction_bits;

        magnitude = all >> shift;
        lost = all & ((1ull << shift) - 1);
        half = 1ull << (shift - 1);
    }
    if (!lost)
        return v;
    if (!(imm & 8))
        raise_flags(MXCSR_PE);
    switch (mode) {
    case 0: up = lost > half || (lost == half && magnitude & 1); break;
    case 1: up = sign; break;
    case 2: up = !sign; break;
    default: up = false; break;
    }
    magnitude += up;
    if (!magnitude)
        return sign;
    exponent = bias + fraction_bits;
    while (!(magnitude >> fraction_bits & 1)) {
        magnitude <<= 1;
        exponent--;
    }
    return sign | (u64)exponent << fraction_bits | (magnitude & ((1ull << fraction_bits) - 1));
}
#define ROUND(name, f, count, fraction_bits, exponent_bits)                                                  \
    xmm soft_##name(xmm a, xmm b, u8 imm)                                                                    \
    {                                                                                                        \
        parts x = {a}, y = {b};                                                                              \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++)                                                               \
            x.f[n] = round_bits(y.f[n], fraction_bits, exponent_bits, imm);                                  \
        return x.v;                                                                                          \
    }
ROUND(ROUNDPS, d, 4, 23, 8)
ROUND(ROUNDSS, d, 1, 23, 8)
ROUND(ROUNDPD, q, 2, 52, 11)
ROUND(ROUNDSD, q, 1, 52, 11)

/*
 * Comparisons with the predicates of VEX (SDM 2A table 3-1), by the eight of SSE: how numbers compare as the SSE predicate
 * of the relation, with the operands exchanged or not, and what holds for NaNs.
 */
enum { SSE_EQ, SSE_LT, SSE_LE, SSE_UNORD, SSE_NEQ, SSE_ORD = 7 };
static const struct {
    u8 predicate;
    bool exchanged, unordered;
} predicates[16] = {
    {SSE_EQ, 0, 0},  {SSE_LT, 0, 0}, {SSE_LE, 0, 0}, {SSE_UNORD, 0, 1}, /* EQ LT LE UNORD */
    {SSE_NEQ, 0, 1}, {SSE_LE, 1, 1}, {SSE_LT, 1, 1}, {SSE_ORD, 0, 0},   /* NEQ NLT NLE ORD */
    {SSE_EQ, 0, 1},  {SSE_LT, 0, 1}, {SSE_LE, 0, 1}, {SSE_UNORD, 0, 0}, /* EQ_U NGE NGT FALSE */
    {SSE_NEQ, 0, 0}, {SSE_LE, 1, 0}, {SSE_LT, 1, 0}, {SSE_ORD, 0, 1},   /* NEQ_O GE GT TRUE */
};
typedef xmm sse_compare(const struct interp_fp *fp, xmm a, xmm b, u8 imm);
static xmm compare_vex(sse_compare *compare, xmm elements, xmm a, xmm b, u8 imm)
{
    const unsigned relation = imm & 15;
    const bool signals = (relation + 1) >> 1 & 1, all = predicates[relation].unordered;
    xmm numbers = compare(NULL, a, b, SSE_ORD) & elements, x = a & numbers, y = b & numbers, r;

    /* Of a signalling predicate, for what it raises. */
    if (signals != imm >> 4)
        compare(NULL, a, b, SSE_LT);
    r = predicates[relation].exchanged ? compare(NULL, y, x, predicates[relation].predicate)
                                       : compare(NULL, x, y, predicates[relation].predicate);
    r = (r & numbers) | (all ? ~numbers : (xmm){0, 0});
    return (r & elements) | (a & ~elements);
}
#define COMPARE_VEX(name, compare, ...)                                                                      \
    xmm soft_##name(xmm a, xmm b, u8 imm)                                                                    \
    {                                                                                                        \
        return compare_vex(compare, (xmm){__VA_ARGS__}, a, b, imm);                                          \
    }
COMPARE_VEX(VCMPPS, xmm_CMPPS, UINT64_MAX, UINT64_MAX)
COMPARE_VEX(VCMPPD, xmm_CMPPD, UINT64_MAX, UINT64_MAX)
COMPARE_VEX(VCMPSS, xmm_CMPSS, 0xffffffff, 0)
COMPARE_VEX(VCMPSD, xmm_CMPSD, UINT64_MAX, 0)

/* ---- string compares (SDM 2B 4.1) ---- */

static int string_element(const parts *p, u8 imm, unsigned n)
{
    switch (imm & 3) {
    case 0: return p->b[n];
    case 1: return p->w[n];
    case 2: return p->sb[n];
    default: return p->sw[n];
    }
}

static unsigned string_length(const parts *p, u8 imm)
{
    unsigned count = imm & 1 ? 8 : 16, n = 0;

    while (n < count && string_element(p, imm, n))
        n++;
    return n;
}

static unsigned explicit_length(i64 length, u8 imm)
{
    i64 count = imm & 1 ? 8 : 16;

    if (length <= -count || length >= count)
        return count;
    return length < 0 ? -length : length;
}

/* IntRes2, one bit for an element of b. */
static u32 string_result(const parts *a, const parts *b, unsigned la, unsigned lb, u8 imm)
{
    unsigned count = imm & 1 ? 8 : 16;
    u32 result = 0;

    for (unsigned j = 0; j < count; j++) {
        bool r = false;

        switch (imm >> 2 & 3) {
        case 0: /* equal any */
            for (unsigned i = 0; i < la && j < lb; i++)
                r |= string_element(a, imm, i) == string_element(b, imm, j);
            break;
        case 1: /* ranges */
            for (unsigned i = 0; i + 1 < la && j < lb; i += 2)
                r |= string_element(a, imm, i) <= string_element(b, imm, j) &&
                     string_element(b, imm, j) <= string_element(a, imm, i + 1);
            break;
        case 2: /* equal each: two ends are equal, an end and an element are not */
            r = j < la && j < lb ? string_element(a, imm, j) == string_element(b, imm, j)
                                 : j >= la && j >= lb;
            break;
        default: /* equal ordered: a begins at j; what is beyond the register is not looked at */
            r = true;
            for (unsigned i = 0; i < la && i + j < count; i++)
                r &= i + j < lb && string_element(a, imm, i) == string_element(b, imm, i + j);
            break;
        }
        result |= (u32)r << j;
    }
    switch (imm >> 4 & 3) {
    case 1: return result ^ ((1u << count) - 1);
    case 3: return result ^ ((1u << lb) - 1);
    default: return result;
    }
}

/* Index in bits 16.., flags as LAHF and SETO give them. */
static u32 string_index(u32 result, unsigned la, unsigned lb, u8 imm)
{
    unsigned count = imm & 1 ? 8 : 16, index = count;

    if (result)
        index = imm & 0x40 ? 31 - __builtin_clz(result) : __builtin_ctz(result);
    return index << 16 | (result != 0) << 8 /* CF */ | (lb < count) << 14 /* ZF */ |
           (la < count) << 15 /* SF */ | (result & 1) /* OF */ | 1 << 9;
}

static xmm string_mask(u32 result, u8 imm)
{
    unsigned count = imm & 1 ? 8 : 16;
    parts r = {{result, 0}};

    if (!(imm & 0x40))
        return r.v;
    for (unsigned n = 0; n < count; n++) {
        if (imm & 1)
            r.w[n] = result >> n & 1 ? 0xffff : 0;
        else
            r.b[n] = result >> n & 1 ? 0xff : 0;
    }
    return r.v;
}

u32 soft_PCMPESTRI(xmm a, xmm b, i64 la, i64 lb, u8 imm)
{
    parts x = {a}, y = {b};
    unsigned na = explicit_length(la, imm), nb = explicit_length(lb, imm);

    return string_index(string_result(&x, &y, na, nb, imm), na, nb, imm);
}
xmm soft_PCMPESTRM(xmm a, xmm b, i64 la, i64 lb, u8 imm)
{
    parts x = {a}, y = {b};

    return string_mask(string_result(&x, &y, explicit_length(la, imm), explicit_length(lb, imm), imm), imm);
}
u32 soft_PCMPISTRI(xmm a, xmm b, u8 imm)
{
    parts x = {a}, y = {b};

    return soft_PCMPESTRI(a, b, string_length(&x, imm), string_length(&y, imm), imm);
}
xmm soft_PCMPISTRM(xmm a, xmm b, u8 imm)
{
    parts x = {a}, y = {b};

    return soft_PCMPESTRM(a, b, string_length(&x, imm), string_length(&y, imm), imm);
}
