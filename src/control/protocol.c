#include "control/protocol.h"

#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "base/text.h"

static void send_json(struct protocol_session *session, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);

    if (text) {
        session->send(session->send_opaque, text, strlen(text));
        session->send(session->send_opaque, "\r\n", 2);
    }
    free(text);
    json_decref(message);
}

static void send_error(struct protocol_session *session, const char *class, const char *text, json_t *id)
{
    json_t *message = json_pack("{s:{s:s, s:s}}", "error", "class", class, "desc", text);

    if (message && id)
        json_object_set(message, "id", id);
    send_json(session, message);
}

int protocol_open(struct protocol_session *session, const struct control_target *target,
                  void (*send)(void *opaque, const char *bytes, size_t len), void *send_opaque,
                  struct error *err)
{
    int major = 0, minor = 0, micro = 0;

    *session = (struct protocol_session){.target = target, .send = send, .send_opaque = send_opaque};
    session->input = malloc(PROTOCOL_MESSAGE_MAX);
    if (!session->input)
        return error_set(err, "out of memory");
    sscanf(plastron_version(), "%d.%d.%d", &major, &minor, &micro);
    send_json(session,
              json_pack("{s:{s:{s:{s:i, s:i, s:i}, s:s}, s:[]}}", "QMP", "version", "qemu", "major", major,
                        "minor", minor, "micro", micro, "package", "plastron", "capabilities"));
    return 0;
}

void protocol_close(struct protocol_session *session)
{
    free(session->input);
    session->input = NULL;
}

void protocol_event(struct protocol_session *session, const char *name, json_t *data)
{
    struct timeval now;

    if (!session->negotiated)
        return;
    gettimeofday(&now, NULL);
    json_t *message = json_pack("{s:s, s:{s:I, s:I}}", "event", name, "timestamp", "seconds",
                                (json_int_t)now.tv_sec, "microseconds", (json_int_t)now.tv_usec);
    if (message && data)
        json_object_set(message, "data", data);
    send_json(session, message);
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_TRUE: return "true or false";
    case JSON_ARRAY: return "an array";
    default: return "an object";
    }
}

static int check_arguments(const struct protocol_command *command, json_t *arguments, struct error *err)
{
    const char *key;
    json_t *value;

    for (unsigned i = 0; i < PROTOCOL_ARGUMENTS && command->arguments[i].name; i++) {
        const struct protocol_argument *wanted = &command->arguments[i];
        value = json_object_get(arguments, wanted->name);
        if (!value && !wanted->optional)
            return error_set(err, "Parameter '%s' is missing", wanted->name);
        bool fits = value && (json_typeof(value) == wanted->type ||
                              (wanted->type == JSON_TRUE && json_is_boolean(value)));
        if (value && !fits)
            return error_set(err, "Invalid parameter type for '%s', expected: %s", wanted->name,
                             type_name(wanted->type));
    }
    json_object_foreach (arguments, key, value) {
        bool known = false;
        for (unsigned i = 0; i < PROTOCOL_ARGUMENTS && command->arguments[i].name; i++)
            known |= !strcmp(command->arguments[i].name, key);
        if (!known)
            return error_set(err, "Parameter '%.64s' is unexpected", key);
    }
    return 0;
}

static void execute(struct protocol_session *session, json_t *message)
{
    const struct protocol_command *command = protocol_commands;
    json_t *id = json_object_get(message, "id"), *arguments = json_object_get(message, "arguments");
    const char *name = json_string_value(json_object_get(message, "execute")), *key;
    struct error err = {{0}};
    json_t *value;

    json_object_foreach (message, key, value) {
        if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id")) {
            error_set(&err, "QMP input member '%.64s' is unexpected", key);
            send_error(session, "GenericError", err.text, id);
            return;
        }
    }
    if (!name) {
        send_error(session, "GenericError", "QMP input lacks member 'execute', a string", id);
        return;
    }
    if (arguments && !json_is_object(arguments)) {
        send_error(session, "GenericError", "QMP input member 'arguments' must be an object", id);
        return;
    }
    bool negotiation = !strcmp(name, "qmp_capabilities");
    if (negotiation == session->negotiated) {
        send_error(session, "CommandNotFound",
                   negotiation ? "Capabilities negotiation is already complete, command ignored"
                               : "Expecting capabilities negotiation with 'qmp_capabilities'",
                   id);
        return;
    }
    while (command->name && strcmp(command->name, name))
        command++;
    if (!command->name) {
        error_set(&err, "The command %.64s has not been found", name);
        send_error(session, "CommandNotFound", err.text, id);
        return;
    }
    json_t *empty = json_object();
    json_t *result = NULL;
    if (!check_arguments(command, arguments ? arguments : empty, &err))
        result = command->run(session->target, arguments ? arguments : empty, &err);
    json_decref(empty);
    if (!result) {
        send_error(session, "GenericError", err.text, id);
        return;
    }
    session->negotiated = true;
    json_t *reply = json_object();
    json_object_set_new(reply, "return", result);
    if (id)
        json_object_set(reply, "id", id);
    send_json(session, reply);
}

/* One whole message is in the buffer. */
static void message_end(struct protocol_session *session)
{
    struct error err;
    json_error_t fault;
    json_t *message = json_loadb(session->input, session->input_len, 0, &fault);

    session->input_len = 0;
    session->depth = 0;
    session->in_string = session->escaped = session->garbage = false;
    if (!message) {
        error_set(&err, "JSON parse error: %s", fault.text);
        send_error(session, "GenericError", err.text, NULL);
    } else if (!json_is_object(message)) {
        send_error(session, "GenericError", "QMP input must be a JSON object", NULL);
    } else {
        execute(session, message);
    }
    json_decref(message);
}

int protocol_input(struct protocol_session *session, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (!session->input_len && blank)
            continue;
        if (session->input_len == PROTOCOL_MESSAGE_MAX) {
            send_error(session, "GenericError", "QMP input is longer than 64 KiB", NULL);
            return -1;
        }
        /* A message ends with the bracket that closes its first one; what does not begin with one ends with its line. */
        if (!session->input_len)
            session->garbage = c != '{' && c != '[';
        session->input[session->input_len++] = c;
        if (session->garbage) {
            if (c == '\n')
                message_end(session);
        } else if (session->in_string) {
            if (session->escaped)
                session->escaped = false;
            else if (c == '\\')
                session->escaped = true;
            else if (c == '"')
                session->in_string = false;
            /* A line never ends inside a string: whoever forgot the quote gets an answer instead of silence. */
            if (c == '\n')
                message_end(session);
        } else if (c == '"') {
            session->in_string = true;
        } else if (c == '{' || c == '[') {
            session->depth++;
        } else if ((c == '}' || c == ']') && !--session->depth) {
            message_end(session);
        }
    }
    return 0;
}
