/*
 * The functions of the C library's libm for one type, over edge values and random arguments, in each rounding mode: x87
 * code for long double, and whichever of its SSE2, FMA and AVX2 variants the library picks for the processor that it finds.
 * Built with -DTYPE=float -DF(x)=x##f and so on.
 */
#include "report.h"
#include <complex.h>
#include <fenv.h>
#include <math.h>
#include <stdlib.h>

enum { SIZE = sizeof(TYPE) > 8 ? 10 : sizeof(TYPE), RANDOM = 1500 };

/* Results are compared to the last bit, but for the payload and sign of NaNs, which compilers choose. */
static void report_value(TYPE v)
{
    if (isnan(v)) {
        report_bytes("NaN", 3);
    } else {
        report_bytes(&v, SIZE);
    }
}

static const double edges[] = {
    0.0,      -0.0,     1.0,    -1.0,    0.5,       -0.5,    2.0,      -2.0,        1.5,
    -1.5,     3.0,      10.0,   -10.0,   0.1,       0.75,    -0.99,    1.01,        M_PI,
    M_PI_2,   -M_PI_4,  M_E,    100.0,   -100.0,    1e5,     -1e5,     1e10,        1e15,
    1e16,     1e22,     1e300,  -1e300,  0x1p-1074, 1e-5,    1e-10,    1e-300,      0x1p-1022,
    0x1p-126, 0x1p-149, 0x1p63, -0x1p63, 0x1p31,    -0x1p31, 0x1p-27,  0x1.8p-1074, 709.0,
    710.5,    -745.2,   -746.0, 88.5,    89.5,      11356.0, -11400.,  127.5,       1023.5,
    -1074.5,  16383.0,  170.5,  171.62,  2.5,       3.5,     INFINITY, -INFINITY,   NAN,
};
enum { EDGES = sizeof edges / sizeof *edges, COUNT = EDGES + RANDOM };

static TYPE arguments[COUNT];

/* Half of the random arguments are near 1, where most of the code is; the others have any exponent. */
static void make_arguments(void)
{
    random_state = 1;
    for (int i = 0; i < COUNT; i++) {
        uint64_t bits = random_u64(), more = random_u64();
        int near = i & 1, exponent = more & 7, sign = more >> 8 & 1;
        if (i < EDGES) {
            arguments[i] = edges[i];
        } else if (SIZE == 4) {
            uint32_t u = near ? (bits & 0x807FFFFF) | (uint32_t)(124 + exponent) << 23 : bits;
            memcpy(&arguments[i], &u, 4);
        } else if (SIZE == 8) {
            bits = near ? (bits & 0x800FFFFFFFFFFFFF) | (uint64_t)(1020 + exponent) << 52 : bits;
            memcpy(&arguments[i], &bits, 8);
        } else {
            uint64_t u[2] = {bits | 1ULL << 63, near ? 16380 + exponent + (sign << 15) : more >> 16 & 0xFFFF};
            memcpy(&arguments[i], u, SIZE);
        }
    }
}

#define ROW(NAME)                                                                                            \
    {                                                                                                        \
#NAME, F(NAME)                                                                                       \
    }

static const struct {
    const char *name;
    TYPE (*call)(TYPE);
} one[] = {
    ROW(acos),  ROW(acosh), ROW(asin),   ROW(asinh), ROW(atan),      ROW(atanh), ROW(cbrt),        ROW(ceil),
    ROW(cos),   ROW(cosh),  ROW(erf),    ROW(erfc),  ROW(exp),       ROW(exp2),  ROW(exp10),       ROW(expm1),
    ROW(fabs),  ROW(floor), ROW(lgamma), ROW(log),   ROW(log10),     ROW(log1p), ROW(log2),        ROW(logb),
    ROW(rint),  ROW(round), ROW(sin),    ROW(sinh),  ROW(roundeven), ROW(sqrt),  ROW(tan),         ROW(tanh),
    ROW(trunc), ROW(j0),    ROW(tgamma), ROW(j1),    ROW(y0),        ROW(y1),    ROW(significand),
};

static const struct {
    const char *name;
    TYPE (*call)(TYPE, TYPE);
} two[] = {
    ROW(atan2), ROW(copysign), ROW(fdim),      ROW(fmax), ROW(fmin),
    ROW(fmod),  ROW(hypot),    ROW(nextafter), ROW(pow),  ROW(remainder),
};

static void report_complex(complex TYPE z)
{
    report_value(F(creal)(z));
    report_value(F(cimag)(z));
}

/* The functions that are called otherwise. */
static void run_others(void)
{
    for (int i = 0; i < COUNT; i++) {
        TYPE a = arguments[i], b = arguments[(i * 37 + 11) % COUNT], c = arguments[(i * 91 + 5) % COUNT];
        TYPE first = 0, second = 0;
        complex TYPE z;
        int n = 0;
        __real__ z = a;
        __imag__ z = b;
        report_value(F(fma)(a, b, c));
        report_value(F(ldexp)(a, i % 300 - 150));
        report_value(F(frexp)(a, &n));
        report_bytes(&n, isfinite(a) ? sizeof n : 0);
        report_value(F(modf)(a, &first));
        report_value(first);
        n = 0;
        report_value(F(remquo)(a, b, &n));
        n &= 7;
        report_bytes(&n, sizeof n);
        report_value(F(jn)(i % 7, F(fmin)(F(fabs)(a), 1000)));
        F(sincos)(a, &first, &second);
        report_value(first);
        report_value(second);
        long near = F(lrint)(a), rounded = F(lround)(a);
        long long longer = F(llrint)(a);
        report_bytes(&near, sizeof near);
        report_bytes(&rounded, sizeof rounded);
        report_bytes(&longer, sizeof longer);
        report_complex(F(cexp)(z));
        report_complex(F(clog)(z));
        report_complex(F(csqrt)(z));
        report_complex(F(csin)(z));
        report_complex(F(catan)(z));
    }
}

int main(int count, char **words)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    report_wanted = count > 1 ? words[1] : NULL;
    make_arguments();
    for (size_t mode = 0; mode < sizeof modes / sizeof *modes; mode++) {
        fesetround(modes[mode]);
        for (size_t f = 0; f < sizeof one / sizeof *one; f++) {
            report_begin(one[f].name);
            for (int i = 0; i < COUNT; i++) {
                int raised;
                feclearexcept(FE_ALL_EXCEPT);
                report_value(one[f].call(arguments[i]));
                raised = fetestexcept(FE_ALL_EXCEPT);
                report_bytes(&raised, sizeof raised);
            }
            report_end();
        }
        for (size_t f = 0; f < sizeof two / sizeof *two; f++) {
            report_begin(two[f].name);
            for (int i = 0; i < COUNT; i++) {
                report_value(two[f].call(arguments[i], arguments[(i * 37 + 11) % COUNT]));
            }
            report_end();
        }
        report_begin("others");
        run_others();
        report_end();
    }
    return 0;
}
