/* The translator's face to the board. */
#ifndef ENGINE_JIT_ENGINE_H
#define ENGINE_JIT_ENGINE_H

#include "machine/engine.h"

extern const struct engine_ops jit_engine;

#endif
