/*
 * Debug registers and single-step (SDM 3B chapter 18), in 32- and in 64-bit mode.
 */
#include "guest.h"

#ifdef __x86_64__
#define NATIVE(text) CODE64(text)
enum { MAX_LENGTH = 8 };
#else
#define NATIVE(text) CODE32(text)
enum { MAX_LENGTH = 4 };
#endif

enum { VECTOR = 0x90, LANDING = 0x100, PORT = 0x80 };
#define WATCHED (DATA_AREA + 0x100)

/* SDM 3B 18.2.3, 18.2.4, 18.4.1. */
enum { B0 = 1 << 0, B1 = 1 << 1, B2 = 1 << 2, B3 = 1 << 3, BD = 1 << 13, BS = 1 << 14 };
#define DR6_NONE 0xffff0ff0ul
enum { DR7_NONE = 0x400, DR7_GD = 1 << 13 };
enum rw { EXECUTE, WRITE, IO, ACCESS };
enum { MSR_DEBUGCTL = 0x1d9, DEBUGCTL_BTF = 1 << 1 };

CONTROL_REGISTER(dr6)
CONTROL_REGISTER(dr7)

static void write_dr(unsigned n, ulong value)
{
    switch (n) {
    case 0: asm volatile("mov %0, %%dr0" ::"r"(value)); break;
    case 1: asm volatile("mov %0, %%dr1" ::"r"(value)); break;
    case 2: asm volatile("mov %0, %%dr2" ::"r"(value)); break;
    default: asm volatile("mov %0, %%dr3" ::"r"(value)); break;
    }
}

/* The bits of DR7 for one register; `enable`: 1 L, 2 G. */
static ulong control(unsigned n, enum rw rw, unsigned length, unsigned enable)
{
    ulong code = length == 8 ? 2 : length - 1;

    return (ulong)enable << 2 * n | ((ulong)rw | code << 2) << (16 + 4 * n);
}

static void disarm(void)
{
    write_dr7(DR7_NONE);
    for (unsigned n = 0; n < 4; n++)
        write_dr(n, 0);
    write_dr6(DR6_NONE);
}

/* General detect forbids that; #DB lifts it. */
static void drop_general_detect(void)
{
    struct context c = kernel_context(NATIVE(".byte 0x0f, 0x21, 0xc0"));

    run(&c);
    disarm();
}

/* One breakpoint in DRn. */
static void arm(unsigned n, ulong address, enum rw rw, unsigned length)
{
    write_dr6(DR6_NONE);
    write_dr(n, address);
    write_dr7(read_dr7() | control(n, rw, length, 1));
}

/* Where a snippet stopped by #DB, with what in DR6. */
static void expect_debug(const struct trap *trap, int at, ulong dr6, const char *name)
{
    expect_trap(trap, FAULT_AT(DB, 0, at), "%s", name);
    expect_equal(read_dr6(), dr6 | DR6_NONE, "%s: DR6", name);
}

static void expect_rf(const struct trap *trap, bool rf, const char *name)
{
    expect_equal(!!(trap->at.flags & FLAG_RF), rf, "%s: RF", name);
}

/* Go on from where a trap came; offsets count from the snippet's start as before. */
static const struct trap *resume(const struct trap *trap, ulong set_flags)
{
    static struct trap next;
    struct context c = trap->at;
    ulong start = trap->start;

    c.flags |= set_flags;
    write_dr6(DR6_NONE);
    next = *run(&c);
    next.start = start;
    return &next;
}

/* ---- The registers ---- */

static void registers(void)
{
    static const struct {
        ulong write, read;
    } dr6[] = {{0, 0xffff0ff0}, {0xffffffff, 0xffffefff}, {0xe00f, 0xffffefff}, {0x1000, 0xffff0ff0}},
      dr7[] = {{0, 0x400}, {0xffff03ff, 0xffff07ff}, {0xc000, 0x400}, {0x1000, 0x400}, {0x155, 0x555}};
    ulong cr4 = read_cr4();

    group("the registers");
    for (unsigned i = 0; i < ARRAY_SIZE(dr6); i++) {
        write_dr6(dr6[i].write & 0xffff0fff); /* nothing is armed, so any value may be tried */
        write_dr6(dr6[i].write);
        expect_equal(read_dr6(), dr6[i].read, "DR6, %#lx written", dr6[i].write);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(dr7); i++) {
        write_dr7(dr7[i].write);
        expect_equal(read_dr7(), dr7[i].read, "DR7, %#lx written", dr7[i].write);
        disarm();
    }
    /* DR4 and DR5 are DR6 and DR7 as long as CR4.DE is clear (18.2.2). */
    struct {
        const char *name;
        struct code code;
    } alias[] = {
        {"DR4 is read", NATIVE("mov "
                               "eax"
                               ", eax\n .byte 0x0f, 0x21, 0xe0")},
        {"DR5 is read", NATIVE("mov "
                               "eax"
                               ", eax\n .byte 0x0f, 0x21, 0xe8")},
        {"DR4 is written", NATIVE("mov eax, 0xffff0ff1\n .byte 0x0f, 0x23, 0xe0")},
        {"DR5 is written", NATIVE("mov eax, 0x500\n .byte 0x0f, 0x23, 0xe8")},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(alias); i++) {
        for (unsigned de = 0; de < 2; de++) {
            struct context c = kernel_context(alias[i].code);
            const struct trap *trap;

            disarm();
            write_cr4(de ? cr4 | CR4_DE : cr4 & ~(ulong)CR4_DE);
            trap = run(&c);
            expect_trap(trap, de ? FAULT_AT(UD, 0, i < 2 ? 2 : 5) : END, "%s, CR4.DE %u", alias[i].name, de);
            if (de)
                continue;
            expect_equal(i < 2    ? trap->at.ax
                         : i == 2 ? read_dr6()
                                  : read_dr7(),
                         i == 0   ? 0xffff0ff0
                         : i == 1 ? 0x400
                         : i == 2 ? 0xffff0ff1
                                  : 0x500,
                         "%s: the value", alias[i].name);
        }
    }
    write_cr4(cr4);
    disarm();
    /* CPL 0 only, and that before general detect; #UD before both. */
    for (int cpl = 0; cpl < 4; cpl++) {
        struct code forms[] = {NATIVE(".byte 0x0f, 0x21, 0xc0"), NATIVE(".byte 0x0f, 0x23, 0xc0"),
                               NATIVE(".byte 0x0f, 0x21, 0xf8")};

        for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
            struct context c = ring_context(cpl, forms[i]);

            expect_trap(run(&c), cpl ? FAULT(GP, 0) : END, "MOV DR, form %u, CPL %d", i, cpl);
            write_dr6(DR6_NONE | B1);
            write_dr7(DR7_GD);
            if (cpl) {
                expect_trap(run(&c), FAULT(GP, 0), "MOV DR, form %u, CPL %d, GD", i, cpl);
                drop_general_detect();
            } else {
                const struct trap *trap = run(&c);

                expect_equal(read_dr7(), DR7_NONE, "GD is cleared");
                expect_debug(trap, 0, BD, "general detect");
                expect_rf(trap, true, "general detect");
            }
            disarm();
        }
    }
    write_cr4(cr4 | CR4_DE);
    write_dr7(DR7_GD);
    struct context c = kernel_context(NATIVE(".byte 0x0f, 0x21, 0xe0"));
    expect_trap(run(&c), FAULT(UD, 0), "DR4 with CR4.DE before general detect");
    drop_general_detect();
    write_cr4(cr4);
#ifdef __x86_64__
    /* Upper halves (18.2.6): of DR6 and DR7 none may be set; DR0 to DR3 take anything. */
    struct code wide[] = {CODE64("mov dr6, rax"), CODE64("mov dr7, rax"), CODE64("mov dr0, rax"),
                          CODE64("mov dr3, rax\n mov rbx, dr3")};
    for (unsigned i = 0; i < ARRAY_SIZE(wide); i++) {
        c = kernel_context(wide[i]);
        c.ax = 1ul << 32 | (i == 1 ? DR7_NONE : DR6_NONE);
        expect_trap(run(&c), i < 2 ? FAULT(GP, 0) : END, "64 bits, form %u", i);
        c.ax = 1ul << 63;
        const struct trap *trap = run(&c);
        expect_trap(trap, i < 2 ? FAULT(GP, 0) : END, "bit 63, form %u", i);
        if (i == 3)
            expect_equal(trap->at.bx, 1ul << 63, "DR3 keeps what is not canonical");
    }
    struct code high[] = {CODE64(".byte 0x44, 0x0f, 0x21, 0xc0"), CODE64(".byte 0x44, 0x0f, 0x23, 0xf8")};
    for (unsigned i = 0; i < ARRAY_SIZE(high); i++) {
        c = kernel_context(high[i]);
        expect_trap(run(&c), FAULT(UD, 0), "DR8 and up, form %u", i);
    }
    disarm();
#endif
}

/* ---- Execute breakpoints: faults before the instruction (18.3.1.1) ---- */

static void execute(void)
{
    struct context c;
    const struct trap *trap;

    group("execute breakpoints");
    for (unsigned n = 0; n < 4; n++) {
        for (unsigned enable = 0; enable < 4; enable++) {
            for (int at = 0; at < 4; at++) {
                c = user_context(NATIVE("nop\n nop\n mov ecx, edx\n nop"));
                write_dr6(DR6_NONE | BS | B0 | B1 | B2 | B3);
                write_dr(n, CODE_AREA + (ulong)at);
                write_dr7(control(n, EXECUTE, 1, enable));
                trap = run(&c);
                if (!enable || at == 3) { /* inside an instruction */
                    expect_trap(trap, END, "DR%u, enable %u, at %d", n, enable, at);
                } else {
                    expect_debug(trap, at, BS | 1u << n, "a breakpoint");
                    expect_rf(trap, false, "a breakpoint");
                    trap = resume(trap, FLAG_RF);
                    expect_trap(trap, END, "RF lets it pass");
                    expect_rf(trap, false, "RF lets it pass");
                    c = trap->at;
                }
                disarm();
            }
        }
    }
    /* RF lasts for one instruction. */
    c = user_context(NATIVE("nop\n nop\n nop"));
    arm(0, CODE_AREA, EXECUTE, 1);
    arm(1, CODE_AREA + 1, EXECUTE, 1);
    arm(2, CODE_AREA + 1, EXECUTE, 1);
    c.flags |= FLAG_RF;
    expect_debug(run(&c), 1, B1 | B2, "the second instruction, by two registers");
    disarm();
    /* An instruction with prefixes begins with them. */
    for (int at = 0; at < 3; at++) {
        c = user_context(NATIVE(".byte 0x3e, 0x3e, 0x90"));
        arm(0, CODE_AREA + (ulong)at, EXECUTE, 1);
        expect_trap(run(&c), at ? END : FAULT(DB, 0), "byte %d of an instruction with prefixes", at);
        disarm();
    }
    /* Code that has run before, in the middle of it, in a loop, and after it was disarmed again. */
    struct code loop = NATIVE("mov ecx, 5\n 1: inc edx\n inc edx\n dec ecx\n jnz 1b\n nop");
    for (int pass = 0; pass < 3; pass++) {
        int inner = MAX_LENGTH == 8 ? 7 : 6; /* the second INC */

        c = user_context(loop);
        c.dx = 0;
        expect_trap(run(&c), END, "not armed, pass %d", pass);
        arm(3, CODE_AREA + (ulong)inner, EXECUTE, 1);
        trap = run(&c);
        for (int n = 0; n < 5; n++) {
            expect_debug(trap, inner, B3, "in a loop");
            expect_equal(trap->at.cx, 5 - (ulong)n, "in a loop: count");
            expect_equal(trap->at.dx, 2 * (ulong)n + 1, "in a loop: what ran before");
            trap = resume(trap, FLAG_RF);
        }
        expect_trap(trap, END, "the loop ends");
        disarm();
    }
    /* The target of branches of each kind. */
    struct {
        const char *name;
        struct code code;
        int at;
    } branches[] = {
        {"JMP", NATIVE("jmp 1f\n nop\n 1: nop"), 3},
        {"Jcc", NATIVE("test esp, esp\n jnz 1f\n nop\n 1: nop"), 5},
        {"Jcc not taken", NATIVE("test esp, esp\n jz 1f\n nop\n 1: nop"), 4},
        {"CALL", NATIVE("call 1f\n nop\n 1: nop"), 6},
#ifdef __x86_64__
        {"RET", NATIVE("push rsi\n ret"), LANDING},
        {"an indirect JMP", NATIVE("jmp rsi"), LANDING},
#else
        {"RET", NATIVE("push esi\n ret"), LANDING},
        {"an indirect JMP", NATIVE("jmp esi"), LANDING},
#endif
    };
    for (unsigned i = 0; i < ARRAY_SIZE(branches); i++) {
        for (int pass = 0; pass < 3; pass++) {
            c = user_context(branches[i].code);
            place(NATIVE("nop"), CODE_AREA + LANDING);
            c.si = CODE_AREA + LANDING;
            if (pass == 1)
                arm(0, CODE_AREA + (ulong)branches[i].at, EXECUTE, 1);
            expect_trap(run(&c), pass == 1 ? FAULT_AT(DB, 0, branches[i].at) : END, "%s, pass %d",
                        branches[i].name, pass);
            disarm();
        }
    }
    /* It comes before the instruction's own fault; then RF lets the instruction fault. */
    c = user_context(NATIVE("ud2"));
    arm(0, CODE_AREA, EXECUTE, 1);
    trap = run(&c);
    expect_debug(trap, 0, B0, "before #UD");
    trap = resume(trap, FLAG_RF);
    expect_trap(trap, FAULT(UD, 0), "#UD after it");
    expect_rf(trap, true, "#UD after it");
    trap = resume(trap, 0);
    expect_trap(trap, FAULT(UD, 0), "with the RF of the fault's image there is no second breakpoint");
    disarm();
    /* INT n is an instruction like others; RF is 0 in its image. */
    c = user_context(NATIVE("int 0x80"));
    arm(0, CODE_AREA, EXECUTE, 1);
    expect_debug(run(&c), 0, B0, "INT n");
    c.flags |= FLAG_RF;
    trap = run(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, 2), "INT n with RF");
    expect_rf(trap, false, "INT n with RF");
    disarm();
    /* A repeated string instruction meets it once, not before each iteration. */
    c = user_context(NATIVE("rep stosb"));
    c.cx = 5;
    c.di = DATA_AREA;
    arm(0, CODE_AREA, EXECUTE, 1);
    trap = run(&c);
    expect_debug(trap, 0, B0, "REP");
    expect_equal(trap->at.cx, 5, "REP: count");
    trap = resume(trap, FLAG_RF);
    expect_trap(trap, END, "REP goes on");
    expect_equal(trap->at.cx, 0, "REP goes on: count");
    /* POPF does not set RF, IRET does. */
    disarm();
#ifdef __x86_64__
    c = user_context(NATIVE("push 0x10002\n popfq\n nop"));
    arm(0, CODE_AREA + 6, EXECUTE, 1);
    expect_debug(run(&c), 6, B0, "POPF does not set RF");
#else
    c = user_context(NATIVE("push 0x10002\n popfd\n nop"));
    arm(0, CODE_AREA + 6, EXECUTE, 1);
    expect_debug(run(&c), 6, B0, "POPF does not set RF");
#endif
    disarm();
    /* MOV SS and POP SS suppress the breakpoint of the next instruction (3A 6.8.3), STI does not. */
    c = user_context(NATIVE("mov ss, edx\n nop\n nop"));
    c.dx = c.ss;
    arm(0, CODE_AREA + 2, EXECUTE, 1);
    expect_trap(run(&c), END, "after MOV SS");
    disarm();
    arm(0, CODE_AREA + 3, EXECUTE, 1);
    expect_debug(run(&c), 3, B0, "two after MOV SS");
    disarm();
    c = kernel_context(NATIVE("sti\n nop\n cli"));
    arm(0, CODE_AREA + 1, EXECUTE, 1);
    expect_debug(run(&c), 1, B0, "after STI");
    disarm();
    /* Addresses are linear. */
    gdt[SEL_TEST / 8] = descriptor(CODE_AREA, 0xfffff, CODE_XR(3), FLAGS_G | FLAGS_D);
    c = user_context(CODE32("nop\n nop"));
    c.cs = SEL_TEST | 3;
    c.ip = 0;
    arm(0, CODE_AREA + 1, EXECUTE, 1);
    expect_debug(run(&c), 1, B0, "in a segment with a base");
    disarm();
    /* An instruction over a page end, cached and not. */
    for (int pass = 0; pass < 3; pass++) {
        c = user_context(NATIVE("nop"));
        place(NATIVE("nop\n mov ecx, 0x11223344\n nop"), CODE_AREA + 0x1000 - 3);
        c.ip = CODE_AREA + 0x1000 - 3;
        if (pass == 1) {
            arm(0, CODE_AREA + 0x1000 - 2, EXECUTE, 1);
            expect_debug(run(&c), 1, B0, "an instruction over a page end");
            disarm();
            arm(0, CODE_AREA + 0x1000, EXECUTE, 1);
        }
        expect_trap(run(&c), END, "an instruction over a page end, pass %d", pass);
        disarm();
    }
#ifdef __x86_64__
    /* All 64 bits count. */
    c = user_context(NATIVE("nop"));
    arm(0, 1ul << 32 | CODE_AREA, EXECUTE, 1);
    expect_trap(run(&c), END, "the upper half is compared");
    disarm();
#endif
}

/* ---- Data breakpoints: traps after the instruction (18.3.1.2, 18.2.5) ---- */

static bool overlaps(ulong a, ulong na, ulong b, ulong nb)
{
    return a < b + nb && b < a + na;
}

static void data(void)
{
    struct {
        struct code code;
        unsigned size;
        bool write;
    } accesses[] = {
        {NATIVE("mov al, [edx]"), 1, false},  {NATIVE("mov [edx], al"), 1, true},
        {NATIVE("mov ax, [edx]"), 2, false},  {NATIVE("mov [edx], ax"), 2, true},
        {NATIVE("mov eax, [edx]"), 4, false}, {NATIVE("mov [edx], eax"), 4, true},
#ifdef __x86_64__
        {NATIVE("mov rax, [rdx]"), 8, false}, {NATIVE("mov [rdx], rax"), 8, true},
#endif
    };

    group("data breakpoints: address, length, direction");
    for (unsigned i = 0; i < ARRAY_SIZE(accesses); i++) {
        for (unsigned length = 1; length <= MAX_LENGTH; length *= 2) {
            for (unsigned low = 0; low<length; low += length> 1 ? length - 1 : 1) {
                for (int offset = -9; offset < 10; offset++) {
                    for (unsigned rw = WRITE; rw <= ACCESS; rw += ACCESS - WRITE) {
                        struct context c = user_context(accesses[i].code);
                        int size = accesses[i].code.end - accesses[i].code.begin;
                        bool hit = overlaps(WATCHED + (ulong)offset, accesses[i].size, WATCHED, length) &&
                                   (accesses[i].write || rw == ACCESS);
                        const struct trap *trap;

                        c.dx = WATCHED + (ulong)offset;
                        arm(1, WATCHED + low, rw, length); /* low bits of the address do not count */
                        trap = run(&c);
                        expect_trap(trap, hit ? FAULT_AT(DB, 0, size) : END,
                                    "access %u, length %u, low %u, offset %d, rw %u", i, length, low, offset,
                                    rw);
                        if (hit) {
                            expect_equal(read_dr6(), DR6_NONE | B1, "DR6");
                            expect_rf(trap, false, "a data breakpoint");
                        }
                        disarm();
                    }
                }
            }
        }
    }
}

/* Instructions that touch memory in other ways. The watched byte is read or written by each. */
static void data_instructions(void)
{
    struct {
        const char *name;
        struct code code;
        int at;
        bool writes;
    } rows[] = {
        {"ADD m,r", NATIVE("add [edx], eax\n nop"), 0, true},
        {"CMP m,r", NATIVE("cmp [edx], eax\n nop"), 0, false},
        {"LOCK INC", NATIVE("lock inc dword ptr [edx]\n nop"), 0, true},
        {"XCHG", NATIVE("xchg [edx], eax\n nop"), 0, true},
        {"CMPXCHG that fails", NATIVE("cmpxchg [edx], ecx\n nop"), 0, true},
        {"CMPXCHG8B", NATIVE("mov esi, edx\n cmpxchg8b [esi]\n nop"), 2, true},
        {"BT", NATIVE("bt [edx], ecx\n nop"), 0, false},
        {"BTS", NATIVE("bts [edx], ecx\n nop"), 0, true},
        {"FLD m32", NATIVE("fld dword ptr [edx]\n nop"), 0, false},
        {"FLD m80", NATIVE("fld tbyte ptr [edx]\n nop"), 0, false},
        {"FSTP m80", NATIVE("fldz\n fstp tbyte ptr [edx]\n nop"), 2, true},
        {"FNSTENV", NATIVE("fnstenv [edx]\n nop"), 0, true},
        {"MOVUPS from memory", NATIVE("movups xmm0, [edx]\n nop"), 0, false},
        {"MOVUPS to memory", NATIVE("movups [edx], xmm0\n nop"), 0, true},
        {"LODS", NATIVE("mov esi, edx\n lodsd\n nop"), 2, false},
        {"STOS", NATIVE("mov edi, edx\n stosd\n nop"), 2, true},
        {"SCAS", NATIVE("mov edi, edx\n scasd\n nop"), 2, false},
        {"MOVS from it", NATIVE("mov esi, edx\n movsd\n nop"), 2, false},
        {"MOVS to it", NATIVE("mov edi, edx\n movsd\n nop"), 2, true},
        {"PUSH", NATIVE("mov esp, ebx\n push -1\n nop"), 2, true},
        {"POP", NATIVE("mov esp, edx\n pop ax\n nop"), 2, false},
        {"PUSHF", NATIVE("mov esp, ebx\n pushfw\n nop"), 2, true},
        {"CALL", NATIVE("mov esp, ebx\n call 1f\n nop\n 1: nop"), 2, true},
        {"RET", NATIVE("mov [edx], esi\n mov esp, edx\n ret"), -LANDING, false},
        {"JMP m", NATIVE("mov [edx], esi\n jmp [edx]"), -LANDING, false},
        {"ENTER", NATIVE("mov esp, ebx\n enter 0, 0\n nop"), 2, true},
        {"LEAVE", NATIVE("mov ebp, edx\n leave\n nop"), 2, false},
        {"SETcc", NATIVE("setz [edx]\n nop"), 0, true},
        {"CMOVcc that does not move", NATIVE("cmp eax, eax\n cmovnz eax, [edx]\n nop"), 2, false},
        {"MOV m,Sreg", NATIVE("mov [edx], ds\n nop"), 0, true},
        {"LDS", NATIVE("lss esp, [edx]\n nop"), 0, false},
        {"LAR", NATIVE("lar eax, [edx]\n nop"), 0, false},
        {"BOUND", CODE32("bound eax, [edx]\n nop"), 0, false},
        {"PUSHA", CODE32("mov esp, ebx\n pusha\n nop"), 2, true},
        {"POPA", CODE32("mov esp, edx\n popa\n nop"), 2, false},
    };
    ulong cr4 = read_cr4();

    group("data breakpoints: instructions");
    write_cr4(cr4 | CR4_OSFXSR);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned rw = WRITE; rw <= ACCESS; rw += ACCESS - WRITE) {
            struct context c = user_context(rows[i].code);
            bool hit = rw == ACCESS || rows[i].writes;
            int at = rows[i].at;
            const struct trap *trap;

            if (MAX_LENGTH == 8 && i >= ARRAY_SIZE(rows) - 3)
                continue; /* not in 64-bit mode */
            memset((void *)(WATCHED - 64), 0, 256);
            *(u32 *)WATCHED = STACK_TOP - 0x80;
            *(u16 *)(WATCHED + 4) = SEL_UDATA;
            if (rows[i].code.begin[0] == 0x62) /* BOUND: 0 lies in them */
                *(u32 *)WATCHED = 0;
            place(NATIVE("nop"), CODE_AREA + LANDING);
            c.ax = c.cx = 0;
            c.dx = WATCHED;
            c.bx = WATCHED + sizeof(ulong); /* a push writes to it */
            if (rows[i].name[0] == 'P' && rows[i].name[4] == 'F')
                c.bx = WATCHED + 2;
            if (rows[i].name[0] == 'P' && rows[i].name[4] == 'A')
                c.bx = WATCHED + 32;
            if (rows[i].name[0] == 'E')
                c.bx = WATCHED + sizeof(ulong);
            c.si = at < 0 ? CODE_AREA + LANDING : DATA_AREA;
            c.di = DATA_AREA + 0x80;
            /* Armed only while the last instruction but the NOP runs: RET and JMP write first. */
            if (at < 0) {
                *(ulong *)WATCHED = CODE_AREA + LANDING;
                c.si = CODE_AREA + LANDING;
                c.ip += 2 + (MAX_LENGTH == 8); /* past the MOV [EDX] */
                c.sp = WATCHED;
            }
            arm(2, WATCHED, rw, 1);
            trap = run(&c);
            expect_equal(trap->vector, hit ? DB : VECTOR_END, "%s, rw %u", rows[i].name, rw);
            expect_equal(read_dr6(), DR6_NONE | (hit ? B2 : 0), "%s, rw %u: DR6", rows[i].name, rw);
            if (hit && at < 0)
                expect_equal(trap->at.ip, CODE_AREA + LANDING, "%s: IP", rows[i].name);
            else if (hit && rows[i].name[0] != 'C') /* the NOP and INT 80h are behind it */
                expect_equal(trap->at.ip, CODE_AREA + (ulong)(rows[i].code.end - rows[i].code.begin) - 1,
                             "%s: IP", rows[i].name);
            disarm();
        }
    }
    write_cr4(cr4);
    /* Not read, or not data: LEA, NOP, PREFETCH, the instruction itself. */
    struct code none[] = {NATIVE("lea eax, [edx]"), NATIVE("nop dword ptr [edx]"),
                          NATIVE("prefetcht0 [edx]")};
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        struct context c = user_context(none[i]);

        c.dx = WATCHED;
        arm(2, WATCHED, ACCESS, 1);
        expect_trap(run(&c), END, "no access, %u", i);
        disarm();
    }
    struct context c = user_context(NATIVE("nop\n nop"));
    arm(0, CODE_AREA + 1, ACCESS, 1);
    expect_trap(run(&c), END, "instruction fetch is no access");
    disarm();
    /* Two registers, one of them not enabled or of the other direction: those that are enabled and met are told. */
    c = user_context(NATIVE("mov [edx], eax\n mov eax, [edx]"));
    c.dx = WATCHED;
    arm(0, WATCHED, WRITE, 1);
    arm(1, WATCHED + 2, ACCESS, 2);
    arm(2, WATCHED + 4, ACCESS, 1);
    const struct trap *trap = run(&c);
    expect_debug(trap, 2 + (MAX_LENGTH == 8), B0 | B1, "two at once");
    expect_debug(resume(trap, 0), 2 * (2 + (MAX_LENGTH == 8)), B1, "then one");
    disarm();
    /* What the processor reads and writes by itself counts too: descriptors here. */
    c = user_context(NATIVE("mov ds, ecx\n nop"));
    c.cx = SEL_UDATA2;
    arm(0, (ulong)&gdt[SEL_UDATA2 / 8], ACCESS, 4);
    expect_debug(run(&c), 2, B0, "a descriptor");
    disarm();
    /* The frame of an interrupt: #DB before the handler's first instruction. */
    c = user_context(NATIVE("int 0x90"));
    set_gate(VECTOR, SEL_KCODE, trap_entry(VECTOR), ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_INT, 0);
    arm(0, *(ulong *)(tss + 4) - sizeof(ulong), WRITE, 4);
    trap = run(&c);
    disarm();
    expect_equal(trap->vector, DB, "an interrupt's frame");
    expect_equal(trap->at.ip, trap_entry(VECTOR), "an interrupt's frame: IP");
    reset_idt();
}

/* Repeated string instructions trap after each iteration (18.3.1.2), with RF set but after the last (18.3.1.1). */
static void data_rep(void)
{
    struct {
        const char *name;
        struct code code;
        enum rw rw;
    } rows[] = {
        {"REP STOSB", NATIVE("rep stosb"), WRITE},
        {"REP MOVSB to it", NATIVE("rep movsb"), WRITE},
        {"REP LODSB", NATIVE("mov esi, edi\n rep lodsb"), ACCESS},
        {"REPE SCASB", NATIVE("repe scasb"), ACCESS},
        {"REPE CMPSB", NATIVE("repe cmpsb"), ACCESS},
    };

    group("data breakpoints: REP");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        int start = i == 2 ? 2 : 0, end = rows[i].code.end - rows[i].code.begin;
        const struct trap *trap;

        memset((void *)DATA_AREA, 0, 0x200);
        c.ax = 0;
        c.cx = 8;
        c.si = DATA_AREA + 0x180;
        c.di = WATCHED - 3;
        arm(0, WATCHED, rows[i].rw, 2);
        trap = run(&c);
        expect_debug(trap, start, B0, rows[i].name);
        expect_equal(trap->at.cx, 4, "%s: count", rows[i].name);
        expect_rf(trap, true, rows[i].name);
        trap = resume(trap, 0);
        expect_debug(trap, start, B0, rows[i].name);
        expect_equal(trap->at.cx, 3, "%s: count", rows[i].name);
        trap = resume(trap, 0);
        expect_trap(trap, END, "%s goes on", rows[i].name);
        expect_equal(trap->at.cx, 0, "%s goes on: count", rows[i].name);
        disarm();
        c.cx = 4; /* the last iteration */
        arm(0, WATCHED, rows[i].rw, 2);
        trap = run(&c);
        expect_debug(trap, end, B0, rows[i].name);
        expect_rf(trap, false, "the last iteration");
        disarm();
    }
    /* With an execute breakpoint at it too: RF in the image keeps that from firing again. */
    struct context c = user_context(NATIVE("rep stosb"));
    const struct trap *trap;
    c.cx = 3;
    c.di = WATCHED;
    arm(0, WATCHED, WRITE, 4);
    arm(1, CODE_AREA, EXECUTE, 1);
    expect_debug(run(&c), 0, B1, "both: execute");
    c.flags |= FLAG_RF;
    trap = run(&c);
    expect_debug(trap, 0, B0, "both: data");
    expect_debug(resume(trap, 0), 0, B0, "both: data again");
    disarm();
}

/* A fault of the instruction takes its data breakpoints along: it will be executed again. */
static void data_fault(void)
{
    struct {
        const char *name;
        struct code code;
    } rows[] = {
        {"MOVS, the store faults", CODE32("movsd es:[edi], ds:[esi]")},
        {"PUSH m, the store faults", CODE32("xor esp, esp\n push dword ptr [esi]")},
        {"DIV by zero in memory", CODE32("div dword ptr [esi]")},
        {"MOV SS, a bad selector", CODE32("mov ss, [esi]")},
        {"IRET, a bad CS", CODE32("mov esp, esi\n iretd")},
    };

    group("data breakpoints and faults");
    gdt[SEL_TEST / 8] = descriptor(DATA_AREA, 0xfff, DATA_RW(3), FLAGS_D);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        memset((void *)WATCHED, 0, 32);
        c.cs = SEL_UCODE32;
        c.ss = SEL_TEST | 3;
        c.si = i == 4 ? 0x100 : WATCHED;
        c.es = SEL_TEST | 3;
        c.di = 0x1000;
        arm(0, WATCHED, ACCESS, 4);
        trap = run(&c);
        expect_true(trap->vector != DB && trap->vector != VECTOR_END, "%s", rows[i].name);
        expect_rf(trap, true, rows[i].name);
        disarm();
    }
}

/* ---- I/O breakpoints (CR4.DE, 18.2.2) ---- */

static void io(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned size;
    } rows[] = {
        {"OUT imm8, AL", NATIVE("out 0x80, al"), 1},
        {"IN AL, imm8", NATIVE("in al, 0x80"), 1},
        {"OUT DX, AL", NATIVE("out dx, al"), 1},
        {"IN AL, DX", NATIVE("in al, dx"), 1},
        {"OUT DX, AX", NATIVE("out dx, ax"), 2},
        {"IN AX, DX", NATIVE("in ax, dx"), 2},
        {"OUT DX, EAX", NATIVE("out dx, eax"), 4},
        {"IN EAX, DX", NATIVE("in eax, dx"), 4},
        {"OUTSB", NATIVE("outsb"), 1},
        {"INSB", NATIVE("insb"), 1},
        {"OUTSD", NATIVE("outsd"), 4},
        {"INSD", NATIVE("insd"), 4},
    };
    ulong cr4 = read_cr4();

    group("I/O breakpoints");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned length = 1; length <= 4; length *= 2) {
            for (int offset = -4; offset <= 4; offset++) {
                for (unsigned de = 0; de < 2; de++) {
                    struct context c = kernel_context(rows[i].code);
                    ulong port = i < 2 ? PORT : PORT + (ulong)offset;
                    bool hit = de && overlaps(port, rows[i].size, PORT, length);

                    if (i < 2 && offset)
                        continue;
                    c.dx = port;
                    c.si = c.di = DATA_AREA;
                    write_cr4(cr4 | CR4_DE);
                    arm(3, PORT, IO, length);
                    if (!de) /* R/W 10b without CR4.DE is undefined; nothing happens here and in Bochs */
                        write_cr4(cr4 & ~(ulong)CR4_DE);
                    expect_trap(run(&c), hit ? FAULT_AT(DB, 0, rows[i].code.end - rows[i].code.begin) : END,
                                "%s at %d, length %u, DE %u", rows[i].name, offset, length, de);
                    expect_equal(read_dr6(), DR6_NONE | (hit ? B3 : 0), "%s: DR6", rows[i].name);
                    disarm();
                }
            }
        }
    }
    write_cr4(cr4 | CR4_DE);
    struct context c = kernel_context(NATIVE("rep outsb"));
    const struct trap *trap;
    c.dx = PORT;
    c.cx = 3;
    c.si = DATA_AREA;
    arm(0, PORT, IO, 1);
    trap = run(&c);
    expect_debug(trap, 0, B0, "REP OUTSB");
    expect_equal(trap->at.cx, 2, "REP OUTSB: count");
    expect_rf(trap, true, "REP OUTSB");
    disarm();
    write_cr4(cr4);
}

/* ---- Single-step (18.3.1.4), branch-step (18.4.3) ---- */

static void single_step(void)
{
    struct context c;
    const struct trap *trap;

    group("single-step");
    /* A trap after each; DR6.BS is added, B0 to B3 are replaced, RF is 0. */
    c = user_context(NATIVE("nop\n nop\n nop"));
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE | BD | B0 | B3);
    trap = run(&c);
    expect_debug(trap, 1, BD | BS, "BD stays");
    expect_rf(trap, false, "single-step");
    for (int at = 2; at < 4; at++) {
        trap = resume(trap, 0);
        expect_debug(trap, at, BS, "the next");
    }
    expect_trap(resume(trap, 0), END, "INT n clears TF");
    /* Together with a data breakpoint: one exception. */
    c = user_context(NATIVE("mov [edx], al\n nop"));
    c.dx = WATCHED;
    c.flags |= FLAG_TF;
    arm(0, WATCHED, WRITE, 1);
    expect_debug(run(&c), 2 + (MAX_LENGTH == 8), B0 | BS, "with a data breakpoint");
    disarm();
    /* With an execute breakpoint: the trap of the instruction before comes first (3A table 6-2). */
    c = user_context(NATIVE("nop\n nop"));
    c.flags |= FLAG_TF;
    arm(0, CODE_AREA + 1, EXECUTE, 1);
    trap = run(&c);
    expect_trap(trap, FAULT_AT(DB, 0, 1), "before an execute breakpoint");
    expect_equal(read_dr6() & ~(ulong)B0, DR6_NONE | BS,
                 "before an execute breakpoint: DR6"); /* B0 is open */
    expect_debug(resume(trap, 0), 1, B0, "then the execute breakpoint");
    disarm();
    /* REP: after each iteration, with RF. */
    c = user_context(NATIVE("rep stosb"));
    c.di = DATA_AREA;
    c.cx = 3;
    c.flags |= FLAG_TF;
    trap = run(&c);
    for (ulong n = 2; n > 0; n--) {
        expect_debug(trap, 0, BS, "REP");
        expect_equal(trap->at.cx, n, "REP: count");
        expect_rf(trap, true, "REP");
        trap = resume(trap, 0);
    }
    expect_debug(trap, 2, BS, "REP, the last");
    expect_rf(trap, false, "REP, the last");
    /* HLT, STI; HLT. */
    c = kernel_context(NATIVE("hlt\n nop"));
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    expect_debug(run(&c), 1, BS, "HLT");
    c = kernel_context(NATIVE("sti\n hlt\n nop"));
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    trap = run(&c);
    expect_debug(trap, 1, BS, "STI");
    expect_debug(resume(trap, 0), 2, BS, "STI; HLT");
    /* A fault has no trap of its own; delivery clears TF. */
    c = user_context(NATIVE("ud2"));
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    expect_trap(run(&c), FAULT(UD, 0), "a fault");
    expect_equal(read_dr6(), DR6_NONE, "a fault: DR6");
    /* INT1 sets no bit (SDM 2, INT1); with TF neither. */
    for (unsigned tf = 0; tf < 2; tf++) {
        c = user_context(NATIVE(".byte 0xf1\n nop"));
        c.flags |= tf ? FLAG_TF : 0;
        write_dr6(DR6_NONE);
        trap = run(&c);
        expect_debug(trap, 1, 0, "INT1");
        expect_rf(trap, false, "INT1");
        expect_equal(!!(trap->at.flags & FLAG_TF), tf, "INT1: TF");
    }
    disarm();
}

static void branch_step(void)
{
    struct {
        const char *name;
        struct code code;
        int at;
    } rows[] = {
        {"JMP", NATIVE("nop\n jmp 1f\n nop\n 1: nop"), 4},
        {"JMP to the next instruction", NATIVE("nop\n jmp 1f\n 1: nop\n nop"), 3},
        {"Jcc", NATIVE("cmp eax, eax\n jz 1f\n nop\n 1: nop"), 5},
        {"Jcc to the next instruction", NATIVE("cmp eax, eax\n jz 1f\n 1: nop\n nop"), 4},
        {"Jcc not taken, then JMP", NATIVE("cmp eax, eax\n jnz 1f\n jmp 2f\n 1: nop\n 2: nop"), 7},
        {"LOOP", NATIVE("mov ecx, 2\n 1: nop\n loop 1b\n nop"), 5},
        {"CALL", NATIVE("nop\n call 1f\n nop\n 1: nop"), 7},
        {"nothing", NATIVE("nop\n nop\n nop"), ANYWHERE},
        {"REP", NATIVE("mov ecx, 3\n rep lodsb\n nop"), ANYWHERE},
    };

    group("branch-step");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        const struct trap *trap;

        c.si = DATA_AREA;
        c.flags |= FLAG_TF;
        write_dr6(DR6_NONE);
        wrmsr(MSR_DEBUGCTL, DEBUGCTL_BTF);
        trap = run(&c);
        if (rows[i].at == ANYWHERE) {
            expect_trap(trap, END, "%s", rows[i].name);
            expect_equal(rdmsr(MSR_DEBUGCTL), DEBUGCTL_BTF, "%s: BTF", rows[i].name);
        } else {
            expect_debug(trap, rows[i].at, BS, rows[i].name);
            expect_equal(rdmsr(MSR_DEBUGCTL), 0, "%s: BTF", rows[i].name);
            expect_debug(resume(trap, 0), rows[i].at + 1, BS, "then every instruction");
        }
        wrmsr(MSR_DEBUGCTL, 0);
    }
    /* A data breakpoint clears it too; it means nothing without TF. */
    struct context c = user_context(NATIVE("mov [edx], al\n jmp 1f\n nop\n 1: nop"));
    c.dx = WATCHED;
    wrmsr(MSR_DEBUGCTL, DEBUGCTL_BTF);
    expect_trap(run(&c), END, "without TF");
    arm(0, WATCHED, WRITE, 1);
    expect_debug(run(&c), 2 + (MAX_LENGTH == 8), B0, "a data breakpoint");
    expect_equal(rdmsr(MSR_DEBUGCTL), 0, "a data breakpoint: BTF");
    disarm();
}

/* ---- MOV SS and POP SS (3A 6.8.3) ---- */

static void mov_ss(void)
{
    struct {
        const char *name;
        struct code code;
        int vector, at; /* of the first event */
        ulong dr6;
        int second; /* vector whose handler the pending trap interrupts; 0: none */
        bool tf;
    } rows[] = {
        {"a data breakpoint waits", NATIVE("mov ss, [edx]\n nop\n nop"), DB, 1, B0, 0, false},
        {"and is joined by single-step", NATIVE("mov ss, [edx]\n nop\n nop"), DB, 1, B0 | BS, 0, true},
        {"and by another", NATIVE("mov ss, [edx]\n mov [esi], eax\n nop"), DB, 2 + (MAX_LENGTH == 8), B0 | B1,
         0, false},
        {"INT1 takes it along", NATIVE("mov ss, [edx]\n .byte 0xf1\n nop"), DB, 1, B0, 0, false},
        {"INT n", NATIVE("mov ss, [edx]\n int 0x80"), DB, 0, B0, VECTOR_END, false},
        {"INT3", NATIVE("mov ss, [edx]\n int3"), DB, 0, B0, BP, false},
        {"INT n with TF", NATIVE("mov ss, [edx]\n int 0x80"), DB, 0, B0, VECTOR_END, true},
        {"a fault", NATIVE("mov ss, [edx]\n ud2"), DB, 0, B0, UD, false},
        {"HLT at CPL 3", NATIVE("mov ss, [edx]\n hlt"), DB, 0, B0, GP, false},
        {"REP", NATIVE("mov ss, [edx]\n rep lodsb\n nop"), DB, 0, B0, 0, false},
        {"a jump", NATIVE("mov ss, [edx]\n jmp 1f\n nop\n 1: nop"), DB, 3, B0, 0, false},
    };

    group("MOV SS");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);
        int size = 2 + (MAX_LENGTH == 8);
        const struct trap *trap;

        c.dx = WATCHED;
        c.si = WATCHED + 8;
        c.cx = 3;
        c.flags |= rows[i].tf ? FLAG_TF : 0;
        *(u32 *)WATCHED = (u32)c.ss;
        arm(0, WATCHED, ACCESS, 2);
        arm(1, WATCHED + 8, WRITE, 1);
        trap = run(&c);
        expect_equal(trap->vector, rows[i].vector, "%s: vector", rows[i].name);
        if (rows[i].second) {
            expect_equal(trap->at.ip, trap_entry(rows[i].second), "%s: at the handler", rows[i].name);
            expect_equal(trap->at.cs & 3, 0, "%s: at the handler's CPL", rows[i].name);
        } else {
            expect_equal(trap->at.ip, CODE_AREA + (ulong)(size + rows[i].at), "%s: IP", rows[i].name);
        }
        expect_equal(read_dr6(), DR6_NONE | rows[i].dr6, "%s: DR6", rows[i].name);
        disarm();
    }
    /* HLT: the trap ends it. */
    struct context c = kernel_context(NATIVE("mov ss, [edx]\n hlt\n nop"));
    c.dx = WATCHED;
    *(u32 *)WATCHED = (u32)c.ss;
    arm(0, WATCHED, ACCESS, 2);
    expect_debug(run(&c), 3 + (MAX_LENGTH == 8), B0, "HLT");
    disarm();
    /* General detect is a fault of the instruction itself and is not held back. */
    c = kernel_context(NATIVE("mov ss, edx\n .byte 0x0f, 0x21, 0xc0"));
    c.dx = c.ss;
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    write_dr7(DR7_GD);
    expect_debug(run(&c), 2, BD, "general detect");
    disarm();
    /* LSS needs no shadow. */
    c = user_context(NATIVE("lss esp, [edx]\n nop\n nop"));
    c.dx = WATCHED;
    *(u32 *)WATCHED = STACK_TOP - 0x80;
    *(u16 *)(WATCHED + 4) = (u16)c.ss;
    arm(0, WATCHED, ACCESS, 1);
    expect_debug(run(&c), 3 + (MAX_LENGTH == 8), B0, "LSS");
    disarm();
    /* POP SS in 32-bit mode. */
#ifndef __x86_64__
    c = user_context(NATIVE("pop ss\n nop\n nop"));
    c.sp = WATCHED;
    *(u32 *)WATCHED = (u32)c.ss;
    arm(0, WATCHED, ACCESS, 1);
    expect_debug(run(&c), 2, B0, "POP SS");
    disarm();
#endif
}

/* ---- Fast system calls ---- */

#ifdef __x86_64__
static void system_calls(void)
{
    struct context c;
    const struct trap *trap;

    group("SYSCALL, SYSRET");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (u64)SEL_KCODE << 32 | (u64)(SEL_KDATA | 3) << 48);
    wrmsr(MSR_LSTAR, CODE_AREA + LANDING);
    place(CODE64("nop\n nop"), CODE_AREA + LANDING);
    for (unsigned masked = 0; masked < 2; masked++) {
        wrmsr(MSR_FMASK, masked ? FLAG_TF : 0);
        c = user_context(CODE64("syscall"));
        c.flags |= FLAG_TF;
        write_dr6(DR6_NONE);
        trap = run(&c);
        if (masked)
            expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 4), "SYSCALL that masks TF");
        else
            expect_debug(trap, LANDING, BS, "SYSCALL that does not mask TF");
        expect_equal(trap->at.r11 & FLAG_TF, FLAG_TF, "SYSCALL: TF in R11");
        /* A data breakpoint that waits for the end of MOV SS is met in the kernel. */
        c = user_context(CODE64("mov ss, [rdx]\n syscall"));
        c.dx = WATCHED;
        *(u16 *)WATCHED = (u16)c.ss;
        arm(0, WATCHED, ACCESS, 1);
        expect_debug(run(&c), LANDING, B0, "MOV SS, SYSCALL");
        disarm();
    }
    wrmsr(MSR_FMASK, 0);
    place(CODE64("nop\n nop"), CODE_AREA + LANDING);
    for (unsigned before = 0; before < 2; before++) {
        for (unsigned after = 0; after < 2; after++) {
            c = kernel_context(CODE64("sysretq"));
            c.flags |= before ? FLAG_TF : 0;
            c.cx = CODE_AREA + LANDING;
            c.r11 = FLAG_FIXED | (after ? FLAG_TF : 0);
            write_dr6(DR6_NONE);
            trap = run(&c);
            if (after)
                expect_debug(trap, LANDING, BS, "SYSRET that sets TF");
            else
                expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 4), "SYSRET that clears TF");
        }
    }
    /* RF: SYSCALL saves 0, SYSRET does not set it. */
    c = user_context(CODE64("syscall"));
    c.flags |= FLAG_RF;
    trap = run(&c);
    expect_equal(trap->at.r11 & FLAG_RF, 0, "SYSCALL: RF in R11");
    c = kernel_context(CODE64("sysretq"));
    c.cx = CODE_AREA + LANDING;
    c.r11 = FLAG_FIXED | FLAG_RF;
    arm(0, CODE_AREA + LANDING, EXECUTE, 1);
    expect_debug(run(&c), LANDING, B0, "SYSRET does not set RF");
    disarm();
}
#else
static void system_calls(void)
{
    struct context c;

    group("SYSENTER");
    if (!cpu_has(CPU_SEP))
        return;
    /* TF stays set: the trap comes at the kernel's first instruction. */
    wrmsr(MSR_SYSENTER_CS, SEL_KCODE);
    wrmsr(MSR_SYSENTER_ESP, STACK_TOP);
    wrmsr(MSR_SYSENTER_EIP, CODE_AREA + LANDING);
    place(CODE32("nop\n nop"), CODE_AREA + LANDING);
    c = user_context(CODE32("sysenter"));
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    expect_debug(run(&c), LANDING, BS, "SYSENTER");
    /* IRET and POPF that set TF: after the next instruction. */
    c = kernel_context(CODE32("push 0x102\n push cs\n push esi\n iretd"));
    c.si = CODE_AREA + LANDING;
    write_dr6(DR6_NONE);
    expect_debug(run(&c), LANDING + 1, BS, "IRET that sets TF");
}
#endif

/* ---- Modes other than the kernel's ---- */

#ifdef __x86_64__
static void other_modes(void)
{
    struct context c = user_context(CODE32("inc ecx\n mov [edx], al\n nop"));

    group("compatibility mode");
    c.cs = SEL_UCODE32;
    c.dx = WATCHED;
    arm(0, CODE_AREA + 1, EXECUTE, 1);
    expect_debug(run(&c), 1, B0, "an execute breakpoint");
    disarm();
    arm(1, WATCHED, WRITE, 8);
    expect_debug(run(&c), 3, B1, "a data breakpoint of 8 bytes");
    disarm();
    /* Addresses have 32 bits. */
    arm(1, 1ul << 32 | WATCHED, WRITE, 8);
    expect_trap(run(&c), END, "a data breakpoint above 4 GiB");
    disarm();
    arm(0, 1ul << 32 | (CODE_AREA + 1), EXECUTE, 1);
    expect_trap(run(&c), END, "an execute breakpoint above 4 GiB");
    disarm();
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    expect_debug(run(&c), 1, BS, "single-step");
    disarm();
}
#else
static void other_modes(void)
{
    struct context c = user_context(CODE32("nop"));

    group("virtual-8086 mode");
    place(CODE16("inc cx\n mov [bx], al\n nop"), REAL_CODE);
    c.cs = REAL_CODE >> 4;
    c.ss = c.ds = c.es = REAL_DATA >> 4;
    c.fs = c.gs = 0;
    c.ip = 0;
    c.sp = 0x1000;
    c.bx = 0x20;
    c.flags = FLAG_FIXED | FLAG_VM | FLAG_IOPL;
    /* Linear addresses of both. */
    arm(0, REAL_CODE + 1, EXECUTE, 1);
    expect_debug(run(&c), 1, B0, "an execute breakpoint");
    disarm();
    arm(1, REAL_DATA + 0x20, WRITE, 1);
    expect_debug(run(&c), 3, B1, "a data breakpoint");
    disarm();
    c.flags |= FLAG_TF;
    write_dr6(DR6_NONE);
    expect_debug(run(&c), 1, BS, "single-step");
    disarm();
}
#endif

void test(void)
{
    other_modes();
    registers();
    execute();
    data();
    data_instructions();
    data_rep();
    data_fault();
    io();
    single_step();
    branch_step();
    mov_ss();
    system_calls();
}
