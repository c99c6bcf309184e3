/* The board pc-1 as a whole: wiring, interrupts through the real chips, reset, snapshots, and guests that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "board/pc.h"
#include "machine/vm_state.h"
#include "snapshot/snapshot.h"

static struct pc_config base_config(unsigned vcpus)
{
    struct pc_config config = {.vm = {.name = "test",
                                      .ram_size = MIB(16),
                                      .vcpus = vcpus,
                                      .clock = CLOCK_ICOUNT,
                                      .random_seed = 1,
                                      .rtc_start = 1000000000}};
    struct error err = {.text = ""};

    if (cpu_model_parse("v2", &config.vm.cpu, &err))
        fail_msg("%s", err.text);
    return config;
}

static struct vm *new_pc(unsigned vcpus)
{
    struct pc_config config = base_config(vcpus);
    struct error err = {.text = ""};
    struct vm *vm = pc_new(&config, false, &err);

    if (!vm)
        fail_msg("%s", err.text);
    return vm;
}

static bool same(struct vm *a, struct vm *b)
{
    struct vm_hash x = vm_state_hash(a), y = vm_state_hash(b);

    return x.low == y.low && x.high == y.high;
}

/* ---- Wiring ---- */

static u32 pci_id(struct vm *vm, u32 devfn)
{
    struct vcpu *vcpu = vm->vcpus[0];

    vcpu_port_write(vcpu, PC_PORT_PCI_ADDRESS, 4, 0x80000000 | devfn << 8);
    return vcpu_port_read(vcpu, PC_PORT_PCI_DATA, 4);
}

static void test_chips_are_where_they_belong(void **state)
{
    struct vm *vm = new_pc(1);

    assert_string_equal(vm->board_name, "pc-1");
    assert_int_equal(pci_id(vm, PC_DEVFN_I440FX), 0x12378086);
    assert_int_equal(pci_id(vm, PC_DEVFN_PIIX3), 0x70008086);
    assert_int_equal(pci_id(vm, PC_DEVFN_PIIX4_PM), 0x71138086);
    for (unsigned slot = 2; slot < PC_SLOTS; slot++)
        assert_true(pci_id(vm, PC_DEVFN(slot, 0)) == 0xffffffff);
    /* A UART answers at each of the four places: its scratch register keeps what is written. */
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++)
        vcpu_port_write(vm->vcpus[0], pc_serial_port(i) + 7u, 1, 0x50 + i);
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++)
        assert_int_equal(vcpu_port_read(vm->vcpus[0], pc_serial_port(i) + 7u, 1), 0x50 + i);
    assert_int_equal(vcpu_mmio_read(vm->vcpus[0], PC_LAPIC_BASE + 0x30, 4) & 0xff, 0x14);
    vm_free(vm);
}

struct names {
    const char *names[256];
    unsigned count;
};

static void note_name(void *opaque, const struct state_section *section)
{
    struct names *names = opaque;

    for (unsigned i = 0; i < names->count; i++)
        assert_string_not_equal(names->names[i], section->name);
    names->names[names->count++] = strdup(section->name);
}

static void test_sections_have_names_of_their_own(void **state)
{
    struct vm *vm = new_pc(64);
    struct names names = {.count = 0};

    vm_state_sections(vm, note_name, &names);
    assert_true(names.count > 64 * 3);
    while (names.count)
        free((char *)names.names[--names.count]);
    vm_free(vm);
}

static void assert_fails(const struct pc_config *config, const char *why)
{
    struct error err = {.text = ""};

    assert_null(pc_new(config, false, &err));
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_bad_configurations(void **state)
{
    struct pc_config config = base_config(1);

    config.engine = "turtle";
    assert_fails(&config, "engine turtle");
    config = base_config(1);
    config.kernel = "/nonexistent/vmlinuz";
    assert_fails(&config, "/nonexistent/vmlinuz");
    config = base_config(1);
    config.firmware = "/nonexistent/bios.bin";
    assert_fails(&config, "/nonexistent/bios.bin");
    config.kernel = "/nonexistent/vmlinuz";
    assert_fails(&config, "cannot both be given");
    config = base_config(0);
    assert_fails(&config, "0 CPUs");
    config = base_config(1);
    config.vm.ram_size = 1ull << 41;
    assert_fails(&config, "addresses reach to 1048576 MiB");
    assert_string_equal(pc_engine_name(0), "jit"); /* what "auto" takes */
    assert_null(pc_engine_name(99));
}

/* ---- A guest that counts timer interrupts ---- */

enum { COUNTER = 0x600, PROGRAM = 0x7c00, HANDLER = 0x7d00 };

static const u8 program[] = {
    0xb0, 0x11, 0xe6, 0x20, /* mov al, 11h; out 20h, al: ICW1, with ICW4 */
    0xb0, 0x08, 0xe6, 0x21, /* ICW2: vectors from 8 */
    0xb0, 0x04, 0xe6, 0x21, /* ICW3 */
    0xb0, 0x01, 0xe6, 0x21, /* ICW4 */
    0xb0, 0xfe, 0xe6, 0x21, /* all masked but input 0 */
    0xb0, 0x34, 0xe6, 0x43, /* counter 0: mode 2, both bytes */
    0xb0, 0xe8, 0xe6, 0x40, /* 1000 */
    0xb0, 0x03, 0xe6, 0x40, /* */
    0xfb,                   /* sti */
    0xf4,                   /* hlt */
    0xff, 0x06, 0x02, 0x06, /* inc word [602h] */
    0xeb, 0xf9,             /* jmp to the hlt */
};
static const u8 handler[] = {
    0xff, 0x06, 0x00, 0x06, /* inc word [600h] */
    0xb0, 0x20, 0xe6, 0x20, /* end of interrupt */
    0xcf,                   /* iret */
};

static void poke(struct vm *vm, u64 at, const void *bytes, size_t len)
{
    assert_true(memory_poke(&vm->memory, at, bytes, len));
}

static void load_counting_guest(struct vm *vm)
{
    struct vcpu *vcpu = vm->vcpus[0];
    static const u16 vector[2] = {HANDLER, 0};

    poke(vm, PROGRAM, program, sizeof(program));
    poke(vm, HANDLER, handler, sizeof(handler));
    poke(vm, 8 * 4, vector, sizeof(vector));
    vcpu->state.seg[SEG_CS].selector = 0;
    vcpu->state.seg[SEG_CS].base = 0;
    vcpu->state.rip = PROGRAM;
    vcpu->state.gpr[RSP] = PROGRAM;
    /* Virtual wire mode, as firmware sets it up: LINT0 passes the i8259 on. */
    vcpu_mmio_write(vcpu, PC_LAPIC_BASE + 0xf0, 4, 0x1ff);
    vcpu_mmio_write(vcpu, PC_LAPIC_BASE + 0x350, 4, 0x700);
    vcpu->engine->state_changed(vcpu);
}

static u16 word_at(struct vm *vm, u64 at)
{
    u16 value = 0;

    assert_true(dma_read(&vm->memory, at, &value, sizeof(value)));
    return value;
}

static void test_timer_interrupts_arrive(void **state)
{
    struct vm *vm = new_pc(1);
    u64 expected;

    load_counting_guest(vm);
    assert_int_equal(vm_run(vm, 3000), VM_STOP_BUDGET);
    /* 1000 ticks of 1.193182 MHz are 838095 ns, to which the clock is warped from halt to halt. */
    expected = clock_now(&vm->clock) / 838095;
    assert_true(expected > 400);
    assert_in_range(word_at(vm, COUNTER), expected - 1, expected + 1);
    assert_in_range(word_at(vm, COUNTER + 2), expected - 2, expected + 1);
    vm_free(vm);
}

static void test_two_runs_are_one(void **state)
{
    struct vm *a = new_pc(2), *b = new_pc(2);

    load_counting_guest(a);
    load_counting_guest(b);
    vm_run(a, 5000);
    for (unsigned i = 0; i < 50; i++)
        vm_run(b, 100);
    assert_true(word_at(a, COUNTER) > 400);
    assert_true(same(a, b));
    vm_free(a);
    vm_free(b);
}

/* Saved in the middle, restored in a second machine; both go on alike. */
static void test_snapshot_in_the_middle(void **state)
{
    struct vm *a = new_pc(2), *b = new_pc(2);
    char path[] = "/tmp/plastron-pc-XXXXXX";
    struct error err = {.text = ""};
    struct snapshot *snapshot;

    close(mkstemp(path));
    load_counting_guest(a);
    for (unsigned i = 0; i < 20; i++) {
        vm_run(a, 97);
        if (snapshot_save(a, path, "", &err))
            fail_msg("%s", err.text);
        snapshot = snapshot_open(path, &err);
        if (!snapshot || snapshot_restore(snapshot, b, &err))
            fail_msg("%s", err.text);
        snapshot_close(snapshot);
        assert_true(same(a, b));
        vm_run(a, 333);
        vm_run(b, 333);
        assert_true(same(a, b));
    }
    unlink(path);
    vm_free(a);
    vm_free(b);
}

/* Two processors that spin with PAUSE, which ends a turn: also where a run is cut, and a snapshot taken, right after it. */
static void load_spinning_guest(struct vm *vm)
{
    static const u8 spin[] = {0xf3, 0x90, 0x43, 0xeb, 0xfb}; /* pause; inc bx; jmp */

    poke(vm, PROGRAM, spin, sizeof(spin));
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];

        vcpu->state.seg[SEG_CS].selector = 0;
        vcpu->state.seg[SEG_CS].base = 0;
        vcpu->state.rip = PROGRAM;
        vcpu->state.activity = VCPU_RUNNING;
        vcpu->engine->state_changed(vcpu);
    }
}

static void test_turns_end_alike_however_a_run_is_cut(void **state)
{
    struct vm *whole = new_pc(2), *cut = new_pc(2), *restored = new_pc(2);
    char path[] = "/tmp/plastron-pc-XXXXXX";
    struct error err = {.text = ""};

    close(mkstemp(path));
    load_spinning_guest(whole);
    load_spinning_guest(cut);
    vm_run(whole, 12);
    for (unsigned i = 0; i < 6; i++) {
        struct snapshot *snapshot = NULL;

        assert_int_equal(vm_run(cut, 1), VM_STOP_BUDGET);
        if (snapshot_save(cut, path, "", &err) || !(snapshot = snapshot_open(path, &err)) ||
            snapshot_restore(snapshot, restored, &err))
            fail_msg("%s", err.text);
        snapshot_close(snapshot);
        assert_int_equal(vm_run(restored, 11 - i), VM_STOP_BUDGET);
        assert_true(same(whole, restored));
    }
    assert_true(whole->vcpus[0]->state.icount > 2 && whole->vcpus[1]->state.icount > 2);
    unlink(path);
    vm_free(whole);
    vm_free(cut);
    vm_free(restored);
}

/* ---- Reset ---- */

static void print_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    FILE *out = opaque;

    /* Times differ, and what a timer that is not armed holds tells nothing of a chip. */
    if (strcmp(field->name, "order") == 0 || strstr(field->name, "_ns"))
        return;
    fprintf(out, " %s=%llx", path, (unsigned long long)value);
}

/* Every device's state as text, without what a reset leaves: the time, and what runs on batteries. */
static void print_section(void *opaque, const struct state_section *section)
{
    struct state_visitor visitor = {.value = print_value, .opaque = opaque};

    if (strcmp(section->name, "vm") == 0 || strcmp(section->name, "mc146818") == 0 ||
        strcmp(section->name, "i8254") == 0 || strncmp(section->name, "vcpu", 4) == 0)
        return;
    fprintf(opaque, "\n%s:", section->name);
    state_visit(section->table, section->object, &visitor);
}

static char *state_text(struct vm *vm)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    vm_state_sections(vm, print_section, out);
    fclose(out);
    return text;
}

/* One word at a time, so that a failure tells which field. Takes the texts apart. */
static void assert_same_words(char *a, char *b)
{
    char *rest_a, *rest_b, *x = strtok_r(a, " \n", &rest_a), *y = strtok_r(b, " \n", &rest_b);
    const char *section = "";

    while (x && y) {
        if (strchr(x, ':'))
            section = x;
        if (strcmp(x, y) != 0)
            fail_msg("%s %s is not %s", section, x, y);
        x = strtok_r(NULL, " \n", &rest_a);
        y = strtok_r(NULL, " \n", &rest_b);
    }
    assert_true(!x && !y);
}

static void test_reset_is_power_up(void **state)
{
    struct vm *vm = new_pc(2);
    struct error err = {.text = ""};
    char *fresh = state_text(vm), *again;

    load_counting_guest(vm);
    vm_run(vm, 2000);
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++) {
        for (unsigned reg = 0; reg < 8; reg++)
            vcpu_port_write(vm->vcpus[0], pc_serial_port(i) + reg, 1, 0xff);
    }
    pci_id(vm, PC_DEVFN_I440FX);
    vcpu_port_write(vm->vcpus[0], PC_PORT_PCI_ADDRESS, 4, 0x80000058); /* PAM */
    vcpu_port_write(vm->vcpus[0], PC_PORT_PCI_DATA, 4, 0x33333333);
    again = state_text(vm);
    assert_string_not_equal(fresh, again);
    free(again);
    if (vm_reset(vm, &err))
        fail_msg("%s", err.text);
    again = state_text(vm);
    assert_same_words(fresh, again);
    free(fresh);
    free(again);
    vm_free(vm);
}

static void test_reset_button_goes_through_the_gate(void **state)
{
    struct vm *vm = new_pc(1);

    vm->config.no_reboot = true;
    load_counting_guest(vm);
    assert_true(pc_reset_button(vm));
    assert_int_equal(vm_run(vm, 1000), VM_STOP_RESET);
    assert_int_equal(vm->vcpus[0]->state.icount, 0);
    vm_free(vm);
}

/* ---- A guest that means harm ---- */

/* Every port, every width, several values, twice: each answer is some answer, and the machine goes on. */
static void test_every_port_hammered(void **state)
{
    static const u32 values[] = {0, 0xffffffff, 0x80000058, 0x5a5a5a5a, 0x06};
    struct vm *vm = new_pc(2);
    struct vcpu *vcpu = vm->vcpus[0];
    struct error err = {.text = ""};
    u64 sum = 0;

    for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
        for (u32 port = 0; port < 0x10000; port++) {
            for (unsigned size = 1; size <= 4; size *= 2) {
                vcpu_port_write(vcpu, port, size, values[v]);
                sum += vcpu_port_read(vcpu, port, size);
            }
        }
        vm_run(vm, 20000);
    }
    assert_true(sum > 0);
    assert_int_equal(vm_reset(vm, &err), 0);
    __atomic_store_n(&vm->requests, 0, __ATOMIC_SEQ_CST);
    load_counting_guest(vm);
    assert_int_equal(vm_run(vm, 3000), VM_STOP_BUDGET);
    assert_true(word_at(vm, COUNTER) > 100); /* after all that, a reset gives a machine that works */
    vm_free(vm);
}

static void test_every_register_page_hammered(void **state)
{
    static const u64 pages[] = {PC_IOAPIC_BASE, PC_LAPIC_BASE, PC_HPET_BASE, 0xa0000,     0xc0000,
                                0xf0000,        PC_PCI_HOLE,   0xffff0000,   PC_HIGH_RAM, 1ull << 39};
    struct vm *vm = new_pc(2);
    u64 random = 1, sum = 0;

    for (unsigned round = 0; round < 200000; round++) {
        struct vcpu *vcpu = vm->vcpus[round & 1];
        unsigned size;
        u64 at;

        random = random * 6364136223846793005 + 1442695040888963407;
        size = 1u << (random >> 62);
        at = pages[(random >> 50) % ARRAY_SIZE(pages)] + ((random >> 20) & 0xfff);
        if ((at & 0xfff) + size > 0x1000)
            continue;
        if (random >> 49 & 1)
            vcpu_mmio_write(vcpu, at, size, random * 0x9e3779b97f4a7c15);
        else
            sum += vcpu_mmio_read(vcpu, at, size);
        if (round % 1000 == 0)
            vm_run(vm, 1000);
    }
    assert_true(sum > 0);
    vm_free(vm);
}

/* Timers set to the shortest periods there are: the guest gets on, and the run ends. */
static void check_fast_timers(enum clock_driver clock)
{
    struct pc_config config = base_config(1);
    struct error err = {.text = ""};
    const u16 vector[2] = {HANDLER + sizeof(handler) - 1, 0}; /* its IRET */
    struct vcpu *vcpu;
    struct vm *vm;

    config.vm.clock = clock;
    vm = pc_new(&config, false, &err);
    if (!vm)
        fail_msg("%s", err.text);
    vcpu = vm->vcpus[0];
    load_counting_guest(vm);
    poke(vm, 0x40 * 4, vector, sizeof(vector));
    assert_int_equal(vm_run(vm, 100), VM_STOP_BUDGET);        /* its own set-up of the 8254 is behind it */
    vcpu_mmio_write(vcpu, PC_LAPIC_BASE + 0x3e0, 4, 0xb);     /* bus clock divided by 1 */
    vcpu_mmio_write(vcpu, PC_LAPIC_BASE + 0x320, 4, 0x20040); /* periodic, vector 40h, which does IRET */
    vcpu_mmio_write(vcpu, PC_LAPIC_BASE + 0x380, 4, 1);
    vcpu_mmio_write(vcpu, PC_HPET_BASE + 0x100, 8,
                    0x4c); /* comparator 0: periodic, enabled, value settable */
    vcpu_mmio_write(vcpu, PC_HPET_BASE + 0x108, 8, 1);
    vcpu_mmio_write(vcpu, PC_HPET_BASE + 0x108, 8, 1);
    vcpu_mmio_write(vcpu, PC_HPET_BASE + 0x10, 8, 1);
    vcpu_port_write(vcpu, PC_PORT_PIT + 3, 1, 0x14); /* counter 0: mode 2, low byte */
    vcpu_port_write(vcpu, PC_PORT_PIT, 1, 1);
    vcpu_port_write(vcpu, PC_PORT_CMOS, 1, 0xa);
    vcpu_port_write(vcpu, PC_PORT_CMOS + 1, 1, 0x21); /* 8192 Hz */
    vcpu_port_write(vcpu, PC_PORT_CMOS, 1, 0xb);
    vcpu_port_write(vcpu, PC_PORT_CMOS + 1, 1, 0x42);
    assert_int_equal(vm_run(vm, 20000), VM_STOP_BUDGET);
    vm_free(vm);
}

static void test_fast_timers(void **state)
{
    check_fast_timers(CLOCK_ICOUNT);
    check_fast_timers(CLOCK_HOST);
}

static void test_smallest_memory(void **state)
{
    struct pc_config config = base_config(1);
    struct error err = {.text = ""};
    struct vm *vm;

    config.vm.ram_size = PAGE_SIZE;
    vm = pc_new(&config, false, &err);
    if (!vm)
        fail_msg("%s", err.text);
    assert_int_equal(vm_run(vm, 10000), VM_STOP_BUDGET);
    vm_free(vm);
}

/* A handler that faults for ever retires nothing; the run ends all the same, and timers fire. */
static void test_endless_faults(void **state)
{
    static const u8 ud2[] = {0x0f, 0x0b};
    struct vm *vm = new_pc(2);
    struct vcpu *vcpu = vm->vcpus[0];

    poke(vm, 0, ud2, sizeof(ud2)); /* vector 6 is all zero: its handler is this same instruction */
    vcpu->state.seg[SEG_CS].selector = 0;
    vcpu->state.seg[SEG_CS].base = 0;
    vcpu->state.seg[SEG_SS].selector = 0x2000;
    vcpu->state.seg[SEG_SS].base = 0x20000;
    vcpu->state.rip = 0;
    vcpu->engine->state_changed(vcpu);
    assert_int_equal(vm_run(vm, 100000), VM_STOP_BUDGET);
    assert_int_equal(clock_now(&vm->clock), 100000);
    assert_int_equal(vcpu->state.rip, 0);
    vm_free(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chips_are_where_they_belong),
        cmocka_unit_test(test_sections_have_names_of_their_own),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_timer_interrupts_arrive),
        cmocka_unit_test(test_two_runs_are_one),
        cmocka_unit_test(test_snapshot_in_the_middle),
        cmocka_unit_test(test_turns_end_alike_however_a_run_is_cut),
        cmocka_unit_test(test_reset_is_power_up),
        cmocka_unit_test(test_reset_button_goes_through_the_gate),
        cmocka_unit_test(test_every_port_hammered),
        cmocka_unit_test(test_every_register_page_hammered),
        cmocka_unit_test(test_fast_timers),
        cmocka_unit_test(test_smallest_memory),
        cmocka_unit_test(test_endless_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
