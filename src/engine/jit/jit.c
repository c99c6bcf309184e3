/*
 * The engine's table, and the C side of translated code.
 */
#include "engine/jit/jit.h"

#include <asm/prctl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/interp/engine.h"
#include "engine/interp/flags.h"
#include "engine/interp/mem.h"
#include "engine/jit/emit.h"
#include "engine/jit/engine.h"

enum { DEFAULT_CACHE = 64 << 20, DEFAULT_THRESHOLD = 20 };

/* ---- TLB ---- */

static void entry_empty(struct jit_tlb *t, unsigned n)
{
    t->tag[n] = (u64)(n ^ 1) << PAGE_SHIFT;
}
static void stack_empty(struct jit_vcpu *j, struct jit_tlb *t)
{
    t->tag[JIT_TLB_STACK] = j->nowhere;
    t->delta[JIT_TLB_STACK] = (u64)(uintptr_t)j->nothing - j->nowhere;
}

static void tlb_flushed(struct interp *c, unsigned rights)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned r = 0; r < TLB_COUNT; r++)
        for (unsigned w = 0; w < 2 && rights >> r & 1; w++) {
            for (unsigned n = 0; n < JIT_TLB_ENTRIES; n++)
                entry_empty(&j->tlb[r][w], n);
            stack_empty(j, &j->tlb[r][w]);
        }
    memset(j->page_id[true], 0, sizeof(j->page_id[true]));
    if (rights >> TLB_SUPER & 1 || j->low_supervisor)
        memset(j->page_id[false], 0, sizeof(j->page_id[false]));
    j->low_supervisor = false;
}

static void tlb_page_flushed(struct interp *c, u64 lin)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned rights = 0; rights < TLB_COUNT; rights++)
        for (unsigned write = 0; write < 2; write++) {
            struct jit_tlb *t = &j->tlb[rights][write];

            entry_empty(t, jit_page_slot(lin));
            if (t->tag[JIT_TLB_STACK] == (lin & PAGE_MASK))
                stack_empty(j, t);
        }
    j->page_id[0][jit_code_slot(lin)] = j->page_id[1][jit_code_slot(lin)] = 0;
}

static void tlb_protected(struct interp *c, u64 host)
{
    struct jit_vcpu *j = jit_of(c);

    for (unsigned rights = 0; rights < TLB_COUNT; rights++) {
        struct jit_tlb *t = &j->tlb[rights][1];

        for (unsigned n = 0; n < JIT_TLB_ENTRIES; n++)
            if (t->tag[n] + t->delta[n] == host)
                entry_empty(t, n);
        if (t->tag[JIT_TLB_STACK] + t->delta[JIT_TLB_STACK] == host)
            stack_empty(j, t);
    }
}

/* A page of the upper half of what is not canonical with 48 nor with 57 bits. */
static u64 secret_page(void)
{
    u64 random;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = (u64)(uintptr_t)&random * 0x9e3779b97f4a7c15ull;
    return (1ull << 63 | random >> 2) & PAGE_MASK;
}

/* ---- blocks ---- */

static void note_target(struct jit_vcpu *j, const struct block *b)
{
    unsigned slot = jit_target_slot(b->rip);

    j->target_rip[b->tier_mode][slot] = b->rip;
    j->target_code[b->tier_mode][slot] = b->tier_code + j->code->layout.checked;
}

/* The block's pages are mapped where they were. */
static void note_pages(struct jit_vcpu *j, const struct block *b)
{
    bool user = b->mode & MODE_USER;

    for (unsigned n = 0; n < (b->page2 == BLOCK_NO_PAGE ? 1 : 2); n++) {
        u64 page = b->rip + n * PAGE_SIZE;

        j->page_id[user][jit_code_slot(page)] = b->tier_page[n];
        j->low_supervisor |= !user && !(page >> 63);
    }
}

/* The block is the one for its RIP and mode, by the loop or a link: remember what leads to its translation. */
static void enter(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct jit_vcpu *j = jit_of(c);
    const struct block *b = c->block;

    j->stats.enters++;
    note_pages(j, b);
    if (!b->cut)
        note_target(j, b);
    TAIL((interp_fn *)(uintptr_t)j->code->stub.enter)(s, c, i);
}

static bool mapped(struct interp *c, u64 lin, u64 page)
{
    return ((u64)(uintptr_t)interp_try_exec(c, lin) & PAGE_MASK) == page;
}

bool jit_check_page(struct jit_vcpu *j, const struct block *b)
{
    struct interp *c = &j->interp;

    /* The walk leaves marks in the page tables, so the block has to be what comes next. */
    if (__atomic_load_n(c->kick, __ATOMIC_RELAXED) & c->kick_mask || b->ncells > c->left)
        return false;
    if (!mapped(c, b->rip, b->page) ||
        (b->page2 != BLOCK_NO_PAGE && !mapped(c, (b->rip & PAGE_MASK) + PAGE_SIZE, b->page2)))
        return false;
    note_pages(j, b);
    return true;
}

/* The translation of a block for this RIP and mode, whatever page it was made from: where it is entered tells. */
static struct block *translated_at(struct jit_vcpu *j, u64 rip)
{
    struct block **at = &j->code->by_rip[jit_rip_hash(rip)], *b;

    while ((b = *at)) {
        if (!b->tier_code)
            *at = b->tier_next; /* it has died */
        else if (b->rip == rip && b->mode == j->interp.mode && !b->cut)
            return b;
        else
            at = &b->tier_next;
    }
    return NULL;
}

/* The block for this RIP, as far as the jump table or the TLB knows; others may be in other address spaces. */
static struct block *known_at(struct jit_vcpu *j, u32 mode, u64 rip)
{
    struct interp *c = &j->interp;
    const struct jump_entry *jump = jump_slot(c, rip);
    struct block *b;

    if (mode != c->mode)
        return NULL;
    if (jump->rip == rip && jump->generation == c->generation[rip >> 63] && jump->block->mode == mode)
        return jump->block;
    b = translated_at(j, rip);
    return b && ((u64)(uintptr_t)interp_known_exec(c, rip) & PAGE_MASK) == b->page ? b : NULL;
}

bool jit_find_target(struct jit_vcpu *j, u64 rip)
{
    const struct block *b = translated_at(j, rip);

    if (b)
        note_target(j, b);
    return b;
}

bool jit_walk(struct jit_vcpu *j, u64 lin, u64 size_and_flags)
{
    u64 size = size_and_flags & (JIT_WALK_WRITES - 1);

    /* Another page is none of this access's business yet, nor is a device's. */
    return !((lin ^ (lin + size - 1)) & PAGE_MASK) &&
           interp_try_access(&j->interp, lin, size_and_flags & JIT_WALK_WRITES);
}

/* Nothing is left to borrow. */
static void ask_back(struct jit_vcpu *j)
{
    const struct vm *vm = j->interp.vcpu->vm;

    for (unsigned n = 0; n < vm->nvcpus; n++) {
        struct code_cache *other = jit_of(vcpu_interp(vm->vcpus[n]))->code;

        if (other != j->code && __atomic_load_n(&other->borrowed, __ATOMIC_RELAXED) > other->pool->much)
            __atomic_store_n(&other->asked_back, true, __ATOMIC_RELAXED);
    }
}

static bool translate(struct jit_vcpu *j, struct block *b)
{
    bool done = false;

    if (code_has_room(j->code)) {
        done = jit_translate(j, b);
        code_account(j->code);
    } else {
        j->code->full = true;
        ask_back(j);
    }
    return done;
}

static void count(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct block *b = c->block;

    struct jit_vcpu *j = jit_of(c);

    if (++b->tier_heat < j->threshold)
        TAIL b->first_fn(s, c, i);
    if (!translate(j, b)) {
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

static const u8 *entry_of(const struct code_cache *code, const struct block *b, enum jit_entry entry)
{
    const struct jit_layout *l = &code->layout;

    switch (entry) {
    case ENTRY_FLAGS: return b->tier_flags ? b->tier_code + l->body + FLAGS_ENTRY : b->tier_cold + l->flags;
    case ENTRY_CHECKED: return b->tier_code + l->checked;
    case ENTRY_POLL: return b->tier_code + l->poll;
    case ENTRY_BODY: break;
    }
    return b->tier_code + l->body;
}

static void link_exit(struct code_cache *code, u8 *site, struct block *to, enum jit_entry entry)
{
    u8 *place = code_rw(code, site);
    struct jit_link *grown;
    i32 distance;

    if (code->nlinks >= code->max_links) {
        u32 max = code->max_links ? code->max_links * 2 : 1 << 12;

        grown = realloc(code->links, max * sizeof(*grown));
        if (!grown)
            return;
        code->links = grown;
        code->max_links = max;
    }
    memcpy(&distance, place, sizeof(distance));
    code->links[code->nlinks] = (struct jit_link){site, site + 4 + distance, to->tier_links};
    to->tier_links = code->nlinks++;
    e_target(&(struct emit){0}, place, code_rw(code, entry_of(code, to, entry)));
}

const void *jit_unlinked(struct jit_vcpu *j, struct block *b, u64 exit)
{
    struct interp *c = &j->interp;
    unsigned which = exit >> 2 & 1;
    enum jit_entry entry = exit & 3;
    const struct cell *last = &b->cells[b->ncells - 1];
    u64 rip = which ? b->rip + b->nbytes : (u64)last->disp;
    bool same_page = ((rip ^ b->rip) & PAGE_MASK) == 0;
    struct block *to = same_page ? b->link[which] : NULL;

    if (!to)
        to = known_at(j, b->mode, rip);
    if (to && same_page && to->page != b->page)
        to = NULL;
    if (to && to->tier_code && to->mode != BLOCK_DEAD) {
        j->stats.links++;
        link_exit(j->code, (u8 *)(uintptr_t)(exit >> 3), to, entry);
        return entry_of(j->code, to, entry == ENTRY_FLAGS ? ENTRY_BODY : entry);
    }
    to = b->mode == c->mode ? translated_at(j, rip) : NULL;
    if (to)
        return entry_of(j->code, to, ENTRY_CHECKED);
    j->stats.exits[JIT_EXIT_UNLINKED]++;
    c->state->rip = rip;
    c->block = b;
    c->link_from = same_page ? b : NULL;
    c->link_which = which;
    return NULL;
}

/* Nobody is executing the bytes that it overwrites. */
static void jump_over(struct code_cache *code, const u8 *entry, const u8 *to)
{
    struct emit e = {code_rw(code, entry), code_rw(code, entry) + FLAGS_ENTRY, false};

    e_target(&e, e_jmp(&e), code_rw(code, to));
}

/* Its entries become jumps to the code that leaves to the loop, and what was linked to it looks for another target. */
static void close_entries(struct code_cache *code, struct block *b)
{
    const struct jit_layout *l = &code->layout;
    const u8 *leave = b->tier_cold + l->leave, *leave_flags = b->tier_cold + l->leave_flags;

    jump_over(code, b->tier_code + l->checked, leave);
    jump_over(code, b->tier_code + l->poll, leave);
    jump_over(code, b->tier_code + l->body, leave);
    jump_over(code, entry_of(code, b, ENTRY_FLAGS), leave_flags);
    for (u32 n = b->tier_links; n; n = code->links[n].next)
        e_target(&(struct emit){0}, code_rw(code, code->links[n].site),
                 code_rw(code, code->links[n].unlinked));
    b->tier_links = 0;
    b->tier_code = NULL;
}

static void block_killed(struct interp *c, struct block *b)
{
    if (b->tier_code)
        close_entries(jit_of(c)->code, b);
}

/* A block that lives on is translated anew when it comes next. */
static void discard(struct jit_vcpu *j, struct block *b)
{
    if (!b->tier_code)
        return;
    close_entries(j->code, b);
    b->cells[0].fn = count;
}

void jit_missed(struct jit_vcpu *j, struct block *b)
{
    enum { TOO_OFTEN = 16 };

    if (!j->crossed || ++b->tier_crossed < TOO_OFTEN || b->mode == BLOCK_DEAD)
        return;
    b->tier_apart = true;
    discard(j, b);
}

static void forget_code(struct code_cache *code)
{
    code->used = code->stubs_end;
    code->cold_used = code->size / 2;
    code->full = false;
    code->nlinks = 1;
    code->nmodes = 0;
    code->npages = 0;
    memset(code->pages, 0, sizeof(code->pages));
    memset(code->by_rip, 0, sizeof(code->by_rip));
}

static void forget_targets(struct jit_vcpu *j)
{
    memset(j->target_rip, 0, sizeof(j->target_rip));
    for (unsigned n = 0; n < JIT_MODES; n++)
        j->target_rip[n][0] = 1; /* no such RIP is looked for there */
}

static void blocks_dropped(struct interp *c)
{
    struct jit_vcpu *j = jit_of(c);

    j->stats.drops++;
    forget_code(j->code);
    code_account(j->code);
    if (c->vcpu->vm->nvcpus > 1)
        code_give_memory_back(j->code);
    __atomic_store_n(&j->code->asked_back, false, __ATOMIC_RELAXED);
    forget_targets(j);
}

static bool wants_drop(const struct interp *c)
{
    const struct code_cache *code = ((const struct jit_vcpu *)c)->code;

    return code->full || __atomic_load_n(&code->asked_back, __ATOMIC_RELAXED);
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
    if (--code->pool->users == 0)
        free(code->pool);
    perf_map_close(code->perf);
    free(code->links);
    free(code->forms);
    code_cache_free(code);
}

/* The VM's, which those vCPUs know that have been attached before; or NULL. */
static struct code_pool *code_pool_get(const struct vm *vm)
{
    struct code_pool *pool;

    for (unsigned n = 0; n < vm->nvcpus; n++)
        if (vm->vcpus[n]->engine_vcpu)
            return jit_of(vcpu_interp(vm->vcpus[n]))->code->pool;
    pool = calloc(1, sizeof(*pool));
    if (pool)
        code_pool_init(pool, vm->config.jit_cache ? vm->config.jit_cache : DEFAULT_CACHE, vm->nvcpus);
    return pool;
}

static struct code_cache *code_cache_get(struct vcpu *vcpu, struct error *err)
{
    const struct cpu_model *limit = vcpu->vm->config.host_limit;
    struct code_pool *pool = code_pool_get(vcpu->vm);
    struct code_cache *code = pool ? code_cache_new(pool, err) : NULL;

    if (!pool)
        error_set(err, "no memory on the host for the translator");
    if (!code && pool && !pool->users)
        free(pool);
    if (!code)
        return NULL;
    pool->users++;
    code->forms = calloc(OP_COUNT, sizeof(*code->forms));
    if (!code->forms) {
        code_cache_put(code);
        error_set(err, "no memory on the host for the translator");
        return NULL;
    }
    jit_forms_init(code->forms, limit);
    code->bmi2 = __builtin_cpu_supports("bmi2") && (!limit || cpu_model_has(limit, X86_FEATURE_BMI2));
    code->shifts_write_all = flags_shifts_write_all();
    code->counts = vcpu->vm->config.clock == CLOCK_ICOUNT;
    jit_make_stubs(code);
    forget_code(code);
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
    j->nowhere = secret_page();
    tlb_flushed(&j->interp, UINT_MAX);
    forget_targets(j);
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

/* From the first run with a budget on, translations keep to it. */
static void count_from_now(struct interp *c)
{
    struct code_cache *code = jit_of(c)->code;

    code->counts = true;
    block_drop_all(c);
    jit_make_stubs(code);
}

static enum engine_exit jit_run(struct vcpu *vcpu, u64 max_insns)
{
    enum { BOUNDLESS_BITS = 62 }; /* what a machine without a budget asks for, less what it has run */
    struct interp *c = vcpu_interp(vcpu);

    if (max_insns >> BOUNDLESS_BITS == 0 && !jit_of(c)->code->counts)
        count_from_now(c);
    set_gs_base(jit_of(c));
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
