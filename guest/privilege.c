/*
 * What may be executed where, in 32-bit protected mode: privileged instructions, IOPL and the I/O permission map, the FPU's
 * bits in CR0, control registers, SYSENTER, and UMIP.
 */
#include "guest.h"

enum { CODE = SEL_TEST, FREE_PORT = 0x510 + 0x400 /* nothing is there */ };

struct row {
    const char *name;
    struct code code;
    int at;
};

/* #GP(0) above CPL 0: SDM 3A 5.9. */
static void privileged(void)
{
    struct row rows[] = {
        {"HLT", CODE32("hlt")},
        {"CLTS", CODE32("clts")},
        {"LMSW", CODE32("lmsw ax")},
        {"LGDT", CODE32("lgdt [ebx]")},
        {"LIDT", CODE32("lidt [ebx]")},
        {"LLDT", CODE32("lldt ax")},
        {"LTR", CODE32("ltr ax")},
        {"INVD", CODE32("invd")},
        {"WBINVD", CODE32("wbinvd")},
        {"INVLPG", CODE32("invlpg [ebx]")},
        {"RDMSR", CODE32("rdmsr")},
        {"WRMSR", CODE32("wrmsr")},
        {"MOV from CR0", CODE32("mov eax, cr0")},
        {"MOV from CR2", CODE32("mov eax, cr2")},
        {"MOV from CR3", CODE32("mov eax, cr3")},
        {"MOV from CR4", CODE32("mov eax, cr4")},
        {"MOV to CR0", CODE32("mov cr0, eax")},
        {"MOV to CR3", CODE32("mov cr3, eax")},
        {"MOV to CR4", CODE32("mov cr4, eax")},
        {"MOV from DR0", CODE32("mov eax, dr0")},
        {"MOV to DR7", CODE32("mov dr7, eax")},
    };

    group("privileged instructions");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (int cpl = 1; cpl < 4; cpl++) {
            struct context c = ring_context(cpl, rows[i].code);

            c.flags |= FLAG_IOPL;
            c.bx = DATA_AREA;
            expect_trap(run(&c), FAULT(GP, 0), "%s, cpl %d", rows[i].name, cpl);
        }
    }
    {
        struct context c = user_context(CODE32("sysexit"));

        if (cpu_has(CPU_SEP))
            expect_trap(run(&c), FAULT(GP, 0), "SYSEXIT");
        c = user_context(CODE32("rdtsc"));
        expect_trap(run(&c), END, "RDTSC");
        write_cr4(read_cr4() | CR4_TSD);
        expect_trap(run(&c), FAULT(GP, 0), "RDTSC with CR4.TSD");
        c = kernel_context(CODE32("rdtsc"));
        expect_trap(run(&c), END, "RDTSC with CR4.TSD at CPL 0");
        write_cr4(read_cr4() & ~(ulong)CR4_TSD);
        c = user_context(CODE32("rdpmc"));
        expect_trap(run(&c), FAULT(GP, 0), "RDPMC without CR4.PCE");
        if (cpu_has(CPU_XSAVE)) {
            write_cr4(read_cr4() | CR4_OSXSAVE);
            c = user_context(CODE32("xsetbv"));
            expect_trap(run(&c), FAULT(GP, 0), "XSETBV");
            write_cr4(read_cr4() & ~(ulong)CR4_OSXSAVE);
            expect_trap(run(&c), FAULT(UD, 0), "XSETBV without CR4.OSXSAVE");
        }
    }
}

/* IN, OUT, INS, OUTS, CLI, STI: CPL against IOPL (SDM 1 19.5). */
static void io_privilege(void)
{
    struct row rows[] = {
        {"IN AL, imm", CODE32("in al, 0x80")},
        {"IN EAX, DX", CODE32("in eax, dx")},
        {"OUT imm, AL", CODE32("out 0x80, al")},
        {"OUT DX, AX", CODE32("out dx, ax")},
        {"INSB", CODE32("insb")},
        {"OUTSB", CODE32("outsb")},
        {"REP INSD", CODE32("rep insd")},
        {"CLI", CODE32("cli")},
        {"STI", CODE32("sti\n cli")},
    };

    group("IOPL");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned n = 0; n < 16; n++) {
            unsigned cpl = n >> 2, iopl = n & 3;
            struct context c = ring_context((int)cpl, rows[i].code);

            c.flags |= iopl << 12;
            c.dx = FREE_PORT;
            c.si = c.di = DATA_AREA;
            c.cx = 1;
            expect_trap(run(&c), cpl <= iopl ? END : FAULT(GP, 0), "%s, cpl %u iopl %u", rows[i].name, cpl,
                        iopl);
        }
    }
}

/* The I/O permission map: two bytes are read, and both have to be within the TSS (SDM 1 19.5.2). */
static void io_map(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned size;
    } rows[] = {
        {"IN AL", CODE32("in al, dx"), 1},   {"IN AX", CODE32("in ax, dx"), 2},
        {"IN EAX", CODE32("in eax, dx"), 4}, {"OUT AL", CODE32("out dx, al"), 1},
        {"INSW", CODE32("insw"), 2},         {"OUTSD", CODE32("outsd"), 4},
    };
    u8 *map = tss + TSS_IO_MAP;

    group("I/O permission map");
    *(u16 *)(tss + 0x66) = TSS_IO_MAP;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        /* One port is closed. */
        for (int closed = -1; closed < 12; closed++) {
            struct context c = user_context(rows[i].code);
            bool hit;

            memset(map, 0, 0x2001);
            if (closed >= 0)
                map[(FREE_PORT + closed - 4) / 8] |= 1 << ((FREE_PORT + closed - 4) % 8);
            load_tss(TSS_IO_MAP + 0x2000);
            c.dx = FREE_PORT;
            c.si = c.di = DATA_AREA;
            hit = closed >= 4 && closed < 4 + (int)rows[i].size;
            expect_trap(run(&c), hit ? FAULT(GP, 0) : END, "%s, port %d closed", rows[i].name, closed - 4);
        }
        /* The map ends. */
        memset(map, 0, 0x2001);
        for (int delta = -2; delta < 3; delta++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                struct context c = user_context(rows[i].code);
                unsigned port = (FREE_PORT & ~7u) + bit;

                load_tss((u32)(TSS_IO_MAP + port / 8 + delta));
                c.dx = port;
                c.si = c.di = DATA_AREA;
                expect_trap(run(&c), delta >= 1 ? END : FAULT(GP, 0),
                            "%s, bit %u, limit %d bytes after the map's byte", rows[i].name, bit, delta);
            }
        }
    }
    {
        struct context c = user_context(CODE32("in eax, dx"));

        c.dx = 0xfffc;
        load_tss(TSS_IO_MAP + 0x2000);
        expect_trap(run(&c), END, "the last port, with the byte after the map");
        load_tss(TSS_IO_MAP + 0x1fff);
        expect_trap(run(&c), FAULT(GP, 0), "the last port, without the byte after the map");
        /* A map base beyond the limit: no port is open. */
        *(u16 *)(tss + 0x66) = 0xffff;
        load_tss(TSS_IO_MAP + 0x2000);
        c.dx = 0;
        expect_trap(run(&c), FAULT(GP, 0), "a map base beyond the limit");
    }
    *(u16 *)(tss + 0x66) = sizeof(tss);
    load_tss(TSS_LIMIT);
}

/* SDM 3A table 2-2: EM, MP and TS against x87, WAIT, MMX and SSE. */
static void fpu_bits(void)
{
    struct {
        const char *name;
        struct code code;
        enum { X87, WAIT, MMX, SSE } kind;
    } rows[] = {
        {"FNOP", CODE32("fnop"), X87},
        {"FLD1", CODE32("fld1\n fstp st(0)"), X87},
        {"FNSTSW", CODE32("fnstsw ax"), X87},
        {"FXSAVE", CODE32("fxsave [ebx]"), X87},
        {"FWAIT", CODE32("fwait"), WAIT},
        {"MMX", CODE32("movd mm0, eax\n emms"), MMX},
        {"EMMS", CODE32("emms"), MMX},
        {"SSE", CODE32("movaps xmm0, xmm1"), SSE},
        {"SSE2", CODE32("paddd xmm0, xmm1"), SSE},
        {"LDMXCSR", CODE32("ldmxcsr [ebx + 32]"), SSE},
    };
    ulong cr0 = read_cr0() & ~(ulong)(CR0_EM | CR0_MP | CR0_TS), cr4 = read_cr4();

    group("EM, MP, TS and OSFXSR");
    for (unsigned n = 0; n < 16; n++) {
        bool em = n & 1, mp = n & 2, ts = n & 4, osfxsr = n & 8;

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            struct context c = user_context(rows[i].code);
            int vector = VECTOR_END;
            const struct trap *trap;

            switch (rows[i].kind) {
            case X87: vector = em || ts ? NM : VECTOR_END; break;
            case WAIT: vector = mp && ts ? NM : VECTOR_END; break;
            case MMX: vector = em ? UD : ts ? NM : VECTOR_END; break;
            case SSE: vector = em || !osfxsr ? UD : ts ? NM : VECTOR_END; break;
            }
            *(u32 *)(DATA_AREA + 32) = 0x1f80;
            c.bx = DATA_AREA;
            write_cr4(cr4 | (osfxsr ? CR4_OSFXSR : 0));
            write_cr0(cr0 | (em ? CR0_EM : 0) | (mp ? CR0_MP : 0) | (ts ? CR0_TS : 0));
            trap = run(&c);
            write_cr0(cr0);
            expect_trap(trap, vector == VECTOR_END ? END : FAULT(vector, 0),
                        "%s, EM %u MP %u TS %u OSFXSR %u", rows[i].name, em, mp, ts, osfxsr);
        }
    }
    write_cr4(cr4);
    {
        struct context c = kernel_context(CODE32("clts"));

        write_cr0(cr0 | CR0_TS);
        expect_trap(run(&c), END, "CLTS");
        expect_equal(read_cr0() & CR0_TS, 0, "TS after CLTS");
        c = kernel_context(CODE32("lmsw ax"));
        c.ax = CR0_TS | CR0_MP; /* without PE */
        expect_trap(run(&c), END, "LMSW");
        expect_equal(read_cr0() & 0xf, CR0_PE | CR0_TS | CR0_MP, "LMSW cannot clear PE");
        write_cr0(cr0);
    }
}

/* Values that the control registers do not take: SDM 2B MOV to control registers. */
static void control_registers(void)
{
    struct {
        const char *name;
        struct code code;
        ulong value;
        int vector;
    } rows[] = {
        {"CR0 with PG without PE", CODE32("mov cr0, eax"), CR0_PG, GP},
        {"CR0 with NW without CD", CODE32("mov cr0, eax"), CR0_PE | CR0_NW, GP},
        {"CR4 bit 15", CODE32("mov cr4, eax"), 1u << 15, GP},
        {"CR4 bit 19 and up", CODE32("mov cr4, eax"), 1u << 31, GP},
        {"CR4.PCIDE without long mode", CODE32("mov cr4, eax"), CR4_PCIDE, GP},
        {"CR1", CODE32("mov eax, cr1"), 0, UD},
        {"CR5", CODE32("mov cr5, eax"), 0, UD},
        {"CR6", CODE32("mov eax, cr6"), 0, UD},
        {"CR7", CODE32("mov cr7, eax"), 0, UD},
        {"LOCK MOV CR0", CODE32(".byte 0xf0, 0x0f, 0x22, 0xc1"), 0, ANYWHERE},
        {"CR0 as it is", CODE32("mov ecx, cr0\n mov cr0, ecx"), 0, VECTOR_END},
        {"CR0 with a reserved bit", CODE32("mov ecx, cr0\n or ecx, 0x40\n mov cr0, ecx\n mov edx, cr0"), 0,
         VECTOR_END},
        {"mod bits of MOV CR are ignored", CODE32(".byte 0x0f, 0x20, 0x00"), 0, VECTOR_END},
    };

    group("control registers");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(rows[i].code);
        int vector = rows[i].vector;
        const struct trap *trap;

        if (vector == ANYWHERE) /* AMD has CR8 there */
            continue;
        c.ax = rows[i].value;
        trap = run(&c);
        expect_trap(trap, vector == VECTOR_END ? END : FAULT(vector, 0), "%s", rows[i].name);
    }
    struct context c =
        kernel_context(CODE32("mov ecx, cr0\n or ecx, 0x1ff80040\n mov cr0, ecx\n mov edx, cr0"));
    const struct trap *trap = run(&c);
    expect_equal(trap->at.dx & 0x1ff80040, 0, "CR0's reserved bits read as zero");
    c = kernel_context(CODE32("smsw eax"));
    trap = run(&c);
    expect_equal(trap->at.ax, read_cr0(), "SMSW of 32 bits");
    c = kernel_context(CODE32("smsw word ptr [ebx]"));
    c.bx = DATA_AREA;
    *(u32 *)DATA_AREA = 0xffffffff;
    run(&c);
    expect_equal(*(u32 *)DATA_AREA, 0xffff0000 | (read_cr0() & 0xffff), "SMSW to memory writes 16 bits");
}

/* SDM 3A 2.5, CR4.UMIP. */
static void user_mode_instruction_prevention(void)
{
    struct row rows[] = {
        {"SGDT", CODE32("sgdt [ebx]")}, {"SIDT", CODE32("sidt [ebx]")}, {"SLDT", CODE32("sldt ax")},
        {"STR", CODE32("str ax")},      {"SMSW", CODE32("smsw ax")},
    };

    if (!cpu_has(CPU_UMIP)) {
        skip_group("UMIP", "the processor has none");
        return;
    }
    group("UMIP");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned n = 0; n < 8; n++) {
            struct context c = ring_context((int)(n & 3), rows[i].code);
            const struct trap *trap;

            c.bx = DATA_AREA;
            write_cr4(n & 4 ? read_cr4() | CR4_UMIP : read_cr4() & ~(ulong)CR4_UMIP);
            trap = run(&c);
            expect_trap(trap, n & 4 && n & 3 ? FAULT(GP, 0) : END, "%s, cpl %u, UMIP %u", rows[i].name, n & 3,
                        n >> 2);
        }
    }
    write_cr4(read_cr4() & ~(ulong)CR4_UMIP);
}

/* What SGDT and its like store. */
static void store_tables(void)
{
    struct context c = user_context(CODE32("sgdt [ebx]\n sidt [ebx + 8]\n str ecx\n sldt edx"));
    const struct trap *trap;
    struct pseudo_descriptor table;

    group("SGDT, SIDT, STR, SLDT");
    c.bx = DATA_AREA;
    trap = run(&c);
    expect_trap(trap, END, "all at CPL 3");
    memcpy(&table, (void *)DATA_AREA, sizeof(table));
    expect_equal(table.base, (ulong)gdt, "GDT base");
    expect_equal(table.limit, sizeof(gdt) - 1, "GDT limit");
    memcpy(&table, (void *)(DATA_AREA + 8), sizeof(table));
    expect_equal(table.base, (ulong)idt, "IDT base");
    expect_equal(table.limit, sizeof(idt) - 1, "IDT limit");
    expect_equal(trap->at.cx, SEL_TSS, "TR");
    expect_equal(trap->at.dx, 0, "LDTR");
    /* With a 16-bit operand LGDT takes 24 bits of the base. */
    c = kernel_context(
        CODE32("sgdt [ebx]\n mov eax, [ebx + 2]\n mov dword ptr [ebx + 10], 0xff123456\n"
               "mov word ptr [ebx + 8], 0x7777\n .byte 0x66\n lidt [ebx + 8]\n sidt [ebx + 16]\n"
               "mov ecx, [ebx + 18]\n lidt [esi]"));
    c.bx = DATA_AREA;
    struct pseudo_descriptor idtr = {sizeof(idt) - 1, (ulong)idt};
    c.si = (ulong)&idtr;
    trap = run(&c);
    expect_trap(trap, END, "LIDT with a 16-bit operand");
    expect_equal(trap->at.cx, 0x00123456, "LIDT with a 16-bit operand: base");
}

/* SDM 2B SYSENTER, SYSEXIT. */
static void sysenter(void)
{
    if (!cpu_has(CPU_SEP)) {
        skip_group("SYSENTER and SYSEXIT", "the processor has none");
        return;
    }
    group("SYSENTER and SYSEXIT");
    for (unsigned null = 0; null < 4; null++) {
        struct context c = user_context(CODE32("sysenter"));

        wrmsr(MSR_SYSENTER_CS, null);
        expect_trap(run(&c), FAULT(GP, 0), "SYSENTER with CS %u in the MSR", null);
        c = kernel_context(CODE32("sysexit"));
        expect_trap(run(&c), FAULT(GP, 0), "SYSEXIT with CS %u in the MSR", null);
    }
    wrmsr(MSR_SYSENTER_ESP, STACK_TOP - 0x100);
    wrmsr(MSR_SYSENTER_EIP, CODE_AREA + 0x100);
    for (unsigned rpl = 0; rpl < 4; rpl++) {
        for (int cpl = 0; cpl < 4; cpl++) {
            struct context c = ring_context(cpl, CODE32("sysenter"));
            const struct trap *trap;

            place(CODE32("nop"), CODE_AREA + 0x100);
            wrmsr(MSR_SYSENTER_CS, SEL_KCODE | rpl);
            c.flags |= FLAG_IF | FLAG_CF | FLAG_IOPL;
            trap = run(&c);
            expect_trap(trap, FAULT_AT(VECTOR_END, 0, 0x103), "SYSENTER, cpl %d, rpl %u", cpl, rpl);
            expect_equal(trap->at.cs, SEL_KCODE, "SYSENTER, cpl %d, rpl %u: CS", cpl, rpl);
            expect_equal(trap->at.flags, FLAG_FIXED | FLAG_CF | FLAG_IOPL, "SYSENTER, cpl %d, rpl %u: flags",
                         cpl, rpl);
            expect_equal(trap->at.sp, STACK_TOP - 0x100, "SYSENTER, cpl %d, rpl %u: ESP", cpl, rpl);
        }
        struct context c = kernel_context(CODE32("sysexit"));
        const struct trap *trap;

        place(CODE32("nop"), CODE_AREA + 0x200);
        wrmsr(MSR_SYSENTER_CS, SEL_KCODE | rpl);
        c.dx = CODE_AREA + 0x200;
        c.cx = STACK_TOP - 0x200;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 0x203), "SYSEXIT, rpl %u", rpl);
        expect_equal(trap->at.cs, SEL_UCODE32, "SYSEXIT, rpl %u: CS", rpl);
        expect_equal(trap->at.ss, SEL_UDATA, "SYSEXIT, rpl %u: SS", rpl);
        expect_equal(trap->at.sp, STACK_TOP - 0x200, "SYSEXIT, rpl %u: ESP", rpl);
    }
    /* The segments are flat whatever the GDT says. */
    {
        struct context c = user_context(CODE32("sysenter"));
        const struct trap *trap;

        wrmsr(MSR_SYSENTER_CS, SEL_TEST);
        gdt[SEL_TEST / 8] = gdt[SEL_TEST / 8 + 1] = 0;
        place(
            CODE32(
                "mov eax, cs:[ebx]\n mov ecx, ss:[ebx]\n mov edx, 0x10\n mov ss, edx\n jmp 8:0x400114\n nop"),
            CODE_AREA + 0x100);
        c.bx = DATA_AREA;
        *(u32 *)DATA_AREA = 0x1234567;
        trap = run(&c);
        expect_equal(trap->at.ax, 0x1234567, "SYSENTER to descriptors that are not there: CS is flat");
        expect_equal(trap->at.cx, 0x1234567, "SYSENTER to descriptors that are not there: SS is flat");
    }
    wrmsr(MSR_SYSENTER_CS, 0);
}

/* Outside IA-32e mode AMD's processors alone have them (APM 3 SYSCALL, SYSRET): EIP is in STAR, ECX is all that is saved. */
static void syscall(void)
{
    struct code call = CODE32("syscall"), back = CODE32(".byte 0x0f, 0x07");
    const u64 efer = rdmsr(MSR_EFER);
    struct context c;
    const struct trap *trap;

    group("SYSCALL and SYSRET");
    if (!cpu_is_amd()) {
        wrmsr(MSR_EFER, efer | EFER_SCE);
        for (int cpl = 0; cpl < 4; cpl++) {
            c = ring_context(cpl, call);
            expect_trap(run(&c), FAULT(UD, 0), "SYSCALL, cpl %d", cpl);
            c = ring_context(cpl, back);
            expect_trap(run(&c), FAULT(UD, 0), "SYSRET, cpl %d", cpl);
        }
        wrmsr(MSR_EFER, efer);
        return;
    }
    c = user_context(call);
    expect_trap(run(&c), FAULT(UD, 0), "SYSCALL without EFER.SCE");
    c = kernel_context(back);
    expect_trap(run(&c), FAULT(UD, 0), "SYSRET without EFER.SCE");
    wrmsr(MSR_EFER, efer | EFER_SCE);
    wrmsr(MSR_STAR, (u64)SEL_UCODE32 << 48 | (u64)SEL_KCODE << 32 | (CODE_AREA + 0x100));
    place(CODE32("nop"), CODE_AREA + 0x100);
    for (int cpl = 0; cpl < 4; cpl++) {
        c = ring_context(cpl, call);
        c.flags |= FLAG_IF | FLAG_DF | FLAG_CF | FLAG_IOPL;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, 0x103), "SYSCALL, cpl %d", cpl);
        expect_equal(trap->at.cx, CODE_AREA + 2, "SYSCALL, cpl %d: ECX", cpl);
        expect_equal(trap->at.cs, SEL_KCODE, "SYSCALL, cpl %d: CS", cpl);
        expect_equal(trap->at.flags, c.flags & ~(ulong)FLAG_IF, "SYSCALL, cpl %d: flags", cpl);
        expect_equal(trap->at.sp, c.sp, "SYSCALL, cpl %d: ESP", cpl);
        c = ring_context(cpl, back);
        c.cx = CODE_AREA + 0x100;
        c.flags |= FLAG_CF;
        trap = run(&c);
        expect_trap(trap, cpl ? FAULT(GP, 0) : FAULT_AT(VECTOR_END, 0, 0x103), "SYSRET, cpl %d", cpl);
        if (cpl)
            continue;
        expect_equal(trap->at.cs, SEL_UCODE32, "SYSRET: CS");
        expect_equal(trap->at.ss, SEL_UDATA, "SYSRET: SS");
        expect_equal(trap->at.flags, c.flags | FLAG_IF, "SYSRET: flags");
    }
    wrmsr(MSR_EFER, efer);
}

void test(void)
{
    privileged();
    io_privilege();
    io_map();
    fpu_bits();
    control_registers();
    user_mode_instruction_prevention();
    store_tables();
    sysenter();
    syscall();
}
