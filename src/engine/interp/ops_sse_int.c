/*
 * SSE2 to SSE4.2: integers in XMM registers, string compares, and moves between register files. Also those VEX forms that
 * need no other handler, because they write no vector register, or that differ in one operand.
 */
#include "engine/interp/flags.h"
#include "engine/interp/ops_avx.h"

FP_SSE2_INT(SSE_INT_OP)
FP_SSSE3_INT(SSE_INT_OP)
FP_SSE4_INT(SSE_INT_OP)
FP_XMM0_BLEND(SSE_XMM0_OP)
FP_IMM_SSE2(SSE_IMM_OP)
FP_IMM_INT(SSE_IMM_OP)

/* ---- moves ---- */

/* From a general register or memory, and between XMM registers, where MOVQ clears the upper half whichever way it is coded. */
#define MOVE_IN(v, set)                                                                                      \
    static void v##movd_from_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        set(s, i->reg, xmm_from64((u32)s->gpr[i->rm]));                                                      \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void v##movd_from_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        set(s, i->reg, sse_load(s, c, i, 4));                                                                \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void v##movq_from_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        set(s, i->reg, xmm_from64(s->gpr[i->rm]));                                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void v##movq_from_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        set(s, i->reg, sse_load(s, c, i, 8));                                                                \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void v##movq_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                      \
    {                                                                                                        \
        set(s, i->reg, xmm_from64(xmm_get64(s, i->rm)));                                                     \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void v##movq_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        set(s, i->rm, xmm_from64(xmm_get64(s, i->reg)));                                                     \
        NEXT;                                                                                                \
    }
MOVE_IN(, xmm_set)
MOVE_IN(v, ymm_set_low)
static void movd_to_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    s->gpr[i->rm] = xmm_get32(s, i->reg);
    NEXT;
}
static void movd_to_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store32(c, i, interp_ea(s, c, i, 4, MEM_WRITE), xmm_get32(s, i->reg));
    NEXT;
}
static void movq_to_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    s->gpr[i->rm] = xmm_get64(s, i->reg);
    NEXT;
}
static void movq_to_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store64(c, i, interp_ea(s, c, i, 8, MEM_WRITE), xmm_get64(s, i->reg));
    NEXT;
}
static void pmovmskb_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u32 mask;

    asm("pmovmskb %1, %0" : "=r"(mask) : "x"(xmm_get(s, i->rm)));
    s->gpr[i->reg] = mask;
    NEXT;
}
static void pmovmskb_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct ymm v = ymm_get(s, i->rm);
    u32 low, high;

    asm("pmovmskb %1, %0" : "=r"(low) : "x"(v.lo));
    asm("pmovmskb %1, %0" : "=r"(high) : "x"(v.hi));
    s->gpr[i->reg] = low | high << 16;
    NEXT;
}
static void maskmovdqu_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    interp_masked_store(s, c, i, s->vec[i->reg], s->vec[i->rm], 16);
    NEXT;
}

/* ---- one element in, one element out ---- */

/* PINSRx and PEXTRx: elements of `bits` in field `f` of the vector, the immediate cut to the number of elements. `first` and
   `set` are as in VECTOR_SHAPE. */
#define INSERT(name, first, set, f, bits)                                                                    \
    static void insert_##name(struct vcpu_state *s, const struct cell *i, u##bits element)                   \
    {                                                                                                        \
        union xmm_parts v = {xmm_get(s, i->first)};                                                          \
                                                                                                             \
        v.f[(u8)i->imm % (128 / bits)] = element;                                                            \
        set(s, i->reg, v.v);                                                                                 \
    }                                                                                                        \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        insert_##name(s, i, (u##bits)s->gpr[i->rm]);                                                         \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        insert_##name(s, i, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                       \
        NEXT;                                                                                                \
    }
INSERT(pinsrb, reg, xmm_set, b, 8)
INSERT(vpinsrb, vvvv, ymm_set_low, b, 8)
INSERT(pinsrw, reg, xmm_set, w, 16)
INSERT(vpinsrw, vvvv, ymm_set_low, w, 16)
INSERT(pinsrd, reg, xmm_set, d, 32)
INSERT(vpinsrd, vvvv, ymm_set_low, d, 32)
INSERT(pinsrq, reg, xmm_set, q, 64)
INSERT(vpinsrq, vvvv, ymm_set_low, q, 64)
#define EXTRACT(name, f, bits)                                                                               \
    static u##bits extract_##name(const struct vcpu_state *s, const struct cell *i)                          \
    {                                                                                                        \
        union xmm_parts v = {xmm_get(s, i->reg)};                                                            \
                                                                                                             \
        return v.f[(u8)i->imm % (128 / bits)];                                                               \
    }                                                                                                        \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        s->gpr[i->rm] = extract_##name(s, i);                                                                \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), extract_##name(s, i));                    \
        NEXT;                                                                                                \
    }
EXTRACT(pextrb, b, 8)
EXTRACT(pextrw, w, 16)
EXTRACT(pextrd, d, 32)
EXTRACT(pextrq, q, 64)
/* The older form has its operands the other way round. */
static void pextrw_from_rm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    union xmm_parts v = {xmm_get(s, i->rm)};

    s->gpr[i->reg] = v.w[i->imm & 7];
    NEXT;
}

/* ---- shifts by an immediate ---- */

#define SHIFT(name)                                                                                          \
    static void name##_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm_set(s, i->rm, xmm_##name(&c->fp, xmm_get(s, i->rm), xmm_from64((u8)i->imm)));                    \
        NEXT;                                                                                                \
    }
SHIFT(PSLLW)
SHIFT(PSLLD)
SHIFT(PSLLQ)
SHIFT(PSRLW)
SHIFT(PSRLD)
SHIFT(PSRLQ)
SHIFT(PSRAW)
SHIFT(PSRAD)

static void psrldq_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->rm, xmm_shift_right_bytes(xmm_get(s, i->rm), (u8)i->imm));
    NEXT;
}
static void pslldq_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set(s, i->rm, xmm_shift_left_bytes(xmm_get(s, i->rm), (u8)i->imm));
    NEXT;
}
SSE_SHAPE(palignr, 16, xmm_bytes_from(b, a, (u8)i->imm))

/* ---- into the arithmetic flags ---- */

/* VTESTPS and VTESTPD look only at the sign bits, which are in `mask`. */
static u16 test(struct ymm a, struct ymm b, u64 mask)
{
    xmm both = (a.lo & b.lo) | (a.hi & b.hi), second = (~a.lo & b.lo) | (~a.hi & b.hi);

    return ((both[0] | both[1]) & mask ? 0 : PACKED_ZF) | ((second[0] | second[1]) & mask ? 0 : PACKED_CF) |
           1 << 9;
}
static struct ymm low_get(const struct vcpu_state *s, unsigned n)
{
    return (struct ymm){xmm_get(s, n), {0, 0}};
}
static ALWAYS_INLINE struct ymm low_load(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    return (struct ymm){avx_load(s, c, i, 16), {0, 0}};
}
static ALWAYS_INLINE struct ymm low_load_aligned(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    return (struct ymm){sse_load(s, c, i, 16), {0, 0}};
}
#define TEST(name, get, load, mask)                                                                          \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        c->flags = test(get(s, i->reg), get(s, i->rm), mask);                                                \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        c->flags = test(get(s, i->reg), load(s, c, i), mask);                                                \
        NEXT;                                                                                                \
    }
#define TEST_L(name, mask)                                                                                   \
    TEST(name##_128, low_get, low_load, mask)                                                                \
    TEST(name##_256, ymm_get, avx_load_ymm, mask)
TEST(ptest, low_get, low_load_aligned, UINT64_MAX)
TEST_L(vptest, UINT64_MAX)
TEST_L(vtestps, 0x8000000080000000)
TEST_L(vtestpd, 0x8000000000000000)

/*
 * String compares. Lengths count up to 16, so that the 64-bit ones of REX.W fit in 32 bits for the host's instruction. The
 * memory operand need not be aligned.
 */
static u64 string_length_operand(const struct vcpu_state *s, const struct cell *i, unsigned reg)
{
    i64 n = i->flags & CELL_OP64 ? (i64)s->gpr[reg] : (i32)s->gpr[reg];

    return n > 16 ? 16 : n < -16 ? (u64)-16 : (u64)n;
}
static u32 string_compare(const struct vcpu_state *s, const struct interp *c, const struct cell *i, xmm a,
                          xmm b, bool explicit_lengths, xmm *mask)
{
    u8 imm = (u8)i->imm & 0x7f;
    u64 la, lb;

    if (explicit_lengths) {
        la = string_length_operand(s, i, RAX);
        lb = string_length_operand(s, i, RDX);
        if (!FP_HAS(&c->fp, SSE4_2)) {
            if (mask)
                *mask = soft_PCMPESTRM(a, b, (i64)la, (i64)lb, imm);
            return soft_PCMPESTRI(a, b, (i64)la, (i64)lb, imm);
        }
        if (mask)
            *mask = fp_pcmpestrm(a, b, la, lb, imm);
        return fp_pcmpestri(a, b, la, lb, imm);
    }
    if (!FP_HAS(&c->fp, SSE4_2)) {
        if (mask)
            *mask = soft_PCMPISTRM(a, b, imm);
        return soft_PCMPISTRI(a, b, imm);
    }
    if (mask)
        *mask = fp_pcmpistrm(a, b, imm);
    return fp_pcmpistri(a, b, imm);
}
#define STRING_INDEX(name, explicit_lengths, operand, source)                                                \
    static void name##operand(struct vcpu_state *s, struct interp *c, const struct cell *i)                  \
    {                                                                                                        \
        u32 r = string_compare(s, c, i, xmm_get(s, i->reg), source, explicit_lengths, NULL);                 \
                                                                                                             \
        s->gpr[RCX] = r >> 16;                                                                               \
        c->flags = (u16)r;                                                                                   \
        NEXT;                                                                                                \
    }
#define STRING_MASK(name, explicit_lengths, operand, source, set)                                            \
    static void name##operand(struct vcpu_state *s, struct interp *c, const struct cell *i)                  \
    {                                                                                                        \
        xmm mask;                                                                                            \
                                                                                                             \
        c->flags = (u16)string_compare(s, c, i, xmm_get(s, i->reg), source, explicit_lengths, &mask);        \
        set(s, 0, mask);                                                                                     \
        NEXT;                                                                                                \
    }
STRING_INDEX(pcmpestri, true, _r, xmm_get(s, i->rm))
STRING_INDEX(pcmpestri, true, _m, sse_load_unaligned(s, c, i))
STRING_INDEX(pcmpistri, false, _r, xmm_get(s, i->rm))
STRING_INDEX(pcmpistri, false, _m, sse_load_unaligned(s, c, i))
STRING_MASK(pcmpestrm, true, _r, xmm_get(s, i->rm), xmm_set)
STRING_MASK(vpcmpestrm, true, _r, xmm_get(s, i->rm), ymm_set_low)
STRING_MASK(pcmpestrm, true, _m, sse_load_unaligned(s, c, i), xmm_set)
STRING_MASK(vpcmpestrm, true, _m, sse_load_unaligned(s, c, i), ymm_set_low)
STRING_MASK(pcmpistrm, false, _r, xmm_get(s, i->rm), xmm_set)
STRING_MASK(vpcmpistrm, false, _r, xmm_get(s, i->rm), ymm_set_low)
STRING_MASK(pcmpistrm, false, _m, sse_load_unaligned(s, c, i), xmm_set)
STRING_MASK(vpcmpistrm, false, _m, sse_load_unaligned(s, c, i), ymm_set_low)

/* ---- SSE4A. The upper half, which the manual leaves undefined, stays (APM 4) ---- */

static void extrq_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm_set64(s, i->rm, soft_EXTRQ(xmm_get64(s, i->rm), (u8)i->imm, (u8)i->disp));
    NEXT;
}
static void extrq_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 field = xmm_get64(s, i->rm);

    xmm_set64(s, i->reg, soft_EXTRQ(xmm_get64(s, i->reg), (u8)field, (u8)(field >> 8)));
    NEXT;
}
static void insertq_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 from = xmm_get64(s, i->rm);

    xmm_set64(s, i->reg, soft_INSERTQ(xmm_get64(s, i->reg), from, (u8)i->imm, (u8)i->disp));
    NEXT;
}
static void insertq_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm from = xmm_get(s, i->rm);

    xmm_set64(s, i->reg, soft_INSERTQ(xmm_get64(s, i->reg), from[0], (u8)from[1], (u8)(from[1] >> 8)));
    NEXT;
}

/* clang-format off */
const struct interp_row interp_sse_int_rows[] = {
    FP_SSE2_INT(SSE_ROW)
    FP_SSSE3_INT(SSE_ROW)
    FP_SSE4_INT(SSE_ROW)
    FP_XMM0_BLEND(SSE_ROW)
    FP_IMM_SSE2(SSE_ROW)
    FP_IMM_INT(SSE_ROW)

    ROW_RM(MOVD_Vdq_Ed, movd_from_r, movd_from_m)
    ROW_RM(MOVQ_Vdq_Eq, movq_from_r, movq_from_m)
    ROW_RM(MOVD_Ed_Vdq, movd_to_r, movd_to_m)
    ROW_RM(MOVQ_Eq_Vdq, movq_to_r, movq_to_m)
    ROW_RM(MOVQ_Vq_Wq, movq_r, movq_from_m)
    ROW_RM(MOVQ_Wq_Vq, movq_back_r, movq_to_m)
    ROW_R(PMOVMSKB_Gd_Udq, pmovmskb_r)
    ROW_R(MASKMOVDQU_Vdq_Udq, maskmovdqu_r)

    ROW_RM(PINSRB_Vdq_RdMb_Ib, pinsrb_r, pinsrb_m)
    ROW_RM(PINSRW_Vdq_RdMw_Ib, pinsrw_r, pinsrw_m)
    ROW_RM(PINSRD_Vdq_Ed_Ib, pinsrd_r, pinsrd_m)
    ROW_RM(PINSRQ_Vdq_Eq_Ib, pinsrq_r, pinsrq_m)
    ROW_RM(PEXTRB_RdMb_Vdq_Ib, pextrb_r, pextrb_m)
    ROW_RM(PEXTRW_RdMw_Vdq_Ib, pextrw_r, pextrw_m)
    ROW_RM(PEXTRD_Ed_Vdq_Ib, pextrd_r, pextrd_m)
    ROW_RM(PEXTRQ_Eq_Vdq_Ib, pextrq_r, pextrq_m)
    ROW_RM(EXTRACTPS_Ed_Vdq_Ib, pextrd_r, pextrd_m)
    ROW_R(PEXTRW_Gd_Udq_Ib, pextrw_from_rm_r)

    ROW_R(PSLLW_Udq_Ib, PSLLW_imm_r)
    ROW_R(PSLLD_Udq_Ib, PSLLD_imm_r)
    ROW_R(PSLLQ_Udq_Ib, PSLLQ_imm_r)
    ROW_R(PSRLW_Udq_Ib, PSRLW_imm_r)
    ROW_R(PSRLD_Udq_Ib, PSRLD_imm_r)
    ROW_R(PSRLQ_Udq_Ib, PSRLQ_imm_r)
    ROW_R(PSRAW_Udq_Ib, PSRAW_imm_r)
    ROW_R(PSRAD_Udq_Ib, PSRAD_imm_r)
    ROW_R(PSRLDQ_Udq_Ib, psrldq_imm_r)
    ROW_R(PSLLDQ_Udq_Ib, pslldq_imm_r)
    ROW_RM(PALIGNR_Vdq_Wdq_Ib, palignr_r, palignr_m)

    ROW_RM(PTEST_Vdq_Wdq, ptest_r, ptest_m)
    ROW_RM(PCMPESTRI_Vdq_Wdq_Ib, pcmpestri_r, pcmpestri_m)
    ROW_RM(PCMPESTRM_Vdq_Wdq_Ib, pcmpestrm_r, pcmpestrm_m)
    ROW_RM(PCMPISTRI_Vdq_Wdq_Ib, pcmpistri_r, pcmpistri_m)
    ROW_RM(PCMPISTRM_Vdq_Wdq_Ib, pcmpistrm_r, pcmpistrm_m)

    ROW_R(EXTRQ_Udq_Ib_Ib, extrq_imm_r)
    ROW_R(EXTRQ_Vdq_Udq, extrq_r)
    ROW_R(INSERTQ_Vdq_Udq_Ib_Ib, insertq_imm_r)
    ROW_R(INSERTQ_Vdq_Udq, insertq_r)
    ROW_M(MOVNTSS_Mss_Vss, movd_to_m)
    ROW_M(MOVNTSD_Msd_Vsd, movq_to_m)

    /* VEX */
    ROW_RM(VMOVD_Vdq_Ed, vmovd_from_r, vmovd_from_m)
    ROW_RM(VMOVQ_Vdq_Eq, vmovq_from_r, vmovq_from_m)
    ROW_RM(VMOVD_Ed_Vdq, movd_to_r, movd_to_m)
    ROW_RM(VMOVQ_Eq_Vdq, movq_to_r, movq_to_m)
    ROW_RM(VMOVQ_Vq_Wq, vmovq_r, vmovq_from_m)
    ROW_RM(VMOVQ_Wq_Vq, vmovq_back_r, movq_to_m)
    ROW_R(VPMOVMSKB_Gd_Udq, pmovmskb_r)
    ROW_R(VPMOVMSKB_Gd_Uqq, pmovmskb_256_r)
    ROW_R(VMASKMOVDQU_Vdq_Udq, maskmovdqu_r)

    ROW_RM(VPINSRB_Vdq_Hdq_RdMb_Ib, vpinsrb_r, vpinsrb_m)
    ROW_RM(VPINSRW_Vdq_Hdq_RdMw_Ib, vpinsrw_r, vpinsrw_m)
    ROW_RM(VPINSRD_Vdq_Hdq_Ed_Ib, vpinsrd_r, vpinsrd_m)
    ROW_RM(VPINSRQ_Vdq_Hdq_Eq_Ib, vpinsrq_r, vpinsrq_m)
    ROW_RM(VPEXTRB_RdMb_Vdq_Ib, pextrb_r, pextrb_m)
    ROW_RM(VPEXTRW_RdMw_Vdq_Ib, pextrw_r, pextrw_m)
    ROW_RM(VPEXTRD_Ed_Vdq_Ib, pextrd_r, pextrd_m)
    ROW_RM(VPEXTRQ_Eq_Vdq_Ib, pextrq_r, pextrq_m)
    ROW_RM(VEXTRACTPS_Ed_Vdq_Ib, pextrd_r, pextrd_m)
    ROW_R(VPEXTRW_Gd_Udq_Ib, pextrw_from_rm_r)

    ROW_L(VPTEST_Vx_Wx, vptest)
    ROW_L(VTESTPS_Vps_Wps, vtestps)
    ROW_L(VTESTPD_Vpd_Wpd, vtestpd)
    ROW_RM(VPCMPESTRI_Vdq_Wdq_Ib, pcmpestri_r, pcmpestri_m)
    ROW_RM(VPCMPESTRM_Vdq_Wdq_Ib, vpcmpestrm_r, vpcmpestrm_m)
    ROW_RM(VPCMPISTRI_Vdq_Wdq_Ib, pcmpistri_r, pcmpistri_m)
    ROW_RM(VPCMPISTRM_Vdq_Wdq_Ib, vpcmpistrm_r, vpcmpistrm_m)
    ROW_LAST,
};
