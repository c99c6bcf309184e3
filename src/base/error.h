/*
 * An error that a person can act on (invariant 10).
 *
 * Fallible functions return 0 on success and -1 on failure, take a `struct error *` as their last parameter, and
 * leave one sentence in it that names the thing and says what to do. The caller that gives up reports it, once.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/types.h"

struct error {
    char text[512]; /* no newline at the end; empty while there is no error */
};

/* Set the text (truncated to fit). Always returns -1, so that `return error_set(...)` reads well. `err` may be NULL. */
int error_set(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* As error_set, with ": " and the text of `errno_value` appended. */
int error_set_errno(struct error *err, int errno_value, const char *format, ...) PRINTF_LIKE(3, 4);

/* Put `format`'s text and ": " in front of what `err` says already. Always returns -1. */
int error_prefix(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
