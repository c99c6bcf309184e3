/*
 * The flattened map is made anew by memory_commit: the edges of all enabled regions cut the address space into intervals,
 * each interval is given to the covering region that answers its reads and to the one that answers its writes, and
 * neighbours with the same two owners become one range. There are some dozens of regions; a commit is rare.
 */
#include "machine/memory.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* The widest physical address that any CPU model offers; the map ends there. */
#define PHYS_END (1ull << 52)

int memory_init(struct memory *memory, struct error *err)
{
    *memory = (struct memory){.a20_mask = UINT64_MAX};
    pthread_mutex_init(&memory->code_lock, NULL);
    return 0;
}

static void free_block(struct mem_block *block)
{
    if (block->host)
        munmap(block->host, block->size);
    if (block->fd >= 0)
        close(block->fd);
    free(block->marks);
    free(block->code_pieces);
    free(block->code_owners);
    free(block);
}

void memory_free(struct memory *memory)
{
    for (size_t i = 0; i < memory->nblocks; i++)
        free_block(memory->blocks[i]);
    free(memory->blocks);
    free(memory->regions);
    free(memory->ranges);
    pthread_mutex_destroy(&memory->code_lock);
    *memory = (struct memory){.a20_mask = UINT64_MAX};
}

/* The host hands out address space freely and kills later; what it can never back is refused here. */
static int check_host_room(const char *name, u64 size, struct error *err)
{
    struct sysinfo info;
    u64 total;

    if (sysinfo(&info))
        return 0;
    total = ((u64)info.totalram + info.totalswap) * info.mem_unit;
    if (size <= total)
        return 0;
    return error_set(err,
                     "%s: %" PRIu64 " MiB of memory are more than the %" PRIu64 " MiB that this host has",
                     name, size >> 20, total >> 20);
}

struct mem_block *memory_add_block(struct memory *memory, const char *name, u64 size, bool readonly,
                                   struct error *err)
{
    struct mem_block *block, **blocks;

    if (size == 0 || size > PHYS_END) {
        error_set(err, "%s: %" PRIu64 " bytes are no size for a block of memory", name, size);
        return NULL;
    }
    size = align_up(size, PAGE_SIZE);
    if (check_host_room(name, size, err))
        return NULL;
    blocks = realloc(memory->blocks, (memory->nblocks + 1) * sizeof(struct mem_block *));
    if (blocks)
        memory->blocks = blocks;
    block = calloc(1, sizeof(*block));
    if (!blocks || !block) {
        error_set(err, "%s: out of memory", name);
        free(block);
        return NULL;
    }
    snprintf(block->name, sizeof(block->name), "%s", name);
    block->size = size;
    block->readonly = readonly;
    block->marks = calloc(size >> PAGE_SHIFT, 1);
    block->code_pieces = calloc(size >> PAGE_SHIFT, sizeof(u64));
    block->code_owners = calloc(size >> PAGE_SHIFT, sizeof(u64));
    block->fd = memfd_create(name, MFD_CLOEXEC);
    if (!block->marks || !block->code_pieces || !block->code_owners || block->fd < 0 ||
        ftruncate(block->fd, (off_t)size)) {
        error_set_errno(err, errno, "%s: cannot make %" PRIu64 " MiB of memory", name, size >> 20);
        free_block(block);
        return NULL;
    }
    block->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, block->fd, 0);
    if (block->host == MAP_FAILED) {
        block->host = NULL;
        error_set_errno(err, errno, "%s: cannot map %" PRIu64 " MiB of memory", name, size >> 20);
        free_block(block);
        return NULL;
    }
    memory->blocks[memory->nblocks++] = block;
    return block;
}

/* ---- The map ---- */

int memory_add_region(struct memory *memory, struct mem_region *region, struct error *err)
{
    struct mem_region **regions =
        realloc(memory->regions, (memory->nregions + 1) * sizeof(struct mem_region *));

    if (!regions)
        return error_set(err, "%s: out of memory", region->name);
    memory->regions = regions;
    regions[memory->nregions++] = region;
    return 0;
}

void memory_remove_region(struct memory *memory, struct mem_region *region)
{
    for (size_t i = 0; i < memory->nregions; i++) {
        if (memory->regions[i] == region) {
            memmove(&memory->regions[i], &memory->regions[i + 1],
                    (memory->nregions - i - 1) * sizeof(struct mem_region *));
            memory->nregions--;
            return;
        }
    }
}

/* One past the last address, inside PHYS_END. A BAR may have been put where it runs over the end of all addresses. */
static u64 region_end(const struct mem_region *region)
{
    if (region->start >= PHYS_END || region->size > PHYS_END - region->start)
        return PHYS_END;
    return region->start + region->size;
}

static bool region_counts(const struct mem_region *region)
{
    return region->enabled && region->size && region->start < PHYS_END;
}

static int compare_u64(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;

    return x < y ? -1 : x > y;
}

/* The region that answers reads (or writes) of the interval that begins at `start`. */
static const struct mem_region *owner_at(const struct memory *memory, u64 start, bool write)
{
    const struct mem_region *best = NULL;

    for (size_t i = 0; i < memory->nregions; i++) {
        const struct mem_region *region = memory->regions[i];

        if (!region_counts(region) || start < region->start || start >= region_end(region))
            continue;
        if (!(write ? region->write : region->read))
            continue;
        if (!best || region->priority >= best->priority)
            best = region;
    }
    return best;
}

static struct mem_range make_range(u64 start, u64 end, const struct mem_region *reader,
                                   const struct mem_region *writer)
{
    struct mem_range range = {.start = start, .end = end};

    if (reader && reader->block) {
        range.read_block = reader->block;
        range.read_offset = reader->block_offset + (start - reader->start);
    } else if (reader) {
        range.read_ops = reader->ops;
        range.read_opaque = reader->opaque;
        range.read_io_base = reader->start;
    }
    if (writer && writer->block && !writer->block->readonly && !writer->ops) {
        range.write_block = writer->block;
        range.write_offset = writer->block_offset + (start - writer->start);
    } else if (writer) {
        range.write_ops = writer->ops;
        range.write_opaque = writer->opaque;
        range.write_io_base = writer->start;
    }
    return range;
}

/* Whether `b`, which begins where `a` ends, goes on as `a` does. */
static bool continues(const struct mem_range *a, const struct mem_range *b)
{
    u64 len = a->end - a->start;

    return a->end == b->start && a->read_block == b->read_block && a->write_block == b->write_block &&
           (!a->read_block || a->read_offset + len == b->read_offset) &&
           (!a->write_block || a->write_offset + len == b->write_offset) && a->read_ops == b->read_ops &&
           a->write_ops == b->write_ops && a->read_opaque == b->read_opaque &&
           a->write_opaque == b->write_opaque && a->read_io_base == b->read_io_base &&
           a->write_io_base == b->write_io_base;
}

static void stand_still(struct memory *memory)
{
    if (memory->stand_still)
        memory->stand_still(memory->still_opaque);
}

static void go_on(struct memory *memory)
{
    if (memory->go_on)
        memory->go_on(memory->still_opaque);
}

static void tell_remapped(struct memory *memory)
{
    for (size_t i = 0; i < memory->nlisteners; i++)
        memory->listeners[i].remapped(memory->listeners[i].opaque);
}

void memory_commit(struct memory *memory)
{
    u64 *edges = malloc((2 * memory->nregions + 1) * sizeof(*edges));
    struct mem_range *ranges = malloc((2 * memory->nregions + 1) * sizeof(*ranges));
    size_t nedges = 0, count = 0;

    if (!edges || !ranges)
        abort();
    for (size_t i = 0; i < memory->nregions; i++) {
        const struct mem_region *region = memory->regions[i];

        if (region_counts(region)) {
            assert(!region->block ||
                   region->block_offset + (region_end(region) - region->start) <= region->block->size);
            edges[nedges++] = region->start;
            edges[nedges++] = region_end(region);
        }
    }
    qsort(edges, nedges, sizeof(*edges), compare_u64);
    for (size_t i = 0; i + 1 < nedges; i++) {
        const struct mem_region *reader, *writer;
        struct mem_range range;

        if (edges[i] == edges[i + 1])
            continue;
        reader = owner_at(memory, edges[i], false);
        writer = owner_at(memory, edges[i], true);
        if (!reader && !writer)
            continue;
        range = make_range(edges[i], edges[i + 1], reader, writer);
        if (count && continues(&ranges[count - 1], &range))
            ranges[count - 1].end = range.end;
        else
            ranges[count++] = range;
    }
    free(edges);
    stand_still(memory);
    free(memory->ranges);
    memory->ranges = ranges;
    memory->nranges = count;
    tell_remapped(memory);
    go_on(memory);
}

void memory_set_a20(struct memory *memory, bool enabled)
{
    u64 mask = enabled ? UINT64_MAX : ~MIB(1);

    if (mask == memory->a20_mask)
        return;
    stand_still(memory);
    memory->a20_mask = mask;
    tell_remapped(memory);
    go_on(memory);
}

const struct mem_range *memory_find(const struct memory *memory, u64 phys)
{
    size_t low = 0, high = memory->nranges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct mem_range *range = &memory->ranges[middle];

        if (phys < range->start)
            high = middle;
        else if (phys >= range->end)
            low = middle + 1;
        else
            return range;
    }
    return NULL;
}

/* ---- Marks ---- */

int memory_add_listener(struct memory *memory, const struct mem_listener *listener, struct error *err)
{
    if (memory->nlisteners == MEM_LISTENERS)
        return error_set(err, "too many engines listen to this machine's memory");
    memory->listeners[memory->nlisteners++] = *listener;
    return 0;
}

void memory_remove_listener(struct memory *memory, void *opaque)
{
    for (size_t i = 0; i < memory->nlisteners; i++) {
        if (memory->listeners[i].opaque == opaque) {
            memory->listeners[i] = memory->listeners[--memory->nlisteners];
            return;
        }
    }
}

static u8 set_marks(struct mem_block *block, u64 offset, u8 marks)
{
    return __atomic_fetch_or(&block->marks[offset >> PAGE_SHIFT], marks, __ATOMIC_SEQ_CST);
}

/* A mark that forbids direct stores was set: take back the permission that engines may have cached. */
static void close_page(struct memory *memory, struct mem_block *block, u64 offset)
{
    if (!(mem_block_marks(block, offset) & PAGE_DIRECT))
        return;
    stand_still(memory);
    if (mem_block_marks(block, offset) & PAGE_DIRECT) {
        for (size_t i = 0; i < memory->nlisteners; i++)
            memory->listeners[i].protect(memory->listeners[i].opaque, block, offset & PAGE_MASK);
        mem_block_unmark(block, offset, PAGE_DIRECT);
    }
    go_on(memory);
}

void memory_protect(struct memory *memory, struct mem_block *block, u64 offset, u8 marks)
{
    set_marks(block, offset, marks);
    close_page(memory, block, offset);
}

void mem_block_unmark(struct mem_block *block, u64 offset, u8 marks)
{
    __atomic_fetch_and(&block->marks[offset >> PAGE_SHIFT], (u8)~marks, __ATOMIC_SEQ_CST);
}

bool mem_block_open(struct mem_block *block, u64 offset)
{
    return !(set_marks(block, offset, PAGE_DIRTY_ALL | PAGE_DIRECT) & (PAGE_CODE | PAGE_TABLE));
}

void memory_claim_code(struct memory *memory, struct mem_block *block, u64 offset, unsigned owner)
{
    pthread_mutex_lock(&memory->code_lock);
    __atomic_fetch_or(&block->code_owners[offset >> PAGE_SHIFT], 1ull << owner, __ATOMIC_SEQ_CST);
    set_marks(block, offset, PAGE_CODE);
    pthread_mutex_unlock(&memory->code_lock);
    close_page(memory, block, offset);
}

void memory_release_code(struct memory *memory, struct mem_block *block, u64 offset, unsigned owner)
{
    u64 page = offset >> PAGE_SHIFT;

    pthread_mutex_lock(&memory->code_lock);
    if (__atomic_and_fetch(&block->code_owners[page], ~(1ull << owner), __ATOMIC_SEQ_CST) == 0) {
        __atomic_store_n(&block->code_pieces[page], 0, __ATOMIC_SEQ_CST);
        mem_block_unmark(block, offset, PAGE_CODE);
    }
    pthread_mutex_unlock(&memory->code_lock);
}

void mem_block_add_code(struct mem_block *block, u64 offset, u64 pieces)
{
    __atomic_fetch_or(&block->code_pieces[offset >> PAGE_SHIFT], pieces, __ATOMIC_SEQ_CST);
}

void mem_block_set_dirty(struct mem_block *block, u64 offset)
{
    set_marks(block, offset, PAGE_DIRTY_ALL);
}

void memory_take_dirty(struct memory *memory, struct mem_block *block, u8 dirty_mark, u8 *log)
{
    for (u64 page = 0; page < block->size >> PAGE_SHIFT; page++)
        log[page] = __atomic_fetch_and(&block->marks[page], (u8)~dirty_mark, __ATOMIC_RELAXED) & dirty_mark;
    tell_remapped(memory);
}

/* `len` bytes of one page were written, which has a mark of `marks`. */
static void tell_written(struct memory *memory, struct mem_block *block, u64 offset, u64 len, u8 marks)
{
    u64 page = offset >> PAGE_SHIFT, owners = 0;

    if (marks & PAGE_CODE &&
        __atomic_load_n(&block->code_pieces[page], __ATOMIC_SEQ_CST) & code_pieces(offset, len))
        owners = __atomic_load_n(&block->code_owners[page], __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < memory->nlisteners; i++) {
        const struct mem_listener *listener = &memory->listeners[i];
        u8 its = (u8)((marks & PAGE_TABLE) | (owners >> listener->owner & 1 ? PAGE_CODE : 0));

        if (its)
            listener->written(listener->opaque, block, offset, len, its);
    }
}

void memory_written(struct memory *memory, struct mem_block *block, u64 offset, u64 len)
{
    /* Whoever claims a page meanwhile reads the bytes after it has set the mark: one of the two sees the other. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    while (len) {
        u64 here = PAGE_SIZE - (offset & ~PAGE_MASK);
        u8 marks = mem_block_marks(block, offset);

        if (here > len)
            here = len;
        if ((marks & PAGE_DIRTY_ALL) != PAGE_DIRTY_ALL)
            mem_block_set_dirty(block, offset);
        if (marks & (PAGE_CODE | PAGE_TABLE))
            tell_written(memory, block, offset, here, marks);
        offset += here;
        len -= here;
    }
}

/* ---- Copies ---- */

/* The bytes from `phys` on that one range answers alike, at most `len`; *range is NULL where nobody is. */
static u64 piece_at(const struct memory *memory, u64 phys, u64 len, const struct mem_range **range)
{
    u64 end;

    *range = memory_find(memory, phys);
    if (*range) {
        end = (*range)->end;
    } else {
        end = phys < PHYS_END ? PHYS_END : UINT64_MAX;
        for (size_t i = 0; i < memory->nranges; i++) {
            if (memory->ranges[i].start > phys) {
                end = memory->ranges[i].start;
                break;
            }
        }
    }
    return len < end - phys ? len : end - phys;
}

/* [phys, phys+len) cut to what does not run over the last address. */
static u64 without_wrap(u64 phys, u64 len)
{
    return len <= UINT64_MAX - phys ? len : UINT64_MAX - phys;
}

bool dma_read(struct memory *memory, u64 phys, void *to, u64 len)
{
    u64 reachable = without_wrap(phys, len);
    bool whole = reachable == len;
    u8 *out = to;

    memset(out + reachable, 0xff, len - reachable);
    while (reachable) {
        const struct mem_range *range;
        u64 n = piece_at(memory, phys, reachable, &range);

        if (range && range->read_block) {
            memcpy(out, range->read_block->host + range->read_offset + (phys - range->start), n);
        } else {
            memset(out, 0xff, n);
            whole = false;
        }
        phys += n;
        out += n;
        reachable -= n;
    }
    return whole;
}

/* `rom`: also into what answers reads and takes no writes. */
static bool copy_in(struct memory *memory, u64 phys, const void *from, u64 len, bool rom)
{
    u64 left = without_wrap(phys, len);
    bool whole = left == len;
    const u8 *in = from;

    while (left) {
        const struct mem_range *range;
        u64 n = piece_at(memory, phys, left, &range);
        struct mem_block *block = !range ? NULL : rom ? range->read_block : range->write_block;

        if (block) {
            u64 offset = (rom ? range->read_offset : range->write_offset) + (phys - range->start);

            memcpy(block->host + offset, in, n);
            memory_written(memory, block, offset, n);
        } else {
            whole = false;
        }
        phys += n;
        in += n;
        left -= n;
    }
    return whole;
}

bool dma_write(struct memory *memory, u64 phys, const void *from, u64 len)
{
    return copy_in(memory, phys, from, len, false);
}

bool memory_poke(struct memory *memory, u64 phys, const void *from, u64 len)
{
    return copy_in(memory, phys, from, len, true);
}

unsigned dma_map(struct memory *memory, u64 phys, u64 len, bool device_writes, struct iovec *iov,
                 unsigned max, u64 *mapped)
{
    unsigned count = 0;

    *mapped = 0;
    len = without_wrap(phys, len);
    while (len && count < max) {
        const struct mem_range *range;
        u64 n = piece_at(memory, phys, len, &range);
        struct mem_block *block = !range ? NULL : device_writes ? range->write_block : range->read_block;

        if (!block)
            break;
        iov[count++] = (struct iovec){.iov_base = block->host +
                                                  (device_writes ? range->write_offset : range->read_offset) +
                                                  (phys - range->start),
                                      .iov_len = n};
        *mapped += n;
        phys += n;
        len -= n;
    }
    return count;
}

void dma_complete(struct memory *memory, u64 phys, u64 len)
{
    len = without_wrap(phys, len);
    while (len) {
        const struct mem_range *range;
        u64 n = piece_at(memory, phys, len, &range);

        if (range && range->write_block)
            memory_written(memory, range->write_block, range->write_offset + (phys - range->start), n);
        phys += n;
        len -= n;
    }
}

/* ---- Single accesses ---- */

static u64 all_ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << 8 * size) - 1;
}

/* Guest memory is shared with host threads: an aligned access is one host access (design, "Threads and locks"). */
static u64 load_host(const u8 *from, unsigned size)
{
    u64 value = 0;

    if ((uintptr_t)from % size == 0) {
        switch (size) {
        case 1: return __atomic_load_n(from, __ATOMIC_RELAXED);
        case 2: return __atomic_load_n((const u16 *)from, __ATOMIC_RELAXED);
        case 4: return __atomic_load_n((const u32 *)from, __ATOMIC_RELAXED);
        case 8: return __atomic_load_n((const u64 *)from, __ATOMIC_RELAXED);
        default: break;
        }
    }
    memcpy(&value, from, size);
    return value;
}

static void store_host(u8 *to, unsigned size, u64 value)
{
    if ((uintptr_t)to % size == 0) {
        switch (size) {
        case 1: __atomic_store_n(to, (u8)value, __ATOMIC_RELAXED); return;
        case 2: __atomic_store_n((u16 *)to, (u16)value, __ATOMIC_RELAXED); return;
        case 4: __atomic_store_n((u32 *)to, (u32)value, __ATOMIC_RELAXED); return;
        case 8: __atomic_store_n((u64 *)to, value, __ATOMIC_RELAXED); return;
        default: break;
        }
    }
    memcpy(to, &value, size);
}

u64 memory_read(struct memory *memory, u64 phys, unsigned size)
{
    const struct mem_range *range = memory_find(memory, phys);

    if (size > 1 && range != memory_find(memory, phys + size - 1)) {
        u64 value = 0;

        for (unsigned i = 0; i < size; i++)
            value |= memory_read(memory, phys + i, 1) << 8 * i;
        return value;
    }
    if (!range)
        return all_ones(size);
    if (range->read_block)
        return load_host(range->read_block->host + range->read_offset + (phys - range->start), size);
    if (range->read_ops)
        return io_ops_read(range->read_ops, range->read_opaque, phys - range->read_io_base, size);
    return all_ones(size);
}

void memory_write(struct memory *memory, u64 phys, unsigned size, u64 value)
{
    const struct mem_range *range = memory_find(memory, phys);

    if (size > 1 && range != memory_find(memory, phys + size - 1)) {
        for (unsigned i = 0; i < size; i++)
            memory_write(memory, phys + i, 1, value >> 8 * i & 0xff);
        return;
    }
    if (!range)
        return;
    if (range->write_block) {
        u64 offset = range->write_offset + (phys - range->start);

        store_host(range->write_block->host + offset, size, value);
        memory_written(memory, range->write_block, offset, size);
    } else if (range->write_ops) {
        io_ops_write(range->write_ops, range->write_opaque, phys - range->write_io_base, size, value);
    }
}

/* ---- State ---- */

static int memory_post_load(void *object, struct error *err)
{
    const struct memory *memory = object;

    if (memory->a20_mask != UINT64_MAX && memory->a20_mask != ~MIB(1))
        return error_set(err, "the A20 mask is %" PRIx64 "h", memory->a20_mask);
    return 0;
}

static const struct state_field memory_fields[] = {
    STATE_FIELD(struct memory, a20_mask, STATE_U64, 1),
    STATE_END,
};
const struct state_table memory_state_table = {.name = "memory",
                                               .version = 1,
                                               .size = sizeof(struct memory),
                                               .fields = memory_fields,
                                               .post_load = memory_post_load};
