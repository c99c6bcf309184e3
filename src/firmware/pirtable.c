/* The PCI interrupt routing table ("$PIR", PCI IRQ Routing Table Specification 1.0): which route register of the PIIX3 a
   slot's pins hang on, for kernels that use the 8259 without ACPI. */
#include "firmware/tables.h"

void pirtable_build(struct fseg *fseg)
{
    enum { HEADER_SIZE = 32, ENTRY_SIZE = 16, CHECKSUM = 31, ROUTE_REGISTER = 0x60, FIRST_SLOT = 1 };
    enum { PIIX3_ID = 0x70008086 };
    struct blob table = fseg_begin(fseg, 16), *t = &table;

    blob_text(t, "$PIR", 4, ' ');
    blob_u16(t, 0x0100);
    blob_u16(t, HEADER_SIZE + (PC_SLOTS - FIRST_SLOT) * ENTRY_SIZE);
    blob_u8(t, 0); /* the router's bus and function */
    blob_u8(t, PC_DEVFN_PIIX3);
    blob_u16(t, 0); /* no IRQ is for PCI alone */
    blob_u32(t, PIIX3_ID);
    blob_u32(t, 0); /* miniport data */
    blob_zero(t, 11);
    blob_u8(t, 0); /* checksum */
    for (unsigned slot = FIRST_SLOT; slot < PC_SLOTS; slot++) {
        blob_u8(t, 0);
        blob_u8(t, (u8)PC_DEVFN(slot, 0));
        for (unsigned pin = 1; pin <= PC_PIRQS; pin++) {
            blob_u8(t, (u8)(ROUTE_REGISTER + pc_pirq(slot, pin)));
            blob_u16(t, PC_PCI_IRQS);
        }
        blob_u8(t, slot < PC_SLOT_FIRST_FREE ? 0 : (u8)slot); /* 0: on the board, not in a slot */
        blob_u8(t, 0);
    }
    blob_checksum(t, 0, t->len, CHECKSUM);
    fseg_end(fseg, t);
}
