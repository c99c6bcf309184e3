#include "dev/i8254.h"

#include "machine/io.h"
#include "machine/vm.h"

enum { /* control word */
       CW_BCD = 1 << 0,
       CW_MODE_SHIFT = 1,
       CW_ACCESS_SHIFT = 4,
       CW_COUNTER_SHIFT = 6,
       CW_READ_BACK = 3, /* counter number */
       ACCESS_LATCH = 0,
       ACCESS_LOW = 1,
       ACCESS_HIGH = 2,
       ACCESS_BOTH = 3,
       READ_BACK_NO_COUNT = 1 << 5,
       READ_BACK_NO_STATUS = 1 << 4,
       STATUS_OUT = 1 << 7,
       STATUS_NULL_COUNT = 1 << 6,
};
enum { /* port 61h */
       B_GATE2 = 1 << 0,
       B_WRITABLE = 0xf,
       B_REFRESH = 1 << 4,
       B_OUT2 = 1 << 5,
       REFRESH_NS = 15085, /* one refresh of DRAM each 18 ticks */
};

#define TICK_LIMIT (INT64_C(1) << 62) /* larger than any tick that a clock of 64-bit nanoseconds reaches */

static i64 ns_to_ticks(u64 ns)
{
    return (i64)((u128)ns * I8254_CLOCK_NUMERATOR / I8254_CLOCK_DENOMINATOR);
}

/* The first nanosecond that belongs to the tick; never, for ticks that the clock does not reach. */
static u64 ticks_to_ns(i64 ticks)
{
    u128 ns = ((u128)ticks * I8254_CLOCK_DENOMINATOR + I8254_CLOCK_NUMERATOR - 1) / I8254_CLOCK_NUMERATOR;

    return ns < UINT64_MAX ? (u64)ns : UINT64_MAX;
}

static i64 now_ticks(const struct i8254 *pit)
{
    return ns_to_ticks(timer_now(&pit->timer));
}

/* ---- One counter as a function of time ---- */

static i64 modulus(const struct i8254_counter *c)
{
    return c->bcd ? 10000 : 65536;
}

/* What the count register stands for; 0 is the largest count. */
static u32 reload_count(const struct i8254_counter *c)
{
    u32 n = c->reload;

    if (c->bcd)
        n = (n >> 12) * 1000 + (n >> 8 & 15) * 100 + (n >> 4 & 15) * 10 + (n & 15);
    return n ? n : (u32)modulus(c);
}

/* The data sheet forbids a count of 1 in modes 2 and 3. */
static u32 cycle(const struct i8254_counter *c)
{
    return c->period < 2 ? 2 : c->period;
}

static i64 high_half(u32 n)
{
    return (n + 1) / 2;
}

static bool is_periodic(const struct i8254_counter *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Ticks that were counted since the load. */
static i64 elapsed(const struct i8254_counter *c, i64 now)
{
    if (!c->counting)
        return c->held;
    return now > c->start ? now - c->start : 0;
}

/* Let a new count in modes 2 and 3 take effect where the old cycle (or half of a square wave) has ended. */
static void counter_sync(struct i8254_counter *c, i64 now)
{
    bool falling;

    if (!c->null_count || !c->counting || !is_periodic(c) || now < c->switch_tick)
        return;
    falling = (c->switch_tick - c->start) % cycle(c) != 0;
    c->period = reload_count(c);
    c->start = c->switch_tick - (falling ? high_half(cycle(c)) : 0);
    c->null_count = false;
}

static bool counter_out(const struct i8254_counter *c, i64 now)
{
    i64 e = elapsed(c, now);

    switch (c->mode) {
    case 0: return c->loaded && e >= c->period;
    case 1: return !c->counting || e >= c->period;
    case 2: return !c->counting || e % cycle(c) != cycle(c) - 1;
    case 3: return !c->counting || e % cycle(c) < high_half(cycle(c));
    case 4: return !c->loaded || e != c->period;
    default: return !c->counting || e != c->period;
    }
}

/* The tick at which OUT rises next, if nobody touches the counter. Also the tick at which a new count goes in. */
static i64 counter_next_edge(const struct i8254_counter *c, i64 now)
{
    i64 e = elapsed(c, now), n = c->period;

    if (!c->counting)
        return INT64_MAX;
    switch (c->mode) {
    case 0:
    case 1: return e < n ? c->start + n : INT64_MAX;
    case 2:
    case 3: n = cycle(c); return c->null_count ? c->switch_tick : c->start + (e / n + 1) * n;
    default: return e <= n ? c->start + n + 1 : INT64_MAX; /* OUT is low for the one tick after n */
    }
}

static u32 to_bcd(u32 n)
{
    return (n / 1000 % 10) << 12 | (n / 100 % 10) << 8 | (n / 10 % 10) << 4 | n % 10;
}

/* What reading the counting element gives, 16 bits. */
static u16 counter_value(const struct i8254_counter *c, i64 now)
{
    i64 e = elapsed(c, now), n = c->period, value;

    if (c->mode == 2) {
        n = cycle(c);
        value = n - e % n;
    } else if (c->mode == 3) { /* counts down by two, from an even number, twice a cycle */
        n = cycle(c);
        e %= n;
        if (e >= high_half((u32)n))
            e -= high_half((u32)n);
        value = (n & ~INT64_C(1)) - 2 * e;
    } else {
        value = (n - e) % modulus(c);
        if (value < 0)
            value += modulus(c);
    }
    return (u16)(c->bcd ? to_bcd((u32)value) : (u32)value);
}

/* Put the count register into the counting element at the next tick. */
static void counter_load(struct i8254_counter *c, i64 now)
{
    c->period = reload_count(c);
    c->start = now + 1;
    c->held = 0;
    c->null_count = false;
}

static void counter_write_count(struct i8254_counter *c, u16 value, i64 now)
{
    bool first = !c->loaded;

    c->reload = value;
    c->loaded = true;
    c->null_count = true;
    if (c->mode == 1 || c->mode == 5)
        return; /* at the next trigger */
    if (!is_periodic(c) || first) {
        counter_load(c, now);
        c->counting = c->gate;
    } else if (c->counting) {
        i64 n = cycle(c), e = elapsed(c, now), high = high_half((u32)n);

        c->switch_tick = c->start + e / n * n + (c->mode == 3 && e % n < high ? high : n);
    }
}

static void counter_set_gate(struct i8254_counter *c, bool level, i64 now)
{
    bool rising = level && !c->gate;

    if (level == c->gate)
        return;
    c->gate = level;
    if (!c->loaded)
        return;
    switch (c->mode) {
    case 0:
    case 4:
        if (!level)
            c->held = elapsed(c, now);
        else
            c->start = now - c->held;
        c->counting = level;
        break;
    case 1:
    case 5:
        if (rising) {
            counter_load(c, now);
            c->counting = true;
        }
        break;
    default:
        counter_load(c, now);
        c->counting = level;
        break;
    }
}

/* ---- Interrupt line of counter 0 ---- */

static void drive(struct i8254 *pit, bool level)
{
    irq_line_set(&pit->irq, level && pit->irq_enabled);
}

/* Deliver an edge that has been reached. Before every change of a counter, and when the timer fires. */
static void sync(struct i8254 *pit, i64 now)
{
    struct i8254_counter *c = &pit->counters[0];
    bool reached = now >= pit->next_edge;
    bool rises = reached && !(c->mode == 3 && c->null_count && (pit->next_edge - c->start) % cycle(c));

    for (unsigned i = 0; i < I8254_COUNTERS; i++)
        counter_sync(&pit->counters[i], now);
    if (rises) {
        drive(pit, false);
        drive(pit, true);
    }
}

/* After every change: the line is at OUT's level, and the timer stands at the next edge. */
static void update(struct i8254 *pit, i64 now)
{
    struct i8254_counter *c = &pit->counters[0];

    drive(pit, counter_out(c, now));
    pit->next_edge = counter_next_edge(c, now);
    if (pit->next_edge < INT64_MAX)
        timer_arm(&pit->timer, ticks_to_ns(pit->next_edge));
    else
        timer_disarm(&pit->timer);
}

static void timer_fired(void *opaque)
{
    struct i8254 *pit = opaque;
    i64 now = now_ticks(pit);

    sync(pit, now);
    update(pit, now);
}

/* ---- Registers ---- */

static void latch_count(struct i8254_counter *c, i64 now)
{
    if (c->latched)
        return;
    c->latch = counter_value(c, now);
    c->latched = true;
}

static void latch_status(struct i8254_counter *c, i64 now)
{
    if (c->status_latched)
        return;
    c->status = (u8)((counter_out(c, now) ? STATUS_OUT : 0) | (c->null_count ? STATUS_NULL_COUNT : 0) |
                     c->access << CW_ACCESS_SHIFT | c->mode << CW_MODE_SHIFT | (c->bcd ? CW_BCD : 0));
    c->status_latched = true;
}

static void write_control(struct i8254 *pit, u8 value, i64 now)
{
    unsigned number = value >> CW_COUNTER_SHIFT, access = value >> CW_ACCESS_SHIFT & 3;
    unsigned mode = value >> CW_MODE_SHIFT & 7;
    struct i8254_counter *c;

    if (number == CW_READ_BACK) {
        for (unsigned i = 0; i < I8254_COUNTERS; i++) {
            if (!(value & 2 << i))
                continue;
            if (!(value & READ_BACK_NO_COUNT))
                latch_count(&pit->counters[i], now);
            if (!(value & READ_BACK_NO_STATUS))
                latch_status(&pit->counters[i], now);
        }
        return;
    }
    c = &pit->counters[number];
    if (access == ACCESS_LATCH) {
        latch_count(c, now);
        return;
    }
    *c = (struct i8254_counter){
        .mode = (u8)(mode > 5 ? mode - 4 : mode), /* 6 and 7 are 2 and 3 */
        .access = (u8)access,
        .bcd = value & CW_BCD,
        .gate = c->gate,
        .null_count = true,
        .reload = c->reload,
        .period = c->period,
    };
}

static void write_counter(struct i8254_counter *c, u8 value, i64 now)
{
    switch (c->access) {
    case ACCESS_LOW: counter_write_count(c, value, now); break;
    case ACCESS_HIGH: counter_write_count(c, (u16)(value << 8), now); break;
    default:
        if (c->write_high) {
            counter_write_count(c, (u16)(value << 8 | c->write_low), now);
        } else {
            c->write_low = value;
            if (c->mode == 0) { /* the first byte stops the count and takes OUT low */
                c->loaded = c->counting = false;
                c->held = 0;
            }
        }
        c->write_high = !c->write_high;
        break;
    }
}

void i8254_write(struct i8254 *pit, unsigned offset, u8 value)
{
    i64 now = now_ticks(pit);

    sync(pit, now);
    if (offset == 3)
        write_control(pit, value, now);
    else
        write_counter(&pit->counters[offset], value, now);
    update(pit, now);
}

u8 i8254_read(struct i8254 *pit, unsigned offset)
{
    i64 now = now_ticks(pit);
    struct i8254_counter *c = &pit->counters[offset % I8254_COUNTERS];
    u16 value;
    bool high;

    if (offset >= I8254_COUNTERS)
        return 0xff; /* the control word cannot be read */
    counter_sync(c, now);
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    value = c->latched ? c->latch : counter_value(c, now);
    high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high);
    if (c->access == ACCESS_BOTH)
        c->read_high = !c->read_high;
    if (c->access != ACCESS_BOTH || high)
        c->latched = false;
    return (u8)(high ? value >> 8 : value);
}

bool i8254_out(struct i8254 *pit, unsigned counter)
{
    i64 now = now_ticks(pit);

    counter_sync(&pit->counters[counter], now);
    return counter_out(&pit->counters[counter], now);
}

void i8254_set_gate(struct i8254 *pit, unsigned counter, bool level)
{
    i64 now = now_ticks(pit);

    sync(pit, now);
    counter_set_gate(&pit->counters[counter], level, now);
    update(pit, now);
}

void i8254_enable_irq(struct i8254 *pit, bool enabled)
{
    i64 now = now_ticks(pit);

    sync(pit, now);
    pit->irq_enabled = enabled;
    update(pit, now);
}

u8 i8254_control_b_read(struct i8254 *pit)
{
    bool refresh = timer_now(&pit->timer) / REFRESH_NS & 1;

    return (u8)(pit->control_b | (refresh ? B_REFRESH : 0) | (i8254_out(pit, 2) ? B_OUT2 : 0));
}

void i8254_control_b_write(struct i8254 *pit, u8 value)
{
    pit->control_b = value & B_WRITABLE;
    i8254_set_gate(pit, 2, value & B_GATE2);
}

void i8254_reset(struct i8254 *pit)
{
    for (unsigned i = 0; i < I8254_COUNTERS; i++)
        pit->counters[i] = (struct i8254_counter){
            .mode =
                3, /* undefined on hardware; OUT is high in this one, so that the first mode makes no edge */
            .access = ACCESS_BOTH,
            .gate = i != 2,
            .null_count = true,
            .period = 65536,
        };
    pit->control_b = 0;
    pit->irq_enabled = true;
    update(pit, now_ticks(pit));
}

void i8254_init(struct i8254 *pit, struct timer_queue *timers, struct irq_line irq)
{
    *pit = (struct i8254){.irq = irq};
    timer_init(&pit->timer, timers, timer_fired, pit);
    i8254_reset(pit);
}

/* ---- State ---- */

static bool tick_ok(i64 tick)
{
    return tick > -TICK_LIMIT && tick < TICK_LIMIT;
}

static int counter_post_load(void *object, struct error *err)
{
    struct i8254_counter *c = object;

    if (c->mode > 5 || c->access < ACCESS_LOW || c->access > ACCESS_BOTH)
        return error_set(err, "i8254: mode %u with access %u does not exist", c->mode, c->access);
    if (c->period < 1 || c->period > 65536)
        return error_set(err, "i8254: count %u is out of range", c->period);
    if (!tick_ok(c->start) || !tick_ok(c->switch_tick) || !tick_ok(c->held) || c->held < 0)
        return error_set(err, "i8254: a time is out of range");
    return 0;
}

static const struct state_field counter_fields[] = {
    STATE_FIELD(struct i8254_counter, mode, STATE_U8, 1),
    STATE_FIELD(struct i8254_counter, access, STATE_U8, 1),
    STATE_FIELD(struct i8254_counter, bcd, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, gate, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, loaded, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, counting, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, null_count, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, reload, STATE_U16, 1),
    STATE_FIELD(struct i8254_counter, period, STATE_U32, 1),
    STATE_FIELD(struct i8254_counter, start, STATE_U64, 1),
    STATE_FIELD(struct i8254_counter, held, STATE_U64, 1),
    STATE_FIELD(struct i8254_counter, switch_tick, STATE_U64, 1),
    STATE_FIELD(struct i8254_counter, write_high, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, read_high, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, write_low, STATE_U8, 1),
    STATE_FIELD(struct i8254_counter, latched, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, status_latched, STATE_BOOL, 1),
    STATE_FIELD(struct i8254_counter, latch, STATE_U16, 1),
    STATE_FIELD(struct i8254_counter, status, STATE_U8, 1),
    STATE_END,
};
static const struct state_table counter_state = {
    .name = "i8254_counter",
    .version = 1,
    .size = sizeof(struct i8254_counter),
    .fields = counter_fields,
    .post_load = counter_post_load,
};

static const struct state_field i8254_fields[] = {
    STATE_STRUCTS(struct i8254, counters, &counter_state, 1),
    STATE_FIELD(struct i8254, control_b, STATE_U8, 1),
    STATE_FIELD(struct i8254, irq_enabled, STATE_BOOL, 1),
    STATE_FIELD(struct i8254, next_edge, STATE_U64, 1),
    STATE_STRUCT(struct i8254, timer, &timer_state_table, 1),
    STATE_END,
};

static int i8254_post_load(void *object, struct error *err)
{
    struct i8254 *pit = object;

    if (pit->next_edge != INT64_MAX && !tick_ok(pit->next_edge))
        return error_set(err, "i8254: the time of the next interrupt is out of range");
    return 0;
}

const struct state_table i8254_state = {
    .name = "i8254",
    .version = 1,
    .size = sizeof(struct i8254),
    .fields = i8254_fields,
    .post_load = i8254_post_load,
};

/* ---- The device ---- */

struct i8254_device {
    struct device device;
    struct i8254 pit;
    struct irq_line pic, ioapic;
};

static u64 pit_read(void *opaque, u64 offset, unsigned size)
{
    return i8254_read(opaque, (unsigned)offset);
}

static void pit_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8254_write(opaque, (unsigned)offset, (u8)value);
}

static u64 control_b_read(void *opaque, u64 offset, unsigned size)
{
    return i8254_control_b_read(opaque);
}

static void control_b_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8254_control_b_write(opaque, (u8)value);
}

static const struct io_ops pit_ops = {pit_read, pit_write, 1, 1};
static const struct io_ops control_b_ops = {control_b_read, control_b_write, 1, 1};

/* OUT 0 is input 0 of the i8259 and input 2 of the IOAPIC. */
static void set_both(void *opaque, unsigned n, bool level)
{
    struct i8254_device *self = opaque;

    irq_line_set(&self->pic, level);
    irq_line_set(&self->ioapic, level);
}

struct i8254 *i8254_of(struct device *device)
{
    return &container_of(device, struct i8254_device, device)->pit;
}

static int i8254_attach(struct device *device, struct error *err)
{
    struct i8254_device *self = container_of(device, struct i8254_device, device);
    struct vm *vm = device->vm;

    self->pic = irq_router_line(&vm->irqs, 0);
    self->ioapic = irq_router_line(&vm->irqs, 2);
    i8254_init(&self->pit, &vm->timers, (struct irq_line){set_both, self, 0});
    if (port_map_add(&vm->ports, 0x40, 4, &pit_ops, &self->pit, "i8254", err) ||
        port_map_add(&vm->ports, 0x61, 1, &control_b_ops, &self->pit, "system control port B", err))
        return -1;
    return 0;
}

static void i8254_device_reset(struct device *device)
{
    i8254_reset(i8254_of(device));
}

const struct device_class i8254_class = {
    .name = "i8254",
    .help = "8254 interval timer and system control port B",
    .size = sizeof(struct i8254_device),
    .state = &i8254_state,
    .state_offset = offsetof(struct i8254_device, pit),
    .attach = i8254_attach,
    .reset = i8254_device_reset,
};
