/* Snippets in real mode, for 32-bit kernels: the same contexts, with real-mode segments. */
#ifndef GUEST_REAL_H
#define GUEST_REAL_H

/* Where the code and data that the way to real mode needs is: below 64 KiB. */
#define REAL_BLOB 0x8000

#ifndef __ASSEMBLER__
#include "guest.h"

/* How to enter it. */
struct real_mode {
    bool big;      /* DS, ES, FS and GS have a limit of 4 GiB ("unreal") */
    u16 idt_limit; /* 3FFh is usual */
};

/* A context in real mode: the code is at REAL_CODE, which is CS:0; DS and ES are REAL_DATA, SS is REAL_STACK. */
struct context real_context(struct code code);

/* Run until an interrupt. What it was is in the vector table's terms; there are no error codes. `outer` is false. */
const struct trap *run_real(const struct context *context, struct real_mode mode);
const struct trap *run_in_real_mode(const struct context *context);

/* Let vector `vector` go to REAL_CODE:offset, or (reset) end the run as all vectors do at first. */
void set_vector(int vector, u16 offset);
void reset_vectors(void);
#endif
#endif
