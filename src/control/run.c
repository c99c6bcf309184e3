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

/* What is said at the end, and the exit status. */
static int report(const struct arguments *arguments, struct run *run)
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
        json_dumpf(json, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(json);
    } else {
        if (run->reason == PLASTRON_STOP_ERROR)
            fprintf(stderr, "plastron: %s\n", plastron_stop_text(run->vm));
        if (run->reason == PLASTRON_STOP_CRASH)
            fprintf(stderr, "plastron: the guest crashed: triple fault\n%s", registers ? registers : "");
        if (*hash)
            fprintf(stderr, "state-hash: %s\n", hash);
    }
    free(registers);
    return status;
}

static int run_vm(const struct arguments *arguments, plastron_vm *vm, int signal_fd)
{
    struct run run = {.vm = vm, .signal_fd = signal_fd, .stop_after = arguments->stop_after};
    struct plastron_hooks hooks = {.size = sizeof(hooks), .condition = condition_changed};
    struct plastron_error perr;
    struct error err;
    pthread_t thread;
    int status = 1;

    run.target = (struct control_target){.vm = vm, .save = plastron_save, .quit = quit, .opaque = &run};
    run.loop = event_loop_new(&err);
    struct event_watch *signals =
        run.loop ? event_loop_watch(run.loop, signal_fd, EVENT_READ, signal_ready, &run, &err) : NULL;
    if (!signals) {
        command_failed(&err);
        goto out;
    }
    run.server = control_server_new(run.loop, plastron_vm_name(vm), &run.target, &err);
    if (!run.server) {
        command_failed(&err);
        goto out;
    }
    if (plastron_set_hooks(vm, &hooks, &run, &perr)) {
        fprintf(stderr, "plastron: %s\n", perr.text);
        goto out;
    }
    if (arguments->given & CLI_PAUSED)
        plastron_pause(vm);
    int failed = pthread_create(&thread, NULL, vcpu_thread, &run);
    if (failed) {
        error_set_errno(&err, failed, "cannot start the machine's thread");
        command_failed(&err);
        goto out;
    }
    event_loop_run(run.loop);
    pthread_join(thread, NULL);
    while (event_loop_run_once(run.loop, 0)) /* events that were posted before the end */
        ;
    json_t *data = shutdown_data(run.reason);
    control_server_event(run.server, "SHUTDOWN", data);
    json_decref(data);
    status = report(arguments, &run);
out:
    control_server_free(run.server);
    event_loop_free(run.loop);
    return status;
}

/* Signals that end programs are read by the loop. Blocked before any other thread is there to take them. */
static int block_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run_and_free(const struct arguments *arguments, plastron_vm *vm, int signal_fd,
                        const struct plastron_error *perr)
{
    int status = 1;

    if (vm)
        status = run_vm(arguments, vm, signal_fd);
    else
        fprintf(stderr, "plastron: %s\n", perr->text);
    plastron_vm_free(vm); /* gives the terminal back */
    close(signal_fd);
    return status;
}

int command_run(const struct arguments *arguments)
{
    struct plastron_error perr = {{0}};

    if (!plastron_config_get(arguments->config, "kernel", 0) &&
        !plastron_config_get(arguments->config, "firmware", 0)) {
        fprintf(stderr, "plastron: nothing to start: give --kernel FILE or --firmware FILE\n");
        return 1;
    }
    int signal_fd = block_signals();
    return run_and_free(arguments, plastron_vm_new(arguments->config, &perr), signal_fd, &perr);
}

int command_restore(const struct arguments *arguments)
{
    struct plastron_error perr = {{0}};
    int signal_fd = block_signals();

    return run_and_free(arguments, plastron_restore(arguments->operand[0], arguments->config, &perr),
                        signal_fd, &perr);
}
