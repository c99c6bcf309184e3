/* Local APICs on their bus, with processors that only write down what is done to them. */
#include "chip_test.h"
#include "dev/lapic.h"

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_LINT1 = 0x360,
    LVT_ERROR = 0x370,
    INITIAL_COUNT = 0x380,
    CURRENT_COUNT = 0x390,
    DIVIDE = 0x3e0,
};
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, TSC_DEADLINE = 1 << 18, EXTINT = 0x700, NMI = 0x400 };
enum { CPUS = 4 };

struct cpu {
    pthread_mutex_t *lock; /* the device lock */
    bool interrupt;
    unsigned nmis, smis, inits, sipis;
    u8 sipi_vector;
    u64 base;
};

struct fixture {
    struct bench bench;
    pthread_mutex_t lock;
    struct lapic_bus bus;
    struct lapic apics[CPUS];
    struct cpu cpus[CPUS];
    unsigned eois;
    u8 eoi_vector;
    bool intr;
};

static void cpu_interrupt(void *opaque, bool pending)
{
    ((struct cpu *)opaque)->interrupt = pending;
}
static void cpu_nmi(void *opaque)
{
    ((struct cpu *)opaque)->nmis++;
}
static void cpu_smi(void *opaque)
{
    ((struct cpu *)opaque)->smis++;
}
static void cpu_init(void *opaque)
{
    ((struct cpu *)opaque)->inits++;
}
static void cpu_sipi(void *opaque, u8 vector)
{
    ((struct cpu *)opaque)->sipis++;
    ((struct cpu *)opaque)->sipi_vector = vector;
}
static void cpu_base_changed(void *opaque, u64 base)
{
    ((struct cpu *)opaque)->base = base;
}
static void cpu_lock(void *opaque)
{
    pthread_mutex_lock(((struct cpu *)opaque)->lock);
}
static void cpu_unlock(void *opaque)
{
    pthread_mutex_unlock(((struct cpu *)opaque)->lock);
}
static u64 cpu_tsc_to_ns(void *opaque, u64 tsc)
{
    return tsc;
} /* 1 GHz */

static const struct lapic_cpu_ops cpu_ops = {
    .interrupt = cpu_interrupt,
    .nmi = cpu_nmi,
    .smi = cpu_smi,
    .init = cpu_init,
    .sipi = cpu_sipi,
    .base_changed = cpu_base_changed,
    .lock = cpu_lock,
    .unlock = cpu_unlock,
    .tsc_to_ns = cpu_tsc_to_ns,
};

/* The callers' rule that the device lock is held is checked by the lock being of the error-checking kind. */
static void assert_locked(struct fixture *f)
{
    assert_int_not_equal(pthread_mutex_trylock(&f->lock), 0);
}

static void on_eoi(void *opaque, u8 vector)
{
    struct fixture *f = opaque;

    assert_locked(f);
    f->eois++;
    f->eoi_vector = vector;
}

static int extint_ack(void *opaque)
{
    struct fixture *f = opaque;

    assert_locked(f);
    f->intr = false;
    lapic_bus_lint(&f->bus, 0).set(&f->bus, 0, false);
    return 0x33;
}

static u32 mmio_read(struct fixture *f, unsigned cpu, u32 offset)
{
    return (u32)lapic_intc_ops.mmio_read(&f->apics[cpu], offset, 4);
}
static void mmio_write(struct fixture *f, unsigned cpu, u32 offset, u32 value)
{
    lapic_intc_ops.mmio_write(&f->apics[cpu], offset, 4, value);
}
static int ack(struct fixture *f, unsigned cpu)
{
    return lapic_intc_ops.ack(&f->apics[cpu]);
}

static void set_lint(struct fixture *f, unsigned pin, bool level)
{
    struct irq_line line = lapic_bus_lint(&f->bus, pin);

    pthread_mutex_lock(&f->lock);
    irq_line_set(&line, level);
    pthread_mutex_unlock(&f->lock);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    bench_init(&f->bench);
    pthread_mutex_init(&f->lock, NULL);
    f->bus.extint_ack = extint_ack;
    f->bus.extint_opaque = f;
    f->bus.eoi = on_eoi;
    f->bus.eoi_opaque = f;
    for (unsigned i = 0; i < CPUS; i++) {
        f->cpus[i].lock = &f->lock;
        lapic_init(&f->apics[i], &f->bus, i, &f->bench.timers, &cpu_ops, &f->cpus[i]);
        mmio_write(f, i, SVR, 0x1ff);
        mmio_write(f, i, LDR, 1u << (24 + i));
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static void ipi(struct fixture *f, unsigned from, u32 dest, u32 low)
{
    mmio_write(f, from, ICR_HIGH, dest << 24);
    mmio_write(f, from, ICR, low);
}

/* Which processors have something to deliver, as a bitmap. */
static unsigned pending(struct fixture *f)
{
    unsigned set = 0;

    for (unsigned i = 0; i < CPUS; i++)
        set |= (unsigned)f->cpus[i].interrupt << i;
    return set;
}

static void drop_all(struct fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++)
        while (ack(f, i) >= 0)
            mmio_write(f, i, EOI, 0);
}

/* ---- Registers ---- */

static void test_power_up(void **state)
{
    struct fixture *f = *state;

    lapic_reset(&f->apics[0]);
    lapic_reset(&f->apics[1]);
    assert_int_equal(f->cpus[0].base, 0xfee00900);
    assert_int_equal(f->cpus[1].base, 0xfee00800);
    assert_int_equal(mmio_read(f, 1, ID), 1 << 24);
    assert_int_equal(mmio_read(f, 1, VERSION) & 0xff00ff, 0x050014);
    assert_int_equal(mmio_read(f, 0, SVR), 0xff);
    assert_int_equal(mmio_read(f, 0, DFR), 0xffffffff);
    assert_int_equal(mmio_read(f, 0, LDR), 0);
    for (u32 lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 0x10)
        assert_int_equal(mmio_read(f, 0, lvt), MASKED);
}

static void test_register_widths(void **state)
{
    struct fixture *f = *state;
    void *apic = &f->apics[1];

    assert_int_equal(lapic_intc_ops.mmio_read(apic, ID + 3, 1), 1);
    assert_int_equal(lapic_intc_ops.mmio_read(apic, ID, 2), 0);
    assert_int_equal(lapic_intc_ops.mmio_read(apic, ID, 8), 1 << 24);
    assert_int_equal(lapic_intc_ops.mmio_read(apic, ID + 4, 4), 0);
    lapic_intc_ops.mmio_write(apic, TPR, 1, 0x40); /* parts are not written */
    assert_int_equal(mmio_read(f, 1, TPR), 0);
    lapic_intc_ops.mmio_write(apic, TPR, 8, 0x1100000040);
    assert_int_equal(mmio_read(f, 1, TPR), 0x40);
    mmio_write(f, 1, LDR, 0xffffffff);
    assert_int_equal(mmio_read(f, 1, LDR), 0xff000000);
    mmio_write(f, 1, LVT_LINT0, 0xffffffff);
    assert_int_equal(mmio_read(f, 1, LVT_LINT0), 0x1a7ff);
}

static void test_software_disable_masks(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, LVT_TIMER, 0x40);
    assert_int_equal(mmio_read(f, 0, LVT_TIMER), 0x40);
    mmio_write(f, 0, SVR, 0xff);
    assert_int_equal(mmio_read(f, 0, LVT_TIMER), 0x40 | MASKED);
    mmio_write(f, 0, LVT_TIMER, 0x40);
    assert_int_equal(mmio_read(f, 0, LVT_TIMER), 0x40 | MASKED);
    ipi(f, 1, 0, 0x4050); /* not accepted */
    assert_int_equal(mmio_read(f, 0, IRR + 0x20), 0);
    ipi(f, 1, 0, NMI | 0x4000); /* accepted all the same */
    assert_int_equal(f->cpus[0].nmis, 1);
}

/* ---- Priorities ---- */

static void test_priorities(void **state)
{
    struct fixture *f = *state;

    ipi(f, 1, 0, 0x4051);
    ipi(f, 1, 0, 0x4061);
    assert_true(f->cpus[0].interrupt);
    assert_int_equal(ack(f, 0), 0x61);
    assert_false(f->cpus[0].interrupt); /* 51h waits behind 61h */
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(mmio_read(f, 0, PPR), 0x60);
    ipi(f, 1, 0, 0x4069); /* same class: no nesting */
    assert_false(f->cpus[0].interrupt);
    ipi(f, 1, 0, 0x4071);
    assert_true(f->cpus[0].interrupt);
    assert_int_equal(ack(f, 0), 0x71);
    mmio_write(f, 0, EOI, 0);
    assert_false(f->cpus[0].interrupt);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(ack(f, 0), 0x69);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(ack(f, 0), 0x51);
    mmio_write(f, 0, EOI, 0);
    mmio_write(f, 0, EOI, 0); /* nothing in service */
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(f->eois, 0); /* all were edges */
}

static void test_task_priority(void **state)
{
    struct fixture *f = *state;

    lapic_intc_ops.set_tpr(&f->apics[0], 5);
    assert_int_equal(mmio_read(f, 0, TPR), 0x50);
    ipi(f, 1, 0, 0x405f);
    assert_false(f->cpus[0].interrupt);
    assert_int_equal(ack(f, 0), -1);
    lapic_intc_ops.set_tpr(&f->apics[0], 4);
    assert_true(f->cpus[0].interrupt);
    mmio_write(f, 0, TPR, 0xff);
    assert_false(f->cpus[0].interrupt);
    assert_int_equal(lapic_intc_ops.get_tpr(&f->apics[0]), 0xf);
}

/* ---- Messages ---- */

static void test_destinations(void **state)
{
    /* destination, ICR low: which of the four processors get it */
    static const struct {
        u32 dest, low;
        unsigned expect;
    } cases[] = {
        {2, 0x4050, 0x4},     /* physical */
        {9, 0x4050, 0x0},     /* nobody */
        {0xff, 0x4050, 0xf},  /* broadcast */
        {0x0a, 0x4850, 0xa},  /* logical, flat */
        {0xff, 0x4850, 0xf},  /* logical broadcast */
        {0x00, 0x44050, 0x2}, /* self */
        {0x00, 0x84050, 0xf}, /* all */
        {0x00, 0xc4050, 0xd}, /* all but self */
        {0x0c, 0x4950, 0x4},  /* lowest priority: one of two */
        {0x00, 0x405, 0x0},   /* vector 5 cannot be */
        {0x02, 0x4350, 0x0},  /* reserved mode */
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        ipi(f, 1, cases[i].dest, cases[i].low);
        assert_int_equal(pending(f), cases[i].expect);
        drop_all(f);
    }
}

static void test_cluster_destinations(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < CPUS; i++) {
        mmio_write(f, i, DFR, 0x0fffffff);
        mmio_write(f, i, LDR, (i / 2 << 4 | 1u << i % 2) << 24);
    }
    ipi(f, 0, 0x03, 0x4850);
    assert_int_equal(pending(f), 0x3);
    drop_all(f);
    ipi(f, 0, 0x12, 0x4850);
    assert_int_equal(pending(f), 0x8);
    drop_all(f);
    ipi(f, 0, 0xff, 0x4850);
    assert_int_equal(pending(f), 0xf);
}

static void test_lowest_priority_goes_to_the_idlest(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 2, TPR, 0x80);
    ipi(f, 0, 0x0c, 0x4990);
    assert_int_equal(pending(f), 0x8);
    drop_all(f);
    mmio_write(f, 3, SVR, 0xff); /* a processor that is switched off takes none */
    ipi(f, 0, 0x0c, 0x4990);
    assert_int_equal(pending(f), 0x4);
}

static void test_signals(void **state)
{
    struct fixture *f = *state;

    ipi(f, 0, 1, 0x4500);  /* INIT */
    ipi(f, 0, 1, 0x8500);  /* INIT level de-assert: nothing */
    ipi(f, 0, 1, 0x469a);  /* SIPI */
    ipi(f, 0, 1, 0x4200);  /* SMI */
    ipi(f, 0, 0, 0xc4400); /* NMI to all others */
    assert_int_equal(f->cpus[1].inits, 1);
    assert_int_equal(f->cpus[1].sipis, 1);
    assert_int_equal(f->cpus[1].sipi_vector, 0x9a);
    assert_int_equal(f->cpus[1].smis, 1);
    assert_int_equal(f->cpus[0].nmis, 0);
    assert_int_equal(f->cpus[3].nmis, 1);
    ipi(f, 0, 0, 0x44500); /* INIT to self: not valid */
    ipi(f, 0, 0, 0x84600); /* SIPI to all: not valid */
    assert_int_equal(f->cpus[0].inits, 0);
    assert_int_equal(f->cpus[2].sipis, 0);
}

static void test_init_keeps_the_mode(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 1, LVT_TIMER, 0x40);
    mmio_write(f, 1, INITIAL_COUNT, 1000);
    ipi(f, 0, 1, 0x4050);
    lapic_intc_ops.init(&f->apics[1]);
    assert_false(f->cpus[1].interrupt);
    assert_int_equal(mmio_read(f, 1, ID), 1 << 24);
    assert_int_equal(mmio_read(f, 1, SVR), 0xff);
    assert_int_equal(mmio_read(f, 1, INITIAL_COUNT), 0);
    bench_run(&f->bench, 10000);
    assert_false(f->cpus[1].interrupt);
}

static void test_msi(void **state)
{
    struct fixture *f = *state;

    lapic_bus_msi(&f->bus, 0xfee02000, 0x61); /* physical, processor 2, edge */
    assert_int_equal(pending(f), 0x4);
    assert_int_equal(ack(f, 2), 0x61);
    mmio_write(f, 2, EOI, 0);
    assert_int_equal(f->eois, 0);
    lapic_bus_msi(&f->bus, 0xfee02000, 0xc061); /* level: its EOI is broadcast */
    assert_int_equal(mmio_read(f, 2, TMR + 0x30), 2);
    assert_int_equal(ack(f, 2), 0x61);
    mmio_write(f, 2, EOI, 0);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi_vector, 0x61);
    lapic_bus_msi(&f->bus, 0xfee0c00c, 0x62); /* logical with redirection hint: one of 2 and 3 */
    assert_int_equal(pending(f), 0x4);
    drop_all(f);
    lapic_bus_msi(&f->bus, 0xfed00000, 0x62); /* not an APIC's address */
    lapic_bus_msi(&f->bus, 0x1fee00000, 0x62);
    assert_int_equal(pending(f), 0);
    lapic_bus_msi(&f->bus, 0xfee01000, NMI);
    assert_int_equal(f->cpus[1].nmis, 1);
}

static void test_eoi_broadcast_can_be_suppressed(void **state)
{
    struct fixture *f = *state;

    assert_true(mmio_read(f, 0, VERSION) >> 24 & 1);
    mmio_write(f, 0, SVR, 0x11ff);
    lapic_bus_msi(&f->bus, 0xfee00000, 0xc061);
    assert_int_equal(ack(f, 0), 0x61);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(f->eois, 0);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, LVT_ERROR, 0xfe);
    ipi(f, 0, 1, 0x4007); /* send illegal vector */
    assert_int_equal(mmio_read(f, 0, ESR), 0);
    assert_int_equal(ack(f, 0), 0xfe);
    mmio_write(f, 0, EOI, 0);
    ipi(f, 0, 1, 0x4008); /* the same again is no new error */
    assert_false(f->cpus[0].interrupt);
    mmio_write(f, 0, ESR, 0);
    assert_int_equal(mmio_read(f, 0, ESR), 1 << 5);
    lapic_bus_msi(&f->bus, 0xfee00000, 0x05); /* receive illegal vector */
    mmio_write(f, 0, 0x3f0, 0x55);            /* no such register in an xAPIC */
    (void)mmio_read(f, 0, 0xff0);
    mmio_write(f, 0, ESR, 0);
    assert_int_equal(mmio_read(f, 0, ESR), 1 << 6 | 1 << 7);
    mmio_write(f, 0, ESR, 0);
    assert_int_equal(mmio_read(f, 0, ESR), 0);
    drop_all(f);
    mmio_write(f, 0, LVT_ERROR, 0x04); /* an error vector that is illegal itself: no recursion */
    ipi(f, 0, 1, 0x4007);
    assert_false(f->cpus[0].interrupt);
}

/* ---- Pins ---- */

static void test_extint(void **state)
{
    struct fixture *f = *state;

    set_lint(f, 0, true);
    assert_int_equal(pending(f), 0); /* masked */
    mmio_write(f, 0, LVT_LINT0, EXTINT);
    assert_int_equal(pending(f), 1);
    lapic_intc_ops.set_tpr(&f->apics[0], 15); /* no matter */
    assert_int_equal(pending(f), 1);
    set_lint(f, 0, false);
    assert_int_equal(pending(f), 0);
    assert_int_equal(ack(f, 0), -1);
    set_lint(f, 0, true);
    assert_int_equal(ack(f, 0), 0x33);
    assert_int_equal(pending(f), 0);
    assert_int_equal(mmio_read(f, 0, ISR + 0x10), 0); /* not in service here */
}

static void test_extint_with_the_apic_off(void **state)
{
    struct fixture *f = *state;

    assert_true(lapic_intc_ops.set_base(&f->apics[0], 0xfee00100));
    set_lint(f, 0, true);
    assert_int_equal(pending(f), 1);
    assert_int_equal(ack(f, 0), 0x33);
    set_lint(f, 1, true);
    assert_int_equal(f->cpus[0].nmis, 1);
    ipi(f, 1, 0, 0x4050);
    assert_int_equal(pending(f), 0);
}

static void test_extint_message(void **state)
{
    struct fixture *f = *state;

    lapic_bus_msi(&f->bus, 0xfee01000, EXTINT);
    assert_int_equal(pending(f), 2);
    assert_int_equal(ack(f, 1), 0x33);
    assert_int_equal(pending(f), 0);
}

static void test_lint1_nmi(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 2, LVT_LINT1, NMI);
    set_lint(f, 1, true);
    set_lint(f, 1, true);
    assert_int_equal(f->cpus[2].nmis, 1);
    set_lint(f, 1, false);
    set_lint(f, 1, true);
    assert_int_equal(f->cpus[2].nmis, 2);
    assert_int_equal(f->cpus[1].nmis, 0);
}

static void test_lint_level_triggered(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, LVT_LINT0, 0x8055);
    set_lint(f, 0, true);
    assert_int_equal(mmio_read(f, 0, LVT_LINT0), 0xc055); /* remote IRR */
    assert_int_equal(ack(f, 0), 0x55);
    assert_false(f->cpus[0].interrupt);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(ack(f, 0), 0x55); /* still high */
    set_lint(f, 0, false);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(mmio_read(f, 0, LVT_LINT0), 0x8055);
}

/* ---- Timer ---- */

static void test_timer_one_shot(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, LVT_TIMER, 0x40);
    mmio_write(f, 0, DIVIDE, 3); /* by 16 */
    mmio_write(f, 0, INITIAL_COUNT, 1000);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 1000);
    bench_run(&f->bench, 1600);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 900);
    mmio_write(f, 0, DIVIDE, 0xb); /* by 1: the rest runs faster */
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 900);
    bench_run(&f->bench, 899);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 1);
    assert_false(f->cpus[0].interrupt);
    bench_run(&f->bench, 1);
    assert_int_equal(ack(f, 0), 0x40);
    mmio_write(f, 0, EOI, 0);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 0);
    bench_run(&f->bench, 100000);
    assert_false(f->cpus[0].interrupt);
    mmio_write(f, 0, INITIAL_COUNT, 10);
    mmio_write(f, 0, INITIAL_COUNT, 0); /* stops it */
    bench_run(&f->bench, 100000);
    assert_false(f->cpus[0].interrupt);
}

static void test_timer_dividers(void **state)
{
    static const u8 encoded[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};
    struct fixture *f = *state;

    mmio_write(f, 0, LVT_TIMER, MASKED);
    for (unsigned i = 0; i < ARRAY_SIZE(encoded); i++) {
        mmio_write(f, 0, DIVIDE, encoded[i]);
        mmio_write(f, 0, INITIAL_COUNT, 1000);
        bench_run(&f->bench, 10u << i);
        assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 990);
    }
}

static void test_timer_periodic(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, DIVIDE, 0xb);
    mmio_write(f, 0, LVT_TIMER, 0x40 | PERIODIC);
    mmio_write(f, 0, INITIAL_COUNT, 1000);
    for (unsigned i = 0; i < 3; i++) {
        bench_run(&f->bench, 999);
        assert_int_equal(ack(f, 0), -1);
        bench_run(&f->bench, 1);
        assert_int_equal(ack(f, 0), 0x40);
        mmio_write(f, 0, EOI, 0);
        assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 1000);
    }
    /* Late by many periods: one interrupt, and back in step. */
    clock_advance(&f->bench.clock, 10300);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 700);
    timer_queue_run(&f->bench.timers, clock_now(&f->bench.clock));
    assert_int_equal(ack(f, 0), 0x40);
    mmio_write(f, 0, EOI, 0);
    bench_run(&f->bench, 699);
    assert_int_equal(ack(f, 0), -1);
    bench_run(&f->bench, 1);
    assert_int_equal(ack(f, 0), 0x40);
    mmio_write(f, 0, EOI, 0);
    mmio_write(f, 0, LVT_TIMER, 0x40 | PERIODIC | MASKED); /* counts on in silence */
    bench_run(&f->bench, 5500);
    assert_int_equal(ack(f, 0), -1);
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 500);
}

static void test_timer_tsc_deadline(void **state)
{
    struct fixture *f = *state;
    void *apic = &f->apics[0];
    u64 value;

    assert_true(lapic_intc_ops.msr_write(apic, 0x6e0, 500)); /* not in that mode: ignored */
    assert_true(lapic_intc_ops.msr_read(apic, 0x6e0, &value));
    assert_int_equal(value, 0);
    mmio_write(f, 0, LVT_TIMER, 0x40 | TSC_DEADLINE);
    mmio_write(f, 0, INITIAL_COUNT, 100); /* ignored in that mode */
    assert_int_equal(mmio_read(f, 0, CURRENT_COUNT), 0);
    assert_true(lapic_intc_ops.msr_write(apic, 0x6e0, 500));
    bench_run(&f->bench, 499);
    assert_false(f->cpus[0].interrupt);
    assert_true(lapic_intc_ops.msr_read(apic, 0x6e0, &value));
    assert_int_equal(value, 500);
    bench_run(&f->bench, 1);
    assert_int_equal(ack(f, 0), 0x40);
    mmio_write(f, 0, EOI, 0);
    assert_true(lapic_intc_ops.msr_read(apic, 0x6e0, &value));
    assert_int_equal(value, 0);
    assert_true(lapic_intc_ops.msr_write(apic, 0x6e0, 400)); /* past: now */
    bench_run(&f->bench, 0);
    assert_int_equal(ack(f, 0), 0x40);
    mmio_write(f, 0, EOI, 0);
    assert_true(lapic_intc_ops.msr_write(apic, 0x6e0, 10000));
    mmio_write(f, 0, LVT_TIMER, 0x40); /* leaving the mode disarms */
    bench_run(&f->bench, 100000);
    assert_false(f->cpus[0].interrupt);
}

/* A period of a few nanoseconds, and time that jumps by hours: the queue comes back. */
static void test_timer_cannot_hang_us(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, DIVIDE, 0xb);
    mmio_write(f, 0, LVT_TIMER, 0x40 | PERIODIC);
    mmio_write(f, 0, INITIAL_COUNT, 1);
    clock_advance(&f->bench.clock, (u64)3600 * 1000000000);
    timer_queue_run(&f->bench.timers, clock_now(&f->bench.clock));
    assert_int_equal(ack(f, 0), 0x40);
    assert_true(timer_queue_deadline(&f->bench.timers) > clock_now(&f->bench.clock));
}

/* ---- Modes ---- */

enum { OFF = 0x000, XAPIC = 0x800, INVALID = 0x400, X2APIC = 0xc00 };

static void test_mode_transitions(void **state)
{
    /* SDM 3A figure 11-27, all sixteen pairs */
    static const struct {
        u64 from, to;
        bool allowed;
    } cases[] = {
        {OFF, OFF, true},    {OFF, XAPIC, true},     {OFF, X2APIC, false},   {OFF, INVALID, false},
        {XAPIC, OFF, true},  {XAPIC, XAPIC, true},   {XAPIC, X2APIC, true},  {XAPIC, INVALID, false},
        {X2APIC, OFF, true}, {X2APIC, XAPIC, false}, {X2APIC, X2APIC, true}, {X2APIC, INVALID, false},
    };
    struct fixture *f = *state;
    struct lapic *apic = &f->apics[3];

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        lapic_reset(apic);
        if (cases[i].from != XAPIC)
            assert_true(lapic_intc_ops.set_base(apic, 0xfee00000 | cases[i].from));
        assert_int_equal(lapic_intc_ops.set_base(apic, 0xfee00000 | cases[i].to), cases[i].allowed);
        assert_int_equal(lapic_intc_ops.get_base(apic),
                         0xfee00000 | (cases[i].allowed ? cases[i].to : cases[i].from));
    }
    lapic_reset(apic);
    for (unsigned bit = 0; bit < 8; bit++)
        assert_false(lapic_intc_ops.set_base(apic, 0xfee00800 | 1u << bit));
    assert_false(lapic_intc_ops.set_base(apic, 0xfee00a00));
    assert_false(lapic_intc_ops.set_base(apic, 0xfee00800 | (u64)1 << 60));
    assert_true(lapic_intc_ops.set_base(apic, 0x12345800));
    assert_int_equal(f->cpus[3].base, 0x12345800);
}

static void to_x2apic(struct fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(lapic_intc_ops.set_base(&f->apics[i], 0xfee00000 | X2APIC));
}

static void test_x2apic_registers(void **state)
{
    struct fixture *f = *state;
    struct lapic *apic = &f->apics[3];
    u64 value;

    assert_false(lapic_intc_ops.msr_read(apic, 0x802, &value)); /* not in xAPIC mode */
    to_x2apic(f);
    assert_true(lapic_intc_ops.msr_read(apic, 0x802, &value));
    assert_int_equal(value, 3);
    assert_true(lapic_intc_ops.msr_read(apic, 0x80d, &value));
    assert_int_equal(value, 1 << 3);
    assert_true(lapic_intc_ops.msr_read(apic, 0x80f, &value));
    assert_int_equal(value, 0x1ff);                             /* state goes along from xAPIC mode */
    assert_false(lapic_intc_ops.msr_write(apic, 0x802, 0));     /* read-only */
    assert_false(lapic_intc_ops.msr_read(apic, 0x80b, &value)); /* write-only */
    assert_false(lapic_intc_ops.msr_read(apic, 0x83f, &value));
    assert_false(lapic_intc_ops.msr_read(apic, 0x80e, &value)); /* DFR is gone */
    assert_false(lapic_intc_ops.msr_write(apic, 0x831, 0));
    assert_false(lapic_intc_ops.msr_read(apic, 0x840, &value));
    assert_false(lapic_intc_ops.msr_read(apic, 0x8ff, &value));
    assert_false(lapic_intc_ops.msr_write(apic, 0x80b, 1)); /* EOI takes 0 */
    assert_true(lapic_intc_ops.msr_write(apic, 0x80b, 0));
    assert_false(lapic_intc_ops.msr_write(apic, 0x828, 1));
    assert_false(lapic_intc_ops.msr_write(apic, 0x808, 0x100));
    assert_false(lapic_intc_ops.msr_write(apic, 0x832, (u64)1 << 32));
    assert_false(lapic_intc_ops.msr_write(apic, 0x83e, 4));
    assert_true(lapic_intc_ops.msr_write(apic, 0x83e, 0xb));
}

static void test_x2apic_ipis(void **state)
{
    struct fixture *f = *state;
    struct lapic *apic = &f->apics[0];
    u64 value;

    to_x2apic(f);
    assert_true(lapic_intc_ops.msr_write(apic, 0x830, (u64)2 << 32 | 0x4050));
    assert_int_equal(pending(f), 0x4);
    assert_true(lapic_intc_ops.msr_read(apic, 0x830, &value));
    assert_int_equal(value, (u64)2 << 32 | 0x4050);
    assert_int_equal(ack(f, 2), 0x50);
    assert_true(lapic_intc_ops.msr_write(&f->apics[2], 0x80b, 0));
    assert_true(
        lapic_intc_ops.msr_write(apic, 0x830, (u64)0xa << 32 | 0x4850)); /* cluster 0, members 1 and 3 */
    assert_int_equal(pending(f), 0xa);
    assert_int_equal(ack(f, 1), 0x50);
    assert_int_equal(ack(f, 3), 0x50);
    assert_true(lapic_intc_ops.msr_write(apic, 0x830, (u64)0x1000a << 32 | 0x4860)); /* cluster 1: nobody */
    assert_int_equal(pending(f), 0);
    assert_true(
        lapic_intc_ops.msr_write(apic, 0x830, (u64)0xff << 32 | 0x4060)); /* FFh is no broadcast here */
    assert_int_equal(pending(f), 0);
    assert_true(lapic_intc_ops.msr_write(apic, 0x830, (u64)0xffffffff << 32 | 0x4060));
    assert_int_equal(pending(f), 0xf);
    assert_int_equal(ack(f, 0), 0x60);
    assert_true(lapic_intc_ops.msr_write(apic, 0x83f, 0x71)); /* self IPI */
    assert_int_equal(ack(f, 0), 0x71);
    assert_false(lapic_intc_ops.msr_write(apic, 0x83f, 0x171));
}

/* Off and on again: as after power-up. */
static void test_global_disable_resets(void **state)
{
    struct fixture *f = *state;

    mmio_write(f, 0, TPR, 0x20);
    ipi(f, 0, 0, 0x4050);
    assert_true(lapic_intc_ops.set_base(&f->apics[0], 0xfee00100));
    assert_false(f->cpus[0].interrupt);
    assert_true(lapic_intc_ops.set_base(&f->apics[0], 0xfee00900));
    assert_int_equal(mmio_read(f, 0, TPR), 0);
    assert_int_equal(mmio_read(f, 0, SVR), 0xff);
}

/* ---- State, and a guest that hammers ---- */

static void test_state(void **state)
{
    struct fixture *f = *state;
    u64 seed = 3;

    mmio_write(f, 0, LVT_TIMER, 0x40 | PERIODIC);
    mmio_write(f, 0, INITIAL_COUNT, 12345);
    mmio_write(f, 0, LVT_LINT0, EXTINT);
    ipi(f, 1, 0, 0x4050);
    ipi(f, 1, 0, 0x4060);
    assert_int_equal(ack(f, 0), 0x60);
    assert_state_round_trip(&lapic_state_table, &f->apics[0], &f->apics[2]);
    assert_false(f->cpus[2].interrupt); /* 50h waits behind 60h there too */
    mmio_write(f, 2, EOI, 0);
    assert_int_equal(ack(f, 2), 0x50);
    bench_run(&f->bench, 2 * 12345);
    mmio_write(f, 2, EOI, 0);
    assert_int_equal(ack(f, 2), 0x40);
    load_damaged_state(&lapic_state_table, &f->apics[2], &seed, 2000);
    lapic_reset(&f->apics[2]);
}

static void test_state_refused(void **state)
{
    struct fixture *f = *state;
    struct state_buf saved = {0};
    struct state_reader reader;
    struct error err = {{0}};

    f->apics[0].base = 0xfee00400; /* x2APIC without APIC */
    state_save(&lapic_state_table, &f->apics[0], &saved);
    reader = (struct state_reader){.data = saved.data, .len = saved.len, .what = "test"};
    assert_int_equal(state_load(&lapic_state_table, &f->apics[1], &reader, &err), -1);
    assert_non_null(strstr(err.text, "base"));
    state_buf_free(&saved);
}

static void test_hammer(void **state)
{
    struct fixture *f = *state;
    u64 seed = 42, value;

    for (unsigned i = 0; i < 200000; i++) {
        struct lapic *apic = &f->apics[random_u64(&seed) % CPUS];
        u64 r = random_u64(&seed);
        u32 offset = r >> 20 & 0xff8;
        unsigned size = 1u << (r >> 40 & 3);

        switch (r % 8) {
        case 0: lapic_intc_ops.mmio_read(apic, offset + (size < 8 ? r >> 50 & 4 : 0), size); break;
        case 1:
        case 2: lapic_intc_ops.mmio_write(apic, (offset & 0x3f0), 4, random_u64(&seed)); break;
        case 3: lapic_intc_ops.msr_read(apic, 0x800 + (offset & 0xff), &value); break;
        case 4:
            lapic_intc_ops.msr_write(apic, r & 16 ? 0x6e0 : 0x800 + (offset & 0x3f), random_u64(&seed) & r);
            break;
        case 5: lapic_intc_ops.ack(apic); break;
        case 6:
            if (r >> 60 == 0)
                lapic_intc_ops.set_base(apic, 0xfee00000 | (random_u64(&seed) & 0xc00));
            else if (r >> 60 == 1)
                lapic_intc_ops.init(apic);
            else
                lapic_bus_msi(&f->bus, 0xfee00000 | (random_u64(&seed) & 0xfffff), (u32)random_u64(&seed));
            break;
        case 7: set_lint(f, r >> 20 & 1, r >> 21 & 1); break;
        }
        if (i % 16 == 0)
            clock_advance(&f->bench.clock, random_u64(&seed) >> (40 + r % 24));
        pthread_mutex_lock(&f->lock);
        timer_queue_run(&f->bench.timers, clock_now(&f->bench.clock));
        pthread_mutex_unlock(&f->lock);
        assert_true(lapic_intc_ops.get_tpr(apic) < 16);
    }
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_power_up),
        CASE(test_register_widths),
        CASE(test_software_disable_masks),
        CASE(test_priorities),
        CASE(test_task_priority),
        CASE(test_destinations),
        CASE(test_cluster_destinations),
        CASE(test_lowest_priority_goes_to_the_idlest),
        CASE(test_signals),
        CASE(test_init_keeps_the_mode),
        CASE(test_msi),
        CASE(test_eoi_broadcast_can_be_suppressed),
        CASE(test_errors),
        CASE(test_extint),
        CASE(test_extint_with_the_apic_off),
        CASE(test_extint_message),
        CASE(test_lint1_nmi),
        CASE(test_lint_level_triggered),
        CASE(test_timer_one_shot),
        CASE(test_timer_dividers),
        CASE(test_timer_periodic),
        CASE(test_timer_tsc_deadline),
        CASE(test_timer_cannot_hang_us),
        CASE(test_mode_transitions),
        CASE(test_x2apic_registers),
        CASE(test_x2apic_ipis),
        CASE(test_global_disable_resets),
        CASE(test_state),
        CASE(test_state_refused),
        CASE(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
