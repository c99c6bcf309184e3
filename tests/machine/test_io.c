/* Ports: claims over claims, and accesses of every width across every edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/io.h"

/* Registers that read as their own offset plus `base` and keep a journal of what was asked of them. */
struct chip {
    u8 base;
    unsigned accesses;
    u64 last_offset, last_value;
    unsigned last_size;
    char journal[128];
};

static u64 chip_read(void *opaque, u64 offset, unsigned size)
{
    struct chip *chip = opaque;
    u64 value = 0;

    chip->accesses++;
    chip->last_offset = offset;
    chip->last_size = size;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)(u8)(chip->base + offset + i) << 8 * i;
    return value | (size < 8 ? 0xee00000000000000 : 0); /* bits beyond the size must be cut off */
}

static void chip_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct chip *chip = opaque;

    chip->accesses++;
    chip->last_offset = offset;
    chip->last_size = size;
    chip->last_value = value;
    chip->journal[strlen(chip->journal)] = (char)('0' + offset);
}

static const struct io_ops any_ops = {.read = chip_read, .write = chip_write};
static const struct io_ops byte_ops = {.read = chip_read, .write = chip_write, .min_size = 1, .max_size = 1};
static const struct io_ops dword_ops = {.read = chip_read, .write = chip_write, .min_size = 4, .max_size = 4};

static struct port_map *new_map(void)
{
    struct port_map *map = malloc(sizeof(*map));

    assert_non_null(map);
    port_map_init(map);
    return map;
}

static void free_map(struct port_map *map)
{
    port_map_free(map);
    free(map);
}

static void add(struct port_map *map, u32 start, u32 size, const struct io_ops *ops, struct chip *chip)
{
    struct error err;

    assert_int_equal(port_map_add(map, start, size, ops, chip, "chip", &err), 0);
}

static void test_nobody_answers(void **state)
{
    struct port_map *map = new_map();

    assert_int_equal(port_read(map, 0x80, 1), 0xff);
    assert_int_equal(port_read(map, 0x80, 2), 0xffff);
    assert_true(port_read(map, 0x80, 4) == 0xffffffff);
    port_write(map, 0x80, 4, 1);
    assert_true(port_read(map, 0xffff, 4) == 0xffffffff);
    port_write(map, 0xffff, 4, 1);
    free_map(map);
}

static void test_later_claim_wins_and_gives_way(void **state)
{
    struct port_map *map = new_map();
    struct chip isa = {.base = 0x10}, pci = {.base = 0x80};

    add(map, 0x100, 8, &any_ops, &isa);
    add(map, 0x104, 8, &any_ops, &pci);
    assert_int_equal(port_read(map, 0x103, 1), 0x13);
    assert_int_equal(port_read(map, 0x104, 1), 0x80);
    assert_int_equal(port_read(map, 0x10b, 1), 0x87);
    port_map_remove(map, 0x104, &any_ops, &isa); /* not its claim */
    assert_int_equal(port_read(map, 0x104, 1), 0x80);
    port_map_remove(map, 0x104, &any_ops, &pci);
    assert_int_equal(port_read(map, 0x104, 1), 0x14);
    assert_int_equal(port_read(map, 0x10b, 1), 0xff);
    port_map_remove(map, 0x100, &any_ops, &isa);
    assert_int_equal(port_read(map, 0x100, 1), 0xff);
    free_map(map);
}

static void test_wide_access_of_one_owner_is_one_access(void **state)
{
    struct port_map *map = new_map();
    struct chip chip = {.base = 0x40};

    add(map, 0xcf8, 8, &any_ops, &chip);
    assert_true(port_read(map, 0xcfc, 4) == 0x47464544);
    assert_int_equal(chip.accesses, 1);
    port_write(map, 0xcfa, 2, 0xabcd1234);
    assert_int_equal(chip.accesses, 2);
    assert_int_equal(chip.last_value, 0x1234);
    assert_int_equal(chip.last_size, 2);
    assert_int_equal(chip.last_offset, 2);
    free_map(map);
}

static void test_split_low_part_first(void **state)
{
    struct port_map *map = new_map();
    struct chip chip = {.base = 0};

    add(map, 0x60, 8, &byte_ops, &chip);
    assert_true(port_read(map, 0x61, 4) == 0x04030201);
    assert_int_equal(chip.accesses, 4);
    port_write(map, 0x60, 4, 0x44332211);
    assert_string_equal(chip.journal, "0123");
    assert_int_equal(chip.last_value, 0x44);
    free_map(map);
}

static void test_narrow_access_is_rejected(void **state)
{
    struct port_map *map = new_map();
    struct chip chip = {.base = 0};

    add(map, 0x60, 8, &dword_ops, &chip);
    assert_int_equal(port_read(map, 0x60, 2), 0xffff);
    port_write(map, 0x60, 1, 5);
    assert_int_equal(chip.accesses, 0);
    assert_true(port_read(map, 0x64, 4) == 0x07060504);
    free_map(map);
}

static void test_access_over_the_edges(void **state)
{
    struct port_map *map = new_map();
    struct chip low = {.base = 0x10}, high = {.base = 0x20}, end = {.base = 0x30};

    add(map, 0x200, 2, &any_ops, &low);
    add(map, 0x202, 1, &any_ops, &high);
    add(map, 0xffff, 1, &any_ops, &end);
    assert_true(port_read(map, 0x200, 4) == 0xff201110);
    port_write(map, 0x201, 4, 0x44332211);
    assert_int_equal(low.last_value, 0x11);
    assert_int_equal(high.last_value, 0x22);
    assert_true(port_read(map, 0xffff, 2) == 0xff30);
    port_write(map, 0xffff, 4, 0x11223344);
    assert_int_equal(end.last_value, 0x44);
    free_map(map);
}

static void test_claims_outside_the_space_are_refused(void **state)
{
    struct port_map *map = new_map();
    struct chip chip = {0};
    struct error err = {.text = ""};

    assert_int_equal(port_map_add(map, 0xfffe, 3, &any_ops, &chip, "wide", &err), -1);
    assert_non_null(strstr(err.text, "wide"));
    assert_int_equal(port_map_add(map, 0x10000, 1, &any_ops, &chip, "far", &err), -1);
    assert_int_equal(port_map_add(map, 0x10, 0, &any_ops, &chip, "none", &err), -1);
    assert_int_equal(port_map_add(map, 0xffffffff, 0xffffffff, &any_ops, &chip, "wrap", &err), -1);
    assert_int_equal(map->count, 0);
    free_map(map);
}

static void test_many_claims(void **state)
{
    struct port_map *map = new_map();
    struct chip chip[100];

    for (unsigned i = 0; i < ARRAY_SIZE(chip); i++) {
        chip[i] = (struct chip){.base = (u8)i};
        add(map, 0x1000 + 4 * i, 8, &any_ops, &chip[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(chip); i++)
        assert_int_equal(port_read(map, 0x1000 + 4 * i, 1), i);
    for (unsigned i = 1; i < ARRAY_SIZE(chip); i++)
        port_map_remove(map, 0x1000 + 4 * i, &any_ops, &chip[i]);
    assert_int_equal(port_read(map, 0x1004, 1), 4);
    assert_int_equal(port_read(map, 0x1008, 1), 0xff);
    free_map(map);
}

static void test_eight_byte_registers(void **state)
{
    struct chip chip = {.base = 0};

    assert_true(io_ops_read(&any_ops, &chip, 8, 8) == 0x0f0e0d0c0b0a0908);
    assert_int_equal(chip.accesses, 2);
    io_ops_write(&any_ops, &chip, 0, 8, 0x1122334455667788);
    assert_string_equal(chip.journal, "04");
    assert_int_equal(chip.last_value, 0x11223344);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_answers),
        cmocka_unit_test(test_later_claim_wins_and_gives_way),
        cmocka_unit_test(test_wide_access_of_one_owner_is_one_access),
        cmocka_unit_test(test_split_low_part_first),
        cmocka_unit_test(test_narrow_access_is_rejected),
        cmocka_unit_test(test_access_over_the_edges),
        cmocka_unit_test(test_claims_outside_the_space_are_refused),
        cmocka_unit_test(test_many_claims),
        cmocka_unit_test(test_eight_byte_registers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
