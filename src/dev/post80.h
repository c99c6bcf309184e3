/*
 * Port 80h: the latch that a POST card shows. Old software also writes to it to pass the time of an ISA bus cycle; nothing
 * waits here.
 */
#ifndef DEV_POST80_H
#define DEV_POST80_H

#include "machine/device.h"
#include "state/state.h"

struct post80 {
    u8 code; /* last byte written; reads back, as the DMA page register does that has this address on an AT */
};
extern const struct state_table post80_state;

/* The device. What is written is logged: PLASTRON_LOG=dev/post80:debug. */
extern const struct device_class post80_class;

#endif
