/*
 * virtio block device (virtio 1.2 section 5.2) over virtio-pci, transitional, one queue.
 *
 * Requests go to the block backend through machine/async.h, the head of the chain as tag: what a snapshot holds of a
 * request that is waiting is its head, and the chain is read from guest memory when the request starts.
 */
#ifndef DEV_VIRTIO_VIRTIO_BLK_H
#define DEV_VIRTIO_VIRTIO_BLK_H

#include "machine/device.h"

/* Properties: bus (struct pci_bus), slot, drive (struct block_backend, borrowed), serial. The device's name is that of
   its gate source. */
extern const struct device_class virtio_blk_class;

#endif
