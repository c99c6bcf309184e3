/*
 * Intel 8259A pair. Requests are resolved by rotating the eight bits so that the input with the highest priority is bit 0.
 *
 * An edge stays latched in IRR when its input falls again before the acknowledge; the data sheet lets it lapse. Sources
 * that only pulse (see docs/quirks.md) depend on it. The cascade input simply follows the slave's INT pin.
 */
#include "dev/i8259.h"

#include "machine/io.h"
#include "machine/vm.h"

enum i8259_init { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

enum { /* even port, written */
       ICW1_IC4 = 1 << 0,
       ICW1_SNGL = 1 << 1,
       ICW1 = 1 << 4,
       OCW3 = 1 << 3,
       OCW3_RIS = 1 << 0,
       OCW3_RR = 1 << 1,
       OCW3_POLL = 1 << 2,
       OCW3_SMM = 1 << 5,
       OCW3_ESMM = 1 << 6,
};
enum { ICW4_AEOI = 1 << 1, ICW4_SFNM = 1 << 4 };
enum { /* OCW2: bits 7..5 are R, SL, EOI */
       OCW2_CLEAR_ROTATE_AUTO_EOI = 0,
       OCW2_EOI = 1,
       OCW2_NOP = 2,
       OCW2_SPECIFIC_EOI = 3,
       OCW2_SET_ROTATE_AUTO_EOI = 4,
       OCW2_ROTATE_EOI = 5,
       OCW2_SET_PRIORITY = 6,
       OCW2_ROTATE_SPECIFIC_EOI = 7,
};
enum { POLL_INTERRUPT = 0x80, NO_INPUT = 8 };

/* IRQ 0, 1, 2, 8 and 13 are always edge-triggered (PIIX3 2.5.10). */
enum { MASTER_LEVEL_INPUTS = 0xf8, SLAVE_LEVEL_INPUTS = 0xde };

/* Distance from the highest priority (0..7) of the most urgent input in `inputs`; 8 when there is none. */
static unsigned highest_priority(const struct i8259 *pic, u8 inputs)
{
    unsigned shift = (pic->lowest + 1) & 7;
    u8 rotated = (u8)(inputs >> shift | inputs << (8 - shift));

    return rotated ? (unsigned)__builtin_ctz(rotated) : NO_INPUT;
}

static unsigned input_at_priority(const struct i8259 *pic, unsigned priority)
{
    return (priority + pic->lowest + 1) & 7;
}

/* The input that would be acknowledged now, or NO_INPUT. */
static unsigned pending_input(const struct i8259 *pic)
{
    u8 in_service = pic->special_mask ? pic->isr & ~pic->imr : pic->isr;
    unsigned request = highest_priority(pic, pic->irr & ~pic->imr);
    unsigned service = highest_priority(pic, in_service);
    unsigned input;

    if (pic->init_step != INIT_DONE || request == NO_INPUT)
        return NO_INPUT;
    input = input_at_priority(pic, request);
    if (request < service)
        return input;
    /* Special fully nested mode: a further, more urgent request of a slave passes its own one in service. */
    if (request == service && pic->fully_nested && pic->master && input == I8259_CASCADE)
        return input;
    return NO_INPUT;
}

static void set_line(struct i8259 *pic, unsigned input, bool level)
{
    u8 bit = (u8)(1 << input);
    bool follows = (pic->elcr & bit) || (pic->master && input == I8259_CASCADE);

    if (follows)
        pic->irr = level ? pic->irr | bit : pic->irr & ~bit;
    else if (level && !(pic->lines & bit))
        pic->irr |= bit;
    pic->lines = level ? pic->lines | bit : pic->lines & ~bit;
}

/* Carry the INT pins along: slave to master, master to the processor. */
static void update(struct i8259_pair *pair)
{
    pair->slave.output = pending_input(&pair->slave) != NO_INPUT;
    set_line(&pair->master, I8259_CASCADE, pair->slave.output);
    pair->master.output = pending_input(&pair->master) != NO_INPUT;
    irq_line_set(&pair->intr, pair->master.output);
}

static void end_of_interrupt(struct i8259 *pic, unsigned input, bool rotate)
{
    pic->isr &= (u8) ~(1 << input);
    if (rotate)
        pic->lowest = (u8)input;
}

static void take(struct i8259 *pic, unsigned input)
{
    u8 bit = (u8)(1 << input);

    pic->isr |= bit;
    if (!(pic->elcr & bit) && !(pic->master && input == I8259_CASCADE))
        pic->irr &= (u8)~bit;
    if (pic->auto_eoi)
        end_of_interrupt(pic, input, pic->rotate_auto_eoi);
}

u8 i8259_ack(struct i8259_pair *pair)
{
    unsigned input = pending_input(&pair->master);
    struct i8259 *pic = &pair->master;

    if (input != NO_INPUT)
        take(pic, input);
    if (input == I8259_CASCADE && !pic->single) {
        pic = &pair->slave;
        input = pending_input(pic);
        if (input != NO_INPUT)
            take(pic, input);
    }
    update(pair);
    return pic->vector_base | (input == NO_INPUT ? 7 : input);
}

void i8259_set_irq(struct i8259_pair *pair, unsigned irq, bool level)
{
    if (irq >= 16 || irq == I8259_CASCADE)
        return;
    set_line(irq < 8 ? &pair->master : &pair->slave, irq & 7, level);
    update(pair);
}

/* What ICW1 does: inputs must make a new transition, nothing masked or in service, fixed priorities. */
static void start_init(struct i8259 *pic, u8 icw1)
{
    pic->irr &= pic->elcr;
    pic->imr = pic->isr = 0;
    pic->lowest = 7;
    pic->special_mask = pic->poll = pic->read_isr = false;
    pic->auto_eoi = pic->rotate_auto_eoi = pic->fully_nested = false;
    pic->single = icw1 & ICW1_SNGL;
    pic->init_icw4 = icw1 & ICW1_IC4;
    pic->init_step = INIT_ICW2;
}

static void write_ocw2(struct i8259 *pic, u8 value)
{
    unsigned command = value >> 5, input = value & 7;
    /* A non-specific EOI leaves masked bits alone in special mask mode. */
    u8 in_service = pic->special_mask ? pic->isr & ~pic->imr : pic->isr;
    unsigned priority = highest_priority(pic, in_service);

    switch (command) {
    case OCW2_SET_ROTATE_AUTO_EOI:
    case OCW2_CLEAR_ROTATE_AUTO_EOI: pic->rotate_auto_eoi = command == OCW2_SET_ROTATE_AUTO_EOI; break;
    case OCW2_EOI:
    case OCW2_ROTATE_EOI:
        if (priority != NO_INPUT)
            end_of_interrupt(pic, input_at_priority(pic, priority), command == OCW2_ROTATE_EOI);
        break;
    case OCW2_SPECIFIC_EOI:
    case OCW2_ROTATE_SPECIFIC_EOI: end_of_interrupt(pic, input, command == OCW2_ROTATE_SPECIFIC_EOI); break;
    case OCW2_SET_PRIORITY: pic->lowest = (u8)input; break;
    case OCW2_NOP: break;
    }
}

static void write_ocw3(struct i8259 *pic, u8 value)
{
    if (value & OCW3_POLL)
        pic->poll = true;
    if (value & OCW3_RR)
        pic->read_isr = value & OCW3_RIS;
    if (value & OCW3_ESMM)
        pic->special_mask = value & OCW3_SMM;
}

static void write_odd(struct i8259 *pic, u8 value)
{
    switch (pic->init_step) {
    case INIT_DONE: pic->imr = value; break;
    case INIT_ICW2:
        pic->vector_base = value & 0xf8;
        pic->init_step = !pic->single ? INIT_ICW3 : pic->init_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW3: /* where the slave is: wired, whatever is written */
        pic->init_step = pic->init_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW4:
        pic->auto_eoi = value & ICW4_AEOI;
        pic->fully_nested = value & ICW4_SFNM;
        pic->init_step = INIT_DONE;
        break;
    }
}

void i8259_write(struct i8259_pair *pair, bool slave, unsigned offset, u8 value)
{
    struct i8259 *pic = slave ? &pair->slave : &pair->master;

    if (offset & 1)
        write_odd(pic, value);
    else if (value & ICW1)
        start_init(pic, value);
    else if (value & OCW3)
        write_ocw3(pic, value);
    else
        write_ocw2(pic, value);
    update(pair);
}

u8 i8259_read(struct i8259_pair *pair, bool slave, unsigned offset)
{
    struct i8259 *pic = slave ? &pair->slave : &pair->master;
    unsigned input;

    if (pic->poll) {
        pic->poll = false;
        input = pending_input(pic);
        if (input == NO_INPUT)
            return 0;
        take(pic, input);
        update(pair);
        return (u8)(POLL_INTERRUPT | input);
    }
    if (offset & 1)
        return pic->imr;
    return pic->read_isr ? pic->isr : pic->irr;
}

u8 i8259_elcr_read(const struct i8259_pair *pair, unsigned offset)
{
    return offset & 1 ? pair->slave.elcr : pair->master.elcr;
}

void i8259_elcr_write(struct i8259_pair *pair, unsigned offset, u8 value)
{
    struct i8259 *pic = offset & 1 ? &pair->slave : &pair->master;
    u8 old = pic->elcr;

    pic->elcr = value & pic->level_inputs;
    /* An input that changes its kind shows its level, or has no edge yet. */
    pic->irr = (pic->irr & (u8) ~(old ^ pic->elcr)) | (pic->lines & pic->elcr);
    update(pair);
}

static void reset_one(struct i8259 *pic)
{
    u8 lines = pic->lines;

    *pic =
        (struct i8259){.lines = lines, .level_inputs = pic->level_inputs, .master = pic->master, .lowest = 7};
}

void i8259_reset(struct i8259_pair *pair)
{
    reset_one(&pair->master);
    reset_one(&pair->slave);
    update(pair);
}

void i8259_init(struct i8259_pair *pair, struct irq_line intr)
{
    *pair = (struct i8259_pair){
        .master = {.master = true, .level_inputs = MASTER_LEVEL_INPUTS},
        .slave = {.level_inputs = SLAVE_LEVEL_INPUTS},
        .intr = intr,
    };
    i8259_reset(pair);
}

static int i8259_post_load(void *object, struct error *err)
{
    struct i8259 *pic = object;

    if (pic->init_step > INIT_ICW4)
        return error_set(err, "i8259: initialisation step %u does not exist", pic->init_step);
    if (pic->lowest > 7)
        return error_set(err, "i8259: lowest priority %u is not an input", pic->lowest);
    if (pic->vector_base & 7)
        return error_set(err, "i8259: vector base %#x is not a multiple of 8", pic->vector_base);
    if (pic->elcr & ~pic->level_inputs)
        return error_set(err, "i8259: ELCR %#x makes an edge-only input level-triggered", pic->elcr);
    return 0;
}

static const struct state_field i8259_fields[] = {
    STATE_FIELD(struct i8259, lines, STATE_U8, 1),
    STATE_FIELD(struct i8259, irr, STATE_U8, 1),
    STATE_FIELD(struct i8259, imr, STATE_U8, 1),
    STATE_FIELD(struct i8259, isr, STATE_U8, 1),
    STATE_FIELD(struct i8259, elcr, STATE_U8, 1),
    STATE_FIELD(struct i8259, init_step, STATE_U8, 1),
    STATE_FIELD(struct i8259, init_icw4, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, single, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, vector_base, STATE_U8, 1),
    STATE_FIELD(struct i8259, lowest, STATE_U8, 1),
    STATE_FIELD(struct i8259, auto_eoi, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, rotate_auto_eoi, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, fully_nested, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, special_mask, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, poll, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, read_isr, STATE_BOOL, 1),
    STATE_FIELD(struct i8259, output, STATE_BOOL, 1),
    STATE_END,
};
static const struct state_table i8259_state = {
    .name = "i8259",
    .version = 1,
    .size = sizeof(struct i8259),
    .fields = i8259_fields,
    .post_load = i8259_post_load,
};

static int i8259_pair_post_load(void *object, struct error *err)
{
    struct i8259_pair *pair = object;

    irq_line_set(&pair->intr, pair->master.output);
    return 0;
}

static const struct state_field i8259_pair_fields[] = {
    STATE_STRUCT(struct i8259_pair, master, &i8259_state, 1),
    STATE_STRUCT(struct i8259_pair, slave, &i8259_state, 1),
    STATE_END,
};
const struct state_table i8259_pair_state = {
    .name = "i8259_pair",
    .version = 1,
    .size = sizeof(struct i8259_pair),
    .fields = i8259_pair_fields,
    .post_load = i8259_pair_post_load,
};

/* ---- The device ---- */

struct i8259_device {
    struct device device;
    struct i8259_pair pair;
};

static u64 master_read(void *opaque, u64 offset, unsigned size)
{
    return i8259_read(opaque, false, (unsigned)offset);
}

static void master_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8259_write(opaque, false, (unsigned)offset, (u8)value);
}

static u64 slave_read(void *opaque, u64 offset, unsigned size)
{
    return i8259_read(opaque, true, (unsigned)offset);
}

static void slave_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8259_write(opaque, true, (unsigned)offset, (u8)value);
}

static u64 elcr_read(void *opaque, u64 offset, unsigned size)
{
    return i8259_elcr_read(opaque, (unsigned)offset);
}

static void elcr_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    i8259_elcr_write(opaque, (unsigned)offset, (u8)value);
}

static const struct io_ops master_ops = {master_read, master_write, 1, 1};
static const struct io_ops slave_ops = {slave_read, slave_write, 1, 1};
static const struct io_ops elcr_ops = {elcr_read, elcr_write, 1, 1};

static void i8259_gsi(void *opaque, unsigned gsi, bool level)
{
    i8259_set_irq(opaque, gsi, level);
}

struct i8259_pair *i8259_device_pair(struct device *device)
{
    return &container_of(device, struct i8259_device, device)->pair;
}

void i8259_device_connect(struct device *device, struct irq_line intr)
{
    struct i8259_pair *pair = i8259_device_pair(device);

    pair->intr = intr;
    irq_line_set(&pair->intr, pair->master.output);
}

static int i8259_attach(struct device *device, struct error *err)
{
    struct i8259_pair *pair = i8259_device_pair(device);
    struct vm *vm = device->vm;
    unsigned slot = 0;

    i8259_init(pair, (struct irq_line){0});
    while (slot < IRQ_SINKS && vm->irqs.sink[slot].gsi)
        slot++;
    if (slot == IRQ_SINKS)
        return error_set(err, "%s: the interrupt router has no room for another controller", device->name);
    vm->irqs.sink[slot] = (struct irq_sink){i8259_gsi, pair};
    if (port_map_add(&vm->ports, 0x20, 2, &master_ops, pair, "i8259 master", err) ||
        port_map_add(&vm->ports, 0xa0, 2, &slave_ops, pair, "i8259 slave", err) ||
        port_map_add(&vm->ports, 0x4d0, 2, &elcr_ops, pair, "elcr", err))
        return -1;
    return 0;
}

static void i8259_device_reset(struct device *device)
{
    i8259_reset(i8259_device_pair(device));
}

const struct device_class i8259_class = {
    .name = "i8259",
    .help = "pair of 8259A interrupt controllers with ELCR",
    .size = sizeof(struct i8259_device),
    .state = &i8259_pair_state,
    .state_offset = offsetof(struct i8259_device, pair),
    .attach = i8259_attach,
    .reset = i8259_device_reset,
};
