/* Instructions whose results no other machine can tell: by the manual's rules. */
#include "machine.h"

static u64 flags_after(struct machine *m, const u8 *code, size_t len)
{
    long_mode(m, code, len);
    m->s->rflags |= FLAGS_ARITH;
    memset(m->s->gpr, 0xff, 8 * sizeof(m->s->gpr[0]));
    m->s->gpr[RSP] = 0x30000;
    assert_int_equal(run(m, 100), ENGINE_EXIT_HALT);
    return m->s->rflags & FLAGS_ARITH;
}

/* CF tells that there was a number, the other flags are cleared (SDM 2B, RDRAND); the register is written by its size. */
static void test_random_numbers(void **state)
{
    static const u8 rdrand[] = {0x48, 0x0f, 0xc7, 0xf1, 0x0f, 0xc7, 0xf2, 0x66, 0x0f, 0xc7, 0xf3, 0xf4};
    static const u8 rdseed[] = {0x48, 0x0f, 0xc7, 0xf9, 0x0f, 0xc7, 0xfa, 0x66, 0x0f, 0xc7, 0xfb, 0xf4};
    struct machine m;
    u64 first;

    start(&m);
    assert_int_equal(flags_after(&m, rdrand, sizeof(rdrand)), FLAG_CF);
    first = m.s->gpr[RCX];
    assert_int_equal(m.s->gpr[RDX] >> 32, 0);
    assert_int_equal(m.s->gpr[RBX] >> 16, 0xffffffffffff);
    assert_int_equal(flags_after(&m, rdseed, sizeof(rdseed)), FLAG_CF);
    assert_int_not_equal(m.s->gpr[RCX], first);
    assert_int_equal(m.s->gpr[RDX] >> 32, 0);
    assert_int_equal(m.s->gpr[RBX] >> 16, 0xffffffffffff);
    stop(&m);
}

/* RSM is no instruction outside of SMM (SDM 2B). */
static void test_rsm(void **state)
{
    static const u8 rsm[] = {0x0f, 0xaa};
    struct machine m;

    start(&m);
    long_mode(&m, rsm, sizeof(rsm));
    m.s->idtr.limit = 0;
    assert_int_equal(run(&m, 10), ENGINE_EXIT_SHUTDOWN); /* #UD, without a table for it */
    assert_int_equal(m.s->rip, 0x20000);
    stop(&m);
}

/* STAC and CLAC change AC alone (SDM 2B). */
static void test_stac_and_clac(void **state)
{
    static const u8 code[] = {0x0f, 0x01, 0xcb, 0x9c, 0x5b, 0x0f, 0x01, 0xca, 0x9c, 0x59, 0xf4};
    struct machine m;

    start(&m);
    flags_after(&m, code, sizeof(code));
    assert_int_equal(m.s->gpr[RBX] ^ m.s->gpr[RCX], FLAG_AC);
    assert_true(m.s->gpr[RBX] & FLAG_AC);
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_numbers),
        cmocka_unit_test(test_rsm),
        cmocka_unit_test(test_stac_and_clac),
    };

    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
