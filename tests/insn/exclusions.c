/*
 * What is not compared with the real CPU in user mode, why, and where it is tested instead.
 */
#include <cpuid.h>
#include <string.h>

#include "insn.h"
#include "x86/host_cpu.h"

static const char time_or_chance[] = "differs from one execution to the next";
static const char hosts_own[] = "tells of the machine that executes it";
static const char tables[] = "uses the tables of the host's kernel";
static const char kernel_entry[] = "enters the host's kernel";
static const char own_thread[] = "would take the test program's thread pointer or data segments away";
static const char intercepted[] = "the host's hypervisor or kernel answers it";
/* Not excluded: compared as far as user mode goes. */
#define PRIVILEGED NULL

/* The first that matches: by mnemonic, as op_matches takes it, and by operands, if any are given. */
static const struct {
    const char *mnemonic, *operands, *reason, *tested_by;
} rules[] = {
    /* clang-format off */
    {"RDTSC",     NULL, time_or_chance, "guest/privilege.c"},
    {"RDTSCP",    NULL, time_or_chance, "guest/msr.c"},
    {"RDPMC",     NULL, time_or_chance, "guest/privilege.c"},
    {"RDRAND",    NULL, time_or_chance, "tests/interp/test_rules.c"},
    {"RDSEED",    NULL, time_or_chance, "tests/interp/test_rules.c"},
    {"RDPRU",     NULL, time_or_chance, "guest/odds.c"},
    {"CPUID",     NULL, hosts_own, "guest/msr.c"},
    {"RDPID",     NULL, hosts_own, "guest/odds.c"},
    {"XGETBV",    NULL, hosts_own, "guest/xsave.c"},
    {"SGDT",      NULL, hosts_own, "guest/privilege.c"},
    {"SIDT",      NULL, hosts_own, "guest/privilege.c"},
    {"SLDT",      NULL, hosts_own, "guest/privilege.c"},
    {"STR",       NULL, hosts_own, "guest/privilege.c"},
    {"SMSW",      NULL, hosts_own, "guest/privilege.c"},
    {"LAR",       NULL, tables, "guest/segments.c"},
    {"LSL",       NULL, tables, "guest/segments.c"},
    {"VERR",      NULL, tables, "guest/segments.c"},
    {"VERW",      NULL, tables, "guest/segments.c"},
    {"CALLF",     NULL, tables, "guest/gates.c"},
    {"JMPF",      NULL, tables, "guest/gates.c"},
    {"RETF",      NULL, tables, "guest/gates.c"},
    {"IRET*",     NULL, tables, "guest/gates.c"},
    {"LDS",       NULL, tables, "guest/segments.c"},
    {"LES",       NULL, tables, "guest/segments.c"},
    {"LSS",       NULL, tables, "guest/segments.c"},
    {"LFS",       NULL, tables, "guest/segments.c"},
    {"LGS",       NULL, tables, "guest/segments.c"},
    {"MOV",       "Sw,Ew", tables, "guest/segments.c"},
    {"POP",       "ES", tables, "guest/segments.c"},
    {"POP",       "SS", tables, "guest/segments.c"},
    {"POP",       "DS", tables, "guest/segments.c"},
    {"POP",       "FS", tables, "guest/segments.c"},
    {"POP",       "GS", tables, "guest/segments.c"},
    {"INT",       NULL, kernel_entry, "guest/interrupts.c"},
    {"INT1",      NULL, kernel_entry, "guest/interrupts.c"},
    {"SYSCALL",   NULL, kernel_entry, "guest/longmode.c"},
    {"SYSRET",    NULL, kernel_entry, "guest/longmode.c"},
    {"SYSENTER",  NULL, kernel_entry, "guest/privilege.c"},
    {"SYSEXIT",   NULL, kernel_entry, "guest/privilege.c"},
    {"RDFSBASE",  NULL, own_thread, "guest/longmode.c"},
    {"RDGSBASE",  NULL, own_thread, "guest/longmode.c"},
    {"WRFSBASE",  NULL, own_thread, "guest/longmode.c"},
    {"WRGSBASE",  NULL, own_thread, "guest/longmode.c"},
    {"VMCALL",    NULL, intercepted, NULL},
    {"VMMCALL",   NULL, intercepted, NULL},
    {"MONITOR",   NULL, intercepted, "guest/wait.c"},
    {"MWAIT",     NULL, intercepted, "guest/wait.c"},
    {"MONITORX",  NULL, intercepted, "guest/wait.c"},
    {"MWAITX",    NULL, intercepted, "guest/wait.c"},
    {"UMONITOR",  NULL, time_or_chance, "guest/wait.c"},
    {"UMWAIT",    NULL, time_or_chance, "guest/wait.c"},
    {"TPAUSE",    NULL, time_or_chance, "guest/wait.c"},

    {"CLAC",      NULL, PRIVILEGED, "tests/interp/test_rules.c"},
    {"STAC",      NULL, PRIVILEGED, "tests/interp/test_rules.c"},
    {"CLTS",      NULL, PRIVILEGED, "guest/privilege.c"},
    {"HLT",       NULL, PRIVILEGED, "guest/privilege.c"},
    {"INVD",      NULL, PRIVILEGED, "guest/privilege.c"},
    {"WBINVD",    NULL, PRIVILEGED, "guest/privilege.c"},
    {"WBNOINVD",  NULL, PRIVILEGED, "guest/odds.c"},
    {"INVLPG",    NULL, PRIVILEGED, "guest/paging.c"},
    {"INVPCID",   NULL, PRIVILEGED, "guest/paging.c"},
    {"LGDT",      NULL, PRIVILEGED, "guest/privilege.c"},
    {"LIDT",      NULL, PRIVILEGED, "guest/privilege.c"},
    {"LLDT",      NULL, PRIVILEGED, "guest/segments.c"},
    {"LTR",       NULL, PRIVILEGED, "guest/segments.c"},
    {"LMSW",      NULL, PRIVILEGED, "guest/privilege.c"},
    {"MOV",       "Cy,Ry", PRIVILEGED, "guest/privilege.c"},
    {"MOV",       "Ry,Cy", PRIVILEGED, "guest/privilege.c"},
    {"MOV",       "Dy,Ry", PRIVILEGED, "guest/debug.c"},
    {"MOV",       "Ry,Dy", PRIVILEGED, "guest/debug.c"},
    {"RDMSR",     NULL, PRIVILEGED, "guest/msr.c"},
    {"WRMSR",     NULL, PRIVILEGED, "guest/msr.c"},
    {"RSM",       NULL, PRIVILEGED, "tests/interp/test_rules.c"},
    {"SWAPGS",    NULL, PRIVILEGED, "guest/longmode.c"},
    {"XSETBV",    NULL, PRIVILEGED, "guest/xsave.c"},
    {"XSAVES",    NULL, PRIVILEGED, "guest/xsave.c"},
    {"XRSTORS",   NULL, PRIVILEGED, "guest/xsave.c"},

    /* Compared where the host has them. */
    {"CLZERO",    NULL, NULL, "guest/odds.c"},
    {"RDPKRU",    NULL, NULL, "guest/pkeys.c"},
    {"WRPKRU",    NULL, NULL, "guest/pkeys.c"},
    {"MOVNTSS",   NULL, NULL, "tests/interp/test_sse4a.c"},
    {"MOVNTSD",   NULL, NULL, "tests/interp/test_sse4a.c"},
    {"EXTRQ",     NULL, NULL, "tests/interp/test_sse4a.c"},
    {"INSERTQ",   NULL, NULL, "tests/interp/test_sse4a.c"},
    /* clang-format on */
};

static bool rule_applies(size_t n, u16 op)
{
    return op_matches(op, rules[n].mnemonic) &&
           (!rules[n].operands || !strcmp(rules[n].operands, x86_ops[op].operands));
}

const char *tested_by(u16 op)
{
    for (size_t n = 0; n < ARRAY_SIZE(rules); n++)
        if (rule_applies(n, op))
            return rules[n].tested_by;
    return NULL;
}

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
    for (size_t n = 0; n < ARRAY_SIZE(rules); n++)
        if (rule_applies(n, op))
            return rules[n].reason;
    return NULL;
}

/* CPUID takes long in a virtual machine. */
enum known { UNKNOWN, NO, YES };

bool host_has(u16 op)
{
    static enum known known[X86_FEATURE_COUNT] = {[X86_FEATURE_NONE] = YES};
    unsigned f = x86_ops[op].feature;

    if (known[f] == UNKNOWN)
        known[f] = host_cpu_has((enum x86_feature)f) ? YES : NO;
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

/* Which of several parts the CPU touches first, and so what CR2 tells, is its own affair. */
bool address_ignored(const struct insn_case *test)
{
    return is_image(test->insn.op) || op_matches(test->insn.op, "MASKMOV*") ||
           op_matches(test->insn.op, "VMASKMOVDQU");
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
