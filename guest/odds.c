/*
 * Instructions that stand alone: lines written whole, direct stores, hints, what reads a processor's registers without
 * privilege, and undefined opcodes. 64-bit, by the rules of the processor's maker. SDM 2 and APM 3, each by its name.
 */
#include "guest.h"

enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4 };
enum { LINE = 64 };
extern u64 boot_pd[];
/* A page of 2 MiB of its own; what follows it is absent. */
#define PAGE     ((ulong)TEST_AREA)
#define PAGE_END (PAGE + 0x200000)

static void set_page(bool present, bool writable)
{
    boot_pd[PAGE >> 21] = PAGE | 0x80 | 4 | (present ? 1 : 0) | (writable ? 2 : 0);
    boot_pd[PAGE_END >> 21] = 0;
    invlpg(PAGE);
    invlpg(PAGE_END);
}

static struct feature feature(u32 leaf, unsigned reg, unsigned bit)
{
    return (struct feature){leaf, (u8)reg, (u8)bit};
}
#define CPU_CLZERO    feature(0x80000008, 1, 0)
#define CPU_RDPRU     feature(0x80000008, 1, 4)
#define CPU_WBNOINVD  feature(0x80000008, 1, 9)
#define CPU_CLWB      feature(7, 1, 24)
#define CPU_CLFLUSHO  feature(7, 1, 23)
#define CPU_CLDEMOTE  feature(7, 2, 25)
#define CPU_MOVDIRI   feature(7, 2, 27)
#define CPU_MOVDIR64B feature(7, 2, 28)
#define CPU_SERIALIZE feature(7, 3, 14)
#define CPU_RDPID     feature(7, 2, 22)

/* Whether the 64 bytes at `line` are `byte`, and their neighbours FFh. */
static bool only_line(ulong line, int byte)
{
    for (int b = -LINE; b < 2 * LINE; b++)
        if (((u8 *)line)[b] != (b < 0 || b >= LINE ? 0xff : byte))
            return false;
    return true;
}

static void clear_line(void)
{
    struct code code = CODE64("clzero");
    struct context c;

    group("CLZERO");
    c = user_context(code);
    c.ax = PAGE;
    if (!cpu_has(CPU_CLZERO)) {
        expect_trap(run(&c), FAULT(UD, 0), "not there");
        return;
    }
    for (unsigned offset = 0; offset < LINE; offset += 9) {
        memset((void *)PAGE, 0xff, 4 * LINE);
        c.ax = PAGE + LINE + offset;
        expect_trap(run(&c), END, "at %u of a line", offset);
        expect_true(only_line(PAGE + LINE, 0), "at %u of a line: the line", offset);
    }
    struct context narrow = user_context(CODE64(".byte 0x67\n clzero"));
    memset((void *)PAGE, 0xff, 4 * LINE);
    narrow.ax = 0x7700000000 + PAGE + LINE;
    expect_trap(run(&narrow), END, "32-bit address");
    expect_true(only_line(PAGE + LINE, 0), "32-bit address: the line");
    place(code, CODE_AREA);
    c.ax = 1ull << 62;
    expect_trap(run(&c), FAULT(GP, 0), "not canonical");
    c.ax = PAGE_END + 0x77;
    expect_trap(run(&c), FAULT(PF, ERROR_W | ERROR_U), "absent");
    set_page(true, false);
    c.ax = PAGE;
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_W | ERROR_U), "read-only");
    set_page(true, true);
    c = user_context(CODE64(".byte 0xf0\n clzero"));
    expect_trap(run(&c), FAULT(UD, 0), "with LOCK");
}

static void direct_stores(void)
{
    struct context c;

    group("MOVDIRI and MOVDIR64B");
    c = user_context(CODE64(".byte 0x0f, 0x38, 0xf9, 0x0b")); /* movdiri [rbx], ecx */
    c.bx = PAGE + 3;
    c.cx = 0x1122334455667788;
    if (!cpu_has(CPU_MOVDIRI)) {
        expect_trap(run(&c), FAULT(UD, 0), "MOVDIRI is not there");
    } else {
        memset((void *)PAGE, 0xff, LINE);
        expect_trap(run(&c), END, "MOVDIRI of 32 bits");
        expect_equal(*(u64 *)(PAGE + 3), 0xffffffff55667788, "MOVDIRI of 32 bits: stored");
        c = user_context(CODE64(".byte 0x48, 0x0f, 0x38, 0xf9, 0x0b"));
        c.bx = PAGE + 8;
        c.cx = 0x1122334455667788;
        expect_trap(run(&c), END, "MOVDIRI of 64 bits");
        expect_equal(*(u64 *)(PAGE + 8), 0x1122334455667788, "MOVDIRI of 64 bits: stored");
        c.bx = PAGE_END - 4;
        expect_trap(run(&c), FAULT(PF, ERROR_W | ERROR_U), "MOVDIRI over the end");
        struct code bad[] = {CODE64(".byte 0x0f, 0x38, 0xf9, 0xcb"),
                             CODE64(".byte 0x66, 0x0f, 0x38, 0xf9, 0x0b"),
                             CODE64(".byte 0xf0, 0x0f, 0x38, 0xf9, 0x0b")};
        for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
            c = user_context(bad[i]);
            c.bx = PAGE;
            expect_trap(run(&c), FAULT(UD, 0), "MOVDIRI, bad form %u", i);
        }
    }
    struct code code = CODE64(".byte 0x66, 0x0f, 0x38, 0xf8, 0x0b"); /* movdir64b rcx, [rbx] */
    c = user_context(code);
    c.bx = PAGE + 0x1001; /* the source need not be aligned */
    c.cx = PAGE + LINE;
    if (!cpu_has(CPU_MOVDIR64B)) {
        expect_trap(run(&c), FAULT(UD, 0), "MOVDIR64B is not there");
        return;
    }
    memset((void *)PAGE, 0xff, 4 * LINE);
    memset((void *)(PAGE + 0x1001), 0x5a, LINE);
    expect_trap(run(&c), END, "MOVDIR64B");
    expect_true(only_line(PAGE + LINE, 0x5a), "MOVDIR64B: the line");
    for (unsigned offset = 1; offset < LINE; offset++) {
        c.cx = PAGE + LINE + offset;
        expect_trap(run(&c), FAULT(GP, 0), "MOVDIR64B to %u of a line", offset);
    }
    c.cx = PAGE;
    c.bx = PAGE_END - 10;
    expect_trap(run(&c), FAULT(PF, ERROR_U), "MOVDIR64B from two pages");
    c.bx = PAGE;
    c.cx = PAGE_END;
    expect_trap(run(&c), FAULT(PF, ERROR_W | ERROR_U), "MOVDIR64B to an absent page");
    c.cx = 1ull << 62;
    expect_trap(run(&c), FAULT(GP, 0), "MOVDIR64B to an address that is not canonical");
    c = user_context(CODE64(".byte 0x67, 0x66, 0x0f, 0x38, 0xf8, 0x0b"));
    memset((void *)PAGE, 0xff, 4 * LINE);
    c.bx = PAGE + 0x1001 + 0x500000000;
    c.cx = PAGE + LINE + 0x700000000;
    expect_trap(run(&c), END, "MOVDIR64B, 32-bit addresses");
    expect_true(only_line(PAGE + LINE, 0x5a), "MOVDIR64B, 32-bit addresses: the line");
    c = user_context(CODE64(".byte 0x66, 0x0f, 0x38, 0xf8, 0xcb"));
    expect_trap(run(&c), FAULT(UD, 0), "MOVDIR64B of a register");
}

/* CLFLUSH and its like are checked as a load of a byte; prefetches and NOPs not at all. */
static void hints(void)
{
    struct {
        const char *name;
        struct code code;
        bool there, checked;
    } rows[] = {
        {"CLFLUSH", CODE64("clflush [rbx]"), true, true},
        {"CLFLUSHOPT", CODE64("clflushopt [rbx]"), cpu_has(CPU_CLFLUSHO), true},
        {"CLWB", CODE64("clwb [rbx]"), cpu_has(CPU_CLWB), true},
        {"CLDEMOTE", CODE64(".byte 0x0f, 0x1c, 0x03"), true, false}, /* a NOP where it is not there */
        {"PREFETCHT0", CODE64("prefetcht0 [rbx]"), true, false},
        {"PREFETCHNTA", CODE64("prefetchnta [rbx]"), true, false},
        {"PREFETCHW", CODE64("prefetchw [rbx]"), true, false},
        {"0F 0D /0", CODE64(".byte 0x0f, 0x0d, 0x03"), true, false},
        {"0F 0D /7", CODE64(".byte 0x0f, 0x0d, 0x3b"), true, false},
        {"0F 18 /7", CODE64(".byte 0x0f, 0x18, 0x3b"), true, false},
        {"0F 19", CODE64(".byte 0x0f, 0x19, 0x0b"), true, false},
        {"0F 1A", CODE64(".byte 0x0f, 0x1a, 0x0b"), true, false},
        {"0F 1B", CODE64(".byte 0x0f, 0x1b, 0x0b"), true, false},
        {"0F 1D", CODE64(".byte 0x0f, 0x1d, 0x0b"), true, false},
        {"0F 1E", CODE64(".byte 0x0f, 0x1e, 0x0b"), true, false},
        {"0F 1F", CODE64("nop dword ptr [rbx]"), true, false},
    };

    group("hints");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);

        c.bx = PAGE;
        if (!rows[i].there) {
            expect_trap(run(&c), FAULT(UD, 0), "%s is not there", rows[i].name);
            continue;
        }
        expect_trap(run(&c), END, "%s", rows[i].name);
        set_page(true, false);
        expect_trap(run(&c), END, "%s of a read-only page", rows[i].name);
        set_page(true, true);
        c.bx = PAGE_END;
        expect_trap(run(&c), rows[i].checked ? FAULT(PF, ERROR_U) : END, "%s of an absent page",
                    rows[i].name);
        c.bx = 1ull << 62;
        expect_trap(run(&c), rows[i].checked ? FAULT(GP, 0) : END, "%s, not canonical", rows[i].name);
    }
}

static void privileged(void)
{
    struct {
        const char *name;
        struct code code;
        bool there, user;
    } rows[] = {
        {"INVD", CODE64("invd"), true, false},
        {"WBINVD", CODE64("wbinvd"), true, false},
        {"WBNOINVD", CODE64(".byte 0xf3\n wbinvd"), true, false}, /* WBINVD where it is not there */
        {"SERIALIZE", CODE64(".byte 0x0f, 0x01, 0xe8"), cpu_has(CPU_SERIALIZE), true},
        {"RDPID", CODE64(".byte 0xf3, 0x0f, 0xc7, 0xf8"), cpu_has(CPU_RDPID), true},
        {"RDPMC", CODE64("rdpmc"), true, false},
    };

    group("privileges");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned user = 0; user < 2; user++) {
            struct context c = user ? user_context(rows[i].code) : kernel_context(rows[i].code);

            c.cx = 0;
            if (i == 5 && !user)
                continue; /* how many counters there are is another matter */
            expect_trap(run(&c),
                        !rows[i].there          ? FAULT(UD, 0)
                        : rows[i].user || !user ? END
                                                : FAULT(GP, 0),
                        "%s at CPL %u", rows[i].name, 3 * user);
        }
    }
    if (cpu_has(CPU_RDPID)) {
        struct context c = user_context(CODE64(".byte 0xf3, 0x0f, 0xc7, 0xf8"));

        wrmsr(0xc0000103, 0x12345);
        c.ax = ~0ul;
        expect_equal(run(&c)->at.ax, 0x12345, "RDPID reads TSC_AUX");
        wrmsr(0xc0000103, 0);
    }
}

static void processor_registers(void)
{
    struct code code = CODE64(".byte 0x0f, 0x01, 0xfd");
    ulong cr4 = read_cr4();

    group("RDPRU");
    for (unsigned n = 0; n < 16; n++) {
        bool user = n & 1, tsd = n & 2;
        ulong index = n >> 2 == 3 ? 0xffffffff : n >> 2;
        struct context c = user ? user_context(code) : kernel_context(code);
        const struct trap *trap;

        c.cx = index | 0xabc00000000;
        c.ax = c.dx = ~0ul;
        c.flags |= FLAG_CF | FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF;
        write_cr4(tsd ? cr4 | CR4_TSD : cr4);
        trap = run(&c);
        write_cr4(cr4);
        if (!cpu_has(CPU_RDPRU) || (user && tsd)) {
            expect_trap(trap, FAULT(UD, 0), "register %lx, CPL %u, TSD %u", index, 3 * user, tsd);
            continue;
        }
        bool good = index <= (cpuid(0x80000008, 0).d >> 16);
        expect_trap(trap, END, "register %lx, CPL %u, TSD %u", index, 3 * user, tsd);
        expect_equal(trap->at.flags & 0x8d5, good ? FLAG_CF : 0, "register %lx: flags", index);
        expect_true((trap->at.ax | trap->at.dx) >> 32 == 0, "register %lx: 32 bits each", index);
        expect_equal((trap->at.ax | trap->at.dx) != 0, good, "register %lx: value", index);
    }
}

/* UD0 has a ModRM byte on Intel's processors and none on AMD's, which shows at the end of a page; UD1 has one, UD2 none. */
static void undefined_opcodes(void)
{
    static const struct {
        const char *name;
        u8 bytes[2];
        bool intel, amd; /* has a ModRM byte */
    } rows[] = {{"UD0", {0x0f, 0xff}, true, false},
                {"UD1", {0x0f, 0xb9}, true, true},
                {"UD2", {0x0f, 0x0b}, false, false}};

    group("undefined opcodes");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        bool modrm = cpu_is_amd() ? rows[i].amd : rows[i].intel;
        struct context c = user_context(CODE64("nop"));
        const struct trap *trap;

        memcpy((void *)(PAGE_END - 2), rows[i].bytes, 2);
        c.ip = PAGE_END - 2;
        trap = run(&c);
        expect_trap(trap, modrm ? FAULT(PF, ERROR_U) : FAULT(UD, 0), "%s at the end of a page", rows[i].name);
        if (modrm)
            expect_equal(trap->cr2, PAGE_END, "%s: CR2", rows[i].name);
        /* The operand itself is not touched. */
        memcpy((void *)(PAGE_END - 3), rows[i].bytes, 2);
        *(u8 *)(PAGE_END - 1) = 0x03; /* [rbx] */
        c.ip = PAGE_END - 3;
        c.bx = PAGE_END;
        expect_trap(run(&c), FAULT(UD, 0), "%s with an operand in an absent page", rows[i].name);
    }
}

/* CMPXCHG16B wants 16 bytes, whatever CR0.AM says; faults come before it compares. */
static void wide_compare(void)
{
    struct code code = CODE64("cmpxchg16b [rbx]");

    if (!(cpuid(1, 0).c >> 13 & 1)) {
        skip_group("CMPXCHG16B", "the processor has none");
        return;
    }
    group("CMPXCHG16B");
    for (unsigned offset = 0; offset < 32; offset++) {
        struct context c = user_context(code);

        c.bx = PAGE + offset;
        expect_trap(run(&c), offset % 16 ? FAULT(GP, 0) : END, "at %u", offset);
        c.bx = PAGE_END - 16 + offset;
        expect_trap(run(&c),
                    offset % 16    ? FAULT(GP, 0)
                    : offset == 16 ? FAULT(PF, ERROR_W | ERROR_U)
                                   : END,
                    "at the page's end and %d", (int)offset - 16);
    }
}

void test(void)
{
    set_page(true, true);
    clear_line();
    direct_stores();
    hints();
    privileged();
    processor_registers();
    undefined_opcodes();
    wide_compare();
}
