#include "dev/ps2.h"

enum {
    MOUSE_SCALE_1 = 0xe6,
    MOUSE_SCALE_2 = 0xe7,
    MOUSE_RESOLUTION = 0xe8,
    MOUSE_STATUS = 0xe9,
    MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb,
    MOUSE_WRAP_OFF = 0xec,
    MOUSE_WRAP = 0xee,
    MOUSE_REMOTE = 0xf0,
    MOUSE_ID = 0xf2,
    MOUSE_RATE = 0xf3,
    MOUSE_ENABLE = 0xf4,
    MOUSE_DISABLE = 0xf5,
    MOUSE_DEFAULTS = 0xf6,
    MOUSE_RESEND = 0xfe,
    MOUSE_RESET = 0xff,
    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_PASSED = 0xaa,
    ID_PLAIN = 0,
    ID_WHEEL = 3,
    ID_FIVE_BUTTONS = 4,
};
enum {
    PACKET_BYTES = 4,
    PACKET_ALWAYS = 1 << 3,
    PACKET_DX_SIGN = 1 << 4,
    PACKET_DY_SIGN = 1 << 5,
    DELTA_MAX = 255
};
enum { STATUS_REMOTE = 1 << 6, STATUS_REPORTING = 1 << 5, STATUS_DOUBLE = 1 << 4 };

static int clamp(int value, int limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

/* Scaling 2:1 of a movement (IBM's table). */
static int scaled(int delta)
{
    static const u8 small[] = {0, 1, 1, 3, 6, 9};
    int magnitude = delta < 0 ? -delta : delta;

    magnitude = magnitude < (int)ARRAY_SIZE(small) ? small[magnitude] : 2 * magnitude;
    return delta < 0 ? -magnitude : magnitude;
}

static bool has_news(const struct ps2_mouse *mouse)
{
    return mouse->dx || mouse->dy || (mouse->dz && mouse->id != ID_PLAIN) ||
           mouse->buttons != mouse->told_buttons;
}

/* Put as much of the movement as one packet holds into `packet`; the rest stays for the next. Returns its length. */
static unsigned make_packet(struct ps2_mouse *mouse, u8 packet[static PACKET_BYTES])
{
    bool doubled = mouse->double_scale && !mouse->remote;
    int limit = doubled ? DELTA_MAX / 2 : DELTA_MAX;
    int dx = clamp(mouse->dx, limit), dy = clamp(mouse->dy, limit), dz = clamp(mouse->dz, 7);

    mouse->dx -= (i16)dx;
    mouse->dy -= (i16)dy;
    mouse->dz -= (i16)dz;
    mouse->told_buttons = mouse->buttons;
    if (doubled) {
        dx = scaled(dx);
        dy = scaled(dy);
    }
    packet[0] = (u8)(PACKET_ALWAYS | (mouse->buttons & 7) | (dx < 0 ? PACKET_DX_SIGN : 0) |
                     (dy < 0 ? PACKET_DY_SIGN : 0));
    packet[1] = (u8)dx;
    packet[2] = (u8)dy;
    packet[3] = mouse->id == ID_WHEEL ? (u8)dz : (u8)((dz & 15) | (mouse->buttons & 0x18) << 1);
    return mouse->id == ID_PLAIN ? PACKET_BYTES - 1 : PACKET_BYTES;
}

static bool streams(const struct ps2_mouse *mouse)
{
    return mouse->reporting && !mouse->remote && !mouse->wrap;
}

static void await_sample(struct ps2_mouse *mouse)
{
    timer_arm(&mouse->sample, timer_now(&mouse->sample) + 1000000000 / (mouse->rate ? mouse->rate : 1));
}

static void queue_packet(struct ps2_mouse *mouse)
{
    u8 packet[PACKET_BYTES];

    if (PS2_DATA_BYTES - mouse->port.count >= PACKET_BYTES)
        ps2_port_queue(&mouse->port, packet, make_packet(mouse, packet));
    await_sample(mouse);
}

/* The next sample is due: report when the last packet was taken. */
static void sample_fired(void *opaque)
{
    struct ps2_mouse *mouse = opaque;

    if (!streams(mouse) || !has_news(mouse))
        return;
    if (mouse->port.count)
        await_sample(mouse);
    else
        queue_packet(mouse);
}

void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, u8 buttons)
{
    bool clicked = (buttons & 0x1f) != mouse->buttons;

    mouse->dx = (i16)clamp(mouse->dx + clamp(dx, INT16_MAX), INT16_MAX);
    mouse->dy = (i16)clamp(mouse->dy - clamp(dy, INT16_MAX), INT16_MAX);
    mouse->dz = (i16)clamp(mouse->dz + clamp(dz, INT16_MAX), INT16_MAX);
    mouse->buttons = buttons & 0x1f;
    if (!streams(mouse) || !has_news(mouse))
        return;
    /* A click is not merged with the next one; movement waits for the sample. */
    if (clicked || !mouse->sample.armed)
        queue_packet(mouse);
}

static void set_defaults(struct ps2_mouse *mouse)
{
    mouse->rate = 100;
    mouse->resolution = 2;
    mouse->double_scale = mouse->remote = mouse->wrap = mouse->reporting = false;
    mouse->dx = mouse->dy = mouse->dz = 0;
    mouse->told_buttons = mouse->buttons;
    ps2_port_clear(&mouse->port);
}

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
    set_defaults(mouse);
    mouse->command = PS2_COMMAND_NONE;
    mouse->id = ID_PLAIN;
    mouse->rates[0] = mouse->rates[1] = 0;
    timer_disarm(&mouse->sample);
}

void ps2_mouse_init(struct ps2_mouse *mouse, struct timer_queue *timers, void (*ready)(void *opaque),
                    void *opaque)
{
    *mouse = (struct ps2_mouse){.port = {.ready = ready, .opaque = opaque}};
    timer_init(&mouse->sample, timers, sample_fired, mouse);
    ps2_mouse_reset(mouse);
}

/* The rates 200, 100, 80 one after the other ask for the wheel; 200, 200, 80 then for five buttons. */
static void set_rate(struct ps2_mouse *mouse, u8 rate)
{
    if (mouse->rates[0] == 200 && mouse->rates[1] == 100 && rate == 80)
        mouse->id = ID_WHEEL;
    else if (mouse->rates[0] == 200 && mouse->rates[1] == 200 && rate == 80 && mouse->id == ID_WHEEL)
        mouse->id = ID_FIVE_BUTTONS;
    mouse->rates[0] = mouse->rates[1];
    mouse->rates[1] = rate;
    mouse->rate = rate;
}

static void reply_status(struct ps2_mouse *mouse)
{
    u8 b = mouse->buttons;

    ps2_port_reply_more(&mouse->port,
                        (u8)((mouse->remote ? STATUS_REMOTE : 0) | (mouse->reporting ? STATUS_REPORTING : 0) |
                             (mouse->double_scale ? STATUS_DOUBLE : 0) | (b & PS2_BUTTON_LEFT ? 4 : 0) |
                             (b & PS2_BUTTON_MIDDLE ? 2 : 0) | (b & PS2_BUTTON_RIGHT ? 1 : 0)));
    ps2_port_reply_more(&mouse->port, mouse->resolution);
    ps2_port_reply_more(&mouse->port, mouse->rate);
}

static void reply_packet(struct ps2_mouse *mouse)
{
    u8 packet[PACKET_BYTES];
    unsigned len = make_packet(mouse, packet);

    for (unsigned i = 0; i < len; i++)
        ps2_port_reply_more(&mouse->port, packet[i]);
}

static void write_command(struct ps2_mouse *mouse, u8 value)
{
    struct ps2_port *port = &mouse->port;

    if (value == MOUSE_RESEND) {
        ps2_port_reply(port, port->last);
        return;
    }
    if (value == MOUSE_RESET)
        ps2_mouse_reset(mouse);
    if (value == MOUSE_DEFAULTS)
        set_defaults(mouse);
    if (value == MOUSE_DISABLE || value == MOUSE_ENABLE || value == MOUSE_STREAM || value == MOUSE_REMOTE)
        ps2_port_clear(port);
    ps2_port_reply(port, ACK);
    switch (value) {
    case MOUSE_SCALE_1:
    case MOUSE_SCALE_2: mouse->double_scale = value == MOUSE_SCALE_2; break;
    case MOUSE_RESOLUTION:
    case MOUSE_RATE: mouse->command = value; break;
    case MOUSE_STATUS: reply_status(mouse); break;
    case MOUSE_STREAM:
    case MOUSE_REMOTE: mouse->remote = value == MOUSE_REMOTE; break;
    case MOUSE_READ: reply_packet(mouse); break;
    case MOUSE_WRAP_OFF:
    case MOUSE_WRAP: mouse->wrap = value == MOUSE_WRAP; break;
    case MOUSE_ID: ps2_port_reply_more(port, mouse->id); break;
    case MOUSE_ENABLE:
    case MOUSE_DISABLE: mouse->reporting = value == MOUSE_ENABLE; break;
    case MOUSE_DEFAULTS: break;
    case MOUSE_RESET:
        ps2_port_reply_more(port, SELF_TEST_PASSED);
        ps2_port_reply_more(port, ID_PLAIN);
        break;
    default: ps2_port_reply(port, RESEND); break;
    }
}

void ps2_mouse_write(struct ps2_mouse *mouse, u8 value)
{
    u8 command = mouse->command;

    mouse->command = PS2_COMMAND_NONE;
    if (mouse->wrap && value != MOUSE_WRAP_OFF && value != MOUSE_RESET) {
        ps2_port_reply(&mouse->port, value);
    } else if (command == MOUSE_RATE) {
        set_rate(mouse, value);
        ps2_port_reply(&mouse->port, ACK);
    } else if (command == MOUSE_RESOLUTION) {
        mouse->resolution = value & 3;
        ps2_port_reply(&mouse->port, ACK);
    } else {
        write_command(mouse, value);
    }
}

static const struct state_field mouse_fields[] = {
    STATE_STRUCT(struct ps2_mouse, port, &ps2_port_state, 1),
    STATE_FIELD(struct ps2_mouse, command, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, id, STATE_U8, 1),
    STATE_ARRAY(struct ps2_mouse, rates, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, rate, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, resolution, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, double_scale, STATE_BOOL, 1),
    STATE_FIELD(struct ps2_mouse, remote, STATE_BOOL, 1),
    STATE_FIELD(struct ps2_mouse, wrap, STATE_BOOL, 1),
    STATE_FIELD(struct ps2_mouse, reporting, STATE_BOOL, 1),
    STATE_FIELD(struct ps2_mouse, buttons, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, told_buttons, STATE_U8, 1),
    STATE_FIELD(struct ps2_mouse, dx, STATE_U16, 1),
    STATE_FIELD(struct ps2_mouse, dy, STATE_U16, 1),
    STATE_FIELD(struct ps2_mouse, dz, STATE_U16, 1),
    STATE_STRUCT(struct ps2_mouse, sample, &timer_state_table, 1),
    STATE_END,
};
const struct state_table ps2_mouse_state = {
    .name = "ps2_mouse",
    .version = 1,
    .size = sizeof(struct ps2_mouse),
    .fields = mouse_fields,
};
