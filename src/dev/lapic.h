/*
 * Local APICs (SDM 3A chapter 11), one for each vCPU, and the bus that carries messages between them, the IOAPIC and
 * devices that send MSIs.
 *
 * They are outside the device lock: a message may be posted to any of them on any thread (IRR and TMR are atomic, and so
 * is the vCPU's kick word). All other state is touched on the thread of the vCPU that it belongs to; where a local APIC
 * needs the rest of the machine (timers, the IOAPIC's EOI, the i8259), it takes the device lock.
 */
#ifndef DEV_LAPIC_H
#define DEV_LAPIC_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "machine/vcpu.h"
#include "state/state.h"

enum { LAPIC_MAX = 64, LAPIC_LVTS = 6, LAPIC_BUS_HZ = 1000000000 };
#define LAPIC_DEFAULT_BASE 0xfee00000u

/* IA32_APIC_BASE (SDM 3A 11.4.4, 11.12.1). */
enum { APIC_BASE_BSP = 1 << 8, APIC_BASE_EXTD = 1 << 10, APIC_BASE_EN = 1 << 11 };

/* What a local APIC does to its processor. Any thread. */
struct lapic_cpu_ops {
    void (*interrupt)(void *opaque, bool pending); /* level: ack would give a vector */
    void (*nmi)(void *opaque);
    void (*smi)(void *opaque);
    void (*init)(void *opaque);
    void (*sipi)(void *opaque, u8 vector);
    void (*base_changed)(void *opaque, u64 base);
    void (*lock)(void *opaque); /* the device lock, on the processor's thread */
    void (*unlock)(void *opaque);
    u64 (*tsc_to_ns)(void *opaque,
                     u64 tsc); /* virtual time at which the processor's TSC gets there; 0: it has */
};

struct lapic;

/* The wires between local APICs; the board owns it and fills in the hooks before the VM runs. */
struct lapic_bus {
    struct lapic *apics[LAPIC_MAX];  /* by APIC ID */
    int (*extint_ack)(void *opaque); /* INTA cycle of the i8259: the vector. Device lock held */
    void *extint_opaque;
    void (*eoi)(void *opaque, u8 vector); /* EOI message to the IOAPICs. Device lock held */
    void *eoi_opaque;
};

struct lapic {
    u64 base; /* IA32_APIC_BASE */
    u32 tpr, ldr, dfr, svr;
    u32 esr, esr_pending; /* as read; gathered since the last write */
    u32 icr_low, icr_high;
    u32 lvt[LAPIC_LVTS];
    u32 divide, initial_count;
    u32 isr[8];
    u32 tmr[8], irr[8]; /* atomic */
    bool lint_level[2];
    bool extint_message; /* an ExtINT message came in from the bus and was not acknowledged yet */
    u64 tsc_deadline;    /* 0: not armed */
    struct timer timer;
    u32 id;                          // not saved: wiring
    struct lapic_bus *bus;           // not saved: wiring
    const struct lapic_cpu_ops *cpu; // not saved: wiring
    void *cpu_opaque;                // not saved: wiring
};
extern const struct state_table lapic_state_table;

/* Put a local APIC with this ID (< LAPIC_MAX) on the bus, reset. Wiring time. */
void lapic_init(struct lapic *lapic, struct lapic_bus *bus, u32 id, struct timer_queue *timers,
                const struct lapic_cpu_ops *cpu, void *cpu_opaque);

/* Power-up state; ID 0 is the bootstrap processor's. Device lock held or VM parked. */
void lapic_reset(struct lapic *lapic);

/* What the processor calls (vcpu.h); `opaque` is the struct lapic. */
extern const struct vcpu_intc_ops lapic_intc_ops;

/* An irq_router's msi hook; `opaque` is the struct lapic_bus. Any thread. */
void lapic_bus_msi(void *opaque, u64 address, u32 data);

/* A line to LINT0 (INTR of the i8259) or LINT1 (NMI) of every processor. Drive it with the device lock held. */
struct irq_line lapic_bus_lint(struct lapic_bus *bus, unsigned pin);

/* Properties: bus (struct lapic_bus), cpu (index of the vCPU). */
extern const struct device_class lapic_class;

#endif
