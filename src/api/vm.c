/* Making, running and ending a VM, and access to its memory and registers. */
#include "api/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/block.h"
#include "host/char.h"

int api_error(struct plastron_error *to, const struct error *from)
{
    if (to)
        snprintf(to->text, sizeof(to->text), "%s", from->text);
    return -1;
}

bool vm_on_runner(struct plastron_vm *vm)
{
    return __atomic_load_n(&vm->running, __ATOMIC_ACQUIRE) && pthread_equal(vm->runner, pthread_self());
}

/* ---- Making and ending ------------------------------------------------------------------------------------------ */

/* Ctrl-A X, on the I/O thread. */
static void console_quit(void *opaque)
{
    plastron_stop(opaque);
}

static void *io_thread(void *opaque)
{
    event_loop_run(opaque);
    return NULL;
}

/* Open a character backend, and note the file that it makes. */
static struct chardev *open_chardev(struct plastron_vm *vm, const char *spec, struct error *err)
{
    const char *file = !strncmp(spec, "file:", 5) ? spec + 5 : NULL;
    struct stat st;
    bool is_new = file && stat(file, &st) && errno == ENOENT;
    struct chardev *chardev = chardev_open(spec, vm->loop, err);

    if (chardev && is_new)
        vm->made_files[vm->nmade_files++] = strdup(file);
    return chardev;
}

static int open_serial(struct plastron_vm *vm, struct pc_config *pc, struct error *err)
{
    bool stdio_taken = false;

    for (unsigned n = 0; n < PC_SERIAL_PORTS; n++) {
        const char *spec = config_serial(vm->config, n);
        if (!strcmp(spec, "none"))
            continue;
        if (!strcmp(spec, "stdio") && stdio_taken)
            return error_set(
                err,
                "serial: only one line can be on this terminal; give unix:FILE or file:FILE for the other");
        stdio_taken |= !strcmp(spec, "stdio");
        vm->serial[n] = open_chardev(vm, spec, err);
        if (!vm->serial[n])
            return error_prefix(err, "serial %s", spec);
        chardev_on_quit(vm->serial[n], console_quit, vm);
        pc->serial[n] = vm->serial[n];
    }
    return 0;
}

static int open_debugcons(struct plastron_vm *vm, struct pc_config *pc, struct error *err)
{
    pc->ndebugcons = vm->config->values[OPTION_DEBUGCON].count;
    if (pc->ndebugcons > PC_DEBUGCONS)
        return error_set(err, "debugcon: there can be at most %d of them", PC_DEBUGCONS);
    for (unsigned n = 0; n < pc->ndebugcons; n++) {
        struct debugcon_config debugcon;
        char spec[4200];
        config_debugcon(vm->config, n, &debugcon);
        snprintf(spec, sizeof(spec), "file:%s", debugcon.file);
        vm->debugcons[n] = open_chardev(vm, spec, err);
        if (!vm->debugcons[n])
            error_prefix(err, "debugcon %s", debugcon.file);
        free(debugcon.file);
        if (!vm->debugcons[n])
            return -1;
        pc->debugcons[n] = (struct pc_debugcon){.backend = vm->debugcons[n], .port = debugcon.port};
    }
    return 0;
}

static int open_disks(struct plastron_vm *vm, struct pc_config *pc, struct error *err)
{
    pc->ndisks = vm->config->values[OPTION_DISK].count;
    if (pc->ndisks > PC_DISKS)
        return error_set(err, "disk: there can be at most %d of them", PC_DISKS);
    for (unsigned n = 0; n < pc->ndisks; n++) {
        struct disk_config disk;
        config_disk(vm->config, n, &disk);
        struct block_options options = {
            .path = disk.file, .format = "raw", .readonly = disk.readonly, .snapshot = disk.snapshot};
        vm->disks[n] = block_open(&options, err);
        free(disk.file);
        if (!vm->disks[n])
            return -1;
        pc->disks[n] = vm->disks[n];
    }
    return 0;
}

static void machine_event(struct vm *machine, const char *event, void *opaque)
{
    hooks_condition(opaque, event);
}

/* The I/O thread takes no signals: they are the program's. */
static int start_io_thread(struct plastron_vm *vm, struct error *err)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&vm->io_thread, NULL, io_thread, vm->loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return error_set_errno(err, failed, "cannot start the I/O thread");
    vm->io_thread_runs = true;
    return 0;
}

static int start_trace(struct plastron_vm *vm, struct error *err)
{
    struct trace_config trace;

    config_trace(vm->config, &trace);
    if (trace.kinds)
        vm->trace = trace_sink_new(&trace, err);
    free(trace.file);
    return trace.kinds && !vm->trace ? -1 : 0;
}

static int wire(struct plastron_vm *vm, bool for_restore, struct error *err)
{
    const struct plastron_config *config = vm->config;
    struct pc_config pc = {
        .vm = {.name = vm->name,
               .ram_size = config_memory(config),
               .vcpus = config_cpus(config),
               .clock = config_clock(config),
               .rtc_start = config_rtc(config),
               .no_reboot = config_switch(config, OPTION_NO_REBOOT),
               .jit_cache = config_jit_cache(config),
               .jit_threshold = config_jit_threshold(config),
               .jit_perf_map = config_switch(config, OPTION_JIT_PERF_MAP)},
        .engine = config_text(config, OPTION_ENGINE, 0),
        .kernel = config_text(config, OPTION_KERNEL, 0),
        .initrd = config_text(config, OPTION_INITRD, 0),
        .append = config_text(config, OPTION_APPEND, 0),
        .firmware = config_text(config, OPTION_FIRMWARE, 0),
    };

    pc.debug_exit = config_debug_exit(config, &pc.debug_exit_port);
    if ((pc.initrd || pc.append) && !pc.kernel)
        return error_set(err, "%s needs a kernel: give --kernel FILE too", pc.initrd ? "initrd" : "append");
    if (pc.vm.clock == CLOCK_ICOUNT)
        pc.vm.random_seed = 1; /* two runs are the same: any constant */
    config_cpu(config, &pc.vm.cpu);
    vm->loop = event_loop_new(err);
    if (!vm->loop || open_disks(vm, &pc, err))
        return -1;
    if (open_serial(vm, &pc, err) || open_debugcons(vm, &pc, err))
        return -1;
    vm->machine = pc_new(&pc, for_restore, err);
    if (!vm->machine)
        return -1;
    if (start_trace(vm, err)) /* last, as it makes a file */
        return -1;
    vm->machine->on_event = machine_event;
    vm->machine->on_event_opaque = vm;
    hooks_install(vm);
    return start_io_thread(vm, err);
}

struct plastron_vm *vm_create(struct plastron_config *config, bool for_restore, struct error *err)
{
    struct plastron_vm *vm = calloc(1, sizeof(*vm));
    const char *name = config_text(config, OPTION_NAME, 0);

    if (!vm) {
        plastron_config_free(config);
        error_set(err, "out of memory");
        return NULL;
    }
    vm->config = config;
    if (name)
        snprintf(vm->name, sizeof(vm->name), "%s", name);
    else
        snprintf(vm->name, sizeof(vm->name), "vm-%d", (int)getpid());
    vm->folder = getcwd(NULL, 0);
    if (!vm->folder)
        vm->folder = strdup("/"); /* it was removed: only absolute names can work */
    if (!wire(vm, for_restore, err))
        return vm;
    vm_discard(vm);
    return NULL;
}

void vm_discard(struct plastron_vm *vm)
{
    for (unsigned n = 0; n < vm->nmade_files; n++)
        unlink(vm->made_files[n]);
    plastron_vm_free(vm);
}

plastron_vm *plastron_vm_new(const plastron_config *config, struct plastron_error *err)
{
    struct plastron_config *copy = config_copy(config);
    struct error e = {{0}};
    struct plastron_vm *vm = copy ? vm_create(copy, false, &e) : NULL;

    if (!copy)
        error_set(&e, "out of memory");
    if (!vm)
        api_error(err, &e);
    return vm;
}

void plastron_vm_free(plastron_vm *vm)
{
    if (!vm)
        return;
    if (vm->io_thread_runs) {
        event_loop_stop(vm->loop);
        pthread_join(vm->io_thread, NULL);
    }
    if (vm->machine)
        vm_free(vm->machine);
    for (unsigned n = 0; n < vm->ndevices; n++)
        free(vm->devices[n]);
    for (unsigned n = 0; n < PC_DISKS; n++)
        block_close(vm->disks[n]);
    for (unsigned n = 0; n < PC_SERIAL_PORTS; n++)
        chardev_close(vm->serial[n]);
    for (unsigned n = 0; n < PC_DEBUGCONS; n++)
        chardev_close(vm->debugcons[n]);
    event_loop_free(vm->loop);
    trace_sink_free(vm->trace);
    for (unsigned n = 0; n < vm->nmade_files; n++)
        free(vm->made_files[n]);
    free(vm->folder);
    plastron_config_free(vm->config);
    free(vm);
}

const char *plastron_vm_name(const plastron_vm *vm)
{
    return vm->name;
}

/* ---- Running ---------------------------------------------------------------------------------------------------- */

static enum plastron_stop_reason public_reason(enum vm_stop_reason reason)
{
    static const enum plastron_stop_reason reasons[] = {
        [VM_STOP_NONE] = PLASTRON_STOP_NONE,
        [VM_STOP_POWEROFF] = PLASTRON_STOP_POWEROFF,
        [VM_STOP_RESET] = PLASTRON_STOP_RESET,
        [VM_STOP_CRASH] = PLASTRON_STOP_CRASH,
        [VM_STOP_DEBUG_EXIT] = PLASTRON_STOP_DEBUG_EXIT,
        [VM_STOP_REQUEST] = PLASTRON_STOP_REQUEST,
        [VM_STOP_BUDGET] = PLASTRON_STOP_LIMIT,
        [VM_STOP_HOOK] = PLASTRON_STOP_HOOK,
        [VM_STOP_ERROR] = PLASTRON_STOP_ERROR,
    };
    return reasons[reason];
}

enum plastron_stop_reason plastron_run(plastron_vm *vm, uint64_t max_instructions)
{
    enum plastron_stop_reason reason;

    vm->runner = pthread_self();
    __atomic_store_n(&vm->runner_tid, gettid(), __ATOMIC_RELAXED);
    __atomic_store_n(&vm->running, true, __ATOMIC_RELEASE);
    reason = public_reason(vm_run(vm->machine, max_instructions));
    __atomic_store_n(&vm->running, false, __ATOMIC_RELEASE);
    return reason;
}

void plastron_stop(plastron_vm *vm)
{
    vm_stop(vm->machine);
}

const char *plastron_stop_name(enum plastron_stop_reason reason)
{
    static const char *const names[] = {"none",    "poweroff", "reset", "crash", "debug-exit",
                                        "request", "limit",    "hook",  "error"};

    return (unsigned)reason < ARRAY_SIZE(names) ? names[reason] : "unknown";
}

const char *plastron_stop_text(const plastron_vm *vm)
{
    return vm->machine->stop_error.text;
}

int plastron_exit_code(const plastron_vm *vm)
{
    return vm->machine->exit_code;
}

void plastron_pause(plastron_vm *vm)
{
    vm_pause(vm->machine);
}

void plastron_resume(plastron_vm *vm)
{
    vm_resume(vm->machine);
}

bool plastron_paused(const plastron_vm *vm)
{
    return vm_paused(vm->machine);
}

int plastron_set_engine(plastron_vm *vm, const char *name, struct plastron_error *err)
{
    struct error e, again;
    const struct engine_ops *engine = pc_engine(name, &e), *old;
    int failed;

    if (!engine)
        return api_error(err, &e);
    vm_park(vm->machine);
    old = vm->machine->vcpus[0]->engine;
    failed = vm_set_engine(vm->machine, engine, &e);
    if (failed && vm_set_engine(vm->machine, old, &again))
        abort(); /* what it has just given back is not to be had any more */
    vm_unpark(vm->machine);
    return failed ? api_error(err, &e) : 0;
}

int plastron_reset(plastron_vm *vm, struct plastron_error *err)
{
    struct error e;

    if (__atomic_load_n(&vm->running, __ATOMIC_ACQUIRE)) {
        vm_request_reset(vm->machine);
        return 0;
    }
    vm_park(vm->machine);
    int failed = vm_reset(vm->machine, &e);
    vm_unpark(vm->machine);
    return failed ? api_error(err, &e) : 0;
}

void plastron_power_button(plastron_vm *vm)
{
    /* false: thousands of presses wait already */
    if (pc_power_button(vm->machine))
        hooks_condition(vm, "POWERDOWN");
}

int plastron_send_keys(plastron_vm *vm, const char *keys, struct plastron_error *err)
{
    u8 codes[256];
    struct error e;
    int len = keys_to_scancodes(keys, codes, sizeof(codes), &e);

    if (len < 0)
        return api_error(err, &e);
    if (!pc_keyboard(vm->machine, codes, (size_t)len)) {
        error_set(&e, "the guest does not take keys: too many are waiting");
        return api_error(err, &e);
    }
    return 0;
}

/* ---- Memory and registers --------------------------------------------------------------------------------------- */

int plastron_read_memory(plastron_vm *vm, uint64_t address, void *to, size_t size, struct plastron_error *err)
{
    struct error e;
    vm_park(vm->machine);
    bool ok = dma_read(&vm->machine->memory, address, to, size);

    vm_unpark(vm->machine);
    if (ok)
        return 0;
    error_set(&e, "not all of %zu bytes at %#llx is memory", size, (unsigned long long)address);
    return api_error(err, &e);
}

int plastron_write_memory(plastron_vm *vm, uint64_t address, const void *from, size_t size,
                          struct plastron_error *err)
{
    struct error e;
    vm_park(vm->machine);
    bool ok = memory_poke(&vm->machine->memory, address, from, size);

    vm_unpark(vm->machine);
    if (ok)
        return 0;
    error_set(&e, "not all of %zu bytes at %#llx is memory", size, (unsigned long long)address);
    return api_error(err, &e);
}

/* The fields of struct plastron_registers that are plain copies of one 64-bit field of struct vcpu_state. */
static const struct {
    size_t to, from;
} register_fields[] = {
#define PAIR(public_name, state_name)                                                                        \
    {                                                                                                        \
        offsetof(struct plastron_registers, public_name), offsetof(struct vcpu_state, state_name)            \
    }
    PAIR(rax, gpr[RAX]),
    PAIR(rcx, gpr[RCX]),
    PAIR(rdx, gpr[RDX]),
    PAIR(rbx, gpr[RBX]),
    PAIR(rsp, gpr[RSP]),
    PAIR(rbp, gpr[RBP]),
    PAIR(rsi, gpr[RSI]),
    PAIR(rdi, gpr[RDI]),
    PAIR(r8, gpr[R8]),
    PAIR(r9, gpr[R9]),
    PAIR(r10, gpr[R10]),
    PAIR(r11, gpr[R11]),
    PAIR(r12, gpr[R12]),
    PAIR(r13, gpr[R13]),
    PAIR(r14, gpr[R14]),
    PAIR(r15, gpr[R15]),
    PAIR(rip, rip),
    PAIR(rflags, rflags),
    PAIR(gdtr_base, gdtr.base),
    PAIR(idtr_base, idtr.base),
    PAIR(cr0, cr0),
    PAIR(cr2, cr2),
    PAIR(cr3, cr3),
    PAIR(cr4, cr4),
    PAIR(cr8, cr8),
    PAIR(dr0, dr[0]),
    PAIR(dr1, dr[1]),
    PAIR(dr2, dr[2]),
    PAIR(dr3, dr[3]),
    PAIR(dr6, dr[6]),
    PAIR(dr7, dr[7]),
    PAIR(efer, efer),
    PAIR(star, star),
    PAIR(lstar, lstar),
    PAIR(cstar, cstar),
    PAIR(sfmask, sfmask),
    PAIR(kernel_gs_base, kernel_gs_base),
    PAIR(tsc_aux, tsc_aux),
    PAIR(pat, pat),
    PAIR(apic_base, apic_base),
    PAIR(sysenter_cs, sysenter_cs),
    PAIR(sysenter_esp, sysenter_esp),
    PAIR(sysenter_eip, sysenter_eip),
#undef PAIR
};

static const size_t segment_fields[SEG_ALL] = {
    [SEG_ES] = offsetof(struct plastron_registers, es),
    [SEG_CS] = offsetof(struct plastron_registers, cs),
    [SEG_SS] = offsetof(struct plastron_registers, ss),
    [SEG_DS] = offsetof(struct plastron_registers, ds),
    [SEG_FS] = offsetof(struct plastron_registers, fs),
    [SEG_GS] = offsetof(struct plastron_registers, gs),
    [SEG_LDTR] = offsetof(struct plastron_registers, ldtr),
    [SEG_TR] = offsetof(struct plastron_registers, tr),
};

static int check_vcpu(const struct plastron_vm *vm, unsigned vcpu, uint32_t size, struct plastron_error *err)
{
    struct error e;

    if (vcpu < vm->machine->nvcpus && size >= sizeof(struct plastron_registers))
        return 0;
    if (vcpu >= vm->machine->nvcpus)
        error_set(&e, "there is no vCPU %u: the machine has %u", vcpu, vm->machine->nvcpus);
    else
        error_set(&e, "the size of the registers was not set, or is of another version of the library");
    return api_error(err, &e);
}

int plastron_get_registers(plastron_vm *vm, unsigned vcpu, struct plastron_registers *regs,
                           struct plastron_error *err)
{
    if (check_vcpu(vm, vcpu, regs->size, err))
        return -1;
    vm_park(vm->machine);
    const struct vcpu_state *s = &vm->machine->vcpus[vcpu]->state;
    for (size_t i = 0; i < ARRAY_SIZE(register_fields); i++)
        memcpy((u8 *)regs + register_fields[i].to, (const u8 *)s + register_fields[i].from, sizeof(u64));
    for (unsigned i = 0; i < SEG_ALL; i++) {
        struct plastron_segment *seg = (struct plastron_segment *)((u8 *)regs + segment_fields[i]);
        *seg = (struct plastron_segment){s->seg[i].base, s->seg[i].limit, s->seg[i].selector, s->seg[i].attr};
    }
    regs->gdtr_limit = s->gdtr.limit;
    regs->idtr_limit = s->idtr.limit;
    regs->activity = s->activity;
    regs->reserved = 0;
    regs->instructions = s->icount;
    vm_unpark(vm->machine);
    return 0;
}

int plastron_set_registers(plastron_vm *vm, unsigned vcpu, const struct plastron_registers *regs,
                           struct plastron_error *err)
{
    struct error e;

    if (check_vcpu(vm, vcpu, regs->size, err))
        return -1;
    if (regs->activity > VCPU_WAITING) {
        error_set(&e, "activity %u is none of 0 to 4", regs->activity);
        return api_error(err, &e);
    }
    if (vm_on_runner(vm)) {
        error_set(&e, "a hook cannot write registers: stop with PLASTRON_STOP_HOOK and write them then");
        return api_error(err, &e);
    }
    vm_park(vm->machine);
    struct vcpu *v = vm->machine->vcpus[vcpu];
    struct vcpu_state *s = &v->state;
    for (size_t i = 0; i < ARRAY_SIZE(register_fields); i++)
        memcpy((u8 *)s + register_fields[i].from, (const u8 *)regs + register_fields[i].to, sizeof(u64));
    for (unsigned i = 0; i < SEG_ALL; i++) {
        const struct plastron_segment *seg =
            (const struct plastron_segment *)((const u8 *)regs + segment_fields[i]);
        s->seg[i] = (struct seg){seg->base, seg->limit, seg->selector, seg->attributes};
    }
    s->rflags |= FLAG_ONE;
    s->gdtr.limit = regs->gdtr_limit;
    s->idtr.limit = regs->idtr_limit;
    s->activity = (u8)regs->activity;
    if (v->engine)
        v->engine->state_changed(v);
    vm_unpark(vm->machine);
    return 0;
}
