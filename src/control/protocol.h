/*
 * The control protocol of one connection, apart from its socket: bytes in, bytes out. The envelope is QMP's (greeting,
 * `execute` with `arguments` and `id`, `return` or `error`, events), the commands are in commands.c and
 * docs/control-socket.md. What comes in is not trusted: messages are bounded, and any bytes get an error in reply.
 */
#ifndef CONTROL_PROTOCOL_H
#define CONTROL_PROTOCOL_H

#include <jansson.h>

#include "base/error.h"
#include "base/types.h"
#include "plastron/plastron.h"

enum { PROTOCOL_MESSAGE_MAX = 64 * 1024 };

/* What commands act on. */
struct control_target {
    plastron_vm *vm;
    /* As plastron_save; apart so that fuzzing does not write files. */
    int (*save)(plastron_vm *vm, const char *file, struct plastron_error *err);
    void (*quit)(void *opaque); /* end the program, after the replies were sent */
    void *opaque;
};

struct protocol_session {
    const struct control_target *target;
    void (*send)(void *opaque, const char *bytes,
                 size_t len); /* must take all of it, or drop the connection later */
    void *send_opaque;
    bool negotiated; /* qmp_capabilities was executed: commands are taken and events are sent */
    char *input;     /* the message that is being received; PROTOCOL_MESSAGE_MAX bytes */
    size_t input_len;
    unsigned depth; /* of brackets in it */
    bool in_string, escaped, garbage;
};

/* Begin: sends the greeting. `target` is borrowed. */
MUST_CHECK int protocol_open(struct protocol_session *session, const struct control_target *target,
                             void (*send)(void *opaque, const char *bytes, size_t len), void *send_opaque,
                             struct error *err);
void protocol_close(struct protocol_session *session);

/* Bytes from the client; replies are sent during the call. -1: the client broke the bounds, end the connection. */
MUST_CHECK int protocol_input(struct protocol_session *session, const char *bytes, size_t len);

/* Send an event, if the client negotiated; `data` is borrowed and may be NULL. */
void protocol_event(struct protocol_session *session, const char *name, json_t *data);

/* commands.c */
struct protocol_argument {
    const char *name; /* NULL: no more */
    json_type type;
    bool optional;
};
enum { PROTOCOL_ARGUMENTS = 3 };
struct protocol_command {
    const char *name; /* NULL ends the table */
    struct protocol_argument arguments[PROTOCOL_ARGUMENTS];
    /* Returns a new reference for "return", or NULL with `err`. `arguments` were checked against the list above. */
    json_t *(*run)(const struct control_target *target, json_t *arguments, struct error *err);
};
extern const struct protocol_command protocol_commands[];

#endif
