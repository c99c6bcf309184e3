/*
 * The memory of host code, for each vCPU: shared memory, mapped twice, so that no page is ever writable and executable in one
 * mapping. It has no file of its own: perf looks for names (perf.c) only where code is in anonymous memory.
 *
 * All of a VM keep to one bound. A part of a quarter of it, divided by the vCPUs, is each one's own; the rest is lent to who has
 * more to translate, as processes stay on one vCPU for a while. Who finds nothing left makes its own translations anew, and
 * asks those for theirs that have much more than others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/jit/jit.h"

/* Enough for the stubs and some blocks, whatever the bound is. */
enum { MIN_OWN = 64 << 10 };

void code_pool_init(struct code_pool *pool, u64 bound, unsigned vcpus)
{
    u64 own = bound / 4 / vcpus;

    pool->own = align_up(own < MIN_OWN ? MIN_OWN : own, PAGE_SIZE);
    pool->lendable = bound > pool->own * vcpus ? align_down(bound - pool->own * vcpus, 2 * PAGE_SIZE) : 0;
    pool->much = 2 * pool->lendable / vcpus;
}

void code_account(struct code_cache *code)
{
    size_t used = code->used + (code->cold_used - code->size / 2), own = code->pool->own;
    size_t borrowed = used > own ? used - own : 0;

    __atomic_fetch_add(&code->pool->lent, borrowed - code->borrowed, __ATOMIC_RELAXED);
    __atomic_store_n(&code->borrowed, borrowed, __ATOMIC_RELAXED);
}

bool code_has_room(const struct code_cache *code)
{
    return code->used + (code->cold_used - code->size / 2) < code->pool->own ||
           __atomic_load_n(&code->pool->lent, __ATOMIC_RELAXED) < code->pool->lendable;
}

void code_give_memory_back(struct code_cache *code)
{
    size_t from = align_up(code->stubs_end, PAGE_SIZE);

    madvise(code->rw + from, code->size - from, MADV_REMOVE);
}

struct code_cache *code_cache_new(struct code_pool *pool, struct error *err)
{
    struct code_cache *code = calloc(1, sizeof(*code));
    size_t size = pool->own + pool->lendable;

    if (!code) {
        error_set(err, "no memory on the host for the translator");
        return NULL;
    }
    code->pool = pool;
    code->size = size;
    code->rx = MAP_FAILED;
    code->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (code->rw != MAP_FAILED)
        code->rx = mremap(code->rw, 0, size, MREMAP_MAYMOVE); /* of size 0: another one of the same pages */
    if (code->rx == MAP_FAILED || mprotect(code->rx, size, PROT_READ | PROT_EXEC)) {
        error_set(err, "the host gives no memory for translated code: %s", strerror(errno));
        code_cache_free(code);
        return NULL;
    }
    return code;
}

void code_cache_free(struct code_cache *code)
{
    if (code->rw != MAP_FAILED)
        munmap(code->rw, code->size);
    if (code->rx != MAP_FAILED)
        munmap(code->rx, code->size);
    free(code);
}
