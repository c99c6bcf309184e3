/*
 * The state around an instruction: registers, flags, x87 and vector state and memory from pools of edge values (values.c),
 * the memory operand aimed into the data window, and what the instruction needs besides (constraints.c).
 */
#include <string.h>

#include "insn.h"

/*
 * AddressSanitizer keeps memory of its own below 4 GiB, where addresses by chance would hit it in the native leg: then all
 * must lie in or near the windows.
 */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
const bool addresses_anywhere = false;
#else
const bool addresses_anywhere = true;
#endif

u64 components_of_both;

static u64 address_mask(const struct x86_insn *insn)
{
    return insn->address_size == 8 ? UINT64_MAX : (1ull << 8 * insn->address_size) - 1;
}

/* In the data window: mostly aligned, sometimes not, across the end of a page, read-only, or beyond. */
u64 random_target(struct random *r)
{
    u64 pick = random_next(r);

    switch (pick & 15) {
    case 0: return DATA_BASE + 0x1000 - (pick >> 8 & 31);
    case 1: return DATA_BASE + DATA_WRITABLE - (pick >> 8 & 31);
    case 2: return DATA_BASE + DATA_SIZE - (pick >> 8 & 31);
    case 3:
    case 4:
    case 5: return DATA_BASE + 0x200 + (pick >> 8 & 0x7ff);
    default: return DATA_BASE + 0x200 + (pick >> 8 & 0x7c0);
    }
}

u64 segment_offset(const struct insn_case *test, unsigned segment, u64 linear)
{
    return linear - case_segment_base(test, segment);
}

void set_address_register(struct insn_case *test, unsigned reg, u64 value)
{
    u64 mask = address_mask(&test->insn);

    test->in.gpr[reg] = (test->in.gpr[reg] & ~mask) | (value & mask);
}

static bool is_vsib(const struct insn_case *test)
{
    return strstr(x86_ops[test->insn.op].mnemonic, "GATHER");
}

/* What base, index and displacement give. The elements of a vector index are added by the instruction. */
static u64 effective_address(const struct insn_case *test)
{
    const struct x86_insn *n = &test->insn;
    u64 offset = (u64)n->disp;

    if (n->base < X86_NO_REG)
        offset += test->in.gpr[n->base];
    else if (n->base == X86_RIP_REG)
        offset += test->in.rip + test->length;
    if (n->index < X86_NO_REG && !is_vsib(test))
        offset += test->in.gpr[n->index] << n->scale;
    return offset & address_mask(n);
}

/* Choose registers, or the displacement, so that the operand is at `offset`, as far as that can be. */
static void aim(struct insn_case *test, const struct encoded *e, u64 offset)
{
    struct x86_insn *n = &test->insn;
    bool base = n->base < X86_NO_REG, index = n->index < X86_NO_REG && !is_vsib(test);
    u64 *gpr = test->in.gpr;

    if (base && index && n->base == n->index) {
        set_address_register(test, n->base, (offset - (u64)n->disp) / (1 + (1ull << n->scale)));
    } else if (base) {
        set_address_register(test, n->base, offset - (u64)n->disp - (index ? gpr[n->index] << n->scale : 0));
    } else if (index) {
        set_address_register(test, n->index, (offset - (u64)n->disp) >> n->scale);
    } else if (e->disp_at && e->disp_size >= 2) {
        u64 disp = n->base == X86_RIP_REG ? offset - (test->in.rip + test->length) : offset;

        memcpy(test->code + e->disp_at, &disp, e->disp_size);
        n->disp = e->disp_size == 2 ? (i64)(i16)disp : e->disp_size == 4 ? (i64)(i32)disp : (i64)disp;
    }
}

static bool has_memory_operand(const struct insn_case *test)
{
    return test->insn.is_mem || test->insn.disp;
}

/* The explicit memory operand, if there is one, is at a place of ours. */
static bool operand_is_near(const struct insn_case *test)
{
    u64 linear = case_segment_base(test, test->insn.segment) + effective_address(test);

    return !has_memory_operand(test) || linear - (DATA_BASE - 0x1000) < 0x1000 + DATA_SIZE + 0x1000 ||
           linear - CODE_BASE < 0x10000;
}

/* Write to the initial data, as far as the address is in the writable part of the window. */
void poke(struct insn_case *test, u64 linear, const void *from, unsigned size)
{
    for (unsigned n = 0; n < size; n++)
        if (linear + n - DATA_BASE < DATA_WRITABLE)
            test->data[linear + n - DATA_BASE] = ((const u8 *)from)[n];
}
void poke64(struct insn_case *test, u64 linear, u64 v)
{
    poke(test, linear, &v, 8);
}

/* A place in the code pages where an INT3 waits. */
u64 code_target(struct random *r, const struct insn_case *test)
{
    return segment_offset(test, SEG_CS, CODE_BASE + 0x100 + random_below(r, 0x600));
}

static void choose_stack(struct insn_case *test, struct random *r)
{
    u64 linear = DATA_BASE + 0x1800 + (random_next(r) >> 5 & 0x3f8);

    if (random_chance(r, 8))
        linear += random_below(r, 8);
    if (random_chance(r, 16))
        linear = random_target(r);
    test->in.gpr[RSP] = segment_offset(test, SEG_SS, linear);
    if (!addresses_anywhere || random_chance(r, 4))
        test->in.gpr[RBP] = segment_offset(test, SEG_SS, linear + (random_next(r) >> 7 & 0x7f));
}

static void choose_segments(struct insn_case *test, struct random *r)
{
    test->gs = LDT_GS + (random_chance(r, 2) ? 0 : (u8)random_below(r, LDT_COUNT - LDT_GS));
    if (test->mode != X86_CODE64 && random_chance(r, 6))
        test->layout = 1 + (u8)random_below(r, LAYOUT_COUNT - 1);
}

/* Mostly in the middle of a page; at the end of the last one; across the end of the first. */
static u64 choose_place(const struct insn_case *test, struct random *r)
{
    unsigned at = CODE_OFFSET;

    if (random_chance(r, 16))
        at = CODE_SIZE - test->length;
    else if (random_chance(r, 32))
        at = 0x1000 - (unsigned)random_below(r, test->length);
    return segment_offset(test, SEG_CS, CODE_BASE + at);
}

bool generate_from(const struct encoded *e, u8 mode, u64 seed, struct insn_case *test)
{
    struct x86_decode_mode decode_mode = {mode, false};
    struct random r = {seed ^ 0xd1342543de82ef95};
    static u8 background[DATA_SIZE];
    u64 target;
    u16 op;

    if (!background[0])
        data_background(background);
    memset(test, 0, offsetof(struct insn_case, data));
    memcpy(test->data, background, DATA_WRITABLE);
    test->seed = seed;
    test->mode = mode;
    memcpy(test->code, e->bytes, X86_MAX_INSN);
    if (x86_decode(&decode_mode, test->code, X86_MAX_INSN, &test->insn) != X86_DECODE_OK)
        return false;
    op = test->insn.op;
    test->length = test->insn.length;
    if (excluded(op) || (mode == X86_CODE64 && test->insn.segment == SEG_FS))
        return false; /* the host's thread pointer */
    choose_segments(test, &r);
    for (unsigned n = 0; n < 16; n++) {
        random_next(&r);
        test->in.gpr[n] = integer_value(&r);
        if (mode != X86_CODE64)
            test->in.gpr[n] &= 0xffffffff;
    }
    test->in.rip = choose_place(test, &r);
    test->in.rflags = (random_next(&r) & FLAGS_ARITH) | FLAG_ONE | FLAG_IF |
                      (random_chance(&r, 4) ? FLAG_DF : 0) | (random_chance(&r, 40) ? FLAG_TF : 0) |
                      (random_chance(&r, 16) ? FLAG_AC : 0);
    random_fx(&r, test->in.fx);
    random_ymm(&r, &test->in);

    choose_stack(test, &r);
    target = test->insn.segment == SEG_CS && mode == X86_CODE16 ? CODE_BASE + random_below(&r, CODE_SIZE)
                                                                : random_target(&r);
    constrain_registers(test, &r, &target);
    if (has_memory_operand(test)) {
        u8 operand[64];

        aim(test, e, segment_offset(test, test->insn.segment, target));
        target = case_segment_base(test, test->insn.segment) + effective_address(test);
        for (unsigned k = 0; k < sizeof(operand); k += 16)
            random_operand(&r, op, operand + k);
        poke(test, target, operand, sizeof(operand));
    }
    constrain_rest(test, &r, target);
    if (address_excluded(test, effective_address(test)))
        return false;
    /* What was patched must still be the same instruction. */
    return x86_decode(&decode_mode, test->code, X86_MAX_INSN, &test->insn) == X86_DECODE_OK &&
           test->insn.op == op && test->insn.length == test->length &&
           (addresses_anywhere || operand_is_near(test));
}

bool generate(u16 op, u8 mode, u64 seed, struct insn_case *test)
{
    struct random r = {seed};
    struct encoded e;

    random_next(&r);
    return encode(op, mode, &r, &e) && generate_from(&e, mode, seed, test);
}
