/*
 * MMX. A 64-bit operation is the 128-bit one on operands in the low halves, so that the host's x87 registers, which MMX
 * shares, are left alone; the few shapes where that is not so simply true are below.
 */
#include "engine/interp/ops_sse.h"

static ALWAYS_INLINE u64 mm_get(const struct vcpu_state *s, unsigned n)
{
    return s->x87.reg[n & 7].mantissa;
}

/* Writing a register sets its exponent to all ones. Also does what every MMX instruction does to the x87 unit. */
static ALWAYS_INLINE void mm_set(struct vcpu_state *s, unsigned n, u64 v)
{
    mmx_enter(s);
    s->x87.reg[n & 7].mantissa = v;
    s->x87.reg[n & 7].sign_exponent = 0xffff;
}

/* Both operands in one vector, a below b: packs and horizontal operations of it with itself have the result in the low half. */
static ALWAYS_INLINE xmm joined(xmm a, xmm b)
{
    return (xmm){a[0], b[0]};
}
static ALWAYS_INLINE xmm high_half(xmm v)
{
    return (xmm){v[1], 0};
}

/* name_r and name_m: Pq = low half of an expression of a (Pq) and b (Qq); memory operand of `bits`. */
#define MMX_SHAPE(name, bits, expression)                                                                    \
    static void mmx_##name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        xmm a = xmm_from64(mm_get(s, i->reg)), b = xmm_from64(mm_get(s, i->rm)), r;                          \
                                                                                                             \
        x87_check(s, c, i);                                                                                  \
        r = expression;                                                                                      \
        (void)a;                                                                                             \
        mm_set(s, i->reg, r[0]);                                                                             \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void mmx_##name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                 \
    {                                                                                                        \
        xmm a = xmm_from64(mm_get(s, i->reg)), b, r;                                                         \
                                                                                                             \
        x87_check(s, c, i);                                                                                  \
        b = xmm_from64(load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                            \
        r = expression;                                                                                      \
        (void)a;                                                                                             \
        mm_set(s, i->reg, r[0]);                                                                             \
        NEXT;                                                                                                \
    }

/* F(name): as it is. */
/* clang-format would move one more name to a line of its own each time it runs. */
/* clang-format off */
#define MMX_LOW(F) \
    F(PADDB) F(PADDW) F(PADDD) F(PADDQ) F(PSUBB) F(PSUBW) F(PSUBD) F(PSUBQ) F(PADDSB) F(PADDSW) F(PADDUSB) \
    F(PADDUSW) F(PSUBSB) F(PSUBSW) F(PSUBUSB) F(PSUBUSW) F(PMULLW) F(PMULHW) F(PMULHUW) F(PMULUDQ) \
    F(PMADDWD) F(PSADBW) F(PAVGB) F(PAVGW) F(PMINUB) F(PMINSW) F(PMAXUB) F(PMAXSW) F(PAND) F(PANDN) F(POR) \
    F(PXOR) F(PCMPEQB) F(PCMPEQW) F(PCMPEQD) F(PCMPGTB) F(PCMPGTW) F(PCMPGTD) F(PSLLW) F(PSLLD) F(PSLLQ) \
    F(PSRLW) F(PSRLD) F(PSRLQ) F(PSRAW) F(PSRAD) F(PMADDUBSW) F(PSIGNB) F(PSIGNW) F(PSIGND) F(PMULHRSW) \
    F(PABSB) F(PABSW) F(PABSD)
#define MMX_JOINED(F) \
    F(PACKSSWB) F(PACKUSWB) F(PACKSSDW) F(PHADDW) F(PHADDD) F(PHADDSW) F(PHSUBW) F(PHSUBD) F(PHSUBSW)
/* clang-format on */
/* Interleaving the low halves: PUNPCKL's result is the low half (and its operand is 32 bits), PUNPCKH's the high. */
#define MMX_UNPACK(F) F(PUNPCKLBW, PUNPCKHBW) F(PUNPCKLWD, PUNPCKHWD) F(PUNPCKLDQ, PUNPCKHDQ)

#define F(name) MMX_SHAPE(name, 64, xmm_##name(&c->fp, a, b))
MMX_LOW(F)
#undef F
#define F(name) MMX_SHAPE(name, 64, xmm_##name(&c->fp, joined(a, b), joined(a, b)))
MMX_JOINED(F)
#undef F
#define F(low, high)                                                                                         \
    MMX_SHAPE(low, 32, xmm_##low(&c->fp, a, b))                                                              \
    MMX_SHAPE(high, 64, high_half(xmm_##low(&c->fp, a, b)))
MMX_UNPACK(F)
#undef F
/* Indices of 3 bits. */
MMX_SHAPE(PSHUFB, 64, xmm_PSHUFB(&c->fp, a, b &(xmm){0x8787878787878787, 0}))
MMX_SHAPE(PSHUFW, 64, xmm_PSHUFLW(&c->fp, a, b, (u8)i->imm))
MMX_SHAPE(MOVQ, 64, b)

/* ---- rows that differ ---- */

static xmm palignr(xmm a, xmm b, unsigned n)
{
    u128 v = (u128)a[0] << 64 | b[0];

    return xmm_from64(n > 15 ? 0 : (u64)(v >> 8 * n));
}
MMX_SHAPE(PALIGNR, 64, palignr(a, b, (u8)i->imm))

#define SHIFT(name)                                                                                          \
    static void mmx_##name##_imm_r(struct vcpu_state *s, struct interp *c, const struct cell *i)             \
    {                                                                                                        \
        xmm r = xmm_##name(&c->fp, xmm_from64(mm_get(s, i->rm)), xmm_from64((u8)i->imm));                    \
                                                                                                             \
        x87_check(s, c, i);                                                                                  \
        mm_set(s, i->rm, r[0]);                                                                              \
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

static void movd_from_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mm_set(s, i->reg, (u32)s->gpr[i->rm]);
    NEXT;
}
static void movd_from_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mm_set(s, i->reg, load32(c, i, interp_ea(s, c, i, 4, MEM_READ)));
    NEXT;
}
static void movq_from_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mm_set(s, i->reg, s->gpr[i->rm]);
    NEXT;
}
static void movd_to_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_enter(s);
    s->gpr[i->rm] = (u32)mm_get(s, i->reg);
    NEXT;
}
static void movd_to_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_set_top(s);
    store32(c, i, interp_ea(s, c, i, 4, MEM_WRITE), (u32)mm_get(s, i->reg));
    mmx_enter(s);
    NEXT;
}
static void movq_to_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_enter(s);
    s->gpr[i->rm] = mm_get(s, i->reg);
    NEXT;
}
static void movq_to_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_set_top(s);
    store64(c, i, interp_ea(s, c, i, 8, MEM_WRITE), mm_get(s, i->reg));
    mmx_enter(s);
    NEXT;
}
static void movq_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mm_set(s, i->rm, mm_get(s, i->reg));
    NEXT;
}
static void pmovmskb_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u32 mask;

    x87_check(s, c, i);
    mmx_enter(s);
    asm("pmovmskb %1, %0" : "=r"(mask) : "x"(xmm_from64(mm_get(s, i->rm))));
    s->gpr[i->reg] = mask;
    NEXT;
}
static void pinsrw(struct vcpu_state *s, const struct cell *i, u16 element)
{
    union xmm_parts v = {xmm_from64(mm_get(s, i->reg))};

    v.w[i->imm & 3] = element;
    mm_set(s, i->reg, v.q[0]);
}
static void pinsrw_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    pinsrw(s, i, (u16)s->gpr[i->rm]);
    NEXT;
}
static void pinsrw_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    pinsrw(s, i, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));
    NEXT;
}
static void pextrw_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_enter(s);
    s->gpr[i->reg] = (u16)(mm_get(s, i->rm) >> 16 * (i->imm & 3));
    NEXT;
}

/* The whole operand is checked, whatever the mask (SDM 2B leaves that open; CPUs do). */
void interp_masked_store(struct vcpu_state *s, struct interp *c, const struct cell *i, const u8 *from,
                         const u8 *mask, unsigned size)
{
    unsigned address_size = cell_address_size(i);
    u64 offset = s->gpr[RDI], lin;

    if (address_size != 8)
        offset &= (1ull << 8 * address_size) - 1;
    lin = interp_linear(c, i, i->seg, offset, size, MEM_WRITE);
    interp_check_alignment(c, i, lin, 8);
    interp_probe(c, i, lin, size, MEM_WRITE);
    for (unsigned n = 0; n < size; n++)
        if (mask[n] & 0x80)
            interp_store_bytes(c, i, lin + n, &from[n], 1);
}
static void maskmovq_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        u64 from = mm_get(s, i->reg), mask = mm_get(s, i->rm);

        x87_check(s, c, i);
        mmx_enter(s);
        interp_masked_store(s, c, i, (const u8 *)&from, (const u8 *)&mask, 8);
    }
    NEXT;
}

/* ---- between MMX and XMM registers ---- */

static void movq2dq_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_enter(s);
    xmm_set(s, i->reg, xmm_from64(mm_get(s, i->rm)));
    NEXT;
}
static void movdq2q_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mm_set(s, i->reg, xmm_get64(s, i->rm));
    NEXT;
}

/* CVT(T)PxPI: Pq from Wx. The x87 unit is MMX's even after a #XM. Only the elements that count are converted, so that the others raise nothing. */
/* These are too rare for two handlers each. */
#define checked c->fp.sse_unmasked

#define TO_MMX(name, with, bytes)                                                                            \
    static void name##_commit(struct vcpu_state *s, struct interp *c, const struct cell *i, xmm b)           \
    {                                                                                                        \
        xmm r;                                                                                               \
                                                                                                             \
        mmx_enter(s);                                                                                        \
        fp_begin(c);                                                                                         \
        r = xmm_##with(&c->fp, b, b);                                                                        \
        fp_end(c, i, r, FP_TINY_none);                                                                       \
        mm_set(s, i->reg, r[0]);                                                                             \
    }                                                                                                        \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        xmm b = xmm_get(s, i->rm);                                                                           \
                                                                                                             \
        x87_check(s, c, i);                                                                                  \
        name##_commit(s, c, i, bytes == 8 ? xmm_from64(b[0]) : b);                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        x87_check(s, c, i);                                                                                  \
        name##_commit(s, c, i, sse_load(s, c, i, bytes));                                                    \
        NEXT;                                                                                                \
    }
TO_MMX(cvtps2pi, CVTPS2DQ, 8)
TO_MMX(cvttps2pi, CVTTPS2DQ, 8)
TO_MMX(cvtpd2pi, CVTPD2DQ, 16)
TO_MMX(cvttpd2pi, CVTTPD2DQ, 16)

/* CVTPI2PS keeps the upper half of its destination. */
static void cvtpi2ps(struct vcpu_state *s, struct interp *c, const struct cell *i, u64 b)
{
    xmm r;

    fp_begin(c);
    r = xmm_CVTDQ2PS(&c->fp, xmm_from64(b), xmm_from64(b));
    fp_end(c, i, r, FP_TINY_none);
    xmm_set64(s, i->reg, r[0]);
}
static void cvtpi2ps_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    mmx_enter(s);
    cvtpi2ps(s, c, i, mm_get(s, i->rm));
    NEXT;
}
/* From memory these two have nothing to do with the x87 unit (SDM 2A on CVTPI2PD; the CPU, on CVTPI2PS, too). */
static void cvtpi2ps_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    cvtpi2ps(s, c, i, load64(c, i, interp_ea(s, c, i, 8, MEM_READ)));
    NEXT;
}
static void cvtpi2pd_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm b = xmm_from64(mm_get(s, i->rm));

    x87_check(s, c, i);
    mmx_enter(s);
    xmm_set(s, i->reg, xmm_CVTDQ2PD(&c->fp, b, b));
    NEXT;
}
static void cvtpi2pd_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm b = sse_load(s, c, i, 8);

    xmm_set(s, i->reg, xmm_CVTDQ2PD(&c->fp, b, b));
    NEXT;
}

static void emms(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    s->x87.fsw &= ~FSW_TOP;
    s->x87.tags = 0;
    NEXT;
}

#define ROW_MMX(name)     ROW_RM(name##_Pq_Qq, mmx_##name##_r, mmx_##name##_m)
#define ROW_MMX_IMM(name) ROW_R(name##_Nq_Ib, mmx_##name##_imm_r)

/* clang-format off */
const struct interp_row interp_mmx_rows[] = {
    MMX_LOW(ROW_MMX)
    MMX_JOINED(ROW_MMX)
    ROW_RM(PUNPCKLBW_Pq_Qd, mmx_PUNPCKLBW_r, mmx_PUNPCKLBW_m)
    ROW_RM(PUNPCKLWD_Pq_Qd, mmx_PUNPCKLWD_r, mmx_PUNPCKLWD_m)
    ROW_RM(PUNPCKLDQ_Pq_Qd, mmx_PUNPCKLDQ_r, mmx_PUNPCKLDQ_m)
    ROW_MMX(PUNPCKHBW)
    ROW_MMX(PUNPCKHWD)
    ROW_MMX(PUNPCKHDQ)
    ROW_MMX(PSHUFB)
    ROW_RM(PSHUFW_Pq_Qq_Ib, mmx_PSHUFW_r, mmx_PSHUFW_m)
    ROW_RM(PALIGNR_Pq_Qq_Ib, mmx_PALIGNR_r, mmx_PALIGNR_m)
    ROW_MMX_IMM(PSLLW) ROW_MMX_IMM(PSLLD) ROW_MMX_IMM(PSLLQ)
    ROW_MMX_IMM(PSRLW) ROW_MMX_IMM(PSRLD) ROW_MMX_IMM(PSRLQ)
    ROW_MMX_IMM(PSRAW) ROW_MMX_IMM(PSRAD)

    ROW_RM(MOVD_Pq_Ed, movd_from_r, movd_from_m)
    ROW_RM(MOVQ_Pq_Eq, movq_from_r, mmx_MOVQ_m)
    ROW_RM(MOVD_Ed_Pq, movd_to_r, movd_to_m)
    ROW_RM(MOVQ_Eq_Pq, movq_to_r, movq_to_m)
    ROW_MMX(MOVQ)
    ROW_RM(MOVQ_Qq_Pq, movq_back_r, movq_to_m)
    ROW_M(MOVNTQ_Mq_Pq, movq_to_m)
    ROW_R(PMOVMSKB_Gd_Nq, pmovmskb_r)
    ROW_RM(PINSRW_Pq_RdMw_Ib, pinsrw_r, pinsrw_m)
    ROW_R(PEXTRW_Gd_Nq_Ib, pextrw_r)
    ROW_R(MASKMOVQ_Pq_Nq, maskmovq_r)
    ROW_R(MOVQ2DQ_Vdq_Nq, movq2dq_r)
    ROW_R(MOVDQ2Q_Pq_Uq, movdq2q_r)
    ROW_RM(CVTPS2PI_Ppi_Wps, cvtps2pi_r, cvtps2pi_m)
    ROW_RM(CVTTPS2PI_Ppi_Wps, cvttps2pi_r, cvttps2pi_m)
    ROW_RM(CVTPD2PI_Ppi_Wpd, cvtpd2pi_r, cvtpd2pi_m)
    ROW_RM(CVTTPD2PI_Ppi_Wpd, cvttpd2pi_r, cvttpd2pi_m)
    ROW_RM(CVTPI2PS_Vps_Qpi, cvtpi2ps_r, cvtpi2ps_m)
    ROW_RM(CVTPI2PD_Vpd_Qpi, cvtpi2pd_r, cvtpi2pd_m)
    {OP_EMMS, 0, ANY_SIZE(emms)},
    ROW_LAST,
};
