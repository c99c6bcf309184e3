/* The memory of host code: one memfd, mapped twice, so that no page is ever writable and executable in one mapping. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/jit/jit.h"

struct code_cache *code_cache_new(size_t size, struct error *err)
{
    struct code_cache *code = calloc(1, sizeof(*code));
    int fd = memfd_create("plastron-code", MFD_CLOEXEC);
    int problem = 0;

    if (!code || fd < 0 || ftruncate(fd, (off_t)size)) {
        problem = errno;
    } else {
        code->size = size;
        code->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        code->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
        if (code->rw == MAP_FAILED || code->rx == MAP_FAILED)
            problem = errno;
    }
    if (fd >= 0)
        close(fd);
    if (problem) {
        if (code && code->size)
            code_cache_free(code);
        else
            free(code);
        error_set(err, "the host gives no memory for translated code: %s", strerror(problem));
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
