/* Talking to the control socket of a running machine, and the commands that do little else. */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "base/types.h"
#include "control/options.h"

struct client_connection;

/* Connect to machine `name` and negotiate. NULL with `err`. Close it with client_close. */
struct client_connection *client_open(const char *name, struct error *err);
void client_close(struct client_connection *connection);

/* Execute a command with `arguments` (reference taken; NULL: none) and wait for what it returns: a new reference, or NULL
   with `err`. */
json_t *client_execute(struct client_connection *connection, const char *command, json_t *arguments,
                       struct error *err);

/* The commands of the program that are carried out by a running machine; they return the exit status. */
int command_ls(const struct arguments *arguments);
int command_info(const struct arguments *arguments);
int command_save(const struct arguments *arguments);
int command_stop(const struct arguments *arguments);
int command_pause(const struct arguments *arguments);
int command_resume(const struct arguments *arguments);
int command_reset(const struct arguments *arguments);
int command_engine(const struct arguments *arguments);
int command_powerdown(const struct arguments *arguments);
int command_key(const struct arguments *arguments);
int command_console(const struct arguments *arguments);

/* "plastron: TEXT" on standard error; returns exit status 1. */
int command_failed(const struct error *err);

#endif
