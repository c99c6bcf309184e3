/*
 * Fused multiply-add and half precision, computed in integers: for hosts that lack FMA or F16C. Results, NaNs and exception
 * flags are those of the instructions to the bit; tests/interp/test_float_soft.c compares them with the host's.
 *
 * All exceptions are taken for masked, as everywhere between fp_begin and fp_end. Tininess is found after rounding, as SSE
 * does it (SDM 1 4.9.1.5).
 */
#include "engine/interp/fp.h"

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

/* A normalised number in a format. FTZ counts for what it is in `mxcsr`; the flags are added to *flags. */
static u64 round_to(const struct format *f, const struct number *n, u32 mxcsr, u32 *flags)
{
    unsigned low = TOP - f->fraction;
    int least = 1 - bias(f), greatest = bias(f), exponent = n->exponent;
    u64 sign = n->negative ? sign_bit(f) : 0, result;
    bool inexact;

    result = round_off(n->significand, n->negative, low, mxcsr, &inexact);
    if (result >> (f->fraction + 1)) {
        result >>= 1;
        exponent++;
    }
    if (exponent < least) {
        if (mxcsr & MXCSR_FTZ) {
            *flags |= MXCSR_UE | MXCSR_PE;
            return sign;
        }
        /* Rounding may end in the least normal number: the carry makes its exponent. */
        result =
            round_off(shift_right(n->significand, least - n->exponent), n->negative, low, mxcsr, &inexact);
        if (inexact)
            *flags |= MXCSR_UE | MXCSR_PE;
        return sign | result;
    }
    if (exponent > greatest) {
        bool away = (mxcsr >> MXCSR_RC_SHIFT & 3) == (n->negative ? 1 : 2) || !(mxcsr >> MXCSR_RC_SHIFT & 3);

        *flags |= MXCSR_OE | MXCSR_PE;
        return sign | (away ? infinity(f) : infinity(f) - 1);
    }
    if (inexact)
        *flags |= MXCSR_PE;
    return sign | (u64)(exponent + bias(f)) << f->fraction | (result & fraction_mask(f));
}

/* DAZ: the operand is zero then. */
static u64 flush_denormal(const struct format *f, u64 v, u32 mxcsr)
{
    return mxcsr & MXCSR_DAZ && is_denormal(f, v) ? v & sign_bit(f) : v;
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
                 u32 mxcsr, u32 *flags)
{
    struct number a, b, c, r;
    enum kind ka, kb, kc;
    bool denormal, product_negative;

    x = flush_denormal(f, x, mxcsr);
    y = flush_denormal(f, y, mxcsr);
    z = flush_denormal(f, z, mxcsr);
    ka = unpack(f, x, &a);
    kb = unpack(f, y, &b);
    kc = unpack(f, z, &c);
    if (ka == NAN_ || kb == NAN_ || kc == NAN_) {
        if (is_signalling(f, x) || is_signalling(f, y) || is_signalling(f, z))
            *flags |= MXCSR_IE;
        return (ka == NAN_ ? x : kb == NAN_ ? y : z) | quiet_bit(f);
    }
    product_negative = a.negative ^ b.negative ^ negate_product;
    c.negative ^= negate_addend;
    if ((ka == INFINITE && kb == ZERO) || (ka == ZERO && kb == INFINITE) ||
        ((ka == INFINITE || kb == INFINITE) && kc == INFINITE && product_negative != c.negative)) {
        *flags |= MXCSR_IE;
        return sign_bit(f) | infinity(f) | quiet_bit(f);
    }
    denormal = is_denormal(f, x) || is_denormal(f, y) || is_denormal(f, z);
    if (denormal)
        *flags |= MXCSR_DE;
    if (ka == INFINITE || kb == INFINITE || kc == INFINITE)
        return infinity(f) | ((kc == INFINITE ? c.negative : product_negative) ? sign_bit(f) : 0);
    if (ka == ZERO || kb == ZERO) {
        bool down = (mxcsr >> MXCSR_RC_SHIFT & 3) == 1;

        if (kc == ZERO)
            return (product_negative == c.negative ? c.negative : down) ? sign_bit(f) : 0;
        return round_to(f, &c, mxcsr, flags);
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
        return (mxcsr >> MXCSR_RC_SHIFT & 3) == 1 ? sign_bit(f) : 0;
    return round_to(f, &r, mxcsr, flags);
}

static void raise_flags(u32 mxcsr, u32 flags)
{
    if (flags & ~mxcsr)
        fp_set_mxcsr(mxcsr | flags);
}

#define FUSED(f, count, format)                                                                              \
    for (unsigned n = 0; n < (count); n++)                                                                   \
        r.f[n] = fused(format, px.f[n], py.f[n], pz.f[n], signs & FMA_PRODUCT,                               \
                       signs & (n & 1 ? FMA_ODD : FMA_EVEN), mxcsr, &flags);
xmm soft_fma(xmm to, xmm x, xmm y, xmm z, unsigned signs, enum fma_type type)
{
    parts px = {x}, py = {y}, pz = {z}, r = {to};
    u32 mxcsr = fp_get_mxcsr(), flags = 0;

    switch (type) {
    case FMA_PS: FUSED(d, 4, &single) break;
    case FMA_PD: FUSED(q, 2, &wide) break;
    case FMA_SS: FUSED(d, 1, &single) break;
    case FMA_SD: FUSED(q, 1, &wide) break;
    }
    raise_flags(mxcsr, flags);
    return r.v;
}

/* ---- half precision (SDM 2 VCVTPH2PS, VCVTPS2PH) ---- */

/* Every half is a single; DAZ does not count, nor is a denormal one an exception. */
static u32 half_to_single(u16 v, u32 *flags)
{
    u32 sign = v & sign_bit(&half) ? (u32)sign_bit(&single) : 0;
    struct number n;

    switch (unpack(&half, v, &n)) {
    case ZERO: return sign;
    case INFINITE: return sign | (u32)infinity(&single);
    case NAN_:
        if (is_signalling(&half, v))
            *flags |= MXCSR_IE;
        return sign | (u32)infinity(&single) | (u32)quiet_bit(&single) |
               (u32)(v & fraction_mask(&half)) << (single.fraction - half.fraction);
    default: return (u32)round_to(&single, &n, 0, flags);
    }
}
xmm soft_VCVTPH2PS(xmm a, xmm b)
{
    parts y = {b}, r;
    u32 mxcsr = fp_get_mxcsr(), flags = 0;

    for (unsigned n = 0; n < 4; n++)
        r.d[n] = half_to_single(y.w[n], &flags);
    raise_flags(mxcsr, flags);
    return r.v;
}

/* Denormal results are never flushed. */
static u16 single_to_half(u32 v, u32 mxcsr, u32 *flags)
{
    u16 sign = v & sign_bit(&single) ? (u16)sign_bit(&half) : 0;
    struct number n;

    v = (u32)flush_denormal(&single, v, mxcsr);
    if (is_denormal(&single, v))
        *flags |= MXCSR_DE;
    switch (unpack(&single, v, &n)) {
    case ZERO: return sign;
    case INFINITE: return sign | (u16)infinity(&half);
    case NAN_:
        if (is_signalling(&single, v))
            *flags |= MXCSR_IE;
        return sign | (u16)infinity(&half) | (u16)quiet_bit(&half) |
               (u16)((v & fraction_mask(&single)) >> (single.fraction - half.fraction));
    default: return (u16)round_to(&half, &n, mxcsr & ~MXCSR_FTZ, flags);
    }
}
xmm soft_VCVTPS2PH(xmm a, xmm b, u8 imm)
{
    parts y = {b}, r = {{0, 0}};
    u32 mxcsr = fp_get_mxcsr(), flags = 0, rounding = mxcsr;

    if (!(imm & 4))
        rounding = (mxcsr & ~(3u << MXCSR_RC_SHIFT)) | (u32)(imm & 3) << MXCSR_RC_SHIFT;
    for (unsigned n = 0; n < 4; n++)
        r.w[n] = single_to_half(y.d[n], rounding, &flags);
    raise_flags(mxcsr, flags);
    return r.v;
}
