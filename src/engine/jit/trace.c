/* What became of a block, in parts: the entry, the instructions, and behind them the code of its exits. */
#include <stdio.h>

#include "engine/jit/translate.h"
#include "machine/trace.h"

static const char *const fix_names[] = {
    [FIX_BAIL] = "bail",
    [FIX_READ] = "load not in the TLB",
    [FIX_WRITE] = "store not in the TLB",
    [FIX_TARGET] = "target not in the table",
    [FIX_UNLINKED] = "no target yet",
    [FIX_CHECK_PAGE] = "is the page mapped",
};

struct parts {
    const u8 *start; /* of the code */
    unsigned n;
    struct trace_part part[BLOCK_MAX_CELLS + MAX_FIXES + 3];
    char names[MAX_FIXES][64];
};

static struct trace_part *add(struct parts *to, const char *what, const u8 *from, const u8 *end)
{
    struct trace_part *part = &to->part[to->n++];

    *part = (struct trace_part){.what = what, .host = (u32)(from - to->start), .host_len = (u32)(end - from)};
    return part;
}

void jit_trace(const struct translation *t, const u8 *hot, const u8 *cold)
{
    const struct vcpu *vcpu = t->j->interp.vcpu;
    const struct trace_ops *trace = vcpu->vm->trace;
    const struct block *b = t->b;
    struct parts parts = {.start = hot};
    const u8 *behind = t->nfixes ? t->fixes[0].behind : t->cold.p;

    if (!trace->translation)
        return;
    add(&parts, "entry", hot, t->cell_at[0]);
    for (unsigned n = 0; n < t->cell; n++) {
        bool called = t->untranslated >> n & 1;
        struct trace_part *part = add(&parts, called ? "handler" : NULL, t->cell_at[n], t->cell_at[n + 1]);

        part->guest = b->cells[n].start;
        part->guest_len = b->cells[n].len;
    }
    if (t->cell_at[t->cell] != t->e.p)
        add(&parts, "end", t->cell_at[t->cell], t->e.p);
    add(&parts, "cold", cold, behind);
    for (unsigned n = 0; n < t->nfixes; n++) {
        const struct fix *f = &t->fixes[n];

        snprintf(parts.names[n], sizeof(parts.names[n]), "%s%s%s, instruction %u", fix_names[f->kind],
                 f->kind == FIX_BAIL ? ": " : "",
                 f->kind == FIX_BAIL ? jit_exit_name((enum jit_exit)f->exit) : "", f->cell);
        add(&parts, parts.names[n], f->behind, n + 1 < t->nfixes ? t->fixes[n + 1].behind : t->cold.p);
    }
    trace->translation(vcpu->vm->trace_opaque, t->j->interp.vcpu,
                       &(struct trace_translation){
                           .rip = b->rip,
                           .code_size = b->mode & MODE_CODE_MASK,
                           .user = b->mode & MODE_USER,
                           .guest = t->code,
                           .host = hot,
                           .host_address = (u64)(uintptr_t)(t->j->code->rx + (hot - t->j->code->rw)),
                           .nparts = parts.n,
                           .parts = parts.part,
                       });
}
