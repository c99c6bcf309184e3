/*
 * Bits: BT and its family, BSF to LZCNT, POPCNT, and BMI1 and BMI2 but the shifts. Flags as the host's own instruction
 * leaves them, where the baseline host has it; the others are computed from the manual's definition.
 */
#include "engine/interp/ops.h"

/* ---- BT, BTS, BTR, BTC ---- */

#define DEFINE_BT(name, writes, bits)                                                                        \
    static ALWAYS_INLINE u##bits name##_value##bits(u16 *flags, u##bits a, u##bits n)                        \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm(ASM_SET_FLAGS #name SUFFIX_##bits " %[n], %[a]\n\t" ASM_GET_FLAGS                                \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : [n] "r"(n), [f] "r"((u32)*flags)                                                               \
            : "cc");                                                                                         \
        *flags = (u16)f;                                                                                     \
        return a;                                                                                            \
    }                                                                                                        \
    HANDLER(name##_er_gr##bits)                                                                              \
    {                                                                                                        \
        u##bits v = name##_value##bits(&c->flags, get##bits(s, i->rm), get##bits(s, i->reg));                \
                                                                                                             \
        if (writes)                                                                                          \
            set##bits(s, i->rm, v);                                                                          \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_im##bits)                                                                              \
    {                                                                                                        \
        u##bits v = name##_value##bits(&c->flags, get##bits(s, i->rm), (u##bits)i->imm);                     \
                                                                                                             \
        if (writes)                                                                                          \
            set##bits(s, i->rm, v);                                                                          \
        NEXT;                                                                                                \
    }                                                                                                        \
    static ALWAYS_INLINE void name##_memory##bits(struct interp *c, const struct cell *i, u64 lin,           \
                                                  u##bits n)                                                 \
    {                                                                                                        \
        if (writes) {                                                                                        \
            u##bits##_unaligned *p = rmw_begin(c, i, lin, bits / 8);                                         \
            bool lock = rmw_atomic(c, i, p, bits / 8);                                                       \
            u##bits old = __atomic_load_n((u##bits *)p, __ATOMIC_RELAXED), v;                                \
            u16 f;                                                                                           \
                                                                                                             \
            do {                                                                                             \
                f = c->flags;                                                                                \
                v = name##_value##bits(&f, old, n);                                                          \
            } while (lock && !__atomic_compare_exchange_n((u##bits *)p, &old, v, false, __ATOMIC_SEQ_CST,    \
                                                          __ATOMIC_SEQ_CST));                                \
            if (!lock)                                                                                       \
                *p = v;                                                                                      \
            c->flags = f;                                                                                    \
            rmw_end(c, i);                                                                                   \
        } else {                                                                                             \
            name##_value##bits(&c->flags, load##bits(c, i, lin), n);                                         \
        }                                                                                                    \
    }                                                                                                        \
    HANDLER(name##_em_im##bits)                                                                              \
    {                                                                                                        \
        name##_memory##bits(c, i, interp_ea(s, c, i, bits / 8, writes ? MEM_WRITE : MEM_READ),               \
                            (u##bits)i->imm);                                                                \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_gr##bits) /* a bit string: the offset reaches beyond the operand (SDM 2, BT) */        \
    {                                                                                                        \
        i64 n = (i##bits)get##bits(s, i->reg);                                                               \
        u64 offset = interp_ea_offset(c, i) + (u64)((n >> LOG2_##bits) * (bits / 8));                        \
                                                                                                             \
        if (i->flags & CELL_ADDR32)                                                                          \
            offset = (u32)offset;                                                                            \
        else if (i->flags & CELL_ADDR16)                                                                     \
            offset = (u16)offset;                                                                            \
        name##_memory##bits(                                                                                 \
            c, i, interp_linear(c, i, i->seg, offset, bits / 8, writes ? MEM_WRITE : MEM_READ), (u##bits)n); \
        NEXT;                                                                                                \
    }
#define LOG2_16 4
#define LOG2_32 5
#define LOG2_64 6
FOR_V(DEFINE_BT, bt, false)
FOR_V(DEFINE_BT, bts, true)
FOR_V(DEFINE_BT, btr, true)
FOR_V(DEFINE_BT, btc, true)

#define ROWS_BT(NAME, name)                                                                                  \
    {OP_##NAME##_Ev_Gv, 0, BY_SIZE(name##_er_gr), BY_SIZE(name##_em_gr)},                                    \
    {                                                                                                        \
        OP_##NAME##_Ev_Ib, 0, BY_SIZE(name##_er_im), BY_SIZE(name##_em_im)                                   \
    }

/* ---- scans ---- */

#define DEFINE_FROM_SOURCE(name, bits)                                                                       \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        name##_apply##bits(s, c, i, get##bits(s, i->rm));                                                    \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        name##_apply##bits(s, c, i, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));               \
        NEXT;                                                                                                \
    }

/* With a source of 0 the destination is undefined by Intel's manual; CPUs leave it alone (AMD says so). */
#define DEFINE_SCAN(name, bits)                                                                              \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c,                     \
                                                 const struct cell *i, u##bits b)                            \
    {                                                                                                        \
        u##bits a = get##bits(s, i->reg);                                                                    \
        u32 f;                                                                                               \
                                                                                                             \
        asm(ASM_SET_FLAGS #name SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS                                \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : [b] "r"(b), [f] "r"((u32)c->flags)                                                             \
            : "cc");                                                                                         \
        c->flags = (u16)f;                                                                                   \
        if (b)                                                                                               \
            set##bits(s, i->reg, a);                                                                         \
    }                                                                                                        \
    DEFINE_FROM_SOURCE(name, bits)
FOR_V(DEFINE_SCAN, bsf)
FOR_V(DEFINE_SCAN, bsr)

static ALWAYS_INLINE u16 flag_if(bool condition, u16 flag)
{
    return condition ? flag : 0;
}

/* CF: source 0; ZF: result 0; the others, undefined, as Intel CPUs leave them: 0, and PF of the result where measured. */
#define DEFINE_COUNT(name, bits, count)                                                                      \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c,                     \
                                                 const struct cell *i, u##bits b)                            \
    {                                                                                                        \
        u##bits n = (u##bits)(b ? (count) : bits);                                                           \
                                                                                                             \
        c->flags = flag_if(!b, PACKED_CF) | flag_if(!n, PACKED_ZF);                                          \
        set##bits(s, i->reg, n);                                                                             \
    }                                                                                                        \
    DEFINE_FROM_SOURCE(name, bits)
DEFINE_COUNT(tzcnt, 16, __builtin_ctz(b))
DEFINE_COUNT(tzcnt, 32, __builtin_ctz(b))
DEFINE_COUNT(tzcnt, 64, __builtin_ctzll(b))
DEFINE_COUNT(lzcnt, 16, __builtin_clz(b) - 16)
DEFINE_COUNT(lzcnt, 32, __builtin_clz(b))
DEFINE_COUNT(lzcnt, 64, __builtin_clzll(b))

#define DEFINE_POPCNT(name, bits)                                                                            \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c,                     \
                                                 const struct cell *i, u##bits b)                            \
    {                                                                                                        \
        c->flags = flag_if(!b, PACKED_ZF);                                                                   \
        set##bits(s, i->reg, (u##bits)__builtin_popcountll(b));                                              \
    }                                                                                                        \
    DEFINE_FROM_SOURCE(name, bits)
FOR_V(DEFINE_POPCNT, popcnt)

/* ---- BMI1, BMI2 ---- */

/* SF and ZF of the result, OF 0, CF as given; AF and PF, undefined, 0. */
#define LOGIC_FLAGS(bits, result, carry)                                                                     \
    (u16)(flag_if((i##bits)(result) < 0, PACKED_SF) | flag_if(!(result), PACKED_ZF) |                        \
          flag_if(carry, PACKED_CF))

/* `a` is the VEX.vvvv register. */
#define DEFINE_BMI(name, bits, dest, result, carry)                                                          \
    DEFINE_BMI_FLAGS(name, bits, dest, result, LOGIC_FLAGS(bits, r, carry))
/* `flags_after` from the result r. */
#define DEFINE_BMI_FLAGS(name, bits, dest, result, flags_after)                                              \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c,                     \
                                                 const struct cell *i, u##bits b)                            \
    {                                                                                                        \
        u##bits a = get##bits(s, i->vvvv), r = (u##bits)(result);                                            \
                                                                                                             \
        (void)a;                                                                                             \
        c->flags = flags_after;                                                                              \
        set##bits(s, i->dest, r);                                                                            \
    }                                                                                                        \
    DEFINE_FROM_SOURCE(name, bits)
#define DEFINE_BMI_Y(name, dest, result, carry)                                                              \
    DEFINE_BMI(name, 32, dest, result, carry) DEFINE_BMI(name, 64, dest, result, carry)
DEFINE_BMI_Y(andn, reg, ~a &b, false)
DEFINE_BMI_Y(blsr, vvvv, b &(b - 1), b == 0)
DEFINE_BMI_Y(blsmsk, vvvv, b ^ (b - 1), b == 0)
DEFINE_BMI_Y(blsi, vvvv, b & -b, b != 0)

static ALWAYS_INLINE u64 extract_bits(u64 value, unsigned control, unsigned width)
{
    unsigned start = control & 0xff, len = control >> 8 & 0xff;

    if (start >= width)
        return 0;
    value >>= start;
    return len < width ? value & ((1ull << len) - 1) : value;
}
static ALWAYS_INLINE u64 zero_high(u64 value, unsigned n, unsigned width)
{
    return n < width ? value & ((1ull << n) - 1) : value;
}
/* SF, undefined, is 0. */
DEFINE_BMI_FLAGS(bextr, 32, reg, extract_bits(b, (unsigned)a, 32), flag_if(!r, PACKED_ZF))
DEFINE_BMI_FLAGS(bextr, 64, reg, extract_bits(b, (unsigned)a, 64), flag_if(!r, PACKED_ZF))
DEFINE_BMI(bzhi, 32, reg, zero_high(b, a & 0xff, 32), (a & 0xff) > 31)
DEFINE_BMI(bzhi, 64, reg, zero_high(b, a & 0xff, 64), (a & 0xff) > 63)

/* Bit by bit of the mask: the baseline host has no PDEP. */
static u64 deposit(u64 value, u64 mask)
{
    u64 r = 0;

    for (; mask; mask &= mask - 1, value >>= 1)
        if (value & 1)
            r |= mask & -mask;
    return r;
}
static u64 extract(u64 value, u64 mask)
{
    u64 r = 0;

    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (value & mask & -mask)
            r |= 1ull << n;
    return r;
}
#define DEFINE_PDEP(name, function, bits)                                                                    \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c,                     \
                                                 const struct cell *i, u##bits b)                            \
    {                                                                                                        \
        set##bits(s, i->reg, (u##bits)function(get##bits(s, i->vvvv), b));                                   \
    }                                                                                                        \
    DEFINE_FROM_SOURCE(name, bits)
DEFINE_PDEP(pdep, deposit, 32)
DEFINE_PDEP(pdep, deposit, 64)
DEFINE_PDEP(pext, extract, 32)
DEFINE_PDEP(pext, extract, 64)

#define ROW_Y(OP, name)                                                                                      \
    {                                                                                                        \
        OP, 0, {NULL, name##_er32, name##_er64},                                                             \
        {                                                                                                    \
            NULL, name##_em32, name##_em64                                                                   \
        }                                                                                                    \
    }

const struct interp_row interp_bit_rows[] = {
    ROWS_BT(BT, bt),
    ROWS_BT(BTS, bts),
    ROWS_BT(BTR, btr),
    ROWS_BT(BTC, btc),
    {OP_BSF_Gv_Ev, 0, BY_SIZE(bsf_er), BY_SIZE(bsf_em)},
    {OP_BSR_Gv_Ev, 0, BY_SIZE(bsr_er), BY_SIZE(bsr_em)},
    {OP_TZCNT_Gv_Ev, 0, BY_SIZE(tzcnt_er), BY_SIZE(tzcnt_em)},
    {OP_LZCNT_Gv_Ev, 0, BY_SIZE(lzcnt_er), BY_SIZE(lzcnt_em)},
    {OP_POPCNT_Gv_Ev, 0, BY_SIZE(popcnt_er), BY_SIZE(popcnt_em)},
    ROW_Y(OP_ANDN_Gy_By_Ey, andn),
    ROW_Y(OP_BLSR_By_Ey, blsr),
    ROW_Y(OP_BLSMSK_By_Ey, blsmsk),
    ROW_Y(OP_BLSI_By_Ey, blsi),
    ROW_Y(OP_BEXTR_Gy_Ey_By, bextr),
    ROW_Y(OP_BZHI_Gy_Ey_By, bzhi),
    ROW_Y(OP_PDEP_Gy_By_Ey, pdep),
    ROW_Y(OP_PEXT_Gy_By_Ey, pext),
    ROW_LAST,
};
