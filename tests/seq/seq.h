/*
 * Sequences of instructions, engine against engine: a random program runs in two bare machines, under the interpreter and
 * under the translator, by the same budgets; after each of them the whole state must be the same.
 *
 *   layout.h    where things are in the guest
 *   system.S    the guest's system: faults are noted, and the program goes on behind them
 *   machine.c   the bare machine: page tables, state, run, compare
 *   run.c       one program in two of them
 *   bytes.c     programs for the fuzzer
 *   pieces.c    random pieces of programs, by what they are after
 *   program.c   from pieces to an image: places, jumps, tables
 *   cases.c     programs that once failed, and their text
 *   listing.c   disassembly
 *   shrink.c    from a program that fails to a small one
 *   test_seq.c  runs them
 */
#ifndef TESTS_SEQ_SEQ_H
#define TESTS_SEQ_SEQ_H

#include "../insn/insn.h"
/* Its windows have the same names. */
#include "layout.h"

/* ---- what a machine starts from ---- */

enum { MAX_SITES = 16 };

struct image {
    bool user, smap, write_protect, align_check, pcid;
    u64 limit; /* the program halts after so many passes; 0: it goes on for ever */
    u64 rip, rflags, gpr[16], fs_base, gs_base;
    bool vectors_zero;
    u64 seed; /* of data, x87 and vector registers */
    u8 code[CODE_SIZE];
    u16 skip[CODE_SIZE]; /* offset of the next instruction, for each byte; 0: unknown */
    u32 resume[RESUME_ENTRIES];
    u64 tables[0x200];    /* the page with jump tables */
    u16 sites[MAX_SITES]; /* of immediates that may become anything, four bytes each; 0: none */
};

/* How a program is run. */
struct schedule {
    u64 seed;
    u32 total;  /* instructions */
    u8 kind;    /* enum schedule_kind */
    u8 engine;  /* which of the translators */
    u8 events;  /* EVENT_*: what happens between runs, now and then */
    bool go_on; /* with engines that have run other programs */
};
enum {
    EVENT_NMI = 1 << 0,
    EVENT_INTERRUPT = 1 << 1,
    EVENT_DMA = 1 << 2, /* a device writes to an immediate in the code */
    EVENT_HOP = 1 << 3, /* to the interpreter and back */
    EVENT_ALL = 15,
};
enum schedule_kind {
    SCHEDULE_WHOLE, /* all at once */
    SCHEDULE_ODD,   /* a few at a time */
    SCHEDULE_MIXED,
    SCHEDULE_KINDS,
    SCHEDULE_FREE = SCHEDULE_KINDS, /* until it halts, without counting; `total` bounds the interpreter */
};

/* ---- machines ---- */

struct machine;
struct machine_config {
    const struct engine_ops *engine;
    u32 threshold, cache; /* of struct vm_config */
    bool free;            /* time is the host's, so that nothing counts instructions */
    const char *host;     /* CPU model that limits what the engine uses of the host; NULL: none */
};
struct machine *machine_new(const struct machine_config *how);
void machine_free(struct machine *m);
void machine_load(struct machine *m, const struct image *image);
/* The same with the engine as it is, and with all that it has cached. */
void machine_reload(struct machine *m, const struct image *image);
enum engine_exit machine_run(struct machine *m, u64 budget);
void machine_nmi(struct machine *m);
void machine_interrupt(struct machine *m);
void machine_write_code(struct machine *m, unsigned offset, u32 v);
/* Run until it halts, without a budget; now and then it comes out and goes on, if `disturbed`. */
void machine_run_free(struct machine *m, bool disturbed);
/* From now on it has retired as many instructions as the other. */
void machine_take_count(struct machine *m, const struct machine *from);
/* To another engine, as it is. */
void machine_hop(struct machine *m, const struct engine_ops *engine);
/* Back to its own, if it is with another. */
void machine_come_home(struct machine *m);
const struct vcpu_state *machine_state(const struct machine *m);
/* Its page tables are none of ours: what it does then is up to what happens to be in the TLB. */
bool machine_lost(const struct machine *m);
/* The byte of the code where the program is now, through its page tables; NULL: elsewhere. Up to the end of its page. */
const u8 *machine_code(const struct machine *m, u64 rip, unsigned *available);
/* Whether the two are in the same state; `memory`: and have the same memory. Says what differs, if asked. */
bool machine_equal(const struct machine *a, const struct machine *b, bool memory, FILE *report);

/* ---- run.c ---- */

/* Run a program in both to its end or to the first difference, which `report` (or NULL) is told. Returns whether there was
   none; `done`: instructions up to there. */
bool run_both(struct machine *interp, struct machine *jit, const struct image *image,
              const struct schedule *schedule, FILE *report, u32 *done);

/* ---- bytes.c ---- */

/* false: too few. schedule->engine is below 4. */
bool image_from_bytes(const u8 *data, size_t size, struct image *image, struct schedule *schedule);
/* The code from its RIP on, and nearly the state. Returns the size. */
size_t image_to_bytes(const struct image *image, u8 *data, size_t max);

/* ---- programs ---- */

enum { PIECE_BYTES = 40, PIECE_FIXUPS = 3, MAX_PIECES = 640, MAX_CHUNKS = 64, MAX_TABLES = 32 };

enum fixup_kind {
    FIX_REL8,  /* to a piece; to what follows where it does not reach */
    FIX_REL32, /* to a piece */
    FIX_ABS32, /* address of a piece + addend */
    FIX_RIP32, /* relative to the end of the instruction, to the absolute address `addend` */
};
struct fixup {
    u8 at, kind; /* where in the piece; enum fixup_kind */
    u8 end;      /* offset of the end of the instruction */
    u16 target;  /* piece */
    u32 addend;
};
struct piece {
    u8 bytes[PIECE_BYTES];
    u8 length, nfixups;
    struct fixup fixups[PIECE_FIXUPS];
    bool dropped;
};
/* Pieces that lie one after the other; the last chunk's end goes to the first. */
struct chunk {
    u16 first, count;
    u16 offset; /* in the code */
    bool function;
};
struct program {
    struct image image; /* all but code, skip, resume and tables */
    struct piece pieces[MAX_PIECES];
    struct chunk chunks[MAX_CHUNKS];
    unsigned npieces, nchunks, main_chunks, ntables;
    u16 tables[MAX_TABLES][8]; /* pieces */
    struct {
        u16 piece, at;
    } sites[MAX_SITES];
    unsigned nsites;
};

/* ---- pieces.c ---- */

void program_generate(u64 seed, struct program *p);

/* ---- program.c ---- */

/* Behind each instruction of these bytes of the code is the next, where the system goes on after a fault. */
void image_note_skips(struct image *image, unsigned at, unsigned end);
/* Fill in the rest of the image. */
void program_assemble(struct program *p);

/* ---- cases.c ---- */

/* A program as text: how it runs and what it starts with, as words; and runs of code, OFFSET=BYTES. */
struct written_program {
    const char *setup, *code;
};
extern const struct written_program written_programs[];
extern const size_t written_program_count;
void text_read_program(const struct written_program *text, struct image *image, struct schedule *schedule);
void text_write_program(FILE *to, const struct image *image, const struct schedule *schedule);

/* ---- shrink.c ---- */

/* Whether a program runs alike on both engines. */
typedef bool agree_fn(const struct image *image, const struct schedule *schedule);
/* Drop and simplify what the failure does not need. */
void shrink_program(struct program *p, struct schedule *schedule, agree_fn *agree);

/* ---- listing.c ---- */

/* Disassemble one instruction; returns its length, at least 1. */
unsigned list_instruction(FILE *to, u64 rip, const u8 *bytes, unsigned available);
/* Runs of code in the image. */
void list_image(FILE *to, const struct image *image);

#endif
