/*
 * Memory operands.
 *
 * A linear address is looked up in the small TLB of jit.h, for 8 host instructions; what comes out is the delta to the host's
 * address of the page, in R15, and the host instruction has the guest's own operand with R15 added. Translations belong to a
 * mode, so the rights and with them the place of the TLB are constants.
 *
 * 32-bit code has its addresses computed twice, by LEA with 32 bits: before the look-up, and as the operand. FS and GS are
 * checked to be as flat as the others, but for their base.
 *
 * In 64-bit code accesses of a block off one general register share a check: the first one looks ahead, checks the bytes from the lowest to
 * the highest of them at once, and keeps the delta in jit_vcpu.checked; the others only load it. Constants that are added to
 * the register in between (PUSH and POP, too) move its `shift`, not the bytes. A block in which such a check keeps failing
 * because it crosses a page is translated again with every access for itself (tier_apart).
 */
#include "engine/jit/translate.h"

/* No check covers more: structures that cross a page would pay too often. */
enum { MAX_SPAN = 256 };
/* Displacements beyond are not compared with others. */
enum { FAR = 1 << 30 };

static struct address operand_address(const struct translation *t)
{
    const struct x86_insn *insn = &t->insn;
    struct address a = {insn->base, insn->index, insn->scale, insn->segment, insn->disp};

    if (a.base == X86_RIP_REG || (a.base == X86_NO_REG && a.index == X86_NO_REG)) {
        a.base = X86_NO_REG;
        a.disp = t->b->cells[t->cell].disp;
        if (jit_code32(t))
            a.disp = (u32)a.disp;
    }
    return a;
}

static bool has_segment(const struct address *a)
{
    return a->seg == SEG_FS || a->seg == SEG_GS;
}
static bool is_constant(const struct address *a)
{
    return a->base == X86_NO_REG && a->index == X86_NO_REG;
}
static bool is_based(const struct translation *t, const struct address *a)
{
    return !jit_code32(t) && a->base != X86_NO_REG && a->index == X86_NO_REG && !has_segment(a);
}

void jit_effective_address(struct translation *t, unsigned to, bool w)
{
    struct address a = operand_address(t);
    unsigned base = NO_BASE, index = NO_INDEX;

    if (is_constant(&a)) {
        e_mov_imm(&t->e, to, w ? (u64)a.disp : (u32)a.disp);
        return;
    }
    if (a.base != X86_NO_REG)
        base = jit_get_guest(t, a.base, JIT_T0);
    if (a.index != X86_NO_REG)
        index = jit_get_guest(t, a.index, JIT_T1);
    if (index == NO_INDEX && !a.disp && w)
        e_mov_rr(&t->e, to, base);
    else
        e_lea(&t->e, w, to, (struct operand){OPERAND_MEM, (u8)base, (u8)index, a.scale, (i32)a.disp});
}

/* The linear address to RAX. Flags are clobbered, R15 is not. */
static void linear_address(struct translation *t, const struct address *a)
{
    struct emit *e = &t->e;
    unsigned base = NO_BASE, index = NO_INDEX;
    i32 disp = (i32)a->disp;

    if (is_constant(a)) {
        e_mov_imm(e, JIT_T0, (u64)a->disp);
    } else if (a->base != X86_NO_REG && a->index != X86_NO_REG && in_memory(a->base) && in_memory(a->index)) {
        index = jit_get_guest(t, a->index, JIT_T0);
        e_lea(e, true, JIT_T0, (struct operand){OPERAND_MEM, NO_BASE, (u8)index, a->scale, disp});
        e_alu(e, true, ALU_ADD, JIT_T0, jit_memory_register(a->base));
    } else {
        if (a->base != X86_NO_REG)
            base = jit_get_guest(t, a->base, JIT_T0);
        if (a->index != X86_NO_REG)
            index = jit_get_guest(t, a->index, JIT_T0);
        if (index == NO_INDEX && !disp && !jit_code32(t))
            e_mov_rr(e, JIT_T0, base);
        else
            e_lea(e, !jit_code32(t), JIT_T0,
                  (struct operand){OPERAND_MEM, (u8)base, (u8)index, a->scale, disp});
    }
    if (has_segment(a) && jit_code32(t))
        e_alu(e, false, ALU_ADD, JIT_T0, VCPU(segment_base));
    else if (has_segment(a))
        e_alu(e, true, ALU_ADD, JIT_T0, op_gs(offsetof(struct jit_vcpu, interp.seg_base) + a->seg * 8));
}

size_t jit_tlb_of(const struct translation *t, bool write)
{
    u32 mode = t->b->mode;
    unsigned rights = mode & MODE_USER ? TLB_USER : mode & MODE_AC ? TLB_SUPER_AC : TLB_SUPER;

    return offsetof(struct jit_vcpu, tlb) + (rights * 2 + write) * sizeof(struct jit_tlb);
}

u8 *jit_look_up(struct translation *t, unsigned size, bool write)
{
    struct emit *e = &t->e;
    size_t tlb = jit_tlb_of(t, write);
    u8 *place;

    e_rorx_or_shr(e, t->j->code->bmi2, JIT_T1, JIT_T0, PAGE_SHIFT);
    emit_modrm(e, NULL, 0, true, false, (const u8[]){0x0f, 0xb6}, 2, JIT_T1, op_reg(JIT_T1)); /* MOVZX */
    e_alu(e, true, ALU_SUB, JIT_T0, op_gs_index(JIT_T1, 3, tlb + offsetof(struct jit_tlb, tag)));
    e_alu_imm(e, true, ALU_CMP, op_reg(JIT_T0), (i32)(PAGE_SIZE - size));
    place = e_jcc(e, CC_A);
    e_mov(e, JIT_T1, op_gs_index(JIT_T1, 3, tlb + offsetof(struct jit_tlb, delta)));
    return place;
}

/* The same with the way on behind the block; the bytes are read or written (`write`), maybe later (`writes`: by this
   instruction). */
static void look_up(struct translation *t, unsigned size, bool write, bool writes, bool apart)
{
    u8 *place = jit_look_up(t, size, write);

    jit_add_fix(t, write ? FIX_WRITE : FIX_READ, place,
                (struct fix){.size = (u16)size,
                             .writes = writes,
                             .masked = t->form->masked,
                             .apart = apart,
                             .resume = t->e.p});
}

/* The same by the stack's entry. */
static void look_up_stack(struct translation *t, unsigned size, bool write, bool writes, bool apart)
{
    struct emit *e = &t->e;
    size_t tlb = jit_tlb_of(t, write);
    u8 *place;

    e_alu(e, true, ALU_SUB, JIT_T0, op_gs(tlb + offsetof(struct jit_tlb, tag) + JIT_TLB_STACK * 8));
    e_alu_imm(e, true, ALU_CMP, op_reg(JIT_T0), (i32)(PAGE_SIZE - size));
    place = e_jcc(e, CC_A);
    e_mov(e, JIT_T1, op_gs(tlb + offsetof(struct jit_tlb, delta) + JIT_TLB_STACK * 8));
    jit_add_fix(t, write ? FIX_WRITE : FIX_READ, place,
                (struct fix){.size = (u16)size,
                             .stack = true,
                             .writes = writes,
                             .masked = t->form->masked,
                             .apart = apart,
                             .resume = e->p});
}

/* The same for an address that is known; RAX is its page. */
static void look_up_constant(struct translation *t, u64 lin, unsigned size, bool write)
{
    struct emit *e = &t->e;
    size_t tlb = jit_tlb_of(t, write), slot = jit_page_slot(lin) * 8;
    u64 page = lin & PAGE_MASK;
    u8 *place;

    if (lin - page + size > PAGE_SIZE) {
        t->unfit = true;
        return;
    }
    e_mov_imm(e, JIT_T0, page);
    e_alu(e, true, ALU_CMP, JIT_T0, op_gs(tlb + offsetof(struct jit_tlb, tag) + slot));
    place = e_jcc(e, CC_NE);
    e_mov(e, JIT_T1, op_gs(tlb + offsetof(struct jit_tlb, delta) + slot));
    jit_add_fix(t, write ? FIX_WRITE : FIX_READ, place,
                (struct fix){.size = (u16)size,
                             .writes = write,
                             .masked = t->form->masked,
                             .apart = true,
                             .fixed = true,
                             .offset = (u16)(lin - page),
                             .page = page,
                             .resume = e->p});
}

/* ---- shared checks ---- */

struct span {
    i32 lo, hi;
    bool write, shared;
};

/* What the accesses of the block from the one at [base + disp] on reach of the memory around it. */
static struct span look_ahead(const struct translation *t, unsigned base, i32 disp, unsigned size, bool write)
{
    i32 shift = t->held.shift[base], by;
    struct span s = {shift + disp, shift + disp + (i32)size, write, false};
    unsigned inside = 0;
    struct access a[2];

    if (t->b->tier_apart)
        return s;
    for (unsigned n = t->cell; n < t->b->ncells; n++) {
        const struct decoded *d = &t->all[n];
        unsigned count;

        if (!d->form)
            break;
        count = jit_accesses(d, a);
        for (unsigned k = 0; k < count; k++) {
            i64 lo = shift + a[k].disp, hi = lo + a[k].size;

            if (a[k].base != base)
                continue;
            lo = lo < s.lo ? lo : s.lo;
            hi = hi > s.hi ? hi : s.hi;
            if (hi - lo > MAX_SPAN)
                continue;
            s = (struct span){(i32)lo, (i32)hi, s.write || a[k].write, ++inside > 1};
        }
        switch (jit_changes(d, base, &by)) {
        case JIT_KEEPS: break;
        case JIT_ADDS:
            if (shift + (i64)by != (i32)(shift + by))
                return s;
            shift += by;
            break;
        case JIT_CHANGES: return s;
        }
    }
    return s;
}

/* [guest register + disp] with the delta in R15 added. RAX may be used if `rax`. */
static struct operand with_delta(struct translation *t, unsigned base, i32 disp, bool rax)
{
    if (!in_memory(base))
        return op_index(jit_host[base], JIT_T1, 0, disp);
    if (rax) {
        jit_get_guest(t, base, JIT_T0);
        return op_index(JIT_T0, JIT_T1, 0, disp);
    }
    e_alu(&t->e, true, ALU_ADD, JIT_T1, jit_memory_register(base));
    return op_mem(JIT_T1, disp);
}

static bool has_checked(const struct translation *t, unsigned base)
{
    for (unsigned n = 0; n < MAX_CHECKED; n++)
        if (t->held.checked[n].valid && t->held.checked[n].base == base)
            return true;
    return false;
}

void jit_forget_checks(struct translation *t)
{
    for (unsigned n = 0; n < MAX_CHECKED; n++)
        t->held.checked[n].valid = false;
}

void jit_follow_checks(struct translation *t, const struct decoded *d)
{
    for (unsigned n = 0; n < MAX_CHECKED; n++) {
        unsigned base = t->held.checked[n].base;
        i32 by, *shift = &t->held.shift[base];
        bool seen = !t->held.checked[n].valid;

        for (unsigned k = 0; k < n; k++)
            seen |= t->held.checked[k].valid && t->held.checked[k].base == base;
        if (seen)
            continue;
        switch (jit_changes(d, base, &by)) {
        case JIT_KEEPS: continue;
        case JIT_ADDS:
            if (!__builtin_add_overflow(*shift, by, shift) && *shift == (i16)*shift)
                continue;
            break;
        case JIT_CHANGES: break;
        }
        for (unsigned k = n; k < MAX_CHECKED; k++)
            t->held.checked[k].valid &= t->held.checked[k].base != base;
    }
}

static struct operand based_operand(struct translation *t, unsigned base, i32 disp, unsigned size, bool write,
                                    bool rax)
{
    i64 at = t->held.shift[base] + (i64)disp;
    struct span s;

    if (jit_code32(t)) {
        const struct address a = {(u8)base, X86_NO_REG, 0, SEG_DS, disp};

        jit_clobber_flags(t);
        linear_address(t, &a);
        look_up(t, size, write, write, true);
        linear_address(t, &a);
        if (rax)
            return op_index(JIT_T0, JIT_T1, 0, 0);
        e_alu(&t->e, true, ALU_ADD, JIT_T1, op_reg(JIT_T0));
        return op_mem(JIT_T1, 0);
    }
    for (unsigned n = 0; n < MAX_CHECKED; n++) {
        const struct checked *c = &t->held.checked[n];

        if (!c->valid || c->base != base || c->lo > at || c->hi < at + size || (write && !c->write))
            continue;
        if (in_memory(base) && !rax) /* an addition */
            jit_clobber_flags(t);
        e_mov(&t->e, JIT_T1, op_gs(offsetof(struct jit_vcpu, checked) + n * 8));
        return with_delta(t, base, disp, rax);
    }
    jit_clobber_flags(t);
    if (!has_checked(t, base))
        t->held.shift[base] = 0;
    s = look_ahead(t, base, disp, size, write);
    linear_address(t, &(struct address){(u8)base, X86_NO_REG, 0, SEG_DS, s.lo - t->held.shift[base]});
    if (base == RSP)
        look_up_stack(t, (unsigned)(s.hi - s.lo), s.write, write, !s.shared);
    else
        look_up(t, (unsigned)(s.hi - s.lo), s.write, write, !s.shared);
    if (s.shared) {
        unsigned n = t->held.next_checked;

        t->held.next_checked = (u8)((n + 1) % MAX_CHECKED);
        t->held.checked[n] = (struct checked){true, s.write, (u8)base, s.lo, s.hi};
        e_store(&t->e, op_gs(offsetof(struct jit_vcpu, checked) + n * 8), JIT_T1);
    }
    return with_delta(t, base, disp, rax);
}

struct operand jit_based_operand(struct translation *t, unsigned base, i32 disp, unsigned size, bool write)
{
    return based_operand(t, base, disp, size, write, false);
}

/* ---- operands ---- */

/* What an access must not be, or its cell takes over. Its linear address is in RAX, and R15 is free. */
static void check_place(struct translation *t, unsigned size, enum jit_place_check check)
{
    if (check == JIT_ALIGNED) {
        emit8(&t->e, 0xa8); /* TEST AL, imm8 */
        emit8(&t->e, (u8)(size - 1));
        jit_bail_if(t, CC_NE);
    } else if (check == JIT_ONE_LINE && size > 1) {
        e_lea(&t->e, false, JIT_T1, op_mem(JIT_T0, (i32)size - 1));
        e_alu(&t->e, false, ALU_XOR, JIT_T1, op_reg(JIT_T0));
        e_alu_imm(&t->e, false, ALU_AND, op_reg(JIT_T1), -64);
        jit_bail_if(t, CC_NE);
    }
}

/* The cell takes over where FS or GS of 32-bit code is not flat. Its base to segment_base; flags are clobbered. */
static void check_segment(struct translation *t, unsigned seg)
{
    const size_t at = offsetof(struct vcpu_state, seg) + seg * sizeof(struct seg);
    static const u8 movzx[] = {0x0f, 0xb7};
    struct emit *e = &t->e;

    jit_load_state(t);
    e_alu_imm(e, false, ALU_CMP, op_mem(JIT_T1, (i32)(at + offsetof(struct seg, limit))), -1);
    jit_bail_if(t, CC_NE);
    emit_modrm(e, NULL, 0, false, false, movzx, 2, JIT_T0,
               op_mem(JIT_T1, (i32)(at + offsetof(struct seg, attr))));
    e_alu_imm(e, false, ALU_AND, op_reg(JIT_T0), SEG_UNUSABLE | SEG_CODE | SEG_EXPAND_DOWN | SEG_WRITE);
    e_alu_imm(e, false, ALU_CMP, op_reg(JIT_T0), SEG_WRITE);
    jit_bail_if(t, CC_NE);
    e_mov32(e, JIT_T0, op_mem(JIT_T1, (i32)(at + offsetof(struct seg, base))));
    emit_op(e, false, 0x89, JIT_T0, VCPU(segment_base));
}

static struct operand memory_operand(struct translation *t, unsigned size, bool write,
                                     enum jit_place_check check, bool rax)
{
    struct address a = operand_address(t);
    bool checks = check != JIT_ANY_PLACE && size > 1;

    if (jit_code32(t) && a.seg == SEG_CS) { /* may be for execution only */
        t->unfit = true;
        return op_mem(JIT_T1, 0);
    }
    if (jit_code32(t) && has_segment(&a)) {
        jit_clobber_flags(t);
        check_segment(t, a.seg);
    }

    if (checks) {
        jit_clobber_flags(t);
        linear_address(t, &a);
        check_place(t, size, check);
    }
    if (is_based(t, &a) && a.disp > -FAR && a.disp < FAR)
        return based_operand(t, a.base, (i32)a.disp, size, write, rax);
    jit_clobber_flags(t);
    if (is_constant(&a) && !has_segment(&a)) {
        i32 offset = (i32)((u64)a.disp & ~PAGE_MASK);

        look_up_constant(t, (u64)a.disp, size, write);
        if (rax)
            return op_index(JIT_T0, JIT_T1, 0, offset);
        e_alu(&t->e, true, ALU_ADD, JIT_T1, op_reg(JIT_T0));
        return op_mem(JIT_T1, offset);
    }
    if (!checks)
        linear_address(t, &a);
    look_up(t, size, write, write, true);
    linear_address(t, &a);
    if (rax)
        return op_index(JIT_T0, JIT_T1, 0, 0);
    e_alu(&t->e, true, ALU_ADD, JIT_T1, op_reg(JIT_T0));
    return op_mem(JIT_T1, 0);
}

struct operand jit_memory_operand(struct translation *t, unsigned size, bool write,
                                  enum jit_place_check check)
{
    return memory_operand(t, size, write, check, true);
}
struct operand jit_memory_operand_single(struct translation *t, unsigned size, bool write,
                                         enum jit_place_check check)
{
    return memory_operand(t, size, write, check, false);
}

struct operand jit_memory_place(struct translation *t, unsigned size, bool write, enum jit_place_check check)
{
    struct operand rm = memory_operand(t, size, write, check, false);

    if (rm.base != JIT_T1 || rm.disp || rm.index != NO_INDEX)
        e_lea(&t->e, true, JIT_T1, rm);
    return op_mem(JIT_T1, 0);
}

void jit_linear_address(struct translation *t)
{
    struct address a = operand_address(t);

    t->unfit |= jit_code32(t) && (a.seg == SEG_CS || has_segment(&a));
    jit_clobber_flags(t);
    linear_address(t, &a);
}

struct operand jit_place(struct translation *t, unsigned size, bool write, enum jit_place_check check)
{
    check_place(t, size, check);
    e_store(&t->e, VCPU(scratch), JIT_T0);
    look_up(t, size, write, write, true);
    e_alu(&t->e, true, ALU_ADD, JIT_T1, VCPU(scratch));
    return op_mem(JIT_T1, 0);
}

struct operand jit_hint_operand(struct translation *t, u8 **skip)
{
    struct address a = operand_address(t);

    *skip = NULL;
    if (is_based(t, &a))
        for (unsigned n = 0; n < MAX_CHECKED; n++) {
            const struct checked *c = &t->held.checked[n];
            i64 at = t->held.shift[a.base] + a.disp;

            if (c->valid && c->base == a.base && c->lo <= at && at < c->hi) {
                e_mov(&t->e, JIT_T1, op_gs(offsetof(struct jit_vcpu, checked) + n * 8));
                return with_delta(t, a.base, (i32)a.disp, true);
            }
        }
    jit_clobber_flags(t);
    linear_address(t, &a);
    *skip = jit_look_up(t, 1, false);
    linear_address(t, &a);
    return op_index(JIT_T0, JIT_T1, 0, 0);
}
