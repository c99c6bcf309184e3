/* A machine for firmware tests: RAM and nothing else. Files are memfds, so that tests leave nothing behind. */
#ifndef TESTS_FIRMWARE_GUEST_H
#define TESTS_FIRMWARE_GUEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "firmware/bytes.h"
#include "firmware/firmware.h"
#include "firmware/loader.h"

struct guest {
    struct memory memory;
    struct mem_region ram;
    struct firmware_config config;
    struct vcpu_state state;
};

/* `ram_size` up to 3 GiB is there in full; of more, config alone tells. */
static inline void guest_init(struct guest *guest, u64 ram_size)
{
    u64 present = ram_size < MIB(64) ? ram_size : MIB(64);

    memset(guest, 0, sizeof(*guest));
    assert_int_equal(memory_init(&guest->memory, NULL), 0);
    guest->ram =
        (struct mem_region){.size = present, .enabled = true, .read = true, .write = true, .name = "ram"};
    guest->ram.block = memory_add_block(&guest->memory, "ram", present, false, NULL);
    assert_non_null(guest->ram.block);
    assert_int_equal(memory_add_region(&guest->memory, &guest->ram, NULL), 0);
    memory_commit(&guest->memory);
    guest->config = (struct firmware_config){
        .memory = &guest->memory,
        .ram_size = ram_size,
        .cpus = 1,
        .cpuid_signature = 0x806f8,
        .cpuid_features = 0x0f8bfbff,
        .phys_bits = 40,
        .long_mode = true,
        .serial_ports = 1,
        .fw_cfg = true,
    };
    vcpu_state_reset(&guest->state, true, 0);
}

static inline void guest_free(struct guest *guest)
{
    memory_free(&guest->memory);
}

/* Guest memory as bytes: RAM starts at 0. */
static inline u8 *guest_at(struct guest *guest, u64 phys)
{
    assert_in_range(phys, 0, guest->ram.size - 1);
    return guest->ram.block->host + phys;
}

struct file {
    int fd;
    char path[64];
};

static inline struct file file_make(const void *bytes, size_t len)
{
    struct file file = {.fd = memfd_create("test", MFD_CLOEXEC)};

    assert_true(file.fd >= 0);
    assert_int_equal(write(file.fd, bytes, len), len);
    snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
    return file;
}

static inline void file_free(struct file *file)
{
    close(file->fd);
}

static inline u8 sum_bytes(const u8 *bytes, size_t len)
{
    u8 sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += bytes[i];
    return sum;
}

/* The 16-byte aligned signature in the F segment, or NULL. */
static inline const u8 *find_in_f_segment(struct guest *guest, const char *signature)
{
    for (u64 at = 0xf0000; at < 0x100000; at += 16)
        if (memcmp(guest_at(guest, at), signature, strlen(signature)) == 0)
            return guest_at(guest, at);
    return NULL;
}

#endif
