/*
 * The event gate (invariant 2): the one door for what the guest can observe and that is not computed from its own state.
 *
 * A consumer registers a named source at wiring time. Host threads post bytes to it; the thread that runs the vCPUs
 * drains the queue at an instruction boundary with the device lock held and calls the consumer. That gives one total
 * order, each entry at an instruction count, which is what a tape records and replays.
 */
#ifndef MACHINE_GATE_H
#define MACHINE_GATE_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"

enum { GATE_SOURCES = 128, GATE_EVENT_BYTES = 4096, GATE_QUEUE_BYTES = 1 << 20 };

struct gate_source {
    char name[48]; /* "serial0", "disk0", "control": stable across runs, on tapes */
    void (*deliver)(void *opaque, const u8 *bytes, size_t len);
    void *opaque;
    bool
        bounded; /* its poster bounds what is under way by itself (async.h): never refused for want of room */
};

struct async;

struct gate_event {
    struct gate_event *next;
    u16 source;
    u32 len;
    u8 bytes[];
};

struct gate {
    pthread_mutex_t lock; /* guards the queue alone; never held during deliver */
    struct gate_event *first, **last;
    size_t queued_bytes;
    struct gate_source sources[GATE_SOURCES];
    unsigned nsources;
    bool paused;
    struct async *asyncs;       /* whose completions come in here (async.h) */
    void (*wake)(void *opaque); /* makes the running vCPU come out and drain */
    void *wake_opaque;
};

void gate_init(struct gate *gate, void (*wake)(void *opaque), void *opaque);
void gate_free(struct gate *gate);

/* Returns the source number (0 and up), or -1 with `err` set when there are GATE_SOURCES already. Wiring time only. */
MUST_CHECK int gate_register(struct gate *gate, const char *name, void (*deliver)(void *, const u8 *, size_t),
                             void *opaque, struct error *err);

/* From any thread, with any lock but the gate's. The bytes, at most GATE_EVENT_BYTES, are copied. false: the queue is full
   (GATE_QUEUE_BYTES), try again later; never so for a bounded source. */
bool gate_post(struct gate *gate, int source, const void *bytes, size_t len);

/* Deliver everything that waits. Device lock held, thread that runs the vCPUs. Returns the number of events. */
unsigned gate_drain(struct gate *gate);

/* While paused, gate_drain does nothing: migration and snapshot see a still machine. */
void gate_pause(struct gate *gate, bool paused);

#endif
