/*
 * The state around an instruction: registers, flags, x87 and vector state and memory from pools of edge values, the memory
 * operand aimed into the data window, and what some instructions need besides so that they do more than fault.
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
static const bool anywhere = false;
#else
static const bool anywhere = true;
#endif

/* ---- values ---- */

static const u64 integers[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    0x7f,
    0x80,
    0x81,
    0xfe,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xfffe,
    0xffff,
    0x10000,
    0x7fffffff,
    0x80000000,
    0xfffffffe,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xfffffffffffffffe,
    0xffffffffffffffff,
    0x5555555555555555,
    0xaaaaaaaaaaaaaaaa,
    0x0123456789abcdef,
    0xffffffff80000000,
    0xffffffffffff8000,
    0xffffffffffffff80,
};
static const u32 singles[] = {
    0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000,
    0x3f800000, 0xbf800000, 0x3f7fffff, 0x3f800001, 0x3f000000, 0x3fc00000, 0x40200000, 0x4b000001,
    0x4b7fffff, 0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, 0x5effffff, 0x5f000000, 0xdf000000,
    0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fa00000, 0xff800001,
    0x7fffffff, 0x34000000, 0x33ffffff, 0x00000100, 0x1f800000, 0x60000000,
};
static const u64 doubles[] = {
    0,
    0x8000000000000000,
    1,
    0x8000000000000001,
    0x000fffffffffffff,
    0x0010000000000000,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x3fefffffffffffff,
    0x3ff0000000000001,
    0x3fe0000000000000,
    0x3ff8000000000000,
    0x4004000000000000,
    0x41dfffffffc00000,
    0x41e0000000000000,
    0xc1e0000000000000,
    0xc1e0000000200000,
    0x43dfffffffffffff,
    0x43e0000000000000,
    0xc3e0000000000000,
    0x4330000000000001,
    0x7fefffffffffffff,
    0xffefffffffffffff,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff8000000000000,
    0xfff8000000000000,
    0x7ff4000000000000,
    0xfff0000000000001,
    0x36a0000000000000,
    0x380fffffe0000000,
    0x47efffffe0000000,
    0x47efffffefffffff,
    0x369fffffffffffff,
    0x1ff0000000000000,
    0x6000000000000000,
};
static const struct {
    u64 mantissa;
    u16 exponent;
} extendeds[] = {
    {0, 0},
    {0, 0x8000},
    {0x8000000000000000, 0x3fff},
    {0x8000000000000000, 0xbfff},
    {0xc000000000000000, 0x3fff},
    {0x8000000000000000, 0x3ffe},
    {0xffffffffffffffff, 0x3ffe},
    {0x8000000000000001, 0x3fff},
    {0xa000000000000000, 0x4000},
    {0xc90fdaa22168c235, 0x4000},
    {0xc90fdaa22168c235, 0x3fff},
    {0xb504f333f9de6484, 0x3ffe},
    {1, 0},
    {1, 0x8000},
    {0x7fffffffffffffff, 0},
    {0x8000000000000000, 0} /* pseudo-denormal */,
    {0x8000000000000000, 1},
    {0xffffffffffffffff, 0x7ffe},
    {0xffffffffffffffff, 0xfffe},
    {0x8000000000000000, 0x7fff},
    {0x8000000000000000, 0xffff},
    {0xc000000000000000, 0x7fff},
    {0xc000000000000000, 0xffff},
    {0xa000000000000000, 0x7fff},
    {0x8000000000000001, 0xffff},
    {0, 0x7fff} /* unsupported */,
    {0x4000000000000000, 0x7fff},
    {1, 0x3fff} /* unnormal */,
    {0xffffffff00000000, 0x401d},
    {0x8000000000000000, 0x401e},
    {0x8000000000000000, 0xc01e},
    {0x8000000000000000, 0x403e},
    {0x8000000000000000, 0xc03e},
    {0xffffffffffffffff, 0x403d},
    {0xde0b6b3a763ffff0, 0x403a},
    {0xde0b6b3a76400000, 0x403a},
    {0x8000000000000000, 0x407e},
    {0xffffff7fffffffff, 0x407e},
    {0xffffff8000000000, 0x407e},
    {0x8000000000000000, 0x3f6a},
    {0x8000000000000000, 0x3c00},
    {0xfffffffffffffbff, 0x43fe},
    {0x8000000000000000, 0x3bcd},
    {0x9fffffffffffffff, 0x400d},
    {0x8000000000000000, 0x3fbe},
    {0x8000000000000000, 0x403f},
};

static u64 integer_value(struct random *r)
{
    u64 v = random_next(r), pick = random_next(r);

    switch (pick & 7) {
    case 0:
    case 1: return v;
    case 2: return v >> (pick >> 8 & 63);
    case 3: return (u64)((i64)v >> (pick >> 8 & 63));
    default: return integers[pick >> 8 & 0xffff % ARRAY_SIZE(integers)] + (pick >> 40 & 15 ? 0 : v);
    }
}
static u32 single_value(struct random *r)
{
    u64 pick = random_next(r);

    switch (pick & 7) {
    case 0: return (u32)random_next(r);
    case 1: return (u32)(random_next(r) & 0x81ffffff) | 0x3e000000; /* about 1 */
    default: return singles[(pick >> 8) % ARRAY_SIZE(singles)];
    }
}
static u64 double_value(struct random *r)
{
    u64 pick = random_next(r);

    switch (pick & 7) {
    case 0: return random_next(r);
    case 1: return (random_next(r) & 0x803fffffffffffff) | 0x3fc0000000000000;
    default: return doubles[(pick >> 8) % ARRAY_SIZE(doubles)];
    }
}
static void extended_value(struct random *r, u8 to[10])
{
    u64 pick = random_next(r), mantissa;
    u16 exponent;

    switch (pick & 7) {
    case 0:
        mantissa = random_next(r);
        exponent = (u16)random_next(r);
        break;
    case 1:
    case 2: /* an ordinary number */
        mantissa = random_next(r) | 1ull << 63;
        exponent = (u16)((pick >> 8 & 0x8000) | (0x3fff + (pick >> 30) % 130 - 65));
        break;
    default:
        mantissa = extendeds[(pick >> 8) % ARRAY_SIZE(extendeds)].mantissa;
        exponent = extendeds[(pick >> 8) % ARRAY_SIZE(extendeds)].exponent;
        break;
    }
    memcpy(to, &mantissa, 8);
    memcpy(to + 8, &exponent, 2);
}

/* 16 bytes of one kind. */
static void vector_value(struct random *r, u8 to[16])
{
    unsigned kind = random_next(r) >> 11 & 7;

    for (unsigned n = 0; n < 16; n += 8) {
        u64 v;

        switch (kind) {
        case 0:
        case 1:
        case 2: v = single_value(r) | (u64)single_value(r) << 32; break;
        case 3:
        case 4:
        case 5: v = double_value(r); break;
        case 6: v = integer_value(r); break;
        default: v = random_next(r); break;
        }
        memcpy(to + n, &v, 8);
    }
}

void data_background(u8 data[DATA_SIZE])
{
    struct random r = {0x5851f42d4c957f2d};

    for (unsigned n = 0; n < DATA_SIZE; n += 16)
        vector_value(&r, data + n);
}

/* ---- state ---- */

static void random_fx(struct random *r, u8 fx[512])
{
    u64 pick = random_next(r);
    u16 fcw = 0x37f, fsw, top = pick >> 3 & 7;
    u32 mxcsr = 0x1f80;
    u8 tags;

    memset(fx, 0, 512);
    if (pick & 1) { /* rounding and precision; sometimes unmasked */
        fcw = (u16)((pick >> 16 & 0xf00) | 0x7f);
        if (!(pick >> 28 & 7))
            fcw &= (u16)(pick >> 32) | 0xffc0;
    }
    if (pick & 2)
        mxcsr |= (pick >> 40 & 0x6000) | (pick >> 56 & 7 ? 0 : 0x8000) | (pick >> 59 & 7 ? 0 : 0x40);
    if (!(pick >> 50 & 15))
        mxcsr = (mxcsr & ~(u32)0x1f80) | (u32)(random_next(r) & 0x1fbf);
    if (!(pick >> 46 & 3))
        mxcsr |= (u32)(random_next(r) & 0x3f);

    pick = random_next(r);
    fsw = (u16)(top << 11 | (pick & 0x4700));
    if (!(pick & 7))
        fsw |= (u16)(pick >> 16 & 0x7f);
    else if (!(pick & 3))
        fsw |= (u16)(pick >> 16 & 0x7f & fcw); /* flags that are masked */
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    switch (pick >> 24 & 7) {
    case 0: tags = 0; break;
    case 1: tags = (u8)(pick >> 32); break;
    case 2: tags = 0xff; break;
    case 3: tags = (u8) ~(1 << top); break;              /* ST(0) is empty */
    default: tags = (u8) ~(1 << ((top - 1) & 7)); break; /* room for a push */
    }
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = tags;
    memcpy(fx + 24, &mxcsr, 4);
    fx[28] = fx[29] = 0xff; /* MXCSR_MASK */
    for (unsigned n = 0; n < 8; n++)
        extended_value(r, fx + 32 + 16 * n);
    for (unsigned n = 0; n < 16; n++)
        vector_value(r, fx + 160 + 16 * n);
}

static void random_ymm(struct random *r, struct insn_state *s)
{
    if (!host_has_ymm() || random_chance(r, 16)) /* all initial */
        return;
    for (unsigned n = 0; n < 16; n++)
        if (!random_chance(r, 8))
            vector_value(r, s->ymm[n]);
}

/* The operand's bytes: of the kinds that the instruction may want. */
static void random_operand(struct random *r, u16 op, u8 *to)
{
    u64 v;

    if (x86_ops[op].attributes & X86_OP_X87 && random_chance(r, 2)) {
        extended_value(r, to);
        if (!strcmp(x86_ops[op].mnemonic, "FBLD") && random_chance(r, 2))
            for (unsigned n = 0; n < 9; n++)
                to[n] = (u8)(random_below(r, 10) << 4 | random_below(r, 10));
        return;
    }
    if (random_chance(r, 3)) {
        for (unsigned n = 0; n < 16; n += 8) {
            v = integer_value(r);
            memcpy(to + n, &v, 8);
        }
        return;
    }
    vector_value(r, to);
}

/* ---- aiming ---- */

static u64 address_mask(const struct x86_insn *insn)
{
    return insn->address_size == 8 ? UINT64_MAX : (1ull << 8 * insn->address_size) - 1;
}

/* A linear address in the data window: mostly aligned, sometimes not, across the end of a page, read-only, or beyond. */
static u64 random_target(struct random *r)
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

/* Offset in the segments of the mode, of a linear address in the data window. */
static u64 data_offset(const struct insn_case *test, u64 linear)
{
    return test->mode == X86_CODE16 ? linear - DATA_BASE16 : linear;
}
static u64 data_linear(const struct insn_case *test, u64 offset)
{
    return test->mode == X86_CODE16 ? offset + DATA_BASE16 : offset;
}

static void set_address_register(struct insn_case *test, unsigned reg, u64 value)
{
    u64 mask = address_mask(&test->insn);

    test->in.gpr[reg] = (test->in.gpr[reg] & ~mask) | (value & mask);
}

/* Choose registers, or the displacement, so that the operand is at `offset`; returns where it is in fact. */
static u64 aim(struct insn_case *test, const struct encoded *e, u64 offset)
{
    const struct x86_insn *n = &test->insn;
    bool base = n->base < X86_NO_REG, index = n->index < X86_NO_REG;
    u64 mask = address_mask(n), *gpr = test->in.gpr;

    if (base && index && n->base == n->index) {
        u64 factor = 1 + (1ull << n->scale);

        set_address_register(test, n->base, (offset - (u64)n->disp) / factor);
        offset = gpr[n->base] * factor + (u64)n->disp;
    } else if (base) {
        set_address_register(test, n->base, offset - (u64)n->disp - (index ? gpr[n->index] << n->scale : 0));
    } else if (index) {
        set_address_register(test, n->index, (offset - (u64)n->disp) >> n->scale);
        offset = (gpr[n->index] << n->scale) + (u64)n->disp;
    } else if (e->disp_at && e->disp_size >= 2) {
        u64 disp = n->base == X86_RIP_REG ? offset - (test->in.rip + test->length) : offset;

        memcpy(test->code + e->disp_at, &disp, e->disp_size);
    }
    return offset & mask;
}

static bool named(const struct insn_case *test, const char *mnemonic)
{
    return !strcmp(x86_ops[test->insn.op].mnemonic, mnemonic);
}
static bool begins(const struct insn_case *test, const char *mnemonic)
{
    return !strncmp(x86_ops[test->insn.op].mnemonic, mnemonic, strlen(mnemonic));
}

/* The explicit memory operand, if there is one, is at a place of ours. */
static bool operand_is_near(const struct insn_case *test)
{
    const struct x86_insn *n = &test->insn;
    u64 offset = n->disp, linear;

    if (!n->is_mem && !n->disp)
        return true;
    if (n->base < X86_NO_REG)
        offset += test->in.gpr[n->base];
    else if (n->base == X86_RIP_REG)
        offset += test->in.rip + test->length;
    if (n->index < X86_NO_REG)
        offset += test->in.gpr[n->index] << n->scale;
    linear = (offset & address_mask(n)) + (test->mode != X86_CODE16 ? 0
                                           : n->segment == SEG_CS   ? CODE_BASE
                                                                    : DATA_BASE16);
    return linear - (DATA_BASE - 0x1000) < 0x1000 + DATA_SIZE + 0x1000 || linear - CODE_BASE < 0x10000;
}

/* Write to the initial data, as far as the address is in the writable part of the window. */
static void poke(struct insn_case *test, u64 linear, const void *from, unsigned size)
{
    for (unsigned n = 0; n < size; n++)
        if (linear + n - DATA_BASE < DATA_WRITABLE)
            test->data[linear + n - DATA_BASE] = ((const u8 *)from)[n];
}
static void poke64(struct insn_case *test, u64 linear, u64 v)
{
    poke(test, linear, &v, 8);
}

/* A place in the code page where an INT3 waits. */
static u64 code_target(struct random *r, const struct insn_case *test)
{
    u64 offset = 0x100 + random_below(r, 0x600);

    return test->mode == X86_CODE16 ? offset : CODE_BASE + offset;
}

/* ---- what instructions need besides ---- */

static void prepare_stack(struct insn_case *test, struct random *r)
{
    u64 linear = DATA_BASE + 0x1800 + (random_next(r) >> 5 & 0x3f8), target = code_target(r, test);

    if (random_chance(r, 8))
        linear += random_below(r, 8);
    if (random_chance(r, 16) && !named(test, "POPF"))
        linear = random_target(r);
    test->in.gpr[RSP] =
        (test->mode == X86_CODE64 ? 0 : test->in.gpr[RSP] & ~0xffffffffull) | data_offset(test, linear);
    if (begins(test, "RET"))
        poke64(test, linear, target);
    if (named(test, "POPF")) { /* no single-stepping, nested task or alignment check in this program */
        u64 flags = random_next(r) & 0xcd5;

        poke64(test, linear, flags | FLAG_IF);
    }
    if (named(test, "LEAVE") || named(test, "ENTER"))
        test->in.gpr[RBP] = data_offset(test, linear + (random_next(r) >> 7 & 0x7f));
}

static void prepare_string(struct insn_case *test, struct random *r)
{
    u64 count_mask = address_mask(&test->insn);

    set_address_register(test, RSI, data_offset(test, random_target(r)));
    set_address_register(test, RDI, data_offset(test, random_target(r)));
    if (random_chance(r, 4)) /* overlapping */
        set_address_register(test, RDI, test->in.gpr[RSI] + random_below(r, 17) - 8);
    test->in.gpr[RCX] = (test->in.gpr[RCX] & ~count_mask) | random_below(r, 20);
}

static void prepare_branch(struct insn_case *test, struct random *r, const struct encoded *e)
{
    const struct x86_insn *n = &test->insn;
    const char *operands = x86_ops[n->op].operands;

    if (operands[0] == 'J') {
        /* The displacement is the end of the instruction; its low bytes decide in every size. Not onto itself. */
        i32 distance = (i32)random_below(r, 250) - 125;
        unsigned size = strchr(operands, 'b')      ? 1
                        : test->mode == X86_CODE64 ? 4
                        : n->operand_size == 2     ? 2
                                                   : 4;

        if (distance < 0 && distance >= -(i32)test->length)
            distance = 0x20;
        memcpy(test->code + test->length - size, &distance, size);
    } else if ((!anywhere || !random_chance(r, 4)) && !n->is_mem && !begins(test, "RET")) {
        test->in.gpr[n->rm & 15] = code_target(r, test);
    }
    if (begins(test, "LOOP") || begins(test, "J"))
        if (random_chance(r, 3))
            test->in.gpr[RCX] = random_below(r, 3);
}

/* A quotient that fits: a dividend whose high part is below the divisor. */
static void prepare_division(struct insn_case *test, struct random *r)
{
    if (random_chance(r, 3))
        return;
    if (random_chance(r, 2)) {
        test->in.gpr[RDX] = named(test, "IDIV") && test->in.gpr[RAX] >> 31 & 1 ? UINT64_MAX : 0;
        if (test->insn.operand_size == 8 && named(test, "IDIV"))
            test->in.gpr[RDX] = (u64)((i64)test->in.gpr[RAX] >> 63);
        test->in.gpr[RAX] &= random_chance(r, 2) ? 0xffffffffffff00ff : UINT64_MAX;
    } else {
        test->in.gpr[RDX] >>= 32 + random_below(r, 32);
        test->in.gpr[RAX] &= ~0xfc00ull;
    }
}

/* An image that FXRSTOR or XRSTOR takes, or nearly. */
static void prepare_image(struct insn_case *test, struct random *r, u64 linear)
{
    u8 image[576] = {0};
    u64 bv = random_next(r) >> 8 & 3;

    random_fx(r, image);
    if (random_chance(r, 16) && !begins(test, "XRSTOR"))
        image[26] =
            1; /* reserved in MXCSR. XRSTOR loads some registers before it finds that; which, is the CPU's affair */
    memcpy(image + 512, &bv, 8);
    if (random_chance(r, 3)) {
        u64 compact = 1ull << 63 | 3;

        memcpy(image + 520, &compact, 8);
    }
    if (random_chance(r, 16))
        image[512 + 8 * random_below(r, 8) + 1 + random_below(r, 7)] |= 0x40; /* in no use anywhere */
    poke(test, linear, image, sizeof(image));
    test->in.gpr[RAX] = (test->in.gpr[RAX] & ~0xffffffffull) | random_below(r, 4);
    test->in.gpr[RDX] &= ~0xffffffffull; /* only the components that both legs have */
}

static void prepare_memory(struct insn_case *test, struct random *r, const struct encoded *e)
{
    const struct x86_insn *n = &test->insn;
    bool image = begins(test, "FX") || begins(test, "XSAVE") || begins(test, "XRSTOR");
    u64 linear = random_target(r);
    u8 operand[64];

    if (image && !random_chance(r, 8))
        linear = DATA_BASE + 0x40 * random_below(r, 16);
    /* A bit string's offset moves the operand: small ones only. */
    if (begins(test, "BT") && !strcmp(x86_ops[n->op].operands, "Ev,Gv"))
        test->in.gpr[n->reg] = random_below(r, 512) - 256;
    linear = data_linear(test, aim(test, e, data_offset(test, linear)));
    for (unsigned k = 0; k < sizeof(operand); k += 16)
        random_operand(r, n->op, operand + k);
    poke(test, linear, operand, sizeof(operand));
    if (image)
        prepare_image(test, r, linear);
    if (named(test, "LDMXCSR") && !random_chance(r, 8)) {
        u32 mxcsr = (u32)(random_next(r) & 0xffff);

        poke(test, linear, &mxcsr, 4);
    }
    if (begins(test, "CMPXCHG") && random_chance(r, 2)) {
        poke64(test, linear, test->in.gpr[RAX]);
        if (strlen(x86_ops[n->op].mnemonic) > 7) /* the 8- and 16-byte forms */
            poke64(test, linear + n->operand_size, test->in.gpr[RDX]);
    }
    if (x86_ops[n->op].attributes & X86_OP_BRANCH && (!anywhere || !random_chance(r, 4)))
        poke64(test, linear, code_target(r, test));
}

bool generate_from(const struct encoded *e, u8 mode, u64 seed, struct insn_case *test)
{
    struct x86_decode_mode decode_mode = {mode, false};
    struct random r = {seed ^ 0xd1342543de82ef95};
    static u8 background[DATA_SIZE];
    u16 op;

    if (!background[0])
        data_background(background);
    memset(test, 0, offsetof(struct insn_case, data));
    memcpy(test->data, background, DATA_SIZE);
    test->seed = seed;
    test->mode = mode;
    memcpy(test->code, e->bytes, X86_MAX_INSN);
    if (x86_decode(&decode_mode, test->code, X86_MAX_INSN, &test->insn) != X86_DECODE_OK)
        return false;
    op = test->insn.op;
    test->length = test->insn.length;
    if (excluded(op) || test->insn.segment == SEG_FS || test->insn.segment == SEG_GS)
        return false;
    for (unsigned n = 0; n < 16; n++) {
        random_next(&r);
        test->in.gpr[n] = integer_value(&r);
        if (mode != X86_CODE64)
            test->in.gpr[n] &= 0xffffffff;
    }
    test->in.rip = (mode == X86_CODE16 ? 0 : CODE_BASE) +
                   (random_chance(&r, 16) ? (unsigned)CODE_SIZE - test->length : (unsigned)CODE_OFFSET);
    test->in.rflags =
        (random_next(&r) & FLAGS_ARITH) | FLAG_ONE | FLAG_IF | (random_chance(&r, 4) ? FLAG_DF : 0);
    random_fx(&r, test->in.fx);
    random_ymm(&r, &test->in);

    prepare_stack(test, &r);
    if (x86_ops[op].attributes & X86_OP_REP || begins(test, "MASKMOV"))
        prepare_string(test, &r);
    if (named(test, "XLAT"))
        set_address_register(test, RBX, data_offset(test, random_target(&r)));
    if (begins(test, "PCMPESTR")) {
        test->in.gpr[RAX] = random_chance(&r, 4) ? test->in.gpr[RAX] : random_below(&r, 40) - 20;
        test->in.gpr[RDX] = random_chance(&r, 4) ? test->in.gpr[RDX] : random_below(&r, 40) - 20;
    }
    if (begins(test, "DPP") || begins(test, "VDPP"))
        test->in.fx[25] |=
            0x08; /* underflow masked: the interpreter finds that of the products too late (docs/quirks.md) */
    if (named(test, "DIV") || named(test, "IDIV"))
        prepare_division(test, &r);
    if (test->insn.is_mem || test->insn.disp)
        prepare_memory(test, &r, e);
    if (x86_ops[op].attributes & X86_OP_BRANCH)
        prepare_branch(test, &r, e);
    if (named(test, "ENTER"))
        test->code[test->length - 1] &= random_chance(&r, 2) ? 0 : 3;
    /* What was patched must still be the same instruction. */
    return x86_decode(&decode_mode, test->code, X86_MAX_INSN, &test->insn) == X86_DECODE_OK &&
           test->insn.op == op && test->insn.length == test->length && (anywhere || operand_is_near(test));
}

bool generate(u16 op, u8 mode, u64 seed, struct insn_case *test)
{
    struct random r = {seed};
    struct encoded e;

    random_next(&r);
    return encode(op, mode, &r, &e) && generate_from(&e, mode, seed, test);
}
