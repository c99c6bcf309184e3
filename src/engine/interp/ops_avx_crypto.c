/*
 * AES, carry-less multiplication, GFNI and dot products of integers (VNNI) in VEX forms.
 */
#include "engine/interp/ops_avx.h"

FP_AES_BINARY(AVX_OP)
AVX_SHAPE_128(AESIMC, 16, xmm_AESIMC(&c->fp, a, b))
AVX_SHAPE_128(AESKEYGENASSIST, 16, xmm_AESKEYGENASSIST(&c->fp, a, b, (u8)i->imm))
FP_IMM_PCLMUL(AVX_IMM_OP)
FP_GFNI_BINARY(AVX_OP)
FP_IMM_GFNI(AVX_IMM_OP)

/* The destination is added to. */
#define VNNI_OP(name, ...)        AVX_SHAPE(name, xmm_##name(&c->fp, avx_old(s, i, lane), a, b))
#define VNNI_ROW(name, form, ...) ROW_L(name##_##form, name)
FP_VNNI(VNNI_OP)

/* clang-format off */
const struct interp_row interp_avx_crypto_rows[] = {
    FP_AES_BINARY(AVX_BINARY_ROW)
    ROW_128(VAESIMC_Vdq_Wdq, AESIMC)
    ROW_128(VAESKEYGENASSIST_Vdq_Wdq_Ib, AESKEYGENASSIST)
    FP_IMM_PCLMUL(AVX_BINARY_ROW)
    ROW_L(VGF2P8MULB_Vx_Hx_Wx, GF2P8MULB)
    ROW_L(VGF2P8AFFINEQB_Vx_Hx_Wx_Ib, GF2P8AFFINEQB)
    ROW_L(VGF2P8AFFINEINVQB_Vx_Hx_Wx_Ib, GF2P8AFFINEINVQB)
    FP_VNNI(VNNI_ROW)
    ROW_LAST,
};
