/*
 * Pieces of the system instructions that other files need.
 */
#ifndef ENGINE_INTERP_SYSTEM_H
#define ENGINE_INTERP_SYSTEM_H

#include "engine/interp/interp.h"

/* Raise #GP(0) unless IOPL or the TSS's I/O bitmap permits `size` ports from `port` on (SDM 1 19.5). */
void interp_check_port(struct interp *c, const struct cell *i, u32 port, unsigned size);
/*
 * Virtual-8086 mode with IOPL < 3 and CR4.VME (SDM 3B 21.3): for operands of 16 bits PUSHF, POPF, IRET and INT n show VIF in
 * the place of IF. interp_virtual_if tells whether this is so, and raises #GP(0) where these instructions may not be used
 * at all. _flags is what a popped image makes of RFLAGS, with #GP(0) for TF, and for IF while VIP is set; _image is what is
 * pushed.
 */
bool interp_virtual_if(struct interp *c, const struct cell *i, unsigned size);
u64 interp_virtual_flags(struct interp *c, const struct cell *i, u64 image);
u64 interp_virtual_image(const struct interp *c);

/* The PDPTE registers that PAE paging loads with CR3; a reserved bit in a present one raises #GP(error). */
void interp_read_pdptrs(struct interp *c, const struct cell *i, u64 cr3, u32 error, u64 entries[4]);

#endif
