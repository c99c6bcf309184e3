/* The command line: parser, suggestions, help and manual page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/options.h"

static int nothing(const struct arguments *arguments)
{
    return 0;
}

static const struct command commands[] = {
    {.name = "run",
     .operands = "",
     .options = CLI_MACHINE_OPTIONS | CLI_JSON | CLI_STOP_AFTER,
     .run = nothing,
     .summary = "run it",
     .help = "Run it."},
    {.name = "restore",
     .operands = "FILE",
     .min_operands = 1,
     .max_operands = 1,
     .options = CLI_HOST_OPTIONS,
     .run = nothing,
     .summary = "restore it",
     .help = "Restore it."},
    {.name = "info",
     .operands = "VM [PATH]",
     .min_operands = 1,
     .max_operands = 2,
     .options = CLI_JSON,
     .run = nothing,
     .summary = "look",
     .help = "Look."},
    {.name = NULL},
};

static int count(const char *const *words)
{
    int n = 0;

    while (words[n])
        n++;
    return n;
}

/* Parse words that are right. Free the result with arguments_free. */
static struct arguments parse(const char *const *words)
{
    struct arguments arguments;
    struct error err = {{0}};

    if (arguments_parse(&arguments, commands, count(words), (char **)words, &err))
        fail_msg("%s", err.text);
    return arguments;
}
#define PARSE(...) parse((const char *const[]){"plastron", __VA_ARGS__, NULL})

static void expect_error(const char *text, const char *const *words)
{
    struct arguments arguments;
    struct error err = {{0}};

    assert_int_equal(arguments_parse(&arguments, commands, count(words), (char **)words, &err), -1);
    assert_string_equal(err.text, text);
    arguments_free(&arguments);
}
#define ERROR(text, ...) expect_error(text, (const char *const[]){"plastron", __VA_ARGS__, NULL})

static void test_options(void **state)
{
    struct arguments a = PARSE("run", "--memory", "64M", "--cpus=2", "--disk", "a,readonly=on", "--disk=b",
                               "--debug-exit", "--no-reboot", "--stop-after", "1000", "--json");

    assert_string_equal(a.command->name, "run");
    assert_string_equal(plastron_config_get(a.config, "memory", 0), "64M");
    assert_string_equal(plastron_config_get(a.config, "cpus", 0), "2");
    assert_string_equal(plastron_config_get(a.config, "disk", 0), "a,readonly=on");
    assert_string_equal(plastron_config_get(a.config, "disk", 1), "b");
    assert_string_equal(plastron_config_get(a.config, "debug-exit", 0), "on");
    assert_string_equal(plastron_config_get(a.config, "no-reboot", 0), "on");
    assert_null(plastron_config_get(a.config, "kernel", 0));
    assert_int_equal(a.given, CLI_STOP_AFTER | CLI_JSON);
    assert_int_equal(a.stop_after, 1000);
    arguments_free(&a);

    a = PARSE("run", "--debug-exit=0x501", "--memory", "64M", "--memory", "32M", "--append",
              "--not-an-option");
    assert_string_equal(plastron_config_get(a.config, "debug-exit", 0), "0x501");
    assert_string_equal(plastron_config_get(a.config, "memory", 0), "32M"); /* the last one counts */
    assert_string_equal(plastron_config_get(a.config, "append", 0), "--not-an-option");
    assert_true(a.stop_after == PLASTRON_NO_LIMIT);
    arguments_free(&a);
}

static void test_operands(void **state)
{
    struct arguments a = PARSE("info", "--json", "vm1", "--", "--path");

    assert_int_equal(a.operands, 2);
    assert_string_equal(a.operand[0], "vm1");
    assert_string_equal(a.operand[1], "--path");
    arguments_free(&a);
    ERROR("too few words: plastron info VM [PATH]", "info");
    ERROR("'c' is one word too many: plastron info VM [PATH]", "info", "a", "b", "c");
    ERROR("'disk.img' is one word too many: plastron run", "run", "disk.img");
}

static void test_help_and_version(void **state)
{
    struct arguments a = PARSE("--help");

    assert_int_equal(a.given, CLI_HELP);
    assert_null(a.command);
    a = PARSE("--version");
    assert_int_equal(a.given, CLI_VERSION);
    a = PARSE("info", "-h"); /* asked for help: nothing else is missing */
    assert_int_equal(a.given, CLI_HELP);
    assert_string_equal(a.command->name, "info");
    arguments_free(&a);
}

static void test_errors(void **state)
{
    expect_error("give a command: `plastron help` lists them", (const char *const[]){"plastron", NULL});
    ERROR("there is no command 'rum'; is 'run' meant?", "rum");
    ERROR("there is no command 'bluetooth': `plastron help` lists them", "bluetooth");
    ERROR("a command comes first, as in `plastron run --kernel ...`", "--kernel", "x");
    ERROR("run has no option --kernal; is --kernel meant?", "run", "--kernal", "x");
    ERROR("run has no option --bluetooth: `plastron help run` lists them", "run", "--bluetooth");
    ERROR("there is no option -m: options are written as --name", "run", "-m", "64M");
    ERROR("--memory needs a value: --memory SIZE", "run", "--memory");
    ERROR("--json takes no value", "run", "--json=yes");
    ERROR("--memory: '12Q' is not a size: write it as 512M or 2G", "run", "--memory", "12Q");
    ERROR("--memory: 0 is less than a machine needs: give at least 1M", "run", "--memory", "0");
    ERROR("--memory: 8000000G is more than a machine can have: give at most 1024G", "run", "--memory",
          "8000000G");
    ERROR("--cpus: 65 is not between 1 and 64", "run", "--cpus", "65");
    ERROR("--clock: 'sundial' is not one of host, icount", "run", "--clock", "sundial");
    ERROR("--stop-after: 'soon' is not a whole number", "run", "--stop-after", "soon");
    ERROR("--disk: 'colour' is not one of format, if, readonly, snapshot", "run", "--disk", "a,colour=red");
    ERROR("--serial: there can be at most 4 of them", "run", "--serial", "none", "--serial", "none",
          "--serial", "none", "--serial", "none", "--serial", "none");
    /* What belongs to the saved machine is no option of restore. */
    ERROR("restore has no option --memory: `plastron help restore` lists them", "restore", "--memory", "1G",
          "f");
}

/* What a printing function writes. Free it. */
static char *printed(void (*print)(FILE *out))
{
    char *text, *copy;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    print(out);
    fclose(out);
    copy = strdup(text);
    free(text);
    return copy;
}

static void print_run(FILE *out)
{
    help_print(commands, &commands[0], out);
}
static void print_overview(FILE *out)
{
    help_print(commands, NULL, out);
}
static void print_manual(FILE *out)
{
    help_print_manual(commands, out);
}

static void test_help_text(void **state)
{
    char *run = printed(print_run), *overview = printed(print_overview), *manual = printed(print_manual);
    char head[64];

    for (const struct plastron_option *option = plastron_options(); option->name; option++) {
        snprintf(head, sizeof(head), "\n  --%s", option->name);
        assert_non_null(strstr(run, head));
        assert_true(strlen(option->help) > 20);
    }
    assert_non_null(strstr(run, "Default: 512M."));
    assert_non_null(strstr(run, "Examples:"));
    assert_non_null(strstr(overview, "\n  restore "));
    assert_non_null(strstr(manual, ".TH PLASTRON 1"));
    assert_non_null(strstr(manual, "\\-\\-no\\-reboot"));
    assert_non_null(strstr(manual, ".SH EXAMPLES"));
    /* The examples are not wrapped, to be copied. */
    const char *examples = strstr(run, "Examples:");
    for (const char *line = run; line < examples; line = strchr(line + 1, '\n'))
        assert_true(strcspn(line + 1, "\n") <= 79);
    free(run);
    free(overview);
    free(manual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),          cmocka_unit_test(test_operands),
        cmocka_unit_test(test_help_and_version), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_help_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
