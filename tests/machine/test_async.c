/* Asynchronous operations: with the host clock through the gate, deterministic at their instant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "machine/async.h"

struct fixture {
    struct clock clock;
    struct timer_queue timers;
    struct gate gate;
    struct async async;
    unsigned starts, completions;
    unsigned order[ASYNC_TAGS];
    i64 results[ASYNC_TAGS];
    bool at_once;   /* start ends the operation itself */
    bool threaded;  /* another thread does */
    unsigned chain; /* so many operations more are asked for by completions */
    pthread_t threads[ASYNC_TAGS];
};

struct job {
    struct async *async;
    unsigned tag;
};

static void *job_thread(void *opaque)
{
    struct job *job = opaque;

    async_done(job->async, job->tag, 100 + job->tag);
    free(job);
    return NULL;
}

static void on_start(void *opaque, unsigned tag)
{
    struct fixture *f = opaque;

    f->starts++;
    if (f->at_once)
        async_done(&f->async, tag, 100 + tag);
    if (f->threaded) {
        struct job *job = malloc(sizeof(*job));

        *job = (struct job){&f->async, tag};
        assert_int_equal(pthread_create(&f->threads[tag], NULL, job_thread, job), 0);
    }
}

static void on_complete(void *opaque, unsigned tag, i64 result)
{
    struct fixture *f = opaque;

    if (f->threaded)
        pthread_join(f->threads[tag], NULL);
    f->order[f->completions++] = tag;
    f->results[tag] = result;
    if (f->chain) {
        f->chain--;
        assert_true(async_submit(&f->async, tag)); /* the tag is free again */
    }
}

static const struct async_ops ops = {.start = on_start, .complete = on_complete};

static void set_up(struct fixture *f, enum clock_driver driver)
{
    struct error err = {{0}};

    memset(f, 0, sizeof(*f));
    clock_init(&f->clock, driver, 1000000000);
    timer_queue_init(&f->timers, &f->clock);
    gate_init(&f->gate, NULL, NULL);
    assert_int_equal(async_init(&f->async, &f->gate, &f->timers, "disk0", &ops, f, &err), 0);
}

static void tear_down(struct fixture *f)
{
    async_free(&f->async);
    assert_null(f->gate.asyncs);
    gate_free(&f->gate);
}

static void run_to(struct fixture *f, u64 ns)
{
    clock_advance(&f->clock, ns - clock_now(&f->clock));
    timer_queue_run(&f->timers, ns);
}

static void test_host_clock(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_HOST);
    assert_true(async_submit(&f.async, 3));
    assert_int_equal(f.starts, 1);
    assert_true(async_busy(&f.async, 3));
    assert_false(async_submit(&f.async, 3)); /* in use */
    assert_false(async_submit(&f.async, ASYNC_TAGS));
    assert_int_equal(gate_drain(&f.gate), 0);
    async_done(&f.async, 3, -5);
    assert_int_equal(f.completions, 0); /* not before the gate lets it in */
    assert_true(async_busy(&f.async, 3));
    assert_int_equal(gate_drain(&f.gate), 1);
    assert_int_equal(f.completions, 1);
    assert_int_equal(f.results[3], -5);
    assert_false(async_busy(&f.async, 3));
    tear_down(&f);
}

static void test_host_clock_keeps_the_gates_order(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_HOST);
    for (unsigned tag = 0; tag < 8; tag++)
        assert_true(async_submit(&f.async, tag));
    for (unsigned tag = 8; tag-- > 0;)
        async_done(&f.async, tag, tag);
    gate_drain(&f.gate);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(f.order[i], 7 - i);
    tear_down(&f);
}

/* A gate that is full of other things refuses no completion. */
static void other_source(void *opaque, const u8 *bytes, size_t len) {}

static void test_full_gate(void **state)
{
    static const u8 bytes[GATE_EVENT_BYTES];
    struct error err = {{0}};
    struct fixture f;
    int source;

    set_up(&f, CLOCK_HOST);
    source = gate_register(&f.gate, "serial0", other_source, NULL, &err);
    while (gate_post(&f.gate, source, bytes, sizeof(bytes)))
        ;
    f.at_once = true;
    for (unsigned tag = 0; tag < ASYNC_TAGS; tag++)
        assert_true(async_submit(&f.async, tag));
    gate_drain(&f.gate);
    assert_int_equal(f.completions, ASYNC_TAGS);
    tear_down(&f);
}

/* Draining completes what is under way; its event, which comes through the gate later, is not taken for a newer one. */
static void test_late_events(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_HOST);
    f.at_once = true;
    assert_true(async_submit(&f.async, 1));
    async_drain(&f.async);
    assert_int_equal(f.completions, 1);
    f.at_once = false;
    assert_true(async_submit(&f.async, 1));
    gate_drain(&f.gate);
    assert_int_equal(f.completions, 1);
    assert_true(async_busy(&f.async, 1));
    async_done(&f.async, 1, 7);
    gate_drain(&f.gate);
    assert_int_equal(f.completions, 2);
    assert_int_equal(f.results[1], 7);
    tear_down(&f);
}

/* What a tape could hold: events of wrong length, of tags that do not exist or are idle. */
static void test_forged_events(void **state)
{
    struct fixture f;
    u32 event[4] = {0};

    set_up(&f, CLOCK_HOST);
    assert_true(async_submit(&f.async, 1));
    for (u32 tag = 0; tag < 1000; tag += 3) {
        event[0] = tag;
        event[1] = 1;
        assert_true(gate_post(&f.gate, f.async.source, event, sizeof(event)));
        assert_true(gate_post(&f.gate, f.async.source, event, tag % 16));
    }
    gate_drain(&f.gate);
    assert_int_equal(f.completions, 0);
    async_done(&f.async, 1, 0);
    tear_down(&f);
}

static void test_threads(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_HOST);
    f.threaded = true;
    for (unsigned tag = 0; tag < 50; tag++)
        assert_true(async_submit(&f.async, tag));
    f.chain = 30;
    async_drain_all(&f.gate);
    assert_int_equal(f.completions, 80);
    for (unsigned tag = 0; tag < 50; tag++)
        assert_int_equal(f.results[tag], 100 + tag);
    gate_drain(&f.gate); /* all late */
    assert_int_equal(f.completions, 80);
    tear_down(&f);
}

static void test_deterministic(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_MANUAL);
    f.at_once = true;
    assert_true(async_submit(&f.async, 9));
    assert_int_equal(f.starts, 0); /* nothing happens before its time */
    assert_true(async_busy(&f.async, 9));
    assert_false(async_submit(&f.async, 9));
    run_to(&f, 1000);
    assert_true(async_submit(&f.async, 2));
    run_to(&f, ASYNC_DELAY_NS - 1);
    assert_int_equal(f.starts, 0);
    run_to(&f, ASYNC_DELAY_NS);
    assert_int_equal(f.completions, 1);
    assert_int_equal(f.results[9], 109);
    run_to(&f, ASYNC_DELAY_NS + 999);
    assert_int_equal(f.completions, 1);
    run_to(&f, ASYNC_DELAY_NS + 1000);
    assert_int_equal(f.completions, 2);
    assert_int_equal(gate_drain(&f.gate), 0); /* the gate has no part in it */
    tear_down(&f);
}

/* However long the host takes, the virtual instant is the same: the thread waits. */
static void test_deterministic_waits_for_the_host(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_MANUAL);
    f.threaded = true;
    for (unsigned tag = 0; tag < 20; tag++)
        assert_true(async_submit(&f.async, tag));
    run_to(&f, ASYNC_DELAY_NS);
    assert_int_equal(f.completions, 20);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(f.order[i], i);
    tear_down(&f);
}

static void test_cancel(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_MANUAL);
    f.at_once = true;
    assert_true(async_submit(&f.async, 4));
    async_cancel(&f.async);
    assert_false(async_busy(&f.async, 4));
    run_to(&f, 10 * ASYNC_DELAY_NS);
    assert_int_equal(f.starts, 0);
    assert_int_equal(f.completions, 0);
    assert_true(async_submit(&f.async, 4));
    run_to(&f, 20 * ASYNC_DELAY_NS);
    assert_int_equal(f.completions, 1);
    tear_down(&f);
}

/* Operations that wait are in the state, and go on elsewhere at their instant. */
static void test_state(void **state)
{
    struct state_buf saved = {0};
    struct state_reader reader;
    struct error err = {{0}};
    struct fixture f, g;

    set_up(&f, CLOCK_MANUAL);
    assert_true(async_submit(&f.async, 5));
    run_to(&f, 10);
    assert_true(async_submit(&f.async, 200));
    async_drain_all(&f.gate); /* changes nothing for them */
    assert_int_equal(f.starts, 0);
    state_save(&async_state_table, &f.async, &saved);
    tear_down(&f);

    set_up(&g, CLOCK_MANUAL);
    g.at_once = true;
    reader = (struct state_reader){.data = saved.data, .len = saved.len, .what = "test"};
    assert_int_equal(state_load(&async_state_table, &g.async, &reader, &err), 0);
    assert_false(async_submit(&g.async, 200));
    run_to(&g, ASYNC_DELAY_NS + 9);
    assert_int_equal(g.completions, 1);
    run_to(&g, ASYNC_DELAY_NS + 10);
    assert_int_equal(g.completions, 2);
    assert_int_equal(g.order[1], 200);
    tear_down(&g);
    state_buf_free(&saved);
}

static void assert_refused(struct async *bad)
{
    struct state_buf saved = {0};
    struct state_reader reader;
    struct error err = {{0}};
    struct fixture g;

    set_up(&g, CLOCK_MANUAL);
    state_save(&async_state_table, bad, &saved);
    reader = (struct state_reader){.data = saved.data, .len = saved.len, .what = "test"};
    assert_int_equal(state_load(&async_state_table, &g.async, &reader, &err), -1);
    assert_string_not_equal(err.text, "");
    tear_down(&g);
    state_buf_free(&saved);
}

static void test_state_refused(void **state)
{
    struct fixture f;

    set_up(&f, CLOCK_MANUAL);
    f.async.queued = 1;
    assert_refused(&f.async); /* a queue without a timer */
    timer_arm(&f.async.timer, 50);
    f.async.queued = ASYNC_TAGS + 1;
    assert_refused(&f.async);
    f.async.queued = 2;
    assert_refused(&f.async); /* tag 0 twice */
    f.async.tags[1] = ASYNC_TAGS;
    assert_refused(&f.async);
    f.async.queued = 0;
    assert_refused(&f.async); /* a timer without a queue */
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_clock),    cmocka_unit_test(test_host_clock_keeps_the_gates_order),
        cmocka_unit_test(test_full_gate),     cmocka_unit_test(test_late_events),
        cmocka_unit_test(test_forged_events), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_deterministic), cmocka_unit_test(test_deterministic_waits_for_the_host),
        cmocka_unit_test(test_cancel),        cmocka_unit_test(test_state),
        cmocka_unit_test(test_state_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
