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

struct file {
    int fd;
    char path[40];
};

static struct file file_make(const u8 *bytes, size_t len)
{
    struct file file = {.fd = memfd_create("kernel", MFD_CLOEXEC)};

    assert_true(file.fd >= 0);
    assert_int_equal(write(file.fd, bytes, len), len);
    snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
    return file;
}

static struct vm *new_pc(unsigned vcpus, u64 ram_size, const struct file *kernel)
{
    struct pc_config config = {.vm = {.name = "test",
                                      .ram_size = ram_size,
                                      .vcpus = vcpus,
                                      .clock = CLOCK_ICOUNT,
                                      .random_seed = 1,
                                      .rtc_start = 1000000000},
                               .kernel = kernel->path};
    struct error err = {.text = ""};
    struct vm *vm;

    if (cpu_model_parse("v2", &config.vm.cpu, &err))
        fail_msg("%s", err.text);
    vm = pc_new(&config, false, &err);
    if (!vm)
        fail_msg("%s", err.text);
    return vm;
}

/* reset_once_then_off as a multiboot kernel. */
static struct file multiboot_kernel(void)
{
    u8 image[HEADER_SIZE + sizeof(reset_once_then_off)] = {0};

    put_u32(image, 0x1badb002);
    put_u32(image + 4, 1 << 16);
    put_u32(image + 8, -(0x1badb002u + (1 << 16)));
    put_u32(image + 12, LOAD_AT);
    put_u32(image + 16, LOAD_AT);
    put_u32(image + 28, LOAD_AT + HEADER_SIZE);
    memcpy(image + HEADER_SIZE, reset_once_then_off, sizeof(reset_once_then_off));
    return file_make(image, sizeof(image));
}

static u32 config_read(struct vm *vm, u32 devfn, u32 reg, unsigned size)
{
    vcpu_port_write(vm->vcpus[0], PC_PORT_PCI_ADDRESS, 4, 0x80000000 | devfn << 8 | (reg & 0xfc));
    return vcpu_port_read(vm->vcpus[0], PC_PORT_PCI_DATA + (reg & 3), size);
}

static void test_reset_loads_the_kernel_again(void **state)
{
    struct file kernel = multiboot_kernel();
    struct vm *vm = new_pc(1, MIB(16), &kernel);

    assert_int_equal(vm_run(vm, 100000), VM_STOP_POWEROFF);
    vm_free(vm);
    close(kernel.fd);
}

/* The file is gone when the guest resets: the VM stops with an error that names it. */
static void test_kernel_that_vanished(void **state)
{
    struct file kernel = multiboot_kernel();
    struct vm *vm = new_pc(1, MIB(16), &kernel);

    close(kernel.fd);
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
    struct file kernel = multiboot_kernel();
    struct vm *vm = new_pc(3, MIB(16), &kernel);

    check_machine(vm);
    if (vm_reset(vm, &err))
        fail_msg("%s", err.text);
    check_machine(vm);
    vm_free(vm);
    close(kernel.fd);
}

/* ---- BIOS services, from the set-up code of a 16-bit kernel ---- */

extern const u8 bios_calls[], bios_calls_end[];

static u16 word_at(struct vm *vm, u64 at)
{
    return (u16)memory_read(&vm->memory, at, 2);
}

static void check_bios_calls(u64 ram_size, u64 extended_kib)
{
    enum { CODE_AT = 0x2a0, SETUP_SIZE = 5 * 512, FILE_SIZE = SETUP_SIZE + 16 };
    u8 image[FILE_SIZE] = {0};
    u64 ram = 0;

    image[0x1fe] = 0x55;
    image[0x1ff] = 0xaa;
    image[0x200] = 0xeb; /* a short jump over the header, and a long one from there */
    image[0x201] = 0x66;
    image[0x268] = 0xe9;
    image[0x269] = CODE_AT - 0x26b;
    put_u32(image + 0x202, 0x53726448);
    image[0x206] = 0x03; /* 2.03, whose header is short */
    image[0x207] = 0x02;
    image[0x211] = 1; /* a high kernel, whose code32_start is 0 */
    memcpy(image + CODE_AT, bios_calls, (size_t)(bios_calls_end - bios_calls));

    struct file kernel = file_make(image, sizeof(image));
    struct vm *vm = new_pc(1, ram_size, &kernel);
    assert_int_equal(vm_run(vm, 100000), VM_STOP_POWEROFF);
    assert_int_equal(memory_read(&vm->memory, 0x2011, 1), 1);
    assert_in_range(word_at(vm, 0x2000), 3, 8);
    for (u16 i = 0; i < word_at(vm, 0x2000); i++)
        if (memory_read(&vm->memory, 0x2100 + 20u * i + 16, 4) == 1)
            ram += memory_read(&vm->memory, 0x2100 + 20u * i + 8, 8);
    assert_true(ram == ram_size - (0x100000 - 0x9fc00));
    for (unsigned n = 0; n < 2; n++) { /* AX and BX, CX and DX */
        assert_int_equal(word_at(vm, 0x2002 + 4 * n), extended_kib < 0x3c00 ? extended_kib : 0x3c00);
        assert_int_equal(word_at(vm, 0x2004 + 4 * n),
                         extended_kib < 0x3c00 ? 0 : (extended_kib - 0x3c00) / 64);
    }
    assert_int_equal(word_at(vm, 0x200a), extended_kib < 0xfc00 ? extended_kib : 0xfc00);
    assert_int_equal(word_at(vm, 0x200c), 639);
    assert_int_equal(word_at(vm, 0x200e), 4 << 9 | 1 << 2 | 1 << 1);
    assert_int_equal(memory_read(&vm->memory, 0x2010, 1), 0x86);
    vm_free(vm);
    close(kernel.fd);
}

static void test_bios_calls(void **state)
{
    check_bios_calls(MIB(2), 1 << 10);
    check_bios_calls(MIB(16), 15 << 10);
    check_bios_calls(MIB(512), 511 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_loads_the_kernel_again),
        cmocka_unit_test(test_kernel_that_vanished),
        cmocka_unit_test(test_what_firmware_leaves),
        cmocka_unit_test(test_bios_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
