/*
 * From guest bytes to blocks of cells, and when a block dies. Each vCPU has a cache of its own, which no other one touches
 * while it runs (docs/decisions/0005).
 */
#ifndef ENGINE_INTERP_BLOCK_H
#define ENGINE_INTERP_BLOCK_H

#include "engine/interp/interp.h"

/* NULL with `err` when the host has no memory. */
struct block_cache *block_cache_new(struct interp *c, struct error *err);
void block_cache_free(struct block_cache *cache);

/* The block for the next instruction (s->rip, c->mode), decoded if it is not cached. Raises what the fetch raises. Called
   from the loop only: it may throw every block away. */
struct block *block_lookup(struct interp *c);

/* Forget all blocks. Outside run. */
void block_drop_all(struct interp *c);

/* Kill what other threads wrote to while this vCPU ran. From the loop only. */
void block_serve_mail(struct interp *c);

/* An execute breakpoint is armed at a linear address: from now on a block ends before it, and nothing but block_lookup leads
   to the one that begins there. Stays when the breakpoint goes, since it comes and goes with the guest's tasks. */
void block_cut(struct interp *c, u64 lin);

/* A copy of the first instruction of `block` that returns to the loop after it. Overwrites the previous such copy. */
struct block *block_single(struct interp *c, const struct block *block);

static inline struct jump_entry *jump_slot(struct interp *c, u64 rip)
{
    return &c->jump[(rip ^ rip >> JUMP_BITS) & (JUMP_ENTRIES - 1)];
}

/* The handler that the table has for an operation. */
interp_fn *block_handler(const struct interp *c, u16 op, bool mem, unsigned size);

#endif
