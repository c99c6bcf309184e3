/*
 * Waiting for a store or a time: MONITOR and MWAIT (run with --cpu +monitor), AMD's MONITORX and MWAITX, UMONITOR, UMWAIT
 * and TPAUSE. 64-bit. SDM 2 and APM 3, each by its name; SDM 3A 9.10.
 */
#include "guest.h"

enum { ERROR_U = 4, MSR_UMWAIT_CONTROL = 0xe1, VECTOR_TIMER = 0x20, PIC1 = 0x20, LINE = 64 };
extern u64 boot_pd[];
#define PAGE     ((ulong)TEST_AREA)
#define PAGE_END (PAGE + 0x200000)

#define CPU_MONITOR FEATURE(1, c, 3)
#define CPU_WAITPKG FEATURE(7, c, 5)
#define CPU_MWAITX  FEATURE(0x80000001, c, 29)

#define MONITOR  "monitor rax, ecx, edx\n"
#define MWAIT    "mwait eax, ecx\n"
#define MONITORX ".byte 0x0f, 0x01, 0xfa\n"
#define MWAITX   ".byte 0x0f, 0x01, 0xfb\n"
#define UMONITOR ".byte 0xf3, 0x0f, 0xae, 0xf6\n" /* rsi */
#define UMWAIT   ".byte 0xf2, 0x0f, 0xae, 0xf7\n" /* edi */
#define TPAUSE   ".byte 0x66, 0x0f, 0xae, 0xf7\n"

static volatile u32 *lapic(u32 offset)
{
    return (volatile u32 *)(0xfee00000ul + offset);
}

/* An interrupt of the 8254 in `ticks` of its clock (1.19 MHz), by way of the 8259 and LINT0. */
static void start_timer(u16 ticks)
{
    *lapic(0xf0) = 0x1ff;
    *lapic(0x350) = 0x700;
    outb(PIC1 + 1, 0xfe);
    outb(0x43, 0x30);
    outb(0x40, (u8)ticks);
    outb(0x40, ticks >> 8);
}

static void end_timer(void)
{
    outb(PIC1, 0x20);
    outb(PIC1 + 1, 0xff);
}

/* The same for one that was not taken: the 8259's poll command acknowledges it. */
static void drop_timer(void)
{
    outb(PIC1, 0x0c);
    inb(PIC1);
    end_timer();
}

static void wait_for_timer(void)
{
    outb(PIC1, 0x0a);
    while (!(inb(PIC1) & 1))
        ;
}

/* ---- MONITOR and MWAIT, and AMD's for everyone ---- */

struct pair {
    const char *monitor, *wait;
    struct code arm, rest, both, store, wrong;
    bool user; /* allowed at CPL 3 */
    u32 extensions;
};

static void pair_faults(const struct pair *p)
{
    for (unsigned user = 0; user < 2; user++) {
        bool allowed = !user || p->user;
        struct context c = user ? user_context(p->arm) : kernel_context(p->arm);

        c.ax = PAGE;
        c.cx = c.dx = 0;
        expect_trap(run(&c), allowed ? END : FAULT(UD, 0), "%s at CPL %u", p->monitor, 3 * user);
        if (allowed) {
            c.cx = 1;
            expect_trap(run(&c), FAULT(GP, 0), "%s at CPL %u with an extension", p->monitor, 3 * user);
            c.cx = 0;
            c.ax = PAGE_END;
            expect_trap(run(&c), FAULT(PF, user ? ERROR_U : 0), "%s of an absent page", p->monitor);
            c.ax = 1ull << 62;
            expect_trap(run(&c), FAULT(GP, 0), "%s of an address that is not canonical", p->monitor);
        }
        for (unsigned bit = 0; bit < 32; bit++) {
            c = user ? user_context(p->rest) : kernel_context(p->rest);
            c.ax = c.bx = c.dx = 0;
            c.cx = 1ul << bit;
            ++*(volatile u8 *)PAGE; /* if it waits, it has an end */
            expect_trap(run(&c),
                        !allowed                   ? FAULT(UD, 0)
                        : p->extensions >> bit & 1 ? END
                                                   : FAULT(GP, 0),
                        "%s at CPL %u, bit %u of ECX", p->wait, 3 * user, bit);
        }
    }
}

static void pair_waits(const struct pair *p)
{
    struct context c = kernel_context(p->rest);
    const struct trap *trap;

    c.ax = c.cx = c.dx = 0;
    expect_trap(run(&c), END, "%s without %s", p->wait, p->monitor);
    c = kernel_context(p->store);
    c.ax = c.si = PAGE;
    c.cx = c.dx = 0;
    expect_trap(run(&c), END, "a store between them");
    /* An interrupt comes after the wait. */
    c = kernel_context(p->both);
    c.ax = PAGE;
    c.cx = c.dx = 0;
    c.flags |= FLAG_IF;
    start_timer(5000);
    trap = run(&c);
    expect_trap(trap, FAULT_AT(VECTOR_TIMER, 0, 6), "an interrupt");
    end_timer();
    /* With ECX bit 0 also a masked one ends it, and is not taken. */
    c = kernel_context(p->wrong); /* sets ECX between the two */
    c.ax = PAGE;
    c.cx = c.dx = 0;
    start_timer(5000);
    expect_trap(run(&c), END, "a masked interrupt");
    wait_for_timer();
    drop_timer();
    /* One that waits already is no reason to wait. */
    start_timer(20);
    wait_for_timer();
    expect_trap(run(&c), END, "a masked interrupt that is there already");
    drop_timer();
}

static void monitor_and_mwait(void)
{
    struct pair intel = {"MONITOR",
                         "MWAIT",
                         CODE64(MONITOR),
                         CODE64(MWAIT),
                         CODE64(MONITOR MWAIT "nop"),
                         CODE64(MONITOR "inc byte ptr [rsi + 63]\n" MWAIT),
                         CODE64(MONITOR "mov ecx, 1\n" MWAIT),
                         false,
                         1};
    struct pair amd = {"MONITORX",
                       "MWAITX",
                       CODE64(MONITORX),
                       CODE64(MWAITX),
                       CODE64(MONITORX MWAITX "nop"),
                       CODE64(MONITORX "inc byte ptr [rsi + 63]\n" MWAITX),
                       CODE64(MONITORX "mov ecx, 1\n" MWAITX),
                       true,
                       3};

    if (!cpu_has(CPU_MONITOR)) {
        skip_group("MONITOR and MWAIT", "the processor has none");
    } else {
        group("MONITOR and MWAIT");
        expect_equal(cpuid(5, 0).a, LINE, "CPUID 5: smallest line");
        expect_equal(cpuid(5, 0).b, LINE, "CPUID 5: largest line");
        expect_equal(cpuid(5, 0).c & 3, 3, "CPUID 5: masked interrupts");
        pair_faults(&intel);
        pair_waits(&intel);
    }
    if (!cpu_has(CPU_MWAITX)) {
        skip_group("MONITORX and MWAITX", "the processor has none");
        return;
    }
    group("MONITORX and MWAITX");
    pair_faults(&amd);
    pair_waits(&amd);
    struct context c = user_context(CODE64(MONITORX "mov ecx, 2\n" MWAITX));
    u64 before = rdtsc();
    c.ax = PAGE;
    c.cx = c.dx = 0;
    c.bx = 500000;
    expect_trap(run(&c), END, "a timer");
    expect_true(rdtsc() - before >= 500000, "a timer: EBX ticks");
}

/* ---- UMONITOR, UMWAIT, TPAUSE ---- */

enum { STATUS = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF };

static struct context timed_context(struct code code, u64 deadline)
{
    struct context c = user_context(code);

    c.si = PAGE;
    c.di = 0;
    c.ax = (u32)deadline | 0xabc00000000;
    c.dx = deadline >> 32 | 0xabc00000000;
    c.flags |= STATUS;
    return c;
}

static void user_waits(void)
{
    struct {
        const char *name;
        struct code code;
        bool waits; /* by itself */
    } rows[] = {
        {"TPAUSE", CODE64(TPAUSE), true},
        {"UMWAIT without UMONITOR", CODE64(UMWAIT), false},
        {"UMONITOR and UMWAIT", CODE64(UMONITOR UMWAIT), true},
        {"UMONITOR, a store, UMWAIT", CODE64(UMONITOR "inc byte ptr [rsi]\n" UMWAIT), false},
    };
    ulong cr4 = read_cr4();
    const struct trap *trap;
    struct context c;

    if (!cpu_has(CPU_WAITPKG)) {
        skip_group("UMONITOR, UMWAIT and TPAUSE", "the processor has none");
        return;
    }
    group("UMONITOR, UMWAIT and TPAUSE");
    wrmsr(MSR_UMWAIT_CONTROL, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        u64 start = rdtsc(), length = 400000;

        c = timed_context(rows[i].code, start + length);
        trap = run(&c);
        expect_trap(trap, END, "%s", rows[i].name);
        if (i != 3) /* INC has its own */
            expect_equal(trap->at.flags & STATUS, 0, "%s: flags", rows[i].name);
        if (rows[i].waits)
            expect_true(rdtsc() - start >= length, "%s: until then", rows[i].name);
        c = timed_context(rows[i].code, 0);
        expect_trap(run(&c), END, "%s, for a time that has passed", rows[i].name);
        /* The system's limit: CF tells. */
        wrmsr(MSR_UMWAIT_CONTROL, 100000 & ~3u);
        start = rdtsc();
        c = timed_context(rows[i].code, start + (1ull << 50));
        trap = run(&c);
        expect_trap(trap, END, "%s, with a limit", rows[i].name);
        expect_equal(trap->at.flags & FLAG_CF, rows[i].waits ? FLAG_CF : 0, "%s, with a limit: CF",
                     rows[i].name);
        if (rows[i].waits)
            expect_true(rdtsc() - start >= 100000, "%s, with a limit: until then", rows[i].name);
        start = rdtsc();
        c = timed_context(rows[i].code, start + 1000);
        trap = run(&c);
        expect_equal(trap->at.flags & FLAG_CF, 0, "%s, with a limit that is not reached: CF", rows[i].name);
        wrmsr(MSR_UMWAIT_CONTROL, 0);
        /* An interrupt. */
        if (rows[i].waits) {
            start_timer(1000);
            c = timed_context(rows[i].code, start + (1ull << 50));
            c.flags |= FLAG_IF;
            expect_equal(run(&c)->vector, VECTOR_TIMER, "%s, with an interrupt", rows[i].name);
            end_timer();
        }
        if (i == 3)
            continue;
        for (unsigned bit = 1; bit < 64; bit++) {
            c = timed_context(rows[i].code, 0);
            c.di = 1ul << bit;
            expect_trap(run(&c), bit < 32 ? FAULT_AT(GP, 0, i == 2 ? 4 : 0) : END,
                        "%s, bit %u of the operand", rows[i].name, bit);
        }
        for (unsigned user = 0; user < 2; user++) {
            c = timed_context(rows[i].code, 0);
            if (!user) {
                c.cs = SEL_KCODE;
                c.ss = SEL_KDATA;
            }
            write_cr4(cr4 | CR4_TSD);
            expect_trap(run(&c), user ? FAULT_AT(GP, 0, i == 2 ? 4 : 0) : END, "%s at CPL %u with CR4.TSD",
                        rows[i].name, 3 * user);
            write_cr4(cr4);
        }
    }
    c = user_context(CODE64(UMONITOR));
    c.si = PAGE_END;
    expect_trap(run(&c), FAULT(PF, ERROR_U), "UMONITOR of an absent page");
    c.si = 1ull << 62;
    expect_trap(run(&c), FAULT(GP, 0), "UMONITOR of an address that is not canonical");
    c = user_context(CODE64(".byte 0x67\n" UMONITOR));
    c.si = PAGE | 1ull << 62;
    expect_trap(run(&c), END, "UMONITOR of a 32-bit address");
    for (unsigned bit = 0; bit < 64; bit++) {
        bool good = bit < 32 && bit != 1;

        c = kernel_context(CODE64("wrmsr"));
        c.cx = MSR_UMWAIT_CONTROL;
        c.ax = bit < 32 ? 1ul << bit : 0;
        c.dx = bit < 32 ? 0 : 1ul << (bit - 32);
        expect_trap(run(&c), good ? END : FAULT(GP, 0), "IA32_UMWAIT_CONTROL, bit %u", bit);
        if (good)
            expect_equal(rdmsr(MSR_UMWAIT_CONTROL), 1ul << bit, "IA32_UMWAIT_CONTROL, bit %u", bit);
    }
    wrmsr(MSR_UMWAIT_CONTROL, 0);
}

void test(void)
{
    boot_pd[PAGE_END >> 21] = 0;
    invlpg(PAGE_END);
    monitor_and_mwait();
    user_waits();
}
