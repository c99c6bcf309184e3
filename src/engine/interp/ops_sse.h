/*
 * Shared by the files of vector handlers: access to registers and memory operands, and the handlers' shapes.
 */
#ifndef ENGINE_INTERP_OPS_SSE_H
#define ENGINE_INTERP_OPS_SSE_H

#include "engine/interp/fpstate.h"
#include "engine/interp/mem.h"

static ALWAYS_INLINE xmm xmm_get(const struct vcpu_state *s, unsigned n)
{
    return *(const xmm_unaligned *)s->vec[n];
}
static ALWAYS_INLINE void xmm_set(struct vcpu_state *s, unsigned n, xmm v)
{
    *(xmm_unaligned *)s->vec[n] = v;
}
/* Elements 0 in place. */
static ALWAYS_INLINE u32 xmm_get32(const struct vcpu_state *s, unsigned n)
{
    return *(const u32_unaligned *)s->vec[n];
}
static ALWAYS_INLINE u64 xmm_get64(const struct vcpu_state *s, unsigned n)
{
    return *(const u64_unaligned *)s->vec[n];
}
static ALWAYS_INLINE void xmm_set32(struct vcpu_state *s, unsigned n, u32 v)
{
    *(u32_unaligned *)s->vec[n] = v;
}
static ALWAYS_INLINE void xmm_set64(struct vcpu_state *s, unsigned n, u64 v)
{
    *(u64_unaligned *)s->vec[n] = v;
}
/* MASKMOVDQU and MASKMOVQ: store the bytes of `from` whose mask byte has its top bit set to [seg:rDI]. */
void interp_masked_store(struct vcpu_state *s, struct interp *c, const struct cell *i, const u8 *from,
                         const u8 *mask, unsigned size);

static ALWAYS_INLINE xmm xmm_from64(u64 v)
{
    return (xmm){v, 0};
}
/* Bytes out of two vectors, `low` below `high`, from byte `from` on; beyond them zeros. */
static inline xmm xmm_bytes_from(xmm low, xmm high, unsigned from)
{
    u8 bytes[48] = {0};
    xmm r;

    if (from > 32)
        from = 32;
    memcpy(bytes, &low, 16);
    memcpy(bytes + 16, &high, 16);
    memcpy(&r, bytes + from, 16);
    return r;
}
/* PSRLDQ and PSLLDQ. */
static inline xmm xmm_shift_right_bytes(xmm v, unsigned n)
{
    return xmm_bytes_from(v, (xmm){0, 0}, n);
}
static inline xmm xmm_shift_left_bytes(xmm v, unsigned n)
{
    return n > 15 ? (xmm){0, 0} : xmm_bytes_from((xmm){0, 0}, v, 16 - n);
}

/* Address of an operand of 16 or 32 bytes that has to be aligned (SDM 2 table 2-21, type 4; VEX forms of type 1). */
static ALWAYS_INLINE u64 sse_aligned_ea(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                        unsigned bytes, enum mem_access access)
{
    unsigned limited = i->flags & (CELL_ADDR32 | CELL_ADDR16);
    u64 lin;

    if (unlikely(!(i->flags & CELL_PLAIN_EA) && limited && limited != CELL_FLAT32))
        return KEEP_CALL(interp_aligned_ea_slow, c, i, (u64)bytes, access, 0);
    lin = interp_ea(s, c, i, bytes, access);
    if (unlikely(lin & (bytes - 1)))
        raise_gp(c, i, 0);
    return lin;
}
static ALWAYS_INLINE xmm sse_load_unaligned(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    return load128(c, i, interp_ea(s, c, i, 16, MEM_READ));
}
/* A source operand of 16 (aligned), 8, 4, 2 or 1 bytes (the rest zero). */
static ALWAYS_INLINE xmm sse_load(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                  unsigned bytes)
{
    if (bytes == 16)
        return load128(c, i, sse_aligned_ea(s, c, i, 16, MEM_READ));
    if (bytes == 8)
        return xmm_from64(load64(c, i, interp_ea(s, c, i, 8, MEM_READ)));
    if (bytes == 4)
        return xmm_from64(load32(c, i, interp_ea(s, c, i, 4, MEM_READ)));
    if (bytes == 2)
        return xmm_from64(load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));
    return xmm_from64(load8(c, i, interp_ea(s, c, i, 1, MEM_READ)));
}

/*
 * name_r and name_m: reg = expression of a, the register that the cell names in `first`, and b (rm). `load` and `set` are
 * those of legacy SSE (ops_sse.h) or of VEX (ops_avx.h).
 */
#define VECTOR_SHAPE_R(name, first, set, expression)                                                         \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        xmm a = xmm_get(s, i->first), b = xmm_get(s, i->rm);                                                 \
                                                                                                             \
        (void)a;                                                                                             \
        set(s, i->reg, expression);                                                                          \
        NEXT;                                                                                                \
    }
#define VECTOR_SHAPE_M(name, first, load, set, bytes, expression)                                            \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        xmm b = load(s, c, i, bytes), a = xmm_get(s, i->first);                                              \
                                                                                                             \
        (void)a;                                                                                             \
        set(s, i->reg, expression);                                                                          \
        NEXT;                                                                                                \
    }
#define VECTOR_SHAPE(name, first, load, set, bytes, expression)                                              \
    VECTOR_SHAPE_R(name, first, set, expression)                                                             \
    VECTOR_SHAPE_M(name, first, load, set, bytes, expression)
/* The same, with exceptions. */
#define VECTOR_FLOAT_SHAPE(name, first, load, set, bytes, expression, tiny)                                  \
    FLOAT_HANDLER(name##_r, xmm a = xmm_get(s, i->first), b = xmm_get(s, i->rm), r; fp_begin(c);             \
                  r = expression; fp_end_of(c, i, r, FP_TINY_##tiny, xmm_get(s, i->reg), a, b);              \
                  set(s, i->reg, r); NEXT;)                                                                  \
    FLOAT_HANDLER(name##_m, xmm b = load(s, c, i, bytes), a = xmm_get(s, i->first), r; fp_begin(c);          \
                  r = expression; fp_end_of(c, i, r, FP_TINY_##tiny, xmm_get(s, i->reg), a, b);              \
                  set(s, i->reg, r); NEXT;)

/* Vx = expression of a (Vx) and b (Wx). */
#define SSE_SHAPE(name, bytes, expression) VECTOR_SHAPE(name, reg, sse_load, xmm_set, bytes, expression)
#define SSE_FLOAT_SHAPE(name, bytes, expression, tiny)                                                       \
    VECTOR_FLOAT_SHAPE(name, reg, sse_load, xmm_set, bytes, expression, tiny)

/* Makers of handlers and rows from the lists of fp.h. */
#define SSE_INT_OP(name, form, bytes, ...)  SSE_SHAPE(name, bytes, xmm_##name(&c->fp, a, b))
#define SSE_IMM_OP(name, form, bytes, ...)  SSE_SHAPE(name, bytes, xmm_##name(&c->fp, a, b, (u8)i->imm))
#define SSE_XMM0_OP(name, form, bytes, ...) SSE_SHAPE(name, bytes, xmm_##name(&c->fp, a, b, xmm_get(s, 0)))
#define SSE_FLOAT_OP(name, form, bytes, tiny, ...)                                                           \
    SSE_FLOAT_SHAPE(name, bytes, xmm_##name(&c->fp, a, b), tiny)
#define SSE_FLOAT_IMM_OP(name, form, bytes, count, mask, lane, tiny, ...)                                    \
    SSE_FLOAT_SHAPE(name, bytes, xmm_##name(&c->fp, a, b, (u8)i->imm), tiny)
#define SSE_ROW(name, form, ...) {OP_##name##_##form, 0, ANY_SIZE(name##_r), ANY_SIZE(name##_m)},

/* Rows written by hand. */
#define ROW_RM(op, r, m) {OP_##op, 0, ANY_SIZE(r), ANY_SIZE(m)},
#define ROW_R(op, r)     {OP_##op, 0, .reg = ANY_SIZE(r)},
#define ROW_M(op, m)     {OP_##op, 0, .mem = ANY_SIZE(m)},

#endif
