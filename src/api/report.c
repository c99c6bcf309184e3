/* The report of a vCPU for people: the machine's, and the instructions in words. */
#include <stdio.h>
#include <stdlib.h>

#include "api/disasm.h"
#include "api/vm.h"

enum { RECENT_MAX = 16 };

static void print_instruction(FILE *out, struct vcpu *vcpu, u64 rip)
{
    char text[192];

    disasm(vcpu, rip, text, sizeof(text));
    fprintf(out, "  %016llx  %s\n", (unsigned long long)rip, text);
}

static void print_instructions(FILE *out, struct vcpu *vcpu)
{
    u64 rips[RECENT_MAX];
    unsigned n = vcpu->engine && vcpu->engine->recent ? vcpu->engine->recent(vcpu, rips, RECENT_MAX) : 0;

    if (n)
        fprintf(out, "instructions that ran last, or with which blocks that ran last begin:\n");
    for (unsigned i = 0; i < n; i++)
        print_instruction(out, vcpu, rips[i]);
    fprintf(out, "instruction at RIP:\n");
    print_instruction(out, vcpu, vcpu->state.rip);
}

char *plastron_register_report(plastron_vm *vm, unsigned vcpu)
{
    char *text = NULL;
    size_t size;
    FILE *out = vcpu < vm->machine->nvcpus ? open_memstream(&text, &size) : NULL;

    if (!out)
        return NULL;
    vm_park(vm->machine);
    char *registers = vcpu_report(vm->machine->vcpus[vcpu]);
    fputs(registers ? registers : "", out);
    print_instructions(out, vm->machine->vcpus[vcpu]);
    vm_unpark(vm->machine);
    free(registers);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}
