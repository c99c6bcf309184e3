#include "chip_test.h"
#include "dev/uart16550.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
enum { CHARACTER_NS = 86806 /* 10 bits at 115200 baud, rounded up */ };

struct serial {
    struct bench bench;
    struct watched_line irq;
    struct uart16550 chip;
    u8 sent[64];
    unsigned nsent, asked;
};

static void send(void *opaque, u8 byte)
{
    struct serial *s = opaque;

    assert_true(s->nsent < sizeof(s->sent));
    s->sent[s->nsent++] = byte;
}

static void ask(void *opaque, unsigned max)
{
    ((struct serial *)opaque)->asked = max;
}

static void set_up(struct serial *s)
{
    struct uart16550_line line = {send, ask, s};

    *s = (struct serial){0};
    bench_init(&s->bench);
    uart16550_init(&s->chip, &s->bench.timers, watch_line(&s->irq), &line);
}

static u8 rd(struct serial *s, unsigned reg)
{
    return uart16550_read(&s->chip, reg);
}
static void wr(struct serial *s, unsigned reg, u8 value)
{
    uart16550_write(&s->chip, reg, value);
}

/* 115200 8n1, FIFOs on with a trigger of `fcr`, all interrupts, OUT2. */
static void open_port(struct serial *s, u8 fcr)
{
    wr(s, LCR, 0x83);
    wr(s, DATA, 1);
    wr(s, IER, 0);
    wr(s, LCR, 0x03);
    wr(s, IIR, fcr);
    wr(s, MCR, 0x0b);
    wr(s, IER, 0x0f);
    rd(s, IIR); /* takes the transmitter interrupt */
}

static void type(struct serial *s, const char *text)
{
    uart16550_receive(&s->chip, (const u8 *)text, strlen(text));
}

static void test_registers_after_reset(void **state)
{
    struct serial s;

    set_up(&s);
    assert_int_equal(rd(&s, IER), 0);
    assert_int_equal(rd(&s, IIR), 0x01);
    assert_int_equal(rd(&s, LCR), 0);
    assert_int_equal(rd(&s, MCR), 0);
    assert_int_equal(rd(&s, LSR), 0x60);
    assert_int_equal(rd(&s, MSR), 0xb0);
    assert_false(s.irq.level);
    wr(&s, SCR, 0xa5);
    assert_int_equal(rd(&s, SCR), 0xa5);
    wr(&s, IER, 0xff);
    assert_int_equal(rd(&s, IER), 0x0f);
    wr(&s, MCR, 0xff);
    assert_int_equal(rd(&s, MCR), 0x1f);
    wr(&s, LCR, 0xff);
    wr(&s, DATA, 0x34);
    wr(&s, IER, 0x12);
    assert_int_equal(rd(&s, DATA), 0x34);
    assert_int_equal(rd(&s, IER), 0x12);
    wr(&s, LCR, 0x7f);
    assert_int_equal(rd(&s, IER), 0x0f);
    wr(&s, IIR, 0x01);
    assert_int_equal(rd(&s, IIR) & 0xc0, 0xc0); /* how drivers tell a 16550A */
}

static void test_characters_leave_at_once_and_raise_the_transmitter_interrupt(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    assert_false(s.irq.level);
    s.irq.rises = 0;
    wr(&s, DATA, 'a');
    wr(&s, DATA, 'b');
    assert_int_equal(s.irq.rises, 2); /* an edge for each */
    assert_int_equal(rd(&s, LSR), 0x60);
    assert_memory_equal(s.sent, "ab", 2);
    assert_int_equal(rd(&s, IIR), 0xc2);
    assert_int_equal(rd(&s, IIR), 0xc1);
    assert_false(s.irq.level);
    wr(&s, IER, 0);
    wr(&s, IER, 2); /* enabling it while empty raises it again */
    assert_true(s.irq.level);
}

static void test_stopped_far_end_fills_the_fifo_and_loses_nothing(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    uart16550_set_flow(&s.chip, false);
    assert_int_equal(rd(&s, LSR), 0x60); /* there is room for 16 */
    for (int i = 0; i < 16; i++)
        wr(&s, DATA, (u8)('A' + i));
    assert_int_equal(rd(&s, LSR), 0);
    assert_int_equal(s.nsent, 0);
    assert_false(s.irq.level);
    uart16550_set_flow(&s.chip, true);
    assert_int_equal(s.nsent, 16);
    assert_memory_equal(s.sent, "ABCDEFGHIJKLMNOP", 16);
    assert_int_equal(rd(&s, LSR), 0x60);
    assert_true(s.irq.level);
    assert_int_equal(rd(&s, IIR), 0xc2);
    /* A driver that does not look overwrites the last one. */
    uart16550_set_flow(&s.chip, false);
    for (int i = 0; i < 20; i++)
        wr(&s, DATA, (u8)('0' + i));
    uart16550_set_flow(&s.chip, true);
    assert_int_equal(s.nsent, 32);
    assert_int_equal(s.sent[31], '0' + 19);
}

static void test_receive_triggers_and_time_out(void **state)
{
    static const struct {
        u8 fcr;
        unsigned level;
    } triggers[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
    struct serial s;

    for (size_t i = 0; i < ARRAY_SIZE(triggers); i++) {
        set_up(&s);
        open_port(&s, triggers[i].fcr);
        for (unsigned n = 1; n <= triggers[i].level; n++) {
            assert_int_equal(rd(&s, IIR), 0xc1);
            type(&s, "x");
        }
        assert_true(s.irq.level);
        assert_int_equal(rd(&s, IIR), 0xc4);
        rd(&s, DATA);
        assert_false(s.irq.level);
        if (triggers[i].level == 1)
            continue;
        bench_run(&s.bench, 4 * CHARACTER_NS - 1000);
        assert_false(s.irq.level);
        bench_run(&s.bench, 1000);
        assert_true(s.irq.level);
        assert_int_equal(rd(&s, IIR), 0xcc);
        type(&s, "y"); /* does not take the interrupt back */
        assert_true(s.irq.level);
        rd(&s, DATA);
        assert_int_equal(rd(&s, IIR), 0xc1);
        bench_run(&s.bench, 4 * CHARACTER_NS); /* the rest is reported again */
        assert_int_equal(rd(&s, IIR), 0xcc);
    }
}

static void test_input_waits_for_room_and_is_asked_for(void **state)
{
    struct serial s;

    set_up(&s);
    assert_int_equal(s.asked, UART_ASK_BYTES);
    open_port(&s, 0x01);
    s.asked = 0;
    type(&s, "0123456789abcdefghijklmnopqrstuv");
    assert_int_equal(s.asked, 0); /* sixteen still wait */
    for (int i = 0; i < 32; i++) {
        assert_int_equal(rd(&s, LSR) & 3, 1);
        assert_int_equal(rd(&s, DATA), "0123456789abcdefghijklmnopqrstuv"[i]);
        assert_int_equal(s.asked, i < 16 ? 0 : UART_ASK_BYTES);
    }
    assert_int_equal(rd(&s, LSR) & 3, 0);
    /* Without FIFOs, one at a time. */
    wr(&s, IIR, 0);
    type(&s, "xyz");
    for (int i = 0; i < 3; i++) {
        assert_true(s.irq.level);
        assert_int_equal(rd(&s, IIR), 0x04);
        assert_int_equal(rd(&s, DATA), 'x' + i);
    }
    assert_false(s.irq.level);
}

static void test_break_is_an_error_of_its_character(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x81);
    type(&s, "a");
    uart16550_receive_break(&s.chip);
    assert_int_equal(rd(&s, LSR), 0xe1); /* somewhere in the FIFO, not at its top */
    assert_false(s.irq.level);
    assert_int_equal(rd(&s, DATA), 'a');
    assert_true(s.irq.level);
    assert_int_equal(rd(&s, IIR), 0xc6);
    assert_int_equal(rd(&s, LSR), 0xf1);
    assert_int_equal(rd(&s, LSR), 0x61); /* told once */
    assert_int_equal(rd(&s, DATA), 0);
    assert_int_equal(rd(&s, LSR), 0x60);
}

static void test_interrupt_priorities(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    uart16550_set_modem_inputs(&s.chip, UART_DSR | UART_DCD);
    wr(&s, DATA, 'x');
    type(&s, "a");
    uart16550_receive_break(&s.chip);
    rd(&s, DATA);
    assert_int_equal(rd(&s, IIR), 0xc6);
    assert_int_equal(rd(&s, LSR) & 0x10, 0x10);
    assert_int_equal(rd(&s, IIR), 0xc4);
    rd(&s, DATA);
    assert_int_equal(rd(&s, IIR), 0xc2);
    assert_int_equal(rd(&s, IIR), 0xc0);
    assert_int_equal(rd(&s, MSR), 0xa1); /* CTS went away */
    assert_int_equal(rd(&s, IIR), 0xc1);
    assert_false(s.irq.level);
}

static void test_modem_deltas(void **state)
{
    struct serial s;

    set_up(&s);
    uart16550_set_modem_inputs(&s.chip, UART_RI);
    assert_int_equal(rd(&s, MSR), UART_RI | 0x0b);
    assert_int_equal(rd(&s, MSR), UART_RI);
    uart16550_set_modem_inputs(&s.chip, UART_CTS);
    assert_int_equal(rd(&s, MSR), UART_CTS | 0x05); /* the trailing edge of RI counts */
}

static void test_loop_back(void **state)
{
    static const u8 msr_of_mcr[4] = {0x20, 0x10, 0x40, 0x80}; /* DTR-DSR, RTS-CTS, OUT1-RI, OUT2-DCD */
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    for (int i = 0; i < 4; i++) {
        wr(&s, MCR, (u8)(0x10 | 1 << i));
        assert_int_equal(rd(&s, MSR) & 0xf0, msr_of_mcr[i]);
    }
    wr(&s, MCR, 0x1b);
    rd(&s, MSR);
    type(&s, "outside"); /* held until the loop is opened */
    for (int i = 0; i < 20; i++)
        wr(&s, DATA, (u8)i);
    assert_int_equal(s.nsent, 0);
    assert_int_equal(rd(&s, LSR), 0x63); /* overrun: the FIFO keeps the first sixteen */
    assert_false(s.irq.level);           /* OUT2 is inactive, though the chip has interrupts */
    assert_int_equal(rd(&s, IIR), 0xc4);
    for (int i = 0; i < 16; i++)
        assert_int_equal(rd(&s, DATA), i);
    assert_int_equal(rd(&s, LSR), 0x60);
    wr(&s, MCR, 0x0b);
    for (int i = 0; i < 7; i++)
        assert_int_equal(rd(&s, DATA), "outside"[i]);
}

static void test_out2_gates_the_line(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    type(&s, "a");
    assert_true(s.irq.level);
    wr(&s, MCR, 0x03);
    assert_false(s.irq.level);
    assert_int_equal(rd(&s, IIR), 0xc4);
    wr(&s, MCR, 0x08);
    assert_true(s.irq.level);
}

static void test_fifo_control(void **state)
{
    struct serial s;

    set_up(&s);
    open_port(&s, 0x01);
    type(&s, "abc");
    wr(&s, IIR, 0x03); /* clear the receiver */
    assert_int_equal(rd(&s, LSR), 0x60);
    uart16550_set_flow(&s.chip, false);
    wr(&s, DATA, 'x');
    wr(&s, IIR, 0x05); /* clear the transmitter */
    assert_int_equal(rd(&s, LSR), 0x60);
    uart16550_set_flow(&s.chip, true);
    assert_int_equal(s.nsent, 0);
    type(&s, "abc");
    wr(&s, IIR, 0x06); /* without the enable: FIFOs off, which empties them */
    assert_int_equal(rd(&s, LSR), 0x60);
    assert_int_equal(rd(&s, IIR) & 0xc0, 0);
}

static void test_state_round_trip_keeps_what_was_typed(void **state)
{
    struct serial from, to;
    const char *text = "0123456789abcdefghijklmnopqrstuv";

    set_up(&from);
    open_port(&from, 0xc1);
    type(&from, text);
    uart16550_receive_break(&from.chip);
    set_up(&to);
    assert_state_round_trip(&uart16550_state, &from.chip, &to.chip);
    type(&to, text); /* the answer that the new far end owes */
    for (int i = 0; i < 64; i++)
        assert_int_equal(rd(&to, DATA), text[i % 32]);
    /* A full line buffer: the question is withdrawn, and asked again when there is room. */
    type(&to, text);
    memcpy(to.chip.line + to.chip.line_len, text, 32);
    to.chip.line_len = UART_LINE_BYTES;
    set_up(&from);
    assert_state_round_trip(&uart16550_state, &to.chip, &from.chip);
    assert_int_equal(from.asked, 0);
    for (int i = 0; i < 80; i++)
        rd(&from, DATA);
    assert_int_equal(from.asked, UART_ASK_BYTES);
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    return uart16550_read(&((struct serial *)opaque)->chip, (unsigned)offset);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct serial *s = opaque;

    s->nsent = 0;
    if (offset < 8)
        uart16550_write(&s->chip, (unsigned)offset, (u8)value);
    else if (offset == 8)
        uart16550_receive(&s->chip, (const u8 *)&value, value & 7);
    else if (offset == 9)
        uart16550_set_flow(&s->chip, value & 1);
    else if (offset == 10)
        uart16550_receive_break(&s->chip);
    else
        uart16550_set_modem_inputs(&s->chip, (u8)value);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    struct serial s;
    u64 seed = 3;

    for (int i = 0; i < 50; i++) {
        set_up(&s);
        hammer(&s.bench, &ops, &s, 12, &seed, 1000);
        load_damaged_state(&uart16550_state, &s.chip, &seed, 20);
        hammer(&s.bench, &ops, &s, 12, &seed, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers_after_reset),
        cmocka_unit_test(test_characters_leave_at_once_and_raise_the_transmitter_interrupt),
        cmocka_unit_test(test_stopped_far_end_fills_the_fifo_and_loses_nothing),
        cmocka_unit_test(test_receive_triggers_and_time_out),
        cmocka_unit_test(test_input_waits_for_room_and_is_asked_for),
        cmocka_unit_test(test_break_is_an_error_of_its_character),
        cmocka_unit_test(test_interrupt_priorities),
        cmocka_unit_test(test_modem_deltas),
        cmocka_unit_test(test_loop_back),
        cmocka_unit_test(test_out2_gates_the_line),
        cmocka_unit_test(test_fifo_control),
        cmocka_unit_test(test_state_round_trip_keeps_what_was_typed),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
