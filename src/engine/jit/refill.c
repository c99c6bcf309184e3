/*
 * What host code calls in the middle of an instruction when its own small TLB has no answer. Built for general registers
 * alone: the guest's vector registers are in the host's while this runs.
 */
#include "engine/interp/mem.h"
#include "engine/jit/jit.h"

static const struct jit_place nowhere = {UINT64_MAX, 0};

/* Whether the interpreter's TLB lets the access go straight to memory. */
static bool direct(const struct jit_vcpu *j, u64 lin, u64 size, bool write)
{
    const struct tlb_entry *from = tlb_slot(j->interp.tlb, lin);
    u64 page = lin & PAGE_MASK;

    return ((lin + size - 1) & PAGE_MASK) == page && (write ? from->tag_write : from->tag_read) == page;
}
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
    const struct tlb_entry *from = tlb_slot(j->interp.tlb, lin);
    u64 page = lin & PAGE_MASK;
    struct jit_tlb_entry *to = jit_tlb_slot(write ? j->write : j->read, lin);

    if (!direct(j, lin, size, write)) {
        j->stats.misses[why_not(from, page, lin + size - 1, write)]++;
        return nowhere;
    }
    j->stats.refills++;
    *to = (struct jit_tlb_entry){page, page + from->addend};
    return (struct jit_place){lin - page, to->host};
}

struct jit_place jit_refill_read(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill(j, lin, size, false);
}

struct jit_place jit_refill_write(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill(j, lin, size, true);
}

/* A page that may be written, too, becomes the stack's. */
static struct jit_place refill_stack(struct jit_vcpu *j, u64 lin, u64 size, bool write)
{
    struct jit_place place;

    if (!direct(j, lin, size, true) || !direct(j, lin, size, false))
        return refill(j, lin, size, write);
    refill(j, lin, size, false);
    place = refill(j, lin, size, true);
    j->stack_tag = lin & PAGE_MASK;
    j->stack_host = place.host;
    for (unsigned n = 0; n < ARRAY_SIZE(j->stack_limit); n++)
        j->stack_limit[n] = PAGE_SIZE - (1u << n) + 1;
    return place;
}

struct jit_place jit_refill_stack_read(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill_stack(j, lin, size, false);
}

struct jit_place jit_refill_stack_write(struct jit_vcpu *j, u64 lin, u64 size)
{
    return refill_stack(j, lin, size, true);
}
