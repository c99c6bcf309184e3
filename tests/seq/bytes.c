/*
 * A program as a few bytes, for the fuzzer: 20 bytes of what it starts from, then code, with a jump back behind it.
 *
 *    0  bits: user, SMAP, CR0.WP, CR0.AM, PCIDs, no vector registers; 6..7: which translator
 *    1  how the budget is cut; 2: arithmetic flags; 3: where the code is, in units of 32 bytes
 *    4  a byte for each register: below 128 an address in the data, else a number
 */
#include <string.h>

#include "seq.h"

enum { BYTES_HEAD = 20, BYTES_CODE_MAX = 0x1000, CODE_UNIT = 32, PLACES = 128, RUN_TOTAL = 600 };

static u64 register_value(u8 b)
{
    static const u64 numbers[] = {
        0,    1,          2,          8,          31,         63,        0x7f,       0x80,
        0xff, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, INT64_MAX, 1ull << 63, 0x0123456789abcdef};

    if (b < 128)
        return DATA_BASE + (b >> 4) * 0x1000 + (b & 8 ? 0x1000 - (b & 7) : (b & 7) * 0x100);
    return numbers[b & 15];
}

bool image_from_bytes(const u8 *data, size_t size, struct image *image, struct schedule *schedule)
{
    unsigned at, length;

    if (size < BYTES_HEAD + 1)
        return false;
    memset(image, 0, sizeof(*image));
    image->user = data[0] & 1;
    image->smap = data[0] & 2;
    image->write_protect = data[0] & 4;
    image->align_check = data[0] & 8;
    image->pcid = data[0] & 16;
    image->vectors_zero = data[0] & 32;
    *schedule = (struct schedule){
        .seed = data[1], .total = RUN_TOTAL, .kind = data[1] % SCHEDULE_KINDS, .engine = data[0] >> 6};
    image->rflags = data[2] & FLAGS_ARITH;
    for (unsigned n = 0; n < 16; n++)
        image->gpr[n] = register_value(data[4 + n]);
    image->gpr[RSP] = STACK_USUAL;
    image->fs_base = DATA_BASE;
    image->seed = 1;

    at = data[3] % PLACES * CODE_UNIT;
    length = size - BYTES_HEAD > BYTES_CODE_MAX ? BYTES_CODE_MAX : (unsigned)(size - BYTES_HEAD);
    memset(image->code, 0xcc, sizeof(image->code));
    memcpy(image->code + at, data + BYTES_HEAD, length);
    image->code[at + length] = 0xe9;
    memcpy(image->code + at + length + 1, &(i32){-(i32)length - 5}, 4);
    image_note_skips(image, at, at + length);
    image->rip = CODE_BASE + at;
    for (unsigned n = 0; n < RESUME_ENTRIES; n++)
        image->resume[n] = CODE_BASE + at;
    return true;
}

size_t image_to_bytes(const struct image *image, u8 *data, size_t max)
{
    unsigned at = (unsigned)(image->rip - CODE_BASE) / CODE_UNIT * CODE_UNIT;
    size_t length = max - BYTES_HEAD < CODE_SIZE - at ? max - BYTES_HEAD : CODE_SIZE - at;

    memset(data, 0, BYTES_HEAD);
    data[0] = (u8)(image->user | image->smap << 1 | image->write_protect << 2 | image->align_check << 3 |
                   image->pcid << 4 | (image->seed & 3) << 6);
    data[1] = (u8)(image->seed >> 8);
    data[2] = (u8)image->rflags;
    data[3] = (u8)(at / CODE_UNIT);
    for (unsigned n = 0; n < 16; n++)
        data[4 + n] =
            (u8)(image->gpr[n] - DATA_BASE < 0x8000 ? (image->gpr[n] - DATA_BASE) >> 8 : image->gpr[n] | 128);
    memcpy(data + BYTES_HEAD, image->code + at, length);
    return BYTES_HEAD + length;
}
