/*
 * What the translator counts of itself, for `plastron info VM jit`. Nothing is counted on a path that host code takes
 * without leaving the block: only where it goes to the cells, to the loop or to C.
 */
#ifndef ENGINE_JIT_STATS_H
#define ENGINE_JIT_STATS_H

#include "base/types.h"
#include "x86/decode.h"

struct jit_vcpu;

/* Why translated code goes on in the cells or in the loop. */
#define JIT_EXITS(X)                                                                                         \
    X(MEMORY, "memory")             /* the access cannot be made directly: see JIT_MISSES */                 \
    X(TARGET, "target")             /* the branch's target is not in the jump table, or not translated */    \
    X(OPERAND, "operand")           /* what the fast path does not cover: alignment, a divisor, MXCSR */     \
    X(UNTRANSLATED, "untranslated") /* an instruction that ends its block has no translation */              \
    X(UNLINKED, "unlinked")         /* a branch inside the page that has no target yet */                    \
    X(BUDGET, "budget")             /* the budget does not cover the next block */                           \
    X(KICK, "kick")                 /* somebody has kicked */                                                \
    X(PAGE, "page")                 /* the next block's page is not known to be mapped where it was */       \
    X(DEAD, "dead")                 /* the next block has died */                                            \
    X(HANDLER, "handler")           /* a handler that was called left to the loop */
/* Why an access could not be made directly. */
#define JIT_MISSES(X)                                                                                        \
    X(TLB, "tlb")           /* a page walk first */                                                          \
    X(PAGE_END, "page_end") /* over the end of a page */                                                     \
    X(CODE, "code")         /* a store to a page with code or page tables, or that is read-only memory */    \
    X(IO, "io")             /* device registers, or a page with a data breakpoint */
/* Why a block was not translated. */
#define JIT_REJECTS(X)                                                                                       \
    X(MODE, "mode")         /* not 64-bit code */                                                            \
    X(PAGE, "page")         /* it is not in memory */                                                        \
    X(HANDLERS, "handlers") /* too many of its instructions have no translation */                           \
    X(ROOM, "room")         /* the cache was full */                                                         \
    X(SIZE, "size")         /* too many exits */

#define JIT_ENUM(id, name) JIT_STAT(id),
#define JIT_STAT(id)       JIT_EXIT_##id
enum jit_exit { JIT_EXITS(JIT_ENUM) JIT_EXIT_COUNT };
#undef JIT_STAT
#define JIT_STAT(id) JIT_MISS_##id
enum jit_miss { JIT_MISSES(JIT_ENUM) JIT_MISS_COUNT };
#undef JIT_STAT
#define JIT_STAT(id) JIT_REJECT_##id
enum jit_reject { JIT_REJECTS(JIT_ENUM) JIT_REJECT_COUNT };
#undef JIT_STAT
#undef JIT_ENUM

struct jit_stats {
    u64 blocks, guest_bytes, host_bytes, nanoseconds; /* translated; the time that it took */
    u64 enters, calls, links, refills, drops;
    u64 exits[JIT_EXIT_COUNT], misses[JIT_MISS_COUNT], rejects[JIT_REJECT_COUNT];
    /* By row of the opcode table: exits to its cell; calls of its handler; blocks that were rejected with it in them. */
    u64 exits_at[OP_COUNT], calls_of[OP_COUNT], rejected_with[OP_COUNT];
};

/* The names above. */
const char *jit_exit_name(enum jit_exit exit);
/* The facts of `info`. */
void jit_stats_tell(const struct jit_stats *stats, void (*fact)(void *, const char *, u64), void *opaque);

/* Of the host's clock, for jit_stats.nanoseconds. */
u64 jit_stats_now(void);

#endif
