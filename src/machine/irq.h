/*
 * Interrupt wires. A chip drives an irq_line and does not know what is on the other end (invariant 7); machine-wide
 * interrupts are GSIs and MSI messages with an EOI callback, and the chips that take them can be replaced as a set.
 */
#ifndef MACHINE_IRQ_H
#define MACHINE_IRQ_H

#include "base/types.h"
#include "state/state.h"

struct irq_line {
    void (*set)(void *opaque, unsigned n, bool level); /* NULL: not connected */
    void *opaque;
    unsigned n;
};

/* Drive the line. Device lock held. */
static inline void irq_line_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->opaque, line->n, level);
}
static inline void irq_line_pulse(const struct irq_line *line)
{
    irq_line_set(line, true);
    irq_line_set(line, false);
}

/*
 * The router: GSI 0..23 are the pins of the interrupt controllers (0..15 also reach the two i8259; GSI 2 is the PIT on the
 * IOAPIC). Several sources may share a GSI: the level is the OR of its sources.
 */
enum { IRQ_GSIS = 24, IRQ_SOURCES_PER_GSI = 32 };

/* What takes interrupts: the i8259 pair and the IOAPIC, or a kernel's own set later. */
struct irq_sink {
    void (*gsi)(void *opaque, unsigned gsi, bool level);
    void *opaque;
};
enum { IRQ_SINKS = 2 };

struct irq_router {
    u32 level[IRQ_GSIS];                              /* bitmap of the sources that are high */
    u8 sources[IRQ_GSIS];                             // not saved: wiring, how many sources were handed out
    struct irq_sink sink[IRQ_SINKS];                  // not saved: wiring
    void (*msi)(void *opaque, u64 address, u32 data); // not saved: wiring; the local APICs
    void *msi_opaque;                                 // not saved: wiring
    struct {
        void (*notify)(void *opaque, unsigned gsi);
        void *opaque;
    } eoi[IRQ_GSIS]; // not saved: wiring
};
extern const struct state_table irq_router_state_table;

/* Hand out a line that is one more source of `gsi` (< IRQ_GSIS). Wiring time only; aborts when 32 sources share a GSI. */
struct irq_line irq_router_line(struct irq_router *router, unsigned gsi);

/* Tell every sink the level of every GSI: after a reset of all devices, in whatever order. Device lock held. */
void irq_router_sync(struct irq_router *router);

/* Deliver a message-signalled interrupt: a 32-bit write of `data` to `address` (0xFEExxxxx). Device lock held. */
void irq_router_msi(struct irq_router *router, u64 address, u32 data);

/* Called by the IOAPIC when a level-triggered interrupt of `gsi` gets its EOI. Device lock held. */
void irq_router_eoi(struct irq_router *router, unsigned gsi);

#endif
