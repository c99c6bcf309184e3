/*
 * The XSAVE family: CPUID leaf 0Dh, XCR0, the standard and the compacted format, what is left out when it is in its initial
 * state, and what faults. 32- and 64-bit. SDM 1 chapter 13; SDM 2 for each instruction.
 */
#include "guest.h"

enum {
    X87 = 1 << 0,
    SSE = 1 << 1,
    AVX = 1 << 2,
    PKRU = 1 << 9,
    MXCSR = 1 << 30, /* in the subsets of this file: MXCSR is not 1F80h */
    AREA = DATA_AREA,
    AREA_SIZE = 4096,
    IMAGE = DATA_AREA + 0x1000, /* to load from */
    HEADER = 512,
    FILLING = 0xcc,
    MXCSR_INIT = 0x1f80,
    MXCSR_OTHER = 0x9fc0,
};
#define COMPACT (1ull << 63)

#ifdef __x86_64__
enum { REGISTERS = 16 };
#define CODEN(text) CODE64(text)
#define BX          "rbx"
#else
enum { REGISTERS = 8 };
#define CODEN(text) CODE32(text)
#define BX          "ebx"
#endif

static u32 supported; /* bits of XCR0 that are there; no component above 31 is looked at */

/* The n-th subset of the components that this file knows; false after the last. */
static bool subset(unsigned n, u32 *components)
{
    static const u32 known[] = {X87, SSE, AVX, PKRU};

    *components = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        if (n >> i & 1)
            *components |= known[i];
    return n < 16;
}

static void xsetbv(u32 value)
{
    asm volatile("xsetbv" ::"a"(value), "c"(0), "d"(0));
}
static u32 xgetbv(u32 index)
{
    u32 low, high;

    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(index));
    return low;
}
static u32 rdpkru(void)
{
    u32 low, high;

    asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
static void wrpkru(u32 value)
{
    asm volatile(".byte 0x0f, 0x01, 0xef" ::"a"(value), "c"(0), "d"(0));
}

/* Instructions that store, and those that load; the area is at the address in a register. */
enum { XSAVE, XSAVEOPT, XSAVEC, XSAVES, STORES, XRSTOR = STORES, XRSTORS, FORMS };
static const char *const names[] = {"XSAVE", "XSAVEOPT", "XSAVEC", "XSAVES", "XRSTOR", "XRSTORS"};

static bool has_form(unsigned form)
{
    static const u8 bits[] = {[XSAVEOPT] = 1, [XSAVEC] = 2, [XSAVES] = 8, [XRSTORS] = 8, [FORMS] = 0};

    return !bits[form] || cpuid(0xd, 1).a & bits[form];
}

static void execute(unsigned form, ulong area, u32 features)
{
    switch (form) {
#define FORM(number, text)                                                                                   \
    case number: asm volatile(text " (%0)" ::"r"(area), "a"(features), "d"(0) : "memory"); break;
        FORM(XSAVE, "xsave")
        FORM(XSAVEOPT, "xsaveopt")
        FORM(XSAVEC, "xsavec")
        FORM(XSAVES, "xsaves")
        FORM(XRSTOR, "xrstor")
        FORM(XRSTORS, "xrstors")
    }
}

static struct code form_code(unsigned form)
{
    switch (form) {
#define FORM_CODE(number, text)                                                                              \
    case number: return CODEN(text " [" BX "]");
        FORM_CODE(XSAVE, "xsave")
        FORM_CODE(XSAVEOPT, "xsaveopt")
        FORM_CODE(XSAVEC, "xsavec")
        FORM_CODE(XSAVES, "xsaves")
        FORM_CODE(XRSTOR, "xrstor")
    default: return CODEN("xrstors [" BX "]");
    }
}

/* ---- Known contents ---- */

static u8 pattern(u32 component, unsigned byte)
{
    return (u8)(component * 37 + byte * 11 + 1);
}

/* Registers of component `component` as an area has them, at their place in the standard format. */
static void fill(u8 *area, u32 component, bool in_use)
{
    switch (component) {
    case X87:
        memset(area, 0, 24);
        memset(area + 32, 0, 128);
        *(u16 *)area = 0x37f;
        if (!in_use)
            break;
        area[4] = 0xff;
        for (unsigned n = 0; n < 8; n++)
            for (unsigned b = 0; b < 10; b++)
                area[32 + 16 * n + b] = pattern(X87, 16 * n + b);
        break;
    case SSE:
        for (unsigned b = 0; b < 16 * REGISTERS; b++)
            area[160 + b] = in_use ? pattern(SSE, b) : 0;
        break;
    case AVX:
        for (unsigned b = 0; b < 16 * REGISTERS; b++)
            area[cpuid(0xd, 2).b + b] = in_use ? pattern(AVX, b) : 0;
        break;
    case PKRU: *(u64 *)(area + cpuid(0xd, 9).b) = in_use ? 0x1234 << 2 : 0; break;
    }
}

static void fill_mxcsr(u8 *area, u32 value)
{
    static u8 fx[512] __attribute__((aligned(16)));

    asm volatile("fxsave %0" : "=m"(fx));
    *(u32 *)(area + 24) = value;
    *(u32 *)(area + 28) = *(u32 *)(fx + 28);
}

/* An area in the standard format with the components in `in_use`, and the others in their initial state. */
static void make_area(u8 *area, u32 in_use, u32 features)
{
    static const u32 known[] = {X87, SSE, AVX, PKRU};

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        if (features & known[i])
            fill(area, known[i], in_use & known[i]);
    fill_mxcsr(area, in_use & MXCSR ? MXCSR_OTHER : MXCSR_INIT);
}

/* Bring the registers to a known state, without the XSAVE family. */
static void set_state(u32 in_use)
{
    static u8 area[AREA_SIZE] __attribute__((aligned(64)));
    u8 *upper = area + cpuid(0xd, 2).b;

    memset(area, 0, AREA_SIZE);
    make_area(area, in_use, supported);
    asm volatile("fxrstor (%0)" ::"r"(area));
    if (supported & AVX) {
#define SET(n) "vinsertf128 $1, 16*" #n "(%0), %%ymm" #n ", %%ymm" #n "\n"
        asm volatile(SET(0) SET(1) SET(2) SET(3) SET(4) SET(5) SET(6) SET(7)::"r"(upper));
#ifdef __x86_64__
        asm volatile(SET(8) SET(9) SET(10) SET(11) SET(12) SET(13) SET(14) SET(15)::"r"(upper));
#endif
    }
    if (supported & PKRU)
        wrpkru(in_use & PKRU ? 0x1234 << 2 : 0);
}

/* The registers, without the XSAVE family, in the standard format. */
static void get_state(u8 *area)
{
    memset(area, 0, AREA_SIZE);
    asm volatile("fxsave (%0)" ::"r"(area));
    memset(area + 416, 0, 96);
    if (supported & AVX) {
#define GET(n) "vextractf128 $1, %%ymm" #n ", 16*" #n "(%0)\n"
        asm volatile(GET(0) GET(1) GET(2) GET(3) GET(4) GET(5) GET(6) GET(7)::"r"(area + cpuid(0xd, 2).b));
#ifdef __x86_64__
        asm volatile(GET(8) GET(9) GET(10) GET(11) GET(12) GET(13) GET(14)
                         GET(15)::"r"(area + cpuid(0xd, 2).b));
#endif
    }
    if (supported & PKRU)
        *(u64 *)(area + cpuid(0xd, 9).b) = rdpkru();
}

static unsigned component_size(u32 component)
{
    return component == AVX ? 16 * REGISTERS : component == PKRU ? 8 : 0;
}

/* Where a component is in an area whose XCOMP_BV has `components`. */
static unsigned offset_of(u32 component, u64 components)
{
    unsigned offset = 576;

    if (!(components & COMPACT))
        return cpuid(0xd, component == AVX ? 2 : 9).b;
    for (unsigned bit = 2;; bit++) {
        if (!(components >> bit & 1) && component != 1u << bit)
            continue;
        if (cpuid(0xd, bit).c & 2)
            offset = (offset + 63) & ~63u;
        if (component == 1u << bit)
            return offset;
        offset += cpuid(0xd, bit).a;
    }
}

/* The six reserved bytes of each x87 register may be stored as anything. */
static bool same_area(u8 *a, u8 *b)
{
    for (unsigned n = 0; n < 8; n++) {
        memset(a + 32 + 16 * n + 10, 0, 6);
        memset(b + 32 + 16 * n + 10, 0, 6);
    }
    a[5] = b[5] = 0;
    return !memcmp(a, b, AREA_SIZE);
}

/* ---- Storing: SDM 1 13.7, 13.9 to 13.11 ---- */

static void expected_area(unsigned form, u32 in_use, u32 features, u8 *want)
{
    static u8 full[AREA_SIZE];
    bool compact = form >= XSAVEC;
    u32 used = in_use & ~(u32)MXCSR, store;

    if (compact && in_use & MXCSR)
        used |= SSE;
    store = form == XSAVE ? features : features & used;
    memset(want, FILLING, AREA_SIZE);
    memset(full, 0, AREA_SIZE);
    make_area(full, in_use, supported);
    if (store & X87) {
        memcpy(want, full, 24);
        memcpy(want + 32, full + 32, 128);
    }
    if (compact ? store & SSE : features & (SSE | AVX))
        memcpy(want + 24, full + 24, 8);
    if (store & SSE)
        memcpy(want + 160, full + 160, 16 * REGISTERS);
    for (u32 component = AVX; component; component <<= 1)
        if (store & component)
            memcpy(want + offset_of(component, compact ? features | COMPACT : 0),
                   full + offset_of(component, 0), component_size(component));
    if (compact) {
        *(u64 *)(want + HEADER) = store;
        *(u64 *)(want + HEADER + 8) = features | COMPACT;
    } else {
        *(u64 *)(want + HEADER) = (*(u64 *)(want + HEADER) & ~(u64)features) | (used & features);
    }
}

static void storing(void)
{
    static u8 want[AREA_SIZE];
    u32 in_use, features;

    for (unsigned form = 0; form < STORES; form++) {
        if (!has_form(form)) {
            skip_group(names[form], "the processor has none");
            continue;
        }
        group(names[form]);
        for (unsigned n = 0; subset(n & 15, &in_use) && n < 32; n++) {
            if (in_use & ~supported)
                continue;
            in_use |= n & 16 ? MXCSR : 0;
            for (unsigned m = 0; subset(m, &features); m++) {
                if (features & ~supported)
                    continue;
                expected_area(form, in_use, features, want);
                memset((void *)AREA, FILLING, AREA_SIZE);
                /* Through the initial state, so that all of it can be known to be initial. */
                memset((void *)IMAGE, 0, AREA_SIZE);
                execute(XRSTOR, IMAGE, ~0u);
                set_state(in_use);
                execute(form, AREA, features | 0x40000000); /* a bit that XCR0 has not */
                expect_true(same_area((u8 *)AREA, want), "%#x in use, %#x requested", in_use, features);
            }
        }
        set_state(0);
    }
    group("XGETBV of 1");
    for (unsigned n = 0; subset(n & 15, &in_use) && n < 32; n++) {
        if (in_use & ~supported || !(cpuid(0xd, 1).a & 4))
            continue;
        in_use |= n & 16 ? MXCSR : 0;
        memset((void *)IMAGE, 0, AREA_SIZE);
        execute(XRSTOR, IMAGE, ~0u);
        set_state(in_use);
        expect_equal(xgetbv(1) & supported, (in_use & MXCSR ? in_use | SSE : in_use) & supported,
                     "%#x in use", in_use);
    }
    set_state(0);
}

/* ---- Loading: SDM 1 13.8, 13.12 ---- */

static void loading_form(unsigned form, bool compact)
{
    static u8 want[AREA_SIZE], area[AREA_SIZE], got[AREA_SIZE] __attribute__((aligned(64)));
    u32 there, features;

    for (unsigned n = 0; subset(n, &there); n++) {
        for (unsigned m = 0; subset(m, &features); m++) {
            u64 layout = compact ? there | COMPACT : 0;
            u8 *image = (u8 *)IMAGE;
            u32 mxcsr;

            if ((there | features) & ~supported)
                continue;
            /* The registers have one pattern, the area its complement. */
            memset(area, 0, AREA_SIZE);
            make_area(area, supported, supported);
            memcpy(want, area, AREA_SIZE);
            mxcsr = MXCSR_OTHER;
            memset(image, FILLING, AREA_SIZE);
            for (unsigned b = 0; b < 576; b++)
                image[b] = b >= 160 && b < 160 + 16 * REGISTERS ? (u8)~area[b] : area[b];
            for (u32 component = AVX; component; component <<= 1)
                if (there & component)
                    for (unsigned b = 0; b < component_size(component); b++)
                        image[offset_of(component, layout) + b] = (u8)~area[offset_of(component, 0) + b];
            if (there & PKRU) /* key 0 is that of all pages here */
                image[offset_of(PKRU, layout)] &= 0xfc;
            *(u16 *)image = 0x27f;
            *(u32 *)(image + 24) = 0x1fa0;
            memset(image + HEADER, 0, 64);
            *(u64 *)(image + HEADER) = there;
            *(u64 *)(image + HEADER + 8) = layout;

            if (features & X87) {
                fill(want, X87, there & X87);
                *(u16 *)want = there & X87 ? 0x27f : 0x37f;
            }
            if (features & SSE) {
                for (unsigned b = 160; b < 160 + 16 * REGISTERS; b++)
                    want[b] = there & SSE ? image[b] : 0;
                mxcsr = MXCSR_INIT;
            }
            if (compact ? features & there & SSE : features & (SSE | AVX))
                mxcsr = 0x1fa0;
            for (u32 component = AVX; component; component <<= 1)
                if (features & component)
                    for (unsigned b = 0; b < component_size(component); b++)
                        want[offset_of(component, 0) + b] =
                            there & component ? image[offset_of(component, layout) + b] : 0;
            if (features & there & PKRU) /* the upper half of its eight bytes is nothing */
                *(u32 *)(want + offset_of(PKRU, 0) + 4) = 0;

            set_state(supported | MXCSR);
            fill_mxcsr(want, mxcsr);
            execute(form, IMAGE, features);
            get_state(got);
            expect_true(same_area(got, want), "%s, %#x in the area, %#x requested",
                        compact ? "compacted" : "standard", there, features);
        }
    }
    set_state(0);
}

static void loading(void)
{
    group("XRSTOR");
    loading_form(XRSTOR, false);
    if (has_form(XSAVEC))
        loading_form(XRSTOR, true);
    if (has_form(XRSTORS)) {
        group("XRSTORS");
        loading_form(XRSTORS, true);
    }
}

/* ---- What faults ---- */

static struct context form_context(unsigned form, bool user, u32 features)
{
    struct context c = user ? user_context(form_code(form)) : kernel_context(form_code(form));

    c.bx = form < STORES ? AREA : IMAGE;
    c.ax = features;
    c.dx = 0;
    return c;
}

static void valid_image(u32 there, bool compact)
{
    memset((void *)IMAGE, 0, AREA_SIZE);
    *(u16 *)IMAGE = 0x37f;
    *(u32 *)(IMAGE + 24) = MXCSR_INIT;
    *(u64 *)(IMAGE + HEADER) = there;
    *(u64 *)(IMAGE + HEADER + 8) = compact ? there | COMPACT : 0;
}

static void faults(void)
{
    ulong cr0 = read_cr0(), cr4 = read_cr4();

    group("faults of the XSAVE family");
    for (unsigned form = 0; form < FORMS; form++) {
        bool privileged = form == XSAVES || form == XRSTORS;

        if (!has_form(form)) {
            expect_trap(run(&(struct context){0}), FAULT(UD, 0), "%s", names[form]);
            continue;
        }
        valid_image(X87, form == XRSTORS);
        for (unsigned user = 0; user < 2; user++) {
            struct context c = form_context(form, user, X87);

            expect_trap(run(&c), privileged && user ? FAULT(GP, 0) : END, "%s at CPL %u", names[form],
                        3 * user);
            write_cr4(cr4 & ~(ulong)CR4_OSXSAVE);
            expect_trap(run(&c), FAULT(UD, 0), "%s at CPL %u without OSXSAVE", names[form], 3 * user);
            write_cr4(cr4);
            write_cr0(cr0 | CR0_TS);
            expect_trap(run(&c), FAULT(NM, 0), "%s at CPL %u with TS", names[form], 3 * user);
            write_cr0(cr0);
        }
        write_cr0(cr0 | CR0_EM);
        struct context c = form_context(form, false, X87);
        expect_trap(run(&c), END, "%s does not look at CR0.EM", names[form]);
        write_cr0(cr0);
        for (unsigned offset = 1; offset < 64; offset++) {
            c = form_context(form, false, X87);
            c.bx += offset;
            expect_trap(run(&c), FAULT(GP, 0), "%s at %u", names[form], offset);
        }
        /* MXCSR of an image, in both formats. */
        for (unsigned compact = 0; compact < 2 && form >= STORES; compact++) {
            if ((!compact && form == XRSTORS) || (compact && !has_form(XSAVEC)))
                continue;
            valid_image(SSE, compact);
            *(u32 *)(IMAGE + 24) = 0x10000;
            c = form_context(form, false, X87);
            expect_trap(run(&c), END, "%s, reserved bit of MXCSR, not requested", names[form]);
            c = form_context(form, false, SSE);
            expect_trap(run(&c), FAULT(GP, 0), "%s, reserved bit of MXCSR", names[form]);
            valid_image(X87, compact);
            *(u32 *)(IMAGE + 24) = 0x10000;
            expect_trap(run(&c), compact ? END : FAULT(GP, 0),
                        "%s, reserved bit of MXCSR with SSE in its initial state", names[form]);
        }
    }
    write_cr4(cr4);
}

/* Each bit of the header: SDM 1 13.8.1, 13.8.2, 13.12. */
static void headers(void)
{
    group("the header");
    for (unsigned form = XRSTOR; form <= XRSTORS; form++) {
        for (unsigned compact = 0; compact < 2; compact++) {
            if (!has_form(form) || (compact && !has_form(XSAVEC)))
                continue;
            if (!compact && form == XRSTORS) {
                struct context c = form_context(form, false, X87);

                valid_image(X87, false);
                expect_trap(run(&c), FAULT(GP, 0), "XRSTORS of the standard format");
                continue;
            }
            for (unsigned bit = 0; bit < 512; bit++) {
                struct context c = form_context(form, false, X87);
                bool good;

                valid_image(SSE, compact);
                ((u8 *)(IMAGE + HEADER))[bit / 8] ^= (u8)(1 << bit % 8);
                if (bit < 64)
                    good = bit < 32 && supported >> bit & 1 && (!compact || bit == 1);
                else if (bit < 128)
                    good = compact && bit < 96 && supported >> (bit - 64) & 1 && bit != 65;
                else
                    good = !compact && bit >= 24 * 8; /* reserved, and not looked at in the standard format */
                if (bit == 127)
                    continue; /* it makes the other format of it */
                expect_trap(run(&c), good ? END : FAULT(GP, 0), "%s, %s format, bit %u", names[form],
                            compact ? "compacted" : "standard", bit);
            }
        }
    }
    if (has_form(XSAVEC)) { /* a component that is not enabled */
        struct context c = form_context(XRSTOR, false, X87);

        valid_image(X87 | SSE, true);
        xsetbv(X87);
        expect_trap(run(&c), FAULT(GP, 0), "XCOMP_BV with what XCR0 has not");
        valid_image(X87 | SSE, false);
        expect_trap(run(&c), FAULT(GP, 0), "XSTATE_BV with what XCR0 has not");
        xsetbv(supported);
    }
}

static void extended_control_register(void)
{
    struct context c;
    u32 value;

    group("XCR0");
    for (unsigned n = 0; n < 512; n++) {
        value = (n & 0xff) | (n & 0x100) << 1; /* bits 0 to 7, and 9 */
        bool good = value & X87 && !(value & ~supported) && !(value & AVX && !(value & SSE));

        if (value & 0xf8 & supported)
            continue; /* more than this file knows */
        c = kernel_context(CODEN("xsetbv"));
        c.ax = value;
        c.cx = c.dx = 0;
        expect_trap(run(&c), good ? END : FAULT(GP, 0), "XCR0 of %#x", value);
        if (!good)
            continue;
        expect_equal(xgetbv(0), value, "XGETBV after %#x", value);
        u32 size = 576, compact = 576;
        for (unsigned bit = 2; bit < 32; bit++) {
            if (!(value >> bit & 1))
                continue;
            struct cpuid x = cpuid(0xd, bit);
            size = x.b + x.a > size ? x.b + x.a : size;
            compact = (x.c & 2 ? (compact + 63) & ~63u : compact) + x.a;
        }
        expect_equal(cpuid(0xd, 0).b, size, "CPUID 0Dh.0 EBX with %#x", value);
        if (has_form(XSAVEC))
            expect_equal(cpuid(0xd, 1).b, compact, "CPUID 0Dh.1 EBX with %#x", value);
        c = user_context(CODEN("xsetbv"));
        c.ax = value;
        c.cx = c.dx = 0;
        expect_trap(run(&c), FAULT(GP, 0), "XCR0 of %#x at CPL 3", value);
    }
    for (u32 index = 1; index; index <<= 1) {
        c = kernel_context(CODEN("xsetbv"));
        c.ax = supported;
        c.cx = index;
        c.dx = 0;
        expect_trap(run(&c), FAULT(GP, 0), "XSETBV of register %#x", index);
        c = kernel_context(CODEN("xgetbv"));
        c.cx = index;
        if (index > 1)
            expect_trap(run(&c), FAULT(GP, 0), "XGETBV of register %#x", index);
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        c = kernel_context(CODEN("xsetbv"));
        c.ax = supported;
        c.cx = 0;
        c.dx = (ulong)1 << bit;
        expect_trap(run(&c), FAULT(GP, 0), "XCR0 with bit %u", 32 + bit);
    }
    xsetbv(supported);

    group("CPUID 0Dh");
    struct cpuid all = cpuid(0xd, 0), one = cpuid(0xd, 1);
    u32 largest = 576;
    for (unsigned bit = 2; bit < 63; bit++) {
        struct cpuid x = cpuid(0xd, bit);
        bool user = bit < 32 ? all.a >> bit & 1 : all.d >> (bit - 32) & 1;
        bool supervisor = bit < 32 ? one.c >> bit & 1 : one.d >> (bit - 32) & 1;

        expect_true(!(user && supervisor), "bit %u is of XCR0 or of IA32_XSS", bit);
        expect_equal(x.a != 0, user || supervisor, "bit %u has a size", bit);
        expect_equal(x.c & 1, supervisor, "bit %u", bit);
        expect_equal(x.d, 0, "bit %u, EDX", bit);
        if (user && x.a + x.b > largest)
            largest = x.a + x.b;
    }
    expect_equal(all.c, largest, "ECX");
    expect_equal(all.b, largest, "EBX with all of it enabled");
    expect_true((all.a & 3) == 3, "x87 and SSE are always there");
    if (all.a & AVX)
        expect_true(cpuid(0xd, 2).a == 256 && cpuid(0xd, 2).b == 576, "AVX");
    if (all.a & PKRU)
        expect_equal(cpuid(0xd, 9).a, 8, "PKRU");

    if (!has_form(XSAVES))
        return;
    group("IA32_XSS");
    for (unsigned bit = 0; bit < 64; bit++) {
        bool good = bit < 32 ? one.c >> bit & 1 : one.d >> (bit - 32) & 1;

        c = kernel_context(CODEN("wrmsr"));
        c.cx = 0xda0;
        c.ax = bit < 32 ? (ulong)1 << bit : 0;
        c.dx = bit < 32 ? 0 : (ulong)1 << (bit - 32);
        expect_trap(run(&c), good ? END : FAULT(GP, 0), "bit %u", bit);
    }
    wrmsr(0xda0, 0);
    expect_equal(rdmsr(0xda0), 0, "its value");
}

void test(void)
{
    if (!cpu_has(CPU_XSAVE)) {
        skip_group("XSAVE", "the processor has none");
        finish();
    }
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXSAVE | (cpu_has(CPU_PKU) ? CR4_PKE : 0));
    supported = cpuid(0xd, 0).a & (X87 | SSE | AVX | PKRU);
    xsetbv(supported);
    extended_control_register();
    storing();
    loading();
    faults();
    headers();
}
