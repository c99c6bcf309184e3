#include "control/client.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/console.h"
#include "control/runtime_dir.h"

enum { REPLY_MAX = 64 << 20 };

struct client_connection {
    FILE *stream; /* for reading; requests are sent on its descriptor */
    char *line;
    size_t capacity;
};

int command_failed(const struct error *err)
{
    fprintf(stderr, "plastron: %s\n", err->text);
    return 1;
}

/* The next message of the server, one line each. */
static json_t *receive(struct client_connection *connection, struct error *err)
{
    errno = 0;
    ssize_t len = getline(&connection->line, &connection->capacity, connection->stream);
    json_t *message = len > 0 && len < REPLY_MAX ? json_loadb(connection->line, (size_t)len, 0, NULL) : NULL;

    if (!message)
        error_set(err,
                  errno == EAGAIN ? "the machine does not answer" : "the machine ended before it answered");
    return message;
}

static bool send_all(int fd, const char *text)
{
    for (size_t len = strlen(text); len;) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return true;
}

json_t *client_execute(struct client_connection *connection, const char *command, json_t *arguments,
                       struct error *err)
{
    json_t *message = json_pack("{s:s}", "execute", command);

    if (arguments)
        json_object_set_new(message, "arguments", arguments);
    char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    if (!text || !send_all(fileno(connection->stream), text)) {
        free(text);
        error_set_errno(err, errno, "cannot talk to the machine");
        return NULL;
    }
    free(text);
    while ((message = receive(connection, err))) {
        json_t *result = json_object_get(message, "return"), *error = json_object_get(message, "error");
        if (result || error) {
            if (error)
                error_set(err, "%s", json_string_value(json_object_get(error, "desc")));
            json_incref(result);
            json_decref(message);
            return result;
        }
        json_decref(message); /* an event */
    }
    return NULL;
}

struct client_connection *client_open(const char *name, struct error *err)
{
    struct client_connection *connection = calloc(1, sizeof(*connection));
    int fd = connection ? runtime_dir_connect(name, err) : error_set(err, "out of memory");

    if (fd < 0) {
        free(connection);
        return NULL;
    }
    connection->stream = fdopen(fd, "r");
    json_t *greeting = receive(connection, err);
    json_t *result = greeting ? client_execute(connection, "qmp_capabilities", NULL, err) : NULL;
    json_decref(greeting);
    json_decref(result);
    if (result)
        return connection;
    client_close(connection);
    return NULL;
}

void client_close(struct client_connection *connection)
{
    if (!connection)
        return;
    fclose(connection->stream);
    free(connection->line);
    free(connection);
}

/* Connect, execute one command, close. */
static json_t *ask(const char *name, const char *command, json_t *arguments, struct error *err)
{
    struct client_connection *connection = client_open(name, err);

    if (!connection) {
        json_decref(arguments);
        return NULL;
    }
    json_t *result = client_execute(connection, command, arguments, err);
    client_close(connection);
    return result;
}

static int simple(const struct arguments *arguments, const char *command, json_t *command_arguments)
{
    struct error err = {{0}};
    json_t *result = ask(arguments->operand[0], command, command_arguments, &err);

    json_decref(result);
    return result ? 0 : command_failed(&err);
}

int command_stop(const struct arguments *arguments)
{
    struct error err = {{0}};
    struct client_connection *connection = client_open(arguments->operand[0], &err);
    json_t *result = connection ? client_execute(connection, "quit", NULL, &err) : NULL, *message;

    json_decref(result);
    /* Wait for the end of the connection, so that the name is free when this command comes back. */
    while (result && (message = receive(connection, NULL)))
        json_decref(message);
    client_close(connection);
    return result ? 0 : command_failed(&err);
}

int command_pause(const struct arguments *arguments)
{
    return simple(arguments, "stop", NULL);
}
int command_resume(const struct arguments *arguments)
{
    return simple(arguments, "cont", NULL);
}
int command_reset(const struct arguments *arguments)
{
    return simple(arguments, "system_reset", NULL);
}
int command_engine(const struct arguments *arguments)
{
    return simple(arguments, "set-engine", json_pack("{s:s}", "engine", arguments->operand[1]));
}
int command_powerdown(const struct arguments *arguments)
{
    return simple(arguments, "system_powerdown", NULL);
}

int command_key(const struct arguments *arguments)
{
    json_t *keys = json_array();
    char *names = strdup(arguments->operand[1]), *rest = names;

    while (rest)
        json_array_append_new(keys, json_pack("{s:s, s:s}", "type", "qcode", "data", strsep(&rest, "-")));
    free(names);
    return simple(arguments, "send-key", json_pack("{s:o}", "keys", keys));
}

int command_save(const struct arguments *arguments)
{
    char cwd[PATH_MAX], path[2 * PATH_MAX];
    const char *file = arguments->operand[1];
    struct error err;

    /* The machine may have another working directory. */
    if (!getcwd(cwd, sizeof(cwd))) {
        error_set_errno(&err, errno, "the current folder");
        return command_failed(&err);
    }
    snprintf(path, sizeof(path), "%s%s%s", file[0] == '/' ? "" : cwd, file[0] == '/' ? "" : "/", file);
    return simple(arguments, "save", json_pack("{s:s}", "file", path));
}

static void print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

/* A size as people write it. */
static void print_size(json_int_t bytes)
{
    char text[32];

    if (bytes % (1 << 30) == 0)
        snprintf(text, sizeof(text), "%lldG", (long long)(bytes >> 30));
    else
        snprintf(text, sizeof(text), "%lldM", (long long)(bytes >> 20));
    printf("%-8s", text);
}

int command_ls(const struct arguments *arguments)
{
    struct error err = {{0}};
    char **names;
    int count = runtime_dir_list(&names, &err);
    json_t *list = json_array();

    if (count < 0) {
        json_decref(list);
        return command_failed(&err);
    }
    for (int i = 0; i < count; i++) {
        json_t *facts = ask(names[i], "describe", NULL, &err); /* NULL: it ended just now */
        if (facts)
            json_array_append_new(list, facts);
        free(names[i]);
    }
    free(names);
    if (arguments->given & CLI_JSON) {
        print_json(list);
    } else if (!json_array_size(list)) {
        printf("No machine runs.\n");
    } else {
        json_t *facts;
        size_t n;
        printf("%-20s %-8s %-5s %-8s %s\n", "NAME", "STATUS", "CPUS", "MEMORY", "PID");
        json_array_foreach (list, n, facts) {
            printf("%-20s %-8s %-5lld ", json_string_value(json_object_get(facts, "name")),
                   json_string_value(json_object_get(facts, "status")),
                   (long long)json_integer_value(json_object_get(facts, "cpus")));
            print_size(json_integer_value(json_object_get(facts, "memory")));
            printf(" %lld\n", (long long)json_integer_value(json_object_get(facts, "pid")));
        }
    }
    json_decref(list);
    return 0;
}

/* "path = value" lines for every leaf. */
static void print_facts(const char *path, json_t *value)
{
    char inner[512];
    const char *key;
    json_t *element;
    size_t n;

    if (json_is_object(value)) {
        json_object_foreach (value, key, element) {
            snprintf(inner, sizeof(inner), "%s%s%s", path, *path ? "." : "", key);
            print_facts(inner, element);
        }
    } else if (json_is_array(value)) {
        json_array_foreach (value, n, element) {
            snprintf(inner, sizeof(inner), "%s[%zu]", path, n);
            print_facts(inner, element);
        }
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        if (json_is_string(value))
            printf("%s = %s\n", path, json_string_value(value));
        else
            printf("%s = %s\n", path, text ? text : "");
        free(text);
    }
}

int command_info(const struct arguments *arguments)
{
    const char *path = arguments->operands > 1 ? arguments->operand[1] : NULL;
    struct error err = {{0}};
    struct client_connection *connection = client_open(arguments->operand[0], &err);
    json_t *result = NULL;

    if (connection && !path)
        result = client_execute(connection, "describe", NULL, &err);
    if (connection && (path || result)) {
        json_t *state =
            client_execute(connection, "info", path ? json_pack("{s:s}", "path", path) : NULL, &err);
        if (path)
            result = state;
        else if (state)
            json_object_set_new(result, "state", state);
    }
    client_close(connection);
    if (!result)
        return command_failed(&err);
    if (arguments->given & CLI_JSON)
        print_json(result);
    else
        print_facts(path ? path : "", result);
    json_decref(result);
    return 0;
}

int command_console(const struct arguments *arguments)
{
    struct error err = {{0}};
    json_t *lines = ask(arguments->operand[0], "query-chardev", NULL, &err), *line;
    const char *path = NULL;
    size_t n;

    if (!lines)
        return command_failed(&err);
    json_array_foreach (lines, n, line) {
        const char *backend = json_string_value(json_object_get(line, "filename"));
        if (!path && backend && !strncmp(backend, "unix:", 5))
            path = backend + 5;
    }
    if (path ? console_attach(path, &err)
             : error_set(&err, "%s has no serial line on a socket: start it with --serial unix:FILE",
                         arguments->operand[0])) {
        json_decref(lines);
        return command_failed(&err);
    }
    json_decref(lines);
    return 0;
}
