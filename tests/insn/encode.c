/*
 * From the manual's notation of an opcode row to bytes: the row's own prefixes, opcode, ModRM and immediate, with everything
 * that it leaves open at random. The decoder has the last word: what does not decode to the row is thrown away.
 */
#include <string.h>

#include "insn.h"

u64 random_next(struct random *r)
{
    /* xorshift64* */
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1d;
}

/* What the notation says. */
struct notation {
    char mandatory; /* 0, 'N' (none), 'X' (neither F2 nor F3), or the prefix byte */
    bool w1, w0;
    u8 opcode[4];
    unsigned opcode_length;
    bool opcode_register, stack_register, modrm, moffs;
    int digit; /* /0 .. /7, -1: /r */
    bool vex;
    u8 vex_map, vex_pp;
    int vex_l, vex_w; /* -1: any */
};

static bool next_token(const char **at, char token[32])
{
    unsigned n = 0;

    while (**at == ' ')
        (*at)++;
    while (**at && **at != ' ' && n < 31)
        token[n++] = *(*at)++;
    token[n] = 0;
    return n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void parse_vex(const char *token, struct notation *n)
{
    n->vex = true;
    n->vex_l = strstr(token, ".256") ? 1 : strstr(token, ".128") || strstr(token, ".LZ") ? 0 : -1;
    n->vex_pp = strstr(token, ".66.") ? 1 : strstr(token, ".F3.") ? 2 : strstr(token, ".F2.") ? 3 : 0;
    n->vex_map = strstr(token, ".0F3A") ? 3 : strstr(token, ".0F38") ? 2 : 1;
    n->vex_w = strstr(token, ".W0") ? 0 : strstr(token, ".W1") ? 1 : -1;
}

/* One of the encodings of a row; several are parted by commas. */
static void parse(const char *text, struct random *r, struct notation *n)
{
    char token[32], encoding[64];
    unsigned alternatives = 1;

    for (const char *c = text; *c; c++)
        alternatives += *c == ',';
    for (unsigned skip = (unsigned)random_below(r, alternatives); skip; skip--)
        text = strchr(text, ',') + 1;
    snprintf(encoding, sizeof(encoding), "%.*s", (int)strcspn(text, ","), text);
    text = encoding;
    memset(n, 0, sizeof(*n));
    n->digit = -1;
    while (next_token(&text, token)) {
        if (!strcmp(token, "NP") || !strcmp(token, "NFx")) {
            n->mandatory = token[1] == 'P' ? 'N' : 'X';
        } else if (!strcmp(token, "REX.W")) {
            n->w1 = true;
        } else if (!strcmp(token, "NO.W")) {
            n->w0 = true;
        } else if (!strncmp(token, "VEX.", 4)) {
            parse_vex(token, n);
        } else if (token[0] == '/') {
            n->modrm = true;
            n->digit = token[1] == 'r' ? -1 : token[1] - '0';
        } else if (!strcmp(token, "mo")) {
            n->moffs = true;
        } else if (hex_digit(token[0]) >= 0 && hex_digit(token[1]) >= 0) {
            u8 byte = (u8)(hex_digit(token[0]) << 4 | hex_digit(token[1]));
            bool prefix = !n->vex && (byte == 0x66 || byte == 0xf3 || byte == 0xf2);

            if (prefix && !n->opcode_length && *text) {
                n->mandatory = (char)byte;
            } else {
                n->opcode[n->opcode_length++ & 3] = byte;
                n->opcode_register |= !strcmp(token + 2, "+r");
                n->stack_register |= !strcmp(token + 2, "+i");
            }
        } /* immediates: the decoder takes as much as it needs */
    }
}

static void put(struct encoded *e, u8 byte)
{
    if (e->length < 16)
        e->bytes[e->length++] = byte;
}

static void swap(u8 *a, u8 *b)
{
    u8 t = *a;

    *a = *b;
    *b = t;
}

/* Prefixes that the row asks for and leaves open, in any order. What they make of the row, the decoder tells. */
static void put_prefixes(const struct notation *n, u16 op, u8 mode, struct random *r, struct encoded *e)
{
    static const u8 segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const u8 any[] = {0x66, 0x67, 0xf2, 0xf3, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    bool repeats = x86_ops[op].attributes & X86_OP_REP;
    u8 list[16];
    unsigned count = 0;

    if (random_chance(r, 6))
        list[count++] = 0x67;
    if (random_chance(r, 8))
        list[count++] = segments[random_below(r, sizeof(segments))];
    if (!n->vex) {
        if (random_chance(r, x86_ops[op].attributes & X86_OP_LOCKABLE ? 4 : 64))
            list[count++] = 0xf0;
        if (!n->mandatory || n->mandatory == 'X')
            if (random_chance(r, 5))
                list[count++] = 0x66;
        if (!n->mandatory && random_chance(r, repeats ? 2 : 40))
            list[count++] = random_next(r) >> 40 & 1 ? 0xf3 : 0xf2;
        if ((u8)n->mandatory >= 0x66)
            list[count++] = (u8)n->mandatory;
    }
    if (random_chance(r, 16))
        for (u64 more = 1 + random_below(r, 4); more; more--)
            list[count++] = any[random_below(r, sizeof(any))];
    for (unsigned k = count; k > 1; k--)
        swap(&list[k - 1], &list[random_below(r, k)]);
    for (unsigned k = 0; k < count; k++) {
        if (mode == X86_CODE64 && random_chance(r, 50))
            put(e, (u8)(0x40 | random_below(r, 16))); /* without effect: not next to the opcode */
        put(e, list[k]);
    }
}

/* The two-byte form where it says the same. */
static void put_vex(const struct notation *n, const char *operands, u8 mode, struct random *r,
                    struct encoded *e)
{
    bool third_operand = strchr(operands, 'H') || strchr(operands, 'B');
    u8 open = (u8)random_next(r); /* R, X, B, W, L */
    u8 vvvv = third_operand || random_chance(r, 32) ? random_next(r) >> 20 & 15 : 15;
    u8 w = n->vex_w >= 0 ? (u8)n->vex_w : open & 1, l = n->vex_l >= 0 ? (u8)n->vex_l : open >> 1 & 1;

    if (mode != X86_CODE64)
        open |= 0xe0;
    if (n->vex_map == 1 && n->vex_w != 1 && random_chance(r, 2)) {
        put(e, 0xc5);
        put(e, (u8)((open & 0x80) | vvvv << 3 | l << 2 | n->vex_pp));
    } else {
        put(e, 0xc4);
        put(e, (u8)((open & 0xe0) | n->vex_map));
        put(e, (u8)(w << 7 | vvvv << 3 | l << 2 | n->vex_pp));
    }
    put(e, n->opcode[0]);
}

static void put_opcode(const struct notation *n, const char *operands, u8 mode, struct random *r,
                       struct encoded *e)
{
    if (n->vex) {
        put_vex(n, operands, mode, r, e);
        return;
    }
    if (mode == X86_CODE64 && (n->w1 || !random_chance(r, 4)))
        put(e, (u8)(0x40 | (random_next(r) >> 13 & (n->w0 ? 7 : 15)) | (n->w1 ? 8 : 0)));
    for (unsigned k = 0; k < n->opcode_length; k++) {
        u8 byte = n->opcode[k];

        if (k + 1 == n->opcode_length && (n->opcode_register || n->stack_register))
            byte += random_next(r) >> 17 & 7;
        put(e, byte);
    }
}

static void put_modrm(const struct notation *n, u16 op, u8 mode, struct random *r, struct encoded *e)
{
    const char *operands = x86_ops[op].operands;
    bool memory_only = strchr(operands, 'M') && !strchr(operands, '/');
    u8 mod = memory_only || random_chance(r, 2) ? (u8)random_below(r, 3) : 3;
    bool vector_index = strstr(x86_ops[op].mnemonic, "GATHER");
    u8 reg = n->digit >= 0 ? (u8)n->digit : random_next(r) >> 9 & 7,
       rm = vector_index ? 4 : random_next(r) >> 23 & 7;
    bool short_address = mode == X86_CODE16, sib = false;

    for (unsigned k = 0; k < e->length; k++)
        if (e->bytes[k] == 0x67 && mode != X86_CODE64)
            short_address =
                !short_address; /* a random prefix; not one of the opcode bytes that come before */
    put(e, (u8)(mod << 6 | reg << 3 | rm));
    if (mod == 3)
        return;
    if (short_address) {
        e->disp_size = mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
    } else {
        sib = rm == 4;
        if (sib)
            put(e, (u8)random_next(r));
        e->disp_size = mod == 1                                                             ? 1
                       : mod == 2 || rm == 5 || (sib && (e->bytes[e->length - 1] & 7) == 5) ? 4
                                                                                            : 0;
    }
    e->disp_at = e->length;
    for (unsigned k = 0; k < e->disp_size; k++)
        put(e, (u8)random_next(r));
}

bool encode(u16 op, u8 mode, struct random *r, struct encoded *e)
{
    struct x86_decode_mode decode_mode = {mode, false};
    struct notation n;
    struct x86_insn insn;

    for (unsigned attempt = 0; attempt < 200; attempt++) {
        memset(e, 0, sizeof(*e));
        parse(x86_ops[op].encoding, r, &n);
        put_prefixes(&n, op, mode, r, e);
        put_opcode(&n, x86_ops[op].operands, mode, r, e);
        if (n.modrm)
            put_modrm(&n, op, mode, r, e);
        for (unsigned k = e->length; k < sizeof(e->bytes); k++)
            e->bytes[k] = (u8)random_next(r);
        if (x86_decode(&decode_mode, e->bytes, X86_MAX_INSN, &insn) == X86_DECODE_OK && insn.op == op) {
            e->length = insn.length;
            if (n.moffs) {
                e->disp_size = insn.address_size;
                e->disp_at = e->length - e->disp_size;
            }
            return true;
        }
    }
    return false;
}

bool encode_random(u8 mode, struct random *r, struct encoded *e)
{
    static const u8 prefixes[] = {0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x3e, 0x26, 0x36, 0x48, 0x4f};
    struct x86_decode_mode decode_mode = {mode, false};
    struct x86_insn insn;
    u64 pick = random_next(r);

    memset(e, 0, sizeof(*e));
    for (unsigned n = pick >> 8 & 3; n; n--)
        put(e, prefixes[random_below(r, sizeof(prefixes))]);
    if (mode == X86_CODE64 && pick >> 16 & 1)
        put(e, (u8)(0x40 | (pick >> 20 & 15)));
    if (pick >> 24 & 1)
        put(e, 0x0f);
    if ((pick >> 24 & 7) == 1)
        put(e, pick >> 32 & 1 ? 0x38 : 0x3a);
    for (unsigned n = e->length; n < sizeof(e->bytes); n++)
        e->bytes[n] = (u8)random_next(r);
    if (x86_decode(&decode_mode, e->bytes, X86_MAX_INSN, &insn) != X86_DECODE_OK)
        return false;
    e->length = insn.length;
    return true;
}
