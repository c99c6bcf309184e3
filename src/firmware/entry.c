#include <string.h>

#include "firmware/load.h"

enum {
    CODE = SEG_CODE | SEG_WRITE | SEG_ACCESSED | SEG_S | SEG_P,
    DATA = SEG_WRITE | SEG_ACCESSED | SEG_S | SEG_P,
    TSS32_BUSY = 11 | SEG_P,
    TSS_LIMIT = 0x67,
};

static struct seg flat_segment(u16 selector, u16 attr)
{
    return (struct seg){.base = 0, .limit = UINT32_MAX, .selector = selector, .attr = attr | SEG_G};
}

/* A descriptor as the GDT holds it (SDM 3A 3.4.5). */
static u64 descriptor(const struct seg *seg)
{
    u64 limit = seg->attr & SEG_G ? seg->limit >> 12 : seg->limit;

    return (limit & 0xffff) | (seg->base & 0xffffff) << 16 | (u64)(seg->attr & 0xf0ff) << 40 |
           (limit >> 16 & 0xf) << 48 | (seg->base >> 24 & 0xff) << 56;
}

/* What all entry states have in common: registers clear, caches on. */
static void clear_registers(struct vcpu_state *state)
{
    memset(state->gpr, 0, sizeof(state->gpr));
    state->rflags = FLAG_ONE;
    state->cr0 = CR0_ET;
    state->cr2 = state->cr3 = state->cr4 = state->cr8 = 0;
    state->efer = 0;
}

/* Load flat segments, `code_size` SEG_DB (32-bit) or SEG_L (64-bit), and put a GDT that says the same in memory. */
static int flat_segments(struct loader *loader, u16 code_size, struct error *err)
{
    struct vcpu_state *state = loader->state;
    struct seg code = flat_segment(ENTRY_CS, CODE | code_size);
    struct seg data = flat_segment(ENTRY_DS, DATA | SEG_DB);
    u8 gdt[ENTRY_TR + 16] = {0};
    u64 gdt_at;

    for (unsigned i = 0; i < SEG_COUNT; i++)
        state->seg[i] = data;
    state->seg[SEG_CS] = code;
    state->seg[SEG_TR] = (struct seg){.selector = ENTRY_TR, .limit = TSS_LIMIT, .attr = TSS32_BUSY};
    state->seg[SEG_LDTR] = (struct seg){.attr = SEG_UNUSABLE};
    put_u64(gdt + ENTRY_CS, descriptor(&code));
    put_u64(gdt + ENTRY_DS, descriptor(&data));
    put_u64(gdt + ENTRY_TR, descriptor(&state->seg[SEG_TR]));
    if (loader_put_low(loader, gdt, sizeof(gdt), 16, &gdt_at, err))
        return -1;
    state->gdtr = (struct desc_table){.base = gdt_at, .limit = sizeof(gdt) - 1};
    state->idtr = (struct desc_table){.base = 0, .limit = 0};
    return 0;
}

int entry_protected(struct loader *loader, u32 entry, struct error *err)
{
    clear_registers(loader->state);
    loader->state->cr0 |= CR0_PE;
    loader->state->rip = entry;
    return flat_segments(loader, SEG_DB, err);
}

/* One page of PML4, one of page-directory pointers, four of page directories with 2 MiB pages (SDM 3A 4.5). */
static int identity_map(struct loader *loader, u64 *cr3, struct error *err)
{
    enum { TABLE = 4096, DIRECTORIES = 4, ENTRIES = 512 };
    enum { PRESENT_WRITABLE = 3, LARGE = 1 << 7 };
    u64 base;
    u8 page[TABLE];

    if (!place_high(&loader->place, (2 + DIRECTORIES) * TABLE, TABLE, PLACE_LOW, FIRMWARE_EBDA, &base))
        return load_file_bad(&loader->kernel, err, "it leaves no room below 640 KiB for page tables");
    memset(page, 0, sizeof(page));
    put_u64(page, (base + TABLE) | PRESENT_WRITABLE);
    memory_poke(loader->config->memory, base, page, sizeof(page));
    for (unsigned i = 0; i < DIRECTORIES; i++)
        put_u64(page + 8 * i, (base + (2 + i) * TABLE) | PRESENT_WRITABLE);
    memory_poke(loader->config->memory, base + TABLE, page, sizeof(page));
    for (unsigned d = 0; d < DIRECTORIES; d++) {
        for (u64 i = 0; i < ENTRIES; i++)
            put_u64(page + 8 * i, (d * ENTRIES + i) * MIB(2) | PRESENT_WRITABLE | LARGE);
        memory_poke(loader->config->memory, base + (2 + d) * TABLE, page, sizeof(page));
    }
    *cr3 = base;
    return 0;
}

int entry_long(struct loader *loader, u64 entry, struct error *err)
{
    struct vcpu_state *state = loader->state;

    clear_registers(state);
    if (flat_segments(loader, SEG_L, err) || identity_map(loader, &state->cr3, err))
        return -1;
    state->cr4 = CR4_PAE;
    state->efer = EFER_LME | EFER_LMA;
    state->cr0 |= CR0_PE | CR0_PG;
    state->rip = entry;
    return 0;
}

void entry_real(struct loader *loader, u16 code_segment, u16 data_segment, u16 sp)
{
    struct vcpu_state *state = loader->state;

    clear_registers(state);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        state->seg[i] = (struct seg){
            .base = (u64)data_segment << 4, .limit = 0xffff, .selector = data_segment, .attr = DATA};
    state->seg[SEG_CS] =
        (struct seg){.base = (u64)code_segment << 4, .limit = 0xffff, .selector = code_segment, .attr = CODE};
    state->idtr = (struct desc_table){.base = 0, .limit = 0x3ff};
    state->gpr[RSP] = sp;
    state->rip = 0;
}
