/*
 * A machine without firmware or kernel: write a few real-mode instructions to its memory, let them print through a device
 * of this program's own, and show the registers that they leave.
 */
#include <plastron/plastron.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t code[] = {
    0xba, 0xe9, 0x00, /*        mov dx, 0xe9 */
    0xb0, 'A',        /*        mov al, 'A' */
    0xee,             /* again: out dx, al */
    0x04, 0x01,       /*        add al, 1 */
    0x3c, 'E',        /*        cmp al, 'E' */
    0x75, 0xf9,       /*        jne again */
    0xfa,             /*        cli */
    0xf4,             /*        hlt */
};

static void print(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    putchar((int)value);
}

int main(void)
{
    struct plastron_error err;
    struct plastron_registers regs = {.size = sizeof(regs)};
    struct plastron_io printer = {.size = sizeof(printer), .write = print};
    plastron_config *config = plastron_config_new();
    plastron_vm *vm = NULL;

    if (plastron_config_set(config, "memory", "1M", &err) ||
        plastron_config_set(config, "serial", "none", &err) || !(vm = plastron_vm_new(config, &err)) ||
        plastron_add_ports(vm, 0xe9, 1, &printer, NULL, &err) ||
        plastron_write_memory(vm, 0x1000, code, sizeof(code), &err) ||
        plastron_get_registers(vm, 0, &regs, &err))
        goto failed;
    regs.cs = (struct plastron_segment){.base = 0, .limit = 0xffff, .attributes = regs.cs.attributes};
    regs.rip = 0x1000;
    if (plastron_set_registers(vm, 0, &regs, &err))
        goto failed;
    enum plastron_stop_reason why = plastron_run(vm, 20); /* instructions: up to and with HLT */
    char *report = plastron_register_report(vm, 0);
    printf("\nstopped: %s\n%s", plastron_stop_name(why), report);
    free(report);
    plastron_vm_free(vm);
    plastron_config_free(config);
    return 0;
failed:
    fprintf(stderr, "hello: %s\n", err.text);
    return 1;
}
