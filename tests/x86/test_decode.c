/* The decoder's rules, one by one: prefixes, sizes, addresses, immediates, and what is #UD. */
#include "x86/decode.h"
#include "x86/vcpu_state.h"
#include "x86/cpu_features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { I16, I32, I64, A16, A32, A64 }; /* vendor and mode */

/* Bytes from "66 0F 1F"; they count even when they are fewer than an instruction needs. */
static enum x86_decode_result decode(unsigned mode, const char *hex, struct x86_insn *insn)
{
    const struct x86_decode_mode m = {.code_size = (u8)(mode % 3), .amd = mode >= A16};
    u8 bytes[32];
    size_t len = 0;
    for (char *end; *hex; hex = end)
        bytes[len++] = (u8)strtoul(hex, &end, 16);
    return x86_decode(&m, bytes, len, insn);
}

static struct x86_insn good(unsigned mode, const char *hex, u16 op)
{
    struct x86_insn insn;
    enum x86_decode_result result = decode(mode, hex, &insn);
    if (result != X86_DECODE_OK)
        fail_msg("%s: result %d", hex, result);
    if (insn.op != op)
        fail_msg("%s: %s %s instead of %s %s", hex, x86_ops[insn.op].mnemonic, x86_ops[insn.op].operands,
                 x86_ops[op].mnemonic, x86_ops[op].operands);
    if (insn.length != (strlen(hex) + 1) / 3)
        fail_msg("%s: length %u", hex, insn.length);
    return insn;
}

static void bad(unsigned mode, const char *hex)
{
    struct x86_insn insn;
    if (decode(mode, hex, &insn) != X86_DECODE_INVALID)
        fail_msg("%s is %s", hex, x86_ops[insn.op].mnemonic);
}

static void sizes_by_mode_and_prefix(void **opaque)
{
    static const struct {
        unsigned mode;
        const char *hex;
        u16 op;
        u8 operand, address;
    } cases[] = {
        {I16, "01 D8", OP_ADD_Ev_Gv, 2, 2},
        {I16, "66 01 D8", OP_ADD_Ev_Gv, 4, 2},
        {I16, "67 01 D8", OP_ADD_Ev_Gv, 2, 4},
        {I32, "01 D8", OP_ADD_Ev_Gv, 4, 4},
        {I32, "66 67 01 D8", OP_ADD_Ev_Gv, 2, 2},
        {I64, "01 D8", OP_ADD_Ev_Gv, 4, 8},
        {I64, "66 01 D8", OP_ADD_Ev_Gv, 2, 8},
        {I64, "48 01 D8", OP_ADD_Ev_Gv, 8, 8},
        {I64, "66 48 01 D8", OP_ADD_Ev_Gv, 8, 8},
        {I64, "67 01 D8", OP_ADD_Ev_Gv, 4, 4},
        /* 64 bits by default, 16 with 66 */
        {I64, "50", OP_PUSH_Zv, 8, 8},
        {I64, "66 50", OP_PUSH_Zv, 2, 8},
        {I64, "6A 01", OP_PUSH_Ib, 8, 8},
        {I64, "66 68 01 02", OP_PUSH_Iz, 2, 8},
        {I64, "9C", OP_PUSHF, 8, 8},
        {I64, "C9", OP_LEAVE, 8, 8},
        {I64, "CF", OP_IRET, 4, 8},
        {I64, "48 CF", OP_IRET, 8, 8},
        {I64, "CB", OP_RETF, 4, 8},
        {I64, "0F A0", OP_PUSH_FS, 8, 8},
        /* near branches: Intel ignores 66, AMD does not */
        {I64, "C3", OP_RET, 8, 8},
        {I64, "66 C3", OP_RET, 8, 8},
        {A64, "66 C3", OP_RET, 2, 8},
        {A64, "66 48 C3", OP_RET, 8, 8},
        {I64, "66 FF D0", OP_CALL_Ev, 8, 8},
        {A64, "66 FF D0", OP_CALL_Ev, 2, 8},
        {I32, "66 C3", OP_RET, 2, 4},
        {I16, "66 C3", OP_RET, 4, 2},
        {I64, "66 E8 01 02 03 04", OP_CALL_Jz, 8, 8},
        {A64, "66 E8 01 02", OP_CALL_Jz, 2, 8},
        {I64, "66 0F 84 01 02 03 04", OP_JZ_Jz, 8, 8},
        {A64, "66 0F 84 01 02", OP_JZ_Jz, 2, 8},
        {I32, "66 0F 84 01 02", OP_JZ_Jz, 2, 4},
        /* far pointers in memory: m16:64 on Intel alone */
        {I64, "48 FF 28", OP_JMPF_Ep, 8, 8},
        {A64, "48 FF 28", OP_JMPF_Ep, 4, 8},
        {I64, "48 0F B2 20", OP_LSS_Gv_Mp, 8, 8},
        {A64, "48 0F B2 20", OP_LSS_Gv_Mp, 4, 8},
        /* control registers have the width of the mode */
        {I16, "0F 20 C0", OP_MOV_Ry_Cy, 4, 2},
        {I32, "66 0F 22 D8", OP_MOV_Cy_Ry, 4, 4},
        {I64, "66 0F 22 D8", OP_MOV_Cy_Ry, 8, 8},
        /* 66 is part of the opcode */
        {I64, "66 0F 38 F6 C1", OP_ADCX_Gy_Ey, 4, 8},
        {I64, "66 48 0F 38 F6 C1", OP_ADCX_Gy_Ey, 8, 8},
        {I16, "F3 0F 2A C1", OP_CVTSI2SS_Vss_Ey, 4, 2},
        /* 66 is a size beside F2 and F3 */
        {I64, "66 F2 0F 38 F1 C1", OP_CRC32_Gd_Ev, 2, 8},
        {I64, "66 F3 0F B8 C1", OP_POPCNT_Gv_Ev, 2, 8},
        {I64, "66 0F 38 F1 08", OP_MOVBE_Mv_Gv, 2, 8},
        {I64, "66 0F C7 F0", OP_RDRAND_Rv, 2, 8},
        {I64, "C4 E2 F8 F2 C1", OP_ANDN_Gy_By_Ey, 8, 8},
        {I32, "C4 E2 F8 F2 C1", OP_ANDN_Gy_By_Ey, 4, 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct x86_insn insn = good(cases[i].mode, cases[i].hex, cases[i].op);
        if (insn.operand_size != cases[i].operand || insn.address_size != cases[i].address)
            fail_msg("%s: operand %u, address %u", cases[i].hex, insn.operand_size, insn.address_size);
    }
}

static void prefixes_are_collected(void **opaque)
{
    struct x86_insn insn = good(I64, "F2 66 F3 67 01 18", OP_ADD_Ev_Gv);
    assert_int_equal(insn.prefixes, X86_PFX_66 | X86_PFX_67 | X86_PFX_REP);
    insn = good(I64, "F3 F2 A4", OP_MOVS_Yb_Xb); /* the last of F2 and F3 counts */
    assert_int_equal(insn.prefixes, X86_PFX_REPNE);
    insn = good(I64, "F0 4C 01 18", OP_ADD_Ev_Gv);
    assert_int_equal(insn.prefixes, X86_PFX_LOCK | X86_PFX_REX | X86_PFX_REX_W);
    assert_int_equal(insn.reg, RBX + 8);
    insn = good(I64, "4C 66 01 D8", OP_ADD_Ev_Gv); /* REX counts only before the opcode */
    assert_int_equal(insn.prefixes, X86_PFX_66);
    assert_int_equal(insn.reg, RBX);
    assert_int_equal(insn.operand_size, 2);
    insn = good(I64, "4C 41 01 D8", OP_ADD_Ev_Gv); /* the last of two */
    assert_int_equal(insn.reg, RBX);
    assert_int_equal(insn.rm, R8);
    insn = good(I64, "40 88 E0", OP_MOV_Eb_Gb); /* SPL, not AH */
    assert_int_equal(insn.prefixes, X86_PFX_REX);
    good(I32, "48", OP_DEC_Zv);
}

static void segments(void **opaque)
{
    static const struct {
        unsigned mode;
        const char *hex;
        u8 segment;
        bool override;
    } cases[] = {
        {I32, "01 03", SEG_DS, false},
        {I32, "01 45 00", SEG_SS, false},
        {I32, "01 04 24", SEG_SS, false},
        {I32, "01 04 2C", SEG_SS, false}, /* [esp+ebp] */
        {I32, "01 44 25 00", SEG_SS, false},
        {I32, "01 04 2B", SEG_DS, false}, /* [ebx+ebp] */
        {I32, "01 05 00 00 00 00", SEG_DS, false},
        {I32, "64 01 03", SEG_FS, true},
        {I32, "64 2E 01 45 00", SEG_CS, true},
        {I32, "36 01 03", SEG_SS, true},
        {I16, "01 02", SEG_SS, false}, /* [bp+si] */
        {I16, "01 07", SEG_DS, false},
        {I16, "01 06 34 12", SEG_DS, false},
        {I16, "01 46 00", SEG_SS, false},
        {I16, "26 01 46 00", SEG_ES, true},
        {I64, "41 01 04 24", SEG_DS, false},
        {I64, "41 01 45 00", SEG_DS, false}, /* r12, r13 */
        {I64, "01 45 00", SEG_SS, false},
        {I64, "2E 01 03", SEG_DS, false}, /* no effect */
        {I64, "65 2E 01 03", SEG_GS, true},
        {I64, "65 64 01 03", SEG_FS, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct x86_insn insn = good(cases[i].mode, cases[i].hex, OP_ADD_Ev_Gv);
        if (insn.segment != cases[i].segment || insn.segment_override != cases[i].override)
            fail_msg("%s: segment %u", cases[i].hex, insn.segment);
    }
    assert_int_equal(good(I64, "64 A4", OP_MOVS_Yb_Xb).segment, SEG_FS);
}

static void addresses(void **opaque)
{
    enum { NO = X86_NO_REG, RIP = X86_RIP_REG };
    static const struct {
        unsigned mode;
        const char *hex;
        u8 base, index, scale;
        i64 disp;
    } cases[] = {
        {I16, "01 00", RBX, RSI, 0, 0},
        {I16, "01 43 80", RBP, RDI, 0, -128},
        {I16, "01 84 FE FF", RSI, NO, 0, -2},
        {I16, "01 06 FF FF", NO, NO, 0, -1}, /* the engine keeps 16 bits */
        {I16, "01 46 10", RBP, NO, 0, 16},
        {I16, "67 01 04 8B", RBX, RCX, 2, 0},
        {I32, "67 01 06 34 12", NO, NO, 0, 0x1234},
        {I32, "01 05 00 00 00 80", NO, NO, 0, -0x80000000ll},
        {I32, "01 04 25 01 00 00 00", NO, NO, 0, 1},
        {I32, "01 04 E5 01 00 00 00", NO, NO, 3, 1}, /* no index, whatever the scale */
        {I32, "01 44 B5 7F", RBP, RSI, 2, 127},
        {I32, "01 84 B5 00 00 00 01", RBP, RSI, 2, 0x1000000},
        {I64, "01 05 F0 FF FF FF", RIP, NO, 0, -16},
        {I64, "41 01 05 F0 FF FF FF", RIP, NO, 0, -16}, /* REX.B is not decoded */
        {I64, "67 01 05 00 00 00 00", RIP, NO, 0, 0},
        {I64, "01 04 25 FF FF FF FF", NO, NO, 0, -1},
        {I64, "41 01 04 25 FF FF FF FF", NO, NO, 0, -1}, /* nor here */
        {I64, "42 01 04 20", RAX, R12, 0, 0},            /* index 100b with REX.X is r12 */
        {I64, "41 01 04 24", R12, NO, 0, 0},
        {I64, "43 01 44 FF 08", R15, R15, 3, 8},
        {I64, "41 01 45 00", R13, NO, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct x86_insn insn = good(cases[i].mode, cases[i].hex, OP_ADD_Ev_Gv);
        assert_true(insn.is_mem);
        if (insn.base != cases[i].base || insn.index != cases[i].index || insn.disp != cases[i].disp ||
            (insn.index != NO && insn.scale != cases[i].scale))
            fail_msg("%s: base %u index %u scale %u disp %lld", cases[i].hex, insn.base, insn.index,
                     insn.scale, (long long)insn.disp);
    }
}

static void immediates(void **opaque)
{
    static const struct {
        unsigned mode;
        const char *hex;
        u16 op;
        u64 imm, imm2;
    } cases[] = {
        {I64, "80 C0 FF", OP_ADD_Eb_Ib, 0xff, 0},
        {I64, "48 83 C0 FF", OP_ADD_Ev_Ib, ~0ull, 0},
        {I64, "48 81 C0 00 00 00 80", OP_ADD_Ev_Iz, 0xffffffff80000000, 0},
        {I64, "66 81 C0 00 80", OP_ADD_Ev_Iz, 0xffffffffffff8000, 0},
        {I64, "48 B8 88 77 66 55 44 33 22 11", OP_MOV_Zv_Iv, 0x1122334455667788, 0},
        {I64, "B8 FF FF FF FF", OP_MOV_Zv_Iv, 0xffffffff, 0},
        {I64, "66 B8 FF FF", OP_MOV_Zv_Iv, 0xffff, 0},
        {I64, "C1 E0 FF", OP_SHL_Ev_Ib, 0xff, 0},
        {I64, "6A 80", OP_PUSH_Ib, ~0x7full, 0},
        {I64, "6B C0 80", OP_IMUL_Gv_Ev_Ib, ~0x7full, 0},
        {I64, "EB FE", OP_JMP_Jb, ~1ull, 0},
        {I64, "E9 FB FF FF FF", OP_JMP_Jz, ~4ull, 0},
        {I16, "E9 FD FF", OP_JMP_Jz, ~2ull, 0},
        {I64, "C2 FF FF", OP_RET_Iw, 0xffff, 0},
        {I64, "C8 34 12 1F", OP_ENTER_Iw_Ib, 0x1234, 0x1f},
        {I32, "9A 78 56 34 12 CD AB", OP_CALLF_Ap, 0x12345678, 0xabcd},
        {I32, "66 EA 34 12 CD AB", OP_JMPF_Ap, 0x1234, 0xabcd},
        {I64, "F6 C8 01", OP_TEST_Eb_Ib, 1, 0}, /* /1 repeats /0 */
        {I64, "F7 D0", OP_NOT_Ev, 0, 0},
        {I64, "CD 80", OP_INT_Ib, 0x80, 0},
        {I64, "E5 FF", OP_IN_eAX_Ib, 0xff, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct x86_insn insn = good(cases[i].mode, cases[i].hex, cases[i].op);
        if (insn.imm != cases[i].imm || insn.imm2 != cases[i].imm2)
            fail_msg("%s: %llx %llx", cases[i].hex, (unsigned long long)insn.imm,
                     (unsigned long long)insn.imm2);
    }
}

static void offsets_in_the_instruction(void **opaque)
{
    struct x86_insn insn = good(I64, "A1 88 77 66 55 44 33 22 F1", OP_MOV_rAX_Ov);
    assert_true((u64)insn.disp == 0xf122334455667788);
    assert_true(insn.base == X86_NO_REG && insn.index == X86_NO_REG && !insn.is_mem);
    insn = good(I64, "67 A1 78 56 34 F2", OP_MOV_rAX_Ov);
    assert_true((u64)insn.disp == 0xf2345678);
    insn = good(I16, "64 A2 FE FF", OP_MOV_Ob_AL);
    assert_true((u64)insn.disp == 0xfffe && insn.segment == SEG_FS);
}

static void registers(void **opaque)
{
    assert_int_equal(good(I64, "41 57", OP_PUSH_Zv).rm, R15);
    assert_int_equal(good(I64, "41 BF 01 00 00 00", OP_MOV_Zv_Iv).rm, R15);
    assert_int_equal(good(I64, "0F CB", OP_BSWAP_Zv).reg, RBX);
    assert_int_equal(good(I64, "45 0F 6F FF", OP_MOVQ_Pq_Qq).reg, 7); /* there are eight MMX registers */
    assert_int_equal(good(I64, "45 0F 6F FF", OP_MOVQ_Pq_Qq).rm, 7);
    assert_int_equal(good(I64, "66 45 0F 6F FF", OP_MOVDQA_Vdq_Wdq).rm, 15);
    assert_int_equal(good(I64, "45 8E D8", OP_MOV_Sw_Ew).reg, SEG_DS);
    assert_int_equal(good(I64, "45 8E D8", OP_MOV_Sw_Ew).rm, R8);
    assert_int_equal(good(I64, "41 D8 C1", OP_FADD_ST0_STi).rm, 1);
    struct x86_insn insn = good(I64, "C4 42 88 F2 F8", OP_ANDN_Gy_By_Ey);
    assert_int_equal(insn.reg, R15);
    assert_int_equal(insn.vvvv, R14);
    assert_int_equal(insn.rm, R8);
    assert_true(insn.prefixes & X86_PFX_VEX && insn.prefixes & X86_PFX_REX_W);
}

static void one_byte_with_two_meanings(void **opaque)
{
    good(I64, "90", OP_NOP);
    good(I64, "48 90", OP_NOP);
    assert_int_equal(good(I64, "41 90", OP_XCHG_Zv_rAX).rm, R8);
    good(I64, "F3 90", OP_PAUSE);
    good(I64, "F3 41 90", OP_PAUSE); /* as a Xeon has it */
    good(I32, "63 C8", OP_ARPL_Ew_Gw);
    good(I64, "63 C8", OP_MOVSXD_Gv_Ed);
    good(I64, "F3 0F BC C1", OP_TZCNT_Gv_Ev);
    good(I64, "F2 0F BC C1", OP_BSF_Gv_Ev);
    good(I64, "66 F3 0F BD C1", OP_LZCNT_Gv_Ev);
    assert_int_equal(x86_ops[OP_TZCNT_Gv_Ev].without_feature, OP_BSF_Gv_Ev);
    assert_int_equal(x86_ops[OP_LZCNT_Gv_Ev].feature, X86_FEATURE_LZCNT);
    good(I64, "0F C7 0B", OP_CMPXCHG8B_Mq);
    good(I64, "48 0F C7 0B", OP_CMPXCHG16B_Mdq);
    good(I64, "F3 0F C7 0B", OP_CMPXCHG8B_Mq);
    good(I64, "F3 0F C7 F8", OP_RDPID_Ry);
    good(I64, "0F AE E8", OP_LFENCE);
    good(I64, "0F AE E9", OP_LFENCE);
    good(I64, "0F AE 2B", OP_XRSTOR_M);
    good(I64, "66 0F AE 33", OP_CLWB_Mb);
    good(I64, "0F 16 C1", OP_MOVLHPS_Vq_Uq);
    good(I64, "0F 16 01", OP_MOVHPS_Vq_Mq);
    good(I64, "F3 0F 1E FA", OP_ENDBR64);
    good(I64, "0F 1E FA", OP_NOP_Ev);
    good(I64, "0F 01 F8", OP_SWAPGS);
    good(I64, "0F 01 3B", OP_INVLPG_Mb);
    good(I64, "0F 20 00", OP_MOV_Ry_Cy); /* no memory form: mod is ignored */
    assert_false(good(I64, "0F 23 45", OP_MOV_Dy_Ry).is_mem);
    good(I32, "C5 03", OP_LDS_Gz_Mp);
    good(I32, "C5 F8 58 C1", OP_VADDPS_Vps_Hps_Wps);
    good(I16, "C5 F8 77", OP_VZEROUPPER);
    good(I64, "C5 FC 77", OP_VZEROALL);
    good(I64, "DC D1", OP_FCOM_ST0_STi); /* repeats D8 D1 */
    good(I32, "82 C0 01", OP_ADD_Eb_Ib);
    good(I64, "C0 F0 01", OP_SHL_Eb_Ib);
    assert_true(x86_ops[OP_VADDPS_Vps_Hps_Wps].attributes & X86_OP_AVX);
    assert_false(x86_ops[OP_ANDN_Gy_By_Ey].attributes & (X86_OP_LATER | X86_OP_AVX));
}

static void not_an_instruction(void **opaque)
{
    static const struct {
        unsigned mode;
        const char *hex;
    } cases[] = {
        {I64, "06"},
        {I64, "27"},
        {I64, "60"},
        {I64, "62 00"},
        {I64, "82 C0 01"},
        {I64, "9A 00 00 00 00 00 00"},
        {I64, "CE"},
        {I64, "D4 0A"},
        {I64, "D6"},
        {I64, "EA 00 00 00 00 00 00"},
        {I64, "0F 04"},
        {I64, "0F 0A"},
        {I64, "0F B8 C1"},
        {I64, "0F 24 C0"},
        {I64, "8D C0"}, /* LEA of a register */
        {I64, "FE D0"},
        {I64, "FF F8"},
        {I64, "FF D8"},
        {I64, "8F C8"},
        {I64, "C6 C8 01"},
        {I64, "8E C8"},
        {I64, "8E F0"},
        {I64, "8C F0"}, /* MOV CS; no such segment register */
        {I64, "0F 20 C8"},
        {I64, "44 0F 20 C8"},
        {I64, "44 0F 21 C0"}, /* CR1, CR9, DR8 */
        {I64, "D9 D1"},
        {I64, "DB E5"},
        {I64, "DD F0"},
        {I64, "F3 0F AE 2B"},
        {I64, "F3 0F AE E8"},
        {I64, "66 0F AE E8"},
        {I64, "F3 0F 28 C1"},
        {I64, "66 0F 12 C1"},
        {I64, "66 F2 0F 38 00 C1"},
        {I64, "F3 0F 38 F0 03"},
        {I64, "0F C7 C8"},
        {I64, "F2 0F C7 F0"},
        {I64, "66 0F 77"},
        {I32, "0F 01 F8"},
        {I32, "F3 0F AE C0"}, /* SWAPGS, RDFSBASE */
        {I32, "0F 05"},
        {I32, "0F 07"},
        {A64, "0F 34"},
        {A64, "0F 35"},
        /* VEX */
        {I64, "66 C5 F8 58 C1"},
        {I64, "F3 C5 F8 58 C1"},
        {I64, "F0 C5 F8 58 C1"},
        {I64, "48 C5 F8 58 C1"},
        {I64, "C4 E0 78 58 C1"},
        {I64, "C4 E4 78 58 C1"}, /* map */
        {I64, "C5 F0 51 C1"},
        {I32, "C4 E1 38 51 C1"}, /* vvvv where none is used: all four bits, in every mode */
        {I64, "C4 E2 7C F2 C1"},
        {I64, "C4 E2 79 F2 C1"}, /* ANDN with L, with 66 */
        {I64, "C4 E2 F1 90 C0"},
        {I64, "C4 E2 F1 90 00"},
        {I64, "C4 E2 E9 90 04 10"}, /* gathers */
        {I64, "62 F1 7C 48 58 C1"}, /* EVEX: not yet */
        {I64, "C4 E1 78 AE E8"},
        /* LOCK */
        {I64, "F0 90"},
        {I64, "F0 01 C0"},
        {I64, "F0 03 03"},
        {I64, "F0 39 03"},
        {I64, "F0 80 38 01"},
        {I64, "F0 0F A3 03"},
        {I64, "F0 8B 03"},
        {I64, "F0 0F 20 C0"},
        {A64, "F0 0F 20 D0"},
        {I64, "F0 A4"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        bad(cases[i].mode, cases[i].hex);
}

static void lock_with_a_memory_destination(void **opaque)
{
    good(I64, "F0 01 03", OP_ADD_Ev_Gv);
    good(I64, "F0 0F C7 0B", OP_CMPXCHG8B_Mq);
    good(I64, "F0 86 03", OP_XCHG_Eb_Gb);
    good(I64, "F0 0F BA 2B 01", OP_BTS_Ev_Ib);
    struct x86_insn insn = good(A32, "F0 0F 20 C0", OP_MOV_Ry_Cy); /* AMD: CR8 outside 64-bit mode */
    assert_int_equal(insn.reg, 8);
    assert_int_equal(good(I64, "44 0F 20 C0", OP_MOV_Ry_Cy).reg, 8);
}

static void vendors_differ(void **opaque)
{
    good(I64, "0F 05", OP_SYSCALL);
    good(A32, "0F 05", OP_SYSCALL);
    good(A16, "0F 07", OP_SYSRET);
    good(I64, "0F 34", OP_SYSENTER);
    good(A32, "0F 34", OP_SYSENTER);
}

static void length_limit(void **opaque)
{
    struct x86_insn insn;
    assert_int_equal(decode(I64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", &insn), X86_DECODE_OK);
    assert_int_equal(insn.length, 15);
    assert_int_equal(decode(I64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", &insn),
                     X86_DECODE_TOO_LONG);
    assert_int_equal(decode(I64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", &insn), X86_DECODE_TOO_LONG);
    assert_int_equal(decode(I64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66", &insn), X86_DECODE_MORE);
    /* 11 prefix bytes and an ADD of 4 + 4: the immediate is cut off by the limit, not by the end of the bytes */
    assert_int_equal(decode(I32, "2E 2E 2E 2E 2E 2E 2E 2E 2E 81 04 25 00 00 00 00 01 00 00 00", &insn),
                     X86_DECODE_TOO_LONG);
    assert_int_equal(decode(I64, "0F 04", &insn), X86_DECODE_INVALID);
    assert_int_equal(insn.length, 2);
    assert_int_equal(decode(I64, "", &insn), X86_DECODE_MORE);
    assert_int_equal(decode(I64, "0F", &insn), X86_DECODE_MORE);
    assert_int_equal(decode(I64, "C4", &insn), X86_DECODE_MORE);
    assert_int_equal(decode(I32, "C5", &insn), X86_DECODE_MORE);
    assert_int_equal(decode(I64, "F0 01", &insn), X86_DECODE_MORE);
}

/* Facts of the table that the engines rely on. */
static void rows_are_consistent(void **opaque)
{
    for (unsigned op = 1; op < OP_COUNT; op++) {
        const struct x86_op_info *info = &x86_ops[op];
        assert_non_null(info->mnemonic);
        if ((info->flags_undefined & ~info->flags_written) || info->feature >= X86_FEATURE_COUNT ||
            info->without_feature >= OP_COUNT || (info->without_feature && !info->feature))
            fail_msg("%s %s", info->mnemonic, info->operands);
        if (!strncmp(info->encoding, "VEX", 3) && !(info->attributes & X86_OP_NOT_REAL))
            fail_msg("%s is VEX-coded and valid in real mode", info->mnemonic);
    }
    assert_int_equal(x86_ops[OP_ADC_Ev_Gv].flags_read, FLAG_CF);
    assert_int_equal(x86_ops[OP_INC_Ev].flags_written, FLAGS_ARITH & ~FLAG_CF);
    assert_int_equal(x86_ops[OP_SHL_Ev_CL].flags_read, FLAGS_ARITH); /* a count of 0 keeps them */
    assert_true(x86_ops[OP_FADD_Md].attributes & X86_OP_X87);
    assert_true(x86_ops[OP_PADDB_Pq_Qq].attributes & X86_OP_MMX);
    assert_int_equal(x86_ops[OP_PADDB_Vdq_Wdq].attributes & (X86_OP_MMX | X86_OP_SSE), X86_OP_SSE);
    assert_int_equal(x86_ops[OP_CVTPI2PS_Vps_Qpi].attributes & (X86_OP_MMX | X86_OP_SSE),
                     X86_OP_MMX | X86_OP_SSE);
    assert_int_equal(x86_ops[OP_MOVNTI_My_Gy].attributes & (X86_OP_MMX | X86_OP_SSE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_by_mode_and_prefix),
        cmocka_unit_test(prefixes_are_collected),
        cmocka_unit_test(segments),
        cmocka_unit_test(addresses),
        cmocka_unit_test(immediates),
        cmocka_unit_test(offsets_in_the_instruction),
        cmocka_unit_test(registers),
        cmocka_unit_test(one_byte_with_two_meanings),
        cmocka_unit_test(not_an_instruction),
        cmocka_unit_test(lock_with_a_memory_destination),
        cmocka_unit_test(vendors_differ),
        cmocka_unit_test(length_limit),
        cmocka_unit_test(rows_are_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
