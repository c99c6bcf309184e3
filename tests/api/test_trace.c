/* --trace: its lines, and that a machine which is traced ends like one that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "plastron/plastron.h"

static const uint8_t code[] = {
    0xb9, 0x03, 0x00,                /* 1000: mov cx, 3 */
    0xf3, 0xaa,                      /* 1003: rep stosb */
    0xb0, 0x31,                      /* 1005: mov al, 31h */
    0xe6, 0x80,                      /* 1007: out 80h, al */
    0xb8, 0x00, 0x80,                /* 1009: mov ax, 8000h */
    0x8e, 0xd8,                      /* 100c: mov ds, ax */
    0xc7, 0x06, 0x04, 0, 0xcd, 0xab, /* 100e: mov word [4], 0abcdh */
    0xcd, 0x21,                      /* 1014: int 21h */
    0x0f, 0x0b,                      /* 1016: ud2 */
};
enum { INSTRUCTIONS = 1 + 3 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 }; /* INT's IRET and the fault of UD2 too */

static void nothing(void *opaque, uint64_t offset, unsigned size, uint64_t value) {}

/* Run the code with this trace option, or NULL; gives the hash of the end. */
static void run(const char *trace, char hash[33])
{
    static const uint8_t vectors[] = {0x00, 0x20, 0x00, 0x00}, iret = 0xcf, spin[] = {0xeb, 0xfe};
    struct plastron_io io = {.size = sizeof(io), .write = nothing};
    struct plastron_registers regs = {.size = sizeof(regs)};
    plastron_config *config = plastron_config_new();
    struct plastron_error err;

    assert_int_equal(plastron_config_set(config, "memory", "1M", &err), 0);
    assert_int_equal(plastron_config_set(config, "serial", "none", &err), 0);
    assert_int_equal(plastron_config_set(config, "clock", "icount", &err), 0);
    if (trace)
        assert_int_equal(plastron_config_set(config, "trace", trace, &err), 0);
    plastron_vm *vm = plastron_vm_new(config, &err);
    assert_non_null(vm);
    plastron_config_free(config);
    assert_int_equal(plastron_add_mmio(vm, 0x80000, 0x1000, &io, NULL, &err), 0);
    assert_int_equal(plastron_write_memory(vm, 0x1000, code, sizeof(code), &err), 0);
    assert_int_equal(plastron_write_memory(vm, 0x21 * 4, vectors, 4, &err), 0);
    assert_int_equal(plastron_write_memory(vm, 0x2000, &iret, 1, &err), 0);
    assert_int_equal(plastron_write_memory(vm, 0x0, spin, 2, &err), 0); /* vector 6 is 0:0 */
    assert_int_equal(plastron_write_memory(vm, 6 * 4, "\0\0\0\0", 4, &err), 0);
    assert_int_equal(plastron_get_registers(vm, 0, &regs, &err), 0);
    regs.cs.base = regs.cs.selector = 0;
    regs.rip = 0x1000;
    regs.rsp = 0x8000;
    regs.rdi = 0x5000;
    assert_int_equal(plastron_set_registers(vm, 0, &regs, &err), 0);
    assert_int_equal(plastron_run(vm, INSTRUCTIONS), PLASTRON_STOP_LIMIT);
    plastron_state_hash(vm, hash);
    plastron_vm_free(vm);
}

/* The text that a trace of these kinds makes. Free it. */
static char *trace(const char *kinds)
{
    char file[] = "/tmp/test-trace-XXXXXX", option[64], hash[33], plain[33];
    char *text = calloc(1, 65536);

    close(mkstemp(file));
    snprintf(option, sizeof(option), "%s,file=%s", kinds, file);
    run(option, hash);
    run(NULL, plain);
    assert_string_equal(hash, plain);
    FILE *in = fopen(file, "r");
    assert_true(fread(text, 1, 65535, in) > 0);
    fclose(in);
    unlink(file);
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static void test_exec(void **state)
{
    char *text = trace("exec");

    assert_memory_equal(text, "exec cpu0 0000:0000000000001000  b9 03 00 ", 41);
    assert_int_equal(count_lines(text), INSTRUCTIONS - 2); /* the iterations of the REP are one */
    assert_non_null(strstr(text, "\nexec cpu0 0000:0000000000002000  cf "));
    free(text);
}

static void test_int(void **state)
{
    char *text = trace("int");

    assert_int_equal(count_lines(text), 2);
    assert_non_null(strstr(text, "software 33\n"));
    assert_non_null(strstr(text, "int  cpu0 0000:0000000000001016  exception 6\n"));
    free(text);
}

static void test_io_and_mmio(void **state)
{
    char *text = trace("io,mmio");

    assert_int_equal(count_lines(text), 2);
    assert_non_null(strstr(text, "  out 0080 1 31\n"));
    assert_non_null(strstr(text, "  write 00080004 2 abcd\n"));
    free(text);
}

static void test_all_at_once(void **state)
{
    char *text = trace("exec,int,io,mmio");

    assert_int_equal(count_lines(text), INSTRUCTIONS - 2 + 4);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_int),
        cmocka_unit_test(test_io_and_mmio),
        cmocka_unit_test(test_all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
