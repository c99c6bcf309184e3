/*
 * The command line: one table of commands and one of options, from which come the parser, its error texts, --help and the
 * manual page. The options of a machine are libplastron's own list.
 */
#ifndef CONTROL_OPTIONS_H
#define CONTROL_OPTIONS_H

#include <stdio.h>

#include "base/error.h"
#include "base/types.h"
#include "plastron/plastron.h"

/* Options that belong to commands and not to machines; bits of command.options and arguments.given. */
enum {
    CLI_HELP = 1 << 0,
    CLI_VERSION = 1 << 1,
    CLI_JSON = 1 << 2,
    CLI_STATE_HASH = 1 << 3,
    CLI_STOP_AFTER = 1 << 4,
    CLI_PAUSED = 1 << 5,
    CLI_MAN = 1 << 6,
    /* Not options: which of the machine's options a command takes. */
    CLI_HOST_OPTIONS = 1 << 16,
    CLI_MACHINE_OPTIONS = 1 << 17,
};

struct arguments;

struct command {
    const char *name;     /* NULL ends the table */
    const char *operands; /* "VM FILE", in brackets what may be left out; "" for none */
    unsigned min_operands, max_operands;
    unsigned options; /* CLI_* */
    const char *summary, *help;
    /* Returns the exit status. Errors were printed. */
    int (*run)(const struct arguments *arguments);
};

/* What the command line said. */
struct arguments {
    const struct command *command; /* NULL: --help or --version alone */
    const char *operand[2];
    unsigned operands;
    unsigned given;          /* CLI_* */
    u64 stop_after;          /* instructions; PLASTRON_NO_LIMIT without the option */
    plastron_config *config; /* owned; empty for commands without machine options */
};

/* Fill `arguments` from main's words; `commands` is the table. arguments_free it in either case. */
MUST_CHECK int arguments_parse(struct arguments *arguments, const struct command *commands, int argc,
                               char **argv, struct error *err);
void arguments_free(struct arguments *arguments);

/* The command of a name; NULL with a suggestion in `err`. */
const struct command *command_find(const struct command *commands, const char *name, struct error *err);

/* Help for one command, or (NULL) for the program. */
void help_print(const struct command *commands, const struct command *command, FILE *out);

/* The manual page plastron.1, in man(7) markup. */
void help_print_manual(const struct command *commands, FILE *out);

/* The options a command takes, in the order of the help: first the machine's, then its own. NULL after the last. */
const struct plastron_option *command_option(const struct command *command, unsigned n);

#endif
