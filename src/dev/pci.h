/*
 * Conventional PCI: one bus with configuration mechanism #1, and the part that every function on it has: configuration
 * space with masks, base address registers that map and unmap as they are written, capabilities, MSI, MSI-X, INTx.
 *
 * A device embeds a struct pci_device, describes it (pci_init, then bars and capabilities), and puts it on the bus with
 * pci_register. Everything here is called with the device lock held or before the VM runs.
 */
#ifndef DEV_PCI_H
#define DEV_PCI_H

#include "base/error.h"
#include "base/types.h"
#include "machine/io.h"
#include "machine/irq.h"
#include "machine/memory.h"
#include "state/state.h"

/* Configuration header (PCI 3.0 section 6.1, 6.2). */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* three bytes: interface, subclass, class */
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_CONFIG_SIZE = 256,
};
enum {
    PCI_COMMAND_IO = 1 << 0,
    PCI_COMMAND_MEMORY = 1 << 1,
    PCI_COMMAND_MASTER = 1 << 2,
    PCI_COMMAND_PARITY = 1 << 6,
    PCI_COMMAND_SERR = 1 << 8,
    PCI_COMMAND_INTX_DISABLE = 1 << 10,
};
enum { PCI_STATUS_INTERRUPT = 1 << 3, PCI_STATUS_CAPABILITIES = 1 << 4 };
enum { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

enum { PCI_BARS = 6, PCI_MSIX_MAX = 32 };
enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

/* Priorities in the memory map: what the host bridge decodes as RAM covers what is on the buses behind it, and there the
   fixed addresses of chipset and ROM (0) cover whatever a guest puts into a BAR. */
enum { MEM_PRIORITY_BAR = -10, MEM_PRIORITY_RAM = 10 };

struct pci_bar {
    enum pci_bar_kind kind;
    u64 size; /* power of two; memory: 16 at least, I/O: 4..256 */
    const struct io_ops *ops;
    void *opaque;
    bool mapped;
    u64 address; /* while mapped */
    struct mem_region region;
};

struct pci_bus;

struct pci_device {
    u8 config[PCI_CONFIG_SIZE];
    bool intx;                        /* the device asks for its interrupt pin */
    u32 msix_table[4 * PCI_MSIX_MAX]; /* address, address high, data, control */
    u32 msix_pending;
    u8 reset_config[PCI_CONFIG_SIZE]; // not saved: description
    u8 writable[PCI_CONFIG_SIZE];     // not saved: description, bits that a write sets
    u8 clearable[PCI_CONFIG_SIZE];    // not saved: description, bits that writing 1 clears
    struct pci_bar bars[PCI_BARS];    // not saved: description; where they are follows from config
    u8 msi_cap, msix_cap;             // not saved: description, offset of the capability or 0
    u8 msix_vectors;                  // not saved: description
    u8 devfn;                         // not saved: wiring
    struct pci_bus *bus;              // not saved: wiring
    const char *name;                 // not saved: wiring
    /* What byte `reg` becomes when `value`, masked already, is written over `old`. May be NULL. */
    u8 (*config_filter)(struct pci_device *pci, unsigned reg, u8 old, u8 value); // not saved: description
    /* Bytes [offset, offset+size) are about to be read, or were written. May be NULL. */
    void (*config_reading)(struct pci_device *pci, unsigned offset, unsigned size); // not saved: description
    void (*config_written)(struct pci_device *pci, unsigned offset, unsigned size); // not saved: description
};
extern const struct state_table pci_device_state_table;

struct pci_bus {
    u32 address;                        /* CONFADDR, port CF8h */
    struct memory *memory;              // not saved: wiring
    struct port_map *ports;             // not saved: wiring
    struct irq_router *router;          // not saved: wiring
    struct pci_device *devices[256];    // not saved: wiring, by devfn
    void (*intx_changed)(void *opaque); // not saved: wiring of the PIRQ router
    void *intx_opaque;                  // not saved: wiring
    const struct io_ops *reset_ops;     // not saved: wiring; byte accesses to CF9h, which lies under CONFADDR
    void *reset_opaque;                 // not saved: wiring
};
extern const struct state_table pci_bus_state_table;

static inline unsigned pci_devfn(unsigned slot, unsigned function)
{
    return slot << 3 | function;
}

/* ---- The bus ---- */

/* Claim ports CF8h..CFFh. The three parts of the machine must outlive the bus. */
MUST_CHECK int pci_bus_init(struct pci_bus *bus, struct memory *memory, struct port_map *ports,
                            struct irq_router *router, struct error *err);

/* Level of PIRQ `n` (0..3): the INTx pins that pc_pirq (machine/pc_map.h) wires to it. */
bool pci_bus_pirq(const struct pci_bus *bus, unsigned n);

/* ---- A function: description ---- */

struct pci_ids {
    u16 vendor, device;
    u16 subsystem_vendor, subsystem;
    u32 class_code; /* 24 bits: class, subclass, interface */
    u8 revision;
};

/* Zero everything and fill in the header; the command register's I/O, memory, master, parity, SERR and INTx-disable bits
   are writable. `name` must outlive it. */
void pci_init(struct pci_device *pci, const struct pci_ids *ids, const char *name);

/* Interrupt pin: 1 is INTA. */
void pci_set_pin(struct pci_device *pci, u8 pin);

/* Base address register `n`; a 64-bit one takes n + 1 as well. */
void pci_add_bar(struct pci_device *pci, unsigned n, enum pci_bar_kind kind, u64 size,
                 const struct io_ops *ops, void *opaque);

/* Enter a capability of `size` bytes at `offset` in the list; the caller fills in what follows its two-byte head. */
void pci_add_capability(struct pci_device *pci, u8 id, u8 offset, u8 size);

/* MSI with 64-bit address and per-vector masks, 24 bytes at `offset`; `vectors` a power of two up to 32. */
void pci_add_msi(struct pci_device *pci, u8 offset, unsigned vectors);

/* MSI-X, 12 bytes at `offset`, up to PCI_MSIX_MAX vectors, with table and PBA in memory BAR `bar` of its own (4 KiB). */
void pci_add_msix(struct pci_device *pci, u8 offset, unsigned bar, unsigned vectors);

/* Little-endian access to the description. */
void pci_put16(struct pci_device *pci, unsigned offset, u16 value);
void pci_put32(struct pci_device *pci, unsigned offset, u32 value);
u16 pci_get16(const struct pci_device *pci, unsigned offset);
u32 pci_get32(const struct pci_device *pci, unsigned offset);

/* The description is complete: config as it is now is what reset restores. Fails when the place is taken. */
MUST_CHECK int pci_register(struct pci_device *pci, struct pci_bus *bus, unsigned devfn, struct error *err);

/* ---- A function: at work ---- */

/* Reset: configuration as described, BARs unmapped, nothing pending. */
void pci_reset(struct pci_device *pci);

/* Accesses to configuration space; `size` 1, 2 or 4, not beyond its end. */
u32 pci_config_read(struct pci_device *pci, unsigned offset, unsigned size);
void pci_config_write(struct pci_device *pci, unsigned offset, unsigned size, u32 value);

/* Drive the interrupt pin. Command register, MSI and MSI-X decide whether that is seen. */
void pci_set_intx(struct pci_device *pci, bool level);

bool pci_msi_enabled(const struct pci_device *pci);
bool pci_msix_enabled(const struct pci_device *pci);
/* Send the message of a vector, or leave it pending while masked. Out-of-range vectors are ignored. */
void pci_msi_send(struct pci_device *pci, unsigned vector);
void pci_msix_send(struct pci_device *pci, unsigned vector);

/* Whether the function may access memory: bus master enable. */
bool pci_master(const struct pci_device *pci);

#endif
