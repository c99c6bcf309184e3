/*
 * Pieces of the system instructions that other files need.
 */
#ifndef ENGINE_INTERP_SYSTEM_H
#define ENGINE_INTERP_SYSTEM_H

#include "engine/interp/interp.h"

/* Raise #GP(0) unless IOPL or the TSS's I/O bitmap permits `size` ports from `port` on (SDM 1 19.5). */
void interp_check_port(struct interp *c, const struct cell *i, u32 port, unsigned size);

#endif
