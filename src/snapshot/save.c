#include "snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "machine/async.h"
#include "machine/vm.h"
#include "machine/vm_state.h"
#include "snapshot/format.h"

enum { ZSTD_LEVEL = 1 };

struct writer {
    int fd;
    const char *path; /* for messages: the name that the file will have */
    u64 position;     /* of the next chunk in the order of chunks */
    u64 written;      /* bytes */
    struct error *err;

    /* PAGES under way */
    ZSTD_CCtx *zstd;
    u32 npages;
    u64 page_numbers[SNAPSHOT_MAX_PAGES];
    const u8 *pages[SNAPSHOT_MAX_PAGES];
    u8 *raw, *packed; /* buffers for a full chunk */
};

enum { PAGES_HEAD = 8, RAW_MAX = PAGES_HEAD + SNAPSHOT_MAX_PAGES * (sizeof(u64) + PAGE_SIZE) };

static int put(struct writer *w, const void *bytes, size_t len)
{
    const u8 *from = bytes;

    w->written += len;
    while (len) {
        ssize_t n = write(w->fd, from, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(w->err, errno, "cannot write %s", w->path);
        from += n;
        len -= (size_t)n;
    }
    return 0;
}

static int put_chunk(struct writer *w, enum snapshot_chunk_type type, const void *payload, u64 size,
                     u64 raw_size)
{
    struct snapshot_chunk chunk = {.type = type, .size = size, .raw_size = raw_size};

    chunk.checksum = snapshot_chunk_checksum(&chunk, payload, w->position++);
    return put(w, &chunk, sizeof(chunk)) || put(w, payload, size) ? -1 : 0;
}

/* ---- State ---- */

static void put_section(void *opaque, const struct state_section *section)
{
    struct state_buf *buf = opaque;
    u8 name_len = (u8)strlen(section->name);
    size_t size_at, start;
    u32 size = 0;

    state_buf_put(buf, &name_len, 1);
    state_buf_put(buf, section->name, name_len);
    size_at = buf->len;
    state_buf_put(buf, &size, sizeof(size));
    start = buf->len;
    state_save(section->table, section->object, buf);
    if (!buf->failed) {
        size = (u32)(buf->len - start);
        memcpy(buf->data + size_at, &size, sizeof(size));
    }
}

static int put_state(struct writer *w, struct vm *vm)
{
    struct state_buf buf = {0};
    int result;

    vm_state_sections(vm, put_section, &buf);
    if (buf.failed || buf.len > SNAPSHOT_MAX_STATE)
        result = error_set(w->err, "cannot write %s: out of memory", w->path);
    else
        result = put_chunk(w, SNAPSHOT_STATE, buf.data, buf.len, buf.len);
    state_buf_free(&buf);
    return result;
}

/* ---- Memory ---- */

static int flush_pages(struct writer *w)
{
    u8 *at = w->raw + PAGES_HEAD;
    size_t packed;

    if (w->npages == 0)
        return 0;
    memset(w->raw, 0, PAGES_HEAD);
    memcpy(w->raw, &w->npages, sizeof(w->npages));
    memcpy(at, w->page_numbers, w->npages * sizeof(u64));
    at += w->npages * sizeof(u64);
    for (u32 i = 0; i < w->npages; i++, at += PAGE_SIZE)
        memcpy(at, w->pages[i], PAGE_SIZE);
    packed = ZSTD_compressCCtx(w->zstd, w->packed, ZSTD_compressBound(RAW_MAX), w->raw, (size_t)(at - w->raw),
                               ZSTD_LEVEL);
    if (ZSTD_isError(packed))
        return error_set(w->err, "cannot write %s: %s", w->path, ZSTD_getErrorName(packed));
    w->npages = 0;
    return put_chunk(w, SNAPSHOT_PAGES, w->packed, packed, (u64)(at - w->raw));
}

static bool is_zero(const u8 *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

/* Only what the memfd holds is looked at: the rest is zero, and a look would make it take up memory. */
static int put_block(struct writer *w, const struct mem_block *block)
{
    u8 head[sizeof(u64) + sizeof(block->name)];
    size_t name_len = strlen(block->name);
    off_t at = 0;

    memcpy(head, &block->size, sizeof(u64));
    memcpy(head + sizeof(u64), block->name, name_len);
    if (put_chunk(w, SNAPSHOT_BLOCK, head, sizeof(u64) + name_len, sizeof(u64) + name_len))
        return -1;
    while ((at = lseek(block->fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(block->fd, at, SEEK_HOLE);

        for (; at < end; at += PAGE_SIZE) {
            if (is_zero(block->host + at))
                continue;
            w->page_numbers[w->npages] = (u64)at >> PAGE_SHIFT;
            w->pages[w->npages++] = block->host + at;
            if (w->npages == SNAPSHOT_MAX_PAGES && flush_pages(w))
                return -1;
        }
    }
    if (errno != ENXIO) /* no more data */
        return error_set_errno(w->err, errno, "cannot look through the memory of the machine");
    return flush_pages(w);
}

/* ---- The file ---- */

static int put_header(struct writer *w)
{
    struct snapshot_header header = {
        .magic = SNAPSHOT_MAGIC, .version = SNAPSHOT_VERSION, .file_size = w->written};

    header.checksum = snapshot_header_checksum(&header);
    if (pwrite(w->fd, &header, sizeof(header), 0) != sizeof(header))
        return error_set_errno(w->err, errno, "cannot write %s", w->path);
    return 0;
}

static int put_machine(struct writer *w, struct vm *vm, const char *config)
{
    const struct snapshot_header nothing = {.version = 0};
    const char *board = vm->board_name ? vm->board_name : "";

    if (strlen(config) > SNAPSHOT_MAX_STATE)
        return error_set(w->err, "cannot write %s: the configuration is too long", w->path);
    if (put(w, &nothing, sizeof(nothing)) ||
        put_chunk(w, SNAPSHOT_BOARD, board, strlen(board), strlen(board)) ||
        put_chunk(w, SNAPSHOT_CONFIG, config, strlen(config), strlen(config)) || put_state(w, vm))
        return -1;
    for (size_t i = 0; i < vm->memory.nblocks; i++) {
        if (put_block(w, vm->memory.blocks[i]))
            return -1;
    }
    if (put_chunk(w, SNAPSHOT_END, NULL, 0, 0))
        return -1;
    return put_header(w);
}

static int alloc_buffers(struct writer *w)
{
    w->raw = malloc(RAW_MAX);
    w->packed = malloc(ZSTD_compressBound(RAW_MAX));
    w->zstd = ZSTD_createCCtx();
    return w->raw && w->packed && w->zstd ? 0 : error_set(w->err, "cannot write %s: out of memory", w->path);
}

static void free_buffers(struct writer *w)
{
    free(w->raw);
    free(w->packed);
    ZSTD_freeCCtx(w->zstd);
}

/* Bring what a device has under way to an end, so that all of it is in the state. */
static void settle(struct vm *vm)
{
    vm_lock(vm);
    async_drain_all(&vm->gate);
    vm_unlock(vm);
}

static int save_parked(struct vm *vm, int fd, const char *path, const char *config, struct error *err)
{
    struct writer *w = calloc(1, sizeof(*w));
    int result = -1;

    if (!w)
        return error_set(err, "cannot write %s: out of memory", path);
    w->fd = fd;
    w->path = path;
    w->err = err;
    settle(vm);
    if (alloc_buffers(w) == 0 && put_machine(w, vm, config) == 0)
        result = fsync(fd) ? error_set_errno(err, errno, "cannot write %s", path) : 0;
    free_buffers(w);
    free(w);
    return result;
}

/* So that the new name, too, is there after a power failure. Not every file system can; the data is safe by then. */
static void sync_directory(const char *path)
{
    char copy[PATH_MAX];
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
}

static bool has_ended(const struct vm *vm)
{
    switch (vm->stop_reason) {
    case VM_STOP_POWEROFF:
    case VM_STOP_RESET:
    case VM_STOP_CRASH:
    case VM_STOP_DEBUG_EXIT:
    case VM_STOP_ERROR: return true;
    default: return false;
    }
}

int snapshot_save(struct vm *vm, const char *path, const char *config, struct error *err)
{
    char temporary[PATH_MAX];
    struct stat st;
    int fd, result;

    if (has_ended(vm))
        return error_set(err, "cannot save: the machine has ended");
    /* A rename would take the place of a device node or a pipe. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return error_set(err, "cannot write %s: it is not a regular file", path);
    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= sizeof(temporary))
        return error_set(err, "cannot write %s: the name is too long", path);
    fd =
        mkostemp(temporary, O_CLOEXEC); /* mode 0600: what a guest keeps in memory is nobody else's to read */
    if (fd < 0)
        return error_set_errno(err, errno, "cannot write %s", path);
    vm_park(vm);
    result = save_parked(vm, fd, path, config, err);
    vm_unpark(vm);
    if (close(fd) && result == 0)
        result = error_set_errno(err, errno, "cannot write %s", path);
    if (result == 0 && rename(temporary, path))
        result = error_set_errno(err, errno, "cannot write %s", path);
    if (result)
        unlink(temporary);
    else
        sync_directory(path);
    return result;
}
