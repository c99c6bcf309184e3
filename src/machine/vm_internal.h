/* What the files of machine/ share about a VM and nobody else needs. */
#ifndef MACHINE_VM_INTERNAL_H
#define MACHINE_VM_INTERNAL_H

#include "machine/vm.h"

/* With the host clock, the guest is left alone for so long at least: one that sets its timers to the shortest period would
   otherwise get nothing done between them. */
enum { VM_ALARM_MIN_NS = 50000 };

/* A vCPU's thread, for free-running machines. */
struct vcpu_thread {
    struct vcpu *vcpu;
    pthread_t thread;
    pthread_cond_t wake;
    u32 sleeping; /* atomic: waits on `wake`, or is about to ... */
    bool woken;   /* ... and shall not, any more */
};

struct vm_private {
    pthread_mutex_t lock; /* guards what has no other note; taken after the device lock, never before it */
    pthread_cond_t changed;
    bool inside;      /* a thread is inside vm_run: the machine thread ... */
    pthread_t runner; /* ... this one ... */
    bool at_boundary; /* ... and waits at an instruction boundary */
    unsigned parkers;
    bool paused;
    u32 attention;        /* atomic */
    struct vcpu *running; /* atomic: whose engine runs; NULL between runs */
    u32 sleeping;         /* atomic: all vCPUs are idle and the thread waits on `changed` */
    u64 run_end_ns;       /* the thread's own: icount time at which the run under way ends by itself */

    /* Host clock: a thread that calls attention when the earliest deadline passes while an engine runs. */
    pthread_t alarm_thread;
    bool alarm_started;
    bool alarm_quit;
    u64 alarm_ns; /* virtual time it waits for; UINT64_MAX: none */
    pthread_cond_t alarm_changed;

    /* vCPUs on threads of their own (threads.c). */
    struct vcpu_thread threads[VM_MAX_VCPUS];
    unsigned nthreads; /* that were started */
    bool threads_quit;
    bool go;           /* they may run their engines, unless thread_is_held says otherwise ... */
    unsigned active;   /* ... and so many of them do */
    u32 machine_waits; /* atomic: the machine thread waits on `changed` for attention, until ... */
    u64 wake_ns;       /* ... this virtual time */
};

/* Wake the thread that runs this vCPU, when it sleeps because the vCPU (in turn: every one) is idle. Any thread. */
void vm_wake(struct vcpu *vcpu);

/* ---- vm.c, for threads.c ---- */

/* Whether the vCPU has something to execute, or an event that will wake it. */
bool vm_runnable(struct vcpu *vcpu);
/* Deliver what waits at the gate and run timers. Device lock not held. */
void vm_serve_outside(struct vm *vm);
enum vm_stop_reason vm_serve_requests(struct vm *vm);
/* Whether vCPUs may have threads, in a run without a bound on instructions. */
bool vm_may_use_threads(const struct vm *vm);
/* Stand at the boundary while somebody wants that. */
void vm_wait_at_boundary(struct vm *vm);
/* Wait on `cond` until the host clock shows that virtual time (UINT64_MAX: until woken). p->lock held. */
void vm_wait_until(struct vm *vm, pthread_cond_t *cond, u64 virtual_ns);

/* ---- threads.c ---- */

/* Run all vCPUs on threads of their own, until something ends that or they have to take turns (VM_STOP_NONE). */
enum vm_stop_reason vm_run_threads(struct vm *vm);
/* End the threads. */
void vm_end_threads(struct vm *vm);
/* Have them come out of their engines and look whether they are held. */
void vm_call_threads(struct vm *vm);
/* Both with p->lock held: whether the caller is one of them; have those that sleep look. */
bool vm_on_vcpu_thread(const struct vm_private *p);
void vm_wake_threads(struct vm_private *p);

/* Every vCPU's state was changed from outside: tell the engines. VM parked or not running. */
void vm_states_changed(struct vm *vm);

/* Move an icount clock to the instruction that the vCPU executes. vCPU's thread. */
void vcpu_sync_clock(struct vcpu *vcpu);

/* Detach and free every device, the last made first. */
void device_free_all(struct vm *vm);

#endif
