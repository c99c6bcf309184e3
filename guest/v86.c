/*
 * Virtual-8086 mode without VME: what is sensitive to IOPL, what leaves it and how, the I/O permission map, limits.
 * SDM 3A chapter 20.2 and 20.3; volume 1 19.5.2.
 */
#include "guest.h"

enum { VECTOR = 0x90, CODE = SEL_TEST, SP = 0x8000, HANDLER = 0x400, FREE_PORT = 0x910 };

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

static void software_interrupts(void)
{
    struct context c;

    group("INT n");
    for (unsigned dpl = 0; dpl < 4; dpl++) {
        for (unsigned iopl = 0; iopl < 4; iopl++) {
            for (unsigned code = 0; code < 4; code++) {
                /* Handlers: ring 0; ring 1; conforming of ring 0; ring 3. */
                static const u8 access[] = {CODE_XR(0), CODE_XR(1), (u8)(CODE_XR(0) | ACCESS_E), CODE_XR(3)};
                struct expect e = FAULT_AT(VECTOR, 0, 2);

                c = v86_context(CODE16("int 0x90"));
                gdt[CODE / 8] = descriptor(0, 0xfffff, access[code], FLAGS_D | FLAGS_G);
                set_gate(VECTOR, CODE, trap_entry(VECTOR), (u8)(ACCESS_P | dpl << 5 | TYPE_INT), 0);
                c.flags |= iopl << 12;
                if (iopl < 3)
                    e = FAULT(GP, 0);
                else if (dpl < 3)
                    e = FAULT(GP, VECTOR * 8 + 2);
                else if (code)
                    e = FAULT(GP, CODE);
                expect_trap(run(&c), e, "INT n, gate dpl %u, iopl %u, handler's access %02x", dpl, iopl,
                            access[code]);
            }
        }
    }
    reset_idt();
}

/* Everything that the frame holds, for an interrupt, an exception, and one with an error code. */
static void frames(void)
{
    struct code forms[] = {CODE16("int3"), CODE16("ud2"), CODE16("hlt")};
    static const struct expect wants[] = {{BP, 0, 1}, {UD, 0, 0}, {GP, 0, 0}};

    group("the frame of nine words");
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        struct context c = v86_context(forms[i]);
        const struct trap *trap;
        const u32 *frame;

        c.fs = 0x1234;
        c.gs = 0xfedc;
        c.sp = 0x12348000;
        c.flags |= FLAG_CF | FLAG_DF | FLAG_IF | FLAG_NT | FLAG_AC | FLAG_ID;
        trap = run(&c);
        expect_trap(trap, wants[i], "form %u", i);
        expect_equal(trap->at.cs, c.cs, "form %u: CS", i);
        expect_equal(trap->at.flags & ~(ulong)FLAG_RF, c.flags, "form %u: flags", i);
        expect_equal(trap->at.sp, c.sp, "form %u: ESP", i);
        expect_equal(trap->at.ss, c.ss, "form %u: SS", i);
        expect_equal(trap->at.ds, c.ds, "form %u: DS", i);
        expect_equal(trap->at.es, c.es, "form %u: ES", i);
        expect_equal(trap->at.fs, c.fs, "form %u: FS", i);
        expect_equal(trap->at.gs, c.gs, "form %u: GS", i);
        frame = (const u32 *)trap->frame;
        expect_equal((ulong)(frame + 9), *(u32 *)(tss + 4), "form %u: the frame begins at ESP0", i);
    }
    /* The handler's data segments are null. */
    struct context c = v86_context(CODE16("int3"));
    const struct trap *trap;
    static const char *const segments[] = {"DS", "ES", "FS", "GS"};
    place(CODE32("mov eax, ds\n mov ecx, es\n mov edx, fs\n mov ebx, gs\n pushfd\n pop esi"), CODE_AREA);
    set_gate(BP, SEL_KCODE, CODE_AREA, ACCESS_P | 3 << 5 | TYPE_INT, 0);
    c.fs = c.gs = 0x1234;
    c.flags |= FLAG_IF | FLAG_NT;
    trap = run(&c);
    reset_idt();
    expect_equal(trap->vector, VECTOR_END, "the handler ran");
    const ulong values[] = {trap->at.ax, trap->at.cx, trap->at.dx, trap->at.bx};
    for (unsigned i = 0; i < ARRAY_SIZE(segments); i++)
        expect_equal(values[i], 0, "%s in the handler", segments[i]);
    expect_equal(trap->at.si, FLAG_FIXED, "flags in the handler: VM, NT and IF are clear");
}

/* CLI, STI, PUSHF, POPF, INT n and IRET need IOPL 3; nothing else does. */
static void sensitive(void)
{
    struct {
        const char *name;
        struct code code;
        bool sensitive;
        int vector; /* with IOPL 3, or always */
        int at;
    } rows[] = {
        {"CLI", CODE16("cli\n int3"), true, BP, 2},
        {"STI", CODE16("sti\n int3"), true, BP, 2},
        {"PUSHF", CODE16("pushf\n int3"), true, BP, 2},
        {"PUSHFD", CODE16("pushfd\n int3"), true, BP, 3},
        {"POPF", CODE16("popf\n int3"), true, BP, 2},
        {"POPFD", CODE16("popfd\n int3"), true, BP, 3},
        {"INT n", CODE16("int 0x80"), true, VECTOR_END, 2},
        {"IRET", CODE16("iret"), true, BP, HANDLER + 1},
        {"IRETD", CODE16("iretd"), true, BP, HANDLER + 1},
        {"INT3", CODE16("int3"), false, BP, 1},
        {"INTO", CODE16("into"), false, OF, 1},
        {"BOUND", CODE16("bound ax, [bx]"), false, BR, 0},
        {"LAHF, SAHF", CODE16("lahf\n sahf\n int3"), false, BP, 3},
        {"RETF", CODE16("push cs\n push 0x400\n retf"), false, BP, HANDLER + 1},
    };

    group("IOPL");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned iopl = 0; iopl < 4; iopl++) {
            struct context c = v86_context(rows[i].code);
            bool fault = rows[i].sensitive && iopl < 3;
            struct expect e = {rows[i].vector, 0, rows[i].at};

            *(u8 *)(REAL_CODE + HANDLER) = 0xcc;
            /* What POPF and IRET take. */
            memset((void *)(REAL_STACK + SP), 0, 16);
            if (rows[i].name[0] == 'I' && rows[i].name[4] == 'D') {
                *(u32 *)(REAL_STACK + SP) = HANDLER;
                *(u32 *)(REAL_STACK + SP + 4) = REAL_CODE >> 4;
            } else {
                *(u16 *)(REAL_STACK + SP) = rows[i].name[0] == 'I' ? HANDLER : 0;
                *(u16 *)(REAL_STACK + SP + 2) = REAL_CODE >> 4;
            }
            *(u32 *)REAL_DATA = 0;
            c.ax = 5;
            c.flags |= iopl << 12 | FLAG_OF;
            if (rows[i].vector == OF || rows[i].vector == BR || !rows[i].sensitive)
                fault = false;
            expect_trap(run(&c), fault ? FAULT(GP, 0) : e, "%s, iopl %u", rows[i].name, iopl);
        }
    }
    /* What POPF and IRET change with IOPL 3: not IOPL, VM or RF. */
    struct code forms[] = {CODE16("push eax\n popfd\n pushfd\n pop ecx\n int3"),
                           CODE16("push ax\n popf\n pushfd\n pop ecx\n int3"),
                           CODE16("push eax\n .byte 0x66\n push cs\n push 0\n push 0x400\n iretd")};
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        for (unsigned set = 0; set < 2; set++) {
            struct context c = v86_context(forms[form]);
            const ulong all = FLAG_CF | FLAG_PF | FLAG_IF | FLAG_DF | FLAG_OF | FLAG_NT;
            const ulong upper = form == 1 ? 0 : FLAG_AC | FLAG_ID;
            const struct trap *trap;

            place(CODE16("pushfd\n pop ecx\n int3"), REAL_CODE + HANDLER);
            c.flags |= FLAG_IOPL | (set ? 0 : all | FLAG_AC | FLAG_ID);
            c.ax = set ? all | FLAG_AC | FLAG_ID | FLAG_FIXED : FLAG_FIXED;
            trap = run(&c);
            expect_trap(trap, FAULT_AT(BP, 0, ANYWHERE), "form %u, set %u", form, set);
            expect_equal(trap->at.flags,
                         FLAG_FIXED | FLAG_VM | FLAG_IOPL |
                             (set ? all | upper : (FLAG_AC | FLAG_ID) & ~upper),
                         "form %u, set %u: flags", form, set);
            expect_equal(trap->at.cx & FLAG_VM, 0, "form %u, set %u: PUSHFD does not show VM", form, set);
        }
    }
    /* IRETD at CPL 3 does not enter the mode. */
    struct context c = user_context(CODE32("push eax\n push cs\n push ecx\n iretd"));
    const struct trap *trap;
    place(CODE32("nop"), CODE_AREA + HANDLER);
    c.ax = FLAG_FIXED | FLAG_VM | FLAG_VIF | FLAG_VIP | FLAG_IOPL | FLAG_CF;
    c.cx = CODE_AREA + HANDLER;
    trap = run(&c);
    expect_trap(trap, END, "IRETD with VM at CPL 3");
    expect_equal(trap->at.flags, FLAG_FIXED | FLAG_CF, "IRETD with VM at CPL 3: flags");
}

/* IRETD from ring 0 with VM in its image: nine doublewords, all within the stack's limit; EIP within 64 KiB; no selector is
   checked (SDM 2A IRET, RETURN-TO-VIRTUAL-8086-MODE). */
static void entry(void)
{
    struct code code = CODE32("mov ss, eax\n mov esp, ebx\n iretd");
    enum { STACK = SEL_TEST + 16, AT = 4 };
    static const struct {
        const char *what;
        u32 eip, room, flags;
        struct expect want;
    } rows[] = {
        {"good", 0x400, 36, FLAG_VM | FLAG_FIXED, {BP, 0, ANYWHERE}},
        {"the last byte", 0xffff, 36, FLAG_VM | FLAG_FIXED, {BP, 0, ANYWHERE}},
        {"EIP beyond 64 KiB", 0x10000, 36, FLAG_VM | FLAG_FIXED, {GP, 0, AT}},
        {"no room for GS", 0x400, 35, FLAG_VM | FLAG_FIXED, {SS, 0, AT}},
        {"no room for ESP", 0x400, 15, FLAG_VM | FLAG_FIXED, {SS, 0, AT}},
        {"no room for EFLAGS", 0x400, 11, FLAG_VM | FLAG_FIXED, {SS, 0, AT}},
        {"all flags", 0x400, 36, FLAG_VM | 0x3c7ed7, {BP, 0, ANYWHERE}},
    };

    group("the way in");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(code);
        u32 *frame = (u32 *)(DATA_AREA + 0x1000 - rows[i].room);
        const u32 image[] = {rows[i].eip, REAL_CODE >> 4, rows[i].flags, 0x12348000, REAL_STACK >> 4, 0xffff,
                             3,           0x1234,         0xfffb};
        const struct trap *trap;

        memcpy(frame, image, sizeof(image));
        *(u8 *)(REAL_CODE + (rows[i].eip & 0xffff)) = 0xcc;
        gdt[STACK / 8] = descriptor(0, DATA_AREA / 4096, DATA_RW(0), FLAGS_D | FLAGS_G);
        c.ax = STACK;
        c.bx = (ulong)frame;
        trap = run(&c);
        expect_trap(trap, rows[i].want, "%s", rows[i].what);
        if (rows[i].want.vector != BP)
            continue;
        expect_equal(trap->at.cs, REAL_CODE >> 4, "%s: CS", rows[i].what);
        expect_equal(trap->at.ss, REAL_STACK >> 4, "%s: SS", rows[i].what);
        expect_equal(trap->at.sp, 0x12348000, "%s: ESP", rows[i].what);
        expect_equal(trap->at.es, 0xffff, "%s: ES", rows[i].what);
        expect_equal(trap->at.ds, 3, "%s: DS", rows[i].what);
        expect_equal(trap->at.fs, 0x1234, "%s: FS", rows[i].what);
        expect_equal(trap->at.gs, 0xfffb, "%s: GS", rows[i].what);
        expect_equal(trap->at.flags, rows[i].flags, "%s: EFLAGS", rows[i].what);
    }
}

static void instructions(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
    } rows[] = {
        {"HLT", CODE16("hlt"), GP},
        {"LGDT", CODE16("lgdt [bx]"), GP},
        {"LIDT", CODE16("lidt [bx]"), GP},
        {"LMSW", CODE16("lmsw ax"), GP},
        {"CLTS", CODE16("clts"), GP},
        {"MOV from CR0", CODE16("mov eax, cr0"), GP},
        {"MOV to CR3", CODE16("mov cr3, eax"), GP},
        {"MOV from DR7", CODE16("mov eax, dr7"), GP},
        {"RDMSR", CODE16("rdmsr"), GP},
        {"WRMSR", CODE16("wrmsr"), GP},
        {"INVD", CODE16("invd"), GP},
        {"WBINVD", CODE16("wbinvd"), GP},
        {"INVLPG", CODE16("invlpg [bx]"), GP},
        {"SLDT", CODE16("sldt ax"), UD},
        {"STR", CODE16("str ax"), UD},
        {"LLDT", CODE16("lldt ax"), UD},
        {"LTR", CODE16("ltr ax"), UD},
        {"VERR", CODE16("verr ax"), UD},
        {"LAR", CODE16("lar ax, cx"), UD},
        {"LSL", CODE16("lsl ax, cx"), UD},
        {"ARPL", CODE16("arpl ax, cx"), UD},
        {"VEX", CODE16(".byte 0xc5, 0xf8, 0x77"), UD},
        {"SMSW", CODE16("smsw ax\n int3"), BP},
        {"SGDT", CODE16("sgdt [bx]\n int3"), BP},
        {"RDTSC", CODE16("rdtsc\n int3"), BP},
        {"a load of any selector", CODE16("mov ax, 0xffff\n mov ds, ax\n mov es, ax\n int3"), BP},
    };

    group("instructions");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = v86_context(rows[i].code);

        c.flags |= FLAG_IOPL;
        expect_trap(run(&c), FAULT_AT(rows[i].vector, 0, rows[i].vector == BP ? ANYWHERE : 0), "%s",
                    rows[i].name);
    }
}

/* The map decides alone, whatever IOPL is. */
static void io_map(void)
{
    struct code forms[] = {CODE16("in al, dx\n int3"), CODE16("out dx, ax\n int3"),
                           CODE16("in eax, dx\n int3"), CODE16("insb\n int3")};
    u8 *map = tss + TSS_IO_MAP;

    group("I/O permission map");
    for (unsigned iopl = 0; iopl < 4; iopl += 3) {
        for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
            for (unsigned closed = 0; closed < 3; closed++) {
                /* 0: the port is open; 1: it is closed; 2: there is no map */
                struct context c = v86_context(forms[i]);
                const struct trap *trap;

                *(u16 *)(tss + 0x66) = closed == 2 ? sizeof(tss) : TSS_IO_MAP;
                memset(map, closed == 1 ? 0xff : 0, 0x2001);
                load_tss(TSS_IO_MAP + 0x2000);
                c.dx = FREE_PORT;
                c.flags |= iopl << 12;
                trap = run(&c);
                expect_trap(trap, closed ? FAULT(GP, 0) : FAULT_AT(BP, 0, ANYWHERE),
                            "form %u, iopl %u, closed %u", i, iopl, closed);
            }
        }
    }
    *(u16 *)(tss + 0x66) = sizeof(tss);
    load_tss(TSS_LIMIT);
}

static void limits(void)
{
    struct {
        const char *name;
        struct code code;
        ulong bx;
        struct expect want;
    } rows[] = {
        {"word at FFFFh", CODE16("mov ax, [bx]\n int3"), 0xffff, {GP, 0, 0}},
        {"word at FFFEh", CODE16("mov ax, [bx]\n int3"), 0xfffe, {BP, 0, ANYWHERE}},
        {"word on the stack at FFFFh", CODE16("mov ax, ss:[bx]\n int3"), 0xffff, {SS, 0, 0}},
        {"32-bit address", CODE16("mov ax, [ebx]\n int3"), 0x10000, {GP, 0, 0}},
        {"jump beyond", CODE16(".byte 0x66\n jmp bx"), 0x10000, {GP, 0, 0}},
        {"PUSH with SP 1", CODE16("mov sp, 1\n push ax\n int3"), 0, {SS, 0, 3}},
        {"PUSHA with SP 7", CODE16("mov sp, 7\n pusha\n int3"), 0, {SS, 0, 3}},
        {"POP with SP FFFFh", CODE16("mov sp, 0xffff\n pop ax\n int3"), 0, {SS, 0, 3}},
    };

    group("limits of 64 KiB");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = v86_context(rows[i].code);

        c.bx = rows[i].bx;
        expect_trap(run(&c), rows[i].want, "%s", rows[i].name);
    }
}

static void single_step(void)
{
    struct context c = v86_context(CODE16("nop\n nop"));
    const struct trap *trap;

    group("single-step");
    c.flags |= FLAG_TF;
    trap = run(&c);
    expect_trap(trap, FAULT_AT(DB, 0, 1), "an instruction");
    expect_equal(!!(trap->at.flags & FLAG_TF), 1, "TF is pushed");
    c = trap->at;
    c.flags |= FLAG_TF;
    trap = run(&c);
    expect_trap(trap, FAULT_AT(DB, 0, 1), "resumed, the next one");
}

void test(void)
{
    software_interrupts();
    frames();
    sensitive();
    entry();
    instructions();
    io_map();
    limits();
    single_step();
}
