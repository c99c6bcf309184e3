/*
 * A translation under way: what translate.c and vector.c share.
 */
#ifndef ENGINE_JIT_TRANSLATE_H
#define ENGINE_JIT_TRANSLATE_H

#include <stddef.h>

#include "engine/jit/emit.h"
#include "engine/jit/jit.h"

#define VCPU(field)   op_gs(offsetof(struct jit_vcpu, field))
#define INTERP(field) op_gs(offsetof(struct jit_vcpu, interp.field))

/* A place where the fast path goes to code behind the block. */
enum fix_kind {
    FIX_BAIL, /* go on with the handler of `cell` */
    FIX_READ, /* an address is not in the TLB for loads: look further, resume or bail */
    FIX_WRITE,
    FIX_STACK_READ,
    FIX_STACK_WRITE,
    FIX_UNLINKED, /* an exit without a target yet */
};
struct fix {
    u8 kind;
    u8 cell;
    u8 exit;     /* FIX_BAIL: enum jit_exit */
    u8 size;     /* of the access */
    u8 which;    /* FIX_UNLINKED: link[which] */
    bool pushed; /* FIX_UNLINKED: the return address was pushed; it will be pushed again */
    u16 vec_dirty, vec_wide;
    u8 *place, *resume, *behind; /* behind: its code */
};
enum { MAX_FIXES = BLOCK_MAX_CELLS * 6 };

/* What the translator knows at a place in the code. */
struct held {
    bool host_flags, mem_flags; /* the guest's arithmetic flags are in the host's, in interp.flags */
    /* Guest vector register n is held in the host's n: its low 16 bytes, or 32 (`wide`); `dirty` is to be stored. */
    u16 vec, vec_wide, vec_dirty;
    bool fp_checked; /* no SSE exception is unmasked */
};

struct translation {
    struct emit e;
    struct jit_vcpu *j;
    struct block *b;
    unsigned cell;
    struct x86_insn insn;
    const struct x86_op_info *info;
    const struct jit_form *form;
    u8 code[256]; /* of the block: another vCPU may be writing it, so it is read once */
    const u8 *bytes;
    struct held held;
    bool failed;
    unsigned handler_calls, nfixes;
    u64 untranslated;                 /* by cell: its handler is called */
    u8 *cell_at[BLOCK_MAX_CELLS + 1]; /* where the code of each cell begins */
    struct fix fixes[MAX_FIXES];
};

/* ---- trace.c ---- */

/* Tell who wants to see translations. `start`: of the code, with what is before the entry. */
void jit_trace(const struct translation *t, const u8 *start);

/* ---- translate.c ---- */

static inline bool in_memory(unsigned guest)
{
    return jit_host[guest] == JIT_IN_MEMORY;
}
/* The host register that holds a guest register, loaded into `scratch` if it is kept in memory; and the way back after a
   write to it. */
unsigned jit_get_guest(struct translation *t, unsigned guest, unsigned scratch);
void jit_put_guest(struct translation *t, unsigned guest, unsigned host);

/* Something follows that destroys the host's flags, or may leave the block. RAX is clobbered. */
void jit_clobber_flags(struct translation *t);
/* The host's flags are the guest's. RAX is clobbered. */
void jit_need_host_flags(struct translation *t);
/* Whether the instruction reads flags, or leaves some as they are; and that it has written what it writes. */
bool jit_flags_needed(const struct translation *t);
void jit_flags_written(struct translation *t);

/* The memory operand of `size` bytes to [R15 + RAX], or to [R15], which leaves RAX free. Flags are clobbered. The cell takes
   over where `check` does not hold: aligned to its size, inside one cache line. */
enum jit_place_check { JIT_ANY_PLACE, JIT_ALIGNED, JIT_ONE_LINE };
struct operand jit_memory_operand(struct translation *t, unsigned size, bool write,
                                  enum jit_place_check check);
struct operand jit_memory_operand_single(struct translation *t, unsigned size, bool write,
                                         enum jit_place_check check);
/* The handler of this cell takes over when the condition holds. */
void jit_bail_if(struct translation *t, unsigned cc);
unsigned jit_operand_bytes(const struct translation *t, char letter);

/* An instruction taken apart: what stays of it on the host. */
struct raw {
    u8 prefixes[4], nprefixes; /* 66, F2, F3, LOCK */
    u8 opcode[3], nopcode;
    bool rex, w;
    u8 map, pp, l; /* VEX */
    const u8 *imm;
    unsigned nimm;
};
bool jit_take_apart(const struct translation *t, struct raw *r);

/* Linear address of the memory operand to RAX; and from there to [R15], as jit_memory_operand_single does it. */
void jit_linear_address(struct translation *t);
struct operand jit_place_single(struct translation *t, unsigned size, bool write, enum jit_place_check check);

/* ---- bytes.c ---- */

/* Whether a register operand of this notation is AH, CH, DH or BH. */
bool jit_is_high_byte(const struct translation *t, char letter, unsigned n);
/* JIT_PLAIN with such an operand. */
bool jit_high_byte(struct translation *t, enum jit_place_check check);
bool jit_mov_imm_byte(struct translation *t);

/* ---- atomic.c ---- */

bool jit_cmpxchg(struct translation *t);
bool jit_cmpxchg_pair(struct translation *t);
/* BT, BTS, BTR, BTC of memory by a register. */
bool jit_bit_string(struct translation *t);

/* ---- rflags.c ---- */

bool jit_bare(struct translation *t);
bool jit_ah_flags(struct translation *t);
bool jit_direction(struct translation *t);

/* ---- vector.c ---- */

bool jit_vector(struct translation *t);
bool jit_bmi(struct translation *t);
bool jit_vzero(struct translation *t);
/* Store what is changed of the vector registers that are held in host registers, as they were when `dirty` and `wide` were
   taken from the translation. R15 is clobbered, flags are kept. */
void jit_store_vectors(struct translation *t, u16 dirty, u16 wide, bool used_wide);
/* The same for now, and none is held from here on. */
void jit_release_vectors(struct translation *t);

#endif
