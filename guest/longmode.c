/*
 * IA-32e mode: delivery through 16-byte gates and IST, call gates, returns to 64-bit and compatibility mode, null SS, SYSCALL
 * and SYSRET, SWAPGS and the FS and GS bases, canonical addresses, CR8, and what is invalid in 64-bit mode. SDM 3A 5.8, 6.14,
 * 2A and 2B "Operation" of the instructions.
 */
#include "guest.h"

enum {
    VECTOR = 0x90,
    GATE = SEL_TEST, /* 16 bytes */
    TARGET = SEL_TEST + 16,
    STACK = SEL_TEST + 24,
    LAST = GDT_ENTRIES * 8 - 8, /* the GDT's last eight bytes */
    BEYOND = GDT_ENTRIES * 8,
    LANDING = 0x100,
    ERROR_EXT = 1,
    ERROR_IDT = 2,
    FLAT64 = FLAGS_G | FLAGS_L,
    FLAT32 = FLAGS_G | FLAGS_D,
};
static const u64 non_canonical = 1ull << 47;
static const u64 too_wide = 1ull << 56; /* not canonical in any mode: for what is only kept */

static u64 ring_stack(unsigned ring)
{
    return *(u64 *)(tss + 4 + 8 * ring);
}

static void set_ist(unsigned ist, u64 rsp)
{
    *(u64 *)(tss + 0x24 + 8 * (ist - 1)) = rsp;
}

static void set_call_gate(u16 selector, u64 offset, u8 access, u32 high)
{
    gdt[GATE / 8] = gate(selector, (u32)offset, access, 0);
    gdt[GATE / 8 + 1] = offset >> 32 | (u64)high << 32;
}

/* ---- Delivery: SDM 3A 6.14 ---- */

static void stack_frames(void)
{
    group("stack of a handler");
    /* Without IST within a ring: RSP is aligned down to 16, and SS:RSP are pushed. */
    for (unsigned offset = 0; offset < 16; offset++) {
        struct context c = kernel_context(CODE64("int 0x90"));
        const struct trap *trap;

        set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | TYPE_INT, 0);
        c.sp -= 0x100 + offset;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 2), "RSP modulo 16 is %u", 16 - offset);
        expect_equal(trap->frame, (c.sp & ~15ul) - 40, "RSP modulo 16 is %u: frame", 16 - offset);
        expect_equal(trap->at.sp, c.sp, "RSP modulo 16 is %u: pushed RSP", 16 - offset);
        expect_equal(trap->at.ss, c.ss, "RSP modulo 16 is %u: pushed SS", 16 - offset);
    }
    /* To ring 0 by RSP0, and by IST from both rings. */
    for (unsigned ist = 0; ist < 8; ist++) {
        for (int cpl = 0; cpl < 4; cpl += 3) {
            struct context c = ring_context(cpl, CODE64("int 0x90"));
            u64 top = STACK_AREA + 0x400 + 0x200 * ist + 7, want;
            u64 saved = *(u64 *)(tss + 0x24);
            const struct trap *trap;

            if (ist > 1)
                set_ist(ist, top);
            set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | 3 << 5 | TYPE_INT, (u8)ist);
            trap = run(&c);
            want = ist > 1 ? top : ist ? saved : cpl ? ring_stack(0) : c.sp;
            expect_trap(trap, FAULT_AT(VECTOR_END, 0, 2), "IST %u from ring %d", ist, cpl);
            expect_equal(trap->frame, (want & ~15ull) - 40, "IST %u from ring %d: frame", ist, cpl);
        }
    }
    /* SS in the handler: null with the new RPL when the ring changes, untouched when it does not. */
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned dpl = 0; dpl <= cpl; dpl++) {
            for (unsigned ist = 0; ist < 2; ist++) {
                struct context c = ring_context((int)cpl, CODE64("int 0x90"));
                const struct trap *trap;

                place(CODE64("nop"), CODE_AREA + LANDING);
                gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(dpl), FLAT64);
                set_ist(2, STACK_AREA + 0x1000);
                set_gate(VECTOR, TARGET, CODE_AREA + LANDING, ACCESS_P | 3 << 5 | TYPE_TRAP, ist ? 2 : 0);
                c.flags |= FLAG_IF | FLAG_NT;
                trap = run(&c);
                expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "ring %u to %u, IST %u", cpl, dpl,
                            ist);
                expect_equal(trap->at.ss, dpl < cpl ? dpl : c.ss, "ring %u to %u, IST %u: SS", cpl, dpl, ist);
                expect_equal(trap->at.cs, TARGET | dpl, "ring %u to %u, IST %u: CS", cpl, dpl, ist);
                expect_equal(trap->at.flags, FLAG_FIXED | FLAG_IF, "ring %u to %u, IST %u: flags", cpl, dpl,
                             ist);
                if (dpl == cpl || dpl == 0)
                    continue;
                expect_equal(trap->at.sp, ist ? STACK_AREA + 0x1000 - 40 : ring_stack(dpl) - 40,
                             "ring %u to %u, IST %u: RSP", cpl, dpl, ist);
            }
        }
    }
    /* A stack that is not canonical is #SS; the exception itself is on IST1. */
    for (int cpl = 0; cpl < 4; cpl += 3) {
        struct code forms[] = {CODE64("int 0x90"), CODE64("ud2")};

        for (unsigned ext = 0; ext < 2; ext++) {
            struct context c = ring_context(cpl, forms[ext]);
            int vector = ext ? UD : VECTOR;
            u64 saved = ring_stack(0);

            set_ist(3, non_canonical + 0x100);
            set_gate(vector, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | 3 << 5 | TYPE_INT, 3);
            expect_trap(run(&c), FAULT(SS, ext), "IST that is not canonical, ring %d, EXT %u", cpl, ext);
            if (cpl) {
                *(u64 *)(tss + 4) = non_canonical + 0x100;
                set_gate(vector, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | 3 << 5 | TYPE_INT, 0);
                expect_trap(run(&c), FAULT(SS, ext), "RSP0 that is not canonical, EXT %u", ext);
                *(u64 *)(tss + 4) = saved;
            }
            reset_idt();
        }
    }
}

static void gates(void)
{
    group("interrupt gates");
    for (unsigned n = 0; n < 4 * 256; n++) {
        unsigned cpl = n >> 8, byte = n & 0xff, type = byte & 0x1f, dpl = byte >> 5 & 3;
        struct context c = ring_context((int)cpl, CODE64("int 0x90"));
        ulong error = VECTOR * 8 + ERROR_IDT;
        bool good = type == TYPE_INT || type == TYPE_TRAP;

        set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), (u8)byte, 1);
        expect_trap(run(&c),
                    !good || dpl < cpl ? FAULT(GP, error)
                    : byte & ACCESS_P  ? END
                                       : FAULT(NP, error),
                    "access %02x cpl %u", byte, cpl);
    }
    group("handler's code segment");
    for (unsigned n = 0; n < 4 * 4 * 256; n++) {
        unsigned cpl = n >> 10, flags = n >> 8 & 3, byte = n & 0xff; /* flags: D and L */
        struct context c = ring_context((int)cpl, CODE64("int 0x90"));
        struct access a = access_of((u8)byte);
        bool good = a.code && a.dpl <= cpl;
        struct expect e = !good ? FAULT(GP, TARGET) : !a.p ? FAULT(NP, TARGET) : END;

        /* L has to be set and D clear; the order of that and of P is open. */
        if (good && flags != FLAGS_L >> 1) {
            if (!a.p)
                continue;
            e = FAULT(GP, TARGET);
        }
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, (u8)(FLAGS_G | flags << 1));
        set_gate(VECTOR, TARGET, CODE_AREA + LANDING, ACCESS_P | 3 << 5 | TYPE_INT, 0);
        expect_trap(run(&c), e, "access %02x L %u D %u cpl %u", byte, flags & 1, flags >> 1, cpl);
    }
    static const struct {
        const char *what;
        u16 selector;
        u64 offset;
        u16 error;
    } rows[] = {
        {"null", 0, CODE_AREA, 0},
        {"null with RPL 3", 3, CODE_AREA, 0},
        {"beyond the GDT", BEYOND, CODE_AREA, BEYOND},
        {"in no LDT", TARGET | 4, CODE_AREA, TARGET | 4},
        {"offset that is not canonical", SEL_KCODE, 1ull << 47, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(CODE64("int 0x90"));

        set_gate(VECTOR, rows[i].selector, rows[i].offset, ACCESS_P | 3 << 5 | TYPE_INT, 0);
        expect_trap(run(&c), FAULT(GP, rows[i].error), "%s", rows[i].what);
    }
    for (int delta = -1; delta < 17; delta++) {
        struct context c = user_context(CODE64("int 0x90"));
        const struct trap *trap;

        set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | 3 << 5 | TYPE_INT, 0);
        load_idt(idt, (u16)(VECTOR * 16 + delta));
        trap = run(&c);
        load_idt(idt, sizeof(idt) - 1);
        expect_trap(trap, delta >= 15 ? END : FAULT(GP, VECTOR * 8 + ERROR_IDT),
                    "limit %d bytes into the gate", delta);
    }
    reset_idt();
}

/* ---- Far transfers: SDM 3A 5.8.3.1 ---- */

static void call_gates(void)
{
    struct code forms[] = {CODE64("call fword ptr [rbx]"), CODE64("jmp fword ptr [rbx]"),
                           CODE64("rex.w call fword ptr [rbx]")};

    group("call gates");
    /* AMD's have no 64-bit offset in a far pointer. */
    for (unsigned form = 0; form < ARRAY_SIZE(forms) - cpu_is_amd(); form++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            for (unsigned cpl = 0; cpl < 4; cpl++) {
                struct context c = ring_context((int)cpl, forms[form]);
                unsigned type = byte & 0x1f, dpl = byte >> 5 & 3;
                struct expect e = END;
                const struct trap *trap;

                if (byte & ACCESS_S)
                    continue; /* below, as code segments */
                place(CODE64("nop"), CODE_AREA + LANDING);
                gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(cpl), FLAT64);
                set_call_gate(TARGET, CODE_AREA + LANDING, (u8)byte, 0);
                *(u64 *)DATA_AREA = (u64)(GATE) << 32;
                if (form == 2)
                    *(u64 *)DATA_AREA = 0, *(u16 *)(DATA_AREA + 8) = GATE;
                c.bx = DATA_AREA;
                if (type != TYPE_CALL || dpl < cpl)
                    e = FAULT(GP, GATE);
                else if (!(byte & ACCESS_P))
                    e = FAULT(NP, GATE);
                trap = run(&c);
                if (expect_trap(trap, e, "form %u access %02x cpl %u", form, byte, cpl) &&
                    e.vector == VECTOR_END) {
                    expect_equal(trap->at.sp, c.sp - (form == 1 ? 0 : 16), "form %u access %02x cpl %u: RSP",
                                 form, byte, cpl);
                    expect_equal(trap->at.ss, c.ss, "form %u access %02x cpl %u: SS", form, byte, cpl);
                }
            }
        }
    }
    *(u64 *)DATA_AREA = (u64)(GATE | 3) << 32;
    /* To an inner ring: eight-byte pushes, a null SS, nothing copied. */
    for (unsigned dpl = 0; dpl < 3; dpl++) {
        struct context c = user_context(forms[0]);
        const struct trap *trap;
        const u64 *stack;

        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(dpl), FLAT64);
        set_call_gate(TARGET, CODE_AREA + LANDING, ACCESS_P | 3 << 5 | TYPE_CALL, 0);
        gdt[GATE / 8] |= 7ull << 32; /* where a 32-bit gate has its count */
        c.bx = DATA_AREA;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "to ring %u", dpl);
        expect_equal(trap->at.cs, TARGET | dpl, "to ring %u: CS", dpl);
        expect_equal(trap->at.ss, dpl, "to ring %u: SS", dpl);
        expect_equal(trap->at.sp, ring_stack(dpl) - 32, "to ring %u: RSP", dpl);
        stack = (const u64 *)trap->at.sp;
        expect_equal(stack[0], CODE_AREA + 2, "to ring %u: pushed RIP", dpl);
        expect_equal(stack[1], c.cs, "to ring %u: pushed CS", dpl);
        expect_equal(stack[2], c.sp, "to ring %u: pushed RSP", dpl);
        expect_equal(stack[3], c.ss, "to ring %u: pushed SS", dpl);
        /* And back. */
        place(CODE64("rex.w retf"), CODE_AREA + LANDING);
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 4), "to ring %u and back", dpl);
        expect_equal(trap->at.cs, c.cs, "to ring %u and back: CS", dpl);
        expect_equal(trap->at.ss, c.ss, "to ring %u and back: SS", dpl);
        expect_equal(trap->at.sp, c.sp, "to ring %u and back: RSP", dpl);
    }
    static const struct {
        const char *what;
        u16 target;
        u64 offset;
        u8 access, flags;
        u32 high;
        struct expect want;
    } rows[] = {
        {"null target", 0, CODE_AREA, CODE_XR(0), FLAT64, 0, {GP, 0, 0}},
        {"target beyond the GDT", BEYOND, CODE_AREA, CODE_XR(0), FLAT64, 0, {GP, BEYOND, 0}},
        {"32-bit target", TARGET, CODE_AREA, CODE_XR(0), FLAT32, 0, {GP, TARGET, 0}},
        {"target with L and D", TARGET, CODE_AREA, CODE_XR(0), FLAT64 | FLAGS_D, 0, {GP, TARGET, 0}},
        {"16-bit target", TARGET, CODE_AREA, CODE_XR(0), FLAGS_G, 0, {GP, TARGET, 0}},
        {"data as target", TARGET, CODE_AREA, DATA_RW(0), FLAT64, 0, {GP, TARGET, 0}},
        {"absent target", TARGET, CODE_AREA, CODE_XR(0) & ~ACCESS_P, FLAT64, 0, {NP, TARGET, 0}},
        {"offset that is not canonical", TARGET, 1ull << 47, CODE_XR(3), FLAT64, 0, {GP, 0, 0}},
        {"offset that is not canonical, to ring 0", TARGET, 1ull << 47, CODE_XR(0), FLAT64, 0, {GP, 0, 0}},
        {"a type in the upper half", TARGET, CODE_AREA, CODE_XR(0), FLAT64, 1 << 8, {GP, GATE, 0}},
        {"another type in the upper half", TARGET, CODE_AREA, CODE_XR(0), FLAT64, 1 << 12, {GP, GATE, 0}},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(forms[0]);

        gdt[TARGET / 8] = descriptor(0, 0xfffff, rows[i].access, rows[i].flags);
        set_call_gate(rows[i].target, rows[i].offset, ACCESS_P | 3 << 5 | TYPE_CALL, rows[i].high);
        c.bx = DATA_AREA;
        expect_trap(run(&c), rows[i].want, "%s", rows[i].what);
    }
    {
        struct context c = user_context(forms[0]);

        gdt[LAST / 8] = gate(SEL_KCODE, CODE_AREA, ACCESS_P | 3 << 5 | TYPE_CALL, 0);
        *(u64 *)DATA_AREA = (u64)(LAST) << 32;
        c.bx = DATA_AREA;
        expect_trap(run(&c), FAULT(GP, LAST), "a gate whose second half is beyond the GDT");
        gdt[LAST / 8] = 0;
    }
}

/* JMP and CALL to code segments with every L and D, from 64-bit and from compatibility mode. */
static void far_code(void)
{
    group("far jumps to code segments");
    for (unsigned n = 0; n < 2 * 4 * 256; n++) {
        unsigned compatibility = n >> 10, flags = n >> 8 & 3, byte = n & 0xff;
        struct context c = user_context(CODE64("jmp fword ptr [rbx]")); /* the same bytes in both modes */
        struct access a = access_of((u8)byte);
        bool good = a.code && (a.conforming || a.dpl == 3) && flags != 3;
        struct expect e = !good ? FAULT(GP, TARGET) : !a.p ? FAULT(NP, TARGET) : END;

        if (!a.s)
            continue;
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, (u8)(FLAGS_G | flags << 1));
        *(u64 *)DATA_AREA = (u64)(TARGET | 3) << 32 | (CODE_AREA + LANDING);
        c.bx = DATA_AREA;
        if (compatibility)
            c.cs = SEL_UCODE32;
        expect_trap(run(&c), e, "access %02x L %u D %u from %s", byte, flags & 1, flags >> 1,
                    compatibility ? "compatibility mode" : "64-bit mode");
    }
}

/* ---- Segments ---- */

static void segment_loads(void)
{
    group("segments in 64-bit mode");
    /* A null SS: at CPL 0 to 2 with that RPL. */
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned rpl = 0; rpl < 4; rpl++) {
            struct context c = ring_context((int)cpl, CODE64("mov ss, eax\n mov ecx, ss"));
            bool good = cpl == rpl && cpl < 3;
            const struct trap *trap;

            c.ax = rpl;
            trap = run(&c);
            expect_trap(trap, good ? END : FAULT(GP, 0), "null SS, rpl %u cpl %u", rpl, cpl);
            if (good)
                expect_equal(trap->at.cx, rpl, "null SS, rpl %u cpl %u: value", rpl, cpl);
            c = ring_context((int)cpl, CODE64("mov ss, eax"));
            c.cs = SEL_RING_CODE(cpl) & 0xfff8;
            if (cpl < 3) {
                /* Not from compatibility mode. */
                gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(cpl), FLAT32);
                c.cs = TARGET | cpl;
                c.ax = rpl;
                expect_trap(run(&c), FAULT(GP, 0), "null SS in compatibility mode, rpl %u cpl %u", rpl, cpl);
            }
        }
    }
    /* Limits, types and null selectors mean nothing for DS and ES. */
    struct code uses[] = {CODE64("mov ds, ecx\n mov eax, [rbx]"), CODE64("mov ds, ecx\n mov [rbx], eax"),
                          CODE64("mov es, ecx\n mov rdi, rbx\n stosb"),
                          CODE64("mov es, ecx\n mov eax, es:[rbx]")};
    for (unsigned i = 0; i < ARRAY_SIZE(uses); i++) {
        static const u16 selectors[] = {0, 3, TARGET | 3};
        for (unsigned s = 0; s < ARRAY_SIZE(selectors); s++) {
            struct context c = user_context(uses[i]);

            gdt[TARGET / 8] = descriptor(0x12345678, 0, DATA_RW(3) & ~ACCESS_W, FLAGS_D);
            c.bx = DATA_AREA;
            c.cx = selectors[s];
            expect_trap(run(&c), END, "use %u with selector %x", i, selectors[s]);
        }
    }
    /* Loads are checked as ever. */
    {
        struct context c = user_context(CODE64("mov ds, ecx"));

        c.cx = SEL_KDATA;
        expect_trap(run(&c), FAULT(GP, SEL_KDATA), "DPL 0");
        gdt[TARGET / 8] = descriptor(0, 0, DATA_RW(3) & ~ACCESS_P, 0);
        c.cx = TARGET | 3;
        expect_trap(run(&c), FAULT(NP, TARGET), "absent");
        c.cx = BEYOND;
        expect_trap(run(&c), FAULT(GP, BEYOND), "beyond the GDT");
    }
    /* In compatibility mode limits are checked, and addresses have 32 bits. */
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        struct context c = user_context(CODE32("mov ds, ecx\n mov eax, [ebx]"));

        gdt[TARGET / 8] = descriptor(DATA_AREA, 0xfff, DATA_RW(3), FLAGS_D);
        c.cs = SEL_UCODE32;
        c.cx = TARGET | 3;
        c.bx = beyond ? 0xffd : 0xffc;
        expect_trap(run(&c), beyond ? FAULT_AT(GP, 0, 2) : END, "compatibility mode, beyond the limit %u",
                    beyond);
    }
    {
        struct context c = user_context(CODE32("mov eax, [ebx + ecx]"));
        const struct trap *trap;

        *(u32 *)(DATA_AREA + 8) = 0x600d;
        c.cs = SEL_UCODE32;
        c.bx = 0xfffffff8;
        c.cx = DATA_AREA + 16;
        trap = run(&c);
        expect_trap(trap, END, "compatibility mode, an address that wraps");
        expect_equal(trap->at.ax, 0x600d, "compatibility mode, an address that wraps: value");
        c = user_context(CODE32("mov eax, [ebx]"));
        c.cs = SEL_UCODE32;
        c.ds = 0;
        c.bx = DATA_AREA;
        expect_trap(run(&c), FAULT(GP, 0), "compatibility mode, null DS");
    }
}

/* LDT and TSS descriptors have 16 bytes: SDM 2A LLDT, LTR. */
static void system_segments(void)
{
    static const struct {
        const char *what;
        u8 access;
        u64 high;
        bool lldt_good, ltr_good, absent;
    } rows[] = {
        {"an LDT", ACCESS_P | TYPE_LDT, 0, true, false, false},
        {"an available TSS", ACCESS_P | TYPE_TSS, 0, false, true, false},
        {"a busy TSS", ACCESS_P | TYPE_TSS | 2, 0, false, false, false},
        {"a 16-bit TSS", ACCESS_P | TYPE_TSS16, 0, false, false, false},
        {"an LDT with a type above", ACCESS_P | TYPE_LDT, 1ull << 40, false, false, false},
        {"a TSS with a type above", ACCESS_P | TYPE_TSS, 1ull << 40, false, false, false},
        {"an LDT whose base is not canonical", ACCESS_P | TYPE_LDT, 0x1000000, false, false, false},
        {"a TSS whose base is not canonical", ACCESS_P | TYPE_TSS, 0x1000000, false, false, false},
        {"an absent LDT", TYPE_LDT, 0, false, false, true},
        {"an absent TSS", TYPE_TSS, 0, false, false, true},
    };

    group("LLDT and LTR");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned ltr = 0; ltr < 2; ltr++) {
            struct code forms[] = {CODE64("lldt ax"), CODE64("ltr ax")};
            struct context c = kernel_context(forms[ltr]);
            bool type = (rows[i].access & 15) == (ltr ? TYPE_TSS : TYPE_LDT);

            gdt[GATE / 8] = descriptor((u32)(ulong)tss, TSS_LIMIT, rows[i].access, 0);
            gdt[GATE / 8 + 1] = rows[i].high;
            c.ax = GATE;
            expect_trap(run(&c),
                        (ltr ? rows[i].ltr_good : rows[i].lldt_good) ? END
                        : rows[i].absent && type                     ? FAULT(NP, GATE)
                                                                     : FAULT(GP, GATE),
                        "%s of %s", ltr ? "LTR" : "LLDT", rows[i].what);
        }
    }
    asm volatile("lldt %w0" ::"r"(0));
    load_tss(TSS_LIMIT);
    {
        struct code forms[] = {CODE64("lgdt [rbx]"), CODE64("lidt [rbx]")};
        static struct pseudo_descriptor table;

        for (unsigned i = 0; i < 2; i++) {
            struct context c = kernel_context(forms[i]);

            table = (struct pseudo_descriptor){0xfff, too_wide};
            c.bx = (ulong)&table;
            expect_trap(run(&c), FAULT(GP, 0), "%s with a base that is not canonical", i ? "LIDT" : "LGDT");
        }
    }
    group("LAR and LSL in 64-bit mode");
    for (unsigned byte = 0; byte < 256; byte++) {
        for (unsigned lsl = 0; lsl < 2; lsl++) {
            struct code forms[] = {CODE64("lar ecx, eax"), CODE64("lsl ecx, eax")};
            struct context c = kernel_context(forms[lsl]);
            const struct trap *trap;
            unsigned type = byte & 15;
            bool good = byte & ACCESS_S || type == TYPE_LDT || type == TYPE_TSS || type == (TYPE_TSS | 2) ||
                        (!lsl && type == TYPE_CALL);

            gdt[GATE / 8] = descriptor(0, 0x1234, (u8)byte, 0);
            gdt[GATE / 8 + 1] = 0;
            c.ax = GATE;
            trap = run(&c);
            if (expect_trap(trap, END, "access %02x", byte))
                expect_equal(!!(trap->at.flags & FLAG_ZF), good, "%s, access %02x: ZF", lsl ? "LSL" : "LAR",
                             byte);
        }
    }
}

/* ---- IRET ---- */

static void iret(void)
{
    struct code code = CODE64("push rcx\n push rdx\n push rdi\n push rax\n push rsi\n iretq");
    enum { AT = 5 };

    group("IRETQ to every code segment");
    for (unsigned n = 0; n < 4 * 4 * 256; n++) {
        unsigned rpl = n >> 10, flags = n >> 8 & 3, byte = n & 0xff;
        struct context c = kernel_context(code);
        struct access a = access_of((u8)byte);
        bool good = a.code && (a.conforming ? a.dpl <= rpl : a.dpl == rpl) && flags != 3;
        const struct trap *trap;

        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, (u8)(FLAGS_G | flags << 1));
        c.ax = TARGET | rpl;
        c.cx = SEL_RING_DATA(rpl);
        c.dx = STACK_TOP - 0x800;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        if (expect_trap(trap,
                        !good ? FAULT_AT(GP, TARGET, AT)
                        : a.p ? END
                              : FAULT_AT(NP, TARGET, AT),
                        "access %02x L %u D %u rpl %u", byte, flags & 1, flags >> 1, rpl) &&
            good && a.p) {
            expect_equal(trap->at.cs, TARGET | rpl, "access %02x rpl %u: CS", byte, rpl);
            expect_equal(trap->at.sp, c.dx, "access %02x rpl %u: RSP", byte, rpl);
            expect_equal(trap->at.ss, c.cx, "access %02x rpl %u: SS", byte, rpl);
        }
    }
    group("IRETQ's stack segment");
    /* Null only into 64-bit mode, above ring 3, with the RPL of CS. */
    for (unsigned n = 0; n < 4 * 4 * 2; n++) {
        unsigned rpl = n >> 3, ss = n >> 1 & 3, compatibility = n & 1;
        struct context c = kernel_context(code);
        bool good = ss == rpl && rpl < 3 && !compatibility;
        const struct trap *trap;

        if (!good && rpl < 3 && !compatibility)
            continue; /* the manual does not say that the RPLs have to be equal */
        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(rpl), compatibility ? FLAT32 : FLAT64);
        c.ax = TARGET | rpl;
        c.cx = ss;
        c.dx = STACK_TOP - 0x800;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        expect_trap(trap, good ? END : FAULT_AT(GP, 0, AT), "null with rpl %u to ring %u, %s", ss, rpl,
                    compatibility ? "compatibility mode" : "64-bit mode");
    }
    for (unsigned n = 0; n < 256 * 4; n++) {
        unsigned byte = n >> 2, rpl = n & 3;
        struct context c = kernel_context(code);
        struct access a = access_of((u8)byte);
        struct expect e = rpl != 3 || !a.writable || a.dpl != 3 ? FAULT_AT(GP, STACK, AT)
                          : a.p                                 ? END
                                                                : FAULT_AT(SS, STACK, AT);

        place(CODE64("nop"), CODE_AREA + LANDING);
        gdt[STACK / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT32);
        c.ax = SEL_UCODE64;
        c.cx = STACK | rpl;
        c.dx = STACK_TOP;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        expect_trap(run(&c), e, "access %02x rpl %u", byte, rpl);
    }
    group("IRET's other faults and sizes");
    {
        struct context c = kernel_context(code);
        const struct trap *trap;

        c.ax = SEL_UCODE64;
        c.cx = SEL_UDATA;
        c.dx = STACK_TOP;
        c.di = FLAG_FIXED;
        c.si = non_canonical;
        expect_trap(run(&c), FAULT_AT(GP, 0, AT), "to an address that is not canonical");
        c.si = CODE_AREA + LANDING;
        c.ax = 0;
        expect_trap(run(&c), FAULT_AT(GP, 0, AT), "null CS");
        c.ax = BEYOND;
        expect_trap(run(&c), FAULT_AT(GP, BEYOND, AT), "CS beyond the GDT");
        c.ax = SEL_UCODE64;
        c.flags |= FLAG_NT;
        expect_trap(run(&c), FAULT_AT(GP, 0, AT), "NT is set");
        /* 32-bit operand: five doublewords, whatever the rings. */
        c = kernel_context(CODE64("sub rsp, 20\n mov [rsp], esi\n mov [rsp + 4], eax\n mov [rsp + 8], edi\n"
                                  "mov [rsp + 12], edx\n mov [rsp + 16], ecx\n iretd"));
        place(CODE64("nop"), CODE_AREA + LANDING);
        c.ax = SEL_KCODE;
        c.cx = SEL_KDATA;
        c.dx = STACK_TOP - 0x400;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "IRETD within ring 0");
        expect_equal(trap->at.sp, c.dx, "IRETD within ring 0: RSP");
        /* From compatibility mode IRETD within a ring pops three. */
        c = user_context(CODE32("push edi\n push eax\n push esi\n iretd"));
        c.cs = SEL_UCODE32;
        c.ax = SEL_UCODE32;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "IRETD within ring 3 in compatibility mode");
        expect_equal(trap->at.sp, c.sp, "IRETD within ring 3 in compatibility mode: ESP");
        /* To compatibility mode the upper half of RIP is not used. */
        c = kernel_context(code);
        c.ax = SEL_UCODE32;
        c.cx = SEL_UDATA;
        c.dx = STACK_TOP;
        c.di = FLAG_FIXED;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "to compatibility mode");
    }
}

/* ---- SYSCALL and SYSRET ---- */

static void syscall(void)
{
    const u64 efer = rdmsr(MSR_EFER), star = (u64)(SEL_UCODE32 & ~3) << 48 | (u64)SEL_KCODE << 32;
    struct context c;
    const struct trap *trap;

    group("SYSCALL and SYSRET");
    wrmsr(MSR_EFER, efer & ~(u64)EFER_SCE);
    c = user_context(CODE64("syscall"));
    expect_trap(run(&c), FAULT(UD, 0), "SYSCALL without EFER.SCE");
    c = kernel_context(CODE64("rex.w sysret"));
    expect_trap(run(&c), FAULT(UD, 0), "SYSRET without EFER.SCE");
    wrmsr(MSR_EFER, efer | EFER_SCE);
    wrmsr(MSR_LSTAR, CODE_AREA + LANDING);
    wrmsr(MSR_STAR, star);
    for (unsigned n = 0; n < 12; n++) {
        static const u32 masks[] = {0, 0xffffffff, FLAG_IF | FLAG_DF | FLAG_CF};
        u32 mask = masks[n % 3];
        int cpl = (int)(n / 3);
        ulong flags = FLAG_FIXED | FLAG_IF | FLAG_DF | FLAG_CF | FLAG_ZF | FLAG_IOPL | FLAG_AC;

        c = ring_context(cpl, CODE64("syscall"));
        place(CODE64("nop"), CODE_AREA + LANDING);
        wrmsr(MSR_FMASK, mask);
        c.flags = flags;
        c.cx = c.r11 = 0;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSCALL, cpl %d mask %x", cpl, mask);
        expect_equal(trap->at.cx, CODE_AREA + 2, "SYSCALL, cpl %d mask %x: RCX", cpl, mask);
        expect_equal(trap->at.r11, flags, "SYSCALL, cpl %d mask %x: R11", cpl, mask);
        expect_equal(trap->at.flags, (flags & ~(ulong)mask) | FLAG_FIXED, "SYSCALL, cpl %d mask %x: flags",
                     cpl, mask);
        expect_equal(trap->at.cs, SEL_KCODE, "SYSCALL, cpl %d mask %x: CS", cpl, mask);
        expect_equal(trap->at.ss, SEL_KDATA, "SYSCALL, cpl %d mask %x: SS", cpl, mask);
        expect_equal(trap->at.sp, c.sp, "SYSCALL, cpl %d mask %x: RSP", cpl, mask);
    }
    wrmsr(MSR_FMASK, 0);
    /* Selectors come from STAR without their RPL; what the GDT has there does not matter. */
    wrmsr(MSR_STAR, (u64)TARGET << 32 | 3ull << 32);
    gdt[TARGET / 8] = gdt[STACK / 8] = 0;
    c = user_context(CODE64("syscall"));
    place(CODE64("mov eax, cs\n mov edx, ss\n push 0x10\n push 0x418000\n pushfq\n push 8\n push 0x400113\n "
                 "iretq"),
          CODE_AREA + LANDING);
    place(CODE64("nop"), CODE_AREA + LANDING + 0x20);
    wrmsr(MSR_LSTAR, CODE_AREA + LANDING);
    *(u32 *)(CODE_AREA + LANDING + 14) = CODE_AREA + LANDING + 0x20;
    trap = run(&c);
    expect_equal(trap->at.ax, TARGET, "SYSCALL with RPL 3 in STAR: CS");
    expect_equal(trap->at.dx, TARGET + 8, "SYSCALL with RPL 3 in STAR: SS");
    wrmsr(MSR_STAR, star);

    /* SYSRET */
    for (unsigned n = 0; n < 4; n++) {
        struct code forms[] = {CODE64(".byte 0x0f, 0x07"), CODE64("rex.w sysret")};
        bool wide = n & 1;
        ulong r11 = n & 2 ? 0xffffffffffffffff & ~(ulong)FLAG_TF : 0, want = (r11 & 0x3c7fd7) | FLAG_FIXED;

        c = kernel_context(forms[wide]);
        place(CODE64("nop"), CODE_AREA + LANDING);
        c.cx = CODE_AREA + LANDING + (wide ? 0 : 0xabcd00000000);
        c.r11 = r11;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSRET, wide %u R11 %lx", wide, r11);
        expect_equal(trap->at.cs, wide ? SEL_UCODE64 : SEL_UCODE32, "SYSRET, wide %u: CS", wide);
        expect_equal(trap->at.ss, SEL_UDATA, "SYSRET, wide %u: SS", wide);
        expect_equal(trap->at.sp, c.sp, "SYSRET, wide %u: RSP", wide);
        /* RF is in the image, and gone after the next instruction. */
        expect_equal(trap->at.flags & ~(ulong)FLAG_RF, want & ~(ulong)(FLAG_RF | FLAG_VM),
                     "SYSRET, wide %u: flags", wide);
    }
    for (int cpl = 1; cpl < 4; cpl++) {
        c = ring_context(cpl, CODE64("rex.w sysret"));
        c.cx = CODE_AREA + LANDING;
        expect_trap(run(&c), FAULT(GP, 0), "SYSRET at CPL %d", cpl);
    }
    if (!cpu_is_amd()) {
        /* On AMD's the fault comes in user mode, after the return. */
        c = kernel_context(CODE64("rex.w sysret"));
        c.cx = non_canonical;
        c.r11 = FLAG_FIXED;
        trap = run(&c);
        expect_trap(trap, FAULT(GP, 0), "SYSRET to an address that is not canonical");
        expect_equal(trap->at.cs, SEL_KCODE, "SYSRET to an address that is not canonical: CS");
        c = user_context(CODE32("syscall"));
        c.cs = SEL_UCODE32;
        expect_trap(run(&c), FAULT(UD, 0), "SYSCALL in compatibility mode");
        c = kernel_context(CODE32(".byte 0x0f, 0x07"));
        c.cs = SEL_KCODE32;
        expect_trap(run(&c), FAULT(UD, 0), "SYSRET in compatibility mode");
    }
    wrmsr(MSR_EFER, efer);

    if (!cpu_has(CPU_SEP) || cpu_is_amd()) {
        skip_group("SYSENTER and SYSEXIT in IA-32e mode", "the processor has none there");
        return;
    }
    group("SYSENTER and SYSEXIT in IA-32e mode");
    wrmsr(MSR_SYSENTER_CS, SEL_KCODE);
    wrmsr(MSR_SYSENTER_ESP, STACK_TOP - 0x300);
    wrmsr(MSR_SYSENTER_EIP, CODE_AREA + LANDING);
    for (unsigned compatibility = 0; compatibility < 2; compatibility++) {
        c = user_context(CODE64("sysenter"));
        place(CODE64("nop"), CODE_AREA + LANDING);
        c.cs = compatibility ? SEL_UCODE32 : SEL_UCODE64;
        c.flags |= FLAG_IF;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSENTER, compatibility mode %u",
                    compatibility);
        expect_equal(trap->at.cs, SEL_KCODE, "SYSENTER: CS");
        expect_equal(trap->at.ss, SEL_KDATA, "SYSENTER: SS");
        expect_equal(trap->at.sp, STACK_TOP - 0x300, "SYSENTER: RSP");
        expect_equal(trap->at.flags, FLAG_FIXED, "SYSENTER: flags");
    }
    for (unsigned wide = 0; wide < 2; wide++) {
        struct code forms[] = {CODE64(".byte 0x0f, 0x35"), CODE64("rex.w sysexit")};

        c = kernel_context(forms[wide]);
        place(CODE64("nop"), CODE_AREA + LANDING);
        c.dx = CODE_AREA + LANDING;
        c.cx = STACK_TOP - 0x500;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "SYSEXIT, wide %u", wide);
        expect_equal(trap->at.cs, wide ? SEL_UCODE64 : SEL_UCODE32, "SYSEXIT, wide %u: CS", wide);
        expect_equal(trap->at.ss, wide ? SEL_UDATA2 : SEL_UDATA, "SYSEXIT, wide %u: SS", wide);
        expect_equal(trap->at.sp, STACK_TOP - 0x500, "SYSEXIT, wide %u: RSP", wide);
    }
    c = kernel_context(CODE64("rex.w sysexit"));
    c.dx = non_canonical;
    c.cx = STACK_TOP;
    expect_trap(run(&c), FAULT(GP, 0), "SYSEXIT to an address that is not canonical");
    c.dx = CODE_AREA;
    c.cx = non_canonical;
    expect_trap(run(&c), FAULT(GP, 0), "SYSEXIT with a stack that is not canonical");
    wrmsr(MSR_SYSENTER_CS, 0);
}

/* ---- FS and GS ---- */

static void bases(void)
{
    struct context c;
    const struct trap *trap;

    group("FS and GS bases");
    wrmsr(MSR_GS_BASE, 0x1111);
    wrmsr(MSR_KERNEL_GS_BASE, 0x2222);
    c = kernel_context(CODE64("swapgs"));
    expect_trap(run(&c), END, "SWAPGS");
    expect_equal(rdmsr(MSR_GS_BASE), 0x2222, "GS base after SWAPGS");
    expect_equal(rdmsr(MSR_KERNEL_GS_BASE), 0x1111, "kernel GS base after SWAPGS");
    for (int cpl = 1; cpl < 4; cpl++) {
        c = ring_context(cpl, CODE64("swapgs"));
        expect_trap(run(&c), FAULT(GP, 0), "SWAPGS at CPL %d", cpl);
    }
    c = kernel_context(CODE64("swapgs"));
    c.cs = SEL_KCODE32;
    expect_trap(run(&c), FAULT(UD, 0), "SWAPGS in compatibility mode");
    *(u32 *)(DATA_AREA + 0x18) = 0xf5f5;
    wrmsr(MSR_FS_BASE, DATA_AREA + 0x10);
    c = user_context(CODE64("mov eax, fs:[8]"));
    trap = run(&c);
    expect_trap(trap, END, "through FS");
    expect_equal(trap->at.ax, 0xf5f5, "through FS: value");
    c = user_context(CODE64("mov eax, fs:[rbx]"));
    c.bx = non_canonical - DATA_AREA - 0x10;
    expect_trap(run(&c), FAULT(GP, 0), "FS base and offset give an address that is not canonical");
    c = user_context(CODE64(".byte 0x64\n lea rax, [rbx]"));
    c.bx = 0x1234;
    trap = run(&c);
    expect_equal(trap->at.ax, 0x1234, "LEA does not add the base");
    c = user_context(CODE64("mov eax, fs:[ebx]"));
    c.bx = 0xffffffff00000008;
    trap = run(&c);
    expect_equal(trap->at.ax, 0xf5f5, "a 32-bit address is cut before the base is added");
    /* A load of the selector sets 32 bits of the base. */
    gdt[TARGET / 8] = descriptor(0x89abcdef, 0xffff, DATA_RW(3), 0);
    wrmsr(MSR_FS_BASE, 0x123456789aull);
    c = user_context(CODE64("mov fs, ecx"));
    c.cx = TARGET | 3;
    expect_trap(run(&c), END, "MOV to FS");
    expect_equal(rdmsr(MSR_FS_BASE), 0x89abcdef, "FS base after MOV to FS");
    /* Intel's always, AMD's where CPUID says so (APM 3 appendix E.4.21, NullSelectorClearsBase). */
    if (!cpu_is_amd() || cpu_has(FEATURE(0x80000021, a, 6))) {
        wrmsr(MSR_FS_BASE, 0x123456789aull);
        c.cx = 0;
        expect_trap(run(&c), END, "MOV of null to FS");
        expect_equal(rdmsr(MSR_FS_BASE), 0, "FS base after MOV of null");
    }
    if (!cpu_has(CPU_FSGSBASE)) {
        skip_group("RDFSBASE and its like", "the processor has none");
        return;
    }
    struct {
        const char *name;
        struct code wide, narrow;
        u32 msr;
        bool write;
    } rows[] = {
        {"RDFSBASE", CODE64("rdfsbase rax"), CODE64("rdfsbase eax"), MSR_FS_BASE, false},
        {"RDGSBASE", CODE64("rdgsbase rax"), CODE64("rdgsbase eax"), MSR_GS_BASE, false},
        {"WRFSBASE", CODE64("wrfsbase rax"), CODE64("wrfsbase eax"), MSR_FS_BASE, true},
        {"WRGSBASE", CODE64("wrgsbase rax"), CODE64("wrgsbase eax"), MSR_GS_BASE, true},
    };
    group("RDFSBASE and its like");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned wide = 0; wide < 2; wide++) {
            const u64 value = 0x00007123456789ab;

            c = user_context(wide ? rows[i].wide : rows[i].narrow);
            c.ax = rows[i].write ? value : 0;
            write_cr4(read_cr4() & ~(ulong)CR4_FSGSBASE);
            expect_trap(run(&c), FAULT(UD, 0), "%s without CR4.FSGSBASE", rows[i].name);
            write_cr4(read_cr4() | CR4_FSGSBASE);
            wrmsr(rows[i].msr, rows[i].write ? 0 : value);
            trap = run(&c);
            expect_trap(trap, END, "%s, wide %u", rows[i].name, wide);
            expect_equal(rows[i].write ? rdmsr(rows[i].msr) : trap->at.ax, wide ? value : (u32)value,
                         "%s, wide %u: value", rows[i].name, wide);
            if (rows[i].write && wide) {
                c.ax = too_wide;
                expect_trap(run(&c), FAULT(GP, 0), "%s of a value that is not canonical", rows[i].name);
            }
            c.cs = SEL_UCODE32;
            if (!wide)
                expect_trap(run(&c), FAULT(UD, 0), "%s in compatibility mode", rows[i].name);
        }
    }
    write_cr4(read_cr4() & ~(ulong)CR4_FSGSBASE);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, 0);
}

/* ---- Control flow, CR8, MSRs, opcodes ---- */

/* A branch to an address that is not canonical faults itself (SDM 2A JMP, CALL; 2B RET). */
static void branches(void)
{
    struct {
        const char *name;
        struct code code;
        int at;
    } rows[] = {
        {"JMP reg", CODE64("jmp rax"), 0},
        {"JMP mem", CODE64("jmp [rbx]"), 0},
        {"CALL reg", CODE64("call rax"), 0},
        {"CALL mem", CODE64("call [rbx]"), 0},
        {"RET", CODE64("push rax\n ret"), 1},
        {"RET imm", CODE64("push rax\n ret 16"), 1},
        {"RETF", CODE64("push 0x2b\n push rax\n rex.w retf"), 3},
    };

    group("branches to addresses that are not canonical");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        static const u64 addresses[] = {1ull << 47, 0x8000000000000000, 0xffff7fffffffffff,
                                        0x0123456789abcdef};
        for (unsigned a = 0; a < ARRAY_SIZE(addresses); a++) {
            struct context c = user_context(rows[i].code);
            const struct trap *trap;

            c.ax = addresses[a];
            c.bx = DATA_AREA;
            *(u64 *)DATA_AREA = addresses[a];
            trap = run(&c);
            expect_trap(trap, FAULT_AT(GP, 0, rows[i].at), "%s to %llx", rows[i].name,
                        (unsigned long long)addresses[a]);
            if (rows[i].at == 0)
                expect_equal(trap->at.sp, c.sp, "%s to %llx: RSP", rows[i].name,
                             (unsigned long long)addresses[a]);
        }
    }
}

static void cr8(void)
{
    group("CR8");
    for (unsigned value = 0; value < 18; value++) {
        struct context c = kernel_context(CODE64("mov cr8, rax\n mov rcx, cr8"));
        const struct trap *trap;

        c.ax = value;
        trap = run(&c);
        expect_trap(trap, value < 16 ? END : FAULT(GP, 0), "MOV to CR8 of %u", value);
        if (value > 15)
            continue;
        expect_equal(trap->at.cx, value, "MOV from CR8 of %u", value);
        expect_equal(*(volatile u32 *)0xfee00080, value << 4, "the local APIC's TPR with CR8 %u", value);
    }
    *(volatile u32 *)0xfee00080 = 0x5f;
    expect_equal(read_cr8(), 5, "CR8 is bits 7 to 4 of the TPR");
    *(volatile u32 *)0xfee00080 = 0;
    expect_equal(read_cr8(), 0, "CR8 after a TPR of 0");
    struct context c = user_context(CODE64("mov rax, cr8"));
    expect_trap(run(&c), FAULT(GP, 0), "MOV from CR8 at CPL 3");
}

static void msrs(void)
{
    static const u32 addresses[] = {MSR_LSTAR,          MSR_CSTAR,        MSR_FS_BASE,     MSR_GS_BASE,
                                    MSR_KERNEL_GS_BASE, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP};
    struct code code = CODE64("wrmsr");
    unsigned unused_bits = 64 - (cpuid(0x80000008, 0).a >> 8 & 0xff);

    group("MSRs that hold addresses");
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        static const u64 values[] = {
            0, 0x7fffffffffff, 1ull << 47, 0xffff7fffffffffff, 0xffff800000000000, 1ull << 63};
        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            struct context c = kernel_context(code);
            bool good = (u64)((i64)(values[v] << unused_bits) >> unused_bits) == values[v];

            c.cx = addresses[i] | 0xdead00000000; /* the upper half of RCX is not used */
            c.ax = (u32)values[v] | 0xbeef00000000;
            c.dx = values[v] >> 32;
            expect_trap(run(&c), good ? END : FAULT(GP, 0), "MSR %x, %llx", addresses[i],
                        (unsigned long long)values[v]);
            if (good)
                expect_equal(rdmsr(addresses[i]), values[v], "MSR %x, %llx: value", addresses[i],
                             (unsigned long long)values[v]);
        }
        wrmsr(addresses[i], 0);
    }
    struct context c = kernel_context(CODE64("rdmsr"));
    const struct trap *trap;
    c.cx = MSR_FMASK;
    c.ax = c.dx = 0xffffffffffffffff;
    wrmsr(MSR_FMASK, 0);
    trap = run(&c);
    expect_equal(trap->at.ax | trap->at.dx, 0, "RDMSR clears the upper halves");
    for (unsigned bit = 1; bit < 64; bit++) {
        if (bit == 8 || (bit >= 10 && bit <= 15)) /* LME, LMA, NXE; AMD has SVME to FFXSR and TCE there */
            continue;
        c = kernel_context(code);
        u64 value = rdmsr(MSR_EFER) | 1ull << bit;
        c.cx = MSR_EFER;
        c.ax = (u32)value;
        c.dx = value >> 32;
        if (bit < 18 && cpu_is_amd())
            continue;
        expect_trap(run(&c), FAULT(GP, 0), "EFER bit %u", bit);
    }
}

/* One-byte opcodes that 64-bit mode does not have: SDM 2D appendix A, superscript i64. */
static void invalid_opcodes(void)
{
    static const u8 opcodes[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37,
                                 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};

    group("opcodes that 64-bit mode does not have");
    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++) {
        u8 bytes[] = {opcodes[i], 0xc0, 0, 0, 0, 0, 0, 0};
        struct context c = user_context((struct code){bytes, bytes + sizeof(bytes)});

        expect_trap(run(&c), FAULT(UD, 0), "opcode %02x", opcodes[i]);
    }
}

/* Widths of pushes, pops and near branches. */
static void stack_widths(void)
{
    struct {
        const char *name;
        struct code code;
        int change; /* of RSP */
    } rows[] = {
        {"push rax", CODE64("push rax"), -8},
        {"push ax", CODE64("push ax"), -2},
        {"push imm8", CODE64("push 1"), -8},
        {"push imm32", CODE64("push 0x12345678"), -8},
        {"push imm16", CODE64(".byte 0x66, 0x68, 1, 2"), -2},
        {"pushfq", CODE64("pushfq"), -8},
        {"pushfw", CODE64(".byte 0x66, 0x9c"), -2},
        {"push fs", CODE64("push fs"), -8},
        {"push mem", CODE64("push qword ptr [rbx]"), -8},
        {"pop rax", CODE64("pop rax"), 8},
        {"pop ax", CODE64("pop ax"), 2},
        {"pop gs", CODE64("xor eax, eax\n mov [rsp], rax\n pop gs"), 8},
        {"call", CODE64("call 1f\n 1:"), -8},
        {"enter 16, 0", CODE64("enter 16, 0"), -24},
        {"enter 16, 1", CODE64("enter 16, 1"), -32},
        {"leave", CODE64("mov rbp, rsp\n leave"), 8},
        {"ret", CODE64("lea rax, [rip + 1f]\n mov [rsp], rax\n ret\n 1:"), 8},
    };

    group("widths of the stack");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        c.sp -= 0x100;
        c.bp = c.sp;
        c.bx = DATA_AREA;
        trap = run(&c);
        expect_trap(trap, END, "%s", rows[i].name);
        expect_equal(trap->at.sp, c.sp + (ulong)(long)rows[i].change, "%s: RSP", rows[i].name);
    }
}

void test(void)
{
    stack_frames();
    gates();
    call_gates();
    far_code();
    segment_loads();
    system_segments();
    iret();
    syscall();
    bases();
    branches();
    cr8();
    msrs();
    invalid_opcodes();
    stack_widths();
}
