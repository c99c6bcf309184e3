/*
 * FMA, and conversions from and to half precision (F16C).
 */
#include "engine/interp/ops_avx.h"

/* ---- FMA: the destination is the first of three operands ---- */

#define FUSED(name)                                        xmm_##name(&c->fp, avx_old(s, i, lane), a, b)
#define FMA_PACKED_OP(name, form, bytes, tiny, op, order)  AVX_FLOAT_SHAPE(name, FUSED(name), tiny)
#define FMA_SCALAR_OP(name, form, bytes, tiny, op, order)  AVX_FLOAT_SHAPE_128(name, bytes, FUSED(name), tiny)
#define FMA_PACKED_ROW(name, form, bytes, tiny, op, order) ROW_L(name##_##form, name)
#define FMA_SCALAR_ROW(name, form, bytes, tiny, op, order) ROW_128(name##_##form, name)
FP_FMA_ALL_PACKED(FMA_PACKED_OP)
FP_FMA_ALL_SCALAR(FMA_SCALAR_OP)

/* ---- F16C ---- */

/* Four halves become a lane each. */
static ALWAYS_INLINE struct ymm from_halves(const struct interp *c, xmm b)
{
    return (struct ymm){xmm_VCVTPH2PS(&c->fp, b, b), xmm_VCVTPH2PS(&c->fp, b, xmm_from64(b[1]))};
}
#define FROM_HALVES(name, source, type, convert, end, set)                                                   \
    FLOAT_HANDLER(name, xmm b = source; type r; fp_begin(c); r = convert; end(c, i, r, FP_TINY_none);        \
                  set(s, i->reg, r); NEXT;)
FROM_HALVES(vcvtph2ps_128_r, xmm_get(s, i->rm), xmm, xmm_VCVTPH2PS(&c->fp, b, b), fp_end, ymm_set_low)
FROM_HALVES(vcvtph2ps_128_m, avx_load(s, c, i, 8), xmm, xmm_VCVTPH2PS(&c->fp, b, b), fp_end, ymm_set_low)
FROM_HALVES(vcvtph2ps_256_r, xmm_get(s, i->rm), struct ymm, from_halves(c, b), fp_end_lanes, ymm_set)
FROM_HALVES(vcvtph2ps_256_m, avx_load(s, c, i, 16), struct ymm, from_halves(c, b), fp_end_lanes, ymm_set)

static ALWAYS_INLINE xmm to_halves(const struct interp *c, const struct cell *i, struct ymm a)
{
    xmm lo = xmm_VCVTPS2PH(&c->fp, a.lo, a.lo, (u8)i->imm),
        hi = xmm_VCVTPS2PH(&c->fp, a.hi, a.hi, (u8)i->imm);

    return (xmm){lo[0], hi[0]};
}
/* `r` is half as long as the source. The store comes after the exceptions; when it faults, the flags in MXCSR stay. */
#define TO_HALVES(name, source, commit)                                                                      \
    FLOAT_HANDLER(name, {                                                                                    \
        struct ymm a = source;                                                                               \
        xmm r;                                                                                               \
        fp_begin(c);                                                                                         \
        r = to_halves(c, i, a);                                                                              \
        fp_end_lanes_of(c, i, ((struct ymm){r, {0, 0}}), FP_TINY_ph, a, a, a);                               \
        commit;                                                                                              \
    } NEXT;)
#define LOW_HALF ((struct ymm){xmm_get(s, i->reg), {0, 0}})
TO_HALVES(vcvtps2ph_128_r, LOW_HALF, ymm_set_low(s, i->rm, r))
TO_HALVES(vcvtps2ph_128_m, LOW_HALF, store64(c, i, interp_ea(s, c, i, 8, MEM_WRITE), r[0]))
TO_HALVES(vcvtps2ph_256_r, ymm_get(s, i->reg), ymm_set_low(s, i->rm, r))
TO_HALVES(vcvtps2ph_256_m, ymm_get(s, i->reg), store_bytes(c, i, interp_ea(s, c, i, 16, MEM_WRITE), &r, 16))

/* clang-format off */
const struct interp_row interp_fma_rows[] = {
    FP_FMA_ALL_PACKED(FMA_PACKED_ROW)
    FP_FMA_ALL_SCALAR(FMA_SCALAR_ROW)
    ROW_L(VCVTPH2PS_Vps_Wx, vcvtph2ps)
    ROW_L(VCVTPS2PH_Wx_Vps_Ib, vcvtps2ph)
    ROW_LAST,
};
