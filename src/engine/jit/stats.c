/* What the translator counted, as the facts of `plastron info`. */
#include "engine/jit/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME(id, name) name,
static const char *const exits[] = {JIT_EXITS(NAME)}, *const misses[] = {JIT_MISSES(NAME)},
                         *const rejects[] = {JIT_REJECTS(NAME)};
#undef NAME

const char *jit_exit_name(enum jit_exit exit)
{
    return exits[exit];
}

struct teller {
    void (*fact)(void *, const char *, u64);
    void *opaque;
};

static void tell(const struct teller *to, const char *group, const char *name, u64 value)
{
    char path[96];

    snprintf(path, sizeof(path), "%s.%s", group, name);
    to->fact(to->opaque, path, value);
}

/* ---- by mnemonic ---- */

enum { TOP = 20 };

struct by_mnemonic {
    const char *mnemonic;
    u64 count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct by_mnemonic *)a)->mnemonic, ((const struct by_mnemonic *)b)->mnemonic);
}
static int by_count(const void *a, const void *b)
{
    u64 x = ((const struct by_mnemonic *)a)->count, y = ((const struct by_mnemonic *)b)->count;

    return x < y ? 1 : x > y ? -1 : 0;
}

/* The most frequent ones of a counter by row, rows of one mnemonic taken together. */
static void tell_top(const struct teller *to, const char *group, const u64 counts[OP_COUNT])
{
    struct by_mnemonic list[OP_COUNT];
    size_t n = 0, merged = 0;

    for (unsigned op = 1; op < OP_COUNT; op++)
        if (counts[op])
            list[n++] = (struct by_mnemonic){x86_ops[op].mnemonic, counts[op]};
    qsort(list, n, sizeof(*list), by_name);
    for (size_t i = 0; i < n; i++)
        if (merged && !strcmp(list[merged - 1].mnemonic, list[i].mnemonic))
            list[merged - 1].count += list[i].count;
        else
            list[merged++] = list[i];
    qsort(list, merged, sizeof(*list), by_count);
    for (size_t i = 0; i < merged && i < TOP; i++)
        tell(to, group, list[i].mnemonic, list[i].count);
}

void jit_stats_tell(const struct jit_stats *stats, void (*fact)(void *, const char *, u64), void *opaque)
{
    const struct teller to = {fact, opaque};

    tell(&to, "translated", "blocks", stats->blocks);
    tell(&to, "translated", "guest_bytes", stats->guest_bytes);
    tell(&to, "translated", "host_bytes", stats->host_bytes);
    tell(&to, "translated", "expansion_percent",
         stats->guest_bytes ? stats->host_bytes * 100 / stats->guest_bytes : 0);
    tell(&to, "translated", "microseconds", stats->nanoseconds / 1000);
    fact(opaque, "code_cache_flushes", stats->drops);
    fact(opaque, "entries", stats->enters);
    fact(opaque, "links", stats->links);
    fact(opaque, "tlb_refills", stats->refills);
    fact(opaque, "handler_calls", stats->calls);
    for (unsigned n = 0; n < JIT_EXIT_COUNT; n++)
        tell(&to, "exits", exits[n], stats->exits[n]);
    for (unsigned n = 0; n < JIT_MISS_COUNT; n++)
        tell(&to, "exits_for_memory", misses[n], stats->misses[n]);
    for (unsigned n = 0; n < JIT_REJECT_COUNT; n++)
        tell(&to, "blocks_rejected", rejects[n], stats->rejects[n]);
    tell_top(&to, "exits_at", stats->exits_at);
    tell_top(&to, "handler_calls_of", stats->calls_of);
    tell_top(&to, "blocks_rejected_with", stats->rejected_with);
}

u64 jit_stats_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}
