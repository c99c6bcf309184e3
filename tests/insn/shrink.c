/*
 * From a case that fails to the least that still does: what is no part of the failure takes its usual value.
 */
#include <string.h>

#include "insn.h"

struct shrink {
    struct insn_case *test;
    bool (*holds)(const struct insn_case *test, void *opaque);
    void *opaque;
};

/* Keep the change that was made to the case, or put it back as it was. */
static bool keep(struct shrink *s, const struct insn_case *before)
{
    if (s->holds(s->test, s->opaque))
        return true;
    *s->test = *before;
    return false;
}

static void try_bytes(struct shrink *s, void *at, const void *value, size_t size)
{
    struct insn_case before;

    if (!memcmp(at, value, size))
        return;
    before = *s->test;
    memcpy(at, value, size);
    keep(s, &before);
}

static void try_number(struct shrink *s, u64 *at, u64 value)
{
    try_bytes(s, at, &value, 8);
}

/* Bytes before the opcode, one after the other. */
static void try_prefixes(struct shrink *s)
{
    for (unsigned n = 0; n + 1 < s->test->length;) {
        struct insn_case before = *s->test, *test = s->test;
        u16 op = test->insn.op;

        if (!x86_is_prefix(test->code[n], test->mode))
            return;
        memmove(test->code + n, test->code + n + 1, test->length - n - 1u);
        test->length--;
        if (!case_decode(test) || test->insn.op != op) {
            *test = before;
            n++;
        } else if (!keep(s, &before)) {
            n++;
        }
    }
}

static void try_data(struct shrink *s)
{
    static const u8 zeros[DATA_WRITABLE];

    for (unsigned size = DATA_WRITABLE; size; size /= 4)
        for (unsigned at = 0; at + size <= DATA_WRITABLE; at += size)
            try_bytes(s, s->test->data + at, zeros, size);
}

void shrink(struct insn_case *test, bool (*holds)(const struct insn_case *test, void *opaque), void *opaque)
{
    struct shrink s = {test, holds, opaque};
    struct insn_case usual;
    struct insn_state *in = &test->in;

    text_read_case(test->mode == X86_CODE64 ? 64 : test->mode == X86_CODE32 ? 32 : 16, "90", "", &usual);
    try_bytes(&s, &test->layout, &usual.layout, 1);
    try_bytes(&s, &test->gs, &usual.gs, 1);
    try_number(&s, &in->rip, usual.in.rip);
    try_prefixes(&s);
    try_bytes(&s, in->fx, usual.in.fx, sizeof(in->fx));
    try_bytes(&s, in->ymm, usual.in.ymm, sizeof(in->ymm));
    try_number(&s, &in->rflags, usual.in.rflags);
    for (unsigned n = 0; n < 16; n++) {
        static const u64 simple[] = {1, 0xff, 0xffff, 0xffffffff};

        for (size_t k = ARRAY_SIZE(simple); k; k--)
            try_number(&s, &in->gpr[n], in->gpr[n] & simple[k - 1]);
        try_number(&s, &in->gpr[n], 0);
        try_number(&s, &in->gpr[n], usual.in.gpr[n]);
    }
    try_bytes(&s, in->fx, usual.in.fx, 5); /* FCW, FSW, tags */
    try_bytes(&s, in->fx, usual.in.fx, 2);
    try_bytes(&s, in->fx + 2, usual.in.fx + 2, 2);
    try_bytes(&s, in->fx + 24, usual.in.fx + 24, 4);
    for (unsigned at = 32; at < 416; at += 16)
        try_bytes(&s, in->fx + at, usual.in.fx + at, 16);
    for (unsigned n = 0; n < 16; n++)
        try_bytes(&s, in->ymm[n], usual.in.ymm[n], 16);
    for (u64 bit = 1; bit < FLAG_OF * 2; bit *= 2)
        if (in->rflags & bit & ~usual.in.rflags)
            try_number(&s, &in->rflags, in->rflags & ~bit);
    try_data(&s);
}
