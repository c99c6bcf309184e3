/*
 * I/O APIC with 24 pins and an EOI register (82093AA datasheet; version 20h). Pin n is GSI n. It sends its interrupts as
 * messages through the irq_router, in the form of an MSI.
 */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/io.h"
#include "machine/irq.h"
#include "machine/memory.h"
#include "state/state.h"

#define IOAPIC_DEFAULT_BASE 0xfec00000u
enum { IOAPIC_SIZE = 0x1000 };

struct ioapic {
    u32 id; /* bits 27..24 */
    u8 select;
    u64 redirection[IRQ_GSIS];
    u32 level;                 /* bitmap of the pins that are high */
    struct irq_router *router; // not saved: wiring
};
extern const struct state_table ioapic_state_table;
extern const struct io_ops ioapic_io_ops; /* opaque: struct ioapic */

/* Power-up state, but for the levels of the pins. */
void ioapic_reset(struct ioapic *ioapic);

/* Drive a pin (an irq_sink's gsi hook; `opaque` is the struct ioapic). Device lock held. */
void ioapic_set_pin(void *opaque, unsigned pin, bool level);

/* EOI message from a local APIC (a lapic_bus's eoi hook). Device lock held. */
void ioapic_eoi(void *opaque, u8 vector);

/* The chip in a device of class ioapic. */
struct ioapic *ioapic_of(struct device *device);

/* Takes the memory at IOAPIC_DEFAULT_BASE and the sink number `sink` of the VM's router. */
extern const struct device_class ioapic_class;

#endif
