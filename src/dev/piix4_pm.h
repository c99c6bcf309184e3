/*
 * Function 3 of the PIIX4 (290562, "PIIX4" below): ACPI power management registers with the PM timer and the power button,
 * the SMBus host controller, and the APM ports B2h and B3h.
 */
#ifndef DEV_PIIX4_PM_H
#define DEV_PIIX4_PM_H

#include "machine/device.h"

/* Press the power button. Any thread; it goes through the event gate. false: the gate is full. */
bool piix4_pm_power_button(struct device *device);

/* Properties: bus (struct pci_bus). */
extern const struct device_class piix4_pm_class;

#endif
