/*
 * The PCI transport of virtio (virtio 1.2 section 4.1), modern and transitional: BAR 0 is the legacy I/O block, BAR 1 the
 * MSI-X table, BAR 4 the modern structures.
 *
 *     BAR 4: 0000h common configuration, 1000h ISR, 2000h device configuration, 3000h notifications (4 bytes a queue)
 *
 * A device type embeds a struct virtio_pci, describes itself in a const struct virtio_type and its configuration, and
 * gives back chains through virtio_queue_done. Called with the device lock held or before the VM runs.
 */
#ifndef DEV_VIRTIO_VIRTIO_PCI_H
#define DEV_VIRTIO_VIRTIO_PCI_H

#include "dev/pci.h"
#include "dev/virtio/virtqueue.h"

enum { VIRTIO_QUEUES_MAX = 4, VIRTIO_CONFIG_MAX = 128 };

/* Feature bits that every type shares (section 6). */
enum {
    VIRTIO_F_ANY_LAYOUT = 27,
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VIRTIO_F_VERSION_1 = 32
};

struct virtio_pci;

struct virtio_type {
    u16 pci_device; /* transitional device ID */
    u16 type;       /* device type; the subsystem ID of a transitional device */
    u32 class_code;
    u16 queues;      /* up to VIRTIO_QUEUES_MAX */
    u16 queue_size;  /* most entries of each, power of two */
    u16 config_size; /* bytes of device configuration, up to VIRTIO_CONFIG_MAX */
    /* Fill in the device configuration. */
    void (*read_config)(struct virtio_pci *virtio, u8 *config);
    /* One byte of it was written; what cannot be written is ignored. May be NULL. */
    void (*write_config)(struct virtio_pci *virtio, unsigned offset, u8 value);
    /* The driver has made something available in a queue that is enabled and works. */
    void (*notify)(struct virtio_pci *virtio, unsigned queue);
    /* Stop: after this no chain is given back that was taken before. The queues are still as they were. */
    void (*reset)(struct virtio_pci *virtio);
};

struct virtio_pci {
    struct pci_device pci;
    u64 driver_features;
    u32 device_feature_select, driver_feature_select;
    u8 status;
    u8 isr;
    u16 config_vector;
    u16 queue_select;
    struct virtqueue queues[VIRTIO_QUEUES_MAX];
    const struct virtio_type *type; // not saved: description
    u64 device_features;            // not saved: description, follows from the configuration
};
extern const struct state_table virtio_pci_state_table;

/* Describe the function and register it on the bus. `features`: the type's own and the shared ones that it offers beside
   the ring features and VERSION_1, which are always there. */
MUST_CHECK int virtio_pci_attach(struct virtio_pci *virtio, const struct virtio_type *type, u64 features,
                                 struct pci_bus *bus, unsigned devfn, const char *name, struct error *err);

/* Machine reset. */
void virtio_pci_reset(struct virtio_pci *virtio);

bool virtio_has_feature(const struct virtio_pci *virtio, unsigned bit); /* negotiated */

/* Whether the device may touch its rings: not broken, bus master, and the driver is ready. */
bool virtio_running(const struct virtio_pci *virtio);

/* Give a chain back and interrupt the driver if it wants that. */
void virtio_queue_done(struct virtio_pci *virtio, unsigned queue, u16 head, u32 written);

/* The driver has broken the rules: stop until it resets the device (2.1.2), and say so where it can be said. */
void virtio_broken(struct virtio_pci *virtio, const char *why);

#endif
