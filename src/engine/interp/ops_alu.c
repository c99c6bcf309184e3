/*
 * ADD to CMP, TEST, INC, DEC, NEG, NOT, MUL to IDIV, IMUL, the decimal adjustments, ADX, CMPXCHG and XADD.
 *
 * Each is executed by the host's own instruction on the guest's operands, so that results and flags, undefined ones
 * included, are the host's.
 */
#include "engine/interp/ops.h"

/* ---- two operands ---- */

/* value OP= operand, and the flags; `carry` is ASM_SET_CF for ADC and SBB. */
#define DEFINE_BINARY(name, carry, bits)                                                                     \
    static ALWAYS_INLINE u##bits name##_value##bits(u16 *flags, u##bits a, u##bits b)                        \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm(carry #name SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS                                        \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : [b] "r"(b), [f] "r"((u32)*flags)                                                               \
            : "cc");                                                                                         \
        *flags = (u16)f;                                                                                     \
        return a;                                                                                            \
    }                                                                                                        \
    static ALWAYS_INLINE void name##_memory##bits(struct interp *c, const struct cell *i,                    \
                                                  u##bits##_unaligned *p, u##bits b)                         \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        if (rmw_atomic(c, i, p, bits / 8))                                                                   \
            asm volatile(carry "lock " #name SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS                   \
                         : [a] "+m"(*p), "=&a"(f)                                                            \
                         : [b] "r"(b), [f] "r"((u32)c->flags)                                                \
                         : "cc", "memory");                                                                  \
        else                                                                                                 \
            asm volatile(carry #name SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS                           \
                         : [a] "+m"(*p), "=&a"(f)                                                            \
                         : [b] "r"(b), [f] "r"((u32)c->flags)                                                \
                         : "cc", "memory");                                                                  \
        c->flags = (u16)f;                                                                                   \
    }                                                                                                        \
    HANDLER(name##_er_gr##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->rm, name##_value##bits(&c->flags, get##bits(s, i->rm), get##bits(s, i->reg)));       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_gr_er##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->reg, name##_value##bits(&c->flags, get##bits(s, i->reg), get##bits(s, i->rm)));      \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_gr_em##bits)                                                                              \
    {                                                                                                        \
        u##bits b = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        set##bits(s, i->reg, name##_value##bits(&c->flags, get##bits(s, i->reg), b));                        \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_im##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->rm, name##_value##bits(&c->flags, get##bits(s, i->rm), (u##bits)(i64)i->imm));       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_gr##bits)                                                                              \
    {                                                                                                        \
        u64 lin = interp_ea(s, c, i, bits / 8, MEM_WRITE);                                                   \
                                                                                                             \
        name##_memory##bits(c, i, rmw_begin(c, i, lin, bits / 8), get##bits(s, i->reg));                     \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_im##bits)                                                                              \
    {                                                                                                        \
        u64 lin = interp_ea(s, c, i, bits / 8, MEM_WRITE);                                                   \
                                                                                                             \
        name##_memory##bits(c, i, rmw_begin(c, i, lin, bits / 8), (u##bits)(i64)i->imm);                     \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_BINARY, add, "")
FOR_ALL(DEFINE_BINARY, or, "")
FOR_ALL(DEFINE_BINARY, adc, ASM_SET_CF)
FOR_ALL(DEFINE_BINARY, sbb, ASM_SET_CF)
FOR_ALL(DEFINE_BINARY, and, "")
FOR_ALL(DEFINE_BINARY, sub, "")
FOR_ALL(DEFINE_BINARY, xor, "")

#define ROWS_BINARY(NAME, name)                                                                              \
    {OP_##NAME##_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(name##_er_gr8), ANY_SIZE(name##_em_gr8)},               \
        {OP_##NAME##_Ev_Gv, 0, BY_SIZE(name##_er_gr), BY_SIZE(name##_em_gr)},                                \
        {OP_##NAME##_Gb_Eb, ROW_REG8 | ROW_RM8, ANY_SIZE(name##_gr_er8), ANY_SIZE(name##_gr_em8)},           \
        {OP_##NAME##_Gv_Ev, 0, BY_SIZE(name##_gr_er), BY_SIZE(name##_gr_em)},                                \
        {OP_##NAME##_AL_Ib, ROW_RM8, ANY_SIZE(name##_er_im8), NO_FORM},                                      \
        {OP_##NAME##_rAX_Iz, 0, BY_SIZE(name##_er_im), NO_FORM},                                             \
        {OP_##NAME##_Eb_Ib, ROW_RM8, ANY_SIZE(name##_er_im8), ANY_SIZE(name##_em_im8)},                      \
        {OP_##NAME##_Ev_Iz, 0, BY_SIZE(name##_er_im), BY_SIZE(name##_em_im)},                                \
    {                                                                                                        \
        OP_##NAME##_Ev_Ib, 0, BY_SIZE(name##_er_im), BY_SIZE(name##_em_im)                                   \
    }

/* ---- comparisons: the flags alone ---- */

#define DEFINE_COMPARE(name, bits)                                                                           \
    static ALWAYS_INLINE u16 name##_flags##bits(u##bits a, u##bits b)                                        \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm(#name SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS : "=a"(f) : [a] "r"(a), [b] "r"(b) : "cc");  \
        return (u16)f;                                                                                       \
    }                                                                                                        \
    HANDLER(name##_er_gr##bits)                                                                              \
    {                                                                                                        \
        c->flags = name##_flags##bits(get##bits(s, i->rm), get##bits(s, i->reg));                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_gr##bits)                                                                              \
    {                                                                                                        \
        u##bits a = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        c->flags = name##_flags##bits(a, get##bits(s, i->reg));                                              \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_im##bits)                                                                              \
    {                                                                                                        \
        c->flags = name##_flags##bits(get##bits(s, i->rm), (u##bits)(i64)i->imm);                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_im##bits)                                                                              \
    {                                                                                                        \
        c->flags = name##_flags##bits(load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)),              \
                                      (u##bits)(i64)i->imm);                                                 \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_COMPARE, cmp)
FOR_ALL(DEFINE_COMPARE, test)

#define DEFINE_COMPARE_GR(name, bits)                                                                        \
    HANDLER(name##_gr_er##bits)                                                                              \
    {                                                                                                        \
        c->flags = name##_flags##bits(get##bits(s, i->reg), get##bits(s, i->rm));                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_gr_em##bits)                                                                              \
    {                                                                                                        \
        u##bits b = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        c->flags = name##_flags##bits(get##bits(s, i->reg), b);                                              \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_COMPARE_GR, cmp)

/* ---- one operand ---- */

#define DEFINE_UNARY(name, carry, bits)                                                                      \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        u##bits a = get##bits(s, i->rm);                                                                     \
        u32 f;                                                                                               \
                                                                                                             \
        asm(carry #name SUFFIX_##bits " %[a]\n\t" ASM_GET_FLAGS                                              \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : [f] "r"((u32)c->flags)                                                                         \
            : "cc");                                                                                         \
        c->flags = (u16)f;                                                                                   \
        set##bits(s, i->rm, a);                                                                              \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
        u32 f;                                                                                               \
                                                                                                             \
        if (rmw_atomic(c, i, p, bits / 8))                                                                   \
            asm volatile(carry "lock " #name SUFFIX_##bits " %[a]\n\t" ASM_GET_FLAGS                         \
                         : [a] "+m"(*p), "=&a"(f)                                                            \
                         : [f] "r"((u32)c->flags)                                                            \
                         : "cc", "memory");                                                                  \
        else                                                                                                 \
            asm volatile(carry #name SUFFIX_##bits " %[a]\n\t" ASM_GET_FLAGS                                 \
                         : [a] "+m"(*p), "=&a"(f)                                                            \
                         : [f] "r"((u32)c->flags)                                                            \
                         : "cc", "memory");                                                                  \
        c->flags = (u16)f;                                                                                   \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_UNARY, inc, ASM_SET_CF)
FOR_ALL(DEFINE_UNARY, dec, ASM_SET_CF)
FOR_ALL(DEFINE_UNARY, neg, "")

#define DEFINE_NOT(name, bits)                                                                               \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->rm, (u##bits) ~get##bits(s, i->rm));                                                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
                                                                                                             \
        if (rmw_atomic(c, i, p, bits / 8))                                                                   \
            asm volatile("lock not" SUFFIX_##bits " %0" : "+m"(*p) : : "memory");                            \
        else                                                                                                 \
            *p = (u##bits) ~*p;                                                                              \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_NOT, not )

#define ROWS_UNARY(NAME, name)                                                                               \
    {OP_##NAME##_Eb, ROW_RM8, ANY_SIZE(name##_er8), ANY_SIZE(name##_em8)},                                   \
    {                                                                                                        \
        OP_##NAME##_Ev, 0, BY_SIZE(name##_er), BY_SIZE(name##_em)                                            \
    }

/* ---- multiplication and division of the accumulator ---- */

/* rDX:rAX (AX for bytes) = rAX * operand; flags as the host leaves them, undefined ones too. */
#define DEFINE_MUL(name, bits)                                                                               \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c, u##bits b)          \
    {                                                                                                        \
        u##bits lo = get##bits(s, RAX), hi;                                                                  \
        u8 low_flags, of;                                                                                    \
        u64 saved;                                                                                           \
                                                                                                             \
        asm(#name SUFFIX_##bits " %[b]\n\tmovq %%rax, %[saved]\n\tlahf\n\tseto %%al\n\t"                     \
                                "movb %%ah, %[lf]\n\tmovb %%al, %[of]\n\tmovq %[saved], %%rax"               \
            : "+a"(lo), "=&d"(hi), [saved] "=&r"(saved), [lf] "=&Q"(low_flags), [of] "=&r"(of)               \
            : [b] "r"(b)                                                                                     \
            : "cc");                                                                                         \
        c->flags = (u16)(low_flags << 8 | of);                                                               \
        set##bits(s, RAX, lo);                                                                               \
        set##bits(s, RDX, hi);                                                                               \
    }
FOR_V(DEFINE_MUL, mul)
FOR_V(DEFINE_MUL, imul)

#define DEFINE_MUL8(name)                                                                                    \
    static ALWAYS_INLINE void name##_apply8(struct vcpu_state *s, struct interp *c, u8 b)                    \
    {                                                                                                        \
        u16 product = get8(s, 0);                                                                            \
        u32 f;                                                                                               \
                                                                                                             \
        asm("movzwl %w[p], %%eax\n\t" #name "b %[b]\n\tmovw %%ax, %w[p]\n\t" ASM_GET_FLAGS                   \
            : [p] "+&r"(product), "=&a"(f)                                                                   \
            : [b] "r"(b)                                                                                     \
            : "cc");                                                                                         \
        c->flags = (u16)f;                                                                                   \
        set16(s, RAX, product);                                                                              \
    }
DEFINE_MUL8(mul)
DEFINE_MUL8(imul)

#define DEFINE_ONE_SOURCE(name, bits)                                                                        \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        name##_apply##bits(s, c, get##bits(s, i->rm));                                                       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        name##_apply##bits(s, c, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                  \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_ONE_SOURCE, mul)
FOR_ALL(DEFINE_ONE_SOURCE, imul)

/*
 * DIV and IDIV: checked here for #DE, then done by the host, whose flags (all undefined; some CPUs leave them alone) are kept. The host's
 * instruction then cannot trap.
 */
#define DEFINE_DIV(bits, wide, swide)                                                                        \
    static void div_apply##bits(struct vcpu_state *s, struct interp *c, const struct cell *i, u##bits b)     \
    {                                                                                                        \
        u##bits lo = get##bits(s, RAX), hi = get##bits(s, RDX);                                              \
        u32 f = c->flags;                                                                                    \
                                                                                                             \
        if (b == 0 || hi >= b)                                                                               \
            raise_de(c, i);                                                                                  \
        asm(ASM_SET_FLAGS "movq %q[lo], %%rax\n\tdiv" SUFFIX_##bits                                          \
            " %[b]\n\tmovq %%rax, %q[lo]\n\t" ASM_GET_FLAGS "movl %%eax, %k[f]"                              \
            : [lo] "+&r"(lo), "+&d"(hi), [f] "+&r"(f)                                                        \
            : [b] "r"(b)                                                                                     \
            : "rax", "cc");                                                                                  \
        c->flags = (u16)f;                                                                                   \
        set##bits(s, RAX, lo);                                                                               \
        set##bits(s, RDX, hi);                                                                               \
    }                                                                                                        \
    static void idiv_apply##bits(struct vcpu_state *s, struct interp *c, const struct cell *i, u##bits b)    \
    {                                                                                                        \
        u##bits lo = get##bits(s, RAX), hi = get##bits(s, RDX);                                              \
        swide n = (swide)((wide)hi << bits | lo), d = (i##bits)b, q;                                         \
        u32 f = c->flags;                                                                                    \
                                                                                                             \
        if (d == 0 || (d == -1 && n == (swide)((wide)1 << (2 * bits - 1))))                                  \
            raise_de(c, i);                                                                                  \
        q = n / d;                                                                                           \
        if (q != (i##bits)q)                                                                                 \
            raise_de(c, i);                                                                                  \
        asm(ASM_SET_FLAGS "movq %q[lo], %%rax\n\tidiv" SUFFIX_##bits                                         \
            " %[b]\n\tmovq %%rax, %q[lo]\n\t" ASM_GET_FLAGS "movl %%eax, %k[f]"                              \
            : [lo] "+&r"(lo), "+&d"(hi), [f] "+&r"(f)                                                        \
            : [b] "r"(b)                                                                                     \
            : "rax", "cc");                                                                                  \
        c->flags = (u16)f;                                                                                   \
        set##bits(s, RAX, lo);                                                                               \
        set##bits(s, RDX, hi);                                                                               \
    }
DEFINE_DIV(16, u32, i32)
DEFINE_DIV(32, u64, i64)
DEFINE_DIV(64, u128, i128)

#define DEFINE_DIV8(name, fits)                                                                              \
    static void name##_apply8(struct vcpu_state *s, struct interp *c, const struct cell *i, u8 b)            \
    {                                                                                                        \
        u16 n = get16(s, RAX);                                                                               \
        u32 f = c->flags;                                                                                    \
                                                                                                             \
        if (b == 0 || !(fits))                                                                               \
            raise_de(c, i);                                                                                  \
        asm(ASM_SET_FLAGS "movzwl %w[n], %%eax\n\t" #name "b %[b]\n\tmovw %%ax, %w[n]\n\t" ASM_GET_FLAGS     \
                          "movl %%eax, %k[f]"                                                                \
            : [n] "+&r"(n), [f] "+&r"(f)                                                                     \
            : [b] "r"(b)                                                                                     \
            : "rax", "cc");                                                                                  \
        c->flags = (u16)f;                                                                                   \
        set16(s, RAX, n);                                                                                    \
    }
DEFINE_DIV8(div, (n >> 8) < b)
DEFINE_DIV8(idiv, (i16)n / (i8)b == (i8)((i16)n / (i8)b))

#define DEFINE_DIVISOR(name, bits)                                                                           \
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
FOR_ALL(DEFINE_DIVISOR, div)
FOR_ALL(DEFINE_DIVISOR, idiv)

/* IMUL with two and three operands. */
#define DEFINE_IMUL(name, bits)                                                                              \
    static ALWAYS_INLINE u##bits imul2_value##bits(u16 *flags, u##bits a, u##bits b)                         \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm("imul" SUFFIX_##bits " %[b], %[a]\n\t" ASM_GET_FLAGS                                             \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : [b] "r"(b)                                                                                     \
            : "cc");                                                                                         \
        *flags = (u16)f;                                                                                     \
        return a;                                                                                            \
    }                                                                                                        \
    HANDLER(imul_gr_er##bits)                                                                                \
    {                                                                                                        \
        set##bits(s, i->reg, imul2_value##bits(&c->flags, get##bits(s, i->reg), get##bits(s, i->rm)));       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(imul_gr_em##bits)                                                                                \
    {                                                                                                        \
        u##bits b = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        set##bits(s, i->reg, imul2_value##bits(&c->flags, get##bits(s, i->reg), b));                         \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(imul_gr_er_im##bits)                                                                             \
    {                                                                                                        \
        set##bits(s, i->reg, imul2_value##bits(&c->flags, get##bits(s, i->rm), (u##bits)(i64)i->imm));       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(imul_gr_em_im##bits)                                                                             \
    {                                                                                                        \
        u##bits a = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        set##bits(s, i->reg, imul2_value##bits(&c->flags, a, (u##bits)(i64)i->imm));                         \
        NEXT;                                                                                                \
    }
FOR_V(DEFINE_IMUL, imul)

/* ---- ADX, MULX ---- */

/* Add with one flag as carry in and out, and no other flag touched. */
#define DEFINE_ADX(name, flag, bits)                                                                         \
    static ALWAYS_INLINE void name##_apply##bits(struct vcpu_state *s, struct interp *c, unsigned n,         \
                                                 u##bits b)                                                  \
    {                                                                                                        \
        u##bits a = get##bits(s, n), sum;                                                                    \
        bool carry = __builtin_add_overflow(a, b, &sum);                                                     \
                                                                                                             \
        carry |= __builtin_add_overflow(sum, (u##bits) !!(c->flags & flag), &sum);                           \
        c->flags = (u16)((c->flags & ~flag) | (carry ? flag : 0));                                           \
        set##bits(s, n, sum);                                                                                \
    }                                                                                                        \
    HANDLER(name##_gr_er##bits)                                                                              \
    {                                                                                                        \
        name##_apply##bits(s, c, i->reg, get##bits(s, i->rm));                                               \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_gr_em##bits)                                                                              \
    {                                                                                                        \
        name##_apply##bits(s, c, i->reg, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));          \
        NEXT;                                                                                                \
    }
DEFINE_ADX(adcx, PACKED_CF, 32)
DEFINE_ADX(adcx, PACKED_CF, 64)
DEFINE_ADX(adox, PACKED_OF, 32)
DEFINE_ADX(adox, PACKED_OF, 64)

#define DEFINE_MULX(bits, wide)                                                                              \
    static ALWAYS_INLINE void mulx_apply##bits(struct vcpu_state *s, const struct cell *i, u##bits b)        \
    {                                                                                                        \
        wide product = (wide)get##bits(s, RDX) * b;                                                          \
                                                                                                             \
        set##bits(s, i->vvvv, (u##bits)product);                                                             \
        set##bits(s, i->reg, (u##bits)(product >> bits)); /* wins when both are the same register */         \
    }                                                                                                        \
    HANDLER(mulx_er##bits)                                                                                   \
    {                                                                                                        \
        mulx_apply##bits(s, i, get##bits(s, i->rm));                                                         \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(mulx_em##bits)                                                                                   \
    {                                                                                                        \
        mulx_apply##bits(s, i, load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ)));                    \
        NEXT;                                                                                                \
    }
DEFINE_MULX(32, u64)
DEFINE_MULX(64, u128)

/* ---- XADD, CMPXCHG ---- */

#define DEFINE_XADD(name, bits)                                                                              \
    HANDLER(xadd_er_gr##bits)                                                                                \
    {                                                                                                        \
        u##bits a = get##bits(s, i->rm), b = get##bits(s, i->reg), sum = add_value##bits(&c->flags, a, b);   \
                                                                                                             \
        set##bits(s, i->reg, a);                                                                             \
        set##bits(s, i->rm, sum); /* wins when both are the same register */                                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(xadd_em_gr##bits)                                                                                \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
        u##bits b = get##bits(s, i->reg), old;                                                               \
                                                                                                             \
        if (rmw_atomic(c, i, p, bits / 8)) {                                                                 \
            old = __atomic_fetch_add((u##bits *)p, b, __ATOMIC_SEQ_CST);                                     \
        } else {                                                                                             \
            old = *p;                                                                                        \
            *p = (u##bits)(old + b);                                                                         \
        }                                                                                                    \
        rmw_end(c, i);                                                                                       \
        add_value##bits(&c->flags, old, b);                                                                  \
        set##bits(s, i->reg, old);                                                                           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(cmpxchg_er_gr##bits)                                                                             \
    {                                                                                                        \
        u##bits old = get##bits(s, i->rm), expected = get##bits(s, RAX);                                     \
                                                                                                             \
        c->flags = cmp_flags##bits(expected, old);                                                           \
        if (old == expected)                                                                                 \
            set##bits(s, i->rm, get##bits(s, i->reg));                                                       \
        else                                                                                                 \
            set##bits(s, RAX, old);                                                                          \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(cmpxchg_em_gr##bits)                                                                             \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
        u##bits expected = get##bits(s, RAX), old = expected;                                                \
                                                                                                             \
        /* The destination gets a write cycle in either case (SDM 2): old value when not equal. */           \
        if (rmw_atomic(c, i, p, bits / 8))                                                                   \
            __atomic_compare_exchange_n((u##bits *)p, &old, get##bits(s, i->reg), false, __ATOMIC_SEQ_CST,   \
                                        __ATOMIC_SEQ_CST);                                                   \
        else if ((old = *p) == expected)                                                                     \
            *p = get##bits(s, i->reg);                                                                       \
        rmw_end(c, i);                                                                                       \
        c->flags = cmp_flags##bits(expected, old);                                                           \
        if (old != expected)                                                                                 \
            set##bits(s, RAX, old);                                                                          \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_XADD, xadd)

HANDLER(cmpxchg8b_em)
{
    void *p = rmw_begin(c, i, interp_ea(s, c, i, 8, MEM_WRITE), 8);
    u64 old = (u64)get32(s, RDX) << 32 | get32(s, RAX), value = (u64)get32(s, RCX) << 32 | get32(s, RBX);
    bool equal;

    if (rmw_locked(c, i, p, 8)) /* C has no atomics for unaligned operands */
        asm volatile("lock cmpxchgq %[value], (%[p])"
                     : "+a"(old), "=@ccz"(equal)
                     : [p] "r"(p), [value] "r"(value)
                     : "memory");
    else
        asm volatile("cmpxchgq %[value], (%[p])"
                     : "+a"(old), "=@ccz"(equal)
                     : [p] "r"(p), [value] "r"(value)
                     : "memory");
    rmw_end(c, i);
    if (equal) {
        c->flags |= PACKED_ZF;
    } else {
        c->flags &= (u16)~PACKED_ZF;
        set32(s, RAX, (u32)old);
        set32(s, RDX, (u32)(old >> 32));
    }
    NEXT;
}

HANDLER(cmpxchg16b_em)
{
    u64 lin = interp_ea(s, c, i, 16, MEM_WRITE), lo = s->gpr[RAX], hi = s->gpr[RDX];
    void *p;
    bool equal;

    if (lin & 15)
        raise_gp(c, i, 0);
    p = rmw_begin(c, i, lin, 16);
    asm volatile("lock cmpxchg16b (%[p])"
                 : "+a"(lo), "+d"(hi), "=@ccz"(equal)
                 : [p] "r"(p), "b"(s->gpr[RBX]), "c"(s->gpr[RCX])
                 : "memory");
    rmw_end(c, i);
    if (equal) {
        c->flags |= PACKED_ZF;
    } else {
        c->flags &= (u16)~PACKED_ZF;
        s->gpr[RAX] = lo;
        s->gpr[RDX] = hi;
    }
    NEXT;
}

/* ---- decimal adjustment (not in 64-bit mode, so the host cannot execute it): SDM 2, and flags as Intel CPUs leave them ---- */

static u16 result_flags8(u8 value)
{
    return test_flags8(value, value) & (PACKED_SF | PACKED_ZF | PACKED_PF);
}

HANDLER(daa)
{
    u8 old = get8(s, 0), al = old;
    bool cf = c->flags & PACKED_CF, af = c->flags & PACKED_AF;
    u16 f = 0;

    if ((al & 15) > 9 || af) {
        al = (u8)(al + 6);
        f |= PACKED_AF;
    }
    if (old > 0x99 || cf) {
        al = (u8)(al + 0x60);
        f |= PACKED_CF;
    }
    set8(s, 0, al);
    c->flags = f | result_flags8(al);
    NEXT;
}

HANDLER(das)
{
    u8 old = get8(s, 0), al = old;
    bool cf = c->flags & PACKED_CF, af = c->flags & PACKED_AF;
    u16 f = 0;

    if ((al & 15) > 9 || af) {
        f |= PACKED_AF;
        if (cf || al < 6)
            f |= PACKED_CF;
        al = (u8)(al - 6);
    }
    if (old > 0x99 || cf) {
        al = (u8)(al - 0x60);
        f |= PACKED_CF;
    }
    set8(s, 0, al);
    c->flags = f | result_flags8(al);
    NEXT;
}

static ALWAYS_INLINE void ascii_adjust(struct vcpu_state *s, struct interp *c, int direction)
{
    u16 ax = get16(s, RAX), f = 0;

    if ((ax & 15) > 9 || (c->flags & PACKED_AF)) {
        ax = (u16)(ax + direction * 0x106);
        f = PACKED_AF | PACKED_CF;
    }
    ax &= 0xff0f;
    set16(s, RAX, ax);
    c->flags = f | result_flags8((u8)ax);
}

HANDLER(aaa)
{
    ascii_adjust(s, c, 1);
    NEXT;
}

HANDLER(aas)
{
    ascii_adjust(s, c, -1);
    NEXT;
}

HANDLER(aam)
{
    u8 base = (u8)i->imm, al = get8(s, 0);

    if (!base)
        raise_de(c, i);
    set16(s, RAX, (u16)(al / base << 8 | al % base));
    c->flags = result_flags8(al % base);
    NEXT;
}

HANDLER(aad)
{
    u8 al = get8(s, 0);

    al = add_value8(&c->flags, al, (u8)(get8(s, 1) * (u8)i->imm));
    set16(s, RAX, al);
    NEXT;
}

/* ---- flags ---- */

HANDLER(cmc)
{
    c->flags ^= PACKED_CF;
    NEXT;
}
HANDLER(clc)
{
    c->flags &= (u16)~PACKED_CF;
    NEXT;
}
HANDLER(stc)
{
    c->flags |= PACKED_CF;
    NEXT;
}
HANDLER(cld)
{
    s->rflags &= ~(u64)FLAG_DF;
    NEXT;
}
HANDLER(std)
{
    s->rflags |= FLAG_DF;
    NEXT;
}
HANDLER(sahf)
{
    c->flags = (u16)((c->flags & PACKED_OF) | (get8(s, 1) & 0xd5) << 8);
    NEXT;
}
HANDLER(lahf)
{
    set8(s, 1, (u8)(flags_unpack(c->flags) | FLAG_ONE));
    NEXT;
}
HANDLER(salc)
{
    set8(s, 0, c->flags & PACKED_CF ? 0xff : 0);
    NEXT;
}

const struct interp_row interp_alu_rows[] = {
    ROWS_BINARY(ADD, add),
    ROWS_BINARY(OR, or),
    ROWS_BINARY(ADC, adc),
    ROWS_BINARY(SBB, sbb),
    ROWS_BINARY(AND, and),
    ROWS_BINARY(SUB, sub),
    ROWS_BINARY(XOR, xor),
    {OP_CMP_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(cmp_er_gr8), ANY_SIZE(cmp_em_gr8)},
    {OP_CMP_Ev_Gv, 0, BY_SIZE(cmp_er_gr), BY_SIZE(cmp_em_gr)},
    {OP_CMP_Gb_Eb, ROW_REG8 | ROW_RM8, ANY_SIZE(cmp_gr_er8), ANY_SIZE(cmp_gr_em8)},
    {OP_CMP_Gv_Ev, 0, BY_SIZE(cmp_gr_er), BY_SIZE(cmp_gr_em)},
    {OP_CMP_AL_Ib, ROW_RM8, ANY_SIZE(cmp_er_im8), NO_FORM},
    {OP_CMP_rAX_Iz, 0, BY_SIZE(cmp_er_im), NO_FORM},
    {OP_CMP_Eb_Ib, ROW_RM8, ANY_SIZE(cmp_er_im8), ANY_SIZE(cmp_em_im8)},
    {OP_CMP_Ev_Iz, 0, BY_SIZE(cmp_er_im), BY_SIZE(cmp_em_im)},
    {OP_CMP_Ev_Ib, 0, BY_SIZE(cmp_er_im), BY_SIZE(cmp_em_im)},
    {OP_TEST_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(test_er_gr8), ANY_SIZE(test_em_gr8)},
    {OP_TEST_Ev_Gv, 0, BY_SIZE(test_er_gr), BY_SIZE(test_em_gr)},
    {OP_TEST_AL_Ib, ROW_RM8, ANY_SIZE(test_er_im8), NO_FORM},
    {OP_TEST_rAX_Iz, 0, BY_SIZE(test_er_im), NO_FORM},
    {OP_TEST_Eb_Ib, ROW_RM8, ANY_SIZE(test_er_im8), ANY_SIZE(test_em_im8)},
    {OP_TEST_Ev_Iz, 0, BY_SIZE(test_er_im), BY_SIZE(test_em_im)},
    ROWS_UNARY(INC, inc),
    ROWS_UNARY(DEC, dec),
    {OP_INC_Zv, 0, BY_SIZE(inc_er), NO_FORM},
    {OP_DEC_Zv, 0, BY_SIZE(dec_er), NO_FORM},
    ROWS_UNARY(NEG, neg),
    ROWS_UNARY(NOT, not ),
    ROWS_UNARY(MUL, mul),
    ROWS_UNARY(IMUL, imul),
    ROWS_UNARY(DIV, div),
    ROWS_UNARY(IDIV, idiv),
    {OP_IMUL_Gv_Ev, 0, BY_SIZE(imul_gr_er), BY_SIZE(imul_gr_em)},
    {OP_IMUL_Gv_Ev_Iz, 0, BY_SIZE(imul_gr_er_im), BY_SIZE(imul_gr_em_im)},
    {OP_IMUL_Gv_Ev_Ib, 0, BY_SIZE(imul_gr_er_im), BY_SIZE(imul_gr_em_im)},
    {OP_ADCX_Gy_Ey, 0, {NULL, adcx_gr_er32, adcx_gr_er64}, {NULL, adcx_gr_em32, adcx_gr_em64}},
    {OP_ADOX_Gy_Ey, 0, {NULL, adox_gr_er32, adox_gr_er64}, {NULL, adox_gr_em32, adox_gr_em64}},
    {OP_MULX_Gy_By_Ey, 0, {NULL, mulx_er32, mulx_er64}, {NULL, mulx_em32, mulx_em64}},
    {OP_XADD_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(xadd_er_gr8), ANY_SIZE(xadd_em_gr8)},
    {OP_XADD_Ev_Gv, 0, BY_SIZE(xadd_er_gr), BY_SIZE(xadd_em_gr)},
    {OP_CMPXCHG_Eb_Gb, ROW_REG8 | ROW_RM8, ANY_SIZE(cmpxchg_er_gr8), ANY_SIZE(cmpxchg_em_gr8)},
    {OP_CMPXCHG_Ev_Gv, 0, BY_SIZE(cmpxchg_er_gr), BY_SIZE(cmpxchg_em_gr)},
    {OP_CMPXCHG8B_Mq, 0, NO_FORM, ANY_SIZE(cmpxchg8b_em)},
    {OP_CMPXCHG16B_Mdq, 0, NO_FORM, ANY_SIZE(cmpxchg16b_em)},
    {OP_DAA, 0, ANY_SIZE(daa), NO_FORM},
    {OP_DAS, 0, ANY_SIZE(das), NO_FORM},
    {OP_AAA, 0, ANY_SIZE(aaa), NO_FORM},
    {OP_AAS, 0, ANY_SIZE(aas), NO_FORM},
    {OP_AAM_Ib, 0, ANY_SIZE(aam), NO_FORM},
    {OP_AAD_Ib, 0, ANY_SIZE(aad), NO_FORM},
    {OP_CMC, 0, ANY_SIZE(cmc), NO_FORM},
    {OP_CLC, 0, ANY_SIZE(clc), NO_FORM},
    {OP_STC, 0, ANY_SIZE(stc), NO_FORM},
    {OP_CLD, 0, ANY_SIZE(cld), NO_FORM},
    {OP_STD, 0, ANY_SIZE(std), NO_FORM},
    {OP_SAHF, 0, ANY_SIZE(sahf), NO_FORM},
    {OP_LAHF, 0, ANY_SIZE(lahf), NO_FORM},
    {OP_SALC, 0, ANY_SIZE(salc), NO_FORM},
    ROW_LAST,
};
