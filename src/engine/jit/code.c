/*
 * The memory of host code: shared memory, mapped twice, so that no page is ever writable and executable in one mapping. It
 * has no file of its own: perf looks for names (perf.c) only where code is in anonymous memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/jit/jit.h"

struct code_cache *code_cache_new(size_t size, struct error *err)
{
    struct code_cache *code = calloc(1, sizeof(*code));

    if (!code) {
        error_set(err, "no memory on the host for the translator");
        return NULL;
    }
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
