#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RULES = 32 };

struct rule {
    char module[48];
    enum log_level level;
};

static struct {
    pthread_once_t once;
    struct rule rules[MAX_RULES];
    int nrules;
} config = {.once = PTHREAD_ONCE_INIT};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static void read_config(void)
{
    const char *text = getenv("PLASTRON_LOG");
    char copy[1024], *save = NULL;

    if (!text)
        return;
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *colon = strrchr(item, ':');
        struct rule *r = &config.rules[config.nrules];

        if (config.nrules == MAX_RULES)
            break;
        r->level = LOG_DEBUG;
        if (colon) {
            *colon = 0;
            for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
                if (!strcmp(colon + 1, level_names[i]))
                    r->level = (enum log_level)i;
        }
        snprintf(r->module, sizeof(r->module), "%s", strcmp(item, "*") ? item : "");
        config.nrules++;
    }
}

bool log_wanted(const char *module, enum log_level level)
{
    enum log_level limit = LOG_WARN;

    pthread_once(&config.once, read_config);
    for (int i = 0; i < config.nrules; i++)
        if (!strncmp(module, config.rules[i].module, strlen(config.rules[i].module)))
            limit = config.rules[i].level;
    return level <= limit;
}

void log_write(const char *module, enum log_level level, const char *format, ...)
{
    char line[1024];
    va_list args;
    int n = snprintf(line, sizeof(line), "plastron: %s: %s: ", module, level_names[level]);

    va_start(args, format);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    if ((size_t)n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    /* One write call, so that lines of several threads do not interleave; a closed stderr is not our problem. */
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return;
}
