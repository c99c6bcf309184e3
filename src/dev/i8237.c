#include "dev/i8237.h"

#include "machine/io.h"
#include "machine/vm.h"

enum {
    REG_STATUS_COMMAND = 8,
    REG_REQUEST = 9,
    REG_MASK_ONE = 10,
    REG_MODE = 11,
    REG_CLEAR_FLIP_FLOP = 12,
    REG_MASTER_CLEAR = 13,
    REG_CLEAR_MASK = 14,
    REG_MASK_ALL = 15,
};
enum { COMMAND_DISABLE = 1 << 2 };
enum { SET_BIT = 1 << 2, CHANNEL = 3, ALL_CHANNELS = 0xf };
enum {
    MODE_TRANSFER = 3 << 2,
    MODE_VERIFY = 0 << 2,
    MODE_TO_MEMORY = 1 << 2,
    MODE_FROM_MEMORY = 2 << 2,
    MODE_AUTO = 1 << 4,
    MODE_DOWN = 1 << 5,
    MODE_CASCADE = 3 << 6,
};

/* Page register of each channel, by port less 80h. */
static const u8 page_of_channel[8] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};

static u8 half(const struct i8237 *dma, u16 value)
{
    return (u8)(dma->high ? value >> 8 : value);
}

static u16 with_half(const struct i8237 *dma, u16 old, u8 value)
{
    return (u16)(dma->high ? (old & 0x00ff) | value << 8 : (old & 0xff00) | value);
}

static void master_clear(struct i8237 *dma)
{
    dma->command = dma->status = dma->request = 0;
    dma->mask = ALL_CHANNELS;
    dma->high = false;
}

static u8 set_channel_bit(u8 old, u8 value)
{
    u8 bit = (u8)(1 << (value & CHANNEL));

    return value & SET_BIT ? old | bit : old & (u8)~bit;
}

u8 i8237_read(struct i8237_pair *pair, unsigned chip, unsigned offset)
{
    struct i8237 *dma = &pair->chips[chip];
    u8 value;

    if (offset < REG_STATUS_COMMAND) {
        const struct i8237_channel *channel = &dma->channels[offset / 2];

        value = half(dma, offset & 1 ? channel->count : channel->address);
        dma->high = !dma->high;
        return value;
    }
    switch (offset) {
    case REG_STATUS_COMMAND:
        value = (u8)(dma->status | dma->request << 4);
        dma->status = 0;
        return value;
    case REG_MASK_ALL: return dma->mask | 0xf0;
    case REG_MASTER_CLEAR: return 0; /* temporary register: there is no memory-to-memory transfer on a PC */
    default: return 0xff;
    }
}

void i8237_write(struct i8237_pair *pair, unsigned chip, unsigned offset, u8 value)
{
    struct i8237 *dma = &pair->chips[chip];

    if (offset < REG_STATUS_COMMAND) {
        struct i8237_channel *channel = &dma->channels[offset / 2];

        if (offset & 1) {
            channel->count = with_half(dma, channel->count, value);
            channel->base_count = with_half(dma, channel->base_count, value);
        } else {
            channel->address = with_half(dma, channel->address, value);
            channel->base_address = with_half(dma, channel->base_address, value);
        }
        dma->high = !dma->high;
        return;
    }
    switch (offset) {
    case REG_STATUS_COMMAND: dma->command = value; break;
    case REG_REQUEST: dma->request = set_channel_bit(dma->request, value); break;
    case REG_MASK_ONE: dma->mask = set_channel_bit(dma->mask, value); break;
    case REG_MODE: dma->channels[value & CHANNEL].mode = value & (u8)~CHANNEL; break;
    case REG_CLEAR_FLIP_FLOP: dma->high = false; break;
    case REG_MASTER_CLEAR: master_clear(dma); break;
    case REG_CLEAR_MASK: dma->mask = 0; break;
    case REG_MASK_ALL: dma->mask = value & ALL_CHANNELS; break;
    }
}

u8 i8237_page_read(const struct i8237_pair *pair, unsigned offset)
{
    return pair->pages[offset % I8237_PAGES];
}

void i8237_page_write(struct i8237_pair *pair, unsigned offset, u8 value)
{
    pair->pages[offset % I8237_PAGES] = value;
}

/* ---- Transfers ---- */

/* One unit (byte or word) each time: transfers are at most 128 KiB, and address and direction wrap within the page. */
static void move_unit(struct i8237_pair *pair, u32 phys, u8 mode, u8 *buffer, unsigned unit)
{
    if ((mode & MODE_TRANSFER) == MODE_TO_MEMORY)
        pair->memory.write(pair->memory.opaque, phys, buffer, unit);
    else if ((mode & MODE_TRANSFER) == MODE_FROM_MEMORY)
        pair->memory.read(pair->memory.opaque, phys, buffer, unit);
}

/* The channel has counted down to its end. */
static void end_transfer(struct i8237 *dma, unsigned number)
{
    struct i8237_channel *channel = &dma->channels[number];

    dma->status |= (u8)(1 << number);
    dma->request &= (u8) ~(1 << number);
    if (channel->mode & MODE_AUTO) {
        channel->address = channel->base_address;
        channel->count = channel->base_count;
    } else {
        dma->mask |= (u8)(1 << number);
    }
}

static bool may_transfer(const struct i8237_pair *pair, unsigned chip, unsigned number, bool to_memory)
{
    const struct i8237 *dma = &pair->chips[chip];
    u8 mode = dma->channels[number].mode, wanted = to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY;

    if ((dma->command & COMMAND_DISABLE) || (dma->mask >> number & 1) ||
        (mode & MODE_CASCADE) == MODE_CASCADE)
        return false;
    if ((mode & MODE_TRANSFER) != MODE_VERIFY && (mode & MODE_TRANSFER) != wanted)
        return false;
    /* The first controller stands behind channel 0 of the second. */
    return chip == 1 || (!(pair->chips[1].command & COMMAND_DISABLE) && !(pair->chips[1].mask & 1));
}

u32 i8237_transfer(struct i8237_pair *pair, unsigned channel_number, bool to_memory, void *buffer, u32 len,
                   bool *terminal_count)
{
    unsigned chip = channel_number / 4 & 1, number = channel_number & 3, unit = chip + 1;
    struct i8237 *dma = &pair->chips[chip];
    struct i8237_channel *channel = &dma->channels[number];
    u32 page = pair->pages[page_of_channel[channel_number & 7]], done = 0;

    *terminal_count = false;
    if (!may_transfer(pair, chip, number, to_memory))
        return 0;
    /* Bit 0 of a word channel's page is not used: the word address has 17 bits of its own. */
    page = chip ? (page & 0xfe) << 16 : page << 16;
    while (done + unit <= len && !*terminal_count) {
        move_unit(pair, page | (u32)channel->address * unit, channel->mode, (u8 *)buffer + done, unit);
        channel->address = (u16)(channel->address + (channel->mode & MODE_DOWN ? -1 : 1));
        *terminal_count = channel->count-- == 0;
        done += unit;
    }
    if (*terminal_count)
        end_transfer(dma, number);
    return done;
}

void i8237_reset(struct i8237_pair *pair)
{
    struct i8237_memory memory = pair->memory;

    *pair = (struct i8237_pair){.memory = memory};
    for (unsigned i = 0; i < 2; i++)
        master_clear(&pair->chips[i]);
}

void i8237_init(struct i8237_pair *pair, const struct i8237_memory *memory)
{
    pair->memory = *memory;
    i8237_reset(pair);
}

/* ---- State ---- */

static const struct state_field channel_fields[] = {
    STATE_FIELD(struct i8237_channel, base_address, STATE_U16, 1),
    STATE_FIELD(struct i8237_channel, base_count, STATE_U16, 1),
    STATE_FIELD(struct i8237_channel, address, STATE_U16, 1),
    STATE_FIELD(struct i8237_channel, count, STATE_U16, 1),
    STATE_FIELD(struct i8237_channel, mode, STATE_U8, 1),
    STATE_END,
};
static const struct state_table channel_state = {
    .name = "i8237_channel",
    .version = 1,
    .size = sizeof(struct i8237_channel),
    .fields = channel_fields,
};

static const struct state_field i8237_fields[] = {
    STATE_STRUCTS(struct i8237, channels, &channel_state, 1),
    STATE_FIELD(struct i8237, command, STATE_U8, 1),
    STATE_FIELD(struct i8237, status, STATE_U8, 1),
    STATE_FIELD(struct i8237, request, STATE_U8, 1),
    STATE_FIELD(struct i8237, mask, STATE_U8, 1),
    STATE_FIELD(struct i8237, high, STATE_BOOL, 1),
    STATE_END,
};
static const struct state_table i8237_state = {
    .name = "i8237",
    .version = 1,
    .size = sizeof(struct i8237),
    .fields = i8237_fields,
};

static const struct state_field pair_fields[] = {
    STATE_STRUCTS(struct i8237_pair, chips, &i8237_state, 1),
    STATE_ARRAY(struct i8237_pair, pages, STATE_U8, 1),
    STATE_END,
};
const struct state_table i8237_pair_state = {
    .name = "i8237_pair",
    .version = 1,
    .size = sizeof(struct i8237_pair),
    .fields = pair_fields,
};

/* ---- The device ---- */

struct i8237_device {
    struct device device;
    struct i8237_pair pair;
};

static u64 first_read(void *opaque, u64 offset, unsigned size)
{
    return i8237_read(opaque, 0, (unsigned)offset);
}

static void first_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8237_write(opaque, 0, (unsigned)offset, (u8)value);
}

/* The second one is wired for words: a register each two ports. */
static u64 second_read(void *opaque, u64 offset, unsigned size)
{
    return i8237_read(opaque, 1, (unsigned)offset / 2);
}

static void second_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8237_write(opaque, 1, (unsigned)offset / 2, (u8)value);
}

static u64 page_read(void *opaque, u64 offset, unsigned size)
{
    return i8237_page_read(opaque, (unsigned)offset + 1);
}

static void page_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8237_page_write(opaque, (unsigned)offset + 1, (u8)value);
}

static const struct io_ops first_ops = {first_read, first_write, 1, 1};
static const struct io_ops second_ops = {second_read, second_write, 1, 1};
static const struct io_ops page_ops = {page_read, page_write, 1, 1};

static void memory_to_device(void *opaque, u32 phys, void *to, u32 len)
{
    dma_read(opaque, phys, to, len);
}

static void device_to_memory(void *opaque, u32 phys, const void *from, u32 len)
{
    dma_write(opaque, phys, from, len);
}

struct i8237_pair *i8237_of(struct device *device)
{
    return &container_of(device, struct i8237_device, device)->pair;
}

static int i8237_attach(struct device *device, struct error *err)
{
    struct i8237_pair *pair = i8237_of(device);
    struct vm *vm = device->vm;
    struct i8237_memory memory = {memory_to_device, device_to_memory, &vm->memory};

    i8237_init(pair, &memory);
    if (port_map_add(&vm->ports, 0x00, 16, &first_ops, pair, "i8237 channels 0-3", err) ||
        port_map_add(&vm->ports, 0xc0, 32, &second_ops, pair, "i8237 channels 4-7", err) ||
        port_map_add(&vm->ports, 0x81, 15, &page_ops, pair, "dma page registers", err))
        return -1;
    return 0;
}

static void i8237_device_reset(struct device *device)
{
    i8237_reset(i8237_of(device));
}

const struct device_class i8237_class = {
    .name = "i8237",
    .help = "pair of 8237A DMA controllers with page registers",
    .size = sizeof(struct i8237_device),
    .state = &i8237_pair_state,
    .state_offset = offsetof(struct i8237_device, pair),
    .attach = i8237_attach,
    .reset = i8237_device_reset,
};
