/*
 * What both legs make of a case: its instruction, its registers, and its segments. Both legs make theirs from the same table: the native one as entries of its LDT, the
 * guest as contents of the registers.
 */
#include <string.h>

#include "insn.h"

enum { USER = 3 << SEG_DPL_SHIFT | SEG_S | SEG_P | SEG_ACCESSED };

/* In GS, all offsets that an operand may have: 16 bytes of it are aligned in memory where their offset is not. Its limit is
   no multiple of anything, below the end of the writable pages; expand-down segments end above it. */
enum { GS_LIMIT = 0x1e36, GS_LIMIT_DOWN = 0x236 };
const struct seg ldt_segments[LDT_COUNT] = {
    [LDT_CODE16] = {CODE_BASE, 0xffff, LDT_SELECTOR(LDT_CODE16), USER | SEG_CODE | SEG_WRITE},
    [LDT_DATA16] = {DATA_BASE16, 0xffff, LDT_SELECTOR(LDT_DATA16), USER | SEG_WRITE},
    [LDT_GS_WRITABLE] = {GS_BASE, GS_LIMIT, LDT_SELECTOR(LDT_GS_WRITABLE), USER | SEG_WRITE | SEG_DB},
    [LDT_GS_READ_ONLY] = {GS_BASE, GS_LIMIT, LDT_SELECTOR(LDT_GS_READ_ONLY), USER},
    [LDT_GS_DOWN] = {GS_BASE, GS_LIMIT_DOWN, LDT_SELECTOR(LDT_GS_DOWN),
                     USER | SEG_WRITE | SEG_EXPAND_DOWN | SEG_DB},
    [LDT_GS_DOWN16] = {GS_BASE, GS_LIMIT_DOWN, LDT_SELECTOR(LDT_GS_DOWN16),
                       USER | SEG_WRITE | SEG_EXPAND_DOWN},
    [LDT_GS_CODE] = {GS_BASE, GS_LIMIT, LDT_SELECTOR(LDT_GS_CODE), USER | SEG_CODE | SEG_WRITE | SEG_DB},
};

struct seg case_segment(const struct insn_case *test, unsigned n)
{
    const struct seg flat_data = {0, 0xffffffff, 0x2b, USER | SEG_WRITE | SEG_G | SEG_DB};
    struct seg flat_code = {0, 0xffffffff, 0x33, USER | SEG_CODE | SEG_WRITE | SEG_G};
    bool code16 = test->mode == X86_CODE16;

    switch (n) {
    case SEG_CS:
        if (code16)
            return ldt_segments[LDT_CODE16];
        if (test->mode == X86_CODE64) {
            flat_code.attr |= SEG_L;
        } else {
            flat_code.attr |= SEG_DB;
            flat_code.selector = 0x23;
        }
        return flat_code;
    case SEG_FS: return (struct seg){.attr = SEG_UNUSABLE};
    case SEG_GS: return ldt_segments[test->gs];
    case SEG_SS: return code16 != (test->layout == LAYOUT_OTHER_STACK) ? ldt_segments[LDT_DATA16] : flat_data;
    default:
        return test->layout == LAYOUT_LIMITED ? ldt_segments[test->gs]
               : code16                       ? ldt_segments[LDT_DATA16]
                                              : flat_data;
    }
}

u64 case_segment_base(const struct insn_case *test, unsigned n)
{
    return test->mode == X86_CODE64 && n != SEG_GS ? 0 : case_segment(test, n).base;
}

bool case_decode(struct insn_case *test)
{
    struct x86_decode_mode mode = {test->mode, false};

    if (x86_decode(&mode, test->code, test->length, &test->insn) == X86_DECODE_OK &&
        test->insn.length == test->length)
        return true;
    test->insn.op = OP_INVALID;
    return false;
}

bool x86_is_prefix(u8 byte, u8 mode)
{
    static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3};

    return memchr(prefixes, byte, sizeof(prefixes)) || (mode == X86_CODE64 && (byte & 0xf0) == 0x40);
}

/* With a 16-bit stack the upper half of ESP is not kept by a return from the kernel; outside 64-bit code nothing tells the
   upper halves of registers. */
u64 case_register_mask(const struct insn_case *test, unsigned n)
{
    return test->mode == X86_CODE64 ? UINT64_MAX : case_stack16(test) && n == RSP ? 0xffff : 0xffffffff;
}

/* The registers hold zeros and places in the data window, so only addresses of its own can lead anywhere else; and FS to the
   thread's data. */
bool case_is_harmless(const struct insn_case *test)
{
    const struct x86_insn *n = &test->insn;

    return !(x86_ops[n->op].attributes & X86_OP_BRANCH) && !(n->is_mem && n->disp) &&
           !(test->mode == X86_CODE64 && n->segment == SEG_FS);
}
