/*
 * Waiting for a store: MONITOR and MWAIT, UMONITOR and UMWAIT, TPAUSE, MONITORX and MWAITX.
 *
 * What is watched is a line's contents. As the vCPUs run in turn, a store by another one, or by a device, shows when the
 * waiting one would be the next to run; one that leaves the line as it was does not.
 */
#include <string.h>

#include "machine/vm_internal.h"

/* The line in host memory, or NULL where there is neither RAM nor ROM. */
static const u8 *line_host(struct vcpu *vcpu, u64 phys)
{
    const struct mem_range *r = memory_find(&vcpu->vm->memory, phys);

    return r && r->read_block ? r->read_block->host + (phys - r->start) + r->read_offset : NULL;
}

void vcpu_monitor(struct vcpu *vcpu, enum vcpu_monitor kind, u64 phys)
{
    struct vcpu_state *s = &vcpu->state;
    const u8 *line = line_host(vcpu, phys & ~(u64)(VCPU_LINE - 1));

    s->monitor = line ? kind : VCPU_MONITOR_NONE;
    s->monitor_phys = phys & ~(u64)(VCPU_LINE - 1);
    if (line)
        memcpy(s->monitor_line, line, VCPU_LINE);
}

static bool line_changed(struct vcpu *vcpu)
{
    const u8 *line = line_host(vcpu, vcpu->state.monitor_phys);

    return !line || memcmp(line, vcpu->state.monitor_line, VCPU_LINE) != 0;
}

void vcpu_wait(struct vcpu *vcpu, enum vcpu_monitor kind, u8 how, u64 deadline)
{
    struct vcpu_state *s = &vcpu->state;
    bool armed = s->monitor == kind;

    s->monitor = VCPU_MONITOR_NONE;
    if (!armed && kind != VCPU_MONITOR_NONE)
        return;
    s->activity = VCPU_WAITING;
    s->wait = how | (armed && kind != VCPU_MONITOR_NONE ? VCPU_WAIT_STORE : 0);
    s->wait_deadline = deadline;
}

static bool deadline_passed(struct vcpu *vcpu)
{
    return vcpu_tsc(vcpu) >= vcpu->state.wait_deadline;
}

bool vcpu_wait_over(struct vcpu *vcpu)
{
    const struct vcpu_state *s = &vcpu->state;
    u32 kick = vcpu_kicked(vcpu);

    return kick & (KICK_INIT | KICK_SMI) ||
           (kick & KICK_INTERRUPT && (s->rflags & FLAG_IF || s->wait & VCPU_WAIT_MASKED)) ||
           ((kick & KICK_NMI || s->nmi_pending) && !s->nmi_masked) ||
           (s->wait & VCPU_WAIT_STORE && line_changed(vcpu)) || deadline_passed(vcpu);
}

void vcpu_wait_end(struct vcpu *vcpu)
{
    struct vcpu_state *s = &vcpu->state;

    s->activity = VCPU_RUNNING;
    if (s->wait & VCPU_WAIT_LIMITED && deadline_passed(vcpu))
        s->rflags |= FLAG_CF;
}

u64 vcpu_wait_deadline_ns(struct vcpu *vcpu)
{
    const struct vcpu_state *s = &vcpu->state;
    const struct clock *clock = &vcpu->vm->clock;
    u64 tsc, now, ns;

    if (s->activity != VCPU_WAITING || s->wait_deadline == UINT64_MAX)
        return UINT64_MAX;
    tsc = vcpu_tsc(vcpu);
    now = clock_now(clock);
    ns = s->wait_deadline > tsc ? clock_tsc_to_ns(clock, s->wait_deadline - tsc) : 0;
    return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}
