#include "dev/piix3.h"

#include "dev/pci.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

/* Configuration registers (PIIX3 2.2). */
enum {
    IORT = 0x4c,   /* ISA I/O recovery timer */
    XBCS = 0x4e,   /* X-bus chip selects */
    PIRQRC = 0x60, /* four: PIRQA..PIRQD */
    TOM = 0x69,    /* top of memory */
    MBIRQ0 = 0x70,
    MBDMA0 = 0x76, /* two */
    PCSC = 0x78,   /* two bytes */
    APICBASE = 0x80,
    DLC = 0x82, /* deterministic latency */
    SMICNTL = 0xa0,
    SMIEN = 0xa2, /* two bytes */
    SEE = 0xa4,   /* four bytes */
    FTMR = 0xa8,
    SMIREQ = 0xaa, /* two bytes */
    CTLTMR = 0xac,
    CTHTMR = 0xae,
};
enum { PIRQRC_DISABLED = 1 << 7, PIRQRC_IRQ = 0xf };

/* Reset values and writable bits of the registers that are no more than storage here. */
static const struct {
    u8 reg, reset, writable;
} piix3_registers[] = {
    {IORT, 0x4d, 0x7f},
    {XBCS, 0x03, 0xff},
    {XBCS + 1, 0x00, 0x01},
    {PIRQRC + 0, PIRQRC_DISABLED, PIRQRC_DISABLED | PIRQRC_IRQ},
    {PIRQRC + 1, PIRQRC_DISABLED, PIRQRC_DISABLED | PIRQRC_IRQ},
    {PIRQRC + 2, PIRQRC_DISABLED, PIRQRC_DISABLED | PIRQRC_IRQ},
    {PIRQRC + 3, PIRQRC_DISABLED, PIRQRC_DISABLED | PIRQRC_IRQ},
    {TOM, 0x02, 0xfe},
    {MBIRQ0, 0x80, 0xef},
    {MBDMA0, 0x0c, 0x8f},
    {MBDMA0 + 1, 0x0c, 0x8f},
    {PCSC, 0x02, 0xff},
    {PCSC + 1, 0x00, 0xff},
    {APICBASE, 0x00, 0x7f},
    {DLC, 0x00, 0x0f},
    {SMICNTL, 0x08, 0x1f},
    {SMIEN, 0x00, 0xff},
    {SMIEN + 1, 0x00, 0x01},
    {SEE, 0x00, 0xff},
    {SEE + 1, 0x00, 0xff},
    {SEE + 2, 0x00, 0xff},
    {SEE + 3, 0x00, 0xf0},
    {FTMR, 0x0f, 0xff},
    {CTLTMR, 0x00, 0xff},
    {CTHTMR, 0x00, 0xff},
};

/* The ISA interrupts that a PIRQ can be routed to (PIIX3 2.2.8); other values route to nothing. */
enum { ISA_IRQS = 16, ROUTABLE = 0xdef8 };

/* Reset control register (PIIX3 2.5.5). */
enum { RC_SYSTEM = 1 << 1, RC_CPU = 1 << 2 };

struct piix3 {
    struct device device; // not saved: wiring
    void *bus;            // not saved: wiring
    struct pci_device pci;
    u8 reset_control;
    struct irq_line irqs[ISA_IRQS]; // not saved: wiring
};

/* Drive each ISA interrupt with the OR of the PIRQs that are routed to it. */
static void piix3_route(void *opaque)
{
    struct piix3 *piix3 = opaque;
    u32 levels = 0;

    for (unsigned pirq = 0; pirq < PC_PIRQS; pirq++) {
        u8 route = piix3->pci.config[PIRQRC + pirq];

        if (!(route & PIRQRC_DISABLED) && pci_bus_pirq(piix3->bus, pirq))
            levels |= 1u << (route & PIRQRC_IRQ);
    }
    for (unsigned irq = 0; irq < ISA_IRQS; irq++)
        irq_line_set(&piix3->irqs[irq], levels >> irq & 1);
}

static void piix3_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    if (offset < PIRQRC + PC_PIRQS && offset + size > PIRQRC)
        piix3_route(container_of(pci, struct piix3, pci));
}

static u64 reset_read(void *opaque, u64 offset, unsigned size)
{
    return offset == 0 ? ((struct piix3 *)opaque)->reset_control : 0xff;
}

/* Setting RC_CPU resets the machine; whether hard or soft is one to us. It reads back as 0. */
static void reset_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct piix3 *piix3 = opaque;

    if (offset != 0)
        return;
    piix3->reset_control = value & RC_SYSTEM;
    if (value & RC_CPU)
        vm_request_reset(piix3->device.vm);
}

static const struct io_ops reset_ops = {
    .read = reset_read, .write = reset_write, .min_size = 1, .max_size = 1};

static int piix3_attach(struct device *device, struct error *err)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x7000,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x060100};
    struct piix3 *piix3 = (struct piix3 *)device;
    struct pci_bus *bus = piix3->bus;

    pci_init(&piix3->pci, &ids, device->name);
    piix3->pci.config[PCI_HEADER_TYPE] = 0x80; /* the PIIX3 and PIIX4 PM are functions of one device */
    pci_put16(&piix3->pci, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    piix3->pci.writable[PCI_COMMAND] = 0;
    piix3->pci.writable[PCI_COMMAND + 1] = PCI_COMMAND_SERR >> 8;
    pci_put16(&piix3->pci, PCI_STATUS, 0x0200); /* medium DEVSEL */
    piix3->pci.writable[PCI_INTERRUPT_LINE] = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(piix3_registers); i++) {
        piix3->pci.config[piix3_registers[i].reg] = piix3_registers[i].reset;
        piix3->pci.writable[piix3_registers[i].reg] = piix3_registers[i].writable;
    }
    piix3->pci.config_written = piix3_config_written;
    if (pci_register(&piix3->pci, bus, PC_DEVFN_PIIX3, err) < 0)
        return -1;
    for (unsigned irq = 0; irq < ISA_IRQS; irq++)
        if (ROUTABLE >> irq & 1)
            piix3->irqs[irq] = irq_router_line(&device->vm->irqs, irq);
    bus->intx_changed = piix3_route;
    bus->intx_opaque = piix3;
    bus->reset_ops = &reset_ops;
    bus->reset_opaque = piix3;
    return 0;
}

static void piix3_reset(struct device *device)
{
    struct piix3 *piix3 = (struct piix3 *)device;

    piix3->reset_control = 0;
    pci_reset(&piix3->pci);
    piix3_route(piix3);
}

static const struct state_field piix3_fields[] = {
    STATE_STRUCT(struct piix3, pci, &pci_device_state_table, 1),
    STATE_FIELD(struct piix3, reset_control, STATE_U8, 1),
    STATE_END,
};
static const struct state_table piix3_state_table = {
    .name = "piix3",
    .version = 1,
    .size = sizeof(struct piix3),
    .fields = piix3_fields,
};

static const struct property piix3_properties[] = {
    {.name = "bus",
     .type = PROP_POINTER,
     .offset = offsetof(struct piix3, bus),
     .required = true,
     .help = "PCI bus"},
    {.name = NULL},
};

const struct device_class piix3_class = {
    .name = "piix3",
    .help = "PIIX3 PCI to ISA bridge: PCI interrupt routing, reset port CF9h",
    .size = sizeof(struct piix3),
    .properties = piix3_properties,
    .state = &piix3_state_table,
    .attach = piix3_attach,
    .reset = piix3_reset,
};
