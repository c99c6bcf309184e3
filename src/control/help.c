/* --help and the manual page, both from the tables of commands and options. */
#include <ctype.h>
#include <string.h>

#include "control/options.h"

enum { HELP_WIDTH = 79 };

struct example {
    const char *words, *meaning;
};
static const struct example examples[] = {
    {"plastron run --kernel vmlinuz --initrd initrd.img --append console=ttyS0",
     "Boot Linux with its console on this terminal. Ctrl-A X ends it."},
    {"plastron run --name web --cpus 2 --memory 2G --kernel vmlinuz --append 'root=/dev/vda console=ttyS0' "
     "--disk root.img,snapshot=on --serial unix:/tmp/web.sock",
     "A Linux system from a disk whose changes are thrown away. `plastron console web` from another terminal "
     "shows its "
     "console."},
    {"plastron run --firmware bios.bin --disk disk.img,format=raw,if=virtio --debugcon bios.log,port=0x402",
     "Start a firmware ROM and keep what it writes to its debug port."},
    {"plastron run --kernel test.elf --debug-exit --no-reboot --clock icount --state-hash --trace "
     "exec,int,file=trace.txt",
     "A test kernel, the same to the last bit each time, with a line for each instruction."},
    {"plastron save web web.snapshot", "Keep the whole machine in a file."},
    {"plastron restore web.snapshot --name web2", "Go on from there."},
    {"plastron info web vcpu0.rip", "Look inside."},
};

static const char *const exit_status[][2] = {
    {"0", "The guest powered off, or was ended by request: stop, Ctrl-A X, a signal, --stop-after."},
    {"1", "An error of the user's or the host's, with one line that says what to do."},
    {"2", "The guest crashed (triple fault) under --no-reboot, with a report of the registers."},
    {"2 V + 1", "The guest wrote V to the --debug-exit port."},
};

/* `text` wrapped, each line after `indent` blanks; the first begins at column `column`. */
static void print_wrapped(FILE *out, const char *text, int indent, int column)
{
    while (*text) {
        size_t len = strcspn(text, " ");
        if (column > indent && column + 1 + (int)len > HELP_WIDTH) {
            fputc('\n', out);
            column = 0;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        for (; column < indent; column++)
            fputc(' ', out);
        fwrite(text, 1, len, out);
        column += (int)len;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* "--memory SIZE", "--debug-exit[=PORT]" */
static int option_head(char *head, size_t size, const struct plastron_option *option)
{
    if (!option->argument)
        return snprintf(head, size, "--%s", option->name);
    if (option->argument[0] == '[')
        return snprintf(head, size, "--%s[=%s", option->name, option->argument + 1);
    return snprintf(head, size, "--%s %s", option->name, option->argument);
}

static void print_option(FILE *out, const struct plastron_option *option)
{
    char head[160];
    int len = option_head(head, sizeof(head), option);

    fprintf(out, "  %s", head);
    int column = len + 2;
    if (column > 24) {
        fputc('\n', out);
        column = 0;
    }
    for (; column < 26; column++)
        fputc(' ', out);
    char text[600];
    snprintf(text, sizeof(text), "%s%s%s%s", option->help, option->initial ? " Default: " : "",
             option->initial ? option->initial : "", option->initial ? "." : "");
    print_wrapped(out, text, 26, 26);
}

static void print_synopsis(FILE *out, const struct command *command)
{
    fprintf(out, "plastron %s%s%s", command->name, *command->operands ? " " : "", command->operands);
    if (command->options & ~(unsigned)CLI_HELP)
        fprintf(out, " [OPTION...]");
}

void help_print(const struct command *commands, const struct command *command, FILE *out)
{
    const struct plastron_option *option;

    if (command) {
        fprintf(out, "Usage: ");
        print_synopsis(out, command);
        fprintf(out, "\n\n");
        print_wrapped(out, command->help, 0, 0);
        fprintf(out, "\nOptions:\n");
        for (unsigned n = 0; (option = command_option(command, n)); n++)
            print_option(out, option);
    } else {
        fprintf(out, "Usage: plastron COMMAND [OPTION...]\n\nRuns x86-64 virtual machines without hardware "
                     "virtualization and without root.\n\nCommands:\n");
        for (command = commands; command->name; command++) {
            fprintf(out, "  %-11s %-12s ", command->name, command->operands);
            print_wrapped(out, command->summary, 27, 27);
        }
        fprintf(out, "\n`plastron help COMMAND` explains one of them.\n");
        command = NULL;
    }
    if (!command || command->options & (CLI_MACHINE_OPTIONS | CLI_HOST_OPTIONS)) {
        fprintf(out, "\nExamples:\n");
        for (unsigned i = 0; i < ARRAY_SIZE(examples); i++) {
            fprintf(out, "  %s\n", examples[i].words); /* whole, to be copied */
            print_wrapped(out, examples[i].meaning, 6, 0);
        }
        fprintf(out, "\nExit status:\n");
        for (unsigned i = 0; i < ARRAY_SIZE(exit_status); i++) {
            fprintf(out, "  %-8s ", exit_status[i][0]);
            print_wrapped(out, exit_status[i][1], 11, 11);
        }
    }
}

/* Text in roff: backslashes, hyphens and leading dots lose their meaning; `like this` becomes bold. */
static void roff_text(FILE *out, const char *text)
{
    bool bold = false;

    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '`')
            fputs((bold = !bold) ? "\\fB" : "\\fR", out);
        else
            fputc(*text, out);
    }
    fputc('\n', out);
}

static void roff_option(FILE *out, const struct plastron_option *option)
{
    char head[160];

    option_head(head, sizeof(head), option);
    fprintf(out, ".TP\n.B ");
    roff_text(out, head);
    roff_text(out, option->help);
    if (option->initial) {
        fprintf(out, "Default: ");
        roff_text(out, option->initial);
    }
}

void help_print_manual(const struct command *commands, FILE *out)
{
    const struct plastron_option *option;
    const struct command *command;

    fprintf(out, ".TH PLASTRON 1 \"\" \"Plastron %s\" \"User Commands\"\n", plastron_version());
    fprintf(out, ".SH NAME\nplastron \\- run x86\\-64 virtual machines\n.SH SYNOPSIS\n");
    for (command = commands; command->name; command++) {
        fprintf(out, "%s.B ", command == commands ? "" : ".br\n");
        print_synopsis(out, command);
        fputc('\n', out);
    }
    fprintf(out, ".SH DESCRIPTION\n");
    roff_text(
        out,
        "Plastron runs unmodified x86 operating systems in a virtual machine, without hardware "
        "virtualization "
        "and without root. Each machine is one process; the other commands find it by its name through a "
        "control socket under $XDG_RUNTIME_DIR/plastron, or /tmp/plastron-UID where that is not set.");
    fprintf(out, ".SH COMMANDS\n");
    for (command = commands; command->name; command++) {
        fprintf(out, ".TP\n.B ");
        print_synopsis(out, command);
        fputc('\n', out);
        roff_text(out, command->help);
    }
    fprintf(out, ".SH OPTIONS OF MACHINES\nFor \\fBrun\\fR; those about the host's side (kernel, initrd, "
                 "firmware, disk, "
                 "serial, debugcon, engine, trace, name) also for \\fBrestore\\fR.\n");
    for (option = plastron_options(); option->name; option++)
        roff_option(out, option);
    fprintf(out, ".SH OTHER OPTIONS\n");
    static const struct command all = {.options = 0xffff & ~CLI_MAN};
    for (unsigned n = 0; (option = command_option(&all, n)); n++)
        roff_option(out, option);
    fprintf(out, ".SH EXIT STATUS\n");
    for (unsigned i = 0; i < ARRAY_SIZE(exit_status); i++) {
        fprintf(out, ".TP\n.B %s\n", exit_status[i][0]);
        roff_text(out, exit_status[i][1]);
    }
    fprintf(out, ".SH EXAMPLES\n");
    for (unsigned i = 0; i < ARRAY_SIZE(examples); i++) {
        fprintf(out, ".PP\n");
        roff_text(out, examples[i].meaning);
        fprintf(out, ".PP\n.RS 4\n");
        roff_text(out, examples[i].words);
        fprintf(out, ".RE\n");
    }
    fprintf(
        out,
        ".SH FILES\n.TP\n.I $XDG_RUNTIME_DIR/plastron/VM.sock\nThe control socket of a running machine; its "
        "protocol is described in docs/control\\-socket.md.\n");
}
