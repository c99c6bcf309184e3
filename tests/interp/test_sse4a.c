/* SSE4A through decoder and handlers, by AMD's manual (APM 4): no Intel CPU could be asked. */
#include "machine.h"

static void set_vector(struct machine *m, unsigned n, u64 high, u64 low)
{
    memcpy(m->s->vec[n], &low, 8);
    memcpy(m->s->vec[n] + 8, &high, 8);
}
static void assert_vector(const struct machine *m, unsigned n, u64 high, u64 low)
{
    u64 v[2];

    memcpy(v, m->s->vec[n], 16);
    assert_int_equal(v[0], low);
    assert_int_equal(v[1], high);
}

static const u8 code[] = {
    0x66, 0x0f, 0x78, 0xc0, 0x08, 0x0c, /* extrq xmm0, 8, 12 */
    0x66, 0x0f, 0x79, 0xca,             /* extrq xmm1, xmm2 */
    0xf2, 0x0f, 0x78, 0xdd, 0x08, 0x0c, /* insertq xmm3, xmm5, 8, 12 */
    0xf2, 0x0f, 0x79, 0xe5,             /* insertq xmm4, xmm5 */
    0xf3, 0x0f, 0x2b, 0x33,             /* movntss [rbx], xmm6 */
    0xf2, 0x0f, 0x2b, 0x73, 0x0b,       /* movntsd [rbx+11], xmm6: no alignment asked for */
    0xf4,                               /* hlt */
};

static void test_amd(void **state)
{
    struct machine m;
    u64 stored[3];

    start_cpu(&m, "max,vendor=AuthenticAMD");
    long_mode(&m, code, sizeof(code));
    for (unsigned n = 0; n < 5; n++)
        set_vector(&m, n, 0x1111111111111111, 0x0123456789abcdef);
    set_vector(&m, 2, 0, 4 << 8 | 24); /* index 4, length 24 */
    set_vector(&m, 5, 0xabcd0000 | 4 << 8 | 24,
               0x654321); /* the same in the upper half; other bits mean nothing */
    set_vector(&m, 6, 5, 0xfedcba9876543210);
    m.s->gpr[RBX] = 0x40000;
    assert_int_equal(run(&m, 100), ENGINE_EXIT_HALT);
    assert_vector(&m, 0, 0x1111111111111111, 0xbc);
    assert_vector(&m, 1, 0x1111111111111111, 0x89abcdef >> 4 & 0xffffff);
    assert_vector(&m, 3, 0x1111111111111111, 0x0123456789a21def);
    assert_vector(&m, 4, 0x1111111111111111, 0x012345678654321f);
    assert_true(dma_read(&m.vm->memory, 0x40000, stored, sizeof(stored)));
    assert_int_equal(stored[0], 0x76543210);
    assert_int_equal(stored[1], 0x9876543210000000);
    assert_int_equal(stored[2], 0xfedcba);
    stop(&m);
}

static void test_intel_has_none(void **state)
{
    struct machine m;

    start_cpu(&m, "max,vendor=GenuineIntel");
    long_mode(&m, code, sizeof(code));
    set_vector(&m, 0, 0, 1);
    assert_int_equal(run(&m, 100), ENGINE_EXIT_SHUTDOWN); /* #UD, and there is no IDT */
    assert_int_equal(m.s->rip, 0x20000);
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_amd),
        cmocka_unit_test(test_intel_has_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
