#include "dev/mc146818.h"

#include "machine/io.h"
#include "machine/vm.h"

enum {
    RTC_SECONDS,
    RTC_SECONDS_ALARM,
    RTC_MINUTES,
    RTC_MINUTES_ALARM,
    RTC_HOURS,
    RTC_HOURS_ALARM,
    RTC_WEEKDAY,
    RTC_DAY,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B,
    RTC_C,
    RTC_D,
    RTC_MEMORY,
};
enum {
    A_UIP = 1 << 7,
    A_DIVIDER = 7 << 4,
    A_DIVIDER_RUN = 2 << 4, /* 32768 Hz */
    A_RATE = 0xf,
    B_SET = 1 << 7,
    B_24H = 1 << 1,
    B_BINARY = 1 << 2,
    C_IRQ = 1 << 7,
    D_VALID = 1 << 7,
    HOURS_PM = 1 << 7,
    ALARM_ANY = 0xc0, /* an alarm byte of C0h and up matches everything */
};
/* Interrupts: the same bits enable in B and flag in C. */
enum { INT_PERIODIC = 1 << 6, INT_ALARM = 1 << 5, INT_UPDATE = 1 << 4, INT_ALL = 0x70 };

enum { INDEX = 0x7f, NMI_DISABLE = 0x80, EXTENDED_BANK = 0x80 };

#define SECOND_NS INT64_C(1000000000)
#define UIP_NS    (244 * INT64_C(1000)) /* update in progress shows so long before the second ends */
#define DAY       INT64_C(86400)
#define NEVER     INT64_MAX
/* Limits of what a state may hold: times of the clock, and dates of the years 0 to 9999. */
#define NS_LIMIT   (INT64_C(1) << 62)
#define DATE_MIN   INT64_C(-62167219200)
#define DATE_LIMIT INT64_C(253402300800)

/* ---- Dates ---- */

struct date {
    unsigned second, minute, hour, day, month, weekday; /* day and month from 1; weekday 1 is Sunday */
    i64 year;
};

static i64 floor_div(i64 a, i64 b)
{
    return a / b - (a % b < 0);
}
static i64 floor_mod(i64 a, i64 b)
{
    return a - floor_div(a, b) * b;
}

/* Days from 1970-01-01, for months beyond 12 and days beyond the month's end too. The year is taken to begin in March, so
   that the leap day is its last. */
static i64 days_of_date(i64 year, unsigned month, unsigned day)
{
    i64 y = month <= 2 ? year - 1 : year, m = ((i64)month + 9) % 12;

    return 365 * y + floor_div(y, 4) - floor_div(y, 100) + floor_div(y, 400) + (153 * m + 2) / 5 + day -
           719469;
}

static struct date date_of_seconds(i64 seconds)
{
    i64 days = floor_div(seconds, DAY), rest = floor_mod(seconds, DAY);
    i64 era_day = floor_mod(days + 719468, 146097), era = floor_div(days + 719468, 146097);
    i64 year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    i64 year_day = era_day - (365 * year + year / 4 - year / 100);
    i64 month = (5 * year_day + 2) / 153;
    struct date date = {
        .second = (unsigned)(rest % 60),
        .minute = (unsigned)(rest / 60 % 60),
        .hour = (unsigned)(rest / 3600),
        .day = (unsigned)(year_day - (153 * month + 2) / 5 + 1),
        .month = (unsigned)(month < 10 ? month + 3 : month - 9),
        .weekday = (unsigned)floor_mod(days + 4, 7) + 1,
    };

    date.year = year + era * 400 + (date.month <= 2);
    return date;
}

/* ---- Time ---- */

static u64 now_ns(const struct mc146818 *rtc)
{
    return timer_now(&rtc->timer);
}

/* Whether seconds count: the oscillator divides and the guest is not setting the time. */
static bool divider_runs(const struct mc146818 *rtc)
{
    return (rtc->cmos[RTC_A] & A_DIVIDER) == A_DIVIDER_RUN;
}

static bool time_runs(const struct mc146818 *rtc)
{
    return divider_runs(rtc) && !(rtc->cmos[RTC_B] & B_SET);
}

/* Whole seconds since the phase. */
static i64 ticks_at(const struct mc146818 *rtc, u64 ns)
{
    return floor_div((i64)ns - rtc->phase_ns, SECOND_NS);
}

static i64 seconds_at(const struct mc146818 *rtc, u64 ns)
{
    return rtc->base_seconds + ticks_at(rtc, ns);
}

/* The first ns at which the clock shows `seconds`. */
static i64 ns_of_seconds(const struct mc146818 *rtc, i64 seconds)
{
    return rtc->phase_ns + (seconds - rtc->base_seconds) * SECOND_NS;
}

static u8 encode(const struct mc146818 *rtc, unsigned value)
{
    return (u8)(rtc->cmos[RTC_B] & B_BINARY ? value : (value / 10 % 10) << 4 | value % 10);
}

static unsigned decode(const struct mc146818 *rtc, u8 value)
{
    return rtc->cmos[RTC_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static u8 encode_hours(const struct mc146818 *rtc, unsigned hour)
{
    if (rtc->cmos[RTC_B] & B_24H)
        return encode(rtc, hour);
    return (u8)(encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0));
}

static unsigned decode_hours(const struct mc146818 *rtc, u8 value)
{
    if (rtc->cmos[RTC_B] & B_24H)
        return decode(rtc, value);
    return decode(rtc, value & (u8)~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* Bring the time registers up to date. */
static void refresh(struct mc146818 *rtc, u64 now)
{
    struct date date;
    u8 *cmos = rtc->cmos;

    if (!time_runs(rtc))
        return;
    date = date_of_seconds(seconds_at(rtc, now));
    cmos[RTC_SECONDS] = encode(rtc, date.second);
    cmos[RTC_MINUTES] = encode(rtc, date.minute);
    cmos[RTC_HOURS] = encode_hours(rtc, date.hour);
    cmos[RTC_WEEKDAY] = encode(rtc, (date.weekday - 1 + rtc->weekday_skew) % 7 + 1);
    cmos[RTC_DAY] = encode(rtc, date.day);
    cmos[RTC_MONTH] = encode(rtc, date.month);
    cmos[RTC_YEAR] = encode(rtc, (unsigned)floor_mod(date.year, 100));
    cmos[CMOS_CENTURY] = encode(rtc, (unsigned)(date.year / 100));
}

/* Take the time registers for the time. */
static void set_time(struct mc146818 *rtc, u64 now)
{
    const u8 *cmos = rtc->cmos;
    i64 year = (i64)decode(rtc, cmos[CMOS_CENTURY]) * 100 + decode(rtc, cmos[RTC_YEAR]);
    unsigned month = decode(rtc, cmos[RTC_MONTH]), weekday;
    i64 days = days_of_date(year, month >= 1 && month <= 12 ? month : 1, decode(rtc, cmos[RTC_DAY]));
    i64 seconds = days * DAY + decode_hours(rtc, cmos[RTC_HOURS]) * 3600 +
                  decode(rtc, cmos[RTC_MINUTES]) * 60 + decode(rtc, cmos[RTC_SECONDS]);

    if (seconds < DATE_MIN)
        seconds = DATE_MIN;
    if (seconds >= DATE_LIMIT)
        seconds = DATE_LIMIT - 1;
    rtc->base_seconds = seconds - ticks_at(rtc, now);
    weekday = date_of_seconds(seconds).weekday;
    rtc->weekday_skew = (u8)((decode(rtc, cmos[RTC_WEEKDAY]) + 7 - weekday % 7) % 7);
}

/* ---- Interrupts ---- */

/* Period of the periodic interrupt in cycles of 32768 Hz; 0: none (MC146818 table 3). */
static u64 period_cycles(const struct mc146818 *rtc)
{
    unsigned rate = rtc->cmos[RTC_A] & A_RATE;

    if (!rate || !divider_runs(rtc))
        return 0;
    return UINT64_C(1) << (rate <= 2 ? rate + 6 : rate - 1);
}

/* Periods that have passed at `ns`, counted from the phase. */
static i64 periods_at(const struct mc146818 *rtc, u64 cycles, i64 ns)
{
    i128 position = ((i128)ns - rtc->phase_ns) * 32768;
    i128 period = (i128)cycles * SECOND_NS;

    return (i64)(position / period - (position % period < 0));
}

static bool alarm_matches(const struct mc146818 *rtc, unsigned reg, u8 shown)
{
    return rtc->cmos[reg] >= ALARM_ANY || rtc->cmos[reg] == shown;
}

/* The first second after `seconds` at which the alarm goes off; NEVER when there is none. At most a day of hours and an hour
   each of minutes and seconds are looked at. */
static i64 next_alarm(const struct mc146818 *rtc, i64 seconds)
{
    i64 t = seconds + 1, end = seconds + DAY;

    while (t <= end) {
        i64 in_day = floor_mod(t, DAY);

        if (!alarm_matches(rtc, RTC_HOURS_ALARM, encode_hours(rtc, (unsigned)(in_day / 3600))))
            t += 3600 - in_day % 3600;
        else if (!alarm_matches(rtc, RTC_MINUTES_ALARM, encode(rtc, (unsigned)(in_day / 60 % 60))))
            t += 60 - in_day % 60;
        else if (!alarm_matches(rtc, RTC_SECONDS_ALARM, encode(rtc, (unsigned)(in_day % 60))))
            t++;
        else
            return t;
    }
    return NEVER;
}

/* Flag in register C what has happened since it was looked at last. */
static void note_events(struct mc146818 *rtc, u64 now)
{
    u64 cycles = period_cycles(rtc);
    u8 flags = 0;

    if (cycles && periods_at(rtc, cycles, (i64)now) > periods_at(rtc, cycles, (i64)rtc->checked_ns))
        flags |= INT_PERIODIC;
    if (time_runs(rtc)) {
        i64 before = seconds_at(rtc, rtc->checked_ns), after = seconds_at(rtc, now);

        if (after > before) {
            flags |= INT_UPDATE;
            if (next_alarm(rtc, before) <= after)
                flags |= INT_ALARM;
        }
    }
    rtc->checked_ns = now;
    rtc->cmos[RTC_C] |= flags;
}

/* When the next interrupt that is enabled and not flagged comes. */
static i64 next_event(const struct mc146818 *rtc, u64 now)
{
    unsigned wanted = rtc->cmos[RTC_B] & ~rtc->cmos[RTC_C] & INT_ALL;
    u64 cycles = period_cycles(rtc);
    i64 next = NEVER, at;

    if ((wanted & INT_PERIODIC) && cycles) {
        i128 count = (i128)periods_at(rtc, cycles, (i64)now) + 1;
        i128 ns = count * (i128)cycles * SECOND_NS;

        /* Rounded up: the period has ended then. */
        at = (i64)((ns >> 15) + ((ns & 32767) != 0) + rtc->phase_ns);
        next = at;
    }
    if (!time_runs(rtc))
        return next;
    if (wanted & INT_UPDATE) {
        at = ns_of_seconds(rtc, seconds_at(rtc, now) + 1);
        next = at < next ? at : next;
    }
    if (wanted & INT_ALARM) {
        i64 alarm = next_alarm(rtc, seconds_at(rtc, now));

        at = alarm == NEVER ? NEVER : ns_of_seconds(rtc, alarm);
        next = at < next ? at : next;
    }
    return next;
}

/* Note events, drive the line, arm the timer. Before registers are looked at and after they were changed. */
static void update(struct mc146818 *rtc, u64 now)
{
    bool pending;
    i64 next;

    note_events(rtc, now);
    pending = rtc->cmos[RTC_B] & rtc->cmos[RTC_C] & INT_ALL;
    rtc->cmos[RTC_C] = (u8)((rtc->cmos[RTC_C] & INT_ALL) | (pending ? C_IRQ : 0));
    irq_line_set(&rtc->irq, pending && rtc->irq_enabled);
    next = pending ? NEVER : next_event(rtc, now); /* the line is high already until C is read */
    if (next != NEVER)
        timer_arm(&rtc->timer, (u64)next);
    else
        timer_disarm(&rtc->timer);
}

static void timer_fired(void *opaque)
{
    struct mc146818 *rtc = opaque;

    update(rtc, now_ns(rtc));
}

void mc146818_enable_irq(struct mc146818 *rtc, bool enabled)
{
    rtc->irq_enabled = enabled;
    update(rtc, now_ns(rtc));
}

/* ---- Registers ---- */

static void write_a(struct mc146818 *rtc, u8 value, u64 now)
{
    bool ran = divider_runs(rtc);

    refresh(rtc, now);
    rtc->cmos[RTC_A] = value & (u8)~A_UIP;
    if (!ran && divider_runs(rtc)) {
        /* The first update comes half a second after the divider was let go. */
        rtc->phase_ns = (i64)now + SECOND_NS / 2;
        if (time_runs(rtc))
            set_time(rtc, now);
    }
}

static void write_b(struct mc146818 *rtc, u8 value, u64 now)
{
    bool ran;

    refresh(rtc, now);
    ran = time_runs(rtc);
    /* SET clears UIE. While it stands, a change of the formats leaves the bytes as they are. */
    rtc->cmos[RTC_B] = value & B_SET ? value & (u8)~INT_UPDATE : value;
    if (!ran && time_runs(rtc))
        set_time(rtc, now);
}

static bool is_time(unsigned reg)
{
    return reg == CMOS_CENTURY || reg == RTC_SECONDS || reg == RTC_MINUTES || reg == RTC_HOURS ||
           (reg >= RTC_WEEKDAY && reg <= RTC_YEAR);
}

static void write_register(struct mc146818 *rtc, unsigned reg, u8 value)
{
    u64 now = now_ns(rtc);

    update(rtc, now);
    switch (reg) {
    case RTC_A: write_a(rtc, value, now); break;
    case RTC_B: write_b(rtc, value, now); break;
    case RTC_C:
    case RTC_D: break; /* read-only */
    default:
        if (is_time(reg)) {
            refresh(rtc, now);
            rtc->cmos[reg] = value;
            if (time_runs(rtc))
                set_time(rtc, now);
        } else {
            rtc->cmos[reg] = value;
        }
        break;
    }
    update(rtc, now);
}

static u8 read_register(struct mc146818 *rtc, unsigned reg)
{
    u64 now = now_ns(rtc);
    u8 value;

    if (is_time(reg)) {
        refresh(rtc, now);
        return rtc->cmos[reg];
    }
    switch (reg) {
    case RTC_A:
        value = rtc->cmos[RTC_A];
        if (time_runs(rtc) && floor_mod((i64)now - rtc->phase_ns, SECOND_NS) >= SECOND_NS - UIP_NS)
            value |= A_UIP;
        return value;
    case RTC_C:
        update(rtc, now);
        value = rtc->cmos[RTC_C];
        rtc->cmos[RTC_C] = 0;
        update(rtc, now);
        return value;
    case RTC_D: return D_VALID;
    default: return rtc->cmos[reg];
    }
}

u8 mc146818_read(struct mc146818 *rtc, unsigned offset)
{
    switch (offset) {
    case 1: return read_register(rtc, rtc->index);
    case 3: return rtc->cmos[EXTENDED_BANK | rtc->extended_index];
    default: return 0xff; /* the index ports are write-only */
    }
}

void mc146818_write(struct mc146818 *rtc, unsigned offset, u8 value)
{
    switch (offset) {
    case 0:
        rtc->index = value & INDEX;
        rtc->nmi_disabled = value & NMI_DISABLE;
        break;
    case 1: write_register(rtc, rtc->index, value); break;
    case 2: rtc->extended_index = value & INDEX; break;
    case 3: rtc->cmos[EXTENDED_BANK | rtc->extended_index] = value; break;
    }
}

/* ---- For the board ---- */

void mc146818_set_cmos(struct mc146818 *rtc, u8 index, u8 value)
{
    if (index >= RTC_MEMORY)
        rtc->cmos[index] = value;
}

static void set_cmos_number(struct mc146818 *rtc, u8 index, unsigned bytes, u64 value)
{
    for (unsigned i = 0; i < bytes; i++)
        mc146818_set_cmos(rtc, (u8)(index + i), (u8)(value >> 8 * i));
}

static u64 at_most(u64 value, u64 limit)
{
    return value < limit ? value : limit;
}

void mc146818_set_memory(struct mc146818 *rtc, u64 low, u64 high)
{
    u64 extended_kib = low > MIB(1) ? at_most((low - MIB(1)) >> 10, 0xffff) : 0;

    set_cmos_number(rtc, CMOS_BASE_MEMORY, 2, at_most(low >> 10, 640));
    set_cmos_number(rtc, CMOS_EXTENDED_MEMORY, 2, extended_kib);
    set_cmos_number(rtc, CMOS_EXTENDED_MEMORY_2, 2, extended_kib);
    set_cmos_number(rtc, CMOS_MEMORY_16M, 2, low > MIB(16) ? at_most((low - MIB(16)) >> 16, 0xffff) : 0);
    set_cmos_number(rtc, CMOS_MEMORY_4G, 3, at_most(high >> 16, 0xffffff));
}

void mc146818_set_checksum(struct mc146818 *rtc)
{
    unsigned sum = 0;

    for (unsigned i = CMOS_FLOPPY; i < CMOS_CHECKSUM; i++)
        sum += rtc->cmos[i];
    rtc->cmos[CMOS_CHECKSUM] = (u8)(sum >> 8);
    rtc->cmos[CMOS_CHECKSUM + 1] = (u8)sum;
}

void mc146818_reset(struct mc146818 *rtc)
{
    u64 now = now_ns(rtc);

    note_events(rtc, now);
    rtc->cmos[RTC_B] &= (u8) ~(INT_ALL | 1 << 3);
    rtc->cmos[RTC_C] = 0;
    rtc->index = rtc->extended_index = 0;
    rtc->nmi_disabled = false;
    rtc->irq_enabled = true;
    update(rtc, now);
}

void mc146818_init(struct mc146818 *rtc, struct timer_queue *timers, struct irq_line irq, i64 start)
{
    *rtc = (struct mc146818){.irq = irq};
    timer_init(&rtc->timer, timers, timer_fired, rtc);
    rtc->cmos[RTC_A] = A_DIVIDER_RUN | 6; /* as firmware leaves it: 1024 Hz */
    rtc->cmos[RTC_B] = B_24H;
    rtc->checked_ns = now_ns(rtc);
    rtc->phase_ns = (i64)rtc->checked_ns;
    rtc->base_seconds = start < DATE_MIN ? DATE_MIN : start >= DATE_LIMIT ? DATE_LIMIT - 1 : start;
    refresh(rtc, rtc->checked_ns);
    mc146818_reset(rtc);
}

/* ---- State ---- */

static int mc146818_post_load(void *object, struct error *err)
{
    struct mc146818 *rtc = object;

    if (rtc->index > INDEX || rtc->extended_index > INDEX)
        return error_set(err, "mc146818: index %#x or %#x is out of range", rtc->index, rtc->extended_index);
    /* The base is the date at the phase, which may lie as far from now as the clock can have run. */
    if (rtc->base_seconds < DATE_MIN - NS_LIMIT / SECOND_NS ||
        rtc->base_seconds > DATE_LIMIT + NS_LIMIT / SECOND_NS)
        return error_set(err, "mc146818: the date is out of range");
    if (rtc->phase_ns < -SECOND_NS || rtc->phase_ns > NS_LIMIT || rtc->checked_ns > (u64)NS_LIMIT)
        return error_set(err, "mc146818: a time is out of range");
    if (rtc->weekday_skew > 6)
        return error_set(err, "mc146818: day of the week %u does not exist", rtc->weekday_skew);
    return 0;
}

static const struct state_field mc146818_fields[] = {
    STATE_ARRAY(struct mc146818, cmos, STATE_U8, 1),
    STATE_FIELD(struct mc146818, index, STATE_U8, 1),
    STATE_FIELD(struct mc146818, extended_index, STATE_U8, 1),
    STATE_FIELD(struct mc146818, nmi_disabled, STATE_BOOL, 1),
    STATE_FIELD(struct mc146818, base_seconds, STATE_U64, 1),
    STATE_FIELD(struct mc146818, phase_ns, STATE_U64, 1),
    STATE_FIELD(struct mc146818, weekday_skew, STATE_U8, 1),
    STATE_FIELD(struct mc146818, checked_ns, STATE_U64, 1),
    STATE_FIELD(struct mc146818, irq_enabled, STATE_BOOL, 1),
    STATE_STRUCT(struct mc146818, timer, &timer_state_table, 1),
    STATE_END,
};
const struct state_table mc146818_state = {
    .name = "mc146818",
    .version = 1,
    .size = sizeof(struct mc146818),
    .fields = mc146818_fields,
    .post_load = mc146818_post_load,
};

/* ---- The device ---- */

struct mc146818_device {
    struct device device;
    u64 start; /* an i64: dates before 1970 are negative */
    struct mc146818 rtc;
};

static u64 rtc_read(void *opaque, u64 offset, unsigned size)
{
    return mc146818_read(opaque, (unsigned)offset);
}

static void rtc_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    mc146818_write(opaque, (unsigned)offset, (u8)value);
}

static const struct io_ops rtc_ops = {rtc_read, rtc_write, 1, 1};

struct mc146818 *mc146818_of(struct device *device)
{
    return &container_of(device, struct mc146818_device, device)->rtc;
}

static int mc146818_attach(struct device *device, struct error *err)
{
    struct mc146818_device *self = container_of(device, struct mc146818_device, device);
    struct vm *vm = device->vm;

    mc146818_init(&self->rtc, &vm->timers, irq_router_line(&vm->irqs, 8), (i64)self->start);
    return port_map_add(&vm->ports, 0x70, 4, &rtc_ops, &self->rtc, "mc146818", err);
}

static void mc146818_device_reset(struct device *device)
{
    mc146818_reset(mc146818_of(device));
}

static const struct property mc146818_properties[] = {
    {.name = "start",
     .type = PROP_U64,
     .offset = offsetof(struct mc146818_device, start),
     .default_value = "0",
     .help = "date that the clock starts at, in seconds since 1970"},
    {.name = NULL},
};

const struct device_class mc146818_class = {
    .name = "mc146818",
    .help = "MC146818 real-time clock and 256 bytes of CMOS memory",
    .size = sizeof(struct mc146818_device),
    .properties = mc146818_properties,
    .state = &mc146818_state,
    .state_offset = offsetof(struct mc146818_device, rtc),
    .attach = mc146818_attach,
    .reset = mc146818_device_reset,
};
