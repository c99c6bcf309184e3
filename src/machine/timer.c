#include "machine/timer.h"

#include <assert.h>

/* Callbacks of one timer_queue_run; what is left over runs at the next boundary. */
enum { TIMER_RUN_MAX = 10000 };

void timer_queue_init(struct timer_queue *queue, struct clock *clock)
{
    *queue = (struct timer_queue){.clock = clock};
}

u64 timer_queue_deadline(const struct timer_queue *queue)
{
    return queue->first ? queue->first->deadline_ns : UINT64_MAX;
}

static void unlink_timer(struct timer *timer)
{
    struct timer **at = &timer->queue->first;

    while (*at && *at != timer)
        at = &(*at)->next;
    if (*at)
        *at = timer->next;
    timer->next = NULL;
}

static bool fires_before(const struct timer *a, const struct timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

static void link_timer(struct timer *timer)
{
    struct timer **at = &timer->queue->first;

    while (*at && fires_before(*at, timer))
        at = &(*at)->next;
    timer->next = *at;
    *at = timer;
}

static void tell_if_changed(struct timer_queue *queue, u64 old_deadline)
{
    if (queue->earliest_changed && timer_queue_deadline(queue) != old_deadline)
        queue->earliest_changed(queue->opaque);
}

void timer_queue_run(struct timer_queue *queue, u64 now_ns)
{
    u64 old = timer_queue_deadline(queue);

    for (unsigned i = 0; i < TIMER_RUN_MAX && queue->first && queue->first->deadline_ns <= now_ns; i++) {
        struct timer *timer = queue->first;

        queue->first = timer->next;
        timer->next = NULL;
        timer->armed = false;
        timer->fire(timer->opaque);
    }
    tell_if_changed(queue, old);
}

void timer_init(struct timer *timer, struct timer_queue *queue, void (*fire)(void *opaque), void *opaque)
{
    *timer = (struct timer){.queue = queue, .fire = fire, .opaque = opaque};
}

void timer_arm(struct timer *timer, u64 deadline_ns)
{
    struct timer_queue *queue = timer->queue;
    u64 old = timer_queue_deadline(queue);

    if (timer->armed)
        unlink_timer(timer);
    timer->armed = true;
    timer->deadline_ns = deadline_ns;
    timer->order = queue->next_order++;
    link_timer(timer);
    tell_if_changed(queue, old);
}

void timer_disarm(struct timer *timer)
{
    u64 old;

    if (!timer->armed)
        return;
    old = timer_queue_deadline(timer->queue);
    unlink_timer(timer);
    timer->armed = false;
    tell_if_changed(timer->queue, old);
}

/* The fields were written over a timer that may stand in the queue, at the place of its old deadline. */
static int timer_post_load(void *object, struct error *err)
{
    struct timer *timer = object;
    struct timer_queue *queue = timer->queue;

    assert(queue); /* timer_init comes before any load */
    unlink_timer(timer);
    /* An order that counts past any real run would let next_order wrap. */
    if (timer->order > UINT64_MAX / 2)
        return error_set(err, "the order of a timer is out of range");
    if (timer->armed && queue->next_order <= timer->order)
        queue->next_order = timer->order + 1;
    if (timer->armed)
        link_timer(timer);
    return 0;
}

static const struct state_field timer_fields[] = {
    STATE_FIELD(struct timer, deadline_ns, STATE_U64, 1),
    STATE_FIELD(struct timer, armed, STATE_BOOL, 1),
    STATE_FIELD(struct timer, order, STATE_U64, 1),
    STATE_END,
};
const struct state_table timer_state_table = {.name = "timer",
                                              .version = 1,
                                              .size = sizeof(struct timer),
                                              .fields = timer_fields,
                                              .post_load = timer_post_load};
