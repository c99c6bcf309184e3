/* Contexts, traps, expectations and the tables of the processor; output is in print.c. */
#include "guest.h"

enum { TRAP_STACK_SIZE = 16384 };

u64 gdt[GDT_ENTRIES] __attribute__((aligned(16)));
u64 idt[256][sizeof(ulong) / 4] __attribute__((aligned(16)));
u8 tss[0x2100] __attribute__((aligned(4096))); /* the I/O map ends with a byte of ones */

static u8 trap_stack[4][TRAP_STACK_SIZE] __attribute__((aligned(16))); /* for rings 0, 1 and 2, and IST1 */
static struct trap result;
static bool running;

extern const ulong trap_entries[256];
void run_context(const struct context *context);
void runtime_main(void);

/* ---- Tables ---- */

u64 descriptor(u32 base, u32 limit, u8 access, u8 flags)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
           (u64)(limit >> 16 & 0xf) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

struct access access_of(u8 byte)
{
    struct access a = {.type = byte & 15, .dpl = byte >> 5 & 3, .s = byte & ACCESS_S, .p = byte & ACCESS_P};

    a.code = a.s && byte & ACCESS_CODE;
    a.writable = a.s && !a.code && byte & ACCESS_W;
    a.readable = a.s && (!a.code || byte & ACCESS_W);
    a.conforming = a.code && byte & ACCESS_E;
    return a;
}

u64 gate(u16 selector, u32 offset, u8 access, u8 count)
{
    return (offset & 0xffff) | (u64)selector << 16 | (u64)count << 32 | (u64)access << 40 |
           (u64)(offset >> 16) << 48;
}

void set_gate(int vector, u16 selector, ulong handler, u8 access, u8 ist)
{
    idt[vector][0] = gate(selector, (u32)handler, access, ist);
#ifdef __x86_64__
    idt[vector][1] = handler >> 32;
#endif
}

ulong trap_entry(int vector)
{
    return trap_entries[vector];
}

void load_idt(const void *table, u16 limit)
{
    struct pseudo_descriptor idtr = {limit, (ulong)table};

    asm volatile("lidt %0" ::"m"(idtr));
}

void load_gdt(u16 limit)
{
    struct pseudo_descriptor gdtr = {limit, (ulong)gdt};

    asm volatile("lgdt %0" ::"m"(gdtr));
}

void reset_idt(void)
{
    for (int i = 0; i < 256; i++) {
        u8 dpl = i == BP || i == OF || i == VECTOR_END ? 3 : 0;

        set_gate(i, SEL_KCODE, trap_entries[i], ACCESS_P | dpl << ACCESS_DPL_SHIFT | TYPE_INT, 1);
    }
    load_idt(idt, sizeof(idt) - 1);
}

void load_tss(u32 limit)
{
    gdt[SEL_TSS / 8] = descriptor((u32)(ulong)tss, limit, ACCESS_P | TYPE_TSS, 0);
    gdt[SEL_TSS / 8 + 1] = 0;
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
}

static void set_up_tss(void)
{
#ifdef __x86_64__
    for (int ring = 0; ring < 3; ring++)
        *(u64 *)(tss + 4 + 8 * ring) = (u64)(trap_stack[ring] + TRAP_STACK_SIZE);
    *(u64 *)(tss + 0x24) = (u64)(trap_stack[3] + TRAP_STACK_SIZE);
#else
    for (int ring = 0; ring < 3; ring++)
        *(u32 *)(tss + 4 + 8 * ring) = (u32)(trap_stack[ring] + TRAP_STACK_SIZE);
    *(u32 *)(tss + 8) = SEL_KDATA;
    *(u32 *)(tss + 16) = SEL_RING_DATA(1);
    *(u32 *)(tss + 24) = SEL_RING_DATA(2);
#endif
    *(u16 *)(tss + 0x66) = sizeof(tss); /* no I/O map */
}

static void set_up_gdt(void)
{
    u8 native = sizeof(ulong) == 8 ? FLAGS_L | FLAGS_G : FLAGS_D | FLAGS_G, flat = FLAGS_D | FLAGS_G;

    gdt[SEL_KCODE / 8] = descriptor(0, 0xfffff, CODE_XR(0), native);
    gdt[SEL_KDATA / 8] = descriptor(0, 0xfffff, DATA_RW(0), flat);
    gdt[SEL_UCODE32 / 8] = descriptor(0, 0xfffff, CODE_XR(3), flat);
    gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, DATA_RW(3), flat);
    gdt[SEL_UCODE64 / 8] = descriptor(0, 0xfffff, CODE_XR(3), FLAGS_L | FLAGS_G);
    gdt[SEL_UDATA2 / 8] = descriptor(0, 0xfffff, DATA_RW(3), flat);
    gdt[SEL_KCODE32 / 8] = descriptor(0, 0xfffff, CODE_XR(0), flat);
    gdt[SEL_KCODE16 / 8] = descriptor(0, 0xffff, CODE_XR(0), 0);
    gdt[SEL_KDATA16 / 8] = descriptor(0, 0xffff, DATA_RW(0), 0);
    for (unsigned ring = 0; ring < 4; ring++) {
        gdt[SEL_RING_CODE(ring) / 8] = descriptor(0, 0xfffff, CODE_XR(ring), native);
        gdt[SEL_RING_DATA(ring) / 8] = descriptor(0, 0xfffff, DATA_RW(ring), flat);
    }
    load_gdt(sizeof(gdt) - 1);
}

/* Firmware may have left the interrupt controllers in any state: vectors 20h to 2Fh, all masked. */
static void set_up_pic(void)
{
    static const u8 words[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x01}, {0x21, 0xff},
                                  {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 0x02}, {0xa1, 0x01}, {0xa1, 0xff}};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        outb(words[i][0], words[i][1]);
}

/* COM1: 115200 8n1. */
static void set_up_serial(void)
{
    outb(0x3fb, 0x83);
    outb(0x3f8, 1);
    outb(0x3f9, 0);
    outb(0x3fb, 3);
}

void runtime_main(void)
{
    set_up_gdt();
    set_up_tss();
    load_tss(TSS_LIMIT);
    reset_idt();
    set_up_pic();
    set_up_serial();
    test();
    finish();
}

/* ---- Running ---- */

_Static_assert(offsetof(struct context, gs) == CTX_GS, "the assembly's offsets");

/* What is there already is not written again: a store to code costs an engine its translation. */
static void put_byte(u8 *at, u8 byte)
{
    if (*at != byte)
        *at = byte;
}

size_t place(struct code code, ulong address)
{
    u8 *to = (u8 *)address;
    size_t size = (size_t)(code.end - code.begin);

    for (size_t i = 0; i < size; i++)
        put_byte(to + i, code.begin[i]);
    put_byte(to + size, 0xcd);
    put_byte(to + size + 1, VECTOR_END);
    return size;
}

static struct context context(struct code code, u16 cs, u16 data)
{
    place(code, CODE_AREA);
    return (struct context){
        .ip = CODE_AREA, .sp = STACK_TOP, .flags = FLAG_FIXED, .cs = cs, .ss = data, .ds = data, .es = data};
}

struct context kernel_context(struct code code)
{
    return context(code, SEL_KCODE, SEL_KDATA);
}

struct context user_context(struct code code)
{
    return context(code, SEL_UCODE, SEL_UDATA);
}

struct context ring_context(int ring, struct code code)
{
    return context(code, SEL_RING_CODE(ring), SEL_RING_DATA(ring));
}

const struct trap *run(const struct context *start)
{
    running = true;
    result = (struct trap){.start = start->ip};
    run_context(start);
    return &result;
}

/* Called by the trap handlers: `registers` is a struct context without IP, FLAGS, CS, SS and SP, which are in `pushed`. */
void trap_enter(struct context *registers, const ulong *pushed);
void trap_enter(struct context *registers, const ulong *pushed)
{
    struct context *at = &result.at;

    result.cr2 = read_cr2();
    *at = *registers;
    result.vector = (int)pushed[0];
    result.error = pushed[1];
    at->ip = pushed[2];
    at->cs = pushed[3] & 0xffff;
    at->flags = pushed[4];
    result.frame = (ulong)&pushed[2];
#ifdef __x86_64__
    result.outer = true;
    at->sp = pushed[5];
    at->ss = pushed[6] & 0xffff;
#else
    result.outer = at->flags & FLAG_VM || (at->cs & 3) > 0;
    at->sp = result.outer ? pushed[5] : (ulong)&pushed[5];
    at->ss = result.outer ? pushed[6] & 0xffff : SEL_KDATA;
    if (at->flags & FLAG_VM) {
        at->es = pushed[7];
        at->ds = pushed[8];
        at->fs = pushed[9];
        at->gs = pushed[10];
    }
#endif
    at->ds &= 0xffff;
    at->es &= 0xffff;
    at->fs &= 0xffff;
    at->gs &= 0xffff;
    if (!running)
        panic("unexpected vector %d, error %#lx, at %#lx:%#lx, flags %#lx, cr2 %#lx", result.vector,
              result.error, at->cs, at->ip, at->flags, result.cr2);
    running = false;
}

/* ---- Processor facts ---- */

bool cpu_has(struct feature feature)
{
    u32 first = feature.leaf & 0x80000000;
    struct cpuid r;

    if (cpuid(first, 0).a < feature.leaf)
        return false;
    r = cpuid(feature.leaf, 0);
    return ((const u32 *)&r)[feature.reg] >> feature.bit & 1;
}

bool cpu_is_amd(void)
{
    return cpuid(0, 0).b == 0x68747541; /* "Auth" */
}

unsigned cpu_phys_bits(void)
{
    return cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
}

void *memcpy(void *to, const void *from, size_t size)
{
    u8 *t = to;
    const u8 *f = from;

    while (size--)
        *t++ = *f++;
    return to;
}

void *memset(void *at, int byte, size_t size)
{
    u8 *p = at;

    while (size--)
        *p++ = (u8)byte;
    return at;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const u8 *x = a, *y = b;

    for (; size--; x++, y++) {
        if (*x != *y)
            return *x - *y;
    }
    return 0;
}
