/*
 * A triple fault (SDM 3A 6.15, interrupt 8): after the summary line, an exception that cannot be delivered, with a double
 * fault gate that cannot be used either. The machine resets; the runner looks for that.
 */
#include "guest.h"

void test(void)
{
    struct context c = user_context(CODE32("ud2"));

    group("before the triple fault");
    expect_trap(run(&c), FAULT(UD, 0), "#UD");
    idt[DF][0] &= ~((u64)ACCESS_P << 40);
    idt[GP][0] &= ~((u64)ACCESS_P << 40);
    c = user_context(CODE32("mov eax, [ebx]"));
    c.ds = 0;
    summary();
    run(&c);
}
