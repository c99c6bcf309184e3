/*
 * The features that CPUID tells of, one row each: C name, the name that Linux prints in /proc/cpuinfo (and --cpu takes),
 * CPUID leaf, subleaf, output register and bit. Consumers: enum x86_feature, the CPU models, the CPUID leaves.
 */
#ifndef X86_CPU_FEATURES_H
#define X86_CPU_FEATURES_H

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

#define X86_FEATURES(F)                                                                                      \
    /* leaf 1, EDX */                                                                                        \
    F(FPU, "fpu", 1, 0, EDX, 0)                                                                              \
    F(VME, "vme", 1, 0, EDX, 1)                                                                              \
    F(DE, "de", 1, 0, EDX, 2)                                                                                \
    F(PSE, "pse", 1, 0, EDX, 3)                                                                              \
    F(TSC, "tsc", 1, 0, EDX, 4)                                                                              \
    F(MSR, "msr", 1, 0, EDX, 5)                                                                              \
    F(PAE, "pae", 1, 0, EDX, 6)                                                                              \
    F(MCE, "mce", 1, 0, EDX, 7)                                                                              \
    F(CX8, "cx8", 1, 0, EDX, 8)                                                                              \
    F(APIC, "apic", 1, 0, EDX, 9)                                                                            \
    F(SEP, "sep", 1, 0, EDX, 11)                                                                             \
    F(MTRR, "mtrr", 1, 0, EDX, 12)                                                                           \
    F(PGE, "pge", 1, 0, EDX, 13)                                                                             \
    F(MCA, "mca", 1, 0, EDX, 14)                                                                             \
    F(CMOV, "cmov", 1, 0, EDX, 15)                                                                           \
    F(PAT, "pat", 1, 0, EDX, 16)                                                                             \
    F(PSE36, "pse36", 1, 0, EDX, 17)                                                                         \
    F(CLFLUSH, "clflush", 1, 0, EDX, 19)                                                                     \
    F(MMX, "mmx", 1, 0, EDX, 23)                                                                             \
    F(FXSR, "fxsr", 1, 0, EDX, 24)                                                                           \
    F(SSE, "sse", 1, 0, EDX, 25)                                                                             \
    F(SSE2, "sse2", 1, 0, EDX, 26)                                                                           \
    F(SS, "ss", 1, 0, EDX, 27)                                                                               \
    F(HT, "ht", 1, 0, EDX, 28)                                                                               \
    /* leaf 1, ECX */                                                                                        \
    F(SSE3, "sse3", 1, 0, ECX, 0)                                                                            \
    F(PCLMULQDQ, "pclmulqdq", 1, 0, ECX, 1)                                                                  \
    F(MONITOR, "monitor", 1, 0, ECX, 3)                                                                      \
    F(VMX, "vmx", 1, 0, ECX, 5)                                                                              \
    F(SMX, "smx", 1, 0, ECX, 6)                                                                              \
    F(SSSE3, "ssse3", 1, 0, ECX, 9)                                                                          \
    F(FMA, "fma", 1, 0, ECX, 12)                                                                             \
    F(CX16, "cx16", 1, 0, ECX, 13)                                                                           \
    F(PCID, "pcid", 1, 0, ECX, 17)                                                                           \
    F(SSE4_1, "sse4_1", 1, 0, ECX, 19)                                                                       \
    F(SSE4_2, "sse4_2", 1, 0, ECX, 20)                                                                       \
    F(X2APIC, "x2apic", 1, 0, ECX, 21)                                                                       \
    F(MOVBE, "movbe", 1, 0, ECX, 22)                                                                         \
    F(POPCNT, "popcnt", 1, 0, ECX, 23)                                                                       \
    F(TSC_DEADLINE, "tsc_deadline_timer", 1, 0, ECX, 24)                                                     \
    F(AES, "aes", 1, 0, ECX, 25)                                                                             \
    F(XSAVE, "xsave", 1, 0, ECX, 26)                                                                         \
    F(AVX, "avx", 1, 0, ECX, 28)                                                                             \
    F(F16C, "f16c", 1, 0, ECX, 29)                                                                           \
    F(RDRAND, "rdrand", 1, 0, ECX, 30)                                                                       \
    F(HYPERVISOR, "hypervisor", 1, 0, ECX, 31)                                                               \
    /* leaf 6, EAX */                                                                                        \
    F(ARAT, "arat", 6, 0, EAX, 2)                                                                            \
    /* leaf 7, EBX */                                                                                        \
    F(FSGSBASE, "fsgsbase", 7, 0, EBX, 0)                                                                    \
    F(TSC_ADJUST, "tsc_adjust", 7, 0, EBX, 1)                                                                \
    F(SGX, "sgx", 7, 0, EBX, 2)                                                                              \
    F(BMI1, "bmi1", 7, 0, EBX, 3)                                                                            \
    F(AVX2, "avx2", 7, 0, EBX, 5)                                                                            \
    F(FDP_EXCPTN_ONLY, "fdp_excptn_only", 7, 0, EBX, 6)                                                      \
    F(SMEP, "smep", 7, 0, EBX, 7)                                                                            \
    F(BMI2, "bmi2", 7, 0, EBX, 8)                                                                            \
    F(ERMS, "erms", 7, 0, EBX, 9)                                                                            \
    F(INVPCID, "invpcid", 7, 0, EBX, 10)                                                                     \
    F(RTM, "rtm", 7, 0, EBX, 11)                                                                             \
    F(ZERO_FCS_FDS, "zero_fcs_fds", 7, 0, EBX, 13)                                                           \
    F(RDSEED, "rdseed", 7, 0, EBX, 18)                                                                       \
    F(ADX, "adx", 7, 0, EBX, 19)                                                                             \
    F(SMAP, "smap", 7, 0, EBX, 20)                                                                           \
    F(CLFLUSHOPT, "clflushopt", 7, 0, EBX, 23)                                                               \
    F(CLWB, "clwb", 7, 0, EBX, 24)                                                                           \
    F(SHA, "sha_ni", 7, 0, EBX, 29)                                                                          \
    /* leaf 7, ECX */                                                                                        \
    F(UMIP, "umip", 7, 0, ECX, 2)                                                                            \
    F(PKU, "pku", 7, 0, ECX, 3)                                                                              \
    F(WAITPKG, "waitpkg", 7, 0, ECX, 5)                                                                      \
    F(GFNI, "gfni", 7, 0, ECX, 8)                                                                            \
    F(VAES, "vaes", 7, 0, ECX, 9)                                                                            \
    F(VPCLMULQDQ, "vpclmulqdq", 7, 0, ECX, 10)                                                               \
    F(LA57, "la57", 7, 0, ECX, 16)                                                                           \
    F(RDPID, "rdpid", 7, 0, ECX, 22)                                                                         \
    F(MOVDIRI, "movdiri", 7, 0, ECX, 27)                                                                     \
    F(MOVDIR64B, "movdir64b", 7, 0, ECX, 28)                                                                 \
    /* leaf 7, EDX; leaf 7.1 */                                                                              \
    F(FSRM, "fsrm", 7, 0, EDX, 4)                                                                            \
    F(SERIALIZE, "serialize", 7, 0, EDX, 14)                                                                 \
    F(AVX_VNNI, "avx_vnni", 7, 1, EAX, 4)                                                                    \
    /* leaves 0Dh and 14h */                                                                                 \
    F(XSAVEOPT, "xsaveopt", 0xD, 1, EAX, 0)                                                                  \
    F(XSAVEC, "xsavec", 0xD, 1, EAX, 1)                                                                      \
    F(XGETBV1, "xgetbv1", 0xD, 1, EAX, 2)                                                                    \
    F(XSAVES, "xsaves", 0xD, 1, EAX, 3)                                                                      \
    F(PTWRITE, "ptwrite", 0x14, 0, EBX, 4)                                                                   \
    /* leaf 80000001h, EDX and ECX */                                                                        \
    F(SYSCALL, "syscall", 0x80000001, 0, EDX, 11)                                                            \
    F(NX, "nx", 0x80000001, 0, EDX, 20)                                                                      \
    F(MMXEXT, "mmxext", 0x80000001, 0, EDX, 22)                                                              \
    F(FXSR_OPT, "fxsr_opt", 0x80000001, 0, EDX, 25)                                                          \
    F(PDPE1GB, "pdpe1gb", 0x80000001, 0, EDX, 26)                                                            \
    F(RDTSCP, "rdtscp", 0x80000001, 0, EDX, 27)                                                              \
    F(LM, "lm", 0x80000001, 0, EDX, 29)                                                                      \
    F(LAHF_LM, "lahf_lm", 0x80000001, 0, ECX, 0)                                                             \
    F(SVM, "svm", 0x80000001, 0, ECX, 2)                                                                     \
    F(CR8_LEGACY, "cr8_legacy", 0x80000001, 0, ECX, 4)                                                       \
    F(LZCNT, "abm", 0x80000001, 0, ECX, 5)                                                                   \
    F(SSE4A, "sse4a", 0x80000001, 0, ECX, 6)                                                                 \
    F(PREFETCHW, "3dnowprefetch", 0x80000001, 0, ECX, 8)                                                     \
    F(TOPOEXT, "topoext", 0x80000001, 0, ECX, 22)                                                            \
    F(MWAITX, "mwaitx", 0x80000001, 0, ECX, 29)                                                              \
    /* leaves 80000007h and 80000008h */                                                                     \
    F(INVARIANT_TSC, "constant_tsc", 0x80000007, 0, EDX, 8)                                                  \
    F(CLZERO, "clzero", 0x80000008, 0, EBX, 0)                                                               \
    F(RDPRU, "rdpru", 0x80000008, 0, EBX, 4)                                                                 \
    F(WBNOINVD, "wbnoinvd", 0x80000008, 0, EBX, 9)

/* X86_FEATURE_NONE: an instruction that every CPU has. */
enum x86_feature {
    X86_FEATURE_NONE,
#define X86_FEATURE_ENUM(name, text, leaf, subleaf, reg, bit) X86_FEATURE_##name,
    X86_FEATURES(X86_FEATURE_ENUM)
#undef X86_FEATURE_ENUM
        X86_FEATURE_COUNT
};

#endif
