#include "api/disasm.h"

#include <stdio.h>

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

#include "api/linear.h"
#include "x86/decode.h"

static enum x86_code_size code_size(const struct vcpu_state *s)
{
    if (vcpu_64bit(s))
        return X86_CODE64;
    return vcpu_protected(s) && s->seg[SEG_CS].attr & SEG_DB ? X86_CODE32 : X86_CODE16;
}

#ifdef HAVE_ZYDIS
unsigned disasm_bytes(enum x86_code_size cs, u64 rip, const u8 *bytes, size_t len, char *text, size_t size)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[] = {
        [X86_CODE16] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
        [X86_CODE32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [X86_CODE64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    ZydisDecoderInit(&decoder, modes[cs].mode, modes[cs].stack);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, len, &insn, operands)) ||
        !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &insn, operands, insn.operand_count_visible,
                                                      text, size, rip, ZYAN_NULL)))
        return 0;
    return insn.length;
}

bool disasm_has_zydis(void)
{
    return true;
}
#else
unsigned disasm_bytes(enum x86_code_size cs, u64 rip, const u8 *bytes, size_t len, char *text, size_t size)
{
    struct x86_decode_mode mode = {.code_size = (u8)cs};
    struct x86_insn insn;

    if (x86_decode(&mode, bytes, len, &insn) != X86_DECODE_OK)
        return 0;
    snprintf(text, size, "%s %s", x86_ops[insn.op].mnemonic, x86_ops[insn.op].operands);
    return insn.length;
}

bool disasm_has_zydis(void)
{
    return false;
}
#endif

unsigned disasm(struct vcpu *vcpu, u64 rip, char *text, size_t size)
{
    const struct vcpu_state *s = &vcpu->state;
    u8 bytes[X86_MAX_INSN];
    u64 linear = vcpu_64bit(s) ? rip : (u32)(s->seg[SEG_CS].base + rip);
    size_t available = linear_read(vcpu, linear, bytes, sizeof(bytes));
    char hex[X86_MAX_INSN * 3 + 1] = "", insn[128];

    unsigned len = available ? disasm_bytes(code_size(s), rip, bytes, available, insn, sizeof(insn)) : 0;
    for (unsigned i = 0; i < (len ? len : available < 4 ? available : 4); i++)
        snprintf(hex + 3 * i, sizeof(hex) - 3 * i, "%02x ", bytes[i]);
    snprintf(text, size, "%-24s %s", hex, len ? insn : available ? "(no instruction)" : "(not mapped)");
    return len;
}
