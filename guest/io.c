/*
 * Every port, and the addresses where devices are or nothing is, with every width: what comes back is the device's own
 * affair; the machine goes on. At the end a few devices answer as ever.
 */
#include "guest.h"

/* What ends or stops the machine when it is written: keyboard controller and port 61h's neighbours, 92h, CF9h, debug exit,
   power management (wherever firmware put it: S5, global release), the debug console; and what prints. */
static const struct {
    u16 first, last;
} left_out[] = {
    {0x61, 0x64},     {0x8f, 0x92},   {0xe6, 0xe9},   {0xf1, 0xf7}, {0x3f5, 0x3ff},
    {0x4ff, 0x60f},   {0xaff, 0xb3f}, {0xcf5, 0xcff}, /* the configuration ports could move a device on to this list */
    {0x88fd, 0x8900},                                 /* Bochs' shutdown port */
};

static bool skipped(u32 port)
{
    for (unsigned i = 0; i < ARRAY_SIZE(left_out); i++) {
        if (port >= left_out[i].first && port <= left_out[i].last)
            return true;
    }
    return false;
}

static inline u16 inw(u16 port)
{
    u16 value;

    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void ports(void)
{
    unsigned done = 0;

    group("every port, read");
    for (u32 port = 0; port < 0x10000; port++) {
        inb((u16)port);
        inw((u16)port);
        inl((u16)port);
        done++;
    }
    expect_equal(done, 0x10000, "ports");
    group("every port, written");
    done = 0;
    for (u32 port = 0; port < 0x10000; port++) {
        static const u32 values[] = {0, 0xffffffff, 0x5a5a5a5a};

        if (skipped(port))
            continue;
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            outb((u16)port, (u8)values[i]);
            outw((u16)port, (u16)values[i]);
            outl((u16)port, values[i]);
        }
        done++;
    }
    expect_true(done > 0xf000, "ports");
}

static void strings(void)
{
    static const u16 some[] = {0x20, 0x40, 0x60, 0x70, 0x1f0, 0x402, 0x510, 0x3f8, 0xcf8, 0xfff0, 0xffff};

    group("string I/O");
    for (unsigned i = 0; i < ARRAY_SIZE(some); i++) {
        struct context c =
            kernel_context(CODE32("rep insb\n mov ecx, esi\n rep insw\n mov ecx, esi\n rep insd"));

        c.dx = some[i];
        c.cx = c.si = 100;
        c.di = DATA_AREA;
        expect_trap(run(&c), END, "port %x", some[i]);
    }
}

static void memory(void)
{
    static const struct {
        u32 first, last, step;
    } ranges[] = {
        {0xa0000, 0x100000, 16},           /* VGA and ROMs */
        {0x08000000, 0x0fffffff, 0x10000}, /* beyond the memory */
        {0x40000000, 0xbfffffff, 0x100000},
        {0xc0000000, 0xfebfffff, 0x40000}, /* PCI */
        {0xfec00000, 0xfec01000, 4},       /* I/O APIC */
        {0xfed00000, 0xfed01000, 4},       /* HPET */
        {0xfed01000, 0xfedfffff, 0x1000},
        {0xfee00400, 0xfee01000, 4}, /* the local APIC's page, past its registers */
        {0xfef00000, 0xffefffff, 0x10000},
        {0xfffe0000, 0xfffffff0, 16}, /* ROM */
    };
    struct code forms[] = {
        CODE32("mov al, [ebx]\n mov [ebx], al"),
        CODE32("mov ax, [ebx]\n mov [ebx], ax"),
        CODE32("mov eax, [ebx]\n mov [ebx], eax"),
        CODE32("mov eax, [ebx + 1]\n mov [ebx + 3], eax"),
        CODE32("lock inc dword ptr [ebx]"),
        CODE32("xchg [ebx], eax"),
        CODE32("movq mm0, [ebx]\n movq [ebx], mm0\n emms"),
        CODE32("fld tbyte ptr [ebx]\n fstp tbyte ptr [ebx]"),
        CODE32("fxsave [ebx]"),
        CODE32("mov esi, ebx\n mov edi, edx\n mov ecx, 8\n rep movsd"),
        CODE32("mov edi, ebx\n mov ecx, 8\n rep stosd"),
        CODE32("cmpxchg8b [ebx]"),
        CODE32("movups xmm0, [ebx]\n movups [ebx], xmm0"),
    };

    for (unsigned r = 0; r < ARRAY_SIZE(ranges); r++) {
        unsigned bad = 0;

        group(r == 0 ? "memory below 1 MiB" : r < 3 ? "holes" : "devices in memory");
        for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
            struct context c = kernel_context(forms[f]);

            c.dx = DATA_AREA;
            /* The full step for one form of each, a coarser one for the others. */
            for (u64 at = ranges[r].first; at < ranges[r].last;
                 at += f == 2 ? ranges[r].step : 16 * (u64)ranges[r].step) {
                asm volatile("fninit");
                c.bx = (u32)at;
                bad += run(&c)->vector != VECTOR_END;
            }
            expect_equal(bad, 0, "%x, form %u: accesses that did not end", ranges[r].first, f);
        }
    }
    group("code from nowhere");
    /* What is not there reads as ones: FFh /7 is not an instruction. */
    static const u32 holes[] = {0x40000000, 0xc0000000, 0xfec80000, 0xfed80000};
    for (unsigned i = 0; i < ARRAY_SIZE(holes); i++) {
        struct context c = kernel_context(CODE32("jmp ebx"));
        const struct trap *trap;

        c.bx = holes[i];
        trap = run(&c);
        expect_equal(trap->vector, UD, "at %x", holes[i]);
    }
}

/* The machine is still there. */
static void afterwards(void)
{
    group("afterwards");
    outb(0x43, 0x34);
    outb(0x40, 0);
    outb(0x40, 0);
    outb(0x43, 0);
    u8 low = inb(0x40), high = inb(0x40);
    bool moved = false;
    for (unsigned i = 0; i < 100000 && !moved; i++) {
        outb(0x43, 0);
        moved = inb(0x40) != low;
        moved |= inb(0x40) != high;
    }
    expect_true(moved, "the PIT counts");
    outb(0x21, 0xa5);
    expect_equal(inb(0x21), 0xa5, "the 8259 keeps its mask");
    outb(0x21, 0xff);
    outb(0x70, 0x0f);
    outb(0x71, 0x5c);
    outb(0x70, 0x0f);
    expect_equal(inb(0x71), 0x5c, "the CMOS keeps a byte");
    outl(0xcf8, 0x80000000);
    expect_equal(inl(0xcfc) & 0xffff, 0x8086, "the host bridge is Intel's");
}

void test(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    ports();
    strings();
    memory();
    afterwards();
}
