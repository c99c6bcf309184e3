#include "dev/i440fx.h"

#include "machine/pc_map.h"
#include "machine/vm.h"

enum {
    PAM0 = 0x59,
    PAM6 = 0x5f,
    SMRAM = 0x72,
};
/* FX 3.2.16, each nibble. */
enum { PAM_READ = 1 << 0, PAM_WRITE = 1 << 1 };
/* FX 3.2.20. */
enum {
    SMRAM_OPEN = 1 << 6,
    SMRAM_CLOSE = 1 << 5,
    SMRAM_LOCK = 1 << 4,
    SMRAM_ENABLE = 1 << 3,
    SMRAM_BASE = 2
};

enum { PAM_AREAS = 13, SMRAM_START = 0xa0000, SMRAM_END = 0xc0000 };

/* What each PAM nibble governs, in the order of the registers. The low nibble of PAM0 governs nothing. */
static const struct pam_area {
    u8 reg, shift;
    u32 start, size;
} pam_areas[PAM_AREAS] = {
    {0x59, 4, 0xf0000, 0x10000}, {0x5a, 0, 0xc0000, 0x4000}, {0x5a, 4, 0xc4000, 0x4000},
    {0x5b, 0, 0xc8000, 0x4000},  {0x5b, 4, 0xcc000, 0x4000}, {0x5c, 0, 0xd0000, 0x4000},
    {0x5c, 4, 0xd4000, 0x4000},  {0x5d, 0, 0xd8000, 0x4000}, {0x5d, 4, 0xdc000, 0x4000},
    {0x5e, 0, 0xe0000, 0x4000},  {0x5e, 4, 0xe4000, 0x4000}, {0x5f, 0, 0xe8000, 0x4000},
    {0x5f, 4, 0xec000, 0x4000},
};

struct i440fx {
    struct device device; // not saved: wiring
    struct pci_device pci;
    struct pci_bus bus;
    struct mem_region ram[3];         // not saved: wiring; below 640 KiB, below the hole, above 4 GiB
    struct mem_region pam[PAM_AREAS]; // not saved: follows from the PAM registers
    struct mem_region smram;          // not saved: follows from the SMRAM register
};

/* Make the map follow the registers. */
static void i440fx_update(struct i440fx *fx)
{
    bool changed = false;
    bool open = fx->pci.config[SMRAM] & SMRAM_OPEN && !(fx->pci.config[SMRAM] & SMRAM_CLOSE);

    for (unsigned i = 0; i < PAM_AREAS; i++) {
        u8 attributes = fx->pci.config[pam_areas[i].reg] >> pam_areas[i].shift;
        struct mem_region *region = &fx->pam[i];
        bool read = attributes & PAM_READ, write = attributes & PAM_WRITE;

        changed |= read != region->read || write != region->write;
        region->read = read;
        region->write = write;
        region->enabled = region->block && (read || write);
    }
    open &= fx->smram.block != NULL;
    changed |= open != fx->smram.enabled;
    fx->smram.enabled = open;
    if (changed)
        memory_commit(fx->bus.memory);
}

/* SMRAM, once locked, changes no more until reset, and D_OPEN is cleared by the lock. */
static u8 i440fx_config_filter(struct pci_device *pci, unsigned reg, u8 old, u8 value)
{
    if (reg != SMRAM)
        return value;
    if (old & SMRAM_LOCK)
        return old;
    return value & SMRAM_LOCK ? value & ~SMRAM_OPEN : value;
}

static void i440fx_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    if (offset <= SMRAM && offset + size > PAM0)
        i440fx_update(container_of(pci, struct i440fx, pci));
}

static int map_ram(struct i440fx *fx, struct mem_region *region, u64 start, u64 end, u64 block_offset,
                   bool enabled, struct error *err)
{
    struct memory *memory = &fx->device.vm->memory;
    struct mem_block *ram = memory->blocks[0];

    *region = (struct mem_region){.start = start,
                                  .size = end - start,
                                  .priority = MEM_PRIORITY_RAM,
                                  .enabled = enabled,
                                  .read = enabled,
                                  .write = enabled,
                                  .name = "ram"};
    if (start >= end || block_offset + (end - start) > ram->size)
        return 0; /* no RAM there */
    region->block = ram;
    region->block_offset = block_offset;
    return memory_add_region(memory, region, err);
}

static u64 min_u64(u64 a, u64 b)
{
    return a < b ? a : b;
}

static int map_all_ram(struct i440fx *fx, struct error *err)
{
    u64 size = fx->device.vm->memory.blocks[0]->size, low = pc_low_ram(size);

    if (map_ram(fx, &fx->ram[0], 0, min_u64(low, PC_LEGACY_HOLE), 0, true, err) < 0 ||
        map_ram(fx, &fx->ram[1], PC_LEGACY_HOLE_END, low, PC_LEGACY_HOLE_END, true, err) < 0 ||
        map_ram(fx, &fx->ram[2], PC_HIGH_RAM, PC_HIGH_RAM + pc_high_ram(size), PC_LOW_RAM_END, true, err) <
            0 ||
        map_ram(fx, &fx->smram, SMRAM_START, SMRAM_END, SMRAM_START, false, err) < 0)
        return -1;
    fx->smram.read = fx->smram.write = true;
    for (unsigned i = 0; i < PAM_AREAS; i++)
        if (map_ram(fx, &fx->pam[i], pam_areas[i].start, pam_areas[i].start + pam_areas[i].size,
                    pam_areas[i].start, false, err) < 0)
            return -1;
    return 0;
}

static int i440fx_attach(struct device *device, struct error *err)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x1237,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x060000,
                                       .revision = 0x02};
    struct i440fx *fx = (struct i440fx *)device;
    struct vm *vm = device->vm;

    if (pci_bus_init(&fx->bus, &vm->memory, &vm->ports, &vm->irqs, err) < 0)
        return -1;
    pci_init(&fx->pci, &ids, device->name);
    /* It always masters and decodes memory (FX 3.2.3), and says so in its command register. */
    pci_put16(&fx->pci, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    fx->pci.writable[PCI_COMMAND] = PCI_COMMAND_PARITY;
    fx->pci.writable[PCI_COMMAND + 1] = PCI_COMMAND_SERR >> 8;
    pci_put16(&fx->pci, PCI_STATUS, 0x0280); /* medium DEVSEL, fast back-to-back */
    fx->pci.writable[PCI_INTERRUPT_LINE] = 0;
    fx->pci.writable[PAM0] = 0x30;
    for (unsigned reg = PAM0 + 1; reg <= PAM6; reg++)
        fx->pci.writable[reg] = 0x33;
    fx->pci.config[SMRAM] = SMRAM_BASE;
    fx->pci.writable[SMRAM] = SMRAM_OPEN | SMRAM_CLOSE | SMRAM_LOCK | SMRAM_ENABLE;
    fx->pci.config_filter = i440fx_config_filter;
    fx->pci.config_written = i440fx_config_written;
    if (pci_register(&fx->pci, &fx->bus, PC_DEVFN_I440FX, err) < 0 || map_all_ram(fx, err) < 0)
        return -1;
    memory_commit(&vm->memory);
    return 0;
}

static void i440fx_reset(struct device *device)
{
    struct i440fx *fx = (struct i440fx *)device;

    fx->bus.address = 0;
    pci_reset(&fx->pci);
    i440fx_update(fx);
}

struct pci_bus *i440fx_bus(struct device *device)
{
    return &((struct i440fx *)device)->bus;
}

static int i440fx_post_load(void *object, struct error *err)
{
    i440fx_update(object);
    return 0;
}

static const struct state_field i440fx_fields[] = {
    STATE_STRUCT(struct i440fx, pci, &pci_device_state_table, 1),
    STATE_STRUCT(struct i440fx, bus, &pci_bus_state_table, 1),
    STATE_END,
};
static const struct state_table i440fx_state_table = {
    .name = "i440fx",
    .version = 1,
    .size = sizeof(struct i440fx),
    .fields = i440fx_fields,
    .post_load = i440fx_post_load,
};

static const struct property i440fx_properties[] = {{.name = NULL}};

const struct device_class i440fx_class = {
    .name = "i440fx",
    .help = "Intel 440FX host bridge: PCI bus, RAM decoding",
    .size = sizeof(struct i440fx),
    .properties = i440fx_properties,
    .state = &i440fx_state_table,
    .attach = i440fx_attach,
    .reset = i440fx_reset,
};
