/*
 * Delivery of exceptions and interrupts through the IDT or the real-mode vector table.
 */
#ifndef ENGINE_INTERP_FAULT_H
#define ENGINE_INTERP_FAULT_H

#include "engine/interp/interp.h"

enum event_kind {
    EVENT_EXCEPTION, /* fault: RIP is the instruction's, RF is set in the image */
    EVENT_TRAP,      /* #DB traps: RIP is the next instruction's */
    EVENT_SOFTWARE,  /* INT n, INT3, INTO: the gate's DPL is checked; s->rip is past the instruction */
    EVENT_INTERRUPT,
    EVENT_NMI,
};

/* In the place of an exception's vector: leave the instruction, which is executed again; nothing is delivered. */
enum { FAULT_RETRY = 0xff };

/*
 * Deliver an event at an instruction boundary (s->rip is what gets pushed). A fault on the way becomes what SDM 3A table
 * 6-5 says: that fault, a double fault, or shutdown. Leaves c->mode and everything derived up to date.
 */
void interp_deliver(struct interp *c, enum event_kind kind, u8 vector, u32 error);

/* INT n and its like, from a handler: as interp_deliver, but faults belong to the instruction of cell `i`. */
void interp_software_interrupt(struct interp *c, const struct cell *i, u8 vector, enum event_kind kind);
/* INT n of virtual-8086 mode that goes to the handler in the program's own vector table (CR4.VME). */
void interp_redirected_interrupt(struct interp *c, const struct cell *i, u8 vector);

#endif
