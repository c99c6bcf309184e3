/*
 * Function 0 of the PIIX3 (290550, "PIIX3" below): PCI to ISA bridge. It routes the PCI interrupt pins to ISA interrupts
 * (PIRQRC) and resets the machine at port CF9h. The ELCR, which makes those interrupts level-triggered, is beside the
 * i8259.
 */
#ifndef DEV_PIIX3_H
#define DEV_PIIX3_H

#include "machine/device.h"

/* Properties: bus (struct pci_bus). */
extern const struct device_class piix3_class;

#endif
