/* The terminal as the console of a machine whose serial line is a unix socket. */
#ifndef CONTROL_CONSOLE_H
#define CONTROL_CONSOLE_H

#include "base/error.h"
#include "base/types.h"

/* Pass bytes between this terminal and the socket at `path` until Ctrl-A X, the end of the machine, or a signal that ends
   programs; the terminal is as before then. */
MUST_CHECK int console_attach(const char *path, struct error *err);

#endif
