#include "dev/hpet.h"

#include "dev/i8254.h"
#include "dev/mc146818.h"
#include "machine/io.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

enum {
    REG_CAPABILITIES = 0x000,
    REG_CONFIG = 0x010,
    REG_STATUS = 0x020,
    REG_COUNTER = 0x0f0,
    REG_TIMER = 0x100,
    TIMER_BYTES = 0x20,
    REG_TIMER_CONFIG = 0x00, /* in a comparator's block */
    REG_TIMER_COMPARATOR = 0x08,
};
enum { CONFIG_ENABLE = 1 << 0, CONFIG_LEGACY = 1 << 1, CONFIG_WRITABLE = 3 };
enum { /* comparator's configuration */
       TIMER_LEVEL = 1 << 1,
       TIMER_ENABLE = 1 << 2,
       TIMER_PERIODIC = 1 << 3,
       TIMER_CAN_PERIODIC = 1 << 4,
       TIMER_CAN_64 = 1 << 5,
       TIMER_SET = 1 << 6, /* the next write of the comparator sets the accumulator too */
       TIMER_32 = 1 << 8,
       TIMER_ROUTE_SHIFT = 9,
       TIMER_ROUTE = 0x1f << TIMER_ROUTE_SHIFT,
       TIMER_WRITABLE = TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_SET | TIMER_32 | TIMER_ROUTE,
};
#define PERIOD_FS          UINT64_C(10000000) /* HPET_TICK_NS in femtoseconds */
#define ROUTES_IN_REGISTER ((u64)HPET_ROUTES << 32)

static bool enabled(const struct hpet *hpet)
{
    return hpet->config & CONFIG_ENABLE;
}
static bool is_periodic(const struct hpet_timer *t)
{
    return t->config & TIMER_PERIODIC;
}
static u64 width_mask(const struct hpet_timer *t)
{
    return t->config & TIMER_32 ? UINT32_MAX : UINT64_MAX;
}
static unsigned number(const struct hpet_timer *t)
{
    return (unsigned)(t - t->hpet->timers);
}
static u64 now_ns(const struct hpet *hpet)
{
    return timer_now(&hpet->timers[0].timer);
}

static u64 counter_at(const struct hpet *hpet, u64 ns)
{
    return enabled(hpet) ? hpet->counter + (ns - hpet->since_ns) / HPET_TICK_NS : hpet->counter;
}

/* ---- Interrupts ---- */

/* The line of a comparator; not connected when its route is not offered. */
static struct irq_line line_of(const struct hpet_timer *t)
{
    const struct hpet *hpet = t->hpet;
    unsigned route = (t->config & TIMER_ROUTE) >> TIMER_ROUTE_SHIFT;

    if ((hpet->config & CONFIG_LEGACY) && number(t) < ARRAY_SIZE(hpet->legacy))
        return hpet->legacy[number(t)];
    if (route < HPET_FIRST_GSI || route >= HPET_FIRST_GSI + HPET_GSIS)
        return (struct irq_line){0};
    return t->gsi[route - HPET_FIRST_GSI];
}

static void drive(const struct hpet_timer *t, bool level)
{
    struct irq_line line = line_of(t);

    irq_line_set(&line, level);
}

/* A level-triggered interrupt stays until its status bit is cleared, also over changes of route and enable. */
static void drive_level(struct hpet_timer *t)
{
    bool active = t->hpet->status >> number(t) & 1;

    drive(t, active && (t->config & TIMER_ENABLE) && (t->config & TIMER_LEVEL));
}

static void interrupt(struct hpet_timer *t)
{
    if (t->config & TIMER_LEVEL) {
        t->hpet->status |= UINT64_C(1) << number(t);
        drive_level(t);
    } else if (t->config & TIMER_ENABLE) { /* edge */
        drive(t, true);
        drive(t, false);
    }
}

/* ---- Comparators ---- */

/* Arm for the next match, or for none. A comparator that the counter has passed matches when it has wrapped around. */
static void arm(struct hpet_timer *t, u64 now)
{
    u64 ticks = (t->comparator - counter_at(t->hpet, now)) & width_mask(t);
    u64 into_tick = (now - t->hpet->since_ns) % HPET_TICK_NS;

    if (!enabled(t->hpet) || ticks > (UINT64_MAX - now) / HPET_TICK_NS)
        timer_disarm(&t->timer);
    else
        timer_arm(&t->timer, now + ticks * HPET_TICK_NS - (ticks ? into_tick : 0));
}

static void timer_fired(void *opaque)
{
    struct hpet_timer *t = opaque;
    u64 now = now_ns(t->hpet), passed = (counter_at(t->hpet, now) - t->comparator) & width_mask(t);

    interrupt(t);
    if (is_periodic(t) && t->period) {
        /* Matches that a late host has missed are left out. */
        t->comparator = (t->comparator + (passed / t->period + 1) * t->period) & width_mask(t);
        arm(t, now);
    }
    /* A one-shot matches again when the counter has wrapped: after 43 s with 32 bits. */
    else if (t->config & TIMER_32) {
        timer_arm(&t->timer, now + (UINT64_C(1) << 32) * HPET_TICK_NS - passed * HPET_TICK_NS);
    }
}

static void arm_all(struct hpet *hpet, u64 now)
{
    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        arm(&hpet->timers[i], now);
}

/* ---- Registers ---- */

static u64 merge(u64 old, u64 value, u64 mask)
{
    return (old & ~mask) | (value & mask);
}

static void write_config(struct hpet *hpet, u64 value, u64 now)
{
    u64 old = hpet->config;

    value &= CONFIG_WRITABLE;
    if (value == old)
        return;
    hpet->counter = counter_at(hpet, now);
    hpet->since_ns = value & CONFIG_ENABLE ? now : 0;
    for (unsigned i = 0; i < HPET_COMPARATORS; i++) /* leave the lines that the change may take away */
        drive(&hpet->timers[i], false);
    hpet->config = value;
    irq_line_set(&hpet->legacy_mode, value & CONFIG_LEGACY);
    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        drive_level(&hpet->timers[i]);
    arm_all(hpet, now);
}

static void write_status(struct hpet *hpet, u64 ones)
{
    hpet->status &= ~ones;
    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        drive_level(&hpet->timers[i]);
}

static void write_timer_config(struct hpet_timer *t, u64 value, u64 now)
{
    drive(t, false);
    t->config = value & TIMER_WRITABLE;
    if (t->config & TIMER_32) {
        t->comparator &= UINT32_MAX;
        t->period &= UINT32_MAX;
    }
    if (!(t->config & TIMER_LEVEL))
        t->hpet->status &= ~(UINT64_C(1) << number(t));
    drive_level(t);
    arm(t, now);
}

/* In periodic mode the register is the period, unless TIMER_SET lets this write through to the accumulator as well. */
static void write_comparator(struct hpet_timer *t, u64 value, u64 mask, u64 now)
{
    mask &= width_mask(t);
    if (!is_periodic(t) || (t->config & TIMER_SET))
        t->comparator = merge(t->comparator, value, mask);
    if (is_periodic(t))
        t->period = merge(t->period, value, mask);
    t->config &= ~(u64)TIMER_SET;
    arm(t, now);
}

static u64 read_register(struct hpet *hpet, u64 offset)
{
    if (offset >= REG_TIMER && offset < REG_TIMER + HPET_COMPARATORS * TIMER_BYTES) {
        const struct hpet_timer *t = &hpet->timers[(offset - REG_TIMER) / TIMER_BYTES];

        switch (offset % TIMER_BYTES) {
        case REG_TIMER_CONFIG:
            return (t->config & ~(u64)TIMER_SET) | TIMER_CAN_PERIODIC | TIMER_CAN_64 | ROUTES_IN_REGISTER;
        case REG_TIMER_COMPARATOR: return t->comparator;
        default: return 0;
        }
    }
    switch (offset) {
    case REG_CAPABILITIES: return PC_HPET_ID | PERIOD_FS << 32;
    case REG_CONFIG: return hpet->config;
    case REG_STATUS: return hpet->status;
    case REG_COUNTER: return counter_at(hpet, now_ns(hpet));
    default: return 0;
    }
}

/* Write the bits of `mask` of the 64-bit register at `offset`; `value` is in place. */
static void write_register(struct hpet *hpet, u64 offset, u64 value, u64 mask)
{
    u64 now = now_ns(hpet);

    if (offset >= REG_TIMER && offset < REG_TIMER + HPET_COMPARATORS * TIMER_BYTES) {
        struct hpet_timer *t = &hpet->timers[(offset - REG_TIMER) / TIMER_BYTES];

        if (offset % TIMER_BYTES == REG_TIMER_CONFIG)
            write_timer_config(t, merge(t->config, value, mask), now);
        else if (offset % TIMER_BYTES == REG_TIMER_COMPARATOR)
            write_comparator(t, value, mask, now);
        return;
    }
    switch (offset) {
    case REG_CONFIG: write_config(hpet, merge(hpet->config, value, mask), now); break;
    case REG_STATUS: write_status(hpet, value & mask); break;
    case REG_COUNTER: /* meant for a halted counter; a running one goes on from there */
        hpet->counter = merge(counter_at(hpet, now), value, mask);
        hpet->since_ns = enabled(hpet) ? now : 0;
        arm_all(hpet, now);
        break;
    }
}

u64 hpet_read(struct hpet *hpet, u64 offset, unsigned size)
{
    u64 value = read_register(hpet, offset & ~UINT64_C(7));

    if (offset % size || offset + size > HPET_BYTES)
        return UINT64_MAX;
    return size == 8 ? value : offset & 4 ? value >> 32 : (u32)value;
}

void hpet_write(struct hpet *hpet, u64 offset, unsigned size, u64 value)
{
    unsigned shift = offset & 4 ? 32 : 0;

    if (offset % size || offset + size > HPET_BYTES)
        return;
    write_register(hpet, offset & ~UINT64_C(7), value << shift,
                   size == 8 ? UINT64_MAX : (u64)UINT32_MAX << shift);
}

void hpet_reset(struct hpet *hpet)
{
    for (unsigned i = 0; i < HPET_COMPARATORS; i++) {
        struct hpet_timer *t = &hpet->timers[i];

        drive(t, false);
        t->config = 0;
        t->comparator = UINT64_MAX;
        t->period = 0;
        timer_disarm(&t->timer);
    }
    hpet->config = hpet->status = hpet->counter = hpet->since_ns = 0;
    irq_line_set(&hpet->legacy_mode, false);
}

void hpet_init(struct hpet *hpet, struct timer_queue *timers, const struct hpet_wiring *wiring)
{
    *hpet = (struct hpet){.legacy_mode = wiring->legacy_mode};
    for (unsigned i = 0; i < ARRAY_SIZE(hpet->legacy); i++)
        hpet->legacy[i] = wiring->legacy[i];
    for (unsigned i = 0; i < HPET_COMPARATORS; i++) {
        hpet->timers[i].hpet = hpet;
        for (unsigned j = 0; j < HPET_GSIS; j++)
            hpet->timers[i].gsi[j] = wiring->gsi[i][j];
        timer_init(&hpet->timers[i].timer, timers, timer_fired, &hpet->timers[i]);
    }
    hpet_reset(hpet);
}

/* ---- State ---- */

static int timer_post_load(void *object, struct error *err)
{
    struct hpet_timer *t = object;

    if (t->config & ~(u64)TIMER_WRITABLE)
        return error_set(err, "hpet: a comparator's configuration has reserved bits set");
    if ((t->comparator | t->period) & ~width_mask(t))
        return error_set(err, "hpet: a 32-bit comparator has more bits");
    return 0;
}

static const struct state_field timer_fields[] = {
    STATE_FIELD(struct hpet_timer, config, STATE_U64, 1),
    STATE_FIELD(struct hpet_timer, comparator, STATE_U64, 1),
    STATE_FIELD(struct hpet_timer, period, STATE_U64, 1),
    STATE_STRUCT(struct hpet_timer, timer, &timer_state_table, 1),
    STATE_END,
};
static const struct state_table timer_state = {
    .name = "hpet_timer",
    .version = 1,
    .size = sizeof(struct hpet_timer),
    .fields = timer_fields,
    .post_load = timer_post_load,
};

static int hpet_post_load(void *object, struct error *err)
{
    struct hpet *hpet = object;

    if ((hpet->config & ~(u64)CONFIG_WRITABLE) || hpet->status >> HPET_COMPARATORS)
        return error_set(err, "hpet: a register has reserved bits set");
    return 0;
}

static const struct state_field hpet_fields[] = {
    STATE_FIELD(struct hpet, config, STATE_U64, 1),      STATE_FIELD(struct hpet, status, STATE_U64, 1),
    STATE_FIELD(struct hpet, counter, STATE_U64, 1),     STATE_FIELD(struct hpet, since_ns, STATE_U64, 1),
    STATE_STRUCTS(struct hpet, timers, &timer_state, 1), STATE_END,
};
const struct state_table hpet_state = {
    .name = "hpet",
    .version = 1,
    .size = sizeof(struct hpet),
    .fields = hpet_fields,
    .post_load = hpet_post_load,
};

/* ---- The device ---- */

struct hpet_device {
    struct device device;
    void *pit, *rtc; /* struct device */
    struct hpet hpet;
    struct mem_region region;
    struct irq_line irq0[2]; /* GSI 0 for the i8259, 2 for the IOAPIC */
};

static u64 io_read(void *opaque, u64 offset, unsigned size)
{
    return hpet_read(opaque, offset, size);
}

static void io_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    hpet_write(opaque, offset, size, value);
}

static const struct io_ops io_ops = {io_read, io_write, 4, 8};

static void set_irq0(void *opaque, unsigned n, bool level)
{
    struct hpet_device *self = opaque;

    irq_line_set(&self->irq0[0], level);
    irq_line_set(&self->irq0[1], level);
}

static void set_legacy_mode(void *opaque, unsigned n, bool level)
{
    struct hpet_device *self = opaque;

    i8254_enable_irq(i8254_of(self->pit), !level);
    mc146818_enable_irq(mc146818_of(self->rtc), !level);
}

static int hpet_attach(struct device *device, struct error *err)
{
    struct hpet_device *self = container_of(device, struct hpet_device, device);
    struct vm *vm = device->vm;
    struct hpet_wiring wiring = {
        .legacy = {{set_irq0, self, 0}, irq_router_line(&vm->irqs, 8)},
        .legacy_mode = {set_legacy_mode, self, 0},
    };

    self->irq0[0] = irq_router_line(&vm->irqs, 0);
    self->irq0[1] = irq_router_line(&vm->irqs, 2);
    for (unsigned i = 0; i < HPET_COMPARATORS; i++)
        for (unsigned j = 0; j < HPET_GSIS; j++)
            wiring.gsi[i][j] = irq_router_line(&vm->irqs, HPET_FIRST_GSI + j);
    hpet_init(&self->hpet, &vm->timers, &wiring);
    self->region = (struct mem_region){
        .start = PC_HPET_BASE,
        .size = PC_HPET_SIZE,
        .enabled = true,
        .read = true,
        .write = true,
        .ops = &io_ops,
        .opaque = &self->hpet,
        .name = "hpet",
    };
    return memory_add_region(&vm->memory, &self->region, err);
}

static void hpet_device_reset(struct device *device)
{
    hpet_reset(&container_of(device, struct hpet_device, device)->hpet);
}

static const struct property hpet_properties[] = {
    {.name = "pit",
     .type = PROP_POINTER,
     .offset = offsetof(struct hpet_device, pit),
     .required = true,
     .help = "device whose IRQ 0 legacy replacement takes over"},
    {.name = "rtc",
     .type = PROP_POINTER,
     .offset = offsetof(struct hpet_device, rtc),
     .required = true,
     .help = "device whose IRQ 8 legacy replacement takes over"},
    {.name = NULL},
};

const struct device_class hpet_class = {
    .name = "hpet",
    .help = "high precision event timer",
    .size = sizeof(struct hpet_device),
    .properties = hpet_properties,
    .state = &hpet_state,
    .state_offset = offsetof(struct hpet_device, hpet),
    .attach = hpet_attach,
    .reset = hpet_device_reset,
};
