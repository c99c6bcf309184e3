/*
 * The lines of --trace. One event is one line; the first word tells its kind:
 *
 *     exec cpu0 0008:000000000010000c  48 89 e5                 mov rbp, rsp
 *     int  cpu0 0008:ffffffff81000040  exception 14 error 0002 address 0000000000001000
 *     io   cpu0 0008:ffffffff81000050  out 0080 1 31
 *     mmio cpu0 0008:ffffffff81000060  read fee00020 4 0
 *
 * A translation is a line of kind jit, and below it the guest's code and the host's side by side, then the host's exits:
 *
 *     jit  cpu0 user 0000000000401000  2 instructions, 5 bytes; 93 bytes at 00007f3f5c801000
 *                                               | entry
 *                                               |   00007f3f5c801011  cmp qword ptr gs:[0x18], 0x02
 *       0000000000401000  mov rax, [rbx]        |   00007f3f5c801034  lea rax, [rbx]
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/disasm.h"
#include "api/vm.h"
#include "machine/trace.h"

struct trace_sink {
    FILE *out;
    unsigned kinds;
    /* The last line of kind exec: the iterations of a REP are one line. */
    const struct vcpu *last_vcpu;
    u64 last_rip, last_icount;
};

struct trace_sink *trace_sink_new(const struct trace_config *config, struct error *err)
{
    struct trace_sink *sink = calloc(1, sizeof(*sink));

    if (!sink) {
        error_set(err, "out of memory");
        return NULL;
    }
    sink->kinds = config->kinds;
    sink->out = config->file ? fopen(config->file, "we") : stderr;
    if (!sink->out) {
        error_set_errno(err, errno, "trace: cannot make the file %s", config->file);
        free(sink);
        return NULL;
    }
    return sink;
}

void trace_sink_free(struct trace_sink *sink)
{
    if (!sink)
        return;
    if (sink->out != stderr)
        fclose(sink->out);
    free(sink);
}

unsigned trace_sink_kinds(const struct trace_sink *sink)
{
    return sink->kinds;
}

static void print_place(struct trace_sink *sink, const char *kind, const struct vcpu *vcpu)
{
    fprintf(sink->out, "%-4s cpu%u %04x:%016llx  ", kind, vcpu->index, vcpu->state.seg[SEG_CS].selector,
            (unsigned long long)vcpu->state.rip);
}

void trace_sink_insn(struct trace_sink *sink, struct vcpu *vcpu)
{
    const struct vcpu_state *s = &vcpu->state;
    bool repeats = sink->last_vcpu == vcpu && sink->last_rip == s->rip && sink->last_icount + 1 == s->icount;
    char text[192];

    sink->last_vcpu = vcpu;
    sink->last_rip = s->rip;
    sink->last_icount = s->icount;
    disasm(vcpu, s->rip, text, sizeof(text));
    if (repeats && (!strncmp(text, "f3 ", 3) || !strncmp(text, "f2 ", 3)))
        return;
    print_place(sink, "exec", vcpu);
    fprintf(sink->out, "%s\n", text);
}

void trace_sink_event(struct trace_sink *sink, struct vcpu *vcpu, enum trace_event kind, u8 vector,
                      bool has_error, u32 error, u64 address)
{
    static const char *const kinds[] = {
        [TRACE_EXCEPTION] = "exception",
        [TRACE_SOFTWARE] = "software",
        [TRACE_INTERRUPT] = "interrupt",
        [TRACE_NMI] = "nmi",
    };

    print_place(sink, "int", vcpu);
    fprintf(sink->out, "%s %u", kinds[kind], vector);
    if (has_error)
        fprintf(sink->out, " error %04x", error);
    if (kind == TRACE_EXCEPTION && vector == VEC_PF)
        fprintf(sink->out, " address %016llx", (unsigned long long)address);
    fputc('\n', sink->out);
}

void trace_sink_access(struct trace_sink *sink, struct vcpu *vcpu, bool mmio, bool write, u64 address,
                       unsigned size, u64 value)
{
    print_place(sink, mmio ? "mmio" : "io", vcpu);
    if (mmio)
        fprintf(sink->out, "%s %08llx %u %llx\n", write ? "write" : "read", (unsigned long long)address, size,
                (unsigned long long)value);
    else
        fprintf(sink->out, "%s %04llx %u %llx\n", write ? "out" : "in", (unsigned long long)address, size,
                (unsigned long long)value);
}

/* ---- translations ---- */

enum { GUEST_COLUMN = 56 };

static void print_part(FILE *out, const struct trace_translation *t, const struct trace_part *part)
{
    char guest[128] = "", text[96];

    if (part->guest_len) {
        disasm_bytes((enum x86_code_size)t->code_size, t->rip + part->guest, t->guest + part->guest,
                     part->guest_len, text, sizeof(text));
        snprintf(guest, sizeof(guest), "  %016llx  %s", (unsigned long long)(t->rip + part->guest), text);
    }
    if (part->what) {
        fprintf(out, "%-*s | %s\n", GUEST_COLUMN, guest, part->what);
        guest[0] = 0;
    }
    for (u32 done = 0; done < part->host_len;) {
        u64 address = t->host_address + part->host + done;
        unsigned len = disasm_bytes(X86_CODE64, address, t->host + part->host + done, part->host_len - done,
                                    text, sizeof(text));

        fprintf(out, "%-*s |   %016llx  %s\n", GUEST_COLUMN, guest, (unsigned long long)address,
                len ? text : "(no instruction)");
        guest[0] = 0;
        done += len ? len : 1;
    }
    if (guest[0])
        fprintf(out, "%-*s |\n", GUEST_COLUMN, guest);
}

void trace_sink_translation(struct trace_sink *sink, struct vcpu *vcpu, const struct trace_translation *t)
{
    u32 guest = 0, host = 0;
    unsigned instructions = 0;

    for (const struct trace_part *part = t->parts; part < t->parts + t->nparts; part++) {
        guest += part->guest_len;
        host += part->host_len;
        instructions += part->guest_len != 0;
    }
    fprintf(sink->out, "jit  cpu%u %s %016llx  %u instructions, %u bytes; %u bytes at %016llx\n", vcpu->index,
            t->user ? "user" : "kernel", (unsigned long long)t->rip, instructions, guest, host,
            (unsigned long long)t->host_address);
    for (unsigned n = 0; n < t->nparts; n++)
        print_part(sink->out, t, &t->parts[n]);
}
