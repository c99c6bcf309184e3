/*
 * Intel 8254 programmable interval timer, with port 61h (system control port B) that its counter 2 is wired to. Facts:
 * 8254 data sheet (231164), PIIX3 data sheet (290550) 2.5.6.
 *
 * Nothing ticks: counts and outputs follow from the virtual time of the last load, and a timer stands only for the next
 * rising edge of counter 0. Edges that were passed by while the host was late become one.
 */
#ifndef DEV_I8254_H
#define DEV_I8254_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

/* Input clock: a third of the ACPI PM timer's 3.579545 MHz. */
#define I8254_CLOCK_NUMERATOR   UINT64_C(3579545)
#define I8254_CLOCK_DENOMINATOR UINT64_C(3000000000) /* so many ns */

enum { I8254_COUNTERS = 3 };

struct i8254_counter {
    u8 mode;   /* 0..5 */
    u8 access; /* RW bits of the control word: 1 low byte, 2 high byte, 3 both */
    bool bcd;
    bool gate;
    bool loaded;                /* a count was written since the control word */
    bool counting;              /* the counting element runs */
    bool null_count;            /* `reload` is not in the counting element yet */
    u16 reload;                 /* as written */
    u32 period;                 /* in the counting element: 1..65536 */
    i64 start;                  /* counting: the tick at which it held `period` */
    i64 held;                   /* not counting: ticks counted before the gate stopped it */
    i64 switch_tick;            /* null_count while counting in mode 2 or 3: when `reload` goes in */
    bool write_high, read_high; /* access 3: the next byte is the high one */
    u8 write_low;               /* access 3: low byte that waits for the high one */
    bool latched, status_latched;
    u16 latch;
    u8 status;
};

struct i8254 {
    struct i8254_counter counters[I8254_COUNTERS];
    u8 control_b;     /* port 61h bits 0..3, as written */
    bool irq_enabled; /* false while the HPET replaces counter 0 */
    i64 next_edge;    /* tick of counter 0's next rising edge; INT64_MAX: none */
    struct timer timer;
    struct irq_line irq; // not saved: wiring, output of counter 0
};
extern const struct state_table i8254_state;

/* `irq` follows OUT of counter 0. Gates 0 and 1 are tied high. */
void i8254_init(struct i8254 *pit, struct timer_queue *timers, struct irq_line irq);
void i8254_reset(struct i8254 *pit);

/* Ports 40h..43h: `offset` 0..3. */
u8 i8254_read(struct i8254 *pit, unsigned offset);
void i8254_write(struct i8254 *pit, unsigned offset, u8 value);

/* OUT of a counter now. */
bool i8254_out(struct i8254 *pit, unsigned counter);

/* Drive the GATE input of a counter. */
void i8254_set_gate(struct i8254 *pit, unsigned counter, bool level);

/* Whether OUT of counter 0 reaches the interrupt line. */
void i8254_enable_irq(struct i8254 *pit, bool enabled);

/* Port 61h: gate 2, speaker data, NMI masks; reads refresh toggle and OUT 2 too. */
u8 i8254_control_b_read(struct i8254 *pit);
void i8254_control_b_write(struct i8254 *pit, u8 value);

/* The device: ports 40h..43h and 61h, GSI 0 for the i8259 and GSI 2 for the IOAPIC. */
extern const struct device_class i8254_class;
struct i8254 *i8254_of(struct device *device);

#endif
