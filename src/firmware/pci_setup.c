/*
 * PCI bus 0 as firmware leaves it: every BAR has an address, every function that has an interrupt pin knows its line, and
 * decoding is on. Bus mastering is left to drivers.
 *
 * Everything goes through configuration mechanism 1 (PCI 3.0 3.2.2.3.2), as firmware's own code would do it, so that this
 * knows no device.
 */
#include "firmware/tables.h"

/* Configuration registers (PCI 3.0 chapter 6). */
enum {
    PCI_ID = 0x00,
    PCI_COMMAND = 0x04,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};
enum {
    COMMAND_IO = 1 << 0,
    COMMAND_MEMORY = 1 << 1,
    HEADER_MULTI_FUNCTION = 1 << 7,
    HEADER_TYPE_MASK = 0x7f,
    BAR_IO = 1 << 0,
    BAR_TYPE_MASK = 3 << 1,
    BAR_TYPE_64 = 2 << 1,
    BARS = 6,
};

/* i440FX: programmable attribute map of the F segment, bits 5-4 (290549 3.2.16). PIIX3 and PIIX4: as cited. */
enum {
    I440FX_PAM0 = 0x59,
    PAM_READ = 1 << 4,
    PAM_WRITE = 1 << 5,
    PIIX3_PIRQRC = 0x60, /* PIIX3 2.2.8 */
    PIIX4_PMBASE = 0x40, /* PIIX4 7.1 */
    PIIX4_PMREGMISC = 0x80,
    PIIX4_SMBBASE = 0x90,
    PIIX4_SMBHSTCFG = 0xd2,
    SMBHSTCFG_ENABLE = 1 << 0,
    SMBHSTCFG_IRQ9 = 4 << 1,
};
enum { ID_I440FX = 0x12378086, ID_PIIX3 = 0x70008086, ID_PIIX4_PM = 0x71138086 };

struct pci_setup {
    struct port_map *ports;
    u32 io_next;  /* port */
    u64 mem_next; /* address */
};

static u32 address_of(unsigned devfn, unsigned reg)
{
    return 1u << 31 | devfn << 8 | (reg & 0xfc);
}

static u32 config_read(struct port_map *ports, unsigned devfn, unsigned reg, unsigned size)
{
    port_write(ports, PC_PORT_PCI_ADDRESS, 4, address_of(devfn, reg));
    return port_read(ports, PC_PORT_PCI_DATA + (reg & 3), size);
}

static void config_write(struct port_map *ports, unsigned devfn, unsigned reg, unsigned size, u32 value)
{
    port_write(ports, PC_PORT_PCI_ADDRESS, 4, address_of(devfn, reg));
    port_write(ports, PC_PORT_PCI_DATA + (reg & 3), size, value);
}

/* Give one BAR an address; returns the number of registers it takes. What finds no room keeps address 0. */
static unsigned assign_bar(struct pci_setup *pci, unsigned devfn, unsigned bar)
{
    unsigned reg = PCI_BAR0 + 4 * bar;
    u32 kind = config_read(pci->ports, devfn, reg, 4);
    bool io = kind & BAR_IO;
    bool wide = !io && (kind & BAR_TYPE_MASK) == BAR_TYPE_64 && bar + 1 < BARS;
    u32 mask;
    u64 size, start;

    config_write(pci->ports, devfn, reg, 4, UINT32_MAX);
    mask = config_read(pci->ports, devfn, reg, 4) & (io ? ~UINT32_C(3) : ~UINT32_C(15));
    if (io)
        mask |= 0xffff0000; /* functions may implement 16 bits alone */
    size = mask & -mask;
    if (!(mask & (io ? 0xffff : UINT32_MAX)))
        size = 0; /* no such BAR, or 4 GiB and more, which has no place */
    start = align_up(io ? pci->io_next : pci->mem_next, size ? size : 1);
    if (size == 0 || start + size > (io ? PC_PORT_PCI_IO_END : PC_PCI_HOLE_END)) {
        config_write(pci->ports, devfn, reg, 4, 0);
        return wide ? 2 : 1;
    }
    config_write(pci->ports, devfn, reg, 4, (u32)start);
    if (wide)
        config_write(pci->ports, devfn, reg + 4, 4, 0);
    if (io)
        pci->io_next = (u32)(start + size);
    else
        pci->mem_next = start + size;
    return wide ? 2 : 1;
}

static void piix3_setup(struct port_map *ports, unsigned devfn)
{
    for (unsigned pirq = 0; pirq < PC_PIRQS; pirq++)
        config_write(ports, devfn, PIIX3_PIRQRC + pirq, 1, pc_pirq_irq(pirq));
    port_write(ports, PC_PORT_ELCR, 1, (PC_PCI_IRQS | 1 << PC_SCI_IRQ) & 0xff);
    port_write(ports, PC_PORT_ELCR + 1, 1, (PC_PCI_IRQS | 1 << PC_SCI_IRQ) >> 8);
}

static void piix4_pm_setup(struct port_map *ports, unsigned devfn)
{
    config_write(ports, devfn, PIIX4_PMBASE, 4, PC_PORT_PM | 1);
    config_write(ports, devfn, PIIX4_PMREGMISC, 1, 1); /* PM ports on */
    config_write(ports, devfn, PIIX4_SMBBASE, 4, PC_PORT_SMBUS | 1);
    config_write(ports, devfn, PIIX4_SMBHSTCFG, 1, SMBHSTCFG_ENABLE | SMBHSTCFG_IRQ9);
    config_write(ports, devfn, PCI_INTERRUPT_LINE, 1, PC_SCI_IRQ);
}

static void function_setup(struct pci_setup *pci, unsigned devfn, u32 id)
{
    u16 command = (u16)config_read(pci->ports, devfn, PCI_COMMAND, 2);
    u8 pin = (u8)config_read(pci->ports, devfn, PCI_INTERRUPT_PIN, 1);

    if ((config_read(pci->ports, devfn, PCI_HEADER_TYPE, 1) & HEADER_TYPE_MASK) != 0)
        return; /* bridges: pc-1 has none */
    command &= (u16) ~(COMMAND_IO | COMMAND_MEMORY);
    config_write(pci->ports, devfn, PCI_COMMAND, 2, command);
    for (unsigned bar = 0; bar < BARS;)
        bar += assign_bar(pci, devfn, bar);
    if (pin >= 1 && pin <= PC_PIRQS)
        config_write(pci->ports, devfn, PCI_INTERRUPT_LINE, 1, pc_pirq_irq(pc_pirq(devfn >> 3, pin)));
    if (id == ID_PIIX3)
        piix3_setup(pci->ports, devfn);
    if (id == ID_PIIX4_PM)
        piix4_pm_setup(pci->ports, devfn);
    config_write(pci->ports, devfn, PCI_COMMAND, 2, command | COMMAND_IO | COMMAND_MEMORY);
}

void pci_setup(const struct firmware_config *config)
{
    struct pci_setup pci = {.ports = config->ports, .io_next = PC_PORT_PCI_IO, .mem_next = PC_PCI_HOLE};

    if (!config->ports)
        return;
    for (unsigned slot = 0; slot < PC_SLOTS; slot++) {
        for (unsigned function = 0; function < 8; function++) {
            unsigned devfn = PC_DEVFN(slot, function);
            u32 id = config_read(pci.ports, devfn, PCI_ID, 4);

            if (id != UINT32_MAX && id != 0)
                function_setup(&pci, devfn, id);
            if (function == 0 && (id == UINT32_MAX || !(config_read(pci.ports, devfn, PCI_HEADER_TYPE, 1) &
                                                        HEADER_MULTI_FUNCTION)))
                break;
        }
    }
}

void pci_set_f_segment(const struct firmware_config *config, bool writable)
{
    if (!config->ports || config_read(config->ports, PC_DEVFN_I440FX, PCI_ID, 4) != ID_I440FX)
        return;
    config_write(config->ports, PC_DEVFN_I440FX, I440FX_PAM0, 1, writable ? PAM_READ | PAM_WRITE : PAM_READ);
}
