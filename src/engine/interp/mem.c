/*
 * Guest memory for the interpreter: segment checks, page walks, the software TLB, and every access that is not a plain one.
 */
#include "engine/interp/mem.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "engine/interp/debug.h"
#include "engine/interp/tier.h"

/* ---- segmentation (SDM 3A 5.3, 5.5, 5.6) ---- */

static _Noreturn void segment_fault(struct interp *c, const struct cell *i, unsigned seg)
{
    interp_fault(c, i, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool segment_type_allows(const struct seg *seg, enum mem_access access)
{
    if (seg->attr & SEG_CODE)
        return access == MEM_READ && (seg->attr & SEG_WRITE);
    return access == MEM_READ || (seg->attr & SEG_WRITE);
}

static bool segment_limit_allows(const struct seg *seg, u64 offset, unsigned size)
{
    u64 last = offset + size - 1;

    if ((seg->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        return offset > seg->limit && last <= (seg->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= seg->limit || seg->limit == 0xffffffffu;
}

u64 interp_linear(struct interp *c, const struct cell *i, unsigned seg, u64 offset, unsigned size,
                  enum mem_access access)
{
    const struct seg *sg = &c->state->seg[seg];

    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        return offset + c->seg_base[seg];
    if (!(c->mode & MODE_REAL)) {
        if (sg->attr & SEG_UNUSABLE || !segment_type_allows(sg, access))
            segment_fault(c, i, seg);
    }
    if (!segment_limit_allows(sg, offset, size))
        segment_fault(c, i, seg);
    return (u32)(sg->base + offset);
}

u64 interp_ea_offset(struct interp *c, const struct cell *i)
{
    const struct vcpu_state *s = c->state;
    u64 offset = s->gpr[i->base] + (s->gpr[i->index] << i->scale) + (u64)i->disp;

    if (i->flags & CELL_ADDR32)
        return (u32)offset;
    return i->flags & CELL_ADDR16 ? (u16)offset : offset;
}

u64 interp_ea_slow(struct interp *c, const struct cell *i, unsigned size, enum mem_access access)
{
    u64 offset = interp_ea_offset(c, i);

    return interp_linear(c, i, i->seg, offset, size, access);
}

u64 interp_aligned_ea_slow(struct interp *c, const struct cell *i, unsigned size, enum mem_access access)
{
    u64 offset = interp_ea_offset(c, i), lin;

    if ((c->mode & MODE_CODE_MASK) != MODE_CODE64 && (c->state->seg[i->seg].base + offset) & (size - 1))
        raise_gp(c, i, 0);
    lin = interp_linear(c, i, i->seg, offset, size, access);
    if (lin & (size - 1))
        raise_gp(c, i, 0);
    return lin;
}

/* ---- page walks (SDM 3A 4.3 to 4.7) ---- */

enum {
    PTE_P = 1 << 0,
    PTE_W = 1 << 1,
    PTE_U = 1 << 2,
    PTE_A = 1 << 5,
    PTE_D = 1 << 6,
    PTE_PS = 1 << 7,
    PTE_G = 1 << 8
};
#define PTE_NX       (1ull << 63)
#define PTE_PHYS     0x000ffffffffff000ull
#define PTE_KEY(e)   ((unsigned)((e) >> 59 & 15))
#define PTE_PAE_HIGH 0x7ff0000000000000ull /* reserved in PAE paging, ignored in 4-level paging */

struct walk {
    u64 phys;   /* of the page, masked to 4 KiB */
    bool write; /* W in every level */
    bool user;  /* U in every level */
    bool nx;    /* NX in any level */
    u8 key;     /* protection key, of the leaf */
    bool global, dirty, large;
    bool fault;
    u32 error; /* PF_P and PF_RSVD, when fault */
};

/* memory_find, which mostly finds what it found last. */
static const struct mem_range *range_of(struct interp *c, u64 phys)
{
    const struct mem_range *r = c->near_range;

    if (likely(r && phys - r->start < r->end - r->start))
        return r;
    return c->near_range = memory_find(c->memory, phys);
}

/* A paging-structure entry in host memory, or NULL when it is not in RAM or ROM. */
static void *entry_host(struct interp *c, u64 phys, struct mem_block **block, u64 *offset)
{
    const struct mem_range *r = range_of(c, phys);

    if (!r || !r->read_block)
        return NULL;
    *block = r->read_block;
    *offset = phys - r->start + r->read_offset;
    return r->read_block->host + *offset;
}

/* Read an entry of `size` bytes; marks its page in deterministic mode, so that stores to it drop what is cached. */
static u64 entry_read(struct interp *c, u64 phys, unsigned size)
{
    struct mem_block *block;
    u64 offset;
    void *host = entry_host(c, phys & c->memory->a20_mask, &block, &offset);

    if (!host)
        return UINT64_MAX; /* nobody answers: reserved bits or a nonsense page, as on a bus that floats high */
    if (c->memory->track_page_tables && !(mem_block_marks(block, offset) & PAGE_TABLE))
        memory_protect(c->memory, block, offset, PAGE_TABLE);
    return size == 8 ? __atomic_load_n((u64 *)host, __ATOMIC_RELAXED)
                     : __atomic_load_n((u32 *)host, __ATOMIC_RELAXED);
}

/* Set A, or A and D, by compare-and-swap; false when the entry is not what was read any more: walk again. */
static bool entry_set(struct interp *c, u64 phys, unsigned size, u64 seen, u64 bits)
{
    struct mem_block *block;
    u64 offset;
    void *host;
    bool ok;

    if ((seen & bits) == bits)
        return true;
    host = entry_host(c, phys & c->memory->a20_mask, &block, &offset);
    if (!host || block->readonly)
        return true;
    if (size == 8) {
        ok = __atomic_compare_exchange_n((u64 *)host, &seen, seen | bits, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    } else {
        u32 seen32 = (u32)seen;

        ok = __atomic_compare_exchange_n((u32 *)host, &seen32, seen32 | (u32)bits, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    }
    mem_block_set_dirty(block, offset);
    if (ok && (mem_block_marks(block, offset) & PAGE_CODE)) {
        memory_written(c->memory, block, offset, size);
        if (c->memory->track_page_tables) /* the walk that goes on depends on this page */
            memory_protect(c->memory, block, offset, PAGE_TABLE);
    }
    return ok;
}

static void walk_fault(struct walk *w, u32 error)
{
    w->fault = true;
    w->error = error;
}

struct level {
    u64 entry, phys;
    unsigned size;
};

/* Whether the protection key forbids the access: PKRU for user pages, IA32_PKRS for the others (SDM 3A 4.6.2). */
static bool key_denies(const struct interp *c, const struct walk *w, unsigned rights, enum mem_access access)
{
    enum { ACCESS_DISABLE = 1, WRITE_DISABLE = 2 };
    const struct vcpu_state *s = c->state;
    unsigned key_rights;

    if (access == MEM_EXEC || !(s->efer & EFER_LMA) || !(s->cr4 & (w->user ? CR4_PKE : CR4_PKS)))
        return false;
    key_rights = (unsigned)(w->user ? s->pkru : s->pkrs) >> 2 * w->key;
    if (key_rights & ACCESS_DISABLE)
        return true;
    return key_rights & WRITE_DISABLE && access == MEM_WRITE && (rights == TLB_USER || s->cr0 & CR0_WP);
}

/* Whether the access that the walk is for is allowed (SDM 3A 4.6.1). `rights` is the TLB the access goes through. */
static bool walk_allows(const struct interp *c, const struct walk *w, unsigned rights, enum mem_access access)
{
    const struct vcpu_state *s = c->state;

    if ((access == MEM_EXEC && w->nx) || key_denies(c, w, rights, access))
        return false;
    if (rights == TLB_USER)
        return w->user && (access != MEM_WRITE || w->write);
    if (access == MEM_EXEC)
        return !(w->user && (s->cr4 & CR4_SMEP));
    if (w->user && (s->cr4 & CR4_SMAP) && rights != TLB_SUPER_AC)
        return false;
    return access != MEM_WRITE || w->write || !(s->cr0 & CR0_WP);
}

/* Walk the paging structures for `lin`. Sets A (and D for a permitted write) on success. */
static void walk_tables(struct interp *c, u64 lin, unsigned rights, enum mem_access access, struct walk *w)
{
    const struct vcpu_state *s = c->state;
    bool pae = s->cr4 & CR4_PAE, lma = s->efer & EFER_LMA, nxe = s->efer & EFER_NXE;
    u64 phys_limit_mask = c->phys_reserved; /* bits from MAXPHYADDR to 51 */
    struct level levels[5];
    unsigned n, nlevels, size = pae ? 8 : 4, shift;
    u64 table, entry, bits;

again:
    n = 0;
    *w = (struct walk){.write = true, .user = true};
    if (lma) {
        nlevels = s->cr4 & CR4_LA57 ? 5 : 4;
        table = s->cr3 & PTE_PHYS;
    } else if (pae) {
        u64 pdpte = s->pdptr[lin >> 30 & 3];

        if (!(pdpte & PTE_P)) {
            walk_fault(w, 0);
            return;
        }
        nlevels = 2;
        table = pdpte & PTE_PHYS;
    } else {
        nlevels = 2;
        table = s->cr3 & 0xfffff000u;
    }
    for (unsigned level = nlevels;; level--) {
        unsigned index_bits = pae ? 9 : 10;
        u64 reserved = 0;
        bool leaf;

        shift = PAGE_SHIFT + index_bits * (level - 1);
        levels[n].phys = table + (lin >> shift & ((1u << index_bits) - 1)) * size;
        levels[n].size = size;
        entry = levels[n].entry = entry_read(c, levels[n].phys, size);
        n++;
        if (!(entry & PTE_P)) {
            walk_fault(w, 0);
            return;
        }
        leaf = level == 1 || ((entry & PTE_PS) && (pae ? level == 2 || (lma && level == 3 && c->has_1g_pages)
                                                       : level == 2 && (s->cr4 & CR4_PSE)));
        if (pae) {
            reserved = phys_limit_mask | (nxe ? 0 : PTE_NX) | (lma ? 0 : PTE_PAE_HIGH);
            if (leaf && level > 1)
                reserved |= ((1ull << shift) - 1) & ~0x1fffull;
            else if (!leaf && level > 1 && (entry & PTE_PS))
                reserved |= PTE_PS; /* only in levels that have no large pages */
            if (level > 3 && c->amd)
                reserved |= PTE_G; /* APM 2 5.3.3: the bit above tables of tables must be zero */
            if (!lma && level == 2 && !leaf)
                reserved &= ~(u64)PTE_PS;
        } else if (leaf && level == 2) {
            reserved = c->pse_reserved;
        }
        if (entry & reserved) {
            walk_fault(w, PF_P | PF_RSVD);
            return;
        }
        w->write &= !!(entry & PTE_W);
        w->user &= !!(entry & PTE_U);
        w->nx |= pae && (entry & PTE_NX);
        if (leaf)
            break;
        table = pae ? entry & PTE_PHYS : entry & 0xfffff000u;
    }
    w->key = (u8)PTE_KEY(entry);
    if (!walk_allows(c, w, rights, access)) {
        walk_fault(w, PF_P | (key_denies(c, w, rights, access) ? PF_PK : 0));
        return;
    }
    for (unsigned l = 0; l < n; l++) {
        bits = PTE_A;
        if (l == n - 1 && access == MEM_WRITE)
            bits |= PTE_D;
        if (!entry_set(c, levels[l].phys, levels[l].size, levels[l].entry, bits))
            goto again;
    }
    w->global = (entry & PTE_G) && (s->cr4 & CR4_PGE);
    w->dirty = access == MEM_WRITE || (entry & PTE_D);
    w->large = shift > PAGE_SHIFT;
    if (!pae && shift > PAGE_SHIFT)
        w->phys = (entry & 0xffc00000u) | (entry >> 13 & 0xff) << 32;
    else
        w->phys = pae ? entry & PTE_PHYS : entry & 0xfffff000u;
    w->phys = (w->phys & ~((1ull << shift) - 1)) | (lin & ((1ull << shift) - 1) & PAGE_MASK);
}

/* ---- the TLB ---- */

/* Raise what an access to a non-canonical address raises. */
static _Noreturn void canonical_fault(struct interp *c, const struct cell *i)
{
    interp_fault(c, i, i && i->seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static unsigned current_rights(const struct interp *c)
{
    unsigned t = (unsigned)((c->tlb - c->tlbs[0]) / TLB_ENTRIES);

    return t == TLB_CHECKED ? TLB_USER : t;
}

/* ---- alignment (SDM 3A table 6-7) ---- */

/* Vectors in pieces that are not checked either. VEX only: MASKMOVQ and MASKMOVDQU, in all forms, are. */
static bool never_checked(unsigned op)
{
    switch (op) {
    case OP_VMASKMOVPS_Vx_Hx_Mx:
    case OP_VMASKMOVPS_Mx_Hx_Vx:
    case OP_VMASKMOVPD_Vx_Hx_Mx:
    case OP_VMASKMOVPD_Mx_Hx_Vx:
    case OP_VPMASKMOVD_Vx_Hx_Mx:
    case OP_VPMASKMOVD_Mx_Hx_Vx:
    case OP_VPMASKMOVQ_Vx_Hx_Mx:
    case OP_VPMASKMOVQ_Mx_Hx_Vx:
    case OP_VPGATHERDD_Vx_Md_Hx:
    case OP_VPGATHERDQ_Vx_Mq_Hx:
    case OP_VPGATHERQD_Vx_Md_Hx:
    case OP_VPGATHERQQ_Vx_Mq_Hx:
    case OP_VGATHERDPS_Vx_Md_Hx:
    case OP_VGATHERDPD_Vx_Mq_Hx:
    case OP_VGATHERQPS_Vx_Md_Hx:
    case OP_VGATHERQPD_Vx_Mq_Hx:
    case OP_VCVTPH2PS_Vps_Wx:
    case OP_VCVTPS2PH_Wx_Vps_Ib: return true;
    default: return false;
    }
}

/* An address that is not canonical comes first, page faults come after, as on Intel's CPUs. */
void interp_check_alignment(struct interp *c, const struct cell *i, u64 lin, unsigned alignment)
{
    if (likely(c->tlb != c->tlbs[TLB_CHECKED]) || !(lin & (alignment - 1)) || (i && never_checked(i->op)))
        return;
    if ((c->state->efer & EFER_LMA) && !interp_canonical(c, lin))
        canonical_fault(c, i);
    interp_fault(c, i, VEC_AC, 0);
}

/* For an operand of `size` bytes. Vectors of 16 bytes and more are never checked, and images that have alignments of their
   own by who knows them. */
static void check_operand(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    interp_check_alignment(c, i, lin, size == 10 ? 8 : size <= 8 && !(size & (size - 1)) ? size : 1);
}

/* ---- filling the TLB ---- */

static void tlb_note_large(struct interp *c, u64 lin)
{
    /* Every large page lies in one aligned GiB; a range of those is all that INVLPG needs to know. */
    u64 lo = align_down(lin, GIB(1)), hi = lo + (GIB(1) - 1);

    if (lo < c->large[lin >> 63].lo)
        c->large[lin >> 63].lo = lo;
    if (hi > c->large[lin >> 63].hi)
        c->large[lin >> 63].hi = hi;
}

/* For who drops it again: most of what goes is not global, and little of it was filled since last. */
static void tlb_note_filled(struct interp *c, unsigned rights, const struct tlb_entry *e, u64 lin,
                            bool global)
{
    struct tlb_space *space = c->space;
    unsigned n = space->nlocal[rights];

    space->filled |= (u8)(1u << rights);
    if (global) {
        c->lower_global |= !(lin >> 63);
        return;
    }
    space->upper_local |= lin >> 63;
    if (n < TLB_LOCALS)
        space->local[rights][n] = (u16)(e - c->tlbs[rights]);
    if (n <= TLB_LOCALS)
        space->nlocal[rights]++;
}

/* Fill the write side of an entry that was just written through: direct from now on if the page is ordinary RAM. */
static void tlb_open_write(struct interp *c, struct tlb_entry *e, u64 page, const struct mem_range *r,
                           u64 phys)
{
    u64 offset;

    if (!r || !r->write_block || r->write_block != r->read_block || r->write_offset != r->read_offset)
        return;
    if (unlikely(c->debug.access) && interp_debug_page(c, page))
        return;
    offset = phys - r->start + r->write_offset;
    if (mem_block_open(r->write_block, offset))
        e->tag_write = page;
}

/* The entry for an access that is allowed; `scratch` when it must not stay cached. NULL: it faults, as *fault says; of an
   address that is not canonical fault->fault is not set. */
static struct tlb_entry *try_translate(struct interp *c, unsigned rights, u64 lin, enum mem_access access,
                                       struct tlb_entry *scratch, struct walk *fault)
{
    struct tlb_entry *e = tlb_slot(c->tlbs[rights], lin);
    u64 page = lin & PAGE_MASK;
    const struct vcpu_state *s = c->state;
    const struct mem_range *r;
    struct walk w;

    if (!(e->tag_read & TLB_INVALID) && (e->tag_read & PAGE_MASK) == page) {
        if (access == MEM_READ || (access == MEM_EXEC && (e->phys & TLB_PHYS_EXEC)))
            return e;
        if (access == MEM_WRITE && (e->phys & TLB_PHYS_WRITE)) {
            if (e->tag_write & TLB_INVALID) {
                e->tag_write = page | TLB_SLOW;
                tlb_open_write(c, e, page, range_of(c, e->phys & PAGE_MASK), e->phys & PAGE_MASK);
            }
            return e;
        }
    }
    c->counters.tlb_misses++;
    if (s->cr0 & CR0_PG) {
        fault->fault = false;
        if ((s->efer & EFER_LMA) && !interp_canonical(c, lin))
            return NULL;
        walk_tables(c, lin, rights, access, &w);
        if (w.fault) {
            *fault = w;
            return NULL;
        }
        if (w.large)
            tlb_note_large(c, lin);
    } else {
        w = (struct walk){.phys = page, .write = true, .user = true, .dirty = true};
    }
    if (s->cr4 & (CR4_PKE | CR4_PKS))
        c->keys_used[w.user] |= 1u << w.key;
    w.phys &= c->memory->a20_mask;
    if ((s->cr0 & CR0_PG) && access == MEM_EXEC && !walk_allows(c, &w, rights, MEM_READ))
        e = scratch; /* executable and not readable (SMAP): data accesses must not find it */
    else
        tlb_note_filled(c, rights, e, lin, w.global);
    r = range_of(c, w.phys);
    e->phys = w.phys | (w.global ? TLB_PHYS_GLOBAL : 0);
    if (!(s->cr0 & CR0_PG) || walk_allows(c, &w, rights, MEM_EXEC))
        e->phys |= TLB_PHYS_EXEC;
    if (w.dirty && (!(s->cr0 & CR0_PG) || walk_allows(c, &w, rights, MEM_WRITE)))
        e->phys |= TLB_PHYS_WRITE;
    e->tag_read = page | TLB_SLOW;
    e->tag_write = page | TLB_INVALID;
    if (r && r->read_block) {
        if (likely(!c->debug.access) || !interp_debug_page(c, page))
            e->tag_read = page;
        e->addend = (u64)(uintptr_t)r->read_block->host + (w.phys - r->start) + r->read_offset - page;
    }
    if (access == MEM_WRITE) {
        e->tag_write = page | TLB_SLOW;
        tlb_open_write(c, e, page, r, w.phys);
    }
    return e;
}

/* The same, raising #PF and canonical faults. */
static struct tlb_entry *translate(struct interp *c, const struct cell *i, unsigned rights, u64 lin,
                                   enum mem_access access, struct tlb_entry *scratch)
{
    const struct vcpu_state *s = c->state;
    struct walk w;
    struct tlb_entry *e = try_translate(c, rights, lin, access, scratch, &w);
    u32 error;

    if (likely(e))
        return e;
    if (!w.fault)
        canonical_fault(c, i);
    error = w.error | (access == MEM_WRITE ? PF_W : 0) | (rights == TLB_USER ? PF_U : 0);
    if (access == MEM_EXEC && ((s->cr4 & CR4_SMEP) || ((s->cr4 & CR4_PAE) && (s->efer & EFER_NXE))))
        error |= PF_I;
    interp_page_fault(c, i, lin, error);
}

bool interp_try_access(struct interp *c, u64 lin, bool write)
{
    struct tlb_entry scratch;
    struct walk w;

    return try_translate(c, current_rights(c), lin, write ? MEM_WRITE : MEM_READ, &scratch, &w);
}

u8 *interp_known_exec(struct interp *c, u64 lin)
{
    const struct tlb_entry *e = tlb_slot(c->tlbs[c->cpl == 3 ? TLB_USER : TLB_SUPER], lin);

    return e->tag_read == (lin & PAGE_MASK) && e->phys & TLB_PHYS_EXEC ? (u8 *)(uintptr_t)(lin + e->addend)
                                                                       : NULL;
}

u8 *interp_try_exec(struct interp *c, u64 lin)
{
    struct tlb_entry scratch;
    struct walk w;
    const struct tlb_entry *e =
        try_translate(c, c->cpl == 3 ? TLB_USER : TLB_SUPER, lin, MEM_EXEC, &scratch, &w);

    return e && e->tag_read == (lin & PAGE_MASK) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}

u64 interp_translate_exec(struct interp *c, const struct cell *i, u64 lin)
{
    struct tlb_entry scratch;
    const struct tlb_entry *e = translate(c, i, c->cpl == 3 ? TLB_USER : TLB_SUPER, lin, MEM_EXEC, &scratch);

    return (e->phys & PAGE_MASK) | (lin & ~PAGE_MASK);
}

u64 interp_translate_read(struct interp *c, const struct cell *i, u64 lin)
{
    struct tlb_entry scratch;
    const struct tlb_entry *e = translate(c, i, current_rights(c), lin, MEM_READ, &scratch);

    return (e->phys & PAGE_MASK) | (lin & ~PAGE_MASK);
}

enum { ALL_RIGHTS = (1 << TLB_COUNT) - 1 };

static void tell_tier(struct interp *c, unsigned rights)
{
    if (c->tier)
        c->tier->tlb_flushed(c, rights);
}

/* The ways to blocks in one half of the addresses are wrong from now on. */
static void take_generation(struct interp *c, bool upper)
{
    c->generation[upper] = ++c->last_generation;
    if (!upper)
        c->space->generation = c->generation[0];
}

static void entry_drop(struct tlb_entry *e)
{
    e->tag_read = e->tag_write = TLB_INVALID;
}

/* Empty a space before it is used. */
static void space_clear(struct tlb_space *space)
{
    for (unsigned t = 0; t <= TLB_COUNT; t++)
        if (space->filled >> t & 1)
            for (struct tlb_entry *e = space->tlbs[t]; e < space->tlbs[t + 1]; e++)
                entry_drop(e);
    space->used = true;
    space->closed = space->upper_local = false;
    space->filled = 0;
    memset(space->nlocal, 0, sizeof(space->nlocal));
}

/* Of the current space, what is not global. Returns the tables that had some. */
static unsigned space_drop_local(struct tlb_space *space)
{
    unsigned had = 0;

    for (unsigned t = 0; t < TLB_COUNT; t++) {
        if (!space->nlocal[t])
            continue;
        had |= 1u << t;
        if (space->nlocal[t] <= TLB_LOCALS) {
            for (unsigned n = 0; n < space->nlocal[t]; n++)
                if (!(space->tlbs[t][space->local[t][n]].phys & TLB_PHYS_GLOBAL))
                    entry_drop(&space->tlbs[t][space->local[t][n]]);
        } else {
            for (struct tlb_entry *e = space->tlbs[t]; e < space->tlbs[t] + TLB_ENTRIES; e++)
                if (!(e->phys & TLB_PHYS_GLOBAL))
                    entry_drop(e);
        }
        space->nlocal[t] = 0;
    }
    space->upper_local = false;
    return had;
}

/* Drop all entries, and keep the ways to blocks: what changed concerns loads and stores alone. */
static void drop_entries(struct interp *c)
{
    c->counters.tlb_flushes++;
    for (struct tlb_space *space = c->spaces; space < c->spaces + TLB_SPACES; space++)
        space->used = false;
    space_clear(c->space);
    c->space->cr3 = c->state->cr3;
    tell_tier(c, ALL_RIGHTS);
    c->keys_used[false] = c->keys_used[true] = 0;
    c->near_range = NULL;
    for (unsigned half = 0; half < 2; half++) {
        c->large[half].lo = UINT64_MAX;
        c->large[half].hi = 0;
    }
}

void interp_forget_ways(struct interp *c)
{
    for (unsigned n = 0; n < TLB_SPACES; n++)
        c->spaces[n].generation = ++c->last_generation;
    take_generation(c, false);
    take_generation(c, true);
}

void interp_tlb_flush(struct interp *c)
{
    take_generation(c, false);
    take_generation(c, true);
    drop_entries(c);
}

void interp_tlb_drop_local(struct interp *c)
{
    c->counters.tlb_flushes++;
    take_generation(c, false);
    if (c->space->upper_local)
        take_generation(c, true);
    tell_tier(c, space_drop_local(c->space));
}

/* The tables of a space take the place of the current ones. */
static void space_enter(struct interp *c, struct tlb_space *space)
{
    unsigned rights = (unsigned)((c->tlb - c->tlbs[0]) / TLB_ENTRIES),
             had = 1 << TLB_USER | 1 << TLB_SUPER_AC;
    const struct tlb_space *old = c->space;

    c->counters.tlb_switches++;
    if (!space->used) {
        space_clear(space);
        space->generation = ++c->last_generation;
    } else if (space->closed) {
        for (struct tlb_entry *e = space->tlbs[0]; e < space->tlbs[TLB_COUNT]; e++)
            if (!(e->tag_write & ~PAGE_MASK))
                e->tag_write |= TLB_INVALID;
        space->closed = false;
    }
    if (old->nlocal[TLB_SUPER])
        had |= 1 << TLB_SUPER;
    c->space = space;
    space->turn = ++c->tlb_turn;
    c->tlbs = space->tlbs;
    c->tlb = c->tlbs[rights];
    c->generation[0] = space->generation;
    if (old->upper_local || space->upper_local)
        take_generation(c, true);
    tell_tier(c, had);
}

/* The space of a PCID, or one to be taken for it: that which was current longest ago. */
static struct tlb_space *space_of(struct interp *c, u64 pcid)
{
    struct tlb_space *oldest = NULL;

    for (struct tlb_space *space = c->spaces; space < c->spaces + TLB_SPACES; space++) {
        if (space->used && (space->cr3 & CR3_PCID) == pcid)
            return space;
        if (space != c->space && (!oldest || !space->used || (oldest->used && space->turn < oldest->turn)))
            oldest = space;
    }
    return oldest;
}

/* A space is kept for a PCID and its tables together: the same PCID with others may see nothing of what was there, although
   the manual lets it. */
void interp_tlb_cr3(struct interp *c, bool keep)
{
    u64 cr3 = c->state->cr3;
    struct tlb_space *space = c->state->cr4 & CR4_PCIDE ? space_of(c, cr3 & CR3_PCID) : c->space;

    keep = keep && space->cr3 == cr3;
    if (space != c->space)
        space_enter(c, space);
    space->cr3 = cr3;
    if (!keep)
        interp_tlb_drop_local(c);
}

void interp_tlb_flush_pcid(struct interp *c, u64 pcid)
{
    for (struct tlb_space *space = c->spaces; space < c->spaces + TLB_SPACES; space++)
        if (space != c->space && (space->cr3 & CR3_PCID) == pcid)
            space->used = false;
}

int interp_tlb_init(struct interp *c, struct error *err)
{
    const size_t size = align_up(TLB_SPACES * sizeof(struct tlb_space), MIB(2));

    c->spaces = aligned_alloc(MIB(2), size);
    if (!c->spaces)
        return error_set(err, "no memory on the host for the interpreter");
    madvise(c->spaces, size, MADV_HUGEPAGE);
    for (unsigned n = 0; n < TLB_SPACES; n++) {
        c->spaces[n].used = false;
        c->spaces[n].cr3 = 0;
        c->spaces[n].filled = UINT8_MAX;
    }
    c->space = c->spaces;
    c->tlbs = c->space->tlbs;
    drop_entries(c);
    interp_forget_ways(c);
    return 0;
}

/* Rights that a key loses matter where an entry was filled with it; new ones are found by the next walk. */
static void key_rights_changed(struct interp *c, bool user, u32 old, u32 new)
{
    for (unsigned key = 0; key < 16; key++) {
        if (c->keys_used[user] >> key & 1 && new >> 2 * key & ~(old >> 2 * key) & 3) {
            drop_entries(c);
            return;
        }
    }
}

void interp_set_pkru(struct interp *c, u32 pkru)
{
    u32 old = c->state->pkru;

    c->state->pkru = pkru;
    key_rights_changed(c, true, old, pkru);
}

void interp_pkrs_changed(struct interp *c, u32 old)
{
    key_rights_changed(c, false, old, (u32)c->state->pkrs);
}

void interp_tlb_flush_page(struct interp *c, u64 lin)
{
    unsigned half = lin >> 63;

    if (lin >= c->large[half].lo && lin <= c->large[half].hi) {
        interp_tlb_flush(c);
        return;
    }
    for (struct tlb_space *space = c->spaces; space < c->spaces + TLB_SPACES; space++) {
        if (!space->used)
            continue;
        if (half == 0 && c->lower_global)
            space->generation = ++c->last_generation;
        for (unsigned t = 0; t < TLB_COUNT; t++) {
            struct tlb_entry *e = tlb_slot(space->tlbs[t], lin);

            if ((e->tag_read & PAGE_MASK) == (lin & PAGE_MASK) &&
                (space == c->space || e->phys & TLB_PHYS_GLOBAL))
                entry_drop(e);
        }
    }
    take_generation(c, half);
    if (c->tier)
        c->tier->tlb_page_flushed(c, lin);
}

void interp_tlb_protect(struct interp *c, struct mem_block *block, u64 offset)
{
    u64 host = (u64)(uintptr_t)block->host + (offset & PAGE_MASK);

    for (struct tlb_space *space = c->spaces; space < c->spaces + TLB_SPACES; space++)
        space->closed = space != c->space;
    for (unsigned t = 0; t < TLB_COUNT; t++)
        if (c->space->filled >> t & 1)
            for (struct tlb_entry *e = c->tlbs[t]; e < c->tlbs[t + 1]; e++)
                if (!(e->tag_write & ~PAGE_MASK) && e->tag_write + e->addend == host)
                    e->tag_write |= TLB_INVALID;
    if (c->tier)
        c->tier->tlb_protected(c, host);
}

/* ---- accesses ---- */

/* `n` bytes after a linear address. Outside 64-bit code it wraps at 4 GiB; but what 32-bit code in long mode makes the CPU
   touch by itself (IDT, GDT, TSS, stacks) may lie above. */
static u64 linear_after(const struct interp *c, u64 lin, unsigned n)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64 || lin >> 32 ? lin + n : (u32)(lin + n);
}

static u64 host_load(const void *host, unsigned size)
{
    switch (size) {
    case 1: return *(const volatile u8 *)host;
    case 2: return *(const volatile u16_unaligned *)host;
    case 4: return *(const volatile u32_unaligned *)host;
    default: return *(const volatile u64_unaligned *)host;
    }
}

static void host_store(void *host, unsigned size, u64 value)
{
    switch (size) {
    case 1: *(volatile u8 *)host = (u8)value; break;
    case 2: *(volatile u16_unaligned *)host = (u16)value; break;
    case 4: *(volatile u32_unaligned *)host = (u32)value; break;
    default: *(volatile u64_unaligned *)host = value; break;
    }
}

/* One access inside a page, of 1, 2, 4 or 8 bytes, through an entry that allows it. */
static u64 page_load(struct interp *c, const struct cell *i, const struct tlb_entry *e, u64 lin,
                     unsigned size)
{
    u64 phys = (e->phys & PAGE_MASK) | (lin & ~PAGE_MASK), value;
    const struct mem_range *r;

    if (!(e->tag_read & ~PAGE_MASK))
        return host_load((const void *)(uintptr_t)(lin + e->addend), size);
    r = range_of(c, phys);
    if (r && r->read_block) /* a data breakpoint watches the page */
        return host_load(r->read_block->host + (phys - r->start) + r->read_offset, size);
    value = vcpu_mmio_read(c->vcpu, phys, size);
    interp_look_up_after(c, i);
    return value;
}

static void page_store(struct interp *c, const struct cell *i, const struct tlb_entry *e, u64 lin,
                       unsigned size, u64 value)
{
    u64 phys = (e->phys & PAGE_MASK) | (lin & ~PAGE_MASK);
    const struct mem_range *r;

    if (!(e->tag_write & ~PAGE_MASK)) {
        host_store((void *)(uintptr_t)(lin + e->addend), size, value);
        return;
    }
    r = range_of(c, phys);
    if (r && r->write_block) {
        u64 offset = phys - r->start + r->write_offset;

        host_store(r->write_block->host + offset, size, value);
        memory_written(c->memory, r->write_block, offset, size);
        return;
    }
    vcpu_mmio_write(c->vcpu, phys, size, value);
    interp_look_up_after(c, i);
}

/*
 * Raise what an access that runs over a page end raises: both pages are looked at before anything is done, the first first;
 * a fault of the second page gives that page's first address. Not canonical is asked before (SDM 3A 6.9).
 */
static void check_both_pages(struct interp *c, const struct cell *i, unsigned rights, u64 lin, unsigned size,
                             enum mem_access access)
{
    struct tlb_entry scratch;
    u64 last = linear_after(c, lin, size - 1);

    if (((lin ^ last) & PAGE_MASK) == 0)
        return;
    if ((c->state->efer & EFER_LMA) && (!interp_canonical(c, lin) || !interp_canonical(c, last)))
        canonical_fault(c, i);
    translate(c, i, rights, lin, access, &scratch);
    translate(c, i, rights, last & PAGE_MASK, access, &scratch);
}

/* Accesses of any size with any rights, possibly over a page end; parts are powers of two, low addresses first. */
static void load_any(struct interp *c, const struct cell *i, unsigned rights, u64 lin, u8 *to, unsigned size)
{
    struct tlb_entry scratch;

    check_both_pages(c, i, rights, lin, size, MEM_READ);
    if (unlikely(c->debug.access))
        interp_debug_access(c, i, lin, linear_after(c, lin, size - 1), MEM_READ);
    while (size) {
        const struct tlb_entry *e = translate(c, i, rights, lin, MEM_READ, &scratch);
        unsigned room = PAGE_SIZE - (unsigned)(lin & ~PAGE_MASK), n = size < 8 ? size : 8;
        u64 value;

        while (n > room || (n & (n - 1)))
            n = n > room && room < 8 ? room & -room : n & (n - 1);
        value = page_load(c, i, e, lin, n);
        memcpy(to, &value, n);
        to += n;
        size -= n;
        lin = linear_after(c, lin, n);
    }
}

static void store_any(struct interp *c, const struct cell *i, unsigned rights, u64 lin, const u8 *from,
                      unsigned size)
{
    struct tlb_entry scratch;

    check_both_pages(c, i, rights, lin, size, MEM_WRITE);
    if (unlikely(c->debug.access))
        interp_debug_access(c, i, lin, linear_after(c, lin, size - 1), MEM_WRITE);
    while (size) {
        const struct tlb_entry *e = translate(c, i, rights, lin, MEM_WRITE, &scratch);
        unsigned room = PAGE_SIZE - (unsigned)(lin & ~PAGE_MASK), n = size < 8 ? size : 8;
        u64 value = 0;

        while (n > room || (n & (n - 1)))
            n = n > room && room < 8 ? room & -room : n & (n - 1);
        memcpy(&value, from, n);
        page_store(c, i, e, lin, n, value);
        from += n;
        size -= n;
        lin = linear_after(c, lin, n);
    }
}

u64 interp_load_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    u64 value = 0;

    c->cell = i;
    check_operand(c, i, lin, size);
    load_any(c, i, current_rights(c), lin, (u8 *)&value, size);
    return value;
}

void interp_store_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size, u64 value)
{
    c->cell = i;
    check_operand(c, i, lin, size);
    store_any(c, i, current_rights(c), lin, (const u8 *)&value, size);
}

void interp_load_bytes(struct interp *c, const struct cell *i, u64 lin, void *to, unsigned size)
{
    c->cell = i;
    check_operand(c, i, lin, size);
    load_any(c, i, current_rights(c), lin, to, size);
}

void interp_store_bytes(struct interp *c, const struct cell *i, u64 lin, const void *from, unsigned size)
{
    c->cell = i;
    check_operand(c, i, lin, size);
    store_any(c, i, current_rights(c), lin, from, size);
}

void interp_probe(struct interp *c, const struct cell *i, u64 lin, unsigned size, enum mem_access access)
{
    struct tlb_entry scratch;

    c->cell = i;
    check_operand(c, i, lin, size);
    check_both_pages(c, i, current_rights(c), lin, size, access);
    translate(c, i, current_rights(c), lin, access, &scratch);
}

/* ---- read-modify-write ---- */

static void be_alone(struct interp *c)
{
    if (c->vcpu->vm->nvcpus == 1)
        return;
    vm_stand_still(c->vcpu->vm);
    c->alone = true;
}

void interp_no_longer_alone(struct interp *c)
{
    if (!c->alone)
        return;
    c->alone = false;
    vm_go_on(c->vcpu->vm);
}

/* XCHG is locked without the prefix, and our CMPXCHG8B and CMPXCHG16B are. */
static bool is_locked(const struct cell *i)
{
    switch (i->op) {
    case OP_XCHG_Eb_Gb:
    case OP_XCHG_Ev_Gv:
    case OP_CMPXCHG8B_Mq:
    case OP_CMPXCHG16B_Mdq: return true;
    default: return i->flags & CELL_LOCK;
    }
}

/* Where the byte is in RAM that the guest reads and writes, and nobody watches; or NULL. */
static u8 *ram_at(struct interp *c, u64 phys)
{
    const struct mem_range *r = range_of(c, phys);

    if (!r || !r->write_block || r->write_block != r->read_block || r->write_offset != r->read_offset)
        return NULL;
    return r->write_block->host + r->write_offset + (phys - r->start);
}

/* The operand itself where only a mark keeps stores from it: so that what is atomic stays so in a page with code. */
static u8 *marked_place(struct interp *c, u64 phys)
{
    return likely(!c->debug.access) ? ram_at(c, phys) : NULL;
}

/* Tell of a store to [place, place + size), in a page or over the end of one. */
static void place_written(struct interp *c, const u8 *place, unsigned size)
{
    for (size_t n = 0; n < c->memory->nblocks; n++) {
        struct mem_block *block = c->memory->blocks[n];

        if (place >= block->host && place < block->host + block->size)
            memory_written(c->memory, block, (u64)(place - block->host), size);
    }
}

/* The direct place may become one that stores have to be told of before all others stand still. */
u64 interp_rmw_alone(struct interp *c, const struct cell *i, void *p, unsigned size)
{
    be_alone(c);
    if (!c->bounce.active) {
        c->bounce.active = true;
        c->bounce.size = (u8)size;
        c->bounce.place = p;
    }
    return 0;
}

/* An operand over a page end, or in a page that is watched, which is loaded and stored in parts. A device is not waited for alone. */
static void be_alone_for(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    struct tlb_entry scratch;
    u64 last = linear_after(c, lin, size - 1) & PAGE_MASK;

    be_alone(c);
    if (!ram_at(c, translate(c, i, current_rights(c), lin, MEM_WRITE, &scratch)->phys & PAGE_MASK) ||
        !ram_at(c, translate(c, i, current_rights(c), last, MEM_WRITE, &scratch)->phys & PAGE_MASK))
        interp_no_longer_alone(c);
}

void *interp_rmw_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    struct tlb_entry scratch;

    interp_probe(c, i, lin, size, MEM_WRITE);
    if (((lin ^ (lin + size - 1)) & PAGE_MASK) == 0) {
        const struct tlb_entry *e = translate(c, i, current_rights(c), lin, MEM_WRITE, &scratch);

        u8 *place;

        if (!(e->tag_write & ~PAGE_MASK))
            return (void *)(uintptr_t)(lin + e->addend);
        place = marked_place(c, (e->phys & PAGE_MASK) | (lin & ~PAGE_MASK));
        if (place) {
            c->bounce.active = true;
            c->bounce.size = (u8)size;
            c->bounce.place = place;
            return place;
        }
    }
    if (is_locked(i))
        be_alone_for(c, i, lin, size);
    load_any(c, i, current_rights(c), lin, c->bounce.data, size);
    c->bounce.place = NULL;
    c->bounce.active = true;
    c->bounce.size = (u8)size;
    c->bounce.lin = lin;
    return c->bounce.data;
}

void interp_rmw_finish(struct interp *c, const struct cell *i)
{
    c->bounce.active = false;
    if (c->bounce.place)
        place_written(c, c->bounce.place, c->bounce.size);
    else
        store_any(c, i, current_rights(c), c->bounce.lin, c->bounce.data, c->bounce.size);
    interp_no_longer_alone(c);
}

/* Tables may begin so high that their end is at the bottom of the 4 GiB of legacy modes. */
static u64 system_linear(const struct interp *c, u64 lin)
{
    return c->state->efer & EFER_LMA ? lin : (u32)lin;
}

u64 interp_load_system(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    u64 value = 0;

    load_any(c, i, TLB_SUPER, system_linear(c, lin), (u8 *)&value, size);
    return value;
}

void interp_store_system(struct interp *c, const struct cell *i, u64 lin, unsigned size, u64 value)
{
    store_any(c, i, TLB_SUPER, system_linear(c, lin), (const u8 *)&value, size);
}

void interp_probe_system(struct interp *c, const struct cell *i, u64 lin, unsigned size,
                         enum mem_access access)
{
    struct tlb_entry scratch;

    lin = system_linear(c, lin);
    check_both_pages(c, i, TLB_SUPER, lin, size, access);
    translate(c, i, TLB_SUPER, lin, access, &scratch);
}

/* The current stack is touched by the program, with what EFLAGS.AC permits; another one by the CPU itself. */
static unsigned stack_rights(const struct interp *c, unsigned cpl)
{
    if (cpl == c->cpl)
        return current_rights(c);
    return cpl == 3 ? TLB_USER : TLB_SUPER;
}

u64 interp_load_as(struct interp *c, const struct cell *i, unsigned cpl, u64 lin, unsigned size)
{
    u64 value = 0;

    load_any(c, i, stack_rights(c, cpl), lin, (u8 *)&value, size);
    return value;
}

void interp_store_as(struct interp *c, const struct cell *i, unsigned cpl, u64 lin, unsigned size, u64 value)
{
    store_any(c, i, stack_rights(c, cpl), lin, (const u8 *)&value, size);
}
