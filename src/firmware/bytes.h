/* Little-endian values in byte buffers, at any alignment. */
#ifndef FIRMWARE_BYTES_H
#define FIRMWARE_BYTES_H

#include "base/types.h"

static inline u16 get_u16(const u8 *at)
{
    return (u16)(at[0] | at[1] << 8);
}
static inline u32 get_u32(const u8 *at)
{
    return get_u16(at) | (u32)get_u16(at + 2) << 16;
}
static inline u64 get_u64(const u8 *at)
{
    return get_u32(at) | (u64)get_u32(at + 4) << 32;
}

static inline void put_u16(u8 *at, u16 value)
{
    at[0] = (u8)value;
    at[1] = (u8)(value >> 8);
}

static inline void put_u32(u8 *at, u32 value)
{
    put_u16(at, (u16)value);
    put_u16(at + 2, (u16)(value >> 16));
}

static inline void put_u64(u8 *at, u64 value)
{
    put_u32(at, (u32)value);
    put_u32(at + 4, (u32)(value >> 32));
}

#endif
