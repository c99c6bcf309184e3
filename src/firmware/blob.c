#include "firmware/blob.h"

#include <string.h>

/* Room for `len` more bytes, or NULL with the overflow noted. */
static u8 *blob_extend(struct blob *blob, u32 len)
{
    u8 *at = blob->data + blob->len;

    if (blob->overflow || len > blob->capacity - blob->len) {
        blob->overflow = true;
        return NULL;
    }
    blob->len += len;
    return at;
}

void blob_bytes(struct blob *blob, const void *bytes, u32 len)
{
    u8 *at = blob_extend(blob, len);

    if (at)
        memcpy(at, bytes, len);
}

void blob_zero(struct blob *blob, u32 len)
{
    u8 *at = blob_extend(blob, len);

    if (at)
        memset(at, 0, len);
}

/* The low `size` bytes of `value`, low byte first. */
static void blob_value(struct blob *blob, u64 value, u32 size)
{
    u8 *at = blob_extend(blob, size);

    for (u32 i = 0; at && i < size; i++)
        at[i] = (u8)(value >> 8 * i);
}

void blob_u8(struct blob *blob, u8 value)
{
    blob_value(blob, value, 1);
}
void blob_u16(struct blob *blob, u16 value)
{
    blob_value(blob, value, 2);
}
void blob_u32(struct blob *blob, u32 value)
{
    blob_value(blob, value, 4);
}
void blob_u64(struct blob *blob, u64 value)
{
    blob_value(blob, value, 8);
}

void blob_text(struct blob *blob, const char *text, u32 width, char pad)
{
    u8 *at = blob_extend(blob, width);
    size_t len = strnlen(text, width);

    if (!at)
        return;
    memset(at, pad, width);
    memcpy(at, text, len);
}

static void blob_set(struct blob *blob, u32 at, u64 value, u32 size)
{
    for (u32 i = 0; i < size && at + i < blob->len; i++)
        blob->data[at + i] = (u8)(value >> 8 * i);
}

void blob_set_u8(struct blob *blob, u32 at, u8 value)
{
    blob_set(blob, at, value, 1);
}
void blob_set_u16(struct blob *blob, u32 at, u16 value)
{
    blob_set(blob, at, value, 2);
}
void blob_set_u32(struct blob *blob, u32 at, u32 value)
{
    blob_set(blob, at, value, 4);
}

void blob_checksum(struct blob *blob, u32 start, u32 len, u32 at)
{
    u8 sum = 0;

    blob_set_u8(blob, at, 0);
    for (u32 i = start; i < start + len && i < blob->len; i++)
        sum += blob->data[i];
    blob_set_u8(blob, at, (u8)-sum);
}

struct blob fseg_begin(struct fseg *fseg, u32 align)
{
    u32 start = (u32)align_up(fseg->used, align);

    if (start > FSEG_TABLES_END)
        start = FSEG_TABLES_END;
    return (struct blob){
        .data = fseg->bytes + start,
        .capacity = FSEG_TABLES_END - start,
        .phys = PC_F_SEGMENT + start,
    };
}

u32 fseg_end(struct fseg *fseg, const struct blob *table)
{
    fseg->overflow |= table->overflow;
    fseg->used = table->phys - PC_F_SEGMENT + table->len;
    return table->phys;
}
