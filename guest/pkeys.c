/*
 * Protection keys: PKRU for user pages, IA32_PKRS for supervisor pages; their instructions, what they forbid to whom, and
 * that a change is seen by the next access. 64-bit. SDM 3A 4.6.2, 4.7; SDM 2B RDPKRU, WRPKRU.
 */
#include "guest.h"

enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4, ERROR_I = 16, ERROR_PK = 32 };
enum { READ, WRITE, FETCH };
enum { AD = 1, WD = 2 }; /* access disable, write disable */
enum { PAGE_P = 1, PAGE_W = 2, PAGE_U = 4, PAGE_PS = 0x80, MSR_PKRS = 0x6e1 };

extern u64 boot_pd[]; /* 2 MiB pages; those of the test are its own */
#define ADDRESS ((ulong)TEST_AREA)
/* CODE_AREA and its stack for the supervisor. */
#define ALIAS ((ulong)TEST_AREA + 0x400000)

static ulong plain_cr4;

static u32 read_pkru(void)
{
    u32 low, high;

    asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void write_pkru(u32 value)
{
    asm volatile(".byte 0x0f, 0x01, 0xef" ::"a"(value), "c"(0), "d"(0) : "memory");
}

static void map(ulong address, u64 target, u64 flags, unsigned key)
{
    boot_pd[address >> 21] = target | PAGE_P | PAGE_PS | flags | (u64)key << 59;
}

static struct context access_context(bool user, int access)
{
    struct code code = access == WRITE ? CODE64("mov [rbx], cl") : CODE64("mov al, [rbx]");
    struct context c = user ? user_context(code) : kernel_context(code);

    if (!user) {
        c.ip = ALIAS;
        c.sp = ALIAS + STACK_TOP - CODE_AREA;
    }
    if (access == FETCH)
        c.ip = ADDRESS;
    c.bx = ADDRESS;
    c.cx = 0xcd;
    return c;
}

/* ---- The instructions ---- */

static void instructions(void)
{
    struct {
        const char *name;
        struct code code;
        bool write;
    } rows[] = {
        {"RDPKRU", CODE64(".byte 0x0f, 0x01, 0xee"), false},
        {"WRPKRU", CODE64(".byte 0x0f, 0x01, 0xef"), true},
    };

    group("RDPKRU and WRPKRU");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned user = 0; user < 2; user++) {
            struct context c = user ? user_context(rows[i].code) : kernel_context(rows[i].code);
            const struct trap *trap;

            write_cr4(plain_cr4);
            c.ax = 0x12345670;
            c.cx = 0xffffffff00000000; /* only ECX and EDX count */
            c.dx = 0xffffffff00000000;
            expect_equal(cpuid(7, 0).c >> 4 & 1, 0, "OSPKE without CR4.PKE");
            expect_trap(run(&c), FAULT(UD, 0), "%s without CR4.PKE", rows[i].name);
            c.cx = 1;
            expect_trap(run(&c), FAULT(UD, 0), "%s without CR4.PKE, ECX 1", rows[i].name);
            write_cr4(plain_cr4 | CR4_PKE);
            expect_equal(cpuid(7, 0).c >> 4 & 1, 1, "OSPKE with CR4.PKE");
            for (u32 ecx = 1; ecx; ecx <<= 1) {
                c.cx = ecx;
                expect_trap(run(&c), FAULT(GP, 0), "%s, ECX %#x", rows[i].name, ecx);
            }
            c.cx = 0xffffffff00000000;
            for (u32 edx = 1; edx; edx <<= 1) {
                c.dx = edx;
                expect_trap(run(&c), rows[i].write ? FAULT(GP, 0) : END, "%s, EDX %#x", rows[i].name, edx);
            }
            c.dx = 0xffffffff00000000;
            c.ax = 0xffffffff12345670;
            write_pkru(0x55555554);
            trap = run(&c);
            expect_trap(trap, END, "%s, CPL %u", rows[i].name, 3 * user);
            if (rows[i].write) {
                expect_equal(read_pkru(), 0x12345670, "WRPKRU, CPL %u", 3 * user);
            } else {
                expect_equal(trap->at.ax, 0x55555554, "RDPKRU, CPL %u: RAX", 3 * user);
                expect_equal(trap->at.dx, 0, "RDPKRU, CPL %u: RDX", 3 * user);
            }
            write_pkru(0);
        }
        static const u8 prefixes[] = {0x66, 0xf2, 0xf3, 0xf0};
        for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
            u8 bytes[] = {prefixes[p], 0x0f, 0x01, rows[i].code.begin[2]};
            struct context c = user_context((struct code){bytes, bytes + sizeof(bytes)});

            c.ax = c.cx = c.dx = 0;
            expect_trap(run(&c), FAULT(UD, 0), "%s with prefix %02x", rows[i].name, prefixes[p]);
        }
        struct context c = user_context(rows[i].code);
        c.cs = SEL_UCODE32;
        c.ax = 0x1230;
        c.cx = c.dx = 0;
        expect_trap(run(&c), END, "%s in compatibility mode", rows[i].name);
    }
    write_pkru(0);
    write_cr4(plain_cr4);
}

/* ---- Rights ---- */

struct setting {
    bool user, page_user, writable, wp, pke, pks;
    unsigned key, rights; /* of that key; the other keys have the opposite ones */
    int access;
};

static struct expect rule(const struct setting *s)
{
    bool keys = (s->page_user ? s->pke : s->pks) && s->access != FETCH, denied, good;
    bool write = s->access == WRITE && (s->user || s->wp); /* one that looks at W, and at WD */
    ulong error = ERROR_P | (s->user ? ERROR_U : 0) | (s->access == WRITE ? ERROR_W : 0);

    denied = keys && (s->rights & AD || (s->rights & WD && write));
    good = !denied && (s->page_user || !s->user) && (s->writable || !write);
    return good ? END : FAULT(PF, error | (denied ? ERROR_PK : 0));
}

static void one_case(const struct setting *s)
{
    u32 rights = (~s->rights & 3) * 0x55555555u;
    struct context c = access_context(s->user, s->access);
    const struct trap *trap;
    u64 entry;

    rights = (rights & ~(3u << 2 * s->key)) | s->rights << 2 * s->key;
    rights &= ~3u; /* key 0 is everybody else's */
    map(ADDRESS, ADDRESS, (s->page_user ? PAGE_U : 0) | (s->writable ? PAGE_W : 0), s->key);
    entry = boot_pd[ADDRESS >> 21];
    invlpg(ADDRESS);
    write_cr0(s->wp ? read_cr0() | CR0_WP : read_cr0() & ~(ulong)CR0_WP);
    write_cr4(plain_cr4 | (s->pke ? CR4_PKE : 0) | (s->pks ? CR4_PKS : 0));
    if (s->pke)
        write_pkru(rights);
    if (s->pks)
        wrmsr(MSR_PKRS, rights);
    trap = run(&c);
    if (s->pke)
        write_pkru(0);
    if (s->pks)
        wrmsr(MSR_PKRS, 0);
    write_cr4(plain_cr4);
    expect_trap(trap, rule(s), "%s %s of a %s page, W %u, WP %u PKE %u PKS %u, key %u with rights %u",
                s->user ? "user" : "supervisor",
                s->access == READ    ? "read"
                : s->access == WRITE ? "write"
                                     : "fetch",
                s->page_user ? "user" : "supervisor", s->writable, s->wp, s->pke, s->pks, s->key, s->rights);
    if (trap->vector == PF)
        expect_equal(boot_pd[ADDRESS >> 21] & 0x40, entry & 0x40, "no dirty flag after a fault");
}

static void rights(void)
{
    group("rights");
    *(u16 *)ADDRESS = 0x80cd; /* what a fetch finds */
    for (unsigned n = 0; n < 1 << 8; n++) {
        for (unsigned key = 1; key < 16; key += key == 1 ? 5 : 3) {
            for (int access = READ; access <= FETCH; access++) {
                struct setting s = {
                    .user = n & 1,
                    .page_user = n & 2,
                    .writable = n & 4,
                    .wp = n & 8,
                    .pke = n & 16,
                    .pks = n & 32,
                    .rights = n >> 6,
                    .key = key,
                    .access = access,
                };
                if (s.pks && (!cpu_has(CPU_PKS) || (s.user && !s.page_user)))
                    continue; /* not a user's page anyway: processors differ in what they say of the key */
                one_case(&s);
            }
        }
    }
    /* Every key has its own two bits. */
    for (unsigned key = 1; key < 16; key++) {
        for (unsigned r = 0; r < 4; r++) {
            struct setting s = {true, true, true, true, true, false, key, r, WRITE};

            one_case(&s);
        }
    }
}

/* ---- What is cached ---- */

static void changes(void)
{
    struct code code = CODE64("mov [rbx], cl\n"
                              "mov eax, 0x4\n" /* AD of key 1 */
                              "xor ecx, ecx\n xor edx, edx\n"
                              ".byte 0x0f, 0x01, 0xef\n" /* at 11 */
                              "mov cl, [rbx]\n");
    struct context c;

    group("changes are seen by the next access");
    map(ADDRESS, ADDRESS, PAGE_U | PAGE_W, 1);
    invlpg(ADDRESS);
    write_cr4(plain_cr4 | CR4_PKE);
    write_pkru(0);
    c = user_context(code);
    c.bx = ADDRESS;
    expect_trap(run(&c), FAULT_AT(PF, ERROR_P | ERROR_U | ERROR_PK, 14), "WRPKRU that takes access away");
    write_pkru(AD << 2);
    c = access_context(true, READ);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_U | ERROR_PK), "read without access");
    write_pkru(WD << 2);
    expect_trap(run(&c), END, "read with access again");
    c = access_context(true, WRITE);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_U | ERROR_W | ERROR_PK), "write without right to write");
    write_pkru(0);
    expect_trap(run(&c), END, "write with the right");
    write_pkru(WD << 2);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_U | ERROR_W | ERROR_PK), "write without it again");
    write_cr4(plain_cr4);
    expect_trap(run(&c), END, "write without CR4.PKE");
    write_cr4(plain_cr4 | CR4_PKE);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_U | ERROR_W | ERROR_PK), "write with CR4.PKE");
    expect_equal(read_pkru(), WD << 2, "PKRU is kept while CR4.PKE is clear");
    /* A page gets another key by an invalidation. */
    map(ADDRESS, ADDRESS, PAGE_U | PAGE_W, 2);
    invlpg(ADDRESS);
    expect_trap(run(&c), END, "write with another key");
    if (cpu_has(CPU_XSAVE) && cpuid(0xd, 0).a & 0x200) {
        static u8 area[4096] __attribute__((aligned(64)));

        write_cr4(plain_cr4 | CR4_PKE | CR4_OSXSAVE);
        asm volatile("xsetbv" ::"a"(0x201), "c"(0), "d"(0));
        *(u64 *)(area + 512) = 0x200;
        *(u32 *)(area + cpuid(0xd, 9).b) = WD << 4;
        asm volatile("xrstor %0" ::"m"(*area), "a"(0x200), "d"(0));
        expect_equal(read_pkru(), WD << 4, "XRSTOR loads PKRU");
        expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_U | ERROR_W | ERROR_PK), "write after XRSTOR");
        *(u64 *)(area + 512) = 0;
        asm volatile("xrstor %0" ::"m"(*area), "a"(0x200), "d"(0));
        expect_equal(read_pkru(), 0, "XRSTOR puts PKRU in its initial state");
        expect_trap(run(&c), END, "write after that");
        write_cr4(plain_cr4 | CR4_PKE);
    }
    /* The processor's own accesses are a supervisor's, and to user pages PKRU forbids them too. The GDT ends in the page. */
    struct pseudo_descriptor there = {SEL_TEST + 7, ADDRESS - SEL_TEST};
    map(ADDRESS, ADDRESS, PAGE_U | PAGE_W, 1);
    invlpg(ADDRESS);
    write_pkru(0);
    memcpy((void *)there.base, gdt, SEL_TEST);
    *(u64 *)ADDRESS = descriptor(0, 0xfffff, DATA_RW(3) & ~ACCESS_A, FLAGS_G | FLAGS_D);
    asm volatile("lgdt %0" ::"m"(there));
    c = user_context(CODE64("mov es, ecx"));
    c.cx = SEL_TEST | 3;
    write_pkru(AD << 2);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_PK), "descriptor, without access");
    write_pkru(WD << 2);
    write_cr0(read_cr0() | CR0_WP);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_W | ERROR_PK), "descriptor's accessed bit, CR0.WP set");
    write_cr0(read_cr0() & ~(ulong)CR0_WP);
    expect_trap(run(&c), END, "descriptor's accessed bit, CR0.WP clear");
    load_gdt(sizeof(gdt) - 1);
    write_pkru(0);
    write_cr4(plain_cr4);
}

static void supervisor_keys(void)
{
    struct context c;

    if (!cpu_has(CPU_PKS)) {
        skip_group("IA32_PKRS", "the processor has none");
        return;
    }
    group("IA32_PKRS");
    for (unsigned bit = 0; bit < 64; bit++) {
        c = kernel_context(CODE64("wrmsr"));
        c.cx = MSR_PKRS;
        c.ax = bit < 32 ? 1ul << bit : 0;
        c.dx = bit < 32 ? 0 : 1ul << (bit - 32);
        expect_trap(run(&c), bit < 32 ? END : FAULT(GP, 0), "bit %u", bit);
        if (bit < 32)
            expect_equal(rdmsr(MSR_PKRS), 1ul << bit, "bit %u", bit);
    }
    wrmsr(MSR_PKRS, 0);
    write_cr4(plain_cr4 | CR4_PKS);
    map(ADDRESS, ADDRESS, PAGE_W, 3);
    invlpg(ADDRESS);
    c = access_context(false, READ);
    expect_trap(run(&c), END, "read");
    wrmsr(MSR_PKRS, AD << 6);
    expect_trap(run(&c), FAULT(PF, ERROR_P | ERROR_PK), "read after WRMSR");
    wrmsr(MSR_PKRS, 0);
    expect_trap(run(&c), END, "read again");
    write_cr4(plain_cr4);
}

void test(void)
{
    if (!cpu_has(CPU_PKU)) {
        skip_group("PKRU", "the processor has none");
        finish();
    }
    plain_cr4 = read_cr4();
    map(ALIAS, CODE_AREA, PAGE_W, 0);
    invlpg(ALIAS);
    instructions();
    rights();
    changes();
    supervisor_keys();
}
