/*
 * Host code that fp.h jumps into: one stub for each immediate of the vector instructions that take one, and one for each
 * x87 instruction, so that the host executes exactly what the guest asked for without code being made at run time.
 */
#include "engine/interp/fp.h"

#include <cpuid.h>
#include <string.h>

/* `count` stubs of `size` bytes: lines of code in which fp_n is the stub's number. */
#define STUBS(name, count, size, code)                                                                       \
    asm(".pushsection .text\n\t.balign 16\n\t.globl " #name "\n\t.hidden " #name "\n\t"                      \
        ".type " #name ", @function\n" #name ":\n\t.set fp_n, 0\n\t.rept " #count "\n\t" code                \
        "\n\tret\n\t.balign " #size "\n\t.set fp_n, fp_n + 1\n\t.endr\n\t"                                   \
        ".size " #name ", . - " #name "\n\t.popsection");

#define VECTOR_STUBS(name, form, bytes, count, ...)                                                          \
    STUBS(fp_stubs_##name, count, 16, #name " $fp_n, %xmm1, %xmm0")
FP_IMM_SSE2(VECTOR_STUBS)
FP_IMM_INT(VECTOR_STUBS)
FP_IMM_CRYPTO(VECTOR_STUBS)
FP_IMM_COMPARE(VECTOR_STUBS)
FP_IMM_FLOAT(VECTOR_STUBS)
#define VEX_STUBS(name, form, bytes, count, ...)                                                             \
    STUBS(fp_stubs_##name, count, 16, #name " $fp_n, %xmm1, %xmm0, %xmm0")
FP_IMM_VCOMPARE(VEX_STUBS)
FP_F16C_IMM_FLOAT(VECTOR_STUBS)

#define RETURN_INDEX_FLAGS "lahf\n\tseto %al\n\tmovzwl %ax, %eax\n\tshll $16, %ecx\n\torl %ecx, %eax"
STUBS(fp_stubs_PCMPISTRI, 128, 32, "pcmpistri $fp_n, %xmm1, %xmm0\n\t" RETURN_INDEX_FLAGS)
STUBS(fp_stubs_PCMPISTRM, 128, 32, "pcmpistrm $fp_n, %xmm1, %xmm0")
STUBS(fp_stubs_PCMPESTRI, 128, 32, "movl %edi, %eax\n\tpcmpestri $fp_n, %xmm1, %xmm0\n\t" RETURN_INDEX_FLAGS)
STUBS(fp_stubs_PCMPESTRM, 128, 32, "movl %edi, %eax\n\tpcmpestrm $fp_n, %xmm1, %xmm0")

/* x87: number = opcode byte - D8h (3 bits), then the low 6 bits of ModRM, or its reg field with the operand at (%rdi). */
extern const char x87_stubs_register[], x87_stubs_memory[];
enum { X87_STUB_SIZE = 4 };
STUBS(x87_stubs_register, 512, 4, ".byte 0xd8 + (fp_n >> 6), 0xc0 + (fp_n & 63)")
STUBS(x87_stubs_memory, 64, 4, ".byte 0xd8 + (fp_n >> 3), 0x07 + ((fp_n & 7) << 3)")

/* What FNSAVE stores in 64-bit mode (SDM 1 figure 8-9, 32-bit protected-mode format). */
struct fnsave_image {
    u16 fcw, pad0, fsw, pad1, ftw, pad2;
    u32 fip;
    u16 fcs, fop;
    u32 fdp;
    u16 fds, pad3;
    u8 st[8][10]; /* relative to TOP */
} __attribute__((packed));

void x87_execute(struct x87_state *x87, u8 opcode, u8 modrm, void *operand, u16 *flags)
{
    const char *stub = modrm >= 0xc0 ? x87_stubs_register + ((opcode << 6) + (modrm & 63)) * X87_STUB_SIZE
                                     : x87_stubs_memory + ((opcode << 3) + (modrm >> 3 & 7)) * X87_STUB_SIZE;
    struct fnsave_image image = {
        .fcw = x87->fcw, .fsw = x87->fsw, .pad0 = 0xffff, .pad1 = 0xffff, .pad2 = 0xffff};
    unsigned top = x87->fsw >> FSW_TOP_SHIFT & 7;
    u64 packed = *flags;

    for (unsigned n = 0; n < 8; n++) {
        memcpy(image.st[n], &x87->reg[(top + n) & 7], 10);
        if (!(x87->tags >> n & 1))
            image.ftw |= 3 << 2 * n;
    }
    /* The call must not touch the red zone. */
    asm volatile("frstor (%[image])\n\t"
                 "lea -128(%%rsp), %%rsp\n\t"
                 "addb $0x7f, %%al\n\tsahf\n\t"
                 "call *%[stub]\n\t"
                 "lahf\n\tseto %%al\n\t"
                 "lea 128(%%rsp), %%rsp\n\t"
                 "fnsave (%[image])"
                 : "+a"(packed)
                 : [image] "r"(&image), [stub] "r"(stub), "D"(operand)
                 : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    *flags = (u16)packed;
    x87->fsw = image.fsw;
    top = image.fsw >> FSW_TOP_SHIFT & 7;
    x87->tags = 0;
    for (unsigned n = 0; n < 8; n++) {
        memcpy(&x87->reg[(top + n) & 7], image.st[n], 10);
        if ((image.ftw >> 2 * n & 3) != 3)
            x87->tags |= 1 << n;
    }
}

/* The host's kernel keeps the upper halves of vector registers: VEX-coded instructions do not fault. */
static bool host_avx_enabled(void)
{
    enum { OSXSAVE = 1 << 27, SSE_AND_AVX = 6 };
    u32 a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return false;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & SSE_AND_AVX) == SSE_AND_AVX;
}

u32 fp_host_features(void)
{
    static const struct {
        u8 leaf, subleaf;
        enum { A, B, C } reg;
        u8 bit;
        u32 feature;
    } table[] = {
        {1, 0, C, 0, FP_HOST_SSE3},    {1, 0, C, 9, FP_HOST_SSSE3},    {1, 0, C, 19, FP_HOST_SSE4_1},
        {1, 0, C, 20, FP_HOST_SSE4_2}, {1, 0, C, 25, FP_HOST_AES},     {1, 0, C, 1, FP_HOST_PCLMUL},
        {7, 0, B, 29, FP_HOST_SHA},    {7, 0, C, 8, FP_HOST_GFNI},     {1, 0, C, 12, FP_HOST_FMA},
        {1, 0, C, 29, FP_HOST_F16C},   {7, 1, A, 4, FP_HOST_AVX_VNNI}, {1, 0, C, 28, FP_HOST_AVX},
    };
    const u32 vex = FP_HOST_AVX | FP_HOST_FMA | FP_HOST_F16C | FP_HOST_AVX_VNNI;
    u32 features = 0, r[4];

    for (unsigned n = 0; n < ARRAY_SIZE(table); n++)
        if (__get_cpuid_count(table[n].leaf, table[n].subleaf, &r[A], &r[B], &r[C], &r[3]) &&
            r[table[n].reg] >> table[n].bit & 1)
            features |= table[n].feature;
    return host_avx_enabled() ? features : features & ~vex;
}
