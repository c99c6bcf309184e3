/*
 * The layout of a snapshot file. All numbers are little-endian.
 *
 *     file header    32 bytes
 *     chunks         one after the other, each a header of 32 bytes and its payload
 *       BOARD        name of the board
 *       CONFIG       text of the configuration
 *       STATE        sections: u8 length, name, u32 bytes, state stream (state/state.c)
 *       BLOCK        a block of memory: u64 size, then its name; the PAGES that follow are its own
 *       PAGES        zstd: u32 count, u32 0, u64 number of each page in rising order, then the pages. Pages that are
 *                    nowhere are zero
 *       END          empty; the last
 *
 * Every checksum is XXH3 with 64 bits. That of the header covers the header; that of a chunk covers its header, its
 * payload and, as the seed, its position in the order of chunks: so no chunk can be lost, doubled or moved. They tell
 * damage, not malice: what a checksum lets through is checked as if it came from an enemy.
 */
#ifndef SNAPSHOT_FORMAT_H
#define SNAPSHOT_FORMAT_H

#include "base/types.h"

enum { SNAPSHOT_VERSION = 1 };

/* As PNG's: bytes that a transfer in text mode damages. */
#define SNAPSHOT_MAGIC "\x89PLA\r\n\x1a\n"

struct snapshot_header {
    u8 magic[8];
    u32 version;
    u32 reserved; /* 0 */
    u64 file_size;
    u64 checksum; /* of the bytes before it */
};

enum snapshot_chunk_type {
    SNAPSHOT_BOARD = 1,
    SNAPSHOT_CONFIG,
    SNAPSHOT_STATE,
    SNAPSHOT_BLOCK,
    SNAPSHOT_PAGES,
    SNAPSHOT_END,
};

struct snapshot_chunk {
    u32 type;
    u32 reserved; /* 0 */
    u64 size;     /* of the payload as it stands in the file */
    u64 raw_size; /* of the payload when unpacked; other types than PAGES: `size` */
    u64 checksum; /* of the bytes before it and the payload */
};

enum {
    SNAPSHOT_MAX_PAGES = 256,     /* in a chunk */
    SNAPSHOT_MAX_STATE = 64 << 20 /* bytes of any chunk but PAGES */
};

_Static_assert(sizeof(struct snapshot_header) == 32 && sizeof(struct snapshot_chunk) == 32, "no padding");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are written as they lie in memory");

u64 snapshot_header_checksum(const struct snapshot_header *header);
u64 snapshot_chunk_checksum(const struct snapshot_chunk *chunk, const void *payload, u64 position);

#endif
