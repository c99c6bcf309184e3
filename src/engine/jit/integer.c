/*
 * Instructions on general registers. Most are executed by the host as they are (JIT_PLAIN): the same opcode bytes with host
 * registers in the register fields, and a memory operand from address.c.
 */
#include "engine/jit/translate.h"

bool jit_plain(struct translation *t)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    unsigned reg = insn->modrm >> 3 & 7, size = jit_operand_bytes(&t->insn, f->rm_size);
    bool reg_waits = false;
    /* A locked operation over a cache line is none on the host (engine/interp/mem.h). XCHG always is one. */
    bool locked = (insn->prefixes & X86_PFX_LOCK) || !strcmp(t->info->mnemonic, "XCHG");
    enum jit_place_check check = locked ? JIT_ONE_LINE : JIT_ANY_PLACE;
    struct operand rm;
    struct raw r;

    if (!insn->has_modrm || !jit_take_apart(t, &r))
        return false;
    if ((f->reg && jit_is_high_byte(t, f->reg_size, insn->reg)) ||
        (!insn->is_mem && jit_is_high_byte(t, f->rm_size, insn->rm)))
        return jit_high_byte(t, check);
    if (insn->is_mem) {
        bool single = jit_flags_needed(t) || (f->reg && in_memory(insn->reg)), write = f->rm & JIT_WRITE;

        /* A bit string reaches beyond its operand. */
        if (f->reg && t->info->mnemonic[0] == 'B' && t->info->mnemonic[1] == 'T')
            return jit_bit_string(t);
        rm = single ? jit_memory_operand_single(t, size, write, check)
                    : jit_memory_operand(t, size, write, check);
    } else {
        bool fresh = f->rm == JIT_WRITE && size >= 4 && in_memory(insn->rm);

        rm = op_reg(fresh ? JIT_T1 : jit_get_guest(t, insn->rm, JIT_T1));
    }
    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    if (f->reg) {
        bool fresh = f->reg == JIT_WRITE && jit_operand_bytes(insn, f->reg_size) >= 4 && in_memory(insn->reg);

        reg = fresh ? JIT_T0 : jit_get_guest(t, insn->reg, JIT_T0);
        reg_waits = f->reg & JIT_WRITE;
    }
    emit_modrm(&t->e, r.prefixes, r.nprefixes, r.rex, r.w, r.opcode, r.nopcode, reg, rm);
    emit_bytes(&t->e, r.imm, r.nimm);
    jit_flags_written(t);
    if (reg_waits)
        jit_put_guest(t, insn->reg, reg);
    if (!insn->is_mem && (f->rm & JIT_WRITE)) /* last: what XADD of a register with itself leaves */
        jit_put_guest(t, insn->rm, rm.base);
    return true;
}

/* OP AL,Ib and OP rAX,Iz: by their form with ModRM. */
bool jit_acc_imm(struct translation *t)
{
    unsigned byte = !(t->insn.opcode & 1), n = t->insn.opcode >> 3 & 7;
    bool test = t->insn.opcode >= 0xa8;
    u8 prefix = 0x66, opcode = (u8)(test ? 0xf7 - byte : 0x81 - byte);
    unsigned size = byte ? 1 : t->insn.operand_size;
    u32 imm = (u32)t->insn.imm;

    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    emit_modrm(&t->e, &prefix, size == 2, false, size == 8, &opcode, 1, test ? 0 : n, op_reg(jit_host[RAX]));
    emit_bytes(&t->e, &imm, size < 4 ? size : 4);
    jit_flags_written(t);
    return true;
}

bool jit_extend(struct translation *t)
{
    static const u8 movsx_w[] = {0x0f, 0xbf}, movsx_b[] = {0x0f, 0xbe}, movsxd = 0x63, prefix = 0x66;
    struct operand rax = op_reg(jit_host[RAX]);
    unsigned size = t->insn.operand_size;

    if (t->insn.opcode == 0x98) {
        if (size == 8)
            emit_modrm(&t->e, NULL, 0, false, true, &movsxd, 1, jit_host[RAX], rax);
        else if (size == 4)
            emit_modrm(&t->e, NULL, 0, false, false, movsx_w, 2, jit_host[RAX], rax);
        else
            emit_modrm(&t->e, &prefix, 1, true, false, movsx_b, 2, jit_host[RAX], rax);
        return true;
    }
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    if (size != 4)
        emit8(&t->e, size == 8 ? 0x48 : 0x66);
    emit8(&t->e, 0x99);
    return true;
}

/* MUL, IMUL, DIV, IDIV: guest RAX goes through the host's, RDX is in its place. */
bool jit_accumulator(struct translation *t)
{
    const struct x86_insn *insn = &t->insn;
    unsigned size = jit_operand_bytes(&t->insn, t->form->rm_size), digit = insn->modrm >> 3 & 7;
    bool w = size == 8, divides = digit >= 6;
    struct operand rm;
    u8 opcode = size == 1 ? 0xf6 : 0xf7, prefix = 0x66;

    if (size < 4 && divides)
        return false;
    if (!insn->is_mem && jit_is_high_byte(t, t->form->rm_size, insn->rm))
        return false;
    if (insn->is_mem) {
        rm = jit_memory_operand_single(t, size, false, JIT_ANY_PLACE);
        if (divides) {
            emit_op(&t->e, w, 0x8b, JIT_T1, rm);
            rm = op_reg(JIT_T1);
        }
    } else {
        rm = op_reg(jit_get_guest(t, insn->rm, JIT_T1));
    }
    if (divides) {
        /* What cannot overflow: the upper half is the lower's extension, and the divisor not 0 (nor -1, signed). */
        jit_clobber_flags(t);
        if (digit == 7) {
            emit_op(&t->e, w, 0x8b, H_RAX, op_reg(jit_host[RAX]));
            emit_op(&t->e, w, 0xc1, 7, op_reg(H_RAX));
            emit8(&t->e, w ? 63 : 31);
            e_alu(&t->e, w, ALU_CMP, H_RAX, op_reg(H_RDX));
            jit_bail_if(t, CC_NE);
            e_lea(&t->e, w, H_RAX, op_mem(rm.base, 1));
            e_alu_imm(&t->e, w, ALU_CMP, op_reg(H_RAX), 1);
            jit_bail_if(t, CC_BE);
        } else {
            emit_op(&t->e, w, 0x85, H_RDX, op_reg(H_RDX));
            jit_bail_if(t, CC_NE);
            emit_op(&t->e, w, 0x85, rm.base, rm);
            jit_bail_if(t, CC_E);
        }
        jit_need_host_flags(t);
    } else if (jit_flags_needed(t)) {
        jit_need_host_flags(t);
    }
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    emit_modrm(&t->e, &prefix, size == 2, size == 1, w, &opcode, 1, digit, rm);
    e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    return true;
}

bool jit_lea(struct translation *t)
{
    unsigned size = t->insn.operand_size, to;

    if (size < 4)
        return false;
    to = in_memory(t->insn.reg) ? JIT_T0 : jit_host[t->insn.reg];
    jit_effective_address(t, to, size == 8);
    jit_put_guest(t, t->insn.reg, to);
    return true;
}

bool jit_mov_imm(struct translation *t)
{
    unsigned n = t->insn.rm, size = t->insn.operand_size, to = in_memory(n) ? JIT_T0 : jit_host[n];

    if (size == 2) {
        static const u8 opcode = 0xc7, prefix = 0x66;

        to = jit_get_guest(t, n, JIT_T0);
        emit_modrm(&t->e, &prefix, 1, false, false, &opcode, 1, 0, op_reg(to));
        emit8(&t->e, (u8)t->insn.imm);
        emit8(&t->e, (u8)(t->insn.imm >> 8));
        jit_put_guest(t, n, to);
        return true;
    }
    e_mov_imm(&t->e, to, size == 8 ? t->insn.imm : (u32)t->insn.imm);
    jit_put_guest(t, n, to);
    return true;
}

bool jit_bswap(struct translation *t)
{
    unsigned size = t->insn.operand_size, reg;

    if (size < 4)
        return false;
    reg = jit_get_guest(t, t->insn.rm, JIT_T0);
    emit8(&t->e, (u8)(0x40 | (size == 8) << 3 | reg >> 3));
    emit8(&t->e, 0x0f);
    emit8(&t->e, 0xc8 | (reg & 7));
    jit_put_guest(t, t->insn.rm, reg);
    return true;
}

bool jit_xchg_acc(struct translation *t)
{
    unsigned size = t->insn.operand_size, other;

    if (size < 4)
        return false;
    other = jit_get_guest(t, t->insn.rm, JIT_T1);
    emit_op(&t->e, size == 8, 0x8b, JIT_T0, op_reg(jit_host[RAX]));
    emit_op(&t->e, size == 8, 0x8b, jit_host[RAX], op_reg(other));
    emit_op(&t->e, size == 8, 0x8b, other, op_reg(JIT_T0));
    jit_put_guest(t, t->insn.rm, other);
    return true;
}

bool jit_inc(struct translation *t)
{
    static const u8 opcode = 0xff, prefix = 0x66;
    unsigned size = t->insn.operand_size, reg;

    jit_need_host_flags(t); /* CF stays */
    reg = jit_get_guest(t, t->insn.rm, JIT_T0);
    emit_modrm(&t->e, &prefix, size == 2, false, false, &opcode, 1, t->insn.opcode >> 3 & 1, op_reg(reg));
    jit_flags_written(t);
    jit_put_guest(t, t->insn.rm, reg);
    return true;
}

bool jit_moffs(struct translation *t)
{
    static const u8 prefix = 0x66;
    bool store = t->insn.opcode & 2;
    unsigned size = t->insn.opcode & 1 ? t->insn.operand_size : 1;
    u8 opcode = (u8)(0x8a - store * 2 + (size != 1));

    if (t->insn.address_size != jit_width(t))
        return false;
    emit_modrm(&t->e, &prefix, size == 2, false, size == 8, &opcode, 1, jit_host[RAX],
               jit_memory_operand(t, size, store, JIT_ANY_PLACE));
    return true;
}

/* Programs prefetch where they know that they will wait: worth a look-up, which nothing follows from where it fails. */
bool jit_prefetch(struct translation *t)
{
    struct operand rm;
    struct raw r;
    u8 *skip;

    if (!t->insn.is_mem || jit_width(t) != 8 || !jit_take_apart(t, &r))
        return true;
    rm = jit_hint_operand(t, &skip);
    emit_modrm(&t->e, NULL, 0, false, false, r.opcode, r.nopcode, t->insn.modrm >> 3 & 7, rm);
    if (skip)
        e_here(&t->e, skip);
    return true;
}

bool jit_nop(struct translation *t)
{
    return true;
}
