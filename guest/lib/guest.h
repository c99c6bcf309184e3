/*
 * What the test kernels of this folder share. A kernel is a multiboot program (32- or 64-bit) that runs one topic: it
 * puts small pieces of code ("snippets") into memory, runs each in a context that it chooses (mode, privilege, segments,
 * registers), and compares how it ended with what the manual says. Whatever ends a snippet is an interrupt or exception:
 * a snippet that runs to its end executes INT 80h (VECTOR_END).
 *
 *     struct context c = user_context(CODE32("mov ds, ax"));
 *     c.ax = SEL_KDATA;
 *     expect_trap(run(&c), GP(SEL_KDATA), "DPL 0 into DS at CPL 3");
 *
 * Each group prints one line, "ok NAME: N cases" or "not ok NAME: M of N cases failed", after a line "FAIL NAME: expected
 * ..., got ..." for each of the (first) failures. The last line is "N passed, N failed", and the isa-debug-exit device
 * gets 0 or 1. Output goes to debugcon (port E9h) and COM1.
 *
 * "SDM" is Intel's Software Developer's Manual; tests cite volume and section.
 */
#ifndef GUEST_H
#define GUEST_H

#ifndef __ASSEMBLER__
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;
typedef unsigned long ulong; /* as wide as a register of this kernel */

#define ARRAY_SIZE(a)     (sizeof(a) / sizeof((a)[0]))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#endif

/* ---- Selectors: the order that SYSCALL, SYSRET, SYSENTER and SYSEXIT want ---- */
#define SEL_KCODE   0x08 /* as wide as this kernel */
#define SEL_KDATA   0x10
#define SEL_UCODE32 0x1b
#define SEL_UDATA   0x23
#define SEL_UCODE64 0x2b
#define SEL_UDATA2  0x33
#define SEL_KCODE32 0x38
#define SEL_KCODE16 0x40 /* base 0, 64 KiB */
#define SEL_KDATA16 0x48 /* base 0, 64 KiB, B=0 */
#define SEL_TSS     0x50 /* 16 bytes in a 64-bit kernel */
#define SEL_RING_CODE(ring)                                                                                  \
    (0x60 + 16 * (ring) + (ring)) /* flat segments of all four rings; code as wide as this kernel */
#define SEL_RING_DATA(ring) (0x68 + 16 * (ring) + (ring))
#define SEL_TEST            0xa0 /* from here on: for the tests */
#define GDT_ENTRIES         256

#ifdef __x86_64__
#define SEL_UCODE SEL_UCODE64
#else
#define SEL_UCODE SEL_UCODE32
#endif

/* ---- Fixed memory; the kernel itself is at 1 MiB ---- */
#define REAL_CODE  0x10000 /* snippets that run in real mode */
#define REAL_DATA  0x20000
#define REAL_STACK 0x30000  /* a stack segment; SP starts at REAL_SP */
#define CODE_AREA  0x400000 /* snippets */
#define STACK_AREA 0x410000 /* a snippet's stack: SP starts at STACK_TOP */
#define STACK_TOP  0x418000
#define DATA_AREA  0x420000
#define PAGE_AREA  0x430000 /* page tables of a test, and so on: up to 0x800000 */
#define TEST_AREA  0x800000 /* pages of a test, up to 16 MiB */

#define VECTOR_END 0x80

/* Offsets in struct context for the assembly. */
#ifdef __x86_64__
#define W 8
#else
#define W 4
#endif
#define CTX_AX    (0 * W)
#define CTX_CX    (1 * W)
#define CTX_DX    (2 * W)
#define CTX_BX    (3 * W)
#define CTX_SP    (4 * W)
#define CTX_BP    (5 * W)
#define CTX_SI    (6 * W)
#define CTX_DI    (7 * W)
#define CTX_IP    (8 * W)
#define CTX_FLAGS (9 * W)
#define CTX_CS    (10 * W)
#define CTX_SS    (11 * W)
#define CTX_DS    (12 * W)
#define CTX_ES    (13 * W)
#define CTX_FS    (14 * W)
#define CTX_GS    (15 * W)
#define CTX_R8    (16 * W) /* 64-bit only, to R15 */

#ifndef __ASSEMBLER__

enum {
    FLAG_CF = 1 << 0,
    FLAG_FIXED = 1 << 1,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
};

enum {
    CR0_PE = 1 << 0,
    CR0_MP = 1 << 1,
    CR0_EM = 1 << 2,
    CR0_TS = 1 << 3,
    CR0_ET = 1 << 4,
    CR0_NE = 1 << 5,
    CR0_WP = 1 << 16,
    CR0_AM = 1 << 18,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
    CR4_VME = 1 << 0,
    CR4_PVI = 1 << 1,
    CR4_TSD = 1 << 2,
    CR4_DE = 1 << 3,
    CR4_PSE = 1 << 4,
    CR4_PAE = 1 << 5,
    CR4_PGE = 1 << 7,
    CR4_PCE = 1 << 8,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_UMIP = 1 << 11,
    CR4_LA57 = 1 << 12,
    CR4_FSGSBASE = 1 << 16,
    CR4_PCIDE = 1 << 17,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
    CR4_PKE = 1 << 22,
    CR4_PKS = 1 << 24,
};
#define CR0_PG 0x80000000ul

enum {
    MSR_APIC_BASE = 0x1b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_PAT = 0x277,
    MSR_TSC_DEADLINE = 0x6e0,
};
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_FMASK          0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
enum { EFER_SCE = 1 << 0, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

/* Vectors with an error code: SDM 3A table 6-1. */
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, COPROCESSOR, TS, NP, SS, GP, PF, MF = 16, AC, MC, XM };

/* ---- Snippets ---- */

/* Machine code: a snippet, or the bytes of a table. */
struct code {
    const u8 *begin, *end;
};

#ifdef __x86_64__
#define CODE_NATIVE  "64"
#define CODE_ADDRESS "lea 771b(%%rip), %0\nlea 772b(%%rip), %1"
#else
#define CODE_NATIVE  "32"
#define CODE_ADDRESS "movl $771b, %0\nmovl $772b, %1"
#endif
/* A snippet in Intel's syntax; it must not depend on where it is. It is assembled for `bits` and is not run here. */
#define CODE(bits, text)                                                                                     \
    ({                                                                                                       \
        struct code code_;                                                                                   \
        asm(".pushsection .snippets, \"ax\"\n"                                                               \
            ".code" bits "\n.intel_syntax noprefix\n"                                                        \
            "771: " text "\n772:\n"                                                                          \
            ".att_syntax prefix\n.code" CODE_NATIVE "\n"                                                     \
            ".popsection\n" CODE_ADDRESS                                                                     \
            : "=r"(code_.begin), "=r"(code_.end));                                                           \
        code_;                                                                                               \
    })
#define CODE16(text) CODE("16", text)
#define CODE32(text) CODE("32", text)
#define CODE64(text) CODE("64", text)

/* ---- Running ---- */

/* Registers before a snippet runs, and after. The order is that of the CTX_ offsets. */
struct context {
    ulong ax, cx, dx, bx, sp, bp, si, di;
    ulong ip, flags, cs, ss, ds, es, fs, gs;
#ifdef __x86_64__
    ulong r8, r9, r10, r11, r12, r13, r14, r15;
#endif
};

/* How a snippet ended. */
struct trap {
    struct context at; /* as the exception handler found it */
    int vector;
    ulong error; /* 0 where the vector has none */
    ulong cr2;
    ulong frame; /* address of the pushed (E/R)IP */
    ulong start; /* address (in its CS) where the snippet was started */
    bool outer;  /* SS and SP were pushed */
};

/* Copy `code`, and INT 80h after it, to `address`. Returns the size of the code. */
size_t place(struct code code, ulong address);

/* Contexts with a flat stack; the code is placed at CODE_AREA. FLAGS is 2: no interrupts, IOPL 0. */
struct context kernel_context(struct code code);
struct context user_context(struct code code);
struct context ring_context(int ring, struct code code);

/* Run from a context until an interrupt or exception. The result is valid until the next run. */
const struct trap *run(const struct context *context);

/* ---- Expectations ---- */

enum { ANYWHERE = -1 };
/* The end of a snippet: the vector, its error code, and the offset of the saved IP in the snippet. */
struct expect {
    int vector;
    ulong error;
    int at;
};
#define FAULT(v, e)       ((struct expect){.vector = (v), .error = (e), .at = 0})
#define FAULT_AT(v, e, a) ((struct expect){.vector = (v), .error = (e), .at = (a)})
#define END               FAULT_AT(VECTOR_END, 0, ANYWHERE)

/* Start a group of cases; ends the one before. */
void group(const char *name);
/* A group that cannot run here, and why. */
void skip_group(const char *name, const char *why);
/* Each of these is one case, named by format and arguments; they return whether it passed. */
bool expect_trap(const struct trap *trap, struct expect want, const char *format, ...) PRINTF(3, 4);
bool expect_equal(u64 got, u64 want, const char *format, ...) PRINTF(3, 4);
/* "got" is a condition: not zero is good. */
#define expect_true(got, ...) expect_equal(!!(got), 1, __VA_ARGS__)
/* Print the summary; and also leave the machine. */
void summary(void);
void finish(void) __attribute__((noreturn));

void print(const char *format, ...) PRINTF(1, 2);
/* Print, and leave with failure: this kernel cannot go on. */
void panic(const char *format, ...) PRINTF(1, 2) __attribute__((noreturn));

/* Each kernel's own. */
void test(void);

/* ---- Tables of the processor ---- */

extern u64 gdt[GDT_ENTRIES];
extern u64 idt[256][sizeof(ulong) / 4];

struct pseudo_descriptor {
    u16 limit;
    ulong base;
} __attribute__((packed));

/* A descriptor's access byte, taken apart. */
struct access {
    unsigned type, dpl; /* type: four bits */
    bool s, p, code, writable, readable, conforming;
};
struct access access_of(u8 byte);

/* Access byte and flags of a descriptor (SDM 3A 3.4.5). */
enum {
    ACCESS_A = 1 << 0,
    ACCESS_W = 1 << 1, /* data: writable; code: readable */
    ACCESS_E = 1 << 2, /* data: expand-down; code: conforming */
    ACCESS_CODE = 1 << 3,
    ACCESS_S = 1 << 4,
    ACCESS_DPL_SHIFT = 5,
    ACCESS_P = 1 << 7,
    FLAGS_L = 1 << 1,
    FLAGS_D = 1 << 2,
    FLAGS_G = 1 << 3,
};
#define DATA_RW(dpl) (ACCESS_P | (dpl) << ACCESS_DPL_SHIFT | ACCESS_S | ACCESS_W | ACCESS_A)
#define CODE_XR(dpl) (ACCESS_P | (dpl) << ACCESS_DPL_SHIFT | ACCESS_S | ACCESS_CODE | ACCESS_W | ACCESS_A)

/* System types (SDM 3A table 3-2). */
enum {
    TYPE_TSS16 = 1,
    TYPE_LDT = 2,
    TYPE_CALL16 = 4,
    TYPE_TASK_GATE = 5,
    TYPE_INT16 = 6,
    TYPE_TRAP16 = 7,
    TYPE_TSS = 9,
    TYPE_CALL = 12,
    TYPE_INT = 14,
    TYPE_TRAP = 15,
};

/* A segment descriptor; the limit is 20 bits, in units that `flags` chooses. */
u64 descriptor(u32 base, u32 limit, u8 access, u8 flags);
/* The low eight bytes of a call, interrupt or trap gate. `access` has P, DPL and type. */
u64 gate(u16 selector, u32 offset, u8 access, u8 count);
/* Point the IDT's `vector` at `handler`; ist is for 64-bit kernels. */
void set_gate(int vector, u16 selector, ulong handler, u8 access, u8 ist);
/* The handler that ends a run with this vector. */
ulong trap_entry(int vector);
/* The IDT as it was at the start. */
void reset_idt(void);
void load_idt(const void *table, u16 limit);
void load_gdt(u16 limit);
/* The current TSS: the stacks of the inner rings. */
extern u8 tss[0x2100];
enum { TSS_LIMIT = 0x67, TSS_IO_MAP = 0x68 };
void load_tss(u32 limit);

/* ---- Instructions ---- */

static inline void outb(u16 port, u8 value)
{
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void outw(u16 port, u16 value)
{
    asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static inline void outl(u16 port, u32 value)
{
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 inl(u16 port)
{
    u32 value;

    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdmsr(u32 msr)
{
    u32 low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (u64)high << 32;
}

static inline void wrmsr(u32 msr, u64 value)
{
    asm volatile("wrmsr" ::"a"((u32)value), "d"((u32)(value >> 32)), "c"(msr) : "memory");
}

static inline u64 rdtsc(void)
{
    u32 low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (u64)high << 32;
}

#define CONTROL_REGISTER(name)                                                                               \
    static inline ulong read_##name(void)                                                                    \
    {                                                                                                        \
        ulong value;                                                                                         \
        asm volatile("mov %%" #name ", %0" : "=r"(value));                                                   \
        return value;                                                                                        \
    }                                                                                                        \
    static inline void write_##name(ulong value)                                                             \
    {                                                                                                        \
        asm volatile("mov %0, %%" #name ::"r"(value) : "memory");                                            \
    }
CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)
#ifdef __x86_64__
CONTROL_REGISTER(cr8)
#endif

static inline void invlpg(ulong address)
{
    asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}

struct cpuid {
    u32 a, b, c, d;
};
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;

    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}

/* A feature flag: leaf, register and bit, for cpu_has(). */
#define FEATURE(leaf, reg, bit) ((struct feature){(leaf), offsetof(struct cpuid, reg) / 4, (bit)})
struct feature {
    u32 leaf;
    u8 reg, bit;
};
bool cpu_has(struct feature feature);
#define CPU_PSE36    FEATURE(1, d, 17)
#define CPU_PGE      FEATURE(1, d, 13)
#define CPU_SEP      FEATURE(1, d, 11)
#define CPU_XSAVE    FEATURE(1, c, 26)
#define CPU_X2APIC   FEATURE(1, c, 21)
#define CPU_PCID     FEATURE(1, c, 17)
#define CPU_DEADLINE FEATURE(1, c, 24)
#define CPU_FSGSBASE FEATURE(7, b, 0)
#define CPU_SMEP     FEATURE(7, b, 7)
#define CPU_INVPCID  FEATURE(7, b, 10)
#define CPU_SMAP     FEATURE(7, b, 20)
#define CPU_UMIP     FEATURE(7, c, 2)
#define CPU_LA57     FEATURE(7, c, 16)
#define CPU_PKU      FEATURE(7, c, 3)
#define CPU_PKS      FEATURE(7, c, 31)
#define CPU_NX       FEATURE(0x80000001, d, 20)
#define CPU_PAGE1GB  FEATURE(0x80000001, d, 26)
#define CPU_LM       FEATURE(0x80000001, d, 29)
bool cpu_is_amd(void);
/* MAXPHYADDR. */
unsigned cpu_phys_bits(void);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *at, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
#endif
#endif
