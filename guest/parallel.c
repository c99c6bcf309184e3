/*
 * Two processors at once: memory order (SDM 3A 8.2), locked instructions of every width and at every place, single accesses,
 * code that the other one changes while it runs (9.1.3), pages that change between code and data, and mappings that are taken
 * away by an interrupt to the other one (4.10.5). Run with two processors.
 */
#include "guest.h"

enum {
    TRAMPOLINE = 0x9000,
    APIC = 0xfee00000,
    EOI = APIC + 0xb0,
    SVR = APIC + 0xf0,
    ICR = APIC + 0x300,
    ICR_HIGH = APIC + 0x310,
    SHOOT_VECTOR = 0x40,
};

static volatile u32 *apic(u32 at)
{
    return (volatile u32 *)(ulong)at;
}

static void relax(void)
{
    asm volatile("pause" : : : "memory");
}

/* ---- The other processor: it does a job, which is a function, and says so ---- */

static void (*volatile job)(void);
static volatile u32 jobs_given, jobs_done;
u8 ap_stack[8192] __attribute__((aligned(16)));
static u64 ap_idt[256][2] __attribute__((aligned(16)));

/* Removes a page from the TLB where it is told to. */
volatile ulong shoot_address;
volatile u32 shoot_done;
extern const u8 shoot_entry[];

extern const u8 ap_start[], ap_start_end[];
asm(".section .rodata\n"
    ".code16\n"
    ".global ap_start, ap_start_end, ap_entry\n"
    "ap_start: cli\n"
    "mov %cs, %ax\n"
    "mov %ax, %ds\n"
    "lgdtl 1f - ap_start\n"
    "mov $0x20, %eax\n"
    "mov %eax, %cr4\n"
    "mov $boot_pml4, %eax\n"
    "mov %eax, %cr3\n"
    "mov $0xc0000080, %ecx\n"
    "rdmsr\n"
    "or $0x100, %eax\n"
    "wrmsr\n"
    "mov $0x80000031, %eax\n"
    "mov %eax, %cr0\n"
    "ljmpl $8, $ap_entry\n"
    "1: .word 0x7ff\n"
    ".long gdt\n"
    "ap_start_end:\n"
    ".code64\n"
    ".text\n"
    "ap_entry: mov $0x10, %eax\n"
    "mov %eax, %ds\n"
    "mov %eax, %es\n"
    "mov %eax, %ss\n"
    "mov $ap_stack + 8192, %esp\n"
    "call ap_main\n"
    ".global shoot_entry\n"
    "shoot_entry: push %rax\n"
    "mov shoot_address, %rax\n"
    "invlpg (%rax)\n"
    "mov $0xfee000b0, %eax\n"
    "movl $0, (%rax)\n"
    "movl $1, shoot_done\n"
    "pop %rax\n"
    "iretq\n");

void ap_main(void);
void ap_main(void)
{
    ap_idt[SHOOT_VECTOR][0] = gate(SEL_KCODE, (u32)(ulong)shoot_entry, ACCESS_P | TYPE_INT, 0);
    load_idt(ap_idt, sizeof(ap_idt) - 1);
    *apic(SVR) = 0x1ff;
    for (;;) {
        while (jobs_given == jobs_done)
            relax();
        job();
        asm volatile("cli");
        jobs_done++;
    }
}

static void start_other(void)
{
    u32 other = !(*apic(APIC + 0x20) >> 24);

    memcpy((void *)TRAMPOLINE, ap_start, (size_t)(ap_start_end - ap_start));
    *apic(SVR) = 0x1ff;
    *apic(ICR_HIGH) = other << 24;
    *apic(ICR) = 0x4500; /* INIT */
    *apic(ICR_HIGH) = other << 24;
    *apic(ICR) = 0x4600 | TRAMPOLINE >> 12; /* SIPI */
}

static void give(void (*what)(void))
{
    job = what;
    jobs_given++;
}
static void wait_done(void)
{
    while (jobs_given != jobs_done)
        relax();
}

/* Both do the same, `which` 0 here and 1 there. */
static void (*both_do)(unsigned which);
static void other_half(void)
{
    both_do(1);
}
static void both(void (*what)(unsigned which))
{
    both_do = what;
    give(other_half);
    what(0);
    wait_done();
}

/* Both come here before either goes on. */
static volatile u32 arrived[2][16];
static void meet(unsigned which)
{
    u32 mine = arrived[which][0] + 1;

    arrived[which][0] = mine;
    while ((int)(arrived[!which][0] - mine) < 0)
        relax();
}

/* ---- Memory order ---- */

enum { ROUNDS = 3000, COUNTS = 20000 };

static struct {
    volatile u32 value;
    u32 other_line[31];
} x[2];
static volatile u32 saw[2];
static volatile u32 both_zero;

/* SDM 3A 8.2.3.4: loads may pass older stores to other places, but no fence and no locked instruction. */
#define STORE_BUFFERING(name, fence)                                                                         \
    static void name(unsigned which)                                                                         \
    {                                                                                                        \
        for (unsigned n = 0; n < ROUNDS; n++) {                                                              \
            x[which].value = 0;                                                                              \
            meet(which);                                                                                     \
            x[which].value = 1;                                                                              \
            asm volatile(fence : : : "memory", "cc", "rax");                                                 \
            saw[which] = x[!which].value;                                                                    \
            meet(which);                                                                                     \
            if (which == 0 && !saw[0] && !saw[1])                                                            \
                both_zero++;                                                                                 \
            meet(which);                                                                                     \
        }                                                                                                    \
    }
STORE_BUFFERING(store_buffering_mfence, "mfence")
STORE_BUFFERING(store_buffering_lock, "lock addl $0, -8(%%rsp)")
STORE_BUFFERING(store_buffering_xchg, "xchg %%rax, -8(%%rsp)")
STORE_BUFFERING(store_buffering_cpuid, "push %%rbx\n push %%rcx\n push %%rdx\n xor %%eax, %%eax\n cpuid\n"
                                       "pop %%rdx\n pop %%rcx\n pop %%rbx")

static void test_store_buffering(void)
{
    group("stores before loads, with fences");
    both_zero = 0;
    both(store_buffering_mfence);
    expect_equal(both_zero, 0, "MFENCE");
    both(store_buffering_lock);
    expect_equal(both_zero, 0, "a locked instruction");
    both(store_buffering_xchg);
    expect_equal(both_zero, 0, "XCHG");
    both(store_buffering_cpuid);
    expect_equal(both_zero, 0, "CPUID");
}

/* SDM 3A 8.2.3.2: stores are seen in order, loads are done in order. */
static volatile u32 message, sent;
static volatile u32 out_of_order, received;
static void message_passing(unsigned which)
{
    if (which == 0) {
        for (u32 n = 1; n <= COUNTS * 5; n++) {
            message = n;
            sent = n;
        }
    } else {
        u32 flag;

        do {
            flag = sent;
            out_of_order += (int)(message - flag) < 0;
            received++;
        } while (flag != COUNTS * 5);
    }
}

/* SDM 3A 8.1.1: an aligned access is all or nothing, of 8 bytes too; one inside a cache line as well. */
static u64 shared[16] __attribute__((aligned(64)));
static volatile u32 torn;
static volatile u32 stop;
#define SINGLE_ACCESS(name, type, at)                                                                        \
    static void name(unsigned which)                                                                         \
    {                                                                                                        \
        volatile type *p = (volatile type *)((u8 *)shared + (at));                                           \
                                                                                                             \
        if (which == 0) {                                                                                    \
            for (u32 n = 0; n < COUNTS * 2; n++)                                                             \
                *p = n & 1 ? (type) ~(type)0 : 0;                                                            \
            stop = 1;                                                                                        \
        } else {                                                                                             \
            while (!stop) {                                                                                  \
                type value = *p;                                                                             \
                                                                                                             \
                torn += value != 0 && value != (type) ~(type)0;                                              \
            }                                                                                                \
        }                                                                                                    \
    }
SINGLE_ACCESS(single_2, u16, 2)
SINGLE_ACCESS(single_4, u32, 4)
SINGLE_ACCESS(single_8, u64, 8)
SINGLE_ACCESS(single_8_unaligned, u64, 3)

static void check_single(void (*what)(unsigned), const char *name)
{
    torn = stop = 0;
    memset(shared, 0, sizeof(shared));
    both(what);
    expect_equal(torn, 0, "%s", name);
}

static void test_order(void)
{
    group("stores and loads in order");
    both(message_passing);
    expect_equal(out_of_order, 0, "a message before its flag");
    expect_true(received, "the other one looked");
    check_single(single_2, "2 bytes are one access");
    check_single(single_4, "4 bytes are one access");
    check_single(single_8, "8 bytes are one access");
    check_single(single_8_unaligned, "8 bytes in a cache line are one access");
}

/* ---- Locked instructions ---- */

/* Where the operand lies: in a line of its own, over the end of a line, over the end of a page, in a page that is executed. */
static u8 places[3 * 4096] __attribute__((aligned(4096)));
static u8 *volatile operand;

#define COUNTER(name, type, text)                                                                            \
    static void name(unsigned which)                                                                         \
    {                                                                                                        \
        meet(which);                                                                                         \
        for (u32 n = 0; n < COUNTS; n++) {                                                                   \
            type a = 1;                                                                                      \
                                                                                                             \
            asm volatile(text : "+a"(a) : "D"(operand) : "memory", "cc", "rbx", "rcx", "rdx");               \
        }                                                                                                    \
    }
COUNTER(lock_inc, u32, "lock incl (%%rdi)")
COUNTER(lock_add, u64, "lock addq %%rax, (%%rdi)")
COUNTER(lock_dec_inc2, u16, "lock decw (%%rdi)\n lock addw $2, (%%rdi)")
COUNTER(lock_xadd, u64, "lock xaddq %%rax, (%%rdi)")
COUNTER(lock_xadd32, u32, "lock xaddl %%eax, (%%rdi)")
COUNTER(lock_cmpxchg, u32,
        "movl (%%rdi), %%eax\n 1: leal 1(%%rax), %%ecx\n lock cmpxchgl %%ecx, (%%rdi)\n jnz 1b")
COUNTER(lock_cmpxchg8b, u64,
        "movl (%%rdi), %%eax\n movl 4(%%rdi), %%edx\n"
        "1: mov %%eax, %%ebx\n mov %%edx, %%ecx\n addl $1, %%ebx\n adcl $0, %%ecx\n"
        "lock cmpxchg8b (%%rdi)\n jnz 1b")
/* A spin lock around what is not locked: the counter after it, in 4 bytes more. */
COUNTER(xchg_lock, u32,
        "1: movl $1, %%eax\n xchgl %%eax, (%%rdi)\n testl %%eax, %%eax\n jz 2f\n pause\n jmp 1b\n"
        "2: incl 8(%%rdi)\n movl $0, (%%rdi)")
COUNTER(bts_lock, u32,
        "1: lock btsl $3, (%%rdi)\n jnc 2f\n pause\n jmp 1b\n"
        "2: incl 8(%%rdi)\n lock btrl $3, (%%rdi)")
/* Both halves count, the upper one by twos. */
COUNTER(lock_cmpxchg16b, u64,
        "movq (%%rdi), %%rax\n movq 8(%%rdi), %%rdx\n"
        "1: lea 1(%%rax), %%rbx\n lea 2(%%rdx), %%rcx\n lock cmpxchg16b (%%rdi)\n jnz 1b")

static const struct {
    const char *name;
    void (*what)(unsigned which);
    unsigned result_at;
    bool aligned;
} counters[] = {
    {"LOCK INC", lock_inc, 0, false},
    {"LOCK ADD of 8 bytes", lock_add, 0, false},
    {"LOCK DEC and ADD of 2 bytes", lock_dec_inc2, 0, false},
    {"LOCK XADD of 8 bytes", lock_xadd, 0, false},
    {"LOCK XADD", lock_xadd32, 0, false},
    {"LOCK CMPXCHG", lock_cmpxchg, 0, false},
    {"LOCK CMPXCHG8B", lock_cmpxchg8b, 0, false},
    {"a lock by XCHG", xchg_lock, 8, false},
    {"a lock by BTS and BTR", bts_lock, 8, false},
    {"LOCK CMPXCHG16B", lock_cmpxchg16b, 0, true},
};

static void test_locked(void)
{
    static const struct {
        const char *name;
        unsigned at;
        bool aligned;
    } where[] = {
        {"in a line", 128, true},
        {"over the end of a line", 192 - 1, false},
        {"over the end of a page", 4096 - 1, false},
        {"in a page with code", 2 * 4096 + 128, true},
        {"over the end of a line in a page with code", 2 * 4096 + 192 - 1, false},
    };
    static const u8 ret = 0xc3;
    u8 *code = places + 2 * 4096;

    group("locked instructions");
    for (unsigned n = 0; n < ARRAY_SIZE(counters); n++) {
        for (unsigned w = 0; w < ARRAY_SIZE(where); w++) {
            u64 result = 0;

            if (counters[n].aligned && !where[w].aligned)
                continue;
            memset(places, 0, sizeof(places));
            *code = ret;
            ((void (*)(void))code)();
            operand = places + where[w].at;
            both(counters[n].what);
            memcpy(&result, operand + counters[n].result_at, n == 2 ? 2 : 4);
            expect_equal(result, n == 2 ? (u16)(2 * COUNTS) : 2 * COUNTS, "%s %s", counters[n].name,
                         where[w].name);
            if (counters[n].aligned)
                expect_equal(*(u64 *)(operand + 8), 4 * COUNTS, "%s %s: the upper half", counters[n].name,
                             where[w].name);
        }
    }
}

/* ---- Code ---- */

enum { CODE_PAGES = 64, CHANGES = 3000 };
static u8 code_pages[CODE_PAGES * 4096] __attribute__((aligned(4096)));
static volatile u32 code_wrong;
static volatile u32 code_turn, code_seen;

/* MOV EAX, value; RET, at 3 so that the immediate is aligned. */
static void put_function(volatile u8 *page, u32 value)
{
    page[3] = 0xb8;
    *(volatile u32 *)(page + 4) = value;
    page[8] = 0xc3;
}
static u32 call(u8 *page)
{
    u32 result;

    asm volatile("call *%1" : "=a"(result) : "r"(page + 3) : "memory");
    return result;
}

/* One writes, the other serialises and executes; every time in another page, and every page many times. */
static void changed_by_turns(unsigned writer, unsigned which)
{
    for (u32 n = 1; n <= CHANGES; n++) {
        u8 *page = code_pages + n % CODE_PAGES * 4096;

        if (which == writer) {
            put_function(page, n);
            code_turn = n;
            while (code_seen != n)
                relax();
        } else {
            while (code_turn != n)
                relax();
            cpuid(0, 0);
            code_wrong += call(page) != n;
            /* Pages with code become data for both, and code again. */
            *(volatile u32 *)(page + 2048) = n;
            code_seen = n;
        }
    }
}
static void changed_here(unsigned which)
{
    changed_by_turns(0, which);
}
static void changed_there(unsigned which)
{
    changed_by_turns(1, which);
}

/* While it runs: one or the other immediate, and nothing else; the last one after both have met. */
static void changed_at_once(unsigned which)
{
    u8 *page = code_pages;

    if (which == 0)
        put_function(page, 0);
    meet(which);
    if (which == 0) {
        for (u32 n = 1; n <= CHANGES; n++)
            *(volatile u32 *)(page + 4) = n * 0x10001;
    } else {
        u32 last = 0;

        do {
            u32 value = call(page);

            code_wrong += value >> 16 != (value & 0xffff) || value < last;
            last = value;
            cpuid(0, 0);
        } while (last != CHANGES * 0x10001);
    }
    meet(which);
    cpuid(0, 0);
    code_wrong += call(page) != CHANGES * 0x10001;
}

static void test_code(void)
{
    group("code that the other processor changes");
    both(changed_here);
    expect_equal(code_wrong, 0, "by the first");
    code_turn = code_seen = 0;
    both(changed_there);
    expect_equal(code_wrong, 0, "by the second");
    both(changed_at_once);
    expect_equal(code_wrong, 0, "while it runs");
}

/* ---- Mappings ---- */

enum { SHOTS = 1000, POISON = 0xdead };
#define SHOT 0x40000000ul /* its page */
extern u64 boot_pdpt[512];
static u64 shot_pd[512] __attribute__((aligned(4096))), shot_pt[512] __attribute__((aligned(4096)));
static u64 frames[2][512] __attribute__((aligned(4096)));
static volatile u32 stale, reads;

/* Reads and counts through the mapping until it is told to stop. */
static void use_mapping(void)
{
    volatile u64 *page = (volatile u64 *)SHOT;

    asm volatile("sti");
    while (!stop) {
        stale += page[0] == POISON;
        page[8]++;
        reads++;
    }
    asm volatile("cli");
}

static void test_mappings(void)
{
    u32 used_after = 0;

    group("a mapping that is taken away");
    shot_pd[0] = (u64)(ulong)shot_pt | 7;
    shot_pt[0] = (u64)(ulong)frames[0] | 7;
    u64 before = boot_pdpt[1];
    boot_pdpt[1] = (u64)(ulong)shot_pd | 7;
    write_cr3(read_cr3());
    stop = 0;
    give(use_mapping);
    while (!reads)
        relax();
    shoot_address = SHOT;
    for (unsigned n = 1; n <= SHOTS; n++) {
        volatile u64 *old = frames[!(n & 1)], *new = frames[n & 1];
        u64 count;

        new[0] = n + 0x10000;
        *(volatile u64 *)&shot_pt[0] = (u64)(ulong) new | 7;
        shoot_done = 0;
        *apic(ICR_HIGH) = 1 << 24;
        *apic(ICR) = 0x4000 | SHOOT_VECTOR;
        while (!shoot_done)
            relax();
        old[0] = POISON;
        count = old[8];
        u32 now = reads;
        for (unsigned spin = 0; spin < 1000 && reads - now < 3; spin++)
            relax();
        used_after += old[8] != count;
    }
    stop = 1;
    wait_done();
    boot_pdpt[1] = before;
    write_cr3(read_cr3());
    expect_equal(stale, 0, "no load by the old mapping");
    expect_equal(used_after, 0, "no store by the old mapping");
}

static void do_nothing(void) {}

void test(void)
{
    start_other();
    give(do_nothing);
    for (u32 n = 0; n < 20000000 && jobs_given != jobs_done; n++)
        relax();
    if (jobs_given != jobs_done) {
        skip_group("two processors", "there is no second one (--cpus 2)");
        return;
    }
    test_store_buffering();
    test_order();
    test_locked();
    test_code();
    test_mappings();
}
