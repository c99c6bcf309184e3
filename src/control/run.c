/*
 * Threads: this one (main) runs an event loop for the control socket and signals; a second is inside plastron_run; the
 * library's own carries the serial lines and disks. Whatever ends the machine makes plastron_run come back, which ends
 * the loop.
 */
#include "control/run.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/event_loop.h"
#include "control/client.h"
#include "control/server.h"

struct run {
    plastron_vm *vm;
    struct event_loop *loop;
    struct control_server *server; /* NULL: there is none */
    struct control_target target;
    int signal_fd;
    u64 stop_after;
    enum plastron_stop_reason reason;
};

struct condition_event {
    struct run *run;
    char name[32];
};

static void condition_deliver(void *opaque)
{
    struct condition_event *event = opaque;

    if (event->run->server)
        control_server_event(event->run->server, event->name, NULL);
    free(event);
}

/* On any thread: hand it to the loop. */
static void condition_changed(plastron_vm *vm, const char *what, void *opaque)
{
    /* The end is told with its reason, by run_vm. */
    struct condition_event *event = strcmp(what, "SHUTDOWN") ? malloc(sizeof(*event)) : NULL;

    if (!event)
        return;
    event->run = opaque;
    snprintf(event->name, sizeof(event->name), "%s", what);
    if (event_loop_post(event->run->loop, condition_deliver, event, NULL))
        free(event);
}

static void quit(void *opaque)
{
    plastron_stop(((struct run *)opaque)->vm);
}

static void signal_ready(void *opaque, unsigned events)
{
    struct run *run = opaque;
    struct signalfd_siginfo info;

    if (read(run->signal_fd, &info, sizeof(info)) == sizeof(info))
        plastron_stop(run->vm);
}

static void *vcpu_thread(void *opaque)
{
    struct run *run = opaque;

    run->reason = plastron_run(run->vm, run->stop_after);
    event_loop_stop(run->loop);
    return NULL;
}

/* The words of QEMU's SHUTDOWN event. */
static json_t *shutdown_data(enum plastron_stop_reason reason)
{
    bool guest =
        reason != PLASTRON_STOP_REQUEST && reason != PLASTRON_STOP_LIMIT && reason != PLASTRON_STOP_ERROR;
    const char *word = reason == PLASTRON_STOP_RESET     ? "guest-reset"
                       : reason == PLASTRON_STOP_CRASH   ? "guest-panic"
                       : reason == PLASTRON_STOP_REQUEST ? "host-qmp-quit"
                       : guest                           ? "guest-shutdown"
                                                         : "host-error";

    return json_pack("{s:b, s:s}", "guest", guest, "reason", word);
}

/* The report of the vCPU that had the triple fault. Free it. */
static char *crash_report(plastron_vm *vm)
{
    enum { SHUT_DOWN = 3 };
    struct plastron_registers regs = {.size = sizeof(regs)};
    unsigned vcpu = 0;

    while (!plastron_get_registers(vm, vcpu, &regs, NULL) && regs.activity != SHUT_DOWN)
        vcpu++;
    return plastron_register_report(vm, regs.activity == SHUT_DOWN ? vcpu : 0);
}

/* Write to `out` what is said at the end. Returns the exit status. */
static int report(const struct arguments *arguments, struct run *run, FILE *out)
{
    char *registers = run->reason == PLASTRON_STOP_CRASH ? crash_report(run->vm) : NULL;
    int status = run->reason == PLASTRON_STOP_CRASH        ? 2
                 : run->reason == PLASTRON_STOP_ERROR      ? 1
                 : run->reason == PLASTRON_STOP_DEBUG_EXIT ? plastron_exit_code(run->vm) & 0xff
                                                           : 0;
    char hash[33] = "";

    if (arguments->given & CLI_STATE_HASH)
        plastron_state_hash(run->vm, hash);
    if (arguments->given & CLI_JSON) {
        struct plastron_error perr;
        char *text = plastron_describe(run->vm, &perr);
        json_t *json = text ? json_loads(text, 0, NULL) : json_object();
        free(text);
        json_object_set_new(json, "end", json_string(plastron_stop_name(run->reason)));
        json_object_set_new(json, "exit-status", json_integer(status));
        if (*hash)
            json_object_set_new(json, "state-hash", json_string(hash));
        if (registers)
            json_object_set_new(json, "registers", json_string(registers));
        if (run->reason == PLASTRON_STOP_ERROR)
            json_object_set_new(json, "error", json_string(plastron_stop_text(run->vm)));
        json_dumpf(json, out, JSON_COMPACT);
        fputc('\n', out);
        json_decref(json);
    } else {
        if (run->reason == PLASTRON_STOP_ERROR)
            fprintf(out, "plastron: %s\n", plastron_stop_text(run->vm));
        if (run->reason == PLASTRON_STOP_CRASH)
            fprintf(out, "plastron: the guest crashed: triple fault\n%s", registers ? registers : "");
        if (*hash)
            fprintf(out, "state-hash: %s\n", hash);
    }
    free(registers);
    return status;
}

/* What is needed before there is a machine: so that a name that is taken ends the program before it has made any file. */
static int begin(struct run *run, const struct arguments *arguments, const char *name)
{
    struct error err;
    sigset_t signals;

    *run = (struct run){.stop_after = arguments->stop_after};
    run->target = (struct control_target){.save = plastron_save, .quit = quit, .opaque = run};
    /* Signals that end programs are read by the loop. Blocked before any other thread is there to take them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    run->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    run->loop = event_loop_new(&err);
    if (run->loop && event_loop_watch(run->loop, run->signal_fd, EVENT_READ, signal_ready, run, &err))
        run->server = control_server_new(run->loop, name, &run->target, &err);
    return run->server ? 0 : command_failed(&err);
}

static int run_vm(struct run *run, const struct arguments *arguments)
{
    struct plastron_hooks hooks = {.size = sizeof(hooks), .condition = condition_changed};
    struct plastron_error perr;
    struct error err;
    pthread_t thread;

    if (plastron_set_hooks(run->vm, &hooks, run, &perr)) {
        fprintf(stderr, "plastron: %s\n", perr.text);
        return 1;
    }
    if (arguments->given & CLI_PAUSED)
        plastron_pause(run->vm);
    int failed = pthread_create(&thread, NULL, vcpu_thread, run);
    if (failed) {
        error_set_errno(&err, failed, "cannot start the machine's thread");
        return command_failed(&err);
    }
    event_loop_run(run->loop);
    pthread_join(thread, NULL);
    while (event_loop_run_once(run->loop, 0)) /* events that were posted before the end */
        ;
    json_t *data = shutdown_data(run->reason);
    control_server_event(run->server, "SHUTDOWN", data);
    json_decref(data);
    /* Said when the terminal is no longer raw. */
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int status = report(arguments, run, out ? out : stderr);
    if (out)
        fclose(out);
    plastron_vm_free(run->vm);
    run->vm = NULL;
    fputs(text ? text : "", stderr);
    free(text);
    return status;
}

/* Run the machine that `begin` and the library prepared, if there is one, and clean up. Returns the exit status. */
static int finish(struct run *run, const struct arguments *arguments, const struct plastron_error *perr)
{
    int status = 1;

    run->target.vm = run->vm;
    if (run->vm)
        status = run_vm(run, arguments);
    else if (perr)
        fprintf(stderr, "plastron: %s\n", perr->text);
    plastron_vm_free(run->vm);
    control_server_free(run->server);
    event_loop_free(run->loop);
    close(run->signal_fd);
    return status;
}

/* The name is decided here: the socket of that name comes before the machine. */
static const char *name_machine(const char *name, char buffer[32])
{
    if (!name)
        snprintf(buffer, 32, "vm-%d", (int)getpid());
    return name ? name : buffer;
}

int command_run(const struct arguments *arguments)
{
    struct plastron_error perr = {{0}};
    struct run run;
    char buffer[32];

    if (!plastron_config_get(arguments->config, "kernel", 0) &&
        !plastron_config_get(arguments->config, "firmware", 0)) {
        fprintf(stderr, "plastron: nothing to start: give --kernel FILE or --firmware FILE\n");
        return 1;
    }
    if (begin(&run, arguments, name_machine(plastron_config_get(arguments->config, "name", 0), buffer)))
        return finish(&run, arguments, NULL);
    run.vm = plastron_vm_new(arguments->config, &perr);
    return finish(&run, arguments, &perr);
}

int command_restore(const struct arguments *arguments)
{
    struct plastron_error perr = {{0}};
    plastron_saved *saved = plastron_saved_open(arguments->operand[0], &perr);
    const char *name = plastron_config_get(arguments->config, "name", 0);
    struct run run;
    char buffer[32];

    if (!saved) {
        fprintf(stderr, "plastron: %s\n", perr.text);
        return 1;
    }
    if (!name)
        name = plastron_config_get(plastron_saved_config(saved), "name", 0);
    int failed = begin(&run, arguments, name_machine(name, buffer));
    if (!failed)
        run.vm = plastron_saved_restore(saved, arguments->config, &perr);
    plastron_saved_close(saved);
    return finish(&run, arguments, failed ? NULL : &perr);
}
