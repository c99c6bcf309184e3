/*
 * The other way to run a VM: each vCPU on a thread of its own, free-running.
 *
 * The machine thread, which is the one inside vm_run, drains the gate, fires timers and serves requests. The vCPUs' threads
 * run their engines, or sleep while their vCPU is idle. They are held (thread_is_held) while somebody wants them at an
 * instruction boundary: first that is made visible, then the threads are called, and a thread clears its KICK_EXIT before it
 * looks whether it is held; so none starts to execute unseen.
 */
#include <assert.h>
#include <sched.h>
#include <signal.h>

#include "machine/vm_internal.h"

/* How long a vCPU that waits for a store sleeps between two looks at the line: from the first figure, twice as long each
   time, up to the second. */
enum { STORE_LOOK_MIN_NS = 20000, STORE_LOOK_MAX_NS = 1000000 };

static bool thread_is_held(const struct vm *vm)
{
    const struct vm_private *p = vm->private;

    return !p->go || p->parkers || p->paused || __atomic_load_n(&vm->requests, __ATOMIC_SEQ_CST);
}

/* ---- The threads of the vCPUs ---- */

static void no_longer_active(struct vm_private *p)
{
    if (--p->active == 0)
        pthread_cond_broadcast(&p->changed);
}

/* A vCPU that does not run: sleep until that may have changed. true: it has, without any sleep. *look: how long to sleep while
   a line is watched. */
static bool sleep_idle(struct vm *vm, struct vcpu_thread *t, u64 *look)
{
    struct vm_private *p = vm->private;
    u64 deadline;
    bool idle;

    t->woken = false;
    __atomic_store_n(&t->sleeping, 1, __ATOMIC_SEQ_CST);
    p->active++;
    pthread_mutex_unlock(&p->lock);
    /* Inside, as it may look at guest memory. */
    vcpu_enter(t->vcpu);
    idle = !vm_runnable(t->vcpu);
    deadline = vcpu_wait_deadline_ns(t->vcpu);
    if (t->vcpu->state.activity == VCPU_WAITING && t->vcpu->state.wait & VCPU_WAIT_STORE) {
        u64 next = clock_now(&vm->clock) + *look;

        deadline = next < deadline ? next : deadline;
        *look = *look * 2 > STORE_LOOK_MAX_NS ? STORE_LOOK_MAX_NS : *look * 2;
    }
    vcpu_leave(t->vcpu);
    pthread_mutex_lock(&p->lock);
    no_longer_active(p);
    if (idle && !t->woken && !thread_is_held(vm) && !p->threads_quit)
        vm_wait_until(vm, &t->wake, deadline);
    __atomic_store_n(&t->sleeping, 0, __ATOMIC_SEQ_CST);
    return !idle && !thread_is_held(vm);
}

/* p->lock is held, but not while the engine runs. */
static void run_engine(struct vm *vm, struct vcpu *vcpu)
{
    struct vm_private *p = vm->private;
    enum engine_exit exit;

    p->active++;
    pthread_mutex_unlock(&p->lock);
    vcpu_enter(vcpu);
    if (vcpu->state.activity == VCPU_WAITING)
        vcpu_wait_end(vcpu);
    exit = vcpu->engine->run(vcpu, UINT64_MAX);
    vcpu_leave(vcpu);
    if (exit == ENGINE_EXIT_YIELD)
        sched_yield();
    pthread_mutex_lock(&p->lock);
    no_longer_active(p);
}

static void *thread_main(void *opaque)
{
    struct vcpu_thread *t = opaque;
    struct vcpu *vcpu = t->vcpu;
    struct vm *vm = vcpu->vm;
    struct vm_private *p = vm->private;
    u64 look = STORE_LOOK_MIN_NS;

    pthread_mutex_lock(&p->lock);
    while (!p->threads_quit) {
        vcpu_unkick(vcpu, KICK_EXIT);
        if (thread_is_held(vm)) {
            pthread_cond_wait(&t->wake, &p->lock);
        } else if (vcpu->state.activity == VCPU_SHUTDOWN) {
            __atomic_fetch_or(&vm->requests, VM_REQ_SHUTDOWN, __ATOMIC_SEQ_CST);
            __atomic_store_n(&p->attention, 1, __ATOMIC_SEQ_CST);
            pthread_cond_broadcast(&p->changed);
        } else if (vcpu->state.activity == VCPU_RUNNING || sleep_idle(vm, t, &look)) {
            look = STORE_LOOK_MIN_NS;
            run_engine(vm, vcpu);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

bool vm_on_vcpu_thread(const struct vm_private *p)
{
    for (unsigned i = 0; i < p->nthreads; i++)
        if (pthread_equal(p->threads[i].thread, pthread_self()))
            return true;
    return false;
}

void vm_wake_threads(struct vm_private *p)
{
    for (unsigned i = 0; i < p->nthreads; i++) {
        p->threads[i].woken = true;
        pthread_cond_signal(&p->threads[i].wake);
    }
}

void vm_call_threads(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        __atomic_fetch_or(&vm->vcpus[i]->kick, KICK_EXIT, __ATOMIC_SEQ_CST);
    vm_wake_threads(p);
    pthread_mutex_unlock(&p->lock);
}

/* They take no signals: those are the program's. */
static int start_threads(struct vm *vm)
{
    struct vm_private *p = vm->private;
    sigset_t all, before;
    int failed = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&p->lock);
    while (p->nthreads < vm->nvcpus && !failed) {
        struct vcpu_thread *t = &p->threads[p->nthreads];

        t->vcpu = vm->vcpus[p->nthreads];
        failed = pthread_create(&t->thread, NULL, thread_main, t);
        p->nthreads += !failed;
    }
    pthread_mutex_unlock(&p->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? error_set_errno(&vm->stop_error, failed, "cannot start a vCPU's thread") : 0;
}

void vm_end_threads(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    p->threads_quit = true;
    vm_wake_threads(p);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i].thread, NULL);
    p->nthreads = 0;
}

/* ---- The machine thread ---- */

static void let_go(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    if (!p->go) {
        p->go = true;
        vm_wake_threads(p);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Returns when all of them stand at an instruction boundary. */
static void hold(struct vm *vm)
{
    struct vm_private *p = vm->private;

    pthread_mutex_lock(&p->lock);
    p->go = false;
    pthread_mutex_unlock(&p->lock);
    vm_call_threads(vm);
    pthread_mutex_lock(&p->lock);
    while (p->active)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

/* Sleep until there is attention to give or a timer is due. A timer that is armed meanwhile sees when this one wakes. */
static void wait_for_attention(struct vm *vm)
{
    struct vm_private *p = vm->private;
    u64 deadline, soonest = clock_now(&vm->clock) + VM_ALARM_MIN_NS;

    vm_lock(vm);
    deadline = timer_queue_deadline(&vm->timers);
    pthread_mutex_lock(&p->lock);
    p->wake_ns = deadline < soonest ? soonest : deadline;
    __atomic_store_n(&p->machine_waits, 1, __ATOMIC_SEQ_CST);
    vm_unlock(vm);
    if (!__atomic_load_n(&p->attention, __ATOMIC_SEQ_CST))
        vm_wait_until(vm, &p->changed, p->wake_ns);
    __atomic_store_n(&p->machine_waits, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&p->lock);
}

enum vm_stop_reason vm_run_threads(struct vm *vm)
{
    enum vm_stop_reason reason = VM_STOP_NONE;

    if (start_threads(vm))
        return VM_STOP_ERROR;
    for (;;) {
        vm_serve_outside(vm);
        if (__atomic_load_n(&vm->requests, __ATOMIC_SEQ_CST)) {
            hold(vm);
            reason = vm_serve_requests(vm);
            if (reason != VM_STOP_NONE)
                return reason;
        }
        vm_wait_at_boundary(vm);
        if (!vm_may_use_threads(vm))
            break;
        if (__atomic_load_n(&vm->private->attention, __ATOMIC_SEQ_CST))
            continue;
        let_go(vm);
        wait_for_attention(vm);
    }
    hold(vm);
    return reason;
}
