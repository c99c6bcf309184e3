/*
 * Host instructions (x86-64) into memory. The names are those of the manual's mnemonics; every function appends one
 * instruction. When the room is used up, `full` is set and nothing more is written: whoever emits looks at the end.
 */
#ifndef ENGINE_JIT_EMIT_H
#define ENGINE_JIT_EMIT_H

#include <string.h>

#include "base/types.h"

enum {
    H_RAX,
    H_RCX,
    H_RDX,
    H_RBX,
    H_RSP,
    H_RBP,
    H_RSI,
    H_RDI,
    H_R8,
    H_R9,
    H_R10,
    H_R11,
    H_R12,
    H_R13,
    H_R14,
    H_R15
};

/* Condition codes, as in the low bits of Jcc. */
enum {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

struct emit {
    u8 *p, *end;
    bool full;
};

/* A ModRM.rm operand: a register, [base + disp], [base + index * 2^scale + disp] or GS:[disp]. */
enum { OPERAND_REG, OPERAND_MEM, OPERAND_GS, NO_INDEX = 0xff, NO_BASE = 0xff };
struct operand {
    u8 kind, base, index, scale;
    i32 disp;
};
static inline struct operand op_reg(unsigned reg)
{
    return (struct operand){OPERAND_REG, (u8)reg, NO_INDEX, 0, 0};
}
static inline struct operand op_mem(unsigned base, i32 disp)
{
    return (struct operand){OPERAND_MEM, (u8)base, NO_INDEX, 0, disp};
}
static inline struct operand op_index(unsigned base, unsigned index, unsigned scale, i32 disp)
{
    return (struct operand){OPERAND_MEM, (u8)base, (u8)index, (u8)scale, disp};
}
static inline struct operand op_gs(size_t offset)
{
    return (struct operand){OPERAND_GS, NO_BASE, NO_INDEX, 0, (i32)offset};
}
/* GS:[index * 2^scale + offset] */
static inline struct operand op_gs_index(unsigned index, unsigned scale, size_t offset)
{
    return (struct operand){OPERAND_GS, NO_BASE, (u8)index, (u8)scale, (i32)offset};
}

static inline void emit_bytes(struct emit *e, const void *bytes, size_t n)
{
    if (!n)
        return;
    if ((size_t)(e->end - e->p) < n) {
        e->full = true;
        return;
    }
    memcpy(e->p, bytes, n);
    e->p += n;
}
static inline void emit8(struct emit *e, u8 v)
{
    emit_bytes(e, &v, 1);
}
static inline void emit32(struct emit *e, u32 v)
{
    emit_bytes(e, &v, 4);
}
static inline void emit64(struct emit *e, u64 v)
{
    emit_bytes(e, &v, 8);
}

/* The opcode byte, ModRM, SIB and displacement; `rex` bits were given before. */
static inline void emit_rm(struct emit *e, u8 opcode, unsigned reg, struct operand rm)
{
    u8 low = (u8)((reg & 7) << 3), base = rm.base & 7;

    emit8(e, opcode);
    if (rm.kind == OPERAND_REG) {
        emit8(e, 0xc0 | low | base);
    } else if (rm.kind == OPERAND_GS || rm.base == NO_BASE) { /* SIB without a base: disp32 */
        emit8(e, low | 4);
        emit8(e, (u8)(rm.scale << 6 | (rm.index == NO_INDEX ? 4 : rm.index & 7) << 3 | 5));
        emit32(e, (u32)rm.disp);
    } else {
        bool sib = rm.index != NO_INDEX || base == 4;
        u8 mod = rm.disp == 0 && base != 5 ? 0 : rm.disp == (i8)rm.disp ? 0x40 : 0x80;

        emit8(e, mod | low | (sib ? 4 : base));
        if (sib)
            emit8(e, (u8)(rm.scale << 6 | (rm.index == NO_INDEX ? 4 : rm.index & 7) << 3 | base));
        if (mod == 0x40)
            emit8(e, (u8)rm.disp);
        else if (mod == 0x80)
            emit32(e, (u32)rm.disp);
    }
}
/* R, X and B of REX and VEX: what registers above 7 need. */
static inline u8 rex_bits(unsigned reg, struct operand rm)
{
    unsigned base = rm.kind == OPERAND_GS || rm.base == NO_BASE ? 0 : rm.base,
             index = rm.index == NO_INDEX ? 0 : rm.index;

    return (u8)((reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1));
}

/*
 * Any instruction with ModRM: legacy prefixes, opcode bytes (the escape bytes among them), the register field, the other
 * operand. `rex`: a REX byte even if no bit of it is needed (SPL, BPL, SIL, DIL).
 */
static inline void emit_modrm(struct emit *e, const u8 *prefixes, unsigned nprefixes, bool rex, bool w,
                              const u8 *opcode, unsigned nopcode, unsigned reg, struct operand rm)
{
    u8 bits = (u8)(w << 3 | rex_bits(reg, rm));

    if (rm.kind == OPERAND_GS)
        emit8(e, 0x65);
    emit_bytes(e, prefixes, nprefixes);
    if (rex || bits)
        emit8(e, 0x40 | bits);
    emit_bytes(e, opcode, nopcode - 1);
    emit_rm(e, opcode[nopcode - 1], reg, rm);
}
/* An instruction with a VEX prefix, in its 3-byte form. `pp`: 0 none, 1 66, 2 F3, 3 F2; `map`: 1 0F, 2 0F38, 3 0F3A. */
static inline void emit_vex(struct emit *e, unsigned map, unsigned pp, bool w, bool l, unsigned vvvv,
                            u8 opcode, unsigned reg, struct operand rm)
{
    if (rm.kind == OPERAND_GS)
        emit8(e, 0x65);
    emit8(e, 0xc4);
    emit8(e, (u8)((rex_bits(reg, rm) ^ 7) << 5 | map));
    emit8(e, (u8)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp));
    emit_rm(e, opcode, reg, rm);
}
static inline void emit_op(struct emit *e, bool w, u8 opcode, unsigned reg, struct operand rm)
{
    emit_modrm(e, NULL, 0, false, w, &opcode, 1, reg, rm);
}

static inline void e_mov(struct emit *e, unsigned to, struct operand from)
{
    emit_op(e, true, 0x8b, to, from);
}
static inline void e_mov32(struct emit *e, unsigned to, struct operand from)
{
    emit_op(e, false, 0x8b, to, from);
}
static inline void e_store(struct emit *e, struct operand to, unsigned from)
{
    emit_op(e, true, 0x89, from, to);
}
static inline void e_mov_rr(struct emit *e, unsigned to, unsigned from)
{
    if (to != from)
        e_mov(e, to, op_reg(from));
}
/* The shortest form. */
static inline void e_mov_imm(struct emit *e, unsigned to, u64 v)
{
    if (v >> 32 == 0) {
        if (to >= 8)
            emit8(e, 0x41);
        emit8(e, 0xb8 | (to & 7));
        emit32(e, (u32)v);
    } else if ((u64)(i64)(i32)v == v) {
        emit_op(e, true, 0xc7, 0, op_reg(to));
        emit32(e, (u32)v);
    } else {
        emit8(e, 0x48 | (to >= 8));
        emit8(e, 0xb8 | (to & 7));
        emit64(e, v);
    }
}
/* Always of the same length. */
static inline void e_mov_imm64(struct emit *e, unsigned to, u64 v)
{
    emit8(e, 0x48 | (to >= 8));
    emit8(e, 0xb8 | (to & 7));
    emit64(e, v);
}
static inline void e_lea(struct emit *e, bool w, unsigned to, struct operand address)
{
    emit_op(e, w, 0x8d, to, address);
}
/* Operation `n` of the eight: ADD OR ADC SBB AND SUB XOR CMP. */
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
static inline void e_alu(struct emit *e, bool w, unsigned n, unsigned to, struct operand from)
{
    emit_op(e, w, (u8)(n << 3 | 3), to, from);
}
static inline void e_alu_imm(struct emit *e, bool w, unsigned n, struct operand to, i32 imm)
{
    bool byte = imm == (i8)imm;

    emit_op(e, w, byte ? 0x83 : 0x81, n, to);
    if (byte)
        emit8(e, (u8)imm);
    else
        emit32(e, (u32)imm);
}
static inline void e_shr_imm(struct emit *e, bool w, unsigned reg, unsigned count)
{
    emit_op(e, w, 0xc1, 5, op_reg(reg));
    emit8(e, (u8)count);
}
/* `to` = `from` >> count; flags are kept if the host has BMI2 (RORX, which leaves the bits that went in front). */
static inline void e_rorx_or_shr(struct emit *e, bool bmi2, unsigned to, unsigned from, unsigned count)
{
    if (bmi2) {
        emit_vex(e, 3, 3, true, false, 0, 0xf0, to, op_reg(from));
        emit8(e, (u8)count);
    } else {
        e_mov_rr(e, to, from);
        e_shr_imm(e, true, to, count);
    }
}
/* MOVUPS, or VMOVUPS of 32 bytes, between a vector register and memory. */
static inline void e_movups(struct emit *e, unsigned reg, bool wide, bool store, struct operand memory)
{
    const u8 opcode[] = {0x0f, store ? 0x11 : 0x10};

    if (wide)
        emit_vex(e, 1, 0, false, true, 0, opcode[1], reg, memory);
    else
        emit_modrm(e, NULL, 0, false, false, opcode, 2, reg, memory);
}
static inline void e_vzeroupper(struct emit *e)
{
    static const u8 bytes[] = {0xc5, 0xf8, 0x77};

    emit_bytes(e, bytes, sizeof(bytes));
}
static inline void e_push(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x50 | (reg & 7));
}
static inline void e_pop(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x58 | (reg & 7));
}
static inline void e_ret(struct emit *e)
{
    emit8(e, 0xc3);
}
/* JMP and CALL through a register or memory. */
static inline void e_jmp_indirect(struct emit *e, struct operand to)
{
    emit_op(e, false, 0xff, 4, to);
}
static inline void e_call_indirect(struct emit *e, struct operand to)
{
    emit_op(e, false, 0xff, 2, to);
}
/* Jumps with a 32-bit distance. They return the place of the distance, for e_here. */
static inline u8 *e_jcc(struct emit *e, unsigned cc)
{
    u8 opcode[2] = {0x0f, (u8)(0x80 | cc)};

    emit_bytes(e, opcode, 2);
    emit32(e, 0);
    return e->p - 4;
}
static inline u8 *e_jmp(struct emit *e)
{
    emit8(e, 0xe9);
    emit32(e, 0);
    return e->p - 4;
}
static inline void e_target(struct emit *e, u8 *place, const u8 *target)
{
    i32 distance = (i32)(target - (place + 4));

    if (!e->full)
        memcpy(place, &distance, 4);
}
/* The jump whose distance is at `place` comes here. */
static inline void e_here(struct emit *e, u8 *place)
{
    e_target(e, place, e->p);
}

#endif
