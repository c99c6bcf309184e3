/*
 * Random pieces of programs. Each maker appends one piece or a few; the table at the end says how often.
 *
 * Some registers are pointers into the data, most of the time: instructions that would write them are mostly thrown away, and
 * they are loaded anew now and then. Whatever goes astray faults, and the system goes on behind it.
 */
#include <string.h>

#include "seq.h"

struct gen {
    struct program *p;
    struct random r;
    unsigned counters;            /* loop counters in use */
    unsigned chunk_end, main_end; /* pieces, as planned: jumps go no further */
};

static const u8 pointers[] = {RBX, RBP, RSI, RDI, R9, R12, R14};
static const u8 values[] = {RAX, RCX, RDX, R8, R10, R11, R13, R15};

static u64 below(struct gen *g, u64 n)
{
    return (random_next(&g->r) >> 16) % n;
}
static bool chance(struct gen *g, unsigned one_in)
{
    return !below(g, one_in);
}
static unsigned pointer(struct gen *g)
{
    return pointers[below(g, ARRAY_SIZE(pointers))];
}
static unsigned value(struct gen *g)
{
    return values[below(g, ARRAY_SIZE(values))];
}
static bool is_pointer(unsigned reg)
{
    return memchr(pointers, (int)reg, sizeof(pointers)) != NULL;
}

/* ---- bytes ---- */

static struct piece *new_piece(struct gen *g)
{
    struct piece *p = &g->p->pieces[g->p->npieces++];

    *p = (struct piece){0};
    return p;
}
static void put8(struct piece *p, unsigned v)
{
    p->bytes[p->length++] = (u8)v;
}
static void put32(struct piece *p, u32 v)
{
    memcpy(p->bytes + p->length, &v, 4);
    p->length += 4;
}
static void put64(struct piece *p, u64 v)
{
    memcpy(p->bytes + p->length, &v, 8);
    p->length += 8;
}
static void fixup(struct piece *p, enum fixup_kind kind, unsigned target, u32 addend)
{
    p->fixups[p->nfixups++] = (struct fixup){p->length, (u8)kind, 0, (u16)target, addend};
    if (kind == FIX_REL8)
        put8(p, 0);
    else
        put32(p, 0);
    p->fixups[p->nfixups - 1].end = p->length;
}

/* Prefix (0: none), REX as needed (always with `w` of 8 or `byte` registers), opcode of one or two bytes, ModRM. */
static void put_rex(struct piece *p, bool w, bool force, unsigned reg, unsigned index, unsigned base)
{
    unsigned rex = 0x40 | w << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);

    if (rex != 0x40 || force)
        put8(p, rex);
}
static void put_opcode(struct piece *p, unsigned opcode)
{
    if (opcode >> 16)
        put8(p, opcode >> 16);
    if (opcode >> 8)
        put8(p, opcode >> 8 & 0xff);
    put8(p, opcode & 0xff);
}
static void op_reg(struct piece *p, bool w, unsigned opcode, unsigned reg, unsigned rm)
{
    put_rex(p, w, false, reg, 0, rm);
    put_opcode(p, opcode);
    put8(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
/* [base + disp], as short as it goes but now and then. */
static void op_mem(struct gen *g, struct piece *p, bool w, unsigned opcode, unsigned reg, unsigned base,
                   i32 disp)
{
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : disp == (i8)disp ? 1 : 2;

    if (chance(g, 16))
        mod = 2;
    put_rex(p, w, false, reg, 0, base);
    put_opcode(p, opcode);
    put8(p, mod << 6 | (reg & 7) << 3 | (base & 7));
    if ((base & 7) == 4)
        put8(p, 0x24);
    if (mod == 1)
        put8(p, (u8)disp);
    else if (mod == 2)
        put32(p, (u32)disp);
}
/* [base + index << scale + disp] */
static void op_index(struct piece *p, bool w, unsigned opcode, unsigned reg, unsigned base, unsigned index,
                     unsigned scale, i32 disp)
{
    put_rex(p, w, false, reg, index, base);
    put_opcode(p, opcode);
    put8(p, 2 << 6 | (reg & 7) << 3 | 4);
    put8(p, scale << 6 | (index & 7) << 3 | (base & 7));
    put32(p, (u32)disp);
}
/* [absolute] */
static void op_abs(struct piece *p, bool w, unsigned opcode, unsigned reg, u32 address)
{
    put_rex(p, w, false, reg, 0, 0);
    put_opcode(p, opcode);
    put8(p, (reg & 7) << 3 | 4);
    put8(p, 0x25);
    put32(p, address);
}
/* The same, of a place in a piece: `base` instead of CODE_BASE. */
static void op_piece(struct piece *p, bool w, unsigned opcode, unsigned reg, unsigned target, u32 addend)
{
    put_rex(p, w, false, reg, 0, 0);
    put_opcode(p, opcode);
    put8(p, (reg & 7) << 3 | 4);
    put8(p, 0x25);
    fixup(p, FIX_ABS32, target, addend);
}
static void mov_imm(struct piece *p, unsigned reg, u32 v)
{
    put_rex(p, false, false, 0, 0, reg);
    put8(p, 0xb8 | (reg & 7));
    put32(p, v);
}

/* ---- addresses ---- */

static u32 data_address(struct gen *g)
{
    static const u8 pages[] = {0, 0, 0, 1, 1, 3, 3, 3, 1, 0, 2, 4, 4, 5, 6, 7};
    unsigned page = pages[below(g, chance(g, 3) ? ARRAY_SIZE(pages) : 8)];
    u32 at = DATA_BASE + page * 0x1000;

    switch (below(g, 8)) {
    case 0: return at + 0x1000 - (u32)below(g, 40);
    case 1: return at + (u32)below(g, 16);
    case 2: return at + (u32)below(g, 0x1000);
    default: return at + (u32)below(g, 0x100) * 16;
    }
}
static i32 displacement(struct gen *g)
{
    switch (below(g, 4)) {
    case 0: return 0;
    case 1: return chance(g, 2) ? (i32)below(g, 0x1000) - 0x800 : (i32)below(g, 16) - 8;
    default: return (i32)below(g, 0x100) - 0x80;
    }
}

/* ---- instructions by the opcode table ---- */

static bool unwanted(u16 op)
{
    static const char *const names[] = {
        "RDTSC",  "RDTSCP",   "RDRAND", "RDSEED", "MONITOR",          "MONITORX", "MWAIT", "MWAITX", "UMWAIT",
        "TPAUSE", "UMONITOR", "IN",     "OUT",    "POPF/POPFD/POPFQ", "MOV DR",   "RDPMC", "LSS"};
    const struct x86_op_info *info = &x86_ops[op];

    if (info->attributes & (X86_OP_PRIVILEGED | X86_OP_BRANCH | X86_OP_REP | X86_OP_LATER | X86_OP_INVALID64))
        return true;
    for (size_t n = 0; n < ARRAY_SIZE(names); n++)
        if (!strcmp(info->mnemonic, names[n]))
            return true;
    /* Segment and control registers from anywhere: SS, and what is privileged, have pieces of their own. */
    return strstr(info->operands, "Sw") || strchr(info->operands, 'C') == info->operands;
}

static u16 random_row(struct gen *g, u32 with, u32 without)
{
    for (;;) {
        u16 op = (u16)(1 + below(g, OP_COUNT - 1));

        if (!unwanted(op) && (!with || (x86_ops[op].attributes & with)) &&
            !(x86_ops[op].attributes & without))
            return op;
    }
}

/* Give the memory operand an address that means something. false: it has none. */
static bool aim(struct gen *g, struct encoded *e, const struct x86_insn *insn, struct piece *p)
{
    u32 address = data_address(g);
    i64 disp = displacement(g);

    if (insn->address_size != 8 && !chance(g, 4))
        return false;
    if (insn->base == X86_RIP_REG || (insn->base == X86_NO_REG && insn->index == X86_NO_REG)) {
        if (insn->base == X86_RIP_REG)
            p->fixups[p->nfixups++] = (struct fixup){(u8)e->disp_at, FIX_RIP32, (u8)e->length, 0, address};
        disp = address;
    } else if (!(insn->base < X86_NO_REG &&
                 (is_pointer(insn->base) || (insn->base == RSP && chance(g, 2))))) {
        return chance(g, 100);
    } else if (insn->index < X86_NO_REG && !chance(g, 6)) {
        return false;
    }
    if (e->disp_size >= 4)
        memcpy(e->bytes + e->disp_at, &disp, e->disp_size);
    return true;
}

static bool writes_pointer(const struct x86_insn *insn)
{
    const char *operands = x86_ops[insn->op].operands;

    if (strstr(operands, "Z") && (is_pointer(insn->rm) || insn->rm == RSP))
        return true;
    if (strchr(operands, 'G') && (is_pointer(insn->reg) || insn->reg == RSP))
        return true;
    if ((strchr(operands, 'E') || strchr(operands, 'R')) && !insn->is_mem &&
        (is_pointer(insn->rm) || insn->rm == RSP))
        return true;
    return strchr(operands, 'B') && is_pointer(insn->vvvv);
}

static void table_instruction(struct gen *g, u32 with, u32 without)
{
    static const struct x86_decode_mode mode = {X86_CODE64, false};

    for (unsigned attempt = 0; attempt < 200; attempt++) {
        u16 op = random_row(g, with, without);
        struct x86_insn insn;
        struct piece *p;
        struct encoded e;

        if (!encode(op, X86_CODE64, &g->r, &e) ||
            x86_decode(&mode, e.bytes, X86_MAX_INSN, &insn) != X86_DECODE_OK)
            continue;
        if (writes_pointer(&insn) && !chance(g, 40))
            continue;
        p = new_piece(g);
        if ((insn.is_mem || e.disp_size) && !aim(g, &e, &insn, p)) {
            g->p->npieces--;
            continue;
        }
        if (x86_decode(&mode, e.bytes, X86_MAX_INSN, &insn) != X86_DECODE_OK || insn.op != op ||
            insn.length != e.length) {
            g->p->npieces--;
            continue;
        }
        memcpy(p->bytes, e.bytes, e.length);
        p->length = (u8)e.length;
        return;
    }
}

enum { OTHER_REGISTERS = X86_OP_X87 | X86_OP_MMX | X86_OP_SSE | X86_OP_AVX };
static void integer(struct gen *g)
{
    table_instruction(g, 0, OTHER_REGISTERS);
}
static void vector(struct gen *g)
{
    table_instruction(g, X86_OP_SSE | X86_OP_AVX, 0);
}
static void x87(struct gen *g)
{
    table_instruction(g, X86_OP_X87 | X86_OP_MMX, 0);
}

/* ---- what compilers write ---- */

static void refresh(struct gen *g)
{
    struct piece *p = new_piece(g);
    unsigned reg = pointer(g);

    switch (below(g, 5)) {
    case 0:
        op_reg(p, true, 0x83, 0, reg);
        put8(p, (u8)below(g, 256));
        break;                                                                 /* ADD reg, imm8 */
    case 1: op_mem(g, p, true, 0x8d, reg, pointer(g), displacement(g)); break; /* LEA */
    default: mov_imm(p, reg, data_address(g)); break;
    }
}

static void move(struct gen *g)
{
    static const u16 opcodes[] = {0x8b, 0x89, 0x8b, 0x89, 0x8a,   0x88,   0x03,   0x01,
                                  0x2b, 0x29, 0x3b, 0x39, 0x0fb6, 0x0fbe, 0x0fb7, 0x0fbf,
                                  0x63, 0x85, 0x33, 0x21, 0x13,   0x19,   0x87,   0x0faf};
    unsigned opcode = opcodes[below(g, ARRAY_SIZE(opcodes))], reg = value(g);
    struct piece *p = new_piece(g);

    if (chance(g, 4)) {
        unsigned index = value(g);

        put_rex(p, false, false, index, 0, index); /* MOVZX index, index's low byte */
        put_opcode(p, 0x0fb6);
        put8(p, 0xc0 | (index & 7) << 3 | (index & 7));
        p = new_piece(g);
        op_index(p, chance(g, 2), opcode, reg, pointer(g), index, (unsigned)below(g, 4), displacement(g));
        return;
    }
    if (chance(g, 8))
        put8(p, 0x66);
    op_mem(g, p, chance(g, 2), opcode, reg, pointer(g), displacement(g));
}

static void use_flags(struct gen *g)
{
    struct piece *p = new_piece(g);
    unsigned cc = (unsigned)below(g, 16), a = value(g), b = value(g);

    switch (below(g, 10)) {
    case 0:
        put_rex(p, false, true, 0, 0, a);
        put8(p, 0x0f);
        put8(p, 0x90 | cc);
        put8(p, 0xc0 | (a & 7));
        break;
    case 1: op_mem(g, p, false, 0x0f90 | cc, 0, pointer(g), displacement(g)); break;
    case 2: op_reg(p, chance(g, 2), 0x11, a, b); break; /* ADC */
    case 3: op_reg(p, chance(g, 2), 0x19, a, b); break; /* SBB */
    case 4: op_reg(p, chance(g, 2), 0x0f40 | cc, a, b); break;
    case 5: op_mem(g, p, chance(g, 2), 0x0f40 | cc, a, pointer(g), displacement(g)); break;
    case 6: put8(p, 0x9f); break; /* LAHF */
    case 7:
        put8(p, 0x9c); /* PUSHF */
        p = new_piece(g);
        put_rex(p, false, false, 0, 0, a);
        put8(p, 0x58 | (a & 7));
        break;
    case 8: op_reg(p, chance(g, 2), 0xd1, 2 + (unsigned)below(g, 2), a); break;       /* RCL, RCR */
    default: op_mem(g, p, chance(g, 2), 0x13, a, pointer(g), displacement(g)); break; /* ADC from memory */
    }
}

/* Flags that stay in part. */
static void part_of_flags(struct gen *g)
{
    struct piece *p = new_piece(g);
    unsigned reg = value(g);
    static const u8 single[] = {0xf5, 0xf8, 0xf9, 0x9e, 0xfc};

    switch (below(g, 7)) {
    case 0: op_reg(p, chance(g, 2), 0xff, (unsigned)below(g, 2), reg); break; /* INC, DEC */
    case 1: op_mem(g, p, chance(g, 2), 0xff, (unsigned)below(g, 2), pointer(g), displacement(g)); break;
    case 2: op_reg(p, chance(g, 2), 0xd3, (unsigned)below(g, 8), reg); break; /* by CL */
    case 3:
        op_reg(p, chance(g, 2), 0xc1, (unsigned)below(g, 8), reg);
        put8(p, chance(g, 2) ? 0x20 * (unsigned)below(g, 3) : (unsigned)below(g, 256));
        break;
    case 4: op_mem(g, p, chance(g, 2), 0xd3, (unsigned)below(g, 8), pointer(g), displacement(g)); break;
    case 5: op_reg(p, chance(g, 2), 0x0fa3, value(g), reg); break; /* BT */
    default: put8(p, single[below(g, sizeof(single))]); break;
    }
}

/* Many accesses off one base register, with other work and changes of the base in between. */
static void access_group(struct gen *g)
{
    static const u16 spreads[] = {8, 0x20, 0x20, 0x40, 0x84, 0x100, 0x800};
    unsigned base = pointer(g), count = 3 + (unsigned)below(g, 8),
             spread = spreads[below(g, ARRAY_SIZE(spreads))];

    if (!chance(g, 4)) {
        u32 at = DATA_BASE + (u32)below(g, chance(g, 4) ? DATA_PAGES : 4) * 0x1000;

        mov_imm(new_piece(g), base, chance(g, 2) ? at + (u32)below(g, 0x1000) : at - (u32)below(g, 0x40));
    }
    while (count--) {
        struct piece *p;
        i32 disp = chance(g, 4) ? (chance(g, 2) ? 1 : -1) * (i32)(spread - below(g, 9))
                                : (i32)below(g, 2 * spread) - (i32)spread;

        switch (below(g, 12)) {
        case 0:
            p = new_piece(g);
            op_reg(p, true, 0x83, 0, base); /* ADD base, imm8 */
            put8(p, (u8)below(g, 256));
            break;
        case 1: op_mem(g, new_piece(g), true, 0x8d, base, base, (i32)below(g, 0x200) - 0x100); break;
        case 2: use_flags(g); break;
        case 3: part_of_flags(g); break;
        case 4:
            p = new_piece(g);
            op_mem(g, p, chance(g, 2), 0x81, (unsigned)below(g, 8), base, disp);
            put32(p, (u32)random_next(&g->r));
            break;
        case 5:
            p = new_piece(g);
            if (chance(g, 2))
                put8(p, chance(g, 2) ? 0xf3 : 0x66); /* MOVDQU, MOVDQA */
            op_mem(g, p, false, chance(g, 2) ? 0x0f6f : 0x0f7f, (unsigned)below(g, 8), base, disp);
            break;
        case 6:
            p = new_piece(g);
            op_mem(g, p, false, chance(g, 2) ? 0x0f10 : 0x0f11, (unsigned)below(g, 16), base, disp);
            break;
        case 7: op_mem(g, new_piece(g), true, 0x8b, base, base, 0), refresh(g); break; /* a pointer chased */
        default:
            op_mem(g, new_piece(g), chance(g, 2), chance(g, 2) ? 0x8b : 0x89, value(g), base, disp);
            break;
        }
    }
}

/* Accesses about the end of a page. */
static void page_end(struct gen *g)
{
    static const u16 opcodes[] = {0x8b, 0x89, 0x8b,   0x89,   0x8a,   0x88,  0x01,
                                  0x29, 0x13, 0x0fb7, 0x0fb6, 0x0f10, 0x0f11};
    unsigned base = pointer(g);
    u32 away = (u32)below(g, 3) * (u32)below(g, 0x70);

    mov_imm(new_piece(g), base,
            DATA_BASE + 0x1000 * (1 + (u32)below(g, chance(g, 3) ? DATA_PAGES : 2)) + away);
    for (unsigned count = 2 + (unsigned)below(g, 5); count--;) {
        struct piece *p = new_piece(g);

        if (chance(g, 6))
            put8(p, 0x66);
        op_mem(g, p, chance(g, 2), opcodes[below(g, ARRAY_SIZE(opcodes))], value(g), base,
               2 - (i32)below(g, chance(g, 3) ? 20 : 11) - (i32)away - (chance(g, 4) ? 250 : 0));
    }
}

static void set_stack(struct gen *g)
{
    static const i16 offsets[] = {8, 0, 16, 24, 4, 1, 32, 12, 7};
    u32 at = STACK_BASE + 0x1000 * (u32)below(g, 3);

    if (chance(g, 2))
        mov_imm(new_piece(g), RSP, STACK_USUAL - 8 * (u32)below(g, 0x100));
    else
        mov_imm(new_piece(g), RSP,
                at + (u32)(chance(g, 4) ? -1 : 1) * (u32)offsets[below(g, ARRAY_SIZE(offsets))]);
}

static void stack_group(struct gen *g)
{
    if (chance(g, 2))
        set_stack(g);
    for (unsigned count = 1 + (unsigned)below(g, 6); count--;) {
        struct piece *p = new_piece(g);
        unsigned reg = chance(g, 3) ? pointer(g) : value(g);

        switch (below(g, 12)) {
        case 0:
        case 1:
        case 2:
            if (chance(g, 12))
                put8(p, 0x66);
            put_rex(p, false, false, 0, 0, reg);
            put8(p, 0x50 | (reg & 7));
            break;
        case 3:
        case 4:
        case 5:
            reg = chance(g, 12) ? RSP : value(g);
            if (chance(g, 16))
                put8(p, 0x66);
            put_rex(p, false, false, 0, 0, reg);
            put8(p, 0x58 | (reg & 7));
            break;
        case 6:
            put8(p, 0x68);
            put32(p, (u32)random_next(&g->r));
            break;
        case 7:
            put8(p, 0x6a);
            put8(p, (u8)random_next(&g->r));
            break;
        case 8: op_mem(g, p, false, 0xff, 6, chance(g, 2) ? RSP : pointer(g), displacement(g) & 0xff); break;
        case 9: op_mem(g, p, false, 0x8f, 0, chance(g, 2) ? RSP : pointer(g), displacement(g) & 0xff); break;
        case 10: op_mem(g, p, true, chance(g, 2) ? 0x8b : 0x89, value(g), RSP, displacement(g) & 0xff); break;
        default:
            if (chance(g, 2)) {
                op_reg(p, true, 0x83, chance(g, 2) ? 0 : 5, RSP); /* ADD, SUB */
                put8(p, 8 * (unsigned)below(g, 6));
            } else {
                put8(p, 0xc8); /* ENTER */
                put8(p, 8 * (unsigned)below(g, 4));
                put8(p, 0);
                put8(p, chance(g, 4) ? (unsigned)below(g, 4) : 0);
                p = new_piece(g);
                put8(p, 0xc9); /* LEAVE, with luck */
            }
            break;
        }
    }
}

/* ---- branches ---- */

/* A piece behind the next one; mostly near, mostly in the same chunk. */
static unsigned ahead(struct gen *g)
{
    unsigned now = g->p->npieces, reach = chance(g, 8) ? g->main_end - now : 8;
    unsigned to = now + 1 + (unsigned)below(g, reach ? reach : 1),
             limit = chance(g, 6) ? g->main_end : g->chunk_end;

    return to < limit ? to : limit > now + 1 ? limit - 1 : now + 1;
}

static void jcc(struct gen *g)
{
    struct piece *p;
    unsigned target = ahead(g), cc = (unsigned)below(g, 16);

    if (chance(g, 2)) {
        op_reg(new_piece(g), chance(g, 2), chance(g, 2) ? 0x39 : 0x85, value(g), value(g)); /* CMP, TEST */
        target++;
    }
    p = new_piece(g);
    if (chance(g, 2)) {
        put8(p, 0x70 | cc);
        fixup(p, FIX_REL8, target, 0);
    } else {
        if (chance(g, 16))
            put8(p, chance(g, 2) ? 0x2e : 0x3e);
        put8(p, 0x0f);
        put8(p, 0x80 | cc);
        fixup(p, FIX_REL32, target, 0);
    }
}

static u32 counter_address(unsigned n)
{
    return DATA_BASE + DATA_SWAP * 0x1000 + 0xc00 + 4 * n;
}

/* The loop's head; its end comes a few pieces later. */
static void loop(struct gen *g)
{
    struct piece *p;
    unsigned head, body, start = g->p->npieces;
    bool in_memory = chance(g, 2);
    static void (*const bodies[])(struct gen * g) = {integer,  integer,     vector,        move,
                                                     move,     use_flags,   part_of_flags, access_group,
                                                     page_end, stack_group, jcc,           refresh};

    if (in_memory) {
        p = new_piece(g);
        op_abs(p, false, 0xc7, 0, counter_address(g->counters)); /* MOV dword, n */
        put32(p, 2 + (u32)below(g, 12));
    } else {
        mov_imm(new_piece(g), RCX, 2 + (u32)below(g, 12));
    }
    head = g->p->npieces;
    for (body = 1 + (unsigned)below(g, 5); body; body--)
        bodies[below(g, ARRAY_SIZE(bodies))](g);
    p = new_piece(g);
    if (in_memory) {
        op_abs(p, false, 0xff, 1, counter_address(g->counters)); /* DEC dword */
        p = new_piece(g);
        put8(p, 0x0f);
        put8(p, 0x8f); /* JG */
        fixup(p, FIX_REL32, head, 0);
        g->counters++;
    } else {
        /* RCX may have become anything meanwhile; a byte of it ends soon. */
        put8(p, 0x83), put8(p, 0xe1), put8(p, 15); /* AND ECX, 15 */
        p = new_piece(g);
        put8(p, 0xe2); /* LOOP */
        fixup(p, FIX_REL8, g->p->npieces - 1 - start < 12 ? head : g->p->npieces, 0);
    }
}

/* Functions come later: they have numbers until there are any (name_functions). From here on one in the pages that are
   exchanged. */
enum { SWAPPED_FUNCTION = MAX_PIECES + MAX_CHUNKS, SWAPPED = 4 };
static unsigned function(struct gen *g)
{
    return MAX_PIECES + (unsigned)below(g, MAX_CHUNKS);
}

/* To a piece of the main part by the table, or through a register, or a function. */
static unsigned new_table(struct gen *g, bool functions)
{
    unsigned n = g->p->ntables++;

    for (unsigned k = 0; k < 8; k++)
        g->p->tables[n][k] = (u16)(functions ? function(g) : ahead(g) + 2);
    return n;
}

static void indirect(struct gen *g)
{
    bool call = chance(g, 2);
    unsigned digit = call ? 2 : 4, reg = value(g);
    struct piece *p = new_piece(g);

    if (g->p->ntables < MAX_TABLES && !chance(g, 4)) {
        unsigned table = new_table(g, call);

        op_reg(p, false, 0x83, 4, reg); /* AND reg, 7 */
        put8(p, 7);
        p = new_piece(g);
        if (chance(g, 2)) {
            put_rex(p, false, false, 0, reg, 0);
            put8(p, 0xff);
            put8(p, digit << 3 | 4);
            put8(p, 3 << 6 | (reg & 7) << 3 | 5);
            put32(p, DATA_BASE + DATA_TABLES * 0x1000 + table * 64);
            return;
        }
        put_rex(p, true, false, reg, reg, 0);
        put8(p, 0x8b);
        put8(p, (reg & 7) << 3 | 4);
        put8(p, 3 << 6 | (reg & 7) << 3 | 5);
        put32(p, DATA_BASE + DATA_TABLES * 0x1000 + table * 64);
        p = new_piece(g);
        op_reg(p, false, 0xff, digit, reg);
        return;
    }
    put_rex(p, false, false, 0, 0, reg);
    put8(p, 0xb8 | (reg & 7));
    fixup(p, FIX_ABS32, call ? function(g) : ahead(g) + 1, 0);
    p = new_piece(g);
    op_reg(p, false, 0xff, digit, reg);
}

static void call(struct gen *g)
{
    struct piece *p;

    if (chance(g, 10)) { /* CALL the next instruction, POP */
        unsigned reg = value(g);

        p = new_piece(g);
        put8(p, 0xe8);
        fixup(p, FIX_REL32, g->p->npieces, 0);
        p = new_piece(g);
        put_rex(p, false, false, 0, 0, reg);
        put8(p, 0x58 | (reg & 7));
        return;
    }
    if (chance(g, 8)) { /* RET without a CALL */
        p = new_piece(g);
        put8(p, 0x68);
        fixup(p, FIX_ABS32, ahead(g) + 1, 0);
        p = new_piece(g);
        if (chance(g, 3)) {
            put8(p, 0xc2);
            put8(p, 8 * (unsigned)below(g, 3));
            put8(p, 0);
        } else {
            put8(p, 0xc3);
        }
        return;
    }
    if (chance(g, 3))
        set_stack(g);
    p = new_piece(g);
    put8(p, 0xe8);
    fixup(p, FIX_REL32, function(g), 0);
}

static void jump(struct gen *g)
{
    struct piece *p = new_piece(g);

    if (chance(g, 2)) {
        put8(p, 0xe9);
        fixup(p, FIX_REL32, ahead(g), 0);
    } else {
        put8(p, 0xeb);
        fixup(p, FIX_REL8, ahead(g), 0);
    }
}

/* ---- code that changes ---- */

/* A place where a device may write. */
static void new_site(struct gen *g, unsigned at)
{
    struct program *p = g->p;

    if (p->nsites < MAX_SITES) {
        p->sites[p->nsites].piece = (u16)(p->npieces - 1);
        p->sites[p->nsites++].at = (u16)at;
    }
}

/* What is patched: an immediate or an opcode of these, here or in another piece. */
static void patchable(struct gen *g, unsigned reg, bool opcode)
{
    struct piece *p = new_piece(g);

    if (opcode) {
        put8(p, 0x81); /* ADD..CMP reg, imm32: the ModRM byte may take any digit */
        put8(p, 0xc0 | (reg & 7));
    } else {
        put8(p, 0xb8 | (reg & 7));
    }
    new_site(g, p->length);
    put32(p, (u32)random_next(&g->r));
}

/* Eight bytes of an immediate, by a PUSH, a string or a vector. */
static void patch_long(struct gen *g)
{
    unsigned reg = value(g), target = g->p->npieces;
    struct piece *p = new_piece(g);
    bool behind = chance(g, 2);
    static const u32 windows[] = {0, ALIAS_BASE - CODE_BASE,
                                  DATA_BASE + DATA_CODE * 0x1000 - (CODE_BASE + 0x1000)};
    u32 window = windows[below(g, ARRAY_SIZE(windows))];

    if (!behind) {
        put_rex(p, true, false, 0, 0, reg);
        put8(p, 0xb8 | (reg & 7));
        put64(p, random_next(&g->r));
        integer(g);
        p = new_piece(g);
    }
    switch (below(g, 4)) {
    case 0:
        put8(p, 0xb8 | RSP);
        fixup(p, FIX_ABS32, target, window + 10);  /* MOV ESP, behind it */
        put8(new_piece(g), 0x50 | (value(g) & 3)); /* PUSH */
        mov_imm(new_piece(g), RSP, STACK_USUAL);
        break;
    case 1:
        put8(p, 0xb8 | RDI);
        fixup(p, FIX_ABS32, target, window + 2);
        put8(new_piece(g), 0xab); /* STOS */
        refresh(g);
        break;
    case 2:
        put8(p, 0x66);
        op_piece(p, true, 0x0f7e, (unsigned)below(g, 8), target,
                 window + 2); /* MOVQ from a vector register */
        break;
    default: op_piece(p, true, 0x89, value(g), target, window + 2); break;
    }
    if (behind) {
        if (chance(g, 2))
            integer(g);
        p->fixups[0].target = (u16)g->p->npieces;
        p = new_piece(g);
        put_rex(p, true, false, 0, 0, reg);
        put8(p, 0xb8 | (reg & 7));
        put64(p, random_next(&g->r));
    }
}

static void patch(struct gen *g)
{
    /* Through which of the windows: the code's own, its alias, or page 1 of it in the data. */
    static const u32 windows[] = {0, 0, ALIAS_BASE - CODE_BASE,
                                  DATA_BASE + DATA_CODE * 0x1000 - (CODE_BASE + 0x1000)};
    u32 window = windows[below(g, ARRAY_SIZE(windows))];
    bool opcode = chance(g, 3), behind = chance(g, 2);
    unsigned between = (unsigned)below(g, 5), target = behind ? g->p->npieces + 1 : g->p->npieces,
             reg = value(g) & 7;
    struct piece *p;

    if (reg == RBX || reg >= RSP)
        reg = RDX;
    if (behind) { /* the patched instruction comes later: in this block, mostly */
        p = new_piece(g);
        if (opcode) {
            op_piece(p, false, 0x80, 6, 0, window + 1); /* XOR byte, n */
            put8(p, 8 * (1 + (unsigned)below(g, 7)));
        } else {
            op_piece(p, false, chance(g, 2) ? 0x89 : 0x01, value(g), 0, window + 1); /* MOV, ADD dword, reg */
        }
        for (unsigned n = between; n--;)
            integer(g);
        if (chance(g, 3))
            jump(g);
        p->fixups[0].target = (u16)g->p->npieces;
        patchable(g, reg, opcode);
        return;
    }
    patchable(g, reg, opcode);
    for (unsigned n = between; n--;)
        integer(g);
    p = new_piece(g);
    if (opcode) {
        op_piece(p, false, 0x80, 6, target, window + 1);
        put8(p, 8 * (1 + (unsigned)below(g, 7)));
    } else {
        op_piece(p, false, chance(g, 2) ? 0x88 : 0x01, value(g) & 3, target, window + 1);
    }
}

/* ---- strings, faults, the system ---- */

static void string(struct gen *g)
{
    static const u8 opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    struct piece *p;
    bool backwards = chance(g, 5);

    if (!chance(g, 3))
        mov_imm(new_piece(g), RSI, data_address(g));
    if (!chance(g, 3))
        mov_imm(new_piece(g), RDI, data_address(g));
    if (backwards)
        put8(new_piece(g), 0xfd);
    mov_imm(new_piece(g), RCX, (u32)below(g, 24));
    p = new_piece(g);
    if (!chance(g, 4))
        put8(p, chance(g, 4) ? 0xf2 : 0xf3);
    if (chance(g, 4))
        put8(p, 0x48);
    put8(p, opcodes[below(g, sizeof(opcodes))]);
    if (backwards)
        put8(new_piece(g), 0xfc);
}

static void fault(struct gen *g)
{
    struct piece *p = new_piece(g);
    unsigned reg = value(g);

    switch (below(g, 9)) {
    case 0:
        put8(p, 0x0f);
        put8(p, 0x0b);
        break; /* UD2 */
    case 1:    /* division by zero, maybe */
        op_reg(p, chance(g, 2), 0xf7, 6 + (unsigned)below(g, 2), reg);
        break;
    case 2: /* not canonical */
        put_rex(p, true, false, 0, 0, reg);
        put8(p, 0xb8 | (reg & 7));
        put64(p, 0x8000000000000000 >> below(g, 17));
        p = new_piece(g);
        op_mem(g, p, true, chance(g, 2) ? 0x8b : 0x89, value(g), reg, displacement(g));
        break;
    case 3:
        op_abs(p, true, chance(g, 2) ? 0x8b : 0x01, reg,
               DATA_BASE + DATA_PAGES * 0x1000 + (u32)below(g, 0x1000));
        break;
    case 4: op_abs(p, true, 0x01, reg, DATA_BASE + DATA_PAGES * 0x1000 - (u32)below(g, 8)); break;
    case 5: op_abs(p, true, 0x89, reg, DATA_BASE + DATA_TABLES * 0x1000 + (u32)below(g, 0xff8)); break;
    case 6: put8(p, 0xcc); break;
    case 7: /* a jump to nowhere */
        mov_imm(p, reg, chance(g, 2) ? 0x7000000 : CODE_BASE + CODE_SIZE);
        p = new_piece(g);
        op_reg(p, false, 0xff, chance(g, 2) ? 2 : 4, reg);
        break;
    default: /* the end of a page, with nothing or something else behind it */
        op_abs(p, true, chance(g, 2) ? 0x8b : 0x29, reg,
               DATA_BASE + (1 + (u32)below(g, DATA_PAGES)) * 0x1000 - 1 - (u32)below(g, 7));
        break;
    }
}

static void service(struct gen *g)
{
    struct piece *p = new_piece(g);

    if (chance(g, 6)) {
        put8(p, 0x0f);
        put8(p, 0x05); /* SYSCALL */
        return;
    }
    put8(p, 0xcd);
    put8(p, SERVICE_NONE + (unsigned)below(g, SERVICE_LAST - SERVICE_NONE + 1));
}

static void call_number(struct gen *g, unsigned number)
{
    struct piece *p = new_piece(g);

    put8(p, 0xe8);
    fixup(p, FIX_REL32, number, 0);
}

/* A function, and the one that has come into its place; a jump over a page end, too. */
static void remap(struct gen *g)
{
    static const u8 services[] = {SERVICE_SPACE, SERVICE_SPACE, SERVICE_CODE, SERVICE_FETCH, SERVICE_RING};
    unsigned number = SWAPPED_FUNCTION + (unsigned)below(g, SWAPPED);
    struct piece *p;

    if (chance(g, 2))
        mov_imm(new_piece(g), RSP, STACK_USUAL);
    call_number(g, number);
    p = new_piece(g);
    put8(p, 0xcd);
    put8(p, services[below(g, sizeof(services))]);
    call_number(g, number);
}

/* Privileged, mostly: #GP in user mode. */
static void privileged(struct gen *g)
{
    static const u32 flags[] = {FLAG_AC, FLAG_IF, FLAG_TF, FLAG_TF | FLAG_IF, FLAG_DF,
                                0xad5,   0x246,   FLAG_NT, FLAG_IOPL,         FLAG_RF | FLAG_IF};
    struct piece *p = new_piece(g);

    switch (below(g, 8)) {
    case 0: put8(p, chance(g, 2) ? 0xfa : 0xfb); break; /* CLI, STI */
    case 1:
        put8(p, 0x0f);
        put8(p, 0x01);
        put8(p, chance(g, 2) ? 0xca : 0xcb);
        break;                                                                  /* CLAC, STAC */
    case 2: op_mem(g, p, false, 0x0f01, 7, pointer(g), displacement(g)); break; /* INVLPG */
    case 3:
        put8(p, 0x0f), put8(p, 0x20), put8(p, 0xd8); /* MOV RAX, CR3; MOV CR3, RAX */
        put8(p, 0x0f), put8(p, 0x22), put8(p, 0xd8);
        break;
    case 4: /* MOV SS */
        mov_imm(p, RAX, chance(g, 2) ? SELECTOR_KERNEL_DATA : SELECTOR_USER_DATA);
        p = new_piece(g);
        put8(p, 0x8e);
        put8(p, chance(g, 4) ? 0xd8 : 0xd0);
        break;
    default:
        put8(p, 0x68);
        put32(p, flags[below(g, ARRAY_SIZE(flags))]);
        p = new_piece(g);
        put8(p, 0x9d);
        break;
    }
}

/* Page tables changed in the middle of code, by a supervisor; #PF for a user. */
static void tables(struct gen *g)
{
    static const u8 bits[] = {1, 2, 4, 0x20, 0x40};
    unsigned page = (unsigned)below(g, DATA_PAGES);
    u32 at = DATA_BASE + page * 0x1000;
    bool more = chance(g, 3); /* more rights than before need no INVLPG */
    struct piece *p;

    if (chance(g, 2))
        op_abs(new_piece(g), true, 0x8b, value(g), at + (u32)below(g, 0xff8));
    /* One piece, so that no jump comes between the store and INVLPG: only a machine that counts knows what is stale. */
    p = new_piece(g);
    put8(p, 0x48), put8(p, 0xb8), put64(p, SYSTEM_BASE + SYSTEM_DATA_PT + page * 8); /* MOV RAX, entry */
    if (more)
        put8(p, 0x80), put8(p, 0x08), put8(p, 3); /* OR byte [RAX] */
    else if (chance(g, 2))
        put8(p, 0x80), put8(p, 0x30),
            put8(p, bits[below(g, sizeof(bits))]); /* XOR byte [RAX]: accessed, dirty, rights */
    else
        put8(p, 0x81), put8(p, 0x30), put32(p, 0x1000u << below(g, 3)); /* XOR dword [RAX]: another frame */
    if (!more || chance(g, 2))
        op_abs(p, false, 0x0f01, 7, at + (u32)below(g, 0x1000)); /* INVLPG */
    op_abs(new_piece(g), true, chance(g, 2) ? 0x8b : 0x01, value(g), at + (u32)below(g, 0xff8));
}

/* What decides how floating point works, and debug registers. */
static void control(struct gen *g)
{
    static const u32 mxcsr[] = {0x1f80, 0x1f80, 0x9fc0, 0x7f80, 0x1f00, 0x0f80, 0x3fbf, 0x1d80};
    static const u16 fcw[] = {0x37f, 0x37f, 0x27f, 0xc7f, 0x37b, 0x340};
    struct piece *p = new_piece(g);
    u32 at = counter_address(60);

    switch (below(g, 5)) {
    case 0:
    case 1:
        op_abs(p, false, 0xc7, 0, at);
        put32(p, mxcsr[below(g, ARRAY_SIZE(mxcsr))]);
        op_abs(new_piece(g), false, 0x0fae, 2, at);
        break;
    case 2:
        op_abs(p, false, 0xc7, 0, at);
        put32(p, fcw[below(g, ARRAY_SIZE(fcw))]);
        op_abs(new_piece(g), false, 0xd9, 5, at);
        break;
    case 3:
        put8(p, chance(g, 2) ? 0xdb : 0x0f), put8(p, p->bytes[0] == 0xdb ? 0xe3 : 0x77);
        break; /* FNINIT, EMMS */
    default:   /* a breakpoint at code or data, or none */
        put8(p, 0xb8);
        if (chance(g, 2))
            fixup(p, FIX_ABS32, ahead(g), 0);
        else
            put32(p, data_address(g));
        p = new_piece(g);
        put8(p, 0x0f), put8(p, 0x23), put8(p, 0xc0); /* MOV DR0, RAX */
        mov_imm(new_piece(g), RAX,
                chance(g, 2) ? 0x400 : 0x402 | (u32)(below(g, 4) << 16) | (u32)(below(g, 4) << 18));
        p = new_piece(g);
        put8(p, 0x0f), put8(p, 0x23), put8(p, 0xf8); /* MOV DR7, RAX */
        break;
    }
}

/* ---- programs ---- */

static const struct {
    void (*make)(struct gen *g);
    u8 weight;
} makers[] = {
    {integer, 24},      {vector, 10},      {x87, 3},      {refresh, 10},    {move, 14},      {use_flags, 10},
    {part_of_flags, 8}, {access_group, 6}, {page_end, 4}, {stack_group, 5}, {jcc, 9},        {loop, 4},
    {indirect, 3},      {call, 5},         {jump, 2},     {patch, 5},       {patch_long, 3}, {string, 3},
    {fault, 2},         {service, 4},      {remap, 3},    {privileged, 2},  {tables, 2},     {control, 2},
};

static void any(struct gen *g)
{
    unsigned sum = 0, pick;

    for (size_t n = 0; n < ARRAY_SIZE(makers); n++)
        sum += makers[n].weight;
    pick = (unsigned)below(g, sum);
    for (size_t n = 0; n < ARRAY_SIZE(makers); n++) {
        if (pick < makers[n].weight) {
            makers[n].make(g);
            return;
        }
        pick -= makers[n].weight;
    }
}

enum { PAGE_RESERVE = 0x280, LARGEST_MAKER = 40, PIECE_LIMIT = MAX_PIECES - 2 * LARGEST_MAKER };

static unsigned chunk_bytes(const struct program *p, const struct chunk *c)
{
    unsigned bytes = 2 + 5;

    for (unsigned n = 0; n < c->count; n++)
        bytes += p->pieces[c->first + n].length;
    return bytes;
}

/* A place for each chunk: over the end of a page, or in the middle of one. */
static void place_chunks(struct gen *g)
{
    struct program *p = g->p;
    unsigned cursor[CODE_PAGES], straddles = 0;

    for (unsigned n = 0; n < CODE_PAGES; n++)
        cursor[n] = n * 0x1000 + (n ? PAGE_RESERVE : 0x40);
    for (unsigned c = 0; c < p->nchunks; c++) {
        struct chunk *chunk = &p->chunks[c];
        unsigned bytes = chunk_bytes(p, chunk), page = (unsigned)below(g, CODE_SWAP),
                 over = 1 + (unsigned)below(g, 60);

        if (!chunk->function && straddles < CODE_SWAP - 1 && bytes < PAGE_RESERVE + over && chance(g, 3)) {
            chunk->offset = (u16)(++straddles * 0x1000 - over);
            continue;
        }
        if (chunk->function && c >= p->nchunks - SWAPPED) /* pairs in the pages that are exchanged */
            page = CODE_SWAP + (c & 1);
        for (unsigned attempt = 0; attempt < CODE_SWAP && cursor[page] + bytes > page * 0x1000 + 0xfb0;
             attempt++)
            page = page >= CODE_SWAP ? page : (page + 1) % CODE_SWAP;
        if (cursor[page] + bytes > page * 0x1000 + 0xfb0)
            for (unsigned n = 0; n < chunk->count; n++)
                p->pieces[chunk->first + n].dropped = true;
        chunk->offset = (u16)cursor[page];
        cursor[page] += bytes < 0xfb0 ? bytes + (unsigned)below(g, 16) : 0;
    }
}

/* Functions were named by numbers. */
static void name_functions(struct program *p)
{
    unsigned count = p->nchunks - p->main_chunks;

    for (unsigned n = 0; n < p->npieces; n++)
        for (unsigned k = 0; k < p->pieces[n].nfixups; k++) {
            struct fixup *f = &p->pieces[n].fixups[k];

            if (f->target >= SWAPPED_FUNCTION)
                f->target = p->chunks[p->nchunks - 1 -
                                      (f->target - SWAPPED_FUNCTION) % (count < SWAPPED ? count : SWAPPED)]
                                .first;
            else if (f->target >= MAX_PIECES)
                f->target = p->chunks[p->main_chunks + (f->target - MAX_PIECES) % count].first;
            else if (f->target >= p->npieces)
                f->target = 0;
        }
    for (unsigned n = 0; n < p->ntables; n++)
        for (unsigned k = 0; k < 8; k++) {
            u16 *t = &p->tables[n][k];

            if (*t >= MAX_PIECES)
                *t = p->chunks[p->main_chunks + (*t - MAX_PIECES) % count].first;
            else if (*t >= p->chunks[p->main_chunks].first)
                *t = 0;
        }
}

static void initial_state(struct gen *g)
{
    struct image *image = &g->p->image;

    image->seed = random_next(&g->r);
    image->user = chance(g, 2);
    image->smap = chance(g, 3);
    image->write_protect = !chance(g, 4);
    image->align_check = !chance(g, 4);
    image->pcid = chance(g, 3);
    image->rflags = (random_next(&g->r) & FLAGS_ARITH) | (chance(g, 2) ? FLAG_IF : 0) |
                    (image->smap || chance(g, 12) ? FLAG_AC : 0);
    if (image->user && !chance(g, 8))
        image->rflags &= ~(u64)FLAG_AC;
    for (unsigned n = 0; n < 16; n++)
        image->gpr[n] = is_pointer(n) ? data_address(g) : integer_value(&g->r);
    image->gpr[RSP] = STACK_USUAL;
    image->fs_base = DATA_BASE + 0x800 - below(g, 0x100);
    image->gs_base = chance(g, 2) ? 0 : DATA_BASE + 0x1000 * below(g, 4);
}

void program_generate(u64 seed, struct program *p)
{
    static struct gen generator;
    struct gen *g = &generator;
    unsigned chunks, functions;

    memset(p, 0, sizeof(*p));
    *g = (struct gen){.p = p, .r = {seed * 0x9e3779b97f4a7c15 + 0xd1342543de82ef95}};
    random_next(&g->r);
    initial_state(g);
    chunks = 2 + (unsigned)below(g, 12);
    functions = 2 + (unsigned)below(g, 6);
    for (unsigned c = 0; c < chunks + functions && p->npieces < PIECE_LIMIT; c++) {
        struct chunk *chunk = &p->chunks[p->nchunks++];
        unsigned makers_left = c < chunks ? 3 + (unsigned)below(g, 14) : 1 + (unsigned)below(g, 5);

        *chunk = (struct chunk){.first = (u16)p->npieces, .function = c >= chunks};
        if (c < chunks)
            p->main_chunks = p->nchunks;
        g->chunk_end = p->npieces + makers_left;
        g->main_end = g->chunk_end + 12;
        while (makers_left-- && p->npieces < PIECE_LIMIT)
            any(g);
        chunk->count = (u16)(p->npieces - chunk->first);
    }
    if (p->nchunks == p->main_chunks) /* the limit came first */
        p->chunks[p->nchunks++] = (struct chunk){.first = (u16)p->npieces, .function = true};
    name_functions(p);
    place_chunks(g);
    program_assemble(p);
}
