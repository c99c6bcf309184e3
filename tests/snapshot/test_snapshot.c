/* Snapshot files: a machine comes back as it was, and no file, damaged or made with malice, does anything but be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "machine/vm_state.h"
#include "snapshot/format.h"
#include "snapshot/snapshot.h"

static char directory[64], path[128];

static int set_up(void **state)
{
    snprintf(directory, sizeof(directory), "/tmp/plastron-snapshot-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/vm.snap", directory);
    return 0;
}

/* Removes the directory; more than the snapshot in it is a left-over. */
static int tear_down(void **state)
{
    unlink(path);
    if (rmdir(directory)) {
        fprintf(stderr, "%s is not empty\n", directory);
        return -1;
    }
    return 0;
}

static void new_vm(struct fake_vm *fake, unsigned vcpus)
{
    struct error err;

    fake_vm_new(fake, "nnj", vcpus, CLOCK_ICOUNT);
    fake->vm->board_name = "test-1";
    if (!memory_add_block(&fake->vm->memory, "rom", KIB(64), true, &err))
        fail_msg("%s", err.text);
}

/* A machine with something everywhere: pages at both ends, one that compresses badly, one that is zero. */
static void busy_vm(struct fake_vm *fake)
{
    struct memory *memory;
    u32 random = 1;

    new_vm(fake, 2);
    memory = &fake->vm->memory;
    vm_run(fake->vm, 70001);
    for (unsigned i = 0; i < PAGE_SIZE; i += 4) {
        random = random * 1664525 + 1013904223;
        assert_true(dma_write(memory, 0x55000 + i, &random, 4));
    }
    assert_true(dma_write(memory, MIB(1) - 4, "last", 4));
    assert_true(dma_write(memory, 0x77000, "", 1));
    memcpy(memory->blocks[1]->host + 0x1000, "rom", 3);
    vcpu_nmi(fake->vm->vcpus[1]);
}

static void save(struct vm *vm)
{
    struct error err = {.text = ""};

    if (snapshot_save(vm, path, "{\"memory\": \"1M\"}", &err))
        fail_msg("%s", err.text);
}

static int restore(struct vm *vm, struct error *err)
{
    struct snapshot *snapshot = snapshot_open(path, err);
    int result;

    if (!snapshot)
        return -1;
    result = snapshot_restore(snapshot, vm, err);
    snapshot_close(snapshot);
    return result;
}

static bool same(struct vm *a, struct vm *b)
{
    struct vm_hash x = vm_state_hash(a), y = vm_state_hash(b);

    return x.low == y.low && x.high == y.high;
}

static u8 *read_file(size_t *size)
{
    FILE *file = fopen(path, "rb");
    u8 *data;

    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    data = malloc(*size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

static void write_file(const u8 *data, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static void test_round_trip(void **state)
{
    struct fake_vm from, to;
    struct error err = {.text = ""};
    struct snapshot *snapshot;

    busy_vm(&from);
    save(from.vm);
    new_vm(&to, 2);
    assert_true(dma_write(&to.vm->memory, 0x99000, "must go", 7));
    assert_false(same(from.vm, to.vm));
    snapshot = snapshot_open(path, &err);
    if (!snapshot)
        fail_msg("%s", err.text);
    assert_string_equal(snapshot_config(snapshot), "{\"memory\": \"1M\"}");
    if (snapshot_restore(snapshot, to.vm, &err))
        fail_msg("%s", err.text);
    snapshot_close(snapshot);
    assert_true(same(from.vm, to.vm));
    assert_memory_equal(to.vm->memory.blocks[1]->host + 0x1000, "rom", 3);
    vm_run(from.vm, 200003);
    vm_run(to.vm, 200003);
    assert_true(same(from.vm, to.vm));
    vm_free(from.vm);
    vm_free(to.vm);
}

static void test_file_is_private_and_small(void **state)
{
    struct fake_vm fake;
    struct stat st;

    new_vm(&fake, 1);
    save(fake.vm);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(st.st_size < 32768); /* the zero pages of a megabyte are not in it */
    vm_free(fake.vm);
}

static void *run_thread(void *opaque)
{
    vm_run(opaque, UINT64_MAX);
    return NULL;
}

static void test_save_of_a_running_machine(void **state)
{
    struct fake_vm from, to;
    struct error err = {.text = ""};
    pthread_t thread;

    new_vm(&from, 2);
    assert_int_equal(pthread_create(&thread, NULL, run_thread, from.vm), 0);
    for (unsigned i = 0; i < 5; i++)
        save(from.vm);
    vm_stop(from.vm);
    pthread_join(thread, NULL);
    new_vm(&to, 2);
    if (restore(to.vm, &err))
        fail_msg("%s", err.text);
    vm_run(to.vm, 10);
    vm_free(from.vm);
    vm_free(to.vm);
}

/* ---- Damage ---- */

static void assert_open_fails(const char *why)
{
    struct error err = {.text = ""};
    struct snapshot *snapshot = snapshot_open(path, &err);

    assert_null(snapshot);
    if (!strstr(err.text, path) || !strstr(err.text, why))
        fail_msg("\"%s\" does not name the file or does not say \"%s\"", err.text, why);
    assert_null(strchr(err.text, '\n'));
}

static void test_every_truncation(void **state)
{
    struct fake_vm fake;
    size_t size;
    u8 *data;

    busy_vm(&fake);
    save(fake.vm);
    vm_free(fake.vm);
    data = read_file(&size);
    for (size_t len = 0; len < size; len += len < 200 || len > size - 200 ? 1 : 37) {
        write_file(data, len);
        assert_open_fails(len < 32 ? "too short" : "was written with");
    }
    free(data);
}

static void test_every_damaged_byte(void **state)
{
    struct fake_vm fake;
    size_t size;
    u8 *data;
    int fd;

    busy_vm(&fake);
    save(fake.vm);
    vm_free(fake.vm);
    data = read_file(&size);
    fd = open(path, O_WRONLY);
    for (size_t i = 0; i < size; i++) {
        u8 damaged = data[i] ^ (u8)(1 << i % 8);

        assert_int_equal(pwrite(fd, &damaged, 1, (off_t)i), 1);
        assert_open_fails("");
        assert_int_equal(pwrite(fd, &data[i], 1, (off_t)i), 1);
    }
    close(fd);
    free(data);
}

static void test_bytes_after_the_end(void **state)
{
    struct fake_vm fake;
    size_t size;
    u8 *data;

    new_vm(&fake, 1);
    save(fake.vm);
    vm_free(fake.vm);
    data = read_file(&size);
    data = realloc(data, size + 1);
    data[size] = 0;
    write_file(data, size + 1);
    assert_open_fails("was written with");
    free(data);
}

/* Make every checksum right again, as somebody who means harm would. Parts that run over the end stay as they are. */
static void reseal(u8 *data, size_t size)
{
    struct snapshot_header *header = (struct snapshot_header *)data;
    size_t at = sizeof(*header);

    for (u64 position = 0; size - at >= sizeof(struct snapshot_chunk); position++) {
        struct snapshot_chunk chunk;

        memcpy(&chunk, data + at, sizeof(chunk));
        if (chunk.size > size - at - sizeof(chunk))
            break;
        chunk.checksum = snapshot_chunk_checksum(&chunk, data + at + sizeof(chunk), position);
        memcpy(data + at, &chunk, sizeof(chunk));
        at += sizeof(chunk) + chunk.size;
    }
    header->checksum = snapshot_header_checksum(header);
}

static void test_later_version(void **state)
{
    struct fake_vm fake;
    size_t size;
    u8 *data;

    new_vm(&fake, 1);
    save(fake.vm);
    vm_free(fake.vm);
    data = read_file(&size);
    ((struct snapshot_header *)data)->version = 2;
    reseal(data, size);
    write_file(data, size);
    assert_open_fails("version 2 of the format; this program knows version 1");
    free(data);
}

/* Malice: content changed at will under right checksums. Each ends in a refusal or in a machine that can be run. */
static void test_resealed_changes(void **state)
{
    struct fake_vm from;
    unsigned refused = 0, loaded = 0;
    u32 random = 12345;
    size_t size;
    u8 *data, *copy;

    busy_vm(&from);
    save(from.vm);
    vm_free(from.vm);
    data = read_file(&size);
    copy = malloc(size);
    assert_non_null(copy);
    for (unsigned round = 0; round < 1500; round++) {
        struct error err = {.text = ""};
        struct fake_vm to;

        memcpy(copy, data, size);
        random = random * 1664525 + 1013904223;
        for (unsigned i = 0; i <= random >> 30; i++) {
            random = random * 1664525 + 1013904223;
            copy[32 + (random >> 8) % (size - 32)] = (u8)random;
        }
        reseal(copy, size);
        write_file(copy, size);
        new_vm(&to, 2);
        if (restore(to.vm, &err)) {
            assert_true(strlen(err.text) > 0);
            refused++;
        } else {
            vm_run(to.vm, 1000);
            loaded++;
        }
        vm_free(to.vm);
    }
    assert_true(refused > 100 && loaded > 10);
    free(copy);
    free(data);
}

/* ---- Another machine ---- */

static void assert_restore_fails(struct fake_vm *to, const char *why)
{
    struct error err = {.text = ""};

    assert_int_equal(restore(to->vm, &err), -1);
    if (!strstr(err.text, path) || !strstr(err.text, why))
        fail_msg("\"%s\" does not name the file or does not say \"%s\"", err.text, why);
    vm_free(to->vm);
}

static void test_other_machines(void **state)
{
    struct fake_vm from, to;
    struct error err;

    busy_vm(&from);
    save(from.vm);
    vm_free(from.vm);

    new_vm(&to, 2);
    to.vm->board_name = "other-1";
    assert_restore_fails(&to, "its board is \"test-1\", this one is \"other-1\"");
    new_vm(&to, 3);
    assert_restore_fails(&to, "it has no state of vcpu2");
    new_vm(&to, 1);
    assert_restore_fails(&to, "has a state that this one has no place for");
    new_vm(&to, 2);
    assert_non_null(memory_add_block(&to.vm->memory, "flash", KIB(4), false, &err));
    assert_restore_fails(&to, "2 blocks of memory, not 3");
    fake_vm_new(&to, "nnj", 2, CLOCK_ICOUNT);
    to.vm->board_name = "test-1";
    assert_restore_fails(&to, "its block of memory number 2 has 65536 bytes");
    fake_vm_new(&to, "nnj", 2, CLOCK_HOST);
    to.vm->board_name = "test-1";
    assert_restore_fails(&to, "another clock");
}

static void test_things_that_are_no_snapshots(void **state)
{
    static const u8 text[] = "This is a text, and longer than a header is, but it is no snapshot.\n";

    assert_open_fails("No such file");
    write_file(text, sizeof(text));
    assert_open_fails("is not a snapshot");
    write_file(text, 0);
    assert_open_fails("is not a snapshot");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_open_fails("not a regular file");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_open_fails("not a regular file");
    rmdir(path);
}

/* ---- Saves that fail ---- */

static void test_failed_save_leaves_nothing_and_keeps_the_old(void **state)
{
    struct fake_vm fake;
    struct error err = {.text = ""};
    size_t before, after;
    char bad[160];
    u8 *a, *b;

    new_vm(&fake, 1);
    snprintf(bad, sizeof(bad), "%s/none/vm.snap", directory);
    assert_int_equal(snapshot_save(fake.vm, bad, "", &err), -1);
    assert_non_null(strstr(err.text, bad));
    assert_int_equal(snapshot_save(fake.vm, directory, "", &err), -1);
    assert_non_null(strstr(err.text, "not a regular file"));

    save(fake.vm);
    a = read_file(&before);
    fake.vm->stop_reason = VM_STOP_POWEROFF;
    assert_int_equal(snapshot_save(fake.vm, path, "", &err), -1);
    assert_non_null(strstr(err.text, "has ended"));
    b = read_file(&after);
    assert_int_equal(before, after);
    assert_memory_equal(a, b, before);
    free(a);
    free(b);
    vm_free(fake.vm); /* that the directory holds nothing more is seen by tear_down */
}

/* A disk that is full in the middle of the file, played by a limit on the size of files. */
static void test_full_disk(void **state)
{
    struct rlimit old, limit;
    struct fake_vm fake;
    struct error err = {.text = ""};
    int result;

    busy_vm(&fake);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = (struct rlimit){.rlim_cur = 5000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    result = snapshot_save(fake.vm, path, "", &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(result, -1);
    assert_non_null(strstr(err.text, "File too large"));
    assert_int_equal(access(path, F_OK), -1);
    vm_free(fake.vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_is_private_and_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_save_of_a_running_machine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_truncation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_damaged_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_after_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_later_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resealed_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_machines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_things_that_are_no_snapshots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_save_leaves_nothing_and_keeps_the_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
