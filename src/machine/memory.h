/*
 * Guest-physical memory: blocks of host memory, the map of what answers at which address, and the per-page marks that make
 * memory tell (invariant 4).
 *
 * The map is a list of regions with priorities (the owner adds, moves, removes them with the VM parked or under the device
 * lock in turn mode); memory_commit flattens it into sorted ranges that do not overlap, which is what engines and DMA look
 * up. A change of the map makes every engine flush.
 */
#ifndef MACHINE_MEMORY_H
#define MACHINE_MEMORY_H

#include <pthread.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"
#include "machine/io.h"
#include "state/state.h"

enum { PAGE_SHIFT = 12, PAGE_SIZE = 1 << PAGE_SHIFT };
#define PAGE_MASK (~(u64)(PAGE_SIZE - 1))

/* Marks of one page of a block. */
enum {
    PAGE_CODE =
        1 << 0, /* some engine has translations from this page: a store must go through memory_written */
    PAGE_TABLE = 1 << 1, /* deterministic mode: was walked as a page table, same rule */
    PAGE_DIRTY_MIGRATION =
        1 << 2, /* dirty logs, one bit a client. Set: written since the client cleared it. */
    PAGE_DIRTY_SNAPSHOT = 1 << 3,
    PAGE_DIRTY_DISPLAY = 1 << 4,
    PAGE_DIRTY_ALL = PAGE_DIRTY_MIGRATION | PAGE_DIRTY_SNAPSHOT | PAGE_DIRTY_DISPLAY,
    PAGE_DIRECT =
        1 << 5, /* some engine may store to the page directly: whoever marks it has to tell them first */
};

/* What PAGE_CODE is about is kept by pieces of a page, a bit of a word each. */
enum { CODE_PIECE_SHIFT = PAGE_SHIFT - 6 };

/* Host memory that the guest sees: RAM (one block, a memfd) or a ROM. */
struct mem_block {
    char name[32];
    u8 *host; /* page-aligned, `size` bytes */
    u64 size; /* multiple of PAGE_SIZE */
    int fd;   /* memfd */
    bool readonly;
    u8 *marks;        /* PAGE_* of each page; set and cleared with atomic OR and AND */
    u64 *code_pieces; /* of each page: what translations were made from; may have bits too many */
    u64 *code_owners; /* of each page: whose (mem_listener.owner, a bit each) */
};

enum mem_kind { MEM_RAM, MEM_ROM, MEM_IO };

/* One piece of the map as its owner describes it. */
struct mem_region {
    u64 start, size;
    int priority; /* higher covers lower; equal: the later added covers */
    bool enabled;
    bool read, write;        /* which accesses it answers; PAM gives reads and writes to different owners */
    struct mem_block *block; /* RAM and ROM; NULL for I/O */
    u64 block_offset;
    const struct io_ops *ops; /* I/O, and writes to a ROM that has ops (flash); NULL otherwise */
    void *opaque;
    const char *name;
};

/* One stretch of the flattened map. An address outside every range reads as all ones and swallows writes. Ranges need not
   begin or end at a page: an engine maps a page directly only where one range holds all of it. */
struct mem_range {
    u64 start, end; /* [start, end) */
    struct mem_block *read_block,
        *write_block;              /* NULL: through ops or, without ops, nobody. A readonly block is never in
                                                   write_block */
    u64 read_offset, write_offset; /* of `start` in the block */
    const struct io_ops *read_ops, *write_ops;
    void *read_opaque, *write_opaque;
    u64 read_io_base, write_io_base; /* address that is offset 0 of the ops */
};

struct memory;

/* Who must hear of writes to marked pages, and of changes of the map: the engines. Called with the device lock held or on
   the thread of the vCPU that wrote. */
struct mem_listener {
    /* Bytes [offset, offset+len) of a page of `block` were written; `marks`: PAGE_CODE when they meet the code pieces of a
       page that this listener has claimed, PAGE_TABLE when the page has that mark. */
    void (*written)(void *opaque, struct mem_block *block, u64 offset, u64 len, unsigned marks);
    /* The page at `offset` of `block` got a mark, or lost a dirty mark, so that stores to it must take the slow path again:
       drop cached permission to store to it directly. Called on every listener, the engine that marks included. */
    void (*protect)(void *opaque, struct mem_block *block, u64 offset);
    /* Forget every cached translation from guest-physical to host. */
    void (*remapped)(void *opaque);
    void *opaque;
    unsigned owner; /* its bit of code_owners, 0..63: the vCPU's index */
};
enum { MEM_LISTENERS = 130 };

struct memory {
    struct mem_region **regions; // not saved: wiring, with the owners' state behind it
    size_t nregions;             // not saved: wiring
    struct mem_range *ranges;    // not saved: sorted, made by memory_commit
    size_t nranges;              // not saved: made by memory_commit
    struct mem_block **blocks;   // not saved: in order of creation, [0] is RAM; snapshots save their pages
    size_t nblocks;              // not saved: wiring
    struct mem_listener listeners[MEM_LISTENERS]; // not saved: wiring
    size_t nlisteners;                            // not saved: wiring
    pthread_mutex_t code_lock;                    // not saved: guards code_owners and PAGE_CODE together
    /* Have every vCPU stand still, and let them go on: around changes of what they use without a lock. NULL: there is
       nobody. */
    void (*stand_still)(void *opaque); // not saved: wiring
    void (*go_on)(void *opaque);       // not saved: wiring
    void *still_opaque;                // not saved: wiring
    u64 a20_mask; /* ~0, or ~(1 << 20) while A20 is off. All CPU accesses are masked with it by the engine */
    bool
        track_page_tables; // not saved: a choice of the configuration; deterministic mode: engines set PAGE_TABLE
};
extern const struct state_table memory_state_table;

MUST_CHECK int memory_init(struct memory *memory, struct error *err);
void memory_free(struct memory *memory);

/* Make a block of zeroes backed by a memfd; owned by `memory`. `size` is rounded up to pages. NULL with `err` set when the
   host has no room. */
struct mem_block *memory_add_block(struct memory *memory, const char *name, u64 size, bool readonly,
                                   struct error *err);

/* Add a region; the caller keeps ownership and must keep it alive until memory_remove_region. Takes effect at the next
   memory_commit. */
MUST_CHECK int memory_add_region(struct memory *memory, struct mem_region *region, struct error *err);
void memory_remove_region(struct memory *memory, struct mem_region *region);

/* Flatten the map and tell the listeners. Changes of a region's fields take effect here. Out of memory aborts (a bounded,
   small allocation). */
void memory_commit(struct memory *memory);

/* Set the A20 gate; tells the listeners when it changes. */
void memory_set_a20(struct memory *memory, bool enabled);

/* The range that holds `phys`, or NULL. */
const struct mem_range *memory_find(const struct memory *memory, u64 phys);

/* Tell that bytes of a block were written by something that has no fast path of its own: sets the dirty marks and calls the
   listeners for pages with PAGE_CODE or PAGE_TABLE. Any length. */
void memory_written(struct memory *memory, struct mem_block *block, u64 offset, u64 len);

static inline u8 mem_block_marks(const struct mem_block *block, u64 offset)
{
    return __atomic_load_n(&block->marks[offset >> PAGE_SHIFT], __ATOMIC_RELAXED);
}
/* Set PAGE_TABLE on the page at `offset`: stores to it are heard of from now on. */
void memory_protect(struct memory *memory, struct mem_block *block, u64 offset, u8 marks);
/* Clear PAGE_TABLE: nothing is derived from the page any more. */
void mem_block_unmark(struct mem_block *block, u64 offset, u8 marks);
/*
 * Translations of a page. `owner` claims it before it reads the first byte: from then on nobody stores to the page directly.
 * Each translation adds the pieces that it was made from (code_pieces) and then looks whether the bytes are still what it
 * has read: a later store is told to the owner. The owner gives the page back when it has no translation of it left.
 */
void memory_claim_code(struct memory *memory, struct mem_block *block, u64 offset, unsigned owner);
void memory_release_code(struct memory *memory, struct mem_block *block, u64 offset, unsigned owner);
void mem_block_add_code(struct mem_block *block, u64 offset, u64 pieces);
/* The pieces of `len` bytes (at least one) at `offset`, which lie in one page. */
static inline u64 code_pieces(u64 offset, u64 len)
{
    u64 first = (offset & ~PAGE_MASK) >> CODE_PIECE_SHIFT,
        last = ((offset & ~PAGE_MASK) + len - 1) >> CODE_PIECE_SHIFT;

    return (~0ull >> (63 - (last - first))) << first;
}
/* Set all dirty marks of the page. */
void mem_block_set_dirty(struct mem_block *block, u64 offset);
/* The same, before stores go to the page directly. false: they must not, the page has PAGE_CODE or PAGE_TABLE. */
bool mem_block_open(struct mem_block *block, u64 offset);
/* Copy one client's dirty log (a byte a page, non-zero = dirty) to `log` and clear it; listeners get `remapped`. VM parked. */
void memory_take_dirty(struct memory *memory, struct mem_block *block, u8 dirty_mark, u8 *log);

MUST_CHECK int memory_add_listener(struct memory *memory, const struct mem_listener *listener,
                                   struct error *err);
void memory_remove_listener(struct memory *memory, void *opaque);

/*
 * Copies for devices, loaders and debuggers. They may cross ranges. I/O ranges are not entered: such bytes read as FFh and
 * writes to them are lost, so a device that is told to DMA into its own registers does nothing (CVE-2021-20255). Returns
 * whether every byte was RAM (or, reading, ROM). Device lock held or VM parked.
 */
bool dma_read(struct memory *memory, u64 phys, void *to, u64 len);
bool dma_write(struct memory *memory, u64 phys, const void *from, u64 len);

/*
 * Host vectors for [phys, phys+len), for backends. Returns the number of vectors filled (at most `max`), covering a prefix
 * of the range; *mapped gets its length in bytes. Stops at the first byte that is not RAM. dma_complete must follow when a
 * transfer into guest memory has ended: it marks pages dirty and kills translations.
 */
unsigned dma_map(struct memory *memory, u64 phys, u64 len, bool device_writes, struct iovec *iov,
                 unsigned max, u64 *mapped);
void dma_complete(struct memory *memory, u64 phys, u64 len);

/* Loaders and debuggers: writes that also reach ROM. */
bool memory_poke(struct memory *memory, u64 phys, const void *from, u64 len);

/* One guest access of 1, 2, 4 or 8 bytes that does not cross a page, RAM, ROM or I/O: an engine's slow path. Device lock
   held for I/O. */
u64 memory_read(struct memory *memory, u64 phys, unsigned size);
void memory_write(struct memory *memory, u64 phys, unsigned size, u64 value);

#endif
