/*
 * STOS and MOVS, with and without REP, forwards and inside one page at both ends: the host's own instruction on host
 * addresses. RCX, RSI and RDI are in their places. All else is the cell's, which goes from page to page.
 */
#include "engine/jit/translate.h"

enum { DF_BYTE = 1, DF_BIT = FLAG_DF >> 8 };

/* The cell takes over when RCX elements from `reg` on reach beyond the page. */
static void inside_page(struct translation *t, unsigned reg, unsigned log)
{
    e_mov_rr(&t->e, JIT_T0, reg);
    e_alu_imm(&t->e, false, ALU_AND, op_reg(JIT_T0), PAGE_SIZE - 1);
    e_lea(&t->e, true, JIT_T0, op_index(JIT_T0, H_RCX, log, 0));
    e_alu_imm(&t->e, true, ALU_CMP, op_reg(JIT_T0), PAGE_SIZE);
    jit_bail_if(t, CC_A);
}

/* What is added to the address in `reg` to get the host's, to R15. */
static void find_delta(struct translation *t, unsigned reg, unsigned size, bool write)
{
    e_mov_rr(&t->e, JIT_T0, reg);
    jit_place(t, size, write, JIT_ANY_PLACE);
    e_alu(&t->e, true, ALU_SUB, JIT_T1, op_reg(reg));
}

/* REP counts an instruction for each element; the block's end counts one of them. */
static void count_elements(struct translation *t)
{
    e_lea(&t->e, true, JIT_T0, op_mem(H_RCX, t->b->ncells - 1));
    e_alu(&t->e, true, ALU_CMP, JIT_T0, INTERP(left));
    jit_bail_if(t, CC_G);
}

bool jit_string(struct translation *t)
{
    const struct x86_insn *insn = &t->insn;
    bool repeats = insn->prefixes & (X86_PFX_REP | X86_PFX_REPNE), moves = insn->opcode < 0xaa,
         counts = repeats && t->j->code->counts;
    unsigned size = insn->opcode & 1 ? insn->operand_size : 1, log = (unsigned)__builtin_ctz(size);
    struct emit *e = &t->e;

    if (insn->address_size != 8 || (moves && (insn->segment == SEG_FS || insn->segment == SEG_GS)))
        return false;
    jit_release_vectors(t);
    jit_clobber_flags(t);
    e_mov(e, JIT_T1, INTERP(state));
    emit_op(e, false, 0xf6, 0, op_mem(JIT_T1, (i32)offsetof(struct vcpu_state, rflags) + DF_BYTE)); /* TEST */
    emit8(e, DF_BIT);
    jit_bail_if(t, CC_NE);
    if (repeats) {
        e_lea(e, true, JIT_T0, op_mem(H_RCX, -1)); /* neither none nor so many that addresses wrap */
        e_alu_imm(e, true, ALU_CMP, op_reg(JIT_T0), PAGE_SIZE - 1);
        jit_bail_if(t, CC_A);
        inside_page(t, H_RDI, log);
        if (moves)
            inside_page(t, H_RSI, log);
    }
    if (counts)
        count_elements(t);
    if (moves) { /* its delta waits where this block keeps no other one any more */
        find_delta(t, H_RSI, size, false);
        jit_forget_checks(t);
        e_store(e, VCPU(checked[0]), JIT_T1);
    }
    find_delta(t, H_RDI, size, true);
    if (counts) {
        e_lea(e, true, JIT_T0, op_mem(H_RCX, -1));
        emit_op(e, true, 0x29, JIT_T0, INTERP(left)); /* SUB */
    }
    e_alu(e, true, ALU_ADD, H_RDI, op_reg(JIT_T1));
    if (moves)
        e_alu(e, true, ALU_ADD, H_RSI, VCPU(checked[0]));
    else
        e_mov_rr(e, H_RAX, jit_host[RAX]);
    if (size == 2)
        emit8(e, 0x66);
    if (repeats)
        emit8(e, 0xf3);
    if (size == 8)
        emit8(e, 0x48);
    emit8(e, insn->opcode);
    e_alu(e, true, ALU_SUB, H_RDI, op_reg(JIT_T1));
    if (moves)
        e_alu(e, true, ALU_SUB, H_RSI, VCPU(checked[0]));
    jit_fall(t);
    return true;
}
