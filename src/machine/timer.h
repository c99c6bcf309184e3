/*
 * The VM's one queue of timers. Callbacks run with the device lock held, in order of deadline and, for equal deadlines,
 * in the order of arming (so that replay sees one order).
 *
 * A chip embeds a struct timer, calls timer_init in its attach, and saves it with STATE_STRUCT(..., &timer_state_table, 1).
 * The queue needs nothing but a clock, so unit tests of chips make one with CLOCK_MANUAL.
 */
#ifndef MACHINE_TIMER_H
#define MACHINE_TIMER_H

#include "base/types.h"
#include "machine/clock.h"
#include "state/state.h"

struct timer_queue;

struct timer {
    u64 deadline_ns; /* virtual; meaningful while armed */
    bool armed;
    u64 order;                  /* ties: lower first; saved so that a restored VM fires in the same order */
    struct timer_queue *queue;  // not saved: wiring
    void (*fire)(void *opaque); // not saved: wiring
    void *opaque;               // not saved: wiring
    struct timer *next;         // not saved: position in the queue, rebuilt by post_load
};
extern const struct state_table timer_state_table;

struct timer_queue {
    struct clock *clock;
    struct timer *first; /* sorted */
    u64 next_order;
    /* Called when the earliest deadline changes, so that the I/O thread or the budget of the running vCPU follows. May be
       NULL (unit tests). Device lock held. */
    void (*earliest_changed)(void *opaque);
    void *opaque;
};

void timer_queue_init(struct timer_queue *queue, struct clock *clock);

/* Earliest deadline in ns, or UINT64_MAX. Device lock held. */
u64 timer_queue_deadline(const struct timer_queue *queue);

/* Run every timer whose deadline is at or before `now_ns`, also those that are armed meanwhile for a time up to it; at
   most 10000 callbacks, so that a guest that programs a zero period cannot hang us. Device lock held. */
void timer_queue_run(struct timer_queue *queue, u64 now_ns);

/* The same up to this moment. */
static inline void timer_queue_run_due(struct timer_queue *queue)
{
    u64 now;

    if (queue->first && queue->first->deadline_ns <= (now = clock_now(queue->clock)))
        timer_queue_run(queue, now);
}

/* `fire` is called with the timer disarmed; it may arm it again. */
void timer_init(struct timer *timer, struct timer_queue *queue, void (*fire)(void *opaque), void *opaque);

/* (Re)arm for an absolute virtual time; a time in the past fires at the next chance. Device lock held. */
void timer_arm(struct timer *timer, u64 deadline_ns);
void timer_disarm(struct timer *timer);

static inline u64 timer_now(const struct timer *timer)
{
    return clock_now(timer->queue->clock);
}

#endif
