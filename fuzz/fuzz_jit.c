/*
 * Any bytes as code: the translator ends in the state that the interpreter ends in, and neither reads or writes beyond what is
 * its own. The machine, and what the bytes mean, are those of tests/seq.
 */
#include <stdlib.h>

#include "engine/interp/engine.h"
#include "engine/jit/engine.h"
#include "../tests/seq/seq.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const struct machine_config engines[] = {{&jit_engine, 1, 256 << 10, false, NULL},
                                                {&jit_engine, 2, 256 << 10, false, NULL},
                                                {&jit_engine, 1, 64 << 10, false, NULL},
                                                {&jit_engine, 1, 256 << 10, false, "v2"}};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct machine *interp, *jit[ARRAY_SIZE(engines)];
    static struct image image;
    struct schedule schedule;
    u32 done;

    if (!interp) {
        interp = machine_new(&(struct machine_config){.engine = &interp_engine});
        for (size_t n = 0; n < ARRAY_SIZE(engines); n++)
            jit[n] = machine_new(&engines[n]);
    }
    if (!image_from_bytes(data, size, &image, &schedule))
        return -1;
    schedule.go_on = true; /* new engines take longer than the rest */
    if (run_both(interp, jit[schedule.engine], &image, &schedule, NULL, &done))
        return 0;
    list_image(stderr, &image);
    schedule.go_on = false;
    if (run_both(interp, jit[schedule.engine], &image, &schedule, stderr, &done))
        fprintf(stderr, "Engines that have run nothing else agree.\n");
    abort();
}
