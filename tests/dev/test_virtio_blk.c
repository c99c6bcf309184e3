/*
 * virtio-blk with its transport and rings, driven as a driver would do it, well or badly, on a machine that has no more
 * than a PCI bus, memory and the disk.
 */
#include "chip_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/i440fx.h"
#include "dev/piix3.h"
#include "dev/virtio/virtio_blk.h"
#include "dev/virtio/virtio_pci.h"
#include "host/block.h"
#include "machine/async.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

enum { RAM = 4 << 20, DISK = 1 << 20, SLOT = 3, DEVFN = SLOT << 3 };
enum { IO = 0xc000, QUEUE = 16 };
#define MODERN 0xe0000000u
#define MSIX   0xe0100000u

/* Where the driver keeps its things. */
enum {
    DESC = 0x10000,
    AVAIL = 0x11000,
    USED = 0x12000,
    TABLE = 0x13000,
    HEADER = 0x14000,
    STATUS = 0x15000,
    DATA = 0x20000
};

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { NEEDS_RESET = 0x40 };

struct fixture {
    struct vm *vm;
    struct block_backend *drive;
    char path[64];
    unsigned messages;
    u32 message;
    u16 next_desc, avail_index, queue_size;
};

static void on_msi(void *opaque, u64 address, u32 data)
{
    struct fixture *f = opaque;

    f->messages++;
    f->message = data;
}

/* ---- The machine ---- */

static u32 cfg_read(struct fixture *f, unsigned reg, unsigned size)
{
    port_write(&f->vm->ports, 0xcf8, 4, 1u << 31 | DEVFN << 8 | (reg & 0xfc));
    return port_read(&f->vm->ports, 0xcfc + (reg & 3), size);
}

static void cfg_write(struct fixture *f, unsigned reg, unsigned size, u32 value)
{
    port_write(&f->vm->ports, 0xcf8, 4, 1u << 31 | DEVFN << 8 | (reg & 0xfc));
    port_write(&f->vm->ports, 0xcfc + (reg & 3), size, value);
}

static void place_bars(struct fixture *f)
{
    cfg_write(f, PCI_BAR0, 4, IO);
    cfg_write(f, PCI_BAR0 + 4, 4, MSIX);
    cfg_write(f, PCI_BAR0 + 16, 4, MODERN);
    cfg_write(f, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static struct device *attach(struct vm *vm, const struct device_class *class, const char *name,
                             struct pci_bus *bus, struct block_backend *drive)
{
    struct device *device = device_new(vm, class, name);
    struct error err = {{0}};

    if (bus)
        device_set_pointer(device, "bus", bus);
    if (drive) {
        device_set_pointer(device, "drive", drive);
        device_set_number(device, "slot", SLOT);
        assert_int_equal(device_set(device, "serial", "serial number of it, too long", &err), 0);
    }
    assert_int_equal(device_attach(device, &err), 0);
    return device;
}

static void make(struct fixture *f, enum clock_driver clock, bool readonly)
{
    struct vm_config config = {.name = "test", .ram_size = RAM, .vcpus = 1, .clock = clock};
    struct block_options options = {.path = f->path, .format = "raw", .readonly = readonly};
    struct error err = {{0}};
    struct pci_bus *bus;

    f->vm = vm_new(&config, &err);
    assert_non_null(f->vm);
    f->drive = block_open(&options, &err);
    assert_string_equal(err.text, "");
    bus = i440fx_bus(attach(f->vm, &i440fx_class, "i440fx", NULL, NULL));
    attach(f->vm, &piix3_class, "piix3", bus, NULL);
    attach(f->vm, &virtio_blk_class, "disk0", bus, f->drive);
    f->vm->irqs.msi = on_msi;
    f->vm->irqs.msi_opaque = f;
    assert_int_equal(vm_reset(f->vm, &err), 0);
    place_bars(f);
}

static void end(struct fixture *f)
{
    vm_free(f->vm);
    block_close(f->drive);
    f->vm = NULL;
}

static u8 disk_byte(u64 offset)
{
    return (u8)(offset * 7 + (offset >> 9));
}

static struct fixture *new_fixture(enum clock_driver clock, bool readonly)
{
    struct fixture *f = calloc(1, sizeof(*f));
    u8 *bytes = malloc(DISK);
    int fd;

    strcpy(f->path, "/tmp/plastron-virtio-XXXXXX");
    fd = mkstemp(f->path);
    for (u64 i = 0; i < DISK; i++)
        bytes[i] = disk_byte(i);
    assert_int_equal(write(fd, bytes, DISK), DISK);
    close(fd);
    free(bytes);
    make(f, clock, readonly);
    return f;
}

static int setup(void **state)
{
    *state = new_fixture(CLOCK_ICOUNT, false);
    return 0;
}
static int setup_host(void **state)
{
    *state = new_fixture(CLOCK_HOST, false);
    return 0;
}
static int setup_readonly(void **state)
{
    *state = new_fixture(CLOCK_ICOUNT, true);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    end(f);
    unlink(f->path);
    free(f);
    return 0;
}

/* Let everything that is under way come to its end. */
static void settle(struct fixture *f)
{
    if (f->vm->clock.driver == CLOCK_HOST) {
        async_drain_all(&f->vm->gate);
        gate_drain(&f->vm->gate);
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        clock_advance(&f->vm->clock, ASYNC_DELAY_NS);
        timer_queue_run(&f->vm->timers, clock_now(&f->vm->clock));
    }
}

/* ---- The driver ---- */

static u32 mmio_read(struct fixture *f, u32 offset, unsigned size)
{
    return (u32)memory_read(&f->vm->memory, MODERN + offset, size);
}
static void mmio_write(struct fixture *f, u32 offset, unsigned size, u32 value)
{
    memory_write(&f->vm->memory, MODERN + offset, size, value);
}

static void ram_put(struct fixture *f, u64 at, u64 value, unsigned size)
{
    assert_true(dma_write(&f->vm->memory, at, &value, size));
}
static u64 ram_get(struct fixture *f, u64 at, unsigned size)
{
    u64 value = 0;

    assert_true(dma_read(&f->vm->memory, at, &value, size));
    return value;
}

static u64 offered(struct fixture *f)
{
    u64 features;

    mmio_write(f, 0x00, 4, 1);
    features = (u64)mmio_read(f, 0x04, 4) << 32;
    mmio_write(f, 0x00, 4, 0);
    return features | mmio_read(f, 0x04, 4);
}

enum { BIT_RO = 5, BIT_FLUSH = 9, BIT_WCE = 11, BIT_INDIRECT = 28, BIT_EVENT = 29 };
#define BIT_V1 32

/* Reset and start the device by the modern interface with these features beside VERSION_1. */
static void start(struct fixture *f, u64 features)
{
    features |= (u64)1 << BIT_V1;
    mmio_write(f, 0x14, 1, 0);
    assert_int_equal(mmio_read(f, 0x14, 1), 0);
    mmio_write(f, 0x14, 1, 3);
    mmio_write(f, 0x08, 4, 0);
    mmio_write(f, 0x0c, 4, (u32)features);
    mmio_write(f, 0x08, 4, 1);
    mmio_write(f, 0x0c, 4, features >> 32);
    mmio_write(f, 0x14, 1, 0x0b);
    assert_int_equal(mmio_read(f, 0x14, 1), 0x0b);
    for (u64 at = DESC; at < HEADER; at += 8)
        ram_put(f, at, 0, 8);
    mmio_write(f, 0x16, 2, 0);
    assert_int_equal(mmio_read(f, 0x18, 2), 256);
    mmio_write(f, 0x18, 2, QUEUE);
    mmio_write(f, 0x1a, 2, 1);
    mmio_write(f, 0x10, 2, 0);
    memory_write(&f->vm->memory, MODERN + 0x20, 8, DESC);
    memory_write(&f->vm->memory, MODERN + 0x28, 8, AVAIL);
    memory_write(&f->vm->memory, MODERN + 0x30, 8, USED);
    mmio_write(f, 0x1c, 2, 1);
    mmio_write(f, 0x14, 1, 0x0f);
    f->next_desc = f->avail_index = 0;
    f->queue_size = QUEUE;
}

static void desc_put(struct fixture *f, u64 table, unsigned n, u64 address, u32 length, u16 flags, u16 next)
{
    ram_put(f, table + 16 * n, address, 8);
    ram_put(f, table + 16 * n + 8, length, 4);
    ram_put(f, table + 16 * n + 12, flags, 2);
    ram_put(f, table + 16 * n + 14, next, 2);
}

static void make_available(struct fixture *f, u16 head)
{
    ram_put(f, AVAIL + 4 + 2 * (f->avail_index % f->queue_size), head, 2);
    ram_put(f, AVAIL + 2, ++f->avail_index, 2);
}

static void notify(struct fixture *f)
{
    mmio_write(f, 0x3000, 2, 0);
}

struct piece {
    u64 address;
    u32 length;
    u16 flags;
};

/* Queue a chain of pieces; returns its head. */
static u16 queue_chain(struct fixture *f, const struct piece *pieces, unsigned count)
{
    u16 head = f->next_desc;

    for (unsigned i = 0; i < count; i++) {
        u16 at = (head + i) % f->queue_size, next = (at + 1) % f->queue_size;

        desc_put(f, DESC, at, pieces[i].address, pieces[i].length,
                 pieces[i].flags | (i + 1 < count ? NEXT : 0), next);
    }
    f->next_desc = (head + count) % f->queue_size;
    make_available(f, head);
    return head;
}

static void header(struct fixture *f, u32 type, u64 sector)
{
    ram_put(f, HEADER, type, 8);
    ram_put(f, HEADER + 8, sector, 8);
    ram_put(f, STATUS, 0xee, 1);
}

static u16 used_index(struct fixture *f)
{
    return (u16)ram_get(f, USED + 2, 2);
}

/* A whole request of the usual form. Returns its status; the used length goes to *used. */
static u8 request(struct fixture *f, u32 type, u64 sector, u64 data, u32 length, u32 *used)
{
    struct piece pieces[] = {
        {HEADER, 16, 0}, {data, length, type == T_IN || type == T_GET_ID ? WRITE : 0}, {STATUS, 1, WRITE}};
    u16 before = used_index(f), head;

    header(f, type, sector);
    if (length == 0) {
        pieces[1] = pieces[2];
        head = queue_chain(f, pieces, 2);
    } else {
        head = queue_chain(f, pieces, 3);
    }
    notify(f);
    settle(f);
    assert_int_equal(used_index(f), (u16)(before + 1));
    assert_int_equal(ram_get(f, USED + 4 + 8 * (before % f->queue_size), 4), head);
    if (used)
        *used = (u32)ram_get(f, USED + 8 + 8 * (before % f->queue_size), 4);
    return (u8)ram_get(f, STATUS, 1);
}

static void assert_works(struct fixture *f)
{
    u32 used;

    ram_put(f, DATA, 0, 8);
    assert_int_equal(request(f, T_IN, 3, DATA, 512, &used), 0);
    assert_int_equal(used, 513);
    assert_int_equal(ram_get(f, DATA + 5, 1), disk_byte(3 * 512 + 5));
}

static bool broken(struct fixture *f)
{
    return mmio_read(f, 0x14, 1) & NEEDS_RESET;
}

/* ---- Identity ---- */

static void test_identity(void **state)
{
    struct fixture *f = *state;
    unsigned types = 0;

    assert_int_equal(cfg_read(f, 0, 4), 0x10011af4);
    assert_int_equal(cfg_read(f, 8, 4), 0x01000000);
    assert_int_equal(cfg_read(f, 0x2c, 4), 0x00021af4);
    for (u8 at = (u8)cfg_read(f, PCI_CAPABILITIES, 1); at; at = (u8)cfg_read(f, at + 1, 1))
        if (cfg_read(f, at, 1) == PCI_CAP_VENDOR)
            types |= 1u << cfg_read(f, at + 3, 1);
    assert_int_equal(types, 0x3e);
    assert_int_equal(mmio_read(f, 0x12, 2), 1);
    assert_int_equal(mmio_read(f, 0x2000, 4), DISK / 512);
    assert_int_equal(mmio_read(f, 0x2014, 4), 512);
    assert_int_equal(mmio_read(f, 0x200c, 4), 254);
    assert_int_equal(mmio_read(f, 0x203c, 4), 0); /* behind the configuration */
    assert_int_equal(mmio_read(f, 0x2fff, 1), 0);
    assert_int_equal(offered(f), 0x138006e44);
}

static void test_readonly_identity(void **state)
{
    struct fixture *f = *state;

    assert_true(offered(f) >> BIT_RO & 1);
    start(f, 1u << BIT_RO);
    assert_int_equal(request(f, T_OUT, 0, DATA, 512, NULL), 1);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 1);
    assert_works(f);
}

/* ---- Requests ---- */

static void test_read_write(void **state)
{
    struct fixture *f = *state;
    u8 expect[1024], sector[1024];
    u32 used;
    int fd;

    start(f, 1u << BIT_FLUSH);
    assert_works(f);
    for (unsigned i = 0; i < 1024; i++)
        ram_put(f, DATA + i, expect[i] = (u8)(i * 3), 1);
    assert_int_equal(request(f, T_OUT, 100, DATA, 1024, &used), 0);
    assert_int_equal(used, 1);
    assert_int_equal(request(f, T_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(request(f, T_IN, 100, DATA + 0x1000, 1024, &used), 0);
    assert_int_equal(used, 1025);
    assert_true(dma_read(&f->vm->memory, DATA + 0x1000, sector, 1024));
    assert_memory_equal(sector, expect, 1024);
    fd = open(f->path, O_RDONLY);
    assert_int_equal(pread(fd, sector, 1024, 100 * 512), 1024);
    close(fd);
    assert_memory_equal(sector, expect, 1024);
    for (unsigned i = 0; i < 50; i++) /* round the ring several times */
        assert_works(f);
}

/* Header, data and status cut up in odd ways: the layout is the driver's business. */
static void test_any_layout(void **state)
{
    struct fixture *f = *state;
    struct piece pieces[] = {{HEADER, 3, 0},   {HEADER + 3, 0, 0},     {HEADER + 3, 13, 0},
                             {DATA, 1, WRITE}, {DATA + 1, 510, WRITE}, {DATA + 511, 2, WRITE}};

    start(f, 0);
    header(f, T_IN, 7);
    queue_chain(f, pieces, ARRAY_SIZE(pieces));
    notify(f);
    settle(f);
    assert_int_equal(used_index(f), 1);
    assert_int_equal(ram_get(f, DATA + 512, 1), 0); /* the status */
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(ram_get(f, DATA + i, 1), disk_byte(7 * 512 + i));
}

static void test_get_id(void **state)
{
    struct fixture *f = *state;
    char id[21] = {0};

    start(f, 0);
    assert_int_equal(request(f, T_GET_ID, 0, DATA, 20, NULL), 0);
    assert_true(dma_read(&f->vm->memory, DATA, id, 20));
    assert_string_equal(id, "serial number of it,");
    ram_put(f, DATA, 0, 8);
    assert_int_equal(request(f, T_GET_ID, 0, DATA, 3, NULL), 0); /* less room */
    assert_int_equal(ram_get(f, DATA, 4), 0x726573);
}

static void test_bad_requests_complete(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    assert_int_equal(request(f, T_IN, DISK / 512, DATA, 512, NULL), 1);
    assert_int_equal(request(f, T_IN, DISK / 512 - 1, DATA, 1024, NULL), 1);
    assert_int_equal(request(f, T_IN, UINT64_MAX, DATA, 512, NULL), 1);
    assert_int_equal(request(f, T_IN, UINT64_MAX / 512, DATA, 512, NULL), 1);
    assert_int_equal(request(f, T_OUT, DISK / 512, DATA, 512, NULL), 1);
    assert_int_equal(request(f, T_IN, 0, DATA, 511, NULL), 1);
    assert_int_equal(request(f, T_OUT, 0, DATA, 513, NULL), 1);
    assert_int_equal(request(f, T_IN, 0, DATA, 0xfffffe00, NULL), 1);
    assert_int_equal(request(f, 99, 0, DATA, 512, NULL), 2);
    assert_int_equal(request(f, 0x7fffffff, 0, DATA, 512, NULL), 2);
    assert_int_equal(request(f, T_DISCARD, 0, DATA, 15, NULL), 1);
    assert_int_equal(request(f, T_DISCARD, 0, 0, 0, NULL), 1);
    assert_int_equal(request(f, T_IN, 0, 0, 0, NULL), 0); /* nothing to read is read */
    assert_false(broken(f));
    assert_works(f);
}

static void set_range(struct fixture *f, u64 sector, u32 sectors, u32 flags)
{
    ram_put(f, DATA, sector, 8);
    ram_put(f, DATA + 8, sectors, 4);
    ram_put(f, DATA + 12, flags, 4);
}

static void test_discard_and_zeroes(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    set_range(f, 16, 8, 0);
    assert_int_equal(request(f, T_DISCARD, 0, DATA, 16, NULL), 0);
    set_range(f, 16, 8, 1); /* a flag that discard does not have */
    assert_int_equal(request(f, T_DISCARD, 0, DATA, 16, NULL), 2);
    set_range(f, 100, 3, 1);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 0);
    set_range(f, 104, 1, 0);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 0);
    assert_int_equal(request(f, T_IN, 99, DATA + 0x1000, 6 * 512, NULL), 0);
    for (unsigned i = 0; i < 6 * 512; i++) {
        bool zero = (i >= 512 && i < 4 * 512) || i >= 5 * 512;

        assert_int_equal(ram_get(f, DATA + 0x1000 + i, 1), zero ? 0 : disk_byte(99 * 512 + i));
    }
    set_range(f, 0, 1, 2);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 2);
    set_range(f, DISK / 512 - 1, 2, 0);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 1);
    set_range(f, UINT64_MAX, 2, 0);
    assert_int_equal(request(f, T_DISCARD, 0, DATA, 16, NULL), 1);
    set_range(f, 0, 0xffffffff, 0);
    assert_int_equal(request(f, T_WRITE_ZEROES, 0, DATA, 16, NULL), 1);
}

static void test_cache_mode(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(mmio_read(f, 0x2020, 1), 1);
    start(f, 1u << BIT_FLUSH);
    mmio_write(f, 0x2020, 1, 0); /* not negotiated */
    assert_int_equal(mmio_read(f, 0x2020, 1), 1);
    start(f, 1u << BIT_FLUSH | 1u << BIT_WCE);
    mmio_write(f, 0x2020, 1, 0xfe);
    assert_int_equal(mmio_read(f, 0x2020, 1), 0);
    assert_int_equal(request(f, T_OUT, 0, DATA, 512, NULL), 0);
    mmio_write(f, 0x2000, 4, 0); /* the rest cannot be written */
    assert_int_equal(mmio_read(f, 0x2000, 4), DISK / 512);
    mmio_write(f, 0x14, 1, 0);
    assert_int_equal(mmio_read(f, 0x2020, 1), 1);
}

/* A transfer told to go to the device's own registers, to nowhere, or round the end of the address space. */
static void test_data_that_is_not_memory(void **state)
{
    static const u64 places[] = {MODERN,    MODERN + 0x3000,  MSIX,   0xfffffff0,
                                 RAM - 256, UINT64_MAX - 100, 0xa0000};
    struct fixture *f = *state;

    start(f, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        assert_int_equal(request(f, T_IN, 0, places[i], 512, NULL), 1);
        assert_int_equal(request(f, T_OUT, 0, places[i], 512, NULL), 1);
        assert_int_equal(request(f, T_GET_ID, 0, places[i] == RAM - 256 ? RAM - 10 : places[i], 20, NULL), 1);
        assert_int_equal(request(f, T_DISCARD, 0, places[i] == RAM - 256 ? RAM - 10 : places[i], 16, NULL),
                         1);
    }
    assert_works(f);
}

static void test_no_bus_master(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    cfg_write(f, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    header(f, T_IN, 0);
    queue_chain(f, (struct piece[]){{HEADER, 16, 0}, {DATA, 512, WRITE}, {STATUS, 1, WRITE}}, 3);
    notify(f);
    settle(f);
    assert_int_equal(used_index(f), 0);
    cfg_write(f, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    notify(f);
    settle(f);
    assert_int_equal(used_index(f), 1);
}

static void test_indirect(void **state)
{
    struct fixture *f = *state;

    start(f, 1u << BIT_INDIRECT);
    header(f, T_IN, 9);
    desc_put(f, TABLE, 0, HEADER, 16, NEXT, 2);
    desc_put(f, TABLE, 2, DATA, 512, NEXT | WRITE, 1);
    desc_put(f, TABLE, 1, STATUS, 1, WRITE, 0);
    desc_put(f, DESC, 5, TABLE, 48, INDIRECT, 0);
    make_available(f, 5);
    notify(f);
    settle(f);
    assert_int_equal(used_index(f), 1);
    assert_int_equal(ram_get(f, STATUS, 1), 0);
    assert_int_equal(ram_get(f, DATA, 1), disk_byte(9 * 512));
}

/* ---- Rings that contradict themselves: the device stops, says so, and works again after a reset ---- */

static void bad_head(struct fixture *f)
{
    make_available(f, QUEUE);
}
static void bad_head_high(struct fixture *f)
{
    make_available(f, 0xffff);
}
static void bad_index(struct fixture *f)
{
    ram_put(f, AVAIL + 2, QUEUE + 1, 2);
}
static void bad_index_behind(struct fixture *f)
{
    ram_put(f, AVAIL + 2, 0xffff, 2);
}
static void bad_loop(struct fixture *f)
{
    desc_put(f, DESC, 0, HEADER, 16, NEXT, 1);
    desc_put(f, DESC, 1, DATA, 1, NEXT, 0);
    make_available(f, 0);
}
static void bad_self_loop(struct fixture *f)
{
    desc_put(f, DESC, 0, HEADER, 0, NEXT | WRITE, 0);
    make_available(f, 0);
}
static void bad_next(struct fixture *f)
{
    desc_put(f, DESC, 0, HEADER, 16, NEXT, QUEUE);
    make_available(f, 0);
}
static void bad_order(struct fixture *f)
{
    desc_put(f, DESC, 0, DATA, 16, NEXT | WRITE, 1);
    desc_put(f, DESC, 1, HEADER, 16, NEXT, 2);
    desc_put(f, DESC, 2, STATUS, 1, WRITE, 0);
    make_available(f, 0);
}
static void bad_no_status(struct fixture *f)
{
    desc_put(f, DESC, 0, HEADER, 16, 0, 0);
    make_available(f, 0);
}
static void bad_status_place(struct fixture *f)
{
    header(f, T_FLUSH, 0);
    desc_put(f, DESC, 0, HEADER, 16, NEXT, 1);
    desc_put(f, DESC, 1, MODERN, 1, WRITE, 0);
    make_available(f, 0);
}
static void bad_twice(struct fixture *f)
{
    header(f, T_IN, 0);
    desc_put(f, DESC, 0, HEADER, 16, NEXT, 1);
    desc_put(f, DESC, 1, STATUS, 1, WRITE, 0);
    make_available(f, 0);
    make_available(f, 0);
}
static void bad_indirect_size(struct fixture *f)
{
    desc_put(f, DESC, 0, TABLE, 47, INDIRECT, 0);
    make_available(f, 0);
}
static void bad_indirect_empty(struct fixture *f)
{
    desc_put(f, DESC, 0, TABLE, 0, INDIRECT, 0);
    make_available(f, 0);
}
static void bad_indirect_next(struct fixture *f)
{
    desc_put(f, DESC, 0, TABLE, 16, INDIRECT | NEXT, 1);
    make_available(f, 0);
}
static void bad_indirect_nested(struct fixture *f)
{
    desc_put(f, TABLE, 0, HEADER, 16, NEXT, 1);
    desc_put(f, TABLE, 1, TABLE, 16, INDIRECT, 0);
    desc_put(f, DESC, 0, TABLE, 32, INDIRECT, 0);
    make_available(f, 0);
}
static void bad_indirect_in_chain(struct fixture *f)
{
    desc_put(f, DESC, 0, HEADER, 16, NEXT, 1);
    desc_put(f, DESC, 1, TABLE, 16, INDIRECT, 0);
    make_available(f, 0);
}
static void bad_indirect_place(struct fixture *f)
{
    desc_put(f, DESC, 0, MODERN, 32, INDIRECT, 0);
    make_available(f, 0);
}
/* 65536 descriptors of which each leads to the next */
static void bad_indirect_endless(struct fixture *f)
{
    for (unsigned i = 0; i < 65536; i++)
        desc_put(f, 0x100000, i, DATA, 1, NEXT, (u16)(i + 1));
    desc_put(f, DESC, 0, 0x100000, 65536 * 16, INDIRECT, 0);
    make_available(f, 0);
}

static void test_malformed_rings(void **state)
{
    static void (*const cases[])(struct fixture * f) = {
        bad_head,
        bad_head_high,
        bad_index,
        bad_index_behind,
        bad_loop,
        bad_self_loop,
        bad_next,
        bad_order,
        bad_no_status,
        bad_status_place,
        bad_twice,
        bad_indirect_size,
        bad_indirect_empty,
        bad_indirect_next,
        bad_indirect_nested,
        bad_indirect_in_chain,
        bad_indirect_place,
        bad_indirect_endless,
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        start(f, 1u << BIT_INDIRECT);
        cases[i](f);
        (void)mmio_read(f, 0x1000, 1);
        notify(f);
        settle(f);
        if (!broken(f))
            fail_msg("case %u was swallowed", i);
        assert_int_equal(mmio_read(f, 0x1000, 1) & 2, 2); /* the driver is told */
        mmio_write(f, 0x14, 1, 0x0f);                     /* only a reset helps */
        notify(f);
        settle(f);
        assert_true(broken(f));
        start(f, 1u << BIT_INDIRECT);
        assert_works(f);
    }
}

static void test_indirect_needs_the_feature(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    desc_put(f, DESC, 0, TABLE, 16, INDIRECT, 0);
    make_available(f, 0);
    notify(f);
    settle(f);
    assert_true(broken(f));
}

/* Rings that are not in memory. */
static void test_rings_nowhere(void **state)
{
    static const u64 places[] = {MODERN, UINT64_MAX - 4, RAM - 2, (u64)1 << 60};
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        for (unsigned ring = 0; ring < 3; ring++) {
            start(f, 0);
            mmio_write(f, 0x14, 1, 0);
            mmio_write(f, 0x14, 1, 3);
            mmio_write(f, 0x08, 4, 1);
            mmio_write(f, 0x0c, 4, 1);
            mmio_write(f, 0x14, 1, 0x0b);
            mmio_write(f, 0x18, 2, QUEUE);
            memory_write(&f->vm->memory, MODERN + 0x20, 8, ring == 0 ? places[i] : DESC);
            memory_write(&f->vm->memory, MODERN + 0x28, 8, ring == 1 ? places[i] : AVAIL);
            memory_write(&f->vm->memory, MODERN + 0x30, 8, ring == 2 ? places[i] : USED);
            mmio_write(f, 0x1c, 2, 1);
            mmio_write(f, 0x14, 1, 0x0f);
            f->avail_index = f->next_desc = 0;
            header(f, T_FLUSH, 0);
            queue_chain(f, (struct piece[]){{HEADER, 16, 0}, {STATUS, 1, WRITE}}, 2);
            notify(f);
            settle(f);
            assert_true(broken(f));
        }
    start(f, 0);
    assert_works(f);
}

static void test_queues_that_do_not_exist(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    mmio_write(f, 0x3004, 2, 1);
    mmio_write(f, 0x3ffc, 4, 0xffffffff);
    mmio_write(f, 0x16, 2, 1);
    assert_int_equal(mmio_read(f, 0x18, 2), 0);
    mmio_write(f, 0x18, 2, 16);
    mmio_write(f, 0x1c, 2, 1);
    assert_int_equal(mmio_read(f, 0x1c, 2), 0);
    mmio_write(f, 0x16, 2, 0xffff);
    mmio_write(f, 0x20, 4, 0xffffffff);
    port_write(&f->vm->ports, IO + 0x0e, 2, 77);
    port_write(&f->vm->ports, IO + 0x08, 4, 0x1234);
    port_write(&f->vm->ports, IO + 0x10, 2, 77);
    assert_int_equal(port_read(&f->vm->ports, IO + 0x0c, 2), 0);
    mmio_write(f, 0x16, 2, 0);
    assert_int_equal(mmio_read(f, 0x20, 4), DESC);
    assert_works(f);
}

static void test_queue_sizes(void **state)
{
    static const u16 refused[] = {0, 3, 100, 257, 512, 0xffff};
    struct fixture *f = *state;

    mmio_write(f, 0x16, 2, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        mmio_write(f, 0x18, 2, refused[i]);
        assert_int_equal(mmio_read(f, 0x18, 2), 256);
    }
    start(f, 0);
    mmio_write(f, 0x18, 2, 32); /* not while it is in use */
    mmio_write(f, 0x20, 4, 0);
    mmio_write(f, 0x1c, 2, 0);
    assert_int_equal(mmio_read(f, 0x18, 2), QUEUE);
    assert_int_equal(mmio_read(f, 0x20, 4), DESC);
    assert_int_equal(mmio_read(f, 0x1c, 2), 1);
}

static void test_features_not_offered(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0x14, 1, 3);
    mmio_write(f, 0x08, 4, 1);
    mmio_write(f, 0x0c, 4, 0x80000001);
    mmio_write(f, 0x14, 1, 0x0b);
    assert_int_equal(mmio_read(f, 0x14, 1), 3); /* FEATURES_OK does not stick */
    mmio_write(f, 0x0c, 4, 1);
    mmio_write(f, 0x08, 4, 7); /* no such word */
    mmio_write(f, 0x0c, 4, 0xffffffff);
    mmio_write(f, 0x14, 1, 0x0b);
    assert_int_equal(mmio_read(f, 0x14, 1), 0x0b);
    mmio_write(f, 0x08, 4, 0);
    mmio_write(f, 0x0c, 4, 1u << BIT_EVENT); /* too late */
    assert_int_equal(mmio_read(f, 0x0c, 4), 0);
}

/* ---- Interrupts ---- */

static bool irq_level(struct fixture *f, unsigned gsi)
{
    return f->vm->irqs.level[gsi] != 0;
}

static void test_intx(void **state)
{
    struct fixture *f = *state;
    unsigned pirq = pc_pirq(SLOT, 1);

    port_write(&f->vm->ports, 0xcf8, 4, 1u << 31 | PC_DEVFN_PIIX3 << 8 | (0x60 + pirq / 4 * 4));
    port_write(&f->vm->ports, 0xcfc + pirq, 1, 11);
    start(f, 0);
    assert_works(f);
    assert_true(irq_level(f, 11));
    assert_int_equal(mmio_read(f, 0x1000, 1), 1);
    assert_false(irq_level(f, 11));
    assert_int_equal(mmio_read(f, 0x1000, 1), 0);
    ram_put(f, AVAIL, 1, 2); /* the driver wants none */
    assert_works(f);
    assert_false(irq_level(f, 11));
    ram_put(f, AVAIL, 0, 2);
    assert_works(f);
    assert_true(irq_level(f, 11));
    mmio_write(f, 0x14, 1, 0); /* reset lowers it */
    assert_false(irq_level(f, 11));
}

static void start_msix(struct fixture *f, u64 features)
{
    cfg_write(f, 0x9a, 2, 0x8000);
    for (unsigned vector = 0; vector < 2; vector++) {
        memory_write(&f->vm->memory, MSIX + 16 * vector, 8, 0xfee00000);
        memory_write(&f->vm->memory, MSIX + 16 * vector + 8, 8, 0x40 + vector);
    }
    start(f, features);
}

static void test_msix(void **state)
{
    struct fixture *f = *state;

    start_msix(f, 0);
    assert_works(f);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->message, 0x41);
    assert_int_equal(mmio_read(f, 0x1000, 1), 0);
    bad_head(f);
    notify(f);
    assert_int_equal(f->messages, 2);
    assert_int_equal(f->message, 0x40); /* the configuration's vector */
    start(f, 0);
    mmio_write(f, 0x1a, 2, 2); /* no such vector */
    assert_int_equal(mmio_read(f, 0x1a, 2), 0xffff);
    mmio_write(f, 0x10, 2, 0x1234);
    assert_int_equal(mmio_read(f, 0x10, 2), 0xffff);
    assert_works(f);
    assert_int_equal(f->messages, 2);
}

static void test_event_index(void **state)
{
    struct fixture *f = *state;
    u64 used_event = AVAIL + 4 + 2 * QUEUE, avail_event = USED + 4 + 8 * QUEUE;

    start_msix(f, 1u << BIT_EVENT);
    assert_works(f);
    assert_int_equal(f->messages, 1);
    assert_int_equal(ram_get(f, avail_event, 2), 1);
    ram_put(f, used_event, 3, 2); /* tell me after the fourth */
    assert_works(f);
    assert_works(f);
    assert_int_equal(f->messages, 1);
    assert_works(f);
    assert_int_equal(f->messages, 2);
    assert_works(f); /* not again by itself */
    assert_int_equal(f->messages, 2);
    assert_int_equal(ram_get(f, avail_event, 2), 5);
}

/* ---- Legacy interface ---- */

static void test_legacy(void **state)
{
    enum { PAGES = 0x40000, LEGACY_QUEUE = 256 };
    struct fixture *f = *state;
    struct port_map *ports = &f->vm->ports;
    u64 avail = PAGES + 16 * LEGACY_QUEUE, used = PAGES + 0x2000;

    assert_int_equal(port_read(ports, IO, 4), (u32)offered(f));
    port_write(ports, IO + 0x12, 1, 0);
    port_write(ports, IO + 0x12, 1, 3);
    port_write(ports, IO + 0x04, 4, 0xffffffff);
    assert_int_equal(port_read(ports, IO + 0x04, 4),
                     port_read(ports, IO, 4)); /* never more than was offered */
    port_write(ports, IO + 0x04, 4, 1u << BIT_FLUSH);
    assert_int_equal(port_read(ports, IO + 0x14, 4), DISK / 512);
    port_write(ports, IO + 0x0e, 2, 0);
    assert_int_equal(port_read(ports, IO + 0x0c, 2), LEGACY_QUEUE);
    assert_int_equal(port_read(ports, IO + 0x08, 4), 0);
    port_write(ports, IO + 0x08, 4, PAGES / 4096);
    assert_int_equal(port_read(ports, IO + 0x08, 4), PAGES / 4096);
    port_write(ports, IO + 0x12, 1, 7);
    header(f, T_IN, 2);
    desc_put(f, PAGES, 0, HEADER, 16, NEXT, 1);
    desc_put(f, PAGES, 1, DATA, 512, NEXT | WRITE, 2);
    desc_put(f, PAGES, 2, STATUS, 1, WRITE, 0);
    ram_put(f, avail + 2, 1, 2);
    port_write(ports, IO + 0x10, 2, 0);
    settle(f);
    assert_int_equal(ram_get(f, used + 2, 2), 1);
    assert_int_equal(ram_get(f, STATUS, 1), 0);
    assert_int_equal(ram_get(f, DATA, 1), disk_byte(1024));
    assert_int_equal(port_read(ports, IO + 0x13, 1), 1);
    assert_int_equal(port_read(ports, IO + 0x13, 1), 0);
    cfg_write(f, 0x9a, 2, 0x8000); /* MSI-X moves the configuration */
    assert_int_equal(port_read(ports, IO + 0x18, 4), DISK / 512);
    port_write(ports, IO + 0x16, 2, 1);
    assert_int_equal(port_read(ports, IO + 0x16, 2), 1);
    port_write(ports, IO + 0x08, 4, 0); /* gives the queue up */
    assert_int_equal(port_read(ports, IO + 0x08, 4), 0);
    assert_int_equal(port_read(ports, IO + 0x12, 1), 0);
}

/* ---- The window in configuration space ---- */

static void test_pci_window(void **state)
{
    struct fixture *f = *state;
    unsigned cap = 0x84;

    cfg_write(f, cap + 4, 1, 4);
    cfg_write(f, cap + 8, 4, 0x2000);
    cfg_write(f, cap + 12, 4, 4);
    assert_int_equal(cfg_read(f, cap + 16, 4), DISK / 512);
    cfg_write(f, cap + 8, 4, 0x14);
    cfg_write(f, cap + 12, 4, 1);
    cfg_write(f, cap + 16, 1, 3);
    assert_int_equal(mmio_read(f, 0x14, 1), 3);
    cfg_write(f, cap + 8, 4, 0x4000); /* outside, crooked, another BAR, of odd size: nothing */
    cfg_write(f, cap + 16, 4, 0x12345678);
    assert_int_equal(cfg_read(f, cap + 16, 4), 0x12345678);
    cfg_write(f, cap + 8, 4, 0xffffffff);
    cfg_write(f, cap + 12, 4, 4);
    cfg_write(f, cap + 16, 4, 0);
    cfg_write(f, cap + 8, 4, 0x14);
    cfg_write(f, cap + 12, 4, 0xffffffff);
    cfg_write(f, cap + 16, 4, 0);
    cfg_write(f, cap + 12, 4, 1);
    cfg_write(f, cap + 4, 1, 0);
    cfg_write(f, cap + 16, 1, 0);
    cfg_write(f, cap + 4, 1, 200);
    cfg_write(f, cap + 16, 1, 0);
    assert_int_equal(mmio_read(f, 0x14, 1), 3);
}

/* ---- Requests under way ---- */

static void queue_reads(struct fixture *f, unsigned count)
{
    header(f, T_IN, 5);
    for (unsigned i = 0; i < count; i++)
        queue_chain(
            f, (struct piece[]){{HEADER, 16, 0}, {DATA + 512 * i, 512, WRITE}, {STATUS + i, 1, WRITE}}, 3);
}

/* A driver that resets the device while requests are under way: they end before the reset does, and are not told. */
static void test_reset_with_requests_under_way(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 20; round++) {
        start(f, 0);
        queue_reads(f, 5);
        notify(f);
        mmio_write(f, 0x14, 1, 0);
        gate_drain(&f->vm->gate);
        assert_int_equal(used_index(f), 0);
        start(f, 0);
        assert_works(f);
    }
}

/* The machine ends while requests are under way. */
static void test_end_with_requests_under_way(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    queue_reads(f, 5);
    notify(f);
}

/* With the host clock, nothing is seen before the gate lets it in. */
static void test_completions_come_through_the_gate(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    queue_reads(f, 3);
    notify(f);
    assert_int_equal(used_index(f), 0);
    while (used_index(f) < 3)
        gate_drain(&f->vm->gate);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ram_get(f, STATUS + i, 1), 0);
}

/* Deterministic: data arrives at one instant of virtual time, not before and not after. */
static void test_fixed_virtual_delay(void **state)
{
    struct fixture *f = *state;
    u64 at;

    start(f, 0);
    for (unsigned i = 0; i < 3; i++)
        ram_put(f, DATA + 512 * i, 0, 1);
    queue_reads(f, 3);
    at = clock_now(&f->vm->clock) + ASYNC_DELAY_NS;
    notify(f);
    clock_advance(&f->vm->clock, ASYNC_DELAY_NS - 1);
    timer_queue_run(&f->vm->timers, clock_now(&f->vm->clock));
    assert_int_equal(used_index(f), 0);
    assert_int_equal(ram_get(f, DATA, 1), 0);
    clock_advance(&f->vm->clock, 1);
    assert_int_equal(clock_now(&f->vm->clock), at);
    timer_queue_run(&f->vm->timers, at);
    assert_int_equal(used_index(f), 3);
    assert_int_equal(ram_get(f, DATA, 1), disk_byte(5 * 512));
}

/* ---- State ---- */

static struct device *disk_of(struct fixture *f)
{
    return device_find(f->vm, "disk0");
}

static void save(struct fixture *f, struct state_buf *buf)
{
    state_save(disk_of(f)->class->state, (u8 *)disk_of(f) + disk_of(f)->class->state_offset, buf);
}

static int load(struct fixture *f, const struct state_buf *buf, struct error *err)
{
    struct state_reader reader = {.data = buf->data, .len = buf->len, .what = "test"};

    return state_load(disk_of(f)->class->state, (u8 *)disk_of(f) + disk_of(f)->class->state_offset, &reader,
                      err);
}

/* Saved with requests that wait, and restored into another machine, where they come to their end. */
static void test_state_with_requests_waiting(void **state)
{
    struct fixture *f = *state;
    struct state_buf saved = {0}, again = {0};
    struct error err = {{0}};
    u8 *ram = malloc(RAM);
    u64 now;

    start(f, 1u << BIT_FLUSH);
    assert_works(f);
    queue_reads(f, 2);
    notify(f);
    async_drain_all(&f->vm->gate);
    save(f, &saved);
    memcpy(ram, f->vm->memory.blocks[0]->host, RAM);
    now = clock_now(&f->vm->clock);
    end(f);
    make(f, CLOCK_ICOUNT, false);
    clock_advance(&f->vm->clock, now);
    memcpy(f->vm->memory.blocks[0]->host, ram, RAM);
    assert_int_equal(load(f, &saved, &err), 0);
    assert_string_equal(err.text, "");
    memory_commit(&f->vm->memory);
    save(f, &again);
    assert_int_equal(saved.len, again.len);
    assert_memory_equal(saved.data, again.data, saved.len);
    assert_int_equal(used_index(f), 1);
    settle(f);
    assert_int_equal(used_index(f), 3);
    assert_int_equal(ram_get(f, DATA + 512, 1), disk_byte(5 * 512));
    f->avail_index = 3;
    assert_works(f);
    state_buf_free(&saved);
    state_buf_free(&again);
    free(ram);
}

static void test_damaged_state(void **state)
{
    struct fixture *f = *state;
    struct state_buf saved = {0};
    u64 seed = 17;

    start(f, 1u << BIT_INDIRECT | 1u << BIT_EVENT);
    queue_reads(f, 2);
    notify(f);
    save(f, &saved);
    for (unsigned i = 0; i < 3000; i++) {
        size_t at = random_u64(&seed) % saved.len;
        u8 old = saved.data[at];
        struct error err = {{0}};

        saved.data[at] = (u8)random_u64(&seed);
        if (load(f, &saved, &err) == 0) { /* what was taken must run */
            memory_commit(&f->vm->memory);
            notify(f);
            settle(f);
        } else {
            assert_string_not_equal(err.text, "");
        }
        saved.data[at] = old;
        assert_int_equal(vm_reset(f->vm, &err), 0);
    }
    place_bars(f);
    start(f, 0);
    assert_works(f);
    state_buf_free(&saved);
}

/* ---- A guest that hammers ---- */

static void hammer_once(struct fixture *f, u64 *seed)
{
    u64 r = random_u64(seed), value = random_u64(seed) & random_u64(seed);
    unsigned size = 1u << (r >> 4 & 3);

    switch (r % 16) {
    case 0: memory_read(&f->vm->memory, MODERN + (r >> 8 & 0x3ff8), size); break;
    case 1: memory_write(&f->vm->memory, MODERN + (r >> 8 & 0x38), size, value & 0x3f); break;
    case 2: memory_write(&f->vm->memory, MODERN + (r >> 8 & 0x3ff8), size, value); break;
    case 3: port_read(&f->vm->ports, IO + (r >> 8 & 0x7f), size > 4 ? 4 : size); break;
    case 4: port_write(&f->vm->ports, IO + (r >> 8 & 0x1f), size > 4 ? 4 : size, (u32)value & 0xff); break;
    case 5: cfg_write(f, 0x40 + (r >> 8 & 0x6f), size > 4 ? 4 : size, (u32)value); break;
    case 6: memory_write(&f->vm->memory, MSIX + (r >> 8 & 0xff8), size, value); break;
    case 7: place_bars(f); break;
    case 8:
        if (r >> 60 == 0)
            start(f, (r >> 8 & 1) << BIT_INDIRECT | (r >> 9 & 1) << BIT_EVENT);
        break;
    case 9:
    case 10: { /* descriptors that make some sense */
        static const u64 places[] = {HEADER, DATA, STATUS, TABLE, DESC, USED, MODERN, RAM - 100};

        desc_put(f, r >> 8 & 1 ? DESC : TABLE, r >> 9 & 15, places[r >> 13 & 7],
                 r >> 16 & 1 ? 16 : (u32)(r >> 17 & 0x3ff), r >> 27 & 7, r >> 30 & 15);
        break;
    }
    case 11: ram_put(f, HEADER, r >> 8 & 15, 4); break;
    case 12: ram_put(f, HEADER + 8, r >> 8 & 0xff, 8); break;
    case 13:
    case 14:
        make_available(f, r >> 8 & 15);
        notify(f);
        break;
    case 15:
        ram_put(f, DESC + (r >> 8 & 0x3fff), value, 8);
        settle(f);
        break;
    }
}

static void hammer_all(struct fixture *f, u64 seed)
{
    place_bars(f);
    start(f, 1u << BIT_INDIRECT);
    for (unsigned i = 0; i < 60000; i++) {
        hammer_once(f, &seed);
        if (i % 64 == 0) {
            settle(f);
            if (mmio_read(f, 0x14, 1) & NEEDS_RESET)
                start(f, 1u << BIT_INDIRECT);
        }
    }
    settle(f);
    place_bars(f);
    start(f, 0);
    assert_int_equal(request(f, T_FLUSH, 0, 0, 0, NULL), 0);
}

static void test_hammer(void **state)
{
    hammer_all(*state, 23);
}
static void test_hammer_host(void **state)
{
    hammer_all(*state, 29);
}

#define CASE(function)      cmocka_unit_test_setup_teardown(function, setup, teardown)
#define HOST_CASE(function) cmocka_unit_test_setup_teardown(function, setup_host, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_identity),
        cmocka_unit_test_setup_teardown(test_readonly_identity, setup_readonly, teardown),
        CASE(test_read_write),
        HOST_CASE(test_read_write),
        CASE(test_any_layout),
        CASE(test_get_id),
        CASE(test_bad_requests_complete),
        HOST_CASE(test_bad_requests_complete),
        CASE(test_discard_and_zeroes),
        CASE(test_cache_mode),
        CASE(test_data_that_is_not_memory),
        CASE(test_no_bus_master),
        CASE(test_indirect),
        CASE(test_malformed_rings),
        HOST_CASE(test_malformed_rings),
        CASE(test_indirect_needs_the_feature),
        CASE(test_rings_nowhere),
        CASE(test_queues_that_do_not_exist),
        CASE(test_queue_sizes),
        CASE(test_features_not_offered),
        CASE(test_intx),
        CASE(test_msix),
        CASE(test_event_index),
        CASE(test_legacy),
        CASE(test_pci_window),
        CASE(test_reset_with_requests_under_way),
        HOST_CASE(test_reset_with_requests_under_way),
        CASE(test_end_with_requests_under_way),
        HOST_CASE(test_end_with_requests_under_way),
        HOST_CASE(test_completions_come_through_the_gate),
        CASE(test_fixed_virtual_delay),
        CASE(test_state_with_requests_waiting),
        CASE(test_damaged_state),
        CASE(test_hammer),
        HOST_CASE(test_hammer_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
