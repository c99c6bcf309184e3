/*
 * Log lines on standard error, with a level per module that is chosen at run time:
 * PLASTRON_LOG=dev/uart16550:debug,machine:info (a module name or a prefix of one; `*` for all).
 *
 * A source file says `#define LOG_MODULE "dev/uart16550"` before it includes this. The default level is `warn`.
 * The configuration is read once, on first use, and is the one process-wide state that invariant 9 lets be.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Whether a line of this level is wanted from this module. Thread-safe. */
bool log_wanted(const char *module, enum log_level level);

/* Write one line. Thread-safe; lines do not interleave. */
void log_write(const char *module, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_at(level, ...)                                                                                   \
    do {                                                                                                     \
        if (log_wanted(LOG_MODULE, level))                                                                   \
            log_write(LOG_MODULE, level, __VA_ARGS__);                                                       \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
