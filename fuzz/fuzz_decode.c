/*
 * Any bytes, in every mode and for both vendors: the decoder reads no byte that it was not given, what it says is within
 * the ranges that engines index by, and an answer stays the same when more bytes follow.
 */
#include <stdlib.h>
#include <string.h>

#include "x86/decode.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check(bool condition)
{
    if (!condition)
        abort();
}

static void check_insn(const struct x86_insn *insn, size_t available)
{
    check(insn->op != OP_INVALID && insn->op < OP_COUNT);
    check(insn->length >= 1 && insn->length <= X86_MAX_INSN && insn->length <= available);
    check(insn->operand_size == 2 || insn->operand_size == 4 || insn->operand_size == 8);
    check(insn->address_size == 2 || insn->address_size == 4 || insn->address_size == 8);
    check(insn->reg < 32 && insn->rm < 32 && insn->vvvv < 16 && insn->vex_l < 2);
    check(insn->segment < 8);
    if (insn->is_mem) {
        check(insn->base <= X86_RIP_REG);
        check(insn->index <= X86_NO_REG);
        check(insn->scale < 4);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    for (u8 code_size = X86_CODE16; code_size <= X86_CODE64; code_size++)
        for (int amd = 0; amd < 2; amd++) {
            const struct x86_decode_mode mode = {.code_size = code_size, .amd = amd};
            enum x86_decode_result whole = X86_DECODE_MORE;
            struct x86_insn insn;

            /* Ever more bytes, in a block of exactly that size, which the address sanitizer guards. */
            for (size_t available = 0; available <= size && available <= X86_MAX_INSN + 1; available++) {
                u8 *bytes = malloc(available ? available : 1);
                check(bytes != NULL);
                memcpy(bytes, data, available);
                enum x86_decode_result result = x86_decode(&mode, bytes, available, &insn);
                free(bytes);
                if (whole != X86_DECODE_MORE)
                    check(result == whole);
                if (result == X86_DECODE_OK)
                    check_insn(&insn, available);
                if (available >= X86_MAX_INSN)
                    check(result != X86_DECODE_MORE);
                whole = result;
            }
        }
    return 0;
}
