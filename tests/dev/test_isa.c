/* The ISA chips as devices of a VM: ports, interrupts, memory, the event gate and backends are wired. */
#include "chip_test.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/event_loop.h"
#include "dev/debug_exit.h"
#include "dev/debugcon.h"
#include "dev/fpu_irq.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/i8237.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/mc146818.h"
#include "dev/port92.h"
#include "dev/post80.h"
#include "dev/uart16550.h"
#include "host/char.h"
#include "machine/pc_map.h"
#include "machine/vm.h"
#include "machine/vm_state.h"

struct pc {
    struct vm *vm;
    struct event_loop *loop;
    struct chardev *serial, *console;
    struct device *i8259, *kbc;
    struct watched_line intr;
    struct mem_region ram;
    char directory[32], serial_path[48], console_path[48];
};

static struct device *attach(struct device *device)
{
    struct error err = {0};

    assert_int_equal(device_attach(device, &err), 0);
    return device;
}

static struct chardev *open_chardev(struct pc *pc, const char *kind, const char *path)
{
    struct error err = {0};
    struct chardev *chardev;
    char spec[64];

    snprintf(spec, sizeof(spec), "%s:%s", kind, path);
    chardev = chardev_open(spec, pc->loop, &err);
    assert_string_equal(err.text, "");
    return chardev;
}

static void set_up(struct pc *pc)
{
    struct vm_config config = {
        .name = "isa", .ram_size = MIB(2), .vcpus = 2, .clock = CLOCK_ICOUNT, .rtc_start = 1000000000};
    struct device *hpet, *pit, *rtc, *port92, *uart, *debugcon;
    struct error err = {0};

    *pc = (struct pc){.directory = "/tmp/plastron-isa-XXXXXX"};
    assert_non_null(mkdtemp(pc->directory));
    snprintf(pc->serial_path, sizeof(pc->serial_path), "%s/serial", pc->directory);
    snprintf(pc->console_path, sizeof(pc->console_path), "%s/console", pc->directory);
    pc->loop = event_loop_new(&err);
    pc->serial = open_chardev(pc, "unix", pc->serial_path);
    pc->console = open_chardev(pc, "file", pc->console_path);
    pc->vm = vm_new(&config, &err);
    assert_string_equal(err.text, "");

    pc->i8259 = attach(device_new(pc->vm, &i8259_class, "i8259"));
    i8259_device_connect(pc->i8259, watch_line(&pc->intr));
    pit = attach(device_new(pc->vm, &i8254_class, "i8254"));
    rtc = device_new(pc->vm, &mc146818_class, "mc146818");
    device_set_number(rtc, "start", 1000000000);
    attach(rtc);
    hpet = device_new(pc->vm, &hpet_class, "hpet");
    device_set_pointer(hpet, "pit", pit);
    device_set_pointer(hpet, "rtc", rtc);
    attach(hpet);
    port92 = attach(device_new(pc->vm, &port92_class, "port92"));
    pc->kbc = device_new(pc->vm, &i8042_class, "i8042");
    device_set_pointer(pc->kbc, "port92", port92);
    attach(pc->kbc);
    attach(device_new(pc->vm, &i8237_class, "i8237"));
    attach(device_new(pc->vm, &post80_class, "post80"));
    attach(device_new(pc->vm, &fpu_irq_class, "fpu_irq"));
    attach(device_new(pc->vm, &debug_exit_class, "debug_exit"));
    debugcon = device_new(pc->vm, &debugcon_class, "debugcon0");
    device_set_pointer(debugcon, "chardev", pc->console);
    attach(debugcon);
    uart = device_new(pc->vm, &uart16550_class, "serial0");
    device_set_pointer(uart, "chardev", pc->serial);
    attach(uart);
    pc->ram = (struct mem_region){.size = config.ram_size,
                                  .enabled = true,
                                  .read = true,
                                  .write = true,
                                  .block = pc->vm->memory.blocks[0],
                                  .name = "ram"};
    assert_int_equal(memory_add_region(&pc->vm->memory, &pc->ram, &err), 0);
    memory_commit(&pc->vm->memory);
    assert_int_equal(vm_reset(pc->vm, &err), 0);
}

static void tear_down(struct pc *pc)
{
    vm_free(pc->vm);
    chardev_close(pc->serial);
    chardev_close(pc->console);
    event_loop_free(pc->loop);
    unlink(pc->console_path);
    rmdir(pc->directory);
}

static u8 in(struct pc *pc, u32 port)
{
    return (u8)port_read(&pc->vm->ports, port, 1);
}
static void out(struct pc *pc, u32 port, u8 value)
{
    port_write(&pc->vm->ports, port, 1, value);
}

static void run(struct pc *pc, u64 ns)
{
    clock_advance(&pc->vm->clock, ns);
    timer_queue_run(&pc->vm->timers, clock_now(&pc->vm->clock));
}

static void program_i8259(struct pc *pc)
{
    static const u8 bytes[] = {0x11, 0x20, 0x04, 0x01};

    for (int i = 0; i < 4; i++) {
        out(pc, i ? 0x21 : 0x20, bytes[i]);
        out(pc, i ? 0xa1 : 0xa0, (u8)(i == 1 ? 0x28 : i == 2 ? 2 : bytes[i]));
    }
    out(pc, 0x21, 0);
    out(pc, 0xa1, 0);
}

/* The vector that the processor gets now, or -1; with the ends of the interrupt. */
static int interrupt(struct pc *pc)
{
    int vector;

    if (!pc->intr.level)
        return -1;
    vector = i8259_ack(i8259_device_pair(pc->i8259));
    if (vector >= 0x28)
        out(pc, 0xa0, 0x20);
    out(pc, 0x20, 0x20);
    return vector;
}

static void test_timer_clock_and_keyboard_interrupt(void **state)
{
    struct pc pc;

    set_up(&pc);
    program_i8259(&pc);
    assert_int_equal(interrupt(&pc), -1);
    out(&pc, 0x43, 0x34);
    out(&pc, 0x40, 0xa9);
    out(&pc, 0x40, 0x04);
    run(&pc, 1001000);
    assert_int_equal(interrupt(&pc), 0x20);
    out(&pc, 0x21, 0x01);
    out(&pc, 0x70, 0x0b);
    out(&pc, 0x71, 0x12);
    run(&pc, 1000000000);
    assert_int_equal(interrupt(&pc), 0x28);
    out(&pc, 0x70, 0x0c);
    in(&pc, 0x71);
    out(&pc, 0x70, 0x00);
    assert_int_equal(in(&pc, 0x71), 0x41); /* 1000000000 is 01:46:40 */
    assert_true(i8042_post_key(pc.kbc, (unsigned)ps2_key_number("a"), true));
    assert_true(i8042_post_set2(pc.kbc, (const u8 *)"\xf0\x1c", 2));
    assert_true(i8042_post_mouse(pc.kbc, 1, 2, 3, 0));
    assert_int_equal(gate_drain(&pc.vm->gate), 4); /* and the UART's line that is ready */
    run(&pc, 1000000);
    assert_int_equal(interrupt(&pc), 0x21);
    assert_int_equal(in(&pc, 0x60), 0x1e);
    run(&pc, 1000000);
    assert_int_equal(interrupt(&pc), 0x21);
    assert_int_equal(in(&pc, 0x60), 0x9e);
    tear_down(&pc);
}

static void test_hpet_replaces_timer_and_clock(void **state)
{
    struct pc pc;
    struct memory *memory;

    set_up(&pc);
    memory = &pc.vm->memory;
    program_i8259(&pc);
    out(&pc, 0x43, 0x34);
    out(&pc, 0x40, 0xa9);
    out(&pc, 0x40, 0x04);
    interrupt(&pc);
    assert_int_equal(memory_read(memory, PC_HPET_BASE, 4), PC_HPET_ID);
    memory_write(memory, PC_HPET_BASE + 0x100, 4, 4);
    memory_write(memory, PC_HPET_BASE + 0x108, 8, 1000);
    memory_write(memory, PC_HPET_BASE + 0x10, 4, 3);
    run(&pc, 9999);
    assert_int_equal(interrupt(&pc), -1);
    run(&pc, 1);
    assert_int_equal(interrupt(&pc), 0x20);
    run(&pc, 10000000);
    assert_int_equal(interrupt(&pc), -1); /* the 8254 is silent */
    memory_write(memory, PC_HPET_BASE + 0x10, 4, 1);
    run(&pc, 10000000);
    assert_int_equal(interrupt(&pc), 0x20);
    tear_down(&pc);
}

static void test_a20_has_two_writers(void **state)
{
    struct pc pc;

    set_up(&pc);
    assert_true(pc.vm->memory.a20_mask == UINT64_MAX);
    out(&pc, 0x92, 0);
    assert_true(pc.vm->memory.a20_mask == ~MIB(1));
    out(&pc, 0x64, 0xd1);
    out(&pc, 0x60, 0xdf);
    assert_true(pc.vm->memory.a20_mask == UINT64_MAX);
    assert_int_equal(in(&pc, 0x92), 2);
    tear_down(&pc);
}

static void test_fpu_errors_are_irq_13(void **state)
{
    struct pc pc;
    struct vcpu *vcpu;

    set_up(&pc);
    vcpu = pc.vm->vcpus[0];
    program_i8259(&pc);
    assert_false(vcpu_fpu_error(vcpu, true));
    assert_int_equal(interrupt(&pc), 0x2d);
    out(&pc, 0xf0, 0); /* as the handler does */
    assert_true(vcpu_fpu_error(vcpu, true));
    assert_int_equal(interrupt(&pc), -1);
    assert_false(vcpu_fpu_error(vcpu, false)); /* FNINIT */
    assert_false(vcpu_fpu_error(vcpu, true));
    assert_int_equal(interrupt(&pc), 0x2d);
    assert_true(vcpu_fpu_error(pc.vm->vcpus[1], true)); /* not wired */
    tear_down(&pc);
}

static void test_dma_reaches_guest_memory(void **state)
{
    struct pc pc;
    struct i8237_pair *dma;
    u8 byte = 0x5a;
    bool tc;

    set_up(&pc);
    dma = i8237_of(device_find(pc.vm, "i8237"));
    out(&pc, 0xd6, 0xc0);
    out(&pc, 0xd4, 0);
    out(&pc, 0x0b, 0x46);
    out(&pc, 0x04, 0x34);
    out(&pc, 0x04, 0x12);
    out(&pc, 0x05, 0);
    out(&pc, 0x05, 0);
    out(&pc, 0x81, 0x08);
    out(&pc, 0x0a, 2);
    assert_int_equal(i8237_transfer(dma, 2, true, &byte, 1, &tc), 1);
    assert_true(tc);
    assert_int_equal(memory_read(&pc.vm->memory, 0x81234, 1), 0x5a);
    assert_int_equal(in(&pc, 0x81), 0x08);
    tear_down(&pc);
}

static void test_debug_ports(void **state)
{
    struct pc pc;
    char text[16] = "";
    FILE *file;

    set_up(&pc);
    out(&pc, 0x80, 0x77);
    assert_int_equal(in(&pc, 0x80), 0x77);
    assert_int_equal(in(&pc, 0xe9), 0xe9);
    for (const char *p = "boot\n"; *p; p++)
        out(&pc, 0xe9, (u8)*p);
    event_loop_run_once(pc.loop, 0);
    file = fopen(pc.console_path, "r");
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    assert_string_equal(text, "boot\n");
    assert_int_equal(port_read(&pc.vm->ports, 0xf4, 4), 0);
    port_write(&pc.vm->ports, 0xf4, 4, 0x10);
    assert_int_equal(pc.vm->exit_code, 0x21);
    assert_int_equal(pc.vm->requests, VM_REQ_DEBUG_EXIT);
    tear_down(&pc);
}

static void test_serial_line_goes_through_the_gate(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct pc pc;
    char text[100];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    unsigned received = 0;

    set_up(&pc);
    strcpy(address.sun_path, pc.serial_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    for (unsigned i = 0; i < sizeof(text); i++)
        text[i] = (char)('0' + i);
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    while (received < sizeof(text)) {
        event_loop_run_once(pc.loop, 0);
        assert_int_equal(in(&pc, 0x3fd) & 1, 0); /* nothing enters but by the gate */
        gate_drain(&pc.vm->gate);
        while (in(&pc, 0x3fd) & 1) {
            assert_int_equal(in(&pc, 0x3f8), '0' + received);
            received++;
        }
    }
    out(&pc, 0x3f8, 'x');
    event_loop_run_once(pc.loop, 0);
    assert_int_equal(read(fd, text, sizeof(text)), 1);
    assert_int_equal(text[0], 'x');
    close(fd);
    tear_down(&pc);
}

/* A guest that hammers every port with every width, and one page of the HPET. */
static void test_all_ports_hammered(void **state)
{
    struct pc pc;
    u64 seed = 8;

    set_up(&pc);
    for (unsigned i = 0; i < 200000; i++) {
        static const u16 bases[] = {0x00, 0x20, 0x40, 0x60, 0x70,  0x80, 0x90,
                                    0xa0, 0xc0, 0xe0, 0xf0, 0x3f0, 0x4d0};
        u32 port = (u32)(bases[random_u64(&seed) % ARRAY_SIZE(bases)] + random_u64(&seed) % 32);
        unsigned size = 1u << random_u64(&seed) % 3;
        u64 offset = random_u64(&seed) % 0x200 & ~UINT64_C(7), value = random_u64(&seed);

        switch (random_u64(&seed) % 4) {
        case 0: port_read(&pc.vm->ports, port, size); break;
        case 1: memory_write(&pc.vm->memory, PC_HPET_BASE + offset, 8, value); break;
        default: port_write(&pc.vm->ports, port, size, (u32)value); break;
        }
        if (pc.intr.level && value & 1)
            i8259_ack(i8259_device_pair(pc.i8259));
        run(&pc, random_u64(&seed) >> (63 - random_u64(&seed) % 22));
        if (i % 1024 == 0)
            event_loop_run_once(pc.loop, 0);
    }
    assert_true(pc.vm->requests & VM_REQ_RESET);
    tear_down(&pc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timer_clock_and_keyboard_interrupt),
        cmocka_unit_test(test_hpet_replaces_timer_and_clock),
        cmocka_unit_test(test_a20_has_two_writers),
        cmocka_unit_test(test_fpu_errors_are_irq_13),
        cmocka_unit_test(test_dma_reaches_guest_memory),
        cmocka_unit_test(test_debug_ports),
        cmocka_unit_test(test_serial_line_goes_through_the_gate),
        cmocka_unit_test(test_all_ports_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
