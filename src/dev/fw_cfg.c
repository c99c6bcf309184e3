#include "dev/fw_cfg.h"

#include <stdlib.h>
#include <string.h>

#include "machine/pc_map.h"
#include "machine/vm.h"

enum { ID_PORTS = 1 << 0, ID_DMA = 1 << 1 };

/* A DMA descriptor; every field is big-endian. */
enum {
    DMA_CONTROL = 0, /* u32; the result is written here */
    DMA_LENGTH = 4,  /* u32 */
    DMA_ADDRESS = 8, /* u64 */
    DMA_SIZE = 16,
    DMA_ERROR = 1 << 0, /* control bits; the key is in bits 16..31 */
    DMA_READ = 1 << 1,
    DMA_SKIP = 1 << 2,
    DMA_SELECT = 1 << 3,
    DMA_WRITE = 1 << 4,
};

/* The file directory: a count, then size, key, reserved, name of each file; big-endian too. */
enum { DIR_COUNT_SIZE = 4, DIR_KEY = 4, DIR_NAME = 8, DIR_ENTRY_SIZE = DIR_NAME + FW_CFG_FILE_NAME };

static u32 get_be32(const u8 *at)
{
    return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

static void put_be32(u8 *at, u32 value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (u8)(value >> (24 - 8 * i));
}

/* ---- Content ---- */

static struct fw_cfg_item *find_item(struct fw_cfg *fw_cfg, u16 key)
{
    for (unsigned i = 0; i < fw_cfg->nitems; i++)
        if (fw_cfg->items[i].key == key)
            return &fw_cfg->items[i];
    return NULL;
}

int fw_cfg_add(struct fw_cfg *fw_cfg, u16 key, const void *bytes, u32 len, struct error *err)
{
    u8 *copy;

    if (find_item(fw_cfg, key))
        return error_set(err, "fw_cfg: key %#x is taken", key);
    if (fw_cfg->nitems == FW_CFG_ITEMS)
        return error_set(err, "fw_cfg: more than %d items", FW_CFG_ITEMS);
    copy = malloc(len ? len : 1);
    if (!copy)
        return error_set(err, "fw_cfg: out of memory");
    memcpy(copy, bytes, len);
    fw_cfg->items[fw_cfg->nitems++] = (struct fw_cfg_item){.key = key, .len = len, .data = copy};
    return 0;
}

/* Write the entry of file `n`, the last, and the new count into the directory, which fw_cfg_init made for all there can
   be. */
static void list_file(struct fw_cfg *fw_cfg, unsigned n, u32 len)
{
    struct fw_cfg_item *directory = find_item(fw_cfg, FW_CFG_FILE_DIR);
    u8 *entry = directory->data + DIR_COUNT_SIZE + n * DIR_ENTRY_SIZE;
    u16 key = (u16)(FW_CFG_FILE_FIRST + n);

    put_be32(directory->data, n + 1);
    put_be32(entry, len);
    entry[DIR_KEY] = (u8)(key >> 8);
    entry[DIR_KEY + 1] = (u8)key;
    memcpy(entry + DIR_NAME, fw_cfg->names[n], FW_CFG_FILE_NAME);
}

int fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const void *bytes, u32 len, struct error *err)
{
    unsigned n = fw_cfg->nfiles;

    if (n == FW_CFG_FILES)
        return error_set(err, "fw_cfg: more than %d files", FW_CFG_FILES);
    if (strlen(name) >= FW_CFG_FILE_NAME)
        return error_set(err, "fw_cfg: the file name %s is longer than %d bytes", name, FW_CFG_FILE_NAME - 1);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(fw_cfg->names[i], name) == 0)
            return error_set(err, "fw_cfg: there is a file %s already", name);
    if (fw_cfg_add(fw_cfg, (u16)(FW_CFG_FILE_FIRST + n), bytes, len, err))
        return -1;
    strcpy(fw_cfg->names[n], name);
    fw_cfg->nfiles++;
    list_file(fw_cfg, n, len);
    return 0;
}

/* An entry of etc/e820: the layout of INT 15h E820h. */
struct e820 {
    u64 start, size;
    u32 type;
} __attribute__((packed));

int fw_cfg_add_machine(struct fw_cfg *fw_cfg, u64 ram_size, unsigned cpus, struct error *err)
{
    enum { E820_RAM = 1 };
    const struct e820 map[] = {
        {0, pc_low_ram(ram_size), E820_RAM},
        {PC_HIGH_RAM, pc_high_ram(ram_size), E820_RAM},
    };
    const u16 count = (u16)cpus, no = 0, yes = 1;
    const u32 irq0_override = 1;

    if (fw_cfg_add(fw_cfg, FW_CFG_RAM_SIZE, &ram_size, sizeof(ram_size), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_CPUS, &count, sizeof(count), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_MAX_CPUS, &count, sizeof(count), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_NOGRAPHIC, &yes, sizeof(yes), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_BOOT_MENU, &no, sizeof(no), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_IRQ0_OVERRIDE, &irq0_override, sizeof(irq0_override), err))
        return -1;
    return fw_cfg_add_file(fw_cfg, "etc/e820", map, (u32)sizeof(map[0]) * (pc_high_ram(ram_size) ? 2 : 1),
                           err);
}

int fw_cfg_init(struct fw_cfg *fw_cfg, struct memory *memory, struct error *err)
{
    static const u8 empty_directory[DIR_COUNT_SIZE + FW_CFG_FILES * DIR_ENTRY_SIZE];
    const u32 id = ID_PORTS | ID_DMA;

    memset(fw_cfg, 0, sizeof(*fw_cfg));
    fw_cfg->memory = memory;
    if (fw_cfg_add(fw_cfg, FW_CFG_SIGNATURE, "QEMU", 4, err) ||
        fw_cfg_add(fw_cfg, FW_CFG_ID, &id, sizeof(id), err) ||
        fw_cfg_add(fw_cfg, FW_CFG_FILE_DIR, empty_directory, sizeof(empty_directory), err)) {
        fw_cfg_free(fw_cfg);
        return -1;
    }
    return 0;
}

void fw_cfg_free(struct fw_cfg *fw_cfg)
{
    for (unsigned i = 0; i < fw_cfg->nitems; i++)
        free(fw_cfg->items[i].data);
    fw_cfg->nitems = 0;
}

void fw_cfg_reset(struct fw_cfg *fw_cfg)
{
    fw_cfg->selector = 0;
    fw_cfg->offset = 0;
    fw_cfg->dma_high = 0;
}

/* ---- Access ---- */

void fw_cfg_select(struct fw_cfg *fw_cfg, u16 key)
{
    fw_cfg->selector = key;
    fw_cfg->offset = 0;
}

/* The selected item's bytes from the offset on, *left of them; NULL: only zeroes follow. */
static const u8 *rest(struct fw_cfg *fw_cfg, u32 *left)
{
    const struct fw_cfg_item *item = find_item(fw_cfg, fw_cfg->selector);

    if (!item || fw_cfg->offset >= item->len)
        return NULL;
    *left = item->len - fw_cfg->offset;
    return item->data + fw_cfg->offset;
}

u8 fw_cfg_read(struct fw_cfg *fw_cfg)
{
    u32 left;
    const u8 *bytes = rest(fw_cfg, &left);

    if (!bytes)
        return 0;
    fw_cfg->offset++;
    return *bytes;
}

/* Copy `len` bytes of the selected item to guest memory. What goes elsewhere than to RAM ends the transfer with an error, so
   that the length, which may be 4 GiB, buys no more work than there is memory. */
static bool transfer(struct fw_cfg *fw_cfg, u64 address, u32 len)
{
    static const u8 zeroes[4096];

    while (len) {
        u32 chunk;
        const u8 *bytes = rest(fw_cfg, &chunk);

        if (bytes) {
            chunk = chunk < len ? chunk : len;
            fw_cfg->offset += chunk;
        } else {
            bytes = zeroes;
            chunk = len < sizeof(zeroes) ? len : (u32)sizeof(zeroes);
        }
        if (!dma_write(fw_cfg->memory, address, bytes, chunk))
            return false;
        address += chunk;
        len -= chunk;
    }
    return true;
}

static void skip(struct fw_cfg *fw_cfg, u32 len)
{
    u32 left;

    if (rest(fw_cfg, &left))
        fw_cfg->offset += left < len ? left : len;
}

static void run_dma(struct fw_cfg *fw_cfg, u64 descriptor)
{
    u8 bytes[DMA_SIZE], result[4] = {0};
    u32 control, len;
    bool ok = true;

    if (!dma_read(fw_cfg->memory, descriptor, bytes, sizeof(bytes)))
        return; /* there is nobody to tell */
    control = get_be32(bytes + DMA_CONTROL);
    len = get_be32(bytes + DMA_LENGTH);
    if (control & DMA_SELECT)
        fw_cfg_select(fw_cfg, (u16)(control >> 16));
    if (control & DMA_READ)
        ok = transfer(fw_cfg, (u64)get_be32(bytes + DMA_ADDRESS) << 32 | get_be32(bytes + DMA_ADDRESS + 4),
                      len);
    else if (control & DMA_WRITE)
        ok = false; /* no item can be written */
    else if (control & DMA_SKIP)
        skip(fw_cfg, len);
    put_be32(result, ok ? 0 : DMA_ERROR);
    dma_write(fw_cfg->memory, descriptor + DMA_CONTROL, result, sizeof(result));
}

void fw_cfg_dma_write(struct fw_cfg *fw_cfg, unsigned offset, u32 value)
{
    u32 half = __builtin_bswap32(value);

    if (offset == 0) {
        fw_cfg->dma_high = half;
    } else if (offset == 4) {
        u64 descriptor = (u64)fw_cfg->dma_high << 32 | half;

        fw_cfg->dma_high = 0;
        run_dma(fw_cfg, descriptor);
    }
}

static const struct state_field fw_cfg_fields[] = {
    STATE_FIELD(struct fw_cfg, selector, STATE_U16, 1),
    STATE_FIELD(struct fw_cfg, offset, STATE_U32, 1),
    STATE_FIELD(struct fw_cfg, dma_high, STATE_U32, 1),
    STATE_END,
};
const struct state_table fw_cfg_state = {
    .name = "fw_cfg",
    .version = 1,
    .size = sizeof(struct fw_cfg),
    .fields = fw_cfg_fields,
};

/* ---- The device ---- */

struct fw_cfg_device {
    struct device device;
    struct fw_cfg fw_cfg;
};

struct fw_cfg *fw_cfg_of(struct device *device)
{
    return &container_of(device, struct fw_cfg_device, device)->fw_cfg;
}

/* Two ports: a 16-bit write selects, 8-bit reads give data at either. */
static u64 ports_read(void *opaque, u64 offset, unsigned size)
{
    return size == 1 ? fw_cfg_read(opaque) : UINT64_MAX;
}

static void ports_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    if (size == 2 && offset == 0)
        fw_cfg_select(opaque, (u16)value);
}

/* Eight ports: reads give the bytes of a signature, writes the descriptor's address, big-endian. */
static u64 dma_ports_read(void *opaque, u64 offset, unsigned size)
{
    static const u8 signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};
    u64 value = 0;

    for (unsigned i = 0; i < size && offset + i < sizeof(signature); i++)
        value |= (u64)signature[offset + i] << 8 * i;
    return value;
}

static void dma_ports_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    if (size == 4)
        fw_cfg_dma_write(opaque, (unsigned)offset, (u32)value);
}

static const struct io_ops ports_ops = {
    .read = ports_read, .write = ports_write, .min_size = 1, .max_size = 2};
static const struct io_ops dma_ports_ops = {
    .read = dma_ports_read, .write = dma_ports_write, .min_size = 1, .max_size = 4};
enum { PORTS = 2, DMA_PORT_OFFSET = 4, DMA_PORTS = 8 };

static int fw_cfg_attach(struct device *device, struct error *err)
{
    struct fw_cfg *fw_cfg = fw_cfg_of(device);
    struct vm *vm = device->vm;

    if (fw_cfg_init(fw_cfg, &vm->memory, err) ||
        fw_cfg_add_machine(fw_cfg, vm->config.ram_size, vm->config.vcpus, err))
        return -1;
    if (port_map_add(&vm->ports, PC_PORT_FW_CFG, PORTS, &ports_ops, fw_cfg, "fw_cfg", err) ||
        port_map_add(&vm->ports, PC_PORT_FW_CFG + DMA_PORT_OFFSET, DMA_PORTS, &dma_ports_ops, fw_cfg,
                     "fw_cfg DMA", err))
        return -1;
    return 0;
}

static void fw_cfg_detach(struct device *device)
{
    fw_cfg_free(fw_cfg_of(device));
}

static void fw_cfg_device_reset(struct device *device)
{
    fw_cfg_reset(fw_cfg_of(device));
}

const struct device_class fw_cfg_class = {
    .name = "fw_cfg",
    .help = "firmware configuration, as QEMU's",
    .size = sizeof(struct fw_cfg_device),
    .state = &fw_cfg_state,
    .state_offset = offsetof(struct fw_cfg_device, fw_cfg),
    .attach = fw_cfg_attach,
    .detach = fw_cfg_detach,
    .reset = fw_cfg_device_reset,
};
