/*
 * A virtual machine: clock, memory, ports, interrupts, devices, vCPUs, and the loop that runs them.
 *
 * Threads and locks (design, "Threads and locks"). `device_lock` guards chips, wiring, timers and both maps. In turn, all
 * vCPUs run on the one thread that is inside vm_run; it drains the gate and fires timers at instruction boundaries. Any
 * other thread reaches the machine through the gate, or by vm_park.
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

enum { VM_MAX_VCPUS = 64 };

enum vm_stop_reason {
    VM_STOP_NONE,
    VM_STOP_POWEROFF,   /* S5 */
    VM_STOP_RESET,      /* reset with --no-reboot */
    VM_STOP_CRASH,      /* triple fault with --no-reboot */
    VM_STOP_DEBUG_EXIT, /* isa-debug-exit; vm->exit_code */
    VM_STOP_REQUEST,    /* vm_stop by the user */
    VM_STOP_BUDGET,     /* vm_run's instruction limit */
    VM_STOP_HOOK,
    VM_STOP_ERROR,      /* vm->stop_error says what */
};

struct vm_config {
    const char *name;
    u64 ram_size;    /* bytes, multiple of 4096 */
    unsigned vcpus;  /* 1..VM_MAX_VCPUS */
    struct cpu_model cpu;
    enum clock_driver clock;
    u64 tsc_hz;      /* 0: 1 GHz under icount, a stable default of 2 GHz otherwise */
    i64 rtc_start;   /* seconds since 1970 that the RTC starts at */
    bool no_reboot;
    u64 random_seed; /* icount: RDRAND and other randomness come from it; 0 with the host clock: host entropy */
};

struct vm {
    struct vm_config config;
    pthread_mutex_t device_lock;
    struct clock clock;
    struct timer_queue timers;
    struct gate gate;
    struct memory memory;
    struct port_map ports;
    struct irq_router irqs;
    struct device *devices; /* in order of creation */
    struct vcpu *vcpus[VM_MAX_VCPUS];
    unsigned nvcpus;
    unsigned turn;          /* index of the vCPU whose turn it is; saved, so that a restored icount run goes on alike */
    u64 turn_left;          /* instructions left in its turn */
    u32 requests;           /* atomic; VM_REQ_* */
    enum vm_stop_reason stop_reason;
    int exit_code;
    struct error stop_error;
    struct vm_private *private; /* machine/vm.c: run loop, park, wakeups */
    void *board;            /* the board's own part */
    void (*on_reset)(struct vm *vm, void *opaque); /* after devices and vCPUs were reset: reload the kernel */
    void *on_reset_opaque;
    /* Observers for the public API; may be NULL. Called on the vCPU thread with no lock. */
    void (*on_event)(struct vm *vm, const char *event, void *opaque);
    void *on_event_opaque;
    const struct trace_ops *trace; /* observers of what the guest does, or NULL; set by vm_set_trace */
    void *trace_opaque;
};

enum { VM_REQ_RESET = 1, VM_REQ_POWEROFF = 2, VM_REQ_STOP = 4, VM_REQ_PARK = 8, VM_REQ_DEBUG_EXIT = 16 };

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

/* Put devices, router and vCPUs in their power-up state, then call on_reset. VM parked or not running. */
void vm_reset(struct vm *vm);

/*
 * Run until something ends or interrupts it; `max_insns` bounds the instructions of all vCPUs together (UINT64_MAX: no
 * bound). Called by one thread at a time. A stop for VM_STOP_REQUEST or BUDGET can be followed by another vm_run.
 */
enum vm_stop_reason vm_run(struct vm *vm, u64 max_insns);

/* Requests, from any thread or from a device with its lock held; served at the next instruction boundary. */
void vm_request_reset(struct vm *vm);
void vm_request_poweroff(struct vm *vm);
void vm_request_debug_exit(struct vm *vm, int code);
void vm_stop(struct vm *vm);

/* Stop the world: returns when every vCPU stands at an instruction boundary and no device works; vm_unpark lets them go
   on. Not from a vCPU thread. Nests. */
void vm_park(struct vm *vm);
void vm_unpark(struct vm *vm);

/* Pause and resume as a user sees them: the clock stands still while paused. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
bool vm_paused(const struct vm *vm);

static inline void vm_lock(struct vm *vm) { pthread_mutex_lock(&vm->device_lock); }
static inline void vm_unlock(struct vm *vm) { pthread_mutex_unlock(&vm->device_lock); }

#endif
