#define LOG_MODULE "dev/post80"
#include "dev/post80.h"

#include "base/log.h"
#include "machine/io.h"
#include "machine/vm.h"

static const struct state_field post80_fields[] = {
    STATE_FIELD(struct post80, code, STATE_U8, 1),
    STATE_END,
};
const struct state_table post80_state = {
    .name = "post80",
    .version = 1,
    .size = sizeof(struct post80),
    .fields = post80_fields,
};

struct post80_device {
    struct device device;
    struct post80 latch;
};

static u64 post80_read(void *opaque, u64 offset, unsigned size)
{
    return ((struct post80 *)opaque)->code;
}

static void post80_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct post80 *latch = opaque;

    if ((u8)value != latch->code) /* not once for every delay */
        log_debug("POST code %02x", (u8)value);
    latch->code = (u8)value;
}

static const struct io_ops post80_ops = {post80_read, post80_write, 1, 1};

static int post80_attach(struct device *device, struct error *err)
{
    struct post80_device *self = container_of(device, struct post80_device, device);

    return port_map_add(&device->vm->ports, 0x80, 1, &post80_ops, &self->latch, "post", err);
}

static void post80_reset(struct device *device)
{
    container_of(device, struct post80_device, device)->latch.code = 0;
}

const struct device_class post80_class = {
    .name = "post80",
    .help = "POST code latch at port 80h",
    .size = sizeof(struct post80_device),
    .state = &post80_state,
    .state_offset = offsetof(struct post80_device, latch),
    .attach = post80_attach,
    .reset = post80_reset,
};
