/* The program `plastron`: the table of its commands. */
#include <jansson.h>
#include <string.h>

#include "control/client.h"
#include "control/options.h"
#include "control/run.h"

static int command_help(const struct arguments *arguments);
static int command_version(const struct arguments *arguments);

static const struct command commands[] = {
    {.name = "run",
     .operands = "",
     .run = command_run,
     .options = CLI_MACHINE_OPTIONS | CLI_JSON | CLI_STATE_HASH | CLI_STOP_AFTER | CLI_PAUSED,
     .summary = "make a machine and run it",
     .help = "Make a machine and run it until the guest powers off, with its first serial line on this "
             "terminal."},
    {.name = "restore",
     .operands = "FILE",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_restore,
     .options = CLI_HOST_OPTIONS | CLI_JSON | CLI_STATE_HASH | CLI_STOP_AFTER | CLI_PAUSED,
     .summary = "run a saved machine",
     .help = "Make the machine that was saved in FILE and let it go on from there. Disks, serial lines and "
             "the like are "
             "where they were, unless options say otherwise."},
    {.name = "save",
     .operands = "VM FILE",
     .min_operands = 2,
     .max_operands = 2,
     .run = command_save,
     .summary = "save a machine to a file",
     .help = "Write the whole state of a machine to FILE. The machine stands still meanwhile and goes on "
             "afterwards. What "
             "its disks hold is not in the file."},
    {.name = "ls",
     .operands = "",
     .options = CLI_JSON,
     .run = command_ls,
     .summary = "list the machines that run",
     .help = "List the machines of this user that run."},
    {.name = "info",
     .operands = "VM [PATH]",
     .min_operands = 1,
     .max_operands = 2,
     .options = CLI_JSON,
     .run = command_info,
     .summary = "look inside a machine",
     .help = "Print facts and the whole saved state of a machine but its memory, or one part or field of the "
             "state: "
             "`plastron info VM vcpu0.rip`."},
    {.name = "stop",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_stop,
     .summary = "end a machine now",
     .help = "End a machine now, as pulling its plug does. See powerdown for a gentler way."},
    {.name = "powerdown",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_powerdown,
     .summary = "press the power button",
     .help = "Press the power button, which asks the guest's system to shut down."},
    {.name = "reset",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_reset,
     .summary = "press the reset button",
     .help = "Press the reset button."},
    {.name = "pause",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_pause,
     .summary = "let a machine stand still",
     .help = "Let a machine stand still, its clock too."},
    {.name = "resume",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_resume,
     .summary = "let it go on",
     .help = "Let a machine go on that was paused."},
    {.name = "engine",
     .operands = "VM ENGINE",
     .min_operands = 2,
     .max_operands = 2,
     .run = command_engine,
     .summary = "go on with another engine",
     .help = "Let a running machine go on with another engine from its next instruction on: `plastron engine "
             "VM jit`. Its "
             "state stays what it is; `plastron help run` lists the engines."},
    {.name = "key",
     .operands = "VM KEYS",
     .min_operands = 2,
     .max_operands = 2,
     .run = command_key,
     .summary = "press keys",
     .help = "Press keys of the guest's keyboard together: `plastron key VM ctrl-alt-delete`. The "
             "names are those of QEMU."},
    {.name = "console",
     .operands = "VM",
     .min_operands = 1,
     .max_operands = 1,
     .run = command_console,
     .summary = "use a machine's console",
     .help = "Connect this terminal to the first serial line of a machine that is on a unix socket (--serial "
             "unix:FILE). "
             "Ctrl-A X leaves; the machine goes on."},
    {.name = "version",
     .operands = "",
     .options = CLI_JSON,
     .run = command_version,
     .summary = "say what this is",
     .help = "Show the version and what the program was built with."},
    {.name = "help",
     .operands = "[COMMAND]",
     .max_operands = 1,
     .options = CLI_MAN,
     .run = command_help,
     .summary = "explain a command",
     .help = "Explain a command, or list all."},
    {.name = NULL},
};

static int command_version(const struct arguments *arguments)
{
    const char *feature;
    json_t *features = json_array();

    for (unsigned n = 0; (feature = plastron_feature(n)); n++)
        json_array_append_new(features, json_string(feature));
    if (arguments->given & CLI_JSON) {
        json_t *json = json_pack("{s:s, s:i, s:O}", "version", plastron_version(), "api",
                                 PLASTRON_API_VERSION, "built-with", features);
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(json);
    } else {
        printf("plastron %s\nBuilt with:", plastron_version());
        for (unsigned n = 0; (feature = plastron_feature(n)); n++)
            printf(" %s", feature);
        printf("\nLicence: GNU GPL version 2 or later. There is no warranty.\n");
    }
    json_decref(features);
    return 0;
}

static int command_help(const struct arguments *arguments)
{
    const struct command *command = NULL;
    struct error err;

    if (arguments->given & CLI_MAN) {
        help_print_manual(commands, stdout);
        return 0;
    }
    if (arguments->operands && !(command = command_find(commands, arguments->operand[0], &err)))
        return command_failed(&err);
    help_print(commands, command, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct error err;
    int status;

    if (arguments_parse(&arguments, commands, argc, argv, &err)) {
        status = command_failed(&err);
    } else if (arguments.given & CLI_HELP) {
        help_print(commands, arguments.command, stdout);
        status = 0;
    } else if (!arguments.command) {
        status = command_version(&arguments);
    } else {
        status = arguments.command->run(&arguments);
    }
    arguments_free(&arguments);
    /* A full disk or closed pipe at the end of a list is a failure too. */
    if (fflush(stdout) && !status) {
        error_set(&err, "cannot write to standard output");
        status = command_failed(&err);
    }
    return status;
}
