/* Parts of the library that the public API shows only through a guest: scan codes, linear addresses, disassembly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/disasm.h"
#include "api/linear.h"
#include "api/vm.h"

static void expect_codes(const char *keys, const char *codes, int len)
{
    struct error err;
    u8 bytes[64];

    assert_int_equal(keys_to_scancodes(keys, bytes, sizeof(bytes), &err), len);
    assert_memory_equal(bytes, codes, (size_t)len);
}

static void test_keys(void **state)
{
    struct error err;
    u8 bytes[64];

    expect_codes("a", "\x1c\xf0\x1c", 3);
    expect_codes("ctrl-alt-delete", "\x14\x11\xe0\x71\xe0\xf0\x71\xf0\x11\xf0\x14", 11);
    expect_codes("pause", "\xe1\x14\x77\xe1\xf0\x14\xf0\x77", 8);
    expect_codes("print", "\xe0\x12\xe0\x7c\xe0\xf0\x7c\xe0\xf0\x12", 10);
    assert_int_equal(keys_to_scancodes("", bytes, sizeof(bytes), &err), -1);
    assert_int_equal(keys_to_scancodes("a--b", bytes, sizeof(bytes), &err), -1);
    assert_int_equal(keys_to_scancodes("a-b-c", bytes, 8, &err), -1); /* 9 bytes */
    assert_int_equal(keys_to_scancodes("entr", bytes, sizeof(bytes), &err), -1);
    assert_int_equal(keys_to_scancodes("a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a", bytes, sizeof(bytes), &err), -1);
}

static plastron_vm *new_vm(void)
{
    plastron_config *config = plastron_config_new();
    struct plastron_error err;

    assert_int_equal(plastron_config_set(config, "memory", "4M", &err), 0);
    assert_int_equal(plastron_config_set(config, "serial", "none", &err), 0);
    plastron_vm *vm = plastron_vm_new(config, &err);
    if (!vm)
        fail_msg("%s", err.text);
    plastron_config_free(config);
    return vm;
}

static void poke(plastron_vm *vm, u64 phys, u64 value, size_t size)
{
    assert_true(memory_poke(&vm->machine->memory, phys, &value, size));
}

static void expect_phys(plastron_vm *vm, u64 linear, u64 expected)
{
    u64 phys;

    assert_true(linear_translate(vm->machine->vcpus[0], linear, &phys));
    assert_true(phys == expected);
}

static void expect_unmapped(plastron_vm *vm, u64 linear)
{
    u64 phys;

    assert_false(linear_translate(vm->machine->vcpus[0], linear, &phys));
}

static void test_no_paging(void **state)
{
    plastron_vm *vm = new_vm();

    expect_phys(vm, 0x12345, 0x12345);
    expect_phys(vm, 0x100012345, 0x12345); /* 32 bits outside long mode */
    plastron_vm_free(vm);
}

static void test_32bit_paging(void **state)
{
    plastron_vm *vm = new_vm();
    struct vcpu_state *s = &vm->machine->vcpus[0]->state;

    s->cr0 = CR0_PE | CR0_PG;
    s->cr4 = CR4_PSE;
    s->cr3 = 0x1000;
    poke(vm, 0x1000 + 4 * 1, 0x2000 | 1, 4);          /* 4 MiB up: a table */
    poke(vm, 0x2000 + 4 * 3, 0x5000 | 1, 4);          /* ... its fourth page */
    poke(vm, 0x1000 + 4 * 2, 0x00c00000 | 0x81, 4);   /* 8 MiB up: a large page */
    poke(vm, 0x1000 + 4 * 3, 0x01000000 | 0x2081, 4); /* PSE-36: address bit 32 */
    expect_phys(vm, 0x403123, 0x5123);
    expect_phys(vm, 0x8abcde, 0xcabcde);
    expect_phys(vm, 0xc00001, 0x101000001);
    expect_unmapped(vm, 0x404000);
    expect_unmapped(vm, 0);
    s->cr4 = 0; /* bit 7 means nothing without PSE: the entry is a table outside of memory */
    expect_unmapped(vm, 0x8abcde);
    plastron_vm_free(vm);
}

static void test_pae_paging(void **state)
{
    plastron_vm *vm = new_vm();
    struct vcpu_state *s = &vm->machine->vcpus[0]->state;

    s->cr0 = CR0_PE | CR0_PG;
    s->cr4 = CR4_PAE;
    s->pdptr[3] = 0x2000 | 1;
    poke(vm, 0x2000 + 8 * 1, 0x3000 | 1, 8);
    poke(vm, 0x2000 + 8 * 2, 0x8000000000200000 | 0x81, 8); /* 2 MiB, NX */
    poke(vm, 0x3000 + 8 * 5, 0x9000 | 1, 8);
    expect_phys(vm, 0xc0205678, 0x9678);
    expect_phys(vm, 0xc0412345, 0x212345);
    expect_unmapped(vm, 0x80000000);
    plastron_vm_free(vm);
}

static void test_long_paging(void **state)
{
    plastron_vm *vm = new_vm();
    struct vcpu_state *s = &vm->machine->vcpus[0]->state;
    u8 bytes[16] = {0};

    s->cr0 = CR0_PE | CR0_PG;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LMA;
    s->cr3 = 0x1000;
    poke(vm, 0x1000 + 8 * 511, 0x2000 | 1, 8);
    poke(vm, 0x2000 + 8 * 510, 0x3000 | 1, 8);
    poke(vm, 0x2000 + 8 * 511, 0x40000000 | 0x81, 8); /* 1 GiB */
    poke(vm, 0x3000 + 8 * 8, 0x4000 | 1, 8);
    poke(vm, 0x4000 + 8 * 1, 0x7000 | 1, 8);
    poke(vm, 0x4000 + 8 * 2, 0x6000 | 1, 8);
    expect_phys(vm, 0xffffffff81001abc, 0x7abc);
    expect_phys(vm, 0xffffffffc0001234, 0x40001234);
    expect_unmapped(vm, 0xffffffff81000000);
    expect_unmapped(vm, 0);
    /* A read over the end of a page follows both entries, and ends where the mapping does. */
    poke(vm, 0x7ff8, 0x1111111111111111, 8);
    poke(vm, 0x6000, 0x2222222222222222, 8);
    assert_int_equal(linear_read(vm->machine->vcpus[0], 0xffffffff81001ff8, bytes, 16), 16);
    assert_int_equal(bytes[7], 0x11);
    assert_int_equal(bytes[8], 0x22);
    assert_int_equal(linear_read(vm->machine->vcpus[0], 0xffffffff81002ff8, bytes, 16), 8);
    plastron_vm_free(vm);
}

static void test_disassembly(void **state)
{
    plastron_vm *vm = new_vm();
    struct vcpu *vcpu = vm->machine->vcpus[0];
    char text[192];

    vcpu->state.seg[SEG_CS].base = 0x1000;
    poke(vm, 0x1100, 0x1234b8, 3);
    assert_int_equal(disasm(vcpu, 0x100, text, sizeof(text)), 3);
    assert_memory_equal(text, "b8 34 12 ", 9);
    assert_true(strstr(text, "mov ax") || strstr(text, "MOV"));
    poke(vm, 0x1100, 0xffff, 2); /* FF /7 is no instruction */
    assert_int_equal(disasm(vcpu, 0x100, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "no instruction"));
    vcpu->state.seg[SEG_CS].base = 0x70000000;
    assert_int_equal(disasm(vcpu, 0x100, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "not mapped"));
    plastron_vm_free(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),         cmocka_unit_test(test_no_paging),
        cmocka_unit_test(test_32bit_paging), cmocka_unit_test(test_pae_paging),
        cmocka_unit_test(test_long_paging),  cmocka_unit_test(test_disassembly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
