/*
 * Character backends: the far end of a serial port or a debug console.
 *
 *     stdio     this terminal (raw while it is open; Ctrl-A X quits, Ctrl-A ? lists the keys) or whatever else standard
 *               input and output are
 *     file:F    output to a file, which is made anew; no input
 *     unix:F    a listening Unix socket, one client at a time; without a client, output is dropped
 *     none      output is dropped; no input
 *
 * Output never blocks the caller and is never lost to a slow reader: it is buffered, and `flow` tells the front end to
 * stop at 256 KiB. Input is read from the host only as fast as the front end asks for it.
 *
 * The process must ignore SIGPIPE.
 */
#ifndef HOST_CHAR_H
#define HOST_CHAR_H

#include <termios.h>

#include "base/error.h"
#include "base/event_loop.h"
#include "base/types.h"

struct chardev;

enum {
    CHARDEV_HIGH_WATER = 256 << 10, /* bytes waiting for the host at which `flow` says stop */
    CHARDEV_LOW_WATER = 64 << 10,   /* and at which it says go again */
    CHARDEV_LIMIT = 16 << 20,       /* a front end that writes on past this loses bytes */
};

/*
 * What a front end is told, on the loop's thread with no lock held. Each returns whether it took the news; the same is
 * offered again a little later otherwise (a full event gate).
 */
struct chardev_events {
    /* The answer to one chardev_want: 1..`max` bytes. */
    bool (*receive)(void *opaque, const u8 *bytes, size_t len);
    /* A break condition on the line. May be NULL. */
    bool (*line_break)(void *opaque);
    /* The output buffer is too full (`go` false) or has room again. May be NULL. */
    bool (*flow)(void *opaque, bool go);
};

/* Open what `spec` describes (see the top), served by `loop`, before the loop runs or on its thread. NULL with `err` set. */
struct chardev *chardev_open(const char *spec, struct event_loop *loop, struct error *err);

/* Write out what waits (for at most a second), give the terminal back, close. On the loop's thread or while nobody runs the
   loop; the front end is gone. NULL is allowed. */
void chardev_close(struct chardev *chardev);

/* Connect the front end, before the loop runs. `events` must outlive the chardev. */
void chardev_connect(struct chardev *chardev, const struct chardev_events *events, void *opaque);

/* Take bytes for the host. Any thread, any lock but the chardev's may be held; never blocks. */
void chardev_write(struct chardev *chardev, const void *bytes, size_t len);

/* Ask for at most `max` bytes of input, once: `receive` answers when there are some. Replaces an earlier question that was
   not answered. Any thread, as chardev_write. */
void chardev_want(struct chardev *chardev, size_t max);

/* stdio on a terminal: what Ctrl-A X calls, on the loop's thread. */
void chardev_on_quit(struct chardev *chardev, void (*quit)(void *opaque), void *opaque);

/* A terminal in raw mode and how it was before. */
struct char_terminal {
    int fd;
    bool raw;
    struct termios saved;
};

/* The terminal of a stdio chardev, or NULL when it is not one. Valid until chardev_close. */
const struct char_terminal *chardev_terminal(const struct chardev *chardev);

/* Give a terminal its old settings back. Async-signal-safe, so that the handler of a deadly signal can call it. */
void char_terminal_restore(const struct char_terminal *terminal);

#endif
