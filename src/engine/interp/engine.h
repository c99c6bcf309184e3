/*
 * The interpreter: the reference semantics of the CPU, complete, and what other engines fall back on.
 */
#ifndef ENGINE_INTERP_ENGINE_H
#define ENGINE_INTERP_ENGINE_H

#include "machine/engine.h"

extern const struct engine_ops interp_engine;

#endif
