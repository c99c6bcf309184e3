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

struct plastron_saved {
    struct snapshot *snapshot;
    struct plastron_config *config;
};

plastron_saved *plastron_saved_open(const char *file, struct plastron_error *err)
{
    struct error e = {{0}};
    struct plastron_saved *saved = calloc(1, sizeof(*saved));

    if (!saved)
        error_set(&e, "out of memory");
    else if ((saved->snapshot = snapshot_open(file, &e)))
        saved->config = saved_config(saved->snapshot, file, &e);
    if (saved && saved->config)
        return saved;
    api_error(err, &e);
    plastron_saved_close(saved);
    return NULL;
}

void plastron_saved_close(plastron_saved *saved)
{
    if (!saved)
        return;
    plastron_config_free(saved->config);
    if (saved->snapshot)
        snapshot_close(saved->snapshot);
    free(saved);
}

const plastron_config *plastron_saved_config(const plastron_saved *saved)
{
    return saved->config;
}

plastron_vm *plastron_saved_restore(const plastron_saved *saved, const plastron_config *host_options,
                                    struct plastron_error *err)
{
    struct error e = {{0}};
    struct plastron_config *config = config_copy(saved->config);
    struct plastron_vm *vm = NULL;

    if (!config)
        error_set(&e, "out of memory");
    else if (host_options && config_override_host(config, host_options, &e))
        plastron_config_free(config);
    else
        vm = vm_create(config, true, &e);
    if (vm && snapshot_restore(saved->snapshot, vm->machine, &e)) {
        vm_discard(vm);
        vm = NULL;
    }
    if (!vm)
        api_error(err, &e);
    return vm;
}

plastron_vm *plastron_restore(const char *file, const plastron_config *host_options,
                              struct plastron_error *err)
{
    plastron_saved *saved = plastron_saved_open(file, err);
    plastron_vm *vm = saved ? plastron_saved_restore(saved, host_options, err) : NULL;

    plastron_saved_close(saved);
    return vm;
}
