/*
 * What firmware does before a kernel starts: chips set up, and the tables that describe the machine.
 *
 * A VM with `--firmware` runs a ROM (firmware_rom_load) and needs nothing else of this. A VM with `--kernel` has no ROM:
 * on a cold boot and on every reset, after the devices were reset, its board calls
 *
 *     firmware_setup            PCI BARs, interrupt routing, BIOS data area, ACPI, MP, PIR and SMBIOS tables
 *     firmware_setup_cpu        for each vCPU: the MTRRs
 *     firmware_setup_apic       the bootstrap processor's local APIC
 *     loader_load (loader.h)    kernel, initrd, command line; entry state of the bootstrap processor
 *
 * The VM is not running. Device lock held, or nobody else there, for all of them but firmware_setup_apic. Nothing here keeps
 * state.
 */
#ifndef FIRMWARE_FIRMWARE_H
#define FIRMWARE_FIRMWARE_H

#include "base/error.h"
#include "base/types.h"
#include "machine/io.h"
#include "machine/memory.h"
#include "machine/vcpu.h"
#include "x86/vcpu_state.h"

/* All that firmware knows of the machine that it stands in (a pc-1: machine/pc_map.h). Filled by the board; borrowed. */
struct firmware_config {
    struct memory *memory;
    struct port_map *ports; /* PCI configuration and chip set-up go through ports; NULL (tests): left out */
    u64 ram_size;           /* bytes; FIRMWARE_RAM_MIN or more */
    unsigned cpus;          /* 1..FIRMWARE_CPUS_MAX; APIC IDs are 0..cpus-1 */
    u32 cpuid_signature;    /* CPUID leaf 1 EAX */
    u32 cpuid_features;     /* CPUID leaf 1 EDX */
    unsigned phys_bits;     /* width of physical addresses, 32..52 */
    bool long_mode;         /* the CPU model has it: 64-bit kernels are entered in it */
    u8 serial_ports;        /* bit n: there is a COM(n+1); as in pc_serial_port() */
    bool fw_cfg;            /* there is a fw_cfg device */
};
enum { FIRMWARE_CPUS_MAX = 64 };
#define FIRMWARE_RAM_MIN MIB(1)

/* One stretch of the memory map, in the layout of INT 15h E820h (ACPI 15.1). */
struct e820_entry {
    u64 start, size;
    u32 type; /* enum e820_type */
} __attribute__((packed));
enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };
enum { FIRMWARE_E820_MAX = 8 };

/* Fill the memory map, sorted; returns the number of entries. */
unsigned firmware_e820(const struct firmware_config *config, struct e820_entry map[FIRMWARE_E820_MAX]);

/* The extended BIOS data area, 1 KiB up to A0000h: the kernel's RAM below 640 KiB ends here. */
enum { FIRMWARE_EBDA = 0x9fc00, FIRMWARE_EBDA_SIZE = 0x400 };

/*
 * Set up the chips and write every table into guest memory. `*rsdp` gets the guest-physical address of the ACPI root
 * pointer (may be NULL). -1: the configuration is out of range.
 */
MUST_CHECK int firmware_setup(const struct firmware_config *config, u32 *rsdp, struct error *err);

/* Give one vCPU, whose state is that after power-up, the MTRRs that firmware sets: RAM write-back, the PCI hole not
   cached. */
void firmware_setup_cpu(const struct firmware_config *config, struct vcpu_state *state);

/*
 * Put the bootstrap processor's local APIC, as it is after a reset, in virtual wire mode (MP 1.4 3.6.2.2): interrupts of the
 * i8259 come in by LINT0, NMI by LINT1. Kernels without APIC support never look at it. Device lock not held: the APIC
 * takes it.
 */
void firmware_setup_apic(const struct vcpu_intc_ops *intc, void *intc_opaque);

/* A firmware ROM: the whole file below 4 GiB, and its last 128 KiB below 1 MiB as well. */
struct firmware_rom {
    struct mem_block *block; /* owned by the memory */
    struct mem_region high, alias;
};
enum { FIRMWARE_ROM_MIN = 64 << 10, FIRMWARE_ROM_MAX = 16 << 20 };

/*
 * Read a ROM file into a new block and add its two regions with `priority`; `rom` must outlive them, and the caller commits
 * the memory map. -1, with the file named: it cannot be read, or has a size that is no multiple of 64 KiB from
 * FIRMWARE_ROM_MIN to FIRMWARE_ROM_MAX.
 */
MUST_CHECK int firmware_rom_load(struct firmware_rom *rom, struct memory *memory, const char *path,
                                 int priority, struct error *err);

#endif
