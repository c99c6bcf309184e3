/*
 * A kernel file of any content: it is loaded or refused with one sentence. The first byte of the input chooses whether there
 * is an initrd, a command line and a 64-bit processor; the rest is the file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "firmware/loader.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

enum { WITH_INITRD = 1, WITH_CMDLINE = 2, WITH_LONG_MODE = 4, WITH_RSDP = 8 };

struct file {
    int fd;
    char path[40];
};

static void file_open(struct file *file)
{
    file->fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (file->fd < 0)
        abort();
    snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
}

static void file_set(const struct file *file, const void *bytes, size_t size)
{
    if (ftruncate(file->fd, 0) || pwrite(file->fd, bytes, size, 0) != (ssize_t)size)
        abort();
}

/* Made once: a loaded file leaves nothing that the next one could trip over but bytes in guest memory. */
struct setting {
    struct memory memory;
    struct mem_region ram;
    struct file kernel, initrd;
};

static struct setting *setting_new(void)
{
    struct setting *s = calloc(1, sizeof(*s));

    if (!s || memory_init(&s->memory, NULL))
        abort();
    s->ram =
        (struct mem_region){.size = MIB(16), .enabled = true, .read = true, .write = true, .name = "ram"};
    s->ram.block = memory_add_block(&s->memory, "ram", s->ram.size, false, NULL);
    if (!s->ram.block || memory_add_region(&s->memory, &s->ram, NULL))
        abort();
    memory_commit(&s->memory);
    file_open(&s->kernel);
    file_open(&s->initrd);
    file_set(&s->initrd, "070701 and so on", 16);
    return s;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct setting *s;
    struct vcpu_state state;
    struct error err = {0};

    if (!size)
        return 0;
    if (!s)
        s = setting_new();
    file_set(&s->kernel, data + 1, size - 1);

    const struct firmware_config config = {
        .memory = &s->memory,
        .ram_size = s->ram.size,
        .cpus = 1,
        .cpuid_signature = 0x806f8,
        .cpuid_features = 0x0f8bfbff,
        .phys_bits = 40,
        .long_mode = data[0] & WITH_LONG_MODE,
        .serial_ports = 1,
    };
    const struct loader_request request = {
        .kernel = s->kernel.path,
        .initrd = data[0] & WITH_INITRD ? s->initrd.path : NULL,
        .cmdline = data[0] & WITH_CMDLINE ? "console=ttyS0 quiet" : NULL,
        .rsdp = data[0] & WITH_RSDP ? 0xf0000 : 0,
    };
    vcpu_state_reset(&state, true, 0);
    if (loader_load(&request, &config, &state, &err)) {
        if (!err.text[0] || strchr(err.text, '\n'))
            abort();
    }
    return 0;
}
