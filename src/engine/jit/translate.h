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

/* The offset part of a memory operand in guest registers, and the segment whose base is added. */
struct address {
    u8 base, index, scale; /* X86_NO_REG: none */
    u8 seg;                /* SEG_FS, SEG_GS, or any other: base 0 */
    i64 disp;              /* without base and index: the linear address */
};

/* A place where the fast path goes to code behind the block. */
enum fix_kind {
    FIX_BAIL,       /* go on with the handler of `cell` */
    FIX_READ,       /* an address is not in the TLB for loads: look further, resume or bail */
    FIX_WRITE,      /* for stores */
    FIX_TARGET,     /* a RIP is not in the table of targets: look further, resume or bail */
    FIX_UNLINKED,   /* an exit without a target yet */
    FIX_CHECK_PAGE, /* the page may not be mapped here any more */
};
struct fix {
    u8 kind;
    u8 cell;
    u8 exit;     /* FIX_BAIL: enum jit_exit */
    u16 size;    /* of the access */
    bool stack;  /* it was looked for in the stack's entry */
    bool apart;  /* the access is of one instruction alone */
    bool writes; /* and it is a store, whatever it was checked for */
    bool masked; /* and may be none at all */
    bool fixed;  /* its linear address is known: it is `page` + `offset`, and RAX keeps the page */
    u16 offset;
    u64 page;
    u8 which, entry; /* FIX_UNLINKED */
    u16 vec, vec_dirty, vec_wide;
    u8 *place, *resume, *behind; /* behind: its code */
};
enum { MAX_FIXES = BLOCK_MAX_CELLS * 6 };

/* Bytes off a register that are known to lie in one page that may be read, or read and written, directly. */
struct checked {
    bool valid, write;
    u8 base;    /* guest register */
    i32 lo, hi; /* relative to the register's value when its `shift` was 0 */
};
enum { MAX_CHECKED = ARRAY_SIZE(((struct jit_vcpu *)0)->checked) };

/* What the translator knows at a place in the code. */
struct held {
    bool host_flags, mem_flags; /* the guest's arithmetic flags are in the host's, in interp.flags */
    bool entry_flags; /* nothing has touched them since the block's entry: they are in the host's alone */
    /* Guest vector register n is held in the host's n: its low 16 bytes, or 32 (`wide`); `dirty` is to be stored. */
    u16 vec, vec_wide, vec_dirty;
    bool fp_checked;                     /* no SSE exception is unmasked */
    struct checked checked[MAX_CHECKED]; /* the delta of checked[n] is in jit_vcpu.checked[n] */
    u8 next_checked;                     /* which of them goes next */
    i32 shift
        [16]; /* what was added to a register since the block's start, or since it was last set to something else */
};

struct translation {
    struct emit e;
    struct emit cold; /* what is rarely executed */
    struct jit_vcpu *j;
    struct block *b;
    unsigned cell;
    /* All instructions of the block; `form` is NULL where there is no translation. */
    struct decoded {
        struct x86_insn insn;
        const struct jit_form *form;
    } all[BLOCK_MAX_CELLS];
    /* The one under way. */
    struct x86_insn insn;
    const struct x86_op_info *info;
    const struct jit_form *form;
    u8 code[256]; /* of the block: another vCPU may be writing it, so it is read once */
    const u8 *bytes;
    struct held held;
    bool failed;
    bool unfit;       /* the instruction under way cannot be translated after all */
    bool flags_first; /* the block begins by writing all flags, before anything that could leave it */
    unsigned handler_calls, nfixes;
    u8 *bail_tail[2];                 /* ends of bails from the first cell, from others */
    u64 untranslated;                 /* by cell: its handler is called */
    u8 *cell_at[BLOCK_MAX_CELLS + 1]; /* where the code of each cell begins */
    struct fix fixes[MAX_FIXES];
};

/* ---- trace.c ---- */

/* Tell who wants to see translations. `hot`, `cold`: where its parts begin. */
void jit_trace(const struct translation *t, const u8 *hot, const u8 *cold);

/* ---- translate.c ---- */

static inline bool in_memory(unsigned guest)
{
    return jit_host[guest] == JIT_IN_MEMORY;
}
/* 32-bit code in flat segments. Everything is of 4 bytes where it would be of 8: addresses, which wrap, stack slots, the
   targets of branches. */
static inline bool jit_code32(const struct translation *t)
{
    return (t->b->mode & MODE_CODE_MASK) == MODE_CODE32;
}
static inline unsigned jit_width(const struct translation *t)
{
    return jit_code32(t) ? 4 : 8;
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

/* The handler of this cell takes over when the condition holds. */
void jit_bail_if(struct translation *t, unsigned cc);
/* Something behind the block for the jump at `place`. */
void jit_add_fix(struct translation *t, enum fix_kind kind, u8 *place, struct fix f);
void jit_save_flags(struct translation *t);
/* The address of the vcpu_state to R15. */
static inline void jit_load_state(struct translation *t)
{
    e_mov(&t->e, JIT_T1, INTERP(state));
}
/* The operand of a guest register that is kept in memory. */
struct operand jit_memory_register(unsigned guest);

/* Bytes of an operand, by the letter of its notation. */
unsigned jit_operand_bytes(const struct x86_insn *insn, char letter);

/* What the instruction of a row does to a general register. `by`: the constant that is added. */
enum jit_change { JIT_KEEPS, JIT_ADDS, JIT_CHANGES };
enum jit_change jit_changes(const struct decoded *d, unsigned guest, i32 *by);
/* The accesses of an instruction to memory off a general register alone. Returns how many (up to 2). */
struct access {
    u8 base;
    bool write;
    u16 size;
    i64 disp;
};
unsigned jit_accesses(const struct decoded *d, struct access a[2]);

/* ---- address.c ---- */

/* Where the TLB for accesses of the block lies in struct jit_vcpu. */
size_t jit_tlb_of(const struct translation *t, bool write);
/* The delta of the page of the linear address in RAX to R15, for `size` bytes in it. RAX is clobbered. Returns the place of the
   jump that is taken when the page is not there. */
u8 *jit_look_up(struct translation *t, unsigned size, bool write);
/* The offset part of the memory operand to `to`, flags are kept; both scratch registers may be used. */
void jit_effective_address(struct translation *t, unsigned to, bool w);
/* The memory operand of `size` bytes for a host instruction. It is made of R15, RAX and a guest's register; or without RAX,
   which then is free (`single`). Flags are clobbered, unless an access before has checked the page. The cell takes over where
   `check` does not hold: aligned to its size, inside one cache line. */
enum jit_place_check { JIT_ANY_PLACE, JIT_ALIGNED, JIT_ONE_LINE };
struct operand jit_memory_operand(struct translation *t, unsigned size, bool write,
                                  enum jit_place_check check);
struct operand jit_memory_operand_single(struct translation *t, unsigned size, bool write,
                                         enum jit_place_check check);
/* The same, as [R15]. */
struct operand jit_memory_place(struct translation *t, unsigned size, bool write, enum jit_place_check check);
/* Linear address of the memory operand to RAX; and from an address there to [R15]. Flags are clobbered. */
void jit_linear_address(struct translation *t);
struct operand jit_place(struct translation *t, unsigned size, bool write, enum jit_place_check check);
/* One byte of the memory operand, to be prefetched. *skip: the place of a jump that is taken when it is not in the TLB. */
struct operand jit_hint_operand(struct translation *t, u8 **skip);
/* The same for [guest register + disp], without RAX. */
struct operand jit_based_operand(struct translation *t, unsigned base, i32 disp, unsigned size, bool write);
/* What was checked does not hold any more; and what is left of it after an instruction. */
void jit_forget_checks(struct translation *t);
void jit_follow_checks(struct translation *t, const struct decoded *d);

/* ---- integer.c, branch.c: a function for each kind of form ---- */

typedef bool jit_translator(struct translation *t);
jit_translator jit_plain, jit_acc_imm, jit_extend, jit_accumulator, jit_lea, jit_mov_imm, jit_bswap,
    jit_xchg_acc, jit_inc, jit_moffs, jit_nop, jit_prefetch;
jit_translator jit_push, jit_push_mem, jit_push_imm, jit_jcxz, jit_pop, jit_leave, jit_call, jit_ret, jit_jmp,
    jit_jcc, jit_jmp_indirect, jit_call_indirect;
/* RAX to the stack, as PUSH. */
void jit_push_value(struct translation *t);
/* The number of a mode that translations have, JIT_MODES: there are too many. */
unsigned jit_mode_number(struct code_cache *code, u32 mode);
/* On to the code behind the block, in another mode: the cell takes over where it has no translation; and the jump, when the
   mode has been changed. */
void jit_find_other_mode(struct translation *t, unsigned mode_number);
void jit_fall_to_other_mode(struct translation *t, unsigned mode_number);
/* On to the code behind the block. */
void jit_fall(struct translation *t);

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

/* ---- bytes.c ---- */

/* Whether a register operand of this notation is AH, CH, DH or BH. */
bool jit_is_high_byte(const struct translation *t, char letter, unsigned n);
/* JIT_PLAIN with such an operand. */
bool jit_high_byte(struct translation *t, enum jit_place_check check);
jit_translator jit_mov_imm_byte;

/* ---- atomic.c ---- */

jit_translator jit_cmpxchg, jit_cmpxchg_pair;
/* BT, BTS, BTR, BTC of memory by a register. */
bool jit_bit_string(struct translation *t);

/* ---- rflags.c ---- */

jit_translator jit_bare, jit_ah_flags, jit_direction;

/* ---- string.c ---- */

jit_translator jit_string;

/* ---- system.c ---- */

jit_translator jit_cli, jit_sti, jit_stac, jit_swapgs, jit_rdpkru, jit_stmxcsr, jit_pushf;

/* ---- vector.c ---- */

jit_translator jit_vector, jit_bmi, jit_vzero;
/* Bytes of a memory operand of a form of kind JIT_VECTOR. */
unsigned jit_vector_bytes(const struct decoded *d);
/* Store what is changed of the vector registers that are held in host registers, as they were when `dirty` and `wide` were
   taken from the translation. R15 is clobbered, flags are kept. */
void jit_store_vectors(struct translation *t, u16 dirty, u16 wide, bool used_wide);
/* The same for now, and none is held from here on. */
void jit_release_vectors(struct translation *t);

#endif
