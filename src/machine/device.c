#include "machine/device.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/vm_internal.h"

static const struct property *find_property(const struct device_class *class, const char *name)
{
    for (const struct property *p = class->properties; p && p->name; p++) {
        if (strcmp(p->name, name) == 0)
            return p;
    }
    return NULL;
}

static void *property_place(struct device *device, const struct property *property)
{
    return (u8 *)device + property->offset;
}

static unsigned number_width(enum property_type type)
{
    switch (type) {
    case PROP_U8: return 1;
    case PROP_U16: return 2;
    case PROP_U32: return 4;
    case PROP_U64: return 8;
    case PROP_BOOL:
    case PROP_STRING:
    case PROP_POINTER: break;
    }
    return 0;
}

static void store_number(struct device *device, const struct property *property, u64 value)
{
    void *place = property_place(device, property);

    switch (property->type) {
    case PROP_BOOL: *(bool *)place = value; return;
    case PROP_U8: *(u8 *)place = (u8)value; return;
    case PROP_U16: *(u16 *)place = (u16)value; return;
    case PROP_U32: *(u32 *)place = (u32)value; return;
    case PROP_U64: *(u64 *)place = value; return;
    case PROP_STRING:
    case PROP_POINTER: break;
    }
    abort();
}

static int set_bool(struct device *device, const struct property *property, const char *text,
                    struct error *err)
{
    bool on = strcmp(text, "on") == 0;

    if (!on && strcmp(text, "off") != 0)
        return error_set(err, "%s: %s=%s: say on or off", device->name, property->name, text);
    store_number(device, property, on);
    return 0;
}

static int set_number(struct device *device, const struct property *property, const char *text,
                      struct error *err)
{
    unsigned width = number_width(property->type);
    u64 max = width == 8 ? UINT64_MAX : (1ull << 8 * width) - 1;
    unsigned long long value;
    char *end;

    errno = 0;
    value = strtoull(text, &end, 0);
    if (text[0] < '0' || text[0] > '9' || *end)
        return error_set(err, "%s: %s=%s is not a number", device->name, property->name, text);
    if (errno == ERANGE || value > max)
        return error_set(err, "%s: %s=%s is more than %llu", device->name, property->name, text,
                         (unsigned long long)max);
    store_number(device, property, value);
    return 0;
}

static int set_string(struct device *device, const struct property *property, const char *text,
                      struct error *err)
{
    char **place = property_place(device, property);
    char *copy = strdup(text);

    if (!copy)
        return error_set(err, "%s: out of memory", device->name);
    free(*place);
    *place = copy;
    return 0;
}

static int set_from_text(struct device *device, const struct property *property, const char *text,
                         struct error *err)
{
    if (property->type == PROP_BOOL)
        return set_bool(device, property, text, err);
    if (property->type == PROP_STRING)
        return set_string(device, property, text, err);
    if (property->type == PROP_POINTER)
        return error_set(err, "%s: %s cannot be given as text", device->name, property->name);
    return set_number(device, property, text, err);
}

int device_set(struct device *device, const char *property, const char *text, struct error *err)
{
    const struct property *found = find_property(device->class, property);

    if (!found)
        return error_set(err, "%s: %s has no property %s", device->name, device->class->name, property);
    return set_from_text(device, found, text, err);
}

void device_set_number(struct device *device, const char *property, u64 value)
{
    const struct property *found = find_property(device->class, property);

    assert(found && found->type != PROP_STRING && found->type != PROP_POINTER);
    assert(number_width(found->type) == 8 || number_width(found->type) == 0 ||
           value >> 8 * number_width(found->type) == 0);
    store_number(device, found, value);
}

void device_set_pointer(struct device *device, const char *property, void *pointer)
{
    const struct property *found = find_property(device->class, property);

    assert(found && found->type == PROP_POINTER);
    *(void **)property_place(device, found) = pointer;
}

/* Whether a property that must be given was: numbers and flags always have a value. */
static bool is_missing(struct device *device, const struct property *property)
{
    return property->required && (property->type == PROP_STRING || property->type == PROP_POINTER) &&
           !*(void **)property_place(device, property);
}

int device_attach(struct device *device, struct error *err)
{
    assert(!device->attached);
    for (const struct property *p = device->class->properties; p && p->name; p++) {
        if (is_missing(device, p))
            return error_set(err, "%s: the property %s must be given: %s", device->name, p->name, p->help);
    }
    if (device->class->attach(device, err))
        return error_prefix(err, "%s", device->name);
    device->attached = true;
    if (device->class->reset)
        device->class->reset(device);
    return 0;
}

struct device *device_new(struct vm *vm, const struct device_class *class, const char *name)
{
    struct device *device;
    struct error err = {.text = ""};

    assert(class->size >= sizeof(struct device) && strlen(name) < sizeof(device->name) &&
           !device_find(vm, name));
    device = calloc(1, class->size);
    if (!device)
        abort();
    device->class = class;
    device->vm = vm;
    snprintf(device->name, sizeof(device->name), "%s", name);
    for (const struct property *p = class->properties; p && p->name; p++) {
        if (p->default_value && set_from_text(device, p, p->default_value, &err))
            abort(); /* a default that is no value of its type */
    }
    *vm->devices_last = device;
    vm->devices_last = &device->next;
    return device;
}

struct device *device_find(struct vm *vm, const char *name)
{
    for (struct device *device = vm->devices; device; device = device->next) {
        if (strcmp(device->name, name) == 0)
            return device;
    }
    return NULL;
}

static void free_device(struct device *device)
{
    if (device->attached && device->class->detach)
        device->class->detach(device);
    for (const struct property *p = device->class->properties; p && p->name; p++) {
        if (p->type == PROP_STRING)
            free(*(char **)property_place(device, p));
    }
    free(device);
}

void device_free_all(struct vm *vm)
{
    while (vm->devices) {
        struct device **at = &vm->devices;

        while ((*at)->next)
            at = &(*at)->next;
        free_device(*at);
        *at = NULL;
    }
    vm->devices_last = &vm->devices;
}
