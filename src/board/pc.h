/*
 * The board pc-1: an i440FX/PIIX3/PIIX4 PC (machine/pc_map.h) wired from the chips of src/dev. It is the one place that
 * names concrete devices and engines.
 *
 * Boards are versioned: a later pc-2 may differ, pc-1 stays as it is, so that a snapshot finds the machine that it was
 * taken of. Which device stands in which PCI slot follows from the configuration alone.
 */
#ifndef BOARD_PC_H
#define BOARD_PC_H

#include "base/error.h"
#include "base/types.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

struct chardev;       /* host/char.h: a serial line's other end */
struct block_backend; /* host/block.h: a disk's content */

#define PC_BOARD_NAME "pc-1"

enum { PC_DISKS = 8, PC_DEBUGCONS = 8 };

struct pc_debugcon {
    struct chardev *backend;
    u16 port;
};

/* All texts are copied; backends are borrowed and must outlive the VM. */
struct pc_config {
    struct vm_config vm;
    const char *engine;   /* "interp", "jit", or "auto" or NULL for the best there is */
    const char *kernel;   /* path; NULL: none. Without kernel and firmware the memory is empty */
    const char *initrd;   /* path, or for multiboot kernels a list of modules; NULL: none */
    const char *append;   /* kernel's command line; NULL: none */
    const char *firmware; /* path of a ROM; NULL: none */
    struct chardev *serial[PC_SERIAL_PORTS]; /* NULL: the UART is there, with nothing on its line */
    struct block_backend *disks[PC_DISKS];   /* virtio-blk, in slots PC_SLOT_FIRST_FREE and up */
    unsigned ndisks;
    struct pc_debugcon debugcons[PC_DEBUGCONS];
    unsigned ndebugcons;
    bool debug_exit;     /* the isa-debug-exit device ... */
    u16 debug_exit_port; /* ... at this port */
};

/*
 * Make and wire the machine, load its kernel or firmware, and leave it at its first instruction, not running. vm_free ends
 * it. NULL with `err` set. With `for_restore` the kernel is not loaded now (its files may be gone): a snapshot's content
 * follows; a later reset loads it.
 */
struct vm *pc_new(const struct pc_config *config, bool for_restore, struct error *err);

/* The engine of a name; "auto" or NULL: the best there is. NULL with `err` when there is none. */
const struct engine_ops *pc_engine(const char *name, struct error *err);

/* Names of the engines that were built in; NULL after the last. */
const char *pc_engine_name(unsigned index);

/*
 * Input from outside; it goes through the event gate and takes effect at an instruction boundary. Any thread. false: too
 * much is waiting already.
 */
bool pc_power_button(struct vm *vm);
bool pc_reset_button(struct vm *vm);
/* Keys by the bytes that a PS/2 keyboard sends for them in scan code set 2, at most GATE_EVENT_BYTES / 2. */
bool pc_keyboard(struct vm *vm, const u8 *codes, size_t len);

#endif
