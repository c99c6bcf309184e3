#include "firmware/loader.h"

#include <string.h>

#include "firmware/load.h"

const char *loader_cmdline(const struct loader *loader)
{
    return loader->request->cmdline ? loader->request->cmdline : "";
}

int loader_put_low(struct loader *loader, const void *bytes, u64 len, u64 align, u64 *start,
                   struct error *err)
{
    if (!place_high(&loader->place, len, align, PLACE_LOW, FIRMWARE_EBDA, start))
        return load_file_bad(&loader->kernel, err,
                             "it leaves no %llu bytes below 640 KiB for its boot information",
                             (unsigned long long)len);
    memory_poke(loader->config->memory, *start, bytes, len);
    return 0;
}

void loader_zero(struct loader *loader, u64 start, u64 size)
{
    static const u8 zeroes[PAGE_SIZE];

    while (size) {
        u64 chunk = size < sizeof(zeroes) ? size : sizeof(zeroes);

        memory_poke(loader->config->memory, start, zeroes, chunk);
        start += chunk;
        size -= chunk;
    }
}

int loader_put_file(struct loader *loader, const struct load_file *file, u64 from, u64 to, bool high,
                    u64 *start, struct error *err)
{
    bool room = high ? place_high(&loader->place, file->size, PAGE_SIZE, from, to, start)
                     : place_low(&loader->place, file->size, PAGE_SIZE, from, to, start);

    if (!room)
        return load_file_bad(file, err,
                             "its %llu KiB do not fit in the memory beside the kernel; give --memory more",
                             (unsigned long long)((file->size + 1023) >> 10));
    return load_file_to_memory(file, 0, file->size, loader->config->memory, *start, err);
}

static int load_by_format(struct loader *loader, struct error *err)
{
    if (loader->kernel.size == 0)
        return load_file_bad(&loader->kernel, err, "the file is empty; give a kernel");
    if (load_file_read(&loader->kernel, 0, loader->head,
                       loader->kernel.size < LOAD_HEAD_SIZE ? loader->kernel.size : LOAD_HEAD_SIZE, err))
        return -1;
    if (linux_detect(loader))
        return linux_load(loader, err);
    if (multiboot_detect(loader)) /* before ELF: a multiboot kernel usually is one */
        return multiboot_load(loader, err);
    if (elf_detect(loader))
        return pvh_load(loader, err);
    return load_file_bad(
        &loader->kernel, err,
        "unknown format; give a Linux bzImage, an ELF file with a PVH note, or a multiboot kernel");
}

int loader_load(const struct loader_request *request, const struct firmware_config *config,
                struct vcpu_state *state, struct error *err)
{
    struct loader loader = {.request = request, .config = config, .state = state};
    int result;

    if (load_file_open(&loader.kernel, "kernel", request->kernel, err))
        return -1;
    place_init(&loader.place, config->ram_size);
    result = load_by_format(&loader, err);
    load_file_close(&loader.kernel);
    return result;
}
