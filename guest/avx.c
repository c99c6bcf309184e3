/*
 * AVX as a kernel sees it: what must be enabled, what must not stand before VEX, alignment, what becomes of upper halves,
 * unmasked exceptions, and page faults in masked moves and gathers. 32- and 64-bit. SDM 1 chapter 14; SDM 2A 2.3, tables
 * 2-14 to 2-25; SDM 2C VMASKMOV, VGATHERDPS. (What each instruction computes is compared with the host's CPU elsewhere.)
 */
#include "guest.h"

enum {
    X87 = 1 << 0,
    SSE = 1 << 1,
    AVX = 1 << 2,
    ERROR_P = 1,
    ERROR_W = 2,
    ERROR_U = 4,
    PAGE_P = 1,
    PAGE_W = 2,
    PAGE_U = 4,
    PAGE_PS = 0x80,
    MXCSR_INIT = 0x1f80,
    MXCSR_ZE = 1 << 2,
    MXCSR_ZM = 1 << 9,
};

#ifdef __x86_64__
enum { REGISTERS = 16, BIG_PAGE = 0x200000 };
#define CODEN(text) CODE64(text)
#define BX          "rbx"
#else
enum { REGISTERS = 8, BIG_PAGE = 0x400000 };
#define CODEN(text) CODE32(text)
#define BX          "ebx"
#endif

static ulong plain_cr0, plain_cr4;

static void xsetbv(u32 value)
{
    asm volatile("xsetbv" ::"a"(value), "c"(0), "d"(0));
}
static void set_mxcsr(u32 value)
{
    asm volatile("ldmxcsr %0" ::"m"(value));
}
static u32 get_mxcsr(void)
{
    u32 value;

    asm volatile("stmxcsr %0" : "=m"(value));
    return value;
}

/* All vector registers, to and from memory. */
static u8 registers[16][32] __attribute__((aligned(32)));

#define EACH_8(F)  F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#define EACH_UP(F) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define LOAD(n)    asm volatile("vmovdqu %0, %%ymm" #n ::"m"(registers[n]));
#define STORE(n)   asm volatile("vmovdqu %%ymm" #n ", %0" : "=m"(registers[n]));
static void load_registers(void)
{
    EACH_8(LOAD)
#ifdef __x86_64__
    EACH_UP(LOAD)
#endif
}
static void store_registers(void)
{
    EACH_8(STORE)
#ifdef __x86_64__
    EACH_UP(STORE)
#endif
}
static u8 pattern(unsigned n, unsigned byte)
{
    return (u8)(n * 37 + byte * 11 + 1);
}
static void fill_registers(void)
{
    for (unsigned n = 0; n < REGISTERS; n++)
        for (unsigned b = 0; b < 32; b++)
            registers[n][b] = pattern(n, b);
    load_registers();
}
/* Bytes [from, to) of register n are as filled in, or zero. */
static bool filled(unsigned n, unsigned from, unsigned to)
{
    for (unsigned b = from; b < to; b++)
        if (registers[n][b] != pattern(n, b))
            return false;
    return true;
}
static bool zero(unsigned n, unsigned from, unsigned to)
{
    for (unsigned b = from; b < to; b++)
        if (registers[n][b])
            return false;
    return true;
}

static struct context data_context(bool user, struct code code)
{
    struct context c = user ? user_context(code) : kernel_context(code);

    c.bx = DATA_AREA;
    return c;
}

/* ---- What must be enabled ---- */

static void enabling(void)
{
    struct {
        const char *name;
        struct code code;
    } rows[] = {
        {"VADDPS xmm", CODEN("vaddps xmm0, xmm1, xmm2")},
        {"VADDPS ymm", CODEN("vaddps ymm0, ymm1, [" BX "]")},
        {"VPADDB ymm", CODEN("vpaddb ymm0, ymm1, ymm2")},
        {"VMOVUPS to memory", CODEN("vmovups [" BX "], xmm0")},
        {"VMOVD", CODEN("vmovd eax, xmm0")},
        {"VCVTSI2SS", CODEN("vcvtsi2ss xmm0, xmm1, eax")},
        {"VZEROUPPER", CODEN("vzeroupper")},
        {"VZEROALL", CODEN("vzeroall")},
        {"VSTMXCSR", CODEN("vstmxcsr [" BX "]")},
        {"VBROADCASTSS", CODEN("vbroadcastss ymm0, [" BX "]")},
        {"VMASKMOVPS", CODEN("vmaskmovps xmm0, xmm1, [" BX "]")},
    };

    group("enabling");
    set_mxcsr(MXCSR_INIT);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned n = 0; n < 128; n++) {
            static const u8 values[] = {X87, X87 | SSE, X87 | SSE | AVX, X87 | SSE | AVX};
            u8 xcr0 = values[n & 3];
            bool osxsave = n & 4, osfxsr = n & 8, ts = n & 16, em = n & 32, user = n & 64;
            struct context c = data_context(user, rows[i].code);
            struct expect e = !osxsave || !(xcr0 & AVX) ? FAULT(UD, 0) : ts ? FAULT(NM, 0) : END;

            xsetbv(xcr0);
            write_cr4((plain_cr4 & ~(ulong)(CR4_OSXSAVE | CR4_OSFXSR)) | (osxsave ? CR4_OSXSAVE : 0) |
                      (osfxsr ? CR4_OSFXSR : 0));
            write_cr0(plain_cr0 | (ts ? CR0_TS : 0) | (em ? CR0_EM : 0));
            expect_trap(run(&c), e, "%s, OSXSAVE %u OSFXSR %u XCR0 %u TS %u EM %u CPL %u", rows[i].name,
                        osxsave, osfxsr, xcr0, ts, em, user * 3);
            write_cr0(plain_cr0);
            write_cr4(plain_cr4);
        }
    xsetbv(X87 | SSE | AVX);
}

/* Real and virtual-8086 mode have no VEX: LES and LDS with a register, which is #UD. */
static void virtual_8086(void)
{
#ifndef __x86_64__
    struct code rows[] = {CODE32("vzeroupper"), CODE32("vaddps xmm0, xmm1, xmm2"),
                          CODE32("vpaddb ymm0, ymm1, ymm2"), CODE32("vpermilps xmm0, xmm1, 0")};

    group("virtual-8086 mode");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = {.flags = FLAG_FIXED | FLAG_VM,
                            .sp = 0x8000,
                            .cs = REAL_CODE >> 4,
                            .ss = REAL_STACK >> 4,
                            .ds = REAL_DATA >> 4,
                            .es = REAL_DATA >> 4};

        place(rows[i], REAL_CODE);
        expect_trap(run(&c), FAULT(UD, 0), "form %u", i);
    }
#endif
}

/* ---- Encoding ---- */

static void encoding(void)
{
    static const struct {
        const char *name;
        u8 length, bytes[8];
        bool good;
    } rows[] = {
        {"VADDPS", 4, {0xc5, 0xf0, 0x58, 0xc2}, true},
        {"VADDPS, three-byte form", 5, {0xc4, 0xe1, 0x70, 0x58, 0xc2}, true},
        {"VADDPS, segment prefix", 5, {0x3e, 0xc5, 0xf0, 0x58, 0xc2}, true},
        {"VADDPS, address size prefix", 5, {0x67, 0xc5, 0xf0, 0x58, 0xc2}, true},
        {"VADDPS, LOCK", 5, {0xf0, 0xc5, 0xf0, 0x58, 0xc2}, false},
        {"VADDPS, 66", 5, {0x66, 0xc5, 0xf0, 0x58, 0xc2}, false},
        {"VADDPS, F2", 5, {0xf2, 0xc5, 0xf0, 0x58, 0xc2}, false},
        {"VADDPS, F3", 5, {0xf3, 0xc5, 0xf0, 0x58, 0xc2}, false},
        {"VADDPS, 66 before another prefix", 6, {0x66, 0x3e, 0xc5, 0xf0, 0x58, 0xc2}, false},
#ifdef __x86_64__
        {"VADDPS, REX", 5, {0x40, 0xc5, 0xf0, 0x58, 0xc2}, false},
        {"VADDPS, REX before another prefix", 6, {0x48, 0x3e, 0xc5, 0xf0, 0x58, 0xc2}, true},
#endif
        {"map 0", 5, {0xc4, 0xe0, 0x70, 0x58, 0xc2}, false},
        {"map 4", 5, {0xc4, 0xe4, 0x70, 0x58, 0xc2}, false},
        {"map 31", 5, {0xc4, 0xff, 0x70, 0x58, 0xc2}, false},
        {"VMOVUPS, vvvv", 4, {0xc5, 0xf0, 0x10, 0xc2}, false},
        {"VMOVUPS", 4, {0xc5, 0xf8, 0x10, 0xc2}, true},
        {"VMOVD, L", 4, {0xc5, 0xfd, 0x6e, 0xc0}, false},
        {"VMOVD", 4, {0xc5, 0xf9, 0x6e, 0xc0}, true},
        {"VMOVHLPS, L", 4, {0xc5, 0xf4, 0x12, 0xc2}, false},
        {"VZEROALL, vvvv", 3, {0xc5, 0xf4, 0x77}, false},
        {"VPERMQ, W0", 6, {0xc4, 0xe3, 0x7d, 0x00, 0xc2, 0x00}, false},
        {"VPERMQ, L0", 6, {0xc4, 0xe3, 0xf9, 0x00, 0xc2, 0x00}, false},
        {"VPERMQ", 6, {0xc4, 0xe3, 0xfd, 0x00, 0xc2, 0x00}, true},
        {"VBROADCASTSD to xmm", 5, {0xc4, 0xe2, 0x79, 0x19, 0xc2}, false},
        {"VPGATHERDD without SIB", 5, {0xc4, 0xe2, 0x71, 0x90, 0x03}, false},
        {"VPGATHERDD, index is the mask", 6, {0xc4, 0xe2, 0x71, 0x90, 0x04, 0x0b}, false},
        {"VPGATHERDD, index is the destination", 6, {0xc4, 0xe2, 0x71, 0x90, 0x14, 0x13}, false},
        {"VPGATHERDD, mask is the destination", 6, {0xc4, 0xe2, 0x71, 0x90, 0x0c, 0x13}, false},
        {"VPGATHERDD", 6, {0xc4, 0xe2, 0x71, 0x90, 0x04, 0x13}, true},
    };

    group("encoding");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = data_context(false, (struct code){rows[i].bytes, rows[i].bytes + rows[i].length});

        memset(registers, 0, sizeof(registers));
        load_registers();
        expect_trap(run(&c), rows[i].good ? END : FAULT(UD, 0), "%s", rows[i].name);
    }
}

/* ---- Upper halves ---- */

static void upper_halves(void)
{
    struct context c;

    group("upper halves");
    fill_registers();
    c = user_context(CODEN("vzeroupper"));
    expect_trap(run(&c), END, "VZEROUPPER");
    store_registers();
    for (unsigned n = 0; n < REGISTERS; n++)
        expect_true(filled(n, 0, 16) && zero(n, 16, 32), "VZEROUPPER: register %u", n);
    fill_registers();
    c = user_context(CODEN("vzeroall"));
    expect_trap(run(&c), END, "VZEROALL");
    store_registers();
    for (unsigned n = 0; n < REGISTERS; n++)
        expect_true(zero(n, 0, 32), "VZEROALL: register %u", n);
#ifdef __x86_64__
    /* Outside 64-bit code there are eight registers. */
    for (unsigned all = 0; all < 2; all++) {
        fill_registers();
        c = user_context(all ? CODE32("vzeroall") : CODE32("vzeroupper"));
        c.cs = SEL_UCODE32;
        expect_trap(run(&c), END, "VZERO%s in compatibility mode", all ? "ALL" : "UPPER");
        store_registers();
        for (unsigned n = 0; n < 8; n++)
            expect_true(zero(n, 16, 32) && (all ? zero(n, 0, 16) : filled(n, 0, 16)),
                        "compatibility mode: register %u", n);
        for (unsigned n = 8; n < 16; n++)
            expect_true(filled(n, 0, 32), "compatibility mode: register %u", n);
    }
#endif
    fill_registers();
    c = user_context(CODEN("movaps xmm0, xmm1\n xorps xmm2, xmm2\n movd xmm3, eax"));
    expect_trap(run(&c), END, "legacy SSE");
    store_registers();
    for (unsigned n = 0; n < REGISTERS; n++)
        expect_true(filled(n, 16, 32), "legacy SSE: register %u", n);
    fill_registers();
    c = user_context(CODEN("vmovaps xmm0, xmm1\n vxorps xmm2, xmm2, xmm4\n vmovd xmm3, eax"));
    expect_trap(run(&c), END, "VEX.128");
    store_registers();
    for (unsigned n = 0; n < REGISTERS; n++)
        expect_true(n == 0 || n == 2 || n == 3 ? zero(n, 16, 32) : filled(n, 16, 32), "VEX.128: register %u",
                    n);
}

/* ---- Alignment ---- */

static void alignment(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned alignment;
    } rows[] = {
        {"VMOVAPS xmm", CODEN("vmovaps xmm0, [" BX "]"), 16},
        {"VMOVAPS ymm", CODEN("vmovaps ymm0, [" BX "]"), 32},
        {"VMOVAPD to memory, xmm", CODEN("vmovapd [" BX "], xmm0"), 16},
        {"VMOVAPD to memory, ymm", CODEN("vmovapd [" BX "], ymm0"), 32},
        {"VMOVDQA xmm", CODEN("vmovdqa xmm0, [" BX "]"), 16},
        {"VMOVDQA to memory, ymm", CODEN("vmovdqa [" BX "], ymm0"), 32},
        {"VMOVNTPS xmm", CODEN("vmovntps [" BX "], xmm0"), 16},
        {"VMOVNTPD ymm", CODEN("vmovntpd [" BX "], ymm0"), 32},
        {"VMOVNTDQ ymm", CODEN("vmovntdq [" BX "], ymm0"), 32},
        {"VMOVNTDQA xmm", CODEN("vmovntdqa xmm0, [" BX "]"), 16},
        {"VMOVNTDQA ymm", CODEN("vmovntdqa ymm0, [" BX "]"), 32},
        {"VMOVUPS ymm", CODEN("vmovups ymm0, [" BX "]"), 1},
        {"VADDPS xmm", CODEN("vaddps xmm0, xmm1, [" BX "]"), 1},
        {"VADDPS ymm", CODEN("vaddps ymm0, ymm1, [" BX "]"), 1},
        {"VPADDB xmm", CODEN("vpaddb xmm0, xmm1, [" BX "]"), 1},
        {"VINSERTF128", CODEN("vinsertf128 ymm0, ymm1, [" BX "], 1"), 1},
        {"VBROADCASTF128", CODEN("vbroadcastf128 ymm0, [" BX "]"), 1},
        {"VMASKMOVPS", CODEN("vmaskmovps ymm0, ymm1, [" BX "]"), 1},
        {"VPSLLW xmm count", CODEN("vpsllw ymm0, ymm1, [" BX "]"), 1},
    };

    group("alignment");
    memset((void *)DATA_AREA, 0, 256);
    memset(registers, 0, sizeof(registers));
    load_registers();
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned offset = 0; offset < 33; offset++) {
            struct context c = data_context(true, rows[i].code);

            c.bx = DATA_AREA + offset;
            expect_trap(run(&c), offset % rows[i].alignment ? FAULT(GP, 0) : END, "%s at offset %u",
                        rows[i].name, offset);
        }
}

/* ---- Unmasked exceptions ---- */

static void simd_errors(void)
{
    group("SIMD errors");
    /* 1 / 0 in one element of eight, and nothing else. */
    for (unsigned element = 0; element < 8; element++)
        for (unsigned n = 0; n < 4; n++) {
            bool unmasked = n & 1, enabled = n & 2;
            struct context c = user_context(CODEN("vdivps ymm0, ymm1, ymm2"));

            for (unsigned e = 0; e < 8; e++) {
                ((u32 *)registers[1])[e] = 0x3f800000;
                ((u32 *)registers[2])[e] = e == element ? 0 : 0x3f800000;
            }
            for (unsigned b = 0; b < 32; b++)
                registers[0][b] = pattern(0, b);
            load_registers();
            set_mxcsr(unmasked ? MXCSR_INIT & ~MXCSR_ZM : MXCSR_INIT);
            write_cr4((plain_cr4 & ~(ulong)CR4_OSXMMEXCPT) | (enabled ? CR4_OSXMMEXCPT : 0));
            expect_trap(run(&c), !unmasked ? END : FAULT(enabled ? XM : UD, 0),
                        "element %u, unmasked %u, OSXMMEXCPT %u", element, unmasked, enabled);
            write_cr4(plain_cr4);
            expect_equal(get_mxcsr() & 0x3f, MXCSR_ZE, "element %u, unmasked %u: flags", element, unmasked);
            store_registers();
            expect_equal(filled(0, 0, 32), unmasked, "element %u, unmasked %u: the destination", element,
                         unmasked);
        }
    set_mxcsr(MXCSR_INIT);
}

/* ---- Page faults: a page that ends at EDGE, and then nothing ---- */

#define EDGE ((ulong)0x1000000)

#ifdef __x86_64__
extern u64 boot_pd[];
static void map_beyond(bool present)
{
    boot_pd[EDGE >> 21] = present ? EDGE | PAGE_P | PAGE_W | PAGE_U | PAGE_PS : 0;
    invlpg(EDGE);
}
static void start_paging(void) {}
static void stop_paging(void)
{
    map_beyond(true);
}
#else
static u32 directory[1024] __attribute__((aligned(4096)));
static void map_beyond(bool present)
{
    directory[EDGE >> 22] = present ? EDGE | PAGE_P | PAGE_W | PAGE_U | PAGE_PS : 0;
    invlpg(EDGE);
}
static void start_paging(void)
{
    for (unsigned n = 0; n < 1024; n++)
        directory[n] = n << 22 | PAGE_P | PAGE_W | PAGE_U | PAGE_PS;
    write_cr4(plain_cr4 | CR4_PSE);
    write_cr3((ulong)directory);
    write_cr0(plain_cr0 | CR0_PG);
}
static void stop_paging(void)
{
    write_cr0(plain_cr0);
    write_cr4(plain_cr4);
}
#endif

static u8 memory_pattern(unsigned n)
{
    return (u8)(0x80 + n * 7);
}

/* Every mask; the operand begins so far before the edge that it ends anywhere. */
static void masked_moves(void)
{
    struct {
        const char *name;
        struct code load, store;
        unsigned count, size;
    } rows[] = {
        {"VMASKMOVPS xmm", CODEN("vmaskmovps xmm0, xmm1, [" BX "]"), CODEN("vmaskmovps [" BX "], xmm1, xmm0"),
         4, 4},
        {"VMASKMOVPS ymm", CODEN("vmaskmovps ymm0, ymm1, [" BX "]"), CODEN("vmaskmovps [" BX "], ymm1, ymm0"),
         8, 4},
        {"VMASKMOVPD xmm", CODEN("vmaskmovpd xmm0, xmm1, [" BX "]"), CODEN("vmaskmovpd [" BX "], xmm1, xmm0"),
         2, 8},
        {"VPMASKMOVD ymm", CODEN("vpmaskmovd ymm0, ymm1, [" BX "]"), CODEN("vpmaskmovd [" BX "], ymm1, ymm0"),
         8, 4},
        {"VPMASKMOVQ ymm", CODEN("vpmaskmovq ymm0, ymm1, [" BX "]"), CODEN("vpmaskmovq [" BX "], ymm1, ymm0"),
         4, 8},
    };

    group("masked moves at the end of a page");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned before = 0; before <= rows[i].count * rows[i].size + 2; before += 2)
            for (unsigned mask = 0; mask < 1u << rows[i].count; mask++)
                for (unsigned store = 0; store < 2; store++) {
                    unsigned count = rows[i].count, size = rows[i].size;
                    struct context c = user_context(store ? rows[i].store : rows[i].load);
                    u8 *at = (u8 *)EDGE - before;
                    const struct trap *trap;
                    bool fault = false, good = true;

                    memset(registers, 0x7f, sizeof(registers));
                    for (unsigned n = 0; n < count; n++) {
                        if (mask >> n & 1)
                            registers[1][n * size + size - 1] = 0x80;
                        fault |= mask >> n & 1 && (n + 1) * size > before;
                    }
                    for (unsigned b = 0; b < 32; b++)
                        registers[0][b] = pattern(0, b);
                    load_registers();
                    for (unsigned b = 0; b < before; b++)
                        at[b] = memory_pattern(b);
                    map_beyond(false);
                    c.bx = (ulong)at;
                    trap = run(&c);
                    expect_trap(trap, fault ? FAULT(PF, ERROR_U | (store ? ERROR_W : 0)) : END,
                                "%s, %s, mask %02x, %u bytes before the edge", rows[i].name,
                                store ? "store" : "load", mask, before);
                    if (fault)
                        expect_true(trap->cr2 - EDGE < 32, "%s, mask %02x, %u bytes: CR2", rows[i].name, mask,
                                    before);
                    store_registers();
                    for (unsigned b = 0; b < 32; b++) {
                        bool chosen = b < count * size && mask >> b / size & 1;
                        u8 loaded = chosen ? memory_pattern(b) : 0;

                        good &= registers[0][b] == (store || fault ? pattern(0, b) : loaded);
                        if (b < before)
                            good &= at[b] == (store && !fault && chosen ? pattern(0, b) : memory_pattern(b));
                    }
                    expect_true(good, "%s, %s, mask %02x, %u bytes: result", rows[i].name,
                                store ? "store" : "load", mask, before);
                }
}

/* Every mask, and every set of elements that are beyond the edge: what is loaded before the fault stays, the instruction
   goes on from there, and a trap that is due takes the fault's place. */
static void gathers(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned bytes, count, size, index_size;
    } rows[] = {
        {"VPGATHERDD xmm", CODEN("vpgatherdd xmm0, [" BX " + xmm2 * 4], xmm1"), 16, 4, 4, 4},
        {"VGATHERDPS ymm", CODEN("vgatherdps ymm0, [" BX " + ymm2 * 4], ymm1"), 32, 8, 4, 4},
        {"VPGATHERDQ ymm", CODEN("vpgatherdq ymm0, [" BX " + xmm2 * 4], ymm1"), 32, 4, 8, 4},
        {"VPGATHERQD ymm", CODEN("vpgatherqd xmm0, [" BX " + ymm2 * 4], xmm1"), 32, 4, 4, 8},
        {"VGATHERQPD xmm", CODEN("vgatherqpd xmm0, [" BX " + xmm2 * 4], xmm1"), 16, 2, 8, 8},
    };

    group("gathers");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned step = rows[i].count == 8 ? 5 : 1; /* of eight elements not every pair */

        for (unsigned mask = 0; mask < 1u << rows[i].count; mask += step)
            for (unsigned beyond = 0; beyond < 1u << rows[i].count; beyond += step)
                for (unsigned tf = 0; tf < 2; tf++) {
                    unsigned count = rows[i].count, size = rows[i].size, first = 0;
                    struct context c = user_context(rows[i].code);
                    const struct trap *trap;
                    bool good = true, some;

                    memset(registers, 0, sizeof(registers));
                    map_beyond(true);
                    while (first < count && !((mask & beyond) >> first & 1))
                        first++; /* the element that faults; `count` if none does */
                    some = mask & ((1u << first) - 1);
                    for (unsigned n = 0; n < count; n++) {
                        long long index = (beyond >> n & 1 ? 0x10 : -0x40) + 2 * (long long)n;

                        if (mask >> n & 1)
                            registers[1][n * size + size - 1] = 0x80;
                        memcpy(&registers[2][n * rows[i].index_size], &index, rows[i].index_size);
                        for (unsigned b = 0; b < size; b++)
                            ((u8 *)EDGE + index * 4)[b] = memory_pattern(n * size + b);
                    }
                    for (unsigned b = 0; b < 32; b++)
                        registers[0][b] = pattern(0, b);
                    load_registers();
                    map_beyond(false);
                    c.bx = EDGE;
                    if (tf)
                        c.flags |= FLAG_TF;
                    trap = run(&c);
                    if (first == count)
                        expect_trap(trap,
                                    tf ? FAULT_AT(DB, 0, (int)(rows[i].code.end - rows[i].code.begin)) : END,
                                    "%s, mask %02x, beyond %02x", rows[i].name, mask, beyond);
                    else if (tf && some)
                        expect_trap(trap, FAULT(DB, 0), "%s, mask %02x, beyond %02x, TF", rows[i].name, mask,
                                    beyond);
                    else
                        expect_trap(trap, FAULT(PF, ERROR_U), "%s, mask %02x, beyond %02x", rows[i].name,
                                    mask, beyond);
                    if (trap->vector == PF)
                        expect_equal(trap->cr2, EDGE + (0x10 + 2 * first) * 4,
                                     "%s, mask %02x, beyond %02x: CR2", rows[i].name, mask, beyond);
                    store_registers();
                    for (unsigned n = 0; n < count; n++) {
                        bool loaded = n < first && mask >> n & 1;

                        good &= registers[1][n * size + size - 1] >> 7 == (n >= first && mask >> n & 1);
                        for (unsigned b = n * size; b < (n + 1) * size; b++)
                            good &= registers[0][b] == (loaded ? memory_pattern(b) : pattern(0, b));
                    }
                    if (first == count)
                        good &= zero(1, 0, 32) && zero(0, count * size, 32);
                    expect_true(good, "%s, mask %02x, beyond %02x: registers", rows[i].name, mask, beyond);
                    if (trap->vector != PF)
                        continue;
                    map_beyond(true); /* and again, as after the fault of a demand-paged page */
                    load_registers();
                    expect_trap(run(&c),
                                tf ? FAULT_AT(DB, 0, (int)(rows[i].code.end - rows[i].code.begin)) : END,
                                "%s, mask %02x, beyond %02x, again", rows[i].name, mask, beyond);
                    store_registers();
                    good = zero(1, 0, 32) && zero(0, count * size, 32);
                    for (unsigned b = 0; b < count * size; b++)
                        good &= registers[0][b] == (mask >> b / size & 1 ? memory_pattern(b) : pattern(0, b));
                    expect_true(good, "%s, mask %02x, beyond %02x: registers after the second run",
                                rows[i].name, mask, beyond);
                }
    }
}

void test(void)
{
    if (!cpu_has(FEATURE(1, c, 28)) || !cpu_has(FEATURE(7, b, 5))) {
        skip_group("AVX", "no AVX2");
        return;
    }
    plain_cr0 = read_cr0() & ~(ulong)(CR0_TS | CR0_EM);
    plain_cr4 = read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    write_cr0(plain_cr0);
    write_cr4(plain_cr4);
    xsetbv(X87 | SSE | AVX);
    enabling();
    virtual_8086();
    encoding();
    upper_halves();
    alignment();
    simd_errors();
    start_paging();
    masked_moves();
    gathers();
    stop_paging();
}
