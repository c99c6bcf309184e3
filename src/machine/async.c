#include "machine/async.h"

#include <stdio.h>
#include <string.h>

struct async_event { /* what the gate carries */
    u32 tag;
    u32 serial;
    i64 result;
};

static bool async_deterministic(const struct async *async)
{
    return async->timer.queue->clock->driver != CLOCK_HOST;
}

static void async_set_state(struct async *async, unsigned tag, enum async_state state)
{
    pthread_mutex_lock(&async->lock);
    async->ops_by_tag[tag].state = state;
    pthread_mutex_unlock(&async->lock);
}

/* Wait until `tag`, which was started, has ended; free it and tell its owner. */
static void async_finish(struct async *async, unsigned tag)
{
    i64 result;

    pthread_mutex_lock(&async->lock);
    while (async->ops_by_tag[tag].state != ASYNC_DONE)
        pthread_cond_wait(&async->done, &async->lock);
    async->ops_by_tag[tag].state = ASYNC_IDLE;
    result = async->ops_by_tag[tag].result;
    pthread_mutex_unlock(&async->lock);
    async->ops->complete(async->opaque, tag, result);
}

static void async_start(struct async *async, unsigned tag)
{
    pthread_mutex_lock(&async->lock);
    async->ops_by_tag[tag].state = ASYNC_STARTED;
    async->ops_by_tag[tag].serial++;
    pthread_mutex_unlock(&async->lock);
    async->ops->start(async->opaque, tag);
}

static void async_fire(void *opaque)
{
    struct async *async = opaque;
    unsigned tag = async->tags[0];

    async->queued--;
    memmove(async->tags, async->tags + 1, async->queued * sizeof(async->tags[0]));
    memmove(async->deadlines_ns, async->deadlines_ns + 1, async->queued * sizeof(async->deadlines_ns[0]));
    if (async->queued)
        timer_arm(&async->timer, async->deadlines_ns[0]);
    async_start(async, tag);
    async_finish(async, tag);
}

/* Gate consumer. An event whose operation a drain has completed meanwhile says nothing new. */
static void async_deliver(void *opaque, const u8 *bytes, size_t len)
{
    struct async *async = opaque;
    struct async_event event;
    bool current;

    if (len != sizeof(event))
        return;
    memcpy(&event, bytes, sizeof(event));
    if (event.tag >= ASYNC_TAGS)
        return;
    pthread_mutex_lock(&async->lock);
    current = async->ops_by_tag[event.tag].state == ASYNC_DONE &&
              async->ops_by_tag[event.tag].serial == event.serial;
    pthread_mutex_unlock(&async->lock);
    if (current)
        async_finish(async, event.tag);
}

int async_init(struct async *async, struct gate *gate, struct timer_queue *timers, const char *name,
               const struct async_ops *ops, void *opaque, struct error *err)
{
    memset(async, 0, sizeof(*async));
    async->ops = ops;
    async->opaque = opaque;
    async->gate = gate;
    timer_init(&async->timer, timers, async_fire, async);
    async->source = gate_register(gate, name, async_deliver, async, err);
    if (async->source < 0)
        return -1;
    gate->sources[async->source].bounded = true; /* at most one event for each tag that is in use */
    pthread_mutex_init(&async->lock, NULL);
    pthread_cond_init(&async->done, NULL);
    async->next = gate->asyncs;
    gate->asyncs = async;
    return 0;
}

void async_free(struct async *async)
{
    struct async **link = &async->gate->asyncs;

    async_cancel(async);
    while (*link && *link != async)
        link = &(*link)->next;
    if (*link)
        *link = async->next;
    pthread_cond_destroy(&async->done);
    pthread_mutex_destroy(&async->lock);
}

bool async_submit(struct async *async, unsigned tag)
{
    if (tag >= ASYNC_TAGS || async_busy(async, tag))
        return false;
    if (!async_deterministic(async)) {
        async_start(async, tag);
        return true;
    }
    async_set_state(async, tag, ASYNC_QUEUED);
    async->tags[async->queued] = tag;
    async->deadlines_ns[async->queued] = timer_now(&async->timer) + ASYNC_DELAY_NS;
    if (async->queued++ == 0)
        timer_arm(&async->timer, async->deadlines_ns[0]);
    return true;
}

void async_done(struct async *async, unsigned tag, i64 result)
{
    struct async_event event = {.tag = tag, .result = result};
    bool post = !async_deterministic(async);

    /* Once the lock is dropped a drain may run to its end and async_free follow it, so the gate comes first. */
    pthread_mutex_lock(&async->lock);
    async->ops_by_tag[tag].state = ASYNC_DONE;
    async->ops_by_tag[tag].result = result;
    event.serial = async->ops_by_tag[tag].serial;
    if (post)
        (void)gate_post(async->gate, async->source, &event, sizeof(event));
    pthread_cond_broadcast(&async->done);
    pthread_mutex_unlock(&async->lock);
}

bool async_busy(struct async *async, unsigned tag)
{
    bool busy;

    pthread_mutex_lock(&async->lock);
    busy = async->ops_by_tag[tag].state != ASYNC_IDLE;
    pthread_mutex_unlock(&async->lock);
    return busy;
}

static bool async_started(struct async *async, unsigned tag)
{
    bool started;

    pthread_mutex_lock(&async->lock);
    started = async->ops_by_tag[tag].state == ASYNC_STARTED || async->ops_by_tag[tag].state == ASYNC_DONE;
    pthread_mutex_unlock(&async->lock);
    return started;
}

/* One pass over the tags; returns how many operations it completed. */
static unsigned async_drain_once(struct async *async)
{
    unsigned completed = 0;

    for (unsigned tag = 0; tag < ASYNC_TAGS; tag++)
        if (async_started(async, tag)) {
            async_finish(async, tag);
            completed++;
        }
    return completed;
}

void async_drain(struct async *async)
{
    /* A completion may let its device start more. */
    while (async_drain_once(async) > 0)
        ;
}

void async_cancel(struct async *async)
{
    /* Not by the queue: after a load that was refused it may hold anything. */
    for (unsigned tag = 0; tag < ASYNC_TAGS; tag++)
        if (async_busy(async, tag) && !async_started(async, tag))
            async_set_state(async, tag, ASYNC_IDLE);
    async->queued = 0;
    timer_disarm(&async->timer);
    async_drain(async);
}

void async_drain_all(struct gate *gate)
{
    unsigned completed;

    do { /* one device's completion may start work on another */
        completed = 0;
        for (struct async *async = gate->asyncs; async; async = async->next)
            completed += async_drain_once(async);
    } while (completed > 0);
}

static int async_post_load(void *object, struct error *err)
{
    struct async *async = object;

    for (unsigned tag = 0; tag < ASYNC_TAGS; tag++)
        async_set_state(async, tag, ASYNC_IDLE);
    if (async->queued > ASYNC_TAGS || async->timer.armed != (async->queued > 0))
        return error_set(err, "asynchronous operations: queue of %u is not possible", async->queued);
    for (unsigned i = 0; i < async->queued; i++) {
        unsigned tag = async->tags[i];

        if (tag >= ASYNC_TAGS || async_busy(async, tag))
            return error_set(err, "asynchronous operations: tag %u is not possible", tag);
        async_set_state(async, tag, ASYNC_QUEUED);
    }
    return 0;
}

static const struct state_field async_fields[] = {
    STATE_FIELD(struct async, queued, STATE_U32, 1),
    STATE_ARRAY(struct async, tags, STATE_U16, 1),
    STATE_ARRAY(struct async, deadlines_ns, STATE_U64, 1),
    STATE_STRUCT(struct async, timer, &timer_state_table, 1),
    STATE_END,
};
const struct state_table async_state_table = {
    .name = "async",
    .version = 1,
    .size = sizeof(struct async),
    .fields = async_fields,
    .post_load = async_post_load,
};
