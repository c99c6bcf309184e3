/*
 * Interrupt controllers: the local APIC in both modes, its timer, priorities, interprocessor interrupts and the start of a
 * second processor, the I/O APIC with PIT and RTC, the 8259s behind LINT0, the HPET. SDM 3A chapter 11 (10 in older
 * editions); the 82093AA's and the IA-PC HPET's data sheets. Run with two processors.
 */
#include "guest.h"

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_ERROR = 0x370,
    TIMER_INITIAL = 0x380,
    TIMER_CURRENT = 0x390,
    TIMER_DIVIDE = 0x3e0,
    MASKED = 1 << 16,
    PERIODIC = 1 << 17,
    DEADLINE = 2 << 17,
    /* ICR */
    LOWEST = 1 << 8,
    DELIVER_NMI = 4 << 8,
    DELIVER_INIT = 5 << 8,
    DELIVER_SIPI = 6 << 8,
    LOGICAL = 1 << 11,
    PENDING = 1 << 12,
    ASSERT = 1 << 14,
    TO_SELF = 1 << 18,
    TO_ALL = 2 << 18,
    TO_OTHERS = 3 << 18,
    /* IA32_APIC_BASE */
    BASE_BSP = 1 << 8,
    BASE_EXTD = 1 << 10,
    BASE_EN = 1 << 11,
    MSR_X2APIC = 0x800,
    PIC1 = 0x20,
    PIC2 = 0xa0,
};

static u32 lapic_read(u32 offset)
{
    return *(volatile u32 *)(0xfee00000u + offset);
}

static void lapic_write(u32 offset, u32 value)
{
    *(volatile u32 *)(0xfee00000u + offset) = value;
}

static bool vector_bit(u32 offset, unsigned vector)
{
    return lapic_read(offset + (vector / 32 << 4)) >> vector % 32 & 1;
}

/* ICR of this processor, by memory. */
static void send(u32 destination, u32 low)
{
    lapic_write(ICR_HIGH, destination << 24);
    lapic_write(ICR, low);
    while (lapic_read(ICR) & PENDING)
        ;
}

/* The vector that comes when interrupts are let in for an instruction, or VECTOR_END: none waits. */
static int waiting(void)
{
    struct context c = kernel_context(CODE32("sti\n nop\n nop\n cli"));

    return run(&c)->vector;
}

/* Halt until an interrupt. */
static int await(void)
{
    struct context c = kernel_context(CODE32("sti\n 1: hlt\n jmp 1b"));

    return run(&c)->vector;
}

static void eoi(void)
{
    lapic_write(EOI, 0);
}

static void enable(void)
{
    wrmsr(MSR_APIC_BASE, (rdmsr(MSR_APIC_BASE) & ~(u64)BASE_EXTD) | BASE_EN);
    lapic_write(SVR, 0x1ff);
    lapic_write(TPR, 0);
    lapic_write(DFR, 0xffffffff);
    lapic_write(LDR, 1 << 24);
    lapic_write(LVT_TIMER, MASKED);
    lapic_write(LVT_LINT0, MASKED);
    lapic_write(LVT_ERROR, MASKED);
    lapic_write(TIMER_INITIAL, 0);
}

/* ---- Registers ---- */

static void registers(void)
{
    static const struct {
        const char *name;
        u32 offset, write, read;
    } rows[] = {
        {"TPR", TPR, 0xffffffff, 0xff},
        {"TPR", TPR, 0, 0},
        {"LDR", LDR, 0xffffffff, 0xff000000},
        {"LDR", LDR, 0x01234567, 0x01000000},
        {"DFR", DFR, 0, 0x0fffffff},
        {"DFR", DFR, 0xffffffff, 0xffffffff},
        {"LVT timer", LVT_TIMER, MASKED | 0xff, MASKED | 0xff},
        {"LVT timer, periodic", LVT_TIMER, MASKED | PERIODIC | 0x40, MASKED | PERIODIC | 0x40},
        {"LVT LINT0", LVT_LINT0, MASKED | 0xa7ff, MASKED | 0xa7ff},
        {"LVT error", LVT_ERROR, 0xfffeff55 | MASKED, MASKED | 0x55},
        {"divide", TIMER_DIVIDE, 0xffffffff, 0xb},
        {"divide", TIMER_DIVIDE, 0, 0},
        {"ICR high", ICR_HIGH, 0x12345678, 0x12000000},
    };
    u64 base = rdmsr(MSR_APIC_BASE);

    group("local APIC: registers");
    enable();
    expect_equal(base & 0xfffff000, 0xfee00000, "base");
    expect_equal(base & (BASE_BSP | BASE_EN), BASE_BSP | BASE_EN, "BSP and enable flags");
    expect_true((lapic_read(VERSION) & 0xf0) == 0x10, "version is 1xh");
    expect_true((lapic_read(VERSION) >> 16 & 0xff) >= 5, "six LVT entries or more");
    expect_equal(lapic_read(ID) >> 24, cpuid(1, 0).b >> 24, "the ID is CPUID's");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        lapic_write(rows[i].offset, rows[i].write);
        expect_equal(lapic_read(rows[i].offset), rows[i].read, "%s of %x", rows[i].name, rows[i].write);
    }
    enable();
    /* While software-disabled all LVT entries are masked. */
    lapic_write(LVT_TIMER, 0x40);
    lapic_write(SVR, 0xff);
    expect_equal(lapic_read(LVT_TIMER), MASKED | 0x40, "disabling masks the LVT");
    lapic_write(LVT_TIMER, 0x40);
    expect_equal(lapic_read(LVT_TIMER), MASKED | 0x40, "and the mask cannot be cleared");
    enable();
    for (unsigned i = 0; i < 8; i++)
        expect_equal(lapic_read(ISR + 16 * i) | lapic_read(IRR + 16 * i), 0,
                     "nothing in service or requested, %u", i);
}

/* ---- Priorities: SDM 3A 11.8.3, 11.8.4 ---- */

static void priorities(void)
{
    group("local APIC: priorities");
    enable();
    send(0, TO_SELF | 0x41);
    expect_equal(vector_bit(IRR, 0x41), 1, "a self IPI waits in IRR");
    expect_equal(waiting(), 0x41, "and comes");
    expect_equal(vector_bit(IRR, 0x41), 0, "then it is not in IRR");
    expect_equal(vector_bit(ISR, 0x41), 1, "but in ISR");
    expect_equal(lapic_read(PPR), 0x40, "PPR is its class");
    send(0, TO_SELF | 0x45);
    expect_equal(waiting(), VECTOR_END, "the same class waits");
    send(0, TO_SELF | 0x52);
    expect_equal(waiting(), 0x52, "a higher class does not");
    expect_equal(lapic_read(PPR), 0x50, "PPR is the highest class in service");
    eoi();
    expect_equal(vector_bit(ISR, 0x52), 0, "EOI ends the highest");
    expect_equal(vector_bit(ISR, 0x41), 1, "and only that");
    expect_equal(waiting(), VECTOR_END, "the lower one still holds its class back");
    eoi();
    expect_equal(waiting(), 0x45, "what waited comes after EOI");
    eoi();
    expect_equal(lapic_read(PPR), 0, "PPR is 0 again");
    eoi(); /* one too many does nothing */
    for (unsigned vector = 0x31; vector < 0xf0; vector += 0x20)
        send(0, TO_SELF | vector);
    for (unsigned vector = 0xd1; vector >= 0x31; vector -= 0x20) {
        expect_equal((u64)waiting(), vector, "highest first: %x", vector);
        eoi();
    }
    send(0, TO_SELF | 0x61);
    send(0, TO_SELF | 0x61);
    expect_equal(waiting(), 0x61, "two of a kind: the first");
    eoi();
    expect_equal(waiting(), VECTOR_END, "and no second");
    for (unsigned tpr = 0; tpr < 0x100; tpr += 0x11) {
        bool held = 0x7 <= tpr >> 4;

        lapic_write(TPR, tpr);
        send(0, TO_SELF | 0x75);
        expect_equal(lapic_read(PPR), tpr, "PPR is TPR, %x", tpr);
        expect_equal((u64)waiting(), held ? VECTOR_END : 0x75u, "vector 75h with TPR %x", tpr);
        lapic_write(TPR, 0);
        if (held)
            expect_equal(waiting(), 0x75, "held back by TPR %x, it comes when TPR falls", tpr);
        eoi();
    }
    /* Illegal vectors. */
    lapic_write(ESR, 0);
    lapic_write(ESR, 0);
    send(0, TO_SELF | 0x0f);
    lapic_write(ESR, 0);
    expect_true(lapic_read(ESR) & 0x60, "ESR tells of an illegal vector");
    expect_equal(waiting(), VECTOR_END, "which does not come");
    lapic_write(ESR, 0);
    expect_equal(lapic_read(ESR), 0, "ESR is empty after a second write");
    lapic_write(LVT_ERROR, 0x3e);
    send(0, TO_SELF | 0x05);
    expect_equal(waiting(), 0x3e, "the error interrupt");
    eoi();
    enable();
}

/* NMI goes by IF, and waits for IRET after another: SDM 3A 6.7.1. */
static void nmi(void)
{
    struct context c =
        kernel_context(CODE32("mov dword ptr [0xfee00310], edx\n mov dword ptr [0xfee00300], 0x4400\n"
                              "1: pause\n loop 1b"));
    const struct trap *trap;

    group("NMI");
    c.dx = lapic_read(ID);
    c.cx = 100000;
    trap = run(&c);
    expect_equal(trap->vector, NMI, "an NMI by ICR, with IF clear");
    lapic_write(ICR, DELIVER_NMI | ASSERT); /* the handler is still running: it has to wait */
    for (volatile int i = 0; i < 1000; i++)
        ;
    c = kernel_context(CODE32("nop\n nop"));
    trap = run(&c);
    expect_equal(trap->vector, NMI, "a second one comes after IRET");
    expect_equal(trap->at.ip, CODE_AREA, "before anything else");
    trap = run(&c);
    expect_equal(trap->vector, VECTOR_END, "and there is no third");
    expect_equal(lapic_read(ISR), 0, "NMI is not in ISR");
}

/* ---- Timer: SDM 3A 11.5.4 ---- */

static void timer(void)
{
    u32 a, b;

    group("local APIC: timer");
    enable();
    lapic_write(TIMER_DIVIDE, 0xb); /* by 1 */
    lapic_write(LVT_TIMER, 0x48);
    lapic_write(TIMER_INITIAL, 1000);
    expect_equal(await(), 0x48, "one-shot");
    expect_equal(lapic_read(TIMER_CURRENT), 0, "then it stands at 0");
    eoi();
    lapic_write(TIMER_INITIAL, 0xffffffff);
    a = lapic_read(TIMER_CURRENT);
    for (volatile int i = 0; i < 10000; i++)
        ;
    b = lapic_read(TIMER_CURRENT);
    expect_true(b < a && b, "it counts down");
    lapic_write(TIMER_INITIAL, 0);
    expect_equal(lapic_read(TIMER_CURRENT), 0, "0 stops it");
    lapic_write(LVT_TIMER, 0x49 | PERIODIC);
    lapic_write(TIMER_INITIAL, 100000);
    for (unsigned i = 0; i < 3; i++) {
        expect_equal(await(), 0x49, "periodic, %u", i);
        eoi();
    }
    lapic_write(LVT_TIMER, MASKED | 0x49 | PERIODIC);
    waiting(); /* one may have been on its way */
    eoi();
    expect_equal(waiting(), VECTOR_END, "masked");
    lapic_write(TIMER_INITIAL, 0);
    lapic_write(LVT_TIMER, MASKED | 0x4a);
    lapic_write(TIMER_INITIAL, 100);
    for (volatile int i = 0; i < 10000; i++)
        ;
    expect_equal(vector_bit(IRR, 0x4a), 0, "masked, one-shot");
    lapic_write(LVT_TIMER, 0x4a);
    expect_equal(waiting(), VECTOR_END, "what was masked is not made up for");
    if (!cpu_has(CPU_DEADLINE)) {
        skip_group("local APIC: TSC deadline", "the processor has none");
        return;
    }
    group("local APIC: TSC deadline");
    enable();
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000);
    expect_equal(rdmsr(MSR_TSC_DEADLINE), 0, "the MSR is 0 in the other modes");
    lapic_write(LVT_TIMER, 0x4b | DEADLINE);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 10000);
    expect_equal(await(), 0x4b, "a deadline ahead");
    expect_equal(rdmsr(MSR_TSC_DEADLINE), 0, "then the MSR is 0");
    eoi();
    wrmsr(MSR_TSC_DEADLINE, 1);
    expect_equal(await(), 0x4b, "a deadline that is over");
    eoi();
    u64 far = rdtsc() + (1ull << 40);
    wrmsr(MSR_TSC_DEADLINE, far);
    expect_equal(rdmsr(MSR_TSC_DEADLINE), far, "it reads as written");
    lapic_write(TIMER_INITIAL, 1000);
    expect_equal(lapic_read(TIMER_CURRENT), 0, "the count does nothing in this mode");
    wrmsr(MSR_TSC_DEADLINE, 0);
    expect_equal(waiting(), VECTOR_END, "0 disarms");
    lapic_write(LVT_TIMER, MASKED);
}

/* ---- x2APIC: SDM 3A 11.12 ---- */

static void set_base(u64 value, bool fault, const char *what)
{
    struct context c = kernel_context(CODE32("wrmsr"));

    c.cx = MSR_APIC_BASE;
    c.ax = (u32)value;
    c.dx = value >> 32;
    expect_trap(run(&c), fault ? FAULT(GP, 0) : END, "%s", what);
}

static void x2apic(void)
{
    const u64 base = rdmsr(MSR_APIC_BASE) & ~(u64)(BASE_EN | BASE_EXTD), x2 = base | BASE_EN | BASE_EXTD,
              x1 = base | BASE_EN;
    static const struct {
        u32 offset; /* of the memory-mapped register */
        bool read, write;
        u64 reserved; /* a bit that must not be written */
    } rows[] = {
        {ID, true, false, 0},
        {VERSION, true, false, 0},
        {TPR, true, true, 1 << 8},
        {PPR, true, false, 0},
        {EOI, false, true, 1},
        {LDR, true, false, 0},
        {DFR, false, false, 0},
        {SVR, true, true, 1 << 30},
        {ISR, true, false, 0},
        {TMR, true, false, 0},
        {IRR + 0x70, true, false, 0},
        {ESR, true, true, 1},
        {ICR, true, true, 1 << 20},
        {ICR_HIGH, false, false, 0},
        {LVT_TIMER, true, true, 1 << 13},
        {LVT_LINT0, true, true, 1 << 20},
        {LVT_ERROR, true, true, 1 << 20},
        {TIMER_INITIAL, true, true, 1ull << 32},
        {TIMER_CURRENT, true, false, 0},
        {TIMER_DIVIDE, true, true, 1 << 2},
        {0x3f0, false, true, 1 << 8},
        {0x010, false, false, 0},
        {0x040, false, false, 0},
        {0x0c0, false, false, 0},
    };
    u32 id = lapic_read(ID) >> 24;

    if (!cpu_has(CPU_X2APIC)) {
        skip_group("x2APIC", "the processor has none");
        return;
    }
    group("x2APIC: modes");
    enable();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(CODE32("rdmsr"));

        c.cx = MSR_X2APIC + (rows[i].offset >> 4);
        expect_trap(run(&c), FAULT(GP, 0), "MSR %lx in xAPIC mode", c.cx);
    }
    set_base(base | BASE_EXTD, true, "EXTD without EN");
    set_base(x2, false, "to x2APIC");
    set_base(x1, true, "from x2APIC to xAPIC");
    set_base(base, false, "from x2APIC to disabled");
    expect_equal(cpuid(1, 0).d >> 9 & 1, 0, "CPUID has no APIC while it is disabled");
    set_base(x2, true, "from disabled to x2APIC");
    set_base(x1, false, "from disabled to xAPIC");
    expect_equal(cpuid(1, 0).d >> 9 & 1, 1, "CPUID has an APIC");
    set_base(x1 | 1ull << 9, true, "a reserved bit");
    set_base(x1 | 1ull << cpu_phys_bits(), true, "an address beyond MAXPHYADDR");
    set_base(x2, false, "to x2APIC again");
    group("x2APIC: registers");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(CODE32("rdmsr"));
        u32 msr = MSR_X2APIC + (rows[i].offset >> 4);

        c.cx = msr;
        expect_trap(run(&c), rows[i].read ? END : FAULT(GP, 0), "read of MSR %x", msr);
        if (!rows[i].write) {
            c = kernel_context(CODE32("wrmsr"));
            c.cx = msr;
            c.ax = c.dx = 0;
            expect_trap(run(&c), FAULT(GP, 0), "write of MSR %x", msr);
        } else {
            c = kernel_context(CODE32("wrmsr"));
            c.cx = msr;
            c.ax = (u32)rows[i].reserved;
            c.dx = rows[i].reserved >> 32;
            expect_trap(run(&c), FAULT(GP, 0), "write of a reserved bit of MSR %x", msr);
        }
    }
    expect_equal(rdmsr(MSR_X2APIC + (ID >> 4)), id, "the ID has 32 bits");
    expect_equal(rdmsr(MSR_X2APIC + (LDR >> 4)), (id >> 4) << 16 | 1u << (id & 15),
                 "the logical ID is made of it");
    wrmsr(MSR_X2APIC + (SVR >> 4), 0x1ff);
    wrmsr(MSR_X2APIC + (TPR >> 4), 0);
    wrmsr(MSR_X2APIC + 0x3f, 0x52);
    expect_equal(rdmsr(MSR_X2APIC + (IRR >> 4) + 2) >> 0x12 & 1, 1, "SELF IPI is in IRR");
    expect_equal(waiting(), 0x52, "and comes");
    wrmsr(MSR_X2APIC + (EOI >> 4), 0);
    wrmsr(MSR_X2APIC + (ICR >> 4), (u64)id << 32 | ASSERT | 0x53);
    expect_equal(waiting(), 0x53, "an IPI by the 64-bit ICR");
    wrmsr(MSR_X2APIC + (EOI >> 4), 0);
    wrmsr(MSR_X2APIC + (ICR >> 4), (u64)(id >> 4 << 16 | 1u << (id & 15)) << 32 | ASSERT | LOGICAL | 0x54);
    expect_equal(waiting(), 0x54, "by the logical ID");
    wrmsr(MSR_X2APIC + (EOI >> 4), 0);
    wrmsr(MSR_APIC_BASE, base);
    enable();
}

/* ---- Legacy controllers ---- */

static void pic_masks(u8 first, u8 second)
{
    outb(PIC1 + 1, first);
    outb(PIC2 + 1, second);
}

static void pit_one_shot(u16 count)
{
    outb(0x43, 0x30);
    outb(0x40, (u8)count);
    outb(0x40, (u8)(count >> 8));
}

static void virtual_wire(void)
{
    group("8259 through LINT0");
    enable();
    lapic_write(LVT_LINT0, 0x700);
    pic_masks(0xfe, 0xff);
    pit_one_shot(100);
    expect_equal(await(), 0x20, "the PIT's interrupt, with the 8259's vector");
    expect_equal(lapic_read(ISR + 0x10), 0, "ExtINT is not in ISR");
    outb(PIC1, 0x0b);
    expect_equal(inb(PIC1) & 1, 1, "it is in the 8259's ISR");
    outb(PIC1, 0x20);
    expect_equal(inb(PIC1) & 1, 0, "until its EOI");
    lapic_write(LVT_LINT0, MASKED | 0x700);
    pit_one_shot(10);
    outb(PIC1, 0x0a);
    while (!(inb(PIC1) & 1))
        ;
    expect_equal(waiting(), VECTOR_END, "masked at LINT0");
    lapic_write(LVT_LINT0, 0x700);
    expect_equal(waiting(), 0x20, "and not masked any more");
    outb(PIC1, 0x20);
    /* TPR does not hold ExtINT back. */
    lapic_write(TPR, 0xf0);
    pit_one_shot(10);
    expect_equal(await(), 0x20, "with TPR F0h");
    outb(PIC1, 0x20);
    pic_masks(0xff, 0xff);
    enable();
}

/* ---- I/O APIC ---- */

enum { IOAPIC_VERSION = 1, IOAPIC_ENTRY = 0x10, PIN_PIT = 2, PIN_RTC = 8, LEVEL = 1 << 15 };

static u32 ioapic_read(u8 index)
{
    *(volatile u32 *)0xfec00000 = index;
    return *(volatile u32 *)0xfec00010;
}

static void ioapic_write(u8 index, u32 value)
{
    *(volatile u32 *)0xfec00000 = index;
    *(volatile u32 *)0xfec00010 = value;
}

static void ioapic_entry(unsigned pin, u32 destination, u32 low)
{
    ioapic_write((u8)(IOAPIC_ENTRY + 2 * pin), MASKED);
    ioapic_write((u8)(IOAPIC_ENTRY + 2 * pin + 1), destination << 24);
    ioapic_write((u8)(IOAPIC_ENTRY + 2 * pin), low);
}

static u8 cmos(u8 index)
{
    outb(0x70, index);
    return inb(0x71);
}

static void cmos_write(u8 index, u8 value)
{
    outb(0x70, index);
    outb(0x71, value);
}

static void ioapic(void)
{
    u32 id = lapic_read(ID) >> 24;

    group("I/O APIC");
    enable();
    expect_equal(ioapic_read(IOAPIC_VERSION) >> 16 & 0xff, 23, "24 pins");
    for (unsigned pin = 0; pin < 24; pin++) {
        ioapic_entry(pin, 0xff, MASKED | 0x1ef55 | LEVEL);
        expect_equal(ioapic_read((u8)(IOAPIC_ENTRY + 2 * pin)) & ~(u32)(PENDING | ASSERT),
                     (MASKED | 0x1ef55 | LEVEL) & ~(u32)(PENDING | ASSERT), "pin %u keeps its entry", pin);
        expect_equal(ioapic_read((u8)(IOAPIC_ENTRY + 2 * pin + 1)), 0xff000000,
                     "pin %u keeps its destination", pin);
        ioapic_entry(pin, 0, MASKED);
    }
    ioapic_entry(PIN_PIT, id, 0x61);
    pit_one_shot(100);
    expect_equal(await(), 0x61, "the PIT at pin 2");
    expect_equal(vector_bit(ISR, 0x61), 1, "it is in ISR");
    expect_equal(vector_bit(TMR, 0x61), 0, "as an edge");
    eoi();
    ioapic_entry(PIN_PIT, id, MASKED | 0x61);
    pit_one_shot(10);
    for (volatile int i = 0; i < 100000; i++)
        ;
    expect_equal(waiting(), VECTOR_END, "masked");
    ioapic_entry(PIN_PIT, 1, LOGICAL | 0x62);
    pit_one_shot(100);
    expect_equal(await(), 0x62, "by a logical destination");
    eoi();
    ioapic_entry(PIN_PIT, 1, LOGICAL | LOWEST | 0x63);
    pit_one_shot(100);
    expect_equal(await(), 0x63, "by lowest priority");
    eoi();
    ioapic_entry(PIN_PIT, id, MASKED);
    /* The RTC's periodic interrupt at 1024 Hz. */
    cmos_write(0x0a, 0x26);
    cmos_write(0x0b, (cmos(0x0b) & 0x0f) | 0x40);
    cmos(0x0c);
    ioapic_entry(PIN_RTC, id, 0x64);
    for (unsigned i = 0; i < 3; i++) {
        expect_equal(await(), 0x64, "the RTC at pin 8, %u", i);
        expect_equal(cmos(0x0c) & 0xc0, 0xc0, "the RTC tells why, %u", i);
        eoi();
    }
    cmos_write(0x0b, cmos(0x0b) & 0x0f);
    ioapic_entry(PIN_RTC, 0, MASKED);
    cmos(0x0c);
    waiting();
    eoi();
}

/* ---- HPET ---- */

static u32 hpet_read(u32 offset)
{
    return *(volatile u32 *)(0xfed00000 + offset);
}

static void hpet_write(u32 offset, u32 value)
{
    *(volatile u32 *)(0xfed00000 + offset) = value;
}

static void hpet(void)
{
    u32 capabilities = hpet_read(0), period = hpet_read(4), a, b;

    if (capabilities == 0xffffffff || !period) {
        skip_group("HPET", "there is none");
        return;
    }
    group("HPET");
    enable();
    expect_true(period && period <= 100000000, "the period is at most 100 ns");
    expect_true((capabilities >> 8 & 0x1f) >= 2, "three timers or more");
    hpet_write(0x10, 0);
    hpet_write(0xf0, 0x1234);
    hpet_write(0xf4, 0);
    expect_equal(hpet_read(0xf0), 0x1234, "a stopped counter can be set");
    for (volatile int i = 0; i < 1000; i++)
        ;
    expect_equal(hpet_read(0xf0), 0x1234, "and stands");
    /* Timer 0 with legacy routing stands for the PIT. */
    ioapic_entry(PIN_PIT, lapic_read(ID) >> 24, 0x66);
    hpet_write(0x100, 1 << 2);
    hpet_write(0x108, 0x1234 + 10000);
    hpet_write(0x10c, 0);
    hpet_write(0x10, 3);
    expect_equal(await(), 0x66, "timer 0, one-shot");
    eoi();
    a = hpet_read(0xf0);
    for (volatile int i = 0; i < 10000; i++)
        ;
    b = hpet_read(0xf0);
    expect_true(a >= 0x1234 + 10000 && b > a, "the counter goes on");
    hpet_write(0x10, 0);
    hpet_write(0xf0, 0);
    hpet_write(0x100, 1 << 2 | 1 << 3 | 1 << 6); /* periodic */
    hpet_write(0x108, 50000);
    hpet_write(0x108, 50000);
    hpet_write(0x10, 3);
    for (unsigned i = 0; i < 3; i++) {
        expect_equal(await(), 0x66, "timer 0, periodic, %u", i);
        eoi();
    }
    hpet_write(0x100, 0);
    hpet_write(0x10, 0);
    ioapic_entry(PIN_PIT, 0, MASKED);
    waiting();
    eoi();
}

/* ---- A second processor: SDM 3A 9.4 ---- */

enum { TRAMPOLINE = 0x9000, OTHER_START = 0xa000 };

volatile u32 ap_alive, ap_id, ap_base, ap_counts[256];
extern const u8 ap_start[], ap_start_end[];
void ap_main(void);
u8 ap_stack[8192] __attribute__((aligned(16)));

/* From a SIPI: CS is its vector, IP 0. To protected mode with the GDT of the first processor, and to ap_main(). */
asm(".section .rodata\n"
    ".code16\n"
    ".global ap_start, ap_start_end, ap_entry, ap_vectors\n"
    "ap_start: cli\n"
    "mov %cs, %ax\n"
    "mov %ax, %ds\n"
    "lgdtl 1f - ap_start\n"
    "mov %cr0, %eax\n"
    "and $0x9fffffff, %eax\n"
    "or $1, %al\n"
    "mov %eax, %cr0\n"
    "ljmpl $8, $ap_entry\n"
    "1: .word 0x7ff\n"
    ".long gdt\n"
    "ap_start_end:\n"
    ".code32\n"
    ".text\n"
    "ap_entry: mov $0x10, %eax\n"
    "mov %eax, %ds\n"
    "mov %eax, %es\n"
    "mov %eax, %ss\n"
    "mov $ap_stack + 8192, %esp\n"
    "call ap_main\n"
    /* Vectors 40h to 5Fh and NMI count themselves. */
    "ap_nmi: lock incl ap_counts + 8\n"
    "iret\n"
    "ap_vectors: .set v, 0x40\n"
    ".rept 32\n"
    ".balign 16\n"
    "lock incl ap_counts + 4 * v\n"
    "jmp ap_end\n"
    ".set v, v + 1\n"
    ".endr\n"
    "ap_end: movl $0, 0xfee000b0\n"
    "iret\n");
extern const u8 ap_nmi[], ap_vectors[];

void ap_main(void)
{
    static u64 table[0x60];
    struct pseudo_descriptor idtr = {sizeof(table) - 1, (ulong)table};

    table[NMI] = gate(SEL_KCODE, (u32)ap_nmi, ACCESS_P | TYPE_INT, 0);
    for (u32 v = 0; v < 32; v++)
        table[0x40 + v] = gate(SEL_KCODE, (((u32)ap_vectors + 15) & ~15u) + 16 * v, ACCESS_P | TYPE_INT, 0);
    asm volatile("lidt %0" ::"m"(idtr));
    ap_id = lapic_read(ID) >> 24;
    ap_base = (u32)rdmsr(MSR_APIC_BASE);
    lapic_write(SVR, 0x1ff);
    lapic_write(DFR, 0xffffffff);
    lapic_write(LDR, 2 << 24);
    lapic_write(TPR, 0);
    ap_alive++;
    for (;;)
        asm volatile("sti; hlt");
}

/* Wait for a word to become a value; false: it does not. */
static bool becomes(volatile u32 *word, u32 value)
{
    for (u32 i = 0; i < 20000000 && *word != value; i++)
        asm volatile("pause");
    return *word == value;
}

static void second_processor(void)
{
    u32 me = lapic_read(ID) >> 24, other = !me;

    group("a second processor");
    enable();
    memcpy((void *)TRAMPOLINE, ap_start, (size_t)(ap_start_end - ap_start));
    memcpy((void *)OTHER_START, ap_start, (size_t)(ap_start_end - ap_start));
    send(other, DELIVER_SIPI | ASSERT | TRAMPOLINE >> 12);
    if (becomes(&ap_alive, 1)) {
        expect_true(true, "firmware left it waiting for a SIPI");
    } else {
        send(other, DELIVER_INIT | ASSERT);
        send(other, DELIVER_SIPI | ASSERT | TRAMPOLINE >> 12);
        if (!becomes(&ap_alive, 1)) {
            skip_group("interrupts between processors", "there is no second processor (--cpus 2)");
            return;
        }
    }
    expect_equal(ap_id, other, "its ID");
    expect_equal(ap_base & (BASE_BSP | BASE_EN), BASE_EN, "it is not the boot processor");
    send(other, DELIVER_SIPI | ASSERT | OTHER_START >> 12);
    for (volatile int i = 0; i < 10000; i++)
        ;
    expect_equal(ap_alive, 1, "a SIPI without INIT does nothing");

    group("interrupts between processors");
    send(other, ASSERT | 0x40);
    expect_true(becomes(&ap_counts[0x40], 1), "physical destination");
    send(2, ASSERT | LOGICAL | 0x41);
    expect_true(becomes(&ap_counts[0x41], 1), "logical destination, flat");
    send(3, ASSERT | LOGICAL | 0x42);
    expect_true(becomes(&ap_counts[0x42], 1), "logical destination of both");
    expect_equal(waiting(), 0x42, "logical destination of both: here");
    eoi();
    send(0, ASSERT | TO_OTHERS | 0x43);
    expect_true(becomes(&ap_counts[0x43], 1), "all others");
    expect_equal(waiting(), VECTOR_END, "all others: not here");
    send(0, ASSERT | TO_ALL | 0x44);
    expect_true(becomes(&ap_counts[0x44], 1), "all");
    expect_equal(waiting(), 0x44, "all: here");
    eoi();
    send(0xff, ASSERT | 0x45);
    expect_true(becomes(&ap_counts[0x45], 1), "physical destination FFh");
    expect_equal(waiting(), 0x45, "physical destination FFh: here");
    eoi();
    send(other, DELIVER_NMI | ASSERT);
    expect_true(becomes(&ap_counts[NMI], 1), "NMI");
    lapic_write(TPR, 0x80);
    send(3, ASSERT | LOGICAL | LOWEST | 0x46);
    expect_true(becomes(&ap_counts[0x46], 1) || waiting() == 0x46, "lowest priority: one of two");
    lapic_write(TPR, 0);
    if (ap_counts[0x46] == 0)
        eoi();
    send(4, ASSERT | LOGICAL | 0x47);
    expect_equal(waiting(), VECTOR_END, "a logical destination that nobody has");
    expect_equal(ap_counts[0x47], 0, "a logical destination that nobody has: there");
    ioapic_entry(PIN_PIT, other, 0x48);
    pit_one_shot(100);
    expect_true(becomes(&ap_counts[0x48], 1), "the PIT through the I/O APIC");
    ioapic_entry(PIN_PIT, 0, MASKED);

    /* INIT, then a start elsewhere. */
    send(other, DELIVER_INIT | ASSERT);
    send(other, ASSERT | 0x49);
    for (volatile int i = 0; i < 10000; i++)
        ;
    expect_equal(ap_counts[0x49], 0, "after INIT nothing is taken");
    send(other, DELIVER_SIPI | ASSERT | OTHER_START >> 12);
    expect_true(becomes(&ap_alive, 2), "a SIPI starts it again");
    send(other, ASSERT | 0x4a);
    expect_true(becomes(&ap_counts[0x4a], 1), "and it takes interrupts again");
    expect_equal(ap_counts[0x49], 0, "INIT forgot what was sent");
}

void test(void)
{
    registers();
    priorities();
    nmi();
    timer();
    virtual_wire();
    ioapic();
    hpet();
    second_processor();
    x2apic();
}
