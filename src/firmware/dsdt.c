/*
 * The DSDT: what an OS cannot find out by itself. In ASL it would read (shortened):
 *
 *     Name (\_S5, Package () { 0, 0, 0, 0 })
 *     Scope (\_SB) {
 *         Processor (CP00, 0, 0, 0) {} ...
 *         Device (PCI0) {
 *             _HID PNP0A03; _CRS: bus 0..255, I/O but for CF8h..CFFh, VGA, the PCI hole
 *             _PRT: each slot's four pins through LNKA..LNKD
 *             Device (ISA) { _ADR 1.0; PRQ0..PRQ3: bytes 60h..63h of its configuration space; the ISA devices }
 *         }
 *         Device (LNKA) ... (LNKD)   _CRS, _PRS, _SRS, _DIS over PRQ0..PRQ3
 *         Device (HPET)
 *     }
 */
#include <stdio.h>

#include "firmware/aml.h"
#include "firmware/tables.h"

/* A motherboard device at fixed places. */
struct isa_device {
    const char *name, *id;
    struct {
        u16 port;
        u8 size;
    } io[4];     /* ends with size 0 */
    u16 irqs;    /* one bit each */
    u8 dma_mask; /* one bit a channel */
};

static const struct isa_device isa_devices[] = {
    {"PIC", "PNP0000", {{PC_PORT_PIC_MASTER, 2}, {PC_PORT_PIC_SLAVE, 2}, {PC_PORT_ELCR, 2}}, 1 << 2, 0},
    {"TIMR", "PNP0100", {{PC_PORT_PIT, 4}}, 1 << 0, 0},
    {"DMAC", "PNP0200", {{0x00, 0x10}, {0x81, 0x0f}, {0xc0, 0x20}}, 0, 1 << 4},
    {"SPKR", "PNP0800", {{PC_PORT_SYSTEM_B, 1}}, 0, 0},
    {"FPU", "PNP0C04", {{PC_PORT_FPU_ERROR, 1}}, 1 << 13, 0},
    {"RTC", "PNP0B00", {{PC_PORT_CMOS, 2}}, 1 << 8, 0},
    {"KBD", "PNP0303", {{PC_PORT_KBD_DATA, 1}, {PC_PORT_KBD_COMMAND, 1}}, 1 << 1, 0},
    {"MOU", "PNP0F13", {{0, 0}}, 1 << 12, 0},
};

static void device_head(struct blob *aml, const char *id, unsigned uid)
{
    aml_name(aml, "_HID");
    aml_eisa_id(aml, id);
    aml_name_int(aml, "_UID", uid);
}

static void isa_device(struct blob *aml, const struct isa_device *row, unsigned uid)
{
    u32 device = aml_device(aml, row->name);
    device_head(aml, row->id, uid);
    aml_name(aml, "_CRS");
    u32 resources = aml_resources(aml);
    for (size_t i = 0; i < ARRAY_SIZE(row->io) && row->io[i].size; i++)
        aml_io(aml, row->io[i].port, row->io[i].size);
    for (unsigned irq = 0; irq < 16; irq++)
        if (row->irqs >> irq & 1)
            aml_irq(aml, irq);
    for (unsigned channel = 0; channel < 8; channel++)
        if (row->dma_mask >> channel & 1)
            aml_dma(aml, channel);
    aml_resources_close(aml, resources);
    aml_close(aml, device);
}

static void serial_ports(const struct firmware_config *config, struct blob *aml)
{
    for (unsigned n = 0; n < PC_SERIAL_PORTS; n++) {
        char name[] = {'C', 'O', 'M', (char)('1' + n), '\0'};
        struct isa_device row = {name, "PNP0501", {{pc_serial_port(n), 8}}, (u16)(1 << pc_serial_irq(n)), 0};

        if (config->serial_ports >> n & 1)
            isa_device(aml, &row, n + 1);
    }
}

/* What belongs to no device: keep the OS from giving it to one. */
static void reserved_resources(struct blob *aml)
{
    static const struct {
        u16 port;
        u8 size;
    } ports[] = {
        {PC_PORT_POST, 1},         {PC_PORT_SYSTEM_A, 1},           {PC_PORT_APM_CONTROL, 2},
        {PC_PORT_PM, PC_PM_PORTS}, {PC_PORT_SMBUS, PC_SMBUS_PORTS}, {PC_PORT_GPE0, PC_GPE0_PORTS},
    };
    u32 device = aml_device(aml, "RES");

    device_head(aml, "PNP0C02", 1);
    aml_name(aml, "_CRS");
    u32 resources = aml_resources(aml);
    for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
        aml_io(aml, ports[i].port, ports[i].size);
    aml_memory(aml, (u32)PC_IOAPIC_BASE, PC_IOAPIC_SIZE);
    aml_memory(aml, (u32)PC_LAPIC_BASE, PC_LAPIC_SIZE);
    aml_resources_close(aml, resources);
    aml_close(aml, device);
}

/* The device that Linux's and other drivers look for by this name; ports as in dev/fw_cfg.c. */
static void fw_cfg_device(struct blob *aml)
{
    u32 device = aml_device(aml, "FWCF");

    aml_name(aml, "_HID");
    aml_string(aml, "QEMU0002");
    aml_name_int(aml, "_STA", 0x0b); /* present, decoding, working; not shown to users */
    aml_name(aml, "_CRS");
    u32 resources = aml_resources(aml);
    aml_io(aml, PC_PORT_FW_CFG, 12);
    aml_resources_close(aml, resources);
    aml_close(aml, device);
}

static void isa_bridge(const struct firmware_config *config, struct blob *aml)
{
    static const char *const route[PC_PIRQS] = {"PRQ0", "PRQ1", "PRQ2", "PRQ3"};
    u32 device = aml_device(aml, "ISA");

    aml_name_int(aml, "_ADR", 1 << 16);
    aml_pci_config_bytes(aml, "P40C", 0x60, route, PC_PIRQS); /* PIRQRC[A:D] (PIIX3 2.2.8) */
    for (size_t i = 0; i < ARRAY_SIZE(isa_devices); i++)
        isa_device(aml, &isa_devices[i], 0);
    serial_ports(config, aml);
    reserved_resources(aml);
    if (config->fw_cfg)
        fw_cfg_device(aml);
    aml_close(aml, device);
}

static const char *const link_name[PC_PIRQS] = {"LNKA", "LNKB", "LNKC", "LNKD"};

static void pci_routing(struct blob *aml)
{
    aml_name(aml, "_PRT");
    u32 table = aml_package(aml, (PC_SLOTS - 1) * PC_PIRQS);
    for (unsigned slot = 1; slot < PC_SLOTS; slot++) {
        for (unsigned pin = 1; pin <= PC_PIRQS; pin++) {
            u32 entry = aml_package(aml, 4);

            aml_int(aml, slot << 16 | 0xffff);
            aml_int(aml, pin - 1);
            aml_path(aml, link_name[pc_pirq(slot, pin)]);
            aml_int(aml, 0);
            aml_close(aml, entry);
        }
    }
    aml_close(aml, table);
}

static void host_bridge(const struct firmware_config *config, struct blob *aml)
{
    u32 device = aml_device(aml, "PCI0");

    device_head(aml, "PNP0A03", 0);
    aml_name_int(aml, "_BBN", 0);
    aml_name(aml, "_CRS");
    u32 resources = aml_resources(aml);
    aml_bus_window(aml, 0, 0xff);
    aml_io(aml, PC_PORT_PCI_ADDRESS, 8);
    aml_io_window(aml, 0, PC_PORT_PCI_ADDRESS - 1);
    aml_io_window(aml, PC_PORT_PCI_ADDRESS + 8, 0xffff);
    aml_memory_window(aml, PC_LEGACY_HOLE, 0xbffff, true);
    aml_memory_window(aml, (u32)PC_PCI_HOLE, (u32)PC_PCI_HOLE_END - 1, false);
    aml_resources_close(aml, resources);
    pci_routing(aml);
    isa_bridge(config, aml);
    aml_close(aml, device);
}

/* Offset of the first interrupt number in an extended interrupt descriptor. */
enum { INTERRUPT_NUMBER = 5 };

/* Method IQCR: the resource template for the value of a PIRQ route register. */
static void current_resources_method(struct blob *aml)
{
    enum { AML_LLESS = 0x95 };
    u32 method = aml_method(aml, "IQCR", 1, true);

    aml_name(aml, "PRR0");
    u32 resources = aml_resources(aml);
    aml_interrupt(aml, 0);
    aml_resources_close(aml, resources);
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_path(aml, "PRR0");
    aml_int(aml, INTERRUPT_NUMBER);
    aml_path(aml, "PRRI");

    u32 enabled = aml_if(aml);
    aml_op(aml, AML_LLESS);
    aml_op(aml, AML_ARG0);
    aml_int(aml, 0x80);
    aml_op(aml, AML_STORE);
    aml_op(aml, AML_ARG0);
    aml_path(aml, "PRRI");
    aml_close(aml, enabled);

    aml_op(aml, AML_RETURN);
    aml_path(aml, "PRR0");
    aml_close(aml, method);
}

/* A PCI interrupt link: PIRQ `n`, whose route register has bit 7 set while it is off (PIIX3 2.2.8). */
static void link_device(struct blob *aml, unsigned n)
{
    char route[] = "\\_SB.PCI0.ISA.PRQ0";
    u32 device = aml_device(aml, link_name[n]);
    u32 open, method;

    route[sizeof(route) - 2] = (char)('0' + n);
    device_head(aml, "PNP0C0F", n);

    aml_name(aml, "_PRS");
    open = aml_resources(aml);
    aml_interrupt(aml, PC_PCI_IRQS);
    aml_resources_close(aml, open);

    method = aml_method(aml, "_STA", 0, false);
    open = aml_if(aml);
    aml_op(aml, AML_AND);
    aml_path(aml, route);
    aml_int(aml, 0x80);
    aml_op(aml, AML_ZERO); /* no target */
    aml_op(aml, AML_RETURN);
    aml_int(aml, 0x09); /* present, working, off */
    aml_close(aml, open);
    aml_op(aml, AML_RETURN);
    aml_int(aml, 0x0b);
    aml_close(aml, method);

    method = aml_method(aml, "_DIS", 0, false);
    aml_op(aml, AML_OR);
    aml_path(aml, route);
    aml_int(aml, 0x80);
    aml_path(aml, route);
    aml_close(aml, method);

    method = aml_method(aml, "_CRS", 0, false);
    aml_op(aml, AML_RETURN);
    aml_path(aml, "IQCR");
    aml_path(aml, route);
    aml_close(aml, method);

    method = aml_method(aml, "_SRS", 1, false);
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_op(aml, AML_ARG0);
    aml_int(aml, INTERRUPT_NUMBER);
    aml_path(aml, "PRRI");
    aml_op(aml, AML_STORE);
    aml_path(aml, "PRRI");
    aml_path(aml, route);
    aml_close(aml, method);

    aml_close(aml, device);
}

static void hpet_device(struct blob *aml)
{
    u32 device = aml_device(aml, "HPET");

    device_head(aml, "PNP0103", 0);
    aml_name(aml, "_CRS");
    u32 resources = aml_resources(aml);
    aml_memory(aml, (u32)PC_HPET_BASE, PC_HPET_SIZE);
    aml_resources_close(aml, resources);
    aml_close(aml, device);
}

void dsdt_build(const struct firmware_config *config, struct blob *aml)
{
    aml_name(aml, "\\_S5"); /* SLP_TYPa, SLP_TYPb, two reserved */
    u32 open = aml_package(aml, 4);
    aml_int(aml, PC_SLP_TYP_S5);
    aml_int(aml, PC_SLP_TYP_S5);
    aml_int(aml, 0);
    aml_int(aml, 0);
    aml_close(aml, open);

    u32 scope = aml_scope(aml, "\\_SB");
    for (unsigned i = 0; i < config->cpus; i++) {
        static const char hex[] = "0123456789ABCDEF";
        char name[] = {'C', 'P', hex[i >> 4 & 15], hex[i & 15], '\0'};

        aml_close(aml, aml_processor(aml, name, (u8)i));
    }
    host_bridge(config, aml);
    current_resources_method(aml);
    for (unsigned n = 0; n < PC_PIRQS; n++)
        link_device(aml, n);
    hpet_device(aml);
    aml_close(aml, scope);
}
