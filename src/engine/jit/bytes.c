/*
 * Instructions with AH, CH, DH or BH. Those cannot be named together with a REX prefix, nor then can host registers from R8
 * on. So such an instruction runs on registers of the guest's own numbers: RCX, RDX, RBX, RBP, RSI and RDI are in their
 * places, RAX is brought to the host's for the instruction, and a memory operand is reached through RAX or RCX.
 */
#include "engine/jit/translate.h"

/* Whether an operand of this notation and number lies in guest RAX. */
static bool in_rax(char letter, unsigned n)
{
    return n == RAX || (letter == 'b' && n == RAX + 4);
}
/* Whether it is SPL's place: RSP, which is in another host register. */
static bool in_rsp(char letter, unsigned n)
{
    return n == RSP && letter != 'b';
}

bool jit_is_high_byte(const struct translation *t, char letter, unsigned n)
{
    return letter == 'b' && n >= 4 && n < 8 && !(t->insn.prefixes & X86_PFX_REX);
}

static void exchange(struct translation *t, unsigned a, unsigned b)
{
    emit_op(&t->e, true, 0x87, a, op_reg(b));
}

bool jit_high_byte(struct translation *t, enum jit_place_check check)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    unsigned reg = f->reg ? insn->reg : insn->modrm >> 3 & 7;
    bool reg_rax = f->reg && in_rax(f->reg_size, reg), rm_rax = !insn->is_mem && in_rax(f->rm_size, insn->rm),
         rax = reg_rax || rm_rax;
    struct operand rm = op_reg(insn->rm);
    struct raw r;

    if (!jit_take_apart(t, &r) || (f->reg && in_rsp(f->reg_size, reg)) ||
        (!insn->is_mem && in_rsp(f->rm_size, insn->rm)))
        return false;
    if (insn->is_mem)
        jit_memory_place(t, jit_operand_bytes(&t->insn, f->rm_size), f->rm & JIT_WRITE, check);
    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    if (rax)
        e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    if (insn->is_mem && rax) {
        exchange(t, JIT_T1, H_RCX);
        rm = op_mem(H_RCX, 0);
    } else if (insn->is_mem) {
        e_mov_rr(&t->e, H_RAX, JIT_T1);
        rm = op_mem(H_RAX, 0);
    }
    emit_modrm(&t->e, r.prefixes, r.nprefixes, false, false, r.opcode, r.nopcode, reg, rm);
    emit_bytes(&t->e, r.imm, r.nimm);
    if (insn->is_mem && rax)
        exchange(t, JIT_T1, H_RCX);
    if ((reg_rax && (f->reg & JIT_WRITE)) || (rm_rax && (f->rm & JIT_WRITE)))
        e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    return true;
}

/* MOV of an immediate byte to a register. */
bool jit_mov_imm_byte(struct translation *t)
{
    static const u8 opcode = 0xc6;
    unsigned n = t->insn.rm, host;

    if (jit_is_high_byte(t, 'b', n)) {
        n -= 4;
        if (n == RAX)
            e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
        emit8(&t->e, 0xb4 | n);
        emit8(&t->e, (u8)t->insn.imm);
        if (n == RAX)
            e_mov_rr(&t->e, jit_host[RAX], H_RAX);
        return true;
    }
    host = jit_get_guest(t, n, JIT_T0);
    emit_modrm(&t->e, NULL, 0, true, false, &opcode, 1, 0, op_reg(host));
    emit8(&t->e, (u8)t->insn.imm);
    jit_put_guest(t, n, host);
    return true;
}
