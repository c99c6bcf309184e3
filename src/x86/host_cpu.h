/* What the CPU that the program runs on has, by the names of the feature table. */
#ifndef X86_HOST_CPU_H
#define X86_HOST_CPU_H

#include "base/types.h"
#include "x86/cpu_features.h"

/* Whether the host's CPUID shows a feature; X86_FEATURE_NONE: yes. Says nothing of what the host's kernel has switched on. Slow
   inside a virtual machine, where CPUID is intercepted: ask once. */
bool host_cpu_has(enum x86_feature feature);

#endif
