/*
 * System instructions in 64-bit code that touch a field or two of the state. What changes the mode is left to its handler,
 * which goes on to the next block by itself.
 */
#include "engine/jit/translate.h"

#define STATE(field) op_mem(JIT_T1, (i32)offsetof(struct vcpu_state, field))

enum {
    IF_BYTE = 1,
    IF_BIT = FLAG_IF >> 8,
    AC_BYTE = 2,
    AC_BIT = FLAG_AC >> 16,
    PKE_BYTE = 2,
    PKE_BIT = CR4_PKE >> 16
};

/* TEST, OR or AND of a byte in memory with an immediate. */
static void byte_op(struct translation *t, u8 opcode, unsigned digit, struct operand to, u8 imm)
{
    emit_op(&t->e, false, opcode, digit, to);
    emit8(&t->e, imm);
}
static struct operand byte_of(struct operand to, i32 n)
{
    to.disp += n;
    return to;
}

/* The cell takes over outside privilege 0. */
static void need_privilege(struct translation *t)
{
    jit_clobber_flags(t);
    byte_op(t, 0x80, ALU_CMP, INTERP(cpl), 0);
    jit_bail_if(t, CC_NE);
}

/* Interrupts wait from here on: the kick word's bit for them counts no more. */
bool jit_cli(struct translation *t)
{
    need_privilege(t);
    jit_load_state(t);
    byte_op(t, 0x80, ALU_AND, byte_of(STATE(rflags), IF_BYTE), (u8)~IF_BIT);
    emit_op(&t->e, false, 0xc7, 0, INTERP(kick_mask));
    emit32(&t->e, ~(u32)KICK_INTERRUPT);
    return true;
}

/* In the middle of a block, where the next instruction is executed before anybody looks at the kick word. Where something waits
   already, the cell takes over. */
bool jit_sti(struct translation *t)
{
    if (t->cell + 1u == t->b->ncells)
        return false;
    need_privilege(t);
    e_mov(&t->e, JIT_T0, INTERP(kick));
    e_alu_imm(&t->e, false, ALU_CMP, op_mem(JIT_T0, 0), 0);
    jit_bail_if(t, CC_NE);
    jit_load_state(t);
    byte_op(t, 0x80, ALU_OR, byte_of(STATE(rflags), IF_BYTE), IF_BIT);
    emit_op(&t->e, false, 0xc7, 0, INTERP(kick_mask));
    emit32(&t->e, UINT32_MAX);
    return true;
}

/* What follows is another block because of AC: of a mode with other rights. */
bool jit_stac(struct translation *t)
{
    bool set = t->insn.op == OP_STAC;
    u32 mode = set ? t->b->mode | MODE_AC : t->b->mode & ~(u32)MODE_AC;
    unsigned number = jit_mode_number(t->j->code, mode), rights = set ? TLB_SUPER_AC : TLB_SUPER;
    struct emit *e = &t->e;

    if (number == JIT_MODES)
        return false;
    jit_release_vectors(t);
    need_privilege(t);
    jit_find_other_mode(t, number);
    jit_load_state(t);
    byte_op(t, 0x80, set ? ALU_OR : ALU_AND, byte_of(STATE(rflags), AC_BYTE), (u8)(set ? AC_BIT : ~AC_BIT));
    emit_op(e, false, 0xc7, 0, INTERP(mode));
    emit32(e, mode);
    e_mov(e, JIT_T0, INTERP(tlbs));
    e_lea(e, true, JIT_T0, op_mem(JIT_T0, (i32)(rights * sizeof(t->j->interp.tlbs[0]))));
    e_store(e, INTERP(tlb), JIT_T0);
    jit_fall_to_other_mode(t, number);
    return true;
}

bool jit_swapgs(struct translation *t)
{
    struct operand now = op_gs(offsetof(struct jit_vcpu, interp.seg_base) + SEG_GS * 8);

    need_privilege(t);
    jit_load_state(t);
    e_mov(&t->e, JIT_T0, STATE(kernel_gs_base));
    e_store(&t->e, now, JIT_T0);
    e_mov(&t->e, JIT_T0, STATE(seg[SEG_GS].base));
    e_store(&t->e, STATE(kernel_gs_base), JIT_T0);
    e_mov(&t->e, JIT_T0, now);
    e_store(&t->e, STATE(seg[SEG_GS].base), JIT_T0);
    return true;
}

bool jit_rdpkru(struct translation *t)
{
    jit_clobber_flags(t);
    jit_load_state(t);
    byte_op(t, 0xf6, 0, byte_of(STATE(cr4), PKE_BYTE), PKE_BIT);
    jit_bail_if(t, CC_E);
    emit_op(&t->e, false, 0x85, jit_host[RCX], op_reg(jit_host[RCX]));
    jit_bail_if(t, CC_NE);
    e_mov32(&t->e, jit_host[RAX], STATE(pkru));
    e_mov_imm(&t->e, jit_host[RDX], 0);
    return true;
}

/* The guest's MXCSR is the state's with the flags that the host's has collected. */
bool jit_stmxcsr(struct translation *t)
{
    static const u8 stmxcsr[] = {0x0f, 0xae};
    struct operand scratch = VCPU(scratch), to;

    jit_clobber_flags(t);
    emit_modrm(&t->e, NULL, 0, false, false, stmxcsr, 2, 3, scratch);
    e_mov32(&t->e, JIT_T0, scratch);
    e_alu_imm(&t->e, false, ALU_AND, op_reg(JIT_T0), MXCSR_FLAGS);
    jit_load_state(t);
    e_alu(&t->e, false, ALU_OR, JIT_T0, STATE(mxcsr));
    emit_op(&t->e, false, 0x89, JIT_T0, STATE(mxcsr));
    to = jit_memory_operand_single(t, 4, true, JIT_ANY_PLACE);
    e_mov(&t->e, JIT_T0, INTERP(state));
    e_mov32(&t->e, JIT_T0, op_mem(JIT_T0, (i32)offsetof(struct vcpu_state, mxcsr)));
    emit_op(&t->e, false, 0x89, JIT_T0, to);
    return true;
}

/* RFLAGS without RF and VM; the arithmetic flags are in interp.flags, OF in its low byte. */
bool jit_pushf(struct translation *t)
{
    enum { OF_SHIFT = 11 };
    static const u8 movzx[] = {0x0f, 0xb6};
    struct operand flags = INTERP(flags);

    if (t->insn.operand_size != jit_width(t))
        return false;
    jit_clobber_flags(t);
    emit_modrm(&t->e, NULL, 0, false, false, movzx, 2, JIT_T1, flags);
    emit_op(&t->e, false, 0xc1, 4, op_reg(JIT_T1));
    emit8(&t->e, OF_SHIFT);
    emit_modrm(&t->e, NULL, 0, false, false, movzx, 2, JIT_T0, byte_of(flags, 1));
    e_alu(&t->e, false, ALU_OR, JIT_T0, op_reg(JIT_T1));
    jit_load_state(t);
    e_mov(&t->e, JIT_T1, STATE(rflags));
    e_alu_imm(&t->e, true, ALU_AND, op_reg(JIT_T1), (i32) ~(u32)(FLAGS_ARITH | FLAG_RF | FLAG_VM));
    e_alu(&t->e, true, ALU_OR, JIT_T0, op_reg(JIT_T1));
    jit_push_value(t);
    return true;
}
