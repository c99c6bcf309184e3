#include <string.h>

#include "firmware/load.h"

/* What of the ELF format (System V ABI, chapter 4) both classes share. <elf.h> is not included: its names clash with those
   of x86/vcpu_state.h. */
enum {
    IDENT_CLASS = 4,
    CLASS_32 = 1,
    CLASS_64 = 2,
    IDENT_DATA = 5,
    DATA_LITTLE_ENDIAN = 1,
    HEADER_MACHINE = 18,
    HEADER_ENTRY = 24,
    MACHINE_386 = 3,
    MACHINE_X86_64 = 62,
};

/* Offsets of fields where the classes differ; the `word`-sized ones are addresses, offsets and sizes. */
struct elf_layout {
    unsigned word;
    unsigned table, entry_size, count;                     /* in the file header */
    unsigned offset, vaddr, paddr, filesz, memsz, segment; /* in a program header, and its size */
};
enum { SEGMENT_HEADER_MAX = 56 };
static const struct elf_layout layout32 = {4, 28, 42, 44, 4, 8, 12, 16, 20, 32};
static const struct elf_layout layout64 = {8, 32, 54, 56, 8, 16, 24, 32, 40, SEGMENT_HEADER_MAX};

static u64 get_word(const struct elf_layout *layout, const u8 *at)
{
    return layout->word == 8 ? get_u64(at) : get_u32(at);
}

bool elf_detect(const struct loader *loader)
{
    return memcmp(loader->head, "\177ELF", 4) == 0;
}

int elf_open(struct loader *loader, struct elf_image *image, struct error *err)
{
    const u8 *head = loader->head;
    const struct elf_layout *layout = head[IDENT_CLASS] == CLASS_64 ? &layout64 : &layout32;
    u16 machine = get_u16(head + HEADER_MACHINE);
    u64 table = get_word(layout, head + layout->table);
    unsigned entry_size = get_u16(head + layout->entry_size);

    image->count = get_u16(head + layout->count);
    image->entry = get_word(layout, head + HEADER_ENTRY);
    if (head[IDENT_DATA] != DATA_LITTLE_ENDIAN || (layout == &layout32 && head[IDENT_CLASS] != CLASS_32) ||
        (machine != MACHINE_386 && machine != MACHINE_X86_64))
        return load_file_bad(&loader->kernel, err,
                             "this ELF file is for another kind of CPU; give an x86 kernel");
    if (entry_size < layout->segment)
        return load_file_bad(&loader->kernel, err, "its ELF program headers are malformed; get another copy");
    if (image->count > ELF_MAX_SEGMENTS)
        return load_file_bad(&loader->kernel, err, "it has more than %d ELF program headers",
                             ELF_MAX_SEGMENTS);
    if (table > loader->kernel.size || (u64)image->count * entry_size > loader->kernel.size - table)
        return load_file_bad(&loader->kernel, err,
                             "its program headers lie past the end; the file is truncated");
    for (unsigned i = 0; i < image->count; i++) {
        u8 header[SEGMENT_HEADER_MAX];

        if (load_file_read(&loader->kernel, table + (u64)i * entry_size, header, layout->segment, err))
            return -1;
        image->segments[i] = (struct elf_segment){
            .type = get_u32(header),
            .offset = get_word(layout, header + layout->offset),
            .vaddr = get_word(layout, header + layout->vaddr),
            .paddr = get_word(layout, header + layout->paddr),
            .filesz = get_word(layout, header + layout->filesz),
            .memsz = get_word(layout, header + layout->memsz),
        };
    }
    return 0;
}

int elf_load(struct loader *loader, const struct elf_image *image, struct error *err)
{
    bool any = false;

    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];

        if (s->type != ELF_LOAD || s->memsz == 0)
            continue;
        if (s->filesz > s->memsz)
            return load_file_bad(&loader->kernel, err,
                                 "ELF segment %u has more bytes than room; get another copy", i);
        if (place_claim(&loader->place, &loader->kernel, s->paddr, s->memsz, err) ||
            load_file_to_memory(&loader->kernel, s->offset, s->filesz, loader->config->memory, s->paddr, err))
            return -1;
        loader_zero(loader, s->paddr + s->filesz, s->memsz - s->filesz);
        any = true;
    }
    if (!any)
        return load_file_bad(&loader->kernel, err, "this ELF file has nothing to load; give a linked kernel");
    return 0;
}

u64 elf_entry(const struct elf_image *image)
{
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];

        if (s->type == ELF_LOAD && image->entry >= s->vaddr && image->entry - s->vaddr < s->memsz)
            return image->entry - s->vaddr + s->paddr;
    }
    return image->entry;
}
