/*
 * Hardware task switches: every way into a task, both formats of a TSS, the faults of table 8-1 ("Exception Conditions Checked
 * During a Task Switch") and the task that each is raised in. SDM 3A chapter 8 (7 in older editions); CALL, JMP, INT n and
 * IRET in volume 2.
 *
 * The kernel's own task is MAIN, whose TSS is `tss`; TASK is what it switches to. A run ends in the task that is current then;
 * settle() makes MAIN the current task again. A CATCH task is behind a task gate for what the new task itself could not handle.
 */
#include "guest.h"

enum {
    MAIN = SEL_TSS,
    TASK = SEL_TEST,
    GATE = SEL_TEST + 8,
    LDT = SEL_TEST + 16,
    CODE16T = SEL_TEST + 24, /* code and stack of 16-bit tasks: SNIPPETS and STACK_AREA */
    STACK16T = SEL_TEST + 32,
    BAD = SEL_TEST + 40,
    SPARE = SEL_TEST + 48,
    CATCH = SEL_TEST + 64, /* and one more for each vector up to #PF */
    LDT_GATE = 4,          /* in the LDT */
    LDT_TSS = 12,
    LDT_DATA = 20,
    BEYOND = GDT_ENTRIES * 8,
    FLAT = FLAGS_G | FLAGS_D,
    LANDING = 0x100, /* where tasks start: offset from CODE_AREA */
    VECTOR = 0x90,
    ERROR_IDT = 2,
    DPL3 = 3 << ACCESS_DPL_SHIFT,
    BUSY = 2, /* in a TSS's type */
    TRAP_TASK = 1,
    ICR_NMI = 4 << 8,
    ICR_ASSERT = 1 << 14,
    ICR_TO_SELF = 1 << 18,
};

struct tss32 {
    u32 link;
    struct {
        u32 esp, ss;
    } stack[3];
    u32 cr3, eip, eflags;
    u32 gpr[8];
    u32 seg[6];
    u32 ldt;
    u16 trap, io_map;
};
struct tss16 {
    u16 link, stack[6], ip, flags, gpr[8], seg[4], ldt;
};
_Static_assert(sizeof(struct tss32) == 0x68 && sizeof(struct tss16) == 0x2c, "as in the manual");
enum { ES_AT, CS_AT, SS_AT, DS_AT, FS_AT, GS_AT };

static union {
    struct tss32 wide;
    struct tss16 narrow;
    u8 bytes[256];
} task __attribute__((aligned(256))), catcher[PF + 1] __attribute__((aligned(256)));
static u8 catch_stack[4096] __attribute__((aligned(16))), task_stack[4096] __attribute__((aligned(16)));
static u64 ldt[8];

static struct tss32 *main_tss(void)
{
    return (struct tss32 *)tss;
}

/* ---- what a run left ---- */

static struct {
    u16 tr, ldtr;
    ulong cr0, cr3, dr7;
} after;
static bool caught;
static struct trap catch_trap;

/* NT goes, or the next IRET here would be a return to another task. */
extern const u8 catch_entry[];
asm(".text\n catch_entry:\n mov %esp, %edx\n push $2\n popf\n push %edx\n push %eax\n call catch_task\n jmp "
    "run_leave");

static struct tss32 *tss_of(u16 selector)
{
    u64 d = gdt[selector / 8];

    return (struct tss32 *)(ulong)((d >> 16 & 0xffffff) | d >> 56 << 24);
}

/* The CATCH task for `vector` runs: the task before it is the one that was interrupted. */
void catch_task(u32 vector, const u32 *stack);
void catch_task(u32 vector, const u32 *stack)
{
    u16 link = (u16)catcher[vector].wide.link;
    const struct tss32 *wide = tss_of(link);
    const struct tss16 *narrow = (const struct tss16 *)wide;
    bool is_wide = gdt[link / 8] >> 43 & 1;
    ulong gpr[8], seg[6] = {0};

    for (unsigned n = 0; n < 8; n++)
        gpr[n] = is_wide ? wide->gpr[n] : narrow->gpr[n];
    for (unsigned n = 0; n < (is_wide ? 6 : 4); n++)
        seg[n] = is_wide ? wide->seg[n] & 0xffff : narrow->seg[n];
    caught = true;
    catch_trap = (struct trap){
        .vector = (int)vector,
        .error = stack == (u32 *)(catch_stack + sizeof(catch_stack)) ? 0 : *stack,
        .cr2 = read_cr2(),
        .at = {.ax = gpr[0],
               .cx = gpr[1],
               .dx = gpr[2],
               .bx = gpr[3],
               .sp = gpr[4],
               .bp = gpr[5],
               .si = gpr[6],
               .di = gpr[7],
               .ip = is_wide ? wide->eip : narrow->ip,
               .flags = is_wide ? wide->eflags : narrow->flags,
               .es = seg[ES_AT],
               .cs = seg[CS_AT],
               .ss = seg[SS_AT],
               .ds = seg[DS_AT],
               .fs = seg[FS_AT],
               .gs = seg[GS_AT]},
    };
    after.tr = link & ~3;
}

static u16 task_register(void)
{
    u16 tr;

    asm volatile("str %0" : "=rm"(tr));
    return tr;
}

static const struct trap *go(const struct context *c)
{
    const struct trap *trap;

    caught = false;
    trap = run(c);
    if (caught) {
        catch_trap.start = c->ip;
        trap = &catch_trap;
    } else {
        after.tr = task_register() & ~3; /* RPL is that of the selector of the transfer */
    }
    asm volatile("sldt %0" : "=m"(after.ldtr));
    asm volatile("mov %%dr7, %0" : "=r"(after.dr7));
    after.cr0 = read_cr0();
    after.cr3 = read_cr3();
    return trap;
}

static void set_tss(u16 selector, void *at, u32 limit, u8 type)
{
    gdt[selector / 8] = descriptor((u32)at, limit, (u8)(ACCESS_P | type), 0);
}

static struct tss32 task_state(u32 eip)
{
    return (struct tss32){
        .stack = {{(u32)(task_stack + sizeof(task_stack)), SEL_KDATA},
                  {STACK_TOP - 0x2000, SEL_RING_DATA(1)},
                  {STACK_TOP - 0x3000, SEL_RING_DATA(2)}},
        .cr3 = read_cr3(),
        .eip = eip,
        .eflags = FLAG_FIXED,
        .gpr = {0xa0a0a0a0, 0xc1c1c1c1, 0xd2d2d2d2, 0xb3b3b3b3, STACK_TOP - 0x1000, 0x15151515, 0x26262626,
                0x37373737},
        .seg = {SEL_KDATA, SEL_KCODE, SEL_KDATA, SEL_KDATA, SEL_KDATA, SEL_KDATA},
        .io_map = sizeof(struct tss32),
    };
}

/* A new task at a privilege level that is not 0, so that a fault in it finds a stack. */
static void outer_task(unsigned ring)
{
    task.wide.seg[CS_AT] = SEL_RING_CODE(ring);
    for (unsigned n = 0; n < 6; n++)
        if (n != CS_AT)
            task.wide.seg[n] = SEL_RING_DATA(ring);
}

/* MAIN is current, TASK is available and fit to run, nothing else is in the way. */
static void settle(void)
{
    asm volatile("lldt %w0" ::"r"(0));
    asm volatile("mov %0, %%dr7\n mov %1, %%dr6" ::"r"(0x400ul), "r"(0xffff0ff0ul));
    write_cr0(read_cr0() & ~(ulong)CR0_TS);
    load_tss(TSS_LIMIT);
    main_tss()->link = 0;
    memset(&task, 0, sizeof(task));
    task.wide = task_state(CODE_AREA + LANDING);
    set_tss(TASK, &task, sizeof(struct tss32) - 1, DPL3 | TYPE_TSS);
    gdt[GATE / 8] = gate(TASK, 0, ACCESS_P | DPL3 | TYPE_TASK_GATE, 0);
    memset(ldt, 0, sizeof(ldt));
    ldt[LDT_GATE / 8] = gate(TASK, 0, ACCESS_P | DPL3 | TYPE_TASK_GATE, 0);
    ldt[LDT_TSS / 8] = gdt[TASK / 8];
    ldt[LDT_DATA / 8] = descriptor(0, 0xfffff, DATA_RW(3), FLAT);
    gdt[LDT / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, ACCESS_P | TYPE_LDT, 0);
    gdt[CODE16T / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(0), FLAGS_D);
    gdt[STACK16T / 8] = descriptor(STACK_AREA, 0xffff, DATA_RW(0), 0);
    reset_idt();
    place(CODE32("nop"), CODE_AREA + LANDING);
}

/* Let a task take `vector`, as the handler of what a broken task cannot handle. */
static void catch (int vector)
{
    struct tss32 *t = &catcher[vector].wide;
    u16 selector = (u16)(CATCH + 8 * vector);

    *t = task_state((u32)catch_entry);
    t->gpr[0] = (u32)vector;
    t->gpr[4] = (u32)(catch_stack + sizeof(catch_stack));
    set_tss(selector, t, sizeof(*t) - 1, TYPE_TSS);
    set_gate(vector, selector, 0, ACCESS_P | TYPE_TASK_GATE, 0);
}

/* ---- ways into a task ---- */

enum source { BY_JUMP, BY_CALL, BY_SOFTWARE, BY_EXCEPTION, BY_INTERRUPT, BY_RETURN };

struct way {
    const char *name;
    struct code code;
    enum source source;
    u16 selector;   /* of a far transfer */
    int vector;     /* of an event */
    int next;       /* what the old task's saved EIP is: offset */
    bool ring0;     /* cannot be done elsewhere */
    bool has_error; /* pushes `error` */
    u16 error;
};
enum { WAYS = 17 };
static struct way ways[WAYS];

static void list_ways(void)
{
    const struct way list[WAYS] = {
        {"JMP to a TSS", CODE32("jmp fword ptr [ebx]"), BY_JUMP, TASK, .next = 2},
        {"JMP direct", CODE32(".byte 0xea, 0, 0, 0, 0, 0xa0, 0"), BY_JUMP, TASK, .next = 7},
        {"JMP to a gate", CODE32("jmp fword ptr [ebx]"), BY_JUMP, GATE, .next = 2},
        {"JMP to a gate in the LDT", CODE32("jmp fword ptr [ebx]"), BY_JUMP, LDT_GATE, .next = 2},
        {"CALL to a TSS", CODE32("call fword ptr [ebx]"), BY_CALL, TASK, .next = 2},
        {"CALL direct", CODE32(".byte 0x9a, 0, 0, 0, 0, 0xa0, 0"), BY_CALL, TASK, .next = 7},
        {"CALL to a gate", CODE32("call fword ptr [ebx]"), BY_CALL, GATE, .next = 2},
        {"CALL to a gate in the LDT", CODE32("call fword ptr [ebx]"), BY_CALL, LDT_GATE, .next = 2},
        {"INT n", CODE32("int 0x90"), BY_SOFTWARE, .vector = VECTOR, .next = 2},
        {"INT3", CODE32("int3"), BY_SOFTWARE, .vector = BP, .next = 1},
        {"INTO", CODE32("into"), BY_SOFTWARE, .vector = OF, .next = 1},
        {"INT1", CODE32(".byte 0xf1"), BY_INTERRUPT, .vector = DB, .next = 1},
        {"#UD", CODE32("ud2"), BY_EXCEPTION, .vector = UD, .next = 0},
        {"#GP", CODE32("mov ds, cx"), BY_EXCEPTION, .vector = GP, .next = 0, .has_error = true,
         .error = BEYOND},
        {"an interrupt", CODE32("sti\n nop\n nop"), BY_INTERRUPT, .vector = VECTOR, .next = 2, .ring0 = true},
        {"NMI", CODE32("mov ds:[0xfee00300], eax\n nop"), BY_INTERRUPT, .vector = NMI, .next = 5,
         .ring0 = true},
        {"IRET", CODE32("iret"), BY_RETURN, .next = 1},
    };

    memcpy(ways, list, sizeof(list));
}

static bool nests(const struct way *w)
{
    return w->source != BY_JUMP && w->source != BY_RETURN;
}
static bool is_event(const struct way *w)
{
    return w->source >= BY_SOFTWARE && w->source <= BY_INTERRUPT;
}
static bool by_gate(const struct way *w)
{
    return is_event(w) || w->selector == GATE || w->selector == LDT_GATE;
}

/* The context that goes to TASK that way, from ring 0 or 3. `target` is in the gates; TASK has to be set up before. */
static struct context go_by(const struct way *w, unsigned ring, u16 target)
{
    struct context c = ring_context((int)ring, w->code);

    c.flags |= FLAG_OF | FLAG_CF | FLAG_PF | FLAG_ID;
    c.ax = 0x11111111;
    c.bx = DATA_AREA;
    c.cx = BEYOND;
    c.dx = 0x44444444;
    c.bp = 0x55555555;
    c.si = 0x66666666;
    c.di = 0x77777777;
    c.fs = SEL_UDATA;
    c.gs = SEL_UDATA2;
    *(u16 *)(DATA_AREA + 4) = (u16)(w->selector | (w->selector ? ring : 0));
    gdt[GATE / 8] = gate(target, 0, ACCESS_P | DPL3 | TYPE_TASK_GATE, 0);
    ldt[LDT_GATE / 8] = gdt[GATE / 8];
    asm volatile("lldt %w0" ::"r"(LDT));
    if (is_event(w))
        set_gate(w->vector, target, 0, ACCESS_P | DPL3 | TYPE_TASK_GATE, 0);
    if (w->vector == VECTOR && w->source == BY_INTERRUPT)
        *(volatile u32 *)0xfee00300 = ICR_TO_SELF | ICR_ASSERT | VECTOR;
    if (w->vector == NMI)
        c.ax = ICR_ASSERT | ICR_NMI; /* to APIC ID 0, which is this one */
    if (w->source == BY_RETURN) {
        main_tss()->link = target;
        c.flags |= FLAG_NT;
    }
    return c;
}

/* Interrupts are taken in the tasks without the handlers that would say so. */
static void end_of_interrupt(const struct way *w)
{
    if (w->vector == VECTOR && w->source == BY_INTERRUPT)
        *(volatile u32 *)0xfee000b0 = 0;
    if (w->vector == NMI) /* an IRET lets the next one in */
        asm volatile("pushf\n push %%cs\n push $1f\n iret\n1:" ::: "memory");
}

static void check_old_state(const struct way *w, const struct context *c, unsigned ring)
{
    const struct tss32 *t = main_tss();
    const ulong gpr[] = {c->ax, c->cx, c->dx, c->bx, c->sp, c->bp, c->si, c->di};
    const ulong seg[] = {c->es, c->cs, ring ? c->ss : SEL_KDATA, c->ds, c->fs, c->gs};
    ulong flags = c->flags;

    if (w->source == BY_EXCEPTION)
        flags |= FLAG_RF;
    if (w->source == BY_RETURN)
        flags &= ~(ulong)FLAG_NT;
    if (w->vector == VECTOR && w->source == BY_INTERRUPT)
        flags |= FLAG_IF;
    expect_equal(t->eip, CODE_AREA + (u32)w->next, "%s, ring %u: saved EIP", w->name, ring);
    expect_equal(t->eflags, flags, "%s, ring %u: saved EFLAGS", w->name, ring);
    for (unsigned n = 0; n < 8; n++)
        expect_equal(t->gpr[n], gpr[n], "%s, ring %u: saved register %u", w->name, ring, n);
    for (unsigned n = 0; n < 6; n++)
        expect_equal(t->seg[n] & 0xffff, seg[n], "%s, ring %u: saved segment %u", w->name, ring, n);
}

static void check_new_state(const struct way *w, const struct trap *trap, unsigned ring)
{
    const struct tss32 want = task_state(CODE_AREA + LANDING);
    const ulong gpr[] = {trap->at.ax, trap->at.cx, trap->at.dx, trap->at.bx,
                         trap->at.sp, trap->at.bp, trap->at.si, trap->at.di};
    const ulong seg[] = {trap->at.es, trap->at.cs, trap->at.ss, trap->at.ds, trap->at.fs, trap->at.gs};

    for (unsigned n = 0; n < 8; n++)
        expect_equal(gpr[n], n == 4 && w->has_error ? want.gpr[n] - 4 : want.gpr[n],
                     "%s, ring %u: register %u", w->name, ring, n);
    for (unsigned n = 0; n < 6; n++)
        expect_equal(seg[n], want.seg[n], "%s, ring %u: segment %u", w->name, ring, n);
    expect_equal(trap->at.flags, FLAG_FIXED | FLAG_ID | FLAG_SF | (nests(w) ? FLAG_NT : 0),
                 "%s, ring %u: EFLAGS", w->name, ring);
    if (w->has_error)
        expect_equal(*(u32 *)(STACK_TOP - 0x1004), w->error, "%s, ring %u: the error code", w->name, ring);
}

static bool busy(u16 selector)
{
    return gdt[selector / 8] >> 41 & 1;
}

static void all_ways(void)
{
    group("ways into a task");
    for (unsigned n = 0; n < WAYS; n++) {
        for (unsigned ring = 0; ring < (ways[n].ring0 ? 1 : 4); ring++) {
            const struct way *w = &ways[n];
            const struct trap *trap;
            struct context c;

            settle();
            task.wide.eflags = FLAG_FIXED | FLAG_ID | FLAG_SF;
            if (w->source == BY_RETURN)
                gdt[TASK / 8] |= (u64)BUSY << 40;
            c = go_by(w, ring, TASK);
            asm volatile("mov %0, %%dr7" ::"r"(0x755ul | 0x2aa));
            trap = go(&c);
            end_of_interrupt(w);
            expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "%s, ring %u", w->name, ring);
            check_new_state(w, trap, ring);
            check_old_state(w, &c, ring);
            expect_equal(after.tr, TASK, "%s, ring %u: TR", w->name, ring);
            expect_equal(after.ldtr, 0, "%s, ring %u: LDTR", w->name, ring);
            expect_equal(after.dr7, 0x6aa, "%s, ring %u: local breakpoints are off", w->name, ring);
            expect_equal(!!(after.cr0 & CR0_TS), 1, "%s, ring %u: CR0.TS", w->name, ring);
            expect_equal(busy(TASK), 1, "%s, ring %u: the new task is busy", w->name, ring);
            expect_equal(busy(MAIN), nests(w), "%s, ring %u: the old task is busy", w->name, ring);
            expect_equal(task.wide.link, nests(w) ? MAIN : 0, "%s, ring %u: link", w->name, ring);
        }
    }
}

/* There and back. */
static void nested(void)
{
    struct code back[] = {CODE32("mov eax, 0x12345678\n iret\n jmp $-1"),
                          CODE32("mov eax, 0x12345678\n jmp 0x50:0\n jmp $-8")};

    group("nested tasks");
    for (unsigned n = 0; n < WAYS; n++) {
        for (unsigned ring = 0; ring < (ways[n].ring0 ? 1 : 4); ring += 3) {
            const struct way *w = &ways[n];
            const struct trap *trap;
            struct context c;

            if (!nests(w) || w->source == BY_EXCEPTION || w->vector == NMI)
                continue;
            for (unsigned twice = 0; twice < 2; twice++) {
                /* The second time the task goes on after its IRET. */
                settle();
                place(back[0], CODE_AREA + LANDING);
                c = go_by(w, ring, TASK);
                if (twice) {
                    task.wide.eip = CODE_AREA + LANDING + 6;
                    place(CODE32("inc dword ptr ds:[0x420100]\n iret"), CODE_AREA + LANDING + 6);
                    *(u32 *)0x420100 = 5;
                }
                trap = go(&c);
                end_of_interrupt(w);
                expect_trap(trap, FAULT_AT(VECTOR_END, 0, ANYWHERE), "%s, ring %u", w->name, ring);
                expect_equal(trap->at.ax, c.ax, "%s, ring %u: EAX", w->name, ring);
                expect_equal(trap->at.sp, c.sp, "%s, ring %u: ESP", w->name, ring);
                expect_equal(trap->at.cs, c.cs, "%s, ring %u: CS", w->name, ring);
                expect_equal(trap->at.flags & ~(ulong)FLAG_IF, c.flags, "%s, ring %u: EFLAGS", w->name, ring);
                expect_equal(after.tr, MAIN, "%s, ring %u: TR", w->name, ring);
                expect_equal(after.ldtr, 0, "%s, ring %u: LDTR is what the TSS says", w->name, ring);
                expect_equal(busy(TASK), 0, "%s, ring %u: TASK is busy", w->name, ring);
                expect_equal(busy(MAIN), 1, "%s, ring %u: MAIN is busy", w->name, ring);
                expect_equal(task.wide.eflags & FLAG_NT, 0, "%s, ring %u: saved NT", w->name, ring);
                if (twice)
                    expect_equal(*(u32 *)0x420100, 6, "%s, ring %u: the task ran", w->name, ring);
                else
                    expect_equal(task.wide.gpr[0], 0x12345678, "%s, ring %u: saved EAX", w->name, ring);
            }
        }
    }
    /* A JMP out of a nested task to the busy one that called it is none. */
    settle();
    place(back[1], CODE_AREA + LANDING);
    struct context c = go_by(&ways[4], 0, TASK);
    expect_trap(go(&c), FAULT_AT(GP, MAIN, LANDING + 5), "JMP back to a busy task");
    expect_equal(after.tr, TASK, "JMP back to a busy task: TR");
    settle();
    c = go_by(&ways[0], 0, TASK);
    *(u16 *)(DATA_AREA + 4) = MAIN;
    expect_trap(go(&c), FAULT(GP, MAIN), "JMP to the current task");
    /* IRET to the task itself: it is busy. The state that was just saved is loaded. */
    settle();
    c = go_by(&ways[WAYS - 1], 0, MAIN);
    expect_trap(go(&c), FAULT_AT(VECTOR_END, 0, 3), "IRET to the current task");
    expect_equal(after.tr, MAIN, "IRET to the current task: TR");
}

/* ---- privileges ---- */

static void privileges(void)
{
    group("privilege levels");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];

        if (w->ring0)
            continue;
        for (unsigned dpl = 0; dpl < 4; dpl++) {
            for (unsigned ring = 0; ring < 4; ring++) {
                for (unsigned rpl = 0; rpl < 4; rpl++) {
                    bool far_transfer = w->source == BY_JUMP || w->source == BY_CALL, direct = w->next == 7;
                    bool allowed = far_transfer ? dpl >= ring && dpl >= (direct ? 0 : rpl)
                                                : w->source != BY_SOFTWARE || dpl >= ring;
                    u8 access = (u8)(ACCESS_P | dpl << ACCESS_DPL_SHIFT);
                    struct expect e = FAULT_AT(VECTOR_END, 0, LANDING + 3);
                    struct context c;

                    if ((!far_transfer || direct) && rpl)
                        continue;
                    settle();
                    set_tss(TASK, &task, sizeof(struct tss32) - 1,
                            (u8)((by_gate(w) ? 0 : dpl << ACCESS_DPL_SHIFT) | TYPE_TSS |
                                 (w->source == BY_RETURN ? BUSY : 0)));
                    c = go_by(w, ring, TASK);
                    *(u16 *)(DATA_AREA + 4) = (u16)(w->selector | rpl);
                    if (w->selector == GATE || w->selector == LDT_GATE)
                        gdt[GATE / 8] = ldt[LDT_GATE / 8] = gate(TASK, 0, access | TYPE_TASK_GATE, 0);
                    if (is_event(w))
                        set_gate(w->vector, TASK, 0, access | TYPE_TASK_GATE, 0);
                    if (!allowed)
                        e = FAULT(GP, far_transfer ? w->selector : (ulong)w->vector * 8 + ERROR_IDT);
                    expect_trap(go(&c), e, "%s, dpl %u, cpl %u, rpl %u", w->name, dpl, ring, rpl);
                    expect_equal(after.tr, allowed ? TASK : MAIN, "%s, dpl %u, cpl %u, rpl %u: TR", w->name,
                                 dpl, ring, rpl);
                }
            }
        }
    }
    /* An absent gate, after the privileges. */
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];

        if (!by_gate(w) || w->ring0 || w->source == BY_EXCEPTION)
            continue;
        for (unsigned dpl = 0; dpl < 4; dpl += 3) {
            ulong error = is_event(w) ? (ulong)w->vector * 8 + ERROR_IDT : w->selector;
            bool allowed = dpl || w->source == BY_INTERRUPT;
            u64 absent = gate(TASK, 0, (u8)(dpl << ACCESS_DPL_SHIFT | TYPE_TASK_GATE), 0);
            struct context c;

            settle();
            c = go_by(w, 3, TASK);
            gdt[GATE / 8] = ldt[LDT_GATE / 8] = absent;
            if (is_event(w))
                idt[w->vector][0] = absent;
            expect_trap(go(&c), FAULT(allowed ? NP : GP, error | (w->source == BY_INTERRUPT)),
                        "%s, absent gate, dpl %u", w->name, dpl);
        }
    }
}

/* ---- the new TSS: faults in the old task ---- */

/* A fault before the switch has changed nothing. */
static void check_untouched(const char *name, const char *what)
{
    expect_equal(after.tr, MAIN, "%s, %s: TR", name, what);
    expect_equal(after.cr0 & CR0_TS, 0, "%s, %s: CR0.TS", name, what);
    expect_equal(after.ldtr, LDT, "%s, %s: LDTR", name, what);
    expect_equal(busy(MAIN), 1, "%s, %s: MAIN is busy", name, what);
    expect_equal(main_tss()->eip, 0, "%s, %s: nothing was saved", name, what);
    expect_equal(task.wide.link, 0, "%s, %s: no link", name, what);
}

static void bad_tss(void)
{
    group("the new TSS");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];
        bool back = w->source == BY_RETURN;
        bool ext = w->source == BY_EXCEPTION || w->source == BY_INTERRUPT;
        bool contributory = w->has_error; /* #GP: a second contributory exception makes a double fault */
        static const struct {
            const char *what;
            u16 selector;
        } selectors[] = {
            {"null", 0},         {"null with RPL", 3}, {"beyond the GDT", BEYOND}, {"in the LDT", LDT_TSS},
            {"RPL 3", TASK | 3},
        };

        if (w->vector == NMI || (w->vector == VECTOR && ext))
            continue;
        for (unsigned i = 0; i < ARRAY_SIZE(selectors); i++) {
            bool good = i == 4;
            ulong error = (selectors[i].selector & ~3u) | ext;
            struct context c;

            if (!by_gate(w) && !back)
                continue;
            settle();
            main_tss()->eip = 0;
            if (back) {
                gdt[TASK / 8] |= (u64)BUSY << 40;
                ldt[LDT_TSS / 8] |= (u64)BUSY << 40;
            }
            c = go_by(w, 3, selectors[i].selector);
            expect_trap(go(&c),
                        good           ? FAULT_AT(VECTOR_END, 0, LANDING + 3)
                        : contributory ? FAULT(DF, 0)
                                       : FAULT(back ? TS : GP, error),
                        "%s, %s", w->name, selectors[i].what);
            if (!good)
                check_untouched(w->name, selectors[i].what);
        }
        for (unsigned byte = 0; byte < 256; byte++) {
            unsigned type = byte & 0x1f;
            unsigned good_type = back ? TYPE_TSS | BUSY : TYPE_TSS, small_type = good_type & 7;
            bool present = byte & ACCESS_P, good = type == good_type || type == small_type;
            struct expect e = FAULT_AT(VECTOR_END, 0, LANDING + 3);
            struct context c;

            if ((byte & 0x60) != 0x60)
                continue;
            /* Without a gate other types are other transfers. */
            if (!by_gate(w) && !back && type != 3 && type != 11 && !good)
                continue;
            settle();
            main_tss()->eip = 0;
            if (type == small_type) {
                /* A 16-bit TSS with code at CODE_AREA that goes back to a flat stack. */
                memset(&task, 0, sizeof(task));
                task.narrow = (struct tss16){.ip = LANDING,
                                             .flags = FLAG_FIXED,
                                             .gpr[4] = 0x6000,
                                             .seg = {SEL_KDATA, CODE16T, STACK16T, SEL_KDATA}};
                place(CODE32("mov ss, ds:[0x420108]\n mov esp, 0x417000"), CODE_AREA + LANDING);
                *(u16 *)0x420108 = SEL_KDATA;
            }
            gdt[TASK / 8] = descriptor((u32)&task, sizeof(struct tss32) - 1, (u8)byte, 0);
            c = go_by(w, 3, TASK);
            if (!good)
                e = FAULT(back ? TS : GP, TASK | ext);
            else if (!present)
                e = FAULT(NP, TASK | ext);
            else if (type == small_type)
                e.at = ANYWHERE;
            if (contributory && e.vector != VECTOR_END)
                e = FAULT(DF, 0);
            expect_trap(go(&c), e, "%s, access %02x", w->name, byte);
            if (e.vector != VECTOR_END)
                check_untouched(w->name, "access");
        }
        for (int delta = -1; delta < 2; delta++) {
            for (unsigned narrow = 0; narrow < 2; narrow++) {
                u32 least = narrow ? 0x2b : 0x67;
                struct expect e = FAULT(TS, TASK | ext);
                struct context c;

                settle();
                main_tss()->eip = 0;
                set_tss(TASK, &task, least + (u32)delta,
                        (u8)(DPL3 | (narrow ? TYPE_TSS16 : TYPE_TSS) | (back ? BUSY : 0)));
                c = go_by(w, 3, TASK);
                if (contributory)
                    e = FAULT(DF, 0);
                if (delta < 0) {
                    expect_trap(go(&c), e, "%s, limit %#x", w->name, least + (u32)delta);
                    check_untouched(w->name, "limit");
                } else if (!narrow) {
                    expect_trap(go(&c), FAULT_AT(VECTOR_END, 0, LANDING + 3), "%s, limit %#x", w->name,
                                least + (u32)delta);
                }
            }
        }
    }
}

/* ---- the new task's segments: faults in the new task, on its first instruction ---- */

enum field { LDT_FIELD, CS_FIELD, SS_FIELD, DATA_FIELD };

/* One broken field of the new TSS. */
struct broken {
    const char *what;
    enum field field;
    u16 selector;
    u8 access; /* of BAD */
    u8 vector; /* VECTOR_END: it is good */
    u16 error;
};

static const struct broken broken[] = {
    {"LDT, null", LDT_FIELD, 0, 0, VECTOR_END, 0},
    {"LDT, null with RPL", LDT_FIELD, 3, 0, VECTOR_END, 0},
    {"LDT, good", LDT_FIELD, BAD, ACCESS_P | TYPE_LDT, VECTOR_END, 0},
    {"LDT, RPL 3", LDT_FIELD, BAD | 3, ACCESS_P | TYPE_LDT, VECTOR_END, 0},
    {"LDT, in an LDT", LDT_FIELD, BAD | 4, ACCESS_P | TYPE_LDT, TS, BAD | 4},
    {"LDT, beyond the GDT", LDT_FIELD, BEYOND | 2, 0, TS, BEYOND},
    {"LDT, of another type", LDT_FIELD, BAD, ACCESS_P | TYPE_TSS, TS, BAD},
    {"LDT, a data segment", LDT_FIELD, BAD, DATA_RW(0), TS, BAD},
    {"LDT, absent", LDT_FIELD, BAD, TYPE_LDT, TS, BAD},

    {"CS, null", CS_FIELD, 3, 0, TS, 0},
    {"CS, beyond the GDT", CS_FIELD, BEYOND | 3, 0, TS, BEYOND},
    {"CS, in no LDT", CS_FIELD, BAD | 7, CODE_XR(3), TS, BAD | 4},
    {"CS, good", CS_FIELD, BAD | 3, CODE_XR(3), VECTOR_END, 0},
    {"CS, not readable", CS_FIELD, BAD | 3, CODE_XR(3) & ~ACCESS_W, VECTOR_END, 0},
    {"CS, data", CS_FIELD, BAD | 3, DATA_RW(3), TS, BAD},
    {"CS, a TSS", CS_FIELD, BAD | 3, ACCESS_P | DPL3 | TYPE_TSS, TS, BAD},
    {"CS, DPL 0", CS_FIELD, BAD | 3, CODE_XR(0), TS, BAD},
    {"CS, DPL 2", CS_FIELD, BAD | 3, CODE_XR(2), TS, BAD},
    {"CS, conforming, DPL 0", CS_FIELD, BAD | 3, CODE_XR(0) | ACCESS_E, VECTOR_END, 0},
    {"CS, conforming, DPL 3", CS_FIELD, BAD | 3, CODE_XR(3) | ACCESS_E, VECTOR_END, 0},
    {"CS, absent", CS_FIELD, BAD | 3, CODE_XR(3) & ~ACCESS_P, NP, BAD},
    {"CS, absent, DPL 0", CS_FIELD, BAD | 3, CODE_XR(0) & ~ACCESS_P, TS, BAD},

    {"SS, null", SS_FIELD, 3, 0, TS, 0},
    {"SS, beyond the GDT", SS_FIELD, BEYOND | 3, 0, TS, BEYOND},
    {"SS, in no LDT", SS_FIELD, BAD | 7, DATA_RW(3), TS, BAD | 4},
    {"SS, good", SS_FIELD, BAD | 3, DATA_RW(3), VECTOR_END, 0},
    {"SS, not writable", SS_FIELD, BAD | 3, DATA_RW(3) & ~ACCESS_W, TS, BAD},
    {"SS, code", SS_FIELD, BAD | 3, CODE_XR(3), TS, BAD},
    {"SS, a TSS", SS_FIELD, BAD | 3, ACCESS_P | DPL3 | TYPE_TSS, TS, BAD},
    {"SS, DPL 0", SS_FIELD, BAD | 3, DATA_RW(0), TS, BAD},
    {"SS, DPL 2", SS_FIELD, BAD | 3, DATA_RW(2), TS, BAD},
    {"SS, RPL 0", SS_FIELD, BAD, DATA_RW(3), TS, BAD},
    {"SS, RPL 2", SS_FIELD, BAD | 2, DATA_RW(3), TS, BAD},
    {"SS, absent", SS_FIELD, BAD | 3, DATA_RW(3) & ~ACCESS_P, SS, BAD},
    {"SS, absent, not writable", SS_FIELD, BAD | 3, DATA_RW(3) & ~(ACCESS_P | ACCESS_W), TS, BAD},

    {"data, null", DATA_FIELD, 0, 0, VECTOR_END, 0},
    {"data, null with RPL", DATA_FIELD, 2, 0, VECTOR_END, 0},
    {"data, beyond the GDT", DATA_FIELD, BEYOND | 3, 0, TS, BEYOND},
    {"data, in no LDT", DATA_FIELD, BAD | 7, DATA_RW(3), TS, BAD | 4},
    {"data, good", DATA_FIELD, BAD | 3, DATA_RW(3), VECTOR_END, 0},
    {"data, RPL 0", DATA_FIELD, BAD, DATA_RW(3), VECTOR_END, 0},
    {"data, read-only", DATA_FIELD, BAD | 3, DATA_RW(3) & ~ACCESS_W, VECTOR_END, 0},
    {"data, readable code", DATA_FIELD, BAD | 3, CODE_XR(3), VECTOR_END, 0},
    {"data, conforming code, DPL 0", DATA_FIELD, BAD | 3, CODE_XR(0) | ACCESS_E, VECTOR_END, 0},
    {"data, code that is not readable", DATA_FIELD, BAD | 3, CODE_XR(3) & ~ACCESS_W, TS, BAD},
    {"data, a TSS", DATA_FIELD, BAD | 3, ACCESS_P | DPL3 | TYPE_TSS, TS, BAD},
    {"data, DPL 2", DATA_FIELD, BAD, DATA_RW(2), TS, BAD},
    {"data, code, DPL 2", DATA_FIELD, BAD, CODE_XR(2), TS, BAD},
    {"data, absent", DATA_FIELD, BAD | 3, DATA_RW(3) & ~ACCESS_P, NP, BAD},
    {"data, absent code that is not readable", DATA_FIELD, BAD | 3, CODE_XR(3) & ~(ACCESS_W | ACCESS_P), TS,
     BAD},
};

static void break_task(const struct broken *b, unsigned data)
{
    static const u8 data_at[] = {DS_AT, ES_AT, FS_AT, GS_AT};

    outer_task(3);
    if (b->field == LDT_FIELD) {
        task.wide.ldt = b->selector;
        gdt[BAD / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, b->access, 0);
        return;
    }
    gdt[BAD / 8] = descriptor(0, 0xfffff, b->access, FLAT);
    task.wide.seg[b->field == CS_FIELD ? CS_AT : b->field == SS_FIELD ? SS_AT : data_at[data]] = b->selector;
}

static void bad_segments(void)
{
    group("the new task's segments");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];
        bool ext = w->source == BY_EXCEPTION || w->source == BY_INTERRUPT;

        for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
            const struct broken *b = &broken[i];

            for (unsigned data = 0; data < (b->field == DATA_FIELD ? 4 : 1); data++) {
                bool good = b->vector == VECTOR_END;
                const struct trap *trap;
                struct expect e;
                struct context c;

                settle();
                if (w->source == BY_RETURN)
                    gdt[TASK / 8] |= (u64)BUSY << 40;
                c = go_by(w, w->ring0 ? 0 : 3, TASK);
                break_task(b, data);
                trap = go(&c);
                end_of_interrupt(w);
                if (good)
                    e = FAULT_AT(VECTOR_END, 0, LANDING + 3);
                else if (w->has_error)
                    e = FAULT_AT(DF, 0, LANDING);
                else
                    e = FAULT_AT(b->vector, b->error | ext, LANDING);
                expect_trap(trap, e, "%s, %s, %u", w->name, b->what, data);
                expect_equal(after.tr, TASK, "%s, %s, %u: TR", w->name, b->what, data);
                expect_equal(busy(TASK), 1, "%s, %s, %u: the new task is busy", w->name, b->what, data);
                expect_equal(busy(MAIN), nests(w), "%s, %s, %u: the old task is busy", w->name, b->what,
                             data);
                expect_equal(main_tss()->eip, CODE_AREA + (u32)w->next, "%s, %s, %u: saved EIP", w->name,
                             b->what, data);
                expect_equal(trap->at.cs, task.wide.seg[CS_AT], "%s, %s, %u: CS", w->name, b->what, data);
                expect_equal(trap->at.ss, task.wide.seg[SS_AT], "%s, %s, %u: SS", w->name, b->what, data);
                expect_equal(trap->at.ax, task.wide.gpr[0], "%s, %s, %u: EAX", w->name, b->what, data);
                expect_equal(!!(after.cr0 & CR0_TS), 1, "%s, %s, %u: CR0.TS", w->name, b->what, data);
            }
        }
    }
    /* What a task in ring 0 without a stack cannot handle. */
    for (unsigned i = 0; i < ARRAY_SIZE(broken); i++) {
        struct broken b = broken[i];
        struct context c;

        if (b.field != CS_FIELD && b.field != SS_FIELD)
            continue;
        settle();
        for (int v = TS; v <= GP; v++)
            catch (v);
        b.selector &= ~3u;
        c = go_by(&ways[0], 0, TASK);
        break_task(&b, 0);
        for (unsigned n = 0; n < 6; n++)
            task.wide.seg[n] &= ~3u;
        task.wide.seg[CS_AT] = b.field == CS_FIELD ? b.selector : SEL_KCODE;
        task.wide.seg[SS_AT] = b.field == SS_FIELD ? b.selector : SEL_KDATA;
        gdt[BAD / 8] &= ~((u64)DPL3 << 40);
        if (b.vector == VECTOR_END || !(b.selector & ~3) || b.access == 0 || (b.selector & 4)) {
            if (b.vector == VECTOR_END)
                continue;
            expect_trap(go(&c), FAULT_AT(b.vector, b.error, LANDING), "ring 0, %s", b.what);
            expect_equal(after.tr, TASK, "ring 0, %s: TR", b.what);
        }
    }
    /* The accessed bits of what was loaded. */
    settle();
    for (unsigned n = 0; n < 6; n++) {
        settle();
        gdt[BAD / 8] = descriptor(0, 0xfffff, (n == CS_AT ? CODE_XR(0) : DATA_RW(0)) & ~ACCESS_A, FLAT);
        task.wide.seg[n] = BAD;
        struct context c = go_by(&ways[0], 0, TASK);
        expect_trap(go(&c), FAULT_AT(VECTOR_END, 0, LANDING + 3), "accessed bit of segment %u", n);
        expect_equal(gdt[BAD / 8] >> 40 & 1, 1, "accessed bit of segment %u", n);
    }
}

/* The first instruction beyond the limit, and no room for the error code. */
static void first_instruction(void)
{
    struct context c;

    group("EIP and the error code");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];
        bool ext = w->source == BY_EXCEPTION || w->source == BY_INTERRUPT;

        settle();
        if (w->source == BY_RETURN)
            gdt[TASK / 8] |= (u64)BUSY << 40;
        outer_task(3);
        gdt[BAD / 8] = descriptor(0, 0xffff, CODE_XR(3), FLAGS_D);
        task.wide.seg[CS_AT] = BAD | 3;
        c = go_by(w, w->ring0 ? 0 : 3, TASK);
        expect_trap(go(&c), w->has_error ? FAULT_AT(DF, 0, LANDING) : FAULT_AT(GP, ext, LANDING),
                    "%s, EIP beyond the limit", w->name);
        end_of_interrupt(w);
        expect_equal(after.tr, TASK, "%s, EIP beyond the limit: TR", w->name);
    }
    for (unsigned room = 0; room < 9; room++) {
        settle();
        outer_task(3);
        gdt[BAD / 8] = descriptor(0, STACK_TOP / 4096 - 1, DATA_RW(3) | ACCESS_E, FLAT);
        task.wide.seg[SS_AT] = BAD | 3;
        task.wide.gpr[4] = STACK_TOP + room;
        c = go_by(&ways[13], 3, TASK);
        /* #GP pushes its error code; #SS for want of room makes a double fault. */
        expect_trap(go(&c), room < 4 ? FAULT_AT(DF, 0, LANDING) : FAULT_AT(VECTOR_END, 0, LANDING + 3),
                    "room for %u bytes of error code", room);
    }
    /* The same for #PF, after which a contributory exception makes one too; and an error code on a stack of its own ring. */
    settle();
    catch (DF);
    outer_task(1);
    gdt[BAD / 8] = descriptor(0, 0x7ff, DATA_RW(1), FLAGS_D);
    task.wide.seg[SS_AT] = BAD | 1;
    task.wide.gpr[4] = 2;
    c = go_by(&ways[13], 3, TASK);
    expect_trap(go(&c), FAULT_AT(DF, 0, LANDING), "a double fault through a task gate");
    expect_equal(after.tr, TASK, "a double fault through a task gate: the interrupted task");
    expect_equal(catcher[DF].wide.link, TASK, "a double fault through a task gate: link");
}

/* ---- 16-bit TSSs ---- */

/* What a task at CODE_AREA with a 16-bit stack reports: ESP and SS are in memory. */
static void narrow_task(void)
{
    memset(&task, 0, sizeof(task));
    task.narrow = (struct tss16){.ip = LANDING,
                                 .flags = FLAG_FIXED | FLAG_SF,
                                 .gpr = {0xa0a0, 0xc1c1, 0xd2d2, 0xb3b3, 0x6000, 0x1515, 0x2626, 0x3737},
                                 .seg = {SEL_KDATA, CODE16T, STACK16T, SEL_KDATA}};
    memset(&task.narrow + 1, 0xff, 64); /* no part of it */
    set_tss(TASK, &task, sizeof(struct tss16) - 1, DPL3 | TYPE_TSS16);
    place(
        CODE32("mov ds:[0x420100], esp\n mov ds:[0x420104], ss\n mov ss, ds:[0x420108]\n mov esp, 0x417000"),
        CODE_AREA + LANDING);
    *(u16 *)0x420108 = SEL_KDATA;
}

static void narrow(void)
{
    struct context c;
    const struct trap *trap;

    group("16-bit TSSs");
    for (unsigned n = 0; n < WAYS; n++) {
        for (unsigned from = 0; from < 2; from++) { /* from a 32-bit TSS, or a 16-bit one */
            const struct way *w = &ways[n];
            static struct tss16 old;

            settle();
            narrow_task();
            if (w->source == BY_RETURN)
                gdt[TASK / 8] |= (u64)BUSY << 40;
            if (from) {
                memset(&old, 0xff, sizeof(old));
                set_tss(SPARE, &old, sizeof(old) - 1, TYPE_TSS16);
                asm volatile("ltr %w0" ::"r"(SPARE));
            }
            c = go_by(w, 0, TASK);
            old.link = TASK;
            trap = go(&c);
            end_of_interrupt(w);
            expect_equal(trap->vector, VECTOR_END, "%s, from %u", w->name, from);
            expect_equal(trap->at.ax, 0xffffa0a0, "%s, from %u: EAX", w->name, from);
            expect_equal(trap->at.cx, 0xffffc1c1, "%s, from %u: ECX", w->name, from);
            expect_equal(trap->at.dx, 0xffffd2d2, "%s, from %u: EDX", w->name, from);
            expect_equal(trap->at.bx, 0xffffb3b3, "%s, from %u: EBX", w->name, from);
            expect_equal(*(u32 *)0x420100, 0xffff6000 - (w->has_error ? 2 : 0), "%s, from %u: ESP", w->name,
                         from);
            expect_equal(trap->at.bp, 0xffff1515, "%s, from %u: EBP", w->name, from);
            expect_equal(trap->at.si, 0xffff2626, "%s, from %u: ESI", w->name, from);
            expect_equal(trap->at.di, 0xffff3737, "%s, from %u: EDI", w->name, from);
            expect_equal(trap->at.cs, CODE16T, "%s, from %u: CS", w->name, from);
            expect_equal(*(u16 *)0x420104, STACK16T, "%s, from %u: SS", w->name, from);
            expect_equal(trap->at.ds, SEL_KDATA, "%s, from %u: DS", w->name, from);
            expect_equal(trap->at.es, SEL_KDATA, "%s, from %u: ES", w->name, from);
            expect_equal(trap->at.fs, 0, "%s, from %u: FS", w->name, from);
            expect_equal(trap->at.gs, 0, "%s, from %u: GS", w->name, from);
            expect_equal(trap->at.flags, FLAG_FIXED | FLAG_SF | (nests(w) ? FLAG_NT : 0),
                         "%s, from %u: EFLAGS", w->name, from);
            expect_equal(after.tr, TASK, "%s, from %u: TR", w->name, from);
            if (nests(w))
                expect_equal(task.narrow.link, from ? SPARE : MAIN, "%s, from %u: link", w->name, from);
            if (w->has_error)
                expect_equal(*(u16 *)(STACK_AREA + 0x5ffe), w->error, "%s, from %u: the error code", w->name,
                             from);
            if (from) {
                const ulong gpr[] = {c.ax, c.cx, c.dx, c.bx, c.sp, c.bp, c.si, c.di};
                const ulong seg[] = {c.es, c.cs, SEL_KDATA, c.ds};
                u16 flags = (u16)c.flags;

                if (w->source == BY_RETURN)
                    flags &= ~FLAG_NT;
                if (w->vector == VECTOR && w->source == BY_INTERRUPT)
                    flags |= FLAG_IF;
                expect_equal(old.ip, (u16)(CODE_AREA + w->next), "%s: saved IP", w->name);
                expect_equal(old.flags, flags, "%s: saved FLAGS", w->name);
                for (unsigned k = 0; k < 8; k++)
                    expect_equal(old.gpr[k], (u16)gpr[k], "%s: saved register %u", w->name, k);
                for (unsigned k = 0; k < 4; k++)
                    expect_equal(old.seg[k], seg[k], "%s: saved segment %u", w->name, k);
                expect_equal(old.ldt, 0xffff, "%s: LDT is not saved", w->name);
                expect_equal(busy(SPARE), nests(w), "%s: the old task is busy", w->name);
            } else {
                check_old_state(w, &c, 0);
            }
        }
    }
    /* Its faults: the same checks, four segments. */
    static const struct {
        const char *what;
        unsigned at; /* word */
        u16 selector;
        int vector;
        u16 error;
    } rows[] = {
        {"LDT", 21, TASK, TS, TASK},
        {"CS", 18, SEL_KDATA, TS, SEL_KDATA},
        {"SS", 19, SEL_KCODE, TS, SEL_KCODE},
        {"DS", 20, BEYOND, TS, BEYOND},
        {"ES", 17, TASK, TS, TASK},
        {"CS null", 18, 0, TS, 0},
        {"SS null", 19, 0, TS, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        settle();
        narrow_task();
        catch (TS);
        ((u16 *)&task)[rows[i].at] = rows[i].selector;
        c = go_by(&ways[0], 0, TASK);
        trap = go(&c);
        expect_equal(trap->vector, rows[i].vector, "%s: vector", rows[i].what);
        expect_equal(trap->error, rows[i].error, "%s: error code", rows[i].what);
        expect_equal(after.tr, TASK, "%s: TR", rows[i].what);
    }
    /* The old TSS is too short for what is to be saved. */
    for (unsigned wide = 0; wide < 2; wide++) {
        for (int delta = -1; delta < 1; delta++) {
            u32 least = wide ? 0x5f : 0x29;

            settle();
            if (wide) {
                load_tss(least + (u32)delta);
            } else {
                set_tss(SPARE, &catcher[0], least + (u32)delta, TYPE_TSS16);
                asm volatile("ltr %w0" ::"r"(SPARE));
            }
            c = go_by(&ways[0], 0, TASK);
            expect_trap(go(&c),
                        delta < 0 ? FAULT(TS, wide ? MAIN : SPARE) : FAULT_AT(VECTOR_END, 0, LANDING + 3),
                        "the old TSS, limit %#x", least + (u32)delta);
        }
    }
}

/* ---- virtual-8086 tasks ---- */

static void virtual_tasks(void)
{
    struct context c;
    const struct trap *trap;

    group("virtual-8086 tasks");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];

        settle();
        if (w->source == BY_RETURN)
            gdt[TASK / 8] |= (u64)BUSY << 40;
        place(CODE16("int3"), REAL_CODE);
        task.wide.eip = 0;
        task.wide.eflags = FLAG_FIXED | FLAG_VM | FLAG_CF;
        task.wide.seg[CS_AT] = REAL_CODE >> 4;
        task.wide.seg[SS_AT] = REAL_STACK >> 4;
        task.wide.seg[DS_AT] = 0x1234;
        task.wide.seg[ES_AT] = 0x2345;
        task.wide.seg[FS_AT] = 0x3456;
        task.wide.seg[GS_AT] = 0x4567;
        task.wide.gpr[4] = 0x8000;
        c = go_by(w, w->ring0 ? 0 : 3, TASK);
        if (w->vector == BP)
            place(CODE16("hlt"), REAL_CODE);
        trap = go(&c);
        end_of_interrupt(w);
        expect_equal(trap->vector, w->vector == BP ? GP : BP, "%s: vector", w->name);
        expect_equal(trap->at.ip, w->vector == BP ? 0 : 1, "%s: IP", w->name);
        expect_equal(trap->at.flags & ~(ulong)FLAG_RF,
                     FLAG_FIXED | FLAG_VM | FLAG_CF | (nests(w) ? FLAG_NT : 0), "%s: EFLAGS", w->name);
        expect_equal(trap->at.cs, REAL_CODE >> 4, "%s: CS", w->name);
        expect_equal(trap->at.ss, REAL_STACK >> 4, "%s: SS", w->name);
        expect_equal(trap->at.ds, 0x1234, "%s: DS", w->name);
        expect_equal(trap->at.es, 0x2345, "%s: ES", w->name);
        expect_equal(trap->at.fs, 0x3456, "%s: FS", w->name);
        expect_equal(trap->at.gs, 0x4567, "%s: GS", w->name);
        expect_equal(trap->at.sp, w->has_error ? 0x7ffc : 0x8000, "%s: SP", w->name);
        expect_equal(after.tr, TASK, "%s: TR", w->name);
        if (w->has_error)
            expect_equal(*(u32 *)(REAL_STACK + 0x7ffc), w->error, "%s: the error code", w->name);
    }
    /* Out of the mode by an interrupt, and back by IRET. */
    settle();
    place(CODE16("int 0x90\n inc cx\n int3"), REAL_CODE);
    place(CODE32("mov eax, 5\n iret"), CODE_AREA + LANDING);
    set_gate(VECTOR, TASK, 0, ACCESS_P | DPL3 | TYPE_TASK_GATE, 0);
    c = (struct context){.flags = FLAG_FIXED | FLAG_VM | FLAG_IOPL,
                         .cs = REAL_CODE >> 4,
                         .ss = REAL_STACK >> 4,
                         .sp = 0x8000,
                         .ds = 0x1111,
                         .es = 0x2222,
                         .fs = 0x3333,
                         .gs = 0x4444,
                         .ax = 7,
                         .cx = 8};
    trap = go(&c);
    expect_trap(trap, FAULT_AT(BP, 0, 4), "there and back");
    expect_equal(trap->at.flags, c.flags | FLAG_PF, "there and back: EFLAGS");
    expect_equal(trap->at.cs, c.cs, "there and back: CS");
    expect_equal(trap->at.ds, c.ds, "there and back: DS");
    expect_equal(trap->at.gs, c.gs, "there and back: GS");
    expect_equal(trap->at.ax, 7, "there and back: AX");
    expect_equal(trap->at.cx, 9, "there and back: CX");
    expect_equal(task.wide.gpr[0], 5, "there and back: the task's EAX");
    /* The LDT counts there too; EIP is held against the limit of 64 KiB. */
    settle();
    catch (TS);
    task.wide.eflags = FLAG_FIXED | FLAG_VM;
    task.wide.ldt = TASK;
    c = go_by(&ways[0], 0, TASK);
    expect_trap(go(&c), FAULT_AT(TS, TASK, LANDING), "a bad LDT");
    settle();
    task.wide.eflags = FLAG_FIXED | FLAG_VM;
    task.wide.eip = 0x10000;
    c = go_by(&ways[0], 0, TASK);
    trap = go(&c);
    expect_equal(trap->vector, GP, "EIP beyond 64 KiB: vector");
    expect_equal(trap->at.ip, 0x10000, "EIP beyond 64 KiB: EIP");
}

/* What an interrupt of virtual-8086 mode finds wrong with the stack of ring 0 (SDM 2A INT n, INTERRUPT-FROM-VIRTUAL-8086-MODE):
   nobody but another task can handle that. */
static void virtual_interrupts(void)
{
    static const struct {
        const char *what;
        u16 selector;
        u8 access; /* of BAD */
        u32 esp;
        int vector; /* VECTOR_END: it is good */
        u16 error;
    } rows[] = {
        {"good", BAD, DATA_RW(0), 0x800, VECTOR_END, 0},
        {"just enough room", BAD, DATA_RW(0), 36, VECTOR_END, 0},
        {"no room", BAD, DATA_RW(0), 35, SS, BAD},
        {"beyond the limit", BAD, DATA_RW(0), 0x1001, SS, BAD},
        {"null", 0, DATA_RW(0), 0x800, TS, 0},
        {"beyond the GDT", BEYOND, DATA_RW(0), 0x800, TS, BEYOND},
        {"RPL 3", BAD | 3, DATA_RW(0), 0x800, TS, BAD},
        {"DPL 3", BAD, DATA_RW(3), 0x800, TS, BAD},
        {"read-only", BAD, DATA_RW(0) & ~ACCESS_W, 0x800, TS, BAD},
        {"absent", BAD, DATA_RW(0) & ~ACCESS_P, 0x800, SS, BAD},
    };
    struct code forms[] = {CODE16("int 0x90"), CODE16("ud2"), CODE16("hlt")};
    static const u8 vectors[] = {VECTOR, UD, GP};
    const u32 esp = main_tss()->stack[0].esp, ss = main_tss()->stack[0].ss;

    group("interrupts of virtual-8086 mode with bad stacks");
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
            struct context c = {.flags = FLAG_FIXED | FLAG_VM | FLAG_IOPL,
                                .cs = REAL_CODE >> 4,
                                .ss = REAL_STACK >> 4,
                                .sp = 0x8000};
            bool good = rows[i].vector == VECTOR_END;
            const struct trap *trap;

            settle();
            catch (DF);
            catch (TS);
            catch (SS);
            place(forms[form], REAL_CODE);
            /* The handler goes back to a flat stack. */
            place(CODE32("mov eax, ss\n mov ecx, esp\n mov edx, 0x10\n mov ss, edx\n mov esp, 0x417000"),
                  CODE_AREA + LANDING);
            set_gate(vectors[form], SEL_KCODE, CODE_AREA + LANDING, ACCESS_P | DPL3 | TYPE_INT, 0);
            gdt[BAD / 8] = descriptor(DATA_AREA, 0xfff, rows[i].access, FLAGS_D);
            main_tss()->stack[0].esp = rows[i].esp;
            main_tss()->stack[0].ss = rows[i].selector;
            trap = go(&c);
            main_tss()->stack[0].esp = esp;
            main_tss()->stack[0].ss = ss;
            if (good && form == 2 && rows[i].esp == 36) { /* no room for the error code */
                expect_equal(trap->vector, DF, "form %u, %s and an error code", form, rows[i].what);
                continue;
            }
            expect_equal(trap->vector, !good && form == 2 ? DF : rows[i].vector, "form %u, %s: vector", form,
                         rows[i].what);
            if (!good && form < 2)
                expect_equal(trap->error, rows[i].error | (form == 1), "form %u, %s: error code", form,
                             rows[i].what);
            if (!good)
                expect_equal(trap->at.flags & ~(ulong)FLAG_RF, c.flags, "form %u, %s: EFLAGS", form,
                             rows[i].what);
            else
                expect_equal(trap->at.cx, rows[i].esp - 36 - (form == 2 ? 4 : 0), "form %u, %s: ESP", form,
                             rows[i].what);
        }
    }
}

/* Gates to an inner ring take the stack of a 16-bit TSS as well: two words for each ring (SDM 3A figure 8-10). */
static void narrow_inner_stacks(void)
{
    struct code forms[] = {CODE32("call fword ptr [ebx]"), CODE32("int 0x90")};
    struct tss16 *t = &catcher[0].narrow;

    group("inner stacks of a 16-bit TSS");
    for (unsigned form = 0; form < ARRAY_SIZE(forms); form++) {
        for (unsigned ring = 0; ring < 3; ring++) {
            const u32 *frame = (const u32 *)(STACK_AREA + 0x6000 - 0x1000 * ring - (form ? 20 : 16));
            const struct trap *trap;
            struct context c;

            settle();
            catch (GP);
            *t = (struct tss16){.stack = {0x6000, BAD, 0x5000, BAD | 1, 0x4000, BAD | 2}};
            set_tss(SPARE, t, sizeof(*t) - 1, TYPE_TSS16);
            gdt[BAD / 8] = descriptor(STACK_AREA, 0xffff, DATA_RW(ring), FLAGS_D);
            gdt[CODE16T / 8] = descriptor(CODE_AREA, 0xffff, CODE_XR(ring), FLAGS_D);
            gdt[GATE / 8] = gate(CODE16T, LANDING, ACCESS_P | DPL3 | TYPE_CALL, 0);
            set_gate(VECTOR, CODE16T, LANDING, ACCESS_P | DPL3 | TYPE_INT, 0);
            place(CODE32("xchg eax, eax\n ud2"), CODE_AREA + LANDING);
            set_gate(UD, CATCH + 8 * GP, 0, ACCESS_P | TYPE_TASK_GATE, 0);
            asm volatile("ltr %w0" ::"r"(SPARE));
            c = user_context(forms[form]);
            c.bx = DATA_AREA;
            *(u16 *)(DATA_AREA + 4) = GATE | 3;
            trap = go(&c);
            expect_equal(trap->vector, GP, "form %u, ring %u", form, ring);
            expect_equal(trap->at.ip, LANDING + 1, "form %u, ring %u: IP", form, ring);
            expect_equal(trap->at.cs, CODE16T | ring, "form %u, ring %u: CS", form, ring);
            expect_equal(trap->at.ss, BAD | ring, "form %u, ring %u: SS", form, ring);
            expect_equal(STACK_AREA + trap->at.sp, (ulong)frame, "form %u, ring %u: SP", form, ring);
            expect_equal(frame[0], CODE_AREA + 2, "form %u, ring %u: pushed EIP", form, ring);
            expect_equal(frame[form ? 3 : 2], c.sp, "form %u, ring %u: pushed ESP", form, ring);
            expect_equal(frame[form ? 4 : 3] & 0xffff, c.ss, "form %u, ring %u: pushed SS", form, ring);
        }
    }
}

/* ---- the rest of the new task's state ---- */

static void debug_trap(void)
{
    group("the T bit");
    for (unsigned n = 0; n < WAYS; n++) {
        for (unsigned tf = 0; tf < 2; tf++) {
            const struct way *w = &ways[n];
            const struct trap *trap;
            struct context c;
            ulong dr6;

            if (w->vector == DB)
                continue;
            settle();
            if (w->source == BY_RETURN)
                gdt[TASK / 8] |= (u64)BUSY << 40;
            task.wide.trap = TRAP_TASK;
            task.wide.eflags |= tf ? FLAG_TF : 0;
            c = go_by(w, 0, TASK);
            trap = go(&c);
            end_of_interrupt(w);
            asm volatile("mov %%dr6, %0" : "=r"(dr6));
            expect_trap(trap, FAULT_AT(DB, 0, LANDING), "%s, tf %u", w->name, tf);
            expect_equal(dr6, 0xffff8ff0, "%s, tf %u: DR6", w->name, tf);
            expect_equal(after.tr, TASK, "%s, tf %u: TR", w->name, tf);
        }
    }
    /* A fault of the new task comes instead. */
    settle();
    task.wide.trap = TRAP_TASK;
    outer_task(3);
    task.wide.seg[DS_AT] = BEYOND;
    struct context c = go_by(&ways[0], 3, TASK);
    expect_trap(go(&c), FAULT_AT(TS, BEYOND, LANDING), "a bad DS with the T bit");
    /* TF of the new task: a trap after its first instruction. */
    settle();
    task.wide.eflags |= FLAG_TF;
    c = go_by(&ways[0], 0, TASK);
    expect_trap(go(&c), FAULT_AT(DB, 0, LANDING + 1), "TF of the new task");
    /* The handler behind a task gate with T set itself. */
    settle();
    catch (DB);
    catcher[DB].wide.trap = 0;
    task.wide.trap = TRAP_TASK;
    c = go_by(&ways[0], 0, TASK);
    expect_trap(go(&c), FAULT_AT(DB, 0, LANDING), "the trap through a task gate");
    expect_equal(after.tr, TASK, "the trap through a task gate: interrupted task");
    expect_equal(catch_trap.at.flags & FLAG_RF, 0, "the trap through a task gate: RF");
}

static void io_maps(void)
{
    static const struct {
        const char *what;
        u16 map;
        u32 limit;
        u8 bits;
        bool allowed;
    } rows[] = {
        {"open", 0x68, 0x68 + 0x30, 0, true},
        {"closed", 0x68, 0x68 + 0x30, 0xff, false},
        {"beyond the limit", 0x68, 0x68, 0, false},
        {"no map", 0xffff, 0x67, 0, false},
    };

    group("the new task's I/O map");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct context c;

        settle();
        place(CODE32("in al, 0x80"), CODE_AREA + LANDING);
        outer_task(3);
        task.wide.io_map = rows[i].map;
        memset(task.bytes + 0x68, rows[i].bits, sizeof(task) - 0x68);
        set_tss(TASK, &task, rows[i].limit, DPL3 | TYPE_TSS);
        c = go_by(&ways[0], 3, TASK);
        expect_trap(go(&c), rows[i].allowed ? FAULT_AT(VECTOR_END, 0, LANDING + 4) : FAULT_AT(GP, 0, LANDING),
                    "%s", rows[i].what);
    }
}

/* The inner stacks and the LDT are the new TSS's. */
static void new_context(void)
{
    struct context c;
    const struct trap *trap;

    group("what belongs to the new task");
    for (unsigned ring = 1; ring < 4; ring++) {
        settle();
        outer_task(ring);
        task.wide.ldt = LDT;
        task.wide.seg[ES_AT] = LDT_DATA | 3;
        c = go_by(&ways[0], ring, TASK);
        trap = go(&c);
        expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "ring %u", ring);
        expect_equal(trap->frame + 20, (ulong)(task_stack + sizeof(task_stack)),
                     "ring %u: the handler's stack", ring);
        expect_equal(after.ldtr, LDT, "ring %u: LDTR", ring);
        expect_equal(trap->at.es, LDT_DATA | 3, "ring %u: a segment of its LDT", ring);
        expect_equal(trap->at.cs, SEL_RING_CODE(ring), "ring %u: CS", ring);
    }
    /* Without paging CR3 is left alone; all of EFLAGS is loaded. */
    settle();
    task.wide.cr3 = 0x12345000;
    outer_task(3);
    task.wide.eflags = FLAG_FIXED | FLAG_IOPL | FLAG_IF | FLAG_AC | FLAG_ID | FLAG_DF | FLAG_RF | FLAG_NT;
    c = go_by(&ways[0], 3, TASK);
    trap = go(&c);
    expect_trap(trap, FAULT_AT(VECTOR_END, 0, LANDING + 3), "EFLAGS");
    expect_equal(trap->at.flags, task.wide.eflags & ~(u32)FLAG_RF, "EFLAGS");
    expect_equal(after.cr3, read_cr3(), "CR3 without paging");
    /* Reserved bits of the image mean nothing. */
    settle();
    task.wide.eflags = 0xffc08028;
    c = go_by(&ways[0], 0, TASK);
    expect_equal(go(&c)->at.flags, FLAG_FIXED, "reserved bits of EFLAGS");
}

/* ---- paging ---- */

enum {
    DIRECTORY = PAGE_AREA,
    TABLE = PAGE_AREA + 0x1000,
    DIRECTORY2 = PAGE_AREA + 0x2000,
    POINTERS = PAGE_AREA + 0x3000,
    PAE_DIRECTORY = PAGE_AREA + 0x4000, /* four pages */
    PAGE = TEST_AREA + 0x10000,         /* a TSS lies across its end */
    PRESENT = 1,
    WRITABLE = 2,
    USER = 4,
    LARGE = 0x80,
};

static u32 *entry_of(u32 address)
{
    return (u32 *)TABLE + (address >> 12 & 0x3ff);
}

/* 4 MiB pages, and small ones for TEST_AREA. */
static void map(u32 directory)
{
    for (u32 n = 0; n < 1024; n++)
        ((u32 *)directory)[n] = n << 22 | LARGE | USER | WRITABLE | PRESENT;
    for (u32 n = 0; n < 1024; n++)
        ((u32 *)TABLE)[n] = (TEST_AREA + (n << 12)) | USER | WRITABLE | PRESENT;
    ((u32 *)directory)[TEST_AREA >> 22] = TABLE | USER | WRITABLE | PRESENT;
}

static void paging_on(void)
{
    map(DIRECTORY);
    map(DIRECTORY2);
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3(DIRECTORY);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void paging_off(void)
{
    write_cr0(read_cr0() & ~(ulong)(CR0_PG | CR0_WP));
    write_cr4(read_cr4() & ~(ulong)(CR4_PSE | CR4_PAE));
    write_cr3(0);
}

/* A TSS that lies across a page end, with one of its pages taken away or made read-only. */
struct torn {
    bool old;   /* the old task's TSS, or the new one's */
    bool early; /* the page ends right after the link, or in the middle of what is saved */
    unsigned page;
    bool read_only;
};

/* The page-fault error code, or -1 where nothing is amiss with that page. */
static int torn_error(const struct way *w, const struct torn *t)
{
    bool nested = nests(w), link = t->page == 0;
    bool reads = t->old ? w->source == BY_RETURN && link : true;
    bool writes = t->old ? !(t->early && link) : nested && link;

    if (reads && !t->read_only)
        return 0;
    return writes ? (t->read_only ? 3 : 2) : -1;
}

/*
 * A page fault at either TSS is one of the old task, which goes on as if nothing had happened (SDM 3A 8.3, steps 5 and 11).
 */
static void torn_tss(const struct way *w, const struct torn *t)
{
    u32 at = PAGE + 0x1000 - (t->early ? 4u : 0x30u), page = PAGE + t->page * 0x1000;
    struct tss32 *state = (struct tss32 *)at;
    u16 current = t->old ? SPARE : MAIN, next = t->old ? TASK : SPARE;
    int error = torn_error(w, t);
    const struct trap *trap;
    struct context c;

    settle();
    paging_on();
    c = go_by(w, 0, next);
    task.wide.cr3 = DIRECTORY;
    *state = t->old ? *main_tss() : task_state(CODE_AREA + LANDING);
    set_tss(SPARE, state, sizeof(*state) - 1, DPL3 | TYPE_TSS);
    if (t->old)
        asm volatile("ltr %w0" ::"r"(SPARE));
    else if (w->selector == TASK)
        *(u16 *)(DATA_AREA + 4) = SPARE;
    if (w->source == BY_RETURN)
        gdt[next / 8] |= (u64)BUSY << 40;
    *entry_of(page) = t->read_only ? page | PRESENT | USER : 0;
    invlpg(page);
    trap = go(&c);
    *entry_of(page) = page | PRESENT | WRITABLE | USER;
    invlpg(page);
    if (!t->old && !t->read_only && nests(w) && t->page == 0)
        error = trap->error & 2; /* the link is written, the rest is read: either may be first */
    expect_trap(trap, error < 0 ? FAULT_AT(VECTOR_END, 0, LANDING + 3) : FAULT(PF, (ulong)error),
                "%s, %s TSS%s, page %u, %s", w->name, t->old ? "old" : "new", t->early ? " early" : "",
                t->page, t->read_only ? "read-only" : "absent");
    if (error >= 0) {
        expect_equal(trap->cr2 & ~0xffful, page, "%s, page %u: CR2", w->name, t->page);
        expect_equal(trap->at.sp, c.sp, "%s, page %u: ESP", w->name, t->page);
        expect_equal(after.tr, current, "%s, page %u: TR", w->name, t->page);
        expect_equal(after.cr0 & CR0_TS, 0, "%s, page %u: CR0.TS", w->name, t->page);
        expect_equal(busy(current), 1, "%s, page %u: the old task is busy", w->name, t->page);
        expect_equal(busy(next), w->source == BY_RETURN, "%s, page %u: the new task is busy", w->name,
                     t->page);
    }
    paging_off();
}

static void page_faults(void)
{
    group("page faults at the TSSs");
    for (unsigned n = 0; n < WAYS; n++) {
        for (unsigned bits = 0; bits < 16; bits++) {
            const struct way *w = &ways[n];
            struct torn t = {
                .old = bits & 1, .early = bits >> 1 & 1, .page = bits >> 2 & 1, .read_only = bits >> 3 & 1};

            /* The far transfers with the selector in the code go to TASK always. */
            if (w->ring0 || w->source == BY_EXCEPTION || (w->next == 7 && !t.old))
                continue;
            /* A CPU may look at the whole of the new TSS, or at what it needs. */
            if (!t.old && t.early && t.page == 0 && !nests(w))
                continue;
            torn_tss(w, &t);
        }
    }
}

static void address_spaces(void)
{
    struct context c;
    const struct trap *trap;

    group("the new task's address space");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];

        settle();
        paging_on();
        if (w->source == BY_RETURN)
            gdt[TASK / 8] |= (u64)BUSY << 40;
        c = go_by(w, w->ring0 ? 0 : 3, TASK);
        task.wide.cr3 = DIRECTORY2;
        *entry_of(PAGE) = PAGE | USER | WRITABLE | PRESENT;
        *(volatile u32 *)PAGE = 1; /* cached in the TLB */
        ((u32 *)DIRECTORY2)[TEST_AREA >> 22] = 0;
        place(CODE32("mov eax, ds:[0x810000]"), CODE_AREA + LANDING);
        trap = go(&c);
        end_of_interrupt(w);
        expect_trap(trap, FAULT_AT(PF, 0, LANDING), "%s", w->name);
        expect_equal(trap->cr2, PAGE, "%s: CR2", w->name);
        expect_equal(after.cr3, DIRECTORY2, "%s: CR3", w->name);
        paging_off();
    }
    /* The new task's LDT is in no page of its own address space: a page fault of the new task. */
    settle();
    paging_on();
    outer_task(3);
    gdt[BAD / 8] = descriptor(PAGE, 0xff, ACCESS_P | TYPE_LDT, 0);
    *(u64 *)(PAGE + LDT_DATA / 8 * 8) = descriptor(0, 0xfffff, DATA_RW(3), FLAT);
    task.wide.ldt = BAD;
    task.wide.cr3 = DIRECTORY2;
    task.wide.seg[DS_AT] = LDT_DATA | 3;
    ((u32 *)DIRECTORY2)[TEST_AREA >> 22] = 0;
    c = go_by(&ways[0], 3, TASK);
    trap = go(&c);
    paging_off();
    expect_trap(trap, FAULT_AT(PF, 0, LANDING), "the new LDT is not mapped");
    expect_equal(trap->cr2, PAGE + 16, "the new LDT is not mapped: CR2");
    expect_equal(after.tr, TASK, "the new LDT is not mapped: TR");
    expect_equal(after.cr3, DIRECTORY2, "the new LDT is not mapped: CR3");
    /* A task with a 16-bit TSS stays in the address space. */
    settle();
    paging_on();
    narrow_task();
    c = go_by(&ways[0], 0, TASK);
    trap = go(&c);
    paging_off();
    expect_equal(trap->vector, VECTOR_END, "a 16-bit TSS");
    expect_equal(after.cr3, DIRECTORY, "a 16-bit TSS: CR3");
    /* PAE: the four entries at CR3 are loaded with it. */
    for (unsigned bad = 0; bad < 2; bad++) {
        settle();
        for (u32 n = 0; n < 2048; n++)
            ((u64 *)PAE_DIRECTORY)[n] = (u64)n << 21 | LARGE | USER | WRITABLE | PRESENT;
        for (u32 n = 0; n < 8; n++)
            ((u64 *)POINTERS)[n] = (PAE_DIRECTORY + (n & 3) * 0x1000) | PRESENT;
        if (bad)
            ((u64 *)POINTERS)[6] |= 2; /* reserved */
        else
            ((u64 *)POINTERS)[4 + (TEST_AREA >> 30)] = (PAE_DIRECTORY + 0x1000) | PRESENT;
        write_cr4(read_cr4() | CR4_PAE);
        write_cr3(POINTERS);
        write_cr0(read_cr0() | CR0_PG);
        c = go_by(&ways[0], 0, TASK);
        task.wide.cr3 = POINTERS + 32;
        if (!bad) /* all as before but the third GiB */
            ((u64 *)POINTERS)[4] = PAE_DIRECTORY | PRESENT, ((u64 *)POINTERS)[6] = 0;
        place(CODE32("mov eax, ds:[0x80000000]"), CODE_AREA + LANDING);
        trap = go(&c);
        paging_off();
        if (bad) {
            expect_equal(trap->vector, GP, "a reserved bit in a PDPTE: vector");
            expect_equal(trap->error, 0, "a reserved bit in a PDPTE: error code");
            expect_equal(after.cr3, POINTERS, "a reserved bit in a PDPTE: CR3");
            expect_equal(after.tr, MAIN, "a reserved bit in a PDPTE: TR");
        } else {
            expect_trap(trap, FAULT_AT(PF, 0, LANDING), "an absent PDPTE");
            expect_equal(after.cr3, POINTERS + 32, "an absent PDPTE: CR3");
        }
    }
}

/* The busy bits are in the GDT, which cannot be written: a page fault before anything has changed. */
static void read_only_gdt(void)
{
    group("a read-only GDT");
    for (unsigned n = 0; n < WAYS; n++) {
        const struct way *w = &ways[n];
        struct pseudo_descriptor copy = {sizeof(gdt) - 1, PAGE};
        const struct trap *trap;
        struct context c;

        if (w->ring0 || w->source == BY_EXCEPTION)
            continue;
        settle();
        if (w->source == BY_RETURN)
            gdt[TASK / 8] |= (u64)BUSY << 40;
        paging_on();
        c = go_by(w, 0, TASK);
        task.wide.cr3 = DIRECTORY;
        memcpy((void *)PAGE, gdt, sizeof(gdt));
        *entry_of(PAGE) = PAGE | USER | PRESENT;
        invlpg(PAGE);
        asm volatile("lgdt %0" ::"m"(copy));
        trap = go(&c);
        load_gdt(sizeof(gdt) - 1);
        paging_off();
        expect_trap(trap, FAULT(PF, 3), "%s", w->name);
        expect_equal(trap->cr2 & ~0xffful, PAGE, "%s: CR2", w->name);
        expect_equal(after.tr, MAIN, "%s: TR", w->name);
    }
}

/* ---- LTR and its kin ---- */

static void busy_rules(void)
{
    struct context c;

    group("LTR");
    settle();
    c = kernel_context(CODE32("ltr ax"));
    c.ax = TASK;
    expect_trap(go(&c), END, "LTR of an available TSS");
    expect_equal(busy(TASK), 1, "LTR makes it busy");
    expect_equal(busy(MAIN), 1, "and the old one stays so");
    load_tss(TSS_LIMIT);
    expect_trap(go(&c), FAULT(GP, TASK), "LTR of a busy TSS");
    settle();
}

void test(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1 << 11);
    *(volatile u32 *)0xfee000f0 = 0x1ff;
    list_ways();
    all_ways();
    nested();
    privileges();
    bad_tss();
    bad_segments();
    first_instruction();
    narrow();
    virtual_tasks();
    virtual_interrupts();
    narrow_inner_stacks();
    debug_trap();
    io_maps();
    new_context();
    page_faults();
    address_spaces();
    read_only_gdt();
    busy_rules();
}
