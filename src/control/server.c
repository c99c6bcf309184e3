#include "control/server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/runtime_dir.h"

enum {
    CLIENTS_MAX = 32,
    OUTPUT_MAX = 32 << 20, /* a client that lets more than this pile up has gone to sleep: it is dropped */
    LINGER_MS = 500,
};

struct client {
    struct control_server *server;
    struct client *next;
    int fd;
    struct event_watch *watch;
    struct protocol_session session;
    char *output; /* what waits to be sent */
    size_t output_len, output_capacity;
    bool dropped; /* too slow, or broke the bounds: ends after the call under way */
};

struct control_server {
    struct event_loop *loop;
    const struct control_target *target;
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct event_watch *watch;
    struct client *clients;
    unsigned nclients;
};

static void client_free(struct client *client)
{
    struct client **link = &client->server->clients;

    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    client->server->nclients--;
    event_watch_remove(client->watch);
    protocol_close(&client->session);
    close(client->fd);
    free(client->output);
    free(client);
}

/* Send what the socket takes now. */
static void client_flush(struct client *client)
{
    size_t sent = 0;

    while (sent < client->output_len) {
        ssize_t n = send(client->fd, client->output + sent, client->output_len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            client->dropped |= errno != EAGAIN;
            break;
        }
        sent += (size_t)n;
    }
    memmove(client->output, client->output + sent, client->output_len - sent);
    client->output_len -= sent;
    if (client->watch)
        event_watch_set(client->watch, EVENT_READ | (client->output_len ? EVENT_WRITE : 0));
}

static void client_send(void *opaque, const char *bytes, size_t len)
{
    struct client *client = opaque;

    if (client->dropped)
        return;
    if (client->output_len + len > client->output_capacity) {
        size_t capacity = (client->output_len + len) * 2;
        char *output = client->output_len + len <= OUTPUT_MAX ? realloc(client->output, capacity) : NULL;
        if (!output) {
            client->dropped = true;
            return;
        }
        client->output = output;
        client->output_capacity = capacity;
    }
    memcpy(client->output + client->output_len, bytes, len);
    client->output_len += len;
}

static void client_ready(void *opaque, unsigned events)
{
    struct client *client = opaque;
    char bytes[4096];

    if (events & EVENT_READ) {
        ssize_t n = recv(client->fd, bytes, sizeof(bytes), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            client->dropped = true;
        else if (n > 0 && protocol_input(&client->session, bytes, (size_t)n)) {
            client_flush(client); /* the last error */
            client->dropped = true;
        }
    } else if (events & EVENT_HANGUP) {
        client->dropped = true;
    }
    if (!client->dropped)
        client_flush(client);
    if (client->dropped)
        client_free(client);
}

static void server_ready(void *opaque, unsigned events)
{
    struct control_server *server = opaque;
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    struct client *client = server->nclients < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
    if (!client) {
        close(fd);
        return;
    }
    *client = (struct client){.server = server, .next = server->clients, .fd = fd};
    server->clients = client;
    server->nclients++;
    client->watch = event_loop_watch(server->loop, fd, EVENT_READ, client_ready, client, NULL);
    if (!client->watch || protocol_open(&client->session, server->target, client_send, client, NULL)) {
        client_free(client);
        return;
    }
    client_flush(client);
}

struct control_server *control_server_new(struct event_loop *loop, const char *name,
                                          const struct control_target *target, struct error *err)
{
    struct control_server *server = calloc(1, sizeof(*server));

    if (!server) {
        error_set(err, "out of memory");
        return NULL;
    }
    *server = (struct control_server){.loop = loop, .target = target};
    server->fd = runtime_dir_claim(name, server->path, err);
    if (server->fd < 0) {
        free(server);
        return NULL;
    }
    server->watch = event_loop_watch(loop, server->fd, EVENT_READ, server_ready, server, err);
    if (!server->watch) {
        control_server_free(server);
        return NULL;
    }
    return server;
}

void control_server_event(struct control_server *server, const char *event, json_t *data)
{
    for (struct client *client = server->clients; client; client = client->next) {
        protocol_event(&client->session, event, data);
        client_flush(client); /* one that is dropped here ends with its next readiness or with the server */
    }
}

void control_server_free(struct control_server *server)
{
    u64 deadline = event_now_ns() + (u64)LINGER_MS * 1000000;

    if (!server)
        return;
    event_watch_remove(server->watch);
    runtime_dir_release(server->fd, server->path);
    while (server->clients) {
        struct client *client = server->clients;
        struct pollfd poll_fd = {.fd = client->fd, .events = POLLOUT};
        while (client->output_len && !client->dropped && event_now_ns() < deadline &&
               poll(&poll_fd, 1, LINGER_MS) > 0)
            client_flush(client);
        client_free(client);
    }
    free(server);
}
