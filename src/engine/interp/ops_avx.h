/*
 * Shared by the files of VEX handlers: access to YMM registers and memory operands, and the handlers' shapes.
 *
 * Nearly every 256-bit instruction is the 128-bit one on each of two lanes, so VEX forms are made of the same primitives
 * as legacy SSE (fp.h): with the first operand from VEX.vvvv instead of the destination, once for VEX.128, which clears the
 * rest of the register, and twice for VEX.256. The host needs no AVX.
 *
 * How to add a VEX row:
 * - There is a primitive xmm_NAME(&c->fp, a, b) or xmm_NAME(&c->fp, a, b, imm) in a list of fp.h. VPNAME is then made by
 *   one line for the handlers and one for the rows, by the kind of the list:
 *       LIST(AVX_OP)          LIST(AVX_BINARY_ROW)        two operands, lane by lane (or AVX_UNARY_ROW: one operand)
 *       LIST(AVX_SCALAR_OP)   LIST(AVX_SCALAR_ROW)        the low element; VEX.L means nothing
 *       LIST(AVX_IMM_OP)      LIST(AVX_IMM_ROW) ...       with an immediate byte
 *       LIST(AVX_FLOAT_OP)    ...                         with exceptions
 * - The rows follow from the list's `form`, which is that of the legacy row; AVX_BINARY_<form> below says how.
 * - An instruction without a list, or with operands of its own, takes a shape: AVX_SHAPE_128(name, bytes, expression) makes
 *   name_128_r and name_128_m of an expression of a (vvvv) and b (rm); AVX_SHAPE_256 likewise, of one lane each time;
 *   AVX_FLOAT_SHAPE_... with exceptions. A third operand is the destination's old value: avx_old(s, i, lane).
 * - Where opcodes.tbl has one row for both lengths ("x", ps, pd operands), ROW_L(OP, name) takes the handler by VEX.L; rows
 *   of their own ("dq", "qq") take ROW_RM(OP, name_128_r, name_128_m) and so on.
 * - Take `later` out of the row. #UD and #NM, reserved vvvv, L and W are looked after (block.c, decode.c).
 */
#ifndef ENGINE_INTERP_OPS_AVX_H
#define ENGINE_INTERP_OPS_AVX_H

#include "engine/interp/ops_sse.h"

/* ---- operands ---- */

struct ymm {
    xmm lo, hi;
};
static ALWAYS_INLINE struct ymm ymm_get(const struct vcpu_state *s, unsigned n)
{
    return (struct ymm){xmm_get(s, n), *(const xmm_unaligned *)(s->vec[n] + 16)};
}
/* Bits from 256 on are always zero: no model offers AVX-512. */
static ALWAYS_INLINE void ymm_set(struct vcpu_state *s, unsigned n, struct ymm v)
{
    xmm_set(s, n, v.lo);
    *(xmm_unaligned *)(s->vec[n] + 16) = v.hi;
}
/* What VEX.128 does: the upper half becomes zero. */
static ALWAYS_INLINE void ymm_set_low(struct vcpu_state *s, unsigned n, xmm v)
{
    ymm_set(s, n, (struct ymm){v, {0, 0}});
}

/* A source operand of 16, 8, 4, 2 or 1 bytes (the rest zero), which need not be aligned. */
static ALWAYS_INLINE xmm avx_load(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                  unsigned bytes)
{
    return bytes == 16 ? sse_load_unaligned(s, c, i) : sse_load(s, c, i, bytes);
}
static ALWAYS_INLINE struct ymm load256(struct interp *c, const struct cell *i, u64 lin)
{
    const struct tlb_entry *e = tlb_slot(c->tlb, lin);
    const volatile xmm_unaligned *from = (const volatile xmm_unaligned *)(uintptr_t)(lin + e->addend);

    if (unlikely(e->tag_read != ((lin + 31) & PAGE_MASK))) {
        from = (const volatile xmm_unaligned *)c->bounce.data;
        KEEP_CALL(interp_load_bytes, c, i, lin, (uintptr_t)from, 32);
    }
    return (struct ymm){from[0], from[1]};
}
static ALWAYS_INLINE struct ymm avx_load_ymm(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    return load256(c, i, interp_ea(s, c, i, 32, MEM_READ));
}
/* The destination before the instruction, for those that have it as an operand. */
static ALWAYS_INLINE xmm avx_old(const struct vcpu_state *s, const struct cell *i, unsigned lane)
{
    return *(const xmm_unaligned *)(s->vec[i->reg] + 16 * lane);
}
/* The register in imm8[7:4]; there are eight outside 64-bit code (SDM 2A 2.3.7). */
static ALWAYS_INLINE xmm avx_is4(const struct vcpu_state *s, const struct interp *c, const struct cell *i,
                                 unsigned lane)
{
    unsigned n = (u8)i->imm >> 4 & ((c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 15 : 7);

    return *(const xmm_unaligned *)(s->vec[n] + 16 * lane);
}

/* ---- shapes ---- */

/* name_128_r and name_128_m: reg = expression of a (vvvv; for one operand it is to be left alone) and b (rm). */
#define AVX_SHAPE_128(name, bytes, expression)                                                               \
    VECTOR_SHAPE(name##_128, vvvv, avx_load, ymm_set_low, bytes, AVX_LANE(0, expression))
#define AVX_SHAPE_128_R(name, expression)                                                                    \
    VECTOR_SHAPE_R(name##_128, vvvv, ymm_set_low, AVX_LANE(0, expression))
#define AVX_SHAPE_128_M(name, bytes, expression)                                                             \
    VECTOR_SHAPE_M(name##_128, vvvv, avx_load, ymm_set_low, bytes, AVX_LANE(0, expression))
#define AVX_FLOAT_SHAPE_128(name, bytes, expression, tiny)                                                   \
    VECTOR_FLOAT_SHAPE(name##_128, vvvv, avx_load, ymm_set_low, bytes, AVX_LANE(0, expression), tiny)

/* `lane` is there for expressions that ask for it. */
#define AVX_LANE(number, expression)                                                                         \
    ({                                                                                                       \
        enum { lane = number };                                                                              \
                                                                                                             \
        (expression);                                                                                        \
    })
#define AVX_LANES(x, y, expression)                                                                          \
    (struct ymm)                                                                                             \
    {                                                                                                        \
        ({                                                                                                   \
            xmm a = (x).lo, b = (y).lo;                                                                      \
                                                                                                             \
            (void)a;                                                                                         \
            AVX_LANE(0, expression);                                                                         \
        }),                                                                                                  \
            ({                                                                                               \
                xmm a = (x).hi, b = (y).hi;                                                                  \
                                                                                                             \
                (void)a;                                                                                     \
                AVX_LANE(1, expression);                                                                     \
            })                                                                                               \
    }
/* name_256_r and name_256_m: the same of each lane. */
#define AVX_SHAPE_256(name, expression)                                                                      \
    static void name##_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        struct ymm x = ymm_get(s, i->vvvv), y = ymm_get(s, i->rm);                                           \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(x, y, expression));                                                     \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_256_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        struct ymm y = avx_load_ymm(s, c, i), x = ymm_get(s, i->vvvv);                                       \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(x, y, expression));                                                     \
        NEXT;                                                                                                \
    }
#define AVX_FLOAT_SHAPE_256(name, expression, tiny)                                                          \
    FLOAT_HANDLER(name##_256_r, struct ymm x = ymm_get(s, i->vvvv), y = ymm_get(s, i->rm), r; fp_begin(c);   \
                  r = AVX_LANES(x, y, expression);                                                           \
                  fp_end_lanes_of(c, i, r, FP_TINY_##tiny, ymm_get(s, i->reg), x, y); ymm_set(s, i->reg, r); \
                  NEXT;)                                                                                     \
    FLOAT_HANDLER(name##_256_m, struct ymm y = avx_load_ymm(s, c, i), x = ymm_get(s, i->vvvv), r;            \
                  fp_begin(c); r = AVX_LANES(x, y, expression);                                              \
                  fp_end_lanes_of(c, i, r, FP_TINY_##tiny, ymm_get(s, i->reg), x, y); ymm_set(s, i->reg, r); \
                  NEXT;)

/* name_256_r and name_256_m from a source of 16, 8 or 4 bytes (twice `bytes`), of which each lane takes half. */
#define AVX_SOURCE_HALVES(source, bytes)                                                                     \
    {                                                                                                        \
        (source), (bytes) == 8 ? (xmm){(source)[1], 0} : (xmm)                                               \
        {                                                                                                    \
            (source)[0] >> 8 * ((bytes)&7), 0                                                                \
        }                                                                                                    \
    }
#define AVX_WIDEN_256(name, bytes, expression)                                                               \
    static void name##_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm source = xmm_get(s, i->rm);                                                                      \
        struct ymm y = AVX_SOURCE_HALVES(source, bytes);                                                     \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(y, y, expression));                                                     \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_256_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm source = avx_load(s, c, i, 2 * bytes);                                                           \
        struct ymm y = AVX_SOURCE_HALVES(source, bytes);                                                     \
                                                                                                             \
        ymm_set(s, i->reg, AVX_LANES(y, y, expression));                                                     \
        NEXT;                                                                                                \
    }
#define AVX_FLOAT_WIDEN_256(name, bytes, expression, tiny)                                                   \
    FLOAT_HANDLER(name##_256_r, xmm source = xmm_get(s, i->rm);                                              \
                  struct ymm y = AVX_SOURCE_HALVES(source, bytes), r; fp_begin(c);                           \
                  r = AVX_LANES(y, y, expression); fp_end_lanes(c, i, r, FP_TINY_##tiny);                    \
                  ymm_set(s, i->reg, r); NEXT;)                                                              \
    FLOAT_HANDLER(name##_256_m, xmm source = avx_load(s, c, i, 2 * bytes);                                   \
                  struct ymm y = AVX_SOURCE_HALVES(source, bytes), r; fp_begin(c);                           \
                  r = AVX_LANES(y, y, expression); fp_end_lanes(c, i, r, FP_TINY_##tiny);                    \
                  ymm_set(s, i->reg, r); NEXT;)
/* name_256_r and name_256_m with a result of half the size: the low halves of both lanes' results. */
#define AVX_JOIN_LOW(r) ((xmm){(r).lo[0], (r).hi[0]})
#define AVX_FLOAT_NARROW_256(name, expression, tiny)                                                         \
    FLOAT_HANDLER(name##_256_r, struct ymm y = ymm_get(s, i->rm), r; xmm v; fp_begin(c);                     \
                  r = AVX_LANES(y, y, expression); fp_end_lanes_of(c, i, r, FP_TINY_##tiny, y, y, y);        \
                  v = AVX_JOIN_LOW(r); ymm_set_low(s, i->reg, v); NEXT;)                                     \
    FLOAT_HANDLER(name##_256_m, struct ymm y = avx_load_ymm(s, c, i), r; xmm v; fp_begin(c);                 \
                  r = AVX_LANES(y, y, expression); fp_end_lanes_of(c, i, r, FP_TINY_##tiny, y, y, y);        \
                  v = AVX_JOIN_LOW(r); ymm_set_low(s, i->reg, v); NEXT;)

/* Both lengths. */
#define AVX_SHAPE(name, expression) AVX_SHAPE_128(name, 16, expression) AVX_SHAPE_256(name, expression)
#define AVX_FLOAT_SHAPE(name, expression, tiny)                                                              \
    AVX_FLOAT_SHAPE_128(name, 16, expression, tiny)                                                          \
    AVX_FLOAT_SHAPE_256(name, expression, tiny)

/* ---- makers of handlers from the lists of fp.h ---- */

#define AVX_IMM(shift) ((u8)((u8)i->imm >> (shift)*lane))

#define AVX_OP(name, form, bytes, ...) AVX_SHAPE(name, xmm_##name(&c->fp, a, b))
#define AVX_IMM_OP(name, form, bytes, count, mask, at, ...)                                                  \
    AVX_SHAPE(name, xmm_##name(&c->fp, a, b, AVX_IMM(at)))
#define AVX_FLOAT_OP(name, form, bytes, tiny, ...) AVX_FLOAT_SHAPE(name, xmm_##name(&c->fp, a, b), tiny)
#define AVX_FLOAT_IMM_OP(name, form, bytes, count, mask, at, tiny, ...)                                      \
    AVX_FLOAT_SHAPE(name, xmm_##name(&c->fp, a, b, AVX_IMM(at)), tiny)
#define AVX_SCALAR_OP(name, form, bytes, ...) AVX_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b))
#define AVX_FLOAT_SCALAR_OP(name, form, bytes, tiny, ...)                                                    \
    AVX_FLOAT_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b), tiny)
#define AVX_FLOAT_SCALAR_IMM_OP(name, form, bytes, count, mask, at, tiny, ...)                               \
    AVX_FLOAT_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b, (u8)i->imm), tiny)

#define AVX_EXTEND_OP(name, form, bytes, ...)                                                                \
    AVX_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b))                                                     \
    AVX_WIDEN_256(name, bytes, xmm_##name(&c->fp, a, b))
#define AVX_WIDEN_OP(name, form, bytes, tiny, ...)                                                           \
    AVX_FLOAT_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b), tiny)                                         \
    AVX_FLOAT_WIDEN_256(name, bytes, xmm_##name(&c->fp, a, b), tiny)
#define AVX_NARROW_OP(name, form, bytes, tiny, ...)                                                          \
    AVX_FLOAT_SHAPE_128(name, bytes, xmm_##name(&c->fp, a, b), tiny)                                         \
    AVX_FLOAT_NARROW_256(name, xmm_##name(&c->fp, a, b), tiny)

/* ---- makers of rows ---- */

/* One row for both lengths; a row for each. */
#define ROW_L(op, name)   {OP_##op, ROW_VEX_L, {name##_128_r, name##_256_r}, {name##_128_m, name##_256_m}},
#define ROW_128(op, name) ROW_RM(op, name##_128_r, name##_128_m)
#define ROW_256(op, name) ROW_RM(op, name##_256_r, name##_256_m)

/* From the form of the legacy row to those of VEX. */
#define AVX_BINARY_Vdq_Wdq(name) ROW_128(V##name##_Vdq_Hdq_Wdq, name) ROW_256(V##name##_Vqq_Hqq_Wqq, name)
#define AVX_BINARY_Vps_Wps(name) ROW_L(V##name##_Vps_Hps_Wps, name)
#define AVX_BINARY_Vpd_Wpd(name) ROW_L(V##name##_Vpd_Hpd_Wpd, name)
#define AVX_BINARY_Vdq_Wdq_Ib(name)                                                                          \
    ROW_128(V##name##_Vdq_Hdq_Wdq_Ib, name) ROW_256(V##name##_Vqq_Hqq_Wqq_Ib, name)
#define AVX_BINARY_Vps_Wps_Ib(name) ROW_L(V##name##_Vps_Hps_Wps_Ib, name)
#define AVX_BINARY_Vpd_Wpd_Ib(name) ROW_L(V##name##_Vpd_Hpd_Wpd_Ib, name)

#define AVX_UNARY_Vdq_Wdq(name)    ROW_128(V##name##_Vdq_Wdq, name) ROW_256(V##name##_Vqq_Wqq, name)
#define AVX_UNARY_Vps_Wps(name)    ROW_L(V##name##_Vps_Wps, name)
#define AVX_UNARY_Vpd_Wpd(name)    ROW_L(V##name##_Vpd_Wpd, name)
#define AVX_UNARY_Vps_Wdq(name)    ROW_L(V##name##_Vps_Wx, name)
#define AVX_UNARY_Vdq_Wps(name)    ROW_L(V##name##_Vx_Wps, name)
#define AVX_UNARY_Vdq_Wdq_Ib(name) ROW_128(V##name##_Vdq_Wdq_Ib, name) ROW_256(V##name##_Vqq_Wqq_Ib, name)
#define AVX_UNARY_Vps_Wps_Ib(name) ROW_L(V##name##_Vps_Wps_Ib, name)
#define AVX_UNARY_Vpd_Wpd_Ib(name) ROW_L(V##name##_Vpd_Wpd_Ib, name)

#define AVX_UNARY_Vdq_Wq(name)  ROW_128(V##name##_Vdq_Wq, name) ROW_256(V##name##_Vqq_Wdq, name)
#define AVX_UNARY_Vdq_Wd(name)  ROW_128(V##name##_Vdq_Wd, name) ROW_256(V##name##_Vqq_Wq, name)
#define AVX_UNARY_Vdq_Ww(name)  ROW_128(V##name##_Vdq_Ww, name) ROW_256(V##name##_Vqq_Wd, name)
#define AVX_UNARY_Vpd_Wps(name) ROW_L(V##name##_Vpd_Wps, name)
#define AVX_UNARY_Vpd_Wq(name)  ROW_L(V##name##_Vpd_Wdq, name)
#define AVX_UNARY_Vps_Wpd(name) ROW_L(V##name##_Vps_Wpd, name)
#define AVX_UNARY_Vdq_Wpd(name) ROW_L(V##name##_Vdq_Wpd, name)

#define AVX_SCALAR_Vss_Wss(name)    ROW_128(V##name##_Vss_Hss_Wss, name)
#define AVX_SCALAR_Vsd_Wsd(name)    ROW_128(V##name##_Vsd_Hsd_Wsd, name)
#define AVX_SCALAR_Vsd_Wss(name)    ROW_128(V##name##_Vsd_Hsd_Wss, name)
#define AVX_SCALAR_Vss_Wsd(name)    ROW_128(V##name##_Vss_Hss_Wsd, name)
#define AVX_SCALAR_Vss_Wss_Ib(name) ROW_128(V##name##_Vss_Hss_Wss_Ib, name)
#define AVX_SCALAR_Vsd_Wsd_Ib(name) ROW_128(V##name##_Vsd_Hsd_Wsd_Ib, name)

#define AVX_BINARY_ROW(name, form, ...) AVX_BINARY_##form(name)
#define AVX_UNARY_ROW(name, form, ...)  AVX_UNARY_##form(name)
#define AVX_SCALAR_ROW(name, form, ...) AVX_SCALAR_##form(name)

#endif
