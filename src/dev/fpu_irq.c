#include "dev/fpu_irq.h"

#include "machine/io.h"
#include "machine/vm.h"

static void update(struct fpu_irq *logic)
{
    irq_line_set(&logic->irq, logic->ferr && !logic->ignne);
}

bool fpu_irq_set_ferr(struct fpu_irq *logic, bool asserted)
{
    logic->ferr = asserted;
    if (!asserted)
        logic->ignne = false;
    update(logic);
    return logic->ignne;
}

void fpu_irq_write(struct fpu_irq *logic)
{
    logic->ignne = logic->ferr;
    update(logic);
}

void fpu_irq_reset(struct fpu_irq *logic)
{
    logic->ferr = logic->ignne = false;
    update(logic);
}

void fpu_irq_init(struct fpu_irq *logic, struct irq_line irq)
{
    *logic = (struct fpu_irq){.irq = irq};
    fpu_irq_reset(logic);
}

static const struct state_field fpu_irq_fields[] = {
    STATE_FIELD(struct fpu_irq, ferr, STATE_BOOL, 1),
    STATE_FIELD(struct fpu_irq, ignne, STATE_BOOL, 1),
    STATE_END,
};
const struct state_table fpu_irq_state = {
    .name = "fpu_irq",
    .version = 1,
    .size = sizeof(struct fpu_irq),
    .fields = fpu_irq_fields,
};

/* ---- The device ---- */

struct fpu_irq_device {
    struct device device;
    struct fpu_irq logic;
};

static u64 io_read(void *opaque, u64 offset, unsigned size)
{
    return 0xff;
}

static void io_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    fpu_irq_write(opaque);
}

static const struct io_ops io_ops = {io_read, io_write, 1, 1};

static bool fpu_error(void *opaque, bool pending)
{
    return fpu_irq_set_ferr(opaque, pending);
}

static int fpu_irq_attach(struct device *device, struct error *err)
{
    struct fpu_irq *logic = &container_of(device, struct fpu_irq_device, device)->logic;
    struct vm *vm = device->vm;

    fpu_irq_init(logic, irq_router_line(&vm->irqs, 13));
    vm->fpu_error = fpu_error;
    vm->fpu_error_opaque = logic;
    return port_map_add(&vm->ports, 0xf0, 1, &io_ops, logic, "fpu error", err);
}

static void fpu_irq_device_reset(struct device *device)
{
    fpu_irq_reset(&container_of(device, struct fpu_irq_device, device)->logic);
}

const struct device_class fpu_irq_class = {
    .name = "fpu_irq",
    .help = "x87 errors as IRQ 13: FERR#, IGNNE# and port F0h",
    .size = sizeof(struct fpu_irq_device),
    .state = &fpu_irq_state,
    .state_offset = offsetof(struct fpu_irq_device, logic),
    .attach = fpu_irq_attach,
    .reset = fpu_irq_device_reset,
};
