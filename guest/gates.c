/*
 * Far transfers through call gates, and far returns, in 32-bit protected mode: SDM 3A 5.8, and the "Operation" of CALL,
 * JMP, RET and IRET in volume 2.
 */
#include "guest.h"

enum {
    GATE = SEL_TEST,
    TARGET = SEL_TEST + 8, /* the code segment that a gate names, or that a return goes to */
    STACK = SEL_TEST + 16,
    OTHER = SEL_TEST + 24,
    BEYOND = GDT_ENTRIES * 8,
    FLAT = FLAGS_G | FLAGS_D,
    LANDING = 0x100, /* where transfers go: offset from CODE_AREA */
};

static u32 ring_stack(unsigned ring)
{
    return *(u32 *)(tss + 4 + 8 * ring);
}

static void set_ring_stack(unsigned ring, u16 selector, u32 esp)
{
    *(u32 *)(tss + 4 + 8 * ring) = esp;
    *(u16 *)(tss + 8 + 8 * ring) = selector;
}

static u8 code_access(unsigned dpl, bool conforming, bool present)
{
    return (u8)((CODE_XR(dpl) & ~ACCESS_P) | (conforming ? ACCESS_E : 0) | (present ? ACCESS_P : 0));
}

/* ---- Call gates ---- */

/* One combination of everything that the checks of a call gate look at. */
struct gate_case {
    bool jump, gate_present, present, conforming;
    unsigned gate_dpl, rpl, cpl, dpl;
};

static struct gate_case gate_case(unsigned n)
{
    return (struct gate_case){
        .jump = n & 1,
        .gate_present = n >> 1 & 1,
        .present = n >> 2 & 1,
        .conforming = n >> 3 & 1,
        .gate_dpl = n >> 4 & 3,
        .rpl = n >> 6 & 3,
        .cpl = n >> 8 & 3,
        .dpl = n >> 10 & 3,
    };
}

static struct expect through_gate(const struct gate_case *g)
{
    if (g->gate_dpl < g->cpl || g->rpl > g->gate_dpl)
        return FAULT(GP, GATE);
    if (!g->gate_present)
        return FAULT(NP, GATE);
    if (g->dpl > g->cpl || (g->jump && !g->conforming && g->dpl != g->cpl))
        return FAULT(GP, TARGET);
    return g->present ? END : FAULT(NP, TARGET);
}

static void call_gates(const char *name, u8 type, unsigned slot)
{
    struct code forms[] = {CODE32("call fword ptr [ebx]"), CODE32("jmp fword ptr [ebx]")};

    group(name);
    for (unsigned n = 0; n < 4096; n++) {
        struct gate_case g = gate_case(n);
        struct context c = ring_context((int)g.cpl, forms[g.jump]);
        struct expect e = through_gate(&g);
        unsigned new_cpl = g.conforming ? g.cpl : g.dpl;
        const struct trap *trap;
        u32 sp;

        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[GATE / 8] =
            gate(TARGET | 3, LANDING, (u8)(type | g.gate_dpl << ACCESS_DPL_SHIFT | g.gate_present << 7), 0);
        gdt[TARGET / 8] = descriptor(CODE_AREA, 0xffff, code_access(g.dpl, g.conforming, g.present), FLAGS_D);
        *(u32 *)DATA_AREA = 0xffffffff; /* the offset is not used */
        *(u16 *)(DATA_AREA + 4) = (u16)(GATE | g.rpl);
        c.bx = DATA_AREA;
        trap = run(&c);
        if (!expect_trap(trap, e, "%s, gate dpl %u p %u, rpl %u, cpl %u, code dpl %u p %u%s",
                         g.jump ? "JMP" : "CALL", g.gate_dpl, g.gate_present, g.rpl, g.cpl, g.dpl, g.present,
                         g.conforming ? " conforming" : "") ||
            e.vector != VECTOR_END)
            continue;
        sp = g.jump ? c.sp : new_cpl < g.cpl ? ring_stack(new_cpl) - 4 * slot : c.sp - 2 * slot;
        expect_equal(trap->at.cs, TARGET | new_cpl, "case %u: CS", n);
        expect_equal(trap->at.ip, LANDING + 3, "case %u: EIP", n);
        if (new_cpl == 0 && g.cpl > 0) /* in ring 0 the trap's frame is on the same stack */
            expect_equal(trap->at.sp, sp, "case %u: ESP", n);
        else if (trap->at.sp != sp)
            expect_equal(trap->at.sp, sp, "case %u: ESP", n);
        if (new_cpl < g.cpl && g.cpl)
            expect_equal(trap->at.ss, new_cpl ? SEL_RING_DATA(new_cpl) : SEL_KDATA, "case %u: SS", n);
    }
}

/* What the gate names instead of a code segment that can be run. */
static void bad_gate_targets(void)
{
    static const struct {
        const char *what;
        u16 selector;
        u8 access;
        struct expect want;
    } rows[] = {
        {"null", 0, CODE_XR(0), {GP, 0, 0}},
        {"null with RPL 3", 3, CODE_XR(0), {GP, 0, 0}},
        {"beyond the GDT", BEYOND | 3, CODE_XR(0), {GP, BEYOND, 0}},
        {"in the LDT, of which there is none", TARGET | 4, CODE_XR(0), {GP, TARGET | 4, 0}},
        {"data", TARGET, DATA_RW(0), {GP, TARGET, 0}},
        {"data that is not present", TARGET, DATA_RW(0) & ~ACCESS_P, {GP, TARGET, 0}},
        {"a gate", TARGET, ACCESS_P | TYPE_CALL, {GP, TARGET, 0}},
        {"an absent code segment", TARGET, CODE_XR(0) & ~ACCESS_P, {NP, TARGET, 0}},
    };

    group("targets of call gates");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(CODE32("call fword ptr [ebx]"));

        gdt[GATE / 8] = gate(rows[i].selector, LANDING, ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_CALL, 0);
        gdt[TARGET / 8] = descriptor(CODE_AREA, 0xffff, rows[i].access, FLAGS_D);
        *(u16 *)(DATA_AREA + 4) = GATE | 3;
        c.bx = DATA_AREA;
        expect_trap(run(&c), rows[i].want, "%s", rows[i].what);
    }
    gdt[GATE / 8] = gate(TARGET, 0x10000, ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_CALL, 0);
    for (unsigned dpl = 0; dpl < 4; dpl++) {
        struct context c = user_context(CODE32("call fword ptr [ebx]"));

        gdt[TARGET / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(dpl), FLAGS_D);
        c.bx = DATA_AREA;
        expect_trap(run(&c), FAULT(GP, 0), "offset beyond the limit, dpl %u", dpl);
    }
}

/* The stack of a more privileged ring, from the TSS: SDM 3A 5.8.5, and table 6-6 of interrupt 10's conditions. */
static void inner_stacks(void)
{
    static const struct {
        const char *what;
        u16 selector;
        u8 access;
        u32 limit, esp;
        int vector;
        u16 error;
    } rows[] = {
        {"good", STACK | 1, DATA_RW(1), 0xfff, 0x800, VECTOR_END, 0},
        {"null", 0, DATA_RW(1), 0xfff, 0x800, TS, 0},
        {"null with RPL 1", 1, DATA_RW(1), 0xfff, 0x800, TS, 0},
        {"beyond the GDT", BEYOND | 1, DATA_RW(1), 0xfff, 0x800, TS, BEYOND},
        {"in no LDT", STACK | 5, DATA_RW(1), 0xfff, 0x800, TS, STACK | 4},
        {"RPL 0", STACK, DATA_RW(1), 0xfff, 0x800, TS, STACK},
        {"RPL 3", STACK | 3, DATA_RW(1), 0xfff, 0x800, TS, STACK},
        {"DPL 0", STACK | 1, DATA_RW(0), 0xfff, 0x800, TS, STACK},
        {"DPL 3", STACK | 1, DATA_RW(3), 0xfff, 0x800, TS, STACK},
        {"read-only", STACK | 1, DATA_RW(1) & ~ACCESS_W, 0xfff, 0x800, TS, STACK},
        {"code", STACK | 1, CODE_XR(1), 0xfff, 0x800, TS, STACK},
        {"system", STACK | 1, ACCESS_P | 1 << ACCESS_DPL_SHIFT | TYPE_LDT, 0xfff, 0x800, TS, STACK},
        {"absent", STACK | 1, DATA_RW(1) & ~ACCESS_P, 0xfff, 0x800, SS, STACK},
        {"absent and read-only", STACK | 1, DATA_RW(1) & ~(ACCESS_P | ACCESS_W), 0xfff, 0x800, TS, STACK},
        {"no room", STACK | 1, DATA_RW(1), 0xfff, 12, SS, STACK},
        {"just enough room", STACK | 1, DATA_RW(1), 0xfff, 16, VECTOR_END, 0},
        {"ESP beyond the limit", STACK | 1, DATA_RW(1), 0xfff, 0x1004, SS, STACK},
        {"ESP just at the end", STACK | 1, DATA_RW(1), 0xfff, 0x1000, VECTOR_END, 0},
    };
    u32 saved = ring_stack(1);

    group("inner stacks of call gates");
    gdt[GATE / 8] = gate(TARGET, LANDING, ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_CALL, 0);
    gdt[TARGET / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1), FLAGS_D);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(CODE32("call fword ptr [ebx]"));
        bool good = rows[i].vector == VECTOR_END;
        const struct trap *trap;

        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[STACK / 8] = descriptor(DATA_AREA + 0x1000, rows[i].limit, rows[i].access, FLAGS_D);
        set_ring_stack(1, rows[i].selector, rows[i].esp);
        *(u16 *)(DATA_AREA + 4) = GATE | 3;
        c.bx = DATA_AREA;
        trap = run(&c);
        expect_trap(trap, good ? END : FAULT(rows[i].vector, rows[i].error), "%s", rows[i].what);
        if (!good) {
            expect_equal(trap->at.sp, c.sp, "%s: ESP after the fault", rows[i].what);
            expect_equal(trap->at.ss, c.ss, "%s: SS after the fault", rows[i].what);
        }
    }
    /* A TSS too short for the field. Ring 0's own is needed to get out. The manual counts SS's two bytes, some count four. */
    for (u32 limit = 11; limit <= 20; limit++) {
        struct context c = user_context(CODE32("call fword ptr [ebx]"));

        set_ring_stack(1, SEL_RING_DATA(1), saved);
        if (limit == 17 || limit == 18)
            continue;
        c.bx = DATA_AREA;
        load_tss(limit);
        expect_trap(run(&c), limit >= 17 ? END : FAULT(TS, SEL_TSS), "TSS limit %u", limit);
        load_tss(TSS_LIMIT);
    }
}

/* Parameters are copied, and what is pushed is as wide as the gate. */
static void parameters(void)
{
    group("parameters of call gates");
    for (unsigned wide = 0; wide < 2; wide++) {
        for (unsigned count = 0; count < 32; count += count < 4 ? 1 : 9) {
            struct context c = user_context(CODE32("call fword ptr [ebx]"));
            unsigned slot = wide ? 4 : 2, wrong = 0;
            u32 mask = wide ? 0xffffffff : 0xffff;
            const struct trap *trap;
            const u8 *stack;

            place(CODE32("nop"), CODE_AREA + LANDING);
            gdt[GATE / 8] =
                gate(TARGET, LANDING, ACCESS_P | 3 << ACCESS_DPL_SHIFT | (wide ? TYPE_CALL : TYPE_CALL16),
                     (u8)count);
            gdt[TARGET / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1), FLAGS_D);
            *(u16 *)(DATA_AREA + 4) = GATE | 3;
            c.bx = DATA_AREA;
            c.sp -= slot * 32;
            for (unsigned i = 0; i < 32 * slot; i++)
                ((u8 *)c.sp)[i] = (u8)(0x40 + i);
            trap = run(&c);
            expect_trap(trap, END, "%u of %u bytes", count, slot);
            expect_equal(trap->at.sp, ring_stack(1) - (4 + count) * slot, "%u of %u bytes: ESP", count, slot);
            stack = (const u8 *)trap->at.sp;
            expect_equal(*(u32 *)stack & mask, (CODE_AREA + 2) & mask, "%u of %u bytes: return address",
                         count, slot);
            expect_equal(*(u16 *)(stack + slot), c.cs, "%u of %u bytes: CS", count, slot);
            for (unsigned i = 0; i < count * slot; i++)
                wrong += stack[2 * slot + i] != (u8)(0x40 + i);
            expect_equal(wrong, 0, "%u of %u bytes: wrong bytes", count, slot);
            stack += (2 + count) * slot;
            expect_equal(*(u32 *)stack & mask, c.sp & mask, "%u of %u bytes: caller's ESP", count, slot);
            expect_equal(*(u16 *)(stack + slot), c.ss, "%u of %u bytes: caller's SS", count, slot);

            if (!wide || count > 3)
                continue; /* a 16-bit return address does not lead back here */
            /* And back: RETF releases them on both stacks. */
            {
                struct code back[] = {CODE32("retf"), CODE32("retf 4"), CODE32("retf 8"), CODE32("retf 12")};

                place(back[count], CODE_AREA + LANDING);
                trap = run(&c);
                expect_trap(trap, FAULT_AT(VECTOR_END, 0, 4), "there and back with %u", count);
                expect_equal(trap->at.cs, c.cs, "there and back with %u: CS", count);
                expect_equal(trap->at.sp, c.sp + count * 4, "there and back with %u: ESP", count);
                expect_equal(trap->at.ss, c.ss, "there and back with %u: SS", count);
            }
        }
    }
}

/* ---- Returns ---- */

/* The return's code segment: SDM 2B RET and 2A IRET. */
static struct expect return_to(u8 byte, unsigned rpl, unsigned cpl, int at)
{
    struct access a = access_of(byte);

    if (!a.code || rpl < cpl || (a.conforming ? a.dpl > rpl : a.dpl != rpl))
        return FAULT_AT(GP, TARGET, at);
    return a.p ? END : FAULT_AT(NP, TARGET, at);
}

static void returns(const char *name, struct code code, int at)
{
    group(name);
    for (unsigned n = 0; n < 4 * 256 * 4; n++) {
        unsigned cpl = n >> 10, byte = n >> 2 & 0xff, rpl = n & 3;
        struct context c = ring_context((int)cpl, code);
        struct expect e = return_to((u8)byte, rpl, cpl, at);
        const struct trap *trap;

        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT);
        c.ax = TARGET | rpl;
        c.cx = SEL_RING_DATA(rpl);
        c.dx = STACK_TOP - 0x1000;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        trap = run(&c);
        if (!expect_trap(trap, e, "access %02x rpl %u cpl %u", byte, rpl, cpl) || e.vector != VECTOR_END)
            continue;
        expect_equal(trap->at.cs, TARGET | rpl, "access %02x rpl %u cpl %u: CS", byte, rpl, cpl);
        if (rpl > cpl) {
            expect_equal(trap->at.ss, c.cx, "access %02x rpl %u cpl %u: SS", byte, rpl, cpl);
            expect_equal(trap->at.sp, c.dx, "access %02x rpl %u cpl %u: ESP", byte, rpl, cpl);
        }
    }
    static const struct {
        const char *what;
        u16 selector;
        u16 error;
    } rows[] = {
        {"null", 0, 0},
        {"null with RPL 3", 3, 0},
        {"beyond the GDT", BEYOND | 3, BEYOND},
        {"in no LDT", TARGET | 7, TARGET | 4},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(code);

        c.ax = rows[i].selector;
        c.cx = SEL_UDATA;
        c.dx = STACK_TOP;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        expect_trap(run(&c), FAULT_AT(GP, rows[i].error, at), "%s", rows[i].what);
    }
}

/*
 * An absent stack segment is #SS: SDM 3A 6.15 on interrupts 11 and 12, and AMD's APM 3 on IRET. (IRET's own list of
 * exceptions in SDM 2A has #NP for it, which Bochs follows.)
 */
static void return_stacks(const char *name, struct code code, int at)
{
    group(name);
    for (unsigned n = 0; n < 3 * 256 * 4; n++) {
        unsigned cpl = n >> 10, byte = n >> 2 & 0xff, rpl = n & 3;
        struct context c = ring_context((int)cpl, code);
        struct access a = access_of((u8)byte);
        struct expect e = rpl != 3 || !a.writable || a.dpl != 3 ? FAULT_AT(GP, STACK, at)
                          : a.p                                 ? END
                                                                : FAULT_AT(SS, STACK, at);

        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[STACK / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT);
        c.ax = SEL_UCODE32;
        c.cx = STACK | rpl;
        c.dx = STACK_TOP;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        expect_trap(run(&c), e, "access %02x rpl %u cpl %u", byte, rpl, cpl);
    }
    static const struct {
        const char *what;
        u16 selector;
        u16 error;
    } rows[] = {{"null", 0, 0}, {"null with RPL 3", 3, 0}, {"beyond the GDT", BEYOND | 3, BEYOND}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(code);

        c.ax = SEL_UCODE32;
        c.cx = rows[i].selector;
        c.dx = STACK_TOP;
        c.si = CODE_AREA + LANDING;
        c.di = FLAG_FIXED;
        expect_trap(run(&c), FAULT_AT(GP, rows[i].error, at), "%s", rows[i].what);
    }
}

/* Data segments that the outer ring may not have become null (SDM 2B RET: "Operation", RETURN-TO-OUTER-PRIVILEGE-LEVEL). */
static void nulled_segments(const char *name, struct code code)
{
    group(name);
    for (unsigned byte = 0; byte < 256; byte++) {
        for (unsigned ring = 1; ring < 4; ring++) {
            struct access a = access_of((u8)byte);
            struct context c = kernel_context(code);
            const struct trap *trap;
            bool kept;

            if (!a.s || !a.p || !a.readable)
                continue; /* cannot be in a register */
            place(CODE32("nop"), CODE_AREA + LANDING);
            gdt[OTHER / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT);
            c.es = c.fs = c.gs = OTHER;
            c.ax = SEL_RING_CODE(ring);
            c.cx = SEL_RING_DATA(ring);
            c.dx = STACK_TOP;
            c.si = CODE_AREA + LANDING;
            c.di = FLAG_FIXED;
            trap = run(&c);
            if (!expect_trap(trap, END, "access %02x ring %u", byte, ring))
                continue;
            kept = a.conforming || a.dpl >= ring;
            expect_equal(trap->at.es, kept ? OTHER : 0, "access %02x ring %u: ES", byte, ring);
            expect_equal(trap->at.fs, kept ? OTHER : 0, "access %02x ring %u: FS", byte, ring);
            expect_equal(trap->at.gs, kept ? OTHER : 0, "access %02x ring %u: GS", byte, ring);
        }
    }
}

/* Which flags POPF and IRET change depends on CPL and IOPL (SDM 2A IRET, 2B POPF). */
static void returned_flags(void)
{
    struct code forms[] = {CODE32("push edi\n popfd"), CODE32("push edi\n push cs\n push esi\n iretd"),
                           CODE32("push edi\n .byte 0x66; popfd")};
    const ulong probe = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_IF | FLAG_DF | FLAG_OF |
                        FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID;

    group("flags from POPF and IRET");
    for (unsigned n = 0; n < 3 * 4 * 4 * 4; n++) {
        unsigned form = n >> 6, cpl = n >> 4 & 3, iopl = n >> 2 & 3, set = n >> 1 & 1, rf = n & 1;
        struct context c = ring_context((int)cpl, forms[form]);
        ulong before = FLAG_FIXED | iopl << 12 | (set ? 0 : FLAG_IF), want;
        ulong changes = probe, after = FLAG_FIXED | (set ? probe : 0) | (rf ? FLAG_RF : 0);
        const struct trap *trap;

        if (form == 2)
            changes &= 0xffff;
        if (cpl > 0)
            changes &= ~(ulong)FLAG_IOPL;
        if (cpl > iopl)
            changes &= ~(ulong)FLAG_IF;
        /* The interrupt flag would let a timer in: the controllers are masked. */
        place(CODE32("nop"), CODE_AREA + LANDING);
        c.flags = before;
        c.di = after;
        c.si = CODE_AREA + LANDING;
        trap = run(&c);
        want = (before & ~changes) | (after & changes) | FLAG_FIXED;
        /* RF is cleared by POPF, and by the instruction after IRET. */
        if (expect_trap(trap, END, "case %u", n))
            expect_equal(trap->at.flags, want, "form %u cpl %u iopl %u, popping %lx", form, cpl, iopl, after);
    }
}

void test(void)
{
    struct code retf = CODE32("push ecx\n push edx\n push eax\n push esi\n retf");
    struct code iret = CODE32("push ecx\n push edx\n push edi\n push eax\n push esi\n iretd");

    call_gates("call gates", TYPE_CALL, 4);
    call_gates("16-bit call gates", TYPE_CALL16, 2);
    bad_gate_targets();
    inner_stacks();
    parameters();
    returns("RETF", retf, 4);
    returns("IRET", iret, 5);
    return_stacks("RETF to an outer stack", retf, 4);
    return_stacks("IRET to an outer stack", iret, 5);
    nulled_segments("segments after RETF", retf);
    nulled_segments("segments after IRET", iret);
    returned_flags();
}
