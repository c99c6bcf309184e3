#include "snapshot/format.h"

#include <stddef.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

u64 snapshot_header_checksum(const struct snapshot_header *header)
{
    return XXH3_64bits(header, offsetof(struct snapshot_header, checksum));
}

u64 snapshot_chunk_checksum(const struct snapshot_chunk *chunk, const void *payload, u64 position)
{
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, position);
    XXH3_64bits_update(&state, chunk, offsetof(struct snapshot_chunk, checksum));
    if (chunk->size)
        XXH3_64bits_update(&state, payload, chunk->size);
    return XXH3_64bits_digest(&state);
}
