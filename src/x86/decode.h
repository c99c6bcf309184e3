/*
 * The instruction decoder: bytes in, one row of the opcode table (x86/opcodes.tbl) and the operands out. Pure: no vCPU,
 * no memory access, no allocation. Every engine and the disassembly checks use it.
 */
#ifndef X86_DECODE_H
#define X86_DECODE_H

#include "base/types.h"
#include "x86/opcodes.gen.h" /* enum x86_op: OP_ADD_Ev_Gv ..., generated from opcodes.tbl; OP_INVALID is 0 */

enum { X86_MAX_INSN = 15 };

enum x86_code_size { X86_CODE16, X86_CODE32, X86_CODE64 };

/* What the decoder needs to know of the CPU: default operand and address size, and the vendor, since AMD and Intel differ
   in a few forms (66h on near branches, SYSCALL outside 64-bit mode, ...). In real and virtual-8086 mode (X86_CODE16)
   the engine refuses rows with X86_OP_NOT_REAL, which all VEX-coded ones are. */
struct x86_decode_mode {
    u8 code_size; /* enum x86_code_size */
    bool amd;
};

enum x86_decode_result {
    X86_DECODE_OK,
    X86_DECODE_INVALID,  /* #UD */
    X86_DECODE_TOO_LONG, /* over 15 bytes: #GP(0) */
    X86_DECODE_MORE,     /* the bytes end inside the instruction */
};

/* Legacy prefixes that were there (several may be; the last REP or segment counts). */
enum {
    X86_PFX_66 = 1 << 0,
    X86_PFX_67 = 1 << 1,
    X86_PFX_LOCK = 1 << 2,
    X86_PFX_REPNE = 1 << 3, /* F2, if it is the last of F2 and F3 */
    X86_PFX_REP = 1 << 4,   /* F3 */
    X86_PFX_REX = 1 << 5,   /* any REX byte in effect: SPL..DIL instead of AH..BH */
    X86_PFX_REX_W = 1 << 6,
    X86_PFX_VEX = 1 << 7,
};

/* Register number for "no base" or "no index": vcpu_state.gpr[X86_NO_REG] is zero. X86_RIP_REG: relative to the next
   instruction. */
enum { X86_NO_REG = 16, X86_RIP_REG = 17 };

struct x86_insn {
    u16 op;       /* enum x86_op; valid after X86_DECODE_OK */
    u8 length;    /* bytes, prefixes included; on X86_DECODE_INVALID the bytes that were looked at */
    u8 opcode;    /* last opcode byte */
    u16 prefixes; /* X86_PFX_* */
    /* Bytes: 2, 4 or 8; what the row's "v" operands have ("y" ones: 4 or 8). For near branches, PUSH and POP in 64-bit
       mode the effective 8 (or 2). */
    u8 operand_size;
    u8 address_size; /* bytes: 2, 4 or 8 */
    /* SEG_* of the memory operand: override or default (SS for rSP and rBP bases). In 64-bit mode only FS and GS
       override. */
    u8 segment;
    bool segment_override;
    bool has_modrm, is_mem; /* is_mem: ModRM with mod != 3 */
    u8 modrm;
    /* ModRM.reg with REX.R or VEX.R: 0..15 (up to 31 later), 0..7 where it names a segment or MMX register. For registers
       in the opcode (50+r), the same as rm. */
    u8 reg;
    u8 rm;                 /* ModRM.rm with REX.B, when not memory; or the register in the opcode */
    u8 vvvv;               /* VEX.vvvv, not inverted: 0..15 */
    u8 vex_l;              /* 0: 128, 1: 256 */
    u8 base, index, scale; /* memory: registers (X86_NO_REG, X86_RIP_REG) and shift count 0..3 */
    i64 disp; /* sign-extended displacement; for moffs operands the 64-bit offset, with base = index = X86_NO_REG */
    u64 imm; /* first immediate, sign-extended where the row says so (Ib of 83, Iz, Jz...), else zero-extended */
    u64 imm2; /* second: ENTER's level, the selector of a far pointer */
};

/*
 * Decode one instruction at `bytes`, of which `available` may be read (at most 15 are). Fills all of *insn; what it says
 * counts only after X86_DECODE_OK, except for `length`. A result other than X86_DECODE_MORE does not change when more
 * bytes are given. Features are not looked at: that is the engine's, by x86_ops[].feature and .without_feature.
 */
enum x86_decode_result x86_decode(const struct x86_decode_mode *mode, const u8 *bytes, size_t available,
                                  struct x86_insn *insn);

/* Facts about a row, from the same table. */
struct x86_op_info {
    const char *mnemonic; /* "ADD" */
    const char *encoding; /* manual's notation: "01 /r" */
    const char *operands; /* manual's notation: "Ev,Gv" */
    u16 feature;          /* enum x86_feature (x86/cpu_features.h) that must be offered, or 0 */
    u16 without_feature; /* row that executes instead on a CPU without it (TZCNT is BSF there); OP_INVALID: #UD */
    /* FLAG_* arithmetic bits and DF. Written includes undefined; a flag that may also keep its value (shift by 0) is
       read, too. */
    u16 flags_read, flags_written, flags_undefined;
    u32 attributes; /* X86_OP_* */
};
enum {
    X86_OP_LOCKABLE = 1 << 0,   /* takes LOCK with a memory destination */
    X86_OP_BRANCH = 1 << 1,     /* may change RIP other than by falling through: ends a block */
    X86_OP_PRIVILEGED = 1 << 2, /* not testable in user mode */
    X86_OP_SERIALISE = 1 << 3,  /* ends a block: changes mode, paging, interrupts or code */
    X86_OP_REP = 1 << 4,        /* string instruction: REP forms iterate */
    X86_OP_X87 = 1 << 5,        /* needs CR0.EM/TS checks of x87 */
    X86_OP_SSE = 1 << 6,
    X86_OP_MMX = 1 << 7,
    X86_OP_AVX = 1 << 8,
    X86_OP_LATER = 1 << 9,      /* row is listed, nothing executes it yet: #UD */
    X86_OP_INVALID64 = 1 << 10, /* #UD in 64-bit mode */
    X86_OP_ONLY64 = 1 << 11,
    X86_OP_NOT_REAL = 1 << 12, /* #UD in real and virtual-8086 mode */
};
extern const struct x86_op_info x86_ops[OP_COUNT];

#endif
