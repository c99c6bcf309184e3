/*
 * An engine for tests of the run loop. It executes one-byte instructions from RAM at `rip`:
 *
 *     n  nothing          j  jump to 0           h  halt, interrupts enabled     p  pause
 *     o  out: port `rip`  t  triple fault        k  hook                         d  out: debug-exit port F4h
 *
 * and takes an interrupt by counting it.
 */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include <stdlib.h>
#include <string.h>

#include "machine/vm.h"

struct fake {
    u64 retired; /* in the run under way */
    unsigned runs, interrupts, changes;
};

static inline struct fake *fake_of(const struct vcpu *vcpu)
{
    return vcpu->engine_vcpu;
}

static int fake_attach(struct vcpu *vcpu, struct error *err)
{
    vcpu->engine_vcpu = calloc(1, sizeof(struct fake));
    return vcpu->engine_vcpu ? 0 : error_set(err, "out of memory");
}

static void fake_detach(struct vcpu *vcpu)
{
    free(vcpu->engine_vcpu);
    vcpu->engine_vcpu = NULL;
}

static void fake_state_changed(struct vcpu *vcpu)
{
    fake_of(vcpu)->changes++;
}
static u64 fake_retired(const struct vcpu *vcpu)
{
    return fake_of(vcpu)->retired;
}

static void fake_boundary(struct vcpu *vcpu)
{
    struct vcpu_state *s = &vcpu->state;

    if (vcpu_kicked(vcpu) & KICK_REQUEST)
        vcpu_give_way(vcpu);
    if (vcpu_kicked(vcpu) & (KICK_INIT | KICK_SIPI))
        vcpu_serve_signals(vcpu);
    if (vcpu_kicked(vcpu) & KICK_INTERRUPT && s->rflags & FLAG_IF && s->activity < VCPU_WAIT_SIPI) {
        vcpu_unkick(vcpu, KICK_INTERRUPT);
        fake_of(vcpu)->interrupts++;
        s->activity = VCPU_RUNNING;
    }
}

static enum engine_exit fake_step(struct vcpu *vcpu, bool *leave)
{
    struct vcpu_state *s = &vcpu->state;
    u8 code = 0;

    *leave = true;
    dma_read(&vcpu->vm->memory, s->seg[SEG_CS].base + s->rip, &code, 1);
    switch (code) {
    case 'k': return ENGINE_EXIT_HOOK;
    case 't': s->activity = VCPU_SHUTDOWN; return ENGINE_EXIT_SHUTDOWN;
    case 'o': vcpu_port_write(vcpu, (u16)s->rip, 1, 0); break;
    case 'd': vcpu_port_write(vcpu, 0xf4, 1, 5); break;
    default: break;
    }
    s->rip = code == 'j' ? 0 : s->rip + 1;
    s->icount++;
    fake_of(vcpu)->retired++;
    if (code == 'h') {
        s->rflags |= FLAG_IF;
        s->activity = VCPU_HALTED;
        return ENGINE_EXIT_HALT;
    }
    if (code == 'p' && vcpu->vm->nvcpus > 1)
        return ENGINE_EXIT_YIELD;
    *leave = false;
    return ENGINE_EXIT_BUDGET;
}

static enum engine_exit fake_run(struct vcpu *vcpu, u64 max_insns)
{
    struct fake *fake = fake_of(vcpu);
    enum engine_exit exit = ENGINE_EXIT_BUDGET;
    bool leave = false;

    fake->runs++;
    for (fake->retired = 0; fake->retired < max_insns && !leave;) {
        fake_boundary(vcpu);
        if (vcpu_kicked(vcpu) & KICK_EXIT) {
            exit = ENGINE_EXIT_KICK;
            break;
        }
        if (vcpu->state.activity != VCPU_RUNNING) {
            exit = ENGINE_EXIT_HALT;
            break;
        }
        exit = fake_step(vcpu, &leave);
    }
    fake->retired = 0;
    return exit;
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .attach = fake_attach,
    .detach = fake_detach,
    .state_changed = fake_state_changed,
    .run = fake_run,
    .retired = fake_retired,
};

/* A VM with 1 MiB of RAM at 0 that holds `program` at 0, every vCPU running there. */
struct fake_vm {
    struct vm *vm;
    struct mem_region ram;
    const char *program;
};

static inline int fake_on_reset(struct vm *vm, void *opaque, struct error *err)
{
    struct fake_vm *fake = opaque;

    for (unsigned i = 0; i < vm->nvcpus; i++) {
        vm->vcpus[i]->state.seg[SEG_CS].base = 0;
        vm->vcpus[i]->state.rip = 0;
        vm->vcpus[i]->state.activity = VCPU_RUNNING;
    }
    return memory_poke(&vm->memory, 0, fake->program, strlen(fake->program)) ? 0 : error_set(err, "no RAM");
}

static inline void fake_vm_new(struct fake_vm *fake, const char *program, unsigned vcpus,
                               enum clock_driver clock)
{
    struct vm_config config = {
        .name = "test", .ram_size = MIB(1), .vcpus = vcpus, .clock = clock, .random_seed = 7};
    struct error err = {.text = ""};

    for (unsigned i = 0; i < X86_FEATURE_COUNT; i++)
        config.cpu.has[i] = true;
    config.cpu.name = "test";
    *fake = (struct fake_vm){.program = program};
    fake->vm = vm_new(&config, &err);
    if (!fake->vm)
        abort();
    fake->ram = (struct mem_region){.size = MIB(1),
                                    .enabled = true,
                                    .read = true,
                                    .write = true,
                                    .block = fake->vm->memory.blocks[0],
                                    .name = "ram"};
    fake->vm->on_reset = fake_on_reset;
    fake->vm->on_reset_opaque = fake;
    if (memory_add_region(&fake->vm->memory, &fake->ram, &err) ||
        vm_set_engine(fake->vm, &fake_engine, &err) || vm_reset(fake->vm, &err))
        abort();
}

#endif
