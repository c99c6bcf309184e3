/*
 * Raising faults, and delivering events (SDM 3A chapter 6; INT n in SDM 2).
 */
#include "engine/interp/fault.h"

#include "engine/interp/debug.h"
#include "engine/interp/mem.h"
#include "engine/interp/segment.h"
#include "engine/interp/system.h"
#include "engine/interp/task.h"
#include "machine/trace.h"

enum { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT32 = 14, GATE_TRAP32 = 15 };

/* Traps of the elements that a gather has loaded are delivered in lieu of its fault, with RF set (SDM 2C VGATHERDPS). */
static bool gather_traps(struct interp *c)
{
    struct vcpu_state *s = c->state;
    u64 traps = c->debug.hits;

    if ((s->rflags & FLAG_TF) && !(s->debugctl & DEBUGCTL_BTF))
        traps |= DR6_BS;
    if (!traps)
        return false;
    interp_debug_collect(c);
    s->pending_debug |= traps;
    s->rflags |= FLAG_RF;
    return true;
}

_Noreturn void interp_fault(struct interp *c, const struct cell *i, u8 vector, u32 error)
{
    c->bounce.active = false;
    if (c->gathered) {
        c->gathered = false;
        if (gather_traps(c))
            vector = FAULT_RETRY;
    }
    if (i)
        interp_debug_drop(c); /* the instruction has not happened */
    if (c->undo_pop) {
        c->undo_pop = false;
        c->state->gpr[RSP] = c->undo_sp;
    }
    if (c->undo_flags) {
        c->undo_flags = false;
        c->flags = c->old_flags;
    }
    if (i && i->fn == interp_x87_recorded)
        interp_x87_unrecord(c);
    if (i) {
        c->left -= i - c->block->cells;
        c->state->rip = cell_rip(c, i);
    }
    c->fault.vector = vector;
    c->fault.error = error;
    longjmp(*c->unwind, 1);
}

_Noreturn void interp_page_fault(struct interp *c, const struct cell *i, u64 address, u32 error)
{
    c->fault.address = address;
    interp_fault(c, i, VEC_PF, error);
}

static bool has_error_code(enum event_kind kind, u8 vector)
{
    const u32 with_error = 1u << VEC_DF | 1u << VEC_TS | 1u << VEC_NP | 1u << VEC_SS | 1u << VEC_GP |
                           1u << VEC_PF | 1u << VEC_AC | 1u << 21;

    return kind == EVENT_EXCEPTION && vector < 32 && (with_error >> vector & 1);
}

/* The image of RFLAGS that is pushed: faults set RF so that the instruction can be resumed past a breakpoint. */
static u64 pushed_flags(const struct interp *c, enum event_kind kind, u8 vector)
{
    u64 flags = interp_rflags(c);

    if (kind == EVENT_EXCEPTION && vector != VEC_DF)
        flags |= FLAG_RF;
    return flags;
}

/* Real mode: four bytes a vector. */
static void deliver_real(struct interp *c, const struct cell *i, u8 vector, u64 rip)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    u64 old = interp_rflags(c);
    u32 entry;

    if (vector * 4u + 3 > s->idtr.limit)
        raise_gp(c, i, 0);
    entry = (u32)interp_load_system(c, i, s->idtr.base + vector * 4u, 4);
    stack_push(c, i, &st, 2, old);
    stack_push(c, i, &st, 2, s->seg[SEG_CS].selector);
    stack_push(c, i, &st, 2, rip);
    s->gpr[RSP] = st.sp;
    interp_set_rflags(c, old & ~(u64)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
    s->seg[SEG_CS].selector = (u16)(entry >> 16);
    s->seg[SEG_CS].base = (u64)(entry >> 16) << 4;
    s->rip = entry & 0xffff;
}

struct idt_gate {
    unsigned type, dpl, ist;
    u16 selector;
    u64 offset;
    u32 error; /* that faults about this gate push */
};

static struct idt_gate read_gate(struct interp *c, const struct cell *i, enum event_kind kind, u8 vector,
                                 u32 ext)
{
    const struct vcpu_state *s = c->state;
    bool lma = s->efer & EFER_LMA;
    unsigned size = lma ? 16 : 8;
    struct idt_gate g = {.error = vector * 8u + 2 + ext};
    u64 low, high = 0;

    if (vector * size + size - 1 > s->idtr.limit)
        raise_gp(c, i, g.error);
    low = interp_load_system(c, i, s->idtr.base + vector * size, 8);
    if (lma)
        high = interp_load_system(c, i, s->idtr.base + vector * size + 8, 8);
    g.type = low >> 40 & 0x1f;
    g.dpl = low >> 45 & 3;
    g.ist = lma ? low >> 32 & 7 : 0;
    g.selector = (u16)(low >> 16);
    g.offset = (low & 0xffff) | high << 32;
    if (g.type != GATE_INT16 && g.type != GATE_TRAP16)
        g.offset |= low >> 48 << 16;
    if (g.type != GATE_INT32 && g.type != GATE_TRAP32 &&
        (lma || (g.type != GATE_INT16 && g.type != GATE_TRAP16 && g.type != GATE_TASK)))
        raise_gp(c, i, g.error);
    if (kind == EVENT_SOFTWARE && g.dpl < c->cpl)
        raise_gp(c, i, g.error);
    if (!(low >> 47 & 1))
        interp_fault(c, i, VEC_NP, g.error);
    if (!(g.selector & ~3))
        raise_gp(c, i, ext);
    return g;
}

static void push_v86_segments(struct interp *c, const struct cell *i, struct stack *st, unsigned size)
{
    static const u8 order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};

    for (size_t n = 0; n < ARRAY_SIZE(order); n++)
        stack_push(c, i, st, size, c->state->seg[order[n]].selector);
}

static void clear_v86_segments(struct vcpu_state *s)
{
    static const u8 order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};

    for (size_t n = 0; n < ARRAY_SIZE(order); n++)
        s->seg[order[n]] = (struct seg){.attr = SEG_UNUSABLE};
}

static void deliver_protected(struct interp *c, const struct cell *i, enum event_kind kind, u8 vector,
                              u32 error, u64 rip)
{
    struct vcpu_state *s = c->state;
    u32 ext = kind != EVENT_SOFTWARE;
    struct idt_gate g = read_gate(c, i, kind, vector, ext);
    bool lma = s->efer & EFER_LMA, v86 = s->rflags & FLAG_VM, inner;
    unsigned size = lma ? 8 : g.type >= GATE_INT32 ? 4 : 2, dpl, cpl = c->cpl;
    u64 d, old = interp_rflags(c), flags;
    struct seg cs;
    struct stack st;

    if (g.type == GATE_TASK) {
        interp_task_event(c, i, g.selector, rip, pushed_flags(c, kind, vector), ext,
                          has_error_code(kind, vector) ? &error : NULL);
        return;
    }
    d = interp_descriptor(c, i, g.selector, VEC_GP, ext);
    cs = seg_from_descriptor(d, g.selector);
    dpl = dpl_of(&cs);
    inner = !is_conforming(&cs) && dpl < c->cpl;
    if ((cs.attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) || dpl > c->cpl)
        raise_gp(c, i, (g.selector & ~3u) | ext);
    if (!(cs.attr & SEG_P))
        interp_fault(c, i, VEC_NP, (g.selector & ~3u) | ext);
    if (lma && (cs.attr & (SEG_L | SEG_DB)) != SEG_L)
        raise_gp(c, i, (g.selector & ~3u) | ext);
    if (v86 && (!inner || dpl != 0))
        raise_gp(c, i, (g.selector & ~3u) | ext);
    if (inner)
        cpl = dpl;
    if (inner || g.ist) {
        st = interp_tss_stack(c, i, cpl, g.ist, ext);
        if (!inner) /* IST at the same level keeps SS */
            st.seg = s->seg[SEG_SS];
    } else {
        st = interp_stack(c);
        st.error = ext;
        st.flat64 = lma;
    }
    if (lma)
        st.sp &= ~0xfull;
    if (v86)
        push_v86_segments(c, i, &st, size);
    if (lma || inner) {
        stack_push(c, i, &st, size, s->seg[SEG_SS].selector);
        stack_push(c, i, &st, size, s->gpr[RSP]);
    }
    stack_push(c, i, &st, size, pushed_flags(c, kind, vector));
    stack_push(c, i, &st, size, s->seg[SEG_CS].selector);
    stack_push(c, i, &st, size, rip);
    if (has_error_code(kind, vector))
        stack_push(c, i, &st, size, error);
    interp_check_rip(c, i, &cs, g.offset, ext);
    interp_mark_accessed(c, i, g.selector, d);
    /* Nothing faults from here on. */
    if (v86)
        clear_v86_segments(s);
    interp_commit_stack(c, &st);
    interp_commit_cs(c, i, cs, cpl, g.offset);
    flags = old & ~(u64)(FLAG_TF | FLAG_NT | FLAG_VM | FLAG_RF);
    if (g.type == GATE_INT16 || g.type == GATE_INT32)
        flags &= ~(u64)FLAG_IF;
    interp_set_rflags(c, flags);
}

static void trace_event(struct interp *c, enum event_kind kind, u8 vector, u32 error)
{
    static const u8 kinds[] = {
        [EVENT_EXCEPTION] = TRACE_EXCEPTION,
        [EVENT_TRAP] = TRACE_EXCEPTION,
        [EVENT_SOFTWARE] = TRACE_SOFTWARE,
        [EVENT_INTERRUPT] = TRACE_INTERRUPT,
        [EVENT_NMI] = TRACE_NMI,
    };
    const struct trace_ops *trace = c->vcpu->vm->trace;

    if (!trace || !trace->event)
        return;
    c->state->rflags = interp_rflags(c);
    trace->event(c->vcpu->vm->trace_opaque, c->vcpu, kinds[kind], vector, has_error_code(kind, vector), error,
                 vector == VEC_PF && kind == EVENT_EXCEPTION ? c->fault.address : 0);
}

static void deliver_once(struct interp *c, const struct cell *i, enum event_kind kind, u8 vector, u32 error,
                         u64 rip)
{
    struct vcpu_state *s = c->state;

    if (!vcpu_64bit(s))
        rip = (u32)rip; /* 0 after an instruction that ended at 4 GiB */
    trace_event(c, kind, vector, error);
    if (kind == EVENT_EXCEPTION && vector == VEC_PF)
        s->cr2 = c->fault.address;
    s->sti_shadow = s->mov_ss_shadow = false;
    c->link_from = NULL; /* the next block is the handler's, not the branch's target */
    if (s->cr0 & CR0_PE)
        deliver_protected(c, i, kind, vector, error, rip);
    else
        deliver_real(c, i, vector, rip);
    interp_segments_changed(c);
    c->event_in_step = true;
}

void interp_software_interrupt(struct interp *c, const struct cell *i, u8 vector, enum event_kind kind)
{
    c->cell = i;
    deliver_once(c, i, kind, vector, 0, cell_next_rip(c, i));
}

/* Methods 5 and 6 of SDM 3B table 21-2: as in real mode, with the table at linear address 0 of the program. */
void interp_redirected_interrupt(struct interp *c, const struct cell *i, u8 vector)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    u64 old = interp_rflags(c);
    bool virtual_if = (old & FLAG_IOPL) != FLAG_IOPL;
    u32 entry;

    c->cell = i;
    trace_event(c, EVENT_SOFTWARE, vector, 0);
    entry = (u32)interp_load_as(c, i, 3, vector * 4u, 4);
    stack_push(c, i, &st, 2, virtual_if ? interp_virtual_image(c) : old);
    stack_push(c, i, &st, 2, s->seg[SEG_CS].selector);
    stack_push(c, i, &st, 2, cell_next_rip(c, i));
    s->gpr[RSP] = st.sp;
    interp_set_rflags(c, old & ~(u64)(FLAG_TF | FLAG_RF | (virtual_if ? FLAG_VIF : FLAG_IF)));
    interp_load_real(c, SEG_CS, (u16)(entry >> 16));
    s->rip = entry & 0xffff;
    interp_mode_changed(c);
    c->event_in_step = true;
}

/* SDM 3A table 6-4. */
static bool contributory(u8 vector)
{
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

static bool makes_double_fault(enum event_kind kind, u8 first, u8 second)
{
    if (kind != EVENT_EXCEPTION)
        return false;
    if (first == VEC_PF)
        return second == VEC_PF || contributory(second);
    return contributory(first) && contributory(second);
}

void interp_deliver(struct interp *c, enum event_kind kind, u8 vector, u32 error)
{
    struct vcpu_state *s = c->state;
    jmp_buf *outer = c->unwind, unwind;
    /* What the first of several faults found; changed only between setjmp and longjmp by volatile stores. */
    volatile enum event_kind now_kind = kind;
    volatile u8 now_vector = vector;
    volatile u32 now_error = error;

    c->unwind = &unwind;
    if (setjmp(unwind)) {
        if (c->fault.vector == VEC_PF)
            s->cr2 = c->fault.address;
        if (now_kind == EVENT_EXCEPTION && now_vector == VEC_DF) {
            s->activity = VCPU_SHUTDOWN;
            c->unwind = outer;
            return;
        }
        if (makes_double_fault(now_kind, now_vector, c->fault.vector)) {
            now_vector = VEC_DF;
            now_error = 0;
        } else {
            now_vector = c->fault.vector;
            now_error = c->fault.error;
        }
        now_kind = EVENT_EXCEPTION;
    }
    c->cell = NULL;
    deliver_once(c, NULL, now_kind, now_vector, now_error, s->rip);
    c->unwind = outer;
}
