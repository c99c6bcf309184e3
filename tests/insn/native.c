/*
 * The native leg. rt_sigreturn loads the whole state of a case, CS included, and so enters the instruction in 64-, 32- or
 * 16-bit code; INT3 or an exception ends it, and the signal handler, on its own stack, copies the outcome and leaves for
 * native_run by longjmp. Two system calls a case and no process.
 *
 * What the kernel does to the state on this way: RF is set in the flags of a fault; DS, ES, FS and GS stay as they are.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include <asm/ldt.h>

#include "insn.h"

enum {
    XSAVE_SPACE =
        16384, /* of the signal frame: more than any XSAVE area that a kernel hands out without being asked */
    XSTATE_BV = 512,
    SW_SIZE = 468, /* the kernel's own bytes in the FXSAVE image (struct _fpx_sw_bytes) */
    TIMEOUT_SECONDS = 2,
};

static struct {
    ucontext_t template; /* of a frame that the kernel made: flags and reserved fields */
    ucontext_t frame;
    u8 fp[XSAVE_SPACE] __attribute__((aligned(64)));
    unsigned ymm_at; /* in the XSAVE area; 0: no such component */
    u8 *code;        /* the code pages, writable */
    struct insn_outcome *out;
    sigjmp_buf back;
    bool running;
    _Alignas(16) u8 stack[65536]; /* of signals; AddressSanitizer wants its ends aligned */
} native;

static void must(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(2);
    }
}

/* A component in its initial state may have no bytes in the area. */
static void take_ymm(const u8 *area, struct insn_outcome *out)
{
    if (native.ymm_at && area[XSTATE_BV] & COMPONENT_YMM)
        memcpy(out->s.ymm, area + native.ymm_at, sizeof(out->s.ymm));
    else
        memset(out->s.ymm, 0, sizeof(out->s.ymm));
}

static void take_outcome(const siginfo_t *info, const ucontext_t *context)
{
    static const u8 order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const greg_t *g = context->uc_mcontext.gregs;
    struct insn_outcome *out = native.out;

    for (unsigned n = 0; n < 16; n++)
        out->s.gpr[n] = (u64)g[order[n]];
    out->s.rip = (u64)g[REG_RIP];
    out->s.rflags = (u64)g[REG_EFL];
    memcpy(out->s.fx, context->uc_mcontext.fpregs, 512);
    take_ymm((const u8 *)context->uc_mcontext.fpregs, out);
    out->vector = info->si_signo == SIGVTALRM ? VECTOR_TIMEOUT : (unsigned)g[REG_TRAPNO];
    out->error = (u64)g[REG_ERR];
    out->cr2 = (u64)g[REG_CR2];
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    /* The kernel leaves AC, NT and ID as the case had them. */
    asm volatile(
        "lea -128(%%rsp), %%rsp\n\tpushfq\n\tandl $0xffdbbfff, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp"
        :
        :
        : "memory", "cc");
    if (!native.running) {
        if (number == SIGVTALRM)
            return;
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    native.running = false;
    take_outcome(info, context);
    siglongjmp(native.back, 1);
}

static void on_template(int number, siginfo_t *info, void *context)
{
    const ucontext_t *c = context;
    u32 extended_size; /* of the area (struct _fpx_sw_bytes) */

    native.template = *c;
    memcpy(&extended_size, (const u8 *)c->uc_mcontext.fpregs + SW_SIZE, 4);
    must(extended_size < XSAVE_SPACE, "XSAVE area of the signal frame is too large for the test");
    memcpy(native.fp, c->uc_mcontext.fpregs, extended_size);
}

static void make_ldt(void)
{
    for (unsigned n = 0; n < LDT_COUNT; n++) {
        const struct seg *seg = &ldt_segments[n];
        struct user_desc d = {
            .entry_number = n,
            .base_addr = (u32)seg->base,
            .limit = seg->limit,
            .seg_32bit = (seg->attr & SEG_DB) != 0,
            .contents = seg->attr & SEG_CODE ? 2 : (seg->attr & SEG_EXPAND_DOWN) != 0,
            .read_exec_only = !(seg->attr & SEG_WRITE),
            .useable = 1,
        };

        must(!syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)), "modify_ldt");
    }
}

static void map(u64 base, u64 size, int protection, int fd)
{
    int flags = MAP_FIXED_NOREPLACE | MAP_POPULATE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);

    must(mmap((void *)base, size, protection, flags, fd, 0) == (void *)base, "mmap of the test window");
}

/* The code pages, where no instruction can write to them; and once more, where we do. */
static void map_code(void)
{
    int fd = memfd_create("insn", 0);

    must(fd >= 0 && !ftruncate(fd, CODE_SIZE), "memfd_create");
    map(CODE_BASE, CODE_SIZE, PROT_READ | PROT_EXEC, fd);
    native.code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    must(native.code != MAP_FAILED, "mmap of the code pages");
    close(fd);
    memset(native.code, 0xcc, CODE_SIZE);
}

void native_start(const u8 *read_only)
{
    struct sigaction action = {.sa_sigaction = on_template, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    stack_t stack = {.ss_sp = native.stack, .ss_size = sizeof(native.stack)};

    map_code();
    map(DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE, -1);
    memcpy((void *)(u64)(DATA_BASE + DATA_WRITABLE), read_only, DATA_SIZE - DATA_WRITABLE);
    must(!mprotect((void *)(u64)(DATA_BASE + DATA_WRITABLE), DATA_SIZE - DATA_WRITABLE, PROT_READ),
         "mprotect");
    if (host_has_ymm()) {
        unsigned size, unused;

        __get_cpuid_count(0xd, 2, &size, &native.ymm_at, &unused, &unused);
    }
    make_ldt();
    must(!sigaltstack(&stack, NULL), "sigaltstack");
    must(!sigaction(SIGUSR1, &action, NULL), "sigaction");
    raise(SIGUSR1);
    native_catch();
}

void native_catch(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
        must(!sigaction(signals[n], &action, NULL), "sigaction");
}

/* Against endless loops; of this process's own time, so that a busy machine does not matter. */
static void set_timer(unsigned seconds)
{
    struct itimerval t = {.it_value = {.tv_sec = seconds}};

    setitimer(ITIMER_VIRTUAL, &t, NULL);
}

static bool all_zero(const u8 *p, size_t size)
{
    while (size && !*p)
        p++, size--;
    return !size;
}

/* XSTATE_BV: what is not in its initial state. XSAVE would tell the difference. */
static u64 components(const struct insn_state *s)
{
    bool x87 = s->fx[0] != 0x7f || s->fx[1] != 3 || !all_zero(s->fx + 2, 22) || !all_zero(s->fx + 32, 128);
    bool xmm = !all_zero(s->fx + 160, 256);
    bool ymm = native.ymm_at && !all_zero(s->ymm[0], sizeof(s->ymm));

    return (x87 ? COMPONENT_X87 : 0) | (xmm ? COMPONENT_SSE : 0) | (ymm ? COMPONENT_YMM : 0);
}

static void make_frame(const struct insn_case *test)
{
    static const u8 order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    ucontext_t *f = &native.frame;
    greg_t *g = f->uc_mcontext.gregs;
    u64 cs = case_segment(test, SEG_CS).selector, ss = case_segment(test, SEG_SS).selector;
    u64 xstate_bv = components(&test->in);

    *f = native.template;
    f->uc_mcontext.fpregs = (fpregset_t)native.fp;
    for (unsigned n = 0; n < 16; n++)
        g[order[n]] = (greg_t)test->in.gpr[n];
    g[REG_RIP] = (greg_t)test->in.rip;
    g[REG_EFL] = (greg_t)test->in.rflags;
    g[REG_CSGSFS] = (greg_t)(cs | ss << 48);
    memcpy(native.fp, test->in.fx, 464); /* what follows is the kernel's */
    if (native.ymm_at)
        memcpy(native.fp + native.ymm_at, test->in.ymm, sizeof(test->in.ymm));
    memcpy(native.fp + XSTATE_BV, &xstate_bv, 8);
}

void native_run(const struct insn_case *test, struct insn_outcome *out)
{
    static unsigned runs;
    u64 at = case_segment(test, SEG_CS).base + test->in.rip - CODE_BASE;
    unsigned length = at + test->length > CODE_SIZE ? (unsigned)(CODE_SIZE - at) : test->length;
    unsigned data = case_segment(test, SEG_DS).selector, gs = case_segment(test, SEG_GS).selector;

    if (!(runs++ % 1024))
        set_timer(TIMEOUT_SECONDS);
    memcpy(native.code + at, test->code, length);
    memcpy((void *)(u64)DATA_BASE, test->data, DATA_WRITABLE);
    make_frame(test);
    native.out = out;
    if (!sigsetjmp(native.back, 0)) {
        asm volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %1, %%gs" : : "r"(data), "r"(gs));
        native.running = true;
        asm volatile("mov %[frame], %%rsp\n\tmov %[number], %%eax\n\tsyscall\n\tud2"
                     :
                     : [frame] "r"(&native.frame), [number] "i"(SYS_rt_sigreturn)
                     : "rax", "memory");
    }
    out->data = (const u8 *)(u64)DATA_BASE;
    memset(native.code + at, 0xcc, length);
}
