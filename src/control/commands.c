/* The commands of the control socket. Those that QEMU has keep its names, arguments and results. */
#include <stdlib.h>
#include <string.h>

#include "control/protocol.h"

/* Turn the library's text into JSON; frees the text. */
static json_t *json_from_text(char *text, const struct plastron_error *perr, struct error *err)
{
    json_t *json = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

    if (!json)
        error_set(err, "%s", text ? "out of memory" : perr->text);
    free(text);
    return json;
}

static json_t *describe(const struct control_target *target, struct error *err)
{
    struct plastron_error perr = {{0}};

    return json_from_text(plastron_describe(target->vm, &perr), &perr, err);
}

static json_t *run_nothing(const struct control_target *target, json_t *arguments, struct error *err)
{
    return json_object();
}

static json_t *run_query_version(const struct control_target *target, json_t *arguments, struct error *err)
{
    int major = 0, minor = 0, micro = 0;

    sscanf(plastron_version(), "%d.%d.%d", &major, &minor, &micro);
    return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", major, "minor", minor, "micro", micro,
                     "package", "plastron");
}

static json_t *run_query_commands(const struct control_target *target, json_t *arguments, struct error *err)
{
    json_t *list = json_array();

    for (const struct protocol_command *command = protocol_commands; command->name; command++)
        json_array_append_new(list, json_pack("{s:s}", "name", command->name));
    return list;
}

static json_t *run_query_status(const struct control_target *target, json_t *arguments, struct error *err)
{
    bool paused = plastron_paused(target->vm);

    return json_pack("{s:b, s:b, s:s}", "running", !paused, "singlestep", false, "status",
                     paused ? "paused" : "running");
}

static json_t *run_query_name(const struct control_target *target, json_t *arguments, struct error *err)
{
    return json_pack("{s:s}", "name", plastron_vm_name(target->vm));
}

static json_t *run_query_cpus_fast(const struct control_target *target, json_t *arguments, struct error *err)
{
    json_t *facts = describe(target, err), *list = facts ? json_array() : NULL;
    json_int_t cpus = json_integer_value(json_object_get(facts, "cpus"));
    char path[48];

    for (json_int_t n = 0; n < cpus; n++) {
        snprintf(path, sizeof(path), "/machine/cpu[%lld]", (long long)n);
        json_array_append_new(list,
                              json_pack("{s:I, s:s, s:O, s:s}", "cpu-index", n, "qom-path", path, "thread-id",
                                        json_object_get(facts, "thread-id"), "target", "x86_64"));
    }
    json_decref(facts);
    return list;
}

static json_t *run_query_chardev(const struct control_target *target, json_t *arguments, struct error *err)
{
    json_t *facts = describe(target, err), *list = facts ? json_array() : NULL, *line;
    char label[32];
    size_t n;

    json_array_foreach (json_object_get(facts, "serial"), n, line) {
        snprintf(label, sizeof(label), "serial%zu", n);
        json_array_append_new(
            list, json_pack("{s:s, s:O, s:b}", "label", label, "filename", line, "frontend-open", 1));
    }
    json_decref(facts);
    return list;
}

static json_t *run_stop(const struct control_target *target, json_t *arguments, struct error *err)
{
    plastron_pause(target->vm);
    return json_object();
}

static json_t *run_cont(const struct control_target *target, json_t *arguments, struct error *err)
{
    plastron_resume(target->vm);
    return json_object();
}

static json_t *run_quit(const struct control_target *target, json_t *arguments, struct error *err)
{
    target->quit(target->opaque);
    return json_object();
}

static json_t *run_system_reset(const struct control_target *target, json_t *arguments, struct error *err)
{
    struct plastron_error perr;

    if (plastron_reset(target->vm, &perr)) {
        error_set(err, "%s", perr.text);
        return NULL;
    }
    return json_object();
}

static json_t *run_system_powerdown(const struct control_target *target, json_t *arguments, struct error *err)
{
    plastron_power_button(target->vm);
    return json_object();
}

/* {"keys": [{"type": "qcode", "data": "ctrl"}, ...]}: pressed together. */
static json_t *run_send_key(const struct control_target *target, json_t *arguments, struct error *err)
{
    json_t *keys = json_object_get(arguments, "keys"), *key;
    struct plastron_error perr;
    char names[256] = "";
    size_t n, len = 0;

    json_array_foreach (keys, n, key) {
        const char *type = json_string_value(json_object_get(key, "type"));
        const char *data = json_string_value(json_object_get(key, "data"));
        if (!type || strcmp(type, "qcode") || !data) {
            error_set(err, "each of 'keys' must be {\"type\": \"qcode\", \"data\": NAME}");
            return NULL;
        }
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", n ? "-" : "", data);
        if (len >= sizeof(names)) {
            error_set(err, "too many keys at once");
            return NULL;
        }
    }
    if (plastron_send_keys(target->vm, names, &perr)) {
        error_set(err, "%s", perr.text);
        return NULL;
    }
    return json_object();
}

static json_t *run_save(const struct control_target *target, json_t *arguments, struct error *err)
{
    struct plastron_error perr;

    if (target->save(target->vm, json_string_value(json_object_get(arguments, "file")), &perr)) {
        error_set(err, "%s", perr.text);
        return NULL;
    }
    return json_object();
}

static json_t *run_describe(const struct control_target *target, json_t *arguments, struct error *err)
{
    return describe(target, err);
}

static json_t *run_info(const struct control_target *target, json_t *arguments, struct error *err)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    struct plastron_error perr = {{0}};

    return json_from_text(plastron_inspect(target->vm, path, &perr), &perr, err);
}

static json_t *run_set_engine(const struct control_target *target, json_t *arguments, struct error *err)
{
    struct plastron_error perr;

    if (plastron_set_engine(target->vm, json_string_value(json_object_get(arguments, "engine")), &perr)) {
        error_set(err, "%s", perr.text);
        return NULL;
    }
    return json_object();
}

static json_t *run_state_hash(const struct control_target *target, json_t *arguments, struct error *err)
{
    char hash[33];

    plastron_state_hash(target->vm, hash);
    return json_pack("{s:s}", "hash", hash);
}

const struct protocol_command protocol_commands[] = {
    {.name = "qmp_capabilities", .arguments = {{"enable", JSON_ARRAY, true}}, .run = run_nothing},
    {.name = "query-version", .run = run_query_version},
    {.name = "query-commands", .run = run_query_commands},
    {.name = "query-status", .run = run_query_status},
    {.name = "query-name", .run = run_query_name},
    {.name = "query-cpus-fast", .run = run_query_cpus_fast},
    {.name = "query-chardev", .run = run_query_chardev},
    {.name = "stop", .run = run_stop},
    {.name = "cont", .run = run_cont},
    {.name = "quit", .run = run_quit},
    {.name = "system_reset", .run = run_system_reset},
    {.name = "system_powerdown", .run = run_system_powerdown},
    {.name = "send-key",
     .arguments = {{"keys", JSON_ARRAY, false}, {"hold-time", JSON_INTEGER, true}},
     .run = run_send_key},
    {.name = "save", .arguments = {{"file", JSON_STRING, false}}, .run = run_save},
    {.name = "describe", .run = run_describe},
    {.name = "info", .arguments = {{"path", JSON_STRING, true}}, .run = run_info},
    {.name = "set-engine", .arguments = {{"engine", JSON_STRING, false}}, .run = run_set_engine},
    {.name = "state-hash", .run = run_state_hash},
    {.name = NULL},
};
