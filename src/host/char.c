/*
 * All kinds of chardev are a pair of descriptors with a buffer in each direction. The loop's thread alone touches the
 * descriptors and the input buffer; other threads append to `pending` under the lock and post one call of `service`.
 */
#define LOG_MODULE "host/char"
#include "host/char.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

enum {
    INPUT_BYTES = 4096,
    PIPE_CHUNK = 4096, /* what a pipe that polls writable takes without blocking (PIPE_BUF, pipe(7)) */
    RETRY_NS = 5000000,
    CLOSE_FLUSH_NS = 1000000000,
    ESCAPE = 0x01, /* Ctrl-A */
};

struct byte_buf {
    u8 *data;
    size_t start, len, capacity;
};

struct chardev {
    struct event_loop *loop;
    const struct chardev_events *events;
    void *opaque;

    pthread_mutex_t lock;
    struct byte_buf pending; /* lock: written by the front end, not yet taken by the loop's thread */
    size_t writing_len;      /* lock: copy of writing.len */
    size_t wanted;           /* lock: bytes the front end has asked for */
    bool service_posted;     /* lock */
    bool overflowed;         /* lock: said so already */

    /* The rest belongs to the loop's thread. */
    struct byte_buf writing;
    u8 input[INPUT_BYTES];
    size_t input_len;
    int in_fd, out_fd;                      /* -1: none; the same for a client of a socket */
    bool in_ready_always, out_ready_always; /* regular files, which cannot be watched */
    bool in_eof;
    bool out_socket;
    struct event_watch *in_watch, *out_watch;
    unsigned in_watched, out_watched;
    struct event_timer *retry;
    bool stopped, told_stopped; /* flow: as it is, as the front end knows it */
    bool break_waits;

    int listen_fd;
    struct event_watch *listen_watch;
    char *path; /* of the socket, to be unlinked */

    struct char_terminal terminal;
    bool escaped; /* Ctrl-A was typed */
    void (*quit)(void *opaque);
    void *quit_opaque;
};

static void service(void *opaque);

/* ---- Buffers ---- */

/* -1: no memory. */
static int byte_buf_append(struct byte_buf *buf, const void *bytes, size_t len)
{
    if (buf->start && buf->start + buf->len + len > buf->capacity) {
        memmove(buf->data, buf->data + buf->start, buf->len);
        buf->start = 0;
    }
    if (buf->len + len > buf->capacity) {
        size_t capacity = buf->capacity ? buf->capacity : 256;
        u8 *data;

        while (capacity < buf->len + len)
            capacity *= 2;
        data = realloc(buf->data, capacity);
        if (!data)
            return -1;
        buf->data = data;
        buf->capacity = capacity;
    }
    memcpy(buf->data + buf->start + buf->len, bytes, len);
    buf->len += len;
    return 0;
}

static void byte_buf_drop(struct byte_buf *buf, size_t len)
{
    buf->start += len;
    buf->len -= len;
    if (buf->len)
        return;
    buf->start = 0;
    if (buf->capacity > CHARDEV_LOW_WATER) {
        free(buf->data);
        *buf = (struct byte_buf){0};
    }
}

/* ---- Any thread ---- */

/* Lock held. */
static void post_service(struct chardev *c)
{
    if (!c->service_posted)
        c->service_posted = event_loop_post(c->loop, service, c, NULL) == 0;
}

void chardev_write(struct chardev *c, const void *bytes, size_t len)
{
    bool lost;

    pthread_mutex_lock(&c->lock);
    lost = c->pending.len + c->writing_len + len > CHARDEV_LIMIT || byte_buf_append(&c->pending, bytes, len);
    if (lost && !c->overflowed)
        log_error("output is lost: the reader of a console is too slow");
    c->overflowed = lost;
    post_service(c);
    pthread_mutex_unlock(&c->lock);
}

void chardev_want(struct chardev *c, size_t max)
{
    pthread_mutex_lock(&c->lock);
    c->wanted = max;
    post_service(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- Output ---- */

static void close_client(struct chardev *c)
{
    event_watch_remove(c->in_watch);
    c->in_watch = NULL;
    close(c->in_fd);
    c->in_fd = c->out_fd = -1;
    event_watch_set(c->listen_watch, EVENT_READ);
}

static void close_output(struct chardev *c)
{
    event_watch_remove(c->out_watch);
    c->out_watch = NULL;
    close(c->out_fd);
    c->out_fd = -1;
}

/* As write(2), but never blocks. */
static ssize_t write_some(struct chardev *c, const u8 *bytes, size_t len)
{
    struct pollfd ready = {.fd = c->out_fd, .events = POLLOUT};

    if (c->out_socket)
        return send(c->out_fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (c->out_ready_always)
        return write(c->out_fd, bytes, len);
    if (poll(&ready, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(c->out_fd, bytes, len < PIPE_CHUNK ? len : PIPE_CHUNK);
}

/* Take what the front end wrote. Returns whether there is anything to write. */
static bool refill_writing(struct chardev *c)
{
    struct byte_buf empty = c->writing;

    if (c->writing.len)
        return true;
    pthread_mutex_lock(&c->lock);
    c->writing = c->pending;
    c->pending = empty;
    c->writing_len = c->writing.len;
    pthread_mutex_unlock(&c->lock);
    return c->writing.len > 0;
}

/* Move output to the host as far as it goes. */
static void pump_output(struct chardev *c)
{
    size_t left;

    while (refill_writing(c)) {
        ssize_t n = (ssize_t)c->writing.len;

        if (c->out_fd >= 0)
            n = write_some(c, c->writing.data + c->writing.start, c->writing.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            log_info("output is dropped from here on: %s", strerror(errno));
            if (c->listen_fd >= 0)
                close_client(c);
            else
                close_output(c);
            continue;
        }
        byte_buf_drop(&c->writing, (size_t)n);
    }
    pthread_mutex_lock(&c->lock);
    c->writing_len = c->writing.len;
    left = c->writing.len + c->pending.len;
    pthread_mutex_unlock(&c->lock);
    if (left >= CHARDEV_HIGH_WATER)
        c->stopped = true;
    else if (left <= CHARDEV_LOW_WATER)
        c->stopped = false;
}

/* ---- Input ---- */

static void terminal_help(struct chardev *c)
{
    static const char text[] = "\r\n"
                               "Ctrl-A X       end the virtual machine\r\n"
                               "Ctrl-A B       send a break\r\n"
                               "Ctrl-A Ctrl-A  send Ctrl-A\r\n"
                               "Ctrl-A C       this list\r\n";

    chardev_write(c, text, sizeof(text) - 1);
}

/* Act on the terminal's escape keys in bytes[0..len); returns how many bytes remain for the guest, at the front. */
static size_t filter_escapes(struct chardev *c, u8 *bytes, size_t len)
{
    size_t kept = 0;

    for (size_t i = 0; i < len; i++) {
        u8 byte = bytes[i];

        if (!c->escaped) {
            c->escaped = byte == ESCAPE;
            if (!c->escaped)
                bytes[kept++] = byte;
            continue;
        }
        c->escaped = false;
        switch (byte) {
        case ESCAPE: bytes[kept++] = ESCAPE; break;
        case 'x':
        case 'X':
            if (c->quit)
                c->quit(c->quit_opaque);
            break;
        case 'b':
        case 'B': c->break_waits = true; break;
        case 'c':
        case 'C':
        case 'h':
        case '?': terminal_help(c); break;
        default: break; /* an unknown key is dropped with its Ctrl-A */
        }
    }
    return kept;
}

/* Read what the host has, as far as the buffer goes. */
static void pump_input(struct chardev *c)
{
    u8 *to = c->input + c->input_len;
    size_t room = INPUT_BYTES - c->input_len;
    ssize_t n;

    if (c->in_fd < 0 || c->in_eof || !room)
        return;
    n = read(c->in_fd, to, room);
    if (n > 0) {
        c->input_len += c->terminal.raw ? filter_escapes(c, to, (size_t)n) : (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        if (c->listen_fd >= 0)
            close_client(c);
        else
            c->in_eof = true;
    }
}

/* ---- Both ---- */

/* Answer what the front end asked for. */
static bool tell_input(struct chardev *c)
{
    size_t len;

    pthread_mutex_lock(&c->lock);
    len = c->wanted < c->input_len ? c->wanted : c->input_len;
    if (len)
        c->wanted = 0; /* before the answer: it may bring the next question */
    pthread_mutex_unlock(&c->lock);
    if (!len)
        return true;
    if (!c->events->receive(c->opaque, c->input, len)) {
        pthread_mutex_lock(&c->lock);
        c->wanted = len;
        pthread_mutex_unlock(&c->lock);
        return false;
    }
    c->input_len -= len;
    memmove(c->input, c->input + len, c->input_len);
    return true;
}

/* Tell the front end what it does not know yet. Returns false when it would not listen to something. */
static bool tell(struct chardev *c)
{
    if (!c->events)
        return true;
    if (c->stopped != c->told_stopped) {
        if (c->events->flow && !c->events->flow(c->opaque, !c->stopped))
            return false;
        c->told_stopped = c->stopped;
    }
    if (c->break_waits) {
        if (c->events->line_break && !c->events->line_break(c->opaque))
            return false;
        c->break_waits = false;
    }
    return tell_input(c);
}

static void out_ready(void *opaque, unsigned events)
{
    service(opaque);
}

static void in_ready(void *opaque, unsigned events)
{
    if (events & (EVENT_READ | EVENT_HANGUP))
        pump_input(opaque);
    service(opaque);
}

/* Watch `fd` for `events`; for none, not at all: a hang-up would be reported again and again. */
static void watch_for(struct chardev *c, struct event_watch **watch, unsigned *watched, int fd,
                      unsigned events, void (*ready)(void *, unsigned))
{
    struct error err;

    if (*watch && !events) {
        event_watch_remove(*watch);
        *watch = NULL;
    } else if (*watch && *watched != events) {
        event_watch_set(*watch, events);
    } else if (!*watch && events) {
        *watch = event_loop_watch(c->loop, fd, events, ready, c, &err);
        if (!*watch)
            log_warn("%s", err.text);
    }
    *watched = events;
}

static void update_watches(struct chardev *c)
{
    unsigned in = c->in_fd >= 0 && !c->in_eof && c->input_len < INPUT_BYTES ? EVENT_READ : 0;
    unsigned out = c->out_fd >= 0 && c->writing.len ? EVENT_WRITE : 0;

    if (c->in_fd >= 0 && c->in_fd == c->out_fd) {
        watch_for(c, &c->in_watch, &c->in_watched, c->in_fd, in | out, in_ready);
        return;
    }
    if (!c->in_ready_always)
        watch_for(c, &c->in_watch, &c->in_watched, c->in_fd, in, in_ready);
    if (!c->out_ready_always)
        watch_for(c, &c->out_watch, &c->out_watched, c->out_fd, out, out_ready);
}

/* Everything that can be done now. Loop's thread. */
static void service(void *opaque)
{
    struct chardev *c = opaque;

    pthread_mutex_lock(&c->lock);
    c->service_posted = false;
    pthread_mutex_unlock(&c->lock);
    pump_output(c);
    if (c->in_ready_always)
        pump_input(c);
    if (!tell(c))
        event_timer_arm(c->retry, event_now_ns() + RETRY_NS);
    update_watches(c);
}

/* ---- Unix socket ---- */

static void accept_client(void *opaque, unsigned events)
{
    struct chardev *c = opaque;
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    c->in_fd = c->out_fd = fd;
    event_watch_set(c->listen_watch, 0);
    service(c);
}

static int open_unix(struct chardev *c, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;

    if (!*path || strlen(path) >= sizeof(address.sun_path))
        return error_set(err, "socket path '%s' must have 1 to %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->listen_fd < 0)
        return error_set_errno(err, errno, "cannot make a socket");
    if (connect(c->listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
        return error_set(err, "socket '%s' is in use by another program; choose another path", path);
    /* A socket that nobody listens on is left over from a program that crashed. */
    if (errno == ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    fchmod(c->listen_fd, 0600); /* Linux gives this mode to the file that bind makes: private to the user */
    if (bind(c->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set_errno(err, errno, "cannot make socket '%s'", path);
    c->path = strdup(path);
    if (listen(c->listen_fd, 1) < 0)
        return error_set_errno(err, errno, "cannot listen on socket '%s'", path);
    c->out_socket = true;
    c->listen_watch = event_loop_watch(c->loop, c->listen_fd, EVENT_READ, accept_client, c, err);
    return c->listen_watch ? 0 : -1;
}

/* ---- Files, standard input and output ---- */

/* Whether epoll refuses the descriptor because it is always ready. */
static bool is_ready_always(int fd)
{
    struct stat st, null;

    if (fstat(fd, &st) < 0)
        return false;
    if (S_ISCHR(st.st_mode) && stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev)
        return true;
    return S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
}

static bool is_socket(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int open_file(struct chardev *c, const char *path, struct error *err)
{
    c->out_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (c->out_fd < 0)
        return error_set_errno(err, errno, "cannot write to '%s'", path);
    c->out_ready_always = is_ready_always(c->out_fd);
    return 0;
}

void char_terminal_restore(const struct char_terminal *terminal)
{
    if (terminal->raw)
        tcsetattr(terminal->fd, TCSANOW, &terminal->saved);
}

/* Raw input; output keeps its processing, so that our own messages look right beside the guest's. */
static void make_raw(struct char_terminal *terminal, int fd)
{
    struct termios raw;

    terminal->fd = fd;
    if (tcgetattr(fd, &terminal->saved) < 0)
        return;
    raw = terminal->saved;
    raw.c_iflag &= (tcflag_t) ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= (tcflag_t) ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag &= (tcflag_t) ~(CSIZE | PARENB);
    raw.c_cflag |= CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal->raw = tcsetattr(fd, TCSANOW, &raw) == 0;
}

static int open_stdio(struct chardev *c, struct error *err)
{
    /*
     * O_NONBLOCK would belong to the open file, which is shared with the shell. A terminal or a pipe is therefore opened a
     * second time for output, and what cannot be is written in chunks that do not block.
     */
    if (isatty(STDOUT_FILENO))
        c->out_fd = open("/proc/self/fd/1", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (c->out_fd < 0)
        c->out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (c->out_fd < 0)
        return error_set_errno(err, errno,
                               "cannot use standard output; redirect it, or choose another backend");
    c->out_ready_always = is_ready_always(c->out_fd);
    c->out_socket = is_socket(c->out_fd);
    c->in_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (c->in_fd >= 0) {
        c->in_ready_always = is_ready_always(c->in_fd);
        make_raw(&c->terminal, c->in_fd);
    }
    return 0;
}

/* ---- Life ---- */

static int open_spec(struct chardev *c, const char *spec, struct error *err)
{
    if (!strcmp(spec, "none"))
        return 0;
    if (!strcmp(spec, "stdio"))
        return open_stdio(c, err);
    if (!strncmp(spec, "file:", 5) && spec[5])
        return open_file(c, spec + 5, err);
    if (!strncmp(spec, "unix:", 5))
        return open_unix(c, spec + 5, err);
    return error_set(err, "'%s' is not a character device: use stdio, file:FILE, unix:PATH or none", spec);
}

struct chardev *chardev_open(const char *spec, struct event_loop *loop, struct error *err)
{
    struct chardev *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, "out of memory for a character device");
        return NULL;
    }
    c->loop = loop;
    c->in_fd = c->out_fd = c->listen_fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    c->retry = event_timer_new(loop, service, c, err);
    if (!c->retry || open_spec(c, spec, err)) {
        chardev_close(c);
        return NULL;
    }
    pthread_mutex_lock(&c->lock);
    post_service(c); /* start to read */
    pthread_mutex_unlock(&c->lock);
    return c;
}

static void flush_for_close(struct chardev *c)
{
    u64 end = event_now_ns() + CLOSE_FLUSH_NS;

    pump_output(c);
    while (c->writing.len && c->out_fd >= 0 && event_now_ns() < end) {
        struct pollfd ready = {.fd = c->out_fd, .events = POLLOUT};

        poll(&ready, 1, 100);
        pump_output(c);
    }
}

void chardev_close(struct chardev *c)
{
    if (!c)
        return;
    flush_for_close(c);
    event_loop_cancel(c->loop, service, c);
    char_terminal_restore(&c->terminal);
    event_watch_remove(c->in_watch);
    event_watch_remove(c->out_watch);
    event_watch_remove(c->listen_watch);
    event_timer_free(c->retry);
    if (c->out_fd >= 0 && c->out_fd != c->in_fd)
        close(c->out_fd);
    if (c->in_fd >= 0)
        close(c->in_fd);
    if (c->listen_fd >= 0)
        close(c->listen_fd);
    if (c->path)
        unlink(c->path);
    free(c->path);
    free(c->pending.data);
    free(c->writing.data);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void chardev_connect(struct chardev *c, const struct chardev_events *events, void *opaque)
{
    c->events = events;
    c->opaque = opaque;
}

void chardev_on_quit(struct chardev *c, void (*quit)(void *opaque), void *opaque)
{
    c->quit = quit;
    c->quit_opaque = opaque;
}

const struct char_terminal *chardev_terminal(const struct chardev *c)
{
    return c->terminal.raw ? &c->terminal : NULL;
}
