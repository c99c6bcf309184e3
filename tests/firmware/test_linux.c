/* The bzImage loader, against headers made here. */
#include "guest.h"

#include <stdlib.h>

/* A bzImage of protocol 2.15 that prefers 16 MiB, as Linux for x86-64 does. */
enum {
    SETUP_SECTS = 4,
    SETUP_SIZE = (SETUP_SECTS + 1) * 512,
    KERNEL_SIZE = 0x3000,
    FILE_SIZE = SETUP_SIZE + KERNEL_SIZE
};
enum { INIT_SIZE = MIB(8), PREFERRED = MIB(16), ALIGNMENT = MIB(2) };

struct image {
    u8 bytes[FILE_SIZE];
    size_t size;
};

static void image_init(struct image *image)
{
    u8 *b = image->bytes;

    memset(image, 0, sizeof(*image));
    image->size = FILE_SIZE;
    b[0x1f1] = SETUP_SECTS;
    put_u32(b + 0x1f4, KERNEL_SIZE / 16);
    put_u16(b + 0x1fe, 0xaa55);
    b[0x201] = 0x6a;
    put_u32(b + 0x202, 0x53726448);
    put_u16(b + 0x206, 0x20f);
    b[0x211] = 1;
    put_u32(b + 0x214, 0x100000);
    put_u32(b + 0x22c, 0x7fffffff);
    put_u32(b + 0x230, ALIGNMENT);
    b[0x234] = 1;
    put_u16(b + 0x236, 1);
    put_u32(b + 0x238, 2047);
    put_u64(b + 0x258, PREFERRED);
    put_u32(b + 0x260, INIT_SIZE);
    for (size_t i = SETUP_SIZE; i < FILE_SIZE; i++)
        b[i] = (u8)(i * 7);
}

static int load(struct guest *guest, const struct image *image, const char *initrd, const char *cmdline,
                struct error *err)
{
    struct file file = file_make(image->bytes, image->size);
    struct loader_request request = {
        .kernel = file.path, .initrd = initrd, .cmdline = cmdline, .rsdp = 0xf1230};
    int result = loader_load(&request, &guest->config, &guest->state, err);

    file_free(&file);
    return result;
}

static void load_ok(struct guest *guest, const struct image *image, const char *initrd, const char *cmdline)
{
    struct error err = {""};

    if (load(guest, image, initrd, cmdline, &err))
        fail_msg("%s", err.text);
}

static void load_fails(struct guest *guest, const struct image *image, const char *cmdline,
                       const char *wanted)
{
    struct error err = {""};

    assert_int_equal(load(guest, image, NULL, cmdline, &err), -1);
    assert_non_null(strstr(err.text, "kernel /proc/self/fd/"));
    if (!strstr(err.text, wanted))
        fail_msg("\"%s\" does not say \"%s\"", err.text, wanted);
}

/* Walk the page tables that the state points to. */
static u64 translate(struct guest *guest, u64 virt)
{
    const u8 *pml4 = guest_at(guest, guest->state.cr3);
    u64 e = get_u64(pml4 + 8 * (virt >> 39 & 511));

    assert_int_equal(e & 3, 3);
    e = get_u64(guest_at(guest, e & PAGE_MASK) + 8 * (virt >> 30 & 511));
    assert_int_equal(e & 3, 3);
    e = get_u64(guest_at(guest, e & PAGE_MASK) + 8 * (virt >> 21 & 511));
    assert_int_equal(e & 0x83, 0x83);
    return (e & ~(u64)0x1fffff) | (virt & 0x1fffff);
}

static void check_descriptor(struct guest *guest, unsigned selector, u64 value)
{
    assert_in_range(selector + 7, 0, guest->state.gdtr.limit);
    assert_true(get_u64(guest_at(guest, guest->state.gdtr.base + selector)) == value);
}

static void check_zero_page(struct guest *guest, const char *cmdline)
{
    const u8 *page = guest_at(guest, guest->state.gpr[RSI]);
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(&guest->config, map);

    assert_int_equal(guest->state.gpr[RSI] % 16, 0);
    assert_int_equal(get_u32(page + 0x202), 0x53726448);
    assert_int_equal(page[0x210], 0xff);
    assert_int_equal(page[0x1ef], 0); /* the sentinel */
    assert_string_equal((const char *)guest_at(guest, get_u32(page + 0x228)), cmdline);
    assert_int_equal(page[0x1e8], entries);
    assert_memory_equal(page + 0x2d0, map, entries * sizeof(map[0]));
    assert_true(get_u64(page + 0x70) == 0xf1230);
}

static void test_64bit_entry(void **state)
{
    struct guest guest;
    struct image image;
    struct vcpu_state *s = &guest.state;

    guest_init(&guest, MIB(64));
    image_init(&image);
    load_ok(&guest, &image, NULL, "console=ttyS0");
    assert_memory_equal(guest_at(&guest, PREFERRED), image.bytes + SETUP_SIZE, KERNEL_SIZE);
    assert_true(s->rip == PREFERRED + 0x200);
    check_zero_page(&guest, "console=ttyS0");
    assert_true(s->efer == (EFER_LME | EFER_LMA));
    assert_true(s->cr0 == (CR0_PE | CR0_PG | CR0_ET));
    assert_true(s->cr4 == CR4_PAE);
    assert_true(s->rflags == FLAG_ONE);
    assert_true(vcpu_64bit(s));
    assert_int_equal(s->seg[SEG_CS].selector, 0x10);
    assert_int_equal(s->seg[SEG_DS].selector, 0x18);
    assert_int_equal(s->seg[SEG_SS].selector, 0x18);
    check_descriptor(&guest, 0x10, UINT64_C(0x00af9b000000ffff));
    check_descriptor(&guest, 0x18, UINT64_C(0x00cf93000000ffff));
    check_descriptor(&guest, 0x20, UINT64_C(0x00008b0000000067));
    assert_true(translate(&guest, 0) == 0);
    assert_true(translate(&guest, s->rip) == s->rip);
    assert_true(translate(&guest, 0xfffff000) == 0xfffff000);
    guest_free(&guest);
}

static void check_32bit_entry(struct guest *guest, u64 entry)
{
    const struct vcpu_state *s = &guest->state;

    assert_true(s->rip == entry);
    assert_true(s->cr0 == (CR0_PE | CR0_ET));
    assert_true(s->cr4 == 0 && s->efer == 0 && s->rflags == FLAG_ONE);
    assert_int_equal(s->gpr[RBP] | s->gpr[RDI] | s->gpr[RBX], 0);
    assert_int_equal(s->seg[SEG_CS].attr, 0xc09b);
    assert_int_equal(s->seg[SEG_CS].limit, UINT32_MAX);
    assert_int_equal(s->seg[SEG_SS].attr, 0xc093);
    check_descriptor(guest, 0x10, UINT64_C(0x00cf9b000000ffff));
    check_descriptor(guest, 0x18, UINT64_C(0x00cf93000000ffff));
}

static void test_32bit_entry(void **state)
{
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(64));
    image_init(&image);
    put_u16(image.bytes + 0x236, 0); /* a 32-bit kernel */
    load_ok(&guest, &image, NULL, NULL);
    check_32bit_entry(&guest, PREFERRED);
    check_zero_page(&guest, "");

    put_u16(image.bytes + 0x236, 1); /* a CPU that has no long mode */
    guest.config.long_mode = false;
    load_ok(&guest, &image, NULL, "x");
    check_32bit_entry(&guest, PREFERRED);
    guest_free(&guest);
}

/* Linux 2.4: boot protocol 2.03, at 1 MiB, unpacking with the memory below the zero page as scratch. */
static void test_old_kernel(void **state)
{
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(16));
    image_init(&image);
    put_u16(image.bytes + 0x206, 0x203);
    load_ok(&guest, &image, NULL, "root=/dev/hda1");
    check_32bit_entry(&guest, MIB(1));
    assert_memory_equal(guest_at(&guest, MIB(1)), image.bytes + SETUP_SIZE, KERNEL_SIZE);
    const u8 *page = guest_at(&guest, guest.state.gpr[RSI]);
    assert_in_range(guest.state.gpr[RSI], 0x90000, 0x9f000);
    assert_in_range(get_u32(page + 0x228), guest.state.gpr[RSI] + 4096, 0x9fc00);
    assert_in_range(guest.state.gdtr.base, guest.state.gpr[RSI] + 4096, 0x9fc00);
    assert_int_equal(get_u16(page + 2), 15 << 10);
    assert_int_equal(get_u32(page + 0x1e0), 15 << 10);
    load_fails(
        &guest, &image,
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789012345",
        "up to 255 bytes");
    guest_free(&guest);
}

static void test_relocation(void **state)
{
    struct guest guest;
    struct image image;

    /* 16 MiB it cannot have: as low as its alignment lets it. */
    guest_init(&guest, MIB(16));
    image_init(&image);
    load_ok(&guest, &image, NULL, NULL);
    assert_true(guest.state.rip == MIB(2) + 0x200);
    put_u32(image.bytes + 0x260, MIB(15));
    load_fails(&guest, &image, NULL, "give --memory more");
    guest_free(&guest);

    /* One that cannot move goes to 1 MiB, and unpacks itself to where it prefers. */
    guest_init(&guest, MIB(64));
    image_init(&image);
    image.bytes[0x234] = 0;
    load_ok(&guest, &image, NULL, NULL);
    assert_true(guest.state.rip == MIB(1) + 0x200);
    guest_free(&guest);
    guest_init(&guest, MIB(23));
    load_fails(&guest, &image, NULL, "give --memory more");
    guest_free(&guest);
}

static void test_initrd(void **state)
{
    enum { INITRD_SIZE = 100000 };
    u8 *bytes = malloc(INITRD_SIZE);
    struct guest guest;
    struct image image;
    struct error err = {""};

    assert_non_null(bytes);
    for (int i = 0; i < INITRD_SIZE; i++)
        bytes[i] = (u8)(i * 13);
    struct file initrd = file_make(bytes, INITRD_SIZE);
    guest_init(&guest, MIB(64));
    image_init(&image);
    load_ok(&guest, &image, initrd.path, NULL);
    const u8 *page = guest_at(&guest, guest.state.gpr[RSI]);
    u32 at = get_u32(page + 0x218);
    assert_int_equal(get_u32(page + 0x21c), INITRD_SIZE);
    assert_int_equal(at, MIB(64) - align_up(INITRD_SIZE, 4096));
    assert_memory_equal(guest_at(&guest, at), bytes, INITRD_SIZE);

    put_u32(image.bytes + 0x22c, MIB(40) - 1); /* initrd_addr_max */
    load_ok(&guest, &image, initrd.path, NULL);
    assert_int_equal(get_u32(guest_at(&guest, guest.state.gpr[RSI]) + 0x218),
                     MIB(40) - align_up(INITRD_SIZE, 4096));

    /* Under the kernel, when the kernel lies in the way. */
    put_u32(image.bytes + 0x22c, MIB(24) - 1);
    load_ok(&guest, &image, initrd.path, NULL);
    assert_int_equal(get_u32(guest_at(&guest, guest.state.gpr[RSI]) + 0x218),
                     MIB(16) - align_up(INITRD_SIZE, 4096));

    put_u32(image.bytes + 0x22c, MIB(1) + 1000);
    assert_int_equal(load(&guest, &image, initrd.path, NULL, &err), -1);
    assert_non_null(strstr(err.text, "do not fit"));
    assert_int_equal(load(&guest, &image, "/nonexistent/initrd", NULL, &err), -1);
    assert_non_null(strstr(err.text, "initrd /nonexistent/initrd"));
    file_free(&initrd);
    free(bytes);
    guest_free(&guest);
}

static void test_16bit_entry(void **state)
{
    struct guest guest;
    struct image image;
    const struct vcpu_state *s = &guest.state;

    guest_init(&guest, MIB(16));
    image_init(&image);
    put_u32(image.bytes + 0x214, 0); /* code32_start */
    load_ok(&guest, &image, NULL, "a b");
    assert_true(s->cr0 == CR0_ET && s->rip == 0 && s->rflags == FLAG_ONE);
    assert_int_equal(s->seg[SEG_CS].base, 0x10200);
    assert_int_equal(s->seg[SEG_CS].selector, 0x1020);
    assert_int_equal(s->seg[SEG_DS].selector, 0x1000);
    assert_int_equal(s->seg[SEG_SS].base, 0x10000);
    const u8 *setup = guest_at(&guest, 0x10000);
    assert_int_equal(get_u32(setup + 0x202), 0x53726448);
    assert_int_equal(setup[0x211], 0x81);
    assert_int_equal(get_u16(setup + 0x224), s->gpr[RSP] - 0x200);
    assert_string_equal((const char *)guest_at(&guest, get_u32(setup + 0x228)), "a b");
    assert_memory_equal(guest_at(&guest, MIB(1)), image.bytes + SETUP_SIZE, KERNEL_SIZE);

    image_init(&image); /* zImage */
    put_u16(image.bytes + 0x206, 0x202);
    image.bytes[0x211] = 0;
    put_u32(image.bytes + 0x214, 0x1000);
    load_ok(&guest, &image, NULL, "a b");
    assert_int_equal(s->seg[SEG_CS].selector, 0x9020);
    assert_memory_equal(guest_at(&guest, 0x10000), image.bytes + SETUP_SIZE, KERNEL_SIZE);
    assert_in_range(get_u32(guest_at(&guest, 0x90228)), 0x99800, 0x9fc00);

    image_init(&image);
    put_u32(image.bytes + 0x214, 0);
    image.bytes[0x1f1] = 0; /* means 4 */
    load_ok(&guest, &image, NULL, NULL);
    assert_memory_equal(guest_at(&guest, MIB(1)), image.bytes + SETUP_SIZE, KERNEL_SIZE);
    guest_free(&guest);
}

static void test_bad_kernels(void **state)
{
    char long_line[3000];
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(64));
    image_init(&image);
    image.size = FILE_SIZE - 16;
    load_fails(&guest, &image, NULL, "truncated");
    image.size = SETUP_SIZE;
    load_fails(&guest, &image, NULL, "truncated");
    image.size = 0x300;
    load_fails(&guest, &image, NULL, "truncated");
    image.size = 0;
    load_fails(&guest, &image, NULL, "empty");

    image_init(&image);
    put_u16(image.bytes + 0x206, 0x201);
    load_fails(&guest, &image, NULL, "2.01 is older than 2.02");
    image_init(&image);
    put_u32(image.bytes + 0x202, 0);
    load_fails(&guest, &image, NULL, "unknown format");
    image_init(&image);
    put_u32(image.bytes + 0x230, 3);
    load_fails(&guest, &image, NULL, "malformed");
    image_init(&image);
    put_u32(image.bytes + 0x230, 0);
    load_fails(&guest, &image, NULL, "malformed");
    image_init(&image);
    put_u64(image.bytes + 0x258, UINT64_MAX - 0x1000);
    load_fails(&guest, &image, NULL, "malformed");
    image_init(&image);
    put_u16(image.bytes + 0x236, 0);
    put_u32(image.bytes + 0x214, 0x100000 + KERNEL_SIZE);
    load_fails(&guest, &image, NULL, "entry point");
    put_u32(image.bytes + 0x214, 0xfffff);
    load_fails(&guest, &image, NULL, "entry point");
    image_init(&image);
    put_u32(image.bytes + 0x214, 0);
    image.bytes[0x1f1] = 23; /* more set-up code than the file has */
    load_fails(&guest, &image, NULL, "truncated");

    image_init(&image);
    memset(long_line, 'x', sizeof(long_line));
    long_line[2048] = '\0';
    load_fails(&guest, &image, long_line, "2047 bytes");
    long_line[2047] = '\0';
    load_ok(&guest, &image, NULL, long_line);
    check_zero_page(&guest, long_line);
    guest_free(&guest);
}

static void test_bad_paths(void **state)
{
    struct guest guest;
    struct error err = {""};
    struct loader_request request = {.kernel = "/nonexistent/kernel"};

    guest_init(&guest, MIB(16));
    assert_int_equal(loader_load(&request, &guest.config, &guest.state, &err), -1);
    assert_non_null(strstr(err.text, "kernel /nonexistent/kernel"));
    request.kernel = "/";
    assert_int_equal(loader_load(&request, &guest.config, &guest.state, &err), -1);
    assert_non_null(strstr(err.text, "a directory"));
    request.kernel = "/dev/null";
    assert_int_equal(loader_load(&request, &guest.config, &guest.state, &err), -1);
    assert_non_null(strstr(err.text, "regular file"));
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_64bit_entry), cmocka_unit_test(test_32bit_entry),
        cmocka_unit_test(test_old_kernel),  cmocka_unit_test(test_relocation),
        cmocka_unit_test(test_initrd),      cmocka_unit_test(test_16bit_entry),
        cmocka_unit_test(test_bad_kernels), cmocka_unit_test(test_bad_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
