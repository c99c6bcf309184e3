/* ACPI tables: read back by hand, and by iasl where it is installed. */
#include "guest.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "machine/pc_map.h"

static u32 setup(struct guest *guest)
{
    struct error err = {""};
    u32 rsdp = 0;

    if (firmware_setup(&guest->config, &rsdp, &err))
        fail_msg("%s", err.text);
    return rsdp;
}

/* A table that XSDT and RSDT name alike, with its header checked. */
static const u8 *find_table(struct guest *guest, u32 rsdp_at, const char *signature)
{
    const u8 *rsdp = guest_at(guest, rsdp_at);
    const u8 *rsdt = guest_at(guest, get_u32(rsdp + 16)), *xsdt = guest_at(guest, get_u64(rsdp + 24));
    u32 count = (get_u32(rsdt + 4) - 36) / 4;

    assert_memory_equal(rsdt, "RSDT", 4);
    assert_memory_equal(xsdt, "XSDT", 4);
    assert_int_equal((get_u32(xsdt + 4) - 36) / 8, count);
    assert_int_equal(sum_bytes(rsdt, get_u32(rsdt + 4)), 0);
    assert_int_equal(sum_bytes(xsdt, get_u32(xsdt + 4)), 0);
    for (u32 i = 0; i < count; i++) {
        const u8 *table = guest_at(guest, get_u32(rsdt + 36 + 4 * i));

        assert_int_equal(get_u64(xsdt + 36 + 8 * i), get_u32(rsdt + 36 + 4 * i));
        if (memcmp(table, signature, 4))
            continue;
        assert_int_equal(sum_bytes(table, get_u32(table + 4)), 0);
        return table;
    }
    fail_msg("no table %s", signature);
    return NULL;
}

static void test_root_pointer(void **state)
{
    struct guest guest;
    const u8 *found;

    guest_init(&guest, MIB(16));
    u32 rsdp = setup(&guest);
    found = find_in_f_segment(&guest, "RSD PTR ");
    assert_ptr_equal(found, guest_at(&guest, rsdp));
    assert_int_equal(sum_bytes(found, 20), 0);
    assert_int_equal(sum_bytes(found, 36), 0);
    assert_int_equal(found[15], 2);
    guest_free(&guest);
}

static void test_fadt(void **state)
{
    struct guest guest;

    guest_init(&guest, MIB(16));
    const u8 *fadt = find_table(&guest, setup(&guest), "FACP");

    assert_int_equal(get_u32(fadt + 4), 244);
    assert_int_equal(fadt[8], 3);
    assert_int_equal(get_u16(fadt + 46), 9);    /* SCI */
    assert_int_equal(get_u32(fadt + 48), 0xb2); /* SMI_CMD and what enables ACPI */
    assert_int_equal(fadt[52], PC_ACPI_ENABLE);
    assert_int_equal(get_u32(fadt + 56), 0x600); /* PM1a event, control, timer, GPE0 */
    assert_int_equal(get_u32(fadt + 64), 0x604);
    assert_int_equal(get_u32(fadt + 76), 0x608);
    assert_int_equal(get_u32(fadt + 80), 0xafe0);
    assert_int_equal(fadt[92], 4);
    assert_int_equal(fadt[108], 0x32);                 /* century */
    assert_int_equal(get_u32(fadt + 112) & 1 << 4, 0); /* the power button is a fixed feature */
    assert_int_equal(get_u64(fadt + 120), 0xcf9);      /* reset register */
    assert_int_equal(fadt[128], PC_RESET_VALUE);
    assert_true(get_u64(fadt + 132) == 0); /* one FACS must not be named twice */
    assert_int_equal(get_u64(fadt + 140), get_u32(fadt + 40));
    assert_int_equal(get_u64(fadt + 148 + 4), 0x600);
    assert_int_equal(get_u64(fadt + 172 + 4), 0x604);
    assert_int_equal(get_u64(fadt + 208 + 4), 0x608);
    assert_int_equal(get_u64(fadt + 220 + 4), 0xafe0);

    const u8 *facs = guest_at(&guest, get_u32(fadt + 36)), *dsdt = guest_at(&guest, get_u32(fadt + 40));
    assert_memory_equal(facs, "FACS", 4);
    assert_int_equal(get_u32(fadt + 36) % 64, 0);
    assert_int_equal(get_u32(facs + 4), 64);
    assert_memory_equal(dsdt, "DSDT", 4);
    assert_int_equal(sum_bytes(dsdt, get_u32(dsdt + 4)), 0);
    guest_free(&guest);
}

static void check_madt(unsigned cpus)
{
    struct guest guest;
    unsigned seen = 0, ioapics = 0, nmis = 0;
    u32 overrides = 0;

    guest_init(&guest, MIB(16));
    guest.config.cpus = cpus;
    const u8 *madt = find_table(&guest, setup(&guest), "APIC");

    assert_int_equal(get_u32(madt + 36), 0xfee00000);
    assert_int_equal(get_u32(madt + 40), 1);
    for (u32 at = 44; at < get_u32(madt + 4); at += madt[at + 1]) {
        const u8 *e = madt + at;

        assert_true(e[1] > 0);
        switch (e[0]) {
        case 0:
            assert_int_equal(e[3], seen++);
            assert_int_equal(get_u32(e + 4), 1);
            break;
        case 1:
            assert_int_equal(get_u32(e + 4), 0xfec00000);
            assert_int_equal(e[2], cpus < 15 ? cpus : 0);
            ioapics++;
            break;
        case 2:
            overrides |= 1u << e[3];
            assert_int_equal(get_u32(e + 4), e[3] == 0 ? 2 : e[3]);
            assert_int_equal(get_u16(e + 8), e[3] == 0 ? 0 : 0xd);
            break;
        case 4:
            assert_int_equal(e[2], 0xff);
            assert_int_equal(e[5], 1);
            nmis++;
            break;
        default: fail_msg("MADT entry of type %u", e[0]);
        }
    }
    assert_int_equal(seen, cpus);
    assert_int_equal(ioapics, 1);
    assert_int_equal(nmis, 1);
    assert_int_equal(overrides, 1 << 0 | 1 << 9 | 1 << 10 | 1 << 11);
    guest_free(&guest);
}

static void test_madt(void **state)
{
    check_madt(1);
    check_madt(4);
    check_madt(14);
    check_madt(15);
    check_madt(64);
}

static void test_hpet(void **state)
{
    struct guest guest;

    guest_init(&guest, MIB(16));
    const u8 *hpet = find_table(&guest, setup(&guest), "HPET");

    assert_int_equal(get_u32(hpet + 4), 56);
    assert_int_equal(get_u32(hpet + 36), PC_HPET_ID);
    assert_int_equal(get_u64(hpet + 44), 0xfed00000);
    guest_free(&guest);
}

/* --- iasl ----------------------------------------------------------------------------------------------------------- */

static void write_file(const char *path, const u8 *bytes, u32 len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static int run(const char *command)
{
    int status = system(command);

    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 1 << 20);

    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

/* Disassemble every table, compile the result again, and look for what the OS will look for. */
static void test_iasl(void **state)
{
    static const char *const names[] = {"facp", "apic", "hpet"};
    static const char *const wanted[] = {
        "Name (\\_S5, Package (0x04)",
        "Processor (CP3F, 0x3F,",
        "EisaId (\"PNP0A03\")",
        "EisaId (\"PNP0C0F\")",
        "EisaId (\"PNP0103\")",
        "EisaId (\"PNP0303\")",
        "EisaId (\"PNP0F13\")",
        "EisaId (\"PNP0B00\")",
        "EisaId (\"PNP0501\")",
        "\"QEMU0002\"",
        "OperationRegion (P40C, PCI_Config, 0x60, 0x04)",
        "Return (IQCR (\\_SB.PCI0.ISA.PRQ3))",
        "DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable",
    };
    char dir[] = "/tmp/plastron-acpi-XXXXXX";
    char path[128], command[512];
    struct guest guest;

    if (run("iasl -v >/dev/null 2>&1") != 0) {
        print_message("SKIP: iasl (Debian package acpica-tools) is not installed\n");
        skip();
    }
    guest_init(&guest, MIB(16));
    guest.config.cpus = 64;
    guest.config.serial_ports = 0xf;
    u32 rsdp = setup(&guest);
    const u8 *dsdt = guest_at(&guest, get_u32(find_table(&guest, rsdp, "FACP") + 40));

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/dsdt.dat", dir);
    write_file(path, dsdt, get_u32(dsdt + 4));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char signature[5] = {0};

        for (int c = 0; c < 4; c++)
            signature[c] = (char)(names[i][c] & ~0x20);
        const u8 *table = find_table(&guest, rsdp, signature);
        snprintf(path, sizeof(path), "%s/%s.dat", dir, names[i]);
        write_file(path, table, get_u32(table + 4));
    }
    snprintf(
        command, sizeof(command),
        "cd %s && for t in dsdt facp apic hpet; do iasl -d $t.dat && iasl $t.dsl || exit 1; done >log 2>&1",
        dir);
    if (run(command) != 0) {
        snprintf(path, sizeof(path), "%s/log", dir);
        fail_msg("iasl refuses a table; see %s", path);
    }
    snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
    char *text = read_text(path);
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (!strstr(text, wanted[i]))
            fail_msg("%s lacks: %s", path, wanted[i]);
    free(text);
    snprintf(path, sizeof(path), "%s/log", dir);
    text = read_text(path);
    assert_null(strstr(text, "Error  "));
    assert_null(strstr(text, "AE_"));
    free(text);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(run(command), 0);
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root_pointer), cmocka_unit_test(test_fadt), cmocka_unit_test(test_madt),
        cmocka_unit_test(test_hpet),         cmocka_unit_test(test_iasl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
