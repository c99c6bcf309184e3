/*
 * Compatibility mode: 32-bit code in IA-32e mode. Segments and their checks are those of protected mode; gates, the IDT and
 * system descriptors are those of 64-bit mode; tasks and virtual-8086 mode are not there. SDM 3A 2.2.2, 3.4, 5.8, 6.14, 8.7, and
 * volume 2 for each instruction.
 */
#include "guest.h"

enum {
    TARGET = SEL_TEST, /* two places: a 16-byte descriptor has room */
    OTHER = SEL_TEST + 16,
    COMPAT = SEL_TEST + 32, /* and 8 more for each ring: flat 32-bit code */
    WIDE = SEL_TEST + 64,   /* 64-bit code of a ring that the test chooses */
    LANDING = 0x100,
    VECTOR = 0x90,
    ERROR_IDT = 2,
    BEYOND = GDT_ENTRIES * 8,
    FLAT32 = FLAGS_G | FLAGS_D,
    FLAT64 = FLAGS_G | FLAGS_L,
};

extern u64 boot_pml4[];

static u64 ring_stack(unsigned ring)
{
    return *(u64 *)(tss + 4 + 8 * ring);
}

static u16 compat_code(unsigned ring)
{
    return (u16)(COMPAT + 8 * ring + ring);
}

static struct context compat_context(unsigned ring, struct code code)
{
    struct context c = ring_context((int)ring, code);

    c.cs = compat_code(ring);
    return c;
}

/* ---- loads: as in protected mode ---- */

static struct expect data_load(u8 byte, unsigned rpl, unsigned cpl)
{
    struct access a = access_of(byte);

    if (!a.s || !a.readable || (!a.conforming && (rpl > a.dpl || cpl > a.dpl)))
        return FAULT(GP, TARGET);
    return a.p ? END : FAULT(NP, TARGET);
}

static struct expect stack_load(u8 byte, unsigned rpl, unsigned cpl)
{
    struct access a = access_of(byte);

    if (rpl != cpl || !a.writable || a.dpl != cpl)
        return FAULT(GP, TARGET);
    return a.p ? END : FAULT(SS, TARGET);
}

static void loads(void)
{
    struct {
        const char *name;
        struct code code;
        struct expect (*want)(u8, unsigned, unsigned);
    } forms[] = {
        {"MOV to DS", CODE32("mov ds, eax"), data_load},
        {"LES", CODE32("les ecx, [ebx]"), data_load},
        {"MOV to SS", CODE32("mov ss, eax\n mov ss, edx"), stack_load},
    };

    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        group(forms[form].name);
        for (unsigned n = 0; n < 4 * 4 * 256; n++) {
            unsigned cpl = n >> 10, rpl = n >> 8 & 3, byte = n & 0xff;
            struct context c = compat_context(cpl, forms[form].code);

            gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT32);
            c.ax = TARGET | rpl;
            c.dx = c.ss;
            c.bx = DATA_AREA;
            *(u32 *)DATA_AREA = 0x12345678;
            *(u16 *)(DATA_AREA + 4) = (u16)c.ax;
            expect_trap(run(&c), forms[form].want((u8)byte, rpl, cpl), "access %02x rpl %u cpl %u", byte, rpl,
                        cpl);
        }
    }
    group("null selectors");
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned rpl = 0; rpl < 4; rpl++) {
            struct context c = compat_context(cpl, CODE32("mov es, eax\n mov eax, es:[ebx]"));

            c.ax = rpl;
            c.bx = DATA_AREA;
            expect_trap(run(&c), FAULT_AT(GP, 0, 2), "a use of ES, rpl %u cpl %u", rpl, cpl);
            c = compat_context(cpl, CODE32("mov ss, eax"));
            c.ax = rpl;
            expect_trap(run(&c), FAULT(GP, 0), "SS, rpl %u cpl %u", rpl, cpl);
        }
    }
}

/* ---- far transfers ---- */

static void far_code(void)
{
    struct code forms[] = {CODE32("jmp fword ptr [ebx]"), CODE32("call fword ptr [ebx]"),
                           CODE32(".byte 0xea, 0, 1, 0x40, 0, 0xa0, 0"),
                           CODE32(".byte 0x9a, 0, 1, 0x40, 0, 0xa0, 0")};

    group("far transfers to code segments");
    for (unsigned n = 0; n < 4 * 4 * 4 * 256; n++) {
        unsigned form = n >> 12, cpl = n >> 10 & 3, flags = n >> 8 & 3, byte = n & 0xff; /* flags: L and D */
        struct context c = compat_context(cpl, forms[form]);
        struct access a = access_of((u8)byte);
        struct expect e = a.p ? END : FAULT(NP, TARGET);
        const struct trap *trap;

        if (!a.s)
            continue;
        if (!a.code || (a.conforming ? a.dpl > cpl : a.dpl != cpl) || flags == 3)
            e = FAULT(GP, TARGET);
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, (u8)(FLAGS_G | flags << 1));
        *(u64 *)DATA_AREA = (u64)TARGET << 32 | (CODE_AREA + LANDING);
        c.bx = DATA_AREA;
        trap = run(&c);
        if (!expect_trap(trap, e, "form %u cpl %u access %02x L %u D %u", form, cpl, byte, flags & 1,
                         flags >> 1) ||
            e.vector != VECTOR_END)
            continue;
        expect_equal(trap->at.cs, TARGET | cpl, "form %u cpl %u access %02x: CS", form, cpl, byte);
        expect_equal(trap->at.sp, c.sp - (form & 1 ? 8 : 0), "form %u cpl %u access %02x: ESP", form, cpl,
                     byte);
    }
    for (unsigned form = 0; form < 2; form++) {
        static const u16 selectors[] = {0, 3, BEYOND, TARGET | 4};

        for (unsigned i = 0; i < ARRAY_SIZE(selectors); i++) {
            struct context c = compat_context(3, forms[form]);

            *(u64 *)DATA_AREA = (u64)selectors[i] << 32;
            c.bx = DATA_AREA;
            expect_trap(run(&c), FAULT(GP, selectors[i] & 0xfffc), "form %u, selector %x", form,
                        selectors[i]);
        }
    }
    {
        struct context c = compat_context(3, forms[0]);

        gdt[TARGET / 8] = descriptor(0, CODE_AREA / 4096 - 1, CODE_XR(3), FLAT32);
        *(u64 *)DATA_AREA = (u64)(TARGET | 3) << 32 | CODE_AREA;
        c.bx = DATA_AREA;
        expect_trap(run(&c), FAULT(GP, 0), "beyond the limit");
        gdt[TARGET / 8] = descriptor(0, CODE_AREA / 4096 - 1, CODE_XR(3), FLAT64);
        place(CODE64("nop"), CODE_AREA + LANDING);
        *(u64 *)DATA_AREA = (u64)(TARGET | 3) << 32 | (CODE_AREA + LANDING);
        expect_trap(run(&c), END, "beyond the limit of a 64-bit segment");
    }
}

/* System descriptors: the 64-bit call gate alone is of use (SDM 3A table 3-2). */
static void system_types(void)
{
    struct code forms[] = {CODE32("call fword ptr [ebx]"), CODE32("jmp fword ptr [ebx]")};

    group("far transfers to system descriptors");
    for (unsigned n = 0; n < 2 * 4 * 128; n++) {
        unsigned form = n >> 9, cpl = n >> 7 & 3, byte = (n & 0x0f) | (n << 1 & 0xe0);
        unsigned type = byte & 15, dpl = byte >> 5 & 3;
        struct context c = compat_context(cpl, forms[form]);
        struct expect e = byte & ACCESS_P ? END : FAULT(NP, TARGET);
        const struct trap *trap;

        if (type != TYPE_CALL || dpl < cpl)
            e = FAULT(GP, TARGET);
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[WIDE / 8] = descriptor(0, 0xfffff, CODE_XR(cpl), FLAT64);
        gdt[TARGET / 8] = gate(WIDE, CODE_AREA + LANDING, (u8)byte, 0);
        gdt[TARGET / 8 + 1] = 0;
        *(u64 *)DATA_AREA = (u64)TARGET << 32;
        c.bx = DATA_AREA;
        trap = run(&c);
        if (!expect_trap(trap, e, "form %u cpl %u access %02x", form, cpl, byte) || e.vector != VECTOR_END)
            continue;
        expect_equal(trap->at.cs, WIDE | cpl, "form %u cpl %u: CS", form, cpl);
        expect_equal(trap->at.sp, c.sp - (form ? 0 : 16), "form %u cpl %u: RSP", form, cpl);
        if (!form) {
            expect_equal(*(u64 *)(c.sp - 16), CODE_AREA + 2, "cpl %u: pushed RIP", cpl);
            expect_equal(*(u64 *)(c.sp - 8), c.cs, "cpl %u: pushed CS", cpl);
        }
    }
    /* To an inner ring and back to compatibility mode. */
    for (unsigned dpl = 0; dpl < 3; dpl++) {
        struct context c = compat_context(3, forms[0]);
        const struct trap *trap;

        gdt[WIDE / 8] = descriptor(0, 0xfffff, CODE_XR(dpl), FLAT64);
        gdt[TARGET / 8] = gate(WIDE, CODE_AREA + LANDING, ACCESS_P | 3 << 5 | TYPE_CALL, 0);
        gdt[TARGET / 8 + 1] = 0;
        place(CODE64("mov rax, rsp\n mov ecx, ss\n rex.w retf"), CODE_AREA + LANDING);
        *(u64 *)DATA_AREA = (u64)(TARGET | 3) << 32;
        c.bx = DATA_AREA;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 4), "ring %u and back", dpl);
        expect_equal(trap->at.cs, c.cs, "ring %u and back: CS", dpl);
        expect_equal(trap->at.ss, c.ss, "ring %u and back: SS", dpl);
        expect_equal(trap->at.sp, c.sp, "ring %u and back: ESP", dpl);
        expect_equal(trap->at.ax, ring_stack(dpl) - 32, "ring %u: RSP", dpl);
        expect_equal(trap->at.cx, dpl, "ring %u: SS", dpl);
    }
}

/* ---- returns ---- */

static void returns(void)
{
    struct {
        const char *name;
        struct code code;
        int at;
    } forms[] = {
        {"RETF", CODE32("push ecx\n push edx\n push eax\n push esi\n retf"), 4},
        {"IRETD", CODE32("push ecx\n push edx\n push edi\n push eax\n push esi\n iretd"), 5},
    };

    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        group(forms[form].name);
        for (unsigned n = 0; n < 4 * 4 * 4 * 256; n++) {
            unsigned cpl = n >> 12, rpl = n >> 10 & 3, flags = n >> 8 & 3, byte = n & 0xff;
            struct context c = compat_context(cpl, forms[form].code);
            struct access a = access_of((u8)byte);
            struct expect e = a.p ? END : FAULT_AT(NP, TARGET, forms[form].at);
            const struct trap *trap;

            if (!a.code || rpl < cpl || (a.conforming ? a.dpl > rpl : a.dpl != rpl) || flags == 3)
                e = FAULT_AT(GP, TARGET, forms[form].at);
            place(CODE64("nop"), CODE_AREA + LANDING);
            gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, (u8)(FLAGS_G | flags << 1));
            c.ax = TARGET | rpl;
            c.cx = SEL_RING_DATA(rpl);
            c.dx = STACK_TOP - 0x800;
            c.si = CODE_AREA + LANDING;
            c.di = FLAG_FIXED | FLAG_VM; /* VM means nothing here */
            trap = run(&c);
            if (!expect_trap(trap, e, "cpl %u rpl %u access %02x L %u D %u", cpl, rpl, byte, flags & 1,
                             flags >> 1) ||
                e.vector != VECTOR_END)
                continue;
            /* Within the ring SS and ESP stay on the stack. */
            expect_equal(trap->at.sp, rpl > cpl ? c.dx : c.sp - 8, "cpl %u rpl %u access %02x: ESP", cpl, rpl,
                         byte);
            if (rpl > cpl)
                expect_equal(trap->at.ss, c.cx, "cpl %u rpl %u access %02x: SS", cpl, rpl, byte);
            expect_equal(trap->at.flags & FLAG_VM, 0, "cpl %u rpl %u access %02x: VM", cpl, rpl, byte);
        }
        /* The outer stack. A null one is for 64-bit code outside ring 3. */
        for (unsigned n = 0; n < 2 * 256 * 4; n++) {
            unsigned wide = n >> 10, byte = n >> 2 & 0xff, rpl = n & 3;
            struct context c = compat_context(0, forms[form].code);
            struct access a = access_of((u8)byte);
            struct expect e = rpl != 3 || !a.writable || a.dpl != 3 ? FAULT_AT(GP, OTHER, forms[form].at)
                              : a.p                                 ? END
                                                                    : FAULT_AT(SS, OTHER, forms[form].at);

            place(CODE64("nop"), CODE_AREA + LANDING);
            gdt[OTHER / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT32);
            c.ax = wide ? SEL_UCODE64 : SEL_UCODE32;
            c.cx = OTHER | rpl;
            c.dx = STACK_TOP - 0x800;
            c.si = CODE_AREA + LANDING;
            c.di = FLAG_FIXED;
            expect_trap(run(&c), e, "SS, wide %u access %02x rpl %u", wide, byte, rpl);
        }
        for (unsigned n = 0; n < 2 * 3; n++) {
            unsigned wide = n / 3, ring = n % 3 + 1;
            struct context c = compat_context(0, forms[form].code);
            bool good = wide && ring < 3;

            place(CODE64("nop"), CODE_AREA + LANDING);
            gdt[WIDE / 8] = descriptor(0, 0xfffff, CODE_XR(ring), wide ? FLAT64 : FLAT32);
            c.ax = WIDE | ring;
            c.cx = ring;
            c.dx = STACK_TOP - 0x800;
            c.si = CODE_AREA + LANDING;
            c.di = FLAG_FIXED;
            expect_trap(run(&c), good ? END : FAULT_AT(GP, 0, forms[form].at), "null SS, wide %u ring %u",
                        wide, ring);
        }
    }
    group("IRET with NT");
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        struct context c = compat_context(cpl, forms[1].code);

        c.ax = c.cs;
        c.si = CODE_AREA + LANDING;
        c.flags |= FLAG_NT;
        expect_trap(run(&c), FAULT_AT(GP, 0, 5), "cpl %u", cpl);
    }
}

/* A return to a 16-bit stack loads SP alone. Bits 16 to 31 of RSP stay what they were; so do the upper half on AMD's processors,
   while Intel's clear it. */
static void narrow_stacks(void)
{
    static const u64 high = 0xffff800000000000;
    struct {
        const char *name;
        struct code code;
    } forms[] = {
        {"IRETQ", CODE64("push rcx\n push rdx\n push rdi\n push rax\n push rsi\n iretq")},
        {"RETF", CODE64("push rcx\n push rdx\n push rax\n push rsi\n rex.w retf")},
    };

    group("returns to 16-bit stacks");
    boot_pml4[256] = boot_pml4[0]; /* the low memory there as well */
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        struct context c = kernel_context(forms[form].code);
        const struct trap *trap;

        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[OTHER / 8] = descriptor(STACK_AREA, 0xffff, DATA_RW(3), 0);
        c.sp |= high;
        c.ax = SEL_UCODE32;
        c.cx = OTHER | 3;
        c.dx = 0x123456789abcdef0;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "%s", forms[form].name);
        expect_equal(trap->at.sp, (cpu_is_amd() ? high : 0) | (c.sp & 0xffff0000) | 0xdef0, "%s: RSP",
                     forms[form].name);
    }
    boot_pml4[256] = 0;
    write_cr3(read_cr3());
}

/* Data segments that the outer ring may not have become null, in whatever mode it runs (SDM 2B RET, 2A IRET). */
static void nulled_segments(void)
{
    struct {
        const char *name;
        struct code code;
        bool from64;
    } forms[] = {
        {"IRETQ", CODE64("push rcx\n push rdx\n push rdi\n push rax\n push rsi\n iretq"), true},
        {"64-bit RETF", CODE64("push rcx\n push rdx\n push rax\n push rsi\n rex.w retf"), true},
        {"IRETD", CODE32("push ecx\n push edx\n push edi\n push eax\n push esi\n iretd"), false},
        {"RETF", CODE32("push ecx\n push edx\n push eax\n push esi\n retf"), false},
    };

    group("segments after returns to an outer ring");
    for (unsigned n = 0; n < 4 * 2 * 3 * 256; n++) {
        unsigned form = n / (2 * 3 * 256), wide = n / (3 * 256) & 1, ring = n / 256 % 3 + 1, byte = n & 0xff;
        struct access a = access_of((u8)byte);
        struct context c;
        const struct trap *trap;
        bool kept;

        if (!byte || (byte > 3 && (!a.s || !a.p || !a.readable)))
            continue; /* 0 in a context leaves FS and GS alone; the others cannot be in a register */
        c = forms[form].from64 ? kernel_context(forms[form].code) : compat_context(0, forms[form].code);
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[OTHER / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT32);
        gdt[WIDE / 8] = descriptor(0, 0xfffff, CODE_XR(ring), wide ? FLAT64 : FLAT32);
        c.es = c.fs = c.gs = byte > 3 ? OTHER : byte; /* null selectors of every RPL, too: they lose it */
        c.ax = WIDE | ring;
        c.cx = SEL_RING_DATA(ring);
        c.dx = STACK_TOP - 0x800;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        trap = run(&c);
        if (!expect_trap(trap, END, "%s, wide %u ring %u access %02x", forms[form].name, wide, ring, byte))
            continue;
        kept = byte > 3 && (a.conforming || a.dpl >= ring);
        expect_equal(trap->at.es, kept ? OTHER : 0, "%s, wide %u ring %u access %02x: ES", forms[form].name,
                     wide, ring, byte);
        expect_equal(trap->at.fs, kept ? OTHER : 0, "%s, wide %u ring %u access %02x: FS", forms[form].name,
                     wide, ring, byte);
        expect_equal(trap->at.gs, kept ? OTHER : 0, "%s, wide %u ring %u access %02x: GS", forms[form].name,
                     wide, ring, byte);
    }
    asm volatile("mov %0, %%fs\n mov %0, %%gs" ::"r"(0));
}

/* ---- delivery ---- */

static void delivery(void)
{
    struct code forms[] = {CODE32("int 0x90"), CODE32("ud2"), CODE32("int3"), CODE32(".byte 0xce")};
    static const struct expect wants[] = {{VECTOR, 0, 2}, {UD, 0, 0}, {BP, 0, 1}, {OF, 0, 1}};

    group("interrupts and exceptions");
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        for (unsigned cpl = 0; cpl < 4; cpl++) {
            struct context c = compat_context(cpl, forms[form]);
            int vector = wants[form].vector;
            const struct trap *trap;
            u64 top;

            set_gate(vector, SEL_KCODE, trap_entry(vector), ACCESS_P | 3 << 5 | TYPE_INT, 0);
            c.sp -= 4; /* not aligned */
            c.flags |= FLAG_OF | FLAG_CF;
            trap = run(&c);
            reset_idt();
            top = cpl ? ring_stack(0) & ~15ull : c.sp & ~15ull;
            expect_trap(trap, wants[form], "form %u cpl %u", form, cpl);
            expect_equal(trap->frame, top - 40, "form %u cpl %u: frame", form, cpl);
            expect_equal(trap->at.cs, c.cs, "form %u cpl %u: CS", form, cpl);
            expect_equal(trap->at.ss, c.ss, "form %u cpl %u: SS", form, cpl);
            expect_equal(trap->at.sp, c.sp, "form %u cpl %u: ESP", form, cpl);
            expect_equal(trap->at.flags & ~(ulong)FLAG_RF, c.flags, "form %u cpl %u: flags", form, cpl);
        }
    }
    group("gates of the IDT");
    for (unsigned n = 0; n < 4 * 256; n++) {
        unsigned cpl = n >> 8, byte = n & 0xff, type = byte & 0x1f, dpl = byte >> 5 & 3;
        struct context c = compat_context(cpl, forms[0]);
        bool good = type == TYPE_INT || type == TYPE_TRAP;

        set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), (u8)byte, 1);
        expect_trap(run(&c),
                    !good || dpl < cpl ? FAULT(GP, VECTOR * 8 + ERROR_IDT)
                    : byte & ACCESS_P  ? END
                                       : FAULT(NP, VECTOR * 8 + ERROR_IDT),
                    "access %02x cpl %u", byte, cpl);
    }
    reset_idt();
}

/* ---- instructions about descriptors ---- */

static void descriptors(void)
{
    struct {
        const char *name;
        struct code code;
        u16 types; /* system types that it knows in IA-32e mode: SDM 2A tables of LAR and LSL */
    } forms[] = {
        {"LAR", CODE32("lar ecx, eax"), 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12},
        {"LSL", CODE32("lsl ecx, eax"), 1 << 2 | 1 << 9 | 1 << 11},
        {"VERR", CODE32("verr ax"), 0},
        {"VERW", CODE32("verw ax"), 0},
    };

    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        group(forms[form].name);
        for (unsigned n = 0; n < 4 * 4 * 256; n++) {
            unsigned cpl = n >> 10, rpl = n >> 8 & 3, byte = n & 0xff;
            struct context c = compat_context(cpl, forms[form].code);
            struct access a = access_of((u8)byte);
            bool privileged = (a.code && a.conforming) || (a.dpl >= cpl && a.dpl >= rpl);
            bool good = form == 2   ? privileged && a.s && a.readable
                        : form == 3 ? privileged && a.s && a.writable
                                    : privileged && (a.s || (forms[form].types >> a.type & 1));
            const struct trap *trap;

            gdt[TARGET / 8] = descriptor(0, 0x1234, (u8)byte, 0);
            gdt[TARGET / 8 + 1] = 0;
            c.ax = TARGET | rpl;
            c.cx = 0x55555555;
            trap = run(&c);
            if (!expect_trap(trap, END, "access %02x rpl %u cpl %u", byte, rpl, cpl))
                continue;
            expect_equal(!!(trap->at.flags & FLAG_ZF), good, "access %02x rpl %u cpl %u: ZF", byte, rpl, cpl);
            if (form == 1)
                expect_equal(trap->at.cx, good ? 0x1234 : 0x55555555, "access %02x rpl %u cpl %u: limit",
                             byte, rpl, cpl);
        }
    }
    group("LLDT and LTR");
    for (unsigned ltr = 0; ltr < 2; ltr++) {
        struct code code = ltr ? CODE32("ltr ax") : CODE32("lldt ax");

        for (unsigned n = 0; n < 2 * 256; n++) {
            unsigned high = n >> 8, byte = n & 0xff, type = byte & 0x1f; /* high: the upper half has a type */
            struct context c = compat_context(0, code);
            bool known = type == (ltr ? TYPE_TSS : TYPE_LDT);
            struct expect e = known && !(byte & ACCESS_P) ? FAULT(NP, TARGET)
                              : known && !high            ? END
                                                          : FAULT(GP, TARGET);

            gdt[TARGET / 8] = descriptor((u32)(ulong)tss, TSS_LIMIT, (u8)byte, 0);
            gdt[TARGET / 8 + 1] = (u64)high << 40;
            c.ax = TARGET;
            if (known && high && !(byte & ACCESS_P))
                continue; /* the order is open */
            expect_trap(run(&c), e, "%s, access %02x, high %u", ltr ? "LTR" : "LLDT", byte, high);
        }
        for (unsigned cpl = 1; cpl < 4; cpl++) {
            struct context c = compat_context(cpl, code);

            expect_trap(run(&c), FAULT(GP, 0), "%s, cpl %u", ltr ? "LTR" : "LLDT", cpl);
        }
    }
    asm volatile("lldt %w0" ::"r"(0));
    load_tss(TSS_LIMIT);
    group("tables");
    {
        struct context c = compat_context(0, CODE32("sgdt [ebx]\n lgdt [ebx]\n sgdt [ebx + 16]"));
        const struct trap *trap;

        memset((void *)DATA_AREA, 0x5a, 32);
        c.bx = DATA_AREA;
        trap = run(&c);
        expect_trap(trap, END, "SGDT and LGDT");
        expect_equal(*(u16 *)DATA_AREA, sizeof(gdt) - 1, "SGDT: limit");
        expect_equal(*(u32 *)(DATA_AREA + 2), (u32)(ulong)gdt, "SGDT: base");
        expect_equal(*(u16 *)(DATA_AREA + 6), 0x5a5a, "SGDT: six bytes");
        expect_equal(*(u32 *)(DATA_AREA + 18), (u32)(ulong)gdt, "LGDT: base");
        c = compat_context(3, CODE32("arpl ax, cx"));
        c.ax = 8;
        c.cx = 3;
        trap = run(&c);
        expect_trap(trap, END, "ARPL");
        expect_equal(trap->at.ax, 11, "ARPL: value");
        c = compat_context(0, CODE32(".byte 0x0f, 0x01, 0xf8"));
        expect_trap(run(&c), FAULT(UD, 0), "SWAPGS");
    }
}

/* ---- fast system calls: which exist is a matter of the maker ---- */

static void system_calls(void)
{
    const u64 efer = rdmsr(MSR_EFER);
    struct context c;
    const struct trap *trap;

    group("SYSCALL and SYSRET");
    wrmsr(MSR_EFER, efer | EFER_SCE);
    wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32);
    wrmsr(MSR_LSTAR, CODE_AREA + 2 * LANDING);
    wrmsr(MSR_CSTAR, CODE_AREA + LANDING);
    wrmsr(MSR_FMASK, FLAG_IF | FLAG_DF);
    place(CODE64("nop"), CODE_AREA + LANDING);
    if (!cpu_is_amd()) {
        for (unsigned cpl = 0; cpl < 4; cpl++) {
            c = compat_context(cpl, CODE32(".byte 0x0f, 0x05"));
            expect_trap(run(&c), FAULT(UD, 0), "SYSCALL, cpl %u", cpl);
            c = compat_context(cpl, CODE32(".byte 0x0f, 0x07"));
            expect_trap(run(&c), FAULT(UD, 0), "SYSRET, cpl %u", cpl);
        }
    } else {
        for (unsigned cpl = 0; cpl < 4; cpl++) {
            c = compat_context(cpl, CODE32(".byte 0x0f, 0x05"));
            c.flags |= FLAG_IF | FLAG_DF | FLAG_CF | FLAG_IOPL;
            trap = run(&c);
            expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSCALL, cpl %u: CSTAR", cpl);
            expect_equal(trap->at.cx, CODE_AREA + 2, "SYSCALL, cpl %u: RCX", cpl);
            expect_equal(trap->at.r11, c.flags, "SYSCALL, cpl %u: R11", cpl);
            expect_equal(trap->at.flags, FLAG_FIXED | FLAG_CF | FLAG_IOPL, "SYSCALL, cpl %u: flags", cpl);
            expect_equal(trap->at.cs, SEL_KCODE, "SYSCALL, cpl %u: CS", cpl);
            expect_equal(trap->at.ss, SEL_KDATA, "SYSCALL, cpl %u: SS", cpl);
            c = compat_context(cpl, CODE32(".byte 0x0f, 0x07"));
            c.cx = CODE_AREA + LANDING;
            c.r11 = FLAG_FIXED | FLAG_CF;
            trap = run(&c);
            expect_trap(trap, cpl ? FAULT(GP, 0) : FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSRET, cpl %u",
                        cpl);
            if (!cpl)
                expect_equal(trap->at.cs, SEL_UCODE32, "SYSRET: CS");
        }
    }
    /* SYSRET leaves SS as it is on AMD's, also a null one (APM 3); on Intel's it is flat. */
    c = kernel_context(CODE64("xor eax, eax\n mov ss, eax\n .byte 0x0f, 0x07"));
    place(CODE32("push eax"), CODE_AREA + LANDING);
    c.cx = CODE_AREA + LANDING;
    c.r11 = FLAG_FIXED;
    trap = run(&c);
    expect_trap(trap, cpu_is_amd() ? FAULT_AT(SS, 0, LANDING) : FAULT_AT(VECTOR_END, 0, LANDING + 3),
                "SYSRET with a null SS");
    expect_equal(trap->at.ss, SEL_UDATA, "SYSRET with a null SS: SS");
    expect_equal(trap->at.cs, SEL_UCODE32, "SYSRET with a null SS: CS");
    wrmsr(MSR_EFER, efer);

    if (!cpu_has(CPU_SEP)) {
        skip_group("SYSENTER and SYSEXIT", "the processor has none");
        return;
    }
    group("SYSENTER and SYSEXIT");
    wrmsr(MSR_SYSENTER_CS, SEL_KCODE);
    wrmsr(MSR_SYSENTER_ESP, STACK_TOP - 0x300);
    wrmsr(MSR_SYSENTER_EIP, CODE_AREA + LANDING);
    place(CODE64("nop"), CODE_AREA + LANDING);
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        c = compat_context(cpl, CODE32("sysenter"));
        trap = run(&c);
        expect_trap(trap, cpu_is_amd() ? FAULT(UD, 0) : FAULT_AT(VECTOR_END, 0, LANDING + 3),
                    "SYSENTER, cpl %u", cpl);
        if (!cpu_is_amd())
            expect_equal(trap->at.cs, SEL_KCODE, "SYSENTER, cpl %u: CS", cpl);
        c = compat_context(cpl, CODE32("sysexit"));
        c.dx = CODE_AREA + LANDING;
        c.cx = STACK_TOP;
        trap = run(&c);
        expect_trap(trap,
                    cpu_is_amd() ? FAULT(UD, 0)
                    : cpl        ? FAULT(GP, 0)
                                 : FAULT_AT(VECTOR_END, 0, LANDING + 3),
                    "SYSEXIT, cpl %u", cpl);
        if (!cpu_is_amd() && !cpl)
            expect_equal(trap->at.cs, SEL_UCODE32, "SYSEXIT: CS");
    }
    wrmsr(MSR_SYSENTER_CS, 0);
}

void test(void)
{
    for (unsigned ring = 0; ring < 4; ring++)
        gdt[COMPAT / 8 + ring] = descriptor(0, 0xfffff, CODE_XR(ring), FLAT32);
    loads();
    far_code();
    system_types();
    returns();
    narrow_stacks();
    nulled_segments();
    delivery();
    descriptors();
    system_calls();
}
