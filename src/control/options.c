#include "control/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* In the order of the CLI_* bits. */
static const struct plastron_option cli_options[] = {
    {.name = "help", .help = "Show this help."},
    {.name = "version", .help = "Show the version and what the program was built with."},
    {.name = "json",
     .help = "Print facts as JSON: for run and restore one object about the end, on standard error."},
    {.name = "state-hash",
     .help = "At the end, print a hash of the whole machine: memory, processors and devices."},
    {.name = "stop-after",
     .argument = "N",
     .help = "End the machine when its processors have executed N instructions."},
    {.name = "paused", .help = "Stand still until `plastron resume`."},
    {.name = "man", .help = "Print the manual page in man(7) markup."},
    {.name = NULL},
};

static bool takes_machine_option(const struct command *command, const struct plastron_option *option)
{
    return (command->options & CLI_MACHINE_OPTIONS) ||
           ((command->options & CLI_HOST_OPTIONS) && option->host);
}

const struct plastron_option *command_option(const struct command *command, unsigned n)
{
    for (const struct plastron_option *option = plastron_options(); option->name; option++)
        if (takes_machine_option(command, option) && !n--)
            return option;
    for (unsigned i = 0; cli_options[i].name; i++)
        if ((command->options | CLI_HELP) & 1u << i && !n--)
            return &cli_options[i];
    return NULL;
}

const struct command *command_find(const struct command *commands, const char *name, struct error *err)
{
    struct text_nearest nearest = {0};

    for (const struct command *command = commands; command->name; command++) {
        if (!strcmp(command->name, name))
            return command;
        text_nearest_offer(&nearest, name, command->name);
    }
    if (nearest.best)
        error_set(err, "there is no command '%s'; is '%s' meant?", name, nearest.best);
    else
        error_set(err, "there is no command '%s': `plastron help` lists them", name);
    return NULL;
}

static const struct plastron_option *option_find(const struct command *command, const char *name, size_t len,
                                                 struct error *err)
{
    struct text_nearest nearest = {0};
    const struct plastron_option *option;
    char typed[64];

    snprintf(typed, sizeof(typed), "%.*s", (int)(len < 60 ? len : 60), name);
    for (unsigned n = 0; (option = command_option(command, n)); n++) {
        if (!strcmp(option->name, typed))
            return option;
        text_nearest_offer(&nearest, typed, option->name);
    }
    if (nearest.best)
        error_set(err, "%s has no option --%s; is --%s meant?", command->name, typed, nearest.best);
    else
        error_set(err, "%s has no option --%s: `plastron help %s` lists them", command->name, typed,
                  command->name);
    return NULL;
}

/* Note an option that has been found; `value` is NULL for a switch without one. */
static int option_note(struct arguments *arguments, const struct plastron_option *option, const char *value,
                       struct error *err)
{
    if (option >= cli_options && option < cli_options + ARRAY_SIZE(cli_options)) {
        unsigned bit = 1u << (option - cli_options);
        if (value && !option->argument)
            return error_set(err, "--%s takes no value", option->name);
        arguments->given |= bit;
        if (bit == CLI_STOP_AFTER && text_number(value, 0, PLASTRON_NO_LIMIT, &arguments->stop_after, err))
            return error_prefix(err, "--%s", option->name);
        return 0;
    }
    struct plastron_error e;
    if (!arguments->config)
        return error_set(err, "out of memory");
    if (plastron_config_set(arguments->config, option->name, value ? value : "on", &e))
        return error_set(err, "--%s", e.text); /* the text begins with the option's name */
    return 0;
}

int arguments_parse(struct arguments *arguments, const struct command *commands, int argc, char **argv,
                    struct error *err)
{
    bool options_end = false;

    *arguments = (struct arguments){.stop_after = PLASTRON_NO_LIMIT};
    if (argc < 2)
        return error_set(err, "give a command: `plastron help` lists them");
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        arguments->given = CLI_HELP;
    else if (!strcmp(argv[1], "--version"))
        arguments->given = CLI_VERSION;
    else if (argv[1][0] == '-')
        return error_set(err, "a command comes first, as in `plastron run %s ...`", argv[1]);
    else if (!(arguments->command = command_find(commands, argv[1], err)))
        return -1;
    if (!arguments->command) {
        if (argc > 2 && arguments->given == CLI_VERSION && !strcmp(argv[2], "--json"))
            arguments->given |= CLI_JSON;
        else if (argc > 2)
            return error_set(err, "nothing can follow %s", argv[1]);
        return 0;
    }
    arguments->config = plastron_config_new();
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (!options_end && !strcmp(word, "--")) {
            options_end = true;
        } else if (!options_end && word[0] == '-' && word[1]) {
            if (!strcmp(word, "-h"))
                word = "--help";
            if (word[1] != '-')
                return error_set(err, "there is no option %s: options are written as --name", word);
            size_t len = strcspn(word + 2, "=");
            const char *value = word[2 + len] ? word + 2 + len + 1 : NULL;
            const struct plastron_option *option = option_find(arguments->command, word + 2, len, err);
            if (!option)
                return -1;
            /* An argument in brackets may be left out and is given with '=' alone. */
            if (option->argument && option->argument[0] != '[' && !value) {
                if (i + 1 == argc)
                    return error_set(err, "--%s needs a value: --%s %s", option->name, option->name,
                                     option->argument);
                value = argv[++i];
            }
            if (option_note(arguments, option, value, err))
                return -1;
            if (arguments->given & CLI_HELP)
                return 0;
        } else if (arguments->operands == arguments->command->max_operands) {
            return error_set(err, "'%s' is one word too many: plastron %s%s%s", word,
                             arguments->command->name, *arguments->command->operands ? " " : "",
                             arguments->command->operands);
        } else {
            arguments->operand[arguments->operands++] = word;
        }
    }
    if (arguments->operands < arguments->command->min_operands)
        return error_set(err, "too few words: plastron %s %s", arguments->command->name,
                         arguments->command->operands);
    return 0;
}

void arguments_free(struct arguments *arguments)
{
    plastron_config_free(arguments->config);
    arguments->config = NULL;
}
