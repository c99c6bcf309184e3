/* Devices: properties in all their types and failures, and the order of attach, reset and end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_engine.h"

struct toy {
    struct device device;
    bool flag;
    u8 byte;
    u16 word;
    u32 dword;
    u64 qword;
    char *text;
    void *pointer;
    unsigned attached, resets;
};

static char journal[128];
static const char *attach_error;

static int toy_attach(struct device *device, struct error *err)
{
    ((struct toy *)device)->attached++;
    return attach_error ? error_set(err, "%s", attach_error) : 0;
}

static void toy_detach(struct device *device)
{
    strcat(journal, device->name);
    strcat(journal, " ");
}

static void toy_reset(struct device *device)
{
    ((struct toy *)device)->resets++;
}

static const struct property toy_properties[] = {
    {.name = "flag", .type = PROP_BOOL, .offset = offsetof(struct toy, flag), .default_value = "on"},
    {.name = "byte", .type = PROP_U8, .offset = offsetof(struct toy, byte), .default_value = "0x21"},
    {.name = "word", .type = PROP_U16, .offset = offsetof(struct toy, word)},
    {.name = "dword", .type = PROP_U32, .offset = offsetof(struct toy, dword)},
    {.name = "qword", .type = PROP_U64, .offset = offsetof(struct toy, qword)},
    {.name = "text", .type = PROP_STRING, .offset = offsetof(struct toy, text), .default_value = "none"},
    {.name = "pointer",
     .type = PROP_POINTER,
     .offset = offsetof(struct toy, pointer),
     .required = true,
     .help = "where it points"},
    {.name = NULL},
};
static const struct device_class toy_class = {.name = "toy",
                                              .size = sizeof(struct toy),
                                              .properties = toy_properties,
                                              .attach = toy_attach,
                                              .detach = toy_detach,
                                              .reset = toy_reset};

static struct fake_vm fake;

static int set_up(void **state)
{
    journal[0] = 0;
    attach_error = NULL;
    fake_vm_new(&fake, "j", 1, CLOCK_ICOUNT);
    return 0;
}

static int tear_down(void **state)
{
    if (fake.vm)
        vm_free(fake.vm);
    return 0;
}

static void test_defaults(void **state)
{
    struct toy *toy = (struct toy *)device_new(fake.vm, &toy_class, "toy0");

    assert_true(toy->flag);
    assert_int_equal(toy->byte, 0x21);
    assert_int_equal(toy->word, 0);
    assert_string_equal(toy->text, "none");
    assert_ptr_equal(device_find(fake.vm, "toy0"), toy);
    assert_null(device_find(fake.vm, "toy1"));
}

static void set(struct device *device, const char *name, const char *text)
{
    struct error err = {.text = ""};

    if (device_set(device, name, text, &err))
        fail_msg("%s", err.text);
}

static void assert_refused(struct device *device, const char *name, const char *text, const char *why)
{
    struct error err = {.text = ""};

    assert_int_equal(device_set(device, name, text, &err), -1);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_properties_from_text(void **state)
{
    struct device *device = device_new(fake.vm, &toy_class, "toy0");
    struct toy *toy = (struct toy *)device;

    set(device, "flag", "off");
    set(device, "byte", "255");
    set(device, "word", "0x3f8");
    set(device, "qword", "18446744073709551615");
    set(device, "text", "first");
    set(device, "text", "second");
    assert_false(toy->flag);
    assert_int_equal(toy->byte, 255);
    assert_int_equal(toy->word, 0x3f8);
    assert_true(toy->qword == UINT64_MAX);
    assert_string_equal(toy->text, "second");
    assert_refused(device, "byte", "256", "more than 255");
    assert_refused(device, "byte", "-1", "not a number");
    assert_refused(device, "byte", "", "not a number");
    assert_refused(device, "byte", "12x", "not a number");
    assert_refused(device, "qword", "18446744073709551616", "more than");
    assert_refused(device, "flag", "maybe", "say on or off");
    assert_refused(device, "pointer", "1", "cannot be given as text");
    assert_refused(device, "colour", "red", "no property colour");
    assert_int_equal(toy->byte, 255);
}

static void test_numbers_and_pointers(void **state)
{
    struct device *device = device_new(fake.vm, &toy_class, "toy0");
    struct toy *toy = (struct toy *)device;

    device_set_number(device, "dword", 0xffffffff);
    device_set_number(device, "flag", 0);
    device_set_pointer(device, "pointer", &fake);
    assert_int_equal(toy->dword, 0xffffffff);
    assert_false(toy->flag);
    assert_ptr_equal(toy->pointer, &fake);
}

static void test_attach_resets_and_needs_what_is_required(void **state)
{
    struct device *device = device_new(fake.vm, &toy_class, "toy0");
    struct toy *toy = (struct toy *)device;
    struct error err = {.text = ""};

    assert_int_equal(device_attach(device, &err), -1);
    assert_non_null(strstr(err.text, "toy0: the property pointer must be given: where it points"));
    assert_int_equal(toy->attached, 0);
    device_set_pointer(device, "pointer", toy);
    assert_int_equal(device_attach(device, &err), 0);
    assert_true(device->attached);
    assert_int_equal(toy->resets, 1);
    assert_int_equal(vm_reset(fake.vm, &err), 0);
    assert_int_equal(toy->resets, 2);
}

static void test_failed_attach_names_the_device(void **state)
{
    struct device *device = device_new(fake.vm, &toy_class, "toy0");
    struct error err = {.text = ""};

    device_set_pointer(device, "pointer", device);
    attach_error = "port 10h is taken";
    assert_int_equal(device_attach(device, &err), -1);
    assert_string_equal(err.text, "toy0: port 10h is taken");
    assert_int_equal(vm_reset(fake.vm, &err), 0);
    assert_int_equal(((struct toy *)device)->resets, 0); /* what is not attached is not reset ... */
    vm_free(fake.vm);
    fake.vm = NULL;
    assert_string_equal(journal, ""); /* ... nor detached */
}

static void test_end_in_reverse_order(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    struct error err;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        struct device *device = device_new(fake.vm, &toy_class, names[i]);

        device_set_pointer(device, "pointer", device);
        assert_int_equal(device_attach(device, &err), 0);
    }
    vm_free(fake.vm);
    fake.vm = NULL;
    assert_string_equal(journal, "c b a ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_properties_from_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_numbers_and_pointers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attach_resets_and_needs_what_is_required, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed_attach_names_the_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_in_reverse_order, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
