/*
 * Shifts and rotates, SHLD and SHRD, and the BMI2 shifts without flags.
 *
 * The host executes them with CL as count, on operands with the guest's CF loaded; where a count of 0 leaves the flags
 * alone, so does the host's. OF and AF for counts above 1 are undefined by the manual and so the host's. On some CPUs ROL
 * and ROR of a register by an immediate above 1 keep OF, and those by CL or of memory do not.
 */
#include "engine/interp/ops.h"

enum {
    KEEPS_rol = 1,
    KEEPS_ror = 1,
    KEEPS_rcl = 0,
    KEEPS_rcr = 0,
    KEEPS_shl = 0,
    KEEPS_shr = 0,
    KEEPS_sar = 0
};

/* The flags after a rotate by immediate `count`, which the host did by CL. */
static ALWAYS_INLINE void keep_of(struct interp *c, u16 before, unsigned bits, u8 count)
{
    if ((count & (bits == 64 ? 63 : 31)) != 1 && c->rotate_keeps_of)
        c->flags = (u16)((c->flags & ~PACKED_OF) | (before & PACKED_OF));
}

#define DEFINE_SHIFT(name, bits)                                                                             \
    static ALWAYS_INLINE u##bits name##_value##bits(u16 *flags, u##bits a, u8 count)                         \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm(ASM_SET_FLAGS #name SUFFIX_##bits " %%cl, %[a]\n\t" ASM_GET_FLAGS                                \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : "c"(count), [f] "r"((u32)*flags)                                                               \
            : "cc");                                                                                         \
        *flags = (u16)f;                                                                                     \
        return a;                                                                                            \
    }                                                                                                        \
    HANDLER(name##_er_im##bits)                                                                              \
    {                                                                                                        \
        u16 before = c->flags;                                                                               \
                                                                                                             \
        set##bits(s, i->rm, name##_value##bits(&c->flags, get##bits(s, i->rm), (u8)i->imm));                 \
        if (KEEPS_##name)                                                                                    \
            keep_of(c, before, bits, (u8)i->imm);                                                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_1##bits)                                                                               \
    {                                                                                                        \
        set##bits(s, i->rm, name##_value##bits(&c->flags, get##bits(s, i->rm), 1));                          \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_cl##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->rm, name##_value##bits(&c->flags, get##bits(s, i->rm), get8(s, 8)));                 \
        NEXT;                                                                                                \
    }                                                                                                        \
    static ALWAYS_INLINE void name##_memory##bits(struct vcpu_state *s, struct interp *c,                    \
                                                  const struct cell *i, u8 count)                            \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
                                                                                                             \
        *p = name##_value##bits(&c->flags, *p, count);                                                       \
        rmw_end(c, i);                                                                                       \
    }                                                                                                        \
    HANDLER(name##_em_im##bits)                                                                              \
    {                                                                                                        \
        name##_memory##bits(s, c, i, (u8)i->imm);                                                            \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_1##bits)                                                                               \
    {                                                                                                        \
        name##_memory##bits(s, c, i, 1);                                                                     \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_cl##bits)                                                                              \
    {                                                                                                        \
        name##_memory##bits(s, c, i, get8(s, 8));                                                            \
        NEXT;                                                                                                \
    }
FOR_ALL(DEFINE_SHIFT, rol)
FOR_ALL(DEFINE_SHIFT, ror)
FOR_ALL(DEFINE_SHIFT, rcl)
FOR_ALL(DEFINE_SHIFT, rcr)
FOR_ALL(DEFINE_SHIFT, shl)
FOR_ALL(DEFINE_SHIFT, shr)
FOR_ALL(DEFINE_SHIFT, sar)

#define ROWS_SHIFT(NAME, name)                                                                               \
    {OP_##NAME##_Eb_Ib, ROW_RM8, ANY_SIZE(name##_er_im8), ANY_SIZE(name##_em_im8)},                          \
        {OP_##NAME##_Ev_Ib, 0, BY_SIZE(name##_er_im), BY_SIZE(name##_em_im)},                                \
        {OP_##NAME##_Eb_1, ROW_RM8, ANY_SIZE(name##_er_18), ANY_SIZE(name##_em_18)},                         \
        {OP_##NAME##_Ev_1, 0, BY_SIZE(name##_er_1), BY_SIZE(name##_em_1)},                                   \
        {OP_##NAME##_Eb_CL, ROW_RM8, ANY_SIZE(name##_er_cl8), ANY_SIZE(name##_em_cl8)},                      \
    {                                                                                                        \
        OP_##NAME##_Ev_CL, 0, BY_SIZE(name##_er_cl), BY_SIZE(name##_em_cl)                                   \
    }

/* ---- double shifts ---- */

#define DEFINE_DOUBLE(name, bits)                                                                            \
    static ALWAYS_INLINE u##bits name##_value##bits(u16 *flags, u##bits a, u##bits b, u8 count)              \
    {                                                                                                        \
        u32 f;                                                                                               \
                                                                                                             \
        asm(ASM_SET_FLAGS #name SUFFIX_##bits " %%cl, %[b], %[a]\n\t" ASM_GET_FLAGS                          \
            : [a] "+&r"(a), "=&a"(f)                                                                         \
            : "c"(count), [b] "r"(b), [f] "r"((u32)*flags)                                                   \
            : "cc");                                                                                         \
        *flags = (u16)f;                                                                                     \
        return a;                                                                                            \
    }                                                                                                        \
    HANDLER(name##_er_im##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->rm,                                                                                  \
                  name##_value##bits(&c->flags, get##bits(s, i->rm), get##bits(s, i->reg), (u8)i->imm));     \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_er_cl##bits)                                                                              \
    {                                                                                                        \
        set##bits(s, i->rm,                                                                                  \
                  name##_value##bits(&c->flags, get##bits(s, i->rm), get##bits(s, i->reg), get8(s, 8)));     \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_im##bits)                                                                              \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
                                                                                                             \
        *p = name##_value##bits(&c->flags, *p, get##bits(s, i->reg), (u8)i->imm);                            \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em_cl##bits)                                                                              \
    {                                                                                                        \
        u##bits##_unaligned *p = rmw_begin(c, i, interp_ea(s, c, i, bits / 8, MEM_WRITE), bits / 8);         \
                                                                                                             \
        *p = name##_value##bits(&c->flags, *p, get##bits(s, i->reg), get8(s, 8));                            \
        rmw_end(c, i);                                                                                       \
        NEXT;                                                                                                \
    }
FOR_V(DEFINE_DOUBLE, shld)
FOR_V(DEFINE_DOUBLE, shrd)

/* ---- BMI2: no flags ---- */

#define DEFINE_BMI_SHIFT(name, bits, expression)                                                             \
    static ALWAYS_INLINE u##bits name##_value##bits(u##bits a, unsigned n)                                   \
    {                                                                                                        \
        return (u##bits)(expression);                                                                        \
    }                                                                                                        \
    HANDLER(name##_er##bits)                                                                                 \
    {                                                                                                        \
        set##bits(s, i->reg, name##_value##bits(get##bits(s, i->rm), get##bits(s, i->vvvv) & (bits - 1)));   \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em##bits)                                                                                 \
    {                                                                                                        \
        u##bits a = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        set##bits(s, i->reg, name##_value##bits(a, get##bits(s, i->vvvv) & (bits - 1)));                     \
        NEXT;                                                                                                \
    }
DEFINE_BMI_SHIFT(shlx, 32, a << n)
DEFINE_BMI_SHIFT(shlx, 64, a << n)
DEFINE_BMI_SHIFT(shrx, 32, a >> n)
DEFINE_BMI_SHIFT(shrx, 64, a >> n)
DEFINE_BMI_SHIFT(sarx, 32, (i32)a >> n)
DEFINE_BMI_SHIFT(sarx, 64, (i64)a >> n)

#define DEFINE_RORX(bits)                                                                                    \
    static ALWAYS_INLINE u##bits rorx_value##bits(u##bits a, unsigned n)                                     \
    {                                                                                                        \
        return (u##bits)(a >> n | a << (-n & (bits - 1)));                                                   \
    }                                                                                                        \
    HANDLER(rorx_er##bits)                                                                                   \
    {                                                                                                        \
        set##bits(s, i->reg, rorx_value##bits(get##bits(s, i->rm), (unsigned)i->imm &(bits - 1)));           \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(rorx_em##bits)                                                                                   \
    {                                                                                                        \
        u##bits a = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        set##bits(s, i->reg, rorx_value##bits(a, (unsigned)i->imm &(bits - 1)));                             \
        NEXT;                                                                                                \
    }
DEFINE_RORX(32)
DEFINE_RORX(64)

#define BY_Y(prefix)                                                                                         \
    {                                                                                                        \
        NULL, prefix##32, prefix##64                                                                         \
    }

const struct interp_row interp_shift_rows[] = {
    ROWS_SHIFT(ROL, rol),
    ROWS_SHIFT(ROR, ror),
    ROWS_SHIFT(RCL, rcl),
    ROWS_SHIFT(RCR, rcr),
    ROWS_SHIFT(SHL, shl),
    ROWS_SHIFT(SHR, shr),
    ROWS_SHIFT(SAR, sar),
    {OP_SHLD_Ev_Gv_Ib, 0, BY_SIZE(shld_er_im), BY_SIZE(shld_em_im)},
    {OP_SHLD_Ev_Gv_CL, 0, BY_SIZE(shld_er_cl), BY_SIZE(shld_em_cl)},
    {OP_SHRD_Ev_Gv_Ib, 0, BY_SIZE(shrd_er_im), BY_SIZE(shrd_em_im)},
    {OP_SHRD_Ev_Gv_CL, 0, BY_SIZE(shrd_er_cl), BY_SIZE(shrd_em_cl)},
    {OP_SHLX_Gy_Ey_By, 0, BY_Y(shlx_er), BY_Y(shlx_em)},
    {OP_SHRX_Gy_Ey_By, 0, BY_Y(shrx_er), BY_Y(shrx_em)},
    {OP_SARX_Gy_Ey_By, 0, BY_Y(sarx_er), BY_Y(sarx_em)},
    {OP_RORX_Gy_Ey_Ib, 0, BY_Y(rorx_er), BY_Y(rorx_em)},
    ROW_LAST,
};
