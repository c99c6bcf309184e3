#include "chip_test.h"
#include "dev/hpet.h"

enum { CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, ENABLE = 1, LEGACY = 2 };
enum { INT_LEVEL = 2, INT_ENABLE = 4, PERIODIC = 8, SET = 0x40, BITS_32 = 0x100, GSI_SHIFT = 9 };

struct fixture {
    struct bench bench;
    struct watched_line lines[HPET_COMPARATORS][HPET_GSIS], legacy[2], mode;
    struct hpet chip;
};

static void set_up(struct fixture *f)
{
    struct hpet_wiring wiring = {.legacy = {watch_line(&f->legacy[0]), watch_line(&f->legacy[1])},
                                 .legacy_mode = watch_line(&f->mode)};

    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        for (unsigned j = 0; j < HPET_GSIS; j++)
            wiring.gsi[i][j] = watch_line(&f->lines[i][j]);
    *f = (struct fixture){0};
    bench_init(&f->bench);
    hpet_init(&f->chip, &f->bench.timers, &wiring);
}

static void wr(struct fixture *f, u64 reg, u64 value)
{
    hpet_write(&f->chip, reg, 8, value);
}
static u64 rd(struct fixture *f, u64 reg)
{
    return hpet_read(&f->chip, reg, 8);
}
/* Edges on a GSI, and its level: it has a source in each comparator. */
static unsigned rises(const struct fixture *f, unsigned gsi)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        sum += f->lines[i][gsi - HPET_FIRST_GSI].rises;
    return sum;
}

static bool level(const struct fixture *f, unsigned gsi)
{
    bool any = false;

    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        any |= f->lines[i][gsi - HPET_FIRST_GSI].level;
    return any;
}

static u64 timer_config(unsigned n)
{
    return 0x100 + 0x20 * n;
}
static u64 comparator(unsigned n)
{
    return 0x108 + 0x20 * n;
}

static void test_registers_after_reset(void **state)
{
    struct fixture f;

    set_up(&f);
    assert_int_equal(rd(&f, 0), UINT64_C(10000000) << 32 | 0x8086a201);
    assert_int_equal(hpet_read(&f.chip, 4, 4), 10000000);
    assert_int_equal(rd(&f, timer_config(0)), (u64)HPET_ROUTES << 32 | 0x30);
    assert_int_equal(rd(&f, comparator(2)), UINT64_MAX);
    assert_int_equal(rd(&f, timer_config(3)), 0); /* there is none */
    wr(&f, 0, 0);
    wr(&f, timer_config(1), UINT64_MAX);
    assert_int_equal(rd(&f, timer_config(1)), (u64)HPET_ROUTES << 32 | 0x3f3e);
    assert_int_equal(hpet_read(&f.chip, 0x13, 4), UINT64_MAX);
    assert_int_equal(hpet_read(&f.chip, 0x3fc, 8), UINT64_MAX);
}

static void test_counter_runs_while_enabled(void **state)
{
    struct fixture f;

    set_up(&f);
    bench_run(&f.bench, 1000);
    assert_int_equal(rd(&f, COUNTER), 0);
    wr(&f, COUNTER, 0x1fffffff0);
    wr(&f, CONFIG, ENABLE);
    bench_run(&f.bench, 159);
    assert_int_equal(rd(&f, COUNTER), 0x1ffffffff);
    bench_run(&f.bench, 1);
    assert_int_equal(rd(&f, COUNTER), 0x200000000);
    assert_int_equal(hpet_read(&f.chip, COUNTER + 4, 4), 2);
    wr(&f, CONFIG, 0);
    bench_run(&f.bench, 1000);
    assert_int_equal(rd(&f, COUNTER), 0x200000000);
    hpet_write(&f.chip, COUNTER, 4, 7);
    hpet_write(&f.chip, COUNTER + 4, 4, 0);
    assert_int_equal(rd(&f, COUNTER), 7);
}

static void test_one_shot_edge_and_level(void **state)
{
    struct fixture f;

    set_up(&f);
    wr(&f, timer_config(2), INT_ENABLE | 20 << GSI_SHIFT);
    wr(&f, comparator(2), 100);
    wr(&f, CONFIG, ENABLE);
    bench_run(&f.bench, 999);
    assert_int_equal(rises(&f, 20), 0);
    bench_run(&f.bench, 1);
    assert_int_equal(rises(&f, 20), 1);
    assert_false(level(&f, 20));
    assert_int_equal(rd(&f, STATUS), 0);
    bench_run(&f.bench, UINT64_C(100000000000));
    assert_int_equal(rises(&f, 20), 1); /* 64 bits do not wrap */

    wr(&f, timer_config(1), INT_ENABLE | INT_LEVEL | 21 << GSI_SHIFT);
    wr(&f, comparator(1), rd(&f, COUNTER) + 10);
    bench_run(&f.bench, 100);
    assert_true(level(&f, 21));
    assert_int_equal(rd(&f, STATUS), 2);
    wr(&f, STATUS, 1);
    assert_true(level(&f, 21));
    wr(&f, STATUS, 2);
    assert_false(level(&f, 21));
    /* A disabled interrupt shows in the status alone, and on the line once it is enabled. */
    wr(&f, timer_config(1), INT_LEVEL | 22 << GSI_SHIFT);
    wr(&f, comparator(1), rd(&f, COUNTER) + 10);
    bench_run(&f.bench, 100);
    assert_int_equal(rd(&f, STATUS), 2);
    assert_false(level(&f, 22));
    wr(&f, timer_config(1), INT_ENABLE | INT_LEVEL | 22 << GSI_SHIFT);
    assert_true(level(&f, 22));
    wr(&f, timer_config(1), INT_ENABLE | INT_LEVEL | 5 << GSI_SHIFT); /* a route that is not offered */
    assert_false(level(&f, 22));
}

static void test_32_bit_comparator_wraps(void **state)
{
    struct fixture f;

    set_up(&f);
    wr(&f, timer_config(0), INT_ENABLE | BITS_32 | 20 << GSI_SHIFT);
    wr(&f, COUNTER, 100);
    wr(&f, comparator(0), UINT64_C(0x700000000) | 50);
    assert_int_equal(rd(&f, comparator(0)), 50);
    wr(&f, CONFIG, ENABLE);
    bench_run(&f.bench, ((UINT64_C(1) << 32) - 50) * 10 - 1);
    assert_int_equal(rises(&f, 20), 0);
    bench_run(&f.bench, 1);
    assert_int_equal(rises(&f, 20), 1);
    bench_run(&f.bench, (UINT64_C(1) << 32) * 10);
    assert_int_equal(rises(&f, 20), 2);
}

/* The order of writes of the specification (2.3.9.2.2) and of Linux. */
static void test_periodic(void **state)
{
    struct fixture f;

    set_up(&f);
    wr(&f, CONFIG, ENABLE);
    bench_run(&f.bench, 5000);
    wr(&f, timer_config(0), INT_ENABLE | PERIODIC | SET | BITS_32 | 20 << GSI_SHIFT);
    hpet_write(&f.chip, comparator(0), 4, 1500);
    hpet_write(&f.chip, comparator(0), 4, 1000);
    bench_run_to(&f.bench, 14999);
    assert_int_equal(rises(&f, 20), 0);
    bench_run_to(&f.bench, 15000);
    assert_int_equal(rises(&f, 20), 1);
    assert_int_equal(rd(&f, comparator(0)), 2500);
    bench_run_to(&f.bench, 15000 + 10000 * 100);
    assert_int_equal(rises(&f, 20), 101);
    /* What a late host missed becomes one. */
    clock_advance(&f.bench.clock, 10000 * 50 + 5000);
    timer_queue_run(&f.bench.timers, clock_now(&f.bench.clock));
    assert_int_equal(rises(&f, 20), 102);
    assert_int_equal(rd(&f, comparator(0)), 2500 + 1000 * 150);
    /* A period of nothing interrupts once. */
    wr(&f, timer_config(0), INT_ENABLE | PERIODIC | SET | 20 << GSI_SHIFT);
    wr(&f, comparator(0), rd(&f, COUNTER) + 1);
    wr(&f, comparator(0), 0);
    bench_run(&f.bench, 1000000);
    assert_int_equal(rises(&f, 20), 103);
}

static void test_legacy_replacement(void **state)
{
    struct fixture f;

    set_up(&f);
    wr(&f, timer_config(0), INT_ENABLE | 20 << GSI_SHIFT);
    wr(&f, timer_config(1), INT_ENABLE | INT_LEVEL | 20 << GSI_SHIFT);
    wr(&f, timer_config(2), INT_ENABLE | 20 << GSI_SHIFT);
    for (unsigned i = 0; i < 3; i++)
        wr(&f, comparator(i), 10);
    wr(&f, CONFIG, ENABLE | LEGACY);
    assert_true(f.mode.level);
    bench_run(&f.bench, 100);
    assert_int_equal(f.legacy[0].rises, 1);
    assert_true(f.legacy[1].level);
    assert_int_equal(rises(&f, 20), 1); /* of comparator 2 */
    wr(&f, CONFIG, ENABLE);
    assert_false(f.mode.level);
    assert_false(f.legacy[1].level);
    assert_true(level(&f, 20));
    hpet_reset(&f.chip);
    assert_false(level(&f, 20));
    assert_int_equal(rd(&f, COUNTER), 0);
}

static void test_state_round_trip(void **state)
{
    struct fixture from, to;
    unsigned from_before;

    set_up(&from);
    wr(&from, timer_config(0), INT_ENABLE | PERIODIC | SET | 20 << GSI_SHIFT);
    wr(&from, comparator(0), 77);
    wr(&from, timer_config(1), INT_ENABLE | INT_LEVEL | 21 << GSI_SHIFT);
    wr(&from, comparator(1), 3);
    wr(&from, CONFIG, ENABLE);
    bench_run(&from.bench, 1003);
    set_up(&to);
    clock_advance(&to.bench.clock, clock_now(&from.bench.clock));
    assert_state_round_trip(&hpet_state, &from.chip, &to.chip);
    from_before = rises(&from, 20);
    bench_run(&from.bench, 10000);
    bench_run(&to.bench, 10000);
    assert_int_equal(rises(&to, 20), rises(&from, 20) - from_before);
    assert_int_equal(rd(&to, COUNTER), rd(&from, COUNTER));
    assert_int_equal(rd(&to, STATUS), 2);
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    return hpet_read(opaque, offset < 0x200 ? offset : offset & 0x1ff, size);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    hpet_write(opaque, offset < 0x200 ? offset : offset & 0x1ff, size, value);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 4, 8};
    struct fixture f;
    u64 seed = 6;

    for (int i = 0; i < 50; i++) {
        set_up(&f);
        wr(&f, CONFIG, ENABLE);
        hammer(&f.bench, &ops, &f.chip, HPET_BYTES, &seed, 2000);
        load_damaged_state(&hpet_state, &f.chip, &seed, 20);
        hammer(&f.bench, &ops, &f.chip, HPET_BYTES, &seed, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers_after_reset),
        cmocka_unit_test(test_counter_runs_while_enabled),
        cmocka_unit_test(test_one_shot_edge_and_level),
        cmocka_unit_test(test_32_bit_comparator_wraps),
        cmocka_unit_test(test_periodic),
        cmocka_unit_test(test_legacy_replacement),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
