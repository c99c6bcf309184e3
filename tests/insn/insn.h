/*
 * Instructions against the real CPU: one case is one instruction with all the state that it sees. It runs natively in this
 * process and in a guest of the interpreter, at the same addresses, and both outcomes are compared.
 *
 *   native.c     the native leg: sigreturn into the instruction, a signal handler takes the outcome
 *   guest.c      the other leg: a VM in long mode, user mode, no devices
 *   case.c       what both legs make of a case: segments, registers
 *   encode.c     bytes of an instruction from its row in the opcode table
 *   values.c     edge values
 *   generate.c   state around the bytes: registers from edge values, memory operands aimed into the data window
 *   constraints.c what some instructions need besides, so that they do more than fault
 *   exclusions.c what cannot be compared so, and why
 *   cases.c      cases written by hand
 *   text.c       cases as text, read and written
 *   compare.c    what differs between two outcomes
 *   shrink.c     from a failing case to a minimal one
 *   golden.c     cases with their outcome, for hosts that lack the instruction
 *   lengths.c    instructions at the end of the mapped code, and too long ones
 *   test_insn.c  runs them all, reports the rows that have no case; runs one case again by hand
 */
#ifndef TESTS_INSN_H
#define TESTS_INSN_H

#include <stdio.h>

#include "base/types.h"
#include "x86/decode.h"
#include "x86/vcpu_state.h"

/*
 * Where things are, in both legs. The code pages are executable, readable and full of INT3, the page after them is not mapped. The data window is two writable pages, a read-only one, and again nothing.
 */
enum {
    CODE_BASE = 0x10000000,
    CODE_SIZE = 0x2000,
    CODE_OFFSET = 0x800, /* of most instructions */
    DATA_BASE = 0x20000000,
    DATA_WRITABLE = 0x2000,
    DATA_SIZE = 0x3000,
    /* 16-bit code has its segments from the LDT: CS begins at CODE_BASE; DS, ES and SS here, 64 KiB each. */
    DATA_BASE16 = DATA_BASE - 0x4000,
    GS_BASE = DATA_BASE - 0x38,
};

/* Segments in the native leg's LDT. */
enum {
    LDT_CODE16,
    LDT_DATA16,
    LDT_GS, /* what GS may be */
    LDT_GS_WRITABLE = LDT_GS,
    LDT_GS_READ_ONLY,
    LDT_GS_DOWN,
    LDT_GS_DOWN16,
    LDT_GS_CODE,
    LDT_COUNT
};
#define LDT_SELECTOR(n) ((n) << 3 | 7)
extern const struct seg ldt_segments[LDT_COUNT];

/* Which segments the code has, outside 64-bit mode. */
enum layout {
    LAYOUT_USUAL,       /* flat ones in 32-bit code, 64 KiB each in 16-bit code */
    LAYOUT_LIMITED,     /* DS and ES are as GS is */
    LAYOUT_OTHER_STACK, /* SS of 64 KiB in 32-bit code, flat in 16-bit code */
    LAYOUT_COUNT
};

/* Components of XCR0 and of an XSAVE area. */
enum { COMPONENT_X87 = 1, COMPONENT_SSE = 2, COMPONENT_YMM = 4 };

struct insn_state {
    u8 fx[512] __attribute__((aligned(16))); /* as FXSAVE64 stores it: x87, MXCSR, XMM */
    u8 ymm[16][16];                          /* upper halves; zeros where the host has no AVX */
    u64 gpr[16];
    u64 rip; /* in 16-bit code, from CODE_BASE on */
    u64 rflags;
};

struct insn_case {
    u8 mode;   /* enum x86_code_size */
    u8 layout; /* enum layout */
    u8 gs;     /* LDT_GS_* */
    u8 length;
    u8 code[X86_MAX_INSN];
    struct x86_insn insn; /* decoded */
    struct insn_state in;
    u8 data[DATA_WRITABLE];
    u64 seed; /* what the generator made it from */
};

/* How the instruction ended: vector 3 when it ran and met the INT3 behind it, else the exception. */
struct insn_outcome {
    struct insn_state s;
    unsigned vector;
    u64 error, cr2;
    const u8 *data; /* the window of the leg, until its next case */
};
enum { VECTOR_TIMEOUT = 256 };

/* Find the row of the bytes. false: there is none, or it is longer or shorter. */
bool case_decode(struct insn_case *test);
bool x86_is_prefix(u8 byte, u8 mode);
/* In the state that text.c knows as usual, executes without touching what is not ours. */
bool case_is_harmless(const struct insn_case *test);
/* What of a general register counts. */
u64 case_register_mask(const struct insn_case *test, unsigned n);
/* A segment register of the case. The base is what counts in the mode. */
struct seg case_segment(const struct insn_case *test, unsigned n);
u64 case_segment_base(const struct insn_case *test, unsigned n);
static inline bool case_stack16(const struct insn_case *test)
{
    return test->mode != X86_CODE64 && !(case_segment(test, SEG_SS).attr & SEG_DB);
}

/* ---- legs ---- */

/* Map the windows, install handlers. `read_only`: what the last page of the data window holds for good. */
void native_start(const u8 *read_only);
/* Take the signals (again: cmocka takes them for itself at the start of every test). */
void native_catch(void);
void native_run(const struct insn_case *test, struct insn_outcome *out);

struct guest;
struct engine_ops;
/* `host`: CPU model that limits what the engine uses of the host; NULL: none. */
struct guest *guest_new(const struct engine_ops *engine, const char *host, const u8 *read_only);
u64 guest_components(const struct guest *guest);
void guest_free(struct guest *guest);
/* From now on the interpreter takes (or not) the host for one that has no vector instructions beyond SSE2. */
void guest_compute(struct guest *guest, bool computed);
void guest_run(struct guest *guest, const struct insn_case *test, struct insn_outcome *out);

/* ---- making cases ---- */

/* A stream of random numbers; every stream of one seed is the same. */
struct random {
    u64 state;
};
u64 random_next(struct random *r);
static inline u64 random_below(struct random *r, u64 n)
{
    return random_next(r) % n;
}
static inline bool random_chance(struct random *r, unsigned one_in)
{
    return !random_below(r, one_in);
}

u64 integer_value(struct random *r);
void extended_value(struct random *r, u8 to[10]);
void vector_value(struct random *r, u8 to[16]);
/* 16 bytes of a memory operand. */
void random_operand(struct random *r, u16 op, u8 to[16]);
void random_fx(struct random *r, u8 fx[512]);
void random_ymm(struct random *r, struct insn_state *s);

/* An instruction with the displacement of its memory operand, so that it can be aimed. */
struct encoded {
    u8 bytes[32]; /* random bytes after the end */
    unsigned length;
    unsigned disp_at, disp_size; /* 0: none */
};
/* Bytes that decode to row `op` in this mode, with prefixes and operands at random; false when none was found. */
bool encode(u16 op, u8 mode, struct random *r, struct encoded *e);

/* Random opcode bytes with random prefixes; false when they are no instruction. */
bool encode_random(u8 mode, struct random *r, struct encoded *e);

/* The initial contents of the data window, the same for every case but where operands were put. */
void data_background(u8 data[DATA_SIZE]);
/* Make the case of (op, mode, seed), or of given bytes. false: no such instruction, or one that is excluded. */
bool generate(u16 op, u8 mode, u64 seed, struct insn_case *test);
bool generate_from(const struct encoded *e, u8 mode, u64 seed, struct insn_case *test);

/* What the generator offers to constraints.c. Addresses are linear. */
u64 random_target(struct random *r);
u64 code_target(struct random *r, const struct insn_case *test);
u64 segment_offset(const struct insn_case *test, unsigned segment, u64 linear);
/* Address registers: as wide as the instruction's address size. */
void set_address_register(struct insn_case *test, unsigned reg, u64 value);
void poke(struct insn_case *test, u64 linear, const void *from, unsigned size);
void poke64(struct insn_case *test, u64 linear, u64 v);
extern const bool addresses_anywhere;
/* COMPONENT_* that the host and the guest's model have; set by main. */
extern u64 components_of_both;

/* Apply what the row asks for: registers, and the address to aim its memory operand at; then, with the address that it got,
   memory and the bytes of the instruction. */
void constrain_registers(struct insn_case *test, struct random *r, u64 *target);
void constrain_rest(struct insn_case *test, struct random *r, u64 linear);
/* `name` is one of the mnemonics of the row, or ends in * and stands for all that begin so. */
bool op_matches(u16 op, const char *name);

/* Why a row is not compared, or NULL. */
const char *excluded(u16 op);
/* The file, from the top of the sources, that tests what cannot be compared: an excluded row, or what a privileged one does
   beyond its #GP. NULL: none. */
const char *tested_by(u16 op);
/* XCR0: the components that the kernel gives to programs; 0 without XSAVE. */
u64 host_components(void);
static inline bool host_has_ymm(void)
{
    return host_components() & COMPONENT_YMM;
}
/* The host has what the row needs. */
bool host_has(u16 op);
/* The address of a page fault is not compared. */
bool address_ignored(const struct insn_case *test);
/* Not with the operand there. */
bool address_excluded(const struct insn_case *test, u64 offset);
/* Arithmetic flags that are not compared after this instruction. */
u64 flags_ignored(const struct insn_case *test);

/* ---- cases as text (text.c) ---- */

extern const char *const register_names[16];
/* Hexadecimal; returns how many. What cannot be read ends the program, here and below. */
unsigned text_read_bytes(const char *text, u8 *to, unsigned max);
void text_read_case(unsigned bits, const char *code, const char *setup, struct insn_case *test);
/* The state only; the outcome's data will be in `data`. */
void text_read_outcome(const char *text, const struct insn_case *test, struct insn_outcome *out,
                       u8 data[DATA_WRITABLE]);
void text_write_case(FILE *to, const struct insn_case *test);
void text_write_outcome(FILE *to, const struct insn_case *test, const struct insn_outcome *out);

/* Cases written by hand: bytes in hexadecimal, and the states that they meet. */
struct written_case {
    u8 bits; /* 64, 32 or 16 */
    const char *code;
    const char *setup;
};
extern const struct written_case written_cases[];
extern const size_t written_case_count;
/* Make a case of one of the states. false: there are not so many. */
bool written_case_make(const struct written_case *text, unsigned variant, struct insn_case *test);

/* ---- outcomes ---- */

/* What is compared of RFLAGS. Not RF, which the kernel changes. */
#define FLAGS_COMPARED                                                                                       \
    ((u64)(FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID))
/* How many things differ; says which, if asked. */
unsigned outcome_compare(const struct insn_case *test, const struct insn_outcome *host,
                         const struct insn_outcome *guest, bool print);
void print_bytes(const u8 *p, unsigned n);
/* Simplify a case as long as `holds` is true of it. */
void shrink(struct insn_case *test, bool (*holds)(const struct insn_case *test, void *opaque), void *opaque);

/* ---- lengths (lengths.c) ---- */

/* About `count` instructions; `run` runs a case in both legs and tells whether they agree. */
bool lengths_agree(u64 seed, u64 count, bool (*run)(const struct insn_case *test));
/* Zydis knows another length of the row, or the host may execute bytes that neither decoder knows. */
bool length_excluded(u16 op);
bool invalid_excluded(const struct x86_insn *insn, bool truncated);

/* ---- golden cases (golden.c) ---- */

/* x86-64-v2 lacks the row's feature. */
bool beyond_v2(u16 op);
void golden_record(FILE *to);
bool golden_has(u16 op);
bool golden_agrees(struct guest *guest);

#endif
