/* What stands between two instructions or two privileges: events and links, the fetch's rights, shared pages, stale code. */
#include "machine.h"

/* An event between a branch and its target, all on one page, must not become the branch's target. */
static void test_event_is_not_linked(void **state)
{
    static const u8 code[] = {
        0x40,       /* again: inc ax */
        0xeb, 0xfd, /* jmp again */
    };
    static const u8 handler[] = {0x43, 0xcf}; /* inc bx; iret */
    static const u16 vector[] = {0x7d00, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x7d00, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 2 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 2), ENGINE_EXIT_BUDGET);
    vcpu_nmi(m.vcpu);
    assert_int_equal(run(&m, 2 + 2 * 10), ENGINE_EXIT_BUDGET);
    assert_int_equal(m.s->gpr[RBX], 1);
    assert_int_equal(m.s->gpr[RAX], 11);
    assert_int_equal(m.s->gpr[RSP], 0x7000);
    stop(&m);
}

/* Identity paging of the 2 MiB by 4 KiB pages for everybody; the table is at 13000h. No IDT: a fault shuts the CPU down. */
enum { PAGE_TABLE_AT = 0x13000 };
static void map_page(struct machine *m, u64 lin, u64 entry)
{
    memory_poke(&m->vm->memory, PAGE_TABLE_AT + (lin >> PAGE_SHIFT) * 8, &entry, 8);
}
static void long_mode_pages(struct machine *m, const void *code, size_t len)
{
    static const u64 pdpt = 0x12000 | 7, pd = PAGE_TABLE_AT | 7;

    long_mode(m, code, len);
    memory_poke(&m->vm->memory, 0x11000, &pdpt, 8);
    memory_poke(&m->vm->memory, 0x12000, &pd, 8);
    for (u64 lin = 0; lin < MIB(2); lin += PAGE_SIZE)
        map_page(m, lin, lin | 7);
    m->s->idtr.limit = 0;
    m->vcpu->engine->state_changed(m->vcpu);
}

/* User code jumps to supervisor code that has just run: the fetch faults, however well the way there is known. */
static void test_user_cannot_run_supervisor_page(void **state)
{
    static const u8 code[] = {0x48, 0x0f, 0x07};                   /* sysretq */
    static const u8 user[] = {0xe9, 0xfb, 0xff, 0xfe, 0xff, 0xf4}; /* jmp 20000h */
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x30000, user, sizeof(user));
    long_mode_pages(&m, code, sizeof(code));
    map_page(&m, 0x20000, 0x20003);
    m.s->gpr[RCX] = 0x30000;
    m.s->star = (u64)0x18 << 48;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_SHUTDOWN);
    assert_int_equal(m.s->rip, 0x20000);
    assert_int_equal(m.s->cr2, 0x20000);
    stop(&m);
}

/* With EFLAGS.AC set, SMAP lets supervisor code push to and pop from user pages (SDM 3A 4.6.1). */
static void test_smap_stack_with_ac(void **state)
{
    static const u8 code[] = {0x50, 0x5b, 0xf4}; /* push rax; pop rbx; hlt */
    struct machine m;

    for (int ac = 0; ac < 2; ac++) {
        start(&m);
        long_mode_pages(&m, code, sizeof(code));
        m.s->gpr[RAX] = 0x1234;
        m.s->cr4 |= CR4_SMAP;
        m.s->rflags |= ac ? FLAG_AC : 0;
        assert_int_equal(run(&m, 100), ac ? ENGINE_EXIT_HALT : ENGINE_EXIT_SHUTDOWN);
        assert_int_equal(m.s->gpr[RBX], ac ? 0x1234 : 0);
        stop(&m);
    }
}

/* The single-step trap of HLT ends the halt (SDM 2, HLT). */
static void test_single_step_ends_halt(void **state)
{
    static const u8 code[] = {0xf4};
    static const u8 handler[] = {0x43, 0xf4}; /* inc bx; hlt */
    static const u16 vector[] = {0x8000, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 1 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    m.s->rflags |= FLAG_TF;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RBX], 1);
    assert_int_equal(m.s->rip, 0x8002);
    stop(&m);
}

/* A store to any byte of what is no instruction makes it one: here ModRM, which the decoder only looked at. */
static void test_invalid_instruction_is_patched(void **state)
{
    static const u8 code[] = {0xff, 0xf8, 0xf4}; /* FF /7; hlt */
    static const u8 handler[] = {0xc6, 0x06, 0x01,
                                 0x7c, 0xc0, 0xcf}; /* mov byte [7c01h], 0c0h: inc ax; iret */
    static const u16 vector[] = {0x8000, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 6 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 1);
    stop(&m);
}

/* INVLPG of the page that is running: the next instruction comes from where the page is now. */
static void test_invlpg_of_own_page(void **state)
{
    static const u8 code[] = {
        0x48, 0x89, 0x1c, 0x25, 0x00, 0x31, 0x01, 0x00, /* again: mov [13100h], rbx: the entry of 20000h */
        0x48, 0x87, 0xf3,                               /* xchg rbx, rsi */
        0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x02, 0x00, /* invlpg [20000h] */
        0x48, 0xff, 0xc0,                               /* inc rax; in the other page inc rdx */
        0xff, 0xc9, 0x75, 0xe6,                         /* dec ecx; jnz again */
        0xf4,
    };
    u8 other[sizeof(code)];
    struct machine m;

    start(&m);
    memcpy(other, code, sizeof(code));
    other[21] = 0xc2;
    memory_poke(&m.vm->memory, 0x40000, other, sizeof(other));
    long_mode_pages(&m, code, sizeof(code));
    m.s->gpr[RDX] = 0; /* after reset: the CPU's signature */
    m.s->gpr[RBX] = 0x20007;
    m.s->gpr[RSI] = 0x40007;
    m.s->gpr[RCX] = 8;
    assert_int_equal(run(&m, 1000), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 4);
    assert_int_equal(m.s->gpr[RDX], 4);
    stop(&m);
}

/* An instruction that runs over the end of a page into the same page, mapped twice, and is changed there. */
static void test_instruction_over_a_page_mapped_twice(void **state)
{
    static const u8 code[] = {
        0xff, 0xc0,                                     /* after the 48h at the page's end: inc rax */
        0xc6, 0x04, 0x25, 0x01, 0x00, 0x02, 0x00, 0xc3, /* mov byte [20001h], 0c3h: inc rbx */
        0xff, 0xc9, 0x75, 0xf1,                         /* dec ecx; jnz 20fffh */
        0xf4,
    };
    static const u8 rex = 0x48;
    struct machine m;

    start(&m);
    long_mode_pages(&m, code, sizeof(code));
    memory_poke(&m.vm->memory, 0x20fff, &rex, 1);
    map_page(&m, 0x21000, 0x20007);
    m.s->rip = 0x20fff;
    m.s->gpr[RCX] = 3;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 1);
    assert_int_equal(m.s->gpr[RBX], 2);
    stop(&m);
}

/* SYSRET to an address that is not canonical: #GP of SYSRET itself on Intel, of the fetch at CPL 3 on AMD. */
static void test_sysret_not_canonical(void **state)
{
    static const u8 code[] = {0x48, 0x0f, 0x07};
    struct machine m;

    for (int amd = 0; amd < 2; amd++) {
        start_cpu(&m, amd ? "max,vendor=AuthenticAMD" : "max,vendor=GenuineIntel");
        long_mode_pages(&m, code, sizeof(code));
        m.s->gpr[RCX] = 1ull << 47;
        assert_int_equal(run(&m, 100), ENGINE_EXIT_SHUTDOWN);
        assert_int_equal(m.s->rip, amd ? 1ull << 47 : 0x20000);
        stop(&m);
    }
}

/* SYSENTER in real mode is #GP, and not #UD (SDM 2, SYSENTER). */
static void test_sysenter_in_real_mode(void **state)
{
    static const u8 code[] = {0x0f, 0x34};
    static const u8 handler[] = {0x43, 0xf4}; /* inc bx; hlt */
    static const u16 vector[] = {0x8000, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 13 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    m.s->sysenter_cs = 8;
    m.s->idtr.limit = 13 * 4 + 3;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RBX], 1);
    stop(&m);
}

/* A page fault whose delivery another engine began keeps its address. */
static void test_pending_page_fault_keeps_cr2(void **state)
{
    static const u8 code[] = {0x90}, handler[] = {0xf4};
    static const u16 vector[] = {0x8000, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 14 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    m.s->cr2 = 0x1234;
    m.s->event_pending = true;
    m.s->event_vector = 14;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->rip, 0x8001);
    assert_int_equal(m.s->cr2, 0x1234);
    stop(&m);
}

/* An IRET that faults has let NMIs in again all the same. */
static void test_faulting_iret_unmasks_nmi(void **state)
{
    static const u8 code[] = {0x66, 0xcf}, handler[] = {0xf4}; /* iretd; hlt */
    static const u16 vector[] = {0x8000, 0},
                     frame[] = {0x0000, 1, 0, 0, 0x0002, 0}; /* EIP 10000h: beyond the limit */
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 13 * 4, vector, sizeof(vector));
    memory_poke(&m.vm->memory, 0x7000, frame, sizeof(frame));
    real_mode(&m, code, sizeof(code));
    m.s->nmi_masked = true;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->rip, 0x8001);
    assert_int_equal(m.s->gpr[RSP], 0x7000 - 6);
    assert_false(m.s->nmi_masked);
    stop(&m);
}

/* In legacy modes the end of a table may be at the bottom of the address space. */
static void test_gdt_over_the_end(void **state)
{
    static const u8 code[] = {0x8e, 0xd8, 0xf4}; /* mov ds, eax; hlt */
    static const u64 descriptor = 0x00cf92123456ffff;
    struct machine m;

    start(&m);
    real_mode(&m, code, sizeof(code));
    memory_poke(&m.vm->memory, 0, &descriptor, sizeof(descriptor));
    m.s->cr0 |= CR0_PE;
    m.s->seg[SEG_CS] = (struct seg){.selector = 8, .limit = 0xffffffff, .attr = 0xc09b};
    m.s->seg[SEG_SS] = (struct seg){.selector = 16, .limit = 0xffffffff, .attr = 0xc093};
    m.s->gdtr.base = 0xfffffff8;
    m.s->gdtr.limit = 15;
    m.s->gpr[RAX] = 8;
    m.vcpu->engine->state_changed(m.vcpu);
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->seg[SEG_DS].base, 0x123456);
    assert_int_equal(m.s->seg[SEG_DS].attr & SEG_ACCESSED, SEG_ACCESSED);
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_is_not_linked),
        cmocka_unit_test(test_user_cannot_run_supervisor_page),
        cmocka_unit_test(test_smap_stack_with_ac),
        cmocka_unit_test(test_single_step_ends_halt),
        cmocka_unit_test(test_invalid_instruction_is_patched),
        cmocka_unit_test(test_invlpg_of_own_page),
        cmocka_unit_test(test_instruction_over_a_page_mapped_twice),
        cmocka_unit_test(test_sysret_not_canonical),
        cmocka_unit_test(test_sysenter_in_real_mode),
        cmocka_unit_test(test_pending_page_fault_keeps_cr2),
        cmocka_unit_test(test_faulting_iret_unmasks_nmi),
        cmocka_unit_test(test_gdt_over_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
