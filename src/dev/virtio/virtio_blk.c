#include "dev/virtio/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/virtio_pci.h"
#include "host/block.h"
#include "machine/async.h"
#include "machine/vm.h"

/* Feature bits (5.2.3). */
enum {
    F_SEG_MAX = 2,
    F_RO = 5,
    F_BLK_SIZE = 6,
    F_FLUSH = 9,
    F_TOPOLOGY = 10,
    F_CONFIG_WCE = 11,
    F_DISCARD = 13,
    F_WRITE_ZEROES = 14,
};

/* Configuration (5.2.4). */
enum {
    CFG_CAPACITY = 0,
    CFG_SEG_MAX = 12,
    CFG_BLK_SIZE = 20,
    CFG_PHYSICAL_EXP = 24,
    CFG_MIN_IO = 26,
    CFG_WRITEBACK = 32,
    CFG_DISCARD_SECTORS = 36,
    CFG_DISCARD_SEGMENTS = 40,
    CFG_DISCARD_ALIGNMENT = 44,
    CFG_ZEROES_SECTORS = 48,
    CFG_ZEROES_SEGMENTS = 52,
    CFG_ZEROES_MAY_UNMAP = 56,
    CFG_SIZE = 60,
};

/* Requests (5.2.6): a header, data, and one byte of status. */
enum {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13,
};
#define T_BARRIER (1u << 31) /* legacy flag on the others; there is no order among requests to keep */
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { ZEROES_UNMAP = 1 };
enum { SERIAL_BYTES = 20 };

enum { QUEUE_SIZE = VIRTQUEUE_MAX, PHYSICAL_EXP = 3, DISCARD_SECTORS = 1 << 22, ZEROES_SECTORS = 1 << 16 };

/* Result of an operation whose chain was not one: the device is broken, and there is nowhere to put a status. */
enum { RESULT_BROKEN = -1 };

struct request_header {
    u32 type;
    u32 reserved;
    u64 sector;
};

struct range {
    u64 sector;
    u32 sectors;
    u32 flags;
};

struct virtio_blk;

struct request {
    struct virtio_blk *blk;
    unsigned tag;
    struct virtqueue_chain chain;
    struct block_request block;
    struct iovec iov[VIRTQUEUE_MAX + 16]; /* a segment may cross from one block of memory into the next */
};

struct virtio_blk {
    struct device device; // not saved: wiring
    void *bus;            // not saved: wiring
    u8 slot;              // not saved: wiring
    void *drive;          // not saved: wiring
    char *serial;         // not saved: wiring
    struct virtio_pci virtio;
    struct async async;
    bool writeback; /* the driver's choice of cache mode, with CONFIG_WCE */
    struct request
        *requests[QUEUE_SIZE]; // not saved: those that have started; there are none when a save runs
};
_Static_assert((int)QUEUE_SIZE <= (int)ASYNC_TAGS, "heads are tags");

static struct virtio_blk *blk_of(struct virtio_pci *virtio)
{
    return container_of(virtio, struct virtio_blk, virtio);
}

/* Without a way to flush, or when the driver asked for it, a write is done when it is on stable storage (5.2.6.2). */
static bool blk_write_through(const struct virtio_blk *blk)
{
    if (virtio_has_feature(&blk->virtio, F_CONFIG_WCE))
        return !blk->writeback;
    return !virtio_has_feature(&blk->virtio, F_FLUSH);
}

/* ---- Starting a request. Each ends in blk_submit or in a status. ---- */

static void blk_done(struct block_request *block, int result)
{
    struct request *request = block->opaque;

    async_done(&request->blk->async, request->tag,
               result == 0             ? S_OK
               : result == -EOPNOTSUPP ? S_UNSUPP
                                       : S_IOERR);
}

static void blk_submit(struct request *request, enum block_op op, u64 sector, u64 length)
{
    request->block.op = op;
    request->block.offset = sector * BLOCK_SECTOR;
    request->block.length = length;
    request->block.durable = blk_write_through(request->blk);
    request->block.done = blk_done;
    request->block.opaque = request;
    block_submit(request->blk->drive, &request->block);
}

static bool blk_in_range(const struct virtio_blk *blk, u64 sector, u64 sectors)
{
    u64 capacity = block_size(blk->drive) / BLOCK_SECTOR;

    return sectors <= capacity && sector <= capacity - sectors;
}

/* Returns -1 when the backend has the request, or its status. */
static int blk_transfer(struct request *request, bool write, u64 sector)
{
    struct virtqueue *queue = &request->blk->virtio.queues[0];
    const struct virtqueue_chain *chain = &request->chain;
    u64 length = write ? chain->read_bytes - sizeof(struct request_header) : chain->write_bytes - 1;
    int vectors;

    if (length % BLOCK_SECTOR || !blk_in_range(request->blk, sector, length / BLOCK_SECTOR))
        return S_IOERR;
    if (write && block_readonly(request->blk->drive))
        return S_IOERR;
    vectors = virtqueue_map(queue, chain, !write, write ? sizeof(struct request_header) : 0, length,
                            request->iov, ARRAY_SIZE(request->iov));
    if (vectors < 0)
        return S_IOERR;
    request->block.iov = request->iov;
    request->block.niov = (unsigned)vectors;
    blk_submit(request, write ? BLOCK_WRITE : BLOCK_READ, sector, length);
    return -1;
}

static int blk_range(struct request *request, enum block_op op)
{
    struct virtqueue *queue = &request->blk->virtio.queues[0];
    struct range range;

    if (block_readonly(request->blk->drive))
        return S_IOERR;
    if (request->chain.read_bytes != sizeof(struct request_header) + sizeof(range) ||
        !virtqueue_copy_out(queue, &request->chain, sizeof(struct request_header), &range, sizeof(range)))
        return S_IOERR; /* one range a request, as the configuration says */
    if (range.flags & ~(op == BLOCK_WRITE_ZEROES ? ZEROES_UNMAP : 0u))
        return S_UNSUPP;
    if (range.sectors > (op == BLOCK_DISCARD ? DISCARD_SECTORS : ZEROES_SECTORS) ||
        !blk_in_range(request->blk, range.sector, range.sectors))
        return S_IOERR;
    request->block.unmap = range.flags & ZEROES_UNMAP;
    blk_submit(request, op, range.sector, (u64)range.sectors * BLOCK_SECTOR);
    return -1;
}

static int blk_get_id(struct request *request)
{
    const char *serial = request->blk->serial ? request->blk->serial : "";
    char id[SERIAL_BYTES] = {0};
    u64 room = request->chain.write_bytes - 1;
    size_t length = strlen(serial);

    memcpy(id, serial, length < sizeof(id) ? length : sizeof(id));
    if (!virtqueue_copy_in(&request->blk->virtio.queues[0], &request->chain, 0, id,
                           room < sizeof(id) ? room : sizeof(id)))
        return S_IOERR;
    return S_OK;
}

static int blk_start_request(struct request *request)
{
    struct virtqueue *queue = &request->blk->virtio.queues[0];
    struct request_header header;

    if (!virtqueue_copy_out(queue, &request->chain, 0, &header, sizeof(header)))
        return S_IOERR;
    switch (header.type & ~T_BARRIER) {
    case T_IN: return blk_transfer(request, false, header.sector);
    case T_OUT: return blk_transfer(request, true, header.sector);
    case T_FLUSH: blk_submit(request, BLOCK_FLUSH, 0, 0); return -1;
    case T_GET_ID: return blk_get_id(request);
    case T_DISCARD: return blk_range(request, BLOCK_DISCARD);
    case T_WRITE_ZEROES: return blk_range(request, BLOCK_WRITE_ZEROES);
    }
    return S_UNSUPP;
}

static void blk_start(void *opaque, unsigned tag)
{
    struct virtio_blk *blk = opaque;
    struct request *request = malloc(sizeof(*request));
    int status;

    if (!request || !virtqueue_read_chain(&blk->virtio.queues[0], (u16)tag, &request->chain) ||
        request->chain.write_bytes == 0) {
        free(request);
        async_done(&blk->async, tag, RESULT_BROKEN);
        return;
    }
    request->blk = blk;
    request->tag = tag;
    request->block = (struct block_request){0};
    blk->requests[tag] = request;
    status = blk_start_request(request);
    if (status >= 0)
        async_done(&blk->async, tag, status);
}

/* ---- Ending one ---- */

/* A request without memory of its own had no chain. A queue that is off is being reset: nobody is told. */
static void blk_complete(void *opaque, unsigned tag, i64 result)
{
    struct virtio_blk *blk = opaque;
    struct request *request = blk->requests[tag];
    struct virtqueue *queue = &blk->virtio.queues[0];
    u8 status = (u8)result;

    blk->requests[tag] = NULL;
    if (request && request->block.op == BLOCK_READ)
        virtqueue_complete(queue, &request->chain, request->block.length);
    if (!queue->enabled || !virtio_running(&blk->virtio)) {
        free(request);
        return;
    }
    if (!request)
        virtio_broken(&blk->virtio, "a request has no room for its status, or is no chain");
    else if (!virtqueue_copy_in(queue, &request->chain, request->chain.write_bytes - 1, &status, 1))
        virtio_broken(&blk->virtio, "a request's status is not in memory");
    else
        virtio_queue_done(&blk->virtio, 0, (u16)tag, (u32)request->chain.write_bytes);
    free(request);
}

static const struct async_ops blk_async_ops = {.start = blk_start, .complete = blk_complete};

/* ---- The virtio device ---- */

/* At most as many chains as the queue has entries: a head that comes twice is an error. */
static void blk_notify(struct virtio_pci *virtio, unsigned n)
{
    struct virtio_blk *blk = blk_of(virtio);
    u16 head;

    while (virtio_running(virtio)) {
        switch (virtqueue_take(&virtio->queues[n], &head)) {
        case VIRTQUEUE_EMPTY: return;
        case VIRTQUEUE_BROKEN: virtio_broken(virtio, "the available ring is not one"); return;
        case VIRTQUEUE_TAKEN:
            if (!async_submit(&blk->async, head))
                virtio_broken(virtio, "a chain was made available twice");
            break;
        }
    }
}

static void blk_virtio_reset(struct virtio_pci *virtio)
{
    struct virtio_blk *blk = blk_of(virtio);

    virtio->queues[0].enabled = false; /* what ends now is not told */
    async_cancel(&blk->async);
    blk->writeback = true;
}

static void blk_read_config(struct virtio_pci *virtio, u8 *config)
{
    const struct virtio_blk *blk = blk_of(virtio);
    const struct {
        u8 offset, size;
        u64 value;
    } fields[] = {
        {CFG_CAPACITY, 8, block_size(blk->drive) / BLOCK_SECTOR},
        {CFG_SEG_MAX, 4, QUEUE_SIZE - 2},
        {CFG_BLK_SIZE, 4, BLOCK_SECTOR},
        {CFG_PHYSICAL_EXP, 1, PHYSICAL_EXP},
        {CFG_MIN_IO, 2, 1 << PHYSICAL_EXP},
        {CFG_WRITEBACK, 1, blk->writeback},
        {CFG_DISCARD_SECTORS, 4, DISCARD_SECTORS},
        {CFG_DISCARD_SEGMENTS, 4, 1},
        {CFG_DISCARD_ALIGNMENT, 4, 1 << PHYSICAL_EXP},
        {CFG_ZEROES_SECTORS, 4, ZEROES_SECTORS},
        {CFG_ZEROES_SEGMENTS, 4, 1},
        {CFG_ZEROES_MAY_UNMAP, 1, 1},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        for (unsigned byte = 0; byte < fields[i].size; byte++)
            config[fields[i].offset + byte] = (u8)(fields[i].value >> 8 * byte);
}

static void blk_write_config(struct virtio_pci *virtio, unsigned offset, u8 value)
{
    if (offset == CFG_WRITEBACK && virtio_has_feature(virtio, F_CONFIG_WCE))
        blk_of(virtio)->writeback = value & 1;
}

static const struct virtio_type blk_type = {
    .pci_device = 0x1001,
    .type = 2,
    .class_code = 0x010000,
    .queues = 1,
    .queue_size = QUEUE_SIZE,
    .config_size = CFG_SIZE,
    .read_config = blk_read_config,
    .write_config = blk_write_config,
    .notify = blk_notify,
    .reset = blk_virtio_reset,
};

/* ---- The device ---- */

static int blk_attach(struct device *device, struct error *err)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;
    u64 features = 1u << F_SEG_MAX | 1u << F_BLK_SIZE | 1u << F_FLUSH | 1u << F_TOPOLOGY | 1u << F_CONFIG_WCE;

    if (block_readonly(blk->drive))
        features |= 1u << F_RO;
    else
        features |= 1u << F_DISCARD | 1u << F_WRITE_ZEROES;
    if (async_init(&blk->async, &device->vm->gate, &device->vm->timers, device->name, &blk_async_ops, blk,
                   err) < 0)
        return -1;
    return virtio_pci_attach(&blk->virtio, &blk_type, features, blk->bus, pci_devfn(blk->slot, 0),
                             device->name, err);
}

static void blk_detach(struct device *device)
{
    async_free(&((struct virtio_blk *)device)->async);
}

static void blk_reset(struct device *device)
{
    virtio_pci_reset(&((struct virtio_blk *)device)->virtio);
}

static const struct state_field blk_fields[] = {
    STATE_STRUCT(struct virtio_blk, virtio, &virtio_pci_state_table, 1),
    STATE_STRUCT(struct virtio_blk, async, &async_state_table, 1),
    STATE_FIELD(struct virtio_blk, writeback, STATE_BOOL, 1),
    STATE_END,
};
static const struct state_table blk_state_table = {
    .name = "virtio_blk",
    .version = 1,
    .size = sizeof(struct virtio_blk),
    .fields = blk_fields,
};

static const struct property blk_properties[] = {
    {.name = "bus",
     .type = PROP_POINTER,
     .offset = offsetof(struct virtio_blk, bus),
     .required = true,
     .help = "PCI bus"},
    {.name = "slot",
     .type = PROP_U8,
     .offset = offsetof(struct virtio_blk, slot),
     .required = true,
     .help = "PCI slot, 0 to 31"},
    {.name = "drive",
     .type = PROP_POINTER,
     .offset = offsetof(struct virtio_blk, drive),
     .required = true,
     .help = "block backend"},
    {.name = "serial",
     .type = PROP_STRING,
     .offset = offsetof(struct virtio_blk, serial),
     .help = "serial number that the guest reads, up to 20 bytes"},
    {.name = NULL},
};

const struct device_class virtio_blk_class = {
    .name = "virtio-blk",
    .help = "virtio disk on the PCI bus, modern and transitional",
    .size = sizeof(struct virtio_blk),
    .properties = blk_properties,
    .state = &blk_state_table,
    .attach = blk_attach,
    .detach = blk_detach,
    .reset = blk_reset,
};
