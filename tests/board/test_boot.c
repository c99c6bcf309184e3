/* Direct kernel boot on the real chips: what the firmware code leaves behind, and that a reset does all of it again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "board/pc.h"

enum { LOAD_AT = 0x100000, HEADER_SIZE = 32 };

/* 32-bit code, loaded right behind the multiboot header. */
static const u8 reset_once_then_off[] = {
    0xb0, 0x60, 0xe6, 0x70,                                     /* CMOS byte 60h: */
    0xe4, 0x71, 0x3c, 0x5a,                                     /* is it 5Ah? */
    0x74, 0x1b,                                                 /* je off */
    0xb0, 0x60, 0xe6, 0x70, 0xb0, 0x5a, 0xe6, 0x71,             /* make it 5Ah, */
    0xc7, 0x05, 0x45, 0x00, 0x10, 0x00, 0xf4, 0xf4, 0xf4, 0xf4, /* spoil the code at `off`, */
    0xb0, 0x06, 0x66, 0xba, 0xf9, 0x0c, 0xee,                   /* and reset by port CF9h */
    0xeb, 0xfe,
    /* off: PM1 control at 604h, SLP_EN with the type of S5 */
    0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef, 0xeb, 0xfe};

static void put_u32(u8 *at, u32 value)
{
    memcpy(at, &value, sizeof(value));
}

/* A machine with that code as its kernel; the file may go when it is made. */
static struct vm *new_pc(unsigned vcpus, const u8 *code, size_t len, int *fd)
{
    struct pc_config config = {.vm = {.name = "test",
                                      .ram_size = MIB(16),
                                      .vcpus = vcpus,
                                      .clock = CLOCK_ICOUNT,
                                      .random_seed = 1,
                                      .rtc_start = 1000000000}};
    u8 header[HEADER_SIZE] = {0};
    struct error err = {.text = ""};
    char path[40];
    struct vm *vm;

    *fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(*fd >= 0);
    put_u32(header, 0x1badb002);
    put_u32(header + 4, 1 << 16);
    put_u32(header + 8, -(0x1badb002u + (1 << 16)));
    put_u32(header + 12, LOAD_AT);
    put_u32(header + 16, LOAD_AT);
    put_u32(header + 28, LOAD_AT + HEADER_SIZE);
    assert_int_equal(write(*fd, header, sizeof(header)), sizeof(header));
    assert_int_equal(write(*fd, code, len), len);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    config.kernel = path;
    if (cpu_model_parse("v2", &config.vm.cpu, &err))
        fail_msg("%s", err.text);
    vm = pc_new(&config, false, &err);
    if (!vm)
        fail_msg("%s", err.text);
    return vm;
}

static u32 config_read(struct vm *vm, u32 devfn, u32 reg, unsigned size)
{
    vcpu_port_write(vm->vcpus[0], PC_PORT_PCI_ADDRESS, 4, 0x80000000 | devfn << 8 | (reg & 0xfc));
    return vcpu_port_read(vm->vcpus[0], PC_PORT_PCI_DATA + (reg & 3), size);
}

static void test_reset_loads_the_kernel_again(void **state)
{
    int fd;
    struct vm *vm = new_pc(1, reset_once_then_off, sizeof(reset_once_then_off), &fd);

    assert_int_equal(vm_run(vm, 100000), VM_STOP_POWEROFF);
    vm_free(vm);
    close(fd);
}

/* The file is gone when the guest resets: the VM stops with an error that names it. */
static void test_kernel_that_vanished(void **state)
{
    int fd;
    struct vm *vm = new_pc(1, reset_once_then_off, sizeof(reset_once_then_off), &fd);

    close(fd);
    assert_int_equal(vm_run(vm, 100000), VM_STOP_ERROR);
    assert_non_null(strstr(vm->stop_error.text, "kernel /proc/self/fd/"));
    vm_free(vm);
}

static void check_machine(struct vm *vm)
{
    struct vcpu *bsp = vm->vcpus[0];
    bool found = false;

    for (unsigned pirq = 0; pirq < PC_PIRQS; pirq++)
        assert_int_equal(config_read(vm, PC_DEVFN_PIIX3, 0x60 + pirq, 1), pc_pirq_irq(pirq));
    assert_int_equal(config_read(vm, PC_DEVFN_PIIX4_PM, 0x40, 4), PC_PORT_PM | 1);
    assert_int_equal(config_read(vm, PC_DEVFN_PIIX4_PM, 0x90, 4), PC_PORT_SMBUS | 1);
    assert_int_equal(config_read(vm, PC_DEVFN_PIIX4_PM, 0x3c, 1), PC_SCI_IRQ);
    assert_int_equal(vcpu_port_read(bsp, PC_PORT_ELCR, 2), 1 << 9 | 1 << 10 | 1 << 11);
    assert_int_not_equal(vcpu_port_read(bsp, PC_PORT_PM_TIMER, 4), 0xffffffff);

    vcpu_mmio_write(bsp, PC_IOAPIC_BASE, 4, 0);
    assert_int_equal(vcpu_mmio_read(bsp, PC_IOAPIC_BASE + 0x10, 4) >> 24, pc_ioapic_id(vm->nvcpus));
    vcpu_mmio_write(bsp, PC_IOAPIC_BASE, 4, 1);
    assert_int_equal(vcpu_mmio_read(bsp, PC_IOAPIC_BASE + 0x10, 4) & 0xff, PC_IOAPIC_VERSION);
    assert_int_equal(vcpu_mmio_read(bsp, PC_LAPIC_BASE + 0x30, 4) & 0xff, PC_LAPIC_VERSION);
    assert_int_equal(vcpu_mmio_read(bsp, PC_LAPIC_BASE + 0x350, 4), 0x700);
    assert_int_equal(vcpu_mmio_read(bsp, PC_HPET_BASE, 4), PC_HPET_ID);

    /* The tables are in the F segment, and the guest cannot write there. */
    for (u64 at = PC_F_SEGMENT; at < PC_LEGACY_HOLE_END; at += 16)
        found = found || memory_read(&vm->memory, at, 8) == UINT64_C(0x2052545020445352); /* "RSD PTR " */
    assert_true(found);
    u64 before = memory_read(&vm->memory, PC_F_SEGMENT, 8);
    memory_write(&vm->memory, PC_F_SEGMENT, 8, ~before);
    assert_true(memory_read(&vm->memory, PC_F_SEGMENT, 8) == before);

    for (unsigned i = 0; i < vm->nvcpus; i++) {
        assert_int_equal(vm->vcpus[i]->state.mtrr_def_type, 0xc06);
        assert_int_equal(vm->vcpus[i]->state.activity, i ? VCPU_WAIT_SIPI : VCPU_RUNNING);
    }
    assert_int_equal(bsp->state.rip, LOAD_AT + HEADER_SIZE);
    assert_true(bsp->state.gpr[RAX] == 0x2badb002);
}

static void test_what_firmware_leaves(void **state)
{
    struct error err = {.text = ""};
    int fd;
    struct vm *vm = new_pc(3, reset_once_then_off, sizeof(reset_once_then_off), &fd);

    check_machine(vm);
    if (vm_reset(vm, &err))
        fail_msg("%s", err.text);
    check_machine(vm);
    vm_free(vm);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_loads_the_kernel_again),
        cmocka_unit_test(test_kernel_that_vanished),
        cmocka_unit_test(test_what_firmware_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
