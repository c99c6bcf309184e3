#include "firmware/firmware.h"
#include "firmware/load.h"

int firmware_rom_load(struct firmware_rom *rom, struct memory *memory, const char *path, int priority,
                      struct error *err)
{
    enum { UNIT = 64 << 10 };
    struct load_file file;
    u64 alias_size;
    int result;

    if (load_file_open(&file, "firmware", path, err))
        return -1;
    if (file.size < FIRMWARE_ROM_MIN || file.size > FIRMWARE_ROM_MAX || file.size % UNIT) {
        load_file_bad(&file, err, "it has %llu bytes; a ROM has a multiple of 64 KiB, from 64 KiB to 16 MiB",
                      (unsigned long long)file.size);
        load_file_close(&file);
        return -1;
    }
    rom->block = memory_add_block(memory, "rom", file.size, true, err);
    result = rom->block ? load_file_read(&file, 0, rom->block->host, file.size, err) : -1;
    load_file_close(&file);
    if (result)
        return -1;
    alias_size = file.size < PC_ROM_ALIAS_MAX ? file.size : PC_ROM_ALIAS_MAX;
    rom->high = (struct mem_region){
        .start = PC_ROM_END - file.size,
        .size = file.size,
        .priority = priority,
        .enabled = true,
        .read = true,
        .write = true, /* and it is lost */
        .block = rom->block,
        .name = "rom",
    };
    rom->alias = rom->high;
    rom->alias.start = PC_ROM_ALIAS_END - alias_size;
    rom->alias.size = alias_size;
    rom->alias.block_offset = file.size - alias_size;
    rom->alias.name = "rom alias";
    if (memory_add_region(memory, &rom->high, err))
        return -1;
    if (memory_add_region(memory, &rom->alias, err)) {
        memory_remove_region(memory, &rom->high);
        return -1;
    }
    return 0;
}
