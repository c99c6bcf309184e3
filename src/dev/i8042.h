/*
 * Intel 8042 keyboard controller of a PS/2, with the keyboard and the mouse that hang on it. Facts: IBM PS/2 technical
 * reference (keyboard and auxiliary device controller), 8042 firmware as PCs of the PIIX3's time have it.
 *
 * Commands take effect at once (IBF is always clear); a byte from a device needs as long as its serial line takes, so that
 * a driver that reads port 60h twice gets the same byte twice.
 */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "base/types.h"
#include "dev/ps2.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

enum { I8042_RAM_BYTES = 32, I8042_REPLY_BYTES = 4 };

struct i8042 {
    u8 status;               /* port 64h, but for the bits that follow from others */
    u8 data;                 /* output buffer, port 60h */
    u8 ram[I8042_RAM_BYTES]; /* [0] is the command byte */
    u8 output_port;
    u8 command;                        /* that waits for a byte at port 60h; 0: none */
    bool release;                      /* translation: F0h was swallowed */
    u8 reply[I8042_REPLY_BYTES];       /* the controller's own bytes for the output buffer */
    bool reply_aux[I8042_REPLY_BYTES]; /* ... that pretend to be from the mouse */
    u8 reply_len;
    struct timer transfer;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    struct irq_line keyboard_irq; // not saved: wiring
    struct irq_line mouse_irq;    // not saved: wiring
    struct irq_line a20;          // not saved: wiring
    struct irq_line reset;        // not saved: wiring; pulsed to reset the processor
};
extern const struct state_table i8042_state;

struct i8042_wiring {
    struct irq_line keyboard_irq, mouse_irq, a20, reset;
};

void i8042_init(struct i8042 *kbc, struct timer_queue *timers, const struct i8042_wiring *wiring);
void i8042_reset(struct i8042 *kbc);

/* Port 60h. */
u8 i8042_read_data(struct i8042 *kbc);
void i8042_write_data(struct i8042 *kbc, u8 value);

/* Port 64h. */
u8 i8042_read_status(const struct i8042 *kbc);
void i8042_write_command(struct i8042 *kbc, u8 value);

/* The device: ports 60h and 64h, IRQ 1 and 12. Property port92: device of port92_class that owns the A20 gate (required). */
extern const struct device_class i8042_class;

/*
 * Input from the host, through the event gate. Any thread. false: too much waits already.
 * A key is named as in ps2_key_number; codes are of scan code set 2, at most GATE_EVENT_BYTES / 2 of them; for the mouse see
 * ps2_mouse_move.
 */
bool i8042_post_key(struct device *device, unsigned key, bool down);
bool i8042_post_set2(struct device *device, const u8 *codes, size_t len);
bool i8042_post_mouse(struct device *device, i16 dx, i16 dy, i16 dz, u8 buttons);

#endif
