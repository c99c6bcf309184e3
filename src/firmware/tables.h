/*
 * The builders of the tables in the F segment; firmware_setup calls each once. They append to `fseg`, which remembers when
 * something did not fit.
 */
#ifndef FIRMWARE_TABLES_H
#define FIRMWARE_TABLES_H

#include "firmware/blob.h"
#include "firmware/firmware.h"

/* RSDP, RSDT, XSDT, FADT, DSDT, MADT, HPET; returns the address of the RSDP. The FACS, which the OS writes to, is at
   FACS_ADDRESS in the EBDA: the caller puts the bytes of acpi_facs() there. */
u32 acpi_build(const struct firmware_config *config, struct fseg *fseg);
enum { FACS_ADDRESS = FIRMWARE_EBDA + 0x40, FACS_SIZE = 64 };
void acpi_facs(u8 facs[FACS_SIZE]);
/* The DSDT's AML, after its header. */
void dsdt_build(const struct firmware_config *config, struct blob *aml);

/* MultiProcessor Specification 1.4: floating pointer and configuration table. */
void mptable_build(const struct firmware_config *config, struct fseg *fseg);
/* PCI interrupt routing table ($PIR). */
void pirtable_build(struct fseg *fseg);
/* SMBIOS 2.8 and 3.0 entry points and the structures. */
void smbios_build(const struct firmware_config *config, struct fseg *fseg);

/* Interrupt vectors, BIOS data area and EBDA, and the few BIOS services in the F segment that 16-bit kernel set-up code
   calls. Writes low guest memory itself. */
void bios_build(const struct firmware_config *config, struct fseg *fseg);

/* Assign BARs and interrupt lines, set up the chips, enable decoding; through config->ports. */
void pci_setup(const struct firmware_config *config);
/* Let the F segment be RAM that can be written (while tables are put there), or RAM that can only be read. */
void pci_set_f_segment(const struct firmware_config *config, bool writable);

#endif
