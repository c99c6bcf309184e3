/*
 * What the kernel formats share: reading files into guest memory, finding places there, ELF, and entry states. Private to
 * the loaders.
 */
#ifndef FIRMWARE_LOAD_H
#define FIRMWARE_LOAD_H

#include "firmware/bytes.h"
#include "firmware/firmware.h"
#include "firmware/loader.h"
#include "machine/pc_map.h"

/* --- file.c: a file that goes to guest memory ---------------------------------------------------------------------- */

struct load_file {
    const char *what; /* "kernel", "initrd", ...: how errors call it */
    const char *name; /* path; borrowed */
    int fd;
    u64 size;
};

/* Open a regular file for reading; load_file_close releases it. */
MUST_CHECK int load_file_open(struct load_file *file, const char *what, const char *path, struct error *err);
void load_file_close(struct load_file *file);

/* Set `err` to "WHAT NAME: TEXT"; returns -1. */
int load_file_bad(const struct load_file *file, struct error *err, const char *format, ...) PRINTF_LIKE(3, 4);

/* Read [offset, offset+len): all of it, or -1 (the file is truncated, or cannot be read). */
MUST_CHECK int load_file_read(const struct load_file *file, u64 offset, void *to, u64 len, struct error *err);
/* The same into guest memory, without a copy. The range must be RAM or the place of a ROM. */
MUST_CHECK int load_file_to_memory(const struct load_file *file, u64 offset, u64 len, struct memory *memory,
                                   u64 phys, struct error *err);

/* --- place.c: who lies where in guest memory ------------------------------------------------------------------------ */

enum { PLACE_MAX = 192, PLACE_LOW = 0x1000 /* vectors and BIOS data lie below */ };

struct placement {
    u64 low_end, high_end; /* RAM: [0, FIRMWARE_EBDA), [1 MiB, low_end), [4 GiB, high_end) */
    unsigned count;
    struct {
        u64 start, end;
    } used[PLACE_MAX];
};

void place_init(struct placement *place, u64 ram_size);

/* Claim [start, start+size) for a part of `file`. -1 with what to do: it is not all RAM, or taken already. */
MUST_CHECK int place_claim(struct placement *place, const struct load_file *file, u64 start, u64 size,
                           struct error *err);

/* Find and claim `size` bytes within [from, to), as high or as low as can be; `align` is a power of two. false: there is no
   room. The range must lie in one stretch of RAM; `to` may be above its end. */
bool place_high(struct placement *place, u64 size, u64 align, u64 from, u64 to, u64 *start);
bool place_low(struct placement *place, u64 size, u64 align, u64 from, u64 to, u64 *start);

/* --- loader.c --------------------------------------------------------------------------------------------------------- */

/* The start of a kernel file, which tells its format: multiboot headers lie in the first 8 KiB. */
enum { LOAD_HEAD_SIZE = 8192 };

struct loader {
    const struct loader_request *request;
    const struct firmware_config *config;
    struct vcpu_state *state;
    struct load_file kernel;
    struct placement place;
    u8 head[LOAD_HEAD_SIZE]; /* zeroes after the end of the file */
};

/* Copy `len` bytes to a new place below 640 KiB, as high as can be. -1, naming the kernel: no room there. */
MUST_CHECK int loader_put_low(struct loader *loader, const void *bytes, u64 len, u64 align, u64 *start,
                              struct error *err);
/* Zero guest memory that was claimed. */
void loader_zero(struct loader *loader, u64 start, u64 size);
/* The command line, never NULL. */
const char *loader_cmdline(const struct loader *loader);
/* Place a whole file of [from, to), high or low as told; -1, naming the file: no room. */
MUST_CHECK int loader_put_file(struct loader *loader, const struct load_file *file, u64 from, u64 to,
                               bool high, u64 *start, struct error *err);

/* The formats. `*_detect` looks at the head alone. */
bool linux_detect(const struct loader *loader);
MUST_CHECK int linux_load(struct loader *loader, struct error *err);
bool multiboot_detect(const struct loader *loader);
MUST_CHECK int multiboot_load(struct loader *loader, struct error *err);
MUST_CHECK int pvh_load(struct loader *loader, struct error *err);

/* --- elf.c -------------------------------------------------------------------------------------------------------------- */

enum { ELF_MAX_SEGMENTS = 128, ELF_LOAD = 1, ELF_NOTE = 4 };

struct elf_segment {
    u32 type; /* ELF_LOAD, ELF_NOTE or others */
    u64 offset, vaddr, paddr, filesz, memsz;
};
struct elf_image {
    u64 entry;
    unsigned count;
    struct elf_segment segments[ELF_MAX_SEGMENTS];
};

bool elf_detect(const struct loader *loader);
/* Read the headers of an x86 ELF executable. */
MUST_CHECK int elf_open(struct loader *loader, struct elf_image *image, struct error *err);
/* Put the loadable segments at their physical addresses. */
MUST_CHECK int elf_load(struct loader *loader, const struct elf_image *image, struct error *err);
/* The physical address of the entry point, which may be given as a virtual one. */
u64 elf_entry(const struct elf_image *image);

/* --- entry.c: the bootstrap processor when the kernel starts --------------------------------------------------------- */

/* Selectors of the GDT that the entry states load; Linux's boot protocol fixes the first two. */
enum { ENTRY_CS = 0x10, ENTRY_DS = 0x18, ENTRY_TR = 0x20 };

/* 32-bit protected mode, flat segments, paging off, interrupts off; general registers are zero but for RIP. */
MUST_CHECK int entry_protected(struct loader *loader, u32 entry, struct error *err);
/* 64-bit mode with the low 4 GiB mapped one to one. */
MUST_CHECK int entry_long(struct loader *loader, u64 entry, struct error *err);
/* Real mode at code_segment:0, the other segments as given. */
void entry_real(struct loader *loader, u16 code_segment, u16 data_segment, u16 sp);

#endif
