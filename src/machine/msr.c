/*
 * RDMSR and WRMSR. One row of the table below is one MSR or a run of equal ones: where its value is, which bits software
 * may write, and what else a write must satisfy. A number without a row does not exist: #GP(0), which operating systems
 * probe for. The local APIC's own (x2APIC, APIC base, TSC deadline) are passed to it.
 *
 * Numbers and bits: SDM volume 4; for AMD's the APM volume 2 appendix A.
 */
#include "x86/msr.h"

#include "machine/vm_internal.h"

enum vendor { ANY_VENDOR, INTEL, AMD };

enum {
    MCG_CTL_PRESENT = 1 << 8, /* MCG_CAP.MCG_CTL_P */
    BUS_MHZ = 100,            /* of the ratios in PLATFORM_INFO and PERF_STATUS */
    PLATFORM_RATIO_SHIFT = 8,
    DEBUGCTL_LBR_BTF = 3,
    DEBUGCTL_DEFINED = 0xffc3, /* trace bits that have no effect here, but are there */
};
#define EFER_WRITABLE ((u64)(EFER_SCE | EFER_LME | EFER_NXE | EFER_FFXSR))
/* SDM 4 table 2-2. Beside the named ones: thermal control, SpeedStep, xTPR messages. */
#define MISC_ENABLE_WRITABLE                                                                                 \
    ((u64)(MISC_ENABLE_FAST_STRINGS | 1 << 3 | 1 << 16 | MISC_ENABLE_MONITOR | MISC_ENABLE_LIMIT_CPUID |     \
           1 << 23) |                                                                                        \
     1ull << MISC_ENABLE_XD_DISABLE_SHIFT)
#define HWCR_TSC_FREQ (1ull << 24) /* the TSC counts at the P0 frequency */
#define DE_CFG_LFENCE (1ull << 1)  /* LFENCE waits for all before it */
#define VM_CR_SVMDIS  (1ull << 4)
#define PHYS_RESERVED (~0ull << X86_PHYS_BITS)
#define ALL_BITS      UINT64_MAX
#define NO_FIELD      UINT32_MAX

struct msr_row {
    u32 first;
    u32 count;       /* 0: 1 */
    u16 feature;     /* enum x86_feature that must be offered */
    u8 vendor;       /* enum vendor */
    bool write_only; /* write only */
    u32 field; /* offset in vcpu_state of a u64 (an array of `count`), or NO_FIELD: reads as `constant` */
    u64 constant;
    u64 reserved; /* a write with one of these bits set is #GP */
    u64 writable; /* a write changes these bits, and leaves the others as they are */
    /* In place of the above; false: #GP. `n` counts from `first`. */
    bool (*read)(struct vcpu *vcpu, unsigned n, u64 *value);
    bool (*write)(struct vcpu *vcpu, unsigned n, u64 value);
    /* A further condition of a write to a field. */
    bool (*valid)(const struct vcpu *vcpu, u64 value);
};

static bool canonical(const struct vcpu *vcpu, u64 value)
{
    return x86_canonical(value, cpu_model_virt_bits(&vcpu->vm->config.cpu));
}

static bool has(const struct vcpu *vcpu, enum x86_feature feature)
{
    return cpu_model_has(&vcpu->vm->config.cpu, feature);
}

/* ---- Time ---- */

static bool read_tsc(struct vcpu *vcpu, unsigned n, u64 *value)
{
    *value = vcpu_tsc(vcpu);
    return true;
}

static void move_tsc(struct vcpu *vcpu, u64 by)
{
    vcpu->state.tsc_offset += by;
    vcpu->state.tsc_adjust += by;
    if (vcpu->intc && vcpu->intc->tsc_changed)
        vcpu->intc->tsc_changed(vcpu->intc_opaque);
}

/* A write to the TSC moves TSC_ADJUST along, and the reverse (SDM 3B 17.17.3). */
static bool write_tsc(struct vcpu *vcpu, unsigned n, u64 value)
{
    move_tsc(vcpu, value - vcpu_tsc(vcpu));
    return true;
}

static bool write_tsc_adjust(struct vcpu *vcpu, unsigned n, u64 value)
{
    move_tsc(vcpu, value - vcpu->state.tsc_adjust);
    return true;
}

static u64 tsc_ratio(const struct vcpu *vcpu)
{
    u64 ratio = vcpu->vm->config.tsc_hz / (BUS_MHZ * 1000000ull);

    return ratio < 0xff ? ratio : 0xff;
}

static bool read_platform_info(struct vcpu *vcpu, unsigned n, u64 *value)
{
    *value = tsc_ratio(vcpu) << PLATFORM_RATIO_SHIFT;
    return true;
}

/* ---- Mode ---- */

/* SDM 3A 2.2.1: LME cannot change under paging; a bit of a feature that is not there is reserved. LMA follows CR0. */
static bool write_efer(struct vcpu *vcpu, unsigned n, u64 value)
{
    struct vcpu_state *s = &vcpu->state;
    u64 allowed = EFER_LMA;

    if (has(vcpu, X86_FEATURE_SYSCALL))
        allowed |= EFER_SCE;
    if (has(vcpu, X86_FEATURE_LM))
        allowed |= EFER_LME;
    if (has(vcpu, X86_FEATURE_NX))
        allowed |= EFER_NXE;
    if (has(vcpu, X86_FEATURE_FXSR_OPT))
        allowed |= EFER_FFXSR;
    if (value & ~allowed)
        return false;
    if (s->cr0 & CR0_PG && (value ^ s->efer) & EFER_LME)
        return false;
    s->efer = (s->efer & EFER_LMA) | (value & EFER_WRITABLE);
    return true;
}

static bool read_base(struct vcpu *vcpu, unsigned n, u64 *value)
{
    *value = vcpu->state.seg[n ? SEG_GS : SEG_FS].base;
    return true;
}

static bool write_base(struct vcpu *vcpu, unsigned n, u64 value)
{
    if (!canonical(vcpu, value))
        return false;
    vcpu->state.seg[n ? SEG_GS : SEG_FS].base = value;
    return true;
}

/* ---- Local APIC ---- */

static bool read_apic_base(struct vcpu *vcpu, unsigned n, u64 *value)
{
    *value = vcpu->intc ? vcpu->intc->get_base(vcpu->intc_opaque) : vcpu->state.apic_base;
    return true;
}

static bool write_apic_base(struct vcpu *vcpu, unsigned n, u64 value)
{
    if (value & PHYS_RESERVED || !vcpu->intc || !vcpu->intc->set_base(vcpu->intc_opaque, value))
        return false;
    vcpu->state.apic_base = vcpu->intc->get_base(vcpu->intc_opaque);
    return true;
}

static bool read_x2apic(struct vcpu *vcpu, unsigned n, u64 *value)
{
    return vcpu->intc && vcpu->intc->msr_read(vcpu->intc_opaque, MSR_X2APIC_FIRST + n, value);
}

static bool write_x2apic(struct vcpu *vcpu, unsigned n, u64 value)
{
    return vcpu->intc && vcpu->intc->msr_write(vcpu->intc_opaque, MSR_X2APIC_FIRST + n, value);
}

static bool read_tsc_deadline(struct vcpu *vcpu, unsigned n, u64 *value)
{
    return vcpu->intc && vcpu->intc->msr_read(vcpu->intc_opaque, MSR_TSC_DEADLINE, value);
}

static bool write_tsc_deadline(struct vcpu *vcpu, unsigned n, u64 value)
{
    return vcpu->intc && vcpu->intc->msr_write(vcpu->intc_opaque, MSR_TSC_DEADLINE, value);
}

/* ---- Memory types (SDM 3A 12.11, 12.12) ---- */

static bool memory_type(u8 type)
{
    return type < 7 && type != 2 && type != 3;
}

static bool valid_pat(const struct vcpu *vcpu, u64 value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        u8 type = (u8)(value >> i);

        if (!memory_type(type) && type != 7) /* UC-, in the PAT alone */
            return false;
    }
    return true;
}

static bool valid_fixed_mtrr(const struct vcpu *vcpu, u64 value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        if (!memory_type((u8)(value >> i)))
            return false;
    }
    return true;
}

static bool valid_low_type(const struct vcpu *vcpu, u64 value)
{
    return memory_type((u8)value);
}

static bool read_variable_mtrr(struct vcpu *vcpu, unsigned n, u64 *value)
{
    const struct vcpu_state *s = &vcpu->state;

    *value = n & 1 ? s->mtrr_mask[n / 2] : s->mtrr_base[n / 2];
    return true;
}

static bool write_variable_mtrr(struct vcpu *vcpu, unsigned n, u64 value)
{
    struct vcpu_state *s = &vcpu->state;
    bool mask = n & 1;

    if (value & PHYS_RESERVED || value & (mask ? 0x7ff : 0xf00) || (!mask && !memory_type((u8)value)))
        return false;
    *(mask ? &s->mtrr_mask[n / 2] : &s->mtrr_base[n / 2]) = value;
    return true;
}

/* ---- Others ---- */

static bool write_feature_control(struct vcpu *vcpu, unsigned n, u64 value)
{
    if (vcpu->state.feature_control & FEATURE_CONTROL_LOCK)
        return false;
    vcpu->state.feature_control = value & FEATURE_CONTROL_LOCK; /* nothing that it could enable is offered */
    return true;
}

static bool valid_spec_ctrl(const struct vcpu *vcpu, u64 value)
{
    u64 allowed = SPEC_CTRL_IBRS | SPEC_CTRL_STIBP;

    if (has(vcpu, X86_FEATURE_BHI_CTRL))
        allowed |= SPEC_CTRL_BHI_DIS_S;
    return !(value & ~allowed);
}

/* ---- The table, sorted by number ---- */

#define FIELD(member) .field = offsetof(struct vcpu_state, member)
/* Reads as that; writes are taken and have no effect, unless READ_ONLY follows. */
#define CONSTANT(value) .field = NO_FIELD, .constant = (value)
#define READ_ONLY       .write = refuse_write
#define CALLS(name)     .field = NO_FIELD, .read = read_##name, .write = write_##name

static bool refuse_write(struct vcpu *vcpu, unsigned n, u64 value)
{
    return false;
}

static const struct msr_row rows[] = {
    {MSR_P5_MC_ADDR, .count = 2, CONSTANT(0)},
    {MSR_TSC, CALLS(tsc)},
    {MSR_PLATFORM_ID, .vendor = INTEL, CONSTANT(0), READ_ONLY},
    {MSR_APIC_BASE, .feature = X86_FEATURE_APIC, CALLS(apic_base)},
    {MSR_EBL_CR_POWERON, .vendor = INTEL, CONSTANT(0)},
    {MSR_SMI_COUNT, .vendor = INTEL, FIELD(smi_count), READ_ONLY},
    {MSR_FEATURE_CONTROL, .vendor = INTEL, FIELD(feature_control), .write = write_feature_control},
    {MSR_TSC_ADJUST, .feature = X86_FEATURE_TSC_ADJUST, FIELD(tsc_adjust), .write = write_tsc_adjust},
    {MSR_SPEC_CTRL, .feature = X86_FEATURE_SPEC_CTRL, FIELD(spec_ctrl), .writable = ALL_BITS,
     .valid = valid_spec_ctrl},
    {MSR_PRED_CMD, .feature = X86_FEATURE_SPEC_CTRL, .write_only = true, CONSTANT(0),
     .reserved = ~(u64)PRED_CMD_IBPB},
    {MSR_BIOS_UPDT_TRIG, .vendor = INTEL, .write_only = true, CONSTANT(0)},
    {MSR_BIOS_SIGN_ID, FIELD(ucode_rev)},
    {MSR_PLATFORM_INFO, .vendor = INTEL, .field = NO_FIELD, .read = read_platform_info, READ_ONLY},
    {MSR_UMWAIT_CONTROL, .feature = X86_FEATURE_WAITPKG, FIELD(umwait_control),
     .reserved = ~0xffffffffull | 1 << 1, .writable = 0xfffffffd},
    {MSR_MTRRCAP, .feature = X86_FEATURE_MTRR, CONSTANT(X86_MTRR_VARIABLE | MTRRCAP_FIXED | MTRRCAP_WC),
     READ_ONLY},
    {MSR_ARCH_CAPABILITIES, .feature = X86_FEATURE_ARCH_CAPABILITIES, CONSTANT(ARCH_CAPABILITIES), READ_ONLY},
    {MSR_SYSENTER_CS, .feature = X86_FEATURE_SEP, FIELD(sysenter_cs), .writable = 0xffffffff},
    {MSR_SYSENTER_ESP, .feature = X86_FEATURE_SEP, FIELD(sysenter_esp), .writable = ALL_BITS,
     .valid = canonical},
    {MSR_SYSENTER_EIP, .feature = X86_FEATURE_SEP, FIELD(sysenter_eip), .writable = ALL_BITS,
     .valid = canonical},
    {MSR_MCG_CAP, .feature = X86_FEATURE_MCA, CONSTANT(MCG_CTL_PRESENT),
     READ_ONLY}, /* no banks: 400h.. #GP */
    {MSR_MCG_STATUS, .feature = X86_FEATURE_MCA, FIELD(mcg_status), .reserved = ~7ull, .writable = 7},
    {MSR_MCG_CTL, .feature = X86_FEATURE_MCA, FIELD(mcg_ctl), .writable = ALL_BITS},
    {MSR_MISC_ENABLE, .vendor = INTEL, FIELD(misc_enable), .writable = MISC_ENABLE_WRITABLE},
    {MSR_DEBUGCTL, FIELD(debugctl), .reserved = ~(u64)DEBUGCTL_DEFINED, .writable = DEBUGCTL_LBR_BTF},
    {MSR_LASTBRANCHFROMIP, .count = 4, CONSTANT(0), READ_ONLY},
    {MSR_MTRR_PHYSBASE0, .count = 2 * X86_MTRR_VARIABLE, .feature = X86_FEATURE_MTRR, CALLS(variable_mtrr)},
    {MSR_MTRR_FIX64K_00000, .feature = X86_FEATURE_MTRR, FIELD(mtrr_fixed[0]), .writable = ALL_BITS,
     .valid = valid_fixed_mtrr},
    {MSR_MTRR_FIX16K_80000, .count = 2, .feature = X86_FEATURE_MTRR, FIELD(mtrr_fixed[1]),
     .writable = ALL_BITS, .valid = valid_fixed_mtrr},
    {MSR_MTRR_FIX4K_C0000, .count = 8, .feature = X86_FEATURE_MTRR, FIELD(mtrr_fixed[3]),
     .writable = ALL_BITS, .valid = valid_fixed_mtrr},
    {MSR_PAT, .feature = X86_FEATURE_PAT, FIELD(pat), .writable = ALL_BITS, .valid = valid_pat},
    {MSR_MTRR_DEF_TYPE, .feature = X86_FEATURE_MTRR, FIELD(mtrr_def_type),
     .reserved = ~(0xffull | MTRR_DEF_TYPE_FIXED | MTRR_DEF_TYPE_ENABLE), .writable = ALL_BITS,
     .valid = valid_low_type},
    {MSR_TSC_DEADLINE, .feature = X86_FEATURE_TSC_DEADLINE, CALLS(tsc_deadline)},
    {MSR_PKRS, .feature = X86_FEATURE_PKS, FIELD(pkrs), .reserved = ~0xffffffffull, .writable = 0xffffffff},
    {MSR_X2APIC_FIRST, .count = MSR_X2APIC_LAST - MSR_X2APIC_FIRST + 1, .feature = X86_FEATURE_X2APIC,
     CALLS(x2apic)},
    {MSR_XSS, .feature = X86_FEATURE_XSAVES, FIELD(xss), .reserved = ALL_BITS},
    {MSR_EFER, FIELD(efer), .write = write_efer},
    {MSR_STAR, .feature = X86_FEATURE_SYSCALL, FIELD(star), .writable = ALL_BITS},
    {MSR_LSTAR, .feature = X86_FEATURE_LM, FIELD(lstar), .writable = ALL_BITS, .valid = canonical},
    {MSR_CSTAR, .feature = X86_FEATURE_LM, FIELD(cstar), .writable = ALL_BITS, .valid = canonical},
    {MSR_SFMASK, .feature = X86_FEATURE_LM, FIELD(sfmask), .writable = 0xffffffff},
    {MSR_FS_BASE, .count = 2, .feature = X86_FEATURE_LM, CALLS(base)},
    {MSR_KERNEL_GS_BASE, .feature = X86_FEATURE_LM, FIELD(kernel_gs_base), .writable = ALL_BITS,
     .valid = canonical},
    {MSR_TSC_AUX, .feature = X86_FEATURE_RDTSCP, FIELD(tsc_aux), .reserved = ~0xffffffffull,
     .writable = 0xffffffff},
    {MSR_AMD_SYSCFG, .vendor = AMD, CONSTANT(0)},
    {MSR_AMD_HWCR, .vendor = AMD, CONSTANT(HWCR_TSC_FREQ)},
    {MSR_AMD_NB_CFG, .vendor = AMD, CONSTANT(0)},
    {MSR_AMD_VM_CR, .vendor = AMD, CONSTANT(VM_CR_SVMDIS)},
    {MSR_AMD_LS_CFG, .vendor = AMD, CONSTANT(0)},
    {MSR_AMD_DE_CFG, .vendor = AMD, CONSTANT(DE_CFG_LFENCE)},
};

/* The row of an MSR that this model has, or NULL. */
static const struct msr_row *find(const struct vcpu *vcpu, u32 msr)
{
    size_t low = 0, high = ARRAY_SIZE(rows);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct msr_row *row = &rows[middle];

        if (msr < row->first) {
            high = middle;
        } else if (msr - row->first >= (row->count ? row->count : 1)) {
            low = middle + 1;
        } else {
            if (!has(vcpu, row->feature))
                return NULL;
            if (row->vendor != ANY_VENDOR && (row->vendor == AMD) != vcpu->vm->config.cpu.amd)
                return NULL;
            return row;
        }
    }
    return NULL;
}

static u64 *field_of(struct vcpu *vcpu, const struct msr_row *row, unsigned n)
{
    return (u64 *)((u8 *)&vcpu->state + row->field) + n;
}

bool vcpu_rdmsr(struct vcpu *vcpu, u32 msr, u64 *value)
{
    const struct msr_row *row = find(vcpu, msr);

    if (!row || row->write_only)
        return false;
    vcpu_sync_clock(vcpu);
    if (row->read)
        return row->read(vcpu, msr - row->first, value);
    *value = row->field == NO_FIELD ? row->constant : *field_of(vcpu, row, msr - row->first);
    return true;
}

bool vcpu_wrmsr(struct vcpu *vcpu, u32 msr, u64 value)
{
    const struct msr_row *row = find(vcpu, msr);
    u64 *field;

    if (!row)
        return false;
    vcpu_sync_clock(vcpu);
    if (row->write)
        return row->write(vcpu, msr - row->first, value);
    if (value & row->reserved || (row->valid && !row->valid(vcpu, value)))
        return false;
    if (row->field != NO_FIELD) {
        field = field_of(vcpu, row, msr - row->first);
        *field = (*field & ~row->writable) | (value & row->writable);
    }
    return true;
}
