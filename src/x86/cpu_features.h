/*
 * The features that CPUID tells of, one row each: C name, the name that Linux prints in /proc/cpuinfo (and --cpu takes),
 * CPUID leaf, subleaf, output register and bit, and whether the engines implement it. Consumers: enum x86_feature, the
 * CPU models, the CPUID leaves.
 */
#ifndef X86_CPU_FEATURES_H
#define X86_CPU_FEATURES_H

/*
 * DONE: every engine executes it; it is in the model `max`, and in the models whose lists in cpuid.c name it.
 * ASK: implemented, and offered only where +name asks for it.
 * LATER: nothing executes it yet; no model offers it, and +name is an error. Whoever implements a feature writes DONE
 * here and takes `later` out of its rows in opcodes.tbl.
 */
enum x86_feature_status { X86_FEATURE_DONE, X86_FEATURE_ASK, X86_FEATURE_LATER };

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

#define X86_FEATURES(F)                                                                                      \
    /* leaf 1, EDX */                                                                                        \
    F(FPU, "fpu", 1, 0, EDX, 0, DONE)                                                                        \
    F(VME, "vme", 1, 0, EDX, 1, DONE)                                                                        \
    F(DE, "de", 1, 0, EDX, 2, DONE)                                                                          \
    F(PSE, "pse", 1, 0, EDX, 3, DONE)                                                                        \
    F(TSC, "tsc", 1, 0, EDX, 4, DONE)                                                                        \
    F(MSR, "msr", 1, 0, EDX, 5, DONE)                                                                        \
    F(PAE, "pae", 1, 0, EDX, 6, DONE)                                                                        \
    F(MCE, "mce", 1, 0, EDX, 7, DONE)                                                                        \
    F(CX8, "cx8", 1, 0, EDX, 8, DONE)                                                                        \
    F(APIC, "apic", 1, 0, EDX, 9, DONE)                                                                      \
    F(SEP, "sep", 1, 0, EDX, 11, DONE)                                                                       \
    F(MTRR, "mtrr", 1, 0, EDX, 12, DONE)                                                                     \
    F(PGE, "pge", 1, 0, EDX, 13, DONE)                                                                       \
    F(MCA, "mca", 1, 0, EDX, 14, DONE)                                                                       \
    F(CMOV, "cmov", 1, 0, EDX, 15, DONE)                                                                     \
    F(PAT, "pat", 1, 0, EDX, 16, DONE)                                                                       \
    F(PSE36, "pse36", 1, 0, EDX, 17, DONE)                                                                   \
    F(CLFLUSH, "clflush", 1, 0, EDX, 19, DONE)                                                               \
    F(MMX, "mmx", 1, 0, EDX, 23, DONE)                                                                       \
    F(FXSR, "fxsr", 1, 0, EDX, 24, DONE)                                                                     \
    F(SSE, "sse", 1, 0, EDX, 25, DONE)                                                                       \
    F(SSE2, "sse2", 1, 0, EDX, 26, DONE)                                                                     \
    F(SS, "ss", 1, 0, EDX, 27, DONE)                                                                         \
    F(HT, "ht", 1, 0, EDX, 28, DONE)                                                                         \
    /* leaf 1, ECX */                                                                                        \
    F(SSE3, "sse3", 1, 0, ECX, 0, DONE)                                                                      \
    F(PCLMULQDQ, "pclmulqdq", 1, 0, ECX, 1, DONE)                                                            \
    F(MONITOR, "monitor", 1, 0, ECX, 3, ASK)                                                                 \
    F(VMX, "vmx", 1, 0, ECX, 5, LATER)                                                                       \
    F(SMX, "smx", 1, 0, ECX, 6, LATER)                                                                       \
    F(SSSE3, "ssse3", 1, 0, ECX, 9, DONE)                                                                    \
    F(FMA, "fma", 1, 0, ECX, 12, DONE)                                                                       \
    F(CX16, "cx16", 1, 0, ECX, 13, DONE)                                                                     \
    F(PCID, "pcid", 1, 0, ECX, 17, DONE)                                                                     \
    F(SSE4_1, "sse4_1", 1, 0, ECX, 19, DONE)                                                                 \
    F(SSE4_2, "sse4_2", 1, 0, ECX, 20, DONE)                                                                 \
    F(X2APIC, "x2apic", 1, 0, ECX, 21, DONE)                                                                 \
    F(MOVBE, "movbe", 1, 0, ECX, 22, DONE)                                                                   \
    F(POPCNT, "popcnt", 1, 0, ECX, 23, DONE)                                                                 \
    F(TSC_DEADLINE, "tsc_deadline_timer", 1, 0, ECX, 24, DONE)                                               \
    F(AES, "aes", 1, 0, ECX, 25, DONE)                                                                       \
    F(XSAVE, "xsave", 1, 0, ECX, 26, DONE)                                                                   \
    F(AVX, "avx", 1, 0, ECX, 28, DONE)                                                                       \
    F(F16C, "f16c", 1, 0, ECX, 29, DONE)                                                                     \
    F(RDRAND, "rdrand", 1, 0, ECX, 30, DONE)                                                                 \
    F(HYPERVISOR, "hypervisor", 1, 0, ECX, 31, DONE)                                                         \
    /* leaf 6, EAX */                                                                                        \
    F(ARAT, "arat", 6, 0, EAX, 2, DONE)                                                                      \
    /* leaf 7, EBX */                                                                                        \
    F(FSGSBASE, "fsgsbase", 7, 0, EBX, 0, DONE)                                                              \
    F(TSC_ADJUST, "tsc_adjust", 7, 0, EBX, 1, DONE)                                                          \
    F(BMI1, "bmi1", 7, 0, EBX, 3, DONE)                                                                      \
    F(AVX2, "avx2", 7, 0, EBX, 5, DONE)                                                                      \
    F(FDP_EXCPTN_ONLY, "fdp_excptn_only", 7, 0, EBX, 6, DONE)                                                \
    F(SMEP, "smep", 7, 0, EBX, 7, DONE)                                                                      \
    F(BMI2, "bmi2", 7, 0, EBX, 8, DONE)                                                                      \
    F(ERMS, "erms", 7, 0, EBX, 9, DONE)                                                                      \
    F(INVPCID, "invpcid", 7, 0, EBX, 10, DONE)                                                               \
    F(RTM, "rtm", 7, 0, EBX, 11, LATER)                                                                      \
    F(ZERO_FCS_FDS, "zero_fcs_fds", 7, 0, EBX, 13, DONE)                                                     \
    F(RDSEED, "rdseed", 7, 0, EBX, 18, DONE)                                                                 \
    F(ADX, "adx", 7, 0, EBX, 19, DONE)                                                                       \
    F(SMAP, "smap", 7, 0, EBX, 20, DONE)                                                                     \
    F(CLFLUSHOPT, "clflushopt", 7, 0, EBX, 23, DONE)                                                         \
    F(CLWB, "clwb", 7, 0, EBX, 24, DONE)                                                                     \
    F(SHA, "sha_ni", 7, 0, EBX, 29, DONE)                                                                    \
    /* leaf 7, ECX */                                                                                        \
    F(UMIP, "umip", 7, 0, ECX, 2, DONE)                                                                      \
    F(PKU, "pku", 7, 0, ECX, 3, DONE)                                                                        \
    F(WAITPKG, "waitpkg", 7, 0, ECX, 5, DONE)                                                                \
    F(GFNI, "gfni", 7, 0, ECX, 8, DONE)                                                                      \
    F(VAES, "vaes", 7, 0, ECX, 9, DONE)                                                                      \
    F(VPCLMULQDQ, "vpclmulqdq", 7, 0, ECX, 10, DONE)                                                         \
    F(LA57, "la57", 7, 0, ECX, 16, DONE)                                                                     \
    F(RDPID, "rdpid", 7, 0, ECX, 22, DONE)                                                                   \
    F(CLDEMOTE, "cldemote", 7, 0, ECX, 25, DONE)                                                             \
    F(MOVDIRI, "movdiri", 7, 0, ECX, 27, DONE)                                                               \
    F(MOVDIR64B, "movdir64b", 7, 0, ECX, 28, DONE)                                                           \
    F(PKS, "pks", 7, 0, ECX, 31, DONE)                                                                       \
    /* leaf 7, EDX; 7.1, 7.2 */                                                                              \
    F(FSRM, "fsrm", 7, 0, EDX, 4, DONE)                                                                      \
    F(SERIALIZE, "serialize", 7, 0, EDX, 14, DONE)                                                           \
    F(SPEC_CTRL, "spec_ctrl", 7, 0, EDX, 26, DONE)                                                           \
    F(ARCH_CAPABILITIES, "arch_capabilities", 7, 0, EDX, 29, DONE)                                           \
    F(BHI_CTRL, "bhi_ctrl", 7, 2, EDX, 4, DONE)                                                              \
    F(AVX_VNNI, "avx_vnni", 7, 1, EAX, 4, DONE)                                                              \
    /* leaves 0Dh and 14h */                                                                                 \
    F(XSAVEOPT, "xsaveopt", 0xD, 1, EAX, 0, DONE)                                                            \
    F(XSAVEC, "xsavec", 0xD, 1, EAX, 1, DONE)                                                                \
    F(XGETBV1, "xgetbv1", 0xD, 1, EAX, 2, DONE)                                                              \
    F(XSAVES, "xsaves", 0xD, 1, EAX, 3, DONE)                                                                \
    F(PTWRITE, "ptwrite", 0x14, 0, EBX, 4, LATER)                                                            \
    /* leaf 80000001h, EDX and ECX */                                                                        \
    F(SYSCALL, "syscall", 0x80000001, 0, EDX, 11, DONE)                                                      \
    F(NX, "nx", 0x80000001, 0, EDX, 20, DONE)                                                                \
    F(MMXEXT, "mmxext", 0x80000001, 0, EDX, 22, DONE)                                                        \
    F(FXSR_OPT, "fxsr_opt", 0x80000001, 0, EDX, 25, DONE)                                                    \
    F(PDPE1GB, "pdpe1gb", 0x80000001, 0, EDX, 26, DONE)                                                      \
    F(RDTSCP, "rdtscp", 0x80000001, 0, EDX, 27, DONE)                                                        \
    F(LM, "lm", 0x80000001, 0, EDX, 29, DONE)                                                                \
    F(LAHF_LM, "lahf_lm", 0x80000001, 0, ECX, 0, DONE)                                                       \
    F(SVM, "svm", 0x80000001, 0, ECX, 2, LATER)                                                              \
    F(CR8_LEGACY, "cr8_legacy", 0x80000001, 0, ECX, 4, DONE)                                                 \
    F(LZCNT, "abm", 0x80000001, 0, ECX, 5, DONE)                                                             \
    F(SSE4A, "sse4a", 0x80000001, 0, ECX, 6, DONE)                                                           \
    F(PREFETCHW, "3dnowprefetch", 0x80000001, 0, ECX, 8, DONE)                                               \
    F(TOPOEXT, "topoext", 0x80000001, 0, ECX, 22, DONE)                                                      \
    F(MWAITX, "mwaitx", 0x80000001, 0, ECX, 29, DONE)                                                        \
    /* leaves 80000007h and 80000008h */                                                                     \
    F(INVARIANT_TSC, "constant_tsc", 0x80000007, 0, EDX, 8, DONE)                                            \
    F(CLZERO, "clzero", 0x80000008, 0, EBX, 0, DONE)                                                         \
    F(XSAVEERPTR, "xsaveerptr", 0x80000008, 0, EBX, 2, DONE)                                                 \
    F(RDPRU, "rdpru", 0x80000008, 0, EBX, 4, DONE)                                                           \
    F(WBNOINVD, "wbnoinvd", 0x80000008, 0, EBX, 9, DONE)

/* X86_FEATURE_NONE: an instruction that every CPU has. */
enum x86_feature {
    X86_FEATURE_NONE,
#define X86_FEATURE_ENUM(name, text, leaf, subleaf, reg, bit, status) X86_FEATURE_##name,
    X86_FEATURES(X86_FEATURE_ENUM)
#undef X86_FEATURE_ENUM
        X86_FEATURE_COUNT
};

#endif
