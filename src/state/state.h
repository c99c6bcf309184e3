/*
 * State tables (invariant 5): what a struct saves is a const table beside the struct, and nothing else.
 *
 * Every consumer (save, load, hash, `info`, diff) walks the same table; no device has save or load code. A struct field
 * that is not in its table carries a comment `not saved: REASON`, and tools/check-state.py compares the two.
 *
 * A table has at most STATE_MAX_FIELDS fields with names of at most STATE_MAX_NAME characters, and tables nest no deeper
 * than STATE_MAX_DEPTH; saving asserts it.
 *
 *     struct uart16550 {
 *         u8 lcr;
 *         u8 fifo[16];
 *         struct irq_line irq; // not saved: wiring
 *     };
 *
 *     static const struct state_field uart16550_fields[] = {
 *         STATE_FIELD(struct uart16550, lcr, STATE_U8, 1),
 *         STATE_ARRAY(struct uart16550, fifo, STATE_U8, 1),
 *         STATE_END,
 *     };
 *     const struct state_table uart16550_state = {
 *         .name = "uart16550", .version = 1, .size = sizeof(struct uart16550), .fields = uart16550_fields,
 *         .post_load = uart16550_post_load,
 *     };
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/error.h"
#include "base/types.h"

enum { STATE_MAX_FIELDS = 512, STATE_MAX_NAME = 63, STATE_MAX_DEPTH = 8 };

enum state_type {
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,
    STATE_BYTES, /* one opaque run of bytes: `size` long (times `count`) */
    STATE_TABLE, /* `count` structs described by `table` */
};

struct state_field {
    const char *name;
    enum state_type type;
    u32 offset; /* in the struct */
    u32 size;   /* of one element, bytes */
    u32 count;  /* of elements; 1 for a scalar */
    u32 since;  /* first version of the table that has the field; older streams leave it as reset set it */
    const struct state_table *table;
    bool (*when)(
        const void *object); /* NULL, or: the field is in the stream only while this holds. It may look only
                                         at fields that stand before it in the table. */
};

struct state_table {
    const char *name;
    u32 version;                      /* starts at 1; grows when a field is added */
    u32 size;                         /* sizeof the struct */
    const struct state_field *fields; /* ends with STATE_END */
    /*
     * Called after the fields are loaded, to check them (the stream is an adversary: invariant 8) and to rebuild what
     * follows from them. Returns 0, or -1 with `err` set, which refuses the whole stream. May be NULL.
     */
    int (*post_load)(void *object, struct error *err);
};

/* Bytes that one value of a type takes in the stream; 0: as many as in the struct. */
#define STATE_WIDTH(state_type)                                                                              \
    ((state_type) == STATE_U8 || (state_type) == STATE_BOOL ? 1u                                             \
     : (state_type) == STATE_U16                            ? 2u                                             \
     : (state_type) == STATE_U32                            ? 4u                                             \
     : (state_type) == STATE_U64                            ? 8u                                             \
                                                            : 0u)

/* sizeof `object`, refusing at compile time a table that gives it a type of another width. */
#define STATE_SIZEOF(object, state_type)                                                                     \
    (sizeof(object) + 0 * sizeof(struct {                                                                    \
                          _Static_assert(STATE_WIDTH(state_type) == 0 ||                                     \
                                             STATE_WIDTH(state_type) == sizeof(object),                      \
                                         "the state table gives this member the wrong type");                \
                          int unused;                                                                        \
                      }))

#define STATE_FIELD(struct_type, member, state_type, since_version)                                          \
    {                                                                                                        \
        .name = #member, .type = state_type, .offset = offsetof(struct_type, member),                        \
        .size = STATE_SIZEOF(((struct_type *)0)->member, state_type), .count = 1, .since = since_version     \
    }
#define STATE_ARRAY(struct_type, member, state_type, since_version)                                          \
    {                                                                                                        \
        .name = #member, .type = state_type, .offset = offsetof(struct_type, member),                        \
        .size = STATE_SIZEOF(((struct_type *)0)->member[0], state_type),                                     \
        .count = ARRAY_SIZE(((struct_type *)0)->member), .since = since_version                              \
    }
#define STATE_STRUCT(struct_type, member, sub_table, since_version)                                          \
    {                                                                                                        \
        .name = #member, .type = STATE_TABLE, .offset = offsetof(struct_type, member),                       \
        .size = sizeof(((struct_type *)0)->member), .count = 1, .since = since_version, .table = sub_table   \
    }
#define STATE_STRUCTS(struct_type, member, sub_table, since_version)                                         \
    {                                                                                                        \
        .name = #member, .type = STATE_TABLE, .offset = offsetof(struct_type, member),                       \
        .size = sizeof(((struct_type *)0)->member[0]), .count = ARRAY_SIZE(((struct_type *)0)->member),      \
        .since = since_version, .table = sub_table                                                           \
    }
#define STATE_END                                                                                            \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

/* A growing byte buffer that a save writes to. Zero-initialise; state_buf_free releases it. */
struct state_buf {
    u8 *data;
    size_t len, capacity;
    bool failed; /* out of memory: data is incomplete */
};
void state_buf_put(struct state_buf *buf, const void *bytes, size_t len);
void state_buf_free(struct state_buf *buf);

/* A bounded reader over bytes that somebody else owns. */
struct state_reader {
    const u8 *data;
    size_t len, pos;
    const char *what; /* for error texts: the file */
    u64 base_offset;  /* offset of data[0] in that file, for error texts */
};

/* Append `object` to `buf`: table name, version, and each field with name, type and length, so that the stream can be
   read without the program that wrote it. Little-endian; the layout is drawn in state.c. */
void state_save(const struct state_table *table, const void *object, struct state_buf *buf);

/*
 * Read one table from `reader` into `object`. Fields are matched by name; a field that the stream lacks keeps its value
 * if the stream's version is older than its `since`, and is an error otherwise (unless its `when` does not hold); a field
 * or version that this program does not know is an error. Reads inside the reader's bounds only, whatever they say, and
 * allocates nothing. On -1 the object may be partly loaded and must be reset or thrown away by the caller.
 */
MUST_CHECK int state_load(const struct state_table *table, void *object, struct state_reader *reader,
                          struct error *err);

/* Feed every field whose `when` holds to `visitor` in table order, an array one value at a time; nested tables give a path "outer.inner[2].field". Values of STATE_BYTES
   are passed as bytes; the others as a number in `value`. Used by info, hash and diff. */
struct state_visitor {
    void (*value)(void *opaque, const char *path, const struct state_field *field, u64 value);
    void (*bytes)(void *opaque, const char *path, const struct state_field *field, const u8 *data,
                  size_t len);
    void *opaque;
};
void state_visit(const struct state_table *table, const void *object, const struct state_visitor *visitor);

#endif
