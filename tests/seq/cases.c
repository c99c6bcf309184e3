/*
 * Programs that once failed, and programs as text.
 *
 * Words of a setup: `user`, `smap`, `wp`, `am`, `zero` (vector registers), `pcid`; NAME=VALUE in hexadecimal: registers,
 * flags, fs and gs (bases), seed (of the data), engine, kind, events, total and order (of struct schedule), rip, and
 * `tables` and `sites` as bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "seq.h"

const struct written_program written_programs[] = {
    /* CLAC went on with a block that had SMAP overridden */
    {"smap wp zero total=8 flags=40ad4 r9=20005ffc r14=20006180 rip=10003280",
     " 40=0f01cae938320000 3280=f04f810e0aff89430f85000000004d0f9c8964000000e9a5cdffff"},
    /* an instruction whose second page is exchanged every fourth time round */
    {"total=200 rip=10001000",
     " 1000=80c1407502cd83e9f13f0000 4ffd=b81122334401c3e9f7bfffff 6000=776601c3e9f7bfffff"},
    /* A masked move of nothing left marks in the page tables */
    {"wp zero total=2 rbp=20000000 rip=10001280", " 1280=36c462392dbd4f000000e9f1ffffff"},
    {"wp zero total=2 rsi=20000000 rip=10000040", " 40=c4e2398ea600000000e9f2ffffff"},
};
const size_t written_program_count = ARRAY_SIZE(written_programs);

static bool flag_word(const char *word, struct image *image)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"user", &image->user},      {"smap", &image->smap},         {"wp", &image->write_protect},
                 {"am", &image->align_check}, {"zero", &image->vectors_zero}, {"pcid", &image->pcid}};

    for (size_t n = 0; n < ARRAY_SIZE(flags); n++)
        if (!strcmp(flags[n].name, word))
            return *flags[n].flag = true;
    return false;
}

static bool number_word(const char *name, u64 v, struct image *image, struct schedule *schedule)
{
    const struct {
        const char *name;
        u64 *number;
    } numbers[] = {{"rip", &image->rip},      {"flags", &image->rflags}, {"fs", &image->fs_base},
                   {"gs", &image->gs_base},   {"limit", &image->limit},  {"seed", &image->seed},
                   {"order", &schedule->seed}};

    for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
        if (!strcmp(numbers[n].name, name)) {
            *numbers[n].number = v;
            return true;
        }
    for (unsigned n = 0; n < 16; n++)
        if (!strcmp(register_names[n], name)) {
            image->gpr[n] = v;
            return true;
        }
    if (!strcmp(name, "total"))
        schedule->total = (u32)v;
    else if (!strcmp(name, "kind"))
        schedule->kind = (u8)v;
    else if (!strcmp(name, "events"))
        schedule->events = (u8)v;
    else if (!strcmp(name, "engine"))
        schedule->engine = (u8)v;
    else
        return false;
    return true;
}

static void bad(const char *text)
{
    fprintf(stderr, "a program: cannot read \"%s\"\n", text);
    exit(2);
}

static void read_setup(const char *text, struct image *image, struct schedule *schedule)
{
    char word[32];
    static char value[2 * sizeof(image->tables) + 1];
    int taken;

    for (;; text += taken) {
        text += strspn(text, " ");
        if (!*text)
            return;
        if (sscanf(text, "%31[^= ]%n", word, &taken) != 1)
            bad(text);
        if (text[taken] != '=') {
            if (!flag_word(word, image))
                bad(text);
            continue;
        }
        if (sscanf(text, "%31[^= ]=%8192s%n", word, value, &taken) != 2)
            bad(text);
        if (!strcmp(word, "tables"))
            text_read_bytes(value, (u8 *)image->tables, sizeof(image->tables));
        else if (!strcmp(word, "sites"))
            text_read_bytes(value, (u8 *)image->sites, sizeof(image->sites));
        else if (!number_word(word, strtoull(value, NULL, 16), image, schedule))
            bad(text);
    }
}

void text_read_program(const struct written_program *text, struct image *image, struct schedule *schedule)
{
    unsigned first = 0;

    memset(image, 0, sizeof(*image));
    *schedule = (struct schedule){.total = 1000};
    memset(image->code, 0xcc, sizeof(image->code));
    image->gpr[RSP] = STACK_USUAL;
    for (const char *at = text->code; *(at += strspn(at, " ")); at += strcspn(at, " ")) {
        unsigned offset, length;
        int taken;

        if (sscanf(at, "%x=%n", &offset, &taken) != 1 || offset >= CODE_SIZE)
            bad(at);
        length = text_read_bytes(at + taken, image->code + offset, CODE_SIZE - offset);
        image_note_skips(image, offset, offset + length);
        if (!first)
            first = offset;
    }
    image->rip = CODE_BASE + first;
    for (unsigned n = 0; n < RESUME_ENTRIES; n++)
        image->resume[n] = CODE_BASE + first;
    read_setup(text->setup, image, schedule);
}

static void put_number(FILE *to, const char *name, u64 v)
{
    if (v)
        fprintf(to, "%s=%llx ", name, (unsigned long long)v);
}

static void put_bytes(FILE *to, const char *name, const u8 *bytes, unsigned count)
{
    while (count && !bytes[count - 1])
        count--;
    if (!count)
        return;
    fprintf(to, "%s=", name);
    for (unsigned n = 0; n < count; n++)
        fprintf(to, "%02x", bytes[n]);
    fprintf(to, " ");
}

void text_write_program(FILE *to, const struct image *image, const struct schedule *schedule)
{
    fprintf(to, "    {\"%s%s%s%s%s%s", image->user ? "user " : "", image->smap ? "smap " : "",
            image->write_protect ? "wp " : "", image->align_check ? "am " : "",
            image->vectors_zero ? "zero " : "", image->pcid ? "pcid " : "");
    put_number(to, "engine", schedule->engine);
    put_number(to, "kind", schedule->kind);
    put_number(to, "events", schedule->events);
    put_number(to, "order", schedule->kind || schedule->events ? schedule->seed : 0);
    put_number(to, "total", schedule->total);
    put_number(to, "limit", image->limit);
    put_number(to, "seed", image->seed);
    put_number(to, "flags", image->rflags);
    put_number(to, "fs", image->fs_base);
    put_number(to, "gs", image->gs_base);
    for (unsigned n = 0; n < 16; n++)
        if (n != RSP || image->gpr[n] != STACK_USUAL)
            put_number(to, register_names[n], image->gpr[n]);
    put_bytes(to, "tables", (const u8 *)image->tables, sizeof(image->tables));
    put_bytes(to, "sites", (const u8 *)image->sites, sizeof(image->sites));
    fprintf(to, "rip=%llx\",\n     \"", (unsigned long long)image->rip);
    for (unsigned at = 0; at < CODE_SIZE; at++) {
        if (!image->skip[at])
            continue;
        if (!at || !image->skip[at - 1])
            fprintf(to, " %x=", at);
        fprintf(to, "%02x", image->code[at]);
    }
    fprintf(to, "\"},\n");
}
