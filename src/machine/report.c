/* The report of a dead vCPU: registers as a person reads them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine/engine.h"
#include "machine/vcpu.h"

enum { REPORT_RECENT = 16 };

static const char *mode_name(const struct vcpu_state *s)
{
    if (!vcpu_protected(s))
        return "real mode";
    if (vcpu_v86(s))
        return "virtual-8086 mode";
    if (vcpu_64bit(s))
        return "64-bit mode";
    if (vcpu_long_mode(s))
        return "compatibility mode";
    return s->seg[SEG_CS].attr & SEG_DB ? "32-bit protected mode" : "16-bit protected mode";
}

static const char *activity_name(const struct vcpu_state *s)
{
    static const char *const names[] = {"running", "halted", "waiting for SIPI",
                                        "shut down by a triple fault", "waiting for a store"};

    return s->activity < ARRAY_SIZE(names) ? names[s->activity] : "?";
}

static void print_general(FILE *out, const struct vcpu_state *s)
{
    static const char *const names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        fprintf(out, "%s %016" PRIx64 "%s", names[i], s->gpr[i], i % 4 == 3 ? "\n" : "  ");
    fprintf(out, "RIP %016" PRIx64 "  RFLAGS %08" PRIx64 "  CPL %u\n", s->rip, s->rflags, vcpu_cpl(s));
}

static void print_segments(FILE *out, const struct vcpu_state *s)
{
    static const char *const names[] = {"ES  ", "CS  ", "SS  ", "DS  ", "FS  ", "GS  ", "LDTR", "TR  "};

    for (unsigned i = 0; i < SEG_ALL; i++) {
        const struct seg *seg = &s->seg[i];

        fprintf(out, "%s %04x  base %016" PRIx64 "  limit %08x  attributes %04x%s\n", names[i], seg->selector,
                seg->base, seg->limit, seg->attr, seg->attr & SEG_UNUSABLE ? " (unusable)" : "");
    }
    fprintf(out, "GDTR base %016" PRIx64 "  limit %04x\n", s->gdtr.base, s->gdtr.limit);
    fprintf(out, "IDTR base %016" PRIx64 "  limit %04x\n", s->idtr.base, s->idtr.limit);
}

static void print_control(FILE *out, const struct vcpu_state *s)
{
    fprintf(out, "CR0 %08" PRIx64 "  CR2 %016" PRIx64 "  CR3 %016" PRIx64 "  CR4 %08" PRIx64 "\n", s->cr0,
            s->cr2, s->cr3, s->cr4);
    fprintf(out, "EFER %04" PRIx64 "  DR6 %08" PRIx64 "  DR7 %08" PRIx64 "\n", s->efer, s->dr[6], s->dr[7]);
}

static void print_recent(FILE *out, const struct vcpu *vcpu)
{
    u64 rips[REPORT_RECENT];
    unsigned count;

    if (!vcpu->engine || !vcpu->engine->recent)
        return;
    count = vcpu->engine->recent(vcpu, rips, ARRAY_SIZE(rips));
    if (count == 0)
        return;
    fprintf(out, "ran last, oldest first:\n");
    for (unsigned i = 0; i < count; i++)
        fprintf(out, " %016" PRIx64 "%s", rips[i], i % 4 == 3 || i + 1 == count ? "\n" : "");
}

char *vcpu_report(const struct vcpu *vcpu)
{
    const struct vcpu_state *s = &vcpu->state;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    fprintf(out, "vCPU %u: %s, %s, %" PRIu64 " instructions\n", vcpu->index, mode_name(s), activity_name(s),
            s->icount);
    print_general(out, s);
    print_segments(out, s);
    print_control(out, s);
    print_recent(out, vcpu);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}
