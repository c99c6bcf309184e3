/*
 * Breakpoints: what the debug registers watch, and debug exceptions (SDM 3B chapter 18).
 *
 * Nothing is looked at where nothing is armed:
 * - execute breakpoints: a block ends before an armed address, and no link or jump table leads to the block that begins
 *   there (block_cut), so that the loop sees every arrival at it;
 * - data breakpoints: no TLB entry of the page is direct, so that each access takes the slow path of mem.c, which tells
 *   interp_debug_access;
 * - I/O breakpoints: the port instructions ask.
 *
 * Traps are collected while the instruction runs (c->debug.hits) and dropped when it faults. At the next instruction
 * boundary they go to vcpu_state.pending_debug, where they wait for the end of a MOV-SS shadow, and to DR6 when #DB is
 * delivered.
 */
#ifndef ENGINE_INTERP_DEBUG_H
#define ENGINE_INTERP_DEBUG_H

#include "engine/interp/mem.h"

/* SDM 3B 18.2.3, 18.2.4; 18.4.1 for IA32_DEBUGCTL. */
enum { DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15, DR6_BREAKPOINTS = 0xf, DR6_TRAPS = 0xe00f };
#define DR6_ONES 0xffff0ff0ull
enum { DR7_LOCAL = 0x155, DR7_GD = 1 << 13, DR7_ONES = 1 << 10, DR7_WRITABLE = 0xffff23ff };
enum { DEBUGCTL_BTF = 1 << 1 };

/* DR0 to DR3, DR7 or CR4.DE changed, or all of the state. */
void interp_debug_changed(struct interp *c);

/* Whether a TLB entry of the page at `lin` must not be direct. */
bool interp_debug_page(const struct interp *c, u64 lin);
/* A data access of the instruction of cell `i` (NULL: of the delivery of an event), which may cross a page. */
void interp_debug_access(struct interp *c, const struct cell *i, u64 lin, u64 last, enum mem_access access);
/* An access to a port, after it. */
void interp_debug_port(struct interp *c, const struct cell *i, u32 port, unsigned size);
/* Debug traps (bits of DR6) of the instruction of cell `i`: the block is left after it. */
void interp_debug_hit(struct interp *c, const struct cell *i, u64 dr6);

/* At an instruction boundary: what the last instruction hit is pending from now on. */
void interp_debug_collect(struct interp *c);
/* The instruction did not happen after all: what it hit is forgotten. */
void interp_debug_drop(struct interp *c);
/* The execute breakpoints at the next instruction (DR6.B0 to B3), if one of them is enabled. */
u64 interp_debug_code(const struct interp *c);
/* What every #DB does to the registers: `dr6` gives the causes. */
void interp_debug_registers(struct interp *c, u64 dr6);

#endif
