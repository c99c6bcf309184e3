/*
 * Pieces of the system instructions that other files need.
 */
#ifndef ENGINE_INTERP_SYSTEM_H
#define ENGINE_INTERP_SYSTEM_H

#include "engine/interp/interp.h"

/* Raise #GP(0) unless IOPL or the TSS's I/O bitmap permits `size` ports from `port` on (SDM 1 19.5). */
void interp_check_port(struct interp *c, const struct cell *i, u32 port, unsigned size);
/* The PDPTE registers that PAE paging loads with CR3; a reserved bit in a present one raises #GP(error). */
void interp_read_pdptrs(struct interp *c, const struct cell *i, u64 cr3, u32 error, u64 entries[4]);

/* Debug registers (SDM 3B 18.2). */
enum { DR7_GD = 1 << 13, DR6_BD = 1 << 13 };
enum { DR7_LOCAL = 0x155, DR6_BT = 1 << 15 }; /* L0..L3 and LE; task switch */

#endif
