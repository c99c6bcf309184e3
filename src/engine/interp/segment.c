/*
 * Segments, stacks and far transfers. Every function checks first and commits last, so that a fault leaves no trace.
 */
#include "engine/interp/segment.h"

#include "engine/interp/mem.h"
#include "engine/interp/system.h"
#include "engine/interp/task.h"

static bool real_or_v86(const struct interp *c)
{
    return c->mode & MODE_REAL;
}
static bool in_64bit(const struct interp *c)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64;
}

/* ---- descriptors (SDM 3A 3.4.5) ---- */

static bool descriptor_address(const struct interp *c, u16 selector, unsigned bytes, u64 *address)
{
    const struct vcpu_state *s = c->state;
    u64 base = s->gdtr.base;
    u32 limit = s->gdtr.limit;

    if (selector & 4) {
        if (s->seg[SEG_LDTR].attr & SEG_UNUSABLE)
            return false;
        base = s->seg[SEG_LDTR].base;
        limit = s->seg[SEG_LDTR].limit;
    }
    if ((u64)(selector & ~7u) + bytes - 1 > limit)
        return false;
    *address = base + (selector & ~7u);
    return true;
}

bool interp_find_descriptor(struct interp *c, const struct cell *i, u16 selector, u64 *descriptor)
{
    u64 address;

    if (!descriptor_address(c, selector, 8, &address))
        return false;
    *descriptor = interp_load_system(c, i, address, 8);
    return true;
}

u64 interp_descriptor(struct interp *c, const struct cell *i, u16 selector, u8 vector, u32 ext)
{
    u64 descriptor;

    if (!interp_find_descriptor(c, i, selector, &descriptor))
        interp_fault(c, i, vector, selector_error(selector, ext));
    return descriptor;
}

u64 interp_descriptor_high(struct interp *c, const struct cell *i, u16 selector, u8 vector, u32 ext)
{
    u64 address;

    if (!descriptor_address(c, selector, 16, &address))
        interp_fault(c, i, vector, selector_error(selector, ext));
    return interp_load_system(c, i, address + 8, 8);
}

struct seg seg_from_descriptor(u64 d, u16 selector)
{
    struct seg seg = {.selector = selector, .attr = (u16)(d >> 40 & 0xf0ff)};

    seg.base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
    seg.limit = (u32)((d & 0xffff) | (d >> 32 & 0xf0000));
    if (seg.attr & SEG_G)
        seg.limit = seg.limit << 12 | 0xfff;
    return seg;
}

void interp_mark_accessed(struct interp *c, const struct cell *i, u16 selector, u64 descriptor)
{
    u64 address;

    if (descriptor >> 40 & SEG_ACCESSED || !descriptor_address(c, selector, 8, &address))
        return;
    interp_store_system(c, i, address + 5, 1, (descriptor >> 40 & 0xff) | SEG_ACCESSED);
}

/* ---- loads ---- */

void interp_load_real(struct interp *c, unsigned n, u16 selector)
{
    struct seg *seg = &c->state->seg[n];

    seg->selector = selector;
    seg->base = (u64)selector << 4;
    if (c->state->rflags & FLAG_VM) {
        seg->limit = 0xffff;
        seg->attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITE | SEG_ACCESSED;
        return;
    }
    /* Real mode keeps the limit that protected mode left: "big real" mode. */
    if (seg->attr & SEG_UNUSABLE)
        seg->limit = 0xffff;
    seg->attr = (u16)((seg->attr & (SEG_DB | SEG_G)) | SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED);
}

static void load_ss(struct interp *c, const struct cell *i, u16 selector)
{
    struct vcpu_state *s = c->state;
    struct seg seg;
    u64 d;

    if (null_selector(selector)) {
        if (!in_64bit(c) || c->cpl == 3 || (selector & 3) != c->cpl)
            raise_gp(c, i, 0);
        s->seg[SEG_SS] =
            (struct seg){.selector = selector, .attr = (u16)(SEG_UNUSABLE | c->cpl << SEG_DPL_SHIFT)};
        return;
    }
    d = interp_descriptor(c, i, selector, VEC_GP, 0);
    seg = seg_from_descriptor(d, selector);
    if ((selector & 3) != c->cpl || !is_writable_data(&seg) || dpl_of(&seg) != c->cpl)
        raise_gp(c, i, selector_error(selector, 0));
    if (!(seg.attr & SEG_P))
        interp_fault(c, i, VEC_SS, selector_error(selector, 0));
    interp_mark_accessed(c, i, selector, d);
    seg.attr |= SEG_ACCESSED;
    s->seg[SEG_SS] = seg;
}

void interp_load_segment(struct interp *c, const struct cell *i, unsigned n, u16 selector)
{
    struct vcpu_state *s = c->state;
    struct seg seg;
    u64 d;

    if (real_or_v86(c)) {
        interp_load_real(c, n, selector);
    } else if (n == SEG_SS) {
        load_ss(c, i, selector);
    } else if (null_selector(selector)) {
        s->seg[n].selector = selector;
        s->seg[n].attr = SEG_UNUSABLE;
        s->seg[n].base = 0; /* on AMD's too: CPUID 80000021h says so */
        s->seg[n].limit = 0;
    } else {
        d = interp_descriptor(c, i, selector, VEC_GP, 0);
        seg = seg_from_descriptor(d, selector);
        if (!(seg.attr & SEG_S) || (is_code(&seg) && !(seg.attr & SEG_WRITE)))
            raise_gp(c, i, selector_error(selector, 0));
        if (!(is_code(&seg) && is_conforming(&seg)) &&
            ((selector & 3u) > dpl_of(&seg) || c->cpl > dpl_of(&seg)))
            raise_gp(c, i, selector_error(selector, 0));
        if (!(seg.attr & SEG_P))
            interp_fault(c, i, VEC_NP, selector_error(selector, 0));
        interp_mark_accessed(c, i, selector, d);
        seg.attr |= SEG_ACCESSED;
        s->seg[n] = seg;
    }
    interp_mode_changed(c);
}

/* Base of a 16-byte system descriptor; its upper type field must be 0. */
static void system_base_high(struct interp *c, const struct cell *i, u16 selector, struct seg *seg)
{
    u64 high = interp_descriptor_high(c, i, selector, VEC_GP, 0);

    if (high >> 40 & 0x1f)
        raise_gp(c, i, selector_error(selector, 0));
    seg->base |= high << 32;
    if (!interp_canonical_base(c, seg->base))
        raise_gp(c, i, selector_error(selector, 0));
}

void interp_load_ldtr(struct interp *c, const struct cell *i, u16 selector)
{
    struct vcpu_state *s = c->state;
    struct seg seg;

    if (null_selector(selector)) {
        s->seg[SEG_LDTR].selector = selector;
        s->seg[SEG_LDTR].attr = SEG_UNUSABLE;
        return;
    }
    if (selector & 4)
        raise_gp(c, i, selector_error(selector, 0));
    seg = seg_from_descriptor(interp_descriptor(c, i, selector, VEC_GP, 0), selector);
    if ((seg.attr & (SEG_S | SEG_TYPE)) != DESC_LDT)
        raise_gp(c, i, selector_error(selector, 0));
    if (!(seg.attr & SEG_P))
        interp_fault(c, i, VEC_NP, selector_error(selector, 0));
    if (s->efer & EFER_LMA)
        system_base_high(c, i, selector, &seg);
    s->seg[SEG_LDTR] = seg;
}

void interp_load_tr(struct interp *c, const struct cell *i, u16 selector)
{
    struct vcpu_state *s = c->state;
    struct seg seg;
    u64 d, address = 0;
    unsigned type;

    if (null_selector(selector))
        raise_gp(c, i, 0);
    if (selector & 4)
        raise_gp(c, i, selector_error(selector, 0));
    d = interp_descriptor(c, i, selector, VEC_GP, 0);
    seg = seg_from_descriptor(d, selector);
    type = seg.attr & (SEG_S | SEG_TYPE);
    if (type != DESC_TSS32 && (type != DESC_TSS16 || (s->efer & EFER_LMA)))
        raise_gp(c, i, selector_error(selector, 0));
    if (!(seg.attr & SEG_P))
        interp_fault(c, i, VEC_NP, selector_error(selector, 0));
    if (s->efer & EFER_LMA)
        system_base_high(c, i, selector, &seg);
    descriptor_address(c, selector, 8, &address);
    interp_store_system(c, i, address + 5, 1, (d >> 40 & 0xff) | TYPE_BUSY);
    seg.attr |= TYPE_BUSY;
    s->seg[SEG_TR] = seg;
}

/* ---- stacks ---- */

struct stack interp_stack(const struct interp *c)
{
    const struct vcpu_state *s = c->state;

    return (struct stack){.seg = s->seg[SEG_SS], .sp = s->gpr[RSP], .cpl = c->cpl, .flat64 = in_64bit(c)};
}

static u64 stack_mask(const struct stack *st)
{
    return st->flat64 ? UINT64_MAX : st->seg.attr & SEG_DB ? 0xffffffffu : 0xffffu;
}

void stack_skip(struct stack *st, u64 bytes)
{
    u64 mask = stack_mask(st);

    st->sp = mask == 0xffff ? (st->sp & ~mask) | ((st->sp + bytes) & mask) : (st->sp + bytes) & mask;
}

/* The current stack at CPL 3 is checked for alignment. */
static u64 stack_aligned(struct interp *c, const struct cell *i, const struct stack *st, u64 lin,
                         unsigned size)
{
    if (unlikely(c->tlb == c->tlbs[TLB_CHECKED]) && st->cpl == c->cpl && lin & (size - 1))
        interp_fault(c, i, VEC_AC, st->error);
    return lin;
}

static u64 stack_linear(struct interp *c, const struct cell *i, const struct stack *st, unsigned size)
{
    u64 offset = st->sp & stack_mask(st), last = offset + size - 1;
    bool ok;

    if (st->flat64) {
        if (!interp_canonical(c, offset) || !interp_canonical(c, last))
            interp_fault(c, i, VEC_SS, st->error);
        return stack_aligned(c, i, st, offset, size);
    }
    if ((st->seg.attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        ok = offset > st->seg.limit && last <= (st->seg.attr & SEG_DB ? 0xffffffffu : 0xffffu);
    else
        ok = last <= st->seg.limit || st->seg.limit == 0xffffffffu;
    if (!ok || (st->seg.attr & SEG_UNUSABLE && !real_or_v86(c)))
        interp_fault(c, i, VEC_SS, st->error);
    return stack_aligned(c, i, st, (u32)(st->seg.base + offset), size);
}

void stack_push(struct interp *c, const struct cell *i, struct stack *st, unsigned size, u64 value)
{
    stack_skip(st, -(u64)size);
    interp_store_as(c, i, st->cpl, stack_linear(c, i, st, size), size, value);
}

void stack_probe(struct interp *c, const struct cell *i, const struct stack *st, unsigned size)
{
    interp_probe(c, i, stack_linear(c, i, st, size), size, MEM_WRITE);
}

u64 stack_pop(struct interp *c, const struct cell *i, struct stack *st, unsigned size)
{
    u64 value = interp_load_as(c, i, st->cpl, stack_linear(c, i, st, size), size);

    stack_skip(st, size);
    return value;
}

/* SDM 3A 7.2.1, 7.7; faults per the tables of CALL and INT n. */
struct stack interp_tss_stack(struct interp *c, const struct cell *i, unsigned cpl, unsigned ist, u32 ext)
{
    const struct vcpu_state *s = c->state;
    const struct seg *tr = &s->seg[SEG_TR];
    u32 tss_error = selector_error(tr->selector, ext);
    struct stack st = {.cpl = (u8)cpl, .error = ext};
    bool tss32 = (tr->attr & SEG_TYPE & ~TYPE_BUSY) == DESC_TSS32;
    u32 offset;
    u16 selector;
    u64 d;

    if (s->efer & EFER_LMA) {
        offset = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;
        if ((u64)offset + 7 > tr->limit)
            interp_fault(c, i, VEC_TS, tss_error);
        st.sp = interp_load_system(c, i, tr->base + offset, 8);
        st.flat64 = true;
        st.seg = (struct seg){.selector = (u16)cpl, .attr = (u16)(SEG_UNUSABLE | cpl << SEG_DPL_SHIFT)};
        if (!interp_canonical(c, st.sp))
            interp_fault(c, i, VEC_SS, ext);
        return st;
    }
    offset = tss32 ? 4 + 8 * cpl : 2 + 4 * cpl;
    if ((u64)offset + (tss32 ? 5 : 3) > tr->limit)
        interp_fault(c, i, VEC_TS, tss_error);
    st.sp = interp_load_system(c, i, tr->base + offset, tss32 ? 4 : 2);
    selector = (u16)interp_load_system(c, i, tr->base + offset + (tss32 ? 4 : 2), 2);
    if (null_selector(selector))
        interp_fault(c, i, VEC_TS, ext);
    d = interp_descriptor(c, i, selector, VEC_TS, ext);
    st.seg = seg_from_descriptor(d, selector);
    if ((selector & 3u) != cpl || dpl_of(&st.seg) != cpl || !is_writable_data(&st.seg))
        interp_fault(c, i, VEC_TS, selector_error(selector, ext));
    if (!(st.seg.attr & SEG_P))
        interp_fault(c, i, VEC_SS, selector_error(selector, ext));
    interp_mark_accessed(c, i, selector, d);
    st.seg.attr |= SEG_ACCESSED;
    st.error = selector_error(selector, ext);
    return st;
}

/* ---- commits ---- */

void interp_check_rip(struct interp *c, const struct cell *i, const struct seg *cs, u64 rip, u32 ext)
{
    if ((c->state->efer & EFER_LMA) && (cs->attr & SEG_L)) {
        if (!interp_canonical(c, rip))
            raise_gp(c, i, ext);
    } else if (rip > cs->limit) {
        raise_gp(c, i, ext);
    }
}

void interp_commit_cs(struct interp *c, const struct cell *i, struct seg seg, unsigned cpl, u64 rip)
{
    seg.selector = (u16)((seg.selector & ~3u) | cpl);
    seg.attr |= SEG_ACCESSED;
    c->state->seg[SEG_CS] = seg;
    c->state->rip = rip;
}

void interp_commit_stack(struct interp *c, const struct stack *st)
{
    c->state->seg[SEG_SS] = st->seg;
    c->state->gpr[RSP] = st->sp;
}

/* ---- far transfers ---- */

/* A code segment as the target of JMP and CALL without a gate, or of a gate to the same level (SDM 3A 5.8.1). */
static void check_code_direct(struct interp *c, const struct cell *i, const struct seg *cs, u16 selector,
                              bool rpl_counts)
{
    if (is_conforming(cs) ? dpl_of(cs) > c->cpl
                          : (rpl_counts && (selector & 3u) > c->cpl) || dpl_of(cs) != c->cpl)
        raise_gp(c, i, selector_error(selector, 0));
}

static void check_code_present(struct interp *c, const struct cell *i, const struct seg *cs, u16 selector)
{
    if ((c->state->efer & EFER_LMA) && (cs->attr & SEG_L) && (cs->attr & SEG_DB))
        raise_gp(c, i, selector_error(selector, 0));
    if (!(cs->attr & SEG_P))
        interp_fault(c, i, VEC_NP, selector_error(selector, 0));
}

struct call_gate {
    u16 selector;
    u64 offset;
    unsigned size;  /* of its pushes: 2, 4 or 8 */
    unsigned count; /* parameters to copy */
};

/* Read the call gate that `selector` names, checked for use (SDM 3A 5.8.3, 5.8.4). */
static struct call_gate read_call_gate(struct interp *c, const struct cell *i, u16 selector, u64 d)
{
    struct call_gate g = {.selector = (u16)(d >> 16)};
    unsigned type = d >> 40 & 0x1f, dpl = d >> 45 & 3;
    bool lma = c->state->efer & EFER_LMA;

    if (type != DESC_CALL32 && (type != DESC_CALL16 || lma))
        raise_gp(c, i, selector_error(selector, 0));
    if (dpl < c->cpl || dpl < (selector & 3u))
        raise_gp(c, i, selector_error(selector, 0));
    if (lma) {
        u64 high = interp_descriptor_high(c, i, selector, VEC_GP, 0);

        if (high >> 40 & 0x1f)
            raise_gp(c, i, selector_error(selector, 0));
        g.offset = high << 32;
    }
    if (!(d >> 47 & 1))
        interp_fault(c, i, VEC_NP, selector_error(selector, 0));
    g.size = lma ? 8 : type == DESC_CALL32 ? 4 : 2;
    g.offset |= (d & 0xffff) | (type == DESC_CALL16 ? 0 : d >> 48 << 16);
    g.count = lma ? 0 : d >> 32 & 0x1f;
    if (null_selector(g.selector))
        raise_gp(c, i, 0);
    return g;
}

/* The code segment behind a gate. */
static struct seg gate_code(struct interp *c, const struct cell *i, const struct call_gate *g,
                            u64 *descriptor)
{
    struct seg cs;

    *descriptor = interp_descriptor(c, i, g->selector, VEC_GP, 0);
    cs = seg_from_descriptor(*descriptor, g->selector);
    if (!is_code(&cs) || dpl_of(&cs) > c->cpl)
        raise_gp(c, i, selector_error(g->selector, 0));
    if ((c->state->efer & EFER_LMA) && (cs.attr & (SEG_L | SEG_DB)) != SEG_L)
        raise_gp(c, i, selector_error(g->selector, 0));
    return cs;
}

static void jump_real(struct interp *c, const struct cell *i, u16 selector, u64 offset)
{
    if (offset > c->state->seg[SEG_CS].limit)
        raise_gp(c, i, 0);
    interp_load_real(c, SEG_CS, selector);
    c->state->rip = offset;
    interp_mode_changed(c);
}

void interp_far_jump(struct interp *c, const struct cell *i, u16 selector, u64 offset)
{
    struct seg cs;
    u64 d;

    if (real_or_v86(c)) {
        jump_real(c, i, selector, offset);
        return;
    }
    if (null_selector(selector))
        raise_gp(c, i, 0);
    d = interp_descriptor(c, i, selector, VEC_GP, 0);
    cs = seg_from_descriptor(d, selector);
    if (cs.attr & SEG_S) {
        if (!is_code(&cs))
            raise_gp(c, i, selector_error(selector, 0));
        check_code_direct(c, i, &cs, selector, true);
    } else if (interp_task_transfer(c, i, selector, d, TASK_JUMP)) {
        return;
    } else {
        struct call_gate g = read_call_gate(c, i, selector, d);

        cs = gate_code(c, i, &g, &d);
        selector = g.selector;
        offset = g.offset;
        check_code_direct(c, i, &cs, selector, false);
    }
    check_code_present(c, i, &cs, selector);
    interp_check_rip(c, i, &cs, offset, 0);
    interp_mark_accessed(c, i, selector, d);
    interp_commit_cs(c, i, cs, c->cpl, offset);
    interp_mode_changed(c);
}

static void call_gate(struct interp *c, const struct cell *i, u16 gate_selector, u64 d)
{
    struct vcpu_state *s = c->state;
    struct call_gate g = read_call_gate(c, i, gate_selector, d);
    struct seg cs = gate_code(c, i, &g, &d);
    struct stack st = interp_stack(c), old = st;
    unsigned cpl = c->cpl;
    u64 parameters[31];

    check_code_present(c, i, &cs, g.selector);
    if (!is_conforming(&cs) && dpl_of(&cs) < c->cpl) {
        cpl = dpl_of(&cs);
        st = interp_tss_stack(c, i, cpl, 0, 0);
        for (unsigned n = 0; n < g.count; n++)
            parameters[n] = stack_pop(c, i, &old, g.size);
        stack_push(c, i, &st, g.size, s->seg[SEG_SS].selector);
        stack_push(c, i, &st, g.size, s->gpr[RSP]);
        for (unsigned n = g.count; n--;)
            stack_push(c, i, &st, g.size, parameters[n]);
    } else if (s->efer & EFER_LMA) {
        st.flat64 = true; /* a 64-bit gate pushes 8 bytes each whatever the caller's mode */
    }
    stack_push(c, i, &st, g.size, s->seg[SEG_CS].selector);
    stack_push(c, i, &st, g.size, cell_next_rip(c, i));
    interp_check_rip(c, i, &cs, g.offset, 0);
    interp_mark_accessed(c, i, g.selector, d);
    interp_commit_stack(c, &st);
    interp_commit_cs(c, i, cs, cpl, g.offset);
}

void interp_far_call(struct interp *c, const struct cell *i, u16 selector, u64 offset, unsigned size)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    struct seg cs;
    u64 d;

    if (real_or_v86(c)) {
        stack_push(c, i, &st, size, s->seg[SEG_CS].selector);
        stack_push(c, i, &st, size, cell_next_rip(c, i));
        if (offset > s->seg[SEG_CS].limit)
            raise_gp(c, i, 0);
        s->gpr[RSP] = st.sp;
        jump_real(c, i, selector, offset);
        return;
    }
    if (null_selector(selector))
        raise_gp(c, i, 0);
    d = interp_descriptor(c, i, selector, VEC_GP, 0);
    cs = seg_from_descriptor(d, selector);
    if (!(cs.attr & SEG_S)) {
        if (!interp_task_transfer(c, i, selector, d, TASK_CALL))
            call_gate(c, i, selector, d);
        interp_mode_changed(c);
        return;
    }
    if (!is_code(&cs))
        raise_gp(c, i, selector_error(selector, 0));
    check_code_direct(c, i, &cs, selector, true);
    check_code_present(c, i, &cs, selector);
    stack_push(c, i, &st, size, s->seg[SEG_CS].selector);
    stack_push(c, i, &st, size, cell_next_rip(c, i));
    interp_check_rip(c, i, &cs, offset, 0);
    interp_mark_accessed(c, i, selector, d);
    s->gpr[RSP] = st.sp;
    interp_commit_cs(c, i, cs, c->cpl, offset);
    interp_mode_changed(c);
}

/*
 * After a return to an outer level: data segments that the new level may not use become null. So does the selector of what
 * is null already and has an RPL: hidden DPL 0 counts as an inner segment's. The base stays, which 64-bit code may use.
 */
static void drop_inner_segments(struct interp *c, unsigned cpl)
{
    static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (size_t n = 0; n < ARRAY_SIZE(data); n++) {
        struct seg *seg = &c->state->seg[data[n]];

        if (seg->attr & SEG_UNUSABLE || (dpl_of(seg) < cpl && !(is_code(seg) && is_conforming(seg)))) {
            seg->selector = 0;
            seg->attr = SEG_UNUSABLE;
        }
    }
}

/* The code segment that RET and IRET return to. */
static struct seg return_code(struct interp *c, const struct cell *i, u16 selector, u64 *descriptor)
{
    unsigned rpl = selector & 3;
    struct seg cs;

    if (null_selector(selector))
        raise_gp(c, i, 0);
    *descriptor = interp_descriptor(c, i, selector, VEC_GP, 0);
    cs = seg_from_descriptor(*descriptor, selector);
    if (!is_code(&cs) || rpl < c->cpl || (is_conforming(&cs) ? dpl_of(&cs) > rpl : dpl_of(&cs) != rpl))
        raise_gp(c, i, selector_error(selector, 0));
    check_code_present(c, i, &cs, selector);
    return cs;
}

/* The stack segment that RET and IRET return to at level `cpl`; `cs` is the code segment they return to. */
static struct seg return_stack(struct interp *c, const struct cell *i, u16 selector, unsigned cpl,
                               const struct seg *cs)
{
    struct seg ss;
    u64 d;

    if (null_selector(selector)) {
        if (!(c->state->efer & EFER_LMA) || !(cs->attr & SEG_L) || cpl == 3 || (selector & 3u) != cpl)
            raise_gp(c, i, 0);
        return (struct seg){.selector = selector, .attr = (u16)(SEG_UNUSABLE | cpl << SEG_DPL_SHIFT)};
    }
    d = interp_descriptor(c, i, selector, VEC_GP, 0);
    ss = seg_from_descriptor(d, selector);
    if ((selector & 3u) != cpl || !is_writable_data(&ss) || dpl_of(&ss) != cpl)
        raise_gp(c, i, selector_error(selector, 0));
    if (!(ss.attr & SEG_P))
        interp_fault(c, i, VEC_SS, selector_error(selector, 0));
    interp_mark_accessed(c, i, selector, d);
    ss.attr |= SEG_ACCESSED;
    return ss;
}

/* RSP after a return to the stack `outer` with `sp` popped for it: of a 16-bit stack SP alone is loaded, and what is above it
   stays; but bits 32 to 63 only on AMD's processors. */
static u64 return_sp(const struct interp *c, const struct stack *outer, u64 sp)
{
    u64 old = c->state->gpr[RSP];

    if (outer->flat64 || (outer->seg.attr & SEG_DB))
        return sp;
    return ((c->amd ? old : (u32)old) & ~0xffffull) | (sp & 0xffff);
}

void interp_far_return(struct interp *c, const struct cell *i, unsigned size, u16 pop_bytes)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    u64 rip = stack_pop(c, i, &st, size), d;
    u16 selector = (u16)stack_pop(c, i, &st, size);
    unsigned cpl = selector & 3;
    struct seg cs;

    if (real_or_v86(c)) {
        if (rip > s->seg[SEG_CS].limit)
            raise_gp(c, i, 0);
        stack_skip(&st, pop_bytes);
        s->gpr[RSP] = st.sp;
        jump_real(c, i, selector, rip);
        return;
    }
    cs = return_code(c, i, selector, &d);
    stack_skip(&st, pop_bytes);
    if (cpl == c->cpl) {
        interp_check_rip(c, i, &cs, rip, 0);
        s->gpr[RSP] = st.sp;
    } else {
        u64 sp = stack_pop(c, i, &st, size);
        struct seg ss = return_stack(c, i, (u16)stack_pop(c, i, &st, size), cpl, &cs);
        struct stack outer = {.seg = ss, .sp = sp, .flat64 = cs.attr & SEG_L && (s->efer & EFER_LMA)};

        interp_check_rip(c, i, &cs, rip, 0);
        outer.sp = return_sp(c, &outer, sp);
        stack_skip(&outer, pop_bytes);
        interp_commit_stack(c, &outer);
        drop_inner_segments(c, cpl);
    }
    interp_mark_accessed(c, i, selector, d);
    interp_commit_cs(c, i, cs, cpl, rip);
    interp_mode_changed(c);
}

/* The flags that IRET may change at its privilege (SDM 2, IRET). */
static u64 iret_flags(const struct interp *c, u64 old, u64 image, unsigned size)
{
    u64 mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    unsigned iopl = old >> 12 & 3;

    if (size > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (c->cpl <= iopl)
        mask |= FLAG_IF;
    if (c->cpl == 0) {
        mask |= FLAG_IOPL;
        if (size > 2)
            mask |= FLAG_VIF | FLAG_VIP;
    }
    return (old & ~mask) | (image & mask);
}

static void iret_real(struct interp *c, const struct cell *i, unsigned size)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    u64 rip, image, old = interp_rflags(c), mask;
    bool virtual_if = interp_virtual_if(c, i, size);
    u16 selector;

    s->nmi_masked = false;
    rip = stack_pop(c, i, &st, size);
    selector = (u16)stack_pop(c, i, &st, size);
    image = stack_pop(c, i, &st, size);
    if (rip > s->seg[SEG_CS].limit)
        raise_gp(c, i, 0);
    mask = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT;
    if (!(s->rflags & FLAG_VM))
        mask |= FLAG_IOPL;
    if (size == 4)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    interp_set_rflags(c, virtual_if ? interp_virtual_flags(c, i, image) : (old & ~mask) | (image & mask));
    s->gpr[RSP] = st.sp;
    interp_load_real(c, SEG_CS, selector);
    s->rip = rip;
    interp_mode_changed(c);
}

/* From level 0 to virtual-8086 mode. */
static void iret_to_v86(struct interp *c, const struct cell *i, struct stack *st, u64 rip, u16 cs, u64 image)
{
    static const u8 order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct vcpu_state *s = c->state;
    u64 sp = stack_pop(c, i, st, 4);
    u16 ss = (u16)stack_pop(c, i, st, 4), selectors[ARRAY_SIZE(order)];

    for (size_t n = 0; n < ARRAY_SIZE(order); n++)
        selectors[n] = (u16)stack_pop(c, i, st, 4);
    if ((u16)rip != rip)
        raise_gp(c, i, 0);
    interp_set_rflags(c, (image & 0x3f7fd7) | FLAG_VM);
    interp_load_real(c, SEG_CS, cs);
    interp_load_real(c, SEG_SS, ss);
    for (size_t n = 0; n < ARRAY_SIZE(order); n++)
        interp_load_real(c, order[n], selectors[n]);
    s->gpr[RSP] = sp;
    s->rip = rip;
    interp_mode_changed(c);
}

/* NMIs are let in again even if IRET then faults (SDM 3C, "NMI unblocking due to IRET"). */
void interp_iret(struct interp *c, const struct cell *i, unsigned size)
{
    struct vcpu_state *s = c->state;
    struct stack st = interp_stack(c);
    u64 rip, image, old = interp_rflags(c), d;
    bool lma = s->efer & EFER_LMA;
    struct seg cs;
    unsigned cpl;
    u16 selector;

    if (real_or_v86(c)) {
        iret_real(c, i, size);
        return;
    }
    s->nmi_masked = false;
    if (s->rflags & FLAG_NT) {
        if (lma)
            raise_gp(c, i, 0);
        interp_task_return(c, i);
        return;
    }
    rip = stack_pop(c, i, &st, size);
    selector = (u16)stack_pop(c, i, &st, size);
    image = stack_pop(c, i, &st, size);
    if (!lma && size == 4 && (image & FLAG_VM) && c->cpl == 0) {
        iret_to_v86(c, i, &st, rip, selector, image);
        return;
    }
    cs = return_code(c, i, selector, &d);
    cpl = selector & 3;
    if (cpl == c->cpl && !in_64bit(c)) {
        interp_check_rip(c, i, &cs, rip, 0);
        s->gpr[RSP] = st.sp;
    } else {
        u64 sp = stack_pop(c, i, &st, size);
        struct seg ss = return_stack(c, i, (u16)stack_pop(c, i, &st, size), cpl, &cs);
        struct stack outer = {.seg = ss, .sp = sp, .flat64 = lma && (cs.attr & SEG_L)};

        interp_check_rip(c, i, &cs, rip, 0);
        outer.sp = return_sp(c, &outer, sp);
        interp_commit_stack(c, &outer);
        if (cpl != c->cpl)
            drop_inner_segments(c, cpl);
    }
    interp_mark_accessed(c, i, selector, d);
    interp_commit_cs(c, i, cs, cpl, rip);
    interp_set_rflags(c, iret_flags(c, old, image, size));
    interp_segments_changed(c);
}
