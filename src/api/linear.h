/* Guest memory by linear address, as a debugger sees it: no permission checks, no accessed bits, nothing changes. */
#ifndef API_LINEAR_H
#define API_LINEAR_H

#include "base/types.h"
#include "machine/vcpu.h"

/* The guest-physical address of a linear one under the paging that `vcpu` has now. false: not mapped. VM parked, or on the
   vCPU's thread. */
bool linear_translate(struct vcpu *vcpu, u64 linear, u64 *phys);

/* Copy up to `len` bytes at `linear`; returns how many could be read. */
size_t linear_read(struct vcpu *vcpu, u64 linear, void *to, size_t len);

#endif
