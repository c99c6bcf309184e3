/*
 * The FPU between guest and host, and floating-point exceptions.
 */
#include "engine/interp/fpstate.h"

#include "engine/interp/fault.h"

void interp_fp_init(struct interp *c)
{
    static const struct {
        u32 host;
        u8 feature;
    } table[] = {{FP_HOST_SSE3, X86_FEATURE_SSE3},     {FP_HOST_SSSE3, X86_FEATURE_SSSE3},
                 {FP_HOST_SSE4_1, X86_FEATURE_SSE4_1}, {FP_HOST_SSE4_2, X86_FEATURE_SSE4_2},
                 {FP_HOST_AES, X86_FEATURE_AES},       {FP_HOST_PCLMUL, X86_FEATURE_PCLMULQDQ},
                 {FP_HOST_SHA, X86_FEATURE_SHA},       {FP_HOST_GFNI, X86_FEATURE_GFNI},
                 {FP_HOST_FMA, X86_FEATURE_FMA},       {FP_HOST_F16C, X86_FEATURE_F16C},
                 {FP_HOST_AVX, X86_FEATURE_AVX},       {FP_HOST_AVX_VNNI, X86_FEATURE_AVX_VNNI}};
    const struct cpu_model *limit = c->vcpu->vm->config.host_limit;

    c->fp.host = fp_host_features();
    for (size_t n = 0; limit && n < ARRAY_SIZE(table); n++)
        if (!cpu_model_has(limit, (enum x86_feature)table[n].feature))
            c->fp.host &= ~table[n].host;
}

/* All exceptions masked: the handlers see to those that the guest has not masked. */
static void load_mxcsr(const struct interp *c)
{
    fp_set_mxcsr(c->state->mxcsr | MXCSR_MASKS);
}

void interp_fp_load(struct interp *c)
{
    const struct vcpu_state *s = c->state;

    load_mxcsr(c);
    fp_set_fcw(s->x87.fcw | FCW_MASKS);
    c->fp.sse_unmasked = (s->mxcsr & MXCSR_MASKS) != MXCSR_MASKS;
    c->fp.x87_simple = (s->x87.fcw & FCW_MASKS) == FCW_MASKS;
}

void interp_fp_enter(struct interp *c)
{
    c->fp.host_mxcsr = fp_get_mxcsr();
    c->fp.host_fcw = fp_get_fcw();
    interp_fp_load(c);
}

void interp_fp_sync(struct interp *c)
{
    c->state->mxcsr |= fp_get_mxcsr() & MXCSR_FLAGS;
}

void interp_fp_leave(struct interp *c)
{
    interp_fp_sync(c);
    fp_set_mxcsr(c->fp.host_mxcsr);
    fp_set_fcw(c->fp.host_fcw);
}

/*
 * An instruction that may raise an unmasked SSE exception runs masked, on cleared flags; what it would have raised is then
 * in the flags. Flush-to-zero does not work while underflow is unmasked.
 */
void interp_fp_check_begin(struct interp *c)
{
    u32 mxcsr;

    interp_fp_sync(c);
    mxcsr = (c->state->mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS;
    if (!(c->state->mxcsr & MXCSR_UE << MXCSR_MASK_SHIFT))
        mxcsr &= ~MXCSR_FTZ;
    fp_set_mxcsr(mxcsr);
}

static bool tiny_half(u16 v)
{
    return !(v & 0x7c00) && v & 0x3ff;
}
static bool tiny_single(u32 v)
{
    return !(v & 0x7f800000) && v << 1;
}
static bool tiny_double(u64 v)
{
    return !(v & 0x7ff0000000000000) && v << 1;
}

bool interp_fp_tiny(xmm result, enum fp_tiny type)
{
    union xmm_parts r = {result};

    switch (type) {
    case FP_TINY_none: return false;
    case FP_TINY_ss: return tiny_single(r.d[0]);
    case FP_TINY_sd: return tiny_double(r.q[0]);
    case FP_TINY_ps:
        return tiny_single(r.d[0]) || tiny_single(r.d[1]) || tiny_single(r.d[2]) || tiny_single(r.d[3]);
    case FP_TINY_pd: return tiny_double(r.q[0]) || tiny_double(r.q[1]);
    case FP_TINY_ph: /* 4 or 8 of them; the rest is zero */
        for (unsigned n = 0; n < 8; n++)
            if (tiny_half(r.w[n]))
                return true;
        return false;
    }
    return false;
}

/* What may overflow or underflow. A dot product's intermediate results may, whatever the last one is. */
static const struct rounded_op {
    u16 op;
    struct fp_operation operation;
} rounded_ops[] = {
/* clang-format off */
#define LEGACY_AND_VEX(name, kind, type, form, vex_form)                                                     \
    {OP_##name##_##form, {kind, type}}, {OP_V##name##_##vex_form, {kind, type}},
#define PACKED(name, kind)                                                                                   \
    LEGACY_AND_VEX(name##PS, kind, FP_PS, Vps_Wps, Vps_Hps_Wps)                                              \
    LEGACY_AND_VEX(name##PD, kind, FP_PD, Vpd_Wpd, Vpd_Hpd_Wpd)
#define PACKED_AND_SCALAR(name, kind)                                                                        \
    PACKED(name, kind)                                                                                       \
    LEGACY_AND_VEX(name##SS, kind, FP_SS, Vss_Wss, Vss_Hss_Wss)                                              \
    LEGACY_AND_VEX(name##SD, kind, FP_SD, Vsd_Wsd, Vsd_Hsd_Wsd)
    PACKED_AND_SCALAR(ADD, FP_ADD)
    PACKED_AND_SCALAR(SUB, FP_SUB)
    PACKED_AND_SCALAR(MUL, FP_MUL)
    PACKED_AND_SCALAR(DIV, FP_DIV)
    PACKED(ADDSUB, FP_ADDSUB)
    PACKED(HADD, FP_HADD)
    PACKED(HSUB, FP_HSUB)
    LEGACY_AND_VEX(CVTPD2PS, FP_NARROW, FP_PD, Vps_Wpd, Vps_Wpd)
    LEGACY_AND_VEX(CVTSD2SS, FP_NARROW, FP_SD, Vss_Wsd, Vss_Hss_Wsd)
    LEGACY_AND_VEX(DPPS, FP_DOT, FP_PS, Vps_Wps_Ib, Vps_Hps_Wps_Ib)
    LEGACY_AND_VEX(DPPD, FP_DOT, FP_PD, Vpd_Wpd_Ib, Vpd_Hpd_Wpd_Ib)
    {OP_VCVTPS2PH_Wx_Vps_Ib, {FP_HALF, FP_PS}},
#define FUSED(name, form, bytes, tiny, op, order)                                                            \
    {OP_##name##_##form, {FP_FMA_##order, (enum fp_elements)FMA_TYPE_##tiny, FMA_SIGNS_##op}},
    FP_FMA(FUSED)
    /* clang-format on */
};
static const struct fp_operation *rounded_operation(const struct cell *i)
{
    for (size_t n = 0; n < ARRAY_SIZE(rounded_ops); n++)
        if (rounded_ops[n].op == i->op)
            return &rounded_ops[n].operation;
    return NULL;
}

void interp_fp_check_end(struct interp *c, const struct cell *i, bool tiny, const struct fp_lane *lane,
                         unsigned lanes)
{
    enum { BEFORE = MXCSR_IE | MXCSR_DE | MXCSR_ZE, RANGE = MXCSR_OE | MXCSR_UE };
    u32 mxcsr = c->state->mxcsr, raised = fp_get_mxcsr() & MXCSR_FLAGS,
        unmasked = ~mxcsr >> MXCSR_MASK_SHIFT & MXCSR_FLAGS;
    const struct fp_operation *op = lane ? rounded_operation(i) : NULL;

    if (op && op->kind == FP_DOT) {
        raised = soft_flags(op, lane, lanes, (u8)i->imm, mxcsr);
    } else {
        if (tiny)
            raised |= unmasked & MXCSR_UE;
        /* An unmasked exception before the calculation keeps those after it from being found (SDM 1 11.5.2). */
        if (raised & unmasked & BEFORE)
            raised &= BEFORE;
        else if (op && raised & unmasked & RANGE)
            raised = (raised & BEFORE) | (soft_flags(op, lane, lanes, (u8)i->imm, mxcsr) & ~(u32)BEFORE);
    }
    c->state->mxcsr |= raised;
    load_mxcsr(c);
    if (raised & unmasked)
        interp_fault(c, i, c->state->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD, 0);
}

void interp_x87_pending(struct interp *c, const struct cell *i)
{
    if (c->state->cr0 & CR0_NE)
        interp_fault(c, i, VEC_MF, 0);
    c->cell = i;
    if (vcpu_fpu_error(c->vcpu, true))
        return;
    /* The processor stops at the instruction until an interrupt comes, as a rule number 13 (SDM 1 D.2.1.3). */
    c->state->activity = VCPU_HALTED;
    interp_fault(c, i, FAULT_RETRY, 0);
}

void interp_x87_error_cleared(struct interp *c, const struct cell *i)
{
    c->cell = i;
    if (!(c->state->cr0 & CR0_NE))
        vcpu_fpu_error(c->vcpu, false);
}
