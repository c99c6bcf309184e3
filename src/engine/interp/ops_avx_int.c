/*
 * AVX and AVX2: integers, logic, shuffles and blends, lane by lane.
 */
#include "engine/interp/ops_avx.h"

FP_SSE2_BINARY(AVX_OP)
FP_SSE2_UNARY(AVX_OP)
FP_SSE2_SCALAR(AVX_SCALAR_OP)
FP_SSSE3_BINARY(AVX_OP)
FP_SSSE3_UNARY(AVX_OP)
FP_SSE3_UNARY(AVX_OP)
FP_SSE4_BINARY(AVX_OP)
FP_SSE4_EXTEND(AVX_EXTEND_OP)
FP_IMM_SSE2_BINARY(AVX_IMM_OP)
FP_IMM_SSE2_UNARY(AVX_IMM_OP)
FP_IMM_INT(AVX_IMM_OP)

AVX_SHAPE_128(MOVDDUP, 8, xmm_MOVDDUP(&c->fp, a, b))
AVX_SHAPE_256(MOVDDUP, xmm_MOVDDUP(&c->fp, a, b))
AVX_SHAPE_128(PHMINPOSUW, 16, xmm_PHMINPOSUW(&c->fp, a, b))
AVX_SHAPE(PALIGNR, xmm_bytes_from(b, a, (u8)i->imm))
AVX_SHAPE(PBLENDD, xmm_BLENDPS(&c->fp, a, b, AVX_IMM(4)))
AVX_SHAPE(PERMILPS_imm, xmm_PSHUFD(&c->fp, a, b, (u8)i->imm))
AVX_SHAPE(PERMILPD_imm, xmm_SHUFPD(&c->fp, b, b, AVX_IMM(2)))

#define AVX_BLEND_OP(name, form, bytes, ...) AVX_SHAPE(name, xmm_##name(&c->fp, a, b, avx_is4(s, c, i, lane)))
FP_XMM0_BLEND(AVX_BLEND_OP)

/* ---- shifts ---- */

/* All elements by one count of 128 bits; and by an immediate, from rm to vvvv. */
#define SHIFT_256(name)                                                                                      \
    static void name##_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        struct ymm x = ymm_get(s, i->vvvv);                                                                  \
        xmm count = xmm_get(s, i->rm);                                                                       \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(x, x, xmm_##name(&c->fp, b, count)));                                   \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_256_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm count = avx_load(s, c, i, 16);                                                                   \
        struct ymm x = ymm_get(s, i->vvvv);                                                                  \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(x, x, xmm_##name(&c->fp, b, count)));                                   \
        NEXT;                                                                                                \
    }
#define SHIFT_IMMEDIATE(name, expression)                                                                    \
    static void name##_imm_128_r(struct vcpu_state *s, struct interp *c, const struct cell *i)               \
    {                                                                                                        \
        xmm b = xmm_get(s, i->rm);                                                                           \
                                                                                                             \
        ymm_set_low(s, i->vvvv, expression);                                                                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_imm_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)               \
    {                                                                                                        \
        struct ymm y = ymm_get(s, i->rm);                                                                    \
                                                                                                             \
        ymm_set(s, i->vvvv, AVX_LANES(y, y, expression));                                                    \
        NEXT;                                                                                                \
    }
#define SHIFT_OP(name, form, bytes)                                                                          \
    AVX_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b))                                                     \
    SHIFT_256(name)                                                                                          \
    SHIFT_IMMEDIATE(name, xmm_##name(&c->fp, b, xmm_from64((u8)i->imm)))
FP_SSE2_SHIFT(SHIFT_OP)
SHIFT_IMMEDIATE(PSRLDQ, xmm_shift_right_bytes(b, (u8)i->imm))
SHIFT_IMMEDIATE(PSLLDQ, xmm_shift_left_bytes(b, (u8)i->imm))
#define ROW_SHIFT_IMMEDIATE(name)                                                                            \
    ROW_R(V##name##_Hdq_Udq_Ib, name##_imm_128_r)                                                            \
    ROW_R(V##name##_Hqq_Uqq_Ib, name##_imm_256_r)
#define SHIFT_ROW(name, form, bytes)                                                                         \
    ROW_128(V##name##_Vdq_Hdq_Wdq, name)                                                                     \
    ROW_256(V##name##_Vqq_Hqq_Wdq, name)                                                                     \
    ROW_SHIFT_IMMEDIATE(name)

/* ---- each element by one of the other operand: shifts and selections ---- */

/* x and y: the operands' elements in array `f` of `count`. */
#define EACH(name, f, count, expression)                                                                     \
    static inline xmm name(xmm a, xmm b)                                                                     \
    {                                                                                                        \
        union xmm_parts x = {a}, y = {b}, r;                                                                 \
                                                                                                             \
        for (unsigned n = 0; n < (count); n++)                                                               \
            r.f[n] = expression;                                                                             \
        return r.v;                                                                                          \
    }                                                                                                        \
    AVX_SHAPE(name, name(a, b))
EACH(psllvd, d, 4, y.d[n] > 31 ? 0 : x.d[n] << y.d[n])
EACH(psllvq, q, 2, y.q[n] > 63 ? 0 : x.q[n] << y.q[n])
EACH(psrlvd, d, 4, y.d[n] > 31 ? 0 : x.d[n] >> y.d[n])
EACH(psrlvq, q, 2, y.q[n] > 63 ? 0 : x.q[n] >> y.q[n])
EACH(psravd, sd, 4, x.sd[n] >> (y.d[n] > 31 ? 31 : y.d[n]))
EACH(permilps, d, 4, x.d[y.d[n] & 3])
EACH(permilpd, q, 2, x.q[y.q[n] >> 1 & 1])

/* clang-format off */
const struct interp_row interp_avx_int_rows[] = {
    FP_SSE2_BINARY(AVX_BINARY_ROW)
    FP_SSE2_UNARY(AVX_UNARY_ROW)
    FP_SSE2_SCALAR(AVX_SCALAR_ROW)
    FP_SSSE3_BINARY(AVX_BINARY_ROW)
    FP_SSSE3_UNARY(AVX_UNARY_ROW)
    FP_SSE3_UNARY(AVX_UNARY_ROW)
    FP_SSE4_BINARY(AVX_BINARY_ROW)
    FP_SSE4_EXTEND(AVX_UNARY_ROW)
    FP_IMM_SSE2_BINARY(AVX_BINARY_ROW)
    FP_IMM_SSE2_UNARY(AVX_UNARY_ROW)
    FP_IMM_INT(AVX_BINARY_ROW)

    ROW_L(VMOVDDUP_Vpd_Wpd, MOVDDUP)
    ROW_128(VPHMINPOSUW_Vdq_Wdq, PHMINPOSUW)
    AVX_BINARY_Vdq_Wdq_Ib(PALIGNR)
    ROW_L(VPBLENDD_Vx_Hx_Wx_Ib, PBLENDD)
    ROW_L(VPERMILPS_Vps_Wps_Ib, PERMILPS_imm)
    ROW_L(VPERMILPD_Vpd_Wpd_Ib, PERMILPD_imm)
    ROW_L(VPERMILPS_Vps_Hps_Wps, permilps)
    ROW_L(VPERMILPD_Vpd_Hpd_Wpd, permilpd)
    ROW_L(VBLENDVPS_Vx_Hx_Wx_Lx, BLENDVPS)
    ROW_L(VBLENDVPD_Vx_Hx_Wx_Lx, BLENDVPD)
    ROW_128(VPBLENDVB_Vdq_Hdq_Wdq_Ldq, PBLENDVB)
    ROW_256(VPBLENDVB_Vqq_Hqq_Wqq_Lqq, PBLENDVB)

    FP_SSE2_SHIFT(SHIFT_ROW)
    ROW_SHIFT_IMMEDIATE(PSRLDQ)
    ROW_SHIFT_IMMEDIATE(PSLLDQ)
    ROW_L(VPSLLVD_Vx_Hx_Wx, psllvd)
    ROW_L(VPSLLVQ_Vx_Hx_Wx, psllvq)
    ROW_L(VPSRLVD_Vx_Hx_Wx, psrlvd)
    ROW_L(VPSRLVQ_Vx_Hx_Wx, psrlvq)
    ROW_L(VPSRAVD_Vx_Hx_Wx, psravd)
    ROW_LAST,
};
