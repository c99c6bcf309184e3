/*
 * The snapshot reader, and behind it the checks of every loaded state: a file whose checksums are right but whose content
 * is an enemy's is refused, or gives a machine that can run.
 *
 * The input is a list of changes to a good snapshot of a small pc-1, 5 bytes each: u32 where (modulo the size), u8 what;
 * or, when its first byte is FFh, the whole file after that byte.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board/pc.h"
#include "snapshot/format.h"
#include "snapshot/snapshot.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

enum { RUN_INSNS = 3000, RUN_NS = 1000000, CHANGE_BYTES = 5 };

static struct vm *new_vm(void)
{
    struct pc_config config = {.vm = {.name = "fuzz",
                                      .ram_size = MIB(1),
                                      .vcpus = 1,
                                      .clock = CLOCK_ICOUNT,
                                      .no_reboot = true,
                                      .random_seed = 1,
                                      .rtc_start = 1000000000}};
    struct error err;
    struct vm *vm;

    if (cpu_model_parse("max", &config.vm.cpu, &err))
        abort();
    vm = pc_new(&config, true, &err);
    if (!vm)
        abort();
    return vm;
}

/* The good snapshot, made once. */
static const u8 *good(size_t *size)
{
    static u8 *bytes;
    static size_t len;

    if (!bytes) {
        char path[] = "/tmp/fuzz-snapshot-XXXXXX";
        struct vm *vm = new_vm();
        struct error err;
        int fd = mkstemp(path);

        if (fd < 0 || !memory_poke(&vm->memory, 0x1000, "memory", 6) || snapshot_save(vm, path, "{}", &err))
            abort();
        close(fd);
        fd = open(path, O_RDONLY);
        len = (size_t)lseek(fd, 0, SEEK_END);
        bytes = malloc(len);
        if (!bytes || pread(fd, bytes, len, 0) != (ssize_t)len)
            abort();
        close(fd);
        unlink(path);
        vm_free(vm);
    }
    *size = len;
    return bytes;
}

/* Make the header and every checksum right. */
static void reseal(u8 *file, size_t size)
{
    struct snapshot_header header = {.magic = SNAPSHOT_MAGIC, .version = SNAPSHOT_VERSION, .file_size = size};
    size_t at = sizeof(header);

    if (size < sizeof(header))
        return;
    header.checksum = snapshot_header_checksum(&header);
    memcpy(file, &header, sizeof(header));
    for (u64 position = 0; size - at >= sizeof(struct snapshot_chunk); position++) {
        struct snapshot_chunk chunk;

        memcpy(&chunk, file + at, sizeof(chunk));
        if (chunk.size > size - at - sizeof(chunk))
            return;
        chunk.checksum = snapshot_chunk_checksum(&chunk, file + at + sizeof(chunk), position);
        memcpy(file + at, &chunk, sizeof(chunk));
        at += sizeof(chunk) + chunk.size;
    }
}

static u8 *make_file(const u8 *data, size_t size, size_t *file_size)
{
    const u8 *base = good(file_size);
    u8 *file;

    if (size && data[0] == 0xff) {
        *file_size = size - 1;
        file = malloc(size);
        if (file)
            memcpy(file, data + 1, size - 1);
        return file;
    }
    file = malloc(*file_size);
    if (!file)
        return NULL;
    memcpy(file, base, *file_size);
    for (; size >= CHANGE_BYTES; data += CHANGE_BYTES, size -= CHANGE_BYTES) {
        u32 where;

        memcpy(&where, data, sizeof(where));
        file[where % *file_size] = data[4];
    }
    return file;
}

static void stop(void *opaque)
{
    vm_stop(opaque);
}

/* A guest that halts for good would sleep for ever: a timer ends the run. */
static void run_a_little(struct vm *vm)
{
    struct timer timer;

    timer_init(&timer, &vm->timers, stop, vm);
    timer_arm(&timer, clock_now(&vm->clock) + RUN_NS);
    vm_run(vm, RUN_INSNS);
    timer_disarm(&timer);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    char path[64];
    size_t file_size;
    u8 *file = make_file(data, size, &file_size);
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct error err = {.text = ""};
    struct snapshot *snapshot;

    if (!file || fd < 0)
        abort();
    reseal(file, file_size);
    if (pwrite(fd, file, file_size, 0) != (ssize_t)file_size)
        abort();
    free(file);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    snapshot = snapshot_open(path, &err);
    if (snapshot) {
        struct vm *vm = new_vm();

        if (snapshot_restore(snapshot, vm, &err) == 0)
            run_a_little(vm);
        vm_free(vm);
        snapshot_close(snapshot);
    }
    close(fd);
    return 0;
}
