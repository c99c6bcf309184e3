/* See real.h. */
#include "real.h"

enum { REAL_SP = 0x8000, STUB_SIZE = 3 };

extern const u8 real_blob[], real_blob_end[], real_in[], real_out[], real_vector[], real_ivt[],
    real_data_selector[];
void run_real_context(void);

/* The copy below 64 KiB of something in the blob. */
static void *low(const u8 *there)
{
    return (void *)(REAL_BLOB + (ulong)(there - real_blob));
}

static volatile u32 *vectors(void)
{
    ulong zero = 0;

    asm("" : "+r"(zero)); /* the compiler knows that nothing is at address 0 */
    return (volatile u32 *)zero;
}

void set_vector(int vector, u16 offset)
{
    vectors()[vector] = REAL_CODE << 12 | offset;
}

void reset_vectors(void)
{
    for (int i = 0; i < 256; i++)
        vectors()[i] = REAL_BLOB << 12 | (u32)(STUB_SIZE * i);
}

struct context real_context(struct code code)
{
    place(code, REAL_CODE);
    return (struct context){.flags = FLAG_FIXED,
                            .sp = REAL_SP,
                            .cs = REAL_CODE >> 4,
                            .ss = REAL_STACK >> 4,
                            .ds = REAL_DATA >> 4,
                            .es = REAL_DATA >> 4};
}

const struct trap *run_real(const struct context *context, struct real_mode mode)
{
    static struct trap result;
    static bool ready;

    if (!ready) {
        memcpy((void *)REAL_BLOB, real_blob, (size_t)(real_blob_end - real_blob));
        reset_vectors();
        ready = true;
    }
    memcpy(low(real_in), context, sizeof(*context));
    memset(low(real_out), 0, sizeof(*context));
    *(u16 *)low(real_ivt) = mode.idt_limit;
    *(u16 *)low(real_data_selector) = mode.big ? SEL_KDATA : SEL_KDATA16;
    run_real_context();
    load_idt(idt, sizeof(idt) - 1);
    memcpy(&result.at, low(real_out), sizeof(result.at));
    result.vector = *(u16 *)low(real_vector) / STUB_SIZE - 1;
    result.start = context->ip;
    return &result;
}

const struct trap *run_in_real_mode(const struct context *context)
{
    return run_real(context, (struct real_mode){.idt_limit = 0x3ff});
}
