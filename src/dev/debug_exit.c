#include "dev/debug_exit.h"

#include "machine/io.h"
#include "machine/vm.h"

struct debug_exit {
    struct device device;
    u16 iobase;
};

static u64 debug_exit_read(void *opaque, u64 offset, unsigned size)
{
    return 0;
}

static void debug_exit_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    vm_request_debug_exit(((struct debug_exit *)opaque)->device.vm, (int)((u32)value << 1 | 1));
}

static const struct io_ops debug_exit_ops = {debug_exit_read, debug_exit_write, 1, 4};

static int debug_exit_attach(struct device *device, struct error *err)
{
    struct debug_exit *self = container_of(device, struct debug_exit, device);

    return port_map_add(&device->vm->ports, self->iobase, 4, &debug_exit_ops, self, device->name, err);
}

static const struct property debug_exit_properties[] = {
    {.name = "iobase",
     .type = PROP_U16,
     .offset = offsetof(struct debug_exit, iobase),
     .default_value = "0xf4",
     .help = "first of its four ports"},
    {.name = NULL},
};

const struct device_class debug_exit_class = {
    .name = "isa-debug-exit",
    .help = "port that ends the program with a status of the guest's choice",
    .size = sizeof(struct debug_exit),
    .properties = debug_exit_properties,
    .attach = debug_exit_attach,
};
