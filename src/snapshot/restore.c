#include "snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "machine/vm.h"
#include "machine/vm_state.h"
#include "snapshot/format.h"

struct snapshot {
    int fd;
    char *path;
    u64 size;     /* of the file */
    char *board;  /* owned */
    char *config; /* owned */
};

/* A chunk that was read and whose checksum is right. */
struct chunk {
    struct snapshot_chunk head;
    u64 offset;  /* of the payload in the file */
    u8 *payload; /* owned; head.size bytes and a NUL */
};

/* A walk over the chunks. */
struct walk {
    const struct snapshot *snapshot;
    u64 offset, position;
    struct error *err;
};

static int refuse(const struct snapshot *s, u64 offset, struct error *err, const char *format, ...)
    PRINTF_LIKE(4, 5);

static int refuse(const struct snapshot *s, u64 offset, struct error *err, const char *format, ...)
{
    char text[400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(err, "%s: offset %" PRIu64 ": %s", s->path, offset, text);
}

static int read_at(const struct snapshot *s, u64 offset, void *to, size_t len, struct error *err)
{
    u8 *at = to;

    while (len) {
        ssize_t n = pread(s->fd, at, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "cannot read %s", s->path);
        if (n == 0)
            return refuse(s, offset, err, "the file is cut short");
        at += n;
        offset += (u64)n;
        len -= (size_t)n;
    }
    return 0;
}

/* ---- Chunks ---- */

static u64 max_chunk(u32 type)
{
    return type == SNAPSHOT_PAGES ? ZSTD_COMPRESSBOUND(SNAPSHOT_MAX_PAGES * (PAGE_SIZE + sizeof(u64)) + 8)
                                  : SNAPSHOT_MAX_STATE;
}

static int next_chunk(struct walk *walk, struct chunk *chunk)
{
    const struct snapshot *s = walk->snapshot;
    const struct snapshot_chunk *head = &chunk->head;
    u64 start = walk->offset;

    *chunk = (struct chunk){.offset = start + sizeof(*head)};
    if (s->size - start < sizeof(*head))
        return refuse(s, start, walk->err, "the file is cut short");
    if (read_at(s, start, &chunk->head, sizeof(*head), walk->err))
        return -1;
    if (head->size > s->size - chunk->offset)
        return refuse(s, start, walk->err, "a part is longer than the file");
    if (head->size > max_chunk(head->type))
        return refuse(s, start, walk->err, "a part has an impossible length");
    chunk->payload = malloc(head->size + 1);
    if (!chunk->payload)
        return error_set(walk->err, "cannot read %s: out of memory", s->path);
    if (read_at(s, chunk->offset, chunk->payload, head->size, walk->err))
        goto fail;
    if (snapshot_chunk_checksum(head, chunk->payload, walk->position) != head->checksum) {
        refuse(s, start, walk->err, "the file is damaged: a checksum is wrong");
        goto fail;
    }
    if (head->reserved || (head->type != SNAPSHOT_PAGES && head->raw_size != head->size)) {
        refuse(s, start, walk->err, "the head of a part is wrong");
        goto fail;
    }
    chunk->payload[head->size] = 0;
    walk->offset = chunk->offset + head->size;
    walk->position++;
    return 0;
fail:
    free(chunk->payload);
    chunk->payload = NULL;
    return -1;
}

static int expect_chunk(struct walk *walk, u32 type, struct chunk *chunk)
{
    u64 start = walk->offset;

    if (next_chunk(walk, chunk))
        return -1;
    if (chunk->head.type == type)
        return 0;
    free(chunk->payload);
    return refuse(walk->snapshot, start, walk->err, "part %u stands where part %u was expected",
                  chunk->head.type, type);
}

static struct walk first_chunk(const struct snapshot *s, struct error *err)
{
    return (struct walk){.snapshot = s, .offset = sizeof(struct snapshot_header), .err = err};
}

/* ---- Opening ---- */

static int check_header(struct snapshot *s, struct error *err)
{
    struct snapshot_header header;

    if (s->size < sizeof(header))
        return error_set(err, "%s is not a snapshot: it is too short", s->path);
    if (read_at(s, 0, &header, sizeof(header), err))
        return -1;
    if (memcmp(header.magic, SNAPSHOT_MAGIC, sizeof(header.magic)) != 0)
        return error_set(err, "%s is not a snapshot, or is damaged at its beginning", s->path);
    if (snapshot_header_checksum(&header) != header.checksum)
        return refuse(s, 0, err, "the file is damaged: the header's checksum is wrong");
    if (header.version != SNAPSHOT_VERSION)
        return refuse(s, offsetof(struct snapshot_header, version), err,
                      "the file has version %u of the format; this program knows version %u", header.version,
                      SNAPSHOT_VERSION);
    if (header.reserved)
        return refuse(s, offsetof(struct snapshot_header, reserved), err, "the header is wrong");
    if (header.file_size != s->size)
        return refuse(s, s->size, err, "the file has %" PRIu64 " bytes; it was written with %" PRIu64,
                      s->size, header.file_size);
    return 0;
}

/* A text of the file, which must be one: no NUL in it. */
static int take_text(struct walk *walk, u32 type, char **text)
{
    struct chunk chunk;

    if (expect_chunk(walk, type, &chunk))
        return -1;
    if (strlen((char *)chunk.payload) != chunk.head.size) {
        free(chunk.payload);
        return refuse(walk->snapshot, chunk.offset, walk->err, "a text is damaged");
    }
    *text = (char *)chunk.payload;
    return 0;
}

/* The rest of the chunks: whole, and END is the last and ends the file. */
static int check_chunks(struct walk *walk)
{
    u32 type;

    do {
        struct chunk chunk;

        if (next_chunk(walk, &chunk))
            return -1;
        free(chunk.payload);
        type = chunk.head.type;
    } while (type != SNAPSHOT_END);
    if (walk->offset != walk->snapshot->size)
        return refuse(walk->snapshot, walk->offset, walk->err, "there is something after the end");
    return 0;
}

static int open_file(struct snapshot *s, struct error *err)
{
    struct stat st;

    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait */
    if (s->fd < 0)
        return error_set_errno(err, errno, "cannot open %s", s->path);
    if (fstat(s->fd, &st))
        return error_set_errno(err, errno, "cannot open %s", s->path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, "cannot open %s: it is not a regular file", s->path);
    s->size = (u64)st.st_size;
    return 0;
}

struct snapshot *snapshot_open(const char *path, struct error *err)
{
    struct snapshot *s = calloc(1, sizeof(*s));
    struct walk walk;

    if (!s || !(s->path = strdup(path))) {
        free(s);
        error_set(err, "cannot open %s: out of memory", path);
        return NULL;
    }
    s->fd = -1;
    walk = first_chunk(s, err);
    if (open_file(s, err) || check_header(s, err) || take_text(&walk, SNAPSHOT_BOARD, &s->board) ||
        take_text(&walk, SNAPSHOT_CONFIG, &s->config) || check_chunks(&walk)) {
        snapshot_close(s);
        return NULL;
    }
    return s;
}

void snapshot_close(struct snapshot *snapshot)
{
    if (!snapshot)
        return;
    if (snapshot->fd >= 0)
        close(snapshot->fd);
    free(snapshot->path);
    free(snapshot->board);
    free(snapshot->config);
    free(snapshot);
}

const char *snapshot_config(const struct snapshot *snapshot)
{
    return snapshot->config;
}

/* ---- State ---- */

enum { MAX_SECTIONS = 512 };

struct stored_section {
    const char *name; /* not ended by a NUL */
    u8 name_len;
    const u8 *data;
    u32 size;
    bool used;
};

struct state_loader {
    const struct snapshot *snapshot;
    const struct chunk *chunk;
    struct stored_section sections[MAX_SECTIONS];
    unsigned count;
    struct error *err;
    bool failed;
};

static u64 offset_of(const struct state_loader *l, const void *at)
{
    return l->chunk->offset + (u64)((const u8 *)at - l->chunk->payload);
}

static int index_sections(struct state_loader *l)
{
    const u8 *at = l->chunk->payload, *end = at + l->chunk->head.size;

    while (at < end) {
        struct stored_section *section = &l->sections[l->count];
        size_t name_len = at[0];

        if (l->count == MAX_SECTIONS || (size_t)(end - at) < 1 + name_len + sizeof(u32))
            return refuse(l->snapshot, offset_of(l, at), l->err, "the list of states is wrong");
        section->name = (const char *)at + 1;
        section->name_len = (u8)name_len;
        memcpy(&section->size, at + 1 + name_len, sizeof(u32));
        section->data = at + 1 + name_len + sizeof(u32);
        if ((size_t)(end - section->data) < section->size)
            return refuse(l->snapshot, offset_of(l, at), l->err, "the list of states is wrong");
        at = section->data + section->size;
        l->count++;
    }
    return 0;
}

static struct stored_section *find_section(struct state_loader *l, const char *name)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct stored_section *section = &l->sections[i];

        if (section->name_len == strlen(name) && memcmp(section->name, name, section->name_len) == 0)
            return section;
    }
    return NULL;
}

static int load_section(struct state_loader *l, const struct state_section *section)
{
    struct stored_section *stored = find_section(l, section->name);
    struct state_reader reader;

    if (!stored || stored->used)
        return refuse(l->snapshot, l->chunk->offset, l->err,
                      "the file is of another machine: it has no state of %s", section->name);
    stored->used = true;
    reader = (struct state_reader){.data = stored->data,
                                   .len = stored->size,
                                   .what = l->snapshot->path,
                                   .base_offset = offset_of(l, stored->data)};
    if (state_load(section->table, section->object, &reader, l->err))
        return error_prefix(l->err, "%s", section->name);
    if (reader.pos != reader.len)
        return refuse(l->snapshot, offset_of(l, stored->data) + reader.pos, l->err,
                      "the state of %s has something after its end", section->name);
    return 0;
}

static void load_next(void *opaque, const struct state_section *section)
{
    struct state_loader *l = opaque;

    if (!l->failed && load_section(l, section))
        l->failed = true;
}

static int load_sections(struct state_loader *l, struct vm *vm)
{
    if (index_sections(l))
        return -1;
    vm_lock(vm);
    vm_state_sections(vm, load_next, l);
    vm_unlock(vm);
    if (l->failed)
        return -1;
    for (unsigned i = 0; i < l->count; i++) {
        if (!l->sections[i].used)
            return refuse(l->snapshot, offset_of(l, l->sections[i].name), l->err,
                          "the file is of another machine: it has a state that this one has no place for");
    }
    return 0;
}

static int restore_state(struct walk *walk, struct vm *vm)
{
    struct state_loader *l = calloc(1, sizeof(*l));
    struct chunk chunk;
    int result;

    if (!l)
        return error_set(walk->err, "cannot read %s: out of memory", walk->snapshot->path);
    if (expect_chunk(walk, SNAPSHOT_STATE, &chunk)) {
        free(l);
        return -1;
    }
    l->snapshot = walk->snapshot;
    l->chunk = &chunk;
    l->err = walk->err;
    result = load_sections(l, vm);
    free(chunk.payload);
    free(l);
    return result;
}

/* ---- Memory ---- */

enum { RAW_MAX = 8 + SNAPSHOT_MAX_PAGES * (sizeof(u64) + PAGE_SIZE) };

struct memory_loader {
    struct walk *walk;
    struct vm *vm;
    struct mem_block *block; /* the one that PAGES are of; NULL before the first BLOCK */
    size_t nblocks;          /* that have come */
    u64 next_page;           /* PAGES must not go back */
    u8 *raw;
};

/* Blocks come in the order in which the machine made them. */
static int load_block(struct memory_loader *m, const struct chunk *chunk)
{
    const struct snapshot *s = m->walk->snapshot;
    struct memory *memory = &m->vm->memory;
    struct mem_block *block;
    u64 size;

    if (chunk->head.size <= sizeof(size))
        return refuse(s, chunk->offset, m->walk->err, "the head of a block of memory is wrong");
    memcpy(&size, chunk->payload, sizeof(size));
    block = m->nblocks < memory->nblocks ? memory->blocks[m->nblocks] : NULL;
    if (!block || block->size != size || strcmp(block->name, (char *)chunk->payload + sizeof(size)) != 0)
        return refuse(s, chunk->offset, m->walk->err,
                      "the file is of another machine: its block of memory number %zu has %" PRIu64 " bytes",
                      m->nblocks + 1, size);
    if (fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)block->size))
        return error_set_errno(m->walk->err, errno, "cannot clear the machine's memory");
    m->block = block;
    m->nblocks++;
    m->next_page = 0;
    return 0;
}

static int unpack(struct memory_loader *m, const struct chunk *chunk, size_t *raw_size)
{
    const struct snapshot *s = m->walk->snapshot;

    if (chunk->head.raw_size > RAW_MAX)
        return refuse(s, chunk->offset, m->walk->err, "a part has an impossible length");
    *raw_size = ZSTD_decompress(m->raw, RAW_MAX, chunk->payload, chunk->head.size);
    if (ZSTD_isError(*raw_size) || *raw_size != chunk->head.raw_size)
        return refuse(s, chunk->offset, m->walk->err, "pages cannot be unpacked");
    return 0;
}

static int load_pages(struct memory_loader *m, const struct chunk *chunk)
{
    const struct snapshot *s = m->walk->snapshot;
    struct error *err = m->walk->err;
    const u8 *pages;
    size_t raw_size = 0;
    u32 count;

    if (!m->block)
        return refuse(s, chunk->offset, err, "pages that belong to no block of memory");
    if (unpack(m, chunk, &raw_size))
        return -1;
    if (raw_size < 8)
        return refuse(s, chunk->offset, err, "a list of pages is wrong");
    memcpy(&count, m->raw, sizeof(count));
    if (count > SNAPSHOT_MAX_PAGES || raw_size != 8 + count * (sizeof(u64) + PAGE_SIZE))
        return refuse(s, chunk->offset, err, "a list of pages is wrong");
    pages = m->raw + 8 + count * sizeof(u64);
    for (u32 i = 0; i < count; i++) {
        u64 number;

        memcpy(&number, m->raw + 8 + i * sizeof(u64), sizeof(number));
        if (number < m->next_page || number >= m->block->size >> PAGE_SHIFT)
            return refuse(s, chunk->offset, err,
                          "a page lies outside its block of memory or is out of order");
        m->next_page = number + 1;
        memcpy(m->block->host + (number << PAGE_SHIFT), pages + (size_t)i * PAGE_SIZE, PAGE_SIZE);
    }
    return 0;
}

static int load_memory_chunks(struct memory_loader *m)
{
    for (;;) {
        u64 start = m->walk->offset;
        struct chunk chunk;
        int result;

        if (next_chunk(m->walk, &chunk))
            return -1;
        switch (chunk.head.type) {
        case SNAPSHOT_BLOCK: result = load_block(m, &chunk); break;
        case SNAPSHOT_PAGES: result = load_pages(m, &chunk); break;
        case SNAPSHOT_END: result = 0; break;
        default:
            result = refuse(m->walk->snapshot, start, m->walk->err, "unknown part %u", chunk.head.type);
            break;
        }
        free(chunk.payload);
        if (result || chunk.head.type == SNAPSHOT_END)
            return result;
    }
}

static int restore_memory(struct walk *walk, struct vm *vm)
{
    struct memory_loader m = {.walk = walk, .vm = vm, .raw = malloc(RAW_MAX)};
    int result;

    if (!m.raw)
        return error_set(walk->err, "cannot read %s: out of memory", walk->snapshot->path);
    result = load_memory_chunks(&m);
    free(m.raw);
    if (result == 0 && m.nblocks != vm->memory.nblocks)
        result = refuse(walk->snapshot, walk->offset, walk->err,
                        "the file is of another machine: it has %zu blocks of memory, not %zu", m.nblocks,
                        vm->memory.nblocks);
    return result;
}

int snapshot_restore(struct snapshot *snapshot, struct vm *vm, struct error *err)
{
    const char *board = vm->board_name ? vm->board_name : "";
    struct walk walk = first_chunk(snapshot, err);
    char *text = NULL;

    if (strcmp(snapshot->board, board) != 0)
        return error_set(err, "%s: the file is of another machine: its board is \"%s\", this one is \"%s\"",
                         snapshot->path, snapshot->board, board);
    /* The chunks are checked once more while they are read: the file may have changed. */
    if (take_text(&walk, SNAPSHOT_BOARD, &text))
        return -1;
    free(text);
    if (take_text(&walk, SNAPSHOT_CONFIG, &text))
        return -1;
    free(text);
    if (restore_state(&walk, vm) || restore_memory(&walk, vm))
        return -1;
    if (vm_state_loaded(vm, err))
        return error_prefix(err, "%s", snapshot->path);
    return 0;
}
