/*
 * The FPU's state between guest and host: who owns MXCSR and the x87 control word when, and the checks around
 * instructions that may raise a floating-point exception.
 */
#ifndef ENGINE_INTERP_FPSTATE_H
#define ENGINE_INTERP_FPSTATE_H

#include "engine/interp/interp.h"

/* Once, when the engine attaches: what the host can do. */
void interp_fp_init(struct interp *c);
/*
 * Around the run loop: give the host's FPU to the guest, and take it back with the guest's state complete in c->state.
 * Code that runs in between for the program itself (devices, callbacks) must not compute in floating point.
 */
void interp_fp_enter(struct interp *c);
void interp_fp_leave(struct interp *c);
/* Inside the run loop: bring c->state->mxcsr up to date; and load MXCSR and the x87 control word from c->state after a
   change. */
void interp_fp_sync(struct interp *c);
void interp_fp_load(struct interp *c);

/* ---- SSE exceptions ---- */

/* Which results may be tiny and exact: these raise underflow when it is unmasked, but set no flag when it is masked. */
enum fp_tiny { FP_TINY_none, FP_TINY_ss, FP_TINY_sd, FP_TINY_ps, FP_TINY_pd, FP_TINY_ph };

void interp_fp_check_begin(struct interp *c);
bool interp_fp_tiny(xmm result, enum fp_tiny type);
/* `lane`: the operands, by lane; NULL with a result that neither overflows nor underflows. */
void interp_fp_check_end(struct interp *c, const struct cell *i, bool tiny, const struct fp_lane *lane,
                         unsigned lanes);

/*
 * A handler of an instruction with SSE exceptions: its body has fp_begin(c) before the operation and fp_end(c, i, result,
 * tiny) between that and the commit, which raises #XM for an exception that is not masked. There are two of each handler,
 * since hardly any program unmasks exceptions: the plain one looks once, and has no calls in it.
 */
#define FLOAT_HANDLER(name, ...)                                                                             \
    static __attribute__((noinline)) void name##_checked(struct vcpu_state *s, struct interp *c,             \
                                                         const struct cell *i)                               \
    {                                                                                                        \
        const bool checked = true;                                                                           \
        __VA_ARGS__                                                                                          \
    }                                                                                                        \
    static void name(struct vcpu_state *s, struct interp *c, const struct cell *i)                           \
    {                                                                                                        \
        const bool checked = false;                                                                          \
        if (unlikely(c->fp.sse_unmasked))                                                                    \
            TAIL name##_checked(s, c, i);                                                                    \
        __VA_ARGS__                                                                                          \
    }
#define fp_begin(c)                                                                                          \
    if (checked)                                                                                             \
    interp_fp_check_begin(c)
#define fp_end(c, i, result, tiny)                                                                           \
    if (checked)                                                                                             \
    interp_fp_check_end(c, i, interp_fp_tiny(result, tiny), NULL, 0)
/* Of a result in two lanes (struct ymm of ops_avx.h). */
#define fp_end_lanes(c, i, result, tiny)                                                                     \
    if (checked)                                                                                             \
    interp_fp_check_end(c, i, interp_fp_tiny((result).lo, tiny) || interp_fp_tiny((result).hi, tiny), NULL, 0)
/* The same for what fpstate.c has in its table of operations: with the operands after the old value of the destination. */
#define fp_end_of(c, i, result, tiny, to, a, b)                                                              \
    if (checked)                                                                                             \
    interp_fp_check_end(c, i, interp_fp_tiny(result, tiny), (const struct fp_lane[]){{to, a, b}}, 1)
#define fp_end_lanes_of(c, i, result, tiny, to, a, b)                                                        \
    if (checked)                                                                                             \
    interp_fp_check_end(c, i, interp_fp_tiny((result).lo, tiny) || interp_fp_tiny((result).hi, tiny),        \
                        (const struct fp_lane[]){{(to).lo, (a).lo, (b).lo}, {(to).hi, (a).hi, (b).hi}}, 2)

/* ---- x87 exceptions and MMX ---- */

/* An unmasked x87 exception is pending: #MF, or with CR0.NE clear the way of the PC's interrupt 13. Returns when the
   instruction shall execute all the same. */
void interp_x87_pending(struct interp *c, const struct cell *i);

/* FNCLEX and FNINIT took ES back: FERR# is deasserted. */
void interp_x87_error_cleared(struct interp *c, const struct cell *i);

/* At the start of every waiting x87 instruction and every MMX instruction. */
static inline __attribute__((always_inline)) void x87_check(struct vcpu_state *s, struct interp *c,
                                                            const struct cell *i)
{
    if (unlikely(s->x87.fsw & FSW_ES))
        interp_x87_pending(c, i);
}

/* Recompute ES and B from flags and masks, as every load of status or control word does. */
static inline void x87_summarise(struct x87_state *x87)
{
    x87->fsw &= ~(FSW_ES | FSW_B);
    if (x87->fsw & ~x87->fcw & FSW_FLAGS)
        x87->fsw |= FSW_ES | FSW_B;
}

/* Every MMX instruction but EMMS leaves the x87 unit so (SDM 1 9.5.1). A store that faults has set TOP already. */
static inline __attribute__((always_inline)) void mmx_set_top(struct vcpu_state *s)
{
    s->x87.fsw &= ~FSW_TOP;
}
static inline __attribute__((always_inline)) void mmx_enter(struct vcpu_state *s)
{
    mmx_set_top(s);
    s->x87.tags = 0xff;
}

#endif
