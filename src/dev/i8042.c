#include "dev/i8042.h"

#include <string.h>

#include "dev/port92.h"
#include "machine/io.h"
#include "machine/vm.h"

enum { /* status */
       STATUS_OBF = 1 << 0,
       STATUS_SYSTEM = 1 << 2,
       STATUS_COMMAND = 1 << 3, /* the last write was to port 64h */
       STATUS_UNLOCKED = 1 << 4,
       STATUS_AUX = 1 << 5, /* the byte in the output buffer is the mouse's */
};
enum { /* command byte */
       CONFIG_KBD_INT = 1 << 0,
       CONFIG_AUX_INT = 1 << 1,
       CONFIG_SYSTEM = 1 << 2,
       CONFIG_KBD_OFF = 1 << 4,
       CONFIG_AUX_OFF = 1 << 5,
       CONFIG_TRANSLATE = 1 << 6,
};
enum { /* output port */
       OUTPUT_NO_RESET = 1 << 0,
       OUTPUT_A20 = 1 << 1,
       OUTPUT_KBD_FULL = 1 << 4,
       OUTPUT_AUX_FULL = 1 << 5,
       OUTPUT_LINES = 3 << 6, /* keyboard clock and data */
       INPUT_UNLOCKED = 1 << 7,
};
enum { /* commands */
       CMD_READ_RAM = 0x20,
       CMD_WRITE_RAM = 0x60,
       CMD_PASSWORD_INSTALLED = 0xa4,
       CMD_AUX_OFF = 0xa7,
       CMD_AUX_ON = 0xa8,
       CMD_AUX_TEST = 0xa9,
       CMD_SELF_TEST = 0xaa,
       CMD_KBD_TEST = 0xab,
       CMD_KBD_OFF = 0xad,
       CMD_KBD_ON = 0xae,
       CMD_READ_INPUT = 0xc0,
       CMD_READ_OUTPUT = 0xd0,
       CMD_WRITE_OUTPUT = 0xd1,
       CMD_WRITE_KBD_BUFFER = 0xd2,
       CMD_WRITE_AUX_BUFFER = 0xd3,
       CMD_WRITE_AUX = 0xd4,
       CMD_A20_OFF = 0xdd,
       CMD_A20_ON = 0xdf,
       CMD_TEST_INPUTS = 0xe0,
       CMD_PULSE = 0xf0,
};
enum { SELF_TEST_PASSED = 0x55, NO_PASSWORD = 0xf1, SET2_BREAK = 0xf0, SET1_BREAK = 0x80 };

/* A tenth of what eleven bits take on the line: far longer than a driver's reads, and quick to type. */
enum { TRANSFER_NS = 100000 };

static u8 *config(struct i8042 *kbc)
{
    return &kbc->ram[0];
}

static void update_irqs(struct i8042 *kbc)
{
    bool full = kbc->status & STATUS_OBF, aux = kbc->status & STATUS_AUX;

    irq_line_set(&kbc->keyboard_irq, full && !aux && (*config(kbc) & CONFIG_KBD_INT));
    irq_line_set(&kbc->mouse_irq, full && aux && (*config(kbc) & CONFIG_AUX_INT));
}

static void fill_buffer(struct i8042 *kbc, u8 byte, bool aux)
{
    kbc->data = byte;
    kbc->status = (u8)((kbc->status & ~STATUS_AUX) | STATUS_OBF | (aux ? STATUS_AUX : 0));
    update_irqs(kbc);
}

static bool keyboard_has_data(struct i8042 *kbc)
{
    return !(*config(kbc) & CONFIG_KBD_OFF) && ps2_port_has_data(&kbc->keyboard.port);
}

static bool mouse_has_data(struct i8042 *kbc)
{
    return !(*config(kbc) & CONFIG_AUX_OFF) && ps2_port_has_data(&kbc->mouse.port);
}

/* Fill an empty output buffer, or begin the transfer that will. */
static void pump(struct i8042 *kbc)
{
    if (kbc->status & STATUS_OBF)
        return;
    if (kbc->reply_len) {
        u8 byte = kbc->reply[0];
        bool aux = kbc->reply_aux[0];

        kbc->reply_len--;
        memmove(kbc->reply, kbc->reply + 1, kbc->reply_len);
        memmove(kbc->reply_aux, kbc->reply_aux + 1, kbc->reply_len * sizeof(bool));
        fill_buffer(kbc, byte, aux);
    } else if ((keyboard_has_data(kbc) || mouse_has_data(kbc)) && !kbc->transfer.armed) {
        timer_arm(&kbc->transfer, timer_now(&kbc->transfer) + TRANSFER_NS);
    }
}

/* Take from the keyboard up to a byte that the processor sees; false: there was none. */
static bool transfer_keyboard(struct i8042 *kbc)
{
    bool translate = *config(kbc) & CONFIG_TRANSLATE;

    while (keyboard_has_data(kbc)) {
        u8 byte = ps2_port_take(&kbc->keyboard.port);

        if (translate && byte == SET2_BREAK) {
            kbc->release = true;
            continue;
        }
        if (translate)
            byte = (u8)(ps2_translate(byte) | (kbc->release ? SET1_BREAK : 0));
        kbc->release = false;
        fill_buffer(kbc, byte, false);
        return true;
    }
    return false;
}

static void transfer_fired(void *opaque)
{
    struct i8042 *kbc = opaque;

    if (!(kbc->status & STATUS_OBF) && !kbc->reply_len && !transfer_keyboard(kbc) && mouse_has_data(kbc))
        fill_buffer(kbc, ps2_port_take(&kbc->mouse.port), true);
    pump(kbc);
}

static void device_ready(void *opaque)
{
    pump(opaque);
}

/* Answer of the controller itself. */
static void reply(struct i8042 *kbc, u8 byte, bool aux)
{
    if (kbc->reply_len == I8042_REPLY_BYTES) /* a driver that does not read loses the oldest */
        kbc->status &= (u8)~STATUS_OBF;
    pump(kbc);
    kbc->reply[kbc->reply_len] = byte;
    kbc->reply_aux[kbc->reply_len++] = aux;
    pump(kbc);
}

static void write_output_port(struct i8042 *kbc, u8 value)
{
    kbc->output_port = value & (u8) ~(OUTPUT_KBD_FULL | OUTPUT_AUX_FULL);
    irq_line_set(&kbc->a20, value & OUTPUT_A20);
    if (!(value & OUTPUT_NO_RESET))
        irq_line_pulse(&kbc->reset);
}

static u8 read_output_port(const struct i8042 *kbc)
{
    u8 full = kbc->status & STATUS_AUX ? OUTPUT_AUX_FULL : OUTPUT_KBD_FULL;

    return (u8)(kbc->output_port | (kbc->status & STATUS_OBF ? full : 0));
}

static void write_config(struct i8042 *kbc, u8 value)
{
    *config(kbc) = value;
    update_irqs(kbc);
    pump(kbc);
}

u8 i8042_read_data(struct i8042 *kbc)
{
    u8 byte = kbc->data;

    kbc->status &= (u8)~STATUS_OBF;
    update_irqs(kbc);
    pump(kbc);
    return byte;
}

void i8042_write_data(struct i8042 *kbc, u8 value)
{
    u8 command = kbc->command;

    kbc->command = 0;
    kbc->status &= (u8)~STATUS_COMMAND;
    if (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + I8042_RAM_BYTES) {
        if (command == CMD_WRITE_RAM)
            write_config(kbc, value);
        else
            kbc->ram[command - CMD_WRITE_RAM] = value;
        return;
    }
    switch (command) {
    case CMD_WRITE_OUTPUT: write_output_port(kbc, value); break;
    case CMD_WRITE_KBD_BUFFER: reply(kbc, value, false); break;
    case CMD_WRITE_AUX_BUFFER: reply(kbc, value, true); break;
    case CMD_WRITE_AUX: /* writing to a device switches its line on */
        *config(kbc) &= (u8)~CONFIG_AUX_OFF;
        ps2_mouse_write(&kbc->mouse, value);
        break;
    default:
        *config(kbc) &= (u8)~CONFIG_KBD_OFF;
        ps2_keyboard_write(&kbc->keyboard, value);
        break;
    }
}

u8 i8042_read_status(const struct i8042 *kbc)
{
    return (u8)(kbc->status | STATUS_UNLOCKED | (kbc->ram[0] & CONFIG_SYSTEM ? STATUS_SYSTEM : 0));
}

void i8042_write_command(struct i8042 *kbc, u8 value)
{
    kbc->command = 0;
    kbc->status |= STATUS_COMMAND;
    if (value >= CMD_READ_RAM && value < CMD_READ_RAM + I8042_RAM_BYTES) {
        reply(kbc, kbc->ram[value - CMD_READ_RAM], false);
        return;
    }
    if (value >= CMD_WRITE_RAM && value < CMD_WRITE_RAM + I8042_RAM_BYTES) {
        kbc->command = value;
        return;
    }
    if (value >= CMD_PULSE) { /* bits that are 0 are pulsed low; only bit 0 leads anywhere */
        if (!(value & OUTPUT_NO_RESET))
            irq_line_pulse(&kbc->reset);
        return;
    }
    switch (value) {
    case CMD_PASSWORD_INSTALLED: reply(kbc, NO_PASSWORD, false); break;
    case CMD_AUX_OFF: write_config(kbc, *config(kbc) | CONFIG_AUX_OFF); break;
    case CMD_AUX_ON: write_config(kbc, *config(kbc) & (u8)~CONFIG_AUX_OFF); break;
    case CMD_KBD_OFF: write_config(kbc, *config(kbc) | CONFIG_KBD_OFF); break;
    case CMD_KBD_ON: write_config(kbc, *config(kbc) & (u8)~CONFIG_KBD_OFF); break;
    case CMD_AUX_TEST:
    case CMD_KBD_TEST: reply(kbc, 0, false); break;
    case CMD_SELF_TEST:
        *config(kbc) |= CONFIG_SYSTEM;
        reply(kbc, SELF_TEST_PASSED, false);
        break;
    case CMD_READ_INPUT: reply(kbc, INPUT_UNLOCKED, false); break;
    case CMD_READ_OUTPUT: reply(kbc, read_output_port(kbc), false); break;
    case CMD_WRITE_OUTPUT:
    case CMD_WRITE_KBD_BUFFER:
    case CMD_WRITE_AUX_BUFFER:
    case CMD_WRITE_AUX: kbc->command = value; break;
    case CMD_A20_OFF: write_output_port(kbc, kbc->output_port & (u8)~OUTPUT_A20); break;
    case CMD_A20_ON: write_output_port(kbc, kbc->output_port | OUTPUT_A20); break;
    case CMD_TEST_INPUTS: reply(kbc, 0, false); break;
    default: break; /* reserved */
    }
}

void i8042_reset(struct i8042 *kbc)
{
    kbc->status = 0;
    memset(kbc->ram, 0, sizeof(kbc->ram));
    /* As firmware leaves it for a kernel that was loaded without firmware. */
    *config(kbc) = CONFIG_KBD_INT | CONFIG_AUX_INT | CONFIG_SYSTEM | CONFIG_TRANSLATE;
    kbc->output_port = OUTPUT_NO_RESET | OUTPUT_A20 | OUTPUT_LINES;
    kbc->command = 0;
    kbc->release = false;
    kbc->reply_len = 0;
    timer_disarm(&kbc->transfer);
    ps2_keyboard_reset(&kbc->keyboard);
    ps2_mouse_reset(&kbc->mouse);
    update_irqs(kbc);
}

void i8042_init(struct i8042 *kbc, struct timer_queue *timers, const struct i8042_wiring *wiring)
{
    *kbc = (struct i8042){
        .keyboard_irq = wiring->keyboard_irq,
        .mouse_irq = wiring->mouse_irq,
        .a20 = wiring->a20,
        .reset = wiring->reset,
    };
    timer_init(&kbc->transfer, timers, transfer_fired, kbc);
    ps2_keyboard_init(&kbc->keyboard, device_ready, kbc);
    ps2_mouse_init(&kbc->mouse, timers, device_ready, kbc);
    i8042_reset(kbc);
}

/* ---- State ---- */

static int i8042_post_load(void *object, struct error *err)
{
    struct i8042 *kbc = object;

    if (kbc->reply_len > I8042_REPLY_BYTES)
        return error_set(err, "i8042: %u bytes wait for the output buffer", kbc->reply_len);
    return 0;
}

static const struct state_field i8042_fields[] = {
    STATE_FIELD(struct i8042, status, STATE_U8, 1),
    STATE_FIELD(struct i8042, data, STATE_U8, 1),
    STATE_ARRAY(struct i8042, ram, STATE_U8, 1),
    STATE_FIELD(struct i8042, output_port, STATE_U8, 1),
    STATE_FIELD(struct i8042, command, STATE_U8, 1),
    STATE_FIELD(struct i8042, release, STATE_BOOL, 1),
    STATE_ARRAY(struct i8042, reply, STATE_U8, 1),
    STATE_ARRAY(struct i8042, reply_aux, STATE_BOOL, 1),
    STATE_FIELD(struct i8042, reply_len, STATE_U8, 1),
    STATE_STRUCT(struct i8042, transfer, &timer_state_table, 1),
    STATE_STRUCT(struct i8042, keyboard, &ps2_keyboard_state, 1),
    STATE_STRUCT(struct i8042, mouse, &ps2_mouse_state, 1),
    STATE_END,
};
const struct state_table i8042_state = {
    .name = "i8042",
    .version = 1,
    .size = sizeof(struct i8042),
    .fields = i8042_fields,
    .post_load = i8042_post_load,
};

/* ---- The device ---- */

struct i8042_device {
    struct device device;
    void *port92; /* struct device */
    struct i8042 kbc;
    int source; /* of the event gate */
};

/* Events of the gate source: a kind, then pairs of key and state, or three 16-bit movements and the buttons. */
enum { EVENT_KEYS, EVENT_MOUSE, MOUSE_EVENT_BYTES = 8 };

static i16 get_i16(const u8 *bytes)
{
    return (i16)(bytes[0] | bytes[1] << 8);
}

static void put_i16(u8 *bytes, i16 value)
{
    bytes[0] = (u8)value;
    bytes[1] = (u8)((u16)value >> 8);
}

static void deliver(void *opaque, const u8 *bytes, size_t len)
{
    struct i8042 *kbc = &((struct i8042_device *)opaque)->kbc;

    if (len && bytes[0] == EVENT_KEYS)
        for (size_t i = 1; i + 1 < len; i += 2)
            ps2_keyboard_key(&kbc->keyboard, bytes[i], bytes[i + 1]);
    else if (len == MOUSE_EVENT_BYTES && bytes[0] == EVENT_MOUSE)
        ps2_mouse_move(&kbc->mouse, get_i16(bytes + 1), get_i16(bytes + 3), get_i16(bytes + 5), bytes[7]);
}

static bool post(struct device *device, const u8 *bytes, size_t len)
{
    return gate_post(&device->vm->gate, container_of(device, struct i8042_device, device)->source, bytes,
                     len);
}

bool i8042_post_key(struct device *device, unsigned key, bool down)
{
    u8 event[] = {EVENT_KEYS, (u8)key, down};

    return post(device, event, sizeof(event));
}

bool i8042_post_set2(struct device *device, const u8 *codes, size_t len)
{
    struct ps2_key_event keys[GATE_EVENT_BYTES / 2 - 1];
    unsigned n = ps2_keys_of_set2(codes, len, keys, ARRAY_SIZE(keys));
    u8 event[GATE_EVENT_BYTES] = {EVENT_KEYS};

    for (unsigned i = 0; i < n; i++) {
        event[1 + 2 * i] = keys[i].key;
        event[2 + 2 * i] = keys[i].down;
    }
    return post(device, event, 1 + 2 * n);
}

bool i8042_post_mouse(struct device *device, i16 dx, i16 dy, i16 dz, u8 buttons)
{
    u8 event[MOUSE_EVENT_BYTES] = {EVENT_MOUSE};

    put_i16(event + 1, dx);
    put_i16(event + 3, dy);
    put_i16(event + 5, dz);
    event[7] = buttons;
    return post(device, event, sizeof(event));
}

static u64 data_read(void *opaque, u64 offset, unsigned size)
{
    return i8042_read_data(opaque);
}

static void data_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8042_write_data(opaque, (u8)value);
}

static u64 status_read(void *opaque, u64 offset, unsigned size)
{
    return i8042_read_status(opaque);
}

static void command_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8042_write_command(opaque, (u8)value);
}

static const struct io_ops data_ops = {data_read, data_write, 1, 1};
static const struct io_ops command_ops = {status_read, command_write, 1, 1};

static void request_reset(void *opaque, unsigned n, bool level)
{
    if (level)
        vm_request_reset(opaque);
}

static int i8042_attach(struct device *device, struct error *err)
{
    struct i8042_device *self = container_of(device, struct i8042_device, device);
    struct vm *vm = device->vm;
    struct i8042_wiring wiring = {
        .keyboard_irq = irq_router_line(&vm->irqs, 1),
        .mouse_irq = irq_router_line(&vm->irqs, 12),
        .a20 = port92_a20_line(self->port92),
        .reset = {request_reset, vm, 0},
    };

    self->source = gate_register(&vm->gate, device->name, deliver, self, err);
    if (self->source < 0)
        return -1;
    i8042_init(&self->kbc, &vm->timers, &wiring);
    if (port_map_add(&vm->ports, 0x60, 1, &data_ops, &self->kbc, "i8042 data", err) ||
        port_map_add(&vm->ports, 0x64, 1, &command_ops, &self->kbc, "i8042 command", err))
        return -1;
    return 0;
}

static void i8042_device_reset(struct device *device)
{
    i8042_reset(&container_of(device, struct i8042_device, device)->kbc);
}

static const struct property i8042_properties[] = {
    {.name = "port92",
     .type = PROP_POINTER,
     .offset = offsetof(struct i8042_device, port92),
     .required = true,
     .help = "the device of class port92, which owns the A20 gate"},
    {.name = NULL},
};

const struct device_class i8042_class = {
    .name = "i8042",
    .help = "8042 keyboard controller with PS/2 keyboard and mouse",
    .size = sizeof(struct i8042_device),
    .properties = i8042_properties,
    .state = &i8042_state,
    .state_offset = offsetof(struct i8042_device, kbc),
    .attach = i8042_attach,
    .reset = i8042_device_reset,
};
