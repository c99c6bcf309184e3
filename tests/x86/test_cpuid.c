/* CPU models, their text form, and the CPUID leaves that they give. */
#include "x86/cpuid.h"
#include "x86/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { EAX, EBX, ECX, EDX };

static struct cpu_model parse(const char *text)
{
    struct cpu_model model;
    struct error err;
    if (cpu_model_parse(text, &model, &err))
        fail_msg("%s: %s", text, err.text);
    return model;
}

static void refuse(const char *text, const char *why)
{
    struct cpu_model model;
    struct error err = {""};
    assert_int_equal(cpu_model_parse(text, &model, &err), -1);
    if (!strstr(err.text, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, why);
}

static const struct cpuid_inputs four_cpus = {
    .apic_id = 2,
    .vcpus = 4,
    .apic_enabled = true,
    .code64 = true,
    .cr4 = 1 << 18,
    .xcr0 = 3,
    .tsc_hz = 2100000000,
    .apic_hz = 1000000000,
};

static void query(const char *model_text, u32 leaf, u32 subleaf, u32 out[4])
{
    struct cpu_model model = parse(model_text);
    cpuid_leaf(&model, &four_cpus, leaf, subleaf, out);
}

static void models_have_their_levels(void **opaque)
{
    struct cpu_model v2 = parse("v2"), v3 = parse("v3"), max = parse("max");
    assert_true(cpu_model_has(&v2, X86_FEATURE_SSE4_2) && cpu_model_has(&v2, X86_FEATURE_CX16));
    assert_false(cpu_model_has(&v2, X86_FEATURE_BMI2));
    assert_true(cpu_model_has(&v3, X86_FEATURE_BMI2) && cpu_model_has(&v3, X86_FEATURE_MOVBE));
    assert_false(cpu_model_has(&v3, X86_FEATURE_SHA));
    assert_true(cpu_model_has(&max, X86_FEATURE_SHA) && cpu_model_has(&max, X86_FEATURE_RDPID));
    assert_false(cpu_model_has(&max, X86_FEATURE_MONITOR));
    for (unsigned f = 0; f < X86_FEATURE_COUNT; f++)
        assert_true(!v2.has[f] || v3.has[f]);
    for (unsigned f = 0; f < X86_FEATURE_COUNT; f++)
        assert_true(!v3.has[f] || max.has[f]);
}

/* What `max` offers must have no row that nothing executes. */
static void no_model_offers_a_row_of_later(void **opaque)
{
    struct cpu_model intel = parse("max,+monitor"), amd = parse("max,vendor=AuthenticAMD");
    for (unsigned op = 1; op < OP_COUNT; op++) {
        const struct x86_op_info *info = &x86_ops[op];
        /* AES and GFNI name VEX forms too, which need AVX besides. */
        bool offered = intel.has[info->feature] || amd.has[info->feature];
        if (info->attributes & X86_OP_AVX)
            offered = offered && intel.has[X86_FEATURE_AVX];
        if (offered && info->feature && info->attributes & X86_OP_LATER)
            fail_msg("%s %s is offered and marked later", info->mnemonic, info->operands);
    }
}

static void words_change_the_model(void **opaque)
{
    struct cpu_model m = parse("v3,-smap,+monitor,+sse4.2");
    assert_false(cpu_model_has(&m, X86_FEATURE_SMAP));
    assert_true(cpu_model_has(&m, X86_FEATURE_MONITOR));
    m = parse("v3,-sse4-1");
    assert_false(m.has[X86_FEATURE_SSE4_1] || m.has[X86_FEATURE_SSE4_2]);
    m = parse("v3,-sse2");
    assert_false(m.has[X86_FEATURE_SSE4_2] || m.has[X86_FEATURE_AES] || m.has[X86_FEATURE_LM] ||
                 m.has[X86_FEATURE_CX16]);
    m = parse("max,vendor=AuthenticAMD");
    assert_true(m.amd && m.has[X86_FEATURE_TOPOEXT]);
    assert_false(m.has[X86_FEATURE_ARCH_CAPABILITIES]);
    m = parse("v2,vendor=GenuineIntel");
    assert_false(m.amd || m.has[X86_FEATURE_MMXEXT]);
}

static void bad_words_are_refused(void **opaque)
{
    refuse("pentium", "choose one of v2, v3, max");
    refuse("", "choose one of v2, v3, max");
    refuse("v", "unknown CPU model 'v'");
    refuse("v3,+foo", "unknown CPU feature 'foo'");
    refuse("v3,+", "cannot read '+'");
    refuse("v3,", "cannot read ''");
    refuse("v3,smap", "cannot read 'smap'");
    refuse("v3,+rtm", "rtm is not implemented yet");
    refuse("v3,vendor=VIA", "choose GenuineIntel or AuthenticAMD");
    refuse("v3,+topoext", "topoext does not exist with vendor=GenuineIntel");
    refuse("v3,-xsave,+xsavec", "xsavec needs xsave");
    refuse("v3,+sse4.2,-sse4-1", "sse4_2 needs sse4_1");
}

static void vendor_leaves(void **opaque)
{
    u32 out[4];
    query("v3", 0, 0, out);
    assert_int_equal(out[EAX], 0x1f);
    assert_memory_equal(&out[EBX], "Genu", 4);
    assert_memory_equal(&out[EDX], "ineI", 4);
    assert_memory_equal(&out[ECX], "ntel", 4);
    query("v3,vendor=AuthenticAMD", 0x80000000, 0, out);
    assert_memory_equal(&out[EBX], "Auth", 4);
    assert_true(out[EAX] >= 0x80000008);
    query("max", 0x40000000, 0, out);
    assert_memory_equal(&out[EBX], "PlastronVMM\0", 12);
    query("max,-hypervisor", 0x40000000, 0, out);
    assert_memory_not_equal(&out[EBX], "Plas", 4);
    char brand[49] = "";
    for (u32 i = 0; i < 3; i++) {
        query("max", 0x80000002 + i, 0, out);
        memcpy(brand + 16 * i, out, 16);
    }
    assert_string_equal(brand, "Plastron virtual CPU (max)");
}

static void feature_leaves(void **opaque)
{
    u32 out[4];
    struct cpu_model m = parse("max");
    cpuid_leaf(&m, &four_cpus, 1, 0, out);
    assert_int_equal(out[EAX], m.signature);
    assert_int_equal(out[EBX], 0x02040800);
    assert_int_equal(out[EDX] & 0x07800201, 0x07800201); /* SSE2 SSE FXSR MMX, APIC, FPU */
    assert_true(out[EDX] & 1 << 28);                     /* HT */
    assert_true(out[ECX] & 1 << 27);                     /* OSXSAVE follows CR4 */
    assert_true(out[ECX] & 1u << 31);
    assert_int_equal(out[ECX] & 0x30001000, 0x30001000); /* F16C, AVX, FMA */
    assert_false(out[ECX] & 1 << 3);                     /* MONITOR */
    struct cpuid_inputs one = four_cpus;
    one.vcpus = 1;
    one.apic_enabled = false;
    one.cr4 = 0;
    one.code64 = false;
    cpuid_leaf(&m, &one, 1, 0, out);
    assert_false(out[EDX] & (1 << 28 | 1 << 9));
    assert_false(out[ECX] & 1 << 27);
    cpuid_leaf(&m, &one, 0x80000001, 0, out);
    assert_int_equal(out[EDX],
                     1 << 20 | 1 << 26 | 1 << 27 | 1 << 29); /* NX, 1 GiB pages, RDTSCP, LM; no SYSCALL */
    cpuid_leaf(&m, &four_cpus, 0x80000001, 0, out);
    assert_true(out[EDX] & 1 << 11);
    query("max", 7, 0, out);
    assert_int_equal(out[EAX], 2);   /* highest subleaf */
    assert_true(out[EBX] & 1 << 29); /* SHA */
    assert_true(out[EBX] & 1 << 5);  /* AVX2 */
    query("max", 7, 1, out);
    assert_int_equal(out[EAX], 1 << 4); /* AVX_VNNI */
    query("max", 7, 2, out);
    assert_int_equal(out[EDX], 1 << 4); /* BHI_CTRL */
    query("max", 7, 3, out);
    assert_int_equal(out[EDX], 0);
    query("max,vendor=AuthenticAMD", 7, 0, out);
    assert_int_equal(out[EAX], 1);
    query("v3,vendor=AuthenticAMD", 7, 0, out);
    assert_int_equal(out[EAX], 0);
    query("v3", 7, 0, out);
    assert_true(out[EBX] & 1 << 5);
    assert_int_equal(out[ECX] & 0x700, 0); /* GFNI, VAES and VPCLMULQDQ are younger */
    query("v2,vendor=AuthenticAMD", 0x80000001, 0, out);
    assert_int_equal(out[EDX] & 0x0183f3ff, 0x0183f3ff); /* as leaf 1 */
}

static void cache_and_topology_leaves(void **opaque)
{
    u32 out[4];
    query("v3", 4, 3, out);
    assert_int_equal(out[EAX], 3 << 26 | 3 << 14 | 1 << 8 | 3 << 5 | 3);
    u64 size = (u64)((out[EBX] >> 22) + 1) * ((out[EBX] & 0xfff) + 1) * (out[ECX] + 1);
    assert_int_equal(size, 8 << 20);
    query("v3", 4, 4, out);
    assert_int_equal(out[EAX], 0);
    query("v3", 0xb, 0, out);
    assert_int_equal(out[EAX], 0);
    assert_int_equal(out[ECX], 0x100);
    assert_int_equal(out[EDX], 2);
    query("v3", 0xb, 1, out);
    assert_int_equal(out[EAX], 2);
    assert_int_equal(out[EBX], 4);
    assert_int_equal(out[ECX], 0x201);
    query("v3", 0xb, 2, out);
    assert_int_equal(out[EAX] | out[EBX], 0);
    assert_int_equal(out[ECX], 2);
    query("v3", 0x20, 0, out); /* past the end: the highest leaf */
    assert_int_equal(out[ECX], 0x100);
    query("max,vendor=AuthenticAMD", 0x80000008, 0, out);
    assert_int_equal(out[ECX], 2 << 12 | 3);
    query("max,vendor=AuthenticAMD", 0x8000001d, 0, out);
    assert_int_equal(out[EAX], 1 << 8 | 1 << 5 | 1);
}

static void clock_leaves(void **opaque)
{
    u32 out[4];
    query("v3", 0x15, 0, out);
    assert_int_equal(out[EAX], 10);
    assert_int_equal(out[EBX], 21);
    assert_int_equal(out[ECX], 1000000000);
    query("v3", 0x16, 0, out);
    assert_int_equal(out[EAX], 2100);
    query("v3", 0x80000007, 0, out);
    assert_int_equal(out[EDX], 1 << 8);
}

static void xsave_leaves(void **opaque)
{
    u32 out[4];
    struct cpu_model m = parse("max");
    m.has[X86_FEATURE_AVX] = m.has[X86_FEATURE_PKU] = false;
    assert_int_equal(cpu_model_xcr0_mask(&m), 3);
    cpuid_leaf(&m, &four_cpus, 0xd, 0, out);
    assert_int_equal(out[EAX], 3);
    assert_int_equal(out[EBX], 576);
    assert_int_equal(out[ECX], 576);
    cpuid_leaf(&m, &four_cpus, 0xd, 1, out);
    assert_int_equal(out[EAX], 0xf);
    assert_int_equal(out[EBX], 576);
    cpuid_leaf(&m, &four_cpus, 0xd, 2, out);
    assert_int_equal(out[EAX] | out[EBX], 0);
    query("v2", 0xd, 0, out);
    assert_int_equal(out[EAX] | out[ECX], 0);
    m.has[X86_FEATURE_AVX] = m.has[X86_FEATURE_PKU] = true;
    assert_int_equal(cpu_model_xcr0_mask(&m), 0x207);
    cpuid_leaf(&m, &four_cpus, 0xd, 0, out);
    assert_int_equal(out[EBX], 576); /* XCR0 is still 3 */
    assert_int_equal(out[ECX], 2696);
    cpuid_leaf(&m, &four_cpus, 0xd, 2, out);
    assert_int_equal(out[EAX], 256);
    assert_int_equal(out[EBX], 576);
    cpuid_leaf(&m, &four_cpus, 0xd, 9, out);
    assert_int_equal(out[EAX], 8);
    assert_int_equal(out[EBX], 2688);
    assert_int_equal(out[ECX] | out[EDX], 0);
    assert_int_equal(xsave_area_size(7, false), 832);
    assert_int_equal(xsave_area_size(0x207, false), 2696);
    assert_int_equal(xsave_area_size(7, true), 832);
    assert_int_equal(xsave_area_size(0x207, true), 840);
    assert_int_equal(xsave_area_size(0x203, true), 584);
    assert_int_equal(xsave_offset(XSAVE_PKRU, 0x207, true), 832);
    assert_int_equal(xsave_offset(XSAVE_PKRU, 0x201, true), 576);
}

/* No leaf that a guest asks for makes trouble, whatever it is. */
static void every_leaf_is_answered(void **opaque)
{
    static const char *const texts[] = {"v2", "v3", "max,+monitor", "max,vendor=AuthenticAMD"};
    static const u32 bases[] = {0, 0x40000000, 0x80000000, 0xc0000000, 0xfffffff0};
    for (size_t t = 0; t < ARRAY_SIZE(texts); t++) {
        struct cpu_model m = parse(texts[t]);
        struct cpuid_inputs strange = {
            .vcpus = 64, .apic_id = ~0u, .xcr0 = ~0ull, .tsc_hz = ~0ull, .apic_hz = 1};
        for (size_t b = 0; b < ARRAY_SIZE(bases); b++) {
            for (u32 i = 0; i < 0x40; i++) {
                u32 out[4];
                cpuid_leaf(&m, &strange, bases[b] + i, 0xffffffff, out);
                cpuid_leaf(&m, &strange, bases[b] + i, i, out);
                if (bases[b] == 0x40000000 && i == 1)
                    assert_int_equal(out[EAX] | out[EBX] | out[ECX] | out[EDX], 0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_have_their_levels),
        cmocka_unit_test(no_model_offers_a_row_of_later),
        cmocka_unit_test(words_change_the_model),
        cmocka_unit_test(bad_words_are_refused),
        cmocka_unit_test(vendor_leaves),
        cmocka_unit_test(feature_leaves),
        cmocka_unit_test(cache_and_topology_leaves),
        cmocka_unit_test(clock_leaves),
        cmocka_unit_test(xsave_leaves),
        cmocka_unit_test(every_leaf_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
