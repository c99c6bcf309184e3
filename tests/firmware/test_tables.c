/* MP, PIR and SMBIOS tables, BIOS data, memory map, MTRRs. */
#include "guest.h"

#include "machine/pc_map.h"

static void setup(struct guest *guest)
{
    struct error err = {""};

    if (firmware_setup(&guest->config, NULL, &err))
        fail_msg("%s", err.text);
}

/* --- memory map ------------------------------------------------------------------------------------------------------- */

static void check_e820(u64 ram_size)
{
    struct firmware_config config = {.ram_size = ram_size};
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(&config, map);
    u64 ram = 0;

    assert_in_range(entries, 3, FIRMWARE_E820_MAX);
    for (unsigned i = 0; i < entries; i++) {
        assert_true(map[i].size > 0);
        if (i)
            assert_true(map[i].start >= map[i - 1].start + map[i - 1].size);
        if (map[i].type == E820_RAM) {
            ram += map[i].size;
            /* Nothing that is not RAM, and not the firmware's tables. */
            assert_true(map[i].start + map[i].size <= 0x9fc00 || map[i].start >= 0x100000);
            assert_true(map[i].start + map[i].size <= 0xc0000000 || map[i].start >= UINT64_C(0x100000000));
        }
    }
    assert_true(ram == ram_size - (0x100000 - 0x9fc00));
}

static void test_e820(void **state)
{
    static const u64 sizes[] = {MIB(1),        MIB(1) + 4096, MIB(16), MIB(512), GIB(3),
                                GIB(3) + 4096, GIB(4),        GIB(64), GIB(1024)};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        check_e820(sizes[i]);
}

/* --- MP --------------------------------------------------------------------------------------------------------------- */

static void check_mptable(unsigned cpus)
{
    static const unsigned entry_size[] = {20, 8, 8, 8, 8};
    unsigned count[ARRAY_SIZE(entry_size)] = {0}, bootstrap = 0, pci_pins = 0;
    u32 isa_pins = 0;
    struct guest guest;

    guest_init(&guest, MIB(16));
    guest.config.cpus = cpus;
    setup(&guest);
    const u8 *pointer = find_in_f_segment(&guest, "_MP_");
    assert_non_null(pointer);
    assert_int_equal(sum_bytes(pointer, 16), 0);
    const u8 *table = guest_at(&guest, get_u32(pointer + 4));
    assert_memory_equal(table, "PCMP", 4);
    assert_int_equal(sum_bytes(table, get_u16(table + 4)), 0);
    assert_int_equal(get_u32(table + 36), 0xfee00000);
    u32 at = 44;
    for (u16 i = 0; i < get_u16(table + 34); i++) {
        const u8 *e = table + at;

        assert_in_range(e[0], 0, ARRAY_SIZE(entry_size) - 1);
        if (i)
            assert_true(e[0] >= e[-(int)entry_size[e[0]]] || count[e[0]] == 0); /* sorted by type */
        if (e[0] == 0) {
            assert_int_equal(e[1], count[0]);
            assert_int_equal(e[3] & 1, 1);
            bootstrap += e[3] >> 1 & 1;
        } else if (e[0] == 2) {
            assert_int_equal(e[1], pc_ioapic_id(cpus));
            assert_int_equal(get_u32(e + 4), 0xfec00000);
        } else if (e[0] == 3 && e[4] == 0) { /* PCI */
            assert_int_equal(e[7], pc_pirq_irq(pc_pirq(e[5] >> 2, (e[5] & 3) + 1u)));
            assert_int_equal(get_u16(e + 2), 1);
            pci_pins++;
        } else if (e[0] == 3) {
            assert_false(isa_pins >> e[7] & 1);
            isa_pins |= 1u << e[7];
            assert_int_equal(e[7], e[5] == 0 ? 2 : e[5]);
        }
        count[e[0]]++;
        at += entry_size[e[0]];
    }
    assert_int_equal(at, get_u16(table + 4));
    assert_int_equal(count[0], cpus);
    assert_int_equal(bootstrap, 1);
    assert_int_equal(count[1], 2);
    assert_int_equal(count[2], 1);
    assert_int_equal(count[4], 2);
    assert_int_equal(pci_pins, 31 * 4);
    assert_int_equal(isa_pins, 0xfffe & ~PC_PCI_IRQS);
    guest_free(&guest);
}

static void test_mptable(void **state)
{
    check_mptable(1);
    check_mptable(4);
    check_mptable(64);
}

/* --- PIR -------------------------------------------------------------------------------------------------------------- */

static void test_pirtable(void **state)
{
    struct guest guest;

    guest_init(&guest, MIB(16));
    setup(&guest);
    const u8 *table = find_in_f_segment(&guest, "$PIR");
    assert_non_null(table);
    u16 size = get_u16(table + 6);
    assert_int_equal(sum_bytes(table, size), 0);
    assert_int_equal(get_u16(table + 4), 0x100);
    assert_int_equal(table[9], 0x08);
    assert_int_equal(get_u32(table + 12), 0x70008086);
    assert_int_equal((size - 32) % 16, 0);
    for (u16 at = 32; at < size; at += 16) {
        unsigned slot = table[at + 1] >> 3;

        for (unsigned pin = 1; pin <= 4; pin++) {
            const u8 *link = table + at + 2 + 3 * (pin - 1);

            assert_int_equal(link[0], 0x60 + pc_pirq(slot, pin));
            assert_true(get_u16(link + 1) >> pc_pirq_irq(pc_pirq(slot, pin)) & 1);
        }
    }
    guest_free(&guest);
}

/* --- SMBIOS ----------------------------------------------------------------------------------------------------------- */

static void check_smbios(u64 ram_size, unsigned cpus)
{
    unsigned structures = 0, largest = 0, devices = 0, promised = 0;
    u64 device_mib = 0, range_kib = 0;
    bool ended = false, seen[128] = {false};
    struct guest guest;

    guest_init(&guest, ram_size);
    guest.config.cpus = cpus;
    setup(&guest);
    const u8 *entry = find_in_f_segment(&guest, "_SM_"), *entry3 = find_in_f_segment(&guest, "_SM3_");
    assert_non_null(entry);
    assert_non_null(entry3);
    assert_int_equal(entry[5], 31);
    assert_int_equal(sum_bytes(entry, 31), 0);
    assert_memory_equal(entry + 16, "_DMI_", 5);
    assert_int_equal(sum_bytes(entry + 16, 15), 0);
    assert_int_equal(entry3[6], 24);
    assert_int_equal(sum_bytes(entry3, 24), 0);
    assert_true(get_u64(entry3 + 16) == get_u32(entry + 24));
    assert_int_equal(get_u32(entry3 + 12), get_u16(entry + 22));

    const u8 *table = guest_at(&guest, get_u32(entry + 24)), *end = table + get_u16(entry + 22);
    while (table < end) {
        const u8 *s = table, *next = s + s[1];

        assert_false(ended);
        assert_in_range(s[0], 0, 127);
        while (next[0] || next[1])
            next++;
        next += 2;
        seen[s[0]] = true;
        structures++;
        if (next - s > (long)largest)
            largest = (unsigned)(next - s);
        switch (s[0]) {
        case 4: assert_int_equal(s[0x23], cpus); break;
        case 16: promised = get_u16(s + 13); break;
        case 17:
            devices++;
            device_mib += get_u16(s + 12) == 0x7fff ? get_u32(s + 0x1c) : get_u16(s + 12);
            break;
        case 19:
            if (get_u32(s + 4) == UINT32_MAX)
                range_kib += (get_u64(s + 0x17) - get_u64(s + 0x0f) + 1) >> 10;
            else
                range_kib += get_u32(s + 8) - get_u32(s + 4) + 1;
            break;
        case 127: ended = true; break;
        }
        table = next;
    }
    assert_ptr_equal(table, end);
    assert_true(ended);
    assert_true(seen[0] && seen[1] && seen[3] && seen[4] && seen[16] && seen[17] && seen[19] && seen[32]);
    assert_int_equal(structures, get_u16(entry + 28));
    assert_int_equal(largest, get_u16(entry + 8));
    assert_int_equal(devices, promised);
    assert_in_range(devices, 1, 17);
    assert_true(device_mib == ram_size >> 20);
    assert_true(range_kib == ram_size >> 10);
    guest_free(&guest);
}

static void test_smbios(void **state)
{
    check_smbios(MIB(1), 1);
    check_smbios(MIB(512), 4);
    check_smbios(GIB(16), 1);
    check_smbios(GIB(64) + MIB(1), 64);
    check_smbios(GIB(256), 64);
    check_smbios(GIB(8192), 64);
}

/* --- low memory ------------------------------------------------------------------------------------------------------- */

static void test_bios_data(void **state)
{
    struct guest guest;

    guest_init(&guest, MIB(16));
    guest.config.serial_ports = 0x5; /* COM1 and COM3 */
    setup(&guest);
    const u8 *bda = guest_at(&guest, 0x400);
    assert_int_equal(get_u16(bda), 0x3f8);
    assert_int_equal(get_u16(bda + 2), 0x3e8);
    assert_int_equal(get_u16(bda + 4), 0);
    assert_int_equal(get_u16(bda + 0x0e), 0x9fc0);
    assert_int_equal(get_u16(bda + 0x10), 2 << 9 | 1 << 2 | 1 << 1);
    assert_int_equal(get_u16(bda + 0x13), 639);
    assert_int_equal(*guest_at(&guest, 0x9fc00), 1);

    /* Every vector points into the F segment, at an IRET or at a service; the reset vector jumps there too. */
    for (unsigned v = 0; v < 256; v++) {
        const u8 *vector = guest_at(&guest, 4 * v);
        const u8 *handler = guest_at(&guest, (u64)get_u16(vector + 2) * 16 + get_u16(vector));

        assert_in_range(get_u16(vector + 2), 0xf000, 0xffff);
        if (v != 0x11 && v != 0x12 && v != 0x15)
            assert_int_equal(*handler, 0xcf);
    }
    const u8 *reset = guest_at(&guest, 0xffff0);
    assert_int_equal(*reset, 0xea);
    assert_memory_equal(guest_at(&guest, (u64)get_u16(reset + 3) * 16 + get_u16(reset + 1)), "\xfa\xf4", 2);
    guest_free(&guest);
}

static void test_mtrrs(void **state)
{
    struct guest guest;
    u64 mask;

    guest_init(&guest, MIB(16));
    firmware_setup_cpu(&guest.config, &guest.state);
    assert_int_equal(guest.state.mtrr_def_type, 0xc06);
    mask = guest.state.mtrr_mask[0];
    assert_true(mask == (UINT64_C(0xffc0000000) | 1 << 11));
    assert_true(guest.state.mtrr_base[0] == 0xc0000000);
    assert_true((UINT64_C(0xfee00000) & mask & ~UINT64_C(0xfff)) == 0xc0000000);
    assert_true((UINT64_C(0x1c0000000) & mask & ~UINT64_C(0xfff)) != 0xc0000000);
    assert_true(guest.state.mtrr_mask[1] == 0);
    guest_free(&guest);
}

static void note_apic_write(void *opaque, u32 offset, unsigned size, u64 value)
{
    u32 *registers = opaque;

    assert_int_equal(size, 4);
    assert_in_range(offset, 0, 0x3ff);
    if (offset >= 0x320) /* LVT: a write while the APIC is off would mask it */
        assert_int_equal(registers[0xf0 / 16] & 1 << 8, 1 << 8);
    registers[offset / 16] = (u32)value;
}

static void test_virtual_wire(void **state)
{
    static const struct vcpu_intc_ops intc = {.mmio_write = note_apic_write};
    u32 registers[64] = {0};

    firmware_setup_apic(&intc, registers);
    assert_int_equal(registers[0xf0 / 16], 0x1ff);
    assert_int_equal(registers[0x350 / 16], 0x700);
    assert_int_equal(registers[0x360 / 16], 0x400);
}

static void test_bad_configuration(void **state)
{
    struct guest guest;
    struct error err = {""};

    guest_init(&guest, MIB(1));
    setup(&guest);
    guest.config.ram_size = MIB(1) - 4096;
    assert_int_equal(firmware_setup(&guest.config, NULL, &err), -1);
    assert_non_null(strstr(err.text, "--memory"));
    guest.config.ram_size = MIB(1);
    guest.config.cpus = 65;
    assert_int_equal(firmware_setup(&guest.config, NULL, &err), -1);
    assert_non_null(strstr(err.text, "--cpus"));
    guest.config.cpus = 0;
    assert_int_equal(firmware_setup(&guest.config, NULL, &err), -1);
    guest_free(&guest);
}

/* --- ROM -------------------------------------------------------------------------------------------------------------- */

static void test_rom(void **state)
{
    static u8 bytes[256 << 10];
    struct guest guest;
    struct firmware_rom rom;
    struct error err = {""};
    u8 seen[4];

    for (size_t i = 0; i < sizeof(bytes); i += 4)
        put_u32(bytes + i, (u32)i);
    struct file file = file_make(bytes, sizeof(bytes));
    guest_init(&guest, MIB(16));
    if (firmware_rom_load(&rom, &guest.memory, file.path, 1, &err))
        fail_msg("%s", err.text);
    memory_commit(&guest.memory);
    assert_true(dma_read(&guest.memory, UINT64_C(0x100000000) - sizeof(bytes), seen, 4));
    assert_int_equal(get_u32(seen), 0);
    assert_true(dma_read(&guest.memory, UINT64_C(0xfffffffc), seen, 4));
    assert_int_equal(get_u32(seen), sizeof(bytes) - 4);
    assert_true(dma_read(&guest.memory, 0xe0000, seen, 4));
    assert_int_equal(get_u32(seen), sizeof(bytes) - (128 << 10));
    assert_true(dma_read(&guest.memory, 0xffffc, seen, 4));
    assert_int_equal(get_u32(seen), sizeof(bytes) - 4);
    assert_true(dma_read(&guest.memory, 0xdfffc, seen, 4)); /* RAM */
    assert_int_equal(get_u32(seen), 0);
    memory_write(&guest.memory, 0xffffc, 4, 0x12345678); /* writes are lost, also on the RAM below */
    assert_int_equal(memory_read(&guest.memory, 0xffffc, 4), sizeof(bytes) - 4);
    assert_int_equal(get_u32(guest_at(&guest, 0xffffc)), 0);
    file_free(&file);
    guest_free(&guest);
}

static void test_small_rom(void **state)
{
    static u8 bytes[64 << 10];
    struct guest guest;
    struct firmware_rom rom;
    struct error err = {""};

    bytes[0] = 0x77;
    struct file file = file_make(bytes, sizeof(bytes));
    guest_init(&guest, MIB(16));
    if (firmware_rom_load(&rom, &guest.memory, file.path, 1, &err))
        fail_msg("%s", err.text);
    memory_commit(&guest.memory);
    assert_int_equal(memory_read(&guest.memory, 0xf0000, 1), 0x77);
    assert_int_equal(memory_read(&guest.memory, 0xffff0000, 1), 0x77);
    *guest_at(&guest, 0xeffff) = 0x55;
    assert_int_equal(memory_read(&guest.memory, 0xeffff, 1), 0x55);
    file_free(&file);
    guest_free(&guest);
}

static void test_bad_roms(void **state)
{
    static const u64 sizes[] = {0, 1, (64 << 10) - 1, (64 << 10) + 1, 96 << 10, (16 << 20) + (64 << 10)};
    struct guest guest;
    struct firmware_rom rom;

    guest_init(&guest, MIB(16));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct file file = file_make("", 0);
        struct error err = {""};

        assert_int_equal(ftruncate(file.fd, (off_t)sizes[i]), 0);
        assert_int_equal(firmware_rom_load(&rom, &guest.memory, file.path, 1, &err), -1);
        assert_non_null(strstr(err.text, "from 64 KiB to 16 MiB"));
        assert_non_null(strstr(err.text, file.path));
        file_free(&file);
    }
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e820),
        cmocka_unit_test(test_mptable),
        cmocka_unit_test(test_pirtable),
        cmocka_unit_test(test_smbios),
        cmocka_unit_test(test_bios_data),
        cmocka_unit_test(test_mtrrs),
        cmocka_unit_test(test_rom),
        cmocka_unit_test(test_small_rom),
        cmocka_unit_test(test_bad_roms),
        cmocka_unit_test(test_virtual_wire),
        cmocka_unit_test(test_bad_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
