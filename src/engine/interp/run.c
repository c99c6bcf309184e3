/*
 * The loop around blocks, and the engine's face to the machine.
 *
 * Inside a chain of blocks only c->left (the budget) and the kick word are looked at. Everything else that may happen
 * between two instructions is handled here, at an instruction boundary with s->rip exact: faults that were raised, NMI,
 * interrupts, INIT and SIPI, interrupt shadows, RF and single-step traps, the end of the budget.
 */
#include <stdlib.h>

#include "engine/interp/block.h"
#include "engine/interp/debug.h"
#include "engine/interp/engine.h"
#include "engine/interp/fault.h"
#include "engine/interp/flags.h"
#include "engine/interp/fpstate.h"
#include "engine/interp/mem.h"
#include "engine/interp/tier.h"
#include "machine/trace.h"
#include "x86/cpuid.h"

/* ---- ends of blocks ---- */

static ALWAYS_INLINE bool may_chain(const struct interp *c, const struct block *next)
{
    return next->ncells <= c->left && !(__atomic_load_n(c->kick, __ATOMIC_RELAXED) & c->kick_mask);
}

/* The block to go on with at s->rip, by way of the jump table; NULL: return to the loop. */
static ALWAYS_INLINE struct block *next_by_rip(struct vcpu_state *s, struct interp *c,
                                               const struct block *from)
{
    const struct jump_entry *j = jump_slot(c, s->rip);

    if (likely(j->rip == s->rip && j->generation == c->generation[s->rip >> 63])) {
        struct block *next = j->block;

        if (likely(next->mode == c->mode && next->cs_base == from->cs_base &&
                   next->cs_limit == from->cs_limit && may_chain(c, next)))
            return next;
    }
    return NULL;
}
#define CHAIN_BY_RIP(from)                                                                                   \
    do {                                                                                                     \
        struct block *by_rip = next_by_rip(s, c, from);                                                      \
                                                                                                             \
        if (likely(by_rip)) {                                                                                \
            c->block = by_rip;                                                                               \
            TAIL by_rip->cells[0].fn(s, c, by_rip->cells);                                                   \
        }                                                                                                    \
    } while (0)

#define DEFINE_END_DIRECT(name, which, target)                                                               \
    void name(struct vcpu_state *s, struct interp *c, const struct cell *i)                                  \
    {                                                                                                        \
        struct block *b = c->block, *next = b->link[which];                                                  \
                                                                                                             \
        c->left -= b->ncells;                                                                                \
        if (likely(next && may_chain(c, next))) {                                                            \
            c->block = next;                                                                                 \
            TAIL next->cells[0].fn(s, c, next->cells);                                                       \
        }                                                                                                    \
        s->rip = target;                                                                                     \
        c->link_which = which;                                                                               \
        if (((s->rip ^ b->rip) & PAGE_MASK) == 0) {                                                          \
            c->link_from = b;                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        CHAIN_BY_RIP(b);                                                                                     \
    }
DEFINE_END_DIRECT(interp_end_taken, 0, (u64)i->disp)
DEFINE_END_DIRECT(interp_end_fall, 1, cell_next_rip(c, i))

void interp_end_indirect(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    c->left -= c->block->ncells;
    CHAIN_BY_RIP(c->block);
}

void interp_end_loop(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    c->left -= c->block->ncells;
}

void interp_end_far(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    const struct jump_entry *j = jump_slot(c, s->rip);

    c->left -= c->block->ncells;
    if (likely(!(s->rflags & (FLAG_TF | FLAG_VIP)) && !s->nmi_pending && !c->attention &&
               (c->mode & MODE_CODE_MASK) == MODE_CODE64 && j->rip == s->rip &&
               j->generation == c->generation[s->rip >> 63] && j->block->mode == c->mode &&
               may_chain(c, j->block))) {
        s->rflags &= ~(u64)FLAG_RF; /* as the loop does it */
        c->block = j->block;
        TAIL j->block->cells[0].fn(s, c, j->block->cells);
    }
}

void interp_leave_after(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    c->left -= i + 1 - c->block->cells;
    s->rip = cell_next_rip(c, i);
}

void interp_op_leave(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    c->left -= i - c->block->cells;
    s->rip = cell_rip(c, i);
}

void interp_look_up_after(struct interp *c, const struct cell *i)
{
    struct cell *next;

    if (!i || c->patched || !(vcpu_kicked(c->vcpu) & c->kick_mask))
        return;
    next = &c->block->cells[i - c->block->cells + 1];
    if (next > &c->block->cells[c->block->ncells])
        return;
    c->patched = next;
    c->patched_fn = next->fn;
    next->fn = interp_op_leave;
}

/* Back in the loop: give the patched cell its handler again, unless the block has died meanwhile. */
static void unpatch(struct interp *c)
{
    if (c->patched && c->block->mode != BLOCK_DEAD)
        c->patched->fn = c->patched_fn;
    c->patched = NULL;
}

void interp_op_ud(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    raise_ud(c, i);
}
void interp_op_nm(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    raise_nm(c, i);
}

/* ---- what is derived from the state ---- */

u64 interp_rflags(const struct interp *c)
{
    return (c->state->rflags & ~(u64)FLAGS_ARITH) | flags_unpack(c->flags) | FLAG_ONE;
}

static void rights_changed(struct interp *c)
{
    const struct vcpu_state *s = c->state;
    /* At CPL 3 alignment is checked (SDM 3A 6.15, interrupt 17), else SMAP is overridden. */
    bool ac = (s->rflags & FLAG_AC) && (c->cpl != 3 || (s->cr0 & CR0_AM));

    if (c->cpl == 3)
        c->tlb = c->tlbs[ac ? TLB_CHECKED : TLB_USER];
    else
        c->tlb = c->tlbs[ac ? TLB_SUPER_AC : TLB_SUPER];
    c->mode = (c->mode & ~(u32)MODE_AC) | (ac ? MODE_AC : 0);
    c->kick_mask = ~(u32)(s->rflags & FLAG_IF ? 0 : KICK_INTERRUPT);
}

void interp_set_rflags(struct interp *c, u64 rflags)
{
    c->flags = flags_pack(rflags);
    c->state->rflags = rflags | FLAG_ONE;
    rights_changed(c);
}

static bool flat_data(const struct seg *seg)
{
    return seg->base == 0 && seg->limit == 0xffffffffu &&
           (seg->attr & (SEG_UNUSABLE | SEG_CODE | SEG_EXPAND_DOWN | SEG_WRITE)) == SEG_WRITE;
}

void interp_segments_changed(struct interp *c)
{
    const struct vcpu_state *s = c->state;

    if ((c->mode & MODE_CODE_MASK) != MODE_CODE64 || !vcpu_64bit(s)) {
        interp_mode_changed(c);
        return;
    }
    c->cpl = (u8)vcpu_cpl(s);
    c->mode = (c->mode & ~(u32)MODE_USER) | (c->cpl == 3 ? MODE_USER : 0);
    c->seg_base[SEG_FS] = s->seg[SEG_FS].base;
    c->seg_base[SEG_GS] = s->seg[SEG_GS].base;
    rights_changed(c);
}

void interp_mode_changed(struct interp *c)
{
    const struct vcpu_state *s = c->state;
    bool real = !(s->cr0 & CR0_PE), v86 = s->rflags & FLAG_VM;
    u32 mode = 0;

    c->cpl = (u8)(real ? 0 : v86 ? 3 : vcpu_cpl(s));
    if (vcpu_64bit(s)) {
        mode = MODE_CODE64 | (s->cr4 & CR4_LA57 ? MODE_LA57 : 0);
        for (unsigned n = 0; n < SEG_COUNT; n++)
            c->seg_base[n] = n == SEG_FS || n == SEG_GS ? s->seg[n].base : 0;
    } else {
        mode = s->seg[SEG_CS].attr & SEG_DB ? MODE_CODE32 : MODE_CODE16;
        if (s->seg[SEG_SS].attr & SEG_DB)
            mode |= MODE_STACK32;
        if (real || v86)
            mode |= MODE_REAL;
        if (flat_data(&s->seg[SEG_DS]) && flat_data(&s->seg[SEG_ES]) && flat_data(&s->seg[SEG_SS]))
            mode |= MODE_FLAT;
    }
    if (s->cr0 & (CR0_EM | CR0_TS))
        mode |= MODE_X87_NM;
    if (s->cr0 & CR0_EM)
        mode |= MODE_MMX_UD;
    if ((s->cr0 & CR0_EM) || !(s->cr4 & CR4_OSFXSR))
        mode |= MODE_SSE_UD;
    if (s->cr0 & CR0_TS)
        mode |= MODE_SSE_NM;
    if (!(s->cr4 & CR4_OSXSAVE) || (s->xcr0 & (XFEATURE_SSE | XFEATURE_AVX)) != (XFEATURE_SSE | XFEATURE_AVX))
        mode |= MODE_AVX_UD;
    if (c->cpl == 3)
        mode |= MODE_USER;
    c->mode = mode;
    rights_changed(c);
}

/* ---- between instructions ---- */

/* Deliver what waits and may be delivered now. `shadowed`: the instruction after STI or MOV SS comes first. */
static void service_events(struct interp *c, bool shadowed)
{
    struct vcpu_state *s = c->state;
    u32 kick = vcpu_kicked(c->vcpu);

    if ((kick & (KICK_INIT | KICK_SIPI)) && vcpu_serve_signals(c->vcpu)) {
        interp_tlb_flush(c);
        interp_set_rflags(c, s->rflags);
        interp_mode_changed(c);
        interp_debug_changed(c);
        c->link_from = NULL;
    }
    if (kick & KICK_NMI) {
        vcpu_unkick(c->vcpu, KICK_NMI);
        s->nmi_pending = true;
    }
    if (s->activity == VCPU_WAIT_SIPI || s->activity == VCPU_SHUTDOWN || shadowed)
        return;
    if (s->nmi_pending && !s->nmi_masked) {
        s->nmi_pending = false;
        s->nmi_masked = true;
        s->activity = VCPU_RUNNING;
        interp_deliver(c, EVENT_NMI, VEC_NMI, 0);
    } else if ((kick & KICK_INTERRUPT) && (s->rflags & FLAG_IF)) {
        int vector = vcpu_interrupt_ack(c->vcpu);

        if (vector >= 0) {
            s->activity = VCPU_RUNNING;
            interp_deliver(c, EVENT_INTERRUPT, (u8)vector, 0);
        }
    }
}

/* An event that was begun elsewhere (another engine, a restored snapshot). */
static void finish_event(struct interp *c)
{
    struct vcpu_state *s = c->state;

    s->event_pending = false;
    c->fault.address = s->cr2; /* set when the delivery began */
    interp_deliver(c,
                   s->event_software      ? EVENT_SOFTWARE
                   : s->event_vector < 32 ? EVENT_EXCEPTION
                                          : EVENT_INTERRUPT,
                   s->event_vector, s->event_error);
}

/* #DB for the traps of the last instruction, unless a MOV-SS shadow holds them back (SDM 3A 6.8.3). */
static void debug_trap(struct interp *c)
{
    struct vcpu_state *s = c->state;

    if (!s->pending_debug || s->mov_ss_shadow)
        return;
    if (s->activity == VCPU_HALTED || s->activity == VCPU_WAITING)
        s->activity = VCPU_RUNNING;
    interp_debug_registers(c, s->pending_debug);
    s->pending_debug = 0;
    interp_deliver(c, EVENT_TRAP, VEC_DB, 0);
    /* Its pushes may have met a breakpoint themselves, for ever: that uses up the budget. */
    if (c->debug.hits && c->left > 0)
        c->left--;
}

/* Whether an instruction that began with TF set ends with a single-step trap (SDM 3B 18.3.1.4). */
static bool single_steps(const struct interp *c, unsigned op)
{
    const struct vcpu_state *s = c->state;

    /* Delivery of an event has cleared TF; after MOV SS the next instruction's trap stands for both. */
    if (c->event_in_step || s->mov_ss_shadow || op == OP_SYSCALL || op == OP_SYSRET)
        return false;
    /* IA32_DEBUGCTL.BTF: branches that were taken only (SDM 3B 18.4.3). */
    return !(s->debugctl & DEBUGCTL_BTF) || ((x86_ops[op].attributes & X86_OP_BRANCH) && !c->link_which);
}

static void end_step(struct interp *c)
{
    c->run_budget += c->step_rest;
    c->left += c->step_rest;
    c->step_rest = 0;
}

/* Run one instruction with all that belongs to its boundary. Returns false when a trace asks to come out before it. */
static bool step(struct interp *c)
{
    struct vcpu_state *s = c->state;
    bool trap = s->rflags & FLAG_TF;
    const struct trace_ops *trace = c->vcpu->vm->trace;
    struct block *b;

    if (trace && trace->insn && !c->traced) {
        c->traced = true; /* one call an instruction, also when it comes out of run in between */
        s->rflags = interp_rflags(c);
        interp_fp_sync(c);
        s->icount += (u64)(c->run_budget - c->left);
        c->run_budget = c->left;
        if (trace->insn(c->vcpu->vm->trace_opaque, c->vcpu))
            return false;
        interp_set_rflags(c, s->rflags);
    }
    /* A virtual interrupt is pending and wanted: the monitor shall see to it (SDM 3B 21.3.2). */
    if ((s->rflags & (FLAG_VIF | FLAG_VIP)) == (FLAG_VIF | FLAG_VIP) && vcpu_virtual_interrupts(s))
        interp_fault(c, NULL, VEC_GP, 0);
    s->sti_shadow = s->mov_ss_shadow = false;
    s->rflags &= ~(u64)FLAG_RF;
    c->event_in_step = false;
    b = block_lookup(c);
    c->block = block_single(c, b);
    c->link_from = NULL;
    c->link_which = 0;
    /* With a budget of one, nothing chains. */
    c->step_rest = c->left - 1;
    c->run_budget -= c->step_rest;
    c->left = 1;
    c->block->cells[0].fn(s, c, c->block->cells);
    unpatch(c);
    end_step(c);
    c->cell = NULL;
    c->traced = false;
    c->link_from = NULL;
    interp_debug_collect(c);
    if (trap && single_steps(c, c->block->cells[0].op))
        s->pending_debug |= DR6_BS;
    debug_trap(c);
    return true;
}

/* A link needs no check of the mapping when both ends lie in one page, linear and physical. */
static bool linkable(const struct block *from, const struct block *to)
{
    return from->mode == to->mode && from->cs_base == to->cs_base && from->cs_limit == to->cs_limit &&
           from->page == to->page && to->page != BLOCK_NO_PAGE && !to->cut && from->page2 == BLOCK_NO_PAGE &&
           to->page2 == BLOCK_NO_PAGE &&
           (((from->cs_base + from->rip) ^ (to->cs_base + to->rip)) & PAGE_MASK) == 0;
}

/* #DB for an execute breakpoint at the next instruction: a fault, with RF as it is (SDM 3B 18.3.1.1). After MOV SS there is
   none. */
static bool code_breakpoint(struct interp *c)
{
    struct vcpu_state *s = c->state;
    u64 hit = s->rflags & FLAG_RF || s->mov_ss_shadow ? 0 : interp_debug_code(c);

    if (!hit)
        return false;
    interp_debug_registers(c, hit);
    interp_deliver(c, EVENT_TRAP, VEC_DB, 0);
    c->left--; /* as every fault */
    return true;
}

static enum engine_exit run_loop(struct interp *c)
{
    struct vcpu_state *s = c->state;
    jmp_buf unwind;

    if (setjmp(unwind)) {
        /* A handler raised; interp_fault has set s->rip and accounted for what was retired before it. The fault counts as
           one instruction itself: a guest whose handler faults again for ever uses up its budget, and its time goes on. */
        unpatch(c);
        interp_no_longer_alone(c);
        end_step(c);
        if (c->left > 0)
            c->left--;
        c->traced = false;
        c->cell = NULL;
        c->link_from = NULL;
        c->unwind = &unwind;
        if (c->fault.vector != FAULT_RETRY)
            interp_deliver(c, EVENT_EXCEPTION, c->fault.vector, c->fault.error);
    }
    c->unwind = &unwind;
    for (;;) {
        bool shadowed;
        struct block *b;

        /* Before all other reasons to come out: the end of the turn is part of what a deterministic machine does, and must
           not be put off to a run that a restored machine knows nothing of. */
        if (unlikely(c->yield)) {
            c->yield = false;
            return ENGINE_EXIT_YIELD;
        }
        if (unlikely(s->event_pending))
            finish_event(c);
        if (unlikely((vcpu_kicked(c->vcpu) & c->kick_mask) || s->nmi_pending || s->pending_debug)) {
            if (vcpu_kicked(c->vcpu) & KICK_REQUEST) {
                vcpu_give_way(c->vcpu);
                block_serve_mail(c);
            }
            interp_debug_collect(c);
            debug_trap(c);
            if (vcpu_kicked(c->vcpu) & KICK_EXIT)
                return ENGINE_EXIT_KICK;
            if (c->left > 0)
                service_events(c, s->sti_shadow || s->mov_ss_shadow);
            if (unlikely((s->pending_debug || c->debug.hits) && !s->mov_ss_shadow && c->left > 0))
                continue; /* the delivery itself has met a data breakpoint or a TSS with the T bit */
        }
        if (unlikely(s->activity != VCPU_RUNNING))
            return s->activity == VCPU_SHUTDOWN ? ENGINE_EXIT_SHUTDOWN : ENGINE_EXIT_HALT;
        if (c->left <= 0)
            return ENGINE_EXIT_BUDGET;
        shadowed = s->sti_shadow || s->mov_ss_shadow;
        if (unlikely(shadowed || (s->rflags & (FLAG_TF | FLAG_RF | FLAG_VIP)) || c->attention)) {
            if (c->attention & ATTENTION_BREAKPOINTS && code_breakpoint(c))
                continue;
            if (shadowed || (s->rflags & (FLAG_TF | FLAG_VIP)) || c->attention & ATTENTION_TRACE) {
                if (!step(c))
                    return ENGINE_EXIT_HOOK;
                continue;
            }
            s->rflags &= ~(u64)FLAG_RF;
        }
        b = block_lookup(c);
        if (c->link_from && linkable(c->link_from, b))
            c->link_from->link[c->link_which] = b;
        c->link_from = NULL;
        c->recent[c->recent_next++ % ARRAY_SIZE(c->recent)] = b->rip;
        if (unlikely(b->ncells > c->left)) {
            step(c);
            continue;
        }
        c->block = b;
        b->cells[0].fn(s, c, b->cells);
        unpatch(c);
        c->cell = NULL;
    }
}

static enum engine_exit interp_run(struct vcpu *vcpu, u64 max_insns)
{
    struct interp *c = vcpu_interp(vcpu);
    struct vcpu_state *s = &vcpu->state;
    enum engine_exit reason;

    c->run_budget = c->left = max_insns > INT64_MAX ? INT64_MAX : (i64)max_insns;
    c->cell = NULL;
    c->attention &= ~ATTENTION_TRACE;
    if (vcpu->vm->trace && vcpu->vm->trace->insn)
        c->attention |= ATTENTION_TRACE;
    interp_set_rflags(c, s->rflags);
    interp_mode_changed(c);
    interp_debug_changed(c);
    interp_fp_enter(c);
    reason = run_loop(c);
    interp_fp_leave(c);
    interp_debug_collect(c);
    s->rflags = interp_rflags(c);
    if (!vcpu_64bit(s))
        s->rip = (u32)s->rip; /* as block_lookup would have done it next */
    s->icount += (u64)(c->run_budget - c->left);
    c->run_budget = c->left = 0;
    return reason;
}

static u64 interp_retired(const struct vcpu *vcpu)
{
    const struct interp *c = vcpu_interp(vcpu);

    return (u64)(c->run_budget - c->left) + (c->cell ? (u64)(c->cell - c->block->cells) : 0);
}

/* ---- life ---- */

static void interp_state_changed(struct vcpu *vcpu)
{
    struct interp *c = vcpu_interp(vcpu);

    interp_tlb_flush(c);
    c->link_from = NULL;
    c->traced = false;
}

int interp_attach_tier(struct vcpu *vcpu, size_t size, const struct interp_tier *tier, struct error *err)
{
    struct interp *c = calloc(1, size);
    u32 id[4];

    if (!c)
        return error_set(err, "no memory on the host for the interpreter");
    c->vcpu = vcpu;
    c->tier = tier;
    c->state = &vcpu->state;
    c->memory = &vcpu->vm->memory;
    c->kick = &vcpu->kick;
    c->amd = vcpu->vm->config.cpu.amd;
    vcpu_cpuid(vcpu, 0x80000008, 0, id);
    c->phys_reserved = ((1ull << 52) - 1) & ~((1ull << (id[0] & 0xff)) - 1);
    /* PSE-36: bits 13 to 20 are address bits 32 to 39, as far as there are any (SDM 3A table 4-4). */
    c->pse_reserved = (1u << 22) - (1u << 13);
    if (cpu_model_has(&vcpu->vm->config.cpu, X86_FEATURE_PSE36))
        c->pse_reserved &= ~((1u << ((id[0] & 0xff) < 40 ? (id[0] & 0xff) - 19 : 21)) - 1);
    c->has_1g_pages = cpu_model_has(&vcpu->vm->config.cpu, X86_FEATURE_PDPE1GB);
    c->virt_bits = (u8)cpu_model_virt_bits(&vcpu->vm->config.cpu);
    c->x87_pointers = !cpu_model_has(&vcpu->vm->config.cpu, X86_FEATURE_FDP_EXCPTN_ONLY);
    c->x87_selectors = !cpu_model_has(&vcpu->vm->config.cpu, X86_FEATURE_ZERO_FCS_FDS);
    c->x87_error_pointers = !c->amd || cpu_model_has(&vcpu->vm->config.cpu, X86_FEATURE_XSAVEERPTR);
    if (interp_tlb_init(c, err)) {
        free(c);
        return -1;
    }
    c->blocks = block_cache_new(c, err);
    if (!c->blocks) {
        free(c->spaces);
        free(c);
        return -1;
    }
    interp_fp_init(c);
    c->rotate_keeps_of = flags_rotate_keeps_of();
    vcpu->engine_vcpu = c;
    return 0;
}

static int interp_attach(struct vcpu *vcpu, struct error *err)
{
    return interp_attach_tier(vcpu, sizeof(struct interp), NULL, err);
}

static void interp_detach(struct vcpu *vcpu)
{
    struct interp *c = vcpu_interp(vcpu);

    block_cache_free(c->blocks);
    vcpu->engine_vcpu = NULL;
    free(c->spaces);
    free(c);
}

static unsigned interp_recent(const struct vcpu *vcpu, u64 *rips, unsigned max)
{
    const struct interp *c = vcpu_interp(vcpu);
    unsigned have = c->recent_next < ARRAY_SIZE(c->recent) ? c->recent_next : ARRAY_SIZE(c->recent);
    unsigned n = have < max ? have : max;

    for (unsigned k = 0; k < n; k++)
        rips[k] = c->recent[(c->recent_next - n + k) % ARRAY_SIZE(c->recent)];
    return n;
}

static void interp_info(const struct vcpu *vcpu, void (*fact)(void *, const char *, u64), void *opaque)
{
    const struct interp *c = vcpu_interp(vcpu);

    fact(opaque, "blocks_built", c->counters.blocks_built);
    fact(opaque, "blocks_killed", c->counters.blocks_killed);
    fact(opaque, "block_lookups", c->counters.lookups);
    fact(opaque, "cache_flushes", c->counters.cache_flushes);
    fact(opaque, "tlb_misses", c->counters.tlb_misses);
    fact(opaque, "tlb_flushes", c->counters.tlb_flushes);
    fact(opaque, "tlb_switches", c->counters.tlb_switches);
}

const struct engine_ops interp_engine = {
    .name = "interp",
    .attach = interp_attach,
    .detach = interp_detach,
    .state_changed = interp_state_changed,
    .run = interp_run,
    .retired = interp_retired,
    .recent = interp_recent,
    .info = interp_info,
};
