/*
 * Exceptions: which comes first, what is saved, what holds them back, and the FPU's own. 32-bit protected mode.
 * SDM 3A chapter 6, table 6-2 on priorities; 3B 17.3 on single-step; 1 chapters 8, 10, 11 and 13 on the FPU's.
 */
#include "guest.h"

enum {
    PIC1 = 0x20,
    PIC2 = 0xa0,
    VECTOR_TIMER = 0x20,
    VECTOR_FERR = 0x2d,
    LANDING = 0x100,
};
#define DR6_BS (1u << 14)

static volatile u32 *lapic(u32 offset)
{
    return (volatile u32 *)(0xfee00000u + offset);
}

/* Interrupts of the 8259s come through the local APIC's LINT0 (the MP specification's virtual wire). */
static void virtual_wire(void)
{
    *lapic(0xf0) = 0x1ff;
    *lapic(0x350) = 0x700;
}

/* Leave the timer's interrupt waiting in the 8259. */
static void raise_timer(void)
{
    outb(PIC1 + 1, 0xfe);
    outb(0x43, 0x30); /* channel 0, mode 0: the output rises at the end of the count */
    outb(0x40, 20);
    outb(0x40, 0);
    outb(PIC1, 0x0a); /* read IRR */
    while (!(inb(PIC1) & 1))
        ;
}

static void end_timer(void)
{
    outb(PIC1, 0x20);
    outb(PIC1 + 1, 0xff);
}

/* ---- What holds an interrupt back: SDM 3A 6.8 ---- */

static void interrupt_shadows(void)
{
    struct {
        const char *name;
        struct code code;
        ulong flags;
        int at; /* offset at which the interrupt comes; ANYWHERE: it does not */
    } rows[] = {
        {"IF is set", CODE32("nop"), FLAG_IF, 0},
        {"IF is clear", CODE32("nop\n nop"), 0, ANYWHERE},
        {"STI", CODE32("sti\n nop\n nop"), 0, 2},
        {"STI with IF set already, after CLI", CODE32("cli\n sti\n nop\n nop"), FLAG_IF, 0},
        {"STI, CLI", CODE32("sti\n cli\n nop"), 0, ANYWHERE},
        {"STI, MOV SS", CODE32("mov eax, ss\n sti\n mov ss, eax\n nop\n nop"), 0, ANYWHERE - 1},
        {"STI, STI", CODE32("sti\n sti\n nop"), 0, 2},
        {"POPFD", CODE32("push 0x202\n popfd\n nop"), 0, 6},
        {"IRETD", CODE32("push 0x202\n push cs\n push esi\n iretd"), 0, LANDING},
        {"STI, HLT", CODE32("sti\n hlt\n nop"), 0, 2},
    };

    group("interrupts held back");
    virtual_wire();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(rows[i].code);
        const struct trap *trap;

        if (rows[i].at == ANYWHERE - 1)
            continue; /* of two shadows in a row the second may be ignored (SDM 2B STI) */
        place(CODE32("nop"), CODE_AREA + LANDING);
        c.flags |= rows[i].flags;
        c.si = CODE_AREA + LANDING;
        raise_timer();
        trap = run(&c);
        if (rows[i].at == ANYWHERE)
            expect_trap(trap, END, "%s", rows[i].name);
        else
            expect_trap(trap, FAULT_AT(VECTOR_TIMER, 0, rows[i].at), "%s", rows[i].name);
        if (rows[i].at == ANYWHERE) { /* it is still there */
            c = kernel_context(CODE32("nop"));
            c.flags |= FLAG_IF;
            expect_trap(run(&c), FAULT_AT(VECTOR_TIMER, 0, 0), "%s: later", rows[i].name);
        }
        end_timer();
    }
    /* MOV SS and POP SS hold back interrupts for one instruction (SDM 3A 6.8.3). */
    struct code forms[] = {CODE32("mov ss, eax\n nop\n nop"),
                           CODE32("push ss\n sti\n nop\n cli\n pop ss\n nop")};
    struct context c = kernel_context(forms[0]);
    c.ax = SEL_KDATA;
    raise_timer();
    c.flags |= FLAG_IF;
    expect_trap(run(&c), FAULT_AT(VECTOR_TIMER, 0, 0), "before MOV SS");
    end_timer();
}

/* ---- Single-step ---- */

static u32 read_dr6(void)
{
    u32 value;

    asm volatile("mov %%dr6, %0" : "=r"(value));
    return value;
}

static void write_dr6(u32 value)
{
    asm volatile("mov %0, %%dr6" ::"r"(value));
}

static void single_step(void)
{
    struct {
        const char *name;
        struct code code;
        int vector, at;
        bool user;
    } rows[] = {
        {"an instruction", CODE32("nop\n nop"), DB, 1, true},
        {"a taken jump", CODE32("jmp 1f\n nop\n 1: nop"), DB, 3, true},
        {"a jump that is not taken", CODE32("test esp, esp\n jz 1f\n nop\n 1: nop"), DB, 2, true},
        {"INT 80h", CODE32("int 0x80"), VECTOR_END, 2, true},
        {"INT3", CODE32("int3"), BP, 1, true},
        {"a fault", CODE32("ud2"), UD, 0, true},
        {"MOV SS, then one", CODE32("mov ss, edx\n nop\n nop"), DB, 3, true},
        {"POP SS, then one", CODE32("pop ss\n nop\n nop"), DB, 2, true},
        {"LSS, without a shadow", CODE32("lss esp, [ebx]\n nop"), DB, 3, true},
        {"MOV SS, then INT3", CODE32("mov ss, edx\n int3"), BP, 3, true},
        {"REP, an iteration", CODE32("rep lodsb"), DB, 0, true},
        {"REP with a count of 0", CODE32("xor ecx, ecx\n rep lodsb"), DB, 2, true},
        {"PUSHF shows TF", CODE32("pushfd\n pop eax"), DB, 1, true},
        {"POPF that sets TF", CODE32("push 0x102\n popfd\n nop\n nop"), DB, 7, false},
        {"IRET that sets TF", CODE32("push 0x102\n push cs\n push esi\n iretd"), DB, LANDING + 1, false},
        {"CPUID", CODE32("cpuid\n nop"), DB, 2, true},
        {"HLT", CODE32("hlt"), GP, 0, true},
    };

    group("single-step");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        place(CODE32("nop\n nop"), CODE_AREA + LANDING);
        c.dx = c.ss;
        c.cx = 3;
        c.si = rows[i].user ? DATA_AREA : CODE_AREA + LANDING;
        c.bx = DATA_AREA;
        *(u32 *)DATA_AREA = STACK_TOP - 0x100;
        *(u16 *)(DATA_AREA + 4) = SEL_UDATA;
        c.sp -= 0x40;
        *(u32 *)c.sp = c.ss;
        c.flags |= rows[i].user ? FLAG_TF : 0;
        write_dr6(0xffff0ff0);
        trap = run(&c);
        expect_trap(trap, FAULT_AT(rows[i].vector, 0, rows[i].at), "%s", rows[i].name);
        expect_equal(!!(read_dr6() & DR6_BS), rows[i].vector == DB, "%s: DR6.BS", rows[i].name);
        expect_equal(!!(trap->at.flags & FLAG_TF), 1, "%s: TF is saved", rows[i].name);
    }
    write_dr6(0xffff0ff0);
    /* The trap of the instruction before comes ahead of an interrupt (table 6-2, classes 4 and 5). */
    struct context c = kernel_context(CODE32("push 0x302\n popfd\n nop"));
    raise_timer();
    expect_trap(run(&c), FAULT_AT(VECTOR_TIMER, 0, 6),
                "an interrupt that POPF lets in comes before its TF counts");
    end_timer();
    c = kernel_context(CODE32("sti\n nop\n nop"));
    c.flags |= FLAG_TF;
    raise_timer();
    expect_trap(run(&c), FAULT_AT(DB, 0, 1), "TF over STI");
    end_timer();
}

/* RF in the saved flags: set by faults, clear in traps and interrupts (SDM 3B 17.3.1.1). */
static void resume_flag(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
        bool rf;
    } rows[] = {
        {"#UD", CODE32("ud2"), UD, true},
        {"#DE", CODE32("div cl"), DE, true},
        {"#GP", CODE32("hlt"), GP, true},
        {"#BR", CODE32("bound eax, [ebx]"), BR, true},
        {"#NP", CODE32("mov ds, edx"), NP, true},
        {"INT3", CODE32("int3"), BP, false},
        {"INT n", CODE32("int 0x80"), VECTOR_END, false},
    };

    group("RF");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        gdt[SEL_TEST / 8] = descriptor(0, 0xfffff, DATA_RW(3) & ~ACCESS_P, FLAGS_G | FLAGS_D);
        c.ax = 5;
        c.bx = DATA_AREA + 0x100;
        c.dx = SEL_TEST | 3;
        *(u32 *)c.bx = *(u32 *)(c.bx + 4) = 0;
        trap = run(&c);
        expect_equal(trap->vector, rows[i].vector, "%s: vector", rows[i].name);
        expect_equal(!!(trap->at.flags & FLAG_RF), rows[i].rf, "%s", rows[i].name);
    }
}

/* ---- Which of two: SDM 3A table 6-2, and the order of the instructions' "Operation" ---- */

static void priorities(void)
{
    struct {
        const char *name;
        struct code code;
        struct expect want;
        bool ts;
    } rows[] = {
        {"LOCK on what takes none, before the operand's fault", CODE32("lock\n mov [ebx], eax"), FAULT(UD, 0),
         false},
        {"an invalid opcode before #NM", CODE32(".byte 0xf0\n fnop"), FAULT(UD, 0), true},
        {"#NM before the operand's fault", CODE32("fld dword ptr [ebx]"), FAULT(NM, 0), true},
        {"the operand's fault before #DE", CODE32("div dword ptr [ebx]"), FAULT(GP, 0), false},
        {"the operand's fault before #BR", CODE32("bound eax, [ebx]"), FAULT(GP, 0), false},
        {"the pointer's fault before the selector's", CODE32("call fword ptr [ebx]"), FAULT(GP, 0), false},
        {"the selector's fault before the stack's", CODE32("mov esp, 2\n mov ss, edx\n call 0x77f8:0"),
         FAULT_AT(GP, 0x77f8, 7), false},
        {"CPL before the operand's fault", CODE32("lgdt [ebx]"), FAULT(GP, 0), false},
        {"#UD of a register form before CPL", CODE32(".byte 0x0f, 0x01, 0xd6"), FAULT(UD, 0), false},
        {"MOV from CR1 at CPL 3", CODE32("mov eax, cr7"), FAULT(UD, 0), false},
        {"too long before #UD", CODE32(".fill 14, 1, 0x3e\n ud2"), FAULT(GP, 0), false},
        {"LES of a register", CODE32(".byte 0xc4, 0xc0, 0x00, 0x00"), FAULT(UD, 0), false},
    };
    ulong cr0 = read_cr0() & ~(ulong)CR0_TS;

    group("priorities");
    gdt[SEL_TEST / 8] = descriptor(STACK_AREA, 0xfff, DATA_RW(3), FLAGS_D);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        c.ds = 0; /* [ebx] is #GP(0) */
        c.dx = SEL_TEST | 3;
        write_cr0(rows[i].ts ? cr0 | CR0_TS : cr0);
        trap = run(&c);
        write_cr0(cr0);
        expect_trap(trap, rows[i].want, "%s", rows[i].name);
    }
    /* RETF and IRET: the stack's limit, then what is on it. */
    struct code forms[] = {CODE32("retf"), CODE32("iretd"), CODE32("pop ds"), CODE32("popad")};
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        struct context c = user_context(forms[i]);

        memset((void *)STACK_AREA, 0, 0x1000);
        c.ss = SEL_TEST | 3;
        c.sp = 0xfff;
        expect_trap(run(&c), FAULT(SS, 0), "the stack's limit before what is on it, %u", i);
        c.sp = 0xff0;
        if (i < 2)
            expect_trap(run(&c), FAULT(GP, 0), "then the null CS, %u", i);
    }
}

/* Instructions have at most 15 bytes: #GP(0), SDM 3A 6.15, interrupt 13. */
static void length(void)
{
    static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3};

    group("the limit of 15 bytes");
    for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
        for (unsigned n = 12; n < 17; n++) {
            u8 bytes[20];
            struct context c;

            memset(bytes, prefixes[p], n);
            bytes[n] = 0x90;
            c = user_context((struct code){bytes, bytes + n + 1});
            expect_trap(run(&c), n < 15 ? END : FAULT(GP, 0), "%u times %02x and NOP", n, prefixes[p]);
        }
    }
    /* A long one that is nothing but itself. */
    struct context c =
        user_context(CODE32(".fill 3, 1, 0x2e\n lock\n add dword ptr [ebx + ecx * 8 + 0x10], 0x12345678"));
    c.bx = DATA_AREA;
    c.cx = 0;
    c.ds = SEL_UDATA;
    expect_trap(run(&c), FAULT(GP, 0), "LOCK ADD through CS, of 12 bytes and 3 prefixes, to a code segment");
}

/* ---- LOCK: SDM 2A, "LOCK" ---- */

static bool lock_is_good(bool two, u8 opcode, unsigned reg)
{
    if (two)
        return opcode == 0xab || opcode == 0xb3 || opcode == 0xbb || (opcode == 0xba && reg >= 5) ||
               opcode == 0xb0 || opcode == 0xb1 || opcode == 0xc0 || opcode == 0xc1 ||
               (opcode == 0xc7 && reg == 1);
    if (opcode < 0x38 && (opcode & 7) < 2)
        return true;
    switch (opcode) {
    case 0x80:
    case 0x81:
    case 0x82:
    case 0x83: return reg < 7;
    case 0x86:
    case 0x87: return true;
    case 0xf6:
    case 0xf7: return reg == 2 || reg == 3;
    case 0xfe:
    case 0xff: return reg < 2;
    default: return false;
    }
}

static void lock_prefix(void)
{
    static const u8 skipped[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67,
                                 0xf0, 0xf2, 0xf3, 0x0f, 0xc4, 0xc5, 0x62};

    group("LOCK");
    for (unsigned n = 0; n < 2 * 256 * 8; n++) {
        bool two = n >> 11, skip = false;
        u8 opcode = (u8)(n >> 3);
        unsigned reg = n & 7;
        /* The tail is an immediate where there is one, and NOPs. */
        u8 bytes[] = {0xf0, 0x0f, opcode, (u8)(reg << 3 | 3), 0x90, 0x90, 0x90, 0x90};
        struct code code = {bytes, bytes + sizeof(bytes)};
        struct context c;

        for (unsigned i = 0; i < ARRAY_SIZE(skipped) && !two; i++)
            skip |= opcode == skipped[i];
        /* 3-byte maps; MOV CR8 has a LOCK form on AMD's. */
        if (skip || (two && (opcode == 0x38 || opcode == 0x3a || opcode == 0x0f ||
                             ((opcode & 0xfd) == 0x20 && cpu_is_amd()))))
            continue;
        if (!two) {
            bytes[1] = opcode;
            bytes[2] = bytes[3];
            bytes[3] = 0x90;
        }
        c = user_context(code);
        c.bx = DATA_AREA;
        memset((void *)DATA_AREA, 0, 16);
        if (lock_is_good(two, opcode, reg)) {
            const struct trap *trap = run(&c);

            expect_true(trap->vector != UD, "%s%02x /%u with memory", two ? "0F " : "", opcode, reg);
            bytes[two ? 3 : 2] |= 0xc0;
            c = user_context(code);
            expect_trap(run(&c), FAULT(UD, 0), "%s%02x /%u with a register", two ? "0F " : "", opcode, reg);
        } else {
            expect_trap(run(&c), FAULT(UD, 0), "%s%02x /%u", two ? "0F " : "", opcode, reg);
        }
    }
}

/* ---- The FPU ---- */

/* An unmasked x87 exception waits for the next waiting instruction: SDM 1 8.7. */
static void x87_errors(void)
{
    struct {
        const char *name;
        struct code code;
        int vector, at;
    } rows[] = {
        {"FWAIT", CODE32("fld1\n fdiv st(0), st(1)\n fwait"), MF, 4},
        {"an arithmetic instruction", CODE32("fld1\n fdiv st(0), st(1)\n fld1"), MF, 4},
        {"FNSTSW does not wait", CODE32("fld1\n fdiv st(0), st(1)\n fnstsw ax"), VECTOR_END, ANYWHERE},
        {"FNCLEX drops it", CODE32("fld1\n fdiv st(0), st(1)\n fnclex\n fwait"), VECTOR_END, ANYWHERE},
        {"MMX waits", CODE32("fld1\n fdiv st(0), st(1)\n emms"), MF, 4},
        {"SSE does not", CODE32("fld1\n fdiv st(0), st(1)\n xorps xmm0, xmm0"), VECTOR_END, ANYWHERE},
        {"FLDENV loads one", CODE32("fnstenv [ebx]\n or word ptr [ebx + 4], 4\n fldenv [ebx]\n fwait"), MF,
         9},
        {"FLDCW that unmasks one", CODE32("fld1\n fldcw [esi]\n fdiv st(0), st(1)\n fldcw [edi]\n fwait"), MF,
         8},
    };
    ulong cr0 = read_cr0(), cr4 = read_cr4();

    group("x87 errors, CR0.NE set");
    write_cr4(cr4 | CR4_OSFXSR);
    write_cr0(cr0 | CR0_NE);
    *(u16 *)(DATA_AREA + 0x80) = 0x37f; /* all masked */
    *(u16 *)(DATA_AREA + 0x84) = 0x37b; /* all but division by zero */
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);

        asm volatile("fninit\n fldz\n fldcw %0" ::"m"(*(u16 *)(DATA_AREA + 0x84)));
        c.bx = DATA_AREA;
        c.si = DATA_AREA + 0x80;
        c.di = DATA_AREA + 0x84;
        expect_trap(run(&c), rows[i].vector == MF ? FAULT_AT(MF, 0, rows[i].at) : END, "%s", rows[i].name);
    }
    asm volatile("fninit");

    /* With NE clear it is IRQ 13, until port F0h or FNCLEX (the PC/AT's way; SDM 3A 6.15, interrupt 16; 1 D.2). */
    group("x87 errors, CR0.NE clear");
    virtual_wire();
    write_cr0(cr0 & ~(ulong)CR0_NE);
    outb(PIC1 + 1, 0xfb);
    outb(PIC2 + 1, 0xdf);
    struct context c = user_context(CODE32("fld1\n fdiv st(0), st(1)\n nop\n nop\n fld1\n nop\n nop\n nop"));
    const struct trap *trap;
    asm volatile("fninit\n fldz\n fldcw %0" ::"m"(*(u16 *)(DATA_AREA + 0x84)));
    c.flags |= FLAG_IF;
    trap = run(&c);
    /* FERR# may come with the instruction that fails, or with the next one of the FPU. */
    expect_equal(trap->vector, VECTOR_FERR, "IRQ 13");
    expect_true(trap->at.ip - trap->start >= 4 && trap->at.ip - trap->start <= 6,
                "IRQ 13 comes before the next FPU instruction");
    outb(0xf0, 0); /* IGNNE#: the FPU may go on */
    outb(PIC2, 0x20);
    outb(PIC1, 0x20);
    asm volatile("fnclex");
    c = user_context(CODE32("fld1\n nop"));
    c.flags |= FLAG_IF;
    expect_trap(run(&c), END, "after port F0h and FNCLEX");
    outb(PIC1 + 1, 0xff);
    outb(PIC2 + 1, 0xff);
    asm volatile("fninit");
    write_cr0(cr0);
    write_cr4(cr4);
}

/* What the images tell of the last instruction, by CPUID 7.EBX bits 6 and 13 (SDM 1 8.1.8, 8.1.9); AMD's processors have
   neither bit. */
static void x87_pointers(void)
{
    static u8 fx[512] __attribute__((aligned(16)));
    bool exceptions_only = cpu_has(FEATURE(7, b, 6)), no_selectors = cpu_has(FEATURE(7, b, 13));
    struct code code = CODE32("fninit\n fld dword ptr es:[ebx + 4]\n fld1\n fxsave [esi]\n fnstenv [edi]");
    struct code fault = CODE32("fxrstor [esi]\n fld dword ptr es:[ebx]\n");
    struct code control = CODE32("fninit\n fldz\n fnstcw [ebx]\n fldcw [ebx]\n fnclex\n fxsave [esi]");
    struct context c = user_context(code);
    const u32 *env = (u32 *)(DATA_AREA + 0x400);
    ulong cr4 = read_cr4();
    u32 fip, fdp;
    u16 fop, fcs, fds;

    group("x87 pointers");
    write_cr4(cr4 | CR4_OSFXSR);
    memset((void *)DATA_AREA, 0, 0x1000);
    c.bx = DATA_AREA;
    c.si = DATA_AREA + 0x200;
    c.di = DATA_AREA + 0x400;
    c.es = SEL_UDATA;
    expect_trap(run(&c), END, "the instructions");
    fip = CODE_AREA + 6;
    fop = exceptions_only ? 0 : 0x1e8;
    fdp = exceptions_only ? 0 : DATA_AREA + 4;
    fcs = no_selectors ? 0 : c.cs;
    fds = no_selectors || exceptions_only ? 0 : c.es;
    expect_equal(*(u16 *)(c.si + 6), fop, "FXSAVE: FOP");
    expect_equal(*(u32 *)(c.si + 8), fip, "FXSAVE: FIP");
    expect_equal(*(u16 *)(c.si + 12), fcs, "FXSAVE: FCS");
    expect_equal(*(u32 *)(c.si + 16), fdp, "FXSAVE: FDP");
    expect_equal(*(u16 *)(c.si + 20), fds, "FXSAVE: FDS");
    expect_equal(env[3], fip, "FNSTENV: FIP");
    expect_equal(env[4], (u32)fop << 16 | fcs, "FNSTENV: FOP and FCS");
    expect_equal(env[5], fdp, "FNSTENV: FDP");
    expect_equal(env[6] & 0xffff, fds, "FNSTENV: FDS");
    /* An instruction that faults leaves them. */
    struct context f = user_context(fault);
    f.si = c.si;
    f.bx = 0x1000;
    f.es = 0;
    *(u16 *)(f.si + 6) = 0x123;
    *(u32 *)(f.si + 8) = 0x1234;
    *(u16 *)(f.si + 12) = 0x5678;
    *(u32 *)(f.si + 16) = 0x4321;
    *(u16 *)(f.si + 20) = 0x8765;
    expect_trap(run(&f), FAULT_AT(GP, 0, 3), "a load that faults");
    asm volatile("fxsave %0" : "=m"(fx));
    expect_equal(*(u16 *)(fx + 6), 0x123, "after a fault: FOP");
    expect_equal(*(u32 *)(fx + 8), 0x1234, "after a fault: FIP");
    expect_equal(*(u16 *)(fx + 12), no_selectors ? 0 : 0x5678, "after a fault: FCS");
    expect_equal(*(u32 *)(fx + 16), 0x4321, "after a fault: FDP");
    expect_equal(*(u16 *)(fx + 20), no_selectors ? 0 : 0x8765, "after a fault: FDS");
    /* Control instructions leave them too. */
    c = user_context(control);
    c.bx = DATA_AREA;
    c.si = DATA_AREA + 0x200;
    expect_trap(run(&c), END, "control instructions");
    expect_equal(*(u32 *)(c.si + 8), CODE_AREA + 2, "after control instructions: FIP");
    expect_equal(*(u16 *)(c.si + 6), exceptions_only ? 0 : 0x1ee, "after control instructions: FOP");
    expect_equal(*(u32 *)(c.si + 16), 0, "after control instructions: FDP");
    asm volatile("fninit");
    write_cr4(cr4);
}

/* Unmasked SIMD exceptions: #XM, or #UD without CR4.OSXMMEXCPT; SDM 1 11.5.3. */
static void simd_errors(void)
{
    struct code code = CODE32("ldmxcsr [ebx]\n xorps xmm0, xmm0\n divss xmm0, xmm0");
    ulong cr4 = read_cr4();

    group("SIMD errors");
    for (unsigned n = 0; n < 4; n++) {
        bool unmasked = n & 1, enabled = n & 2;
        struct context c = user_context(code);

        write_cr4((cr4 & ~(ulong)CR4_OSXMMEXCPT) | CR4_OSFXSR | (enabled ? CR4_OSXMMEXCPT : 0));
        c.bx = DATA_AREA;
        *(u32 *)DATA_AREA = unmasked ? 0 : 0x1f80; /* 0 / 0 */
        expect_trap(run(&c), !unmasked ? END : FAULT_AT(enabled ? XM : UD, 0, 6), "unmasked %u OSXMMEXCPT %u",
                    unmasked, enabled);
    }
    /* Memory operands of 16 bytes, and images. */
    struct {
        const char *name;
        struct code code;
        unsigned alignment;
    } rows[] = {
        {"MOVAPS", CODE32("movaps xmm0, [ebx]"), 16},
        {"MOVAPS to memory", CODE32("movaps [ebx], xmm0"), 16},
        {"ADDPS", CODE32("addps xmm0, [ebx]"), 16},
        {"PADDD", CODE32("paddd xmm0, [ebx]"), 16},
        {"MOVUPS", CODE32("movups xmm0, [ebx]"), 1},
        {"MOVSS", CODE32("movss xmm0, [ebx]"), 1},
        {"MOVQ", CODE32("movq xmm0, [ebx]"), 1},
        {"MOVNTPS", CODE32("movntps [ebx], xmm0"), 16},
        {"CVTDQ2PD", CODE32("cvtdq2pd xmm0, [ebx]"), 1},
        {"FXSAVE", CODE32("fxsave [ebx]"), 16},
        {"MMX", CODE32("paddd mm0, [ebx]"), 1},
    };
    write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned offset = 0; offset < 17; offset++) {
            struct context c = user_context(rows[i].code);

            memset((void *)DATA_AREA, 0, 1024);
            c.bx = DATA_AREA + offset;
            expect_trap(run(&c), offset % rows[i].alignment ? FAULT(GP, 0) : END, "%s at %u", rows[i].name,
                        offset);
        }
    }
    asm volatile("fninit");
    /* Reserved bits of MXCSR. */
    struct code loads[] = {CODE32("ldmxcsr [ebx + 24]"), CODE32("fxrstor [ebx]")};
    for (unsigned i = 0; i < ARRAY_SIZE(loads); i++) {
        for (unsigned bit = 0; bit < 32; bit++) {
            struct context c = user_context(loads[i]);
            bool reserved;

            memset((void *)DATA_AREA, 0, 512);
            asm volatile("fxsave %0" : "=m"(*(u8 *)(DATA_AREA + 0x400)));
            u32 mask = *(u32 *)(DATA_AREA + 0x400 + 28);
            reserved = !((mask ? mask : 0xffbf) >> bit & 1);
            *(u32 *)(DATA_AREA + 24) = 1u << bit;
            c.bx = DATA_AREA;
            expect_trap(run(&c), reserved ? FAULT(GP, 0) : END, "MXCSR bit %u, form %u", bit, i);
        }
    }
    asm volatile("fninit");
    write_cr4(cr4);
}

/* SDM 1 13.3, 13.7, 13.8; 2B XSETBV; 2D XSAVE, XRSTOR. */
static void extended_state(void)
{
    ulong cr4 = read_cr4();
    struct context c;
    u64 supported;

    if (!cpu_has(CPU_XSAVE)) {
        skip_group("XSAVE", "the processor has none");
        return;
    }
    group("XSAVE");
    struct code forms[] = {CODE32("xsave [ebx]"), CODE32("xrstor [ebx]"), CODE32("xgetbv")};
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        c = user_context(forms[i]);
        c.bx = DATA_AREA;
        c.ax = 7;
        c.cx = c.dx = 0;
        memset((void *)DATA_AREA, 0, 4096);
        write_cr4(cr4 & ~(ulong)CR4_OSXSAVE);
        expect_trap(run(&c), FAULT(UD, 0), "form %u without CR4.OSXSAVE", i);
        expect_equal(cpuid(1, 0).c >> 27 & 1, 0, "CPUID's OSXSAVE without it");
        write_cr4(cr4 | CR4_OSXSAVE | CR4_OSFXSR);
        expect_trap(run(&c), END, "form %u", i);
        expect_equal(cpuid(1, 0).c >> 27 & 1, 1, "CPUID's OSXSAVE with it");
        write_cr0(read_cr0() | CR0_TS);
        expect_trap(run(&c), i == 2 ? END : FAULT(NM, 0), "form %u with CR0.TS", i);
        write_cr0(read_cr0() & ~(ulong)CR0_TS);
        c.bx = DATA_AREA + 16;
        expect_trap(run(&c), i == 2 ? END : FAULT(GP, 0), "form %u, not aligned to 64", i);
    }
    c = user_context(CODE32("xgetbv"));
    c.cx = 2;
    expect_trap(run(&c), FAULT(GP, 0), "XGETBV of register 2");
    supported = cpuid(0xd, 0).a | (u64)cpuid(0xd, 0).d << 32;
    for (unsigned value = 0; value < 16; value++) {
        bool good = value & 1 && !(value & ~supported) && !((value & 4) && !(value & 2)) && !(value & 8);

        c = kernel_context(CODE32("xsetbv"));
        c.ax = value;
        c.cx = c.dx = 0;
        if (value & 8 && supported & 8)
            continue; /* MPX */
        expect_trap(run(&c), good ? END : FAULT(GP, 0), "XCR0 of %u", value);
    }
    c = kernel_context(CODE32("xsetbv"));
    c.ax = 1;
    c.cx = 1;
    c.dx = 0;
    expect_trap(run(&c), FAULT(GP, 0), "XSETBV of register 1");
    c.cx = 0;
    c.dx = 0x40000000;
    expect_trap(run(&c), FAULT(GP, 0), "XCR0 with bit 62");
    c.dx = 0;
    expect_trap(run(&c), END, "XCR0 of 1 again");
    /* XRSTOR's header: bytes 8 to 63 are zero, XSTATE_BV is within XCR0. */
    for (unsigned byte = 0; byte < 24; byte++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bool good = byte == 0 && bit == 0;

            c = user_context(CODE32("xrstor [ebx]"));
            c.bx = DATA_AREA;
            c.ax = 1;
            c.dx = 0;
            memset((void *)DATA_AREA, 0, 1024);
            *(u16 *)DATA_AREA = 0x37f;
            ((u8 *)DATA_AREA)[512 + byte] = (u8)(1 << bit);
            if (byte == 15 && bit == 7)
                continue; /* the compacted form */
            expect_trap(run(&c), good ? END : FAULT(GP, 0), "XRSTOR, header byte %u bit %u", byte, bit);
        }
    }
    write_cr4(cr4);
}

void test(void)
{
    interrupt_shadows();
    single_step();
    resume_flag();
    priorities();
    length();
    lock_prefix();
    x87_errors();
    x87_pointers();
    simd_errors();
    extended_state();
}
