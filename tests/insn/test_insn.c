/*
 * Instructions against the real CPU (insn.h).
 *
 *   test_insn                               the cases written by hand, and random ones of every row in every mode
 *   test_insn --count N                     N random cases a row and mode
 *   test_insn --seed S                      other ones
 *   test_insn --only MNEMONIC               of some rows
 *   test_insn --run MODE BYTES SEED         one case again, as a failing one prints itself
 *   test_insn --coverage                    rows without a case, and why
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "insn.h"

enum { DEFAULT_COUNT = 40, REPORTS_A_ROW = 1 };

static struct {
    struct guest *guest;
    unsigned count;
    u64 seed;
    const char *only;
    unsigned failures, failures_of[OP_COUNT];
    u64 cases;
} run = {.count = DEFAULT_COUNT};

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
    char name[8];

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
    for (unsigned n = 0; n < 8; n++) {
        snprintf(name, sizeof(name), "st%u", n);
        compare_bytes(c, name, in + 32 + 16 * n, host + 32 + 16 * n, guest + 32 + 16 * n, 10);
    }
    for (unsigned n = 0; n < vector_registers(c->test); n++) {
        snprintf(name, sizeof(name), "xmm%u", n);
        compare_bytes(c, name, in + 160 + 16 * n, host + 160 + 16 * n, guest + 160 + 16 * n, 16);
    }
}

/* The upper halves. */
static void compare_ymm(struct comparison *c, const struct insn_state *in, const struct insn_state *host,
                        const struct insn_state *guest)
{
    char name[8];

    for (unsigned n = 0; host_has_ymm() && n < vector_registers(c->test); n++) {
        snprintf(name, sizeof(name), "ymm%u", n);
        compare_bytes(c, name, in->ymm[n], host->ymm[n], guest->ymm[n], 16);
    }
}

/* With a 16-bit stack the upper half of ESP is not kept by a return from the kernel; outside 64-bit code nothing tells the
   upper halves of registers. */
static u64 register_mask(const struct insn_case *test, unsigned n)
{
    return test->mode == X86_CODE64 ? UINT64_MAX : test->mode == X86_CODE16 && n == RSP ? 0xffff : 0xffffffff;
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
    if (memcmp(host->data, guest->data, DATA_SIZE)) {
        unsigned from = 0, to = DATA_SIZE;

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

static u64 case_seed(u16 op, u8 mode, unsigned n)
{
    struct random r = {(run.seed + 1) * 0x9e3779b97f4a7c15 ^ (u64)op << 40 ^ (u64)mode << 32 ^ n};

    random_next(&r);
    return random_next(&r) | 1;
}

static void finish(unsigned failures_before)
{
    memset(run.failures_of, 0, sizeof(run.failures_of));
    if (run.failures != failures_before)
        fail_msg("%u cases differ", run.failures - failures_before);
}

static void random_cases(u8 mode)
{
    static struct insn_case test;
    unsigned before = run.failures;

    native_catch();
    for (u16 op = 1; op < OP_COUNT; op++) {
        if (excluded(op) || !wanted(op))
            continue;
        for (unsigned n = 0; n < run.count; n++)
            if (generate(op, mode, case_seed(op, mode, n), &test))
                run_case(&test, false);
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
        for (unsigned n = 0; n < run.count * 500; n++) {
            u64 seed = case_seed(0, mode, n);
            struct random r = {seed};
            struct encoded e;

            if (encode_random(mode, &r, &e) && generate_from(&e, mode, seed, &test) && wanted(test.insn.op))
                run_case(&test, false);
        }
    finish(before);
}

/* Vector instructions as on a host that has SSE2 only. */
static void test_computed(void **state)
{
    static struct insn_case test;
    unsigned before = run.failures;

    native_catch();
    guest_compute(run.guest, true);
    for (u16 op = 1; op < OP_COUNT; op++) {
        if (excluded(op) || !wanted(op) ||
            !(x86_ops[op].attributes & (X86_OP_SSE | X86_OP_MMX | X86_OP_X87 | X86_OP_AVX)))
            continue;
        for (unsigned n = 0; n < run.count; n++)
            if (generate(op, X86_CODE64, case_seed(op, 3, n), &test))
                run_case(&test, false);
    }
    guest_compute(run.guest, false);
    finish(before);
}
static void test_random_64(void **state)
{
    random_cases(X86_CODE64);
}
static void test_random_32(void **state)
{
    random_cases(X86_CODE32);
}
static void test_random_16(void **state)
{
    random_cases(X86_CODE16);
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
            for (unsigned n = 0; n < run.count && !found; n++)
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

int main(int argc, char **argv)
{
    static u8 background[DATA_SIZE];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coverage),  cmocka_unit_test(test_written),
        cmocka_unit_test(test_random_64), cmocka_unit_test(test_random_32),
        cmocka_unit_test(test_random_16), cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_computed),
    };
    int status;

    data_background(background);
    native_start(background + DATA_WRITABLE);
    run.guest = guest_new(background + DATA_WRITABLE);
    for (int n = 1; n < argc; n++) {
        if (!strcmp(argv[n], "--count") && n + 1 < argc)
            run.count = (unsigned)atoi(argv[++n]);
        else if (!strcmp(argv[n], "--seed") && n + 1 < argc)
            run.seed = strtoull(argv[++n], NULL, 0);
        else if (!strcmp(argv[n], "--only") && n + 1 < argc)
            run.only = argv[++n];
        else if (!strcmp(argv[n], "--run") && n + 3 < argc)
            return run_one(argv[n + 1], argv[n + 2], argv[n + 3]);
        else if (!strcmp(argv[n], "--coverage"))
            return report_coverage(true) != 0;
        else
            return fprintf(stderr, "usage: see the head of test_insn.c\n"), 2;
    }
    status = cmocka_run_group_tests_name("insn", tests, NULL, NULL);
    printf("%llu cases\n", (unsigned long long)run.cases);
    guest_free(run.guest);
    return status;
}
