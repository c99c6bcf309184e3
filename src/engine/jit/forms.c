/*
 * Which instructions have a translation, and what they do with their operands: from the notation of the opcode table, and a
 * few lists of mnemonics.
 */
#include <string.h>

#include "engine/jit/jit.h"

enum { RW = JIT_READ | JIT_WRITE };

/*
 * Instructions that the host executes as they are, on other registers and another memory operand: what they do with their
 * first operand. The others are read. `both`: the second is written too.
 */
static const struct {
    const char *mnemonic;
    u8 first;
    bool both;
} plain[] = {
    {"ADD", RW},           {"OR", RW},          {"ADC", RW},          {"SBB", RW},         {"AND", RW},
    {"SUB", RW},           {"XOR", RW},         {"CMP", JIT_READ},    {"TEST", JIT_READ},  {"INC", RW},
    {"DEC", RW},           {"NEG", RW},         {"NOT", RW},          {"SHL", RW},         {"SHR", RW},
    {"SAR", RW},           {"ROL", RW},         {"ROR", RW},          {"RCL", RW},         {"RCR", RW},
    {"SHLD", RW},          {"SHRD", RW},        {"IMUL", RW},         {"MOV", JIT_WRITE},  {"MOVZX", JIT_WRITE},
    {"MOVSX", JIT_WRITE},  {"MOVSXD", JIT_WRITE}, {"XCHG", RW, true}, {"XADD", RW, true},  {"BSF", RW},
    {"BSR", RW},           {"POPCNT", JIT_WRITE}, {"LZCNT", JIT_WRITE}, {"TZCNT", JIT_WRITE}, {"MOVBE", JIT_WRITE},
    {"ADCX", RW},          {"ADOX", RW},        {"CRC32", RW},        {"BT", JIT_READ},    {"BTS", RW},
    {"BTR", RW},           {"BTC", RW},
};

/* Mnemonics (of a row without operands that decide) by kind. */
static const struct {
    const char *mnemonic, *operands;
    u8 kind;
} special[] = {
    {"LEA", NULL, JIT_LEA},
    {"CBW/CWDE/CDQE", NULL, JIT_EXTEND},
    {"CWD/CDQ/CQO", NULL, JIT_EXTEND},
    {"CBW", NULL, JIT_EXTEND},
    {"CWD", NULL, JIT_EXTEND},
    {"BSWAP", NULL, JIT_BSWAP},
    {"NOP", NULL, JIT_NOP},
    {"ENDBR64", NULL, JIT_NOP},
    {"ENDBR32", NULL, JIT_NOP},
    {"PREFETCHNTA", NULL, JIT_NOP},
    {"PREFETCHT0", NULL, JIT_NOP},
    {"PREFETCHT1", NULL, JIT_NOP},
    {"PREFETCHT2", NULL, JIT_NOP},
    {"PREFETCHW", NULL, JIT_NOP},
    {"PUSH", "Zv", JIT_PUSH},
    {"PUSH", "Ev", JIT_PUSH},
    {"PUSH", "Iz", JIT_PUSH_IMM},
    {"PUSH", "Ib", JIT_PUSH_IMM},
    {"POP", "Zv", JIT_POP},
    {"LEAVE", NULL, JIT_LEAVE},
    {"CALL", "Jz", JIT_CALL},
    {"CALL", "Ev", JIT_CALL_INDIRECT},
    {"JMP", "Jz", JIT_JMP},
    {"JMP", "Jb", JIT_JMP},
    {"JMP", "Ev", JIT_JMP_INDIRECT},
    {"RET", "", JIT_RET},
    {"MOV", "Zb,Ib", JIT_NONE},
    {"MOV", "Zv,Iv", JIT_MOV_IMM},
    {"XCHG", "Zv,rAX", JIT_XCHG_ACC},
    {"MUL", NULL, JIT_ACC},
    {"DIV", NULL, JIT_ACC},
    {"IDIV", NULL, JIT_ACC},
    {"IMUL", "Eb", JIT_ACC},
    {"IMUL", "Ev", JIT_ACC},
};

/* One operand of a row that the host executes as it is. false: a kind that it cannot be. */
static bool plain_operand(struct jit_form *f, const char *text, size_t length, u8 use)
{
    char size = length > 1 ? text[1] : 0;

    if (text[0] == 'E' || text[0] == 'M') {
        f->rm = use;
        f->rm_size = size;
        return length == 2;
    }
    if (text[0] == 'G') {
        f->reg = use;
        f->reg_size = size;
        return length == 2;
    }
    return text[0] == 'I' || (length == 1 && text[0] == '1') || (length == 2 && !memcmp(text, "CL", 2));
}

static bool plain_operands(struct jit_form *f, const char *operands, u8 first, bool both)
{
    for (unsigned n = 0; *operands; n++) {
        size_t length = strcspn(operands, ",");

        if (!plain_operand(f, operands, length, n == 0 ? first : n == 1 && both ? RW : JIT_READ))
            return false;
        operands += length + (operands[length] == ',');
    }
    return f->rm != 0;
}

static void make_form(struct jit_form *f, const struct x86_op_info *info)
{
    const char *m = info->mnemonic;
    u8 first = 0;
    bool both = false;

    for (size_t n = 0; n < ARRAY_SIZE(special); n++)
        if (!strcmp(special[n].mnemonic, m) &&
            (!special[n].operands || !strcmp(special[n].operands, info->operands))) {
            f->kind = special[n].kind;
            f->rm = JIT_READ;
            f->rm_size = strchr(info->operands, 'E') ? strchr(info->operands, 'E')[1] : 0;
            return;
        }
    /* Operations of the accumulator with an immediate: TEST, and the eight at x4 and x5. */
    if (!strcmp(info->operands, "AL,Ib") || !strcmp(info->operands, "rAX,Iz")) {
        f->kind = strcmp(m, "IN") ? JIT_ACC_IMM : JIT_NONE;
        return;
    }
    if (m[0] == 'J' && !(info->attributes & X86_OP_PRIVILEGED) && info->flags_read) {
        f->kind = JIT_JCC;
        return;
    }
    for (size_t n = 0; n < ARRAY_SIZE(plain); n++)
        if (!strcmp(plain[n].mnemonic, m)) {
            first = plain[n].first;
            both = plain[n].both;
        }
    if (!strncmp(m, "SET", 3) && !strcmp(info->operands, "Eb"))
        first = JIT_WRITE;
    if (!strncmp(m, "CMOV", 4))
        first = RW;
    if (!first || !plain_operands(f, info->operands, first, both))
        return;
    /* IMUL with three operands writes the first only. */
    if (!strcmp(m, "IMUL") && strlen(info->operands) > 5)
        f->reg = JIT_WRITE;
    f->kind = JIT_PLAIN;
}

void jit_forms_init(struct jit_form forms[OP_COUNT])
{
    memset(forms, 0, OP_COUNT * sizeof(*forms));
    for (unsigned op = 1; op < OP_COUNT; op++)
        make_form(&forms[op], &x86_ops[op]);
}
