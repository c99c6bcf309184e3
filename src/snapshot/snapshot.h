/*
 * A whole machine in one file: every state table that vm_state_sections (machine/vm_state.h) lists, the pages of every
 * block of memory that are not zero, and the configuration that the machine was made from. The file format is drawn in
 * format.h.
 *
 * The reader takes the file for an adversary (invariant 8): everything in it is under a checksum, nothing is allocated
 * that its length does not bound, and what is wrong gives one message with the file's name and the offset.
 */
#ifndef SNAPSHOT_SNAPSHOT_H
#define SNAPSHOT_SNAPSHOT_H

#include "base/error.h"
#include "base/types.h"

struct vm;

/*
 * Write the machine to `path`: to a temporary name beside it, synced, then renamed; on -1 nothing of it is left behind.
 * `config` is a text that snapshot_config gives back; this layer does not look into it. The VM is parked by this function
 * for the time of the save and disk requests that are under way are brought to an end. Not from a vCPU thread.
 */
MUST_CHECK int snapshot_save(struct vm *vm, const char *path, const char *config, struct error *err);

struct snapshot;

/* Open a file and check that it is whole: format, version, every checksum. NULL with `err` set. */
struct snapshot *snapshot_open(const char *path, struct error *err);
void snapshot_close(struct snapshot *snapshot);

/* The text that was given to snapshot_save; valid until snapshot_close. */
const char *snapshot_config(const struct snapshot *snapshot);

/*
 * Put the saved state into a VM that was made from the same configuration and has not run. -1: it is another machine, or
 * its state is refused; the VM must then be freed.
 */
MUST_CHECK int snapshot_restore(struct snapshot *snapshot, struct vm *vm, struct error *err);

#endif
