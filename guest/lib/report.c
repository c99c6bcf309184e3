/* Text output, and the count of cases. */
#include "guest.h"

enum {
    DEBUGCON = 0xe9,
    COM1 = 0x3f8,
    DEBUG_EXIT = 0xf4,
    BOCHS_EXIT = 0x8900,
    SHOWN_FAILURES = 12, /* of a group */
};

static struct {
    const char *name;
    unsigned cases, failed;
} current;
static unsigned total_passed, total_failed;

static void put_char(char c)
{
    outb(DEBUGCON, (u8)c);
    for (int i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
        ;
    outb(COM1, (u8)c);
}

static void put_number(u64 value, unsigned base, unsigned width, char pad)
{
    char digits[24];
    unsigned n = 0;

    do {
        u32 high = (u32)(value >> 32), low = (u32)value;
        u32 rest;

        /* 64 by 32 bits without a library. */
        if (base == 16) {
            rest = low & 15;
            value >>= 4;
        } else {
            u32 q_high = high / base, r = high % base, q_low;
            asm("divl %4" : "=a"(q_low), "=d"(rest) : "a"(low), "d"(r), "r"(base));
            value = (u64)q_high << 32 | q_low;
        }
        digits[n++] = "0123456789abcdef"[rest];
    } while (value);
    for (; width > n; width--)
        put_char(pad);
    while (n)
        put_char(digits[--n]);
}

/* %s %c %d %u %x with l or ll, #, 0 and a width; %%. */
static void vprint(const char *format, va_list args)
{
    for (; *format; format++) {
        bool sharp = false, is_signed = false;
        unsigned width = 0, longs = 0;
        char pad = ' ';
        u64 value;

        if (*format != '%') {
            put_char(*format);
            continue;
        }
        for (format++; *format == '#'; format++)
            sharp = true;
        if (*format == '0')
            pad = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = 10 * width + (unsigned)(*format - '0');
        for (; *format == 'l'; format++)
            longs++;
        if (*format == 's') {
            for (const char *s = va_arg(args, const char *); *s; s++)
                put_char(*s);
            continue;
        }
        if (*format == '%' || *format == 'c') {
            put_char(*format == '%' ? '%' : (char)va_arg(args, int));
            continue;
        }
        is_signed = *format == 'd';
        if (longs == 2)
            value = va_arg(args, u64);
        else if (longs == 1)
            value = is_signed ? (u64)va_arg(args, long) : va_arg(args, ulong);
        else
            value = is_signed ? (u64)va_arg(args, int) : va_arg(args, unsigned);
        if (is_signed && (int64_t)value < 0) {
            put_char('-');
            value = -value;
        }
        if (sharp) {
            put_char('0');
            put_char('x');
        }
        put_number(value, *format == 'x' ? 16 : 10, width, pad);
    }
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vprint(format, args);
    va_end(args);
}

static void leave(bool good) __attribute__((noreturn));
static void leave(bool good)
{
    outb(DEBUG_EXIT, !good);
    for (const char *s = "Shutdown"; *s; s++)
        outb(BOCHS_EXIT, (u8)*s);
    for (;;)
        asm volatile("cli; hlt");
}

void panic(const char *format, ...)
{
    va_list args;

    print("FAIL %s: panic: ", current.name ? current.name : "start");
    va_start(args, format);
    vprint(format, args);
    va_end(args);
    print("\n%u passed, %u failed\n", total_passed + current.cases - current.failed,
          total_failed + current.failed + 1);
    leave(false);
}

static void end_group(void)
{
    if (current.name) {
        if (current.failed > SHOWN_FAILURES)
            print("(%u failures more)\n", current.failed - SHOWN_FAILURES);
        if (current.failed)
            print("not ok %s: %u of %u cases failed\n", current.name, current.failed, current.cases);
        else if (!current.cases)
            print("not ok %s: no case ran\n", current.name);
        else
            print("ok %s: %u cases\n", current.name, current.cases);
    }
    total_passed += current.cases - current.failed;
    total_failed += current.failed;
    current.name = NULL;
    current.cases = current.failed = 0;
}

void group(const char *name)
{
    end_group();
    current.name = name;
}

void skip_group(const char *name, const char *why)
{
    end_group();
    print("skip %s: %s\n", name, why);
}

void summary(void)
{
    end_group();
    print("%u passed, %u failed\n", total_passed, total_failed);
    for (int i = 0; i < 100000 && !(inb(COM1 + 5) & 0x40); i++) /* the last character is on its way */
        ;
}

void finish(void)
{
    summary();
    leave(!total_failed && total_passed);
}

static const char *vector_name(int vector)
{
    static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9",
                                        "#TS", "#NP", "#SS", "#GP", "#PF", "#15", "#MF", "#AC", "#MC", "#XM"};

    if (vector == VECTOR_END)
        return "end";
    return vector >= 0 && (unsigned)vector < ARRAY_SIZE(names) ? names[vector] : "vector";
}

static void print_end(int vector, ulong error, int at)
{
    print("%s", vector_name(vector));
    if (vector != VECTOR_END)
        print(" %d (%#lx)", vector, error);
    if (at != ANYWHERE && vector != VECTOR_END)
        print(" at %d", at);
}

/* A failed case: "FAIL group, name: expected ", or false when there were too many. */
static bool start_failure(const char *format, va_list args)
{
    if (++current.failed > SHOWN_FAILURES)
        return false;
    print("FAIL %s, ", current.name);
    vprint(format, args);
    print(": expected ");
    return true;
}

bool expect_trap(const struct trap *trap, struct expect want, const char *format, ...)
{
    int at = (int)(trap->at.ip - trap->start);
    bool good =
        trap->vector == want.vector && trap->error == want.error && (want.at == ANYWHERE || want.at == at);
    va_list args;

    current.cases++;
    if (good)
        return true;
    va_start(args, format);
    if (start_failure(format, args)) {
        print_end(want.vector, want.error, want.at);
        print(", got ");
        print_end(trap->vector, trap->error, at);
        print(" (cs %lx ip %lx flags %lx cr2 %lx)\n", trap->at.cs, trap->at.ip, trap->at.flags, trap->cr2);
    }
    va_end(args);
    return false;
}

bool expect_equal(u64 got, u64 want, const char *format, ...)
{
    va_list args;

    current.cases++;
    if (got == want)
        return true;
    va_start(args, format);
    if (start_failure(format, args))
        print("%#llx, got %#llx\n", (unsigned long long)want, (unsigned long long)got);
    va_end(args);
    return false;
}
