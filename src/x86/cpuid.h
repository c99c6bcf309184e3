/*
 * CPU models and what CPUID tells of them. A model is plain data and belongs to the VM: nothing here asks the host.
 */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include "base/error.h"
#include "base/types.h"
#include "x86/cpu_features.h"

enum { X86_PHYS_BITS = 40 };

struct cpu_model {
    const char *name;            /* "v2", "v3", "max": in a const table */
    bool amd;                    /* vendor AuthenticAMD; else GenuineIntel */
    u32 signature;               /* CPUID leaf 1 EAX: family, model, stepping; also in EDX after reset */
    bool has[X86_FEATURE_COUNT]; /* by enum x86_feature; [X86_FEATURE_NONE] is true */
};

static inline bool cpu_model_has(const struct cpu_model *model, enum x86_feature feature)
{
    return model->has[feature];
}

/*
 * Read the value of --cpu: a model's name, then features and the vendor, as in "v3,-smap,+monitor,vendor=AuthenticAMD".
 * -1 with `err`, which lists what there is, for an unknown name or a feature that nothing implements yet.
 */
MUST_CHECK int cpu_model_parse(const char *text, struct cpu_model *model, struct error *err);

/* What CPUID tells beyond the model: the machine, and the state of the vCPU that asks. */
struct cpuid_inputs {
    u32 apic_id;
    unsigned vcpus;    /* of the VM: one package, one thread a core */
    bool apic_enabled; /* IA32_APIC_BASE.EN */
    bool code64;       /* runs 64-bit code: Intel shows SYSCALL only there */
    u64 cr4, xcr0, xss;
    u64 tsc_hz;
    u64 apic_hz; /* clock of the local APIC's timer */
};

/* out: EAX, EBX, ECX, EDX. */
void cpuid_leaf(const struct cpu_model *model, const struct cpuid_inputs *inputs, u32 leaf, u32 subleaf,
                u32 out[4]);

/* The bits of a linear address: 57 for a model with LA57, whatever CR4 says. */
unsigned cpu_model_virt_bits(const struct cpu_model *model);

/* The bits that XCR0 may have on this model. */
u64 cpu_model_xcr0_mask(const struct cpu_model *model);

/* ---- XSAVE areas (SDM 1 13.4) ---- */

enum { XSAVE_LEGACY_SIZE = 576 }; /* the 512 bytes of FXSAVE, and the header */

/* The components after these, in the order of their bits. */
enum { XSAVE_YMM, XSAVE_PKRU, XSAVE_COMPONENTS };
struct xsave_component {
    u8 bit;       /* of XCR0, XSTATE_BV and XCOMP_BV */
    u8 feature;   /* enum x86_feature */
    bool align64; /* in the compacted format: begins at a multiple of 64 */
    u16 size;
    u16 offset; /* in the standard format */
};
extern const struct xsave_component xsave_components[XSAVE_COMPONENTS];

/* Where component `n` begins in an area that holds `components`. */
u32 xsave_offset(unsigned n, u64 components, bool compacted);

/* Bytes of an area with these components (bits of XCR0 and IA32_XSS). */
u32 xsave_area_size(u64 components, bool compacted);

#endif
