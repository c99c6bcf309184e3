/*
 * The decoder's tables, made from opcodes.tbl by tools/gen-opcodes.py. Only decode.c and the generated file read this.
 *
 * x86_roots[map][opcode] and the children of a tree node are references: 0 is #UD; with bit 15 set, the low bits are an
 * index into x86_rows; otherwise it is the index of a node in x86_trees, which begins with a question (enum
 * x86_question) followed by one reference for each answer.
 */
#ifndef X86_OPCODE_TABLES_H
#define X86_OPCODE_TABLES_H

#include "x86/decode.h"

enum x86_map {
    X86_MAP_ONE,
    X86_MAP_0F,
    X86_MAP_0F38,
    X86_MAP_0F3A,
    X86_MAP_VEX0F,
    X86_MAP_VEX0F38,
    X86_MAP_VEX0F3A,
    X86_MAP_COUNT
};

enum { X86_REF_ROW = 0x8000 };

enum x86_question {
    X86_BY_MODE,   /* legacy, legacy AMD, 64-bit, 64-bit AMD */
    X86_BY_PREFIX, /* none, 66, F3, F2: F3 and F2 go before 66 */
    X86_BY_MOD,    /* ModRM: memory, register */
    X86_BY_REG,    /* ModRM.reg, 8 */
    X86_BY_RM,     /* ModRM.rm, 8 */
    X86_BY_W,
    X86_BY_L,
    X86_BY_REX_B,
};

enum x86_immediate {
    X86_IMM_NONE,
    X86_IMM_IB,
    X86_IMM_IB_SX,
    X86_IMM_IW,
    X86_IMM_IZ,
    X86_IMM_IV,
    X86_IMM_JB,
    X86_IMM_JZ,
    X86_IMM_AP,
    X86_IMM_MOFFS,
    X86_IMM_IW_IB,
    X86_IMM_IB_IB,
};

/* How the operand size follows from mode, 66h and W. */
enum x86_size {
    X86_SIZE_V,
    X86_SIZE_Y,          /* 4, or 8 with W: 66h means something else, or nothing */
    X86_SIZE_D64,        /* in 64-bit mode 8, or 2 with 66h */
    X86_SIZE_F64,        /* in 64-bit mode 8, otherwise as v */
    X86_SIZE_F64_Y,      /* in 64-bit mode 8, otherwise 4 */
    X86_SIZE_F64_BRANCH, /* the same; AMD CPUs honour 66h */
    X86_SIZE_FAR,        /* as v; AMD CPUs do not know a 64-bit offset */
};

enum {
    X86_ROW_MODRM = 1 << 0,
    X86_ROW_OPCODE_REGISTER = 1 << 1, /* register number in the opcode byte */
    X86_ROW_NOMOD = 1 << 2,           /* ModRM.mod counts as 3 */
    X86_ROW_VSIB = 1 << 3,            /* SIB byte with a vector index is a must */
    X86_ROW_LOCKABLE = 1 << 4,
    X86_ROW_VVVV = 1 << 5,    /* uses VEX.vvvv, which must be 1111b otherwise */
    X86_ROW_REG3 = 1 << 6,    /* ModRM.reg: a kind of register of which there are 8 */
    X86_ROW_RM3 = 1 << 7,     /* ModRM.rm likewise */
    X86_ROW_CONTROL = 1 << 8, /* ModRM.reg is a control register */
    X86_ROW_DEBUG = 1 << 9,   /* ModRM.reg is a debug register */
};

struct x86_row {
    u16 op;
    u8 immediate; /* enum x86_immediate */
    u8 size;      /* enum x86_size */
    u16 flags;    /* X86_ROW_* */
};

extern const struct x86_row x86_rows[];
extern const u16 x86_trees[];
extern const u16 x86_roots[X86_MAP_COUNT][256];

#endif
