/*
 * Code that changes: by its own next instruction, in its block, its page, through another mapping, by string stores and
 * pushes, over page ends, and from another processor. SDM 3A 9.1.3: a processor sees its own stores in what it fetches next.
 */
#include "guest.h"

/* CODE_AREA by another linear address; a page at REMAPPED that changes. */
#define ALIAS    0x10000000ul
#define REMAPPED 0x40000000ul

struct row {
    const char *name;
    struct code code; /* label 2: its begin, where EBX points */
    ulong ax;
};

static void own_stores(void)
{
    struct row rows[] = {
        {"the next instruction's immediate",
         CODE32("2: mov byte ptr [ebx + 3f - 2b + 1], 0x77\n 3: mov al, 0x11"), 0x77},
        {"the next instruction's opcode", CODE32("2: mov byte ptr [ebx + 3f - 2b], 0x48\n 3: inc eax"),
         0xffffffff},
        {"the last of a block",
         CODE32("2: mov byte ptr [ebx + 3f - 2b + 1], 0x77\n nop\n nop\n nop\n nop\n nop\n inc ecx\n"
                "3: mov al, 0x11"),
         0x77},
        {"an instruction of a loop",
         CODE32("2: mov ecx, 3\n 3: add eax, 1\n inc byte ptr [ebx + 7]\n loop 3b"), 6},
        {"the loop's own counter",
         CODE32("2: mov ecx, 4\n 3: lea eax, [eax + 2]\n add byte ptr [ebx + 7], 3\n dec ecx\n jnz "
                "3b"),
         26},
        {"by REP STOSB",
         CODE32("2: lea edi, [ebx + 3f - 2b]\n mov ecx, 3\n mov al, 0x90\n rep stosb\n xor eax, eax\n"
                "3: inc eax\n inc eax\n inc eax\n inc eax"),
         1},
        {"by REP MOVSB",
         CODE32("2: lea esi, [ebx + 4f - 2b]\n lea edi, [ebx + 3f - 2b]\n mov ecx, 5\n rep movsb\n"
                "3: mov eax, 0x11111111\n jmp 5f\n 4: mov eax, 0x22222222\n 5:"),
         0x22222222},
        {"by REP MOVSD backwards",
         CODE32("2: std\n lea esi, [ebx + 4f - 2b + 4]\n lea edi, [ebx + 3f - 2b + 4]\n mov ecx, 2\n"
                "rep movsd\n cld\n 3: mov eax, 0x11111111\n nop\n nop\n nop\n jmp 5f\n"
                "4: mov eax, 0x22222222\n nop\n nop\n nop\n 5:"),
         0x22222222},
        {"by PUSH",
         CODE32("2: mov edx, esp\n lea esp, [ebx + 3f - 2b + 5]\n push 0x33333333\n 3: mov eax, 0x11111111\n"
                "mov esp, edx"),
         0x33333333},
        {"by CALL's return address",
         CODE32("2: mov edx, esp\n lea esp, [ebx + 3f - 2b + 5]\n call 4f\n"
                "4: 3: mov eax, 0x11111111\n sub eax, ebx\n mov esp, edx"),
         13},
        {"by XCHG", CODE32("2: mov cl, 0x44\n xchg cl, [ebx + 3f - 2b + 1]\n 3: mov al, 0x11"), 0x44},
        {"by LOCK BTS", CODE32("2: lock bts dword ptr [ebx + 3f - 2b + 1], 6\n 3: mov al, 0x11"), 0x51},
        {"by CMPXCHG",
         CODE32("2: mov eax, 0x11111111\n mov ecx, 0x55555555\n lock cmpxchg [ebx + 3f - 2b + 1], ecx\n"
                "3: mov eax, 0x11111111"),
         0x55555555},
        {"by FISTP",
         CODE32("2: fninit\n fild qword ptr [ebx + 4f - 2b]\n fistp qword ptr [ebx + 3f - 2b]\n"
                "3: mov eax, 0x11111111\n nop\n nop\n nop\n jmp 5f\n"
                "4: mov eax, 0x66666666\n nop\n nop\n nop\n 5:"),
         0x66666666},
        {"the bytes after a jump",
         CODE32("2: mov byte ptr [ebx + 3f - 2b + 1], 0x71\n jmp 3f\n nop\n 3: mov al, 0x11"), 0x71},
        {"a jump's distance",
         CODE32("2: mov byte ptr [ebx + 3f - 2b + 1], 2\n 3: jmp 4f\n 4: mov al, 0x11\n mov ah, 0x22"),
         0x2200},
        {"twice", CODE32("2: mov ecx, 2\n 4: inc byte ptr [ebx + 3f - 2b + 1]\n 3: mov al, 0x11\n loop 4b"),
         0x13},
        {"data beside code",
         CODE32("2: mov ecx, 1000\n 4: inc dword ptr [ebx + 0x40]\n loop 4b\n mov eax, [ebx + 0x40]"), 1000},
    };

    group("stores to one's own code");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned user = 0; user < 2; user++) {
            struct context c = ring_context(user ? 3 : 0, rows[i].code);
            const struct trap *trap;

            c.bx = CODE_AREA;
            for (unsigned turn = 0; turn < 2; turn++) {
                place(rows[i].code, CODE_AREA);
                *(u32 *)(CODE_AREA + 0x40) = 0;
                trap = run(&c);
                expect_trap(trap, END, "%s, ring %u, turn %u", rows[i].name, user * 3, turn);
                expect_equal(trap->at.ax, rows[i].ax, "%s, ring %u, turn %u", rows[i].name, user * 3, turn);
            }
        }
    }
    struct code function = CODE32("2: call 3f\n mov byte ptr [ebx + 3f - 2b + 2], 0x20\n call 3f\n jmp 4f\n"
                                  "3: add eax, 0x10\n ret\n 4:");
    struct context c = kernel_context(function);
    c.bx = CODE_AREA;
    expect_equal(run(&c)->at.ax, 0x30, "a function between two calls");
}

/* Instructions on two pages, of which either part changes. */
static void page_ends(void)
{
    struct code code = CODE32("mov [edi], cl\n jmp edx");
    const ulong page = CODE_AREA + 0x2000;

    group("instructions on two pages");
    for (ulong before = 1; before < 5; before++) {
        for (ulong byte = 0; byte < 5; byte++) {
            struct context c;
            ulong at = page - before;

            /* MOV EAX, 44332211h; INT 80h, with one byte changed by code elsewhere, after it has run once. */
            for (unsigned turn = 0; turn < 2; turn++) {
                const struct trap *trap;
                u32 value = 0x44332211;

                place(CODE32("mov eax, 0x44332211"), at);
                c = kernel_context(CODE32("nop"));
                c.ip = at;
                expect_equal(run(&c)->at.ax, value, "%lu bytes on the first page: as it was", before);
                c = kernel_context(code);
                c.di = at + byte;
                c.cx = byte ? 0x99 : 0xb9; /* MOV ECX */
                c.dx = at;
                trap = run(&c);
                if (byte)
                    value = (value & ~(0xffu << (8 * (byte - 1)))) | 0x99u << (8 * (byte - 1));
                expect_equal(byte ? trap->at.ax : trap->at.cx, value, "%lu bytes on the first page, byte %lu",
                             before, byte);
            }
        }
    }
}

/* Other mappings of the page, and other pages at the mapping. 4 MiB pages. */
static void mappings(void)
{
    static u32 directory[1024] __attribute__((aligned(4096)));
    static u32 table[1024] __attribute__((aligned(4096)));
    struct code store = CODE32("2: mov byte ptr [esi + 3f - 2b + 1], 0x77\n 3: mov al, 0x11");
    struct context c;

    group("other mappings");
    for (ulong at = 0; at < 0x1000000; at += 0x400000)
        directory[at >> 22] = (u32)at | 0x87;
    directory[0xfee00000u >> 22] = 0xfec00000u | 0x87;
    directory[ALIAS >> 22] = CODE_AREA | 0x87;
    directory[REMAPPED >> 22] = (u32)(ulong)table | 7;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((ulong)directory);
    write_cr0(read_cr0() | CR0_PG);
    for (unsigned turn = 0; turn < 3; turn++) {
        c = kernel_context(store);
        c.si = turn == 1 ? CODE_AREA : ALIAS;
        if (turn == 1)
            c.ip = ALIAS;
        expect_equal(run(&c)->at.ax, 0x77, "a store through the other mapping, turn %u", turn);
    }
    /* The page at REMAPPED becomes another: with INVLPG, with MOV to CR3. */
    static const u32 frames[] = {TEST_AREA, TEST_AREA + 0x1000};
    place(CODE32("mov eax, 0x1111"), frames[0]);
    place(CODE32("mov eax, 0x2222"), frames[1]);
    for (unsigned turn = 0; turn < 8; turn++) {
        table[0] = frames[turn & 1] | 7;
        if (turn & 2)
            invlpg(REMAPPED);
        else
            write_cr3((ulong)directory);
        c = kernel_context(CODE32("nop"));
        c.ip = REMAPPED;
        expect_equal(run(&c)->at.ax, turn & 1 ? 0x2222 : 0x1111, "another page at the same address, turn %u",
                     turn);
    }
    /* A page's code changes while it is not mapped. */
    table[0] = frames[0] | 7;
    write_cr3((ulong)directory);
    place(CODE32("mov eax, 0x3333"), frames[1]);
    table[0] = frames[1] | 7;
    invlpg(REMAPPED);
    expect_equal(run(&c)->at.ax, 0x3333, "a page that changed while it was not mapped");
    /* The same bytes by two addresses have their own EIP. */
    struct code where = CODE32("call 3f\n 3: pop eax");
    c = kernel_context(where);
    expect_equal(run(&c)->at.ax, CODE_AREA + 5, "CALL at one address");
    c.ip = ALIAS;
    expect_equal(run(&c)->at.ax, ALIAS + 5, "CALL at the other");
    write_cr0(read_cr0() & ~CR0_PG);
}

/* The same bytes mean different things in 16- and 32-bit segments. */
static void modes(void)
{
    struct code code = CODE32(
        ".byte 0xb8, 0x11, 0x22, 0x40, 0x40"); /* MOV EAX, 40402211h; or MOV AX, 2211h and two INC AX */

    group("the same bytes in other modes");
    gdt[SEL_TEST / 8] = descriptor(0, 0xfffff, CODE_XR(0), FLAGS_G);
    for (unsigned turn = 0; turn < 4; turn++) {
        struct context c = kernel_context(code);

        c.cs = turn & 1 ? SEL_TEST : SEL_KCODE;
        expect_equal(run(&c)->at.ax, turn & 1 ? 0x2213 : 0x40402211, "%u bits", turn & 1 ? 16 : 32);
    }
    /* And with other bases. */
    for (unsigned turn = 0; turn < 4; turn++) {
        struct context c = kernel_context(CODE32("call 3f\n 3: pop eax"));

        gdt[SEL_TEST / 8] = descriptor(turn & 1 ? CODE_AREA : 0, 0xfffff, CODE_XR(0), FLAGS_G | FLAGS_D);
        c.cs = SEL_TEST;
        c.ip = turn & 1 ? 0 : CODE_AREA;
        expect_equal(run(&c)->at.ax, c.ip + 5, "base %u", turn & 1);
    }
}

/* ---- From another processor: SDM 3A 9.1.3, "cross-modifying code" ---- */

enum { TRAMPOLINE = 0x9000 };

extern const u8 ap_start[], ap_start_end[];
volatile u32 ap_request, ap_done;

/* To protected mode; then each request is an immediate, which is written to the code at CODE_AREA. */
asm(".section .rodata\n"
    ".code16\n"
    ".global ap_start, ap_start_end, ap_entry\n"
    "ap_start: cli\n"
    "mov %cs, %ax\n"
    "mov %ax, %ds\n"
    "lgdtl 1f - ap_start\n"
    "mov %cr0, %eax\n"
    "and $0x9fffffff, %eax\n"
    "or $1, %al\n"
    "mov %eax, %cr0\n"
    "ljmpl $8, $ap_entry\n"
    "1: .word 0x7ff\n"
    ".long gdt\n"
    "ap_start_end:\n"
    ".code32\n"
    ".text\n"
    "ap_entry: mov $0x10, %eax\n"
    "mov %eax, %ds\n"
    "mov %eax, %ss\n"
    "xor %ecx, %ecx\n"
    "1: pause\n"
    "mov ap_request, %eax\n"
    "cmp %eax, %ecx\n"
    "je 1b\n"
    "mov %eax, %ecx\n"
    "mov %eax, 0x400001\n" /* CODE_AREA: MOV EAX, imm32 */
    "mov %eax, ap_done\n"
    "jmp 1b\n");

static void cross_modifying(void)
{
    volatile u32 *apic = (volatile u32 *)0xfee00000u;
    struct context c = kernel_context(CODE32("mov eax, 0x11111111"));
    u32 other = !(apic[0x20 / 4] >> 24);

    memcpy((void *)TRAMPOLINE, ap_start, (size_t)(ap_start_end - ap_start));
    apic[0xf0 / 4] = 0x1ff;
    apic[0x310 / 4] = other << 24;
    apic[0x300 / 4] = 0x4500; /* INIT */
    apic[0x310 / 4] = other << 24;
    apic[0x300 / 4] = 0x4600 | TRAMPOLINE >> 12; /* SIPI */
    group("code that another processor changes");
    expect_equal(run(&c)->at.ax, 0x11111111, "before");
    for (u32 turn = 1; turn <= 50; turn++) {
        u32 i;

        ap_request = turn * 0x01010101;
        for (i = 0; i < 20000000 && ap_done != ap_request; i++)
            asm volatile("pause");
        if (ap_done != ap_request) {
            skip_group("code that another processor changes", "there is no second processor (--cpus 2)");
            return;
        }
        cpuid(0, 0); /* serialise */
        expect_equal(run(&c)->at.ax, ap_request, "turn %u", turn);
    }
}

void test(void)
{
    own_stores();
    page_ends();
    modes();
    mappings();
    cross_modifying();
}
