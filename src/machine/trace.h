/*
 * Observers of what a guest does: for `--trace`, the public API's hooks and, later, a debugger. They look and do not touch:
 * a traced run ends in the same state as one that is not.
 *
 * `vm->trace` points at one set of callbacks or is NULL. Set it with vm_set_trace while the VM is parked or not running;
 * engines look at it once, on entry of run, and pick the form of their loop that calls `insn`, so that a VM without a
 * trace pays nothing. The other callbacks stand at places that are slow anyway: one test of a pointer. Every callback may
 * be NULL. All are called on the thread that runs the vCPU, with no lock held.
 */
#ifndef MACHINE_TRACE_H
#define MACHINE_TRACE_H

#include "base/types.h"

struct vcpu;

/* Why an event is delivered through the IDT. */
enum trace_event { TRACE_EXCEPTION, TRACE_SOFTWARE, TRACE_INTERRUPT, TRACE_NMI };

struct trace_ops {
    /*
     * Before each instruction and each iteration of a REP, called by the engine with vcpu->state complete and exact. true:
     * come out of run with ENGINE_EXIT_HOOK before executing it.
     */
    bool (*insn)(void *opaque, struct vcpu *vcpu);
    /* Called by the engine when it begins to deliver an event, state as before the delivery. For #PF, `address` is what
       CR2 gets; otherwise 0. */
    void (*event)(void *opaque, struct vcpu *vcpu, enum trace_event kind, u8 vector, bool has_error,
                  u32 error, u64 address);
    /* Called by machine/vcpu.c after a port access or an access to memory-mapped registers. `size` in bytes. */
    void (*port)(void *opaque, struct vcpu *vcpu, bool write, u32 port, unsigned size, u32 value);
    void (*mmio)(void *opaque, struct vcpu *vcpu, bool write, u64 phys, unsigned size, u64 value);
};

#endif
