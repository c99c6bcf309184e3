/*
 * Alignment check in 32-bit protected mode: SDM 3A 6.15, interrupt 17, and its table of alignments by data type. What the
 * manual leaves open (vectors of 16 bytes, FXSAVE, the order of #AC and #PF) is as on Intel's CPUs.
 */
#include "guest.h"

enum { WORD_STACK = SEL_TEST, SMALL = SEL_TEST + 8, INNER = SEL_TEST + 16, VECTOR = 0x90 };

static void check(bool on)
{
    write_cr0(on ? read_cr0() | CR0_AM : read_cr0() & ~(ulong)CR0_AM);
}

/* AM, AC and CPL 3: all three. */
static void conditions(void)
{
    group("CR0.AM, EFLAGS.AC, CPL");
    for (unsigned n = 0; n < 16; n++) {
        bool am = n & 1, ac = n & 2, odd = n & 4, store = n & 8;

        for (int cpl = 0; cpl < 4; cpl++) {
            struct context c = ring_context(cpl, store ? CODE32("mov [ebx], eax") : CODE32("mov eax, [ebx]"));
            bool fault = am && ac && cpl == 3 && odd;
            const struct trap *trap;

            check(am);
            c.flags |= ac ? FLAG_AC : 0;
            c.bx = DATA_AREA + odd;
            trap = run(&c);
            expect_trap(trap, fault ? FAULT(AC, 0) : END, "AM %u AC %u CPL %d, odd %u, store %u", am, ac, cpl,
                        odd, store);
            expect_equal(!!(trap->at.flags & FLAG_AC), ac, "AC is saved");
            if (fault)
                expect_equal(!!(trap->at.flags & FLAG_RF), 1, "RF in the image of a fault");
        }
    }
    check(true);
    /* From the instruction after the one that sets AC. */
    struct context c = user_context(CODE32("push 0x40002\n popfd\n mov eax, [ebx]"));
    c.bx = DATA_AREA + 2;
    expect_trap(run(&c), FAULT_AT(AC, 0, 6), "POPF that sets AC");
    c = user_context(CODE32("push 2\n popfd\n mov eax, [ebx]"));
    c.bx = DATA_AREA + 2;
    c.flags |= FLAG_AC;
    expect_trap(run(&c), END, "POPF that clears AC");
    check(false);
}

/* Which alignment each kind of operand needs. */
static void types(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned alignment;
    } rows[] = {
        {"byte", CODE32("mov al, [ebx]"), 1},
        {"word", CODE32("mov ax, [ebx]"), 2},
        {"word, zero-extended", CODE32("movzx eax, word ptr [ebx]"), 2},
        {"doubleword", CODE32("mov eax, [ebx]"), 4},
        {"read, modified and written", CODE32("inc dword ptr [ebx]"), 4},
        {"read, modified and written, locked", CODE32("lock inc dword ptr [ebx]"), 4},
        {"CMPXCHG8B", CODE32("cmpxchg8b [ebx]"), 8},
        {"XCHG", CODE32("xchg [ebx], ax"), 2},
        {"single", CODE32("fld dword ptr [ebx]\n fstp st(0)"), 4},
        {"double", CODE32("fld qword ptr [ebx]\n fstp st(0)"), 8},
        {"extended", CODE32("fld tbyte ptr [ebx]\n fstp st(0)"), 8},
        {"extended, stored", CODE32("fldz\n fstp tbyte ptr [ebx]"), 8},
        {"decimal", CODE32("fldz\n fbstp [ebx]"), 8},
        {"integer of 8 bytes", CODE32("fild qword ptr [ebx]\n fstp st(0)"), 8},
        {"control word", CODE32("fnstcw [ebx]"), 2},
        {"FNSTENV", CODE32("fnstenv [ebx]"), 4},
        {"FNSTENV, 16 bits", CODE32("data16 fnstenv [ebx]"), 2},
        {"FNSAVE", CODE32("fnsave [ebx]"), 4},
        {"FNSAVE, 16 bits", CODE32("data16 fnsave [ebx]"), 2},
        {"MMX", CODE32("movq mm0, [ebx]\n emms"), 8},
        {"MMX, low half", CODE32("punpcklbw mm0, [ebx]\n emms"), 4},
        {"scalar single", CODE32("movss xmm0, [ebx]"), 4},
        {"scalar double", CODE32("movsd xmm0, [ebx]"), 8},
        {"half a vector", CODE32("movlps xmm0, [ebx]"), 8},
        {"MOVUPS", CODE32("movups xmm0, [ebx]"), 1},
        {"MOVDQU, stored", CODE32("movdqu [ebx], xmm0"), 1},
        {"MXCSR", CODE32("stmxcsr [ebx]"), 4},
        {"bit string, 32 bits", CODE32("xor ecx, ecx\n bt [ebx], ecx"), 4},
        {"bit string, 16 bits", CODE32("xor ecx, ecx\n bt [ebx], cx"), 2},
        {"BOUND", CODE32("xor eax, eax\n bound eax, [ebx]"), 4},
        {"selector", CODE32("mov [ebx], ds"), 2},
        {"LAR", CODE32("lar eax, [ebx]"), 2},
        {"LSS, 48 bits", CODE32("lss edi, [ebx + 16]"), 4},
        {"LSS, 32 bits", CODE32("lss di, [ebx + 32]"), 2},
        {"SGDT", CODE32("sgdt [ebx]"), 4},
        {"LODSD", CODE32("mov esi, ebx\n lodsd"), 4},
        {"REP MOVSW", CODE32("mov esi, ebx\n mov ecx, 3\n rep movsw"), 2},
        {"REP STOSD", CODE32("mov edi, ebx\n mov ecx, 3\n rep stosd"), 4},
        {"PUSH", CODE32("lea esp, [ebx + 64]\n push eax"), 4},
        {"PUSH, 16 bits", CODE32("lea esp, [ebx + 64]\n push ax"), 2},
        {"POP", CODE32("mov esp, ebx\n pop eax"), 4},
        {"PUSHA", CODE32("lea esp, [ebx + 64]\n pusha"), 4},
        {"PUSHF", CODE32("lea esp, [ebx + 64]\n pushfd"), 4},
        {"CALL", CODE32("lea esp, [ebx + 64]\n call 1f\n 1:"), 4},
        {"ENTER", CODE32("lea esp, [ebx + 64]\n enter 0, 0"), 4},
        {"LEAVE", CODE32("mov ebp, ebx\n leave"), 4},
        {"LEA", CODE32("lea eax, [ebx]"), 1},
        {"NOP", CODE32("nop dword ptr [ebx]"), 1},
        {"PREFETCH", CODE32("prefetcht0 [ebx]"), 1},
        {"XLAT", CODE32("xlat"), 1},
    };
    ulong cr4 = read_cr4();

    group("data types");
    write_cr4(cr4 | CR4_OSFXSR);
    check(true);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned offset = 0; offset < 16; offset++) {
            struct context c = user_context(rows[i].code);
            bool fault = offset % rows[i].alignment;
            const struct trap *trap;

            memset((void *)DATA_AREA, 0, 512);
            c.ax = 0;
            c.bx = DATA_AREA + offset;
            *(u16 *)(c.bx + 20) = *(u16 *)(c.bx + 34) = SEL_UDATA;
            c.di = DATA_AREA + 256;
            c.flags |= FLAG_AC;
            trap = run(&c);
            expect_equal(trap->vector, fault ? AC : VECTOR_END, "%s at %u", rows[i].name, offset);
            if (fault)
                expect_equal(trap->error, 0, "%s at %u: error code", rows[i].name, offset);
        }
    }
    /* What has to be aligned anyway is #GP(0); FXSAVE may be either. */
    for (unsigned offset = 1; offset < 16; offset++) {
        struct context c = user_context(CODE32("movaps xmm0, [ebx]"));
        const struct trap *trap;

        c.bx = DATA_AREA + offset;
        c.flags |= FLAG_AC;
        expect_trap(run(&c), FAULT(GP, 0), "MOVAPS at %u", offset);
        c = user_context(CODE32("fxsave [ebx]"));
        c.bx = DATA_AREA + offset;
        c.flags |= FLAG_AC;
        trap = run(&c);
        expect_true(trap->vector == AC || trap->vector == GP, "FXSAVE at %u", offset);
    }
    write_cr4(cr4);
    check(false);
}

/* What the processor reads and writes by itself, as supervisor, is not checked. */
static void implicit(void)
{
    u32 stack0 = *(u32 *)(tss + 4);
    struct context c;
    const struct trap *trap;

    group("the processor's own accesses");
    check(true);
    c = user_context(CODE32("int 0x80"));
    c.flags |= FLAG_AC;
    *(u32 *)(tss + 4) = stack0 - 1;
    expect_trap(run(&c), END, "the frame on an inner stack");
    *(u32 *)(tss + 4) = stack0;
    /* Descriptors in a table at an odd address. */
    memcpy((void *)(PAGE_AREA + 1), gdt, sizeof(gdt));
    struct pseudo_descriptor gdtr = {sizeof(gdt) - 1, PAGE_AREA + 1};
    c = user_context(CODE32("mov ds, ecx\n lar eax, ecx"));
    c.cx = SEL_UDATA;
    c.flags |= FLAG_AC;
    asm volatile("lgdt %0" ::"m"(gdtr));
    expect_trap(run(&c), END, "descriptors");
    load_gdt(sizeof(gdt) - 1);
    /* Code. */
    c = user_context(CODE32("nop"));
    place(CODE32("mov eax, 0x12345678\n jmp 1f\n nop\n 1: nop"), CODE_AREA + 0x101);
    c.ip = CODE_AREA + 0x101;
    c.flags |= FLAG_AC;
    expect_trap(run(&c), END, "instruction fetch");
    /* A handler at CPL 3: its frame is the program's stack; the error code is EXT (SDM 2, INT n). */
    for (unsigned odd = 0; odd < 2; odd++) {
        c = user_context(CODE32("int 0x90"));
        place(CODE32("nop"), CODE_AREA + 0x200);
        set_gate(VECTOR, SEL_UCODE32, CODE_AREA + 0x200, ACCESS_P | 3 << ACCESS_DPL_SHIFT | TYPE_INT, 0);
        c.flags |= FLAG_AC;
        c.sp -= odd;
        trap = run(&c);
        expect_equal(trap->vector, odd ? AC : VECTOR_END, "a frame at CPL 3, odd %u", odd);
        if (odd)
            expect_trap(trap, FAULT(AC, 0), "a frame at CPL 3");
    }
    reset_idt();
    check(false);
}

/* Segment checks come before. */
static void order(void)
{
    struct {
        const char *name;
        struct code code;
        int vector;
    } rows[] = {
        {"the limit", CODE32("mov eax, es:[ebx]"), GP},
        {"a segment that is not writable", CODE32("mov cs:[edx], eax"), GP},
        {"a null segment", CODE32("mov eax, fs:[edx]"), GP},
        {"the stack's limit", CODE32("mov ebp, ebx\n mov eax, [ebp]"), SS},
        {"#UD", CODE32("lock\n mov [edx], eax"), UD},
        {"an aligned address", CODE32("div dword ptr [edx - 1]"), DE},
        {"before #DE", CODE32("div dword ptr [edx]"), AC},
        {"before #BR", CODE32("bound eax, [edx]"), AC},
        {"before a bad selector", CODE32("mov ds, [edx]"), AC},
    };

    group("order");
    check(true);
    gdt[SMALL / 8] = descriptor(DATA_AREA, 0xfff, DATA_RW(3), FLAGS_D);
    memset((void *)DATA_AREA, 0, 64);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = user_context(rows[i].code);

        c.ax = 5;
        c.es = SMALL | 3;
        if (rows[i].vector == SS)
            c.ss = SMALL | 3, c.sp = 0x800;
        c.bx = 0x1001;
        c.dx = DATA_AREA + 1;
        c.flags |= FLAG_AC;
        expect_equal(run(&c)->vector, rows[i].vector, "%s", rows[i].name);
    }
    check(false);
}

/* Virtual-8086 mode is CPL 3. */
static void v86(void)
{
    struct context c = user_context(CODE16("nop"));

    group("virtual-8086 mode");
    place(CODE16("mov ax, [bx]"), REAL_CODE);
    check(true);
    for (unsigned odd = 0; odd < 2; odd++) {
        const struct trap *trap;

        c.cs = REAL_CODE >> 4;
        c.ss = c.ds = c.es = REAL_DATA >> 4;
        c.fs = c.gs = 0;
        c.ip = 0;
        c.sp = 0x1000;
        c.bx = odd;
        c.flags = FLAG_FIXED | FLAG_VM | FLAG_AC | FLAG_IOPL;
        trap = run(&c);
        expect_equal(trap->vector, odd ? AC : VECTOR_END, "odd %u", odd);
    }
    check(false);
}

void test(void)
{
    conditions();
    types();
    implicit();
    order();
    v86();
}
