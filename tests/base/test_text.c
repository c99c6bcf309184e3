#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

static void test_numbers(void **state)
{
    struct error err;
    u64 n;

    assert_int_equal(text_number("64", 1, 64, &n, &err), 0);
    assert_int_equal(n, 64);
    assert_int_equal(text_number("0xE9", 0, 0xffff, &n, &err), 0);
    assert_int_equal(n, 0xe9);
    static const char *const bad[] = {"",   "0", "65", "-1", " 5", "5 ", "five", "0x", "18446744073709551617",
                                      "1e3"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(text_number(bad[i], 1, 64, &n, &err), -1);
    assert_int_equal(text_number("65", 1, 64, &n, &err), -1);
    assert_string_equal(err.text, "65 is not between 1 and 64");
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        u64 bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"1K", 1024},
        {"512M", MIB(512)},
        {"2g", GIB(2)},
        {"1.5G", MIB(1536)},
        {"16777215T", GIB(1024) * 16777215},
    };
    static const char *const bad[] = {
        "", "M", "-1M", "1.5", "1.M", "12MM", "12Q", "16777216T", "99999999999999999999", "1 M", "0x10"};
    struct error err;
    u64 bytes;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(text_size(good[i].text, &bytes, &err), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(text_size(bad[i], &bytes, &err), -1);
}

static void test_words(void **state)
{
    static const char *const words[] = {"host", "icount", NULL};
    struct error err;
    unsigned index;
    bool on;

    assert_int_equal(text_word("icount", words, &index, &err), 0);
    assert_int_equal(index, 1);
    assert_int_equal(text_word("count", words, &index, &err), -1);
    assert_string_equal(err.text, "'count' is not one of host, icount");
    assert_int_equal(text_switch("on", &on, &err), 0);
    assert_true(on);
    assert_int_equal(text_switch("no", &on, &err), 0);
    assert_false(on);
    assert_int_equal(text_switch("maybe", &on, &err), -1);
}

static const char *nearest(const char *typed)
{
    static const char *const words[] = {"kernel", "memory", "cpu", "cpus", "no-reboot", "append"};
    struct text_nearest found = {0};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        text_nearest_offer(&found, typed, words[i]);
    return found.best;
}

static void test_nearest(void **state)
{
    assert_string_equal(nearest("kernal"), "kernel");
    assert_string_equal(nearest("memroy"), "memory");
    assert_string_equal(nearest("mem"), "memory");
    assert_string_equal(nearest("noreboot"), "no-reboot");
    assert_string_equal(nearest("APPEND"), "append");
    assert_string_equal(nearest("cpuss"), "cpus");
    assert_null(nearest("bluetooth"));
    assert_null(nearest("a-very-long-word-that-nobody-would-take-for-an-option"));
}

static void test_dates(void **state)
{
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-02-30",
                                      "1969-12-31",
                                      "2026-01-31T",
                                      "2026-01-31T25:00:00",
                                      "2026-01-31T12:34:56Z",
                                      "2026-13-01",
                                      "yesterday",
                                      "2100-01-01"};
    struct error err;
    i64 seconds;

    assert_int_equal(text_date("1970-01-01", &seconds, &err), 0);
    assert_int_equal(seconds, 0);
    assert_int_equal(text_date("2026-01-01T00:00:01", &seconds, &err), 0);
    assert_int_equal(seconds, 1767225601);
    assert_int_equal(text_date("2024-02-29T23:59:59", &seconds, &err), 0);
    assert_int_equal(seconds, 1709251199);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(text_date(bad[i], &seconds, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_sizes), cmocka_unit_test(test_words),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
