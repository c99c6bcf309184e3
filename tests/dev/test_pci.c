/* The PCI bus and what every function on it has, with two made-up functions. */
#include "chip_test.h"
#include "dev/pci.h"

enum { ADDRESS = 0xcf8, DATA = 0xcfc };
enum { MSI_CAP = 0x40, MSIX_CAP = 0x60 };
enum { BAR_IO = 0, BAR_MEM = 1, BAR_WIDE = 2, BAR_MSIX = 4 };

struct function {
    struct pci_device pci;
    u64 last_offset, last_value;
    unsigned last_size, writes;
};

struct fixture {
    struct memory memory;
    struct port_map ports;
    struct irq_router router;
    struct pci_bus bus;
    struct function a, b;
    unsigned messages;
    u64 address;
    u32 data;
    unsigned intx_changes;
    u8 reset_port;
};

static u64 function_read(void *opaque, u64 offset, unsigned size)
{
    return 0x5a;
}

static void function_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct function *function = opaque;

    function->last_offset = offset;
    function->last_size = size;
    function->last_value = value;
    function->writes++;
}

static const struct io_ops function_ops = {
    .read = function_read, .write = function_write, .min_size = 1, .max_size = 4};

static u64 reset_read(void *opaque, u64 offset, unsigned size)
{
    return ((struct fixture *)opaque)->reset_port;
}
static void reset_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    ((struct fixture *)opaque)->reset_port = (u8)value;
}
static const struct io_ops reset_ops = {
    .read = reset_read, .write = reset_write, .min_size = 1, .max_size = 1};

static void on_msi(void *opaque, u64 address, u32 data)
{
    struct fixture *f = opaque;

    f->messages++;
    f->address = address;
    f->data = data;
}

static void on_intx(void *opaque)
{
    ((struct fixture *)opaque)->intx_changes++;
}

static void make_function(struct fixture *f, struct function *function, unsigned devfn, const char *name)
{
    static const struct pci_ids ids = {.vendor = 0x1234,
                                       .device = 0x5678,
                                       .subsystem_vendor = 0x9abc,
                                       .subsystem = 0xdef0,
                                       .class_code = 0x010203,
                                       .revision = 4};
    struct error err = {{0}};

    pci_init(&function->pci, &ids, name);
    pci_set_pin(&function->pci, 1);
    pci_add_bar(&function->pci, BAR_IO, PCI_BAR_IO, 32, &function_ops, function);
    pci_add_bar(&function->pci, BAR_MEM, PCI_BAR_MEM32, 4096, &function_ops, function);
    pci_add_bar(&function->pci, BAR_WIDE, PCI_BAR_MEM64, 1 << 20, &function_ops, function);
    pci_add_msix(&function->pci, MSIX_CAP, BAR_MSIX, 3);
    pci_add_msi(&function->pci, MSI_CAP, 4);
    assert_int_equal(pci_register(&function->pci, &f->bus, devfn, &err), 0);
    pci_reset(&function->pci);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err = {{0}};

    assert_int_equal(memory_init(&f->memory, &err), 0);
    port_map_init(&f->ports);
    f->router.msi = on_msi;
    f->router.msi_opaque = f;
    assert_int_equal(pci_bus_init(&f->bus, &f->memory, &f->ports, &f->router, &err), 0);
    f->bus.intx_changed = on_intx;
    f->bus.intx_opaque = f;
    f->bus.reset_ops = &reset_ops;
    f->bus.reset_opaque = f;
    make_function(f, &f->a, pci_devfn(3, 0), "a");
    make_function(f, &f->b, pci_devfn(5, 2), "b");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    memory_free(&f->memory);
    port_map_free(&f->ports);
    free(f);
    return 0;
}

/* Configuration access as a guest does it. */
static u32 cfg_read(struct fixture *f, unsigned devfn, unsigned reg, unsigned size)
{
    port_write(&f->ports, ADDRESS, 4, 1u << 31 | devfn << 8 | (reg & 0xfc));
    return port_read(&f->ports, DATA + (reg & 3), size);
}

static void cfg_write(struct fixture *f, unsigned devfn, unsigned reg, unsigned size, u32 value)
{
    port_write(&f->ports, ADDRESS, 4, 1u << 31 | devfn << 8 | (reg & 0xfc));
    port_write(&f->ports, DATA + (reg & 3), size, value);
}

enum { A = 3 << 3, B = 5 << 3 | 2 };

static void test_mechanism(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cfg_read(f, A, 0, 4), 0x56781234);
    assert_int_equal(cfg_read(f, A, 2, 2), 0x5678);
    assert_int_equal(cfg_read(f, A, 3, 1), 0x56);
    assert_int_equal(cfg_read(f, A, 8, 4), 0x01020304);
    assert_int_equal(cfg_read(f, A, 0x2c, 4), 0xdef09abc);
    assert_int_equal(cfg_read(f, B, 0, 2), 0x1234);
    assert_int_equal(cfg_read(f, A + 1, 0, 4), 0xffffffff); /* no such function */
    port_write(&f->ports, ADDRESS, 4, A << 8);              /* not enabled */
    assert_int_equal(port_read(&f->ports, DATA, 4), 0xffffffff);
    port_write(&f->ports, ADDRESS, 4, 1u << 31 | 1 << 16 | A << 8); /* bus 1 */
    assert_int_equal(port_read(&f->ports, DATA, 4), 0xffffffff);
    port_write(&f->ports, ADDRESS, 4, 0xffffffff);
    assert_int_equal(port_read(&f->ports, ADDRESS, 4), 0x80fffffc);
}

/* CONFADDR is a dword or nothing; the byte at CF9h is somebody else's. */
static void test_confaddr_widths(void **state)
{
    struct fixture *f = *state;

    port_write(&f->ports, ADDRESS, 4, 1u << 31 | A << 8);
    port_write(&f->ports, ADDRESS, 2, 0x1111);
    port_write(&f->ports, ADDRESS + 3, 1, 0);
    port_write(&f->ports, ADDRESS + 2, 4, 0);
    assert_int_equal(port_read(&f->ports, ADDRESS, 4), 1u << 31 | A << 8);
    assert_int_equal(port_read(&f->ports, ADDRESS, 2), 0xffff);
    port_write(&f->ports, ADDRESS + 1, 1, 0x06);
    assert_int_equal(f->reset_port, 0x06);
    assert_int_equal(port_read(&f->ports, ADDRESS + 1, 1), 0x06);
}

static void test_read_only_and_masks(void **state)
{
    struct fixture *f = *state;

    for (unsigned reg = 0; reg < 256; reg += 4)
        if (reg < PCI_BAR0 || reg >= 0x30)
            cfg_write(f, A, reg, 4, 0xffffffff);
    assert_int_equal(cfg_read(f, A, 0, 4), 0x56781234);
    assert_int_equal(cfg_read(f, A, PCI_COMMAND, 2), 0x0547);
    assert_int_equal(cfg_read(f, A, 8, 4), 0x01020304);
    assert_int_equal(cfg_read(f, A, 0x2c, 4), 0xdef09abc);
    assert_int_equal(cfg_read(f, A, PCI_INTERRUPT_LINE, 4), 0x01ff);
}

static void test_bar_sizes(void **state)
{
    struct fixture *f = *state;

    for (unsigned bar = 0; bar < PCI_BARS; bar++)
        cfg_write(f, A, PCI_BAR0 + 4 * bar, 4, 0xffffffff);
    assert_int_equal(cfg_read(f, A, PCI_BAR0, 4), 0xffffffe1);
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 4, 4), 0xfffff000);
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 8, 4), 0xfff00004);
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 12, 4), 0xffffffff);
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 16, 4), 0xfffff000);
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 20, 4), 0);
    cfg_write(f, A, PCI_BAR0, 1, 0x40); /* by bytes */
    cfg_write(f, A, PCI_BAR0 + 1, 1, 0xc1);
    cfg_write(f, A, PCI_BAR0 + 2, 2, 0);
    assert_int_equal(cfg_read(f, A, PCI_BAR0, 4), 0xc141);
}

static bool port_hits(struct fixture *f, struct function *function, u32 port)
{
    unsigned before = function->writes;

    port_write(&f->ports, port, 1, 0x77);
    return function->writes > before;
}

static bool memory_hits(struct fixture *f, struct function *function, u64 phys)
{
    unsigned before = function->writes;

    memory_write(&f->memory, phys, 4, 0x77);
    return function->writes > before;
}

static void test_io_bar(void **state)
{
    struct fixture *f = *state;

    cfg_write(f, A, PCI_BAR0, 4, 0xc000);
    assert_false(port_hits(f, &f->a, 0xc000)); /* not enabled */
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_IO);
    assert_true(port_hits(f, &f->a, 0xc000));
    assert_true(port_hits(f, &f->a, 0xc01f));
    assert_int_equal(f->a.last_offset, 0x1f);
    assert_false(port_hits(f, &f->a, 0xc020));
    cfg_write(f, A, PCI_BAR0, 4, 0xd000);
    assert_false(port_hits(f, &f->a, 0xc000));
    assert_true(port_hits(f, &f->a, 0xd004));
    cfg_write(f, A, PCI_COMMAND, 2, 0);
    assert_false(port_hits(f, &f->a, 0xd004));
    assert_int_equal(port_read(&f->ports, 0xd004, 1), 0xff);
}

/* Places where a BAR must not go, or must not keep the machine from being configured. */
static void test_adversarial_io_bars(void **state)
{
    static const u32 places[] = {0,      0xce0,  0xcf8,   0xcfc,      0xcff,
                                 0xffe0, 0xffff, 0x10000, 0xffffffe0, 0x80000000};
    struct fixture *f = *state;

    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_IO);
    cfg_write(f, B, PCI_COMMAND, 2, PCI_COMMAND_IO);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        cfg_write(f, A, PCI_BAR0, 4, places[i]);
        cfg_write(f, B, PCI_BAR0, 4, places[i]);
        assert_int_equal(cfg_read(f, A, 0, 4), 0x56781234);
        assert_int_equal(cfg_read(f, B, 0, 4), 0x56781234);
    }
    cfg_write(f, A, PCI_BAR0, 4, 0xffe0); /* the very end is allowed */
    assert_true(port_hits(f, &f->a, 0xffff));
    cfg_write(f, B, PCI_BAR0, 4, 0xffe0); /* on top of A */
    assert_true(port_hits(f, &f->b, 0xffff));
    cfg_write(f, B, PCI_BAR0, 4, 0);
    assert_true(port_hits(f, &f->a, 0xffff)); /* A is under it */
    pci_reset(&f->a.pci);
    assert_false(port_hits(f, &f->a, 0xffff));
}

static void test_memory_bars(void **state)
{
    struct fixture *f = *state;

    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0xe0000000);
    assert_true(memory_hits(f, &f->a, 0xe0000ffc));
    assert_int_equal(f->a.last_offset, 0xffc);
    assert_int_equal(memory_read(&f->memory, 0xe0000000, 1), 0x5a);
    assert_false(memory_hits(f, &f->a, 0xe0001000));
    cfg_write(f, A, PCI_BAR0 + 12, 4, 0x12); /* 64-bit, above 4 GiB */
    cfg_write(f, A, PCI_BAR0 + 8, 4, 0x34500000);
    assert_true(memory_hits(f, &f->a, 0x12345ffffc));
    cfg_write(f, A, PCI_BAR0 + 12, 4, 0xffffffff); /* up to the last byte of all: nowhere, and no overflow */
    cfg_write(f, A, PCI_BAR0 + 8, 4, 0xfff00000);
    assert_false(memory_hits(f, &f->a, 0x12345ffffc));
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0);
    assert_false(memory_hits(f, &f->a, 0));
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0xe0000000);
    cfg_write(f, A, PCI_COMMAND, 2, 0);
    assert_false(memory_hits(f, &f->a, 0xe0000000));
}

/* A BAR on top of RAM does not hide the RAM. */
static void test_ram_covers_bars(void **state)
{
    struct fixture *f = *state;
    struct error err = {{0}};
    struct mem_block *ram = memory_add_block(&f->memory, "ram", 1 << 20, false, &err);
    struct mem_region region = {.size = 1 << 20,
                                .priority = MEM_PRIORITY_RAM,
                                .enabled = true,
                                .read = true,
                                .write = true,
                                .block = ram,
                                .name = "ram"};

    assert_int_equal(memory_add_region(&f->memory, &region, &err), 0);
    memory_commit(&f->memory);
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0x8000);
    assert_false(memory_hits(f, &f->a, 0x8000));
    assert_int_equal(memory_read(&f->memory, 0x8000, 4), 0x77);
    memory_remove_region(&f->memory, &region);
}

static void test_reset(void **state)
{
    struct fixture *f = *state;

    cfg_write(f, A, PCI_COMMAND, 2, 7);
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0xe0000000);
    cfg_write(f, A, PCI_INTERRUPT_LINE, 1, 11);
    pci_set_intx(&f->a.pci, true);
    pci_reset(&f->a.pci);
    assert_int_equal(cfg_read(f, A, PCI_COMMAND, 4), 0x100000); /* capabilities, no interrupt */
    assert_int_equal(cfg_read(f, A, PCI_BAR0 + 4, 4), 0);
    assert_int_equal(cfg_read(f, A, PCI_INTERRUPT_LINE, 1), 0);
    assert_false(memory_hits(f, &f->a, 0xe0000000));
    assert_false(pci_bus_pirq(&f->bus, 2));
}

static void test_intx(void **state)
{
    struct fixture *f = *state;

    pci_set_intx(&f->a.pci, true);
    assert_true(pci_bus_pirq(&f->bus, 2)); /* slot 3, pin A */
    assert_false(pci_bus_pirq(&f->bus, 0));
    assert_true(cfg_read(f, A, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    pci_set_intx(&f->b.pci, true);
    assert_true(pci_bus_pirq(&f->bus, 0)); /* slot 5, pin A */
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    assert_false(pci_bus_pirq(&f->bus, 2));
    assert_true(cfg_read(f, A, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT); /* the status stays */
    cfg_write(f, A, PCI_COMMAND, 2, 0);
    assert_true(pci_bus_pirq(&f->bus, 2));
    cfg_write(f, A, MSIX_CAP + 2, 2, 0x8000); /* MSI-X on: the pin is silent */
    assert_false(pci_bus_pirq(&f->bus, 2));
    cfg_write(f, A, MSIX_CAP + 2, 2, 0);
    pci_set_intx(&f->a.pci, false);
    assert_false(pci_bus_pirq(&f->bus, 2));
}

static void test_capability_list(void **state)
{
    struct fixture *f = *state;
    u8 at = (u8)cfg_read(f, A, PCI_CAPABILITIES, 1);

    assert_int_equal(at, MSI_CAP);
    assert_int_equal(cfg_read(f, A, at, 2), MSIX_CAP << 8 | PCI_CAP_MSI);
    assert_int_equal(cfg_read(f, A, MSIX_CAP, 2), PCI_CAP_MSIX);
    assert_int_equal(cfg_read(f, A, MSI_CAP + 2, 2), 0x0184);
    assert_int_equal(cfg_read(f, A, MSIX_CAP + 2, 2), 2);
    assert_int_equal(cfg_read(f, A, MSIX_CAP + 4, 4), BAR_MSIX);
    assert_int_equal(cfg_read(f, A, MSIX_CAP + 8, 4), 0x800 | BAR_MSIX);
}

static void test_msi(void **state)
{
    struct fixture *f = *state;

    cfg_write(f, A, MSI_CAP + 4, 4, 0xfee01000);
    cfg_write(f, A, MSI_CAP + 12, 2, 0x4041);
    pci_msi_send(&f->a.pci, 0);            /* not enabled */
    cfg_write(f, A, MSI_CAP + 2, 2, 0x21); /* enabled, four vectors */
    pci_msi_send(&f->a.pci, 0);            /* not a bus master */
    assert_int_equal(f->messages, 0);
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    pci_msi_send(&f->a.pci, 2);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->address, 0xfee01000);
    assert_int_equal(f->data, 0x4042);
    pci_msi_send(&f->a.pci, 4); /* beyond what was allocated */
    pci_msi_send(&f->a.pci, 1000);
    assert_int_equal(f->messages, 1);
    cfg_write(f, A, MSI_CAP + 16, 4, 0xffffffff);
    assert_int_equal(cfg_read(f, A, MSI_CAP + 16, 4), 0xf);
    pci_msi_send(&f->a.pci, 3);
    assert_int_equal(f->messages, 1);
    assert_int_equal(cfg_read(f, A, MSI_CAP + 20, 4), 1 << 3);
    cfg_write(f, A, MSI_CAP + 16, 4, 0);
    assert_int_equal(f->messages, 2);
    assert_int_equal(f->data, 0x4043);
    assert_int_equal(cfg_read(f, A, MSI_CAP + 20, 4), 0);
    for (unsigned allocated = 6; allocated < 8; allocated++) { /* reserved values */
        cfg_write(f, A, MSI_CAP + 2, 2, allocated << 4 | 1);
        pci_msi_send(&f->a.pci, 0);
    }
    assert_int_equal(f->messages, 2);
}

static void test_msix(void **state)
{
    enum { TABLE = 0xe0100000 };
    struct fixture *f = *state;

    cfg_write(f, A, PCI_BAR0 + 4 * BAR_MSIX, 4, TABLE);
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(memory_read(&f->memory, TABLE + 12, 4), 1); /* masked at reset */
    memory_write(&f->memory, TABLE + 16, 8, 0xfee03000);         /* vector 1 */
    memory_write(&f->memory, TABLE + 24, 4, 0x51);
    pci_msix_send(&f->a.pci, 1);              /* not enabled */
    cfg_write(f, A, MSIX_CAP + 2, 2, 0xc000); /* enabled, all masked */
    pci_msix_send(&f->a.pci, 1);
    assert_int_equal(f->messages, 0);
    assert_int_equal(memory_read(&f->memory, TABLE + 0x800, 8), 2);
    memory_write(&f->memory, TABLE + 28, 4, 0xfffffffe); /* only bit 0 is there */
    assert_int_equal(memory_read(&f->memory, TABLE + 28, 4), 0);
    assert_int_equal(f->messages, 0);
    cfg_write(f, A, MSIX_CAP + 2, 2, 0x8000);
    assert_int_equal(f->messages, 1); /* it was pending */
    assert_int_equal(f->address, 0xfee03000);
    assert_int_equal(f->data, 0x51);
    assert_int_equal(memory_read(&f->memory, TABLE + 0x800, 4), 0);
    memory_write(&f->memory, TABLE + 28, 4, 1);
    pci_msix_send(&f->a.pci, 1);
    assert_int_equal(f->messages, 1);
    memory_write(&f->memory, TABLE + 28, 4, 0);
    assert_int_equal(f->messages, 2);
    pci_msix_send(&f->a.pci, 3); /* does not exist */
    pci_msix_send(&f->a.pci, 0xffff);
    assert_int_equal(f->messages, 2);
    memory_write(&f->memory, TABLE + 48, 4, 0x1234); /* behind the last entry */
    assert_int_equal(memory_read(&f->memory, TABLE + 48, 4), 0);
    assert_int_equal(memory_read(&f->memory, TABLE + 17, 2), 0xffff);
    cfg_write(f, A, PCI_COMMAND, 2, PCI_COMMAND_MEMORY); /* no bus master: nothing is sent */
    pci_msix_send(&f->a.pci, 1);
    assert_int_equal(f->messages, 2);
}

static void test_taken_slot(void **state)
{
    static const struct pci_ids ids = {.vendor = 1, .device = 2};
    struct fixture *f = *state;
    struct pci_device other;
    struct error err = {{0}};

    pci_init(&other, &ids, "other");
    assert_int_equal(pci_register(&other, &f->bus, A, &err), -1);
    assert_non_null(strstr(err.text, "03.0"));
}

static void test_state(void **state)
{
    struct fixture *f = *state;
    u64 seed = 11;

    cfg_write(f, A, PCI_COMMAND, 2, 7);
    cfg_write(f, A, PCI_BAR0, 4, 0xc000);
    cfg_write(f, A, PCI_BAR0 + 4, 4, 0xe0000000);
    pci_set_intx(&f->a.pci, true);
    assert_state_round_trip(&pci_device_state_table, &f->a.pci, &f->b.pci);
    memory_commit(&f->memory);
    assert_true(memory_hits(f, &f->b, 0xe0000000));
    assert_true(port_hits(f, &f->b, 0xc000));
    load_damaged_state(&pci_device_state_table, &f->b.pci, &seed, 500);
    assert_state_round_trip(&pci_bus_state_table, &f->bus, &f->bus);
}

/* A stream in which the device is another one. */
static void test_state_of_another_device(void **state)
{
    struct fixture *f = *state;
    struct state_buf saved = {0};
    struct state_reader reader;
    struct error err = {{0}};

    f->a.pci.config[PCI_DEVICE] ^= 1;
    state_save(&pci_device_state_table, &f->a.pci, &saved);
    reader = (struct state_reader){.data = saved.data, .len = saved.len, .what = "test"};
    assert_int_equal(state_load(&pci_device_state_table, &f->b.pci, &reader, &err), -1);
    assert_non_null(strstr(err.text, "b: configuration byte 02"));
    state_buf_free(&saved);
}

static void test_hammer(void **state)
{
    struct fixture *f = *state;
    u64 seed = 13;

    for (unsigned i = 0; i < 50000; i++) {
        u64 r = random_u64(&seed);
        unsigned size = 1u << r % 3, devfn = r & 8 ? A : B;

        switch (r >> 8 & 7) {
        case 0: port_read(&f->ports, 0xcf0 + (r >> 12 & 31), size); break;
        case 1: port_write(&f->ports, 0xcf0 + (r >> 12 & 31), size, (u32)random_u64(&seed)); break;
        case 2:
        case 3:
        case 4: cfg_write(f, devfn, r >> 12 & 0xff, size, (u32)random_u64(&seed)); break;
        case 5:
            pci_msix_send(&f->a.pci, r >> 12 & 7);
            pci_msi_send(&f->b.pci, r >> 12 & 7);
            break;
        case 6: pci_set_intx(&f->a.pci, r >> 12 & 1); break;
        case 7:
            memory_write(&f->memory, f->a.pci.bars[r >> 12 & 3].address + (r >> 16 & 0xff8), 8,
                         random_u64(&seed));
            break;
        }
    }
    assert_int_equal(cfg_read(f, A, 0, 4), 0x56781234);
    assert_int_equal(cfg_read(f, B, 0x2c, 4), 0xdef09abc);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_mechanism),
        CASE(test_confaddr_widths),
        CASE(test_read_only_and_masks),
        CASE(test_bar_sizes),
        CASE(test_io_bar),
        CASE(test_adversarial_io_bars),
        CASE(test_memory_bars),
        CASE(test_ram_covers_bars),
        CASE(test_reset),
        CASE(test_intx),
        CASE(test_capability_list),
        CASE(test_msi),
        CASE(test_msix),
        CASE(test_taken_slot),
        CASE(test_state),
        CASE(test_state_of_another_device),
        CASE(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
