/*
 * Work that a device hands to a host thread, and its completion through the event gate (invariant 2): disk requests,
 * packets to send, anything that takes host time.
 *
 * An operation is a tag that the device chooses, below ASYNC_TAGS. With the host clock it starts at once, and its result
 * comes in through the gate when the host is done. In deterministic mode it starts, and completes, at a fixed virtual time
 * after it was asked for: the guest's memory changes at that instant and at no other, however long the host takes, so the
 * vCPU thread waits for it. What is saved is therefore only the operations that have not started; async_drain_all brings
 * the others to an end first.
 */
#ifndef MACHINE_ASYNC_H
#define MACHINE_ASYNC_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "machine/gate.h"
#include "machine/timer.h"
#include "state/state.h"

enum { ASYNC_TAGS = 256, ASYNC_DELAY_NS = 100000 };

struct async_ops {
    /* Begin the operation. async_done(tag) must follow exactly once, at once or later, on any thread. Device lock held. */
    void (*start)(void *opaque, unsigned tag);
    /* The operation has ended; its tag is free again. Device lock held. */
    void (*complete)(void *opaque, unsigned tag, i64 result);
};

enum async_state { ASYNC_IDLE, ASYNC_QUEUED, ASYNC_STARTED, ASYNC_DONE };

struct async {
    /* Deterministic mode: operations that wait for their instant, in order of it. */
    u32 queued;
    u16 tags[ASYNC_TAGS];
    u64 deadlines_ns[ASYNC_TAGS];
    struct timer timer;
    const struct async_ops *ops; // not saved: wiring
    void *opaque;                // not saved: wiring
    struct gate *gate;           // not saved: wiring
    int source;                  // not saved: wiring
    struct async *next;          // not saved: wiring, of gate->asyncs
    pthread_mutex_t lock;        // not saved: guards what follows
    pthread_cond_t done;         // not saved: an operation became ASYNC_DONE
    struct {
        u8 state;   /* enum async_state */
        u32 serial; /* grows with each use of the tag: tells a late event from a new one */
        i64 result;
    } ops_by_tag[ASYNC_TAGS]; // not saved: rebuilt from the queue; nothing is started while a save runs
};
extern const struct state_table async_state_table;

/* Register the gate source `name`. Wiring time; `ops` and `opaque` must outlive `async`. */
MUST_CHECK int async_init(struct async *async, struct gate *gate, struct timer_queue *timers,
                          const char *name, const struct async_ops *ops, void *opaque, struct error *err);

/* Wait for what is under way, forget the rest, and leave the gate's list. The source stays registered. */
void async_free(struct async *async);

/* Ask for an operation. false: `tag` is in use or out of range, and nothing happens. Device lock held. */
MUST_CHECK bool async_submit(struct async *async, unsigned tag);

/* The operation has ended. Any thread, any lock. */
void async_done(struct async *async, unsigned tag, i64 result);

/* Whether `tag` is in use. Device lock held. */
bool async_busy(struct async *async, unsigned tag);

/* Wait for the operations that have started and complete them now. Device lock held, VM parked or its own thread. */
void async_drain(struct async *async);

/* As async_drain, and drop those that have not started without completing them: reset. Device lock held. */
void async_cancel(struct async *async);

/* async_drain for every async of the gate: before the machine's state is saved. */
void async_drain_all(struct gate *gate);

#endif
