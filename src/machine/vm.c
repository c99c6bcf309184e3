/*
 * The VM, and the loop that runs it in turn: all vCPUs on the machine thread, which is the one inside vm_run. threads.c has the
 * other way.
 *
 * Attention. Whoever wants something of that thread (a timer, the gate, a request, a park) first makes its wish visible,
 * then calls attention(): the flag is set and the engine that runs is kicked out. The loop clears the flag before it looks
 * for wishes and looks at the flag again after it has published which vCPU runs next; so no wish is missed, and none is
 * waited for with the engine running.
 *
 * Turns. A vCPU keeps its turn until it has retired VM_TURN_INSNS instructions, stops being runnable or yields. How often
 * the loop comes round meanwhile (that depends on the host) has no influence on that, so turns are the same in every run
 * of a deterministic machine.
 */
#define LOG_MODULE "machine/vm"
#include "machine/vm_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"

enum { VM_TURN_INSNS = 50000 };

/* ---- Attention ---- */

static void wake_sleeper(struct vm_private *p, const u32 *sleeping)
{
    if (__atomic_load_n(sleeping, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
    }
}

static void attention(struct vm *vm)
{
    struct vm_private *p = vm->private;
    struct vcpu *vcpu;

    __atomic_store_n(&p->attention, 1, __ATOMIC_SEQ_CST);
    vcpu = __atomic_load_n(&p->running, __ATOMIC_SEQ_CST);
    if (vcpu)
        __atomic_fetch_or(&vcpu->kick, KICK_EXIT, __ATOMIC_SEQ_CST);
    wake_sleeper(p, &p->sleeping);
    wake_sleeper(p, &p->machine_waits);
}

static void gate_wants_attention(void *opaque)
{
    attention(opaque);
}

void vm_wake(struct vcpu *vcpu)
{
    struct vm_private *p = vcpu->vm->private;
    struct vcpu_thread *t = &p->threads[vcpu->index];

    wake_sleeper(p, &p->sleeping);
    if (__atomic_load_n(&t->sleeping, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&p->lock);
        t->woken = true;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static struct timespec timespec_of(u64 ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

void vm_wait_until(struct vm *vm, pthread_cond_t *cond, u64 virtual_ns)
{
    u64 host = virtual_ns == UINT64_MAX ? UINT64_MAX : clock_host_deadline(&vm->clock, virtual_ns);

    if (host == UINT64_MAX) {
        pthread_cond_wait(cond, &vm->private->lock);
    } else {
        struct timespec until = timespec_of(host);

        pthread_cond_timedwait(cond, &vm->private->lock, &until);
    }
}

static void *alarm_main(void *opaque)
{
    struct vm *vm = opaque;
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    while (!p->alarm_quit) {
        if (p->alarm_ns != UINT64_MAX && clock_now(&vm->clock) >= p->alarm_ns) {
            p->alarm_ns = UINT64_MAX;
            pthread_mutex_unlock(&p->lock);
            attention(vm);
            pthread_mutex_lock(&p->lock);
        } else {
            vm_wait_until(vm, &p->alarm_changed, p->alarm_ns);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* The alarm's host time is another one now. p->lock held. */
static void start_clock(struct vm *vm)
{
    clock_start(&vm->clock);
    pthread_cond_signal(&vm->private->alarm_changed);
}

/* Make sure that the alarm goes off at `virtual_ns` at the latest. An earlier one may stay: it only costs a look. */
static void set_alarm(struct vm *vm, u64 virtual_ns)
{
    struct vm_private *p = vm->private;
    u64 soonest = clock_now(&vm->clock) + VM_ALARM_MIN_NS;

    if (virtual_ns < soonest)
        virtual_ns = soonest;
    pthread_mutex_lock(&p->lock);
    if (virtual_ns < p->alarm_ns) {
        p->alarm_ns = virtual_ns;
        pthread_cond_signal(&p->alarm_changed);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Device lock held. */
static void earliest_deadline_changed(void *opaque)
{
    struct vm *vm = opaque;
    struct vm_private *p = vm->private;
    u64 deadline = timer_queue_deadline(&vm->timers);

    if (__atomic_load_n(&p->machine_waits, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&p->lock);
        if (deadline < p->wake_ns)
            pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
    }
    if (!__atomic_load_n(&p->running, __ATOMIC_SEQ_CST))
        return; /* the loop looks before it runs the next vCPU */
    if (vm->clock.driver == CLOCK_HOST)
        set_alarm(vm, deadline);
    else if (deadline < p->run_end_ns)
        attention(vm);
}

/* ---- Making and ending ---- */

static int check_config(const struct vm_config *config, struct error *err)
{
    if (config->vcpus < 1 || config->vcpus > VM_MAX_VCPUS)
        return error_set(err, "%u CPUs: this machine has from 1 to %d", config->vcpus, VM_MAX_VCPUS);
    if (config->ram_size == 0 || config->ram_size % PAGE_SIZE)
        return error_set(err, "memory of %llu bytes: it must be more than 0 and a multiple of 4096",
                         (unsigned long long)config->ram_size);
    return 0;
}

static struct vm_private *private_new(void)
{
    struct vm_private *p = calloc(1, sizeof(*p));
    pthread_condattr_t monotonic;

    if (!p)
        return NULL;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, &monotonic);
    pthread_cond_init(&p->alarm_changed, &monotonic);
    for (unsigned i = 0; i < VM_MAX_VCPUS; i++)
        pthread_cond_init(&p->threads[i].wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    p->alarm_ns = UINT64_MAX;
    p->wake_ns = UINT64_MAX;
    return p;
}

static int add_vcpus(struct vm *vm, struct error *err)
{
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        struct vcpu *vcpu = aligned_alloc(64, align_up(sizeof(*vcpu), 64));

        if (!vcpu)
            return error_set(err, "out of memory");
        memset(vcpu, 0, sizeof(*vcpu));
        vcpu->vm = vm;
        vcpu->index = i;
        vcpu->intc_page = UINT64_MAX;
        vm->vcpus[vm->nvcpus++] = vcpu;
    }
    return 0;
}

static void stand_still(void *opaque)
{
    vm_stand_still(opaque);
}
static void go_on(void *opaque)
{
    vm_go_on(opaque);
}

struct vm *vm_new(const struct vm_config *config, struct error *err)
{
    struct vm *vm;
    u64 tsc_hz = config->tsc_hz;

    if (check_config(config, err))
        return NULL;
    vm = calloc(1, sizeof(*vm));
    if (vm)
        vm->private = private_new();
    if (!vm || !vm->private) {
        free(vm);
        error_set(err, "out of memory");
        return NULL;
    }
    if (tsc_hz == 0)
        tsc_hz = config->clock == CLOCK_HOST ? VM_TSC_HZ_HOST : VM_TSC_HZ_ICOUNT;
    vm->config = *config;
    vm->config.name = NULL;
    vm->config.tsc_hz = tsc_hz;
    vm->random_state = config->random_seed;
    vm->devices_last = &vm->devices;
    pthread_mutex_init(&vm->device_lock, NULL);
    world_init(&vm->world);
    clock_init(&vm->clock, config->clock, tsc_hz);
    timer_queue_init(&vm->timers, &vm->clock);
    vm->timers.earliest_changed = earliest_deadline_changed;
    vm->timers.opaque = vm;
    gate_init(&vm->gate, gate_wants_attention, vm);
    port_map_init(&vm->ports);
    if (memory_init(&vm->memory, err))
        goto fail;
    vm->memory.stand_still = stand_still;
    vm->memory.go_on = go_on;
    vm->memory.still_opaque = vm;
    vm->memory.track_page_tables = config->clock == CLOCK_ICOUNT;
    vm->config.name = strdup(config->name ? config->name : "vm");
    if (!vm->config.name) {
        error_set(err, "out of memory");
        goto fail;
    }
    if (!memory_add_block(&vm->memory, "ram", config->ram_size, false, err) || add_vcpus(vm, err))
        goto fail;
    return vm;
fail:
    vm_free(vm);
    return NULL;
}

static void stop_alarm(struct vm_private *p)
{
    if (!p->alarm_started)
        return;
    pthread_mutex_lock(&p->lock);
    p->alarm_quit = true;
    pthread_cond_signal(&p->alarm_changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->alarm_thread, NULL);
}

static void detach_engines(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];

        if (vcpu->engine)
            vcpu->engine->detach(vcpu);
        vcpu->engine = NULL;
    }
}

void vm_free(struct vm *vm)
{
    if (!vm)
        return;
    assert(!vm->private->inside);
    stop_alarm(vm->private);
    vm_end_threads(vm);
    detach_engines(vm);
    device_free_all(vm);
    if (vm->board_free)
        vm->board_free(vm);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        free(vm->vcpus[i]);
    gate_free(&vm->gate);
    port_map_free(&vm->ports);
    memory_free(&vm->memory);
    pthread_mutex_destroy(&vm->device_lock);
    world_free(&vm->world);
    for (unsigned i = 0; i < VM_MAX_VCPUS; i++)
        pthread_cond_destroy(&vm->private->threads[i].wake);
    pthread_cond_destroy(&vm->private->changed);
    pthread_cond_destroy(&vm->private->alarm_changed);
    pthread_mutex_destroy(&vm->private->lock);
    free(vm->private);
    free((char *)vm->config.name);
    free(vm);
}

int vm_set_engine(struct vm *vm, const struct engine_ops *engine, struct error *err)
{
    detach_engines(vm);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];

        if (engine->attach(vcpu, err)) {
            detach_engines(vm);
            return -1;
        }
        vcpu->engine = engine;
    }
    return 0;
}

void vm_states_changed(struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        if (vm->vcpus[i]->engine)
            vm->vcpus[i]->engine->state_changed(vm->vcpus[i]);
    }
}

int vm_reset(struct vm *vm, struct error *err)
{
    u64 tsc = clock_tsc(&vm->clock, clock_now(&vm->clock));
    int result = 0;

    vm_lock(vm);
    memset(vm->irqs.level, 0, sizeof(vm->irqs.level));
    memory_set_a20(&vm->memory, true);
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        struct vcpu *vcpu = vm->vcpus[i];

        /* Work that was left for the engine concerns memory, which is as it was. */
        __atomic_fetch_and(&vcpu->kick, KICK_REQUEST, __ATOMIC_SEQ_CST);
        vcpu_state_reset(&vcpu->state, i == 0, vm->config.cpu.signature);
        vcpu->state.tsc_offset = -tsc; /* the TSC starts at 0 (SDM 3B 17.17) */
    }
    for (struct device *device = vm->devices; device; device = device->next) {
        if (device->attached && device->class->reset)
            device->class->reset(device);
    }
    irq_router_sync(&vm->irqs);
    memory_commit(&vm->memory);
    vm->turn = 0;
    vm->turn_left = 0;
    vm->stop_reason = VM_STOP_NONE;
    if (vm->on_reset)
        result = vm->on_reset(vm, vm->on_reset_opaque, err);
    vm_unlock(vm);
    vm_states_changed(vm);
    return result;
}

/* ---- Requests ---- */

static void request(struct vm *vm, u32 what)
{
    __atomic_fetch_or(&vm->requests, what, __ATOMIC_SEQ_CST);
    attention(vm);
    vm_call_threads(vm);
}

void vm_request_reset(struct vm *vm)
{
    request(vm, VM_REQ_RESET);
}
void vm_request_poweroff(struct vm *vm)
{
    request(vm, VM_REQ_POWEROFF);
}
void vm_stop(struct vm *vm)
{
    request(vm, VM_REQ_STOP);
}

void vm_request_debug_exit(struct vm *vm, int code)
{
    vm->exit_code = code;
    request(vm, VM_REQ_DEBUG_EXIT);
}

static void tell(struct vm *vm, const char *event)
{
    if (vm->on_event)
        vm->on_event(vm, event, vm->on_event_opaque);
}

/* A stop that ends the guest for good. */
static enum vm_stop_reason end_with(struct vm *vm, enum vm_stop_reason reason)
{
    vm->stop_reason = reason;
    tell(vm, "SHUTDOWN");
    return reason;
}

static bool is_final(enum vm_stop_reason reason)
{
    switch (reason) {
    case VM_STOP_POWEROFF:
    case VM_STOP_RESET:
    case VM_STOP_CRASH:
    case VM_STOP_DEBUG_EXIT:
    case VM_STOP_ERROR: return true;
    case VM_STOP_NONE:
    case VM_STOP_REQUEST:
    case VM_STOP_BUDGET:
    case VM_STOP_HOOK: break;
    }
    return false;
}

static enum vm_stop_reason reset_and_go_on(struct vm *vm)
{
    vm->stop_error.text[0] = 0;
    if (vm_reset(vm, &vm->stop_error))
        return end_with(vm, VM_STOP_ERROR);
    tell(vm, "RESET");
    return VM_STOP_NONE;
}

static enum vm_stop_reason serve_shutdown(struct vm *vm, struct vcpu *vcpu)
{
    char *report;

    if (vm->config.no_reboot)
        return end_with(vm, VM_STOP_CRASH);
    report = vcpu_report(vcpu);
    log_warn("vCPU %u: triple fault; the machine resets", vcpu->index);
    for (char *rest = report, *line; (line = strsep(&rest, "\n"));) {
        if (*line)
            log_warn("%s", line);
    }
    free(report);
    return reset_and_go_on(vm);
}

enum vm_stop_reason vm_serve_requests(struct vm *vm)
{
    u32 requests = __atomic_exchange_n(&vm->requests, 0, __ATOMIC_SEQ_CST);

    if (requests & VM_REQ_DEBUG_EXIT)
        return end_with(vm, VM_STOP_DEBUG_EXIT);
    if (requests & VM_REQ_POWEROFF)
        return end_with(vm, VM_STOP_POWEROFF);
    if (requests & VM_REQ_RESET) {
        /* A stop that was asked for at the same time is served right after. */
        __atomic_fetch_or(&vm->requests, requests & VM_REQ_STOP, __ATOMIC_SEQ_CST);
        if (vm->config.no_reboot)
            return end_with(vm, VM_STOP_RESET);
        return reset_and_go_on(vm);
    }
    for (unsigned i = 0; requests & VM_REQ_SHUTDOWN && i < vm->nvcpus; i++) {
        if (vm->vcpus[i]->state.activity == VCPU_SHUTDOWN) {
            __atomic_fetch_or(&vm->requests, requests & VM_REQ_STOP, __ATOMIC_SEQ_CST);
            return serve_shutdown(vm, vm->vcpus[i]);
        }
    }
    return requests & VM_REQ_STOP ? VM_STOP_REQUEST : VM_STOP_NONE;
}

/* ---- Park and pause ---- */

static bool on_own_thread(struct vm_private *p)
{
    bool self;

    pthread_mutex_lock(&p->lock);
    self = (p->inside && pthread_equal(p->runner, pthread_self())) || vm_on_vcpu_thread(p);
    pthread_mutex_unlock(&p->lock);
    return self;
}

void vm_park(struct vm *vm)
{
    struct vm_private *p = vm->private;

    if (on_own_thread(p))
        return;
    pthread_mutex_lock(&p->lock);
    p->parkers++;
    pthread_mutex_unlock(&p->lock);
    attention(vm);
    vm_call_threads(vm);
    pthread_mutex_lock(&p->lock);
    while (p->inside && !(p->at_boundary && p->active == 0))
        pthread_cond_wait(&p->changed, &p->lock);
    clock_stop(&vm->clock);
    pthread_mutex_unlock(&p->lock);
}

void vm_unpark(struct vm *vm)
{
    struct vm_private *p = vm->private;

    if (on_own_thread(p))
        return;
    pthread_mutex_lock(&p->lock);
    assert(p->parkers);
    if (--p->parkers == 0 && p->inside && !p->paused)
        start_clock(vm);
    pthread_cond_broadcast(&p->changed);
    vm_wake_threads(p);
    pthread_mutex_unlock(&p->lock);
}

static void set_paused(struct vm *vm, bool paused)
{
    struct vm_private *p = vm->private;
    bool changed;

    vm_park(vm);
    pthread_mutex_lock(&p->lock);
    changed = p->paused != paused;
    p->paused = paused;
    pthread_mutex_unlock(&p->lock);
    vm_unpark(vm);
    if (changed)
        tell(vm, paused ? "STOP" : "RESUME");
}

void vm_pause(struct vm *vm)
{
    set_paused(vm, true);
}
void vm_resume(struct vm *vm)
{
    set_paused(vm, false);
}

bool vm_paused(const struct vm *vm)
{
    bool paused;

    pthread_mutex_lock(&vm->private->lock);
    paused = vm->private->paused;
    pthread_mutex_unlock(&vm->private->lock);
    return paused;
}

/* A request ends a pause, but not a park. */
void vm_wait_at_boundary(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    while (p->parkers || (p->paused && !__atomic_load_n(&vm->requests, __ATOMIC_SEQ_CST))) {
        p->at_boundary = true;
        __atomic_store_n(&p->sleeping, 1, __ATOMIC_SEQ_CST);
        pthread_cond_broadcast(&p->changed);
        if (p->parkers || !__atomic_load_n(&vm->requests, __ATOMIC_SEQ_CST))
            pthread_cond_wait(&p->changed, &p->lock);
    }
    __atomic_store_n(&p->sleeping, 0, __ATOMIC_SEQ_CST);
    p->at_boundary = false;
    pthread_mutex_unlock(&p->lock);
}

/* ---- The loop ---- */

bool vm_runnable(struct vcpu *vcpu)
{
    const struct vcpu_state *s = &vcpu->state;
    u32 kick = vcpu_kicked(vcpu);

    switch (s->activity) {
    case VCPU_RUNNING: return true;
    case VCPU_HALTED:
        return kick & (KICK_INIT | KICK_SMI) || (kick & KICK_INTERRUPT && s->rflags & FLAG_IF) ||
               ((kick & KICK_NMI || s->nmi_pending) && !s->nmi_masked);
    case VCPU_WAIT_SIPI: return kick & (KICK_INIT | KICK_SIPI);
    case VCPU_WAITING: return vcpu_wait_over(vcpu);
    default: return true; /* VCPU_SHUTDOWN, from a state that was put in from outside: run_vcpu ends it */
    }
}

/* The vCPU to run now, with its turn set; NULL: all are idle. */
static struct vcpu *pick(struct vm *vm)
{
    if (vm->turn_left && vm_runnable(vm->vcpus[vm->turn]))
        return vm->vcpus[vm->turn];
    for (unsigned i = 1; i <= vm->nvcpus; i++) {
        unsigned n = (vm->turn + i) % vm->nvcpus;

        if (vm_runnable(vm->vcpus[n])) {
            vm->turn = n;
            vm->turn_left = VM_TURN_INSNS;
            return vm->vcpus[n];
        }
    }
    return NULL;
}

/* All vCPUs are idle: warp a deterministic clock, or wait for the host's. */
static void idle(struct vm *vm)
{
    struct vm_private *p = vm->private;
    u64 deadline;

    vm_lock(vm);
    deadline = timer_queue_deadline(&vm->timers);
    vm_unlock(vm);
    for (unsigned n = 0; n < vm->nvcpus; n++) {
        u64 wait = vcpu_wait_deadline_ns(vm->vcpus[n]);

        if (wait < deadline)
            deadline = wait;
    }
    if (vm->clock.driver != CLOCK_HOST && deadline != UINT64_MAX) {
        u64 now = clock_now(&vm->clock);

        if (deadline > now)
            clock_advance(&vm->clock, deadline - now);
        return;
    }
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->sleeping, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&p->attention, __ATOMIC_SEQ_CST) && !pick(vm))
        vm_wait_until(vm, &p->changed, deadline);
    __atomic_store_n(&p->sleeping, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&p->lock);
}

/* How many instructions the vCPU may run before the loop must look again; 0: it must look now. Sets the alarm. */
static u64 budget_of(struct vm *vm, u64 limit)
{
    struct vm_private *p = vm->private;
    u64 deadline, now, insns;

    if (vm->nvcpus > 1 && limit > vm->turn_left)
        limit = vm->turn_left;
    vm_lock(vm);
    deadline = timer_queue_deadline(&vm->timers);
    vm_unlock(vm);
    if (vm->clock.driver == CLOCK_HOST) {
        if (deadline != UINT64_MAX)
            set_alarm(vm, deadline);
        return limit;
    }
    now = clock_now(&vm->clock);
    insns = deadline > now ? (deadline - now + CLOCK_NS_PER_INSN - 1) / CLOCK_NS_PER_INSN : 0;
    if (limit > insns)
        limit = insns;
    p->run_end_ns =
        limit > (UINT64_MAX - now) / CLOCK_NS_PER_INSN ? UINT64_MAX : now + limit * CLOCK_NS_PER_INSN;
    return limit;
}

void vcpu_sync_clock(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    u64 retired;

    if (vm->clock.driver == CLOCK_HOST || __atomic_load_n(&vm->private->running, __ATOMIC_RELAXED) != vcpu)
        return;
    retired = vcpu->engine->retired(vcpu);
    clock_advance(&vm->clock, (retired - vcpu->clocked_insns) * CLOCK_NS_PER_INSN);
    vcpu->clocked_insns = retired;
}

/* Run one vCPU for a while. *left is what vm_run may still retire. */
static enum vm_stop_reason run_vcpu(struct vm *vm, struct vcpu *vcpu, u64 *left)
{
    struct vm_private *p = vm->private;
    u64 budget, before = vcpu->state.icount, retired;
    enum engine_exit exit;

    if (vcpu->state.activity == VCPU_SHUTDOWN)
        return serve_shutdown(vm, vcpu);
    if (vcpu->state.activity == VCPU_WAITING)
        vcpu_wait_end(vcpu);
    __atomic_store_n(&p->running, vcpu, __ATOMIC_SEQ_CST);
    vcpu_unkick(vcpu, KICK_EXIT);
    budget = budget_of(vm, *left);
    if (__atomic_load_n(&p->attention, __ATOMIC_SEQ_CST) || budget == 0) {
        __atomic_store_n(&p->running, NULL, __ATOMIC_SEQ_CST);
        return VM_STOP_NONE;
    }
    vcpu->clocked_insns = 0;
    exit = vcpu->engine->run(vcpu, budget);
    __atomic_store_n(&p->running, NULL, __ATOMIC_SEQ_CST);
    retired = vcpu->state.icount - before;
    if (vm->clock.driver != CLOCK_HOST)
        clock_advance(&vm->clock, (retired - vcpu->clocked_insns) * CLOCK_NS_PER_INSN);
    vm->turn_left -= retired < vm->turn_left ? retired : vm->turn_left;
    *left -= retired < *left ? retired : *left;
    switch (exit) {
    case ENGINE_EXIT_SHUTDOWN: return serve_shutdown(vm, vcpu);
    case ENGINE_EXIT_HOOK: return VM_STOP_HOOK;
    case ENGINE_EXIT_YIELD: vm->turn_left = 0; break;
    case ENGINE_EXIT_BUDGET:
    case ENGINE_EXIT_KICK:
    case ENGINE_EXIT_HALT: break;
    }
    return VM_STOP_NONE;
}

void vm_serve_outside(struct vm *vm)
{
    __atomic_store_n(&vm->private->attention, 0, __ATOMIC_SEQ_CST);
    vm_lock(vm);
    gate_drain(&vm->gate);
    timer_queue_run(&vm->timers, clock_now(&vm->clock));
    vm_unlock(vm);
}

/* Observers see one thing after the other. */
bool vm_may_use_threads(const struct vm *vm)
{
    return vm->clock.driver == CLOCK_HOST && vm->nvcpus > 1 && !vm->trace;
}

static enum vm_stop_reason run_loop(struct vm *vm, u64 max_insns)
{
    bool bounded = max_insns != UINT64_MAX; /* for all vCPUs together */
    u64 left = max_insns;

    for (;;) {
        enum vm_stop_reason reason;
        struct vcpu *vcpu;

        if (!bounded && vm_may_use_threads(vm) && (reason = vm_run_threads(vm)) != VM_STOP_NONE)
            return reason;
        vm_serve_outside(vm);
        reason = vm_serve_requests(vm);
        if (reason == VM_STOP_NONE && left == 0)
            reason = VM_STOP_BUDGET;
        if (reason != VM_STOP_NONE)
            return reason;
        /* Here the machine is parked and saved: what the guest asked for so far was served. */
        vm_wait_at_boundary(vm);
        if (!bounded && vm_may_use_threads(vm))
            continue;
        if (__atomic_load_n(&vm->private->attention, __ATOMIC_SEQ_CST))
            continue;
        vcpu = pick(vm);
        if (!vcpu)
            idle(vm);
        else if ((reason = run_vcpu(vm, vcpu, &left)) != VM_STOP_NONE)
            return reason;
    }
}

static int enter(struct vm *vm)
{
    struct vm_private *p = vm->private;
    int result = 0;

    pthread_mutex_lock(&p->lock);
    assert(!p->inside);
    while (p->parkers)
        pthread_cond_wait(&p->changed, &p->lock);
    p->inside = true;
    p->runner = pthread_self();
    if (!p->paused)
        start_clock(vm);
    if (vm->clock.driver == CLOCK_HOST && !p->alarm_started) {
        int error = pthread_create(&p->alarm_thread, NULL, alarm_main, vm);

        if (error)
            result = error_set_errno(&vm->stop_error, error, "cannot start the timer thread");
        else
            p->alarm_started = true;
    }
    pthread_mutex_unlock(&p->lock);
    return result;
}

static void leave(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    clock_stop(&vm->clock);
    p->inside = false;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

enum vm_stop_reason vm_run(struct vm *vm, u64 max_insns)
{
    enum vm_stop_reason reason;

    if (is_final(vm->stop_reason))
        return vm->stop_reason;
    if (enter(vm)) {
        reason = VM_STOP_ERROR;
    } else if (!vm->vcpus[0]->engine) { /* looked at here, where nobody is changing it */
        reason = VM_STOP_ERROR;
        error_set(&vm->stop_error, "no engine was chosen");
    } else {
        reason = run_loop(vm, max_insns);
    }
    vm->stop_reason = reason;
    leave(vm);
    return reason;
}
