/* The control protocol on a real machine that does not run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/protocol.h"

struct fixture {
    plastron_vm *vm;
    struct control_target target;
    struct protocol_session session;
    char output[1 << 20]; /* all that was sent */
    size_t len;
    char saved[64]; /* the file of the last save */
    int quits;
};

static struct fixture *current; /* for target.save, which has no opaque */

static int fake_save(plastron_vm *vm, const char *file, struct plastron_error *err)
{
    if (!strcmp(file, "full")) {
        strcpy(err->text, "the disk is full");
        return -1;
    }
    snprintf(current->saved, sizeof(current->saved), "%s", file);
    return 0;
}

static void fake_quit(void *opaque)
{
    ((struct fixture *)opaque)->quits++;
}

static void collect(void *opaque, const char *bytes, size_t len)
{
    struct fixture *f = opaque;

    assert_true(f->len + len < sizeof(f->output));
    memcpy(f->output + f->len, bytes, len);
    f->len += len;
    f->output[f->len] = 0;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    plastron_config *config = plastron_config_new();
    struct plastron_error err;
    struct error e;

    if (plastron_config_set(config, "memory", "2M", &err) || plastron_config_set(config, "cpus", "2", &err) ||
        plastron_config_set(config, "serial", "none", &err) ||
        plastron_config_set(config, "name", "tester", &err))
        return -1;
    f->vm = plastron_vm_new(config, &err);
    plastron_config_free(config);
    f->target = (struct control_target){.vm = f->vm, .save = fake_save, .quit = fake_quit, .opaque = f};
    current = f;
    *state = f;
    return f->vm ? protocol_open(&f->session, &f->target, collect, f, &e) : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    protocol_close(&f->session);
    plastron_vm_free(f->vm);
    free(f);
    return 0;
}

/* Send text; returns the replies as an array, each on its line. */
static json_t *say(struct fixture *f, const char *text)
{
    json_t *replies = json_array();

    f->len = 0;
    f->output[0] = 0;
    assert_int_equal(protocol_input(&f->session, text, strlen(text)), 0);
    for (char *line = strtok(f->output, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        json_t *reply = json_loads(line, 0, NULL);
        assert_non_null(reply);
        json_array_append_new(replies, reply);
    }
    return replies;
}

static void negotiate(struct fixture *f)
{
    json_decref(say(f, "{\"execute\":\"qmp_capabilities\"}"));
}

/* Execute a command that has to work; returns what it returns. */
static json_t *execute(struct fixture *f, const char *text)
{
    json_t *replies = say(f, text);
    json_t *result = json_incref(json_object_get(json_array_get(replies, 0), "return"));

    assert_int_equal(json_array_size(replies), 1);
    assert_non_null(result);
    json_decref(replies);
    return result;
}

/* One reply: an error of this class with these words. */
static void expect_error(struct fixture *f, const char *text, const char *class, const char *words)
{
    json_t *replies = say(f, text), *error = json_object_get(json_array_get(replies, 0), "error");

    assert_int_equal(json_array_size(replies), 1);
    assert_non_null(error);
    assert_string_equal(json_string_value(json_object_get(error, "class")), class);
    assert_non_null(strstr(json_string_value(json_object_get(error, "desc")), words));
    json_decref(replies);
}

static void test_greeting_and_negotiation(void **state)
{
    struct fixture *f = *state;
    json_t *greeting = json_loads(f->output, 0, NULL);

    assert_non_null(json_object_get(json_object_get(json_object_get(greeting, "QMP"), "version"), "qemu"));
    json_decref(greeting);
    expect_error(f, "{\"execute\":\"query-status\"}", "CommandNotFound", "qmp_capabilities");
    protocol_event(&f->session, "STOP", NULL); /* not before the negotiation */
    assert_null(strstr(f->output, "STOP"));
    json_decref(execute(f, "{\"execute\":\"qmp_capabilities\"}"));
    expect_error(f, "{\"execute\":\"qmp_capabilities\"}", "CommandNotFound", "already");
    f->len = 0;
    protocol_event(&f->session, "STOP", NULL);
    assert_non_null(strstr(f->output, "\"event\":\"STOP\""));
}

static void test_envelope(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    /* Any way of cutting messages into reads, with or without line ends, ids of any kind given back. */
    json_t *replies = say(f, "{\"execute\":\"query-name\",\"id\":7}\r\n "
                             "{\"execute\":\"query-name\" , \"id\":[\"}\\\"{\"]}{\"exe");
    assert_int_equal(json_array_size(replies), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(replies, 0), "id")), 7);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(json_array_get(replies, 1), "id"), 0)), "}\"{");
    json_decref(replies);
    json_t *rest = execute(f, "cute\":\"query-name\"}");
    assert_string_equal(json_string_value(json_object_get(rest, "name")), "tester");
    json_decref(rest);
}

static void test_malformed(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    expect_error(f, "hello\n", "GenericError", "JSON");
    expect_error(f, "{]}", "GenericError", "JSON");
    expect_error(f, "}\n", "GenericError", "JSON");
    expect_error(f, "{\"execute\": \"query-status\n", "GenericError", "JSON"); /* the quote was forgotten */
    expect_error(f, "[1,2]", "GenericError", "object");
    expect_error(f, "{}", "GenericError", "execute");
    expect_error(f, "{\"execute\":5}", "GenericError", "execute");
    expect_error(f, "{\"execute\":\"query-status\",\"arguments\":[]}", "GenericError", "arguments");
    expect_error(f, "{\"execute\":\"query-status\",\"verbose\":true}", "GenericError", "verbose");
    expect_error(f, "{\"execute\":\"query-nonsense\"}", "CommandNotFound", "query-nonsense");
    expect_error(f, "{\"execute\":\"query-status\",\"arguments\":{\"x\":1}}", "GenericError", "'x'");
    expect_error(f, "{\"execute\":\"save\"}", "GenericError", "'file'");
    expect_error(f, "{\"execute\":\"save\",\"arguments\":{\"file\":5}}", "GenericError", "a string");
    json_decref(execute(f, "{\"execute\":\"query-status\"}")); /* and all is well after that */
}

static void test_message_too_long(void **state)
{
    struct fixture *f = *state;
    char *text = malloc(PROTOCOL_MESSAGE_MAX + 1);

    negotiate(f);
    memset(text, '[', PROTOCOL_MESSAGE_MAX + 1);
    f->len = 0;
    assert_int_equal(protocol_input(&f->session, text, PROTOCOL_MESSAGE_MAX + 1), -1);
    assert_non_null(strstr(f->output, "longer than"));
    free(text);
}

static void test_deep_nesting(void **state)
{
    struct fixture *f = *state;
    char *text = malloc(60001);

    negotiate(f);
    memset(text, '[', 30000);
    memset(text + 30000, ']', 30000);
    text[60000] = 0;
    expect_error(f, text, "GenericError", "JSON");
    free(text);
}

static void test_every_command_is_listed(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    json_t *list = execute(f, "{\"execute\":\"query-commands\"}"), *entry;
    size_t n, count = 0;
    while (protocol_commands[count].name)
        count++;
    assert_int_equal(json_array_size(list), count);
    json_array_foreach (list, n, entry) {
        assert_string_equal(json_string_value(json_object_get(entry, "name")), protocol_commands[n].name);
    }
    json_decref(list);
}

static void test_pause_and_resume(void **state)
{
    struct fixture *f = *state;
    json_t *status;

    negotiate(f);
    json_decref(execute(f, "{\"execute\":\"stop\"}"));
    status = execute(f, "{\"execute\":\"query-status\"}");
    assert_string_equal(json_string_value(json_object_get(status, "status")), "paused");
    assert_false(json_boolean_value(json_object_get(status, "running")));
    json_decref(status);
    json_decref(execute(f, "{\"execute\":\"cont\"}"));
    status = execute(f, "{\"execute\":\"query-status\"}");
    assert_string_equal(json_string_value(json_object_get(status, "status")), "running");
    json_decref(status);
}

static void test_info(void **state)
{
    struct fixture *f = *state;
    json_t *value;

    negotiate(f);
    value = execute(f, "{\"execute\":\"info\"}");
    assert_non_null(json_object_get(json_object_get(value, "vcpu1"), "rip"));
    json_decref(value);
    value = execute(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.rip\"}}");
    assert_string_equal(json_string_value(value), "0xfff0"); /* at the reset vector */
    json_decref(value);
    value = execute(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.seg[1].selector\"}}");
    assert_int_equal(json_integer_value(value), 0xf000);
    json_decref(value);
    expect_error(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.ripp\"}}", "GenericError",
                 "'rip'");
    expect_error(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.seg[99]\"}}", "GenericError",
                 "elements");
    expect_error(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.seg[1\"}}", "GenericError", "]");
    expect_error(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu0.rip.x\"}}", "GenericError", "'x'");
    expect_error(f, "{\"execute\":\"info\",\"arguments\":{\"path\":\"vcpu7\"}}", "GenericError", "is 'vcpu");
}

static void test_describe(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    json_t *facts = execute(f, "{\"execute\":\"describe\"}");
    assert_string_equal(json_string_value(json_object_get(facts, "name")), "tester");
    assert_int_equal(json_integer_value(json_object_get(facts, "memory")), 2 << 20);
    assert_int_equal(json_integer_value(json_object_get(facts, "cpus")), 2);
    json_decref(facts);
    json_t *cpus = execute(f, "{\"execute\":\"query-cpus-fast\"}");
    assert_int_equal(json_array_size(cpus), 2);
    json_decref(cpus);
    json_t *lines = execute(f, "{\"execute\":\"query-chardev\"}");
    assert_int_equal(json_array_size(lines), 4);
    assert_string_equal(json_string_value(json_object_get(json_array_get(lines, 0), "filename")), "none");
    json_decref(lines);
}

static void test_state_hash(void **state)
{
    struct fixture *f = *state;
    struct plastron_error err;
    json_t *before, *after;

    negotiate(f);
    before = execute(f, "{\"execute\":\"state-hash\"}");
    assert_int_equal(strlen(json_string_value(json_object_get(before, "hash"))), 32);
    assert_int_equal(plastron_write_memory(f->vm, 0x5000, "x", 1, &err), 0);
    after = execute(f, "{\"execute\":\"state-hash\"}");
    assert_false(json_equal(before, after));
    json_decref(before);
    json_decref(after);
}

static void test_save_and_quit(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    json_decref(execute(f, "{\"execute\":\"save\",\"arguments\":{\"file\":\"here\"}}"));
    assert_string_equal(f->saved, "here");
    expect_error(f, "{\"execute\":\"save\",\"arguments\":{\"file\":\"full\"}}", "GenericError",
                 "the disk is full");
    json_decref(execute(f, "{\"execute\":\"quit\"}"));
    assert_int_equal(f->quits, 1);
}

static void test_send_key(void **state)
{
    struct fixture *f = *state;

    negotiate(f);
    json_decref(execute(
        f, "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\",\"data\":\"ctrl\"},"
           "{\"type\":\"qcode\",\"data\":\"c\"}]}}"));
    expect_error(
        f, "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\",\"data\":\"contrl\"}]}}",
        "GenericError", "'ctrl'");
    expect_error(f, "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[5]}}", "GenericError", "qcode");
    expect_error(f, "{\"execute\":\"send-key\",\"arguments\":{\"keys\":[]}}", "GenericError", "key");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_and_negotiation),
        TEST(test_envelope),
        TEST(test_malformed),
        TEST(test_message_too_long),
        TEST(test_deep_nesting),
        TEST(test_every_command_is_listed),
        TEST(test_pause_and_resume),
        TEST(test_info),
        TEST(test_describe),
        TEST(test_state_hash),
        TEST(test_save_and_quit),
        TEST(test_send_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
