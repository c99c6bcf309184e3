/* CPU models, their parsing, and the CPUID leaves (SDM 2A CPUID; AMD APM 3 appendix E). */
#include "x86/cpuid.h"
#include "x86/vcpu_state.h"

#include <stdio.h>
#include <string.h>

/* ---- Facts about features ---- */

struct feature_row {
    const char *text;
    u32 leaf;
    u8 subleaf, reg, bit, status;
};

static const struct feature_row feature_rows[X86_FEATURE_COUNT] = {
#define FEATURE_ROW(name, text, leaf, subleaf, reg, bit, status)                                             \
    [X86_FEATURE_##name] = {text, leaf, subleaf, CPUID_##reg, bit, X86_FEATURE_##status},
    X86_FEATURES(FEATURE_ROW)
#undef FEATURE_ROW
};

/* A feature that makes no sense without another. Rows stand in such an order that one pass settles all. */
static const struct {
    u8 feature, needs;
} feature_needs[] = {
    {X86_FEATURE_SSE, X86_FEATURE_FXSR},
    {X86_FEATURE_SSE2, X86_FEATURE_SSE},
    {X86_FEATURE_SSE3, X86_FEATURE_SSE2},
    {X86_FEATURE_SSSE3, X86_FEATURE_SSE3},
    {X86_FEATURE_SSE4_1, X86_FEATURE_SSSE3},
    {X86_FEATURE_SSE4_2, X86_FEATURE_SSE4_1},
    {X86_FEATURE_AES, X86_FEATURE_SSE2},
    {X86_FEATURE_PCLMULQDQ, X86_FEATURE_SSE2},
    {X86_FEATURE_SHA, X86_FEATURE_SSSE3},
    {X86_FEATURE_XSAVE, X86_FEATURE_FXSR},
    {X86_FEATURE_XSAVEOPT, X86_FEATURE_XSAVE},
    {X86_FEATURE_XSAVEC, X86_FEATURE_XSAVE},
    {X86_FEATURE_XGETBV1, X86_FEATURE_XSAVE},
    {X86_FEATURE_XSAVES, X86_FEATURE_XSAVEC},
    {X86_FEATURE_AVX, X86_FEATURE_XSAVE},
    {X86_FEATURE_F16C, X86_FEATURE_AVX},
    {X86_FEATURE_FMA, X86_FEATURE_AVX},
    {X86_FEATURE_AVX2, X86_FEATURE_AVX},
    {X86_FEATURE_VAES, X86_FEATURE_AVX},
    {X86_FEATURE_VPCLMULQDQ, X86_FEATURE_AVX},
    {X86_FEATURE_AVX_VNNI, X86_FEATURE_AVX2},
    {X86_FEATURE_LM, X86_FEATURE_PAE},
    {X86_FEATURE_LM, X86_FEATURE_SSE2},
    {X86_FEATURE_NX, X86_FEATURE_PAE},
    {X86_FEATURE_PDPE1GB, X86_FEATURE_LM},
    {X86_FEATURE_LAHF_LM, X86_FEATURE_LM},
    {X86_FEATURE_FSGSBASE, X86_FEATURE_LM},
    {X86_FEATURE_CX16, X86_FEATURE_LM},
    {X86_FEATURE_PCID, X86_FEATURE_LM},
    {X86_FEATURE_X2APIC, X86_FEATURE_APIC},
    {X86_FEATURE_TSC_DEADLINE, X86_FEATURE_APIC},
    {X86_FEATURE_PKU, X86_FEATURE_LM},
    {X86_FEATURE_PKS, X86_FEATURE_LM},
    {X86_FEATURE_BHI_CTRL, X86_FEATURE_SPEC_CTRL},
    {X86_FEATURE_XSAVEERPTR, X86_FEATURE_FXSR},
    {X86_FEATURE_LA57, X86_FEATURE_LM},
    {X86_FEATURE_GFNI, X86_FEATURE_SSE2},
    {X86_FEATURE_SSE4A, X86_FEATURE_SSE3},
};

/* Features of one maker: the other's models leave them out, and +name is an error there. */
static const u8 amd_only[] = {X86_FEATURE_MMXEXT,     X86_FEATURE_FXSR_OPT, X86_FEATURE_CR8_LEGACY,
                              X86_FEATURE_SSE4A,      X86_FEATURE_TOPOEXT,  X86_FEATURE_MWAITX,
                              X86_FEATURE_XSAVEERPTR, X86_FEATURE_CLZERO,   X86_FEATURE_RDPRU,
                              X86_FEATURE_SVM};
static const u8 intel_only[] = {
    X86_FEATURE_BHI_CTRL,  X86_FEATURE_SPEC_CTRL,    X86_FEATURE_ARCH_CAPABILITIES, X86_FEATURE_VMX,
    X86_FEATURE_SMX,       X86_FEATURE_TSC_DEADLINE, X86_FEATURE_TSC_ADJUST,        X86_FEATURE_PKS,
    X86_FEATURE_SS,        X86_FEATURE_WAITPKG,      X86_FEATURE_MOVDIRI,           X86_FEATURE_MOVDIR64B,
    X86_FEATURE_SERIALIZE, X86_FEATURE_CLDEMOTE,     X86_FEATURE_FDP_EXCPTN_ONLY,   X86_FEATURE_ZERO_FCS_FDS};

/* ---- Models ---- */

/* What every 64-bit computer of the last twenty years has, and what the virtual board brings. */
#define PLATFORM_FEATURES                                                                                    \
    X86_FEATURE_FPU, X86_FEATURE_VME, X86_FEATURE_DE, X86_FEATURE_PSE, X86_FEATURE_TSC, X86_FEATURE_MSR,     \
        X86_FEATURE_PAE, X86_FEATURE_MCE, X86_FEATURE_CX8, X86_FEATURE_APIC, X86_FEATURE_SEP,                \
        X86_FEATURE_MTRR, X86_FEATURE_PGE, X86_FEATURE_MCA, X86_FEATURE_CMOV, X86_FEATURE_PAT,               \
        X86_FEATURE_PSE36, X86_FEATURE_CLFLUSH, X86_FEATURE_MMX, X86_FEATURE_FXSR, X86_FEATURE_SSE,          \
        X86_FEATURE_SSE2, X86_FEATURE_HT, X86_FEATURE_SYSCALL, X86_FEATURE_NX, X86_FEATURE_LM,               \
        X86_FEATURE_X2APIC, X86_FEATURE_TSC_DEADLINE, X86_FEATURE_TSC_ADJUST, X86_FEATURE_ARAT,              \
        X86_FEATURE_INVARIANT_TSC, X86_FEATURE_HYPERVISOR, X86_FEATURE_SPEC_CTRL,                            \
        X86_FEATURE_ARCH_CAPABILITIES, X86_FEATURE_MMXEXT, X86_FEATURE_CR8_LEGACY,                           \
        X86_FEATURE_FDP_EXCPTN_ONLY, X86_FEATURE_ZERO_FCS_FDS, X86_FEATURE_XSAVEERPTR, X86_FEATURE_BHI_CTRL
/* The System V ABI's x86-64-v2, and what its first processors had besides. */
#define V2_FEATURES                                                                                          \
    PLATFORM_FEATURES, X86_FEATURE_CX16, X86_FEATURE_LAHF_LM, X86_FEATURE_POPCNT, X86_FEATURE_SSE3,          \
        X86_FEATURE_SSSE3, X86_FEATURE_SSE4_1, X86_FEATURE_SSE4_2, X86_FEATURE_RDTSCP
/* x86-64-v3 likewise. */
#define V3_FEATURES                                                                                          \
    V2_FEATURES, X86_FEATURE_AVX, X86_FEATURE_AVX2, X86_FEATURE_BMI1, X86_FEATURE_BMI2, X86_FEATURE_F16C,    \
        X86_FEATURE_FMA, X86_FEATURE_LZCNT, X86_FEATURE_MOVBE, X86_FEATURE_XSAVE, X86_FEATURE_XSAVEOPT,      \
        X86_FEATURE_AES, X86_FEATURE_PCLMULQDQ, X86_FEATURE_RDRAND, X86_FEATURE_RDSEED, X86_FEATURE_ADX,     \
        X86_FEATURE_FSGSBASE, X86_FEATURE_ERMS, X86_FEATURE_PCID, X86_FEATURE_INVPCID, X86_FEATURE_SMEP,     \
        X86_FEATURE_SMAP, X86_FEATURE_PDPE1GB, X86_FEATURE_PREFETCHW

static const u8 v2_features[] = {V2_FEATURES};
static const u8 v3_features[] = {V3_FEATURES};

static const struct {
    const char *name;
    u32 intel_signature, amd_signature;
    const u8 *features; /* NULL: all that are done */
    size_t count;
} models[] = {
    /* Nehalem, Broadwell, Ice Lake-SP; Zen 5 has the fewest errata for a guest to work around. */
    {"v2", 0x000106a5, 0x00b40f40, v2_features, ARRAY_SIZE(v2_features)},
    {"v3", 0x000306d4, 0x00b40f40, v3_features, ARRAY_SIZE(v3_features)},
    {"max", 0x000606a6, 0x00b40f40, NULL, 0},
};

static bool contains(const u8 *list, size_t count, enum x86_feature feature)
{
    return memchr(list, feature, count);
}

static bool wrong_vendor(const struct cpu_model *model, enum x86_feature feature)
{
    return model->amd ? contains(intel_only, ARRAY_SIZE(intel_only), feature)
                      : contains(amd_only, ARRAY_SIZE(amd_only), feature);
}

/* Feature names are compared with '.' and '-' as '_': sse4.1 is sse4_1. */
static enum x86_feature find_feature(const char *text, size_t len)
{
    for (unsigned f = X86_FEATURE_NONE + 1; f < X86_FEATURE_COUNT; f++) {
        const char *name = feature_rows[f].text;
        if (strlen(name) != len)
            continue;
        size_t i = 0;
        while (i < len && (text[i] == '.' || text[i] == '-' ? '_' : text[i]) == name[i])
            i++;
        if (i == len)
            return f;
    }
    return X86_FEATURE_NONE;
}

static int find_model(const char *text, size_t len, struct error *err)
{
    char known[64] = "";
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        if (strlen(models[i].name) == len && !memcmp(models[i].name, text, len))
            return (int)i;
        size_t used = strlen(known);
        snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", models[i].name);
    }
    return error_set(err, "unknown CPU model '%.*s': choose one of %s", (int)len, text, known);
}

/* One "+feature", "-feature" or "vendor=NAME" of `len` characters. */
static int parse_word(struct cpu_model *model, signed char wish[X86_FEATURE_COUNT], const char *word,
                      size_t len, struct error *err)
{
    static const char vendor[] = "vendor=";
    if (len >= sizeof(vendor) - 1 && !memcmp(word, vendor, sizeof(vendor) - 1)) {
        const char *name = word + sizeof(vendor) - 1;
        size_t name_len = len - (sizeof(vendor) - 1);
        if (name_len == 12 && !memcmp(name, "AuthenticAMD", 12))
            model->amd = true;
        else if (name_len == 12 && !memcmp(name, "GenuineIntel", 12))
            model->amd = false;
        else
            return error_set(err, "unknown CPU vendor '%.*s': choose GenuineIntel or AuthenticAMD",
                             (int)name_len, name);
        return 0;
    }
    if (len < 2 || (word[0] != '+' && word[0] != '-'))
        return error_set(err, "cannot read '%.*s' in a CPU model: write +feature, -feature or vendor=NAME",
                         (int)len, word);
    enum x86_feature feature = find_feature(word + 1, len - 1);
    if (feature == X86_FEATURE_NONE)
        return error_set(err,
                         "unknown CPU feature '%.*s': the names are those of /proc/cpuinfo, such as sse4_2",
                         (int)len - 1, word + 1);
    if (word[0] == '+' && feature_rows[feature].status == X86_FEATURE_LATER)
        return error_set(err, "CPU feature %s is not implemented yet: leave out +%s",
                         feature_rows[feature].text, feature_rows[feature].text);
    wish[feature] = word[0] == '+' ? 1 : -1;
    return 0;
}

/* Take out what the vendor does not have and what lacks its base; an error if it was asked for by name. */
static int settle_features(struct cpu_model *model, const signed char wish[X86_FEATURE_COUNT],
                           struct error *err)
{
    for (unsigned f = X86_FEATURE_NONE + 1; f < X86_FEATURE_COUNT; f++) {
        if (wish[f])
            model->has[f] = wish[f] > 0;
        if (!model->has[f] || !wrong_vendor(model, f))
            continue;
        if (wish[f] > 0)
            return error_set(err, "CPU feature %s does not exist with vendor=%s", feature_rows[f].text,
                             model->amd ? "AuthenticAMD" : "GenuineIntel");
        model->has[f] = false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(feature_needs); i++) {
        u8 feature = feature_needs[i].feature, needs = feature_needs[i].needs;
        if (!model->has[feature] || model->has[needs])
            continue;
        if (wish[feature] > 0)
            return error_set(err, "CPU feature %s needs %s: add +%s", feature_rows[feature].text,
                             feature_rows[needs].text, feature_rows[needs].text);
        model->has[feature] = false;
    }
    return 0;
}

int cpu_model_parse(const char *text, struct cpu_model *model, struct error *err)
{
    size_t len = strcspn(text, ",");
    int index = find_model(text, len, err);
    if (index < 0)
        return -1;
    *model = (struct cpu_model){.name = models[index].name};
    signed char wish[X86_FEATURE_COUNT] = {0};
    for (text += len; *text; text += len) {
        text++;
        len = strcspn(text, ",");
        if (parse_word(model, wish, text, len, err))
            return -1;
    }
    model->signature = model->amd ? models[index].amd_signature : models[index].intel_signature;
    model->has[X86_FEATURE_NONE] = true;
    for (unsigned f = X86_FEATURE_NONE + 1; f < X86_FEATURE_COUNT; f++)
        model->has[f] = feature_rows[f].status == X86_FEATURE_DONE &&
                        (!models[index].features || contains(models[index].features, models[index].count, f));
    return settle_features(model, wish, err);
}

unsigned cpu_model_virt_bits(const struct cpu_model *model)
{
    return model->has[X86_FEATURE_LA57] ? 57 : 48;
}

/* ---- XSAVE components (SDM 1 13.1) ---- */

/* PKRU lies behind the place of AVX-512's components, where Intel's processors have it. */
const struct xsave_component xsave_components[XSAVE_COMPONENTS] = {
    [XSAVE_YMM] = {2, X86_FEATURE_AVX, .size = 256, .offset = 576},
    [XSAVE_PKRU] = {9, X86_FEATURE_PKU, .size = 8, .offset = 2688},
};
enum { XCR0_X87_SSE = 3 };

u64 cpu_model_xcr0_mask(const struct cpu_model *model)
{
    u64 mask = 0;
    if (model->has[X86_FEATURE_XSAVE])
        mask = XCR0_X87_SSE;
    for (unsigned i = 0; mask && i < XSAVE_COMPONENTS; i++) {
        if (model->has[xsave_components[i].feature])
            mask |= 1ull << xsave_components[i].bit;
    }
    return mask;
}

u32 xsave_offset(unsigned n, u64 components, bool compacted)
{
    u32 offset = XSAVE_LEGACY_SIZE;
    if (!compacted)
        return xsave_components[n].offset;
    for (unsigned i = 0;; i++) {
        bool there = components >> xsave_components[i].bit & 1;
        if (there && xsave_components[i].align64)
            offset = (u32)align_up(offset, 64);
        if (i == n)
            return offset;
        if (there)
            offset += xsave_components[i].size;
    }
}

u32 xsave_area_size(u64 components, bool compacted)
{
    for (unsigned n = XSAVE_COMPONENTS; n-- > 0;) {
        if (components >> xsave_components[n].bit & 1)
            return xsave_offset(n, components, compacted) + xsave_components[n].size;
    }
    return XSAVE_LEGACY_SIZE;
}

/* ---- Leaves ---- */

#define MAX_BASIC_INTEL    0x1fu
#define MAX_BASIC_AMD      0xdu
#define HYPERVISOR_LEAF    0x40000000u
#define MAX_HYPERVISOR     0x40000010u
#define EXTENDED_LEAF      0x80000000u
#define MAX_EXTENDED_INTEL 0x80000008u
#define MAX_EXTENDED_AMD   0x80000021u

static void set(u32 out[4], u32 eax, u32 ebx, u32 ecx, u32 edx)
{
    out[CPUID_EAX] = eax;
    out[CPUID_EBX] = ebx;
    out[CPUID_ECX] = ecx;
    out[CPUID_EDX] = edx;
}

/* Twelve characters in the order of registers given. */
static void set_text(u32 out[4], const char *text, enum cpuid_register second, enum cpuid_register third)
{
    memcpy(&out[CPUID_EBX], text, 4);
    memcpy(&out[second], text + 4, 4);
    memcpy(&out[third], text + 8, 4);
}

static u32 feature_bits(const struct cpu_model *model, u32 leaf, u32 subleaf, enum cpuid_register reg)
{
    u32 bits = 0;
    for (unsigned f = X86_FEATURE_NONE + 1; f < X86_FEATURE_COUNT; f++) {
        const struct feature_row *row = &feature_rows[f];
        if (model->has[f] && row->leaf == leaf && row->subleaf == subleaf && row->reg == reg)
            bits |= 1u << row->bit;
    }
    return bits;
}

/* Bits that number `count` things. */
static unsigned id_bits(unsigned count)
{
    unsigned bits = 0;
    while (1u << bits < count && bits < 31)
        bits++;
    return bits;
}

static void leaf_1(const struct cpu_model *model, const struct cpuid_inputs *in, u32 out[4])
{
    enum { CLFLUSH_LINE = 64 / 8, OSXSAVE = 1 << 27 };
    u32 count = in->vcpus > 255 ? 255 : in->vcpus;
    u32 edx = feature_bits(model, 1, 0, CPUID_EDX);
    if (in->vcpus < 2)
        edx &= ~(1u << 28); /* HT: more than one logical processor in the package */
    if (!in->apic_enabled)
        edx &= ~(1u << 9);
    u32 ecx = feature_bits(model, 1, 0, CPUID_ECX);
    if (in->cr4 & CR4_OSXSAVE)
        ecx |= OSXSAVE;
    set(out, model->signature, in->apic_id << 24 | count << 16 | CLFLUSH_LINE << 8, ecx, edx);
}

/* The caches that leaf 4 and AMD's 8000001Dh describe in one form. */
static const struct {
    u8 type, level, ways; /* type: 1 data, 2 instruction, 3 unified */
    bool shared;          /* by the package */
    u32 sets;
} caches[] = {
    {1, 1, 8, false, 64},
    {2, 1, 8, false, 64},
    {3, 2, 8, false, 1024},
    {3, 3, 16, true, 8192},
};
enum { CACHE_LINE = 64 };

static void leaf_cache(const struct cpuid_inputs *in, u32 subleaf, bool intel, u32 out[4])
{
    enum { SELF_INITIALISING = 1 << 8 };
    if (subleaf >= ARRAY_SIZE(caches))
        return;
    u32 package = (1u << id_bits(in->vcpus)) - 1;
    u32 eax = caches[subleaf].type | caches[subleaf].level << 5 | SELF_INITIALISING |
              (caches[subleaf].shared ? package : 0) << 14;
    if (intel)
        eax |= (package & 0x3f) << 26; /* cores in the package; 8000001Dh has nothing here */
    set(out, eax, (caches[subleaf].ways - 1u) << 22 | (CACHE_LINE - 1), caches[subleaf].sets - 1, 0);
}

/* Leaves 0Bh and 1Fh: a core has one thread, the package all cores. */
static void leaf_topology(const struct cpuid_inputs *in, u32 subleaf, u32 out[4])
{
    enum { LEVEL_SMT = 1 << 8, LEVEL_CORE = 2 << 8 };
    if (subleaf == 0)
        set(out, 0, 1, LEVEL_SMT, in->apic_id);
    else if (subleaf == 1)
        set(out, id_bits(in->vcpus), in->vcpus, LEVEL_CORE | 1, in->apic_id);
    else
        set(out, 0, 0, subleaf & 0xff, in->apic_id);
}

static void leaf_xsave(const struct cpu_model *model, const struct cpuid_inputs *in, u32 subleaf, u32 out[4])
{
    u64 mask = cpu_model_xcr0_mask(model);
    if (!mask)
        return;
    if (subleaf == 0) {
        set(out, (u32)mask, xsave_area_size(in->xcr0, false), xsave_area_size(mask, false),
            (u32)(mask >> 32));
    } else if (subleaf == 1) {
        u32 features = feature_bits(model, 0xd, 1, CPUID_EAX);
        bool compacted = model->has[X86_FEATURE_XSAVEC];
        set(out, features, compacted ? xsave_area_size(in->xcr0 | in->xss, true) : 0, 0, 0);
    } else {
        enum { ALIGN64 = 1 << 1 }; /* and bit 0: a component of IA32_XSS, of which there is none */
        for (unsigned i = 0; i < XSAVE_COMPONENTS; i++) {
            const struct xsave_component *x = &xsave_components[i];
            if (x->bit == subleaf && mask >> subleaf & 1)
                set(out, x->size, x->offset, x->align64 ? ALIGN64 : 0, 0);
        }
    }
}

/*
 * Leaf 15h: TSC frequency = crystal * EBX / EAX. Linux takes the crystal for the clock of the local APIC's timer too and
 * then calibrates neither, so the crystal is that clock.
 */
static void leaf_tsc(const struct cpuid_inputs *in, u32 out[4])
{
    if (!in->tsc_hz || !in->apic_hz || in->apic_hz > UINT32_MAX)
        return;
    u64 numerator = in->tsc_hz, denominator = in->apic_hz;
    for (u64 a = numerator, b = denominator;;) { /* Euclid */
        if (b == 0) {
            numerator /= a;
            denominator /= a;
            break;
        }
        u64 rest = a % b;
        a = b;
        b = rest;
    }
    if (numerator <= UINT32_MAX)
        set(out, (u32)denominator, (u32)numerator, (u32)in->apic_hz, 0);
}

static void leaf_basic(const struct cpu_model *model, const struct cpuid_inputs *in, u32 leaf, u32 subleaf,
                       u32 out[4])
{
    u32 max = model->amd ? MAX_BASIC_AMD : MAX_BASIC_INTEL;
    if (leaf > max) {
        if (model->amd)
            return;
        leaf = max; /* SDM: the data of the highest basic leaf */
    }
    switch (leaf) {
    case 0:
        out[CPUID_EAX] = max;
        set_text(out, model->amd ? "AuthenticAMD" : "GenuineIntel", CPUID_EDX, CPUID_ECX);
        break;
    case 1: leaf_1(model, in, out); break;
    case 2: /* descriptors of TLBs, prefetch size, and FFh: caches are in leaf 4 */
        if (!model->amd)
            set(out, 0x76036301, 0x00f0b5ff, 0, 0x00c30000);
        break;
    case 4:
        if (!model->amd)
            leaf_cache(in, subleaf, true, out);
        break;
    case 5: /* MONITOR watches lines of 64 bytes; MWAIT can be told to wake for masked interrupts */
        if (model->has[X86_FEATURE_MONITOR] || model->has[X86_FEATURE_MWAITX])
            set(out, CACHE_LINE, CACHE_LINE, 3, 0);
        break;
    case 6: out[CPUID_EAX] = feature_bits(model, 6, 0, CPUID_EAX); break;
    case 7:
        if (subleaf > 2)
            break;
        for (unsigned reg = CPUID_EAX; reg <= CPUID_EDX; reg++)
            out[reg] = feature_bits(model, 7, subleaf, reg);
        if (subleaf == 0) {
            out[CPUID_EAX] =
                model->has[X86_FEATURE_BHI_CTRL] ? 2 : model->has[X86_FEATURE_AVX_VNNI]; /* highest subleaf */
            if (in->cr4 & CR4_PKE)
                out[CPUID_ECX] |= 1 << 4; /* OSPKE */
        }
        break;
    case 0xb:
    case 0x1f: leaf_topology(in, subleaf, out); break;
    case 0xd: leaf_xsave(model, in, subleaf, out); break;
    case 0x14: out[CPUID_EBX] = subleaf == 0 ? feature_bits(model, 0x14, 0, CPUID_EBX) : 0; break;
    case 0x15: leaf_tsc(in, out); break;
    case 0x16: set(out, (u32)(in->tsc_hz / 1000000), (u32)(in->tsc_hz / 1000000), 100, 0); break;
    }
    /* 0Ah: no performance counters; the rest is reserved or not offered. */
}

static void leaf_hypervisor(const struct cpuid_inputs *in, u32 leaf, u32 out[4])
{
    if (leaf == HYPERVISOR_LEAF) {
        out[CPUID_EAX] = MAX_HYPERVISOR;
        set_text(out, "PlastronVMM", CPUID_ECX, CPUID_EDX);
    } else if (leaf == MAX_HYPERVISOR) { /* the common timing leaf: TSC and bus clock in kHz */
        set(out, (u32)(in->tsc_hz / 1000), (u32)(in->apic_hz / 1000), 0, 0);
    }
}

static void leaf_brand(const struct cpu_model *model, u32 part, u32 out[4])
{
    char text[48] = "";
    snprintf(text, sizeof(text), "Plastron virtual CPU (%s)", model->name);
    memcpy(out, text + 16 * part, 16);
}

static void leaf_extended(const struct cpu_model *model, const struct cpuid_inputs *in, u32 leaf, u32 subleaf,
                          u32 out[4])
{
    u32 max = model->amd ? MAX_EXTENDED_AMD : MAX_EXTENDED_INTEL;
    if (leaf > max)
        return;
    switch (leaf) {
    case EXTENDED_LEAF:
        out[CPUID_EAX] = max;
        if (model->amd)
            set_text(out, "AuthenticAMD", CPUID_EDX, CPUID_ECX);
        break;
    case 0x80000001:
        set(out, model->amd ? model->signature : 0, 0, feature_bits(model, leaf, 0, CPUID_ECX),
            feature_bits(model, leaf, 0, CPUID_EDX));
        if (model->amd) {
            /* AMD repeats leaf 1 here, but for SEP, PSN, CLFLUSH and what came after (APM 3 E.4.2). */
            u32 leaf1[4];
            leaf_1(model, in, leaf1);
            out[CPUID_EDX] |= leaf1[CPUID_EDX] & 0x0183f3ff;
            if (in->vcpus > 1)
                out[CPUID_ECX] |= 1 << 1; /* CmpLegacy: the logical processors are cores */
        } else if (!in->code64) {
            out[CPUID_EDX] &= ~(1u << 11);
        }
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: leaf_brand(model, leaf - 0x80000002, out); break;
    case 0x80000005: /* L1: 64 entries of each TLB; 32 KiB, 8 ways, 1 line a tag, 64 bytes a line */
        if (model->amd)
            set(out, 0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140);
        break;
    case 0x80000006: /* L2: 512 KiB, 8 ways; Intel tells no more than that here */
        set(out, 0, 0, 0x02006040, 0);
        if (model->amd)
            set(out, 0x64006400, 0x64006400, 0x02006140, 16 << 18 | 8 << 12 | 1 << 8 | CACHE_LINE);
        break;
    case 0x80000007: out[CPUID_EDX] = feature_bits(model, leaf, 0, CPUID_EDX); break;
    case 0x80000008:
        set(out, X86_PHYS_BITS | cpu_model_virt_bits(model) << 8, feature_bits(model, leaf, 0, CPUID_EBX), 0,
            0);
        if (!model->has[X86_FEATURE_LM])
            out[CPUID_EAX] = 36 | 32 << 8;
        if (model->amd)
            out[CPUID_ECX] = id_bits(in->vcpus) << 12 | ((in->vcpus - 1) & 0xff);
        if (model->has[X86_FEATURE_RDPRU])
            out[CPUID_EDX] = 1 << 16; /* the highest register of RDPRU: APERF */
        break;
    case 0x8000001d:
        if (model->has[X86_FEATURE_TOPOEXT])
            leaf_cache(in, subleaf, false, out);
        break;
    case 0x8000001e: /* extended APIC ID; core; node */
        if (model->has[X86_FEATURE_TOPOEXT])
            set(out, in->apic_id, in->apic_id & 0xff, 0, 0);
        break;
    case 0x80000021: /* LFENCE waits for all before it; loading a null selector clears the base; no SRSO */
        out[CPUID_EAX] = 1 << 2 | 1 << 6 | 1 << 29;
        break;
    }
}

void cpuid_leaf(const struct cpu_model *model, const struct cpuid_inputs *inputs, u32 leaf, u32 subleaf,
                u32 out[4])
{
    set(out, 0, 0, 0, 0);
    if (leaf >= HYPERVISOR_LEAF && leaf < HYPERVISOR_LEAF + 0x10000000 && model->has[X86_FEATURE_HYPERVISOR])
        leaf_hypervisor(inputs, leaf, out);
    else if (leaf >= EXTENDED_LEAF && leaf < EXTENDED_LEAF + 0x10000)
        leaf_extended(model, inputs, leaf, subleaf, out);
    else
        leaf_basic(model, inputs, leaf, subleaf, out);
}
