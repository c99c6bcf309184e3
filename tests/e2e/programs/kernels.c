/*
 * Loops that compilers turn into vector code, over arrays that start at every alignment: built once for each instruction
 * set (-march=x86-64, -v2, -v3, -mfpmath=387, ...), each build compared with itself on the host.
 */
#include "report.h"
#include <math.h>

enum { N = 203 }; /* no multiple of any vector's length, so that heads and tails of loops run too */

typedef struct {
    int8_t i8[N];
    uint8_t u8[N];
    int16_t i16[N];
    uint16_t u16[N];
    int32_t i32[N];
    uint32_t u32[N];
    int64_t i64[N];
    uint64_t u64[N];
    float f32[N];
    double f64[N];
    long double f80[N];
} arrays;

static arrays a, b, r;

/* The optimiser shall know neither the values nor that nothing else reads them. */
#define OPAQUE() asm volatile("" ::: "memory")

static void fill(arrays *to)
{
    memset(to, 0, sizeof *to);
    for (int i = 0; i < N; i++) {
        uint64_t x = random_u64();
        to->i8[i] = to->u8[i] = x;
        to->i16[i] = to->u16[i] = x >> 3;
        to->i32[i] = to->u32[i] = x >> 7 & (x & 1 ? -1 : 255);
        to->i64[i] = to->u64[i] = (x & 1 ? x : x >> 32);
        to->f32[i] = (float)((int64_t)x >> 20) / 1048576;
        to->f64[i] = (double)(int64_t)x / 65536;
        to->f80[i] = (long double)x / 3;
    }
}

/* KERNEL(name, result array, statement over i): runs the statement for all i. */
#define KERNEL(NAME, RESULT, ...)                                                                            \
    static void NAME(void)                                                                                   \
    {                                                                                                        \
        for (int i = 0; i < N; i++) {                                                                        \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
        OPAQUE();                                                                                            \
        report_bytes(RESULT, sizeof RESULT);                                                                 \
    }

/* SUM(name, type, expression over i): adds the expression up. */
#define SUM(NAME, TYPE, ...)                                                                                 \
    static void NAME(void)                                                                                   \
    {                                                                                                        \
        TYPE sum = 0;                                                                                        \
        for (int i = 0; i < N; i++) {                                                                        \
            sum += __VA_ARGS__;                                                                              \
        }                                                                                                    \
        report_bytes(&sum, sizeof sum > 8 ? 10 : sizeof sum);                                                \
    }

static inline int min(int x, int y)
{
    return x < y ? x : y;
}

static inline int max(int x, int y)
{
    return x > y ? x : y;
}

#define CLAMP(X, LOW, HIGH) max(min(X, HIGH), LOW)

KERNEL(add8, r.i8, r.i8[i] = a.i8[i] + b.i8[i])
KERNEL(saturated_add8, r.i8, r.i8[i] = CLAMP(a.i8[i] + b.i8[i], -128, 127))
KERNEL(saturated_sub_u16, r.u16, r.u16[i] = CLAMP(a.u16[i] - b.u16[i], 0, 65535))
KERNEL(average_u8, r.u8, r.u8[i] = (a.u8[i] + b.u8[i] + 1) >> 1)
KERNEL(difference_u8, r.u8, r.u8[i] = a.u8[i] > b.u8[i] ? a.u8[i] - b.u8[i] : b.u8[i] - a.u8[i])
KERNEL(minimum_i16, r.i16, r.i16[i] = min(a.i16[i], b.i16[i]))
KERNEL(maximum_u8, r.u8, r.u8[i] = max(a.u8[i], b.u8[i]))
KERNEL(absolute_i32, r.i32, r.i32[i] = a.i32[i] < 0 ? -(uint32_t)a.i32[i] : a.i32[i])
KERNEL(multiply16, r.i16, r.i16[i] = a.i16[i] * b.i16[i])
KERNEL(multiply_high16, r.i16, r.i16[i] = a.i16[i] * b.i16[i] >> 16)
KERNEL(multiply_high_u16, r.u16, r.u16[i] = (uint32_t)a.u16[i] * b.u16[i] >> 16)
KERNEL(multiply32, r.i32, r.i32[i] = (uint32_t)a.i32[i] * b.i32[i])
KERNEL(multiply_wide, r.i64, r.i64[i] = (int64_t)a.i32[i] * b.i32[i])
KERNEL(multiply64, r.u64, r.u64[i] = a.u64[i] * b.u64[i])
KERNEL(shift16, r.i16, r.i16[i] = a.i16[i] >> 5)
KERNEL(shift32_by_each, r.u32, r.u32[i] = a.u32[i] << (b.u32[i] & 31))
KERNEL(shift_right_by_each, r.i32, r.i32[i] = a.i32[i] >> (b.i32[i] & 31))
KERNEL(shift64_by_each, r.u64, r.u64[i] = a.u64[i] >> (b.u64[i] & 63))
KERNEL(rotate32, r.u32, r.u32[i] = a.u32[i] << 7 | a.u32[i] >> 25)
KERNEL(byte_swap, r.u32, r.u32[i] = __builtin_bswap32(a.u32[i]))
KERNEL(population, r.i32, r.i32[i] = __builtin_popcountll(a.u64[i]))
KERNEL(leading_zeros, r.i32, r.i32[i] = a.u32[i] ? __builtin_clz(a.u32[i]) : -1)
KERNEL(trailing_zeros, r.i32, r.i32[i] = a.u64[i] ? __builtin_ctzll(a.u64[i]) : -1)
KERNEL(lowest_bit, r.u64, r.u64[i] = a.u64[i] & -a.u64[i])
KERNEL(bits_below, r.u64, r.u64[i] = a.u64[i] ^ (a.u64[i] - 1))
KERNEL(and_not, r.u64, r.u64[i] = ~a.u64[i] & b.u64[i])
KERNEL(select_i64, r.i64, r.i64[i] = a.i64[i] > b.i64[i] ? a.i64[i] : -b.i64[i])
KERNEL(gather32, r.i32, r.i32[i] = a.i32[b.u32[i] % N])
KERNEL(gather64, r.f64, r.f64[i] = a.f64[b.u32[i] % N])
KERNEL(masked, r.i32, if (a.i32[i] > 100) r.i32[i] = b.i32[i] + 1)
KERNEL(masked_double, r.f64, if (a.f64[i] > b.f64[i]) r.f64[i] = a.f64[i] * 2)
KERNEL(reversed, r.i16, r.i16[i] = a.i16[N - 1 - i])
KERNEL(narrow, r.i8, r.i8[i] = a.i32[i])
KERNEL(narrow_saturated, r.u8, r.u8[i] = CLAMP(a.i16[i], 0, 255))
KERNEL(widen, r.i64, r.i64[i] = a.i8[i])
KERNEL(widen_u, r.u32, r.u32[i] = a.u16[i])
KERNEL(divide_by_constant, r.u32, r.u32[i] = a.u32[i] / 10)
KERNEL(divide32, r.i32, r.i32[i] = a.i32[i] / (b.i32[i] | 1 << 30))
KERNEL(divide64, r.u64, r.u64[i] = a.u64[i] / (b.u64[i] | 1))
KERNEL(wide_remainder, r.u64, r.u64[i] = a.u64[i] % (b.u32[i] | 1))
SUM(sum_u8, uint32_t, a.u8[i])
SUM(dot_i16, int32_t, a.i16[i] / 16 * (b.i16[i] / 16))
SUM(dot_u8_i8, int32_t, a.u8[i] * b.i8[i])
SUM(distance_u8, uint32_t, (uint32_t)(a.u8[i] > b.u8[i] ? a.u8[i] - b.u8[i] : b.u8[i] - a.u8[i]))
SUM(sum64, uint64_t, a.u64[i])

KERNEL(add_float, r.f32, r.f32[i] = a.f32[i] + b.f32[i])
KERNEL(divide_float, r.f32, r.f32[i] = a.f32[i] / b.f32[i])
KERNEL(root_float, r.f32, r.f32[i] = sqrtf(fabsf(a.f32[i])))
KERNEL(fused_float, r.f32, r.f32[i] = a.f32[i] * b.f32[i] + r.f32[i])
KERNEL(fused_double, r.f64, r.f64[i] = a.f64[i] * b.f64[i] - r.f64[i])
KERNEL(negated_double, r.f64, r.f64[i] = -(a.f64[i] * b.f64[i]) + r.f64[i])
KERNEL(divide_double, r.f64, r.f64[i] = a.f64[i] / b.f64[i])
KERNEL(root_double, r.f64, r.f64[i] = sqrt(fabs(a.f64[i])))
KERNEL(float_from_int, r.f32, r.f32[i] = a.i32[i])
KERNEL(float_from_unsigned, r.f32, r.f32[i] = a.u32[i])
KERNEL(double_from_int, r.f64, r.f64[i] = a.i32[i])
KERNEL(double_from_long, r.f64, r.f64[i] = a.i64[i])
KERNEL(double_from_unsigned_long, r.f64, r.f64[i] = a.u64[i])
KERNEL(int_from_float, r.i32, r.i32[i] = a.f32[i] / 65536)
KERNEL(int_from_double, r.i32, r.i32[i] = a.f64[i] / 0x1p40)
KERNEL(long_from_double, r.i64, r.i64[i] = a.f64[i])
KERNEL(float_from_double, r.f32, r.f32[i] = a.f64[i])
KERNEL(double_from_float, r.f64, r.f64[i] = a.f32[i])
KERNEL(round_down, r.f64, r.f64[i] = floor(a.f64[i] / 3))
KERNEL(round_up, r.f32, r.f32[i] = ceilf(a.f32[i] / 3))
KERNEL(round_near, r.f32, r.f32[i] = rintf(a.f32[i] / 3))
KERNEL(truncated, r.f64, r.f64[i] = trunc(a.f64[i] / 3))
KERNEL(maximum_float, r.f32, r.f32[i] = a.f32[i] > b.f32[i] ? a.f32[i] : b.f32[i])
KERNEL(sign_float, r.f32, r.f32[i] = copysignf(a.f32[i], b.f32[i]))
SUM(sum_float, float, a.f32[i])
SUM(dot_double, double, a.f64[i] * b.f64[i])
SUM(dot_long_double, long double, a.f80[i] * b.f80[i])
SUM(count_nearer, int, fabs(a.f64[i]) < fabs(b.f64[i]))
SUM(sines, double, sin(a.f32[i]) * exp(a.i8[i] / 8.0))
SUM(sines_float, float, sinf(a.f32[i]) * expf(a.i8[i] / 8.0f))
SUM(long_sines, long double, sinl(a.f80[i] / 0x1p60L) / (1 + atanl(b.f80[i])) + log2l(a.f80[i] + 1))

KERNEL(long_double, r.f64, r.f64[i] = (a.f80[i] / (b.f80[i] + 1) + sqrtl(a.f80[i])) * (i & 1 ? -1.0L : 0.3L))
KERNEL(long_double_to_int, r.i64, r.i64[i] = a.f80[i] / 5 - b.f80[i] / 7)
#ifdef __SSE2__
KERNEL(half, r.f32, r.f32[i] = (float)(_Float16)a.f32[i] + (float)(_Float16)(b.f32[i] / 0x1p30f))
#endif

static void multiply_matrices(void)
{
    enum { M = 14 };
    for (int i = 0; i < M; i++) {
        for (int k = 0; k < M; k++) {
            r.f64[i * M + k] = 0;
            for (int j = 0; j < M; j++) {
                r.f64[i * M + k] += a.f64[i * M + j] * b.f64[j * M + k];
            }
        }
    }
    OPAQUE();
    report_bytes(r.f64, sizeof r.f64);
}

static void big_numbers(void)
{
    uint64_t product[64] = {0};
    for (int i = 0; i < 32; i++) {
        uint64_t carry = 0;
        for (int k = 0; k < 32; k++) {
#ifdef __SIZEOF_INT128__
            unsigned __int128 t = (unsigned __int128)a.u64[i] * b.u64[k] + product[i + k] + carry;
            product[i + k] = t;
            carry = t >> 64;
#else
            uint64_t t = (uint64_t)a.u32[i] * b.u32[k] + product[i + k] + carry;
            product[i + k] = (uint32_t)t;
            carry = t >> 32;
#endif
        }
        product[i + 32] = carry;
    }
    report_bytes(product, sizeof product);
}

#define ROW(NAME)                                                                                            \
    {                                                                                                        \
#NAME, NAME                                                                                          \
    }
static const struct {
    const char *name;
    void (*run)(void);
} kernels[] = {
    ROW(add8),
    ROW(saturated_add8),
    ROW(saturated_sub_u16),
    ROW(average_u8),
    ROW(difference_u8),
    ROW(minimum_i16),
    ROW(maximum_u8),
    ROW(absolute_i32),
    ROW(multiply16),
    ROW(multiply_high16),
    ROW(multiply_high_u16),
    ROW(multiply32),
    ROW(multiply_wide),
    ROW(multiply64),
    ROW(shift16),
    ROW(shift32_by_each),
    ROW(shift_right_by_each),
    ROW(shift64_by_each),
    ROW(rotate32),
    ROW(byte_swap),
    ROW(population),
    ROW(leading_zeros),
    ROW(trailing_zeros),
    ROW(lowest_bit),
    ROW(bits_below),
    ROW(and_not),
    ROW(select_i64),
    ROW(gather32),
    ROW(gather64),
    ROW(masked),
    ROW(masked_double),
    ROW(reversed),
    ROW(narrow),
    ROW(narrow_saturated),
    ROW(widen),
    ROW(widen_u),
    ROW(divide_by_constant),
    ROW(divide32),
    ROW(divide64),
    ROW(wide_remainder),
    ROW(sum_u8),
    ROW(dot_i16),
    ROW(dot_u8_i8),
    ROW(distance_u8),
    ROW(sum64),
    ROW(add_float),
    ROW(divide_float),
    ROW(root_float),
    ROW(fused_float),
    ROW(fused_double),
    ROW(negated_double),
    ROW(divide_double),
    ROW(root_double),
    ROW(float_from_int),
    ROW(float_from_unsigned),
    ROW(double_from_int),
    ROW(double_from_long),
    ROW(double_from_unsigned_long),
    ROW(int_from_float),
    ROW(int_from_double),
    ROW(long_from_double),
    ROW(float_from_double),
    ROW(double_from_float),
    ROW(round_down),
    ROW(round_up),
    ROW(round_near),
    ROW(truncated),
    ROW(maximum_float),
    ROW(sign_float),
    ROW(sum_float),
    ROW(dot_double),
    ROW(dot_long_double),
    ROW(count_nearer),
    ROW(sines),
    ROW(sines_float),
    ROW(long_sines),
    ROW(long_double),
    ROW(long_double_to_int),
#ifdef __SSE2__
    ROW(half),
#endif
    ROW(multiply_matrices),
    ROW(big_numbers),
};

int main(int count, char **words)
{
    report_wanted = count > 1 ? words[1] : NULL;
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        report_begin(kernels[k].name);
        random_state = 1;
        memset(&r, 0, sizeof r);
        for (int round = 0; round < 12; round++) {
            fill(&a);
            fill(&b);
            OPAQUE();
            kernels[k].run();
        }
        report_end();
    }
    return 0;
}
