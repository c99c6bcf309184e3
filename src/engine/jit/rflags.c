/* Instructions about RFLAGS, and those that do nothing but wait. */
#include "engine/jit/translate.h"

/* CLC, STC, CMC, LFENCE and their like: the host's instruction. */
bool jit_bare(struct translation *t)
{
    struct raw r;

    if (!jit_take_apart(t, &r))
        return false;
    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    emit_bytes(&t->e, r.prefixes, r.nprefixes);
    emit_bytes(&t->e, r.opcode, r.nopcode);
    if (t->insn.has_modrm)
        emit8(&t->e, t->insn.modrm);
    jit_flags_written(t);
    return true;
}

/* LAHF and SAHF: AH is that of the host's RAX. */
bool jit_ah_flags(struct translation *t)
{
    bool store = t->insn.op == OP_LAHF;

    jit_need_host_flags(t);
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    emit8(&t->e, t->insn.opcode);
    if (store)
        e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    return true;
}

/* CLD and STD. */
bool jit_direction(struct translation *t)
{
    enum { DF_BYTE = 1, DF_BIT = FLAG_DF >> 8 };
    bool set = t->insn.op == OP_STD;

    jit_clobber_flags(t);
    jit_load_state(t);
    emit_op(&t->e, false, 0x80, set ? ALU_OR : ALU_AND,
            op_mem(JIT_T1, offsetof(struct vcpu_state, rflags) + DF_BYTE));
    emit8(&t->e, (u8)(set ? DF_BIT : ~DF_BIT));
    return true;
}
