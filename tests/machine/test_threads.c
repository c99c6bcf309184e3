/* vCPUs on threads of their own: that they run at once, stand still for one another, and stop for everybody else. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_engine.h"

static void *run_thread(void *opaque)
{
    const struct fake_vm *fake = opaque;

    return (void *)(uintptr_t)vm_run(fake->vm, UINT64_MAX);
}

static pthread_t start(struct fake_vm *fake)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_thread, fake), 0);
    return thread;
}

static enum vm_stop_reason join(pthread_t thread)
{
    void *result;

    pthread_join(thread, &result);
    return (enum vm_stop_reason)(uintptr_t)result;
}

/* Wait until vCPU `n` has retired that many instructions. */
static void wait_count(struct fake_vm *fake, unsigned n, u64 count)
{
    for (bool there = false; !there; sched_yield()) {
        vm_park(fake->vm);
        there = fake->vm->vcpus[n]->state.icount >= count;
        vm_unpark(fake->vm);
    }
}

/* ---- At once ---- */

static void test_they_run_at_once(void **state)
{
    struct fake_vm fake;
    pthread_t thread;
    unsigned together = 0;

    fake_vm_new(&fake, "nnnnj", 2, CLOCK_HOST);
    thread = start(&fake);
    wait_count(&fake, 0, 1000);
    wait_count(&fake, 1, 1000);
    for (unsigned n = 0; n < 20; n++) {
        while (__atomic_load_n(&fake.vm->world.inside, __ATOMIC_RELAXED) != 2)
            sched_yield();
        together++;
        vm_park(fake.vm);
        assert_int_equal(fake.vm->world.inside, 0);
        vm_unpark(fake.vm);
    }
    assert_int_equal(together, 20);
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vm_free(fake.vm);
}

/* ---- Standing still ---- */

struct still {
    struct fake_vm fake;
    u32 accesses, remaps, not_still; /* atomic */
};

static void remap(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct still *s = opaque;

    memory_commit(&s->fake.vm->memory);
    __atomic_fetch_add(&s->accesses, 1, __ATOMIC_RELAXED);
}

static void on_remapped(void *opaque)
{
    struct still *s = opaque;

    if (s->fake.vm->world.inside)
        s->not_still++;
    s->remaps++; /* not atomic: ThreadSanitizer sees whether two get here */
}
static void on_written(void *opaque, struct mem_block *block, u64 offset, u64 len, unsigned marks) {}
static void on_protect(void *opaque, struct mem_block *block, u64 offset) {}

/* Every vCPU changes the memory map all the time, with the device lock held, as a PCI bridge would. */
static void test_the_map_changes_while_all_stand_still(void **state)
{
    static const struct io_ops ops = {.write = remap, .min_size = 1, .max_size = 4};
    struct still *s = calloc(1, sizeof(*s));
    struct error err;
    pthread_t thread;

    fake_vm_new(&s->fake, "oonj", 4, CLOCK_HOST);
    assert_int_equal(port_map_add(&s->fake.vm->ports, 0, 8, &ops, s, "test", &err), 0);
    assert_int_equal(memory_add_listener(&s->fake.vm->memory,
                                         &(struct mem_listener){on_written, on_protect, on_remapped, s, 63},
                                         &err),
                     0);
    thread = start(&s->fake);
    for (unsigned n = 0; n < 4; n++)
        wait_count(&s->fake, n, 500);
    vm_stop(s->fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    assert_true(s->accesses > 100);
    assert_true(s->remaps >= s->accesses);
    assert_int_equal(s->not_still, 0);
    vm_free(s->fake.vm);
    free(s);
}

/* A vCPU that sleeps can be held; one that executes gets word, unless the caller is its own thread. */
static void test_hold(void **state)
{
    struct fake_vm fake;
    pthread_t thread;
    bool held = true;

    fake_vm_new(&fake, "nj", 2, CLOCK_HOST);
    assert_true(vcpu_hold(fake.vm->vcpus[0]));
    vcpu_release(fake.vm->vcpus[0]);
    thread = start(&fake);
    while (held) {
        held = vcpu_hold(fake.vm->vcpus[0]);
        vcpu_release(fake.vm->vcpus[0]);
        sched_yield();
    }
    vm_park(fake.vm);
    assert_true(vcpu_hold(fake.vm->vcpus[0]));
    vcpu_release(fake.vm->vcpus[0]);
    vm_unpark(fake.vm);
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vcpu_enter(fake.vm->vcpus[1]);
    assert_true(vcpu_hold(fake.vm->vcpus[1]));
    vcpu_release(fake.vm->vcpus[1]);
    vcpu_leave(fake.vm->vcpus[1]);
    vm_free(fake.vm);
}

/* ---- Idling ---- */

/* All sleep; each is woken by its own interrupt alone. */
static void test_wake_one(void **state)
{
    struct fake_vm fake;
    pthread_t thread;

    fake_vm_new(&fake, "hhj", 3, CLOCK_HOST);
    thread = start(&fake);
    for (unsigned n = 0; n < 3; n++)
        wait_count(&fake, n, 1);
    for (u64 round = 0; round < 200; round++) {
        vcpu_kick(fake.vm->vcpus[round % 3], KICK_INTERRUPT);
        for (bool taken = false; !taken; sched_yield()) {
            vm_park(fake.vm);
            taken = fake_of(fake.vm->vcpus[round % 3])->interrupts == round / 3 + 1;
            vm_unpark(fake.vm);
        }
    }
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vm_free(fake.vm);
}

static void wake_by_timer(void *opaque)
{
    struct vcpu *vcpu = opaque;

    vcpu_kick(vcpu, KICK_INTERRUPT);
}

/* A timer is fired by the machine thread, also one that is armed while that sleeps until a later one. */
static void test_timers(void **state)
{
    struct fake_vm fake;
    struct timer late, soon;
    pthread_t thread;
    bool taken = false;

    fake_vm_new(&fake, "hj", 2, CLOCK_HOST);
    timer_init(&late, &fake.vm->timers, wake_by_timer, fake.vm->vcpus[0]);
    timer_init(&soon, &fake.vm->timers, wake_by_timer, fake.vm->vcpus[1]);
    timer_arm(&late, 3600000000000);
    thread = start(&fake);
    wait_count(&fake, 1, 1);
    vm_lock(fake.vm);
    timer_arm(&soon, clock_now(&fake.vm->clock) + 1000000);
    vm_unlock(fake.vm);
    for (; !taken; sched_yield()) {
        vm_park(fake.vm);
        taken = fake_of(fake.vm->vcpus[1])->interrupts;
        vm_unpark(fake.vm);
    }
    assert_int_equal(fake_of(fake.vm->vcpus[0])->interrupts, 0);
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vm_lock(fake.vm);
    timer_disarm(&late);
    vm_unlock(fake.vm);
    vm_free(fake.vm);
}

/* ---- Ends ---- */

static unsigned resets;
static void count_resets(struct vm *vm, const char *event, void *opaque)
{
    if (!strcmp(event, "RESET") && ++resets == 4)
        vm_stop(vm);
}

/* A triple fault of any vCPU resets the machine, again and again, or ends it. */
static void test_triple_faults(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "nnt", 4, CLOCK_HOST);
    fake.vm->on_event = count_resets;
    resets = 0;
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_REQUEST);
    fake.vm->config.no_reboot = true;
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_CRASH);
    vm_free(fake.vm);
}

/* Whoever has left work for a vCPU is not forgotten. */
static void test_a_reset_keeps_requests(void **state)
{
    struct fake_vm fake;
    struct error err;

    fake_vm_new(&fake, "nj", 2, CLOCK_HOST);
    vcpu_kick(fake.vm->vcpus[1], KICK_REQUEST | KICK_NMI);
    assert_int_equal(vm_reset(fake.vm, &err), 0);
    assert_int_equal(vcpu_kicked(fake.vm->vcpus[1]), KICK_REQUEST);
    vm_free(fake.vm);
}

/* What a vCPU asks for stops it right there. */
static void debug_exit(void *opaque, u64 offset, unsigned size, u64 value)
{
    vm_request_debug_exit(opaque, 7);
}
static void test_requests_stop_at_the_next_instruction(void **state)
{
    static const struct io_ops ops = {.write = debug_exit, .min_size = 1, .max_size = 4};
    struct fake_vm fake;
    struct error err;

    fake_vm_new(&fake, "nnonj", 2, CLOCK_HOST);
    assert_int_equal(port_map_add(&fake.vm->ports, 2, 1, &ops, fake.vm, "test", &err), 0);
    fake.vm->vcpus[1]->state.activity = VCPU_WAIT_SIPI;
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_DEBUG_EXIT);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 3);
    assert_int_equal(fake.vm->exit_code, 7);
    vm_free(fake.vm);
}

/* Observers make vCPUs take turns, from one boundary to the next and back. */
static void test_observed_vcpus_take_turns(void **state)
{
    static const struct trace_ops none;
    struct fake_vm fake;
    pthread_t thread;

    fake_vm_new(&fake, "nj", 2, CLOCK_HOST);
    thread = start(&fake);
    for (unsigned round = 0; round < 10; round++) {
        u64 counts[2];

        vm_park(fake.vm);
        vm_set_trace(fake.vm, round & 1 ? &none : NULL, NULL);
        for (unsigned n = 0; n < 2; n++)
            counts[n] = fake.vm->vcpus[n]->state.icount;
        vm_unpark(fake.vm);
        for (unsigned n = 0; n < 2; n++)
            wait_count(&fake, n, counts[n] + 100);
        if (round & 1)
            assert_int_equal(fake.vm->world.inside, 0);
    }
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vm_free(fake.vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_they_run_at_once),
        cmocka_unit_test(test_the_map_changes_while_all_stand_still),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_wake_one),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_triple_faults),
        cmocka_unit_test(test_a_reset_keeps_requests),
        cmocka_unit_test(test_requests_stop_at_the_next_instruction),
        cmocka_unit_test(test_observed_vcpus_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
