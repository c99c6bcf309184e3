/*
 * Floating-point and vector primitives: what the handlers of x87, MMX and SSE instructions compute with.
 *
 * This is the implementation for x86-64 hosts: the host FPU executes the guest's operation on the guest's operands, so that
 * results, NaNs and exception flags are the host's to the bit. Another host brings its own file with the same functions.
 *
 * The guest's rounding, FTZ and DAZ are in the host's MXCSR, and its rounding and precision control in the host's x87
 * control word, all exceptions masked, from interp_fp_enter to interp_fp_leave; the exception flags that the host collects
 * are the guest's. So between the two nothing may compute in floating point but these primitives.
 *
 * The lists (FP_...(X)) name each instruction once: this file makes the primitive xmm_NAME of it, the ops files the
 * handlers and the row. What SSE2 does not have is computed in simd_soft.c where the host lacks it.
 */
#ifndef ENGINE_INTERP_FP_H
#define ENGINE_INTERP_FP_H

#include "base/types.h"
#include "x86/vcpu_state.h"

#define FP_ALWAYS_INLINE inline __attribute__((always_inline))

/* 128 bits, by element type. xmm is what primitives take and give. */
typedef u64 xmm __attribute__((vector_size(16), may_alias));
typedef u64 xmm_unaligned __attribute__((vector_size(16), may_alias, aligned(1)));
union xmm_parts {
    xmm v;
    u8 b[16];
    i8 sb[16];
    u16 w[8];
    i16 sw[8];
    u32 d[4];
    i32 sd[4];
    u64 q[2];
    i64 sq[2];
};

/* What the host has beyond x86-64's baseline of SSE2. */
enum {
    FP_HOST_SSE3 = 1 << 0,
    FP_HOST_SSSE3 = 1 << 1,
    FP_HOST_SSE4_1 = 1 << 2,
    FP_HOST_SSE4_2 = 1 << 3,
    FP_HOST_AES = 1 << 4,
    FP_HOST_PCLMUL = 1 << 5,
    FP_HOST_SHA = 1 << 6,
    FP_HOST_AVX = 1 << 7, /* and the host's kernel keeps its state */
    FP_HOST_GFNI = 1 << 8,
    /* These imply AVX. */
    FP_HOST_FMA = 1 << 9,
    FP_HOST_F16C = 1 << 10,
    FP_HOST_AVX_VNNI = 1 << 11,
};

/* The FPU's part of struct interp. */
struct interp_fp {
    u32 host;          /* FP_HOST_*; queried once by interp_fp_init */
    bool sse_unmasked; /* some SSE exception is unmasked: handlers must look before they commit */
    bool x87_simple;   /* every x87 exception is masked, so none is pending: fast paths may be taken */
    u16 host_fcw;      /* the program's own control words, to give back */
    u32 host_mxcsr;
};

/* MXCSR (SDM 1 10.2.3). */
enum {
    MXCSR_IE = 1 << 0,
    MXCSR_DE = 1 << 1,
    MXCSR_ZE = 1 << 2,
    MXCSR_OE = 1 << 3,
    MXCSR_UE = 1 << 4,
    MXCSR_PE = 1 << 5,
    MXCSR_FLAGS = 0x3f,
    MXCSR_DAZ = 1 << 6,
    MXCSR_MASK_SHIFT = 7,
    MXCSR_MASKS = 0x3f << MXCSR_MASK_SHIFT,
    MXCSR_FTZ = 1 << 15,
    MXCSR_WRITABLE = 0xffff,
    MXCSR_RESET = 0x1f80,
};

/* x87 status and control word (SDM 1 8.1.3, 8.1.5). The exception flags are as in MXCSR. */
enum {
    FSW_IE = 1 << 0,
    FSW_FLAGS = 0x3f,
    FSW_SF = 1 << 6,
    FSW_ES = 1 << 7,
    FSW_C0 = 1 << 8,
    FSW_C1 = 1 << 9,
    FSW_C2 = 1 << 10,
    FSW_TOP_SHIFT = 11,
    FSW_TOP = 7 << FSW_TOP_SHIFT,
    FSW_C3 = 1 << 14,
    FSW_B = 1 << 15,
    FCW_MASKS = 0x3f,
    FCW_WRITABLE = 0x1f7f, /* bit 12, infinity control, is kept and means nothing */
    FCW_ONE = 1 << 6,      /* reads as 1 */
    FCW_RC = 3 << 10,
    FCW_INIT = 0x37f,
};

/* ---- control words ---- */

static FP_ALWAYS_INLINE u32 fp_get_mxcsr(void)
{
    u32 v;

    asm volatile("stmxcsr %0" : "=m"(v));
    return v;
}
static FP_ALWAYS_INLINE void fp_set_mxcsr(u32 v)
{
    asm volatile("ldmxcsr %0" : : "m"(v));
}
static FP_ALWAYS_INLINE u16 fp_get_fcw(void)
{
    u16 v;

    asm volatile("fnstcw %0" : "=m"(v));
    return v;
}
/* Also clears the exception flags: a flag that is set while being unmasked would fault. */
static FP_ALWAYS_INLINE void fp_set_fcw(u16 v)
{
    asm volatile("fnclex\n\tfldcw %0" : : "m"(v));
}

u32 fp_host_features(void);

/* ---- SSE: two-operand instructions, dst = NAME(dst, src) ---- */

#define FP_SOFT(name) xmm soft_##name(xmm a, xmm b);

/*
 * What a list has in common is also how the VEX forms are made of its primitives (ops_avx.h): BINARY two operands, lane by
 * lane; SHIFT the same, but for a count of 128 bits for both lanes; UNARY one operand; SCALAR the low element, the others
 * from the first operand.
 */
/* clang-format off */
/* X(name, form of the row, bytes of a memory operand). Integer, SSE2. Aligned if 16 bytes. */
#define FP_SSE2_BINARY(X)                                                                                    \
    X(PADDB, Vdq_Wdq, 16) X(PADDW, Vdq_Wdq, 16) X(PADDD, Vdq_Wdq, 16) X(PADDQ, Vdq_Wdq, 16)                  \
    X(PSUBB, Vdq_Wdq, 16) X(PSUBW, Vdq_Wdq, 16) X(PSUBD, Vdq_Wdq, 16) X(PSUBQ, Vdq_Wdq, 16)                  \
    X(PADDSB, Vdq_Wdq, 16) X(PADDSW, Vdq_Wdq, 16) X(PADDUSB, Vdq_Wdq, 16) X(PADDUSW, Vdq_Wdq, 16)            \
    X(PSUBSB, Vdq_Wdq, 16) X(PSUBSW, Vdq_Wdq, 16) X(PSUBUSB, Vdq_Wdq, 16) X(PSUBUSW, Vdq_Wdq, 16)            \
    X(PMULLW, Vdq_Wdq, 16) X(PMULHW, Vdq_Wdq, 16) X(PMULHUW, Vdq_Wdq, 16) X(PMULUDQ, Vdq_Wdq, 16)            \
    X(PMADDWD, Vdq_Wdq, 16) X(PSADBW, Vdq_Wdq, 16) X(PAVGB, Vdq_Wdq, 16) X(PAVGW, Vdq_Wdq, 16)               \
    X(PMINUB, Vdq_Wdq, 16) X(PMINSW, Vdq_Wdq, 16) X(PMAXUB, Vdq_Wdq, 16) X(PMAXSW, Vdq_Wdq, 16)              \
    X(PAND, Vdq_Wdq, 16) X(PANDN, Vdq_Wdq, 16) X(POR, Vdq_Wdq, 16) X(PXOR, Vdq_Wdq, 16)                      \
    X(PCMPEQB, Vdq_Wdq, 16) X(PCMPEQW, Vdq_Wdq, 16) X(PCMPEQD, Vdq_Wdq, 16)                                  \
    X(PCMPGTB, Vdq_Wdq, 16) X(PCMPGTW, Vdq_Wdq, 16) X(PCMPGTD, Vdq_Wdq, 16)                                  \
    X(PACKSSWB, Vdq_Wdq, 16) X(PACKUSWB, Vdq_Wdq, 16) X(PACKSSDW, Vdq_Wdq, 16)                               \
    X(PUNPCKLBW, Vdq_Wdq, 16) X(PUNPCKLWD, Vdq_Wdq, 16) X(PUNPCKLDQ, Vdq_Wdq, 16)                            \
    X(PUNPCKLQDQ, Vdq_Wdq, 16) X(PUNPCKHBW, Vdq_Wdq, 16) X(PUNPCKHWD, Vdq_Wdq, 16)                           \
    X(PUNPCKHDQ, Vdq_Wdq, 16) X(PUNPCKHQDQ, Vdq_Wdq, 16)                                                     \
    X(ANDPS, Vps_Wps, 16) X(ANDNPS, Vps_Wps, 16) X(ORPS, Vps_Wps, 16) X(XORPS, Vps_Wps, 16)                  \
    X(ANDPD, Vpd_Wpd, 16) X(ANDNPD, Vpd_Wpd, 16) X(ORPD, Vpd_Wpd, 16) X(XORPD, Vpd_Wpd, 16)                  \
    X(UNPCKLPS, Vps_Wps, 16) X(UNPCKHPS, Vps_Wps, 16) X(UNPCKLPD, Vpd_Wpd, 16) X(UNPCKHPD, Vpd_Wpd, 16)
#define FP_SSE2_SHIFT(X)                                                                                     \
    X(PSLLW, Vdq_Wdq, 16) X(PSLLD, Vdq_Wdq, 16) X(PSLLQ, Vdq_Wdq, 16)                                        \
    X(PSRLW, Vdq_Wdq, 16) X(PSRLD, Vdq_Wdq, 16) X(PSRLQ, Vdq_Wdq, 16)                                        \
    X(PSRAW, Vdq_Wdq, 16) X(PSRAD, Vdq_Wdq, 16)
#define FP_SSE2_UNARY(X)  X(RCPPS, Vps_Wps, 16) X(RSQRTPS, Vps_Wps, 16)
#define FP_SSE2_SCALAR(X) X(RCPSS, Vss_Wss, 4) X(RSQRTSS, Vss_Wss, 4)
#define FP_SSE2_INT(X)    FP_SSE2_BINARY(X) FP_SSE2_SHIFT(X) FP_SSE2_UNARY(X) FP_SSE2_SCALAR(X)

/* X(name, form, bytes, feature). Integer and moves, beyond SSE2. */
#define FP_SSSE3_BINARY(X)                                                                                   \
    X(PSHUFB, Vdq_Wdq, 16, SSSE3) X(PHADDW, Vdq_Wdq, 16, SSSE3) X(PHADDD, Vdq_Wdq, 16, SSSE3)                \
    X(PHADDSW, Vdq_Wdq, 16, SSSE3) X(PMADDUBSW, Vdq_Wdq, 16, SSSE3) X(PHSUBW, Vdq_Wdq, 16, SSSE3)            \
    X(PHSUBD, Vdq_Wdq, 16, SSSE3) X(PHSUBSW, Vdq_Wdq, 16, SSSE3) X(PSIGNB, Vdq_Wdq, 16, SSSE3)               \
    X(PSIGNW, Vdq_Wdq, 16, SSSE3) X(PSIGND, Vdq_Wdq, 16, SSSE3) X(PMULHRSW, Vdq_Wdq, 16, SSSE3)
#define FP_SSSE3_UNARY(X)                                                                                    \
    X(PABSB, Vdq_Wdq, 16, SSSE3) X(PABSW, Vdq_Wdq, 16, SSSE3) X(PABSD, Vdq_Wdq, 16, SSSE3)
#define FP_SSSE3_INT(X) FP_SSSE3_BINARY(X) FP_SSSE3_UNARY(X)
#define FP_SSE3_UNARY(X) X(MOVSLDUP, Vps_Wps, 16, SSE3) X(MOVSHDUP, Vps_Wps, 16, SSE3)
#define FP_SSE4_EXTEND(X)                                                                                    \
    X(PMOVSXBW, Vdq_Wq, 8, SSE4_1) X(PMOVSXBD, Vdq_Wd, 4, SSE4_1) X(PMOVSXBQ, Vdq_Ww, 2, SSE4_1)             \
    X(PMOVSXWD, Vdq_Wq, 8, SSE4_1) X(PMOVSXWQ, Vdq_Wd, 4, SSE4_1) X(PMOVSXDQ, Vdq_Wq, 8, SSE4_1)             \
    X(PMOVZXBW, Vdq_Wq, 8, SSE4_1) X(PMOVZXBD, Vdq_Wd, 4, SSE4_1) X(PMOVZXBQ, Vdq_Ww, 2, SSE4_1)             \
    X(PMOVZXWD, Vdq_Wq, 8, SSE4_1) X(PMOVZXWQ, Vdq_Wd, 4, SSE4_1) X(PMOVZXDQ, Vdq_Wq, 8, SSE4_1)
#define FP_SSE4_BINARY(X)                                                                                    \
    X(PMULDQ, Vdq_Wdq, 16, SSE4_1) X(PCMPEQQ, Vdq_Wdq, 16, SSE4_1) X(PACKUSDW, Vdq_Wdq, 16, SSE4_1)          \
    X(PMINSB, Vdq_Wdq, 16, SSE4_1) X(PMINSD, Vdq_Wdq, 16, SSE4_1) X(PMINUW, Vdq_Wdq, 16, SSE4_1)             \
    X(PMINUD, Vdq_Wdq, 16, SSE4_1) X(PMAXSB, Vdq_Wdq, 16, SSE4_1) X(PMAXSD, Vdq_Wdq, 16, SSE4_1)             \
    X(PMAXUW, Vdq_Wdq, 16, SSE4_1) X(PMAXUD, Vdq_Wdq, 16, SSE4_1) X(PMULLD, Vdq_Wdq, 16, SSE4_1)             \
    X(PCMPGTQ, Vdq_Wdq, 16, SSE4_2)
#define FP_SSE4_INT(X)                                                                                       \
    FP_SSE3_UNARY(X) FP_SSE4_EXTEND(X) FP_SSE4_BINARY(X)                                                     \
    X(MOVDDUP, Vpd_Wq, 8, SSE3) X(PHMINPOSUW, Vdq_Wdq, 16, SSE4_1)
#define FP_AES_BINARY(X)                                                                                     \
    X(AESENC, Vdq_Wdq, 16, AES) X(AESENCLAST, Vdq_Wdq, 16, AES) X(AESDEC, Vdq_Wdq, 16, AES)                  \
    X(AESDECLAST, Vdq_Wdq, 16, AES)
#define FP_GFNI_BINARY(X) X(GF2P8MULB, Vdq_Wdq, 16, GFNI)
#define FP_CRYPTO(X)                                                                                         \
    FP_AES_BINARY(X) FP_GFNI_BINARY(X) X(AESIMC, Vdq_Wdq, 16, AES)                                           \
    X(SHA1NEXTE, Vdq_Wdq, 16, SHA) X(SHA1MSG1, Vdq_Wdq, 16, SHA) X(SHA1MSG2, Vdq_Wdq, 16, SHA)               \
    X(SHA256MSG1, Vdq_Wdq, 16, SHA) X(SHA256MSG2, Vdq_Wdq, 16, SHA)

/* With a third operand in XMM0, or a register of choice in VEX forms. X(name, form, bytes, feature). */
#define FP_XMM0_BLEND(X)                                                                                     \
    X(PBLENDVB, Vdq_Wdq_XMM0, 16, SSE4_1)                                                                    \
    X(BLENDVPS, Vdq_Wdq_XMM0, 16, SSE4_1)                                                                    \
    X(BLENDVPD, Vdq_Wdq_XMM0, 16, SSE4_1)
#define FP_XMM0_CRYPTO(X) X(SHA256RNDS2, Vdq_Wdq_XMM0, 16, SHA)

/* Floating point with exceptions. X(name, form, bytes, type of a result that may be tiny: ps, pd, ss, sd or none). */
#define FP_SSE2_FLOAT_BINARY(X)                                                                              \
    X(ADDPS, Vps_Wps, 16, ps) X(ADDPD, Vpd_Wpd, 16, pd) X(SUBPS, Vps_Wps, 16, ps) X(SUBPD, Vpd_Wpd, 16, pd)  \
    X(MULPS, Vps_Wps, 16, ps) X(MULPD, Vpd_Wpd, 16, pd) X(DIVPS, Vps_Wps, 16, ps) X(DIVPD, Vpd_Wpd, 16, pd)  \
    X(MINPS, Vps_Wps, 16, none) X(MINPD, Vpd_Wpd, 16, none)                                                  \
    X(MAXPS, Vps_Wps, 16, none) X(MAXPD, Vpd_Wpd, 16, none)
#define FP_SSE2_FLOAT_SCALAR(X)                                                                              \
    X(ADDSS, Vss_Wss, 4, ss) X(ADDSD, Vsd_Wsd, 8, sd) X(SUBSS, Vss_Wss, 4, ss) X(SUBSD, Vsd_Wsd, 8, sd)      \
    X(MULSS, Vss_Wss, 4, ss) X(MULSD, Vsd_Wsd, 8, sd) X(DIVSS, Vss_Wss, 4, ss) X(DIVSD, Vsd_Wsd, 8, sd)      \
    X(MINSS, Vss_Wss, 4, none) X(MINSD, Vsd_Wsd, 8, none)                                                    \
    X(MAXSS, Vss_Wss, 4, none) X(MAXSD, Vsd_Wsd, 8, none)                                                    \
    X(SQRTSS, Vss_Wss, 4, none) X(SQRTSD, Vsd_Wsd, 8, none)                                                  \
    X(CVTSS2SD, Vsd_Wss, 4, none) X(CVTSD2SS, Vss_Wsd, 8, ss)
#define FP_SSE2_FLOAT_UNARY(X)                                                                               \
    X(SQRTPS, Vps_Wps, 16, none) X(SQRTPD, Vpd_Wpd, 16, none)                                                \
    X(CVTDQ2PS, Vps_Wdq, 16, none) X(CVTPS2DQ, Vdq_Wps, 16, none) X(CVTTPS2DQ, Vdq_Wps, 16, none)
/* Results of twice and of half the size. */
#define FP_SSE2_FLOAT_WIDEN(X)  X(CVTPS2PD, Vpd_Wps, 8, none) X(CVTDQ2PD, Vpd_Wq, 8, none)
#define FP_SSE2_FLOAT_NARROW(X)                                                                              \
    X(CVTPD2PS, Vps_Wpd, 16, ps) X(CVTTPD2DQ, Vdq_Wpd, 16, none) X(CVTPD2DQ, Vdq_Wpd, 16, none)
#define FP_SSE2_FLOAT(X)                                                                                     \
    FP_SSE2_FLOAT_BINARY(X) FP_SSE2_FLOAT_SCALAR(X) FP_SSE2_FLOAT_UNARY(X)                                   \
    FP_SSE2_FLOAT_WIDEN(X) FP_SSE2_FLOAT_NARROW(X)
/* X(name, form, bytes, tiny, feature) */
#define FP_SSE3_FLOAT(X)                                                                                     \
    X(ADDSUBPS, Vps_Wps, 16, ps, SSE3) X(ADDSUBPD, Vpd_Wpd, 16, pd, SSE3) X(HADDPS, Vps_Wps, 16, ps, SSE3)   \
    X(HADDPD, Vpd_Wpd, 16, pd, SSE3) X(HSUBPS, Vps_Wps, 16, ps, SSE3) X(HSUBPD, Vpd_Wpd, 16, pd, SSE3)

/*
 * With an immediate byte. The host's instruction takes it in its own code, so there is a stub for each value: `count` of
 * them, each a function of (a, b) in XMM0 and XMM1. Bits of the immediate outside `mask` mean nothing; the stub's number is
 * those inside it. In VEX.256 forms the upper lane's bits begin at bit `lane`: 0 where they are the lower one's.
 * X(name, form, bytes, count, mask, lane, feature)
 */
#define FP_IMM_SSE2_UNARY(X)                                                                                 \
    X(PSHUFD, Vdq_Wdq_Ib, 16, 256, 0xff, 0) X(PSHUFHW, Vdq_Wdq_Ib, 16, 256, 0xff, 0)                         \
    X(PSHUFLW, Vdq_Wdq_Ib, 16, 256, 0xff, 0)
#define FP_IMM_SSE2_BINARY(X)                                                                                \
    X(SHUFPS, Vps_Wps_Ib, 16, 256, 0xff, 0) X(SHUFPD, Vpd_Wpd_Ib, 16, 4, 3, 2)
#define FP_IMM_SSE2(X) FP_IMM_SSE2_UNARY(X) FP_IMM_SSE2_BINARY(X)
#define FP_IMM_INT(X)                                                                                        \
    X(BLENDPS, Vps_Wps_Ib, 16, 16, 15, 4, SSE4_1) X(BLENDPD, Vpd_Wpd_Ib, 16, 4, 3, 2, SSE4_1)                \
    X(PBLENDW, Vdq_Wdq_Ib, 16, 256, 0xff, 0, SSE4_1) X(MPSADBW, Vdq_Wdq_Ib, 16, 8, 7, 3, SSE4_1)
#define FP_IMM_GFNI(X)                                                                                       \
    X(GF2P8AFFINEQB, Vdq_Wdq_Ib, 16, 256, 0xff, 0, GFNI)                                                     \
    X(GF2P8AFFINEINVQB, Vdq_Wdq_Ib, 16, 256, 0xff, 0, GFNI)
#define FP_IMM_PCLMUL(X) X(PCLMULQDQ, Vdq_Wdq_Ib, 16, 32, 0x11, 0, PCLMUL)
#define FP_IMM_CRYPTO(X)                                                                                     \
    FP_IMM_PCLMUL(X) FP_IMM_GFNI(X) X(SHA1RNDS4, Vdq_Wdq_Ib, 16, 4, 3, 0, SHA)                               \
    X(AESKEYGENASSIST, Vdq_Wdq_Ib, 16, 256, 0xff, 0, AES)
/* X(name, form, bytes, count, mask, lane, tiny) */
#define FP_IMM_COMPARE(X)                                                                                    \
    X(CMPPS, Vps_Wps_Ib, 16, 8, 7, 0, none) X(CMPPD, Vpd_Wpd_Ib, 16, 8, 7, 0, none)                          \
    X(CMPSS, Vss_Wss_Ib, 4, 8, 7, 0, none) X(CMPSD, Vsd_Wsd_Ib, 8, 8, 7, 0, none)
/* X(name, form, bytes, count, mask, lane, tiny, feature) */
/* The comparisons of VEX have 32 predicates. */
#define FP_IMM_VCOMPARE_BINARY(X)                                                                            \
    X(VCMPPS, Vps_Wps_Ib, 16, 32, 31, 0, none, AVX) X(VCMPPD, Vpd_Wpd_Ib, 16, 32, 31, 0, none, AVX)
#define FP_IMM_VCOMPARE_SCALAR(X)                                                                            \
    X(VCMPSS, Vss_Wss_Ib, 4, 32, 31, 0, none, AVX) X(VCMPSD, Vsd_Wsd_Ib, 8, 32, 31, 0, none, AVX)
#define FP_IMM_VCOMPARE(X)                                                                                   \
    FP_IMM_VCOMPARE_BINARY(X) FP_IMM_VCOMPARE_SCALAR(X)
#define FP_IMM_FLOAT_UNARY(X)                                                                                \
    X(ROUNDPS, Vps_Wps_Ib, 16, 16, 15, 0, none, SSE4_1) X(ROUNDPD, Vpd_Wpd_Ib, 16, 16, 15, 0, none, SSE4_1)
#define FP_IMM_FLOAT_SCALAR(X)                                                                               \
    X(ROUNDSS, Vss_Wss_Ib, 4, 16, 15, 0, none, SSE4_1) X(ROUNDSD, Vsd_Wsd_Ib, 8, 16, 15, 0, none, SSE4_1)
#define FP_IMM_FLOAT_BINARY(X) X(DPPS, Vps_Wps_Ib, 16, 256, 0xff, 0, ps, SSE4_1)
#define FP_IMM_FLOAT(X)                                                                                      \
    FP_IMM_FLOAT_UNARY(X) FP_IMM_FLOAT_SCALAR(X) FP_IMM_FLOAT_BINARY(X)                                      \
    X(DPPD, Vpd_Wpd_Ib, 16, 256, 0xff, 0, pd, SSE4_1)

/*
 * FMA: dst = operation of (dst, b, c). X(name, form, bytes, tiny, operation, order), all forms of one operation in three
 * orders of the operands (which is multiplied with which, and whose NaN is kept).
 */
#define FP_FMA_PACKED(X, op, order)                                                                          \
    X(V##op##order##PS, Vps_Hps_Wps, 16, ps, op, order) X(V##op##order##PD, Vpd_Hpd_Wpd, 16, pd, op, order)
#define FP_FMA_SCALAR(X, op, order)                                                                          \
    X(V##op##order##SS, Vss_Hss_Wss, 4, ss, op, order) X(V##op##order##SD, Vsd_Hsd_Wsd, 8, sd, op, order)
#define FP_FMA_ORDERS(X, forms, op) forms(X, op, 132) forms(X, op, 213) forms(X, op, 231)
#define FP_FMA_ALL_PACKED(X)                                                                                 \
    FP_FMA_ORDERS(X, FP_FMA_PACKED, FMADD) FP_FMA_ORDERS(X, FP_FMA_PACKED, FMSUB)                            \
    FP_FMA_ORDERS(X, FP_FMA_PACKED, FNMADD) FP_FMA_ORDERS(X, FP_FMA_PACKED, FNMSUB)                          \
    FP_FMA_ORDERS(X, FP_FMA_PACKED, FMADDSUB) FP_FMA_ORDERS(X, FP_FMA_PACKED, FMSUBADD)
#define FP_FMA_ALL_SCALAR(X)                                                                                 \
    FP_FMA_ORDERS(X, FP_FMA_SCALAR, FMADD) FP_FMA_ORDERS(X, FP_FMA_SCALAR, FMSUB)                            \
    FP_FMA_ORDERS(X, FP_FMA_SCALAR, FNMADD) FP_FMA_ORDERS(X, FP_FMA_SCALAR, FNMSUB)
#define FP_FMA(X) FP_FMA_ALL_PACKED(X) FP_FMA_ALL_SCALAR(X)

/* Half precision: four halves in the low 8 bytes. X(name, form, bytes, tiny, feature), and with an immediate. */
#define FP_F16C_FLOAT(X)     X(VCVTPH2PS, Vps_Wx, 8, none, F16C)
#define FP_F16C_IMM_FLOAT(X) X(VCVTPS2PH, Wx_Vps_Ib, 8, 8, 7, 0, ph, F16C)

/* Dot products added to dst: dst = NAME(dst, b, c). X(name, form, bytes, feature, the host's instruction, which has another
   form in AVX-512) */
#define FP_VNNI(X)                                                                                           \
    X(VPDPBUSD, Vx_Hx_Wx, 16, AVX_VNNI, "%{vex%} vpdpbusd")                                                  \
    X(VPDPBUSDS, Vx_Hx_Wx, 16, AVX_VNNI, "%{vex%} vpdpbusds")                                                \
    X(VPDPWSSD, Vx_Hx_Wx, 16, AVX_VNNI, "%{vex%} vpdpwssd")                                                  \
    X(VPDPWSSDS, Vx_Hx_Wx, 16, AVX_VNNI, "%{vex%} vpdpwssds")

/* clang-format on */

#define FP_HAS(fp, feature) likely((fp)->host &FP_HOST_##feature)

/* `volatile` where MXCSR matters: these must not move across a change of it. */
#define DEFINE(name, form, ...)                                                                              \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b)                         \
    {                                                                                                        \
        asm(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                                                 \
        return a;                                                                                            \
    }
FP_SSE2_INT(DEFINE)
#undef DEFINE

#define DEFINE(name, form, bytes, feature)                                                                   \
    FP_SOFT(name)                                                                                            \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b)                         \
    {                                                                                                        \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b);                                                                        \
        asm(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                                                 \
        return a;                                                                                            \
    }
FP_SSSE3_INT(DEFINE)
FP_SSE4_INT(DEFINE)
FP_CRYPTO(DEFINE)
#undef DEFINE

#define DEFINE(name, form, bytes, feature)                                                                   \
    xmm soft_##name(xmm a, xmm b, xmm x0);                                                                   \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b, xmm x0)                 \
    {                                                                                                        \
        register xmm xmm0 asm("xmm0") = x0;                                                                  \
                                                                                                             \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b, x0);                                                                    \
        asm(#name " %%xmm0, %[b], %[a]" : [a] "+x"(a) : [b] "x"(b), "x"(xmm0));                              \
        return a;                                                                                            \
    }
FP_XMM0_BLEND(DEFINE)
FP_XMM0_CRYPTO(DEFINE)
#undef DEFINE

#define DEFINE(name, ...)                                                                                    \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b)                         \
    {                                                                                                        \
        asm volatile(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                                        \
        return a;                                                                                            \
    }
FP_SSE2_FLOAT(DEFINE)
#undef DEFINE

#define DEFINE(name, form, bytes, tiny, feature)                                                             \
    FP_SOFT(name)                                                                                            \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b)                         \
    {                                                                                                        \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b);                                                                        \
        asm volatile(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                                        \
        return a;                                                                                            \
    }
FP_SSE3_FLOAT(DEFINE)
#undef DEFINE

/* soft_fma gives x * y + z in the elements of `type` and `to` elsewhere; FMA_* bits of `signs` negate. */
enum fp_elements { FP_PS, FP_PD, FP_SS, FP_SD };
enum {
    FMA_PRODUCT = 1 << 0,
    FMA_EVEN = 1 << 1, /* the addend of even elements */
    FMA_ODD = 1 << 2,
    FMA_SIGNS_FMADD = 0,
    FMA_SIGNS_FMSUB = FMA_EVEN | FMA_ODD,
    FMA_SIGNS_FNMADD = FMA_PRODUCT,
    FMA_SIGNS_FNMSUB = FMA_PRODUCT | FMA_EVEN | FMA_ODD,
    FMA_SIGNS_FMADDSUB = FMA_EVEN,
    FMA_SIGNS_FMSUBADD = FMA_ODD,
    FMA_TYPE_ps = FP_PS,
    FMA_TYPE_pd = FP_PD,
    FMA_TYPE_ss = FP_SS,
    FMA_TYPE_sd = FP_SD,
};
xmm soft_fma(xmm to, xmm x, xmm y, xmm z, unsigned signs, enum fp_elements type);
/* x, y, z by the digits of the mnemonic: operands 1 (a), 2 (b) and 3 (c). */
#define FMA_132(a, b, c) a, c, b
#define FMA_213(a, b, c) b, a, c
#define FMA_231(a, b, c) b, c, a
#define DEFINE(name, form, bytes, tiny, op, order)                                                           \
    static inline xmm soft_##name(xmm a, xmm b, xmm c)                                                       \
    {                                                                                                        \
        return soft_fma(a, FMA_##order(a, b, c), FMA_SIGNS_##op, (enum fp_elements)FMA_TYPE_##tiny);         \
    }                                                                                                        \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b, xmm c)                  \
    {                                                                                                        \
        if (!FP_HAS(fp, FMA))                                                                                \
            return soft_##name(a, b, c);                                                                     \
        asm volatile(#name " %[c], %[b], %[a]" : [a] "+x"(a) : [b] "x"(b), [c] "x"(c));                      \
        return a;                                                                                            \
    }
FP_FMA(DEFINE)
#undef DEFINE

/* The result does not depend on a, as with the conversions of SSE2. */
#define DEFINE(name, form, bytes, tiny, feature)                                                             \
    FP_SOFT(name)                                                                                            \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b)                         \
    {                                                                                                        \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b);                                                                        \
        asm volatile(#name " %[b], %[a]" : [a] "=x"(a) : [b] "x"(b));                                        \
        return a;                                                                                            \
    }
FP_F16C_FLOAT(DEFINE)
#undef DEFINE

#define DEFINE(name, form, bytes, feature, insn)                                                             \
    xmm soft_##name(xmm a, xmm b, xmm c);                                                                    \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b, xmm c)                  \
    {                                                                                                        \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b, c);                                                                     \
        asm(insn " %[c], %[b], %[a]" : [a] "+x"(a) : [b] "x"(b), [c] "x"(c));                                \
        return a;                                                                                            \
    }
FP_VNNI(DEFINE)
#undef DEFINE

/* Stub n of NAME is at fp_stubs_NAME + n * FP_STUB_SIZE (fp_stubs.c). */
enum { FP_STUB_SIZE = 16 };
typedef xmm fp_stub(xmm a, xmm b);
#define FP_STUB(name, n) ((fp_stub *)(uintptr_t)(fp_stubs_##name + (size_t)(n)*FP_STUB_SIZE))

#define DEFINE(name, form, bytes, count, mask, ...)                                                          \
    extern const char fp_stubs_##name[];                                                                     \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b, u8 imm)                 \
    {                                                                                                        \
        return FP_STUB(name, imm & mask)(a, b);                                                              \
    }
FP_IMM_SSE2(DEFINE)
FP_IMM_COMPARE(DEFINE)
#undef DEFINE

#define DEFINE_IMM(name, mask, feature)                                                                      \
    extern const char fp_stubs_##name[];                                                                     \
    xmm soft_##name(xmm a, xmm b, u8 imm);                                                                   \
    static FP_ALWAYS_INLINE xmm xmm_##name(const struct interp_fp *fp, xmm a, xmm b, u8 imm)                 \
    {                                                                                                        \
        if (!FP_HAS(fp, feature))                                                                            \
            return soft_##name(a, b, imm & mask);                                                            \
        return FP_STUB(name, imm & mask)(a, b);                                                              \
    }
#define DEFINE(name, form, bytes, count, mask, lane, feature) DEFINE_IMM(name, mask, feature)
FP_IMM_INT(DEFINE)
FP_IMM_CRYPTO(DEFINE)
#undef DEFINE
#define DEFINE(name, form, bytes, count, mask, lane, tiny, feature) DEFINE_IMM(name, mask, feature)
FP_IMM_FLOAT(DEFINE)
FP_IMM_VCOMPARE(DEFINE)
FP_F16C_IMM_FLOAT(DEFINE)
#undef DEFINE
#undef DEFINE_IMM

/* ---- exceptions ---- */

/* An instruction whose result may overflow or underflow. */
struct fp_operation {
    enum {
        FP_ADD,
        FP_SUB,
        FP_ADDSUB,
        FP_HADD,
        FP_HSUB,
        FP_MUL,
        FP_DIV,
        FP_NARROW, /* double to single */
        FP_HALF,   /* single to half */
        FP_DOT,
        FP_FMA_132,
        FP_FMA_213,
        FP_FMA_231,
    } kind;
    enum fp_elements type; /* of the source */
    u8 signs;              /* FMA: FMA_* */
};
/* Its operands: destination (of FMA), first, second source or the only one. */
struct fp_lane {
    xmm to, a, b;
};
/*
 * The flags that it raises with the exceptions masked or not as in `mxcsr`. Where the result would need a larger exponent
 * than there is and that exception is not masked, it is inexact if it were so with any exponent (SDM 1 4.9.1.4-5). Of those
 * found before the calculation, only dot products have all.
 */
u32 soft_flags(const struct fp_operation *op, const struct fp_lane *lane, unsigned lanes, u8 imm, u32 mxcsr);

/* ---- string compares ---- */

/*
 * PCMPxSTRI: the index in bits 16.. of the result, the packed flags (flags.h) below. PCMPxSTRM: the mask for XMM0. `la`,
 * `lb`: the lengths of the explicit forms, within +-16.
 */
extern const char fp_stubs_PCMPISTRI[], fp_stubs_PCMPISTRM[], fp_stubs_PCMPESTRI[], fp_stubs_PCMPESTRM[];
enum { FP_STRING_STUB_SIZE = 32 };
#define FP_STRING_STUB(type, name, imm)                                                                      \
    ((type *)(uintptr_t)(fp_stubs_##name + (size_t)(imm)*FP_STRING_STUB_SIZE))
typedef u32 fp_istri_stub(xmm a, xmm b);
/* The stub wants the lengths in EDI and, as the instruction does, in EDX: the first and third integer argument. */
typedef u32 fp_estri_stub(xmm a, xmm b, u64 la, u64 unused, u64 lb);
typedef xmm fp_estrm_stub(xmm a, xmm b, u64 la, u64 unused, u64 lb);
static inline u32 fp_pcmpistri(xmm a, xmm b, u8 imm)
{
    return FP_STRING_STUB(fp_istri_stub, PCMPISTRI, imm)(a, b);
}
static inline xmm fp_pcmpistrm(xmm a, xmm b, u8 imm)
{
    return FP_STRING_STUB(fp_stub, PCMPISTRM, imm)(a, b);
}
static inline u32 fp_pcmpestri(xmm a, xmm b, u64 la, u64 lb, u8 imm)
{
    return FP_STRING_STUB(fp_estri_stub, PCMPESTRI, imm)(a, b, la, 0, lb);
}
static inline xmm fp_pcmpestrm(xmm a, xmm b, u64 la, u64 lb, u8 imm)
{
    return FP_STRING_STUB(fp_estrm_stub, PCMPESTRM, imm)(a, b, la, 0, lb);
}
u32 soft_PCMPISTRI(xmm a, xmm b, u8 imm);
xmm soft_PCMPISTRM(xmm a, xmm b, u8 imm);
u32 soft_PCMPESTRI(xmm a, xmm b, i64 la, i64 lb, u8 imm);
xmm soft_PCMPESTRM(xmm a, xmm b, i64 la, i64 lb, u8 imm);

/* The bit field of `length` bits from bit `index` on, and the same replaced. */
u64 soft_EXTRQ(u64 v, unsigned length, unsigned index);
u64 soft_INSERTQ(u64 v, u64 field, unsigned length, unsigned index);

/* CRC-32C of `crc` and the low `size` bytes of `value`. */
u32 soft_CRC32(u32 crc, u64 value, unsigned size);

/* ---- x87 ---- */

/*
 * Fast paths: all exceptions masked, registers involved not empty (or empty, for a push). Each gives the host's status word
 * right after the operation, of which C1 and the exception flags count, and C0, C2, C3 where the instruction defines them.
 * The host's stack is empty before and after.
 */
#define X87_CLOBBER "st", "st(1)"

/* *a = *a op *b */
#define X87_BINARY(F) F(fadd) F(fsub) F(fsubr) F(fmul) F(fdiv) F(fdivr)
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(struct x87_reg *a, const struct x87_reg *b)                       \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[b]\n\tfldt %[a]\n\t" #insn " %%st(1), %%st\n\tfnstsw %[sw]\n\t"                 \
                     "fstpt %[a]\n\tfstp %%st(0)"                                                            \
                     : [a] "+m"(*a), [sw] "=&a"(sw)                                                          \
                     : [b] "m"(*b)                                                                           \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_BINARY(DEFINE)
#undef DEFINE

/* *a = *a op memory operand: F(name, instruction, type) */
#define X87_BINARY_SIZES(F, op)                                                                              \
    F(f##op##_m32, "f" #op "s", u32)                                                                         \
    F(f##op##_m64, "f" #op "l", u64) F(fi##op##_m16, "fi" #op "s", u16) F(fi##op##_m32, "fi" #op "l", u32)
#define X87_BINARY_MEMORY(F)                                                                                 \
    X87_BINARY_SIZES(F, add)                                                                                 \
    X87_BINARY_SIZES(F, sub)                                                                                 \
    X87_BINARY_SIZES(F, subr) X87_BINARY_SIZES(F, mul) X87_BINARY_SIZES(F, div) X87_BINARY_SIZES(F, divr)
#define DEFINE(name, insn, type)                                                                             \
    static FP_ALWAYS_INLINE u16 x87_##name(struct x87_reg *a, type b)                                        \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[a]\n\t" insn " %[b]\n\tfnstsw %[sw]\n\tfstpt %[a]"                              \
                     : [a] "+m"(*a), [sw] "=&a"(sw)                                                          \
                     : [b] "m"(b)                                                                            \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_BINARY_MEMORY(DEFINE)
#undef DEFINE

/* *a = op(*a) */
#define X87_UNARY(F) F(fsqrt) F(frndint) F(f2xm1) F(fsin) F(fcos)
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(struct x87_reg *a)                                                \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[a]\n\t" #insn "\n\tfnstsw %[sw]\n\tfstpt %[a]"                                  \
                     : [a] "+m"(*a), [sw] "=&a"(sw)                                                          \
                     :                                                                                       \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_UNARY(DEFINE)
#undef DEFINE

/* *a = op(*a, *b), a in ST(0) and b in ST(1), which stays */
#define X87_PARTIAL(F) F(fprem) F(fprem1) F(fscale)
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(struct x87_reg *a, const struct x87_reg *b)                       \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[b]\n\tfldt %[a]\n\t" #insn "\n\tfnstsw %[sw]\n\tfstpt %[a]\n\tfstp %%st(0)"     \
                     : [a] "+m"(*a), [sw] "=&a"(sw)                                                          \
                     : [b] "m"(*b)                                                                           \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_PARTIAL(DEFINE)
#undef DEFINE

/* *b = op(*a, *b), a in ST(0), which is popped */
#define X87_POP(F) F(fyl2x) F(fyl2xp1) F(fpatan)
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(const struct x87_reg *a, struct x87_reg *b)                       \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[b]\n\tfldt %[a]\n\t" #insn "\n\tfnstsw %[sw]\n\tfstpt %[b]"                     \
                     : [b] "+m"(*b), [sw] "=&a"(sw)                                                          \
                     : [a] "m"(*a)                                                                           \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_POP(DEFINE)
#undef DEFINE

/* Compare *a with *b; the status word has the condition code. */
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(const struct x87_reg *a, const struct x87_reg *b)                 \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[b]\n\tfldt %[a]\n\t" #insn "\n\tfnstsw %[sw]"                                   \
                     : [sw] "=&a"(sw)                                                                        \
                     : [a] "m"(*a), [b] "m"(*b)                                                              \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
DEFINE(fcompp)
DEFINE(fucompp)
#undef DEFINE
#define X87_COMPARE_MEMORY(F)                                                                                \
    F(fcom_m32, "fcomps", u32)                                                                               \
    F(fcom_m64, "fcompl", u64) F(ficom_m16, "ficomps", u16) F(ficom_m32, "ficompl", u32)
#define DEFINE(name, insn, type)                                                                             \
    static FP_ALWAYS_INLINE u16 x87_##name(const struct x87_reg *a, type b)                                  \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[a]\n\t" insn " %[b]\n\tfnstsw %[sw]"                                            \
                     : [sw] "=&a"(sw)                                                                        \
                     : [a] "m"(*a), [b] "m"(b)                                                               \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_COMPARE_MEMORY(DEFINE)
#undef DEFINE
/* Compare into the arithmetic flags (packed, flags.h), in bits 16..31; status word below. */
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u32 x87_##insn(const struct x87_reg *a, const struct x87_reg *b)                 \
    {                                                                                                        \
        u32 flags;                                                                                           \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[b]\n\tfldt %[a]\n\t" #insn " %%st(1), %%st\n\tfnstsw %[sw]\n\t"                 \
                     "lahf\n\tseto %%al\n\tfstp %%st(0)\n\tfstp %%st(0)"                                     \
                     : [sw] "=m"(sw), "=&a"(flags)                                                           \
                     : [a] "m"(*a), [b] "m"(*b)                                                              \
                     : X87_CLOBBER, "cc");                                                                   \
        return flags << 16 | sw;                                                                             \
    }
DEFINE(fcomi)
DEFINE(fucomi)
#undef DEFINE

/* FTST and FXAM. */
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(const struct x87_reg *a)                                          \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[a]\n\t" #insn "\n\tfnstsw %[sw]\n\tfstp %%st(0)"                                \
                     : [sw] "=&a"(sw)                                                                        \
                     : [a] "m"(*a)                                                                           \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
DEFINE(ftst)
DEFINE(fxam)
#undef DEFINE

/* *a = memory operand */
#define X87_LOAD(F)                                                                                          \
    F(fld_m32, "flds", u32)                                                                                  \
    F(fld_m64, "fldl", u64) F(fild_m16, "filds", u16) F(fild_m32, "fildl", u32) F(fild_m64, "fildll", u64)
#define DEFINE(name, insn, type)                                                                             \
    static FP_ALWAYS_INLINE u16 x87_##name(struct x87_reg *a, type b)                                        \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile(insn " %[b]\n\tfnstsw %[sw]\n\tfstpt %[a]"                                              \
                     : [a] "=m"(*a), [sw] "=&a"(sw)                                                          \
                     : [b] "m"(b)                                                                            \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_LOAD(DEFINE)
#undef DEFINE

/* Memory operand = *a */
#define X87_STORE(F)                                                                                         \
    F(fst_m32, "fstps", u32)                                                                                 \
    F(fst_m64, "fstpl", u64)                                                                                 \
    F(fist_m16, "fistps", u16)                                                                               \
    F(fist_m32, "fistpl", u32)                                                                               \
    F(fist_m64, "fistpll", u64)                                                                              \
    F(fisttp_m16, "fisttps", u16) F(fisttp_m32, "fisttpl", u32) F(fisttp_m64, "fisttpll", u64)
#define DEFINE(name, insn, type)                                                                             \
    static FP_ALWAYS_INLINE u16 x87_##name(const struct x87_reg *a, type *b)                                 \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile("fldt %[a]\n\t" insn " %[b]\n\tfnstsw %[sw]"                                            \
                     : [b] "=m"(*b), [sw] "=&a"(sw)                                                          \
                     : [a] "m"(*a)                                                                           \
                     : X87_CLOBBER);                                                                         \
        return sw;                                                                                           \
    }
X87_STORE(DEFINE)
#undef DEFINE

#define X87_CONSTANT(F) F(fld1) F(fldl2t) F(fldl2e) F(fldpi) F(fldlg2) F(fldln2) F(fldz)
#define DEFINE(insn)                                                                                         \
    static FP_ALWAYS_INLINE u16 x87_##insn(struct x87_reg *a)                                                \
    {                                                                                                        \
        u16 sw;                                                                                              \
                                                                                                             \
        asm volatile(#insn "\n\tfnstsw %[sw]\n\tfstpt %[a]" : [a] "=m"(*a), [sw] "=&a"(sw) : : X87_CLOBBER); \
        return sw;                                                                                           \
    }
X87_CONSTANT(DEFINE)
#undef DEFINE

/*
 * The whole x87 state through the host: the instruction with opcode byte D8h + `opcode` and ModRM byte `modrm` (memory
 * forms: only its reg field counts, the operand is at `operand`) executes on the guest's registers, status, control and
 * tag words, with the exceptions unmasked that the guest has unmasked, and so with all their effects on stack and results.
 * Not for control instructions. No exception may be pending. `flags` (flags.h, packed) are what FCMOVcc sees and FCOMI
 * sets. Leaves the host's FPU initialised: fp_set_fcw must follow.
 */
void x87_execute(struct x87_state *x87, u8 opcode, u8 modrm, void *operand, u16 *flags);

#endif
