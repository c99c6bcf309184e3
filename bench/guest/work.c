/*
 * Our own programs among the entries of `make bench`, in one static binary: `work NAME` does one of them and prints a
 * checksum, so that an engine that computes wrongly is seen, and so that the compiler computes at all.
 *
 * Built with -ffp-contract=off and without -ffast-math: the sums are the same on every CPU.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory) {
        perror("work");
        exit(1);
    }
    return memory;
}

/* A checksum that sees the place of every value. */
static uint64_t sum_of(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t sum = 0, word;

    for (size_t i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
        memcpy(&word, bytes + i, sizeof(word));
        sum = sum * 31 + word;
    }
    return sum;
}

/* By table, a byte at a time, and bit by bit. */
static uint64_t crc32(void)
{
    enum { SIZE = 1 << 16, TURNS = 4000, BITWISE = 5000000 };
    uint8_t *data = allocate(SIZE);
    uint32_t table[256], crc = ~0u;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        table[i] = value;
    }
    for (int i = 0; i < SIZE; i++)
        data[i] = (uint8_t)next_random();
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < SIZE; i++)
            crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    for (uint32_t i = 0; i < BITWISE; i++) {
        crc ^= i & 0xff;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    free(data);
    return crc;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint64_t sort(void)
{
    enum { COUNT = 2500000 };
    uint32_t *numbers = allocate(COUNT * sizeof(*numbers));

    for (int i = 0; i < COUNT; i++)
        numbers[i] = (uint32_t)next_random();
    qsort(numbers, COUNT, sizeof(*numbers), compare);
    uint64_t sum = sum_of(numbers, COUNT * sizeof(*numbers));
    free(numbers);
    return sum;
}

static uint64_t sieve(void)
{
    enum { LIMIT = 2000000, TURNS = 100 };
    uint8_t *composite = allocate(LIMIT);
    uint64_t count = 0;

    for (int turn = 0; turn < TURNS; turn++) {
        memset(composite, 0, LIMIT);
        for (uint64_t i = 2; i < LIMIT; i++) {
            if (composite[i])
                continue;
            count++;
            for (uint64_t j = i * i; j < LIMIT; j += i)
                composite[j] = 1;
        }
    }
    free(composite);
    return count;
}

static unsigned __attribute__((noinline, optimize("no-optimize-sibling-calls"))) fibonacci(unsigned n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static unsigned __attribute__((noinline)) ackermann(unsigned m, unsigned n)
{
    return m == 0 ? n + 1 : ackermann(m - 1, n ? ackermann(m, n - 1) : 1);
}

static uint64_t recursion(void)
{
    return fibonacci(38) * 1000ull + ackermann(3, 10);
}

/* A chain of pointers in random order through more than the caches hold, and copies of blocks of several sizes. */
static uint64_t memory(void)
{
    enum { COUNT = 1 << 20, STEPS = 5000000, BLOCK = 4 << 20, COPIES = 60 };
    uint32_t *next = allocate(COUNT * 16 * sizeof(*next)), place = 0;
    uint8_t *from = allocate(BLOCK), *to = allocate(BLOCK);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < COUNT; i++)
        next[i * 16] = i;
    for (uint32_t i = COUNT - 1; i > 0; i--) { /* Sattolo: one cycle through all */
        uint32_t other = (uint32_t)(next_random() % i), saved = next[i * 16];
        next[i * 16] = next[other * 16];
        next[other * 16] = saved;
    }
    for (int i = 0; i < STEPS; i++) {
        place = next[place * 16];
        sum += place;
    }
    for (int i = 0; i < BLOCK; i++)
        from[i] = (uint8_t)i;
    for (int turn = 0; turn < COPIES; turn++) {
        memcpy(to, from, BLOCK);
        for (int i = 0; i < BLOCK; i += 4096)
            memcpy(from + i, to + BLOCK - 4096 - i, (size_t)(turn * 97 % 4096));
    }
    sum += sum_of(from, BLOCK);
    free(next);
    free(from);
    free(to);
    return sum;
}

static uint64_t matrix(void)
{
    enum { N = 128, TURNS = 60 };
    double(*a)[N] = allocate(sizeof(double[N][N])), (*b)[N] = allocate(sizeof(double[N][N]));
    double(*c)[N] = allocate(sizeof(double[N][N]));

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)(next_random() % 1000) / 7;
            b[i][j] = (double)(next_random() % 1000) / 3;
        }
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double total = 0;
                for (int k = 0; k < N; k++)
                    total += a[i][k] * b[k][j];
                c[i][j] += total;
            }
    uint64_t sum = sum_of(c, sizeof(double[N][N]));
    free(a);
    free(b);
    free(c);
    return sum;
}

/* Sine, exponential, logarithm, power, root. The C library picks its variants by the CPU's features and may differ in the
   last bits, so the sum is rounded. */
static uint64_t functions(void)
{
    double total = 0;

    for (int i = 1; i <= 1000000; i++) {
        double x = (double)i / 1000;
        total += sin(x) * cos(x / 3) + exp(-x / 50) + log(x) + sqrt(x) + pow(x, 0.3) + atan2(x, 7);
    }
    return (uint64_t)llround(total * 100);
}

/* Loops that the compiler makes vector code of, AVX2 where the CPU has it. */
enum { VECTOR = 4096 };

static inline __attribute__((always_inline)) void vector_step(float *x, float *y, int32_t *n, uint8_t *b,
                                                              float factor)
{
    for (int i = 0; i < VECTOR; i++)
        y[i] = y[i] * 0.5f + x[i] * factor;
    for (int i = 0; i < VECTOR; i++)
        n[i] = (n[i] << 5) - n[i] + (int32_t)y[i];
    for (int i = 0; i < VECTOR; i++)
        b[i] = (uint8_t)(b[i] > 100 ? b[i] - (uint8_t)n[i] : b[i] + 7);
    for (int i = 0; i < VECTOR; i++)
        x[i] = x[i] > 2000.0f ? 1.0f : x[i] + (float)b[i];
}

__attribute__((target("avx2"), optimize("O3"))) static void vector_avx2(float *x, float *y, int32_t *n,
                                                                        uint8_t *b, float f)
{
    vector_step(x, y, n, b, f);
}

__attribute__((optimize("O3"))) static void vector_sse2(float *x, float *y, int32_t *n, uint8_t *b, float f)
{
    vector_step(x, y, n, b, f);
}

static uint64_t vector(void)
{
    enum { TURNS = 2000 };
    static float x[VECTOR], y[VECTOR];
    static int32_t n[VECTOR];
    static uint8_t b[VECTOR];
    int avx2 = __builtin_cpu_supports("avx2");

    for (int i = 0; i < VECTOR; i++) {
        x[i] = (float)(next_random() % 1000) / 7;
        n[i] = (int32_t)next_random();
        b[i] = (uint8_t)next_random();
    }
    for (int turn = 0; turn < TURNS; turn++)
        (avx2 ? vector_avx2 : vector_sse2)(x, y, n, b, (float)(turn % 10));
    return sum_of(x, sizeof(x)) + sum_of(y, sizeof(y)) + sum_of(n, sizeof(n)) + sum_of(b, sizeof(b));
}

static uint64_t getppid_loop(void)
{
    uint64_t same = 0;
    long parent = syscall(SYS_getppid);

    for (int i = 0; i < 3000000; i++)
        same += syscall(SYS_getppid) == parent;
    return same;
}

static uint64_t fork_exec(void)
{
    uint64_t good = 0;

    for (int i = 0; i < 100; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        if (child > 0 && waitpid(child, &status, 0) == child)
            good += status == 0;
    }
    return good;
}

/* One byte forth and back between two processes. */
static uint64_t pipe_turns(void)
{
    enum { TURNS = 20000 };
    int there[2], back[2];
    uint64_t sum = 0;

    if (pipe(there) || pipe(back))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        uint8_t byte;
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte += 3;
            if (write(back[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    for (int i = 0; i < TURNS; i++) {
        uint8_t byte = (uint8_t)i;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            break;
        sum = sum * 31 + byte;
    }
    close(there[1]);
    waitpid(child, NULL, 0);
    return sum;
}

/* Map, fault in every page, unmap. */
static uint64_t mmap_loop(void)
{
    enum { TURNS = 1500, PAGES = 64, PAGE = 4096 };
    uint64_t faults = 0;

    for (int turn = 0; turn < TURNS; turn++) {
        uint8_t *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            return 0;
        for (int i = 0; i < PAGES; i++) {
            faults += pages[i * PAGE] == 0;
            pages[i * PAGE] = 1;
        }
        munmap(pages, PAGES * PAGE);
    }
    return faults;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        uint64_t (*work)(void);
    } parts[] = {
        {"crc32", crc32},         {"qsort", sort},      {"sieve", sieve},
        {"recursion", recursion}, {"memory", memory},   {"matrix", matrix},
        {"functions", functions}, {"vector", vector},   {"getppid", getppid_loop},
        {"fork-exec", fork_exec}, {"pipe", pipe_turns}, {"mmap", mmap_loop},
    };

    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        if (count == 2 && strcmp(words[1], parts[i].name) == 0) {
            printf("%s %016llx\n", words[1], (unsigned long long)parts[i].work());
            return 0;
        }
    fprintf(stderr, "usage: work NAME\n");
    return 1;
}
