/*
 * Guest memory as instructions see it: linear addresses in, through the software TLB, out to host memory or I/O.
 *
 * The fast path is one compare: the page of (address + size - 1) equals the tag in the slot of `address` only if the page
 * is cached, the access stays inside it, and nothing is special about it. Aligned accesses of up to 8 bytes are single host
 * accesses.
 */
#ifndef ENGINE_INTERP_MEM_H
#define ENGINE_INTERP_MEM_H

#include <string.h>

#include "engine/interp/interp.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/*
 * function(c, i, x, y, z), called through keep.S, which gives every general register but RAX back: so a handler, whose fast
 * path makes no call, needs no frame. c and i stand in the registers that they have in a handler anyway. Everything that
 * includes this is compiled without a red zone, because the compiler does not see the call. Arguments and result fit in 64
 * bits.
 */
#define KEEP_CALL(function, c, i, x, y, z)                                                                   \
    ({                                                                                                       \
        u64 result_ = (u64)(x);                                                                              \
        register u64 z_ asm("r8") = (u64)(z);                                                                \
        asm volatile("call " #function "_keep"                                                               \
                     : "+a"(result_)                                                                         \
                     : "S"(c), "d"(i), "c"((u64)(y)), "r"(z_)                                                \
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",       \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                \
        result_;                                                                                             \
    })

enum mem_access { MEM_READ, MEM_WRITE, MEM_EXEC };

/* ---- effective addresses ---- */

/* Linear address of the memory operand: segment checks for `size` bytes of `access`, raising #GP(0) or #SS(0). */
u64 interp_ea_slow(struct interp *c, const struct cell *i, unsigned size, enum mem_access access);

/* The same for an operand that has to be aligned to its size: #GP(0), before the segment's limit is looked at. */
u64 interp_aligned_ea_slow(struct interp *c, const struct cell *i, unsigned size, enum mem_access access);

static ALWAYS_INLINE u64 interp_ea(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                   unsigned size, enum mem_access access)
{
    if (likely(i->flags & CELL_PLAIN_EA))
        return s->gpr[i->base] + (u64)i->disp;
    if (unlikely(i->flags & (CELL_ADDR32 | CELL_ADDR16))) /* also whatever has segment limits */
        return (i->flags & (CELL_ADDR32 | CELL_ADDR16)) == CELL_FLAT32
                   ? (u32)(s->gpr[i->base] + (s->gpr[i->index] << i->scale) + (u64)i->disp)
                   : KEEP_CALL(interp_ea_slow, c, i, (u64)size, access, 0);
    return s->gpr[i->base] + (s->gpr[i->index] << i->scale) + (u64)i->disp + c->seg_base[i->seg];
}

/* The offset alone, cut to the address size: LEA, and the base of bit-string operands. */
u64 interp_ea_offset(struct interp *c, const struct cell *i);

/* Linear address of [seg:offset], checked like an operand of `size` bytes: string instructions, stacks, XLAT, MASKMOV.
   `offset` has been cut to its address size by the caller. */
u64 interp_linear(struct interp *c, const struct cell *i, unsigned seg, u64 offset, unsigned size,
                  enum mem_access access);

/* ---- slow paths (mem.c): page crossings, misses, I/O, marked pages. They set c->cell. ---- */

u64 interp_load_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size);
void interp_store_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size, u64 value);
void interp_load_bytes(struct interp *c, const struct cell *i, u64 lin, void *to, unsigned size);
void interp_store_bytes(struct interp *c, const struct cell *i, u64 lin, const void *from, unsigned size);

/* ---- loads and stores ---- */

static ALWAYS_INLINE struct tlb_entry *tlb_slot(struct tlb_entry *tlb, u64 lin)
{
    return &tlb[lin >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
}

#define DEFINE_LOAD_STORE(bits)                                                                              \
    static ALWAYS_INLINE u##bits load##bits(struct interp *c, const struct cell *i, u64 lin)                 \
    {                                                                                                        \
        const struct tlb_entry *e = tlb_slot(c->tlb, lin);                                                   \
                                                                                                             \
        if (likely(e->tag_read == ((lin + bits / 8 - 1) & PAGE_MASK)))                                       \
            return *(const volatile u##bits##_unaligned *)(uintptr_t)(lin + e->addend);                      \
        return (u##bits)KEEP_CALL(interp_load_slow, c, i, lin, bits / 8, 0);                                 \
    }                                                                                                        \
    static ALWAYS_INLINE void store##bits(struct interp *c, const struct cell *i, u64 lin, u##bits value)    \
    {                                                                                                        \
        const struct tlb_entry *e = tlb_slot(c->tlb, lin);                                                   \
                                                                                                             \
        if (likely(e->tag_write == ((lin + bits / 8 - 1) & PAGE_MASK)))                                      \
            *(volatile u##bits##_unaligned *)(uintptr_t)(lin + e->addend) = value;                           \
        else                                                                                                 \
            KEEP_CALL(interp_store_slow, c, i, lin, bits / 8, value);                                        \
    }
typedef u8 u8_unaligned;
typedef u16 __attribute__((aligned(1))) u16_unaligned;
typedef u32 __attribute__((aligned(1))) u32_unaligned;
typedef u64 __attribute__((aligned(1))) u64_unaligned;
DEFINE_LOAD_STORE(8)
DEFINE_LOAD_STORE(16)
DEFINE_LOAD_STORE(32)
DEFINE_LOAD_STORE(64)
#undef DEFINE_LOAD_STORE

/* `size` bytes (up to 64; a constant) for vector and x87 operands; not atomic beyond 8 bytes. */
static ALWAYS_INLINE void load_bytes(struct interp *c, const struct cell *i, u64 lin, void *to, unsigned size)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);

    if (likely(e->tag_read == ((lin + size - 1) & PAGE_MASK)))
        memcpy(to, (const void *)(uintptr_t)(lin + e->addend), size);
    else
        KEEP_CALL(interp_load_bytes, c, i, lin, (uintptr_t)to, size);
}
/* 16 bytes into a register: what has no address of its own needs no stack frame. */
static ALWAYS_INLINE xmm load128(struct interp *c, const struct cell *i, u64 lin)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);

    if (likely(e->tag_read == ((lin + 15) & PAGE_MASK)))
        return *(const volatile xmm_unaligned *)(uintptr_t)(lin + e->addend);
    KEEP_CALL(interp_load_bytes, c, i, lin, (uintptr_t)c->bounce.data, 16);
    return *(const xmm *)c->bounce.data;
}
static ALWAYS_INLINE void store_bytes(struct interp *c, const struct cell *i, u64 lin, const void *from,
                                      unsigned size)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);

    if (likely(e->tag_write == ((lin + size - 1) & PAGE_MASK)))
        memcpy((void *)(uintptr_t)(lin + e->addend), from, size);
    else
        KEEP_CALL(interp_store_bytes, c, i, lin, (uintptr_t)from, size);
}

/*
 * Read-modify-write of up to 16 bytes: rmw_begin gives a host pointer to the operand, which has been checked for writing;
 * the caller works on it (with host atomics if the instruction is locked) and calls rmw_end. Where memory cannot be touched
 * in place (I/O, page crossing, marked pages) the pointer is to a bounce buffer that rmw_end writes back.
 */
void *interp_rmw_slow(struct interp *c, const struct cell *i, u64 lin, unsigned size);
void interp_rmw_finish(struct interp *c, const struct cell *i);
/* Have all other vCPUs stand still until then: for `size` bytes at `p`, which is what rmw_begin gave. */
u64 interp_rmw_alone(struct interp *c, const struct cell *i, void *p, unsigned size);
/* A fault ends that. */
void interp_no_longer_alone(struct interp *c);

static ALWAYS_INLINE void *rmw_begin(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);

    if (likely(e->tag_write == ((lin + size - 1) & PAGE_MASK)))
        return (void *)(uintptr_t)(lin + e->addend);
    return (void *)(uintptr_t)KEEP_CALL(interp_rmw_slow, c, i, lin, size, 0);
}

/*
 * Whether a locked operation on the operand at `p` may be a host atomic. One that crosses a cache line is a split lock on the
 * host too, which stops the whole host for a while, and ends the program where the kernel is told to forbid them
 * (split_lock_detect=fatal). So we do what a bus lock does, by ourselves: all other vCPUs stand still, and plain accesses
 * will do.
 */
static ALWAYS_INLINE bool rmw_locked(struct interp *c, const struct cell *i, void *p, unsigned size)
{
    if (likely(((uintptr_t)p & 63) + size <= 64))
        return true;
    KEEP_CALL(interp_rmw_alone, c, i, (uintptr_t)p, size, 0);
    return false;
}
/* The same for an instruction that is locked by its prefix alone. */
static ALWAYS_INLINE bool rmw_atomic(struct interp *c, const struct cell *i, void *p, unsigned size)
{
    return unlikely(i->flags & CELL_LOCK) && rmw_locked(c, i, p, size);
}

static ALWAYS_INLINE void rmw_end(struct interp *c, const struct cell *i)
{
    if (unlikely(c->bounce.active))
        KEEP_CALL(interp_rmw_finish, c, i, 0ull, 0, 0);
}

/* Raise the fault that an access of `size` bytes would raise, without making it: instructions that must check first. */
void interp_probe(struct interp *c, const struct cell *i, u64 lin, unsigned size, enum mem_access access);

/* #AC unless `lin` is a multiple of `alignment`, while alignment is checked: for operands that are made of several, which
   the accesses themselves do not tell. Those of 1, 2, 4, 8 and 10 bytes are checked by the functions above. */
void interp_check_alignment(struct interp *c, const struct cell *i, u64 lin, unsigned alignment);

/* System structures (GDT, LDT, IDT, TSS): supervisor rights whatever CPL is. `size` 1..8. */
u64 interp_load_system(struct interp *c, const struct cell *i, u64 lin, unsigned size);
void interp_store_system(struct interp *c, const struct cell *i, u64 lin, unsigned size, u64 value);
/* interp_probe with those rights; up to a page. */
void interp_probe_system(struct interp *c, const struct cell *i, u64 lin, unsigned size,
                         enum mem_access access);

/* Stacks of another privilege level: with the rights of `cpl`. `size` 2, 4 or 8. */
u64 interp_load_as(struct interp *c, const struct cell *i, unsigned cpl, u64 lin, unsigned size);
void interp_store_as(struct interp *c, const struct cell *i, unsigned cpl, u64 lin, unsigned size, u64 value);

/* Whether a linear address is canonical (SDM 1 3.3.7.1): for accesses and branches, by the current paging mode. */
static ALWAYS_INLINE bool interp_canonical(const struct interp *c, u64 lin)
{
    return x86_canonical(lin, 48) || ((c->state->cr4 & CR4_LA57) && x86_canonical(lin, 57));
}
/* The same for what is kept and not yet used: bases of segments and descriptor tables, and for INVLPG and INVPCID. It is held
   against the widest address that the CPU has. */
static inline bool interp_canonical_base(const struct interp *c, u64 base)
{
    return x86_canonical(base, c->virt_bits);
}

/* ---- the TLB ---- */

/* Translate for an instruction fetch; returns the guest-physical address. Raises #PF. */
u64 interp_translate_exec(struct interp *c, const struct cell *i, u64 lin);
/* The same for a load. */
u64 interp_translate_read(struct interp *c, const struct cell *i, u64 lin);

/* Make the spaces, all empty. */
MUST_CHECK int interp_tlb_init(struct interp *c, struct error *err);
/* Forget everything. */
/* Have the page of an access that is about to be made in the TLB, if it is allowed; true if it is. Raises nothing. */
bool interp_try_access(struct interp *c, u64 lin, bool write);
/* The same for an instruction fetch: where the byte is in the host, or NULL, also when it is not in ordinary memory. */
u8 *interp_try_exec(struct interp *c, u64 lin);
/* The same as far as the TLB has it: no walk, which would leave marks in the page tables. */
u8 *interp_known_exec(struct interp *c, u64 lin);

void interp_tlb_flush(struct interp *c);
/* Of the current address space, all that is not global. */
void interp_tlb_drop_local(struct interp *c);
/* One page, of the current address space or global. */
void interp_tlb_flush_page(struct interp *c, u64 lin);
/* CR3 was written. `keep`: what is known of its PCID may stay. */
void interp_tlb_cr3(struct interp *c, bool keep);
/* What is not global and belongs to a PCID that is not the current one. */
void interp_tlb_flush_pcid(struct interp *c, u64 pcid);
/* No block is where it was: all cached ways from linear addresses to blocks are wrong. */
void interp_forget_ways(struct interp *c);
/* Give PKRU another value; and after IA32_PKRS, which was `old`, got one. */
void interp_set_pkru(struct interp *c, u32 pkru);
void interp_pkrs_changed(struct interp *c, u32 old);
/* Stores to the page of a block must take the slow path again; reads may stay. */
void interp_tlb_protect(struct interp *c, struct mem_block *block, u64 offset);

#endif
