/*
 * Arithmetic flags, computed by the host CPU and kept as it gives them: LAHF's byte (SF ZF 0 AF 0 PF 1 CF) in bits 8..15,
 * OF in bit 0. Two cheap host instructions after each operation, the same undefined flags as the host, and no table of
 * lazy operands to interpret.
 *
 * Every operation is an asm block that leaves result and flags, so that no compiler freedom gets between the two:
 *
 *     asm("addq %[b], %[a]\n\t" ASM_GET_FLAGS : [a] "+r"(a), "=&a"(flags) : [b] "r"(b) : "cc");
 *
 * (`flags` in EAX, early-clobbered by nothing but the last two instructions; operands must not be in EAX.)
 */
#ifndef ENGINE_INTERP_FLAGS_H
#define ENGINE_INTERP_FLAGS_H

#include "base/types.h"
#include "x86/vcpu_state.h"

/* Bits of the packed form. */
enum {
    PACKED_OF = 1 << 0,
    PACKED_CF = 1 << 8,
    PACKED_PF = 1 << 10,
    PACKED_AF = 1 << 12,
    PACKED_ZF = 1 << 14,
    PACKED_SF = 1 << 15,
};

/* Appended to an asm that sets the flags; u32 result in EAX, of which the low 16 bits count. */
#define ASM_GET_FLAGS "lahf\n\tseto %%al\n\t"
/* Put before an asm that reads CF; the packed flags in a register operand named [f]. */
#define ASM_SET_CF "btl $8, %k[f]\n\t"

/* All of them in, for an instruction that leaves some (or, with a count of 0, all) alone; EAX is clobbered. OF comes from an
   addition that overflows exactly when bit 0 is set. */
#define ASM_SET_FLAGS "movl %k[f], %%eax\n\taddb $0x7f, %%al\n\tsahf\n\t"

static inline u16 flags_pack(u64 rflags)
{
    return (u16)((rflags & 0xd5) << 8 | (rflags & FLAG_OF) >> 11);
}
static inline u64 flags_unpack(u16 packed)
{
    return (u64)(packed >> 8 & 0xd5) | (u64)(packed & 1) << 11;
}

/* Whether the host leaves OF alone in a rotate by an immediate above 1, where the manual has it undefined. */
static inline bool flags_rotate_keeps_of(void)
{
    u8 a = 0x7f, of;

    asm("addb $1, %[a]\n\tmovb $0, %[a]\n\trolb $3, %[a]\n\tseto %[of]"
        : [a] "+r"(a), [of] "=r"(of)
        :
        : "cc");
    return of;
}

/* Whether the host's SHL, SHR and SAR by an immediate other than 0 write all arithmetic flags, those included that the manual
   leaves undefined: no flag of before can be seen in them. */
static inline bool flags_shifts_write_all(void)
{
    static const u64 before[2] = {0, FLAGS_ARITH};
    u64 after[2][3];

    for (unsigned n = 0; n < 2; n++) {
        u32 a = 0x80000005, b = a, c = a;

        asm("pushq %[f]\n\tpopfq\n\tshll $3, %[a]\n\tpushfq\n\tpopq %[x]\n\t"
            "pushq %[f]\n\tpopfq\n\tshrl $3, %[b]\n\tpushfq\n\tpopq %[y]\n\t"
            "pushq %[f]\n\tpopfq\n\tsarl $3, %[c]\n\tpushfq\n\tpopq %[z]"
            : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [x] "=&r"(after[n][0]), [y] "=&r"(after[n][1]),
              [z] "=&r"(after[n][2])
            : [f] "r"(before[n])
            : "cc");
    }
    return !(((after[0][0] ^ after[1][0]) | (after[0][1] ^ after[1][1]) | (after[0][2] ^ after[1][2])) &
             FLAGS_ARITH);
}

/* Whether condition `cc` (the low 4 bits of a Jcc opcode) holds; `cc` is a constant at every use. */
static inline __attribute__((always_inline)) bool flags_condition(u16 f, unsigned cc)
{
    bool sf_ne_of = (f >> 15 ^ f) & 1;
    bool r;

    switch (cc >> 1) {
    case 0: r = f & PACKED_OF; break;
    case 1: r = f & PACKED_CF; break;
    case 2: r = f & PACKED_ZF; break;
    case 3: r = f & (PACKED_CF | PACKED_ZF); break;
    case 4: r = f & PACKED_SF; break;
    case 5: r = f & PACKED_PF; break;
    case 6: r = sf_ne_of; break;
    default: r = sf_ne_of || (f & PACKED_ZF); break;
    }
    return r != (cc & 1);
}

#endif
