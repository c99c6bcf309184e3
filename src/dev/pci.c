#include "dev/pci.h"

#include <assert.h>
#include <string.h>

#include "machine/pc_map.h"

#define LOG_MODULE "dev/pci"
#include "base/log.h"

enum { CONFADDR = PC_PORT_PCI_ADDRESS, CONF_PORTS = 8 };
#define CONFADDR_ENABLE (1u << 31)
#define CONFADDR_VALID  (CONFADDR_ENABLE | 0x00fffffc)

/* MSI capability with 64-bit address and masks (PCI 3.0 section 6.8.1). */
enum { MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20, MSI_SIZE = 24 };
enum { MSI_ENABLE = 1 << 0, MSI_MULTIPLE_SHIFT = 4, MSI_64BIT = 1 << 7, MSI_MASKABLE = 1 << 8 };

/* MSI-X capability (section 6.8.2). */
enum { MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PBA = 8, MSIX_SIZE = 12 };
enum { MSIX_FUNCTION_MASK = 1 << 14, MSIX_ENABLE = 1 << 15 };
enum { MSIX_BAR_SIZE = 4096, MSIX_PBA_OFFSET = 2048, MSIX_VECTOR_MASKED = 1 };

static void put(u8 *bytes, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (u8)(value >> 8 * i);
}

static u64 get(const u8 *bytes, unsigned size)
{
    u64 value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (u64)bytes[i] << 8 * i;
    return value;
}

void pci_put16(struct pci_device *pci, unsigned offset, u16 value)
{
    put(pci->config + offset, value, 2);
}
void pci_put32(struct pci_device *pci, unsigned offset, u32 value)
{
    put(pci->config + offset, value, 4);
}
u16 pci_get16(const struct pci_device *pci, unsigned offset)
{
    return (u16)get(pci->config + offset, 2);
}
u32 pci_get32(const struct pci_device *pci, unsigned offset)
{
    return (u32)get(pci->config + offset, 4);
}

static u16 pci_command(const struct pci_device *pci)
{
    return pci_get16(pci, PCI_COMMAND);
}

bool pci_master(const struct pci_device *pci)
{
    return pci_command(pci) & PCI_COMMAND_MASTER;
}

/* ---- Interrupt pins ---- */

static bool pci_intx_asserted(const struct pci_device *pci)
{
    return pci->intx && !(pci_command(pci) & PCI_COMMAND_INTX_DISABLE) && !pci_msi_enabled(pci) &&
           !pci_msix_enabled(pci);
}

bool pci_bus_pirq(const struct pci_bus *bus, unsigned n)
{
    for (unsigned devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        const struct pci_device *pci = bus->devices[devfn];

        if (pci && pci->config[PCI_INTERRUPT_PIN] && pci_intx_asserted(pci) &&
            pc_pirq(devfn >> 3, pci->config[PCI_INTERRUPT_PIN]) == n)
            return true;
    }
    return false;
}

static void pci_intx_update(struct pci_device *pci)
{
    if (pci->bus->intx_changed)
        pci->bus->intx_changed(pci->bus->intx_opaque);
}

void pci_set_intx(struct pci_device *pci, bool level)
{
    if (pci->intx == level)
        return;
    pci->intx = level;
    pci_intx_update(pci);
}

/* ---- MSI ---- */

bool pci_msi_enabled(const struct pci_device *pci)
{
    return pci->msi_cap && (pci_get16(pci, pci->msi_cap + MSI_CONTROL) & MSI_ENABLE);
}

void pci_msi_send(struct pci_device *pci, unsigned vector)
{
    unsigned cap = pci->msi_cap, allocated;
    u32 data;

    if (!pci_msi_enabled(pci))
        return;
    allocated = 1u << (pci_get16(pci, cap + MSI_CONTROL) >> MSI_MULTIPLE_SHIFT & 7);
    if (vector >= allocated || allocated > 32 || !pci_master(pci))
        return;
    if (pci_get32(pci, cap + MSI_MASK) >> vector & 1) {
        pci_put32(pci, cap + MSI_PENDING, pci_get32(pci, cap + MSI_PENDING) | 1u << vector);
        return;
    }
    data = (pci_get16(pci, cap + MSI_DATA) & ~(allocated - 1)) | vector;
    irq_router_msi(pci->bus->router, get(pci->config + cap + MSI_ADDRESS, 8), data);
}

static void pci_msi_send_pending(struct pci_device *pci)
{
    u32 ready = pci_get32(pci, pci->msi_cap + MSI_PENDING) & ~pci_get32(pci, pci->msi_cap + MSI_MASK);

    if (!pci_msi_enabled(pci))
        return;
    for (unsigned vector = 0; vector < 32; vector++)
        if (ready >> vector & 1) {
            pci_put32(pci, pci->msi_cap + MSI_PENDING,
                      pci_get32(pci, pci->msi_cap + MSI_PENDING) & ~(1u << vector));
            pci_msi_send(pci, vector);
        }
}

void pci_add_msi(struct pci_device *pci, u8 offset, unsigned vectors)
{
    unsigned log2 = (unsigned)__builtin_ctz(vectors);

    pci_add_capability(pci, PCI_CAP_MSI, offset, MSI_SIZE);
    pci_put16(pci, offset + MSI_CONTROL, (u16)(log2 << 1 | MSI_64BIT | MSI_MASKABLE));
    put(pci->writable + offset + MSI_CONTROL, MSI_ENABLE | 7 << MSI_MULTIPLE_SHIFT, 2);
    put(pci->writable + offset + MSI_ADDRESS, ~(u64)3, 8);
    put(pci->writable + offset + MSI_DATA, 0xffff, 2);
    put(pci->writable + offset + MSI_MASK, ((u64)1 << vectors) - 1, 4);
    pci->msi_cap = offset;
}

/* ---- MSI-X ---- */

static u16 pci_msix_control(const struct pci_device *pci)
{
    return pci->msix_cap ? pci_get16(pci, pci->msix_cap + MSIX_CONTROL) : 0;
}

bool pci_msix_enabled(const struct pci_device *pci)
{
    return pci_msix_control(pci) & MSIX_ENABLE;
}

void pci_msix_send(struct pci_device *pci, unsigned vector)
{
    const u32 *entry;

    if (!pci_msix_enabled(pci) || vector >= pci->msix_vectors)
        return;
    entry = pci->msix_table + 4 * vector;
    if ((pci_msix_control(pci) & MSIX_FUNCTION_MASK) || (entry[3] & MSIX_VECTOR_MASKED))
        pci->msix_pending |= 1u << vector;
    else if (pci_master(pci))
        irq_router_msi(pci->bus->router, entry[0] | (u64)entry[1] << 32, entry[2]);
}

static void pci_msix_send_pending(struct pci_device *pci)
{
    if (!pci_msix_enabled(pci))
        return;
    for (unsigned vector = 0; vector < pci->msix_vectors; vector++)
        if (pci->msix_pending >> vector & 1) {
            pci->msix_pending &= ~(1u << vector);
            pci_msix_send(pci, vector);
        }
}

static u64 msix_read(void *opaque, u64 offset, unsigned size)
{
    const struct pci_device *pci = opaque;

    if (offset & 3)
        return 0;
    if (offset < 16u * pci->msix_vectors)
        return pci->msix_table[offset / 4];
    return offset == MSIX_PBA_OFFSET ? pci->msix_pending : 0;
}

static void msix_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    static const u32 valid[4] = {~3u, ~0u, ~0u, MSIX_VECTOR_MASKED};
    struct pci_device *pci = opaque;

    if ((offset & 3) || offset >= 16u * pci->msix_vectors)
        return;
    pci->msix_table[offset / 4] = (u32)value & valid[offset / 4 % 4];
    pci_msix_send_pending(pci);
}

/* Software uses dword and qword accesses only (section 6.8.2); the memory map splits the latter. */
static const struct io_ops msix_ops = {.read = msix_read, .write = msix_write, .min_size = 4, .max_size = 4};

void pci_add_msix(struct pci_device *pci, u8 offset, unsigned bar, unsigned vectors)
{
    assert(vectors > 0 && vectors <= PCI_MSIX_MAX);
    pci_add_capability(pci, PCI_CAP_MSIX, offset, MSIX_SIZE);
    pci_put16(pci, offset + MSIX_CONTROL, (u16)(vectors - 1));
    put(pci->writable + offset + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK, 2);
    pci_put32(pci, offset + MSIX_TABLE, bar);
    pci_put32(pci, offset + MSIX_PBA, MSIX_PBA_OFFSET | bar);
    pci->msix_cap = offset;
    pci->msix_vectors = (u8)vectors;
    pci_add_bar(pci, bar, PCI_BAR_MEM32, MSIX_BAR_SIZE, &msix_ops, pci);
}

/* ---- Base address registers ---- */

/*
 * Where the guest wants a BAR; false: nowhere that can be decoded. Zero is "not programmed". I/O may not cover the
 * configuration ports, which the host bridge keeps to itself.
 */
static bool pci_bar_wanted(const struct pci_device *pci, unsigned n, u64 *address)
{
    const struct pci_bar *bar = &pci->bars[n];
    u16 command = pci_command(pci);
    u64 start;

    if (bar->kind == PCI_BAR_IO) {
        start = pci_get32(pci, PCI_BAR0 + 4 * n) & ~(u64)3;
        *address = start;
        return (command & PCI_COMMAND_IO) && start && start + bar->size <= 0x10000 &&
               (start >= CONFADDR + CONF_PORTS || start + bar->size <= CONFADDR);
    }
    start = pci_get32(pci, PCI_BAR0 + 4 * n) & ~(u64)15;
    if (bar->kind == PCI_BAR_MEM64)
        start |= (u64)pci_get32(pci, PCI_BAR0 + 4 * n + 4) << 32;
    *address = start;
    return (command & PCI_COMMAND_MEMORY) && start && start <= UINT64_MAX - bar->size;
}

static void pci_unmap_port(struct pci_device *pci, struct pci_bar *bar)
{
    port_map_remove(pci->bus->ports, (u32)bar->address, bar->ops, bar->opaque);
    bar->mapped = false;
}

static void pci_map_port(struct pci_device *pci, struct pci_bar *bar, u64 address)
{
    struct error err = {{0}};

    if (port_map_add(pci->bus->ports, (u32)address, (u32)bar->size, bar->ops, bar->opaque, pci->name, &err) <
        0) {
        log_warn("%s", err.text);
        return;
    }
    bar->address = address;
    bar->mapped = true;
}

/* Bring the maps in line with the command register and the BARs. */
static void pci_update_bars(struct pci_device *pci)
{
    bool memory_changed = false;

    for (unsigned n = 0; n < PCI_BARS; n++) {
        struct pci_bar *bar = &pci->bars[n];
        u64 address;
        bool wanted;

        if (bar->kind == PCI_BAR_NONE)
            continue;
        wanted = pci_bar_wanted(pci, n, &address);
        if (wanted == bar->mapped && (!wanted || address == bar->address))
            continue;
        if (bar->kind == PCI_BAR_IO) {
            if (bar->mapped)
                pci_unmap_port(pci, bar);
            if (wanted)
                pci_map_port(pci, bar, address);
        } else {
            bar->region.start = bar->address = address;
            bar->region.enabled = bar->mapped = wanted;
            memory_changed = true;
        }
    }
    if (memory_changed)
        memory_commit(pci->bus->memory);
}

void pci_add_bar(struct pci_device *pci, unsigned n, enum pci_bar_kind kind, u64 size,
                 const struct io_ops *ops, void *opaque)
{
    struct pci_bar *bar = &pci->bars[n];
    unsigned offset = PCI_BAR0 + 4 * n;

    assert((size & (size - 1)) == 0 && size >= (kind == PCI_BAR_IO ? 4 : 16));
    *bar = (struct pci_bar){.kind = kind, .size = size, .ops = ops, .opaque = opaque};
    bar->region = (struct mem_region){
        .size = size,
        .priority = MEM_PRIORITY_BAR,
        .read = true,
        .write = true,
        .ops = ops,
        .opaque = opaque,
        .name = pci->name,
    };
    pci_put32(pci, offset, kind == PCI_BAR_IO ? 1 : kind == PCI_BAR_MEM64 ? 4 : 0);
    put(pci->writable + offset, ~(size - 1), kind == PCI_BAR_MEM64 ? 8 : 4);
}

/* ---- Configuration space ---- */

void pci_init(struct pci_device *pci, const struct pci_ids *ids, const char *name)
{
    memset(pci, 0, sizeof(*pci));
    pci->name = name;
    pci_put16(pci, PCI_VENDOR, ids->vendor);
    pci_put16(pci, PCI_DEVICE, ids->device);
    put(pci->config + PCI_CLASS, ids->class_code, 3);
    pci->config[PCI_REVISION] = ids->revision;
    pci_put16(pci, PCI_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
    pci_put16(pci, PCI_SUBSYSTEM, ids->subsystem);
    put(pci->writable + PCI_COMMAND,
        PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
            PCI_COMMAND_INTX_DISABLE,
        2);
    put(pci->clearable + PCI_STATUS, 0xf900, 2); /* the error bits */
    pci->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_set_pin(struct pci_device *pci, u8 pin)
{
    pci->config[PCI_INTERRUPT_PIN] = pin;
}

void pci_add_capability(struct pci_device *pci, u8 id, u8 offset, u8 size)
{
    assert(offset >= 0x40 && offset + size <= PCI_CONFIG_SIZE && offset % 4 == 0);
    pci->config[offset] = id;
    pci->config[offset + 1] = pci->config[PCI_CAPABILITIES];
    pci->config[PCI_CAPABILITIES] = offset;
    pci->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
}

int pci_register(struct pci_device *pci, struct pci_bus *bus, unsigned devfn, struct error *err)
{
    assert(devfn < ARRAY_SIZE(bus->devices));
    if (bus->devices[devfn])
        return error_set(err, "%s: PCI slot %02x.%x is taken by %s", pci->name, devfn >> 3, devfn & 7,
                         bus->devices[devfn]->name);
    pci->bus = bus;
    pci->devfn = (u8)devfn;
    memcpy(pci->reset_config, pci->config, sizeof(pci->config));
    for (unsigned n = 0; n < PCI_BARS; n++)
        if (pci->bars[n].kind > PCI_BAR_IO && memory_add_region(bus->memory, &pci->bars[n].region, err) < 0)
            return -1;
    bus->devices[devfn] = pci;
    return 0;
}

void pci_reset(struct pci_device *pci)
{
    memcpy(pci->config, pci->reset_config, sizeof(pci->config));
    memset(pci->msix_table, 0, sizeof(pci->msix_table));
    for (unsigned vector = 0; vector < PCI_MSIX_MAX; vector++)
        pci->msix_table[4 * vector + 3] = MSIX_VECTOR_MASKED;
    pci->msix_pending = 0;
    pci->intx = false;
    pci_update_bars(pci);
    pci_intx_update(pci);
}

u32 pci_config_read(struct pci_device *pci, unsigned offset, unsigned size)
{
    u8 bytes[4] = {0};

    if (pci->config_reading)
        pci->config_reading(pci, offset, size);
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++) {
        bytes[i] = pci->config[offset + i];
        if (offset + i == PCI_STATUS && pci->intx)
            bytes[i] |= PCI_STATUS_INTERRUPT;
    }
    return (u32)get(bytes, size);
}

static bool overlaps(unsigned offset, unsigned size, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + size;
}

void pci_config_write(struct pci_device *pci, unsigned offset, unsigned size, u32 value)
{
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++) {
        unsigned reg = offset + i;
        u8 old = pci->config[reg], byte = (u8)(value >> 8 * i);
        u8 new = (old & ~pci->writable[reg] & ~(byte & pci->clearable[reg])) | (byte & pci->writable[reg]);

        pci->config[reg] = pci->config_filter ? pci->config_filter(pci, reg, old, new) : new;
    }
    if (overlaps(offset, size, PCI_COMMAND, 2) || overlaps(offset, size, PCI_BAR0, 4 * PCI_BARS))
        pci_update_bars(pci);
    if (pci->msi_cap && overlaps(offset, size, pci->msi_cap, MSI_SIZE))
        pci_msi_send_pending(pci);
    if (pci->msix_cap && overlaps(offset, size, pci->msix_cap, MSIX_SIZE))
        pci_msix_send_pending(pci);
    pci_intx_update(pci);
    if (pci->config_written)
        pci->config_written(pci, offset, size);
}

static int pci_device_post_load(void *object, struct error *err)
{
    struct pci_device *pci = object;

    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        u8 fixed = (u8) ~(pci->writable[i] | pci->clearable[i]);

        if (pci->msi_cap && overlaps(i, 1, pci->msi_cap + MSI_PENDING, 4))
            continue;
        if ((pci->config[i] ^ pci->reset_config[i]) & fixed)
            return error_set(err,
                             "%s: configuration byte %02x is %02x, which this machine's device cannot hold",
                             pci->name, i, pci->config[i]);
    }
    if (pci->msix_vectors < 32 && pci->msix_pending >> pci->msix_vectors)
        return error_set(err, "%s: MSI-X vectors are pending that do not exist", pci->name);
    pci_update_bars(pci);
    return 0;
}

static const struct state_field pci_device_fields[] = {
    STATE_ARRAY(struct pci_device, config, STATE_U8, 1),
    STATE_FIELD(struct pci_device, intx, STATE_BOOL, 1),
    STATE_ARRAY(struct pci_device, msix_table, STATE_U32, 1),
    STATE_FIELD(struct pci_device, msix_pending, STATE_U32, 1),
    STATE_END,
};
const struct state_table pci_device_state_table = {
    .name = "pci_device",
    .version = 1,
    .size = sizeof(struct pci_device),
    .fields = pci_device_fields,
    .post_load = pci_device_post_load,
};

/* ---- Configuration mechanism #1 (PCI 3.0 section 3.2.2.3.2) ---- */

static struct pci_device *bus_target(const struct pci_bus *bus)
{
    if (!(bus->address & CONFADDR_ENABLE) || (bus->address >> 16 & 0xff) != 0)
        return NULL;
    return bus->devices[bus->address >> 8 & 0xff];
}

/* CONFADDR answers to dwords alone. */
static u64 conf_read(void *opaque, u64 offset, unsigned size)
{
    struct pci_bus *bus = opaque;
    struct pci_device *pci = bus_target(bus);

    if (offset >= 4)
        return pci ? pci_config_read(pci, (bus->address & 0xfc) + (offset & 3), size) : 0xffffffff;
    if (offset == 0 && size == 4)
        return bus->address;
    return offset == 1 && bus->reset_ops ? io_ops_read(bus->reset_ops, bus->reset_opaque, 0, size)
                                         : 0xffffffff;
}

static void conf_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pci_bus *bus = opaque;
    struct pci_device *pci = bus_target(bus);

    if (offset >= 4) {
        if (pci)
            pci_config_write(pci, (bus->address & 0xfc) + (offset & 3), size, (u32)value);
    } else if (offset == 0 && size == 4) {
        bus->address = (u32)value & CONFADDR_VALID;
    } else if (offset == 1 && bus->reset_ops) {
        io_ops_write(bus->reset_ops, bus->reset_opaque, 0, size, value);
    }
}

static const struct io_ops conf_ops = {.read = conf_read, .write = conf_write, .min_size = 1, .max_size = 4};

int pci_bus_init(struct pci_bus *bus, struct memory *memory, struct port_map *ports,
                 struct irq_router *router, struct error *err)
{
    memset(bus, 0, sizeof(*bus));
    bus->memory = memory;
    bus->ports = ports;
    bus->router = router;
    return port_map_add(ports, CONFADDR, CONF_PORTS, &conf_ops, bus, "pci-config", err);
}

static int pci_bus_post_load(void *object, struct error *err)
{
    const struct pci_bus *bus = object;

    if (bus->address & ~CONFADDR_VALID)
        return error_set(err, "PCI bus: configuration address %08x is not possible", bus->address);
    return 0;
}

static const struct state_field pci_bus_fields[] = {
    STATE_FIELD(struct pci_bus, address, STATE_U32, 1),
    STATE_END,
};
const struct state_table pci_bus_state_table = {
    .name = "pci_bus",
    .version = 1,
    .size = sizeof(struct pci_bus),
    .fields = pci_bus_fields,
    .post_load = pci_bus_post_load,
};
