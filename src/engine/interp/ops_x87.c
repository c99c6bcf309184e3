/*
 * x87: arithmetic, comparisons, loads and stores. (Control instructions are in ops_fpstate.c.)
 *
 * Most handlers are a fast path for what nearly always holds: all exceptions masked, the registers that it reads not empty,
 * the one that it pushes to empty. Everything else, stack faults and unmasked exceptions, and the rarer instructions
 * altogether, goes through x87_execute: the whole x87 state on the host for one instruction.
 *
 * Pointers are as on CPUs with CPUID 7.EBX bit 6 and no FOP compatibility mode: FIP is every instruction's, FDP and FOP are
 * those of the last unmasked exception. On other CPUs interp_x87_recorded stands before every handler.
 *
 * The cell's immediate holds FOP: opcode byte (3 bits) and ModRM.
 */
#include "engine/interp/block.h"
#include "engine/interp/flags.h"
#include "engine/interp/ops_sse.h"

enum { CODES = FSW_C0 | FSW_C2 | FSW_C3 };

static ALWAYS_INLINE unsigned physical(const struct vcpu_state *s, unsigned n)
{
    return ((s->x87.fsw >> FSW_TOP_SHIFT) + n) & 7;
}
static ALWAYS_INLINE struct x87_reg *st(struct vcpu_state *s, unsigned n)
{
    return &s->x87.reg[physical(s, n)];
}
static ALWAYS_INLINE bool valid(const struct vcpu_state *s, unsigned n)
{
    return s->x87.tags >> physical(s, n) & 1;
}
/* The ST(i) operand. */
static ALWAYS_INLINE unsigned sti(const struct cell *i)
{
    return i->rm & 7;
}

static ALWAYS_INLINE void add_to_top(struct vcpu_state *s, unsigned n)
{
    s->x87.fsw = (s->x87.fsw & ~FSW_TOP) | ((s->x87.fsw + (n << FSW_TOP_SHIFT)) & FSW_TOP);
}
static ALWAYS_INLINE void pop(struct vcpu_state *s)
{
    s->x87.tags &= ~(1 << physical(s, 0));
    add_to_top(s, 1);
}
/* The register that a push makes ST(0), which is known to be empty. */
static ALWAYS_INLINE void push(struct vcpu_state *s, const struct x87_reg *value)
{
    add_to_top(s, 7);
    *st(s, 0) = *value;
    s->x87.tags |= 1 << physical(s, 0);
}
/* Take flags, C1 and `codes` from the host's status word. */
static ALWAYS_INLINE void status(struct vcpu_state *s, u16 sw, u16 codes)
{
    s->x87.fsw = (s->x87.fsw & ~(FSW_C1 | codes)) | (sw & (FSW_FLAGS | FSW_C1 | codes));
}

void interp_x87_recorded(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct x87_state *x87 = &s->x87;
    bool mem = (u8)i->imm < 0xc0;

    c->old_pointers.fip = x87->fip;
    c->old_pointers.fdp = x87->fdp;
    c->old_pointers.fop = x87->fop;
    c->old_pointers.fcs = x87->fcs;
    c->old_pointers.fds = x87->fds;
    x87->fip = cell_rip(c, i);
    x87->fop = i->imm & 0x7ff;
    x87->fcs = c->x87_selectors ? s->seg[SEG_CS].selector : 0;
    if (mem) {
        x87->fdp = interp_ea_offset(c, i);
        x87->fds = c->x87_selectors ? s->seg[i->seg].selector : 0;
    }
    TAIL block_handler(c, i->op, mem, cell_operand_size(i))(s, c, i);
}
void interp_x87_unrecord(struct interp *c)
{
    struct x87_state *x87 = &c->state->x87;

    x87->fip = c->old_pointers.fip;
    x87->fdp = c->old_pointers.fdp;
    x87->fop = c->old_pointers.fop;
    x87->fcs = c->old_pointers.fcs;
    x87->fds = c->old_pointers.fds;
}

/* The instruction through the host with all its effects; memory operands at `operand`. The host executes `opcode` (a FOP). */
static void slow_as(struct vcpu_state *s, struct interp *c, const struct cell *i, void *operand, u16 opcode)
{
    struct x87_state *x87 = &s->x87;
    u16 pending = 0, flags = c->flags;

    if (x87->fsw & FSW_ES) { /* let through in spite of an exception (interp_x87_pending) */
        pending = x87->fsw & (FSW_FLAGS | FSW_SF);
        x87->fsw &= ~(FSW_FLAGS | FSW_SF | FSW_ES | FSW_B);
    }
    x87_execute(x87, opcode >> 8 & 7, (u8)opcode, operand, &flags);
    fp_set_fcw(x87->fcw | FCW_MASKS);
    c->flags = flags;
    if (x87->fsw & FSW_ES) {
        x87->fop = i->imm & 0x7ff;
        if ((u8)i->imm < 0xc0)
            x87->fdp = interp_ea_offset(c, i);
    }
    if (pending) {
        x87->fsw |= pending;
        x87_summarise(x87);
    }
}
static void slow(struct vcpu_state *s, struct interp *c, const struct cell *i, void *operand)
{
    slow_as(s, c, i, operand, (u16)i->imm);
}
/* Whether `slow` has written a memory destination: not if an exception other than inexact was unmasked. */
static bool stored(const struct vcpu_state *s)
{
    return !(s->x87.fsw & ~s->x87.fcw & (FSW_FLAGS & ~MXCSR_PE));
}

/*
 * A store through the host, which executes `opcode` with the given rounding (bits of the control word). It touches memory
 * only if no exception keeps it from storing, and happens wholly or not.
 */
static void slow_store_as(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size,
                          u16 opcode, u16 rounding)
{
    struct x87_state before = s->x87, after;
    u8 result[10];
    u64 lin;

    s->x87.fcw |= rounding;
    slow_as(s, c, i, result, opcode);
    s->x87.fcw = before.fcw;
    if (rounding)
        fp_set_fcw(before.fcw | FCW_MASKS);
    if (!stored(s))
        return;
    after = s->x87;
    s->x87 = before;
    lin = interp_ea(s, c, i, size, MEM_WRITE);
    interp_store_bytes(c, i, lin, result, size < 8 ? size : 8);
    if (size > 8)
        interp_store_bytes(c, i, lin + 8, result + 8, size - 8);
    s->x87 = after;
}
static void slow_load(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    u8 operand[10];

    interp_load_bytes(c, i, interp_ea(s, c, i, size, MEM_READ), operand, size);
    slow(s, c, i, operand);
}
static void slow_store(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size)
{
    slow_store_as(s, c, i, size, (u16)i->imm, 0);
}

/* Every handler is X87(name) { statements; DONE; }. */
#define X87(name) static void name(struct vcpu_state *s, struct interp *c, const struct cell *i)
#define DONE                                                                                                 \
    s->x87.fip = cell_rip(c, i);                                                                             \
    NEXT

/* The slow paths, by memory operand; also instructions that have no other. */
X87(through_host)
{
    x87_check(s, c, i);
    slow(s, c, i, NULL);
    DONE;
}
#define THROUGH_HOST_MEMORY(bytes)                                                                           \
    X87(through_host_load##bytes)                                                                            \
    {                                                                                                        \
        x87_check(s, c, i);                                                                                  \
        slow_load(s, c, i, bytes);                                                                           \
        DONE;                                                                                                \
    }                                                                                                        \
    X87(through_host_store##bytes)                                                                           \
    {                                                                                                        \
        x87_check(s, c, i);                                                                                  \
        slow_store(s, c, i, bytes);                                                                          \
        DONE;                                                                                                \
    }
THROUGH_HOST_MEMORY(2)
THROUGH_HOST_MEMORY(4)
THROUGH_HOST_MEMORY(8)
THROUGH_HOST_MEMORY(10)
#define BYTES_u16        2
#define BYTES_u32        4
#define BYTES_u64        8
#define JOIN(a, b)       JOIN_(a, b)
#define JOIN_(a, b)      a##b
#define SLOW_LOAD(type)  JOIN(through_host_load, BYTES_##type)
#define SLOW_STORE(type) JOIN(through_host_store, BYTES_##type)

/* Every fast path begins with FAST(condition, its slow path). No exception is pending when all are masked. */
#define FAST(condition, slow_path)                                                                           \
    if (unlikely(!(c->fp.x87_simple && (condition))))                                                        \
    TAIL slow_path(s, c, i)

/* ---- arithmetic ---- */

#define F(insn)                                                                                              \
    X87(insn##_st0)                                                                                          \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        status(s, x87_##insn(st(s, 0), st(s, sti(i))), 0);                                                   \
        DONE;                                                                                                \
    }                                                                                                        \
    X87(insn##_sti)                                                                                          \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        status(s, x87_##insn(st(s, sti(i)), st(s, 0)), 0);                                                   \
        DONE;                                                                                                \
    }                                                                                                        \
    X87(insn##p_sti)                                                                                         \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        status(s, x87_##insn(st(s, sti(i)), st(s, 0)), 0);                                                   \
        pop(s);                                                                                              \
        DONE;                                                                                                \
    }
X87_BINARY(F)
#undef F

#define LOAD_u16(c, i, lin) load16(c, i, lin)
#define LOAD_u32(c, i, lin) load32(c, i, lin)
#define LOAD_u64(c, i, lin) load64(c, i, lin)
#define OPERAND(type)       LOAD_##type(c, i, interp_ea(s, c, i, sizeof(type), MEM_READ))
#define F(name, insn, type)                                                                                  \
    X87(name)                                                                                                \
    {                                                                                                        \
        type operand;                                                                                        \
                                                                                                             \
        FAST(valid(s, 0), SLOW_LOAD(type));                                                                  \
        operand = OPERAND(type);                                                                             \
        status(s, x87_##name(st(s, 0), operand), 0);                                                         \
        DONE;                                                                                                \
    }
X87_BINARY_MEMORY(F)
#undef F

#define UNARY(insn, codes)                                                                                   \
    X87(insn)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0), through_host);                                                                     \
        status(s, x87_##insn(st(s, 0)), codes);                                                              \
        DONE;                                                                                                \
    }
UNARY(fsqrt, 0)
UNARY(frndint, 0)
UNARY(f2xm1, 0)
UNARY(fsin, FSW_C2)
UNARY(fcos, FSW_C2)
UNARY(ftst, CODES)
UNARY(fxam, CODES)

/* Neither zero, denormal, infinite, NaN nor unsupported: for these the host's condition code is not always the instruction's
   own, but may be what was there before. */
static ALWAYS_INLINE bool ordinary(const struct x87_reg *r)
{
    unsigned exponent = r->sign_exponent & 0x7fff;

    return exponent && exponent != 0x7fff && r->mantissa >> 63;
}

#define PARTIAL(insn, codes)                                                                                 \
    X87(insn)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, 1) && ordinary(st(s, 0)) && ordinary(st(s, 1)), through_host);          \
        status(s, x87_##insn(st(s, 0), st(s, 1)), codes);                                                    \
        DONE;                                                                                                \
    }
PARTIAL(fprem, CODES)
PARTIAL(fprem1, CODES)
PARTIAL(fscale, 0)

#define F(insn)                                                                                              \
    X87(insn)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, 1), through_host);                                                      \
        status(s, x87_##insn(st(s, 0), st(s, 1)), 0);                                                        \
        pop(s);                                                                                              \
        DONE;                                                                                                \
    }
X87_POP(F)
#undef F

X87(fchs)
{
    FAST(valid(s, 0), through_host);
    st(s, 0)->sign_exponent ^= 0x8000;
    status(s, 0, 0);
    DONE;
}
X87(fabs_)
{
    FAST(valid(s, 0), through_host);
    st(s, 0)->sign_exponent &= 0x7fff;
    status(s, 0, 0);
    DONE;
}

/* ---- comparisons ---- */

#define COMPARE(name, insn, pops)                                                                            \
    X87(name)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        status(s, x87_##insn(st(s, 0), st(s, sti(i))), CODES);                                               \
        if (pops > 0)                                                                                        \
            pop(s);                                                                                          \
        if (pops > 1)                                                                                        \
            pop(s);                                                                                          \
        DONE;                                                                                                \
    }
COMPARE(fcom, fcompp, 0)
COMPARE(fcomp, fcompp, 1)
COMPARE(fcompp, fcompp, 2) /* FCOMPP and FUCOMPP have 1 in ModRM.rm */
COMPARE(fucom, fucompp, 0)
COMPARE(fucomp, fucompp, 1)
COMPARE(fucompp, fucompp, 2)

#define COMPARE_MEMORY(name, insn, type, pops)                                                               \
    X87(name)                                                                                                \
    {                                                                                                        \
        type operand;                                                                                        \
                                                                                                             \
        FAST(valid(s, 0), SLOW_LOAD(type));                                                                  \
        operand = OPERAND(type);                                                                             \
        status(s, x87_##insn(st(s, 0), operand), CODES);                                                     \
        if (pops)                                                                                            \
            pop(s);                                                                                          \
        DONE;                                                                                                \
    }
#define F(name, insn, type)                                                                                  \
    COMPARE_MEMORY(name, name, type, 0)                                                                      \
    COMPARE_MEMORY(name##_pop, name, type, 1)
X87_COMPARE_MEMORY(F)
#undef F

/* C1 stays. */
#define COMPARE_FLAGS(name, insn, pops)                                                                      \
    X87(name)                                                                                                \
    {                                                                                                        \
        u32 r;                                                                                               \
                                                                                                             \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        r = x87_##insn(st(s, 0), st(s, sti(i)));                                                             \
        s->x87.fsw |= r & FSW_FLAGS;                                                                         \
        c->flags = r >> 16;                                                                                  \
        if (pops)                                                                                            \
            pop(s);                                                                                          \
        DONE;                                                                                                \
    }
COMPARE_FLAGS(fcomi, fcomi, 0)
COMPARE_FLAGS(fcomip, fcomi, 1)
COMPARE_FLAGS(fucomi, fucomi, 0)
COMPARE_FLAGS(fucomip, fucomi, 1)

/* ---- loads ---- */

#define F(name, insn, type)                                                                                  \
    X87(name)                                                                                                \
    {                                                                                                        \
        FAST(!valid(s, 7), SLOW_LOAD(type));                                                                 \
        {                                                                                                    \
            type operand = OPERAND(type);                                                                    \
            struct x87_reg value;                                                                            \
                                                                                                             \
            status(s, x87_##name(&value, operand), 0);                                                       \
            push(s, &value);                                                                                 \
        }                                                                                                    \
        DONE;                                                                                                \
    }
X87_LOAD(F)
#undef F

X87(fld_m80)
{
    FAST(!valid(s, 7), through_host_load10);
    {
        u64 lin = interp_ea(s, c, i, 10, MEM_READ);
        struct x87_reg value;

        load_bytes(c, i, lin, &value, 10);
        status(s, 0, 0);
        push(s, &value);
    }
    DONE;
}
X87(fld_sti)
{
    FAST(valid(s, sti(i)) && !valid(s, 7), through_host);
    status(s, 0, 0);
    push(s, st(s, sti(i)));
    DONE;
}
#define F(insn)                                                                                              \
    X87(insn)                                                                                                \
    {                                                                                                        \
        FAST(!valid(s, 7), through_host);                                                                    \
        {                                                                                                    \
            struct x87_reg value;                                                                            \
                                                                                                             \
            status(s, x87_##insn(&value), 0);                                                                \
            push(s, &value);                                                                                 \
        }                                                                                                    \
        DONE;                                                                                                \
    }
X87_CONSTANT(F)
#undef F

/* ---- stores ---- */

/* Faults before the host computes, which collects exception flags. */
static ALWAYS_INLINE u64 store_address(struct vcpu_state *s, struct interp *c, const struct cell *i,
                                       unsigned size)
{
    u64 lin = interp_ea(s, c, i, size, MEM_WRITE);

    if (unlikely(tlb_slot(c->tlb, lin)->tag_write != ((lin + size - 1) & PAGE_MASK)))
        interp_probe(c, i, lin, size, MEM_WRITE);
    return lin;
}

#define STORE_u16 store16
#define STORE_u32 store32
#define STORE_u64 store64
#define STORE_PART(type, insn)                                                                               \
    do {                                                                                                     \
        u64 lin = store_address(s, c, i, sizeof(type));                                                      \
        type result;                                                                                         \
                                                                                                             \
        status(s, x87_##insn(st(s, 0), &result), 0);                                                         \
        STORE_##type(c, i, lin, result);                                                                     \
    } while (0)
#define STORE(name, insn, type, pops)                                                                        \
    X87(name)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0), SLOW_STORE(type));                                                                 \
        STORE_PART(type, insn);                                                                              \
        if (pops)                                                                                            \
            pop(s);                                                                                          \
        DONE;                                                                                                \
    }
STORE(fst_m32, fst_m32, u32, 0)
STORE(fst_m64, fst_m64, u64, 0)
STORE(fist_m16, fist_m16, u16, 0)
STORE(fist_m32, fist_m32, u32, 0)
STORE(fstp_m32, fst_m32, u32, 1)
STORE(fstp_m64, fst_m64, u64, 1)
STORE(fistp_m16, fist_m16, u16, 1)
STORE(fistp_m32, fist_m32, u32, 1)
STORE(fistp_m64, fist_m64, u64, 1)

/* FISTTP came with SSE3; a host without that does FISTP, rounding towards zero. `fistp`: its FOP. */
#define FISTTP(name, type, fistp)                                                                            \
    X87(name##_slow)                                                                                         \
    {                                                                                                        \
        x87_check(s, c, i);                                                                                  \
        if (FP_HAS(&c->fp, SSE3))                                                                            \
            slow_store(s, c, i, sizeof(type));                                                               \
        else                                                                                                 \
            slow_store_as(s, c, i, sizeof(type), fistp, FCW_RC);                                             \
        DONE;                                                                                                \
    }                                                                                                        \
    X87(name)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0) && FP_HAS(&c->fp, SSE3), name##_slow);                                              \
        STORE_PART(type, name);                                                                              \
        pop(s);                                                                                              \
        DONE;                                                                                                \
    }
FISTTP(fisttp_m16, u16, 7 << 8 | 3 << 3)
FISTTP(fisttp_m32, u32, 3 << 8 | 3 << 3)
FISTTP(fisttp_m64, u64, 7 << 8 | 7 << 3)

X87(fstp_m80)
{
    u64 lin;

    FAST(valid(s, 0), through_host_store10);
    /* Two stores, as on CPUs: the first one stays when the second faults. */
    lin = interp_ea(s, c, i, 10, MEM_WRITE);
    store64(c, i, lin, st(s, 0)->mantissa);
    store16(c, i, lin + 8, st(s, 0)->sign_exponent);
    status(s, 0, 0);
    pop(s);
    DONE;
}
X87(fst_sti)
{
    FAST(valid(s, 0), through_host);
    *st(s, sti(i)) = *st(s, 0);
    s->x87.tags |= 1 << physical(s, sti(i));
    status(s, 0, 0);
    DONE;
}
X87(fstp_sti)
{
    FAST(valid(s, 0), through_host);
    *st(s, sti(i)) = *st(s, 0);
    s->x87.tags |= 1 << physical(s, sti(i));
    status(s, 0, 0);
    pop(s);
    DONE;
}
X87(fxch)
{
    struct x87_reg value;

    FAST(valid(s, 0) && valid(s, sti(i)), through_host);
    value = *st(s, 0);
    *st(s, 0) = *st(s, sti(i));
    *st(s, sti(i)) = value;
    status(s, 0, 0);
    DONE;
}

/* FCMOVcc: `cc` is that of the Jcc with the same name. */
#define FCMOV(name, cc)                                                                                      \
    X87(name)                                                                                                \
    {                                                                                                        \
        FAST(valid(s, 0) && valid(s, sti(i)), through_host);                                                 \
        if (flags_condition(c->flags, cc))                                                                   \
            *st(s, 0) = *st(s, sti(i));                                                                      \
        DONE;                                                                                                \
    }
FCMOV(fcmovb, 2)
FCMOV(fcmovnb, 3)
FCMOV(fcmove, 4)
FCMOV(fcmovne, 5)
FCMOV(fcmovbe, 6)
FCMOV(fcmovnbe, 7)
FCMOV(fcmovu, 10)
FCMOV(fcmovnu, 11)

/* ---- stack management ---- */

X87(ffree)
{
    FAST(true, through_host);
    s->x87.tags &= ~(1 << physical(s, sti(i)));
    status(s, 0, 0);
    DONE;
}
X87(fincstp)
{
    FAST(true, through_host);
    add_to_top(s, 1);
    status(s, 0, 0);
    DONE;
}
X87(fdecstp)
{
    FAST(true, through_host);
    add_to_top(s, 7);
    status(s, 0, 0);
    DONE;
}
X87(fnop)
{
    FAST(true, through_host);
    DONE;
}

#define ROWS_BINARY(NAME, name)                                                                              \
    ROW_R(F##NAME##_ST0_STi, f##name##_st0)                                                                  \
    ROW_R(F##NAME##_STi_ST0, f##name##_sti)                                                                  \
    ROW_R(F##NAME##P_STi_ST0, f##name##p_sti)                                                                \
    ROW_M(F##NAME##_Md, f##name##_m32)                                                                       \
    ROW_M(F##NAME##_Mq, f##name##_m64)                                                                       \
    ROW_M(FI##NAME##_Mw, fi##name##_m16) ROW_M(FI##NAME##_Md, fi##name##_m32)

/* clang-format off */
const struct interp_row interp_x87_rows[] = {
    ROWS_BINARY(ADD, add)
    ROWS_BINARY(SUB, sub)
    ROWS_BINARY(SUBR, subr)
    ROWS_BINARY(MUL, mul)
    ROWS_BINARY(DIV, div)
    ROWS_BINARY(DIVR, divr)
    ROW_R(FSQRT, fsqrt)
    ROW_R(FRNDINT, frndint)
    ROW_R(FPREM, fprem)
    ROW_R(FPREM1, fprem1)
    ROW_R(FSCALE, fscale)
    ROW_R(FXTRACT, through_host)
    ROW_R(FCHS, fchs)
    ROW_R(FABS, fabs_)
    ROW_R(F2XM1, f2xm1)
    ROW_R(FYL2X, fyl2x)
    ROW_R(FYL2XP1, fyl2xp1)
    ROW_R(FPTAN, through_host)
    ROW_R(FPATAN, fpatan)
    ROW_R(FSIN, fsin)
    ROW_R(FCOS, fcos)
    ROW_R(FSINCOS, through_host)

    ROW_R(FCOM_ST0_STi, fcom)
    ROW_R(FCOMP_ST0_STi, fcomp)
    ROW_R(FCOMPP, fcompp)
    ROW_R(FUCOM_STi, fucom)
    ROW_R(FUCOMP_STi, fucomp)
    ROW_R(FUCOMPP, fucompp)
    ROW_M(FCOM_Md, fcom_m32) ROW_M(FCOMP_Md, fcom_m32_pop)
    ROW_M(FCOM_Mq, fcom_m64) ROW_M(FCOMP_Mq, fcom_m64_pop)
    ROW_M(FICOM_Mw, ficom_m16) ROW_M(FICOMP_Mw, ficom_m16_pop)
    ROW_M(FICOM_Md, ficom_m32) ROW_M(FICOMP_Md, ficom_m32_pop)
    ROW_R(FCOMI_ST0_STi, fcomi)
    ROW_R(FCOMIP_ST0_STi, fcomip)
    ROW_R(FUCOMI_ST0_STi, fucomi)
    ROW_R(FUCOMIP_ST0_STi, fucomip)
    ROW_R(FTST, ftst)
    ROW_R(FXAM, fxam)

    ROW_M(FLD_Md, fld_m32)
    ROW_M(FLD_Mq, fld_m64)
    ROW_M(FLD_Mt, fld_m80)
    ROW_R(FLD_STi, fld_sti)
    ROW_M(FILD_Mw, fild_m16)
    ROW_M(FILD_Md, fild_m32)
    ROW_M(FILD_Mq, fild_m64)
    ROW_M(FBLD_Mt, through_host_load10)
    ROW_R(FLD1, fld1)
    ROW_R(FLDL2T, fldl2t)
    ROW_R(FLDL2E, fldl2e)
    ROW_R(FLDPI, fldpi)
    ROW_R(FLDLG2, fldlg2)
    ROW_R(FLDLN2, fldln2)
    ROW_R(FLDZ, fldz)

    ROW_M(FST_Md, fst_m32) ROW_M(FSTP_Md, fstp_m32)
    ROW_M(FST_Mq, fst_m64) ROW_M(FSTP_Mq, fstp_m64)
    ROW_M(FSTP_Mt, fstp_m80)
    ROW_R(FST_STi, fst_sti)
    ROW_R(FSTP_STi, fstp_sti)
    ROW_R(FSTPNCE_STi, fstp_sti)
    ROW_M(FIST_Mw, fist_m16) ROW_M(FISTP_Mw, fistp_m16)
    ROW_M(FIST_Md, fist_m32) ROW_M(FISTP_Md, fistp_m32)
    ROW_M(FISTP_Mq, fistp_m64)
    ROW_M(FISTTP_Mw, fisttp_m16)
    ROW_M(FISTTP_Md, fisttp_m32)
    ROW_M(FISTTP_Mq, fisttp_m64)
    ROW_M(FBSTP_Mt, through_host_store10)

    ROW_R(FXCH_STi, fxch)
    ROW_R(FCMOVB_ST0_STi, fcmovb)
    ROW_R(FCMOVNB_ST0_STi, fcmovnb)
    ROW_R(FCMOVE_ST0_STi, fcmove)
    ROW_R(FCMOVNE_ST0_STi, fcmovne)
    ROW_R(FCMOVBE_ST0_STi, fcmovbe)
    ROW_R(FCMOVNBE_ST0_STi, fcmovnbe)
    ROW_R(FCMOVU_ST0_STi, fcmovu)
    ROW_R(FCMOVNU_ST0_STi, fcmovnu)
    ROW_R(FFREE_STi, ffree)
    ROW_R(FFREEP_STi, through_host)
    ROW_R(FINCSTP, fincstp)
    ROW_R(FDECSTP, fdecstp)
    ROW_R(FNOP, fnop)
    ROW_LAST,
};
