/*
 * The output of the programs that are run natively and in a guest: a line for each thing computed, with a checksum of its
 * results to the last bit. With the line's name as argument a program prints the results themselves instead.
 */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char *report_name;   /* what is being computed */
static const char *report_wanted; /* of which the results are printed */
static uint64_t report_hash;      /* FNV-1a */
static unsigned long report_count;

static void report_begin(const char *name)
{
    report_name = name;
    report_hash = 0xCBF29CE484222325;
    report_count = 0;
}

static void report_bytes(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        report_hash = (report_hash ^ bytes[i]) * 0x100000001B3;
    }
    if (report_wanted && strcmp(report_wanted, report_name) == 0) {
        printf("%s %lu ", report_name, report_count);
        for (size_t i = size; i-- > 0;) {
            printf("%02x", bytes[i]);
        }
        putchar('\n');
    }
    report_count++;
}

static void report_end(void)
{
    if (!report_wanted) {
        printf("%s %lu %016llx\n", report_name, report_count, (unsigned long long)report_hash);
    }
}

/* The same numbers in every run: splitmix64. */
static uint64_t random_state = 1;

static inline uint64_t random_u64(void)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}
