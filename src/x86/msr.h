/*
 * Model-specific registers: numbers and bits (SDM volume 4; AMD APM 2 appendix A). Names without IA32_.
 */
#ifndef X86_MSR_H
#define X86_MSR_H

#include "base/types.h"

enum {
    MSR_P5_MC_ADDR = 0x0,
    MSR_P5_MC_TYPE = 0x1,
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_EBL_CR_POWERON = 0x2a,
    MSR_SMI_COUNT = 0x34,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDT_TRIG = 0x79,
    MSR_BIOS_SIGN_ID = 0x8b, /* microcode revision in the upper half */
    MSR_PMC0 = 0xc1,
    MSR_PLATFORM_INFO = 0xce,
    MSR_UMWAIT_CONTROL = 0xe1,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_FLUSH_CMD = 0x10b,
    MSR_MISC_FEATURES_ENABLES = 0x140,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MCG_CTL = 0x17b,
    MSR_PERFEVTSEL0 = 0x186,
    MSR_PERF_STATUS = 0x198,
    MSR_PERF_CTL = 0x199,
    MSR_THERM_STATUS = 0x19c,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LASTBRANCHFROMIP = 0x1db,
    MSR_LASTBRANCHTOIP = 0x1dc,
    MSR_LASTINTFROMIP = 0x1dd,
    MSR_LASTINTTOIP = 0x1de,
    MSR_MTRR_PHYSBASE0 = 0x200, /* even: base, odd: mask; X86_MTRR_VARIABLE pairs */
    MSR_MTRR_FIX64K_00000 = 0x250,
    MSR_MTRR_FIX16K_80000 = 0x258,
    MSR_MTRR_FIX16K_A0000 = 0x259,
    MSR_MTRR_FIX4K_C0000 = 0x268, /* eight of them, 32 KiB each, up to 26Fh */
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_MC0_CTL = 0x400,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_PKRS = 0x6e1,
    MSR_X2APIC_FIRST = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
    MSR_XSS = 0xda0,
};

#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u
/* AMD */
#define MSR_AMD_SYSCFG 0xc0010010u
#define MSR_AMD_HWCR   0xc0010015u
#define MSR_AMD_NB_CFG 0xc001001fu
#define MSR_AMD_PATCH  0xc001008bu /* BIOS_SIGN_ID there */
#define MSR_AMD_VM_CR  0xc0010114u
#define MSR_AMD_LS_CFG 0xc0011020u
#define MSR_AMD_DE_CFG 0xc0011029u

enum { MTRRCAP_FIXED = 1 << 8, MTRRCAP_WC = 1 << 10 }; /* bits 7..0: how many variable ranges */
enum { MTRR_DEF_TYPE_FIXED = 1 << 10, MTRR_DEF_TYPE_ENABLE = 1 << 11 };
enum { MTRR_PHYSMASK_VALID = 1 << 11 };
enum { FEATURE_CONTROL_LOCK = 1 << 0 };
enum {
    MISC_ENABLE_FAST_STRINGS = 1 << 0,
    MISC_ENABLE_BTS_UNAVAILABLE = 1 << 11,
    MISC_ENABLE_PEBS_UNAVAILABLE = 1 << 12,
    MISC_ENABLE_MONITOR = 1 << 18,
    MISC_ENABLE_LIMIT_CPUID = 1 << 22,
    MISC_ENABLE_XD_DISABLE_SHIFT = 34
};
enum {
    SPEC_CTRL_IBRS = 1 << 0,
    SPEC_CTRL_STIBP = 1 << 1,
    SPEC_CTRL_SSBD = 1 << 2,
    SPEC_CTRL_BHI_DIS_S = 1 << 10
};
enum { PRED_CMD_IBPB = 1 << 0 };

/* IA32_ARCH_CAPABILITIES as this VMM has it: it executes nothing speculatively, so none of the known leaks is there, and
   IBRS is as good as always on. Operating systems leave out their costly mitigations. */
enum {
    ARCH_CAP_RDCL_NO = 1 << 0,
    ARCH_CAP_IBRS_ALL = 1 << 1,
    ARCH_CAP_SKIP_VMENTRY_L1D_FLUSH = 1 << 3,
    ARCH_CAP_SSB_NO = 1 << 4,
    ARCH_CAP_MDS_NO = 1 << 5,
    ARCH_CAP_PSCHANGE_MC_NO = 1 << 6,
    ARCH_CAP_TAA_NO = 1 << 8,
    ARCH_CAP_SBDR_SSDP_NO = 1 << 13,
    ARCH_CAP_FBSDP_NO = 1 << 14,
    ARCH_CAP_PSDP_NO = 1 << 15,
    ARCH_CAP_BHI_NO = 1 << 20,
    ARCH_CAP_PBRSB_NO = 1 << 24,
    ARCH_CAP_GDS_NO = 1 << 26,
    ARCH_CAP_RFDS_NO = 1 << 27
};
#define ARCH_CAP_ITS_NO (1ull << 62)
#define ARCH_CAPABILITIES                                                                                    \
    ((u64)(ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_VMENTRY_L1D_FLUSH | ARCH_CAP_SSB_NO |        \
           ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO |             \
           ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO |    \
           ARCH_CAP_RFDS_NO) |                                                                               \
     ARCH_CAP_ITS_NO)

#endif
