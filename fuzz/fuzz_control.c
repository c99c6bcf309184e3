/*
 * Bytes from a client of the control socket: the parser of messages and every command, on a real machine of 1 MiB that
 * does not run. Saving is left out: it would write where the input says.
 */
#include <stdlib.h>

#include "control/protocol.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void ignore(void *opaque, const char *bytes, size_t len) {}

static int no_save(plastron_vm *vm, const char *file, struct plastron_error *err)
{
    err->text[0] = 0;
    return -1;
}

static void no_quit(void *opaque) {}

static plastron_vm *make_vm(void)
{
    plastron_config *config = plastron_config_new();
    struct plastron_error err;

    if (plastron_config_set(config, "memory", "1M", &err) ||
        plastron_config_set(config, "serial", "none", &err))
        abort();
    plastron_vm *vm = plastron_vm_new(config, &err);
    if (!vm)
        abort();
    plastron_config_free(config);
    return vm;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static plastron_vm *vm; /* made once: inputs may change it, never break it */
    static const char negotiate[] = "{\"execute\":\"qmp_capabilities\"}";
    struct protocol_session session;

    if (!vm)
        vm = make_vm();
    struct control_target target = {.vm = vm, .save = no_save, .quit = no_quit};
    if (protocol_open(&session, &target, ignore, NULL, NULL))
        return 0;
    /* Half of the inputs are past the negotiation. */
    bool open = !(size && data[0] & 1) || !protocol_input(&session, negotiate, sizeof(negotiate) - 1);
    if (open && !protocol_input(&session, (const char *)data, size))
        protocol_event(&session, "STOP", NULL);
    protocol_close(&session);
    return 0;
}
