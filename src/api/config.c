#include "api/config.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "machine/vm.h"

/* What a text turns into. */
union option_value {
    u64 number;
    bool on;
    i64 seconds; /* -1: utc, the host's clock */
    unsigned word;
    struct cpu_model cpu;
    struct disk_config disk;
    struct debugcon_config debugcon;
    struct trace_config trace;
};

/* What the clock shows at the start of a deterministic run when no --rtc says otherwise: any fixed date would do that is
   not older than the software of the guests. 2026-01-01T00:00:00Z. */
enum { RTC_ICOUNT_START = 1767225600 };

enum { JIT_CACHE_MIN = 1 << 20, JIT_CACHE_MAX = 1 << 30 };
enum { MEMORY_MIN = 1 << 20, PORT_DEBUG_EXIT = 0xf4, PORT_DEBUGCON = 0xe9, NAME_MAX_LEN = 63 };

static const char *const clock_words[] = {"host", "icount", NULL};
static const char *const engine_words[] = {"auto", "interp", "jit", NULL};

/*
 * "FILE,key=value,key=value": split off the file (commas doubled stand for one) and hand each pair to `set`. Returns the
 * file, which the caller frees.
 */
static char *parse_file_and_keys(const char *text,
                                 int (*set)(void *out, const char *key, const char *value, struct error *err),
                                 void *out, struct error *err)
{
    char *copy = strdup(text), *file = strdup(text);
    char *to = file, *from = copy;

    if (!copy || !file)
        abort();
    for (; *from && !(from[0] == ',' && from[1] != ','); from++) {
        *to++ = *from;
        if (*from == ',')
            from++;
    }
    *to = 0;
    int result = *file ? 0 : error_set(err, "the file name is missing in '%s'", text);
    while (!result && *from) {
        char *key = from + 1, *end = strchr(key, ',');
        if (end)
            *end = 0;
        from = end ? end : key + strlen(key);
        char *value = strchr(key, '=');
        if (value)
            *value++ = 0;
        result = value ? set(out, key, value, err)
                       : error_set(err, "'%s' lacks its value: write %s=...", key, key);
        if (end)
            *end = ',';
    }
    free(copy);
    if (!result)
        return file;
    free(file);
    return NULL;
}

static int unknown_key(const char *key, const char *const *known, struct error *err)
{
    unsigned n;

    if (!text_word(key, known, &n, err))
        abort(); /* a known key that nobody handled */
    return -1;
}

static int disk_key(void *out, const char *key, const char *value, struct error *err)
{
    static const char *const keys[] = {"format", "if", "readonly", "snapshot", NULL};
    static const char *const formats[] = {"raw", NULL}, *const interfaces[] = {"virtio", NULL};
    struct disk_config *disk = out;
    unsigned word;

    if (!strcmp(key, "format"))
        return text_word(value, formats, &word, err);
    if (!strcmp(key, "if")) {
        if (text_word(value, interfaces, &word, err))
            return -1;
        disk->interface = (enum disk_interface)word;
        return 0;
    }
    if (!strcmp(key, "readonly"))
        return text_switch(value, &disk->readonly, err);
    if (!strcmp(key, "snapshot"))
        return text_switch(value, &disk->snapshot, err);
    return unknown_key(key, keys, err);
}

static int parse_disk(const char *text, union option_value *value, struct error *err)
{
    value->disk = (struct disk_config){.interface = DISK_VIRTIO};
    value->disk.file = parse_file_and_keys(text, disk_key, &value->disk, err);
    return value->disk.file ? 0 : -1;
}

static int debugcon_key(void *out, const char *key, const char *value, struct error *err)
{
    static const char *const keys[] = {"port", NULL};
    struct debugcon_config *debugcon = out;
    u64 port;

    if (strcmp(key, "port"))
        return unknown_key(key, keys, err);
    if (text_number(value, 0, 0xffff, &port, err))
        return -1;
    debugcon->port = (u16)port;
    return 0;
}

static int parse_debugcon(const char *text, union option_value *value, struct error *err)
{
    value->debugcon = (struct debugcon_config){.port = PORT_DEBUGCON};
    value->debugcon.file = parse_file_and_keys(text, debugcon_key, &value->debugcon, err);
    return value->debugcon.file ? 0 : -1;
}

static int parse_trace(const char *text, union option_value *value, struct error *err)
{
    static const char *const kinds[] = {"exec", "int", "io", "mmio", "jit", NULL};
    char *copy = strdup(text), *rest = copy;
    int result = 0;

    if (!copy)
        abort();
    value->trace = (struct trace_config){0};
    while (!result && rest) {
        char *word = strsep(&rest, ",");
        unsigned n;
        if (!strncmp(word, "file=", 5) && word[5] && !value->trace.file) {
            value->trace.file = strdup(word + 5);
        } else {
            result = text_word(word, kinds, &n, err);
            if (!result)
                value->trace.kinds |= 1u << n;
        }
    }
    free(copy);
    if (!result && !value->trace.kinds)
        result = error_set(err, "'%s' does not say what to trace: exec, int, io, mmio, jit", text);
    if (result)
        free(value->trace.file);
    return result;
}

static int parse_text(const char *text, union option_value *value, struct error *err)
{
    return 0;
}

static int parse_file(const char *text, union option_value *value, struct error *err)
{
    return *text ? 0 : error_set(err, "the file name is empty");
}

static int parse_memory(const char *text, union option_value *value, struct error *err)
{
    if (text_size(text, &value->number, err))
        return -1;
    if (value->number < MEMORY_MIN)
        return error_set(err, "%s is less than a machine needs: give at least 1M", text);
    if (value->number > UINT64_C(1) << X86_PHYS_BITS)
        return error_set(err, "%s is more than a machine can have: give at most %dG", text,
                         1 << (X86_PHYS_BITS - 30));
    if (value->number % PAGE_SIZE)
        return error_set(err, "%s is no multiple of 4 KiB", text);
    return 0;
}

static int parse_jit_cache(const char *text, union option_value *value, struct error *err)
{
    if (text_size(text, &value->number, err))
        return -1;
    if (value->number < JIT_CACHE_MIN || value->number > JIT_CACHE_MAX)
        return error_set(err, "%s: give from 1M to 1G", text);
    return 0;
}

static int parse_jit_threshold(const char *text, union option_value *value, struct error *err)
{
    return text_number(text, 1, UINT32_MAX, &value->number, err);
}

static int parse_cpus(const char *text, union option_value *value, struct error *err)
{
    return text_number(text, 1, VM_MAX_VCPUS, &value->number, err);
}

static int parse_cpu(const char *text, union option_value *value, struct error *err)
{
    return cpu_model_parse(text, &value->cpu, err);
}

static int parse_serial(const char *text, union option_value *value, struct error *err)
{
    if (!strcmp(text, "stdio") || !strcmp(text, "none"))
        return 0;
    if ((!strncmp(text, "file:", 5) || !strncmp(text, "unix:", 5)) && text[5])
        return 0;
    return error_set(err, "'%s' is not one of stdio, file:FILE, unix:FILE, none", text);
}

static int parse_debug_exit(const char *text, union option_value *value, struct error *err)
{
    bool on;

    if (text_switch(text, &on, NULL))
        return text_number(text, 0, 0xffff, &value->number, err);
    value->number = on ? PORT_DEBUG_EXIT : UINT64_MAX;
    return 0;
}

static int parse_rtc(const char *text, union option_value *value, struct error *err)
{
    value->seconds = -1;
    return !strcmp(text, "utc") ? 0 : text_date(text, &value->seconds, err);
}

static int parse_clock(const char *text, union option_value *value, struct error *err)
{
    return text_word(text, clock_words, &value->word, err);
}

static int parse_engine(const char *text, union option_value *value, struct error *err)
{
    return text_word(text, engine_words, &value->word, err);
}

static int parse_switch(const char *text, union option_value *value, struct error *err)
{
    return text_switch(text, &value->on, err);
}

static int parse_name(const char *text, union option_value *value, struct error *err)
{
    size_t len = strlen(text);

    if (!len || len > NAME_MAX_LEN || text[0] == '.' || text[0] == '-' ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
        return error_set(
            err, "'%s' is no name: use up to %d letters, digits, '.', '_' and '-', a letter or digit first",
            text, NAME_MAX_LEN);
    return 0;
}

/* Names and help as the world sees them. enum option_id is the index. */
static const struct plastron_option options[] = {
    [OPTION_KERNEL] = {.name = "kernel",
                       .argument = "FILE",
                       .host = true,
                       .help = "Boot this kernel without firmware: a Linux bzImage, an ELF file with a PVH "
                               "note, or a multiboot 1 "
                               "image. Its content tells which. A reset loads it again."},
    [OPTION_INITRD] = {.name = "initrd",
                       .argument = "FILE[,FILE...]",
                       .host = true,
                       .help = "The kernel's initial RAM disk; for multiboot, its modules."},
    [OPTION_APPEND] = {.name = "append", .argument = "TEXT", .help = "The kernel's command line."},
    [OPTION_FIRMWARE] = {.name = "firmware",
                         .argument = "FILE",
                         .host = true,
                         .help = "Start in this raw ROM of 64 KiB to 16 MiB, which ends at 4 GiB and whose "
                                 "last 128 KiB are also seen "
                                 "below 1 MiB."},
    [OPTION_MEMORY] = {.name = "memory",
                       .argument = "SIZE",
                       .initial = "512M",
                       .help = "How much memory the guest has, as 512M or 2G."},
    [OPTION_CPUS] = {.name = "cpus",
                     .argument = "N",
                     .initial = "1",
                     .help = "How many processors: 1 to 64."},
    [OPTION_CPU] =
        {.name = "cpu",
         .argument = "MODEL[,+FEATURE][,-FEATURE][,vendor=VENDOR]",
         .initial = "max",
         .help =
             "Which processor: v2, v3 or max, with features added and taken away; VENDOR is GenuineIntel or "
             "AuthenticAMD."},
    [OPTION_DISK] =
        {.name = "disk",
         .argument = "FILE[,format=raw][,if=virtio][,readonly=on][,snapshot=on]",
         .repeat = true,
         .host = true,
         .help = "Add a disk. readonly=on refuses the guest's writes; snapshot=on keeps them in a "
                 "temporary file that is thrown away at the end. A comma in the file name is written twice."},
    [OPTION_SERIAL] = {.name = "serial",
                       .argument = "stdio|file:FILE|unix:FILE|none",
                       .repeat = true,
                       .host = true,
                       .help = "Where the next of the four serial lines goes: this terminal (Ctrl-A X ends "
                               "the machine, Ctrl-A C lists the others), a file, or a unix socket that "
                               "`plastron console` connects to. "
                               "Without any, the first goes to "
                               "this terminal."},
    [OPTION_DEBUGCON] =
        {.name = "debugcon",
         .argument = "FILE[,port=0xe9]",
         .repeat = true,
         .host = true,
         .help = "Write each byte that the guest sends to the port to this file, which is made anew."},
    [OPTION_DEBUG_EXIT] = {.name = "debug-exit",
                           .argument = "[PORT]",
                           .help = "A device at this port (0xf4) ends the machine when the guest writes a "
                                   "value V to it, with exit status "
                                   "2 V + 1."},
    [OPTION_RTC] = {.name = "rtc",
                    .argument = "utc|DATE",
                    .help = "The date that the guest's battery clock starts at: the host's (the default with "
                            "the host clock), or a "
                            "given one in UTC such as 2026-01-31 or 2026-01-31T12:34:56 (with icount, "
                            "2026-01-01 is the default)."},
    [OPTION_CLOCK] = {.name = "clock",
                      .argument = "host|icount",
                      .initial = "host",
                      .help = "What moves the guest's time: the host's clock, or the count of its "
                              "instructions. With icount two runs "
                              "with the same input are the same to the last bit."},
    [OPTION_ENGINE] =
        {.name = "engine",
         .argument = "auto|interp|jit",
         .initial = "auto",
         .host = true,
         .help = "What executes the guest's instructions: decoded instructions one by one (interp), "
                 "or host code that hot parts are translated to (jit, which is what auto takes)."},
    [OPTION_JIT_CACHE] =
        {.name = "jit-cache",
         .argument = "SIZE",
         .initial = "64M",
         .host = true,
         .help = "Memory for translated code of all virtual CPUs. What one has is made anew when nothing "
                 "is left."},
    [OPTION_JIT_THRESHOLD] =
        {.name = "jit-threshold",
         .argument = "N",
         .initial = "20",
         .host = true,
         .help = "A part of the guest's code is translated when it is executed for the Nth time."},
    [OPTION_JIT_PERF_MAP] = {.name = "jit-perf-map",
                             .host = true,
                             .help = "Name translated code for perf, in /tmp/perf-PID.map."},
    [OPTION_NO_REBOOT] =
        {.name = "no-reboot",
         .help =
             "A reset by the guest ends the machine; after a triple fault with a report and exit status 2."},
    [OPTION_TRACE] = {.name = "trace",
                      .argument = "KIND[,KIND...][,file=FILE]",
                      .host = true,
                      .help = "Write a line for each instruction (exec), interrupt and exception (int), port "
                              "access (io), access to "
                              "memory-mapped registers (mmio), or what the translator makes of guest code "
                              "(jit), to standard error or a file."},
    [OPTION_NAME] = {.name = "name",
                     .argument = "VM",
                     .host = true,
                     .help = "What other commands call this machine; vm-PID by default."},
    [OPTION_COUNT] = {.name = NULL},
};

static int (*const parsers[])(const char *, union option_value *, struct error *) = {
    [OPTION_KERNEL] = parse_file,
    [OPTION_INITRD] = parse_file,
    [OPTION_APPEND] = parse_text,
    [OPTION_FIRMWARE] = parse_file,
    [OPTION_MEMORY] = parse_memory,
    [OPTION_CPUS] = parse_cpus,
    [OPTION_CPU] = parse_cpu,
    [OPTION_DISK] = parse_disk,
    [OPTION_SERIAL] = parse_serial,
    [OPTION_DEBUGCON] = parse_debugcon,
    [OPTION_DEBUG_EXIT] = parse_debug_exit,
    [OPTION_RTC] = parse_rtc,
    [OPTION_CLOCK] = parse_clock,
    [OPTION_ENGINE] = parse_engine,
    [OPTION_JIT_CACHE] = parse_jit_cache,
    [OPTION_JIT_THRESHOLD] = parse_jit_threshold,
    [OPTION_JIT_PERF_MAP] = parse_switch,
    [OPTION_NO_REBOOT] = parse_switch,
    [OPTION_TRACE] = parse_trace,
    [OPTION_NAME] = parse_name,
};

const struct plastron_option *plastron_options(void)
{
    return options;
}

/* Free what parsing `id` allocated in `value`. */
static void value_free(enum option_id id, union option_value *value)
{
    if (id == OPTION_DISK)
        free(value->disk.file);
    else if (id == OPTION_DEBUGCON)
        free(value->debugcon.file);
    else if (id == OPTION_TRACE)
        free(value->trace.file);
}

plastron_config *plastron_config_new(void)
{
    return calloc(1, sizeof(struct plastron_config));
}

static void option_clear(struct plastron_config *config, enum option_id id)
{
    for (unsigned n = 0; n < config->values[id].count; n++)
        free(config->values[id].text[n]);
    config->values[id].count = 0;
}

void plastron_config_free(plastron_config *config)
{
    for (int id = 0; config && id < OPTION_COUNT; id++)
        option_clear(config, (enum option_id)id);
    free(config);
}

static int option_set(struct plastron_config *config, enum option_id id, const char *text, struct error *err)
{
    union option_value value;
    unsigned limit = id == OPTION_SERIAL ? CONFIG_SERIALS : CONFIG_REPEATS;

    if (parsers[id](text, &value, err))
        return error_prefix(err, "%s", options[id].name);
    value_free(id, &value);
    if (!options[id].repeat)
        option_clear(config, id);
    if (config->values[id].count == limit)
        return error_set(err, "%s: there can be at most %u of them", options[id].name, limit);
    json_t *json = json_string(text); /* snapshots keep it as JSON */
    json_decref(json);
    if (!json)
        return error_set(err, "%s: '%s' is not UTF-8 text", options[id].name, text);
    char *copy = strdup(text);
    if (!copy)
        return error_set(err, "out of memory");
    config->values[id].text[config->values[id].count++] = copy;
    return 0;
}

int plastron_config_set(plastron_config *config, const char *key, const char *value,
                        struct plastron_error *err)
{
    struct text_nearest nearest = {0};
    struct error e = {0};
    int id, result = 0;

    for (id = 0; id < OPTION_COUNT && strcmp(options[id].name, key); id++)
        text_nearest_offer(&nearest, key, options[id].name);
    if (id < OPTION_COUNT)
        result = option_set(config, (enum option_id)id, value, &e);
    else if (nearest.best)
        result = error_set(&e, "there is no option '%s'; is '%s' meant?", key, nearest.best);
    else
        result = error_set(&e, "there is no option '%s'", key);
    if (result && err)
        memcpy(err->text, e.text, sizeof(err->text));
    return result;
}

const char *plastron_config_get(const plastron_config *config, const char *key, unsigned n)
{
    int id = 0;

    while (id < OPTION_COUNT && strcmp(options[id].name, key))
        id++;
    return id < OPTION_COUNT && n < config->values[id].count ? config->values[id].text[n] : NULL;
}

struct plastron_config *config_copy(const struct plastron_config *config)
{
    struct plastron_config *copy = plastron_config_new();

    for (int id = 0; copy && id < OPTION_COUNT; id++)
        for (unsigned n = 0; n < config->values[id].count; n++)
            if (option_set(copy, (enum option_id)id, config->values[id].text[n], NULL)) {
                plastron_config_free(copy);
                return NULL;
            }
    return copy;
}

int config_override_host(struct plastron_config *config, const struct plastron_config *from,
                         struct error *err)
{
    for (int id = 0; id < OPTION_COUNT; id++) {
        if (!from->values[id].count)
            continue;
        if (!options[id].host)
            return error_set(err, "%s: it is part of the saved machine and cannot be changed",
                             options[id].name);
        option_clear(config, (enum option_id)id);
        for (unsigned n = 0; n < from->values[id].count; n++)
            if (option_set(config, (enum option_id)id, from->values[id].text[n], err))
                return -1;
    }
    return 0;
}

json_t *config_to_json(const struct plastron_config *config)
{
    json_t *json = json_object();

    for (int id = 0; json && id < OPTION_COUNT; id++) {
        if (!config->values[id].count)
            continue;
        json_t *texts = json_array();
        for (unsigned n = 0; n < config->values[id].count; n++)
            json_array_append_new(texts, json_string_nocheck(config->values[id].text[n]));
        json_object_set_new(json, options[id].name, texts);
    }
    return json;
}

struct plastron_config *config_from_json(const json_t *json, struct error *err)
{
    struct plastron_config *config = plastron_config_new();
    struct plastron_error e = {{0}};
    const char *key;
    json_t *texts, *text;
    size_t n;

    if (!config || !json_is_object(json)) {
        error_set(err, "the recorded options are not an object");
        goto bad;
    }
    json_object_foreach ((json_t *)json, key, texts) {
        json_array_foreach (texts, n, text) {
            if (!json_is_string(text) || plastron_config_set(config, key, json_string_value(text), &e)) {
                error_set(err, "the recorded option %s: %s", key, e.text[0] ? e.text : "is not text");
                goto bad;
            }
        }
    }
    return config;
bad:
    plastron_config_free(config);
    return NULL;
}

/* Append a file name, absolute, with commas doubled where the name stands in a list. */
static void put_file(FILE *out, const char *folder, const char *file, size_t len, bool double_commas)
{
    if (file[0] != '/' && len) {
        for (const char *c = folder; *c; c++)
            fprintf(out, "%c%s", *c, *c == ',' && double_commas ? "," : "");
        fputc('/', out);
    }
    fwrite(file, 1, len, out);
}

/* The text of an option with its file names made absolute. */
static char *absolute_text(enum option_id id, const char *text, const char *folder)
{
    char *result = NULL;
    size_t size;
    FILE *out = open_memstream(&result, &size);

    if (!out)
        return NULL;
    if (id == OPTION_KERNEL || id == OPTION_FIRMWARE) {
        put_file(out, folder, text, strlen(text), false);
    } else if (id == OPTION_DISK || id == OPTION_DEBUGCON) {
        put_file(out, folder, text, strlen(text), true);
    } else if (id == OPTION_INITRD) { /* FILE or FILE ARGS,FILE ARGS; a doubled comma is part of a name */
        while (*text) {
            size_t len = 0;
            while (text[len] && !(text[len] == ',' && text[len + 1] != ','))
                len += text[len] == ',' ? 2 : 1;
            put_file(out, folder, text, len, true);
            text += len;
            if (*text)
                fputc(*text++, out);
        }
    } else if (id == OPTION_SERIAL && strchr(text, ':')) {
        const char *file = strchr(text, ':') + 1;
        fwrite(text, 1, (size_t)(file - text), out);
        put_file(out, folder, file, strlen(file), false);
    } else {
        fputs(text, out);
    }
    if (!fclose(out))
        return result;
    free(result);
    return NULL;
}

struct plastron_config *config_absolute(const struct plastron_config *config, const char *folder)
{
    struct plastron_config *copy = plastron_config_new();

    for (int id = 0; copy && id < OPTION_COUNT; id++)
        for (unsigned n = 0; id != OPTION_TRACE && n < config->values[id].count; n++) {
            char *text = absolute_text((enum option_id)id, config->values[id].text[n], folder);
            int failed = !text || option_set(copy, (enum option_id)id, text, NULL);
            free(text);
            if (failed) {
                plastron_config_free(copy);
                return NULL;
            }
        }
    return copy;
}

const char *config_serial(const struct plastron_config *config, unsigned n)
{
    if (!config->values[OPTION_SERIAL].count)
        return n ? "none" : "stdio";
    const char *text = config_text(config, OPTION_SERIAL, n);
    return text ? text : "none";
}

const char *config_text(const struct plastron_config *config, enum option_id id, unsigned n)
{
    return n < config->values[id].count ? config->values[id].text[n] : n ? NULL : options[id].initial;
}

/* Parse again a text that was checked when it was set. */
static union option_value option_value(const struct plastron_config *config, enum option_id id, unsigned n)
{
    union option_value value = {0};
    const char *text = config_text(config, id, n);

    if (text && parsers[id](text, &value, NULL))
        abort();
    return value;
}

u64 config_memory(const struct plastron_config *config)
{
    return option_value(config, OPTION_MEMORY, 0).number;
}

u64 config_jit_cache(const struct plastron_config *config)
{
    return option_value(config, OPTION_JIT_CACHE, 0).number;
}

u32 config_jit_threshold(const struct plastron_config *config)
{
    return (u32)option_value(config, OPTION_JIT_THRESHOLD, 0).number;
}

unsigned config_cpus(const struct plastron_config *config)
{
    return (unsigned)option_value(config, OPTION_CPUS, 0).number;
}

void config_cpu(const struct plastron_config *config, struct cpu_model *model)
{
    *model = option_value(config, OPTION_CPU, 0).cpu;
}

enum clock_driver config_clock(const struct plastron_config *config)
{
    static const enum clock_driver drivers[] = {CLOCK_HOST, CLOCK_ICOUNT};

    return drivers[option_value(config, OPTION_CLOCK, 0).word];
}

bool config_switch(const struct plastron_config *config, enum option_id id)
{
    return option_value(config, id, 0).on;
}

i64 config_rtc(const struct plastron_config *config)
{
    if (!config->values[OPTION_RTC].count && config_clock(config) == CLOCK_ICOUNT)
        return RTC_ICOUNT_START;
    i64 seconds = config->values[OPTION_RTC].count ? option_value(config, OPTION_RTC, 0).seconds : -1;
    return seconds < 0 ? (i64)time(NULL) : seconds;
}

bool config_debug_exit(const struct plastron_config *config, u16 *port)
{
    u64 number = option_value(config, OPTION_DEBUG_EXIT, 0).number;

    *port = (u16)number;
    return config->values[OPTION_DEBUG_EXIT].count && number <= 0xffff;
}

void config_disk(const struct plastron_config *config, unsigned n, struct disk_config *disk)
{
    *disk = option_value(config, OPTION_DISK, n).disk;
}

void config_debugcon(const struct plastron_config *config, unsigned n, struct debugcon_config *debugcon)
{
    *debugcon = option_value(config, OPTION_DEBUGCON, n).debugcon;
}

void config_trace(const struct plastron_config *config, struct trace_config *trace)
{
    *trace = option_value(config, OPTION_TRACE, 0).trace;
}
