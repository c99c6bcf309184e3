/* QEMU's isa-debug-exit: writing V to its ports ends the program with the exit status (V << 1) | 1. Reads give 0. */
#ifndef DEV_DEBUG_EXIT_H
#define DEV_DEBUG_EXIT_H

#include "machine/device.h"

/* Property iobase: first of four ports, any width. */
extern const struct device_class debug_exit_class;

#endif
