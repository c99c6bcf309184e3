/*
 * What host code calls in the middle of an instruction when its own small TLB has no answer. Built for general registers
 * alone: the guest's vector registers are in the host's while this runs.
 */
#include "engine/interp/mem.h"
#include "engine/jit/jit.h"

static enum jit_miss why_not(const struct tlb_entry *entry, u64 page, u64 last, bool write)
{
    if ((last & PAGE_MASK) != page)
        return JIT_MISS_PAGE_END;
    if ((write ? entry->tag_write : entry->tag_read) != (page | TLB_SLOW))
        return JIT_MISS_TLB;
    return write && entry->tag_read == page ? JIT_MISS_CODE : JIT_MISS_IO;
}

static struct jit_place refill(struct jit_vcpu *j, u64 lin, u64 size, bool write)
{
    struct interp *c = &j->interp;
    const struct tlb_entry *from = tlb_slot(c->tlb, lin);
    struct jit_tlb *to = &j->tlb[(size_t)(c->tlb - c->tlbs[0]) / TLB_ENTRIES][write];
    u64 page = lin & PAGE_MASK;

    j->crossed = ((lin + size - 1) & PAGE_MASK) != page;
    if (j->crossed || (write ? from->tag_write : from->tag_read) != page) {
        j->walk_lin = lin;
        j->stats.misses[why_not(from, page, lin + size - 1, write)]++;
        return (struct jit_place){false, 0};
    }
    j->stats.refills++;
    to->tag[jit_page_slot(lin)] = page;
    to->delta[jit_page_slot(lin)] = from->addend;
    return (struct jit_place){true, from->addend};
}

struct jit_place jit_refill_read(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill(j, lin, size, false);
}

struct jit_place jit_refill_write(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill(j, lin, size, true);
}
