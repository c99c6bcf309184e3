/* Virtual time: who may move it, and what its state accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/clock.h"

static void test_manual_and_icount_move_by_advance_alone(void **state)
{
    static const enum clock_driver drivers[] = {CLOCK_MANUAL, CLOCK_ICOUNT};

    for (unsigned i = 0; i < ARRAY_SIZE(drivers); i++) {
        struct clock clock;

        clock_init(&clock, drivers[i], 1000000000);
        clock_start(&clock);
        assert_int_equal(clock_now(&clock), 0);
        clock_advance(&clock, 5);
        clock_stop(&clock);
        clock_advance(&clock, 7);
        assert_int_equal(clock_now(&clock), 12);
    }
}

static void test_host_clock_stands_still_while_stopped(void **state)
{
    struct clock clock;
    u64 stopped, before;

    clock_init(&clock, CLOCK_HOST, 2000000000);
    assert_int_equal(clock_now(&clock), 0);
    clock_start(&clock);
    before = clock_now(&clock);
    while (clock_now(&clock) == before)
        ;
    clock_stop(&clock);
    stopped = clock_now(&clock);
    assert_true(stopped > before);
    assert_int_equal(clock_now(&clock), stopped);
    clock_stop(&clock);
    assert_int_equal(clock_now(&clock), stopped);
    clock_start(&clock);
    assert_true(clock_now(&clock) >= stopped);
}

static void test_tsc_does_not_overflow(void **state)
{
    struct clock clock;

    clock_init(&clock, CLOCK_MANUAL, 2500000000);
    assert_int_equal(clock_tsc(&clock, 10), 25);
    /* 100 years */
    assert_true(clock_tsc(&clock, 3155760000000000000) == 7889400000000000000);
    assert_int_equal(clock_tsc_to_ns(&clock, 25), 10);
    assert_int_equal(clock_tsc_to_ns(&clock, 26), 11); /* the first time at which 26 are reached */
    assert_true(clock_tsc(&clock, clock_tsc_to_ns(&clock, 123456789)) >= 123456789);
    clock.tsc_hz = 1000;
    assert_true(clock_tsc_to_ns(&clock, UINT64_MAX) == UINT64_MAX);
}

static void load_altered(struct clock altered, const char *why)
{
    struct state_buf buf = {0};
    struct state_reader reader;
    struct clock clock;
    struct error err = {.text = ""};

    clock_init(&clock, CLOCK_ICOUNT, 1000000000);
    state_save(&clock_state_table, &altered, &buf);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "s"};
    if (why) {
        assert_int_equal(state_load(&clock_state_table, &clock, &reader, &err), -1);
        assert_non_null(strstr(err.text, why));
    } else {
        assert_int_equal(state_load(&clock_state_table, &clock, &reader, &err), 0);
        assert_int_equal(clock_now(&clock), altered.now_ns);
        assert_false(clock.running);
    }
    state_buf_free(&buf);
}

static void test_state(void **state)
{
    const struct clock good = {.now_ns = 77, .tsc_hz = 2000000000, .driver = CLOCK_ICOUNT, .running = true};
    struct clock bad;

    load_altered(good, NULL);
    bad = good;
    bad.driver = 3;
    load_altered(bad, "clock driver 3");
    bad = good;
    bad.tsc_hz = 0; /* a division by it follows */
    load_altered(bad, "TSC of 0 Hz");
    bad = good;
    bad.now_ns = UINT64_MAX;
    load_altered(bad, "out of range");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manual_and_icount_move_by_advance_alone),
        cmocka_unit_test(test_host_clock_stands_still_while_stopped),
        cmocka_unit_test(test_tsc_does_not_overflow),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
