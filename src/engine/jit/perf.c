/*
 * Names of host code for perf: the lines "START SIZE NAME" of /tmp/perf-PID.map, as the kernel's tools/perf/Documentation
 * describes them (jit-interface.txt). Lines are only added: when all blocks are dropped, later ones take the place of
 * earlier ones.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/jit/jit.h"

struct perf_map {
    FILE *file;
};

struct perf_map *perf_map_open(struct error *err)
{
    struct perf_map *map = malloc(sizeof(*map));
    char path[64];

    if (!map) {
        error_set(err, "no memory on the host for names for perf");
        return NULL;
    }
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    map->file = fopen(path, "ae");
    if (!map->file) {
        error_set_errno(err, errno, "cannot make the file %s for perf", path);
        free(map);
        return NULL;
    }
    setvbuf(map->file, NULL, _IOLBF, BUFSIZ); /* complete lines, however the program ends */
    return map;
}

void perf_map_close(struct perf_map *map)
{
    if (!map)
        return;
    fclose(map->file);
    free(map);
}

void perf_map_stubs(struct perf_map *map, const struct code_cache *code)
{
    const struct {
        const char *name;
        const void *start;
    } stubs[] = {
#define STUB(id) {#id, code->stub.id}
        STUB(enter),
        STUB(bail),
        STUB(bail_first),
        STUB(leave),
        STUB(leave_page),
        STUB(call),
        STUB(refill_read),
        STUB(refill_write),
        {"walk", code->stub.walk[JIT_NO_VECTORS]},
        STUB(missed),
        STUB(unlinked),
        STUB(check_page),
        STUB(find_target),
        {NULL, code->rx + code->stubs_end},
#undef STUB
    };

    for (size_t n = 0; n + 1 < ARRAY_SIZE(stubs); n++)
        fprintf(map->file, "%llx %llx stub %s\n", (unsigned long long)(uintptr_t)stubs[n].start,
                (unsigned long long)((const u8 *)stubs[n + 1].start - (const u8 *)stubs[n].start),
                stubs[n].name);
}

void perf_map_block(struct perf_map *map, const struct block *b, const void *code, size_t size)
{
    static const char *const modes[] = {[MODE_CODE16] = "16", [MODE_CODE32] = "32", [MODE_CODE64] = "64"};

    fprintf(map->file, "%llx %zx guest %s%s %llx\n", (unsigned long long)(uintptr_t)code, size,
            b->mode & MODE_USER ? "user" : "kernel", modes[b->mode & MODE_CODE_MASK],
            (unsigned long long)b->rip);
}
