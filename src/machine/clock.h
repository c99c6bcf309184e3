/*
 * Virtual time (invariant 3). Devices see nanoseconds since the VM was created, from one of two drivers: host time (which
 * stands still while the VM is paused) or the count of retired instructions (deterministic). No device reads the host
 * clock.
 */
#ifndef MACHINE_CLOCK_H
#define MACHINE_CLOCK_H

#include "base/types.h"
#include "state/state.h"

enum clock_driver {
    CLOCK_HOST,   /* host CLOCK_MONOTONIC less the time spent paused */
    CLOCK_ICOUNT, /* moved by clock_advance alone: one instruction is CLOCK_NS_PER_INSN */
    CLOCK_MANUAL, /* moved by clock_advance alone: unit tests of chips */
};
enum { CLOCK_NS_PER_INSN = 1 };

struct clock {
    u64 now_ns;       /* running host clock: the value at `host_base`; otherwise the time itself */
    u64 tsc_hz;       /* frequency of the guest's TSC; belongs to the VM, not to the host (invariant 1) */
    u8 driver;        /* enum clock_driver */
    bool running;     // not saved: a restored VM starts paused
    u64 host_base_ns; // not saved: host CLOCK_MONOTONIC at the last start
};
extern const struct state_table clock_state_table;

void clock_init(struct clock *clock, enum clock_driver driver, u64 tsc_hz);

/* Nanoseconds since the VM began. Any thread; lock-free. */
u64 clock_now(const struct clock *clock);

/* The TSC ticks that correspond to a time, before the vCPU's offset. */
u64 clock_tsc(const struct clock *clock, u64 ns);

/* The first time at which the TSC, before the vCPU's offset, has counted `ticks`; UINT64_MAX when that is centuries away. */
u64 clock_tsc_to_ns(const struct clock *clock, u64 ticks);

/* The host's CLOCK_MONOTONIC, in ns, at which a running host clock will show `ns`; UINT64_MAX: never. */
u64 clock_host_deadline(const struct clock *clock, u64 ns);

/* Let host time run, or stand still. No effect on the other drivers. With the VM parked only. */
void clock_start(struct clock *clock);
void clock_stop(struct clock *clock);

/* Move an icount or manual clock. The thread that runs the vCPUs only. */
void clock_advance(struct clock *clock, u64 ns);

#endif
