/*
 * Control words, environments and whole images of the FPU: FLDCW to FRSTOR, LDMXCSR, FXSAVE, and the XSAVE family.
 */
#include "engine/interp/ops_sse.h"
#include "x86/cpuid.h"

/* ---- memory images ---- */

/* Images are larger than what load_bytes and store_bytes take at a time. */
enum { IMAGE_CHUNK = 64 };

/* Images may wrap round at 4 GiB. */
static u64 image_linear(const struct interp *c, u64 lin, unsigned n)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? lin + n : (u32)(lin + n);
}
static void load_image(struct interp *c, const struct cell *i, u64 lin, u8 *to, unsigned size)
{
    for (unsigned n = 0; n < size; n += IMAGE_CHUNK)
        interp_load_bytes(c, i, image_linear(c, lin, n), to + n,
                          size - n < IMAGE_CHUNK ? size - n : IMAGE_CHUNK);
}
/* Faults before the first byte is stored. */
static void probe_image(struct interp *c, const struct cell *i, u64 lin, unsigned size)
{
    for (unsigned n = 0; n < size; n += IMAGE_CHUNK)
        interp_probe(c, i, image_linear(c, lin, n), size - n < IMAGE_CHUNK ? size - n : IMAGE_CHUNK,
                     MEM_WRITE);
}
static void store_image(struct interp *c, const struct cell *i, u64 lin, const u8 *from, unsigned size)
{
    probe_image(c, i, lin, size);
    for (unsigned n = 0; n < size; n += IMAGE_CHUNK)
        interp_store_bytes(c, i, image_linear(c, lin, n), from + n,
                           size - n < IMAGE_CHUNK ? size - n : IMAGE_CHUNK);
}

static void put(u8 *image, unsigned offset, u64 value, unsigned size)
{
    memcpy(image + offset, &value, size);
}
static u64 get(const u8 *image, unsigned offset, unsigned size)
{
    u64 value = 0;

    memcpy(&value, image + offset, size);
    return value;
}

/* ---- x87 control and status words ---- */

static void fwait(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if ((s->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        raise_nm(c, i);
    x87_check(s, c, i);
    NEXT;
}
static void nothing(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    NEXT;
}

static void set_fcw(struct interp *c, u16 fcw)
{
    c->state->x87.fcw = (fcw & FCW_WRITABLE) | FCW_ONE;
    x87_summarise(&c->state->x87);
    interp_fp_sync(c);
    interp_fp_load(c);
}
static void fldcw(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    x87_check(s, c, i);
    set_fcw(c, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));
    NEXT;
}
static void fnstcw(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), s->x87.fcw);
    NEXT;
}
static void fnstsw(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), s->x87.fsw);
    NEXT;
}
static void fnstsw_ax(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    *(u16 *)&s->gpr[RAX] = s->x87.fsw;
    NEXT;
}
/* After what may have cleared ES without looking whether an exception is pending: FERR# is deasserted then. */
static void error_cleared(struct interp *c, const struct cell *i, bool pending_before)
{
    if (pending_before && !(c->state->x87.fsw & FSW_ES))
        interp_x87_error_cleared(c, i);
}
/* Flags that the host has collected are the guest's only as long as the guest has not cleared them: set_fcw clears them. */
static void fnclex(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    bool pending = s->x87.fsw & FSW_ES;

    s->x87.fsw &= ~(FSW_FLAGS | FSW_SF | FSW_ES | FSW_B);
    set_fcw(c, s->x87.fcw);
    error_cleared(c, i, pending);
    NEXT;
}
static void init_x87(struct interp *c)
{
    struct x87_state *x87 = &c->state->x87;

    x87->fsw = x87->fop = x87->fcs = x87->fds = x87->tags = 0;
    x87->fip = x87->fdp = 0;
    set_fcw(c, FCW_INIT);
}
static void fninit(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    bool pending = s->x87.fsw & FSW_ES;

    init_x87(c);
    error_cleared(c, i, pending);
    NEXT;
}

/* ---- environments (SDM 1 figures 8-9 to 8-12) ---- */

enum { FTW_EMPTY = 3 };

/* The full tag of a register (SDM 1 8.1.7). */
static unsigned full_tag(const struct x87_state *x87, unsigned n)
{
    const struct x87_reg *r = &x87->reg[n];
    unsigned exponent = r->sign_exponent & 0x7fff;

    if (!(x87->tags >> n & 1))
        return FTW_EMPTY;
    if (!exponent && !r->mantissa)
        return 1;
    return exponent && exponent != 0x7fff && r->mantissa >> 63 ? 0 : 2;
}

static bool small_environment(const struct cell *i)
{
    return cell_operand_size(i) == 2;
}
static unsigned environment_size(const struct cell *i)
{
    return small_environment(i) ? 14 : 28;
}
/* The operand of `size` bytes that is or begins with an environment. */
static u64 environment_linear(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size,
                              enum mem_access access)
{
    u64 lin = interp_ea(s, c, i, size, access);

    interp_check_alignment(c, i, lin, small_environment(i) ? 2 : 4);
    return lin;
}

/* Where FCS and FDS are always zero (CPUID 7.EBX bit 13), the real-mode form holds FIP itself. */
static void make_environment(const struct interp *c, const struct cell *i, u8 *image)
{
    const struct x87_state *x87 = &c->state->x87;
    bool small = small_environment(i), real = c->mode & MODE_REAL;
    unsigned word = small ? 2 : 4;
    u16 ftw = 0;

    for (unsigned n = 0; n < 8; n++)
        ftw |= full_tag(x87, n) << 2 * n;
    memset(image, 0xff, environment_size(i));
    put(image, 0 * word, x87->fcw, 2);
    put(image, 1 * word, x87->fsw, 2);
    put(image, 2 * word, ftw, 2);
    if (real) {
        u64 fip = x87->fip + (x87->fcs << 4), fdp = x87->fdp + (x87->fds << 4);

        put(image, 3 * word, fip, 2);
        put(image, 4 * word, (fip >> 16 << 12 & (small ? 0xf000 : 0xffff000)) | x87->fop, word);
        put(image, 5 * word, fdp, 2);
        put(image, 6 * word, fdp >> 16 << 12 & (small ? 0xf000 : 0xffff000), word);
    } else {
        put(image, 3 * word, x87->fip, word);
        put(image, 4 * word, x87->fcs, 2);
        if (!small)
            put(image, 18, x87->fop, 2);
        put(image, 5 * word, x87->fdp, word);
        put(image, 6 * word, x87->fds, 2);
    }
}
static void load_environment(struct interp *c, const struct cell *i, const u8 *image)
{
    struct x87_state *x87 = &c->state->x87;
    bool small = small_environment(i), real = c->mode & MODE_REAL;
    unsigned word = small ? 2 : 4;
    u16 ftw = get(image, 2 * word, 2);

    x87->fsw = get(image, 1 * word, 2);
    x87->tags = 0;
    for (unsigned n = 0; n < 8; n++)
        if ((ftw >> 2 * n & 3) != FTW_EMPTY)
            x87->tags |= 1 << n;
    x87->fip = get(image, 3 * word, real ? 2 : word);
    x87->fdp = get(image, 5 * word, real ? 2 : word);
    if (real) {
        x87->fip |= get(image, 4 * word, word) >> 12 << 16;
        x87->fdp |= get(image, 6 * word, word) >> 12 << 16;
    }
    if (real || !small)
        x87->fop = get(image, real ? 4 * word : 18, 2) & 0x7ff;
    else
        x87->fop = 0;
    x87->fcs = real || !c->x87_selectors ? 0 : (u16)get(image, 4 * word, 2);
    x87->fds = real || !c->x87_selectors ? 0 : (u16)get(image, 6 * word, 2);
    set_fcw(c, get(image, 0, 2));
}

static void fnstenv(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        u8 image[28];
        u64 lin = environment_linear(s, c, i, environment_size(i), MEM_WRITE);
        bool pending = s->x87.fsw & FSW_ES;

        make_environment(c, i, image);
        store_image(c, i, lin, image, environment_size(i));
        set_fcw(c, s->x87.fcw | FCW_MASKS);
        error_cleared(c, i, pending);
    }
    NEXT;
}
static void fldenv(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        u8 image[28];

        x87_check(s, c, i);
        load_image(c, i, environment_linear(s, c, i, environment_size(i), MEM_READ), image,
                   environment_size(i));
        load_environment(c, i, image);
    }
    NEXT;
}
static void fnsave(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        unsigned size = environment_size(i), top = s->x87.fsw >> FSW_TOP_SHIFT & 7;
        u64 lin = environment_linear(s, c, i, size + 80, MEM_WRITE);
        bool pending = s->x87.fsw & FSW_ES;
        u8 image[28 + 80];

        make_environment(c, i, image);
        for (unsigned n = 0; n < 8; n++)
            memcpy(image + size + 10 * n, &s->x87.reg[(top + n) & 7], 10);
        store_image(c, i, lin, image, size + 80);
        init_x87(c);
        error_cleared(c, i, pending);
    }
    NEXT;
}
static void frstor(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        unsigned size = environment_size(i), top;
        u8 image[28 + 80];

        x87_check(s, c, i);
        load_image(c, i, environment_linear(s, c, i, size + 80, MEM_READ), image, size + 80);
        load_environment(c, i, image);
        top = s->x87.fsw >> FSW_TOP_SHIFT & 7;
        for (unsigned n = 0; n < 8; n++)
            memcpy(&s->x87.reg[(top + n) & 7], image + size + 10 * n, 10);
    }
    NEXT;
}

/* ---- MXCSR ---- */

static void check_mxcsr(struct interp *c, const struct cell *i, u32 mxcsr)
{
    if (mxcsr & ~MXCSR_WRITABLE)
        raise_gp(c, i, 0);
}
static void ldmxcsr(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u32 mxcsr = load32(c, i, interp_ea(s, c, i, 4, MEM_READ));

    check_mxcsr(c, i, mxcsr);
    s->mxcsr = mxcsr;
    interp_fp_load(c);
    NEXT;
}
static void stmxcsr(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    interp_fp_sync(c);
    store32(c, i, interp_ea(s, c, i, 4, MEM_WRITE), s->mxcsr);
    NEXT;
}

/* ---- the 512-byte image of FXSAVE, which XSAVE's legacy region is too (SDM 1 10.5.1) ---- */

enum {
    FX_SIZE = 512,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160,
    FX_XMM_END = 416,
};

/* AMD's CPUs without XSAVEERPTR save and restore the pointers only while an exception is pending (APM 2 11.4.4). */
static bool has_pointers(const struct vcpu_state *s, const struct interp *c)
{
    return c->x87_error_pointers || s->x87.fsw & FSW_ES;
}

/* Instructions with a W bit store 64-bit pointers, others 32-bit ones with selectors. */
static void put_x87(const struct vcpu_state *s, const struct interp *c, const struct cell *i, u8 *image)
{
    const struct x87_state *x87 = &s->x87;
    unsigned top = x87->fsw >> FSW_TOP_SHIFT & 7, pointer = cell_operand_size(i) == 8 ? 8 : 4;

    memset(image, 0, FX_MXCSR);
    memset(image + FX_ST, 0, FX_XMM - FX_ST);
    put(image, 0, x87->fcw, 2);
    put(image, 2, x87->fsw, 2);
    put(image, 4, x87->tags, 1);
    if (has_pointers(s, c)) {
        put(image, 6, x87->fop, 2);
        put(image, 8, x87->fip, pointer);
        put(image, 16, x87->fdp, pointer);
        if (pointer == 4) {
            put(image, 12, x87->fcs, 2);
            put(image, 20, x87->fds, 2);
        }
    }
    for (unsigned n = 0; n < 8; n++)
        memcpy(image + FX_ST + 16 * n, &x87->reg[(top + n) & 7], 10);
}
/* Leaves the control word for interp_fp_load. */
static void take_x87(struct vcpu_state *s, const struct interp *c, const struct cell *i, const u8 *image)
{
    struct x87_state *x87 = &s->x87;
    unsigned pointer = cell_operand_size(i) == 8 ? 8 : 4, top;

    x87->fcw = (get(image, 0, 2) & FCW_WRITABLE) | FCW_ONE;
    x87->fsw = get(image, 2, 2);
    x87_summarise(x87);
    x87->tags = get(image, 4, 1);
    if (has_pointers(s, c)) {
        bool selectors = pointer == 4 && c->x87_selectors;

        x87->fop = get(image, 6, 2) & 0x7ff;
        x87->fip = get(image, 8, pointer);
        x87->fdp = get(image, 16, pointer);
        x87->fcs = selectors ? (u16)get(image, 12, 2) : 0;
        x87->fds = selectors ? (u16)get(image, 20, 2) : 0;
    }
    top = x87->fsw >> FSW_TOP_SHIFT & 7;
    for (unsigned n = 0; n < 8; n++)
        memcpy(&x87->reg[(top + n) & 7], image + FX_ST + 16 * n, 10);
}
static void put_mxcsr(const struct vcpu_state *s, u8 *image)
{
    put(image, FX_MXCSR, s->mxcsr, 4);
    put(image, FX_MXCSR + 4, MXCSR_WRITABLE, 4);
}
static unsigned xmm_count(const struct interp *c)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 16 : 8;
}

static void put_xmm(const struct vcpu_state *s, const struct interp *c, u8 *image)
{
    for (unsigned n = 0; n < xmm_count(c); n++)
        memcpy(image + FX_XMM + 16 * n, s->vec[n], 16);
}
static void take_xmm(struct vcpu_state *s, const struct interp *c, const u8 *image)
{
    for (unsigned n = 0; n < xmm_count(c); n++)
        memcpy(s->vec[n], image + FX_XMM + 16 * n, 16);
}

static u64 aligned_image(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned size,
                         unsigned alignment, enum mem_access access)
{
    u64 lin;

    /* Of #AC and #GP, which the manual leaves open (SDM 3A 6.15, interrupt 17), Intel's CPUs raise #AC for addresses that are
       no multiple of 4, ahead of all but what a read of the first bytes raises. */
    if (unlikely(c->tlb == c->tlbs[TLB_CHECKED]))
        interp_check_alignment(c, i, interp_ea(s, c, i, 4, MEM_READ), 4);
    lin = interp_ea(s, c, i, size, access);
    if (lin & (alignment - 1))
        raise_gp(c, i, 0);
    return lin;
}

/* AMD's fast FXSAVE leaves the XMM registers out at CPL 0 in 64-bit mode (APM 2 3.1.7). */
static bool fxsave_has_xmm(const struct vcpu_state *s, const struct interp *c)
{
    return s->cr4 & CR4_OSFXSR && !(s->efer & EFER_FFXSR && !c->cpl && xmm_count(c) == 16);
}
static void fxsave_check(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (s->cr0 & (CR0_EM | CR0_TS))
        raise_nm(c, i);
}

/* The parts of the image are stored one by one: what is not written keeps its contents. */
static void fxsave(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        u8 image[FX_SIZE];
        u64 lin;

        fxsave_check(s, c, i);
        lin = aligned_image(s, c, i, FX_SIZE, 16, MEM_WRITE);
        interp_fp_sync(c);
        put_x87(s, c, i, image);
        put_mxcsr(s, image);
        probe_image(c, i, lin, FX_SIZE);
        if (fxsave_has_xmm(s, c)) {
            put_xmm(s, c, image);
            store_image(c, i, lin, image, FX_XMM + 16 * xmm_count(c));
        } else {
            store_image(c, i, lin, image, FX_XMM);
        }
    }
    NEXT;
}
static void fxrstor(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    {
        bool pending = s->x87.fsw & FSW_ES;
        u8 image[FX_SIZE];

        fxsave_check(s, c, i);
        load_image(c, i, aligned_image(s, c, i, FX_SIZE, 16, MEM_READ), image, FX_SIZE);
        if (s->cr4 & CR4_OSFXSR) {
            check_mxcsr(c, i, get(image, FX_MXCSR, 4));
            s->mxcsr = get(image, FX_MXCSR, 4);
        } else {
            interp_fp_sync(c);
        }
        if (fxsave_has_xmm(s, c))
            take_xmm(s, c, image);
        take_x87(s, c, i, image);
        interp_fp_load(c);
        error_cleared(c, i, pending);
    }
    NEXT;
}

/* ---- XSAVE (SDM 1 chapter 13) ---- */

enum {
    XSAVE_HEADER = 512,
    XSAVE_BV = 512,      /* XSTATE_BV */
    XSAVE_COMP_BV = 520, /* XCOMP_BV */
    XSAVE_MAX = 4096,    /* of the standard format; xsave_components[] end before */
};
#define XCOMP_COMPACT (1ull << 63)

/* What the components after the legacy region are made of. */
static const struct component_ops {
    bool (*in_use)(const struct vcpu_state *s, const struct interp *c);
    unsigned (*put)(const struct vcpu_state *s, const struct interp *c, u8 *at); /* bytes */
    void (*take)(struct vcpu_state *s, struct interp *c, const u8 *at);          /* NULL: initial */
} component_ops[XSAVE_COMPONENTS];

static bool all_zero(const u8 *p, unsigned size)
{
    while (size && !*p)
        p++, size--;
    return !size;
}

static bool ymm_in_use(const struct vcpu_state *s, const struct interp *c)
{
    for (unsigned n = 0; n < xmm_count(c); n++)
        if (!all_zero(s->vec[n] + 16, 16))
            return true;
    return false;
}
/* Outside 64-bit mode the place of the upper eight is left alone, as that of their lower halves is (SDM 1 13.5.3). */
static unsigned put_ymm(const struct vcpu_state *s, const struct interp *c, u8 *at)
{
    for (unsigned n = 0; n < xmm_count(c); n++)
        memcpy(at + 16 * n, s->vec[n] + 16, 16);
    return 16 * xmm_count(c);
}
static void take_ymm(struct vcpu_state *s, struct interp *c, const u8 *at)
{
    for (unsigned n = 0; n < xmm_count(c); n++) {
        if (at)
            memcpy(s->vec[n] + 16, at + 16 * n, 16);
        else
            memset(s->vec[n] + 16, 0, 16);
    }
}

static bool pkru_in_use(const struct vcpu_state *s, const struct interp *c)
{
    return s->pkru;
}
static unsigned put_pkru(const struct vcpu_state *s, const struct interp *c, u8 *at)
{
    put(at, 0, s->pkru, 8);
    return 8;
}
static void take_pkru(struct vcpu_state *s, struct interp *c, const u8 *at)
{
    interp_set_pkru(c, at ? (u32)get(at, 0, 4) : 0);
}

static const struct component_ops component_ops[XSAVE_COMPONENTS] = {
    [XSAVE_YMM] = {ymm_in_use, put_ymm, take_ymm},
    [XSAVE_PKRU] = {pkru_in_use, put_pkru, take_pkru},
};

static bool x87_in_use(const struct vcpu_state *s)
{
    const struct x87_state *x87 = &s->x87;

    if (x87->fcw != FCW_INIT || x87->fsw || x87->tags || x87->fop || x87->fip || x87->fdp || x87->fcs ||
        x87->fds)
        return true;
    for (unsigned n = 0; n < 8; n++)
        if (x87->reg[n].mantissa || x87->reg[n].sign_exponent)
            return true;
    return false;
}
static bool xmm_in_use(const struct vcpu_state *s, const struct interp *c)
{
    for (unsigned n = 0; n < xmm_count(c); n++)
        if (!all_zero(s->vec[n], 16))
            return true;
    return false;
}

static bool has_component(u64 features, unsigned n)
{
    return features >> xsave_components[n].bit & 1;
}

/* XINUSE: the components that are not in their initial state. Of SSE it means the registers (SDM 1 13.6). */
static u64 xsave_in_use(const struct vcpu_state *s, const struct interp *c)
{
    u64 in_use = (x87_in_use(s) ? XFEATURE_X87 : 0) | (xmm_in_use(s, c) ? XFEATURE_SSE : 0);

    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++)
        if (component_ops[n].in_use(s, c))
            in_use |= 1ull << xsave_components[n].bit;
    return in_use;
}
/* The same for the compacted format and XGETBV, where MXCSR counts. */
static u64 xsave_in_use_mxcsr(struct vcpu_state *s, struct interp *c)
{
    interp_fp_sync(c);
    return xsave_in_use(s, c) | (s->mxcsr != MXCSR_RESET ? XFEATURE_SSE : 0);
}

static const struct cpu_model *model(const struct interp *c)
{
    return &c->vcpu->vm->config.cpu;
}

static void xsave_check(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (!(s->cr4 & CR4_OSXSAVE))
        raise_ud(c, i);
    if (s->cr0 & CR0_TS)
        raise_nm(c, i);
}
static u64 requested_features(const struct vcpu_state *s, u64 enabled)
{
    return ((u64)(u32)s->gpr[RDX] << 32 | (u32)s->gpr[RAX]) & enabled;
}

enum xsave_kind {
    XSAVE_PLAIN,
    XSAVE_OPTIMISED = 1 << 0, /* components in their initial state are not stored */
    XSAVE_COMPACT = 1 << 1,
};

/* The parts of an area that an instruction stores; `from` is their place in the standard format. */
struct area_parts {
    unsigned count;
    struct {
        u32 at;
        u16 from, size;
    } part[5 + XSAVE_COMPONENTS];
};
static void add_part(struct area_parts *parts, u32 at, unsigned from, unsigned size)
{
    parts->part[parts->count].at = at;
    parts->part[parts->count].from = (u16)from;
    parts->part[parts->count++].size = (u16)size;
}

/* CPUs look whether all of what is asked for could be stored, initial or not. The legacy region goes as a whole. */
static bool legacy_region(u64 features, bool compact)
{
    return features & (XFEATURE_X87 | XFEATURE_SSE) || (!compact && features & XFEATURE_AVX);
}
static void probe_area(struct interp *c, const struct cell *i, u64 lin, u64 features, bool compact)
{
    if (legacy_region(features, compact))
        probe_image(c, i, lin, XSAVE_HEADER);
    probe_image(c, i, image_linear(c, lin, XSAVE_HEADER), 64);
    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++)
        if (has_component(features, n))
            probe_image(c, i, image_linear(c, lin, xsave_offset(n, features, compact)),
                        xsave_components[n].size);
}

static void xsave_to(struct vcpu_state *s, struct interp *c, const struct cell *i, u64 enabled, unsigned kind)
{
    bool compact = kind & XSAVE_COMPACT;
    u64 features = requested_features(s, enabled), in_use, store, lin;
    struct area_parts parts = {0};
    u8 image[XSAVE_MAX];

    lin = aligned_image(s, c, i, xsave_area_size(features, compact), 64, MEM_WRITE);
    in_use = compact ? xsave_in_use_mxcsr(s, c) : xsave_in_use(s, c);
    store = kind & XSAVE_OPTIMISED ? features & in_use : features;

    if (store & XFEATURE_X87) {
        put_x87(s, c, i, image);
        add_part(&parts, 0, 0, FX_MXCSR);
        add_part(&parts, FX_ST, FX_ST, FX_XMM - FX_ST);
    }
    /* In the standard format MXCSR goes with SSE and AVX, whether these are in use or not (SDM 1 13.7 and 13.9). */
    if (compact ? store & XFEATURE_SSE : features & (XFEATURE_SSE | XFEATURE_AVX)) {
        interp_fp_sync(c);
        put_mxcsr(s, image);
        add_part(&parts, FX_MXCSR, FX_MXCSR, 8);
    }
    if (store & XFEATURE_SSE) {
        put_xmm(s, c, image);
        add_part(&parts, FX_XMM, FX_XMM, 16 * xmm_count(c));
    }
    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++) {
        unsigned offset = xsave_components[n].offset;

        if (has_component(store, n))
            add_part(&parts, xsave_offset(n, features, compact), offset,
                     component_ops[n].put(s, c, image + offset));
    }
    add_part(&parts, XSAVE_HEADER, XSAVE_HEADER, compact ? 16 : 8);
    probe_area(c, i, lin, features, compact);
    if (compact) {
        put(image, XSAVE_BV, store, 8);
        put(image, XSAVE_COMP_BV, features | XCOMP_COMPACT, 8);
    } else {
        u64 bv = load64(c, i, image_linear(c, lin, XSAVE_BV));

        put(image, XSAVE_BV, (bv & ~features) | (in_use & features), 8);
    }
    for (unsigned n = 0; n < parts.count; n++)
        store_image(c, i, image_linear(c, lin, parts.part[n].at), image + parts.part[n].from,
                    parts.part[n].size);
}

static void xrstor_from(struct vcpu_state *s, struct interp *c, const struct cell *i, u64 enabled,
                        bool supervisor)
{
    u64 features = requested_features(s, enabled), lin, bv, xcomp_bv;
    u8 image[XSAVE_MAX];
    bool compact, mxcsr, bad, pending = s->x87.fsw & FSW_ES;

    lin = aligned_image(s, c, i, XSAVE_LEGACY_SIZE, 64, MEM_READ);
    load_image(c, i, image_linear(c, lin, XSAVE_HEADER), image + XSAVE_HEADER, 64);
    bv = get(image, XSAVE_BV, 8);
    xcomp_bv = get(image, XSAVE_COMP_BV, 8);
    compact = xcomp_bv & XCOMP_COMPACT;
    /* The legacy region is loaded before the rest of the header is looked at. */
    if (compact && (!cpu_model_has(model(c), X86_FEATURE_XSAVEC) || xcomp_bv & ~(enabled | XCOMP_COMPACT)))
        raise_gp(c, i, 0);
    if (legacy_region(compact ? features & xcomp_bv : features, compact))
        load_image(c, i, lin, image, XSAVE_HEADER);
    if (compact) {
        if (bv & ~(xcomp_bv & ~XCOMP_COMPACT) || !all_zero(image + XSAVE_HEADER + 16, 64 - 16))
            raise_gp(c, i, 0);
    } else if (supervisor || bv & ~enabled || !all_zero(image + XSAVE_COMP_BV, 16)) {
        raise_gp(c, i, 0);
    }
    /* In the standard format MXCSR is loaded from memory whatever XSTATE_BV says (SDM 1 13.8.1). */
    mxcsr = compact ? features & bv & XFEATURE_SSE : features & (XFEATURE_SSE | XFEATURE_AVX);
    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++) {
        const struct xsave_component *component = &xsave_components[n];
        u32 at = xsave_offset(n, xcomp_bv, compact);

        if (!has_component(features & bv, n))
            continue;
        aligned_image(s, c, i, at + component->size, 64, MEM_READ);
        load_image(c, i, image_linear(c, lin, at), image + component->offset, component->size);
    }

    /* A reserved bit in it is found before anything is loaded, but in the compacted format after x87 and SSE were. */
    bad = mxcsr && get(image, FX_MXCSR, 4) & ~MXCSR_WRITABLE;
    if (bad && !compact)
        raise_gp(c, i, 0);
    interp_fp_sync(c);
    if (mxcsr && !bad)
        s->mxcsr = get(image, FX_MXCSR, 4);
    else if (!mxcsr && features & XFEATURE_SSE)
        s->mxcsr = MXCSR_RESET;
    if (features & XFEATURE_X87) {
        if (bv & XFEATURE_X87) {
            take_x87(s, c, i, image);
        } else {
            memset(&s->x87, 0, sizeof(s->x87));
            s->x87.fcw = FCW_INIT;
        }
    }
    if (features & XFEATURE_SSE) {
        if (!(bv & XFEATURE_SSE))
            memset(image + FX_XMM, 0, FX_XMM_END - FX_XMM);
        take_xmm(s, c, image);
    }
    for (unsigned n = 0; n < XSAVE_COMPONENTS; n++)
        if (has_component(features, n) && !(bad && has_component(bv, n)))
            component_ops[n].take(s, c, has_component(bv, n) ? image + xsave_components[n].offset : NULL);
    interp_fp_load(c);
    error_cleared(c, i, pending);
    if (bad)
        raise_gp(c, i, 0);
}

#define XSAVE_HANDLER(name, kind)                                                                            \
    static void name(struct vcpu_state *s, struct interp *c, const struct cell *i)                           \
    {                                                                                                        \
        xsave_check(s, c, i);                                                                                \
        xsave_to(s, c, i, s->xcr0, kind);                                                                    \
        NEXT;                                                                                                \
    }
XSAVE_HANDLER(xsave, XSAVE_PLAIN)
XSAVE_HANDLER(xsaveopt, XSAVE_OPTIMISED)
XSAVE_HANDLER(xsavec, XSAVE_OPTIMISED | XSAVE_COMPACT)
static void xsaves(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xsave_check(s, c, i);
    if (c->cpl)
        raise_gp(c, i, 0);
    xsave_to(s, c, i, s->xcr0 | s->xss, XSAVE_OPTIMISED | XSAVE_COMPACT);
    NEXT;
}
static void xrstor(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xsave_check(s, c, i);
    xrstor_from(s, c, i, s->xcr0, false);
    NEXT;
}
static void xrstors(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xsave_check(s, c, i);
    if (c->cpl)
        raise_gp(c, i, 0);
    xrstor_from(s, c, i, s->xcr0 | s->xss, true);
    NEXT;
}

/* ECX 0: XCR0; 1: which of its components are in use. */
static void xgetbv(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 value;

    if (!(s->cr4 & CR4_OSXSAVE))
        raise_ud(c, i);
    switch ((u32)s->gpr[RCX]) {
    case 0: value = s->xcr0; break;
    case 1:
        if (!cpu_model_has(model(c), X86_FEATURE_XGETBV1))
            raise_gp(c, i, 0);
        value = s->xcr0 & xsave_in_use_mxcsr(s, c);
        break;
    default: raise_gp(c, i, 0);
    }
    s->gpr[RAX] = (u32)value;
    s->gpr[RDX] = value >> 32;
    NEXT;
}
static void xsetbv(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 value = (u64)(u32)s->gpr[RDX] << 32 | (u32)s->gpr[RAX];

    if (!(s->cr4 & CR4_OSXSAVE))
        raise_ud(c, i);
    if (c->cpl || (u32)s->gpr[RCX])
        raise_gp(c, i, 0);
    if (value & ~cpu_model_xcr0_mask(model(c)) || !(value & XFEATURE_X87) ||
        (value & XFEATURE_AVX && !(value & XFEATURE_SSE)))
        raise_gp(c, i, 0);
    s->xcr0 = value;
    interp_mode_changed(c);
    END_LOOP_NEXT;
}

/* clang-format off */
const struct interp_row interp_fpstate_rows[] = {
    ROW_R(FWAIT, fwait)
    ROW_R(FENI8087_NOP, nothing)
    ROW_R(FDISI8087_NOP, nothing)
    ROW_R(FSETPM287_NOP, nothing)
    ROW_R(FNCLEX, fnclex)
    ROW_R(FNINIT, fninit)
    ROW_M(FLDCW_Mw, fldcw)
    ROW_M(FNSTCW_Mw, fnstcw)
    ROW_M(FNSTSW_Mw, fnstsw)
    ROW_R(FNSTSW_AX, fnstsw_ax)
    ROW_M(FLDENV_M, fldenv)
    ROW_M(FNSTENV_M, fnstenv)
    ROW_M(FRSTOR_M, frstor)
    ROW_M(FNSAVE_M, fnsave)
    ROW_M(LDMXCSR_Md, ldmxcsr)
    ROW_M(STMXCSR_Md, stmxcsr)
    ROW_M(VLDMXCSR_Md, ldmxcsr)
    ROW_M(VSTMXCSR_Md, stmxcsr)
    ROW_M(FXSAVE_M, fxsave)
    ROW_M(FXRSTOR_M, fxrstor)
    ROW_M(XSAVE_M, xsave)
    ROW_M(XSAVEOPT_M, xsaveopt)
    ROW_M(XSAVEC_M, xsavec)
    ROW_M(XSAVES_M, xsaves)
    ROW_M(XRSTOR_M, xrstor)
    ROW_M(XRSTORS_M, xrstors)
    ROW_R(XGETBV, xgetbv)
    ROW_R(XSETBV, xsetbv)
    ROW_LAST,
};
