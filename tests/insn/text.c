/*
 * Cases as text, read and written: the code in hexadecimal and the state that it meets, as words NAME=VALUE.
 *
 * State that no word names: flags clear, x87 as FNINIT leaves it with zeros in the registers, MXCSR 1F80h, data zero; rBX and
 * rSI at 400h of the data window, rDI at 800h, rBP at 1000h, rSP at 1800h, the other registers zero.
 *
 * Values are hexadecimal: registers and flags as numbers, stN as sign-and-exponent:mantissa (which also marks the register
 * as not empty, unless a word `tags` follows), xmmN and ymmN (the upper half) as high:low; mm3 is st3 of TOP 0; @OFFSET is
 * memory in the window, as bytes. rip is the place in the code pages, gs and layout are those of struct insn_case.
 *
 * An outcome is written as what changed, with the same words, and vector, error and cr2.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"

const char *const register_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const struct {
    const char *name;
    u8 at, size;
} fx_fields[] = {{"fcw", 0, 2}, {"fsw", 2, 2},  {"fop", 6, 2},
                 {"fip", 8, 8}, {"fdp", 16, 8}, {"mxcsr", 24, 4}};
enum { FX_TAGS = 4, FX_ST = 32, FX_XMM = 160 };

/* ---- reading ---- */

_Noreturn static void bad(const char *text)
{
    fprintf(stderr, "a case: cannot read \"%s\"\n", text);
    exit(2);
}

unsigned text_read_bytes(const char *text, u8 *to, unsigned max)
{
    unsigned n = 0;

    for (; isxdigit((unsigned char)text[2 * n]); n++)
        if (n == max || sscanf(text + 2 * n, "%2hhx", &to[n]) != 1)
            bad(text);
    return n;
}

/* "HIGH:LOW" */
static void read_pair(const char *text, u64 *high, u64 *low)
{
    char *end;

    *high = strtoull(text, &end, 16);
    if (*end != ':')
        bad(text);
    *low = strtoull(end + 1, NULL, 16);
}

static void set_vector(u8 to[16], const char *value)
{
    u64 high, low;

    read_pair(value, &high, &low);
    memcpy(to, &low, 8);
    memcpy(to + 8, &high, 8);
}

static void set_st(u8 *fx, unsigned n, const char *value)
{
    u64 exponent, mantissa;

    read_pair(value, &exponent, &mantissa);
    memcpy(fx + FX_ST + 16 * n, &mantissa, 8);
    memcpy(fx + FX_ST + 16 * n + 8, &exponent, 2);
    fx[FX_TAGS] |= 1 << (((fx[3] >> 3 & 7) + n) & 7);
}

static bool set_number(struct insn_state *s, const char *name, u64 number)
{
    for (unsigned n = 0; n < 16; n++)
        if (!strcmp(name, register_names[n])) {
            s->gpr[n] = number;
            return true;
        }
    for (unsigned n = 0; n < ARRAY_SIZE(fx_fields); n++)
        if (!strcmp(name, fx_fields[n].name)) {
            memcpy(s->fx + fx_fields[n].at, &number, fx_fields[n].size);
            return true;
        }
    if (!strcmp(name, "tags"))
        s->fx[FX_TAGS] = (u8)number;
    else if (!strcmp(name, "flags"))
        s->rflags = FLAG_ONE | FLAG_IF | number;
    else
        return false;
    return true;
}

/* Apply one word of a state. */
static void set(struct insn_state *s, u8 data[DATA_WRITABLE], const char *name, const char *value)
{
    if (set_number(s, name, strtoull(value, NULL, 16)))
        return;
    if (!strncmp(name, "st", 2)) {
        set_st(s->fx, (unsigned)atoi(name + 2) & 7, value);
    } else if (!strncmp(name, "mm", 2)) {
        set_st(s->fx, ((unsigned)atoi(name + 2) - (s->fx[3] >> 3 & 7)) & 7, value);
    } else if (!strncmp(name, "xmm", 3)) {
        set_vector(s->fx + FX_XMM + 16 * (atoi(name + 3) & 15), value);
    } else if (!strncmp(name, "ymm", 3)) {
        set_vector(s->ymm[atoi(name + 3) & 15], value);
    } else if (name[0] == '@') {
        unsigned at = (unsigned)strtoul(name + 1, NULL, 16);

        if (at >= DATA_WRITABLE)
            bad(name);
        text_read_bytes(value, data + at, DATA_WRITABLE - at);
    } else {
        bad(name);
    }
}

/* The next word. Returns what follows it, or NULL at the end of the state. */
static const char *next_word(const char *at, char name[16], char value[2 * DATA_WRITABLE + 1])
{
    int taken = 0;

    at += strspn(at, " ");
    if (!*at || *at == ';' || !strncmp(at, "->", 2) || *at == '\n')
        return NULL;
    if (sscanf(at, "%15[^= ;]=%16384[^ ;\n]%n", name, value, &taken) != 2)
        bad(at);
    return at + taken;
}

static void usual_state(struct insn_case *test)
{
    const u16 fcw = 0x37f;
    const u32 mxcsr = 0x1f80;
    u64 base = test->mode == X86_CODE16 ? DATA_BASE - DATA_BASE16 : DATA_BASE;

    memset(&test->in, 0, sizeof(test->in));
    test->gs = LDT_GS;
    test->layout = LAYOUT_USUAL;
    test->in.rip = segment_offset(test, SEG_CS, CODE_BASE + CODE_OFFSET);
    test->in.rflags = FLAG_ONE | FLAG_IF;
    test->in.gpr[RBX] = test->in.gpr[RSI] = base + 0x400;
    test->in.gpr[RDI] = base + 0x800;
    test->in.gpr[RBP] = base + 0x1000;
    test->in.gpr[RSP] = base + 0x1800;
    memcpy(test->in.fx, &fcw, 2);
    memcpy(test->in.fx + 24, &mxcsr, 4);
    test->in.fx[28] = test->in.fx[29] = 0xff;
}

static u8 mode_of_bits(unsigned bits)
{
    return bits == 64 ? X86_CODE64 : bits == 32 ? X86_CODE32 : X86_CODE16;
}

void text_read_case(unsigned bits, const char *code, const char *setup, struct insn_case *test)
{
    static char value[2 * DATA_WRITABLE + 1];
    char name[16];

    memset(test, 0, sizeof(*test));
    test->mode = mode_of_bits(bits);
    test->length = (u8)text_read_bytes(code, test->code, sizeof(test->code));
    case_decode(test);
    usual_state(test);
    for (const char *at = setup; (at = next_word(at, name, value));) {
        u64 number = strtoull(value, NULL, 16);

        if (!strcmp(name, "rip"))
            test->in.rip = segment_offset(test, SEG_CS, CODE_BASE + number);
        else if (!strcmp(name, "gs"))
            test->gs = (u8)number % LDT_COUNT;
        else if (!strcmp(name, "layout"))
            test->layout = (u8)number % LAYOUT_COUNT;
        else
            set(&test->in, test->data, name, value);
    }
}

bool written_case_make(const struct written_case *text, unsigned variant, struct insn_case *test)
{
    const char *at = text->setup;

    for (; variant; variant--) {
        at = strchr(at, ';');
        if (!at)
            return false;
        at++;
    }
    text_read_case(text->bits, text->code, at, test);
    return true;
}

void text_read_outcome(const char *text, const struct insn_case *test, struct insn_outcome *out,
                       u8 data[DATA_WRITABLE])
{
    static char value[2 * DATA_WRITABLE + 1];
    char name[16];

    memset(out, 0, sizeof(*out));
    out->s = test->in;
    out->vector = VEC_BP;
    memcpy(data, test->data, DATA_WRITABLE);
    out->data = data;
    out->s.rip = test->in.rip + test->length + 1;
    while ((text = next_word(text, name, value))) {
        u64 number = strtoull(value, NULL, 16);

        if (!strcmp(name, "vector"))
            out->vector = (unsigned)number, out->s.rip = test->in.rip;
        else if (!strcmp(name, "error"))
            out->error = number;
        else if (!strcmp(name, "cr2"))
            out->cr2 = number;
        else if (!strcmp(name, "rip"))
            out->s.rip = segment_offset(test, SEG_CS, CODE_BASE + number);
        else
            set(&out->s, data, name, value);
    }
}

/* ---- writing ---- */

struct writer {
    FILE *to;
    bool began;
};

static void put_name(struct writer *w, const char *format, ...)
{
    va_list args;

    if (w->began)
        fputc(' ', w->to);
    w->began = true;
    va_start(args, format);
    vfprintf(w->to, format, args);
    va_end(args);
}

static void put_number(struct writer *w, const char *name, u64 v)
{
    put_name(w, "%s=%llx", name, (unsigned long long)v);
}

static void put_vector(struct writer *w, const char *name, unsigned n, const u8 *v, const u8 *was)
{
    u64 half[2];

    if (!memcmp(v, was, 16))
        return;
    memcpy(half, v, 16);
    put_name(w, "%s%u=%llx:%llx", name, n, (unsigned long long)half[1], (unsigned long long)half[0]);
}

static void put_st(struct writer *w, const u8 *fx, const u8 *was)
{
    bool any = fx[FX_TAGS] != was[FX_TAGS];

    for (unsigned n = 0; n < 8; n++) {
        u64 mantissa;
        u16 exponent;

        if (!memcmp(fx + FX_ST + 16 * n, was + FX_ST + 16 * n, 10))
            continue;
        any = true;
        memcpy(&mantissa, fx + FX_ST + 16 * n, 8);
        memcpy(&exponent, fx + FX_ST + 16 * n + 8, 2);
        put_name(w, "st%u=%x:%llx", n, exponent, (unsigned long long)mantissa);
    }
    if (any)
        put_number(w, "tags", fx[FX_TAGS]);
}

/* Bytes that differ, and up to three equal ones between them. */
static void put_data(struct writer *w, const u8 *data, const u8 *was)
{
    unsigned n = 0;

    while (n < DATA_WRITABLE) {
        unsigned end;

        if (data[n] == was[n]) {
            n++;
            continue;
        }
        for (end = n + 1; end < DATA_WRITABLE &&
                          memcmp(data + end, was + end, DATA_WRITABLE - end < 4 ? DATA_WRITABLE - end : 4);
             end++)
            ;
        put_name(w, "@%x=", n);
        for (; n < end; n++)
            fprintf(w->to, "%02x", data[n]);
    }
}

static void put_state(struct writer *w, const struct insn_case *test, const struct insn_state *s,
                      const struct insn_state *was)
{
    bool all = test->mode == X86_CODE64;

    for (unsigned n = 0; n < (all ? 16 : 8); n++) {
        u64 mask = case_register_mask(test, n);

        if ((s->gpr[n] ^ was->gpr[n]) & mask)
            put_number(w, register_names[n], s->gpr[n] & mask);
    }
    if ((s->rflags ^ was->rflags) & FLAGS_COMPARED)
        put_number(w, "flags", s->rflags & FLAGS_COMPARED & ~(u64)FLAG_IF);
    for (unsigned n = 0; n < ARRAY_SIZE(fx_fields); n++) {
        u64 v = 0, before = 0;

        memcpy(&v, s->fx + fx_fields[n].at, fx_fields[n].size);
        memcpy(&before, was->fx + fx_fields[n].at, fx_fields[n].size);
        if (v != before)
            put_number(w, fx_fields[n].name, v);
    }
    put_st(w, s->fx, was->fx);
    for (unsigned n = 0; n < 16; n++)
        put_vector(w, "xmm", n, s->fx + FX_XMM + 16 * n, was->fx + FX_XMM + 16 * n);
    for (unsigned n = 0; n < 16; n++)
        put_vector(w, "ymm", n, s->ymm[n], was->ymm[n]);
}

static u64 code_place(const struct insn_case *test, u64 rip)
{
    return case_segment(test, SEG_CS).base + rip - CODE_BASE;
}

void text_write_case(FILE *to, const struct insn_case *test)
{
    static const u8 zeros[DATA_WRITABLE];
    struct writer writer = {to}, *w = &writer;
    struct insn_case usual = *test;

    usual_state(&usual);
    if (test->in.rip != usual.in.rip)
        put_number(w, "rip", code_place(test, test->in.rip));
    if (test->gs != LDT_GS)
        put_number(w, "gs", test->gs);
    if (test->layout)
        put_number(w, "layout", test->layout);
    put_state(w, test, &test->in, &usual.in);
    put_data(w, test->data, zeros);
}

void text_write_outcome(FILE *to, const struct insn_case *test, const struct insn_outcome *out)
{
    struct writer writer = {to}, *w = &writer;

    if (out->vector != VEC_BP) {
        put_number(w, "vector", out->vector);
        if (out->error)
            put_number(w, "error", out->error);
        if (out->vector == VEC_PF)
            put_number(w, "cr2", out->cr2);
    }
    if (out->s.rip != test->in.rip + (out->vector == VEC_BP ? test->length + 1 : 0))
        put_number(w, "rip", code_place(test, out->s.rip));
    put_state(w, test, &out->s, &test->in);
    put_data(w, out->data, test->data);
}
