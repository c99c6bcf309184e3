/*
 * One block to host code. jit.h has the roles of registers and the rules for exits.
 *
 * Most instructions are executed by the host as they are (JIT_PLAIN): the same opcode bytes with host registers in the
 * register fields, and another memory operand. What is not translated calls its handler, and what ends a block without a
 * translation bails out to its cell.
 *
 * Guest flags. An instruction leaves them in the host's flags (`host_flags`); they are stored to interp.flags in the
 * interpreter's form (`mem_flags`) only when something follows that could leave the block, or that destroys the host's
 * flags, before the next instruction that writes them all. Looking up an address destroys them. A forward branch within the
 * page hands them on as they are: most blocks begin by writing them all, and nobody stores them then (`flags_first`).
 */
#include "engine/jit/translate.h"

/* ---- bits and pieces ---- */

void jit_add_fix(struct translation *t, enum fix_kind kind, u8 *place, struct fix f)
{
    if (t->nfixes == MAX_FIXES) {
        t->failed = true;
        return;
    }
    f.kind = (u8)kind;
    f.cell = (u8)t->cell;
    f.vec = t->held.vec;
    f.vec_dirty = t->held.vec_dirty;
    f.vec_wide = t->held.vec_wide;
    f.place = place;
    t->fixes[t->nfixes++] = f;
}

void jit_bail_if(struct translation *t, unsigned cc)
{
    jit_add_fix(t, FIX_BAIL, e_jcc(&t->e, cc), (struct fix){.exit = JIT_EXIT_OPERAND});
}

struct operand jit_memory_register(unsigned guest)
{
    return op_gs(offsetof(struct jit_vcpu, guest_r9_r11) + (guest - R9) * 8);
}
unsigned jit_get_guest(struct translation *t, unsigned guest, unsigned scratch)
{
    if (!in_memory(guest))
        return jit_host[guest];
    e_mov(&t->e, scratch, jit_memory_register(guest));
    return scratch;
}
void jit_put_guest(struct translation *t, unsigned guest, unsigned host)
{
    if (in_memory(guest))
        e_store(&t->e, jit_memory_register(guest), host);
}

/* ---- flags ---- */

void jit_save_flags(struct translation *t)
{
    if (t->held.mem_flags)
        return;
    t->failed |= t->held.entry_flags; /* the guess that they are written first was wrong */
    jit_emit_save_flags(&t->e);
    t->held.mem_flags = true;
}
void jit_need_host_flags(struct translation *t)
{
    static const u8 opcode[] = {0x0f, 0xb7}, set[] = {0x04, 0x7f, 0x9e};

    if (t->held.host_flags) {
        t->failed |= t->held.entry_flags;
        return;
    }
    emit_modrm(&t->e, NULL, 0, false, false, opcode, 2, H_RAX, INTERP(flags));
    emit_bytes(&t->e, set, sizeof(set));
    t->held.host_flags = true;
}
void jit_clobber_flags(struct translation *t)
{
    jit_save_flags(t);
    t->held.host_flags = false;
}
/* The flags that an instruction reads, by the table; and what an immediate count makes of shifts there. */
static u64 flags_read(const struct translation *t, const struct x86_insn *insn)
{
    unsigned digit = insn->modrm >> 3 & 7, count = insn->imm & (insn->operand_size == 8 ? 63 : 31);
    bool shift =
        (insn->op == OP_SHL_Ev_Ib || insn->op == OP_SHR_Ev_Ib || insn->op == OP_SAR_Ev_Ib) && digit >= 4;

    if (shift && count && count <= insn->operand_size * 8u && t->j->code->shifts_write_all)
        return 0;
    return x86_ops[insn->op].flags_read & FLAGS_ARITH;
}
bool jit_flags_needed(const struct translation *t)
{
    u64 written = t->info->flags_written & FLAGS_ARITH;

    return flags_read(t, &t->insn) || (written && written != FLAGS_ARITH);
}
void jit_flags_written(struct translation *t)
{
    if (t->info->flags_written & FLAGS_ARITH) {
        t->held.host_flags = true;
        t->held.mem_flags = false;
        t->held.entry_flags = false;
    }
}

/* Whether a block begins by writing all flags: only moves between registers come before. */
static bool writes_flags_first(const struct translation *t)
{
    for (unsigned n = 0; n < t->b->ncells; n++) {
        const struct decoded *d = &t->all[n];
        const struct x86_op_info *info = &x86_ops[d->insn.op];
        u64 written = info->flags_written & FLAGS_ARITH;

        if (!d->form || d->insn.is_mem || flags_read(t, &d->insn))
            return false;
        switch (d->form->kind) {
        case JIT_PLAIN:
        case JIT_ACC_IMM:
            if (written == FLAGS_ARITH)
                return true;
            break;
        case JIT_LEA:
        case JIT_MOV_IMM:
        case JIT_EXTEND:
        case JIT_NOP: break;
        default: return false;
        }
        if (written)
            return false;
    }
    return false;
}

/* ---- instructions ---- */

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
    r->opcode[r->nopcode++] = *p == 0x82 ? 0x80 : *p; /* the same, which 64-bit code does not have */
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

unsigned jit_operand_bytes(const struct x86_insn *insn, char letter)
{
    switch (letter) {
    case 'b': return 1;
    case 'w': return 2;
    case 'd': return 4;
    case 'q': return 8;
    case 'y': return insn->operand_size == 8 ? 8 : 4;
    default: return insn->operand_size;
    }
}

unsigned jit_accesses(const struct decoded *d, struct access a[2])
{
    static const struct access push = {RSP, true, 8, -8}, pop = {RSP, false, 8, 0};
    const struct x86_insn *insn = &d->insn;
    const struct jit_form *f = d->form;
    unsigned n = 0;

    if (insn->is_mem && insn->base < 16 && insn->index == X86_NO_REG && insn->segment != SEG_FS &&
        insn->segment != SEG_GS) {
        struct access *m = &a[n];

        *m = (struct access){insn->base, f->rm & JIT_WRITE, 0, insn->disp};
        switch (f->kind) {
        case JIT_PLAIN:
        case JIT_CMPXCHG:
        case JIT_ACC: m->size = (u16)jit_operand_bytes(insn, f->rm_size); break;
        case JIT_VECTOR: m->size = (u16)jit_vector_bytes(d); break;
        case JIT_BMI: m->size = (u16)jit_operand_bytes(insn, 'y'); break;
        case JIT_PUSH_MEM:
        case JIT_CALL_INDIRECT:
        case JIT_JMP_INDIRECT: m->size = 8; break;
        default: return 0;
        }
        n++;
    }
    switch (f->kind) {
    case JIT_PUSH:
    case JIT_PUSH_IMM:
    case JIT_PUSH_MEM:
    case JIT_PUSHF:
    case JIT_CALL:
    case JIT_CALL_INDIRECT: a[n++] = push; break;
    case JIT_POP:
    case JIT_RET: a[n++] = pop; break;
    case JIT_LEAVE: a[n++] = (struct access){RBP, false, 8, 0}; break;
    default: break;
    }
    return n;
}

/* The number of the general register that has an operand: AH is in RAX. */
static unsigned register_of(const struct x86_insn *insn, char letter, unsigned n)
{
    return letter == 'b' && n >= 4 && n < 8 && !(insn->prefixes & X86_PFX_REX) ? n - 4 : n;
}

enum jit_change jit_changes(const struct decoded *d, unsigned guest, i32 *by)
{
    const struct x86_insn *insn = &d->insn;
    const struct jit_form *f = d->form;
    bool rm = !insn->is_mem && register_of(insn, f->rm_size, insn->rm) == guest,
         reg = register_of(insn, f->reg_size, insn->reg) == guest, changes;

    switch (f->kind) {
    case JIT_NOP:
    case JIT_PREFETCH:
    case JIT_BARE:
    case JIT_DIRECTION:
    case JIT_VZERO:
    case JIT_CLI:
    case JIT_STI:
    case JIT_STAC:
    case JIT_SWAPGS:
    case JIT_STMXCSR:
    case JIT_CALL:
    case JIT_RET:
    case JIT_JMP:
    case JIT_JCC:
    case JIT_JCXZ:
    case JIT_JMP_INDIRECT:
    case JIT_CALL_INDIRECT: return JIT_KEEPS; /* those with a stack end the block */
    case JIT_PUSH:
    case JIT_PUSH_MEM:
    case JIT_PUSHF:
    case JIT_PUSH_IMM: *by = -8; return guest == RSP ? JIT_ADDS : JIT_KEEPS;
    case JIT_POP: *by = 8; return insn->rm == guest ? JIT_CHANGES : guest == RSP ? JIT_ADDS : JIT_KEEPS;
    case JIT_PLAIN: {
        unsigned digit = insn->modrm >> 3 & 7;

        /* ADD and SUB of an immediate: 83 /0, /5. */
        if (rm && insn->opcode == 0x83 && insn->operand_size == 8 && (digit == 0 || digit == 5)) {
            *by = digit == 0 ? (i32)insn->imm : -(i32)insn->imm;
            return JIT_ADDS;
        }
        changes = (rm && f->rm & JIT_WRITE) || (reg && f->reg & JIT_WRITE);
        break;
    }
    case JIT_LEA:
        *by = (i32)insn->disp;
        if (reg && insn->base == guest && insn->index == X86_NO_REG && insn->operand_size == 8)
            return JIT_ADDS;
        changes = insn->reg == guest;
        break;
    case JIT_ACC_IMM:
    case JIT_AH_FLAGS: changes = guest == RAX; break;
    case JIT_CMPXCHG: changes = guest == RAX || rm; break;
    case JIT_EXTEND:
    case JIT_CMPXCHG_PAIR:
    case JIT_RDPKRU:
    case JIT_ACC: changes = guest == RAX || guest == RDX; break;
    case JIT_MOV_IMM:
    case JIT_BSWAP: changes = insn->rm == guest; break;
    case JIT_MOV_IMM_BYTE: changes = register_of(insn, 'b', insn->rm) == guest; break;
    case JIT_MOFFS: changes = guest == RAX; break;
    case JIT_XCHG_ACC: changes = guest == RAX || insn->rm == guest; break;
    case JIT_LEAVE: changes = guest == RSP || guest == RBP; break;
    case JIT_VECTOR:
    case JIT_BMI:
        changes =
            (rm && !f->rm_vector && f->rm & JIT_WRITE) || (reg && !f->reg_vector && f->reg & JIT_WRITE) ||
            (insn->vvvv == guest && !f->third_vector && f->third & JIT_WRITE) || (guest == RCX && f->rcx);
        break;
    default: changes = true; break;
    }
    return changes ? JIT_CHANGES : JIT_KEEPS;
}

static jit_translator *const translators[] = {
    [JIT_PLAIN] = jit_plain,
    [JIT_ACC_IMM] = jit_acc_imm,
    [JIT_EXTEND] = jit_extend,
    [JIT_ACC] = jit_accumulator,
    [JIT_LEA] = jit_lea,
    [JIT_MOV_IMM] = jit_mov_imm,
    [JIT_BSWAP] = jit_bswap,
    [JIT_XCHG_ACC] = jit_xchg_acc,
    [JIT_NOP] = jit_nop,
    [JIT_PREFETCH] = jit_prefetch,
    [JIT_PUSH] = jit_push,
    [JIT_PUSH_IMM] = jit_push_imm,
    [JIT_POP] = jit_pop,
    [JIT_LEAVE] = jit_leave,
    [JIT_CALL] = jit_call,
    [JIT_RET] = jit_ret,
    [JIT_JMP] = jit_jmp,
    [JIT_JCC] = jit_jcc,
    [JIT_CALL_INDIRECT] = jit_call_indirect,
    [JIT_JMP_INDIRECT] = jit_jmp_indirect,
    [JIT_MOV_IMM_BYTE] = jit_mov_imm_byte,
    [JIT_PUSH_MEM] = jit_push_mem,
    [JIT_JCXZ] = jit_jcxz,
    [JIT_CMPXCHG] = jit_cmpxchg,
    [JIT_CMPXCHG_PAIR] = jit_cmpxchg_pair,
    [JIT_BARE] = jit_bare,
    [JIT_AH_FLAGS] = jit_ah_flags,
    [JIT_DIRECTION] = jit_direction,
    [JIT_VZERO] = jit_vzero,
    [JIT_CLI] = jit_cli,
    [JIT_STI] = jit_sti,
    [JIT_STAC] = jit_stac,
    [JIT_SWAPGS] = jit_swapgs,
    [JIT_RDPKRU] = jit_rdpkru,
    [JIT_STMXCSR] = jit_stmxcsr,
    [JIT_PUSHF] = jit_pushf,
    [JIT_STRING] = jit_string,
    [JIT_INC] = jit_inc,
    [JIT_MOFFS] = jit_moffs,
    [JIT_VECTOR] = jit_vector,
    [JIT_BMI] = jit_bmi,
};

/* ---- blocks ---- */

/* What the stubs for bails take in RAX. */
static u32 bail_code(unsigned cell, enum jit_exit why)
{
    return (u32)(offsetof(struct block, cells) + cell * sizeof(struct cell)) | why << JIT_BAIL_EXIT_SHIFT;
}

/* Leave to the handler of cell `n`. */
static void emit_bail(struct translation *t, unsigned n, enum jit_exit why, u16 vec_dirty, u16 vec_wide)
{
    const struct code_cache *code = t->j->code;
    u8 **tail = &t->bail_tail[n != 0];

    jit_store_vectors(t, vec_dirty, vec_wide, vec_wide);
    e_mov_imm(&t->e, JIT_T0, bail_code(n, why));
    if (*tail) {
        e_target(&t->e, e_jmp(&t->e), *tail);
        return;
    }
    *tail = t->e.p;
    e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
    e_target(&t->e, e_jmp(&t->e), code_rw(code, n ? code->stub.bail : code->stub.bail_first));
}

static void emit_call(struct translation *t, const void *stub)
{
    emit8(&t->e, 0xe8);
    emit32(&t->e, 0);
    e_target(&t->e, t->e.p - 4, code_rw(t->j->code, stub));
}

static void emit_handler_call(struct translation *t)
{
    jit_release_vectors(t);
    jit_forget_checks(t);
    t->held.fp_checked = false;
    jit_save_flags(t);
    e_mov_imm(&t->e, JIT_T0, t->cell);
    e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
    emit_call(t, t->j->code->stub.call);
    t->held.host_flags = false;
}

/* Whether the cell has the handler that its form stands for, and not one that raises, or that a debugger has put there. */
static bool ordinary(const struct cell *cell, interp_fn *fn, const struct x86_insn *insn)
{
    return fn != interp_op_ud && fn != interp_op_nm && fn != interp_op_leave && cell->op == insn->op;
}

static void decode_all(struct translation *t)
{
    struct x86_decode_mode mode = {t->b->mode & MODE_CODE_MASK, t->j->interp.amd};
    size_t room = PAGE_SIZE - t->b->offset, first = t->b->nbytes < room ? t->b->nbytes : room;

    memcpy(t->code, (const void *)(uintptr_t)(t->b->page + t->b->offset), first);
    if (first < t->b->nbytes)
        memcpy(t->code + first, (const void *)(uintptr_t)t->b->page2, t->b->nbytes - first);
    for (unsigned n = 0; n < t->b->ncells; n++) {
        const struct cell *cell = &t->b->cells[n];
        interp_fn *fn = n ? cell->fn : t->b->first_fn;
        struct decoded *d = &t->all[n];

        d->form = NULL;
        if (x86_decode(&mode, t->code + cell->start, t->b->nbytes - cell->start, &d->insn) == X86_DECODE_OK &&
            ordinary(cell, fn, &d->insn) && d->insn.length == cell->len &&
            (!d->insn.is_mem || d->insn.address_size == jit_width(t)) &&
            t->j->code->forms[d->insn.op].kind != JIT_NONE)
            d->form = &t->j->code->forms[d->insn.op];
    }
}

/* Returns whether the instruction ended the translation. */
static bool translate_cell(struct translation *t)
{
    const struct cell *cell = &t->b->cells[t->cell];
    struct decoded *d = &t->all[t->cell];
    bool last = t->cell + 1u == t->b->ncells;
    u32 ends = X86_OP_BRANCH | X86_OP_SERIALISE | X86_OP_REP;
    interp_fn *fn = t->cell ? cell->fn : t->b->first_fn;
    u8 *start = t->e.p;
    unsigned fixes = t->nfixes;
    struct held held = t->held;

    t->form = d->form;
    t->bytes = t->code + cell->start;
    t->unfit = false;
    if (d->form) {
        t->insn = d->insn;
        t->info = &x86_ops[t->insn.op];
        if (translators[t->form->kind](t) && !t->unfit) {
            jit_follow_checks(t, d);
            return t->info->attributes & ends;
        }
    }
    d->form = NULL; /* nobody shall look further ahead than here */
    t->e.p = start;
    t->nfixes = fixes;
    t->held = held;
    if (last && (x86_ops[cell->op].attributes & ends || fn == interp_op_ud || fn == interp_op_nm ||
                 fn == interp_op_leave)) {
        jit_save_flags(t);
        emit_bail(t, t->cell, JIT_EXIT_UNTRANSLATED, t->held.vec_dirty, t->held.vec_wide);
        return true;
    }
    t->handler_calls++;
    t->untranslated |= 1ull << t->cell;
    emit_handler_call(t);
    return false;
}

/* The stack's entry does not have the page: that by page, which it becomes a copy of. RAX is the linear address. Returns
   the place of the jump that is taken when that has not, either. */
static u8 *emit_copy_entry(struct translation *t, const struct fix *f)
{
    struct emit *e = &t->e;
    size_t tlb = jit_tlb_of(t, f->kind == FIX_WRITE);
    u8 *missed;

    e_store(e, VCPU(walk_lin), JIT_T0);
    missed = jit_look_up(t, f->size, f->kind == FIX_WRITE);
    e_store(e, op_gs(tlb + offsetof(struct jit_tlb, delta) + JIT_TLB_STACK * 8), JIT_T1);
    e_mov(e, JIT_T0, VCPU(walk_lin));
    e_alu_imm(e, true, ALU_AND, op_reg(JIT_T0), -(i32)PAGE_SIZE);
    e_store(e, op_gs(tlb + offsetof(struct jit_tlb, tag) + JIT_TLB_STACK * 8), JIT_T0);
    e_target(e, e_jmp(e), f->resume);
    return missed;
}

static void emit_refill(struct translation *t, const struct fix *f)
{
    const struct code_cache *code = t->j->code;
    struct emit *e = &t->e;
    enum jit_vectors kind = f->vec_wide ? JIT_WIDE_VECTORS : f->vec ? JIT_VECTORS : JIT_NO_VECTORS;
    size_t tags = jit_tlb_of(t, f->kind == FIX_WRITE) + offsetof(struct jit_tlb, tag);
    u8 *missed, *again = NULL, *copy = NULL;

    e_here(e, f->place);
    if (f->stack) {
        e_alu(e, true, ALU_ADD, JIT_T0, op_gs(tags + JIT_TLB_STACK * 8));
        copy = e->p;
        e_here(e, emit_copy_entry(t, f));
        e_mov(e, JIT_T0, VCPU(walk_lin));
    } else if (f->fixed) {
        e_mov_imm(e, JIT_T0, f->page + f->offset);
    } else {
        e_alu(e, true, ALU_ADD, JIT_T0, op_gs_index(JIT_T1, 3, tags));
    }
    for (unsigned walked = 0; walked < 2; walked++) {
        e_mov_imm(e, JIT_T1, f->size);
        emit_call(t, f->kind == FIX_READ ? code->stub.refill_read : code->stub.refill_write);
        missed = e_jcc(e, CC_E);
        if (f->stack)
            e_mov(e, JIT_T0, VCPU(walk_lin));
        else if (f->fixed)
            e_mov_imm(e, JIT_T0, f->page);
        e_target(e, e_jmp(e), f->stack ? copy : f->resume);
        e_here(e, missed);
        if (walked || f->masked)
            break;
        e_mov_imm(e, JIT_T0, f->size | (f->writes ? JIT_WALK_WRITES : 0));
        emit_call(t, code->stub.walk[kind]);
        again = e_jcc(e, CC_E);
    }
    if (again)
        e_here(e, again);
    if (!f->apart) {
        jit_store_vectors(t, f->vec_dirty, f->vec_wide, f->vec_wide);
        e_mov_imm(e, JIT_T1, (u64)(uintptr_t)t->b);
        emit_call(t, code->stub.missed);
        emit_bail(t, f->cell, JIT_EXIT_MEMORY, 0, 0);
    }
}

static void emit_find_target(struct translation *t, const struct fix *f)
{
    e_here(&t->e, f->place);
    emit_call(t, t->j->code->stub.find_target);
    e_target(&t->e, e_jcc(&t->e, CC_NE), f->resume);
}

static void emit_unlinked(struct translation *t, const struct fix *f)
{
    const struct code_cache *code = t->j->code;
    struct emit *e = &t->e;

    e_here(e, f->place);
    if (f->entry == ENTRY_FLAGS)
        jit_emit_save_flags(e);
    e_mov_imm(e, JIT_T0, jit_exit(code->rx + (f->place - code->rw), f->which, f->entry));
    e_mov_imm(e, JIT_T1, (u64)(uintptr_t)t->b);
    e_target(e, e_jmp(e), code_rw(code, code->stub.unlinked));
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
        switch (f->kind) {
        case FIX_UNLINKED: emit_unlinked(t, f); continue;
        case FIX_CHECK_PAGE:
            e_here(&t->e, f->place);
            e_mov_imm(&t->e, JIT_T1, (u64)(uintptr_t)t->b);
            e_target(&t->e, e_jmp(&t->e), code_rw(code, code->stub.check_page));
            continue;
        case FIX_READ:
        case FIX_WRITE:
            emit_refill(t, f);
            if (!f->apart)
                continue;
            f->place = e_jmp(&t->e);
            f->exit = JIT_EXIT_MEMORY;
            break;
        case FIX_TARGET:
            emit_find_target(t, f);
            f->place = e_jmp(&t->e);
            f->exit = JIT_EXIT_TARGET;
            break;
        default: break;
        }
        bail = &bails[f->cell][f->exit];
        if (*bail) {
            e_target(&t->e, f->place, *bail);
            continue;
        }
        *bail = t->e.p;
        e_here(&t->e, f->place);
        emit_bail(t, f->cell, (enum jit_exit)f->exit, f->vec_dirty, f->vec_wide);
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

/* The number of a page of a block, 0: no room. */
static u32 page_id(struct code_cache *code, u64 linear, u64 host)
{
    u64 h = (linear ^ host << 1) * 0x9e3779b97f4a7c15ull >> 40;
    struct jit_page *p;

    while (p = &code->pages[h++ % ARRAY_SIZE(code->pages)], p->id)
        if (p->linear == linear && p->host == host)
            return p->id;
    if (code->npages == ARRAY_SIZE(code->pages) * 3 / 4) {
        code->full = true;
        return 0;
    }
    code->npages++;
    *p = (struct jit_page){linear, host, ++code->last_page_id};
    return p->id;
}

unsigned jit_mode_number(struct code_cache *code, u32 mode)
{
    unsigned n = 0;

    while (n < code->nmodes && code->modes[n] != mode)
        n++;
    if (n == code->nmodes && n < JIT_MODES)
        code->modes[code->nmodes++] = mode;
    code->full |= n == JIT_MODES;
    return n;
}

/* 64-bit code, or 32-bit code with flat segments. While alignment is checked, the cells do it. */
static bool fit_mode(const struct block *b)
{
    enum { FLAT32 = MODE_CODE32 | MODE_STACK32 | MODE_FLAT };

    if ((b->mode & (MODE_USER | MODE_AC)) == (MODE_USER | MODE_AC))
        return false;
    if ((b->mode & MODE_CODE_MASK) == MODE_CODE64)
        return true;
    return (b->mode & (FLAT32 | MODE_CODE_MASK | MODE_REAL)) == FLAT32 && !b->cs_base &&
           b->cs_limit == UINT32_MAX && b->rip + b->nbytes <= UINT32_MAX;
}

enum { ENTRY_ALIGN = 16 };

/* The whole block, its hot part at `start` and its cold one at `cold`. */
static void translate_block(struct translation *t, u8 *start, u8 *cold)
{
    struct code_cache *code = t->j->code;
    struct emit hot;
    bool ended = false;
    u8 *unmapped;

    t->e = (struct emit){start, code->rw + code->size / 2, false};
    t->cold = (struct emit){cold, code->rw + code->size, false};
    t->held = (struct held){
        .mem_flags = !t->flags_first, .host_flags = t->flags_first, .entry_flags = t->flags_first};
    t->failed = false;
    t->handler_calls = t->nfixes = t->cell = 0;
    t->untranslated = 0;
    t->bail_tail[0] = t->bail_tail[1] = NULL;
    unmapped = jit_emit_entries(&t->e, &t->cold, code, t->b, t->flags_first, &(struct jit_layout){0});
    jit_add_fix(t, FIX_CHECK_PAGE, unmapped, (struct fix){0});
    if (t->b->page2 != BLOCK_NO_PAGE)
        jit_add_fix(t, FIX_CHECK_PAGE, jit_emit_page_check(&t->e, t->b, 1), (struct fix){0});
    for (; t->cell < t->b->ncells && !ended; t->cell++) {
        t->cell_at[t->cell] = t->e.p;
        ended = translate_cell(t);
    }
    t->cell_at[t->cell] = t->e.p;
    if (!ended) {
        t->cell--; /* the exit is the last instruction's */
        jit_fall(t);
        t->cell++;
    }
    hot = t->e;
    t->e = t->cold;
    t->bail_tail[0] = t->bail_tail[1] = NULL; /* those of the hot part are executed there */
    emit_fixes(t);
    t->cold = t->e;
    t->e = hot;
}

static void list_by_rip(struct code_cache *code, struct block *b)
{
    struct block **list = &code->by_rip[jit_rip_hash(b->rip)], **at = list, *other;

    while ((other = *at)) {
        if (other == b) /* from an earlier translation */
            return;
        if (other->tier_code)
            at = &other->tier_next;
        else
            *at =
                other->tier_next; /* dead: code that is rewritten again and again would make the list long */
    }
    b->tier_next = *list;
    *list = b;
}

static bool translate(struct jit_vcpu *j, struct block *b)
{
    struct code_cache *code = j->code;
    struct translation t;
    size_t body = code->layout.body,
           start = ((code->used + body + ENTRY_ALIGN - 1) & ~(size_t)(ENTRY_ALIGN - 1)) - body;
    u8 *hot, *cold = code->rw + code->cold_used;
    u64 page = b->rip & PAGE_MASK;
    unsigned mode;

    if (!fit_mode(b))
        return reject(j, b, JIT_REJECT_MODE, 0);
    if (b->page == BLOCK_NO_PAGE)
        return reject(j, b, JIT_REJECT_PAGE, 0);
    hot = code->rw + (start < code->size / 2 ? start : code->size / 2);
    mode = jit_mode_number(code, b->mode);
    b->tier_page[0] = page_id(code, page, b->page);
    b->tier_page[1] = b->page2 == BLOCK_NO_PAGE ? 0 : page_id(code, page + PAGE_SIZE, b->page2);
    if (code->full)
        return reject(j, b, JIT_REJECT_ROOM, 0);
    b->tier_mode = (u8)mode;
    t.j = j;
    t.b = b;
    decode_all(&t);
    t.flags_first = !code->counts && b->page2 == BLOCK_NO_PAGE && writes_flags_first(&t);
    translate_block(&t, hot, cold);
    if (t.failed && t.flags_first) {
        t.flags_first = false;
        decode_all(&t);
        translate_block(&t, hot, cold);
    }
    code->full |= t.e.full || t.cold.full;
    if (code->full)
        return reject(j, b, JIT_REJECT_ROOM, 0);
    if (t.failed)
        return reject(j, b, JIT_REJECT_SIZE, 0);
    if (t.handler_calls * 4u > b->ncells)
        return reject(j, b, JIT_REJECT_HANDLERS, t.untranslated);
    b->tier_code = code->rx + (hot - code->rw);
    b->tier_cold = code->rx + (cold - code->rw);
    b->tier_flags = t.flags_first;
    b->tier_links = 0;
    list_by_rip(code, b);
    j->stats.blocks++;
    j->stats.guest_bytes += b->nbytes;
    j->stats.host_bytes += (size_t)(t.e.p - hot) + (size_t)(t.cold.p - cold);
    code->used = (size_t)(t.e.p - code->rw);
    code->cold_used = (size_t)(t.cold.p - code->rw);
    if (code->perf) {
        perf_map_block(code->perf, b, b->tier_code, (size_t)(t.e.p - hot));
        perf_map_block(code->perf, b, b->tier_cold, (size_t)(t.cold.p - cold));
    }
    if (j->interp.vcpu->vm->trace)
        jit_trace(&t, hot, cold);
    return true;
}

bool jit_translate(struct jit_vcpu *j, struct block *b)
{
    u64 begin = jit_stats_now();
    bool translated = translate(j, b);

    j->stats.nanoseconds += jit_stats_now() - begin;
    return translated;
}
