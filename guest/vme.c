/*
 * Virtual interrupts: virtual-8086 mode extensions (CR4.VME) and protected-mode virtual interrupts (CR4.PVI). SDM 3B 21.3 and
 * 21.4 (20.3 and 20.4 in older editions), and the operation of CLI, STI, PUSHF, POPF, IRET and INT n in volume 2.
 *
 * What the manual says is written down once, in `virtual_machine`, as a function of every flag that counts.
 */
#include "guest.h"

enum {
    VECTOR = 0x90,
    SP = 0x8000,
    HANDLER = 0x400, /* of the 8086 program */
    RETURN = 0x200,  /* where IRET goes */
    IO_MAP = 0x88,   /* the redirection map is below it, at the end of the fixed part of the TSS */
    LIMIT = IO_MAP + 0x20,
    FLAGS_ALL = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_DF | FLAG_OF | FLAG_NT,
};
#define CPU_VME FEATURE(1, d, 1)

static struct context v86_context(struct code code)
{
    place(code, REAL_CODE);
    return (struct context){.flags = FLAG_FIXED | FLAG_VM,
                            .sp = SP,
                            .cs = REAL_CODE >> 4,
                            .ss = REAL_STACK >> 4,
                            .ds = REAL_DATA >> 4,
                            .es = REAL_DATA >> 4};
}

static void set_cr4(bool vme, bool pvi)
{
    write_cr4((read_cr4() & ~(ulong)(CR4_VME | CR4_PVI)) | (vme ? CR4_VME : 0) | (pvi ? CR4_PVI : 0));
}

/* Send INT VECTOR to the program (bit clear) or to the protected-mode handler. */
static void redirect(bool to_program)
{
    u8 *map = tss + IO_MAP - 32;

    *(u16 *)(tss + 0x66) = IO_MAP;
    memset(map, to_program ? 0xff : 0, 32);
    if (to_program)
        map[VECTOR / 8] &= (u8) ~(1 << VECTOR % 8);
    else
        map[VECTOR / 8] |= 1 << VECTOR % 8;
    memset(tss + IO_MAP, 0xff, 0x21);
    load_tss(LIMIT);
    ((u16 *)0)[VECTOR * 2] = HANDLER;
    ((u16 *)0)[VECTOR * 2 + 1] = REAL_CODE >> 4;
}

/* ---- virtual-8086 mode ---- */

enum operation { CLI, STI, PUSHF, PUSHFD, POPF, POPFD, IRET, IRETD, INT_N, INT_3, NOP };

static const char *const names[] = {"CLI",  "STI",   "PUSHF", "PUSHFD", "POPF", "POPFD",
                                    "IRET", "IRETD", "INT n", "INT3",   "NOP"};

struct outcome {
    int vector; /* BP: it went well, and INT3 came after it */
    ulong flags;
    ulong pushed; /* by PUSHF and INT n */
};

/* What becomes of an operation that starts with `flags`; `image` is what it pops. */
static struct outcome virtual_machine(enum operation op, ulong flags, ulong image, bool vme, bool to_program)
{
    bool iopl3 = (flags & FLAG_IOPL) == FLAG_IOPL, virtual = vme && !iopl3;
    bool narrow = op != PUSHFD && op != POPFD && op != IRETD;
    const struct outcome fault = {.vector = GP, .flags = flags};
    struct outcome out = {.vector = BP, .flags = flags};
    ulong mask = FLAGS_ALL | FLAG_TF | FLAG_IF | (narrow ? 0 : FLAG_AC | FLAG_ID);

    if (virtual && (flags & FLAG_VIF) && (flags & FLAG_VIP))
        return fault; /* at the start of any instruction */
    switch (op) {
    case CLI:
    case STI: {
        ulong flag = iopl3 ? FLAG_IF : FLAG_VIF;

        if (!iopl3 && (!virtual || (op == STI && (flags & FLAG_VIP))))
            return fault;
        out.flags = op == STI ? flags | flag : flags & ~flag;
        return out;
    }
    case PUSHF:
    case PUSHFD:
        if (!iopl3 && (!virtual || !narrow))
            return fault;
        out.pushed = flags & ~(ulong)(FLAG_VM | FLAG_RF);
        if (virtual)
            out.pushed = (out.pushed & ~(ulong)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
        return out;
    case POPF:
    case POPFD:
    case IRET:
    case IRETD:
        if (!iopl3 && (!virtual || !narrow))
            return fault;
        if (virtual) {
            if ((image & FLAG_TF) || ((image & FLAG_IF) && (flags & FLAG_VIP)))
                return fault;
            out.flags = (flags & ~(ulong)FLAG_VIF) | (image & FLAG_IF ? FLAG_VIF : 0);
            mask &= ~(ulong)(FLAG_IF | FLAG_TF);
        }
        out.flags = (out.flags & ~mask) | (image & mask);
        return out;
    case INT_N:
        if (vme && to_program) {
            out.pushed = flags;
            out.flags = flags & ~(ulong)(iopl3 ? FLAG_IF : FLAG_VIF);
            if (virtual)
                out.pushed = (flags & ~(ulong)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
            return out;
        }
        if (!iopl3)
            return fault;
        out.vector = VECTOR;
        return out;
    default: return out;
    }
}

static void one_v86(enum operation op, struct code code, unsigned bits, ulong image)
{
    bool vme = bits & 1, pvi = bits >> 1 & 1, to_program = bits >> 7 & 1;
    unsigned iopl = bits >> 2 & 3;
    struct context c = v86_context(code);
    ulong flags = FLAG_FIXED | FLAG_VM | iopl << 12 | (bits & 0x10 ? FLAG_IF : 0) |
                  (bits & 0x20 ? FLAG_VIF : 0) | (bits & 0x40 ? FLAG_VIP : 0) |
                  (bits & 0x100 ? FLAGS_ALL | FLAG_AC | FLAG_ID : 0);
    struct outcome want = virtual_machine(op, flags, image, vme, to_program);
    u8 *stack = (u8 *)REAL_STACK + SP;
    bool wide = op == POPFD || op == IRETD || op == PUSHFD, is_iret = op == IRET || op == IRETD;
    unsigned size = wide ? 4 : 2;
    const struct trap *trap;

    memset(stack - 16, 0, 32);
    for (unsigned n = 0; n < size; n++)
        stack[(is_iret ? 2 * size : 0) + n] = (u8)(image >> 8 * n);
    if (is_iret) {
        *(u16 *)stack = RETURN;
        *(u16 *)(stack + size) = REAL_CODE >> 4;
    }
    place(CODE16("int3"), REAL_CODE + RETURN);
    place(CODE16("int3"), REAL_CODE + HANDLER);
    c.flags = flags;
    set_cr4(vme, pvi);
    redirect(to_program);
    trap = run(&c);
    set_cr4(false, false);
    /* A TF that was popped traps after the INT3's handler is entered: not at all. */
    expect_equal(trap->vector, want.vector, "%s, flags %lx, image %lx, case %x: vector", names[op], flags,
                 image, bits);
    if (trap->vector != want.vector)
        return;
    if (want.vector == GP) {
        expect_equal(trap->error, 0, "%s, flags %lx, image %lx, case %x: error code", names[op], flags, image,
                     bits);
        expect_equal(trap->at.ip, 0, "%s, flags %lx, image %lx, case %x: IP", names[op], flags, image, bits);
        expect_equal(trap->at.sp, SP, "%s, flags %lx, image %lx, case %x: SP", names[op], flags, image, bits);
    }
    expect_equal(trap->at.flags & ~(ulong)FLAG_RF, want.flags, "%s, flags %lx, image %lx, case %x: flags",
                 names[op], flags, image, bits);
    if (op == PUSHF && want.vector == BP)
        expect_equal(*(u16 *)(stack - 2), want.pushed & 0xffff, "PUSHF, case %x: pushed", bits);
    if (op == PUSHFD && want.vector == BP)
        expect_equal(*(u32 *)(stack - 4), want.pushed, "PUSHFD, case %x: pushed", bits);
    if (op == INT_N && want.vector == BP) {
        expect_equal(*(u16 *)(stack - 2), want.pushed & 0xffff, "INT n, case %x: pushed flags", bits);
        expect_equal(*(u16 *)(stack - 4), REAL_CODE >> 4, "INT n, case %x: pushed CS", bits);
        expect_equal(*(u16 *)(stack - 6), 2, "INT n, case %x: pushed IP", bits);
        expect_equal(trap->at.ip, HANDLER + 1, "INT n, case %x: IP", bits);
        expect_equal(trap->at.sp, SP - 6, "INT n, case %x: SP", bits);
    }
    if (is_iret && want.vector == BP)
        expect_equal(trap->at.sp, SP + 3 * size, "%s, case %x: SP", names[op], bits);
}

static void virtual_8086(void)
{
    struct code forms[] = {CODE16("cli\n int3"),    CODE16("sti\n int3"),  CODE16("pushf\n int3"),
                           CODE16("pushfd\n int3"), CODE16("popf\n int3"), CODE16("popfd\n int3"),
                           CODE16("iret"),          CODE16("iretd"),       CODE16("int 0x90\n int3"),
                           CODE16("int3"),          CODE16("nop\n int3")};
    static const ulong images[] = {
        FLAG_FIXED,
        FLAG_FIXED | FLAG_IF,
        FLAG_FIXED | FLAGS_ALL | FLAG_IOPL | FLAG_AC | FLAG_ID | FLAG_VIF | FLAG_VIP,
        FLAG_FIXED | FLAGS_ALL | FLAG_IF,
        FLAG_FIXED | FLAG_TF,
        FLAG_FIXED | FLAG_TF | FLAG_IF,
    };

    group("virtual-8086 mode");
    for (unsigned op = 0; op < ARRAY_SIZE(forms); op++) {
        bool pops = op >= POPF && op <= IRETD;

        for (unsigned bits = 0; bits < 0x200; bits++) {
            bool iopl3 = (bits & 0xc) == 0xc;

            if (op != INT_N && bits & 0x80)
                continue;
            for (unsigned n = 0; n < (pops ? ARRAY_SIZE(images) : 1); n++) {
                if (iopl3 && (images[n] & FLAG_TF))
                    continue; /* allowed; the trap is another test's */
                one_v86(op, forms[op], bits, images[n]);
            }
        }
    }
    *(u16 *)(tss + 0x66) = sizeof(tss);
    load_tss(TSS_LIMIT);
}

/* Where the map is, what is not redirected, and what cannot be read. */
static void redirection(void)
{
    struct context c;
    const struct trap *trap;

    group("redirection of interrupts");
    for (unsigned vector = 0; vector < 256; vector++) {
        for (unsigned clear = 0; clear < 2; clear++) {
            u8 *map = tss + IO_MAP - 32;
            u32 saved = ((u32 *)0)[vector];

            redirect(false);
            memset(map, clear ? 0xff : 0, 32);
            map[vector / 8] ^= (u8)(1 << vector % 8);
            c = v86_context(CODE16("int 0"));
            place(CODE16("hlt"), REAL_CODE + HANDLER);
            ((u8 *)REAL_CODE)[1] = (u8)vector;
            ((u32 *)0)[vector] = HANDLER | (REAL_CODE >> 4) << 16;
            set_cr4(true, false);
            trap = run(&c);
            set_cr4(false, false);
            ((u32 *)0)[vector] = saved;
            expect_equal(trap->vector, GP, "vector %02x, bit clear %u", vector, clear);
            expect_equal(trap->at.ip, clear ? HANDLER : 0, "vector %02x, bit clear %u: IP", vector, clear);
        }
    }
    /* Other interrupts and exceptions never are. */
    {
        struct code forms[] = {CODE16("int3"), CODE16("into"), CODE16(".byte 0xf1"), CODE16("ud2"),
                               CODE16("div cl")};
        static const u8 vectors[] = {BP, OF, DB, UD, DE};

        for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
            redirect(true);
            memset(tss + IO_MAP - 32, 0, 32);
            c = v86_context(forms[i]);
            c.flags |= FLAG_OF | FLAG_VIF;
            set_cr4(true, false);
            trap = run(&c);
            set_cr4(false, false);
            expect_equal(trap->vector, vectors[i], "form %u", i);
            expect_equal(trap->at.flags & ~(ulong)FLAG_RF, c.flags, "form %u: flags", i);
        }
    }
    /* The byte has to lie within the TSS. */
    for (int delta = -1; delta < 2; delta++) {
        redirect(true);
        load_tss((u32)(IO_MAP - 32 + VECTOR / 8 + delta));
        place(CODE16("int3"), REAL_CODE + HANDLER);
        c = v86_context(CODE16("int 0x90"));
        set_cr4(true, false);
        trap = run(&c);
        set_cr4(false, false);
        expect_equal(trap->vector, delta < 0 ? GP : BP, "limit %d bytes beyond the map's byte", delta);
    }
    redirect(true);
    /* The frame wraps in the stack segment like any other, and must not cross its end. */
    static const struct {
        u16 sp;
        int vector;
    } stacks[] = {{6, BP}, {4, BP}, {0, BP}, {5, SS}, {3, SS}, {1, SS}};
    for (unsigned i = 0; i < ARRAY_SIZE(stacks); i++) {
        c = v86_context(CODE16("int 0x90"));
        place(CODE16("int3"), REAL_CODE + HANDLER);
        c.sp = 0x12340000 | stacks[i].sp;
        c.flags |= FLAG_VIF;
        set_cr4(true, false);
        trap = run(&c);
        set_cr4(false, false);
        expect_equal(trap->vector, stacks[i].vector, "SP %u", stacks[i].sp);
        expect_equal(trap->at.sp, stacks[i].vector == BP ? 0x12340000 | (u16)(stacks[i].sp - 6) : c.sp,
                     "SP %u: ESP", stacks[i].sp);
        expect_equal(trap->at.flags & FLAG_VIF, stacks[i].vector == BP ? 0 : FLAG_VIF, "SP %u: VIF",
                     stacks[i].sp);
    }
    /* A round trip of an 8086 program that knows nothing of all this. */
    redirect(true);
    c = v86_context(CODE16("cli\n int 0x90\n pushf\n pop bx\n sti\n int 0x90\n pushf\n pop dx\n int3"));
    place(CODE16("pushf\n pop cx\n iret"), REAL_CODE + HANDLER);
    c.flags |= FLAG_IF | FLAG_VIF;
    set_cr4(true, false);
    trap = run(&c);
    set_cr4(false, false);
    expect_equal(trap->vector, BP, "a program");
    expect_equal(trap->at.bx, FLAG_FIXED | FLAG_IOPL, "a program: flags after CLI");
    expect_equal(trap->at.cx, FLAG_FIXED | FLAG_IOPL, "a program: flags in the handler");
    expect_equal(trap->at.dx, FLAG_FIXED | FLAG_IOPL | FLAG_IF, "a program: flags after STI");
    expect_equal(trap->at.flags, FLAG_FIXED | FLAG_VM | FLAG_IF | FLAG_VIF, "a program: EFLAGS at the end");
    /* TF is cleared for the handler, and IRET does not set it. */
    c = v86_context(CODE16("int 0x90\n nop\n int3"));
    place(CODE16("nop\n int3"), REAL_CODE + HANDLER);
    c.flags |= FLAG_TF;
    set_cr4(true, false);
    trap = run(&c);
    set_cr4(false, false);
    expect_equal(trap->vector, BP, "TF and INT n");
    expect_equal(trap->at.ip, HANDLER + 2, "TF and INT n: IP");
    *(u16 *)(tss + 0x66) = sizeof(tss);
    load_tss(TSS_LIMIT);
}

/* ---- protected mode ---- */

static void protected_mode(void)
{
    struct code forms[] = {CODE32("cli"),
                           CODE32("sti"),
                           CODE32("pushfd\n pop eax"),
                           CODE32("pushfw\n pop ax"),
                           CODE32("push ecx\n popfd"),
                           CODE32("nop")};
    static const char *const form_names[] = {"CLI", "STI", "PUSHFD", "PUSHF", "POPFD", "NOP"};

    group("protected mode");
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        for (unsigned bits = 0; bits < 0x200; bits++) {
            bool vme = bits & 1, pvi = bits >> 1 & 1;
            unsigned iopl = bits >> 2 & 3, cpl = bits >> 7 & 3;
            struct context c = ring_context((int)cpl, forms[form]);
            bool virtual = pvi && cpl == 3 && iopl < 3;
            struct expect e = END;
            const struct trap *trap;
            ulong flags;

            c.flags = FLAG_FIXED | iopl << 12 | (bits & 0x10 ? FLAG_IF : 0) | (bits & 0x20 ? FLAG_VIF : 0) |
                      (bits & 0x40 ? FLAG_VIP : 0);
            c.cx = FLAG_FIXED | FLAG_IF | FLAG_CF | FLAG_VIF | FLAG_VIP | iopl << 12;
            flags = c.flags;
            if (virtual && (flags & FLAG_VIF) && (flags & FLAG_VIP)) {
                e = FAULT(GP, 0);
            } else if (form < 2) {
                ulong flag = cpl <= iopl ? FLAG_IF : FLAG_VIF;

                if ((cpl > iopl && !virtual) || (virtual && form == 1 && (flags & FLAG_VIP)))
                    e = FAULT(GP, 0);
                else
                    flags = form ? flags | flag : flags & ~flag;
            } else if (form == 4) {
                flags = (flags & ~(ulong)(cpl <= iopl ? FLAG_IF : 0)) | FLAG_CF | (cpl <= iopl ? FLAG_IF : 0);
            }
            set_cr4(vme, pvi);
            trap = run(&c);
            set_cr4(false, false);
            expect_trap(trap, e, "%s, flags %lx, cpl %u, case %x", form_names[form], c.flags, cpl, bits);
            expect_equal(trap->at.flags & ~(ulong)FLAG_RF, flags, "%s, flags %lx, cpl %u, case %x: flags",
                         form_names[form], c.flags, cpl, bits);
            if (e.vector == VECTOR_END && (form == 2 || form == 3))
                expect_equal(trap->at.ax & (form == 2 ? ~0ul : 0xffff), c.flags & (form == 2 ? ~0ul : 0xffff),
                             "%s, flags %lx, cpl %u: pushed", form_names[form], c.flags, cpl);
        }
    }
}

/* IRET from ring 0 loads VIF and VIP, from elsewhere it does not. */
static void returns(void)
{
    group("VIF and VIP of IRET's image");
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        struct context c = ring_context((int)cpl, CODE32("push eax\n push cs\n push ecx\n iretd"));
        const struct trap *trap;

        place(CODE32("nop"), CODE_AREA + 0x100);
        c.ax = FLAG_FIXED | FLAG_VIF | FLAG_VIP | FLAG_CF;
        c.cx = CODE_AREA + 0x100;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 0x103), "ring %u", cpl);
        expect_equal(trap->at.flags, FLAG_FIXED | FLAG_CF | (cpl ? 0 : FLAG_VIF | FLAG_VIP),
                     "ring %u: EFLAGS", cpl);
    }
}

void test(void)
{
    if (!cpu_has(CPU_VME)) {
        skip_group("virtual interrupts", "the processor has no VME");
        return;
    }
    set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR), ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_INT, 0);
    virtual_8086();
    redirection();
    protected_mode();
    returns();
}
