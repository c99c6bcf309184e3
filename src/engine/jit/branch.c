/*
 * The stack, branches, and the ways from one translation to the next.
 *
 * An exit to a known address is a jump that is linked to the target's translation once there is one: within the page to an
 * entry that looks at nothing (forward) or at the kick word (backward, so that every way round a loop does), to another page
 * to the entry that checks the mapping. Other branches find their target in a table by RIP (jit_vcpu.target_rip).
 */
#include "engine/jit/translate.h"

/* ---- stack ---- */

static void move_sp(struct translation *t, i32 by)
{
    e_lea(&t->e, !jit_code32(t), JIT_RSP, op_mem(JIT_RSP, by));
}
static i32 slot(const struct translation *t)
{
    return (i32)jit_width(t);
}

/* The place that PUSH writes. */
static struct operand push_place(struct translation *t)
{
    return jit_based_operand(t, RSP, -slot(t), jit_width(t), true);
}
/* MOV of a stack slot. */
static void store_slot(struct translation *t, struct operand to, unsigned from)
{
    emit_op(&t->e, !jit_code32(t), 0x89, from, to);
}
static void load_slot(struct translation *t, unsigned to, struct operand from)
{
    emit_op(&t->e, !jit_code32(t), 0x8b, to, from);
}

bool jit_push(struct translation *t)
{
    struct operand to;

    if (t->insn.operand_size != jit_width(t) || t->insn.is_mem)
        return false;
    to = push_place(t);
    store_slot(t, to, jit_get_guest(t, t->insn.rm, JIT_T0));
    move_sp(t, -slot(t));
    return true;
}

void jit_push_value(struct translation *t)
{
    struct operand to;

    e_store(&t->e, VCPU(scratch), JIT_T0);
    to = push_place(t);
    e_mov(&t->e, JIT_T0, VCPU(scratch));
    store_slot(t, to, JIT_T0);
    move_sp(t, -slot(t));
}

bool jit_push_mem(struct translation *t)
{
    if (!t->insn.is_mem)
        return jit_push(t);
    if (t->insn.operand_size != jit_width(t))
        return false;
    load_slot(t, JIT_T0, jit_memory_operand(t, jit_width(t), false, JIT_ANY_PLACE));
    jit_push_value(t);
    return true;
}

bool jit_push_imm(struct translation *t)
{
    if (t->insn.operand_size != jit_width(t))
        return false;
    emit_op(&t->e, !jit_code32(t), 0xc7, 0, push_place(t));
    emit32(&t->e, (u32)t->insn.imm);
    move_sp(t, -slot(t));
    return true;
}

bool jit_pop(struct translation *t)
{
    unsigned n = t->insn.rm, to = in_memory(n) ? JIT_T0 : jit_host[n];

    if (t->insn.operand_size != jit_width(t) || t->insn.is_mem)
        return false;
    load_slot(t, to, jit_based_operand(t, RSP, 0, jit_width(t), false));
    if (n != RSP)
        move_sp(t, slot(t));
    jit_put_guest(t, n, to);
    return true;
}

bool jit_leave(struct translation *t)
{
    struct operand from;

    if (t->insn.operand_size != jit_width(t))
        return false;
    from = jit_based_operand(t, RBP, 0, jit_width(t), false);
    e_lea(&t->e, !jit_code32(t), JIT_RSP, op_mem(jit_host[RBP], slot(t)));
    load_slot(t, jit_host[RBP], from);
    return true;
}

/* ---- exits ---- */

/* The block's instructions are done. */
static void count_block(struct translation *t)
{
    if (t->j->code->counts)
        e_alu_imm(&t->e, true, ALU_SUB, INTERP(left), t->b->ncells);
}

/* How an exit to `rip` may enter what is there. */
static enum jit_entry entry_for(const struct translation *t, u64 rip)
{
    if ((rip ^ t->b->rip) & PAGE_MASK)
        return ENTRY_CHECKED;
    if (rip <= t->b->rip || t->j->code->counts)
        return ENTRY_POLL;
    return t->held.mem_flags ? ENTRY_BODY : ENTRY_FLAGS;
}

static void unlinked(struct translation *t, u8 *place, unsigned which, enum jit_entry entry)
{
    jit_add_fix(t, FIX_UNLINKED, place, (struct fix){.which = (u8)which, .entry = (u8)entry});
}

static void exit_to(struct translation *t, u64 rip, unsigned which)
{
    enum jit_entry entry = entry_for(t, rip);

    if (entry != ENTRY_FLAGS || t->held.entry_flags)
        jit_save_flags(t);
    count_block(t);
    unlinked(t, e_jmp(&t->e), which, entry);
}

void jit_fall(struct translation *t)
{
    jit_release_vectors(t);
    exit_to(t, t->b->rip + t->b->nbytes, 1);
}

bool jit_jcc(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];
    u64 target = (u64)cell->disp;
    enum jit_entry entry;
    struct held held;
    u8 *taken;

    if (cell->rm) /* raises #GP when it is taken */
        return false;
    jit_release_vectors(t);
    if (t->held.entry_flags)
        jit_save_flags(t);
    jit_need_host_flags(t);
    taken = e_jcc(&t->e, t->insn.opcode & 15);
    held = t->held;
    entry = entry_for(t, target);
    if (!t->j->code->counts && (entry == ENTRY_FLAGS || held.mem_flags)) {
        unlinked(t, taken, 0, entry);
        jit_fall(t);
        return true;
    }
    jit_fall(t);
    t->held = held;
    e_here(&t->e, taken);
    exit_to(t, target, 0);
    return true;
}

/* JRCXZ. RCX is the host's. */
bool jit_jcxz(struct translation *t)
{
    static const u8 around[] = {0xe3, 2, 0xeb, 5}; /* JRCXZ over a JMP over the one that follows */
    const struct cell *cell = &t->b->cells[t->cell];
    u8 *zero;

    if (cell->rm || t->insn.address_size != jit_width(t))
        return false;
    jit_release_vectors(t);
    jit_save_flags(t);
    if (jit_code32(t))
        emit8(&t->e, 0x67);
    emit_bytes(&t->e, around, sizeof(around));
    zero = e_jmp(&t->e);
    jit_fall(t);
    e_here(&t->e, zero);
    exit_to(t, (u64)cell->disp, 0);
    return true;
}

bool jit_jmp(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];

    if (cell->rm)
        return false;
    jit_release_vectors(t);
    exit_to(t, (u64)cell->disp, 0);
    return true;
}

/* The return address to the place of a push. */
static void store_return(struct translation *t)
{
    u64 rip = t->b->rip + t->b->nbytes;
    struct operand to = push_place(t);

    if (jit_code32(t) || (u64)(i64)(i32)rip == rip) {
        emit_op(&t->e, !jit_code32(t), 0xc7, 0, to);
        emit32(&t->e, (u32)rip);
    } else {
        e_mov_imm(&t->e, JIT_T0, rip);
        e_store(&t->e, to, JIT_T0);
    }
    move_sp(t, -slot(t));
}

bool jit_call(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];

    if (cell->rm || t->insn.operand_size != jit_width(t))
        return false;
    jit_release_vectors(t);
    store_return(t);
    exit_to(t, (u64)cell->disp, 0);
    return true;
}

/* RAX: a RIP. To R15: its number in the table of targets; the cell does it when it is not to be had there. Flags are
   clobbered. */
static void find_target(struct translation *t)
{
    struct emit *e = &t->e;
    u8 *again = e->p, *place;

    e_rorx_or_shr(e, t->j->code->bmi2, JIT_T1, JIT_T0, JIT_TARGET_BITS);
    e_alu(e, false, ALU_XOR, JIT_T1, op_reg(JIT_T0));
    e_alu_imm(e, false, ALU_AND, op_reg(JIT_T1), JIT_TARGETS - 1);
    e_alu(e, true, ALU_CMP, JIT_T0,
          op_gs_index(JIT_T1, 3, offsetof(struct jit_vcpu, target_rip[t->b->tier_mode])));
    place = e_jcc(e, CC_NE);
    jit_add_fix(t, FIX_TARGET, place, (struct fix){.resume = again});
}
static struct operand target_code(const struct translation *t)
{
    return op_gs_index(JIT_T1, 3, offsetof(struct jit_vcpu, target_code[t->b->tier_mode]));
}

void jit_find_other_mode(struct translation *t, unsigned mode_number)
{
    u64 rip = t->b->rip + t->b->nbytes;

    e_mov_imm(&t->e, JIT_T0, rip);
    e_alu(&t->e, true, ALU_CMP, JIT_T0,
          op_gs(offsetof(struct jit_vcpu, target_rip[mode_number]) + jit_target_slot(rip) * 8));
    jit_add_fix(t, FIX_BAIL, e_jcc(&t->e, CC_NE), (struct fix){.exit = JIT_EXIT_TARGET});
}
void jit_fall_to_other_mode(struct translation *t, unsigned mode_number)
{
    count_block(t);
    e_jmp_indirect(&t->e, op_gs(offsetof(struct jit_vcpu, target_code[mode_number]) +
                                jit_target_slot(t->b->rip + t->b->nbytes) * 8));
}

bool jit_ret(struct translation *t)
{
    if (t->insn.operand_size != jit_width(t))
        return false;
    jit_release_vectors(t);
    jit_clobber_flags(t);
    load_slot(t, JIT_T0, jit_based_operand(t, RSP, 0, jit_width(t), false));
    find_target(t);
    move_sp(t, slot(t));
    count_block(t);
    e_jmp_indirect(&t->e, target_code(t));
    return true;
}

static void indirect_target(struct translation *t)
{
    jit_release_vectors(t);
    jit_clobber_flags(t);
    if (t->insn.is_mem)
        load_slot(t, JIT_T0, jit_memory_operand(t, jit_width(t), false, JIT_ANY_PLACE));
    else
        load_slot(t, JIT_T0, op_reg(jit_get_guest(t, t->insn.rm, JIT_T0)));
    find_target(t);
}

bool jit_jmp_indirect(struct translation *t)
{
    if (t->insn.operand_size != jit_width(t))
        return false;
    indirect_target(t);
    count_block(t);
    e_jmp_indirect(&t->e, target_code(t));
    return true;
}

bool jit_call_indirect(struct translation *t)
{
    if (t->insn.operand_size != jit_width(t))
        return false;
    indirect_target(t);
    e_mov(&t->e, JIT_T1, target_code(t));
    e_store(&t->e, VCPU(scratch), JIT_T1);
    store_return(t);
    count_block(t);
    e_jmp_indirect(&t->e, VCPU(scratch));
    return true;
}
