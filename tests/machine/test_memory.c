/* Guest-physical memory: the flattened map, marks that tell, and copies that never enter a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/memory.h"

struct chip {
    unsigned reads, writes;
    u64 last_offset, last_value;
};

static u64 chip_read(void *opaque, u64 offset, unsigned size)
{
    struct chip *chip = opaque;

    chip->reads++;
    chip->last_offset = offset;
    return 0x5a5a5a5a;
}

static void chip_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct chip *chip = opaque;

    chip->writes++;
    chip->last_offset = offset;
    chip->last_value = value;
}

static const struct io_ops chip_ops = {.read = chip_read, .write = chip_write};

/* 64 KiB of RAM at 0, a chip of 4 KiB at 8000h, 4 KiB of ROM at 20000h. */
struct bench {
    struct memory memory;
    struct mem_block *ram_block, *rom_block;
    struct mem_region ram, io, rom;
    struct chip chip;
    unsigned remaps, protects;
    char told[128]; /* "offset+len " of each written call */
};

static void told_written(void *opaque, struct mem_block *block, u64 offset, u64 len, unsigned marks)
{
    struct bench *bench = opaque;
    char text[32];

    assert_true(marks & (PAGE_CODE | PAGE_TABLE));
    snprintf(text, sizeof(text), "%llx+%llx ", (unsigned long long)offset, (unsigned long long)len);
    strcat(bench->told, text);
}

static void told_protect(void *opaque, struct mem_block *block, u64 offset)
{
    assert_int_equal(offset & ~PAGE_MASK, 0);
    ((struct bench *)opaque)->protects++;
}

static void told_remapped(void *opaque)
{
    ((struct bench *)opaque)->remaps++;
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct mem_listener listener = {
        .written = told_written, .protect = told_protect, .remapped = told_remapped, .opaque = bench};
    struct error err;

    assert_non_null(bench);
    assert_int_equal(memory_init(&bench->memory, &err), 0);
    bench->ram_block = memory_add_block(&bench->memory, "ram", KIB(64), false, &err);
    bench->rom_block = memory_add_block(&bench->memory, "rom", KIB(4), true, &err);
    assert_non_null(bench->ram_block);
    assert_non_null(bench->rom_block);
    bench->ram = (struct mem_region){.size = KIB(64),
                                     .enabled = true,
                                     .read = true,
                                     .write = true,
                                     .block = bench->ram_block,
                                     .name = "ram"};
    bench->io = (struct mem_region){.start = 0x8000,
                                    .size = KIB(4),
                                    .priority = 1,
                                    .enabled = true,
                                    .read = true,
                                    .write = true,
                                    .ops = &chip_ops,
                                    .opaque = &bench->chip,
                                    .name = "chip"};
    bench->rom = (struct mem_region){.start = 0x20000,
                                     .size = KIB(4),
                                     .enabled = true,
                                     .read = true,
                                     .write = true,
                                     .block = bench->rom_block,
                                     .name = "rom"};
    assert_int_equal(memory_add_region(&bench->memory, &bench->ram, &err), 0);
    assert_int_equal(memory_add_region(&bench->memory, &bench->io, &err), 0);
    assert_int_equal(memory_add_region(&bench->memory, &bench->rom, &err), 0);
    assert_int_equal(memory_add_listener(&bench->memory, &listener, &err), 0);
    memory_commit(&bench->memory);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    memory_free(&bench->memory);
    free(bench);
    return 0;
}

static void test_flat_ranges(void **state)
{
    struct bench *bench = *state;
    const struct mem_range *range;

    assert_int_equal(bench->memory.nranges, 4);
    range = memory_find(&bench->memory, 0x7fff);
    assert_ptr_equal(range->read_block, bench->ram_block);
    assert_int_equal(range->end, 0x8000);
    range = memory_find(&bench->memory, 0x8000);
    assert_null(range->read_block);
    assert_ptr_equal(range->read_ops, &chip_ops);
    range = memory_find(&bench->memory, 0x9000);
    assert_int_equal(range->read_offset, 0x9000);
    assert_int_equal(range->end, 0x10000);
    assert_null(memory_find(&bench->memory, 0x10000));
    range = memory_find(&bench->memory, 0x20fff);
    assert_ptr_equal(range->read_block, bench->rom_block);
    assert_null(range->write_block); /* never a read-only block, whatever the region says */
    assert_null(memory_find(&bench->memory, UINT64_MAX));
    assert_int_equal(bench->remaps, 1);
}

static void test_single_accesses(void **state)
{
    struct bench *bench = *state;

    memory_write(&bench->memory, 0x101, 8, 0x1122334455667788);
    assert_true(memory_read(&bench->memory, 0x101, 8) == 0x1122334455667788);
    assert_int_equal(memory_read(&bench->memory, 0x103, 2), 0x5566);
    assert_int_equal(bench->ram_block->host[0x101], 0x88);
    assert_int_equal(memory_read(&bench->memory, 0x8010, 2), 0x5a5a);
    assert_int_equal(bench->chip.last_offset, 0x10);
    memory_write(&bench->memory, 0x8ffc, 4, 0xcafe);
    assert_int_equal(bench->chip.last_offset, 0xffc);
    assert_int_equal(bench->chip.last_value, 0xcafe);
    assert_true(memory_read(&bench->memory, 0x10000, 8) == UINT64_MAX);
    memory_write(&bench->memory, 0x10000, 8, 1);
    memory_write(&bench->memory, 0x20000, 4, 1);
    assert_int_equal(memory_read(&bench->memory, 0x20000, 4), 0);
    assert_true(memory_read(&bench->memory, UINT64_MAX, 1) == 0xff);
}

/* PAM: reads from the ROM, writes to the RAM beneath; then the other way round. */
static void test_reads_and_writes_have_owners_of_their_own(void **state)
{
    struct bench *bench = *state;
    const struct mem_range *range;

    bench->rom.start = 0x4000;
    bench->rom.priority = 5;
    bench->rom.write = false;
    bench->rom_block->host[0] = 0xc3;
    memory_commit(&bench->memory);
    memory_write(&bench->memory, 0x4000, 1, 0x90);
    assert_int_equal(memory_read(&bench->memory, 0x4000, 1), 0xc3);
    assert_int_equal(bench->ram_block->host[0x4000], 0x90);
    range = memory_find(&bench->memory, 0x4000);
    assert_ptr_equal(range->read_block, bench->rom_block);
    assert_ptr_equal(range->write_block, bench->ram_block);
    assert_int_equal(range->write_offset, 0x4000);

    bench->rom.read = false;
    bench->rom.write = true;
    memory_commit(&bench->memory);
    memory_write(&bench->memory, 0x4000, 1, 0x91); /* swallowed by the ROM */
    assert_int_equal(memory_read(&bench->memory, 0x4000, 1), 0x90);

    bench->rom.enabled = false;
    memory_commit(&bench->memory);
    memory_write(&bench->memory, 0x4000, 1, 0x92);
    assert_int_equal(memory_read(&bench->memory, 0x4000, 1), 0x92);
}

static void test_priorities(void **state)
{
    struct bench *bench = *state;
    struct mem_region late = bench->rom;
    struct error err;

    /* Equal priority: the later added covers. */
    late.start = 0x8800;
    late.priority = 1;
    assert_int_equal(memory_add_region(&bench->memory, &late, &err), 0);
    memory_commit(&bench->memory);
    assert_ptr_equal(memory_find(&bench->memory, 0x8800)->read_block, bench->rom_block);
    assert_null(memory_find(&bench->memory, 0x87ff)->read_block);
    assert_int_equal(memory_find(&bench->memory, 0x8fff)->read_offset, 0x0);
    late.priority = 0;
    memory_commit(&bench->memory);
    assert_null(memory_find(&bench->memory, 0x8800)->read_block);
    assert_ptr_equal(memory_find(&bench->memory, 0x9000)->read_block, bench->rom_block);
    memory_remove_region(&bench->memory, &late);
    memory_commit(&bench->memory);
    assert_ptr_equal(memory_find(&bench->memory, 0x9000)->read_block, bench->ram_block);
}

/* What a guest may write into a 64-bit BAR. */
static void test_region_at_the_end_of_all_addresses(void **state)
{
    static const u64 starts[] = {UINT64_MAX - 0xfff, (1ull << 52) - 0x800, 1ull << 52, 1ull << 63};
    struct bench *bench = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(starts); i++) {
        bench->io.start = starts[i];
        memory_commit(&bench->memory);
        assert_ptr_equal(memory_find(&bench->memory, 0x8000)->read_block, bench->ram_block);
        memory_read(&bench->memory, starts[i], 4);
        assert_true(memory_read(&bench->memory, UINT64_MAX - 3, 4) == 0xffffffff);
    }
}

/* As an engine that translates [offset, offset + len). */
static void claim(struct bench *bench, u64 offset, u64 len)
{
    memory_claim_code(&bench->memory, bench->ram_block, offset, 0);
    mem_block_add_code(bench->ram_block, offset, code_pieces(offset, len));
}

static void test_only_pages_that_are_stored_to_directly_are_closed(void **state)
{
    struct bench *bench = *state;

    claim(bench, 0x1000, 1);
    assert_int_equal(bench->protects, 0);
    assert_false(mem_block_open(bench->ram_block, 0x1000));
    assert_true(mem_block_open(bench->ram_block, 0x2000));
    claim(bench, 0x2000, 1);
    assert_int_equal(bench->protects, 1);
    assert_false(mem_block_open(bench->ram_block, 0x2000));
    assert_true(mem_block_open(bench->ram_block, 0x3000));
    memory_protect(&bench->memory, bench->ram_block, 0x3000, PAGE_TABLE);
    assert_int_equal(bench->protects, 2);
    memory_release_code(&bench->memory, bench->ram_block, 0x1000, 0);
    assert_true(mem_block_open(bench->ram_block, 0x1000));
}

static void test_only_owners_of_code_hear_of_stores_to_it(void **state)
{
    struct bench *bench = *state;

    memory_claim_code(&bench->memory, bench->ram_block, 0x1000, 1);
    mem_block_add_code(bench->ram_block, 0x1000, code_pieces(0x1100, 0x41));
    memory_write(&bench->memory, 0x1100, 1, 5);
    assert_string_equal(bench->told, "");
    claim(bench, 0x1fff, 1);
    memory_write(&bench->memory, 0x10ff, 1, 5);
    memory_write(&bench->memory, 0x1180, 1, 5);
    assert_string_equal(bench->told, "");
    memory_write(&bench->memory, 0x10ff, 2, 5);
    memory_write(&bench->memory, 0x117f, 1, 5);
    memory_write(&bench->memory, 0x1fc0, 1, 5);
    assert_string_equal(bench->told, "10ff+2 117f+1 1fc0+1 ");
    /* What is left of the other owner's keeps the mark, and is told to nobody else. */
    bench->told[0] = 0;
    memory_release_code(&bench->memory, bench->ram_block, 0x1000, 0);
    memory_write(&bench->memory, 0x1100, 1, 5);
    assert_string_equal(bench->told, "");
    assert_true(mem_block_marks(bench->ram_block, 0x1000) & PAGE_CODE);
    memory_release_code(&bench->memory, bench->ram_block, 0x1000, 1);
    assert_false(mem_block_marks(bench->ram_block, 0x1000) & PAGE_CODE);
    assert_int_equal(bench->ram_block->code_pieces[1], 0);
}

static void test_writes_set_dirty_marks_and_kill_translations(void **state)
{
    struct bench *bench = *state;
    u8 log[16];
    u8 bytes[0x1804] = {1};

    claim(bench, 0x1000, 0x1000);
    memory_protect(&bench->memory, bench->ram_block, 0x3000, PAGE_TABLE);
    memory_write(&bench->memory, 0x1ffe, 2, 5);
    assert_string_equal(bench->told, "1ffe+2 ");
    memory_write(&bench->memory, 0x2000, 2, 5);
    assert_string_equal(bench->told, "1ffe+2 ");
    bench->told[0] = 0;
    /* A long write tells of each marked page its own part. */
    assert_true(dma_write(&bench->memory, 0x1ffc, bytes, sizeof(bytes)));
    assert_string_equal(bench->told, "1ffc+4 3000+800 ");
    memory_release_code(&bench->memory, bench->ram_block, 0x1000, 0);
    bench->told[0] = 0;
    memory_write(&bench->memory, 0x1000, 1, 5);
    assert_string_equal(bench->told, "");

    memory_take_dirty(&bench->memory, bench->ram_block, PAGE_DIRTY_SNAPSHOT, log);
    for (unsigned page = 0; page < 16; page++)
        assert_int_equal(log[page] != 0, page >= 1 && page <= 3);
    assert_int_equal(bench->remaps, 2);
    memory_take_dirty(&bench->memory, bench->ram_block, PAGE_DIRTY_SNAPSHOT, log);
    for (unsigned page = 0; page < 16; page++)
        assert_int_equal(log[page], 0);
    /* Another client's log is its own. */
    memory_take_dirty(&bench->memory, bench->ram_block, PAGE_DIRTY_MIGRATION, log);
    assert_true(log[1] && log[2] && log[3] && !log[0]);
    assert_true(mem_block_marks(bench->ram_block, 0x3000) & PAGE_TABLE);
}

static void test_dma_never_enters_a_device(void **state)
{
    struct bench *bench = *state;
    u8 bytes[0x2000];

    memset(bytes, 0x77, sizeof(bytes));
    assert_false(dma_write(&bench->memory, 0x7800, bytes, 0x2000));
    assert_int_equal(bench->chip.reads + bench->chip.writes, 0);
    assert_int_equal(bench->ram_block->host[0x7fff], 0x77);
    assert_int_equal(bench->ram_block->host[0x8000], 0);
    assert_int_equal(bench->ram_block->host[0x9000], 0x77);
    memset(bytes, 0, sizeof(bytes));
    assert_false(dma_read(&bench->memory, 0x7800, bytes, 0x2000));
    assert_int_equal(bench->chip.reads, 0);
    assert_int_equal(bytes[0x7ff], 0x77);
    assert_int_equal(bytes[0x800], 0xff);
    assert_int_equal(bytes[0x17ff], 0xff);
    assert_int_equal(bytes[0x1800], 0x77);
}

static void test_dma_at_odd_places(void **state)
{
    struct bench *bench = *state;
    u8 bytes[64];

    assert_true(dma_read(&bench->memory, 0x20000, bytes, 64)); /* ROM can be read */
    assert_false(dma_write(&bench->memory, 0x20000, bytes, 64));
    assert_false(dma_read(&bench->memory, 0xffe0, bytes, 64));
    assert_false(dma_read(&bench->memory, UINT64_MAX - 10, bytes, 64));
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(bytes[i], 0xff);
    assert_false(dma_write(&bench->memory, UINT64_MAX - 10, bytes, 64));
    assert_false(dma_write(&bench->memory, 0xffff, bytes, 2));
    assert_int_equal(bench->ram_block->host[0xffff], 0xff);
    assert_true(dma_read(&bench->memory, 0x500, bytes, 0));
    dma_complete(&bench->memory, 0, UINT64_MAX); /* ends, whatever it is told */
}

static void test_dma_map(void **state)
{
    struct bench *bench = *state;
    struct iovec iov[4];
    u64 mapped;

    assert_int_equal(dma_map(&bench->memory, 0x7000, 0x3000, true, iov, 4, &mapped), 1);
    assert_int_equal(mapped, 0x1000);
    assert_ptr_equal(iov[0].iov_base, bench->ram_block->host + 0x7000);
    assert_int_equal(dma_map(&bench->memory, 0x8000, 0x100, true, iov, 4, &mapped), 0);
    assert_int_equal(mapped, 0);
    assert_int_equal(dma_map(&bench->memory, 0x20000, 0x100, true, iov, 4, &mapped), 0);
    assert_int_equal(dma_map(&bench->memory, 0x20000, 0x100, false, iov, 4, &mapped), 1);
    assert_int_equal(dma_map(&bench->memory, 0, 0x100, false, iov, 0, &mapped), 0);
    assert_int_equal(dma_map(&bench->memory, 0xff00, UINT64_MAX, true, iov, 4, &mapped), 1);
    assert_int_equal(mapped, 0x100);

    /* The ROM right after the RAM: two vectors for one range of addresses. */
    bench->rom.start = 0x10000;
    memory_commit(&bench->memory);
    assert_int_equal(dma_map(&bench->memory, 0xf000, 0x1800, false, iov, 4, &mapped), 2);
    assert_int_equal(mapped, 0x1800);
    assert_int_equal(iov[1].iov_len, 0x800);
    assert_int_equal(dma_map(&bench->memory, 0xf000, 0x1800, false, iov, 1, &mapped), 1);
    assert_int_equal(mapped, 0x1000);

    /* Completion dirties and tells. */
    claim(bench, 0xf000, 0x1000);
    dma_complete(&bench->memory, 0xf800, 0x1000);
    assert_string_equal(bench->told, "f800+800 ");
}

static void test_poke_reaches_rom(void **state)
{
    struct bench *bench = *state;

    assert_true(memory_poke(&bench->memory, 0x20ffe, "ab", 2));
    assert_memory_equal(bench->rom_block->host + 0xffe, "ab", 2);
    assert_false(memory_poke(&bench->memory, 0x20ffe, "abc", 3));
    assert_false(memory_poke(&bench->memory, 0x8000, "a", 1));
    assert_int_equal(bench->chip.writes, 0);
}

static void test_a20(void **state)
{
    struct bench *bench = *state;

    memory_set_a20(&bench->memory, true);
    assert_int_equal(bench->remaps, 1);
    memory_set_a20(&bench->memory, false);
    assert_int_equal(bench->remaps, 2);
    assert_true(bench->memory.a20_mask == ~0x100000ull);
}

static void test_state_refuses_an_odd_a20_mask(void **state)
{
    struct bench *bench = *state;
    struct state_buf buf = {0};
    struct state_reader reader;
    struct error err = {.text = ""};

    bench->memory.a20_mask = 0xfff;
    state_save(&memory_state_table, &bench->memory, &buf);
    reader = (struct state_reader){.data = buf.data, .len = buf.len, .what = "s"};
    assert_int_equal(state_load(&memory_state_table, &bench->memory, &reader, &err), -1);
    assert_non_null(strstr(err.text, "A20"));
    state_buf_free(&buf);
}

static void test_block_that_no_host_can_back(void **state)
{
    struct bench *bench = *state;
    struct error err = {.text = ""};

    assert_null(memory_add_block(&bench->memory, "ram", 1ull << 50, false, &err));
    assert_non_null(strstr(err.text, "ram"));
    assert_null(memory_add_block(&bench->memory, "ram", UINT64_MAX, false, &err));
    assert_null(memory_add_block(&bench->memory, "ram", 0, false, &err));
    assert_int_equal(bench->memory.nblocks, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flat_ranges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_accesses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reads_and_writes_have_owners_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_priorities, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_region_at_the_end_of_all_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_pages_that_are_stored_to_directly_are_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_owners_of_code_hear_of_stores_to_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writes_set_dirty_marks_and_kill_translations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dma_never_enters_a_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dma_at_odd_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dma_map, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_poke_reaches_rom, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a20, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_state_refuses_an_odd_a20_mask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_block_that_no_host_can_back, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
