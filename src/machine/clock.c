#include "machine/clock.h"

#include <assert.h>
#include <time.h>

enum { NS_PER_SECOND = 1000000000 };

static u64 host_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * NS_PER_SECOND + (u64)now.tv_nsec;
}

void clock_init(struct clock *clock, enum clock_driver driver, u64 tsc_hz)
{
    *clock = (struct clock){.driver = (u8)driver, .tsc_hz = tsc_hz};
}

u64 clock_now(const struct clock *clock)
{
    u64 now = __atomic_load_n(&clock->now_ns, __ATOMIC_RELAXED);

    if (clock->driver == CLOCK_HOST && clock->running)
        now += host_ns() - clock->host_base_ns;
    return now;
}

u64 clock_tsc(const struct clock *clock, u64 ns)
{
    /* Seconds and the rest apart, which a division of 64 bits can do up to 18 GHz. */
    if (likely(clock->tsc_hz <= UINT64_MAX / NS_PER_SECOND))
        return ns / NS_PER_SECOND * clock->tsc_hz + ns % NS_PER_SECOND * clock->tsc_hz / NS_PER_SECOND;
    return (u64)((u128)ns * clock->tsc_hz / NS_PER_SECOND);
}

u64 clock_tsc_to_ns(const struct clock *clock, u64 ticks)
{
    u128 ns = ((u128)ticks * NS_PER_SECOND + clock->tsc_hz - 1) / clock->tsc_hz;

    return ns > UINT64_MAX ? UINT64_MAX : (u64)ns;
}

u64 clock_host_deadline(const struct clock *clock, u64 ns)
{
    u64 wait;

    if (clock->driver != CLOCK_HOST || !clock->running)
        return UINT64_MAX;
    wait = ns > clock->now_ns ? ns - clock->now_ns : 0;
    return wait > UINT64_MAX - clock->host_base_ns ? UINT64_MAX : clock->host_base_ns + wait;
}

void clock_start(struct clock *clock)
{
    if (clock->running)
        return;
    clock->host_base_ns = host_ns();
    clock->running = true;
}

void clock_stop(struct clock *clock)
{
    u64 now = clock_now(clock);

    clock->running = false;
    __atomic_store_n(&clock->now_ns, now, __ATOMIC_RELAXED);
}

void clock_advance(struct clock *clock, u64 ns)
{
    assert(clock->driver != CLOCK_HOST);
    __atomic_store_n(&clock->now_ns, clock->now_ns + ns, __ATOMIC_RELAXED);
}

static int clock_post_load(void *object, struct error *err)
{
    struct clock *clock = object;

    if (clock->driver > CLOCK_MANUAL)
        return error_set(err, "unknown clock driver %u", clock->driver);
    /* Bounds under which no product of the device models overflows: 292 years, 1 kHz to 1 THz. */
    if (clock->now_ns > INT64_MAX)
        return error_set(err, "the time is out of range");
    if (clock->tsc_hz < 1000 || clock->tsc_hz > 1000000000000)
        return error_set(err, "a TSC of %llu Hz", (unsigned long long)clock->tsc_hz);
    return 0;
}

static const struct state_field clock_fields[] = {
    STATE_FIELD(struct clock, now_ns, STATE_U64, 1),
    STATE_FIELD(struct clock, tsc_hz, STATE_U64, 1),
    STATE_FIELD(struct clock, driver, STATE_U8, 1),
    STATE_END,
};
const struct state_table clock_state_table = {.name = "clock",
                                              .version = 1,
                                              .size = sizeof(struct clock),
                                              .fields = clock_fields,
                                              .post_load = clock_post_load};
