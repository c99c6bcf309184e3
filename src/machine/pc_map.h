/*
 * The addresses and wires of the board pc-1, as facts that board, chips and firmware tables must agree on. Constants only.
 *
 * It is the i440FX/PIIX3/PIIX4 PC: "PIIX3" cites Intel 290550 (82371SB), "PIIX4" Intel 290562 (82371AB).
 */
#ifndef MACHINE_PC_MAP_H
#define MACHINE_PC_MAP_H

#include "base/types.h"

/* Guest-physical memory. RAM fills [0, PC_LOW_RAM_END) first and goes on at PC_HIGH_RAM. */
#define PC_LOW_RAM_END  UINT64_C(0xc0000000)
#define PC_HIGH_RAM     UINT64_C(0x100000000)
#define PC_PCI_HOLE     UINT64_C(0xc0000000) /* memory BARs: [PC_PCI_HOLE, PC_PCI_HOLE_END) */
#define PC_PCI_HOLE_END UINT64_C(0xfec00000)
#define PC_IOAPIC_BASE  UINT64_C(0xfec00000)
#define PC_HPET_BASE    UINT64_C(0xfed00000)
#define PC_LAPIC_BASE   UINT64_C(0xfee00000)
#define PC_ROM_END      UINT64_C(0x100000000) /* firmware ROMs end here, 4 GiB */
#define PC_ROM_ALIAS_END                                                                                     \
    UINT64_C(0x100000) /* the last PC_ROM_ALIAS_MAX bytes of one are seen below 1 MiB too */
enum {
    PC_ROM_ALIAS_MAX = 128 << 10,
    PC_LEGACY_HOLE = 0xa0000, /* [A0000h, 100000h): VGA, option ROMs, firmware; RAM there only through PAM */
    PC_LEGACY_HOLE_END = 0x100000,
    PC_F_SEGMENT = 0xf0000, /* 64 KiB: where tables and the reset vector's alias lie */
    PC_HPET_SIZE = 0x400,
    PC_IOAPIC_SIZE = 0x1000,
    PC_LAPIC_SIZE = 0x1000,
};

/* Ports. */
enum {
    PC_PORT_PIC_MASTER = 0x20,
    PC_PORT_PIT = 0x40,
    PC_PORT_KBD_DATA = 0x60,
    PC_PORT_SYSTEM_B = 0x61,
    PC_PORT_KBD_COMMAND = 0x64,
    PC_PORT_CMOS = 0x70,
    PC_PORT_POST = 0x80,
    PC_PORT_SYSTEM_A = 0x92,
    PC_PORT_PIC_SLAVE = 0xa0,
    PC_PORT_APM_CONTROL = 0xb2, /* SMI_CMD of the FADT */
    PC_PORT_APM_STATUS = 0xb3,
    PC_PORT_DEBUGCON = 0xe9,
    PC_PORT_FPU_ERROR = 0xf0,
    PC_PORT_DEBUG_EXIT = 0xf4,
    PC_PORT_ELCR = 0x4d0, /* and 4D1h: level-triggered where the bit is set (PIIX3 2.5.1) */
    PC_PORT_FW_CFG = 0x510,
    PC_PORT_PM = 0x600, /* PM register block of the PIIX4: 64 ports (PIIX4 7.2) */
    PC_PORT_PM1_EVENT = PC_PORT_PM + 0x00,
    PC_PORT_PM1_CONTROL = PC_PORT_PM + 0x04,
    PC_PORT_PM_TIMER = PC_PORT_PM + 0x08,
    PC_PM_PORTS = 64,
    PC_PORT_SMBUS = 0x700, /* 16 ports (PIIX4 7.3) */
    PC_SMBUS_PORTS = 16,
    PC_PORT_PCI_ADDRESS = 0xcf8,
    PC_PORT_RESET = 0xcf9,
    PC_PORT_PCI_DATA = 0xcfc,
    PC_PORT_GPE0 = 0xafe0, /* status in the first half, enable in the second */
    PC_GPE0_PORTS = 4,
    PC_PORT_PCI_IO = 0xc000, /* I/O BARs are given out from here up */
    PC_PORT_PCI_IO_END = 0x10000,
};

/* What ACPI tables promise of the PIIX4's power management. */
enum {
    PC_SCI_IRQ = 9,         /* level-triggered, active high */
    PC_ACPI_ENABLE = 0xf1,  /* written to PC_PORT_APM_CONTROL sets SCI_EN, as SMM code would */
    PC_ACPI_DISABLE = 0xf0, /* ... clears it */
    PC_SLP_TYP_S5 = 0,      /* PM1_CNT.SLP_TYP of soft off: the value that _S5 gives (PIIX4 7.2.3: 000b) */
    PC_RESET_VALUE = 0x06,  /* written to PC_PORT_RESET: hard reset (PIIX3 2.5.5) */
    PC_CMOS_CENTURY = 0x32, /* CMOS byte with the century in BCD */
};

/* The HPET's event timer block ID: revision 1, 3 comparators, 64 bits, legacy replacement, vendor 8086h. It is the low half
   of the capability register, and stands in the HPET table too. */
#define PC_HPET_ID UINT32_C(0x8086a201)

/* Version registers: an IOAPIC with an EOI register; a local APIC that is not an 82489DX. */
enum { PC_IOAPIC_VERSION = 0x20, PC_LAPIC_VERSION = 0x14 };

/* The IOAPIC's APIC ID: the first after the local APICs' where its four bits can hold that, as APICs with a bus of their
   own needed it; otherwise 0, as they share the system bus with no IDs. */
static inline u8 pc_ioapic_id(unsigned cpus)
{
    return cpus < 15 ? (u8)cpus : 0;
}

/* PCI functions with a fixed place on bus 0. Other devices start at PC_SLOT_FIRST_FREE. */
#define PC_DEVFN(slot, function) ((slot) << 3 | (function))
enum {
    PC_DEVFN_I440FX = PC_DEVFN(0, 0),
    PC_DEVFN_PIIX3 = PC_DEVFN(1, 0),
    PC_DEVFN_PIIX4_PM = PC_DEVFN(1, 3),
    PC_SLOT_FIRST_FREE = 3,
    PC_SLOTS = 32,
    PC_PIRQS = 4,
};

/* INTA..INTD (1..4) of a slot is PIRQA..PIRQD (0..3); slot 1's INTA is PIRQA, as firmware for this chipset has it. */
static inline unsigned pc_pirq(unsigned slot, unsigned pin)
{
    return (slot + pin - 2) & 3;
}

/* The ISA IRQ (and GSI) that firmware routes a PIRQ to, and the set that may be chosen: active high, level. */
static inline u8 pc_pirq_irq(unsigned pirq)
{
    return pirq < 2 ? 10 : 11;
}
enum { PC_PCI_IRQS = 1 << 10 | 1 << 11 };

/* The four serial ports. */
static inline u16 pc_serial_port(unsigned n)
{
    return n == 0 ? 0x3f8 : n == 1 ? 0x2f8 : n == 2 ? 0x3e8 : 0x2e8;
}
static inline u8 pc_serial_irq(unsigned n)
{
    return n & 1 ? 3 : 4;
}
enum { PC_SERIAL_PORTS = 4 };

/* How much of `ram_size` lies below and above the hole. */
static inline u64 pc_low_ram(u64 ram_size)
{
    return ram_size < PC_LOW_RAM_END ? ram_size : PC_LOW_RAM_END;
}
static inline u64 pc_high_ram(u64 ram_size)
{
    return ram_size - pc_low_ram(ram_size);
}

#endif
