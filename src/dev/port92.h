/*
 * System control port A (92h): fast A20 and fast reset (PIIX3 2.5.7). The A20 gate itself is here: the last writer of port
 * 92h or of the i8042's output port has its way.
 */
#ifndef DEV_PORT92_H
#define DEV_PORT92_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "state/state.h"

struct port92 {
    bool fast_reset; /* bit 0 as written: the reset comes when it goes from 0 to 1 */
    bool a20_on;
    struct irq_line a20;   // not saved: wiring; follows a20_on
    struct irq_line reset; // not saved: wiring; pulsed
};
extern const struct state_table port92_state;

void port92_init(struct port92 *port, struct irq_line a20, struct irq_line reset);
void port92_reset(struct port92 *port);
u8 port92_read(const struct port92 *port);
void port92_write(struct port92 *port, u8 value);
void port92_set_a20(struct port92 *port, bool on);

/* The device. */
extern const struct device_class port92_class;

/* Input of the A20 gate for another chip, from a device of port92_class. */
struct irq_line port92_a20_line(struct device *device);

#endif
