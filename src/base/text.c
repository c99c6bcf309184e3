#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

int text_number(const char *text, u64 min, u64 max, u64 *value, struct error *err)
{
    char *end;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

    if (!isdigit((unsigned char)text[0]))
        return error_set(err, "'%s' is not a whole number", text);
    errno = 0;
    unsigned long long n = strtoull(text, &end, hex ? 16 : 10);
    if (*end || (hex && end == text + 1))
        return error_set(err, "'%s' is not a whole number", text);
    if (errno == ERANGE || n < min || n > max)
        return error_set(err, "%s is not between %llu and %llu", text, (unsigned long long)min,
                         (unsigned long long)max);
    *value = n;
    return 0;
}

int text_size(const char *text, u64 *bytes, struct error *err)
{
    static const char units[] = "KMGT";
    char *end;

    if (!isdigit((unsigned char)text[0]))
        goto bad;
    errno = 0;
    unsigned long long whole = strtoull(text, &end, 10);
    u64 thousandths = 0;
    if (*end == '.') {
        u64 weight = 100;
        if (!isdigit((unsigned char)end[1]))
            goto bad;
        for (end++; isdigit((unsigned char)*end); end++, weight /= 10)
            thousandths += weight * (u64)(*end - '0');
    }
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (unit)
        end++;
    if (*end || (thousandths && !shift))
        goto bad;
    if (errno == ERANGE || whole > UINT64_MAX >> shift)
        return error_set(err, "%s is too large", text);
    *bytes = (whole << shift) + (thousandths << shift) / 1000;
    return 0;
bad:
    return error_set(err, "'%s' is not a size: write it as 512M or 2G", text);
}

int text_switch(const char *text, bool *value, struct error *err)
{
    static const char *const words[] = {"on", "off", "yes", "no", "true", "false"};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        if (!strcmp(text, words[i])) {
            *value = i % 2 == 0;
            return 0;
        }
    return error_set(err, "'%s' is neither on nor off", text);
}

int text_word(const char *text, const char *const *words, unsigned *index, struct error *err)
{
    char list[256];
    size_t len = 0;

    list[0] = 0;
    for (unsigned i = 0; words[i]; i++) {
        if (!strcmp(text, words[i])) {
            *index = i;
            return 0;
        }
        if (len < sizeof(list))
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "", words[i]);
    }
    return error_set(err, "'%s' is not one of %s", text, list);
}

/* Edits (insert, delete, replace, swap of neighbours) from one word to the other, case not counted. */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    unsigned row[3][MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX || lb > MAX)
        return UINT32_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            unsigned d = last[j - 1] + !same;
            if (last[j] + 1 < d)
                d = last[j] + 1;
            if (now[j - 1] + 1 < d)
                d = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            now[j] = d;
        }
    }
    return row[la % 3][lb];
}

void text_nearest_offer(struct text_nearest *nearest, const char *typed, const char *known)
{
    size_t len = strlen(typed);
    /* A word that was cut short is near, however much is missing; otherwise a third of it may be wrong. */
    unsigned distance = len >= 3 && !strncasecmp(typed, known, len) ? 1 : edit_distance(typed, known);

    if (distance > 1 + len / 3 || (nearest->best && distance >= nearest->distance))
        return;
    nearest->best = known;
    nearest->distance = distance;
}

int text_date(const char *text, i64 *seconds, struct error *err)
{
    struct tm tm = {0};
    int used = 0;

    if (sscanf(text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &used) != 3)
        goto bad;
    const char *rest = text + used;
    if (*rest) {
        if (sscanf(rest, "T%2d:%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 3 || rest[used])
            goto bad;
    }
    if (tm.tm_year < 1970 || tm.tm_year > 2099)
        goto bad;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    struct tm wanted = tm;
    time_t t = timegm(&tm); /* corrects what is out of range, so that a 31 April shows as a difference */
    if (tm.tm_mon != wanted.tm_mon || tm.tm_mday != wanted.tm_mday || tm.tm_hour != wanted.tm_hour ||
        tm.tm_min != wanted.tm_min || tm.tm_sec != wanted.tm_sec)
        goto bad;
    *seconds = t;
    return 0;
bad:
    return error_set(err, "'%s' is not a date of 1970 to 2099: write it as 2026-01-31 or 2026-01-31T12:34:56",
                     text);
}
