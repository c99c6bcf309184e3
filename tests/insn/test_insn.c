/*
 * Instructions against the real CPU (insn.h).
 *
 *   test_insn                               the cases written by hand, and random ones of every row in every mode
 *   test_insn --count N                     N random cases, spread over rows and modes
 *   test_insn --part NAME                   one of the suites (parts[])
 *   test_insn --seed S                      other ones
 *   test_insn --only MNEMONIC [--count N]   of some rows
 *   test_insn --run MODE BYTES SEED         one case again, as a failing one prints itself
 *   test_insn --coverage                    rows without a case, and why
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

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

/* ---- comparing ---- */

static void print_bytes(const u8 *p, unsigned n)
{
    while (n--)
        printf("%02x", *p++);
}

static void print_case(const struct insn_case *test)
{
    const struct x86_op_info *info = &x86_ops[test->insn.op];

    printf("%s %s: test_insn --run %u ", info->mnemonic, info->operands, bits_of_mode[test->mode]);
    print_bytes(test->code, test->length);
    printf(" %#llx\n", (unsigned long long)test->seed);
}

struct comparison {
    const struct insn_case *test;
    bool print; /* say what differs */
    unsigned differences;
};

static void differs(struct comparison *c, const char *what, u64 in, u64 host, u64 guest)
{
    c->differences++;
    if (c->print)
        printf("    %-8s was %016llx: CPU %016llx, interpreter %016llx\n", what, (unsigned long long)in,
               (unsigned long long)host, (unsigned long long)guest);
}
static void compare64(struct comparison *c, const char *what, u64 in, u64 host, u64 guest)
{
    if (host != guest)
        differs(c, what, in, host, guest);
}
static void compare_bytes(struct comparison *c, const char *what, const u8 *in, const u8 *host,
                          const u8 *guest, unsigned size)
{
    if (!memcmp(host, guest, size))
        return;
    c->differences++;
    if (!c->print)
        return;
    printf("    %-8s was ", what);
    print_bytes(in, size);
    printf(": CPU ");
    print_bytes(host, size);
    printf(", interpreter ");
    print_bytes(guest, size);
    printf("\n");
}

static void compare_register(struct comparison *c, const char *kind, unsigned n, const u8 *in, const u8 *host,
                             const u8 *guest, unsigned size)
{
    char name[8];

    if (!memcmp(host, guest, size))
        return;
    snprintf(name, sizeof(name), "%s%u", kind, n);
    compare_bytes(c, name, in, host, guest, size);
}

static unsigned vector_registers(const struct insn_case *test)
{
    return test->mode == X86_CODE64 ? 16 : 8;
}

static void compare_fx(struct comparison *c, const u8 *in, const u8 *host, const u8 *guest, u32 mxcsr_mask)
{
    static const struct {
        const char *name;
        u8 at, size;
    } fields[] = {{"fcw", 0, 2}, {"fsw", 2, 2},  {"tags", 4, 1},  {"fop", 6, 2},
                  {"fip", 8, 8}, {"fdp", 16, 8}, {"mxcsr", 24, 4}};

    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++) {
        u64 v[3] = {0, 0, 0};

        memcpy(&v[0], in + fields[n].at, fields[n].size);
        memcpy(&v[1], host + fields[n].at, fields[n].size);
        memcpy(&v[2], guest + fields[n].at, fields[n].size);
        if (fields[n].size == 8) /* what CPUs do with pointers that are not canonical differs */
            for (unsigned k = 0; k < 3; k++)
                v[k] &= 0xffffffffffffff;
        if (!strcmp(fields[n].name, "mxcsr")) {
            v[1] &= mxcsr_mask;
            v[2] &= mxcsr_mask;
        }
        compare64(c, fields[n].name, v[0], v[1], v[2]);
    }
    for (unsigned n = 0; n < 8; n++)
        compare_register(c, "st", n, in + 32 + 16 * n, host + 32 + 16 * n, guest + 32 + 16 * n, 10);
    for (unsigned n = 0; n < vector_registers(c->test); n++)
        compare_register(c, "xmm", n, in + 160 + 16 * n, host + 160 + 16 * n, guest + 160 + 16 * n, 16);
}

/* The upper halves. */
static void compare_ymm(struct comparison *c, const struct insn_state *in, const struct insn_state *host,
                        const struct insn_state *guest)
{
    for (unsigned n = 0; host_has_ymm() && n < vector_registers(c->test); n++)
        compare_register(c, "ymm", n, in->ymm[n], host->ymm[n], guest->ymm[n], 16);
}

/* With a 16-bit stack the upper half of ESP is not kept by a return from the kernel; outside 64-bit code nothing tells the
   upper halves of registers. */
static u64 register_mask(const struct insn_case *test, unsigned n)
{
    return test->mode == X86_CODE64 ? UINT64_MAX : case_stack16(test) && n == RSP ? 0xffff : 0xffffffff;
}

static void compare(struct comparison *c, const struct insn_outcome *host, const struct insn_outcome *guest)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct insn_case *test = c->test;
    const u64 flags = FLAGS_ARITH | FLAG_DF;

    compare64(c, "vector", 3, host->vector, guest->vector);
    if (host->vector == guest->vector) {
        /* The kernel keeps to itself what is in its half of the address space: always "present", and no address. Far
           from the windows there may be other memory of this process. */
        bool kernels = host->cr2 >> 63, page = host->vector == VEC_PF;
        bool ours = host->cr2 - CODE_BASE < 0x10000 || host->cr2 - DATA_BASE < 0x10000;
        u64 unknown = page && (!ours || address_ignored(test)) ? PF_P : 0;

        compare64(c, "error", 0, host->error & ~unknown, guest->error & ~unknown);
        if (page && !kernels && !address_ignored(test))
            compare64(c, "cr2", 0, host->cr2, guest->cr2);
    }
    compare64(c, "rip", test->in.rip, host->s.rip, guest->s.rip);
    for (unsigned n = 0; n < (test->mode == X86_CODE64 ? 16 : 8); n++) {
        u64 mask = register_mask(test, n);

        compare64(c, names[n], test->in.gpr[n], host->s.gpr[n] & mask, guest->s.gpr[n] & mask);
    }
    compare64(c, "flags", test->in.rflags, host->s.rflags & flags & ~flags_ignored(test),
              guest->s.rflags & flags & ~flags_ignored(test));
    compare_fx(c, test->in.fx, host->s.fx, guest->s.fx, ~mxcsr_ignored(test, host));
    compare_ymm(c, &test->in, &host->s, &guest->s);
    if (memcmp(host->data, guest->data, DATA_WRITABLE)) {
        unsigned from = 0, to = DATA_WRITABLE;

        while (host->data[from] == guest->data[from])
            from++;
        while (host->data[to - 1] == guest->data[to - 1])
            to--;
        if (to - from > 32)
            to = from + 32;
        if (c->print)
            printf("    memory at %x\n", DATA_BASE + from);
        compare_bytes(c, "memory", test->data + from, host->data + from, guest->data + from, to - from);
    }
}

static void print_outcome(const char *leg, const struct insn_outcome *out)
{
    printf("    %s: vector %u error %llx rip %llx flags %llx rax %llx rcx %llx rdx %llx\n", leg, out->vector,
           (unsigned long long)out->error, (unsigned long long)out->s.rip, (unsigned long long)out->s.rflags,
           (unsigned long long)out->s.gpr[RAX], (unsigned long long)out->s.gpr[RCX],
           (unsigned long long)out->s.gpr[RDX]);
}

/* Run a case in both legs. false: they differ; the first of a row are printed. */
static bool run_case(const struct insn_case *test, bool verbose)
{
    static struct insn_outcome host, guest;
    struct comparison c = {.test = test};

    run.cases++;
    native_run(test, &host);
    guest_run(run.guest, test, &guest);
    compare(&c, &host, &guest);
    if (c.differences) {
        run.failures++;
        c.print = verbose || ++run.failures_of[test->insn.op] <= REPORTS_A_ROW;
        if (c.print) {
            print_case(test);
            compare(&c, &host, &guest);
        }
    }
    if (verbose) {
        for (unsigned n = 0; n < 16; n++)
            printf("    r%u %llx%s", n, (unsigned long long)test->in.gpr[n], n % 4 == 3 ? "\n" : "");
        for (unsigned n = 0; n < 16; n++) {
            printf("    xmm%u ", n);
            print_bytes(test->in.fx + 160 + 16 * n, 16);
            printf(" ymm%u ", n);
            print_bytes(test->in.ymm[n], 16);
            printf("\n");
        }
        for (unsigned n = 0; n < 8; n++) {
            printf("    st%u ", n);
            print_bytes(test->in.fx + 32 + 16 * n, 10);
            printf(n % 4 == 3 ? "\n" : "");
        }
        print_outcome("CPU", &host);
        print_outcome("interpreter", &guest);
    }
    return !c.differences;
}

/* ---- suites ---- */

static bool wanted(u16 op)
{
    return !run.only || !strcmp(run.only, x86_ops[op].mnemonic);
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
                run_case(&test, false);
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
                run_case(&test, false);
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

static void test_written(void **state)
{
    static struct insn_case test;
    unsigned failed = 0;

    native_catch();
    for (size_t n = 0; n < written_case_count; n++)
        for (unsigned variant = 0; written_case_make(&written_cases[n], variant, &test); variant++) {
            run.failures_of[test.insn.op] = 0;
            if (!run_case(&test, false)) {
                failed++;
                printf("    which is variant %u of {%u, \"%s\"}\n", variant, written_cases[n].bits,
                       written_cases[n].code);
            }
        }
    assert_int_equal(failed, 0);
}

/* Every row has a case in some mode, or is excluded with a reason. */
static unsigned report_coverage(bool verbose)
{
    static struct insn_case test;
    unsigned without = 0;

    for (u16 op = 1; op < OP_COUNT; op++) {
        bool found = false;

        if (excluded(op)) {
            if (verbose)
                printf("%-40s %s\n", x86_ops[op].mnemonic, excluded(op));
            continue;
        }
        for (u8 mode = X86_CODE16; mode <= X86_CODE64 && !found; mode++)
            for (unsigned n = 0; n < COVERAGE_ATTEMPTS && !found; n++)
                found = generate(op, mode, case_seed(op, mode, n), &test);
        if (!found) {
            without++;
            printf("no case: %s %s (%s)\n", x86_ops[op].mnemonic, x86_ops[op].operands, x86_ops[op].encoding);
        }
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
    return run_case(&test, true) ? 0 : 1;
}

/* What Meson runs as tests of their own, so that they run side by side. */
static const struct part {
    const char *name;
    struct CMUnitTest test;
} parts[] = {
    {"coverage", cmocka_unit_test(test_coverage)}, {"written", cmocka_unit_test(test_written)},
    {"64", cmocka_unit_test(test_random_64)},      {"32", cmocka_unit_test(test_random_32)},
    {"16", cmocka_unit_test(test_random_16)},      {"bytes", cmocka_unit_test(test_random_bytes)},
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

int main(int argc, char **argv)
{
    static u8 background[DATA_SIZE];
    const char *percent = getenv("PLASTRON_CASES");
    int status = -1;

    run.count = DEFAULT_COUNT * strtoull(percent ? percent : "100", NULL, 0) / 100;
    data_background(background);
    native_start(background + DATA_WRITABLE);
    run.guest = guest_new(background + DATA_WRITABLE);
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
