/*
 * SSE to SSE4.1: floating-point arithmetic, comparisons, conversions, and the moves that go with them. Also those VEX forms
 * that need no other handler, because they write no vector register, or that differ in one operand.
 */
#include "engine/interp/flags.h"
#include "engine/interp/ops_avx.h"

FP_SSE2_FLOAT(SSE_FLOAT_OP)
FP_SSE3_FLOAT(SSE_FLOAT_OP)
FP_IMM_COMPARE(SSE_FLOAT_IMM_OP)
FP_IMM_FLOAT(SSE_FLOAT_IMM_OP)

/* ---- moves of whole registers: one set of handlers for all types ---- */

static void move_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, xmm_get(s, i->rm));
    NEXT;
}
static void move_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->rm, xmm_get(s, i->reg));
    NEXT;
}
static void load_aligned_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, sse_load(s, c, i, 16));
    NEXT;
}
static void load_unaligned_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, sse_load_unaligned(s, c, i));
    NEXT;
}
static void store_aligned_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store_bytes(c, i, sse_aligned_ea(s, c, i, 16, MEM_WRITE), s->vec[i->reg], 16);
    NEXT;
}
static void store_unaligned_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store_bytes(c, i, interp_ea(s, c, i, 16, MEM_WRITE), s->vec[i->reg], 16);
    NEXT;
}

/* ---- moves of parts ---- */

static void movss_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set32(s, i->reg, xmm_get32(s, i->rm));
    NEXT;
}
static void movss_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, sse_load(s, c, i, 4));
    NEXT;
}
static void movss_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set32(s, i->rm, xmm_get32(s, i->reg));
    NEXT;
}
static void store_low32_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store32(c, i, interp_ea(s, c, i, 4, MEM_WRITE), xmm_get32(s, i->reg));
    NEXT;
}
static void movsd_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set64(s, i->reg, xmm_get64(s, i->rm));
    NEXT;
}
/* MOVSD and MOVQ: the rest becomes zero. */
static void load_low64_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, sse_load(s, c, i, 8));
    NEXT;
}
static void movsd_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set64(s, i->rm, xmm_get64(s, i->reg));
    NEXT;
}
static void store_low64_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store64(c, i, interp_ea(s, c, i, 8, MEM_WRITE), xmm_get64(s, i->reg));
    NEXT;
}
static void store_high64_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store64(c, i, interp_ea(s, c, i, 8, MEM_WRITE), xmm_get(s, i->reg)[1]);
    NEXT;
}
/* MOVLPS, MOVLPD: the rest stays. */
static void movlps_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set64(s, i->reg, load64(c, i, interp_ea(s, c, i, 8, MEM_READ)));
    NEXT;
}
static void movhps_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 high = load64(c, i, interp_ea(s, c, i, 8, MEM_READ));

    xmm_set(s, i->reg, (xmm){xmm_get64(s, i->reg), high});
    NEXT;
}
static void movhlps_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set64(s, i->reg, xmm_get(s, i->rm)[1]);
    NEXT;
}
static void movlhps_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->reg, (xmm){xmm_get64(s, i->reg), xmm_get64(s, i->rm)});
    NEXT;
}
#define MOVE_MASK(insn, elements)                                                                            \
    static u32 signs_##insn(xmm v)                                                                           \
    {                                                                                                        \
        u32 mask;                                                                                            \
                                                                                                             \
        asm(#insn " %1, %0" : "=r"(mask) : "x"(v));                                                          \
        return mask;                                                                                         \
    }                                                                                                        \
    static void insn##_128_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        s->gpr[i->reg] = signs_##insn(xmm_get(s, i->rm));                                                    \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void insn##_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        struct ymm v = ymm_get(s, i->rm);                                                                    \
                                                                                                             \
        s->gpr[i->reg] = signs_##insn(v.lo) | signs_##insn(v.hi) << elements;                                \
        NEXT;                                                                                                \
    }
MOVE_MASK(movmskps, 4)
MOVE_MASK(movmskpd, 2)

/* INSERTPS: source element (register only), destination element, mask of elements to clear. */
static xmm insertps(xmm a, u32 element, u8 imm)
{
    union xmm_parts r = {a};

    r.d[imm >> 4 & 3] = element;
    for (unsigned n = 0; n < 4; n++)
        if (imm >> n & 1)
            r.d[n] = 0;
    return r.v;
}
#define INSERTPS(name, first, set)                                                                           \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        union xmm_parts b = {xmm_get(s, i->rm)};                                                             \
                                                                                                             \
        set(s, i->reg, insertps(xmm_get(s, i->first), b.d[(u8)i->imm >> 6], (u8)i->imm));                    \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        u32 element = load32(c, i, interp_ea(s, c, i, 4, MEM_READ));                                         \
                                                                                                             \
        set(s, i->reg, insertps(xmm_get(s, i->first), element, (u8)i->imm));                                 \
        NEXT;                                                                                                \
    }
INSERTPS(insertps, reg, xmm_set)
INSERTPS(vinsertps, vvvv, ymm_set_low)

/* ---- comparisons into the arithmetic flags ---- */

static const xmm nothing_tiny = {0, 0};

#define COMPARE(name, bytes)                                                                                 \
    static u16 compare_##name(xmm a, xmm b)                                                                  \
    {                                                                                                        \
        u32 flags;                                                                                           \
                                                                                                             \
        asm volatile(#name " %[b], %[a]\n\t" ASM_GET_FLAGS : "=&a"(flags) : [a] "x"(a), [b] "x"(b) : "cc");  \
        return (u16)flags;                                                                                   \
    }                                                                                                        \
    FLOAT_HANDLER(name##_r, u16 flags; fp_begin(c);                                                          \
                  flags = compare_##name(xmm_get(s, i->reg), xmm_get(s, i->rm));                             \
                  fp_end(c, i, nothing_tiny, FP_TINY_none); c->flags = flags; NEXT;)                         \
    FLOAT_HANDLER(name##_m, xmm b = sse_load(s, c, i, bytes); u16 flags; fp_begin(c);                        \
                  flags = compare_##name(xmm_get(s, i->reg), b); fp_end(c, i, nothing_tiny, FP_TINY_none);   \
                  c->flags = flags; NEXT;)
COMPARE(ucomiss, 4)
COMPARE(ucomisd, 8)
COMPARE(comiss, 4)
COMPARE(comisd, 8)

/* ---- conversions between general and vector registers ---- */

#define FROM_INTEGER_HANDLERS(name, with, bits, first, set)                                                  \
    FLOAT_HANDLER(name##_r, xmm r; fp_begin(c); r = with(xmm_get(s, i->first), (u##bits)s->gpr[i->rm]);      \
                  fp_end(c, i, r, FP_TINY_none); set(s, i->reg, r); NEXT;)                                   \
    FLOAT_HANDLER(name##_m, u##bits b = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)); xmm r;     \
                  fp_begin(c); r = with(xmm_get(s, i->first), b); fp_end(c, i, r, FP_TINY_none);             \
                  set(s, i->reg, r); NEXT;)
#define FROM_INTEGER(name, insn, bits)                                                                       \
    static xmm do_##name(xmm a, u##bits b)                                                                   \
    {                                                                                                        \
        asm volatile(insn " %[b], %[a]" : [a] "+x"(a) : [b] "r"(b));                                         \
        return a;                                                                                            \
    }                                                                                                        \
    FROM_INTEGER_HANDLERS(name, do_##name, bits, reg, xmm_set)                                               \
    FROM_INTEGER_HANDLERS(v##name, do_##name, bits, vvvv, ymm_set_low)
FROM_INTEGER(cvtsi2ss32, "cvtsi2ssl", 32)
FROM_INTEGER(cvtsi2ss64, "cvtsi2ssq", 64)
FROM_INTEGER(cvtsi2sd32, "cvtsi2sdl", 32)
FROM_INTEGER(cvtsi2sd64, "cvtsi2sdq", 64)

#define TO_INTEGER(name, insn, bits, bytes)                                                                  \
    static u##bits do_##name(xmm b)                                                                          \
    {                                                                                                        \
        u##bits r;                                                                                           \
                                                                                                             \
        asm volatile(insn " %[b], %[r]" : [r] "=r"(r) : [b] "x"(b));                                         \
        return r;                                                                                            \
    }                                                                                                        \
    FLOAT_HANDLER(name##_r, u##bits r; fp_begin(c); r = do_##name(xmm_get(s, i->rm));                        \
                  fp_end(c, i, nothing_tiny, FP_TINY_none); s->gpr[i->reg] = r; NEXT;)                       \
    FLOAT_HANDLER(name##_m, xmm b = sse_load(s, c, i, bytes); u##bits r; fp_begin(c); r = do_##name(b);      \
                  fp_end(c, i, nothing_tiny, FP_TINY_none); s->gpr[i->reg] = r; NEXT;)
TO_INTEGER(cvtss2si32, "cvtss2sil", 32, 4)
TO_INTEGER(cvtss2si64, "cvtss2siq", 64, 4)
TO_INTEGER(cvttss2si32, "cvttss2sil", 32, 4)
TO_INTEGER(cvttss2si64, "cvttss2siq", 64, 4)
TO_INTEGER(cvtsd2si32, "cvtsd2sil", 32, 8)
TO_INTEGER(cvtsd2si64, "cvtsd2siq", 64, 8)
TO_INTEGER(cvttsd2si32, "cvttsd2sil", 32, 8)
TO_INTEGER(cvttsd2si64, "cvttsd2siq", 64, 8)
#define ROW_Y(op, name)                                                                                      \
    {OP_##op, 0, {name##32_r, name##32_r, name##64_r}, {name##32_m, name##32_m, name##64_m}},

/* clang-format off */
const struct interp_row interp_sse_fp_rows[] = {
    FP_SSE2_FLOAT(SSE_ROW)
    FP_SSE3_FLOAT(SSE_ROW)
    FP_IMM_COMPARE(SSE_ROW)
    FP_IMM_FLOAT(SSE_ROW)

    ROW_RM(MOVUPS_Vps_Wps, move_r, load_unaligned_m)
    ROW_RM(MOVUPD_Vpd_Wpd, move_r, load_unaligned_m)
    ROW_RM(MOVDQU_Vdq_Wdq, move_r, load_unaligned_m)
    ROW_RM(MOVAPS_Vps_Wps, move_r, load_aligned_m)
    ROW_RM(MOVAPD_Vpd_Wpd, move_r, load_aligned_m)
    ROW_RM(MOVDQA_Vdq_Wdq, move_r, load_aligned_m)
    ROW_RM(MOVUPS_Wps_Vps, move_back_r, store_unaligned_m)
    ROW_RM(MOVUPD_Wpd_Vpd, move_back_r, store_unaligned_m)
    ROW_RM(MOVDQU_Wdq_Vdq, move_back_r, store_unaligned_m)
    ROW_RM(MOVAPS_Wps_Vps, move_back_r, store_aligned_m)
    ROW_RM(MOVAPD_Wpd_Vpd, move_back_r, store_aligned_m)
    ROW_RM(MOVDQA_Wdq_Vdq, move_back_r, store_aligned_m)
    ROW_M(LDDQU_Vdq_Mdq, load_unaligned_m)
    ROW_M(MOVNTDQA_Vdq_Mdq, load_aligned_m)
    ROW_M(MOVNTPS_Mps_Vps, store_aligned_m)
    ROW_M(MOVNTPD_Mpd_Vpd, store_aligned_m)
    ROW_M(MOVNTDQ_Mdq_Vdq, store_aligned_m)

    ROW_RM(MOVSS_Vss_Wss, movss_r, movss_m)
    ROW_RM(MOVSS_Wss_Vss, movss_back_r, store_low32_m)
    ROW_RM(MOVSD_Vsd_Wsd, movsd_r, load_low64_m)
    ROW_RM(MOVSD_Wsd_Vsd, movsd_back_r, store_low64_m)
    ROW_M(MOVLPS_Vq_Mq, movlps_m)
    ROW_M(MOVLPD_Vq_Mq, movlps_m)
    ROW_M(MOVHPS_Vq_Mq, movhps_m)
    ROW_M(MOVHPD_Vq_Mq, movhps_m)
    ROW_M(MOVLPS_Mq_Vq, store_low64_m)
    ROW_M(MOVLPD_Mq_Vq, store_low64_m)
    ROW_M(MOVHPS_Mq_Vq, store_high64_m)
    ROW_M(MOVHPD_Mq_Vq, store_high64_m)
    ROW_R(MOVHLPS_Vq_Uq, movhlps_r)
    ROW_R(MOVLHPS_Vq_Uq, movlhps_r)
    ROW_R(MOVMSKPS_Gd_Ups, movmskps_128_r)
    ROW_R(MOVMSKPD_Gd_Upd, movmskpd_128_r)
    ROW_RM(INSERTPS_Vdq_UdqMd_Ib, insertps_r, insertps_m)

    ROW_RM(UCOMISS_Vss_Wss, ucomiss_r, ucomiss_m)
    ROW_RM(UCOMISD_Vsd_Wsd, ucomisd_r, ucomisd_m)
    ROW_RM(COMISS_Vss_Wss, comiss_r, comiss_m)
    ROW_RM(COMISD_Vsd_Wsd, comisd_r, comisd_m)

    ROW_Y(CVTSI2SS_Vss_Ey, cvtsi2ss)
    ROW_Y(CVTSI2SD_Vsd_Ey, cvtsi2sd)
    ROW_Y(CVTSS2SI_Gy_Wss, cvtss2si)
    ROW_Y(CVTSD2SI_Gy_Wsd, cvtsd2si)
    ROW_Y(CVTTSS2SI_Gy_Wss, cvttss2si)
    ROW_Y(CVTTSD2SI_Gy_Wsd, cvttsd2si)
    /* VEX */
    ROW_M(VMOVSS_Mss_Vss, store_low32_m)
    ROW_M(VMOVSD_Msd_Vsd, store_low64_m)
    ROW_M(VMOVLPS_Mq_Vq, store_low64_m)
    ROW_M(VMOVLPD_Mq_Vq, store_low64_m)
    ROW_M(VMOVHPS_Mq_Vq, store_high64_m)
    ROW_M(VMOVHPD_Mq_Vq, store_high64_m)
    {OP_VMOVMSKPS_Gd_Ups, ROW_VEX_L, .reg = {movmskps_128_r, movmskps_256_r}},
    {OP_VMOVMSKPD_Gd_Upd, ROW_VEX_L, .reg = {movmskpd_128_r, movmskpd_256_r}},
    ROW_RM(VINSERTPS_Vdq_Hdq_UdqMd_Ib, vinsertps_r, vinsertps_m)

    ROW_RM(VUCOMISS_Vss_Wss, ucomiss_r, ucomiss_m)
    ROW_RM(VUCOMISD_Vsd_Wsd, ucomisd_r, ucomisd_m)
    ROW_RM(VCOMISS_Vss_Wss, comiss_r, comiss_m)
    ROW_RM(VCOMISD_Vsd_Wsd, comisd_r, comisd_m)

    ROW_Y(VCVTSI2SS_Vss_Hss_Ey, vcvtsi2ss)
    ROW_Y(VCVTSI2SD_Vsd_Hsd_Ey, vcvtsi2sd)
    ROW_Y(VCVTSS2SI_Gy_Wss, cvtss2si)
    ROW_Y(VCVTSD2SI_Gy_Wsd, cvtsd2si)
    ROW_Y(VCVTTSS2SI_Gy_Wss, cvttss2si)
    ROW_Y(VCVTTSD2SI_Gy_Wsd, cvttsd2si)
    ROW_LAST,
};
