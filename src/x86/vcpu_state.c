/* State table of a virtual CPU, its values after reset and INIT, and what a loaded state must satisfy. */
#include "x86/vcpu_state.h"
#include "x86/msr.h"

#include <inttypes.h>
#include <string.h>

static const struct state_field seg_fields[] = {
    STATE_FIELD(struct seg, base, STATE_U64, 1),
    STATE_FIELD(struct seg, limit, STATE_U32, 1),
    STATE_FIELD(struct seg, selector, STATE_U16, 1),
    STATE_FIELD(struct seg, attr, STATE_U16, 1),
    STATE_END,
};
static const struct state_table seg_table = {
    .name = "seg", .version = 1, .size = sizeof(struct seg), .fields = seg_fields};

static const struct state_field desc_table_fields[] = {
    STATE_FIELD(struct desc_table, base, STATE_U64, 1),
    STATE_FIELD(struct desc_table, limit, STATE_U16, 1),
    STATE_END,
};
static const struct state_table desc_table_table = {
    .name = "desc_table", .version = 1, .size = sizeof(struct desc_table), .fields = desc_table_fields};

static const struct state_field x87_reg_fields[] = {
    STATE_FIELD(struct x87_reg, mantissa, STATE_U64, 1),
    STATE_FIELD(struct x87_reg, sign_exponent, STATE_U16, 1),
    STATE_END,
};
static const struct state_table x87_reg_table = {
    .name = "x87_reg", .version = 1, .size = sizeof(struct x87_reg), .fields = x87_reg_fields};

static const struct state_field x87_fields[] = {
    STATE_STRUCTS(struct x87_state, reg, &x87_reg_table, 1), STATE_FIELD(struct x87_state, fcw, STATE_U16, 1),
    STATE_FIELD(struct x87_state, fsw, STATE_U16, 1),        STATE_FIELD(struct x87_state, tags, STATE_U8, 1),
    STATE_FIELD(struct x87_state, fop, STATE_U16, 1),        STATE_FIELD(struct x87_state, fip, STATE_U64, 1),
    STATE_FIELD(struct x87_state, fdp, STATE_U64, 1),        STATE_FIELD(struct x87_state, fcs, STATE_U16, 1),
    STATE_FIELD(struct x87_state, fds, STATE_U16, 1),        STATE_END,
};
static const struct state_table x87_table = {
    .name = "x87", .version = 1, .size = sizeof(struct x87_state), .fields = x87_fields};

static const struct state_field vcpu_fields[] = {
    STATE_ARRAY(struct vcpu_state, gpr, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, rip, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, rflags, STATE_U64, 1),
    STATE_STRUCTS(struct vcpu_state, seg, &seg_table, 1),
    STATE_STRUCT(struct vcpu_state, gdtr, &desc_table_table, 1),
    STATE_STRUCT(struct vcpu_state, idtr, &desc_table_table, 1),
    STATE_FIELD(struct vcpu_state, cr0, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, cr2, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, cr3, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, cr4, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, cr8, STATE_U64, 1),
    STATE_ARRAY(struct vcpu_state, pdptr, STATE_U64, 1),
    STATE_ARRAY(struct vcpu_state, dr, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, xcr0, STATE_U64, 1),
    STATE_STRUCT(struct vcpu_state, x87, &x87_table, 1),
    STATE_FIELD(struct vcpu_state, vec, STATE_BYTES, 1),
    STATE_ARRAY(struct vcpu_state, opmask, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, mxcsr, STATE_U32, 1),
    STATE_FIELD(struct vcpu_state, pkru, STATE_U32, 1),
    STATE_FIELD(struct vcpu_state, efer, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, star, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, lstar, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, cstar, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, sfmask, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, kernel_gs_base, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, tsc_aux, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, tsc_offset, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, tsc_adjust, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, sysenter_cs, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, sysenter_esp, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, sysenter_eip, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, pat, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, misc_enable, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, apic_base, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, debugctl, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, xss, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, pkrs, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, spec_ctrl, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, platform_info_misc, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, smi_count, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, feature_control, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, mtrr_def_type, STATE_U64, 1),
    STATE_ARRAY(struct vcpu_state, mtrr_fixed, STATE_U64, 1),
    STATE_ARRAY(struct vcpu_state, mtrr_base, STATE_U64, 1),
    STATE_ARRAY(struct vcpu_state, mtrr_mask, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, mcg_status, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, mcg_ctl, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, ucode_rev, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, activity, STATE_U8, 1),
    STATE_FIELD(struct vcpu_state, sipi_vector_pending, STATE_U8, 1),
    STATE_FIELD(struct vcpu_state, sti_shadow, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, mov_ss_shadow, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, nmi_masked, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, nmi_pending, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, smm, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, smbase, STATE_U32, 1),
    STATE_FIELD(struct vcpu_state, pending_debug, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, event_pending, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, event_has_error, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, event_software, STATE_BOOL, 1),
    STATE_FIELD(struct vcpu_state, event_vector, STATE_U8, 1),
    STATE_FIELD(struct vcpu_state, event_error, STATE_U32, 1),
    STATE_FIELD(struct vcpu_state, icount, STATE_U64, 1),
    STATE_FIELD(struct vcpu_state, monitor, STATE_U8, 2),
    STATE_FIELD(struct vcpu_state, monitor_phys, STATE_U64, 2),
    STATE_FIELD(struct vcpu_state, monitor_line, STATE_BYTES, 2),
    STATE_FIELD(struct vcpu_state, wait, STATE_U8, 2),
    STATE_FIELD(struct vcpu_state, wait_deadline, STATE_U64, 2),
    STATE_FIELD(struct vcpu_state, umwait_control, STATE_U64, 2),
    STATE_END,
};

/* ---- Checks of a loaded state ----
 *
 * A stream is refused when it holds what no guest can bring about and an engine relies on: values that make the host
 * fault when loaded (MXCSR), index out of a table, or contradict the mode. RIP need not be canonical: code that runs off
 * the end of the lower half gets there, and faults at the fetch.
 */

enum {
    RFLAGS_DEFINED = FLAGS_ARITH | FLAG_ONE | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF |
                     FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID,
    CR4_DEFINED = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
                  CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_LA57 | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
                  CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS,
    EFER_DEFINED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR,
    SEG_ATTR_DEFINED = SEG_TYPE | SEG_S | SEG_DPL | SEG_P | SEG_UNUSABLE | SEG_AVL | SEG_L | SEG_DB | SEG_G,
    MXCSR_DEFINED = 0xffff,
};
#define CR0_DEFINED                                                                                          \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | (u64)CR0_PG)
/* A PAE page-directory-pointer register: bits 1, 2, 5..8 and those above the widest address are reserved (SDM 3A 4.4.1).
   Likewise CR3. */
#define PDPTR_RESERVED (0x1e6ull | ~0ull << 52)
#define CR3_RESERVED   (~0ull << 52)

struct check {
    bool fails;
    const char *field;
    u64 value;
};

/* Bases may be wider than the current paging mode (interp_canonical_base). */
static bool canonical(u64 address)
{
    return x86_canonical(address, 57);
}

static bool xcr0_valid(u64 xcr0)
{
    enum { X87 = 1 << 0, SSE = 1 << 1, AVX = 1 << 2, AVX512 = 7 << 5, PKRU = 1 << 9 };
    if (!(xcr0 & X87) || (xcr0 & ~(u64)(X87 | SSE | AVX | AVX512 | PKRU)))
        return false;
    if (xcr0 & AVX && !(xcr0 & SSE))
        return false;
    return !(xcr0 & AVX512) || (xcr0 & (AVX512 | AVX)) == (AVX512 | AVX);
}

/* Memory types 2 and 3 do not exist, nor any above 7 (SDM 3A 12.12.2). */
static bool pat_valid(u64 pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        u8 type = (u8)(pat >> i);
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static int check_mode(const struct vcpu_state *s, struct error *err)
{
    bool long_mode = s->efer & EFER_LME && s->cr0 & CR0_PG;
    if (s->cr0 & CR0_PG && !(s->cr0 & CR0_PE))
        return error_set(err, "CR0 has paging without protection (%#" PRIx64 ")", s->cr0);
    if (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD))
        return error_set(err, "CR0 has NW without CD (%#" PRIx64 ")", s->cr0);
    if (long_mode != !!(s->efer & EFER_LMA))
        return error_set(err, "EFER.LMA contradicts EFER.LME and CR0.PG (%#" PRIx64 ")", s->efer);
    if (long_mode && !(s->cr4 & CR4_PAE))
        return error_set(err, "long mode without CR4.PAE (%#" PRIx64 ")", s->cr4);
    if (vcpu_v86(s) && (long_mode || !vcpu_protected(s)))
        return error_set(err, "RFLAGS.VM outside protected mode");
    if (vcpu_v86(s) ? vcpu_cpl(s) != 3 : !vcpu_protected(s) && vcpu_cpl(s) != 0)
        return error_set(err, "privilege level %u does not fit the mode", vcpu_cpl(s));
    if (!vcpu_64bit(s) && s->rip >> 32)
        return error_set(err, "RIP %#" PRIx64 " outside 64-bit mode", s->rip);
    return 0;
}

static int vcpu_post_load(void *object, struct error *err)
{
    const struct vcpu_state *s = object;
    const struct check checks[] = {
        {s->gpr[16] != 0, "gpr[16]", s->gpr[16]},
        {(s->rflags & ~(u64)RFLAGS_DEFINED) || !(s->rflags & FLAG_ONE), "rflags", s->rflags},
        {s->cr0 & ~CR0_DEFINED, "cr0", s->cr0},
        {s->cr3 & CR3_RESERVED, "cr3", s->cr3},
        {s->cr4 & ~(u64)CR4_DEFINED, "cr4", s->cr4},
        {s->cr8 > 15, "cr8", s->cr8},
        {s->efer & ~(u64)EFER_DEFINED, "efer", s->efer},
        {s->dr[6] >> 32, "dr[6]", s->dr[6]},
        {s->dr[7] >> 32, "dr[7]", s->dr[7]},
        {!xcr0_valid(s->xcr0), "xcr0", s->xcr0},
        {s->mxcsr & ~(u32)MXCSR_DEFINED, "mxcsr", s->mxcsr},
        {!pat_valid(s->pat), "pat", s->pat},
        {s->x87.fop > 0x7ff, "x87.fop", s->x87.fop},
        {!canonical(s->gdtr.base), "gdtr.base", s->gdtr.base},
        {!canonical(s->idtr.base), "idtr.base", s->idtr.base},
        {!canonical(s->lstar), "lstar", s->lstar},
        {!canonical(s->cstar), "cstar", s->cstar},
        {!canonical(s->kernel_gs_base), "kernel_gs_base", s->kernel_gs_base},
        {!canonical(s->sysenter_esp), "sysenter_esp", s->sysenter_esp},
        {!canonical(s->sysenter_eip), "sysenter_eip", s->sysenter_eip},
        {s->activity > VCPU_WAITING, "activity", s->activity},
        {s->monitor > VCPU_MONITOR_UMWAIT, "monitor", s->monitor},
        {s->wait & ~VCPU_WAIT_ALL, "wait", s->wait},
        {s->smm, "smm", s->smm},
    };
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        if (checks[i].fails)
            return error_set(err, "impossible value %#" PRIx64 " of CPU register %s", checks[i].value,
                             checks[i].field);
    }
    for (unsigned i = 0; i < SEG_ALL; i++) {
        if ((s->seg[i].attr & ~SEG_ATTR_DEFINED) || !canonical(s->seg[i].base))
            return error_set(err, "impossible segment register seg[%u]: base %#" PRIx64 ", attributes %#x", i,
                             s->seg[i].base, s->seg[i].attr);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(s->pdptr); i++) {
        if (s->pdptr[i] & 1 && s->pdptr[i] & PDPTR_RESERVED)
            return error_set(err, "impossible value %#" PRIx64 " of CPU register pdptr[%u]", s->pdptr[i], i);
    }
    return check_mode(s, err);
}

const struct state_table vcpu_state_table = {
    .name = "vcpu",
    .version = 2,
    .size = sizeof(struct vcpu_state),
    .fields = vcpu_fields,
    .post_load = vcpu_post_load,
};

/* ---- Reset and INIT (SDM 3A table 10-1) ---- */

enum {
    REAL_MODE_DATA = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED, /* CS too: writable in real mode */
    RESET_LDT = SEG_P | 2,
    RESET_TSS = SEG_P | 11, /* busy 32-bit TSS */
    MXCSR_RESET = 0x1f80,
    FCW_RESET = 0x40,
    DR7_RESET = 0x400,
    SMBASE_RESET = 0x30000,
};
#define CR0_RESET      ((u64)(CR0_CD | CR0_NW | CR0_ET))
#define DR6_RESET      0xffff0ff0ull
#define PAT_RESET      0x0007040600070406ull
#define UCODE_REVISION (1ull << 32) /* the revision is in the upper half; operating systems distrust 0 */

/* What reset and INIT have in common: registers that software sees in the first instruction, and no event on its way. */
static void reset_common(struct vcpu_state *s, u32 cpuid_signature)
{
    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[RDX] = cpuid_signature;
    s->rip = 0xfff0;
    s->rflags = FLAG_ONE;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] = (struct seg){.limit = 0xffff, .attr = REAL_MODE_DATA};
    s->seg[SEG_CS].selector = 0xf000;
    s->seg[SEG_CS].base = 0xffff0000;
    s->seg[SEG_LDTR] = (struct seg){.limit = 0xffff, .attr = RESET_LDT};
    s->seg[SEG_TR] = (struct seg){.limit = 0xffff, .attr = RESET_TSS};
    s->gdtr = s->idtr = (struct desc_table){.limit = 0xffff};
    s->cr0 = CR0_RESET;
    s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
    memset(s->pdptr, 0, sizeof(s->pdptr));
    memset(s->dr, 0, sizeof(s->dr));
    s->dr[6] = DR6_RESET;
    s->dr[7] = DR7_RESET;
    s->efer = 0;
    s->debugctl = 0;
    s->activity = s->apic_base & IA32_APIC_BASE_BSP ? VCPU_RUNNING : VCPU_WAIT_SIPI;
    s->sipi_vector_pending = 0;
    s->sti_shadow = s->mov_ss_shadow = false;
    s->nmi_masked = s->nmi_pending = false;
    s->smm = false;
    s->pending_debug = 0;
    s->monitor = VCPU_MONITOR_NONE;
    s->event_pending = s->event_has_error = s->event_software = false;
    s->event_vector = 0;
    s->event_error = 0;
}

void vcpu_state_reset(struct vcpu_state *state, bool bootstrap, u32 cpuid_signature)
{
    u64 icount = state->icount;
    *state = (struct vcpu_state){
        .icount = icount,
        .xcr0 = 1,
        .mxcsr = MXCSR_RESET,
        .x87 = {.fcw = FCW_RESET, .tags = 0xff}, /* eight zeros, none of them empty */
        .pat = PAT_RESET,
        .apic_base = IA32_APIC_BASE_DEFAULT | IA32_APIC_BASE_ENABLE | (bootstrap ? IA32_APIC_BASE_BSP : 0),
        .misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE,
        .ucode_rev = UCODE_REVISION,
        .smbase = SMBASE_RESET,
    };
    reset_common(state, cpuid_signature);
}

void vcpu_state_init(struct vcpu_state *state, u32 cpuid_signature)
{
    u64 cache_bits = state->cr0 & (CR0_CD | CR0_NW);
    reset_common(state, cpuid_signature);
    state->cr0 = CR0_ET | cache_bits;
}
