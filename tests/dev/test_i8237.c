#include "chip_test.h"
#include "dev/i8237.h"

struct dma {
    struct bench bench;
    struct i8237_pair pair;
    u8 ram[1 << 17]; /* physical memory, repeated */
    u32 last_phys;
};

static void mem_read(void *opaque, u32 phys, void *to, u32 len)
{
    struct dma *dma = opaque;

    dma->last_phys = phys;
    memcpy(to, dma->ram + phys % sizeof(dma->ram), len);
}

static void mem_write(void *opaque, u32 phys, const void *from, u32 len)
{
    struct dma *dma = opaque;

    dma->last_phys = phys;
    memcpy(dma->ram + phys % sizeof(dma->ram), from, len);
}

static void set_up(struct dma *dma)
{
    struct i8237_memory memory = {mem_read, mem_write, dma};

    memset(dma, 0, sizeof(*dma));
    bench_init(&dma->bench);
    i8237_init(&dma->pair, &memory);
}

/* As a BIOS programs a channel: the cascade is let go, the channel set up and let go. */
static void program(struct dma *dma, unsigned channel, u8 mode, u32 phys, u16 count)
{
    static const u8 pages[8] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};
    unsigned chip = channel / 4, n = channel & 3;
    u16 address = (u16)(chip ? phys >> 1 : phys);

    i8237_write(&dma->pair, 1, 11, 0xc0);
    i8237_write(&dma->pair, 1, 10, 0);
    i8237_write(&dma->pair, chip, 12, 0);
    i8237_write(&dma->pair, chip, 11, (u8)(mode | n));
    i8237_write(&dma->pair, chip, n * 2, (u8)address);
    i8237_write(&dma->pair, chip, n * 2, (u8)(address >> 8));
    i8237_write(&dma->pair, chip, n * 2 + 1, (u8)count);
    i8237_write(&dma->pair, chip, n * 2 + 1, (u8)(count >> 8));
    i8237_page_write(&dma->pair, pages[channel], (u8)(phys >> 16));
    i8237_write(&dma->pair, chip, 10, (u8)n);
}

static void test_16_bit_registers_through_the_flip_flop(void **state)
{
    struct dma dma;

    set_up(&dma);
    program(&dma, 2, 0x44, 0x123456, 0x1ff);
    assert_int_equal(i8237_read(&dma.pair, 0, 4), 0x56);
    assert_int_equal(i8237_read(&dma.pair, 0, 4), 0x34);
    assert_int_equal(i8237_read(&dma.pair, 0, 5), 0xff);
    i8237_write(&dma.pair, 0, 12, 0);
    assert_int_equal(i8237_read(&dma.pair, 0, 5), 0xff);
    assert_int_equal(i8237_read(&dma.pair, 0, 5), 0x01);
    assert_int_equal(i8237_page_read(&dma.pair, 1), 0x12);
    assert_int_equal(i8237_read(&dma.pair, 0, 15), 0xfb);
    i8237_write(&dma.pair, 0, 15, 0x05);
    assert_int_equal(i8237_read(&dma.pair, 0, 15), 0xf5);
    i8237_write(&dma.pair, 0, 14, 0);
    assert_int_equal(i8237_read(&dma.pair, 0, 15), 0xf0);
    i8237_write(&dma.pair, 0, 13, 0);
    assert_int_equal(i8237_read(&dma.pair, 0, 15), 0xff);
}

static void test_transfer_into_memory_ends_at_its_count(void **state)
{
    struct dma dma;
    u8 sector[512];
    bool tc;

    set_up(&dma);
    memset(sector, 0xa5, sizeof(sector));
    program(&dma, 2, 0x44, 0x11000, 511);
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, sector, 200, &tc), 200);
    assert_false(tc);
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, sector, 512, &tc), 312);
    assert_true(tc);
    assert_int_equal(dma.ram[0x11000], 0xa5);
    assert_int_equal(dma.ram[0x111ff], 0xa5);
    assert_int_equal(dma.ram[0x11200], 0);
    assert_int_equal(i8237_read(&dma.pair, 0, 8) & 0x0f, 4);
    assert_int_equal(i8237_read(&dma.pair, 0, 8) & 0x0f, 0);                 /* reading clears it */
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, sector, 1, &tc), 0); /* masked now */
}

static void test_transfers_that_the_guest_did_not_allow_do_nothing(void **state)
{
    struct dma dma;
    u8 byte = 1;
    bool tc;

    set_up(&dma);
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, &byte, 1, &tc), 0);
    program(&dma, 2, 0x48, 0x1000, 10);
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, &byte, 1, &tc), 0); /* the other direction */
    assert_int_equal(i8237_transfer(&dma.pair, 2, false, &byte, 1, &tc), 1);
    assert_int_equal(byte, 0);
    i8237_write(&dma.pair, 0, 8, 4);
    assert_int_equal(i8237_transfer(&dma.pair, 2, false, &byte, 1, &tc), 0); /* controller disabled */
    i8237_write(&dma.pair, 0, 8, 0);
    i8237_write(&dma.pair, 1, 10, 4);
    assert_int_equal(i8237_transfer(&dma.pair, 2, false, &byte, 1, &tc), 0); /* the cascade is masked */
    program(&dma, 2, 0xc4, 0x1000, 10);
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, &byte, 1, &tc), 0); /* cascade mode */
    program(&dma, 2, 0x40, 0x1000, 10);
    byte = 7;
    assert_int_equal(i8237_transfer(&dma.pair, 2, true, &byte, 1, &tc),
                     1); /* verify counts, and writes nothing */
    assert_int_equal(dma.ram[0x1000], 0);
}

static void test_autoinitialisation_downwards_and_page_wrap(void **state)
{
    struct dma dma;
    u8 bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bool tc;

    set_up(&dma);
    program(&dma, 1, 0x54, 0x2000, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(i8237_transfer(&dma.pair, 1, true, bytes, 8, &tc), 4);
        assert_true(tc);
    }
    assert_int_equal(dma.ram[0x2003], 4);
    assert_int_equal(dma.ram[0x2004], 0);
    program(&dma, 3, 0x64, 0x3003, 3);
    assert_int_equal(i8237_transfer(&dma.pair, 3, true, bytes, 4, &tc), 4);
    assert_int_equal(dma.ram[0x3000], 4);
    assert_int_equal(dma.ram[0x3003], 1);
    program(&dma, 0, 0x44, 0x1ffff, 1); /* stays in its 64 KiB */
    assert_int_equal(i8237_transfer(&dma.pair, 0, true, bytes, 2, &tc), 2);
    assert_int_equal(dma.ram[0x1ffff], 1);
    assert_int_equal(dma.ram[0x10000], 2);
}

static void test_word_channels(void **state)
{
    struct dma dma;
    u8 bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bool tc;

    set_up(&dma);
    program(&dma, 5, 0x44, 0x35fffe, 1);
    assert_int_equal(i8237_transfer(&dma.pair, 5, true, bytes, 3, &tc), 2); /* whole words */
    assert_int_equal(dma.last_phys, 0x35fffe);
    assert_int_equal(i8237_transfer(&dma.pair, 5, true, bytes + 2, 2, &tc), 2);
    assert_true(tc);
    assert_int_equal(dma.last_phys, 0x340000); /* wraps within 128 KiB */
}

static void test_state_round_trip(void **state)
{
    struct dma from, to;
    u8 bytes[4] = {1, 2, 3, 4};
    bool tc;

    set_up(&from);
    program(&from, 2, 0x54, 0x4000, 3);
    i8237_transfer(&from.pair, 2, true, bytes, 2, &tc);
    i8237_read(&from.pair, 0, 4);
    set_up(&to);
    assert_state_round_trip(&i8237_pair_state, &from.pair, &to.pair);
    assert_int_equal(i8237_read(&to.pair, 0, 4), 0x40);
    assert_int_equal(i8237_transfer(&to.pair, 2, true, bytes, 4, &tc), 2);
    assert_int_equal(to.ram[0x4002], 1);
}

static u64 any_read(void *opaque, u64 offset, unsigned size)
{
    struct dma *dma = opaque;
    u8 buffer[64] = {0};
    bool tc;

    if (offset < 32)
        return i8237_read(&dma->pair, offset >> 4, offset & 15);
    if (offset < 48)
        return i8237_page_read(&dma->pair, offset & 15);
    return i8237_transfer(&dma->pair, offset & 7, offset & 8, buffer, sizeof(buffer), &tc);
}

static void any_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct dma *dma = opaque;

    if (offset < 32)
        i8237_write(&dma->pair, offset >> 4, offset & 15, (u8)value);
    else
        i8237_page_write(&dma->pair, offset & 15, (u8)value);
}

static void test_hammered(void **state)
{
    static const struct io_ops ops = {any_read, any_write, 1, 1};
    static struct dma dma;
    u64 seed = 7;

    for (int i = 0; i < 20; i++) {
        set_up(&dma);
        hammer(&dma.bench, &ops, &dma, 64, &seed, 2000);
        load_damaged_state(&i8237_pair_state, &dma.pair, &seed, 20);
        hammer(&dma.bench, &ops, &dma, 64, &seed, 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_16_bit_registers_through_the_flip_flop),
        cmocka_unit_test(test_transfer_into_memory_ends_at_its_count),
        cmocka_unit_test(test_transfers_that_the_guest_did_not_allow_do_nothing),
        cmocka_unit_test(test_autoinitialisation_downwards_and_page_wrap),
        cmocka_unit_test(test_word_channels),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_hammered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
