/*
 * The interpreter's leg: a VM without devices, in long mode, that runs each case at CPL 3 and takes every exception
 * through its IDT to a HLT of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/interp/interp.h"
#include "insn.h"
#include "machine/vm.h"

/* Guest-physical places. */
enum {
    PHYS_TABLES = 0x1000, /* page tables, as many as are taken */
    PHYS_TABLES_END = 0x20000,
    PHYS_SYSTEM = 0x20000, /* GDT, TSS, IDT, stubs and stack: 8 pages */
    PHYS_CODE = 0x40000,
    PHYS_DATA = 0x50000,
    RAM_SIZE = 0x100000,
};
/* Supervisor pages, out of reach of what the instructions may address by chance. */
#define SYSTEM_BASE 0xffffff8000000000ull
enum {
    SYSTEM_PAGES = 8,
    SYSTEM_GDT = 0x0000,
    SYSTEM_TSS = 0x0800,
    SYSTEM_IDT = 0x1000,   /* 256 * 16 */
    SYSTEM_STUBS = 0x2000, /* a HLT each 16 bytes */
    SYSTEM_STACK = 0x8000, /* its end */
    SELECTOR_KERNEL = 8,
    VECTORS = 256,
    INSTRUCTION_LIMIT = 2000,
};

struct guest {
    struct vm *vm;
    struct vcpu *vcpu;
    struct mem_region ram;
    u8 *host;
    u64 next_table;
    struct cpu_model host_limit;
    struct vcpu_state base; /* everything that cases do not set */
};

static void stop(const struct error *err)
{
    fprintf(stderr, "guest: %s\n", err->text);
    exit(2);
}

static void put64(struct guest *g, u64 phys, u64 v)
{
    memcpy(g->host + phys, &v, 8);
}
static u64 get64(const struct guest *g, u64 phys)
{
    u64 v;

    memcpy(&v, g->host + phys, 8);
    return v;
}

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX (1ull << 63)

/* Map one page, with the tables above it. */
static void map(struct guest *g, u64 linear, u64 phys, u64 rights)
{
    u64 table = PHYS_TABLES;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        u64 entry = table + (linear >> shift & 511) * 8;

        if (!get64(g, entry)) {
            put64(g, entry, g->next_table | PTE_P | PTE_W | PTE_U | PTE_A);
            g->next_table += 0x1000;
        }
        table = get64(g, entry) & 0xffffff000;
    }
    put64(g, table + (linear >> 12 & 511) * 8, phys | rights | PTE_P | PTE_A | PTE_D);
}

static void make_system(struct guest *g)
{
    u64 tss = SYSTEM_BASE + SYSTEM_TSS;
    u8 *system = g->host + PHYS_SYSTEM;

    put64(g, PHYS_SYSTEM + SYSTEM_GDT + SELECTOR_KERNEL, 0x00af9b000000ffff);
    put64(g, PHYS_SYSTEM + SYSTEM_TSS + 4, SYSTEM_BASE + SYSTEM_STACK); /* RSP0 */
    put64(g, PHYS_SYSTEM + SYSTEM_TSS + 0x60, 0x68ull << 48);           /* no I/O map: no ports */
    for (unsigned v = 0; v < VECTORS; v++) {
        u64 stub = SYSTEM_BASE + SYSTEM_STUBS + 16 * v;
        u64 dpl = v == VEC_BP || v == VEC_OF ? 3 : 0;

        system[SYSTEM_STUBS + 16 * v] = 0xf4;
        put64(g, PHYS_SYSTEM + SYSTEM_IDT + 16 * v,
              (stub & 0xffff) | SELECTOR_KERNEL << 16 | (0x8e00 | dpl << 13) << 32 |
                  (stub >> 16 & 0xffff) << 48);
        put64(g, PHYS_SYSTEM + SYSTEM_IDT + 16 * v + 8, stub >> 32);
    }
    g->base.gdtr = (struct desc_table){SYSTEM_BASE + SYSTEM_GDT, 0x7f};
    g->base.idtr = (struct desc_table){SYSTEM_BASE + SYSTEM_IDT, VECTORS * 16 - 1};
    g->base.seg[SEG_TR] = (struct seg){tss, 0x67, 0x40, SEG_P | 0xb};
    g->base.seg[SEG_LDTR] = (struct seg){.attr = SEG_UNUSABLE};
}

struct guest *guest_new(const struct engine_ops *engine, const char *host, const u8 *read_only)
{
    struct guest *g = calloc(1, sizeof(*g));
    struct vm_config config = {
        .name = "insn", .ram_size = RAM_SIZE, .vcpus = 1, .clock = CLOCK_ICOUNT, .jit_threshold = 1};
    struct error err = {0};

    if (!g || (host && cpu_model_parse(host, &g->host_limit, &err)))
        stop(&err);
    config.host_limit = host ? &g->host_limit : NULL;
    if (cpu_model_parse("max", &config.cpu, &err) || !(g->vm = vm_new(&config, &err)))
        stop(&err);
    g->ram = (struct mem_region){.size = RAM_SIZE,
                                 .enabled = true,
                                 .read = true,
                                 .write = true,
                                 .name = "ram",
                                 .block = g->vm->memory.blocks[0]};
    if (memory_add_region(&g->vm->memory, &g->ram, &err))
        stop(&err);
    memory_commit(&g->vm->memory);
    if (vm_set_engine(g->vm, engine, &err))
        stop(&err);
    g->vcpu = g->vm->vcpus[0];
    g->host = g->vm->memory.blocks[0]->host;

    g->next_table = PHYS_TABLES + 0x1000;
    for (unsigned n = 0; n < SYSTEM_PAGES; n++)
        map(g, SYSTEM_BASE + n * 0x1000, PHYS_SYSTEM + n * 0x1000, PTE_W);
    for (unsigned n = 0; n < CODE_SIZE; n += 0x1000)
        map(g, CODE_BASE + n, PHYS_CODE + n, PTE_U);
    for (unsigned n = 0; n < DATA_SIZE; n += 0x1000)
        map(g, DATA_BASE + n, PHYS_DATA + n, PTE_U | PTE_NX | (n < DATA_WRITABLE ? PTE_W : 0));
    memset(g->host + PHYS_CODE, 0xcc, CODE_SIZE);
    memcpy(g->host + PHYS_DATA + DATA_WRITABLE, read_only, DATA_SIZE - DATA_WRITABLE);

    vcpu_state_reset(&g->base, true, 0);
    make_system(g);
    g->base.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    g->base.cr3 = PHYS_TABLES;
    g->base.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    g->base.efer = EFER_LME | EFER_LMA | EFER_NXE;
    g->base.xcr0 = cpu_model_xcr0_mask(&g->vm->config.cpu) & (COMPONENT_X87 | COMPONENT_SSE | COMPONENT_YMM);
    return g;
}

u64 guest_components(const struct guest *g)
{
    return g->base.xcr0;
}

void guest_compute(struct guest *g, bool computed)
{
    vcpu_interp(g->vcpu)->fp.host = computed ? 0 : fp_host_features();
}

void guest_free(struct guest *g)
{
    memory_remove_region(&g->vm->memory, &g->ram);
    vm_free(g->vm);
    free(g);
}

static void set_segments(struct vcpu_state *s, const struct insn_case *test)
{
    for (unsigned n = 0; n < SEG_COUNT; n++)
        s->seg[n] = case_segment(test, n);
}

static void fx_load(struct vcpu_state *s, const u8 *fx)
{
    struct x87_state *x = &s->x87;

    memset(x, 0, sizeof(*x));
    memcpy(&x->fcw, fx, 2);
    memcpy(&x->fsw, fx + 2, 2);
    x->tags = fx[4];
    memcpy(&x->fop, fx + 6, 2);
    memcpy(&x->fip, fx + 8, 8);
    memcpy(&x->fdp, fx + 16, 8);
    memcpy(&s->mxcsr, fx + 24, 4);
    for (unsigned n = 0; n < 8; n++)
        memcpy(&x->reg[((x->fsw >> 11) + n) & 7], fx + 32 + 16 * n, 10);
    for (unsigned n = 0; n < 16; n++)
        memcpy(s->vec[n], fx + 160 + 16 * n, 16);
}
static void fx_store(const struct vcpu_state *s, u8 *fx)
{
    const struct x87_state *x = &s->x87;

    memset(fx, 0, 512);
    memcpy(fx, &x->fcw, 2);
    memcpy(fx + 2, &x->fsw, 2);
    fx[4] = x->tags;
    memcpy(fx + 6, &x->fop, 2);
    memcpy(fx + 8, &x->fip, 8);
    memcpy(fx + 16, &x->fdp, 8);
    memcpy(fx + 24, &s->mxcsr, 4);
    for (unsigned n = 0; n < 8; n++)
        memcpy(fx + 32 + 16 * n, &x->reg[((x->fsw >> 11) + n) & 7], 10);
    for (unsigned n = 0; n < 16; n++)
        memcpy(fx + 160 + 16 * n, s->vec[n], 16);
}

/* What the CPU pushed on the kernel stack. */
static void take_frame(const struct guest *g, const struct vcpu_state *s, struct insn_outcome *out)
{
    u64 at = PHYS_SYSTEM + (s->gpr[RSP] - SYSTEM_BASE);
    bool has_error = s->gpr[RSP] == SYSTEM_BASE + SYSTEM_STACK - 48;

    out->error = has_error ? get64(g, at) : 0;
    at += has_error ? 8 : 0;
    out->s.rip = get64(g, at);
    out->s.rflags = get64(g, at + 16);
    out->s.gpr[RSP] = get64(g, at + 24);
}

/* INT3 again, where an instruction or a target of it was: so that few blocks live in the pages at a time. */
static void wipe(struct guest *g, u64 rip, unsigned length)
{
    u8 filler[X86_MAX_INSN + 1];

    memset(filler, 0xcc, sizeof(filler));
    if (rip + length > CODE_SIZE)
        length = rip < CODE_SIZE ? CODE_SIZE - (unsigned)rip : 0;
    memory_poke(&g->vm->memory, PHYS_CODE + rip, filler, length);
}

void guest_run(struct guest *g, const struct insn_case *test, struct insn_outcome *out)
{
    struct vcpu_state *s = &g->vcpu->state;
    u64 code = case_segment(test, SEG_CS).base + test->in.rip - CODE_BASE, target;

    memory_poke(&g->vm->memory, PHYS_CODE + code, test->code,
                code + test->length > CODE_SIZE ? CODE_SIZE - code : test->length);
    memcpy(g->host + PHYS_DATA, test->data, DATA_WRITABLE);
    g->base.icount = s->icount;
    *s = g->base;
    set_segments(s, test);
    memcpy(s->gpr, test->in.gpr, sizeof(test->in.gpr));
    s->rip = test->in.rip;
    s->rflags = test->in.rflags;
    fx_load(s, test->in.fx);
    for (unsigned n = 0; n < 16; n++)
        memcpy(s->vec[n] + 16, test->in.ymm[n], 16);

    if (g->vcpu->engine->run(g->vcpu, INSTRUCTION_LIMIT) == ENGINE_EXIT_HALT) {
        memcpy(out->s.gpr, s->gpr, sizeof(out->s.gpr));
        take_frame(g, s, out);
        out->vector = (s->rip - 1 - SYSTEM_BASE - SYSTEM_STUBS) / 16;
    } else {
        out->vector = VECTOR_TIMEOUT;
    }
    out->cr2 = s->cr2;
    fx_store(s, out->s.fx);
    for (unsigned n = 0; n < 16; n++)
        memcpy(out->s.ymm[n], s->vec[n] + 16, 16);
    out->data = g->host + PHYS_DATA;

    wipe(g, code, test->length + 1);
    target = case_segment(test, SEG_CS).base + out->s.rip - 1 - CODE_BASE;
    if (target < CODE_SIZE && target - code > test->length)
        wipe(g, target, 1);
}
