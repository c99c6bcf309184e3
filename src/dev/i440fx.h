/*
 * Intel 440FX host bridge (290549, "FX" below): the PCI bus with its configuration ports, and the decoding of RAM: what
 * lies below the PCI hole and above 4 GiB, the thirteen areas between 768 KiB and 1 MiB under PAM, and A0000h..BFFFFh
 * under SMRAM. Nobody else maps RAM; what else answers below 1 MiB (ROM, VGA) is covered by RAM where that is enabled.
 */
#ifndef DEV_I440FX_H
#define DEV_I440FX_H

#include "dev/pci.h"
#include "machine/device.h"

/* The PCI bus behind an attached device of i440fx_class. */
struct pci_bus *i440fx_bus(struct device *device);

/* Maps block 0 of the VM's memory. */
extern const struct device_class i440fx_class;

#endif
