/*
 * The engine's table, and the C side of translated code.
 */
#include "engine/jit/jit.h"

#include <asm/prctl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/interp/engine.h"
#include "engine/interp/mem.h"
#include "engine/jit/engine.h"

enum { DEFAULT_CACHE = 64 << 20, MIN_CACHE = 64 << 10, DEFAULT_THRESHOLD = 20 };

/* ---- TLB ---- */

static void forget_stack(struct jit_vcpu *j)
{
    memset(j->stack_limit, 0, sizeof(j->stack_limit));
}

static u64 empty_tag(size_t n)
{
    return ((n & (JIT_TLB_ENTRIES - 1)) ^ 1) << PAGE_SHIFT;
}

static void tlb_flushed(struct interp *c, unsigned rights)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned r = 0; r < JIT_TLB_SETS; r++)
        for (unsigned w = 0; w < 2 && rights >> r & 1; w++)
            for (size_t n = 0; n < JIT_TLB_ENTRIES; n++)
                j->tlb[r][w][n].tag = empty_tag(n);
    forget_stack(j);
}

static void tlb_page_flushed(struct interp *c, u64 lin)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned r = 0; r < JIT_TLB_SETS; r++)
        for (unsigned w = 0; w < 2; w++)
            jit_tlb_slot(j->tlb[r][w], lin)->tag = empty_tag(lin >> PAGE_SHIFT);
    forget_stack(j);
}

static void tlb_protected(struct interp *c, u64 host)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned r = 0; r < JIT_TLB_SETS; r++)
        for (unsigned n = 0; n < JIT_TLB_ENTRIES; n++)
            if (j->tlb[r][1][n].host == host)
                j->tlb[r][1][n].tag = empty_tag(n);
    if (j->stack_host == host)
        forget_stack(j);
}

/* ---- blocks ---- */

/* The software TLB in use has changed with the rights. */
static void rights_changed(struct jit_vcpu *j)
{
    unsigned n = (unsigned)((j->interp.tlb - j->interp.tlbs[0]) / TLB_ENTRIES);

    j->rights = j->interp.tlb;
    j->read = j->tlb[n][0];
    j->write = j->tlb[n][1];
    forget_stack(j);
}

static void enter(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct jit_vcpu *j = jit_of(c);

    if (j->rights != c->tlb)
        rights_changed(j);
    j->stats.enters++;
    TAIL((interp_fn *)(uintptr_t)j->code->stub.enter)(s, c, i);
}

static void count(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct block *b = c->block;

    struct jit_vcpu *j = jit_of(c);

    if (++b->tier_heat < j->threshold)
        TAIL b->first_fn(s, c, i);
    if (!jit_translate(j, b)) {
        if (!j->code->full) /* else it is translated when there is room again */
            b->cells[0].fn = b->first_fn;
        TAIL b->first_fn(s, c, i);
    }
    b->cells[0].fn = enter;
    TAIL enter(s, c, i);
}

/* In the place of the cell after one that translated code called: back to that code. */
static void call_returns(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    c->patched->fn = c->patched_fn;
    c->patched = NULL;
}

bool jit_call_handler(struct jit_vcpu *j, struct block *b, u64 n)
{
    struct interp *c = &j->interp;
    struct vcpu_state *s = c->state;
    struct cell *cell = &b->cells[n];

    j->stats.calls++;
    j->stats.calls_of[cell->op]++;
    c->block = b;
    c->patched = cell + 1;
    c->patched_fn = cell[1].fn;
    cell[1].fn = call_returns;
    (n ? cell->fn : b->first_fn)(s, c, cell);
    if (c->patched) { /* the handler left to the loop; what was patched is given back there */
        j->stats.exits[JIT_EXIT_HANDLER]++;
        return false;
    }
    if (!(__atomic_load_n(c->kick, __ATOMIC_RELAXED) & c->kick_mask))
        return true;
    j->stats.exits[JIT_EXIT_KICK]++;
    c->left -= (i64)n + 1;
    s->rip = cell_next_rip(c, cell);
    return false;
}

void jit_unlinked(struct jit_vcpu *j, struct block *b, u64 site_and_which)
{
    const struct block *to = b->link[site_and_which & 1];

    if (!to || !to->tier_code)
        return;
    j->stats.links++;
    jit_link(j->code, (u8 *)(uintptr_t)(site_and_which >> 1), to->tier_code);
}

/* The entry becomes a jump to the code before it, which leaves to the loop. */
static void block_killed(struct interp *c, struct block *b)
{
    static const u8 jump_back[2] = {0xeb, 0xee};

    if (b->tier_code)
        __atomic_store_n((u16 *)(void *)code_rw(jit_of(c)->code, b->tier_code), *(const u16 *)jump_back,
                         __ATOMIC_RELEASE);
}

static void blocks_dropped(struct interp *c)
{
    struct jit_vcpu *j = jit_of(c);

    j->stats.drops++;
    j->code->used = j->code->stubs_end;
    j->code->full = false;
}

static bool wants_drop(const struct interp *c)
{
    return ((const struct jit_vcpu *)c)->code->full;
}

static const struct interp_tier jit_tier = {
    .first = count,
    .block_killed = block_killed,
    .blocks_dropped = blocks_dropped,
    .wants_drop = wants_drop,
    .tlb_flushed = tlb_flushed,
    .tlb_page_flushed = tlb_page_flushed,
    .tlb_protected = tlb_protected,
};

/* ---- engine ---- */

static void code_cache_put(struct code_cache *code)
{
    perf_map_close(code->perf);
    free(code->forms);
    code_cache_free(code);
}

/* Each vCPU's part of what the VM may have; enough for the stubs and some blocks, whatever that is. */
static size_t code_cache_share(const struct vm *vm)
{
    u64 all = vm->config.jit_cache ? vm->config.jit_cache : DEFAULT_CACHE, share = all / vm->nvcpus;

    return align_up(share < MIN_CACHE ? MIN_CACHE : share, PAGE_SIZE);
}

static struct code_cache *code_cache_get(struct vcpu *vcpu, struct error *err)
{
    struct code_cache *code = code_cache_new(code_cache_share(vcpu->vm), err);

    if (!code)
        return NULL;
    code->forms = calloc(OP_COUNT, sizeof(*code->forms));
    if (!code->forms) {
        code_cache_free(code);
        error_set(err, "no memory on the host for the translator");
        return NULL;
    }
    jit_forms_init(code->forms);
    jit_make_stubs(code);
    if (vcpu->vm->config.jit_perf_map) {
        code->perf = perf_map_open(err);
        if (!code->perf) {
            code_cache_put(code);
            return NULL;
        }
        perf_map_stubs(code->perf, code);
    }
    return code;
}

static int jit_attach(struct vcpu *vcpu, struct error *err)
{
    struct code_cache *code = code_cache_get(vcpu, err);
    struct jit_vcpu *j;

    if (!code)
        return -1;
    if (interp_attach_tier(vcpu, sizeof(struct jit_vcpu), &jit_tier, err)) {
        code_cache_put(code);
        return -1;
    }
    j = jit_of(vcpu_interp(vcpu));
    j->self = j;
    j->code = code;
    j->threshold = vcpu->vm->config.jit_threshold ? vcpu->vm->config.jit_threshold : DEFAULT_THRESHOLD;
    tlb_flushed(&j->interp, UINT_MAX);
    return 0;
}

static void jit_detach(struct vcpu *vcpu)
{
    struct code_cache *code = jit_of(vcpu_interp(vcpu))->code;

    interp_engine.detach(vcpu);
    code_cache_put(code);
}

/* WRGSBASE where the kernel lets programs execute it (AT_HWCAP2, bit 1), else a system call. */
static void set_gs_base(const struct jit_vcpu *j)
{
    enum { HWCAP2_FSGSBASE = 1 << 1 };

    if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
        asm volatile("wrgsbase %0" : : "r"(j));
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, j);
}

static enum engine_exit jit_run(struct vcpu *vcpu, u64 max_insns)
{
    set_gs_base(jit_of(vcpu_interp(vcpu)));
    return interp_engine.run(vcpu, max_insns);
}

static void jit_state_changed(struct vcpu *vcpu)
{
    interp_engine.state_changed(vcpu);
}

static u64 jit_retired(const struct vcpu *vcpu)
{
    return interp_engine.retired(vcpu);
}

static unsigned jit_recent(const struct vcpu *vcpu, u64 *rips, unsigned max)
{
    return interp_engine.recent(vcpu, rips, max);
}

static void jit_info(const struct vcpu *vcpu, void (*fact)(void *, const char *, u64), void *opaque)
{
    interp_engine.info(vcpu, fact, opaque);
    jit_stats_tell(&jit_of(vcpu_interp(vcpu))->stats, fact, opaque);
}

const struct engine_ops jit_engine = {
    .name = "jit",
    .attach = jit_attach,
    .detach = jit_detach,
    .state_changed = jit_state_changed,
    .run = jit_run,
    .retired = jit_retired,
    .recent = jit_recent,
    .info = jit_info,
};
