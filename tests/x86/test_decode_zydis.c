/*
 * The decoder and the opcode table against Zydis, over every opcode with many ModRM bytes and over random bytes: which
 * bytes are an instruction, how long it is, its mnemonic, sizes, displacement and immediates, which flags it touches, LOCK
 * and privilege. Every difference that is accepted is a row of a table below, with the reason.
 */
#include "x86/decode.h"
#include "x86/vcpu_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <cmocka.h>
#include <Zydis/Zydis.h>

/* ---- Accepted differences ---- */

/* Zydis decodes these and we do not: extensions that no CPU model here will have soon. */
static const struct {
    ZydisISAExt extension;
    const char *reason;
} unlisted_extensions[] = {
    {ZYDIS_ISA_EXT_AMD3DNOW, "gone from AMD processors since 2011"},
    {ZYDIS_ISA_EXT_XOP, "AMD family 15h only"},
    {ZYDIS_ISA_EXT_TBM, "AMD family 15h only"},
    {ZYDIS_ISA_EXT_FMA4, "AMD family 15h only"},
    {ZYDIS_ISA_EXT_AVX512EVEX, "AVX-512 comes later"},
    {ZYDIS_ISA_EXT_AVX512VEX, "AVX-512 comes later"},
    {ZYDIS_ISA_EXT_AMX_BF16, "AMX is not planned"},
    {ZYDIS_ISA_EXT_AMX_INT8, "AMX is not planned"},
    {ZYDIS_ISA_EXT_AMX_TILE, "AMX is not planned"},
    {ZYDIS_ISA_EXT_KNC, "Knights Corner coprocessor"},
    {ZYDIS_ISA_EXT_KNCE, "Knights Corner coprocessor"},
    {ZYDIS_ISA_EXT_KNCV, "Knights Corner coprocessor"},
    {ZYDIS_ISA_EXT_CET, "shadow stacks; switching Zydis's CET off leaves some of them"},
    {ZYDIS_ISA_EXT_KEYLOCKER, "not planned"},
    {ZYDIS_ISA_EXT_KEYLOCKER_WIDE, "not planned"},
    {ZYDIS_ISA_EXT_ENQCMD, "accelerator queues"},
    {ZYDIS_ISA_EXT_PADLOCK, "VIA processors"},
    {ZYDIS_ISA_EXT_SGX, "enclaves"},
    {ZYDIS_ISA_EXT_SGX_ENCLV, "enclaves"},
    {ZYDIS_ISA_EXT_TDX, "confidential guests"},
    {ZYDIS_ISA_EXT_SNP, "confidential guests"},
    {ZYDIS_ISA_EXT_PCONFIG, "memory encryption keys"},
    {ZYDIS_ISA_EXT_AMD_INVLPGB, "not planned"},
    {ZYDIS_ISA_EXT_UINTR, "user interrupts"},
    {ZYDIS_ISA_EXT_TSX_LDTRK, "not planned"},
    {ZYDIS_ISA_EXT_MCOMMIT, "not planned"},
    {ZYDIS_ISA_EXT_HRESET, "not planned"},
};

enum { MODE16 = 1, MODE32 = 2, MODE64 = 4, ANY_MODE = 7, INTEL = 8, AMD = 16, ANY_VENDOR = 24 };
enum aspect {
    VALIDITY,
    LENGTH,
    MNEMONIC,
    OPERAND_SIZE,
    FLAGS_WRITTEN,
    FLAGS_UNDEFINED,
    FLAGS_READ,
    PRIVILEGE
};

/* One aspect of one instruction, in some modes. Names are ours, or Zydis's where we have no instruction. */
static const struct {
    const char *mnemonic;
    enum aspect aspect;
    u8 where;
    const char *reason;
} differences[] = {
    {"SYSCALL", VALIDITY, INTEL | MODE16 | MODE32,
     "Zydis knows no vendor: Intel has it in 64-bit mode alone"},
    {"SYSRET", VALIDITY, INTEL | MODE16 | MODE32, "likewise"},
    {"SYSENTER", VALIDITY, AMD | MODE64, "AMD has it outside long mode alone (APM 3)"},
    {"SYSEXIT", VALIDITY, AMD | MODE64, "likewise"},
    {"MOV", VALIDITY, AMD | ANY_MODE, "LOCK MOV CR0 is CR8 on AMD; only_lock_mov_cr0 looks closer"},
    {"UD0", VALIDITY, AMD | ANY_MODE, "AMD's UD0 has no ModRM (APM 3); with LOCK neither decodes"},
    {"UD0", LENGTH, AMD | ANY_MODE, "likewise"},
    {"CALLF", MNEMONIC, ANY_VENDOR | ANY_MODE, "Zydis: CALL, with a far operand"},
    {"JMPF", MNEMONIC, ANY_VENDOR | ANY_MODE, "Zydis: JMP, with a far operand"},
    {"RETF", MNEMONIC, ANY_VENDOR | ANY_MODE, "Zydis: RET, branch type far"},
    {"WBNOINVD", MNEMONIC, ANY_VENDOR | ANY_MODE, "Zydis 4.0: WBINVD, whatever its switch for this says"},
    {"ENDBR32", MNEMONIC, ANY_VENDOR | ANY_MODE, "CET is switched off in Zydis: NOP"},
    {"ENDBR64", MNEMONIC, ANY_VENDOR | ANY_MODE, "likewise"},
    {"NOP", OPERAND_SIZE, ANY_VENDOR | ANY_MODE, "without CET, Zydis takes 66 for mandatory on 0F 1E"},
    {"MOVDIR64B", OPERAND_SIZE, ANY_VENDOR | ANY_MODE, "its register has the address size"},
    {"SYSCALL", FLAGS_READ, ANY_VENDOR | ANY_MODE, "copies RFLAGS to R11"},
    {"SBB", FLAGS_UNDEFINED, ANY_VENDOR | ANY_MODE, "SDM: AF is set according to the result"},
    {"BEXTR", FLAGS_UNDEFINED, ANY_VENDOR | ANY_MODE, "SDM: OF and CF are cleared"},
    {"VPTEST", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "SDM: OF, AF, PF and SF are cleared"},
    {"VTESTPS", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "SDM: OF, AF, PF and SF are cleared"},
    {"VTESTPD", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "SDM: OF, AF, PF and SF are cleared"},
    {"VMCALL", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "SDM: the arithmetic flags, not DF"},
    {"VMLAUNCH", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "SDM: the arithmetic flags; DF is the guest's, later"},
    {"VMRESUME", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "likewise"},
    {"RDPRU", FLAGS_WRITTEN, ANY_VENDOR | ANY_MODE, "APM: clears or sets them"},
    {"RDPMC", PRIVILEGE, ANY_VENDOR | ANY_MODE, "depends on CR4.PCE"},
    {"RSM", PRIVILEGE, ANY_VENDOR | ANY_MODE, "#UD outside SMM"},
    {"LGDT", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"VMRUN", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"VMLOAD", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"VMSAVE", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"STGI", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"CLGI", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
    {"SKINIT", PRIVILEGE, ANY_VENDOR | ANY_MODE, "forgotten in Zydis"},
};

/* ---- The comparison ---- */

enum { MAX_REPORTS = 40 };

struct oracle {
    ZydisDecoder zydis[3];
    struct x86_decode_mode mode;
    u8 where; /* of `differences` */
    u8 *page; /* its last byte is the last that may be read */
    u64 random;
    unsigned long cases, agreed;
    unsigned reports;
};

static u8 random_byte(struct oracle *o)
{
    o->random ^= o->random << 13;
    o->random ^= o->random >> 7;
    o->random ^= o->random << 17;
    return (u8)(o->random >> 24);
}

static bool accepted(const struct oracle *o, const char *mnemonic, enum aspect aspect)
{
    for (size_t i = 0; i < ARRAY_SIZE(differences); i++) {
        if (differences[i].aspect == aspect && !strcasecmp(differences[i].mnemonic, mnemonic) &&
            (differences[i].where & o->where) == o->where)
            return true;
    }
    return false;
}

static void report(struct oracle *o, const u8 *bytes, const char *what, const char *ours, const char *theirs)
{
    if (o->reports++ >= MAX_REPORTS)
        return;
    static const char *const sizes[] = {"16", "32", "64"};
    printf("%s-bit %s:", sizes[o->mode.code_size], o->mode.amd ? "AMD" : "Intel");
    for (unsigned i = 0; i < X86_MAX_INSN; i++)
        printf(" %02x", bytes[i]);
    printf("  %s: ours %s, Zydis %s\n", what, ours, theirs);
}

/* The one of the row's names that this instruction has, with the letter that string instructions get. */
static void expected_mnemonic(const struct x86_insn *insn, char out[48])
{
    const struct x86_op_info *info = &x86_ops[insn->op];
    const char *name = info->mnemonic;
    u8 size = !strncmp(name, "JCXZ", 4) ? insn->address_size : insn->operand_size;
    unsigned names = 1;
    for (const char *c = name; *c; c++)
        names += *c == '/';
    unsigned choice = 0;
    if (names == 3)
        choice = size == 8 ? 2 : size == 4;
    else if (names == 2 && info->attributes & X86_OP_INVALID64)
        choice = size == 4;
    else if (names == 2)
        choice = (insn->prefixes & X86_PFX_REX_W) != 0;
    for (; choice; choice--)
        name = strchr(name, '/') + 1;
    snprintf(out, 48, "%.*s", (int)strcspn(name, "/"), name);
    if (info->attributes & X86_OP_REP) {
        bool byte = strstr(info->operands, "Yb") || strstr(info->operands, "Xb");
        bool word_or_dword = strstr(info->operands, "Yz") || strstr(info->operands, "Xz");
        strcat(out, byte                                        ? "B"
                    : insn->operand_size == 2                   ? "W"
                    : insn->operand_size == 8 && !word_or_dword ? "Q"
                                                                : "D");
    }
}

static u16 flag_mask(ZyanU32 zydis)
{
    static const struct {
        ZyanU32 zydis;
        u16 ours;
    } flags[] = {
        {ZYDIS_CPUFLAG_CF, FLAG_CF}, {ZYDIS_CPUFLAG_PF, FLAG_PF}, {ZYDIS_CPUFLAG_AF, FLAG_AF},
        {ZYDIS_CPUFLAG_ZF, FLAG_ZF}, {ZYDIS_CPUFLAG_SF, FLAG_SF}, {ZYDIS_CPUFLAG_DF, FLAG_DF},
        {ZYDIS_CPUFLAG_OF, FLAG_OF},
    };
    u16 mask = 0;
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        mask |= zydis & flags[i].zydis ? flags[i].ours : 0;
    return mask;
}

static void compare_masks(struct oracle *o, const u8 *bytes, const char *name, const char *what, u16 ours,
                          u16 theirs)
{
    if (ours == theirs)
        return;
    char a[64], b[16];
    snprintf(a, sizeof(a), "%x (%s)", ours, name);
    snprintf(b, sizeof(b), "%x", theirs);
    report(o, bytes, what, a, b);
}

static void compare_flags(struct oracle *o, const u8 *bytes, const char *name, const struct x86_op_info *info,
                          const ZydisAccessedFlags *flags)
{
    u16 undefined = flag_mask(flags->undefined);
    u16 written = flag_mask(flags->modified | flags->set_0 | flags->set_1) | undefined;
    u16 read = flag_mask(flags->tested);
    if (!accepted(o, name, FLAGS_WRITTEN))
        compare_masks(o, bytes, name, "flags written", info->flags_written, written);
    /* Zydis: OF is undefined after any shift; SDM: not after one by 1. */
    bool shift_by_1 = strstr(info->operands, ",1");
    if (!accepted(o, name, FLAGS_UNDEFINED))
        compare_masks(o, bytes, name, "flags undefined", info->flags_undefined,
                      shift_by_1 ? undefined & ~FLAG_OF : undefined);
    /* Ours counts a flag as read that is written in some cases only. */
    if (!accepted(o, name, FLAGS_READ))
        compare_masks(o, bytes, name, "flags read", info->flags_read,
                      (info->flags_read & info->flags_written) | read);
}

static void compare_sizes(struct oracle *o, const u8 *bytes, const char *name, const struct x86_insn *insn,
                          const ZydisDecodedInstruction *z)
{
    const struct x86_op_info *info = &x86_ops[insn->op];
    char ours[16], theirs[16];
    snprintf(ours, sizeof(ours), "%u", insn->address_size * 8);
    snprintf(theirs, sizeof(theirs), "%u", z->address_width);
    if (insn->address_size * 8 != z->address_width)
        report(o, bytes, "address size", ours, theirs);

    /* Zydis knows nothing of AMD's near branches of 16 bits and far pointers of at most 32 in 64-bit mode; for y operands
       it gives the size of v ones. */
    bool sized = strpbrk(info->operands, "vz") || info->attributes & X86_OP_BRANCH;
    if (strchr(info->operands, 'y'))
        sized = o->mode.code_size == X86_CODE64 && strcmp(info->mnemonic, "RDPID") && z->operand_width != 16;
    if (o->mode.amd && o->mode.code_size == X86_CODE64 &&
        (info->attributes & X86_OP_BRANCH || strchr(info->operands, 'p')))
        sized = false;
    if (!strncmp(info->mnemonic, "SYS", 3)) /* operand size tells nothing there but by REX.W */
        sized = false;
    snprintf(ours, sizeof(ours), "%u", insn->operand_size * 8);
    snprintf(theirs, sizeof(theirs), "%u", z->operand_width);
    if (sized && insn->operand_size * 8 != z->operand_width && !accepted(o, name, OPERAND_SIZE))
        report(o, bytes, "operand size", ours, theirs);
}

static void compare_values(struct oracle *o, const u8 *bytes, const struct x86_insn *insn,
                           const ZydisDecodedInstruction *z)
{
    const char *operands = x86_ops[insn->op].operands;
    u64 disp = (u64)z->raw.disp.value;
    if (strchr(operands, 'O') && z->raw.disp.size < 64) /* an offset is not signed */
        disp &= (1ull << z->raw.disp.size) - 1;
    if (z->raw.disp.size && disp != (u64)insn->disp)
        report(o, bytes, "displacement", "another", "right");
    const u64 imms[2] = {insn->imm, insn->imm2};
    for (unsigned i = 0; i < 2; i++) {
        u8 size = z->raw.imm[i].size;
        if (!size || strstr(operands, ",L"))
            continue;
        u64 mask = size == 64 ? ~0ull : (1ull << size) - 1;
        if ((z->raw.imm[i].value.u & mask) != (imms[i] & mask))
            report(o, bytes, "immediate", "another", "right");
        if (z->raw.imm[i].is_relative && imms[i] != (u64)z->raw.imm[i].value.s)
            report(o, bytes, "branch distance", "another", "right");
    }
}

static void compare_memory(struct oracle *o, const u8 *bytes, const struct x86_insn *insn,
                           const ZydisDecodedOperand *operands, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const ZydisDecodedOperandMem *m = &operands[i].mem;
        if (!insn->is_mem || operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
            operands[i].encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || m->index >= ZYDIS_REGISTER_XMM0 ||
            m->type != ZYDIS_MEMOP_TYPE_MEM) /* LEA has no segment */
            continue;
        u8 base = (u8)ZydisRegisterGetId(m->base);
        if (m->base == ZYDIS_REGISTER_NONE)
            base = X86_NO_REG;
        else if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
            base = X86_RIP_REG;
        /* SIB base 101b with mod 00 is no base, whatever REX.B (SDM 2A table 2-5); Zydis: R13D with addresses of 32 bits */
        if (m->base == ZYDIS_REGISTER_R13D && insn->modrm < 0x40)
            base = X86_NO_REG;
        u8 index = m->index == ZYDIS_REGISTER_NONE ? X86_NO_REG : (u8)ZydisRegisterGetId(m->index);
        if (base != insn->base || index != insn->index)
            report(o, bytes, "base or index", "another", "right");
        if (index != X86_NO_REG && insn->address_size != 2 && m->scale != 1 << insn->scale)
            report(o, bytes, "scale", "another", "right");
        static const u8 segments[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
        unsigned segment = (unsigned)(m->segment - ZYDIS_REGISTER_ES);
        if (segment >= ARRAY_SIZE(segments) || segments[segment] != insn->segment)
            report(o, bytes, "segment", "another", "right");
    }
}

/* LOCK MOV CR0 of AMD, the one valid form that Zydis does not know. */
static bool only_lock_mov_cr0(const struct x86_insn *insn)
{
    return (insn->op == OP_MOV_Ry_Cy || insn->op == OP_MOV_Cy_Ry) && insn->reg == 8;
}

static void compare_valid(struct oracle *o, const u8 *bytes, const struct x86_insn *insn,
                          ZydisDecoderContext *context, const ZydisDecodedInstruction *z)
{
    const struct x86_op_info *info = &x86_ops[insn->op];
    const char *theirs = ZydisMnemonicGetString(z->mnemonic);
    char name[48];
    expected_mnemonic(insn, name);
    if (insn->length != z->length && accepted(o, name, LENGTH))
        return;
    if (insn->length != z->length) {
        char a[64], b[64];
        snprintf(a, sizeof(a), "%u (%s)", insn->length, name);
        snprintf(b, sizeof(b), "%u (%s)", z->length, theirs);
        report(o, bytes, "length", a, b);
        return;
    }
    if (strcasecmp(name, theirs) && !accepted(o, name, MNEMONIC))
        report(o, bytes, "mnemonic", name, theirs);
    compare_sizes(o, bytes, name, insn, z);
    compare_values(o, bytes, insn, z);
    if (z->cpu_flags)
        compare_flags(o, bytes, name, info, z->cpu_flags);
    bool privileged = z->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED;
    if (privileged != !!(info->attributes & X86_OP_PRIVILEGED) && !accepted(o, name, PRIVILEGE))
        report(o, bytes, "privilege", name, privileged ? "privileged" : "not privileged");
    bool lockable = z->attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK;
    if (insn->is_mem && lockable != !!(info->attributes & X86_OP_LOCKABLE))
        report(o, bytes, "LOCK", name, lockable ? "lockable" : "not lockable");
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (insn->is_mem && ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&o->zydis[o->mode.code_size], context, z,
                                                                operands, ZYDIS_MAX_OPERAND_COUNT)))
        compare_memory(o, bytes, insn, operands, z->operand_count);
}

/* With fewer bytes there must be no answer, and none of those beyond may be read. */
static void check_truncated(struct oracle *o, const u8 *bytes, const struct x86_insn *whole)
{
    for (unsigned len = 0; len <= whole->length; len++) {
        struct x86_insn insn;
        u8 *start = o->page + 4096 - len;
        memcpy(start, bytes, len);
        enum x86_decode_result result = x86_decode(&o->mode, start, len, &insn);
        if (result != (len < whole->length ? X86_DECODE_MORE : X86_DECODE_OK))
            report(o, bytes, "truncated", "something else", "needs more");
        else if (len == whole->length && memcmp(&insn, whole, sizeof(insn)))
            report(o, bytes, "cut to its length", "decodes otherwise", "-");
    }
}

static bool unlisted(const ZydisDecodedInstruction *z)
{
    for (size_t i = 0; i < ARRAY_SIZE(unlisted_extensions); i++) {
        if (unlisted_extensions[i].extension == z->meta.isa_ext)
            return true;
    }
    return false;
}

static void compare(struct oracle *o, const u8 bytes[X86_MAX_INSN])
{
    struct x86_insn insn;
    memset(&insn, 0, sizeof(insn));
    enum x86_decode_result result = x86_decode(&o->mode, bytes, X86_MAX_INSN, &insn);
    ZydisDecodedInstruction z;
    ZydisDecoderContext context;
    bool zydis_ok = ZYAN_SUCCESS(
        ZydisDecoderDecodeInstruction(&o->zydis[o->mode.code_size], &context, bytes, X86_MAX_INSN, &z));
    o->cases++;
    if (result == X86_DECODE_OK && zydis_ok) {
        o->agreed++;
        compare_valid(o, bytes, &insn, &context, &z);
    } else if (result == X86_DECODE_OK) {
        const char *name = x86_ops[insn.op].mnemonic;
        bool rule = insn.op == OP_UD0_Gv_Ev || only_lock_mov_cr0(&insn);
        if (!rule || !accepted(o, name, VALIDITY))
            report(o, bytes, "validity", x86_ops[insn.op].mnemonic, "invalid");
    } else if (zydis_ok && !unlisted(&z)) {
        const char *name = ZydisMnemonicGetString(z.mnemonic);
        if (!accepted(o, name, VALIDITY))
            report(o, bytes, "validity", "invalid", name);
    }
    if (result == X86_DECODE_OK && o->cases % 64 == 0)
        check_truncated(o, bytes, &insn);
}

static void set_mode(struct oracle *o, enum x86_code_size size, bool amd)
{
    o->mode = (struct x86_decode_mode){.code_size = (u8)size, .amd = amd};
    o->where = (u8)(MODE16 << size) | (amd ? AMD : INTEL);
    ZydisDecoderEnableMode(&o->zydis[size], ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
}

static int setup(void **state)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[] = {
        {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    /* Off: what no feature here gives a meaning is NOP, as on a CPU without these. */
    static const ZydisDecoderMode off[] = {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
                                           ZYDIS_DECODER_MODE_CLDEMOTE, ZYDIS_DECODER_MODE_KNC};
    struct oracle *o = calloc(1, sizeof(*o));
    for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
        ZydisDecoderInit(&o->zydis[m], modes[m].mode, modes[m].stack);
        for (size_t i = 0; i < ARRAY_SIZE(off); i++)
            ZydisDecoderEnableMode(&o->zydis[m], off[i], ZYAN_FALSE);
    }
    o->page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(o->page != MAP_FAILED);
    assert_int_equal(mprotect(o->page + 4096, 4096, PROT_NONE), 0);
    o->random = 0x9e3779b97f4a7c15;
    *state = o;
    return 0;
}

static int teardown(void **state)
{
    struct oracle *o = *state;
    munmap(o->page, 8192);
    free(o);
    return 0;
}

static void finish(struct oracle *o, unsigned long least_agreed)
{
    printf("%lu cases, %lu instructions, %u differences\n", o->cases, o->agreed, o->reports);
    assert_true(o->agreed >= least_agreed);
    assert_int_equal(o->reports, 0);
}

/* ---- What is compared ---- */

static void fill(struct oracle *o, u8 *bytes, unsigned from)
{
    for (unsigned i = from; i < X86_MAX_INSN; i++)
        bytes[i] = random_byte(o);
}

/* One opcode after `lead` (prefixes, escapes): all 64 register forms, and memory forms with and without SIB and
   displacement. */
static void compare_modrm_bytes(struct oracle *o, const u8 *lead, unsigned len, u8 opcode)
{
    static const u8 memory_forms[] = {0x00, 0x04, 0x05, 0x06, 0x42, 0x84};
    u8 bytes[X86_MAX_INSN];
    memcpy(bytes, lead, len);
    bytes[len++] = opcode;
    for (unsigned modrm = 0xc0; modrm < 0x100; modrm++) {
        bytes[len] = (u8)modrm;
        fill(o, bytes, len + 1);
        compare(o, bytes);
    }
    for (unsigned reg = 0; reg < 8; reg++) {
        for (size_t i = 0; i < ARRAY_SIZE(memory_forms); i++) {
            bytes[len] = (u8)(reg << 3) | memory_forms[i];
            fill(o, bytes, len + 1);
            compare(o, bytes);
        }
    }
}

static void every_legacy_opcode(void **state)
{
    static const struct {
        u8 bytes[2];
        u8 len;
    } escapes[] = {{{0}, 0}, {{0x0f}, 1}, {{0x0f, 0x38}, 2}, {{0x0f, 0x3a}, 2}};
    static const u8 prefixes[] = {0, 0x66, 0xf3, 0xf2};
    struct oracle *o = *state;
    for (unsigned size = X86_CODE16; size <= X86_CODE64; size++) {
        for (unsigned variant = 0; variant < ARRAY_SIZE(prefixes) * 4 * (size == X86_CODE64 ? 2 : 1);
             variant++) {
            set_mode(o, size, variant & 1 && size == X86_CODE64);
            u8 prefix = prefixes[variant % 4], lead[8];
            const u8 *escape = escapes[variant / 4 % 4].bytes;
            unsigned len = 0;
            if (prefix)
                lead[len++] = prefix;
            if (variant >= 16)
                lead[len++] = 0x48 | (random_byte(o) & 7); /* REX.W */
            for (unsigned i = 0; i < escapes[variant / 4 % 4].len; i++)
                lead[len++] = escape[i];
            for (unsigned opcode = 0; opcode < 0x100; opcode++)
                compare_modrm_bytes(o, lead, len, (u8)opcode);
        }
    }
    finish(o, 100000);
}

static void every_vex_opcode(void **state)
{
    struct oracle *o = *state;
    for (unsigned size = X86_CODE32; size <= X86_CODE64; size++) {
        set_mode(o, size, false);
        /* map 1..3, pp, L, W, and vvvv 1111b or not */
        for (unsigned variant = 0; variant < 3 * 32; variant++) {
            u8 vvvv = variant & 16 ? 0x78 : 0x30;
            u8 lead[3] = {0xc4, (u8)(0xe0 | (variant / 32 + 1)),
                          (u8)((variant & 3) | (variant & 4) | (variant & 8) << 4 | vvvv)};
            for (unsigned opcode = 0; opcode < 0x100; opcode++)
                compare_modrm_bytes(o, lead, sizeof(lead), (u8)opcode);
        }
    }
    finish(o, 50000);
}

static void random_bytes(void **state)
{
    enum { CASES = 400000 };
    struct oracle *o = *state;
    for (unsigned i = 0; i < CASES; i++) {
        u8 bytes[X86_MAX_INSN];
        set_mode(o, i % 3, i / 3 % 4 == 0);
        fill(o, bytes, 0);
        compare(o, bytes);
    }
    finish(o, CASES / 3);
}

/* Several prefixes, then any map: what plain random bytes seldom give. */
static void random_bytes_with_prefixes(void **state)
{
    enum { CASES = 600000 };
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    struct oracle *o = *state;
    for (unsigned i = 0; i < CASES; i++) {
        u8 bytes[X86_MAX_INSN];
        set_mode(o, i % 3, i / 3 % 4 == 0);
        unsigned count = random_byte(o) % 4, len = 0;
        if (random_byte(o) == 0)
            count = 11; /* over the limit of 15 bytes */
        while (len < count)
            bytes[len++] = prefixes[random_byte(o) % sizeof(prefixes)];
        fill(o, bytes, len);
        if (o->mode.code_size == X86_CODE64 && random_byte(o) & 1)
            bytes[len++] = 0x40 | (random_byte(o) & 15);
        switch (random_byte(o) % 5) {
        case 0: break;
        case 1: bytes[len] = 0x0f; break;
        case 2:
            bytes[len] = 0x0f;
            bytes[len + 1] = random_byte(o) & 1 ? 0x38 : 0x3a;
            break;
        case 3: /* VEX of two bytes */
            bytes[len] = 0xc5;
            bytes[len + 1] |= 0xf8;
            break;
        case 4:
            bytes[len] = 0xc4;
            bytes[len + 1] = (u8)((bytes[len + 1] | 0xc0) & 0xe3);
            break;
        }
        compare(o, bytes);
    }
    finish(o, CASES / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_legacy_opcode, setup, teardown),
        cmocka_unit_test_setup_teardown(every_vex_opcode, setup, teardown),
        cmocka_unit_test_setup_teardown(random_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(random_bytes_with_prefixes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
