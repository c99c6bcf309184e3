/*
 * Jumps, calls, returns, loops, software interrupts, BOUND.
 *
 * A direct target is in the cell, cut to the operand size when it was decoded. A target
 * beyond the CS limit, or not canonical, raises #GP(0) on the branch.
 */
#include "engine/interp/debug.h"
#include "engine/interp/fault.h"
#include "engine/interp/ops.h"
#include "engine/interp/segment.h"

static ALWAYS_INLINE void check_target(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                       u64 target)
{
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64) {
        if (unlikely(!interp_canonical(c, target)))
            raise_gp(c, i, 0);
    } else if (unlikely(target > s->seg[SEG_CS].limit)) {
        raise_gp(c, i, 0);
    }
}

static ALWAYS_INLINE void check_direct(struct interp *c, const struct cell *i)
{
    if (unlikely(i->rm)) /* set by the block builder */
        raise_gp(c, i, 0);
}

#define DEFINE_JCC(CC, cc)                                                                                   \
    HANDLER(j##CC)                                                                                           \
    {                                                                                                        \
        if (flags_condition(c->flags, cc)) {                                                                 \
            check_direct(c, i);                                                                              \
            END_TAKEN;                                                                                       \
        }                                                                                                    \
        END_FALL;                                                                                            \
    }
FOR_CONDITIONS(DEFINE_JCC)
#define ROWS_JCC(CC, cc)                                                                                     \
    {OP_J##CC##_Jb, 0, ANY_SIZE(j##CC), NO_FORM}, {OP_J##CC##_Jz, 0, ANY_SIZE(j##CC), NO_FORM},

HANDLER(jmp)
{
    check_direct(c, i);
    END_TAKEN;
}

/* ---- counting jumps: the counter is CX, ECX or RCX by address size ---- */

static ALWAYS_INLINE u64 counter(const struct vcpu_state *s, const struct cell *i)
{
    return get_sized(s, RCX, cell_address_size(i));
}

#define DEFINE_LOOP(name, condition)                                                                         \
    HANDLER(name)                                                                                            \
    {                                                                                                        \
        u64 left = counter(s, i) - 1;                                                                        \
        unsigned size = cell_address_size(i);                                                                \
        bool taken = (size == 8 ? left : size == 4 ? (u32)left : (u16)left) != 0 && (condition);             \
                                                                                                             \
        if (taken)                                                                                           \
            check_direct(c, i);                                                                              \
        set_sized(s, RCX, size, left);                                                                       \
        if (taken)                                                                                           \
            END_TAKEN;                                                                                       \
        END_FALL;                                                                                            \
    }
DEFINE_LOOP(loop, true)
DEFINE_LOOP(loope, c->flags &PACKED_ZF)
DEFINE_LOOP(loopne, !(c->flags & PACKED_ZF))

HANDLER(jcxz)
{
    if (counter(s, i) == 0) {
        check_direct(c, i);
        END_TAKEN;
    }
    END_FALL;
}

/* ---- calls and returns ---- */

/* The return address is stored before the target is looked at; RSP changes after. */
static ALWAYS_INLINE void call_to(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size,
                                  u64 target)
{
    c->undo_sp = s->gpr[RSP];
    push(s, c, i, size, cell_next_rip(c, i));
    c->undo_pop = true;
    check_target(s, c, i, target);
    c->undo_pop = false;
    s->rip = target;
}

#define DEFINE_CALL(name, bits)                                                                              \
    HANDLER(call_direct##bits)                                                                               \
    {                                                                                                        \
        check_direct(c, i);                                                                                  \
        push(s, c, i, bits / 8, cell_next_rip(c, i));                                                        \
        END_TAKEN;                                                                                           \
    }                                                                                                        \
    HANDLER(call_er##bits)                                                                                   \
    {                                                                                                        \
        call_to(s, c, i, bits / 8, get##bits(s, i->rm));                                                     \
        END_INDIRECT;                                                                                        \
    }                                                                                                        \
    HANDLER(call_em##bits)                                                                                   \
    {                                                                                                        \
        call_to(s, c, i, bits / 8, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                \
        END_INDIRECT;                                                                                        \
    }                                                                                                        \
    HANDLER(jmp_er##bits)                                                                                    \
    {                                                                                                        \
        check_target(s, c, i, get##bits(s, i->rm));                                                          \
        s->rip = get##bits(s, i->rm);                                                                        \
        END_INDIRECT;                                                                                        \
    }                                                                                                        \
    HANDLER(jmp_em##bits)                                                                                    \
    {                                                                                                        \
        u64 target = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                               \
                                                                                                             \
        check_target(s, c, i, target);                                                                       \
        s->rip = target;                                                                                     \
        END_INDIRECT;                                                                                        \
    }                                                                                                        \
    HANDLER(ret##bits)                                                                                       \
    {                                                                                                        \
        u64 sp = s->gpr[RSP], target = pop(s, c, i, bits / 8);                                               \
                                                                                                             \
        c->undo_pop = true;                                                                                  \
        c->undo_sp = sp;                                                                                     \
        check_target(s, c, i, target);                                                                       \
        c->undo_pop = false;                                                                                 \
        s->rip = target;                                                                                     \
        END_INDIRECT;                                                                                        \
    }                                                                                                        \
    HANDLER(ret_im##bits)                                                                                    \
    {                                                                                                        \
        {                                                                                                    \
            struct stack st = interp_stack(c);                                                               \
            u64 target = stack_pop(c, i, &st, bits / 8);                                                     \
                                                                                                             \
            check_target(s, c, i, target);                                                                   \
            stack_skip(&st, (u16)i->imm);                                                                    \
            s->gpr[RSP] = st.sp;                                                                             \
            s->rip = target;                                                                                 \
        }                                                                                                    \
        END_INDIRECT;                                                                                        \
    }
FOR_V(DEFINE_CALL, call)

/* ---- far ---- */

HANDLER(jmpf_direct)
{
    c->cell = i;
    interp_far_jump(c, i, (u16)i->imm, (u64)i->disp);
    END_LOOP;
}
HANDLER(callf_direct)
{
    c->cell = i;
    interp_far_call(c, i, (u16)i->imm, (u64)i->disp, cell_operand_size(i));
    END_LOOP;
}

static u64 load_pointer(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 *selector)
{
    unsigned size = cell_operand_size(i);
    u64 lin = interp_ea(s, c, i, size + 2, MEM_READ), offset = 0;

    interp_load_bytes(c, i, lin, &offset, size);
    *selector = (u16)interp_load_slow(c, i, lin + size, 2);
    return offset;
}
HANDLER(jmpf_em)
{
    u16 selector;
    u64 offset = load_pointer(s, c, i, &selector);

    interp_far_jump(c, i, selector, offset);
    END_LOOP;
}
HANDLER(callf_em)
{
    u16 selector;
    u64 offset = load_pointer(s, c, i, &selector);

    interp_far_call(c, i, selector, offset, cell_operand_size(i));
    END_LOOP;
}
HANDLER(retf)
{
    c->cell = i;
    interp_far_return(c, i, cell_operand_size(i), 0);
    END_LOOP;
}
HANDLER(retf_im)
{
    c->cell = i;
    interp_far_return(c, i, cell_operand_size(i), (u16)i->imm);
    END_LOOP;
}
HANDLER(iret)
{
    c->cell = i;
    interp_iret(c, i, cell_operand_size(i));
    END_FAR;
}

/* ---- software interrupts ---- */

HANDLER(int3)
{
    interp_software_interrupt(c, i, VEC_BP, EVENT_SOFTWARE);
    END_LOOP;
}
/* Whether the TSS sends INT n of virtual-8086 mode to the program's own handler (SDM 3B 21.3.3): its bit in the map of 32
   bytes below the I/O permission map is clear. */
static bool redirected(struct interp *c, const struct cell *i, u8 vector)
{
    const struct seg *tr = &c->state->seg[SEG_TR];
    u32 at;

    if ((tr->attr & SEG_TYPE & ~TYPE_BUSY) != DESC_TSS32 || tr->limit < 0x67)
        raise_gp(c, i, 0);
    at = (u32)interp_load_system(c, i, tr->base + 0x66, 2) - 32 + vector / 8;
    if (at > tr->limit)
        raise_gp(c, i, 0);
    return !(interp_load_system(c, i, tr->base + at, 1) >> vector % 8 & 1);
}

HANDLER(int_im)
{
    if (s->rflags & FLAG_VM) {
        if ((s->cr4 & CR4_VME) && redirected(c, i, (u8)i->imm)) {
            interp_redirected_interrupt(c, i, (u8)i->imm);
            END_LOOP;
        }
        if ((s->rflags & FLAG_IOPL) != FLAG_IOPL)
            raise_gp(c, i, 0);
    }
    interp_software_interrupt(c, i, (u8)i->imm, EVENT_SOFTWARE);
    END_LOOP;
}
HANDLER(into)
{
    if (!(c->flags & PACKED_OF))
        END_FALL;
    interp_software_interrupt(c, i, VEC_OF, EVENT_SOFTWARE);
    END_LOOP;
}
/* A trap that ignores the gate's DPL (SDM 2, INT1) and has no bit in DR6. It takes along what a MOV-SS shadow held back. */
HANDLER(int1)
{
    interp_software_interrupt(c, i, VEC_DB, EVENT_TRAP);
    interp_debug_registers(c, s->pending_debug);
    s->pending_debug = 0;
    END_LOOP;
}

HANDLER(bound)
{
    unsigned size = cell_operand_size(i);
    u64 lin = interp_ea(s, c, i, 2 * size, MEM_READ);
    i64 index = size == 2 ? (i16)get16(s, i->reg) : (i32)get32(s, i->reg);

    /* The lower bound may raise before the upper one is looked at. */
    if (index < (size == 2 ? (i16)load16(c, i, lin) : (i32)load32(c, i, lin)) ||
        index > (size == 2 ? (i16)load16(c, i, lin + 2) : (i32)load32(c, i, lin + 4)))
        interp_fault(c, i, VEC_BR, 0);
    NEXT;
}

const struct interp_row interp_branch_rows[] = {
    FOR_CONDITIONS(ROWS_JCC){OP_JMP_Jb, 0, ANY_SIZE(jmp), NO_FORM},
    {OP_JMP_Jz, 0, ANY_SIZE(jmp), NO_FORM},
    {OP_LOOP_Jb, 0, ANY_SIZE(loop), NO_FORM},
    {OP_LOOPE_Jb, 0, ANY_SIZE(loope), NO_FORM},
    {OP_LOOPNE_Jb, 0, ANY_SIZE(loopne), NO_FORM},
    {OP_JCXZ_Jb, 0, ANY_SIZE(jcxz), NO_FORM},
    {OP_CALL_Jz, 0, BY_SIZE(call_direct), NO_FORM},
    {OP_CALL_Ev, 0, BY_SIZE(call_er), BY_SIZE(call_em)},
    {OP_JMP_Ev, 0, BY_SIZE(jmp_er), BY_SIZE(jmp_em)},
    {OP_RET, 0, BY_SIZE(ret), NO_FORM},
    {OP_RET_Iw, 0, BY_SIZE(ret_im), NO_FORM},
    {OP_JMPF_Ap, 0, ANY_SIZE(jmpf_direct), NO_FORM},
    {OP_CALLF_Ap, 0, ANY_SIZE(callf_direct), NO_FORM},
    {OP_JMPF_Ep, 0, NO_FORM, ANY_SIZE(jmpf_em)},
    {OP_CALLF_Ep, 0, NO_FORM, ANY_SIZE(callf_em)},
    {OP_RETF, 0, ANY_SIZE(retf), NO_FORM},
    {OP_RETF_Iw, 0, ANY_SIZE(retf_im), NO_FORM},
    {OP_IRET, 0, ANY_SIZE(iret), NO_FORM},
    {OP_INT3, 0, ANY_SIZE(int3), NO_FORM},
    {OP_INT_Ib, 0, ANY_SIZE(int_im), NO_FORM},
    {OP_INTO, 0, ANY_SIZE(into), NO_FORM},
    {OP_INT1, 0, ANY_SIZE(int1), NO_FORM},
    {OP_BOUND_Gv_Ma, 0, NO_FORM, ANY_SIZE(bound)},
    ROW_LAST,
};
