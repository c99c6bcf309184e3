#include "dev/port92.h"

#include "machine/io.h"
#include "machine/vm.h"

enum { FAST_RESET = 1 << 0, FAST_A20 = 1 << 1 };

void port92_set_a20(struct port92 *port, bool on)
{
    port->a20_on = on;
    irq_line_set(&port->a20, on);
}

u8 port92_read(const struct port92 *port)
{
    return (u8)((port->fast_reset ? FAST_RESET : 0) | (port->a20_on ? FAST_A20 : 0));
}

void port92_write(struct port92 *port, u8 value)
{
    bool rises = (value & FAST_RESET) && !port->fast_reset;

    port->fast_reset = value & FAST_RESET;
    port92_set_a20(port, value & FAST_A20);
    if (rises)
        irq_line_pulse(&port->reset);
}

void port92_reset(struct port92 *port)
{
    port->fast_reset = false;
    port92_set_a20(port, true); /* the i8042's output port is all ones at power-up */
}

void port92_init(struct port92 *port, struct irq_line a20, struct irq_line reset)
{
    *port = (struct port92){.a20 = a20, .reset = reset};
    port92_reset(port);
}

static int port92_post_load(void *object, struct error *err)
{
    struct port92 *port = object;

    irq_line_set(&port->a20, port->a20_on);
    return 0;
}

static const struct state_field port92_fields[] = {
    STATE_FIELD(struct port92, fast_reset, STATE_BOOL, 1),
    STATE_FIELD(struct port92, a20_on, STATE_BOOL, 1),
    STATE_END,
};
const struct state_table port92_state = {
    .name = "port92",
    .version = 1,
    .size = sizeof(struct port92),
    .fields = port92_fields,
    .post_load = port92_post_load,
};

/* ---- The device ---- */

struct port92_device {
    struct device device;
    struct port92 port;
};

static u64 io_read(void *opaque, u64 offset, unsigned size)
{
    return port92_read(opaque);
}

static void io_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    port92_write(opaque, (u8)value);
}

static const struct io_ops io_ops = {io_read, io_write, 1, 1};

static void set_a20(void *opaque, unsigned n, bool level)
{
    memory_set_a20(&((struct vm *)opaque)->memory, level);
}

static void request_reset(void *opaque, unsigned n, bool level)
{
    if (level)
        vm_request_reset(opaque);
}

static void a20_input(void *opaque, unsigned n, bool level)
{
    port92_set_a20(opaque, level);
}

struct irq_line port92_a20_line(struct device *device)
{
    return (struct irq_line){a20_input, &container_of(device, struct port92_device, device)->port, 0};
}

static int port92_attach(struct device *device, struct error *err)
{
    struct port92 *port = &container_of(device, struct port92_device, device)->port;
    struct vm *vm = device->vm;

    port92_init(port, (struct irq_line){set_a20, vm, 0}, (struct irq_line){request_reset, vm, 0});
    return port_map_add(&vm->ports, 0x92, 1, &io_ops, port, "system control port A", err);
}

static void port92_device_reset(struct device *device)
{
    port92_reset(&container_of(device, struct port92_device, device)->port);
}

const struct device_class port92_class = {
    .name = "port92",
    .help = "system control port A: fast A20 and reset",
    .size = sizeof(struct port92_device),
    .state = &port92_state,
    .state_offset = offsetof(struct port92_device, port),
    .attach = port92_attach,
    .reset = port92_device_reset,
};
