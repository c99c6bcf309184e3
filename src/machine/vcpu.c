#include "machine/vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "machine/vm_internal.h"

/* ---- The kick word ---- */

void vcpu_kick(struct vcpu *vcpu, u32 reasons)
{
    __atomic_fetch_or(&vcpu->kick, reasons, __ATOMIC_SEQ_CST);
    vm_wake(vcpu);
}

void vcpu_unkick(struct vcpu *vcpu, u32 reasons)
{
    __atomic_fetch_and(&vcpu->kick, ~reasons, __ATOMIC_SEQ_CST);
}

void vcpu_nmi(struct vcpu *vcpu)
{
    vcpu_kick(vcpu, KICK_NMI);
}
void vcpu_init_signal(struct vcpu *vcpu)
{
    vcpu_kick(vcpu, KICK_INIT);
}

void vcpu_sipi(struct vcpu *vcpu, u8 vector)
{
    __atomic_store_n(&vcpu->sipi_vector, vector, __ATOMIC_RELAXED);
    vcpu_kick(vcpu, KICK_SIPI);
}

static void start_at(struct vcpu_state *s, u8 vector)
{
    s->seg[SEG_CS].selector = (u16)(vector << 8);
    s->seg[SEG_CS].base = (u64)vector << 12;
    s->rip = 0;
    s->activity = VCPU_RUNNING;
}

bool vcpu_serve_signals(struct vcpu *vcpu)
{
    struct vcpu_state *s = &vcpu->state;
    u32 kick = vcpu_kicked(vcpu);
    bool changed = false;

    if (kick & KICK_INIT) {
        vcpu_unkick(vcpu, KICK_INIT | KICK_NMI | KICK_SMI);
        vcpu_state_init(s, vcpu->vm->config.cpu.signature);
        if (vcpu->intc)
            vcpu->intc->init(vcpu->intc_opaque);
        changed = true;
    }
    /* INIT and SIPI of one boot sequence may both have arrived since the last look. */
    if (kick & KICK_SIPI) {
        vcpu_unkick(vcpu, KICK_SIPI);
        if (s->activity == VCPU_WAIT_SIPI) {
            start_at(s, __atomic_load_n(&vcpu->sipi_vector, __ATOMIC_RELAXED));
            changed = true;
        }
    }
    return changed;
}

int vcpu_interrupt_ack(struct vcpu *vcpu)
{
    int vector = vcpu->intc ? vcpu->intc->ack(vcpu->intc_opaque) : -1;

    if (vector < 0)
        vcpu_unkick(vcpu, KICK_INTERRUPT);
    return vector;
}

static int signals_post_load(void *object, struct error *err)
{
    struct vcpu *vcpu = object;

    if (vcpu->saved_signals & ~(u32)KICK_SIGNALS)
        return error_set(err, "unknown signals to a vCPU: %xh", vcpu->saved_signals);
    vcpu_unkick(vcpu, KICK_SIGNALS);
    vcpu_kick(vcpu, vcpu->saved_signals);
    return 0;
}

static const struct state_field signals_fields[] = {
    STATE_FIELD(struct vcpu, saved_signals, STATE_U32, 1),
    STATE_FIELD(struct vcpu, sipi_vector, STATE_U8, 1),
    STATE_END,
};
const struct state_table vcpu_signals_state_table = {.name = "vcpu_signals",
                                                     .version = 1,
                                                     .size = sizeof(struct vcpu),
                                                     .fields = signals_fields,
                                                     .post_load = signals_post_load};

/* ---- Access out ---- */

u32 vcpu_port_read(struct vcpu *vcpu, u32 port, unsigned size)
{
    struct vm *vm = vcpu->vm;
    u32 value;

    vcpu_sync_clock(vcpu);
    vcpu_lock(vcpu);
    value = port_read(&vm->ports, port, size);
    vcpu_unlock(vcpu);
    if (unlikely(vm->trace) && vm->trace->port)
        vm->trace->port(vm->trace_opaque, vcpu, false, port, size, value);
    return value;
}

void vcpu_port_write(struct vcpu *vcpu, u32 port, unsigned size, u32 value)
{
    struct vm *vm = vcpu->vm;

    vcpu_sync_clock(vcpu);
    vcpu_lock(vcpu);
    port_write(&vm->ports, port, size, value);
    vcpu_unlock(vcpu);
    if (unlikely(vm->trace) && vm->trace->port)
        vm->trace->port(vm->trace_opaque, vcpu, true, port, size, value);
}

static bool in_intc_page(const struct vcpu *vcpu, u64 phys)
{
    return (phys & PAGE_MASK) == vcpu->intc_page;
}

u64 vcpu_mmio_read(struct vcpu *vcpu, u64 phys, unsigned size)
{
    struct vm *vm = vcpu->vm;
    u64 value;

    vcpu_sync_clock(vcpu);
    if (in_intc_page(vcpu, phys)) {
        value = vcpu->intc->mmio_read(vcpu->intc_opaque, (u32)(phys & ~PAGE_MASK), size);
    } else {
        vcpu_lock(vcpu);
        value = memory_read(&vm->memory, phys, size);
        vcpu_unlock(vcpu);
    }
    if (unlikely(vm->trace) && vm->trace->mmio)
        vm->trace->mmio(vm->trace_opaque, vcpu, false, phys, size, value);
    return value;
}

void vcpu_mmio_write(struct vcpu *vcpu, u64 phys, unsigned size, u64 value)
{
    struct vm *vm = vcpu->vm;

    vcpu_sync_clock(vcpu);
    if (in_intc_page(vcpu, phys)) {
        vcpu->intc->mmio_write(vcpu->intc_opaque, (u32)(phys & ~PAGE_MASK), size, value);
    } else {
        vcpu_lock(vcpu);
        memory_write(&vm->memory, phys, size, value);
        vcpu_unlock(vcpu);
    }
    if (unlikely(vm->trace) && vm->trace->mmio)
        vm->trace->mmio(vm->trace_opaque, vcpu, true, phys, size, value);
}

u64 vcpu_tsc(struct vcpu *vcpu)
{
    const struct clock *clock = &vcpu->vm->clock;

    vcpu_sync_clock(vcpu);
    return clock_tsc(clock, clock_now(clock)) + vcpu->state.tsc_offset;
}

bool vcpu_fpu_error(struct vcpu *vcpu, bool pending)
{
    struct vm *vm = vcpu->vm;
    bool ignne;

    if (vcpu->index != 0 || !vm->fpu_error)
        return true;
    vcpu_sync_clock(vcpu);
    vcpu_lock(vcpu);
    ignne = vm->fpu_error(vm->fpu_error_opaque, pending);
    vcpu_unlock(vcpu);
    return ignne;
}

/* ---- Randomness ---- */

/* SplitMix64 (Steele, Lea, Flood 2014): a counter and a finaliser, so the whole state is one number that can be saved. */
static u64 next_random(u64 *state)
{
    u64 z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

u64 vcpu_random(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    u64 value;

    if (vm->clock.driver != CLOCK_HOST)
        return next_random(&vm->random_state);
    while (getrandom(&value, sizeof(value), 0) != sizeof(value)) {
        if (errno != EINTR)
            abort(); /* every Linux that has memfds has getrandom */
    }
    return value;
}

/* ---- CPUID ---- */

void vcpu_cpuid(struct vcpu *vcpu, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct vm_config *config = &vcpu->vm->config;
    const struct vcpu_state *s = &vcpu->state;
    const struct cpuid_inputs inputs = {
        .apic_id = vcpu->index,
        .vcpus = vcpu->vm->nvcpus,
        .apic_enabled = s->apic_base & IA32_APIC_BASE_ENABLE,
        .code64 = vcpu_64bit(s),
        .cr4 = s->cr4,
        .xcr0 = s->xcr0,
        .xss = s->xss,
        .tsc_hz = config->tsc_hz,
        .apic_hz = VM_APIC_HZ,
    };

    cpuid_leaf(&config->cpu, &inputs, leaf, subleaf, out);
}
