/*
 * Access out of an engine: ports and memory-mapped registers, found in a map of ranges. Handlers run with the device lock
 * held; the access functions take it.
 */
#ifndef MACHINE_IO_H
#define MACHINE_IO_H

#include "base/error.h"
#include "base/types.h"

/*
 * A device's registers. `offset` is relative to the range. `size` is 1, 2, 4 or 8 bytes and is always between min and max
 * access size: narrower accesses are rejected (reads give all ones, writes are dropped) and wider ones are split into
 * max-sized ones, low part first, as an ISA or PCI bridge does.
 */
struct io_ops {
    u64 (*read)(void *opaque, u64 offset, unsigned size);
    void (*write)(void *opaque, u64 offset, unsigned size, u64 value);
    u8 min_size, max_size; /* 0: 1 and 4 */
};

struct io_range {
    u64 start, size;
    const struct io_ops *ops;
    void *opaque;
    const char *name;
};

/*
 * The 64 KiB of ports. A later claim of the same port wins while it is there, and gives way to the earlier one when it is
 * removed (PCI BARs over ISA). The struct is 128 KiB: it belongs in a heap object.
 */
struct port_map {
    struct io_range *ranges; /* in the order of their claims; owned */
    size_t count, capacity;
    u16 index[65536]; /* port -> range number + 1; 0: nobody */
};

void port_map_init(struct port_map *map);
void port_map_free(struct port_map *map);

/* Claim [start, start+size). Device lock held or before the VM runs. `name` must outlive the claim. */
MUST_CHECK int port_map_add(struct port_map *map, u32 start, u32 size, const struct io_ops *ops, void *opaque,
                            const char *name, struct error *err);
/* Give back what (ops, opaque, start) claimed. */
void port_map_remove(struct port_map *map, u32 start, const struct io_ops *ops, void *opaque);

/* One access of 1, 2 or 4 bytes. Ports nobody claimed read as all ones. An access that runs over the end of a range or
   of the port space is split into bytes. Device lock held. */
u32 port_read(struct port_map *map, u32 port, unsigned size);
void port_write(struct port_map *map, u32 port, unsigned size, u32 value);

/* Apply `ops` with the size rules above; `offset` and `size` within the range. Used by the port and the memory map. */
u64 io_ops_read(const struct io_ops *ops, void *opaque, u64 offset, unsigned size);
void io_ops_write(const struct io_ops *ops, void *opaque, u64 offset, unsigned size, u64 value);

#endif
