/*
 * The two devices on the serial lines of an i8042: PS/2 keyboard and mouse. Facts: IBM PS/2 technical reference (keyboard,
 * mouse), Microsoft's keyboard scan code specification and IntelliMouse protocol.
 *
 * A device queues bytes in its ps2_port; the controller takes them when it has room. Answers to commands go before what
 * waits in the data queue.
 */
#ifndef DEV_PS2_H
#define DEV_PS2_H

#include "base/types.h"
#include "machine/timer.h"
#include "state/state.h"

enum { PS2_REPLY_BYTES = 8, PS2_DATA_BYTES = 128, PS2_KEYS = 128, PS2_COMMAND_NONE = 0 };

struct ps2_port {
    u8 reply[PS2_REPLY_BYTES]; /* answer to the last command */
    u8 reply_len;
    u8 data[PS2_DATA_BYTES]; /* ring: scan codes or packets */
    u8 first, count;
    u8 last;                     /* byte that was sent last, for the resend command */
    void (*ready)(void *opaque); // not saved: wiring; there is something to take
    void *opaque;                // not saved: wiring
};

static inline bool ps2_port_has_data(const struct ps2_port *port)
{
    return port->reply_len || port->count;
}

/* The next byte; there must be one. */
u8 ps2_port_take(struct ps2_port *port);

/* ---- Keyboard ---- */

struct ps2_keyboard {
    struct ps2_port port;
    u8 set;       /* scan code set 1..3 */
    u8 command;   /* that waits for its argument; PS2_COMMAND_NONE */
    u8 leds;      /* scroll, num, caps */
    u8 typematic; /* as last set; the host's own repetition is passed on, whatever this says */
    bool scanning;
    bool overrun;               /* keys were lost since the queue was full, and the code for it is queued */
    u8 down[PS2_KEYS / 8];      /* bitmap of the keys that are held */
    u8 no_break[PS2_KEYS / 8];  /* set 3: keys that do not tell of their release */
    u8 no_repeat[PS2_KEYS / 8]; /* set 3: keys that do not repeat */
};
extern const struct state_table ps2_keyboard_state;

void ps2_keyboard_init(struct ps2_keyboard *keyboard, void (*ready)(void *opaque), void *opaque);
void ps2_keyboard_reset(struct ps2_keyboard *keyboard);

/* A byte from the controller: a command or its argument. */
void ps2_keyboard_write(struct ps2_keyboard *keyboard, u8 value);

/* A key goes down (again: it repeats) or up. */
void ps2_keyboard_key(struct ps2_keyboard *keyboard, unsigned key, bool down);

/* Number of the key with a QEMU key name ("a", "ctrl", "f1", "kp_enter"), or -1; and the name of a number, or NULL. */
int ps2_key_number(const char *name);
const char *ps2_key_name(unsigned key);

/* The keys that a keyboard reports by codes[0..len) of scan code set 2; codes that belong to no key are left out. Returns how
   many events were stored, at most `max`. */
struct ps2_key_event {
    u8 key;
    bool down;
};
unsigned ps2_keys_of_set2(const u8 *codes, size_t len, struct ps2_key_event *events, unsigned max);

/* What the controller's translation makes of a byte of scan code set 2. */
u8 ps2_translate(u8 set2);

/* ---- Mouse ---- */

enum {
    PS2_BUTTON_LEFT = 1,
    PS2_BUTTON_RIGHT = 2,
    PS2_BUTTON_MIDDLE = 4,
    PS2_BUTTON_SIDE = 8,
    PS2_BUTTON_EXTRA = 16
};

struct ps2_mouse {
    struct ps2_port port;
    u8 command;    /* that waits for its argument; PS2_COMMAND_NONE */
    u8 id;         /* 0; 3 with a wheel, 4 with five buttons */
    u8 rates[2];   /* sample rates that were set before the present one: the knock for id 3 and 4 */
    u8 rate;       /* packets a second */
    u8 resolution; /* 0..3 */
    bool double_scale, remote, wrap, reporting;
    u8 buttons, told_buttons;
    i16 dx, dy, dz; /* movement that was not told yet; y is up, z towards the user */
    struct timer sample;
};
extern const struct state_table ps2_mouse_state;

void ps2_mouse_init(struct ps2_mouse *mouse, struct timer_queue *timers, void (*ready)(void *opaque),
                    void *opaque);
void ps2_mouse_reset(struct ps2_mouse *mouse);
void ps2_mouse_write(struct ps2_mouse *mouse, u8 value);

/* Movement since the last call (right, down and towards the user are positive) and PS2_BUTTON_* that are held now. */
void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, u8 buttons);

/* ---- Queues, for the two devices ---- */

/* Forget what was queued and start an answer with `byte`. */
void ps2_port_reply(struct ps2_port *port, u8 byte);
/* Go on with the answer. */
void ps2_port_reply_more(struct ps2_port *port, u8 byte);
/* Queue all of data[0..len), or nothing when there is no room. */
bool ps2_port_queue(struct ps2_port *port, const u8 *data, unsigned len);
void ps2_port_clear(struct ps2_port *port);
extern const struct state_table ps2_port_state;

#endif
