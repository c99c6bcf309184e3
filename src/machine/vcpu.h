/*
 * A virtual CPU as the machine sees it: architectural state, the kick word, and the interrupt controller that belongs
 * to it.
 */
#ifndef MACHINE_VCPU_H
#define MACHINE_VCPU_H

#include "base/types.h"
#include "x86/cpuid.h"
#include "x86/vcpu_state.h"

struct vm;
struct vcpu;
struct engine_ops;

/*
 * The kick word: why a vCPU should look up from its work. Any thread sets bits; engines poll it at every block end.
 * KICK_INTERRUPT follows a level (the local APIC or, through LINT0, the i8259 wants to deliver a vector); the others are
 * requests, cleared by who serves them.
 */
enum {
    KICK_INTERRUPT = 1 << 0, /* vcpu_interrupt_ack would give a vector if RFLAGS.IF were set */
    KICK_NMI = 1 << 1,
    KICK_INIT = 1 << 2,
    KICK_SIPI = 1 << 3,
    KICK_EXIT =
        1 << 4, /* come out of engine->run with ENGINE_EXIT_KICK: timers, gate events, stop, hop, save */
    KICK_ENGINE =
        1 << 5, /* the engine's own: something of the last instruction waits for the next boundary */
    KICK_SMI = 1 << 6,
    KICK_REQUEST = 1 << 7, /* another vCPU wants it to stand still, or has left work for it (world.h) */
};

/*
 * The vCPU's local APIC, as the CPU sees it; dev/lapic.c fills it in. Called on the vCPU's thread with the device lock not
 * held (they take it for timers, the IOAPIC's EOI and the i8259), or with the VM parked.
 */
struct vcpu_intc_ops {
    int (*ack)(
        void *opaque); /* highest deliverable vector, now in service (or taken from the i8259); -1: none */
    u8 (*get_tpr)(void *opaque); /* CR8 view: bits 7..4 of TPR */
    void (*set_tpr)(void *opaque, u8 cr8);
    u64 (*get_base)(void *opaque);                       /* IA32_APIC_BASE */
    bool (*set_base)(void *opaque, u64 value);           /* false: #GP */
    bool (*msr_read)(void *opaque, u32 msr, u64 *value); /* 800h..8FFh and TSC deadline (6E0h); false: #GP */
    bool (*msr_write)(void *opaque, u32 msr, u64 value);
    void (*init)(void *opaque); /* INIT reset of the local APIC (SDM 3A 11.4.7.3) */
    /* This vCPU's own accesses to `intc_page`; `offset` in the page, `size` 1..8 and within the page. Looked at before the
       memory map, device lock not held: the page is private to each vCPU. */
    u64 (*mmio_read)(void *opaque, u32 offset, unsigned size);
    void (*mmio_write)(void *opaque, u32 offset, unsigned size, u64 value);
    /* The guest's TSC was set: a TSC deadline that is armed falls at another time now. */
    void (*tsc_changed)(void *opaque);
};

struct vcpu {
    struct vcpu_state state; // not saved: has a section of its own (vm_state.h)
    struct vm *vm;           // not saved: wiring
    unsigned index;          // not saved: wiring; 0 is the bootstrap processor; also the APIC ID
    u32 kick; // not saved: atomic, KICK_*; its signals are in saved_signals, the rest follows from others' state
    u8 sipi_vector;                   /* valid with KICK_SIPI */
    const struct vcpu_intc_ops *intc; // not saved: wiring
    void *intc_opaque;                // not saved: wiring
    /* Physical page of the local APIC's registers; UINT64_MAX while there is none. */
    u64 intc_page;                   // not saved: intc keeps it
    const struct engine_ops *engine; // not saved: any engine goes on
    void *engine_vcpu;               // not saved: the engine's private part
    /* Instructions of the run under way that an icount clock has counted already. */
    u64 clocked_insns; // not saved: 0 between runs
    u64 inside;        // not saved: atomic; the thread that the engine runs on, 0: it is out (world.h)
    u32 saved_signals; /* the signals of `kick` that are the machine's state, as of vm_state_sections */
};

/* The bits of the kick word that no local APIC raises again by itself. */
enum { KICK_SIGNALS = KICK_NMI | KICK_INIT | KICK_SIPI | KICK_SMI };

/* What vm_state_sections lists beside vcpu_state: the signals on their way to the vCPU. */
extern const struct state_table vcpu_signals_state_table;

static inline u32 vcpu_kicked(const struct vcpu *vcpu)
{
    return __atomic_load_n(&vcpu->kick, __ATOMIC_ACQUIRE);
}

/* Set reasons; wakes the vCPU when it is halted. Any thread, no lock needed. */
void vcpu_kick(struct vcpu *vcpu, u32 reasons);
void vcpu_unkick(struct vcpu *vcpu, u32 reasons);

/* Signals from APICs and devices. Any thread. A SIPI to a vCPU that does not wait for one is lost, as on hardware. */
void vcpu_nmi(struct vcpu *vcpu);
void vcpu_init_signal(struct vcpu *vcpu);
void vcpu_sipi(struct vcpu *vcpu, u8 vector);

/* Serve KICK_INIT and KICK_SIPI: the vCPU's state becomes that after INIT, or starts at the SIPI's vector, and the kick bits
   are cleared. Returns whether the state was changed (the engine then forgets what it derived from it). vCPU's thread, at
   an instruction boundary, device lock not held. */
bool vcpu_serve_signals(struct vcpu *vcpu);

/* Take the pending interrupt (INTA cycle). -1: it went away. vCPU's thread; intc takes the device lock for the i8259. */
int vcpu_interrupt_ack(struct vcpu *vcpu);

/*
 * Access out, for engines. vCPU's thread; they take the device lock. `size` 1, 2 or 4 (ports), 1, 2, 4 or 8 (memory; not
 * crossing a page). In deterministic mode the virtual clock is first moved to the instruction being executed
 * (engine->retired).
 */
u32 vcpu_port_read(struct vcpu *vcpu, u32 port, unsigned size);
void vcpu_port_write(struct vcpu *vcpu, u32 port, unsigned size, u32 value);
u64 vcpu_mmio_read(struct vcpu *vcpu, u64 phys, unsigned size);
void vcpu_mmio_write(struct vcpu *vcpu, u64 phys, unsigned size, u64 value);

/* The guest's TSC now, offset included. */
u64 vcpu_tsc(struct vcpu *vcpu);

/*
 * x87 errors while CR0.NE is 0 (SDM 1 D.2.1). `pending` true: a waiting x87 instruction finds an unmasked error, so FERR# is
 * asserted; returns IGNNE#, with which the instruction executes; without it the instruction waits at its place for an
 * interrupt. `pending` false: FNINIT, FNCLEX or a load of the x87 state took the error back. Always true where the board has
 * no such wires, and on application processors. vCPU's thread; takes the device lock.
 */
bool vcpu_fpu_error(struct vcpu *vcpu, bool pending);

/*
 * MONITOR and MWAIT (wait.c). vcpu_monitor arms the monitor for the line at `phys`. vcpu_wait makes the vCPU VCPU_WAITING
 * until a store to that line, an interrupt, or `deadline` (guest TSC; UINT64_MAX: none); `kind` is the monitor that it needs,
 * VCPU_MONITOR_NONE if none; `how` VCPU_WAIT_*. It stays running if the monitor is not armed. vCPU's thread.
 */
void vcpu_monitor(struct vcpu *vcpu, enum vcpu_monitor kind, u64 phys);
void vcpu_wait(struct vcpu *vcpu, enum vcpu_monitor kind, u8 how, u64 deadline);
/* For the machine's loop: whether the wait ends now; end it; when it ends by itself (virtual ns; UINT64_MAX: never). */
bool vcpu_wait_over(struct vcpu *vcpu);
void vcpu_wait_end(struct vcpu *vcpu);
u64 vcpu_wait_deadline_ns(struct vcpu *vcpu);

/* RDMSR and WRMSR: x86/msr facts plus the local APIC. false: #GP(0). The caller has checked CPL. */
bool vcpu_rdmsr(struct vcpu *vcpu, u32 msr, u64 *value);
bool vcpu_wrmsr(struct vcpu *vcpu, u32 msr, u64 value);

/* CPUID with what depends on this vCPU and its state filled in. */
void vcpu_cpuid(struct vcpu *vcpu, u32 leaf, u32 subleaf, u32 out[4]);

/* What a dead vCPU looked like: registers, and the engine's record of what ran last, as text of several lines; free it with
   free(). NULL when out of memory. vCPU not running. */
char *vcpu_report(const struct vcpu *vcpu);

/* A random number for RDRAND and RDSEED: through the gate's source of randomness, deterministic in icount mode. */
u64 vcpu_random(struct vcpu *vcpu);

#endif
