/*
 * Bounded byte builders for tables.
 *
 * A blob writes little-endian values into memory that somebody else owns and never runs over its end: it remembers that it
 * wanted to. The F segment is 64 KiB of ROM-to-be out of which tables are cut one after the other.
 */
#ifndef FIRMWARE_BLOB_H
#define FIRMWARE_BLOB_H

#include "base/types.h"
#include "machine/pc_map.h"

struct blob {
    u8 *data;
    u32 len, capacity;
    u32 phys; /* guest-physical address of data[0] */
    bool overflow;
};

void blob_bytes(struct blob *blob, const void *bytes, u32 len);
void blob_zero(struct blob *blob, u32 len);
void blob_u8(struct blob *blob, u8 value);
void blob_u16(struct blob *blob, u16 value);
void blob_u32(struct blob *blob, u32 value);
void blob_u64(struct blob *blob, u64 value);
/* `text` cut or padded with `pad` to `width` bytes. */
void blob_text(struct blob *blob, const char *text, u32 width, char pad);

/* Overwrite what was written before; ignored past the end. */
void blob_set_u8(struct blob *blob, u32 at, u8 value);
void blob_set_u16(struct blob *blob, u32 at, u16 value);
void blob_set_u32(struct blob *blob, u32 at, u32 value);

/* Set the byte at `at` so that bytes [start, start+len) sum up to 0. */
void blob_checksum(struct blob *blob, u32 start, u32 len, u32 at);

enum { FSEG_SIZE = 0x10000, FSEG_TABLES_END = 0xfff0 /* the reset vector */ };

struct fseg {
    u8 bytes[FSEG_SIZE];
    u32 used;
    bool overflow; /* some table did not fit */
};

/* Begin a table at the next multiple of `align` (a power of two); one table at a time. */
struct blob fseg_begin(struct fseg *fseg, u32 align);
/* Keep what was written; returns its guest-physical address. */
u32 fseg_end(struct fseg *fseg, const struct blob *table);

#endif
