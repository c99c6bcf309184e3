/*
 * Which instructions have a translation, and what they do with their operands: from the notation of the opcode table, and a
 * few lists of mnemonics.
 */
#include <string.h>

#include "engine/jit/jit.h"
#include "x86/host_cpu.h"

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
    {"ADD", RW},          {"OR", RW},           {"ADC", RW},           {"SBB", RW},
    {"AND", RW},          {"SUB", RW},          {"XOR", RW},           {"CMP", JIT_READ},
    {"TEST", JIT_READ},   {"INC", RW},          {"DEC", RW},           {"NEG", RW},
    {"NOT", RW},          {"SHL", RW},          {"SHR", RW},           {"SAR", RW},
    {"ROL", RW},          {"ROR", RW},          {"RCL", RW},           {"RCR", RW},
    {"SHLD", RW},         {"SHRD", RW},         {"IMUL", RW},          {"MOV", JIT_WRITE},
    {"MOVZX", JIT_WRITE}, {"MOVSX", JIT_WRITE}, {"MOVSXD", JIT_WRITE}, {"XCHG", RW, true},
    {"XADD", RW, true},   {"BSF", RW},          {"BSR", RW},           {"POPCNT", JIT_WRITE},
    {"LZCNT", JIT_WRITE}, {"TZCNT", JIT_WRITE}, {"MOVBE", JIT_WRITE},  {"ADCX", RW},
    {"ADOX", RW},         {"CRC32", RW},        {"BT", JIT_READ},      {"BTS", RW},
    {"BTR", RW},          {"BTC", RW},          {"MOVNTI", JIT_WRITE},
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
    {"PREFETCHNTA", NULL, JIT_PREFETCH},
    {"PREFETCHT0", NULL, JIT_PREFETCH},
    {"PREFETCHT1", NULL, JIT_PREFETCH},
    {"PREFETCHT2", NULL, JIT_PREFETCH},
    {"PREFETCHW", NULL, JIT_PREFETCH},
    {"PUSH", "Zv", JIT_PUSH},
    {"PUSH", "Ev", JIT_PUSH_MEM},
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
    {"MOV", "Zv,Iv", JIT_MOV_IMM},
    {"MOV", "Zb,Ib", JIT_MOV_IMM_BYTE},
    {"JCXZ/JECXZ/JRCXZ", NULL, JIT_JCXZ},
    {"CMPXCHG8B", NULL, JIT_CMPXCHG_PAIR},
    {"CMPXCHG16B", NULL, JIT_CMPXCHG_PAIR},
    {"INC", "Zv", JIT_INC},
    {"DEC", "Zv", JIT_INC},
    {"MOV", "AL,Ob", JIT_MOFFS},
    {"MOV", "rAX,Ov", JIT_MOFFS},
    {"MOV", "Ob,AL", JIT_MOFFS},
    {"MOV", "Ov,rAX", JIT_MOFFS},
    {"STOS", NULL, JIT_STRING},
    {"MOVS", NULL, JIT_STRING},
    {"CLI", NULL, JIT_CLI},
    {"STI", NULL, JIT_STI},
    {"STAC", NULL, JIT_STAC},
    {"CLAC", NULL, JIT_STAC},
    {"SWAPGS", NULL, JIT_SWAPGS},
    {"RDPKRU", NULL, JIT_RDPKRU},
    {"STMXCSR", NULL, JIT_STMXCSR},
    {"VSTMXCSR", NULL, JIT_STMXCSR},
    {"PUSHF/PUSHFD/PUSHFQ", NULL, JIT_PUSHF},
    {"CLC", NULL, JIT_BARE},
    {"STC", NULL, JIT_BARE},
    {"CMC", NULL, JIT_BARE},
    {"LFENCE", NULL, JIT_BARE},
    {"MFENCE", NULL, JIT_BARE},
    {"SFENCE", NULL, JIT_BARE},
    {"LAHF", NULL, JIT_AH_FLAGS},
    {"SAHF", NULL, JIT_AH_FLAGS},
    {"CLD", NULL, JIT_DIRECTION},
    {"STD", NULL, JIT_DIRECTION},
    {"VZEROUPPER", NULL, JIT_VZERO},
    {"VZEROALL", NULL, JIT_VZERO},
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

/* ---- vector instructions ---- */

static bool listed(const char *const list[], size_t count, const char *mnemonic)
{
    for (size_t n = 0; n < count; n++)
        if (!strcmp(list[n], mnemonic))
            return true;
    return false;
}
#define LISTED(list, m) listed(list, ARRAY_SIZE(list), m)

/* By cells: what touches memory that is no operand, or changes MXCSR. */
static bool vector_excluded(const char *m)
{
    static const char *const names[] = {"EXTRQ",   "INSERTQ",    "MOVNTSS",
                                        "MOVNTSD", "MASKMOVDQU", "VMASKMOVDQU"};

    return strstr(m, "GATHER") || LISTED(names, m);
}

/* Rows whose memory operand is half as long as their vectors. */
static bool half_memory(const char *m)
{
    static const char *const names[] = {"CVTPS2PD", "VCVTPS2PD", "VCVTDQ2PD", "VCVTPH2PS", "VCVTPS2PH"};

    return LISTED(names, m);
}

static bool needs_no_alignment(const char *m)
{
    static const char *const names[] = {"MOVUPS",    "MOVUPD",    "MOVDQU",    "LDDQU",
                                        "PCMPESTRI", "PCMPESTRM", "PCMPISTRI", "PCMPISTRM"};

    return LISTED(names, m);
}

static bool vex_alignment(const char *m)
{
    static const char *const names[] = {"VMOVAPS",  "VMOVAPD",  "VMOVDQA",  "VMOVNTPS",
                                        "VMOVNTPD", "VMOVNTDQ", "VMOVNTDQA"};

    return LISTED(names, m);
}

/* Cannot raise an SSE exception, by what the name (without V) begins with. */
static bool raises_nothing(const char *m)
{
    static const char *const begins[] = {"P",     "MOV",   "AND",   "OR",     "XOR",     "UNPCK",
                                         "SHUF",  "BLEND", "BROAD", "INSERT", "EXTRACT", "TEST",
                                         "LDDQU", "AES",   "SHA",   "GF2",    "MASK"};

    m += *m == 'V';
    for (size_t n = 0; n < ARRAY_SIZE(begins); n++)
        if (!strncmp(m, begins[n], strlen(begins[n])))
            return true;
    return false;
}

/* Bytes that an operand's notation stands for; 0: the vector length. */
static u8 notation_bytes(const char *size)
{
    static const struct {
        const char *size;
        u8 bytes;
    } sizes[] = {{"dq", 16}, {"qq", 32}, {"ss", 4}, {"sd", 8},  {"d", 4},
                 {"q", 8},   {"w", 2},   {"b", 1},  {"y", 0xff}};

    for (size_t n = 0; n < ARRAY_SIZE(sizes); n++)
        if (!strcmp(size, sizes[n].size))
            return sizes[n].bytes;
    return 0;
}

/* Registers that are no operands: those of string comparisons, by the letter after "CMP" (explicit lengths in RAX and RDX)
   and the last one (a mask to XMM0; an index goes to RCX, which is in its place); and XMM0 as the third operand. */
static void implicit_operands(struct jit_form *f, const struct x86_op_info *info)
{
    const char *strings = strstr(info->mnemonic, "PCMPESTR") ?: strstr(info->mnemonic, "PCMPISTR");

    if (strings) {
        f->acc = strings[4] == 'E';
        f->xmm0 = strings[8] == 'M' ? JIT_WRITE : 0;
        f->rcx = strings[8] == 'I';
    } else if (strstr(info->operands, ",XMM0")) {
        f->xmm0 = JIT_READ;
    }
}

/* V is ModRM.reg, H is VEX.vvvv, W, U, N.. are ModRM.rm; G, E, R, M, B the same of general registers and memory. */
static bool vector_operand(struct jit_form *f, const char *text, size_t length, u8 use)
{
    char size[4] = "";
    bool either = text[0] == 'R' && length == 5 && text[2] == '/'; /* Rd/Mb */

    if (text[0] == 'I' || (length == 4 && !memcmp(text, "XMM0", 4)))
        return true;
    if (length < 2 || (length > 3 && !either))
        return false;
    memcpy(size, either ? text + 4 : text + 1, either ? 1 : length - 1);
    switch (text[0]) {
    case 'V':
        f->reg = use;
        f->reg_vector = true;
        return true;
    case 'G':
        f->general = true;
        f->reg = use;
        f->reg_size = text[1];
        return true;
    case 'H':
        f->third = use;
        f->third_vector = true;
        return true;
    case 'B': f->third = use; return true;
    case 'L': f->fourth = true; return true;
    case 'W':
    case 'U': f->rm_vector = true; break;
    case 'E':
    case 'R': f->general = true; break;
    case 'M': break;
    default: return false;
    }
    f->rm = use;
    f->rm_size = text[1];
    f->rm_bytes = notation_bytes(size);
    return true;
}

static bool vector_form(struct jit_form *f, const struct x86_op_info *info)
{
    const char *m = info->mnemonic, *operands = info->operands;
    bool vex = !strncmp(info->encoding, "VEX", 3),
         fused = !strncmp(m, "VFM", 3) || !strncmp(m, "VFN", 3) || !strncmp(m, "VPDP", 4);

    if (vector_excluded(m) ||
        (info->attributes & (X86_OP_MMX | X86_OP_X87 | X86_OP_PRIVILEGED | X86_OP_SERIALISE)))
        return false;
    for (unsigned n = 0; *operands; n++) {
        size_t length = strcspn(operands, ",");
        u8 use = n ? JIT_READ : info->flags_written ? JIT_READ : vex && !fused ? JIT_WRITE : RW;

        if (!vector_operand(f, operands, length, use))
            return false;
        operands += length + (operands[length] == ',');
    }
    if (f->reg_vector || f->rm_vector || f->third_vector) {
        f->kind = JIT_VECTOR;
        /* General registers are only written. */
        if (!f->reg_vector && f->reg)
            f->reg = JIT_WRITE;
        if (!f->rm_vector && (f->rm & JIT_WRITE))
            f->rm = JIT_WRITE;
        f->half = half_memory(m);
        if (f->half)
            f->rm_bytes = 0; /* of the vector length */
        f->align = vex ? vex_alignment(m) : !needs_no_alignment(m);
        f->raises = !raises_nothing(m);
        f->masked = strstr(m, "MASKMOV");
        implicit_operands(f, info);
        if (!strcmp(m, "VMOVDDUP"))
            f->kind = JIT_NONE;
        return true;
    }
    if (!vex || !(f->reg || f->third))
        return false;
    f->kind = JIT_BMI;
    if (!strcmp(m, "MULX"))
        f->third = JIT_WRITE;
    /* Those with flags read and write: the first operand is written all the same. */
    if (f->reg)
        f->reg = JIT_WRITE;
    else
        f->third = JIT_WRITE;
    return true;
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
    if (!strcmp(m, "CMPXCHG")) {
        plain_operands(f, info->operands, RW, false);
        f->kind = JIT_CMPXCHG;
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
    if (!first) {
        if (!vector_form(f, info))
            *f = (struct jit_form){0};
        return;
    }
    if (!plain_operands(f, info->operands, first, both))
        return;
    /* IMUL with three operands writes the first only. */
    if (!strcmp(m, "IMUL") && strlen(info->operands) > 5)
        f->reg = JIT_WRITE;
    f->kind = JIT_PLAIN;
}

/* Translations that do not execute the instruction itself, and so need nothing of the host. */
static bool needs_no_host(enum jit_kind kind)
{
    static const u8 kinds[] = {JIT_NOP, JIT_PREFETCH, JIT_STAC, JIT_SWAPGS, JIT_RDPKRU};

    return memchr(kinds, kind, sizeof(kinds));
}

void jit_forms_init(struct jit_form forms[OP_COUNT], const struct cpu_model *limit)
{
    bool has[X86_FEATURE_COUNT], avx = __builtin_cpu_supports("avx"); /* by the host's XCR0, too */

    for (unsigned n = 0; n < X86_FEATURE_COUNT; n++)
        has[n] = host_cpu_has((enum x86_feature)n) && (!limit || limit->has[n]);
    memset(forms, 0, OP_COUNT * sizeof(*forms));
    for (unsigned op = 1; op < OP_COUNT; op++) {
        make_form(&forms[op], &x86_ops[op]);
        if (!needs_no_host((enum jit_kind)forms[op].kind) &&
            (!has[x86_ops[op].feature] || (!avx && (x86_ops[op].attributes & X86_OP_AVX))))
            forms[op] = (struct jit_form){0};
    }
}
