/*
 * Block backends: the content of a disk.
 *
 * Requests run on a few threads that belong to the backend, in any order; what a request must not overtake, its owner holds
 * back. A backend never touches an interrupt or guest memory other than through the vectors that it is given; what its
 * completions mean is the front end's business (machine/async.h).
 *
 * The format is never guessed: a guest that can write to a raw disk could otherwise turn it into something else.
 */
#ifndef HOST_BLOCK_H
#define HOST_BLOCK_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

enum { BLOCK_SECTOR = 512 };

struct block_backend;

struct block_options {
    const char *path;
    const char *format; /* "raw" */
    bool readonly;      /* the guest may not write; the file is opened for reading alone */
    bool
        snapshot; /* writes go to a temporary file that ends with the program; the file is opened for reading alone */
};

/*
 * Open and lock a disk. The lock is the one that QEMU takes (byte ranges, of the open file description): one writer, or any
 * number of readers. NULL with `err` set: missing, in use, a directory, of a size that is no multiple of a sector.
 */
struct block_backend *block_open(const struct block_options *options, struct error *err);

/* Wait for the requests that are under way and close. NULL is allowed. */
void block_close(struct block_backend *block);

u64 block_size(const struct block_backend *block); /* bytes, multiple of BLOCK_SECTOR */
bool block_readonly(const struct block_backend *block);

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* A request; its owner keeps it alive until `done` is called. */
struct block_request {
    enum block_op op;
    u64 offset, length; /* bytes; FLUSH: both 0 */
    struct iovec *iov;  /* READ and WRITE: `length` bytes in all; the array is used up */
    unsigned niov;
    bool durable; /* WRITE and WRITE_ZEROES: done when it is on stable storage */
    bool unmap;   /* WRITE_ZEROES: the space may be given back */
    /* 0, or a negative errno value. On a thread of the backend or, when that cannot be, from within block_submit. */
    void (*done)(struct block_request *request, int result);
    void *opaque;
    struct block_request *next; /* the backend's */
};

/* Any thread. A request beyond the end, or a write to a read-only disk, ends with an error. */
void block_submit(struct block_backend *block, struct block_request *request);

#endif
