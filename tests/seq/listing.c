/*
 * Code as text.
 */
#include "api/disasm.h"
#include "seq.h"

unsigned list_instruction(FILE *to, u64 rip, const u8 *bytes, unsigned available)
{
    char text[128];
    unsigned length = disasm_bytes(X86_CODE64, rip, bytes,
                                   available < X86_MAX_INSN ? available : X86_MAX_INSN, text, sizeof(text));

    fprintf(to, "    %#10llx  ", (unsigned long long)rip);
    for (unsigned n = 0; n < (length ? length : 1); n++)
        fprintf(to, "%02x", bytes[n]);
    fprintf(to, "%*s  %s\n", length < 11 ? (int)(22 - 2 * (length ? length : 1)) : 0, "",
            length ? text : "(no instruction, or more than there is)");
    return length ? length : 1;
}

void list_image(FILE *to, const struct image *image)
{
    for (unsigned at = 0; at < CODE_SIZE;) {
        if (!image->skip[at]) {
            at++;
            continue;
        }
        if (at && !image->skip[at - 1])
            fprintf(to, "\n");
        at += list_instruction(to, CODE_BASE + at, image->code + at, CODE_SIZE - at);
    }
}
