/*
 * From guest bytes to blocks of cells, and when a block dies. One cache a VM, shared by its vCPUs (they run in turn on one
 * thread); what depends on a vCPU's mappings (links across pages, the jump table) is not in it.
 */
#ifndef ENGINE_INTERP_BLOCK_H
#define ENGINE_INTERP_BLOCK_H

#include "engine/interp/interp.h"

/* Get the VM's cache, making it when this is the first vCPU. NULL with `err` when the host has no memory. */
struct block_cache *block_cache_get(struct vcpu *vcpu, struct error *err);
void block_cache_put(struct block_cache *cache, struct vcpu *vcpu);

/* The block for the next instruction (s->rip, c->mode), decoded if it is not cached. Raises what the fetch raises. Called
   from the loop only: it may throw every block away. */
struct block *block_lookup(struct interp *c);

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
