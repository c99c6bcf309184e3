/*
 * Delivery of interrupts and exceptions in 32-bit protected mode: IDT gates, error codes with their EXT, IDT and TI bits,
 * inner stacks, 16-bit gates, and what becomes of an exception during the delivery of another. SDM 3A 6.12 to 6.15, and
 * the "Operation" of INT n in 2A.
 */
#include "guest.h"

enum {
    VECTOR = 0x90, /* the gate under test */
    CODE = SEL_TEST,
    STACK = SEL_TEST + 8,
    ABSENT = SEL_TEST + 16,
    ABSENT_STACK = SEL_TEST + 24, /* DPL 1 */
    BEYOND = GDT_ENTRIES * 8,
    LANDING = 0x100,
    ERROR_EXT = 1,
    ERROR_IDT = 2,
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

static void gate_to(int vector, u16 selector, u32 offset, u8 access)
{
    idt[vector][0] = gate(selector, offset, access, 0);
}

/* Every access byte of the gate, from every ring. */
static void gate_access(void)
{
    group("INT n through every gate");
    for (unsigned n = 0; n < 4 * 256; n++) {
        unsigned cpl = n >> 8, byte = n & 0xff, type = byte & 0x1f, dpl = byte >> 5 & 3;
        struct context c = ring_context((int)cpl, CODE32("int 0x90"));
        bool interrupt = type == TYPE_INT || type == TYPE_TRAP || type == TYPE_INT16 || type == TYPE_TRAP16;
        ulong error = VECTOR * 8 + ERROR_IDT;
        struct expect e = END;
        const struct trap *trap;
        ulong slot = type & 8 ? 4 : 2;

        if ((!interrupt && type != TYPE_TASK_GATE) || dpl < cpl)
            e = FAULT(GP, error);
        else if (!(byte & ACCESS_P))
            e = FAULT(NP, error);
        else if (type == TYPE_TASK_GATE)
            continue;
        place(CODE32("nop"), CODE_AREA + LANDING);
        gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1), FLAGS_D);
        /* To ring 1, or the same ring from ring 0 (in which the handler's code has to be). */
        if (cpl == 0)
            gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(0), FLAGS_D);
        gate_to(VECTOR, CODE | 3, LANDING, (u8)byte);
        c.flags |= FLAG_IF | FLAG_NT | FLAG_IOPL;
        trap = run(&c);
        if (!expect_trap(trap, e, "access %02x cpl %u", byte, cpl) || e.vector != VECTOR_END)
            continue;
        expect_equal(trap->at.flags & (FLAG_IF | FLAG_TF | FLAG_NT | FLAG_VM | FLAG_IOPL),
                     (type & 1 ? FLAG_IF : 0) | FLAG_IOPL, "access %02x cpl %u: flags in the handler", byte,
                     cpl);
        expect_equal(trap->at.cs, CODE | (cpl ? 1 : 0), "access %02x cpl %u: CS", byte, cpl);
        if (cpl > 1) {
            const u8 *stack = (const u8 *)ring_stack(1) - 5 * slot;
            u32 mask = slot == 4 ? 0xffffffff : 0xffff;

            expect_equal(trap->at.sp, (ulong)stack, "access %02x cpl %u: ESP", byte, cpl);
            expect_equal(*(u32 *)stack & mask, (CODE_AREA + 2) & mask, "access %02x cpl %u: pushed EIP", byte,
                         cpl);
            expect_equal(*(u16 *)(stack + slot), c.cs, "access %02x cpl %u: pushed CS", byte, cpl);
            expect_equal(*(u32 *)(stack + 2 * slot) & mask, c.flags & mask,
                         "access %02x cpl %u: pushed flags", byte, cpl);
            expect_equal(*(u32 *)(stack + 3 * slot) & mask, c.sp & mask, "access %02x cpl %u: pushed ESP",
                         byte, cpl);
            expect_equal(*(u16 *)(stack + 4 * slot), c.ss, "access %02x cpl %u: pushed SS", byte, cpl);
        } else {
            expect_equal(trap->at.sp, cpl ? c.sp - 3 * slot : c.sp - 3 * slot, "access %02x cpl %u: ESP",
                         byte, cpl);
        }
    }
}

/* INT3, INTO and INT 3 obey the DPL; INT1 (F1h) and exceptions do not. */
static void gate_privilege(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
        bool software, fault;
        int size;
    } rows[] = {
        {"INT3", CODE32("int3"), BP, true, false, 1},
        {"INT 3", CODE32(".byte 0xcd, 3"), BP, true, false, 2},
        {"INTO", CODE32("mov al, 0x7f\n inc al\n into"), OF, true, false, 5},
        {"INT 13", CODE32("int 13"), GP, true, false, 2},
        {"INT 2", CODE32("int 2"), NMI, true, false, 2},
        {"INT1", CODE32(".byte 0xf1"), DB, false, false, 1},
        {"UD2", CODE32("ud2"), UD, false, true, 0},
        {"DIV", CODE32("xor edx, edx\n div edx"), DE, false, true, 2},
        {"BOUND", CODE32("bound eax, [ebx]"), BR, false, true, 0},
    };

    group("DPL of gates");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned dpl = 0; dpl < 4; dpl++) {
            for (unsigned cpl = 0; cpl < 4; cpl++) {
                struct context c = ring_context((int)cpl, rows[i].code);
                bool allowed = !rows[i].software || dpl >= cpl;
                const struct trap *trap;

                gate_to(rows[i].vector, SEL_KCODE, trap_entry(rows[i].vector),
                        (u8)(ACCESS_P | dpl << 5 | TYPE_INT));
                *(u32 *)DATA_AREA = *(u32 *)(DATA_AREA + 4) = 0;
                c.ax = 1;
                c.bx = DATA_AREA;
                /* INT 13 with software pushes no error code; the handler takes the return address for it. */
                if (rows[i].vector == GP && allowed)
                    continue;
                trap = run(&c);
                if (allowed)
                    expect_trap(trap, FAULT_AT(rows[i].vector, 0, rows[i].size), "%s, dpl %u, cpl %u",
                                rows[i].name, dpl, cpl);
                else
                    expect_trap(
                        trap,
                        FAULT_AT(GP, (ulong)rows[i].vector * 8 + ERROR_IDT, rows[i].vector == OF ? 4 : 0),
                        "%s, dpl %u, cpl %u", rows[i].name, dpl, cpl);
            }
        }
        reset_idt();
    }
    {
        struct context c = kernel_context(CODE32("into"));

        expect_trap(run(&c), END, "INTO without OF");
        c.flags |= FLAG_OF;
        expect_trap(run(&c), FAULT_AT(OF, 0, 1), "INTO with OF");
    }
}

/* The handler's code segment: every access byte from every ring, for INT n and for an exception (which sets EXT). */
static void handler_code(void)
{
    struct code forms[] = {CODE32("int 0x90"), CODE32("ud2")};

    for (unsigned ext = 0; ext < 2; ext++) {
        int vector = ext ? UD : VECTOR;

        group(ext ? "handler's code segment, exception" : "handler's code segment, INT n");
        for (unsigned n = 0; n < 4 * 256; n++) {
            unsigned cpl = n >> 8, byte = n & 0xff;
            struct access a = access_of((u8)byte);
            struct context c = ring_context((int)cpl, forms[ext]);
            struct expect e = !a.code || a.dpl > cpl ? FAULT(GP, CODE | ext)
                              : a.p                  ? END
                                                     : FAULT(NP, CODE | ext);
            const struct trap *trap;

            place(CODE32("nop"), CODE_AREA + LANDING);
            gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, (u8)byte, FLAGS_D);
            gate_to(vector, CODE | 2, LANDING, ACCESS_P | 3 << 5 | TYPE_INT);
            trap = run(&c);
            if (expect_trap(trap, e, "access %02x cpl %u", byte, cpl) && e.vector == VECTOR_END)
                expect_equal(trap->at.cs, CODE | (a.conforming ? cpl : a.dpl), "access %02x cpl %u: CS", byte,
                             cpl);
        }
        static const struct {
            const char *what;
            u16 selector;
            u32 offset;
            u16 error;
        } rows[] = {
            {"null", 0, LANDING, 0},
            {"null with RPL", 2, LANDING, 0},
            {"beyond the GDT", BEYOND | 1, LANDING, BEYOND},
            {"in no LDT", CODE | 5, LANDING, CODE | 4},
            {"offset beyond the limit", CODE, 0x10000, 0},
        };
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            for (unsigned cpl = 1; cpl < 4; cpl++) {
                struct context c = ring_context((int)cpl, forms[ext]);

                gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1), FLAGS_D);
                gate_to(vector, rows[i].selector, rows[i].offset, ACCESS_P | 3 << 5 | TYPE_INT);
                expect_trap(run(&c), FAULT(GP, rows[i].error | ext), "%s, cpl %u", rows[i].what, cpl);
            }
        }
        reset_idt();
    }
}

static void idt_limit(void)
{
    group("IDT limit");
    for (int delta = -1; delta < 9; delta++) {
        struct context c = user_context(CODE32("int 0x90"));
        const struct trap *trap;

        gate_to(VECTOR, SEL_KCODE, trap_entry(VECTOR_END), ACCESS_P | 3 << 5 | TYPE_INT);
        load_idt(idt, (u16)(VECTOR * 8 + delta));
        trap = run(&c);
        load_idt(idt, sizeof(idt) - 1);
        expect_trap(trap, delta >= 7 ? END : FAULT(GP, VECTOR * 8 + ERROR_IDT),
                    "limit %d bytes into the gate", delta);
    }
    {
        struct context c = user_context(CODE32("int 0xff"));

        load_idt(idt, 0x90 * 8 - 1);
        expect_trap(run(&c), FAULT(GP, 0xff * 8 + ERROR_IDT), "the last vector");
        load_idt(idt, sizeof(idt) - 1);
    }
}

/* The stack of the ring that handles it: SDM 2A INT n, INTER-PRIVILEGE-LEVEL-INTERRUPT. */
static void inner_stacks(void)
{
    static const struct {
        const char *what;
        u16 selector;
        u8 access;
        u32 esp;
        int vector;
        u16 error;
    } rows[] = {
        {"good", STACK | 1, DATA_RW(1), 0x800, VECTOR_END, 0},
        {"null", 0, DATA_RW(1), 0x800, TS, 0},
        {"null with RPL 1", 1, DATA_RW(1), 0x800, TS, 0},
        {"beyond the GDT", BEYOND | 1, DATA_RW(1), 0x800, TS, BEYOND},
        {"in no LDT", STACK | 5, DATA_RW(1), 0x800, TS, STACK | 4},
        {"RPL 0", STACK, DATA_RW(1), 0x800, TS, STACK},
        {"RPL 2", STACK | 2, DATA_RW(1), 0x800, TS, STACK},
        {"DPL 0", STACK | 1, DATA_RW(0), 0x800, TS, STACK},
        {"DPL 3", STACK | 1, DATA_RW(3), 0x800, TS, STACK},
        {"read-only", STACK | 1, DATA_RW(1) & ~ACCESS_W, 0x800, TS, STACK},
        {"code", STACK | 1, CODE_XR(1), 0x800, TS, STACK},
        {"system", STACK | 1, ACCESS_P | 1 << ACCESS_DPL_SHIFT | TYPE_TSS, 0x800, TS, STACK},
        {"absent", STACK | 1, DATA_RW(1) & ~ACCESS_P, 0x800, SS, STACK},
        {"no room", STACK | 1, DATA_RW(1), 16, SS, STACK},
        {"just enough room", STACK | 1, DATA_RW(1), 20, VECTOR_END, 0},
        {"ESP beyond the limit", STACK | 1, DATA_RW(1), 0x1004, SS, STACK},
        {"expand-down, outside", STACK | 1, DATA_RW(1) | ACCESS_E, 0x1010, SS, STACK},
        {"expand-down, inside", STACK | 1, DATA_RW(1) | ACCESS_E, 0x1014, VECTOR_END, 0},
    };
    struct code forms[] = {CODE32("int 0x90"), CODE32("ud2")};
    u32 saved = ring_stack(1);

    for (unsigned ext = 0; ext < 2; ext++) {
        group(ext ? "inner stacks, exception" : "inner stacks, INT n");
        gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1), FLAGS_D);
        gate_to(ext ? UD : VECTOR, CODE, LANDING, ACCESS_P | 3 << 5 | TYPE_INT);
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            struct context c = user_context(forms[ext]);
            const struct trap *trap;

            place(CODE32("nop"), CODE_AREA + LANDING);
            gdt[STACK / 8] = descriptor(DATA_AREA + 0x1000, 0xfff, rows[i].access, FLAGS_D);
            set_ring_stack(1, rows[i].selector, rows[i].esp);
            trap = run(&c);
            expect_trap(trap, rows[i].vector == VECTOR_END ? END : FAULT(rows[i].vector, rows[i].error | ext),
                        "%s", rows[i].what);
            if (rows[i].vector != VECTOR_END)
                expect_equal(trap->at.sp, c.sp, "%s: ESP after the fault", rows[i].what);
        }
        set_ring_stack(1, SEL_RING_DATA(1), saved);
        for (u32 limit = 11; limit <= 20; limit++) {
            struct context c = user_context(forms[ext]);

            if (limit == 17 || limit == 18)
                continue; /* see gates.c */
            load_tss(limit);
            expect_trap(run(&c), limit >= 17 ? END : FAULT(TS, SEL_TSS | ext), "TSS limit %u", limit);
            load_tss(TSS_LIMIT);
        }
        reset_idt();
    }
}

/* ---- Exceptions while an exception is delivered: SDM 3A 6.15 tables 6-4 and 6-5 ---- */

enum trouble { GATE_ABSENT, GATE_TYPE, CODE_NULL, CODE_ABSENT, STACK_NULL, STACK_ABSENT, TROUBLES };

static void double_faults(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
        bool contributory;
        u8 at; /* of the instruction that faults */
        u8 ext;
    } first[] = {
        {"#DE", CODE32("xor edx, edx\n div edx"), DE, true, 2, 1},
        {"#DB", CODE32(".byte 0xf1"), DB, false, 0, 1},
        {"#BP", CODE32("int3"), BP, false, 0, 0},
        {"#OF", CODE32("mov al, 0x7f\n inc al\n into"), OF, false, 4, 0},
        {"#BR", CODE32("bound eax, [ebx]"), BR, false, 0, 1},
        {"#UD", CODE32("ud2"), UD, false, 0, 1},
        {"#NM", CODE32("fnop"), NM, false, 0, 1},
        {"#TS", CODE32("int 0x90"), TS, true, 0, 1},
        {"#NP", CODE32("mov ds, cx"), NP, true, 0, 1},
        {"#SS", CODE32("mov ss, cx"), SS, true, 0, 1},
        {"#GP", CODE32("hlt"), GP, true, 0, 1},
    };
    static const char *const names[] = {"gate absent",         "gate of a wrong type", "null code segment",
                                        "absent code segment", "null stack",           "absent stack"};
    u32 saved = ring_stack(1);

    group("an exception during another's delivery");
    for (unsigned i = 0; i < ARRAY_SIZE(first); i++) {
        for (unsigned trouble = 0; trouble < TROUBLES; trouble++) {
            struct context c = user_context(first[i].code);
            int v = first[i].vector;
            u8 ext = first[i].ext;
            struct expect e;
            const struct trap *trap;

            write_cr0(v == NM ? read_cr0() | CR0_TS : read_cr0());
            gdt[ABSENT / 8] = descriptor(0, 0xfffff, CODE_XR(0) & ~ACCESS_P, FLAGS_D | FLAGS_G);
            gdt[ABSENT_STACK / 8] = descriptor(0, 0xfffff, DATA_RW(1) & ~ACCESS_P, FLAGS_D | FLAGS_G);
            gdt[STACK / 8] = descriptor(0, 0xfffff, DATA_RW(3) & ~ACCESS_P, FLAGS_D | FLAGS_G);
            /* What raises #TS: a gate to ring 2, whose stack is read-only. */
            gdt[CODE / 8] = descriptor(0, 0xfffff, CODE_XR(2), FLAGS_D | FLAGS_G);
            gate_to(VECTOR, CODE, CODE_AREA, ACCESS_P | 3 << 5 | TYPE_INT);
            set_ring_stack(2, SEL_KDATA, STACK_TOP);
            c.cx = STACK | 3;
            c.ax = 1;
            c.bx = DATA_AREA;
            *(u32 *)DATA_AREA = *(u32 *)(DATA_AREA + 4) = 0;
            switch (trouble) {
            case GATE_ABSENT:
                gate_to(v, SEL_KCODE, trap_entry(v), 3 << 5 | TYPE_INT);
                e = FAULT(NP, (ulong)v * 8 + ERROR_IDT + ext);
                break;
            case GATE_TYPE:
                gate_to(v, SEL_KCODE, trap_entry(v), ACCESS_P | 3 << 5 | TYPE_CALL);
                e = FAULT(GP, (ulong)v * 8 + ERROR_IDT + ext);
                break;
            case CODE_NULL:
                gate_to(v, 0, trap_entry(v), ACCESS_P | 3 << 5 | TYPE_INT);
                e = FAULT(GP, ext);
                break;
            case CODE_ABSENT:
                gate_to(v, ABSENT, trap_entry(v), ACCESS_P | 3 << 5 | TYPE_INT);
                e = FAULT(NP, ABSENT + ext);
                break;
            case STACK_NULL:
                gate_to(v, SEL_RING_CODE(1), trap_entry(v), ACCESS_P | 3 << 5 | TYPE_INT);
                set_ring_stack(1, 0, saved);
                e = FAULT(TS, ext);
                break;
            default:
                gate_to(v, SEL_RING_CODE(1), trap_entry(v), ACCESS_P | 3 << 5 | TYPE_INT);
                set_ring_stack(1, ABSENT_STACK | 1, saved);
                e = FAULT(SS, ABSENT_STACK + ext);
                break;
            }
            if (first[i].contributory) {
                e = FAULT_AT(DF, 0, ANYWHERE); /* the saved address is undefined */
            } else {
                e.at = first[i].at;
                /* The second exception's own gate must be whole. */
            }
            trap = run(&c);
            expect_trap(trap, e, "%s, then %s", first[i].name, names[trouble]);
            expect_equal(trap->at.cs, c.cs, "%s, then %s: CS", first[i].name, names[trouble]);
            reset_idt();
            set_ring_stack(1, SEL_RING_DATA(1), saved);
            write_cr0(read_cr0() & ~(ulong)CR0_TS);
        }
    }
    *(u32 *)(tss + 4 + 16) = saved;
}

/* The gates and segments that delivery reads get no accessed bit they should not, and the stack's gets it. */
static void accessed_bits(void)
{
    struct context c = user_context(CODE32("int 0x90"));

    group("accessed bits");
    place(CODE32("nop"), CODE_AREA + LANDING);
    gdt[CODE / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(1) & ~ACCESS_A, FLAGS_D);
    gdt[STACK / 8] = descriptor(DATA_AREA, 0xfff, DATA_RW(1) & ~ACCESS_A, FLAGS_D);
    gate_to(VECTOR, CODE, LANDING, ACCESS_P | 3 << 5 | TYPE_INT);
    u32 saved = ring_stack(1);
    set_ring_stack(1, STACK | 1, 0x800);
    expect_trap(run(&c), END, "delivery");
    expect_equal(gdt[CODE / 8] >> 40 & 1, 1, "code segment");
    expect_equal(gdt[STACK / 8] >> 40 & 1, 1, "stack segment");
    set_ring_stack(1, SEL_RING_DATA(1), saved);
    reset_idt();
}

void test(void)
{
    gate_access();
    gate_privilege();
    handler_code();
    idt_limit();
    inner_stacks();
    double_faults();
    accessed_bits();
}
