/*
 * A bare machine in 64-bit mode: RAM, one vCPU, page tables for two address spaces, and the system of system.S.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "engine/interp/interp.h"
#include "machine/vm.h"
#include "seq.h"

extern const u8 seq_system[];
extern const u32 seq_system_size, seq_syscall_offset;

struct machine {
    struct vm *vm;
    struct vcpu *vcpu;
    const struct engine_ops *engine;
    struct mem_region ram;
    u8 *host;
    u64 next_table;
    struct vcpu_state base; /* what programs do not set */
    struct cpu_model host_limit;
    u8 *wanted;    /* by machine_reload */
    u64 data_seed; /* what `data` was made from */
    u8 data[PHYS_OTHER + 0x1000 - PHYS_DATA];
};

static void stop(const struct error *err)
{
    fprintf(stderr, "machine: %s\n", err->text);
    exit(2);
}

static void put64(struct machine *m, u64 phys, u64 v)
{
    memcpy(m->host + phys, &v, 8);
}
static u64 get64(const struct machine *m, u64 phys)
{
    u64 v;

    memcpy(&v, m->host + phys, 8);
    return v;
}

/* ---- memory ---- */

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_G = 0x100 };
#define PTE_ADDRESS 0xffffffffff000ull
#define PTE_NX      (1ull << 63)
enum { SPACE_A = PHYS_TABLES, SPACE_B = PHYS_TABLES + 0x2000 };

/* The page table of a linear address; made, if need be, with those above it. */
static u64 page_table(struct machine *m, u64 root, u64 linear)
{
    u64 table = root;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        u64 entry = table + (linear >> shift & 511) * 8;

        if (!get64(m, entry)) {
            if (m->next_table == SPACE_B) /* a root, too */
                m->next_table += 0x1000;
            put64(m, entry, m->next_table | PTE_P | PTE_W | PTE_U | PTE_A);
            m->next_table += 0x1000;
        }
        table = get64(m, entry) & PTE_ADDRESS;
    }
    return table;
}
static void map(struct machine *m, u64 root, u64 linear, u64 phys, u64 rights)
{
    put64(m, page_table(m, root, linear) + (linear >> 12 & 511) * 8, phys | rights);
}

static u64 data_frame(unsigned page, bool other)
{
    static const u8 order[] = {3, 0, 6, 1, 7, 2};

    if (page == DATA_ALIAS)
        page = 0;
    if (page == DATA_CODE)
        return PHYS_CODE + 0x1000;
    if (other && page == 1)
        return PHYS_OTHER;
    if (other && (page == 0 || page == DATA_SWAP))
        page ^= DATA_SWAP;
    return PHYS_DATA + order[page] * 0x1000;
}
static u64 code_frame(unsigned page, bool other)
{
    if (other && page == 4)
        return PHYS_OTHER + 0x1000;
    if (other && page >= CODE_SWAP)
        page = CODE_SWAP + (CODE_SWAP + 1) - page;
    return PHYS_CODE + page * 0x1000;
}

/* Pages that are the same in both spaces are global; accessed and dirty from the start, since it shows there through which
   space they were walked. */
#define GLOBAL (PTE_G | PTE_A | PTE_D)

static void make_space(struct machine *m, u64 root)
{
    static const u64 data_rights[] = {
        [0] = PTE_P | PTE_W | PTE_U,          [DATA_REVOKED] = PTE_P | PTE_W | PTE_U,
        [DATA_TABLES] = PTE_P | PTE_U,        [DATA_SWAP] = PTE_P | PTE_W | PTE_U,
        [DATA_ABSENT] = PTE_W | PTE_U,        [DATA_SUPERVISOR] = PTE_P | PTE_W,
        [DATA_ALIAS] = PTE_P | PTE_W | PTE_U, [DATA_CODE] = PTE_P | PTE_W | PTE_U,
    };
    bool other = root == SPACE_B;

    for (unsigned n = 0; n < SYSTEM_PAGES; n++)
        map(m, root, SYSTEM_BASE + n * 0x1000, PHYS_SYSTEM + n * 0x1000, PTE_P | PTE_W | GLOBAL);
    for (unsigned n = 0; n < CODE_PAGES; n++) {
        map(m, root, CODE_BASE + n * 0x1000, code_frame(n, other),
            PTE_P | PTE_W | PTE_U | (n < CODE_FETCH ? GLOBAL : 0));
        map(m, root, ALIAS_BASE + n * 0x1000, code_frame(n, other), PTE_P | PTE_W | PTE_U | PTE_NX);
    }
    for (unsigned n = 0; n < DATA_PAGES; n++)
        map(m, root, DATA_BASE + n * 0x1000, data_frame(n, other), data_rights[n] | PTE_NX);
    for (unsigned n = 0; n < STACK_PAGES; n++)
        map(m, root, STACK_BASE + n * 0x1000, PHYS_STACK + (1 - n) * 0x2000, PTE_P | PTE_W | PTE_U | PTE_NX);
    map(m, root, SYSTEM_BASE + SYSTEM_CODE_PT, page_table(m, root, CODE_BASE), PTE_P | PTE_W);
    map(m, root, SYSTEM_BASE + SYSTEM_DATA_PT, page_table(m, root, DATA_BASE), PTE_P | PTE_W);
}

static void make_system(struct machine *m)
{
    static const u64 gdt[] = {0,
                              0x00af9b000000ffff,
                              0x00cf93000000ffff,
                              0x00cffb000000ffff,
                              0x00cff3000000ffff,
                              0x00affb000000ffff};
    u64 gdt_at = PHYS_SYSTEM + SYSTEM_GDT, tss = PHYS_SYSTEM + SYSTEM_TSS;

    memcpy(m->host + gdt_at, gdt, sizeof(gdt));
    for (unsigned n = 0; n < 3; n++) {
        put64(m, tss + 4 + 8 * n, SYSTEM_BASE + SYSTEM_STACKS + 0x1000);
        put64(m, tss + 36 + 8 * n, SYSTEM_BASE + SYSTEM_STACKS + (n + 1) * 0x1000);
    }
    put64(m, tss + 0x60, 0x68ull << 48);
    for (unsigned v = 0; v < 256; v++) {
        u64 stub = SYSTEM_BASE + SYSTEM_STUBS + 16 * v,
            dpl = v == VEC_BP || v == VEC_OF || v >= SERVICE_NONE ? 3 : 0,
            ist = v == VEC_NMI  ? 2
                  : v == VEC_DB ? 3
                                : 1;

        put64(m, PHYS_SYSTEM + SYSTEM_IDT + 16 * v,
              (stub & 0xffff) | SELECTOR_KERNEL << 16 | ist << 32 | (0x8e00 | dpl << 13) << 32 |
                  (stub >> 16 & 0xffff) << 48);
        put64(m, PHYS_SYSTEM + SYSTEM_IDT + 16 * v + 8, stub >> 32);
    }
    memcpy(m->host + PHYS_SYSTEM + SYSTEM_STUBS, seq_system, seq_system_size);
}

static void make_data(struct machine *m, u64 seed)
{
    struct random r = {seed | 1};

    if (m->data_seed != r.state)
        for (u64 at = 0; at < sizeof(m->data); at += 16)
            vector_value(&r, m->data + at);
    m->data_seed = seed | 1;
    memcpy(m->host + PHYS_DATA, m->data, sizeof(m->data));
}

/* ---- life ---- */

static int interrupt_ack(void *opaque)
{
    vcpu_unkick(opaque, KICK_INTERRUPT);
    return INTERRUPT_VECTOR;
}
/* Nothing else of a local APIC. */
static u8 no_tpr(void *opaque)
{
    return 0;
}
static void ignore_tpr(void *opaque, u8 cr8) {}
static u64 no_base(void *opaque)
{
    return 0;
}
static bool refuse_base(void *opaque, u64 value)
{
    return false;
}
static bool no_msr(void *opaque, u32 msr, u64 *value)
{
    return false;
}
static bool refuse_msr(void *opaque, u32 msr, u64 value)
{
    return false;
}
static void ignore(void *opaque) {}
static const struct vcpu_intc_ops intc = {.ack = interrupt_ack,
                                          .get_tpr = no_tpr,
                                          .set_tpr = ignore_tpr,
                                          .get_base = no_base,
                                          .set_base = refuse_base,
                                          .msr_read = no_msr,
                                          .msr_write = refuse_msr,
                                          .init = ignore,
                                          .tsc_changed = ignore};

struct machine *machine_new(const struct machine_config *how)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct vm_config config = {.name = "seq",
                               .ram_size = RAM_SIZE,
                               .vcpus = 1,
                               .clock = how->free ? CLOCK_HOST : CLOCK_ICOUNT,
                               .jit_threshold = how->threshold,
                               .jit_cache = how->cache};
    struct error err = {0};

    if (!m || (how->host && cpu_model_parse(how->host, &m->host_limit, &err)))
        stop(&err);
    config.host_limit = how->host ? &m->host_limit : NULL;
    if (cpu_model_parse("max", &config.cpu, &err) || !(m->vm = vm_new(&config, &err)))
        stop(&err);
    m->ram = (struct mem_region){.size = RAM_SIZE,
                                 .enabled = true,
                                 .read = true,
                                 .write = true,
                                 .name = "ram",
                                 .block = m->vm->memory.blocks[0]};
    if (memory_add_region(&m->vm->memory, &m->ram, &err))
        stop(&err);
    memory_commit(&m->vm->memory);
    /* Also with the host's clock, so that a program which writes to page tables by chance finds no more of them in one
       engine's TLB than in the other's. */
    m->vm->memory.track_page_tables = true;
    m->engine = how->engine;
    m->vcpu = m->vm->vcpus[0];
    m->host = m->vm->memory.blocks[0]->host;
    m->vcpu->intc = &intc;
    m->vcpu->intc_opaque = m->vcpu;

    vcpu_state_reset(&m->base, true, 0);
    m->base.gdtr = (struct desc_table){SYSTEM_BASE + SYSTEM_GDT, 0x3f};
    m->base.idtr = (struct desc_table){SYSTEM_BASE + SYSTEM_IDT, 0xfff};
    m->base.seg[SEG_TR] = (struct seg){SYSTEM_BASE + SYSTEM_TSS, 0x67, 0x30, SEG_P | 0xb};
    m->base.seg[SEG_LDTR] = (struct seg){.attr = SEG_UNUSABLE};
    m->base.cr3 = SPACE_A;
    m->base.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    m->base.star = (u64)SELECTOR_KERNEL << 32 | 0x1bull << 48;
    m->base.lstar = SYSTEM_BASE + SYSTEM_STUBS + seq_syscall_offset;
    m->base.sfmask = FLAG_TF | FLAG_IF | FLAG_AC;
    m->base.xcr0 = cpu_model_xcr0_mask(&m->vm->config.cpu) & (COMPONENT_X87 | COMPONENT_SSE | COMPONENT_YMM);
    return m;
}

void machine_free(struct machine *m)
{
    memory_remove_region(&m->vm->memory, &m->ram);
    vm_free(m->vm);
    free(m->wanted);
    free(m);
}

static void set_segments(struct vcpu_state *s, const struct image *image)
{
    struct seg data = {0, 0xffffffff, image->user ? SELECTOR_USER_DATA : SELECTOR_KERNEL_DATA,
                       (u16)(SEG_G | SEG_DB | SEG_P | SEG_S | 3 | (image->user ? SEG_DPL : 0))};

    for (unsigned n = 0; n < SEG_COUNT; n++)
        s->seg[n] = data;
    s->seg[SEG_CS] = (struct seg){0, 0xffffffff, image->user ? SELECTOR_USER : SELECTOR_KERNEL,
                                  (u16)(SEG_G | SEG_L | SEG_P | SEG_S | 0xb | (image->user ? SEG_DPL : 0))};
    s->seg[SEG_FS].base = image->fs_base;
    s->seg[SEG_GS].base = image->gs_base;
}

static void set_state(struct machine *m, const struct image *image)
{
    struct vcpu_state *s = &m->vcpu->state;
    struct random r = {image->seed + 0x9e3779b97f4a7c15};

    *s = m->base;
    set_segments(s, image);
    memcpy(s->gpr, image->gpr, sizeof(image->gpr));
    s->rip = image->rip;
    s->rflags = image->rflags | FLAG_ONE;
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | (image->write_protect ? CR0_WP : 0) |
             (image->align_check ? CR0_AM : 0) | CR0_PG;
    s->cr4 =
        CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | (image->smap ? CR4_SMAP : 0);
    s->cr4 |= CR4_PGE | (image->pcid ? CR4_PCIDE : 0);
    if (image->pcid)
        s->cr3 |= PCID_A;
    s->icount = 0;
    if (image->vectors_zero)
        return;
    for (unsigned n = 0; n < 16; n++) {
        vector_value(&r, s->vec[n]);
        if (s->xcr0 & COMPONENT_YMM)
            vector_value(&r, s->vec[n] + 16);
    }
    for (unsigned n = 0; n < 8; n++)
        extended_value(&r, (u8 *)&s->x87.reg[n]);
}

static void start(struct machine *m, const struct image *image)
{
    m->vm->random_state = 1;
    vcpu_unkick(m->vcpu, ~0u);
    set_state(m, image);
    m->vcpu->engine->state_changed(m->vcpu);
}

/* All of RAM, at m->host. */
static void make_memory(struct machine *m, const struct image *image)
{
    u64 system = PHYS_SYSTEM;

    memset(m->host, 0, RAM_SIZE);
    m->next_table = PHYS_TABLES + 0x1000;
    make_data(m, image->seed);
    make_space(m, SPACE_A);
    make_space(m, SPACE_B);
    make_system(m);
    memcpy(m->host + PHYS_CODE, image->code, CODE_SIZE);
    /* Page 4 of the second space has other immediates. */
    memcpy(m->host + code_frame(4, true), image->code + 0x4000, 0x1000);
    for (unsigned n = 0; n < MAX_SITES; n++)
        if (image->sites[n] >> 12 == 4)
            m->host[code_frame(4, true) + (image->sites[n] & 0xfff)] ^= 0x55;
    memcpy(m->host + data_frame(DATA_TABLES, false), image->tables, sizeof(image->tables));
    put64(m, system + SYSTEM_LOG + LOG_LIMIT, image->limit);
    put64(m, system + SYSTEM_LOG + LOG_SPACES, SPACE_A ^ SPACE_B ^ (image->pcid ? PCID_A ^ PCID_B : 0));
    memcpy(m->host + system + SYSTEM_SKIP, image->skip, sizeof(image->skip));
    memcpy(m->host + system + SYSTEM_RESUME, image->resume, sizeof(image->resume));
}

void machine_load(struct machine *m, const struct image *image)
{
    struct error err = {0};

    /* A new engine: what one program does must not depend on those before it. */
    if (vm_set_engine(m->vm, m->engine, &err))
        stop(&err);
    make_memory(m, image);
    start(m, image);
}

void machine_reload(struct machine *m, const struct image *image)
{
    u8 *ram = m->host;

    if (!m->vcpu->engine) {
        machine_load(m, image);
        return;
    }
    if (!m->wanted && !(m->wanted = malloc(RAM_SIZE)))
        stop(&(struct error){"no memory"});
    m->host = m->wanted;
    make_memory(m, image);
    m->host = ram;
    for (u64 page = 0; page < RAM_SIZE; page += 0x1000)
        if (memcmp(ram + page, m->wanted + page, 0x1000))
            memory_poke(&m->vm->memory, page, m->wanted + page, 0x1000);
    start(m, image);
}

enum engine_exit machine_run(struct machine *m, u64 budget)
{
    return m->vcpu->engine->run(m->vcpu, budget);
}

static u32 *disturbed_kick;
static void disturb(int signo)
{
    __atomic_fetch_or(disturbed_kick, KICK_EXIT, __ATOMIC_RELEASE);
}

void machine_run_free(struct machine *m, bool disturbed)
{
    const struct itimerval often = {{0, 150}, {0, 150}}, never = {0};

    disturbed_kick = &m->vcpu->kick;
    signal(SIGVTALRM, disturb);
    if (disturbed)
        setitimer(ITIMER_VIRTUAL, &often, NULL);
    while (m->vcpu->engine->run(m->vcpu, UINT64_MAX) == ENGINE_EXIT_KICK)
        vcpu_unkick(m->vcpu, KICK_EXIT);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    vcpu_unkick(m->vcpu, KICK_EXIT);
}

void machine_take_count(struct machine *m, const struct machine *from)
{
    m->vcpu->state.icount = from->vcpu->state.icount;
}

void machine_nmi(struct machine *m)
{
    vcpu_nmi(m->vcpu);
}

void machine_interrupt(struct machine *m)
{
    vcpu_kick(m->vcpu, KICK_INTERRUPT);
}

void machine_write_code(struct machine *m, unsigned offset, u32 v)
{
    memory_poke(&m->vm->memory, PHYS_CODE + offset, &v, sizeof(v));
}

void machine_hop(struct machine *m, const struct engine_ops *engine)
{
    struct error err = {0};

    if (vm_set_engine(m->vm, engine, &err))
        stop(&err);
}

void machine_come_home(struct machine *m)
{
    if (m->vcpu->engine != m->engine)
        machine_hop(m, m->engine);
}

const struct vcpu_state *machine_state(const struct machine *m)
{
    return &m->vcpu->state;
}

bool machine_lost(const struct machine *m)
{
    u64 tables = m->vcpu->state.cr3 & PTE_ADDRESS;

    return tables != SPACE_A && tables != SPACE_B;
}

const u8 *machine_code(const struct machine *m, u64 rip, unsigned *available)
{
    u64 table = m->vcpu->state.cr3 & PTE_ADDRESS;

    for (unsigned shift = 39; shift >= 12 && table < RAM_SIZE; shift -= 9) {
        u64 entry = get64(m, table + (rip >> shift & 511) * 8);

        if (!(entry & PTE_P))
            return NULL;
        table = entry & PTE_ADDRESS;
    }
    *available = 0x1000 - (rip & 0xfff);
    return table < RAM_SIZE ? m->host + table + (rip & 0xfff) : NULL;
}

/* ---- comparison ---- */

static bool x87_equal(const struct x87_state *a, const struct x87_state *b)
{
    for (unsigned n = 0; n < 8; n++)
        if (a->reg[n].mantissa != b->reg[n].mantissa || a->reg[n].sign_exponent != b->reg[n].sign_exponent)
            return false;
    return a->fcw == b->fcw && a->fsw == b->fsw && a->tags == b->tags && a->fop == b->fop &&
           a->fip == b->fip && a->fdp == b->fdp && a->fcs == b->fcs && a->fds == b->fds;
}

static bool state_equal(const struct vcpu_state *a, const struct vcpu_state *b)
{
    static struct vcpu_state x, y;

    x = *a;
    y = *b;
    memset(&x.x87, 0, sizeof(x.x87));
    memset(&y.x87, 0, sizeof(y.x87));
    return x87_equal(&a->x87, &b->x87) && !memcmp(&x, &y, sizeof(x));
}

/* Values of a state in the order of its table, and where we are in the other's. */
struct comparison {
    u64 values[1024];
    unsigned count, at;
    FILE *report;
};
static void note_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    struct comparison *c = opaque;

    if (c->count < ARRAY_SIZE(c->values))
        c->values[c->count++] = value;
}
static void compare_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    struct comparison *c = opaque;

    if (c->values[c->at] != value)
        fprintf(c->report, "    %s: %#llx, translated %#llx\n", path, (unsigned long long)c->values[c->at],
                (unsigned long long)value);
    c->at++;
}
static void ignore_bytes(void *opaque, const char *path, const struct state_field *field, const u8 *data,
                         size_t len)
{
}

static void print_vector(FILE *to, const u8 *v)
{
    for (unsigned n = 32; n--;)
        fprintf(to, "%02x%s", v[n], n == 16 ? ":" : "");
}

static void report_state(const struct vcpu_state *a, const struct vcpu_state *b, FILE *report)
{
    struct comparison c = {.report = report};

    state_visit(&vcpu_state_table, a, &(struct state_visitor){note_value, ignore_bytes, &c});
    state_visit(&vcpu_state_table, b, &(struct state_visitor){compare_value, ignore_bytes, &c});
    for (unsigned n = 0; n < 16; n++)
        if (memcmp(a->vec[n], b->vec[n], 32)) {
            fprintf(report, "    ymm%u: ", n);
            print_vector(report, a->vec[n]);
            fprintf(report, ", translated ");
            print_vector(report, b->vec[n]);
            fprintf(report, "\n");
        }
}

/* The first few bytes. */
static void report_memory(const struct machine *a, const struct machine *b, FILE *report)
{
    unsigned lines = 0;

    for (unsigned at = 0; at < RAM_SIZE && lines < 8; at += 8)
        if (get64(a, at) != get64(b, at)) {
            fprintf(report, "    memory at %#x: %#llx, translated %#llx\n", at,
                    (unsigned long long)get64(a, at), (unsigned long long)get64(b, at));
            lines++;
        }
}

bool machine_equal(const struct machine *a, const struct machine *b, bool memory, FILE *report)
{
    bool states = state_equal(&a->vcpu->state, &b->vcpu->state),
         contents = !memory || !memcmp(a->host, b->host, RAM_SIZE);

    if (report && !states)
        report_state(&a->vcpu->state, &b->vcpu->state, report);
    if (report && !contents)
        report_memory(a, b, report);
    return states && contents;
}
