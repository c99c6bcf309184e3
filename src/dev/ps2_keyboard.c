#include "dev/ps2.h"

#include <string.h>

/* ---- Queues ---- */

u8 ps2_port_take(struct ps2_port *port)
{
    if (port->reply_len) {
        port->last = port->reply[0];
        memmove(port->reply, port->reply + 1, --port->reply_len);
    } else if (port->count) {
        port->last = port->data[port->first];
        port->first = (port->first + 1) % PS2_DATA_BYTES;
        port->count--;
    }
    return port->last;
}

void ps2_port_clear(struct ps2_port *port)
{
    port->reply_len = port->first = port->count = 0;
}

void ps2_port_reply_more(struct ps2_port *port, u8 byte)
{
    if (port->reply_len < PS2_REPLY_BYTES)
        port->reply[port->reply_len++] = byte;
    port->ready(port->opaque);
}

void ps2_port_reply(struct ps2_port *port, u8 byte)
{
    port->reply_len = 0; /* a new command ends the answer to an older one */
    ps2_port_reply_more(port, byte);
}

bool ps2_port_queue(struct ps2_port *port, const u8 *data, unsigned len)
{
    if (len > PS2_DATA_BYTES - (unsigned)port->count)
        return false;
    for (unsigned i = 0; i < len; i++)
        port->data[(port->first + port->count++) % PS2_DATA_BYTES] = data[i];
    port->ready(port->opaque);
    return true;
}

static int port_post_load(void *object, struct error *err)
{
    struct ps2_port *port = object;

    if (port->reply_len > PS2_REPLY_BYTES || port->first >= PS2_DATA_BYTES || port->count > PS2_DATA_BYTES)
        return error_set(err, "ps2: a queue of %u+%u bytes from %u on", port->reply_len, port->count,
                         port->first);
    return 0;
}

static const struct state_field port_fields[] = {
    STATE_ARRAY(struct ps2_port, reply, STATE_U8, 1),
    STATE_FIELD(struct ps2_port, reply_len, STATE_U8, 1),
    STATE_ARRAY(struct ps2_port, data, STATE_U8, 1),
    STATE_FIELD(struct ps2_port, first, STATE_U8, 1),
    STATE_FIELD(struct ps2_port, count, STATE_U8, 1),
    STATE_FIELD(struct ps2_port, last, STATE_U8, 1),
    STATE_END,
};
const struct state_table ps2_port_state = {
    .name = "ps2_port",
    .version = 1,
    .size = sizeof(struct ps2_port),
    .fields = port_fields,
    .post_load = port_post_load,
};

/* ---- Keys ---- */

/* What a key does in scan code set 3 after a reset. */
enum kind { TYPE /* typematic */, BOTH /* make and break */, MAKE /* make only */ };

struct key {
    const char *name;
    u16 set2; /* with its prefix byte; set 1 is the translation of it */
    u8 set3;  /* 0: the key is not in set 3 */
    u8 kind;  /* enum kind */
};

enum { PREFIX = 0xe0, PREFIX_PAUSE = 0xe1, SET2_BREAK = 0xf0 };

static const struct key keys[] = {
    {"esc", 0x76, 0x08, MAKE},
    {"f1", 0x05, 0x07, MAKE},
    {"f2", 0x06, 0x0f, MAKE},
    {"f3", 0x04, 0x17, MAKE},
    {"f4", 0x0c, 0x1f, MAKE},
    {"f5", 0x03, 0x27, MAKE},
    {"f6", 0x0b, 0x2f, MAKE},
    {"f7", 0x83, 0x37, MAKE},
    {"f8", 0x0a, 0x3f, MAKE},
    {"f9", 0x01, 0x47, MAKE},
    {"f10", 0x09, 0x4f, MAKE},
    {"f11", 0x78, 0x56, MAKE},
    {"f12", 0x07, 0x5e, MAKE},
    {"print", 0xe07c, 0x57, MAKE},
    {"scroll_lock", 0x7e, 0x5f, MAKE},
    {"pause", 0xe177, 0x62, MAKE},

    {"grave_accent", 0x0e, 0x0e, TYPE},
    {"1", 0x16, 0x16, TYPE},
    {"2", 0x1e, 0x1e, TYPE},
    {"3", 0x26, 0x26, TYPE},
    {"4", 0x25, 0x25, TYPE},
    {"5", 0x2e, 0x2e, TYPE},
    {"6", 0x36, 0x36, TYPE},
    {"7", 0x3d, 0x3d, TYPE},
    {"8", 0x3e, 0x3e, TYPE},
    {"9", 0x46, 0x46, TYPE},
    {"0", 0x45, 0x45, TYPE},
    {"minus", 0x4e, 0x4e, TYPE},
    {"equal", 0x55, 0x55, TYPE},
    {"backspace", 0x66, 0x66, TYPE},
    {"tab", 0x0d, 0x0d, TYPE},
    {"q", 0x15, 0x15, TYPE},
    {"w", 0x1d, 0x1d, TYPE},
    {"e", 0x24, 0x24, TYPE},
    {"r", 0x2d, 0x2d, TYPE},
    {"t", 0x2c, 0x2c, TYPE},
    {"y", 0x35, 0x35, TYPE},
    {"u", 0x3c, 0x3c, TYPE},
    {"i", 0x43, 0x43, TYPE},
    {"o", 0x44, 0x44, TYPE},
    {"p", 0x4d, 0x4d, TYPE},
    {"bracket_left", 0x54, 0x54, TYPE},
    {"bracket_right", 0x5b, 0x5b, TYPE},
    {"backslash", 0x5d, 0x5c, TYPE},
    {"caps_lock", 0x58, 0x14, BOTH},
    {"a", 0x1c, 0x1c, TYPE},
    {"s", 0x1b, 0x1b, TYPE},
    {"d", 0x23, 0x23, TYPE},
    {"f", 0x2b, 0x2b, TYPE},
    {"g", 0x34, 0x34, TYPE},
    {"h", 0x33, 0x33, TYPE},
    {"j", 0x3b, 0x3b, TYPE},
    {"k", 0x42, 0x42, TYPE},
    {"l", 0x4b, 0x4b, TYPE},
    {"semicolon", 0x4c, 0x4c, TYPE},
    {"apostrophe", 0x52, 0x52, TYPE},
    {"ret", 0x5a, 0x5a, TYPE},
    {"shift", 0x12, 0x12, BOTH},
    {"less", 0x61, 0x13, TYPE},
    {"z", 0x1a, 0x1a, TYPE},
    {"x", 0x22, 0x22, TYPE},
    {"c", 0x21, 0x21, TYPE},
    {"v", 0x2a, 0x2a, TYPE},
    {"b", 0x32, 0x32, TYPE},
    {"n", 0x31, 0x31, TYPE},
    {"m", 0x3a, 0x3a, TYPE},
    {"comma", 0x41, 0x41, TYPE},
    {"dot", 0x49, 0x49, TYPE},
    {"slash", 0x4a, 0x4a, TYPE},
    {"shift_r", 0x59, 0x59, BOTH},
    {"ctrl", 0x14, 0x11, BOTH},
    {"meta_l", 0xe01f, 0x8b, MAKE},
    {"alt", 0x11, 0x19, BOTH},
    {"spc", 0x29, 0x29, TYPE},
    {"alt_r", 0xe011, 0x39, MAKE},
    {"meta_r", 0xe027, 0x8c, MAKE},
    {"compose", 0xe02f, 0x8d, MAKE},
    {"ctrl_r", 0xe014, 0x58, MAKE},

    {"insert", 0xe070, 0x67, MAKE},
    {"home", 0xe06c, 0x6e, MAKE},
    {"pgup", 0xe07d, 0x6f, MAKE},
    {"delete", 0xe071, 0x64, TYPE},
    {"end", 0xe069, 0x65, MAKE},
    {"pgdn", 0xe07a, 0x6d, MAKE},
    {"up", 0xe075, 0x63, TYPE},
    {"left", 0xe06b, 0x61, TYPE},
    {"down", 0xe072, 0x60, TYPE},
    {"right", 0xe074, 0x6a, TYPE},

    {"num_lock", 0x77, 0x76, MAKE},
    {"kp_divide", 0xe04a, 0x77, MAKE},
    {"kp_multiply", 0x7c, 0x7e, MAKE},
    {"kp_subtract", 0x7b, 0x84, MAKE},
    {"kp_add", 0x79, 0x7c, TYPE},
    {"kp_enter", 0xe05a, 0x79, MAKE},
    {"kp_decimal", 0x71, 0x71, MAKE},
    {"kp_0", 0x70, 0x70, MAKE},
    {"kp_1", 0x69, 0x69, MAKE},
    {"kp_2", 0x72, 0x72, MAKE},
    {"kp_3", 0x7a, 0x7a, MAKE},
    {"kp_4", 0x6b, 0x6b, MAKE},
    {"kp_5", 0x73, 0x73, MAKE},
    {"kp_6", 0x74, 0x74, MAKE},
    {"kp_7", 0x6c, 0x6c, MAKE},
    {"kp_8", 0x75, 0x75, MAKE},
    {"kp_9", 0x7d, 0x7d, MAKE},
    {"kp_comma", 0x6d, 0x7b, MAKE},
    {"kp_equals", 0x0f, 0, MAKE},

    {"ro", 0x51, 0x51, TYPE},
    {"yen", 0x6a, 0x5d, TYPE},
    {"henkan", 0x64, 0x86, MAKE},
    {"muhenkan", 0x67, 0x85, MAKE},
    {"katakanahiragana", 0x13, 0x87, MAKE},

    {"power", 0xe037, 0, MAKE},
    {"sleep", 0xe03f, 0, MAKE},
    {"wake", 0xe05e, 0, MAKE},
    {"audionext", 0xe04d, 0, MAKE},
    {"audioprev", 0xe015, 0, MAKE},
    {"audiostop", 0xe03b, 0, MAKE},
    {"audioplay", 0xe034, 0, MAKE},
    {"audiomute", 0xe023, 0, MAKE},
    {"volumeup", 0xe032, 0, MAKE},
    {"volumedown", 0xe021, 0, MAKE},
    {"mail", 0xe048, 0, MAKE},
    {"calculator", 0xe02b, 0, MAKE},
    {"computer", 0xe040, 0, MAKE},
};
_Static_assert(ARRAY_SIZE(keys) <= PS2_KEYS, "the bitmaps of keys are too small");

int ps2_key_number(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (!strcmp(keys[i].name, name))
            return (int)i;
    return -1;
}

const char *ps2_key_name(unsigned key)
{
    return key < ARRAY_SIZE(keys) ? keys[key].name : NULL;
}

unsigned ps2_keys_of_set2(const u8 *codes, size_t len, struct ps2_key_event *events, unsigned max)
{
    unsigned n = 0;
    u8 prefix = 0;
    bool release = false;

    for (size_t at = 0; at < len && n < max; at++) {
        u16 code = (u16)(prefix << 8 | codes[at]);

        if (codes[at] == PREFIX || codes[at] == PREFIX_PAUSE) {
            prefix = codes[at];
            continue;
        }
        if (codes[at] == SET2_BREAK) {
            release = true;
            continue;
        }
        if (code == (PREFIX_PAUSE << 8 | 0x14)) /* Pause is two codes behind one prefix */
            continue;
        for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
            if (keys[i].set2 == code)
                events[n++] = (struct ps2_key_event){(u8)i, !release};
        prefix = 0;
        release = false;
    }
    return n;
}

/* Set 2 to set 1 for make codes; bytes beyond are prefixes and answers and stay as they are. */
static const u8 set1_of_set2[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59, /* 00 */
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b, /* 10 */
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, /* 20 */
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, /* 30 */
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, /* 40 */
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, /* 50 */
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, /* 60 */
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, /* 70 */
    0x80, 0x81, 0x82, 0x41, 0x54,                                                                   /* 80 */
};

u8 ps2_translate(u8 set2)
{
    return set2 < ARRAY_SIZE(set1_of_set2) ? set1_of_set2[set2] : set2;
}

/* ---- Bitmaps of keys ---- */

static bool bit(const u8 *bitmap, unsigned key)
{
    return bitmap[key / 8] >> key % 8 & 1;
}

static void set_bit(u8 *bitmap, unsigned key, bool value)
{
    bitmap[key / 8] = (u8)((bitmap[key / 8] & ~(1 << key % 8)) | value << key % 8);
}

static bool held(const struct ps2_keyboard *keyboard, const char *left, const char *right)
{
    return bit(keyboard->down, (unsigned)ps2_key_number(left)) ||
           bit(keyboard->down, (unsigned)ps2_key_number(right));
}

/* ---- Scan codes ---- */

enum { SEQUENCE_BYTES = 8 };

struct sequence {
    u8 bytes[SEQUENCE_BYTES];
    unsigned len;
};

static void add(struct sequence *s, u8 byte)
{
    s->bytes[s->len++] = byte;
}

static void add_set2(struct sequence *s, u16 code, bool down)
{
    if (code >> 8)
        add(s, (u8)(code >> 8));
    if (!down)
        add(s, SET2_BREAK);
    add(s, (u8)code);
}

/* Pause tells of its release at once; with Ctrl it is Break, another key. */
static void add_pause(struct sequence *s, bool ctrl, bool down)
{
    static const u8 pause[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77},
                    brk[] = {0xe0, 0x7e, 0xe0, 0xf0, 0x7e};

    if (!down)
        return;
    s->len = ctrl ? sizeof(brk) : sizeof(pause);
    memcpy(s->bytes, ctrl ? brk : pause, s->len);
}

/* Print Screen simulates Shift around itself unless Shift or Ctrl is held; with Alt it is SysRq, another key. */
static void add_print(struct sequence *s, bool alt, bool shift_or_ctrl, bool down)
{
    if (alt) {
        add_set2(s, 0x84, down);
    } else if (shift_or_ctrl) {
        add_set2(s, 0xe07c, down);
    } else if (down) {
        add_set2(s, 0xe012, true);
        add_set2(s, 0xe07c, true);
    } else {
        add_set2(s, 0xe07c, false);
        add_set2(s, 0xe012, false);
    }
}

static struct sequence set2_sequence(const struct ps2_keyboard *keyboard, const struct key *key, bool down)
{
    bool ctrl = held(keyboard, "ctrl", "ctrl_r");
    struct sequence s = {.len = 0};

    if (key->set2 == 0xe177)
        add_pause(&s, ctrl, down);
    else if (key->set2 == 0xe07c)
        add_print(&s, held(keyboard, "alt", "alt_r"), ctrl || held(keyboard, "shift", "shift_r"), down);
    else
        add_set2(&s, key->set2, down);
    return s;
}

static struct sequence set1_sequence(const struct ps2_keyboard *keyboard, const struct key *key, bool down)
{
    struct sequence from = set2_sequence(keyboard, key, down), to = {.len = 0};
    u8 release = 0;

    for (unsigned i = 0; i < from.len; i++) {
        if (from.bytes[i] == SET2_BREAK) {
            release = 0x80;
        } else {
            add(&to, ps2_translate(from.bytes[i]) | release);
            release = 0;
        }
    }
    return to;
}

static struct sequence set3_sequence(const struct ps2_keyboard *keyboard, unsigned number, bool down,
                                     bool repeats)
{
    struct sequence s = {.len = 0};

    if (!keys[number].set3 || (down && repeats && bit(keyboard->no_repeat, number)) ||
        (!down && bit(keyboard->no_break, number)))
        return s;
    add_set2(&s, keys[number].set3, down);
    return s;
}

void ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned number, bool down)
{
    struct sequence s;
    bool repeats;
    u8 overrun_code = keyboard->set == 1 ? 0xff : 0x00;

    if (number >= ARRAY_SIZE(keys))
        return;
    repeats = bit(keyboard->down, number);
    if (!down && !repeats)
        return;
    set_bit(keyboard->down, number, down);
    if (!keyboard->scanning)
        return;
    switch (keyboard->set) {
    case 1: s = set1_sequence(keyboard, &keys[number], down); break;
    case 2: s = set2_sequence(keyboard, &keys[number], down); break;
    default: s = set3_sequence(keyboard, number, down, repeats); break;
    }
    /* One byte is kept for the overrun code. */
    if (keyboard->port.count + s.len < PS2_DATA_BYTES && ps2_port_queue(&keyboard->port, s.bytes, s.len))
        keyboard->overrun = false;
    else if (!keyboard->overrun)
        keyboard->overrun = ps2_port_queue(&keyboard->port, &overrun_code, 1);
}

/* ---- Commands ---- */

enum {
    KBD_LEDS = 0xed,
    KBD_ECHO = 0xee,
    KBD_SET = 0xf0,
    KBD_ID = 0xf2,
    KBD_TYPEMATIC = 0xf3,
    KBD_ENABLE = 0xf4,
    KBD_DISABLE = 0xf5,
    KBD_DEFAULTS = 0xf6,
    KBD_ALL_TYPEMATIC = 0xf7,
    KBD_ALL_MAKE_BREAK = 0xf8,
    KBD_ALL_MAKE = 0xf9,
    KBD_ALL_EVERYTHING = 0xfa,
    KBD_KEY_TYPEMATIC = 0xfb,
    KBD_KEY_MAKE_BREAK = 0xfc,
    KBD_KEY_MAKE = 0xfd,
    KBD_RESEND = 0xfe,
    KBD_RESET = 0xff,
    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_PASSED = 0xaa,
    TYPEMATIC_DEFAULT = 0x2b, /* 10.9 a second after 500 ms */
};

static void set_defaults(struct ps2_keyboard *keyboard)
{
    keyboard->set = 2;
    keyboard->typematic = TYPEMATIC_DEFAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        set_bit(keyboard->no_break, i, keys[i].kind != BOTH);
        set_bit(keyboard->no_repeat, i, keys[i].kind != TYPE);
    }
    ps2_port_clear(&keyboard->port);
    keyboard->overrun = false;
}

void ps2_keyboard_reset(struct ps2_keyboard *keyboard)
{
    set_defaults(keyboard);
    keyboard->leds = 0;
    keyboard->command = PS2_COMMAND_NONE;
    keyboard->scanning = true;
    memset(keyboard->down, 0, sizeof(keyboard->down));
}

void ps2_keyboard_init(struct ps2_keyboard *keyboard, void (*ready)(void *opaque), void *opaque)
{
    *keyboard = (struct ps2_keyboard){.port = {.ready = ready, .opaque = opaque}};
    ps2_keyboard_reset(keyboard);
}

/* FBh..FDh: the keys whose set 3 codes follow, up to the next command. */
static void set_key_kind(struct ps2_keyboard *keyboard, u8 code)
{
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        if (keys[i].set3 != code)
            continue;
        set_bit(keyboard->no_break, i, keyboard->command != KBD_KEY_MAKE_BREAK);
        set_bit(keyboard->no_repeat, i, keyboard->command != KBD_KEY_TYPEMATIC);
    }
}

static void set_all_kinds(struct ps2_keyboard *keyboard, u8 command)
{
    bool breaks = command == KBD_ALL_MAKE_BREAK || command == KBD_ALL_EVERYTHING;
    bool repeats = command == KBD_ALL_TYPEMATIC || command == KBD_ALL_EVERYTHING;

    memset(keyboard->no_break, breaks ? 0 : 0xff, sizeof(keyboard->no_break));
    memset(keyboard->no_repeat, repeats ? 0 : 0xff, sizeof(keyboard->no_repeat));
}

static void write_argument(struct ps2_keyboard *keyboard, u8 value)
{
    u8 command = keyboard->command;

    if (command >= KBD_KEY_TYPEMATIC && command <= KBD_KEY_MAKE) {
        set_key_kind(keyboard, value);
        ps2_port_reply(&keyboard->port, ACK);
        return;
    }
    keyboard->command = PS2_COMMAND_NONE;
    if (command == KBD_SET && value > 3) {
        ps2_port_reply(&keyboard->port, RESEND);
        return;
    }
    ps2_port_reply(&keyboard->port, ACK);
    switch (command) {
    case KBD_LEDS: keyboard->leds = value & 7; break;
    case KBD_TYPEMATIC: keyboard->typematic = value & 0x7f; break;
    case KBD_SET:
        if (value)
            keyboard->set = value;
        else
            ps2_port_reply_more(&keyboard->port, keyboard->set);
        break;
    }
}

static void write_command(struct ps2_keyboard *keyboard, u8 value)
{
    struct ps2_port *port = &keyboard->port;

    keyboard->command = PS2_COMMAND_NONE;
    switch (value) {
    case KBD_LEDS:
    case KBD_SET:
    case KBD_TYPEMATIC:
    case KBD_KEY_TYPEMATIC:
    case KBD_KEY_MAKE_BREAK:
    case KBD_KEY_MAKE:
        keyboard->command = value;
        ps2_port_reply(port, ACK);
        break;
    case KBD_ECHO: ps2_port_reply(port, KBD_ECHO); break;
    case KBD_ID:
        ps2_port_reply(port, ACK);
        ps2_port_reply_more(port, 0xab);
        ps2_port_reply_more(port, 0x83);
        break;
    case KBD_ENABLE:
        ps2_port_clear(port);
        keyboard->scanning = true;
        ps2_port_reply(port, ACK);
        break;
    case KBD_DISABLE:
    case KBD_DEFAULTS:
        set_defaults(keyboard);
        keyboard->scanning = value == KBD_DEFAULTS;
        ps2_port_reply(port, ACK);
        break;
    case KBD_ALL_TYPEMATIC:
    case KBD_ALL_MAKE_BREAK:
    case KBD_ALL_MAKE:
    case KBD_ALL_EVERYTHING:
        set_all_kinds(keyboard, value);
        ps2_port_reply(port, ACK);
        break;
    case KBD_RESEND: ps2_port_reply(port, port->last); break;
    case KBD_RESET:
        ps2_keyboard_reset(keyboard);
        ps2_port_reply(port, ACK);
        ps2_port_reply_more(port, SELF_TEST_PASSED);
        break;
    default: ps2_port_reply(port, RESEND); break;
    }
}

void ps2_keyboard_write(struct ps2_keyboard *keyboard, u8 value)
{
    /* A command in the place of an argument is a command. */
    if (keyboard->command != PS2_COMMAND_NONE && value < KBD_LEDS)
        write_argument(keyboard, value);
    else
        write_command(keyboard, value);
}

/* ---- State ---- */

static int keyboard_post_load(void *object, struct error *err)
{
    struct ps2_keyboard *keyboard = object;

    if (keyboard->set < 1 || keyboard->set > 3)
        return error_set(err, "ps2_keyboard: scan code set %u does not exist", keyboard->set);
    return 0;
}

static const struct state_field keyboard_fields[] = {
    STATE_STRUCT(struct ps2_keyboard, port, &ps2_port_state, 1),
    STATE_FIELD(struct ps2_keyboard, set, STATE_U8, 1),
    STATE_FIELD(struct ps2_keyboard, command, STATE_U8, 1),
    STATE_FIELD(struct ps2_keyboard, leds, STATE_U8, 1),
    STATE_FIELD(struct ps2_keyboard, typematic, STATE_U8, 1),
    STATE_FIELD(struct ps2_keyboard, scanning, STATE_BOOL, 1),
    STATE_FIELD(struct ps2_keyboard, overrun, STATE_BOOL, 1),
    STATE_ARRAY(struct ps2_keyboard, down, STATE_U8, 1),
    STATE_ARRAY(struct ps2_keyboard, no_break, STATE_U8, 1),
    STATE_ARRAY(struct ps2_keyboard, no_repeat, STATE_U8, 1),
    STATE_END,
};
const struct state_table ps2_keyboard_state = {
    .name = "ps2_keyboard",
    .version = 1,
    .size = sizeof(struct ps2_keyboard),
    .fields = keyboard_fields,
    .post_load = keyboard_post_load,
};
