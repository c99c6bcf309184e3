#include "chip_test.h"
#include "dev/fw_cfg.h"

#include <stdio.h>

#include "../machine/fake_engine.h"

/* On the ports of a VM of 1 MiB, as a guest sees it. */
struct guest {
    struct fake_vm fake;
    struct fw_cfg *fw_cfg;
};

static void set_up(struct guest *guest)
{
    struct error err = {""};
    struct device *device;

    fake_vm_new(&guest->fake, "n", 3, CLOCK_ICOUNT);
    device = device_new(guest->fake.vm, &fw_cfg_class, "fw_cfg");
    if (device_attach(device, &err))
        fail_msg("%s", err.text);
    guest->fw_cfg = fw_cfg_of(device);
    assert_int_equal(fw_cfg_add_file(guest->fw_cfg, "etc/test", "0123456789", 10, &err), 0);
}

static void tear_down(struct guest *guest)
{
    vm_free(guest->fake.vm);
}

static void out(struct guest *guest, u16 port, unsigned size, u32 value)
{
    port_write(&guest->fake.vm->ports, port, size, value);
}

static u32 in(struct guest *guest, u16 port, unsigned size)
{
    return port_read(&guest->fake.vm->ports, port, size);
}

static u64 read_item(struct guest *guest, u16 key, unsigned size)
{
    u64 value = 0;

    out(guest, 0x510, 2, key);
    for (unsigned i = 0; i < size; i++)
        value |= (u64)in(guest, 0x511, 1) << 8 * i;
    return value;
}

static u8 *memory_at(struct guest *guest, u64 phys)
{
    return guest->fake.vm->memory.blocks[0]->host + phys;
}

/* Find a file as firmware does; returns its key. */
static u16 find_file(struct guest *guest, const char *name, u32 *size)
{
    u8 entry[64];

    out(guest, 0x510, 2, 0x19);
    u32 count = 0;
    for (int i = 0; i < 4; i++)
        count = count << 8 | in(guest, 0x511, 1);
    assert_in_range(count, 1, 64);
    for (u32 n = 0; n < count; n++) {
        for (size_t i = 0; i < sizeof(entry); i++)
            entry[i] = (u8)in(guest, 0x511, 1);
        if (strcmp((char *)entry + 8, name) == 0) {
            *size = (u32)entry[0] << 24 | (u32)entry[1] << 16 | (u32)entry[2] << 8 | entry[3];
            return (u16)(entry[4] << 8 | entry[5]);
        }
    }
    fail_msg("no file %s", name);
    return 0;
}

/* Run a descriptor that lies at 1000h; returns the control word that is left. */
static u32 dma(struct guest *guest, u32 control, u32 len, u64 address)
{
    u32 fields[4] = {__builtin_bswap32(control), __builtin_bswap32(len),
                     __builtin_bswap32((u32)(address >> 32)), __builtin_bswap32((u32)address)};
    u32 result;

    memcpy(memory_at(guest, 0x1000), fields, sizeof(fields));
    out(guest, 0x514, 4, 0);
    out(guest, 0x518, 4, __builtin_bswap32(0x1000));
    memcpy(&result, memory_at(guest, 0x1000), sizeof(result));
    return __builtin_bswap32(result);
}

static void test_items(void **state)
{
    struct guest guest;
    u32 size;

    set_up(&guest);
    assert_int_equal(read_item(&guest, 0, 4), 0x554d4551); /* "QEMU" */
    assert_int_equal(in(&guest, 0x511, 1), 0);             /* past the end */
    assert_int_equal(in(&guest, 0x511, 1), 0);
    assert_int_equal(read_item(&guest, 1, 4), 3);
    assert_int_equal(read_item(&guest, 3, 8), MIB(1));
    assert_int_equal(read_item(&guest, 5, 2), 3);
    assert_int_equal(read_item(&guest, 15, 2), 3);
    assert_int_equal(read_item(&guest, 0x7777, 4), 0); /* none */
    assert_int_equal(read_item(&guest, 0xffff, 4), 0);

    u16 key = find_file(&guest, "etc/test", &size);
    assert_int_equal(size, 10);
    assert_int_equal(read_item(&guest, key, 4), 0x33323130);
    assert_int_equal(in(&guest, 0x510, 1), '4'); /* the lower port gives data as well */
    key = find_file(&guest, "etc/e820", &size);
    assert_int_equal(size, 20);
    assert_int_equal(read_item(&guest, key, 8), 0);
    tear_down(&guest);
}

static void test_port_widths(void **state)
{
    struct guest guest;

    set_up(&guest);
    read_item(&guest, 0, 1);
    out(&guest, 0x511, 1, 0x55); /* the data cannot be written */
    out(&guest, 0x510, 1, 0x55);
    assert_int_equal(in(&guest, 0x511, 1), 'E');
    assert_int_equal(in(&guest, 0x510, 2), 0xffff);
    assert_int_equal(in(&guest, 0x511, 1), 'M');
    assert_int_equal(in(&guest, 0x514, 4), 0x554d4551);
    assert_int_equal(in(&guest, 0x518, 4), 0x47464320); /* " CFG" */
    assert_int_equal(in(&guest, 0x51b, 1), 'G');
    tear_down(&guest);
}

static void test_dma(void **state)
{
    struct guest guest;
    u32 size;

    set_up(&guest);
    u16 key = find_file(&guest, "etc/test", &size);
    memset(memory_at(&guest, 0x2000), 0xcc, 32);
    assert_int_equal(dma(&guest, (u32)key << 16 | 8 | 2, 4, 0x2000), 0);
    assert_memory_equal(memory_at(&guest, 0x2000), "0123\xcc", 5);
    assert_int_equal(dma(&guest, 4, 2, 0), 0);      /* skip */
    assert_int_equal(dma(&guest, 2, 8, 0x2000), 0); /* over the end: zeroes */
    assert_memory_equal(memory_at(&guest, 0x2000), "6789\0\0\0\0\xcc", 9);
    assert_int_equal(dma(&guest, 4, UINT32_MAX, 0), 0);
    assert_int_equal(dma(&guest, (u32)key << 16 | 8, 0, 0), 0); /* select alone */
    assert_int_equal(in(&guest, 0x511, 1), '0');
    assert_int_equal(dma(&guest, 4, UINT32_MAX, 0), 0); /* skip to the end and no further */
    assert_int_equal(in(&guest, 0x511, 1), 0);
    tear_down(&guest);
}

static void test_bad_dma(void **state)
{
    struct guest guest;
    u32 size;

    set_up(&guest);
    u16 key = find_file(&guest, "etc/test", &size);
    u32 select_read = (u32)key << 16 | 8 | 2;

    assert_int_equal(dma(&guest, (u32)key << 16 | 8 | 16, 4, 0x2000), 1); /* write: no item can be */
    assert_int_equal(dma(&guest, select_read, 4, MIB(1)), 1);             /* no memory there */
    assert_int_equal(dma(&guest, select_read, 4, UINT64_MAX - 1), 1);     /* over the end of all addresses */
    assert_int_equal(dma(&guest, select_read, 10, MIB(1) - 5), 1);        /* over the end of the memory */
    assert_int_equal(dma(&guest, 0xffff0000 | 8 | 2, UINT32_MAX, 0x2000), 1); /* 4 GiB of zeroes into 1 MiB */

    /* Into its own descriptor: the result wins over the first bytes. */
    assert_int_equal(dma(&guest, select_read, 10, 0x1000), 0);
    assert_memory_equal(memory_at(&guest, 0x1004), "456789", 6);

    /* A descriptor that is no memory, or runs over the end of it, does nothing. */
    out(&guest, 0x510, 2, 0);
    out(&guest, 0x514, 4, UINT32_MAX);
    out(&guest, 0x518, 4, UINT32_MAX);
    out(&guest, 0x518, 4, __builtin_bswap32(MIB(1) - 8));
    assert_int_equal(in(&guest, 0x511, 1), 'Q');
    tear_down(&guest);
}

static void test_limits(void **state)
{
    struct guest guest;
    struct error err = {""};
    char name[FW_CFG_FILE_NAME + 1];

    set_up(&guest);
    assert_int_equal(fw_cfg_add(guest.fw_cfg, FW_CFG_SIGNATURE, "x", 1, &err), -1);
    assert_int_equal(fw_cfg_add_file(guest.fw_cfg, "etc/test", "x", 1, &err), -1);
    memset(name, 'n', sizeof(name));
    name[FW_CFG_FILE_NAME] = '\0';
    assert_int_equal(fw_cfg_add_file(guest.fw_cfg, name, "x", 1, &err), -1);
    name[FW_CFG_FILE_NAME - 1] = '\0';
    assert_int_equal(fw_cfg_add_file(guest.fw_cfg, name, "x", 1, &err), 0);
    int added = 0;
    for (; added < 100; added++) {
        snprintf(name, sizeof(name), "file%d", added);
        if (fw_cfg_add_file(guest.fw_cfg, name, name, 5, &err))
            break;
    }
    assert_int_equal(added, FW_CFG_FILES - 3); /* beside the test's two and etc/e820 */
    u32 size;
    u16 key = find_file(&guest, "file60", &size);
    assert_int_equal(key, 0x20 + 63);
    assert_int_equal(read_item(&guest, key, 4), 0x656c6966);
    tear_down(&guest);
}

static void test_state(void **state)
{
    struct guest guest, other;
    u32 size;
    u64 seed = 11;

    set_up(&guest);
    set_up(&other);
    u16 key = find_file(&guest, "etc/test", &size);
    read_item(&guest, key, 3);
    assert_state_round_trip(&fw_cfg_state, guest.fw_cfg, other.fw_cfg);
    assert_int_equal(in(&other, 0x511, 1), '3');
    load_damaged_state(&fw_cfg_state, other.fw_cfg, &seed, 300);
    in(&other, 0x511, 1);
    dma(&other, 2, 100, 0x2000);

    fw_cfg_reset(guest.fw_cfg);
    assert_int_equal(in(&guest, 0x511, 1), 'Q');
    tear_down(&guest);
    tear_down(&other);
}

static void test_hammer(void **state)
{
    struct guest guest;
    u64 seed = 5;

    set_up(&guest);
    for (int i = 0; i < 20000; i++) {
        u64 r = random_u64(&seed);
        unsigned size = 1u << (r & 3) % 3;
        u16 port = (u16)(0x50e + (r >> 8) % 16);

        if (r >> 32 & 1)
            out(&guest, port, size, (u32)random_u64(&seed) & (r >> 33 & 1 ? UINT32_MAX : 0x3f00));
        else
            in(&guest, port, size);
    }
    assert_int_equal(read_item(&guest, 0, 4), 0x554d4551);
    tear_down(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),   cmocka_unit_test(test_port_widths), cmocka_unit_test(test_dma),
        cmocka_unit_test(test_bad_dma), cmocka_unit_test(test_limits),      cmocka_unit_test(test_state),
        cmocka_unit_test(test_hammer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
