/* The interrupt router: shared levels, sinks, and its state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/irq.h"
#include "state/state.h"

struct sink {
    bool level[IRQ_GSIS];
    unsigned calls;
};

static void sink_gsi(void *opaque, unsigned gsi, bool level)
{
    struct sink *sink = opaque;

    sink->level[gsi] = level;
    sink->calls++;
}

static void set_up(struct irq_router *router, struct sink sinks[IRQ_SINKS])
{
    *router = (struct irq_router){0};
    for (unsigned i = 0; i < IRQ_SINKS; i++) {
        sinks[i] = (struct sink){.calls = 0};
        router->sink[i] = (struct irq_sink){.gsi = sink_gsi, .opaque = &sinks[i]};
    }
}

static void test_level_is_the_or_of_its_sources(void **state)
{
    struct irq_router router;
    struct sink sinks[IRQ_SINKS];
    struct irq_line a, b;

    set_up(&router, sinks);
    a = irq_router_line(&router, 10);
    b = irq_router_line(&router, 10);
    irq_line_set(&a, true);
    assert_true(sinks[0].level[10] && sinks[1].level[10]);
    irq_line_set(&b, true);
    irq_line_set(&b, true);
    irq_line_set(&a, false);
    assert_true(sinks[0].level[10]);
    irq_line_set(&b, false);
    assert_false(sinks[0].level[10] || sinks[1].level[10]);
    assert_int_equal(sinks[0].calls, 2);
    irq_line_pulse(&a);
    assert_int_equal(sinks[1].calls, 4);
}

static void test_unconnected_line(void **state)
{
    struct irq_line none = {0};

    irq_line_pulse(&none);
    assert_null(none.set);
}

static void test_32_sources(void **state)
{
    struct irq_router router;
    struct sink sinks[IRQ_SINKS];
    struct irq_line line[IRQ_SOURCES_PER_GSI];

    set_up(&router, sinks);
    for (unsigned i = 0; i < IRQ_SOURCES_PER_GSI; i++)
        line[i] = irq_router_line(&router, 23);
    for (unsigned i = 0; i < IRQ_SOURCES_PER_GSI; i++)
        irq_line_set(&line[i], true);
    for (unsigned i = 0; i < IRQ_SOURCES_PER_GSI; i++) {
        assert_true(sinks[0].level[23]);
        irq_line_set(&line[i], false);
    }
    assert_false(sinks[0].level[23]);
}

static void msi(void *opaque, u64 address, u32 data)
{
    *(u64 *)opaque = address + data;
}
static void eoi(void *opaque, unsigned gsi)
{
    *(unsigned *)opaque += gsi;
}

static void test_msi_and_eoi_reach_their_takers(void **state)
{
    struct irq_router router;
    struct sink sinks[IRQ_SINKS];
    u64 message = 0;
    unsigned ended = 0;

    set_up(&router, sinks);
    irq_router_msi(&router, 0xfee00000, 0x41); /* nobody: nothing */
    irq_router_eoi(&router, 5);
    router.msi = msi;
    router.msi_opaque = &message;
    router.eoi[5].notify = eoi;
    router.eoi[5].opaque = &ended;
    irq_router_msi(&router, 0xfee00000, 0x41);
    assert_true(message == 0xfee00041);
    irq_router_eoi(&router, 5);
    irq_router_eoi(&router, 6);
    irq_router_eoi(&router, IRQ_GSIS); /* what a guest may put into an IOAPIC entry */
    assert_int_equal(ended, 5);
}

static void test_state(void **state)
{
    struct irq_router from, to;
    struct sink sinks[IRQ_SINKS], to_sinks[IRQ_SINKS];
    struct irq_line line;
    struct state_buf buf = {0};
    struct state_reader reader;
    struct error err = {.text = ""};

    set_up(&from, sinks);
    line = irq_router_line(&from, 4);
    irq_line_set(&line, true);
    state_save(&irq_router_state_table, &from, &buf);

    set_up(&to, to_sinks);
    line = irq_router_line(&to, 4);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "s"};
    assert_int_equal(state_load(&irq_router_state_table, &to, &reader, &err), 0);
    assert_int_equal(to_sinks[0].calls, 0); /* the sinks load their own pins */
    irq_router_sync(&to);
    assert_true(to_sinks[0].level[4] && !to_sinks[0].level[5]);
    irq_line_set(&line, false);
    assert_false(to_sinks[0].level[4]);

    /* A machine with fewer sources cannot ever lower this level. */
    set_up(&to, to_sinks);
    reader.pos = 0;
    assert_int_equal(state_load(&irq_router_state_table, &to, &reader, &err), -1);
    assert_non_null(strstr(err.text, "interrupt 4"));
    state_buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_level_is_the_or_of_its_sources),
        cmocka_unit_test(test_unconnected_line),
        cmocka_unit_test(test_32_sources),
        cmocka_unit_test(test_msi_and_eoi_reach_their_takers),
        cmocka_unit_test(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
