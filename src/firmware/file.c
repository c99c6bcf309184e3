#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "firmware/load.h"

int load_file_bad(const struct load_file *file, struct error *err, const char *format, ...)
{
    char text[sizeof(err->text)];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(err, "%s %s: %s", file->what, file->name, text);
}

int load_file_open(struct load_file *file, const char *what, const char *path, struct error *err)
{
    struct stat st;

    *file = (struct load_file){.what = what, .name = path, .fd = -1};
    /* Not blocking, so that a FIFO without a writer is an error and not a wait. */
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0)
        return error_set_errno(err, errno, "%s %s cannot be opened; check the path and its permissions", what,
                               path);
    if (fstat(file->fd, &st) < 0) {
        error_set_errno(err, errno, "%s %s cannot be read", what, path);
    } else if (!S_ISREG(st.st_mode)) {
        load_file_bad(file, err, "this is %s; give a regular file",
                      S_ISDIR(st.st_mode) ? "a directory" : "no file");
    } else {
        file->size = (u64)st.st_size;
        return 0;
    }
    load_file_close(file);
    return -1;
}

void load_file_close(struct load_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

static int truncated(const struct load_file *file, struct error *err)
{
    return load_file_bad(file, err, "the file is truncated at byte %llu; get a complete copy",
                         (unsigned long long)file->size);
}

/* What a read that returned `got` leaves to do: 0 to go on (maybe again), -1. */
static int check_read(const struct load_file *file, ssize_t got, struct error *err)
{
    if (got > 0 || (got < 0 && errno == EINTR))
        return 0;
    if (got == 0) /* it was longer when it was opened */
        return truncated(file, err);
    return error_set_errno(err, errno, "%s %s cannot be read", file->what, file->name);
}

int load_file_read(const struct load_file *file, u64 offset, void *to, u64 len, struct error *err)
{
    if (offset > file->size || len > file->size - offset)
        return truncated(file, err);
    for (u64 done = 0; done < len;) {
        ssize_t got = pread(file->fd, (u8 *)to + done, len - done, (off_t)(offset + done));

        if (check_read(file, got, err))
            return -1;
        done += got > 0 ? (u64)got : 0;
    }
    return 0;
}

int load_file_to_memory(const struct load_file *file, u64 offset, u64 len, struct memory *memory, u64 phys,
                        struct error *err)
{
    enum { VECTORS = 16 };
    struct iovec iov[VECTORS];

    if (offset > file->size || len > file->size - offset)
        return truncated(file, err);
    for (u64 done = 0; done < len;) {
        u64 mapped;
        unsigned count = dma_map(memory, phys + done, len - done, true, iov, VECTORS, &mapped);
        ssize_t got;

        if (count == 0)
            return load_file_bad(file, err, "there is no memory at %#llx to load it to; give --memory more",
                                 (unsigned long long)(phys + done));
        got = preadv(file->fd, iov, (int)count, (off_t)(offset + done));
        if (got > 0) {
            dma_complete(memory, phys + done, (u64)got);
            done += (u64)got;
        } else if (check_read(file, got, err)) {
            return -1;
        }
    }
    return 0;
}
