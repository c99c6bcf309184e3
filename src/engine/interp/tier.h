/*
 * A second tier: what executes hot blocks faster than their cells do (engine/jit). It stands on the interpreter, whose
 * cells remain the truth: at any instruction boundary inside a block the tier may store the registers and go on with the
 * handler of the next cell, and whatever is rare (faults, I/O, page walks, instructions without a translation) it leaves
 * to the cells that way.
 *
 * The interpreter knows a tier by this table alone; c->tier is NULL where there is none.
 */
#ifndef ENGINE_INTERP_TIER_H
#define ENGINE_INTERP_TIER_H

#include "engine/interp/interp.h"

struct interp_tier {
    /* Stands in the first cell of every new block, in front of block->first_fn: counts, translates, or enters the
       translation. */
    interp_fn *first;
    /* A block died: its translation must not be entered any more, from anywhere. */
    void (*block_killed)(struct interp *c, struct block *b);
    /* All blocks of the cache were dropped at once, and with them every translation. Nobody executes one. */
    void (*blocks_dropped)(struct interp *c);
    /* The tier has no room left: drop all blocks at the next occasion. */
    bool (*wants_drop)(const struct interp *c);
    /* The software TLB forgot everything in the tables of `rights` (bits by TLB_*; other tables are in use now, or what is not
       global has gone), one page, or the right to store directly to the page at a host address: copies of its entries must
       go too. */
    void (*tlb_flushed)(struct interp *c, unsigned rights);
    void (*tlb_page_flushed)(struct interp *c, u64 lin);
    void (*tlb_protected)(struct interp *c, u64 host);
};

/* interp_engine's attach for a vCPU whose private part is larger: `size` bytes that begin with a struct interp, freed by its
   detach. */
MUST_CHECK int interp_attach_tier(struct vcpu *vcpu, size_t size, const struct interp_tier *tier,
                                  struct error *err);

#endif
