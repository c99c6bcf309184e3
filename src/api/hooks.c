/* Observers: the caller's hooks and --trace behind the machine's one set of callbacks; devices of the caller's own. */
#include <stdlib.h>
#include <string.h>

#include "api/vm.h"

static bool on_insn(void *opaque, struct vcpu *vcpu)
{
    struct plastron_vm *vm = opaque;
    const struct vcpu_state *s = &vcpu->state;
    unsigned n = vcpu->index;

    if (vm->hooks.instruction) {
        bool again =
            vm->hook_stop[n].set && vm->hook_stop[n].rip == s->rip && vm->hook_stop[n].icount == s->icount;
        u64 address = vcpu_64bit(s) ? s->rip : (u32)(s->seg[SEG_CS].base + s->rip);
        vm->hook_stop[n].set = false;
        if (!again && vm->hooks.instruction(vm, n, address, vm->hooks_opaque)) {
            vm->hook_stop[n].set = true;
            vm->hook_stop[n].rip = s->rip;
            vm->hook_stop[n].icount = s->icount;
            return true;
        }
    }
    if (vm->trace && trace_sink_kinds(vm->trace) & TRACE_EXEC)
        trace_sink_insn(vm->trace, vcpu);
    return false;
}

static void on_event(void *opaque, struct vcpu *vcpu, enum trace_event kind, u8 vector, bool has_error,
                     u32 error, u64 address)
{
    static const enum plastron_event kinds[] = {
        [TRACE_EXCEPTION] = PLASTRON_EXCEPTION,
        [TRACE_SOFTWARE] = PLASTRON_SOFTWARE_INTERRUPT,
        [TRACE_INTERRUPT] = PLASTRON_INTERRUPT,
        [TRACE_NMI] = PLASTRON_NMI,
    };
    struct plastron_vm *vm = opaque;

    if (vm->hooks.event)
        vm->hooks.event(vm, vcpu->index, kinds[kind], vector, error, address, vm->hooks_opaque);
    if (vm->trace && trace_sink_kinds(vm->trace) & TRACE_INT)
        trace_sink_event(vm->trace, vcpu, kind, vector, has_error, error, address);
}

static void on_port(void *opaque, struct vcpu *vcpu, bool write, u32 port, unsigned size, u32 value)
{
    struct plastron_vm *vm = opaque;

    if (vm->hooks.port)
        vm->hooks.port(vm, vcpu->index, write, (u16)port, size, value, vm->hooks_opaque);
    if (vm->trace && trace_sink_kinds(vm->trace) & TRACE_IO)
        trace_sink_access(vm->trace, vcpu, false, write, port, size, value);
}

static void on_mmio(void *opaque, struct vcpu *vcpu, bool write, u64 phys, unsigned size, u64 value)
{
    struct plastron_vm *vm = opaque;

    if (vm->hooks.mmio)
        vm->hooks.mmio(vm, vcpu->index, write, phys, size, value, vm->hooks_opaque);
    if (vm->trace && trace_sink_kinds(vm->trace) & TRACE_MMIO)
        trace_sink_access(vm->trace, vcpu, true, write, phys, size, value);
}

static void on_translation(void *opaque, struct vcpu *vcpu, const struct trace_translation *translation)
{
    struct plastron_vm *vm = opaque;

    if (vm->trace && trace_sink_kinds(vm->trace) & TRACE_JIT)
        trace_sink_translation(vm->trace, vcpu, translation);
}

/* Two sets, since a callback for instructions alone makes engines choose their slower loop. */
static const struct trace_ops ops_with_insn = {on_insn, on_event, on_port, on_mmio, on_translation};
static const struct trace_ops ops_without_insn = {NULL, on_event, on_port, on_mmio, on_translation};

void hooks_install(struct plastron_vm *vm)
{
    const struct plastron_hooks *hooks = &vm->hooks;
    unsigned kinds = vm->trace ? trace_sink_kinds(vm->trace) : 0;

    if (hooks->instruction || kinds & TRACE_EXEC)
        vm_set_trace(vm->machine, &ops_with_insn, vm);
    else if (hooks->event || hooks->port || hooks->mmio || kinds)
        vm_set_trace(vm->machine, &ops_without_insn, vm);
    else
        vm_set_trace(vm->machine, NULL, NULL);
}

void hooks_condition(struct plastron_vm *vm, const char *what)
{
    if (vm->hooks.condition)
        vm->hooks.condition(vm, what, vm->hooks_opaque);
}

int plastron_set_hooks(plastron_vm *vm, const struct plastron_hooks *hooks, void *opaque,
                       struct plastron_error *err)
{
    struct error e;

    if (hooks && hooks->size < sizeof(*hooks)) {
        error_set(&e, "the size of the hooks was not set, or is of another version of the library");
        return api_error(err, &e);
    }
    vm_park(vm->machine);
    vm->hooks = hooks ? *hooks : (struct plastron_hooks){0};
    vm->hooks_opaque = opaque;
    memset(vm->hook_stop, 0, sizeof(vm->hook_stop));
    hooks_install(vm);
    vm_unpark(vm->machine);
    return 0;
}

/* ---- Devices of the caller's own -------------------------------------------------------------------------------- */

static u64 device_read(void *opaque, u64 offset, unsigned size)
{
    struct api_device *device = opaque;

    return device->io.read ? device->io.read(device->opaque, offset, size) : UINT64_MAX;
}

static void device_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct api_device *device = opaque;

    if (device->io.write)
        device->io.write(device->opaque, offset, size, value);
}

static struct api_device *device_add(struct plastron_vm *vm, const struct plastron_io *io, void *opaque,
                                     unsigned max_size, struct error *err)
{
    struct api_device *device;

    if (io->size < sizeof(*io)) {
        error_set(err, "the size of the plastron_io was not set, or is of another version of the library");
        return NULL;
    }
    if (vm->ndevices == API_DEVICES_MAX || !(device = calloc(1, sizeof(*device)))) {
        error_set(err, "there can be at most %d devices of the caller's own", API_DEVICES_MAX);
        return NULL;
    }
    device->io = *io;
    device->opaque = opaque;
    device->ops =
        (struct io_ops){.read = device_read, .write = device_write, .min_size = 1, .max_size = (u8)max_size};
    return device;
}

int plastron_add_ports(plastron_vm *vm, uint16_t start, uint32_t count, const struct plastron_io *io,
                       void *opaque, struct plastron_error *err)
{
    struct error e;
    struct api_device *device = device_add(vm, io, opaque, 4, &e);

    if (!device)
        return api_error(err, &e);
    vm_park(vm->machine);
    vm_lock(vm->machine);
    int failed = port_map_add(&vm->machine->ports, start, count, &device->ops, device, "api", &e);
    vm_unlock(vm->machine);
    vm_unpark(vm->machine);
    if (failed) {
        free(device);
        return api_error(err, &e);
    }
    vm->devices[vm->ndevices++] = device;
    return 0;
}

int plastron_add_mmio(plastron_vm *vm, uint64_t start, uint64_t count, const struct plastron_io *io,
                      void *opaque, struct plastron_error *err)
{
    enum { OVER_EVERYTHING = 1000 };
    struct error e;

    if (!count || start % PAGE_SIZE || count % PAGE_SIZE || start + count < start) {
        error_set(&e, "memory-mapped registers must be whole pages of 4096 bytes");
        return api_error(err, &e);
    }
    struct api_device *device = device_add(vm, io, opaque, 8, &e);
    if (!device)
        return api_error(err, &e);
    device->region = (struct mem_region){.start = start,
                                         .size = count,
                                         .priority = OVER_EVERYTHING,
                                         .enabled = true,
                                         .read = true,
                                         .write = true,
                                         .ops = &device->ops,
                                         .opaque = device,
                                         .name = "api"};
    vm_park(vm->machine);
    vm_lock(vm->machine);
    int failed = memory_add_region(&vm->machine->memory, &device->region, &e);
    if (!failed)
        memory_commit(&vm->machine->memory);
    vm_unlock(vm->machine);
    vm_unpark(vm->machine);
    if (failed) {
        free(device);
        return api_error(err, &e);
    }
    vm->devices[vm->ndevices++] = device;
    return 0;
}
