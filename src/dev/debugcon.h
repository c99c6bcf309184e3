/*
 * The debug console of Bochs and QEMU: bytes written to a port (E9h) come out at the host; reading gives E9h, by which
 * guests find it.
 */
#ifndef DEV_DEBUGCON_H
#define DEV_DEBUGCON_H

#include "machine/device.h"

enum { DEBUGCON_SIGNATURE = 0xe9 };

/* Properties: iobase; chardev (struct chardev *, required). */
extern const struct device_class debugcon_class;

#endif
