#include "machine/gate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gate_init(struct gate *gate, void (*wake)(void *opaque), void *opaque)
{
    *gate = (struct gate){.wake = wake, .wake_opaque = opaque};
    gate->last = &gate->first;
    pthread_mutex_init(&gate->lock, NULL);
}

static struct gate_event *take_all(struct gate *gate)
{
    struct gate_event *all;

    pthread_mutex_lock(&gate->lock);
    all = gate->first;
    gate->first = NULL;
    gate->last = &gate->first;
    gate->queued_bytes = 0;
    pthread_mutex_unlock(&gate->lock);
    return all;
}

void gate_free(struct gate *gate)
{
    struct gate_event *event = take_all(gate);

    while (event) {
        struct gate_event *next = event->next;

        free(event);
        event = next;
    }
    pthread_mutex_destroy(&gate->lock);
}

int gate_register(struct gate *gate, const char *name, void (*deliver)(void *, const u8 *, size_t),
                  void *opaque, struct error *err)
{
    struct gate_source *source;

    if (gate->nsources == GATE_SOURCES)
        return error_set(err, "%s: this machine has %d sources of outside events already", name,
                         GATE_SOURCES);
    source = &gate->sources[gate->nsources];
    snprintf(source->name, sizeof(source->name), "%s", name);
    source->deliver = deliver;
    source->opaque = opaque;
    return (int)gate->nsources++;
}

bool gate_post(struct gate *gate, int source, const void *bytes, size_t len)
{
    struct gate_event *event;
    bool fits;

    assert(source >= 0 && (unsigned)source < gate->nsources && len <= GATE_EVENT_BYTES);
    event = malloc(sizeof(*event) + len);
    if (!event)
        return false;
    event->next = NULL;
    event->source = (u16)source;
    event->len = (u32)len;
    if (len)
        memcpy(event->bytes, bytes, len);
    pthread_mutex_lock(&gate->lock);
    fits = gate->sources[source].bounded || gate->queued_bytes + sizeof(*event) + len <= GATE_QUEUE_BYTES;
    if (fits) {
        gate->queued_bytes += sizeof(*event) + len;
        *gate->last = event;
        gate->last = &event->next;
    }
    pthread_mutex_unlock(&gate->lock);
    if (!fits) {
        free(event);
        return false;
    }
    if (gate->wake)
        gate->wake(gate->wake_opaque);
    return true;
}

unsigned gate_drain(struct gate *gate)
{
    struct gate_event *event;
    unsigned count = 0;

    if (__atomic_load_n(&gate->paused, __ATOMIC_RELAXED))
        return 0;
    /* What a consumer posts meanwhile waits for the next drain, so that this one ends. */
    event = take_all(gate);
    while (event) {
        struct gate_event *next = event->next;
        const struct gate_source *source = &gate->sources[event->source];

        source->deliver(source->opaque, event->bytes, event->len);
        free(event);
        event = next;
        count++;
    }
    return count;
}

void gate_pause(struct gate *gate, bool paused)
{
    __atomic_store_n(&gate->paused, paused, __ATOMIC_RELAXED);
    if (!paused && gate->wake)
        gate->wake(gate->wake_opaque);
}
