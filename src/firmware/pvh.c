/*
 * The x86/HVM direct boot ABI of Xen ("PVH", docs/misc/pvh.pandoc): an ELF file whose note tells a 32-bit entry point, which
 * gets a pointer to a start-info structure in EBX.
 */
#include <stdlib.h>
#include <string.h>

#include "firmware/load.h"

enum { XEN_ELFNOTE_PHYS32_ENTRY = 18 };

/* struct hvm_start_info, version 1, and what it points to: all fields little-endian. */
enum {
    START_MAGIC_VALUE = 0x336ec578,
    START_MAGIC = 0,
    START_VERSION = 4,
    START_MODULES = 12,     /* number */
    START_MODULE_LIST = 16, /* addresses, u64 */
    START_CMDLINE = 24,
    START_RSDP = 32,
    START_MEMORY_MAP = 40,
    START_MEMORY_ENTRIES = 48,
    START_SIZE = 56,
    MODULE_ADDRESS = 0, /* then size, command line, reserved; u64 each */
    MODULE_LENGTH = 8,
    MODULE_SIZE = 32,
    MAP_ENTRY_SIZE = 24, /* start, size, u64; type, reserved, u32 */
};

/* Look for the entry note in one note segment. Returns 1 when found, 0 when it is not there, -1. */
static int find_note(struct loader *loader, const struct elf_segment *segment, u64 *entry, struct error *err)
{
    enum { NOTE_HEADER = 12, NOTES_MAX = 64 << 10, NAME_SIZE = 4 };
    u64 size = segment->filesz < NOTES_MAX ? segment->filesz : NOTES_MAX;
    u8 *notes = malloc(size ? size : 1);
    int found = 0;

    if (!notes)
        return error_set(err, "out of memory reading the kernel's notes");
    if (load_file_read(&loader->kernel, segment->offset, notes, size, err)) {
        free(notes);
        return -1;
    }
    for (u64 at = 0; !found && size - at >= NOTE_HEADER;) {
        u64 name_size = get_u32(notes + at), desc_size = get_u32(notes + at + 4);
        u32 type = get_u32(notes + at + 8);
        u64 name = at + NOTE_HEADER;
        u64 desc = name + align_up(name_size, 4);

        if (desc > size || desc_size > size - desc)
            break;
        if (type == XEN_ELFNOTE_PHYS32_ENTRY && name_size == NAME_SIZE &&
            memcmp(notes + name, "Xen", 4) == 0 && (desc_size == 4 || desc_size == 8)) {
            *entry = desc_size == 4 ? get_u32(notes + desc) : get_u64(notes + desc);
            found = 1;
        }
        at = desc + align_up(desc_size, 4);
        if (at > size)
            break;
    }
    free(notes);
    return found;
}

static int find_entry(struct loader *loader, const struct elf_image *image, u64 *entry, struct error *err)
{
    for (unsigned i = 0; i < image->count; i++) {
        int found =
            image->segments[i].type == ELF_NOTE ? find_note(loader, &image->segments[i], entry, err) : 0;

        if (found < 0)
            return -1;
        if (found && *entry <= UINT32_MAX)
            return 0;
        if (found)
            return load_file_bad(&loader->kernel, err,
                                 "its PVH entry point %#llx is not below 4 GiB; get another copy",
                                 (unsigned long long)*entry);
    }
    return load_file_bad(
        &loader->kernel, err,
        "this ELF file has neither a PVH note nor a multiboot header; give a bzImage instead");
}

static int load_module(struct loader *loader, u8 *start, struct error *err)
{
    u8 module[MODULE_SIZE] = {0};
    struct load_file initrd;
    u64 address, list;
    int result;

    if (!loader->request->initrd)
        return 0;
    if (load_file_open(&initrd, "initrd", loader->request->initrd, err))
        return -1;
    result = loader_put_file(loader, &initrd, PC_LEGACY_HOLE_END, PC_LOW_RAM_END, true, &address, err);
    put_u64(module + MODULE_LENGTH, initrd.size);
    load_file_close(&initrd);
    if (result)
        return -1;
    put_u64(module + MODULE_ADDRESS, address);
    if (loader_put_low(loader, module, sizeof(module), 8, &list, err))
        return -1;
    put_u32(start + START_MODULES, 1);
    put_u64(start + START_MODULE_LIST, list);
    return 0;
}

static int put_memory_map(struct loader *loader, u8 *start, struct error *err)
{
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(loader->config, map);
    u8 table[FIRMWARE_E820_MAX * MAP_ENTRY_SIZE] = {0};
    u64 at;

    for (unsigned i = 0; i < entries; i++)
        memcpy(table + i * MAP_ENTRY_SIZE, &map[i], sizeof(map[i]));
    if (loader_put_low(loader, table, entries * MAP_ENTRY_SIZE, 8, &at, err))
        return -1;
    put_u64(start + START_MEMORY_MAP, at);
    put_u32(start + START_MEMORY_ENTRIES, entries);
    return 0;
}

int pvh_load(struct loader *loader, struct error *err)
{
    const char *cmdline = loader_cmdline(loader);
    u8 start[START_SIZE] = {0};
    struct elf_image image;
    u64 entry = 0, cmdline_at, start_at;

    if (elf_open(loader, &image, err) || find_entry(loader, &image, &entry, err) ||
        elf_load(loader, &image, err) || entry_protected(loader, (u32)entry, err) ||
        load_module(loader, start, err) || put_memory_map(loader, start, err) ||
        loader_put_low(loader, cmdline, strlen(cmdline) + 1, 16, &cmdline_at, err))
        return -1;
    put_u32(start + START_MAGIC, START_MAGIC_VALUE);
    put_u32(start + START_VERSION, 1);
    put_u64(start + START_CMDLINE, cmdline_at);
    put_u64(start + START_RSDP, loader->request->rsdp);
    if (loader_put_low(loader, start, sizeof(start), 8, &start_at, err))
        return -1;
    loader->state->gpr[RBX] = start_at;
    return 0;
}
