/*
 * Random sequences of instructions under the interpreter and under the translator (seq.h).
 *
 *   test_seq                       the programs written by hand, then random ones: five million instructions
 *   test_seq --count N             N instructions
 *   test_seq --seed S              other ones
 *   test_seq --program SEED        one again, as a failing one prints itself
 *   test_seq --case SETUP CODE     one as text, as in cases.c
 *   test_seq --list SEED           what a program looks like
 *   test_seq --seeds FOLDER        what fuzz_jit begins with
 *   test_seq --part NAME           one of the suites
 */
#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/interp/engine.h"
#include "engine/jit/engine.h"
#include "seq.h"

enum {
    DEFAULT_COUNT = 5000000,
    PROGRAM_LENGTH = 3000,
    FREE_LENGTH = 20000,
    REPORTS = 3,
    TRACE = 24,
    TIME_LIMIT = 20
};

/* How soon a block is translated, and how large the code cache is: one translates all at once, one lets blocks link first,
   one drops all translations now and then. Two take the host for a lesser one. The last ones do not count instructions. */
#define HOST_V1 "v2,-sse3,-ssse3,-sse4_1,-sse4_2,-popcnt,-cx16,-lahf_lm"
static const struct machine_config engines[] = {
    {&jit_engine, 1, 1 << 20, false, NULL},    {&jit_engine, 3, 1 << 20, false, NULL},
    {&jit_engine, 1, 64 << 10, false, NULL},   {&jit_engine, 1, 1 << 20, false, "v2"},
    {&jit_engine, 1, 1 << 20, false, HOST_V1}, {&jit_engine, 1, 1 << 20, true, NULL},
    {&jit_engine, 3, 1 << 20, true, NULL},     {&jit_engine, 1, 64 << 10, true, NULL},
};
enum { COUNTING_ENGINES = 5 };

static struct {
    struct machine *interp, *jit[ARRAY_SIZE(engines)];
    u64 count, seed, executed, programs;
    u64 program; /* the one that runs */
    const char *part;
    unsigned failures;
} run;

/* ---- crashes ---- */

static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGALRM};

/* Say which program it was: --program takes it apart. */
static void crashed(int signo)
{
    char text[96];
    int length = snprintf(text, sizeof(text), "test_seq --program %#llx: signal %d\n",
                          (unsigned long long)run.program, signo);

    if (write(STDOUT_FILENO, text, (size_t)length) < 0)
        _exit(3);
    signal(signo, SIG_DFL);
    raise(signo);
}
/* cmocka takes the signals at the start of every test. */
static void catch_crashes(void)
{
    for (size_t n = 0; n < ARRAY_SIZE(crashes); n++)
        signal(crashes[n], crashed);
}

/* ---- one program ---- */

static bool agree(const struct image *image, const struct schedule *schedule)
{
    u32 done;

    if (!run_both(run.interp, run.jit[schedule->engine], image, schedule, NULL, &done))
        return false;
    run.executed += done;
    return true;
}

/* In a process of its own: a translation that crashes, or loops, fails like others. */
static bool agree_apart(const struct image *image, const struct schedule *schedule)
{
    pid_t child = fork();
    int status;

    if (!child) {
        for (size_t n = 0; n < ARRAY_SIZE(crashes); n++)
            signal(crashes[n], SIG_DFL);
        alarm(TIME_LIMIT);
        _exit(agree(image, schedule) ? 0 : 1);
    }
    return waitpid(child, &status, 0) == child && status == 0;
}

/* The last instructions before `done`, as the interpreter executes them. */
static void trace(const struct image *image, u32 done)
{
    struct machine *m = run.interp;

    machine_load(m, image);
    if (done > TRACE)
        machine_run(m, done - TRACE);
    for (u32 n = 0; n < TRACE && n < done; n++) {
        unsigned available;
        u64 rip = machine_state(m)->rip;
        const u8 *code = machine_code(m, rip, &available);

        if (code)
            list_instruction(stdout, rip, code, available);
        else
            printf("    %#llx\n", (unsigned long long)rip);
        machine_run(m, 1);
    }
}

static void report(const struct image *image, const struct schedule *schedule)
{
    u32 done;

    text_write_program(stdout, image, schedule);
    list_image(stdout, image);
    fflush(stdout); /* it may crash */
    if (run_both(run.interp, run.jit[schedule->engine], image, schedule, stdout, &done)) {
        printf("  no difference any more\n");
        return;
    }
    printf("  after %u instructions. The last ones, without events from outside:\n", done);
    trace(image, done);
    fflush(stdout);
}

static bool run_image(const struct image *image, const struct schedule *schedule)
{
    if (agree(image, schedule))
        return true;
    report(image, schedule);
    return false;
}

static void program_make(u64 seed, struct program *p, struct schedule *schedule)
{
    struct random r = {seed * 0x2545f4914f6cdd1d + 0x1234567};

    random_next(&r);
    program_generate(seed, p);
    if (random_chance(&r, 3)) {
        *schedule =
            (struct schedule){.total = FREE_LENGTH,
                              .kind = SCHEDULE_FREE,
                              .engine = (u8)(COUNTING_ENGINES + (random_next(&r) >> 20) %
                                                                    (ARRAY_SIZE(engines) - COUNTING_ENGINES)),
                              .events = (u8)(random_chance(&r, 2) ? EVENT_HOP : 0)};
        p->image.limit = 2 + random_below(&r, 8);
        program_assemble(p);
        return;
    }
    *schedule = (struct schedule){.seed = random_next(&r),
                                  .total = PROGRAM_LENGTH,
                                  .kind = (u8)(random_next(&r) >> 20) % SCHEDULE_KINDS,
                                  .engine = (u8)((random_next(&r) >> 20) % COUNTING_ENGINES),
                                  .events = (u8)(random_next(&r) >> 20 & random_next(&r) >> 20 & EVENT_ALL)};
}

static bool run_program(u64 seed, agree_fn *test)
{
    static struct program p;
    struct schedule schedule;

    program_make(seed, &p, &schedule);
    run.programs++;
    run.program = seed;
    alarm(TIME_LIMIT);
    if (test(&p.image, &schedule))
        return true;
    printf("test_seq --program %#llx:\n", (unsigned long long)seed);
    if (++run.failures > REPORTS)
        return false;
    fflush(stdout);
    alarm(0);
    shrink_program(&p, &schedule, test);
    report(&p.image, &schedule);
    return false;
}

/* ---- suites ---- */

static void test_written(void **state)
{
    static struct image image;
    struct schedule schedule;
    unsigned failed = 0;

    for (size_t n = 0; n < written_program_count; n++)
        for (u8 engine = 0; engine < ARRAY_SIZE(engines); engine++) {
            text_read_program(&written_programs[n], &image, &schedule);
            if (engines[engine].free != (schedule.kind == SCHEDULE_FREE))
                continue;
            schedule.engine = engine;
            failed += !run_image(&image, &schedule);
        }
    assert_int_equal(failed, 0);
}

static void test_random(void **state)
{
    run.executed = 0;
    catch_crashes();
    for (u64 n = 0; run.executed < run.count; n++)
        run_program((run.seed << 32) + n, agree);
    assert_int_equal(run.failures, 0);
}

static const struct part {
    const char *name;
    struct CMUnitTest test;
} parts[] = {
    {"written", cmocka_unit_test(test_written)},
    {"random", cmocka_unit_test(test_random)},
};

static int run_parts(void)
{
    struct CMUnitTest tests[ARRAY_SIZE(parts)];
    size_t count = 0;
    int status;

    for (size_t n = 0; n < ARRAY_SIZE(parts); n++)
        if (!run.part || !strcmp(run.part, parts[n].name))
            tests[count++] = parts[n].test;
    status = _cmocka_run_group_tests("seq", tests, count, NULL, NULL);
    printf("# %llu programs, %llu instructions\n", (unsigned long long)run.programs,
           (unsigned long long)run.executed);
    return count ? status : 2;
}

/* ---- by hand ---- */

static int run_one(const char *seed)
{
    return run_program(strtoull(seed, NULL, 0), agree_apart) ? 0 : 1;
}

static int list_one(const char *seed)
{
    static struct program p;
    struct schedule schedule;

    program_make(strtoull(seed, NULL, 0), &p, &schedule);
    text_write_program(stdout, &p.image, &schedule);
    list_image(stdout, &p.image);
    return 0;
}

static int write_seeds(const char *folder)
{
    enum { SEEDS = 24, SEED_BYTES = 500 };
    static struct program p;

    for (u64 seed = 0; seed < SEEDS; seed++) {
        u8 bytes[SEED_BYTES];
        char path[256];
        size_t size;
        FILE *to;

        program_generate(seed, &p);
        p.image.rip = CODE_BASE + 0x1000 * (seed % CODE_SWAP) + (seed % CODE_SWAP ? 0x280 : 0x40);
        size = image_to_bytes(&p.image, bytes, sizeof(bytes));
        snprintf(path, sizeof(path), "%s/sequence-%llu", folder, (unsigned long long)seed);
        to = fopen(path, "w");
        if (!to || fwrite(bytes, 1, size, to) != size || fclose(to))
            return fprintf(stderr, "%s: cannot be written\n", path), 2;
    }
    return 0;
}

static int run_text(const char *setup, const char *code)
{
    static struct image image;
    struct schedule schedule;

    text_read_program(&(struct written_program){setup, code}, &image, &schedule);
    schedule.engine %= ARRAY_SIZE(engines);
    return run_image(&image, &schedule) ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *percent = getenv("PLASTRON_CASES");
    int status = -1;

    run.count = DEFAULT_COUNT * strtoull(percent ? percent : "100", NULL, 0) / 100;
    run.interp = machine_new(&(struct machine_config){.engine = &interp_engine});
    for (size_t n = 0; n < ARRAY_SIZE(engines); n++)
        run.jit[n] = machine_new(&engines[n]);
    for (int n = 1; n < argc && status < 0; n++) {
        if (!strcmp(argv[n], "--count") && n + 1 < argc)
            run.count = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--seed") && n + 1 < argc)
            run.seed = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--part") && n + 1 < argc)
            run.part = argv[++n];
        else if (!strcmp(argv[n], "--program") && n + 1 < argc)
            status = run_one(argv[n + 1]);
        else if (!strcmp(argv[n], "--list") && n + 1 < argc)
            status = list_one(argv[n + 1]);
        else if (!strcmp(argv[n], "--seeds") && n + 1 < argc)
            status = write_seeds(argv[n + 1]);
        else if (!strcmp(argv[n], "--case") && n + 2 < argc)
            status = run_text(argv[n + 1], argv[n + 2]);
        else
            status = (fprintf(stderr, "usage: see the head of test_seq.c\n"), 2);
    }
    if (status < 0)
        status = run_parts();
    machine_free(run.interp);
    for (size_t n = 0; n < ARRAY_SIZE(engines); n++)
        machine_free(run.jit[n]);
    return status;
}
