/*
 * Compare and exchange, whose accumulator is the host's RAX, and bit strings in memory, which reach beyond their operand.
 * With LOCK the host's instruction has LOCK, too; inside one cache line, or the cell takes over.
 */
#include "engine/jit/translate.h"

static enum jit_place_check place_check(const struct translation *t)
{
    return t->insn.prefixes & X86_PFX_LOCK ? JIT_ONE_LINE : JIT_ANY_PLACE;
}

/* CMPXCHG with a register or memory. A register operand that is kept in memory borrows RCX, which goes to the stack. */
bool jit_cmpxchg(struct translation *t)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    bool borrow = in_memory(insn->reg);
    unsigned reg = borrow ? H_RCX : jit_host[insn->reg];
    struct operand rm;
    struct raw r;

    if (!jit_take_apart(t, &r) || jit_is_high_byte(t, f->reg_size, insn->reg) ||
        (!insn->is_mem && (borrow || jit_is_high_byte(t, f->rm_size, insn->rm))))
        return false;
    if (insn->is_mem)
        rm = jit_memory_place(t, jit_operand_bytes(&t->insn, f->rm_size), true, place_check(t));
    else
        rm = op_reg(insn->rm == RAX ? H_RAX : jit_get_guest(t, insn->rm, JIT_T1));
    if (!insn->is_mem && insn->reg == RAX)
        reg = H_RAX;
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    if (borrow) {
        e_push(&t->e, H_RCX);
        jit_get_guest(t, insn->reg, H_RCX);
    }
    /* A byte of RBP, RSI or RDI needs a REX, whatever the guest's registers needed. */
    emit_modrm(&t->e, r.prefixes, r.nprefixes, f->reg_size == 'b', r.w, r.opcode, r.nopcode, reg, rm);
    if (borrow)
        e_pop(&t->e, H_RCX);
    e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    if (!insn->is_mem && insn->rm != RAX)
        jit_put_guest(t, insn->rm, rm.base);
    return true;
}

/* CMPXCHG8B and CMPXCHG16B: RDX, RCX and RBX are in their places. */
bool jit_cmpxchg_pair(struct translation *t)
{
    bool wide = t->insn.op == OP_CMPXCHG16B_Mdq;
    struct operand rm;
    struct raw r;

    if (!jit_take_apart(t, &r))
        return false;
    rm = jit_memory_operand_single(t, wide ? 16 : 8, true, wide ? JIT_ALIGNED : place_check(t));
    jit_need_host_flags(t);
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    emit_modrm(&t->e, r.prefixes, r.nprefixes, false, r.w, r.opcode, r.nopcode, 1, rm);
    e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    return true;
}

/* BT and its like of memory with the bit's number in a register: which operand it is in is added to the address, and the
   instruction gets the number inside. */
bool jit_bit_string(struct translation *t)
{
    static const u8 movsx[] = {0x0f, 0xbf}, movsxd = 0x63;
    const struct x86_insn *insn = &t->insn;
    unsigned size = insn->operand_size, log = (unsigned)__builtin_ctz(size), number;
    struct emit *e = &t->e;
    struct operand rm;
    struct raw r;

    if (!jit_take_apart(t, &r))
        return false;
    jit_linear_address(t);
    number = jit_get_guest(t, insn->reg, JIT_T1);
    if (size == 2)
        emit_modrm(e, NULL, 0, false, true, movsx, 2, JIT_T1, op_reg(number));
    else if (size == 4)
        emit_modrm(e, NULL, 0, false, true, &movsxd, 1, JIT_T1, op_reg(number));
    else
        e_mov_rr(e, JIT_T1, number);
    emit_op(e, true, 0xc1, 7, op_reg(JIT_T1)); /* SAR */
    emit8(e, (u8)(log + 3));
    e_lea(e, !jit_code32(t), JIT_T0, op_index(JIT_T0, JIT_T1, log, 0));
    rm = jit_place(t, size, t->form->rm & JIT_WRITE, place_check(t));
    e_mov_rr(e, H_RAX, jit_get_guest(t, insn->reg, H_RAX));
    e_alu_imm(e, false, ALU_AND, op_reg(H_RAX), (i32)(size * 8 - 1));
    e_store(e, op_gs(offsetof(struct jit_vcpu, scratch)), H_RAX);
    jit_need_host_flags(t);
    e_mov(e, H_RAX, op_gs(offsetof(struct jit_vcpu, scratch)));
    emit_modrm(e, r.prefixes, r.nprefixes, false, r.w, r.opcode, r.nopcode, H_RAX, rm);
    jit_flags_written(t);
    return true;
}
