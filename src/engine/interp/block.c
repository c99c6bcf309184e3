/*
 * The block cache.
 *
 * A block is found by where its bytes lie in host memory, its RIP, its CS and the mode it was decoded for; so it outlives
 * every change of mappings. It dies when its bytes are written: pages with blocks are claimed (memory_claim_code), so that
 * stores to them come here, and a bitmap of 64-byte pieces per page tells code from data that shares its page.
 *
 * A dead block may still be running, linked to, or in a jump table. All its cells get a handler that returns to the loop
 * with the exact state, so nobody has to be found and told. Memory comes from an arena that is emptied as a whole when full.
 */
#include "engine/interp/block.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/interp/mem.h"
#include "engine/interp/tier.h"
#include "x86/cpuid.h"

enum {
    ARENA_BYTES = 64 << 20, /* of cells; what is never used of it costs nothing */
    SLOT_BYTES =
        128, /* of the arena, for each slot of the table: no block with its first cells is smaller by far */
    CODE_PAGES = 1 << 15, /* slots for pages with code; a full table empties the cache */
    MAX_MAIL = 64,        /* places that other threads have written to; more: every block dies */
    MAX_CUTS = 64,        /* a full table is made anew from what is armed */
};

struct code_page {
    u8 *host;     /* NULL: free slot */
    bool claimed; /* there is at least one block, or will be */
    u64 pieces;   /* of these blocks */
    struct block *first;
    struct mem_block *block;
    u64 offset;
};

/* Bytes of a page that another thread has written to. */
struct mail {
    u8 *host;
    u32 first, last;
};

struct block_cache {
    u8 *arena;
    size_t used, size;
    u64 *table; /* of blocks, open: address in bits 0 to 47, a part of the hash above; 0: free */
    size_t nslots;
    struct code_page pages[CODE_PAGES];
    unsigned npages;
    u64 cuts[MAX_CUTS]; /* linear addresses of execute breakpoints (block_cut) */
    unsigned ncuts;
    struct mail mail[MAX_MAIL]; /* guarded by vcpu_hold */
    unsigned nmail;
    bool mail_lost; /* there was more */
    struct interp *c;
    const struct interp_row *rows[OP_COUNT];
};

/* ---- handlers of cells that are no instructions ---- */

static void op_gp0(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    interp_fault(c, i, VEC_GP, 0);
}

/* After the last cell of a block that does not end with a branch. Counts as no instruction. */
static void op_fall(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    TAIL interp_end_fall(s, c, i);
}

/* ---- life and death ---- */

static struct code_page *page_slot(struct block_cache *cache, const u8 *host)
{
    size_t n = (uintptr_t)host >> PAGE_SHIFT;

    n ^= n >> 13;
    while (cache->pages[n % CODE_PAGES].host && cache->pages[n % CODE_PAGES].host != host)
        n++;
    return &cache->pages[n % CODE_PAGES];
}

static unsigned block_side(const struct block *b, const u8 *host)
{
    return b->page == (u64)(uintptr_t)host ? 0 : 1;
}

/* The bytes of a block that lie in the page at `host`. */
static void block_span(const struct block *b, const u8 *host, u64 *offset, u64 *len)
{
    u64 in_first = b->page2 == BLOCK_NO_PAGE ? b->nbytes : (u64)PAGE_SIZE - b->offset;

    *offset = block_side(b, host) ? 0 : b->offset;
    *len = block_side(b, host) ? b->nbytes - in_first : in_first;
}

static void block_kill(struct interp *c, struct block *b)
{
    c->counters.blocks_killed++;
    b->mode = BLOCK_DEAD;
    for (unsigned n = 0; n <= b->ncells; n++)
        b->cells[n].fn = interp_op_leave;
    b->first_fn = interp_op_leave;
    if (c->tier)
        c->tier->block_killed(c, b);
}

/* Claim the page that `byte` is in. false: it was claimed already; otherwise the world may have changed meanwhile, and the
   caller has to begin anew. */
static bool page_claim(struct interp *c, const u8 *byte, struct mem_block *mem, u64 offset)
{
    u8 *host = (u8 *)((uintptr_t)byte & PAGE_MASK);
    struct code_page *p = page_slot(c->blocks, host);

    if (p->claimed)
        return false;
    if (!p->host) {
        *p = (struct code_page){.host = host, .block = mem, .offset = offset & PAGE_MASK};
        c->blocks->npages++;
    }
    p->claimed = true;
    memory_claim_code(c->memory, mem, offset, c->vcpu->index);
    return true;
}

static void page_release(struct block_cache *cache, struct code_page *p)
{
    if (p->claimed)
        memory_release_code(cache->c->memory, p->block, p->offset, cache->c->vcpu->index);
    p->claimed = false;
}

static void page_enter(struct block_cache *cache, struct block *b, const u8 *host)
{
    struct code_page *p = page_slot(cache, host);
    u64 start, len;

    block_span(b, host, &start, &len);
    b->page_next[block_side(b, host)] = p->first;
    p->first = b;
    p->pieces |= code_pieces(start, len);
}

/* Announce what the block was made from in this page. */
static void page_announce(struct block_cache *cache, const struct block *b, const u8 *host)
{
    const struct code_page *p = page_slot(cache, host);
    u64 start, len;

    block_span(b, host, &start, &len);
    mem_block_add_code(p->block, p->offset, code_pieces(start, len));
}

/* `len` bytes at `offset` of a page were written. */
static void page_written(struct block_cache *cache, struct interp *c, u8 *host, u64 offset, u64 len)
{
    struct code_page *p = page_slot(cache, host);
    struct block **at;
    u64 start, n;

    if (!p->host || !(p->pieces & code_pieces(offset, len)))
        return;
    p->pieces = 0;
    for (at = &p->first; *at;) {
        struct block *b = *at;

        block_span(b, host, &start, &n);
        if (b->mode != BLOCK_DEAD && offset < start + n && start < offset + len)
            block_kill(c, b);
        if (b->mode == BLOCK_DEAD) {
            *at = b->page_next[block_side(b, host)];
            continue;
        }
        p->pieces |= code_pieces(start, n);
        at = &b->page_next[block_side(b, host)];
    }
    if (!p->first)
        page_release(cache, p);
}

static void release_pages(struct block_cache *cache)
{
    for (unsigned n = 0; n < CODE_PAGES; n++)
        page_release(cache, &cache->pages[n]);
}

static void cache_flush(struct block_cache *cache, struct interp *c)
{
    c->counters.cache_flushes++;
    release_pages(cache);
    memset(cache->pages, 0, sizeof(cache->pages));
    memset(cache->table, 0, cache->nslots * sizeof(*cache->table));
    cache->npages = 0;
    cache->used = 0;
    if (c->tier)
        c->tier->blocks_dropped(c);
    interp_forget_ways(c);
    c->link_from = NULL;
}

void block_drop_all(struct interp *c)
{
    cache_flush(c->blocks, c);
}

/* ---- memory listener ---- */

/* The vCPU executes on another thread: it kills the blocks itself, before it next enters one. */
static void leave_mail(struct block_cache *cache, u8 *host, u32 first, u32 last)
{
    struct mail *m = cache->nmail ? &cache->mail[cache->nmail - 1] : NULL;

    if (m && m->host == host && first <= m->last + 1 && last + 1 >= m->first) { /* memset and the like */
        m->first = first < m->first ? first : m->first;
        m->last = last > m->last ? last : m->last;
    } else if (cache->nmail < MAX_MAIL) {
        cache->mail[cache->nmail++] = (struct mail){host, first, last};
    } else {
        cache->mail_lost = true;
    }
    __atomic_fetch_or(&cache->c->vcpu->kick, KICK_REQUEST, __ATOMIC_SEQ_CST);
}

void block_serve_mail(struct interp *c)
{
    struct block_cache *cache = c->blocks;
    struct mail mail[MAX_MAIL];
    unsigned n;
    bool lost;

    pthread_mutex_lock(&c->vcpu->vm->world.lock);
    n = cache->nmail;
    lost = cache->mail_lost;
    memcpy(mail, cache->mail, n * sizeof(*mail));
    cache->nmail = 0;
    cache->mail_lost = false;
    pthread_mutex_unlock(&c->vcpu->vm->world.lock);
    if (lost)
        cache_flush(cache, c);
    for (const struct mail *m = mail; !lost && m < mail + n; m++)
        page_written(cache, c, m->host, m->first, m->last - m->first + 1);
}

static void on_written(void *opaque, struct mem_block *block, u64 offset, u64 len, unsigned marks)
{
    struct block_cache *cache = opaque;

    if (marks & PAGE_TABLE) {
        mem_block_unmark(block, offset, PAGE_TABLE);
        interp_tlb_flush(cache->c);
    }
    if (marks & PAGE_CODE) {
        u8 *host = block->host + (offset & PAGE_MASK);
        u32 in_page = (u32)(offset & ~PAGE_MASK);

        if (vcpu_hold(cache->c->vcpu))
            page_written(cache, cache->c, host, in_page, len);
        else
            leave_mail(cache, host, in_page, in_page + (u32)len - 1);
        vcpu_release(cache->c->vcpu);
    }
}

static void on_protect(void *opaque, struct mem_block *block, u64 offset)
{
    struct block_cache *cache = opaque;

    interp_tlb_protect(cache->c, block, offset);
}

static void on_remapped(void *opaque)
{
    struct block_cache *cache = opaque;

    interp_tlb_flush(cache->c);
}

/* ---- the cache ---- */

static const struct interp_row *const all_rows[] = {
    interp_alu_rows,     interp_move_rows,     interp_shift_rows,      interp_bit_rows,  interp_string_rows,
    interp_branch_rows,  interp_system_rows,   interp_x87_rows,        interp_mmx_rows,  interp_sse_fp_rows,
    interp_sse_int_rows, interp_crypto_rows,   interp_fpstate_rows,    interp_wait_rows, interp_avx_fp_rows,
    interp_avx_int_rows, interp_avx_move_rows, interp_avx_crypto_rows, interp_fma_rows,
};

static void free_memory(struct block_cache *cache)
{
    if (cache->arena != MAP_FAILED)
        munmap(cache->arena, cache->size);
    free(cache->table);
    free(cache);
}

struct block_cache *block_cache_new(struct interp *c, struct error *err)
{
    struct block_cache *cache = calloc(1, sizeof(*cache));

    if (!cache) {
        error_set(err, "no memory on the host for the interpreter's block cache");
        return NULL;
    }
    cache->c = c;
    cache->size = ARENA_BYTES;
    cache->arena =
        mmap(NULL, cache->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise(cache->arena, cache->size, MADV_HUGEPAGE);
    for (cache->nslots = 1; cache->nslots * SLOT_BYTES < cache->size;)
        cache->nslots *= 2;
    cache->table = calloc(cache->nslots, sizeof(*cache->table));
    if (cache->arena == MAP_FAILED || !cache->table) {
        error_set(err, "no memory on the host for the interpreter's block cache");
        free_memory(cache);
        return NULL;
    }
    for (size_t t = 0; t < ARRAY_SIZE(all_rows); t++)
        for (const struct interp_row *r = all_rows[t]; r->op != OP_COUNT; r++)
            cache->rows[r->op] = r;
    if (memory_add_listener(
            c->memory, &(struct mem_listener){on_written, on_protect, on_remapped, cache, c->vcpu->index},
            err)) {
        free_memory(cache);
        return NULL;
    }
    return cache;
}

void block_cache_free(struct block_cache *cache)
{
    release_pages(cache);
    memory_remove_listener(cache->c->memory, cache);
    free_memory(cache);
}

/* ---- cuts ---- */

static bool is_cut(const struct block_cache *cache, u64 lin)
{
    for (unsigned n = 0; n < cache->ncuts; n++)
        if (cache->cuts[n] == lin)
            return true;
    return false;
}

static u64 code_linear(u32 mode, u64 cs_base, u64 rip)
{
    return (mode & MODE_CODE_MASK) == MODE_CODE64 ? rip : (u32)(cs_base + rip);
}

static struct block *slot_block(u64 slot)
{
    return (struct block *)(uintptr_t)(slot & ((1ull << 48) - 1));
}

/* Kill the blocks that `lin` lies in. */
static void kill_around(struct interp *c, u64 lin)
{
    for (size_t n = 0; n < c->blocks->nslots; n++) {
        struct block *b = slot_block(c->blocks->table[n]);

        if (b && b->mode != BLOCK_DEAD && lin - code_linear(b->mode, b->cs_base, b->rip) < b->nbytes)
            block_kill(c, b);
    }
}

static void cut_armed(struct interp *c)
{
    struct block_cache *cache = c->blocks;
    unsigned armed = c->debug.execute & c->debug.enabled;

    for (unsigned n = 0; n < 4; n++)
        if (armed >> n & 1 && cache->ncuts < MAX_CUTS && !is_cut(cache, c->state->dr[n]))
            cache->cuts[cache->ncuts++] = c->state->dr[n];
}

void block_cut(struct interp *c, u64 lin)
{
    struct block_cache *cache = c->blocks;

    if (is_cut(cache, lin))
        return;
    if (cache->ncuts == MAX_CUTS) {
        cache_flush(cache, c);
        cache->ncuts = 0;
        cut_armed(c);
        return;
    }
    cache->cuts[cache->ncuts++] = lin;
    kill_around(c, lin);
}

/* ---- building ---- */

static u8 byte_register(unsigned n, bool rex)
{
    return (u8)(rex || n < 4 ? n * 8 : (n - 4) * 8 + 1);
}

/* x87 instructions but for those that control the unit, which ops_fpstate.c has. */
static bool records_pointers(const struct interp_row *row)
{
    for (const struct interp_row *r = interp_x87_rows; r->op != OP_COUNT; r++)
        if (r == row)
            return true;
    return false;
}

/* The handler of a decoded instruction, or the one that raises what the CPU raises instead. */
static interp_fn *choose_handler(struct interp *c, const struct x86_insn *insn, u16 *op)
{
    const struct x86_op_info *info = &x86_ops[*op];
    const struct interp_row *row;
    interp_fn *fn;
    unsigned slot;
    u32 a;

    if (info->feature && !c->vcpu->vm->config.cpu.has[info->feature]) {
        *op = info->without_feature;
        if (*op == OP_INVALID)
            return interp_op_ud;
        info = &x86_ops[*op];
    }
    a = info->attributes;
    row = c->blocks->rows[*op];
    if (!row || (a & X86_OP_LATER) || ((a & X86_OP_NOT_REAL) && (c->mode & MODE_REAL)))
        return interp_op_ud;
    slot = row->flags & ROW_VEX_L    ? insn->vex_l
           : insn->operand_size == 8 ? 2
           : insn->operand_size == 4 ? 1
                                     : 0;
    fn = (insn->is_mem ? row->mem : row->reg)[slot];
    if (!fn)
        return interp_op_ud;
    if (a & X86_OP_SSE) {
        if (c->mode & MODE_SSE_UD)
            return interp_op_ud;
        if (c->mode & MODE_SSE_NM)
            return interp_op_nm;
    }
    if (a & X86_OP_AVX) {
        if (c->mode & MODE_AVX_UD)
            return interp_op_ud;
        if (c->mode & MODE_SSE_NM)
            return interp_op_nm;
    }
    if ((a & X86_OP_MMX) && (c->mode & MODE_MMX_UD))
        return interp_op_ud;
    if ((a & (X86_OP_X87 | X86_OP_MMX)) && (c->mode & MODE_X87_NM) && *op != OP_FWAIT)
        return interp_op_nm;
    return c->x87_pointers && records_pointers(row) ? interp_x87_recorded : fn;
}

interp_fn *block_handler(const struct interp *c, u16 op, bool mem, unsigned size)
{
    const struct interp_row *row = c->blocks->rows[op];

    return (mem ? row->mem : row->reg)[size == 8 ? 2 : size == 4 ? 1 : 0];
}

static void fill_cell(struct interp *c, const struct x86_insn *insn, const struct block *b, unsigned start,
                      struct cell *cell)
{
    const struct x86_op_info *info;
    const struct interp_row *row;
    u64 next = b->rip + start + insn->length;
    bool rex = insn->prefixes & X86_PFX_REX, code64 = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    u16 op = insn->op;

    memset(cell, 0, sizeof(*cell));
    cell->fn = choose_handler(c, insn, &op);
    row = c->blocks->rows[op];
    info = &x86_ops[op];
    cell->op = op;
    cell->start = (u8)start;
    cell->len = insn->length;
    cell->imm = (i32)insn->imm;
    cell->disp = insn->disp;
    cell->base = insn->is_mem || insn->base < X86_NO_REG ? insn->base : X86_NO_REG;
    cell->index = insn->is_mem ? insn->index : X86_NO_REG;
    cell->scale = insn->scale;
    cell->seg = insn->segment;
    cell->reg = row && (row->flags & ROW_REG8) ? byte_register(insn->reg, rex) : insn->reg;
    cell->rm = row && (row->flags & ROW_RM8) && !insn->is_mem ? byte_register(insn->rm, rex) : insn->rm;
    cell->vvvv = insn->vvvv;
    cell->flags =
        (u8)((insn->prefixes & X86_PFX_REP ? CELL_REP : 0) |
             (insn->prefixes & X86_PFX_REPNE ? CELL_REPNE : 0) |
             (insn->prefixes & X86_PFX_LOCK ? CELL_LOCK : 0) | (insn->operand_size == 2 ? CELL_OP16 : 0) |
             (insn->operand_size == 8 ? CELL_OP64 : 0) | (insn->address_size == 4 ? CELL_ADDR32 : 0) |
             (insn->address_size == 2 ? CELL_ADDR16 : 0));
    if ((c->mode & MODE_FLAT) && insn->address_size == 4 && !code64 &&
        (insn->segment == SEG_DS || insn->segment == SEG_SS || insn->segment == SEG_ES))
        cell->flags |= CELL_FLAT32;
    if (insn->address_size == 8 && cell->index == X86_NO_REG && insn->segment != SEG_FS &&
        insn->segment != SEG_GS)
        cell->flags |= CELL_PLAIN_EA;
    if (cell->base == X86_RIP_REG) {
        cell->base = X86_NO_REG;
        cell->disp += (i64)next;
    }
    if (info->operands[0] == 'J') {
        u64 target = next + insn->imm;

        cell->disp = (i64)(insn->operand_size == 8   ? target
                           : insn->operand_size == 4 ? (u32)target
                                                     : (u16)target);
        /* Known here, since CS is part of what the block is for: the branch raises #GP(0) when it is taken. */
        cell->rm = code64 ? !interp_canonical(c, (u64)cell->disp) : (u64)cell->disp > b->cs_limit;
    } else if (op == OP_MOV_Zv_Iv) {
        cell->disp = (i64)insn->imm;
    } else if (op == OP_JMPF_Ap || op == OP_CALLF_Ap) {
        cell->disp = (i64)insn->imm;
        cell->imm = (i32)insn->imm2;
    } else if (op == OP_ENTER_Iw_Ib || op == OP_EXTRQ_Udq_Ib_Ib || op == OP_INSERTQ_Vdq_Udq_Ib_Ib) {
        cell->disp = (i64)insn->imm2;
    } else if (info->attributes & X86_OP_X87) {
        cell->imm = (insn->opcode & 7) << 8 | insn->modrm; /* FOP */
    }
}

static bool ends_block(const struct cell *cell)
{
    return (x86_ops[cell->op].attributes & (X86_OP_BRANCH | X86_OP_SERIALISE | X86_OP_REP)) ||
           cell->fn == interp_op_ud || cell->fn == interp_op_nm;
}

/* A cell that raises for bytes that are no instruction. */
static void fill_bad(struct cell *cell, unsigned start, interp_fn *fn)
{
    memset(cell, 0, sizeof(*cell));
    cell->fn = fn;
    cell->start = (u8)start;
    cell->base = cell->index = X86_NO_REG;
}

/* The bytes at a linear address: where they are in the host, or NULL when they are not in RAM or ROM. */
static u8 *fetch_host(struct interp *c, u64 lin, struct mem_block **mem, u64 *offset)
{
    u64 phys = interp_translate_exec(c, NULL, lin);
    const struct mem_range *r = memory_find(c->memory, phys);

    if (!r || !r->read_block)
        return NULL;
    *mem = r->read_block;
    *offset = phys - r->start + r->read_offset;
    return r->read_block->host + *offset;
}

struct code_at {
    u8 *host; /* of the first byte; NULL: fetched from I/O */
    struct mem_block *mem;
    u64 mem_offset;
    struct mem_block *mem2; /* second page, of an instruction that crosses */
    u64 mem_offset2;
};

/* Fetch byte by byte across the page end (or from I/O, where every fetch goes to the bus). Returns the bytes got. */
static unsigned fetch_slowly(struct interp *c, const struct block *b, struct code_at *at, u64 room, u8 *bytes)
{
    unsigned n;

    for (n = 0; n < X86_MAX_INSN && n < room; n++) {
        u64 lin = code_linear(c->mode, b->cs_base, b->rip + n), offset;
        struct mem_block *mem;
        u8 *host;

        /* Only touch the next page when the instruction needs it. */
        if (n && !(lin & ~PAGE_MASK)) {
            struct x86_insn insn;
            struct x86_decode_mode mode = {(u8)(c->mode & MODE_CODE_MASK), c->amd};

            if (x86_decode(&mode, bytes, n, &insn) != X86_DECODE_MORE)
                break;
        }
        host = fetch_host(c, lin, &mem, &offset);
        if (!host) {
            bytes[n] = (u8)memory_read(c->memory, interp_translate_exec(c, NULL, lin), 1);
            at->host = NULL;
            continue;
        }
        if (n && !(lin & ~PAGE_MASK)) {
            at->mem2 = mem;
            at->mem_offset2 = offset;
        }
        bytes[n] = *host;
    }
    return n;
}

/* Whether the bytes that the block was made from are still there. */
static bool same_bytes(const struct block *b, const struct code_at *at, const u8 *bytes)
{
    size_t n = b->page2 == BLOCK_NO_PAGE ? b->nbytes : PAGE_SIZE - b->offset;

    return !memcmp(at->host, bytes, n) &&
           (b->page2 == BLOCK_NO_PAGE || !memcmp((const u8 *)(uintptr_t)b->page2, bytes + n, b->nbytes - n));
}

/*
 * Decode a block whose first page is claimed. NULL: its second page was not, begin anew. Other vCPUs may be writing what is
 * read here: it is read once, and if it is not the same any more when stores begin to be told of, the block is good for one
 * execution.
 */
static struct block *build(struct interp *c, struct code_at *at, u64 cs_base, u32 cs_limit)
{
    struct block_cache *cache = c->blocks;
    const struct vcpu_state *s = c->state;
    struct x86_decode_mode mode = {(u8)(c->mode & MODE_CODE_MASK), c->amd};
    u64 lin, room, limit_room, page;
    struct x86_insn insn;
    struct block *b;
    u8 bytes[256];
    bool ended = false;

    b = (struct block *)(cache->arena + cache->used);
    memset(b, 0, sizeof(*b));
    b->rip = s->rip;
    b->cs_base = cs_base;
    b->cs_limit = cs_limit;
    b->mode = c->mode;
    b->page = BLOCK_NO_PAGE;
    b->page2 = BLOCK_NO_PAGE;
    lin = code_linear(c->mode, b->cs_base, b->rip);
    limit_room =
        mode.code_size == X86_CODE64 || cs_limit == UINT32_MAX ? UINT64_MAX : (u64)cs_limit - b->rip + 1;
    room = PAGE_SIZE - (lin & ~PAGE_MASK);
    if (room > limit_room)
        room = limit_room;
    if (room > 255 - X86_MAX_INSN)
        room = 255 - X86_MAX_INSN; /* cell.start is a byte */
    b->cut = is_cut(cache, lin);
    if (at->host)
        memcpy(bytes, at->host, room);
    while (!ended && at->host && b->ncells < BLOCK_MAX_CELLS) {
        enum x86_decode_result r;

        if (b->ncells && is_cut(cache, lin + b->nbytes))
            break;
        r = x86_decode(&mode, bytes + b->nbytes, room - b->nbytes, &insn);

        if (r == X86_DECODE_MORE)
            break;
        if (r == X86_DECODE_OK) {
            fill_cell(c, &insn, b, b->nbytes, &b->cells[b->ncells]);
            ended = ends_block(&b->cells[b->ncells]);
        } else {
            fill_bad(&b->cells[b->ncells], b->nbytes, r == X86_DECODE_INVALID ? interp_op_ud : op_gp0);
            ended = true;
            /* The verdict may rest on any byte up to the limit: a store to one of them has to end this block. */
            insn.length = (u8)(room - b->nbytes < X86_MAX_INSN ? room - b->nbytes : X86_MAX_INSN);
        }
        b->nbytes = (u16)(b->nbytes + insn.length);
        b->ncells++;
    }
    if (!b->ncells) {
        unsigned n = fetch_slowly(c, b, at, limit_room, bytes);
        enum x86_decode_result r = x86_decode(&mode, bytes, n, &insn);

        if (at->host && at->mem2 &&
            page_claim(c, at->mem2->host + at->mem_offset2, at->mem2, at->mem_offset2))
            return NULL;
        if (r == X86_DECODE_OK)
            fill_cell(c, &insn, b, 0, &b->cells[0]);
        else
            fill_bad(&b->cells[0], 0, r == X86_DECODE_INVALID ? interp_op_ud : op_gp0);
        ended = ends_block(&b->cells[0]) || r != X86_DECODE_OK;
        b->nbytes = r == X86_DECODE_OK ? insn.length : (u16)n;
        b->ncells = 1;
    }
    fill_bad(&b->cells[b->ncells], b->nbytes, ended ? interp_op_leave : op_fall);
    b->first_fn = b->cells[0].fn;
    page = (u64)(uintptr_t)at->host & PAGE_MASK;
    if (at->mem2 && (lin & ~PAGE_MASK) + b->nbytes > PAGE_SIZE)
        b->page2 = (u64)(uintptr_t)(at->mem2->host + at->mem_offset2) & PAGE_MASK;
    /* From I/O, or from two ends of one page, which the page's list of blocks cannot tell: never found again. */
    if (!at->host || b->page2 == page)
        return b;
    b->offset = (u32)(lin & ~PAGE_MASK);
    b->page = page;
    page_announce(cache, b, (u8 *)(uintptr_t)b->page);
    if (b->page2 != BLOCK_NO_PAGE)
        page_announce(cache, b, (u8 *)(uintptr_t)b->page2);
    if (!same_bytes(b, at, bytes)) {
        b->page = b->page2 = BLOCK_NO_PAGE;
        return b;
    }
    cache->used += sizeof(struct block) + (b->ncells + 1u) * sizeof(struct cell);
    if (c->tier)
        b->cells[0].fn = c->tier->first;
    page_enter(cache, b, (u8 *)(uintptr_t)b->page);
    if (b->page2 != BLOCK_NO_PAGE)
        page_enter(cache, b, (u8 *)(uintptr_t)b->page2);
    c->counters.blocks_built++;
    return b;
}

/* The upper bits choose the slot, the lower 16 are kept in it, so that blocks that only collide are not touched: a process that
   has ended leaves its blocks behind, and most look-ups of one that begins find nothing. */
static u64 hash_of(const u8 *host, u64 rip)
{
    u64 h = ((u64)(uintptr_t)host ^ rip << 7) * 0x9e3779b97f4a7c15ull;

    return h ^ h >> 32;
}

/* Whether the second page of a block is still mapped behind the first. Raises what the fetch of it raises. */
static bool second_page_matches(struct interp *c, const struct block *b)
{
    struct mem_block *mem;
    u64 offset, lin = code_linear(c->mode, b->cs_base, b->rip);
    u8 *host;

    if (b->page2 == BLOCK_NO_PAGE)
        return true;
    host = fetch_host(c, code_linear(c->mode, b->cs_base, b->rip + (PAGE_SIZE - (lin & ~PAGE_MASK))), &mem,
                      &offset);
    return host && ((u64)(uintptr_t)host & PAGE_MASK) == b->page2;
}

/* No room for another block, or for the two pages that it may lie in. */
static bool cache_full(const struct block_cache *cache)
{
    return cache->used + sizeof(struct block) + (BLOCK_MAX_CELLS + 1) * sizeof(struct cell) > cache->size ||
           cache->npages > CODE_PAGES * 3 / 4;
}

struct block *block_lookup(struct interp *c)
{
    const struct vcpu_state *s = c->state;
    bool code64 = (c->mode & MODE_CODE_MASK) == MODE_CODE64;
    u64 cs_base = code64 ? 0 : s->seg[SEG_CS].base, rip = s->rip;
    u32 cs_limit = code64 ? 0 : s->seg[SEG_CS].limit;
    struct jump_entry *j = jump_slot(c, rip);
    struct code_at at;
    struct block_cache *cache = c->blocks;
    struct block *b;
    u64 h, *free_slot;

    if (j->rip == rip && j->generation == c->generation[rip >> 63] && j->block->mode == c->mode &&
        j->block->cs_base == cs_base && j->block->cs_limit == cs_limit)
        return j->block;
    if ((c->tier && c->tier->wants_drop(c)) || cache_full(c->blocks))
        cache_flush(c->blocks, c);
    c->counters.lookups++;
    if (!code64 && rip >> 32) { /* EIP goes on at 0 (SDM 3B 22.33) */
        c->state->rip = (u32)rip;
        return block_lookup(c);
    }
    if (!code64 && rip > cs_limit)
        interp_fault(c, NULL, VEC_GP, 0);
again:
    at = (struct code_at){0};
    at.host = fetch_host(c, code_linear(c->mode, cs_base, rip), &at.mem, &at.mem_offset);
    h = hash_of(at.host, rip);
    free_slot = NULL;
    for (size_t n = h >> 16;; n++) {
        u64 *slot = &cache->table[n & (cache->nslots - 1)];

        if (*slot && *slot >> 48 != (h & 0xffff))
            continue;
        b = slot_block(*slot);
        if (!b || b->mode == BLOCK_DEAD) { /* code that is rewritten again and again has one slot */
            if (!free_slot)
                free_slot = slot;
            if (!b)
                break;
        } else if (b->rip == rip && b->mode == c->mode && b->cs_base == cs_base && b->cs_limit == cs_limit &&
                   b->page + b->offset == (u64)(uintptr_t)at.host && second_page_matches(c, b)) {
            break;
        }
    }
    if (!b) {
        if (at.host && page_claim(c, at.host, at.mem, at.mem_offset))
            goto again;
        b = build(c, &at, cs_base, cs_limit);
        if (!b)
            goto again;
        if (b->page == BLOCK_NO_PAGE)
            return b;
        *free_slot = (u64)(uintptr_t)b | h << 48;
    }
    if (!b->cut)
        *j = (struct jump_entry){rip, b, c->generation[rip >> 63]};
    return b;
}

struct block *block_single(struct interp *c, const struct block *block)
{
    struct block *b = (struct block *)c->single;

    *b = *block;
    b->ncells = 1;
    b->link[0] = b->link[1] = NULL;
    b->cells[0] = block->cells[0];
    b->cells[0].fn = block->first_fn;
    fill_bad(&b->cells[1], block->ncells > 1 ? block->cells[1].start : block->nbytes, interp_op_leave);
    return b;
}
