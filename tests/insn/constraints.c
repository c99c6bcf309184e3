/*
 * What some instructions need so that they do more than fault or hit the test program's own memory: a table, with the reason.
 */
#include <string.h>

#include "insn.h"

static u16 xmm_at(unsigned n)
{
    return (u16)(160 + 16 * n);
}

/* ---- registers ---- */

/* Byte `n` of the vector register `reg`, upper half included. */
static u8 *vector_byte(struct insn_case *test, unsigned reg, unsigned n)
{
    return n < 16 ? &test->in.fx[xmm_at(reg) + n] : &test->in.ymm[reg][n - 16];
}

static void bit_offset(struct insn_case *test, struct random *r, u64 *target)
{
    test->in.gpr[test->insn.reg] = random_below(r, 512) - 256;
    if (random_chance(r, 8)) /* into the page before, or behind */
        test->in.gpr[test->insn.reg] = random_below(r, 0x18000) - 0xc000;
}

static void string(struct insn_case *test, struct random *r, u64 *target)
{
    u64 count_mask = test->insn.address_size == 8 ? UINT64_MAX : (1ull << 8 * test->insn.address_size) - 1;

    set_address_register(test, RSI, segment_offset(test, test->insn.segment, random_target(r)));
    set_address_register(test, RDI, segment_offset(test, SEG_ES, random_target(r)));
    if (random_chance(r, 4)) /* overlapping */
        set_address_register(
            test, RDI,
            segment_offset(test, SEG_ES, case_segment_base(test, test->insn.segment) + test->in.gpr[RSI]) +
                random_below(r, 17) - 8);
    test->in.gpr[RCX] = (test->in.gpr[RCX] & ~count_mask) | random_below(r, 20);
}

/* The destination is DS:rDI. */
static void mask_move(struct insn_case *test, struct random *r, u64 *target)
{
    set_address_register(test, RDI, segment_offset(test, test->insn.segment, random_target(r)));
}

static void table_lookup(struct insn_case *test, struct random *r, u64 *target)
{
    set_address_register(test, RBX, segment_offset(test, test->insn.segment, random_target(r)));
}

static void text_length(struct insn_case *test, struct random *r, u64 *target)
{
    if (!random_chance(r, 4))
        test->in.gpr[RAX] = random_below(r, 40) - 20;
    if (!random_chance(r, 4))
        test->in.gpr[RDX] = random_below(r, 40) - 20;
}

static bool is_signed(const struct insn_case *test)
{
    return op_matches(test->insn.op, "IDIV");
}

/* A quotient that fits: a dividend whose high part is below the divisor. */
static void quotient(struct insn_case *test, struct random *r, u64 *target)
{
    if (random_chance(r, 3))
        return;
    if (random_chance(r, 2)) {
        test->in.gpr[RDX] = is_signed(test) && test->in.gpr[RAX] >> 31 & 1 ? UINT64_MAX : 0;
        if (test->insn.operand_size == 8 && is_signed(test))
            test->in.gpr[RDX] = (u64)((i64)test->in.gpr[RAX] >> 63);
        test->in.gpr[RAX] &= random_chance(r, 2) ? 0xffffffffffff00ff : UINT64_MAX;
    } else {
        test->in.gpr[RDX] >>= 32 + random_below(r, 32);
        test->in.gpr[RAX] &= ~0xfc00ull;
    }
    if (test->mode != X86_CODE64)
        test->in.gpr[RDX] &= 0xffffffff;
}

static void image_place(struct insn_case *test, struct random *r, u64 *target)
{
    if (!random_chance(r, 8))
        *target = DATA_BASE + 0x40 * random_below(r, 16);
    else if (random_chance(r, 2)) /* some of it where nothing is, or where nothing can be written */
        *target = (random_chance(r, 2) ? DATA_BASE : DATA_BASE + DATA_WRITABLE) - 0x40 * random_below(r, 16);
}

/* Elements of the index within the window; a few outside, and a few in other pages of it. */
static void gather(struct insn_case *test, struct random *r, u64 *target)
{
    bool qword_index = strstr(x86_ops[test->insn.op].mnemonic, "GATHERQ");
    unsigned size = qword_index ? 8 : 4, mask = test->insn.vvvv, index = test->insn.index;

    *target = DATA_BASE + 0x800 + (random_chance(r, 4) ? random_below(r, 64) : 0);
    for (unsigned n = 0; n < 32; n += size) {
        i64 element = (i64)random_below(r, 0x400) - 0x200;

        if (random_chance(r, 12))
            element = (i64)random_below(r, 0x4000) - 0x1000;
        element >>= test->insn.scale;
        if (addresses_anywhere && random_chance(r, 40))
            element = (i64)integer_value(r);
        for (unsigned k = 0; k < size; k++)
            *vector_byte(test, index, n + k) = (u8)((u64)element >> 8 * k);
    }
    for (unsigned n = 3; n < 32; n += 4)
        *vector_byte(test, mask, n) = (u8)(random_chance(r, 4) ? 0x7f : 0x80 | random_next(r) >> 20);
}

/* Elements that the mask leaves out may be where nothing is. */
static void mask_vector(struct insn_case *test, struct random *r, u64 *target)
{
    if (random_chance(r, 3))
        *target = DATA_BASE + 0x1000 * random_below(r, 4) - 4 * random_below(r, 9);
    for (unsigned n = 3; n < 32; n += 4)
        *vector_byte(test, test->insn.vvvv, n) = (u8)(random_next(r) >> 20);
}

/* The destination is ES:reg, and 64 bytes. */
static void direct_store(struct insn_case *test, struct random *r, u64 *target)
{
    u64 to = random_target(r);

    set_address_register(test, test->insn.reg,
                         segment_offset(test, SEG_ES, random_chance(r, 8) ? to : to & ~63ull));
}

static void line_at_rax(struct insn_case *test, struct random *r, u64 *target)
{
    set_address_register(test, RAX, segment_offset(test, test->insn.segment, random_target(r)));
}

static void index_zero(struct insn_case *test, struct random *r, u64 *target)
{
    if (!random_chance(r, 8))
        test->in.gpr[RCX] &= ~0xffffffffull;
}

/* ---- memory ---- */

static void return_address(struct insn_case *test, struct random *r, u64 linear)
{
    poke64(test, case_segment_base(test, SEG_SS) + test->in.gpr[RSP], code_target(r, test));
}

static void flags_image(struct insn_case *test, struct random *r, u64 linear)
{
    u64 flags = random_next(r) >> 20 & (random_chance(r, 2) ? UINT64_MAX : FLAGS_ARITH | FLAG_DF);

    poke64(test, case_segment_base(test, SEG_SS) + test->in.gpr[RSP], flags);
}

static void decimal(struct insn_case *test, struct random *r, u64 linear)
{
    u8 digits[10];

    for (unsigned n = 0; n < 10; n++)
        digits[n] = (u8)(random_below(r, 10) << 4 | random_below(r, 10));
    if (random_chance(r, 2))
        poke(test, linear, digits, 9);
}

static void control_word(struct insn_case *test, struct random *r, u64 linear)
{
    u32 mxcsr = (u32)(random_next(r) & 0xffff);

    if (!random_chance(r, 8))
        poke(test, linear, &mxcsr, 4);
}

static void equal(struct insn_case *test, struct random *r, u64 linear)
{
    if (random_chance(r, 2))
        return;
    poke64(test, linear, test->in.gpr[RAX]);
    if (strlen(x86_ops[test->insn.op].mnemonic) > 7) /* the 8- and 16-byte forms */
        poke64(test, linear + test->insn.operand_size, test->in.gpr[RDX]);
}

/* After the operand was aimed, which may have used rAX: then it is off its boundary again. */
static void save_mask(struct insn_case *test, struct random *r, u64 linear)
{
    test->in.gpr[RAX] = (test->in.gpr[RAX] & ~0xffffffffull) | (random_next(r) >> 8 & components_of_both);
    test->in.gpr[RDX] &= ~0xffffffffull;
}

static void fx_image(struct insn_case *test, struct random *r, u64 linear)
{
    u8 image[512];

    random_fx(r, image);
    if (random_chance(r, 16))
        image[26] = 1; /* reserved in MXCSR */
    poke(test, linear, image, sizeof(image));
}

static void save_image(struct insn_case *test, struct random *r, u64 linear)
{
    u8 image[576 + 256] = {0};
    struct insn_state vectors = {0};
    u64 bv = random_next(r) >> 8 & components_of_both;

    save_mask(test, r, linear);
    random_fx(r, image);
    if (random_chance(r, 16))
        image[26] = 1; /* reserved in MXCSR */
    random_ymm(r, &vectors);
    memcpy(image + 576, vectors.ymm, sizeof(vectors.ymm));
    memcpy(image + 512, &bv, 8);
    if (random_chance(r, 3)) {
        u64 compact = 1ull << 63 | bv | (random_next(r) >> 8 & (random_chance(r, 8) ? 3 : bv));

        memcpy(image + 520, &compact, 8);
    }
    if (random_chance(r, 16))
        image[512 + 8 * random_below(r, 8) + 1 + random_below(r, 7)] |= 0x40; /* in no use anywhere */
    poke(test, linear, image, sizeof(image));
}

static void bounds(struct insn_case *test, struct random *r, u64 linear)
{
    unsigned size = test->insn.operand_size;
    i32 index = (i32)(size == 2 ? (i16)test->in.gpr[test->insn.reg] : (i32)test->in.gpr[test->insn.reg]);
    i32 lower = index - (i32)random_below(r, 3), upper = index + (i32)random_below(r, 3);

    if (random_chance(r, 3))
        return;
    if (random_chance(r, 3))
        random_chance(r, 2) ? (lower += 2) : (upper -= 2);
    poke(test, linear, &lower, size);
    poke(test, linear + size, &upper, size);
}

/* ---- branches and code ---- */

/* The displacement is the end of the instruction; its low bytes decide in every size. Not onto itself. */
static void near_branch(struct insn_case *test, struct random *r, u64 linear)
{
    const struct x86_insn *n = &test->insn;
    const char *operands = x86_ops[n->op].operands;
    i32 distance = (i32)random_below(r, 250) - 125;
    unsigned size = strchr(operands, 'b') ? 1 : test->mode == X86_CODE64 ? 4 : n->operand_size == 2 ? 2 : 4;

    if (distance < 0 && distance >= -(i32)test->length)
        distance = 0x20;
    memcpy(test->code + test->length - size, &distance, size);
    if (random_chance(r, 3))
        test->in.gpr[RCX] = random_below(r, 3);
}

static void indirect_branch(struct insn_case *test, struct random *r, u64 linear)
{
    if (addresses_anywhere && random_chance(r, 4))
        return;
    if (test->insn.is_mem)
        poke64(test, linear, code_target(r, test));
    else
        test->in.gpr[test->insn.rm & 15] = code_target(r, test);
}

static void nesting(struct insn_case *test, struct random *r, u64 linear)
{
    if (!random_chance(r, 8))
        test->code[test->length - 1] &= random_chance(r, 2) ? 0 : 3;
    test->in.gpr[RBP] = segment_offset(test, SEG_SS, DATA_BASE + 0x1000 + (random_next(r) >> 7 & 0xf7f));
}

/* ---- the table ---- */

#define STRINGS NULL

/* A row takes all entries that match, in this order. */
static const struct {
    const char *mnemonic; /* as op_matches takes it; STRINGS: the rows of string instructions */
    const char *operands; /* exactly; NULL: any */
    const char *why;
    void (*registers)(struct insn_case *test, struct random *r, u64 *target);
    void (*rest)(struct insn_case *test, struct random *r, u64 linear);
} constraints[] = {
    /* clang-format off */
    {"BT*",       "Ev,Gv", "the bit offset moves the operand by up to an eighth of the address space", bit_offset},
    {STRINGS,     NULL,    "counts that end soon, pointers into the window", string},
    {"MASKMOV*",  NULL,    "stores at DS:rDI", mask_move},
    {"VMASKMOVDQU", NULL,  "stores at DS:rDI", mask_move},
    {"XLAT",      NULL,    "loads from a table at rBX", table_lookup},
    {"PCMPESTR*", NULL,    "lengths in rAX and rDX that mean something", text_length},
    {"VPCMPESTR*", NULL,   "lengths in rAX and rDX that mean something", text_length},
    {"DIV",       NULL,    "quotients that fit", quotient},
    {"IDIV",      NULL,    "quotients that fit", quotient},
    {"FXSAVE*",   NULL,    "512 bytes on a boundary of 16", image_place},
    {"FXRSTOR*",  NULL,    "a valid image, or nearly", image_place, fx_image},
    {"XSAVE*",    NULL,    "only the components that both legs have", image_place, save_mask},
    {"XRSTOR*",   NULL,    "a valid image, or nearly, of the components that both legs have", image_place, save_image},
    {"VGATHER*",  NULL,    "the index moves each element by up to half of the address space", gather},
    {"VPGATHER*", NULL,    "the index moves each element by up to half of the address space", gather},
    {"VMASKMOVP*", NULL,   "mask by sign bits, operands across page ends", mask_vector},
    {"VPMASKMOV*", NULL,   "mask by sign bits, operands across page ends", mask_vector},
    {"MOVDIR64B", NULL,    "stores at ES:reg, on a boundary of 64", direct_store},
    {"CLZERO",    NULL,    "stores at DS:rAX", line_at_rax},
    {"RDPKRU",    NULL,    "rCX must be 0", index_zero},
    {"WRPKRU",    NULL,    "rCX must be 0", index_zero},
    {"RET",       NULL,    "a return address in the code pages", NULL, return_address},
    {"POPF",      NULL,    "flags that user mode may set, and all others", NULL, flags_image},
    {"FBLD",      NULL,    "decimal digits", NULL, decimal},
    {"LDMXCSR",   NULL,    "no reserved bits", NULL, control_word},
    {"VLDMXCSR",  NULL,    "no reserved bits", NULL, control_word},
    {"CMPXCHG*",  NULL,    "an operand that is equal", NULL, equal},
    {"BOUND",     NULL,    "bounds about the index", NULL, bounds},
    {"J*",        "Jb",    "targets where an INT3 waits, not the instruction itself", NULL, near_branch},
    {"J*",        "Jz",    "targets where an INT3 waits", NULL, near_branch},
    {"LOOP*",     "Jb",    "targets where an INT3 waits; counts that end", NULL, near_branch},
    {"CALL",      "Jz",    "targets where an INT3 waits", NULL, near_branch},
    {"CALL",      "Ev",    "targets where an INT3 waits", NULL, indirect_branch},
    {"JMP",       "Ev",    "targets where an INT3 waits", NULL, indirect_branch},
    {"ENTER",     NULL,    "depths that read frame pointers in the window", NULL, nesting},
    /* clang-format on */
};

static bool applies(size_t n, u16 op)
{
    const char *mnemonic = constraints[n].mnemonic;

    return (mnemonic == STRINGS ? (x86_ops[op].attributes & X86_OP_REP) != 0 : op_matches(op, mnemonic)) &&
           (!constraints[n].operands || !strcmp(constraints[n].operands, x86_ops[op].operands));
}

void constrain_registers(struct insn_case *test, struct random *r, u64 *target)
{
    for (size_t n = 0; n < ARRAY_SIZE(constraints); n++)
        if (constraints[n].registers && applies(n, test->insn.op))
            constraints[n].registers(test, r, target);
}

void constrain_rest(struct insn_case *test, struct random *r, u64 linear)
{
    for (size_t n = 0; n < ARRAY_SIZE(constraints); n++)
        if (constraints[n].rest && applies(n, test->insn.op))
            constraints[n].rest(test, r, linear);
}
