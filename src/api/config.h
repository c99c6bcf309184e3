/*
 * A machine's configuration: the texts that were given, by option. The table of options in config.c is the one place that
 * knows their names, defaults, help and forms; the command line, the manual page and the saved configuration of a
 * snapshot are made from it.
 */
#ifndef API_CONFIG_H
#define API_CONFIG_H

#include <jansson.h>

#include "base/error.h"
#include "base/types.h"
#include "machine/clock.h"
#include "plastron/plastron.h"
#include "x86/cpuid.h"

/* In the order of the table. */
enum option_id {
    OPTION_KERNEL,
    OPTION_INITRD,
    OPTION_APPEND,
    OPTION_FIRMWARE,
    OPTION_MEMORY,
    OPTION_CPUS,
    OPTION_CPU,
    OPTION_DISK,
    OPTION_SERIAL,
    OPTION_DEBUGCON,
    OPTION_DEBUG_EXIT,
    OPTION_RTC,
    OPTION_CLOCK,
    OPTION_ENGINE,
    OPTION_JIT_CACHE,
    OPTION_JIT_THRESHOLD,
    OPTION_JIT_PERF_MAP,
    OPTION_NO_REBOOT,
    OPTION_TRACE,
    OPTION_NAME,
    OPTION_COUNT,
};

enum { CONFIG_REPEATS = 16, CONFIG_SERIALS = 4 };

struct plastron_config {
    struct {
        char *text[CONFIG_REPEATS]; /* owned */
        unsigned count;             /* 0: the option was not given */
    } values[OPTION_COUNT];
};

/* Copy every value. NULL when out of memory. */
struct plastron_config *config_copy(const struct plastron_config *config);

/* Replace what `from` has, of the options that are marked `host`; an error when it has another one. */
MUST_CHECK int config_override_host(struct plastron_config *config, const struct plastron_config *from,
                                    struct error *err);

/* {"memory": ["512M"], ...}: the given options only. NULL when out of memory. */
json_t *config_to_json(const struct plastron_config *config);

/* The reverse; every value is checked as if it were typed. NULL with `err`. */
struct plastron_config *config_from_json(const json_t *json, struct error *err);

/* A copy in which every file name is absolute, those that are not being relative to `folder`, and without the options that
   belong to one run (trace). NULL when out of memory. */
struct plastron_config *config_absolute(const struct plastron_config *config, const char *folder);

/* What serial line `n` is connected to: "stdio", "file:F", "unix:F" or "none". */
const char *config_serial(const struct plastron_config *config, unsigned n);

/* Value `n` of an option as text; the default when none was given; NULL when there is none. */
const char *config_text(const struct plastron_config *config, enum option_id id, unsigned n);

/* Values in their own types. The texts were checked when they were set, so these cannot fail. */
u64 config_memory(const struct plastron_config *config);
unsigned config_cpus(const struct plastron_config *config);
void config_cpu(const struct plastron_config *config, struct cpu_model *model);
enum clock_driver config_clock(const struct plastron_config *config);
u64 config_jit_cache(const struct plastron_config *config);
u32 config_jit_threshold(const struct plastron_config *config);
bool config_switch(const struct plastron_config *config, enum option_id id);
i64 config_rtc(const struct plastron_config *config); /* seconds since 1970; "utc" reads the host's clock */
bool config_debug_exit(const struct plastron_config *config, u16 *port);

enum disk_interface { DISK_VIRTIO };

/* FILE,format=raw,if=virtio,readonly=on,snapshot=on. A comma in a file name is written twice. */
struct disk_config {
    char *file; /* owned by the caller */
    enum disk_interface interface;
    bool readonly;
    bool snapshot; /* changes are thrown away at the end */
};
void config_disk(const struct plastron_config *config, unsigned n, struct disk_config *disk);

struct debugcon_config {
    char *file; /* owned by the caller */
    u16 port;
};
void config_debugcon(const struct plastron_config *config, unsigned n, struct debugcon_config *debugcon);

enum { TRACE_EXEC = 1, TRACE_INT = 2, TRACE_IO = 4, TRACE_MMIO = 8, TRACE_JIT = 16 };

struct trace_config {
    char *file;     /* owned by the caller; NULL: standard error */
    unsigned kinds; /* TRACE_* */
};
void config_trace(const struct plastron_config *config, struct trace_config *trace);

#endif
