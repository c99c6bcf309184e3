/*
 * SMBIOS structures (DMTF DSP0134 3.0) with both entry points: 2.8 for old readers, 3.0 for new ones. The structures are of
 * the 2.8 layout except for the processor's, whose 3.0 fields follow the ones that old readers know.
 */
#include <string.h>

#include "firmware/tables.h"

#define MANUFACTURER "Plastron"
#define PRODUCT      "pc-1"
enum { MAX_STRINGS = 4 };

/* Handles, for structures that refer to one another. */
enum {
    HANDLE_BIOS = 0x000,
    HANDLE_SYSTEM = 0x100,
    HANDLE_CHASSIS = 0x300,
    HANDLE_CPU = 0x400,
    HANDLE_MEMORY_ARRAY = 0x1000,
    HANDLE_MEMORY_DEVICE = 0x1100,
    HANDLE_MEMORY_RANGE = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00,
    HANDLE_NONE = 0xfffe,
};

struct smbios {
    struct blob blob;
    u32 start; /* of the structure under way */
    const char *strings[MAX_STRINGS];
    u8 nstrings;
    u16 structures, largest;
};

static struct blob *begin(struct smbios *smbios, u8 type, u16 handle)
{
    smbios->start = smbios->blob.len;
    smbios->nstrings = 0;
    blob_u8(&smbios->blob, type);
    blob_u8(&smbios->blob, 0); /* length: end() */
    blob_u16(&smbios->blob, handle);
    return &smbios->blob;
}

/* A string field; NULL: none. */
static void string(struct smbios *smbios, const char *text)
{
    if (text)
        smbios->strings[smbios->nstrings++] = text;
    blob_u8(&smbios->blob, text ? smbios->nstrings : 0);
}

static void end(struct smbios *smbios)
{
    struct blob *b = &smbios->blob;

    blob_set_u8(b, smbios->start + 1, (u8)(b->len - smbios->start));
    for (u8 i = 0; i < smbios->nstrings; i++)
        blob_bytes(b, smbios->strings[i], (u32)strlen(smbios->strings[i]) + 1);
    blob_zero(b, smbios->nstrings ? 1 : 2);
    smbios->structures++;
    if (b->len - smbios->start > smbios->largest)
        smbios->largest = (u16)(b->len - smbios->start);
}

static void bios_information(struct smbios *smbios)
{
    enum { CHARACTERISTICS_NOT_GIVEN = 1 << 3, EXT1_ACPI = 1, EXT2_VIRTUAL_MACHINE = 1 << 4 };
    struct blob *b = begin(smbios, 0, HANDLE_BIOS);

    string(smbios, MANUFACTURER);
    string(smbios, "direct kernel boot");
    blob_u16(b, PC_F_SEGMENT >> 4);
    string(smbios, "01/01/2026");
    blob_u8(b, 0); /* ROM size: 64 KiB */
    blob_u64(b, CHARACTERISTICS_NOT_GIVEN);
    blob_u8(b, EXT1_ACPI);
    blob_u8(b, EXT2_VIRTUAL_MACHINE);
    blob_u8(b, 1); /* release 1.0 */
    blob_u8(b, 0);
    blob_u8(b, 0xff); /* no embedded controller */
    blob_u8(b, 0xff);
    end(smbios);
}

static void system_information(struct smbios *smbios)
{
    enum { WAKE_UP_POWER_SWITCH = 6 };
    struct blob *b = begin(smbios, 1, HANDLE_SYSTEM);

    string(smbios, MANUFACTURER);
    string(smbios, PRODUCT);
    string(smbios, "1");
    string(smbios, NULL); /* serial number */
    blob_zero(b, 16);     /* UUID: all zero, not present */
    blob_u8(b, WAKE_UP_POWER_SWITCH);
    string(smbios, NULL); /* SKU */
    string(smbios, NULL); /* family */
    end(smbios);
}

static void chassis(struct smbios *smbios)
{
    enum { CHASSIS_OTHER = 1, STATE_SAFE = 3, SECURITY_UNKNOWN = 2 };
    struct blob *b = begin(smbios, 3, HANDLE_CHASSIS);

    string(smbios, MANUFACTURER);
    blob_u8(b, CHASSIS_OTHER);
    string(smbios, PRODUCT);
    string(smbios, NULL); /* serial number, asset tag */
    string(smbios, NULL);
    blob_u8(b, STATE_SAFE); /* boot-up, power supply, thermal */
    blob_u8(b, STATE_SAFE);
    blob_u8(b, STATE_SAFE);
    blob_u8(b, SECURITY_UNKNOWN);
    blob_u32(b, 0);
    blob_u8(b, 0); /* height, power cords, contained elements and their length */
    blob_u8(b, 0);
    blob_u8(b, 0);
    blob_u8(b, 0);
    string(smbios, NULL); /* SKU */
    end(smbios);
}

static void processor(struct smbios *smbios, const struct firmware_config *config)
{
    enum { CENTRAL_PROCESSOR = 3, OTHER = 1, POPULATED_ENABLED = 0x41, NO_CACHE = 0xffff };
    enum { CAN_64_BIT = 1 << 2, MULTI_CORE = 1 << 3 };
    struct blob *b = begin(smbios, 4, HANDLE_CPU);
    u8 count = (u8)config->cpus;

    string(smbios, "CPU 0");
    blob_u8(b, CENTRAL_PROCESSOR);
    blob_u8(b, OTHER); /* family */
    string(smbios, MANUFACTURER);
    blob_u32(b, config->cpuid_signature);
    blob_u32(b, config->cpuid_features);
    string(smbios, PRODUCT);
    blob_u8(b, 0); /* voltage, external clock, maximum and current speed: unknown */
    blob_u16(b, 0);
    blob_u16(b, 0);
    blob_u16(b, 0);
    blob_u8(b, POPULATED_ENABLED);
    blob_u8(b, OTHER); /* upgrade */
    blob_u16(b, NO_CACHE);
    blob_u16(b, NO_CACHE);
    blob_u16(b, NO_CACHE);
    string(smbios, NULL); /* serial number, asset tag, part number */
    string(smbios, NULL);
    string(smbios, NULL);
    blob_u8(b, count); /* cores, enabled cores, threads */
    blob_u8(b, count);
    blob_u8(b, count);
    blob_u16(b, (u16)((config->long_mode ? CAN_64_BIT : 0) | (count > 1 ? MULTI_CORE : 0)));
    blob_u16(b, OTHER);
    blob_u16(b, count); /* the same three, 3.0 */
    blob_u16(b, count);
    blob_u16(b, count);
    end(smbios);
}

static u64 device_size(u64 ram_size)
{
    enum { MAX_DEVICES = 16 };

    return align_up(ram_size / MAX_DEVICES + 1, GIB(16));
}

static void memory_array(struct smbios *smbios, u64 ram_size)
{
    enum { LOCATION_OTHER = 1, USE_SYSTEM_MEMORY = 3, NO_ECC = 3 };
    enum { CAPACITY_IN_EXTENDED_FIELD = 0x80000000 };
    struct blob *b = begin(smbios, 16, HANDLE_MEMORY_ARRAY);
    bool extended = ram_size >> 10 >= CAPACITY_IN_EXTENDED_FIELD;

    blob_u8(b, LOCATION_OTHER);
    blob_u8(b, USE_SYSTEM_MEMORY);
    blob_u8(b, NO_ECC);
    blob_u32(b, extended ? CAPACITY_IN_EXTENDED_FIELD : (u32)(ram_size >> 10));
    blob_u16(b, HANDLE_NONE);
    blob_u16(b, (u16)((ram_size + device_size(ram_size) - 1) / device_size(ram_size)));
    blob_u64(b, extended ? ram_size : 0);
    end(smbios);
}

static void memory_device(struct smbios *smbios, u16 number, u64 size)
{
    enum { WIDTH_UNKNOWN = 0xffff, SIZE_IN_EXTENDED_FIELD = 0x7fff };
    enum { FORM_DIMM = 9, TYPE_RAM = 7, DETAIL_OTHER = 1 << 1 };
    struct blob *b = begin(smbios, 17, (u16)(HANDLE_MEMORY_DEVICE + number));
    u64 megabytes = size >> 20;
    bool extended = megabytes >= SIZE_IN_EXTENDED_FIELD;

    blob_u16(b, HANDLE_MEMORY_ARRAY);
    blob_u16(b, HANDLE_NONE);
    blob_u16(b, WIDTH_UNKNOWN); /* total, data */
    blob_u16(b, WIDTH_UNKNOWN);
    blob_u16(b, extended ? SIZE_IN_EXTENDED_FIELD : (u16)megabytes);
    blob_u8(b, FORM_DIMM);
    blob_u8(b, 0); /* of no set */
    string(smbios, "DIMM");
    string(smbios, NULL);
    blob_u8(b, TYPE_RAM);
    blob_u16(b, DETAIL_OTHER);
    blob_u16(b, 0); /* speed */
    string(smbios, MANUFACTURER);
    string(smbios, NULL); /* serial number, asset tag, part number */
    string(smbios, NULL);
    string(smbios, NULL);
    blob_u8(b, 0); /* rank */
    blob_u32(b, extended ? (u32)megabytes : 0);
    blob_u16(b, 0); /* configured speed, voltages */
    blob_u16(b, 0);
    blob_u16(b, 0);
    blob_u16(b, 0);
    end(smbios);
}

static void memory_range(struct smbios *smbios, u16 number, u64 start, u64 size)
{
    enum { ADDRESS_IN_EXTENDED_FIELD = 0xffffffff };
    struct blob *b = begin(smbios, 19, (u16)(HANDLE_MEMORY_RANGE + number));
    u64 last = start + size - 1;
    bool extended = last >> 10 >= ADDRESS_IN_EXTENDED_FIELD;

    blob_u32(b, extended ? ADDRESS_IN_EXTENDED_FIELD : (u32)(start >> 10));
    blob_u32(b, extended ? ADDRESS_IN_EXTENDED_FIELD : (u32)(last >> 10));
    blob_u16(b, HANDLE_MEMORY_ARRAY);
    blob_u8(b, 1); /* partition width */
    blob_u64(b, extended ? start : 0);
    blob_u64(b, extended ? last : 0);
    end(smbios);
}

static void memory(struct smbios *smbios, u64 ram_size)
{
    u64 high = pc_high_ram(ram_size);
    u16 number = 0;

    memory_array(smbios, ram_size);
    for (u64 left = ram_size; left;) {
        u64 size = left < device_size(ram_size) ? left : device_size(ram_size);

        memory_device(smbios, number++, size);
        left -= size;
    }
    memory_range(smbios, 0, 0, pc_low_ram(ram_size));
    if (high)
        memory_range(smbios, 1, PC_HIGH_RAM, high);
}

static void entry_points(struct fseg *fseg, const struct smbios *smbios, u32 structures)
{
    enum {
        ENTRY_SIZE = 31,
        ENTRY_CHECKSUM = 4,
        DMI = 16,
        DMI_CHECKSUM = 21,
        ENTRY3_SIZE = 24,
        ENTRY3_CHECKSUM = 5
    };
    struct blob entry = fseg_begin(fseg, 16);

    blob_text(&entry, "_SM_", 4, ' ');
    blob_u8(&entry, 0);
    blob_u8(&entry, ENTRY_SIZE);
    blob_u8(&entry, 2); /* 2.8 */
    blob_u8(&entry, 8);
    blob_u16(&entry, smbios->largest);
    blob_zero(&entry, 6); /* entry point revision and formatted area */
    blob_text(&entry, "_DMI_", 5, ' ');
    blob_u8(&entry, 0);
    blob_u16(&entry, (u16)smbios->blob.len);
    blob_u32(&entry, structures);
    blob_u16(&entry, smbios->structures);
    blob_u8(&entry, 0x28);
    blob_checksum(&entry, DMI, ENTRY_SIZE - DMI, DMI_CHECKSUM);
    blob_checksum(&entry, 0, ENTRY_SIZE, ENTRY_CHECKSUM);
    fseg_end(fseg, &entry);

    entry = fseg_begin(fseg, 16);
    blob_text(&entry, "_SM3_", 5, ' ');
    blob_u8(&entry, 0);
    blob_u8(&entry, ENTRY3_SIZE);
    blob_u8(&entry, 3); /* 3.0 */
    blob_u8(&entry, 0);
    blob_u8(&entry, 0); /* docrev */
    blob_u8(&entry, 1); /* entry point revision */
    blob_u8(&entry, 0);
    blob_u32(&entry, smbios->blob.len);
    blob_u64(&entry, structures);
    blob_checksum(&entry, 0, ENTRY3_SIZE, ENTRY3_CHECKSUM);
    fseg_end(fseg, &entry);
}

void smbios_build(const struct firmware_config *config, struct fseg *fseg)
{
    struct smbios smbios = {.blob = fseg_begin(fseg, 16)};
    struct blob *boot;

    bios_information(&smbios);
    system_information(&smbios);
    chassis(&smbios);
    processor(&smbios, config);
    memory(&smbios, config->ram_size);
    boot = begin(&smbios, 32, HANDLE_BOOT);
    blob_zero(boot, 7); /* reserved; no error */
    end(&smbios);
    begin(&smbios, 127, HANDLE_END);
    end(&smbios);
    u32 structures = fseg_end(fseg, &smbios.blob);

    entry_points(fseg, &smbios, structures);
}
