/* The example program: what it prints through its own device, and the registers that its guest leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int hello_main(void);
#define main hello_main
#include "../../examples/hello.c"
#undef main

static void test_hello(void **state)
{
    char output[8192];
    FILE *file = tmpfile();

    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    int status = hello_main();
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    assert_int_equal(status, 0);
    rewind(file);
    output[fread(output, 1, sizeof(output) - 1, file)] = 0;
    fclose(file);
    assert_memory_equal(output, "ABCD\nstopped: limit\n", 20);
    assert_non_null(strstr(output, "RAX 0000000000000045"));
    assert_non_null(strstr(output, "halted"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hello)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
