#include "api/linear.h"

#include "machine/vm.h"

/* Page-table entries (SDM 3A 4.3 to 4.5): bits 51..12 are an address, bit 7 of a middle level makes a large page. */
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
enum { ENTRY_PRESENT = 1, ENTRY_LARGE = 1 << 7 };

static bool read_entry(struct vcpu *vcpu, u64 phys, unsigned size, u64 *entry)
{
    *entry = 0;
    return dma_read(&vcpu->vm->memory, phys & vcpu->vm->memory.a20_mask, entry, size) &&
           *entry & ENTRY_PRESENT;
}

static bool translate_32bit(struct vcpu *vcpu, u64 linear, u64 *phys)
{
    const struct vcpu_state *s = &vcpu->state;
    u64 entry;

    if (!read_entry(vcpu, (s->cr3 & 0xfffff000) + (linear >> 22 & 0x3ff) * 4, 4, &entry))
        return false;
    if (entry & ENTRY_LARGE &&
        s->cr4 & CR4_PSE) { /* PSE-36: bits 20..13 are address bits 39..32 (SDM 3A table 4-4) */
        *phys = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32 | (linear & 0x3fffff);
        return true;
    }
    if (!read_entry(vcpu, (entry & 0xfffff000) + (linear >> 12 & 0x3ff) * 4, 4, &entry))
        return false;
    *phys = (entry & 0xfffff000) | (linear & 0xfff);
    return true;
}

bool linear_translate(struct vcpu *vcpu, u64 linear, u64 *phys)
{
    const struct vcpu_state *s = &vcpu->state;
    bool long_mode = vcpu_long_mode(s);

    if (!long_mode)
        linear &= 0xffffffff;
    if (!(s->cr0 & CR0_PG)) {
        *phys = linear & vcpu->vm->memory.a20_mask;
        return true;
    }
    if (!(s->cr4 & CR4_PAE)) {
        if (!translate_32bit(vcpu, linear, phys))
            return false;
        *phys &= vcpu->vm->memory.a20_mask;
        return true;
    }
    /* 64-bit entries: PML5 (5-level paging), PML4 (4-level paging), page-directory pointers, directory, table. PAE keeps the pointers in
       registers (SDM 3A 4.4.1). */
    u64 entry = long_mode ? s->cr3 : s->pdptr[linear >> 30 & 3];
    int shift = !long_mode ? 21 : s->cr4 & CR4_LA57 ? 48 : 39;
    if (!long_mode && !(entry & ENTRY_PRESENT))
        return false;
    for (;; shift -= 9) {
        if (!read_entry(vcpu, (entry & ENTRY_ADDRESS) + (linear >> shift & 0x1ff) * 8, 8, &entry))
            return false;
        if (shift == 12 || (shift <= 30 && entry & ENTRY_LARGE))
            break;
    }
    u64 offset = linear & ((UINT64_C(1) << shift) - 1);
    *phys = ((entry & ENTRY_ADDRESS & ~((UINT64_C(1) << shift) - 1)) | offset) & vcpu->vm->memory.a20_mask;
    return true;
}

size_t linear_read(struct vcpu *vcpu, u64 linear, void *to, size_t len)
{
    size_t done = 0;

    while (done < len) {
        u64 phys;
        size_t part = PAGE_SIZE - ((linear + done) & (PAGE_SIZE - 1));
        if (part > len - done)
            part = len - done;
        if (!linear_translate(vcpu, linear + done, &phys) ||
            !dma_read(&vcpu->vm->memory, phys, (u8 *)to + done, part))
            break;
        done += part;
    }
    return done;
}
