/* The I/O APIC: pins in, messages out. */
#include "chip_test.h"
#include "dev/ioapic.h"

enum { SELECT = 0x00, WINDOW = 0x10, EOI = 0x40 };
enum { MASKED = 1 << 16, LEVEL = 1 << 15, REMOTE_IRR = 1 << 14, LOGICAL = 1 << 11 };

struct fixture {
    struct ioapic ioapic;
    struct irq_router router;
    unsigned messages;
    u64 address;
    u32 data;
    unsigned eois;
    unsigned eoi_gsi;
};

static void on_msi(void *opaque, u64 address, u32 data)
{
    struct fixture *f = opaque;

    f->messages++;
    f->address = address;
    f->data = data;
}

static void on_eoi(void *opaque, unsigned gsi)
{
    struct fixture *f = opaque;

    f->eois++;
    f->eoi_gsi = gsi;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->router.msi = on_msi;
    f->router.msi_opaque = f;
    f->router.eoi[5].notify = on_eoi;
    f->router.eoi[5].opaque = f;
    f->ioapic.router = &f->router;
    ioapic_reset(&f->ioapic);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static u32 reg_read(struct fixture *f, u8 reg)
{
    io_ops_write(&ioapic_io_ops, &f->ioapic, SELECT, 4, reg);
    return (u32)io_ops_read(&ioapic_io_ops, &f->ioapic, WINDOW, 4);
}

static void reg_write(struct fixture *f, u8 reg, u32 value)
{
    io_ops_write(&ioapic_io_ops, &f->ioapic, SELECT, 1, reg);
    io_ops_write(&ioapic_io_ops, &f->ioapic, WINDOW, 4, value);
}

static void set_entry(struct fixture *f, unsigned pin, u8 dest, u32 low)
{
    reg_write(f, (u8)(0x11 + 2 * pin), (u32)dest << 24);
    reg_write(f, (u8)(0x10 + 2 * pin), low);
}

static void test_registers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(reg_read(f, 0), 0);
    assert_int_equal(reg_read(f, 1), 0x00170020);
    reg_write(f, 0, 0xffffffff);
    assert_int_equal(reg_read(f, 0), 0x0f000000);
    assert_int_equal(reg_read(f, 2), 0x0f000000);
    for (u8 pin = 0; pin < 24; pin++)
        assert_int_equal(reg_read(f, 0x10 + 2 * pin), MASKED);
    assert_int_equal(reg_read(f, 0x40), 0); /* beyond the last pin */
    reg_write(f, 0x40, 0x12345678);
    reg_write(f, 0xff, 0x12345678);
    reg_write(f, 0x10, 0xffffffff);
    assert_int_equal(reg_read(f, 0x10), 0x1afff); /* without the two read-only bits */
    reg_write(f, 0x11, 0xffffffff);
    assert_int_equal(reg_read(f, 0x11), 0xff000000);
    assert_int_equal(io_ops_read(&ioapic_io_ops, &f->ioapic, WINDOW + 3, 1), 0xff);
    io_ops_write(&ioapic_io_ops, &f->ioapic, WINDOW, 2, 0); /* the window wants 32 bits */
    assert_int_equal(reg_read(f, 0x11), 0xff000000);
}

static void test_edge(void **state)
{
    struct fixture *f = *state;

    set_entry(f, 3, 7, MASKED | 0x51);
    ioapic_set_pin(&f->ioapic, 3, true);
    reg_write(f, 0x16, 0x51); /* an edge on a masked pin is lost */
    assert_int_equal(f->messages, 0);
    ioapic_set_pin(&f->ioapic, 3, true);
    assert_int_equal(f->messages, 0);
    ioapic_set_pin(&f->ioapic, 3, false);
    ioapic_set_pin(&f->ioapic, 3, true);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->address, 0xfee07000);
    assert_int_equal(f->data, 0x51);
    assert_int_equal(reg_read(f, 0x16) & REMOTE_IRR, 0);
    ioapic_set_pin(&f->ioapic, 24, true); /* no such pin */
    assert_int_equal(f->messages, 1);
}

static void test_level(void **state)
{
    struct fixture *f = *state;

    set_entry(f, 5, 3, LEVEL | LOGICAL | 0x161); /* lowest priority, logical */
    ioapic_set_pin(&f->ioapic, 5, true);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->address, 0xfee03004);
    assert_int_equal(f->data, 0xc961 & ~(u32)LOGICAL);
    assert_true(reg_read(f, 0x1a) & REMOTE_IRR);
    ioapic_eoi(&f->ioapic, 0x62); /* another's */
    assert_int_equal(f->messages, 1);
    ioapic_eoi(&f->ioapic, 0x61); /* still high: again */
    assert_int_equal(f->messages, 2);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi_gsi, 5);
    ioapic_set_pin(&f->ioapic, 5, false);
    io_ops_write(&ioapic_io_ops, &f->ioapic, EOI, 4, 0x61); /* by register */
    assert_int_equal(f->messages, 2);
    assert_false(reg_read(f, 0x1a) & REMOTE_IRR);
    ioapic_eoi(&f->ioapic, 0x61);
    assert_int_equal(f->eois, 2);
}

static void test_level_unmasked_while_high(void **state)
{
    struct fixture *f = *state;

    set_entry(f, 5, 0, LEVEL | MASKED | 0x61);
    ioapic_set_pin(&f->ioapic, 5, true);
    assert_int_equal(f->messages, 0);
    reg_write(f, 0x1a, LEVEL | 0x61);
    assert_int_equal(f->messages, 1);
    reg_write(f, 0x1a, LEVEL | MASKED | 0x61);
    reg_write(f, 0x1a, LEVEL | 0x61); /* waits for its EOI, whatever the mask does */
    assert_int_equal(f->messages, 1);
    reg_write(f, 0x1a, MASKED | 0x61); /* edge and back: remote IRR is gone */
    assert_false(reg_read(f, 0x1a) & REMOTE_IRR);
    reg_write(f, 0x1a, LEVEL | 0x61);
    assert_int_equal(f->messages, 2);
}

/* NMI, SMI, INIT and ExtINT are edges even where the trigger bit says level. */
static void test_other_modes_are_edges(void **state)
{
    static const u8 modes[] = {2, 4, 5, 7};
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        set_entry(f, 6, 0, LEVEL | (u32)modes[i] << 8);
        ioapic_set_pin(&f->ioapic, 6, true);
        assert_int_equal(f->messages, i + 1);
        assert_int_equal(f->data, (u32)modes[i] << 8);
        assert_false(reg_read(f, 0x1c) & REMOTE_IRR);
        ioapic_set_pin(&f->ioapic, 6, false);
    }
}

static void test_state(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {0};
    u64 seed = 5;

    set_entry(f, 5, 1, LEVEL | 0x61);
    ioapic_set_pin(&f->ioapic, 5, true);
    other.ioapic.router = &other.router;
    ioapic_reset(&other.ioapic);
    assert_state_round_trip(&ioapic_state_table, &f->ioapic, &other.ioapic);
    load_damaged_state(&ioapic_state_table, &other.ioapic, &seed, 500);
}

static void test_hammer(void **state)
{
    struct fixture *f = *state;
    struct bench bench;
    u64 seed = 6;

    bench_init(&bench);
    for (unsigned i = 0; i < 2000; i++) {
        hammer(&bench, &ioapic_io_ops, &f->ioapic, i & 1 ? IOAPIC_SIZE : 0x48, &seed, 20);
        ioapic_set_pin(&f->ioapic, random_u64(&seed) % 32, random_u64(&seed) & 1);
        ioapic_eoi(&f->ioapic, (u8)random_u64(&seed));
    }
    assert_int_equal(f->ioapic.level >> 24, 0);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_registers),
        CASE(test_edge),
        CASE(test_level),
        CASE(test_level_unmasked_while_high),
        CASE(test_other_modes_are_edges),
        CASE(test_state),
        CASE(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
