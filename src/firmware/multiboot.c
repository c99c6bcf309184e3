/*
 * Multiboot specification 0.6.96 ("multiboot 1"): a header in the first 8 KiB of the file; the kernel is an ELF file of
 * either class, or says itself where it goes (the a.out kludge). `--initrd` is a list of modules, as QEMU has it:
 * "FILE ARGS,FILE2 ARGS2", where ",," stands for a comma; each module's string is all of its element.
 */
#include <stdlib.h>
#include <string.h>

#include "firmware/load.h"

enum {
    HEADER_MAGIC = 0x1badb002,
    LOADER_MAGIC = 0x2badb002, /* in EAX */
    FLAG_VIDEO = 1 << 2,       /* wants a video mode: it is told there is none */
    FLAG_MUST_UNDERSTAND = 0xffff,
    FLAG_KNOWN = 1 << 0 | 1 << 1 | FLAG_VIDEO, /* modules on pages; memory information */
    FLAG_ADDRESSES = 1 << 16,
    HEADER_SIZE = 12,
    HEADER_SIZE_ADDRESSES = 32,
};

/* The information structure (3.3), all u32 but for what is said. */
enum {
    INFO_FLAGS = 0,
    INFO_MEM_LOWER = 4,
    INFO_MEM_UPPER = 8,
    INFO_CMDLINE = 16,
    INFO_MODULE_COUNT = 20,
    INFO_MODULES = 24,
    INFO_MAP_LENGTH = 44,
    INFO_MAP = 48,
    INFO_LOADER_NAME = 64,
    INFO_SIZE = 116,
    INFO_HAS_MEMORY = 1 << 0,
    INFO_HAS_CMDLINE = 1 << 2,
    INFO_HAS_MODULES = 1 << 3,
    INFO_HAS_MAP = 1 << 6,
    INFO_HAS_LOADER_NAME = 1 << 9,
    MODULE_SIZE = 16,    /* start, end, string, 0 */
    MAP_ENTRY_SIZE = 24, /* size of the rest, u32; start, size, u64; type, u32 */
};
enum { MAX_MODULES = 64 };

/* Offset of the header, or -1. */
static int find_header(const struct loader *loader)
{
    for (int at = 0; at + HEADER_SIZE <= LOAD_HEAD_SIZE; at += 4) {
        const u8 *h = loader->head + at;

        if (get_u32(h) == HEADER_MAGIC && (u32)(get_u32(h) + get_u32(h + 4) + get_u32(h + 8)) == 0)
            return at;
    }
    return -1;
}

bool multiboot_detect(const struct loader *loader)
{
    return find_header(loader) >= 0;
}

/* The a.out kludge (3.1.3): load the file from where load_addr would be. */
static int load_by_addresses(struct loader *loader, u32 header, u32 *entry, struct error *err)
{
    const u8 *h = loader->head + header;
    u32 header_addr = get_u32(h + 12), load = get_u32(h + 16), load_end = get_u32(h + 20),
        bss_end = get_u32(h + 24);
    u64 file_offset, size, memory_size;

    *entry = get_u32(h + 28);
    if (load > header_addr || header_addr - load > header)
        return load_file_bad(&loader->kernel, err, "its multiboot addresses are malformed; get another copy");
    file_offset = header - (header_addr - load);
    size = load_end ? (u64)load_end - load : loader->kernel.size - file_offset;
    if (load_end && load_end < load)
        return load_file_bad(&loader->kernel, err, "its multiboot addresses are malformed; get another copy");
    memory_size = bss_end > load + size ? bss_end - load : size;
    if (place_claim(&loader->place, &loader->kernel, load, memory_size, err) ||
        load_file_to_memory(&loader->kernel, file_offset, size, loader->config->memory, load, err))
        return -1;
    loader_zero(loader, load + size, memory_size - size);
    return 0;
}

static int load_elf(struct loader *loader, u32 *entry, struct error *err)
{
    struct elf_image image;

    if (!elf_detect(loader))
        return load_file_bad(
            &loader->kernel, err,
            "it is a multiboot kernel that is no ELF file and gives no addresses; get another copy");
    if (elf_open(loader, &image, err) || elf_load(loader, &image, err))
        return -1;
    if (elf_entry(&image) > UINT32_MAX)
        return load_file_bad(&loader->kernel, err,
                             "its entry point %#llx is not below 4 GiB; link it elsewhere",
                             (unsigned long long)elf_entry(&image));
    *entry = (u32)elf_entry(&image);
    return 0;
}

/* Put the file that `string` begins with in memory, and fill its entry of the module list. */
static int load_module(struct loader *loader, const char *string, u8 *entry, struct error *err)
{
    char path[4096];
    size_t length = strcspn(string, " ");
    struct load_file file;
    u64 start, string_at;
    int result;

    if (length >= sizeof(path))
        return error_set(err, "module %.60s...: the path is too long", string);
    memcpy(path, string, length);
    path[length] = '\0';
    if (load_file_open(&file, "module", path, err))
        return -1;
    result = loader_put_file(loader, &file, PC_LEGACY_HOLE_END, PC_LOW_RAM_END, false, &start, err);
    if (result == 0)
        result = loader_put_low(loader, string, strlen(string) + 1, 1, &string_at, err);
    load_file_close(&file);
    if (result)
        return -1;
    put_u32(entry, (u32)start);
    put_u32(entry + 4, (u32)(start + file.size));
    put_u32(entry + 8, (u32)string_at);
    return 0;
}

/* Cut the next element off a list in place: up to a comma that stands alone; two become one. Returns what follows, or
   NULL. */
static char *split_element(char *list)
{
    char *to = list, *from = list;

    while (*from) {
        if (from[0] == ',' && from[1] != ',') {
            *to = '\0';
            return from + 1;
        }
        if (from[0] == ',')
            from++;
        *to++ = *from++;
    }
    *to = '\0';
    return NULL;
}

static int load_modules(struct loader *loader, u8 *info, struct error *err)
{
    u8 entries[MAX_MODULES * MODULE_SIZE] = {0};
    char *list, *next;
    u32 count = 0;
    u64 at;
    int result = 0;

    if (!loader->request->initrd)
        return 0;
    list = strdup(loader->request->initrd);
    if (!list)
        return error_set(err, "out of memory for the list of modules");
    for (char *element = list; result == 0 && element; element = next) {
        next = split_element(element);
        if (count == MAX_MODULES)
            result = error_set(err, "--initrd names more than %d modules; give fewer", MAX_MODULES);
        else
            result = load_module(loader, element, entries + count++ * MODULE_SIZE, err);
    }
    free(list);
    if (result || loader_put_low(loader, entries, count * MODULE_SIZE, 4, &at, err))
        return -1;
    put_u32(info + INFO_FLAGS, get_u32(info + INFO_FLAGS) | INFO_HAS_MODULES);
    put_u32(info + INFO_MODULE_COUNT, count);
    put_u32(info + INFO_MODULES, (u32)at);
    return 0;
}

static int put_memory_map(struct loader *loader, u8 *info, struct error *err)
{
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(loader->config, map);
    u8 table[FIRMWARE_E820_MAX * MAP_ENTRY_SIZE];
    u64 at;

    for (unsigned i = 0; i < entries; i++) {
        put_u32(table + i * MAP_ENTRY_SIZE, MAP_ENTRY_SIZE - 4);
        memcpy(table + i * MAP_ENTRY_SIZE + 4, &map[i], sizeof(map[i]));
    }
    if (loader_put_low(loader, table, entries * MAP_ENTRY_SIZE, 4, &at, err))
        return -1;
    put_u32(info + INFO_MAP_LENGTH, entries * MAP_ENTRY_SIZE);
    put_u32(info + INFO_MAP, (u32)at);
    return 0;
}

/* The kernel's own name comes first, as every multiboot loader has it. */
static int put_cmdline(struct loader *loader, u8 *info, struct error *err)
{
    const char *name = loader->request->kernel, *cmdline = loader_cmdline(loader);
    size_t size = strlen(name) + 1 + strlen(cmdline) + 1;
    char *text = malloc(size);
    u64 at;
    int result;

    if (!text)
        return error_set(err, "out of memory for the command line");
    memcpy(text, name, strlen(name));
    text[strlen(name)] = ' ';
    memcpy(text + strlen(name) + 1, cmdline, strlen(cmdline) + 1);
    result = loader_put_low(loader, text, size, 1, &at, err);
    free(text);
    if (result == 0)
        put_u32(info + INFO_CMDLINE, (u32)at);
    return result;
}

int multiboot_load(struct loader *loader, struct error *err)
{
    static const char loader_name[] = "plastron";
    u32 header = (u32)find_header(loader);
    u32 flags = get_u32(loader->head + header + 4);
    u32 unknown = flags & FLAG_MUST_UNDERSTAND & ~(u32)FLAG_KNOWN;
    u8 info[INFO_SIZE] = {0};
    u64 name_at, info_at;
    u32 entry;

    if (unknown)
        return load_file_bad(&loader->kernel, err,
                             "its multiboot header asks for features %#x, which do not exist", unknown);
    if (flags & FLAG_ADDRESSES && header + HEADER_SIZE_ADDRESSES > LOAD_HEAD_SIZE)
        return load_file_bad(&loader->kernel, err, "its multiboot header is cut off; get another copy");
    if (flags & FLAG_ADDRESSES ? load_by_addresses(loader, header, &entry, err)
                               : load_elf(loader, &entry, err))
        return -1;
    if (entry_protected(loader, entry, err) || put_cmdline(loader, info, err) ||
        loader_put_low(loader, loader_name, sizeof(loader_name), 1, &name_at, err) ||
        put_memory_map(loader, info, err))
        return -1;
    put_u32(info + INFO_FLAGS, INFO_HAS_MEMORY | INFO_HAS_CMDLINE | INFO_HAS_MAP | INFO_HAS_LOADER_NAME);
    put_u32(info + INFO_MEM_LOWER, FIRMWARE_EBDA >> 10);
    put_u32(info + INFO_MEM_UPPER, (u32)((loader->place.low_end - PC_LEGACY_HOLE_END) >> 10));
    put_u32(info + INFO_LOADER_NAME, (u32)name_at);
    if (load_modules(loader, info, err) || loader_put_low(loader, info, sizeof(info), 4, &info_at, err))
        return -1;
    loader->state->gpr[RAX] = LOADER_MAGIC;
    loader->state->gpr[RBX] = info_at;
    return 0;
}
