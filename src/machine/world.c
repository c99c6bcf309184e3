#include "machine/world.h"

#include "machine/vm.h"

/* Looks, some tens of ns each, before a thread goes to sleep: others come out at the end of a block. */
enum { SPINS = 500 };

void world_init(struct world *world)
{
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->changed, NULL);
}

void world_free(struct world *world)
{
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->lock);
}

static u64 this_thread(void)
{
    return (u64)pthread_self();
}

static bool is_own(const struct vcpu *vcpu)
{
    return __atomic_load_n(&vcpu->inside, __ATOMIC_RELAXED) == this_thread();
}

/* The lock is held, as in all of these. */
static void come_in(struct world *world, struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->inside, this_thread(), __ATOMIC_RELAXED);
    __atomic_store_n(&world->inside, world->inside + 1, __ATOMIC_RELAXED);
}

static void go_out(struct world *world, struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->inside, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&world->inside, world->inside - 1, __ATOMIC_RELAXED);
    if (!world->inside && world->still)
        pthread_cond_broadcast(&world->changed);
}

/* Look for a while without the lock. */
static void spin(struct world *world, bool (*over)(const struct world *world))
{
    pthread_mutex_unlock(&world->lock);
    for (unsigned n = 0; n < SPINS && !over(world); n++)
        __builtin_ia32_pause();
    pthread_mutex_lock(&world->lock);
}

static bool nobody_is_alone(const struct world *world)
{
    return !__atomic_load_n(&world->still, __ATOMIC_RELAXED);
}
static bool nobody_is_inside(const struct world *world)
{
    return !__atomic_load_n(&world->inside, __ATOMIC_RELAXED);
}

static void wait_for(struct world *world, bool (*over)(const struct world *world))
{
    if (!over(world))
        spin(world, over);
    while (!over(world))
        pthread_cond_wait(&world->changed, &world->lock);
}

void vcpu_enter(struct vcpu *vcpu)
{
    struct world *world = &vcpu->vm->world;

    pthread_mutex_lock(&world->lock);
    wait_for(world, nobody_is_alone);
    come_in(world, vcpu);
    pthread_mutex_unlock(&world->lock);
}

void vcpu_leave(struct vcpu *vcpu)
{
    struct world *world = &vcpu->vm->world;

    if (!is_own(vcpu))
        return;
    pthread_mutex_lock(&world->lock);
    go_out(world, vcpu);
    pthread_mutex_unlock(&world->lock);
}

void vcpu_give_way(struct vcpu *vcpu)
{
    vcpu_unkick(vcpu, KICK_REQUEST);
    if (!is_own(vcpu))
        return;
    vcpu_leave(vcpu);
    vcpu_enter(vcpu);
}

void vcpu_lock(struct vcpu *vcpu)
{

    struct vm *vm = vcpu->vm;

    if (!is_own(vcpu)) {
        pthread_mutex_lock(&vm->device_lock);
        return;
    }
    if (pthread_mutex_trylock(&vm->device_lock)) {
        vcpu_leave(vcpu);
        pthread_mutex_lock(&vm->device_lock);
        vcpu_enter(vcpu);
    }
    /* What should have happened before this access has, however late the machine thread is. */
    timer_queue_run_due(&vm->timers);
}

void vcpu_unlock(struct vcpu *vcpu)
{
    pthread_mutex_unlock(&vcpu->vm->device_lock);
}

void vm_stand_still(struct vm *vm)
{
    struct world *world = &vm->world;
    struct vcpu *self = NULL;

    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (is_own(vm->vcpus[i]))
            self = vm->vcpus[i];
    pthread_mutex_lock(&world->lock);
    if (self)
        go_out(world, self);
    wait_for(world, nobody_is_alone);
    __atomic_store_n(&world->still, true, __ATOMIC_RELAXED);
    world->owner = self;
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (__atomic_load_n(&vm->vcpus[i]->inside, __ATOMIC_RELAXED))
            __atomic_fetch_or(&vm->vcpus[i]->kick, KICK_REQUEST, __ATOMIC_SEQ_CST);
    wait_for(world, nobody_is_inside);
    pthread_mutex_unlock(&world->lock);
}

void vm_go_on(struct vm *vm)
{
    struct world *world = &vm->world;

    pthread_mutex_lock(&world->lock);
    __atomic_store_n(&world->still, false, __ATOMIC_RELAXED);
    if (world->owner)
        come_in(world, world->owner);
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

bool vcpu_hold(struct vcpu *vcpu)
{
    if (is_own(vcpu))
        return true;
    pthread_mutex_lock(&vcpu->vm->world.lock);
    return !__atomic_load_n(&vcpu->inside, __ATOMIC_RELAXED);
}

void vcpu_release(struct vcpu *vcpu)
{
    if (!is_own(vcpu))
        pthread_mutex_unlock(&vcpu->vm->world.lock);
}
