#include "firmware/firmware.h"

#include <stdlib.h>

#include "firmware/tables.h"

unsigned firmware_e820(const struct firmware_config *config, struct e820_entry map[FIRMWARE_E820_MAX])
{
    u64 low_end = pc_low_ram(config->ram_size), high = pc_high_ram(config->ram_size);
    unsigned n = 0;

    map[n++] = (struct e820_entry){0, FIRMWARE_EBDA, E820_RAM};
    map[n++] = (struct e820_entry){FIRMWARE_EBDA, FIRMWARE_EBDA_SIZE, E820_RESERVED};
    map[n++] = (struct e820_entry){PC_F_SEGMENT, PC_LEGACY_HOLE_END - PC_F_SEGMENT, E820_RESERVED};
    if (low_end > PC_LEGACY_HOLE_END)
        map[n++] = (struct e820_entry){PC_LEGACY_HOLE_END, low_end - PC_LEGACY_HOLE_END, E820_RAM};
    if (high)
        map[n++] = (struct e820_entry){PC_HIGH_RAM, high, E820_RAM};
    return n;
}

/* Tell the IOAPIC its ID, as tables do (82093AA 3.2.1). */
static void ioapic_setup(const struct firmware_config *config)
{
    enum { IOREGSEL = 0x00, IOWIN = 0x10, IOAPICID = 0 };

    memory_write(config->memory, PC_IOAPIC_BASE + IOREGSEL, 4, IOAPICID);
    memory_write(config->memory, PC_IOAPIC_BASE + IOWIN, 4, (u32)pc_ioapic_id(config->cpus) << 24);
}

int firmware_setup(const struct firmware_config *config, u32 *rsdp, struct error *err)
{
    struct fseg *fseg;
    u32 root;

    if (config->ram_size < FIRMWARE_RAM_MIN)
        return error_set(err,
                         "the memory is below 1 MiB, the least that this machine has; give --memory more");
    if (config->cpus < 1 || config->cpus > FIRMWARE_CPUS_MAX)
        return error_set(err, "the machine cannot have %u CPUs; give --cpus 1 to %d", config->cpus,
                         FIRMWARE_CPUS_MAX);
    fseg = calloc(1, sizeof(*fseg));
    if (!fseg)
        return error_set(err, "out of memory for the firmware tables");

    pci_setup(config);
    ioapic_setup(config);
    pci_set_f_segment(config, true);
    bios_build(config, fseg);
    root = acpi_build(config, fseg);
    mptable_build(config, fseg);
    pirtable_build(fseg);
    smbios_build(config, fseg);
    memory_poke(config->memory, PC_F_SEGMENT, fseg->bytes, sizeof(fseg->bytes));
    pci_set_f_segment(config, false);
    if (rsdp)
        *rsdp = root;

    bool overflow = fseg->overflow;
    free(fseg);
    if (overflow)
        return error_set(err, "the firmware tables of %u CPUs do not fit in 64 KiB", config->cpus);
    return 0;
}

void firmware_setup_cpu(const struct firmware_config *config, struct vcpu_state *state)
{
    /* SDM 3A 11.11. Everything is write-back but for the VGA window, firmware, and the top GiB below 4 GiB. */
    enum { DEF_TYPE_ENABLE = 1 << 11, DEF_TYPE_FIXED = 1 << 10, MASK_VALID = 1 << 11 };
    static const u64 fixed[X86_MTRR_FIXED] = {
        UINT64_C(0x0606060606060606), /* 64K_00000 */
        UINT64_C(0x0606060606060606), /* 16K_80000 */
        0,                            /* 16K_A0000: uncached */
        UINT64_C(0x0505050505050505), /* 4K_C0000 to 4K_F8000: write-protected */
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
        UINT64_C(0x0505050505050505),
    };
    enum { MTRR_UNCACHED = 0, MTRR_WRITE_BACK = 6 };
    u64 address_mask = (UINT64_C(1) << config->phys_bits) - 1;

    for (unsigned i = 0; i < X86_MTRR_FIXED; i++)
        state->mtrr_fixed[i] = fixed[i];
    state->mtrr_base[0] = PC_PCI_HOLE | MTRR_UNCACHED;
    state->mtrr_mask[0] = (~(PC_HIGH_RAM - PC_PCI_HOLE - 1) & address_mask) | MASK_VALID;
    state->mtrr_def_type = DEF_TYPE_ENABLE | DEF_TYPE_FIXED | MTRR_WRITE_BACK;
}

void firmware_setup_apic(const struct vcpu_intc_ops *intc, void *intc_opaque)
{
    /* SDM 3A 11.5.1, 11.9. */
    enum { SVR = 0xf0, LVT_LINT0 = 0x350, LVT_LINT1 = 0x360 };
    enum { SVR_ENABLE = 1 << 8, SPURIOUS_VECTOR = 0xff, MODE_NMI = 4 << 8, MODE_EXTINT = 7 << 8 };

    intc->mmio_write(intc_opaque, SVR, 4, SVR_ENABLE | SPURIOUS_VECTOR);
    intc->mmio_write(intc_opaque, LVT_LINT0, 4, MODE_EXTINT);
    intc->mmio_write(intc_opaque, LVT_LINT1, 4, MODE_NMI);
}
