#include "chip_test.h"
#include "dev/i8042.h"
#include "dev/port92.h"

enum { ACK = 0xfa, MILLISECOND = 1000000 };

struct pc {
    struct bench bench;
    struct watched_line irq1, irq12, a20, reset;
    struct i8042 kbc;
};

static void set_up(struct pc *pc)
{
    struct i8042_wiring wiring = {watch_line(&pc->irq1), watch_line(&pc->irq12), watch_line(&pc->a20),
                                  watch_line(&pc->reset)};

    *pc = (struct pc){0};
    bench_init(&pc->bench);
    i8042_init(&pc->kbc, &pc->bench.timers, &wiring);
}

static void command(struct pc *pc, u8 value)
{
    i8042_write_command(&pc->kbc, value);
}

static void command_with(struct pc *pc, u8 value, u8 argument)
{
    command(pc, value);
    i8042_write_data(&pc->kbc, argument);
}

/* The next byte at port 60h within a millisecond, or -1; `aux`: whether it came from the mouse. */
static int next_byte(struct pc *pc, bool aux)
{
    bench_run(&pc->bench, MILLISECOND);
    if (!(i8042_read_status(&pc->kbc) & 1))
        return -1;
    assert_int_equal(i8042_read_status(&pc->kbc) & 0x20, aux ? 0x20 : 0);
    return i8042_read_data(&pc->kbc);
}

static void expect(struct pc *pc, bool aux, unsigned len, const char *bytes)
{
    for (unsigned i = 0; i < len; i++)
        assert_int_equal(next_byte(pc, aux), (u8)bytes[i]);
    assert_int_equal(next_byte(pc, aux), -1);
}
#define expect_keys(pc, text)  expect(pc, false, sizeof(text) - 1, text)
#define expect_mouse(pc, text) expect(pc, true, sizeof(text) - 1, text)

static void key(struct pc *pc, const char *name, bool down)
{
    int number = ps2_key_number(name);

    assert_true(number >= 0);
    ps2_keyboard_key(&pc->kbc.keyboard, (unsigned)number, down);
}

static void to_keyboard(struct pc *pc, u8 value)
{
    i8042_write_data(&pc->kbc, value);
}
static void to_mouse(struct pc *pc, u8 value)
{
    command_with(pc, 0xd4, value);
}

/* Command byte without translation and with both interrupts. */
static void raw_mode(struct pc *pc)
{
    command_with(pc, 0x60, 0x03);
}

static void test_self_tests_and_ram(void **state)
{
    struct pc pc;

    set_up(&pc);
    assert_int_equal(i8042_read_status(&pc.kbc), 0x14);
    command(&pc, 0xaa);
    assert_int_equal(i8042_read_status(&pc.kbc), 0x1d);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x55); /* at once: no serial line */
    assert_int_equal(i8042_read_data(&pc.kbc), 0x55); /* stays readable */
    command(&pc, 0xab);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x00);
    command(&pc, 0xa9);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x00);
    command_with(&pc, 0x60, 0x65);
    command(&pc, 0x20);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x65);
    command_with(&pc, 0x7f, 0x12);
    command(&pc, 0x3f);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x12);
    command(&pc, 0xa7);
    command(&pc, 0x20);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x65); /* was off already */
    command(&pc, 0xa8);
    command(&pc, 0xad);
    command(&pc, 0x20);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x55);
    command(&pc, 0xa4);
    assert_int_equal(i8042_read_data(&pc.kbc), 0xf1);
    command(&pc, 0xc0);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x80);
}

static void test_output_port_drives_a20_and_reset(void **state)
{
    struct pc pc;

    set_up(&pc);
    command_with(&pc, 0xd1, 0xdf);
    assert_true(pc.a20.level);
    command_with(&pc, 0xd1, 0xdd);
    assert_false(pc.a20.level);
    command(&pc, 0xdf);
    assert_true(pc.a20.level);
    command(&pc, 0xdd);
    assert_false(pc.a20.level);
    command(&pc, 0xd0);
    assert_int_equal(i8042_read_data(&pc.kbc) & 3, 1);
    assert_int_equal(pc.reset.rises, 0);
    command(&pc, 0xf1);
    assert_int_equal(pc.reset.rises, 0);
    command(&pc, 0xfe);
    assert_int_equal(pc.reset.rises, 1);
    command_with(&pc, 0xd1, 0xdc);
    assert_int_equal(pc.reset.rises, 2);
}

static void test_loop_commands_and_their_interrupts(void **state)
{
    struct pc pc;

    set_up(&pc);
    command_with(&pc, 0xd3, 0xa5);
    assert_true(pc.irq12.level);
    assert_int_equal(i8042_read_status(&pc.kbc) & 0x21, 0x21);
    assert_int_equal(i8042_read_data(&pc.kbc), 0xa5);
    assert_false(pc.irq12.level);
    command_with(&pc, 0xd2, 0x5a);
    assert_true(pc.irq1.level);
    assert_false(pc.irq12.level);
    command_with(&pc, 0x60, 0x40); /* interrupts off */
    assert_false(pc.irq1.level);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x5a);
    /* Answers that nobody reads do not pile up. */
    for (int i = 0; i < 100; i++)
        command_with(&pc, 0xd2, (u8)i);
    for (int i = 95; i < 100; i++)
        assert_int_equal(i8042_read_data(&pc.kbc), i);
    assert_int_equal(i8042_read_status(&pc.kbc) & 1, 0);
}

static void test_scan_codes_in_all_sets(void **state)
{
    static const struct {
        const char *key, *set1, *set2, *set3; /* make and break */
    } cases[] = {
        {"a", "\x1e\x9e", "\x1c\xf0\x1c", "\x1c\xf0\x1c"},
        {"esc", "\x01\x81", "\x76\xf0\x76", "\x08\xf0\x08"},
        {"f7", "\x41\xc1", "\x83\xf0\x83", "\x37\xf0\x37"},
        {"ret", "\x1c\x9c", "\x5a\xf0\x5a", "\x5a\xf0\x5a"},
        {"ctrl_r", "\xe0\x1d\xe0\x9d", "\xe0\x14\xe0\xf0\x14", "\x58\xf0\x58"},
        {"kp_enter", "\xe0\x1c\xe0\x9c", "\xe0\x5a\xe0\xf0\x5a", "\x79\xf0\x79"},
        {"up", "\xe0\x48\xe0\xc8", "\xe0\x75\xe0\xf0\x75", "\x63\xf0\x63"},
        {"less", "\x56\xd6", "\x61\xf0\x61", "\x13\xf0\x13"},
        {"print", "\xe0\x2a\xe0\x37\xe0\xb7\xe0\xaa", "\xe0\x12\xe0\x7c\xe0\xf0\x7c\xe0\xf0\x12",
         "\x57\xf0\x57"},
        {"pause", "\xe1\x1d\x45\xe1\x9d\xc5", "\xe1\x14\x77\xe1\xf0\x14\xf0\x77", "\x62\xf0\x62"},
        {"volumeup", "\xe0\x30\xe0\xb0", "\xe0\x32\xe0\xf0\x32", ""},
    };
    struct pc pc;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *expected[] = {cases[i].set1, cases[i].set2, cases[i].set3, cases[i].set1};

        for (u8 set = 1; set <= 4; set++) { /* 4: set 2, translated by the controller */
            set_up(&pc);
            if (set != 4) {
                raw_mode(&pc);
                to_keyboard(&pc, 0xf0);
                assert_int_equal(next_byte(&pc, false), ACK);
                to_keyboard(&pc, set);
                assert_int_equal(next_byte(&pc, false), ACK);
            }
            if (set == 3) {
                to_keyboard(&pc, 0xfa); /* all keys tell everything */
                assert_int_equal(next_byte(&pc, false), ACK);
            }
            key(&pc, cases[i].key, true);
            key(&pc, cases[i].key, false);
            expect(&pc, false, (unsigned)strlen(expected[set - 1]), expected[set - 1]);
        }
    }
}

static void test_modified_print_and_pause(void **state)
{
    struct pc pc;

    set_up(&pc);
    raw_mode(&pc);
    key(&pc, "shift", true);
    key(&pc, "print", true);
    key(&pc, "print", false);
    key(&pc, "shift", false);
    expect_keys(&pc, "\x12\xe0\x7c\xe0\xf0\x7c\xf0\x12");
    key(&pc, "alt", true);
    key(&pc, "print", true);
    key(&pc, "print", false);
    key(&pc, "alt", false);
    expect_keys(&pc, "\x11\x84\xf0\x84\xf0\x11");
    key(&pc, "ctrl_r", true);
    key(&pc, "pause", true);
    key(&pc, "pause", false);
    key(&pc, "ctrl_r", false);
    expect_keys(&pc, "\xe0\x14\xe0\x7e\xe0\xf0\x7e\xe0\xf0\x14");
}

static void test_keyboard_commands(void **state)
{
    struct pc pc;

    set_up(&pc);
    to_keyboard(&pc, 0xff);
    expect_keys(&pc, "\xfa\xaa");
    to_keyboard(&pc, 0xf2);
    expect_keys(&pc, "\xfa\xab\x41"); /* translated, as drivers see it */
    raw_mode(&pc);
    to_keyboard(&pc, 0xf2);
    expect_keys(&pc, "\xfa\xab\x83");
    to_keyboard(&pc, 0xee);
    expect_keys(&pc, "\xee");
    to_keyboard(&pc, 0xfe);
    expect_keys(&pc, "\xee"); /* resend */
    to_keyboard(&pc, 0xed);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 0x05);
    expect_keys(&pc, "\xfa");
    assert_int_equal(pc.kbc.keyboard.leds, 5);
    to_keyboard(&pc, 0xed);
    to_keyboard(&pc, 0xee); /* a command in place of the argument; its answer replaces the first */
    expect_keys(&pc, "\xee");
    to_keyboard(&pc, 0xf3);
    to_keyboard(&pc, 0x20);
    expect_keys(&pc, "\xfa");
    assert_int_equal(pc.kbc.keyboard.typematic, 0x20);
    to_keyboard(&pc, 0xf0);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 0);
    expect_keys(&pc, "\xfa\x02");
    to_keyboard(&pc, 0xf0);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 9);
    expect_keys(&pc, "\xfe");
    to_keyboard(&pc, 0xf5);
    expect_keys(&pc, "\xfa");
    key(&pc, "a", true);
    expect_keys(&pc, "");
    to_keyboard(&pc, 0xf4);
    expect_keys(&pc, "\xfa");
    key(&pc, "a", false);
    expect_keys(&pc, "\xf0\x1c");
    to_keyboard(&pc, 0x10);
    expect_keys(&pc, "\xfe");
}

static void test_set_3_key_kinds(void **state)
{
    struct pc pc;

    set_up(&pc);
    raw_mode(&pc);
    to_keyboard(&pc, 0xf0);
    to_keyboard(&pc, 3);
    expect_keys(&pc, "\xfa");
    key(&pc, "a", true);
    key(&pc, "a", true);
    key(&pc, "a", false);
    expect_keys(&pc, "\x1c\x1c"); /* typematic */
    key(&pc, "shift", true);
    key(&pc, "shift", true);
    key(&pc, "shift", false);
    expect_keys(&pc, "\x12\xf0\x12"); /* make and break */
    key(&pc, "f1", true);
    key(&pc, "f1", true);
    key(&pc, "f1", false);
    expect_keys(&pc, "\x07"); /* make only */
    to_keyboard(&pc, 0xfc);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 0x1c);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 0x07);
    expect_keys(&pc, "\xfa");
    to_keyboard(&pc, 0xf4);
    expect_keys(&pc, "\xfa");
    key(&pc, "a", true);
    key(&pc, "a", true);
    key(&pc, "a", false);
    key(&pc, "f1", true);
    key(&pc, "f1", false);
    expect_keys(&pc, "\x1c\xf0\x1c\x07\xf0\x07");
    to_keyboard(&pc, 0xf9);
    expect_keys(&pc, "\xfa");
    key(&pc, "b", true);
    key(&pc, "b", true);
    key(&pc, "b", false);
    expect_keys(&pc, "\x32");
}

static void test_queue_overrun_is_one_code_and_recovers(void **state)
{
    struct pc pc;
    int byte = 0, count = 0;

    set_up(&pc);
    raw_mode(&pc);
    for (int i = 0; i < 200; i++)
        key(&pc, "a", true);
    while ((byte = next_byte(&pc, false)) == 0x1c)
        count++;
    assert_int_equal(count, PS2_DATA_BYTES - 1);
    assert_int_equal(byte, 0);
    expect_keys(&pc, "");
    key(&pc, "a", false);
    expect_keys(&pc, "\xf0\x1c");
}

static void test_byte_is_stable_while_it_is_read_and_interrupts_each(void **state)
{
    struct pc pc;

    set_up(&pc);
    key(&pc, "a", true);
    key(&pc, "a", false);
    bench_run(&pc.bench, MILLISECOND);
    assert_true(pc.irq1.level);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x1e);
    assert_false(pc.irq1.level);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x1e);
    bench_run(&pc.bench, MILLISECOND);
    assert_int_equal(pc.irq1.rises, 2);
    assert_int_equal(i8042_read_data(&pc.kbc), 0x9e);
    /* A keyboard that is switched off keeps its bytes. */
    command(&pc, 0xad);
    key(&pc, "b", true);
    bench_run(&pc.bench, MILLISECOND);
    assert_int_equal(i8042_read_status(&pc.kbc) & 1, 0);
    command(&pc, 0xae);
    expect_keys(&pc, "\x30");
}

static void test_every_key_name_survives_a_trip_through_set_2(void **state)
{
    struct ps2_keyboard keyboard;
    unsigned n;

    assert_int_equal(ps2_key_number("no such key"), -1);
    assert_null(ps2_key_name(1000));
    for (n = 0; ps2_key_name(n); n++) {
        struct ps2_key_event events[8];
        struct pc pc;
        u8 codes[16];
        unsigned len = 0;

        assert_int_equal(ps2_key_number(ps2_key_name(n)), n);
        set_up(&pc);
        keyboard = pc.kbc.keyboard;
        ps2_keyboard_key(&keyboard, n, true);
        ps2_keyboard_key(&keyboard, n, false);
        while (ps2_port_has_data(&keyboard.port))
            codes[len++] = ps2_port_take(&keyboard.port);
        assert_int_equal(ps2_keys_of_set2(codes, len, events, 8), 2);
        assert_int_equal(events[0].key, n);
        assert_true(events[0].down);
        assert_int_equal(events[1].key, n);
        assert_false(events[1].down);
    }
    assert_true(n > 100);
}

static void test_mouse_commands(void **state)
{
    struct pc pc;

    set_up(&pc);
    to_mouse(&pc, 0xff);
    expect_mouse(&pc, "\xfa\xaa\x00");
    to_mouse(&pc, 0xe9);
    expect_mouse(&pc, "\xfa\x00\x02\x64");
    to_mouse(&pc, 0xe8);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0x03);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xf3);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 200);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xe7);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xf4);
    expect_mouse(&pc, "\xfa");
    ps2_mouse_move(&pc.kbc.mouse, 0, 0, 0, PS2_BUTTON_RIGHT);
    to_mouse(&pc, 0xe9);
    for (int i = 0; i < 4; i++) /* the answer goes before the packet of the click */
        assert_int_equal(next_byte(&pc, true), (u8) "\xfa\x31\x03\xc8"[i]);
    expect_mouse(&pc, "\x0a\x00\x00");
    to_mouse(&pc, 0xf6);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xe9);
    expect_mouse(&pc, "\xfa\x01\x02\x64");
    to_mouse(&pc, 0xf2);
    expect_mouse(&pc, "\xfa\x00");
    to_mouse(&pc, 0xee);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xf2);
    expect_mouse(&pc, "\xf2"); /* wrap */
    to_mouse(&pc, 0xec);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0x77);
    expect_mouse(&pc, "\xfe");
}

static void set_rate(struct pc *pc, u8 rate)
{
    to_mouse(pc, 0xf3);
    assert_int_equal(next_byte(pc, true), ACK);
    to_mouse(pc, rate);
    assert_int_equal(next_byte(pc, true), ACK);
}

static void test_mouse_packets_with_and_without_wheel(void **state)
{
    struct pc pc;

    set_up(&pc);
    to_mouse(&pc, 0xf4);
    expect_mouse(&pc, "\xfa");
    assert_true(pc.irq12.rises > 0);
    ps2_mouse_move(&pc.kbc.mouse, 3, 5, 9, PS2_BUTTON_LEFT);
    expect_mouse(&pc, "\x29\x03\xfb");
    ps2_mouse_move(&pc.kbc.mouse, -1, 0, 0, 0);
    expect_mouse(&pc, "\x18\xff\x00");
    bench_run(&pc.bench, 20 * MILLISECOND);
    /* More than a packet holds comes in several. */
    ps2_mouse_move(&pc.kbc.mouse, 600, 0, 0, 0);
    expect_mouse(&pc, "\x08\xff\x00");
    bench_run(&pc.bench, 10 * MILLISECOND);
    expect_mouse(&pc, "\x08\xff\x00");
    bench_run(&pc.bench, 10 * MILLISECOND);
    expect_mouse(&pc, "\x08\x5a\x00");
    set_rate(&pc, 200);
    set_rate(&pc, 100);
    set_rate(&pc, 80);
    to_mouse(&pc, 0xf2);
    expect_mouse(&pc, "\xfa\x03");
    bench_run(&pc.bench, 100 * MILLISECOND);
    ps2_mouse_move(&pc.kbc.mouse, 0, 0, -1, 0);
    expect_mouse(&pc, "\x08\x00\x00\xff");
    set_rate(&pc, 200);
    set_rate(&pc, 200);
    set_rate(&pc, 80);
    to_mouse(&pc, 0xf2);
    expect_mouse(&pc, "\xfa\x04");
    bench_run(&pc.bench, 100 * MILLISECOND);
    ps2_mouse_move(&pc.kbc.mouse, 0, 0, 1, PS2_BUTTON_SIDE | PS2_BUTTON_EXTRA);
    expect_mouse(&pc, "\x08\x00\x00\x31");
}

static void test_mouse_merges_movement_and_keeps_clicks_apart(void **state)
{
    struct pc pc;

    set_up(&pc);
    to_mouse(&pc, 0xf4);
    expect_mouse(&pc, "\xfa");
    for (int i = 0; i < 10; i++)
        ps2_mouse_move(&pc.kbc.mouse, 1, 0, 0, 0);
    expect_mouse(&pc, "\x08\x01\x00");
    bench_run(&pc.bench, 10 * MILLISECOND);
    expect_mouse(&pc, "\x08\x09\x00");
    for (int i = 0; i < 4; i++)
        ps2_mouse_move(&pc.kbc.mouse, 0, 0, 0, i & 1 ? 0 : PS2_BUTTON_LEFT);
    expect_mouse(&pc, "\x09\x00\x00\x08\x00\x00\x09\x00\x00\x08\x00\x00");
    to_mouse(&pc, 0xf0); /* remote mode: only on demand */
    expect_mouse(&pc, "\xfa");
    ps2_mouse_move(&pc.kbc.mouse, 7, 0, 0, 0);
    expect_mouse(&pc, "");
    to_mouse(&pc, 0xeb);
    expect_mouse(&pc, "\xfa\x08\x07\x00");
    to_mouse(&pc, 0xeb);
    expect_mouse(&pc, "\xfa\x08\x00\x00");
    to_mouse(&pc, 0xea);
    expect_mouse(&pc, "\xfa");
    to_mouse(&pc, 0xe7); /* 2:1 */
    expect_mouse(&pc, "\xfa");
    bench_run(&pc.bench, 20 * MILLISECOND);
    ps2_mouse_move(&pc.kbc.mouse, 4, -5, 0, 0);
    expect_mouse(&pc, "\x08\x06\x09");
    bench_run(&pc.bench, 20 * MILLISECOND);
    ps2_mouse_move(&pc.kbc.mouse, -20, 0, 0, 0);
    expect_mouse(&pc, "\x18\xd8\x00");
}

static void test_port92(void **state)
{
    struct watched_line a20 = {0}, reset = {0};
    struct port92 port, other;

    port92_init(&port, watch_line(&a20), watch_line(&reset));
    assert_true(a20.level);
    assert_int_equal(port92_read(&port), 2);
    port92_write(&port, 0);
    assert_false(a20.level);
    port92_write(&port, 1);
    assert_int_equal(reset.rises, 1);
    port92_write(&port, 3); /* no new edge */
    assert_int_equal(reset.rises, 1);
    assert_int_equal(port92_read(&port), 3);
    port92_set_a20(&port, false); /* the i8042 */
    assert_int_equal(port92_read(&port), 1);
    port92_init(&other, watch_line(&a20), watch_line(&reset));
    assert_state_round_trip(&port92_state, &port, &other);
    assert_false(a20.level);
}

static void test_state_round_trip(void **state)
{
    struct pc from, to;

    set_up(&from);
    key(&from, "up", true);
    to_mouse(&from, 0xf4);
    bench_run(&from.bench, MILLISECOND);
    ps2_mouse_move(&from.kbc.mouse, 600, 0, 0, PS2_BUTTON_LEFT);
    command(&from, 0xd4);
    set_up(&to);
    clock_advance(&to.bench.clock, clock_now(&from.bench.clock));
    assert_state_round_trip(&i8042_state, &from.kbc, &to.kbc);
    i8042_write_data(&to.kbc, 0xf2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(next_byte(&to, false), (u8) "\xe0\x48"[i]);
    for (int i = 0; i < 5; i++)
        assert_int_equal(next_byte(&to, true), (u8) "\xfa\x00\x09\xff\x00"[i]);
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    return offset & 1 ? i8042_read_status(opaque) : i8042_read_data(opaque);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct i8042 *kbc = opaque;

    switch (offset) {
    case 0: i8042_write_data(kbc, (u8)value); break;
    case 1: i8042_write_command(kbc, (u8)value); break;
    case 2: ps2_keyboard_key(&kbc->keyboard, value & 0xff, value & 0x100); break;
    case 3:
        ps2_mouse_move(&kbc->mouse, (int)value, (int)(value >> 16), (int)(value >> 32), (u8)(value >> 8));
        break;
    case 4: i8042_write_command(kbc, 0xd4); break;
    }
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    struct pc pc;
    u64 seed = 5;

    for (int i = 0; i < 50; i++) {
        set_up(&pc);
        hammer(&pc.bench, &ops, &pc.kbc, 5, &seed, 1000);
        load_damaged_state(&i8042_state, &pc.kbc, &seed, 20);
        hammer(&pc.bench, &ops, &pc.kbc, 5, &seed, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self_tests_and_ram),
        cmocka_unit_test(test_output_port_drives_a20_and_reset),
        cmocka_unit_test(test_loop_commands_and_their_interrupts),
        cmocka_unit_test(test_scan_codes_in_all_sets),
        cmocka_unit_test(test_modified_print_and_pause),
        cmocka_unit_test(test_keyboard_commands),
        cmocka_unit_test(test_set_3_key_kinds),
        cmocka_unit_test(test_queue_overrun_is_one_code_and_recovers),
        cmocka_unit_test(test_byte_is_stable_while_it_is_read_and_interrupts_each),
        cmocka_unit_test(test_every_key_name_survives_a_trip_through_set_2),
        cmocka_unit_test(test_mouse_commands),
        cmocka_unit_test(test_mouse_packets_with_and_without_wheel),
        cmocka_unit_test(test_mouse_merges_movement_and_keeps_clicks_apart),
        cmocka_unit_test(test_port92),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
