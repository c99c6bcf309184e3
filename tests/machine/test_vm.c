/* The run loop with an engine made for the purpose: turns, exact time, idling, requests, parking, and the state of it all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "machine/vm_state.h"

enum { TURN = 50000 };

/* ---- Turns ---- */

static void test_turns_are_equal_and_in_order(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "j", 3, CLOCK_ICOUNT);
    assert_int_equal(vm_run(fake.vm, TURN + 10), VM_STOP_BUDGET);
    assert_int_equal(fake.vm->vcpus[1]->state.icount,
                     TURN); /* the one after vCPU 0, whose turn reset left over */
    assert_int_equal(fake.vm->vcpus[2]->state.icount, 10);
    assert_int_equal(vm_run(fake.vm, 3 * TURN), VM_STOP_BUDGET);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, TURN);
    assert_int_equal(fake.vm->vcpus[1]->state.icount, 2 * TURN);
    assert_int_equal(fake.vm->vcpus[2]->state.icount, TURN + 10);
    assert_int_equal(clock_now(&fake.vm->clock), 4 * TURN + 10);
    vm_free(fake.vm);
}

/* However the run is cut up, by budgets or by attention that leads to nothing, the turns fall alike. */
static void test_turns_do_not_depend_on_interruptions(void **state)
{
    struct fake_vm whole, cut;
    u64 done = 0;

    fake_vm_new(&whole, "nnj", 3, CLOCK_ICOUNT);
    fake_vm_new(&cut, "nnj", 3, CLOCK_ICOUNT);
    vm_run(whole.vm, 1000000);
    for (u64 step = 1; done < 1000000; step = step * 7 % 99991) {
        u64 insns = step < 1000000 - done ? step : 1000000 - done;

        gate_pause(&cut.vm->gate, false); /* calls attention */
        assert_int_equal(vm_run(cut.vm, insns), VM_STOP_BUDGET);
        done += insns;
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(whole.vm->vcpus[i]->state.icount, cut.vm->vcpus[i]->state.icount);
    assert_memory_equal(&(struct vm_hash[]){vm_state_hash(whole.vm)},
                        &(struct vm_hash[]){vm_state_hash(cut.vm)}, sizeof(struct vm_hash));
    vm_free(whole.vm);
    vm_free(cut.vm);
}

static void test_pause_instruction_gives_up_the_turn(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "pj", 2, CLOCK_ICOUNT);
    vm_run(fake.vm, 1000);
    assert_in_range(fake.vm->vcpus[0]->state.icount, 499, 501);
    assert_int_equal(fake.vm->vcpus[0]->state.icount + fake.vm->vcpus[1]->state.icount, 1000);
    vm_free(fake.vm);
}

static void test_halted_vcpus_are_passed_over(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "j", 2, CLOCK_ICOUNT);
    fake.vm->vcpus[1]->state.activity = VCPU_HALTED;
    vm_run(fake.vm, 3 * TURN);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 3 * TURN);
    /* An interrupt that IF holds back does not wake; with IF it does. */
    vcpu_kick(fake.vm->vcpus[1], KICK_INTERRUPT);
    vm_run(fake.vm, 2 * TURN);
    assert_int_equal(fake.vm->vcpus[1]->state.icount, 0);
    fake.vm->vcpus[1]->state.rflags |= FLAG_IF;
    vm_run(fake.vm, 2 * TURN);
    assert_int_equal(fake.vm->vcpus[1]->state.icount, TURN);
    assert_int_equal(fake_of(fake.vm->vcpus[1])->interrupts, 1);
    vm_free(fake.vm);
}

static void test_init_and_sipi_start_a_vcpu(void **state)
{
    struct fake_vm fake;
    struct vcpu *vcpu;

    fake_vm_new(&fake, "j", 2, CLOCK_ICOUNT);
    vcpu = fake.vm->vcpus[1];
    vcpu->state.activity = VCPU_WAIT_SIPI;
    vm_run(fake.vm, 100);
    assert_int_equal(vcpu->state.icount, 0);
    memory_poke(&fake.vm->memory, 0x9000, "nj", 2);
    vcpu_init_signal(vcpu);
    vcpu_sipi(vcpu, 0x9);
    vm_run(fake.vm, 2 * TURN);
    assert_int_equal(vcpu->state.icount, TURN);
    assert_int_equal(vcpu->state.seg[SEG_CS].selector, 0x900);
    assert_int_equal(vcpu->state.seg[SEG_CS].base, 0x9000);
    /* A vCPU that runs does not hear a SIPI. */
    vcpu_sipi(vcpu, 0x20);
    vm_run(fake.vm, 2 * TURN);
    assert_int_equal(vcpu->state.seg[SEG_CS].base, 0x9000);
    assert_int_equal(vcpu_kicked(vcpu) & KICK_SIPI, 0);
    vm_free(fake.vm);
}

/* ---- Time ---- */

struct timing {
    struct vm *vm;
    struct timer timer;
    u64 fired_at, fired_icount;
    unsigned count;
    u64 seen[4];
    u64 delay;
    bool interrupt;
};

static void timing_fire(void *opaque)
{
    struct timing *timing = opaque;

    timing->fired_at = clock_now(&timing->vm->clock);
    timing->fired_icount = timing->vm->vcpus[0]->state.icount;
    timing->count++;
    if (timing->interrupt)
        vcpu_kick(timing->vm->vcpus[0], KICK_INTERRUPT);
}

static void timing_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct timing *timing = opaque;

    timing->seen[offset & 3] = clock_now(&timing->vm->clock);
    timer_arm(&timing->timer, clock_now(&timing->vm->clock) + timing->delay);
}

static const struct io_ops timing_ops = {.write = timing_write};

static void timing_set_up(struct timing *timing, struct vm *vm, u64 delay)
{
    struct error err;

    *timing = (struct timing){.vm = vm, .delay = delay};
    timer_init(&timing->timer, &vm->timers, timing_fire, timing);
    assert_int_equal(port_map_add(&vm->ports, 0, 16, &timing_ops, timing, "timing", &err), 0);
}

/* Port accesses see the time of their own instruction, and a timer that one arms fires at its exact instruction. */
static void test_icount_time_is_exact(void **state)
{
    struct fake_vm fake;
    struct timing timing;

    fake_vm_new(&fake, "nono" /* then NULs, which do nothing */, 1, CLOCK_ICOUNT);
    timing_set_up(&timing, fake.vm, 37);
    vm_run(fake.vm, 1000);
    assert_int_equal(timing.seen[1], 1);
    assert_int_equal(timing.seen[3], 3);
    assert_int_equal(timing.count, 1);
    assert_int_equal(timing.fired_at, 3 + 37);
    assert_int_equal(timing.fired_icount, 3 + 37);
    assert_int_equal(clock_now(&fake.vm->clock), 1000);
    vm_free(fake.vm);
}

static void test_idle_warps_the_icount_clock(void **state)
{
    struct fake_vm fake;
    struct timing timing;

    fake_vm_new(&fake, "nohnj", 1, CLOCK_ICOUNT);
    timing_set_up(&timing, fake.vm, 5000000000);
    timing.interrupt = true;
    assert_int_equal(vm_run(fake.vm, 4), VM_STOP_BUDGET);
    assert_int_equal(timing.count, 1);
    assert_true(timing.fired_at == 5000000001);
    assert_int_equal(timing.fired_icount, 3);
    assert_int_equal(fake_of(fake.vm->vcpus[0])->interrupts, 1);
    vm_free(fake.vm);
}

static void stop_vm(void *opaque)
{
    vm_stop(opaque);
}

/* Halted, with nothing but a timer to wake it: the timer fires, and the run ends by what it does. */
static void test_host_idle_wakes_for_a_timer(void **state)
{
    struct fake_vm fake;
    struct timer timer;

    fake_vm_new(&fake, "h", 1, CLOCK_HOST);
    timer_init(&timer, &fake.vm->timers, stop_vm, fake.vm);
    timer_arm(&timer, 1000000);
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_REQUEST);
    assert_true(clock_now(&fake.vm->clock) >= 1000000);
    assert_in_range(fake.vm->vcpus[0]->state.icount, 0,
                    1); /* 0 on a host so slow that the time had come before */
    vm_free(fake.vm);
}

/* The same with a guest that never comes out by itself: the alarm thread has to bring it out. */
static void test_host_alarm_ends_an_endless_run(void **state)
{
    struct fake_vm fake;
    struct timer timer;

    fake_vm_new(&fake, "j", 1, CLOCK_HOST);
    timer_init(&timer, &fake.vm->timers, stop_vm, fake.vm);
    timer_arm(&timer, 1000000);
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_REQUEST);
    assert_true(clock_now(&fake.vm->clock) >= 1000000);
    /* The clock stands still between runs; the alarm must not be lost by that. */
    timer_arm(&timer, clock_now(&fake.vm->clock) + 1000000);
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_REQUEST);
    vm_free(fake.vm);
}

/* ---- Requests ---- */

static void debug_exit_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    vm_request_debug_exit(opaque, (int)value);
}

static void reset_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    vm_request_reset(opaque);
}
static void poweroff_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    vm_request_poweroff(opaque);
}
static const struct io_ops debug_exit_ops = {.write = debug_exit_write};
static const struct io_ops reset_ops = {.write = reset_write};
static const struct io_ops poweroff_ops = {.write = poweroff_write};

static char events[256];

static void note_event(struct vm *vm, const char *event, void *opaque)
{
    strcat(events, event);
    strcat(events, " ");
}

static void wire(struct fake_vm *fake, const struct io_ops *ops, u32 port)
{
    struct error err;

    events[0] = 0;
    fake->vm->on_event = note_event;
    assert_int_equal(port_map_add(&fake->vm->ports, port, 1, ops, fake->vm, "end", &err), 0);
}

static void test_endings(void **state)
{
    struct fake_vm fake;
    struct error err;

    fake_vm_new(&fake, "ndnj", 1, CLOCK_ICOUNT);
    wire(&fake, &debug_exit_ops, 0xf4);
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_DEBUG_EXIT);
    assert_int_equal(fake.vm->exit_code, 5);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 2); /* at once, not later */
    assert_string_equal(events, "SHUTDOWN ");
    /* It stays ended until it is reset. */
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_DEBUG_EXIT);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 2);
    assert_int_equal(vm_reset(fake.vm, &err), 0);
    assert_int_equal(vm_run(fake.vm, 1), VM_STOP_BUDGET);
    vm_free(fake.vm);

    fake_vm_new(&fake, "noj", 1, CLOCK_ICOUNT);
    wire(&fake, &poweroff_ops, 1);
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_POWEROFF);
    vm_free(fake.vm);
}

static void test_reset_request(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "nonn", 1, CLOCK_ICOUNT);
    wire(&fake, &reset_ops, 1);
    fake.vm->vcpus[0]->state.gpr[RBX] = 99;
    assert_int_equal(vm_run(fake.vm, 5), VM_STOP_BUDGET);
    assert_string_equal(events, "RESET RESET ");
    assert_int_equal(fake.vm->vcpus[0]->state.rip, 1);
    assert_int_equal(fake.vm->vcpus[0]->state.gpr[RBX], 0);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 5);
    assert_true(fake_of(fake.vm->vcpus[0])->changes >= 2);
    fake.vm->config.no_reboot = true;
    assert_int_equal(vm_run(fake.vm, 5), VM_STOP_RESET);
    vm_free(fake.vm);
}

static int failing_reset(struct vm *vm, void *opaque, struct error *err)
{
    return error_set(err, "kernel is gone");
}

static void test_reset_that_fails_stops_with_its_text(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "no", 1, CLOCK_ICOUNT);
    wire(&fake, &reset_ops, 1);
    fake.vm->on_reset = failing_reset;
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_ERROR);
    assert_string_equal(fake.vm->stop_error.text, "kernel is gone");
    vm_free(fake.vm);
}

static void test_triple_fault(void **state)
{
    struct fake_vm fake;
    char *report;

    fake_vm_new(&fake, "nnt", 1, CLOCK_ICOUNT);
    fake.vm->on_event = note_event;
    events[0] = 0;
    assert_int_equal(vm_run(fake.vm, 5), VM_STOP_BUDGET);
    assert_string_equal(events, "RESET RESET ");
    fake.vm->config.no_reboot = true;
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_CRASH);
    report = vcpu_report(fake.vm->vcpus[0]);
    assert_non_null(strstr(report, "shut down by a triple fault"));
    assert_non_null(strstr(report, "RIP 0000000000000002"));
    assert_non_null(strstr(report, "real mode"));
    free(report);
    vm_free(fake.vm);
}

static void test_hook_stop_and_no_engine(void **state)
{
    struct fake_vm fake;
    struct vm_config config = {.ram_size = MIB(1), .vcpus = 1, .clock = CLOCK_ICOUNT};
    struct error err;
    struct vm *vm;

    fake_vm_new(&fake, "nnk", 1, CLOCK_ICOUNT);
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_HOOK);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 2);
    assert_int_equal(vm_run(fake.vm, 100), VM_STOP_HOOK);
    vm_free(fake.vm);

    vm = vm_new(&config, &err);
    assert_int_equal(vm_run(vm, 1), VM_STOP_ERROR);
    assert_true(strlen(vm->stop_error.text) > 0);
    vm_free(vm);
}

static void test_stop_before_a_run_ends_it_at_once(void **state)
{
    struct fake_vm fake;

    fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
    vm_stop(fake.vm);
    assert_int_equal(vm_run(fake.vm, UINT64_MAX), VM_STOP_REQUEST);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, 0);
    assert_int_equal(vm_run(fake.vm, 10), VM_STOP_BUDGET);
    vm_free(fake.vm);
}

static void test_bad_configurations(void **state)
{
    struct vm_config config = {.ram_size = MIB(1), .vcpus = 0};
    struct error err = {.text = ""};

    assert_null(vm_new(&config, &err));
    assert_non_null(strstr(err.text, "0 CPUs"));
    config.vcpus = VM_MAX_VCPUS + 1;
    assert_null(vm_new(&config, &err));
    config.vcpus = 1;
    config.ram_size = 4097;
    assert_null(vm_new(&config, &err));
    config.ram_size = 0;
    assert_null(vm_new(&config, &err));
    config.ram_size = 1ull << 50;
    assert_null(vm_new(&config, &err));
    assert_non_null(strstr(err.text, "this host has"));
}

/* ---- Other threads ---- */

static void *run_thread(void *opaque)
{
    struct fake_vm *fake = opaque;

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

/* Parked, nothing moves, though the guest never stops by itself; then it goes on. */
static void check_park(const char *program, enum clock_driver clock)
{
    struct fake_vm fake;
    pthread_t thread;

    fake_vm_new(&fake, program, 2, clock);
    thread = start(&fake);
    for (unsigned i = 0; i < 50; i++) {
        u64 count, time;
        u8 byte = (u8)i;

        vm_park(fake.vm);
        vm_park(fake.vm);
        count = fake.vm->vcpus[0]->state.icount;
        time = clock_now(&fake.vm->clock);
        assert_true(dma_write(&fake.vm->memory, 0x8000, &byte, 1));
        vm_unpark(fake.vm);
        sched_yield();
        assert_int_equal(fake.vm->vcpus[0]->state.icount, count);
        assert_int_equal(clock_now(&fake.vm->clock), time);
        vm_unpark(fake.vm);
    }
    vm_stop(fake.vm);
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    vm_free(fake.vm);
}

static void test_park_running(void **state)
{
    check_park("nj", CLOCK_ICOUNT);
}
static void test_park_running_on_host_clock(void **state)
{
    check_park("nj", CLOCK_HOST);
}
static void test_park_idle(void **state)
{
    check_park("h", CLOCK_HOST);
}

static void test_pause_and_resume(void **state)
{
    struct fake_vm fake;
    pthread_t thread;
    u64 count;

    fake_vm_new(&fake, "nj", 1, CLOCK_HOST);
    events[0] = 0;
    fake.vm->on_event = note_event;
    thread = start(&fake);
    vm_pause(fake.vm);
    assert_true(vm_paused(fake.vm));
    vm_pause(fake.vm);
    vm_park(fake.vm);
    count = fake.vm->vcpus[0]->state.icount;
    vm_unpark(fake.vm);
    sched_yield();
    vm_park(fake.vm);
    assert_int_equal(fake.vm->vcpus[0]->state.icount, count);
    vm_unpark(fake.vm);
    /* A reset is served while paused, and the pause goes on. */
    vm_request_reset(fake.vm);
    while (vm_park(fake.vm), fake.vm->vcpus[0]->state.rip != 0 || !strstr(events, "RESET"))
        vm_unpark(fake.vm);
    vm_unpark(fake.vm);
    assert_true(vm_paused(fake.vm));
    vm_resume(fake.vm);
    for (bool moved = false; !moved;) {
        vm_park(fake.vm);
        moved = fake.vm->vcpus[0]->state.icount > count;
        vm_unpark(fake.vm);
    }
    vm_pause(fake.vm);
    vm_stop(fake.vm); /* ends a paused run too */
    assert_int_equal(join(thread), VM_STOP_REQUEST);
    assert_string_equal(events, "STOP RESET RESUME STOP ");
    vm_free(fake.vm);
}

static void deliver_stop(void *opaque, const u8 *bytes, size_t len)
{
    vm_stop(opaque);
}

/* A sleeping guest hears the gate; so does a busy one. */
static void test_gate_reaches_idle_and_busy_guests(void **state)
{
    static const char *const programs[] = {"h", "j"};

    for (unsigned i = 0; i < ARRAY_SIZE(programs); i++) {
        struct fake_vm fake;
        struct error err;
        pthread_t thread;
        int source;

        fake_vm_new(&fake, programs[i], 1, CLOCK_HOST);
        source = gate_register(&fake.vm->gate, "t", deliver_stop, fake.vm, &err);
        thread = start(&fake);
        assert_true(gate_post(&fake.vm->gate, source, "x", 1));
        assert_int_equal(join(thread), VM_STOP_REQUEST);
        vm_free(fake.vm);
    }
}

static void test_kick_wakes_an_idle_guest(void **state)
{
    struct fake_vm fake;
    pthread_t thread;

    fake_vm_new(&fake, "htj", 1, CLOCK_HOST);
    fake.vm->config.no_reboot = true;
    thread = start(&fake);
    vcpu_kick(fake.vm->vcpus[0], KICK_INTERRUPT);
    assert_int_equal(join(thread), VM_STOP_CRASH);
    vm_free(fake.vm);
}

/* ---- State ---- */

static bool same_hash(struct vm *a, struct vm *b)
{
    struct vm_hash x = vm_state_hash(a), y = vm_state_hash(b);

    return x.low == y.low && x.high == y.high;
}

static void test_two_vms_in_one_process(void **state)
{
    struct fake_vm a, b;
    pthread_t thread;

    fake_vm_new(&a, "nnj", 2, CLOCK_ICOUNT);
    fake_vm_new(&b, "nnj", 2, CLOCK_ICOUNT);
    for (unsigned i = 0; i < 10; i++) {
        vm_run(a.vm, 12345);
        vm_run(b.vm, 12345);
    }
    assert_true(same_hash(a.vm, b.vm));
    vm_run(a.vm, 1);
    assert_false(same_hash(a.vm, b.vm));
    thread = start(&a);
    vm_run(b.vm, 1000000);
    vm_stop(a.vm);
    join(thread);
    vm_free(a.vm);
    vm_run(b.vm, 1);
    vm_free(b.vm);
}

static void test_hash_sees_memory_but_not_touched_zero_pages(void **state)
{
    struct fake_vm a, b;
    u8 byte = 0;

    fake_vm_new(&a, "nnj", 1, CLOCK_ICOUNT);
    fake_vm_new(&b, "nnj", 1, CLOCK_ICOUNT);
    dma_write(&a.vm->memory, 0x80000, &byte, 1);
    assert_true(same_hash(a.vm, b.vm));
    byte = 1;
    dma_write(&a.vm->memory, 0x80fff, &byte, 1);
    assert_false(same_hash(a.vm, b.vm));
    dma_write(&b.vm->memory, 0x81fff, &byte, 1); /* the same content at another place */
    assert_false(same_hash(a.vm, b.vm));
    vm_free(a.vm);
    vm_free(b.vm);
}

static void save_section(void *opaque, const struct state_section *section)
{
    state_save(section->table, section->object, opaque);
}

static void load_section(void *opaque, const struct state_section *section)
{
    struct error err = {.text = ""};

    if (state_load(section->table, section->object, opaque, &err))
        fail_msg("%s", err.text);
}

static void test_sections_carry_the_whole_state(void **state)
{
    struct fake_vm a, b;
    struct state_buf buf = {0};
    struct state_reader reader;
    struct error err = {.text = ""};

    fake_vm_new(&a, "nnj", 3, CLOCK_ICOUNT);
    vm_run(a.vm, 123456);
    vcpu_random(a.vm->vcpus[0]);
    a.vm->vcpus[1]->state.nmi_masked = true;
    vcpu_nmi(a.vm->vcpus[1]);
    a.vm->vcpus[2]->state.activity = VCPU_WAIT_SIPI;
    vcpu_sipi(a.vm->vcpus[2], 0x10);
    vm_state_sections(a.vm, save_section, &buf);

    fake_vm_new(&b, "nnj", 3, CLOCK_ICOUNT);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "test"};
    vm_state_sections(b.vm, load_section, &reader);
    assert_int_equal(vm_state_loaded(b.vm, &err), 0);
    assert_int_equal(reader.pos, buf.len);
    assert_true(same_hash(a.vm, b.vm));
    assert_true(vcpu_kicked(b.vm->vcpus[1]) & KICK_NMI);
    assert_true(vcpu_kicked(b.vm->vcpus[2]) & KICK_SIPI);
    assert_int_equal(vcpu_random(a.vm->vcpus[0]), vcpu_random(b.vm->vcpus[0]));
    vm_run(a.vm, 200000);
    vm_run(b.vm, 200000);
    assert_true(a.vm->vcpus[2]->state.icount > 0); /* the SIPI came through */
    assert_true(same_hash(a.vm, b.vm));
    state_buf_free(&buf);
    vm_free(a.vm);
    vm_free(b.vm);
}

static void test_random_differs_by_seed_and_draw(void **state)
{
    struct fake_vm fake;
    u64 first;

    fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
    first = vcpu_random(fake.vm->vcpus[0]);
    assert_true(vcpu_random(fake.vm->vcpus[0]) != first);
    fake.vm->random_state = 8;
    assert_true(vcpu_random(fake.vm->vcpus[0]) != first);
    fake.vm->random_state = 7;
    assert_true(vcpu_random(fake.vm->vcpus[0]) == first);
    vm_free(fake.vm);
    fake_vm_new(&fake, "j", 1, CLOCK_HOST);
    first = vcpu_random(fake.vm->vcpus[0]);
    assert_true(vcpu_random(fake.vm->vcpus[0]) != first || vcpu_random(fake.vm->vcpus[0]) != first);
    assert_int_equal(fake.vm->random_state, 7);
    vm_free(fake.vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_are_equal_and_in_order),
        cmocka_unit_test(test_turns_do_not_depend_on_interruptions),
        cmocka_unit_test(test_pause_instruction_gives_up_the_turn),
        cmocka_unit_test(test_halted_vcpus_are_passed_over),
        cmocka_unit_test(test_init_and_sipi_start_a_vcpu),
        cmocka_unit_test(test_icount_time_is_exact),
        cmocka_unit_test(test_idle_warps_the_icount_clock),
        cmocka_unit_test(test_host_idle_wakes_for_a_timer),
        cmocka_unit_test(test_host_alarm_ends_an_endless_run),
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_reset_request),
        cmocka_unit_test(test_reset_that_fails_stops_with_its_text),
        cmocka_unit_test(test_triple_fault),
        cmocka_unit_test(test_hook_stop_and_no_engine),
        cmocka_unit_test(test_stop_before_a_run_ends_it_at_once),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_park_running),
        cmocka_unit_test(test_park_running_on_host_clock),
        cmocka_unit_test(test_park_idle),
        cmocka_unit_test(test_pause_and_resume),
        cmocka_unit_test(test_gate_reaches_idle_and_busy_guests),
        cmocka_unit_test(test_kick_wakes_an_idle_guest),
        cmocka_unit_test(test_two_vms_in_one_process),
        cmocka_unit_test(test_hash_sees_memory_but_not_touched_zero_pages),
        cmocka_unit_test(test_sections_carry_the_whole_state),
        cmocka_unit_test(test_random_differs_by_seed_and_draw),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
