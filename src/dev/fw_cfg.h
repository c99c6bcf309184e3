/*
 * QEMU's firmware configuration device (docs/specs/fw_cfg in its tree): named pieces of read-only data that firmware and
 * drivers fetch through a selector and a data port, or by DMA.
 *
 * The content is wiring, not state: the board adds the same items for a cold boot and for a restore.
 */
#ifndef DEV_FW_CFG_H
#define DEV_FW_CFG_H

#include "base/error.h"
#include "base/types.h"
#include "machine/device.h"
#include "machine/memory.h"
#include "state/state.h"

/* Keys with a fixed meaning. A key that has no item reads as zeroes without end. */
enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00, /* "QEMU" */
    FW_CFG_ID = 0x01,        /* u32: bit 0 the port interface, bit 1 DMA */
    FW_CFG_RAM_SIZE = 0x03,  /* u64 */
    FW_CFG_NOGRAPHIC = 0x04, /* u16 */
    FW_CFG_CPUS = 0x05,      /* u16 */
    FW_CFG_BOOT_MENU = 0x0e, /* u16 */
    FW_CFG_MAX_CPUS = 0x0f,  /* u16: APIC IDs are below */
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002, /* u32: the PIT is GSI 2 */
};
enum { FW_CFG_FILES = 64, FW_CFG_ITEMS = FW_CFG_FILES + 32, FW_CFG_FILE_NAME = 56 };

struct fw_cfg_item {
    u16 key;
    u32 len;
    u8 *data; /* owned */
};

struct fw_cfg {
    u16 selector;
    u32 offset;                                 /* of the next byte in the selected item */
    u32 dma_high;                               /* upper half of the address of the next DMA descriptor */
    struct fw_cfg_item items[FW_CFG_ITEMS];     // not saved: wiring
    unsigned nitems;                            // not saved: wiring
    char names[FW_CFG_FILES][FW_CFG_FILE_NAME]; // not saved: wiring; file n has key FW_CFG_FILE_FIRST + n
    unsigned nfiles;                            // not saved: wiring
    struct memory *memory;                      // not saved: wiring
};
extern const struct state_table fw_cfg_state;

/* `memory` is where DMA goes. */
MUST_CHECK int fw_cfg_init(struct fw_cfg *fw_cfg, struct memory *memory, struct error *err);
void fw_cfg_free(struct fw_cfg *fw_cfg);
void fw_cfg_reset(struct fw_cfg *fw_cfg);

/* Add an item; the bytes are copied. -1: the key is taken, there is no room, or no memory. Wiring time only. */
MUST_CHECK int fw_cfg_add(struct fw_cfg *fw_cfg, u16 key, const void *bytes, u32 len, struct error *err);
/* Add a file, which firmware finds by name: "etc/e820". -1 also for a name that is taken or of FW_CFG_FILE_NAME bytes or
   more. */
MUST_CHECK int fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const void *bytes, u32 len,
                               struct error *err);
/* What firmware of a pc-1 asks for first: memory (also as the file etc/e820) and processors. */
MUST_CHECK int fw_cfg_add_machine(struct fw_cfg *fw_cfg, u64 ram_size, unsigned cpus, struct error *err);

/* The selector port, the data port, and the two halves of the DMA address (0, 4). Device lock held. */
void fw_cfg_select(struct fw_cfg *fw_cfg, u16 key);
u8 fw_cfg_read(struct fw_cfg *fw_cfg);
void fw_cfg_dma_write(struct fw_cfg *fw_cfg, unsigned offset, u32 value);

/* No properties. */
extern const struct device_class fw_cfg_class;

/* The chip in a device of that class, for adding items. */
struct fw_cfg *fw_cfg_of(struct device *device);

#endif
