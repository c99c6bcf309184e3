/*
 * Instructions of the system: ports, flags with privileges, control and debug registers, descriptor tables, MSRs, time,
 * fast system calls, TLB and cache control, CPUID, random numbers.
 */
#include "engine/interp/debug.h"
#include "engine/interp/fault.h"
#include "engine/interp/ops.h"
#include "engine/interp/segment.h"
#include "engine/interp/system.h"
#include "x86/cpuid.h"

static void need_cpl0(struct interp *c, const struct cell *i)
{
    if (c->cpl)
        raise_gp(c, i, 0);
}

static bool offers(const struct interp *c, unsigned feature)
{
    return cpu_model_has(&c->vcpu->vm->config.cpu, feature);
}

static unsigned iopl(const struct vcpu_state *s)
{
    return s->rflags >> 12 & 3;
}

/* ---- ports ---- */

void interp_check_port(struct interp *c, const struct cell *i, u32 port, unsigned size)
{
    const struct vcpu_state *s = c->state;
    const struct seg *tr = &s->seg[SEG_TR];
    u32 map, mask;

    if (!(s->cr0 & CR0_PE) || (!(s->rflags & FLAG_VM) && c->cpl <= iopl(s)))
        return;
    if ((tr->attr & 0xd) != 9 || tr->limit < 0x67)
        raise_gp(c, i, 0);
    map = (u32)interp_load_system(c, i, tr->base + 0x66, 2) + port / 8;
    if (map + 1 > tr->limit)
        raise_gp(c, i, 0);
    mask = (u32)interp_load_system(c, i, tr->base + map, 2) >> (port & 7);
    if (mask & ((1u << size) - 1))
        raise_gp(c, i, 0);
}

static void port_in(struct vcpu_state *s, struct interp *c, const struct cell *i, u32 port, unsigned size)
{
    u32 value;

    c->cell = i;
    interp_check_port(c, i, port, size);
    value = vcpu_port_read(c->vcpu, port, size);
    interp_debug_port(c, i, port, size);
    if (size == 1)
        set8(s, 0, (u8)value);
    else
        set_sized(s, RAX, size, value);
}

static void port_out(struct vcpu_state *s, struct interp *c, const struct cell *i, u32 port, unsigned size)
{
    c->cell = i;
    interp_check_port(c, i, port, size);
    vcpu_port_write(c->vcpu, port, size, size == 4 ? get32(s, RAX) : size == 2 ? get16(s, RAX) : get8(s, 0));
    interp_debug_port(c, i, port, size);
}

static unsigned port_size(const struct cell *i)
{
    return cell_operand_size(i) == 2 ? 2 : 4;
}

/* END_LOOP_NEXT: the device may have asked for anything. */
#define DEFINE_PORT(name, direction, port, size)                                                             \
    HANDLER(name)                                                                                            \
    {                                                                                                        \
        port_##direction(s, c, i, port, size);                                                               \
        END_LOOP_NEXT;                                                                                       \
    }
DEFINE_PORT(in_al_im, in, (u8)i->imm, 1)
DEFINE_PORT(in_ax_im, in, (u8)i->imm, port_size(i))
DEFINE_PORT(in_al_dx, in, get16(s, RDX), 1)
DEFINE_PORT(in_ax_dx, in, get16(s, RDX), port_size(i))
DEFINE_PORT(out_im_al, out, (u8)i->imm, 1)
DEFINE_PORT(out_im_ax, out, (u8)i->imm, port_size(i))
DEFINE_PORT(out_dx_al, out, get16(s, RDX), 1)
DEFINE_PORT(out_dx_ax, out, get16(s, RDX), port_size(i))

/* ---- flags ---- */

/*
 * What CLI and STI change: IF where IOPL permits; else, at CPL 3, VIF with virtual interrupts on (CR4.VME in virtual-8086 mode,
 * CR4.PVI elsewhere; SDM 3B 21.3.2, 21.4); else #GP(0).
 */
static u32 interrupt_flag(struct interp *c, const struct cell *i)
{
    const struct vcpu_state *s = c->state;

    if (!vcpu_protected(s) || c->cpl <= iopl(s))
        return FLAG_IF;
    if (!vcpu_virtual_interrupts(s))
        raise_gp(c, i, 0);
    return FLAG_VIF;
}

HANDLER(cli)
{
    s->rflags &= ~(u64)interrupt_flag(c, i);
    if (!(s->rflags & FLAG_IF))
        c->kick_mask = ~(u32)KICK_INTERRUPT;
    NEXT;
}

HANDLER(sti)
{
    u32 flag = interrupt_flag(c, i);

    if (flag == FLAG_VIF) {
        if (s->rflags & FLAG_VIP)
            raise_gp(c, i, 0);
    } else {
        c->kick_mask = ~0u;
        /* The next instruction is executed before anybody looks, if it is part of this block. */
        if (i + 1 < c->block->cells + c->block->ncells && !vcpu_kicked(c->vcpu)) {
            s->rflags |= flag;
            NEXT;
        }
        if (!(s->rflags & FLAG_IF))
            s->sti_shadow = true;
    }
    s->rflags |= flag;
    END_LEAVE;
}

bool interp_virtual_if(struct interp *c, const struct cell *i, unsigned size)
{
    const struct vcpu_state *s = c->state;

    if (!(s->rflags & FLAG_VM) || iopl(s) == 3)
        return false;
    if (!(s->cr4 & CR4_VME) || size != 2)
        raise_gp(c, i, 0);
    return true;
}

u64 interp_virtual_flags(struct interp *c, const struct cell *i, u64 image)
{
    const u64 mask = FLAGS_ARITH | FLAG_DF | FLAG_NT;
    u64 old = interp_rflags(c);

    if ((image & FLAG_TF) || ((image & FLAG_IF) && (old & FLAG_VIP)))
        raise_gp(c, i, 0);
    return (old & ~(mask | FLAG_TF | FLAG_VIF)) | (image & mask) | (image & FLAG_IF ? FLAG_VIF : 0);
}

u64 interp_virtual_image(const struct interp *c)
{
    u64 flags = interp_rflags(c);

    return (flags & ~(u64)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
}

HANDLER(pushf)
{
    unsigned size = cell_operand_size(i);

    if (interp_virtual_if(c, i, size))
        push(s, c, i, size, interp_virtual_image(c));
    else
        push(s, c, i, size, interp_rflags(c) & ~(u64)(FLAG_VM | FLAG_RF));
    NEXT;
}

HANDLER(popf)
{
    unsigned size = cell_operand_size(i);
    u64 old = interp_rflags(c), mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT, image;

    if (interp_virtual_if(c, i, size)) {
        struct stack st = interp_stack(c);

        interp_set_rflags(c, interp_virtual_flags(c, i, stack_pop(c, i, &st, size)));
        s->gpr[RSP] = st.sp;
        END_LOOP_NEXT;
    }
    if (size > 2)
        mask |= FLAG_AC | FLAG_ID;
    if (c->cpl <= iopl(s) || (s->rflags & FLAG_VM))
        mask |= FLAG_IF;
    if (c->cpl == 0)
        mask |= FLAG_IOPL;
    image = pop(s, c, i, size);
    if (size > 2)
        old &= ~(u64)FLAG_RF;
    interp_set_rflags(c, (old & ~mask) | (image & mask));
    END_LOOP_NEXT;
}

HANDLER(clac)
{
    if (c->cpl)
        raise_ud(c, i);
    s->rflags &= ~(u64)FLAG_AC;
    c->tlb = c->tlbs[TLB_SUPER];
    c->mode &= ~(u32)MODE_AC;
    s->rip = cell_next_rip(c, i);
    END_INDIRECT; /* by the jump table, which looks at the mode */
}
HANDLER(stac)
{
    if (c->cpl)
        raise_ud(c, i);
    s->rflags |= FLAG_AC;
    c->tlb = c->tlbs[TLB_SUPER_AC];
    c->mode |= MODE_AC;
    s->rip = cell_next_rip(c, i);
    END_INDIRECT;
}

HANDLER(hlt)
{
    need_cpl0(c, i);
    s->activity = VCPU_HALTED;
    END_LOOP_NEXT;
}

/* ---- control registers (SDM 3A 2.5) ---- */

void interp_read_pdptrs(struct interp *c, const struct cell *i, u64 cr3, u32 error, u64 entries[4])
{
    u64 reserved = c->phys_reserved | 0xfff00000000001e6ull;

    for (unsigned n = 0; n < 4; n++) {
        entries[n] = memory_read(c->memory, ((cr3 & 0xffffffe0u) + n * 8) & c->memory->a20_mask, 8);
        if ((entries[n] & 1) && (entries[n] & reserved))
            raise_gp(c, i, error);
    }
}

static void load_pdptrs(struct interp *c, const struct cell *i, u64 cr3)
{
    u64 entries[4];

    interp_read_pdptrs(c, i, cr3, 0, entries);
    memcpy(c->state->pdptr, entries, sizeof(entries));
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static void write_cr0(struct interp *c, const struct cell *i, u64 value)
{
    struct vcpu_state *s = c->state;
    u64 old = s->cr0, efer = s->efer;

    if (value >> 32)
        raise_gp(c, i, 0);
    value = (value & 0xe005003f) | CR0_ET;
    if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
        raise_gp(c, i, 0);
    if ((value & CR0_PG) && !(old & CR0_PG) && (efer & EFER_LME)) {
        if (!(s->cr4 & CR4_PAE) || (s->seg[SEG_CS].attr & SEG_L))
            raise_gp(c, i, 0);
        efer |= EFER_LMA;
    } else if (!(value & CR0_PG) && (old & CR0_PG)) {
        if (s->cr4 & CR4_PCIDE || vcpu_64bit(s))
            raise_gp(c, i, 0);
        efer &= ~(u64)EFER_LMA;
    }
    if (pae_paging(value, s->cr4, efer) && ((value ^ old) & (CR0_PG | CR0_CD | CR0_NW)))
        load_pdptrs(c, i, s->cr3);
    s->cr0 = value;
    s->efer = efer;
    if ((value ^ old) & (CR0_PG | CR0_WP | CR0_PE))
        interp_tlb_flush(c);
}

static void write_cr3(struct interp *c, const struct cell *i, u64 value)
{
    struct vcpu_state *s = c->state;

    bool keep = s->cr4 & CR4_PCIDE && value >> 63;

    if (s->cr4 & CR4_PCIDE)
        value &= ~(1ull << 63);
    if (s->efer & EFER_LMA) {
        if (value & (c->phys_reserved | 0xfff0000000000000ull))
            raise_gp(c, i, 0);
    } else if (pae_paging(s->cr0, s->cr4, s->efer)) {
        load_pdptrs(c, i, value);
    }
    s->cr3 = value;
    interp_tlb_cr3(c, keep);
}

/* The bits of CR4 that go with what the CPU offers. */
static u64 cr4_offered(const struct interp *c)
{
    static const struct {
        u16 feature;
        u32 bits;
    } rows[] = {
        {X86_FEATURE_VME, CR4_VME | CR4_PVI},
        {X86_FEATURE_TSC, CR4_TSD},
        {X86_FEATURE_DE, CR4_DE},
        {X86_FEATURE_PSE, CR4_PSE},
        {X86_FEATURE_PAE, CR4_PAE},
        {X86_FEATURE_MCE, CR4_MCE},
        {X86_FEATURE_PGE, CR4_PGE},
        {X86_FEATURE_FXSR, CR4_OSFXSR},
        {X86_FEATURE_SSE, CR4_OSXMMEXCPT},
        {X86_FEATURE_UMIP, CR4_UMIP},
        {X86_FEATURE_LA57, CR4_LA57},
        {X86_FEATURE_FSGSBASE, CR4_FSGSBASE},
        {X86_FEATURE_PCID, CR4_PCIDE},
        {X86_FEATURE_XSAVE, CR4_OSXSAVE},
        {X86_FEATURE_SMEP, CR4_SMEP},
        {X86_FEATURE_SMAP, CR4_SMAP},
        {X86_FEATURE_PKU, CR4_PKE},
        {X86_FEATURE_PKS, CR4_PKS},
    };
    u64 bits = CR4_PCE;

    for (size_t n = 0; n < ARRAY_SIZE(rows); n++)
        if (offers(c, rows[n].feature))
            bits |= rows[n].bits;
    return bits;
}

static void write_cr4(struct interp *c, const struct cell *i, u64 value)
{
    struct vcpu_state *s = c->state;
    u64 changed = value ^ s->cr4;

    if (value & ~cr4_offered(c))
        raise_gp(c, i, 0);
    if ((s->efer & EFER_LMA) && (!(value & CR4_PAE) || (changed & CR4_LA57)))
        raise_gp(c, i, 0);
    if ((changed & value & CR4_PCIDE) && (!(s->efer & EFER_LMA) || (s->cr3 & 0xfff)))
        raise_gp(c, i, 0);
    if (pae_paging(s->cr0, value, s->efer) && (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)))
        load_pdptrs(c, i, s->cr3);
    s->cr4 = value;
    interp_debug_changed(c);
    if (changed &
        (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_LA57 | CR4_PKE | CR4_PKS))
        interp_tlb_flush(c);
}

HANDLER(mov_from_cr)
{
    u64 value;

    need_cpl0(c, i);
    c->cell = i;
    switch (i->reg) {
    case 0: value = s->cr0; break;
    case 2: value = s->cr2; break;
    case 3: value = s->cr3; break;
    case 4: value = s->cr4; break;
    case 8: value = c->vcpu->intc ? c->vcpu->intc->get_tpr(c->vcpu->intc_opaque) : s->cr8; break;
    default: raise_ud(c, i);
    }
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        set64(s, i->rm, value);
    else
        set32(s, i->rm, (u32)value);
    NEXT;
}

HANDLER(mov_to_cr)
{
    u64 value = (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? s->gpr[i->rm] : (u32)s->gpr[i->rm];

    need_cpl0(c, i);
    c->cell = i;
    switch (i->reg) {
    case 0: write_cr0(c, i, value); break;
    case 2: s->cr2 = value; break;
    case 3: write_cr3(c, i, value); break;
    case 4: write_cr4(c, i, value); break;
    case 8:
        if (value & ~0xfull)
            raise_gp(c, i, 0);
        s->cr8 = value;
        if (c->vcpu->intc)
            c->vcpu->intc->set_tpr(c->vcpu->intc_opaque, (u8)value);
        break;
    default: raise_ud(c, i);
    }
    interp_mode_changed(c);
    END_LOOP_NEXT;
}

static void smsw(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (c->cpl && (s->cr4 & CR4_UMIP))
        raise_gp(c, i, 0);
}
HANDLER(smsw_er)
{
    smsw(s, c, i);
    set_sized(s, i->rm, cell_operand_size(i), s->cr0);
    NEXT;
}
HANDLER(smsw_em)
{
    smsw(s, c, i);
    store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), (u16)s->cr0);
    NEXT;
}
static void lmsw(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 value)
{
    need_cpl0(c, i);
    write_cr0(c, i, (s->cr0 & ~0xeull) | (value & 0xf)); /* PE can be set and not cleared */
    interp_mode_changed(c);
}
HANDLER(lmsw_er)
{
    lmsw(s, c, i, get16(s, i->rm));
    END_LOOP_NEXT;
}
HANDLER(lmsw_em)
{
    need_cpl0(c, i);
    lmsw(s, c, i, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));
    END_LOOP_NEXT;
}
HANDLER(clts)
{
    need_cpl0(c, i);
    s->cr0 &= ~(u64)CR0_TS;
    interp_mode_changed(c);
    END_LOOP_NEXT;
}

/* ---- debug registers (SDM 3B 18.2) ---- */

static unsigned debug_register(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    unsigned n = i->reg;

    if (n > 7 || ((n == 4 || n == 5) && (s->cr4 & CR4_DE)))
        raise_ud(c, i);
    if (n == 4 || n == 5)
        n += 2;
    need_cpl0(c, i);
    if (s->dr[7] & DR7_GD) {
        interp_debug_registers(c, DR6_BD);
        interp_fault(c, i, VEC_DB, 0);
    }
    return n;
}
HANDLER(mov_from_dr)
{
    unsigned n = debug_register(s, c, i);

    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        set64(s, i->rm, s->dr[n]);
    else
        set32(s, i->rm, (u32)s->dr[n]);
    NEXT;
}
HANDLER(mov_to_dr)
{
    unsigned n = debug_register(s, c, i);
    u64 value = (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? s->gpr[i->rm] : (u32)s->gpr[i->rm];

    if (n >= 6 && value >> 32)
        raise_gp(c, i, 0);
    if (n == 6)
        value = (value & DR6_TRAPS) | DR6_ONES;
    else if (n == 7)
        value = (value & DR7_WRITABLE) | DR7_ONES;
    s->dr[n] = value;
    if (n != 6)
        interp_debug_changed(c);
    END_LOOP_NEXT;
}

/* ---- descriptor tables and their selectors ---- */

static void store_table(struct vcpu_state *s, struct interp *c, const struct cell *i,
                        const struct desc_table *t)
{
    bool code64 = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    u64 lin;
    u8 image[10];

    if (c->cpl && (s->cr4 & CR4_UMIP))
        raise_gp(c, i, 0);
    lin = interp_ea(s, c, i, code64 ? 10 : 6, MEM_WRITE);
    interp_check_alignment(c, i, lin, 4);
    memcpy(image, &t->limit, 2);
    memcpy(image + 2, &t->base, 8);
    interp_store_bytes(c, i, lin, image, code64 ? 10 : 6);
}
HANDLER(sgdt)
{
    store_table(s, c, i, &s->gdtr);
    NEXT;
}
HANDLER(sidt)
{
    store_table(s, c, i, &s->idtr);
    NEXT;
}

static void load_table(struct vcpu_state *s, struct interp *c, const struct cell *i, struct desc_table *t)
{
    bool code64 = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    u8 image[10] = {0};
    u64 base;

    need_cpl0(c, i);
    interp_load_bytes(c, i, interp_ea(s, c, i, code64 ? 10 : 6, MEM_READ), image, code64 ? 10 : 6);
    memcpy(&base, image + 2, 8);
    if (code64 && !interp_canonical_base(c, base))
        raise_gp(c, i, 0);
    if (!code64)
        base &= i->flags & CELL_OP16 ? 0xffffff : 0xffffffff;
    memcpy(&t->limit, image, 2);
    t->base = base;
}
HANDLER(lgdt)
{
    load_table(s, c, i, &s->gdtr);
    END_FALL;
}
HANDLER(lidt)
{
    load_table(s, c, i, &s->idtr);
    END_FALL;
}

#define DEFINE_STORE_SELECTOR(name, seg_number)                                                              \
    HANDLER(name##_er)                                                                                       \
    {                                                                                                        \
        if (c->cpl && (s->cr4 & CR4_UMIP))                                                                   \
            raise_gp(c, i, 0);                                                                               \
        set_sized(s, i->rm, cell_operand_size(i), s->seg[seg_number].selector);                              \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em)                                                                                       \
    {                                                                                                        \
        if (c->cpl && (s->cr4 & CR4_UMIP))                                                                   \
            raise_gp(c, i, 0);                                                                               \
        store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), s->seg[seg_number].selector);                        \
        NEXT;                                                                                                \
    }
DEFINE_STORE_SELECTOR(sldt, SEG_LDTR)
DEFINE_STORE_SELECTOR(str, SEG_TR)

#define DEFINE_LOAD_SELECTOR(name, function)                                                                 \
    HANDLER(name##_er)                                                                                       \
    {                                                                                                        \
        need_cpl0(c, i);                                                                                     \
        function(c, i, get16(s, i->rm));                                                                     \
        END_LOOP_NEXT;                                                                                       \
    }                                                                                                        \
    HANDLER(name##_em)                                                                                       \
    {                                                                                                        \
        need_cpl0(c, i);                                                                                     \
        function(c, i, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));                                       \
        END_LOOP_NEXT;                                                                                       \
    }
DEFINE_LOAD_SELECTOR(lldt, interp_load_ldtr)
DEFINE_LOAD_SELECTOR(ltr, interp_load_tr)

/* Whether LAR, LSL, VERR and VERW may look at the segment (SDM 2); *descriptor is what they look at. */
static bool segment_visible(struct interp *c, const struct cell *i, u16 selector, u64 *descriptor,
                            u32 system_types)
{
    unsigned type, dpl;

    if (!(selector & ~3) || !interp_find_descriptor(c, i, selector, descriptor))
        return false;
    type = *descriptor >> 40 & 0x1f;
    dpl = *descriptor >> 45 & 3;
    if (!(type & SEG_S) && !(system_types >> type & 1))
        return false;
    if ((type & (SEG_S | SEG_CODE | SEG_EXPAND_DOWN)) == (SEG_S | SEG_CODE | SEG_EXPAND_DOWN))
        return true;
    return dpl >= c->cpl && dpl >= (selector & 3u);
}

static void set_zf(struct interp *c, bool on)
{
    c->flags = (u16)((c->flags & ~PACKED_ZF) | (on ? PACKED_ZF : 0));
}

static void lar(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 selector)
{
    /* TSS, LDT, call and task gates; in IA-32e mode the 32-bit TSS and call gate and the LDT alone. */
    u32 types = s->efer & EFER_LMA ? 0x1a04 : 0x1a3e;
    bool ok;
    u64 d;

    c->cell = i;
    ok = segment_visible(c, i, selector, &d, types);
    if (ok)
        set_sized(s, i->reg, cell_operand_size(i), d >> 32 & 0xffff00);
    set_zf(c, ok);
}
static void lsl(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 selector)
{
    u32 types = s->efer & EFER_LMA ? 0x0a04 : 0x0a0e;
    bool ok;
    u64 d;

    c->cell = i;
    ok = segment_visible(c, i, selector, &d, types);
    if (ok)
        set_sized(s, i->reg, cell_operand_size(i), seg_from_descriptor(d, selector).limit);
    set_zf(c, ok);
}
static void verr(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 selector)
{
    u64 d;

    c->cell = i;
    set_zf(c, segment_visible(c, i, selector, &d, 0) && (!(d >> 40 & SEG_CODE) || (d >> 40 & SEG_WRITE)));
}
static void verw(struct vcpu_state *s, struct interp *c, const struct cell *i, u16 selector)
{
    u64 d;

    c->cell = i;
    set_zf(c, segment_visible(c, i, selector, &d, 0) && (d >> 40 & (SEG_CODE | SEG_WRITE)) == SEG_WRITE);
}
#define DEFINE_SELECTOR_OP(name)                                                                             \
    HANDLER(name##_er)                                                                                       \
    {                                                                                                        \
        name(s, c, i, get16(s, i->rm));                                                                      \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(name##_em)                                                                                       \
    {                                                                                                        \
        name(s, c, i, load16(c, i, interp_ea(s, c, i, 2, MEM_READ)));                                        \
        NEXT;                                                                                                \
    }
DEFINE_SELECTOR_OP(lar)
DEFINE_SELECTOR_OP(lsl)
DEFINE_SELECTOR_OP(verr)
DEFINE_SELECTOR_OP(verw)

HANDLER(arpl_er)
{
    u16 a = get16(s, i->rm), rpl = get16(s, i->reg) & 3;

    set_zf(c, (a & 3) < rpl);
    if ((a & 3) < rpl)
        set16(s, i->rm, (u16)((a & ~3) | rpl));
    NEXT;
}
HANDLER(arpl_em)
{
    /* Stores only what it changes. */
    u64 lin = interp_ea(s, c, i, 2, MEM_READ);
    u16 a = load16(c, i, lin), rpl = get16(s, i->reg) & 3;

    if ((a & 3) < rpl)
        store16(c, i, interp_ea(s, c, i, 2, MEM_WRITE), (u16)((a & ~3) | rpl));
    set_zf(c, (a & 3) < rpl);
    NEXT;
}

/* ---- MSRs, time, identification, randomness ---- */

HANDLER(rdmsr)
{
    {
        u64 value;

        need_cpl0(c, i);
        c->cell = i;
        if (!vcpu_rdmsr(c->vcpu, get32(s, RCX), &value))
            raise_gp(c, i, 0);
        set32(s, RAX, (u32)value);
        set32(s, RDX, (u32)(value >> 32));
    }
    NEXT;
}

HANDLER(wrmsr)
{
    u64 efer = s->efer;
    u32 pkrs = (u32)s->pkrs;

    need_cpl0(c, i);
    c->cell = i;
    if (!vcpu_wrmsr(c->vcpu, get32(s, RCX), (u64)get32(s, RDX) << 32 | get32(s, RAX)))
        raise_gp(c, i, 0);
    if ((efer ^ s->efer) & EFER_NXE)
        interp_tlb_flush(c);
    interp_pkrs_changed(c, pkrs);
    interp_mode_changed(c);
    END_LOOP_NEXT;
}

static void read_tsc(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    u64 tsc;

    if (c->cpl && (s->cr4 & CR4_TSD))
        raise_gp(c, i, 0);
    c->cell = i;
    tsc = vcpu_tsc(c->vcpu);
    set32(s, RAX, (u32)tsc);
    set32(s, RDX, (u32)(tsc >> 32));
}
HANDLER(rdtsc)
{
    read_tsc(s, c, i);
    NEXT;
}
HANDLER(rdtscp)
{
    read_tsc(s, c, i);
    set32(s, RCX, (u32)s->tsc_aux);
    NEXT;
}
HANDLER(rdpid)
{
    s->gpr[i->rm] = (u32)s->tsc_aux;
    NEXT;
}
/* AMD's. The clocks of RDPRU's registers 0 (MPERF) and 1 (APERF) are that of the TSC, and never stand still. */
HANDLER(rdpru)
{
    u32 n = get32(s, RCX);
    u64 value = 0;

    if (c->cpl && (s->cr4 & CR4_TSD))
        raise_ud(c, i);
    c->cell = i;
    if (n < 2)
        value = vcpu_tsc(c->vcpu);
    set32(s, RAX, (u32)value);
    set32(s, RDX, (u32)(value >> 32));
    c->flags = n < 2 ? PACKED_CF : 0;
    NEXT;
}
HANDLER(rdpmc) /* no counters are offered */
{
    raise_gp(c, i, 0);
}

HANDLER(cpuid)
{
    u32 out[4];

    c->cell = i;
    vcpu_cpuid(c->vcpu, get32(s, RAX), get32(s, RCX), out);
    set32(s, RAX, out[0]);
    set32(s, RBX, out[1]);
    set32(s, RCX, out[2]);
    set32(s, RDX, out[3]);
    END_LOOP_NEXT;
}

HANDLER(rdrand)
{
    c->cell = i;
    set_sized(s, i->rm, cell_operand_size(i), vcpu_random(c->vcpu));
    c->flags = PACKED_CF;
    NEXT;
}

/* ---- fast system calls ---- */

static struct seg flat_segment(u16 selector, u16 attr)
{
    return (struct seg){.selector = selector, .limit = 0xffffffff, .attr = attr};
}
enum {
    ATTR_CODE64 = SEG_G | SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED,
    ATTR_CODE32 = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_CODE | SEG_WRITE | SEG_ACCESSED,
    ATTR_DATA = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED,
};

/* SYSCALL and SYSRET look at TF when they are done: one masked by IA32_FMASK is not met, and the one that SYSRET brings
   back counts for SYSRET itself, as if SYSCALL had just been executed. run.c leaves them alone. */
static void step_if_tf(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (s->rflags & FLAG_TF)
        interp_debug_hit(c, i, DR6_BS);
}

HANDLER(syscall)
{
    u16 selector = (u16)(s->star >> 32 & 0xfffc);
    u64 next = cell_next_rip(c, i), flags = interp_rflags(c);
    bool lma = s->efer & EFER_LMA;

    if (!(s->efer & EFER_SCE) || !vcpu_protected(s))
        raise_ud(c, i);
    if (lma) {
        s->gpr[RCX] = next;
        s->gpr[R11] = flags & ~(u64)FLAG_RF;
        s->rip = vcpu_64bit(s) ? s->lstar : s->cstar;
        flags &= ~(s->sfmask | FLAG_RF);
    } else { /* AMD's legacy form */
        set32(s, RCX, (u32)next);
        s->rip = (u32)s->star;
        flags &= ~(u64)(FLAG_IF | FLAG_VM | FLAG_RF);
    }
    s->seg[SEG_CS] = flat_segment(selector, lma ? ATTR_CODE64 : ATTR_CODE32);
    s->seg[SEG_SS] = flat_segment((u16)(selector + 8), ATTR_DATA);
    interp_set_rflags(c, flags);
    step_if_tf(s, c, i);
    interp_segments_changed(c);
    END_FAR;
}

HANDLER(sysret)
{
    u16 selector = (u16)(s->star >> 48);
    bool to64 = cell_operand_size(i) == 8, lma = s->efer & EFER_LMA;
    u64 target = to64 ? s->gpr[RCX] : get32(s, RCX);

    if (!(s->efer & EFER_SCE) || !vcpu_protected(s))
        raise_ud(c, i);
    need_cpl0(c, i);
    if (to64 && !c->amd && !interp_canonical(c, target)) /* AMD CPUs fault at the fetch, in user mode */
        raise_gp(c, i, 0);
    s->seg[SEG_CS] = flat_segment((u16)((to64 ? selector + 16 : selector) | 3),
                                  (to64 ? ATTR_CODE64 : ATTR_CODE32) | SEG_DPL);
    if (c->amd) { /* what SS is stays, be it null: APM 3, SYSRET */
        s->seg[SEG_SS].selector = (u16)((selector + 8) | 3);
        s->seg[SEG_SS].attr |= SEG_DPL;
    } else {
        s->seg[SEG_SS] = flat_segment((u16)((selector + 8) | 3), ATTR_DATA | SEG_DPL);
    }
    s->rip = target;
    interp_set_rflags(c, lma ? (s->gpr[R11] & 0x3c7fd7) : interp_rflags(c) | FLAG_IF);
    step_if_tf(s, c, i);
    interp_segments_changed(c);
    END_FAR;
}

HANDLER(sysenter)
{
    u16 selector = (u16)(s->sysenter_cs & 0xfffc);
    bool lma = s->efer & EFER_LMA;

    if (c->amd && lma) /* compatibility mode too (APM 3) */
        raise_ud(c, i);
    if (!vcpu_protected(s) || !selector)
        raise_gp(c, i, 0);
    s->seg[SEG_CS] = flat_segment(selector, lma ? ATTR_CODE64 : ATTR_CODE32);
    s->seg[SEG_SS] = flat_segment((u16)(selector + 8), ATTR_DATA);
    s->gpr[RSP] = lma ? s->sysenter_esp : (u32)s->sysenter_esp;
    s->rip = lma ? s->sysenter_eip : (u32)s->sysenter_eip;
    interp_set_rflags(c, interp_rflags(c) & ~(u64)(FLAG_VM | FLAG_IF | FLAG_RF));
    interp_mode_changed(c);
    END_LOOP;
}

HANDLER(sysexit)
{
    u16 selector = (u16)(s->sysenter_cs & 0xfffc);
    bool to64 = cell_operand_size(i) == 8;

    if (c->amd && (s->efer & EFER_LMA))
        raise_ud(c, i);
    if (!vcpu_protected(s) || !selector)
        raise_gp(c, i, 0);
    need_cpl0(c, i);
    if (to64 && (!interp_canonical(c, s->gpr[RDX]) || !interp_canonical(c, s->gpr[RCX])))
        raise_gp(c, i, 0);
    s->seg[SEG_CS] =
        flat_segment((u16)((selector + (to64 ? 32 : 16)) | 3), (to64 ? ATTR_CODE64 : ATTR_CODE32) | SEG_DPL);
    s->seg[SEG_SS] = flat_segment((u16)((selector + (to64 ? 40 : 24)) | 3), ATTR_DATA | SEG_DPL);
    s->rip = to64 ? s->gpr[RDX] : get32(s, RDX);
    s->gpr[RSP] = to64 ? s->gpr[RCX] : get32(s, RCX);
    interp_mode_changed(c);
    END_LOOP;
}

HANDLER(swapgs)
{
    u64 base = s->seg[SEG_GS].base;

    need_cpl0(c, i);
    s->seg[SEG_GS].base = s->kernel_gs_base;
    s->kernel_gs_base = base;
    c->seg_base[SEG_GS] = s->seg[SEG_GS].base;
    NEXT;
}

static void need_fsgsbase(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (!(s->cr4 & CR4_FSGSBASE) || (c->mode & MODE_CODE_MASK) != MODE_CODE64)
        raise_ud(c, i);
}
#define DEFINE_BASE(name, segment)                                                                           \
    HANDLER(rd##name)                                                                                        \
    {                                                                                                        \
        need_fsgsbase(s, c, i);                                                                              \
        set_sized(s, i->rm, cell_operand_size(i), s->seg[segment].base);                                     \
        NEXT;                                                                                                \
    }                                                                                                        \
    HANDLER(wr##name)                                                                                        \
    {                                                                                                        \
        u64 base = get_sized(s, i->rm, cell_operand_size(i));                                                \
                                                                                                             \
        need_fsgsbase(s, c, i);                                                                              \
        if (!interp_canonical_base(c, base))                                                                 \
            raise_gp(c, i, 0);                                                                               \
        s->seg[segment].base = c->seg_base[segment] = base;                                                  \
        NEXT;                                                                                                \
    }
DEFINE_BASE(fsbase, SEG_FS)
DEFINE_BASE(gsbase, SEG_GS)

/* ---- protection keys for user pages (SDM 2B RDPKRU) ---- */

static void pkru_check(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    if (!(s->cr4 & CR4_PKE))
        raise_ud(c, i);
    if (get32(s, RCX))
        raise_gp(c, i, 0);
}
HANDLER(rdpkru)
{
    pkru_check(s, c, i);
    set32(s, RAX, s->pkru);
    set32(s, RDX, 0);
    NEXT;
}
HANDLER(wrpkru)
{
    pkru_check(s, c, i);
    if (get32(s, RDX))
        raise_gp(c, i, 0);
    interp_set_pkru(c, get32(s, RAX));
    END_FALL;
}

/* ---- TLB and caches ---- */

HANDLER(invlpg)
{
    u64 offset = interp_ea_offset(c, i);

    need_cpl0(c, i);
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        offset += c->seg_base[i->seg];
    else
        offset = (u32)(s->seg[i->seg].base + offset);
    interp_tlb_flush_page(c, offset);
    END_LOOP_NEXT; /* by no link: this very page may be mapped elsewhere now */
}

HANDLER(invpcid)
{
    u64 type = get_sized(s, i->reg, cell_operand_size(i)), lin = interp_ea(s, c, i, 16, MEM_READ), d[2];
    bool pcide = s->cr4 & CR4_PCIDE;

    need_cpl0(c, i);
    interp_load_bytes(c, i, lin, d, 16);
    if (type > 3 || d[0] >> 12 || (type < 2 && !pcide && d[0]) ||
        (type == 0 && !interp_canonical_base(c, d[1])))
        raise_gp(c, i, 0);
    if (type < 2 && d[0] != (pcide ? s->cr3 & CR3_PCID : 0))
        interp_tlb_flush_pcid(c, d[0]);
    else if (type == 0)
        interp_tlb_flush_page(c, d[1]);
    else if (type == 1)
        interp_tlb_drop_local(c);
    else
        interp_tlb_flush(c);
    END_LOOP_NEXT; /* as INVLPG */
}

HANDLER(privileged_nop) /* INVD, WBINVD: the caches that they speak of do not exist here */
{
    need_cpl0(c, i);
    END_FALL;
}
HANDLER(clflush) /* checked like a load (SDM 2) */
{
    interp_probe(c, i, interp_ea(s, c, i, 1, MEM_READ), 1, MEM_READ);
    NEXT;
}
HANDLER(fence)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    NEXT;
}
HANDLER(serialize) /* all before it is done, and the fetch begins anew */
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    END_LOOP_NEXT;
}
#define UNDEFINED(op)                                                                                        \
    {                                                                                                        \
        op, 0, ANY_SIZE(interp_op_ud), ANY_SIZE(interp_op_ud)                                                \
    }
#define REG_ONLY(op, fn)                                                                                     \
    {                                                                                                        \
        op, 0, ANY_SIZE(fn), NO_FORM                                                                         \
    }
#define MEM_ONLY(op, fn)                                                                                     \
    {                                                                                                        \
        op, 0, NO_FORM, ANY_SIZE(fn)                                                                         \
    }
#define BOTH(op, name)                                                                                       \
    {                                                                                                        \
        op, 0, ANY_SIZE(name##_er), ANY_SIZE(name##_em)                                                      \
    }

const struct interp_row interp_system_rows[] = {
    REG_ONLY(OP_IN_AL_Ib, in_al_im),
    REG_ONLY(OP_IN_eAX_Ib, in_ax_im),
    REG_ONLY(OP_IN_AL_DX, in_al_dx),
    REG_ONLY(OP_IN_eAX_DX, in_ax_dx),
    REG_ONLY(OP_OUT_Ib_AL, out_im_al),
    REG_ONLY(OP_OUT_Ib_eAX, out_im_ax),
    REG_ONLY(OP_OUT_DX_AL, out_dx_al),
    REG_ONLY(OP_OUT_DX_eAX, out_dx_ax),
    REG_ONLY(OP_CLI, cli),
    REG_ONLY(OP_STI, sti),
    REG_ONLY(OP_PUSHF, pushf),
    REG_ONLY(OP_POPF, popf),
    REG_ONLY(OP_CLAC, clac),
    REG_ONLY(OP_STAC, stac),
    REG_ONLY(OP_HLT, hlt),
    REG_ONLY(OP_MOV_Ry_Cy, mov_from_cr),
    REG_ONLY(OP_MOV_Cy_Ry, mov_to_cr),
    REG_ONLY(OP_MOV_Ry_Dy, mov_from_dr),
    REG_ONLY(OP_MOV_Dy_Ry, mov_to_dr),
    BOTH(OP_SMSW_RvMw, smsw),
    BOTH(OP_LMSW_Ew, lmsw),
    REG_ONLY(OP_CLTS, clts),
    MEM_ONLY(OP_SGDT_Ms, sgdt),
    MEM_ONLY(OP_SIDT_Ms, sidt),
    MEM_ONLY(OP_LGDT_Ms, lgdt),
    MEM_ONLY(OP_LIDT_Ms, lidt),
    BOTH(OP_SLDT_RvMw, sldt),
    BOTH(OP_STR_RvMw, str),
    BOTH(OP_LLDT_Ew, lldt),
    BOTH(OP_LTR_Ew, ltr),
    BOTH(OP_LAR_Gv_Ew, lar),
    BOTH(OP_LSL_Gv_Ew, lsl),
    BOTH(OP_VERR_Ew, verr),
    BOTH(OP_VERW_Ew, verw),
    BOTH(OP_ARPL_Ew_Gw, arpl),
    REG_ONLY(OP_RDMSR, rdmsr),
    REG_ONLY(OP_WRMSR, wrmsr),
    REG_ONLY(OP_RDTSC, rdtsc),
    REG_ONLY(OP_RDTSCP, rdtscp),
    REG_ONLY(OP_RDPID_Ry, rdpid),
    REG_ONLY(OP_RDPMC, rdpmc),
    REG_ONLY(OP_RDPRU, rdpru),
    REG_ONLY(OP_CPUID, cpuid),
    REG_ONLY(OP_RDRAND_Rv, rdrand),
    REG_ONLY(OP_RDSEED_Rv, rdrand),
    REG_ONLY(OP_SYSCALL, syscall),
    REG_ONLY(OP_SYSRET, sysret),
    REG_ONLY(OP_SYSENTER, sysenter),
    REG_ONLY(OP_SYSEXIT, sysexit),
    REG_ONLY(OP_SWAPGS, swapgs),
    REG_ONLY(OP_RDFSBASE_Ry, rdfsbase),
    REG_ONLY(OP_RDGSBASE_Ry, rdgsbase),
    REG_ONLY(OP_WRFSBASE_Ry, wrfsbase),
    REG_ONLY(OP_WRGSBASE_Ry, wrgsbase),
    REG_ONLY(OP_RDPKRU, rdpkru),
    REG_ONLY(OP_WRPKRU, wrpkru),
    MEM_ONLY(OP_INVLPG_Mb, invlpg),
    MEM_ONLY(OP_INVPCID_Gy_Mdq, invpcid),
    REG_ONLY(OP_INVD, privileged_nop),
    REG_ONLY(OP_WBINVD, privileged_nop),
    REG_ONLY(OP_WBNOINVD, privileged_nop),
    REG_ONLY(OP_SERIALIZE, serialize),
    MEM_ONLY(OP_CLFLUSH_Mb, clflush),
    MEM_ONLY(OP_CLFLUSHOPT_Mb, clflush),
    MEM_ONLY(OP_CLWB_Mb, clflush),
    REG_ONLY(OP_LFENCE, fence),
    REG_ONLY(OP_MFENCE, fence),
    REG_ONLY(OP_SFENCE, fence),
    UNDEFINED(OP_UD0_Gv_Ev),
    UNDEFINED(OP_UD1_Gv_Ev),
    UNDEFINED(OP_UD2),
    UNDEFINED(OP_RSM),
    ROW_LAST,
};
