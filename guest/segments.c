/*
 * Segments in 32-bit protected mode: what may be loaded where, limits, and the instructions that look at descriptors.
 * Loads, far jumps and LAR and its like try every access byte with every RPL at every CPL, against a rule from the manual.
 */
#include "guest.h"

enum {
    TARGET = SEL_TEST, /* the descriptor under test */
    LDT = SEL_TEST + 8,
    SPARE = SEL_TEST + 16,
    BEYOND = GDT_ENTRIES * 8, /* the first selector past the GDT's limit */
    FLAT = FLAGS_G | FLAGS_D,
};

static u64 ldt[8] __attribute__((aligned(8)));

/* Loading DS, ES, FS or GS: SDM 2B MOV, "Operation"; 3A 5.6. */
static struct expect data_load(u8 byte, unsigned rpl, unsigned cpl, ulong error)
{
    struct access a = access_of(byte);

    if (!a.s || !a.readable)
        return FAULT(GP, error);
    if (!a.conforming && (rpl > a.dpl || cpl > a.dpl))
        return FAULT(GP, error);
    return a.p ? END : FAULT(NP, error);
}

/* Loading SS: SDM 3A 5.7. */
static struct expect stack_load(u8 byte, unsigned rpl, unsigned cpl, ulong error)
{
    struct access a = access_of(byte);

    if (rpl != cpl || !a.writable || a.dpl != cpl)
        return FAULT(GP, error);
    return a.p ? END : FAULT(SS, error);
}

typedef struct expect rule(u8 byte, unsigned rpl, unsigned cpl, ulong error);

/* All access bytes, RPLs and CPLs; `code` loads AX. A load that works sets the accessed bit. */
static void every_load(const char *name, struct code code, rule *want, u64 *table, u16 selector)
{
    group(name);
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        struct context c = ring_context((int)cpl, code);

        c.dx = c.ss;
        for (unsigned byte = 0; byte < 256; byte++) {
            for (unsigned rpl = 0; rpl < 4; rpl++) {
                struct expect e = want((u8)byte, rpl, cpl, selector);
                const struct trap *trap;

                table[selector / 8] = descriptor(DATA_AREA, 0xffff, (u8)byte, FLAT);
                c.ax = selector | rpl;
                trap = run(&c);
                if (expect_trap(trap, e, "access %02x rpl %u cpl %u", byte, rpl, cpl) && byte & ACCESS_S) {
                    bool accessed = table[selector / 8] >> 40 & ACCESS_A;
                    bool was = byte & ACCESS_A;

                    if (accessed != (was || e.vector == VECTOR_END))
                        expect_equal(accessed, !accessed, "access %02x rpl %u cpl %u: accessed bit", byte,
                                     rpl, cpl);
                }
            }
        }
    }
}

static void loads(void)
{
    every_load("MOV to DS", CODE32("mov ds, eax"), data_load, gdt, TARGET);
    every_load("MOV to GS", CODE32("mov gs, eax"), data_load, gdt, TARGET);
    every_load("MOV to SS", CODE32("mov ss, eax\n mov ss, edx"), stack_load, gdt, TARGET);
}

/* The other ways to load a segment, for one good selector and one of each kind that faults. */
static void load_forms(void)
{
    static const struct {
        const char *what;
        u16 selector;
        u8 access;
        int data_vector, stack_vector; /* at CPL 3 */
    } kinds[] = {
        {"writable data", TARGET | 3, DATA_RW(3), VECTOR_END, VECTOR_END},
        {"read-only data", TARGET | 3, DATA_RW(3) & ~ACCESS_W, VECTOR_END, GP},
        {"not present", TARGET | 3, DATA_RW(3) & ~ACCESS_P, NP, SS},
        {"DPL 0", TARGET | 3, DATA_RW(0), GP, GP},
        {"a system descriptor", TARGET | 3, ACCESS_P | 3 << 5 | TYPE_LDT, GP, GP},
        {"beyond the GDT", BEYOND | 3, DATA_RW(3), GP, GP},
    };
    struct {
        const char *name;
        struct code code;
        bool stack;
        int at; /* of the instruction that loads */
    } forms[] = {
        {"MOV from memory", CODE32("mov ds, [ebx]"), false, 0},
        {"POP DS", CODE32("push eax\n pop ds"), false, 1},
        {"POP ES", CODE32("push eax\n pop es"), false, 1},
        {"POP FS", CODE32("push eax\n pop fs"), false, 1},
        {"POP GS", CODE32("push eax\n pop gs"), false, 1},
        {"POP SS", CODE32("push eax\n pop ss\n mov ss, edx"), true, 1},
        {"LDS", CODE32("lds ecx, [ebx - 4]"), false, 0},
        {"LES", CODE32("les ecx, [ebx - 4]"), false, 0},
        {"LFS", CODE32("lfs ecx, [ebx - 4]"), false, 0},
        {"LGS", CODE32("lgs ecx, [ebx - 4]"), false, 0},
        {"LSS", CODE32("mov esi, esp\n mov [ebx - 4], esi\n lss esp, [ebx - 4]\n mov ss, edx"), true, 5},
        {"16-bit LES", CODE32("les cx, [ebx - 2]"), false, 0},
    };

    group("other loads");
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
            struct context c = user_context(forms[f].code);
            int vector = forms[f].stack ? kinds[k].stack_vector : kinds[k].data_vector;
            struct expect e = {vector, kinds[k].selector & ~3u, forms[f].at};
            const struct trap *trap;

            if (vector == VECTOR_END)
                e = END;
            gdt[TARGET / 8] = descriptor(0, 0xfffff, kinds[k].access, FLAT);
            c.ax = kinds[k].selector;
            c.dx = c.ss;
            c.cx = 0x12345678;
            c.bx = DATA_AREA + 16;
            *(u32 *)(DATA_AREA + 12) = 0xabcd0000;
            *(u16 *)(DATA_AREA + 16) = kinds[k].selector;
            trap = run(&c);
            expect_trap(trap, e, "%s, %s", forms[f].name, kinds[k].what);
            if (vector != VECTOR_END)
                expect_equal(trap->at.cx, c.cx, "%s, %s: ECX after the fault", forms[f].name, kinds[k].what);
            if (vector != VECTOR_END && forms[f].at == 1)
                expect_equal(trap->at.sp, c.sp - 4, "%s, %s: ESP after the fault", forms[f].name,
                             kinds[k].what);
        }
    }
}

static void null_selectors(void)
{
    group("null selectors");
    for (unsigned rpl = 0; rpl < 4; rpl++) {
        struct context c = user_context(CODE32("mov ds, eax\n mov es, eax\n mov fs, eax\n mov gs, eax"));
        const struct trap *trap;

        c.ax = rpl;
        trap = run(&c);
        expect_trap(trap, END, "into DS, ES, FS, GS, rpl %u", rpl);
        expect_equal(trap->at.gs, rpl, "GS keeps rpl %u", rpl);
        for (int cpl = 0; cpl < 4; cpl++) {
            c = ring_context(cpl, CODE32("mov ss, eax"));
            c.ax = rpl;
            expect_trap(run(&c), FAULT(GP, 0), "into SS, rpl %u, cpl %u", rpl, (unsigned)cpl);
        }
    }
    /* The first use of a null segment faults, not its load (SDM 3A 3.4.2). */
    struct {
        const char *name;
        struct code code;
    } uses[] = {
        {"read DS", CODE32("mov eax, [ebx]")},
        {"write DS", CODE32("mov [ebx], eax")},
        {"read ES", CODE32("mov eax, es:[ebx]")},
        {"LODS", CODE32("lodsb")},
        {"STOS", CODE32("stosb")},
        {"MOVS", CODE32("movsd")},
        {"REP MOVS", CODE32("rep movsd")},
        {"XLAT", CODE32("xlatb")},
        {"RMW", CODE32("inc dword ptr [ebx]")},
        {"LOCK RMW", CODE32("lock inc dword ptr [ebx]")},
        {"CMPXCHG", CODE32("lock cmpxchg [ebx], ecx")},
        {"FS override", CODE32("mov al, fs:[ebx]")},
        {"PUSH of memory", CODE32("push dword ptr [ebx]")},
        {"POP to memory", CODE32("pop dword ptr [ebx]")},
        {"call through memory", CODE32("call [ebx]")},
        {"FLD", CODE32("fld dword ptr [ebx]")},
        {"BT", CODE32("bt [ebx], eax")},
        {"CMPXCHG8B", CODE32("cmpxchg8b [ebx]")},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(uses); i++) {
        struct context c = user_context(uses[i].code);

        c.ds = c.es = c.fs = c.gs = 0;
        c.bx = c.si = c.di = DATA_AREA;
        c.cx = 3;
        c.ax = 0;
        expect_trap(run(&c), FAULT(GP, 0), "%s", uses[i].name);
    }
    {
        struct context c = user_context(CODE32("rep movsd"));

        c.ds = c.es = 0;
        c.cx = 0;
        expect_trap(run(&c), END, "REP MOVS with a count of 0 touches nothing");
        c = user_context(CODE32("lea eax, [ebx]"));
        c.ds = 0;
        expect_trap(run(&c), END, "LEA touches nothing");
    }
}

static void local_table(void)
{
    group("LDT selectors");
    gdt[LDT / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, ACCESS_P | TYPE_LDT, 0);
    for (unsigned loaded = 0; loaded < 2; loaded++) {
        asm volatile("lldt %w0" ::"r"(loaded ? LDT : 0));
        for (unsigned index = 0; index < 10; index++) {
            static const u8 access[8] = {DATA_RW(3),          DATA_RW(3),
                                         DATA_RW(0),          (u8)(DATA_RW(3) & ~ACCESS_P),
                                         CODE_XR(3),          CODE_XR(3) & ~ACCESS_W,
                                         ACCESS_P | TYPE_LDT, DATA_RW(3) & ~ACCESS_W};
            static const int data[10] = {VECTOR_END, VECTOR_END, GP,         NP, VECTOR_END,
                                         GP,         GP,         VECTOR_END, GP, GP};
            static const int stack[10] = {VECTOR_END, VECTOR_END, GP, SS, GP, GP, GP, GP, GP, GP};
            u16 selector = (u16)(index << 3 | 4);
            struct context c = user_context(CODE32("mov ds, eax"));
            int vector = loaded ? data[index] : GP;

            for (unsigned i = 0; i < ARRAY_SIZE(ldt); i++)
                ldt[i] = descriptor(0, 0xfffff, access[i], FLAT);
            c.ax = selector | 3;
            c.dx = c.ss;
            expect_trap(run(&c), vector == VECTOR_END ? END : FAULT(vector, selector), "DS, index %u, LDT %s",
                        index, loaded ? "loaded" : "null");
            place(CODE32("mov ss, eax\n mov ss, edx"), CODE_AREA);
            vector = loaded ? stack[index] : GP;
            expect_trap(run(&c), vector == VECTOR_END ? END : FAULT(vector, selector), "SS, index %u, LDT %s",
                        index, loaded ? "loaded" : "null");
        }
    }
    asm volatile("lldt %w0" ::"r"(0));
}

/* A GDT limit in the middle of a descriptor is beyond its last bytes (SDM 3A 3.5.1). */
static void table_limit(void)
{
    group("GDT limit");
    gdt[TARGET / 8] = descriptor(0, 0xfffff, DATA_RW(3), FLAT);
    for (int delta = -2; delta < 9; delta++) {
        struct context c = user_context(CODE32("mov ds, eax"));
        const struct trap *trap;

        c.ax = TARGET | 3;
        load_gdt((u16)(TARGET + delta));
        trap = run(&c);
        load_gdt(sizeof(gdt) - 1);
        expect_trap(trap, delta >= 7 ? END : FAULT(GP, TARGET), "limit %d bytes into the descriptor", delta);
    }
}

/* ---- Limits ---- */

struct access_form {
    const char *name;
    struct code code;
    unsigned size;
    bool write;
};

/* SDM 3A 5.3: is [offset, offset + size) in the segment? */
static bool within(u32 offset, unsigned size, u32 limit, bool down, bool big)
{
    u64 last = (u64)offset + size - 1;

    if (down)
        return offset > limit && last <= (big ? 0xffffffffull : 0xffff);
    return last <= limit;
}

static void data_limits(void)
{
    struct access_form forms[] = {
        {"byte read", CODE32("mov al, [ebx]"), 1, false},
        {"word read", CODE32("mov ax, [ebx]"), 2, false},
        {"dword read", CODE32("mov eax, [ebx]"), 4, false},
        {"byte write", CODE32("mov [ebx], al"), 1, true},
        {"word write", CODE32("mov [ebx], ax"), 2, true},
        {"dword write", CODE32("mov [ebx], eax"), 4, true},
        {"dword RMW", CODE32("add [ebx], eax"), 4, true},
        {"qword read", CODE32("fld qword ptr [ebx]"), 8, false},
        {"ten bytes read", CODE32("fld tbyte ptr [ebx]"), 10, false},
        {"far pointer read", CODE32("les eax, [ebx]"), 6, false},
        {"bounds read", CODE32("bound eax, [ebx]"), 8, false},
    };
    static const struct {
        u32 limit; /* as in the descriptor */
        u8 flags;
        bool down;
    } segments[] = {
        {0x0fff, FLAGS_D, false}, {0xffff, 0, false},      {0, FLAGS_D, false}, {0, FLAT, false},
        {2, FLAT, false},         {0x0fff, FLAGS_D, true}, {0x0fff, 0, true},   {0xfffe, 0, true},
        {0, FLAT, true},          {0xf, FLAGS_G, true},
    };
    static const int edges[] = {-12, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8};

    asm volatile("fninit");
    memset((void *)DATA_AREA, 0, 0x11000);
    for (unsigned stack = 0; stack < 2; stack++) {
        group(stack ? "limits, through SS" : "limits, through DS");
        for (unsigned s = 0; s < ARRAY_SIZE(segments); s++) {
            bool down = segments[s].down, big = segments[s].flags & FLAGS_D;
            u32 limit = segments[s].flags & FLAGS_G ? segments[s].limit << 12 | 0xfff : segments[s].limit;
            u8 access = DATA_RW(3) | (down ? ACCESS_E : 0);

            gdt[TARGET / 8] = descriptor(DATA_AREA, segments[s].limit, access, segments[s].flags);
            for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
                for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
                    u32 offset = limit + (u32)edges[i];
                    struct context c = user_context(forms[f].code);
                    bool good = within(offset, forms[f].size, limit, down, big);

                    /* Around the end of 4 GiB the manual leaves it open. */
                    if ((u64)offset + forms[f].size > 0x100000000ull || offset > 0xfffffff0)
                        continue;
                    /* What it touches has to be memory; "les" reads a null selector from it. */
                    memset((void *)(DATA_AREA + offset), 0, 16);
                    c.bx = offset;
                    if (stack) {
                        c.ss = TARGET | 3;
                        *(u8 *)CODE_AREA = 0x36; /* SS override */
                        place(forms[f].code, CODE_AREA + 1);
                    } else {
                        c.ds = TARGET | 3;
                    }
                    c.ax = 0;
                    expect_trap(run(&c), good ? END : FAULT(stack ? SS : GP, 0), "%s at %x, limit %x%s%s",
                                forms[f].name, offset, limit, down ? " down" : "", big ? " big" : "");
                }
            }
        }
    }
}

/* Pushes, pops, calls and ENTER at the ends of a stack: #SS(0) (SDM 3A 6.15, interrupt 12). */
static void stack_limits(void)
{
    struct {
        const char *name;
        struct code code;
        int down, up; /* bytes below and above SP that it touches */
    } forms[] = {
        {"push eax", CODE32("push eax"), 4, 0},
        {"push ax", CODE32("push ax"), 2, 0},
        {"pop eax", CODE32("pop eax"), 0, 4},
        {"pop ax", CODE32("pop ax"), 0, 2},
        {"pusha", CODE32("pushad"), 32, 0},
        {"pushaw", CODE32(".byte 0x66; pushad"), 16, 0},
        {"popa", CODE32("popad"), 0, 32},
        {"pushf", CODE32("pushfd"), 4, 0},
        {"popf", CODE32("popfd"), 0, 4},
        {"call", CODE32("call 1f\n 1:"), 4, 0},
        {"call far", CODE32(".byte 0x9a\n .long 0x400007\n .word 0x1b"), 8, 0},
        {"push ds", CODE32("push ds"), 4, 0},
        {"pop ds", CODE32("pop ds"), 0, 2},
        {"enter 0, 0", CODE32("enter 0, 0"), 4, 0},
        {"leave", CODE32("leave"), 0, 4},
    };

    group("stack limits");
    gdt[TARGET / 8] = descriptor(STACK_AREA, 0xfff, DATA_RW(3), FLAGS_D);
    for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
        for (int sp = -4; sp <= 40; sp += 2) {
            struct context c = user_context(forms[f].code);
            /* Pushes run down to the segment's start; a negative address is beyond the limit. */
            bool good = forms[f].up ? true : sp >= forms[f].down;

            if (forms[f].up)
                continue;
            c.ss = TARGET | 3;
            c.sp = (u32)sp;
            expect_trap(run(&c), good ? END : FAULT(SS, 0), "%s, SP %d", forms[f].name, sp);
        }
        for (int above = 0; above <= 40; above += 2) {
            struct context c = user_context(forms[f].code);
            const struct trap *trap;

            if (!forms[f].up)
                continue;
            memset((void *)STACK_AREA, 0, 0x1000);
            c.ss = TARGET | 3;
            c.sp = c.bp = 0x1000 - (u32)above;
            trap = run(&c);
            expect_trap(trap, above >= forms[f].up ? END : FAULT(SS, 0), "%s, %d bytes below the limit",
                        forms[f].name, above);
            if (above < forms[f].up)
                expect_equal(trap->at.sp, c.sp, "%s, %d bytes below the limit: SP", forms[f].name, above);
        }
    }
}

/* A segment's type against how it is used (SDM 3A 5.5). */
static void access_rights(void)
{
    struct access_form forms[] = {
        {"read", CODE32("mov eax, ds:[ebx]"), 4, false},
        {"write", CODE32("mov ds:[ebx], eax"), 4, true},
        {"read-modify-write", CODE32("xor ds:[ebx], eax"), 4, true},
        {"XCHG", CODE32("xchg ds:[ebx], eax"), 4, true},
        {"string write", CODE32("movsb"), 1, true},
    };
    static const u8 access[] = {DATA_RW(3), (u8)(DATA_RW(3) & ~ACCESS_W), CODE_XR(3),
                                (u8)(CODE_XR(3) | ACCESS_E)};

    group("rights of a segment");
    for (unsigned a = 0; a < ARRAY_SIZE(access); a++) {
        for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
            struct context c = user_context(forms[f].code);
            bool good = !forms[f].write || access_of(access[a]).writable;

            gdt[TARGET / 8] = descriptor(0, 0xfffff, access[a], FLAT);
            c.ds = c.es = TARGET | 3;
            c.bx = c.si = c.di = DATA_AREA;
            expect_trap(run(&c), good ? END : FAULT(GP, 0), "%s, access %02x", forms[f].name, access[a]);
        }
    }
    for (unsigned readable = 0; readable < 2; readable++) {
        struct context c = user_context(CODE32("mov eax, cs:[ebx]"));

        gdt[TARGET / 8] = descriptor(0, 0xfffff, CODE_XR(3) & ~(readable ? 0 : ACCESS_W), FLAT);
        c.cs = TARGET | 3;
        c.bx = DATA_AREA;
        expect_trap(run(&c), readable ? END : FAULT(GP, 0), "read through CS, %s",
                    readable ? "readable" : "execute-only");
        place(CODE32("mov cs:[ebx], eax"), CODE_AREA);
        expect_trap(run(&c), FAULT(GP, 0), "write through CS");
    }
}

/* ---- Code ---- */

static void code_limit(void)
{
    group("code limit");
    /* Four one-byte instructions, then one of five bytes, then INT 80h. */
    struct code code = CODE32("nop\n nop\n nop\n nop\n mov eax, 0x11111111");
    for (u32 limit = 0; limit < 14; limit++) {
        struct context c = user_context(code);
        int fault = limit < 4 ? (int)limit + 1 : limit < 8 ? 4 : limit < 10 ? 9 : -1;
        struct expect e;

        gdt[TARGET / 8] = descriptor(CODE_AREA, limit, CODE_XR(3), FLAGS_D);
        c.cs = TARGET | 3;
        c.ip = 0;
        e = fault < 0 ? END : FAULT_AT(GP, 0, fault);
        expect_trap(run(&c), e, "limit %u", limit);
    }
    struct {
        const char *name;
        struct code code;
        int at;
    } forms[] = {
        {"JMP rel8", CODE32("jmp . + 0x52"), 0},
        {"JMP rel32", CODE32(".byte 0xe9; .long 0x50"), 0},
        {"Jcc taken", CODE32("xor eax, eax\n jz . + 0x52"), 2},
        {"JECXZ taken", CODE32("jecxz . + 0x52"), 0},
        {"LOOP taken", CODE32("inc ecx\n inc ecx\n loop . + 0x52"), 2},
        {"CALL rel32", CODE32("call . + 0x52"), 0},
        {"JMP eax", CODE32("jmp eax"), 0},
        {"CALL eax", CODE32("call eax"), 0},
        {"RET", CODE32("push eax\n ret"), 1},
        {"RET imm", CODE32("push eax\n ret 8"), 1},
        {"JMP far", CODE32(".byte 0xea; .long 0x52; .word 0xa3"), 0},
        {"CALL far", CODE32(".byte 0x9a; .long 0x52; .word 0xa3"), 0},
        {"RETF", CODE32("push cs\n push eax\n retf"), 2},
        {"IRET", CODE32("pushfd\n push cs\n push eax\n iretd"), 3},
        {"16-bit JMP", CODE32(".byte 0x66; jmp . + 0x52"), 0},
    };
    for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
        struct context c = user_context(forms[f].code);
        const struct trap *trap;

        gdt[TARGET / 8] = descriptor(CODE_AREA, 0x3f, CODE_XR(3), FLAGS_D);
        c.cs = TARGET | 3;
        c.ip = 0;
        c.ax = 0x52;
        c.cx = 0;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(GP, 0, forms[f].at), "%s beyond the limit", forms[f].name);
        if (forms[f].at == 0)
            expect_equal(trap->at.sp, c.sp, "%s beyond the limit: ESP", forms[f].name);
    }
}

/* JMP and CALL straight to a code segment (SDM 3A 5.8.1), and to what is none. Task switches are not tried here. */
static struct expect far_target(u8 byte, unsigned rpl, unsigned cpl, ulong error)
{
    struct access a = access_of(byte);

    if (!a.s) {
        /* Gates and TSSs: here with an RPL that their DPL does not allow, or absent, or busy. */
        bool known = a.type == TYPE_TSS16 || a.type == 3 || a.type == TYPE_CALL16 ||
                     a.type == TYPE_TASK_GATE || a.type == TYPE_TSS || a.type == 11 || a.type == TYPE_CALL;

        if (!known || a.dpl < cpl || rpl > a.dpl || a.type == 3 || a.type == 11)
            return FAULT(GP, error);
        return FAULT(NP, error); /* present ones are not run */
    }
    if (!a.code || (a.conforming ? a.dpl > cpl : rpl > cpl || a.dpl != cpl))
        return FAULT(GP, error);
    return a.p ? END : FAULT(NP, error);
}

static void far_transfers(const char *name, struct code code)
{
    group(name);
    for (unsigned cpl = 0; cpl < 4; cpl++) {
        struct context c = ring_context((int)cpl, code);

        place(CODE32("nop"), CODE_AREA + 0x40);
        *(u32 *)DATA_AREA = CODE_AREA + 0x40;
        c.bx = DATA_AREA;
        for (unsigned byte = 0; byte < 256; byte++) {
            for (unsigned rpl = 0; rpl < 4; rpl++) {
                struct expect e = far_target((u8)byte, rpl, cpl, TARGET);
                const struct trap *trap;

                if (!(byte & ACCESS_S) && byte & ACCESS_P && e.vector == NP)
                    continue;
                gdt[TARGET / 8] = descriptor(0, 0xfffff, (u8)byte, FLAT);
                *(u16 *)(DATA_AREA + 4) = (u16)(TARGET | rpl);
                trap = run(&c);
                if (expect_trap(trap, e, "access %02x rpl %u cpl %u", byte, rpl, cpl) &&
                    e.vector == VECTOR_END)
                    expect_equal(trap->at.cs, TARGET | cpl, "access %02x rpl %u cpl %u: CS", byte, rpl, cpl);
            }
        }
        *(u16 *)(DATA_AREA + 4) = 0;
        expect_trap(run(&c), FAULT(GP, 0), "null, cpl %u", cpl);
        *(u16 *)(DATA_AREA + 4) = BEYOND;
        expect_trap(run(&c), FAULT(GP, BEYOND), "beyond the GDT, cpl %u", cpl);
    }
}

/* ---- LAR, LSL, VERR, VERW, ARPL ---- */

static bool lar_knows(unsigned type, bool lsl)
{
    /* SDM 2A LAR and LSL: the tables of types. */
    static const u16 lar = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    static const u16 limit = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;

    return (lsl ? limit : lar) >> type & 1;
}

static void look_at_descriptors(void)
{
    struct {
        const char *name;
        struct code code;
        enum { LAR, LSL, VERR, VERW } what;
    } forms[] = {
        {"LAR", CODE32("lar ecx, eax"), LAR},
        {"LSL", CODE32("lsl ecx, eax"), LSL},
        {"VERR", CODE32("verr ax"), VERR},
        {"VERW", CODE32("verw ax"), VERW},
    };

    for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
        group(forms[f].name);
        for (unsigned n = 0; n < 4 * 256 * 4; n++) {
            unsigned cpl = n >> 10, byte = n >> 2 & 0xff, rpl = n & 3;
            struct access a = access_of((u8)byte);
            struct context c = ring_context((int)cpl, forms[f].code);
            bool privileged = a.conforming || (rpl <= a.dpl && cpl <= a.dpl), good;
            const struct trap *trap;

            gdt[TARGET / 8] = descriptor(0x12345678, 0x54321, (u8)byte, FLAGS_G | FLAGS_D | 1);
            switch (forms[f].what) {
            case LAR: good = privileged && (a.s || lar_knows(a.type, false)); break;
            case LSL: good = privileged && (a.s || lar_knows(a.type, true)); break;
            case VERR: good = privileged && a.readable; break;
            default: good = a.dpl >= rpl && a.dpl >= cpl && a.writable; break;
            }
            c.ax = TARGET | rpl;
            c.cx = 0xdeadbeef;
            trap = run(&c);
            if (!expect_trap(trap, END, "access %02x rpl %u cpl %u", byte, rpl, cpl))
                continue;
            if (!!(trap->at.flags & FLAG_ZF) != good)
                expect_equal(!good, good, "access %02x rpl %u cpl %u: ZF", byte, rpl, cpl);
            if (forms[f].what <= LSL) {
                ulong want = !good ? 0xdeadbeef : forms[f].what == LAR ? 0x00d00000 | byte << 8 : 0x54321fff;
                ulong mask = forms[f].what == LAR && good ? 0x00f0ff00
                                                          : 0xffffffff; /* the limit's bits are undefined */

                if ((trap->at.cx & mask) != (want & mask))
                    expect_equal(trap->at.cx & mask, want & mask, "access %02x rpl %u cpl %u: value", byte,
                                 rpl, cpl);
            }
        }
        for (unsigned i = 0; i < 3; i++) {
            static const u16 selectors[] = {0, 3, BEYOND};
            struct context c = user_context(forms[f].code);
            const struct trap *trap;

            c.ax = selectors[i];
            c.flags |= FLAG_ZF;
            trap = run(&c);
            if (expect_trap(trap, END, "selector %x", selectors[i]))
                expect_equal(trap->at.flags & FLAG_ZF, 0, "selector %x: ZF", selectors[i]);
        }
    }
    group("ARPL");
    for (unsigned n = 0; n < 16; n++) {
        struct context c = user_context(CODE32("arpl ax, cx"));
        const struct trap *trap;

        c.ax = 0xabcd1230 | n >> 2;
        c.cx = 0x5670 | (n & 3);
        trap = run(&c);
        expect_trap(trap, END, "case %u", n);
        expect_equal(trap->at.ax, 0xabcd1230 | (n >> 2 > (n & 3) ? n >> 2 : n & 3), "case %u: value", n);
        expect_equal(!!(trap->at.flags & FLAG_ZF), n >> 2 < (n & 3), "case %u: ZF", n);
    }
}

/* LLDT and LTR at ring 0: SDM 2A LLDT, 2B LTR. */
static void system_segments(void)
{
    group("LLDT");
    for (unsigned byte = 0; byte < 256; byte++) {
        struct context c = kernel_context(CODE32("lldt ax"));
        bool type = !(byte & ACCESS_S) && (byte & 15) == TYPE_LDT;

        gdt[TARGET / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, (u8)byte, 0);
        c.ax = TARGET | 1;
        expect_trap(run(&c),
                    !type             ? FAULT(GP, TARGET)
                    : byte & ACCESS_P ? END
                                      : FAULT(NP, TARGET),
                    "access %02x", byte);
    }
    {
        struct context c = kernel_context(CODE32("lldt ax"));

        c.ax = BEYOND;
        expect_trap(run(&c), FAULT(GP, BEYOND), "beyond the GDT");
        c.ax = TARGET | 4;
        expect_trap(run(&c), FAULT(GP, TARGET | 4), "a selector of the LDT");
        c.ax = 2;
        expect_trap(run(&c), END, "null");
    }
    group("LTR");
    for (unsigned byte = 0; byte < 256; byte++) {
        struct context c = kernel_context(CODE32("ltr ax"));
        bool type = !(byte & ACCESS_S) && ((byte & 15) == TYPE_TSS || (byte & 15) == TYPE_TSS16), good;

        gdt[TARGET / 8] = descriptor((u32)tss, TSS_LIMIT, (u8)byte, 0);
        c.ax = TARGET | 2;
        good = type && byte & ACCESS_P;
        expect_trap(run(&c), !type ? FAULT(GP, TARGET) : good ? END : FAULT(NP, TARGET), "access %02x", byte);
        expect_equal(gdt[TARGET / 8] >> 40 & 0xff, byte | (good ? 2 : 0), "access %02x: busy", byte);
    }
    {
        struct context c = kernel_context(CODE32("ltr ax"));

        c.ax = 0;
        expect_trap(run(&c), FAULT(GP, 0), "null");
        c.ax = BEYOND;
        expect_trap(run(&c), FAULT(GP, BEYOND), "beyond the GDT");
        c.ax = TARGET | 4;
        expect_trap(run(&c), FAULT(GP, TARGET | 4), "a selector of the LDT");
    }
    load_tss(TSS_LIMIT);
}

/* What addressing does to the upper half, and which segment an address uses by itself. */
static void default_segments(void)
{
    struct {
        const char *name;
        struct code code;
        bool stack;
    } forms[] = {
        {"[ebp]", CODE32("mov eax, [ebp]"), true},
        {"[esp]", CODE32("mov eax, [esp]"), true},
        {"[ebp + esi]", CODE32("mov eax, [ebp + esi]"), true},
        {"[esi + ebp], EBP as the index", CODE32("mov eax, [esi + ebp*1]"), false},
        {"[ebp*2]", CODE32("mov eax, [ebp*2]"), false},
        {"[bp]", CODE32(".byte 0x67, 0x8b, 0x46, 0x00"), true},
        {"[bp + si]", CODE32(".byte 0x67, 0x8b, 0x02"), true},
        {"[bp + di]", CODE32(".byte 0x67, 0x8b, 0x03"), true},
        {"[bx + si]", CODE32(".byte 0x67, 0x8b, 0x00"), false},
        {"[si]", CODE32(".byte 0x67, 0x8b, 0x04"), false},
        {"absolute", CODE32("mov eax, ds:[0]"), false},
        {"[bp] with DS override", CODE32("mov eax, ds:[ebp]"), false},
    };

    group("default segments");
    gdt[TARGET / 8] = descriptor(DATA_AREA, 0xffff, DATA_RW(3), FLAGS_D);
    gdt[SPARE / 8] = descriptor(DATA_AREA + 0x10000, 0xffff, DATA_RW(3), FLAGS_D);
    for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
        struct context c = user_context(forms[f].code);
        const struct trap *trap;

        *(u32 *)DATA_AREA = 0xda7a;
        *(u32 *)(DATA_AREA + 0x10000) = 0x57ac;
        c.ds = TARGET | 3;
        c.ss = SPARE | 3;
        c.bx = c.bp = c.si = c.di = c.sp = 0;
        trap = run(&c);
        expect_trap(trap, END, "%s", forms[f].name);
        expect_equal(trap->at.ax, forms[f].stack ? 0x57ac : 0xda7a, "%s", forms[f].name);
    }
}

void test(void)
{
    loads();
    load_forms();
    null_selectors();
    local_table();
    table_limit();
    data_limits();
    stack_limits();
    access_rights();
    code_limit();
    far_transfers("JMP far", CODE32("jmp fword ptr [ebx]"));
    far_transfers("CALL far", CODE32("call fword ptr [ebx]"));
    look_at_descriptors();
    system_segments();
    default_segments();
}
