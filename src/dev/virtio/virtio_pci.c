#include "dev/virtio/virtio_pci.h"

#include <assert.h>
#include <string.h>

#define LOG_MODULE "dev/virtio"
#include "base/log.h"

/* Device status (virtio 1.2 section 2.1). */
enum {
    STATUS_DRIVER_OK = 1 << 2,
    STATUS_FEATURES_OK = 1 << 3,
    STATUS_NEEDS_RESET = 1 << 6,
    STATUS_WRITABLE = 0xff & ~STATUS_NEEDS_RESET,
};
enum { ISR_QUEUE = 1 << 0, ISR_CONFIG = 1 << 1 };
enum { NO_VECTOR = 0xffff };

/* Common configuration (4.1.4.3). */
enum {
    COMMON_DEVICE_FEATURE_SELECT = 0x00,
    COMMON_DEVICE_FEATURE = 0x04,
    COMMON_DRIVER_FEATURE_SELECT = 0x08,
    COMMON_DRIVER_FEATURE = 0x0c,
    COMMON_CONFIG_VECTOR = 0x10,
    COMMON_NUM_QUEUES = 0x12,
    COMMON_STATUS = 0x14,
    COMMON_GENERATION = 0x15,
    COMMON_QUEUE_SELECT = 0x16,
    COMMON_QUEUE_SIZE = 0x18,
    COMMON_QUEUE_VECTOR = 0x1a,
    COMMON_QUEUE_ENABLE = 0x1c,
    COMMON_QUEUE_NOTIFY_OFF = 0x1e,
    COMMON_QUEUE_DESC = 0x20,
    COMMON_QUEUE_AVAIL = 0x28,
    COMMON_QUEUE_USED = 0x30,
    COMMON_SIZE = 0x38,
};

/* Legacy block in I/O space (4.1.4.10); the device configuration follows, behind the vectors while MSI-X is on. */
enum {
    LEGACY_DEVICE_FEATURES = 0x00,
    LEGACY_DRIVER_FEATURES = 0x04,
    LEGACY_QUEUE_PFN = 0x08,
    LEGACY_QUEUE_SIZE = 0x0c,
    LEGACY_QUEUE_SELECT = 0x0e,
    LEGACY_QUEUE_NOTIFY = 0x10,
    LEGACY_STATUS = 0x12,
    LEGACY_ISR = 0x13,
    LEGACY_CONFIG_VECTOR = 0x14,
    LEGACY_QUEUE_VECTOR = 0x16,
    LEGACY_CONFIG = 0x14,
    LEGACY_CONFIG_MSIX = 0x18,
    LEGACY_PAGE = 4096,
};

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };
enum { LEGACY_BAR_SIZE = 256, MODERN_BAR_SIZE = 0x4000 };
enum {
    MODERN_COMMON = 0x0000,
    MODERN_ISR = 0x1000,
    MODERN_DEVICE = 0x2000,
    MODERN_NOTIFY = 0x3000,
    MODERN_PART = 0x1000
};
enum { NOTIFY_MULTIPLIER = 4 };

/* Capabilities (4.1.4): head, type, BAR, offset, length. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
enum { CAP_LENGTH = 2, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_SIZE = 12, CAP_DATA = 16 };
enum { CAP_BYTES = 16, CAP_NOTIFY_BYTES = 20, CAP_PCI_BYTES = 20 };
enum { AT_COMMON = 0x40, AT_ISR = 0x50, AT_DEVICE = 0x60, AT_NOTIFY = 0x70, AT_PCI = 0x84, AT_MSIX = 0x98 };

static void put(u8 *bytes, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (u8)(value >> 8 * i);
}

static u64 get(const u8 *bytes, unsigned size)
{
    u64 value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (u64)bytes[i] << 8 * i;
    return value;
}

bool virtio_has_feature(const struct virtio_pci *virtio, unsigned bit)
{
    return virtio->driver_features >> bit & 1;
}

static bool virtio_modern(const struct virtio_pci *virtio)
{
    return virtio_has_feature(virtio, VIRTIO_F_VERSION_1);
}

/* Legacy drivers are known to use a queue before they set DRIVER_OK. */
bool virtio_running(const struct virtio_pci *virtio)
{
    return !(virtio->status & STATUS_NEEDS_RESET) && pci_master(&virtio->pci) &&
           ((virtio->status & STATUS_DRIVER_OK) || !virtio_modern(virtio));
}

/* ---- Interrupts ---- */

static void virtio_interrupt(struct virtio_pci *virtio, u8 cause, u16 vector)
{
    if (pci_msix_enabled(&virtio->pci)) {
        if (vector != NO_VECTOR)
            pci_msix_send(&virtio->pci, vector);
        return;
    }
    virtio->isr |= cause;
    pci_set_intx(&virtio->pci, true);
}

static u8 virtio_read_isr(struct virtio_pci *virtio)
{
    u8 isr = virtio->isr;

    virtio->isr = 0;
    pci_set_intx(&virtio->pci, false);
    return isr;
}

void virtio_broken(struct virtio_pci *virtio, const char *why)
{
    if (virtio->status & STATUS_NEEDS_RESET)
        return;
    log_info("%s: the driver must reset it: %s", virtio->pci.name, why);
    virtio->status |= STATUS_NEEDS_RESET;
    if (virtio_modern(virtio) && (virtio->status & STATUS_DRIVER_OK))
        virtio_interrupt(virtio, ISR_CONFIG, virtio->config_vector);
}

void virtio_queue_done(struct virtio_pci *virtio, unsigned n, u16 head, u32 written)
{
    struct virtqueue *queue = &virtio->queues[n];

    if (!virtio_running(virtio) || !queue->enabled)
        return;
    if (!virtqueue_give_back(queue, head, written)) {
        virtio_broken(virtio, "the used ring is not in memory");
        return;
    }
    if (virtqueue_wants_interrupt(queue))
        virtio_interrupt(virtio, ISR_QUEUE, queue->vector);
}

/* ---- What both interfaces do ---- */

static void virtio_features_changed(struct virtio_pci *virtio)
{
    for (unsigned n = 0; n < VIRTIO_QUEUES_MAX; n++) {
        virtio->queues[n].event_index = virtio_has_feature(virtio, VIRTIO_F_EVENT_IDX);
        virtio->queues[n].indirect = virtio_has_feature(virtio, VIRTIO_F_INDIRECT_DESC);
    }
}

static void virtio_reset(struct virtio_pci *virtio)
{
    if (virtio->type->reset)
        virtio->type->reset(virtio);
    virtio->driver_features = 0;
    virtio->device_feature_select = virtio->driver_feature_select = 0;
    virtio->status = 0;
    virtio->config_vector = NO_VECTOR;
    virtio->queue_select = 0;
    for (unsigned n = 0; n < VIRTIO_QUEUES_MAX; n++) {
        struct virtqueue *queue = &virtio->queues[n];

        *queue = (struct virtqueue){.memory = queue->memory, .vector = NO_VECTOR};
        if (n < virtio->type->queues)
            queue->size = virtio->type->queue_size;
    }
    virtio_features_changed(virtio);
    (void)virtio_read_isr(virtio);
}

static struct virtqueue *virtio_selected(struct virtio_pci *virtio)
{
    return virtio->queue_select < virtio->type->queues ? &virtio->queues[virtio->queue_select] : NULL;
}

static void virtio_notify(struct virtio_pci *virtio, u64 queue)
{
    if (queue < virtio->type->queues && virtio->queues[queue].enabled && virtio_running(virtio))
        virtio->type->notify(virtio, (unsigned)queue);
}

static void virtio_set_status(struct virtio_pci *virtio, u8 status)
{
    bool ready = (status & STATUS_DRIVER_OK) && !(virtio->status & STATUS_DRIVER_OK);

    if (status == 0) {
        virtio_reset(virtio);
        return;
    }
    /* Features that were not offered are not accepted (3.1.1 step 6). */
    if (virtio_modern(virtio) && (virtio->driver_features & ~virtio->device_features))
        status &= ~STATUS_FEATURES_OK;
    virtio->status = (virtio->status & STATUS_NEEDS_RESET) | (status & STATUS_WRITABLE);
    if (ready)
        for (unsigned n = 0; n < virtio->type->queues; n++)
            virtio_notify(virtio, n); /* what was made available before */
}

static void virtio_set_features(struct virtio_pci *virtio, u64 features)
{
    if (virtio->status & STATUS_FEATURES_OK)
        return;
    virtio->driver_features = features;
    virtio_features_changed(virtio);
}

static u16 virtio_valid_vector(const struct virtio_pci *virtio, u64 vector)
{
    return vector < virtio->pci.msix_vectors ? (u16)vector : NO_VECTOR;
}

static u64 virtio_read_device_config(struct virtio_pci *virtio, u64 offset, unsigned size)
{
    u8 config[VIRTIO_CONFIG_MAX] = {0};

    if (offset >= virtio->type->config_size || size > VIRTIO_CONFIG_MAX - offset)
        return 0;
    virtio->type->read_config(virtio, config);
    return get(config + offset, size);
}

static void virtio_write_device_config(struct virtio_pci *virtio, u64 offset, unsigned size, u64 value)
{
    if (!virtio->type->write_config)
        return;
    for (unsigned i = 0; i < size && offset + i < virtio->type->config_size; i++)
        virtio->type->write_config(virtio, (unsigned)offset + i, (u8)(value >> 8 * i));
}

/* ---- Modern interface ---- */

static u32 feature_word(u64 features, u32 select)
{
    return select < 2 ? (u32)(features >> 32 * select) : 0;
}

static void common_image(struct virtio_pci *virtio, u8 *image)
{
    const struct virtqueue *queue = virtio_selected(virtio);

    memset(image, 0, COMMON_SIZE);
    put(image + COMMON_DEVICE_FEATURE_SELECT, virtio->device_feature_select, 4);
    put(image + COMMON_DEVICE_FEATURE, feature_word(virtio->device_features, virtio->device_feature_select),
        4);
    put(image + COMMON_DRIVER_FEATURE_SELECT, virtio->driver_feature_select, 4);
    put(image + COMMON_DRIVER_FEATURE, feature_word(virtio->driver_features, virtio->driver_feature_select),
        4);
    put(image + COMMON_CONFIG_VECTOR, virtio->config_vector, 2);
    put(image + COMMON_NUM_QUEUES, virtio->type->queues, 2);
    image[COMMON_STATUS] = virtio->status;
    image[COMMON_GENERATION] = 0; /* no field of the configuration changes by itself */
    put(image + COMMON_QUEUE_SELECT, virtio->queue_select, 2);
    if (!queue)
        return; /* size 0: there is no such queue */
    put(image + COMMON_QUEUE_SIZE, queue->size, 2);
    put(image + COMMON_QUEUE_VECTOR, queue->vector, 2);
    put(image + COMMON_QUEUE_ENABLE, queue->enabled, 2);
    put(image + COMMON_QUEUE_NOTIFY_OFF, virtio->queue_select, 2);
    put(image + COMMON_QUEUE_DESC, queue->desc, 8);
    put(image + COMMON_QUEUE_AVAIL, queue->avail, 8);
    put(image + COMMON_QUEUE_USED, queue->used, 8);
}

static void set_half(u64 *value, bool high, u32 half)
{
    *value = high ? (u32)*value | (u64)half << 32 : (*value & 0xffffffff00000000) | half;
}

/* Fields of the selected queue. Its place and size are fixed once it is enabled. */
static void common_write_queue(struct virtio_pci *virtio, unsigned offset, unsigned size, u32 value)
{
    struct virtqueue *queue = virtio_selected(virtio);

    if (!queue)
        return;
    if (offset == COMMON_QUEUE_VECTOR && size == 2)
        queue->vector = virtio_valid_vector(virtio, value);
    if (queue->enabled)
        return;
    if (offset == COMMON_QUEUE_SIZE && size == 2) {
        if (value > 0 && value <= virtio->type->queue_size && (value & (value - 1)) == 0)
            queue->size = (u16)value;
    } else if (offset == COMMON_QUEUE_ENABLE && size == 2) {
        queue->enabled = value == 1;
    } else if (offset >= COMMON_QUEUE_DESC && size == 4) {
        u64 *places[] = {&queue->desc, &queue->avail, &queue->used};

        set_half(places[(offset - COMMON_QUEUE_DESC) / 8], offset & 4, value);
    }
}

/* Each field has to be written in its own width (4.1.3.1); 64-bit ones in halves. */
static void common_write(struct virtio_pci *virtio, unsigned offset, unsigned size, u32 value)
{
    if (offset == COMMON_DEVICE_FEATURE_SELECT && size == 4) {
        virtio->device_feature_select = value;
    } else if (offset == COMMON_DRIVER_FEATURE_SELECT && size == 4) {
        virtio->driver_feature_select = value;
    } else if (offset == COMMON_DRIVER_FEATURE && size == 4) {
        u64 features = virtio->driver_features;

        if (virtio->driver_feature_select < 2) {
            set_half(&features, virtio->driver_feature_select, value);
            virtio_set_features(virtio, features);
        }
    } else if (offset == COMMON_CONFIG_VECTOR && size == 2) {
        virtio->config_vector = virtio_valid_vector(virtio, value);
    } else if (offset == COMMON_STATUS && size == 1) {
        virtio_set_status(virtio, (u8)value);
    } else if (offset == COMMON_QUEUE_SELECT && size == 2) {
        virtio->queue_select = (u16)value;
    } else if (offset >= COMMON_QUEUE_SIZE && offset < COMMON_SIZE && offset % size == 0) {
        common_write_queue(virtio, offset, size, value);
    }
}

static u64 modern_read(void *opaque, u64 offset, unsigned size)
{
    struct virtio_pci *virtio = opaque;
    u8 image[COMMON_SIZE];
    u64 at = offset % MODERN_PART;

    switch (offset - at) {
    case MODERN_COMMON:
        if (at + size > COMMON_SIZE)
            return 0;
        common_image(virtio, image);
        return get(image + at, size);
    case MODERN_ISR: return at == 0 ? virtio_read_isr(virtio) : 0;
    case MODERN_DEVICE: return virtio_read_device_config(virtio, at, size);
    }
    return 0;
}

static void modern_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct virtio_pci *virtio = opaque;
    u64 at = offset % MODERN_PART;

    switch (offset - at) {
    case MODERN_COMMON: common_write(virtio, (unsigned)at, size, (u32)value); break;
    case MODERN_DEVICE: virtio_write_device_config(virtio, at, size, value); break;
    case MODERN_NOTIFY: virtio_notify(virtio, at / NOTIFY_MULTIPLIER); break;
    }
}

static const struct io_ops modern_ops = {
    .read = modern_read, .write = modern_write, .min_size = 1, .max_size = 4};

/* ---- Legacy interface ---- */

static unsigned legacy_config_offset(const struct virtio_pci *virtio)
{
    return pci_msix_enabled(&virtio->pci) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static void legacy_image(struct virtio_pci *virtio, u8 *image)
{
    const struct virtqueue *queue = virtio_selected(virtio);

    memset(image, 0, LEGACY_CONFIG_MSIX);
    put(image + LEGACY_DEVICE_FEATURES, (u32)virtio->device_features, 4);
    put(image + LEGACY_DRIVER_FEATURES, (u32)virtio->driver_features, 4);
    put(image + LEGACY_QUEUE_PFN, queue && queue->enabled ? queue->desc / LEGACY_PAGE : 0, 4);
    put(image + LEGACY_QUEUE_SIZE, queue ? queue->size : 0, 2);
    put(image + LEGACY_QUEUE_SELECT, virtio->queue_select, 2);
    image[LEGACY_STATUS] = virtio->status & STATUS_WRITABLE;
    put(image + LEGACY_CONFIG_VECTOR, virtio->config_vector, 2);
    put(image + LEGACY_QUEUE_VECTOR, queue ? queue->vector : NO_VECTOR, 2);
}

static u64 legacy_read(void *opaque, u64 offset, unsigned size)
{
    struct virtio_pci *virtio = opaque;
    unsigned config = legacy_config_offset(virtio);
    u8 image[LEGACY_CONFIG_MSIX];

    if (offset >= config)
        return virtio_read_device_config(virtio, offset - config, size);
    if (offset + size > config)
        return 0;
    legacy_image(virtio, image);
    if (offset <= LEGACY_ISR && offset + size > LEGACY_ISR)
        image[LEGACY_ISR] = virtio_read_isr(virtio);
    return get(image + offset, size);
}

/* One page frame number stands for all three parts of a queue (2.7.2); 0 gives the queue up. */
static void legacy_set_queue(struct virtio_pci *virtio, u32 pfn)
{
    struct virtqueue *queue = virtio_selected(virtio);

    if (!queue)
        return;
    if (pfn == 0) {
        virtio_reset(virtio);
        return;
    }
    queue->desc = (u64)pfn * LEGACY_PAGE;
    queue->avail = queue->desc + 16 * queue->size;
    queue->used = align_up(queue->avail + 4 + 2 * queue->size + 2, LEGACY_PAGE);
    queue->enabled = true;
}

static void legacy_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct virtio_pci *virtio = opaque;
    struct virtqueue *queue = virtio_selected(virtio);
    unsigned config = legacy_config_offset(virtio);

    if (offset >= config)
        virtio_write_device_config(virtio, offset - config, size, value);
    else if (offset == LEGACY_DRIVER_FEATURES && size == 4)
        virtio_set_features(virtio, (u32)(value & virtio->device_features));
    else if (offset == LEGACY_QUEUE_PFN && size == 4)
        legacy_set_queue(virtio, (u32)value);
    else if (offset == LEGACY_QUEUE_SELECT && size == 2)
        virtio->queue_select = (u16)value;
    else if (offset == LEGACY_QUEUE_NOTIFY && size == 2)
        virtio_notify(virtio, value);
    else if (offset == LEGACY_STATUS && size == 1)
        virtio_set_status(virtio, (u8)value);
    else if (offset == LEGACY_CONFIG_VECTOR && size == 2)
        virtio->config_vector = virtio_valid_vector(virtio, value);
    else if (offset == LEGACY_QUEUE_VECTOR && size == 2 && queue)
        queue->vector = virtio_valid_vector(virtio, value);
}

static const struct io_ops legacy_ops = {
    .read = legacy_read, .write = legacy_write, .min_size = 1, .max_size = 4};

/* ---- PCI configuration access capability (4.1.4.9): a window on BAR 4 for who cannot map it ---- */

/* Size of the access that the window is set to; 0: it is set to nothing that is there. */
static unsigned window(const struct pci_device *pci, u32 *offset)
{
    u32 length = pci_get32(pci, AT_PCI + CAP_SIZE);

    *offset = pci_get32(pci, AT_PCI + CAP_OFFSET);
    if (pci->config[AT_PCI + CAP_BAR] != BAR_MODERN || (length != 1 && length != 2 && length != 4) ||
        *offset % length || *offset > MODERN_BAR_SIZE - length)
        return 0;
    return length;
}

static bool touches_window(unsigned offset, unsigned size)
{
    return offset < AT_PCI + CAP_DATA + 4 && offset + size > AT_PCI + CAP_DATA;
}

static void virtio_config_reading(struct pci_device *pci, unsigned offset, unsigned size)
{
    u32 at;
    unsigned length;

    if (!touches_window(offset, size))
        return;
    length = window(pci, &at);
    if (length)
        put(pci->config + AT_PCI + CAP_DATA,
            modern_read(container_of(pci, struct virtio_pci, pci), at, length), length);
}

static void virtio_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    u32 at;
    unsigned length;

    if (!touches_window(offset, size))
        return;
    length = window(pci, &at);
    if (length)
        modern_write(container_of(pci, struct virtio_pci, pci), at, length,
                     get(pci->config + AT_PCI + CAP_DATA, length));
}

/* ---- Life ---- */

static void add_capability(struct pci_device *pci, u8 at, u8 type, u8 bytes, u32 offset, u32 length)
{
    pci_add_capability(pci, PCI_CAP_VENDOR, at, bytes);
    pci->config[at + CAP_LENGTH] = bytes;
    pci->config[at + CAP_TYPE] = type;
    pci->config[at + CAP_BAR] = type == CAP_PCI ? 0 : BAR_MODERN;
    pci_put32(pci, at + CAP_OFFSET, offset);
    pci_put32(pci, at + CAP_SIZE, length);
}

int virtio_pci_attach(struct virtio_pci *virtio, const struct virtio_type *type, u64 features,
                      struct pci_bus *bus, unsigned devfn, const char *name, struct error *err)
{
    const struct pci_ids ids = {.vendor = 0x1af4,
                                .device = type->pci_device,
                                .subsystem_vendor = 0x1af4,
                                .subsystem = type->type,
                                .class_code = type->class_code};
    struct pci_device *pci = &virtio->pci;

    assert(type->queues <= VIRTIO_QUEUES_MAX && type->queue_size <= VIRTQUEUE_MAX);
    assert(type->config_size <= VIRTIO_CONFIG_MAX);
    virtio->type = type;
    virtio->device_features = features | (u64)1 << VIRTIO_F_VERSION_1 | 1u << VIRTIO_F_ANY_LAYOUT |
                              1u << VIRTIO_F_INDIRECT_DESC | 1u << VIRTIO_F_EVENT_IDX;
    for (unsigned n = 0; n < VIRTIO_QUEUES_MAX; n++)
        virtio->queues[n].memory = bus->memory;
    pci_init(pci, &ids, name);
    pci_set_pin(pci, 1);
    pci_add_bar(pci, BAR_LEGACY, PCI_BAR_IO, LEGACY_BAR_SIZE, &legacy_ops, virtio);
    pci_add_bar(pci, BAR_MODERN, PCI_BAR_MEM64, MODERN_BAR_SIZE, &modern_ops, virtio);
    pci_add_msix(pci, AT_MSIX, BAR_MSIX, type->queues + 1u);
    add_capability(pci, AT_PCI, CAP_PCI, CAP_PCI_BYTES, 0, 0);
    pci->writable[AT_PCI + CAP_BAR] = 0xff;
    memset(pci->writable + AT_PCI + CAP_OFFSET, 0xff, CAP_PCI_BYTES - CAP_OFFSET);
    add_capability(pci, AT_NOTIFY, CAP_NOTIFY, CAP_NOTIFY_BYTES, MODERN_NOTIFY,
                   NOTIFY_MULTIPLIER * type->queues);
    pci_put32(pci, AT_NOTIFY + CAP_DATA, NOTIFY_MULTIPLIER);
    add_capability(pci, AT_DEVICE, CAP_DEVICE, CAP_BYTES, MODERN_DEVICE, type->config_size);
    add_capability(pci, AT_ISR, CAP_ISR, CAP_BYTES, MODERN_ISR, 1);
    add_capability(pci, AT_COMMON, CAP_COMMON, CAP_BYTES, MODERN_COMMON, COMMON_SIZE);
    pci->config_reading = virtio_config_reading;
    pci->config_written = virtio_config_written;
    return pci_register(pci, bus, devfn, err);
}

void virtio_pci_reset(struct virtio_pci *virtio)
{
    virtio_reset(virtio);
    pci_reset(&virtio->pci);
}

static int virtio_pci_post_load(void *object, struct error *err)
{
    struct virtio_pci *virtio = object;
    const char *name = virtio->pci.name;

    if ((virtio->status & STATUS_FEATURES_OK) && (virtio->driver_features & ~virtio->device_features))
        return error_set(err, "%s: the driver uses features that this machine's device does not have", name);
    if (virtio->config_vector != virtio_valid_vector(virtio, virtio->config_vector))
        return error_set(err, "%s: interrupt vector %u does not exist", name, virtio->config_vector);
    for (unsigned n = 0; n < VIRTIO_QUEUES_MAX; n++) {
        const struct virtqueue *queue = &virtio->queues[n];

        if (queue->vector != virtio_valid_vector(virtio, queue->vector))
            return error_set(err, "%s: interrupt vector %u does not exist", name, queue->vector);
        if (queue->size > virtio->type->queue_size || (queue->enabled && n >= virtio->type->queues))
            return error_set(err, "%s: queue %u is not possible", name, n);
    }
    virtio_features_changed(virtio);
    return 0;
}

static const struct state_field virtio_pci_fields[] = {
    STATE_STRUCT(struct virtio_pci, pci, &pci_device_state_table, 1),
    STATE_FIELD(struct virtio_pci, driver_features, STATE_U64, 1),
    STATE_FIELD(struct virtio_pci, device_feature_select, STATE_U32, 1),
    STATE_FIELD(struct virtio_pci, driver_feature_select, STATE_U32, 1),
    STATE_FIELD(struct virtio_pci, status, STATE_U8, 1),
    STATE_FIELD(struct virtio_pci, isr, STATE_U8, 1),
    STATE_FIELD(struct virtio_pci, config_vector, STATE_U16, 1),
    STATE_FIELD(struct virtio_pci, queue_select, STATE_U16, 1),
    STATE_STRUCTS(struct virtio_pci, queues, &virtqueue_state_table, 1),
    STATE_END,
};
const struct state_table virtio_pci_state_table = {
    .name = "virtio_pci",
    .version = 1,
    .size = sizeof(struct virtio_pci),
    .fields = virtio_pci_fields,
    .post_load = virtio_pci_post_load,
};
