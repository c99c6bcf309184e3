/*
 * The logic between an x87 unit's error pin and the interrupt controller, as DOS-era software (CR0.NE clear) uses it
 * (PIIX3 2.5.8, SDM 1 D.2): FERR# raises IRQ 13; a write to port F0h takes it back and asserts IGNNE#, which lets
 * the processor execute x87 instructions until FERR# is deasserted.
 */
#ifndef DEV_FPU_IRQ_H
#define DEV_FPU_IRQ_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "state/state.h"

struct fpu_irq {
    bool ferr;           /* FERR# is asserted */
    bool ignne;          /* IGNNE# is asserted */
    struct irq_line irq; // not saved: wiring
};
extern const struct state_table fpu_irq_state;

void fpu_irq_init(struct fpu_irq *logic, struct irq_line irq);
void fpu_irq_reset(struct fpu_irq *logic);

/* Drive FERR#. Returns IGNNE#. */
bool fpu_irq_set_ferr(struct fpu_irq *logic, bool asserted);

/* A write of anything to port F0h. */
void fpu_irq_write(struct fpu_irq *logic);

/* The device: port F0h, IRQ 13, and the VM's fpu_error hook. */
extern const struct device_class fpu_irq_class;

#endif
