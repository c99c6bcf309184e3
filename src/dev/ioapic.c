#include "dev/ioapic.h"

#include <string.h>

#include "machine/vm.h"

/* Registers behind IOREGSEL, and the offsets in the page (82093AA 3.1, 3.2). */
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_REDIRECTION = 0x10 };
enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40 };

enum { VERSION = 0x20 | (IRQ_GSIS - 1) << 16 };

/* Redirection entry. Polarity is stored and means nothing here: a GSI is high while its interrupt is asserted. */
enum {
    RTE_LOGICAL = 1 << 11,
    RTE_STATUS = 1 << 12,
    RTE_REMOTE_IRR = 1 << 14,
    RTE_LEVEL = 1 << 15,
    RTE_MASKED = 1 << 16,
};
enum { RTE_READ_ONLY = RTE_STATUS | RTE_REMOTE_IRR };
static const u64 rte_valid = 0xff00000000000000 | 0x1ffff;

enum { DM_LOWEST = 1 };

static bool ioapic_level_triggered(u64 rte)
{
    return (rte & RTE_LEVEL) &&
           (rte >> 8 & 7) <= DM_LOWEST; /* the other modes are edges whatever the bit says */
}

static void ioapic_send(struct ioapic *ioapic, u64 rte)
{
    u64 address = 0xfee00000 | rte >> 56 << 12 | (rte & RTE_LOGICAL ? 1 << 2 : 0);
    u32 data = (u32)(rte & 0x7ff);

    if (ioapic_level_triggered(rte))
        data |= 1 << 15 | 1 << 14;
    irq_router_msi(ioapic->router, address, data);
}

/* Send what a level-triggered pin asks for, unless it is waiting for an EOI. */
static void ioapic_service_level(struct ioapic *ioapic, unsigned pin)
{
    u64 *rte = &ioapic->redirection[pin];

    if (!(ioapic->level >> pin & 1) || !ioapic_level_triggered(*rte) ||
        (*rte & (RTE_MASKED | RTE_REMOTE_IRR)))
        return;
    *rte |= RTE_REMOTE_IRR;
    ioapic_send(ioapic, *rte);
}

void ioapic_set_pin(void *opaque, unsigned pin, bool level)
{
    struct ioapic *ioapic = opaque;
    u64 rte;
    bool rose;

    if (pin >= IRQ_GSIS)
        return;
    rte = ioapic->redirection[pin];
    rose = level && !(ioapic->level >> pin & 1);
    if (level)
        ioapic->level |= 1u << pin;
    else
        ioapic->level &= ~(1u << pin);
    if (ioapic_level_triggered(rte))
        ioapic_service_level(ioapic, pin);
    else if (rose && !(rte & RTE_MASKED)) /* an edge on a masked pin is lost (82093AA 3.2.4) */
        ioapic_send(ioapic, rte);
}

void ioapic_eoi(void *opaque, u8 vector)
{
    struct ioapic *ioapic = opaque;

    for (unsigned pin = 0; pin < IRQ_GSIS; pin++) {
        u64 *rte = &ioapic->redirection[pin];

        if (!(*rte & RTE_REMOTE_IRR) || (u8)*rte != vector)
            continue;
        *rte &= ~(u64)RTE_REMOTE_IRR;
        irq_router_eoi(ioapic->router, pin);
        ioapic_service_level(ioapic, pin);
    }
}

static void ioapic_write_redirection(struct ioapic *ioapic, unsigned pin, u64 value)
{
    u64 *rte = &ioapic->redirection[pin];

    *rte = (value & rte_valid & ~(u64)RTE_READ_ONLY) | (*rte & RTE_READ_ONLY);
    if (!ioapic_level_triggered(*rte))
        *rte &= ~(u64)RTE_REMOTE_IRR; /* drivers switch to edge and back to get rid of it */
    ioapic_service_level(ioapic, pin);
}

static u32 ioapic_read_register(const struct ioapic *ioapic)
{
    unsigned pin = (ioapic->select - REG_REDIRECTION) / 2;

    switch (ioapic->select) {
    case REG_ID:
    case REG_ARBITRATION: return ioapic->id;
    case REG_VERSION: return VERSION;
    }
    if (ioapic->select < REG_REDIRECTION || pin >= IRQ_GSIS)
        return 0;
    return (u32)(ioapic->redirection[pin] >> (ioapic->select & 1 ? 32 : 0));
}

static void ioapic_write_register(struct ioapic *ioapic, u32 value)
{
    unsigned pin = (ioapic->select - REG_REDIRECTION) / 2;
    u64 rte;

    if (ioapic->select == REG_ID)
        ioapic->id = value & 0x0f000000;
    if (ioapic->select < REG_REDIRECTION || pin >= IRQ_GSIS)
        return;
    rte = ioapic->redirection[pin];
    if (ioapic->select & 1)
        rte = (u32)rte | (u64)value << 32;
    else
        rte = (rte & 0xffffffff00000000) | value;
    ioapic_write_redirection(ioapic, pin, rte);
}

/* Registers are 32 bits wide. Parts of them can be read; IOREGSEL alone takes a byte. */
static u64 ioapic_read(void *opaque, u64 offset, unsigned size)
{
    struct ioapic *ioapic = opaque;
    u32 value;

    switch (offset & ~(u64)3) {
    case IOREGSEL: value = ioapic->select; break;
    case IOWIN: value = ioapic_read_register(ioapic); break;
    default: return 0;
    }
    value >>= 8 * (offset & 3);
    return size >= 4 ? value : value & ((1u << 8 * size) - 1);
}

static void ioapic_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct ioapic *ioapic = opaque;

    if (offset == IOREGSEL)
        ioapic->select = (u8)value;
    else if (offset == IOWIN && size == 4)
        ioapic_write_register(ioapic, (u32)value);
    else if (offset == IOEOI && size == 4)
        ioapic_eoi(ioapic, (u8)value);
}

const struct io_ops ioapic_io_ops = {
    .read = ioapic_read, .write = ioapic_write, .min_size = 1, .max_size = 4};

void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->id = 0;
    ioapic->select = 0;
    for (unsigned pin = 0; pin < IRQ_GSIS; pin++)
        ioapic->redirection[pin] = RTE_MASKED;
}

static int ioapic_post_load(void *object, struct error *err)
{
    struct ioapic *ioapic = object;

    if (ioapic->level >> IRQ_GSIS)
        return error_set(err, "IOAPIC: levels %x of pins that do not exist", ioapic->level);
    if (ioapic->id & ~0x0f000000u)
        return error_set(err, "IOAPIC: ID register %x is not possible", ioapic->id);
    for (unsigned pin = 0; pin < IRQ_GSIS; pin++)
        if (ioapic->redirection[pin] & ~rte_valid)
            return error_set(err, "IOAPIC: redirection entry %u is not possible", pin);
    return 0;
}

static const struct state_field ioapic_fields[] = {
    STATE_FIELD(struct ioapic, id, STATE_U32, 1),
    STATE_FIELD(struct ioapic, select, STATE_U8, 1),
    STATE_ARRAY(struct ioapic, redirection, STATE_U64, 1),
    STATE_FIELD(struct ioapic, level, STATE_U32, 1),
    STATE_END,
};
const struct state_table ioapic_state_table = {
    .name = "ioapic",
    .version = 1,
    .size = sizeof(struct ioapic),
    .fields = ioapic_fields,
    .post_load = ioapic_post_load,
};

/* ---- The device ---- */

struct ioapic_device {
    struct device device;
    u8 sink;
    struct ioapic ioapic;
    struct mem_region region;
};

static int ioapic_device_attach(struct device *device, struct error *err)
{
    struct ioapic_device *self = (struct ioapic_device *)device;
    struct vm *vm = device->vm;

    if (self->sink >= IRQ_SINKS)
        return error_set(err, "%s: there is no sink %u", device->name, self->sink);
    self->ioapic.router = &vm->irqs;
    vm->irqs.sink[self->sink] = (struct irq_sink){.gsi = ioapic_set_pin, .opaque = &self->ioapic};
    self->region = (struct mem_region){
        .start = IOAPIC_DEFAULT_BASE,
        .size = IOAPIC_SIZE,
        .enabled = true,
        .read = true,
        .write = true,
        .ops = &ioapic_io_ops,
        .opaque = &self->ioapic,
        .name = device->name,
    };
    if (memory_add_region(&vm->memory, &self->region, err) < 0)
        return -1;
    memory_commit(&vm->memory);
    return 0;
}

static void ioapic_device_reset(struct device *device)
{
    ioapic_reset(ioapic_of(device));
}

struct ioapic *ioapic_of(struct device *device)
{
    return &((struct ioapic_device *)device)->ioapic;
}

static const struct property ioapic_properties[] = {
    {.name = "sink",
     .type = PROP_U8,
     .offset = offsetof(struct ioapic_device, sink),
     .default_value = "1",
     .help = "which of the interrupt router's sinks it is"},
    {.name = NULL},
};

const struct device_class ioapic_class = {
    .name = "ioapic",
    .help = "I/O APIC, 24 pins, version 20h",
    .size = sizeof(struct ioapic_device),
    .properties = ioapic_properties,
    .state = &ioapic_state_table,
    .state_offset = offsetof(struct ioapic_device, ioapic),
    .attach = ioapic_device_attach,
    .reset = ioapic_device_reset,
};
