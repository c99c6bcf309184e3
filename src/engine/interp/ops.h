/*
 * What the handlers of integer instructions share: registers by width, and the macros that make one handler a width.
 */
#ifndef ENGINE_INTERP_OPS_H
#define ENGINE_INTERP_OPS_H

#include "engine/interp/flags.h"
#include "engine/interp/mem.h"

#define HANDLER(name) static void name(struct vcpu_state *s, struct interp *c, const struct cell *i)

/* Registers: byte ones by byte offset, others by number; a 32-bit write clears the upper half (SDM 1 3.4.1.1). */
static ALWAYS_INLINE u8 get8(const struct vcpu_state *s, unsigned n)
{
    return ((const u8 *)s->gpr)[n];
}
static ALWAYS_INLINE u16 get16(const struct vcpu_state *s, unsigned n)
{
    return (u16)s->gpr[n];
}
static ALWAYS_INLINE u32 get32(const struct vcpu_state *s, unsigned n)
{
    return (u32)s->gpr[n];
}
static ALWAYS_INLINE u64 get64(const struct vcpu_state *s, unsigned n)
{
    return s->gpr[n];
}
static ALWAYS_INLINE void set8(struct vcpu_state *s, unsigned n, u8 v)
{
    ((u8 *)s->gpr)[n] = v;
}
static ALWAYS_INLINE void set16(struct vcpu_state *s, unsigned n, u16 v)
{
    *(u16 *)&s->gpr[n] = v;
}
static ALWAYS_INLINE void set32(struct vcpu_state *s, unsigned n, u32 v)
{
    s->gpr[n] = v;
}
static ALWAYS_INLINE void set64(struct vcpu_state *s, unsigned n, u64 v)
{
    s->gpr[n] = v;
}

/* A register of the operand size, for handlers that are not made per width. */
static inline u64 get_sized(const struct vcpu_state *s, unsigned n, unsigned size)
{
    return size == 8 ? s->gpr[n] : size == 4 ? (u32)s->gpr[n] : (u16)s->gpr[n];
}
static inline void set_sized(struct vcpu_state *s, unsigned n, unsigned size, u64 v)
{
    if (size == 8)
        set64(s, n, v);
    else if (size == 4)
        set32(s, n, (u32)v);
    else
        set16(s, n, (u16)v);
}

/* The asm suffix and operand modifier of a width. */
#define SUFFIX_8  "b"
#define SUFFIX_16 "w"
#define SUFFIX_32 "l"
#define SUFFIX_64 "q"

/* Expand a macro M(..., bits) for every operand width, or for those of "v" operands. */
#define FOR_V(M, ...)   M(__VA_ARGS__, 16) M(__VA_ARGS__, 32) M(__VA_ARGS__, 64)
#define FOR_ALL(M, ...) M(__VA_ARGS__, 8) FOR_V(M, __VA_ARGS__)

/* Expand M(name, number) for the 16 conditions (the low bits of Jcc, SETcc and CMOVcc). */
#define FOR_CONDITIONS(M)                                                                                    \
    M(O, 0)                                                                                                  \
    M(NO, 1)                                                                                                 \
    M(B, 2)                                                                                                  \
    M(NB, 3)                                                                                                 \
    M(Z, 4)                                                                                                  \
    M(NZ, 5) M(BE, 6) M(NBE, 7) M(S, 8) M(NS, 9) M(P, 10) M(NP, 11) M(L, 12) M(NL, 13) M(LE, 14) M(NLE, 15)

/* Entries of struct interp_row: handlers named `prefix`16, 32 and 64; a byte handler for any size; none. */
#define BY_SIZE(prefix)                                                                                      \
    {                                                                                                        \
        prefix##16, prefix##32, prefix##64                                                                   \
    }
#define NO_FORM                                                                                              \
    {                                                                                                        \
        NULL, NULL, NULL                                                                                     \
    }

/* Pushes and pops of the current stack, with the fast path for 64-bit code. RSP changes after the access. */
void interp_push_slow(struct interp *c, const struct cell *i, unsigned size, u64 value);
u64 interp_pop_slow(struct interp *c, const struct cell *i, unsigned size);

static ALWAYS_INLINE void push(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size,
                               u64 value)
{
    if (likely((c->mode & MODE_CODE_MASK) == MODE_CODE64 && size == 8)) {
        u64 sp = s->gpr[RSP] - 8;
        const struct tlb_entry *e = tlb_slot(c->tlb, sp);

        if (likely(e->tag_write == ((sp + 7) & PAGE_MASK))) {
            *(volatile u64_unaligned *)(uintptr_t)(sp + e->addend) = value;
            s->gpr[RSP] = sp;
            return;
        }
    }
    KEEP_CALL(interp_push_slow, c, i, (u64)size, value, 0);
}

static ALWAYS_INLINE u64 pop(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    if (likely((c->mode & MODE_CODE_MASK) == MODE_CODE64 && size == 8)) {
        u64 sp = s->gpr[RSP];
        const struct tlb_entry *e = tlb_slot(c->tlb, sp);

        if (likely(e->tag_read == ((sp + 7) & PAGE_MASK))) {
            s->gpr[RSP] = sp + 8;
            return *(const volatile u64_unaligned *)(uintptr_t)(sp + e->addend);
        }
    }
    return KEEP_CALL(interp_pop_slow, c, i, (u64)size, 0, 0);
}

#endif
