#include "x86/host_cpu.h"

#include <cpuid.h>

bool host_cpu_has(enum x86_feature feature)
{
    static const struct {
        u32 leaf, subleaf;
        u8 reg, bit;
    } features[X86_FEATURE_COUNT] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit, ...)                                                      \
    [X86_FEATURE_##id] = {leaf, subleaf, CPUID_##reg, bit},
        X86_FEATURES(FEATURE)
#undef FEATURE
    };
    u32 r[4];

    if (feature == X86_FEATURE_NONE)
        return true;
    return __get_cpuid_count(features[feature].leaf, features[feature].subleaf, &r[0], &r[1], &r[2], &r[3]) &&
           r[features[feature].reg] >> features[feature].bit & 1;
}
