/* Waiting in MWAIT and its like: what ends it, by whom, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_engine.h"

enum { LINE = 0x2000, TURN = 50000 };

static struct vcpu *second(struct fake_vm *fake)
{
    return fake->vm->vcpus[1];
}

/* vCPU 0 runs; vCPU 1 waits for a store to LINE. */
static void two_vcpus(struct fake_vm *fake)
{
    fake_vm_new(fake, "j", 2, CLOCK_ICOUNT);
    vcpu_monitor(second(fake), VCPU_MONITOR_MWAIT, LINE + 5);
    vcpu_wait(second(fake), VCPU_MONITOR_MWAIT, 0, UINT64_MAX);
    assert_int_equal(second(fake)->state.activity, VCPU_WAITING);
    vm_run(fake->vm, 3 * TURN);
    assert_int_equal(second(fake)->state.icount, 0);
    assert_int_equal(fake->vm->vcpus[0]->state.icount, 3 * TURN);
}

static bool goes_on(struct fake_vm *fake)
{
    vm_run(fake->vm, 2 * TURN);
    return second(fake)->state.icount > 0;
}

static void test_a_store_ends_it(void **state)
{
    struct fake_vm fake;
    u8 byte = 1;

    two_vcpus(&fake);
    dma_write(&fake.vm->memory, LINE + 64, &byte, 1); /* the next line */
    dma_write(&fake.vm->memory, LINE - 1, &byte, 1);
    assert_false(goes_on(&fake));
    dma_write(&fake.vm->memory, LINE + 63, &byte, 1);
    assert_true(goes_on(&fake));
    assert_int_equal(second(&fake)->state.activity, VCPU_RUNNING);
    vm_free(fake.vm);
}

static void test_interrupts(void **state)
{
    static const struct {
        u32 kick, flags;
        u8 how;
        bool nmi_masked, ends;
    } rows[] = {
        {KICK_INTERRUPT, FLAG_IF, 0, false, true},
        {KICK_INTERRUPT, 0, 0, false, false},
        {KICK_INTERRUPT, 0, VCPU_WAIT_MASKED, false, true},
        {KICK_NMI, 0, 0, false, true},
        {KICK_NMI, 0, 0, true, false},
        {KICK_INIT, 0, 0, false, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct fake_vm fake;
        struct vcpu_state *s;

        two_vcpus(&fake);
        s = &second(&fake)->state;
        s->rflags |= rows[i].flags;
        s->nmi_masked = rows[i].nmi_masked;
        s->wait |= rows[i].how;
        vcpu_kick(second(&fake), rows[i].kick);
        if (vcpu_wait_over(second(&fake)) != rows[i].ends)
            fail_msg("row %zu", i);
        vm_free(fake.vm);
    }
}

static void test_only_an_armed_monitor_waits(void **state)
{
    struct fake_vm fake;
    struct vcpu *vcpu;
    u8 byte = 1;

    fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
    vcpu = fake.vm->vcpus[0];
    vcpu_wait(vcpu, VCPU_MONITOR_MWAIT, 0, UINT64_MAX);
    assert_int_equal(vcpu->state.activity, VCPU_RUNNING);
    vcpu_monitor(vcpu, VCPU_MONITOR_UMWAIT, LINE); /* another instruction's */
    vcpu_wait(vcpu, VCPU_MONITOR_MWAIT, 0, UINT64_MAX);
    assert_int_equal(vcpu->state.activity, VCPU_RUNNING);
    vcpu_monitor(vcpu, VCPU_MONITOR_MWAIT, 0x40000000); /* no RAM */
    vcpu_wait(vcpu, VCPU_MONITOR_MWAIT, 0, UINT64_MAX);
    assert_int_equal(vcpu->state.activity, VCPU_RUNNING);
    /* A store before the wait. */
    vcpu_monitor(vcpu, VCPU_MONITOR_MWAIT, LINE);
    dma_write(&fake.vm->memory, LINE, &byte, 1);
    vcpu_wait(vcpu, VCPU_MONITOR_MWAIT, 0, UINT64_MAX);
    assert_true(vcpu_wait_over(vcpu));
    vm_free(fake.vm);
}

static void test_deadline(void **state)
{
    for (unsigned limited = 0; limited < 2; limited++) {
        struct fake_vm fake;
        struct vcpu *vcpu;
        u64 before;

        fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
        vcpu = fake.vm->vcpus[0];
        before = vcpu_tsc(vcpu);
        vcpu_wait(vcpu, VCPU_MONITOR_NONE, limited ? VCPU_WAIT_LIMITED : 0, before + 1000000);
        vm_run(fake.vm, 1);
        assert_int_equal(vcpu->state.icount, 1);
        assert_in_range(vcpu_tsc(vcpu) - before, 1000000, 1000100); /* an idle machine's clock jumps */
        assert_int_equal(vcpu->state.rflags & FLAG_CF, limited);
        vm_free(fake.vm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store_ends_it),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_only_an_armed_monitor_waits),
        cmocka_unit_test(test_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
