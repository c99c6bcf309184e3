#include "dev/lapic.h"

#include <string.h>

#include "machine/vm.h"

#define LOG_MODULE "dev/lapic"
#include "base/log.h"

/* Register numbers: offset in the page >> 4, and MSR - 800h (SDM 3A tables 11-1 and 11-6). */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR_LOW = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32, /* timer, thermal, performance, LINT0, LINT1, error */
    REG_INITIAL_COUNT = 0x38,
    REG_CURRENT_COUNT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REG_COUNT = 0x40,
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR };

enum { MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };

/* Version 14h, six LVT entries, EOI broadcasts can be suppressed. */
enum { VERSION = 0x14 | (LAPIC_LVTS - 1) << 16 | 1 << 24 };

enum { SVR_ENABLE = 1 << 8, SVR_FOCUS_OFF = 1 << 9, SVR_NO_EOI_BROADCAST = 1 << 12 };

enum {
    LVT_MODE_SHIFT = 8,
    LVT_DELIVERY_STATUS = 1 << 12,
    LVT_REMOTE_IRR = 1 << 14,
    LVT_LEVEL = 1 << 15,
    LVT_MASKED = 1 << 16,
    LVT_TIMER_SHIFT = 17,
};
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_SIPI, DM_EXTINT };

enum {
    ICR_LOGICAL = 1 << 11,
    ICR_ASSERT = 1 << 14,
    ICR_LEVEL = 1 << 15,
    ICR_SHORTHAND_SHIFT = 18,
    ICR_WRITABLE = 0xccfff,
};
enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECEIVE_ILLEGAL = 1 << 6, ESR_REGISTER = 1 << 7 };

/* Which bits of an LVT entry software can set (SDM 3A figure 11-8). */
static const u32 lvt_writable[LAPIC_LVTS] = {
    [LVT_TIMER] = 0xff | LVT_MASKED | 3 << LVT_TIMER_SHIFT,
    [LVT_THERMAL] = 0x7ff | LVT_MASKED,
    [LVT_PERF] = 0x7ff | LVT_MASKED,
    [LVT_LINT0] = 0x7ff | 1 << 13 | LVT_LEVEL | LVT_MASKED,
    [LVT_LINT1] = 0x7ff | 1 << 13 | LVT_LEVEL | LVT_MASKED,
    [LVT_ERROR] = 0xff | LVT_MASKED,
};

/* Who may touch a register, and what an x2APIC write may hold (other bits set: #GP, SDM 3A 11.12.1.3). */
enum { XR = 1, XW = 2, X2R = 4, X2W = 8 };
static const struct lapic_reg {
    u8 access;
    u64 valid;
} lapic_regs[REG_COUNT] = {
    [REG_ID] = {XR | X2R},
    [REG_VERSION] = {XR | X2R},
    [REG_TPR] = {XR | XW | X2R | X2W, 0xff},
    [REG_APR] = {XR},
    [REG_PPR] = {XR | X2R},
    [REG_EOI] = {XW | X2W, 0},
    [REG_RRD] = {XR},
    [REG_LDR] = {XR | XW | X2R},
    [REG_DFR] = {XR | XW},
    [REG_SVR] = {XR | XW | X2R | X2W, 0xff | SVR_ENABLE | SVR_FOCUS_OFF | SVR_NO_EOI_BROADCAST},
    [REG_ISR... REG_IRR + 7] = {XR | X2R},
    [REG_ESR] = {XR | XW | X2R | X2W, 0},
    [REG_ICR_LOW] = {XR | XW | X2R | X2W, 0xffffffff00000000 | ICR_WRITABLE | LVT_DELIVERY_STATUS},
    [REG_ICR_HIGH] = {XR | XW},
    [REG_LVT + LVT_TIMER] = {XR | XW | X2R | X2W, 0x710ff},
    [REG_LVT + LVT_THERMAL... REG_LVT + LVT_PERF] = {XR | XW | X2R | X2W, 0x117ff},
    [REG_LVT + LVT_LINT0... REG_LVT + LVT_LINT1] = {XR | XW | X2R | X2W, 0x1f7ff},
    [REG_LVT + LVT_ERROR] = {XR | XW | X2R | X2W, 0x110ff},
    [REG_INITIAL_COUNT] = {XR | XW | X2R | X2W, 0xffffffff},
    [REG_CURRENT_COUNT] = {XR | X2R},
    [REG_DIVIDE] = {XR | XW | X2R | X2W, 0xb},
    [REG_SELF_IPI] = {X2W, 0xff},
};

/*
 * What a processor's own thread changes and others look at without a lock, or the other way round, when they decide what is
 * pending, or for whom a message is: lapic_update holds for any order of these.
 */
#define peek(field)        __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define poke(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELAXED)

static bool lapic_enabled(const struct lapic *lapic)
{
    return peek(lapic->base) & APIC_BASE_EN;
}
static bool lapic_x2apic(const struct lapic *lapic)
{
    return peek(lapic->base) & APIC_BASE_EXTD;
}
static bool lapic_software_enabled(const struct lapic *lapic)
{
    return lapic_enabled(lapic) && (peek(lapic->svr) & SVR_ENABLE);
}

static void lapic_lock(struct lapic *lapic)
{
    lapic->cpu->lock(lapic->cpu_opaque);
}
static void lapic_unlock(struct lapic *lapic)
{
    lapic->cpu->unlock(lapic->cpu_opaque);
}

/* ---- 256-bit registers ---- */

static void bit_set(u32 *bits, u8 n)
{
    __atomic_fetch_or(&bits[n / 32], 1u << n % 32, __ATOMIC_SEQ_CST);
}
static void bit_clear(u32 *bits, u8 n)
{
    __atomic_fetch_and(&bits[n / 32], ~(1u << n % 32), __ATOMIC_SEQ_CST);
}
static bool bit_get(const u32 *bits, u8 n)
{
    return __atomic_load_n(&bits[n / 32], __ATOMIC_SEQ_CST) >> n % 32 & 1;
}

/* Number of the highest bit that is set; -1: none. */
static int bit_highest(const u32 *bits)
{
    for (int i = 7; i >= 0; i--) {
        u32 word = __atomic_load_n(&bits[i], __ATOMIC_SEQ_CST);

        if (word)
            return i * 32 + 31 - __builtin_clz(word);
    }
    return -1;
}

/* ---- Priorities and what is pending (SDM 3A 11.8.3) ---- */

static u8 lapic_ppr(const struct lapic *lapic)
{
    int in_service = bit_highest(lapic->isr);
    u8 service_class = in_service < 0 ? 0 : in_service & 0xf0, tpr = (u8)peek(lapic->tpr);

    return (tpr & 0xf0) >= service_class ? tpr : service_class;
}

/* The vector that the processor would get from IRR; -1: none. */
static int lapic_deliverable(const struct lapic *lapic)
{
    int vector = lapic_software_enabled(lapic) ? bit_highest(lapic->irr) : -1;

    return vector >= 0 && (vector & 0xf0) > (lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

/* Whether the i8259 asks for this processor, by a pin or by a message. With the APIC off, LINT0 is the INTR pin. */
static bool lapic_extint(const struct lapic *lapic)
{
    if (!lapic_enabled(lapic))
        return peek(lapic->lint_level[0]);
    for (unsigned pin = 0; pin < 2; pin++) {
        u32 lvt = peek(lapic->lvt[LVT_LINT0 + pin]);

        if (peek(lapic->lint_level[pin]) && !(lvt & LVT_MASKED) && (lvt >> LVT_MODE_SHIFT & 7) == DM_EXTINT)
            return true;
    }
    return peek(lapic->extint_message);
}

static bool lapic_pending(const struct lapic *lapic)
{
    return lapic_deliverable(lapic) >= 0 || lapic_extint(lapic);
}

/*
 * Bring the level that the processor sees up to date. Of two threads in here, the one that lowers the level looks again
 * after it has done so; a raised level that is not true any more costs the processor one vain ack, which lowers it.
 */
static void lapic_update(struct lapic *lapic)
{
    if (!lapic_pending(lapic)) {
        lapic->cpu->interrupt(lapic->cpu_opaque, false);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (!lapic_pending(lapic))
            return;
    }
    lapic->cpu->interrupt(lapic->cpu_opaque, true);
}

/* ---- Acceptance ---- */

static void lapic_post(struct lapic *lapic, u8 vector, bool level)
{
    if (level)
        bit_set(lapic->tmr, vector);
    else
        bit_clear(lapic->tmr, vector);
    bit_set(lapic->irr, vector);
    lapic_update(lapic);
}

/* An error of the kind `bit` (SDM 3A 11.5.3). */
static void lapic_error(struct lapic *lapic, u32 bit)
{
    u32 lvt = peek(lapic->lvt[LVT_ERROR]);

    if (__atomic_fetch_or(&lapic->esr_pending, bit, __ATOMIC_SEQ_CST) & bit)
        return;
    if (lapic_software_enabled(lapic) && !(lvt & LVT_MASKED) && (u8)lvt >= 16)
        lapic_post(lapic, (u8)lvt, false);
}

/* A message of this delivery mode has come to this APIC, from the bus or from its own LVT. */
static void lapic_accept(struct lapic *lapic, unsigned mode, u8 vector, bool level)
{
    if (!lapic_enabled(lapic))
        return;
    switch (mode) {
    case DM_FIXED:
    case DM_LOWEST:
        if (!lapic_software_enabled(lapic))
            break;
        if (vector < 16)
            lapic_error(lapic, ESR_RECEIVE_ILLEGAL);
        else
            lapic_post(lapic, vector, level);
        break;
    case DM_SMI: lapic->cpu->smi(lapic->cpu_opaque); break;
    case DM_NMI: lapic->cpu->nmi(lapic->cpu_opaque); break;
    case DM_INIT: lapic->cpu->init(lapic->cpu_opaque); break;
    case DM_SIPI: lapic->cpu->sipi(lapic->cpu_opaque, vector); break;
    case DM_EXTINT:
        if (lapic_software_enabled(lapic)) {
            poke(lapic->extint_message, true);
            lapic_update(lapic);
        }
        break;
    }
}

/* ---- The bus ---- */

/*
 * Whether a message is for this APIC (SDM 3A 11.6.2). `wide`: `dest` has 32 bits (an x2APIC's ICR), otherwise 8.
 */
static bool lapic_matches(const struct lapic *lapic, u32 dest, bool logical, bool wide)
{
    u32 ldr = peek(lapic->ldr);

    if (dest == (wide ? 0xffffffffu : 0xffu))
        return true;
    if (!logical)
        return dest == lapic->id;
    if (lapic_x2apic(lapic))
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    if (dest > 0xff)
        return false;
    if (peek(lapic->dfr) >> 28 == 0xf) /* flat model */
        return dest & ldr >> 24;
    return dest >> 4 == ldr >> 28 && (dest & ldr >> 24 & 0xf);
}

/* Of the processors that match, the one that does the least important work takes it; of equals, that of the lowest ID. */
static void bus_deliver_lowest(struct lapic_bus *bus, u32 dest, bool logical, bool wide, u8 vector,
                               bool level)
{
    struct lapic *best = NULL;

    for (unsigned i = 0; i < LAPIC_MAX; i++) {
        struct lapic *lapic = bus->apics[i];

        if (lapic && lapic_software_enabled(lapic) && lapic_matches(lapic, dest, logical, wide) &&
            (!best || lapic_ppr(lapic) < lapic_ppr(best)))
            best = lapic;
    }
    if (best)
        lapic_accept(best, DM_LOWEST, vector, level);
}

static void bus_deliver(struct lapic_bus *bus, u32 dest, bool logical, bool wide, unsigned mode, u8 vector,
                        bool level)
{
    if (mode == DM_LOWEST) {
        bus_deliver_lowest(bus, dest, logical, wide, vector, level);
        return;
    }
    for (unsigned i = 0; i < LAPIC_MAX; i++)
        if (bus->apics[i] && lapic_matches(bus->apics[i], dest, logical, wide))
            lapic_accept(bus->apics[i], mode, vector, level);
}

/* SDM 3A 11.11. */
void lapic_bus_msi(void *opaque, u64 address, u32 data)
{
    bool logical = address >> 2 & 1, redirect = address >> 3 & 1;
    unsigned mode = data >> 8 & 7;

    if (address >> 20 != 0xfee)
        return;
    if (redirect && mode == DM_FIXED)
        mode = DM_LOWEST;
    bus_deliver(opaque, address >> 12 & 0xff, logical, false, mode, (u8)data, data >> 15 & 1);
}

/* ---- IPIs (SDM 3A 11.6) ---- */

static void lapic_send(struct lapic *lapic, u32 low, u32 dest)
{
    unsigned mode = low >> 8 & 7;
    unsigned to = low >> ICR_SHORTHAND_SHIFT & 3;
    u8 vector = (u8)low;

    if (mode == DM_RESERVED || mode == DM_EXTINT)
        return;
    if (mode == DM_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
        return; /* INIT level de-assert: nothing on processors since the Pentium 4 */
    if (mode <= DM_LOWEST && vector < 16) {
        lapic_error(lapic, ESR_SEND_ILLEGAL);
        return;
    }
    if (to == TO_DEST) {
        bus_deliver(lapic->bus, dest, low & ICR_LOGICAL, lapic_x2apic(lapic), mode, vector, false);
        return;
    }
    if (to != TO_OTHERS && mode != DM_FIXED) {
        log_info("%u: ICR %08x: not a valid combination (SDM 3A table 11-3)", lapic->id, low);
        return;
    }
    for (unsigned i = 0; i < LAPIC_MAX; i++) {
        struct lapic *target = lapic->bus->apics[i];

        if (target && (target == lapic ? to != TO_OTHERS : to != TO_SELF))
            lapic_accept(target, mode, vector, false);
    }
}

/* ---- LINT pins ---- */

static void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
    u32 *lvt = &lapic->lvt[LVT_LINT0 + pin];
    unsigned mode = *lvt >> LVT_MODE_SHIFT & 7;
    bool rose = level && !lapic->lint_level[pin];

    poke(lapic->lint_level[pin], level);
    if (!lapic_enabled(lapic)) {
        if (pin == 1 && rose)
            lapic->cpu->nmi(lapic->cpu_opaque);
    } else if (mode == DM_FIXED && (*lvt & LVT_LEVEL)) {
        if (level && !(*lvt & (LVT_MASKED | LVT_REMOTE_IRR))) {
            *lvt |= LVT_REMOTE_IRR;
            lapic_accept(lapic, mode, (u8)*lvt, true);
        }
    } else if (mode != DM_EXTINT && rose && !(*lvt & LVT_MASKED)) {
        lapic_accept(lapic, mode, (u8)*lvt, false);
    }
    lapic_update(lapic); /* ExtINT follows the pin */
}

static void bus_set_lint(void *opaque, unsigned pin, bool level)
{
    struct lapic_bus *bus = opaque;

    for (unsigned i = 0; i < LAPIC_MAX; i++)
        if (bus->apics[i])
            lapic_set_lint(bus->apics[i], pin, level);
}

struct irq_line lapic_bus_lint(struct lapic_bus *bus, unsigned pin)
{
    return (struct irq_line){.set = bus_set_lint, .opaque = bus, .n = pin};
}

/* ---- Timer (SDM 3A 11.5.4). Device lock held. ---- */

static unsigned lapic_timer_mode(const struct lapic *lapic)
{
    return lapic->lvt[LVT_TIMER] >> LVT_TIMER_SHIFT & 3;
}

/* Nanoseconds for one count: the bus clock is 1 GHz. Divide value 111b divides by 1, 000b by 2. */
static u64 lapic_timer_divisor(u32 divide)
{
    return 1u << (((divide & 3) | (divide >> 1 & 4)) + 1) % 8;
}

static u64 lapic_timer_period(const struct lapic *lapic)
{
    return lapic->initial_count * lapic_timer_divisor(lapic->divide);
}

static u32 lapic_current_count(const struct lapic *lapic)
{
    u64 divisor = lapic_timer_divisor(lapic->divide), now = timer_now(&lapic->timer), left;

    if (!lapic->timer.armed || lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return 0;
    if (lapic->timer.deadline_ns > now)
        left = lapic->timer.deadline_ns - now;
    else if (lapic_timer_mode(lapic) == TIMER_PERIODIC && lapic->initial_count)
        left = lapic_timer_period(lapic) -
               (now - lapic->timer.deadline_ns) % lapic_timer_period(lapic); /* it fires late */
    else
        left = 0;
    return (u32)((left + divisor - 1) / divisor);
}

static void lapic_timer_set_count(struct lapic *lapic, u32 count)
{
    if (lapic_timer_mode(lapic) == TIMER_TSC_DEADLINE)
        return;
    lapic->initial_count = count;
    if (count)
        timer_arm(&lapic->timer, timer_now(&lapic->timer) + lapic_timer_period(lapic));
    else
        timer_disarm(&lapic->timer);
}

/* The count that is left runs on at the new speed. */
static void lapic_timer_set_divide(struct lapic *lapic, u32 divide)
{
    u64 left = lapic_current_count(lapic);

    lapic->divide = divide & 0xb;
    if (lapic->timer.armed && lapic_timer_mode(lapic) != TIMER_TSC_DEADLINE)
        timer_arm(&lapic->timer, timer_now(&lapic->timer) + left * lapic_timer_divisor(divide));
}

static void lapic_timer_set_lvt(struct lapic *lapic, u32 lvt)
{
    unsigned before = lapic_timer_mode(lapic);
    unsigned after;

    poke(lapic->lvt[LVT_TIMER], lvt);
    after = lapic_timer_mode(lapic);
    if (before != after && (before == TIMER_TSC_DEADLINE || after == TIMER_TSC_DEADLINE)) {
        lapic->tsc_deadline = 0;
        lapic->initial_count = 0;
        timer_disarm(&lapic->timer);
    }
}

static void lapic_timer_set_deadline(struct lapic *lapic, u64 tsc)
{
    if (lapic_timer_mode(lapic) != TIMER_TSC_DEADLINE)
        return;
    lapic->tsc_deadline = tsc;
    if (tsc)
        timer_arm(&lapic->timer, lapic->cpu->tsc_to_ns(lapic->cpu_opaque, tsc));
    else
        timer_disarm(&lapic->timer);
}

static void lapic_timer_fire(void *opaque)
{
    struct lapic *lapic = opaque;
    u64 period = lapic_timer_period(lapic), now = timer_now(&lapic->timer);

    if (lapic_timer_mode(lapic) == TIMER_PERIODIC && period) {
        u64 next = lapic->timer.deadline_ns + period;

        /* Ticks that were missed altogether are lost, as they are while an interrupt waits in IRR. */
        timer_arm(&lapic->timer, next > now ? next : now + period - (now - next) % period);
    }
    lapic->tsc_deadline = 0;
    if (!(lapic->lvt[LVT_TIMER] & LVT_MASKED))
        lapic_accept(lapic, DM_FIXED, (u8)lapic->lvt[LVT_TIMER], false);
}

/* ---- Registers ---- */

/* Without the ID, the base and the timer's callback: power-up, INIT and global disable (SDM 3A 11.4.7). */
static void lapic_reset_registers(struct lapic *lapic)
{
    poke(lapic->tpr, 0);
    poke(lapic->dfr, 0xffffffff);
    poke(lapic->ldr, 0);
    poke(lapic->svr, 0xff);
    lapic->esr = lapic->esr_pending = 0;
    lapic->icr_low = lapic->icr_high = 0;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        poke(lapic->lvt[i], LVT_MASKED);
    lapic->divide = lapic->initial_count = 0;
    memset(lapic->isr, 0, sizeof(lapic->isr));
    memset(lapic->irr, 0, sizeof(lapic->irr));
    memset(lapic->tmr, 0, sizeof(lapic->tmr));
    poke(lapic->extint_message, false);
    lapic->tsc_deadline = 0;
    timer_disarm(&lapic->timer);
    if (lapic_x2apic(lapic))
        poke(lapic->ldr, lapic->id >> 4 << 16 | 1u << (lapic->id & 15));
    lapic_update(lapic);
}

static void lapic_eoi(struct lapic *lapic)
{
    int vector = bit_highest(lapic->isr);

    if (vector < 0)
        return;
    bit_clear(lapic->isr, vector);
    if (bit_get(lapic->tmr, vector)) {
        lapic_lock(lapic);
        for (unsigned pin = 0; pin < 2; pin++) {
            u32 *lvt = &lapic->lvt[LVT_LINT0 + pin];

            if ((*lvt & LVT_REMOTE_IRR) && (u8)*lvt == vector) {
                *lvt &= ~(u32)LVT_REMOTE_IRR;
                lapic_set_lint(lapic, pin, lapic->lint_level[pin]);
            }
        }
        if (!(lapic->svr & SVR_NO_EOI_BROADCAST) && lapic->bus->eoi)
            lapic->bus->eoi(lapic->bus->eoi_opaque, vector);
        lapic_unlock(lapic);
    }
    lapic_update(lapic);
}

static void lapic_write_lvt(struct lapic *lapic, unsigned n, u32 value)
{
    value &= lvt_writable[n];
    if (!(lapic->svr & SVR_ENABLE))
        value |= LVT_MASKED; /* SDM 3A 11.4.7.2 */
    lapic_lock(lapic);
    if (n == LVT_TIMER) {
        lapic_timer_set_lvt(lapic, value);
    } else {
        if (value & LVT_LEVEL)
            value |= lapic->lvt[n] & LVT_REMOTE_IRR;
        poke(lapic->lvt[n], value);
        if (n == LVT_LINT0 || n == LVT_LINT1)
            lapic_set_lint(lapic, n - LVT_LINT0, lapic->lint_level[n - LVT_LINT0]);
    }
    lapic_unlock(lapic);
}

static void lapic_write_svr(struct lapic *lapic, u32 value)
{
    lapic_lock(lapic);
    poke(lapic->svr, value & lapic_regs[REG_SVR].valid);
    if (!(value & SVR_ENABLE))
        for (unsigned i = 0; i < LAPIC_LVTS; i++)
            poke(lapic->lvt[i], lapic->lvt[i] | LVT_MASKED);
    lapic_unlock(lapic);
    lapic_update(lapic);
}

static u32 lapic_read(struct lapic *lapic, unsigned reg)
{
    u32 count;

    switch (reg) {
    case REG_ID: return lapic_x2apic(lapic) ? lapic->id : lapic->id << 24;
    case REG_VERSION: return VERSION;
    case REG_TPR: return lapic->tpr;
    case REG_APR:
    case REG_PPR: return lapic_ppr(lapic);
    case REG_LDR: return lapic->ldr;
    case REG_DFR: return lapic->dfr;
    case REG_SVR: return lapic->svr;
    case REG_ISR ... REG_ISR + 7: return lapic->isr[reg - REG_ISR];
    case REG_TMR ... REG_TMR + 7: return __atomic_load_n(&lapic->tmr[reg - REG_TMR], __ATOMIC_SEQ_CST);
    case REG_IRR ... REG_IRR + 7: return __atomic_load_n(&lapic->irr[reg - REG_IRR], __ATOMIC_SEQ_CST);
    case REG_ESR: return lapic->esr;
    case REG_ICR_LOW: return lapic->icr_low;
    case REG_ICR_HIGH: return lapic->icr_high;
    case REG_LVT ... REG_LVT + LAPIC_LVTS - 1: return lapic->lvt[reg - REG_LVT];
    case REG_INITIAL_COUNT: return lapic->initial_count;
    case REG_CURRENT_COUNT:
        lapic_lock(lapic);
        count = lapic_current_count(lapic);
        lapic_unlock(lapic);
        return count;
    case REG_DIVIDE: return lapic->divide;
    }
    return 0;
}

static void lapic_write(struct lapic *lapic, unsigned reg, u32 value)
{
    switch (reg) {
    case REG_TPR:
        poke(lapic->tpr, value & 0xff);
        lapic_update(lapic);
        break;
    case REG_EOI: lapic_eoi(lapic); break;
    case REG_LDR: poke(lapic->ldr, value & 0xff000000); break;
    case REG_DFR: poke(lapic->dfr, value | 0x0fffffff); break;
    case REG_SVR: lapic_write_svr(lapic, value); break;
    case REG_ESR: lapic->esr = __atomic_exchange_n(&lapic->esr_pending, 0, __ATOMIC_SEQ_CST); break;
    case REG_ICR_LOW:
        lapic->icr_low = value & ICR_WRITABLE;
        lapic_send(lapic, lapic->icr_low, lapic_x2apic(lapic) ? lapic->icr_high : lapic->icr_high >> 24);
        break;
    case REG_ICR_HIGH: lapic->icr_high = value & 0xff000000; break;
    case REG_LVT ... REG_LVT + LAPIC_LVTS - 1: lapic_write_lvt(lapic, reg - REG_LVT, value); break;
    case REG_INITIAL_COUNT:
        lapic_lock(lapic);
        lapic_timer_set_count(lapic, value);
        lapic_unlock(lapic);
        break;
    case REG_DIVIDE:
        lapic_lock(lapic);
        lapic_timer_set_divide(lapic, value);
        lapic_unlock(lapic);
        break;
    case REG_SELF_IPI: lapic_send(lapic, TO_SELF << ICR_SHORTHAND_SHIFT | (value & 0xff), 0); break;
    }
}

/*
 * xAPIC page. Registers are 32 bits on 16-byte boundaries and want 32-bit accesses (SDM 3A 11.4.1); a part of one can be
 * read, a part of one cannot be written, and the gaps hold nothing.
 */
static u64 lapic_mmio_read(void *opaque, u32 offset, unsigned size)
{
    struct lapic *lapic = opaque;
    unsigned reg = offset >> 4, in_reg = offset & 15;

    if (reg >= REG_COUNT || !(lapic_regs[reg].access & XR)) {
        lapic_error(lapic, ESR_REGISTER);
        return 0;
    }
    if (in_reg >= 4)
        return 0;
    return (u64)lapic_read(lapic, reg) >> 8 * in_reg & (size >= 4 ? ~(u64)0 : ((u64)1 << 8 * size) - 1);
}

static void lapic_mmio_write(void *opaque, u32 offset, unsigned size, u64 value)
{
    struct lapic *lapic = opaque;
    unsigned reg = offset >> 4;

    if ((offset & 15) || size < 4)
        return;
    if (reg < REG_COUNT && (lapic_regs[reg].access & XW))
        lapic_write(lapic, reg, (u32)value);
    else if (reg >= REG_COUNT || !(lapic_regs[reg].access & XR))
        lapic_error(lapic, ESR_REGISTER);
}

static bool lapic_msr_read(void *opaque, u32 msr, u64 *value)
{
    struct lapic *lapic = opaque;
    unsigned reg = msr - MSR_X2APIC;

    if (msr == MSR_TSC_DEADLINE) {
        *value = lapic->tsc_deadline;
        return true;
    }
    if (!lapic_x2apic(lapic) || reg >= REG_COUNT || !(lapic_regs[reg].access & X2R))
        return false;
    *value = lapic_read(lapic, reg);
    if (reg == REG_ICR_LOW)
        *value |= (u64)lapic->icr_high << 32;
    return true;
}

static bool lapic_msr_write(void *opaque, u32 msr, u64 value)
{
    struct lapic *lapic = opaque;
    unsigned reg = msr - MSR_X2APIC;

    if (msr == MSR_TSC_DEADLINE) {
        lapic_lock(lapic);
        lapic_timer_set_deadline(lapic, value);
        lapic_unlock(lapic);
        return true;
    }
    if (!lapic_x2apic(lapic) || reg >= REG_COUNT || !(lapic_regs[reg].access & X2W) ||
        (value & ~lapic_regs[reg].valid))
        return false;
    if (reg == REG_ICR_LOW)
        lapic->icr_high = value >> 32;
    lapic_write(lapic, reg, (u32)value);
    return true;
}

/* ---- What the processor calls ---- */

static int lapic_ack(void *opaque)
{
    struct lapic *lapic = opaque;
    int vector = lapic_deliverable(lapic);

    if (vector >= 0) {
        bit_clear(lapic->irr, vector);
        bit_set(lapic->isr, vector);
    } else {
        lapic_lock(lapic);
        if (lapic_extint(lapic)) {
            poke(lapic->extint_message, false);
            if (lapic->bus->extint_ack)
                vector = lapic->bus->extint_ack(lapic->bus->extint_opaque);
        }
        lapic_unlock(lapic);
    }
    lapic_update(lapic);
    return vector;
}

static u8 lapic_get_tpr(void *opaque)
{
    return (u8)(((struct lapic *)opaque)->tpr >> 4);
}

static void lapic_set_tpr(void *opaque, u8 cr8)
{
    lapic_write(opaque, REG_TPR, (u32)cr8 << 4);
}

static u64 lapic_get_base(void *opaque)
{
    return ((struct lapic *)opaque)->base;
}

static void lapic_change_base(struct lapic *lapic, u64 base)
{
    poke(lapic->base, base);
    lapic->cpu->base_changed(lapic->cpu_opaque, base);
}

/* The mode may change along the arrows of SDM 3A figure 11-27 only. */
static bool lapic_set_base(void *opaque, u64 value)
{
    struct lapic *lapic = opaque;
    u64 mode = value & (APIC_BASE_EN | APIC_BASE_EXTD),
        before = lapic->base & (APIC_BASE_EN | APIC_BASE_EXTD);

    if ((value & (0xff | 1 << 9)) || value >> X86_PHYS_BITS || mode == APIC_BASE_EXTD)
        return false;
    if ((mode & APIC_BASE_EXTD) && !before)
        return false;
    if ((before & APIC_BASE_EXTD) && mode == APIC_BASE_EN)
        return false;
    lapic_change_base(lapic, value);
    if (mode == before)
        return true;
    if (mode == (APIC_BASE_EN | APIC_BASE_EXTD)) {
        poke(lapic->ldr, lapic->id >> 4 << 16 | 1u << (lapic->id & 15));
        lapic->icr_high = 0;
    } else {
        lapic_lock(lapic);
        lapic_reset_registers(lapic);
        lapic_unlock(lapic);
    }
    return true;
}

/* The base, and with it the mode, outlives an INIT (SDM 3A 11.12.5.1). */
static void lapic_init_signal(void *opaque)
{
    struct lapic *lapic = opaque;

    lapic_lock(lapic);
    lapic_reset_registers(lapic);
    lapic_unlock(lapic);
}

static void lapic_tsc_changed(void *opaque)
{
    struct lapic *lapic = opaque;

    lapic_lock(lapic);
    if (lapic->tsc_deadline)
        lapic_timer_set_deadline(lapic, lapic->tsc_deadline);
    lapic_unlock(lapic);
}

const struct vcpu_intc_ops lapic_intc_ops = {
    .ack = lapic_ack,
    .get_tpr = lapic_get_tpr,
    .set_tpr = lapic_set_tpr,
    .get_base = lapic_get_base,
    .set_base = lapic_set_base,
    .msr_read = lapic_msr_read,
    .msr_write = lapic_msr_write,
    .init = lapic_init_signal,
    .mmio_read = lapic_mmio_read,
    .mmio_write = lapic_mmio_write,
    .tsc_changed = lapic_tsc_changed,
};

/* ---- Life ---- */

void lapic_reset(struct lapic *lapic)
{
    lapic_change_base(lapic, LAPIC_DEFAULT_BASE | APIC_BASE_EN | (lapic->id == 0 ? APIC_BASE_BSP : 0));
    lapic->lint_level[0] = lapic->lint_level[1] = false;
    lapic_reset_registers(lapic);
}

void lapic_init(struct lapic *lapic, struct lapic_bus *bus, u32 id, struct timer_queue *timers,
                const struct lapic_cpu_ops *cpu, void *cpu_opaque)
{
    memset(lapic, 0, sizeof(*lapic));
    lapic->id = id;
    lapic->bus = bus;
    lapic->cpu = cpu;
    lapic->cpu_opaque = cpu_opaque;
    timer_init(&lapic->timer, timers, lapic_timer_fire, lapic);
    bus->apics[id] = lapic;
    lapic_reset(lapic);
}

static int lapic_post_load(void *object, struct error *err)
{
    struct lapic *lapic = object;

    if ((lapic->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EXTD || (lapic->base & 0xff) ||
        lapic->base >> X86_PHYS_BITS)
        return error_set(err, "local APIC %u: base %llx is not possible", lapic->id,
                         (unsigned long long)lapic->base);
    if (lapic->isr[0] & 0xffff || lapic->irr[0] & 0xffff)
        return error_set(err, "local APIC %u: holds a vector below 16", lapic->id);
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        if (lapic->lvt[i] & ~(lvt_writable[i] | LVT_REMOTE_IRR))
            return error_set(err, "local APIC %u: LVT entry %u is not possible", lapic->id, i);
    if (lapic->tpr > 0xff || (lapic->divide & ~0xbu) || (lapic->svr & ~lapic_regs[REG_SVR].valid))
        return error_set(err, "local APIC %u: a register has reserved bits set", lapic->id);
    lapic_change_base(lapic, lapic->base);
    lapic_update(lapic);
    return 0;
}

static const struct state_field lapic_fields[] = {
    STATE_FIELD(struct lapic, base, STATE_U64, 1),
    STATE_FIELD(struct lapic, tpr, STATE_U32, 1),
    STATE_FIELD(struct lapic, ldr, STATE_U32, 1),
    STATE_FIELD(struct lapic, dfr, STATE_U32, 1),
    STATE_FIELD(struct lapic, svr, STATE_U32, 1),
    STATE_FIELD(struct lapic, esr, STATE_U32, 1),
    STATE_FIELD(struct lapic, esr_pending, STATE_U32, 1),
    STATE_FIELD(struct lapic, icr_low, STATE_U32, 1),
    STATE_FIELD(struct lapic, icr_high, STATE_U32, 1),
    STATE_ARRAY(struct lapic, lvt, STATE_U32, 1),
    STATE_FIELD(struct lapic, divide, STATE_U32, 1),
    STATE_FIELD(struct lapic, initial_count, STATE_U32, 1),
    STATE_ARRAY(struct lapic, isr, STATE_U32, 1),
    STATE_ARRAY(struct lapic, tmr, STATE_U32, 1),
    STATE_ARRAY(struct lapic, irr, STATE_U32, 1),
    STATE_ARRAY(struct lapic, lint_level, STATE_BOOL, 1),
    STATE_FIELD(struct lapic, extint_message, STATE_BOOL, 1),
    STATE_FIELD(struct lapic, tsc_deadline, STATE_U64, 1),
    STATE_STRUCT(struct lapic, timer, &timer_state_table, 1),
    STATE_END,
};
const struct state_table lapic_state_table = {
    .name = "lapic",
    .version = 1,
    .size = sizeof(struct lapic),
    .fields = lapic_fields,
    .post_load = lapic_post_load,
};

/* ---- The device ---- */

struct lapic_device {
    struct device device;
    void *bus;
    u8 cpu;
    struct lapic lapic;
};

static void cpu_interrupt(void *opaque, bool pending)
{
    if (pending)
        vcpu_kick(opaque, KICK_INTERRUPT);
    else
        vcpu_unkick(opaque, KICK_INTERRUPT);
}

static void cpu_nmi(void *opaque)
{
    vcpu_nmi(opaque);
}
static void cpu_smi(void *opaque)
{
    vcpu_kick(opaque, KICK_SMI);
}
static void cpu_init(void *opaque)
{
    vcpu_init_signal(opaque);
}
static void cpu_sipi(void *opaque, u8 vector)
{
    vcpu_sipi(opaque, vector);
}

static void cpu_base_changed(void *opaque, u64 base)
{
    struct vcpu *vcpu = opaque;
    bool page = (base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EN;

    vcpu->intc_page = page ? base & ~(u64)0xfff : UINT64_MAX;
    vcpu->state.apic_base = base;
}

static void cpu_lock(void *opaque)
{
    vcpu_lock(opaque);
}
static void cpu_unlock(void *opaque)
{
    vcpu_unlock(opaque);
}

static u64 cpu_tsc_to_ns(void *opaque, u64 tsc)
{
    const struct vcpu *vcpu = opaque;
    const struct clock *clock = &vcpu->vm->clock;
    u64 now = clock_now(clock);
    u64 tsc_now = clock_tsc(clock, now) + vcpu->state.tsc_offset;
    u128 ns;

    if (tsc <= tsc_now)
        return 0;
    ns = ((u128)(tsc - tsc_now) * 1000000000 + clock->tsc_hz - 1) / clock->tsc_hz;
    return ns > UINT64_MAX - now ? UINT64_MAX : now + (u64)ns;
}

static const struct lapic_cpu_ops vcpu_ops = {
    .interrupt = cpu_interrupt,
    .nmi = cpu_nmi,
    .smi = cpu_smi,
    .init = cpu_init,
    .sipi = cpu_sipi,
    .base_changed = cpu_base_changed,
    .lock = cpu_lock,
    .unlock = cpu_unlock,
    .tsc_to_ns = cpu_tsc_to_ns,
};

static int lapic_device_attach(struct device *device, struct error *err)
{
    struct lapic_device *self = (struct lapic_device *)device;
    struct vcpu *vcpu;

    if (self->cpu >= device->vm->nvcpus || self->cpu >= LAPIC_MAX)
        return error_set(err, "%s: there is no vCPU %u", device->name, self->cpu);
    vcpu = device->vm->vcpus[self->cpu];
    lapic_init(&self->lapic, self->bus, self->cpu, &device->vm->timers, &vcpu_ops, vcpu);
    vcpu->intc = &lapic_intc_ops;
    vcpu->intc_opaque = &self->lapic;
    return 0;
}

static void lapic_device_reset(struct device *device)
{
    lapic_reset(&((struct lapic_device *)device)->lapic);
}

static const struct property lapic_properties[] = {
    {.name = "bus",
     .type = PROP_POINTER,
     .offset = offsetof(struct lapic_device, bus),
     .required = true,
     .help = "the bus between the local APICs"},
    {.name = "cpu",
     .type = PROP_U8,
     .offset = offsetof(struct lapic_device, cpu),
     .required = true,
     .help = "index of the vCPU, which is also the APIC ID"},
    {.name = NULL},
};

const struct device_class lapic_class = {
    .name = "lapic",
    .help = "local APIC of one vCPU: xAPIC and x2APIC",
    .size = sizeof(struct lapic_device),
    .properties = lapic_properties,
    .state = &lapic_state_table,
    .state_offset = offsetof(struct lapic_device, lapic),
    .attach = lapic_device_attach,
    .reset = lapic_device_reset,
};
