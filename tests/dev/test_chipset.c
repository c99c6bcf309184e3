/* Host bridge, ISA bridge and power management on a machine that has nothing else. */
#include "chip_test.h"

#include "dev/i440fx.h"
#include "dev/piix3.h"
#include "dev/piix4_pm.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

enum { RAM = 8 << 20 };

struct fixture {
    struct vm *vm;
    struct device *i440fx, *piix3, *pm;
    struct mem_block *rom;
    struct mem_region rom_region;
};

static struct device *attach(struct fixture *f, const struct device_class *class, const char *name)
{
    struct device *device = device_new(f->vm, class, name);
    struct error err = {{0}};

    if (class != &i440fx_class)
        device_set_pointer(device, "bus", i440fx_bus(f->i440fx));
    assert_int_equal(device_attach(device, &err), 0);
    return device;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vm_config config = {
        .name = "test", .ram_size = RAM, .vcpus = 1, .clock = CLOCK_ICOUNT, .no_reboot = true};
    struct error err = {{0}};

    f->vm = vm_new(&config, &err);
    assert_non_null(f->vm);
    f->i440fx = attach(f, &i440fx_class, "i440fx");
    f->piix3 = attach(f, &piix3_class, "piix3");
    f->pm = attach(f, &piix4_pm_class, "piix4_pm");
    f->rom = memory_add_block(&f->vm->memory, "rom", 128 << 10, true, &err);
    memset(f->rom->host, 0x5a, 128 << 10);
    f->rom_region = (struct mem_region){
        .start = 0xe0000, .size = 128 << 10, .enabled = true, .read = true, .block = f->rom, .name = "rom"};
    assert_int_equal(memory_add_region(&f->vm->memory, &f->rom_region, &err), 0);
    assert_int_equal(vm_reset(f->vm, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vm_free(f->vm);
    free(f);
    return 0;
}

static u32 in(struct fixture *f, u32 port, unsigned size)
{
    return port_read(&f->vm->ports, port, size);
}
static void out(struct fixture *f, u32 port, unsigned size, u32 value)
{
    port_write(&f->vm->ports, port, size, value);
}

static u32 cfg_read(struct fixture *f, unsigned devfn, unsigned reg, unsigned size)
{
    out(f, 0xcf8, 4, 1u << 31 | devfn << 8 | (reg & 0xfc));
    return in(f, 0xcfc + (reg & 3), size);
}

static void cfg_write(struct fixture *f, unsigned devfn, unsigned reg, unsigned size, u32 value)
{
    out(f, 0xcf8, 4, 1u << 31 | devfn << 8 | (reg & 0xfc));
    out(f, 0xcfc + (reg & 3), size, value);
}

static u8 mem(struct fixture *f, u64 at)
{
    return (u8)memory_read(&f->vm->memory, at, 1);
}
static void set_mem(struct fixture *f, u64 at, u8 value)
{
    memory_write(&f->vm->memory, at, 1, value);
}
static u8 *ram(struct fixture *f)
{
    return f->vm->memory.blocks[0]->host;
}
static bool irq(struct fixture *f, unsigned gsi)
{
    return f->vm->irqs.level[gsi] != 0;
}

static void advance(struct fixture *f, u64 ns)
{
    clock_advance(&f->vm->clock, ns);
    timer_queue_run(&f->vm->timers, clock_now(&f->vm->clock));
}

static void test_identities(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0, 4), 0x12378086);
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 8, 4), 0x06000002);
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x2c, 4), 0x11001af4);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX3, 0, 4), 0x70008086);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX3, 0x0a, 2), 0x0601);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX3, 0x0e, 1), 0x80); /* more functions */
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0, 4), 0x71138086);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0x0a, 2), 0x0680);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0x3c, 2), 0x0109);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0x5b, 1), 2); /* SMM needs no setting up */
}

/* ---- Memory ---- */

static void test_ram_and_hole(void **state)
{
    struct fixture *f = *state;

    set_mem(f, 0x9ffff, 1);
    set_mem(f, 0x100000, 2);
    set_mem(f, RAM - 1, 3);
    assert_int_equal(ram(f)[0x9ffff], 1);
    assert_int_equal(ram(f)[0x100000], 2);
    assert_int_equal(ram(f)[RAM - 1], 3);
    set_mem(f, RAM, 4);
    set_mem(f, 0xa0000, 4);
    set_mem(f, 0xc0000, 4);
    assert_int_equal(mem(f, RAM), 0xff);
    assert_int_equal(mem(f, 0xa0000), 0xff);
    assert_int_equal(mem(f, 0xc0000), 0xff);
    assert_int_equal(ram(f)[0xa0000], 0);
    assert_int_equal(mem(f, 0xf0000), 0x5a);
}

/* Every PAM area in its four states: where reads come from and where writes go. */
static void test_pam(void **state)
{
    struct fixture *f = *state;

    for (unsigned area = 0; area < 13; area++) {
        unsigned reg = area == 0 ? 0x59 : 0x5a + (area - 1) / 2, shift = area == 0 || area % 2 == 0 ? 4 : 0;
        u32 start = area == 0 ? 0xf0000 : 0xc0000 + (area - 1) * 0x4000,
            last = start + (area == 0 ? 0xffff : 0x3fff);
        u8 outside = start >= 0xe0000 ? 0x5a : 0xff;

        for (unsigned attributes = 0; attributes < 4; attributes++) {
            u32 places[] = {start, last};

            cfg_write(f, PC_DEVFN_I440FX, reg, 1, attributes << shift);
            for (unsigned i = 0; i < 2; i++) {
                ram(f)[places[i]] = 0x11;
                set_mem(f, places[i], 0x22);
                assert_int_equal(ram(f)[places[i]], attributes & 2 ? 0x22 : 0x11);
                assert_int_equal(mem(f, places[i]), !(attributes & 1) ? outside : ram(f)[places[i]]);
            }
            if (last != 0xfffff) { /* the neighbour is as it was */
                set_mem(f, last + 1, 0x33);
                assert_int_equal(mem(f, last + 1), last + 1 >= 0xe0000 ? 0x5a : 0xff);
            }
        }
        cfg_write(f, PC_DEVFN_I440FX, reg, 1, 0);
    }
    cfg_write(f, PC_DEVFN_I440FX, 0x59, 4, 0xffffffff);
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x58, 4), 0x33333000);
}

static void test_smram(void **state)
{
    struct fixture *f = *state;
    struct error err = {{0}};

    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x72, 1), 0x02);
    cfg_write(f, PC_DEVFN_I440FX, 0x72, 1, 0x4a); /* open */
    set_mem(f, 0xbffff, 7);
    assert_int_equal(ram(f)[0xbffff], 7);
    cfg_write(f, PC_DEVFN_I440FX, 0x72, 1, 0x6a); /* closed wins */
    assert_int_equal(mem(f, 0xbffff), 0xff);
    cfg_write(f, PC_DEVFN_I440FX, 0x72, 1, 0x5a); /* locked: D_OPEN is cleared and nothing changes any more */
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x72, 1), 0x1a);
    cfg_write(f, PC_DEVFN_I440FX, 0x72, 1, 0x4a);
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x72, 1), 0x1a);
    assert_int_equal(mem(f, 0xbffff), 0xff);
    assert_int_equal(vm_reset(f->vm, &err), 0);
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 0x72, 1), 0x02);
}

static void test_host_bridge_reset_and_fixed_bits(void **state)
{
    struct fixture *f = *state;
    struct error err = {{0}};

    cfg_write(f, PC_DEVFN_I440FX, 4, 2, 0); /* it always masters and decodes */
    assert_int_equal(cfg_read(f, PC_DEVFN_I440FX, 4, 4), 0x02800006);
    cfg_write(f, PC_DEVFN_I440FX, 0x5a, 1, 0x33);
    set_mem(f, 0xc0000, 1);
    assert_int_equal(mem(f, 0xc0000), 1);
    assert_int_equal(vm_reset(f->vm, &err), 0);
    assert_int_equal(mem(f, 0xc0000), 0xff);
    assert_int_equal(in(f, 0xcf8, 4), 0);
}

/* ---- ISA bridge ---- */

static void test_reset_port(void **state)
{
    struct fixture *f = *state;

    out(f, 0xcf9, 1, 0x02);
    assert_int_equal(in(f, 0xcf9, 1), 0x02);
    assert_int_equal(f->vm->requests, 0);
    out(f, 0xcf9, 1, 0x06);
    assert_int_equal(f->vm->requests, VM_REQ_RESET);
    assert_int_equal(in(f, 0xcf9, 1), 0x02);
    f->vm->requests = 0;
    out(f, 0xcf8, 4, 0xffffffff); /* a dword is the configuration address */
    assert_int_equal(f->vm->requests, 0);
}

static const struct pci_ids probe_ids = {.vendor = 0x1234, .device = 1};

static void test_pirq_routing(void **state)
{
    struct fixture *f = *state;
    struct pci_device probes[2];
    struct error err = {{0}};

    for (unsigned i = 0; i < 2; i++) { /* slots 4 and 8 share a PIRQ */
        pci_init(&probes[i], &probe_ids, "probe");
        pci_set_pin(&probes[i], 1);
        assert_int_equal(pci_register(&probes[i], i440fx_bus(f->i440fx), pci_devfn(4 + 4 * i, 0), &err), 0);
    }
    for (unsigned n = 0; n < 4; n++)
        assert_int_equal(cfg_read(f, PC_DEVFN_PIIX3, 0x60 + n, 1), 0x80);
    pci_set_intx(&probes[0], true);
    for (unsigned gsi = 0; gsi < 16; gsi++)
        assert_false(irq(f, gsi));
    cfg_write(f, PC_DEVFN_PIIX3, 0x60 + pc_pirq(4, 1), 1, 11);
    assert_true(irq(f, 11));
    cfg_write(f, PC_DEVFN_PIIX3, 0x60 + pc_pirq(4, 1), 1, 5);
    assert_false(irq(f, 11));
    assert_true(irq(f, 5));
    pci_set_intx(&probes[1], true);
    pci_set_intx(&probes[0], false);
    assert_true(irq(f, 5)); /* the other still asks */
    pci_set_intx(&probes[1], false);
    assert_false(irq(f, 5));
    pci_set_intx(&probes[0], true);
    for (unsigned route = 0; route < 256; route++) { /* 0, 1, 2, 8 and 13 cannot be had */
        bool routable = route < 16 && (0xdef8 >> route & 1);
        u32 levels = 0;

        cfg_write(f, PC_DEVFN_PIIX3, 0x60 + pc_pirq(4, 1), 1, route & 0x8f);
        for (unsigned gsi = 0; gsi < IRQ_GSIS; gsi++)
            levels |= (u32)irq(f, gsi) << gsi;
        if (!(route & 0x70))
            assert_int_equal(levels, routable ? 1u << route : 0);
    }
}

/* ---- Power management ---- */

enum { PM = PC_PORT_PM, TMR = 1, PWRBTN = 1 << 8, SCI_EN = 1, SLP_EN = 1 << 13 };

static void enable_pm(struct fixture *f)
{
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x40, 4, PM | 1);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x80, 1, 1);
}

static void test_pm_block_moves(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, PM + 4, 2), 0xffff);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x40, 4, PM);
    assert_int_equal(in(f, PM + 4, 2), 0xffff); /* not enabled */
    enable_pm(f);
    assert_int_equal(in(f, PM + 4, 2), 0);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0x40, 4), PM | 1);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x40, 4, 0xffffffff);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0x40, 4), 0xffc1);
    assert_int_equal(in(f, PM + 4, 2), 0xffff);
    assert_int_equal(in(f, 0xffc4, 2), 0);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x40, 4, 0xcc0); /* on top of the configuration ports: not there */
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0, 2), 0x8086);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x40, 4, 0);
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0, 2), 0x8086);
}

static void test_pm_timer(void **state)
{
    struct fixture *f = *state;
    u32 before;

    enable_pm(f);
    before = in(f, PM + 8, 4);
    advance(f, 1000000000);
    assert_int_equal(in(f, PM + 8, 4) - before, 3579545);
    assert_int_equal(in(f, PM + 8, 2), in(f, PM + 8, 4) & 0xffff);
    assert_int_equal(in(f, PM + 11, 1), 0); /* 24 bits */
    out(f, PM + 8, 4, 0);
    assert_int_equal(in(f, PM + 8, 4) - before, 3579545);
    advance(f, 100 * (u64)1000000000);
    assert_int_equal(in(f, PM + 8, 4), (u64)101 * 3579545 & 0xffffff);
}

/* The top bit of 24 changes every 2^23 ticks: 2343484437 ns and a bit. */
static void test_pm_timer_overflow(void **state)
{
    struct fixture *f = *state;

    enable_pm(f);
    out(f, PM + 4, 2, SCI_EN);
    advance(f, 2343484437);
    assert_false(in(f, PM, 2) & TMR);
    advance(f, 1);
    assert_true(in(f, PM, 2) & TMR);
    assert_false(irq(f, 9)); /* not enabled */
    out(f, PM, 2, TMR);
    assert_false(in(f, PM, 2) & TMR);
    out(f, PM + 2, 2, TMR);
    assert_false(irq(f, 9));
    advance(f, 2343484437);
    assert_true(irq(f, 9));
    out(f, PM, 2, TMR);
    assert_false(irq(f, 9));
    advance(f, 2343484438);
    assert_true(irq(f, 9));
    out(f, PM + 2, 2, 0);
    assert_false(irq(f, 9));
    assert_true(in(f, PM, 2) & TMR);
}

static void test_power_button(void **state)
{
    struct fixture *f = *state;

    enable_pm(f);
    out(f, PM + 2, 2, PWRBTN);
    out(f, 0xb2, 1, PC_ACPI_ENABLE);
    assert_int_equal(in(f, PM + 4, 2), SCI_EN);
    assert_int_equal(in(f, 0xb2, 1), PC_ACPI_ENABLE);
    assert_true(piix4_pm_power_button(f->pm));
    assert_int_equal(in(f, PM, 2), 0); /* not before the gate */
    gate_drain(&f->vm->gate);
    assert_int_equal(in(f, PM, 2), PWRBTN);
    assert_true(irq(f, 9));
    out(f, PM + 1, 1, PWRBTN >> 8); /* by bytes */
    assert_false(irq(f, 9));
    piix4_pm_power_button(f->pm);
    gate_drain(&f->vm->gate);
    assert_true(irq(f, 9));
    out(f, 0xb2, 1, PC_ACPI_DISABLE);
    assert_false(irq(f, 9));
    assert_int_equal(in(f, PM + 4, 2), 0);
    out(f, 0xb3, 1, 0x77);
    assert_int_equal(in(f, 0xb2, 2), 0x7700 | PC_ACPI_DISABLE);
}

static void test_sleep(void **state)
{
    struct fixture *f = *state;

    enable_pm(f);
    for (unsigned type = 1; type < 8; type++) {
        out(f, PM + 4, 2, type << 10 | SLP_EN);
        assert_int_equal(f->vm->requests, 0);
        assert_int_equal(in(f, PM + 4, 2), type << 10); /* SLP_EN reads as 0 */
    }
    out(f, PM + 4, 2, PC_SLP_TYP_S5 << 10);
    assert_int_equal(f->vm->requests, 0);
    out(f, PM + 5, 1, (PC_SLP_TYP_S5 << 10 | SLP_EN) >> 8); /* the high byte alone */
    assert_int_equal(f->vm->requests, VM_REQ_POWEROFF);
}

static void test_gpe(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, PC_PORT_GPE0, 4), 0);
    out(f, PC_PORT_GPE0, 4, 0xffffffff);
    assert_int_equal(in(f, PC_PORT_GPE0, 4), 0xffff0000); /* nothing happens, everything is enabled */
    assert_false(irq(f, 9));
}

/* A transaction on the bus with nothing on it. */
static void test_smbus(void **state)
{
    enum { SMB = PC_PORT_SMBUS };
    struct fixture *f = *state;

    assert_int_equal(in(f, SMB, 1), 0xff);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0x90, 4, SMB | 1);
    cfg_write(f, PC_DEVFN_PIIX4_PM, 0xd2, 1, 9); /* on, interrupt is IRQ 9 */
    cfg_write(f, PC_DEVFN_PIIX4_PM, 4, 2, 1);
    assert_int_equal(in(f, SMB, 1), 0);
    out(f, SMB + 4, 1, 0xa1);
    out(f, SMB + 3, 1, 0);
    out(f, SMB + 2, 1, 0x48);              /* byte data, go */
    assert_int_equal(in(f, SMB, 1), 0x04); /* device error, not busy */
    assert_int_equal(in(f, SMB + 2, 1), 0x08);
    out(f, SMB, 1, 0x04);
    assert_int_equal(in(f, SMB, 1), 0);
    assert_false(irq(f, 9));
    out(f, SMB + 2, 1, 0x49); /* with interrupt */
    assert_true(irq(f, 9));
    out(f, SMB, 1, 0xff);
    assert_false(irq(f, 9));
    out(f, SMB + 2, 1, 0x02); /* kill */
    assert_int_equal(in(f, SMB, 1), 0x10);
    (void)in(f, SMB + 2, 1);
    for (unsigned i = 0; i < 40; i++)
        out(f, SMB + 7, 1, i);
    (void)in(f, SMB + 2, 1);
    assert_int_equal(in(f, SMB + 7, 1), 32); /* the 33rd byte fell on the first */
}

/* ---- State ---- */

static void test_states(void **state)
{
    struct fixture *f = *state, *other;
    struct device *from[] = {f->i440fx, f->piix3, f->pm}, *to[3];
    void *fresh;
    u64 seed = 31;

    enable_pm(f);
    cfg_write(f, PC_DEVFN_I440FX, 0x5a, 1, 0x33);
    cfg_write(f, PC_DEVFN_PIIX3, 0x60, 1, 5);
    out(f, PM + 2, 2, TMR);
    setup(&fresh);
    other = fresh;
    to[0] = other->i440fx;
    to[1] = other->piix3;
    to[2] = other->pm;
    for (unsigned i = 0; i < 3; i++)
        assert_state_round_trip(from[i]->class->state, from[i], to[i]);
    set_mem(other, 0xc0000, 0x77);
    assert_int_equal(mem(other, 0xc0000), 0x77);
    assert_int_equal(in(other, PM + 2, 2), TMR);
    for (unsigned i = 0; i < 3; i++)
        load_damaged_state(to[i]->class->state, to[i], &seed, 300);
    teardown(&fresh);
}

static void test_hammer(void **state)
{
    static const u16 ports[] = {PM, PC_PORT_SMBUS, PC_PORT_GPE0, 0xb2, 0xcf8};
    static const u8 functions[] = {PC_DEVFN_I440FX, PC_DEVFN_PIIX3, PC_DEVFN_PIIX4_PM};
    struct fixture *f = *state;
    u64 seed = 37;

    for (unsigned i = 0; i < 30000; i++) {
        u64 r = random_u64(&seed);
        unsigned size = 1u << r % 3;

        switch (r >> 8 & 7) {
        case 0:
        case 1: in(f, ports[(r >> 16) % 5] + (r >> 24 & 63), size); break;
        case 2:
        case 3: out(f, ports[(r >> 16) % 5] + (r >> 24 & 63), size, (u32)random_u64(&seed)); break;
        case 4: cfg_write(f, functions[(r >> 16) % 3], r >> 24 & 0xff, size, (u32)random_u64(&seed)); break;
        case 5: cfg_read(f, functions[(r >> 16) % 3], r >> 24 & 0xff, size); break;
        case 6: set_mem(f, 0xa0000 + (r >> 16 & 0x5ffff), (u8)r); break;
        case 7: advance(f, random_u64(&seed) >> 30); break;
        }
    }
    assert_int_equal(cfg_read(f, PC_DEVFN_PIIX4_PM, 0, 4), 0x71138086);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_identities),
        CASE(test_ram_and_hole),
        CASE(test_pam),
        CASE(test_smram),
        CASE(test_host_bridge_reset_and_fixed_bits),
        CASE(test_reset_port),
        CASE(test_pirq_routing),
        CASE(test_pm_block_moves),
        CASE(test_pm_timer),
        CASE(test_pm_timer_overflow),
        CASE(test_power_button),
        CASE(test_sleep),
        CASE(test_gpe),
        CASE(test_smbus),
        CASE(test_states),
        CASE(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
