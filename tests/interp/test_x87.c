/* x87 where no instruction of a user program can show it: the interrupt of the PC, environments in real mode. */
#include "machine.h"

struct fpu_wires {
    bool ferr, ignne;
    unsigned changes;
};

static bool fpu_error(void *opaque, bool ferr)
{
    struct fpu_wires *wires = opaque;

    wires->changes += wires->ferr != ferr;
    wires->ferr = ferr;
    return wires->ignne;
}

/* An x87 error with CR0.NE clear stops the processor at the next waiting instruction, until IGNNE# lets it through. */
static void test_x87_error_without_ne_waits_for_ignne(void **state)
{
    static const u8 code[] = {
        0xdb, 0xe3,             /* fninit */
        0xd9, 0x2e, 0x10, 0x7c, /* fldcw [7c10h] */
        0xd9, 0xe8, 0xd9, 0xee, /* fld1; fldz */
        0xde, 0xf9,             /* fdivp: by zero */
        0x9b,                   /* fwait */
        0xdb, 0xe2,             /* fnclex */
        0xf4,                   /* hlt */
        0x7b, 0x03,             /* control word: division by zero is not masked */
    };
    struct fpu_wires wires = {0};
    struct machine m;

    start(&m);
    m.vm->fpu_error = fpu_error;
    m.vm->fpu_error_opaque = &wires;
    real_mode(&m, code, sizeof(code));
    for (int i = 0; i < 3; i++) { /* however often an interrupt wakes it */
        m.s->activity = VCPU_RUNNING;
        assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
        assert_int_equal(m.s->rip, 0x7c0c);
        assert_true(wires.ferr);
    }
    wires.ignne = true;
    m.s->activity = VCPU_RUNNING;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_int_equal(m.s->rip, 0x7c10);
    assert_false(wires.ferr);
    assert_int_equal(wires.changes, 2);
    stop(&m);
}

/* Whatever takes the pending exception away deasserts FERR#. */
static void test_x87_error_goes(void **state)
{
    static const u8 code[] = {
        0xdb, 0xe3,                         /* fninit */
        0xd9, 0x2e, 0x20, 0x7c,             /* fldcw [7c20h] */
        0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, /* fld1; fldz; fdivp: by zero */
        0x9b,                               /* 7c0c: fwait */
    };
    static const u8 clears[][6] = {
        {0xdb, 0xe2, 0xf4},                   /* fnclex */
        {0xdb, 0xe3, 0xf4},                   /* fninit */
        {0xd9, 0x36, 0x00, 0x06, 0xf4},       /* fnstenv [600h]: masks all */
        {0xdd, 0x36, 0x00, 0x06, 0xf4},       /* fnsave [600h] */
        {0x0f, 0xae, 0x0e, 0x00, 0x08, 0xf4}, /* fxrstor [800h]: zeros */
    };
    static const u8 control_word[] = {0x7b, 0x03}; /* division by zero is not masked */

    for (unsigned n = 0; n < ARRAY_SIZE(clears); n++) {
        struct fpu_wires wires = {0};
        struct machine m;

        start(&m);
        m.vm->fpu_error = fpu_error;
        m.vm->fpu_error_opaque = &wires;
        real_mode(&m, code, sizeof(code));
        memory_poke(&m.vm->memory, 0x7c20, control_word, sizeof(control_word));
        memory_poke(&m.vm->memory, 0x7d00, clears[n], sizeof(clears[n]));
        assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
        assert_int_equal(m.s->rip, 0x7c0c);
        assert_true(wires.ferr);
        m.s->activity = VCPU_RUNNING;
        m.s->rip = 0x7d00; /* as if the interrupt's handler did it */
        assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
        assert_false(wires.ferr);
        stop(&m);
    }
}

/* SDM 1 figures 8-10 and 8-12: pointers of 32 and of 20 bits, the opcode beside their upper bits. */
static void test_environment_in_real_mode(void **state)
{
    static const u8 code[] = {
        0x66, 0xd9, 0x26, 0x00, 0x05, /* fldenvd [500h] */
        0xd9, 0x36, 0x00, 0x06,       /* fnstenvw [600h] */
        0x66, 0xd9, 0x36, 0x20, 0x06, /* fnstenvd [620h] */
        0xd9, 0x26, 0x00, 0x06,       /* fldenvw [600h] */
        0x66, 0xd9, 0x36, 0x40, 0x06, /* fnstenvd [640h] */
        0xf4,
    };
    static const u32 loaded[7] = {0x027f, 0x3000, 0xffff, 0x5678, 0x01234765, 0xdef0, 0x09abc000};
    static const u16 small[7] = {0x027f, 0x3000, 0xffff, 0x5678, 0x4765, 0xdef0, 0xc000};
    static const u32 after[7] = {0x027f, 0x3000, 0xffff, 0x5678, 0x00004765, 0xdef0, 0x0000c000};
    struct machine m;
    u16 words[7];
    u32 large[7];

    start(&m);
    memory_poke(&m.vm->memory, 0x500, loaded, sizeof(loaded));
    real_mode(&m, code, sizeof(code));
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_true(dma_read(&m.vm->memory, 0x600, words, sizeof(words)));
    assert_memory_equal(words, small, sizeof(words));
    for (unsigned n = 0; n < 2; n++) {
        assert_true(dma_read(&m.vm->memory, n ? 0x640 : 0x620, large, sizeof(large)));
        for (unsigned k = 0; k < 7; k++) {
            u32 defined = k == 4 || k == 6 ? UINT32_MAX : 0xffff;

            assert_int_equal(large[k] & defined, n ? after[k] : loaded[k]);
        }
    }
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x87_error_without_ne_waits_for_ignne),
        cmocka_unit_test(test_x87_error_goes),
        cmocka_unit_test(test_environment_in_real_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
