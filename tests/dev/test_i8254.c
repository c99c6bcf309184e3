#include "chip_test.h"
#include "dev/i8254.h"

struct pit {
    struct bench bench;
    struct watched_line irq;
    struct i8254 chip;
};

static void set_up(struct pit *pit)
{
    *pit = (struct pit){0};
    bench_init(&pit->bench);
    i8254_init(&pit->chip, &pit->bench.timers, watch_line(&pit->irq));
}

/* Move time so that exactly `ticks` of the input clock have passed since the VM began. */
static void run_to_tick(struct pit *pit, u64 ticks)
{
    bench_run_to(&pit->bench,
                 (ticks * I8254_CLOCK_DENOMINATOR + I8254_CLOCK_NUMERATOR - 1) / I8254_CLOCK_NUMERATOR);
}

static void program(struct pit *pit, unsigned counter, unsigned mode, u16 count)
{
    i8254_write(&pit->chip, 3, (u8)(counter << 6 | 0x30 | mode << 1));
    i8254_write(&pit->chip, counter, (u8)count);
    i8254_write(&pit->chip, counter, (u8)(count >> 8));
}

static u16 read_count(struct pit *pit, unsigned counter)
{
    u16 low;

    i8254_write(&pit->chip, 3, (u8)(counter << 6));
    low = i8254_read(&pit->chip, counter);
    return (u16)(low | i8254_read(&pit->chip, counter) << 8);
}

static u8 read_status(struct pit *pit, unsigned counter)
{
    i8254_write(&pit->chip, 3, (u8)(0xe0 | 2 << counter));
    return i8254_read(&pit->chip, counter);
}

/* OUT of counter `n` at each of the next `len` ticks, as text. */
static const char *trace(struct pit *pit, unsigned n, u64 from, unsigned len, char text[static 64])
{
    for (unsigned i = 0; i < len; i++) {
        run_to_tick(pit, from + i);
        text[i] = i8254_out(&pit->chip, n) ? '^' : '_';
    }
    text[len] = 0;
    return text;
}

/* Each is loaded at tick 1 (the one after the write at tick 0). */
static void test_output_of_each_mode(void **state)
{
    static const struct {
        unsigned mode, count;
        const char *out; /* at ticks 0, 1, 2, ... */
    } cases[] = {
        {0, 4, "_____^^^^^^^"}, {2, 3, "^^^_^^_^^_^^"}, {2, 1, "^^_^_^_^_^_^"},
        {3, 4, "^^^__^^__^^_"}, {3, 5, "^^^^__^^^__^"}, {3, 1, "^^_^_^_^_^_^"},
        {4, 3, "^^^^_^^^^^^^"}, {6, 3, "^^^_^^_^^_^^"}, {7, 4, "^^^__^^__^^_"},
    };
    struct pit pit;
    char text[64];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        set_up(&pit);
        program(&pit, 1, cases[i].mode, (u16)cases[i].count);
        assert_string_equal(trace(&pit, 1, 0, 12, text), cases[i].out);
    }
}

static void test_triggered_modes_wait_for_the_gate(void **state)
{
    struct pit pit;
    char text[64];

    for (unsigned mode = 1; mode <= 5; mode += 4) {
        set_up(&pit);
        program(&pit, 2, mode, 3);
        assert_string_equal(trace(&pit, 2, 0, 5, text), "^^^^^");
        i8254_control_b_write(&pit.chip, 1); /* at tick 4: loaded at 5 */
        assert_string_equal(trace(&pit, 2, 5, 6, text), mode == 1 ? "___^^^" : "^^^_^^");
        i8254_control_b_write(&pit.chip, 0);
        i8254_control_b_write(&pit.chip, 1); /* at 10: again */
        assert_string_equal(trace(&pit, 2, 11, 2, text), mode == 1 ? "__" : "^^");
        i8254_control_b_write(&pit.chip, 0);
        i8254_control_b_write(&pit.chip, 1); /* at 12, before it ended: from the start */
        assert_string_equal(trace(&pit, 2, 13, 5, text), mode == 1 ? "___^^" : "^^^_^");
    }
}

static void test_gate_pauses_the_software_modes_and_restarts_the_periodic_ones(void **state)
{
    struct pit pit;
    char text[64];

    set_up(&pit);
    i8254_control_b_write(&pit.chip, 1);
    program(&pit, 2, 0, 6);
    run_to_tick(&pit, 4); /* 3 counted */
    i8254_control_b_write(&pit.chip, 0);
    assert_int_equal(read_count(&pit, 2), 3);
    run_to_tick(&pit, 100);
    assert_int_equal(read_count(&pit, 2), 3);
    assert_false(i8254_out(&pit.chip, 2));
    i8254_control_b_write(&pit.chip, 1);
    assert_string_equal(trace(&pit, 2, 100, 5, text), "___^^");

    set_up(&pit);
    i8254_control_b_write(&pit.chip, 1);
    program(&pit, 2, 3, 8);
    run_to_tick(&pit, 7);
    assert_false(i8254_out(&pit.chip, 2));
    i8254_control_b_write(&pit.chip, 0);
    assert_true(i8254_out(&pit.chip, 2)); /* at once */
    run_to_tick(&pit, 50);
    assert_true(i8254_out(&pit.chip, 2));
    i8254_control_b_write(&pit.chip, 1);
    assert_string_equal(trace(&pit, 2, 51, 9, text), "^^^^____^");
}

static void test_new_count_takes_effect_when_the_cycle_ends(void **state)
{
    struct pit pit;
    char text[64];

    set_up(&pit);
    program(&pit, 0, 2, 10); /* cycles at 1, 11, 21 */
    run_to_tick(&pit, 5);
    i8254_write(&pit.chip, 0, 4);
    i8254_write(&pit.chip, 0, 0);
    assert_int_equal(read_status(&pit, 0) & 0x40, 0x40); /* null count */
    assert_int_equal(read_count(&pit, 0), 6);
    assert_string_equal(trace(&pit, 0, 6, 14, text), "^^^^_^^^_^^^_^");
    assert_int_equal(read_status(&pit, 0) & 0x40, 0);

    set_up(&pit);
    program(&pit, 0, 3, 8); /* high 1..4, low 5..8 */
    run_to_tick(&pit, 3);
    i8254_write(&pit.chip, 0, 4);
    i8254_write(&pit.chip, 0, 0);
    assert_string_equal(trace(&pit, 0, 3, 10, text), "^^__^^__^^"); /* the low half is of the new count */
    assert_int_equal(pit.irq.rises, 3);                             /* mode set, 7, 11 */
}

static void test_counter_0_interrupts_once_a_cycle(void **state)
{
    struct pit pit;

    set_up(&pit);
    pit.irq.rises = 0;
    program(&pit, 0, 2, 1193); /* a kilohertz */
    run_to_tick(&pit, 1193 * 100 + 1);
    assert_int_equal(pit.irq.rises, 100);
    program(&pit, 0, 0, 50); /* one shot: low, then one edge */
    assert_false(pit.irq.level);
    bench_run(&pit.bench, 1000000000);
    assert_int_equal(pit.irq.rises, 101);
    assert_int_equal(timer_queue_deadline(&pit.bench.timers), UINT64_MAX);
    program(&pit, 0, 4, 5);
    bench_run(&pit.bench, 1000000000);
    assert_int_equal(pit.irq.rises, 102);
}

static void test_edges_that_were_passed_by_become_one(void **state)
{
    struct pit pit;

    set_up(&pit);
    pit.irq.rises = 0;
    program(&pit, 0, 2, 100);
    clock_advance(&pit.bench.clock, 1000000000); /* the host was late by 11931 cycles */
    timer_queue_run(&pit.bench.timers, clock_now(&pit.bench.clock));
    assert_int_equal(pit.irq.rises, 1);
    assert_true(timer_queue_deadline(&pit.bench.timers) > clock_now(&pit.bench.clock));
    /* A write that comes before the late timer does not lose the edge. */
    clock_advance(&pit.bench.clock, 1000000000);
    program(&pit, 0, 2, 200);
    assert_int_equal(pit.irq.rises, 2);
}

static void test_bcd(void **state)
{
    struct pit pit;

    set_up(&pit);
    i8254_write(&pit.chip, 3, 0x31 | 0 << 1);
    i8254_write(&pit.chip, 0, 0x00);
    i8254_write(&pit.chip, 0, 0x10); /* 1000 */
    run_to_tick(&pit, 2);
    assert_int_equal(read_count(&pit, 0), 0x0999);
    run_to_tick(&pit, 1002);
    assert_int_equal(read_count(&pit, 0), 0x9999); /* counts on past zero */
    assert_true(i8254_out(&pit.chip, 0));
    i8254_write(&pit.chip, 3, 0x31 | 2 << 1);
    i8254_write(&pit.chip, 0, 0);
    i8254_write(&pit.chip, 0, 0); /* 0 is 10000 */
    run_to_tick(&pit, 1002 + 1 + 9999);
    assert_int_equal(read_count(&pit, 0), 0x0001);
}

static void test_count_0_is_65536_and_mode_3_counts_by_two(void **state)
{
    struct pit pit;

    set_up(&pit);
    program(&pit, 0, 2, 0);
    run_to_tick(&pit, 1 + 65535);
    assert_int_equal(read_count(&pit, 0), 1);
    run_to_tick(&pit, 1 + 65536);
    assert_int_equal(read_count(&pit, 0), 0);
    program(&pit, 1, 3, 9);
    run_to_tick(&pit, 65537 + 1);
    assert_int_equal(read_count(&pit, 1), 8);
    run_to_tick(&pit, 65537 + 3);
    assert_int_equal(read_count(&pit, 1), 4);
    run_to_tick(&pit, 65537 + 1 + 5);
    assert_int_equal(read_count(&pit, 1), 8);
}

static void test_latches(void **state)
{
    struct pit pit;

    set_up(&pit);
    program(&pit, 1, 2, 0x1234);
    run_to_tick(&pit, 1);
    i8254_write(&pit.chip, 3, 0x40);
    run_to_tick(&pit, 1000);
    i8254_write(&pit.chip, 3, 0x40); /* ignored: the first latch was not read */
    assert_int_equal(i8254_read(&pit.chip, 1), 0x34);
    assert_int_equal(i8254_read(&pit.chip, 1), 0x12);
    assert_int_equal(i8254_read(&pit.chip, 1), (0x1234 - 999) & 0xff); /* live again */
    assert_int_equal(i8254_read(&pit.chip, 1), (0x1234 - 999) >> 8);
    /* Read-back of count and status: the status comes first. */
    i8254_write(&pit.chip, 3, 0xc0 | 2 << 1);
    assert_int_equal(i8254_read(&pit.chip, 1), 0x80 | 0x30 | 2 << 1);
    assert_int_equal(i8254_read(&pit.chip, 1), (0x1234 - 999) & 0xff);
    assert_int_equal(i8254_read(&pit.chip, 1), (0x1234 - 999) >> 8);
    /* One-byte access. */
    i8254_write(&pit.chip, 3, 0x40 | 0x20 | 0);
    i8254_write(&pit.chip, 1, 2);
    i8254_write(&pit.chip, 3, 0x40);
    assert_int_equal(i8254_read(&pit.chip, 1), 2);
    assert_int_equal(read_status(&pit, 1), 0x20);
    i8254_write(&pit.chip, 3, 0x40 | 0x10 | 0);
    i8254_write(&pit.chip, 1, 7);
    assert_int_equal(i8254_read(&pit.chip, 1), 7);
    assert_int_equal(i8254_read(&pit.chip, 3), 0xff);
}

static void test_mode_0_waits_for_the_second_byte(void **state)
{
    struct pit pit;

    set_up(&pit);
    program(&pit, 0, 0, 2);
    run_to_tick(&pit, 10);
    assert_true(pit.irq.level);
    i8254_write(&pit.chip, 0, 5);
    assert_false(pit.irq.level);
    run_to_tick(&pit, 100);
    assert_false(pit.irq.level);
    i8254_write(&pit.chip, 0, 0);
    run_to_tick(&pit, 100 + 1 + 5);
    assert_true(pit.irq.level);
}

static void test_control_port_b(void **state)
{
    struct pit pit;
    unsigned toggles = 0;
    u8 last;

    set_up(&pit);
    i8254_control_b_write(&pit.chip, 0xff);
    assert_int_equal(i8254_control_b_read(&pit.chip) & 0xcf, 0x0f);
    program(&pit, 2, 0, 100);
    assert_int_equal(i8254_control_b_read(&pit.chip) & 0x20, 0);
    run_to_tick(&pit, 101);
    assert_int_equal(i8254_control_b_read(&pit.chip) & 0x20, 0x20);
    last = i8254_control_b_read(&pit.chip);
    for (int i = 0; i < 1000; i++) { /* a millisecond of refreshes */
        u8 now;

        bench_run(&pit.bench, 1000);
        now = i8254_control_b_read(&pit.chip);
        toggles += (now ^ last) >> 4 & 1;
        last = now;
    }
    assert_in_range(toggles, 65, 67);
}

static void test_hpet_takes_the_interrupt_over(void **state)
{
    struct pit pit;

    set_up(&pit);
    program(&pit, 0, 2, 100);
    i8254_enable_irq(&pit.chip, false);
    assert_false(pit.irq.level);
    pit.irq.rises = 0;
    run_to_tick(&pit, 1000);
    assert_int_equal(pit.irq.rises, 0);
    i8254_enable_irq(&pit.chip, true);
    run_to_tick(&pit, 1101);
    assert_int_equal(pit.irq.rises, 2); /* the line comes back high, and one cycle */
}

static void test_state_round_trip(void **state)
{
    struct pit from, to;

    set_up(&from);
    program(&from, 0, 3, 1000);
    program(&from, 2, 1, 7);
    run_to_tick(&from, 333);
    i8254_write(&from.chip, 0, 77);
    i8254_control_b_write(&from.chip, 3);
    i8254_write(&from.chip, 3, 0xc2);
    set_up(&to);
    clock_advance(&to.bench.clock, clock_now(&from.bench.clock));
    assert_state_round_trip(&i8254_state, &from.chip, &to.chip);
    for (u64 tick = 334; tick < 5000; tick += 97) {
        unsigned before_from = from.irq.rises, before_to = to.irq.rises;

        run_to_tick(&from, tick);
        run_to_tick(&to, tick);
        assert_int_equal(from.irq.rises - before_from, to.irq.rises - before_to);
        assert_int_equal(read_count(&from, 0), read_count(&to, 0));
        assert_int_equal(i8254_out(&from.chip, 2), i8254_out(&to.chip, 2));
    }
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    return offset < 4 ? i8254_read(opaque, (unsigned)offset) : i8254_control_b_read(opaque);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    if (offset < 4)
        i8254_write(opaque, (unsigned)offset, (u8)value);
    else
        i8254_control_b_write(opaque, (u8)value);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    struct pit pit;
    u64 seed = 2;

    set_up(&pit);
    for (int i = 0; i < 50; i++) {
        hammer(&pit.bench, &ops, &pit.chip, 5, &seed, 1000);
        load_damaged_state(&i8254_state, &pit.chip, &seed, 20);
        hammer(&pit.bench, &ops, &pit.chip, 5, &seed, 20);
        set_up(&pit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_of_each_mode),
        cmocka_unit_test(test_triggered_modes_wait_for_the_gate),
        cmocka_unit_test(test_gate_pauses_the_software_modes_and_restarts_the_periodic_ones),
        cmocka_unit_test(test_new_count_takes_effect_when_the_cycle_ends),
        cmocka_unit_test(test_counter_0_interrupts_once_a_cycle),
        cmocka_unit_test(test_edges_that_were_passed_by_become_one),
        cmocka_unit_test(test_bcd),
        cmocka_unit_test(test_count_0_is_65536_and_mode_3_counts_by_two),
        cmocka_unit_test(test_latches),
        cmocka_unit_test(test_mode_0_waits_for_the_second_byte),
        cmocka_unit_test(test_control_port_b),
        cmocka_unit_test(test_hpet_takes_the_interrupt_over),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
