/* The control socket of one machine: accepts clients and gives each a protocol session. Runs on an event loop's thread. */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include "base/event_loop.h"
#include "control/protocol.h"

struct control_server;

/* Listen under `name` (runtime_dir.h). `loop` and `target` are borrowed and must outlive the server. */
struct control_server *control_server_new(struct event_loop *loop, const char *name,
                                          const struct control_target *target, struct error *err);

/* Send an event to every client. The loop's thread. `data` is borrowed and may be NULL. */
void control_server_event(struct control_server *server, const char *event, json_t *data);

/* Remove the socket and end the connections, after giving clients up to half a second to take what was sent. NULL is
   ignored. */
void control_server_free(struct control_server *server);

#endif
