/* Reading what people type: numbers, sizes, words of a list, and the nearest word to a mistyped one. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/error.h"
#include "base/types.h"

/* A whole number, decimal or 0x hexadecimal, within [min, max]. The texts of errors say what is wanted, not what for:
   callers put the name in front with error_prefix. */
MUST_CHECK int text_number(const char *text, u64 min, u64 max, u64 *value, struct error *err);

/* A size in bytes: a number, or one with K, M, G or T (powers of 1024) behind it, as 512M or 1.5G. */
MUST_CHECK int text_size(const char *text, u64 *bytes, struct error *err);

/* "on" or "off" (also yes, no, true, false). */
MUST_CHECK int text_switch(const char *text, bool *value, struct error *err);

/* The index of `text` in `words` (ends with NULL); the error lists them all. */
MUST_CHECK int text_word(const char *text, const char *const *words, unsigned *index, struct error *err);

/*
 * Find the known word that a mistyped one is nearest to: start with {0}, offer each known word, read `best` (NULL: nothing
 * is near enough to be what was meant).
 */
struct text_nearest {
    const char *best;
    unsigned distance;
};
void text_nearest_offer(struct text_nearest *nearest, const char *typed, const char *known);

/* Seconds since 1970 of a date in UTC: 2026-01-31 or 2026-01-31T12:34:56, years 1970 to 2099. */
MUST_CHECK int text_date(const char *text, i64 *seconds, struct error *err);

#endif
