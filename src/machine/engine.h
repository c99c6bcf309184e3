/*
 * What runs guest instructions. One const table an engine; a running VM may move from one to another at any instruction
 * boundary, because vcpu->state is complete and exact whenever no engine is inside run (invariant 1).
 */
#ifndef MACHINE_ENGINE_H
#define MACHINE_ENGINE_H

#include "base/error.h"
#include "base/types.h"

struct vcpu;

enum engine_exit {
    ENGINE_EXIT_BUDGET,   /* max_insns were retired */
    ENGINE_EXIT_KICK,     /* KICK_EXIT is set */
    ENGINE_EXIT_HALT,     /* state.activity is not VCPU_RUNNING any more (HLT, waiting for SIPI) */
    ENGINE_EXIT_SHUTDOWN, /* triple fault: activity is VCPU_SHUTDOWN */
    ENGINE_EXIT_HOOK,     /* a hook asked for the exit (breakpoint, public API) */
    ENGINE_EXIT_YIELD, /* PAUSE was retired while vm->nvcpus > 1: another vCPU may have what this one waits for (with
                          threads: PAUSE was retired many times). Comes before every other reason to exit, as turns must not depend on those */
};

struct engine_ops {
    const char *name;
    MUST_CHECK int (*attach)(struct vcpu *vcpu,
                             struct error *err); /* make the private part; state may change freely
                                                                       until the first run */
    void (*detach)(struct vcpu *vcpu);
    /* vcpu->state was changed by somebody else since the last run: forget what was derived from it. Also drops the TLB. */
    void (*state_changed)(struct vcpu *vcpu);
    /*
     * Run at most `max_insns` instructions, exactly that many unless another exit comes first. REP iterations count one
     * each, and so does an instruction that ends in a fault: a guest whose fault handler faults for ever must not stop
     * time. Delivers pending interrupts, NMI, INIT and SIPI (vcpu_serve_signals) at instruction boundaries. state.icount
     * grows by what was retired; without a bound (from 2^62 on) an engine may leave that out. The vCPU's thread, device lock
     * not held.
     *
     * The kick word is polled at every block end, and right after each instruction that called one of the vcpu_* access
     * functions (vcpu.h): a timer armed by a port access is then due at its exact instruction in every engine. KICK_REQUEST is
     * answered with vcpu_give_way (world.h), whatever else there is to do.
     */
    enum engine_exit (*run)(struct vcpu *vcpu, u64 max_insns);
    /* Instructions retired in the run that is under way, up to the instruction being executed: the exact virtual time of a
       port access in deterministic mode. 0 outside run. */
    u64 (*retired)(const struct vcpu *vcpu);
    /* Addresses (RIP) of the blocks or instructions that ran last, oldest first, for the report of a crash; returns how many
       were filled in (at most `max`). vCPU not running. May be NULL. */
    unsigned (*recent)(const struct vcpu *vcpu, u64 *rips, unsigned max);
    /* One line per fact for `info`: counters of this engine. May be NULL. */
    void (*info)(const struct vcpu *vcpu, void (*fact)(void *opaque, const char *name, u64 value),
                 void *opaque);
};

#endif
