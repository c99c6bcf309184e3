/*
 * The work that `make bench` measures, run inside the guest: one static program, each part between two lines that the
 * host stamps with its own clock as they arrive. Every part prints a checksum, so that an engine that computes wrongly is
 * seen, and so that the compiler computes at all.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Loops of integer arithmetic: a CRC bit by bit, recursion, multiplication and division. */
static unsigned fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t integer_loops(void)
{
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < 2000000; i++) {
        crc ^= i & 0xff;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    uint64_t gcds = 0;
    for (uint64_t a = 1; a < 1000; a++)
        for (uint64_t b = 1; b < 300; b++) {
            uint64_t x = a, y = b;
            while (y) {
                uint64_t rest = x % y;
                x = y;
                y = rest;
            }
            gcds += x;
        }
    return crc + gcds + fib(29);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t sort(void)
{
    enum { COUNT = 300000 };
    uint32_t *numbers = malloc(COUNT * sizeof(*numbers));
    uint64_t sum = 0;

    for (int i = 0; i < COUNT; i++)
        numbers[i] = (uint32_t)next_random();
    qsort(numbers, COUNT, sizeof(*numbers), compare);
    for (int i = 0; i < COUNT; i++)
        sum = sum * 31 + numbers[i];
    free(numbers);
    return sum;
}

static uint64_t sieve(void)
{
    enum { LIMIT = 8000000 };
    uint8_t *composite = calloc(LIMIT, 1);
    uint64_t count = 0;

    for (uint64_t i = 2; i < LIMIT; i++) {
        if (composite[i])
            continue;
        count++;
        for (uint64_t j = i * i; j < LIMIT; j += i)
            composite[j] = 1;
    }
    free(composite);
    return count;
}

static uint64_t matmul(void)
{
    enum { N = 200 };
    double(*a)[N] = malloc(sizeof(double[N][N])), (*b)[N] = malloc(sizeof(double[N][N]));
    double(*c)[N] = calloc(N, sizeof(double[N]));
    uint64_t sum = 0;

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next_random() % 1000) / 7;
            b[i][j] = (double)(next_random() % 1000) / 3;
        }
    for (int turn = 0; turn < 4; turn++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double total = 0;
                for (int k = 0; k < N; k++)
                    total += a[i][k] * b[k][j];
                c[i][j] += total;
            }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            uint64_t bits;
            memcpy(&bits, &c[i][j], sizeof(bits));
            sum = sum * 31 + bits;
        }
    free(a);
    free(b);
    free(c);
    return sum;
}

static uint64_t system_calls(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 400000; i++)
        sum += (uint64_t)syscall(SYS_getppid);
    return sum;
}

/* Send out what was printed: the line has left the guest before the next work begins. */
static void drain(void)
{
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

int main(void)
{
    static const struct {
        const char *name;
        uint64_t (*work)(void);
    } parts[] = {
        {"integer", integer_loops}, {"qsort", sort},           {"sieve", sieve},
        {"matmul", matmul},         {"getppid", system_calls},
    };

    printf("BENCH boot end\n");
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        printf("BENCH %s begin\n", parts[i].name);
        drain();
        uint64_t sum = parts[i].work();
        printf("BENCH %s end\nBENCH %s sum %016llx\n", parts[i].name, parts[i].name, (unsigned long long)sum);
        drain();
    }
    printf("BENCH all done\n");
    drain();
    return 0;
}
