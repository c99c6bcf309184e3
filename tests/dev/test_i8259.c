#include "chip_test.h"
#include "dev/i8259.h"

enum { MASTER, SLAVE };
enum { EOI = 0x20, SPECIFIC_EOI = 0x60, ROTATE_EOI = 0xa0, READ_IRR = 0x0a, READ_ISR = 0x0b, POLL = 0x0c };

struct pic {
    struct i8259_pair pair;
    struct watched_line intr;
};

/* As a PC's firmware sets it up: vectors 08h and 70h, everything unmasked. */
static void program(struct pic *pic, u8 icw4)
{
    static const u8 icw2[] = {0x08, 0x70}, icw3[] = {0x04, 0x02};

    for (int i = 0; i < 2; i++) {
        i8259_write(&pic->pair, i, 0, 0x11);
        i8259_write(&pic->pair, i, 1, icw2[i]);
        i8259_write(&pic->pair, i, 1, icw3[i]);
        i8259_write(&pic->pair, i, 1, icw4);
        i8259_write(&pic->pair, i, 1, 0);
    }
}

static void set_up(struct pic *pic, u8 icw4)
{
    *pic = (struct pic){0};
    i8259_init(&pic->pair, watch_line(&pic->intr));
    program(pic, icw4);
}

static void pulse(struct pic *pic, unsigned irq)
{
    i8259_set_irq(&pic->pair, irq, true);
    i8259_set_irq(&pic->pair, irq, false);
}

static u8 read_reg(struct pic *pic, bool slave, u8 which)
{
    i8259_write(&pic->pair, slave, 0, which);
    return i8259_read(&pic->pair, slave, 0);
}

static void test_edge_is_latched_and_acknowledged_once(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_set_irq(&pic.pair, 3, true);
    assert_true(pic.intr.level);
    assert_int_equal(read_reg(&pic, MASTER, READ_IRR), 1 << 3);
    assert_int_equal(i8259_ack(&pic.pair), 0x0b);
    assert_false(pic.intr.level);
    assert_int_equal(read_reg(&pic, MASTER, READ_IRR), 0);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 3);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 0);
    assert_false(pic.intr.level); /* the input is still high: no new edge */
    i8259_set_irq(&pic.pair, 3, false);
    i8259_set_irq(&pic.pair, 3, true);
    assert_true(pic.intr.level);
}

static void test_priorities_nest(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    pulse(&pic, 5);
    pulse(&pic, 1);
    assert_int_equal(i8259_ack(&pic.pair), 0x09);
    assert_false(pic.intr.level); /* 5 waits for 1 */
    pulse(&pic, 0);
    assert_true(pic.intr.level);
    assert_int_equal(i8259_ack(&pic.pair), 0x08);
    i8259_write(&pic.pair, MASTER, 0, EOI); /* ends 0, the more urgent */
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 1);
    assert_false(pic.intr.level);
    i8259_write(&pic.pair, MASTER, 0, SPECIFIC_EOI | 1);
    assert_int_equal(i8259_ack(&pic.pair), 0x0d);
}

static void test_slave_comes_through_input_2(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_set_irq(&pic.pair, 8, true);
    pulse(&pic, 3);
    assert_int_equal(i8259_ack(&pic.pair), 0x70);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 2);
    assert_int_equal(read_reg(&pic, SLAVE, READ_ISR), 1 << 0);
    assert_false(pic.intr.level);
    i8259_write(&pic.pair, SLAVE, 0, EOI);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_int_equal(i8259_ack(&pic.pair), 0x0b);
    /* Input 2 has no pin of its own. */
    i8259_write(&pic.pair, MASTER, 0, EOI);
    i8259_set_irq(&pic.pair, 2, true);
    assert_false(pic.intr.level);
}

static void test_slave_request_waits_for_master_in_fully_nested_mode_only(void **state)
{
    struct pic pic;

    for (int sfnm = 0; sfnm < 2; sfnm++) {
        set_up(&pic, sfnm ? 0x11 : 1);
        pulse(&pic, 14);
        assert_int_equal(i8259_ack(&pic.pair), 0x76);
        pulse(&pic, 9); /* more urgent, of the same slave */
        assert_int_equal(pic.intr.level, sfnm);
        if (sfnm)
            assert_int_equal(i8259_ack(&pic.pair), 0x71);
    }
}

static void test_mask_holds_back_and_lets_go(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_write(&pic.pair, MASTER, 1, 1 << 4);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 1), 1 << 4);
    pulse(&pic, 4);
    assert_false(pic.intr.level);
    i8259_write(&pic.pair, MASTER, 1, 0);
    assert_true(pic.intr.level);
    assert_int_equal(i8259_ack(&pic.pair), 0x0c);
}

static void test_level_triggered_input_follows_its_line(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_elcr_write(&pic.pair, 0, 0xff);
    i8259_elcr_write(&pic.pair, 1, 0xff);
    assert_int_equal(i8259_elcr_read(&pic.pair, 0), 0xf8); /* 0, 1, 2, 8 and 13 are always edge-triggered */
    assert_int_equal(i8259_elcr_read(&pic.pair, 1), 0xde);
    i8259_set_irq(&pic.pair, 11, true);
    assert_int_equal(i8259_ack(&pic.pair), 0x73);
    i8259_write(&pic.pair, SLAVE, 0, EOI);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_true(pic.intr.level); /* still asserted: again */
    i8259_set_irq(&pic.pair, 11, false);
    assert_false(pic.intr.level);
    /* A line that is high when its input becomes level-triggered counts. */
    i8259_elcr_write(&pic.pair, 0, 0);
    i8259_set_irq(&pic.pair, 5, true);
    i8259_ack(&pic.pair);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_false(pic.intr.level);
    i8259_elcr_write(&pic.pair, 0, 1 << 5);
    assert_true(pic.intr.level);
}

static void test_spurious_interrupts_are_7_and_15_and_not_in_service(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    assert_int_equal(i8259_ack(&pic.pair), 0x0f);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 0);
    /* The slave's request is masked between the two halves: only its own view of it is gone. */
    pulse(&pic, 12);
    pic.pair.slave.imr = 1 << 4;
    assert_int_equal(i8259_ack(&pic.pair), 0x77);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 2);
    assert_int_equal(read_reg(&pic, SLAVE, READ_ISR), 0);
}

static void test_rotation(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    pulse(&pic, 3);
    i8259_ack(&pic.pair);
    i8259_write(&pic.pair, MASTER, 0, ROTATE_EOI); /* 3 is the least urgent now, 4 the most */
    pulse(&pic, 3);
    pulse(&pic, 0);
    pulse(&pic, 4);
    assert_int_equal(i8259_ack(&pic.pair), 0x0c);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_int_equal(i8259_ack(&pic.pair), 0x08);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_int_equal(i8259_ack(&pic.pair), 0x0b);
    i8259_write(&pic.pair, MASTER, 0, 0xe0 | 3); /* rotate on specific EOI */
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 0);
    i8259_write(&pic.pair, MASTER, 0, 0xc0 | 7); /* set priority: 7 is the least urgent */
    pulse(&pic, 1);
    pulse(&pic, 0);
    assert_int_equal(i8259_ack(&pic.pair), 0x08);
}

static void test_automatic_eoi_and_its_rotation(void **state)
{
    struct pic pic;

    set_up(&pic, 3);
    pulse(&pic, 6);
    assert_int_equal(i8259_ack(&pic.pair), 0x0e);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 0);
    i8259_write(&pic.pair, MASTER, 0, 0x80); /* rotate in automatic EOI mode */
    pulse(&pic, 0);
    i8259_ack(&pic.pair);
    pulse(&pic, 0);
    pulse(&pic, 7);
    assert_int_equal(i8259_ack(&pic.pair), 0x0f);
    i8259_write(&pic.pair, MASTER, 0, 0x00);
    assert_int_equal(i8259_ack(&pic.pair), 0x08);
    pulse(&pic, 0);
    pulse(&pic, 7);
    assert_int_equal(i8259_ack(&pic.pair), 0x08); /* 7 stayed the least urgent */
}

static void test_special_mask_mode(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    pulse(&pic, 1);
    i8259_ack(&pic.pair);
    pulse(&pic, 6);
    assert_false(pic.intr.level);
    i8259_write(&pic.pair, MASTER, 1, 1 << 1);
    i8259_write(&pic.pair, MASTER, 0, 0x68);
    assert_int_equal(i8259_ack(&pic.pair), 0x0e);
    i8259_write(&pic.pair, MASTER, 0, EOI); /* not 1, which is masked */
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 1);
    i8259_write(&pic.pair, MASTER, 0, 0x48);
    i8259_write(&pic.pair, MASTER, 0, EOI);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 0);
}

static void test_poll_acknowledges(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_write(&pic.pair, MASTER, 0, POLL);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 0), 0);
    pulse(&pic, 5);
    i8259_write(&pic.pair, MASTER, 0, POLL);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 1), 0x85);
    assert_false(pic.intr.level);
    assert_int_equal(read_reg(&pic, MASTER, READ_ISR), 1 << 5);
}

static void test_initialisation_forgets_edges_and_masks_and_blocks_until_done(void **state)
{
    struct pic pic;

    set_up(&pic, 1);
    i8259_write(&pic.pair, MASTER, 1, 0xff);
    i8259_set_irq(&pic.pair, 0, true);
    i8259_write(&pic.pair, MASTER, 0, 0x13);               /* single, so no ICW3 */
    assert_int_equal(i8259_read(&pic.pair, MASTER, 0), 0); /* IRR is selected, and the edge is gone */
    i8259_set_irq(&pic.pair, 1, true);
    assert_false(pic.intr.level);
    i8259_write(&pic.pair, MASTER, 1, 0x27);
    i8259_write(&pic.pair, MASTER, 1, 1);
    assert_true(pic.intr.level);
    assert_int_equal(i8259_ack(&pic.pair), 0x21);
    i8259_write(&pic.pair, MASTER, 1, 0xaa);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 1), 0xaa);
    /* Without ICW4, its functions are off. */
    i8259_write(&pic.pair, MASTER, 0, 0x10);
    i8259_write(&pic.pair, MASTER, 1, 0x08);
    i8259_write(&pic.pair, MASTER, 1, 0x04);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 1), 0);
    i8259_write(&pic.pair, MASTER, 1, 0x55);
    assert_int_equal(i8259_read(&pic.pair, MASTER, 1), 0x55);
}

static void test_state_round_trip(void **state)
{
    struct pic from, to;

    set_up(&from, 3);
    i8259_elcr_write(&from.pair, 1, 0x0e);
    pulse(&from, 3);
    i8259_set_irq(&from.pair, 10, true);
    i8259_write(&from.pair, SLAVE, 0, 0x11);
    set_up(&to, 1);
    assert_state_round_trip(&i8259_pair_state, &from.pair, &to.pair);
    assert_true(to.intr.level);
    i8259_write(&to.pair, SLAVE, 1, 0x50);
    i8259_write(&to.pair, SLAVE, 1, 2);
    i8259_write(&to.pair, SLAVE, 1, 1);
    assert_int_equal(i8259_ack(&to.pair), 0x52);
    assert_int_equal(i8259_ack(&to.pair), 0x0b);
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    struct i8259_pair *pair = opaque;

    if (offset < 4)
        return i8259_read(pair, offset >> 1, offset & 1);
    if (offset < 6)
        return i8259_elcr_read(pair, offset & 1);
    return i8259_ack(pair);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct i8259_pair *pair = opaque;

    if (offset < 4)
        i8259_write(pair, offset >> 1, offset & 1, (u8)value);
    else if (offset < 6)
        i8259_elcr_write(pair, offset & 1, (u8)value);
    else
        i8259_set_irq(pair, value & 0x1f, value & 0x20);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    struct bench bench;
    struct pic pic;
    u64 seed = 1;

    bench_init(&bench);
    set_up(&pic, 1);
    for (int i = 0; i < 50; i++) {
        hammer(&bench, &ops, &pic.pair, 7, &seed, 1000);
        assert_int_equal(pic.intr.level, pic.pair.master.output);
        load_damaged_state(&i8259_pair_state, &pic.pair, &seed, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edge_is_latched_and_acknowledged_once),
        cmocka_unit_test(test_priorities_nest),
        cmocka_unit_test(test_slave_comes_through_input_2),
        cmocka_unit_test(test_slave_request_waits_for_master_in_fully_nested_mode_only),
        cmocka_unit_test(test_mask_holds_back_and_lets_go),
        cmocka_unit_test(test_level_triggered_input_follows_its_line),
        cmocka_unit_test(test_spurious_interrupts_are_7_and_15_and_not_in_service),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_automatic_eoi_and_its_rotation),
        cmocka_unit_test(test_special_mask_mode),
        cmocka_unit_test(test_poll_acknowledges),
        cmocka_unit_test(test_initialisation_forgets_edges_and_masks_and_blocks_until_done),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
