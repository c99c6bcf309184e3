/*
 * Which fault comes first when page faults are among them, what is left as it was, and what becomes of faults during the
 * delivery of others. 64-bit kernel. SDM 3A tables 6-2 (priorities), 6-4 and 6-5 (double faults).
 */
#include "guest.h"

/* A page that is there, before one that is not. */
#define PAGE    ((ulong)TEST_AREA)
#define ABSENT  ((ulong)TEST_AREA + 0x1000)
#define NOWHERE (1ul << 47) /* not canonical */

enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4, VECTOR = 0x90, LANDING = 0x100, STACK = SEL_TEST };

extern u64 boot_pd[4 * 512];
static u64 table[512] __attribute__((aligned(4096)));

static void map(void)
{
    for (ulong i = 0; i < 512; i++)
        table[i] = (TEST_AREA + (i << 12)) | 7;
    table[1] = 0;
    boot_pd[TEST_AREA >> 21] = (ulong)table | 7;
    write_cr3(read_cr3());
}

static void set_ist(unsigned ist, u64 rsp)
{
    *(u64 *)(tss + 0x24 + 8 * (ist - 1)) = rsp;
}

/* RBX: ABSENT; RCX: NOWHERE; RDX: 0; RSI: DATA_AREA; RDI: ABSENT + 4. */
static void operands(void)
{
    struct {
        const char *name;
        struct code code;
        struct expect want;
    } rows[] = {
        {"alignment of 16 bytes before #PF", CODE64("movaps xmm0, [rbx + 4]"), FAULT(GP, 0)},
        {"alignment of CMPXCHG16B before #PF", CODE64("cmpxchg16b [rbx + 8]"), FAULT(GP, 0)},
        {"alignment of FXSAVE before #PF", CODE64("fxsave [rbx + 4]"), FAULT(GP, 0)},
        {"#PF of a good alignment", CODE64("movaps xmm0, [rbx]"), FAULT(PF, ERROR_U)},
        {"#UD before #PF", CODE64("lock\n mov [rbx], eax"), FAULT(UD, 0)},
        {"#PF before #DE", CODE64("div qword ptr [rbx]"), FAULT(PF, ERROR_U)},
        {"not canonical before #DE", CODE64("div qword ptr [rcx]"), FAULT(GP, 0)},
        {"CPL before #PF", CODE64("lgdt [rbx]"), FAULT(GP, 0)},
        {"CPL before #PF, INVLPG", CODE64("invlpg [rbx]"), FAULT(GP, 0)},
        {"MOVS reads before it writes", CODE64("lea rsi, [rbx + 8]\n movsq"), FAULT_AT(PF, ERROR_U, 4)},
        {"MOVS writes", CODE64("movsq"), FAULT(PF, ERROR_U | ERROR_W)},
        /* As the CPU does; Bochs reads the other first. */
        {"CMPS reads RDI's first", CODE64("mov rsi, rcx\n cmpsb"), FAULT_AT(PF, ERROR_U, 3)},
        {"PUSH of memory reads first", CODE64("mov rsp, rcx\n push qword ptr [rbx]"),
         FAULT_AT(PF, ERROR_U, 3)},
        {"PUSH to a bad stack", CODE64("lea rsp, [rcx + 64]\n push qword ptr [rsi]"), FAULT_AT(SS, 0, 4)},
        {"PUSH to an absent stack", CODE64("lea rsp, [rbx + 16]\n push rax"),
         FAULT_AT(PF, ERROR_U | ERROR_W, 4)},
        {"POP to memory reads the stack first", CODE64("mov rsp, rcx\n pop qword ptr [rbx]"),
         FAULT_AT(SS, 0, 3)},
        {"POP to absent memory", CODE64("pop qword ptr [rbx]"), FAULT(PF, ERROR_U | ERROR_W)},
        {"CALL of memory reads the target first", CODE64("mov rsp, rcx\n call [rbx]"),
         FAULT_AT(PF, ERROR_U, 3)},
        {"CALL with a bad stack", CODE64("lea rsp, [rcx + 64]\n call [rsi]"), FAULT_AT(SS, 0, 4)},
        {"RET from an absent stack", CODE64("mov rsp, rbx\n ret"), FAULT_AT(PF, ERROR_U, 3)},
        {"RETF from an absent stack", CODE64("mov rsp, rbx\n retf"), FAULT_AT(PF, ERROR_U, 3)},
        {"IRET from an absent stack", CODE64("mov rsp, rbx\n iretq"), FAULT_AT(PF, ERROR_U, 3)},
        {"ENTER to an absent stack", CODE64("lea rsp, [rbx + 16]\n enter 0, 0"),
         FAULT_AT(PF, ERROR_U | ERROR_W, 4)},
        {"LEAVE from an absent stack", CODE64("mov rbp, rbx\n leave"), FAULT_AT(PF, ERROR_U, 3)},
        {"a far pointer that is absent", CODE64("call fword ptr [rbx]"), FAULT(PF, ERROR_U)},
        {"XADD", CODE64("lock xadd [rbx], rax"), FAULT(PF, ERROR_U | ERROR_W)},
        {"XLAT", CODE64("xlatb"), FAULT(PF, ERROR_U)},
        {"PREFETCH faults never", CODE64("prefetcht0 [rbx]\n prefetchnta [rcx]"), END},
        {"NOP with an operand faults never", CODE64("nop dword ptr [rbx]\n nop dword ptr [rcx]"), END},
        {"LEA faults never", CODE64("lea rax, [rcx]"), END},
        {"CLFLUSH faults as a read", CODE64("clflush [rbx]"), FAULT(PF, ERROR_U)},
        {"CMOV reads although it does not move", CODE64("test rdx, rdx\n cmovnz eax, [rbx]"),
         FAULT_AT(PF, ERROR_U, 3)},
        {"REP with a count of 0", CODE64("xor ecx, ecx\n rep movsb"), END},
        {"BT with an offset reaches out", CODE64("mov eax, 0x8000\n bt [rbx - 0x1000], eax"),
         FAULT_AT(PF, ERROR_U, 5)},
        {"SETcc", CODE64("setz byte ptr [rbx]"), FAULT(PF, ERROR_U | ERROR_W)},
        {"MOVNTI", CODE64("movnti [rbx], eax"), FAULT(PF, ERROR_U | ERROR_W)},
        {"MASKMOVDQU with no mask may touch nothing",
         CODE64("pxor xmm1, xmm1\n mov rdi, rsi\n maskmovdqu xmm0, xmm1"), END},
    };

    group("operands");
    write_cr4(read_cr4() | CR4_OSFXSR);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        memset((void *)DATA_AREA, 0, 64);
        c.bx = ABSENT;
        c.cx = NOWHERE;
        c.si = DATA_AREA;
        c.di = ABSENT;
        trap = run(&c);
        expect_trap(trap, rows[i].want, "%s", rows[i].name);
        if (rows[i].want.vector == PF && rows[i].want.at == 0) {
            expect_equal(trap->at.sp, c.sp, "%s: RSP is as it was", rows[i].name);
            expect_true(trap->at.ax == c.ax && trap->at.di == c.di && trap->at.si == c.si,
                        "%s: registers are as they were", rows[i].name);
        }
    }
}

/* Branches to pages that are not there: the fault is the target's, after the branch is done. */
static void branches(void)
{
    struct {
        const char *name;
        struct code code;
        int sp; /* change */
    } rows[] = {
        {"JMP", CODE64("jmp rbx"), 0},
        {"CALL", CODE64("call rbx"), -8},
        {"RET", CODE64("push rbx\n ret"), 0},
        {"IRETQ", CODE64("mov rax, rsp\n push 0x23\n push rax\n pushfq\n push 0x2b\n push rbx\n iretq"), 0},
        {"Jcc", CODE64("xor eax, eax\n .byte 0x0f, 0x84\n .long 0x400ff8"), 0},
    };

    group("branches to absent pages");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        c.bx = ABSENT;
        trap = run(&c);
        expect_equal(trap->vector, PF, "%s: vector", rows[i].name);
        expect_equal(trap->error & ~16ul, ERROR_U, "%s: error code", rows[i].name);
        expect_equal(trap->cr2, ABSENT, "%s: CR2", rows[i].name);
        expect_equal(trap->at.ip, ABSENT, "%s: RIP", rows[i].name);
        expect_equal(trap->at.sp, c.sp + (ulong)(long)rows[i].sp, "%s: RSP", rows[i].name);
    }
    /* An invalid instruction that is whole on its page is #UD; one that needs the next page is #PF. */
    static const struct {
        const char *name;
        u8 bytes[4];
        unsigned size;
        int vector;
    } ends[] = {
        {"UD2", {0x0f, 0x0b}, 2, UD},
        {"0F FF", {0x0f, 0xff, 0xc0}, 3, UD},
        {"the first half of UD2", {0x0f}, 1, PF},
        {"prefixes only", {0x66, 0x66, 0x66}, 3, PF},
        {"an opcode without its operand", {0x8b}, 1, PF},
        {"an opcode that 64-bit mode does not have", {0x06}, 1, UD},
        {"an immediate that is cut", {0xb8, 1, 2}, 3, PF},
        {"HLT at CPL 3", {0xf4}, 1, GP},
        {"INT3", {0xcc}, 1, BP},
        {"NOP, then nothing", {0x90}, 1, PF},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        struct context c = user_context(CODE64("nop"));
        const struct trap *trap;

        c.ip = ABSENT - ends[i].size;
        memcpy((void *)c.ip, ends[i].bytes, ends[i].size);
        trap = run(&c);
        expect_equal(trap->vector, ends[i].vector, "%s at the end of a page", ends[i].name);
        if (ends[i].vector == PF)
            expect_equal(trap->cr2, ABSENT, "%s at the end of a page: CR2", ends[i].name);
    }
}

/* Fifteen bytes are the limit before the sixteenth byte's page matters. */
static void length(void)
{
    group("length and page end");
    for (unsigned n = 13; n < 18; n++) {
        struct context c = user_context(CODE64("nop"));
        const struct trap *trap;

        memset((void *)(ABSENT - n), 0x66, n);
        c.ip = ABSENT - n;
        trap = run(&c);
        expect_equal(trap->vector, n < 15 ? PF : GP, "%u prefixes before the end", n);
    }
}

/* ---- Faults in delivery ---- */

static void delivery(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
        bool contributory, software;
    } first[] = {
        {"INT n", CODE64("int 0x90"), VECTOR, false, true},
        {"#BP", CODE64("int3"), BP, false, true},
        {"#UD", CODE64("ud2"), UD, false, false},
        {"#DB", CODE64(".byte 0xf1"), DB, false, false},
        {"#DE", CODE64("div dl"), DE, true, false},
        {"#GP", CODE64("hlt"), GP, true, false},
        {"#SS", CODE64("mov rsp, rcx\n pop rax"), SS, true, false},
        {"#NP", CODE64("mov ds, esi"), NP, true, false},
        {"#PF", CODE64("mov eax, [rbx]"), PF, true, false},
    };
    enum trouble { STACK_ABSENT, STACK_NOWHERE, GATE_ABSENT, GATE_BAD, TROUBLES };
    static const char *const names[] = {"an absent stack", "a stack that is not canonical", "an absent gate",
                                        "a bad gate"};

    group("a fault during delivery");
    for (unsigned i = 0; i < ARRAY_SIZE(first); i++) {
        for (unsigned trouble = 0; trouble < TROUBLES; trouble++) {
            struct context c = user_context(first[i].code);
            int v = first[i].vector, at = v == SS ? 3 : 0;
            ulong ext = !first[i].software;
            u8 access = ACCESS_P | 3 << 5 | TYPE_INT;
            struct expect e;
            const struct trap *trap;
            bool twice;

            gdt[STACK / 8] = descriptor(0, 0xfffff, DATA_RW(3) & ~ACCESS_P, FLAGS_G | FLAGS_D);
            c.bx = ABSENT + 0x800;
            c.cx = NOWHERE;
            c.si = STACK | 3;
            c.dx = 0;
            set_ist(2, trouble == STACK_ABSENT ? ABSENT + 0x100 : NOWHERE + 0x100);
            switch (trouble) {
            case STACK_ABSENT:
                set_gate(v, SEL_KCODE, trap_entry(v), access, 2);
                e = FAULT(PF, ERROR_W);
                break;
            case STACK_NOWHERE:
                set_gate(v, SEL_KCODE, trap_entry(v), access, 2);
                e = FAULT(SS, ext);
                break;
            case GATE_ABSENT:
                set_gate(v, SEL_KCODE, trap_entry(v), access & ~ACCESS_P, 1);
                e = FAULT(NP, (ulong)v * 8 + 2 + ext);
                break;
            default:
                set_gate(v, SEL_KCODE, trap_entry(v), ACCESS_P | 3 << 5 | TYPE_CALL, 1);
                e = FAULT(GP, (ulong)v * 8 + 2 + ext);
                break;
            }
            e.at = at;
            /* Two of a kind, or anything but a benign one after a page fault (table 6-5). */
            twice = v == PF || (first[i].contributory && trouble != STACK_ABSENT);
            if (twice)
                e = FAULT_AT(DF, 0, ANYWHERE);
            /* The handler of the second must not be the broken gate of the first. */
            if (!twice && e.vector == v)
                continue;
            trap = run(&c);
            reset_idt();
            expect_trap(trap, e, "%s, then %s", first[i].name, names[trouble]);
            if (e.vector == PF)
                expect_true(trap->cr2 >= ABSENT && trap->cr2 < ABSENT + 0x100, "%s, then %s: CR2",
                            first[i].name, names[trouble]);
        }
    }
    /* The handler's first instruction is not there: that is a fault of its own, in ring 0. */
    struct context c = user_context(CODE64("ud2"));
    const struct trap *trap;
    set_gate(UD, SEL_KCODE, ABSENT, ACCESS_P | TYPE_INT, 0);
    trap = run(&c);
    reset_idt();
    expect_equal(trap->vector, PF, "an absent handler");
    expect_equal(trap->at.cs, SEL_KCODE, "an absent handler: CS");
    expect_equal(trap->at.ip, ABSENT, "an absent handler: RIP");
    expect_equal(trap->error & ~16ul, 0, "an absent handler: error code");
    /* CR2 and the state of the interrupted program survive a double fault's first half. */
    c = user_context(CODE64("mov eax, [rbx]"));
    c.bx = ABSENT + 0x234;
    c.ax = 0x1234;
    set_gate(PF, SEL_KCODE, trap_entry(PF), TYPE_INT, 1);
    trap = run(&c);
    reset_idt();
    expect_equal(trap->vector, DF, "an absent #PF gate");
    expect_equal(trap->cr2, ABSENT + 0x234, "an absent #PF gate: CR2");
    expect_equal(trap->at.ax, 0x1234, "an absent #PF gate: RAX");
}

/* System structures on absent pages: supervisor's faults at the instruction that needs them. */
static void structures(void)
{
    struct context c;
    const struct trap *trap;

    group("system structures on absent pages");
    /* The LDT. */
    gdt[STACK / 8] = descriptor((u32)ABSENT, 0xff, ACCESS_P | TYPE_LDT, 0);
    gdt[STACK / 8 + 1] = 0;
    asm volatile("lldt %w0" ::"r"(STACK));
    c = user_context(CODE64("mov ds, ecx"));
    c.cx = 0x10 | 7;
    trap = run(&c);
    expect_trap(trap, FAULT(PF, 0), "a descriptor of the LDT");
    expect_equal(trap->cr2 & ~7ul, ABSENT + 0x10, "a descriptor of the LDT: CR2");
    c = user_context(CODE64("lar eax, ecx"));
    c.cx = 0x18 | 7;
    expect_trap(run(&c), FAULT(PF, 0), "LAR of one");
    c.cx = 0x108 | 7;
    expect_trap(run(&c), END, "LAR of one beyond the limit does not look");
    asm volatile("lldt %w0" ::"r"(0));
    c = user_context(CODE64("int 0x90"));
    memcpy((void *)(ABSENT - VECTOR * 16), idt, VECTOR * 16);
    load_idt((void *)(ABSENT - VECTOR * 16), sizeof(idt) - 1);
    trap = run(&c);
    load_idt(idt, sizeof(idt) - 1);
    expect_trap(trap, FAULT(PF, 0), "a gate");
    expect_equal(trap->cr2 & ~15ul, ABSENT, "a gate: CR2");
}

/* ---- Between two instructions (SDM 3A table 6-2), and with breakpoints ---- */

enum {
    B0 = 1 << 0,
    BS = 1 << 14,
    EXECUTE = 0,
    ACCESS = 3,
    INTERRUPT = 0x41,
    ICR_NMI = 0x4400,
    SELF = 1 << 18
};
#define DR6_NONE 0xffff0ff0ul
#define WATCHED  (DATA_AREA + 0x100)
#define APIC     0xfee00000ul

static void watch(ulong address, unsigned rw)
{
    asm volatile("mov %0, %%dr0\n mov %1, %%dr6\n mov %2, %%dr7" ::"r"(address), "r"(DR6_NONE),
                 "r"(0x401ul | (ulong)rw << 16));
}

static void unwatch(void)
{
    asm volatile("mov %0, %%dr7" ::"r"(0x400ul));
}

static ulong causes(void)
{
    ulong dr6;

    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    return dr6 ^ DR6_NONE;
}

static volatile u32 *apic(u32 offset)
{
    return (volatile u32 *)(APIC + offset);
}

/* The snippet again from where it came to, RF as it was saved or set. */
static const struct trap *go_on(const struct trap *trap, ulong flags)
{
    struct context c = trap->at;

    c.flags |= flags;
    return run(&c);
}

static void between(void)
{
    struct context c;
    const struct trap *trap;

    group("between two instructions");
    *apic(0xf0) = 0x1ff;
    *apic(0x310) = 0; /* this processor, by its ID */

    /* Traps of the instruction before, then NMI: it comes at the first instruction of #DB's handler. */
    c = kernel_context(CODE64("mov [rbx], eax\n nop"));
    c.bx = APIC + 0x300;
    c.ax = ICR_NMI;
    c.flags |= FLAG_TF;
    trap = run(&c);
    expect_equal(trap->vector, NMI, "single-step before NMI: NMI");
    expect_equal(trap->at.ip, trap_entry(DB), "single-step before NMI: at #DB's handler");
    watch(APIC + 0x300, ACCESS);
    c.flags &= ~(ulong)FLAG_TF;
    trap = run(&c);
    unwatch();
    expect_equal(trap->vector, NMI, "a data breakpoint before NMI: NMI");
    expect_equal(trap->at.ip, trap_entry(DB), "a data breakpoint before NMI: at #DB's handler");

    /* NMI, then interrupts: both wait at the end of STI's shadow. */
    c = kernel_context(CODE64("sti\n mov [rbx], eax\n nop"));
    c.bx = APIC + 0x300;
    c.ax = ICR_NMI;
    *apic(0x300) = INTERRUPT;
    trap = run(&c);
    expect_trap(trap, FAULT_AT(NMI, 0, 3), "NMI before an interrupt");
    expect_trap(go_on(trap, 0), FAULT(INTERRUPT, 0), "then the interrupt");
    *apic(0xb0) = 0;

    /* Traps before interrupts. */
    c = kernel_context(CODE64("sti\n mov [rbx], eax\n nop"));
    c.bx = WATCHED;
    *apic(0x300) = INTERRUPT;
    watch(WATCHED, ACCESS);
    trap = run(&c);
    expect_trap(trap, FAULT_AT(DB, 0, 3), "a data breakpoint before an interrupt");
    expect_equal(causes(), B0, "a data breakpoint before an interrupt: DR6");
    expect_trap(go_on(trap, 0), FAULT(INTERRUPT, 0), "then the interrupt");
    *apic(0xb0) = 0;
    unwatch();

    /* NMI and interrupts before the execute breakpoint of the next instruction, which comes after them. */
    c = kernel_context(CODE64("sti\n nop\n nop"));
    *apic(0x300) = INTERRUPT;
    watch(CODE_AREA + 2, EXECUTE);
    trap = run(&c);
    expect_trap(trap, FAULT_AT(INTERRUPT, 0, 2), "an interrupt before an execute breakpoint");
    expect_equal(trap->at.flags & FLAG_RF, 0, "an interrupt before an execute breakpoint: RF");
    *apic(0xb0) = 0;
    expect_trap(go_on(trap, 0), FAULT(DB, 0), "then the execute breakpoint");
    unwatch();
    c = kernel_context(CODE64("mov [rbx], eax\n nop"));
    c.bx = APIC + 0x300;
    c.ax = ICR_NMI;
    watch(CODE_AREA + 2, EXECUTE);
    trap = run(&c);
    expect_trap(trap, FAULT_AT(NMI, 0, 2), "NMI before an execute breakpoint");
    expect_trap(go_on(trap, 0), FAULT(DB, 0), "then the execute breakpoint");
    unwatch();

    /* Between two iterations, with RF in the image, so that the instruction's breakpoint is not met again (SDM 3B 18.3.1.1).
       The first iteration asks for the interrupt. */
    for (unsigned nmi = 0; nmi < 2; nmi++) {
        c = kernel_context(CODE64("rep stosd"));
        c.di = APIC + 0x300;
        c.ax = nmi ? ICR_NMI : SELF | INTERRUPT;
        c.cx = 3;
        c.flags |= FLAG_IF;
        trap = run(&c);
        expect_trap(trap, FAULT(nmi ? NMI : INTERRUPT, 0), "between two iterations, NMI %u", nmi);
        expect_equal(trap->at.cx, 2, "between two iterations, NMI %u: RCX", nmi);
        expect_true(trap->at.flags & FLAG_RF, "between two iterations, NMI %u: RF", nmi);
        *apic(0xb0) = 0;
    }

    /* Traps before the faults of fetching the next instruction. */
    c = user_context(CODE64("jmp rbx"));
    c.bx = ABSENT;
    c.flags |= FLAG_TF;
    watch(0, EXECUTE);
    trap = run(&c);
    expect_equal(trap->vector, DB, "single-step before the fetch's #PF");
    expect_equal(trap->at.ip, ABSENT, "single-step before the fetch's #PF: RIP");
    expect_equal(causes(), BS, "single-step before the fetch's #PF: DR6");
    expect_trap(go_on(trap, 0), FAULT(PF, ERROR_U), "then the fetch's #PF");
    c = user_context(CODE64("jmp [rsi]"));
    c.si = WATCHED;
    *(u64 *)WATCHED = ABSENT;
    watch(WATCHED, ACCESS);
    trap = run(&c);
    expect_equal(trap->vector, DB, "a data breakpoint before the fetch's #PF");
    expect_equal(trap->at.ip, ABSENT, "a data breakpoint before the fetch's #PF: RIP");
    unwatch();

    /* An execute breakpoint before the faults of fetching, decoding and executing its instruction. */
    c = user_context(CODE64("jmp rbx"));
    c.bx = ABSENT;
    watch(ABSENT, EXECUTE);
    trap = run(&c);
    expect_equal(trap->vector, DB, "an execute breakpoint before the fetch's #PF");
    expect_equal(trap->at.ip, ABSENT, "an execute breakpoint before the fetch's #PF: RIP");
    expect_trap(go_on(trap, FLAG_RF), FAULT(PF, ERROR_U), "then the fetch's #PF");
    gdt[STACK / 8] = descriptor(CODE_AREA, 0, CODE_XR(3), FLAGS_D); /* one byte */
    c = user_context(CODE32("nop\n nop"));
    c.cs = STACK | 3;
    c.ip = 0;
    watch(CODE_AREA + 1, EXECUTE);
    expect_trap(run(&c), FAULT_AT(DB, 0, 1), "an execute breakpoint before the limit's #GP");
    struct code faults[] = {CODE64("ud2"), CODE64(".fill 16, 1, 0x66"), CODE64("mov eax, [rbx]"),
                            CODE64("hlt")};
    static const int vectors[] = {UD, GP, PF, GP};
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        c = user_context(faults[i]);
        c.bx = ABSENT;
        watch(CODE_AREA, EXECUTE);
        trap = run(&c);
        expect_trap(trap, FAULT(DB, 0), "an execute breakpoint before a fault, %u", i);
        expect_equal(go_on(trap, FLAG_RF)->vector, vectors[i], "then the fault, %u", i);
        unwatch();
    }

    /* A data breakpoint of an access that faults is none; one of another access of the instruction neither. */
    struct code lost[] = {CODE64("mov eax, [rbx]"), CODE64("push qword ptr [rbx]"), CODE64("movsq")};
    for (unsigned i = 0; i < ARRAY_SIZE(lost); i++) {
        c = user_context(lost[i]);
        c.bx = ABSENT;
        c.si = WATCHED;
        c.di = ABSENT;
        watch(i < 2 ? ABSENT : WATCHED, ACCESS);
        trap = run(&c);
        expect_equal(trap->vector, PF, "a data breakpoint and #PF, %u", i);
        expect_equal(causes(), 0, "a data breakpoint and #PF, %u: DR6", i);
        unwatch();
    }
}

/* Faults of one instruction. */
static void within(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
        bool ts, intel; /* CR0.TS; on Intel's CPUs */
    } rows[] = {
        {"#UD before #NM", CODE64("lock\n fadd dword ptr [rbx]"), UD, true, false},
        {"#NM before #PF", CODE64("fadd dword ptr [rbx]"), NM, true, false},
        {"#NM before a bad address", CODE64("fadd dword ptr [rcx]"), NM, true, false},
        {"#NM before #MF", CODE64("fadd st(0), st(1)"), NM, true, false},
        {"#MF before #PF", CODE64("fadd dword ptr [rbx]"), MF, false, false},
        {"#MF before a bad address", CODE64("fadd dword ptr [rcx]"), MF, false, false},
        {"#NM before #PF, SSE", CODE64("movups xmm0, [rbx]"), NM, true, false},
        {"#NM before a bad alignment", CODE64("movaps xmm0, [rbx + 1]"), NM, true, false},
        {"#GP before #AC", CODE64("mov eax, [rcx + 1]"), GP, false, false},
        {"#SS before #AC", CODE64("lea rbp, [rcx + 1]\n mov eax, [rbp]"), SS, false, false},
        {"#AC before #PF", CODE64("mov eax, [rbx + 1]"), AC, false, true},
        {"#AC before #PF, store", CODE64("mov [rbx + 1], eax"), AC, false, true},
        {"#AC before #PF, over the page's end", CODE64("mov eax, [rbx - 1]"), AC, false, true},
        {"#AC before #PF, push", CODE64("lea rsp, [rbx + 65]\n push rax"), AC, false, true},
        {"#PF of an aligned address", CODE64("mov eax, [rbx + 4]"), PF, false, false},
        {"#AC before #DE", CODE64("div dword ptr [rsi + 1]"), AC, false, false},
    };
    ulong cr0 = read_cr0(), cr4 = read_cr4();

    group("within an instruction");
    write_cr4(cr4 | CR4_OSFXSR);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        static const u16 unmasked = 0x37b;
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        if (rows[i].intel && cpu_is_amd())
            continue;
        c.bx = ABSENT;
        c.cx = NOWHERE;
        c.si = DATA_AREA;
        c.dx = 0;
        *(u64 *)DATA_AREA = 0;
        c.flags |= FLAG_AC;
        /* 1 / 0, which waits for the next x87 instruction. */
        asm volatile("clts\n fninit\n fldcw %0\n fldz\n fld1\n fdiv %%st(1), %%st" ::"m"(unmasked));
        write_cr0(cr0 | CR0_AM | CR0_NE | (rows[i].ts ? CR0_TS : 0));
        trap = run(&c);
        write_cr0(cr0 & ~(ulong)CR0_TS);
        asm volatile("fninit");
        write_cr0(cr0);
        expect_equal(trap->vector, rows[i].vector, "%s", rows[i].name);
    }
    write_cr4(cr4);
}

/* ---- The end of 4 GiB ---- */

/* EIP goes on at 0 there, and so does an instruction that lies over it (SDM 3B 22.33: no fault since the Pentium 4). */
static void wrap(void)
{
    static u64 top[512] __attribute__((aligned(4096))), bottom[512] __attribute__((aligned(4096)));
    u64 old_top = boot_pd[2047], old_bottom = boot_pd[0];
    u8 *end = (u8 *)TEST_AREA + 0x10000, *begin = end + 0x1000;
    struct {
        const char *name;
        struct code code;
        unsigned before; /* bytes of it below 4 GiB */
        ulong ax;
    } rows[] = {
        {"an instruction ends at 4 GiB", CODE32("mov eax, 0x11223344\n inc eax"), 5, 0x11223345},
        {"an instruction lies over it", CODE32("mov eax, 0x11223344\n inc eax"), 2, 0x11223345},
        {"a jump over it", CODE32("jmp 1f\n nop\n 1: mov eax, 7"), 2, 7},
        {"jumps forth and back over it", CODE32("jmp 2f\n 1: mov eax, 9\n int 0x80\n 2: jmp 1b"), 9, 9},
        {"CALL at it", CODE32("call 1f\n 1: pop eax"), 5, 0},
    };

    group("the end of 4 GiB");
    for (ulong i = 0; i < 512; i++) {
        top[i] = (ulong)end | 7;
        bottom[i] = (i ? i << 12 : (ulong)begin) | 7;
    }
    boot_pd[2047] = (ulong)top | 7;
    boot_pd[0] = (ulong)bottom | 7;
    write_cr3(read_cr3());
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned tf = 0; tf < 2; tf++) {
            struct context c = user_context(CODE64("nop"));
            const struct trap *trap;

            /* The two pages are one after the other in memory. */
            place(rows[i].code, (ulong)begin - rows[i].before);
            c.cs = SEL_UCODE32;
            c.ip = (u32)-rows[i].before;
            c.flags |= tf ? FLAG_TF : 0;
            trap = run(&c);
            while (tf && trap->vector == DB)
                trap = go_on(trap, 0);
            expect_equal(trap->vector, VECTOR_END, "%s, TF %u", rows[i].name, tf);
            expect_equal(trap->at.ax, rows[i].ax, "%s, TF %u: EAX", rows[i].name, tf);
        }
    }
    /* Data. */
    struct context c = user_context(CODE32("mov eax, [ebx]\n mov [ebx], ecx"));
    c.cs = SEL_UCODE32;
    c.bx = 0xfffffffe;
    c.cx = 0x55667788;
    *(u32 *)(begin - 2) = 0x11223344;
    expect_equal(run(&c)->at.ax, 0x11223344, "a load over it");
    expect_equal(*(u32 *)(begin - 2), 0x55667788, "a store over it");
    boot_pd[2047] = old_top;
    boot_pd[0] = old_bottom;
    write_cr3(read_cr3());
}

void test(void)
{
    map();
    operands();
    branches();
    length();
    delivery();
    structures();
    between();
    within();
    wrap();
}
