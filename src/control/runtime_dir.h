/*
 * Where the control sockets of this user's machines are: $XDG_RUNTIME_DIR/plastron, or /tmp/plastron-UID where that is not
 * set. The folder is private to the user, and a name in it is one running machine.
 */
#ifndef CONTROL_RUNTIME_DIR_H
#define CONTROL_RUNTIME_DIR_H

#include <sys/un.h>

#include "base/error.h"
#include "base/types.h"

/* The folder's path, made when `create` says so and it is missing. -1: it cannot be made, or others could have put things in
   it (another owner, permissions for others, a link). */
MUST_CHECK int runtime_dir(char *path, size_t size, bool create, struct error *err);

/* Listen on the socket of machine `name`. Returns the descriptor (not blocking), or -1 when a machine of that name runs. A
   socket that a dead process left is replaced. `path` gets the socket's path, for runtime_dir_release. */
MUST_CHECK int runtime_dir_claim(const char *name, char path[sizeof(((struct sockaddr_un *)0)->sun_path)],
                                 struct error *err);

/* Close the descriptor and remove the socket. */
void runtime_dir_release(int fd, const char *path);

/* Connect to machine `name`. Returns the descriptor, or -1 with what to do; a suggestion when a name like it runs. */
MUST_CHECK int runtime_dir_connect(const char *name, struct error *err);

/* The names of the machines that run, sorted; what dead processes left is removed. Returns their number or -1; the caller
   frees each and the list. */
MUST_CHECK int runtime_dir_list(char ***names, struct error *err);

#endif
