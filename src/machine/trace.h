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

/* A run of guest code that an engine has translated to host code; what it points to is good for the time of the call. */
struct trace_translation {
    u64 rip;
    u8 code_size; /* enum x86_code_size */
    bool user;
    const u8 *guest, *host; /* the bytes */
    u64 host_address;       /* that the host's are executed at */
    /* The host's code in order: what each piece is for. Guest bytes are those of one instruction, or there are none. */
    unsigned nparts;
    const struct trace_part {
        const char *what; /* NULL: just the instruction */
        u32 guest, guest_len, host, host_len;
    } * parts;
};

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
    /* Called by an engine that translates, after it has. */
    void (*translation)(void *opaque, struct vcpu *vcpu, const struct trace_translation *translation);
};

#endif
