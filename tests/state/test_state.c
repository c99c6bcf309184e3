/* State tables: what was saved is what is loaded, and no stream can do anything but be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "state/state.h"

struct channel {
    u16 count;
    bool gate;
    u32 shadow; // not saved: the tests see that it is left alone
};

struct chip {
    u8 control;
    u16 fifo[3];
    u32 mode;
    u64 big;
    bool on;
    u8 blob[2][5];
    struct channel channel[2];
    struct channel extra;
    u8 extended; /* only while `on` */
    u64 younger; /* since version 2 */
};

static int channel_post_load(void *object, struct error *err)
{
    struct channel *channel = object;

    if (channel->count == 0xdead)
        return error_set(err, "count is dead");
    return 0;
}

static const struct state_field channel_fields[] = {
    STATE_FIELD(struct channel, count, STATE_U16, 1),
    STATE_FIELD(struct channel, gate, STATE_BOOL, 1),
    STATE_END,
};
static const struct state_table channel_table = {.name = "channel",
                                                 .version = 1,
                                                 .size = sizeof(struct channel),
                                                 .fields = channel_fields,
                                                 .post_load = channel_post_load};

static bool chip_is_on(const void *object)
{
    return ((const struct chip *)object)->on;
}

static const struct state_field chip_fields[] = {
    STATE_FIELD(struct chip, control, STATE_U8, 1),
    STATE_ARRAY(struct chip, fifo, STATE_U16, 1),
    STATE_FIELD(struct chip, mode, STATE_U32, 1),
    STATE_FIELD(struct chip, big, STATE_U64, 1),
    STATE_FIELD(struct chip, on, STATE_BOOL, 1),
    STATE_FIELD(struct chip, blob, STATE_BYTES, 1),
    STATE_STRUCTS(struct chip, channel, &channel_table, 1),
    STATE_STRUCT(struct chip, extra, &channel_table, 1),
    {.name = "extended",
     .type = STATE_U8,
     .offset = offsetof(struct chip, extended),
     .size = 1,
     .count = 1,
     .since = 1,
     .when = chip_is_on},
    STATE_FIELD(struct chip, younger, STATE_U64, 2),
    STATE_END,
};
static const struct state_table chip_table = {
    .name = "chip", .version = 2, .size = sizeof(struct chip), .fields = chip_fields};

/* The same chip as a program of version 1 would have described it. */
static const struct state_field old_chip_fields[] = {
    STATE_FIELD(struct chip, control, STATE_U8, 1),
    STATE_ARRAY(struct chip, fifo, STATE_U16, 1),
    STATE_FIELD(struct chip, mode, STATE_U32, 1),
    STATE_FIELD(struct chip, big, STATE_U64, 1),
    STATE_FIELD(struct chip, on, STATE_BOOL, 1),
    STATE_FIELD(struct chip, blob, STATE_BYTES, 1),
    STATE_STRUCTS(struct chip, channel, &channel_table, 1),
    STATE_STRUCT(struct chip, extra, &channel_table, 1),
    STATE_END,
};
static const struct state_table old_chip_table = {
    .name = "chip", .version = 1, .size = sizeof(struct chip), .fields = old_chip_fields};

static const struct chip sample = {
    .control = 0x81,
    .fifo = {1, 0x2345, 0xffff},
    .mode = 0xdeadbeef,
    .big = 0x0123456789abcdef,
    .on = true,
    .blob = {"abcd", "efgh"},
    .channel = {{.count = 7, .gate = true}, {.count = 0x8000, .gate = false}},
    .extra = {.count = 3, .gate = true},
    .extended = 9,
    .younger = UINT64_MAX,
};

static struct state_buf save(const struct state_table *table, const struct chip *chip)
{
    struct state_buf buf = {0};

    state_save(table, chip, &buf);
    assert_false(buf.failed);
    return buf;
}

static int load(struct chip *chip, const u8 *data, size_t len, struct error *err)
{
    struct state_reader reader = {.data = data, .len = len, .what = "test.snap", .base_offset = 1000};
    int result = state_load(&chip_table, chip, &reader, err);

    if (result == 0)
        assert_int_equal(reader.pos, len);
    return result;
}

static void assert_same(const struct chip *a, const struct chip *b)
{
    struct state_buf x = save(&chip_table, a), y = save(&chip_table, b);

    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    state_buf_free(&x);
    state_buf_free(&y);
}

static void test_round_trip(void **state)
{
    struct state_buf buf = save(&chip_table, &sample);
    struct chip back = {.channel = {{.shadow = 55}}};
    struct error err = {.text = ""};

    assert_int_equal(load(&back, buf.data, buf.len, &err), 0);
    assert_int_equal(back.control, 0x81);
    assert_int_equal(back.fifo[1], 0x2345);
    assert_int_equal(back.mode, 0xdeadbeef);
    assert_true(back.big == 0x0123456789abcdef);
    assert_true(back.on);
    assert_memory_equal(back.blob, sample.blob, sizeof(sample.blob));
    assert_int_equal(back.channel[0].count, 7);
    assert_int_equal(back.channel[0].shadow, 55);
    assert_int_equal(back.channel[1].count, 0x8000);
    assert_false(back.channel[1].gate);
    assert_int_equal(back.extra.count, 3);
    assert_int_equal(back.extended, 9);
    assert_true(back.younger == UINT64_MAX);
    assert_same(&back, &sample);
    state_buf_free(&buf);
}

static void test_little_endian_layout(void **state)
{
    struct channel channel = {.count = 0x1234, .gate = true};
    struct state_buf buf = {0};
    static const u8 expected[] = "\7channel\1\0\0\0\2\0"
                                 "\5count\1\1\0\0\0\2\0\0\0\x34\x12"
                                 "\4gate\4\1\0\0\0\1\0\0\0\1";

    state_save(&channel_table, &channel, &buf);
    assert_int_equal(buf.len, sizeof(expected) - 1);
    assert_memory_equal(buf.data, expected, buf.len);
    state_buf_free(&buf);
}

static void test_field_with_predicate(void **state)
{
    struct chip off = sample, back = {.extended = 77};
    struct state_buf buf;
    struct error err = {.text = ""};

    off.on = false;
    buf = save(&chip_table, &off);
    assert_int_equal(load(&back, buf.data, buf.len, &err), 0);
    assert_int_equal(back.extended, 77);

    /* The field is there although its predicate, in the stream itself, says no. */
    state_buf_free(&buf);
    buf = save(&chip_table, &sample);
    for (size_t i = 0; i + 3 <= buf.len; i++) {
        if (memcmp(buf.data + i, "\2on", 3) == 0)
            buf.data[i + 3 + 9] = 0;
    }
    assert_int_equal(load(&back, buf.data, buf.len, &err), -1);
    assert_non_null(strstr(err.text, "out of its place"));
    state_buf_free(&buf);
}

static void test_older_stream_keeps_younger_fields(void **state)
{
    struct state_buf buf = save(&old_chip_table, &sample);
    struct chip back = {.younger = 42, .extended = 1};
    struct error err = {.text = ""};

    /* `extended` is since version 1 and wanted, as `on` is set: a stream without it is not whole. */
    assert_int_equal(load(&back, buf.data, buf.len, &err), -1);
    assert_non_null(strstr(err.text, "lacks the field extended"));
    state_buf_free(&buf);

    struct chip off = sample;
    off.on = false;
    buf = save(&old_chip_table, &off);
    assert_int_equal(load(&back, buf.data, buf.len, &err), 0);
    assert_true(back.younger == 42);
    state_buf_free(&buf);
}

/* Each refusal names the file and an offset in it. */
static void assert_refused(const u8 *data, size_t len, const char *why)
{
    struct chip back = {0};
    struct error err = {.text = ""};

    assert_int_equal(load(&back, data, len, &err), -1);
    assert_non_null(strstr(err.text, "test.snap: offset 1"));
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_refusals(void **state)
{
    struct state_buf buf = save(&chip_table, &sample);
    u8 *copy = malloc(buf.len);

    assert_non_null(copy);
    memcpy(copy, buf.data, buf.len);
    copy[1] = 'C';
    assert_refused(copy, buf.len, "the state of Chip stands where that of chip was expected");
    memcpy(copy, buf.data, buf.len);
    copy[1] = '\n';
    assert_refused(copy, buf.len, "the byte 0ah");
    memcpy(copy, buf.data, buf.len);
    copy[5] = 3;
    assert_refused(copy, buf.len, "version 3");
    copy[5] = 0;
    assert_refused(copy, buf.len, "version 0");
    memcpy(copy, buf.data, buf.len);
    copy[12] = 'K'; /* first letter of "control" */
    assert_refused(copy, buf.len, "has a field Kontrol, which this program does not know");
    memcpy(copy, buf.data, buf.len);
    copy[9]--;
    assert_refused(copy, buf.len, "lacks the field younger");
    memcpy(copy, buf.data, buf.len);
    copy[19] = STATE_U16; /* type of "control" */
    assert_refused(copy, buf.len, "of another type");
    memcpy(copy, buf.data, buf.len);
    copy[23] = 1; /* count */
    assert_refused(copy, buf.len, "of another type or length");
    memcpy(copy, buf.data, buf.len);
    copy[24] = 2; /* payload length */
    assert_refused(copy, buf.len, "has 2 bytes in place of 1");
    copy[27] = 0xff;
    assert_refused(copy, buf.len, "cut short");
    free(copy);
    state_buf_free(&buf);
}

static void test_bool_is_0_or_1_and_post_load_may_refuse(void **state)
{
    struct chip odd = sample;
    struct state_buf buf;

    buf = save(&chip_table, &sample);
    for (size_t i = 0; i + 3 <= buf.len; i++) {
        if (memcmp(buf.data + i, "\2on", 3) == 0)
            buf.data[i + 3 + 9] = 2;
    }
    assert_refused(buf.data, buf.len, "the field on is 2, not 0 or 1");
    state_buf_free(&buf);

    odd.channel[1].count = 0xdead;
    buf = save(&chip_table, &odd);
    assert_refused(buf.data, buf.len, "the state of channel is refused: count is dead");
    state_buf_free(&buf);
}

static void test_field_twice(void **state)
{
    static const u8 stream[] = "\7channel\1\0\0\0\2\0"
                               "\5count\1\1\0\0\0\2\0\0\0\x34\x12"
                               "\5count\1\1\0\0\0\2\0\0\0\x34\x12";
    struct state_reader reader = {.data = stream, .len = sizeof(stream) - 1, .what = "f"};
    struct channel channel = {0};
    struct error err = {.text = ""};

    assert_int_equal(state_load(&channel_table, &channel, &reader, &err), -1);
    assert_non_null(strstr(err.text, "count twice"));
}

/* Every prefix, on a heap block of just that size so that a sanitizer sees a read beyond it. */
static void test_every_truncation_is_refused(void **state)
{
    struct state_buf buf = save(&chip_table, &sample);

    for (size_t len = 0; len < buf.len; len++) {
        u8 *copy = malloc(len ? len : 1);

        assert_non_null(copy);
        memcpy(copy, buf.data, len);
        assert_refused(copy, len, "");
        free(copy);
    }
    state_buf_free(&buf);
}

/* Any one byte changed in any way: the load ends, inside the bounds, with a verdict; and what it lets through can be
   saved again. */
static void test_every_byte_corrupted(void **state)
{
    struct state_buf buf = save(&chip_table, &sample);
    unsigned refused = 0, loaded = 0;

    for (size_t i = 0; i < buf.len; i++) {
        u8 old = buf.data[i];

        for (unsigned flip = 1; flip < 256; flip++) {
            struct chip back = {0};
            struct error err = {.text = ""};

            buf.data[i] = old ^ (u8)flip;
            if (load(&back, buf.data, buf.len, &err)) {
                assert_true(strlen(err.text) > 0);
                refused++;
            } else {
                struct state_buf again = save(&chip_table, &back);

                assert_int_equal(again.len, buf.len);
                state_buf_free(&again);
                loaded++;
            }
        }
        buf.data[i] = old;
    }
    assert_true(refused > loaded && loaded > 0);
    state_buf_free(&buf);
}

struct seen {
    char text[2048];
};

static void see_value(void *opaque, const char *path, const struct state_field *field, u64 value)
{
    struct seen *seen = opaque;
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s=%llx ", path, (unsigned long long)value);
}

static void see_bytes(void *opaque, const char *path, const struct state_field *field, const u8 *data,
                      size_t len)
{
    struct seen *seen = opaque;
    size_t used = strlen(seen->text);

    snprintf(seen->text + used, sizeof(seen->text) - used, "%s:%zu:%.4s ", path, len, (const char *)data);
}

static void test_visit_paths(void **state)
{
    struct seen seen = {.text = ""};
    const struct state_visitor visitor = {.value = see_value, .bytes = see_bytes, .opaque = &seen};

    state_visit(&chip_table, &sample, &visitor);
    assert_string_equal(seen.text,
                        "control=81 fifo[0]=1 fifo[1]=2345 fifo[2]=ffff mode=deadbeef big=123456789abcdef "
                        "on=1 blob:10:abcd channel[0].count=7 channel[0].gate=1 channel[1].count=8000 "
                        "channel[1].gate=0 extra.count=3 extra.gate=1 extended=9 "
                        "younger=ffffffffffffffff ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_little_endian_layout),
        cmocka_unit_test(test_field_with_predicate),
        cmocka_unit_test(test_older_stream_keeps_younger_fields),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bool_is_0_or_1_and_post_load_may_refuse),
        cmocka_unit_test(test_field_twice),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_every_byte_corrupted),
        cmocka_unit_test(test_visit_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
