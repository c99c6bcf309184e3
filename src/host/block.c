#include "host/block.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "host/block_driver.h"

enum { BLOCK_THREADS = 4, BLOCK_STACK = 128 << 10 };

struct block_backend {
    struct block_image *image;
    bool readonly;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    struct block_request *first, **last;
    pthread_t threads[BLOCK_THREADS];
    unsigned nthreads, idle;
    bool closing;
};

static int block_perform(struct block_backend *block, struct block_request *request)
{
    struct block_image *image = block->image;
    int result = -EINVAL;

    switch (request->op) {
    case BLOCK_READ: return image->driver->read(image, request->offset, request->iov, request->niov);
    case BLOCK_FLUSH: return image->driver->flush(image);
    case BLOCK_DISCARD: return image->driver->discard(image, request->offset, request->length);
    case BLOCK_WRITE:
        result = image->driver->write(image, request->offset, request->iov, request->niov);
        break;
    case BLOCK_WRITE_ZEROES:
        result = image->driver->write_zeroes(image, request->offset, request->length, request->unmap);
        break;
    }
    if (result == 0 && request->durable)
        result = image->driver->flush(image);
    return result;
}

static void *block_thread(void *opaque)
{
    struct block_backend *block = opaque;

    pthread_mutex_lock(&block->lock);
    for (;;) {
        struct block_request *request = block->first;

        if (request) {
            block->first = request->next;
            if (!block->first)
                block->last = &block->first;
            pthread_mutex_unlock(&block->lock);
            request->done(request, block_perform(block, request));
            pthread_mutex_lock(&block->lock);
        } else if (block->closing) {
            break;
        } else {
            block->idle++;
            pthread_cond_wait(&block->work, &block->lock);
            block->idle--;
        }
    }
    pthread_mutex_unlock(&block->lock);
    return NULL;
}

/* Lock held. Threads come one by one, as requests find none idle: most disks need one or two. */
static void block_add_thread(struct block_backend *block)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, BLOCK_STACK);
    if (pthread_create(&block->threads[block->nthreads], &attr, block_thread, block) == 0)
        block->nthreads++;
    pthread_attr_destroy(&attr);
}

static int block_check(const struct block_backend *block, const struct block_request *request)
{
    bool writes = request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
    u64 vectors = 0;

    if (writes && block->readonly)
        return -EROFS;
    if (request->length > block->image->size || request->offset > block->image->size - request->length)
        return -EINVAL;
    if (request->op == BLOCK_READ || request->op == BLOCK_WRITE) {
        for (unsigned i = 0; i < request->niov; i++)
            vectors += request->iov[i].iov_len;
        if (vectors != request->length)
            return -EINVAL;
    }
    return 0;
}

void block_submit(struct block_backend *block, struct block_request *request)
{
    int error = block_check(block, request);
    bool alone;

    if (error < 0) {
        request->done(request, error);
        return;
    }
    request->next = NULL;
    pthread_mutex_lock(&block->lock);
    if (block->idle == 0 && block->nthreads < BLOCK_THREADS)
        block_add_thread(block);
    alone = block->nthreads == 0;
    if (!alone) {
        *block->last = request;
        block->last = &request->next;
        pthread_cond_signal(&block->work);
    }
    pthread_mutex_unlock(&block->lock);
    if (alone) /* the host gives us no thread */
        request->done(request, block_perform(block, request));
}

struct block_backend *block_open(const struct block_options *options, struct error *err)
{
    struct block_backend *block;
    struct block_image *image, *overlay;

    if (!options->format || strcmp(options->format, "raw") != 0) {
        error_set(err, "%s: disk format '%s' is not known; use format=raw", options->path,
                  options->format ? options->format : "");
        return NULL;
    }
    image = raw_open(options->path, options->readonly || options->snapshot, err);
    if (!image)
        return NULL;
    if (options->snapshot && !options->readonly) {
        overlay = overlay_open(image, err);
        if (!overlay) {
            image->driver->close(image);
            return NULL;
        }
        image = overlay;
    }
    block = calloc(1, sizeof(*block));
    if (!block) {
        image->driver->close(image);
        error_set(err, "%s: out of memory", options->path);
        return NULL;
    }
    block->image = image;
    block->readonly = options->readonly;
    block->last = &block->first;
    pthread_mutex_init(&block->lock, NULL);
    pthread_cond_init(&block->work, NULL);
    return block;
}

void block_close(struct block_backend *block)
{
    if (!block)
        return;
    pthread_mutex_lock(&block->lock);
    block->closing = true;
    pthread_cond_broadcast(&block->work);
    pthread_mutex_unlock(&block->lock);
    for (unsigned i = 0; i < block->nthreads; i++)
        pthread_join(block->threads[i], NULL);
    pthread_cond_destroy(&block->work);
    pthread_mutex_destroy(&block->lock);
    block->image->driver->close(block->image);
    free(block);
}

u64 block_size(const struct block_backend *block)
{
    return block->image->size;
}
bool block_readonly(const struct block_backend *block)
{
    return block->readonly;
}
