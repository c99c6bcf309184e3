/*
 * What host code calls in the middle of an instruction when its own small TLB has no answer. Built for general registers
 * alone: the guest's vector registers are in the host's while this runs.
 */
#include "engine/interp/mem.h"
#include "engine/jit/jit.h"

static const struct jit_place nowhere = {UINT64_MAX, 0};

static struct jit_place refill(struct jit_vcpu *j, u64 lin, u64 size, bool write)
{
    const struct tlb_entry *from = tlb_slot(j->interp.tlb, lin);
    u64 page = lin & PAGE_MASK;
    struct jit_tlb_entry *to = jit_tlb_slot(write ? j->write : j->read, lin);

    if (((lin + size - 1) & PAGE_MASK) != page || (write ? from->tag_write : from->tag_read) != page)
        return nowhere;
    j->counters.refills++;
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
    struct jit_place place = refill(j, lin, size, true);

    if (place.offset == UINT64_MAX || refill(j, lin, size, false).offset == UINT64_MAX)
        return write ? nowhere : refill(j, lin, size, false);
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
