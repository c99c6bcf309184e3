/*
 * From pieces to an image: each chunk at its place, with a jump behind it; addresses in the pieces; where the system goes on
 * after a fault.
 */
#include <string.h>

#include "seq.h"

enum { JUMP_BYTES = 5 };

static bool is_empty(const struct program *p, unsigned c)
{
    for (unsigned n = 0; n < p->chunks[c].count; n++)
        if (!p->pieces[p->chunks[c].first + n].dropped)
            return false;
    return true;
}
/* The chunk that comes after the main one `c`, the last of which is followed by the first. */
static unsigned next_chunk(const struct program *p, unsigned c)
{
    for (unsigned n = 0; n < p->main_chunks; n++) {
        c = (c + 1) % p->main_chunks;
        if (!is_empty(p, c))
            return c;
    }
    return 0;
}
/* Nothing is left of it, and nobody can miss it. */
static bool is_gone(const struct program *p, unsigned c)
{
    if (!is_empty(p, c))
        return false;
    if (!p->chunks[c].function)
        return c || next_chunk(p, 0);
    for (unsigned n = 0; n < p->npieces; n++)
        for (unsigned k = 0; !p->pieces[n].dropped && k < p->pieces[n].nfixups; k++)
            if (p->pieces[n].fixups[k].target == p->chunks[c].first)
                return false;
    return !p->ntables;
}

/* Address of each piece; of one that was dropped, that of what follows. */
static void place(const struct program *p, u32 address[MAX_PIECES + 1])
{
    for (unsigned c = 0; c < p->nchunks; c++) {
        bool passed = !p->chunks[c].function && is_gone(p, c);
        u32 at = CODE_BASE + p->chunks[passed ? next_chunk(p, c) : c].offset;

        for (unsigned n = 0; n < p->chunks[c].count; n++) {
            unsigned piece = p->chunks[c].first + n;

            address[piece] = at;
            at += p->pieces[piece].dropped ? 0 : p->pieces[piece].length;
        }
    }
}

static void put32(u8 *at, u32 v)
{
    memcpy(at, &v, 4);
}

static void put_piece(const struct program *p, const u32 *address, unsigned n, u8 *to)
{
    const struct piece *piece = &p->pieces[n];

    memcpy(to, piece->bytes, piece->length);
    for (unsigned k = 0; k < piece->nfixups; k++) {
        const struct fixup *f = &piece->fixups[k];
        u32 end = address[n] + f->end;
        i32 distance = (i32)(address[f->target] - end);

        switch (f->kind) {
        case FIX_REL8: to[f->at] = (u8)(distance == (i8)distance ? distance : 0); break;
        case FIX_REL32: put32(to + f->at, (u32)distance); break;
        case FIX_ABS32: put32(to + f->at, address[f->target] + f->addend); break;
        default: put32(to + f->at, f->addend - end); break;
        }
    }
}

/* Bytes that are no instruction count one each. */
void image_note_skips(struct image *image, unsigned at, unsigned end)
{
    static const struct x86_decode_mode mode = {X86_CODE64, false};

    while (at < end) {
        struct x86_insn insn;
        unsigned length = 1;

        if (x86_decode(&mode, image->code + at, end - at, &insn) == X86_DECODE_OK)
            length = insn.length;
        for (unsigned n = 0; n < length; n++)
            image->skip[at + n] = (u16)(at + length);
        at += length;
    }
}

static void put_chunk(struct program *p, const u32 *address, unsigned c)
{
    const struct chunk *chunk = &p->chunks[c];
    unsigned at = chunk->offset, next = next_chunk(p, c);

    if (is_gone(p, c))
        return;
    for (unsigned n = chunk->first; n < (unsigned)chunk->first + chunk->count; n++) {
        if (p->pieces[n].dropped)
            continue;
        put_piece(p, address, n, p->image.code + at);
        image_note_skips(&p->image, at, at + p->pieces[n].length);
        at += p->pieces[n].length;
    }
    if (chunk->function) {
        p->image.code[at] = 0xc3;
        p->image.skip[at] = p->chunks[0].offset;
        return;
    }
    if (p->image.limit && (next == 0 || c + 1 >= p->main_chunks || next <= c)) {
        p->image.code[at] = 0xcd;
        p->image.code[at + 1] = SERVICE_AGAIN;
        image_note_skips(&p->image, at, at + 2);
        at += 2;
    }
    p->image.code[at] = 0xe9;
    put32(p->image.code + at + 1, (u32)p->chunks[next].offset - (at + JUMP_BYTES));
    for (unsigned n = 0; n < JUMP_BYTES; n++)
        p->image.skip[at + n] = p->chunks[next].offset;
}

void program_assemble(struct program *p)
{
    u32 address[MAX_PIECES + 1] = {0};
    struct image *image = &p->image;

    memset(image->code, 0xcc, sizeof(image->code));
    memset(image->skip, 0, sizeof(image->skip));
    place(p, address);
    for (unsigned c = 0; c < p->nchunks; c++)
        put_chunk(p, address, c);
    for (unsigned n = 0; n < p->ntables; n++)
        for (unsigned k = 0; k < 8; k++)
            image->tables[n * 8 + k] = address[p->tables[n][k]];
    memset(image->sites, 0, sizeof(image->sites));
    for (unsigned n = 0; n < p->nsites; n++)
        if (!p->pieces[p->sites[n].piece].dropped)
            image->sites[n] = (u16)(address[p->sites[n].piece] - CODE_BASE + p->sites[n].at);
    for (unsigned n = 0; n < RESUME_ENTRIES; n++)
        image->resume[n] = address[n * 37 % p->chunks[p->main_chunks - 1].first];
    image->rip = CODE_BASE + p->chunks[is_gone(p, 0) ? next_chunk(p, 0) : 0].offset;
}
