/*
 * Instructions against the real CPU (insn.h).
 *
 *   test_insn                               the cases written by hand, and random ones of every row in every mode
 *   test_insn --count N                     N random cases, spread over rows and modes
 *   test_insn --part NAME                   one of the suites (parts[])
 *   test_insn --seed S                      other ones
 *   test_insn --only MNEMONIC [--count N]   of some rows; VF* for all that begin so
 *   test_insn --run MODE BYTES SEED         one case again, as a failing one prints itself
 *   test_insn --case MODE BYTES STATE       a case as text, as in cases.c
 *   test_insn --host MODEL ...              on a host that has no more than this CPU model; before all other words
 *   test_insn --engine jit ...              the translator instead of the interpreter; before all other words
 *   test_insn --coverage                    each row: how it is tested
 *   test_insn --record                      golden.txt, from this CPU
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/interp/engine.h"
#include "engine/jit/engine.h"
#include "insn.h"

enum { DEFAULT_COUNT = 2100000, DEFAULT_COUNT_ONLY = 20000, COVERAGE_ATTEMPTS = 40, REPORTS_A_ROW = 1 };

static struct {
    struct guest *guest;
    u64 count; /* random cases, of all suites */
    u64 seed;
    const char *only, *part;
    unsigned failures, failures_of[OP_COUNT];
    u64 cases;
} run;

static const unsigned bits_of_mode[] = {16, 32, 64};

/* ---- one case ---- */

static bool fails(const struct insn_case *test, void *opaque)
{
    struct insn_outcome host, guest;

    native_run(test, &host);
    guest_run(run.guest, test, &guest);
    return outcome_compare(test, &host, &guest, false);
}

/* The case as its seed makes it; what differs in the least of it that still fails, as a line of cases.c. */
static void report(const struct insn_case *failing)
{
    const struct x86_op_info *info = &x86_ops[failing->insn.op];
    struct insn_outcome host, guest;
    struct insn_case test = *failing;

    printf("%s %s: ", info->mnemonic, info->operands);
    if (test.seed) {
        printf("test_insn --run %u ", bits_of_mode[test.mode]);
        print_bytes(test.code, test.length);
        printf(" %#llx", (unsigned long long)test.seed);
    }
    printf("\n");
    if (fails(&test, NULL))
        shrink(&test, fails, NULL);
    native_run(&test, &host);
    guest_run(run.guest, &test, &guest);
    printf("    {%u, \"", bits_of_mode[test.mode]);
    print_bytes(test.code, test.length);
    printf("\", \"");
    text_write_case(stdout, &test);
    printf("\"},\n");
    outcome_compare(&test, &host, &guest, true);
}

/* Run a case in both legs. false: they differ; the first of a row are printed. */
static bool run_case(const struct insn_case *test)
{
    struct insn_outcome host, guest;

    run.cases++;
    native_run(test, &host);
    guest_run(run.guest, test, &guest);
    if (!outcome_compare(test, &host, &guest, false))
        return true;
    run.failures++;
    if (++run.failures_of[test->insn.op] <= REPORTS_A_ROW)
        report(test);
    return false;
}

/* The same with all that there is to see. */
static bool show_case(const struct insn_case *test)
{
    struct insn_outcome host, guest;

    native_run(test, &host);
    guest_run(run.guest, test, &guest);
    printf("state:      ");
    text_write_case(stdout, test);
    printf("\nCPU:        ");
    text_write_outcome(stdout, test, &host);
    printf("\ninterpreter:");
    text_write_outcome(stdout, test, &guest);
    printf("\n");
    if (!outcome_compare(test, &host, &guest, true))
        return true;
    report(test);
    return false;
}

/* ---- suites ---- */

static bool wanted(u16 op)
{
    return !run.only || op_matches(op, run.only);
}

static u64 case_seed(u16 op, u8 mode, u64 n)
{
    struct random r = {(run.seed + 1) * 0x9e3779b97f4a7c15 ^ (u64)op << 48 ^ (u64)mode << 40 ^ n};

    random_next(&r);
    return random_next(&r) | 1;
}

static void finish(unsigned failures_before)
{
    memset(run.failures_of, 0, sizeof(run.failures_of));
    if (run.failures != failures_before)
        fail_msg("%u cases differ", run.failures - failures_before);
}

/* So many hundredths of the cases. */
static u64 share(unsigned percent)
{
    return run.count * percent / 100;
}

static bool every_row(u16 op)
{
    return true;
}

/* `count` cases, the same number of each row that has any in this mode; `stream` tells the seeds of suites apart. */
static void random_cases(u8 mode, u8 stream, u64 count, bool (*choose)(u16 op))
{
    enum { ATTEMPTS = 8 };
    static struct insn_case test;
    static u16 rows[OP_COUNT], made[OP_COUNT];
    unsigned before = run.failures, n_rows = 0;
    u64 done = 0;

    native_catch();
    for (u16 op = 1; op < OP_COUNT; op++)
        if (!excluded(op) && wanted(op) && choose(op))
            rows[n_rows++] = op;
    memset(made, 0, sizeof(made));
    for (u64 n = 0; n_rows && done < count; n++)
        for (unsigned k = 0; k < n_rows && done < count; k++) {
            u16 op = rows[k];

            if (generate(op, mode, case_seed(op, stream, n), &test)) {
                run_case(&test);
                made[op] = 1;
                done++;
            } else if (n == ATTEMPTS && !made[op]) { /* no such instruction in this mode */
                rows[k--] = rows[--n_rows];
            }
        }
    finish(before);
}

/* Bytes as they come: prefixes in any order and number, forms that no notation tells. */
static void test_random_bytes(void **state)
{
    static struct insn_case test;
    unsigned before = run.failures;

    native_catch();
    for (u8 mode = X86_CODE16; mode <= X86_CODE64; mode++)
        for (u64 n = 0, done = 0; done < share(5) && n < run.count; n++) {
            u64 seed = case_seed(0, mode, n);
            struct random r = {seed};
            struct encoded e;

            if (encode_random(mode, &r, &e) && generate_from(&e, mode, seed, &test) && wanted(test.insn.op)) {
                run_case(&test);
                done++;
            }
        }
    finish(before);
}

static void test_random_64(void **state)
{
    random_cases(X86_CODE64, X86_CODE64, share(40), every_row);
}
static void test_random_32(void **state)
{
    random_cases(X86_CODE32, X86_CODE32, share(20), every_row);
}
static void test_random_16(void **state)
{
    random_cases(X86_CODE16, X86_CODE16, share(15), every_row);
}

static bool has_vectors(u16 op)
{
    return x86_ops[op].attributes & (X86_OP_SSE | X86_OP_MMX | X86_OP_X87 | X86_OP_AVX);
}
/* Vector instructions as on a host that has SSE2 only. */
static void test_computed(void **state)
{
    guest_compute(run.guest, true);
    random_cases(X86_CODE64, 3, share(10), has_vectors);
    guest_compute(run.guest, false);
}

static void test_lengths(void **state)
{
    unsigned before = run.failures;

    native_catch();
    if (!lengths_agree(case_seed(0, 4, 0), share(2), run_case))
        fail_msg("%u cases differ", run.failures - before);
}

static void test_written(void **state)
{
    static struct insn_case test;
    unsigned failed = 0;

    native_catch();
    for (size_t n = 0; n < written_case_count; n++)
        for (unsigned variant = 0; written_case_make(&written_cases[n], variant, &test); variant++) {
            run.failures_of[test.insn.op] = 0;
            if (!run_case(&test)) {
                failed++;
                printf("    which is variant %u of {%u, \"%s\"}\n", variant, written_cases[n].bits,
                       written_cases[n].code);
            }
        }
    assert_int_equal(failed, 0);
}

static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = text; (at = strcasestr(at, word)); at++)
        if ((at == text || !isalpha((unsigned char)at[-1])) && !islower((unsigned char)at[length]))
            return true;
    return false;
}

/* A file of the sources names the instruction. */
static bool file_names(const char *file, const char *mnemonic)
{
    char path[256], word[32], *text = NULL;
    size_t size = 0;
    FILE *from;
    bool found;

    snprintf(path, sizeof(path), "%s/%s", SOURCE_ROOT, file);
    snprintf(word, sizeof(word), "%.*s", (int)strcspn(mnemonic, "/"), mnemonic);
    from = fopen(path, "r");
    if (!from)
        return false;
    found = getdelim(&text, &size, 0, from) > 0 && has_word(text, word);
    fclose(from);
    free(text);
    return found;
}

/* The kernels have other names for these, or bytes. */
static bool named_otherwise(u16 op)
{
    return op_matches(op, "CALLF") || op_matches(op, "JMPF") || op_matches(op, "RETF") ||
           op_matches(op, "RSM");
}

/* How a row is covered, or NULL: nothing does. */
static const char *coverage(u16 op, char text[128])
{
    static struct insn_case test;
    const char *why_not = excluded(op), *elsewhere = tested_by(op);
    bool privileged = x86_ops[op].attributes & X86_OP_PRIVILEGED;
    unsigned cases = 0;

    if (x86_ops[op].attributes & X86_OP_LATER)
        return "nothing executes it yet";
    if (elsewhere && !(named_otherwise(op) || file_names(elsewhere, x86_ops[op].mnemonic)))
        return NULL;
    if (why_not && !elsewhere && !golden_has(op))
        return NULL;
    if (why_not) {
        snprintf(text, 128, "%s: %s", why_not, elsewhere ? elsewhere : "golden.txt");
        return text;
    }
    if ((privileged && !elsewhere) || (beyond_v2(op) && !privileged && !elsewhere && !golden_has(op)))
        return NULL;
    for (u8 mode = X86_CODE16; mode <= X86_CODE64; mode++)
        for (unsigned n = 0; n < COVERAGE_ATTEMPTS; n++)
            cases += generate(op, mode, case_seed(op, mode, n), &test);
    if (!cases)
        return NULL;
    snprintf(text, 128, "compared, %u of %u attempts%s%s", cases, 3 * COVERAGE_ATTEMPTS,
             elsewhere ? "; and by " : "", elsewhere ? elsewhere : "");
    return text;
}

/* Every row is compared, or tested where the report says, or listed as not executed yet. Returns how many are not. */
static unsigned report_coverage(bool verbose)
{
    unsigned without = 0;

    for (u16 op = 1; op < OP_COUNT; op++) {
        const struct x86_op_info *info = &x86_ops[op];
        char text[128];
        const char *how = coverage(op, text);

        without += !how;
        if (verbose || !how)
            printf("%-24s %-20s %-28s %s\n", info->mnemonic, info->operands, info->encoding,
                   how ? how : "NO CASE");
    }
    return without;
}
static void test_coverage(void **state)
{
    assert_int_equal(report_coverage(false), 0);
}

/* ---- by hand ---- */

static int run_one(const char *mode, const char *bytes, const char *seed)
{
    static struct insn_case test;
    struct encoded e = {.length = (unsigned)strlen(bytes) / 2};
    unsigned bits = (unsigned)atoi(mode);

    memset(e.bytes, 0xcc, sizeof(e.bytes));
    for (unsigned n = 0; n < e.length && n < sizeof(e.bytes); n++)
        if (sscanf(bytes + 2 * n, "%2hhx", &e.bytes[n]) != 1)
            return 2;
    if (!generate_from(&e,
                       bits == 64   ? X86_CODE64
                       : bits == 32 ? X86_CODE32
                                    : X86_CODE16,
                       strtoull(seed, NULL, 0), &test)) {
        fprintf(stderr, "not an instruction, or one that is excluded\n");
        return 2;
    }
    return show_case(&test) ? 0 : 1;
}

/* With the host's instructions, and computed as where the host has none. */
static void test_golden(void **state)
{
    bool good = golden_agrees(run.guest);

    guest_compute(run.guest, true);
    good &= golden_agrees(run.guest);
    guest_compute(run.guest, false);
    assert_true(good);
}

/* What Meson runs as tests of their own, so that they run side by side. */
static const struct part {
    const char *name;
    struct CMUnitTest test;
} parts[] = {
    {"coverage", cmocka_unit_test(test_coverage)},  {"written", cmocka_unit_test(test_written)},
    {"golden", cmocka_unit_test(test_golden)},      {"64", cmocka_unit_test(test_random_64)},
    {"32", cmocka_unit_test(test_random_32)},       {"16", cmocka_unit_test(test_random_16)},
    {"bytes", cmocka_unit_test(test_random_bytes)}, {"lengths", cmocka_unit_test(test_lengths)},
    {"computed", cmocka_unit_test(test_computed)},
};

static int run_parts(void)
{
    struct CMUnitTest tests[ARRAY_SIZE(parts)];
    size_t count = 0;
    int status;

    for (size_t n = 0; n < ARRAY_SIZE(parts); n++)
        if (!run.part || !strcmp(run.part, parts[n].name))
            tests[count++] = parts[n].test;
    status = _cmocka_run_group_tests("insn", tests, count, NULL, NULL);
    printf("# %llu cases\n", (unsigned long long)run.cases);
    return count ? status : 2;
}

static int run_text(const char *bits, const char *code, const char *setup)
{
    static struct insn_case test;

    text_read_case((unsigned)atoi(bits), code, setup, &test);
    return show_case(&test) ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct engine_ops *engine = &interp_engine;
    static u8 background[DATA_SIZE];
    const char *percent = getenv("PLASTRON_CASES"), *host = NULL;
    int status = -1;

    run.count = DEFAULT_COUNT * strtoull(percent ? percent : "100", NULL, 0) / 100;
    data_background(background);
    native_start(background + DATA_WRITABLE);
    if (argc > 2 && !strcmp(argv[1], "--host")) {
        host = argv[2];
        argv += 2;
        argc -= 2;
    }
    if (argc > 2 && !strcmp(argv[1], "--engine")) {
        if (strcmp(argv[2], "jit"))
            return fprintf(stderr, "usage: see the head of test_insn.c\n"), 2;
        engine = &jit_engine;
        argv += 2;
        argc -= 2;
    }
    run.guest = guest_new(engine, host, background + DATA_WRITABLE);
    components_of_both = host_components() & guest_components(run.guest);
    for (int n = 1; n < argc && status < 0; n++) {
        if (!strcmp(argv[n], "--count") && n + 1 < argc)
            run.count = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--seed") && n + 1 < argc)
            run.seed = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--only") && n + 1 < argc)
            run.only = argv[++n], run.count = DEFAULT_COUNT_ONLY;
        else if (!strcmp(argv[n], "--part") && n + 1 < argc)
            run.part = argv[++n];
        else if (!strcmp(argv[n], "--run") && n + 3 < argc)
            status = run_one(argv[n + 1], argv[n + 2], argv[n + 3]);
        else if (!strcmp(argv[n], "--case") && n + 3 < argc)
            status = run_text(argv[n + 1], argv[n + 2], argv[n + 3]);
        else if (!strcmp(argv[n], "--record"))
            golden_record(stdout), status = 0;
        else if (!strcmp(argv[n], "--coverage"))
            status = report_coverage(true) != 0;
        else
            status = (fprintf(stderr, "usage: see the head of test_insn.c\n"), 2);
    }
    if (status < 0)
        status = run_parts();
    guest_free(run.guest);
    return status;
}
