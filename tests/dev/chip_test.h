/*
 * What the unit tests of chips share: a manual clock with a timer queue, an interrupt line that is watched, a round trip
 * through the state table, and random register accesses.
 */
#ifndef TESTS_CHIP_TEST_H
#define TESTS_CHIP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "machine/clock.h"
#include "machine/io.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

/* The world around a chip. */
struct bench {
    struct clock clock;
    struct timer_queue timers;
};

static inline void bench_init(struct bench *bench)
{
    clock_init(&bench->clock, CLOCK_MANUAL, 1000000000);
    timer_queue_init(&bench->timers, &bench->clock);
}

/* Move time to `ns`, running each timer at its own instant as the deterministic clock does. */
static inline void bench_run_to(struct bench *bench, u64 ns)
{
    while (timer_queue_deadline(&bench->timers) <= ns) {
        u64 deadline = timer_queue_deadline(&bench->timers), now = clock_now(&bench->clock);

        if (deadline > now)
            clock_advance(&bench->clock, deadline - now);
        timer_queue_run(&bench->timers, clock_now(&bench->clock));
    }
    clock_advance(&bench->clock, ns - clock_now(&bench->clock));
}

static inline void bench_run(struct bench *bench, u64 ns)
{
    bench_run_to(bench, clock_now(&bench->clock) + ns);
}

/* An interrupt line that remembers. */
struct watched_line {
    bool level;
    unsigned rises;
};

static inline void watched_line_set(void *opaque, unsigned n, bool level)
{
    struct watched_line *line = opaque;

    line->rises += level && !line->level;
    line->level = level;
}

static inline struct irq_line watch_line(struct watched_line *line)
{
    return (struct irq_line){watched_line_set, line, 0};
}

/* Save `from`, load the stream into `to` (a chip that was made in the same way), and require that `to` saves alike. */
static inline void assert_state_round_trip(const struct state_table *table, const void *from, void *to)
{
    struct state_buf first = {0}, second = {0};
    struct state_reader reader;
    struct error err = {0};

    state_save(table, from, &first);
    reader = (struct state_reader){.data = first.data, .len = first.len, .what = "test"};
    assert_int_equal(state_load(table, to, &reader, &err), 0);
    assert_string_equal(err.text, "");
    state_save(table, to, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    state_buf_free(&first);
    state_buf_free(&second);
}

/* Saves `chip`, and loads the stream into `chip` itself with single bytes changed at random: it is taken or refused, and
   leaves a chip that can go on. */
static inline void load_damaged_state(const struct state_table *table, void *chip, u64 *seed,
                                      unsigned rounds);

/* xorshift64*: the same numbers in every run. */
static inline u64 random_u64(u64 *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * UINT64_C(2685821657736338717);
}

static inline void load_damaged_state(const struct state_table *table, void *chip, u64 *seed, unsigned rounds)
{
    struct state_buf saved = {0};

    state_save(table, chip, &saved);
    for (unsigned i = 0; i < rounds; i++) {
        struct state_reader reader = {.data = saved.data, .len = saved.len, .what = "test"};
        size_t at = random_u64(seed) % saved.len;
        u8 old = saved.data[at];
        struct error err = {0};

        saved.data[at] = (u8)random_u64(seed);
        if (state_load(table, chip, &reader, &err))
            assert_string_not_equal(err.text, "");
        saved.data[at] = old;
    }
    state_buf_free(&saved);
}

/*
 * A guest that hammers: `steps` accesses of random offset in [0, size), width and value through `ops`, time moving on by
 * random amounts of up to 2^28 ns. What is looked for is crashes, sanitizer reports and hangs.
 */
static inline void hammer(struct bench *bench, const struct io_ops *ops, void *opaque, u64 size, u64 *seed,
                          unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        unsigned width = 1u << random_u64(seed) % 4;
        u64 offset = random_u64(seed) % size, value = random_u64(seed);
        unsigned magnitude = (unsigned)(random_u64(seed) % 28);

        if (random_u64(seed) % 4 == 0)
            value &= 0xff;
        if (offset + width > size)
            width = 1;
        if (random_u64(seed) & 1)
            io_ops_write(ops, opaque, offset, width, value);
        else
            io_ops_read(ops, opaque, offset, width);
        clock_advance(&bench->clock, random_u64(seed) >> (63 - magnitude));
        timer_queue_run(&bench->timers, clock_now(&bench->clock));
    }
}

#endif
