/* Reset values of a virtual CPU, INIT, and the states that a load refuses. */
#include "x86/vcpu_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { SIGNATURE = 0x000506e3 };

static void fill(struct vcpu_state *s, u8 byte)
{
    memset(s, byte, sizeof(*s));
}

static void reset_gives_table_10_1(void **opaque)
{
    struct vcpu_state s;
    fill(&s, 0xa5);
    s.icount = 42;
    vcpu_state_reset(&s, true, SIGNATURE);
    assert_int_equal(s.rip, 0xfff0);
    assert_int_equal(s.rflags, 2);
    assert_int_equal(s.gpr[RDX], SIGNATURE);
    assert_int_equal(s.gpr[RAX] | s.gpr[RBX] | s.gpr[RSP] | s.gpr[R15] | s.gpr[16], 0);
    assert_int_equal(s.seg[SEG_CS].selector, 0xf000);
    assert_int_equal(s.seg[SEG_CS].base, 0xffff0000);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        assert_int_equal(s.seg[i].limit, 0xffff);
        assert_int_equal(s.seg[i].attr, 0x93);
        assert_int_equal(s.seg[i].base, i == SEG_CS ? 0xffff0000 : 0);
    }
    assert_int_equal(s.seg[SEG_LDTR].attr, 0x82);
    assert_int_equal(s.seg[SEG_TR].attr, 0x8b);
    assert_int_equal(s.idtr.limit, 0xffff);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.cr3 | s.cr4 | s.efer, 0);
    assert_int_equal(s.dr[6], 0xffff0ff0);
    assert_int_equal(s.dr[7], 0x400);
    assert_int_equal(s.mxcsr, 0x1f80);
    assert_int_equal(s.x87.fcw, 0x40);
    assert_int_equal(s.x87.tags, 0xff);
    assert_int_equal(s.xcr0, 1);
    assert_true(s.pat == 0x0007040600070406);
    assert_int_equal(s.apic_base, 0xfee00900);
    assert_int_equal(s.activity, VCPU_RUNNING);
    assert_int_equal(s.icount, 42);
    assert_int_equal(vcpu_cpl(&s), 0);
    vcpu_state_reset(&s, false, SIGNATURE);
    assert_int_equal(s.activity, VCPU_WAIT_SIPI);
    assert_int_equal(s.apic_base, 0xfee00800);
}

static void init_keeps_what_the_table_keeps(void **opaque)
{
    struct vcpu_state s;
    vcpu_state_reset(&s, false, SIGNATURE);
    s.x87.fcw = 0x37f;
    s.mxcsr = 0x1fa0;
    s.vec[3][7] = 0x5a;
    s.xcr0 = 3;
    s.mtrr_def_type = 0xc06;
    s.sysenter_cs = 8;
    s.pat = 0x0606060606060606;
    s.kernel_gs_base = 0x1000;
    s.tsc_offset = 77;
    s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_CD;
    s.cr4 = CR4_PAE;
    s.efer = EFER_LME | EFER_LMA;
    s.gpr[RSI] = 1;
    s.nmi_masked = s.sti_shadow = s.event_pending = true;
    s.seg[SEG_DS].base = 0x1234;
    s.activity = VCPU_RUNNING;
    vcpu_state_init(&s, SIGNATURE);
    assert_int_equal(s.x87.fcw, 0x37f);
    assert_int_equal(s.mxcsr, 0x1fa0);
    assert_int_equal(s.vec[3][7], 0x5a);
    assert_int_equal(s.xcr0, 3);
    assert_int_equal(s.mtrr_def_type, 0xc06);
    assert_int_equal(s.sysenter_cs, 8);
    assert_true(s.pat == 0x0606060606060606);
    assert_int_equal(s.kernel_gs_base, 0x1000);
    assert_int_equal(s.tsc_offset, 77);
    assert_int_equal(s.cr0, CR0_CD | CR0_ET);
    assert_int_equal(s.cr4 | s.efer | s.gpr[RSI] | s.seg[SEG_DS].base, 0);
    assert_int_equal(s.gpr[RDX], SIGNATURE);
    assert_false(s.nmi_masked || s.sti_shadow || s.event_pending);
    assert_int_equal(s.activity, VCPU_WAIT_SIPI);
    s.apic_base |= IA32_APIC_BASE_BSP;
    vcpu_state_init(&s, SIGNATURE);
    assert_int_equal(s.activity, VCPU_RUNNING);
    assert_int_equal(s.rip, 0xfff0);
}

/* A 64-bit kernel's state, valid. */
static void long_mode_state(struct vcpu_state *s)
{
    vcpu_state_reset(s, true, SIGNATURE);
    s->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP;
    s->cr4 = CR4_PAE | CR4_OSFXSR;
    s->efer = EFER_LME | EFER_LMA | EFER_SCE;
    s->rip = 0xffffffff81000000;
    s->seg[SEG_CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_L;
    s->lstar = 0xffffffff81800000;
}

static int load(struct vcpu_state *s)
{
    struct error err;
    int result = vcpu_state_table.post_load(s, &err);
    if (result)
        assert_true(strlen(err.text) > 10);
    return result;
}

static void valid_states_load(void **opaque)
{
    struct vcpu_state s;
    vcpu_state_reset(&s, true, SIGNATURE);
    assert_int_equal(load(&s), 0);
    vcpu_state_init(&s, SIGNATURE);
    assert_int_equal(load(&s), 0);
    long_mode_state(&s);
    assert_int_equal(load(&s), 0);
    s.rip = 0x0000800000000000; /* code ran off the lower half: the fetch will fault */
    assert_int_equal(load(&s), 0);
    vcpu_state_reset(&s, true, SIGNATURE);
    s.cr0 |= CR0_PE;
    s.rflags |= FLAG_VM;
    s.seg[SEG_SS].attr |= SEG_DPL;
    assert_int_equal(load(&s), 0);
}

static void bad_gpr(struct vcpu_state *s)
{
    s->gpr[16] = 1;
}
static void bad_rflags_one(struct vcpu_state *s)
{
    s->rflags &= ~(u64)FLAG_ONE;
}
static void bad_rflags(struct vcpu_state *s)
{
    s->rflags |= 1 << 5;
}
static void bad_cr0(struct vcpu_state *s)
{
    s->cr0 &= ~(u64)CR0_PE;
}
static void bad_cr0_high(struct vcpu_state *s)
{
    s->cr0 |= 1ull << 32;
}
static void bad_cr0_nw(struct vcpu_state *s)
{
    s->cr0 |= CR0_NW;
}
static void bad_cr3(struct vcpu_state *s)
{
    s->cr3 = 1ull << 52;
}
static void bad_cr4(struct vcpu_state *s)
{
    s->cr4 |= 1 << 13;
}
static void bad_cr4_pae(struct vcpu_state *s)
{
    s->cr4 &= ~(u64)CR4_PAE;
}
static void bad_cr8(struct vcpu_state *s)
{
    s->cr8 = 16;
}
static void bad_efer(struct vcpu_state *s)
{
    s->efer |= 1 << 9;
}
static void bad_lma(struct vcpu_state *s)
{
    s->efer &= ~(u64)EFER_LMA;
}
static void bad_vm(struct vcpu_state *s)
{
    s->rflags |= FLAG_VM;
}
static void bad_dr7(struct vcpu_state *s)
{
    s->dr[7] = 1ull << 32;
}
static void bad_xcr0(struct vcpu_state *s)
{
    s->xcr0 = 5;
}
static void bad_xcr0_none(struct vcpu_state *s)
{
    s->xcr0 = 2;
}
static void bad_mxcsr(struct vcpu_state *s)
{
    s->mxcsr |= 1 << 16;
}
static void bad_pat(struct vcpu_state *s)
{
    s->pat = 2;
}
static void bad_lstar(struct vcpu_state *s)
{
    s->lstar = 1ull << 56;
}
static void bad_gs(struct vcpu_state *s)
{
    s->seg[SEG_GS].base = 1ull << 63;
}
static void bad_attr(struct vcpu_state *s)
{
    s->seg[SEG_DS].attr |= 1 << 9;
}
static void bad_pdptr(struct vcpu_state *s)
{
    s->pdptr[3] = 3;
}
static void bad_activity(struct vcpu_state *s)
{
    s->activity = 9;
}
static void bad_smm(struct vcpu_state *s)
{
    s->smm = true;
}
static void bad_rip(struct vcpu_state *s)
{
    s->seg[SEG_CS].attr &= ~SEG_L;
}

static void impossible_states_are_refused(void **opaque)
{
    static void (*const breakers[])(struct vcpu_state *) = {
        bad_gpr,   bad_rflags_one, bad_rflags, bad_cr0,  bad_cr0_high, bad_cr0_nw, bad_cr3,
        bad_cr4,   bad_cr4_pae,    bad_cr8,    bad_efer, bad_lma,      bad_vm,     bad_dr7,
        bad_xcr0,  bad_xcr0_none,  bad_mxcsr,  bad_pat,  bad_lstar,    bad_gs,     bad_attr,
        bad_pdptr, bad_activity,   bad_smm,    bad_rip,
    };
    for (size_t i = 0; i < ARRAY_SIZE(breakers); i++) {
        struct vcpu_state s;
        long_mode_state(&s);
        breakers[i](&s);
        if (load(&s) == 0)
            fail_msg("breaker %zu was loaded", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_gives_table_10_1),
        cmocka_unit_test(init_keeps_what_the_table_keeps),
        cmocka_unit_test(valid_states_load),
        cmocka_unit_test(impossible_states_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
