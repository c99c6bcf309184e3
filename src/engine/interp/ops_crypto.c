/*
 * AES, carry-less multiplication, SHA and CRC32.
 */
#include "engine/interp/ops_sse.h"

FP_CRYPTO(SSE_INT_OP)
FP_XMM0_CRYPTO(SSE_XMM0_OP)
FP_IMM_CRYPTO(SSE_IMM_OP)

/* CRC32: the accumulator is 32 bits wide; the upper half of the destination becomes zero, with REX.W too. */
#define CRC32(bits, insn, constraint)                                                                        \
    static u32 crc32_##bits(const struct interp *c, u32 crc, u##bits v)                                      \
    {                                                                                                        \
        u64 r = crc;                                                                                         \
                                                                                                             \
        if (!FP_HAS(&c->fp, SSE4_2))                                                                         \
            return soft_CRC32(crc, v, bits / 8);                                                             \
        asm(insn : [crc] "+r"(r) : [v] constraint(v));                                                       \
        return (u32)r;                                                                                       \
    }                                                                                                        \
    static void crc32_##bits##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)               \
    {                                                                                                        \
        u##bits v = load##bits(c, i, interp_ea(s, c, i, bits / 8, MEM_READ));                                \
                                                                                                             \
        s->gpr[i->reg] = crc32_##bits(c, (u32)s->gpr[i->reg], v);                                            \
        NEXT;                                                                                                \
    }
CRC32(8, "crc32b %[v], %k[crc]", "q")
CRC32(16, "crc32w %[v], %k[crc]", "r")
CRC32(32, "crc32l %[v], %k[crc]", "r")
CRC32(64, "crc32q %[v], %[crc]", "r")
/* The byte register is an offset into the register file (struct cell). */
static void crc32_8_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    s->gpr[i->reg] = crc32_8(c, (u32)s->gpr[i->reg], ((const u8 *)s->gpr)[i->rm]);
    NEXT;
}
#define CRC32_REGISTER(bits)                                                                                 \
    static void crc32_##bits##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)               \
    {                                                                                                        \
        s->gpr[i->reg] = crc32_##bits(c, (u32)s->gpr[i->reg], (u##bits)s->gpr[i->rm]);                       \
        NEXT;                                                                                                \
    }
CRC32_REGISTER(16)
CRC32_REGISTER(32)
CRC32_REGISTER(64)

/* clang-format off */
const struct interp_row interp_crypto_rows[] = {
    FP_CRYPTO(SSE_ROW)
    FP_XMM0_CRYPTO(SSE_ROW)
    FP_IMM_CRYPTO(SSE_ROW)
    {OP_CRC32_Gd_Eb, ROW_RM8, ANY_SIZE(crc32_8_r), ANY_SIZE(crc32_8_m)},
    {OP_CRC32_Gd_Ev, 0, {crc32_16_r, crc32_32_r, crc32_64_r}, {crc32_16_m, crc32_32_m, crc32_64_m}},
    ROW_LAST,
};
