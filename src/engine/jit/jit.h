/*
 * Inside the translator: what its files share.
 *
 * The translator is the interpreter's second tier (engine/interp/tier.h): it turns hot blocks of cells into host code and
 * leaves everything rare to the cells. docs/jit.md is the tour.
 *
 *   jit.c        the engine's table; counts blocks, enters translations, answers what host code asks of C
 *   translate.c  one block to host code: what holds from instruction to instruction, flags, and what lies behind the block
 *   integer.c    instructions on general registers
 *   address.c    memory operands: the inline TLB, and checks that several accesses share
 *   branch.c     stack, branches, and the ways from one translation to the next
 *   bytes.c, atomic.c, rflags.c, string.c, system.c, vector.c     other instructions, by topic
 *   forms.c      which instructions have a translation, by the notation of the opcode table
 *   emit.h       host instructions into memory
 *   stubs.c      code that all translations share: entering, leaving, calling a handler
 *   refill.c     what host code calls while guest vectors are in the host's registers: its small TLB
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
 * A small copy of the interpreter's TLB, for loads and for stores, of pages that host code may go to directly. `tag` is the
 * page, `delta` what is added to a linear address in it to get the host's. lin - tag < 4096 exactly for a hit; the tag of an
 * empty entry is a page of another slot, which no address that is looked for here lies in. Tags and deltas are arrays of
 * their own because the slot is a byte, which scales by 8.
 */
enum { JIT_TLB_ENTRIES = 256 };
/*
 * Behind the entries by page is one for the page that accesses off RSP went to last. Its place is known when the code is made,
 * so two instructions of the look-up go, and the delta does not wait for the address. (One for each register that calls
 * preserve gained nothing more.)
 *
 * No tag is empty for every address: the tag of this entry is then a page that is not canonical and that nobody can guess
 * (jit_vcpu.nowhere), and its delta leads to a page of zeros.
 */
enum { JIT_TLB_STACK = JIT_TLB_ENTRIES, JIT_TLB_ALL };
struct jit_tlb {
    u64 tag[JIT_TLB_ALL], delta[JIT_TLB_ALL];
};

/* Where indirect branches go: RIP to the `checked` entry of a translation, in a table for each mode that blocks have. */
enum { JIT_TARGET_BITS = 14, JIT_TARGETS = 1 << JIT_TARGET_BITS, JIT_MODES = 8 };

/* A branch into a translation that was linked to it. */
struct jit_link {
    u8 *site;     /* executable address of the distance in its jump instruction */
    u8 *unlinked; /* where the jump went before */
    u32 next;     /* index of another link to the same translation, 0: none */
};

/* A page of code that has translations: linear page and host page, by a number that is never used for another pair. */
struct jit_page {
    u64 linear, host;
    u32 id;
};

/*
 * A translation begins with its entries, each for another way in. Offsets from its start, the same for all translations:
 *
 *     checked  from anywhere: is the page that the code was translated from still mapped here?
 *     poll     from the same page: has somebody kicked, and does the budget (if instructions are counted) cover the block?
 *     body     from the same page, forward. Every way round a loop leads through another entry. Of an instruction that lies
 *              in two pages it begins with a check of the second.
 *
 * and from the start of its cold part, which lies in another place so that what is executed lies together:
 *
 *     flags    as body, with the guest's flags in the host's alone: stores them. Of a block that begins by writing them all,
 *              it is the place FLAGS_ENTRY behind body, and nothing is stored
 *     leave_flags, leave   to the loop. Jumps to them stand over the entries of a dead translation.
 */
struct jit_layout {
    u8 checked, poll, body;       /* hot */
    u8 flags, leave_flags, leave; /* cold */
};
enum { FLAGS_ENTRY = 5 }; /* room for a jump */

struct code_cache;
struct jit_form;

struct jit_vcpu {
    struct interp interp; /* first: vcpu->engine_vcpu is both */
    struct jit_vcpu *self;
    u64 guest_r9_r11[3];
    u64 scratch;
    u32 segment_base; /* of an access by FS or GS in 32-bit code */
    bool crossed;     /* the last refill was refused because the access crosses a page */
    u64 walk_lin; /* linear address of a look-up that goes on in the cold part, or of the refill that found nothing */
    u8 vectors[16][32];               /* what stub.walk puts aside */
    u64 checked[4];                   /* deltas of pages that a block has checked (address.c) */
    struct jit_tlb tlb[TLB_COUNT][2]; /* by rights, as interp.tlbs; for loads, for stores */
    u32 page_id
        [2]
        [256]; /* supervisor, user: jit_page.id of what is mapped at a linear page for execution, 0: not known */
    bool
        low_supervisor; /* page_id[0] has something of the lower half of the addresses, which MOV to CR3 changes */
    struct code_cache *code;
    u32 threshold; /* executions by its cells before a block is translated */
    struct jit_stats stats;
    u64 nowhere;           /* the tag of an empty entry of the stack */
    u8 nothing[PAGE_SIZE]; /* and where it leads */
    u64 target_rip[JIT_MODES][JIT_TARGETS];
    const void *target_code[JIT_MODES][JIT_TARGETS];
};

/* Host register of each guest register; JIT_IN_MEMORY: in guest_r9_r11. */
enum { JIT_IN_MEMORY = 0xff, JIT_T0 = 0 /* RAX */, JIT_T1 = 15 /* R15 */, JIT_RSP = 12 };
static const u8 jit_host[16] = {
    14, 1, 2, 3, JIT_RSP, 5, 6, 7, 8, JIT_IN_MEMORY, JIT_IN_MEMORY, JIT_IN_MEMORY, 9, 13, 10, 11};

static inline struct jit_vcpu *jit_of(struct interp *c)
{
    return (struct jit_vcpu *)c;
}

/* In page_id. Known when code is translated, so it may take more bits of the address than a slot of the TLB. */
static inline unsigned jit_code_slot(u64 lin)
{
    return (lin >> PAGE_SHIFT ^ lin >> (PAGE_SHIFT + 8) ^ lin >> (PAGE_SHIFT + 16)) & 255;
}
static inline unsigned jit_page_slot(u64 lin)
{
    return lin >> PAGE_SHIFT & 255;
}
static inline unsigned jit_rip_hash(u64 rip)
{
    return (unsigned)(rip * 0x9e3779b97f4a7c15ull >> 49);
}
static inline unsigned jit_target_slot(u64 rip)
{
    return (rip ^ rip >> JIT_TARGET_BITS) & (JIT_TARGETS - 1);
}

/* ---- code.c ---- */

/* What the vCPUs of a VM have in common of it: in bytes, how much each one has for itself, how much there is to borrow, and
   from how much on one is asked to give back. */
struct code_pool {
    size_t own, lendable, much;
    size_t lent; /* atomic */
    unsigned users;
};
void code_pool_init(struct code_pool *pool, u64 bound, unsigned vcpus);

/* The code memory of a vCPU. Written through `rw`, executed at `rx`; the same memory. */
struct code_cache {
    u8 *rw, *rx;
    size_t size, used, stubs_end; /* the first half */
    size_t cold_used;             /* the second: what is rarely executed */
    struct code_pool *pool;
    size_t borrowed;        /* atomic; as of code_account */
    bool asked_back;        /* atomic: another vCPU needs it more */
    bool full;              /* a translation did not fit any more: the loop shall drop all blocks */
    bool counts;            /* translations count their instructions and keep to the budget */
    bool shifts_write_all;  /* flags_shifts_write_all of the host */
    bool bmi2;              /* the host has RORX */
    struct jit_form *forms; /* of every row */
    struct perf_map *perf;  /* NULL without --jit-perf-map */
    struct jit_layout layout;
    struct jit_link *links; /* links[0] is not used */
    u32 nlinks, max_links;
    u32 modes[JIT_MODES]; /* MODE_* words of blocks with translations */
    unsigned nmodes;
    struct block *by_rip[1 << 15];  /* blocks with translations, hashed */
    struct jit_page pages[1 << 15]; /* a hash table by both addresses; id 0: free */
    unsigned npages;
    u32 last_page_id;
    struct {
        void *enter, *bail, *bail_first, *leave, *leave_page, *call, *refill_read, *refill_write, *walk[3],
            *missed, *unlinked, *check_page, *find_target;
    } stub; /* executable addresses (stubs.c) */
};
struct code_cache *code_cache_new(struct code_pool *pool, struct error *err);
/* `used` or `cold_used` has changed. */
void code_account(struct code_cache *code);
bool code_has_room(const struct code_cache *code);
/* The host may have what is not used of it now, which is all but the stubs. */
void code_give_memory_back(struct code_cache *code);
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
/* The entries of a translation of `b` up to its body, and the start of its cold part. Returns the place of the jump to where
   stub.check_page is called. */
u8 *jit_emit_entries(struct emit *e, struct emit *cold, const struct code_cache *code, const struct block *b,
                     bool flags_first, struct jit_layout *layout);
/* Is page `n` of `b` (of two) mapped where it was? Flags are clobbered; returns as jit_emit_entries. */
u8 *jit_emit_page_check(struct emit *e, const struct block *b, unsigned n);
/* Save the host's flags in interp.flags; RAX is clobbered, they are not. */
void jit_emit_save_flags(struct emit *e);

/* ---- translate.c ---- */

/* Host code for a block; sets block->tier_code. false: not worth it, or no room. */
bool jit_translate(struct jit_vcpu *j, struct block *b);

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
    JIT_PREFETCH,
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
    JIT_CLI,
    JIT_STI,
    JIT_STAC, /* and CLAC */
    JIT_SWAPGS,
    JIT_RDPKRU,
    JIT_STMXCSR,
    JIT_PUSHF,
    JIT_STRING, /* STOS, MOVS */
    JIT_INC,    /* INC and DEC with the register in the opcode */
    JIT_MOFFS,  /* MOV of the accumulator, from or to an address in the instruction */
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
    bool general;                             /* some operand is a general register, or may be one */
    bool fourth;                              /* bits 7..4 of the immediate are a vector register */
    u8 rm_bytes; /* of a memory operand; 0: the vector length; 0xff: the operand size */
    bool half;   /* ... half of that */
    bool align;  /* a memory operand must be aligned, if it has 16 bytes or more */
    bool raises; /* SSE exceptions */
    bool masked; /* a mask may leave nothing of the access: no page walk for it */
    u8 xmm0;     /* JIT_READ, JIT_WRITE of XMM0, which is no operand */
    bool acc;    /* reads RAX (and RDX), which is no operand */
    bool rcx;    /* writes RCX, which is no operand */
};
/* Of every row; made once. `limit`: host_limit of struct vm_config. */
void jit_forms_init(struct jit_form forms[OP_COUNT], const struct cpu_model *limit);

/* ---- refill.c ---- */

struct jit_place {
    u64 found, delta;
};
/* The delta of the page of an access, and have it in the TLB. Not found: the access cannot be made directly. */
struct jit_place jit_refill_read(struct jit_vcpu *j, u64 lin, u64 size);
struct jit_place jit_refill_write(struct jit_vcpu *j, u64 lin, u64 size);
/* ---- perf.c ---- */

/* Lines for perf of what host code belongs to which guest code, in /tmp/perf-PID.map. NULL with `err`. */
struct perf_map *perf_map_open(struct error *err);
void perf_map_close(struct perf_map *map); /* or NULL */
void perf_map_stubs(struct perf_map *map, const struct code_cache *code);
void perf_map_block(struct perf_map *map, const struct block *b, const void *code, size_t size);

/* ---- jit.c: what host code calls ---- */

/* Execute the handler of cell `n`. false: return to the loop, the state says where. */
bool jit_call_handler(struct jit_vcpu *j, struct block *b, u64 n);

/* How an exit enters the next translation: an entry of jit_layout. */
enum jit_entry { ENTRY_FLAGS, ENTRY_CHECKED, ENTRY_POLL, ENTRY_BODY };
/* A branch out of `b` has no target yet. If there is one now, link it (its site is that of `exit`) and return where to go on,
   with flags saved. NULL: return to the loop, the state says where. */
const void *jit_unlinked(struct jit_vcpu *j, struct block *b, u64 exit);
/* After a refill that found nothing: have the interpreter's TLB filled if the access is allowed. */
enum jit_vectors { JIT_NO_VECTORS, JIT_VECTORS, JIT_WIDE_VECTORS }; /* what stub.walk shall put aside */
enum { JIT_WALK_WRITES = 1 << 16 }; /* with the size: the instruction itself writes */
bool jit_walk(struct jit_vcpu *j, u64 lin, u64 size_and_flags);
/* A check of `b` for several accesses has failed. When that happens often because they cross a page, translate it anew. */
void jit_missed(struct jit_vcpu *j, struct block *b);
/* Whether the pages of block `b`, which comes next, are mapped where it was translated for. */
bool jit_check_page(struct jit_vcpu *j, const struct block *b);
/* Have the translation for a RIP in the table of targets. False: there is none. */
bool jit_find_target(struct jit_vcpu *j, u64 rip);
/* The word that an exit is told by: its site, `which` as of block.link, and the entry. */
static inline u64 jit_exit(const u8 *site, unsigned which, enum jit_entry entry)
{
    return (u64)(uintptr_t)site << 3 | which << 2 | entry;
}

#endif
