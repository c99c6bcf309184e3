#include "firmware/load.h"

void place_init(struct placement *place, u64 ram_size)
{
    place->low_end = pc_low_ram(ram_size);
    place->high_end = PC_HIGH_RAM + pc_high_ram(ram_size);
    place->count = 0;
}

/* Whether [start, end) is RAM in one stretch. */
static bool is_ram(const struct placement *place, u64 start, u64 end)
{
    return end <= FIRMWARE_EBDA || (start >= PC_LEGACY_HOLE_END && end <= place->low_end) ||
           (start >= PC_HIGH_RAM && end <= place->high_end);
}

/* The claimed range that overlaps [start, end), or -1. */
static int overlap(const struct placement *place, u64 start, u64 end)
{
    for (unsigned i = 0; i < place->count; i++)
        if (start < place->used[i].end && place->used[i].start < end)
            return (int)i;
    return -1;
}

static void take(struct placement *place, u64 start, u64 end)
{
    place->used[place->count].start = start;
    place->used[place->count].end = end;
    place->count++;
}

int place_claim(struct placement *place, const struct load_file *file, u64 start, u64 size, struct error *err)
{
    u64 end;

    if (size == 0)
        return 0;
    if (__builtin_add_overflow(start, size, &end) || !is_ram(place, start, end)) {
        if (start >= PC_LEGACY_HOLE_END && start < PC_LOW_RAM_END && size <= PC_LOW_RAM_END - start)
            return load_file_bad(
                file, err, "it needs memory up to %llu KiB and there are %llu; give --memory more",
                (unsigned long long)((end + 1023) >> 10), (unsigned long long)(place->low_end >> 10));
        return load_file_bad(
            file, err, "it wants to be loaded at %#llx (%#llx bytes), where no memory is; link it elsewhere",
            (unsigned long long)start, (unsigned long long)size);
    }
    if (overlap(place, start, end) >= 0)
        return load_file_bad(file, err, "its parts overlap at %#llx; get another copy",
                             (unsigned long long)start);
    if (place->count == PLACE_MAX)
        return load_file_bad(file, err, "it has too many parts (more than %d)", PLACE_MAX);
    take(place, start, end);
    return 0;
}

bool place_high(struct placement *place, u64 size, u64 align, u64 from, u64 to, u64 *start)
{
    u64 end = from < PC_LEGACY_HOLE ? FIRMWARE_EBDA : place->low_end;

    if (end > to)
        end = to;
    if (place->count == PLACE_MAX)
        return false;
    /* Each turn goes below one claimed range, so there are at most count + 1. */
    while (end > from && size <= end - from) {
        u64 at = align_down(end - size, align);
        int taken;

        if (at < from)
            return false;
        taken = overlap(place, at, at + size);
        if (taken < 0) {
            take(place, at, at + size);
            *start = at;
            return true;
        }
        end = place->used[taken].start;
    }
    return false;
}

bool place_low(struct placement *place, u64 size, u64 align, u64 from, u64 to, u64 *start)
{
    u64 end = from < PC_LEGACY_HOLE ? FIRMWARE_EBDA : place->low_end;
    u64 at = align_up(from, align);

    if (end > to)
        end = to;
    if (place->count == PLACE_MAX)
        return false;
    while (at < end && size <= end - at) {
        int taken = overlap(place, at, at + size);

        if (taken < 0) {
            take(place, at, at + size);
            *start = at;
            return true;
        }
        at = align_up(place->used[taken].end, align);
    }
    return false;
}
