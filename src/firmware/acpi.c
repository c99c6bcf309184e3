/*
 * The fixed ACPI tables (ACPI 6.3 chapter 5.2, in the layouts of ACPI 2.0 that every OS since 2000 reads). All lie in the F
 * segment, which the memory map reserves, except the FACS: the OS writes to its global lock.
 */
#include <string.h>

#include "firmware/tables.h"

enum { TABLE_CHECKSUM = 9, TABLE_LENGTH = 4, TABLE_HEADER = 36 };
#define OEM_ID       "PLASTR"
#define OEM_TABLE_ID "PLASTPC1"
#define CREATOR_ID   "PLAS"

static void table_header(struct blob *table, const char *signature, u8 revision)
{
    blob_text(table, signature, 4, ' ');
    blob_u32(table, 0); /* length and checksum: table_finish */
    blob_u8(table, revision);
    blob_u8(table, 0);
    blob_text(table, OEM_ID, 6, ' ');
    blob_text(table, OEM_TABLE_ID, 8, ' ');
    blob_u32(table, 1); /* OEM revision */
    blob_text(table, CREATOR_ID, 4, ' ');
    blob_u32(table, 1);
}

static u32 table_finish(struct fseg *fseg, struct blob *table)
{
    blob_set_u32(table, TABLE_LENGTH, table->len);
    blob_checksum(table, 0, table->len, TABLE_CHECKSUM);
    return fseg_end(fseg, table);
}

/* How wide an access to a register is, in a generic address structure. */
enum access { ACCESS_NONE, ACCESS_BYTE, ACCESS_WORD, ACCESS_DWORD };

/* Generic address structure of `size` bytes of I/O ports; 0: there is no such register. */
static void gas_io(struct blob *table, u16 port, u8 size, enum access access)
{
    blob_u8(table, size ? 1 : 0); /* system I/O */
    blob_u8(table, (u8)(size * 8));
    blob_u8(table, 0);
    blob_u8(table, (u8)access);
    blob_u64(table, port);
}

/* FADT flags (ACPI 6.3 table 5-34). The power button is a fixed feature; there is no sleep button. */
enum {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_NO_SLEEP_BUTTON = 1 << 5,
    FADT_NO_FIXED_RTC_WAKE = 1 << 6,
    FADT_RESET_REG = 1 << 10,
    FADT_USE_PLATFORM_CLOCK = 1 << 15,
    FADT_APIC_CLUSTER = 1 << 18,
    BOOT_ARCH_LEGACY_DEVICES = 1 << 0,
    BOOT_ARCH_8042 = 1 << 1,
};
enum { FLAT_MODEL_CPUS = 8 /* as many as flat logical APIC addressing can name */ };

static u32 fadt_build(const struct firmware_config *config, struct fseg *fseg, u32 dsdt)
{
    struct blob table = fseg_begin(fseg, 16), *t = &table;
    u32 flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC_WAKE | FADT_RESET_REG |
                FADT_USE_PLATFORM_CLOCK;

    if (config->cpus > FLAT_MODEL_CPUS)
        flags |= FADT_APIC_CLUSTER;
    table_header(t, "FACP", 3);
    blob_u32(t, FACS_ADDRESS);
    blob_u32(t, dsdt);
    blob_u8(t, 1); /* reserved; ACPI 1.0: dual PIC */
    blob_u8(t, 0); /* preferred profile: unspecified */
    blob_u16(t, PC_SCI_IRQ);
    blob_u32(t, PC_PORT_APM_CONTROL);
    blob_u8(t, PC_ACPI_ENABLE);
    blob_u8(t, PC_ACPI_DISABLE);
    blob_u8(t, 0); /* S4BIOS_REQ */
    blob_u8(t, 0); /* PSTATE_CNT */
    blob_u32(t, PC_PORT_PM1_EVENT);
    blob_u32(t, 0); /* PM1b event */
    blob_u32(t, PC_PORT_PM1_CONTROL);
    blob_u32(t, 0); /* PM1b control */
    blob_u32(t, 0); /* PM2 control */
    blob_u32(t, PC_PORT_PM_TIMER);
    blob_u32(t, PC_PORT_GPE0);
    blob_u32(t, 0); /* GPE1 */
    blob_u8(t, 4);  /* PM1 event length */
    blob_u8(t, 2);  /* PM1 control length */
    blob_u8(t, 0);  /* PM2 control length */
    blob_u8(t, 4);  /* PM timer length */
    blob_u8(t, PC_GPE0_PORTS);
    blob_u8(t, 0);      /* GPE1 length */
    blob_u8(t, 0);      /* GPE1 base */
    blob_u8(t, 0);      /* CST_CNT */
    blob_u16(t, 0xfff); /* C2 and C3 latencies: so long that they are not there */
    blob_u16(t, 0xfff);
    blob_u16(t, 0); /* flush size and stride: WBINVD works */
    blob_u16(t, 0);
    blob_u8(t, 0); /* duty offset and width */
    blob_u8(t, 0);
    blob_u8(t, 0); /* day and month alarms */
    blob_u8(t, 0);
    blob_u8(t, PC_CMOS_CENTURY);
    blob_u16(t, BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_8042);
    blob_u8(t, 0);
    blob_u32(t, flags);
    gas_io(t, PC_PORT_RESET, 1, ACCESS_BYTE);
    blob_u8(t, PC_RESET_VALUE);
    blob_zero(t, 3);
    blob_u64(t, 0); /* X_FIRMWARE_CTRL: only for one above 4 GiB */
    blob_u64(t, dsdt);
    gas_io(t, PC_PORT_PM1_EVENT, 4, ACCESS_WORD);
    gas_io(t, 0, 0, ACCESS_NONE);
    gas_io(t, PC_PORT_PM1_CONTROL, 2, ACCESS_WORD);
    gas_io(t, 0, 0, ACCESS_NONE);
    gas_io(t, 0, 0, ACCESS_NONE);
    gas_io(t, PC_PORT_PM_TIMER, 4, ACCESS_DWORD);
    gas_io(t, PC_PORT_GPE0, PC_GPE0_PORTS, ACCESS_BYTE);
    gas_io(t, 0, 0, ACCESS_NONE);
    return table_finish(fseg, t);
}

static u32 dsdt_table(const struct firmware_config *config, struct fseg *fseg)
{
    struct blob table = fseg_begin(fseg, 16);

    table_header(&table, "DSDT", 1); /* revision 1: 32-bit integers, so that ACPI 1.0 reads it too */
    dsdt_build(config, &table);
    return table_finish(fseg, &table);
}

static u32 madt_build(const struct firmware_config *config, struct fseg *fseg)
{
    enum { LOCAL_APIC, IO_APIC, SOURCE_OVERRIDE, LOCAL_APIC_NMI = 4 };
    enum { ACTIVE_HIGH_LEVEL = 1 | 3 << 2, ALL_PROCESSORS = 0xff };
    struct blob table = fseg_begin(fseg, 16), *t = &table;
    u32 level_irqs = PC_PCI_IRQS | 1 << PC_SCI_IRQ;

    table_header(t, "APIC", 1);
    blob_u32(t, (u32)PC_LAPIC_BASE);
    blob_u32(t, 1); /* there are two 8259 as well */
    for (unsigned i = 0; i < config->cpus; i++) {
        blob_u8(t, LOCAL_APIC);
        blob_u8(t, 8);
        blob_u8(t, (u8)i); /* processor: the ID in the DSDT */
        blob_u8(t, (u8)i); /* APIC ID */
        blob_u32(t, 1);    /* enabled */
    }
    blob_u8(t, IO_APIC);
    blob_u8(t, 12);
    blob_u8(t, pc_ioapic_id(config->cpus));
    blob_u8(t, 0);
    blob_u32(t, (u32)PC_IOAPIC_BASE);
    blob_u32(t, 0); /* its pin 0 is GSI 0 */
    for (unsigned irq = 0; irq < 16; irq++) {
        bool timer = irq == 0, level = level_irqs >> irq & 1;

        if (!timer && !level)
            continue;
        blob_u8(t, SOURCE_OVERRIDE);
        blob_u8(t, 10);
        blob_u8(t, 0); /* ISA */
        blob_u8(t, (u8)irq);
        blob_u32(t, timer ? 2 : irq);
        blob_u16(t, level ? ACTIVE_HIGH_LEVEL : 0);
    }
    blob_u8(t, LOCAL_APIC_NMI);
    blob_u8(t, 6);
    blob_u8(t, ALL_PROCESSORS);
    blob_u16(t, 0);
    blob_u8(t, 1); /* LINT1 */
    return table_finish(fseg, t);
}

static u32 hpet_build(struct fseg *fseg)
{
    struct blob table = fseg_begin(fseg, 16), *t = &table;

    table_header(t, "HPET", 1);
    blob_u32(t, PC_HPET_ID);
    blob_u32(t, 0); /* generic address: system memory */
    blob_u64(t, PC_HPET_BASE);
    blob_u8(t, 0);  /* sequence number */
    blob_u16(t, 0); /* no minimum tick for periodic mode is known to matter */
    blob_u8(t, 0);  /* page protection: none promised */
    return table_finish(fseg, t);
}

static u32 root_table(struct fseg *fseg, const char *signature, const u32 *tables, unsigned count, bool wide)
{
    struct blob table = fseg_begin(fseg, 16);

    table_header(&table, signature, 1);
    for (unsigned i = 0; i < count; i++) {
        blob_u32(&table, tables[i]);
        if (wide)
            blob_u32(&table, 0);
    }
    return table_finish(fseg, &table);
}

u32 acpi_build(const struct firmware_config *config, struct fseg *fseg)
{
    enum { RSDP_V1_SIZE = 20, RSDP_SIZE = 36, RSDP_CHECKSUM = 8, RSDP_EXTENDED_CHECKSUM = 32 };
    u32 tables[3];
    u32 rsdt, xsdt;

    tables[0] = fadt_build(config, fseg, dsdt_table(config, fseg));
    tables[1] = madt_build(config, fseg);
    tables[2] = hpet_build(fseg);
    rsdt = root_table(fseg, "RSDT", tables, ARRAY_SIZE(tables), false);
    xsdt = root_table(fseg, "XSDT", tables, ARRAY_SIZE(tables), true);

    struct blob rsdp = fseg_begin(fseg, 16);
    blob_text(&rsdp, "RSD PTR ", 8, ' ');
    blob_u8(&rsdp, 0);
    blob_text(&rsdp, OEM_ID, 6, ' ');
    blob_u8(&rsdp, 2);
    blob_u32(&rsdp, rsdt);
    blob_u32(&rsdp, RSDP_SIZE);
    blob_u64(&rsdp, xsdt);
    blob_u32(&rsdp, 0);
    blob_checksum(&rsdp, 0, RSDP_V1_SIZE, RSDP_CHECKSUM);
    blob_checksum(&rsdp, 0, RSDP_SIZE, RSDP_EXTENDED_CHECKSUM);
    return fseg_end(fseg, &rsdp);
}

void acpi_facs(u8 facs[FACS_SIZE])
{
    memset(facs, 0, FACS_SIZE);
    memcpy(facs, "FACS", 4);
    facs[4] = FACS_SIZE;
    facs[32] = 1; /* version */
}
