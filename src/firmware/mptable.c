/* MultiProcessor Specification 1.4, chapter 4: for kernels without ACPI, or told not to use it. */
#include "firmware/tables.h"

enum { BUS_PCI, BUS_ISA };
enum { TYPE_INT, TYPE_NMI, TYPE_SMI, TYPE_EXTINT };
enum { AS_THE_BUS_DOES = 0, ACTIVE_HIGH = 1, ACTIVE_HIGH_LEVEL = 1 | 3 << 2 };

struct mptable {
    struct blob blob;
    u16 entries;
};

static void processor(struct mptable *mp, const struct firmware_config *config, unsigned id)
{
    enum { ENABLED = 1, BOOTSTRAP = 2 };

    blob_u8(&mp->blob, 0);
    blob_u8(&mp->blob, (u8)id);
    blob_u8(&mp->blob, PC_LAPIC_VERSION);
    blob_u8(&mp->blob, id == 0 ? ENABLED | BOOTSTRAP : ENABLED);
    blob_u32(&mp->blob, config->cpuid_signature & 0xfff);
    blob_u32(&mp->blob, config->cpuid_features);
    blob_u64(&mp->blob, 0);
    mp->entries++;
}

static void bus(struct mptable *mp, u8 id, const char *type)
{
    blob_u8(&mp->blob, 1);
    blob_u8(&mp->blob, id);
    blob_text(&mp->blob, type, 6, ' ');
    mp->entries++;
}

static void io_apic(struct mptable *mp, u8 id)
{
    blob_u8(&mp->blob, 2);
    blob_u8(&mp->blob, id);
    blob_u8(&mp->blob, PC_IOAPIC_VERSION);
    blob_u8(&mp->blob, 1); /* enabled */
    blob_u32(&mp->blob, (u32)PC_IOAPIC_BASE);
    mp->entries++;
}

/* `entry` 3: a pin of an IOAPIC; 4: a LINT pin of local APICs. */
static void interrupt(struct mptable *mp, u8 entry, u8 type, u16 flags, u8 bus_id, u8 bus_irq, u8 apic,
                      u8 pin)
{
    blob_u8(&mp->blob, entry);
    blob_u8(&mp->blob, type);
    blob_u16(&mp->blob, flags);
    blob_u8(&mp->blob, bus_id);
    blob_u8(&mp->blob, bus_irq);
    blob_u8(&mp->blob, apic);
    blob_u8(&mp->blob, pin);
    mp->entries++;
}

void mptable_build(const struct firmware_config *config, struct fseg *fseg)
{
    enum { HEADER_LENGTH = 4, HEADER_CHECKSUM = 7, HEADER_ENTRIES = 34 };
    enum { POINTER_SIZE = 16, POINTER_CHECKSUM = 10 };
    enum { ENTRY_IO = 3, ENTRY_LOCAL = 4, ALL_APICS = 0xff };
    struct mptable table = {.blob = fseg_begin(fseg, 16)}, *mp = &table;
    u8 ioapic = pc_ioapic_id(config->cpus);

    blob_text(&mp->blob, "PCMP", 4, ' ');
    blob_u16(&mp->blob, 0); /* length */
    blob_u8(&mp->blob, 4);  /* 1.4 */
    blob_u8(&mp->blob, 0);  /* checksum */
    blob_text(&mp->blob, "PLASTRON", 8, ' ');
    blob_text(&mp->blob, "PC-1", 12, ' ');
    blob_u32(&mp->blob, 0); /* OEM table */
    blob_u16(&mp->blob, 0);
    blob_u16(&mp->blob, 0); /* entries */
    blob_u32(&mp->blob, (u32)PC_LAPIC_BASE);
    blob_u32(&mp->blob, 0); /* no extended table */

    for (unsigned i = 0; i < config->cpus; i++)
        processor(mp, config, i);
    bus(mp, BUS_PCI, "PCI");
    bus(mp, BUS_ISA, "ISA");
    io_apic(mp, ioapic);
    for (unsigned slot = 1; slot < PC_SLOTS; slot++)
        for (unsigned pin = 1; pin <= PC_PIRQS; pin++)
            interrupt(mp, ENTRY_IO, TYPE_INT, ACTIVE_HIGH, BUS_PCI, (u8)(slot << 2 | (pin - 1)), ioapic,
                      pc_pirq_irq(pc_pirq(slot, pin)));
    for (u8 irq = 0; irq < 16; irq++) {
        if (irq == 2 || PC_PCI_IRQS >> irq & 1) /* the cascade; those that belong to PCI */
            continue;
        interrupt(mp, ENTRY_IO, TYPE_INT, irq == PC_SCI_IRQ ? ACTIVE_HIGH_LEVEL : AS_THE_BUS_DOES, BUS_ISA,
                  irq, ioapic, irq == 0 ? 2 : irq);
    }
    interrupt(mp, ENTRY_LOCAL, TYPE_EXTINT, AS_THE_BUS_DOES, BUS_ISA, 0, 0,
              0); /* the bootstrap processor's LINT0 */
    interrupt(mp, ENTRY_LOCAL, TYPE_NMI, AS_THE_BUS_DOES, BUS_ISA, 0, ALL_APICS, 1);

    blob_set_u16(&mp->blob, HEADER_LENGTH, (u16)mp->blob.len);
    blob_set_u16(&mp->blob, HEADER_ENTRIES, mp->entries);
    blob_checksum(&mp->blob, 0, mp->blob.len, HEADER_CHECKSUM);
    u32 config_table = fseg_end(fseg, &mp->blob);

    struct blob pointer = fseg_begin(fseg, 16);
    blob_text(&pointer, "_MP_", 4, ' ');
    blob_u32(&pointer, config_table);
    blob_u8(&pointer, POINTER_SIZE / 16);
    blob_u8(&pointer, 4);   /* 1.4 */
    blob_zero(&pointer, 6); /* checksum; configuration table present; virtual wire mode, no IMCR */
    blob_checksum(&pointer, 0, POINTER_SIZE, POINTER_CHECKSUM);
    fseg_end(fseg, &pointer);
}
