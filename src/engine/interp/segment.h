/*
 * Segments: descriptors, loads, stacks, and far transfers of control (SDM 3A chapters 3, 5, 6; SDM 2 for each instruction).
 */
#ifndef ENGINE_INTERP_SEGMENT_H
#define ENGINE_INTERP_SEGMENT_H

#include "engine/interp/interp.h"

/* System descriptors (SDM 3A table 3-2). */
enum { DESC_TSS16 = 1, DESC_LDT = 2, DESC_CALL16 = 4, DESC_TASK_GATE = 5, DESC_TSS32 = 9, DESC_CALL32 = 12 };
enum { TYPE_BUSY = 2 }; /* of a TSS */

static inline bool null_selector(u16 selector)
{
    return !(selector & ~3);
}
static inline unsigned dpl_of(const struct seg *seg)
{
    return seg->attr >> SEG_DPL_SHIFT & 3;
}
static inline bool is_code(const struct seg *seg)
{
    return (seg->attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool is_conforming(const struct seg *seg)
{
    return seg->attr & SEG_EXPAND_DOWN;
}
static inline bool is_writable_data(const struct seg *seg)
{
    return (seg->attr & (SEG_S | SEG_CODE | SEG_WRITE)) == (SEG_S | SEG_WRITE);
}
/* The error code for a selector; `ext`: 1 while an event is delivered that the program did not ask for. */
static inline u32 selector_error(u16 selector, u32 ext)
{
    return (selector & ~3u) | ext;
}

/* The 8 bytes of the descriptor that `selector` (not null) names; outside its table raises `vector` with selector | ext. */
u64 interp_descriptor(struct interp *c, const struct cell *i, u16 selector, u8 vector, u32 ext);
/* The same without raising: false when it is outside the table. */
bool interp_find_descriptor(struct interp *c, const struct cell *i, u16 selector, u64 *descriptor);
/* The upper 8 bytes of a 16-byte system descriptor in IA-32e mode. */
u64 interp_descriptor_high(struct interp *c, const struct cell *i, u16 selector, u8 vector, u32 ext);
struct seg seg_from_descriptor(u64 descriptor, u16 selector);
void interp_mark_accessed(struct interp *c, const struct cell *i, u16 selector, u64 descriptor);

/* As real mode and virtual-8086 mode load a segment register. */
void interp_load_real(struct interp *c, unsigned seg, u16 selector);
/* MOV and POP to a segment register, LxS; not CS. The caller ends with END_LOOP. */
void interp_load_segment(struct interp *c, const struct cell *i, unsigned seg, u16 selector);
/* LLDT, LTR. */
void interp_load_ldtr(struct interp *c, const struct cell *i, u16 selector);
void interp_load_tr(struct interp *c, const struct cell *i, u16 selector);

/* A stack being pushed to or popped from before the registers change. */
struct stack {
    struct seg seg;
    u64 sp;
    u8 cpl;      /* whose rights its accesses have */
    bool flat64; /* 64-bit mode: no segment */
    u32 error;   /* of #SS */
};
struct stack interp_stack(const struct interp *c);
void stack_push(struct interp *c, const struct cell *i, struct stack *st, unsigned size, u64 value);
u64 stack_pop(struct interp *c, const struct cell *i, struct stack *st, unsigned size);
/* Raise what a push at the current place would raise. */
void stack_probe(struct interp *c, const struct cell *i, const struct stack *st, unsigned size);
/* Move SP without an access. */
void stack_skip(struct stack *st, u64 bytes);

/* The stack that the TSS holds for privilege level `cpl` (0..2), checked. IA-32e mode: RSPn or, with ist != 0, that IST. */
struct stack interp_tss_stack(struct interp *c, const struct cell *i, unsigned cpl, unsigned ist, u32 ext);

/* Load CS for a transfer to privilege level `cpl`, and RIP, after all checks. */
void interp_commit_cs(struct interp *c, const struct cell *i, struct seg seg, unsigned cpl, u64 rip);
void interp_commit_stack(struct interp *c, const struct stack *st);
/* The RIP of a transfer: within the limit, or canonical; raises #GP(0 | ext). */
void interp_check_rip(struct interp *c, const struct cell *i, const struct seg *cs, u64 rip, u32 ext);

/* JMP, CALL, RET and IRET in all modes; they set s->rip and the caller ends with END_LOOP. `size`: operand size. */
void interp_far_jump(struct interp *c, const struct cell *i, u16 selector, u64 offset);
void interp_far_call(struct interp *c, const struct cell *i, u16 selector, u64 offset, unsigned size);
void interp_far_return(struct interp *c, const struct cell *i, unsigned size, u16 pop_bytes);
void interp_iret(struct interp *c, const struct cell *i, unsigned size);

#endif
