/*
 * Moves: MOV in all forms, extensions, LEA, XCHG, CMOVcc, SETcc, BSWAP, MOVBE, XLAT, and the stack.
 */
#include "engine/interp/ops.h"
#include "engine/interp/segment.h"

/* ---- MOV ---- */

#define DEFINE_MOV(name, bits)                                                                               \
    HANDLER(mov_er_gr##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->rm, get##bits(s, i->reg));                                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_gr_er##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->reg, get##bits(s, i->rm));                                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_gr_em##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->reg, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                      \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_em_gr##bits)                                                                                 \
    {                                                                                                        \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), get##bits(s, i->reg));                    \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_er_im##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->rm, (u##bits)(i64)i->imm);                                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_em_im##bits)                                                                                 \
    {                                                                                                        \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), (u##bits)(i64)i->imm);                    \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_acc_moffs##bits)                                                                             \
    {                                                                                                        \
        set##bits(s, 0, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mov_moffs_acc##bits)                                                                             \
    {                                                                                                        \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), get##bits(s, 0));                         \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_MOV, mov)

#define DEFINE_MOV_V(name, bits)                                                                             \
    HANDLER(mov_zr_im##bits) /* the one with a 64-bit immediate */                                           \
    {                                                                                                        \
        set##bits(s, i->rm, (u##bits)i->disp);                                                               \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(movbe_load##bits)                                                                                \
    {                                                                                                        \
        set##bits(s, i->reg,                                                                                 \
                  __builtin_bswap##bits(load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ))));          \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(movbe_store##bits)                                                                               \
    {                                                                                                        \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE),                                           \
                    __builtin_bswap##bits(get##bits(s, i->reg)));                                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(xchg_zr_acc##bits)                                                                               \
    {                                                                                                        \
        u##bits a = get##bits(s, i->rm);                                                                     \
                                                                                                             \
        set##bits(s, i->rm, get##bits(s, RAX));                                                              \
        set##bits(s, RAX, a);                                                                                \
        NEXT;                                                                                                \
    }
FOR_V(DEFINE_MOV_V, mov)

HANDLER(lea16)
{
    set16(s, i->reg, (u16)interp_ea_offset(c, i));
    NEXT;
}
HANDLER(lea32)
{
    set32(s, i->reg, (u32)interp_ea_offset(c, i));
    NEXT;
}
HANDLER(lea64) /* mostly of a plain 64-bit address */
{
    if (unlikely(i->flags & (CELL_ADDR32 | CELL_ADDR16)))
        set64(s, i->reg, interp_ea_offset(c, i));
    else
        set64(s, i->reg, s->gpr[i->base] + (s->gpr[i->index] << i->scale) + (u64)i->disp);
    NEXT;
}

#define DEFINE_XCHG(name, bits)                                                                              \
    HANDLER(xchg_er_gr##bits)                                                                                \
    {                                                                                                        \
        u##bits a = get##bits(s, i->rm);                                                                     \
                                                                                                             \
        set##bits(s, i->rm, get##bits(s, i->reg));                                                           \
        set##bits(s, i->reg, a);                                                                             \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(xchg_em_gr##bits) /* locked with and without the prefix */                                       \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
        u##bits old;                                                                                         \
                                                                                                             \
        if (rmw_locked(c, i, p, bits / 8)) {                                                                 \
            old = __atomic_exchange_n((u##bits *)p, get##bits(s, i->reg), __ATOMIC_SEQ_CST);                 \
        } else {                                                                                             \
            old = *p;                                                                                        \
            *p = get##bits(s, i->reg);                                                                       \
        }                                                                                                    \
        rmw_end(c, i);                                                                                       \
        set##bits(s, i->reg, old);                                                                           \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_XCHG, xchg)

/* ---- extensions ---- */

#define DEFINE_EXTEND(name, from, type, bits)                                                                \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->reg, (u##bits)(type)get##from(s, i->rm));                                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->reg, (u##bits)(type)load##from(c, i, interp_ea(s, c, i, from / 8, MEM_READ)));       \
        NEXT;                                                                                                \
    }
FOR_V(DEFINE_EXTEND, movzx8, 8, u8)
FOR_V(DEFINE_EXTEND, movzx16, 16, u16)
FOR_V(DEFINE_EXTEND, movsx8, 8, i8)
FOR_V(DEFINE_EXTEND, movsx16, 16, i16)
DEFINE_EXTEND(movsxd, 32, i32, 32)
DEFINE_EXTEND(movsxd, 32, i32, 64)

HANDLER(cbw)
{
    set16(s, RAX, (u16)(i8)get8(s, 0));
    NEXT;
}
HANDLER(cwde)
{
    set32(s, RAX, (u32)(i16)get16(s, RAX));
    NEXT;
}
HANDLER(cdqe)
{
    set64(s, RAX, (u64)(i32)get32(s, RAX));
    NEXT;
}
HANDLER(cwd)
{
    set16(s, RDX, (i16)get16(s, RAX) < 0 ? 0xffff : 0);
    NEXT;
}
HANDLER(cdq)
{
    set32(s, RDX, (i32)get32(s, RAX) < 0 ? 0xffffffffu : 0);
    NEXT;
}
HANDLER(cqo)
{
    set64(s, RDX, (i64)get64(s, RAX) < 0 ? UINT64_MAX : 0);
    NEXT;
}

HANDLER(bswap16) /* undefined; CPUs give 0 */
{
    set16(s, i->rm, 0);
    NEXT;
}
HANDLER(bswap32)
{
    set32(s, i->rm, __builtin_bswap32(get32(s, i->rm)));
    NEXT;
}
HANDLER(bswap64)
{
    set64(s, i->rm, __builtin_bswap64(get64(s, i->rm)));
    NEXT;
}

HANDLER(xlat)
{
    u64 offset = s->gpr[RBX] + get8(s, 0);

    if (i->flags & CELL_ADDR32)
        offset = (u32)offset;
    else if (i->flags & CELL_ADDR16)
        offset = (u16)offset;
    set8(s, 0, load8(c, i, interp_linear(c, i, i->seg, offset, 1, MEM_READ)));
    NEXT;
}

/* ---- conditions ---- */

/* The operand is read whether the condition holds or not, and a 32-bit destination is zero-extended in either case. */
#define DEFINE_CMOV(CC, cc, bits)                                                                            \
    HANDLER(cmov##CC##_er##bits)                                                                             \
    {                                                                                                        \
        u##bits value = get##bits(s, i->rm), old = get##bits(s, i->reg);                                     \
                                                                                                             \
        set##bits(s, i->reg, flags_condition(c->flags, cc) ? value : old);                                   \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(cmov##CC##_em##bits)                                                                             \
    {                                                                                                        \
        u##bits value = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                            \
                                                                                                             \
        set##bits(s, i->reg, flags_condition(c->flags, cc) ? value : get##bits(s, i->reg));                  \
        NEXT;                                                                                                \
    }
#define DEFINE_CONDITION(CC, cc)                                                                             \
    FOR_V(DEFINE_CMOV, CC, cc)                                                                               \
    HANDLER(set##CC##_er)                                                                                    \
    {                                                                                                        \
        set8(s, i->rm, flags_condition(c->flags, cc));                                                       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(set##CC##_em)                                                                                    \
    {                                                                                                        \
        store8(c, i, interp_ea(s, c, i, 1, MEM_WRITE), flags_condition(c->flags, cc));                       \
        NEXT;                                                                                                \
    }
FOR_CONDITIONS(DEFINE_CONDITION)

#define ROWS_CONDITION(CC, cc)                                                                               \
    {OP_CMOV##CC##_Gv_Ev, 0, BY_SIZE(cmov##CC##_er), BY_SIZE(cmov##CC##_em)},                                \
        {OP_SET##CC##_Eb, ROW_RM8, ANY_SIZE(set##CC##_er), ANY_SIZE(set##CC##_em)},

/* ---- the stack ---- */

void interp_push_slow(struct interp *c, const struct cell *i, unsigned size, u64 value)
{
    struct stack st = interp_stack(c);

    c->cell = i;
    stack_push(c, i, &st, size, value);
    c->state->gpr[RSP] = st.sp;
}

u64 interp_pop_slow(struct interp *c, const struct cell *i, unsigned size)
{
    struct stack st = interp_stack(c);
    u64 value;

    c->cell = i;
    value = stack_pop(c, i, &st, size);
    c->state->gpr[RSP] = st.sp;
    return value;
}

#define DEFINE_STACK(name, bits)                                                                             \
    HANDLER(push_zr##bits)                                                                                   \
    {                                                                                                        \
        push(s, c, i, bits / 8, get##bits(s, i->rm));                                                        \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(push_em##bits)                                                                                   \
    {                                                                                                        \
        push(s, c, i, bits / 8, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                   \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(push_im##bits)                                                                                   \
    {                                                                                                        \
        push(s, c, i, bits / 8, (u##bits)(i64)i->imm);                                                       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(pop_zr##bits) /* POP SP: the popped value wins */                                                \
    {                                                                                                        \
        u##bits value = (u##bits)pop(s, c, i, bits / 8);                                                     \
                                                                                                             \
        set##bits(s, i->rm, value);                                                                          \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(pop_em##bits) /* the address is computed with the stack pointer after the pop (SDM 2) */         \
    {                                                                                                        \
        u64 sp = s->gpr[RSP];                                                                                \
        u##bits value = (u##bits)pop(s, c, i, bits / 8);                                                     \
                                                                                                             \
        c->undo_pop = true; /* a fault from here on gives RSP back */                                        \
        c->undo_sp = sp;                                                                                     \
        store##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), value);                                   \
        c->undo_pop = false;                                                                                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(leave##bits)                                                                                     \
    {                                                                                                        \
        {                                                                                                    \
            struct stack st = interp_stack(c);                                                               \
            u##bits value;                                                                                   \
                                                                                                             \
            c->cell = i;                                                                                     \
            st.sp = s->gpr[RBP];                                                                             \
            if (!st.flat64)                                                                                  \
                st.sp = st.seg.attr & SEG_DB ? (u32)st.sp : (s->gpr[RSP] & ~0xffffull) | (st.sp & 0xffff);   \
            value = (u##bits)stack_pop(c, i, &st, bits / 8);                                                 \
            s->gpr[RSP] = st.sp;                                                                             \
            set##bits(s, RBP, value);                                                                        \
        }                                                                                                    \
        NEXT;                                                                                                \
    }
FOR_V(DEFINE_STACK, stack)

HANDLER(pusha)
{
    {
        unsigned size = cell_operand_size(i);
        struct stack st = interp_stack(c);

        c->cell = i;
        for (unsigned r = RAX; r <= RDI; r++)
            stack_push(c, i, &st, size, s->gpr[r]); /* RSP in its place is the old one */
        s->gpr[RSP] = st.sp;
    }
    NEXT;
}

HANDLER(popa)
{
    {
        unsigned size = cell_operand_size(i);
        struct stack st = interp_stack(c);

        c->cell = i;
        /* A fault in the middle leaves the registers that were loaded before it, and RSP as it was. */
        for (unsigned r = RDI + 1; r-- > RAX;) {
            u64 value = stack_pop(c, i, &st, size);

            if (r != RSP)
                set_sized(s, r, size, value);
        }
        s->gpr[RSP] = st.sp;
    }
    NEXT;
}

HANDLER(enter)
{
    {
        unsigned size = cell_operand_size(i), level = (unsigned)i->disp & 31;
        struct stack st = interp_stack(c), frames = st;
        u64 frame;

        c->cell = i;
        stack_push(c, i, &st, size, get_sized(s, RBP, size));
        frame = st.sp;
        if (level) {
            frames.sp = st.flat64 || (st.seg.attr & SEG_DB) ? s->gpr[RBP]
                                                            : (frame & ~0xffffull) | (s->gpr[RBP] & 0xffff);
            for (unsigned n = 1; n < level; n++) {
                struct stack at = frames;

                stack_skip(&at, -(u64)size * n);
                stack_push(c, i, &st, size, stack_pop(c, i, &at, size));
            }
            stack_push(c, i, &st, size, frame);
        }
        stack_skip(&st, -(u64)(u16)i->imm);
        stack_probe(c, i, &st, size); /* the final stack pointer must be writable */
        set_sized(s, RBP, size, frame);
        s->gpr[RSP] = st.sp;
    }
    NEXT;
}

/* ---- segment registers ---- */

HANDLER(mov_er_sr)
{
    set_sized(s, i->rm, cell_operand_size(i), s->seg[i->reg].selector);
    NEXT;
}
HANDLER(mov_em_sr)
{
    store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), s->seg[i->reg].selector);
    NEXT;
}

static void load_sreg(struct interp *c, const struct cell *i, unsigned seg, u16 selector)
{
    c->cell = i;
    if (seg == SEG_CS)
        raise_ud(c, i);
    interp_load_segment(c, i, seg, selector);
    if (seg == SEG_SS)
        c->state->mov_ss_shadow = true;
}
HANDLER(mov_sr_er)
{
    load_sreg(c, i, i->reg, get16(s, i->rm));
    END_LOOP_NEXT;
}
HANDLER(mov_sr_em)
{
    if (i->reg == SEG_CS)
        raise_ud(c, i);
    load_sreg(c, i, i->reg, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));
    END_LOOP_NEXT;
}

#define DEFINE_PUSH_POP_SEG(NAME)                                                                            \
    HANDLER(push_##NAME)                                                                                     \
    {                                                                                                        \
        push_selector(s, c, i, s->seg[SEG_##NAME].selector);                                                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(pop_##NAME)                                                                                      \
    {                                                                                                        \
        pop_selector(s, c, i, SEG_##NAME);                                                                   \
        END_LOOP_NEXT;                                                                                       \
    }                                                                                                        \
    HANDLER(load_far_##NAME)                                                                                 \
    {                                                                                                        \
        load_far(s, c, i, SEG_##NAME);                                                                       \
        END_LOOP_NEXT;                                                                                       \
    }

/* A 32-bit push of a selector writes only its 16 bits on today's CPUs (SDM 2, PUSH). */
static void push_selector(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 selector)
{
    unsigned size = cell_operand_size(i);
    struct stack st = interp_stack(c);

    c->cell = i;
    if (size != 4) {
        stack_push(c, i, &st, size, selector);
    } else {
        stack_skip(&st, -2ull);
        stack_push(c, i, &st, 2, selector);
    }
    s->gpr[RSP] = st.sp;
}
static void pop_selector(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned seg)
{
    unsigned size = cell_operand_size(i);
    struct stack st = interp_stack(c);
    u16 selector;

    c->cell = i;
    selector = (u16)stack_pop(c, i, &st, size == 4 ? 2 : size); /* likewise reads only 16 bits */
    if (size == 4)
        stack_skip(&st, 2);
    load_sreg(c, i, seg, selector);
    s->gpr[RSP] = st.sp;
}
static void load_far(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned seg)
{
    unsigned size = cell_operand_size(i);
    u64 lin = interp_ea(s, c, i, size + 2, MEM_READ), offset = 0;
    u16 selector;

    interp_load_bytes(c, i, lin, &offset, size);
    selector = (u16)interp_load_slow(c, i, lin + size, 2);
    load_sreg(c, i, seg, selector);
    set_sized(s, i->reg, size, offset);
    if (seg == SEG_SS)
        s->mov_ss_shadow = false; /* LSS needs no shadow: it loads both at once */
}
DEFINE_PUSH_POP_SEG(ES)
DEFINE_PUSH_POP_SEG(SS)
DEFINE_PUSH_POP_SEG(DS)
DEFINE_PUSH_POP_SEG(FS)
DEFINE_PUSH_POP_SEG(GS)
HANDLER(push_CS)
{
    push_selector(s, c, i, s->seg[SEG_CS].selector);
    NEXT;
}

HANDLER(nop)
{
    NEXT;
}

/* A spinning vCPU gives its turn away. One on a thread of its own does so now and then, as what it waits for may run on another
   processor of the host, or may not. */
HANDLER(pause)
{
    enum { PAUSES = 32 };

    if (c->vcpu->vm->nvcpus == 1 || (c->vcpu->inside && ++c->pauses % PAUSES))
        NEXT;
    c->yield = true;
    END_LEAVE;
}

#define ROWS_SEG(NAME)                                                                                       \
    {OP_PUSH_##NAME, 0, ANY_SIZE(push_##NAME), NO_FORM},                                                     \
    {                                                                                                        \
        OP_POP_##NAME, 0, ANY_SIZE(pop_##NAME), NO_FORM                                                      \
    }

/* ---- whole lines, and stores past the caches (which are not there) ---- */

static void movdir64b(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        u64 to, offset = get_sized(s, i->reg, cell_address_size(i));
        u8 line[64];

        interp_load_bytes(c, i, interp_ea(s, c, i, 64, MEM_READ), line, 64);
        to = interp_linear(c, i, SEG_ES, offset, 64, MEM_WRITE);
        if (to & 63)
            raise_gp(c, i, 0);
        store_bytes(c, i, to, line, 64);
    }
    NEXT;
}
static void clzero(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    static const u8 zeros[64];
    u64 offset = get_sized(s, RAX, cell_address_size(i));

    store_bytes(c, i, interp_linear(c, i, i->seg, offset, 1, MEM_WRITE) & ~63ull, zeros, 64);
    NEXT;
}

const struct interp_row interp_move_rows[] = {
    {OP_MOV_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(mov_er_gr8), ANY_SIZE(mov_em_gr8)},
    {OP_MOV_Ev_Gv, 0, BY_SIZE(mov_er_gr), BY_SIZE(mov_em_gr)},
    {OP_MOV_Gb_Eb, ROW_REG8 | ROW_RM8, ANY_SIZE(mov_gr_er8), ANY_SIZE(mov_gr_em8)},
    {OP_MOV_Gv_Ev, 0, BY_SIZE(mov_gr_er), BY_SIZE(mov_gr_em)},
    {OP_MOV_Eb_Ib, ROW_RM8, ANY_SIZE(mov_er_im8), ANY_SIZE(mov_em_im8)},
    {OP_MOV_Ev_Iz, 0, BY_SIZE(mov_er_im), BY_SIZE(mov_em_im)},
    {OP_MOV_Zb_Ib, ROW_RM8, ANY_SIZE(mov_er_im8), NO_FORM},
    {OP_MOV_Zv_Iv, 0, BY_SIZE(mov_zr_im), NO_FORM},
    {OP_MOV_AL_Ob, 0, ANY_SIZE(mov_acc_moffs8), ANY_SIZE(mov_acc_moffs8)},
    {OP_MOV_rAX_Ov, 0, BY_SIZE(mov_acc_moffs), BY_SIZE(mov_acc_moffs)},
    {OP_MOV_Ob_AL, 0, ANY_SIZE(mov_moffs_acc8), ANY_SIZE(mov_moffs_acc8)},
    {OP_MOV_Ov_rAX, 0, BY_SIZE(mov_moffs_acc), BY_SIZE(mov_moffs_acc)},
    {OP_MOVNTI_My_Gy, 0, NO_FORM, {NULL, mov_em_gr32, mov_em_gr64}},
    {OP_MOVDIRI_My_Gy, 0, NO_FORM, {NULL, mov_em_gr32, mov_em_gr64}},
    {OP_MOVDIR64B_Gv_M, 0, NO_FORM, ANY_SIZE(movdir64b)},
    {OP_CLZERO, 0, ANY_SIZE(clzero), NO_FORM},
    {OP_LEA_Gv_M, 0, NO_FORM, BY_SIZE(lea)},
    {OP_XCHG_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(xchg_er_gr8), ANY_SIZE(xchg_em_gr8)},
    {OP_XCHG_Ev_Gv, 0, BY_SIZE(xchg_er_gr), BY_SIZE(xchg_em_gr)},
    {OP_XCHG_Zv_rAX, 0, BY_SIZE(xchg_zr_acc), NO_FORM},
    {OP_MOVZX_Gv_Eb, ROW_RM8, BY_SIZE(movzx8_er), BY_SIZE(movzx8_em)},
    {OP_MOVZX_Gv_Ew, 0, BY_SIZE(movzx16_er), BY_SIZE(movzx16_em)},
    {OP_MOVSX_Gv_Eb, ROW_RM8, BY_SIZE(movsx8_er), BY_SIZE(movsx8_em)},
    {OP_MOVSX_Gv_Ew, 0, BY_SIZE(movsx16_er), BY_SIZE(movsx16_em)},
    {OP_MOVSXD_Gv_Ed, 0, {mov_gr_er16, movsxd_er32, movsxd_er64}, {mov_gr_em16, movsxd_em32, movsxd_em64}},
    {OP_CBW, 0, {cbw, cwde, cdqe}, NO_FORM},
    {OP_CWD, 0, {cwd, cdq, cqo}, NO_FORM},
    {OP_BSWAP_Zv, 0, BY_SIZE(bswap), NO_FORM},
    {OP_MOVBE_Gv_Mv, 0, NO_FORM, BY_SIZE(movbe_load)},
    {OP_MOVBE_Mv_Gv, 0, NO_FORM, BY_SIZE(movbe_store)},
    {OP_XLAT, 0, ANY_SIZE(xlat), NO_FORM},
    FOR_CONDITIONS(ROWS_CONDITION){OP_PUSH_Zv, 0, BY_SIZE(push_zr), NO_FORM},
    {OP_PUSH_Ev, 0, BY_SIZE(push_zr), BY_SIZE(push_em)},
    {OP_PUSH_Iz, 0, BY_SIZE(push_im), NO_FORM},
    {OP_PUSH_Ib, 0, BY_SIZE(push_im), NO_FORM},
    {OP_POP_Zv, 0, BY_SIZE(pop_zr), NO_FORM},
    {OP_POP_Ev, 0, BY_SIZE(pop_zr), BY_SIZE(pop_em)},
    {OP_PUSHA, 0, ANY_SIZE(pusha), NO_FORM},
    {OP_POPA, 0, ANY_SIZE(popa), NO_FORM},
    {OP_ENTER_Iw_Ib, 0, ANY_SIZE(enter), NO_FORM},
    {OP_LEAVE, 0, BY_SIZE(leave), NO_FORM},
    {OP_MOV_Ev_Sw, 0, ANY_SIZE(mov_er_sr), ANY_SIZE(mov_em_sr)},
    {OP_MOV_Sw_Ew, 0, ANY_SIZE(mov_sr_er), ANY_SIZE(mov_sr_em)},
    ROWS_SEG(ES),
    ROWS_SEG(SS),
    ROWS_SEG(DS),
    ROWS_SEG(FS),
    ROWS_SEG(GS),
    {OP_PUSH_CS, 0, ANY_SIZE(push_CS), NO_FORM},
    {OP_LES_Gz_Mp, 0, NO_FORM, ANY_SIZE(load_far_ES)},
    {OP_LDS_Gz_Mp, 0, NO_FORM, ANY_SIZE(load_far_DS)},
    {OP_LSS_Gv_Mp, 0, NO_FORM, ANY_SIZE(load_far_SS)},
    {OP_LFS_Gv_Mp, 0, NO_FORM, ANY_SIZE(load_far_FS)},
    {OP_LGS_Gv_Mp, 0, NO_FORM, ANY_SIZE(load_far_GS)},
    {OP_NOP, 0, ANY_SIZE(nop), NO_FORM},
    {OP_PAUSE, 0, ANY_SIZE(pause), NO_FORM},
    {OP_NOP_Ev, 0, ANY_SIZE(nop), ANY_SIZE(nop)},
    {OP_ENDBR64, 0, ANY_SIZE(nop), NO_FORM},
    {OP_ENDBR32, 0, ANY_SIZE(nop), NO_FORM},
    {OP_PREFETCH_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHW_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHWT1_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHNTA_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHT0_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHT1_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    {OP_PREFETCHT2_Mb, 0, NO_FORM, ANY_SIZE(nop)},
    ROW_LAST,
};
