/*
 * How long instructions are: this CPU, the interpreter and Zydis agree. An instruction whose last byte is on a page that is
 * not mapped faults on its fetch; one that ends before it does not; one that needs a 16th byte raises #GP; bytes that are no
 * instruction raise #UD, as soon as the bytes that tell are there.
 */
#include <string.h>
#include <Zydis/Zydis.h>

#include "insn.h"

/* How many bytes are on the mapped page: in the middle of it all, 15 at its end, or fewer. */
static void place(struct insn_case *test, unsigned available)
{
    u64 at = available > X86_MAX_INSN ? CODE_OFFSET : CODE_SIZE - available;

    test->in.rip = segment_offset(test, SEG_CS, CODE_BASE + at);
}
enum { IN_THE_MIDDLE = X86_MAX_INSN + 1 };

static void make(struct insn_case *test, u8 mode, const u8 bytes[X86_MAX_INSN], unsigned length)
{
    text_read_case(mode == X86_CODE64 ? 64 : mode == X86_CODE32 ? 32 : 16, "", "", test);
    memcpy(test->code, bytes, length);
    test->length = (u8)length;
    case_decode(test);
}

/* Length by Zydis; 0: no instruction, -1: the bytes end in it. */
static int zydis_length(u8 mode, const u8 *bytes, unsigned available)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction z;
    ZyanStatus status;

    ZydisDecoderInit(&decoder,
                     mode == X86_CODE64   ? ZYDIS_MACHINE_MODE_LONG_64
                     : mode == X86_CODE32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                          : ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
                     mode == X86_CODE64   ? ZYDIS_STACK_WIDTH_64
                     : mode == X86_CODE32 ? ZYDIS_STACK_WIDTH_32
                                          : ZYDIS_STACK_WIDTH_16);
    status = ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, available, &z);
    if (ZYAN_SUCCESS(status))
        return z.length;
    return status == ZYDIS_STATUS_NO_MORE_DATA ? -1 : 0;
}

/* Every row, cut off by a byte and by more; then with as many prefixes as go, and one more than go. */
static bool row_lengths(u16 op, u8 mode, struct random *r, bool (*run)(const struct insn_case *test))
{
    static const u8 padding[] = {0x26, 0x2e, 0x36, 0x3e};
    static struct insn_case test;
    struct encoded e;
    u8 bytes[X86_MAX_INSN], pad = padding[random_below(r, sizeof(padding))];
    bool good = true;

    if (!encode(op, mode, r, &e))
        return true;
    make(&test, mode, e.bytes, e.length);
    if (zydis_length(mode, e.bytes, e.length) != (int)e.length && !length_excluded(op)) {
        printf("%s: Zydis says %d bytes for ", x86_ops[op].mnemonic, zydis_length(mode, e.bytes, e.length));
        print_bytes(e.bytes, e.length);
        printf("\n");
        good = false;
    }
    for (unsigned missing = 1; missing < e.length;
         missing = missing == 1 ? 1 + (unsigned)random_below(r, e.length) : 99) {
        place(&test, e.length - missing);
        good &= run(&test);
    }
    /* 16 bytes and more, of which 15 are there, or fewer */
    for (unsigned length = X86_MAX_INSN + 1; length < X86_MAX_INSN + 3; length++) {
        for (unsigned n = 0; n < X86_MAX_INSN; n++)
            bytes[n] = n < length - e.length ? pad : e.bytes[n - (length - e.length)];
        make(&test, mode, bytes, X86_MAX_INSN);
        place(&test, X86_MAX_INSN - (unsigned)random_below(r, 2));
        good &= run(&test);
        place(&test, IN_THE_MIDDLE);
        good &= run(&test);
    }
    /* 15 exactly: the fetch fault again, and the instruction itself where it may be executed */
    if (e.length < X86_MAX_INSN) {
        memset(bytes, pad, sizeof(bytes));
        memcpy(bytes + X86_MAX_INSN - e.length, e.bytes, e.length);
        make(&test, mode, bytes, X86_MAX_INSN);
        place(&test, X86_MAX_INSN - 1);
        good &= run(&test);
        if (case_decode(&test) && !excluded(test.insn.op) && case_is_harmless(&test)) {
            place(&test, X86_MAX_INSN);
            good &= run(&test);
        }
    }
    return good;
}

/* Any bytes that are no whole instruction, as far as the page goes. */
static bool random_lengths(u8 mode, struct random *r, bool (*run)(const struct insn_case *test))
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x3e,
                                  0x26, 0x36, 0x48, 0x4f, 0x64, 0x65};
    struct x86_decode_mode decode_mode = {mode, false};
    static struct insn_case test;
    u8 bytes[X86_MAX_INSN];
    unsigned n = 0, available;
    u64 pick = random_next(r);
    enum x86_decode_result result;
    struct x86_insn insn;
    int zydis;

    for (unsigned k = pick >> 8 & 3; k; k--)
        bytes[n++] = prefixes[random_below(r, sizeof(prefixes))];
    if (pick >> 24 & 1)
        bytes[n++] = 0x0f;
    if ((pick >> 24 & 7) == 1)
        bytes[n++] = pick >> 32 & 1 ? 0x38 : 0x3a;
    if ((pick >> 24 & 15) == 2)
        bytes[n++] = pick >> 32 & 1 ? 0xc4 : 0xc5;
    for (; n < sizeof(bytes); n++)
        bytes[n] = (u8)random_next(r);
    available = random_chance(r, 3) ? IN_THE_MIDDLE : 1 + (unsigned)random_below(r, X86_MAX_INSN);
    n = available < X86_MAX_INSN ? available : X86_MAX_INSN;
    result = x86_decode(&decode_mode, bytes, n, &insn);
    zydis = zydis_length(mode, bytes, n);
    /* Not what may be an instruction that only the CPU knows. */
    if (result == X86_DECODE_OK || (result == X86_DECODE_INVALID && zydis != 0) ||
        invalid_excluded(&insn, n < X86_MAX_INSN))
        return true;
    make(&test, mode, bytes, X86_MAX_INSN);
    place(&test, available);
    return run(&test);
}

bool lengths_agree(u64 seed, u64 count, bool (*run)(const struct insn_case *test))
{
    struct random r = {seed};
    bool good = true;

    for (u64 n = 0; n < count;)
        for (u8 mode = X86_CODE16; mode <= X86_CODE64; mode++) {
            for (u16 op = 1; op < OP_COUNT; op++, n++)
                if (host_has(op))
                    good &= row_lengths(op, mode, &r, run);
            for (unsigned k = 0; k < OP_COUNT; k++, n++)
                good &= random_lengths(mode, &r, run);
        }
    return good;
}
