#include "engine/interp/debug.h"

#include "engine/interp/block.h"

enum { RW_EXECUTE, RW_WRITE, RW_IO, RW_ACCESS };

bool interp_debug_page(const struct interp *c, u64 lin)
{
    for (unsigned n = 0; n < 4; n++)
        if (c->debug.access >> n & 1 && ((c->debug.first[n] ^ lin) & PAGE_MASK) == 0)
            return true;
    return false;
}

static void flush_watched_pages(struct interp *c)
{
    for (unsigned n = 0; n < 4; n++)
        if (c->debug.access >> n & 1)
            interp_tlb_flush_page(c, c->debug.first[n]);
}

/* Take the registers apart. The masks of kinds hold the four registers whether they are enabled or not: DR6 tells of all
   whose condition is met once one that is enabled raises #DB (SDM 3B 18.2.3). */
static void decode(struct interp *c)
{
    static const u8 lengths[] = {1, 2, 8, 4};
    const struct vcpu_state *s = c->state;

    c->debug.enabled = c->debug.execute = c->debug.write = c->debug.read = c->debug.ports = 0;
    for (unsigned n = 0; n < 4; n++) {
        unsigned control = s->dr[7] >> (16 + 4 * n) & 0xf, length = lengths[control >> 2];
        u8 bit = (u8)(1u << n);

        c->debug.first[n] = s->dr[n] & ~(u64)(length - 1);
        c->debug.last[n] = c->debug.first[n] + length - 1;
        if (s->dr[7] >> 2 * n & 3)
            c->debug.enabled |= bit;
        switch (control & 3) {
        case RW_EXECUTE:
            if (length == 1)
                c->debug.execute |= bit;
            break;
        case RW_WRITE: c->debug.write |= bit; break;
        case RW_ACCESS:
            c->debug.write |= bit;
            c->debug.read |= bit;
            break;
        default: /* undefined without CR4.DE: nothing */
            if (s->cr4 & CR4_DE)
                c->debug.ports |= bit;
        }
    }
    c->debug.access = c->debug.write & c->debug.enabled;
    c->debug.io = c->debug.ports & c->debug.enabled;
}

void interp_debug_changed(struct interp *c)
{
    const struct vcpu_state *s = c->state;
    u64 seen[6] = {s->dr[0], s->dr[1], s->dr[2], s->dr[3], s->dr[7], s->cr4 & CR4_DE};
    u8 code;

    if (!memcmp(c->debug.seen, seen, sizeof(seen)))
        return;
    memcpy(c->debug.seen, seen, sizeof(seen));
    flush_watched_pages(c);
    decode(c);
    flush_watched_pages(c);
    code = c->debug.execute & c->debug.enabled;
    for (unsigned n = 0; n < 4; n++)
        if (code >> n & 1)
            block_cut(c, s->dr[n]);
    c->attention = (u8)((c->attention & ~ATTENTION_BREAKPOINTS) | (code ? ATTENTION_BREAKPOINTS : 0));
}

/* The registers of `kind` that [first, last] touches, if one of them is enabled. */
static u64 matches(const struct interp *c, u8 kind, u64 first, u64 last)
{
    u64 hit = 0;

    for (unsigned n = 0; n < 4; n++)
        if (kind >> n & 1 && first <= c->debug.last[n] && c->debug.first[n] <= last)
            hit |= 1u << n;
    return hit & c->debug.enabled ? hit : 0;
}

void interp_debug_hit(struct interp *c, const struct cell *i, u64 dr6)
{
    c->debug.hits |= dr6;
    vcpu_kick(c->vcpu, KICK_ENGINE);
    interp_look_up_after(c, i);
}

void interp_debug_access(struct interp *c, const struct cell *i, u64 lin, u64 last, enum mem_access access)
{
    u8 kind = access == MEM_WRITE ? c->debug.write : c->debug.read;
    /* An access may wrap at 4 GiB. */
    u64 hit = lin <= last
                  ? matches(c, kind, lin, last)
                  : matches(c, kind, lin, lin | ~PAGE_MASK) | matches(c, kind, last & PAGE_MASK, last);

    if (hit)
        interp_debug_hit(c, i, hit);
}

void interp_debug_port(struct interp *c, const struct cell *i, u32 port, unsigned size)
{
    u64 hit = matches(c, c->debug.ports, port, port + size - 1);

    if (hit)
        interp_debug_hit(c, i, hit);
}

void interp_debug_drop(struct interp *c)
{
    if (!c->debug.hits)
        return;
    c->debug.hits = 0;
    vcpu_unkick(c->vcpu, KICK_ENGINE);
}

void interp_debug_collect(struct interp *c)
{
    c->state->pending_debug |= c->debug.hits;
    interp_debug_drop(c);
}

u64 interp_debug_code(const struct interp *c)
{
    const struct vcpu_state *s = c->state;
    u64 lin = vcpu_64bit(s) ? s->rip : (u32)(s->seg[SEG_CS].base + s->rip);

    return matches(c, c->debug.execute, lin, lin);
}

void interp_debug_registers(struct interp *c, u64 dr6)
{
    struct vcpu_state *s = c->state;

    s->dr[6] = (s->dr[6] & ~(u64)DR6_BREAKPOINTS) | (dr6 & DR6_TRAPS);
    s->dr[7] &= ~(u64)DR7_GD;
    s->debugctl &= ~(u64)DEBUGCTL_BTF;
}
