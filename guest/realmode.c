/*
 * Real-address mode: the vector table, limits of 64 KiB, prefixes, far transfers, single-step, A20, "big real mode".
 * SDM 3A chapter 20.
 */
#include "real.h"

enum { HANDLER = 0x400 }; /* in REAL_CODE */
#define DATA_WORD(offset) (*(volatile u16 *)(REAL_DATA + (offset)))
#define DATA_BYTE(offset) (*(volatile u8 *)(REAL_DATA + (offset)))
#define INT(v)            FAULT_AT(v, 0, ANYWHERE)

static void interrupts(void)
{
    group("INT n");
    for (unsigned n = 0; n < 256; n++) {
        u8 bytes[] = {0xcd, (u8)n};
        struct context c = real_context((struct code){bytes, bytes + 2});
        const struct trap *trap;

        c.flags |= FLAG_CF | FLAG_ZF | FLAG_IF | FLAG_DF;
        c.ax = 0x11112222;
        c.di = 0x33334444;
        trap = run_in_real_mode(&c);
        expect_trap(trap, FAULT_AT((int)n, 0, 2), "INT %u", n);
        expect_equal(trap->at.flags, c.flags, "INT %u: pushed flags", n);
        expect_equal(trap->at.cs, c.cs, "INT %u: pushed CS", n);
        expect_equal(trap->at.sp, c.sp, "INT %u: SP", n);
        if (n == 0)
            expect_true(trap->at.ax == c.ax && trap->at.di == c.di, "registers are as they were");
    }
    /* IF, TF and AC are clear in the handler; the others stay. */
    for (unsigned n = 0; n < 4; n++) {
        struct context c = real_context(CODE16("int 0x90"));
        const struct trap *trap;

        place(CODE16("pushfd\n pop ecx\n mov dx, sp"), REAL_CODE + HANDLER);
        set_vector(0x90, HANDLER);
        c.flags |= (n & 1 ? FLAG_IF : 0) | (n & 2 ? FLAG_CF | FLAG_DF | FLAG_NT | FLAG_IOPL : 0);
        trap = run_in_real_mode(&c);
        expect_trap(trap, INT(VECTOR_END), "flags in the handler, %u", n);
        expect_equal(trap->at.cx, c.flags & ~(ulong)(FLAG_IF | FLAG_TF), "flags in the handler, %u", n);
        expect_equal(trap->at.dx, c.sp - 6, "SP in the handler, %u", n);
        expect_equal(*(u16 *)(REAL_STACK + c.sp - 6), 2, "pushed IP, %u", n);
        expect_equal(*(u16 *)(REAL_STACK + c.sp - 4), c.cs, "pushed CS, %u", n);
        expect_equal(*(u16 *)(REAL_STACK + c.sp - 2), c.flags, "pushed flags, %u", n);
    }
    reset_vectors();
    /* A vector beyond the table's limit is #GP. */
    for (unsigned delta = 0; delta < 5; delta++) {
        struct context c = real_context(CODE16("int 0x90"));

        expect_trap(run_real(&c, (struct real_mode){.idt_limit = (u16)(0x90 * 4 + delta)}),
                    delta >= 3 ? FAULT_AT(0x90, 0, 2) : FAULT(GP, 0), "table limit %u bytes into the vector",
                    delta);
    }
}

static void exceptions(void)
{
    struct {
        const char *name;
        struct code code;
        struct expect want;
    } rows[] = {
        {"DIV by zero", CODE16("div cl"), FAULT(DE, 0)},
        {"DIV overflow", CODE16("mov ax, 0x200\n mov cl, 1\n div cl"), FAULT_AT(DE, 0, 5)},
        {"IDIV overflow", CODE16("mov ax, 0x8000\n mov cl, 0xff\n idiv cl"), FAULT_AT(DE, 0, 5)},
        {"AAM 0", CODE16("aam 0"), FAULT(DE, 0)},
        {"INT3", CODE16("int3"), FAULT_AT(BP, 0, 1)},
        {"INTO", CODE16("mov al, 0x7f\n inc al\n into"), FAULT_AT(OF, 0, 5)},
        {"BOUND", CODE16("mov ax, 5\n bound ax, [bx]"), FAULT_AT(BR, 0, 3)},
        {"UD2", CODE16("ud2"), FAULT(UD, 0)},
        {"MOV to CS", CODE16(".byte 0x8e, 0xc8"), FAULT(UD, 0)},
        {"MOV from segment register 6", CODE16(".byte 0x8c, 0xf0"), FAULT(UD, 0)},
        {"LOCK MOV", CODE16("lock\n mov [bx], ax"), FAULT(UD, 0)},
        {"LOCK ADD to a register", CODE16(".byte 0xf0, 0x01, 0xc0"), FAULT(UD, 0)},
        {"LEA of a register", CODE16(".byte 0x8d, 0xc0"), FAULT(UD, 0)},
        {"FE /2", CODE16(".byte 0xfe, 0xd0"), FAULT(UD, 0)},
        {"FF /7", CODE16(".byte 0xff, 0xf8"), FAULT(UD, 0)},
        {"POP /1", CODE16(".byte 0x8f, 0xc8"), FAULT(UD, 0)},
        {"far JMP through a register", CODE16(".byte 0xff, 0xe8"), FAULT(UD, 0)},
        /* Not recognised in real mode: SDM 3A 20.1.4. */
        {"SLDT", CODE16("sldt ax"), FAULT(UD, 0)},
        {"STR", CODE16("str ax"), FAULT(UD, 0)},
        {"LLDT", CODE16("lldt ax"), FAULT(UD, 0)},
        {"LTR", CODE16("ltr ax"), FAULT(UD, 0)},
        {"VERR", CODE16("verr ax"), FAULT(UD, 0)},
        {"VERW", CODE16("verw ax"), FAULT(UD, 0)},
        {"LAR", CODE16("lar ax, cx"), FAULT(UD, 0)},
        {"LSL", CODE16("lsl ax, cx"), FAULT(UD, 0)},
        {"ARPL", CODE16("arpl ax, cx"), FAULT(UD, 0)},
        {"SYSENTER", CODE16("sysenter"), FAULT(GP, 0)},
        {"SYSEXIT", CODE16("sysexit"), FAULT(GP, 0)},
        {"VEX in real mode", CODE16(".byte 0xc5, 0xf8, 0x77"), FAULT(UD, 0)},
        /* And these are, with CPL 0. */
        {"SMSW", CODE16("smsw ax"), END},
        {"CLTS", CODE16("clts"), END},
        {"STAC, CLAC", CODE16("stac\n clac"), cpu_has(CPU_SMAP) ? END : FAULT(UD, 0)},
        {"SGDT, SIDT", CODE16("sgdt [bx]\n sidt [bx]"), END},
        {"CLI, STI", CODE16("sti\n cli"), END},
        {"MOV from CR0", CODE16("mov eax, cr0"), END},
        {"RDMSR", CODE16("mov ecx, 0x1b\n rdmsr"), END},
        {"RDMSR of nothing", CODE16("mov ecx, 0x4fffffff\n rdmsr"), FAULT_AT(GP, 0, 6)},
        {"CPUID", CODE16("cpuid"), END},
        {"WBINVD", CODE16("wbinvd"), END},
        {"15 bytes", CODE16(".fill 14, 1, 0x26\n nop"), END},
        {"16 bytes", CODE16(".fill 15, 1, 0x26\n nop"), FAULT(GP, 0)},
        {"16 bytes of LOCK", CODE16(".fill 15, 1, 0xf0\n nop"), FAULT(GP, 0)},
    };

    group("exceptions");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = real_context(rows[i].code);
        const struct trap *trap;

        *(u32 *)REAL_DATA = 0;
        trap = run_in_real_mode(&c);
        expect_trap(trap, rows[i].want, "%s", rows[i].name);
        expect_equal(trap->at.sp, c.sp, "%s: SP, without an error code", rows[i].name);
    }
}

static void limits(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned size;
        bool stack;
    } rows[] = {
        {"byte read", CODE16("mov al, [bx]"), 1, false},
        {"word read", CODE16("mov ax, [bx]"), 2, false},
        {"word write", CODE16("mov [bx], ax"), 2, false},
        {"dword read", CODE16("mov eax, [bx]"), 4, false},
        {"dword RMW", CODE16("add [bx], eax"), 4, false},
        {"LES", CODE16("les cx, [bx]"), 4, false},
        {"32-bit LES", CODE16("les ecx, [bx]"), 6, false},
        {"FLD", CODE16("fld qword ptr [bx]\n fstp st(0)"), 8, false},
        {"FLD, ten bytes", CODE16("fld tbyte ptr [bx]\n fstp st(0)"), 10, false},
        {"STOSW", CODE16("mov di, bx\n stosw"), 2, false},
        {"LODSW", CODE16("mov si, bx\n lodsw"), 2, false},
        {"word read through SS", CODE16("mov ax, ss:[bx]"), 2, true},
        {"word write by BP", CODE16("mov bp, bx\n mov [bp], ax"), 2, true},
        {"dword read by BP", CODE16("mov bp, bx\n mov eax, [bp]"), 4, true},
        {"dword read, 32-bit address", CODE16("mov eax, [ebx]"), 4, false},
        {"byte read, 32-bit address", CODE16("mov al, [ebx]"), 1, false},
    };

    group("limits of 64 KiB");
    memset((void *)(REAL_DATA + 0xff00), 0, 0x120);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (u32 offset = 0xfff4; offset <= 0x10001; offset++) {
            struct context c = real_context(rows[i].code);
            bool wide = i >= ARRAY_SIZE(rows) - 2;
            const struct trap *trap;

            if (offset > 0xffff && !wide)
                continue;
            /* Whether the second part of a pointer or a ten-byte operand wraps is open, where it begins at 64 KiB. */
            if ((rows[i].size == 10 && offset == 0xfff8) ||
                (rows[i].name[0] == 'L' && rows[i].size == 4 && offset == 0xfffe) ||
                (rows[i].size == 6 && offset == 0xfffc))
                continue;
            c.bx = offset;
            trap = run_in_real_mode(&c);
            expect_trap(trap, offset + rows[i].size <= 0x10000 ? END : INT(rows[i].stack ? SS : GP),
                        "%s at %x", rows[i].name, offset);
        }
    }
    /* 16-bit addresses wrap; 32-bit ones do not. */
    struct context c = real_context(CODE16("mov al, [bx + si]"));
    const struct trap *trap;
    DATA_BYTE(0x10) = 0x77;
    c.bx = 0xfff0;
    c.si = 0x20;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.ax, 0x77, "[bx + si] wraps at 64 KiB");
    c = real_context(CODE16("mov al, [ebx + esi]"));
    c.bx = 0xfff0;
    c.si = 0x20;
    expect_trap(run_in_real_mode(&c), FAULT(GP, 0), "[ebx + esi] does not");
    c.bx = 0xfffffff0;
    expect_trap(run_in_real_mode(&c), END, "[ebx + esi] wraps at 4 GiB");
    c = real_context(CODE16("lea eax, [bx + si]"));
    c.bx = 0xfff0;
    c.si = 0x20;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.ax, 0x10, "LEA of [bx + si] wraps");
    /* String registers wrap. */
    c = real_context(CODE16("rep stosb"));
    memset((void *)REAL_DATA, 0, 16);
    c.di = 0x5678fffe;
    c.cx = 0x12340004;
    c.ax = 0xaa;
    trap = run_in_real_mode(&c);
    expect_trap(trap, END, "REP STOSB over the end");
    expect_equal(DATA_WORD(0xfffe), 0xaaaa, "REP STOSB over the end: last word");
    expect_equal(DATA_WORD(0), 0xaaaa, "REP STOSB over the end: first word");
    expect_equal(trap->at.di, 0x56780002, "REP STOSB over the end: EDI");
    expect_equal(trap->at.cx, 0x12340000, "REP STOSB over the end: ECX");
    /* Code. */
    static const struct {
        u16 ip;
        int vector;
        int at;
    } ends[] = {{0xfffa, VECTOR_END, 0}, {0xfffb, GP, 3}, {0xfffc, GP, 3},
                {0xfffd, GP, 3},         {0xfffe, GP, 0}, {0xffff, GP, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        /* Three bytes, then INT 80h. */
        c = real_context(CODE16("nop"));
        place(CODE16("mov ax, 0x1234"), REAL_CODE + ends[i].ip);
        c.ip = ends[i].ip;
        if (ends[i].ip == 0xfffb) {
            /* INT 80h fits exactly: it is run, and the pushed IP is 0. */
            trap = run_in_real_mode(&c);
            expect_trap(trap, INT(VECTOR_END), "code that ends at the limit");
            expect_equal(trap->at.ip, 0, "code that ends at the limit: pushed IP");
            continue;
        }
        trap = run_in_real_mode(&c);
        expect_trap(trap, ends[i].vector == VECTOR_END ? END : INT(GP), "code at %x", ends[i].ip);
        if (ends[i].vector == GP)
            expect_equal(trap->at.ip, (ends[i].ip + ends[i].at) & 0xffff, "code at %x: pushed IP",
                         ends[i].ip);
    }
    c = real_context(CODE16("mov eax, 0x10000\n .byte 0x66\n jmp ax"));
    expect_trap(run_in_real_mode(&c), FAULT_AT(GP, 0, 6), "a 32-bit jump beyond the limit");
}

/* Segments that were given a limit of 4 GiB in protected mode keep it (SDM 3A 20.1 says "may"; everything relies on it). */
static void big_real_mode(void)
{
    struct real_mode big = {.big = true, .idt_limit = 0x3ff};
    struct context c =
        real_context(CODE16("mov eax, [ebx]\n mov ecx, es:[ebx]\n mov edx, fs:[ebx]\n mov esi, gs:[ebx]"));
    const struct trap *trap;

    group("big real mode");
    *(u32 *)DATA_AREA = 0xb16b16;
    c.ds = c.es = c.fs = c.gs = 0;
    c.bx = DATA_AREA;
    trap = run_real(&c, big);
    expect_trap(trap, END, "reads at 4 MiB");
    expect_true(trap->at.ax == 0xb16b16 && trap->at.cx == 0xb16b16 && trap->at.dx == 0xb16b16 &&
                    trap->at.si == 0xb16b16,
                "reads at 4 MiB: values");
    c = real_context(CODE16("mov ds, cx\n mov eax, [ebx]"));
    c.cx = 0x100;
    c.bx = DATA_AREA - 0x1000;
    trap = run_real(&c, big);
    expect_trap(trap, END, "a load of DS keeps the limit");
    expect_equal(trap->at.ax, 0xb16b16, "a load of DS keeps the limit: value");
    c = real_context(CODE16("mov eax, [ebx]"));
    c.bx = 0x10000;
    expect_trap(run_in_real_mode(&c), FAULT(GP, 0), "and without, it is #GP");
    c = real_context(CODE16("rep movsd"));
    c.cx = 0x10004;
    c.si = 0xfffc;
    c.di = 0;
    trap = run_real(&c, big);
    expect_trap(trap, END, "16-bit REP MOVS uses CX, SI and DI");
    expect_equal(trap->at.cx, 0x10000, "16-bit REP MOVS: ECX");
    expect_equal(trap->at.si, 0xc, "16-bit REP MOVS: SI wraps");
    c = real_context(CODE16(".byte 0x67\n rep stosb"));
    c.es = 0;
    c.di = DATA_AREA;
    c.cx = 3;
    c.ax = 0x99;
    trap = run_real(&c, big);
    expect_trap(trap, END, "32-bit REP STOS");
    expect_equal(*(u32 *)DATA_AREA, 0x999999, "32-bit REP STOS: memory");
}

static void prefixes(void)
{
    struct {
        const char *name;
        struct code code;
        ulong in_cx, ax, cx;
        int sp; /* change */
    } rows[] = {
        {"PUSH AX", CODE16("push ax\n pop cx\n push ax"), 0, 0x12345678, 0x5678, -2},
        {"PUSH EAX", CODE16("push eax"), 0, 0x12345678, 0, -4},
        {"PUSH imm8", CODE16("push -2\n pop cx\n push -2"), 0, 0x12345678, 0xfffe, -2},
        {"PUSH imm8, 32-bit", CODE16(".byte 0x66, 0x6a, 0xfe\n pop ecx"), 0, 0x12345678, 0xfffffffe, 0},
        {"PUSH SP", CODE16("mov cx, sp\n push sp\n pop ax\n sub cx, ax"), 0, 0x12348000, 0, 0},
        {"PUSHF", CODE16("pushf"), 0, 0x12345678, 0, -2},
        {"PUSHFD", CODE16("pushfd"), 0, 0x12345678, 0, -4},
        {"PUSHA", CODE16("pusha"), 0, 0x12345678, 0, -16},
        {"PUSHAD", CODE16("pushad"), 0, 0x12345678, 0, -32},
        {"PUSH DS, 32-bit", CODE16(".byte 0x66\n push ds"), 0, 0x12345678, 0, -4},
        {"CALL", CODE16("call 1f\n 1:"), 0, 0x12345678, 0, -2},
        {"32-bit CALL", CODE16(".byte 0x66, 0xe8\n .long 0"), 0, 0x12345678, 0, -4},
        {"32-bit CALL and RET", CODE16(".byte 0x66, 0xe8\n .long 2\n jmp 1f\n .byte 0x66\n ret\n 1:"), 0,
         0x12345678, 0, 0},
        {"MOV EAX", CODE16("mov eax, 0x89abcdef"), 0, 0x89abcdef, 0, 0},
        {"CBW", CODE16("mov al, 0x80\n cbw"), 0, 0x1234ff80, 0, 0},
        {"CWDE", CODE16("mov ax, 0x8000\n cwde"), 0, 0xffff8000, 0, 0},
        {"LOOP", CODE16("xor ax, ax\n 1: inc ax\n loop 1b"), 0x10003, 0x12340003, 0x10000, 0},
        {"LOOP with ECX", CODE16("xor ax, ax\n 1: inc ax\n .byte 0x67\n loop 1b"), 3, 0x12340003, 0, 0},
        {"JCXZ", CODE16("jcxz 1f\n inc ax\n 1:"), 0x10000, 0x12345678, 0x10000, 0},
        {"JECXZ", CODE16(".byte 0x67\n jcxz 1f\n inc ax\n 1:"), 0x10000, 0x12345679, 0x10000, 0},
        {"ENTER 4, 0", CODE16("mov bp, sp\n enter 4, 0"), 0, 0x12345678, 0, -6},
        {"ENTER and LEAVE", CODE16("enter 4, 2\n leave"), 0, 0x12345678, 0, 0},
        {"MOVZX", CODE16("movzx eax, ax"), 0, 0x5678, 0, 0},
        {"repeated 66h", CODE16(".byte 0x66, 0x66\n .byte 0xb8\n .long 0x01020304"), 0, 0x01020304, 0, 0},
        {"the last of 2Eh, 36h, 26h",
         CODE16("mov al, 7\n .byte 0x2e, 0x36, 0x26, 0xa2\n .word 0x30\n mov cl, [0x30]"), 0, 0x12345607, 7,
         0},
    };

    group("operand and address sizes");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = real_context(rows[i].code);
        const struct trap *trap;

        c.ax = 0x12345678;
        c.cx = rows[i].in_cx;
        trap = run_in_real_mode(&c);
        expect_trap(trap, END, "%s", rows[i].name);
        expect_equal(trap->at.ax, rows[i].ax, "%s: EAX", rows[i].name);
        expect_equal(trap->at.cx, rows[i].cx, "%s: ECX", rows[i].name);
        expect_equal(trap->at.sp, c.sp + (ulong)(long)rows[i].sp, "%s: ESP", rows[i].name);
    }
    /* SP wraps, and ESP's upper half stays. */
    struct context c = real_context(CODE16("push ax\n pop cx\n push eax\n pop edx\n mov bx, sp"));
    const struct trap *trap;
    c.ax = 0xcafe;
    c.sp = 0xabcd0000;
    trap = run_in_real_mode(&c);
    expect_trap(trap, END, "a stack that wraps");
    expect_equal(trap->at.cx, 0xcafe, "a stack that wraps: value");
    expect_equal(trap->at.sp, 0xabcd0000, "a stack that wraps: ESP");
    c = real_context(CODE16("pop ax\n pop cx"));
    *(volatile u16 *)(REAL_STACK + 0xfffe) = 0x1111;
    *(volatile u16 *)REAL_STACK = 0x2222;
    c.sp = 0xfffe;
    /* The run starts by three words below SP. */
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.cx, 0x2222, "POP over the end");
    expect_equal(trap->at.sp, 2, "POP over the end: SP");
}

static void far_transfers(void)
{
    struct context c;
    const struct trap *trap;

    group("far transfers");
    c = real_context(CODE16("call 0x1000:0x400"));
    place(CODE16("mov cx, cs\n mov dx, sp\n retf"), REAL_CODE + HANDLER);
    trap = run_in_real_mode(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, 7), "CALL far and RETF");
    expect_equal(trap->at.cx, 0x1000, "CALL far: CS");
    expect_equal(trap->at.dx, c.sp - 4, "CALL far: SP");
    expect_equal(trap->at.sp, c.sp, "RETF: SP");
    c = real_context(CODE16("call 0x1040:0"));
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.cx, 0x1040, "CALL far by another name of the same place: CS");
    c = real_context(CODE16("push 0x5555\n push 0x6666\n push 0x1000\n push 0x400\n retf 4"));
    place(CODE16("nop"), REAL_CODE + HANDLER);
    trap = run_in_real_mode(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, HANDLER + 3), "RETF imm");
    expect_equal(trap->at.sp, c.sp, "RETF imm: SP");
    c = real_context(CODE16("jmp dword ptr [bx]"));
    *(u32 *)(REAL_DATA + 0x20) = 0x10400000;
    c.bx = 0x20;
    trap = run_in_real_mode(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, 3), "JMP far through memory");
    expect_equal(trap->at.cs, 0x1040, "JMP far through memory: CS");
    c = real_context(CODE16(".byte 0x66, 0x9a\n .long 0x400\n .word 0x1000"));
    place(CODE16("mov dx, sp\n .byte 0x66\n retf"), REAL_CODE + HANDLER);
    trap = run_in_real_mode(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, 10), "32-bit CALL far and RETF");
    expect_equal(trap->at.dx, c.sp - 8, "32-bit CALL far: SP");
    expect_equal(trap->at.sp, c.sp, "32-bit RETF: SP");
    c = real_context(CODE16(".byte 0x66, 0xea\n .long 0x10000\n .word 0x1000"));
    expect_trap(run_in_real_mode(&c), FAULT(GP, 0), "32-bit JMP far beyond the limit");
    /* IRET */
    c = real_context(CODE16("pushf\n push cs\n push 0x400\n iret"));
    place(CODE16("nop"), REAL_CODE + HANDLER);
    trap = run_in_real_mode(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, HANDLER + 3), "IRET");
    c = real_context(CODE16("push eax\n .byte 0x66\n push cs\n push 0\n push 0x400\n iretd"));
    place(CODE16("pushfd\n pop ecx"), REAL_CODE + HANDLER);
    c.ax = FLAG_FIXED | FLAG_AC | FLAG_ID | FLAG_VM | FLAG_VIF | FLAG_VIP | FLAG_CF | FLAG_IOPL | FLAG_NT;
    trap = run_in_real_mode(&c);
    expect_trap(trap, INT(VECTOR_END), "IRETD");
    expect_equal(trap->at.cx, FLAG_FIXED | FLAG_AC | FLAG_ID | FLAG_CF | FLAG_IOPL | FLAG_NT, "IRETD: flags");
    expect_equal(trap->at.sp, c.sp, "IRETD: SP");
    c = real_context(CODE16("push eax\n popfd\n pushfd\n pop ecx"));
    c.ax = FLAG_FIXED | FLAG_AC | FLAG_ID | FLAG_VM | FLAG_RF | FLAG_IOPL | FLAG_NT | FLAG_IF;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.cx, FLAG_FIXED | FLAG_AC | FLAG_ID | FLAG_IOPL | FLAG_NT | FLAG_IF, "POPFD: flags");
}

static void segments(void)
{
    struct context c = real_context(CODE16("mov fs, cx\n mov ax, fs:[0x10]\n mov dx, fs"));
    const struct trap *trap;

    group("segment registers");
    DATA_WORD(0x50) = 0x4242;
    c.cx = (REAL_DATA >> 4) + 4;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.ax, 0x4242, "the base is 16 times the selector");
    expect_equal(trap->at.dx, c.cx, "the selector is kept");
    c = real_context(CODE16("lds si, [0x60]\n mov ax, ds\n lodsw"));
    *(u32 *)(REAL_DATA + 0x60) = (u32)(REAL_DATA >> 4) << 16 | 0x50;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.ax, 0x4242, "LDS");
    c = real_context(
        CODE16("mov eax, 0xffffffff\n mov ax, ds\n mov ecx, 0xffffffff\n mov ecx, ds\n mov [0x70], ds"));
    *(u32 *)(REAL_DATA + 0x70) = 0xffffffff;
    trap = run_in_real_mode(&c);
    expect_equal(trap->at.ax, 0xffff0000 | REAL_DATA >> 4, "MOV of a segment register to 16 bits");
    expect_equal(trap->at.cx, REAL_DATA >> 4, "MOV of a segment register to 32 bits");
    expect_equal(*(u32 *)(REAL_DATA + 0x70), 0xffff0000 | REAL_DATA >> 4,
                 "MOV of a segment register to memory");
}

/* TF: SDM 3B 17.3.1.4; the shadow of MOV SS: 3A 6.8.3. */
static void single_step(void)
{
    struct {
        const char *name;
        struct code code;
        int at; /* IP at the trap, or -2: none */
        ulong cx;
    } rows[] = {
        {"an instruction", CODE16("nop\n nop"), 1, 5},
        {"a taken jump", CODE16("jmp 1f\n nop\n 1: nop"), 3, 5},
        {"MOV SS, then one", CODE16("mov ss, dx\n nop\n nop"), 3, 5},
        {"POP SS, then one", CODE16("pop ss\n nop\n nop"), 2, 5},
        {"MOV DS", CODE16("mov ds, dx\n nop"), 2, 5},
        {"POPF that clears TF", CODE16("popf\n nop"), 1, 5},
        {"an iteration of REP", CODE16("rep stosb"), 0, 4},
        {"the last iteration of REP", CODE16("rep stosb"), 2, 0},
        {"STI", CODE16("sti\n nop"), 1, 5},
    };

    group("single-step");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = real_context(rows[i].code);
        const struct trap *trap;

        *(volatile u16 *)(REAL_STACK + c.sp) = rows[i].code.begin[0] == 0x9d ? FLAG_FIXED : (u16)c.ss;
        c.dx = c.ss;
        c.cx = rows[i].cx == 0 ? 1 : 5;
        c.flags |= FLAG_TF;
        trap = run_in_real_mode(&c);
        expect_trap(trap, FAULT_AT(DB, 0, rows[i].at), "%s", rows[i].name);
        expect_equal(trap->at.cx, rows[i].cx, "%s: CX", rows[i].name);
        if (rows[i].code.begin[0] != 0x9d)
            expect_equal(!!(trap->at.flags & FLAG_TF), 1, "%s: TF is pushed", rows[i].name);
    }
    {
        /* POPF that sets TF: the trap is after the next instruction. INT n clears TF without a trap of its own. */
        struct context c = real_context(CODE16("push 0x102\n popf\n nop\n nop"));
        expect_trap(run_in_real_mode(&c), FAULT_AT(DB, 0, 5), "POPF that sets TF");
        c = real_context(CODE16("int 0x90"));
        c.flags |= FLAG_TF;
        expect_trap(run_in_real_mode(&c), FAULT_AT(0x90, 0, 2), "INT n under TF");
    }
}

/* A20 off: bit 20 of every address is 0 (SDM 3A 20.1.1: the wrap of the 8086). Port 92h bit 1. */
static void a20(void)
{
    struct context c =
        real_context(CODE16("in al, 0x92\n mov dl, al\n and al, 0xfc\n out 0x92, al\n"
                            "mov cx, es:[0x510]\n mov word ptr es:[0x512], 0x3333\n mov si, [0x502]\n"
                            "mov al, dl\n or al, 2\n and al, 0xfe\n out 0x92, al\n"
                            "mov bx, es:[0x510]\n mov di, [0x502]"));
    const struct trap *trap;
    volatile u16 *low = (volatile u16 *)(0x500 + (ulong)(read_cr2() & 0)), *high = (volatile u16 *)0x100500;
    u16 saved = high[0];

    group("A20");
    low[0] = (u16)~saved;
    low[1] = 0x1111;
    c.ds = 0;
    c.es = 0xffff;
    trap = run_in_real_mode(&c);
    expect_trap(trap, END, "the snippet");
    expect_equal(trap->at.cx, (u16)~saved, "FFFF:0510 with A20 off is 0:0500");
    expect_equal(trap->at.si, 0x3333, "a write with A20 off");
    expect_equal(trap->at.bx, saved, "FFFF:0510 with A20 on is in the second MiB");
    expect_equal(trap->at.di, 0x3333, "the write stays where it was");
}

/* The way there and back inside one snippet: after MOV to CR0 the segments are as they were. */
static void mode_switch(void)
{
    struct context c =
        real_context(CODE16("mov eax, cr0\n or al, 1\n mov cr0, eax\n jmp 1f\n 1:\n mov cx, [0x50]\n"
                            "mov bx, 0x10\n mov es, bx\n mov esi, es:[edi]\n"
                            "and al, 0xfe\n mov cr0, eax\n mov dx, [0x50]\n mov ebp, es:[edi]"));
    const struct trap *trap;

    group("switching PE");
    DATA_WORD(0x50) = 0x4321;
    *(u32 *)DATA_AREA = 0x89898989;
    c.di = DATA_AREA;
    trap = run_in_real_mode(&c);
    expect_trap(trap, END, "the snippet");
    expect_equal(trap->at.cx, 0x4321, "DS after PE was set");
    expect_equal(trap->at.si, 0x89898989, "ES loaded in protected mode");
    expect_equal(trap->at.dx, 0x4321, "DS after PE was cleared");
    expect_equal(trap->at.bp, 0x89898989, "ES after PE was cleared");
}

void test(void)
{
    interrupts();
    exceptions();
    limits();
    big_real_mode();
    prefixes();
    far_transfers();
    segments();
    single_step();
    a20();
    mode_switch();
}
