#include "machine/io.h"

#include <stdlib.h>
#include <string.h>

enum { PORT_SPACE = 65536, PORT_RANGES_MAX = 65535 };

static u64 all_ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << 8 * size) - 1;
}

u64 io_ops_read(const struct io_ops *ops, void *opaque, u64 offset, unsigned size)
{
    unsigned min = ops->min_size ? ops->min_size : 1, max = ops->max_size ? ops->max_size : 4;
    u64 value = 0;

    if (size < min || !ops->read)
        return all_ones(size);
    if (size <= max)
        return ops->read(opaque, offset, size) & all_ones(size);
    for (unsigned done = 0; done < size; done += max)
        value |= (ops->read(opaque, offset + done, max) & all_ones(max)) << 8 * done;
    return value;
}

void io_ops_write(const struct io_ops *ops, void *opaque, u64 offset, unsigned size, u64 value)
{
    unsigned min = ops->min_size ? ops->min_size : 1, max = ops->max_size ? ops->max_size : 4;

    if (size < min || !ops->write)
        return;
    if (size <= max) {
        ops->write(opaque, offset, size, value & all_ones(size));
        return;
    }
    for (unsigned done = 0; done < size; done += max)
        ops->write(opaque, offset + done, max, value >> 8 * done & all_ones(max));
}

void port_map_init(struct port_map *map)
{
    memset(map, 0, sizeof(*map));
}

void port_map_free(struct port_map *map)
{
    free(map->ranges);
    port_map_init(map);
}

static void claim(struct port_map *map, size_t number)
{
    const struct io_range *range = &map->ranges[number];

    for (u64 port = range->start; port < range->start + range->size; port++)
        map->index[port] = (u16)(number + 1);
}

int port_map_add(struct port_map *map, u32 start, u32 size, const struct io_ops *ops, void *opaque,
                 const char *name, struct error *err)
{
    if (size == 0 || (u64)start + size > PORT_SPACE)
        return error_set(err, "%s: ports %xh to %llxh are not all in the port space", name, start,
                         (unsigned long long)start + size);
    if (map->count == map->capacity) {
        size_t capacity = map->capacity ? 2 * map->capacity : 32;
        struct io_range *ranges;

        if (map->count == PORT_RANGES_MAX)
            return error_set(err, "%s: too many port ranges", name);
        ranges = realloc(map->ranges, capacity * sizeof(*ranges));
        if (!ranges)
            return error_set(err, "%s: out of memory", name);
        map->ranges = ranges;
        map->capacity = capacity;
    }
    map->ranges[map->count] =
        (struct io_range){.start = start, .size = size, .ops = ops, .opaque = opaque, .name = name};
    claim(map, map->count++);
    return 0;
}

void port_map_remove(struct port_map *map, u32 start, const struct io_ops *ops, void *opaque)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct io_range *range = &map->ranges[i];

        if (range->start != start || range->ops != ops || range->opaque != opaque)
            continue;
        memmove(&map->ranges[i], &map->ranges[i + 1], (map->count - i - 1) * sizeof(*range));
        map->count--;
        memset(map->index, 0, sizeof(map->index));
        for (size_t n = 0; n < map->count; n++)
            claim(map, n);
        return;
    }
}

/* Whether [port, port+size) lies in the port space and belongs to one owner, who may be nobody. */
static bool one_owner(const struct port_map *map, u32 port, unsigned size)
{
    if ((u64)port + size > PORT_SPACE)
        return false;
    for (unsigned i = 1; i < size; i++) {
        if (map->index[port + i] != map->index[port])
            return false;
    }
    return true;
}

u32 port_read(struct port_map *map, u32 port, unsigned size)
{
    const struct io_range *range;
    u32 value = 0;

    if (!one_owner(map, port, size)) {
        for (unsigned i = 0; i < size; i++)
            value |= (port + i < PORT_SPACE ? port_read(map, port + i, 1) : 0xff) << 8 * i;
        return value;
    }
    if (!map->index[port])
        return (u32)all_ones(size);
    range = &map->ranges[map->index[port] - 1];
    return (u32)io_ops_read(range->ops, range->opaque, port - range->start, size);
}

void port_write(struct port_map *map, u32 port, unsigned size, u32 value)
{
    const struct io_range *range;

    if (!one_owner(map, port, size)) {
        for (unsigned i = 0; i < size && port + i < PORT_SPACE; i++)
            port_write(map, port + i, 1, value >> 8 * i & 0xff);
        return;
    }
    if (!map->index[port])
        return;
    range = &map->ranges[map->index[port] - 1];
    io_ops_write(range->ops, range->opaque, port - range->start, size, value);
}
