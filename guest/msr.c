/*
 * CPUID leaves against one another, and MSRs: which bits are reserved, what reads back, what does not exist. 64-bit kernel.
 * SDM 2A CPUID; 3A 12.11 (MTRRs) and 12.12 (PAT); 4 chapter 2.
 */
#include "guest.h"

static bool write_msr(u32 msr, u64 value)
{
    struct context c = kernel_context(CODE64("wrmsr"));

    c.cx = msr;
    c.ax = (u32)value;
    c.dx = value >> 32;
    return run(&c)->vector == VECTOR_END;
}

static bool read_msr(u32 msr, u64 *value)
{
    struct context c = kernel_context(CODE64("rdmsr"));
    const struct trap *trap;

    c.cx = msr;
    trap = run(&c);
    *value = (u32)trap->at.ax | trap->at.dx << 32;
    return trap->vector == VECTOR_END;
}

/* ---- CPUID ---- */

static void leaves(void)
{
    struct cpuid l0 = cpuid(0, 0), l1 = cpuid(1, 0), last, other;
    u32 extended = cpuid(0x80000000, 0).a;

    group("CPUID");
    expect_true(l0.a >= 1 && l0.a < 0x100, "the highest leaf");
    expect_true((l0.b == 0x756e6547 && l0.d == 0x49656e69 && l0.c == 0x6c65746e) || cpu_is_amd(),
                "a vendor that is known");
    expect_true(extended >= 0x80000008 && extended < 0x80000100, "the highest extended leaf");
    last = cpuid(l0.a, 0);
    other = cpuid(l0.a + 0x100, 0);
    if (cpu_is_amd())
        expect_true(!(other.a | other.b | other.c | other.d), "AMD: beyond the last leaf is zero");
    else
        expect_true(!memcmp(&last, &other, sizeof(last)), "Intel: beyond the last leaf is the last");
    expect_true(cpu_has(CPU_LM), "long mode, in which this runs");
    expect_true(cpu_phys_bits() >= 36 && cpu_phys_bits() <= 52, "physical address bits");
    expect_true((cpuid(0x80000008, 0).a >> 8 & 0xff) >= 48, "virtual address bits");
    expect_true((l1.d & 0x07808111) == 0x07808111,
                "FPU, TSC, CX8, CMOV, MMX, FXSR, SSE, SSE2: the baseline of x86-64");
    /* Features that build on others. */
    static const struct {
        const char *name;
        struct feature feature, base;
    } rows[] = {
        {"SSE3 needs SSE2", FEATURE(1, c, 0), FEATURE(1, d, 26)},
        {"SSSE3 needs SSE3", FEATURE(1, c, 9), FEATURE(1, c, 0)},
        {"SSE4.1 needs SSSE3", FEATURE(1, c, 19), FEATURE(1, c, 9)},
        {"SSE4.2 needs SSE4.1", FEATURE(1, c, 20), FEATURE(1, c, 19)},
        {"AVX needs XSAVE", FEATURE(1, c, 28), FEATURE(1, c, 26)},
        {"AVX2 needs AVX", FEATURE(7, b, 5), FEATURE(1, c, 28)},
        {"FMA needs AVX", FEATURE(1, c, 12), FEATURE(1, c, 28)},
        {"F16C needs AVX", FEATURE(1, c, 29), FEATURE(1, c, 28)},
        {"INVPCID needs PCID", FEATURE(7, b, 10), FEATURE(1, c, 17)},
        {"x2APIC needs APIC", FEATURE(1, c, 21), FEATURE(1, d, 9)},
        {"PCLMULQDQ needs SSE2", FEATURE(1, c, 1), FEATURE(1, d, 26)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        expect_true(!cpu_has(rows[i].feature) || cpu_has(rows[i].base), "%s", rows[i].name);
    /* OSXSAVE follows CR4; the local APIC's flag is in apic.c. */
    if (cpu_has(CPU_XSAVE)) {
        u32 a, d;

        write_cr4(read_cr4() | CR4_OSXSAVE);
        expect_equal(cpuid(1, 0).c >> 27 & 1, 1, "OSXSAVE with CR4.OSXSAVE");
        asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        expect_true(a & 1, "XCR0 has the x87 state");
        expect_equal(cpuid(0xd, 0).a & 3, 3, "x87 and SSE states can be saved");
        expect_true(cpuid(0xd, 0).c >= 576, "the area holds the legacy region and the header");
        expect_true(cpuid(0xd, 0).b <= cpuid(0xd, 0).c, "what is enabled fits into what can be");
        for (u32 bit = 2; bit < 32; bit++) {
            struct cpuid sub = cpuid(0xd, bit);

            if (cpuid(0xd, 0).a >> bit & 1)
                expect_true(sub.a && sub.a + sub.b <= cpuid(0xd, 0).c, "state component %u has a place", bit);
        }
        write_cr4(read_cr4() & ~(ulong)CR4_OSXSAVE);
        expect_equal(cpuid(1, 0).c >> 27 & 1, 0, "OSXSAVE without CR4.OSXSAVE");
    }
    if (l0.a >= 0xb && cpuid(0xb, 0).b) {
        expect_equal(cpuid(0xb, 0).d, l1.b >> 24, "leaf 0Bh has the APIC ID of leaf 1");
        expect_equal(cpuid(0xb, 7).a | cpuid(0xb, 7).b, 0, "a subleaf of 0Bh that is not there");
        expect_equal(cpuid(0xb, 7).c & 0xff, 7, "which tells its number");
    }
    /* The upper halves are cleared. */
    struct context c = user_context(CODE64("cpuid"));
    const struct trap *trap;
    c.ax = 0xffffffff00000000;
    c.bx = c.cx = c.dx = 0xffffffffffffffff;
    trap = run(&c);
    expect_equal((trap->at.ax | trap->at.bx | trap->at.cx | trap->at.dx) >> 32, 0,
                 "CPUID clears the upper halves");
}

/* CR4 takes what CPUID offers, and nothing else. */
static void control_register_4(void)
{
    struct {
        const char *name;
        unsigned bit;
        struct feature feature;
    } rows[] = {
        {"UMIP", 11, CPU_UMIP},
        {"FSGSBASE", 16, CPU_FSGSBASE},
        {"PCIDE", 17, CPU_PCID},
        {"OSXSAVE", 18, CPU_XSAVE},
        {"SMEP", 20, CPU_SMEP},
        {"SMAP", 21, CPU_SMAP},
        {"PKE", 22, FEATURE(7, c, 3)},
        {"CET", 23, FEATURE(7, c, 7)},
        {"LA57, in 64-bit mode", 12, FEATURE(7, c, 16)},
        {"VMXE", 13, FEATURE(1, c, 5)},
        {"SMXE", 14, FEATURE(1, c, 6)},
        {"a reserved bit", 15, {0x4fffffff, 0, 0}},
        {"PKS", 24, FEATURE(7, c, 31)},
        {"a reserved bit", 19, {0x4fffffff, 0, 0}},
        {"a reserved bit", 29, {0x4fffffff, 0, 0}},
    };
    ulong cr4 = read_cr4();

    group("CR4 and CPUID");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c = kernel_context(CODE64("mov cr4, rax"));
        bool there = rows[i].feature.leaf < 0x4fffffff && cpu_has(rows[i].feature);

        if (there && (rows[i].bit == 12 || rows[i].bit == 23 || rows[i].bit == 14 || rows[i].bit == 20 ||
                      rows[i].bit == 21))
            continue; /* has conditions of its own, or ends this kernel, which runs in user pages */
        c.ax = cr4 | 1ul << rows[i].bit;
        expect_trap(run(&c), there ? END : FAULT(GP, 0), "%s", rows[i].name);
        write_cr4(cr4);
    }
}

/* ---- MSRs ---- */

static void unknown(void)
{
    static const u32 numbers[] = {0x2,        0x5,        0x4fffffff, 0x40100000,
                                  0x80000000, 0xbfffffff, 0xc0001fff, 0xffffffff};

    group("MSRs that do not exist");
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        u64 value;

        expect_equal(read_msr(numbers[i], &value), 0, "read of %x", numbers[i]);
        expect_equal(write_msr(numbers[i], 0), 0, "write of %x", numbers[i]);
    }
}

static bool memory_type(unsigned type)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static void memory_types(void)
{
    u64 capabilities = rdmsr(0xfe), value, reserved = ~0ull << cpu_phys_bits();
    static const u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    unsigned count = capabilities & 0xff;

    group("PAT");
    for (unsigned type = 0; type < 256; type++) {
        for (unsigned slot = 0; slot < 8; slot += 7) {
            u64 pat = 0x0007040600070406ull;

            pat = (pat & ~(0xffull << (8 * slot))) | (u64)type << (8 * slot);
            bool good = memory_type(type) || type == 7;
            expect_equal(write_msr(MSR_PAT, pat), good, "type %u in slot %u", type, slot);
            if (good)
                expect_equal(rdmsr(MSR_PAT), pat, "type %u in slot %u: value", type, slot);
        }
    }
    wrmsr(MSR_PAT, 0x0007040600070406ull);

    group("MTRRs");
    expect_true(count >= 8 && count <= 10, "8 to 10 variable ranges");
    expect_equal(write_msr(0xfe, capabilities), 0, "the capabilities are read-only");
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 type = rdmsr(0x2ff);
        bool good = bit < 8 ? memory_type(1u << bit) : bit == 10 || bit == 11;

        expect_equal(write_msr(0x2ff, bit < 8 ? (type & ~0xffull) | 1ull << bit : type | 1ull << bit), good,
                     "default type, bit %u", bit);
        wrmsr(0x2ff, type);
    }
    for (unsigned i = 0; i < count; i++) {
        u32 base = 0x200 + 2 * i, mask = base + 1;
        u64 saved_base = rdmsr(base), saved_mask = rdmsr(mask);

        expect_equal(write_msr(mask, 0), 1, "range %u off", i);
        for (unsigned type = 0; type < 9; type++)
            expect_equal(write_msr(base, 0x12345000 | type), memory_type(type), "range %u, type %u", i, type);
        expect_equal(write_msr(base, 1 << 8 | 6), 0, "range %u, reserved bit 8 of the base", i);
        expect_equal(write_msr(base, 1 << 11 | 6), 0, "range %u, reserved bit 11 of the base", i);
        expect_equal(write_msr(mask, 1), 0, "range %u, reserved bit 0 of the mask", i);
        if (reserved) {
            expect_equal(write_msr(base, (reserved & -reserved) | 6), 0, "range %u, base beyond MAXPHYADDR",
                         i);
            expect_equal(write_msr(mask, (reserved & -reserved) | 0x800), 0,
                         "range %u, mask beyond MAXPHYADDR", i);
        }
        wrmsr(base, 0x12345006);
        expect_equal(rdmsr(base), 0x12345006, "range %u, base reads back", i);
        wrmsr(mask, (~reserved & ~0xfffull) | 0x000);
        expect_equal(rdmsr(mask), ~reserved & ~0xfffull, "range %u, mask reads back", i);
        wrmsr(base, saved_base);
        wrmsr(mask, saved_mask);
    }
    expect_equal(read_msr(0x200 + 2 * count, &value), 0, "one range too many");
    if (!(capabilities >> 8 & 1))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
        u64 saved = rdmsr(fixed[i]);

        for (unsigned type = 0; type < 9; type++)
            expect_equal(write_msr(fixed[i], (saved & ~0xff00ull) | type << 8), memory_type(type),
                         "fixed range %x, type %u", fixed[i], type);
        wrmsr(fixed[i], saved);
    }
}

static void time_stamp(void)
{
    u64 a = rdtsc(), b = rdtsc(), value;

    group("time-stamp counter");
    expect_true(b > a, "it goes up");
    wrmsr(0x10, 0x123456789abcull);
    value = rdtsc();
    expect_true(value >= 0x123456789abcull && value < 0x123456789abcull + (1ull << 40), "it can be set");
    expect_true(rdmsr(0x10) >= value, "the MSR is the counter");
    if (!cpu_has(FEATURE(7, b, 1)))
        return;
    value = rdmsr(0x3b);
    wrmsr(0x3b, value + (1ull << 40));
    expect_true(rdtsc() >= 0x123456789abcull + (1ull << 40), "TSC_ADJUST moves it");
    wrmsr(0x3b, value);
    if (cpu_has(FEATURE(0x80000001, d, 27))) {
        struct context c = user_context(CODE64("rdtscp"));
        const struct trap *trap;

        wrmsr(0xc0000103, 0x77);
        trap = run(&c);
        expect_trap(trap, END, "RDTSCP");
        expect_equal(trap->at.cx, 0x77, "RDTSCP gives TSC_AUX");
        expect_equal(write_msr(0xc0000103, 1ull << 32) && rdmsr(0xc0000103) >> 32, 0, "TSC_AUX has 32 bits");
    }
}

static void others(void)
{
    u64 value;

    group("other MSRs");
    expect_true(read_msr(MSR_APIC_BASE, &value), "IA32_APIC_BASE");
    if (!cpu_is_amd()) {
        expect_true(read_msr(0x17, &value), "IA32_PLATFORM_ID");
        expect_true(read_msr(0x8b, &value), "IA32_BIOS_SIGN_ID");
        expect_true(read_msr(0x1a0, &value) && value & 1, "IA32_MISC_ENABLE has fast strings");
        /* Fast strings, thermal control, SpeedStep, MONITOR, CPUID's limit, xTPR, XD: SDM 4 table 2-2. */
        expect_true(write_msr(0x1a0, (value & 0x1880) | 0x400c50009),
                    "IA32_MISC_ENABLE, all that is writable");
        expect_equal(rdmsr(0x1a0), (value & 0x1880) | 0x400c50009, "IA32_MISC_ENABLE keeps it");
        wrmsr(0x1a0, value);
    }
    expect_true(read_msr(0x179, &value), "MCG_CAP");
    for (unsigned bank = 0; bank < (value & 0xff); bank++) {
        u64 status;

        expect_true(read_msr(0x400 + 4 * bank, &status), "machine check bank %u, control", bank);
        expect_true(read_msr(0x401 + 4 * bank, &status) && !(status >> 63), "machine check bank %u, status",
                    bank);
        expect_equal(write_msr(0x401 + 4 * bank, 1), 0, "machine check bank %u, status takes only zero",
                     bank);
    }
    for (unsigned bank = value & 0xff; bank < 32; bank++) {
        for (unsigned msr = 0x400 + 4 * bank; msr < 0x404 + 4 * bank; msr++) {
            u64 none;

            expect_true(!read_msr(msr, &none) && !write_msr(msr, 0), "machine check bank %u does not exist",
                        bank);
        }
    }
    expect_true(write_msr(MSR_STAR, 0xfedcba9876543210ull) && rdmsr(MSR_STAR) == 0xfedcba9876543210ull,
                "STAR holds anything");
    wrmsr(MSR_STAR, 0);
    for (u32 msr = MSR_SYSENTER_CS; msr <= MSR_SYSENTER_EIP; msr++) {
        expect_true(write_msr(msr, 0x12345678) && rdmsr(msr) == 0x12345678, "SYSENTER's MSR %x", msr);
        wrmsr(msr, 0);
    }
}

void test(void)
{
    leaves();
    control_register_4();
    unknown();
    memory_types();
    time_stamp();
    others();
}
