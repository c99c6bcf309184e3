/* Raw disk images and block devices: byte n of the disk is byte n of the file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/block_driver.h"

#define LOG_MODULE "host/raw"
#include "base/log.h"

struct raw {
    struct block_image image;
    int fd;
};

/* ---- Transfers ---- */

/* Drop `done` bytes from the front of the vectors. */
static void iov_advance(struct iovec **iov, unsigned *niov, size_t done)
{
    while (*niov > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*niov)--;
    }
    if (*niov > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

typedef ssize_t transfer_fn(int fd, const struct iovec *iov, int niov, off_t offset);

static int transfer_all(transfer_fn *transfer, int fd, u64 offset, struct iovec *iov, unsigned niov)
{
    iov_advance(&iov, &niov, 0); /* empty vectors */
    while (niov > 0) {
        ssize_t done = transfer(fd, iov, niov < IOV_MAX ? (int)niov : IOV_MAX, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        if (done == 0)
            return -EIO; /* the file was made shorter behind our back */
        offset += (u64)done;
        iov_advance(&iov, &niov, (size_t)done);
    }
    return 0;
}

int block_fd_read(int fd, u64 offset, struct iovec *iov, unsigned niov)
{
    return transfer_all(preadv, fd, offset, iov, niov);
}

int block_fd_write(int fd, u64 offset, struct iovec *iov, unsigned niov)
{
    return transfer_all(pwritev, fd, offset, iov, niov);
}

static bool unsupported(int errno_value)
{
    return errno_value == EOPNOTSUPP || errno_value == ENOSYS || errno_value == ENODEV ||
           errno_value == EINVAL;
}

int block_fd_write_zeroes(int fd, u64 offset, u64 length, bool unmap)
{
    static const u8 zeroes[64 << 10];
    int modes[2] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};

    for (unsigned i = unmap ? 0 : 1; i < ARRAY_SIZE(modes) && length > 0; i++) {
        if (fallocate(fd, modes[i], (off_t)offset, (off_t)length) == 0)
            return 0;
        if (!unsupported(errno))
            return -errno;
    }
    while (length > 0) {
        size_t step = length < sizeof(zeroes) ? length : sizeof(zeroes);
        struct iovec iov = {.iov_base = (void *)zeroes, .iov_len = step};
        int error = block_fd_write(fd, offset, &iov, 1);

        if (error < 0)
            return error;
        offset += step;
        length -= step;
    }
    return 0;
}

/* ---- The driver ---- */

static void raw_close(struct block_image *image)
{
    struct raw *raw = (struct raw *)image;

    close(raw->fd); /* the locks go with it */
    free(raw);
}

static int raw_read(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov)
{
    return block_fd_read(((struct raw *)image)->fd, offset, iov, niov);
}

static int raw_write(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov)
{
    return block_fd_write(((struct raw *)image)->fd, offset, iov, niov);
}

static int raw_flush(struct block_image *image)
{
    return fdatasync(((struct raw *)image)->fd) < 0 ? -errno : 0;
}

/* Giving space back is advice: what the file cannot do is no error. */
static int raw_discard(struct block_image *image, u64 offset, u64 length)
{
    int fd = ((struct raw *)image)->fd;

    if (length == 0 ||
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0 ||
        unsupported(errno))
        return 0;
    return -errno;
}

static int raw_write_zeroes(struct block_image *image, u64 offset, u64 length, bool unmap)
{
    return block_fd_write_zeroes(((struct raw *)image)->fd, offset, length, unmap);
}

static const struct block_driver raw_driver = {
    .close = raw_close,
    .read = raw_read,
    .write = raw_write,
    .flush = raw_flush,
    .discard = raw_discard,
    .write_zeroes = raw_write_zeroes,
};

/* ---- Locks ---- */

/*
 * QEMU's protocol for shared images: byte 100 + p is locked (for reading, so that locks add up) by who uses permission p,
 * byte 200 + p by who cannot bear that others use it. After taking its own locks, each looks for locks of others that speak
 * against it. A disk's user reads consistently and, if it writes, writes and may resize; it bears neither from others.
 */
enum { PERM_CONSISTENT_READ = 1 << 0, PERM_WRITE = 1 << 1, PERM_RESIZE = 1 << 3, PERMS = 4 };
enum { LOCK_USED = 100, LOCK_UNSHARED = 200 };

static int lock_byte(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock);
}

static bool byte_is_locked(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int raw_lock(int fd, const char *path, bool readonly, struct error *err)
{
    unsigned used = PERM_CONSISTENT_READ | (readonly ? 0 : PERM_WRITE | PERM_RESIZE);
    unsigned unshared = PERM_WRITE | PERM_RESIZE;

    for (unsigned p = 0; p < PERMS; p++) {
        if (((used >> p & 1) && lock_byte(fd, LOCK_USED + p) < 0) ||
            ((unshared >> p & 1) && lock_byte(fd, LOCK_UNSHARED + p) < 0)) {
            if (errno == EAGAIN || errno == EACCES)
                return error_set(err, "%s: in use by another program; end that one first", path);
            log_warn("%s: this file system has no locks; nothing keeps a second program from using the disk",
                     path);
            return 0;
        }
    }
    for (unsigned p = 0; p < PERMS; p++)
        if (((used >> p & 1) && byte_is_locked(fd, LOCK_UNSHARED + p)) ||
            ((unshared >> p & 1) && byte_is_locked(fd, LOCK_USED + p)))
            return error_set(err, "%s: in use by another virtual machine; stop that one first", path);
    return 0;
}

/* ---- Opening ---- */

static int raw_check(int fd, const char *path, u64 *size, struct error *err)
{
    struct stat st;
    off_t end;

    if (fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return error_set(err, "%s: is a directory; give a disk image", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, "%s: is neither a file nor a block device", path);
    end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return error_set_errno(err, errno, "%s: cannot tell its size", path);
    if (end == 0)
        return error_set(err, "%s: is empty; make it as large as the disk should be", path);
    if (end % BLOCK_SECTOR != 0)
        return error_set(err, "%s: its size of %lld bytes is no multiple of %d; pad it or check the format",
                         path, (long long)end, BLOCK_SECTOR);
    *size = (u64)end;
    return 0;
}

struct block_image *raw_open(const char *path, bool readonly, struct error *err)
{
    struct raw *raw;
    /* O_NONBLOCK: a FIFO must not hold us up; it changes nothing for files and block devices. */
    int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    u64 size = 0;

    if (fd < 0) {
        if (errno == EISDIR)
            error_set(err, "%s: is a directory; give a disk image", path);
        else if (!readonly && (errno == EACCES || errno == EROFS || errno == EPERM))
            error_set_errno(err, errno,
                            "%s: cannot be opened for writing (readonly=on and snapshot=on do not need that)",
                            path);
        else
            error_set_errno(err, errno, "%s: cannot open the disk", path);
        return NULL;
    }
    if (raw_check(fd, path, &size, err) < 0 || raw_lock(fd, path, readonly, err) < 0) {
        close(fd);
        return NULL;
    }
    raw = malloc(sizeof(*raw));
    if (!raw) {
        close(fd);
        error_set(err, "%s: out of memory", path);
        return NULL;
    }
    *raw = (struct raw){.image = {.driver = &raw_driver, .size = size}, .fd = fd};
    return &raw->image;
}
