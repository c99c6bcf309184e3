/*
 * The pair of 8259A programmable interrupt controllers of a PC, cascaded on input 2, with the ELCR registers (4D0h, 4D1h)
 * that say which inputs are level-triggered. Facts: Intel 8259A data sheet (231468), PIIX3 data sheet (290550) 2.5.
 */
#ifndef DEV_I8259_H
#define DEV_I8259_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "state/state.h"

enum { I8259_CASCADE = 2 /* input of the master that the slave drives */ };

/* One controller. */
struct i8259 {
    u8 lines; /* levels on the inputs */
    u8 irr;   /* requests: latched edges, and the level-triggered inputs that are high */
    u8 imr, isr;
    u8 elcr;        /* 1: level-triggered */
    u8 init_step;   /* enum i8259_init: which ICW the next write to the odd port is */
    bool init_icw4; /* ICW1 announced an ICW4 */
    bool single;    /* ICW1 SNGL: no ICW3, no cascade */
    u8 vector_base; /* ICW2 */
    u8 lowest;      /* input with the lowest priority; 7 unless rotated */
    bool auto_eoi;  /* ICW4 */
    bool rotate_auto_eoi;
    bool fully_nested; /* ICW4 SFNM, special fully nested mode */
    bool special_mask;
    bool poll;       /* the next read is an interrupt acknowledge */
    bool read_isr;   /* what the even port reads: ISR or IRR */
    bool output;     /* INT pin */
    u8 level_inputs; // not saved: wiring, inputs whose ELCR bit is writable
    bool master;     // not saved: wiring
};

struct i8259_pair {
    struct i8259 master, slave;
    struct irq_line intr; // not saved: wiring
};
extern const struct state_table i8259_pair_state;

/* `intr` is the pair's INTR output. Puts the pair in its power-up state. */
void i8259_init(struct i8259_pair *pair, struct irq_line intr);
void i8259_reset(struct i8259_pair *pair);

/* Drive input 0..15 (2 is not an input: the slave is there). */
void i8259_set_irq(struct i8259_pair *pair, unsigned irq, bool level);

/* One INTA sequence: the vector, always; that of input 7 or 15 when the request went away (a spurious interrupt). */
u8 i8259_ack(struct i8259_pair *pair);

/* Registers: `offset` 0 or 1 of one of the two controllers. */
u8 i8259_read(struct i8259_pair *pair, bool slave, unsigned offset);
void i8259_write(struct i8259_pair *pair, bool slave, unsigned offset, u8 value);

/* ELCR: offset 0 is inputs 0..7, 1 is inputs 8..15. */
u8 i8259_elcr_read(const struct i8259_pair *pair, unsigned offset);
void i8259_elcr_write(struct i8259_pair *pair, unsigned offset, u8 value);

/* The device: ports 20h, A0h, 4D0h, and GSI 0..15 of the router. */
extern const struct device_class i8259_class;

/* The chip inside a device of i8259_class, for the wiring of INTR and INTA to the bootstrap processor's LINT0. */
struct i8259_pair *i8259_device_pair(struct device *device);

/* Connect INTR of an attached device; drives it to its present level. Device lock held or VM not running. */
void i8259_device_connect(struct device *device, struct irq_line intr);

#endif
