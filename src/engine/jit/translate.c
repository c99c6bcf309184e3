/*
 * One block to host code. jit.h has the roles of registers and the rules for exits.
 *
 * Most instructions are executed by the host as they are (JIT_PLAIN): the same opcode bytes with host registers in the
 * register fields, and a memory operand that was translated into [R15 + RAX]. What is not translated calls its handler, and
 * what ends a block without a translation bails out to its cell.
 *
 * Guest flags. An instruction leaves them in the host's flags (`host_flags`); they are stored to interp.flags in the
 * interpreter's form (`mem_flags`) only when something follows that could leave the block, or that destroys the host's
 * flags, before the next instruction that writes them all. Translating an address destroys them.
 */
#include <stddef.h>
#include <string.h>

#include "engine/jit/emit.h"
#include "engine/jit/jit.h"
#include "engine/jit/translate.h"

/* ---- bits and pieces ---- */

static void add_fix(struct translation *t, enum fix_kind kind, u8 *place, struct fix f)
{
    if (t->nfixes == MAX_FIXES) {
        t->failed = true;
        return;
    }
    f.kind = (u8)kind;
    f.cell = (u8)t->cell;
    f.vec_dirty = t->held.vec_dirty;
    f.vec_wide = t->held.vec_wide;
    f.place = place;
    t->fixes[t->nfixes++] = f;
}

void jit_bail_if(struct translation *t, unsigned cc)
{
    add_fix(t, FIX_BAIL, e_jcc(&t->e, cc), (struct fix){.exit = JIT_EXIT_OPERAND});
}

static struct operand memory_register(unsigned guest)
{
    return op_gs(offsetof(struct jit_vcpu, guest_r9_r11) + (guest - R9) * 8);
}
unsigned jit_get_guest(struct translation *t, unsigned guest, unsigned scratch)
{
    if (!in_memory(guest))
        return jit_host[guest];
    e_mov(&t->e, scratch, memory_register(guest));
    return scratch;
}
void jit_put_guest(struct translation *t, unsigned guest, unsigned host)
{
    if (in_memory(guest))
        e_store(&t->e, memory_register(guest), host);
}

/* ---- flags ---- */

/* AX = LAHF's byte and OF, the form of interp.flags. */
static void save_flags(struct translation *t)
{
    static const u8 get[] = {0x9f, 0x0f, 0x90, 0xc0}, opcode = 0x89, prefix = 0x66;

    if (t->held.mem_flags)
        return;
    emit_bytes(&t->e, get, sizeof(get));
    emit_modrm(&t->e, &prefix, 1, false, false, &opcode, 1, H_RAX, INTERP(flags));
    t->held.mem_flags = true;
}
/* RAX is clobbered. */
void jit_need_host_flags(struct translation *t)
{
    static const u8 opcode[] = {0x0f, 0xb7}, set[] = {0x04, 0x7f, 0x9e};

    if (t->held.host_flags)
        return;
    emit_modrm(&t->e, NULL, 0, false, false, opcode, 2, H_RAX, INTERP(flags));
    emit_bytes(&t->e, set, sizeof(set));
    t->held.host_flags = true;
}
/* Something follows that destroys the host's flags, or may leave the block. */
void jit_clobber_flags(struct translation *t)
{
    save_flags(t);
    t->held.host_flags = false;
}
bool jit_flags_needed(const struct translation *t)
{
    u64 written = t->info->flags_written & FLAGS_ARITH;

    return (t->info->flags_read & FLAGS_ARITH) || (written && written != FLAGS_ARITH);
}
void jit_flags_written(struct translation *t)
{
    if (t->info->flags_written & FLAGS_ARITH) {
        t->held.host_flags = true;
        t->held.mem_flags = false;
    }
}

/* ---- addresses ---- */

/* The offset part of the memory operand to `to`; both scratch registers may be used. */
static void effective_address(struct translation *t, unsigned to, bool w)
{
    const struct x86_insn *insn = &t->insn;
    const struct cell *cell = &t->b->cells[t->cell];
    i64 disp = insn->disp;
    unsigned base = NO_BASE, index = NO_INDEX;

    if (insn->base == X86_RIP_REG || (insn->base == X86_NO_REG && insn->index == X86_NO_REG)) {
        e_mov_imm(&t->e, to, (u64)cell->disp);
        return;
    }
    if (insn->base != X86_NO_REG)
        base = jit_get_guest(t, insn->base, JIT_T0);
    if (insn->index != X86_NO_REG)
        index = jit_get_guest(t, insn->index, JIT_T1);
    if (index == NO_INDEX && !disp && w)
        e_mov_rr(&t->e, to, base);
    else
        e_lea(&t->e, w, to, (struct operand){OPERAND_MEM, (u8)base, (u8)index, insn->scale, (i32)disp});
}

/* Linear address of the memory operand to RAX. Flags are clobbered. */
static void linear_address(struct translation *t)
{
    unsigned seg = t->insn.segment;

    jit_clobber_flags(t);
    effective_address(t, JIT_T0, true);
    if (seg == SEG_FS || seg == SEG_GS)
        e_alu(&t->e, true, ALU_ADD, JIT_T0, op_gs(offsetof(struct jit_vcpu, interp.seg_base) + seg * 8));
}

/*
 * From a linear address in RAX to an offset in RAX and a host page in R15, for `size` bytes that may be read (or written).
 * The tag is subtracted: what is left is below 4096 - size + 1 exactly when the page is the entry's and the access does not
 * cross its end. Stacks have one entry of their own, good for both, which is what most of their accesses hit.
 */
static void translate(struct translation *t, unsigned size, bool write, bool stack)
{
    struct emit *e = &t->e;
    struct fix f = {.size = (u8)size};
    u8 *place;

    if (stack) {
        e_alu(e, true, ALU_SUB, JIT_T0, VCPU(stack_tag));
        e_alu(e, true, ALU_CMP, JIT_T0,
              op_gs(offsetof(struct jit_vcpu, stack_limit) + __builtin_ctz(size) * 8));
        place = e_jcc(e, CC_AE);
        e_mov(e, JIT_T1, VCPU(stack_host));
        f.resume = e->p;
        add_fix(t, write ? FIX_STACK_WRITE : FIX_STACK_READ, place, f);
        return;
    }
    e_mov32(e, JIT_T1, op_reg(JIT_T0));
    e_shr_imm(e, false, JIT_T1, PAGE_SHIFT - 4);
    e_alu_imm(e, false, ALU_AND, op_reg(JIT_T1), (JIT_TLB_ENTRIES - 1) * 16);
    if (write)
        e_alu(e, true, ALU_ADD, JIT_T1, VCPU(write));
    else
        e_alu(e, true, ALU_ADD, JIT_T1, VCPU(read));
    e_alu(e, true, ALU_SUB, JIT_T0, op_mem(JIT_T1, offsetof(struct jit_tlb_entry, tag)));
    e_alu_imm(e, true, ALU_CMP, op_reg(JIT_T0), (i32)(PAGE_SIZE - size));
    place = e_jcc(e, CC_A);
    e_mov(e, JIT_T1, op_mem(JIT_T1, offsetof(struct jit_tlb_entry, host)));
    f.resume = e->p;
    add_fix(t, write ? FIX_WRITE : FIX_READ, place, f);
}

static bool off_stack(const struct x86_insn *insn)
{
    return insn->base == RSP;
}

/* What an access must not be, or its cell takes over. */
static void check_place(struct translation *t, unsigned size, enum jit_place_check check)
{
    if (check == JIT_ALIGNED) {
        emit8(&t->e, 0xa8); /* TEST AL, imm8 */
        emit8(&t->e, (u8)(size - 1));
        jit_bail_if(t, CC_NE);
    } else if (check == JIT_ONE_LINE && size > 1) {
        e_lea(&t->e, false, JIT_T1, op_mem(JIT_T0, (i32)size - 1));
        e_alu(&t->e, false, ALU_XOR, JIT_T1, op_reg(JIT_T0));
        e_alu_imm(&t->e, false, ALU_AND, op_reg(JIT_T1), -64);
        jit_bail_if(t, CC_NE);
    }
}

struct operand jit_memory_operand(struct translation *t, unsigned size, bool write,
                                  enum jit_place_check check)
{
    linear_address(t);
    check_place(t, size, check);
    translate(t, size, write, off_stack(&t->insn));
    return op_index(JIT_T1, JIT_T0, 0, 0);
}
struct operand jit_memory_operand_single(struct translation *t, unsigned size, bool write,
                                         enum jit_place_check check)
{
    e_lea(&t->e, true, JIT_T1, jit_memory_operand(t, size, write, check));
    return op_mem(JIT_T1, 0);
}

void jit_linear_address(struct translation *t)
{
    linear_address(t);
}
struct operand jit_place_single(struct translation *t, unsigned size, bool write, enum jit_place_check check)
{
    check_place(t, size, check);
    translate(t, size, write, false);
    e_lea(&t->e, true, JIT_T1, op_index(JIT_T1, JIT_T0, 0, 0));
    return op_mem(JIT_T1, 0);
}

/* ---- the bytes of an instruction ---- */

bool jit_take_apart(const struct translation *t, struct raw *r)
{
    const u8 *p = t->bytes, *end = p + t->insn.length;

    *r = (struct raw){0};
    /* Prefixes in any order; a REX byte counts right before the opcode alone. */
    for (;; p++) {
        bool kept = *p == 0x66 || *p == 0xf2 || *p == 0xf3 || *p == 0xf0, rex = (*p & 0xf0) == 0x40;

        if (!kept && !rex && *p != 0x67 && *p != 0x2e && *p != 0x36 && *p != 0x3e && *p != 0x26 &&
            *p != 0x64 && *p != 0x65)
            break;
        if (kept && r->nprefixes == sizeof(r->prefixes))
            return false;
        if (kept)
            r->prefixes[r->nprefixes++] = *p;
        r->rex = rex;
        r->w = rex && (*p >> 3 & 1);
    }
    if (t->insn.prefixes & X86_PFX_VEX) {
        bool three = *p++ == 0xc4;

        r->map = three ? *p++ & 0x1f : 1;
        r->w = three && *p >> 7;
        r->l = *p >> 2 & 1;
        r->pp = *p++ & 3;
    }
    r->opcode[r->nopcode++] = *p;
    if (*p == 0x0f && !(t->insn.prefixes & X86_PFX_VEX)) {
        r->opcode[r->nopcode++] = *++p;
        if (*p == 0x38 || *p == 0x3a)
            r->opcode[r->nopcode++] = *++p;
    }
    p++;
    if (t->insn.has_modrm) {
        unsigned mod = *p >> 6, rm = *p & 7;

        p++;
        if (mod != 3 && rm == 4) {
            if (mod == 0 && (*p & 7) == 5)
                p += 4;
            p++;
        }
        p += mod == 1 ? 1 : mod == 2 || (mod == 0 && rm == 5) ? 4 : 0;
    }
    r->imm = p;
    r->nimm = (unsigned)(end - p);
    return p <= end;
}

unsigned jit_operand_bytes(const struct translation *t, char letter)
{
    switch (letter) {
    case 'b': return 1;
    case 'w': return 2;
    case 'd': return 4;
    case 'q': return 8;
    case 'y': return t->insn.operand_size == 8 ? 8 : 4;
    default: return t->insn.operand_size;
    }
}

/* ---- instructions ---- */

static bool plain(struct translation *t)
{
    const struct jit_form *f = t->form;
    const struct x86_insn *insn = &t->insn;
    unsigned reg = insn->modrm >> 3 & 7, size = jit_operand_bytes(t, f->rm_size);
    bool reg_waits = false;
    /* A locked operation over a cache line is none on the host (engine/interp/mem.h). XCHG always is one. */
    bool locked = (insn->prefixes & X86_PFX_LOCK) || !strcmp(t->info->mnemonic, "XCHG");
    enum jit_place_check check = locked ? JIT_ONE_LINE : JIT_ANY_PLACE;
    struct operand rm;
    struct raw r;

    if (!insn->has_modrm || !jit_take_apart(t, &r))
        return false;
    if ((f->reg && jit_is_high_byte(t, f->reg_size, insn->reg)) ||
        (!insn->is_mem && jit_is_high_byte(t, f->rm_size, insn->rm)))
        return jit_high_byte(t, check);
    if (insn->is_mem) {
        bool single = jit_flags_needed(t) || (f->reg && in_memory(insn->reg)), write = f->rm & JIT_WRITE;

        /* A bit string reaches beyond its operand. */
        if (f->reg && t->info->mnemonic[0] == 'B' && t->info->mnemonic[1] == 'T')
            return jit_bit_string(t);
        rm = single ? jit_memory_operand_single(t, size, write, check)
                    : jit_memory_operand(t, size, write, check);
    } else {
        rm = op_reg(jit_get_guest(t, insn->rm, JIT_T1));
    }
    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    if (f->reg) {
        reg = jit_get_guest(t, insn->reg, JIT_T0);
        reg_waits = f->reg & JIT_WRITE;
    }
    emit_modrm(&t->e, r.prefixes, r.nprefixes, r.rex, r.w, r.opcode, r.nopcode, reg, rm);
    emit_bytes(&t->e, r.imm, r.nimm);
    jit_flags_written(t);
    if (reg_waits)
        jit_put_guest(t, insn->reg, reg);
    if (!insn->is_mem && (f->rm & JIT_WRITE)) /* last: what XADD of a register with itself leaves */
        jit_put_guest(t, insn->rm, rm.base);
    return true;
}

/* OP AL,Ib and OP rAX,Iz: by their form with ModRM. */
static bool acc_imm(struct translation *t)
{
    unsigned byte = !(t->insn.opcode & 1), n = t->insn.opcode >> 3 & 7;
    bool test = t->insn.opcode >= 0xa8;
    u8 prefix = 0x66, opcode = (u8)(test ? 0xf7 - byte : 0x81 - byte);
    unsigned size = byte ? 1 : t->insn.operand_size;
    u32 imm = (u32)t->insn.imm;

    if (jit_flags_needed(t))
        jit_need_host_flags(t);
    emit_modrm(&t->e, &prefix, size == 2, false, size == 8, &opcode, 1, test ? 0 : n, op_reg(jit_host[RAX]));
    emit_bytes(&t->e, &imm, size < 4 ? size : 4);
    jit_flags_written(t);
    return true;
}

static bool extend(struct translation *t)
{
    static const u8 movsx_w[] = {0x0f, 0xbf}, movsx_b[] = {0x0f, 0xbe}, movsxd = 0x63, prefix = 0x66;
    struct operand rax = op_reg(jit_host[RAX]);
    unsigned size = t->insn.operand_size;

    if (t->insn.opcode == 0x98) {
        if (size == 8)
            emit_modrm(&t->e, NULL, 0, false, true, &movsxd, 1, jit_host[RAX], rax);
        else if (size == 4)
            emit_modrm(&t->e, NULL, 0, false, false, movsx_w, 2, jit_host[RAX], rax);
        else
            emit_modrm(&t->e, &prefix, 1, true, false, movsx_b, 2, jit_host[RAX], rax);
        return true;
    }
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    if (size != 4)
        emit8(&t->e, size == 8 ? 0x48 : 0x66);
    emit8(&t->e, 0x99);
    return true;
}

/* MUL, IMUL, DIV, IDIV: guest RAX goes through the host's, RDX is in its place. */
static bool accumulator(struct translation *t)
{
    const struct x86_insn *insn = &t->insn;
    unsigned size = jit_operand_bytes(t, t->form->rm_size), digit = insn->modrm >> 3 & 7;
    bool w = size == 8, divides = digit >= 6;
    struct operand rm;
    u8 opcode = size == 1 ? 0xf6 : 0xf7, prefix = 0x66;

    if (size < 4 && divides)
        return false;
    if (!insn->is_mem && jit_is_high_byte(t, t->form->rm_size, insn->rm))
        return false;
    if (insn->is_mem) {
        rm = jit_memory_operand_single(t, size, false, JIT_ANY_PLACE);
        if (divides) {
            emit_op(&t->e, w, 0x8b, JIT_T1, rm);
            rm = op_reg(JIT_T1);
        }
    } else {
        rm = op_reg(jit_get_guest(t, insn->rm, JIT_T1));
    }
    if (divides) {
        /* What cannot overflow: the upper half is the lower's extension, and the divisor not 0 (nor -1, signed). */
        jit_clobber_flags(t);
        if (digit == 7) {
            emit_op(&t->e, w, 0x8b, H_RAX, op_reg(jit_host[RAX]));
            emit_op(&t->e, w, 0xc1, 7, op_reg(H_RAX));
            emit8(&t->e, w ? 63 : 31);
            e_alu(&t->e, w, ALU_CMP, H_RAX, op_reg(H_RDX));
            jit_bail_if(t, CC_NE);
            e_lea(&t->e, w, H_RAX, op_mem(rm.base, 1));
            e_alu_imm(&t->e, w, ALU_CMP, op_reg(H_RAX), 1);
            jit_bail_if(t, CC_BE);
        } else {
            emit_op(&t->e, w, 0x85, H_RDX, op_reg(H_RDX));
            jit_bail_if(t, CC_NE);
            emit_op(&t->e, w, 0x85, rm.base, rm);
            jit_bail_if(t, CC_E);
        }
        jit_need_host_flags(t);
    } else if (jit_flags_needed(t)) {
        jit_need_host_flags(t);
    }
    e_mov_rr(&t->e, H_RAX, jit_host[RAX]);
    emit_modrm(&t->e, &prefix, size == 2, size == 1, w, &opcode, 1, digit, rm);
    e_mov_rr(&t->e, jit_host[RAX], H_RAX);
    jit_flags_written(t);
    return true;
}

static bool lea(struct translation *t)
{
    unsigned size = t->insn.operand_size, to;

    if (size < 4)
        return false;
    to = in_memory(t->insn.reg) ? JIT_T0 : jit_host[t->insn.reg];
    if (t->insn.base == X86_RIP_REG || (t->insn.base == X86_NO_REG && t->insn.index == X86_NO_REG))
        e_mov_imm(&t->e, to, size == 8 ? (u64)t->b->cells[t->cell].disp : (u32)t->b->cells[t->cell].disp);
    else
        effective_address(t, to, size == 8);
    jit_put_guest(t, t->insn.reg, to);
    return true;
}

static bool mov_imm(struct translation *t)
{
    unsigned n = t->insn.rm, size = t->insn.operand_size, to = in_memory(n) ? JIT_T0 : jit_host[n];

    if (size == 2) {
        static const u8 opcode = 0xc7, prefix = 0x66;

        to = jit_get_guest(t, n, JIT_T0);
        emit_modrm(&t->e, &prefix, 1, false, false, &opcode, 1, 0, op_reg(to));
        emit8(&t->e, (u8)t->insn.imm);
        emit8(&t->e, (u8)(t->insn.imm >> 8));
        jit_put_guest(t, n, to);
        return true;
    }
    e_mov_imm(&t->e, to, size == 8 ? t->insn.imm : (u32)t->insn.imm);
    jit_put_guest(t, n, to);
    return true;
}

static bool bswap(struct translation *t)
{
    unsigned size = t->insn.operand_size, reg;

    if (size < 4)
        return false;
    reg = jit_get_guest(t, t->insn.rm, JIT_T0);
    emit8(&t->e, (u8)(0x40 | (size == 8) << 3 | reg >> 3));
    emit8(&t->e, 0x0f);
    emit8(&t->e, 0xc8 | (reg & 7));
    jit_put_guest(t, t->insn.rm, reg);
    return true;
}

static bool xchg_acc(struct translation *t)
{
    unsigned size = t->insn.operand_size, other;

    if (size < 4)
        return false;
    other = jit_get_guest(t, t->insn.rm, JIT_T1);
    emit_op(&t->e, size == 8, 0x8b, JIT_T0, op_reg(jit_host[RAX]));
    emit_op(&t->e, size == 8, 0x8b, jit_host[RAX], op_reg(other));
    emit_op(&t->e, size == 8, 0x8b, other, op_reg(JIT_T0));
    jit_put_guest(t, t->insn.rm, other);
    return true;
}

/* ---- stack ---- */

/* [R15 + RAX] is the place that PUSH of 8 bytes writes. */
static void push_place(struct translation *t)
{
    jit_clobber_flags(t);
    e_lea(&t->e, true, JIT_T0, op_mem(JIT_RSP, -8));
    translate(t, 8, true, true);
}
static void move_sp(struct translation *t, i32 by)
{
    e_lea(&t->e, true, JIT_RSP, op_mem(JIT_RSP, by));
}

static bool push(struct translation *t)
{
    unsigned from;

    if (t->insn.operand_size != 8 || t->insn.is_mem)
        return false;
    push_place(t);
    if (in_memory(t->insn.rm)) {
        e_lea(&t->e, true, JIT_T1, op_index(JIT_T1, JIT_T0, 0, 0));
        from = jit_get_guest(t, t->insn.rm, JIT_T0);
        e_store(&t->e, op_mem(JIT_T1, 0), from);
    } else {
        e_store(&t->e, op_index(JIT_T1, JIT_T0, 0, 0), jit_host[t->insn.rm]);
    }
    move_sp(t, -8);
    return true;
}

static bool push_mem(struct translation *t)
{
    if (!t->insn.is_mem)
        return push(t);
    if (t->insn.operand_size != 8)
        return false;
    e_mov(&t->e, JIT_T0, jit_memory_operand(t, 8, false, JIT_ANY_PLACE));
    e_store(&t->e, VCPU(scratch), JIT_T0);
    push_place(t);
    e_lea(&t->e, true, JIT_T1, op_index(JIT_T1, JIT_T0, 0, 0));
    e_mov(&t->e, JIT_T0, VCPU(scratch));
    e_store(&t->e, op_mem(JIT_T1, 0), JIT_T0);
    move_sp(t, -8);
    return true;
}

static bool push_imm(struct translation *t)
{
    if (t->insn.operand_size != 8)
        return false;
    push_place(t);
    emit_op(&t->e, true, 0xc7, 0, op_index(JIT_T1, JIT_T0, 0, 0));
    emit32(&t->e, (u32)t->insn.imm);
    move_sp(t, -8);
    return true;
}

static bool pop(struct translation *t)
{
    unsigned n = t->insn.rm, to = in_memory(n) ? JIT_T0 : jit_host[n];

    if (t->insn.operand_size != 8 || t->insn.is_mem)
        return false;
    jit_clobber_flags(t);
    e_mov_rr(&t->e, JIT_T0, JIT_RSP);
    translate(t, 8, false, true);
    move_sp(t, 8); /* before the load: POP RSP */
    e_mov(&t->e, to, op_index(JIT_T1, JIT_T0, 0, 0));
    jit_put_guest(t, n, to);
    return true;
}

static bool leave(struct translation *t)
{
    if (t->insn.operand_size != 8)
        return false;
    jit_clobber_flags(t);
    e_mov_rr(&t->e, JIT_T0, jit_host[RBP]);
    translate(t, 8, false, true);
    e_lea(&t->e, true, JIT_RSP, op_mem(jit_host[RBP], 8));
    e_mov(&t->e, jit_host[RBP], op_index(JIT_T1, JIT_T0, 0, 0));
    return true;
}

/* ---- ends of blocks ---- */

static void count_block(struct translation *t)
{
    e_alu_imm(&t->e, true, ALU_SUB, INTERP(left), t->b->ncells);
}

static void no_target_if(struct translation *t, unsigned cc)
{
    add_fix(t, FIX_BAIL, e_jcc(&t->e, cc), (struct fix){.exit = JIT_EXIT_TARGET});
}

/* RAX: a RIP. To R15: the translation of its block, by way of the jump table; or bail. */
static void look_up(struct translation *t)
{
    struct emit *e = &t->e;
    const size_t table = offsetof(struct jit_vcpu, interp.jump);

    e_mov_rr(e, JIT_T1, JIT_T0);
    e_shr_imm(e, true, JIT_T1, JUMP_BITS);
    e_alu(e, true, ALU_XOR, JIT_T1, op_reg(JIT_T0));
    e_alu_imm(e, false, ALU_AND, op_reg(JIT_T1), JUMP_ENTRIES - 1);
    e_lea(e, true, JIT_T1, op_index(JIT_T1, JIT_T1, 1, 0)); /* entries have 24 bytes */
    e_alu(e, true, ALU_CMP, JIT_T0, op_gs_index(JIT_T1, 3, table + offsetof(struct jump_entry, rip)));
    no_target_if(t, CC_NE);
    e_shr_imm(e, true, JIT_T0, 63);
    e_mov(e, JIT_T0, op_gs_index(JIT_T0, 3, offsetof(struct jit_vcpu, interp.generation)));
    e_alu(e, true, ALU_CMP, JIT_T0, op_gs_index(JIT_T1, 3, table + offsetof(struct jump_entry, generation)));
    no_target_if(t, CC_NE);
    e_mov(e, JIT_T1, op_gs_index(JIT_T1, 3, table + offsetof(struct jump_entry, block)));
    emit_op(e, false, 0x81, ALU_CMP, op_mem(JIT_T1, offsetof(struct block, mode)));
    emit32(e, t->b->mode);
    no_target_if(t, CC_NE);
    e_mov(e, JIT_T1, op_mem(JIT_T1, offsetof(struct block, tier_code)));
    emit_op(e, true, 0x85, JIT_T1, op_reg(JIT_T1));
    no_target_if(t, CC_E);
}

/* On to `rip`. `pushed`: by a CALL whose return address is in place. */
static void exit_to(struct translation *t, u64 rip, unsigned which, bool pushed)
{
    if (((rip ^ t->b->rip) & PAGE_MASK) == 0) {
        if (pushed)
            move_sp(t, -8);
        count_block(t);
        add_fix(t, FIX_UNLINKED, e_jmp(&t->e), (struct fix){.which = (u8)which, .pushed = pushed});
        return;
    }
    e_mov_imm(&t->e, JIT_T0, rip);
    look_up(t);
    if (pushed)
        move_sp(t, -8);
    count_block(t);
    e_jmp_indirect(&t->e, op_reg(JIT_T1));
}

static u64 next_rip(const struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];

    return t->b->rip + cell->start + cell->len;
}

static bool jcc(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];
    u8 *taken;
    unsigned cc = t->insn.opcode & 15;

    if (cell->rm) /* raises #GP when it is taken */
        return false;
    jit_release_vectors(t);
    save_flags(t);
    jit_need_host_flags(t);
    taken = e_jcc(&t->e, cc);
    exit_to(t, next_rip(t), 1, false);
    e_here(&t->e, taken);
    exit_to(t, (u64)cell->disp, 0, false);
    return true;
}

/* JRCXZ. RCX is the host's. */
static bool jcxz(struct translation *t)
{
    static const u8 around[] = {0xe3, 2, 0xeb, 5}; /* JRCXZ over a JMP over the one that follows */
    const struct cell *cell = &t->b->cells[t->cell];
    u8 *zero;

    if (cell->rm || t->insn.address_size != 8)
        return false;
    jit_release_vectors(t);
    save_flags(t);
    emit_bytes(&t->e, around, sizeof(around));
    zero = e_jmp(&t->e);
    exit_to(t, next_rip(t), 1, false);
    e_here(&t->e, zero);
    exit_to(t, (u64)cell->disp, 0, false);
    return true;
}

static bool jmp(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];

    if (cell->rm)
        return false;
    jit_release_vectors(t);
    save_flags(t);
    exit_to(t, (u64)cell->disp, 0, false);
    return true;
}

/* The return address to [R15 + RAX]. */
static void store_return(struct translation *t)
{
    u64 rip = next_rip(t);

    if ((u64)(i64)(i32)rip == rip) {
        emit_op(&t->e, true, 0xc7, 0, op_index(JIT_T1, JIT_T0, 0, 0));
        emit32(&t->e, (u32)rip);
        return;
    }
    e_lea(&t->e, true, JIT_T1, op_index(JIT_T1, JIT_T0, 0, 0));
    e_mov_imm(&t->e, JIT_T0, rip);
    e_store(&t->e, op_mem(JIT_T1, 0), JIT_T0);
}

static bool call(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];

    if (cell->rm || t->insn.operand_size != 8)
        return false;
    jit_release_vectors(t);
    push_place(t);
    store_return(t);
    exit_to(t, (u64)cell->disp, 0, true);
    return true;
}

static bool ret(struct translation *t)
{
    if (t->insn.operand_size != 8)
        return false;
    jit_release_vectors(t);
    jit_clobber_flags(t);
    e_mov_rr(&t->e, JIT_T0, JIT_RSP);
    translate(t, 8, false, true);
    e_mov(&t->e, JIT_T0, op_index(JIT_T1, JIT_T0, 0, 0));
    look_up(t);
    move_sp(t, 8);
    count_block(t);
    e_jmp_indirect(&t->e, op_reg(JIT_T1));
    return true;
}

/* The translation of the target to R15. */
static void indirect_target(struct translation *t)
{
    jit_release_vectors(t);
    jit_clobber_flags(t);
    if (t->insn.is_mem)
        e_mov(&t->e, JIT_T0, jit_memory_operand(t, 8, false, JIT_ANY_PLACE));
    else
        e_mov_rr(&t->e, JIT_T0, jit_get_guest(t, t->insn.rm, JIT_T0));
    look_up(t);
}

static bool jmp_indirect(struct translation *t)
{
    if (t->insn.operand_size != 8)
        return false;
    indirect_target(t);
    count_block(t);
    e_jmp_indirect(&t->e, op_reg(JIT_T1));
    return true;
}

static bool call_indirect(struct translation *t)
{
    if (t->insn.operand_size != 8)
        return false;
    indirect_target(t);
    e_store(&t->e, VCPU(scratch), JIT_T1);
    push_place(t);
    store_return(t);
    move_sp(t, -8);
    count_block(t);
    e_jmp_indirect(&t->e, VCPU(scratch));
    return true;
}

/* ---- blocks ---- */

static bool nop(struct translation *t)
{
    return true;
}

static bool (*const translators[])(struct translation *t) = {
    [JIT_PLAIN] = plain,
    [JIT_ACC_IMM] = acc_imm,
    [JIT_EXTEND] = extend,
    [JIT_ACC] = accumulator,
    [JIT_LEA] = lea,
    [JIT_MOV_IMM] = mov_imm,
    [JIT_BSWAP] = bswap,
    [JIT_XCHG_ACC] = xchg_acc,
    [JIT_NOP] = nop,
    [JIT_PUSH] = push,
    [JIT_PUSH_IMM] = push_imm,
    [JIT_POP] = pop,
    [JIT_LEAVE] = leave,
    [JIT_CALL] = call,
    [JIT_RET] = ret,
    [JIT_JMP] = jmp,
    [JIT_JCC] = jcc,
    [JIT_CALL_INDIRECT] = call_indirect,
    [JIT_JMP_INDIRECT] = jmp_indirect,
    [JIT_MOV_IMM_BYTE] = jit_mov_imm_byte,
    [JIT_PUSH_MEM] = push_mem,
    [JIT_JCXZ] = jcxz,
    [JIT_CMPXCHG] = jit_cmpxchg,
    [JIT_CMPXCHG_PAIR] = jit_cmpxchg_pair,
    [JIT_BARE] = jit_bare,
    [JIT_AH_FLAGS] = jit_ah_flags,
    [JIT_DIRECTION] = jit_direction,
    [JIT_VZERO] = jit_vzero,
    [JIT_VECTOR] = jit_vector,
    [JIT_BMI] = jit_bmi,
};

/* What the stubs for bails take in RAX. */
static u32 bail_code(unsigned cell, enum jit_exit why)
{
    return (u32)(offsetof(struct block, cells) + cell * sizeof(struct cell)) | why << JIT_BAIL_EXIT_SHIFT;
}

/* Leave to the handler of cell `n`. */
static void emit_bail(struct translation *t, unsigned n, enum jit_exit why, u16 vec_dirty, u16 vec_wide)
{
    const struct code_cache *code = t->j->code;

    jit_store_vectors(t, vec_dirty, vec_wide, vec_wide);
    e_mov_imm(&t->e, JIT_T0, bail_code(n, why));
    e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
    e_target(&t->e, e_jmp(&t->e), code_rw(code, n ? code->stub.bail : code->stub.bail_first));
}

static void emit_handler_call(struct translation *t)
{
    const struct code_cache *code = t->j->code;

    jit_release_vectors(t);
    t->held.fp_checked = false;
    save_flags(t);
    e_mov_imm(&t->e, JIT_T0, t->cell);
    e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
    emit8(&t->e, 0xe8);
    emit32(&t->e, 0);
    e_target(&t->e, t->e.p - 4, code_rw(code, code->stub.call));
    t->held.host_flags = false;
}

/* Whether the cell has the handler that its form stands for, and not one that raises, or that a debugger has put there. */
static bool ordinary(const struct translation *t, const struct cell *cell, interp_fn *fn)
{
    return fn != interp_op_ud && fn != interp_op_nm && fn != interp_op_leave && cell->op == t->insn.op;
}

/* Returns whether the instruction ended the translation. */
static bool translate_cell(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];
    interp_fn *fn = t->cell ? cell->fn : t->b->first_fn;
    struct x86_decode_mode mode = {X86_CODE64, t->j->interp.amd};
    bool last = t->cell + 1u == t->b->ncells;
    u32 ends = X86_OP_BRANCH | X86_OP_SERIALISE | X86_OP_REP;
    u8 *start = t->e.p;
    unsigned fixes = t->nfixes;
    struct held held = t->held;

    t->bytes = t->code + cell->start;
    if (x86_decode(&mode, t->bytes, t->b->nbytes - cell->start, &t->insn) == X86_DECODE_OK &&
        ordinary(t, cell, fn) && t->insn.length == cell->len &&
        (!t->insn.is_mem || t->insn.address_size == 8)) {
        t->info = &x86_ops[t->insn.op];
        t->form = &t->j->code->forms[t->insn.op];
        if (t->form->kind != JIT_NONE && translators[t->form->kind](t))
            return t->info->attributes & ends;
    }
    t->e.p = start;
    t->nfixes = fixes;
    t->held = held;
    if (last && (x86_ops[cell->op].attributes & ends || !ordinary(t, cell, fn))) {
        save_flags(t);
        emit_bail(t, t->cell, JIT_EXIT_UNTRANSLATED, t->held.vec_dirty, t->held.vec_wide);
        return true;
    }
    t->handler_calls++;
    t->untranslated |= 1ull << t->cell;
    emit_handler_call(t);
    return false;
}

/* What the fast paths jump to. */
static void emit_fixes(struct translation *t)
{
    const struct code_cache *code = t->j->code;
    u8 *bails[BLOCK_MAX_CELLS + 1][JIT_EXIT_COUNT] = {{0}};

    for (unsigned n = 0; n < t->nfixes; n++) {
        struct fix *f = &t->fixes[n];
        u8 **bail;

        f->behind = t->e.p;
        if (f->kind == FIX_UNLINKED) {
            u64 site = (u64)(uintptr_t)(code->rx + (f->place - 1 - code->rw));

            e_here(&t->e, f->place);
            if (f->pushed)
                move_sp(t, 8);
            e_alu_imm(&t->e, true, ALU_ADD, INTERP(left), t->b->ncells);
            e_mov_imm(&t->e, JIT_T0, site << 1 | f->which);
            e_store(&t->e, VCPU(scratch), JIT_T0);
            e_mov_imm(&t->e, JIT_T0, bail_code(f->cell, JIT_EXIT_UNLINKED));
            e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
            e_target(&t->e, e_jmp(&t->e),
                     code_rw(code, f->cell ? code->stub.unlinked : code->stub.unlinked_first));
            continue;
        }
        if (f->kind != FIX_BAIL) {
            const void *stubs[] = {
                [FIX_READ] = code->stub.refill_read,
                [FIX_WRITE] = code->stub.refill_write,
                [FIX_STACK_READ] = code->stub.refill_stack_read,
                [FIX_STACK_WRITE] = code->stub.refill_stack_write,
            };
            bool stack = f->kind == FIX_STACK_READ || f->kind == FIX_STACK_WRITE;

            e_here(&t->e, f->place);
            e_alu(&t->e, true, ALU_ADD, JIT_T0,
                  stack ? VCPU(stack_tag) : op_mem(JIT_T1, offsetof(struct jit_tlb_entry, tag)));
            e_mov_imm(&t->e, JIT_T1, f->size);
            emit8(&t->e, 0xe8);
            emit32(&t->e, 0);
            e_target(&t->e, t->e.p - 4, code_rw(code, stubs[f->kind]));
            f->place = e_jcc(&t->e, CC_E);
            f->exit = JIT_EXIT_MEMORY;
            e_target(&t->e, e_jmp(&t->e), f->resume);
        }
        bail = &bails[f->cell][f->exit];
        if (!*bail) {
            *bail = t->e.p;
            emit_bail(t, f->cell, (enum jit_exit)f->exit, f->vec_dirty, f->vec_wide);
        }
        e_target(&t->e, f->place, *bail);
    }
}

/* A block stays in cells. Who is to blame for too many calls of handlers is counted. */
static bool reject(struct jit_vcpu *j, const struct block *b, enum jit_reject why, const u64 untranslated)
{
    j->stats.rejects[why]++;
    for (unsigned n = 0; n < b->ncells; n++)
        j->stats.rejected_with[b->cells[n].op] += untranslated >> n & 1;
    return false;
}

enum { ENTRY_ALIGN = 16 };

static bool translate_block(struct jit_vcpu *j, struct block *b)
{
    struct code_cache *code = j->code;
    struct translation t = {.j = j, .b = b, .held.mem_flags = true};
    size_t start = (code->used + ENTRY_ALIGN - 1) & ~(size_t)(ENTRY_ALIGN - 1);
    u8 *leave_at, *entry;
    bool ended = false;

    if ((b->mode & MODE_CODE_MASK) != MODE_CODE64)
        return reject(j, b, JIT_REJECT_MODE, 0);
    if (b->page2 != BLOCK_NO_PAGE || b->page == BLOCK_NO_PAGE)
        return reject(j, b, JIT_REJECT_PAGE, 0);
    if (start > code->size)
        start = code->size;
    t.e = (struct emit){code->rw + start, code->rw + code->size, false};
    /* Right before the entry, so that a dead block's entry becomes a short jump to it (jit_kill). */
    leave_at = t.e.p;
    emit8(&t.e, 0x49); /* MOV R15, imm64: always of this length */
    emit8(&t.e, 0xbf);
    emit64(&t.e, (u64)(uintptr_t)b);
    e_target(&t.e, e_jmp(&t.e), code_rw(code, code->stub.leave));
    emit8(&t.e, 0x90);
    entry = t.e.p;
    jit_emit_checks(&t.e, b->ncells, leave_at);
    memcpy(t.code, (const void *)(uintptr_t)(b->page + b->offset), b->nbytes);

    for (t.cell = 0; t.cell < b->ncells && !ended; t.cell++) {
        t.cell_at[t.cell] = t.e.p;
        ended = translate_cell(&t);
    }
    t.cell_at[t.cell] = t.e.p;
    if (!ended) {
        jit_release_vectors(&t);
        save_flags(&t);
        exit_to(&t, b->rip + b->nbytes, 1, false);
    }
    emit_fixes(&t);
    code->full |= t.e.full;
    if (t.e.full)
        return reject(j, b, JIT_REJECT_ROOM, 0);
    if (t.failed)
        return reject(j, b, JIT_REJECT_SIZE, 0);
    if (t.handler_calls * 4u > b->ncells)
        return reject(j, b, JIT_REJECT_HANDLERS, t.untranslated);
    code->used = (size_t)(t.e.p - code->rw);
    b->tier_code = code->rx + (entry - code->rw);
    j->stats.blocks++;
    j->stats.guest_bytes += b->nbytes;
    j->stats.host_bytes += code->used - start;
    if (code->perf)
        perf_map_block(code->perf, b, code->rx + start, code->used - start);
    if (j->interp.vcpu->vm->trace)
        jit_trace(&t, code->rw + start);
    return true;
}

bool jit_translate(struct jit_vcpu *j, struct block *b)
{
    u64 begin = jit_stats_now();
    bool translated = translate_block(j, b);

    j->stats.nanoseconds += jit_stats_now() - begin;
    return translated;
}

void jit_link(struct code_cache *code, u8 *site, const void *target)
{
    e_target(&(struct emit){0}, code_rw(code, site + 1), code_rw(code, target));
}
