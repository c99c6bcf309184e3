/* The timer queue: order, bounds, and a queue that is the same after its state was loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/timer.h"

struct bench {
    struct clock clock;
    struct timer_queue queue;
    struct timer timer[4];
    char fired[64];
    unsigned changes;
    u64 period; /* timer 3 arms itself again after this */
};

static void fire(struct bench *bench, char which)
{
    bench->fired[strlen(bench->fired)] = which;
}
static void fire0(void *opaque)
{
    fire(opaque, 'a');
}
static void fire1(void *opaque)
{
    fire(opaque, 'b');
}
static void fire2(void *opaque)
{
    fire(opaque, 'c');
}

static void fire_again(void *opaque)
{
    struct bench *bench = opaque;

    bench->changes++;
    timer_arm(&bench->timer[3], bench->timer[3].deadline_ns + bench->period);
}

static void changed(void *opaque)
{
    ((struct bench *)opaque)->changes++;
}

static void set_up(struct bench *bench)
{
    *bench = (struct bench){0};
    clock_init(&bench->clock, CLOCK_MANUAL, 1000000000);
    timer_queue_init(&bench->queue, &bench->clock);
    timer_init(&bench->timer[0], &bench->queue, fire0, bench);
    timer_init(&bench->timer[1], &bench->queue, fire1, bench);
    timer_init(&bench->timer[2], &bench->queue, fire2, bench);
    timer_init(&bench->timer[3], &bench->queue, fire_again, bench);
}

static void test_fires_in_order_and_once(void **state)
{
    struct bench bench;

    set_up(&bench);
    assert_true(timer_queue_deadline(&bench.queue) == UINT64_MAX);
    timer_arm(&bench.timer[0], 300);
    timer_arm(&bench.timer[1], 100);
    timer_arm(&bench.timer[2], 200);
    assert_int_equal(timer_queue_deadline(&bench.queue), 100);
    timer_queue_run(&bench.queue, 99);
    assert_string_equal(bench.fired, "");
    timer_queue_run(&bench.queue, 200);
    assert_string_equal(bench.fired, "bc");
    assert_int_equal(timer_queue_deadline(&bench.queue), 300);
    timer_queue_run(&bench.queue, 1000);
    assert_string_equal(bench.fired, "bca");
    timer_queue_run(&bench.queue, 2000);
    assert_string_equal(bench.fired, "bca");
    assert_false(bench.timer[0].armed);
}

static void test_ties_fire_in_order_of_arming(void **state)
{
    struct bench bench;

    set_up(&bench);
    timer_arm(&bench.timer[2], 100);
    timer_arm(&bench.timer[0], 100);
    timer_arm(&bench.timer[1], 100);
    timer_arm(&bench.timer[2], 100); /* armed again: last now */
    timer_queue_run(&bench.queue, 100);
    assert_string_equal(bench.fired, "abc");
}

static void test_disarm(void **state)
{
    struct bench bench;

    set_up(&bench);
    timer_arm(&bench.timer[0], 100);
    timer_arm(&bench.timer[1], 50);
    timer_disarm(&bench.timer[1]);
    timer_disarm(&bench.timer[1]);
    timer_disarm(&bench.timer[2]);
    assert_int_equal(timer_queue_deadline(&bench.queue), 100);
    timer_queue_run(&bench.queue, 100);
    assert_string_equal(bench.fired, "a");
}

static void test_earliest_changed_is_told_only_then(void **state)
{
    struct bench bench;

    set_up(&bench);
    bench.queue.earliest_changed = changed;
    bench.queue.opaque = &bench;
    timer_arm(&bench.timer[0], 100);
    assert_int_equal(bench.changes, 1);
    timer_arm(&bench.timer[1], 200);
    assert_int_equal(bench.changes, 1);
    timer_arm(&bench.timer[2], 50);
    assert_int_equal(bench.changes, 2);
    timer_disarm(&bench.timer[1]);
    assert_int_equal(bench.changes, 2);
    timer_disarm(&bench.timer[2]);
    assert_int_equal(bench.changes, 3);
}

static void test_zero_period_does_not_hang(void **state)
{
    struct bench bench;

    set_up(&bench);
    timer_arm(&bench.timer[3], 10);
    timer_queue_run(&bench.queue, 10);
    assert_int_equal(bench.changes, 10000);
    assert_true(bench.timer[3].armed);
}

static void test_periodic_catches_up(void **state)
{
    struct bench bench;

    set_up(&bench);
    bench.period = 10;
    timer_arm(&bench.timer[3], 10);
    timer_queue_run(&bench.queue, 55);
    assert_int_equal(bench.changes, 5);
    assert_int_equal(timer_queue_deadline(&bench.queue), 60);
}

static void test_state_keeps_deadlines_and_ties(void **state)
{
    struct bench from, to;
    struct state_buf buf = {0};
    struct state_reader reader;
    struct error err;

    set_up(&from);
    timer_arm(&from.timer[2], 100);
    timer_arm(&from.timer[0], 100);
    timer_arm(&from.timer[1], 30);
    timer_disarm(&from.timer[1]);
    for (unsigned i = 0; i < 3; i++)
        state_save(&timer_state_table, &from.timer[i], &buf);

    /* Timers that are armed in another order already, one of which the state has disarmed. */
    set_up(&to);
    timer_arm(&to.timer[0], 7);
    timer_arm(&to.timer[1], 8);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "s"};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(state_load(&timer_state_table, &to.timer[i], &reader, &err), 0);
    assert_int_equal(timer_queue_deadline(&to.queue), 100);
    /* An arming after the load comes after what was armed before the save. */
    timer_arm(&to.timer[1], 100);
    timer_queue_run(&to.queue, 100);
    assert_string_equal(to.fired, "cab");
    assert_null(to.queue.first);
    state_buf_free(&buf);
}

static void test_state_refuses_an_order_that_would_wrap(void **state)
{
    struct bench bench;
    struct timer odd = {.deadline_ns = 5, .armed = true, .order = UINT64_MAX};
    struct state_buf buf = {0};
    struct state_reader reader;
    struct error err = {.text = ""};

    set_up(&bench);
    state_save(&timer_state_table, &odd, &buf);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "s"};
    assert_int_equal(state_load(&timer_state_table, &bench.timer[0], &reader, &err), -1);
    assert_non_null(strstr(err.text, "order"));
    state_buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fires_in_order_and_once),
        cmocka_unit_test(test_ties_fire_in_order_of_arming),
        cmocka_unit_test(test_disarm),
        cmocka_unit_test(test_earliest_changed_is_told_only_then),
        cmocka_unit_test(test_zero_period_does_not_hang),
        cmocka_unit_test(test_periodic_catches_up),
        cmocka_unit_test(test_state_keeps_deadlines_and_ties),
        cmocka_unit_test(test_state_refuses_an_order_that_would_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
