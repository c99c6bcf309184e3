/* Alignment check in 32-bit protected mode. */
#include "guest.h"

/* Alignment check: AC, AM and CPL 3 (SDM 3A 6.15, interrupt 17). */
static void alignment_check(void)
{
    struct {
        const char *name;
        struct code code;
        unsigned alignment;
    } rows[] = {
        {"byte", CODE32("mov al, [ebx]"), 1},
        {"word", CODE32("mov ax, [ebx]"), 2},
        {"dword", CODE32("mov eax, [ebx]"), 4},
        {"write", CODE32("mov [ebx], eax"), 4},
        {"RMW", CODE32("inc dword ptr [ebx]"), 4},
        {"double", CODE32("fld qword ptr [ebx]\n fstp st(0)"), 8},
        {"ten bytes", CODE32("fld tbyte ptr [ebx]\n fstp st(0)"), 8},
    };

    group("alignment check");
    memset((void *)DATA_AREA, 0, 64);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned n = 0; n < 16; n++) {
            bool am = n & 1, ac = n & 2;
            int cpl = n & 4 ? 3 : 2;
            unsigned offset = n & 8 ? 0 : 1;
            struct context c = ring_context(cpl, rows[i].code);
            bool fault = am && ac && cpl == 3 && offset % rows[i].alignment;

            write_cr0(am ? read_cr0() | CR0_AM : read_cr0() & ~(ulong)CR0_AM);
            c.flags |= ac ? FLAG_AC : 0;
            c.bx = DATA_AREA + offset;
            expect_trap(run(&c), fault ? FAULT(AC, 0) : END, "%s at %u, AM %u AC %u cpl %d", rows[i].name,
                        offset, am, ac, cpl);
        }
    }
    write_cr0(read_cr0() & ~(ulong)CR0_AM);
}

void test(void)
{
    alignment_check();
}
