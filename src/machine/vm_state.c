#include "machine/vm_state.h"

#include <string.h>
#include <stdio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "machine/vm_internal.h"

static int vm_post_load(void *object, struct error *err)
{
    const struct vm *vm = object;

    if (vm->turn >= vm->nvcpus)
        return error_set(err, "it is the turn of vCPU %u, and there are %u", vm->turn, vm->nvcpus);
    if (vm->clock.driver != vm->config.clock)
        return error_set(err, "the machine was saved with another clock");
    return 0;
}

static const struct state_field vm_fields[] = {
    STATE_STRUCT(struct vm, clock, &clock_state_table, 1),
    STATE_FIELD(struct vm, timers.next_order, STATE_U64, 1),
    STATE_FIELD(struct vm, turn, STATE_U32, 1),
    STATE_FIELD(struct vm, turn_left, STATE_U64, 1),
    STATE_FIELD(struct vm, random_state, STATE_U64, 1),
    STATE_END,
};
static const struct state_table vm_state_table = {
    .name = "vm", .version = 1, .size = sizeof(struct vm), .fields = vm_fields, .post_load = vm_post_load};

/*
 * The clock comes first, as deadlines are in its time. Devices come before the vCPUs, so that the signals that a device
 * sends to a vCPU while it is loaded are followed by the vCPU's own state.
 */
void vm_state_sections(struct vm *vm, void (*section)(void *opaque, const struct state_section *section),
                       void *opaque)
{
    section(opaque, &(struct state_section){"vm", &vm_state_table, vm});
    section(opaque, &(struct state_section){"memory", &memory_state_table, &vm->memory});
    section(opaque, &(struct state_section){"irq", &irq_router_state_table, &vm->irqs});
    for (struct device *device = vm->devices; device; device = device->next) {
        if (device->class->state)
            section(opaque, &(struct state_section){device->name, device->class->state,
                                                    (u8 *)device + device->class->state_offset});
    }
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];
        char name[24];

        vcpu->saved_signals = vcpu_kicked(vcpu) & KICK_SIGNALS;
        snprintf(name, sizeof(name), "vcpu%u", i);
        section(opaque, &(struct state_section){name, &vcpu_state_table, &vcpu->state});
        snprintf(name, sizeof(name), "signals%u", i);
        section(opaque, &(struct state_section){name, &vcpu_signals_state_table, vcpu});
    }
}

int vm_state_loaded(struct vm *vm, struct error *err)
{
    u64 now = clock_now(&vm->clock);

    /* A deadline that lies far back would make timer_queue_run catch up with as many periods. */
    if (vm->timers.first && now > vm->timers.first->deadline_ns &&
        now - vm->timers.first->deadline_ns > 1000000000)
        return error_set(err, "a timer was due more than a second before the time of the save");
    vm_lock(vm);
    memory_commit(&vm->memory);
    vm_unlock(vm);
    vm_states_changed(vm);
    return 0;
}

/* ---- Hash ---- */

static void hash_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    XXH3_128bits_update(opaque, path, strlen(path) + 1);
    XXH3_128bits_update(opaque, &value, sizeof(value));
}

static void hash_bytes(void *opaque, const char *path, const struct state_field *field, const u8 *data,
                       size_t len)
{
    XXH3_128bits_update(opaque, path, strlen(path) + 1);
    XXH3_128bits_update(opaque, data, len);
}

static void hash_section(void *opaque, const struct state_section *section)
{
    const struct state_visitor visitor = {.value = hash_value, .bytes = hash_bytes, .opaque = opaque};

    XXH3_128bits_update(opaque, section->name, strlen(section->name) + 1);
    state_visit(section->table, section->object, &visitor);
}

static bool is_zero(const u8 *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

/* Pages that the memfd does not hold are zero and must stay so: a look at one would fill it. */
static void hash_block(XXH3_state_t *hash, const struct mem_block *block)
{
    off_t at = 0;

    XXH3_128bits_update(hash, block->name, strlen(block->name) + 1);
    XXH3_128bits_update(hash, &block->size, sizeof(block->size));
    while ((at = lseek(block->fd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(block->fd, at, SEEK_HOLE);

        for (; at < end; at += PAGE_SIZE) {
            u64 offset = (u64)at;

            if (is_zero(block->host + offset))
                continue;
            XXH3_128bits_update(hash, &offset, sizeof(offset));
            XXH3_128bits_update(hash, block->host + offset, PAGE_SIZE);
        }
    }
}

struct vm_hash vm_state_hash(struct vm *vm)
{
    XXH3_state_t hash;
    XXH128_hash_t result;

    XXH3_128bits_reset(&hash);
    vm_state_sections(vm, hash_section, &hash);
    for (size_t i = 0; i < vm->memory.nblocks; i++)
        hash_block(&hash, vm->memory.blocks[i]);
    result = XXH3_128bits_digest(&hash);
    return (struct vm_hash){.low = result.low64, .high = result.high64};
}
