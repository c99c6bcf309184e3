#include "machine/irq.h"

#include <assert.h>

static void drive_sinks(struct irq_router *router, unsigned gsi)
{
    for (unsigned i = 0; i < IRQ_SINKS; i++) {
        if (router->sink[i].gsi)
            router->sink[i].gsi(router->sink[i].opaque, gsi, router->level[gsi] != 0);
    }
}

/* `n` of a line: the GSI in the low byte, the number of the source above. */
static void set_source(void *opaque, unsigned n, bool level)
{
    struct irq_router *router = opaque;
    unsigned gsi = n & 0xff;
    u32 old = router->level[gsi], bit = 1u << (n >> 8);

    router->level[gsi] = level ? old | bit : old & ~bit;
    if (!router->level[gsi] != !old)
        drive_sinks(router, gsi);
}

struct irq_line irq_router_line(struct irq_router *router, unsigned gsi)
{
    assert(gsi < IRQ_GSIS && router->sources[gsi] < IRQ_SOURCES_PER_GSI);
    return (struct irq_line){
        .set = set_source, .opaque = router, .n = gsi | (unsigned)router->sources[gsi]++ << 8};
}

void irq_router_sync(struct irq_router *router)
{
    for (unsigned gsi = 0; gsi < IRQ_GSIS; gsi++)
        drive_sinks(router, gsi);
}

void irq_router_msi(struct irq_router *router, u64 address, u32 data)
{
    if (router->msi)
        router->msi(router->msi_opaque, address, data);
}

void irq_router_eoi(struct irq_router *router, unsigned gsi)
{
    if (gsi < IRQ_GSIS && router->eoi[gsi].notify)
        router->eoi[gsi].notify(router->eoi[gsi].opaque, gsi);
}

static int irq_router_post_load(void *object, struct error *err)
{
    struct irq_router *router = object;

    for (unsigned gsi = 0; gsi < IRQ_GSIS; gsi++) {
        if ((u64)router->level[gsi] >> router->sources[gsi])
            return error_set(err, "interrupt %u has a source that this machine does not have", gsi);
    }
    return 0;
}

static const struct state_field irq_router_fields[] = {
    STATE_ARRAY(struct irq_router, level, STATE_U32, 1),
    STATE_END,
};
const struct state_table irq_router_state_table = {.name = "irq_router",
                                                   .version = 1,
                                                   .size = sizeof(struct irq_router),
                                                   .fields = irq_router_fields,
                                                   .post_load = irq_router_post_load};
