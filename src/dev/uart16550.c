#include "dev/uart16550.h"

#include "host/char.h"
#include "machine/io.h"
#include "machine/vm.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum { IER_RDA = 1 << 0, IER_THRE = 1 << 1, IER_RLS = 1 << 2, IER_MS = 1 << 3, IER_WRITABLE = 0xf };
enum { /* IIR; in order of priority */
       IIR_NONE = 0x01,
       IIR_RLS = 0x06,
       IIR_RDA = 0x04,
       IIR_TIMEOUT = 0x0c,
       IIR_THRE = 0x02,
       IIR_MS = 0x00,
       IIR_FIFOS = 0xc0,
};
enum {
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RX = 1 << 1,
    FCR_CLEAR_TX = 1 << 2,
    FCR_KEPT = 0xc9,
    FCR_TRIGGER_SHIFT = 6
};
enum { LCR_LENGTH = 3, LCR_STOP = 1 << 2, LCR_PARITY = 1 << 3, LCR_BREAK = 1 << 6, LCR_DLAB = 1 << 7 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_WRITABLE = 0x1f };
enum {
    LSR_DR = 1 << 0,
    LSR_OE = 1 << 1,
    LSR_PE = 1 << 2,
    LSR_FE = 1 << 3,
    LSR_BI = 1 << 4,
    LSR_THRE = 1 << 5,
    LSR_TEMT = 1 << 6,
    LSR_FIFO_ERROR = 1 << 7,
    LSR_OF_BYTE = LSR_PE | LSR_FE | LSR_BI,
    LSR_ERRORS = LSR_OE | LSR_OF_BYTE,
};
enum { MSR_DELTAS = 0xf, MSR_TERI = 1 << 2, MSR_INPUTS = 0xf0 };

enum { CRYSTAL_HZ = 1843200, TIMEOUT_CHARACTERS = 4 };

static const u8 trigger_levels[4] = {1, 4, 8, 14};

/* ---- FIFOs ---- */

static bool fifos_on(const struct uart16550 *uart)
{
    return uart->fcr & FCR_ENABLE;
}
static unsigned fifo_size(const struct uart16550 *uart)
{
    return fifos_on(uart) ? UART_FIFO_BYTES : 1;
}

static void fifo_push(struct uart_fifo *fifo, u8 byte, u8 errors)
{
    unsigned at = (fifo->first + fifo->count++) % UART_FIFO_BYTES;

    fifo->bytes[at] = byte;
    fifo->errors[at] = errors;
}

static u8 fifo_pop(struct uart_fifo *fifo)
{
    u8 byte = fifo->bytes[fifo->first];

    fifo->first = (fifo->first + 1) % UART_FIFO_BYTES;
    fifo->count--;
    return byte;
}

static bool fifo_has_errors(const struct uart_fifo *fifo)
{
    for (unsigned i = 0; i < fifo->count; i++)
        if (fifo->errors[(fifo->first + i) % UART_FIFO_BYTES])
            return true;
    return false;
}

/* ---- Interrupts ---- */

static bool trigger_reached(const struct uart16550 *uart)
{
    unsigned level = fifos_on(uart) ? trigger_levels[uart->fcr >> FCR_TRIGGER_SHIFT] : 1;

    return uart->rx.count >= level;
}

/* The pending interrupt with the highest priority. */
static u8 interrupt_id(const struct uart16550 *uart)
{
    if ((uart->ier & IER_RLS) && (uart->lsr & LSR_ERRORS))
        return IIR_RLS;
    if ((uart->ier & IER_RDA) && trigger_reached(uart))
        return IIR_RDA;
    if ((uart->ier & IER_RDA) && uart->timed_out)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_THRE) && uart->thr_interrupt)
        return IIR_THRE;
    if ((uart->ier & IER_MS) && (uart->msr & MSR_DELTAS))
        return IIR_MS;
    return IIR_NONE;
}

/* OUT2 gates the line on a PC; in loop-back the pin is inactive. */
static void update_irq(struct uart16550 *uart)
{
    bool connected = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

    irq_line_set(&uart->irq, connected && interrupt_id(uart) != IIR_NONE);
}

static u64 character_ns(const struct uart16550 *uart)
{
    u64 bits = 1 + 5 + (uart->lcr & LCR_LENGTH) + 1 + !!(uart->lcr & LCR_STOP) + !!(uart->lcr & LCR_PARITY);
    u64 divisor = uart->divisor ? uart->divisor : 1;

    return bits * divisor * 16 * 1000000000 / CRYSTAL_HZ;
}

/* The time-out counts from the last character that came in or was read. */
static void restart_timeout(struct uart16550 *uart)
{
    uart->timed_out = false;
    if (fifos_on(uart) && uart->rx.count)
        timer_arm(&uart->timeout, timer_now(&uart->timeout) + TIMEOUT_CHARACTERS * character_ns(uart));
    else
        timer_disarm(&uart->timeout);
}

static void timeout_fired(void *opaque)
{
    struct uart16550 *uart = opaque;

    uart->timed_out = true;
    update_irq(uart);
}

/* ---- Receiver ---- */

static void update_line_status(struct uart16550 *uart)
{
    uart->lsr &= (u8) ~(LSR_DR | LSR_FIFO_ERROR);
    if (uart->rx.count) {
        uart->lsr |= LSR_DR;
        /* The errors of a byte show when it is the next to be read, and are told once. */
        uart->lsr |= uart->rx.errors[uart->rx.first];
    }
    if (fifos_on(uart) && fifo_has_errors(&uart->rx))
        uart->lsr |= LSR_FIFO_ERROR;
}

static void receive_byte(struct uart16550 *uart, u8 byte, u8 errors)
{
    if (uart->rx.count >= fifo_size(uart)) {
        uart->lsr |= LSR_OE;
        if (fifos_on(uart)) /* the FIFO keeps what it has; the character in the shift register is lost */
            return;
        fifo_pop(&uart->rx);
    }
    fifo_push(&uart->rx, byte, errors);
    update_line_status(uart);
    if (!uart->timed_out)
        restart_timeout(uart);
}

/* Move what waits on the line into the receiver as far as there is room, and ask for more when all of it went in. */
static void pump_line(struct uart16550 *uart)
{
    unsigned room = fifo_size(uart) - uart->rx.count, n = uart->line_len < room ? uart->line_len : room;

    if (uart->mcr & MCR_LOOP)
        return;
    for (unsigned i = 0; i < n; i++)
        receive_byte(uart, uart->line[i], 0);
    uart->line_len -= (u8)n;
    for (unsigned i = 0; i < uart->line_len; i++)
        uart->line[i] = uart->line[i + n];
    if (!uart->line_len && uart->rx.count < fifo_size(uart) && !uart->asked && uart->peer.ask) {
        uart->asked = true;
        uart->peer.ask(uart->peer.opaque, UART_ASK_BYTES);
    }
}

void uart16550_receive(struct uart16550 *uart, const u8 *bytes, size_t len)
{
    uart->asked = false;
    for (size_t i = 0; i < len && uart->line_len < UART_LINE_BYTES; i++)
        uart->line[uart->line_len++] = bytes[i];
    pump_line(uart);
    update_irq(uart);
}

void uart16550_receive_break(struct uart16550 *uart)
{
    if (uart->mcr & MCR_LOOP)
        return;
    receive_byte(uart, 0, LSR_BI);
    update_irq(uart);
}

static u8 read_data(struct uart16550 *uart)
{
    u8 byte = uart->rx.bytes[uart->rx.first]; /* an empty FIFO gives what it gave last */

    if (uart->rx.count) {
        fifo_pop(&uart->rx);
        restart_timeout(uart);
        update_line_status(uart);
        pump_line(uart);
    }
    return byte;
}

static u8 read_line_status(struct uart16550 *uart)
{
    u8 value = uart->lsr;

    uart->lsr &= (u8)~LSR_ERRORS;
    uart->rx.errors[uart->rx.first] = 0;
    update_line_status(uart);
    return value;
}

/* ---- Modem lines ---- */

static u8 modem_inputs(const struct uart16550 *uart)
{
    u8 mcr = uart->mcr;

    if (!(mcr & MCR_LOOP))
        return uart->modem_inputs;
    return (u8)((mcr & MCR_RTS ? UART_CTS : 0) | (mcr & MCR_DTR ? UART_DSR : 0) |
                (mcr & MCR_OUT1 ? UART_RI : 0) | (mcr & MCR_OUT2 ? UART_DCD : 0));
}

/* Note which inputs have changed; RI counts only when it goes away (trailing edge). */
static void update_modem_status(struct uart16550 *uart)
{
    u8 now = modem_inputs(uart), changed = (u8)((now ^ uart->msr) & MSR_INPUTS);

    if (now & UART_RI)
        changed &= (u8)~UART_RI;
    uart->msr = (u8)(now | (uart->msr & MSR_DELTAS) | changed >> 4);
}

void uart16550_set_modem_inputs(struct uart16550 *uart, u8 inputs)
{
    uart->modem_inputs = inputs & MSR_INPUTS;
    update_modem_status(uart);
    update_irq(uart);
}

static u8 read_modem_status(struct uart16550 *uart)
{
    u8 value = uart->msr;

    uart->msr &= MSR_INPUTS;
    return value;
}

/* ---- Transmitter ---- */

/* Send what waits, unless the far end has said stop. */
static void pump_transmitter(struct uart16550 *uart)
{
    while (uart->tx.count && ((uart->mcr & MCR_LOOP) || !uart->stopped)) {
        u8 byte = fifo_pop(&uart->tx);

        if (uart->mcr & MCR_LOOP)
            receive_byte(uart, byte, 0);
        else if (uart->peer.send)
            uart->peer.send(uart->peer.opaque, byte);
    }
    if (uart->tx.count) {
        uart->lsr &= (u8) ~(LSR_THRE | LSR_TEMT);
    } else {
        if (!(uart->lsr & LSR_THRE))
            uart->thr_interrupt = true;
        uart->lsr |= LSR_THRE | LSR_TEMT;
    }
}

static void write_data(struct uart16550 *uart, u8 value)
{
    uart->thr_interrupt = false;
    update_irq(uart); /* the line falls between two transmitter interrupts */
    uart->lsr &= (u8) ~(LSR_THRE | LSR_TEMT);
    if (uart->tx.count == fifo_size(uart)) /* the driver did not look: the last character is overwritten */
        uart->tx.count--;
    fifo_push(&uart->tx, value, 0);
    pump_transmitter(uart);
}

void uart16550_set_flow(struct uart16550 *uart, bool go)
{
    uart->stopped = !go;
    pump_transmitter(uart);
    update_irq(uart);
}

/* ---- Registers ---- */

static u8 read_interrupt_id(struct uart16550 *uart)
{
    u8 id = interrupt_id(uart);

    if (id == IIR_THRE)
        uart->thr_interrupt = false;
    return (u8)(id | (fifos_on(uart) ? IIR_FIFOS : 0));
}

static void clear_rx(struct uart16550 *uart)
{
    uart->rx = (struct uart_fifo){0};
    update_line_status(uart);
    restart_timeout(uart);
}

static void clear_tx(struct uart16550 *uart)
{
    uart->tx = (struct uart_fifo){0};
    pump_transmitter(uart);
}

static void write_fifo_control(struct uart16550 *uart, u8 value)
{
    bool switched = (value ^ uart->fcr) & FCR_ENABLE;

    uart->fcr =
        value & FCR_ENABLE ? value & FCR_KEPT : 0; /* the other bits count only together with the enable */
    if (switched || (value & (FCR_ENABLE | FCR_CLEAR_RX)) == (FCR_ENABLE | FCR_CLEAR_RX))
        clear_rx(uart);
    if (switched || (value & (FCR_ENABLE | FCR_CLEAR_TX)) == (FCR_ENABLE | FCR_CLEAR_TX))
        clear_tx(uart);
    pump_line(uart);
}

static void write_interrupt_enable(struct uart16550 *uart, u8 value)
{
    bool enabled = value & ~uart->ier & IER_THRE;

    uart->ier = value & IER_WRITABLE;
    /* Enabling the transmitter interrupt while the register is empty raises it at once. */
    if (enabled && (uart->lsr & LSR_THRE))
        uart->thr_interrupt = true;
}

static void write_modem_control(struct uart16550 *uart, u8 value)
{
    uart->mcr = value & MCR_WRITABLE;
    update_modem_status(uart);
    pump_transmitter(uart);
    pump_line(uart);
}

u8 uart16550_read(struct uart16550 *uart, unsigned offset)
{
    bool dlab = uart->lcr & LCR_DLAB;
    u8 value = 0xff;

    switch (offset) {
    case REG_DATA: value = dlab ? (u8)uart->divisor : read_data(uart); break;
    case REG_IER: value = dlab ? (u8)(uart->divisor >> 8) : uart->ier; break;
    case REG_IIR_FCR: value = read_interrupt_id(uart); break;
    case REG_LCR: value = uart->lcr; break;
    case REG_MCR: value = uart->mcr; break;
    case REG_LSR: value = read_line_status(uart); break;
    case REG_MSR: value = read_modem_status(uart); break;
    case REG_SCR: value = uart->scr; break;
    }
    update_irq(uart);
    return value;
}

void uart16550_write(struct uart16550 *uart, unsigned offset, u8 value)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case REG_DATA:
        if (dlab)
            uart->divisor = (u16)((uart->divisor & 0xff00) | value);
        else
            write_data(uart, value);
        break;
    case REG_IER:
        if (dlab)
            uart->divisor = (u16)((uart->divisor & 0xff) | value << 8);
        else
            write_interrupt_enable(uart, value);
        break;
    case REG_IIR_FCR: write_fifo_control(uart, value); break;
    case REG_LCR: uart->lcr = value; break;
    case REG_MCR: write_modem_control(uart, value); break;
    case REG_LSR:
    case REG_MSR: break; /* writing is for factory tests */
    case REG_SCR: uart->scr = value; break;
    }
    update_irq(uart);
}

void uart16550_reset(struct uart16550 *uart)
{
    uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scr = 0;
    uart->divisor = 12; /* 9600 baud; undefined on hardware */
    uart->lsr = LSR_THRE | LSR_TEMT;
    uart->msr = uart->modem_inputs;
    uart->rx = uart->tx = (struct uart_fifo){0};
    uart->thr_interrupt = uart->timed_out = false;
    timer_disarm(&uart->timeout);
    pump_line(uart);
    update_irq(uart);
}

void uart16550_init(struct uart16550 *uart, struct timer_queue *timers, struct irq_line irq,
                    const struct uart16550_line *peer)
{
    *uart = (struct uart16550){.irq = irq, .modem_inputs = UART_CTS | UART_DSR | UART_DCD};
    if (peer)
        uart->peer = *peer;
    timer_init(&uart->timeout, timers, timeout_fired, uart);
    uart16550_reset(uart);
}

/* ---- State ---- */

static const struct state_field fifo_fields[] = {
    STATE_ARRAY(struct uart_fifo, bytes, STATE_U8, 1),
    STATE_ARRAY(struct uart_fifo, errors, STATE_U8, 1),
    STATE_FIELD(struct uart_fifo, first, STATE_U8, 1),
    STATE_FIELD(struct uart_fifo, count, STATE_U8, 1),
    STATE_END,
};

static int fifo_post_load(void *object, struct error *err)
{
    struct uart_fifo *fifo = object;

    if (fifo->first >= UART_FIFO_BYTES || fifo->count > UART_FIFO_BYTES)
        return error_set(err, "uart16550: a FIFO with %u bytes from %u on", fifo->count, fifo->first);
    for (unsigned i = 0; i < UART_FIFO_BYTES; i++)
        if (fifo->errors[i] & ~LSR_OF_BYTE)
            return error_set(err, "uart16550: a character with errors %#x", fifo->errors[i]);
    return 0;
}

static const struct state_table fifo_state = {
    .name = "uart_fifo",
    .version = 1,
    .size = sizeof(struct uart_fifo),
    .fields = fifo_fields,
    .post_load = fifo_post_load,
};

static const struct state_field uart16550_fields[] = {
    STATE_FIELD(struct uart16550, ier, STATE_U8, 1),
    STATE_FIELD(struct uart16550, fcr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, lcr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, mcr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, lsr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, msr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, scr, STATE_U8, 1),
    STATE_FIELD(struct uart16550, divisor, STATE_U16, 1),
    STATE_FIELD(struct uart16550, modem_inputs, STATE_U8, 1),
    STATE_STRUCT(struct uart16550, rx, &fifo_state, 1),
    STATE_STRUCT(struct uart16550, tx, &fifo_state, 1),
    STATE_FIELD(struct uart16550, thr_interrupt, STATE_BOOL, 1),
    STATE_FIELD(struct uart16550, timed_out, STATE_BOOL, 1),
    STATE_FIELD(struct uart16550, stopped, STATE_BOOL, 1),
    STATE_ARRAY(struct uart16550, line, STATE_U8, 1),
    STATE_FIELD(struct uart16550, line_len, STATE_U8, 1),
    STATE_STRUCT(struct uart16550, timeout, &timer_state_table, 1),
    STATE_END,
};

static int uart16550_post_load(void *object, struct error *err)
{
    struct uart16550 *uart = object;
    unsigned room;

    if (uart->line_len > UART_LINE_BYTES)
        return error_set(err, "uart16550: %u bytes on the line", uart->line_len);
    if (uart->rx.count > fifo_size(uart) || uart->tx.count > fifo_size(uart))
        return error_set(err, "uart16550: more characters than the FIFO mode allows");
    /* This process's question stands since the reset; the answer must fit behind what was loaded. */
    room = UART_LINE_BYTES - uart->line_len;
    if (uart->asked && room < UART_ASK_BYTES) {
        uart->asked = room > 0;
        uart->peer.ask(uart->peer.opaque, room);
    }
    return 0;
}

const struct state_table uart16550_state = {
    .name = "uart16550",
    .version = 1,
    .size = sizeof(struct uart16550),
    .fields = uart16550_fields,
    .post_load = uart16550_post_load,
};

/* ---- The device ---- */

struct uart16550_device {
    struct device device;
    u16 iobase;
    u8 irq;
    void *chardev; /* struct chardev, or NULL */
    struct uart16550 uart;
    int source; /* of the event gate */
};

/* First byte of an event of this device's gate source. */
enum { EVENT_BYTES, EVENT_BREAK, EVENT_STOP, EVENT_GO };

static void deliver(void *opaque, const u8 *bytes, size_t len)
{
    struct uart16550_device *self = opaque;

    if (!len)
        return;
    switch (bytes[0]) {
    case EVENT_BYTES: uart16550_receive(&self->uart, bytes + 1, len - 1); break;
    case EVENT_BREAK: uart16550_receive_break(&self->uart); break;
    case EVENT_STOP: uart16550_set_flow(&self->uart, false); break;
    case EVENT_GO: uart16550_set_flow(&self->uart, true); break;
    }
}

static bool post(struct uart16550_device *self, u8 event, const u8 *bytes, size_t len)
{
    u8 message[1 + UART_ASK_BYTES] = {event};

    for (size_t i = 0; i < len; i++)
        message[1 + i] = bytes[i];
    return gate_post(&self->device.vm->gate, self->source, message, 1 + len);
}

static bool chardev_receive(void *opaque, const u8 *bytes, size_t len)
{
    return post(opaque, EVENT_BYTES, bytes, len);
}

static bool chardev_break(void *opaque)
{
    return post(opaque, EVENT_BREAK, NULL, 0);
}

static bool chardev_flow(void *opaque, bool go)
{
    return post(opaque, go ? EVENT_GO : EVENT_STOP, NULL, 0);
}

static const struct chardev_events chardev_events = {chardev_receive, chardev_break, chardev_flow};

static void line_send(void *opaque, u8 byte)
{
    struct uart16550_device *self = opaque;

    chardev_write(self->chardev, &byte, 1);
}

static void line_ask(void *opaque, unsigned max)
{
    struct uart16550_device *self = opaque;

    chardev_want(self->chardev, max);
}

static u64 uart_read(void *opaque, u64 offset, unsigned size)
{
    return uart16550_read(opaque, (unsigned)offset);
}

static void uart_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    uart16550_write(opaque, (unsigned)offset, (u8)value);
}

static const struct io_ops uart_ops = {uart_read, uart_write, 1, 1};

static int uart16550_attach(struct device *device, struct error *err)
{
    struct uart16550_device *self = container_of(device, struct uart16550_device, device);
    struct vm *vm = device->vm;
    struct uart16550_line line = {line_send, line_ask, self};

    if (self->irq >= IRQ_GSIS)
        return error_set(err, "%s: there is no interrupt %u", device->name, self->irq);
    self->source = gate_register(&vm->gate, device->name, deliver, self, err);
    if (self->source < 0)
        return -1;
    if (self->chardev) {
        chardev_connect(self->chardev, &chardev_events, self);
        post(self, EVENT_GO, NULL,
             0); /* outlives the loading of a state that was saved while its far end said stop */
    }
    uart16550_init(&self->uart, &vm->timers, irq_router_line(&vm->irqs, self->irq),
                   self->chardev ? &line : NULL);
    return port_map_add(&vm->ports, self->iobase, 8, &uart_ops, &self->uart, device->name, err);
}

static void uart16550_device_reset(struct device *device)
{
    uart16550_reset(&container_of(device, struct uart16550_device, device)->uart);
}

static const struct property uart16550_properties[] = {
    {.name = "iobase",
     .type = PROP_U16,
     .offset = offsetof(struct uart16550_device, iobase),
     .default_value = "0x3f8",
     .help = "first of its eight ports"},
    {.name = "irq",
     .type = PROP_U8,
     .offset = offsetof(struct uart16550_device, irq),
     .default_value = "4",
     .help = "interrupt that it raises"},
    {.name = "chardev",
     .type = PROP_POINTER,
     .offset = offsetof(struct uart16550_device, chardev),
     .help = "what is at the other end of the line"},
    {.name = NULL},
};

const struct device_class uart16550_class = {
    .name = "uart16550",
    .help = "16550A serial port",
    .size = sizeof(struct uart16550_device),
    .properties = uart16550_properties,
    .state = &uart16550_state,
    .state_offset = offsetof(struct uart16550_device, uart),
    .attach = uart16550_attach,
    .reset = uart16550_device_reset,
};
