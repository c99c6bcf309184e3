#include "dev/debugcon.h"

#include "host/char.h"
#include "machine/io.h"
#include "machine/vm.h"

struct debugcon {
    struct device device;
    u16 iobase;
    void *chardev; /* struct chardev */
};

static u64 debugcon_read(void *opaque, u64 offset, unsigned size)
{
    return DEBUGCON_SIGNATURE;
}

static void debugcon_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    u8 byte = (u8)value;

    chardev_write(((struct debugcon *)opaque)->chardev, &byte, 1);
}

static const struct io_ops debugcon_ops = {debugcon_read, debugcon_write, 1, 1};

static int debugcon_attach(struct device *device, struct error *err)
{
    struct debugcon *self = container_of(device, struct debugcon, device);

    return port_map_add(&device->vm->ports, self->iobase, 1, &debugcon_ops, self, device->name, err);
}

static const struct property debugcon_properties[] = {
    {.name = "iobase",
     .type = PROP_U16,
     .offset = offsetof(struct debugcon, iobase),
     .default_value = "0xe9",
     .help = "its port"},
    {.name = "chardev",
     .type = PROP_POINTER,
     .offset = offsetof(struct debugcon, chardev),
     .required = true,
     .help = "where the bytes go"},
    {.name = NULL},
};

const struct device_class debugcon_class = {
    .name = "debugcon",
    .help = "debug console port",
    .size = sizeof(struct debugcon),
    .properties = debugcon_properties,
    .attach = debugcon_attach,
};
