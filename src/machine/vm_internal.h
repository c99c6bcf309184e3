/* What the files of machine/ share about a VM and nobody else needs. */
#ifndef MACHINE_VM_INTERNAL_H
#define MACHINE_VM_INTERNAL_H

#include "machine/vm.h"

/* Wake the thread inside vm_run when it sleeps because all vCPUs are idle. Any thread. */
void vm_wake(struct vm *vm);

/* Every vCPU's state was changed from outside: tell the engines. VM parked or not running. */
void vm_states_changed(struct vm *vm);

/* Move an icount clock to the instruction that the vCPU executes. vCPU's thread. */
void vcpu_sync_clock(struct vcpu *vcpu);

/* Detach and free every device, the last made first. */
void device_free_all(struct vm *vm);

#endif
