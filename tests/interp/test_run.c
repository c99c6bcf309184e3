/* The run loop on small programs: exact budgets, faults, self-modification, modes. No board: RAM and a CPU. */
#include "machine.h"

static void test_real_mode_loop(void **state)
{
    static const u8 code[] = {
        0xb9, 0x0a, 0x00, /* mov cx, 10 */
        0x31, 0xc0,       /* xor ax, ax */
        0x01, 0xc8,       /* again: add ax, cx */
        0xe2, 0xfc,       /* loop again */
        0xa3, 0x00, 0x05, /* mov [500h], ax */
        0xf4,             /* hlt */
    };
    struct machine m;
    u16 sum;

    start(&m);
    real_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 1000), ENGINE_EXIT_HALT);
    assert_true(dma_read(&m.vm->memory, 0x500, &sum, 2));
    assert_int_equal(sum, 55);
    assert_int_equal(m.s->icount, 2 + 20 + 2);
    assert_int_equal(m.s->rip, 0x7c00 + sizeof(code));
    stop(&m);
}

/* Every budget stops after exactly that many instructions, and going on gives the same end. */
static void test_budgets_are_exact(void **state)
{
    static const u8 code[] = {
        0xb9, 0x05, 0x00, 0xbf, 0x00, 0x06, 0xb0, 0x41, /* mov cx,5; mov di,600h; mov al,'A' */
        0xf3, 0xaa,                                     /* rep stosb: five instructions */
        0x40, 0x40, 0x40,                               /* inc ax, three times */
        0xeb, 0xfe,                                     /* jmp $ */
    };
    struct machine m;

    for (u64 step = 1; step < 14; step++) {
        start(&m);
        real_mode(&m, code, sizeof(code));
        for (u64 n = step; n < 40; n += step) {
            u64 rip, stosb = n < 3 ? 0 : n < 8 ? n - 3 : 5;

            assert_int_equal(run(&m, step), ENGINE_EXIT_BUDGET);
            assert_int_equal(m.s->icount, n);
            assert_int_equal(m.s->gpr[RDI], n < 2 ? 0 : 0x600 + stosb);
            rip = n < 3 ? (n == 1 ? 3 : 6) : n < 8 ? 8 : n < 11 ? 10 + (n - 8) : 13;
            assert_int_equal(m.s->rip, 0x7c00 + rip);
        }
        stop(&m);
    }
}

/* The store changes the very next instruction. */
static void test_self_modification(void **state)
{
    static const u8 code[] = {
        0xc6, 0x06, 0x05, 0x7c, 0x43, /* mov byte [7c05h], 43h: inc bx */
        0x40,                         /* inc ax, which it was */
        0xf4,
    };
    struct machine m;

    start(&m);
    real_mode(&m, code, sizeof(code));
    for (int n = 0; n < 3; n++) { /* also from the cache */
        m.s->rip = 0x7c00;
        m.s->activity = VCPU_RUNNING;
        assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    }
    assert_int_equal(m.s->gpr[RAX], 0);
    assert_int_equal(m.s->gpr[RBX], 3);
    stop(&m);
}

static void test_real_mode_interrupt(void **state)
{
    static const u8 code[] = {
        0xcd,
        0x40, /* int 40h */
        0xf4,
    };
    static const u8 handler[] = {0xb8, 0x34, 0x12, 0xcf}; /* mov ax,1234h; iret */
    static const u16 vector[] = {0x8000, 0};
    struct machine m;

    start(&m);
    memory_poke(&m.vm->memory, 0x8000, handler, sizeof(handler));
    memory_poke(&m.vm->memory, 0x40 * 4, vector, sizeof(vector));
    real_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 0x1234);
    assert_int_equal(m.s->gpr[RSP], 0x7000);
    stop(&m);
}

static void test_triple_fault(void **state)
{
    static const u8 code[] = {0x0f, 0x0b}; /* ud2, with an IDT limit of 0 */
    struct machine m;

    start(&m);
    real_mode(&m, code, sizeof(code));
    m.s->idtr.limit = 0;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_SHUTDOWN);
    assert_int_equal(m.s->activity, VCPU_SHUTDOWN);
    assert_int_equal(m.s->rip, 0x7c00);
    stop(&m);
}

static void test_long_mode_call(void **state)
{
    static const u8 code[] = {
        0xe8, 0x08, 0x00, 0x00, 0x00,                         /* call f */
        0x48, 0x8b, 0x0d, 0x0f, 0x00, 0x00, 0x00,             /* mov rcx, [rip + data] */
        0xf4,                                                 /* hlt */
        0x48, 0xb8, 1,    2,    3,    4,    5,    6,    7, 8, /* f: movabs rax, 0807060504030201h */
        0x48, 0xff, 0xc0, 0xc3,                               /* inc rax; ret */
        0xef, 0xbe, 0xad, 0xde, 0xef, 0xbe, 0xad, 0xde,       /* data */
    };
    struct machine m;

    start(&m);
    long_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 0x0807060504030202);
    assert_int_equal(m.s->gpr[RCX], 0xdeadbeefdeadbeef);
    assert_int_equal(m.s->gpr[RSP], 0x30000);
    assert_int_equal(m.s->icount, 6);
    stop(&m);
}

/* Two VMs in one process run independently. */
static void test_two_vms(void **state)
{
    static const u8 a[] = {0xb8, 0x11, 0x11, 0xf4}, b[] = {0xb8, 0x22, 0x22, 0xf4};
    struct machine m, n;

    start(&m);
    start(&n);
    real_mode(&m, a, sizeof(a));
    real_mode(&n, b, sizeof(b));
    assert_int_equal(run(&m, 1), ENGINE_EXIT_BUDGET);
    assert_int_equal(run(&n, 10), ENGINE_EXIT_HALT);
    assert_int_equal(run(&m, 10), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 0x1111);
    assert_int_equal(n.s->gpr[RAX], 0x2222);
    stop(&m);
    stop(&n);
}

static void run_at(struct machine *m, unsigned vcpu, u16 rip)
{
    m->vcpu = m->vm->vcpus[vcpu];
    m->s = &m->vcpu->state;
    vcpu_state_reset(m->s, true, 0);
    m->s->seg[SEG_CS].selector = 0;
    m->s->seg[SEG_CS].base = 0;
    m->s->rip = rip;
    m->vcpu->engine->state_changed(m->vcpu);
    assert_int_equal(run(m, 100), ENGINE_EXIT_HALT);
}

/*
 * Two vCPUs have code from one page. One of them rewrites its own code there, and then that of the other: the first store
 * must not make the page look as if nobody had code in it.
 */
static void test_code_of_another_vcpu_is_rewritten(void **state)
{
    static const u8 first[] = {0xb0, 0x01, 0xf4};                   /* 7d00: mov al, 1; hlt */
    static const u8 second[] = {0x90, 0xf4};                        /* 7e00: nop; hlt */
    static const u8 writer[] = {0xc6, 0x06, 0x00, 0x7e,             /* 9000: mov byte [7e00h], 90h */
                                0x90, 0xc6, 0x06, 0x01, 0x7d, 0x02, /* mov byte [7d01h], 2 */
                                0xf4};
    struct machine m;

    start_cpus(&m, "max", 2);
    memory_poke(&m.vm->memory, 0x7d00, first, sizeof(first));
    memory_poke(&m.vm->memory, 0x7e00, second, sizeof(second));
    memory_poke(&m.vm->memory, 0x9000, writer, sizeof(writer));
    run_at(&m, 0, 0x7d00);
    assert_int_equal(m.s->gpr[RAX] & 0xff, 1);
    run_at(&m, 1, 0x7e00);
    run_at(&m, 1, 0x9000);
    run_at(&m, 0, 0x7d00);
    assert_int_equal(m.s->gpr[RAX] & 0xff, 2);
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_mode_loop),    cmocka_unit_test(test_budgets_are_exact),
        cmocka_unit_test(test_self_modification), cmocka_unit_test(test_real_mode_interrupt),
        cmocka_unit_test(test_triple_fault),      cmocka_unit_test(test_long_mode_call),
        cmocka_unit_test(test_two_vms),           cmocka_unit_test(test_code_of_another_vcpu_is_rewritten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
