/*
 * The C library's string functions, of which it picks the variant for the processor: all alignments, all short lengths, with
 * the operands ending at the end of a page that no page follows, or beginning where none precedes. Each result is
 * compared with a loop's, so this judges itself; what it prints is compared with the host's all the same.
 */
#include "report.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <wchar.h>

enum { PAGE = 4096, LONGEST = 300 };

static char *area(void)
{
    char *whole = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED || mprotect(whole, PAGE, PROT_NONE) ||
        mprotect(whole + 3 * PAGE, PAGE, PROT_NONE)) {
        perror("mmap");
        exit(1);
    }
    return whole + PAGE;
}

static int sign(long x)
{
    return (x > 0) - (x < 0);
}

static void check(int right, const char *what, int length, int place)
{
    if (!right) {
        printf("wrong: %s, length %d, place %d\n", what, length, place);
        exit(1);
    }
}

/* One length at one place: the text is `length` bytes at p, another copy at q, and nothing may be touched beyond. */
static void functions(char *p, char *q, char *to, int length, int place)
{
    int middle = length / 2, different = length ? (int)(random_u64() % length) : 0;
    for (int i = 0; i < length; i++) {
        p[i] = q[i] = 'a' + random_u64() % 20;
    }
    check(memcmp(p, q, length) == 0, "memcmp of equals", length, place);
    if (length) {
        q[different] ^= 0x81;
        check(sign(memcmp(p, q, length)) == sign((uint8_t)p[different] - (uint8_t)q[different]), "memcmp",
              length, place);
        q[different] = p[different];
        p[middle] = 'Z';
        check(memchr(p, 'Z', length) == p + middle, "memchr", length, place);
        check(memrchr(p, 'Z', length) == p + middle, "memrchr", length, place);
        check(memchr(p, '#', length) == NULL && memrchr(p, '#', length) == NULL, "memchr of nothing", length,
              place);
        check(memmem(p, length, p + middle, length - middle) == p + middle, "memmem", length, place);
    }
    check(memcpy(to, p, length) == to && memcmp(to, p, length) == 0, "memcpy", length, place);
    if (length > 8) {
        char copy[LONGEST];
        for (int shift = 1; shift < 8; shift += 3) {
            memcpy(copy, p, length);
            memmove(p + shift, p, length - shift);
            check(memcmp(p + shift, copy, length - shift) == 0, "memmove up", length, place);
            memcpy(p, copy, length);
            memmove(p, p + shift, length - shift);
            check(memcmp(p, copy + shift, length - shift) == 0, "memmove down", length, place);
            memcpy(p, copy, length);
        }
    }
    memset(to, 'x', length);
    for (int i = 0; i < length; i++) {
        check(to[i] == 'x', "memset", length, place);
    }
    report_bytes(p, length);
}

/* The same for strings, which end in a zero at p + length - 1. */
static void string_functions(char *p, char *q, char *to, int length, int place)
{
    int last = length - 1, different = last ? (int)(random_u64() % last) : 0;
    for (int i = 0; i < last; i++) {
        p[i] = q[i] = 'a' + random_u64() % 20;
    }
    p[last] = q[last] = 0;
    check(strlen(p) == (size_t)last && strnlen(p, LONGEST) == (size_t)last, "strlen", length, place);
    check(strcmp(p, q) == 0 && strncmp(p, q, LONGEST) == 0 && strcasecmp(p, q) == 0, "strcmp of equals",
          length, place);
    if (last) {
        q[different] = 'A' + random_u64() % 20;
        check(strcmp(p, q) > 0 && strcmp(q, p) < 0, "strcmp", length, place);
        check(strncmp(p, q, different) == 0 && strncmp(p, q, different + 1) > 0, "strncmp", length, place);
        check(strchr(q, q[different]) <= q + different && *strchr(q, q[different]) == q[different], "strchr",
              length, place);
        check(strrchr(q, q[different]) >= q + different, "strrchr", length, place);
        char set[2] = {q[different], 0};
        check(strcspn(q, set) == (size_t)(strchr(q, q[different]) - q), "strcspn", length, place);
        check(strpbrk(q, set) == strchr(q, q[different]), "strpbrk", length, place);
        check(strspn(p, "abcdefghijklmnopqrst") == (size_t)last, "strspn", length, place);
        check(strstr(p, p + different) <= p + different, "strstr", length, place);
        q[different] = p[different];
    }
    check(strchr(p, '#') == NULL && strchrnul(p, '#') == p + last && strchr(p, 0) == p + last, "strchr",
          length, place);
    check(strcpy(to, p) == to && memcmp(to, p, length) == 0 && stpcpy(to, p) == to + last, "strcpy", length,
          place);
    memset(to, 'x', length);
    check(strncpy(to, p, length) == to && memcmp(to, p, length) == 0, "strncpy", length, place);
    if (last > 3) {
        to[2] = 0;
        check(strcat(to, p + 2) == to && memcmp(to, p, length) == 0, "strcat", length, place);
    }
    report_bytes(p, length);
}

static void wide_functions(wchar_t *p, int length, int place)
{
    for (int i = 0; i < length; i++) {
        p[i] = i + 1 == length ? 0 : 0x10000 + random_u64() % 1000;
    }
    check(wcslen(p) == (size_t)length - 1, "wcslen", length, place);
    check(wmemchr(p, p[length / 2], length) <= p + length / 2, "wmemchr", length, place);
    check(wcschr(p, 0x20) == NULL && wcschr(p, 0) == p + length - 1, "wcschr", length, place);
    check(wmemcmp(p, p, length) == 0 && wcscmp(p, p) == 0, "wmemcmp", length, place);
    report_bytes(p, length * sizeof *p);
}

int main(int count, char **words)
{
    char *first = area(), *second = area(), *third = area();
    report_wanted = count > 1 ? words[1] : NULL;
    report_begin("memory");
    for (int length = 0; length < LONGEST; length += length < 140 ? 1 : 17) {
        for (int place = 0; place < 34; place++) {
            int end = 2 * PAGE - length;
            functions(first + end - place, second + end, third + end - place / 2, length, place);
            functions(first + place, second, third + place / 3, length, place);
            functions(first + PAGE - place, second + PAGE - length / 2, third + PAGE + place, length, place);
        }
    }
    report_end();
    report_begin("strings");
    for (int length = 1; length < LONGEST; length += length < 140 ? 1 : 17) {
        for (int place = 0; place < 34; place++) {
            int end = 2 * PAGE - length;
            string_functions(first + end, second + end - place, third + end - place / 2, length, place);
            string_functions(first + end - place, second + end, third + end, length, place);
            string_functions(first + place, second, third + place, length, place);
            string_functions(first + PAGE - place, second + PAGE - length / 2, third + PAGE + place, length,
                             place);
        }
    }
    report_end();
    report_begin("wide");
    for (int length = 1; length < 100; length++) {
        for (int place = 0; place < 20; place++) {
            wide_functions((wchar_t *)(first + 2 * PAGE) - length - place, length, place);
            wide_functions((wchar_t *)first + place, length, place);
        }
    }
    report_end();
    return 0;
}
