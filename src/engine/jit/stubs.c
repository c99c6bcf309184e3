/*
 * Code that all translations share. It is emitted once for each code cache, at its start, so that translations reach it by
 * direct jumps, and so that the map of registers stands in one place (jit.h).
 */
#include <stddef.h>

#include "engine/jit/emit.h"
#include "engine/jit/jit.h"

#define VCPU(field)   op_gs(offsetof(struct jit_vcpu, field))
#define INTERP(field) op_gs(offsetof(struct jit_vcpu, interp.field))

static const u8 callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static struct operand guest_memory(unsigned reg)
{
    return op_gs(offsetof(struct jit_vcpu, guest_r9_r11) + (reg - R9) * 8);
}
static struct operand gpr(unsigned base, unsigned reg)
{
    return op_mem(base, (i32)(offsetof(struct vcpu_state, gpr) + reg * 8));
}

/* All guest registers from the vcpu_state at RAX; R15 is clobbered. */
static void load_guest(struct emit *e)
{
    for (unsigned n = 0; n < 16; n++) {
        if (jit_host[n] != JIT_IN_MEMORY) {
            e_mov(e, jit_host[n], gpr(JIT_T0, n));
        } else {
            e_mov(e, JIT_T1, gpr(JIT_T0, n));
            e_store(e, guest_memory(n), JIT_T1);
        }
    }
}
/* All guest registers to interp.state, whose address is in RAX then; R15 is kept. */
static void store_guest(struct emit *e)
{
    e_mov(e, JIT_T0, INTERP(state));
    for (unsigned n = 0; n < 16; n++)
        if (jit_host[n] != JIT_IN_MEMORY)
            e_store(e, gpr(JIT_T0, n), jit_host[n]);
    for (unsigned n = 0; n < 16; n++)
        if (jit_host[n] == JIT_IN_MEMORY) {
            e_mov(e, H_RCX, guest_memory(n));
            e_store(e, gpr(JIT_T0, n), H_RCX);
        }
}

static void prologue(struct emit *e)
{
    for (size_t n = 0; n < sizeof(callee_saved); n++)
        e_push(e, callee_saved[n]);
    e_alu_imm(e, true, ALU_SUB, op_reg(H_RSP), 8);
}
static void epilogue(struct emit *e)
{
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    for (size_t n = sizeof(callee_saved); n--;)
        e_pop(e, callee_saved[n]);
}

static void call_c(struct emit *e, const void *function)
{
    e_mov_imm(e, H_RAX, (u64)(uintptr_t)function);
    e_call_indirect(e, op_reg(H_RAX));
}

void jit_emit_save_flags(struct emit *e)
{
    static const u8 get[] = {0x9f, 0x0f, 0x90, 0xc0}, opcode = 0x89, prefix = 0x66; /* LAHF; SETO AL */

    emit_bytes(e, get, sizeof(get));
    emit_modrm(e, &prefix, 1, false, false, &opcode, 1, H_RAX, INTERP(flags));
}

u8 *jit_emit_page_check(struct emit *e, const struct block *b, unsigned n)
{
    bool user = b->mode & MODE_USER;

    emit_op(e, false, 0x81, ALU_CMP,
            op_gs(offsetof(struct jit_vcpu, page_id) +
                  (user * 256u + jit_code_slot(b->rip + n * PAGE_SIZE)) * 4));
    emit32(e, b->tier_page[n]);
    return e_jcc(e, CC_NE);
}

u8 *jit_emit_entries(struct emit *e, struct emit *cold, const struct code_cache *code, const struct block *b,
                     bool flags_first, struct jit_layout *layout)
{
    static const u8 nop5[FLAGS_ENTRY] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    u8 *start = e->p, *cold_start = cold->p, *leave, *unmapped, *to_body;

    layout->flags = 0;
    jit_emit_save_flags(cold);
    to_body = e_jmp(cold);
    layout->leave_flags = (u8)(cold->p - cold_start);
    jit_emit_save_flags(cold);
    layout->leave = (u8)(cold->p - cold_start);
    leave = cold->p;
    e_mov_imm64(cold, JIT_T1, (u64)(uintptr_t)b);
    e_target(cold, e_jmp(cold), code_rw(code, code->stub.leave));

    layout->checked = 0;
    unmapped = jit_emit_page_check(e, b, 0);
    layout->poll = (u8)(e->p - start);
    if (code->counts) {
        emit_op(e, true, 0x81, ALU_CMP, INTERP(left));
        emit32(e, b->ncells);
        e_target(e, e_jcc(e, CC_L), leave);
    }
    e_mov(e, JIT_T0, INTERP(kick));
    e_mov32(e, JIT_T0, op_mem(JIT_T0, 0));
    emit_op(e, false, 0x85, JIT_T0, INTERP(kick_mask));
    e_target(e, e_jcc(e, CC_NE), leave);
    layout->body = (u8)(e->p - start);
    e_target(cold, to_body, e->p);
    if (flags_first)
        emit_bytes(e, nop5, sizeof(nop5));
    return unmapped;
}

/* void enter(state, interp, cell): the translation of interp.block. */
static void make_enter(struct emit *e, const struct code_cache *code)
{
    prologue(e);
    e_mov(e, H_RAX, INTERP(block));
    e_mov(e, H_RSI, op_mem(H_RAX, offsetof(struct block, tier_code)));
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSI), code->layout.body);
    e_store(e, VCPU(scratch), H_RSI);
    e_mov_rr(e, H_RAX, H_RDI);
    load_guest(e);
    e_jmp_indirect(e, VCPU(scratch));
}

/* Count in the table of u64 at `offset` in struct jit_vcpu; element in `index`. */
static void count(struct emit *e, size_t offset, unsigned index)
{
    e_alu_imm(e, true, ALU_ADD, op_gs_index(index, 3, offset), 1);
}

/* RAX: offset of a cell in the block at R15, and why (JIT_BAIL_EXIT_SHIFT). The cell's handler goes on; of the first cell
   the block's own. */
static void make_bail(struct emit *e, bool first)
{
    static const u8 movzx[] = {0x0f, 0xb7};

    e_store(e, VCPU(scratch), JIT_T0);
    e_store(e, INTERP(block), JIT_T1);
    store_guest(e);
    e_mov_rr(e, H_RDI, H_RAX);
    e_mov(e, H_RCX, VCPU(scratch));
    emit_modrm(e, NULL, 0, false, false, movzx, 2, H_RDX, op_reg(H_RCX));
    e_alu(e, true, ALU_ADD, H_RDX, op_reg(JIT_T1));
    e_mov(e, H_RSI, VCPU(self));
    e_shr_imm(e, true, H_RCX, JIT_BAIL_EXIT_SHIFT);
    count(e, offsetof(struct jit_vcpu, stats.exits), H_RCX);
    emit_modrm(e, NULL, 0, false, false, movzx, 2, H_RCX, op_mem(H_RDX, offsetof(struct cell, op)));
    count(e, offsetof(struct jit_vcpu, stats.exits_at), H_RCX);
    if (first) {
        e_mov(e, H_RAX, INTERP(block));
        e_mov(e, H_RAX, op_mem(H_RAX, offsetof(struct block, first_fn)));
    } else {
        e_mov(e, H_RAX, op_mem(H_RDX, offsetof(struct cell, fn)));
    }
    epilogue(e);
    e_jmp_indirect(e, op_reg(H_RAX));
}

/* To the loop, before the first instruction of the block at R15. */
static void make_leave(struct emit *e, bool for_page)
{
    static const u8 movzx[] = {0x0f, 0xb7};
    u8 *dead, *short_budget;

    e_store(e, INTERP(block), JIT_T1);
    store_guest(e);
    e_mov(e, H_RCX, op_mem(JIT_T1, offsetof(struct block, rip)));
    e_store(e, op_mem(JIT_T0, offsetof(struct vcpu_state, rip)), H_RCX);
    e_mov_imm(e, H_RCX, JIT_EXIT_DEAD);
    e_alu_imm(e, false, ALU_CMP, op_mem(JIT_T1, offsetof(struct block, mode)), (i32)BLOCK_DEAD);
    dead = e_jcc(e, CC_E);
    e_mov_imm(e, H_RCX, JIT_EXIT_BUDGET);
    emit_modrm(e, NULL, 0, false, false, movzx, 2, H_RDX, op_mem(JIT_T1, offsetof(struct block, ncells)));
    e_alu(e, true, ALU_CMP, H_RDX, INTERP(left));
    short_budget = e_jcc(e, CC_G);
    e_mov_imm(e, H_RCX, for_page ? JIT_EXIT_PAGE : JIT_EXIT_KICK);
    e_here(e, dead);
    e_here(e, short_budget);
    count(e, offsetof(struct jit_vcpu, stats.exits), H_RCX);
    epilogue(e);
    e_ret(e);
}

/* CALLed with a number of a cell in RAX and its block in R15: its handler. Returns, or leaves to the loop. */
static void make_call(struct emit *e)
{
    u8 *again;

    e_store(e, VCPU(scratch), JIT_T0);
    store_guest(e);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T1);
    e_mov(e, H_RDX, VCPU(scratch));
    e_alu_imm(e, true, ALU_SUB, op_reg(H_RSP), 8);
    call_c(e, (const void *)jit_call_handler);
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    emit_op(e, false, 0x84, H_RAX, op_reg(H_RAX));
    again = e_jcc(e, CC_NE);
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    epilogue(e);
    e_ret(e);
    e_here(e, again);
    e_mov(e, JIT_T0, INTERP(state));
    load_guest(e);
    e_ret(e);
}

/* What a C function may destroy. */
static const u8 caller_saved[] = {H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11};
static void push_caller_saved(struct emit *e)
{
    for (size_t n = 0; n < sizeof(caller_saved); n++)
        e_push(e, caller_saved[n]);
}
static void pop_caller_saved(struct emit *e)
{
    for (size_t n = sizeof(caller_saved); n--;)
        e_pop(e, caller_saved[n]);
}

/* CALLed with a linear address in RAX and a size in R15: the page's delta in R15; ZF is set when the access cannot be made
   directly. RAX is clobbered, all else is kept. */
static void make_refill(struct emit *e, const void *function)
{
    push_caller_saved(e);
    e_alu_imm(e, true, ALU_SUB, op_reg(H_RSP), 8);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T0);
    e_mov_rr(e, H_RDX, JIT_T1);
    call_c(e, function);
    e_mov_rr(e, JIT_T1, H_RDX);
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    pop_caller_saved(e);
    emit_op(e, true, 0x85, JIT_T0, op_reg(JIT_T0));
    e_ret(e);
}

/* CALLed after a refill that found nothing, with a size (and JIT_WALK_WRITES) in RAX: ZF is clear if it is worth trying
   again, and RAX is the linear address then. R15 is clobbered. Guest vectors in the host's registers, of 16 or 32 bytes, are
   put aside. */
static void move_vectors(struct emit *e, enum jit_vectors kind, bool store)
{
    for (unsigned n = 0; n < 16 && kind != JIT_NO_VECTORS; n++)
        e_movups(e, n, kind == JIT_WIDE_VECTORS, store, op_gs(offsetof(struct jit_vcpu, vectors) + n * 32));
}
static void make_walk(struct emit *e, enum jit_vectors kind)
{
    push_caller_saved(e);
    e_alu_imm(e, true, ALU_SUB, op_reg(H_RSP), 8);
    move_vectors(e, kind, true);
    if (kind == JIT_WIDE_VECTORS)
        e_vzeroupper(e);
    e_mov(e, H_RDI, VCPU(self));
    e_mov(e, H_RSI, VCPU(walk_lin));
    e_mov_rr(e, H_RDX, JIT_T0);
    call_c(e, (const void *)jit_walk);
    move_vectors(e, kind, false);
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    pop_caller_saved(e);
    emit_op(e, false, 0x84, JIT_T0, op_reg(JIT_T0));
    e_mov(e, JIT_T0, VCPU(walk_lin));
    e_ret(e);
}

/* CALLed with a RIP in RAX, which is kept: ZF is clear if the table of targets has it now. R15 is clobbered. */
static void make_find_target(struct emit *e)
{
    push_caller_saved(e);
    e_push(e, JIT_T0);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T0);
    call_c(e, (const void *)jit_find_target);
    emit_op(e, false, 0x84, JIT_T0, op_reg(JIT_T0));
    e_pop(e, JIT_T0);
    pop_caller_saved(e);
    e_ret(e);
}

/* CALLed with a block in R15, one of whose checks has failed. RAX is clobbered. */
static void make_missed(struct emit *e)
{
    push_caller_saved(e);
    e_alu_imm(e, true, ALU_SUB, op_reg(H_RSP), 8);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T1);
    call_c(e, (const void *)jit_missed);
    e_alu_imm(e, true, ALU_ADD, op_reg(H_RSP), 8);
    pop_caller_saved(e);
    e_ret(e);
}

/* Of an exit that has no target yet. R15: block, RAX: the exit. Goes on where there is one now, or to the loop. */
static void make_unlinked(struct emit *e)
{
    u8 *none;

    push_caller_saved(e);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T1);
    e_mov_rr(e, H_RDX, JIT_T0);
    call_c(e, (const void *)jit_unlinked);
    pop_caller_saved(e);
    emit_op(e, true, 0x85, JIT_T0, op_reg(JIT_T0));
    none = e_jcc(e, CC_E);
    e_jmp_indirect(e, op_reg(JIT_T0));
    e_here(e, none);
    store_guest(e);
    epilogue(e);
    e_ret(e);
}

/* The page of the block at R15 is not known to be where it was. */
static void make_check_page(struct emit *e, const struct code_cache *code)
{
    push_caller_saved(e);
    e_mov(e, H_RDI, VCPU(self));
    e_mov_rr(e, H_RSI, JIT_T1);
    call_c(e, (const void *)jit_check_page);
    pop_caller_saved(e);
    emit_op(e, false, 0x84, JIT_T0, op_reg(JIT_T0));
    e_target(e, e_jcc(e, CC_E), code_rw(code, code->stub.leave_page));
    e_mov(e, JIT_T0, op_mem(JIT_T1, offsetof(struct block, tier_code)));
    e_alu_imm(e, true, ALU_ADD, op_reg(JIT_T0), code->layout.poll);
    e_jmp_indirect(e, op_reg(JIT_T0));
}

void jit_make_stubs(struct code_cache *code)
{
    struct emit e = {code->rw, code->rw + code->size, false};
    u8 room[2][256];

    code->stub.leave = code->rx; /* for the distances only */
    /* Entries have the same lengths wherever they lie. */
    jit_emit_entries(&(struct emit){room[0], room[0] + sizeof(room[0]), false},
                     &(struct emit){room[1], room[1] + sizeof(room[1]), false}, code, &(struct block){0},
                     false, &code->layout);
#define STUB(name, make)                                                                                     \
    do {                                                                                                     \
        code->stub.name = code->rx + (e.p - code->rw);                                                       \
        make;                                                                                                \
    } while (0)
    STUB(enter, make_enter(&e, code));
    STUB(bail, make_bail(&e, false));
    STUB(bail_first, make_bail(&e, true));
    STUB(leave, make_leave(&e, false));
    STUB(leave_page, make_leave(&e, true));
    STUB(call, make_call(&e));
    STUB(refill_read, make_refill(&e, (const void *)jit_refill_read));
    STUB(refill_write, make_refill(&e, (const void *)jit_refill_write));
    for (unsigned n = JIT_NO_VECTORS; n <= JIT_WIDE_VECTORS; n++)
        STUB(walk[n], make_walk(&e, n));
    STUB(missed, make_missed(&e));
    STUB(unlinked, make_unlinked(&e));
    STUB(check_page, make_check_page(&e, code));
    STUB(find_target, make_find_target(&e));
#undef STUB
    code->used = code->stubs_end = (size_t)(e.p - code->rw);
}
