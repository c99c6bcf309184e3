/*
 * Two outcomes of one case: what differs.
 */
#include <string.h>

#include "insn.h"

void print_bytes(const u8 *p, unsigned n)
{
    while (n--)
        printf("%02x", *p++);
}

struct comparison {
    const struct insn_case *test;
    bool print; /* say what differs */
    unsigned differences;
};

static void differs(struct comparison *c, const char *what, u64 in, u64 host, u64 guest)
{
    c->differences++;
    if (c->print)
        printf("    %-8s was %016llx: CPU %016llx, interpreter %016llx\n", what, (unsigned long long)in,
               (unsigned long long)host, (unsigned long long)guest);
}
static void compare64(struct comparison *c, const char *what, u64 in, u64 host, u64 guest)
{
    if (host != guest)
        differs(c, what, in, host, guest);
}
static void compare_bytes(struct comparison *c, const char *what, const u8 *in, const u8 *host,
                          const u8 *guest, unsigned size)
{
    if (!memcmp(host, guest, size))
        return;
    c->differences++;
    if (!c->print)
        return;
    printf("    %-8s was ", what);
    print_bytes(in, size);
    printf(": CPU ");
    print_bytes(host, size);
    printf(", interpreter ");
    print_bytes(guest, size);
    printf("\n");
}

static void compare_register(struct comparison *c, const char *kind, unsigned n, const u8 *in, const u8 *host,
                             const u8 *guest, unsigned size)
{
    char name[8];

    if (!memcmp(host, guest, size))
        return;
    snprintf(name, sizeof(name), "%s%u", kind, n);
    compare_bytes(c, name, in, host, guest, size);
}

static unsigned vector_registers(const struct insn_case *test)
{
    return test->mode == X86_CODE64 ? 16 : 8;
}

static void compare_fx(struct comparison *c, const u8 *in, const u8 *host, const u8 *guest)
{
    static const struct {
        const char *name;
        u8 at, size;
    } fields[] = {{"fcw", 0, 2}, {"fsw", 2, 2},  {"tags", 4, 1},  {"fop", 6, 2},
                  {"fip", 8, 8}, {"fdp", 16, 8}, {"mxcsr", 24, 4}};

    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++) {
        u64 v[3] = {0, 0, 0};

        memcpy(&v[0], in + fields[n].at, fields[n].size);
        memcpy(&v[1], host + fields[n].at, fields[n].size);
        memcpy(&v[2], guest + fields[n].at, fields[n].size);
        if (fields[n].size == 8) /* what CPUs do with pointers that are not canonical differs */
            for (unsigned k = 0; k < 3; k++)
                v[k] &= 0xffffffffffffff;
        compare64(c, fields[n].name, v[0], v[1], v[2]);
    }
    for (unsigned n = 0; n < 8; n++)
        compare_register(c, "st", n, in + 32 + 16 * n, host + 32 + 16 * n, guest + 32 + 16 * n, 10);
    for (unsigned n = 0; n < vector_registers(c->test); n++)
        compare_register(c, "xmm", n, in + 160 + 16 * n, host + 160 + 16 * n, guest + 160 + 16 * n, 16);
}

/* The upper halves. */
static void compare_ymm(struct comparison *c, const struct insn_state *in, const struct insn_state *host,
                        const struct insn_state *guest)
{
    for (unsigned n = 0; n < vector_registers(c->test); n++)
        compare_register(c, "ymm", n, in->ymm[n], host->ymm[n], guest->ymm[n], 16);
}

unsigned outcome_compare(const struct insn_case *test, const struct insn_outcome *host,
                         const struct insn_outcome *guest, bool print)
{
    struct comparison comparison = {test, print}, *c = &comparison;
    const u64 flags = FLAGS_COMPARED & ~flags_ignored(test);

    compare64(c, "vector", 3, host->vector, guest->vector);
    if (host->vector == guest->vector) {
        /* The kernel keeps to itself what is in its half of the address space: always "present", and no address. Far
           from the windows there may be other memory of this process. */
        bool kernels = host->cr2 >> 63, page = host->vector == VEC_PF;
        bool ours = host->cr2 - CODE_BASE < 0x10000 || host->cr2 - DATA_BASE < 0x10000;
        u64 unknown = page && (!ours || address_ignored(test)) ? PF_P : 0;

        compare64(c, "error", 0, host->error & ~unknown, guest->error & ~unknown);
        if (page && !kernels && !address_ignored(test))
            compare64(c, "cr2", 0, host->cr2, guest->cr2);
    }
    compare64(c, "rip", test->in.rip, host->s.rip, guest->s.rip);
    for (unsigned n = 0; n < (test->mode == X86_CODE64 ? 16 : 8); n++) {
        u64 mask = case_register_mask(test, n);

        compare64(c, register_names[n], test->in.gpr[n], host->s.gpr[n] & mask, guest->s.gpr[n] & mask);
    }
    compare64(c, "flags", test->in.rflags, host->s.rflags & flags, guest->s.rflags & flags);
    compare_fx(c, test->in.fx, host->s.fx, guest->s.fx);
    compare_ymm(c, &test->in, &host->s, &guest->s);
    if (memcmp(host->data, guest->data, DATA_WRITABLE)) {
        unsigned from = 0, to = DATA_WRITABLE;

        while (host->data[from] == guest->data[from])
            from++;
        while (host->data[to - 1] == guest->data[to - 1])
            to--;
        if (to - from > 32)
            to = from + 32;
        if (c->print)
            printf("    memory at %x\n", DATA_BASE + from);
        compare_bytes(c, "memory", test->data + from, host->data + from, guest->data + from, to - from);
    }
    return c->differences;
}
