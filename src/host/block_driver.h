/* What a disk format or a layer over one offers to block.c. All functions may block and are called on several threads. */
#ifndef HOST_BLOCK_DRIVER_H
#define HOST_BLOCK_DRIVER_H

#include "host/block.h"

/* The open disk; a driver's own struct begins with this. */
struct block_image {
    const struct block_driver *driver;
    u64 size; /* bytes */
};

/* Offsets and lengths are bytes within the size; the result is 0 or a negative errno value. */
struct block_driver {
    void (*close)(struct block_image *image);
    int (*read)(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov); /* uses iov up */
    int (*write)(struct block_image *image, u64 offset, struct iovec *iov, unsigned niov);
    int (*flush)(struct block_image *image);
    int (*discard)(struct block_image *image, u64 offset, u64 length); /* contents may or may not change */
    int (*write_zeroes)(struct block_image *image, u64 offset, u64 length, bool unmap);
};

/* Open a raw file with the lock for its use. NULL with `err` set. */
struct block_image *raw_open(const char *path, bool readonly, struct error *err);

/* Put a temporary copy-on-write layer over `base`, which it owns from then on. NULL with `err` set; `base` is still the
   caller's then. */
struct block_image *overlay_open(struct block_image *base, struct error *err);

/* preadv and pwritev to the end, with short transfers and interruptions taken care of. Used by drivers. */
int block_fd_read(int fd, u64 offset, struct iovec *iov, unsigned niov);
int block_fd_write(int fd, u64 offset, struct iovec *iov, unsigned niov);
/* Write zeroes by whatever means the file has. */
int block_fd_write_zeroes(int fd, u64 offset, u64 length, bool unmap);

#endif
