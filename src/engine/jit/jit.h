/*
 * Inside the translator: what its files share.
 *
 * The translator is the interpreter's second tier (engine/interp/tier.h): it turns hot blocks of cells into host code and
 * leaves everything rare to the cells. docs/jit.md is the tour.
 *
 *   jit.c        the engine's table; counts blocks, enters translations, answers what host code asks of C
 *   translate.c  one block to host code
 *   bytes.c, atomic.c, rflags.c, vector.c ...   translations of instructions, by topic
 *   forms.c      which instructions have a translation, by the notation of the opcode table
 *   emit.h       host instructions into memory
 *   stubs.c      code that all translations share: entering, leaving, calling a handler
 *   code.c       the memory of host code: writable in one mapping, executable in another
 *   stats.c      what is counted, for `plastron info`
 *   perf.c       names of host code for perf
 *   trace.c      guest code and host code of a translation, for --trace jit
 *
 * Registers while host code runs. Guest registers stay in host registers from block to block:
 *
 *     guest  rax rcx rdx rbx rsp rbp rsi rdi r8  r12 r13 r14 r15   r9 r10 r11
 *     host   r14 rcx rdx rbx r12 rbp rsi rdi r8  r9  r13 r10 r11   in struct jit_vcpu
 *
 * RAX and R15 are scratch; RSP is the host's stack, with no guest data on it; the base of GS is the struct jit_vcpu. The
 * guest's arithmetic flags are in the host's flags, in interp.flags, or in both: the translator knows which at each place.
 *
 * Rule for every exit in the middle of a block: all guest registers and interp.flags are as before the instruction whose
 * cell goes on, and interp.left does not count this block yet.
 */
#ifndef ENGINE_JIT_JIT_H
#define ENGINE_JIT_JIT_H

#include "engine/interp/block.h"
#include "engine/interp/interp.h"
#include "engine/interp/tier.h"
#include "engine/jit/stats.h"

/*
 * A small copy of the interpreter's TLB in a form that needs two scratch registers: `tag` is the page, `host` its host
 * address. Only pages that loads (or stores) may go to directly are in it. lin - tag < 4096 exactly for a hit; the tag of
 * an empty entry is a page of another slot, which no address that is looked for here lies in.
 */
struct jit_tlb_entry {
    u64 tag, host;
};
/* A set for each of the interpreter's; that for checked alignment stays empty, as there. */
enum { JIT_TLB_BITS = 8, JIT_TLB_ENTRIES = 1 << JIT_TLB_BITS, JIT_TLB_SETS = TLB_CHECKED + 1 };

struct code_cache;
struct jit_form;

struct jit_vcpu {
    struct interp interp; /* first: vcpu->engine_vcpu is both */
    struct jit_vcpu *self;
    u64 guest_r9_r11[3];
    u64 scratch;
    struct jit_tlb_entry *read, *write; /* the sets for the current rights */
    /* The page that stack accesses went to last: loads and stores may go to it. An access of 2^n bytes is inside when its
       offset is below stack_limit[n]; all are 0 when there is no such page. */
    u64 stack_tag, stack_host, stack_limit[6];
    const struct tlb_entry *rights; /* the interpreter's TLB that these belong to */
    struct code_cache *code;
    u32 threshold; /* executions by its cells before a block is translated */
    struct jit_tlb_entry tlb[JIT_TLB_SETS][2][JIT_TLB_ENTRIES]; /* for loads, for stores */
    struct jit_stats stats;
};

/* Host register of each guest register; JIT_IN_MEMORY: in guest_r9_r11. */
enum { JIT_IN_MEMORY = 0xff, JIT_T0 = 0 /* RAX */, JIT_T1 = 15 /* R15 */, JIT_RSP = 12 };
static const u8 jit_host[16] = {
    14, 1, 2, 3, JIT_RSP, 5, 6, 7, 8, JIT_IN_MEMORY, JIT_IN_MEMORY, JIT_IN_MEMORY, 9, 13, 10, 11};

static inline struct jit_vcpu *jit_of(struct interp *c)
{
    return (struct jit_vcpu *)c;
}

static inline struct jit_tlb_entry *jit_tlb_slot(struct jit_tlb_entry *set, u64 lin)
{
    return &set[lin >> PAGE_SHIFT & (JIT_TLB_ENTRIES - 1)];
}

/* ---- code.c ---- */

/* The code memory of a vCPU. Written through `rw`, executed at `rx`; the same memory. */
struct code_cache {
    u8 *rw, *rx;
    size_t size, used, stubs_end;
    bool full;              /* a translation did not fit any more: the loop shall drop all blocks */
    struct jit_form *forms; /* of every row */
    struct perf_map *perf;  /* NULL without --jit-perf-map */
    struct {
        void *enter, *bail, *bail_first, *leave, *call, *refill_read, *refill_write, *refill_stack_read,
            *refill_stack_write, *unlinked, *unlinked_first;
    } stub; /* executable addresses (stubs.c) */
};
struct code_cache *code_cache_new(size_t size, struct error *err);
void code_cache_free(struct code_cache *code);
static inline u8 *code_rw(const struct code_cache *code, const void *rx)
{
    return code->rw + ((const u8 *)rx - code->rx);
}

/* Make the stubs at the start of an empty cache. */
void jit_make_stubs(struct code_cache *code);
/* How RAX says to the stub for bails where and why: offset of the cell in its block, and enum jit_exit. */
enum { JIT_BAIL_EXIT_SHIFT = 16 };

struct emit;
/* How a translation begins: to `leave` when the budget does not cover its `ncells` instructions or somebody has kicked. Whoever
   comes from the cells or the loop, where this has been looked at, enters behind it. */
void jit_emit_checks(struct emit *e, unsigned ncells, const u8 *leave);

/* ---- translate.c ---- */

/* Host code for a block; sets block->tier_code. false: not worth it, or no room. */
bool jit_translate(struct jit_vcpu *j, struct block *b);
/* A direct branch at `site` (executable address of its jump instruction) goes to `target` from now on. */
void jit_link(struct code_cache *code, u8 *site, const void *target);

/* ---- forms.c ---- */

enum jit_kind {
    JIT_NONE,    /* the handler of the cell does it */
    JIT_PLAIN,   /* the same instruction on the host, with registers and memory operand replaced */
    JIT_ACC_IMM, /* operation of AL or rAX with an immediate: becomes the form with ModRM */
    JIT_EXTEND,  /* CBW, CWDE, CDQE, CWD, CDQ, CQO */
    JIT_ACC,     /* MUL, IMUL, DIV, IDIV of the accumulator */
    JIT_LEA,
    JIT_MOV_IMM,
    JIT_BSWAP,
    JIT_XCHG_ACC,
    JIT_NOP,
    JIT_PUSH,
    JIT_PUSH_IMM,
    JIT_POP,
    JIT_LEAVE,
    JIT_CALL,
    JIT_RET,
    JIT_JMP,
    JIT_JCC,
    JIT_CALL_INDIRECT,
    JIT_JMP_INDIRECT,
    JIT_MOV_IMM_BYTE,
    JIT_PUSH_MEM,
    JIT_JCXZ,
    JIT_CMPXCHG,
    JIT_CMPXCHG_PAIR,
    JIT_BARE, /* the same bytes, no operands */
    JIT_AH_FLAGS,
    JIT_DIRECTION,
    JIT_VZERO,
    JIT_VECTOR, /* the same instruction, vector registers in the host's of the same number */
    JIT_BMI,    /* general registers, coded with VEX */
};
/* How an operand is used. */
enum { JIT_READ = 1, JIT_WRITE = 2 };
struct jit_form {
    u8 kind; /* enum jit_kind */
    u8 reg,
        rm; /* JIT_READ, JIT_WRITE of ModRM.reg and ModRM.rm, where they are registers or memory; 0: none */
    char reg_size, rm_size; /* letter of the operand notation: b w d q v y ... */
    /* JIT_VECTOR and JIT_BMI: */
    u8 third;                                 /* JIT_READ, JIT_WRITE of VEX.vvvv */
    bool reg_vector, rm_vector, third_vector; /* a vector register, not a general one */
    bool fourth;                              /* bits 7..4 of the immediate are a vector register */
    u8 rm_bytes; /* of a memory operand; 0: the vector length; 0xff: the operand size */
    bool half;   /* ... half of that */
    bool align;  /* a memory operand must be aligned, if it has 16 bytes or more */
    bool raises; /* SSE exceptions */
    u8 xmm0;     /* JIT_READ, JIT_WRITE of XMM0, which is no operand */
    bool acc;    /* reads RAX (and RDX), which is no operand */
};
/* Of every row; made once. */
void jit_forms_init(struct jit_form forms[OP_COUNT]);

/* ---- refill.c ---- */

struct jit_place {
    u64 offset, host; /* offset UINT64_MAX: not to be had directly */
};
struct jit_place jit_refill_read(struct jit_vcpu *j, u64 lin, u64 size);
struct jit_place jit_refill_write(struct jit_vcpu *j, u64 lin, u64 size);
struct jit_place jit_refill_stack_read(struct jit_vcpu *j, u64 lin, u64 size);
struct jit_place jit_refill_stack_write(struct jit_vcpu *j, u64 lin, u64 size);

/* ---- perf.c ---- */

/* Lines for perf of what host code belongs to which guest code, in /tmp/perf-PID.map. NULL with `err`. */
struct perf_map *perf_map_open(struct error *err);
void perf_map_close(struct perf_map *map); /* or NULL */
void perf_map_stubs(struct perf_map *map, const struct code_cache *code);
void perf_map_block(struct perf_map *map, const struct block *b, const void *code, size_t size);

/* ---- jit.c: what host code calls ---- */

/* Execute the handler of cell `n`. false: return to the loop, the state says where. */
bool jit_call_handler(struct jit_vcpu *j, struct block *b, u64 n);
/* The branch out of `b` has no target yet: link it if there is one now. */
void jit_unlinked(struct jit_vcpu *j, struct block *b, u64 site_and_which);

#endif
