/*
 * String instructions, with and without REP.
 *
 * REP counts one retired instruction an iteration (design, deterministic mode) and can be interrupted between any two:
 * the registers are exact after each, and RIP stays at the instruction until the count is used up. The row is the last of
 * its block, which counts one; further iterations are taken from the budget here. Runs inside one page of RAM, forwards,
 * are done at once.
 */
#include "engine/interp/debug.h"
#include "engine/interp/ops.h"
#include "engine/interp/system.h"

static ALWAYS_INLINE u64 cut(const struct cell *i, u64 offset)
{
    if (i->flags & CELL_ADDR32)
        return (u32)offset;
    return i->flags & CELL_ADDR16 ? (u16)offset : offset;
}

static ALWAYS_INLINE void advance(struct vcpu_state *s, const struct cell *i, unsigned reg, u64 by)
{
    set_sized(s, reg, cell_address_size(i), s->gpr[reg] + by);
}

static ALWAYS_INLINE u64 step_of(const struct vcpu_state *s, unsigned size)
{
    return s->rflags & FLAG_DF ? -(u64)size : size;
}

static ALWAYS_INLINE u64 source(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    return interp_linear(c, i, i->seg, cut(i, s->gpr[RSI]), size, MEM_READ);
}
static ALWAYS_INLINE u64 destination(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                     unsigned size, enum mem_access access)
{
    return interp_linear(c, i, SEG_ES, cut(i, s->gpr[RDI]), size, access);
}

/* What one iteration does. Returns false when a REPE or REPNE condition ends the repetition. */
typedef bool string_step(struct vcpu_state *s, struct interp *c, const struct cell *i);

/*
 * The repetition around a step. `bulk`, when there is one, does up to `count` iterations at once and returns how many (0: use
 * the step). Every finished iteration leaves the budget at once, so that a fault or an exit in the middle is exact; END_FALL
 * counts this cell once more, which is given back first.
 *
 * A fault in the middle of a repeated comparison gives the flags of before the instruction (SDM 2B, REP), and so does a trap
 * or an interrupt, on Intel's CPUs.
 */
enum { CLEARS_RSI = 1, CLEARS_RDI = 2 };

static ALWAYS_INLINE void
repeat(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned clears, string_step *step,
       u64 (*bulk)(struct vcpu_state *, struct interp *, const struct cell *, u64 count))
{
    unsigned size = cell_address_size(i);
    u64 count = get_sized(s, RCX, size);
    i64 before = i - c->block->cells; /* instructions of the block before this one */
    bool any = false;

    c->cell = i;
    c->undo_flags = true;
    c->old_flags = c->flags;
    /* With 32-bit addresses the upper half of the count is cleared, whatever happens then, and in the fast instructions
       those of the addresses. */
    if (size == 4) {
        s->gpr[RCX] = (u32)count;
        if (clears & CLEARS_RSI)
            s->gpr[RSI] = (u32)s->gpr[RSI];
        if (clears & CLEARS_RDI)
            s->gpr[RDI] = (u32)s->gpr[RDI];
    }
    while (count) {
        u64 room = (u64)(c->left - before), done = 0;
        bool go_on = true;

        if (any && (c->left <= before || (vcpu_kicked(c->vcpu) & c->kick_mask))) {
            s->rip = cell_rip(c, i); /* to be continued */
            s->rflags |= FLAG_RF;    /* without meeting its breakpoint again (SDM 3B 18.3.1.1) */
            c->left -= before;
            c->undo_flags = false;
            c->flags = c->old_flags;
            return;
        }
        if (bulk)
            done = bulk(s, c, i, count < room ? count : room);
        if (!done) {
            go_on = step(s, c, i);
            done = 1;
        }
        any = true;
        c->left -= (i64)done;
        count -= done;
        set_sized(s, RCX, size, count);
        if (!go_on)
            break;
    }
    c->left += any;
    c->undo_flags = false;
    interp_end_fall(s, c, i);
}

#define DEFINE_STRING(name, clears, bulk) DEFINE_CHECKED_STRING(name, clears, bulk, )
/* `check` comes before everything, the count included. */
#define DEFINE_CHECKED_STRING(name, clears, bulk, check)                                                     \
    HANDLER(name##_once)                                                                                     \
    {                                                                                                        \
        c->cell = i;                                                                                         \
        name##_step(s, c, i);                                                                                \
        END_FALL;                                                                                            \
    }                                                                                                        \
    HANDLER(name##_rep)                                                                                      \
    {                                                                                                        \
        repeat(s, c, i, clears, name##_step, bulk);                                                          \
    }                                                                                                        \
    HANDLER(name)                                                                                            \
    {                                                                                                        \
        check;                                                                                               \
        if (i->flags & (CELL_REP | CELL_REPNE))                                                              \
            TAIL name##_rep(s, c, i);                                                                        \
        TAIL name##_once(s, c, i);                                                                           \
    }

/* Where the bytes at `lin` are in the host, if accesses may go to them directly; else NULL. Raises what the access raises. */
static u8 *direct(struct interp *c, const struct cell *i, u64 lin, unsigned size, enum mem_access access)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);
    const u64 *tag = access == MEM_WRITE ? &e->tag_write : &e->tag_read;

    if (*tag != (lin & PAGE_MASK))
        interp_probe(c, i, lin, size, access);
    return *tag == (lin & PAGE_MASK) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}

/* How many elements from `lin` on lie in its page, at most `count`. */
static u64 page_run(u64 lin, u64 count, unsigned size)
{
    u64 room = (PAGE_SIZE - (lin & ~PAGE_MASK)) / size;

    return count < room ? count : room;
}

/* Whether bulk runs are possible at all: forwards, no segment limits to look at, no address wrap inside a page. */
static bool bulk_allowed(const struct vcpu_state *s, const struct interp *c, const struct cell *i)
{
    if (s->rflags & FLAG_DF || c->attention & ATTENTION_TRACE)
        return false;
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64
               ? !(i->flags & CELL_ADDR32)
               : (c->mode & MODE_FLAT) && (i->flags & CELL_ADDR32) && i->seg <= SEG_DS && i->seg != SEG_CS;
}

/* ---- MOVS ---- */

#define DEFINE_MOVS(name, bits)                                                                              \
    static bool movs##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        u##bits value = load##bits(c, i, source(s, c, i, bits / 8));                                         \
                                                                                                             \
        store##bits(c, i, destination(s, c, i, bits / 8, MEM_WRITE), value);                                 \
        advance(s, i, RSI, step_of(s, bits / 8));                                                            \
        advance(s, i, RDI, step_of(s, bits / 8));                                                            \
        return true;                                                                                         \
    }                                                                                                        \
    static u64 movs##bits##_bulk(struct vcpu_state *s, struct interp *c, const struct cell *i, u64 count)    \
    {                                                                                                        \
        u64 from, to, n;                                                                                     \
        u8 *src, *dst;                                                                                       \
                                                                                                             \
        if (!bulk_allowed(s, c, i))                                                                          \
            return 0;                                                                                        \
        from = cut(i, s->gpr[RSI]) + c->seg_base[i->seg];                                                    \
        to = cut(i, s->gpr[RDI]);                                                                            \
        n = page_run(to, page_run(from, count, bits / 8), bits / 8);                                         \
        /* Both may need the same slot of the TLB, where one step after the other would walk twice. */       \
        if (!n || !(src = direct(c, i, from, bits / 8, MEM_READ)) ||                                         \
            !(dst = direct(c, i, to, bits / 8, MEM_WRITE)))                                                  \
            return 0;                                                                                        \
        if (dst > src && dst < src + n * (bits / 8)) /* overlapping forwards: a pattern fill */              \
            return 0;                                                                                        \
        memmove(dst, src, n *(bits / 8));                                                                    \
        advance(s, i, RSI, n *(bits / 8));                                                                   \
        advance(s, i, RDI, n *(bits / 8));                                                                   \
        return n;                                                                                            \
    }                                                                                                        \
    DEFINE_STRING(movs##bits, CLEARS_RSI | CLEARS_RDI, movs##bits##_bulk)
FOR_ALL(DEFINE_MOVS, movs)

/* ---- STOS ---- */

#define DEFINE_STOS(name, bits)                                                                              \
    static bool stos##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        store##bits(c, i, destination(s, c, i, bits / 8, MEM_WRITE), get##bits(s, 0));                       \
        advance(s, i, RDI, step_of(s, bits / 8));                                                            \
        return true;                                                                                         \
    }                                                                                                        \
    static u64 stos##bits##_bulk(struct vcpu_state *s, struct interp *c, const struct cell *i, u64 count)    \
    {                                                                                                        \
        u64 to, n;                                                                                           \
        u##bits##_unaligned *dst;                                                                            \
                                                                                                             \
        if (!bulk_allowed(s, c, i))                                                                          \
            return 0;                                                                                        \
        to = cut(i, s->gpr[RDI]);                                                                            \
        n = page_run(to, count, bits / 8);                                                                   \
        if (!n || !(dst = (u##bits##_unaligned *)(void *)direct(c, i, to, bits / 8, MEM_WRITE)))             \
            return 0;                                                                                        \
        if (get##bits(s, 0) == (u##bits)(get8(s, 0) * 0x0101010101010101ull))                                \
            memset(dst, get8(s, 0), n *(bits / 8));                                                          \
        else                                                                                                 \
            for (u64 k = 0; k < n; k++)                                                                      \
                dst[k] = get##bits(s, 0);                                                                    \
        advance(s, i, RDI, n *(bits / 8));                                                                   \
        return n;                                                                                            \
    }                                                                                                        \
    DEFINE_STRING(stos##bits, CLEARS_RDI, stos##bits##_bulk)
FOR_ALL(DEFINE_STOS, stos)

/* ---- LODS, SCAS, CMPS ---- */

#define DEFINE_LODS(name, bits)                                                                              \
    static bool lods##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        set##bits(s, 0, load##bits(c, i, source(s, c, i, bits / 8)));                                        \
        advance(s, i, RSI, step_of(s, bits / 8));                                                            \
        return true;                                                                                         \
    }                                                                                                        \
    DEFINE_STRING(lods##bits, 0, NULL)
FOR_ALL(DEFINE_LODS, lods)

static ALWAYS_INLINE bool compare_goes_on(const struct interp *c, const struct cell *i)
{
    bool equal = c->flags & PACKED_ZF;

    return i->flags & CELL_REPNE ? !equal : equal;
}

#define DEFINE_SCAS(name, bits)                                                                              \
    static ALWAYS_INLINE u16 compare##bits(u##bits a, u##bits b)                                             \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm("cmp" SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS : "=a"(f) : [a] "r"(a), [b] "r"(b) : "cc");  \
        return (u16)f;                                                                                       \
    }                                                                                                        \
    static bool scas##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        u##bits value = load##bits(c, i, destination(s, c, i, bits / 8, MEM_READ));                          \
                                                                                                             \
        c->flags = compare##bits(get##bits(s, 0), value);                                                    \
        advance(s, i, RDI, step_of(s, bits / 8));                                                            \
        return compare_goes_on(c, i);                                                                        \
    }                                                                                                        \
    DEFINE_STRING(scas##bits, 0, NULL)                                                                       \
    static bool cmps##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        /* In the CPU's order. */                                                                            \
        u##bits b = load##bits(c, i, destination(s, c, i, bits / 8, MEM_READ));                              \
        u##bits a = load##bits(c, i, source(s, c, i, bits / 8));                                             \
                                                                                                             \
        c->flags = compare##bits(a, b);                                                                      \
        advance(s, i, RSI, step_of(s, bits / 8));                                                            \
        advance(s, i, RDI, step_of(s, bits / 8));                                                            \
        return compare_goes_on(c, i);                                                                        \
    }                                                                                                        \
    DEFINE_STRING(cmps##bits, 0, NULL)
FOR_ALL(DEFINE_SCAS, scas)

/* ---- INS, OUTS: the port size is at most 4 ---- */

static bool ins_step(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    u32 port = get16(s, RDX), value;
    u64 lin;

    lin = destination(s, c, i, size, MEM_WRITE);
    interp_probe(c, i, lin, size, MEM_WRITE); /* a read of a port cannot be taken back */
    value = vcpu_port_read(c->vcpu, port, size);
    interp_debug_port(c, i, port, size);
    interp_store_slow(c, i, lin, size, value);
    advance(s, i, RDI, step_of(s, size));
    return true;
}
static bool outs_step(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    u32 port = get16(s, RDX), value;

    value = (u32)interp_load_slow(c, i, source(s, c, i, size), size);
    vcpu_port_write(c->vcpu, port, size, value);
    interp_debug_port(c, i, port, size);
    advance(s, i, RSI, step_of(s, size));
    return true;
}
#define DEFINE_PORT_STRING(name, bits)                                                                       \
    static bool name##bits##_step(struct vcpu_state *s, struct interp *c, const struct cell *i)              \
    {                                                                                                        \
        return name##_step(s, c, i, bits / 8);                                                               \
    }                                                                                                        \
    DEFINE_CHECKED_STRING(name##bits, 0, NULL, interp_check_port(c, i, get16(s, RDX), bits / 8))
DEFINE_PORT_STRING(ins, 8)
DEFINE_PORT_STRING(ins, 16)
DEFINE_PORT_STRING(ins, 32)
DEFINE_PORT_STRING(outs, 8)
DEFINE_PORT_STRING(outs, 16)
DEFINE_PORT_STRING(outs, 32)

const struct interp_row interp_string_rows[] = {
    {OP_MOVS_Yb_Xb, 0, ANY_SIZE(movs8), NO_FORM},
    {OP_MOVS_Yv_Xv, 0, BY_SIZE(movs), NO_FORM},
    {OP_STOS_Yb_AL, 0, ANY_SIZE(stos8), NO_FORM},
    {OP_STOS_Yv_rAX, 0, BY_SIZE(stos), NO_FORM},
    {OP_LODS_AL_Xb, 0, ANY_SIZE(lods8), NO_FORM},
    {OP_LODS_rAX_Xv, 0, BY_SIZE(lods), NO_FORM},
    {OP_SCAS_AL_Yb, 0, ANY_SIZE(scas8), NO_FORM},
    {OP_SCAS_rAX_Yv, 0, BY_SIZE(scas), NO_FORM},
    {OP_CMPS_Xb_Yb, 0, ANY_SIZE(cmps8), NO_FORM},
    {OP_CMPS_Xv_Yv, 0, BY_SIZE(cmps), NO_FORM},
    {OP_INS_Yb_DX, 0, ANY_SIZE(ins8), NO_FORM},
    {OP_INS_Yz_DX, 0, {ins16, ins32, ins32}, NO_FORM},
    {OP_OUTS_DX_Xb, 0, ANY_SIZE(outs8), NO_FORM},
    {OP_OUTS_DX_Xz, 0, {outs16, outs32, outs32}, NO_FORM},
    ROW_LAST,
};
