/*
 * Which vCPUs are inside the machine, and standing still for one another (docs/decisions/0005).
 *
 * A vCPU that executes on a thread of its own is inside while its engine may touch guest memory, the memory map or what the
 * engine keeps for it: around engine->run, but not while it waits for the device lock or for another vCPU. So everything that
 * belongs to a vCPU which is not inside may be changed by who keeps it from coming in. There are two ways to do that:
 *
 * - vm_stand_still: nobody is inside until vm_go_on. For changes of the memory map and of permissions to store directly, and
 *   for locked accesses that no host instruction makes atomic;
 * - vcpu_hold: one vCPU does not come in, if it is not inside by chance; otherwise work for it is left with KICK_REQUEST.
 *
 * Order of locks: who waits for others to come out holds nothing but the device lock, and who stands alone takes no other but
 * leaf locks. vCPUs that take turns on one thread are never inside.
 */
#ifndef MACHINE_WORLD_H
#define MACHINE_WORLD_H

#include <pthread.h>

#include "base/types.h"

struct vm;
struct vcpu;

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside;    /* number of vCPUs */
    bool still;         /* somebody has the machine to itself, or waits until all are out: nobody comes in */
    struct vcpu *owner; /* ... this vCPU, on whose thread that is; NULL: some other thread */
};

void world_init(struct world *world);
void world_free(struct world *world);

/* Come in on the calling thread; waits while somebody has the machine to itself. */
void vcpu_enter(struct vcpu *vcpu);
/* Does nothing when it is not inside. */
void vcpu_leave(struct vcpu *vcpu);
/* For engines, at an instruction boundary, with KICK_REQUEST set: clears it, and lets others have what they wait for. The
   engine then looks for work that was left for it. */
void vcpu_give_way(struct vcpu *vcpu);

/* The device lock, on the vCPU's thread, in the middle of an instruction. Whoever holds it may make others stand still, so
   this goes out while it waits: what the memory map said before does not count after it. */
void vcpu_lock(struct vcpu *vcpu);
void vcpu_unlock(struct vcpu *vcpu);

/* Have the machine to oneself. On a vCPU's thread that counts as going out, see vcpu_lock. The device lock must not be taken
   before vm_go_on, but may be held. Does not nest. */
void vm_stand_still(struct vm *vm);
void vm_go_on(struct vm *vm);

/* true: the vCPU is not inside, or is the caller's own, so that its engine's things may be changed. false: it executes;
   leave word for it. Either way its engine's mailbox is guarded until vcpu_release. */
bool vcpu_hold(struct vcpu *vcpu);
void vcpu_release(struct vcpu *vcpu);

#endif
