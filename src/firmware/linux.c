/*
 * The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst), versions 2.02 and later.
 *
 * A bzImage is a boot sector and real-mode set-up code with the header in it, then the protected-mode kernel. Three ways in:
 *
 *   64-bit   the header says XLF_KERNEL_64 and the CPU has long mode: past the set-up code, which never runs
 *   32-bit   otherwise: the same, at the kernel's first byte
 *   16-bit   no high kernel (zImage), or code32_start is 0: through the set-up code, which calls the BIOS (realmode.S)
 *
 * In the first two the loader fills the "zero page" (struct boot_params) that the set-up code would have filled.
 */
#include <string.h>

#include "firmware/load.h"

/* Offsets in the file, and in the zero page, where the header has the same place (boot.rst, "The real-mode kernel header"). */
enum {
    HDR_START = 0x1f1, /* setup_sects */
    HDR_SYSSIZE = 0x1f4,
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP_LENGTH = 0x201, /* the header ends at 202h + this */
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_TYPE_OF_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_CODE32_START = 0x214,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_HEAP_END = 0x224,
    HDR_CMDLINE = 0x228,
    HDR_INITRD_MAX = 0x22c,   /* 2.03 */
    HDR_ALIGNMENT = 0x230,    /* 2.05 */
    HDR_RELOCATABLE = 0x234,  /* 2.05 */
    HDR_XLOADFLAGS = 0x236,   /* 2.12 */
    HDR_CMDLINE_SIZE = 0x238, /* 2.06 */
    HDR_PREF_ADDRESS = 0x258, /* 2.10 */
    HDR_INIT_SIZE = 0x260,    /* 2.10 */
    HDR_END_MAX = 0x290,      /* the zero page goes on with other things */
};
enum {
    MAGIC = 0x53726448, /* "HdrS" */
    BOOT_FLAG = 0xaa55,
    LOADED_HIGH = 1 << 0,
    CAN_USE_HEAP = 1 << 7,
    XLF_KERNEL_64 = 1 << 0,
    LOADER_UNKNOWN = 0xff,
    SECTOR = 512,
    HIGH_LOAD_ADDRESS = 0x100000,
    LOW_LOAD_ADDRESS = 0x10000,
    ENTRY_64_OFFSET = 0x200,
    MAX_ALIGNMENT = 1 << 30,
};
/* The zero page beside the header. */
enum {
    ZERO_PAGE_SIZE = 4096,
    ZP_EXT_MEMORY = 0x002, /* KiB above 1 MiB, at most 64 MiB; u16 */
    ZP_RSDP = 0x070,       /* 2.14 */
    ZP_ALT_MEMORY = 0x1e0, /* KiB above 1 MiB, u32 */
    ZP_E820_ENTRIES = 0x1e8,
    ZP_E820 = 0x2d0,
};

struct linux_kernel {
    u16 version;
    u8 loadflags;
    u16 xloadflags;
    u32 code32_start;
    u64 setup_size;               /* boot sector and set-up code: offset of the kernel in the file */
    u64 size;                     /* of the kernel */
    u64 load, runtime, init_size; /* where it goes; where it will unpack itself to, and what that needs */
    u64 initrd, initrd_size;
    u64 initrd_max; /* highest address an initrd may occupy */
    u32 cmdline_max;
};

bool linux_detect(const struct loader *loader)
{
    return get_u16(loader->head + HDR_BOOT_FLAG) == BOOT_FLAG && get_u32(loader->head + HDR_MAGIC) == MAGIC;
}

static bool enters_real_mode(const struct linux_kernel *kernel)
{
    return !(kernel->loadflags & LOADED_HIGH) || kernel->code32_start == 0;
}

static int parse_header(struct loader *loader, struct linux_kernel *kernel, struct error *err)
{
    const u8 *h = loader->head;
    u64 promised = (u64)get_u32(h + HDR_SYSSIZE) * 16;

    kernel->version = get_u16(h + HDR_VERSION);
    if (kernel->version < 0x202)
        return load_file_bad(&loader->kernel, err,
                             "its boot protocol %u.%02u is older than 2.02; give a newer kernel",
                             kernel->version >> 8, kernel->version & 0xff);
    kernel->loadflags = h[HDR_LOADFLAGS];
    kernel->code32_start = get_u32(h + HDR_CODE32_START);
    kernel->xloadflags = kernel->version >= 0x20c ? get_u16(h + HDR_XLOADFLAGS) : 0;
    kernel->initrd_max = kernel->version >= 0x203 ? get_u32(h + HDR_INITRD_MAX) : 0x37ffffff;
    kernel->cmdline_max = kernel->version >= 0x206 ? get_u32(h + HDR_CMDLINE_SIZE) : 255;
    kernel->setup_size = ((h[HDR_START] ? h[HDR_START] : 4) + 1) * (u64)SECTOR;

    if (loader->kernel.size <= kernel->setup_size)
        return load_file_bad(&loader->kernel, err, "the file is truncated at byte %llu; get a complete copy",
                             (unsigned long long)loader->kernel.size);
    kernel->size = loader->kernel.size - kernel->setup_size;
    /* syssize has its full width since 2.04; it counts 16-byte units, the last of which may be cut. */
    if (kernel->version >= 0x204 && kernel->size + 15 < promised)
        return load_file_bad(
            &loader->kernel, err, "the file is truncated: it has %llu bytes of %llu; get a complete copy",
            (unsigned long long)loader->kernel.size, (unsigned long long)(kernel->setup_size + promised));
    if (strlen(loader_cmdline(loader)) > kernel->cmdline_max)
        return load_file_bad(&loader->kernel, err,
                             "it takes a command line of up to %u bytes; shorten --append",
                             kernel->cmdline_max);
    return 0;
}

/* Choose the load address and claim what the kernel occupies until it runs. */
static int place_kernel(struct loader *loader, struct linux_kernel *kernel, struct error *err)
{
    const u8 *h = loader->head;
    bool relocatable = kernel->version >= 0x205 && h[HDR_RELOCATABLE];
    u64 alignment = kernel->version >= 0x205 ? get_u32(h + HDR_ALIGNMENT) : 1;
    u64 preferred = kernel->version >= 0x20a ? get_u64(h + HDR_PREF_ADDRESS) : HIGH_LOAD_ADDRESS;
    u64 end;

    kernel->init_size = kernel->version >= 0x20a ? get_u32(h + HDR_INIT_SIZE) : 0;
    kernel->load = kernel->runtime = kernel->loadflags & LOADED_HIGH ? HIGH_LOAD_ADDRESS : LOW_LOAD_ADDRESS;
    if (!enters_real_mode(kernel) && kernel->version >= 0x20a) {
        if (alignment == 0 || (alignment & (alignment - 1)) || alignment > MAX_ALIGNMENT ||
            preferred < HIGH_LOAD_ADDRESS || preferred >= PC_HIGH_RAM)
            return load_file_bad(&loader->kernel, err,
                                 "its header is malformed (address %#llx, alignment %#llx)",
                                 (unsigned long long)preferred, (unsigned long long)alignment);
        kernel->runtime = preferred;
        if (relocatable) {
            /* It runs at the address it prefers if that has the memory, else as low as it may. */
            u64 need = kernel->init_size > kernel->size ? kernel->init_size : kernel->size;

            if (align_up(preferred, alignment) + need > loader->place.low_end)
                preferred = align_up(HIGH_LOAD_ADDRESS, alignment);
            kernel->load = preferred;
            kernel->runtime = align_up(preferred, alignment);
        }
    }
    end = kernel->load + kernel->size;
    if (kernel->runtime + kernel->init_size > end)
        end = kernel->runtime + kernel->init_size;
    return place_claim(&loader->place, &loader->kernel, kernel->load, end - kernel->load, err);
}

static int load_initrd(struct loader *loader, struct linux_kernel *kernel, struct error *err)
{
    struct load_file initrd;
    int result;

    if (!loader->request->initrd)
        return 0;
    if (load_file_open(&initrd, "initrd", loader->request->initrd, err))
        return -1;
    result = loader_put_file(loader, &initrd, HIGH_LOAD_ADDRESS, kernel->initrd_max + 1, true,
                             &kernel->initrd, err);
    kernel->initrd_size = initrd.size;
    load_file_close(&initrd);
    return result;
}

/* What a boot loader writes into the header, in the zero page as in the set-up code. */
static void fill_header(u8 *header, const struct linux_kernel *kernel, u64 cmdline)
{
    header[HDR_TYPE_OF_LOADER] = LOADER_UNKNOWN;
    put_u32(header + HDR_CMDLINE, (u32)cmdline);
    put_u32(header + HDR_RAMDISK_IMAGE, (u32)kernel->initrd);
    put_u32(header + HDR_RAMDISK_SIZE, (u32)kernel->initrd_size);
}

static void fill_memory_map(struct loader *loader, u8 *page)
{
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(loader->config, map);
    u32 extended_kib = (u32)((loader->place.low_end - PC_LEGACY_HOLE_END) >> 10);

    page[ZP_E820_ENTRIES] = (u8)entries;
    memcpy(page + ZP_E820, map, entries * sizeof(map[0]));
    put_u16(page + ZP_EXT_MEMORY, (u16)(extended_kib < 0xfc00 ? extended_kib : 0xfc00));
    put_u32(page + ZP_ALT_MEMORY, extended_kib);
}

static int enter_directly(struct loader *loader, struct linux_kernel *kernel, struct error *err)
{
    const char *cmdline = loader_cmdline(loader);
    u32 header_end = HDR_MAGIC + loader->head[HDR_JUMP_LENGTH];
    bool long_mode = kernel->xloadflags & XLF_KERNEL_64 && loader->config->long_mode;
    u64 entry =
        long_mode ? kernel->load + ENTRY_64_OFFSET : kernel->load + kernel->code32_start - HIGH_LOAD_ADDRESS;
    u8 page[ZERO_PAGE_SIZE] = {0};
    u64 cmdline_at, page_at;

    if (entry < kernel->load || entry - kernel->load >= kernel->size)
        return load_file_bad(&loader->kernel, err, "its entry point %#llx lies outside it; get another copy",
                             (unsigned long long)entry);
    /* Old kernels use the memory below the zero page as scratch while they unpack, so it goes lowest, after the GDT. */
    if (long_mode ? entry_long(loader, entry, err) : entry_protected(loader, (u32)entry, err))
        return -1;
    if (loader_put_low(loader, cmdline, strlen(cmdline) + 1, 16, &cmdline_at, err))
        return -1;
    if (header_end > HDR_END_MAX)
        header_end = HDR_END_MAX;
    memcpy(page + HDR_START, loader->head + HDR_START, header_end - HDR_START);
    fill_header(page, kernel, cmdline_at);
    put_u32(page + HDR_CODE32_START, (u32)kernel->load);
    fill_memory_map(loader, page);
    if (kernel->version >= 0x20e)
        put_u64(page + ZP_RSDP, loader->request->rsdp);
    if (loader_put_low(loader, page, sizeof(page), PAGE_SIZE, &page_at, err))
        return -1;
    loader->state->gpr[RSI] = page_at;
    return 0;
}

/* The set-up code moves a low kernel down over LOW_LOAD_ADDRESS by itself, and a high one stays, so the places are fixed
   (boot.rst, "The kernel command line" and "Running the kernel"). */
static int enter_real_mode(struct loader *loader, struct linux_kernel *kernel, struct error *err)
{
    enum {
        SETUP_LOW = 0x90000,
        SETUP_HIGH = 0x10000,
        HEAP_END_LOW = 0x9800,
        HEAP_END_HIGH = 0xe000,
        STACK = 0x200
    };
    const char *cmdline = loader_cmdline(loader);
    bool high = kernel->loadflags & LOADED_HIGH;
    u64 setup = high ? SETUP_HIGH : SETUP_LOW;
    u32 heap_end = high ? HEAP_END_HIGH : HEAP_END_LOW;
    u8 header[HDR_END_MAX];
    u64 cmdline_at;

    if (kernel->setup_size > heap_end - STACK)
        return load_file_bad(&loader->kernel, err, "its set-up code of %llu bytes is too long to be run",
                             (unsigned long long)kernel->setup_size);
    if (place_claim(&loader->place, &loader->kernel, setup, heap_end, err) ||
        load_file_to_memory(&loader->kernel, 0, kernel->setup_size, loader->config->memory, setup, err))
        return -1;
    if (!place_low(&loader->place, strlen(cmdline) + 1, 16, setup + heap_end, FIRMWARE_EBDA, &cmdline_at))
        return load_file_bad(&loader->kernel, err,
                             "its command line has no room below 640 KiB; shorten --append");
    memory_poke(loader->config->memory, cmdline_at, cmdline, strlen(cmdline) + 1);

    memcpy(header, loader->head, sizeof(header));
    fill_header(header, kernel, cmdline_at);
    header[HDR_LOADFLAGS] |= CAN_USE_HEAP;
    put_u16(header + HDR_HEAP_END, (u16)(heap_end - STACK));
    memory_poke(loader->config->memory, setup + HDR_START, header + HDR_START, HDR_CMDLINE + 4 - HDR_START);
    entry_real(loader, (u16)((setup + 0x200) >> 4), (u16)(setup >> 4), (u16)heap_end);
    return 0;
}

int linux_load(struct loader *loader, struct error *err)
{
    struct linux_kernel kernel = {0};

    if (parse_header(loader, &kernel, err) || place_kernel(loader, &kernel, err) ||
        load_file_to_memory(&loader->kernel, kernel.setup_size, kernel.size, loader->config->memory,
                            kernel.load, err) ||
        load_initrd(loader, &kernel, err))
        return -1;
    return enters_real_mode(&kernel) ? enter_real_mode(loader, &kernel, err)
                                     : enter_directly(loader, &kernel, err);
}
