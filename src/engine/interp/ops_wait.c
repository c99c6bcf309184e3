/*
 * Instructions that wait for a store or a time: MONITOR, MWAIT; AMD's MONITORX, MWAITX; UMONITOR, UMWAIT, TPAUSE. What ends
 * a wait is in machine/wait.c.
 */
#include "engine/interp/ops.h"

/* ---- arming: checked like a load of one byte ---- */

static void arm(struct interp *c, const struct cell *i, u64 offset, enum vcpu_monitor kind)
{
    u64 lin = interp_linear(c, i, i->seg, offset, 1, MEM_READ);

    c->cell = i;
    interp_probe(c, i, lin, 1, MEM_READ);
    vcpu_monitor(c->vcpu, kind, interp_translate_read(c, i, lin));
}

static void monitor_rax(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (get32(s, RCX)) /* extensions, of which there are none */
        raise_gp(c, i, 0);
    arm(c, i, get_sized(s, RAX, cell_address_size(i)), VCPU_MONITOR_MWAIT);
}
HANDLER(monitor)
{
    if (c->cpl)
        raise_ud(c, i);
    monitor_rax(s, c, i);
    NEXT;
}
HANDLER(monitorx)
{
    monitor_rax(s, c, i);
    NEXT;
}
HANDLER(umonitor)
{
    arm(c, i, get_sized(s, i->rm, cell_address_size(i)), VCPU_MONITOR_UMWAIT);
    NEXT;
}

/* ---- waiting ---- */

enum {
    MWAIT_MASKED = 1 << 0, /* ECX: masked interrupts end it */
    MWAITX_TIMER = 1 << 1, /* ECX: and EBX ticks of the TSC */
};

static void wait_for_store(struct vcpu_state *s, struct interp *c, const struct cell *i, u32 extensions)
{
    u32 ecx = get32(s, RCX);
    u64 deadline = UINT64_MAX;

    if (ecx & ~extensions)
        raise_gp(c, i, 0);
    c->cell = i;
    if (ecx & MWAITX_TIMER)
        deadline = vcpu_tsc(c->vcpu) + get32(s, RBX);
    vcpu_wait(c->vcpu, VCPU_MONITOR_MWAIT, ecx & MWAIT_MASKED ? VCPU_WAIT_MASKED : 0, deadline);
}
HANDLER(mwait)
{
    if (c->cpl)
        raise_ud(c, i);
    wait_for_store(s, c, i, MWAIT_MASKED);
    END_LOOP_NEXT;
}
HANDLER(mwaitx)
{
    wait_for_store(s, c, i, MWAIT_MASKED | MWAITX_TIMER);
    END_LOOP_NEXT;
}

/* Until the TSC is EDX:EAX, or for as long as IA32_UMWAIT_CONTROL permits, of which CF tells (SDM 2B TPAUSE). */
static void wait_until(struct vcpu_state *s, struct interp *c, const struct cell *i, enum vcpu_monitor kind)
{
    u64 deadline = (u64)get32(s, RDX) << 32 | get32(s, RAX), now;
    u32 limit = (u32)s->umwait_control & ~3u;
    u8 how = VCPU_WAIT_MASKED;

    if (get32(s, i->rm) & ~1u || (c->cpl && s->cr4 & CR4_TSD))
        raise_gp(c, i, 0);
    c->cell = i;
    now = vcpu_tsc(c->vcpu);
    c->flags = 0;
    if (now >= deadline)
        return;
    if (limit && deadline - now > limit) {
        deadline = now + limit;
        how |= VCPU_WAIT_LIMITED;
    }
    vcpu_wait(c->vcpu, kind, how, deadline);
}
HANDLER(umwait)
{
    wait_until(s, c, i, VCPU_MONITOR_UMWAIT);
    END_LOOP_NEXT;
}
HANDLER(tpause)
{
    wait_until(s, c, i, VCPU_MONITOR_NONE);
    END_LOOP_NEXT;
}

const struct interp_row interp_wait_rows[] = {
    {OP_MONITOR, 0, ANY_SIZE(monitor), NO_FORM},      {OP_MWAIT, 0, ANY_SIZE(mwait), NO_FORM},
    {OP_MONITORX, 0, ANY_SIZE(monitorx), NO_FORM},    {OP_MWAITX, 0, ANY_SIZE(mwaitx), NO_FORM},
    {OP_UMONITOR_Rv, 0, ANY_SIZE(umonitor), NO_FORM}, {OP_UMWAIT_Rd, 0, ANY_SIZE(umwait), NO_FORM},
    {OP_TPAUSE_Rd, 0, ANY_SIZE(tpause), NO_FORM},     ROW_LAST,
};
