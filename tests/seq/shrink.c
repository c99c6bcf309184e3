/*
 * From a program that fails to a small one that does.
 */
#include <string.h>

#include "seq.h"

struct shrink {
    struct program *p;
    struct schedule *schedule;
    agree_fn *agree;
};

static bool fails(struct shrink *s)
{
    program_assemble(s->p);
    return !s->agree(&s->p->image, s->schedule);
}

static void try_schedule(struct shrink *s, struct schedule better)
{
    struct schedule before = *s->schedule;

    *s->schedule = better;
    if (!fails(s))
        *s->schedule = before;
}

static bool drop(struct shrink *s, unsigned first, unsigned count)
{
    static bool before[MAX_PIECES];
    bool any = false;

    for (unsigned n = first; n < first + count && n < s->p->npieces; n++) {
        before[n] = s->p->pieces[n].dropped;
        any |= !before[n];
        s->p->pieces[n].dropped = true;
    }
    if (any && fails(s))
        return true;
    for (unsigned n = first; n < first + count && n < s->p->npieces; n++)
        s->p->pieces[n].dropped = before[n];
    return false;
}

static bool drop_some(struct shrink *s)
{
    bool any = false;

    for (unsigned size = s->p->npieces / 2; size; size /= 2)
        for (unsigned first = 0; first < s->p->npieces; first += size)
            any |= drop(s, first, size);
    return any;
}

static void try_bytes(struct shrink *s, void *at, const void *value, size_t size)
{
    u8 before[16];

    if (!memcmp(at, value, size))
        return;
    memcpy(before, at, size);
    memcpy(at, value, size);
    if (!fails(s))
        memcpy(at, before, size);
}
static void try_number(struct shrink *s, u64 *at, u64 value)
{
    try_bytes(s, at, &value, 8);
}
static void try_flag(struct shrink *s, bool *at, bool value)
{
    try_bytes(s, at, &value, sizeof(value));
}

/* The least total that still fails. */
static void shorten(struct shrink *s)
{
    struct schedule better = *s->schedule;

    for (u32 step = better.total / 2; step; step /= 2)
        while (s->schedule->total > step) {
            u32 before = s->schedule->total;

            better = *s->schedule;
            better.total -= step;
            try_schedule(s, better);
            if (s->schedule->total == before)
                break;
        }
}

void shrink_program(struct program *p, struct schedule *schedule, agree_fn *agree)
{
    struct shrink s = {p, schedule, agree};
    struct schedule better = *schedule;
    struct image *image = &p->image;

    for (u8 event = 1; event <= EVENT_HOP; event *= 2) {
        better.events = schedule->events & (u8)~event;
        try_schedule(&s, better);
        better = *schedule;
    }
    better.kind = better.kind == SCHEDULE_FREE ? SCHEDULE_FREE : SCHEDULE_WHOLE;
    try_schedule(&s, better);
    for (u64 limit = image->limit; --limit < image->limit && limit;)
        try_number(&s, &image->limit, limit);
    shorten(&s);
    while (drop_some(&s))
        ;
    shorten(&s);
    try_flag(&s, &image->user, false);
    try_flag(&s, &image->smap, false);
    try_flag(&s, &image->pcid, false);
    try_flag(&s, &image->write_protect, true);
    try_flag(&s, &image->align_check, false);
    try_flag(&s, &image->vectors_zero, true);
    try_number(&s, &image->rflags, 0);
    try_number(&s, &image->fs_base, 0);
    try_number(&s, &image->gs_base, 0);
    try_number(&s, &image->seed, 0);
    for (unsigned n = 0; n < 16; n++) {
        try_number(&s, &image->gpr[n], n == RSP ? STACK_USUAL : 0);
        try_number(&s, &image->gpr[n], DATA_BASE);
        try_number(&s, &image->gpr[n], image->gpr[n] & 0xff);
    }
    drop_some(&s);
    shorten(&s);
    if (fails(&s) && p->ntables) {
        unsigned tables = p->ntables;
        u64 contents[ARRAY_SIZE(image->tables)];

        memcpy(contents, image->tables, sizeof(contents));
        memset(image->tables, 0, sizeof(image->tables));
        p->ntables = 0;
        if (!fails(&s)) {
            p->ntables = tables;
            memcpy(image->tables, contents, sizeof(contents));
        }
    }
    program_assemble(p);
}
