#include "dev/virtio/virtqueue.h"

#include <string.h>

/* Descriptor flags (virtio 1.2 section 2.7.5) and ring flags (2.7.6, 2.7.8). */
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1 };
enum { DESC_SIZE = 16, RING_FLAGS = 0, RING_INDEX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

static bool read16(struct virtqueue *queue, u64 address, u16 *value)
{
    return dma_read(queue->memory, address, value, sizeof(*value));
}

static bool write16(struct virtqueue *queue, u64 address, u16 value)
{
    return dma_write(queue->memory, address, &value, sizeof(value));
}

/* The event fields lie behind the entries of the other side's ring (2.7.10). */
static u64 used_event(const struct virtqueue *queue)
{
    return queue->avail + RING_ENTRIES + (u64)AVAIL_ENTRY * queue->size;
}
static u64 avail_event(const struct virtqueue *queue)
{
    return queue->used + RING_ENTRIES + (u64)USED_ENTRY * queue->size;
}

enum virtqueue_result virtqueue_take(struct virtqueue *queue, u16 *head)
{
    u16 index, waiting;
    u64 entry;

    if (!queue->enabled)
        return VIRTQUEUE_EMPTY;
    if (!read16(queue, queue->avail + RING_INDEX, &index))
        return VIRTQUEUE_BROKEN;
    waiting = (u16)(index - queue->avail_index);
    if (waiting == 0)
        return VIRTQUEUE_EMPTY;
    if (waiting > queue->size)
        return VIRTQUEUE_BROKEN;
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the index before what it says is there */
    entry = queue->avail + RING_ENTRIES + (u64)AVAIL_ENTRY * (queue->avail_index & (queue->size - 1));
    if (!read16(queue, entry, head) || *head >= queue->size)
        return VIRTQUEUE_BROKEN;
    queue->avail_index++;
    if (queue->event_index) {
        /* Ask to be told of the next one. The caller looks for it once more before it stops. */
        if (!write16(queue, avail_event(queue), queue->avail_index))
            return VIRTQUEUE_BROKEN;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    return VIRTQUEUE_TAKEN;
}

static bool read_descriptor(struct virtqueue *queue, u64 table, unsigned index, struct descriptor *desc)
{
    return dma_read(queue->memory, table + (u64)DESC_SIZE * index, desc, sizeof(*desc));
}

static bool chain_add(struct virtqueue_chain *chain, const struct descriptor *desc)
{
    unsigned count = chain->readable + chain->writable;

    if (count == VIRTQUEUE_MAX)
        return false;
    chain->segments[count] = (struct virtqueue_segment){.address = desc->address, .length = desc->length};
    if (desc->flags & DESC_WRITE) {
        chain->writable++;
        chain->write_bytes += desc->length;
    } else {
        if (chain->writable) /* what the device writes stands last (2.7.4.2) */
            return false;
        chain->readable++;
        chain->read_bytes += desc->length;
    }
    return true;
}

bool virtqueue_read_chain(struct virtqueue *queue, u16 head, struct virtqueue_chain *chain)
{
    u64 table = queue->desc;
    unsigned entries = queue->size, index = head, walked = 0;
    struct descriptor desc;

    chain->readable = chain->writable = 0;
    chain->read_bytes = chain->write_bytes = 0;
    if (!queue->enabled || index >= entries || !read_descriptor(queue, table, index, &desc))
        return false;
    if (desc.flags & DESC_INDIRECT) {
        if (!queue->indirect || (desc.flags & DESC_NEXT) || desc.length == 0 || desc.length % DESC_SIZE)
            return false;
        table = desc.address;
        entries = desc.length / DESC_SIZE;
        index = 0;
        if (!read_descriptor(queue, table, index, &desc))
            return false;
    }
    for (;;) {
        /* A table within a table, or a table in the middle of a chain, is not allowed (2.7.5.3.1). */
        if ((desc.flags & DESC_INDIRECT) || !chain_add(chain, &desc))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        index = desc.next;
        if (++walked >= entries || index >= entries || !read_descriptor(queue, table, index, &desc))
            return false;
    }
}

bool virtqueue_give_back(struct virtqueue *queue, u16 head, u32 written)
{
    u32 entry[2] = {head, written};
    u64 slot = queue->used + RING_ENTRIES + (u64)USED_ENTRY * (queue->used_index & (queue->size - 1));

    if (!dma_write(queue->memory, slot, entry, sizeof(entry)))
        return false;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* the entry before the index */
    queue->used_index++;
    return write16(queue, queue->used + RING_INDEX, queue->used_index);
}

bool virtqueue_wants_interrupt(struct virtqueue *queue)
{
    u16 before = queue->signalled_index, now = queue->used_index, value;
    bool first = !queue->signalled;

    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the used index before the driver's wish */
    queue->signalled_index = now;
    queue->signalled = true;
    if (!queue->event_index)
        return !read16(queue, queue->avail + RING_FLAGS, &value) || !(value & AVAIL_NO_INTERRUPT);
    /* Whether the driver's event index is among the entries that were filled (2.7.7.2). */
    return !read16(queue, used_event(queue), &value) || first || (u16)(now - value - 1) < (u16)(now - before);
}

/* ---- Chains ---- */

typedef bool piece_fn(struct memory *memory, u64 address, u64 length, void *opaque);

/* Call `piece` for every stretch of [offset, offset+length) of one part of a chain. */
static bool chain_pieces(struct virtqueue *queue, const struct virtqueue_chain *chain, bool writable,
                         u64 offset, u64 length, piece_fn *piece, void *opaque)
{
    unsigned first = writable ? chain->readable : 0, count = writable ? chain->writable : chain->readable;
    u64 total = writable ? chain->write_bytes : chain->read_bytes;

    if (length > total || offset > total - length)
        return false;
    for (unsigned i = first; i < first + count && length > 0; i++) {
        const struct virtqueue_segment *segment = &chain->segments[i];
        u64 step;

        if (offset >= segment->length) {
            offset -= segment->length;
            continue;
        }
        step = segment->length - offset < length ? segment->length - offset : length;
        if (segment->address > UINT64_MAX - segment->length ||
            !piece(queue->memory, segment->address + offset, step, opaque))
            return false;
        offset = 0;
        length -= step;
    }
    return true;
}

static bool copy_out_piece(struct memory *memory, u64 address, u64 length, void *opaque)
{
    u8 **to = opaque;
    bool whole = dma_read(memory, address, *to, length);

    *to += length;
    return whole;
}

bool virtqueue_copy_out(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 offset, void *to,
                        u64 length)
{
    u8 *next = to;

    return chain_pieces(queue, chain, false, offset, length, copy_out_piece, &next);
}

static bool copy_in_piece(struct memory *memory, u64 address, u64 length, void *opaque)
{
    const u8 **from = opaque;
    bool whole = dma_write(memory, address, *from, length);

    *from += length;
    return whole;
}

bool virtqueue_copy_in(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 offset,
                       const void *from, u64 length)
{
    const u8 *next = from;

    return chain_pieces(queue, chain, true, offset, length, copy_in_piece, &next);
}

struct mapping {
    struct iovec *iov;
    unsigned count, max;
    bool writable;
};

static bool map_piece(struct memory *memory, u64 address, u64 length, void *opaque)
{
    struct mapping *mapping = opaque;
    u64 mapped;

    mapping->count += dma_map(memory, address, length, mapping->writable, mapping->iov + mapping->count,
                              mapping->max - mapping->count, &mapped);
    return mapped == length;
}

int virtqueue_map(struct virtqueue *queue, const struct virtqueue_chain *chain, bool writable, u64 offset,
                  u64 length, struct iovec *iov, unsigned max)
{
    struct mapping mapping = {.iov = iov, .max = max, .writable = writable};

    return chain_pieces(queue, chain, writable, offset, length, map_piece, &mapping) ? (int)mapping.count
                                                                                     : -1;
}

static bool complete_piece(struct memory *memory, u64 address, u64 length, void *opaque)
{
    dma_complete(memory, address, length);
    return true;
}

void virtqueue_complete(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 length)
{
    (void)chain_pieces(queue, chain, true, 0, length, complete_piece, NULL);
}

static int virtqueue_post_load(void *object, struct error *err)
{
    const struct virtqueue *queue = object;

    if (queue->size > VIRTQUEUE_MAX || (queue->size & (queue->size - 1)) ||
        (queue->enabled && queue->size == 0))
        return error_set(err, "virtqueue: %u entries are not possible", queue->size);
    return 0;
}

static const struct state_field virtqueue_fields[] = {
    STATE_FIELD(struct virtqueue, size, STATE_U16, 1),
    STATE_FIELD(struct virtqueue, enabled, STATE_BOOL, 1),
    STATE_FIELD(struct virtqueue, desc, STATE_U64, 1),
    STATE_FIELD(struct virtqueue, avail, STATE_U64, 1),
    STATE_FIELD(struct virtqueue, used, STATE_U64, 1),
    STATE_FIELD(struct virtqueue, avail_index, STATE_U16, 1),
    STATE_FIELD(struct virtqueue, used_index, STATE_U16, 1),
    STATE_FIELD(struct virtqueue, signalled_index, STATE_U16, 1),
    STATE_FIELD(struct virtqueue, signalled, STATE_BOOL, 1),
    STATE_FIELD(struct virtqueue, vector, STATE_U16, 1),
    STATE_END,
};
const struct state_table virtqueue_state_table = {
    .name = "virtqueue",
    .version = 1,
    .size = sizeof(struct virtqueue),
    .fields = virtqueue_fields,
    .post_load = virtqueue_post_load,
};
