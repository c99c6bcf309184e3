/*
 * Vector instructions: the host executes them as they are, on its registers of the same number.
 *
 * Within a block a guest vector register is loaded from vcpu_state at its first use and stored back where the block ends,
 * calls a handler, or bails out. A register is held with 16 bytes while legacy SSE instructions use it, which leave the rest
 * alone in memory as on the CPU, and with 32 once a VEX instruction has; then legacy instructions keep the upper half in the
 * host's register, too.
 *
 * The host's MXCSR is the guest's with all exceptions masked (engine/interp/fp.h): the flags collect there. A guest that
 * unmasks one gets the cells for what may raise it.
 */
#include "engine/jit/translate.h"

/* Where a vector register lies, with the vcpu_state's address in R15. */
static struct operand vector_home(unsigned n)
{
    return op_mem(JIT_T1,
                  (i32)(offsetof(struct vcpu_state, vec) + n * sizeof(((struct vcpu_state *)0)->vec[0])));
}

static void move_vector(struct translation *t, unsigned n, bool wide, bool store)
{
    e_movups(&t->e, n, wide, store, vector_home(n));
}

void jit_store_vectors(struct translation *t, u16 dirty, u16 wide, bool used_wide)
{
    if (dirty)
        jit_load_state(t);
    for (unsigned n = 0; n < 16; n++)
        if (dirty >> n & 1)
            move_vector(t, n, wide >> n & 1, true);
    if (used_wide) /* so that the program's own SSE code does not drag the upper halves along: VZEROUPPER */
        e_vzeroupper(&t->e);
}

void jit_release_vectors(struct translation *t)
{
    jit_store_vectors(t, t->held.vec_dirty, t->held.vec_wide, t->held.vec_wide);
    t->held.vec = t->held.vec_wide = t->held.vec_dirty = 0;
}

/* Have register `n` in the host's, with 32 bytes if `wide`. R15 is clobbered. */
static void hold(struct translation *t, unsigned n, bool wide)
{
    u16 bit = (u16)(1u << n);

    if ((t->held.vec & bit) && (!wide || (t->held.vec_wide & bit)))
        return;
    jit_load_state(t);
    if (t->held.vec_dirty & bit)
        move_vector(t, n, false, true);
    move_vector(t, n, wide, false);
    t->held.vec |= bit;
    t->held.vec_dirty &= (u16)~bit;
    if (wide)
        t->held.vec_wide |= bit;
}

/* Register `n` was written: by VEX all of it, else as much as is held. */
static void written(struct translation *t, unsigned n, bool vex)
{
    u16 bit = (u16)(1u << n);

    t->held.vec |= bit;
    t->held.vec_dirty |= bit;
    if (vex)
        t->held.vec_wide |= bit;
}

static void check_masks(struct translation *t)
{
    if (t->held.fp_checked)
        return;
    jit_clobber_flags(t);
    emit_op(&t->e, false, 0x80, ALU_CMP, op_gs(offsetof(struct jit_vcpu, interp.fp.sse_unmasked)));
    emit8(&t->e, 0);
    jit_bail_if(t, CC_NE);
    t->held.fp_checked = true;
}

unsigned jit_vector_bytes(const struct decoded *d)
{
    const struct jit_form *f = d->form;
    bool wide = d->insn.prefixes & X86_PFX_VEX && d->insn.vex_l;
    unsigned bytes = f->rm_bytes == 0xff ? jit_operand_bytes(&d->insn, 'y')
                     : f->rm_bytes       ? f->rm_bytes
                     : wide              ? 32
                                         : 16;

    return f->half ? bytes / 2 : bytes;
}

bool jit_vector(struct translation *t)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    bool vex = insn->prefixes & X86_PFX_VEX, wide = vex && insn->vex_l;
    unsigned reg = insn->modrm >> 3 & 7, third = insn->vvvv, bytes = jit_vector_bytes(&t->all[t->cell]);
    u8 fourth = (u8)insn->imm;
    struct operand rm;
    struct raw r;

    if (!insn->has_modrm || jit_flags_needed(t) || !jit_take_apart(t, &r))
        return false;
    if (jit_code32(t)) { /* 64-bit operands and registers above 7 are not to be had */
        r.w &= !f->general && !f->acc;
        fourth &= 0x7f;
    }
    if (f->raises)
        check_masks(t);
    if (f->reg_vector && (f->reg & JIT_READ))
        hold(t, insn->reg, wide);
    if (f->third_vector && (f->third & JIT_READ))
        hold(t, insn->vvvv, wide);
    if (f->fourth)
        hold(t, fourth >> 4, wide);
    if (f->xmm0 & JIT_READ)
        hold(t, 0, wide);
    if (f->rm_vector && !insn->is_mem && (f->rm & JIT_READ))
        hold(t, insn->rm, wide);
    if (insn->is_mem && f->acc)
        rm = jit_memory_operand_single(t, bytes, false, JIT_ANY_PLACE);
    else if (insn->is_mem)
        rm = jit_memory_operand(t, bytes, f->rm & JIT_WRITE,
                                f->align && bytes >= 16 ? JIT_ALIGNED : JIT_ANY_PLACE);
    else if (f->rm_vector)
        rm = op_reg(insn->rm);
    else
        rm = op_reg(jit_get_guest(t, insn->rm, JIT_T1));
    if (f->reg_vector)
        reg = insn->reg;
    else if (f->reg)
        reg = in_memory(insn->reg) ? JIT_T0 : jit_host[insn->reg];
    if (f->acc)
        e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    if (vex)
        emit_vex(&t->e, r.map, r.pp, r.w, r.l, third, r.opcode[0], reg, rm);
    else
        emit_modrm(&t->e, r.prefixes, r.nprefixes, false, r.w, r.opcode, r.nopcode, reg, rm);
    if (f->fourth)
        emit8(&t->e, fourth);
    else
        emit_bytes(&t->e, r.imm, r.nimm);
    jit_flags_written(t);
    if (f->reg & JIT_WRITE) {
        if (f->reg_vector)
            written(t, insn->reg, vex);
        else
            jit_put_guest(t, insn->reg, reg);
    }
    if (f->third & JIT_WRITE)
        written(t, insn->vvvv, vex);
    if (f->xmm0 & JIT_WRITE)
        written(t, 0, vex);
    if (!insn->is_mem && (f->rm & JIT_WRITE)) {
        if (f->rm_vector)
            written(t, insn->rm, vex);
        else
            jit_put_guest(t, insn->rm, rm.base);
    }
    return true;
}

/* VZEROUPPER and VZEROALL: of all registers, most of which are in memory. */
bool jit_vzero(struct translation *t)
{
    static const u8 xorps[] = {0x0f, 0x57, 0xc0}, store[] = {0x0f, 0x11};
    bool all = t->insn.vex_l;

    jit_release_vectors(t);
    jit_load_state(t);
    emit_bytes(&t->e, xorps, sizeof(xorps));
    for (unsigned n = 0; n < (jit_code32(t) ? 8 : 16); n++)
        for (i32 half = all ? 0 : 16; half < 32; half += 16) {
            struct operand to = vector_home(n);

            to.disp += half;
            emit_modrm(&t->e, NULL, 0, false, false, store, 2, 0, to);
        }
    return true;
}

bool jit_bmi(struct translation *t)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    unsigned reg = insn->modrm >> 3 & 7, third = 0, bytes = jit_operand_bytes(&t->insn, 'y');
    struct operand rm;
    struct raw r;

    if (!jit_take_apart(t, &r))
        return false;
    r.w &= !jit_code32(t);
    /* One scratch register each: R15 for ModRM.rm and then a second result, RAX for the other. */
    if (f->reg && f->third && (f->third & JIT_WRITE) && in_memory(insn->reg) && in_memory(insn->vvvv))
        return false;
    if (insn->is_mem)
        rm = jit_memory_operand_single(t, bytes, false, JIT_ANY_PLACE);
    else
        rm = op_reg(jit_get_guest(t, insn->rm, JIT_T1));
    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    if (f->reg)
        reg = in_memory(insn->reg) ? JIT_T0 : jit_host[insn->reg];
    if (f->third)
        third = f->third & JIT_READ     ? jit_get_guest(t, insn->vvvv, JIT_T0)
                : in_memory(insn->vvvv) ? JIT_T0
                                        : jit_host[insn->vvvv];
    emit_vex(&t->e, r.map, r.pp, r.w, r.l, third, r.opcode[0], reg, rm);
    emit_bytes(&t->e, r.imm, r.nimm);
    jit_flags_written(t);
    if (f->third & JIT_WRITE)
        jit_put_guest(t, insn->vvvv, third);
    if (f->reg)
        jit_put_guest(t, insn->reg, reg);
    return true;
}
