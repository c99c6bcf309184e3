/*
 * The state of a whole machine as a list of named sections, each an object and its table. Snapshot, hash, `info` and diffs
 * are consumers of this one list; the content of memory blocks is beside it (vm->memory.blocks).
 */
#ifndef MACHINE_VM_STATE_H
#define MACHINE_VM_STATE_H

#include "base/error.h"
#include "base/types.h"
#include "state/state.h"

struct vm;

struct state_section {
    const char *name; /* "vm", "memory", "irq", "vcpu0", or a device's name; unique in the VM */
    const struct state_table *table;
    void *object;
};

/* Call `section` for each, in the order in which they must be loaded. VM parked or not running. */
void vm_state_sections(struct vm *vm, void (*section)(void *opaque, const struct state_section *section),
                       void *opaque);

/*
 * After every section and the memory were loaded: checks that concern several of them, the memory map made anew, engines
 * told. -1: the VM must not run and must be freed.
 */
MUST_CHECK int vm_state_loaded(struct vm *vm, struct error *err);

/*
 * A hash of all state and memory. Equal machines have equal hashes: with the icount clock two runs of the same guest with
 * the same input give the same one. Zero pages count as absent. VM parked or not running.
 */
struct vm_hash {
    u64 low, high;
};
struct vm_hash vm_state_hash(struct vm *vm);

#endif
