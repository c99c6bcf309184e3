/*
 * One program in two machines.
 */
#include "engine/interp/engine.h"
#include "engine/jit/engine.h"
#include "seq.h"

static u32 next_budget(const struct schedule *s, struct random *r)
{
    u64 pick = random_next(r) >> 20;

    switch (s->kind) {
    case SCHEDULE_WHOLE: return s->total;
    case SCHEDULE_ODD: return 1 + (u32)(pick % 37);
    default: return 1 + (u32)(pick & 1 ? pick % 400 : pick % 60);
    }
}

/* What comes from outside, the same for both; where the second one runs is its own business. */
static void happen(struct machine *a, struct machine *b, const struct image *image, u8 events,
                   struct random *r)
{
    if (events & EVENT_NMI && random_chance(r, 8)) {
        machine_nmi(a);
        machine_nmi(b);
    }
    if (events & EVENT_INTERRUPT && random_chance(r, 4)) {
        machine_interrupt(a);
        machine_interrupt(b);
    }
    if (events & EVENT_DMA && random_chance(r, 4)) {
        unsigned site = image->sites[random_below(r, MAX_SITES)];
        u32 v = (u32)random_next(r);

        if (site) {
            machine_write_code(a, site, v);
            machine_write_code(b, site, v);
        }
    }
    if (events & EVENT_HOP && random_chance(r, 12))
        machine_hop(b, random_chance(r, 2) ? &interp_engine : &jit_engine);
}

static bool ends_equal(struct machine *a, struct machine *b, FILE *report)
{
    machine_take_count(b, a);
    return machine_lost(a) || machine_lost(b) || machine_equal(a, b, true, report);
}

/* The translator without a budget. Programs that do not end under the interpreter say nothing. */
static bool run_free(struct machine *a, struct machine *b, const struct image *image,
                     const struct schedule *schedule, FILE *report, u32 *done)
{
    machine_load(a, image);
    *done = 0;
    if (machine_run(a, schedule->total) != ENGINE_EXIT_HALT)
        return true;
    *done = (u32)machine_state(a)->icount;
    machine_load(b, image);
    machine_run_free(b, schedule->events & EVENT_HOP);
    return ends_equal(a, b, report);
}

bool run_both(struct machine *a, struct machine *b, const struct image *image,
              const struct schedule *schedule, FILE *report, u32 *done)
{
    struct random r = {schedule->seed | 1};

    if (schedule->kind == SCHEDULE_FREE)
        return run_free(a, b, image, schedule, report, done);
    if (schedule->go_on) {
        machine_reload(a, image);
        machine_reload(b, image);
    } else {
        machine_load(a, image);
        machine_load(b, image);
    }
    for (*done = 0; *done < schedule->total;) {
        u32 budget = next_budget(schedule, &r);
        bool last;
        enum engine_exit x, y;

        if (budget > schedule->total - *done)
            budget = schedule->total - *done;
        *done += budget;
        last = *done == schedule->total;
        happen(a, b, image, schedule->events, &r);
        x = machine_run(a, budget);
        y = machine_run(b, budget);
        if (machine_lost(a) || machine_lost(b))
            break;
        if (x != y && report)
            fprintf(report, "    exit: %d, translated %d\n", x, y);
        if (!machine_equal(a, b, last || random_chance(&r, 8), report) || x != y)
            return false;
        if (x != ENGINE_EXIT_BUDGET)
            break;
    }
    return true;
}
