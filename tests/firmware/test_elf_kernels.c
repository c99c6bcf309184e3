/* PVH and multiboot kernels, made here. */
#include "guest.h"

enum { IMAGE_SIZE = 0x3000, TEXT_AT = 0x1000, TEXT_SIZE = 0x800, LOAD_AT = 0x100000, MEMORY_SIZE = 0x5000 };

struct image {
    u8 bytes[IMAGE_SIZE];
    size_t size;
    bool is64;
    unsigned segments;
};

static void image_init(struct image *image, bool is64)
{
    u8 *b = image->bytes;

    memset(image, 0, sizeof(*image));
    image->size = TEXT_AT + TEXT_SIZE;
    image->is64 = is64;
    memcpy(b, "\177ELF", 4);
    b[4] = is64 ? 2 : 1;
    b[5] = 1;
    put_u16(b + 18, is64 ? 62 : 3);
    if (is64) {
        put_u64(b + 32, 64);
        put_u16(b + 54, 56);
    } else {
        put_u32(b + 28, 52);
        put_u16(b + 42, 32);
    }
    for (int i = TEXT_AT; i < TEXT_AT + TEXT_SIZE; i++)
        b[i] = (u8)(i * 11);
}

static void set_entry(struct image *image, u64 entry)
{
    if (image->is64)
        put_u64(image->bytes + 24, entry);
    else
        put_u32(image->bytes + 24, (u32)entry);
}

static void add_segment(struct image *image, u32 type, u64 offset, u64 vaddr, u64 paddr, u64 filesz,
                        u64 memsz)
{
    u8 *h = image->bytes + (image->is64 ? 64 + 56 * image->segments : 52 + 32 * image->segments);

    put_u32(h, type);
    if (image->is64) {
        put_u64(h + 8, offset);
        put_u64(h + 16, vaddr);
        put_u64(h + 24, paddr);
        put_u64(h + 32, filesz);
        put_u64(h + 40, memsz);
    } else {
        put_u32(h + 4, (u32)offset);
        put_u32(h + 8, (u32)vaddr);
        put_u32(h + 12, (u32)paddr);
        put_u32(h + 16, (u32)filesz);
        put_u32(h + 20, (u32)memsz);
    }
    put_u16(image->bytes + (image->is64 ? 56 : 44), (u16)++image->segments);
}

/* A note segment at file offset E00h: something else's note first, then the PVH entry with a descriptor of `desc_size`. */
static void add_pvh_note(struct image *image, u32 desc_size, u64 entry)
{
    u8 *n = image->bytes + 0xe00;

    put_u32(n, 4);
    put_u32(n + 4, 5);
    put_u32(n + 8, 18);
    memcpy(n + 12, "GNU", 4);
    put_u32(n + 24, 4);
    put_u32(n + 28, desc_size);
    put_u32(n + 32, 18);
    memcpy(n + 36, "Xen", 4);
    put_u64(n + 40, entry);
    add_segment(image, 4, 0xe00, 0, 0, 40 + desc_size, 40 + desc_size);
}

static void add_multiboot(struct image *image, unsigned at, u32 flags)
{
    put_u32(image->bytes + at, 0x1badb002);
    put_u32(image->bytes + at + 4, flags);
    put_u32(image->bytes + at + 8, -(0x1badb002 + flags));
}

static int load(struct guest *guest, const struct image *image, const char *initrd, struct error *err)
{
    struct file file = file_make(image->bytes, image->size);
    struct loader_request request = {
        .kernel = file.path, .initrd = initrd, .cmdline = "one two", .rsdp = 0xf4560};
    int result = loader_load(&request, &guest->config, &guest->state, err);

    file_free(&file);
    return result;
}

static void load_ok(struct guest *guest, const struct image *image, const char *initrd)
{
    struct error err = {""};

    memset(guest_at(guest, LOAD_AT), 0xcc, MEMORY_SIZE + 0x1000); /* what an earlier run left */
    if (load(guest, image, initrd, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(guest_at(guest, LOAD_AT), image->bytes + TEXT_AT, TEXT_SIZE);
    for (int i = TEXT_SIZE; i < MEMORY_SIZE; i++)
        assert_int_equal(*guest_at(guest, LOAD_AT + (u64)i), 0);
    if (!initrd) /* modules follow at once */
        assert_int_equal(*guest_at(guest, LOAD_AT + MEMORY_SIZE), 0xcc);
}

static void load_fails(struct guest *guest, const struct image *image, const char *wanted)
{
    struct error err = {""};

    assert_int_equal(load(guest, image, NULL, &err), -1);
    if (!strstr(err.text, wanted))
        fail_msg("\"%s\" does not say \"%s\"", err.text, wanted);
    assert_non_null(strstr(err.text, "kernel /proc/self/fd/"));
}

static void check_protected_mode(const struct vcpu_state *s, u64 entry)
{
    assert_true(s->rip == entry);
    assert_true(s->cr0 == (CR0_PE | CR0_ET) && s->cr4 == 0 && s->efer == 0 && s->rflags == FLAG_ONE);
    assert_int_equal(s->seg[SEG_CS].attr, 0xc09b);
    assert_int_equal(s->seg[SEG_CS].limit, UINT32_MAX);
    assert_int_equal(s->seg[SEG_GS].attr, 0xc093);
    assert_int_equal(s->seg[SEG_TR].limit, 0x67);
    assert_int_equal(s->seg[SEG_TR].attr, 0x8b);
}

static void pvh_image(struct image *image, bool is64)
{
    image_init(image, is64);
    add_segment(image, 1, TEXT_AT, is64 ? UINT64_C(0xffffffff80100000) : LOAD_AT, LOAD_AT, TEXT_SIZE,
                MEMORY_SIZE);
    add_pvh_note(image, is64 ? 8 : 4, LOAD_AT + 0x123);
}

static void check_pvh(bool is64)
{
    static const u8 initrd_bytes[5000] = {1, 2, 3};
    struct file initrd = file_make(initrd_bytes, sizeof(initrd_bytes));
    struct e820_entry map[FIRMWARE_E820_MAX];
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(16));
    pvh_image(&image, is64);
    load_ok(&guest, &image, initrd.path);
    check_protected_mode(&guest.state, LOAD_AT + 0x123);

    const u8 *start = guest_at(&guest, guest.state.gpr[RBX]);
    assert_int_equal(get_u32(start), 0x336ec578);
    assert_int_equal(get_u32(start + 4), 1);
    assert_int_equal(get_u32(start + 12), 1);
    assert_string_equal((const char *)guest_at(&guest, get_u64(start + 24)), "one two");
    assert_true(get_u64(start + 32) == 0xf4560);
    assert_int_equal(get_u32(start + 48), firmware_e820(&guest.config, map));
    for (u32 i = 0; i < get_u32(start + 48); i++) {
        const u8 *entry = guest_at(&guest, get_u64(start + 40) + 24 * i);

        assert_true(get_u64(entry) == map[i].start && get_u64(entry + 8) == map[i].size);
        assert_int_equal(get_u32(entry + 16), map[i].type);
    }
    const u8 *module = guest_at(&guest, get_u64(start + 16));
    assert_true(get_u64(module + 8) == sizeof(initrd_bytes));
    assert_memory_equal(guest_at(&guest, get_u64(module)), initrd_bytes, sizeof(initrd_bytes));
    file_free(&initrd);
    guest_free(&guest);
}

static void test_pvh(void **state)
{
    check_pvh(false);
    check_pvh(true);
}

static void test_bad_elf(void **state)
{
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(16));
    image_init(&image, true);
    add_segment(&image, 1, TEXT_AT, LOAD_AT, LOAD_AT, TEXT_SIZE, MEMORY_SIZE);
    load_fails(&guest, &image, "neither a PVH note nor a multiboot header");

    pvh_image(&image, true);
    image.size--;
    load_fails(&guest, &image, "truncated");
    image.size = 70;
    load_fails(&guest, &image, "truncated");
    pvh_image(&image, true);
    put_u16(image.bytes + 18, 183); /* AArch64 */
    load_fails(&guest, &image, "another kind of CPU");
    pvh_image(&image, false);
    put_u16(image.bytes + 42, 31);
    load_fails(&guest, &image, "malformed");
    pvh_image(&image, false);
    put_u16(image.bytes + 44, 0xffff);
    load_fails(&guest, &image, "program headers");
    pvh_image(&image, true);
    put_u64(image.bytes + 32, UINT64_MAX - 8);
    load_fails(&guest, &image, "truncated");

    pvh_image(&image, true);
    add_segment(&image, 1, TEXT_AT, 0, 0x9f000, 0x100, 0x1000); /* into the EBDA */
    load_fails(&guest, &image, "no memory");
    pvh_image(&image, true);
    add_segment(&image, 1, TEXT_AT, 0, MIB(16) - 0x100, 0x10, 0x101);
    load_fails(&guest, &image, "give --memory more");
    pvh_image(&image, true);
    add_segment(&image, 1, TEXT_AT, 0, UINT64_MAX - 0x100, 0x10, 0x1000);
    load_fails(&guest, &image, "no memory");
    pvh_image(&image, true);
    add_segment(&image, 1, TEXT_AT, 0, LOAD_AT + 0x1000, 0x10, 0x10);
    load_fails(&guest, &image, "overlap");
    pvh_image(&image, true);
    add_segment(&image, 1, TEXT_AT, 0, 0x200000, 0x11, 0x10);
    load_fails(&guest, &image, "more bytes than room");
    image_init(&image, true);
    add_pvh_note(&image, 8, UINT64_C(1) << 32);
    load_fails(&guest, &image, "below 4 GiB");
    image_init(&image, true);
    add_pvh_note(&image, 8, LOAD_AT);
    load_fails(&guest, &image, "nothing to load");
    guest_free(&guest);
}

static void check_multiboot_info(struct guest *guest)
{
    const u8 *info = guest_at(guest, guest->state.gpr[RBX]);
    struct e820_entry map[FIRMWARE_E820_MAX];
    unsigned entries = firmware_e820(&guest->config, map), seen = 0;
    const char *cmdline = (const char *)guest_at(guest, get_u32(info + 16));

    assert_true(guest->state.gpr[RAX] == 0x2badb002);
    assert_int_equal(get_u32(info) & 2, 0); /* no boot device */
    assert_int_equal(get_u32(info) & 0x245, 0x245);
    assert_int_equal(get_u32(info + 4), 639);
    assert_int_equal(get_u32(info + 8), 15 << 10);
    assert_memory_equal(cmdline, "/proc/self/fd/", 14);
    assert_string_equal(strchr(cmdline, ' '), " one two");
    assert_string_equal((const char *)guest_at(guest, get_u32(info + 64)), "plastron");
    for (u32 at = 0; at < get_u32(info + 44); seen++) {
        const u8 *entry = guest_at(guest, get_u32(info + 48) + at);

        assert_in_range(seen, 0, entries - 1);
        assert_true(get_u64(entry + 4) == map[seen].start && get_u64(entry + 12) == map[seen].size);
        assert_int_equal(get_u32(entry + 20), map[seen].type);
        at += get_u32(entry) + 4;
    }
    assert_int_equal(seen, entries);
}

static void check_multiboot_elf(bool is64)
{
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(16));
    image_init(&image, is64);
    add_segment(&image, 1, TEXT_AT, is64 ? UINT64_C(0xffffffff80000000) : 0xc0000000, LOAD_AT, TEXT_SIZE,
                MEMORY_SIZE);
    add_multiboot(&image, 0xe00, 3);
    set_entry(&image, LOAD_AT + 0x40);
    load_ok(&guest, &image, NULL);
    check_protected_mode(&guest.state, LOAD_AT + 0x40);
    check_multiboot_info(&guest);
    assert_int_equal(get_u32(guest_at(&guest, guest.state.gpr[RBX])) & 8, 0); /* no modules */

    /* An entry point given as a virtual address. */
    set_entry(&image, (is64 ? UINT64_C(0xffffffff80000000) : 0xc0000000) + 0x44);
    load_ok(&guest, &image, NULL);
    assert_true(guest.state.rip == LOAD_AT + 0x44);
    guest_free(&guest);
}

static void test_multiboot_elf(void **state)
{
    check_multiboot_elf(false);
    check_multiboot_elf(true);
}

/* No ELF: the header tells the addresses. */
static void test_multiboot_addresses(void **state)
{
    struct guest guest;
    struct image image;
    u8 *h = image.bytes + TEXT_AT + 0x10;

    guest_init(&guest, MIB(16));
    image_init(&image, false);
    memset(image.bytes, 0, 64);
    add_multiboot(&image, TEXT_AT + 0x10, 1 << 16 | 2);
    put_u32(h + 12, LOAD_AT + 0x10);
    put_u32(h + 16, LOAD_AT);
    put_u32(h + 20, LOAD_AT + TEXT_SIZE);
    put_u32(h + 24, LOAD_AT + MEMORY_SIZE);
    put_u32(h + 28, LOAD_AT + 0x30);
    load_ok(&guest, &image, NULL);
    check_protected_mode(&guest.state, LOAD_AT + 0x30);
    check_multiboot_info(&guest);

    put_u32(h + 20, 0); /* to the end of the file */
    load_ok(&guest, &image, NULL);

    put_u32(h + 20, LOAD_AT + TEXT_SIZE + 1);
    load_fails(&guest, &image, "truncated");
    put_u32(h + 20, LOAD_AT - 1);
    load_fails(&guest, &image, "malformed");
    put_u32(h + 16, LOAD_AT + 0x11); /* the header lies before what is loaded */
    load_fails(&guest, &image, "malformed");
    put_u32(h + 16, LOAD_AT - 0x1001); /* before the file's first byte */
    load_fails(&guest, &image, "malformed");
    put_u32(h + 16, LOAD_AT);
    put_u32(h + 20, 0);
    put_u32(h + 24, UINT32_MAX);
    load_fails(&guest, &image, "no memory");
    put_u32(h + 24, MIB(17));
    load_fails(&guest, &image, "give --memory more");
    guest_free(&guest);
}

static void test_multiboot_modules(void **state)
{
    u8 one_bytes[5000], two_bytes[1] = {7};
    struct file one, two;
    struct guest guest;
    struct image image;
    struct error err = {""};
    char list[256], string[128];

    memset(one_bytes, 0x5a, sizeof(one_bytes));
    one = file_make(one_bytes, sizeof(one_bytes));
    two = file_make(two_bytes, sizeof(two_bytes));
    guest_init(&guest, MIB(16));
    image_init(&image, false);
    add_segment(&image, 1, TEXT_AT, LOAD_AT, LOAD_AT, TEXT_SIZE, MEMORY_SIZE);
    add_multiboot(&image, 0xe00, 0);
    set_entry(&image, LOAD_AT);
    snprintf(list, sizeof(list), "%s a=1,,2 b,%s", one.path, two.path);
    load_ok(&guest, &image, list);

    const u8 *info = guest_at(&guest, guest.state.gpr[RBX]);
    assert_int_equal(get_u32(info) & 8, 8);
    assert_int_equal(get_u32(info + 20), 2);
    const u8 *modules = guest_at(&guest, get_u32(info + 24));
    assert_int_equal(get_u32(modules) % 4096, 0);
    assert_in_range(get_u32(modules), LOAD_AT + MEMORY_SIZE, MIB(16));
    assert_int_equal(get_u32(modules + 4) - get_u32(modules), sizeof(one_bytes));
    assert_memory_equal(guest_at(&guest, get_u32(modules)), one_bytes, sizeof(one_bytes));
    snprintf(string, sizeof(string), "%s a=1,2 b", one.path);
    assert_string_equal((const char *)guest_at(&guest, get_u32(modules + 8)), string);
    assert_int_equal(get_u32(modules + 16) % 4096, 0);
    assert_in_range(get_u32(modules + 16), get_u32(modules + 4), MIB(16));
    assert_int_equal(*guest_at(&guest, get_u32(modules + 16)), 7);
    assert_string_equal((const char *)guest_at(&guest, get_u32(modules + 24)), two.path);

    assert_int_equal(load(&guest, &image, "/nonexistent/module x", &err), -1);
    assert_non_null(strstr(err.text, "module /nonexistent/module cannot be opened"));
    file_free(&one);
    file_free(&two);
    guest_free(&guest);
}

static void test_multiboot_headers(void **state)
{
    struct guest guest;
    struct image image;

    guest_init(&guest, MIB(16));
    image_init(&image, false);
    add_segment(&image, 1, TEXT_AT, LOAD_AT, LOAD_AT, TEXT_SIZE, MEMORY_SIZE);
    set_entry(&image, LOAD_AT);
    add_multiboot(&image, 0xe00, 8); /* a feature that must be understood and is not */
    load_fails(&guest, &image, "features");
    add_multiboot(&image, 0xe00, 4); /* video: loaded without */
    load_ok(&guest, &image, NULL);
    image.bytes[0xe08]++; /* the checksum is wrong: no multiboot header */
    load_fails(&guest, &image, "neither");
    memset(image.bytes, 0, 64);
    add_multiboot(&image, 0xe00, 0);
    load_fails(&guest, &image, "no ELF file");

    /* The last place of the first 8 KiB; and one that is cut off there. */
    image_init(&image, false);
    image.size = IMAGE_SIZE;
    add_segment(&image, 1, TEXT_AT, LOAD_AT, LOAD_AT, TEXT_SIZE, MEMORY_SIZE);
    set_entry(&image, LOAD_AT);
    add_multiboot(&image, 8192 - 12, 0);
    load_ok(&guest, &image, NULL);
    add_multiboot(&image, 8192 - 12, 1 << 16);
    load_fails(&guest, &image, "cut off");
    guest_free(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_bad_elf),
        cmocka_unit_test(test_multiboot_elf),
        cmocka_unit_test(test_multiboot_addresses),
        cmocka_unit_test(test_multiboot_modules),
        cmocka_unit_test(test_multiboot_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
