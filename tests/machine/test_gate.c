/* The event gate: order, bounds, and posts from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/gate.h"

struct consumer {
    struct gate *gate;
    char text[256];
    unsigned events;
    int answer_to; /* a source to post to from inside deliver; -1: none */
};

static void deliver(void *opaque, const u8 *bytes, size_t len)
{
    struct consumer *consumer = opaque;

    consumer->events++;
    strncat(consumer->text, (const char *)bytes, len);
    if (consumer->answer_to >= 0)
        assert_true(gate_post(consumer->gate, consumer->answer_to, "!", 1));
}

static void wake(void *opaque)
{
    __atomic_add_fetch((unsigned *)opaque, 1, __ATOMIC_RELAXED);
}

static void test_one_order_over_all_sources(void **state)
{
    struct gate gate;
    unsigned wakes = 0;
    struct consumer consumer = {.gate = &gate, .answer_to = -1};
    struct error err;
    int a, b;

    gate_init(&gate, wake, &wakes);
    a = gate_register(&gate, "serial0", deliver, &consumer, &err);
    b = gate_register(&gate, "disk0", deliver, &consumer, &err);
    assert_true(a >= 0 && b >= 0 && a != b);
    assert_true(gate_post(&gate, a, "one ", 4));
    assert_true(gate_post(&gate, b, "two ", 4));
    assert_true(gate_post(&gate, a, "", 0));
    assert_true(gate_post(&gate, a, "three", 5));
    assert_int_equal(wakes, 4);
    assert_string_equal(consumer.text, "");
    assert_int_equal(gate_drain(&gate), 4);
    assert_string_equal(consumer.text, "one two three");
    assert_int_equal(gate_drain(&gate), 0);
    gate_free(&gate);
}

static void test_paused_gate_keeps_its_events(void **state)
{
    struct gate gate;
    unsigned wakes = 0;
    struct consumer consumer = {.gate = &gate, .answer_to = -1};
    struct error err;
    int a;

    gate_init(&gate, wake, &wakes);
    a = gate_register(&gate, "serial0", deliver, &consumer, &err);
    gate_pause(&gate, true);
    assert_true(gate_post(&gate, a, "x", 1));
    assert_int_equal(gate_drain(&gate), 0);
    wakes = 0;
    gate_pause(&gate, false);
    assert_int_equal(wakes, 1); /* what waited must be looked at */
    assert_int_equal(gate_drain(&gate), 1);
    gate_free(&gate);
}

static void test_a_post_while_delivering_waits_for_the_next_drain(void **state)
{
    struct gate gate;
    struct consumer consumer = {.gate = &gate};
    struct error err;

    gate_init(&gate, NULL, NULL);
    consumer.answer_to = gate_register(&gate, "echo", deliver, &consumer, &err);
    assert_true(gate_post(&gate, consumer.answer_to, "?", 1));
    assert_int_equal(gate_drain(&gate), 1);
    assert_int_equal(gate_drain(&gate), 1);
    assert_string_equal(consumer.text, "?!");
    gate_free(&gate); /* with one event still in it */
}

static void test_full_queue_refuses_until_drained(void **state)
{
    static const u8 block[GATE_EVENT_BYTES];
    struct gate gate;
    struct consumer consumer = {.gate = &gate, .answer_to = -1};
    struct error err;
    int a, bounded;
    unsigned posted = 0;

    gate_init(&gate, NULL, NULL);
    a = gate_register(&gate, "net0", deliver, &consumer, &err);
    bounded = gate_register(&gate, "disk0", deliver, &consumer, &err);
    gate.sources[bounded].bounded = true;
    while (gate_post(&gate, a, block, sizeof(block)))
        posted++;
    assert_true(posted > 200 && posted * sizeof(block) <= GATE_QUEUE_BYTES);
    assert_true(gate_post(&gate, bounded, block, 8));
    assert_int_equal(gate_drain(&gate), posted + 1);
    assert_true(gate_post(&gate, a, block, sizeof(block)));
    gate_free(&gate);
}

static void test_sources_are_bounded(void **state)
{
    struct gate gate;
    struct error err = {.text = ""};

    gate_init(&gate, NULL, NULL);
    for (unsigned i = 0; i < GATE_SOURCES; i++)
        assert_int_equal(gate_register(&gate, "s", deliver, NULL, &err), i);
    assert_int_equal(gate_register(&gate, "onemore", deliver, NULL, &err), -1);
    assert_non_null(strstr(err.text, "onemore"));
    gate_free(&gate);
}

enum { POSTS = 1000, POSTERS = 3 };

struct poster {
    struct gate *gate;
    int source;
};

static void *post_many(void *opaque)
{
    struct poster *poster = opaque;

    for (u32 i = 0; i < POSTS; i++)
        assert_true(gate_post(poster->gate, poster->source, &i, sizeof(i)));
    return NULL;
}

static void deliver_number(void *opaque, const u8 *bytes, size_t len)
{
    u32 *expected = opaque, number;

    assert_int_equal(len, sizeof(number));
    memcpy(&number, bytes, sizeof(number));
    assert_int_equal(number, *expected);
    ++*expected;
}

/* From several threads: nothing is lost, and each poster's events come in its own order. */
static void test_posts_from_threads(void **state)
{
    struct gate gate;
    struct error err;
    pthread_t thread[POSTERS];
    struct poster poster[POSTERS];
    u32 seen[POSTERS] = {0};
    unsigned wakes = 0, delivered = 0;

    gate_init(&gate, wake, &wakes);
    for (unsigned i = 0; i < POSTERS; i++) {
        poster[i].gate = &gate;
        poster[i].source = gate_register(&gate, "t", deliver_number, &seen[i], &err);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, post_many, &poster[i]), 0);
    while (delivered < POSTS * POSTERS)
        delivered += gate_drain(&gate);
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(seen[i], POSTS);
    assert_int_equal(wakes, POSTS * POSTERS);
    gate_free(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_order_over_all_sources),
        cmocka_unit_test(test_paused_gate_keeps_its_events),
        cmocka_unit_test(test_a_post_while_delivering_waits_for_the_next_drain),
        cmocka_unit_test(test_full_queue_refuses_until_drained),
        cmocka_unit_test(test_sources_are_bounded),
        cmocka_unit_test(test_posts_from_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
