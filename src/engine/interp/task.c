/*
 * Hardware task switches (SDM 3A 8.3, table 8-1; in older editions 7.3, table 7-1).
 *
 * A switch has two halves. In the first everything that may fail in the old task is tried: the new TSS's descriptor and
 * limit, and access to both TSSs and to the GDT. Then the old state is saved, the new one is in the registers, and the switch
 * is committed. What is found wrong with the new task's segments after that is a fault of the new task, on its first
 * instruction. Such a fault belongs to no cell; switch_task keeps the books for the instructions before it.
 */
#include "engine/interp/task.h"

#include "engine/interp/debug.h"
#include "engine/interp/mem.h"
#include "engine/interp/segment.h"
#include "engine/interp/system.h"

/* Offsets in a TSS (SDM 3A figures 8-2 and 8-10). General and segment registers are in encoding order. */
struct tss_format {
    u8 limit; /* the least that a new task's TSS needs */
    u8 size;  /* of a field */
    u8 ip, flags, gpr, seg, ldt;
    u8 nseg; /* segment registers, as many as there are places for */
    u8 cr3;  /* 0: none */
    u8 trap; /* 0: none */
};
static const struct tss_format tss16 = {
    .limit = 0x2b, .size = 2, .ip = 0x0e, .flags = 0x10, .gpr = 0x12, .seg = 0x22, .ldt = 0x2a, .nseg = 4};
static const struct tss_format tss32 = {.limit = 0x67,
                                        .size = 4,
                                        .ip = 0x20,
                                        .flags = 0x24,
                                        .gpr = 0x28,
                                        .seg = 0x48,
                                        .ldt = 0x60,
                                        .nseg = 6,
                                        .cr3 = 0x1c,
                                        .trap = 0x64};
enum { TSS_LINK = 0, GPR_COUNT = 8 };

static const struct tss_format *tss_format(const struct seg *tss)
{
    return (tss->attr & SEG_TYPE & ~TYPE_BUSY) == DESC_TSS32 ? &tss32 : &tss16;
}

/* What a new task begins with. */
struct task_state {
    u32 ip, flags, gpr[GPR_COUNT], cr3;
    u16 selector[SEG_COUNT], ldt;
    bool trap;
};

/* ---- TSSs ---- */

static u64 tss_load(struct interp *c, const struct cell *i, const struct seg *tss, unsigned offset,
                    unsigned size)
{
    return interp_load_system(c, i, tss->base + offset, size);
}
static void tss_store(struct interp *c, const struct cell *i, const struct seg *tss, unsigned offset,
                      unsigned size, u64 value)
{
    interp_store_system(c, i, tss->base + offset, size, value);
}

/* The byte of the GDT with the busy bit of a TSS. */
static u64 busy_byte(const struct interp *c, u16 selector)
{
    return c->state->gdtr.base + (selector & ~7u) + 5;
}
static void set_busy(struct interp *c, const struct cell *i, u16 selector, bool busy)
{
    u64 at = busy_byte(c, selector), type = interp_load_system(c, i, at, 1);

    interp_store_system(c, i, at, 1, busy ? type | TYPE_BUSY : type & ~(u64)TYPE_BUSY);
}

/* The TSS to switch to, checked in the order of table 8-1: it is available, or for a return it is busy. */
static struct seg new_tss(struct interp *c, const struct cell *i, u16 selector, enum task_source source,
                          u32 ext)
{
    u8 vector = source == TASK_RETURN ? VEC_TS : VEC_GP;
    u32 error = selector_error(selector, ext);
    unsigned busy = source == TASK_RETURN ? TYPE_BUSY : 0, type;
    struct seg tss;

    if (selector & 4)
        interp_fault(c, i, vector, error);
    tss = seg_from_descriptor(interp_descriptor(c, i, selector, vector, ext), selector);
    type = tss.attr & (SEG_S | SEG_TYPE);
    if (type != (DESC_TSS16 | busy) && type != (DESC_TSS32 | busy))
        interp_fault(c, i, vector, error);
    if (!(tss.attr & SEG_P))
        interp_fault(c, i, VEC_NP, error);
    if (tss.limit < tss_format(&tss)->limit)
        interp_fault(c, i, VEC_TS, error);
    return tss;
}

static void save_state(struct interp *c, const struct cell *i, u64 rip, u64 flags)
{
    const struct vcpu_state *s = c->state;
    const struct seg *tss = &s->seg[SEG_TR];
    const struct tss_format *f = tss_format(tss);

    tss_store(c, i, tss, f->ip, f->size, rip);
    tss_store(c, i, tss, f->flags, f->size, flags);
    for (unsigned n = 0; n < GPR_COUNT; n++)
        tss_store(c, i, tss, f->gpr + n * f->size, f->size, s->gpr[n]);
    for (unsigned n = 0; n < f->nseg; n++)
        tss_store(c, i, tss, f->seg + n * f->size, 2, s->seg[n].selector);
}

/* Registers that a 16-bit TSS has no place for: the upper halves are modified (SDM 3A 8.6), and read as ones; FS and GS are
   null. */
static struct task_state load_state(struct interp *c, const struct cell *i, const struct seg *tss)
{
    const struct tss_format *f = tss_format(tss);
    u32 upper = f->size == 2 ? 0xffff0000u : 0;
    struct task_state t = {
        .ip = (u32)tss_load(c, i, tss, f->ip, f->size),
        .flags = (u32)tss_load(c, i, tss, f->flags, f->size),
        .ldt = (u16)tss_load(c, i, tss, f->ldt, 2),
        .trap = f->trap && (tss_load(c, i, tss, f->trap, 1) & 1),
    };

    for (unsigned n = 0; n < GPR_COUNT; n++)
        t.gpr[n] = (u32)tss_load(c, i, tss, f->gpr + n * f->size, f->size) | upper;
    for (unsigned n = 0; n < f->nseg; n++)
        t.selector[n] = (u16)tss_load(c, i, tss, f->seg + n * f->size, 2);
    if (f->cr3)
        t.cr3 = (u32)tss_load(c, i, tss, f->cr3, 4);
    return t;
}

/* ---- the new task's segments: faults are the new task's ---- */

static void load_ldtr(struct interp *c, u16 selector, u32 ext)
{
    struct seg *ldtr = &c->state->seg[SEG_LDTR];
    struct seg seg;

    *ldtr = (struct seg){.selector = selector, .attr = SEG_UNUSABLE};
    if (null_selector(selector))
        return;
    if (selector & 4)
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    seg = seg_from_descriptor(interp_descriptor(c, NULL, selector, VEC_TS, ext), selector);
    if ((seg.attr & (SEG_S | SEG_TYPE)) != DESC_LDT || !(seg.attr & SEG_P))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    *ldtr = seg;
}

/* The descriptor of a segment register's selector. */
static struct seg new_segment(struct interp *c, unsigned n, u64 *descriptor, u32 ext)
{
    u16 selector = c->state->seg[n].selector;

    *descriptor = interp_descriptor(c, NULL, selector, VEC_TS, ext);
    return seg_from_descriptor(*descriptor, selector);
}

static void accept_segment(struct interp *c, unsigned n, struct seg seg, u64 descriptor)
{
    interp_mark_accessed(c, NULL, seg.selector, descriptor);
    seg.attr |= SEG_ACCESSED;
    c->state->seg[n] = seg;
}

static void load_stack(struct interp *c, unsigned cpl, u32 ext)
{
    u16 selector = c->state->seg[SEG_SS].selector;
    struct seg seg;
    u64 d;

    if (null_selector(selector))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    seg = new_segment(c, SEG_SS, &d, ext);
    if (!is_writable_data(&seg))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    if (!(seg.attr & SEG_P))
        interp_fault(c, NULL, VEC_SS, selector_error(selector, ext));
    if (dpl_of(&seg) != cpl || (selector & 3u) != cpl)
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    accept_segment(c, SEG_SS, seg, d);
}

static void load_code(struct interp *c, unsigned cpl, u32 ext)
{
    u16 selector = c->state->seg[SEG_CS].selector;
    struct seg seg;
    u64 d;

    if (null_selector(selector))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    seg = new_segment(c, SEG_CS, &d, ext);
    if (!is_code(&seg) || (is_conforming(&seg) ? dpl_of(&seg) > cpl : dpl_of(&seg) != cpl))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    if (!(seg.attr & SEG_P))
        interp_fault(c, NULL, VEC_NP, selector_error(selector, ext));
    accept_segment(c, SEG_CS, seg, d);
}

static void load_data(struct interp *c, unsigned n, unsigned cpl, u32 ext)
{
    u16 selector = c->state->seg[n].selector;
    struct seg seg;
    u64 d;

    if (null_selector(selector))
        return;
    seg = new_segment(c, n, &d, ext);
    if (!(seg.attr & SEG_S) || (is_code(&seg) && !(seg.attr & SEG_WRITE)))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    if (!(seg.attr & SEG_P))
        interp_fault(c, NULL, VEC_NP, selector_error(selector, ext));
    if (!(is_code(&seg) && is_conforming(&seg)) && (cpl > dpl_of(&seg) || (selector & 3u) > dpl_of(&seg)))
        interp_fault(c, NULL, VEC_TS, selector_error(selector, ext));
    accept_segment(c, n, seg, d);
}

static void load_segments(struct interp *c, const struct task_state *t, u32 ext)
{
    static const u8 data[] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS};
    unsigned cpl = t->selector[SEG_CS] & 3;

    load_ldtr(c, t->ldt, ext);
    if (!(t->flags & FLAG_VM)) {
        load_stack(c, cpl, ext);
        load_code(c, cpl, ext);
        for (size_t n = 0; n < ARRAY_SIZE(data); n++)
            load_data(c, data[n], cpl, ext);
    }
}

/* Selectors without what they stand for, and the privilege level. */
static void set_selectors(struct interp *c, const struct task_state *t)
{
    struct vcpu_state *s = c->state;

    for (unsigned n = 0; n < SEG_COUNT; n++) {
        if (t->flags & FLAG_VM)
            interp_load_real(c, n, t->selector[n]);
        else
            s->seg[n] = (struct seg){.selector = t->selector[n], .attr = SEG_UNUSABLE};
    }
    if (!(t->flags & FLAG_VM))
        s->seg[SEG_SS].attr |= (u16)((t->selector[SEG_CS] & 3) << SEG_DPL_SHIFT);
}

/* ---- the switch ---- */

/* Everything that the switch touches in memory, before it changes anything. */
static void probe(struct interp *c, const struct cell *i, const struct seg *old, const struct seg *tss,
                  enum task_source source, bool nested)
{
    const struct tss_format *f = tss_format(old);
    unsigned saved = f->seg + (f->nseg - 1u) * f->size + 2u - f->ip;

    interp_probe_system(c, i, old->base + f->ip, saved, MEM_WRITE);
    interp_probe_system(c, i, tss->base, tss_format(tss)->limit + 1u, MEM_READ);
    if (nested)
        interp_probe_system(c, i, tss->base + TSS_LINK, 2, MEM_WRITE);
    else
        interp_probe_system(c, i, busy_byte(c, old->selector), 1, MEM_WRITE);
    if (source != TASK_RETURN)
        interp_probe_system(c, i, busy_byte(c, tss->selector), 1, MEM_WRITE);
}

static void switch_task(struct interp *c, const struct cell *i, struct seg tss, enum task_source source,
                        u64 rip, u64 flags, u32 ext, const u32 *error)
{
    struct vcpu_state *s = c->state;
    const struct seg old = s->seg[SEG_TR];
    const struct tss_format *f = tss_format(&tss);
    bool nested = source == TASK_CALL || source == TASK_EVENT, new_cr3;
    struct task_state t;
    u64 pdptr[4];

    if (old.limit < tss_format(&old)->ldt - 1u)
        interp_fault(c, i, VEC_TS, selector_error(old.selector, ext));
    probe(c, i, &old, &tss, source, nested);
    new_cr3 = f->cr3 && (s->cr0 & CR0_PG);
    if (new_cr3) {
        u32 cr3 = (u32)tss_load(c, i, &tss, f->cr3, 4);

        new_cr3 = cr3 != s->cr3;
        if (new_cr3 && (s->cr4 & CR4_PAE))
            interp_read_pdptrs(c, i, cr3, ext, pdptr);
    }

    if (!nested)
        set_busy(c, i, old.selector, false);
    save_state(c, i, rip, source == TASK_RETURN ? flags & ~(u64)FLAG_NT : flags);
    if (nested)
        tss_store(c, i, &tss, TSS_LINK, 2, old.selector);
    if (source != TASK_RETURN)
        set_busy(c, i, tss.selector, true);
    t = load_state(c, i, &tss);

    /* The switch is committed. */
    if (i)
        c->left -= i - c->block->cells;
    c->cell = NULL;
    tss.attr |= TYPE_BUSY;
    s->seg[SEG_TR] = tss;
    s->cr0 |= CR0_TS;
    s->dr[7] &= ~(u64)DR7_LOCAL;
    interp_debug_changed(c);
    if (new_cr3) {
        if (s->cr4 & CR4_PAE)
            memcpy(s->pdptr, pdptr, sizeof(pdptr));
        s->cr3 = t.cr3;
        interp_tlb_cr3(c, false);
    }
    for (unsigned n = 0; n < GPR_COUNT; n++)
        s->gpr[n] = t.gpr[n];
    s->rip = t.ip;
    interp_set_rflags(c, (t.flags & 0x3f7fd7) | (nested ? FLAG_NT : 0));
    set_selectors(c, &t);
    interp_mode_changed(c);

    load_segments(c, &t, ext);
    interp_mode_changed(c);
    if (error) {
        struct stack st = interp_stack(c);

        st.error = ext;
        stack_push(c, NULL, &st, f->size, *error);
        s->gpr[RSP] = st.sp;
    }
    interp_check_rip(c, NULL, &s->seg[SEG_CS], s->rip, ext);
    if (t.trap)
        s->pending_debug |= DR6_BT;
    if (i)
        c->left += i - c->block->cells;
}

bool interp_task_transfer(struct interp *c, const struct cell *i, u16 selector, u64 d,
                          enum task_source source)
{
    unsigned type = d >> 40 & 0x1f, dpl = d >> 45 & 3;
    u16 tss = selector;

    if ((c->state->efer & EFER_LMA) || (type != DESC_TASK_GATE && type != DESC_TSS16 && type != DESC_TSS32))
        return false;
    if (dpl < c->cpl || dpl < (selector & 3u))
        raise_gp(c, i, selector_error(selector, 0));
    if (type == DESC_TASK_GATE) {
        if (!(d >> 47 & 1))
            interp_fault(c, i, VEC_NP, selector_error(selector, 0));
        tss = (u16)(d >> 16);
    }
    switch_task(c, i, new_tss(c, i, tss, source, 0), source, cell_next_rip(c, i), interp_rflags(c), 0, NULL);
    return true;
}

void interp_task_return(struct interp *c, const struct cell *i)
{
    const struct seg *tr = &c->state->seg[SEG_TR];
    u16 link;

    if (tr->limit < TSS_LINK + 1)
        interp_fault(c, i, VEC_TS, selector_error(tr->selector, 0));
    link = (u16)tss_load(c, i, tr, TSS_LINK, 2);
    switch_task(c, i, new_tss(c, i, link, TASK_RETURN, 0), TASK_RETURN, cell_next_rip(c, i), interp_rflags(c),
                0, NULL);
}

void interp_task_event(struct interp *c, const struct cell *i, u16 selector, u64 rip, u64 flags, u32 ext,
                       const u32 *error)
{
    switch_task(c, i, new_tss(c, i, selector, TASK_EVENT, ext), TASK_EVENT, rip, flags, ext, error);
}
