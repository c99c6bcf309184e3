/*
 * National PC16550D serial port. Facts: PC16550D data sheet (TL/C/8652), and the PC's wiring of it: OUT2 connects the
 * interrupt line.
 *
 * The transmitter has no speed of its own: a character leaves when it is written, unless the far end has said stop; then it
 * waits in the FIFO. Characters come in as fast as the guest takes them. The divisor counts for the character time-out.
 */
#ifndef DEV_UART16550_H
#define DEV_UART16550_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

enum {
    UART_FIFO_BYTES = 16,
    UART_ASK_BYTES = 32,  /* asked for at a time */
    UART_LINE_BYTES = 64, /* that wait for room in the FIFO: one answer, and one that a restore brings */
};
enum {
    UART_CTS = 1 << 4,
    UART_DSR = 1 << 5,
    UART_RI = 1 << 6,
    UART_DCD = 1 << 7
}; /* modem inputs, as in MSR */

/* The far end of the line. Called with the device lock held. */
struct uart16550_line {
    void (*send)(void *opaque, u8 byte);
    /* The receiver has room: answer with uart16550_receive of 1..`max` bytes, once. Takes the place of an earlier question
       that was not answered; 0 withdraws it. */
    void (*ask)(void *opaque, unsigned max);
    void *opaque;
};

struct uart_fifo {
    u8 bytes[UART_FIFO_BYTES];
    u8 errors[UART_FIFO_BYTES]; /* LSR bits that came with each byte */
    u8 first, count;
};

struct uart16550 {
    u8 ier, fcr, lcr, mcr, lsr, msr, scr;
    u16 divisor;
    u8 modem_inputs;          /* UART_CTS ..., as the far end drives them */
    struct uart_fifo rx, tx;  /* one byte of each is used while FCR has FIFOs off */
    bool thr_interrupt;       /* the transmitter-empty interrupt is pending */
    bool timed_out;           /* the character time-out interrupt is pending */
    bool stopped;             /* the far end takes nothing */
    u8 line[UART_LINE_BYTES]; /* bytes that have come in and wait for room */
    u8 line_len;
    struct timer timeout;
    bool asked;                 // not saved: whether this process's far end owes an answer
    struct irq_line irq;        // not saved: wiring
    struct uart16550_line peer; // not saved: wiring
};
extern const struct state_table uart16550_state;

void uart16550_init(struct uart16550 *uart, struct timer_queue *timers, struct irq_line irq,
                    const struct uart16550_line *peer);
void uart16550_reset(struct uart16550 *uart);

/* Registers: `offset` 0..7. */
u8 uart16550_read(struct uart16550 *uart, unsigned offset);
void uart16550_write(struct uart16550 *uart, unsigned offset, u8 value);

/* The answer to `ask`. Bytes that exceed the line buffer (an answer that was not asked for) are lost. */
void uart16550_receive(struct uart16550 *uart, const u8 *bytes, size_t len);

/* A break on the line. */
void uart16550_receive_break(struct uart16550 *uart);

/* The far end takes no more characters, or does again. */
void uart16550_set_flow(struct uart16550 *uart, bool go);

/* Drive CTS, DSR, RI and DCD. */
void uart16550_set_modem_inputs(struct uart16550 *uart, u8 inputs);

/* The device: properties iobase, irq, chardev (struct chardev *, may be absent). */
extern const struct device_class uart16550_class;

#endif
