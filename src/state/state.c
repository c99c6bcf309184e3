/*
 * The stream of one table (all numbers little-endian):
 *
 *     u8 length, name      table's name
 *     u32 version
 *     u16 fields           that follow
 *     each field:
 *         u8 length, name
 *         u8 type          enum state_type
 *         u32 count        elements
 *         u32 bytes        of the payload
 *         payload          elements one after the other; STATE_TABLE: one such stream an element
 */
#include "state/state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Writing ---- */

void state_buf_put(struct state_buf *buf, const void *bytes, size_t len)
{
    if (buf->failed)
        return;
    if (len > buf->capacity - buf->len) {
        size_t capacity = buf->capacity ? buf->capacity : 1024;
        u8 *data;

        while (capacity - buf->len < len)
            capacity *= 2;
        data = realloc(buf->data, capacity);
        if (!data) {
            buf->failed = true;
            return;
        }
        buf->data = data;
        buf->capacity = capacity;
    }
    if (len)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
}

void state_buf_free(struct state_buf *buf)
{
    free(buf->data);
    *buf = (struct state_buf){0};
}

static void put_number(struct state_buf *buf, u64 value, unsigned width)
{
    u8 bytes[8];

    for (unsigned i = 0; i < width; i++)
        bytes[i] = (u8)(value >> 8 * i);
    state_buf_put(buf, bytes, width);
}

static void put_name(struct state_buf *buf, const char *name)
{
    size_t len = strlen(name);

    assert(len > 0 && len <= STATE_MAX_NAME);
    put_number(buf, len, 1);
    state_buf_put(buf, name, len);
}

/* The value of one element of a scalar type, in host order. */
static u64 get_scalar(enum state_type type, const void *from)
{
    switch (type) {
    case STATE_U8: return *(const u8 *)from;
    case STATE_BOOL: return *(const bool *)from;
    case STATE_U16: return *(const u16 *)from;
    case STATE_U32: return *(const u32 *)from;
    case STATE_U64: return *(const u64 *)from;
    case STATE_BYTES:
    case STATE_TABLE: break;
    }
    abort();
}

static void set_scalar(enum state_type type, void *to, u64 value)
{
    switch (type) {
    case STATE_U8: *(u8 *)to = (u8)value; return;
    case STATE_BOOL: *(bool *)to = value; return;
    case STATE_U16: *(u16 *)to = (u16)value; return;
    case STATE_U32: *(u32 *)to = (u32)value; return;
    case STATE_U64: *(u64 *)to = value; return;
    case STATE_BYTES:
    case STATE_TABLE: break;
    }
    abort();
}

static bool field_present(const struct state_field *field, const void *object)
{
    return !field->when || field->when(object);
}

static void save_table(const struct state_table *table, const void *object, struct state_buf *buf,
                       unsigned depth);

static void save_field(const struct state_field *field, const void *object, struct state_buf *buf,
                       unsigned depth)
{
    const u8 *from = (const u8 *)object + field->offset;
    size_t length_at, start;

    put_name(buf, field->name);
    put_number(buf, field->type, 1);
    put_number(buf, field->count, 4);
    length_at = buf->len;
    put_number(buf, 0, 4);
    start = buf->len;
    if (field->type == STATE_BYTES) {
        state_buf_put(buf, from, (size_t)field->size * field->count);
    } else {
        for (u32 i = 0; i < field->count; i++, from += field->size) {
            if (field->type == STATE_TABLE) {
                assert(field->table->size == field->size);
                save_table(field->table, from, buf, depth + 1);
            } else {
                put_number(buf, get_scalar(field->type, from), field->size);
            }
        }
    }
    if (!buf->failed) {
        size_t len = buf->len - start;

        assert(len <= UINT32_MAX);
        for (unsigned i = 0; i < 4; i++)
            buf->data[length_at + i] = (u8)(len >> 8 * i);
    }
}

static void save_table(const struct state_table *table, const void *object, struct state_buf *buf,
                       unsigned depth)
{
    const struct state_field *field;
    unsigned all = 0, present = 0;

    assert(depth < STATE_MAX_DEPTH);
    for (field = table->fields; field->name; field++, all++)
        present += field_present(field, object);
    assert(all <= STATE_MAX_FIELDS);
    put_name(buf, table->name);
    put_number(buf, table->version, 4);
    put_number(buf, present, 2);
    for (field = table->fields; field->name; field++) {
        if (field_present(field, object))
            save_field(field, object, buf, depth);
    }
}

void state_save(const struct state_table *table, const void *object, struct state_buf *buf)
{
    save_table(table, object, buf, 0);
}

/* ---- Reading ---- */

static int refuse(const struct state_reader *reader, struct error *err, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Every message names the file and the offset that the reader has come to (invariant 8). */
static int refuse(const struct state_reader *reader, struct error *err, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(err, "%s: offset %" PRIu64 ": %s", reader->what ? reader->what : "state",
                     reader->base_offset + reader->pos, text);
}

static int take_number(struct state_reader *reader, unsigned width, u64 *value, struct error *err)
{
    *value = 0;
    if (reader->len - reader->pos < width)
        return refuse(reader, err, "the file is cut short");
    for (unsigned i = 0; i < width; i++)
        *value |= (u64)reader->data[reader->pos + i] << 8 * i;
    reader->pos += width;
    return 0;
}

/* A name in printable characters, so that it can go into an error text. */
static int take_name(struct state_reader *reader, char name[STATE_MAX_NAME + 1], struct error *err)
{
    u64 len;

    if (take_number(reader, 1, &len, err))
        return -1;
    if (len == 0 || len > STATE_MAX_NAME)
        return refuse(reader, err, "a name of %u bytes", (unsigned)len);
    if (reader->len - reader->pos < len)
        return refuse(reader, err, "the file is cut short");
    for (u64 i = 0; i < len; i++) {
        u8 c = reader->data[reader->pos + i];

        if (c < ' ' || c > '~')
            return refuse(reader, err, "a name with the byte %02xh in it", c);
        name[i] = (char)c;
    }
    name[len] = 0;
    reader->pos += len;
    return 0;
}

static int load_table(const struct state_table *table, void *object, struct state_reader *reader,
                      struct error *err);

/* `reader` holds the payload of this field and nothing else. */
static int load_payload(const struct state_field *field, void *object, struct state_reader *reader,
                        struct error *err)
{
    u8 *to = (u8 *)object + field->offset;

    if (field->type != STATE_TABLE && reader->len != (size_t)field->size * field->count)
        return refuse(reader, err, "the field %s has %zu bytes in place of %zu", field->name, reader->len,
                      (size_t)field->size * field->count);
    if (field->type == STATE_BYTES) {
        memcpy(to, reader->data, reader->len);
        return 0;
    }
    for (u32 i = 0; i < field->count; i++, to += field->size) {
        u64 value;

        if (field->type == STATE_TABLE) {
            if (load_table(field->table, to, reader, err))
                return -1;
            continue;
        }
        if (take_number(reader, field->size, &value, err))
            return -1;
        if (field->type == STATE_BOOL && value > 1)
            return refuse(reader, err, "the field %s is %u, not 0 or 1", field->name, (unsigned)value);
        set_scalar(field->type, to, value);
    }
    if (field->type == STATE_TABLE && reader->pos != reader->len)
        return refuse(reader, err, "the field %s has more bytes than its content", field->name);
    return 0;
}

static int load_field(const struct state_table *table, void *object, struct state_reader *reader,
                      bool seen[STATE_MAX_FIELDS], struct error *err)
{
    char name[STATE_MAX_NAME + 1];
    const struct state_field *field;
    struct state_reader payload;
    u64 type, count, bytes;

    if (take_name(reader, name, err))
        return -1;
    for (field = table->fields; field->name; field++) {
        if (strcmp(field->name, name) == 0)
            break;
    }
    if (!field->name)
        return refuse(reader, err, "%s has a field %s, which this program does not know", table->name, name);
    if (seen[field - table->fields])
        return refuse(reader, err, "%s has the field %s twice", table->name, name);
    seen[field - table->fields] = true;
    if (take_number(reader, 1, &type, err) || take_number(reader, 4, &count, err) ||
        take_number(reader, 4, &bytes, err))
        return -1;
    if (type != field->type || count != field->count)
        return refuse(reader, err, "the field %s.%s is of another type or length", table->name, name);
    if (reader->len - reader->pos < bytes)
        return refuse(reader, err, "the file is cut short");
    payload = (struct state_reader){.data = reader->data + reader->pos,
                                    .len = bytes,
                                    .what = reader->what,
                                    .base_offset = reader->base_offset + reader->pos};
    if (load_payload(field, object, &payload, err))
        return -1;
    reader->pos += bytes;
    return 0;
}

static int load_table(const struct state_table *table, void *object, struct state_reader *reader,
                      struct error *err)
{
    char name[STATE_MAX_NAME + 1];
    bool seen[STATE_MAX_FIELDS] = {false};
    const struct state_field *field;
    u64 version, count;

    if (take_name(reader, name, err))
        return -1;
    if (strcmp(name, table->name) != 0)
        return refuse(reader, err, "the state of %s stands where that of %s was expected", name, table->name);
    if (take_number(reader, 4, &version, err))
        return -1;
    if (version == 0 || version > table->version)
        return refuse(reader, err, "the state of %s has version %u; this program knows versions up to %u",
                      table->name, (unsigned)version, table->version);
    if (take_number(reader, 2, &count, err))
        return -1;
    for (u64 i = 0; i < count; i++) {
        if (load_field(table, object, reader, seen, err))
            return -1;
    }
    for (field = table->fields; field->name; field++) {
        bool wanted = field->since <= version && field_present(field, object);

        if (wanted && !seen[field - table->fields])
            return refuse(reader, err, "the state of %s lacks the field %s", table->name, field->name);
        if (!wanted && seen[field - table->fields])
            return refuse(reader, err, "the state of %s has the field %s out of its place", table->name,
                          field->name);
    }
    if (table->post_load) {
        struct error why = {.text = ""};

        if (table->post_load(object, &why))
            return refuse(reader, err, "the state of %s is refused: %s", table->name, why.text);
    }
    return 0;
}

int state_load(const struct state_table *table, void *object, struct state_reader *reader, struct error *err)
{
    return load_table(table, object, reader, err);
}

/* ---- Visiting ---- */

enum { STATE_PATH_MAX = STATE_MAX_DEPTH * (STATE_MAX_NAME + sizeof("[4294967295].")) };

static void visit_table(const struct state_table *table, const void *object,
                        const struct state_visitor *visitor, char path[STATE_PATH_MAX], size_t path_len)
{
    for (const struct state_field *field = table->fields; field->name; field++) {
        const u8 *from = (const u8 *)object + field->offset;
        size_t name_len = path_len;

        if (!field_present(field, object))
            continue;
        name_len += (size_t)snprintf(path + path_len, STATE_PATH_MAX - path_len, "%s%s", path_len ? "." : "",
                                     field->name);
        assert(name_len < STATE_PATH_MAX);
        if (field->type == STATE_BYTES) {
            if (visitor->bytes)
                visitor->bytes(visitor->opaque, path, field, from, (size_t)field->size * field->count);
            continue;
        }
        for (u32 i = 0; i < field->count; i++, from += field->size) {
            size_t len = name_len;

            if (field->count > 1)
                len += (size_t)snprintf(path + name_len, STATE_PATH_MAX - name_len, "[%" PRIu32 "]", i);
            assert(len < STATE_PATH_MAX);
            if (field->type == STATE_TABLE)
                visit_table(field->table, from, visitor, path, len);
            else if (visitor->value)
                visitor->value(visitor->opaque, path, field, get_scalar(field->type, from));
        }
    }
}

void state_visit(const struct state_table *table, const void *object, const struct state_visitor *visitor)
{
    char path[STATE_PATH_MAX];

    visit_table(table, object, visitor, path, 0);
}
