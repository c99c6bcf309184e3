/*
 * The smallest machine that runs code in the interpreter: RAM and a CPU, no board. Failures are cmocka's.
 */
#ifndef TESTS_INTERP_MACHINE_H
#define TESTS_INTERP_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/interp/engine.h"
#include "machine/vm.h"
#include "x86/cpuid.h"

struct machine {
    struct vm *vm;
    struct vcpu *vcpu;
    struct vcpu_state *s;
    struct mem_region ram;
};

/* A machine without a board: 2 MiB of RAM and CPUs of the model `cpu` (as --cpu), of which the first is looked at. */
static inline void start_cpus(struct machine *m, const char *cpu, unsigned cpus)
{
    struct error err = {0};
    struct vm_config config = {.name = "test", .ram_size = MIB(2), .vcpus = cpus, .clock = CLOCK_ICOUNT};

    assert_int_equal(cpu_model_parse(cpu, &config.cpu, &err), 0);
    m->vm = vm_new(&config, &err);
    assert_non_null(m->vm);
    m->ram = (struct mem_region){.size = MIB(2),
                                 .enabled = true,
                                 .read = true,
                                 .write = true,
                                 .name = "ram",
                                 .block = m->vm->memory.blocks[0]};
    assert_int_equal(memory_add_region(&m->vm->memory, &m->ram, &err), 0);
    memory_commit(&m->vm->memory);
    assert_int_equal(vm_set_engine(m->vm, &interp_engine, &err), 0);
    m->vcpu = m->vm->vcpus[0];
    m->s = &m->vcpu->state;
}

static inline void start_cpu(struct machine *m, const char *cpu)
{
    start_cpus(m, cpu, 1);
}

static inline void start(struct machine *m)
{
    start_cpu(m, "max");
}

static inline void stop(struct machine *m)
{
    memory_remove_region(&m->vm->memory, &m->ram);
    vm_free(m->vm);
}

/* Put code at 0:7c00 and make the CPU start there in real mode. */
static inline void real_mode(struct machine *m, const void *code, size_t len)
{
    memory_poke(&m->vm->memory, 0x7c00, code, len);
    vcpu_state_reset(m->s, true, 0);
    m->s->seg[SEG_CS].selector = 0;
    m->s->seg[SEG_CS].base = 0;
    m->s->rip = 0x7c00;
    m->s->gpr[RSP] = 0x7000;
    m->vcpu->engine->state_changed(m->vcpu);
}

static inline enum engine_exit run(struct machine *m, u64 insns)
{
    return m->vcpu->engine->run(m->vcpu, insns);
}

/* 64-bit code with identity paging by one 1 GiB page, entered by setting the state. */
static inline void long_mode(struct machine *m, const void *code, size_t len)
{
    static const u64 pml4 = 0x11000 | 7, pdpt = 0x87;

    memory_poke(&m->vm->memory, 0x10000, &pml4, 8);
    memory_poke(&m->vm->memory, 0x11000, &pdpt, 8);
    memory_poke(&m->vm->memory, 0x20000, code, len);
    vcpu_state_reset(m->s, true, 0);
    m->s->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP;
    m->s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    m->s->cr3 = 0x10000;
    m->s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    m->s->seg[SEG_CS] = (struct seg){.selector = 8, .limit = 0xffffffff, .attr = 0xa09b};
    m->s->seg[SEG_SS] = (struct seg){.selector = 16, .limit = 0xffffffff, .attr = 0xc093};
    m->s->rip = 0x20000;
    m->s->gpr[RSP] = 0x30000;
    m->vcpu->engine->state_changed(m->vcpu);
}

#endif
