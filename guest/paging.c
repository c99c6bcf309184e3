/*
 * Paging in all formats: 32-bit with 4 MiB pages and PAE in the 32-bit kernel built from this file, 4-level with 2 MiB and
 * 1 GiB pages and 5-level in the 64-bit one. Every access is held against one rule, which is SDM 3A 4.6 (access rights) and 4.7 (error
 * codes), 4.8 (accessed and dirty flags).
 */
#include "guest.h"

#define FLAG(n) (1ull << (n))
#define P       FLAG(0)
#define W_      FLAG(1)
#define U       FLAG(2)
#define A       FLAG(5)
#define D       FLAG(6)
#define PS      FLAG(7)
#define G       FLAG(8)
#define NX      FLAG(63)
#define RIGHTS  (P | W_ | U)

enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4, ERROR_RSVD = 8, ERROR_I = 16 };
enum { READ, WRITE, FETCH };

/* CODE_AREA and its stack, which are user pages, for the supervisor. */
#define ALIAS       0x10000000ul
#define ALIAS_STACK (ALIAS + STACK_TOP - CODE_AREA)
/* The address under test: its entries of all levels are its own. Bits below 1 GiB are those of its frame. */
#ifdef __x86_64__
#define ADDRESS (format == LEVEL5 ? 0x1008000800000ul : 0x8000800000ul)
#else
#define ADDRESS 0x40800000ul
#endif
#define FRAME TEST_AREA /* the frame that it is mapped to, whatever the page's size */

enum format { BITS32, PAE, LEVEL4, LEVEL5 };
enum { MAX_LEVELS = 5 };
static enum format format;
static unsigned levels; /* whose entries have rights: 2, 2, 4, 5 */

#ifdef __x86_64__
extern u64 boot_pml4[];
#endif
static u64 pml5[512] __attribute__((aligned(4096)));
static u64 pml4[512] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[512] __attribute__((aligned(4096)));
static u64 walk[MAX_LEVELS][1024]
    __attribute__((aligned(4096))); /* the tables of ADDRESS: [0] is the page table */

static bool has_nx(void)
{
    return format != BITS32 && cpu_has(CPU_NX);
}

/* ---- Entries ---- */

static unsigned index_bits(void)
{
    return format == BITS32 ? 10 : 9;
}

static unsigned shift_of(unsigned level)
{
    return 12 + level * index_bits();
}

static u64 get_entry(const void *table, ulong address, unsigned level)
{
    unsigned index = address >> shift_of(level) & ((1u << index_bits()) - 1);

    return format == BITS32 ? ((const u32 *)table)[index] : ((const u64 *)table)[index];
}

static void set_entry(void *table, ulong address, unsigned level, u64 entry)
{
    unsigned index = address >> shift_of(level) & ((1u << index_bits()) - 1);

    if (format == BITS32)
        ((u32 *)table)[index] = (u32)entry;
    else
        ((u64 *)table)[index] = entry;
}

/* The table that has ADDRESS's entry of a level. */
static void *table_of(unsigned level)
{
    if (format >= LEVEL4)
        return level == 4 ? (void *)pml5 : level == 3 && format == LEVEL4 ? (void *)pml4 : walk[level];
    return level == 1 && format == BITS32 ? (void *)pd : walk[level];
}

static u64 entry_of(unsigned level)
{
    return get_entry(table_of(level), ADDRESS, level);
}

/* What an entry of ADDRESS points at: the table below, or the frame; without flags. */
static u64 target_of(unsigned level, unsigned leaf)
{
    if (level > leaf)
        return (ulong)table_of(level - 1);
    return FRAME & ~((1ull << shift_of(level)) - 1);
}

static void set_level(unsigned level, unsigned leaf, u64 flags)
{
    set_entry(table_of(level), ADDRESS, level,
              target_of(level, leaf) | flags | (level == leaf && level > 0 ? PS : 0));
}

static void flush(void)
{
    write_cr3(read_cr3());
}

/* Map ADDRESS with all rights by a page of level `leaf`. */
static void map_all(unsigned leaf, u64 extra)
{
    for (unsigned level = leaf; level < levels; level++)
        set_level(level, leaf, RIGHTS | (level == leaf ? extra : 0));
}

/* ---- The kernel's own map ---- */

static void build_map(void)
{
    memset(pml5, 0, sizeof(pml5));
    memset(pml4, 0, sizeof(pml4));
    memset(pdpt, 0, sizeof(pdpt));
    memset(pd, 0, sizeof(pd));
    memset(walk, 0, sizeof(walk));
    unsigned big = shift_of(1);

    for (ulong at = 0; at < 0x1000000; at += 1ul << big)
        set_entry(pd, at, 1, at | P | W_ | PS | A | D | (at == CODE_AREA ? U : 0));
    set_entry(pd, ALIAS, 1, CODE_AREA | P | W_ | PS | A | D);
    if (format == PAE) {
        pdpt[0] = (ulong)pd | P;
        pdpt[ADDRESS >> 30 & 3] = (ulong)walk[1] | P;
    }
    if (format >= LEVEL4) {
        pml5[0] = (ulong)pml4 | P | W_ | U;
        pml4[0] = (ulong)pdpt | P | W_ | U;
        pdpt[0] = (ulong)pd | P | W_ | U;
        /* The local APIC and its like are not touched here. */
    }
    levels = format == LEVEL5 ? 5 : format == LEVEL4 ? 4 : 2;
    map_all(0, 0);
}

static ulong root(void)
{
    return (ulong)(format == LEVEL5 ? pml5 : format == LEVEL4 ? pml4 : format == PAE ? pdpt : pd);
}

/* ---- One access ---- */

struct setting {
    bool user, wp, smep, smap, ac, nxe;
    int access;
};

static ulong plain_cr4;

static struct context access_context(const struct setting *s)
{
    struct code code = s->access == WRITE
#ifdef __x86_64__
                           ? CODE64("mov [rbx], cl")
                           : CODE64("mov al, [rbx]");
#else
                           ? CODE32("mov [ebx], cl")
                           : CODE32("mov al, [ebx]");
#endif
    struct context c = s->user ? user_context(code) : kernel_context(code);

    if (!s->user) {
        c.ip = ALIAS;
        c.sp = ALIAS_STACK;
    }
    if (s->access == FETCH)
        c.ip = ADDRESS;
    c.bx = ADDRESS;
    c.cx = 0xcd; /* what is there */
    c.flags |= s->ac ? FLAG_AC : 0;
    return c;
}

static const struct trap *run_with(const struct setting *s, const struct context *c)
{
    const struct trap *trap;

    flush();
    write_cr4(plain_cr4 | (s->smep ? CR4_SMEP : 0) | (s->smap ? CR4_SMAP : 0));
    write_cr0(s->wp ? read_cr0() | CR0_WP : read_cr0() & ~(ulong)CR0_WP);
    trap = run(c);
    write_cr4(plain_cr4);
    return trap;
}

/* The rule. Reserved bits are those of `reserved`, by level. */
static struct expect rule(const struct setting *s, unsigned leaf, const u64 *entries, const u64 *reserved)
{
    ulong error = (s->access == WRITE ? ERROR_W : 0) | (s->user ? ERROR_U : 0) |
                  (s->access == FETCH && (s->nxe || s->smep) ? ERROR_I : 0);
    bool user = true, writable = true, nx = false, good;

    for (unsigned level = levels; level-- > leaf;) {
        u64 e = entries[level];

        if (!(e & P))
            return FAULT(PF, error);
        if (e & reserved[level] || (e & NX && !s->nxe))
            return FAULT(PF, error | ERROR_P | ERROR_RSVD);
        user &= !!(e & U);
        writable &= !!(e & W_);
        nx |= !!(e & NX);
    }
    if (s->user)
        good = user && (s->access != WRITE || writable) && (s->access != FETCH || !nx);
    else if (s->access == FETCH)
        good = !nx && !(user && s->smep);
    else
        good = !(user && s->smap && !s->ac) && (s->access != WRITE || writable || !s->wp);
    return good ? END : FAULT(PF, error | ERROR_P);
}

/* Run one case and look at all that it may change. */
static void one_case(const struct setting *s, unsigned leaf, const u64 *entries, const u64 *reserved)
{
    static const u64 none[MAX_LEVELS];
    struct context c = access_context(s);
    struct expect e = rule(s, leaf, entries, reserved ? reserved : none);
    const struct trap *trap;
    bool good;

    for (unsigned level = leaf; level < levels; level++)
        set_entry(table_of(level), ADDRESS, level, entries[level]);
    trap = run_with(s, &c);
    good = expect_trap(
        trap, e,
        "%s %s, WP %u SMEP %u SMAP %u AC %u NXE %u, page of level %u, entries %llx %llx %llx %llx %llx",
        s->user ? "user" : "supervisor",
        s->access == READ    ? "read"
        : s->access == WRITE ? "write"
                             : "fetch",
        s->wp, s->smep, s->smap, s->ac, s->nxe, leaf, (unsigned long long)entries[0],
        (unsigned long long)entries[1], (unsigned long long)entries[2], (unsigned long long)entries[3],
        (unsigned long long)entries[4]);
    if (!good)
        return;
    if (e.vector == PF && trap->cr2 != ADDRESS)
        expect_equal(trap->cr2, ADDRESS, "CR2");
    for (unsigned level = leaf; level < levels; level++) {
        u64 now = entry_of(level), set = now & ~entries[level], want = A;

        if (level == leaf && s->access == WRITE)
            want |= D;
        want &= ~entries[level];
        /* After a fault, the accessed flags of upper levels may have been set or not. */
        if (e.vector == PF ? set & ~(u64)A || (!(entries[level] & P) && set) : set != want)
            expect_equal(
                now, entries[level] | want, "%s %s, level %u of a page of level %u: entry afterwards",
                s->user ? "user" : "supervisor", s->access == WRITE ? "write" : "read or fetch", level, leaf);
    }
}

/* ---- Groups ---- */

static u64 random_state;

static u32 random(void)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)(random_state >> 33);
}

static struct setting setting_of(u32 n, bool user, int access)
{
    return (struct setting){.user = user,
                            .access = access,
                            .wp = n & 1,
                            .ac = n & 2,
                            .smep = n & 4 && cpu_has(CPU_SMEP),
                            .smap = n & 8 && cpu_has(CPU_SMAP),
                            .nxe = n & 16 && has_nx()};
}

static void set_nxe(bool on)
{
    if (has_nx())
        wrmsr(MSR_EFER, on ? rdmsr(MSR_EFER) | EFER_NXE : rdmsr(MSR_EFER) & ~(u64)EFER_NXE);
}

/* The page sizes of the format. */
static unsigned leaf_count(void)
{
    return format >= LEVEL4 && cpu_has(CPU_PAGE1GB) ? 3 : 2;
}

/* At each level in turn, all rights; everything else allows everything. */
static void rights_at_each_level(const char *name)
{
    group(name);
    for (u32 n = 0; n < 32; n++) {
        set_nxe(n & 16);
        for (unsigned leaf = 0; leaf < leaf_count(); leaf++) {
            for (unsigned varied = leaf; varied < levels; varied++) {
                for (unsigned flags = 0; flags < (has_nx() ? 16 : 8); flags++) {
                    u64 entries[MAX_LEVELS] = {0};

                    map_all(leaf, 0);
                    for (unsigned level = leaf; level < levels; level++)
                        entries[level] = entry_of(level);
                    entries[varied] = (entries[varied] & ~RIGHTS) | (flags & 7) | (flags & 8 ? NX : 0);
                    for (int access = READ; access <= FETCH; access++) {
                        for (unsigned user = 0; user < 2; user++) {
                            struct setting s = setting_of(n, user, access);

                            one_case(&s, leaf, entries, NULL);
                        }
                    }
                }
            }
        }
    }
    set_nxe(false);
}

/* All levels at random, accessed and dirty flags and ignored bits too. */
static void random_rights(const char *name)
{
    group(name);
    random_state = 1;
    for (unsigned i = 0; i < 6000; i++) {
        unsigned leaf = random() % leaf_count();
        u32 n = random();
        struct setting s = setting_of(n, n & 32, (int)(random() % 3));
        u64 entries[MAX_LEVELS] = {0};

        set_nxe(n & 16);
        map_all(leaf, 0);
        for (unsigned level = leaf; level < levels; level++) {
            u32 r = random();

            entries[level] = entry_of(level) & ~RIGHTS;
            /* Most entries allow most things, or few cases would be good. */
            entries[level] |=
                (r & 15 ? P : 0) | (r & 0x30 ? W_ : 0) | (r & 0xc0 ? U : 0) | (r & 0x100 ? A : 0);
            entries[level] |= r & 0x200 && level == leaf ? D : 0;
            entries[level] |= (u64)(r >> 10 & 7) << 9; /* ignored */
            if (has_nx() && !(r & 0xe000))
                entries[level] |= NX;
            if (format >= LEVEL4)
                entries[level] |= (u64)(r >> 16 & 0x7f) << 52; /* ignored */
        }
        one_case(&s, leaf, entries, NULL);
    }
    set_nxe(false);
}

/* Bits that must be zero: SDM 3A tables 4-4 to 4-20. */
static void reserved_bits(const char *name)
{
    unsigned bits = cpu_phys_bits();

    group(name);
    for (unsigned leaf = 0; leaf < leaf_count(); leaf++) {
        for (unsigned level = leaf; level < levels; level++) {
            u64 reserved[MAX_LEVELS] = {0}, mask = 0;

            if (format == BITS32) {
                /* 4 MiB pages: address bits 39 to 32 are bits 20 to 13; bit 21 is always reserved (PSE-36). */
                if (level == 1 && leaf == 1)
                    mask = FLAG(22) - FLAG(!cpu_has(CPU_PSE36) ? 13 : bits < 40 ? 13 + bits - 32 : 21);
            } else {
                mask = (format == PAE ? FLAG(63) : FLAG(52)) - FLAG(bits);
                if (level == leaf && level > 0)
                    mask |= FLAG(shift_of(level)) - FLAG(13);
                if (level >= 3)
                    mask |= PS | (cpu_is_amd() ? G : 0);
                if (level == 2 && leaf < 2 && !cpu_has(CPU_PAGE1GB))
                    mask |= PS;
            }
            reserved[level] = mask;
            for (unsigned bit = 0; bit < 63; bit++) {
                for (int access = READ; access <= FETCH; access++) {
                    for (unsigned user = 0; user < 2; user++) {
                        struct setting s = setting_of(0, user, access);
                        u64 entries[MAX_LEVELS] = {0};

                        if (!(mask >> bit & 1))
                            continue;
                        map_all(leaf, 0);
                        for (unsigned l = leaf; l < levels; l++)
                            entries[l] = entry_of(l);
                        entries[level] |= FLAG(bit);
                        one_case(&s, leaf, entries, reserved);
                        entries[level] &= ~P; /* then the rest does not matter */
                        one_case(&s, leaf, entries, reserved);
                    }
                }
            }
        }
    }
}

#ifdef __x86_64__
#define SNIPPET(wide, narrow) CODE64(wide)
#else
#define SNIPPET(wide, narrow) CODE32(narrow)
#endif

/* Accesses that lie on two pages: the second page's first address is in CR2, and nothing of a write is done. */
static void crossing(const char *name)
{
    struct {
        const char *name;
        struct code code;
        unsigned size;
        bool write;
    } rows[] = {
        {"word read", SNIPPET("mov ax, [rbx]", "mov ax, [ebx]"), 2, false},
        {"dword read", SNIPPET("mov eax, [rbx]", "mov eax, [ebx]"), 4, false},
        {"dword write", SNIPPET("mov [rbx], eax", "mov [ebx], eax"), 4, true},
        {"dword RMW", SNIPPET("inc dword ptr [rbx]", "inc dword ptr [ebx]"), 4, true},
        {"LOCK RMW", SNIPPET("lock inc dword ptr [rbx]", "lock inc dword ptr [ebx]"), 4, true},
        {"XCHG", SNIPPET("xchg [rbx], eax", "xchg [ebx], eax"), 4, true},
        {"CMPXCHG", SNIPPET("cmpxchg [rbx], ecx", "cmpxchg [ebx], ecx"), 4, true},
        {"MOVS", SNIPPET("mov rdi, rbx\n movsd", "mov edi, ebx\n movsd"), 4, true},
        {"FLD", SNIPPET("fld tbyte ptr [rbx]", "fld tbyte ptr [ebx]"), 10, false},
        {"FSTP", SNIPPET("fldz\n fstp tbyte ptr [rbx]", "fldz\n fstp tbyte ptr [ebx]"), 10, true},
        {"PUSH", SNIPPET("lea rsp, [rbx + 8]\n push rax", "lea esp, [ebx + 4]\n push eax"), sizeof(ulong),
         true},
        {"POP", SNIPPET("mov rsp, rbx\n pop rax", "mov esp, ebx\n pop eax"), sizeof(ulong), false},
    };
    u64 *table = table_of(0);

    group(name);
    map_all(0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned before = 0; before <= rows[i].size; before++) {
            for (unsigned trouble = 0; trouble < 4; trouble++) {
                /* 0: none; 1: second page absent; 2: second page read-only; 3: first page absent */
                struct context c = user_context(rows[i].code);
                bool first = before > 0, second = before < rows[i].size;
                bool fault = trouble == 1   ? second
                             : trouble == 2 ? second && rows[i].write
                             : trouble == 3 ? first
                                            : false;
                ulong error = ERROR_U | (rows[i].write ? ERROR_W : 0) | (trouble == 2 ? ERROR_P : 0);
                const struct trap *trap;
                u8 *bytes = (u8 *)FRAME;
                unsigned changed = 0;

                asm volatile("fninit");
                memset(bytes, 0x5a, 0x2000);
                set_entry(table, ADDRESS, 0, FRAME | (trouble == 3 ? 0 : RIGHTS));
                set_entry(table, ADDRESS + 0x1000, 0,
                          (FRAME + 0x1000) | (trouble == 1   ? 0
                                              : trouble == 2 ? P | U
                                                             : RIGHTS));
                flush();
                c.bx = ADDRESS + 0x1000 - before;
                c.ax = c.cx = 0x77777777;
                c.si = DATA_AREA;
                trap = run(&c);
                expect_trap(trap, fault ? FAULT_AT(PF, error, ANYWHERE) : END,
                            "%s, %u bytes before the end, trouble %u", rows[i].name, before, trouble);
                if (!fault)
                    continue;
                expect_equal(trap->cr2, trouble == 3 ? c.bx : ADDRESS + 0x1000,
                             "%s, %u bytes before the end, trouble %u: CR2", rows[i].name, before, trouble);
                /* A ten-byte store is two, of which the first may have been done. */
                for (unsigned b = 0; b < 0x2000 && rows[i].size < 10; b++)
                    changed += bytes[b] != 0x5a;
                expect_equal(changed, 0, "%s, %u bytes before the end, trouble %u: bytes written",
                             rows[i].name, before, trouble);
            }
        }
    }
    /* Instructions on two pages. */
    struct code code = SNIPPET("mov eax, 0x12345678", "mov eax, 0x12345678");
    for (unsigned before = 0; before <= 5; before++) {
        struct context c = user_context(code);
        const struct trap *trap;

        set_entry(table, ADDRESS, 0, FRAME | RIGHTS);
        set_entry(table, ADDRESS + 0x1000, 0, 0);
        flush();
        memcpy((u8 *)FRAME + 0x1000 - before, code.begin, 5);
        c.ip = ADDRESS + 0x1000 - before;
        trap = run(&c);
        expect_trap(trap, FAULT_AT(PF, ERROR_U, before == 5 ? 5 : 0),
                    "an instruction with %u bytes before the end", before);
        expect_equal(trap->cr2, ADDRESS + 0x1000, "an instruction with %u bytes before the end: CR2", before);
    }
    set_entry(table, ADDRESS + 0x1000, 0, 0);
}

/* Read-modify-write is a write from its first access on. */
static void read_modify_write(const char *name)
{
    struct {
        const char *name;
        struct code code;
    } rows[] = {
        {"ADD", SNIPPET("add [rbx], eax", "add [ebx], eax")},
        {"XADD", SNIPPET("lock xadd [rbx], eax", "lock xadd [ebx], eax")},
        {"BTS", SNIPPET("bts dword ptr [rbx], 3", "bts dword ptr [ebx], 3")},
        {"CMPXCHG that fails", SNIPPET("lock cmpxchg [rbx], ecx", "lock cmpxchg [ebx], ecx")},
        {"CMPXCHG8B that fails", SNIPPET("cmpxchg8b [rsi]", "cmpxchg8b [esi]")},
        {"SHL", SNIPPET("shl dword ptr [rbx], 1", "shl dword ptr [ebx], 1")},
        {"NOT", SNIPPET("not dword ptr [rbx]", "not dword ptr [ebx]")},
    };

    group(name);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned present = 0; present < 2; present++) {
            struct context c = user_context(rows[i].code);
            const struct trap *trap;

            map_all(0, 0);
            set_level(0, 0, present ? P | U : 0);
            flush();
            c.bx = c.si = ADDRESS;
            c.ax = 1;
            trap = run(&c);
            expect_trap(trap, FAULT(PF, ERROR_U | ERROR_W | (present ? ERROR_P : 0)),
                        "%s on a page that is %s", rows[i].name, present ? "read-only" : "absent");
            expect_equal(trap->cr2, ADDRESS, "%s: CR2", rows[i].name);
        }
        /* A compare that fails writes all the same. */
        struct context c = user_context(rows[i].code);

        map_all(0, 0);
        memset((void *)FRAME, 0x33, 16);
        flush();
        c.bx = c.si = ADDRESS;
        expect_trap(run(&c), END, "%s", rows[i].name);
        expect_equal(entry_of(0) & (A | D), A | D, "%s: accessed and dirty", rows[i].name);
    }
    /* TEST, CMP and BT only read. */
    struct code reads[] = {SNIPPET("cmp [rbx], eax", "cmp [ebx], eax"),
                           SNIPPET("test [rbx], eax", "test [ebx], eax"),
                           SNIPPET("bt dword ptr [rbx], 3", "bt dword ptr [ebx], 3")};
    for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
        struct context c = user_context(reads[i]);

        map_all(0, 0);
        set_level(0, 0, P | U);
        flush();
        c.bx = ADDRESS;
        expect_trap(run(&c), END, "read %u of a read-only page", i);
        expect_equal(entry_of(0) & (A | D), A, "read %u: accessed and not dirty", i);
    }
}

/* What software may rely on without an invalidation, and what an invalidation does: SDM 3A 4.10.4. */
static void invalidation(const char *name)
{
    struct code twice = SNIPPET("mov al, [rbx]\n mov [rbx], cl", "mov al, [ebx]\n mov [ebx], cl");
    struct context c = user_context(twice);
    const struct trap *trap;

    group(name);
    c.bx = ADDRESS;
    map_all(0, 0);
    flush();
    expect_trap(run(&c), END, "read, then write");
    expect_equal(entry_of(0) & (A | D), A | D, "a write after a read sets the dirty flag");

    /* A page that was absent may be used without an invalidation. */
    set_level(0, 0, 0);
    flush();
    expect_trap(run(&c), FAULT(PF, ERROR_U), "absent");
    set_level(0, 0, RIGHTS);
    expect_trap(run(&c), END, "now present, no invalidation");
    /* A fault ends what was cached: rights that were added work at the second try at the latest. */
    set_level(0, 0, P | U);
    invlpg(ADDRESS);
    expect_trap(run(&c), FAULT_AT(PF, ERROR_P | ERROR_W | ERROR_U, 2), "read-only");
    set_level(0, 0, RIGHTS);
    trap = run(&c);
    if (trap->vector == PF)
        trap = run(&c);
    expect_trap(trap, END, "now writable, no invalidation");

    for (unsigned leaf = 0; leaf < leaf_count(); leaf++) {
        for (unsigned global = 0; global < 2; global++) {
            map_all(leaf, global ? G : 0);
            flush();
            run(&c);
            set_level(leaf, leaf, 0);
            invlpg(ADDRESS + 0x123);
            trap = run(&c);
            expect_trap(trap, FAULT(PF, ERROR_U), "INVLPG of a %spage of level %u", global ? "global " : "",
                        leaf);
            map_all(leaf, global ? G : 0);
            run(&c);
            set_level(leaf, leaf, 0);
            if (global) { /* a change of CR4.PGE */
                write_cr4(plain_cr4 ^ CR4_PGE);
                write_cr4(plain_cr4);
            } else {
                flush();
            }
            expect_trap(run(&c), FAULT(PF, ERROR_U), "%s, page of level %u",
                        global ? "change of CR4.PGE" : "MOV to CR3", leaf);
            /* An upper level changes: INVLPG takes the paging-structure caches too. */
            if (leaf + 1 == levels)
                continue;
            map_all(leaf, 0);
            flush();
            run(&c);
            set_level(leaf + 1, leaf, 0);
            invlpg(ADDRESS);
            expect_trap(run(&c), FAULT(PF, ERROR_U), "INVLPG after a change of level %u", leaf + 1);
        }
    }
    map_all(0, 0);
    flush();
    /* The supervisor's stores to page tables are seen after an invalidation by the same snippet. */
    {
        struct context k =
            kernel_context(SNIPPET("mov al, [rbx]\n mov byte ptr [rsi], 0\n invlpg [rbx]\n mov al, [rbx]",
                                   "mov al, [ebx]\n mov byte ptr [esi], 0\n invlpg [ebx]\n mov al, [ebx]"));
        k.ip = ALIAS;
        k.sp = ALIAS_STACK;
        k.bx = ADDRESS;
        k.si = (ulong)walk[0] + (ADDRESS >> 12 & ((1u << index_bits()) - 1)) * (format == BITS32 ? 4 : 8);
        expect_trap(run(&k), FAULT_AT(PF, 0, 8), "store to the page table, INVLPG, access");
    }
    map_all(0, 0);
    flush();
}

/* Accesses by the processor itself are a supervisor's, whatever the CPL (SDM 3A 4.6). */
static void implicit_accesses(const char *name)
{
    struct code load = SNIPPET("mov es, ecx", "mov es, ecx");
    enum { SELECTOR = SEL_TEST };

    group(name);
    for (unsigned n = 0; n < 64; n++) {
        bool present = n & 1, user = n & 2, writable = n & 4, accessed = n & 8,
             smap = n & 16 && cpu_has(CPU_SMAP), ac = n & 32;
        struct context c = user_context(load);
        u64 data = descriptor(0, 0xfffff, DATA_RW(3) & ~(accessed ? 0 : ACCESS_A), FLAGS_G | FLAGS_D);
        struct pseudo_descriptor there = {SELECTOR + 7, ADDRESS + 0x1000 - SELECTOR};
        struct expect e = END;
        const struct trap *trap;

        if (n & 16 && !smap)
            continue;
        /* The descriptor under test is the first of the page at ADDRESS + 1000h; those before it are on a good page. */
        map_all(0, 0);
        memcpy((void *)(FRAME + 0x1000 - SELECTOR), gdt, SELECTOR);
        *(u64 *)(FRAME + 0x1000) = data;
        set_entry(table_of(0), ADDRESS, 0, FRAME | P | W_);
        set_entry(table_of(0), ADDRESS + 0x1000, 0,
                  (FRAME + 0x1000) | (present ? P : 0) | (user ? U : 0) | (writable ? W_ : 0));
        if (!present)
            e = FAULT(PF, 0);
        else if (user && smap)
            e = FAULT(PF, ERROR_P); /* AC does not help */
        else if (!writable && !accessed)
            e = FAULT(PF, ERROR_P | ERROR_W); /* WP is set */
        write_cr0(read_cr0() | CR0_WP);
        flush();
        asm volatile("lgdt %0" ::"m"(there));
        write_cr4(plain_cr4 | (smap ? CR4_SMAP : 0));
        c.cx = SELECTOR | 3;
        c.flags |= ac ? FLAG_AC : 0;
        trap = run(&c);
        write_cr4(plain_cr4);
        load_gdt(sizeof(gdt) - 1);
        /* The order of read and write of the descriptor is open: the write may be reported at the byte or the word. */
        expect_trap(trap, e, "descriptor: present %u user %u writable %u accessed %u SMAP %u AC %u", present,
                    user, writable, accessed, smap, ac);
        if (e.vector == PF)
            expect_equal(trap->cr2 & ~7ul, ADDRESS + 0x1000, "descriptor: CR2");
    }
    write_cr0(read_cr0() & ~(ulong)CR0_WP);
    /* INT n from user mode through an IDT on a supervisor page is good; on an absent page it is #PF with U=0. */
    for (unsigned present = 0; present < 2; present++) {
        enum { GATE_SIZE = 2 * sizeof(ulong), VECTOR = 0xf0 };
        struct context c = user_context(SNIPPET("int 0xf0", "int 0xf0"));
        const struct trap *trap;

        map_all(0, 0);
        idt[VECTOR][0] |= 3ull << 45;
        memcpy((void *)(FRAME + 0x1000 - VECTOR * GATE_SIZE), idt, VECTOR * GATE_SIZE + GATE_SIZE);
        set_entry(table_of(0), ADDRESS, 0, FRAME | P);
        set_entry(table_of(0), ADDRESS + 0x1000, 0, (FRAME + 0x1000) | (present ? P : 0));
        flush();
        load_idt((void *)(ADDRESS + 0x1000 - VECTOR * GATE_SIZE), sizeof(idt) - 1);
        trap = run(&c);
        reset_idt();
        expect_trap(trap, present ? FAULT_AT(VECTOR, 0, 2) : FAULT(PF, 0),
                    "gate on a supervisor page, present %u", present);
        if (!present)
            expect_equal(trap->cr2 & ~15ul, ADDRESS + 0x1000, "gate on an absent page: CR2");
    }
    set_entry(table_of(0), ADDRESS + 0x1000, 0, 0);
    map_all(0, 0);
    flush();
}

/* String instructions stop where the fault is, with their registers there. */
static void interrupted_strings(const char *name)
{
    struct code forms[] = {SNIPPET("rep movsb", "rep movsb"), SNIPPET("rep stosd", "rep stosd"),
                           SNIPPET("std\n rep stosb", "std\n rep stosb"), SNIPPET("rep lodsw", "rep lodsw")};
    static const struct {
        unsigned size;
        bool write, down;
    } rows[] = {{1, true, false}, {4, true, false}, {1, true, true}, {2, false, false}};

    group(name);
    for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
        for (unsigned count = 0; count < 20; count += 3) {
            struct context c = user_context(forms[i]);
            const struct trap *trap;
            ulong start;

            map_all(0, 0);
            set_entry(table_of(0), ADDRESS + 0x1000, 0, 0);
            set_entry(table_of(0), ADDRESS - 0x1000, 0, 0);
            flush();
            start = rows[i].down ? ADDRESS + count - 1 : ADDRESS + 0x1000 - count * rows[i].size;
            c.di = start;
            c.si = rows[i].write ? DATA_AREA : start;
            c.cx = 100;
            trap = run(&c);
            expect_trap(trap, FAULT_AT(PF, ERROR_U | (rows[i].write ? ERROR_W : 0), rows[i].down ? 1 : 0),
                        "form %u, %u before the end", i, count);
            expect_equal(trap->at.cx, 100 - count, "form %u, %u before the end: count", i, count);
            expect_equal(rows[i].write ? trap->at.di : trap->at.si,
                         rows[i].down ? ADDRESS - 1 : ADDRESS + 0x1000, "form %u, %u before the end: address",
                         i, count);
        }
    }
}

/* ---- What one format has ---- */

#ifdef __x86_64__
static void expect_gp(const char *name, struct code code, ulong value, bool fault)
{
    struct context c = kernel_context(code);

    c.ip = ALIAS;
    c.sp = ALIAS_STACK;
    c.ax = value;
    c.bx = ADDRESS;
    expect_trap(run(&c), fault ? FAULT(GP, 0) : END, "%s, %lx", name, value);
}

/* SDM 2B MOV to CR; 3A 2.5, 4.1.2. */
static void control_registers(void)
{
    struct code cr0 = CODE64("mov cr0, rax"), cr3 = CODE64("mov cr3, rax"), cr4 = CODE64("mov cr4, rax");
    unsigned bits = cpu_phys_bits();

    group("control registers in long mode");
    expect_gp("CR0 without PG", cr0, read_cr0() & ~CR0_PG, true);
    expect_gp("CR0 without PE", cr0, read_cr0() & ~1ul, true);
    expect_gp("CR0 with a high bit", cr0, read_cr0() | 1ul << 32, true);
    expect_gp("CR0 with NW without CD", cr0, read_cr0() | CR0_NW, true);
    expect_gp("CR0 with CD and NW", cr0, read_cr0() | CR0_CD | CR0_NW, false);
    expect_gp("CR0", cr0, CR0_PG | CR0_PE | CR0_ET, false);
    expect_gp("CR4 without PAE", cr4, plain_cr4 & ~(ulong)CR4_PAE, true);
    expect_gp("CR4 with a high bit", cr4, plain_cr4 | 1ul << 32, true);
    expect_gp("CR4 with bit 15", cr4, plain_cr4 | 1ul << 15, true);
    expect_gp("CR4", cr4, plain_cr4, false);
    for (unsigned bit = bits; bit < 63; bit++)
        expect_gp("CR3 beyond MAXPHYADDR", cr3, read_cr3() | 1ul << bit, true);
    expect_gp("CR3 with bit 63 without PCIDs", cr3, read_cr3() | 1ul << 63, true);
    expect_gp("CR3 with PWT and PCD", cr3, read_cr3() | 0x18, false);
    write_cr3(root());
    for (unsigned lme = 0; lme < 2; lme++) {
        struct context c = kernel_context(CODE64("wrmsr"));

        c.ip = ALIAS;
        c.sp = ALIAS_STACK;
        c.cx = MSR_EFER;
        c.ax = (u32)rdmsr(MSR_EFER);
        c.ax = lme ? c.ax | EFER_LME : c.ax & ~(ulong)EFER_LME;
        expect_trap(run(&c), lme ? END : FAULT(GP, 0), "EFER with LME %u under paging", lme);
    }
}

/* SDM 3A 4.10.1 and 4.10.4.1; 2A INVPCID. */
static void process_contexts(void)
{
    static u64 other_pml4[512] __attribute__((aligned(4096)));
    static u64 other_walk[3][512] __attribute__((aligned(4096)));
    struct context c;
    const ulong no_flush = 1ul << 63, far = ADDRESS + 0x5000;
    struct code read = CODE64("mov rax, [rbx]");

    if (!cpu_has(CPU_PCID)) {
        skip_group("process-context identifiers", "the processor has none");
        return;
    }
    group("process-context identifiers");
    write_cr3(root() | 8);
    expect_gp("PCIDE with a CR3 whose low bits are set", CODE64("mov cr4, rax"), plain_cr4 | CR4_PCIDE, true);
    write_cr3(root());
    write_cr4(plain_cr4 | CR4_PCIDE);
    expect_gp("CR0 without PG", CODE64("mov cr0, rax"), read_cr0() & ~CR0_PG, true);
    /* Two address spaces, one address. */
    memcpy(other_pml4, pml4, sizeof(pml4));
    other_pml4[ADDRESS >> 39 & 511] = (ulong)other_walk[2] | RIGHTS;
    other_walk[2][ADDRESS >> 30 & 511] = (ulong)other_walk[1] | RIGHTS;
    other_walk[1][ADDRESS >> 21 & 511] = (ulong)other_walk[0] | RIGHTS;
    other_walk[0][ADDRESS >> 12 & 511] = (FRAME + 0x1000) | RIGHTS;
    map_all(0, 0);
    *(u64 *)FRAME = 0x1111;
    *(u64 *)(FRAME + 0x1000) = 0x2222;
    c = user_context(read);
    c.bx = ADDRESS;
    for (unsigned turn = 0; turn < 4; turn++) {
        bool other = turn & 1;

        write_cr3(((ulong)(other ? other_pml4 : pml4) | (other ? 2 : 1)) | (turn > 1 ? no_flush : 0));
        const struct trap *trap = run(&c);
        expect_trap(trap, END, "turn %u", turn);
        expect_equal(trap->at.ax, other ? 0x2222 : 0x1111, "each PCID has its own translations, turn %u",
                     turn);
        expect_equal(read_cr3(), (ulong)(other ? other_pml4 : pml4) | (other ? 2 : 1),
                     "bit 63 reads as zero, turn %u", turn);
    }
    /* Without bit 63 the PCID's translations go. */
    write_cr3((ulong)pml4 | 1);
    run(&c);
    set_level(0, 0, 0);
    write_cr3((ulong)other_pml4 | 2);
    write_cr3((ulong)pml4 | 1);
    expect_trap(run(&c), FAULT(PF, ERROR_U), "MOV to CR3 drops its PCID");
    /* More PCIDs than a TLB may have room for; what an address leads to when it is executed; and back again. In a small TLB
       that is indexed by the lowest bits of the page, ADDRESS would take the place of CODE_AREA. */
    walk[0][(far >> 12) & 511] = FRAME | RIGHTS;
    other_walk[0][far >> 12 & 511] = (FRAME + 0x1000) | RIGHTS;
    memcpy((void *)FRAME, "\xb8\x11\x11\0\0\xc3", 6); /* mov eax, 0x1111; ret */
    memcpy((void *)(FRAME + 0x1000), "\xb8\x22\x22\0\0\xc3", 6);
    c = user_context(CODE64("call rbx"));
    c.bx = far;
    for (unsigned turn = 0; turn < 60; turn++) {
        unsigned pcid = 1 + turn % (turn < 40 ? 20 : 4);

        write_cr3(((ulong)(pcid & 1 ? pml4 : other_pml4) | pcid) | (turn > 20 ? no_flush : 0));
        const struct trap *trap = run(&c);
        expect_trap(trap, END, "PCID %u executes", pcid);
        expect_equal(trap->at.ax, pcid & 1 ? 0x1111 : 0x2222, "PCID %u has its own code", pcid);
    }
    /* INVLPG takes a global page from all PCIDs. */
    walk[0][far >> 12 & 511] |= G;
    other_walk[0][far >> 12 & 511] = FRAME | RIGHTS | G;
    c = user_context(read);
    c.bx = far;
    for (unsigned pcid = 1; pcid <= 2; pcid++) {
        write_cr3((ulong)(pcid == 2 ? other_pml4 : pml4) | pcid);
        invlpg(far);
        expect_trap(run(&c), END, "global page of PCID %u", pcid);
    }
    walk[0][far >> 12 & 511] = other_walk[0][far >> 12 & 511] = 0;
    invlpg(far);
    write_cr3((ulong)pml4 | 1 | no_flush);
    expect_trap(run(&c), FAULT(PF, ERROR_U), "INVLPG of a global page, in another PCID");
    c.bx = ADDRESS;
    if (cpu_has(CPU_INVPCID)) {
        const struct {
            ulong type;
            u64 pcid, address;
            bool fault;
            bool drops; /* what PCID 1 has of ADDRESS */
        } rows[] = {
            {0, 1, ADDRESS, false, true}, {1, 1, 0, false, true},          {2, 0, 0, false, true},
            {3, 0, 0, false, true},       {4, 0, 0, true, false},          {~0ul, 0, 0, true, false},
            {0, 0x1000, 0, true, false},  {0, 1, 1ull << 63, true, false}, {1, 1, 1ull << 63, false, true},
            {1, 0x1000, 0, true, false},  {2, 1ull << 63, 0, true, false}, {3, 0x1000, 0, true, false},
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            struct context k = kernel_context(CODE64("invpcid rax, [rbx]"));
            static u64 what[2];

            map_all(0, 0);
            write_cr3((ulong)pml4 | 1);
            run(&c);
            set_level(0, 0, 0);
            what[0] = rows[i].pcid;
            what[1] = rows[i].address;
            k.ip = ALIAS;
            k.sp = ALIAS_STACK;
            place(CODE64("invpcid rax, [rbx]"), CODE_AREA);
            k.ax = rows[i].type;
            k.bx = (ulong)what;
            expect_trap(run(&k), rows[i].fault ? FAULT(GP, 0) : END, "INVPCID %lu of %llx, %llx",
                        rows[i].type, (unsigned long long)rows[i].pcid, (unsigned long long)rows[i].address);
            place(read, CODE_AREA);
            if (rows[i].drops)
                expect_trap(run(&c), FAULT(PF, ERROR_U), "after INVPCID %lu", rows[i].type);
        }
        c = user_context(CODE64("invpcid rax, [rbx]"));
        c.bx = DATA_AREA;
        expect_trap(run(&c), FAULT(GP, 0), "INVPCID at CPL 3");
        place(read, CODE_AREA);
    }
    map_all(0, 0);
    write_cr3((ulong)pml4);
    write_cr4(plain_cr4);
    expect_equal(read_cr4() & CR4_PCIDE, 0, "CR4.PCIDE goes");
}

static unsigned address_bits(void)
{
    return format == LEVEL5 ? 57 : 48;
}

/* Canonical addresses are checked before paging (SDM 3A 3.3.7.1 of volume 1). */
static void canonical(const char *name)
{
    const u64 end = 1ull << (address_bits() - 1);
    const u64 addresses[] = {end, 1ull << 63, ~end, end - 3, end | 0x123000, -end - 4};
    struct code forms[] = {
        CODE64("mov eax, [rbx]"), CODE64("mov [rbx], eax"),         CODE64("mov eax, ss:[rbx]"),
        CODE64("mov eax, [rbp]"), CODE64("mov rsp, rbx\n pop rax"), CODE64("lock inc dword ptr [rbx]"),
        CODE64("jmp rbx"),        CODE64("push rbx\n ret")};
    static const int vectors[] = {GP, GP, GP, SS, SS, GP, GP, GP};

    group(name);
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        for (unsigned f = 0; f < ARRAY_SIZE(forms); f++) {
            struct context c = user_context(forms[f]);

            if (f >= 6 &&
                (u64)((i64)(addresses[i] << (64 - address_bits())) >> (64 - address_bits())) == addresses[i])
                continue; /* only the last bytes of an access are not canonical */
            c.bx = c.bp = addresses[i];
            /* An SS override means nothing in 64-bit mode (SDM 1 3.3.7.1): #GP, as for [rbx]. */
            expect_trap(run(&c),
                        FAULT_AT(vectors[f], 0,
                                 f == 4   ? 3
                                 : f == 7 ? 1
                                          : 0),
                        "%llx, form %u", (unsigned long long)addresses[i], f);
        }
    }
    /* The last canonical addresses are not mapped: #PF. */
    const u64 good[] = {end - 0x1000, -end};
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        struct context c = user_context(CODE64("mov eax, [rbx]"));
        const struct trap *trap;

        c.bx = good[i];
        trap = run(&c);
        expect_trap(trap, FAULT(PF, ERROR_U), "%llx", (unsigned long long)good[i]);
        expect_equal(trap->cr2, good[i], "CR2");
    }
}

/* What is only kept is held against the widest address that the processor has, not the current mode's. */
static void bases(void)
{
    static const u32 msrs[] = {MSR_FS_BASE, MSR_GS_BASE,      MSR_KERNEL_GS_BASE, MSR_LSTAR,
                               MSR_CSTAR,   MSR_SYSENTER_ESP, MSR_SYSENTER_EIP};
    const unsigned widest = cpuid(0x80000008, 0).a >> 8 & 0xff;
    ulong descriptor_table[2] __attribute__((aligned(16)));
    u64 save[ARRAY_SIZE(msrs)];
    struct context c;

    group("bases");
    expect_equal(widest, cpu_has(CPU_LA57) ? 57 : 48, "width of an address");
    expect_gp("LA57 in IA-32e mode", CODE64("mov cr4, rax"), plain_cr4 | CR4_LA57, true);
    for (unsigned m = 0; m < ARRAY_SIZE(msrs); m++)
        save[m] = rdmsr(msrs[m]);
    for (unsigned bits = 47; bits <= 64; bits++) {
        u64 values[] = {1ull << (bits - 1), (1ull << (bits - 1)) - 1, -(1ull << (bits - 1))};

        for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
            u64 value = values[v];
            bool good = (u64)((i64)(value << (64 - widest)) >> (64 - widest)) == value;
            struct expect e = good ? END : FAULT(GP, 0);
            struct pseudo_descriptor image = {0xff, value};

            for (unsigned m = 0; m < ARRAY_SIZE(msrs); m++) {
                c = kernel_context(CODE64("wrmsr"));
                c.ip = ALIAS;
                c.sp = ALIAS_STACK;
                c.cx = msrs[m];
                c.ax = (u32)value;
                c.dx = value >> 32;
                expect_trap(run(&c), e, "MSR %x of %llx", msrs[m], (unsigned long long)value);
            }
            if (cpu_has(CPU_FSGSBASE)) {
                write_cr4(plain_cr4 | CR4_FSGSBASE);
                c = user_context(CODE64("wrfsbase rax"));
                c.ax = value;
                expect_trap(run(&c), e, "WRFSBASE of %llx", (unsigned long long)value);
                c = user_context(CODE64("wrgsbase rax"));
                c.ax = value;
                expect_trap(run(&c), e, "WRGSBASE of %llx", (unsigned long long)value);
                write_cr4(plain_cr4);
            }
            /* The GDT stays empty of what the snippet's end needs, so it puts the good one back itself. */
            struct pseudo_descriptor gdtr = {sizeof(gdt) - 1, (ulong)gdt},
                                     idtr = {sizeof(idt) - 1, (ulong)idt};
            struct code loads[] = {CODE64("lgdt [rbx]\n lgdt [rcx]"), CODE64("lidt [rbx]\n lidt [rcx]")};
            for (unsigned l = 0; l < ARRAY_SIZE(loads); l++) {
                c = kernel_context(loads[l]);
                c.ip = ALIAS;
                c.sp = ALIAS_STACK;
                c.bx = (ulong)&image;
                c.cx = (ulong)(l ? &idtr : &gdtr);
                expect_trap(run(&c), e, "%s of %llx", l ? "LIDT" : "LGDT", (unsigned long long)value);
            }
            gdt[SEL_TEST / 8] = descriptor((u32)value, 0xff, ACCESS_P | TYPE_LDT, 0);
            gdt[SEL_TEST / 8 + 1] = value >> 32;
            c = kernel_context(CODE64("lldt ax"));
            c.ip = ALIAS;
            c.sp = ALIAS_STACK;
            c.ax = SEL_TEST;
            expect_trap(run(&c), good ? END : FAULT(GP, SEL_TEST), "LLDT, base %llx",
                        (unsigned long long)value);
            expect_gp("INVLPG", CODE64("invlpg [rax]"), value, false);
            if (cpu_has(CPU_INVPCID)) {
                descriptor_table[0] = 0;
                descriptor_table[1] = value;
                c = kernel_context(CODE64("invpcid rax, [rbx]"));
                c.ip = ALIAS;
                c.sp = ALIAS_STACK;
                c.ax = 0;
                c.bx = (ulong)descriptor_table;
                expect_trap(run(&c), e, "INVPCID of %llx", (unsigned long long)value);
            }
        }
    }
    for (unsigned m = 0; m < ARRAY_SIZE(msrs); m++)
        wrmsr(msrs[m], save[m]);
}

/* Addresses that four levels do not have: the index into the fifth table is theirs alone. */
static void last_level(void)
{
    const u64 far = 5ull << 48 | (ADDRESS & 0xffffffffffff);
    struct context c = user_context(CODE64("mov eax, [rbx]"));
    const struct trap *trap;

    group("5-level: beyond 48 bits");
    expect_gp("LA57 cleared in IA-32e mode", CODE64("mov cr4, rax"), plain_cr4 & ~(ulong)CR4_LA57, true);
    place(CODE64("mov eax, [rbx]"), CODE_AREA);
    map_all(0, 0);
    *(u32 *)FRAME = 0x12345678;
    pml5[5] = pml5[ADDRESS >> 48];
    flush();
    c.bx = far;
    trap = run(&c);
    expect_trap(trap, END, "a read");
    expect_equal(trap->at.ax, 0x12345678, "what is read");
    pml5[5] = 0;
    invlpg(far);
    trap = run(&c);
    expect_trap(trap, FAULT(PF, ERROR_U), "after INVLPG");
    expect_equal(trap->cr2, far, "CR2");
    c.bx = ADDRESS;
    expect_trap(run(&c), END, "its neighbour");
}
#else
/* The four PDPTEs are loaded with CR3 and kept: SDM 3A 4.4.1. */
static void pdptes(void)
{
    struct context c = user_context(CODE32("mov al, [ebx]"));
    unsigned bits = cpu_phys_bits();
    u64 entry = pdpt[ADDRESS >> 30 & 3];

    group("PAE: PDPTEs");
    map_all(0, 0);
    write_cr3(root());
    c.bx = ADDRESS;
    expect_trap(run(&c), END, "present");
    pdpt[ADDRESS >> 30 & 3] = 0;
    invlpg(ADDRESS);
    expect_trap(run(&c), END, "changed in memory only");
    write_cr3(root());
    expect_trap(run(&c), FAULT(PF, ERROR_U), "absent, after MOV to CR3");
    pdpt[ADDRESS >> 30 & 3] = entry;
    write_cr3(root());
    expect_trap(run(&c), END, "present again");
    for (unsigned bit = 0; bit < 64; bit++) {
        struct context k = kernel_context(CODE32("mov cr3, eax"));
        bool reserved = (bit >= 1 && bit <= 2) || (bit >= 5 && bit <= 8) || bit >= bits;

        if (bit == 0 || (bit >= 12 && bit < bits) || (reserved && cpu_is_amd()))
            continue; /* when AMD's look is not documented */
        k.ip = ALIAS;
        k.sp = ALIAS_STACK;
        k.ax = root();
        pdpt[ADDRESS >> 30 & 3] = entry | FLAG(bit);
        expect_trap(run(&k), reserved ? FAULT(GP, 0) : END, "PDPTE with bit %u", bit);
        pdpt[ADDRESS >> 30 & 3] = (entry | FLAG(bit)) & ~P;
        expect_trap(run(&k), END, "absent PDPTE with bit %u", bit);
    }
    pdpt[ADDRESS >> 30 & 3] = entry;
    write_cr3(root());
    /* The table is at any 32 bytes. */
    static u64 table[512] __attribute__((aligned(4096)));
    memcpy(table + 4 * 5, pdpt, 32);
    write_cr3((ulong)(table + 4 * 5));
    c = user_context(CODE32("mov al, [ebx]"));
    c.bx = ADDRESS;
    expect_trap(run(&c), END, "a PDPT at 32 * 5 in its page");
    write_cr3(root());
}

/* 4 MiB pages need CR4.PSE. */
static void page_size_extension(void)
{
    struct context c = user_context(CODE32("mov eax, [ebx]"));
    const struct trap *trap;

    group("32-bit: CR4.PSE");
    /* With PSE it is a page at 0; without, PS is ignored, and the entry names a table. The kernel's own map has large pages:
       so this one is all in small ones. */
    static u32 small[3][1024] __attribute__((aligned(4096)));
    for (ulong at = 0; at < 0xc00000; at += 0x1000)
        small[at >> 22][at >> 12 & 0x3ff] = (u32)(at | RIGHTS | A | D);
    for (unsigned i = 0; i < ARRAY_SIZE(small); i++)
        ((u32 *)pd)[i] = (u32)((ulong)small[i] | RIGHTS);
    map_all(0, 0);
    *(u32 *)FRAME = 0x5a5a5a5a;
    set_entry(pd, ADDRESS, 1, (ulong)walk[0] | RIGHTS | PS);
    flush();
    write_cr4(read_cr4() & ~(ulong)CR4_PSE);
    c.bx = ADDRESS;
    trap = run(&c);
    expect_trap(trap, END, "a PDE with PS without CR4.PSE");
    expect_equal(trap->at.ax, 0x5a5a5a5a, "a PDE with PS without CR4.PSE: what is read");
    write_cr4(plain_cr4);
    flush();
}
#endif

#ifdef __x86_64__
/* CR4.LA57 cannot change in IA-32e mode (SDM 3A 2.5): out of it and back, by way of compatibility mode. */
static void change_levels(ulong cr4, ulong cr3)
{
    struct {
        u32 offset;
        u16 selector;
    } __attribute__((packed)) out, in;
    u32 label;

    asm volatile("lea 1f(%%rip), %%eax\n mov %%eax, %[out]\n"
                 "lea 2f(%%rip), %%eax\n mov %%eax, %[in]\n"
                 "movw %[code32], 4+%[out]\n movw %[code64], 4+%[in]\n"
                 "lea %[in], %%rsi\n"
                 "ljmp *%[out]\n"
                 ".code32\n"
                 "1: mov %%cr0, %%eax\n btr $31, %%eax\n mov %%eax, %%cr0\n"
                 "mov %%edi, %%cr4\n mov %%ebx, %%cr3\n"
                 "bts $31, %%eax\n mov %%eax, %%cr0\n"
                 "ljmp *(%%esi)\n"
                 ".code64\n"
                 "2:\n"
                 : [out] "=m"(out), [in] "=m"(in), "=a"(label)
                 : [code32] "i"(SEL_KCODE32), [code64] "i"(SEL_KCODE), "D"(cr4), "b"(cr3)
                 : "rsi", "memory");
}
#endif

static void turn_on(void)
{
#ifdef __x86_64__
    write_cr3((ulong)boot_pml4); /* build_map takes the other one apart */
    build_map();
    plain_cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | (format == LEVEL5 ? CR4_LA57 : 0);
    change_levels(plain_cr4, root());
#else
    write_cr0(read_cr0() & ~CR0_PG);
    build_map();
    plain_cr4 = (format == PAE ? CR4_PAE : CR4_PSE) | CR4_PGE;
    /* Protection keys that forbid everything mean nothing outside IA-32e mode (SDM 3A 4.6.2). */
    plain_cr4 |= (cpu_has(CPU_PKU) ? CR4_PKE : 0) | (cpu_has(CPU_PKS) ? CR4_PKS : 0);
    write_cr4(plain_cr4);
    if (plain_cr4 & CR4_PKE)
        asm volatile(".byte 0x0f, 0x01, 0xef" ::"a"(~0u), "c"(0), "d"(0)); /* WRPKRU */
    if (plain_cr4 & CR4_PKS)
        wrmsr(0x6e1, 0xffffffff);
    write_cr3(root());
    write_cr0(read_cr0() | CR0_PG);
#endif
    /* What a fetch finds. */
    *(u16 *)FRAME = 0x80cd;
}

static void all(const char *const names[8])
{
    turn_on();
    rights_at_each_level(names[0]);
    random_rights(names[1]);
    reserved_bits(names[2]);
    crossing(names[3]);
    read_modify_write(names[4]);
    invalidation(names[5]);
    implicit_accesses(names[6]);
    interrupted_strings(names[7]);
}

#define NAMES(format)                                                                                        \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        format ": rights at each level", format ": rights at random", format ": reserved bits",              \
            format ": accesses on two pages", format ": read-modify-write", format ": invalidation",         \
            format ": accesses by the processor", format ": strings that fault"                              \
    }

void test(void)
{
#ifdef __x86_64__
    format = LEVEL4;
    all(NAMES("4-level"));
    control_registers();
    process_contexts();
    canonical("canonical addresses");
    bases();
    if (!cpu_has(CPU_LA57)) {
        skip_group("5-level", "the processor has none");
        return;
    }
    format = LEVEL5;
    all(NAMES("5-level"));
    canonical("canonical addresses with 5 levels");
    last_level();
#else
    format = BITS32;
    all(NAMES("32-bit"));
    page_size_extension();
    format = PAE;
    all(NAMES("PAE"));
    pdptes();
#endif
}
