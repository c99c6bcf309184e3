/* PCI set-up, against a configuration space made here. */
#include "guest.h"

#include "machine/pc_map.h"

enum { FUNCTIONS = 6 };

/* A function: what it has in configuration space, and which bits of its BARs can be written. */
struct function {
    unsigned devfn;
    u8 config[256];
    u32 bar_mask[6];
};

struct bus {
    struct port_map ports;
    struct function functions[FUNCTIONS];
    u32 address;
    u8 elcr[2];
    bool bar_written_while_decoding;
    bool f_segment_was_writable;
};

static struct function *function_at(struct bus *bus, unsigned devfn)
{
    for (int i = 0; i < FUNCTIONS; i++)
        if (bus->functions[i].devfn == devfn)
            return &bus->functions[i];
    return NULL;
}

static u64 config_read(void *opaque, u64 offset, unsigned size)
{
    struct bus *bus = opaque;

    if (offset < 4)
        return bus->address;
    struct function *f = function_at(bus, bus->address >> 8 & 0xffff);
    u8 bytes[8] = {0xff, 0xff, 0xff, 0xff};

    assert_true(bus->address >> 31);
    if (f)
        memcpy(bytes, f->config + (bus->address & 0xfc) + (offset - 4), size);
    return get_u32(bytes) & (size == 4 ? UINT32_MAX : (1u << 8 * size) - 1);
}

static void config_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct bus *bus = opaque;

    if (offset < 4) {
        assert_int_equal(size, 4);
        bus->address = (u32)value;
        return;
    }
    struct function *f = function_at(bus, bus->address >> 8 & 0xffff);
    unsigned reg = (bus->address & 0xfc) + (unsigned)(offset - 4);

    if (!f)
        return;
    if (reg >= 0x10 && reg < 0x28) {
        u32 mask = f->bar_mask[(reg - 0x10) / 4], old = get_u32(f->config + reg);

        assert_int_equal(size, 4);
        bus->bar_written_while_decoding |= f->config[4] & 3;
        put_u32(f->config + reg, (old & ~mask) | ((u32)value & mask));
        return;
    }
    for (unsigned i = 0; i < size; i++)
        f->config[reg + i] = (u8)(value >> 8 * i);
    bus->f_segment_was_writable |= f->devfn == 0 && f->config[0x59] == 0x30;
}

static void elcr_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct bus *bus = opaque;

    bus->elcr[offset] = (u8)value;
}

static const struct io_ops config_ops = {
    .read = config_read, .write = config_write, .min_size = 1, .max_size = 4};
static const struct io_ops elcr_ops = {.write = elcr_write, .min_size = 1, .max_size = 1};

static struct function *add(struct bus *bus, unsigned devfn, u32 id, u8 pin)
{
    for (int i = 0; i < FUNCTIONS; i++) {
        struct function *f = &bus->functions[i];

        if (f->devfn != UINT32_MAX)
            continue;
        f->devfn = devfn;
        put_u32(f->config, id);
        f->config[0x3d] = pin;
        return f;
    }
    fail();
    return NULL;
}

static void bus_init(struct bus *bus, struct guest *guest)
{
    memset(bus, 0, sizeof(*bus));
    for (int i = 0; i < FUNCTIONS; i++)
        bus->functions[i].devfn = UINT32_MAX;
    port_map_init(&bus->ports);
    assert_int_equal(port_map_add(&bus->ports, 0xcf8, 8, &config_ops, bus, "pci", NULL), 0);
    assert_int_equal(port_map_add(&bus->ports, 0x4d0, 2, &elcr_ops, bus, "elcr", NULL), 0);
    guest->config.ports = &bus->ports;
}

static void setup(struct guest *guest)
{
    struct error err = {""};

    if (firmware_setup(&guest->config, NULL, &err))
        fail_msg("%s", err.text);
}

static void set_bar(struct function *f, unsigned bar, u32 flags, u32 mask)
{
    put_u32(f->config + 0x10 + 4 * bar, flags);
    f->bar_mask[bar] = mask;
}

static u32 get_bar(const struct function *f, unsigned bar)
{
    return get_u32(f->config + 0x10 + 4 * bar);
}

static void test_chipset(void **state)
{
    struct guest guest;
    struct bus bus;

    guest_init(&guest, MIB(16));
    bus_init(&bus, &guest);
    struct function *i440fx = add(&bus, 0x00, 0x12378086, 0);
    struct function *piix3 = add(&bus, 0x08, 0x70008086, 0);
    piix3->config[0x0e] = 0x80; /* multi-function */
    struct function *pm = add(&bus, 0x0b, 0x71138086, 1);
    setup(&guest);

    for (unsigned pirq = 0; pirq < 4; pirq++)
        assert_int_equal(piix3->config[0x60 + pirq], pc_pirq_irq(pirq));
    assert_int_equal(bus.elcr[0], 0);
    assert_int_equal(bus.elcr[1], 0x0e); /* IRQ 9, 10, 11 */
    assert_int_equal(get_u32(pm->config + 0x40), 0x601);
    assert_int_equal(pm->config[0x80], 1);
    assert_int_equal(get_u32(pm->config + 0x90), 0x701);
    assert_int_equal(pm->config[0x3c], 9);
    assert_true(bus.f_segment_was_writable);
    assert_int_equal(i440fx->config[0x59], 0x10); /* reads from RAM, writes lost */
    port_map_free(&bus.ports);
    guest_free(&guest);
}

static void test_bars(void **state)
{
    struct guest guest;
    struct bus bus;

    guest_init(&guest, MIB(16));
    bus_init(&bus, &guest);
    struct function *a = add(&bus, 3 << 3, 0x10011af4, 1);
    set_bar(a, 0, 1, 0xffffffc0);   /* 64 ports */
    set_bar(a, 1, 0, 0xfffff000);   /* 4 KiB */
    set_bar(a, 4, 0xc, 0xffffc000); /* 16 KiB, 64 bits wide, prefetchable */
    set_bar(a, 5, 0, 0xffffffff);
    struct function *b = add(&bus, 4 << 3, 0x10001af4, 4);
    set_bar(b, 0, 1, 0x0000ffe0); /* 32 ports, upper half not implemented */
    set_bar(b, 1, 0, 0xff000000); /* 16 MiB */
    set_bar(b, 2, 0, 0x80000000); /* 2 GiB: does not fit */
    set_bar(b, 3, 4, 0x00000000); /* 64 bits wide, 4 GiB or more: does not fit */
    set_bar(b, 4, 0, 0xffffffff);
    struct function *bridge = add(&bus, 5 << 3, 0x12345678, 0);
    bridge->config[0x0e] = 1;
    set_bar(bridge, 0, 0, 0xfffff000);
    add(&bus, (6 << 3) + 1, 0x12345678, 0); /* function 1 of a slot that has no function 0 is not there */
    setup(&guest);

    assert_int_equal(get_bar(a, 0), 0xc001);
    assert_int_equal(get_bar(a, 1), 0xc0000000);
    assert_int_equal(get_bar(a, 4), 0xc0004000 | 0xc);
    assert_int_equal(get_bar(a, 5), 0);
    assert_int_equal(get_bar(b, 0), 0xc041);
    assert_int_equal(get_bar(b, 1), 0xc1000000);
    assert_int_equal(get_bar(b, 2), 0);
    assert_int_equal(get_bar(b, 3), 4);
    assert_int_equal(get_bar(bridge, 0), 0);
    assert_int_equal(a->config[4], 3);
    assert_int_equal(b->config[4], 3);
    assert_int_equal(bridge->config[4], 0);
    assert_int_equal(a->config[0x3c], pc_pirq_irq(pc_pirq(3, 1)));
    assert_int_equal(b->config[0x3c], pc_pirq_irq(pc_pirq(4, 4)));
    assert_false(bus.bar_written_while_decoding);

    setup(&guest); /* again, after a reset of the machine alone */
    assert_int_equal(get_bar(a, 0), 0xc001);
    assert_false(bus.bar_written_while_decoding);
    port_map_free(&bus.ports);
    guest_free(&guest);
}

/* Configuration space that answers nonsense: every register all ones but for the ID. */
static u64 stuck_read(void *opaque, u64 offset, unsigned size)
{
    return 0xfffffffe;
}
static void stuck_write(void *opaque, u64 offset, unsigned size, u64 value) {}
static const struct io_ops stuck_ops = {
    .read = stuck_read, .write = stuck_write, .min_size = 1, .max_size = 4};

static void test_stuck_bus(void **state)
{
    static struct port_map ports;
    struct guest guest;

    guest_init(&guest, MIB(16));
    port_map_init(&ports);
    assert_int_equal(port_map_add(&ports, 0xcf8, 8, &stuck_ops, NULL, "pci", NULL), 0);
    guest.config.ports = &ports;
    setup(&guest);
    assert_non_null(find_in_f_segment(&guest, "RSD PTR "));
    port_map_free(&ports);
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chipset),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_stuck_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
