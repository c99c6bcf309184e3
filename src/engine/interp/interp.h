/*
 * Inside the interpreter: what its files share.
 *
 * Guest code is decoded once into blocks of cells. A cell is one instruction with its operands resolved as far as they are
 * known: register numbers, displacement, immediate, and a pointer to the handler that executes exactly this form and size.
 * A handler does its work and jumps to the handler of the next cell (NEXT, a tail call), so the hot loop has no dispatcher.
 *
 *   run.c      the loop around blocks: exits, budget, interrupts, shadows, single-step
 *   block.c    from bytes to cells; the block cache; what kills a block
 *   mem.h/.c   guest memory: software TLB, page walks, RAM and I/O access
 *   fault.c    raising and delivering exceptions and interrupts through the IDT
 *   segment.c  descriptors: loads, far transfers, IRET, checks
 *   task.c     hardware task switches
 *   debug.c    breakpoints and debug exceptions
 *   ops_*.c    the handlers, by topic, each file with its table of rows
 *
 * Rules for a handler:
 * - It changes no architectural state before everything that can fault has been done. A fault leaves by longjmp from
 *   interp_fault and its like, and the instruction has then not happened.
 * - It ends with NEXT, or with one of the END_* when its row ends a block.
 * - Before it asks for the time, touches I/O or calls what may fault without being given `i`, it sets c->cell = i (the
 *   memory functions of mem.h do).
 * - Arithmetic flags live in c->flags while running (flags.h); s->rflags holds the others. interp_rflags and
 *   interp_set_rflags translate.
 */
#ifndef ENGINE_INTERP_INTERP_H
#define ENGINE_INTERP_INTERP_H

#include <setjmp.h>

#include "engine/interp/fp.h"
#include "machine/vm.h"
#include "x86/decode.h"
#include "x86/vcpu_state.h"

struct interp;
struct cell;

/* s: the vCPU's state; c: the interpreter's own part; i: the cell being executed. */
typedef void interp_fn(struct vcpu_state *s, struct interp *c, const struct cell *i);

/* Two to a cache line. Byte registers are byte offsets into s->gpr (AH is 1), other registers are numbers. */
struct cell {
    interp_fn *fn;
    i64 disp; /* displacement, with the next RIP added for RIP-relative; MOV r64,imm64: the immediate; direct branches:
                   target RIP; far pointers: the offset; ENTER, EXTRQ, INSERTQ: the second immediate */
    i32 imm; /* immediate, sign-extended to the operand by the handler; far pointers: selector */
    u8 base, index, scale, seg; /* memory operand; seg: SEG_* */
    u8 reg, rm;                 /* ModRM.reg and ModRM.rm operands (rm also: register in the opcode) */
    u8 start;                   /* offset of the instruction from the block's RIP */
    u8 len;                     /* bytes */
    u8 flags;                   /* CELL_* */
    u8 vvvv;                    /* third register operand of VEX forms */
    u16 op;                     /* enum x86_op */
};

enum {
    CELL_PLAIN_EA = 1 << 0, /* the address is base + disp, of 8 bytes, from a segment of base 0: most are */
    CELL_ADDR32 = 1 << 1,   /* address size 4 */
    CELL_ADDR16 = 1 << 2,   /* address size 2; neither: 8 */
    CELL_REP = 1 << 3,      /* F3 */
    CELL_REPNE = 1 << 4,    /* F2 */
    CELL_LOCK = 1 << 5,
    CELL_OP16 = 1 << 6, /* operand size 2 */
    CELL_OP64 = 1 << 7, /* operand size 8; neither: 4 */
};
/* Address size 4 in a flat segment of 32-bit code: no check but the cut to 32 bits. */
#define CELL_FLAT32 (CELL_ADDR32 | CELL_ADDR16)
static inline unsigned cell_operand_size(const struct cell *i)
{
    return i->flags & CELL_OP64 ? 8 : i->flags & CELL_OP16 ? 2 : 4;
}
static inline unsigned cell_address_size(const struct cell *i)
{
    return i->flags & CELL_ADDR32 ? 4 : i->flags & CELL_ADDR16 ? 2 : 8;
}

/*
 * A row of a handler table: what executes an opcode row with a register or a memory operand (rows without ModRM: reg), for
 * 16-, 32- and 64-bit operand size. NULL where a form does not exist; the block builder then makes it #UD.
 */
struct interp_row {
    u16 op;                     /* enum x86_op */
    u16 flags;                  /* ROW_* */
    interp_fn *reg[3], *mem[3]; /* by operand size: 2, 4, 8; with ROW_VEX_L by VEX.L: 128, 256 bits */
};
enum {
    ROW_REG8 = 1 << 0,  /* the ModRM.reg operand is a byte register */
    ROW_RM8 = 1 << 1,   /* the ModRM.rm or opcode register operand is a byte register */
    ROW_VEX_L = 1 << 2, /* handlers by VEX.L */
};
/* Ends every table. */
#define ROW_LAST                                                                                             \
    {                                                                                                        \
        .op = OP_COUNT                                                                                       \
    }
/* The same handler for every operand size. */
#define ANY_SIZE(fn)                                                                                         \
    {                                                                                                        \
        fn, fn, fn                                                                                           \
    }

/* Tables, one in each ops_*.c. */
extern const struct interp_row interp_alu_rows[], interp_move_rows[], interp_shift_rows[], interp_bit_rows[],
    interp_string_rows[], interp_branch_rows[], interp_system_rows[], interp_x87_rows[], interp_mmx_rows[],
    interp_sse_fp_rows[], interp_sse_int_rows[], interp_crypto_rows[], interp_fpstate_rows[],
    interp_wait_rows[], interp_avx_fp_rows[], interp_avx_int_rows[], interp_avx_move_rows[],
    interp_avx_crypto_rows[], interp_fma_rows[];

/*
 * What a block was decoded for. A change of any of these bits selects other blocks (c->mode is recomputed by
 * interp_mode_changed).
 */
enum {
    MODE_CODE16 = X86_CODE16,
    MODE_CODE32 = X86_CODE32,
    MODE_CODE64 = X86_CODE64,
    MODE_CODE_MASK = 3,
    MODE_STACK32 = 1 << 2, /* SS.B: ESP, else SP (outside 64-bit code) */
    MODE_FLAT = 1 << 3,    /* DS, ES and SS are writable, base 0, limit 4 GiB - 1 */
    MODE_REAL = 1 << 4,    /* real mode or virtual-8086 mode */
    MODE_X87_NM = 1 << 5,  /* x87 and MMX raise #NM (CR0.EM for x87, CR0.TS for both; WAIT looks itself) */
    MODE_MMX_UD = 1 << 6,  /* MMX raises #UD (CR0.EM) */
    MODE_SSE_UD = 1 << 7,  /* SSE raises #UD (CR0.EM, or CR4.OSFXSR clear) */
    MODE_SSE_NM = 1 << 8,  /* SSE raises #NM (CR0.TS) */
    MODE_USER = 1 << 9,    /* CPL 3: whose rights the fetch had, so that no way to a block leads past them */
    MODE_AVX_UD =
        1 << 10,         /* AVX raises #UD (CR4.OSXSAVE clear, or not both SSE and AVX in XCR0); #NM as SSE */
    MODE_LA57 = 1 << 11, /* 64-bit code, 57-bit addresses: which direct branches leave them */
    MODE_AC = 1 << 12,   /* EFLAGS.AC, where it decides what accesses may do: SMAP, alignment check */
};

enum { BLOCK_MAX_CELLS = 48 };

enum {
    ATTENTION_TRACE = 1 << 0,       /* somebody wants to see every instruction */
    ATTENTION_BREAKPOINTS = 1 << 1, /* an execute breakpoint is enabled */
};

struct block {
    u64 rip; /* of the first instruction */
    u64 cs_base;
    u32 cs_limit;
    u32 mode; /* MODE_*; BLOCK_DEAD once killed */
    u64 page; /* host address of the page that the code is in; BLOCK_NO_PAGE: not in RAM or ROM, not cached */
    u64 page2;  /* of its second page, or BLOCK_NO_PAGE; an instruction that crosses is alone in its block */
    u32 offset; /* of the code in its page */
    u16 ncells; /* instructions; one more cell follows, which ends the block if it does not end with a branch */
    u16 nbytes;
    bool cut; /* an execute breakpoint is or was at its start: found by block_lookup alone */
    struct block
        *link[2]; /* where the branch goes, where it falls through: blocks of the same page, or NULL */
    struct block *page_next[2]; /* other blocks of the page, of the second page */
    interp_fn
        *first_fn; /* handler of the first cell, which a tier (tier.h) may have put its own in front of */
    /* The tier's: */
    const u8 *tier_code;     /* its translation, NULL: none */
    const u8 *tier_cold;     /* what is rarely executed of it */
    struct block *tier_next; /* in a list of the tier's */
    u32 tier_heat;           /* how often the tier saw the block before it did something about it */
    u32 tier_links;          /* branches that were linked to the translation */
    u32 tier_page[2];        /* of the translation's checks of the mapping, by page */
    u8 tier_mode;            /* which of the tier's modes `mode` is */
    bool tier_flags;         /* the translation begins by writing all flags */
    u8 tier_crossed;         /* how often accesses that were checked together lay across a page end */
    bool tier_apart;         /* accesses are checked one by one */
    struct cell cells[];
};
#define BLOCK_DEAD    0xffffffffu
#define BLOCK_NO_PAGE UINT64_MAX

/* One entry of the software TLB. */
struct tlb_entry {
    u64 tag_read; /* page address, when loads may go straight to address + addend; otherwise with TLB_* bits set */
    u64 tag_write; /* the same for stores */
    u64 addend;    /* host - linear, modulo 2^64 */
    u64 phys;      /* guest-physical page, with TLB_PHYS_* bits */
};
enum {
    TLB_INVALID = 1,    /* in a tag: nothing cached */
    TLB_SLOW = 2,       /* in a tag: translated, but I/O, ROM, a marked page: the slow path */
    TLB_PHYS_WRITE = 1, /* the paging structures permit stores, and D is set */
    TLB_PHYS_EXEC = 2,  /* they permit instruction fetch */
    TLB_PHYS_GLOBAL = 4,
};
enum { TLB_BITS = 12, TLB_ENTRIES = 1 << TLB_BITS };

/* Which rights a TLB was filled with: what supervisor code may touch depends on SMAP and EFLAGS.AC. */
enum { TLB_USER, TLB_SUPER, TLB_SUPER_AC, TLB_COUNT };
/* In place of TLB_USER while alignment is checked: it stays empty, so that every access takes the slow path, which uses
   TLB_USER's entries. */
enum { TLB_CHECKED = TLB_COUNT };

/*
 * What the TLB holds of one address space. MOV to CR3 with a PCID goes from one to another, and finds what it has left there
 * (SDM 3A 4.10.1). Translations of global pages are in each space that has used them.
 */
enum { TLB_SPACES = 8, TLB_LOCALS = 512 };
struct tlb_space {
    struct tlb_entry tlbs[TLB_COUNT + 1][TLB_ENTRIES]; /* and TLB_CHECKED */
    u64 cr3;                                           /* its tables and its PCID */
    u64 generation;                                    /* interp.generation[0] while it is the current one */
    u64 turn;                                          /* interp.tlb_turn when it last was */
    bool used;             /* false: whatever is in it, it is to be emptied before anything is looked for */
    bool closed;           /* when it is current again, all stores take the slow path first */
    bool upper_local;      /* something not global was filled in the upper half of the addresses */
    u8 filled;             /* which tables are not empty, a bit each */
    u16 nlocal[TLB_COUNT]; /* how many of these there are; TLB_LOCALS + 1: more than fit */
    u16 local[TLB_COUNT][TLB_LOCALS]; /* slots that were filled with what is not global */
};

struct jump_entry {
    u64 rip;
    struct block *block;
    u64 generation;
};
enum { JUMP_BITS = 16, JUMP_ENTRIES = 1 << JUMP_BITS };

struct interp {
    /* Hot. */
    u16 flags; /* arithmetic flags in the host's LAHF + SETO form (flags.h) */
    u8 cpl;
    u32 mode;                /* MODE_* */
    u32 kick_mask;           /* which KICK_* end the block chain now (no KICK_INTERRUPT while IF is 0) */
    const u32 *kick;         /* &vcpu->kick */
    i64 left;                /* instructions left in the budget, as of the start of the current block */
    struct block *block;     /* the current block */
    const struct cell *cell; /* the current cell, where somebody may ask; NULL between blocks */
    struct tlb_entry *tlb;   /* the one for the current privilege */
    u64 seg_base[8]; /* what is added to an address by segment: 0 for all but FS and GS in 64-bit code */

    bool rotate_keeps_of; /* host CPU: ROL and ROR by an immediate above 1 leave OF alone (flags.h) */
    struct interp_fp fp;  /* fp.h, fpstate.h */

    struct vcpu *vcpu;
    struct vcpu_state *state;
    struct memory *memory;
    bool amd;
    bool has_1g_pages;
    u32 pse_reserved;  /* bits of a 4 MiB page's entry that are no address bits */
    u8 virt_bits;      /* of the widest linear address */
    u64 phys_reserved; /* address bits of a paging-structure entry from MAXPHYADDR to 51 */

    /* A read-modify-write that cannot be done in place (mem.h). */
    struct {
        bool active;
        u8 size;
        u64 lin;
        u8 *place; /* not NULL: the operand itself, of whose page stores must be told of */
        _Alignas(
            16) u8 data[64]; /* for CMPXCHG16B; also where a vector that is loaded the slow way arrives */
    } bounce;

    bool alone; /* all other vCPUs stand still, for a locked access that no host instruction makes atomic */
    unsigned pauses; /* PAUSE executed */
    bool undo_pop;   /* POP to memory: a fault in its store restores RSP from undo_sp */
    u64 undo_sp;
    bool gathered; /* a gather has loaded elements: a trap that is due takes the place of its fault */
    /* CPUs without CPUID 7.EBX bit 6: every x87 instruction records its pointers; a fault restores them from here. */
    bool x87_pointers, x87_selectors, x87_error_pointers;
    struct {
        u64 fip, fdp;
        u16 fop, fcs, fds;
    } old_pointers;

    bool undo_flags; /* repeated string instruction: a fault restores the flags from old_flags */
    u16 old_flags;

    /* A fault on its way to run.c. */
    jmp_buf *unwind; /* where a fault goes: the loop, or the delivery of an event */
    struct {
        u8 vector;
        u32 error;
        u64 address; /* #PF: CR2 */
    } fault;

    bool yield;           /* PAUSE was executed and other vCPUs wait for their turn */
    struct cell *patched; /* whose handler is interp_op_leave for the moment, instead of patched_fn */
    interp_fn *patched_fn;
    u8 attention;       /* ATTENTION_*: what the loop looks at before every way to a block */
    bool traced;        /* and has seen the next one */
    i64 step_rest;      /* budget put aside while one instruction is stepped */
    bool event_in_step; /* the instruction being stepped delivered an event itself: no single-step trap */
    i64 run_budget;     /* what `left` was when run began */
    const struct mem_range *near_range; /* of the last address; NULL: none since the map changed */
    u16 keys_used
        [2]; /* supervisor, user pages: protection keys of what was filled since everything was dropped */
    struct block *link_from; /* whose link[link_which] the loop may set to the block that it finds next */
    unsigned link_which;
    /* Of valid entries of the jump table, by half of the addresses: each is a number of its own, taken anew when a cached way
       from linear address to block may be wrong. The lower one is the space's. */
    u64 generation[2], last_generation;
    struct tlb_entry (*tlbs)[TLB_ENTRIES]; /* the current space's */
    struct tlb_space *space, *spaces;
    u64 tlb_turn; /* counts changes of the space */
    struct {
        u64 lo, hi;
    } large[2];        /* linear ranges that large pages were cached from, in each half of the addresses */
    bool lower_global; /* something global was filled in the lower half of the addresses */
    struct jump_entry jump[JUMP_ENTRIES];
    struct block_cache *blocks; /* block.c */
    /* Debug registers, taken apart (debug.c). The masks have bit n for DRn. */
    struct {
        u8 enabled;
        u8 execute, write, read, ports; /* what each watches, enabled or not */
        u8 access, io;                  /* enabled ones for data, for ports */
        u64 first[4], last[4];          /* the bytes or ports */
        u64 hits;                       /* traps of the instruction under way, as bits of DR6 */
        u64 seen[6];                    /* what all this was made from */
    } debug;
    const struct interp_tier *tier; /* tier.h; NULL: cells alone */
    struct {
        u64 blocks_built, blocks_killed, cache_flushes, tlb_misses, tlb_flushes, tlb_switches, lookups;
    } counters;
    u64 recent[16]; /* RIPs of blocks entered from the loop, a ring */
    unsigned recent_next;
    /* A struct block of one instruction and the cell after it, for exact budgets and single-stepping. */
    _Alignas(struct block) u8 single[sizeof(struct block) + 2 * sizeof(struct cell)];
};

static inline struct interp *vcpu_interp(const struct vcpu *vcpu)
{
    return vcpu->engine_vcpu;
}

/* RIP of the instruction of a cell, and of the one after it. */
static inline u64 cell_rip(const struct interp *c, const struct cell *i)
{
    return c->block->rip + i->start;
}
static inline u64 cell_next_rip(const struct interp *c, const struct cell *i)
{
    return c->block->rip + i->start + i->len;
}

/*
 * ---- going on ----
 *
 * A handler that calls the next one instead of jumping leaves its frame on the host's stack, for as long as the guest
 * does not come back to the loop. gcc does that where the address of a local variable is known elsewhere, unless the
 * variable is out of scope: then its part of the handler is a block or a function. tests/interp/check-tails.py looks.
 */

#if defined(__clang__)
#define TAIL __attribute__((musttail)) return
#else
#define TAIL                                                                                                 \
    return /* gcc -O2 makes a jump of it; without optimisation the stack grows by at most one block */
#endif

#define NEXT TAIL i[1].fn(s, c, i + 1)

/*
 * Ends of a block; each accounts for the block's instructions.
 * END_TAKEN: the direct branch of this cell was taken, to i->disp. END_FALL: it was not, or the row merely ends the block.
 * END_INDIRECT: s->rip has been set by the handler. END_LOOP: the same, and back to the loop, because the mode, paging,
 * interrupts or anything else that the loop looks at may have changed.
 */
#define END_TAKEN    TAIL interp_end_taken(s, c, i)
#define END_FALL     TAIL interp_end_fall(s, c, i)
#define END_INDIRECT TAIL interp_end_indirect(s, c, i)
#define END_LOOP     TAIL interp_end_loop(s, c, i)
/* END_LOOP for what is common: it goes on by itself where only the privilege, the stack and the flags have changed, from 64-bit
   code to 64-bit code, and there is nothing to look at. */
#define END_FAR TAIL interp_end_far(s, c, i)
/* Falls through to the next instruction, by way of the loop. */
#define END_LOOP_NEXT                                                                                        \
    do {                                                                                                     \
        s->rip = cell_next_rip(c, i);                                                                        \
        TAIL interp_end_loop(s, c, i);                                                                       \
    } while (0)
/* END_LOOP_NEXT for a row that does not end its block by the table. */
#define END_LEAVE TAIL interp_leave_after(s, c, i)
interp_fn interp_end_taken, interp_end_fall, interp_end_indirect, interp_end_loop, interp_end_far,
    interp_leave_after;

/* A handler for a cell that shall not be executed: return to the loop before it. */
interp_fn interp_op_leave;

/* After an access to a device: if it kicked this vCPU, return to the loop right after the instruction of cell `i`, so that a
   timer armed by it is due at its exact instruction (machine/engine.h). */
void interp_look_up_after(struct interp *c, const struct cell *i);

/* ---- raising ---- */

/* Abandon the instruction of cell `i` with an exception. The error code counts for the vectors that have one. `i` NULL:
   while delivering an event, outside any instruction. */
_Noreturn void interp_fault(struct interp *c, const struct cell *i, u8 vector, u32 error);
#define raise_ud(c, i)        interp_fault(c, i, VEC_UD, 0)
#define raise_gp(c, i, error) interp_fault(c, i, VEC_GP, error)
#define raise_nm(c, i)        interp_fault(c, i, VEC_NM, 0)
#define raise_de(c, i)        interp_fault(c, i, VEC_DE, 0)
/* #PF at a linear address. */
_Noreturn void interp_page_fault(struct interp *c, const struct cell *i, u64 address, u32 error);

/* The handler of x87 instructions where c->x87_pointers is set (ops_x87.c); what a fault of such a cell takes back. */
interp_fn interp_x87_recorded;
void interp_x87_unrecord(struct interp *c);

/* Handlers that do nothing but raise. */
interp_fn interp_op_ud, interp_op_nm;

/* ---- state that others derive from ---- */

/* All of RFLAGS, arithmetic ones included; and its inverse, which recomputes what depends on IF, AC and VM. After a change
   of IF, TF, AC or VM the row must end with END_LOOP. */
u64 interp_rflags(const struct interp *c);
void interp_set_rflags(struct interp *c, u64 rflags);
/* CR0, CR4, EFER, CPL, a segment register or RFLAGS.VM changed: recompute mode, seg_base, tlb, kick_mask. The
   row must end with END_LOOP. */
void interp_mode_changed(struct interp *c);
/* The same where nothing but segment registers and RFLAGS changed. */
void interp_segments_changed(struct interp *c);

#endif
