/*
 * A virtual machine: clock, memory, ports, interrupts, devices, vCPUs, and the loop that runs them.
 *
 * Threads and locks (design, "Threads and locks"). `device_lock` guards chips, wiring, timers and both maps. The thread that
 * is inside vm_run is the machine thread: it drains the gate and fires timers. In turn, it also runs all vCPUs, and does
 * the former at their instruction boundaries; free-running, each vCPU has a thread of its own. Any other thread reaches the
 * machine through the gate, or by vm_park.
 */
#ifndef MACHINE_VM_H
#define MACHINE_VM_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "machine/clock.h"
#include "machine/device.h"
#include "machine/engine.h"
#include "machine/gate.h"
#include "machine/io.h"
#include "machine/irq.h"
#include "machine/memory.h"
#include "machine/timer.h"
#include "machine/trace.h"
#include "machine/vcpu.h"
#include "machine/world.h"

enum { VM_MAX_VCPUS = 64 };

/* Frequency of the TSC where the configuration does not say: one tick an instruction under icount, else a round number that
   does not depend on the host. */
#define VM_TSC_HZ_ICOUNT UINT64_C(1000000000)
#define VM_TSC_HZ_HOST   UINT64_C(2000000000)

/* Clock of the local APICs' timers. */
#define VM_APIC_HZ UINT64_C(1000000000)

enum vm_stop_reason {
    VM_STOP_NONE,
    VM_STOP_POWEROFF,   /* S5 */
    VM_STOP_RESET,      /* reset with --no-reboot */
    VM_STOP_CRASH,      /* triple fault with --no-reboot */
    VM_STOP_DEBUG_EXIT, /* isa-debug-exit; vm->exit_code */
    VM_STOP_REQUEST,    /* vm_stop by the user */
    VM_STOP_BUDGET,     /* vm_run's instruction limit */
    VM_STOP_HOOK,
    VM_STOP_ERROR, /* vm->stop_error says what */
};

struct vm_config {
    const char *name;
    u64 ram_size;   /* bytes, multiple of 4096 */
    unsigned vcpus; /* 1..VM_MAX_VCPUS */
    struct cpu_model cpu;
    enum clock_driver clock;
    u64 tsc_hz;    /* 0: 1 GHz under icount, a stable default of 2 GHz otherwise */
    i64 rtc_start; /* seconds since 1970 that the RTC starts at */
    bool no_reboot;
    u64 jit_cache;     /* bytes of translated code; 0: the translator's default */
    u32 jit_threshold; /* executions of a block before it is translated; 0: the translator's default */
    bool jit_perf_map; /* names of translated code for perf, in /tmp/perf-PID.map */
    /* Tests of what engines do on lesser hosts: they execute on this one what it has, and this model has. NULL: no limit.
       Borrowed. */
    const struct cpu_model *host_limit;
    u64 random_seed; /* icount: RDRAND and other randomness come from it; 0 with the host clock: host entropy */
};

struct vm {
    struct vm_config config;     // not saved: what the machine was made from; snapshots carry it as text
    pthread_mutex_t device_lock; // not saved: host object
    struct world world;          // not saved: host object
    struct clock clock;
    struct timer_queue timers;        /* next_order alone: armed timers are in the state of their devices */
    struct gate gate;                 // not saved: what waits at the gate is outside the machine
    struct memory memory;             // not saved: has a section of its own (vm_state.h)
    struct port_map ports;            // not saved: wiring, with the owners' state behind it
    struct irq_router irqs;           // not saved: has a section of its own
    struct device *devices;           // not saved: in order of creation; each has a section of its own
    struct device **devices_last;     // not saved: where the next device is linked
    struct vcpu *vcpus[VM_MAX_VCPUS]; // not saved: each has a section of its own
    unsigned nvcpus;                  // not saved: configuration
    u32 turn; /* index of the vCPU whose turn it is; saved, so that a restored icount run goes on alike */
    u64 turn_left;                   /* instructions left in its turn */
    u64 random_state;                /* of the generator behind vcpu_random with the icount clock */
    u32 requests;                    // not saved: atomic, VM_REQ_*; a save waits until they are served
    enum vm_stop_reason stop_reason; // not saved: about the last vm_run
    int exit_code;                   // not saved: with VM_STOP_DEBUG_EXIT
    struct error stop_error;         // not saved: with VM_STOP_ERROR
    struct vm_private *private;      // not saved: machine/vm.c: run loop, park, wakeups
    const char *board_name;          // not saved: compared with the snapshot's; NULL: none
    void *board;                     // not saved: the board's own part
    /* Ends the board's own part, after the devices were freed; may be NULL. */
    void (*board_free)(struct vm *vm); // not saved: wiring
    /* After devices and vCPUs were reset, with the device lock held: reload the kernel. May be NULL. */
    int (*on_reset)(struct vm *vm, void *opaque, struct error *err); // not saved: wiring
    void *on_reset_opaque;                                           // not saved: wiring
    /* FERR# of the bootstrap processor goes to a level; returns IGNNE#. Device lock held. NULL: not wired. */
    bool (*fpu_error)(void *opaque, bool ferr); // not saved: wiring
    void *fpu_error_opaque;                     // not saved: wiring
    /* Observers for the public API; may be NULL. `event` is "RESET", "SHUTDOWN" (the guest has ended), "STOP" or "RESUME".
       Called with no lock on the thread that caused it. */
    void (*on_event)(struct vm *vm, const char *event, void *opaque); // not saved: wiring
    void *on_event_opaque;                                            // not saved: wiring
    const struct trace_ops
        *trace;         // not saved: observers of what the guest does, or NULL; set by vm_set_trace
    void *trace_opaque; // not saved: wiring
};

enum {
    VM_REQ_RESET = 1,
    VM_REQ_POWEROFF = 2,
    VM_REQ_STOP = 4,
    VM_REQ_DEBUG_EXIT = 8,
    VM_REQ_SHUTDOWN = 16, /* a vCPU on a thread of its own ran into a triple fault */
};

/* Make a VM with vCPUs (no engine yet), RAM block and clock, but no devices: the board adds them. NULL with `err`. */
struct vm *vm_new(const struct vm_config *config, struct error *err);
void vm_free(struct vm *vm);

/* Give every vCPU this engine (again). VM parked or not running. */
MUST_CHECK int vm_set_engine(struct vm *vm, const struct engine_ops *engine, struct error *err);

/* Set or (NULL) take away the observers; `trace` is borrowed. VM parked or not running. */
static inline void vm_set_trace(struct vm *vm, const struct trace_ops *trace, void *opaque)
{
    vm->trace = trace;
    vm->trace_opaque = opaque;
}

/* Put router, devices and vCPUs in their power-up state, then call on_reset, which may fail. VM parked or not running. */
MUST_CHECK int vm_reset(struct vm *vm, struct error *err);

/*
 * Run until something ends or interrupts it; `max_insns` bounds the instructions of all vCPUs together (UINT64_MAX: no
 * bound). Called by one thread at a time. After VM_STOP_REQUEST, BUDGET and HOOK another vm_run goes on; after the other
 * reasons it comes back at once with the same one until vm_reset.
 */
enum vm_stop_reason vm_run(struct vm *vm, u64 max_insns);

/* Requests, from any thread or from a device with its lock held; served at the next instruction boundary. vm_stop while no
   vm_run is under way ends the next one before its first instruction. */
void vm_request_reset(struct vm *vm);
void vm_request_poweroff(struct vm *vm);
void vm_request_debug_exit(struct vm *vm, int code);
void vm_stop(struct vm *vm);

/* Stop the world: returns when every vCPU stands at an instruction boundary and no device works; vm_unpark lets them go
   on. Guest time stands still meanwhile. Nests. With no lock held. On the machine's own threads (hooks, devices) both do
   nothing. */
void vm_park(struct vm *vm);
void vm_unpark(struct vm *vm);

/* Pause and resume as a user sees them: the clock stands still while paused, vm_run stays inside. Not on the thread that is
   inside vm_run. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
bool vm_paused(const struct vm *vm);

static inline void vm_lock(struct vm *vm)
{
    pthread_mutex_lock(&vm->device_lock);
}
static inline void vm_unlock(struct vm *vm)
{
    pthread_mutex_unlock(&vm->device_lock);
}

#endif
