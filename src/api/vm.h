/* What stands behind plastron_vm. */
#ifndef API_VM_H
#define API_VM_H

#include <pthread.h>
#include <stdio.h>

#include "api/config.h"
#include "base/event_loop.h"
#include "board/pc.h"
#include "machine/vm.h"
#include "plastron/plastron.h"

struct trace_sink;
struct trace_translation;

enum { API_DEVICES_MAX = 64 };

/* A device of the caller's (plastron_add_ports, plastron_add_mmio). */
struct api_device {
    struct plastron_io io;
    void *opaque;
    struct io_ops ops;
    struct mem_region region; /* of memory-mapped ones */
};

struct plastron_vm {
    struct plastron_config *config; /* owned */
    char name[64];
    struct vm *machine;
    struct event_loop *loop; /* of the I/O thread */
    pthread_t io_thread;
    bool io_thread_runs;
    /* The thread inside plastron_run: calls from hooks are on it. */
    pthread_t runner;
    bool running; /* atomic; `runner` is valid */
    int runner_tid;
    /* Observers: the caller's hooks and --trace share the machine's one set of callbacks (hooks.c). */
    struct plastron_hooks hooks;
    void *hooks_opaque;
    struct trace_sink *trace; /* owned; NULL without --trace */
    /* Where the instruction hook stopped each vCPU: it is not asked again before that instruction. */
    struct {
        bool set;
        u64 rip, icount;
    } hook_stop[VM_MAX_VCPUS];
    struct api_device *devices[API_DEVICES_MAX]; /* owned */
    unsigned ndevices;
    struct chardev *serial[PC_SERIAL_PORTS]; /* owned; NULL: none */
    struct chardev *debugcons[PC_DEBUGCONS];
    struct block_backend *disks[PC_DISKS];
    char *folder; /* owned; the working directory when the VM was made: file names are relative to it */
    /* Owned names of files that were not there before the VM was made, so that a failure leaves nothing behind. */
    char *made_files[PC_SERIAL_PORTS + PC_DEBUGCONS];
    unsigned nmade_files;
};

/* Whether the caller is inside plastron_run of this VM, that is, in a hook. */
bool vm_on_runner(struct plastron_vm *vm);

/* vm.c: make everything of `config`, which is taken over (freed on failure too). */
struct plastron_vm *vm_create(struct plastron_config *config, bool for_restore, struct error *err);

/* Free a VM that was never run and remove the files that it made. */
void vm_discard(struct plastron_vm *vm);

/* hooks.c: put the observers that are needed now in place. VM parked or not running. */
void hooks_install(struct plastron_vm *vm);
/* Tell the caller's `condition` hook. */
void hooks_condition(struct plastron_vm *vm, const char *what);

/* trace.c: the writer of --trace's lines. */
struct trace_sink *trace_sink_new(const struct trace_config *config, struct error *err);
void trace_sink_free(struct trace_sink *sink);
unsigned trace_sink_kinds(const struct trace_sink *sink); /* TRACE_* */
void trace_sink_insn(struct trace_sink *sink, struct vcpu *vcpu);
void trace_sink_event(struct trace_sink *sink, struct vcpu *vcpu, enum trace_event kind, u8 vector,
                      bool has_error, u32 error, u64 address);
void trace_sink_access(struct trace_sink *sink, struct vcpu *vcpu, bool mmio, bool write, u64 address,
                       unsigned size, u64 value);
void trace_sink_translation(struct trace_sink *sink, struct vcpu *vcpu,
                            const struct trace_translation *translation);

/* keys.c: the bytes that a PS/2 keyboard sends (scan code set 2) when the keys in `keys` ("ctrl-alt-delete") are pressed
   and released. Returns the number of bytes, -1 with `err`. */
MUST_CHECK int keys_to_scancodes(const char *keys, u8 *codes, size_t max, struct error *err);

/* Copy an error to the caller's; returns -1. */
int api_error(struct plastron_error *to, const struct error *from);

#endif
