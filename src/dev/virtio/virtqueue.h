/*
 * Split virtqueues (virtio 1.2 section 2.7), the device's side. Everything in a ring is the guest's to forge: every walk
 * here is bounded by the queue's size, and a ring that contradicts itself is reported, never followed.
 *
 * Called with the device lock held.
 */
#ifndef DEV_VIRTIO_VIRTQUEUE_H
#define DEV_VIRTIO_VIRTQUEUE_H

#include "base/types.h"
#include "machine/memory.h"
#include "state/state.h"

enum { VIRTQUEUE_MAX = 256 /* entries of a queue, and descriptors of a chain */ };

struct virtqueue {
    u16 size; /* entries; power of two */
    bool enabled;
    u64 desc, avail, used; /* guest-physical */
    u16 avail_index;       /* next entry of the available ring that we take */
    u16 used_index;        /* next entry of the used ring that we fill */
    u16 signalled_index;   /* used_index at the last interrupt decision */
    bool signalled;        /* there was one */
    u16 vector;            /* MSI-X */
    struct memory *memory; // not saved: wiring
    bool event_index;      // not saved: feature VIRTIO_F_EVENT_IDX, follows from the device's features
    bool indirect;         // not saved: feature VIRTIO_F_INDIRECT_DESC, as above
};
extern const struct state_table virtqueue_state_table;

struct virtqueue_segment {
    u64 address;
    u32 length;
};

/* A descriptor chain: what the device may read, then what it may write. */
struct virtqueue_chain {
    unsigned readable, writable; /* segments: the writable ones follow the readable ones */
    u64 read_bytes, write_bytes;
    struct virtqueue_segment segments[VIRTQUEUE_MAX];
};

enum virtqueue_result { VIRTQUEUE_EMPTY, VIRTQUEUE_TAKEN, VIRTQUEUE_BROKEN };

/* Take the head of the next available chain. */
enum virtqueue_result virtqueue_take(struct virtqueue *queue, u16 *head);

/* Read a chain. false: it is malformed, and the device needs a reset. */
MUST_CHECK bool virtqueue_read_chain(struct virtqueue *queue, u16 head, struct virtqueue_chain *chain);

/* Give a chain back, `written` bytes of it filled in. false: the used ring is not in memory. */
MUST_CHECK bool virtqueue_give_back(struct virtqueue *queue, u16 head, u32 written);

/* Whether the driver wants an interrupt for what was given back since the last call. */
bool virtqueue_wants_interrupt(struct virtqueue *queue);

/* Copy from the readable part of a chain, from byte `offset` of it; what lies outside it or outside memory fails. */
MUST_CHECK bool virtqueue_copy_out(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 offset,
                                   void *to, u64 length);
/* Copy to the writable part of a chain. */
MUST_CHECK bool virtqueue_copy_in(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 offset,
                                  const void *from, u64 length);

/*
 * Host vectors for [offset, offset+length) of the writable or the readable part. Returns their number, or -1 when a part of
 * it is not memory or needs more than `max`. After a transfer into the writable part, virtqueue_complete must follow.
 */
int virtqueue_map(struct virtqueue *queue, const struct virtqueue_chain *chain, bool writable, u64 offset,
                  u64 length, struct iovec *iov, unsigned max);
void virtqueue_complete(struct virtqueue *queue, const struct virtqueue_chain *chain, u64 length);

#endif
