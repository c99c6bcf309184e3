/*
 * The architectural state of one virtual CPU (invariant 1): plain data without host pointers, which any engine can load
 * and store. What an engine caches (TLB, code, lazy flags) is never here.
 *
 * Its state table is x86/vcpu_state.c. Numbers such as "SDM 3A 2.3" cite the Intel Software Developer's Manual.
 */
#ifndef X86_VCPU_STATE_H
#define X86_VCPU_STATE_H

#include "base/types.h"
#include "state/state.h"

/* General registers in encoding order. */
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

/* Segment registers in encoding order; the two system segments follow. */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT, SEG_LDTR = SEG_COUNT, SEG_TR, SEG_ALL };

/* RFLAGS (SDM 3A 2.3). */
enum {
    FLAG_CF = 1 << 0,
    FLAG_ONE = 1 << 1, /* reads as 1 */
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
    FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};

/* CR0, CR4, EFER (SDM 3A 2.5, 2.2.1). */
enum {
    CR0_PE = 1 << 0,
    CR0_MP = 1 << 1,
    CR0_EM = 1 << 2,
    CR0_TS = 1 << 3,
    CR0_ET = 1 << 4,
    CR0_NE = 1 << 5,
    CR0_WP = 1 << 16,
    CR0_AM = 1 << 18,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
};
#define CR0_PG   (1u << 31)
#define CR3_PCID 0xfffu /* with CR4.PCIDE */
enum {
    CR4_VME = 1 << 0,
    CR4_PVI = 1 << 1,
    CR4_TSD = 1 << 2,
    CR4_DE = 1 << 3,
    CR4_PSE = 1 << 4,
    CR4_PAE = 1 << 5,
    CR4_MCE = 1 << 6,
    CR4_PGE = 1 << 7,
    CR4_PCE = 1 << 8,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_UMIP = 1 << 11,
    CR4_LA57 = 1 << 12,
    CR4_FSGSBASE = 1 << 16,
    CR4_PCIDE = 1 << 17,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
    CR4_PKE = 1 << 22,
    CR4_PKS = 1 << 24,
};
/* XCR0, and the components of the XSAVE family (SDM 1 13.1). */
enum { XFEATURE_X87 = 1 << 0, XFEATURE_SSE = 1 << 1, XFEATURE_AVX = 1 << 2 };
enum { EFER_SCE = 1 << 0, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11, EFER_FFXSR = 1 << 14 };

/* Exception vectors (SDM 3A 6.3.1). */
enum {
    VEC_DE = 0,
    VEC_DB = 1,
    VEC_NMI = 2,
    VEC_BP = 3,
    VEC_OF = 4,
    VEC_BR = 5,
    VEC_UD = 6,
    VEC_NM = 7,
    VEC_DF = 8,
    VEC_TS = 10,
    VEC_NP = 11,
    VEC_SS = 12,
    VEC_GP = 13,
    VEC_PF = 14,
    VEC_MF = 16,
    VEC_AC = 17,
    VEC_MC = 18,
    VEC_XM = 19,
};

/* Page-fault error code (SDM 3A 4.7). */
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };

/*
 * A segment register with its hidden part (SDM 3A 3.4.3). `attr` is bits 40..55 of the descriptor with the limit bits
 * 48..51 cleared, so: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15; and SEG_UNUSABLE for a null segment.
 * `limit` is in bytes, scaled by G already.
 */
struct seg {
    u64 base;
    u32 limit;
    u16 selector;
    u16 attr;
};
enum {
    SEG_TYPE = 0xf,
    SEG_ACCESSED = 1 << 0,    /* of code and data segments */
    SEG_WRITE = 1 << 1,       /* data: writable; code: readable */
    SEG_EXPAND_DOWN = 1 << 2, /* data; code: conforming */
    SEG_CODE = 1 << 3,
    SEG_S = 1 << 4, /* code or data, not system */
    SEG_DPL_SHIFT = 5,
    SEG_DPL = 3 << SEG_DPL_SHIFT,
    SEG_P = 1 << 7,
    SEG_UNUSABLE = 1 << 8,
    SEG_AVL = 1 << 12,
    SEG_L = 1 << 13,
    SEG_DB = 1 << 14,
    SEG_G = 1 << 15,
};

struct desc_table {
    u64 base;
    u16 limit;
};

/* IA32_APIC_BASE (SDM 3A 11.4.4). */
enum { IA32_APIC_BASE_BSP = 1 << 8, IA32_APIC_BASE_X2APIC = 1 << 10, IA32_APIC_BASE_ENABLE = 1 << 11 };
#define IA32_APIC_BASE_DEFAULT 0xfee00000u

enum vcpu_activity { VCPU_RUNNING, VCPU_HALTED, VCPU_WAIT_SIPI, VCPU_SHUTDOWN, VCPU_WAITING };

/* MWAIT and its like: which instruction armed the monitor, and what ends the wait besides interrupts and the deadline. */
enum vcpu_monitor { VCPU_MONITOR_NONE, VCPU_MONITOR_MWAIT, VCPU_MONITOR_UMWAIT };
enum {
    VCPU_WAIT_STORE = 1 << 0,   /* a store to the monitored line */
    VCPU_WAIT_MASKED = 1 << 1,  /* an interrupt, also while RFLAGS.IF is 0 */
    VCPU_WAIT_LIMITED = 1 << 2, /* the deadline is the system's: CF tells */
    VCPU_WAIT_ALL = 7,
};
enum { VCPU_LINE = 64 };

enum { X86_MTRR_VARIABLE = 8, X86_MTRR_FIXED = 11 };

struct x87_reg {
    u64 mantissa;
    u16 sign_exponent;
};

struct x87_state {
    struct x87_reg reg[8]; /* physical order: R0..R7, not relative to TOP */
    u16 fcw;
    u16 fsw; /* TOP in bits 11..13 */
    u8 tags; /* abridged, FXSAVE form: bit n set = Rn is not empty */
    u16 fop; /* last non-control opcode, 11 bits */
    u64 fip, fdp;
    u16 fcs, fds;
};

struct vcpu_state {
    u64 gpr[17]; /* [16] is always 0: what an absent base or index register reads */
    u64 rip;
    u64 rflags; /* exact, FLAG_ONE set */
    struct seg seg[SEG_ALL];
    struct desc_table gdtr, idtr;

    u64 cr0, cr2, cr3, cr4, cr8;
    u64 pdptr[4]; /* PAE paging: loaded by MOV CR3 (SDM 3A 4.4.1) */
    u64 dr[8];    /* [4] and [5] unused */
    u64 xcr0;

    struct x87_state x87;
    u8 vec[32][64]; /* ZMM registers; XMM and YMM are their low parts */
    u64 opmask[8];
    u32 mxcsr;
    u32 pkru;

    /* MSRs */
    u64 efer, star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    u64 tsc_offset; /* guest TSC = ticks of the virtual clock at the VM's TSC frequency + this */
    u64 tsc_adjust;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, misc_enable, apic_base, debugctl, xss, pkrs, spec_ctrl, platform_info_misc, smi_count,
        feature_control;
    u64 mtrr_def_type, mtrr_fixed[X86_MTRR_FIXED], mtrr_base[X86_MTRR_VARIABLE], mtrr_mask[X86_MTRR_VARIABLE];
    u64 mcg_status, mcg_ctl;
    u64 ucode_rev;

    u8 activity;            /* enum vcpu_activity */
    u8 sipi_vector_pending; /* VCPU_WAIT_SIPI: unused while waiting; kept for a SIPI that arrived at an awkward time */
    bool sti_shadow;    /* the instruction after STI: maskable interrupts wait */
    bool mov_ss_shadow; /* the instruction after MOV SS or POP SS: interrupts, NMI and debug traps wait */
    bool nmi_masked;    /* until IRET */
    bool nmi_pending;
    bool smm; /* slot for SMM: always false until there is SMM */
    u32 smbase;
    u64 pending_debug; /* DR6 bits of debug exceptions that wait for the end of a MOV-SS shadow */

    /* An event whose delivery was begun and not finished (an exit in the middle of it). */
    bool event_pending;
    bool event_has_error;
    bool event_software; /* INT n, INT3, INTO: RIP to push is that after the instruction */
    u8 event_vector;
    u32 event_error;

    u8 monitor; /* enum vcpu_monitor: armed */
    u64 monitor_phys;
    u8 monitor_line[VCPU_LINE]; /* what the line was when the monitor was armed */
    u8 wait;                    /* VCPU_WAITING: VCPU_WAIT_* */
    u64 wait_deadline;          /* in ticks of the guest's TSC; UINT64_MAX: none */
    u64 umwait_control;         /* MSR */

    u64 icount; /* instructions and REP iterations retired since the VM began */
};

extern const struct state_table vcpu_state_table;

/* Put `state` in the state after power-up (SDM 3A table 10-1). `bootstrap`: running at the reset vector with the BSP
   bit of the APIC base set; otherwise waiting for a SIPI. `cpuid_signature`: what EDX holds after reset.
   Keeps icount; all else is what it is when the machine is switched on, tsc_offset 0. */
void vcpu_state_reset(struct vcpu_state *state, bool bootstrap, u32 cpuid_signature);

/* As an INIT signal leaves it (same table, INIT column): x87, vector state, MTRRs, TSC and most MSRs keep their value.
   The bootstrap processor, by the bit in apic_base, goes on at the reset vector; the others wait for a SIPI. */
void vcpu_state_init(struct vcpu_state *state, u32 cpuid_signature);

/* Whether an address is canonical where linear addresses have `bits` bits: 48, or 57 (SDM 1 3.3.7.1). */
static inline bool x86_canonical(u64 address, unsigned bits)
{
    return (u64)((i64)(address << (64 - bits)) >> (64 - bits)) == address;
}

static inline unsigned vcpu_cpl(const struct vcpu_state *s)
{
    return s->seg[SEG_SS].attr >> SEG_DPL_SHIFT & 3;
}
static inline bool vcpu_protected(const struct vcpu_state *s)
{
    return s->cr0 & CR0_PE;
}
static inline bool vcpu_v86(const struct vcpu_state *s)
{
    return s->rflags & FLAG_VM;
}
/* Whether VIF and VIP count: the processor looks at them at CPL 3 with IOPL < 3 alone (SDM 3A 2.3). */
static inline bool vcpu_virtual_interrupts(const struct vcpu_state *s)
{
    if ((s->rflags & FLAG_IOPL) == FLAG_IOPL || !vcpu_protected(s))
        return false;
    return vcpu_v86(s) ? s->cr4 & CR4_VME : (s->cr4 & CR4_PVI) && vcpu_cpl(s) == 3;
}
static inline bool vcpu_long_mode(const struct vcpu_state *s)
{
    return s->efer & EFER_LMA;
}
static inline bool vcpu_64bit(const struct vcpu_state *s)
{
    return vcpu_long_mode(s) && (s->seg[SEG_CS].attr & SEG_L);
}

#endif
