#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "base/event_loop.h"

struct seen {
    struct event_loop *loop;
    unsigned calls, events;
    struct event_watch *victim;
    char order[8];
};

static void note(void *opaque)
{
    ((struct seen *)opaque)->calls++;
}

static void note_events(void *opaque, unsigned events)
{
    struct seen *seen = opaque;

    seen->calls++;
    seen->events = events;
    event_watch_remove(seen->victim);
    seen->victim = NULL;
}

static void stop(void *opaque)
{
    event_loop_stop(((struct seen *)opaque)->loop);
}

static struct event_loop *new_loop(void)
{
    struct error err = {0};
    struct event_loop *loop = event_loop_new(&err);

    assert_non_null(loop);
    return loop;
}

static void test_watch_reports_readable_writable_and_hangup(void **state)
{
    struct event_loop *loop = new_loop();
    struct seen seen = {0};
    struct event_watch *watch;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    watch = event_loop_watch(loop, fds[0], EVENT_READ, note_events, &seen, NULL);
    assert_non_null(watch);
    assert_int_equal(event_loop_run_once(loop, 0), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(event_loop_run_once(loop, -1), 1);
    assert_int_equal(seen.events, EVENT_READ);
    event_watch_set(watch, 0);
    assert_int_equal(event_loop_run_once(loop, 0), 0);
    close(fds[1]);
    event_loop_run_once(loop, -1);
    assert_int_equal(seen.events, EVENT_HANGUP);
    event_watch_remove(watch);
    assert_int_equal(event_loop_run_once(loop, 0), 0);
    close(fds[0]);
    event_loop_free(loop);
}

/* Both are ready in one batch; the callback that runs first removes the other's watch. */
static void test_removed_watch_of_the_same_batch_is_not_called(void **state)
{
    struct event_loop *loop = new_loop();
    struct seen a = {0}, b = {0};
    struct event_watch *wa, *wb;
    int fa[2], fb[2];

    assert_int_equal(pipe(fa) | pipe(fb), 0);
    wa = event_loop_watch(loop, fa[1], EVENT_WRITE, note_events, &a, NULL);
    wb = event_loop_watch(loop, fb[1], EVENT_WRITE, note_events, &b, NULL);
    a.victim = wb;
    b.victim = wa;
    assert_int_equal(event_loop_run_once(loop, -1), 1);
    assert_int_equal(a.calls + b.calls, 1);
    event_watch_remove(a.calls ? wa : wb);
    for (int i = 0; i < 2; i++) {
        close(fa[i]);
        close(fb[i]);
    }
    event_loop_free(loop);
}

static void append_a(void *opaque)
{
    struct seen *seen = opaque;

    seen->order[seen->calls++] = 'a';
}

static void append_b(void *opaque)
{
    struct seen *seen = opaque;

    seen->order[seen->calls++] = 'b';
    if (seen->calls < 6)
        assert_int_equal(event_loop_post(seen->loop, append_a, seen, NULL), 0);
}

static void test_posted_calls_keep_their_order_and_can_be_cancelled(void **state)
{
    struct event_loop *loop = new_loop();
    struct seen seen = {.loop = loop};

    assert_int_equal(event_loop_post(loop, append_b, &seen, NULL), 0);
    assert_int_equal(event_loop_post(loop, append_a, &seen, NULL), 0);
    assert_int_equal(event_loop_post(loop, append_b, &seen, NULL), 0);
    event_loop_run_once(loop, -1);
    assert_string_equal(seen.order, "bab");
    event_loop_run_once(loop, -1);
    assert_string_equal(seen.order, "babaa");
    assert_int_equal(event_loop_post(loop, append_b, &seen, NULL), 0);
    assert_int_equal(event_loop_post(loop, append_a, &seen, NULL), 0);
    event_loop_cancel(loop, append_b, &seen);
    event_loop_run_once(loop, -1);
    assert_string_equal(seen.order, "babaaa");
    event_loop_free(loop);
}

static void test_timer_fires_once_and_can_be_disarmed(void **state)
{
    struct event_loop *loop = new_loop();
    struct seen seen = {0};
    struct event_timer *timer = event_timer_new(loop, note, &seen, NULL);

    assert_non_null(timer);
    event_timer_arm(timer, 0);
    while (!seen.calls)
        event_loop_run_once(loop, -1);
    assert_int_equal(event_loop_run_once(loop, 0), 0);
    event_timer_arm(timer, event_now_ns());
    event_timer_arm(timer, UINT64_MAX);
    assert_int_equal(event_loop_run_once(loop, 20), 0);
    assert_int_equal(seen.calls, 1);
    event_timer_free(timer);
    event_loop_free(loop);
}

static void *post_many(void *opaque)
{
    struct seen *seen = opaque;

    for (int i = 0; i < 1000; i++)
        if (event_loop_post(seen->loop, note, seen, NULL))
            return seen;
    if (event_loop_post(seen->loop, stop, seen, NULL))
        return seen;
    return NULL;
}

static void test_other_thread_posts_and_stops(void **state)
{
    struct event_loop *loop = new_loop();
    struct seen seen = {.loop = loop};
    pthread_t thread;
    void *failed;

    assert_int_equal(pthread_create(&thread, NULL, post_many, &seen), 0);
    event_loop_run(loop);
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(seen.calls, 1000);
    event_loop_stop(loop); /* asked for beforehand: run returns at once, and the request is used up */
    event_loop_run(loop);
    assert_int_equal(event_loop_post(loop, stop, &seen, NULL), 0);
    event_loop_run(loop);
    event_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watch_reports_readable_writable_and_hangup),
        cmocka_unit_test(test_removed_watch_of_the_same_batch_is_not_called),
        cmocka_unit_test(test_posted_calls_keep_their_order_and_can_be_cancelled),
        cmocka_unit_test(test_timer_fires_once_and_can_be_disarmed),
        cmocka_unit_test(test_other_thread_posts_and_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
