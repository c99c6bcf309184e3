/* Block backends: raw files, their locks, and the temporary layer of snapshot=on. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/block.h"

enum { DISK = 1 << 20 };

struct fixture {
    char directory[64];
    char path[96];
    u8 *model; /* what the disk should hold */
};

static void fill(u8 *bytes, size_t len, u32 seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (u8)(seed >> 24);
    }
}

static void make_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->directory, "/tmp/plastron-block-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof(f->path), "%s/disk", f->directory);
    f->model = malloc(DISK);
    fill(f->model, DISK, 1);
    make_file(f->path, f->model, DISK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->path);
    rmdir(f->directory);
    free(f->model);
    free(f);
    return 0;
}

static struct block_backend *open_disk(const char *path, bool readonly, bool snapshot, struct error *err)
{
    struct block_options options = {
        .path = path, .format = "raw", .readonly = readonly, .snapshot = snapshot};

    return block_open(&options, err);
}

static struct block_backend *must_open(const char *path, bool readonly, bool snapshot)
{
    struct error err = {{0}};
    struct block_backend *block = open_disk(path, readonly, snapshot, &err);

    assert_string_equal(err.text, "");
    assert_non_null(block);
    return block;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int result;
};

static void on_done(struct block_request *request, int result)
{
    struct waiter *waiter = request->opaque;

    pthread_mutex_lock(&waiter->lock);
    waiter->done = true;
    waiter->result = result;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->lock);
}

static int perform(struct block_backend *block, struct block_request *request)
{
    struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

    request->done = on_done;
    request->opaque = &waiter;
    block_submit(block, request);
    pthread_mutex_lock(&waiter.lock);
    while (!waiter.done)
        pthread_cond_wait(&waiter.cond, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    return waiter.result;
}

/* A transfer in three vectors, one of them empty. */
static int transfer(struct block_backend *block, enum block_op op, u64 offset, void *bytes, size_t len)
{
    struct iovec iov[3] = {{bytes, len / 3}, {bytes, 0}, {(u8 *)bytes + len / 3, len - len / 3}};
    struct block_request request = {.op = op, .offset = offset, .length = len, .iov = iov, .niov = 3};

    return perform(block, &request);
}

static int simple(struct block_backend *block, enum block_op op, u64 offset, u64 length)
{
    struct block_request request = {.op = op, .offset = offset, .length = length};

    return perform(block, &request);
}

static void assert_disk(struct block_backend *block, const u8 *model)
{
    u8 *now = malloc(DISK);

    assert_int_equal(transfer(block, BLOCK_READ, 0, now, DISK), 0);
    assert_memory_equal(now, model, DISK);
    free(now);
}

static void assert_file(const char *path, const u8 *model)
{
    u8 *now = malloc(DISK);
    int fd = open(path, O_RDONLY);

    assert_int_equal(read(fd, now, DISK), DISK);
    close(fd);
    assert_memory_equal(now, model, DISK);
    free(now);
}

/* Random operations against the disk and the model alike. */
static void scribble(struct block_backend *block, u8 *model, u32 seed)
{
    u8 *bytes = malloc(DISK);

    for (unsigned i = 0; i < 300; i++) {
        u32 random[3];
        u64 offset, length;

        fill((u8 *)random, sizeof(random), seed + i);
        offset = random[0] % DISK & ~511u;
        length = random[1] % (i % 4 ? 8192 : 300000) & ~511u;
        if (length > DISK - offset)
            length = DISK - offset;
        switch (random[2] % 4) {
        case 0:
            assert_int_equal(transfer(block, BLOCK_READ, offset, bytes, length), 0);
            assert_memory_equal(bytes, model + offset, length);
            break;
        case 1:
        case 2:
            fill(model + offset, length, random[2]);
            memcpy(bytes, model + offset, length);
            assert_int_equal(transfer(block, BLOCK_WRITE, offset, bytes, length), 0);
            break;
        case 3: {
            struct block_request request = {.op = BLOCK_WRITE_ZEROES,
                                            .offset = offset,
                                            .length = length,
                                            .unmap = random[2] & 4,
                                            .durable = true};

            memset(model + offset, 0, length);
            assert_int_equal(perform(block, &request), 0);
            break;
        }
        }
    }
    free(bytes);
}

static void test_raw(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, false);

    assert_int_equal(block_size(block), DISK);
    assert_false(block_readonly(block));
    assert_disk(block, f->model);
    scribble(block, f->model, 7);
    assert_disk(block, f->model);
    assert_int_equal(simple(block, BLOCK_FLUSH, 0, 0), 0);
    block_close(block);
    assert_file(f->path, f->model);
}

static void test_discard_keeps_the_size(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, false);
    struct stat st;

    assert_int_equal(simple(block, BLOCK_DISCARD, DISK / 2, DISK / 2), 0);
    assert_int_equal(simple(block, BLOCK_DISCARD, 0, 0), 0);
    block_close(block);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_size, DISK);
}

static void test_bounds(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, false);
    u8 bytes[1024];
    struct iovec iov = {bytes, 512};
    struct block_request lies = {.op = BLOCK_READ, .offset = 0, .length = 1024, .iov = &iov, .niov = 1};

    assert_int_equal(transfer(block, BLOCK_READ, DISK, bytes, 512), -EINVAL);
    assert_int_equal(transfer(block, BLOCK_READ, DISK - 512, bytes, 1024), -EINVAL);
    assert_int_equal(transfer(block, BLOCK_WRITE, UINT64_MAX - 511, bytes, 1024), -EINVAL);
    assert_int_equal(simple(block, BLOCK_DISCARD, 512, UINT64_MAX), -EINVAL);
    assert_int_equal(simple(block, BLOCK_WRITE_ZEROES, UINT64_MAX, 1), -EINVAL);
    assert_int_equal(perform(block, &lies), -EINVAL);
    assert_int_equal(transfer(block, BLOCK_READ, DISK, bytes, 0), 0);
    block_close(block);
    assert_file(f->path, f->model);
}

static void test_readonly(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, true, false);
    u8 bytes[512] = {0};

    assert_true(block_readonly(block));
    assert_int_equal(transfer(block, BLOCK_WRITE, 0, bytes, 512), -EROFS);
    assert_int_equal(simple(block, BLOCK_DISCARD, 0, 512), -EROFS);
    assert_int_equal(simple(block, BLOCK_WRITE_ZEROES, 0, 512), -EROFS);
    assert_int_equal(simple(block, BLOCK_FLUSH, 0, 0), 0);
    assert_disk(block, f->model);
    block_close(block);
}

static void test_snapshot_leaves_the_file_alone(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, true);
    u8 *before = malloc(DISK);

    memcpy(before, f->model, DISK);
    assert_false(block_readonly(block));
    scribble(block, f->model, 99);
    assert_disk(block, f->model);
    assert_int_equal(simple(block, BLOCK_FLUSH, 0, 0), 0);
    block_close(block);
    assert_file(f->path, before);
    free(before);
}

/* A disk whose last cluster is not a whole one. */
static void test_snapshot_odd_end(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block;
    u8 sector[512], read[512];
    u64 end = DISK - 512;

    assert_int_equal(truncate(f->path, (off_t)end), 0);
    block = must_open(f->path, false, true);
    fill(sector, 512, 5);
    assert_int_equal(transfer(block, BLOCK_WRITE, end - 512, sector, 512), 0);
    fill(sector, 512, 5);
    assert_int_equal(transfer(block, BLOCK_READ, end - 512, read, 512), 0);
    assert_memory_equal(read, sector, 512);
    assert_int_equal(transfer(block, BLOCK_READ, end - 1024, read, 512), 0);
    assert_memory_equal(read, f->model + end - 1024, 512);
    block_close(block);
}

/* Two writers, or a writer and a reader, are refused; readers and snapshots go together. */
static void test_locks(void **state)
{
    struct fixture *f = *state;
    struct block_backend *a, *b;
    struct error err = {{0}};

    a = must_open(f->path, false, false);
    assert_null(open_disk(f->path, false, false, &err));
    assert_non_null(strstr(err.text, "in use"));
    assert_non_null(strstr(err.text, f->path));
    assert_null(open_disk(f->path, true, false, &err));
    assert_null(open_disk(f->path, false, true, &err));
    block_close(a);

    a = must_open(f->path, true, false);
    b = must_open(f->path, false, true);
    assert_null(open_disk(f->path, false, false, &err));
    block_close(a);
    block_close(b);
    a = must_open(f->path, false, false);
    block_close(a);
}

/* The bytes that QEMU locks for a writing user are those that keep us out, and the other way round. */
static void test_locks_are_qemus(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->path, O_RDWR);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
    struct error err = {{0}};
    struct block_backend *block;

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0); /* "does not bear writers" */
    assert_null(open_disk(f->path, false, false, &err));
    block_close(must_open(f->path, true, false));
    close(fd);

    block = must_open(f->path, false, false);
    fd = open(f->path, O_RDWR);
    for (unsigned i = 0; i < 2; i++) {
        lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i ? 201 : 101, .l_len = 1};
        assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
        assert_int_equal(lock.l_type, F_RDLCK);
    }
    close(fd);
    block_close(block);
}

static void assert_refused(const char *path, const char *why)
{
    struct error err = {{0}};

    assert_null(open_disk(path, false, false, &err));
    assert_non_null(strstr(err.text, why));
    assert_non_null(strstr(err.text, path));
}

static void test_refused_files(void **state)
{
    struct fixture *f = *state;
    char other[128];
    struct block_options options = {.path = f->path, .format = "qcow9"};
    struct error err = {{0}};

    snprintf(other, sizeof(other), "%s/other", f->directory);
    assert_refused(other, "No such file");
    assert_refused(f->directory, "directory");
    make_file(other, "x", 1);
    assert_refused(other, "multiple");
    make_file(other, "", 0);
    assert_refused(other, "empty");
    unlink(other);
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_refused(other, "neither");
    unlink(other);
    assert_null(block_open(&options, &err));
    assert_non_null(strstr(err.text, "qcow9"));
    options.format = NULL; /* never guessed */
    assert_null(block_open(&options, &err));
}

static void test_file_cut_short_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, false);
    u8 bytes[1024];

    assert_int_equal(truncate(f->path, 512), 0);
    assert_int_equal(transfer(block, BLOCK_READ, 0, bytes, 1024), -EIO);
    block_close(block);
}

/* More requests than threads, and a close that comes before they are done. */
static void on_counted(struct block_request *request, int result)
{
    if (result == 0)
        __atomic_fetch_add((unsigned *)request->opaque, 1, __ATOMIC_SEQ_CST);
}

static void test_close_waits(void **state)
{
    enum { REQUESTS = 64 };
    struct fixture *f = *state;
    struct block_backend *block = must_open(f->path, false, false);
    struct block_request requests[REQUESTS];
    struct iovec iov[REQUESTS];
    unsigned done = 0;
    u8 *bytes = malloc(DISK);

    for (unsigned i = 0; i < REQUESTS; i++) {
        iov[i] = (struct iovec){bytes + i * 4096, 4096};
        requests[i] = (struct block_request){.op = BLOCK_READ,
                                             .offset = i * 4096,
                                             .length = 4096,
                                             .iov = &iov[i],
                                             .niov = 1,
                                             .done = on_counted,
                                             .opaque = &done};
        block_submit(block, &requests[i]);
    }
    block_close(block);
    assert_int_equal(done, REQUESTS);
    assert_memory_equal(bytes, f->model, REQUESTS * 4096);
    free(bytes);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_raw),
        CASE(test_discard_keeps_the_size),
        CASE(test_bounds),
        CASE(test_readonly),
        CASE(test_snapshot_leaves_the_file_alone),
        CASE(test_snapshot_odd_end),
        CASE(test_locks),
        CASE(test_locks_are_qemus),
        CASE(test_refused_files),
        CASE(test_file_cut_short_meanwhile),
        CASE(test_close_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
