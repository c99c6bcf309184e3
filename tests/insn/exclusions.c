/*
 * What is not compared with the real CPU in user mode, and why.
 */
#include <cpuid.h>
#include <string.h>

#include "insn.h"
#include "x86/cpu_features.h"

static const char time_or_chance[] = "differs from one execution to the next";
static const char hosts_own[] = "tells of the machine that executes it";
static const char tables[] = "uses the tables of the host's kernel: test kernels in guest/";
static const char kernel_entry[] = "enters the host's kernel";
static const char own_thread[] = "would take the test program's thread pointer or data segments away";
static const char intercepted[] = "the host's hypervisor or kernel answers it";

/* By mnemonic; a name that ends in * stands for all that begin so. */
static const struct {
    const char *mnemonic, *reason;
} by_mnemonic[] = {
    {"RDTSC", time_or_chance},
    {"RDTSCP", time_or_chance},
    {"RDPMC", time_or_chance},
    {"RDRAND", time_or_chance},
    {"RDSEED", time_or_chance},
    {"CPUID", hosts_own},
    {"RDPID", hosts_own},
    {"XGETBV", hosts_own},
    {"SGDT", hosts_own},
    {"SIDT", hosts_own},
    {"SLDT", hosts_own},
    {"STR", hosts_own},
    {"SMSW", hosts_own},
    {"LAR", tables},
    {"LSL", tables},
    {"VERR", tables},
    {"VERW", tables},
    {"CALLF", tables},
    {"JMPF", tables},
    {"RETF", tables},
    {"IRET*", tables},
    {"LDS", tables},
    {"LES", tables},
    {"LSS", tables},
    {"LFS", tables},
    {"LGS", tables},
    {"INT", kernel_entry},
    {"INT1", kernel_entry},
    {"SYSCALL", kernel_entry},
    {"SYSENTER", kernel_entry},
    {"SYSEXIT", kernel_entry},
    {"SYSRET", kernel_entry},
    {"RDFSBASE", own_thread},
    {"RDGSBASE", own_thread},
    {"WRFSBASE", own_thread},
    {"WRGSBASE", own_thread},
    {"VMCALL", intercepted},
    {"VMMCALL", intercepted},
    {"MONITOR*", intercepted},
    {"MWAIT*", intercepted},
    {"UMONITOR", time_or_chance},
    {"UMWAIT", time_or_chance},
    {"TPAUSE", time_or_chance},
};

/* By row. */
static const struct {
    u16 op;
    const char *reason;
} by_row[] = {
    {OP_MOV_Sw_Ew, tables}, {OP_POP_ES, tables}, {OP_POP_SS, tables},
    {OP_POP_DS, tables},    {OP_POP_FS, tables}, {OP_POP_GS, tables},
};

bool op_matches(u16 op, const char *name)
{
    size_t length = strlen(name);

    if (op == OP_INVALID)
        return false;
    if (name[length - 1] == '*')
        return !strncmp(name, x86_ops[op].mnemonic, length - 1);
    for (const char *at = x86_ops[op].mnemonic; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (!strncmp(at, name, length) && (!at[length] || at[length] == '/'))
            return true;
    }
    return false;
}

const char *excluded(u16 op)
{
    if (x86_ops[op].attributes & X86_OP_LATER)
        return "nothing executes it yet";
    if (!host_has(op))
        return "absent on this host";
    for (size_t n = 0; n < ARRAY_SIZE(by_mnemonic); n++)
        if (op_matches(op, by_mnemonic[n].mnemonic))
            return by_mnemonic[n].reason;
    for (size_t n = 0; n < ARRAY_SIZE(by_row); n++)
        if (by_row[n].op == op)
            return by_row[n].reason;
    return NULL;
}

/* Where CPUID tells of a feature. */
static const struct {
    u32 leaf, subleaf;
    u8 reg, bit;
} features[X86_FEATURE_COUNT] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit, ...)                                                      \
    [X86_FEATURE_##id] = {leaf, subleaf, CPUID_##reg, bit},
    X86_FEATURES(FEATURE)
#undef FEATURE
};

/* CPUID takes long in a virtual machine. */
enum known { UNKNOWN, NO, YES };

bool host_has(u16 op)
{
    static enum known known[X86_FEATURE_COUNT] = {[X86_FEATURE_NONE] = YES};
    unsigned f = x86_ops[op].feature;
    u32 r[4];

    if (known[f] == UNKNOWN)
        known[f] = __get_cpuid_count(features[f].leaf, features[f].subleaf, &r[0], &r[1], &r[2], &r[3]) &&
                           r[features[f].reg] >> features[f].bit & 1
                       ? YES
                       : NO;
    return known[f] == YES;
}

u64 host_components(void)
{
    static bool known;
    static u64 components;
    u32 eax, ebx, ecx, edx, high;

    if (!known && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_OSXSAVE) {
        asm("xgetbv" : "=a"(eax), "=d"(high) : "c"(0));
        components = eax | (u64)high << 32;
    }
    known = true;
    return components;
}

static bool is_image(u16 op)
{
    static const char *const images[] = {"FLDENV",  "FNSTENV",  "FRSTOR", "FNSAVE",
                                         "FXSAVE*", "FXRSTOR*", "XSAVE*", "XRSTOR*"};

    for (size_t n = 0; n < ARRAY_SIZE(images); n++)
        if (op_matches(op, images[n]))
            return true;
    return false;
}

/* Which of several parts the CPU touches first, and so what CR2 tells, is its own affair: of images, and of stores through a
   mask, where Intel's CPUs give the last byte. */
bool address_ignored(const struct insn_case *test)
{
    return is_image(test->insn.op) || op_matches(test->insn.op, "MASKMOV*") ||
           op_matches(test->insn.op, "VMASKMOV*") || op_matches(test->insn.op, "VPMASKMOV*");
}

/* The parts of an image beyond the end of 16- or 32-bit addresses are at 0 and up for the CPU (docs/quirks.md). */
bool address_excluded(const struct insn_case *test, u64 offset)
{
    unsigned size = test->insn.address_size;

    return is_image(test->insn.op) && size < 8 && offset > (1ull << 8 * size) - 0x400;
}

u64 flags_ignored(const struct insn_case *test)
{
    return 0;
}

bool length_excluded(u16 op)
{
    /* Zydis 4.0 takes the operands of MPX, which no CPU model here has, too seriously. */
    return op_matches(op, "NOP");
}

/* What is no instruction, and how many bytes the CPU wants to see before it says so is not as our decoder has it. */
bool invalid_excluded(const struct x86_insn *insn, bool truncated)
{
    static u32 vendor;
    u32 unused[3];

    if (!vendor)
        __get_cpuid(0, &unused[0], &vendor, &unused[1], &unused[2]);
    if (insn->opcode == 0x62) /* AVX-512 */
        return true;
    if (insn->opcode == 0x01) /* VMCALL with prefixes is for the hypervisor to answer */
        return true;
    /* A VEX map that there is not is found out one byte earlier or later, by no simple rule; AMD's CPUs were not looked at. */
    return truncated && (insn->opcode == 0xc4 || vendor != signature_INTEL_ebx);
}
