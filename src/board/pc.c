#include "board/pc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/debug_exit.h"
#include "dev/debugcon.h"
#include "dev/fpu_irq.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i440fx.h"
#include "dev/i8042.h"
#include "dev/i8237.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/mc146818.h"
#include "dev/pci.h"
#include "dev/piix3.h"
#include "dev/piix4_pm.h"
#include "dev/port92.h"
#include "dev/post80.h"
#include "dev/uart16550.h"
#include "dev/virtio/virtio_blk.h"
#include "engine/interp/engine.h"
#include "engine/jit/engine.h"
#include "firmware/firmware.h"
#include "firmware/loader.h"

enum { ROM_PRIORITY = 0 };

struct pc {
    struct vm *vm;
    char *kernel, *initrd, *append, *firmware; /* owned copies, or NULL */
    struct lapic_bus lapics;
    struct device *i8259, *ioapic, *piix4_pm, *i8042;
    struct pci_bus *pci;
    struct firmware_rom rom;
    int control; /* gate source of the buttons */
};

/* In order of preference; ends with NULL. */
static const struct engine_ops *const engines[] = {&jit_engine, &interp_engine, NULL};

const char *pc_engine_name(unsigned index)
{
    return index < ARRAY_SIZE(engines) && engines[index] ? engines[index]->name : NULL;
}

const struct engine_ops *pc_engine(const char *name, struct error *err)
{
    bool any = !name || strcmp(name, "auto") == 0;

    for (const struct engine_ops *const *engine = engines; *engine; engine++) {
        if (any || strcmp((*engine)->name, name) == 0)
            return *engine;
    }
    error_set(err, "engine %s: there is none of that name", name ? name : "auto");
    return NULL;
}

/* ---- Wires between chips ---- */

/* INTA of the processor that takes an ExtINT. */
static int acknowledge_i8259(void *opaque)
{
    struct pc *pc = opaque;

    return i8259_ack(i8259_device_pair(pc->i8259));
}

static void end_of_interrupt(void *opaque, u8 vector)
{
    struct pc *pc = opaque;

    ioapic_eoi(ioapic_of(pc->ioapic), vector);
}

static int add_interrupt_controllers(struct pc *pc, struct error *err)
{
    struct vm *vm = pc->vm;

    pc->lapics = (struct lapic_bus){
        .extint_ack = acknowledge_i8259, .extint_opaque = pc, .eoi = end_of_interrupt, .eoi_opaque = pc};
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct device *lapic;
        char name[16];

        snprintf(name, sizeof(name), "lapic%u", i);
        lapic = device_new(vm, &lapic_class, name);
        device_set_pointer(lapic, "bus", &pc->lapics);
        device_set_number(lapic, "cpu", i);
        if (device_attach(lapic, err))
            return -1;
    }
    vm->irqs.msi = lapic_bus_msi;
    vm->irqs.msi_opaque = &pc->lapics;
    pc->i8259 = device_new(vm, &i8259_class, "i8259");
    pc->ioapic = device_new(vm, &ioapic_class, "ioapic");
    if (device_attach(pc->i8259, err) || device_attach(pc->ioapic, err))
        return -1;
    i8259_device_connect(pc->i8259, lapic_bus_lint(&pc->lapics, 0));
    return 0;
}

/* Host bridge and the functions of slot 1. */
static int add_chipset(struct pc *pc, struct error *err)
{
    struct device *i440fx = device_new(pc->vm, &i440fx_class, "i440fx"), *piix3;

    if (device_attach(i440fx, err))
        return -1;
    pc->pci = i440fx_bus(i440fx);
    piix3 = device_new(pc->vm, &piix3_class, "piix3");
    device_set_pointer(piix3, "bus", pc->pci);
    pc->piix4_pm = device_new(pc->vm, &piix4_pm_class, "piix4_pm");
    device_set_pointer(pc->piix4_pm, "bus", pc->pci);
    return device_attach(piix3, err) || device_attach(pc->piix4_pm, err) ? -1 : 0;
}

static int add_clocks(struct pc *pc, struct error *err)
{
    struct device *pit = device_new(pc->vm, &i8254_class, "i8254");
    struct device *rtc = device_new(pc->vm, &mc146818_class, "mc146818");
    struct device *hpet = device_new(pc->vm, &hpet_class, "hpet");
    struct mc146818 *chip = mc146818_of(rtc);

    device_set_number(rtc, "start", (u64)pc->vm->config.rtc_start);
    device_set_pointer(hpet, "pit", pit);
    device_set_pointer(hpet, "rtc", rtc);
    if (device_attach(pit, err) || device_attach(rtc, err) || device_attach(hpet, err))
        return -1;
    mc146818_set_memory(chip, pc_low_ram(pc->vm->config.ram_size), pc_high_ram(pc->vm->config.ram_size));
    mc146818_set_cmos(chip, CMOS_CPUS, (u8)(pc->vm->nvcpus - 1));
    mc146818_set_cmos(chip, CMOS_EQUIPMENT, CMOS_EQUIPMENT_FPU | CMOS_EQUIPMENT_MOUSE);
    mc146818_set_cmos(chip, CMOS_BOOT_1_2, CMOS_BOOT_DISK | CMOS_BOOT_CDROM << 4);
    mc146818_set_cmos(chip, CMOS_BOOT_3, CMOS_BOOT_FLOPPY << 4);
    mc146818_set_checksum(chip);
    return 0;
}

/* Keyboard controller and port 92h, which share the A20 gate. */
static int add_keyboard(struct pc *pc, struct error *err)
{
    struct device *port92 = device_new(pc->vm, &port92_class, "port92");

    pc->i8042 = device_new(pc->vm, &i8042_class, "i8042");
    device_set_pointer(pc->i8042, "port92", port92);
    return device_attach(port92, err) || device_attach(pc->i8042, err) ? -1 : 0;
}

static int add_serial_ports(struct pc *pc, const struct pc_config *config, struct error *err)
{
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++) {
        struct device *uart;
        char name[16];

        snprintf(name, sizeof(name), "serial%u", i);
        uart = device_new(pc->vm, &uart16550_class, name);
        device_set_number(uart, "iobase", pc_serial_port(i));
        device_set_number(uart, "irq", pc_serial_irq(i));
        device_set_pointer(uart, "chardev", config->serial[i]);
        if (device_attach(uart, err))
            return -1;
    }
    return 0;
}

/* What needs no wires but the bus. */
static int add_simple(struct pc *pc, struct error *err)
{
    static const struct device_class *const classes[] = {&i8237_class, &post80_class, &fpu_irq_class,
                                                         &fw_cfg_class};

    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        if (device_attach(device_new(pc->vm, classes[i], classes[i]->name), err))
            return -1;
    }
    return 0;
}

static int add_debug_ports(struct pc *pc, const struct pc_config *config, struct error *err)
{
    for (unsigned i = 0; i < config->ndebugcons; i++) {
        struct device *debugcon;
        char name[24];

        snprintf(name, sizeof(name), "debugcon%u", i);
        debugcon = device_new(pc->vm, &debugcon_class, name);
        device_set_pointer(debugcon, "chardev", config->debugcons[i].backend);
        device_set_number(debugcon, "iobase", config->debugcons[i].port);
        if (device_attach(debugcon, err))
            return -1;
    }
    if (config->debug_exit) {
        struct device *debug_exit = device_new(pc->vm, &debug_exit_class, "debug_exit");

        device_set_number(debug_exit, "iobase", config->debug_exit_port);
        return device_attach(debug_exit, err);
    }
    return 0;
}

/* Disk n is in the nth free slot. */
static int add_disks(struct pc *pc, const struct pc_config *config, struct error *err)
{
    for (unsigned i = 0; i < config->ndisks; i++) {
        struct device *disk;
        char name[16];

        snprintf(name, sizeof(name), "disk%u", i);
        disk = device_new(pc->vm, &virtio_blk_class, name);
        device_set_pointer(disk, "bus", pc->pci);
        device_set_number(disk, "slot", PC_SLOT_FIRST_FREE + i);
        device_set_pointer(disk, "drive", config->disks[i]);
        if (device_attach(disk, err))
            return -1;
    }
    return 0;
}

/* The buttons come in as one byte. */
enum control_event { CONTROL_RESET = 'r' };

static void deliver_control(void *opaque, const u8 *bytes, size_t len)
{
    struct pc *pc = opaque;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == CONTROL_RESET)
            vm_request_reset(pc->vm);
    }
}

static int wire(struct pc *pc, const struct pc_config *config, struct error *err)
{
    pc->control = gate_register(&pc->vm->gate, "control", deliver_control, pc, err);
    if (pc->control < 0)
        return -1;
    if (add_chipset(pc, err) || add_interrupt_controllers(pc, err) || add_clocks(pc, err) ||
        add_keyboard(pc, err) || add_simple(pc, err) || add_debug_ports(pc, config, err) ||
        add_serial_ports(pc, config, err) || add_disks(pc, config, err))
        return -1;
    if (pc->firmware && firmware_rom_load(&pc->rom, &pc->vm->memory, pc->firmware, ROM_PRIORITY, err))
        return -1;
    memory_commit(&pc->vm->memory);
    return 0;
}

/* ---- Firmware and kernel ---- */

static struct firmware_config describe(struct pc *pc)
{
    struct vm *vm = pc->vm;
    u32 leaf1[4];

    vcpu_cpuid(vm->vcpus[0], 1, 0, leaf1);
    return (struct firmware_config){
        .memory = &vm->memory,
        .ports = &vm->ports,
        .ram_size = vm->config.ram_size,
        .cpus = vm->nvcpus,
        .cpuid_signature = leaf1[CPUID_EAX],
        .cpuid_features = leaf1[CPUID_EDX],
        .phys_bits = X86_PHYS_BITS,
        .long_mode = cpu_model_has(&vm->config.cpu, X86_FEATURE_LM),
        .serial_ports = (1 << PC_SERIAL_PORTS) - 1,
        .fw_cfg = device_find(vm, "fw_cfg"),
    };
}

/* What a ROM does on a machine that has one. Device lock held. */
static int load_kernel(struct vm *vm, void *opaque, struct error *err)
{
    struct pc *pc = opaque;
    struct firmware_config config = describe(pc);
    struct loader_request request = {.kernel = pc->kernel, .initrd = pc->initrd, .cmdline = pc->append};

    if (firmware_setup(&config, &request.rsdp, err))
        return -1;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        firmware_setup_cpu(&config, &vm->vcpus[i]->state);
    vm_unlock(vm);
    firmware_setup_apic(vm->vcpus[0]->intc, vm->vcpus[0]->intc_opaque);
    vm_lock(vm);
    return loader_load(&request, &config, &vm->vcpus[0]->state, err);
}

/* ---- Making and ending ---- */

static int copy_text(char **to, const char *from, struct error *err)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? error_set(err, "out of memory") : 0;
}

static void free_pc(struct pc *pc)
{
    free(pc->kernel);
    free(pc->initrd);
    free(pc->append);
    free(pc->firmware);
    free(pc);
}

static void pc_end(struct vm *vm)
{
    free_pc(vm->board);
    vm->board = NULL;
}

static struct pc *new_pc(const struct pc_config *config, struct error *err)
{
    struct pc *pc = calloc(1, sizeof(*pc));

    if (!pc) {
        error_set(err, "out of memory");
        return NULL;
    }
    if (copy_text(&pc->kernel, config->kernel, err) || copy_text(&pc->initrd, config->initrd, err) ||
        copy_text(&pc->append, config->append, err) || copy_text(&pc->firmware, config->firmware, err)) {
        free_pc(pc);
        return NULL;
    }
    return pc;
}

struct vm *pc_new(const struct pc_config *config, bool for_restore, struct error *err)
{
    const struct engine_ops *engine = pc_engine(config->engine, err);
    struct pc *pc;
    struct vm *vm;

    if (!engine)
        return NULL;
    if (config->kernel && config->firmware) {
        error_set(
            err,
            "a kernel and a firmware cannot both be given: the firmware would boot what it finds itself");
        return NULL;
    }
    if (pc_high_ram(config->vm.ram_size) > (1ull << X86_PHYS_BITS) - PC_HIGH_RAM) {
        error_set(err, "memory of %llu MiB: this machine's addresses reach to %llu MiB",
                  (unsigned long long)config->vm.ram_size >> 20, 1ull << X86_PHYS_BITS >> 20);
        return NULL;
    }
    pc = new_pc(config, err);
    if (!pc)
        return NULL;
    vm = vm_new(&config->vm, err);
    if (!vm) {
        free_pc(pc);
        return NULL;
    }
    pc->vm = vm;
    vm->board = pc;
    vm->board_free = pc_end;
    vm->board_name = PC_BOARD_NAME;
    if (wire(pc, config, err) || vm_set_engine(vm, engine, err))
        goto fail;
    if (!for_restore && pc->kernel)
        vm->on_reset = load_kernel;
    vm->on_reset_opaque = pc;
    if (vm_reset(vm, err))
        goto fail;
    if (pc->kernel)
        vm->on_reset = load_kernel;
    return vm;
fail:
    vm_free(vm);
    return NULL;
}

/* ---- Input from outside ---- */

bool pc_power_button(struct vm *vm)
{
    struct pc *pc = vm->board;

    return piix4_pm_power_button(pc->piix4_pm);
}

bool pc_reset_button(struct vm *vm)
{
    struct pc *pc = vm->board;
    const u8 event = CONTROL_RESET;

    return gate_post(&vm->gate, pc->control, &event, 1);
}

bool pc_keyboard(struct vm *vm, const u8 *codes, size_t len)
{
    struct pc *pc = vm->board;

    return i8042_post_set2(pc->i8042, codes, len);
}
