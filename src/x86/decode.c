/*
 * Bytes -> struct x86_insn (SDM 2A chapter 2 and appendix A of 2D).
 *
 * The work is in the tables: opcodes.tbl becomes one decision tree an opcode, and its leaf says which immediates follow
 * and how wide the operation is. What is written out here is only what all instructions share: prefixes, VEX, ModRM and
 * SIB, sizes. An instruction is read strictly left to right and no byte is looked at twice after the opcode, so that
 * X86_DECODE_MORE is certain to mean "the rest lies beyond what you gave me".
 */
#include "x86/decode.h"
#include "x86/opcode_tables.h"
#include "x86/vcpu_state.h"

/* Bits of a REX byte; VEX brings the same ones, inverted. */
enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

struct decoder {
    const u8 *bytes;
    unsigned pos, limit;
    bool whole; /* limit is the 15 bytes that an instruction may have, not the end of what the caller has */
    bool code64, amd;
    u8 code_size;
    u8 rex;
    u8 prefix; /* answer to X86_BY_PREFIX */
    u8 map;
    bool refused;   /* VEX after a prefix that it does not take, or with a map that there is not */
    bool vvvv_used; /* VEX.vvvv is not 1111b, all four bits of it in every mode */
    struct x86_insn *insn;
};

/* Read `size` bytes (1, 2, 4 or 8), zero-extended. False: they are not all there. */
static bool fetch(struct decoder *d, unsigned size, u64 *value)
{
    if (d->limit - d->pos < size)
        return false;
    u64 v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (u64)d->bytes[d->pos + i] << (8 * i);
    d->pos += size;
    *value = v;
    return true;
}

static u64 sign_extend(u64 value, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (u64)((i64)(value << shift) >> shift);
}

static enum x86_decode_result out_of_bytes(const struct decoder *d)
{
    return d->whole ? X86_DECODE_TOO_LONG : X86_DECODE_MORE;
}

static void override_segment(struct decoder *d, u8 segment)
{
    /* ES, CS, SS and DS have no base in 64-bit mode, and their prefixes no effect: not even on an FS before them. */
    if (d->code64 && segment < SEG_FS)
        return;
    d->insn->segment = segment;
    d->insn->segment_override = true;
}

/* Read legacy prefixes and REX. False: the bytes end before an opcode. */
static bool read_prefixes(struct decoder *d)
{
    struct x86_insn *insn = d->insn;
    for (; d->pos < d->limit; d->pos++) {
        u8 byte = d->bytes[d->pos];
        switch (byte) {
        case 0x66: insn->prefixes |= X86_PFX_66; break;
        case 0x67: insn->prefixes |= X86_PFX_67; break;
        case 0xf0: insn->prefixes |= X86_PFX_LOCK; break;
        case 0xf2: insn->prefixes = (insn->prefixes & ~X86_PFX_REP) | X86_PFX_REPNE; break;
        case 0xf3: insn->prefixes = (insn->prefixes & ~X86_PFX_REPNE) | X86_PFX_REP; break;
        case 0x26: override_segment(d, SEG_ES); break;
        case 0x2e: override_segment(d, SEG_CS); break;
        case 0x36: override_segment(d, SEG_SS); break;
        case 0x3e: override_segment(d, SEG_DS); break;
        case 0x64: override_segment(d, SEG_FS); break;
        case 0x65: override_segment(d, SEG_GS); break;
        default:
            if (d->code64 && (byte & 0xf0) == 0x40) {
                d->rex = byte;
                continue;
            }
            return true;
        }
        d->rex = 0; /* REX counts only right before the opcode */
    }
    return false;
}

/* C4 or C5 was read and is a VEX prefix. */
static enum x86_decode_result read_vex(struct decoder *d, bool three_bytes)
{
    struct x86_insn *insn = d->insn;
    d->refused = d->rex || (insn->prefixes & (X86_PFX_66 | X86_PFX_REP | X86_PFX_REPNE | X86_PFX_LOCK));
    u64 first, last;
    u8 map = 1;
    if (!fetch(d, 1, &first))
        return out_of_bytes(d);
    d->rex = ~first >> 5 & REX_R;
    last = first;
    if (three_bytes) {
        map = first & 0x1f;
        if (!(map & 3)) /* Intel's mostly know after this byte */
            return X86_DECODE_INVALID;
        if (!fetch(d, 1, &last))
            return out_of_bytes(d);
        d->rex = (~first >> 5 & (REX_R | REX_X | REX_B)) | (last >> 4 & REX_W);
    }
    d->refused |= map > 3;
    d->map = X86_MAP_VEX0F + (map & 3) - 1;
    d->prefix = last & 3;
    insn->vex_l = last >> 2 & 1;
    insn->vvvv = ~last >> 3 & 15;
    d->vvvv_used = insn->vvvv != 0;
    insn->prefixes |= X86_PFX_VEX;
    if (d->code64) {
        insn->prefixes |= d->rex & REX_W ? X86_PFX_REX_W : 0;
    } else { /* eight registers of 32 bits (SDM 2A 2.3.5); W still tells some opcodes apart */
        d->rex &= REX_W;
        insn->vvvv &= 7;
    }
    return X86_DECODE_OK;
}

/* Read escapes, VEX and the opcode byte. */
static enum x86_decode_result read_opcode(struct decoder *d)
{
    struct x86_insn *insn = d->insn;
    insn->opcode = d->bytes[d->pos++]; /* read_prefixes has seen it */
    if (insn->opcode == 0xc4 || insn->opcode == 0xc5) {
        if (d->pos == d->limit)
            return out_of_bytes(d);
        /* Outside 64-bit mode LES and LDS with a register, which do not exist, are VEX. */
        if (d->code64 || d->bytes[d->pos] >= 0xc0) {
            enum x86_decode_result result = read_vex(d, insn->opcode == 0xc4);
            if (result != X86_DECODE_OK)
                return result;
            if (d->pos == d->limit)
                return out_of_bytes(d);
            insn->opcode = d->bytes[d->pos++];
            return X86_DECODE_OK;
        }
    }
    if (d->rex)
        insn->prefixes |= X86_PFX_REX | (d->rex & REX_W ? X86_PFX_REX_W : 0);
    d->prefix = insn->prefixes & X86_PFX_REP     ? 2
                : insn->prefixes & X86_PFX_REPNE ? 3
                : insn->prefixes & X86_PFX_66    ? 1
                                                 : 0;
    d->map = X86_MAP_ONE;
    if (insn->opcode != 0x0f)
        return X86_DECODE_OK;
    d->map = X86_MAP_0F;
    for (;;) {
        if (d->pos == d->limit)
            return out_of_bytes(d);
        insn->opcode = d->bytes[d->pos++];
        if (d->map != X86_MAP_0F || (insn->opcode != 0x38 && insn->opcode != 0x3a))
            return X86_DECODE_OK;
        d->map = insn->opcode == 0x38 ? X86_MAP_0F38 : X86_MAP_0F3A;
    }
}

/* Walk the opcode's tree to a row. NULL with *result set: there is none. */
static const struct x86_row *find_row(const struct decoder *d, enum x86_decode_result *result)
{
    u16 ref = x86_roots[d->map][d->insn->opcode];
    while (ref && !(ref & X86_REF_ROW)) {
        const u16 *node = &x86_trees[ref];
        bool asks_modrm = node[0] == X86_BY_MOD || node[0] == X86_BY_REG || node[0] == X86_BY_RM;
        if (asks_modrm && d->pos == d->limit) {
            *result = out_of_bytes(d);
            return NULL;
        }
        u8 modrm = asks_modrm ? d->bytes[d->pos] : 0;
        unsigned answer = 0;
        switch ((enum x86_question)node[0]) {
        case X86_BY_MODE: answer = d->code64 * 2 + d->amd; break;
        case X86_BY_PREFIX: answer = d->prefix; break;
        case X86_BY_MOD: answer = modrm >= 0xc0; break;
        case X86_BY_REG: answer = modrm >> 3 & 7; break;
        case X86_BY_RM: answer = modrm & 7; break;
        case X86_BY_W: answer = (d->rex & REX_W) != 0; break;
        case X86_BY_L: answer = d->insn->vex_l; break;
        case X86_BY_REX_B: answer = d->rex & REX_B; break;
        }
        ref = node[1 + answer];
    }
    *result = X86_DECODE_INVALID;
    return ref ? &x86_rows[ref & ~X86_REF_ROW] : NULL;
}

/* How many answers a question has. */
static unsigned answers(enum x86_question question)
{
    switch (question) {
    case X86_BY_MODE:
    case X86_BY_PREFIX: return 4;
    case X86_BY_REG:
    case X86_BY_RM: return 8;
    default: return 2;
    }
}

/* Any row of a tree, or NULL. */
static const struct x86_row *any_row(u16 ref)
{
    const struct x86_row *row = NULL;
    if (ref & X86_REF_ROW)
        return &x86_rows[ref & ~X86_REF_ROW];
    for (unsigned n = 0; ref && !row && n < answers(x86_trees[ref]); n++)
        row = any_row(x86_trees[ref + 1 + n]);
    return row;
}

static void default_segment(struct x86_insn *insn, u8 segment)
{
    if (!insn->segment_override)
        insn->segment = segment;
}

/* SDM 2A table 2-1. */
static bool read_address16(struct decoder *d, u8 mod, u8 rm)
{
    static const u8 bases[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const u8 indexes[8] = {RSI, RDI, RSI, RDI, X86_NO_REG, X86_NO_REG, X86_NO_REG, X86_NO_REG};
    struct x86_insn *insn = d->insn;
    unsigned size = mod;
    if (mod == 0 && rm == 6) {
        size = 2;
    } else {
        insn->base = bases[rm];
        insn->index = indexes[rm];
        if (insn->base == RBP)
            default_segment(insn, SEG_SS);
    }
    u64 disp;
    if (!fetch(d, size, &disp))
        return false;
    if (size)
        insn->disp = (i64)sign_extend(disp, size);
    return true;
}

/* SDM 2A tables 2-2 and 2-3, and 2.2.1.6 for RIP. */
static bool read_address(struct decoder *d, u8 mod, u8 rm, bool vector_index)
{
    struct x86_insn *insn = d->insn;
    unsigned size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    u8 base = rm;
    if (rm == 4) {
        u64 sib;
        if (!fetch(d, 1, &sib))
            return false;
        insn->scale = sib >> 6;
        insn->index = (sib >> 3 & 7) | (d->rex & REX_X ? 8 : 0);
        if (insn->index == RSP && !vector_index)
            insn->index = X86_NO_REG;
        base = sib & 7;
    }
    if (base == 5 && mod == 0) {
        size = 4;
        insn->base = rm == 5 && d->code64 ? X86_RIP_REG : X86_NO_REG;
    } else {
        insn->base = base | (d->rex & REX_B ? 8 : 0);
        if (insn->base == RSP || insn->base == RBP)
            default_segment(insn, SEG_SS);
    }
    u64 disp;
    if (!fetch(d, size, &disp))
        return false;
    if (size)
        insn->disp = (i64)sign_extend(disp, size);
    return true;
}

/* False: the bytes end in it. */
static bool read_modrm(struct decoder *d, const struct x86_row *row)
{
    struct x86_insn *insn = d->insn;
    if (d->pos == d->limit)
        return false;
    insn->modrm = d->bytes[d->pos++];
    insn->has_modrm = true;
    u8 mod = insn->modrm >> 6, rm = insn->modrm & 7;
    insn->reg = (insn->modrm >> 3 & 7) | (d->rex & REX_R && !(row->flags & X86_ROW_REG3) ? 8 : 0);
    if (mod == 3 || row->flags & X86_ROW_NOMOD) {
        insn->rm = rm | (d->rex & REX_B && !(row->flags & X86_ROW_RM3) ? 8 : 0);
        return true;
    }
    insn->is_mem = true;
    if (insn->address_size == 2)
        return read_address16(d, mod, rm);
    return read_address(d, mod, rm, row->flags & X86_ROW_VSIB);
}

static u8 operand_size(const struct decoder *d, enum x86_size size)
{
    bool prefix = d->insn->prefixes & X86_PFX_66, w = d->rex & REX_W;
    if (!d->code64) {
        if (size == X86_SIZE_Y || size == X86_SIZE_F64_Y)
            return 4;
        return (d->code_size == X86_CODE16) != prefix ? 2 : 4;
    }
    switch (size) {
    case X86_SIZE_V: return w ? 8 : prefix ? 2 : 4;
    case X86_SIZE_Y: return w ? 8 : 4;
    case X86_SIZE_D64: return prefix && !w ? 2 : 8;
    case X86_SIZE_F64:
    case X86_SIZE_F64_Y: return 8;
    case X86_SIZE_F64_BRANCH: return d->amd && prefix && !w ? 2 : 8;
    case X86_SIZE_FAR: return w && !d->amd ? 8 : prefix ? 2 : 4;
    }
    return 4;
}

static u8 address_size(const struct decoder *d)
{
    bool prefix = d->insn->prefixes & X86_PFX_67;
    if (d->code_size == X86_CODE64)
        return prefix ? 4 : 8;
    return (d->code_size == X86_CODE16) != prefix ? 2 : 4;
}

/* False: the bytes end in it. */
static bool read_immediates(struct decoder *d, enum x86_immediate kind)
{
    struct x86_insn *insn = d->insn;
    unsigned z = insn->operand_size == 2 ? 2 : 4;
    unsigned first = 0, second = 0;
    bool sign = false;
    switch (kind) {
    case X86_IMM_NONE: return true;
    case X86_IMM_IB: first = 1; break;
    case X86_IMM_IB_SX:
    case X86_IMM_JB: first = 1, sign = true; break;
    case X86_IMM_IW: first = 2; break;
    case X86_IMM_IZ:
    case X86_IMM_JZ: first = z, sign = true; break;
    case X86_IMM_IV: first = insn->operand_size; break;
    case X86_IMM_AP: first = z, second = 2; break;
    case X86_IMM_IW_IB: first = 2, second = 1; break;
    case X86_IMM_IB_IB: first = 1, second = 1; break;
    case X86_IMM_MOFFS: {
        u64 offset;
        if (!fetch(d, insn->address_size, &offset))
            return false;
        insn->disp = (i64)offset;
        return true;
    }
    }
    if (!fetch(d, first, &insn->imm) || !fetch(d, second, &insn->imm2))
        return false;
    if (sign)
        insn->imm = sign_extend(insn->imm, first);
    return true;
}

/* Opcodes of 0F that have no form at all: these end there; after 39 and 3B..3F comes one more opcode byte, as after 38 and
   3A, but not with VEX; the others have a ModRM byte. */
static bool undefined_ends(const struct decoder *d, u8 opcode)
{
    return (d->map == X86_MAP_VEX0F && opcode >= 0x38 && opcode <= 0x3f) || opcode == 0x04 ||
           opcode == 0x0a || opcode == 0x0c || opcode == 0x0e || opcode == 0x0f ||
           (opcode >= 0x24 && opcode <= 0x27) || opcode == 0x36;
}
static bool undefined_escapes(u8 opcode)
{
    return opcode == 0x39 || (opcode >= 0x3b && opcode <= 0x3f);
}

/*
 * What is no instruction has a length, too: CPUs find it as they do for the opcode's other forms, and fetch that much before
 * they raise #UD (found on Intel's; tests/insn/lengths.c). False: the bytes end in it.
 */
static bool skip_undefined(struct decoder *d)
{
    static const struct x86_row modrm = {.flags = X86_ROW_MODRM};
    static const struct x86_row modrm_ib = {.flags = X86_ROW_MODRM, .immediate = X86_IMM_IB};
    u8 opcode = d->insn->opcode,
       legacy = d->map < X86_MAP_VEX0F ? d->map : d->map - X86_MAP_VEX0F + X86_MAP_0F;
    const struct x86_row *like = any_row(x86_roots[d->map][opcode]);
    u64 third;
    if (!like)
        like = any_row(x86_roots[legacy][opcode]);
    if (!like && (legacy == X86_MAP_ONE || (legacy == X86_MAP_0F && undefined_ends(d, opcode))))
        return true;
    if (!like && d->map == X86_MAP_0F && undefined_escapes(opcode)) {
        if (!fetch(d, 1, &third))
            return false;
        like = opcode < 0x3e && opcode != 0x3b ? &modrm : &modrm_ib;
    }
    if (!like)
        like = legacy == X86_MAP_0F3A ? &modrm_ib : &modrm;
    d->insn->operand_size = operand_size(d, like->size);
    return (!(like->flags & X86_ROW_MODRM) || read_modrm(d, like)) && read_immediates(d, like->immediate);
}

/* Rules that no row of the table states: which combinations of a whole instruction are #UD. */
static bool combination_valid(const struct decoder *d, const struct x86_row *row)
{
    struct x86_insn *insn = d->insn;
    if (row->flags & X86_ROW_CONTROL) {
        /* AMD: LOCK stands for the fourth bit, to reach CR8 outside 64-bit mode (APM 3, MOV CRn). */
        if (d->amd && insn->prefixes & X86_PFX_LOCK && insn->reg == 0) {
            insn->reg = 8;
            insn->prefixes &= ~X86_PFX_LOCK;
        }
        if (insn->reg != 0 && insn->reg != 2 && insn->reg != 3 && insn->reg != 4 && insn->reg != 8)
            return false;
    }
    if (row->flags & X86_ROW_DEBUG && insn->reg > 7)
        return false;
    if (insn->prefixes & X86_PFX_LOCK && !(row->flags & X86_ROW_LOCKABLE && insn->is_mem))
        return false;
    if (d->refused || (d->vvvv_used && !(row->flags & X86_ROW_VVVV)))
        return false;
    if (row->flags & X86_ROW_VSIB) {
        /* A SIB byte with the vector index; destination, mask and index are three registers (SDM 2A 2.3.12). */
        if (insn->index == X86_NO_REG || (insn->modrm & 7) != 4 || insn->address_size == 2)
            return false;
        return insn->reg != insn->vvvv && insn->reg != insn->index && insn->vvvv != insn->index;
    }
    return true;
}

static enum x86_decode_result decode(struct decoder *d)
{
    struct x86_insn *insn = d->insn;
    if (!read_prefixes(d))
        return out_of_bytes(d);
    insn->address_size = address_size(d);
    enum x86_decode_result result = read_opcode(d);
    if (result != X86_DECODE_OK)
        return result;
    const struct x86_row *row = find_row(d, &result);
    if (!row)
        return result == X86_DECODE_INVALID && !skip_undefined(d) ? out_of_bytes(d) : result;
    insn->operand_size = operand_size(d, row->size);
    if (row->flags & X86_ROW_OPCODE_REGISTER)
        insn->reg = insn->rm = (insn->opcode & 7) | (d->rex & REX_B ? 8 : 0);
    bool bare = d->amd && row->op == OP_UD0_Gv_Ev; /* AMD's UD0 has no ModRM (APM 3) */
    if (row->flags & X86_ROW_MODRM && !bare && !read_modrm(d, row))
        return out_of_bytes(d);
    if (!read_immediates(d, row->immediate))
        return out_of_bytes(d);
    if (!combination_valid(d, row))
        return X86_DECODE_INVALID;
    insn->op = row->op;
    return X86_DECODE_OK;
}

enum x86_decode_result x86_decode(const struct x86_decode_mode *mode, const u8 *bytes, size_t available,
                                  struct x86_insn *insn)
{
    *insn = (struct x86_insn){.segment = SEG_DS, .base = X86_NO_REG, .index = X86_NO_REG};
    struct decoder d = {
        .bytes = bytes,
        .limit = available < X86_MAX_INSN ? (unsigned)available : X86_MAX_INSN,
        .whole = available >= X86_MAX_INSN,
        .code64 = mode->code_size == X86_CODE64,
        .amd = mode->amd,
        .code_size = mode->code_size,
        .insn = insn,
    };
    enum x86_decode_result result = decode(&d);
    insn->length = (u8)d.pos;
    return result;
}
