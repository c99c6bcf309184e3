/* Looking inside: the state tables as JSON, facts about the VM, the hash. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/vm.h"
#include "base/text.h"
#include "machine/vm_state.h"

/* ---- State tables to JSON --------------------------------------------------------------------------------------- */

/* Put `value` (reference taken) at a path such as "seg[1].base" below `object`. Elements of arrays come in order. */
static void json_put(json_t *object, const char *path, json_t *value)
{
    for (;;) {
        char name[128];
        size_t len = strcspn(path, ".[");
        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        path += len;
        if (*path == '[') {
            char *end;
            size_t index = strtoul(path + 1, &end, 10);
            path = end + 1;
            json_t *array = json_object_get(object, name);
            if (!array)
                json_object_set_new(object, name, array = json_array());
            if (!*path) {
                json_array_append_new(array, value);
                return;
            }
            json_t *element = json_array_get(array, index);
            if (!element)
                json_array_append_new(array, element = json_object());
            object = element;
        } else if (!*path) {
            json_object_set_new(object, name, value);
            return;
        } else {
            json_t *child = json_object_get(object, name);
            if (!child)
                json_object_set_new(object, name, child = json_object());
            object = child;
        }
        path++; /* the '.' */
    }
}

static void put_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    char hex[24];
    json_t *json;

    if (field->type == STATE_BOOL) {
        json = json_boolean(value != 0);
    } else if (field->type == STATE_U64) { /* JSON's readers have no 64 bits without a sign */
        snprintf(hex, sizeof(hex), "0x%llx", (unsigned long long)value);
        json = json_string(hex);
    } else {
        json = json_integer((json_int_t)value);
    }
    json_put(opaque, path, json);
}

static void put_bytes(void *opaque, const char *path, const struct state_field *field, const u8 *data,
                      size_t len)
{
    char *hex = malloc(2 * len + 1);

    if (!hex)
        return;
    hex[0] = 0;
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", data[i]);
    json_put(opaque, path, json_string(hex));
    free(hex);
}

/* ---- What engines count ----------------------------------------------------------------------------------------- */

static void put_fact(void *opaque, const char *name, u64 value)
{
    json_put(opaque, name, json_integer((json_int_t)value));
}

static json_t *engine_facts(const struct vcpu *vcpu)
{
    json_t *facts = json_object();

    put_fact(facts, "instructions", vcpu->state.icount);
    if (vcpu->engine && vcpu->engine->info)
        vcpu->engine->info(vcpu, put_fact, facts);
    return facts;
}

/* A part named after the engine: an element for each vCPU. */
static void put_engine(json_t *parts, const struct vm *machine)
{
    json_t *vcpus = json_array();

    for (unsigned n = 0; n < machine->nvcpus; n++)
        json_array_append_new(vcpus, engine_facts(machine->vcpus[n]));
    json_object_set_new(parts, machine->vcpus[0]->engine->name, vcpus);
}

/* ---- Parts by path ---------------------------------------------------------------------------------------------- */

struct inspection {
    json_t *parts;
    const char *only; /* name of the one part that is wanted, `only_len` long; NULL: all */
    size_t only_len;
    bool names_alone;
};

static void inspect_section(void *opaque, const struct state_section *section)
{
    struct inspection *inspection = opaque;

    if (inspection->only && (strlen(section->name) != inspection->only_len ||
                             memcmp(section->name, inspection->only, inspection->only_len)))
        return;
    json_t *part = json_object();
    struct state_visitor visitor = {.value = put_value, .bytes = put_bytes, .opaque = part};
    if (!inspection->names_alone)
        state_visit(section->table, section->object, &visitor);
    json_object_set_new(inspection->parts, section->name, part);
}

/* Go down one step of a path. NULL with what there is instead. */
static json_t *descend(json_t *json, const char *step, size_t len, const char *path, struct error *err)
{
    struct text_nearest nearest = {0};
    char name[128];
    const char *key;
    json_t *child;

    snprintf(name, sizeof(name), "%.*s", (int)len, step);
    if (step[0] == '[') {
        child = json_array_get(json, strtoul(step + 1, NULL, 10));
        if (!child)
            error_set(err, "there is no %s: it has %zu elements", path, json_array_size(json));
        return child;
    }
    child = json_object_get(json, name);
    if (child)
        return child;
    json_object_foreach (json, key, child) {
        text_nearest_offer(&nearest, name, key);
    }
    if (nearest.best)
        error_set(err, "there is no '%s' in %s; is '%s' meant?", name, path, nearest.best);
    else
        error_set(err, "there is no '%s' in %s", name, path);
    return NULL;
}

static json_t *follow(json_t *json, const char *path, struct error *err)
{
    for (const char *step = path; json && *step;) {
        size_t len = *step == '[' ? strcspn(step, "]") + 1 : strcspn(step, ".[");
        if (len > strlen(step)) {
            error_set(err, "the path %s lacks a ']'", path);
            return NULL;
        }
        json = descend(json, step, len, path, err);
        step += len;
        step += *step == '.';
    }
    return json;
}

static char *json_text(json_t *json, struct error *err)
{
    char *text = json_dumps(json, JSON_ENCODE_ANY | JSON_INDENT(2));

    if (!text)
        error_set(err, "out of memory");
    return text;
}

char *plastron_inspect(plastron_vm *vm, const char *path, struct plastron_error *err)
{
    struct inspection inspection = {.parts = json_object(), .only = path && *path ? path : NULL};
    struct error e = {{0}};

    if (inspection.only)
        inspection.only_len = strcspn(path, ".[");
    vm_park(vm->machine);
    vm_state_sections(vm->machine, inspect_section, &inspection);
    if (!json_object_size(
            inspection.parts)) { /* the engine, or the answer is a suggestion, which needs all names */
        inspection.only = NULL;
        inspection.names_alone = true;
        vm_state_sections(vm->machine, inspect_section, &inspection);
        if (vm->machine->vcpus[0]->engine)
            put_engine(inspection.parts, vm->machine);
    }
    vm_unpark(vm->machine);
    json_t *found = path ? follow(inspection.parts, path, &e) : inspection.parts;
    char *text = found ? json_text(found, &e) : NULL;
    json_decref(inspection.parts);
    if (!text)
        api_error(err, &e);
    return text;
}

void plastron_state_hash(plastron_vm *vm, char hash[33])
{
    vm_park(vm->machine);
    struct vm_hash h = vm_state_hash(vm->machine);

    vm_unpark(vm->machine);
    snprintf(hash, 33, "%016llx%016llx", (unsigned long long)h.high, (unsigned long long)h.low);
}

/* ---- Facts ------------------------------------------------------------------------------------------------------ */

static void name_section(void *opaque, const struct state_section *section)
{
    json_array_append_new(opaque, json_string(section->name));
}

char *plastron_describe(plastron_vm *vm, struct plastron_error *err)
{
    struct vm *machine = vm->machine;
    json_t *counters = json_array(), *serial = json_array(), *parts = json_array();
    struct error e;
    u64 instructions = 0;
    bool running = __atomic_load_n(&vm->running, __ATOMIC_ACQUIRE), paused = vm_paused(machine);
    const char *engine = "none";

    vm_park(vm->machine);
    for (unsigned i = 0; i < machine->nvcpus; i++) {
        struct vcpu *vcpu = machine->vcpus[i];
        instructions += vcpu->state.icount;
        if (vcpu->engine)
            engine = vcpu->engine->name;
        json_array_append_new(counters, engine_facts(vcpu));
    }
    vm_state_sections(machine, name_section, parts);
    u64 now = clock_now(&machine->clock);
    vm_unpark(vm->machine);
    struct plastron_config *absolute = config_absolute(vm->config, vm->folder);
    for (unsigned n = 0; absolute && n < PC_SERIAL_PORTS; n++)
        json_array_append_new(serial, json_string(config_serial(absolute, n)));
    plastron_config_free(absolute);
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:i, s:I, s:i, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "name", vm->name, "status",
        !running ? "stopped"
        : paused ? "paused"
                 : "running",
        "pid", (int)getpid(), "thread-id", __atomic_load_n(&vm->runner_tid, __ATOMIC_RELAXED), "memory",
        (json_int_t)machine->config.ram_size, "cpus", (int)machine->nvcpus, "engine", engine, "clock",
        machine->config.clock == CLOCK_ICOUNT ? "icount" : "host", "instructions", (json_int_t)instructions,
        "time-ns", (json_int_t)now, "options", config_to_json(vm->config), "serial", serial, "vcpus",
        counters, "parts", parts);
    char *text = json ? json_text(json, &e) : NULL;
    if (!json)
        error_set(&e, "out of memory");
    json_decref(json);
    if (!text)
        api_error(err, &e);
    return text;
}
