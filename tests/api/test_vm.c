/* The public API, used as another program would: only plastron.h is included. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "plastron/plastron.h"

enum { CODE = 0x1000 };

/* A configuration of `key`, value pairs, ended by NULL, for a machine that has no files. */
static plastron_config *config_of(const char *key, ...)
{
    plastron_config *config = plastron_config_new();
    struct plastron_error err;
    va_list words;

    assert_int_equal(plastron_config_set(config, "memory", "1M", &err), 0);
    assert_int_equal(plastron_config_set(config, "serial", "none", &err), 0);
    va_start(words, key);
    for (; key; key = va_arg(words, const char *))
        if (plastron_config_set(config, key, va_arg(words, const char *), &err))
            fail_msg("%s", err.text);
    va_end(words);
    return config;
}

/* A machine that stands at `code` in real mode, CS 0, IP 1000h. */
static plastron_vm *vm_with_code(plastron_config *config, const void *code, size_t size)
{
    struct plastron_registers regs = {.size = sizeof(regs)};
    struct plastron_error err;
    plastron_vm *vm = plastron_vm_new(config, &err);

    if (!vm)
        fail_msg("%s", err.text);
    plastron_config_free(config);
    assert_int_equal(plastron_write_memory(vm, CODE, code, size, &err), 0);
    assert_int_equal(plastron_get_registers(vm, 0, &regs, &err), 0);
    assert_int_equal(regs.cs.selector, 0xf000); /* the reset vector */
    assert_int_equal(regs.rip, 0xfff0);
    regs.cs.base = regs.cs.selector = 0;
    regs.rip = CODE;
    regs.rsp = 0x8000;
    assert_int_equal(plastron_set_registers(vm, 0, &regs, &err), 0);
    return vm;
}

static struct plastron_registers registers(plastron_vm *vm)
{
    struct plastron_registers regs = {.size = sizeof(regs)};

    assert_int_equal(plastron_get_registers(vm, 0, &regs, NULL), 0);
    return regs;
}

/* Counts AX up without end. */
static const uint8_t count_up[] = {0x40, 0xeb, 0xfd}; /* inc ax; jmp $-1 */

static void test_registers(void **state)
{
    static const uint8_t code[] = {0xb8, 0x34, 0x12, 0x89, 0xc3, 0xf7, 0xd3, 0x31, 0xc9};
    /* mov ax,1234h; mov bx,ax; not bx; xor cx,cx */
    plastron_vm *vm = vm_with_code(config_of(NULL), code, sizeof(code));
    struct plastron_registers regs = {.size = 0};
    struct plastron_error err;

    assert_int_equal(plastron_run(vm, 4), PLASTRON_STOP_LIMIT);
    assert_int_equal(plastron_get_registers(vm, 0, &regs, &err), -1); /* size was not set */
    regs = registers(vm);
    assert_int_equal(regs.rax & 0xffff, 0x1234);
    assert_int_equal(regs.rbx & 0xffff, 0xedcb);
    assert_int_equal(regs.rcx & 0xffff, 0);
    assert_true(regs.rflags & 1 << 6); /* ZF */
    assert_int_equal(regs.rip, CODE + sizeof(code));
    assert_int_equal(regs.instructions, 4);
    assert_int_equal(plastron_get_registers(vm, 1, &regs, &err), -1);
    assert_non_null(strstr(err.text, "vCPU 1"));
    char *report = plastron_register_report(vm, 0);
    assert_non_null(strstr(report, "000000000000edcb"));
    free(report);
    plastron_vm_free(vm);
}

static void test_memory(void **state)
{
    plastron_vm *vm = vm_with_code(config_of(NULL), count_up, sizeof(count_up));
    struct plastron_error err;
    uint8_t bytes[8] = {0};

    assert_int_equal(plastron_write_memory(vm, 0x5ffc, "abcdefg", 8, &err), 0); /* over the end of a page */
    assert_int_equal(plastron_read_memory(vm, 0x5ffc, bytes, 8, &err), 0);
    assert_string_equal(bytes, "abcdefg");
    assert_int_equal(plastron_read_memory(vm, 0x7000000000, bytes, 8, &err), -1);
    assert_non_null(strstr(err.text, "0x7000000000"));
    assert_int_equal(plastron_write_memory(vm, UINT64_MAX - 3, bytes, 8, &err), -1);
    plastron_vm_free(vm);
}

static void test_two_machines(void **state)
{
    static const uint8_t count_down[] = {0x48, 0xeb, 0xfd}; /* dec ax; jmp $-1 */
    plastron_vm *up = vm_with_code(config_of("name", "up", NULL), count_up, sizeof(count_up));
    plastron_vm *down = vm_with_code(config_of("name", "down", NULL), count_down, sizeof(count_down));

    for (int turn = 1; turn <= 3; turn++) {
        assert_int_equal(plastron_run(up, 20), PLASTRON_STOP_LIMIT);
        assert_int_equal(plastron_run(down, 40), PLASTRON_STOP_LIMIT);
        assert_int_equal(registers(up).rax & 0xffff, 10 * turn);
        assert_int_equal(registers(down).rax & 0xffff, 0x10000 - 20 * turn);
    }
    plastron_vm_free(up);
    assert_int_equal(plastron_run(down, 40), PLASTRON_STOP_LIMIT);
    assert_int_equal(registers(down).rax & 0xffff, 0x10000 - 80);
    plastron_vm_free(down);
}

static void *run_thread(void *opaque)
{
    return (void *)(uintptr_t)plastron_run(opaque, PLASTRON_NO_LIMIT);
}

static void test_two_machines_at_once(void **state)
{
    plastron_vm *vms[2];
    pthread_t threads[2];
    void *reason;

    for (int i = 0; i < 2; i++) {
        vms[i] = vm_with_code(config_of(NULL), count_up, sizeof(count_up));
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, vms[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        uint64_t before = registers(vms[i]).instructions; /* while it runs */
        while (registers(vms[i]).instructions == before)
            usleep(1000);
        plastron_stop(vms[i]);
        pthread_join(threads[i], &reason);
        assert_int_equal((uintptr_t)reason, PLASTRON_STOP_REQUEST);
        plastron_vm_free(vms[i]);
    }
}

static void test_pause(void **state)
{
    plastron_vm *vm = vm_with_code(config_of(NULL), count_up, sizeof(count_up));
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_thread, vm), 0);
    plastron_pause(vm);
    assert_true(plastron_paused(vm));
    uint64_t before = registers(vm).instructions;
    usleep(20000);
    assert_int_equal(registers(vm).instructions, before);
    plastron_resume(vm);
    while (registers(vm).instructions == before)
        usleep(1000);
    plastron_pause(vm);
    plastron_stop(vm); /* a machine that stands still can be ended */
    pthread_join(thread, NULL);
    plastron_vm_free(vm);
}

/* ---- Hooks ---- */

struct seen {
    unsigned instructions, ports, interrupts, stops;
    uint64_t break_at;
    uint32_t last_value;
};

static bool see_instruction(plastron_vm *vm, unsigned vcpu, uint64_t address, void *opaque)
{
    struct seen *seen = opaque;
    struct plastron_registers regs = {.size = sizeof(regs)};

    seen->instructions++;
    assert_int_equal(plastron_get_registers(vm, vcpu, &regs, NULL), 0); /* exact, and allowed here */
    assert_int_equal(regs.rip, address);
    assert_int_equal(plastron_set_registers(vm, vcpu, &regs, NULL), -1);
    return address == seen->break_at;
}

static void see_port(plastron_vm *vm, unsigned vcpu, bool write, uint16_t port, unsigned size, uint32_t value,
                     void *opaque)
{
    struct seen *seen = opaque;

    assert_true(write && port == 0x80 && size == 1);
    seen->last_value = value;
    seen->ports++;
}

static void see_event(plastron_vm *vm, unsigned vcpu, enum plastron_event kind, uint8_t vector,
                      uint32_t error, uint64_t address, void *opaque)
{
    assert_int_equal(kind, PLASTRON_SOFTWARE_INTERRUPT);
    assert_int_equal(vector, 0x21);
    ((struct seen *)opaque)->interrupts++;
}

static void test_hooks(void **state)
{
    static const uint8_t code[] = {0xb0, 0x05, 0xe6, 0x80, 0xcd, 0x21, 0xfe, 0xc0, 0xe6, 0x80, 0xf4};
    /* 1000: mov al,5; 1002: out 80h,al; 1004: int 21h; 1006: inc al; 1008: out 80h,al; 100a: hlt */
    static const uint8_t handler[] = {0x10, 0x20, 0x00, 0x00}, iret = 0xcf;
    plastron_vm *vm = vm_with_code(config_of(NULL), code, sizeof(code));
    struct plastron_hooks hooks = {
        .size = sizeof(hooks), .instruction = see_instruction, .port = see_port, .event = see_event};
    struct seen seen = {.break_at = CODE + 6};
    struct plastron_error err;

    assert_int_equal(plastron_write_memory(vm, 0x21 * 4, handler, 4, &err), 0);
    assert_int_equal(plastron_write_memory(vm, 0x2010, &iret, 1, &err), 0);
    assert_int_equal(plastron_set_hooks(vm, &hooks, &seen, &err), 0);
    assert_int_equal(plastron_run(vm, PLASTRON_NO_LIMIT), PLASTRON_STOP_HOOK);
    assert_int_equal(registers(vm).rip, CODE + 6); /* before it */
    assert_int_equal(registers(vm).rax & 0xff, 5);
    assert_int_equal(seen.interrupts, 1);
    assert_int_equal(plastron_run(vm, 2), PLASTRON_STOP_LIMIT); /* does not stop at the same place again */
    assert_int_equal(seen.last_value, 6);
    assert_int_equal(seen.ports, 2);
    assert_int_equal(seen.instructions, 6); /* each one once: mov, out, int, iret, inc, out */
    assert_int_equal(plastron_set_hooks(vm, NULL, NULL, &err), 0);
    unsigned before = seen.instructions;
    assert_int_equal(plastron_run(vm, 1), PLASTRON_STOP_LIMIT);
    assert_int_equal(seen.instructions, before);
    plastron_vm_free(vm);
}

/* ---- Devices of the caller's own ---- */

struct adder {
    uint32_t sum;
};

static void adder_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct adder *adder = opaque;

    adder->sum += (uint32_t)(value << 8 * offset);
}

static uint64_t adder_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct adder *)opaque)->sum;
}

static void test_own_device(void **state)
{
    static const uint8_t code[] = {0xba, 0x00, 0x03, 0xb0, 0x02, 0xee, 0x42, 0xee, 0x4a, 0xed};
    /* mov dx,300h; mov al,2; out dx,al; inc dx; out dx,al; dec dx; in ax,dx */
    plastron_vm *vm = vm_with_code(config_of(NULL), code, sizeof(code));
    struct plastron_io io = {.size = sizeof(io), .read = adder_read, .write = adder_write};
    struct adder ports = {0}, memory = {0};
    struct plastron_error err;

    assert_int_equal(plastron_add_ports(vm, 0x300, 4, &io, &ports, &err), 0);
    assert_int_equal(plastron_add_mmio(vm, 0x80000, 0x1000, &io, &memory, &err), 0);
    assert_int_equal(plastron_add_mmio(vm, 0x80010, 0x1000, &io, &memory, &err), -1);
    assert_int_equal(plastron_run(vm, 7), PLASTRON_STOP_LIMIT);
    assert_int_equal(ports.sum, 0x202);
    assert_int_equal(registers(vm).rax & 0xffff, 0x202);
    /* mov ax,8000h; mov ds,ax; mov byte [3],7 */
    static const uint8_t store[] = {0xb8, 0x00, 0x80, 0x8e, 0xd8, 0xc6, 0x06, 0x03, 0x00, 0x07};
    assert_int_equal(plastron_write_memory(vm, registers(vm).rip, store, sizeof(store), &err), 0);
    assert_int_equal(plastron_run(vm, 3), PLASTRON_STOP_LIMIT);
    assert_int_equal(memory.sum, 7 << 24);
    plastron_vm_free(vm);
}

/* ---- Ends ---- */

static void test_debug_exit(void **state)
{
    static const uint8_t code[] = {0xb0, 0x2a, 0xe6, 0xf4, 0xeb, 0xfe}; /* mov al,42; out f4h,al; jmp $ */
    plastron_vm *vm = vm_with_code(config_of("debug-exit", "on", NULL), code, sizeof(code));

    assert_int_equal(plastron_run(vm, 1000), PLASTRON_STOP_DEBUG_EXIT);
    assert_int_equal(plastron_exit_code(vm), 2 * 42 + 1);
    assert_int_equal(plastron_run(vm, PLASTRON_NO_LIMIT), PLASTRON_STOP_DEBUG_EXIT); /* it has ended */
    assert_int_equal(plastron_reset(vm, NULL), 0);
    assert_int_equal(registers(vm).rip, 0xfff0);
    assert_int_equal(plastron_run(vm, 0), PLASTRON_STOP_LIMIT);
    plastron_vm_free(vm);
}

static void test_triple_fault(void **state)
{
    /* lidt [1100h], where there is an empty table; ud2 */
    static const uint8_t code[] = {0x0f, 0x01, 0x1e, 0x00, 0x11, 0x0f, 0x0b};
    plastron_vm *vm = vm_with_code(config_of("no-reboot", "on", NULL), code, sizeof(code));

    assert_int_equal(plastron_run(vm, 1000), PLASTRON_STOP_CRASH);
    assert_int_equal(registers(vm).activity, 3);
    char *report = plastron_register_report(vm, 0);
    assert_non_null(strstr(report, "RIP 0000000000001005"));
    free(report);
    plastron_vm_free(vm);
}

/* ---- Looking inside, save, restore ---- */

static void test_inspect(void **state)
{
    plastron_vm *vm = vm_with_code(config_of(NULL), count_up, sizeof(count_up));
    struct plastron_error err;

    char *text = plastron_inspect(vm, "vcpu0.rip", &err);
    assert_string_equal(text, "\"0x1000\"");
    free(text);
    text = plastron_inspect(vm, NULL, &err);
    assert_non_null(strstr(text, "\"i8042\""));
    free(text);
    assert_null(plastron_inspect(vm, "vcpu0.nothing", &err));
    text = plastron_describe(vm, &err);
    assert_non_null(strstr(text, "\"status\": \"stopped\""));
    free(text);
    plastron_vm_free(vm);
}

static void test_save_and_restore(void **state)
{
    plastron_vm *vm = vm_with_code(config_of("clock", "icount", NULL), count_up, sizeof(count_up));
    plastron_config *host = plastron_config_new();
    struct plastron_error err;
    char file[] = "/tmp/test-vm-XXXXXX", hash[33], again[33];

    close(mkstemp(file));
    assert_int_equal(plastron_run(vm, 100), PLASTRON_STOP_LIMIT);
    if (plastron_save(vm, file, &err))
        fail_msg("%s", err.text);
    plastron_state_hash(vm, hash);
    assert_int_equal(plastron_config_set(host, "name", "other", &err), 0);
    plastron_vm *copy = plastron_restore(file, host, &err);
    if (!copy)
        fail_msg("%s", err.text);
    assert_string_equal(plastron_vm_name(copy), "other");
    plastron_state_hash(copy, again);
    assert_string_equal(hash, again);
    /* Both go on alike. */
    assert_int_equal(plastron_run(vm, 1000), PLASTRON_STOP_LIMIT);
    assert_int_equal(plastron_run(copy, 1000), PLASTRON_STOP_LIMIT);
    assert_int_equal(registers(copy).rax & 0xffff, 550);
    plastron_state_hash(vm, hash);
    plastron_state_hash(copy, again);
    assert_string_equal(hash, again);
    plastron_vm_free(vm);
    plastron_vm_free(copy);
    /* What is part of the machine cannot be changed. */
    assert_int_equal(plastron_config_set(host, "memory", "2M", &err), 0);
    assert_null(plastron_restore(file, host, &err));
    assert_non_null(strstr(err.text, "memory"));
    plastron_config_free(host);
    unlink(file);
}

/* ---- Configuration ---- */

static void expect_no_vm(plastron_config *config, const char *words)
{
    struct plastron_error err;

    assert_null(plastron_vm_new(config, &err));
    if (!strstr(err.text, words))
        fail_msg("'%s' is not in: %s", words, err.text);
    plastron_config_free(config);
}

static void test_bad_configurations(void **state)
{
    char file[] = "/tmp/test-vm-XXXXXX", spec[64];
    struct stat st;

    expect_no_vm(config_of("kernel", "/nonexistent", NULL), "/nonexistent");
    expect_no_vm(config_of("initrd", "x", NULL), "--kernel");
    expect_no_vm(config_of("kernel", "a", "firmware", "b", NULL), "firmware");
    expect_no_vm(config_of("disk", "/nonexistent", NULL), "/nonexistent");
    /* A failure leaves no file behind that was not there. */
    close(mkstemp(file));
    unlink(file);
    snprintf(spec, sizeof(spec), "file:%s", file);
    expect_no_vm(config_of("serial", spec, "kernel", "/nonexistent", NULL), "/nonexistent");
    assert_int_equal(stat(file, &st), -1);
}

static void test_configuration(void **state)
{
    plastron_config *config = plastron_config_new();
    struct plastron_error err;
    unsigned count = 0;

    for (const struct plastron_option *option = plastron_options(); option->name; option++)
        count++;
    assert_true(count > 10);
    assert_int_equal(plastron_config_set(config, "memroy", "1M", &err), -1);
    assert_string_equal(err.text, "there is no option 'memroy'; is 'memory' meant?");
    assert_int_equal(plastron_config_set(config, "cpus", "0", &err), -1);
    assert_string_equal(err.text, "cpus: 0 is not between 1 and 64");
    assert_null(plastron_config_get(config, "cpus", 0));
    assert_int_equal(plastron_config_set(config, "disk", "a,,b,readonly=on", &err), 0);
    assert_int_equal(plastron_config_set(config, "disk", ",readonly=on", &err), -1);
    assert_int_equal(plastron_config_set(config, "disk", "a,readonly", &err), -1);
    assert_int_equal(plastron_config_set(config, "name", "a/b", &err), -1);
    assert_int_equal(plastron_config_set(config, "append", "\xff\xfe", &err), -1);
    assert_int_equal(plastron_config_set(config, "trace", "exec,io,file=t", &err), 0);
    assert_int_equal(plastron_config_set(config, "trace", "file=t", &err), -1);
    assert_string_equal(plastron_config_get(config, "trace", 0), "exec,io,file=t");
    plastron_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_two_machines),
        cmocka_unit_test(test_two_machines_at_once),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_own_device),
        cmocka_unit_test(test_debug_exit),
        cmocka_unit_test(test_triple_fault),
        cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_save_and_restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
