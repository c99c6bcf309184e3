/*
 * The I/O thread's loop: file descriptors, timers and calls posted from other threads.
 *
 * Callbacks run on the thread that is inside event_loop_run, one at a time, with no lock held. Watches and timers are made,
 * changed and removed on that thread, or while no thread runs the loop; event_loop_post, event_loop_stop and
 * event_timer_arm are for any thread.
 */
#ifndef BASE_EVENT_LOOP_H
#define BASE_EVENT_LOOP_H

#include "base/error.h"
#include "base/types.h"

struct event_loop;
struct event_watch;
struct event_timer;

enum { EVENT_READ = 1, EVENT_WRITE = 2, EVENT_HANGUP = 4 /* reported always: error or hang-up */ };

/* NULL with `err` set when the host has no descriptor or memory left. */
struct event_loop *event_loop_new(struct error *err);

/* Releases the loop with the watches and timers that are left; calls that were posted and not run are dropped. No thread
   may run it. NULL is allowed. */
void event_loop_free(struct event_loop *loop);

/* Run callbacks until event_loop_stop. Returns at once when a stop was asked for before; the request is then used up. */
void event_loop_run(struct event_loop *loop);

/* Wait at most `timeout_ms` (-1: without end) for something, run its callbacks, return how many ran. */
unsigned event_loop_run_once(struct event_loop *loop, int timeout_ms);

/* Make event_loop_run return. Any thread, also a callback. */
void event_loop_stop(struct event_loop *loop);

/* Watch `fd` for `events` (EVENT_READ | EVENT_WRITE, or 0 for hang-up alone). The descriptor stays the caller's, who removes
   the watch before closing it. NULL with `err` set on failure: errno EPERM in particular is a regular file, always ready. */
struct event_watch *event_loop_watch(struct event_loop *loop, int fd, unsigned events,
                                     void (*ready)(void *opaque, unsigned events), void *opaque,
                                     struct error *err);
void event_watch_set(struct event_watch *watch, unsigned events);
/* No callback follows. NULL is allowed. */
void event_watch_remove(struct event_watch *watch);

/* Make a timer that is not armed. Its callback runs once for each arming that expires. NULL with `err` set on failure. */
struct event_timer *event_timer_new(struct event_loop *loop, void (*fire)(void *opaque), void *opaque,
                                    struct error *err);
/* (Re)arm for a time of CLOCK_MONOTONIC in ns; UINT64_MAX disarms. Any thread. */
void event_timer_arm(struct event_timer *timer, u64 deadline_ns);
void event_timer_free(struct event_timer *timer);

/* Have the loop call `fn(opaque)` soon; calls run in the order of posting. Any thread. -1: out of memory. */
MUST_CHECK int event_loop_post(struct event_loop *loop, void (*fn)(void *opaque), void *opaque,
                               struct error *err);

/* Drop posted calls of this function and argument that have not started. On the loop's thread, or while nobody runs it. */
void event_loop_cancel(struct event_loop *loop, void (*fn)(void *opaque), void *opaque);

/* CLOCK_MONOTONIC in ns: the time base of event timers. For the host side only; devices have virtual time. */
u64 event_now_ns(void);

#endif
