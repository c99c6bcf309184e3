/* `plastron run` and `plastron restore`: one machine, from its making to its end. */
#ifndef CONTROL_RUN_H
#define CONTROL_RUN_H

#include "control/options.h"

/* Return the exit status. */
int command_run(const struct arguments *arguments);
int command_restore(const struct arguments *arguments);

#endif
