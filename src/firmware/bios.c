/*
 * What a PC's BIOS leaves in low memory: interrupt vectors at 0, the BIOS data area at 400h, the extended one below
 * 640 KiB; and the services of realmode.S.
 */
#include "firmware/bytes.h"
#include "firmware/tables.h"

/* BIOS data area, from 400h. */
enum {
    BDA = 0x400,
    BDA_SIZE = 0x100,
    BDA_COM = 0x00,  /* four port numbers, u16 */
    BDA_EBDA = 0x0e, /* segment */
    BDA_EQUIPMENT = 0x10,
    BDA_MEMORY = 0x13, /* KiB */
    BDA_KEYBOARD_HEAD = 0x1a,
    BDA_KEYBOARD_TAIL = 0x1c,
    BDA_KEYBOARD_BUFFER = 0x1e, /* 16 keys */
    BDA_KEYBOARD_START = 0x80,
    BDA_KEYBOARD_END = 0x82,
    BDA_KEYBOARD_TYPE = 0x96, /* bit 4: enhanced */
};
enum { EQUIPMENT_FPU = 1 << 1, EQUIPMENT_MOUSE = 1 << 2, EQUIPMENT_SERIAL_SHIFT = 9 };

extern const u8 realmode_start[], realmode_halt[], realmode_none[], realmode_int11[], realmode_int12[],
    realmode_int15[], realmode_data[];

static u16 equipment(const struct firmware_config *config)
{
    unsigned serial = (unsigned)__builtin_popcount(config->serial_ports);

    return (u16)(EQUIPMENT_FPU | EQUIPMENT_MOUSE | serial << EQUIPMENT_SERIAL_SHIFT);
}

/* The code and its data; returns its segment. */
static u16 services(const struct firmware_config *config, struct fseg *fseg)
{
    struct blob code = fseg_begin(fseg, 16);
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(config, map);
    u64 low_end = pc_low_ram(config->ram_size);
    u64 extended_kib = (low_end - MIB(1)) >> 10;
    u64 below_16m = low_end < MIB(16) ? extended_kib : 15 << 10;
    u64 above_16m = low_end < MIB(16) ? 0 : (low_end - MIB(16)) >> 16;

    blob_bytes(&code, realmode_start, (u32)(realmode_data - realmode_start));
    blob_u16(&code, (u16)entries);
    blob_u16(&code, (u16)below_16m);
    blob_u16(&code, (u16)above_16m);
    blob_u16(&code, (u16)(extended_kib < 0xfc00 ? extended_kib : 0xfc00)); /* AH=88h ends at 64 MiB */
    blob_u16(&code, equipment(config));
    blob_u16(&code, FIRMWARE_EBDA >> 10);
    blob_bytes(&code, map, entries * (u32)sizeof(map[0]));
    return (u16)(fseg_end(fseg, &code) >> 4);
}

static void interrupt_vectors(const struct firmware_config *config, u16 segment)
{
    static const struct {
        u8 vector;
        const u8 *handler;
    } handlers[] = {
        {0x11, realmode_int11},
        {0x12, realmode_int12},
        {0x15, realmode_int15},
    };
    u8 table[0x400];

    for (unsigned v = 0; v < 256; v++) {
        put_u16(table + 4 * v, (u16)(realmode_none - realmode_start));
        put_u16(table + 4 * v + 2, segment);
    }
    for (size_t i = 0; i < ARRAY_SIZE(handlers); i++)
        put_u16(table + 4 * handlers[i].vector, (u16)(handlers[i].handler - realmode_start));
    memory_poke(config->memory, 0, table, sizeof(table));
}

static void bios_data_area(const struct firmware_config *config)
{
    u8 bda[BDA_SIZE] = {0};
    unsigned found = 0;

    for (unsigned n = 0; n < PC_SERIAL_PORTS; n++)
        if (config->serial_ports >> n & 1)
            put_u16(bda + BDA_COM + 2 * found++, pc_serial_port(n));
    put_u16(bda + BDA_EBDA, FIRMWARE_EBDA >> 4);
    put_u16(bda + BDA_EQUIPMENT, equipment(config));
    put_u16(bda + BDA_MEMORY, FIRMWARE_EBDA >> 10);
    put_u16(bda + BDA_KEYBOARD_HEAD, BDA_KEYBOARD_BUFFER);
    put_u16(bda + BDA_KEYBOARD_TAIL, BDA_KEYBOARD_BUFFER);
    put_u16(bda + BDA_KEYBOARD_START, BDA_KEYBOARD_BUFFER);
    put_u16(bda + BDA_KEYBOARD_END, BDA_KEYBOARD_BUFFER + 32);
    bda[BDA_KEYBOARD_TYPE] = 1 << 4;
    memory_poke(config->memory, BDA, bda, sizeof(bda));
}

/* Its first byte is its size in KiB; the FACS lies in it because it is reserved and can be written. */
static void extended_bios_data_area(const struct firmware_config *config)
{
    u8 ebda[FIRMWARE_EBDA_SIZE] = {FIRMWARE_EBDA_SIZE >> 10};

    acpi_facs(ebda + (FACS_ADDRESS - FIRMWARE_EBDA));
    memory_poke(config->memory, FIRMWARE_EBDA, ebda, sizeof(ebda));
}

void bios_build(const struct firmware_config *config, struct fseg *fseg)
{
    /* The reset vector: a far jump to code that stands still. A reset loads the kernel again, so that only a guest that
       jumps here by itself sees it. */
    enum { FAR_JUMP = 0xea };
    u16 segment = services(config, fseg);
    u8 *reset = fseg->bytes + FSEG_TABLES_END;

    reset[0] = FAR_JUMP;
    put_u16(reset + 1, (u16)(realmode_halt - realmode_start));
    put_u16(reset + 3, segment);
    interrupt_vectors(config, segment);
    bios_data_area(config);
    extended_bios_data_area(config);
}
