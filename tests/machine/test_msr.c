/* RDMSR and WRMSR: what exists, what a write must satisfy, and the effects that reach beyond one value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "x86/msr.h"

static struct fake_vm fake;
static struct vcpu *vcpu;

static int set_up(void **state)
{
    fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
    vcpu = fake.vm->vcpus[0];
    return 0;
}

static int tear_down(void **state)
{
    vm_free(fake.vm);
    return 0;
}

static u64 rdmsr(u32 msr)
{
    u64 value = 0;

    if (!vcpu_rdmsr(vcpu, msr, &value))
        fail_msg("RDMSR %xh: #GP", msr);
    return value;
}

static void assert_wrmsr(u32 msr, u64 value, u64 expected)
{
    if (!vcpu_wrmsr(vcpu, msr, value))
        fail_msg("WRMSR %xh, %llxh: #GP", msr, (unsigned long long)value);
    if (rdmsr(msr) != expected)
        fail_msg("MSR %xh is %llxh, not %llxh", msr, (unsigned long long)rdmsr(msr),
                 (unsigned long long)expected);
}

/* #GP, and nothing has changed. */
static void assert_refused(u32 msr, u64 value)
{
    u64 before = 0, after = 0;
    bool readable = vcpu_rdmsr(vcpu, msr, &before);

    if (vcpu_wrmsr(vcpu, msr, value))
        fail_msg("WRMSR %xh, %llxh was accepted", msr, (unsigned long long)value);
    if (readable) {
        assert_true(vcpu_rdmsr(vcpu, msr, &after));
        assert_true(before == after);
    }
}

static const u64 NON_CANONICAL = 0x0100000000000000, HIGH_HALF = 0xffff800000000000;

static void test_plain_values(void **state)
{
    static const u32 addresses[] = {MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_LSTAR,         MSR_CSTAR,
                                    MSR_FS_BASE,      MSR_GS_BASE,      MSR_KERNEL_GS_BASE};

    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        assert_wrmsr(addresses[i], HIGH_HALF, HIGH_HALF);
        assert_wrmsr(addresses[i], 0x1000 + i, 0x1000 + i);
        assert_refused(addresses[i], NON_CANONICAL);
        assert_refused(addresses[i], 0xfeffffffffffffff);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++)
        assert_int_equal(rdmsr(addresses[i]), 0x1000 + i); /* no two of them are one */
    assert_int_equal(vcpu->state.seg[SEG_FS].base, 0x1004);
    assert_int_equal(vcpu->state.seg[SEG_GS].base, 0x1005);
    assert_wrmsr(MSR_STAR, UINT64_MAX, UINT64_MAX);
    assert_wrmsr(MSR_SFMASK, 0x123456789, 0x23456789);
    assert_wrmsr(MSR_SYSENTER_CS, 0x1b, 0x1b);
    assert_wrmsr(MSR_TSC_AUX, 0xffffffff, 0xffffffff);
    assert_refused(MSR_TSC_AUX, 1ull << 32);
}

static void test_numbers_that_do_not_exist(void **state)
{
    static const u32 numbers[] = {2,          0x18,       0x1c,       0x20f + 1,  0x251,      0x25a,
                                  0x267,      0x270,      0x428,      0x3ff,      0x7ff,      0x900,
                                  0x48f,      0x40000000, 0x4b564d00, 0xc0000085, 0xc00000ff, 0xc0000104,
                                  0xffffffff, 0xc0010010, 0xc0011029};
    u64 value;

    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (vcpu_rdmsr(vcpu, numbers[i], &value) || vcpu_wrmsr(vcpu, numbers[i], 0))
            fail_msg("MSR %xh exists", numbers[i]);
    }
}

/* A guest that tries every number with every kind of value gets answers, and its VM lives. */
static void test_every_number(void **state)
{
    static const u64 values[] = {0, 1, UINT64_MAX, 0x0606060606060606, 0xfffff800};
    static const u32 bases[] = {0, 0xc0000000, 0xc0010000};
    unsigned exist = 0;
    u64 value;

    for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
        for (u32 msr = bases[b]; msr < bases[b] + 0x3000; msr++) {
            exist += vcpu_rdmsr(vcpu, msr, &value);
            for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
                (void)!vcpu_wrmsr(vcpu, msr, values[i]);
        }
    }
    assert_in_range(exist, 50, 160);
}

static void test_vendor_and_features_decide(void **state)
{
    u64 value;

    assert_true(vcpu_rdmsr(vcpu, MSR_PLATFORM_INFO, &value));
    assert_false(vcpu_rdmsr(vcpu, MSR_AMD_HWCR, &value));
    fake.vm->config.cpu.amd = true;
    assert_false(vcpu_rdmsr(vcpu, MSR_PLATFORM_INFO, &value));
    assert_true(vcpu_rdmsr(vcpu, MSR_AMD_HWCR, &value));
    assert_true(value & 1 << 24);
    assert_int_equal(rdmsr(MSR_AMD_DE_CFG), 2);
    assert_wrmsr(MSR_AMD_SYSCFG, 0x740000, 0); /* taken, without effect */
    assert_true(vcpu_rdmsr(vcpu, MSR_TSC_ADJUST, &value));
    fake.vm->config.cpu.has[X86_FEATURE_TSC_ADJUST] = false;
    assert_false(vcpu_rdmsr(vcpu, MSR_TSC_ADJUST, &value));
    assert_false(vcpu_wrmsr(vcpu, MSR_TSC_ADJUST, 0));
}

static void test_efer(void **state)
{
    struct vcpu_state *s = &vcpu->state;

    assert_wrmsr(MSR_EFER, EFER_SCE | EFER_LME | EFER_NXE, EFER_SCE | EFER_LME | EFER_NXE);
    s->cr0 |= CR0_PG;
    s->efer |= EFER_LMA;
    assert_refused(MSR_EFER, EFER_SCE | EFER_NXE | EFER_LMA);
    /* LMA cannot be written, either way. */
    assert_wrmsr(MSR_EFER, EFER_LME, EFER_LME | EFER_LMA);
    s->cr0 &= ~(u64)CR0_PG;
    s->efer = 0;
    assert_wrmsr(MSR_EFER, EFER_LMA, 0);
    assert_refused(MSR_EFER, 1 << 12); /* SVME */
    assert_refused(MSR_EFER, 1ull << 32);
    fake.vm->config.cpu.has[X86_FEATURE_NX] = false;
    assert_refused(MSR_EFER, EFER_NXE);
    fake.vm->config.cpu.has[X86_FEATURE_LM] = false;
    assert_refused(MSR_EFER, EFER_LME);
}

static void test_memory_types(void **state)
{
    assert_wrmsr(MSR_PAT, 0x0007040600070406, 0x0007040600070406);
    assert_refused(MSR_PAT, 0x0007040600070402);
    assert_refused(MSR_PAT, 0x0800000000000000);
    assert_int_equal(rdmsr(MSR_MTRRCAP), 8 | 1 << 8 | 1 << 10);
    assert_refused(MSR_MTRRCAP, 0);
    assert_wrmsr(MSR_MTRR_DEF_TYPE, 0xc06, 0xc06);
    assert_refused(MSR_MTRR_DEF_TYPE, 0xc07);
    assert_refused(MSR_MTRR_DEF_TYPE, 0x1006);
    for (u32 i = 0; i < X86_MTRR_VARIABLE; i++) {
        u64 base = (u64)i << 20 | 6, mask = 0xfff0000800 + ((u64)i << 12);

        assert_wrmsr(MSR_MTRR_PHYSBASE0 + 2 * i, base, base);
        assert_wrmsr(MSR_MTRR_PHYSBASE0 + 2 * i + 1, mask, mask);
    }
    assert_int_equal(vcpu->state.mtrr_base[7], 7 << 20 | 6);
    assert_refused(MSR_MTRR_PHYSBASE0, 0x100106);
    assert_refused(MSR_MTRR_PHYSBASE0, 0x2);
    assert_refused(MSR_MTRR_PHYSBASE0, 6 | 1ull << X86_PHYS_BITS);
    assert_refused(MSR_MTRR_PHYSBASE0 + 1, 0x400);
    assert_wrmsr(MSR_MTRR_FIX64K_00000, 0x0606060606060606, 0x0606060606060606);
    assert_wrmsr(MSR_MTRR_FIX16K_A0000, 0, 0);
    assert_wrmsr(MSR_MTRR_FIX4K_C0000 + 7, 0x0505050505050505, 0x0505050505050505);
    assert_int_equal(vcpu->state.mtrr_fixed[0] & 0xff, 6);
    assert_int_equal(vcpu->state.mtrr_fixed[10] & 0xff, 5);
    assert_refused(MSR_MTRR_FIX4K_C0000, 0x0606060606060607);
}

static void count_change(void *opaque)
{
    ++*(unsigned *)opaque;
}

static void test_tsc(void **state)
{
    static const struct vcpu_intc_ops ops = {.tsc_changed = count_change};
    unsigned changes = 0;

    vm_run(fake.vm, 1000);
    assert_int_equal(rdmsr(MSR_TSC), 1000);
    vcpu->intc = &ops;
    vcpu->intc_opaque = &changes;
    assert_wrmsr(MSR_TSC, 5000, 5000);
    assert_int_equal(rdmsr(MSR_TSC_ADJUST), 4000);
    assert_int_equal(changes, 1);
    vm_run(fake.vm, 10);
    assert_int_equal(rdmsr(MSR_TSC), 5010);
    assert_wrmsr(MSR_TSC_ADJUST, 0, 0);
    assert_int_equal(rdmsr(MSR_TSC), 1010);
    assert_wrmsr(MSR_TSC_ADJUST, (u64)-10, (u64)-10);
    assert_int_equal(vcpu_tsc(vcpu), 1000);
    assert_int_equal(changes, 3);
    vcpu->intc = NULL;
}

static void test_machine_check(void **state)
{
    u64 value;

    assert_int_equal(rdmsr(MSR_MCG_CAP) & 0xff, 0);
    assert_refused(MSR_MCG_CAP, 0);
    assert_wrmsr(MSR_MCG_STATUS, 4, 4);
    assert_refused(MSR_MCG_STATUS, 8);
    assert_wrmsr(MSR_MCG_CTL, UINT64_MAX, UINT64_MAX);
    assert_refused(MSR_MC0_CTL, 0);
    assert_false(vcpu_rdmsr(vcpu, MSR_MC0_CTL, &value));
}

static void test_odds_and_ends(void **state)
{
    u64 value;

    assert_int_equal(rdmsr(MSR_BIOS_SIGN_ID), 1ull << 32);
    assert_wrmsr(MSR_BIOS_SIGN_ID, 0, 1ull << 32); /* what loads the revision: a write of 0, then CPUID */
    assert_false(vcpu_rdmsr(vcpu, MSR_BIOS_UPDT_TRIG, &value));
    assert_true(vcpu_wrmsr(vcpu, MSR_BIOS_UPDT_TRIG, 0x1234));
    assert_wrmsr(MSR_FEATURE_CONTROL, 1, 1);
    assert_refused(MSR_FEATURE_CONTROL, 5);
    assert_wrmsr(MSR_DEBUGCTL, 2, 2);
    assert_refused(MSR_DEBUGCTL, 1 << 16);
    assert_wrmsr(MSR_MISC_ENABLE, 0, rdmsr(MSR_MISC_ENABLE) & ~1ull);
    assert_wrmsr(MSR_XSS, 0, 0);
    assert_refused(MSR_XSS, 1 << 8);
    assert_int_equal(rdmsr(MSR_PLATFORM_INFO), 10 << 8); /* 1 GHz */
    assert_refused(MSR_PLATFORM_INFO, 0);
}

/* Without a local APIC its MSRs refuse; with one they are passed on. */
static u64 get_base(void *opaque)
{
    return *(u64 *)opaque;
}
static bool set_base(void *opaque, u64 value)
{
    *(u64 *)opaque = value;
    return value != 0x666000;
}
static bool intc_msr_read(void *opaque, u32 msr, u64 *value)
{
    *value = msr;
    return msr != 0x8ff;
}
static bool intc_msr_write(void *opaque, u32 msr, u64 value)
{
    *(u64 *)opaque = msr + value;
    return msr != 0x8ff;
}

/* What tells an operating system that it needs no mitigations. */
static void test_speculation(void **state)
{
    assert_true(rdmsr(MSR_ARCH_CAPABILITIES) & ARCH_CAP_RDCL_NO);
    assert_refused(MSR_ARCH_CAPABILITIES, ARCH_CAPABILITIES);
    assert_wrmsr(MSR_SPEC_CTRL, SPEC_CTRL_IBRS, SPEC_CTRL_IBRS);
    assert_refused(MSR_SPEC_CTRL, SPEC_CTRL_SSBD);
    assert_wrmsr(MSR_SPEC_CTRL, SPEC_CTRL_BHI_DIS_S, SPEC_CTRL_BHI_DIS_S);
    fake.vm->config.cpu.has[X86_FEATURE_BHI_CTRL] = false;
    assert_refused(MSR_SPEC_CTRL, SPEC_CTRL_BHI_DIS_S);
    assert_true(vcpu_wrmsr(vcpu, MSR_PRED_CMD, PRED_CMD_IBPB));
    assert_refused(MSR_PRED_CMD, 2);
}

static void test_local_apic(void **state)
{
    static const struct vcpu_intc_ops ops = {
        .get_base = get_base, .set_base = set_base, .msr_read = intc_msr_read, .msr_write = intc_msr_write};
    u64 base = 0xfee00900, value;

    assert_false(vcpu_rdmsr(vcpu, 0x802, &value));
    assert_false(vcpu_wrmsr(vcpu, MSR_TSC_DEADLINE, 1));
    assert_false(vcpu_wrmsr(vcpu, MSR_APIC_BASE, 0xfee00900));
    vcpu->intc = &ops;
    vcpu->intc_opaque = &base;
    assert_int_equal(rdmsr(MSR_APIC_BASE), 0xfee00900);
    assert_wrmsr(MSR_APIC_BASE, 0xfee00d00, 0xfee00d00);
    assert_int_equal(vcpu->state.apic_base, 0xfee00d00);
    assert_false(vcpu_wrmsr(vcpu, MSR_APIC_BASE, 0x666000));
    assert_false(vcpu_wrmsr(vcpu, MSR_APIC_BASE, 1ull << 40));
    assert_int_equal(rdmsr(0x802), 0x802);
    assert_false(vcpu_rdmsr(vcpu, 0x8ff, &value));
    assert_int_equal(rdmsr(MSR_TSC_DEADLINE), MSR_TSC_DEADLINE);
    assert_true(vcpu_wrmsr(vcpu, MSR_TSC_DEADLINE, 1));
    assert_int_equal(base, MSR_TSC_DEADLINE + 1);
    vcpu->intc = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_that_do_not_exist, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_vendor_and_features_decide, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_efer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_types, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tsc, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_machine_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odds_and_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_speculation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_local_apic, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
