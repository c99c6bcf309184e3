#include "chip_test.h"
#include "dev/mc146818.h"

#include <stdio.h>
#include <time.h>

enum { A = 0x0a, B = 0x0b, C = 0x0c, D = 0x0d };
#define SECOND UINT64_C(1000000000)
#define START  INT64_C(951782399) /* 2000-02-28 23:59:59, a Monday, before a leap day */

struct rtc {
    struct bench bench;
    struct watched_line irq;
    struct mc146818 chip;
};

static void set_up(struct rtc *rtc, i64 start)
{
    *rtc = (struct rtc){0};
    bench_init(&rtc->bench);
    mc146818_init(&rtc->chip, &rtc->bench.timers, watch_line(&rtc->irq), start);
}

static u8 rd(struct rtc *rtc, u8 reg)
{
    mc146818_write(&rtc->chip, 0, reg);
    return mc146818_read(&rtc->chip, 1);
}

static void wr(struct rtc *rtc, u8 reg, u8 value)
{
    mc146818_write(&rtc->chip, 0, reg);
    mc146818_write(&rtc->chip, 1, value);
}

/* Century to second and the day of the week, as the bytes are. */
static const char *shown(struct rtc *rtc)
{
    static char text[40];

    snprintf(text, sizeof(text), "%02x%02x-%02x-%02x %02x:%02x:%02x %x", rd(rtc, 0x32), rd(rtc, 9),
             rd(rtc, 8), rd(rtc, 7), rd(rtc, 4), rd(rtc, 2), rd(rtc, 0), rd(rtc, 6));
    return text;
}

static void set_date(struct rtc *rtc, u8 century, u8 year, u8 month, u8 day, u8 hour, u8 minute, u8 second)
{
    wr(rtc, B, rd(rtc, B) | 0x80);
    wr(rtc, 0x32, century);
    wr(rtc, 9, year);
    wr(rtc, 8, month);
    wr(rtc, 7, day);
    wr(rtc, 4, hour);
    wr(rtc, 2, minute);
    wr(rtc, 0, second);
    wr(rtc, B, rd(rtc, B) & 0x7f);
}

static void test_starts_at_the_given_date_and_counts(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    assert_string_equal(shown(&rtc), "2000-02-28 23:59:59 2");
    bench_run(&rtc.bench, SECOND - 1);
    assert_string_equal(shown(&rtc), "2000-02-28 23:59:59 2");
    bench_run(&rtc.bench, 1);
    assert_string_equal(shown(&rtc), "2000-02-29 00:00:00 3");
    bench_run(&rtc.bench, 86400 * SECOND);
    assert_string_equal(shown(&rtc), "2000-03-01 00:00:00 4");
    assert_int_equal(rd(&rtc, D), 0x80);
}

/* Every day from 1900 on, against the C library. */
static void test_calendar_agrees_with_the_c_library(void **state)
{
    struct rtc rtc;

    for (i64 day = -25567; day < 84000; day += 13) {
        time_t seconds = (time_t)(day * 86400 + (day * 7919 % 86400 + 86400) % 86400);
        struct tm tm;
        char text[40];

        gmtime_r(&seconds, &tm);
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S ", &tm);
        snprintf(text + strlen(text), 16, "%d", tm.tm_wday + 1);
        set_up(&rtc, seconds);
        assert_string_equal(shown(&rtc), text);
    }
}

static void test_formats(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    wr(&rtc, B, 0x06); /* binary, 24 hours */
    assert_string_equal(shown(&rtc), "1400-02-1c 17:3b:3b 2");
    wr(&rtc, B, 0x04); /* binary, 12 hours */
    assert_int_equal(rd(&rtc, 4), 0x8b);
    wr(&rtc, B, 0x00); /* BCD, 12 hours */
    assert_int_equal(rd(&rtc, 4), 0x91);
    bench_run(&rtc.bench, SECOND);
    assert_int_equal(rd(&rtc, 4), 0x12); /* midnight is 12 AM */
    bench_run(&rtc.bench, 12 * 3600 * SECOND);
    assert_int_equal(rd(&rtc, 4), 0x92); /* noon is 12 PM */
}

static void test_setting_the_time(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    bench_run(&rtc.bench, SECOND / 4);
    set_date(&rtc, 0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58);
    assert_string_equal(shown(&rtc), "1999-12-31 23:59:58 2"); /* the weekday byte is the guest's */
    bench_run(&rtc.bench, SECOND - SECOND / 4);
    assert_string_equal(shown(&rtc), "1999-12-31 23:59:59 2"); /* the divider went on */
    bench_run(&rtc.bench, SECOND);
    assert_string_equal(shown(&rtc), "2000-01-01 00:00:00 3");
    wr(&rtc, 6, 7);
    bench_run(&rtc.bench, 86400 * SECOND);
    assert_string_equal(shown(&rtc), "2000-01-02 00:00:00 1");
    /* SET holds everything. */
    wr(&rtc, B, 0x82);
    bench_run(&rtc.bench, 100 * SECOND);
    assert_string_equal(shown(&rtc), "2000-01-02 00:00:00 1");
    assert_int_equal(rd(&rtc, A) & 0x80, 0);
    wr(&rtc, B, 0x02);
    bench_run(&rtc.bench, SECOND);
    assert_string_equal(shown(&rtc), "2000-01-02 00:00:01 1");
    wr(&rtc, 0, 0x30); /* a single byte, while it runs */
    assert_string_equal(shown(&rtc), "2000-01-02 00:00:30 1");
    set_date(&rtc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff); /* nonsense ends in some date */
    set_date(&rtc, 0x20, 0x24, 0x02, 0x30, 0x12, 0x00, 0x00);
    assert_memory_equal(shown(&rtc), "2024-03-01 12:00:00", 19);
}

static void test_divider_reset_starts_a_half_second_before_the_update(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    bench_run(&rtc.bench, 3 * SECOND / 10);
    wr(&rtc, A, 0x66);
    bench_run(&rtc.bench, 10 * SECOND);
    assert_string_equal(shown(&rtc), "2000-02-28 23:59:59 2");
    wr(&rtc, A, 0x26);
    bench_run(&rtc.bench, SECOND / 2 - 1);
    assert_string_equal(shown(&rtc), "2000-02-28 23:59:59 2");
    bench_run(&rtc.bench, 1);
    assert_string_equal(shown(&rtc), "2000-02-29 00:00:00 3");
}

static void test_update_in_progress_and_its_interrupt(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    wr(&rtc, B, 0x12);
    assert_int_equal(rd(&rtc, A), 0x26);
    bench_run_to(&rtc.bench, SECOND - 244000);
    assert_int_equal(rd(&rtc, A), 0xa6);
    assert_false(rtc.irq.level);
    bench_run_to(&rtc.bench, SECOND);
    assert_int_equal(rd(&rtc, A), 0x26);
    assert_true(rtc.irq.level);
    bench_run(&rtc.bench, 5 * SECOND);
    assert_int_equal(rtc.irq.rises, 1); /* nothing more until it is read */
    assert_int_equal(rd(&rtc, C) & 0x9f, 0x90);
    assert_false(rtc.irq.level);
    bench_run(&rtc.bench, SECOND);
    assert_int_equal(rtc.irq.rises, 2);
    wr(&rtc, B, 0x92); /* SET clears the enable */
    assert_int_equal(rd(&rtc, B), 0x82);
}

static void test_periodic_interrupt_at_every_rate(void **state)
{
    static const unsigned hz[16] = {0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2};
    struct rtc rtc;

    for (u8 rate = 0; rate < 16; rate++) {
        set_up(&rtc, START);
        wr(&rtc, A, 0x20 | rate);
        wr(&rtc, B, 0x42);
        for (u64 step = 0; step < 16384; step++) { /* two seconds */
            bench_run_to(&rtc.bench, ((step + 1) * 2 * SECOND + 16383) / 16384);
            if (rtc.irq.level)
                assert_int_equal(rd(&rtc, C) & 0xc0, 0xc0);
        }
        assert_int_equal(rtc.irq.rises, 2 * hz[rate]);
    }
}

static void test_alarm(void **state)
{
    static const struct {
        u8 hour, minute, second;
        u64 after; /* seconds from the start; then again after `period` */
        u64 period;
    } cases[] = {
        {0x00, 0x00, 0x00, 1, 86400},         {0x23, 0x59, 0x59, 86400, 86400}, {0xff, 0xff, 0xff, 1, 1},
        {0xff, 0xff, 0x30, 31, 60},           {0xc0, 0x15, 0x30, 931, 3600},    {0x12, 0xff, 0xff, 43201, 1},
        {0x07, 0x08, 0x09, 1 + 25689, 86400},
    };
    struct rtc rtc;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        set_up(&rtc, START);
        wr(&rtc, 1, cases[i].second);
        wr(&rtc, 3, cases[i].minute);
        wr(&rtc, 5, cases[i].hour);
        wr(&rtc, B, 0x22);
        bench_run_to(&rtc.bench, cases[i].after * SECOND - 1);
        assert_false(rtc.irq.level);
        bench_run(&rtc.bench, 1);
        assert_true(rtc.irq.level);
        assert_int_equal(rd(&rtc, C) & 0xa0, 0xa0);
        bench_run(&rtc.bench, cases[i].period * SECOND - 1);
        assert_false(rtc.irq.level);
        bench_run(&rtc.bench, 1);
        assert_true(rtc.irq.level);
    }
    /* An alarm that never matches. */
    set_up(&rtc, START);
    wr(&rtc, 5, 0x99);
    wr(&rtc, B, 0x22);
    assert_int_equal(timer_queue_deadline(&rtc.bench.timers), UINT64_MAX);
    /* 12-hour format: 1 PM. */
    wr(&rtc, 1, 0);
    wr(&rtc, 3, 0);
    wr(&rtc, 5, 0x81);
    wr(&rtc, B, 0x20);
    bench_run_to(&rtc.bench, (1 + 13 * 3600) * SECOND);
    assert_int_equal(rtc.irq.rises, 1);
}

static void test_flags_show_without_their_interrupts_and_without_timers(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    assert_int_equal(timer_queue_deadline(&rtc.bench.timers), UINT64_MAX);
    bench_run(&rtc.bench, SECOND - 1);
    assert_int_equal(rd(&rtc, C), 0x40);
    assert_int_equal(rd(&rtc, C), 0x00);
    bench_run(&rtc.bench, 1);
    assert_int_equal(rd(&rtc, C), 0x70); /* alarm bytes are 0, and it is midnight */
    assert_int_equal(rtc.irq.rises, 0);
    /* Enabling an interrupt whose flag stands raises the line. */
    bench_run(&rtc.bench, SECOND);
    wr(&rtc, B, 0x12);
    assert_true(rtc.irq.level);
}

static void test_reset_keeps_time_and_memory(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    wr(&rtc, 0x40, 0x55);
    wr(&rtc, B, 0x7a);
    bench_run(&rtc.bench, SECOND);
    assert_true(rtc.irq.level);
    mc146818_write(&rtc.chip, 0, 0x8b);
    assert_true(rtc.chip.nmi_disabled);
    mc146818_reset(&rtc.chip);
    assert_false(rtc.irq.level);
    assert_false(rtc.chip.nmi_disabled);
    assert_int_equal(rd(&rtc, B), 0x02);
    assert_int_equal(rd(&rtc, 0x40), 0x55);
    assert_string_equal(shown(&rtc), "2000-02-29 00:00:00 3");
}

static void test_memory_and_its_checksum(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    mc146818_write(&rtc.chip, 2, 0x12);
    mc146818_write(&rtc.chip, 3, 0x77);
    assert_int_equal(mc146818_read(&rtc.chip, 3), 0x77);
    assert_int_equal(rd(&rtc, 0x12), 0);
    assert_int_equal(mc146818_read(&rtc.chip, 0), 0xff);
    mc146818_set_cmos(&rtc.chip, 0x00, 0x44); /* not memory */
    assert_int_equal(rd(&rtc, 0x00), 0x59);
    mc146818_set_memory(&rtc.chip, MIB(512), GIB(5));
    assert_int_equal(rd(&rtc, 0x15) | rd(&rtc, 0x16) << 8, 640);
    assert_int_equal(rd(&rtc, 0x17) | rd(&rtc, 0x18) << 8, 0xffff);
    assert_int_equal(rd(&rtc, 0x34) | rd(&rtc, 0x35) << 8, (512 - 16) * 16);
    assert_int_equal(rd(&rtc, 0x5b) | rd(&rtc, 0x5c) << 8 | rd(&rtc, 0x5d) << 16, 5 * 16384);
    mc146818_set_checksum(&rtc.chip);
    assert_int_equal(rd(&rtc, 0x2e) << 8 | rd(&rtc, 0x2f), 0x80 + 0x02 + 0xff + 0xff);
    mc146818_set_memory(&rtc.chip, KIB(256), 0);
    assert_int_equal(rd(&rtc, 0x15) | rd(&rtc, 0x16) << 8, 256);
    assert_int_equal(rd(&rtc, 0x17) | rd(&rtc, 0x18) << 8 | rd(&rtc, 0x34) | rd(&rtc, 0x5b), 0);
}

static void test_hpet_takes_the_interrupt_over(void **state)
{
    struct rtc rtc;

    set_up(&rtc, START);
    wr(&rtc, B, 0x42);
    mc146818_enable_irq(&rtc.chip, false);
    bench_run(&rtc.bench, SECOND);
    assert_int_equal(rtc.irq.rises, 0);
    assert_int_equal(rd(&rtc, C) & 0xc0, 0xc0);
}

static void test_state_round_trip(void **state)
{
    struct rtc from, to;

    set_up(&from, START);
    set_date(&from, 0x19, 0x70, 0x01, 0x02, 0x03, 0x04, 0x05);
    wr(&from, B, 0x72);
    bench_run(&from.bench, SECOND / 3);
    set_up(&to, 12345);
    clock_advance(&to.bench.clock, clock_now(&from.bench.clock));
    assert_state_round_trip(&mc146818_state, &from.chip, &to.chip);
    for (int i = 0; i < 100; i++) {
        bench_run(&from.bench, SECOND / 7);
        bench_run(&to.bench, SECOND / 7);
        assert_int_equal(rd(&from, C), rd(&to, C));
        assert_int_equal(rd(&from, 0), rd(&to, 0));
    }
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    return mc146818_read(opaque, (unsigned)offset);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    if (offset == 0 && value & 0x100)
        value &= 0x8f; /* mostly registers */
    mc146818_write(opaque, (unsigned)offset, (u8)value);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    struct rtc rtc;
    u64 seed = 4;

    for (int i = 0; i < 50; i++) {
        set_up(&rtc, (i64)random_u64(&seed));
        hammer(&rtc.bench, &ops, &rtc.chip, 4, &seed, 1000);
        load_damaged_state(&mc146818_state, &rtc.chip, &seed, 20);
        hammer(&rtc.bench, &ops, &rtc.chip, 4, &seed, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_at_the_given_date_and_counts),
        cmocka_unit_test(test_calendar_agrees_with_the_c_library),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_setting_the_time),
        cmocka_unit_test(test_divider_reset_starts_a_half_second_before_the_update),
        cmocka_unit_test(test_update_in_progress_and_its_interrupt),
        cmocka_unit_test(test_periodic_interrupt_at_every_rate),
        cmocka_unit_test(test_alarm),
        cmocka_unit_test(test_flags_show_without_their_interrupts_and_without_timers),
        cmocka_unit_test(test_reset_keeps_time_and_memory),
        cmocka_unit_test(test_memory_and_its_checksum),
        cmocka_unit_test(test_hpet_takes_the_interrupt_over),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
