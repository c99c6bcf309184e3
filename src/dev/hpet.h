/*
 * High precision event timer with three comparators (IA-PC HPET specification 1.0a). The counter runs at 100 MHz of virtual
 * time; interrupts go to GSIs, or in legacy replacement mode take the place of the 8254's and the RTC's. No FSB interrupts.
 */
#ifndef DEV_HPET_H
#define DEV_HPET_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

enum {
    HPET_COMPARATORS = 3,
    HPET_TICK_NS = 10,
    HPET_BYTES = 0x400,
    /* GSIs that a comparator can be routed to: 20..23, which neither PCI nor the old ISA chips use. */
    HPET_FIRST_GSI = 20,
    HPET_GSIS = 4,
    HPET_ROUTES = ((1 << HPET_GSIS) - 1) << HPET_FIRST_GSI,
};

struct hpet;

struct hpet_timer {
    u64 config;     /* the writable bits of the register's lower half */
    u64 comparator; /* next match */
    u64 period;     /* in ticks; periodic mode */
    struct timer timer;
    struct irq_line
        gsi[HPET_GSIS]; // not saved: wiring; a source of its own for each comparator, as two may share a GSI
    struct hpet *hpet;  // not saved: wiring
};

struct hpet {
    u64 config;
    u64 status;   /* level-triggered interrupts that are active */
    u64 counter;  /* at the time `since`; while halted, the counter */
    u64 since_ns; /* 0 while halted */
    struct hpet_timer timers[HPET_COMPARATORS];
    struct irq_line legacy[2];   // not saved: wiring; what IRQ 0 and IRQ 8 are in legacy replacement mode
    struct irq_line legacy_mode; // not saved: wiring; high while legacy replacement is on
};
extern const struct state_table hpet_state;

struct hpet_wiring {
    struct irq_line gsi[HPET_COMPARATORS][HPET_GSIS], legacy[2], legacy_mode;
};

void hpet_init(struct hpet *hpet, struct timer_queue *timers, const struct hpet_wiring *wiring);
void hpet_reset(struct hpet *hpet);

/* Registers: `offset` a multiple of `size`, which is 4 or 8; other accesses read as ones and are dropped. */
u64 hpet_read(struct hpet *hpet, u64 offset, unsigned size);
void hpet_write(struct hpet *hpet, u64 offset, unsigned size, u64 value);

/* The device: memory at PC_HPET_BASE. Properties pit and rtc: devices of i8254_class and mc146818_class, whose interrupts
   legacy replacement turns off (required). */
extern const struct device_class hpet_class;

#endif
