/*
 * Floating point in integers. Fused multiply-add and half precision for hosts that lack FMA or F16C: results, NaNs and
 * exception flags are those of the instructions to the bit; tests/interp/test_float_soft.c compares them with the host's.
 * And, on any host, the flags of an instruction that overflows or underflows while that is not masked (soft_flags).
 *
 * Tininess is found after rounding, as SSE does it (SDM 1 4.9.1.5).
 */
#include "engine/interp/fp.h"

#include <string.h>

typedef union xmm_parts parts;

struct format {
    u8 fraction, exponent; /* bits */
};
static const struct format half = {10, 5}, single = {23, 8}, wide = {52, 11};

/* A finite number: significand * 2^(exponent - TOP). Normalised: bit TOP of the significand is its highest one. */
enum { TOP = 126, MXCSR_RC_SHIFT = 13 };
struct number {
    bool negative;
    int exponent;
    u128 significand;
};
enum kind { ZERO, FINITE, INFINITE, NAN_ };

static u64 fraction_mask(const struct format *f)
{
    return (1ull << f->fraction) - 1;
}
static u64 quiet_bit(const struct format *f)
{
    return 1ull << (f->fraction - 1);
}
static u64 sign_bit(const struct format *f)
{
    return 1ull << (f->fraction + f->exponent);
}
static int bias(const struct format *f)
{
    return (1 << (f->exponent - 1)) - 1;
}
static u64 infinity(const struct format *f)
{
    return ((1ull << f->exponent) - 1) << f->fraction;
}
static bool is_nan(const struct format *f, u64 v)
{
    return (v & ~sign_bit(f)) > infinity(f);
}
static bool is_signalling(const struct format *f, u64 v)
{
    return is_nan(f, v) && !(v & quiet_bit(f));
}
static bool is_denormal(const struct format *f, u64 v)
{
    return !(v & infinity(f)) && v & fraction_mask(f);
}

static unsigned leading_bit(u128 v)
{
    return v >> 64 ? 127 - __builtin_clzll((u64)(v >> 64)) : 63 - __builtin_clzll((u64)v);
}
static void normalise(struct number *n)
{
    unsigned shift = TOP - leading_bit(n->significand);

    n->significand <<= shift;
    n->exponent -= shift;
}
/* What is shifted out leaves a trace in bit 0. */
static u128 shift_right(u128 v, unsigned n)
{
    if (n > TOP)
        return v != 0;
    return n ? v >> n | ((v << (128 - n)) != 0) : v;
}

static enum kind unpack(const struct format *f, u64 v, struct number *n)
{
    int exponent = v >> f->fraction & ((1u << f->exponent) - 1);
    u64 fraction = v & fraction_mask(f);

    n->negative = v & sign_bit(f);
    if (exponent == (1 << f->exponent) - 1)
        return fraction ? NAN_ : INFINITE;
    if (!exponent && !fraction)
        return ZERO;
    n->significand = (u128)(exponent ? fraction | 1ull << f->fraction : fraction) << (TOP - f->fraction);
    n->exponent = (exponent ? exponent : 1) - bias(f);
    normalise(n);
    return FINITE;
}

/* The significand rounded to an integer of its bits from `low` on. */
static u64 round_off(u128 significand, bool negative, unsigned low, u32 mxcsr, bool *inexact)
{
    u64 kept = (u64)(significand >> low);
    u128 lost = significand & (((u128)1 << low) - 1), middle = (u128)1 << (low - 1);

    *inexact = lost;
    switch (mxcsr >> MXCSR_RC_SHIFT & 3) {
    case 0: return kept + (lost > middle || (lost == middle && kept & 1));
    case 1: return kept + (lost && negative);
    case 2: return kept + (lost && !negative);
    default: return kept;
    }
}

/* What decides of a result besides the operands, and what came of it. */
struct env {
    u32 mxcsr; /* rounding, FTZ, DAZ */
    u32 unmasked; /* MXCSR_OE, MXCSR_UE: the result is then one with an exponent that fits, and exact or not as such */
    u32 flags; /* raised, MXCSR_IE and so on */
};

/* A normalised number in a format. The result means nothing when overflow or underflow is raised and not masked. */
static u64 round_to(const struct format *f, const struct number *n, struct env *e)
{
    unsigned low = TOP - f->fraction;
    int least = 1 - bias(f), greatest = bias(f), exponent = n->exponent;
    u64 sign = n->negative ? sign_bit(f) : 0, result;
    bool inexact;

    result = round_off(n->significand, n->negative, low, e->mxcsr, &inexact);
    if (result >> (f->fraction + 1)) {
        result >>= 1;
        exponent++;
    }
    if (inexact)
        e->flags |= MXCSR_PE;
    if (exponent < least) {
        if (e->unmasked & MXCSR_UE) {
            e->flags |= MXCSR_UE;
            return sign;
        }
        if (e->mxcsr & MXCSR_FTZ) {
            e->flags |= MXCSR_UE | MXCSR_PE;
            return sign;
        }
        /* Rounding may end in the least normal number: the carry makes its exponent. */
        result =
            round_off(shift_right(n->significand, least - n->exponent), n->negative, low, e->mxcsr, &inexact);
        if (inexact)
            e->flags |= MXCSR_UE | MXCSR_PE;
        return sign | result;
    }
    if (exponent > greatest) {
        unsigned mode = e->mxcsr >> MXCSR_RC_SHIFT & 3;

        e->flags |= MXCSR_OE | (e->unmasked & MXCSR_OE ? 0 : MXCSR_PE);
        return sign | (!mode || mode == (n->negative ? 1 : 2) ? infinity(f) : infinity(f) - 1);
    }
    return sign | (u64)(exponent + bias(f)) << f->fraction | (result & fraction_mask(f));
}

/* DAZ: the operand is zero then. */
static u64 flush_denormal(const struct format *f, u64 v, const struct env *e)
{
    return e->mxcsr & MXCSR_DAZ && is_denormal(f, v) ? v & sign_bit(f) : v;
}

/* ---- fused multiply-add ---- */

static struct number add(const struct number *a, const struct number *b)
{
    const struct number *big = a, *little = b;
    struct number r;
    u128 little_part;

    if (a->exponent < b->exponent || (a->exponent == b->exponent && a->significand < b->significand)) {
        big = b;
        little = a;
    }
    r = *big;
    little_part = shift_right(little->significand, big->exponent - little->exponent);
    r.significand += big->negative == little->negative ? little_part : -little_part;
    if (r.significand >> (TOP + 1)) {
        r.significand = shift_right(r.significand, 1);
        r.exponent++;
    } else if (r.significand) {
        normalise(&r);
    }
    return r;
}

/* x * y + z. Of several NaNs the first one of (x, y, z) is kept (SDM 1 table 14-17); infinity times zero is only invalid
   when there is none. The negations do not touch NaNs. */
static u64 fused(const struct format *f, u64 x, u64 y, u64 z, bool negate_product, bool negate_addend,
                 struct env *e)
{
    struct number a, b, c, r;
    enum kind ka, kb, kc;
    bool product_negative;

    x = flush_denormal(f, x, e);
    y = flush_denormal(f, y, e);
    z = flush_denormal(f, z, e);
    ka = unpack(f, x, &a);
    kb = unpack(f, y, &b);
    kc = unpack(f, z, &c);
    if (ka == NAN_ || kb == NAN_ || kc == NAN_) {
        if (is_signalling(f, x) || is_signalling(f, y) || is_signalling(f, z))
            e->flags |= MXCSR_IE;
        return (ka == NAN_ ? x : kb == NAN_ ? y : z) | quiet_bit(f);
    }
    product_negative = a.negative ^ b.negative ^ negate_product;
    c.negative ^= negate_addend;
    if ((ka == INFINITE && kb == ZERO) || (ka == ZERO && kb == INFINITE) ||
        ((ka == INFINITE || kb == INFINITE) && kc == INFINITE && product_negative != c.negative)) {
        e->flags |= MXCSR_IE;
        return sign_bit(f) | infinity(f) | quiet_bit(f);
    }
    if (is_denormal(f, x) || is_denormal(f, y) || is_denormal(f, z))
        e->flags |= MXCSR_DE;
    if (ka == INFINITE || kb == INFINITE || kc == INFINITE)
        return infinity(f) | ((kc == INFINITE ? c.negative : product_negative) ? sign_bit(f) : 0);
    if (ka == ZERO || kb == ZERO) {
        bool down = (e->mxcsr >> MXCSR_RC_SHIFT & 3) == 1;

        if (kc == ZERO)
            return (product_negative == c.negative ? c.negative : down) ? sign_bit(f) : 0;
        return round_to(f, &c, e);
    }
    /* Significands of at most 53 bits: their product needs 106. */
    r.negative = product_negative;
    r.exponent = a.exponent + b.exponent + 1;
    r.significand = (a.significand >> (TOP - 63)) * (b.significand >> (TOP - 63));
    r.significand >>= 1;
    normalise(&r);
    if (kc != ZERO)
        r = add(&r, &c);
    if (!r.significand)
        return (e->mxcsr >> MXCSR_RC_SHIFT & 3) == 1 ? sign_bit(f) : 0;
    return round_to(f, &r, e);
}

/* The guest's control bits are in the host's MXCSR, and all exceptions are masked, as fp.h has it. */
static struct env host_env(void)
{
    return (struct env){.mxcsr = fp_get_mxcsr()};
}
static void raise_flags(const struct env *e)
{
    u32 mxcsr = fp_get_mxcsr();

    if (e->flags & ~mxcsr)
        fp_set_mxcsr(mxcsr | e->flags);
}

#define FUSED(f, count, format)                                                                              \
    for (unsigned n = 0; n < (count); n++)                                                                   \
        r.f[n] = fused(format, px.f[n], py.f[n], pz.f[n], signs & FMA_PRODUCT,                               \
                       signs & (n & 1 ? FMA_ODD : FMA_EVEN), e);
static xmm fused_elements(xmm to, xmm x, xmm y, xmm z, unsigned signs, enum fp_elements type, struct env *e)
{
    parts px = {x}, py = {y}, pz = {z}, r = {to};

    switch (type) {
    case FP_PS: FUSED(d, 4, &single) break;
    case FP_PD: FUSED(q, 2, &wide) break;
    case FP_SS: FUSED(d, 1, &single) break;
    case FP_SD: FUSED(q, 1, &wide) break;
    }
    return r.v;
}
xmm soft_fma(xmm to, xmm x, xmm y, xmm z, unsigned signs, enum fp_elements type)
{
    struct env e = host_env();
    xmm r = fused_elements(to, x, y, z, signs, type, &e);

    raise_flags(&e);
    return r;
}

/* ---- half precision (SDM 2 VCVTPH2PS, VCVTPS2PH) ---- */

/* Every half is a single; DAZ does not count, nor is a denormal one an exception. */
static u32 half_to_single(u16 v, struct env *e)
{
    u32 sign = v & sign_bit(&half) ? (u32)sign_bit(&single) : 0;
    struct number n;

    switch (unpack(&half, v, &n)) {
    case ZERO: return sign;
    case INFINITE: return sign | (u32)infinity(&single);
    case NAN_:
        if (is_signalling(&half, v))
            e->flags |= MXCSR_IE;
        return sign | (u32)infinity(&single) | (u32)quiet_bit(&single) |
               (u32)(v & fraction_mask(&half)) << (single.fraction - half.fraction);
    default: return (u32)round_to(&single, &n, e);
    }
}
xmm soft_VCVTPH2PS(xmm a, xmm b)
{
    parts y = {b}, r;
    struct env e = host_env();

    for (unsigned n = 0; n < 4; n++)
        r.d[n] = half_to_single(y.w[n], &e);
    raise_flags(&e);
    return r.v;
}

static u16 single_to_half(u32 v, struct env *e)
{
    u16 sign = v & sign_bit(&single) ? (u16)sign_bit(&half) : 0;
    struct number n;

    v = (u32)flush_denormal(&single, v, e);
    if (is_denormal(&single, v))
        e->flags |= MXCSR_DE;
    switch (unpack(&single, v, &n)) {
    case ZERO: return sign;
    case INFINITE: return sign | (u16)infinity(&half);
    case NAN_:
        if (is_signalling(&single, v))
            e->flags |= MXCSR_IE;
        return sign | (u16)infinity(&half) | (u16)quiet_bit(&half) |
               (u16)((v & fraction_mask(&single)) >> (single.fraction - half.fraction));
    default: return (u16)round_to(&half, &n, e);
    }
}
/* The immediate's rounding; denormal results are never flushed. */
static struct env half_env(struct env e, u8 imm)
{
    e.mxcsr &= ~MXCSR_FTZ;
    if (!(imm & 4))
        e.mxcsr = (e.mxcsr & ~(3u << MXCSR_RC_SHIFT)) | (u32)(imm & 3) << MXCSR_RC_SHIFT;
    return e;
}
xmm soft_VCVTPS2PH(xmm a, xmm b, u8 imm)
{
    parts y = {b}, r = {{0, 0}};
    struct env e = half_env(host_env(), imm);

    for (unsigned n = 0; n < 4; n++)
        r.w[n] = single_to_half(y.d[n], &e);
    raise_flags(&e);
    return r.v;
}

/* ---- flags while overflow or underflow is not masked ---- */

/* Quotients of numbers; what else there is to divide does not overflow. */
static void divide(const struct format *f, u64 x, u64 y, struct env *e)
{
    struct number a, b, r;
    u128 remainder;

    if (unpack(f, flush_denormal(f, x, e), &a) != FINITE || unpack(f, flush_denormal(f, y, e), &b) != FINITE)
        return;
    /* Significands of at most 53 bits, so that the quotient has 63 and the remainder is what is left below them. */
    a.significand >>= TOP - 52;
    b.significand >>= TOP - 52;
    r.negative = a.negative != b.negative;
    r.exponent = a.exponent - b.exponent;
    remainder = (a.significand << 63) % b.significand;
    r.significand = (a.significand << 63) / b.significand << (TOP - 63) | (remainder != 0);
    if (!(r.significand >> TOP))
        normalise(&r);
    round_to(f, &r, e);
}
static void narrow(u64 v, struct env *e)
{
    struct number n;

    if (unpack(&wide, flush_denormal(&wide, v, e), &n) == FINITE)
        round_to(&single, &n, e);
}

static u64 element(xmm v, enum fp_elements type, unsigned n)
{
    parts p = {v};

    return type == FP_PS || type == FP_SS ? p.d[n] : p.q[n];
}
static const struct format *format_of(enum fp_elements type)
{
    return type == FP_PS || type == FP_SS ? &single : &wide;
}
static u64 one(const struct format *f)
{
    return (u64)bias(f) << f->fraction;
}

/* An unmasked exception before the calculation keeps those after it from being found (SDM 1 11.5.2). */
static u32 found_flags(u32 flags, u32 unmasked)
{
    enum { BEFORE = MXCSR_IE | MXCSR_DE | MXCSR_ZE };

    return flags & unmasked & BEFORE ? flags & BEFORE : flags;
}

/* Dot products are made in steps, and an exception that is not masked ends them after a step (SDM 2A DPPS). */
static void dot_products(const struct fp_operation *op, const struct fp_lane *lane, unsigned lanes, u8 imm,
                         struct env *e)
{
    const struct format *f = format_of(op->type);
    unsigned count = op->type == FP_PS ? 4 : 2;
    u64 t[2][4], u[4];
    u32 flags;

    for (unsigned l = 0; l < lanes; l++)
        for (unsigned n = 0; n < count; n++)
            t[l][n] = imm >> (4 + n) & 1 ? fused(f, element(lane[l].a, op->type, n),
                                                 element(lane[l].b, op->type, n), 0, false, false, e)
                                         : 0;
    flags = found_flags(e->flags, e->unmasked);
    for (unsigned step = 1; step < count && !(flags & e->unmasked); step *= 2) {
        e->flags = 0;
        for (unsigned l = 0; l < lanes; l++) {
            memcpy(u, t[l], sizeof(u));
            for (unsigned n = 0; n < count; n++)
                t[l][n] = fused(f, u[n], one(f), u[n ^ step], false, false, e);
        }
        flags |= found_flags(e->flags, e->unmasked);
    }
    e->flags = flags;
}

static void arithmetic(const struct fp_operation *op, const struct fp_lane *l, u8 imm, struct env *e)
{
    static const u8 counts[] = {[FP_PS] = 4, [FP_PD] = 2, [FP_SS] = 1, [FP_SD] = 1};
    const struct format *f = format_of(op->type);
    unsigned count = counts[op->type];

    for (unsigned n = 0; n < count; n++) {
        u64 a = element(l->a, op->type, n), b = element(l->b, op->type, n);

        switch (op->kind) {
        case FP_ADD: fused(f, a, one(f), b, false, false, e); break;
        case FP_SUB: fused(f, a, one(f), b, false, true, e); break;
        case FP_ADDSUB: fused(f, a, one(f), b, false, !(n & 1), e); break;
        case FP_HADD:
        case FP_HSUB: {
            xmm from = n < count / 2 ? l->a : l->b;
            unsigned k = 2 * n % count;

            fused(f, element(from, op->type, k), one(f), element(from, op->type, k + 1), false,
                  op->kind == FP_HSUB, e);
            break;
        }
        case FP_MUL: fused(f, a, b, 0, false, false, e); break;
        case FP_DIV: divide(f, a, b, e); break;
        case FP_NARROW: narrow(b, e); break;
        case FP_HALF: {
            struct env h = half_env(*e, imm);

            single_to_half((u32)b, &h);
            e->flags |= h.flags;
            if (h.flags & MXCSR_UE && is_denormal(f, flush_denormal(f, b, e))) /* as CPUs have it */
                e->flags |= MXCSR_PE;
            break;
        }
        default: break;
        }
    }
    switch (op->kind) {
    case FP_FMA_132: fused_elements(l->to, FMA_132(l->to, l->a, l->b), op->signs, op->type, e); break;
    case FP_FMA_213: fused_elements(l->to, FMA_213(l->to, l->a, l->b), op->signs, op->type, e); break;
    case FP_FMA_231: fused_elements(l->to, FMA_231(l->to, l->a, l->b), op->signs, op->type, e); break;
    default: break;
    }
}

u32 soft_flags(const struct fp_operation *op, const struct fp_lane *lane, unsigned lanes, u8 imm, u32 mxcsr)
{
    struct env e = {.mxcsr = mxcsr, .unmasked = ~mxcsr >> MXCSR_MASK_SHIFT & MXCSR_FLAGS};

    if (op->kind == FP_DOT)
        dot_products(op, lane, lanes, imm, &e);
    else
        for (unsigned n = 0; n < lanes; n++)
            arithmetic(op, &lane[n], imm, &e);
    return e.flags;
}
