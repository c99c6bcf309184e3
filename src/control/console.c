#include "control/console.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum { ESCAPE = 1 /* Ctrl-A */ };

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* Take the escapes out of what was typed: Ctrl-A X ends, Ctrl-A Ctrl-A is a Ctrl-A. Returns false at the end. */
static bool filter_escapes(bool *escaped, const char *typed, size_t len, char *out, size_t *out_len)
{
    *out_len = 0;
    for (size_t i = 0; i < len; i++) {
        char c = typed[i];
        if (!*escaped) {
            *escaped = c == ESCAPE;
            if (!*escaped)
                out[(*out_len)++] = c;
            continue;
        }
        *escaped = false;
        if (c == 'x' || c == 'X')
            return false;
        if (c == ESCAPE)
            out[(*out_len)++] = ESCAPE;
    }
    return true;
}

static void relay(int socket_fd, int signal_fd)
{
    struct pollfd fds[] = {{socket_fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}, {signal_fd, POLLIN, 0}};
    bool escaped = false;
    char in[4096], out[4096];
    size_t len;

    for (;;) {
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return;
        if (fds[0].revents) {
            ssize_t n = read(socket_fd, in, sizeof(in));
            if (n <= 0 || !write_all(STDOUT_FILENO, in, (size_t)n))
                return;
        }
        if (fds[1].revents) {
            ssize_t n = read(STDIN_FILENO, in, sizeof(in));
            if (n <= 0) {
                fds[1].fd = -1; /* no more input; the output goes on */
                continue;
            }
            bool go_on = filter_escapes(&escaped, in, (size_t)n, out, &len);
            if (!write_all(socket_fd, out, len) || !go_on)
                return;
        }
        if (fds[2].revents)
            return;
    }
}

int console_attach(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct termios before, raw;
    sigset_t signals;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, "the path of the serial socket %s is too long", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        error_set_errno(err, errno, "cannot connect to the serial socket %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    bool terminal = !tcgetattr(STDIN_FILENO, &before);
    if (terminal) {
        raw = before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        fprintf(stderr, "[Ctrl-A X leaves]\r\n");
    }
    relay(fd, signal_fd);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
        fputc('\n', stderr);
    }
    close(signal_fd);
    close(fd);
    return 0;
}
