/*
 * libplastron: virtual x86-64 machines as objects of a C program.
 *
 *     struct plastron_error err;
 *     plastron_config *config = plastron_config_new();
 *     plastron_config_set(config, "memory", "256M", &err);
 *     plastron_config_set(config, "kernel", "vmlinuz", &err);
 *     plastron_vm *vm = plastron_vm_new(config, &err);
 *     enum plastron_stop_reason why = plastron_run(vm, PLASTRON_NO_LIMIT);
 *
 * Errors. Functions that can fail return 0, or -1 (pointers: NULL) after writing one sentence to `err` that names the
 * thing and says what to do. `err` may be NULL.
 *
 * Threads. There is no global state; VMs do not know of one another. The thread inside plastron_run is the VM's
 * machine thread, and runs its vCPUs or starts a thread for each. Each VM has an I/O thread of its own for serial lines, disks and the like, which starts with plastron_vm_new and
 * ends with plastron_vm_free. Every function on a VM may be called from any thread, also while another one is inside
 * plastron_run (the VM is then parked at an instruction boundary for the time of the call), and from hooks, except where
 * it says otherwise. plastron_vm_free is the last call on a VM.
 *
 * ABI. Structs that callers fill begin with `size`, set to sizeof by the caller, and only ever grow at the end; enums and
 * option names only grow. PLASTRON_API_VERSION counts the additions.
 */
#ifndef PLASTRON_PLASTRON_H
#define PLASTRON_PLASTRON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLASTRON_API_VERSION 1

/* What the library was built with: the header's PLASTRON_API_VERSION of that time, and "0.1.0". */
uint32_t plastron_api_version(void);
const char *plastron_version(void);

/* Names of the engines and optional features that were built in, such as "interp" or "zydis"; NULL after the last. */
const char *plastron_feature(unsigned index);

typedef struct plastron_vm plastron_vm;
typedef struct plastron_config plastron_config;

struct plastron_error {
    char text[512]; /* one sentence, no newline */
};

/* ---- Configuration ---------------------------------------------------------------------------------------------- */

/* One option of a machine. The command line's options of the same names are made from this list. */
struct plastron_option {
    const char *name; /* "memory" */
    const char
        *argument; /* what its value looks like: "SIZE"; NULL for a switch, whose value is "on" or "off" */
    const char *initial; /* the value when it is not given, as text; NULL: none */
    const char *help;    /* what it does, one or more sentences */
    bool repeat;         /* may be set more than once; each value is added */
    bool host;           /* says where the host's side is (files, terminals) and may be changed on restore */
};

/* The options, ended by one with a NULL name. */
const struct plastron_option *plastron_options(void);

/* An empty configuration; free it with plastron_config_free. NULL when out of memory. One thread at a time. */
plastron_config *plastron_config_new(void);
void plastron_config_free(plastron_config *config);

/*
 * Set option `key` (a name from plastron_options) from its text form. The form is checked here; files are opened by
 * plastron_vm_new. A second value replaces the first, or is added when the option may repeat.
 */
int plastron_config_set(plastron_config *config, const char *key, const char *value,
                        struct plastron_error *err);

/* Value `n` (0 is the first) of an option as it was set, or NULL. Valid until the option is set again. */
const char *plastron_config_get(const plastron_config *config, const char *key, unsigned n);

/* ---- A virtual machine ------------------------------------------------------------------------------------------ */

/*
 * Create a machine and wire it: memory, vCPUs, devices, loaded firmware or kernel. It stands at its first instruction and
 * nothing runs yet. Without "kernel" and "firmware" memory is empty: write your own code to it. `config` is copied.
 * Free it with plastron_vm_free.
 */
plastron_vm *plastron_vm_new(const plastron_config *config, struct plastron_error *err);

/* End the I/O thread, give back terminal, files and memory. Not while another thread is inside a call on this VM; not from
   a hook. NULL is ignored. */
void plastron_vm_free(plastron_vm *vm);

/* The name option; valid as long as the VM. */
const char *plastron_vm_name(const plastron_vm *vm);

/* Copy `size` bytes of guest-physical memory. RAM and ROM; plastron_write_memory also writes ROM, as a debugger does.
   Fails, having copied what it could, when a part of the range is neither. */
int plastron_read_memory(plastron_vm *vm, uint64_t address, void *to, size_t size,
                         struct plastron_error *err);
int plastron_write_memory(plastron_vm *vm, uint64_t address, const void *from, size_t size,
                          struct plastron_error *err);

/* A segment register with its hidden part. */
struct plastron_segment {
    uint64_t base;
    uint32_t limit; /* bytes, granularity applied */
    uint16_t selector;
    uint16_t
        attributes; /* bits 40..47 and 52..55 of the descriptor in bits 0..7 and 12..15; bit 8: unusable */
};

struct plastron_registers {
    uint32_t size; /* sizeof(struct plastron_registers) */
    uint32_t
        activity; /* 0 running, 1 halted, 2 waiting for SIPI, 3 shut down by a triple fault, 4 waiting in MWAIT */
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    struct plastron_segment es, cs, ss, ds, fs, gs, ldtr, tr;
    uint64_t gdtr_base, idtr_base;
    uint16_t gdtr_limit, idtr_limit;
    uint32_t reserved;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t dr0, dr1, dr2, dr3, dr6, dr7;
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, pat, apic_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    /* Retired by this vCPU since the VM began; read only. Those of translated code count with the icount clock, and from the
       first run with a limit on. */
    uint64_t instructions;
};

/* Read and write the registers of vCPU `vcpu` (0 is the first). Writing does not check what hardware would refuse. `size`
   must be set for both. Writing is not for hooks. */
int plastron_get_registers(plastron_vm *vm, unsigned vcpu, struct plastron_registers *regs,
                           struct plastron_error *err);
int plastron_set_registers(plastron_vm *vm, unsigned vcpu, const struct plastron_registers *regs,
                           struct plastron_error *err);

/* The registers as text for people: a report of several lines, with the last instructions where the engine kept them.
   Free the text with free(). NULL when there is no such vCPU or no memory. */
char *plastron_register_report(plastron_vm *vm, unsigned vcpu);

/* ---- Running ---------------------------------------------------------------------------------------------------- */

#define PLASTRON_NO_LIMIT UINT64_MAX

/* Why plastron_run came back. */
enum plastron_stop_reason {
    PLASTRON_STOP_NONE,       /* it has not run yet, or runs */
    PLASTRON_STOP_POWEROFF,   /* the guest switched itself off */
    PLASTRON_STOP_RESET,      /* the guest asked for a reset under the option no-reboot */
    PLASTRON_STOP_CRASH,      /* triple fault under no-reboot */
    PLASTRON_STOP_DEBUG_EXIT, /* the guest wrote to the debug-exit port: plastron_exit_code */
    PLASTRON_STOP_REQUEST,    /* plastron_stop, or Ctrl-A X on the console */
    PLASTRON_STOP_LIMIT,      /* max_instructions were retired */
    PLASTRON_STOP_HOOK,       /* a hook asked for it */
    PLASTRON_STOP_ERROR,      /* the host failed: plastron_stop_text */
};

/*
 * Run on the calling thread until something ends it, at most `max_instructions` of all vCPUs together
 * (PLASTRON_NO_LIMIT). One thread at a time; not from a hook. After LIMIT, REQUEST and HOOK it may be called again and
 * goes on where it stopped; after the other reasons it comes back at once with the same one until plastron_reset.
 */
enum plastron_stop_reason plastron_run(plastron_vm *vm, uint64_t max_instructions);

/* Make plastron_run come back, or the next call of it when none is under way. Returns at once. */
void plastron_stop(plastron_vm *vm);

/* About the last stop: the reason's short name ("poweroff"), the host's failure in words ("" if there was none), and
   the exit status that isa-debug-exit asks for: 2 V + 1 when the guest wrote V. Static or valid until the next run. */
const char *plastron_stop_name(enum plastron_stop_reason reason);
const char *plastron_stop_text(const plastron_vm *vm);
int plastron_exit_code(const plastron_vm *vm);

/* Stand still and go on, the guest's clock too; plastron_run stays inside meanwhile. Not from a hook. */
void plastron_pause(plastron_vm *vm);
void plastron_resume(plastron_vm *vm);
bool plastron_paused(const plastron_vm *vm);

/* Put the machine in its power-up state and load its kernel again: while it runs as the reset button does, soon; otherwise
   now, which fails when the kernel cannot be read any more. */
int plastron_reset(plastron_vm *vm, struct plastron_error *err);

/* The power button: a request that the guest's system sees through ACPI and may ignore. */
void plastron_power_button(plastron_vm *vm);

/* Press the keys named in `keys` ("ctrl-alt-delete", "shift-a": names joined by '-') at the same time and release them. An
   unknown name fails with the nearest known one in the text. */
int plastron_send_keys(plastron_vm *vm, const char *keys, struct plastron_error *err);

/* ---- Hooks ------------------------------------------------------------------------------------------------------ */

/* What kind of event goes through the guest's interrupt table. */
enum plastron_event { PLASTRON_EXCEPTION, PLASTRON_SOFTWARE_INTERRUPT, PLASTRON_INTERRUPT, PLASTRON_NMI };

/* Called on the thread inside plastron_run, on which vCPUs take turns while there are hooks; each may be NULL. They may read
   registers and read and write memory. */
struct plastron_hooks {
    uint32_t size; /* sizeof(struct plastron_hooks) */
    /* Before each instruction and each iteration of a REP, at linear address `address`. true: stop before it with PLASTRON_STOP_HOOK; the next
       plastron_run executes that instruction without asking again. The guest runs slower with this hook set. */
    bool (*instruction)(plastron_vm *vm, unsigned vcpu, uint64_t address, void *opaque);
    /* An exception or interrupt is about to be delivered; `address` is CR2's new value for a page fault. */
    void (*event)(plastron_vm *vm, unsigned vcpu, enum plastron_event kind, uint8_t vector, uint32_t error,
                  uint64_t address, void *opaque);
    /* An access to a port or to memory-mapped registers was done. */
    void (*port)(plastron_vm *vm, unsigned vcpu, bool write, uint16_t port, unsigned size, uint32_t value,
                 void *opaque);
    void (*mmio)(plastron_vm *vm, unsigned vcpu, bool write, uint64_t address, unsigned size, uint64_t value,
                 void *opaque);
    /* The machine changed its condition: "RESET", "STOP", "RESUME", "POWERDOWN", "SHUTDOWN". Called on the thread that
       caused it. It must not call back into the VM except plastron_stop. */
    void (*condition)(plastron_vm *vm, const char *what, void *opaque);
};

/* Set the hooks (copied), replacing those that were set before; NULL takes them away. Not from a hook. */
int plastron_set_hooks(plastron_vm *vm, const struct plastron_hooks *hooks, void *opaque,
                       struct plastron_error *err);

/* A device of the caller's own. Called on the vCPU's thread with the machine's device lock held: they must not call
   back into the VM except plastron_stop. `offset` is relative to the start; `size` is 1, 2 or 4 bytes (memory: also 8). */
struct plastron_io {
    uint32_t size; /* sizeof(struct plastron_io) */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
};

/* Answer [start, start+count) of the ports, over whatever was there. `io` is copied. For the life of the VM. */
int plastron_add_ports(plastron_vm *vm, uint16_t start, uint32_t count, const struct plastron_io *io,
                       void *opaque, struct plastron_error *err);

/* Answer guest-physical [start, start+count), whole pages, over whatever was there. For the life of the VM. */
int plastron_add_mmio(plastron_vm *vm, uint64_t start, uint64_t count, const struct plastron_io *io,
                      void *opaque, struct plastron_error *err);

/* ---- Looking inside, save, restore ------------------------------------------------------------------------------ */

/*
 * The saved state as JSON text: of everything but the memory's content (`path` NULL), of one part ("vcpu0", "serial0") or
 * one field of it ("vcpu0.rip", "vcpu0.seg[1].base"). Numbers of 64 bits are hexadecimal strings. Free it with free().
 */
char *plastron_inspect(plastron_vm *vm, const char *path, struct plastron_error *err);

/* Facts about the VM that are not guest state, as JSON text: name, status, memory, options, serial lines, counters. Free it
   with free(). */
char *plastron_describe(plastron_vm *vm, struct plastron_error *err);

/* A hash of the whole state, memory included, as 32 hexadecimal digits and a NUL. Equal machines have equal hashes. */
void plastron_state_hash(plastron_vm *vm, char hash[33]);

/* Go on with another engine ("interp", "jit", or "auto" for the best) from the next instruction boundary on. The VM may run.
   On failure it goes on with the one it had. */
int plastron_set_engine(plastron_vm *vm, const char *engine, struct plastron_error *err);

/* Write the whole machine to `file` (a temporary name beside it, synced, then renamed). The VM may run; it stands still
   meanwhile. */
int plastron_save(plastron_vm *vm, const char *file, struct plastron_error *err);

/*
 * Make the machine that was saved in `file`. It stands where it stood. `host_options` may be NULL or hold options that
 * are marked `host`: serial lines, disks and so on; those that are not set are as they were in the saved machine. Like
 * plastron_vm_new otherwise.
 */
plastron_vm *plastron_restore(const char *file, const plastron_config *host_options,
                              struct plastron_error *err);

/* The same in steps, for those who want to know what is in the file first. Opening checks all of it. The configuration is
   that of the saved machine, valid until plastron_saved_close. */
typedef struct plastron_saved plastron_saved;
plastron_saved *plastron_saved_open(const char *file, struct plastron_error *err);
const plastron_config *plastron_saved_config(const plastron_saved *saved);
plastron_vm *plastron_saved_restore(const plastron_saved *saved, const plastron_config *host_options,
                                    struct plastron_error *err);
void plastron_saved_close(plastron_saved *saved);

#ifdef __cplusplus
}
#endif

#endif
