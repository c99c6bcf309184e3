/*
 * Describe, then attach (invariant 6). A device class is a const description; a board makes devices from classes by name,
 * sets properties, and attaches them. The same function does that for a cold boot and for a restore.
 *
 * A class's instance struct begins with struct device; chip state follows, usually as one embedded chip struct that has no
 * idea of a VM (invariant 7) and its own state table.
 */
#ifndef MACHINE_DEVICE_H
#define MACHINE_DEVICE_H

#include "base/error.h"
#include "base/types.h"
#include "state/state.h"

struct vm;
struct device;

enum property_type { PROP_BOOL, PROP_U8, PROP_U16, PROP_U32, PROP_U64, PROP_STRING, PROP_POINTER };

struct property {
    const char *name; /* NULL ends the list */
    enum property_type type;
    u32 offset; /* in the instance struct; PROP_STRING is a `char *` that the device owns, PROP_POINTER a
                                  `void *` that it borrows (a backend, another chip) */
    const char *default_value; /* text form; NULL: zero, or required when `required` */
    bool required;
    const char *help;
};

struct device_class {
    const char *name; /* "uart16550" */
    const char *help; /* one line for the manual */
    size_t size;      /* of the instance struct */
    const struct property *properties;
    const struct state_table *state; /* NULL: nothing to save */
    u32 state_offset;                /* of the struct that `state` describes, in the instance */
    /* Claim ports, memory, interrupts, gate sources and timers. Called once, device lock held or VM not running. */
    int (*attach)(struct device *device, struct error *err);
    void (*detach)(struct device *device); /* release host resources; may be NULL */
    void (*reset)(struct device *device); /* power-up state; called after attach and on every machine reset */
};

struct device {
    const struct device_class *class;
    struct vm *vm;
    char name[32]; /* unique in the VM, stable: "serial0"; names its section in snapshots */
    struct device *next;
    bool attached;
};

/* Make a device with default properties; owned by the VM. Aborts on a name that is taken (a bug of the board). */
struct device *device_new(struct vm *vm, const struct device_class *class, const char *name);

/* Set a property. From text with -1 and a message on a bad value; from a number or pointer aborting on a wrong name or
   type (a bug of the board). */
MUST_CHECK int device_set(struct device *device, const char *property, const char *text, struct error *err);
void device_set_number(struct device *device, const char *property, u64 value);
void device_set_pointer(struct device *device, const char *property, void *pointer);

MUST_CHECK int device_attach(struct device *device, struct error *err);

/* By name, or NULL. */
struct device *device_find(struct vm *vm, const char *name);

#endif
