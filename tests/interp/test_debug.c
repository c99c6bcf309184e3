/* Breakpoints that come with a state from outside (a snapshot, a debugger), and what they have to do with budgets and vCPUs. */
#include "machine.h"

enum { DR7_L0 = 0x401, WRITE_1 = 1 << 16, HANDLER = 0x8000, B0 = 1 << 0 };

/* #DB goes to 0:HANDLER. */
static void start_with_handler(struct machine *m, const void *code, size_t len, const void *handler,
                               size_t handler_len, unsigned cpus)
{
    static const u16 vector[] = {HANDLER, 0};

    start_cpus(m, "max", cpus);
    memory_poke(&m->vm->memory, HANDLER, handler, handler_len);
    memory_poke(&m->vm->memory, VEC_DB * 4, vector, sizeof(vector));
    real_mode(m, code, len);
}

static const u8 halt[] = {0xf4};
static const u8 counts[] = {0x40, 0x40, 0x40, 0x40, 0xf4}; /* inc ax, four times; hlt */

/* Blocks that were made before the breakpoint was there are cut. */
static void test_execute_in_old_block(void **state)
{
    struct machine m;

    start_with_handler(&m, counts, sizeof(counts), halt, sizeof(halt), 1);
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 4);
    m.s->activity = VCPU_RUNNING;
    m.s->rip = 0x7c00;
    m.s->dr[0] = 0x7c02;
    m.s->dr[7] = DR7_L0;
    m.vcpu->engine->state_changed(m.vcpu);
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 6);
    assert_int_equal(m.s->rip, HANDLER + 1);
    assert_int_equal(m.s->dr[6] & 0xf, B0);
    stop(&m);
}

/* A breakpoint is its vCPU's own, though the blocks are everybody's. */
static void test_execute_on_one_vcpu(void **state)
{
    struct machine m;

    start_with_handler(&m, counts, sizeof(counts), halt, sizeof(halt), 2);
    for (unsigned pass = 0; pass < 4; pass++) {
        unsigned n = pass & 1;

        m.vcpu = m.vm->vcpus[n];
        m.s = &m.vcpu->state;
        real_mode(&m, counts, sizeof(counts));
        m.s->dr[0] = 0x7c03;
        m.s->dr[7] = n ? DR7_L0 : 0x400;
        m.vcpu->engine->state_changed(m.vcpu);
        assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
        assert_int_equal(m.s->gpr[RAX], n ? 3 : 4);
    }
    stop(&m);
}

/* More addresses than the cache keeps. */
static void test_many_addresses(void **state)
{
    u8 code[201];
    struct machine m;

    memset(code, 0x40, sizeof(code) - 1);
    code[sizeof(code) - 1] = 0xf4;
    start_with_handler(&m, code, sizeof(code), halt, sizeof(halt), 1);
    for (unsigned n = 0; n < 200; n++) {
        m.s->activity = VCPU_RUNNING;
        m.s->seg[SEG_CS].base = m.s->seg[SEG_CS].selector = 0;
        m.s->rip = 0x7c00;
        m.s->gpr[RAX] = 0;
        m.s->gpr[RSP] = 0x7000;
        m.s->dr[0] = 0x7c00 + n;
        m.s->dr[7] = DR7_L0;
        m.vcpu->engine->state_changed(m.vcpu);
        assert_int_equal(run(&m, 1000), ENGINE_EXIT_HALT);
        assert_int_equal(m.s->gpr[RAX], n);
    }
    stop(&m);
}

/* Traps that a MOV-SS shadow holds back are in the state, and come after one more instruction wherever that is executed. */
static void test_pending_across_runs(void **state)
{
    static const u8 code[] = {0x8e, 0xd0, 0x40, 0x40, 0xf4}; /* mov ss, ax; inc ax; inc ax; hlt */
    struct machine m;

    start_with_handler(&m, code, sizeof(code), halt, sizeof(halt), 1);
    m.s->pending_debug = B0;
    m.s->mov_ss_shadow = true;
    m.s->rip += 2;
    m.vcpu->engine->state_changed(m.vcpu);
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->gpr[RAX], 1);
    assert_int_equal(m.s->dr[6] & 0xf, B0);
    assert_int_equal(m.s->pending_debug, 0);
    stop(&m);
}

/* Budgets end where they end, whatever is watched; the end is the same with every budget. */
static void test_budgets(void **state)
{
    static const u8 code[] = {
        0xb9, 0x08, 0x00, 0xbf, 0x00, 0x06, /* mov cx,8; mov di,600h */
        0xf3, 0xaa,                         /* rep stosb */
        0xa2, 0x02, 0x06, 0xf4,             /* mov [602h],al; hlt */
    };
    static const u8 handler[] = {0x43, 0xcf}; /* inc bx; iret */
    struct machine m;
    u64 icount = 0;

    for (u64 step = 1; step < 40; step++) {
        enum engine_exit reason;

        start_with_handler(&m, code, sizeof(code), handler, sizeof(handler), 1);
        m.s->dr[0] = 0x602;
        m.s->dr[7] = DR7_L0 | WRITE_1 | 3 << 18; /* four bytes: 600h to 603h */
        m.vcpu->engine->state_changed(m.vcpu);
        for (u64 n = step; (reason = run(&m, step)) == ENGINE_EXIT_BUDGET; n += step)
            assert_int_equal(m.s->icount, n);
        assert_int_equal(reason, ENGINE_EXIT_HALT);
        assert_int_equal(m.s->gpr[RBX], 5); /* four iterations and the MOV */
        assert_int_equal(m.s->gpr[RCX], 0);
        if (step == 1)
            icount = m.s->icount;
        assert_int_equal(m.s->icount, icount);
        stop(&m);
    }
}

/* #DB's own frame meets the breakpoint, for ever: the budget ends it. */
static void test_endless(void **state)
{
    static const u8 code[] = {0x50, 0xf4}; /* push ax; hlt */
    struct machine m;

    start_with_handler(&m, code, sizeof(code), halt, sizeof(halt), 1);
    m.s->gpr[RSP] = 0x7000;
    m.s->idtr = (struct desc_table){0, 0x3ff};
    for (unsigned n = 0; n < 4; n++) /* all of the stack segment that a few deliveries write */
        m.s->dr[n] = 0x6ff8 - 8 * n;
    m.s->dr[7] = 0x4ff | 0x9999u << 16; /* 8 bytes each, written */
    m.vcpu->engine->state_changed(m.vcpu);
    assert_int_equal(run(&m, 1000), ENGINE_EXIT_HALT);
    /* An execute breakpoint at the handler: nothing is ever executed there. */
    m.s->activity = VCPU_RUNNING;
    m.s->rip = HANDLER;
    m.s->dr[0] = HANDLER;
    m.s->dr[7] = DR7_L0;
    m.vcpu->engine->state_changed(m.vcpu);
    assert_int_equal(run(&m, 1000), ENGINE_EXIT_BUDGET);
    assert_int_equal(m.s->rip, HANDLER);
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_execute_in_old_block),
        cmocka_unit_test(test_execute_on_one_vcpu),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_pending_across_runs),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_endless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
