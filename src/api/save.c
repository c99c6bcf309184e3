/* Save and restore: the snapshot layer writes machines; what is added here is the configuration they are made from. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/vm.h"
#include "snapshot/snapshot.h"

int plastron_save(plastron_vm *vm, const char *file, struct plastron_error *err)
{
    struct error e = {{0}};
    int result = -1;

    if (vm_on_runner(vm)) {
        error_set(&e, "a hook cannot save the machine: stop with PLASTRON_STOP_HOOK and save it then");
        return api_error(err, &e);
    }
    struct plastron_config *config = config_absolute(vm->config, vm->folder);
    json_t *json = config ? config_to_json(config) : NULL;
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text)
        result = snapshot_save(vm->machine, file, text, &e);
    else
        error_set(&e, "out of memory");
    free(text);
    json_decref(json);
    plastron_config_free(config);
    return result ? api_error(err, &e) : 0;
}

static struct plastron_config *saved_config(const struct snapshot *snapshot, const char *file,
                                            struct error *err)
{
    json_error_t fault;
    json_t *json = json_loads(snapshot_config(snapshot), 0, &fault);

    if (!json) {
        error_set(err, "%s: its options are not JSON: %s", file, fault.text);
        return NULL;
    }
    struct plastron_config *config = config_from_json(json, err);
    json_decref(json);
    if (!config)
        error_prefix(err, "%s", file);
    return config;
}

plastron_vm *plastron_restore(const char *file, const plastron_config *host_options,
                              struct plastron_error *err)
{
    struct error e = {{0}};
    struct plastron_vm *vm = NULL;
    struct snapshot *snapshot = snapshot_open(file, &e);
    struct plastron_config *config = snapshot ? saved_config(snapshot, file, &e) : NULL;

    if (config && host_options && config_override_host(config, host_options, &e)) {
        plastron_config_free(config);
        config = NULL;
    }
    if (config)
        vm = vm_create(config, true, &e);
    if (vm && snapshot_restore(snapshot, vm->machine, &e)) {
        vm_discard(vm);
        vm = NULL;
    }
    if (snapshot)
        snapshot_close(snapshot);
    if (!vm)
        api_error(err, &e);
    return vm;
}
