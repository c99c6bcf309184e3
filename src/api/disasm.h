/* One guest instruction as text, by Zydis where it is built in, otherwise by the mnemonics of our own opcode table. */
#ifndef API_DISASM_H
#define API_DISASM_H

#include "base/types.h"
#include "machine/vcpu.h"
#include "x86/decode.h"

/* Disassemble the instruction at `rip` in the code segment and mode that `vcpu` has now: "48 89 e5  mov rbp, rsp" into
   `text`. Returns the instruction's length, 0 when it cannot be read or decoded (the text says so). */
unsigned disasm(struct vcpu *vcpu, u64 rip, char *text, size_t size);

/* The same of code in our own memory, as if it were at `rip`: the text alone, without the bytes. */
unsigned disasm_bytes(enum x86_code_size code_size, u64 rip, const u8 *bytes, size_t len, char *text,
                      size_t size);

/* Whether Zydis is built in. */
bool disasm_has_zydis(void);

#endif
