/*
 * Golden cases: what a CPU that has them did with instructions beyond x86-64-v2, for hosts that lack them. `test_insn
 * --record` makes golden.txt on a CPU that has as many as possible; each line is a case and what changed (text.c):
 *
 *     BITS BYTES STATE -> OUTCOME
 */
#include <stdlib.h>
#include <string.h>

#include "insn.h"
#include "x86/cpuid.h"

/* By the manual's definition: approximations, exact where CPUs have to agree. */
static const char by_definition[] =
    "64 c5f853c1 -> xmm0=7f8000007f800000:7f8000007f800000\n"
    "64 c5fc53c1 xmm1=ff8000007f800000:800000007f800000 -> xmm0=8000000000000000:ff80000000000000 "
    "ymm0=7f8000007f800000:7f8000007f800000\n"
    "64 c5ea53c3 xmm2=1:2 -> xmm0=1:7f800000\n"
    "64 c5f852c1 -> xmm0=7f8000007f800000:7f8000007f800000\n"
    "64 c5fc52c1 xmm1=7f80000000000000:800000007f800000 -> xmm0=7f800000:ff80000000000000 "
    "ymm0=7f8000007f800000:7f8000007f800000\n"
    "64 c5ea52c3 xmm2=1:2 -> xmm0=1:7f800000\n";

static bool approximates(u16 op)
{
    return op_matches(op, "VRCP*") || op_matches(op, "VRSQRT*");
}

bool beyond_v2(u16 op)
{
    static struct cpu_model v2;
    static bool known;
    struct error err;

    if (!known && cpu_model_parse("v2", &v2, &err))
        abort();
    known = true;
    return x86_ops[op].feature && !v2.has[x86_ops[op].feature];
}

/* ---- recording ---- */

static char *outcome_text(const struct insn_case *test)
{
    struct insn_outcome out;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    native_run(test, &out);
    text_write_outcome(to, test, &out);
    fclose(to);
    return text;
}

static bool same_outcome(const struct insn_case *test, void *expected)
{
    char *text = outcome_text(test);
    bool same = !strcmp(text, expected);

    free(text);
    return same;
}

static void write_bytes(FILE *to, const u8 *p, unsigned n)
{
    while (n--)
        fprintf(to, "%02x", *p++);
}

/* The least case that the CPU does the same with. Faults and what is too long are left out. */
static bool record(FILE *to, struct insn_case *test, unsigned bits)
{
    enum { LONGEST = 300 };
    char *text = outcome_text(test);
    bool good = !strstr(text, "vector=") && strlen(text) < LONGEST &&
                (*text || random_chance(&(struct random){test->seed}, 4));

    if (good) {
        shrink(test, same_outcome, text);
        fprintf(to, "%u ", bits);
        write_bytes(to, test->code, test->length);
        fputc(' ', to);
        text_write_case(to, test);
        fprintf(to, " -> %s\n", text);
    }
    free(text);
    return good;
}

void golden_record(FILE *to)
{
    enum { ATTEMPTS = 60 };
    static const struct {
        u8 mode, bits, count;
    } kinds[] = {{X86_CODE64, 64, 3}, {X86_CODE32, 32, 1}};
    static struct insn_case test;

    fputs(by_definition, to);
    for (u16 op = 1; op < OP_COUNT; op++)
        for (unsigned k = 0; k < ARRAY_SIZE(kinds) && beyond_v2(op) && !excluded(op) && !approximates(op);
             k++)
            for (unsigned n = 0, made = 0; n < ATTEMPTS && made < kinds[k].count; n++)
                if (generate(op, kinds[k].mode, ((u64)op << 8 | n) * 0x9e3779b97f4a7c15, &test) &&
                    !(test.in.rflags & FLAG_TF))
                    made += record(to, &test, kinds[k].bits);
}

/* ---- checking ---- */

static char *golden_text(void)
{
    static char *text;
    FILE *from = text ? NULL : fopen(SOURCE_ROOT "/tests/insn/golden.txt", "r");
    size_t size = 0;

    if (from) {
        if (getdelim(&text, &size, 0, from) < 0)
            text = NULL;
        fclose(from);
    }
    return text ? text : "";
}

/* Read the line at `at`. Returns the next one, NULL at the end. */
static const char *next_line(const char *at, struct insn_case *test, const char **outcome)
{
    char code[2 * X86_MAX_INSN + 1];
    unsigned bits;
    int taken;

    if (sscanf(at, "%u %30[0-9a-f]%n", &bits, code, &taken) != 2)
        return NULL;
    text_read_case(bits, code, at + taken, test);
    *outcome = strstr(at, "->") + 2;
    return strchr(at, '\n') + 1;
}

bool golden_has(u16 op)
{
    static bool known[OP_COUNT];

    if (!known[OP_INVALID]) {
        static struct insn_case test;
        const char *outcome;

        for (const char *at = golden_text(); (at = next_line(at, &test, &outcome));)
            known[test.insn.op] = true;
        known[OP_INVALID] = true;
    }
    return known[op];
}

bool golden_agrees(struct guest *guest)
{
    static struct insn_case test;
    static u8 data[DATA_WRITABLE];
    const char *outcome;
    unsigned lines = 0;
    bool good = true;

    for (const char *at = golden_text(), *line = at; (at = next_line(at, &test, &outcome));
         line = at, lines++) {
        struct insn_outcome expected, out;
        u64 undefined = x86_ops[test.insn.op].flags_undefined;

        text_read_outcome(outcome, &test, &expected, data);
        guest_run(guest, &test, &out);
        expected.s.rflags = (expected.s.rflags & ~undefined) | (out.s.rflags & undefined);
        if (!outcome_compare(&test, &expected, &out, false))
            continue;
        if (good) {
            printf("    golden.txt: %.*s\n", (int)strcspn(line, "\n"), line);
            outcome_compare(&test, &expected, &out, true);
        }
        good = false;
    }
    return good && lines;
}
