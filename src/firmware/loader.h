/*
 * Direct kernel boot: put a kernel file, told by its content, into guest memory, and the bootstrap processor in the state
 * that the format's boot protocol asks for.
 *
 *   Linux bzImage, boot protocol 2.02 and later   linux.c
 *   multiboot 1 (ELF32, ELF64, a.out kludge)      multiboot.c
 *   ELF with a PVH entry note                     pvh.c
 */
#ifndef FIRMWARE_LOADER_H
#define FIRMWARE_LOADER_H

#include "base/error.h"
#include "base/types.h"
#include "firmware/firmware.h"
#include "x86/vcpu_state.h"

struct loader_request {
    const char *kernel; /* path */
    const char
        *initrd; /* path, or NULL; for multiboot a list of modules "FILE ARGS,FILE2 ARGS2" (",,": a comma) */
    const char *cmdline; /* or NULL */
    u32 rsdp;            /* what firmware_setup gave; 0: none */
};

/*
 * Read the files and load them. `state` must be as after power-up, with its MTRRs set; everything else that the boot protocol
 * fixes is written. -1, with one sentence that names the file, on anything that is wrong with a file or does not fit in the
 * memory; guest memory is then partly written. The files are read anew each time, so this serves resets too.
 */
MUST_CHECK int loader_load(const struct loader_request *request, const struct firmware_config *config,
                           struct vcpu_state *state, struct error *err);

#endif
