/*
 * A temporary layer over a disk (snapshot=on): clusters that were written lie in an unlinked, sparse file at the same
 * offsets; the others are read from the base. A bitmap in memory tells them apart, so nothing of it outlives the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/block_driver.h"

enum { CLUSTER = 64 << 10 };

struct overlay {
    struct block_image image;
    struct block_image *base;
    int fd;
    pthread_rwlock_t lock; /* for writing while clusters appear: one is filled before it counts */
    u8 *present;           /* bitmap of the clusters that are in the file */
};

enum coverage { COVER_NONE, COVER_SOME, COVER_ALL };

static bool cluster_present(const struct overlay *overlay, u64 cluster)
{
    return overlay->present[cluster / 8] >> cluster % 8 & 1;
}

/* How much of [offset, offset+length) lies in clusters that are present; `length` > 0. Lock held. */
static enum coverage overlay_coverage(const struct overlay *overlay, u64 offset, u64 length)
{
    bool some = false, all = true;

    for (u64 cluster = offset / CLUSTER; cluster <= (offset + length - 1) / CLUSTER; cluster++) {
        some |= cluster_present(overlay, cluster);
        all &= cluster_present(overlay, cluster);
    }
    return all ? COVER_ALL : some ? COVER_SOME : COVER_NONE;
}

static u64 iov_length(const struct iovec *iov, unsigned niov)
{
    u64 length = 0;

    for (unsigned i = 0; i < niov; i++)
        length += iov[i].iov_len;
    return length;
}

/* Copy to the vectors and advance them; they have room for `length` bytes. */
static void iov_fill(struct iovec **iov, const u8 *from, size_t length)
{
    while (length > 0) {
        size_t step = length < (*iov)->iov_len ? length : (*iov)->iov_len;

        if (step == 0) {
            (*iov)++;
            continue;
        }
        memcpy((*iov)->iov_base, from, step);
        (*iov)->iov_base = (u8 *)(*iov)->iov_base + step;
        (*iov)->iov_len -= step;
        from += step;
        length -= step;
    }
}

static int overlay_read_bytes(struct overlay *overlay, u64 offset, struct iovec *iov, unsigned niov,
                              bool present)
{
    if (present)
        return block_fd_read(overlay->fd, offset, iov, niov);
    return overlay->base->driver->read(overlay->base, offset, iov, niov);
}

/* Some of it lies here and some there: cluster by cluster through a buffer. Lock held. */
static int overlay_read_mixed(struct overlay *overlay, u64 offset, struct iovec *iov, u64 length)
{
    u8 *buffer = malloc(CLUSTER);
    int error = buffer ? 0 : -ENOMEM;

    while (length > 0 && error == 0) {
        u64 step = CLUSTER - offset % CLUSTER;
        struct iovec piece;

        if (step > length)
            step = length;
        piece = (struct iovec){.iov_base = buffer, .iov_len = step};
        error = overlay_read_bytes(overlay, offset, &piece, 1, cluster_present(overlay, offset / CLUSTER));
        if (error == 0)
            iov_fill(&iov, buffer, step);
        offset += step;
        length -= step;
    }
    free(buffer);
    return error;
}

static int overlay_read(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov)
{
    struct overlay *overlay = (struct overlay *)image;
    u64 length = iov_length(iov, niov);
    enum coverage coverage;
    int error;

    if (length == 0)
        return 0;
    pthread_rwlock_rdlock(&overlay->lock);
    coverage = overlay_coverage(overlay, offset, length);
    if (coverage == COVER_SOME)
        error = overlay_read_mixed(overlay, offset, iov, length);
    else
        error = overlay_read_bytes(overlay, offset, iov, niov, coverage == COVER_ALL);
    pthread_rwlock_unlock(&overlay->lock);
    return error;
}

/* Copy the cluster at `offset` from the base unless it is here already. Lock held for writing. */
static int overlay_fill(struct overlay *overlay, u64 offset)
{
    u64 start = offset - offset % CLUSTER, left = overlay->image.size - start;
    struct iovec from = {.iov_len = left < CLUSTER ? left : CLUSTER}, to;
    u8 *buffer;
    int error;

    if (cluster_present(overlay, start / CLUSTER))
        return 0;
    buffer = malloc(CLUSTER);
    if (!buffer)
        return -ENOMEM;
    from.iov_base = buffer;
    to = from;
    error = overlay->base->driver->read(overlay->base, start, &from, 1);
    if (error == 0)
        error = block_fd_write(overlay->fd, start, &to, 1);
    free(buffer);
    return error;
}

typedef int store_fn(struct overlay *overlay, u64 offset, u64 length, void *opaque);

/* Change [offset, offset+length) by `store`, which writes to the file; the clusters at the edges are filled first. */
static int overlay_change(struct overlay *overlay, u64 offset, u64 length, store_fn *store, void *opaque)
{
    int error = 0;

    if (length == 0)
        return 0;
    pthread_rwlock_rdlock(&overlay->lock);
    if (overlay_coverage(overlay, offset, length) == COVER_ALL) {
        error = store(overlay, offset, length, opaque);
        pthread_rwlock_unlock(&overlay->lock);
        return error;
    }
    pthread_rwlock_unlock(&overlay->lock);
    pthread_rwlock_wrlock(&overlay->lock);
    if (offset % CLUSTER)
        error = overlay_fill(overlay, offset);
    if (error == 0 && (offset + length) % CLUSTER && offset + length < overlay->image.size)
        error = overlay_fill(overlay, offset + length - 1);
    if (error == 0)
        error = store(overlay, offset, length, opaque);
    for (u64 cluster = offset / CLUSTER; error == 0 && cluster <= (offset + length - 1) / CLUSTER; cluster++)
        overlay->present[cluster / 8] |= (u8)(1u << cluster % 8);
    pthread_rwlock_unlock(&overlay->lock);
    return error;
}

struct vectors {
    struct iovec *iov;
    unsigned niov;
};

static int store_vectors(struct overlay *overlay, u64 offset, u64 length, void *opaque)
{
    const struct vectors *from = opaque;

    return block_fd_write(overlay->fd, offset, from->iov, from->niov);
}

static int overlay_write(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov)
{
    struct vectors from = {.iov = iov, .niov = niov};

    return overlay_change((struct overlay *)image, offset, iov_length(iov, niov), store_vectors, &from);
}

static int store_zeroes(struct overlay *overlay, u64 offset, u64 length, void *opaque)
{
    return block_fd_write_zeroes(overlay->fd, offset, length, *(const bool *)opaque);
}

static int overlay_write_zeroes(struct block_image *image, u64 offset, u64 length, bool unmap)
{
    return overlay_change((struct overlay *)image, offset, length, store_zeroes, &unmap);
}

/* Nothing here outlives the program, so nothing needs to be on stable storage. */
static int overlay_flush(struct block_image *image)
{
    return 0;
}

static int overlay_discard(struct block_image *image, u64 offset, u64 length)
{
    return 0;
}

static void overlay_close(struct block_image *image)
{
    struct overlay *overlay = (struct overlay *)image;

    overlay->base->driver->close(overlay->base);
    close(overlay->fd);
    pthread_rwlock_destroy(&overlay->lock);
    free(overlay->present);
    free(overlay);
}

static const struct block_driver overlay_driver = {
    .close = overlay_close,
    .read = overlay_read,
    .write = overlay_write,
    .flush = overlay_flush,
    .discard = overlay_discard,
    .write_zeroes = overlay_write_zeroes,
};

/* A file without a name, in TMPDIR or on a disk-backed /var/tmp. */
static int temporary_file(struct error *err)
{
    const char *directory = getenv("TMPDIR");
    char name[4096];
    int fd;

    if (!directory || !*directory)
        directory = "/var/tmp";
    fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    if (snprintf(name, sizeof(name), "%s/plastron-XXXXXX", directory) >= (int)sizeof(name))
        return error_set(err, "TMPDIR is too long");
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s: cannot make a temporary file for snapshot=on; set TMPDIR",
                               directory);
    unlink(name);
    return fd;
}

struct block_image *overlay_open(struct block_image *base, struct error *err)
{
    u64 clusters = (base->size + CLUSTER - 1) / CLUSTER;
    struct overlay *overlay = calloc(1, sizeof(*overlay));
    u8 *present = calloc(1, (clusters + 7) / 8);
    int fd;

    if (!overlay || !present) {
        error_set(err, "out of memory for a disk's temporary layer");
        goto fail;
    }
    fd = temporary_file(err);
    if (fd < 0)
        goto fail;
    if (ftruncate(fd, (off_t)base->size) < 0) {
        error_set_errno(err, errno, "the temporary file of a disk cannot be %llu bytes long; set TMPDIR",
                        (unsigned long long)base->size);
        close(fd);
        goto fail;
    }
    overlay->image = (struct block_image){.driver = &overlay_driver, .size = base->size};
    overlay->base = base;
    overlay->fd = fd;
    overlay->present = present;
    pthread_rwlock_init(&overlay->lock, NULL);
    return &overlay->image;
fail:
    free(overlay);
    free(present);
    return NULL;
}
