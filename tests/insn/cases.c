/*
 * Cases written by hand: the edges that the manual names, and what was wrong once. text.c tells the syntax; several states of
 * one instruction are parted by semicolons.
 */
#include "insn.h"

/* clang-format off */
const struct written_case written_cases[] = {
    /* Division: what does not fit, the most negative number, by zero, in every width. */
    {64, "48f7f9", "rax=8000000000000000 rdx=ffffffffffffffff rcx=ffffffffffffffff; rax=1 rdx=1 rcx=1; rax=1 rcx=0;"
                   "rax=8000000000000000 rdx=ffffffffffffffff rcx=1; rax=ffffffffffffffff rdx=3fffffffffffffff rcx=7fffffffffffffff;"
                   "rax=0 rdx=c000000000000000 rcx=7fffffffffffffff; rax=0 rdx=c000000000000000 rcx=8000000000000000"},
    {64, "48f7f1", "rax=ffffffffffffffff rdx=0 rcx=1; rdx=1 rcx=1; rdx=ffffffffffffffff rax=ffffffffffffffff rcx=ffffffffffffffff;"
                   "rdx=fffffffffffffffe rax=ffffffffffffffff rcx=ffffffffffffffff; rcx=0"},
    {64, "f7f9", "rax=80000000 rdx=ffffffff rcx=ffffffff; rax=80000000 rdx=ffffffff rcx=1; rax=7fffffff rcx=ffffffff; rax=1 rdx=1 rcx=2"},
    {64, "66f7f9", "rax=8000 rdx=ffff rcx=ffff; rax=8000 rdx=ffff rcx=1; rax=ffff0001 rdx=ffff0000 rcx=ffff0003"},
    {64, "f6f9", "rax=8000 rcx=ff; rax=ff80 rcx=ff; rax=ff80 rcx=1; rax=7f rcx=ff; rax=3fff rcx=80; rax=4000 rcx=80"},
    {64, "f6f1", "rax=ff rcx=1; rax=100 rcx=1; rax=fe01 rcx=ff; rax=feff rcx=ff; rax=ff00 rcx=ff"},
    {32, "d400", "rax=1234"}, {32, "d40a", "rax=12ff"}, {32, "d50a", "rax=0909"}, {32, "d5ff", "rax=ff01"},
    {32, "27", "rax=9a; rax=9 flags=10; rax=99 flags=1; rax=fa; rax=60"}, {32, "2f", "rax=0; rax=66 flags=11; rax=9a"},
    {32, "37", "rax=f; rax=fffa flags=10; rax=9"}, {32, "3f", "rax=0 flags=10; rax=10f; rax=fa"},
    /* Multiplication: overflow by a bit. */
    {64, "48f7e9", "rax=8000000000000000 rcx=ffffffffffffffff; rax=ffffffffffffffff rcx=ffffffffffffffff; rax=100000000 rcx=80000000"},
    {64, "480fafc1", "rax=7fffffffffffffff rcx=2; rax=ffffffff rcx=ffffffff; rax=3037000500 rcx=3037000500"},
    {64, "6bc180", "rcx=80000000; rcx=1000000; rcx=ffffffff"},
    /* Shifts: counts of 0, 1, width - 1, width, width + 1, beyond the mask. */
    {64, "48d3e0", "rax=8000000000000001 rcx=0 flags=8d5; rax=8000000000000001 rcx=1; rax=3 rcx=3f; rax=1 rcx=40 flags=8d5; rax=1 rcx=41"},
    {64, "d3e8", "rax=80000001 rcx=0 flags=8d5; rax=ffffffff80000001 rcx=1; rax=80000001 rcx=1f; rax=ffffffff00000001 rcx=20 flags=8d5; rax=1 rcx=21"},
    {64, "66d3f8", "rax=8001 rcx=f; rax=8001 rcx=10; rax=8001 rcx=11; rax=8001 rcx=1f"},
    {64, "d2d0", "rax=80 rcx=1 flags=1; rax=80 rcx=8; rax=80 rcx=9 flags=1; rax=80 rcx=a; rax=ff rcx=1b flags=1; rax=1 rcx=20 flags=1"},
    {64, "66d3d8", "rax=1 rcx=10 flags=1; rax=1 rcx=11 flags=1; rax=8001 rcx=12; rax=1 rcx=1f"},
    {64, "d2c0", "rax=81 rcx=8; rax=81 rcx=9; rax=81 rcx=10; rax=81 rcx=0 flags=801"},
    {64, "0fa5c8", "rax=80000000 rcx=0; rax=80000001 rcx=1; rax=1 rcx=1f; rax=1 rcx=20"},
    {64, "660fa5d0", "rax=8001 rdx=1234 rcx=f; rax=8001 rdx=1234 rcx=10; rax=8001 rdx=1234 rcx=11"},
    {64, "c4e2f1f7c2", "rdx=1 rcx=40; rdx=1 rcx=3f; rdx=8000000000000000 rcx=1"},
    /* Bits: the offset moves the operand, both ways; scans of zero. */
    {64, "480fa30b", "rcx=ffffffffffffffff; rcx=40; rcx=ffffffffffffe000; rcx=8000"},
    {64, "0fab0b", "rcx=ffffffff; rcx=20; rcx=ffffffe0 @3fc=80000000"}, {64, "660fbb0b", "rcx=ffff; rcx=10; rcx=8000"},
    {64, "480fbcc1", "rax=5 rcx=0; rcx=8000000000000000"}, {64, "0fbdc1", "rax=ffffffff00000005 rcx=0; rcx=1"},
    {64, "66f30fbcc1", "rax=ffff rcx=0; rcx=8000"}, {64, "f3480fbdc1", "rcx=0; rcx=1"},
    /* Arithmetic at the ends, with and without carry. */
    {64, "4811c8", "rax=ffffffffffffffff rcx=0 flags=1; rax=7fffffffffffffff rcx=0 flags=1; rax=8000000000000000 rcx=ffffffffffffffff flags=1"},
    {64, "18c8", "rax=0 rcx=ff flags=1; rax=80 rcx=0 flags=1; rax=80 rcx=7f flags=1"},
    {64, "48f7d8", "rax=8000000000000000; rax=0; rax=1"}, {64, "48ffc0", "rax=7fffffffffffffff flags=1; rax=ffffffffffffffff"},
    {64, "66ffc8", "rax=12348000; rax=12340000"}, {64, "660f38f6c1", "rax=ffffffff rcx=0 flags=1"}, {64, "f3480f38f6c1", "rax=ffffffffffffffff rcx=0 flags=800"},
    /* Compare and exchange: equal and not; the upper half of the accumulator; memory is written either way. */
    {64, "480fb10b", "rax=5 rcx=9 @400=0500000000000000; rax=5 rcx=9 @400=0600000000000000"},
    {64, "0fb1c8", "rax=ffffffff00000005 rcx=9; rax=ffffffff00000005 rbx=7 rcx=9"},
    {64, "f00fc70b", "rax=1 rdx=2 rbx=20000400 rcx=7 @400=0100000002000000; rax=1 rdx=3 rbx=20000400 @400=0100000002000000"},
    {64, "480fc70e", "rsi=20000400 rax=1 rdx=2 rbx=3 rcx=4 @400=01000000000000000200000000000000; rsi=20000400; rsi=20000408"},
    {64, "480fc1c0", "rax=8000000000000001"}, {64, "0fc103", "rax=ffffffff @400=01000000"},
    {64, "4887db", ""}, {64, "87c8", "rax=ffffffff00000001 rcx=ffffffff00000002"},
    /* The stack: PUSH rSP, POP [rSP], POP rSP, calls through it, ENTER with levels, a fault half-way. */
    {64, "54", ""}, {32, "54", ""}, {16, "54", ""}, {64, "8f0424", "@1800=1122334455667788"}, {64, "8f442408", "@1800=1122334455667788"},
    {64, "5c", "@1800=1122334455667788"}, {32, "5c", "@1800=11223344"}, {64, "665c", "@1800=1122"}, {64, "ff1424", "@1800=0001001000000000"},
    {64, "ff742408", "@1808=1122334455667788"}, {64, "c8100000", ""}, {64, "c8100001", ""}, {64, "c8100003", "@fe8=112233445566778899aabbccddeeff00"},
    {32, "c8080002", "@ff8=1122334455667788"}, {16, "c8080002", "@ffc=11223344"}, {64, "c9", "rbp=20001400 @1400=8877665544332211"},
    {64, "66c9", "rbp=20001400 @1400=8877"}, {32, "60", ""}, {32, "61", "@1800=0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"},
    {16, "60", ""}, {32, "60", "rsp=20000010"}, {64, "6a80", ""}, {64, "666a80", ""}, {64, "68000000ff", ""}, {64, "50", "rsp=20000004; rsp=20000000; rsp=0; rsp=8"},
    {64, "c3", "@1800=0001001000000000; @1800=00000000000080ff; @1800=0000000000000080"}, {64, "c20800", "@1800=0001001000000000"},
    {32, "66c3", "@1800=0001"}, {64, "ffe0", "rax=10000100; rax=8000000000000000; rax=20000000; rax=0"}, {64, "ffd0", "rax=10000100; rax=7fffffffffffffff"},
    /* Loops and jumps on the count, by address size. */
    {64, "e2f0", "rcx=1; rcx=0; rcx=100000000"}, {64, "67e2f0", "rcx=100000001; rcx=100000000"}, {64, "67e310", "rcx=ffffffff00000000; rcx=1"},
    {32, "67e2f0", "rcx=10001; rcx=10000"}, {64, "e0f0", "rcx=2 flags=40; rcx=2; rcx=1"}, {64, "e1f0", "rcx=2 flags=40; rcx=2"},
    {32, "ce", "flags=800; flags=0"}, {32, "6203", "rax=5 @400=0000000006000000; rax=7 @400=0000000006000000; rax=ffffffff @400=0000000006000000"},
    /* Strings: no count, backwards, overlapping, ending on a difference, into a page that is not there. */
    {64, "f3a4", "rcx=0; rcx=10 rdi=20000401; rcx=10 rdi=200003ff; rcx=8 flags=400; rcx=20 rdi=20001ff0; rcx=20 rdi=20001ff8 rsi=20002fe8"},
    {64, "f348a5", "rcx=3 rdi=20000401; rcx=3 rdi=20000408; rcx=3 rdi=20000404 flags=400"},
    {64, "f3aa", "rcx=0; rcx=21 rax=5a; rcx=11 rdi=20001ff8 rax=1; rcx=8 flags=400 rax=ff"}, {64, "f3ab", "rcx=ffffffff00000000; rcx=4 rax=11223344 rdi=20000ffe"},
    {64, "f3a6", "rcx=0 flags=8d5; rcx=8; rcx=8 @803=01; rcx=40 rsi=20002fe0 rdi=20000000"}, {64, "f2ae", "rcx=20 rax=7 @805=07; rcx=5 rax=7; rcx=20 rdi=20002ff8 rax=1"},
    {64, "f2a7", "rcx=4 @40c=01; rcx=4"}, {32, "67f3a4", "rcx=12340000"}, {16, "f3a4", "rcx=4 rsi=ffffe rdi=4800"}, {64, "f3ac", "rcx=3 @400=112233"},
    {64, "67f3a4", "rcx=100000002 rsi=120000400 rdi=120000800"}, {64, "d7", "rax=ff @4ff=33"},
    /* Single steps: a repeated comparison that goes on keeps the flags of before. */
    {64, "f2af", "rcx=7 flags=100 @802=ad51"}, {64, "f3a6", "rcx=3 flags=900"}, {32, "f2ae", "rcx=1 flags=100"}, {64, "f3a4", "rcx=2 flags=100; flags=100"}, {64, "9c", "flags=100"}, {64, "9d", "flags=100"},
    /* A gather that has loaded something gives way to the trap instead of its fault. */
    {64, "65c4c20d92240d38080000", "flags=100 xmm1=fffffeba00002a74:ffffffe4fffffde9 xmm14=a07d3a0df53c1a44:7f7f6283dea2b169"},
    {64, "c422cd91ac627cc643c0", "rdx=5fbc41be flags=100 ymm6=d535b32ecffdc5f2:98c81462c9c63f02 ymm12=ffffffffffff8000:d2"},
    {16, "6765c4e29d93bccce03c59f6", "gs=4 rsp=cb58 flags=100 ymm1=ffffffffffffff25:ffffffffffffffe4 ymm4=9e9c3909b17e239b:a1155171df48d615"},
    /* Masked moves: no wrap at the end of a 16-bit offset; the segment comes before the page. */
    {16, "2ec4e26d2c6f28", "rbx=ffd4 xmm2=40:db00000080000000"}, {16, "2ec4e2ed8caff402", "rbx=fd08 ymm2=0:8000000000000000"},
    /* Masked stores over a page end: CR2 tells the last byte that is stored. */
    {64, "c482012fbb54a25dde", "r11=41a27dab xmm15=d3ff01008b000080:8eff7d00a2ff00ff"}, {32, "c4e25d8e30", "rax=20001ff0 xmm4=fe000000d7000000:da00000045743ab7 ymm4=b293adddfd48ecfc:9414c4c24fc2b699"},
    /* Moves and extensions. */
    {64, "4863c1", "rcx=80000000"}, {64, "63c1", "rcx=ffffffff80000000 rax=ffffffffffffffff"}, {64, "6663c1", "rcx=18000 rax=ffffffffffffffff"},
    {64, "0fb6c4", "rax=ffffffffffff8000"}, {64, "480fbec1", "rcx=80"}, {64, "4898", "rax=80000000"}, {64, "6698", "rax=ffff0080"}, {64, "4899", "rax=8000000000000000"},
    {64, "6699", "rax=8000 rdx=ffffffff"}, {64, "0f44c1", "rax=ffffffffffffffff rcx=1"}, {64, "480fc8", "rax=0102030405060708"}, {64, "0fc8", "rax=ffffffff01020304"},
    {64, "660fc8", "rax=1122334455667788"}, {64, "678d8480ffffffff", "rax=ffffffff80000001"}, {64, "488d8480ffffff7f", "rax=7fffffffffffffff"}, {64, "668d0403", "rax=ffffffffffff8000"},
    {64, "480f38f003", "@400=0102030405060708"}, {64, "660f38f103", "rax=1234"}, {64, "9e", "rax=d500; rax=2a00 flags=8d5"}, {64, "9f", "flags=8d5; flags=0"},
    {64, "f0480fb10b", "rbx=20000ffc rax=0 rcx=1"}, {64, "48a10004002000000000", "@400=1122334455667788"}, {64, "67a200040020", "rax=5a"},
    {64, "0f0b", ""}, {64, "0fb9c0", ""}, {64, "f4", ""}, {64, "fa", ""}, {64, "e470", ""}, {64, "0f20c0", ""}, {64, "0f01f8", ""}, {64, "f00102", ""},
    /* x87: the stack too full and too empty, masked and not. */
    {64, "d9e8", "; tags=ff; tags=80 st7=3fff:8000000000000000; fcw=37e tags=ff; fcw=f7f; fcw=37f fsw=3800"},
    {64, "d8c1", "; st0=3fff:8000000000000000; fcw=37e; st0=3fff:8000000000000000 st1=3fff:8000000000000000"},
    {64, "dec1", "; st0=3fff:8000000000000000 st1=bfff:8000000000000000; fcw=37e st0=3fff:8000000000000000"},
    {64, "d91b", "; fcw=37e; st0=3fff:8000000000000000; st0=407f:8000000000000000; st0=3f80:ffffff0000000000; fcw=377 st0=407f:8000000000000000; fcw=36f st0=3f6a:8000000000000000; fcw=35f st0=3fff:8000000000000001"},
    {64, "d9c9", "; st0=3fff:8000000000000000; st0=3fff:8000000000000000 st1=4000:8000000000000000; fcw=37e"},
    {64, "d9c1", "st1=3fff:8000000000000000; ; tags=ff"}, {64, "ddd9", "st0=7fff:8000000000000000;"}, {64, "ddc2", "tags=ff"}, {64, "dfc1", "st0=3fff:8000000000000000 st1=3fff:8000000000000000;"},
    {64, "d9f7", "fsw=3800"}, {64, "d9f6", "fsw=0"}, {64, "d9e5", "; st0=8000:0; st0=7fff:8000000000000000; st0=ffff:c000000000000000; st0=0:1; st0=3fff:1; st0=0:8000000000000000; st0=bfff:8000000000000000"},
    /* Every exception alone, masked and unmasked: invalid, denormal, divide by zero, overflow, underflow, inexact. */
    {64, "d8f1", "st0=0:0 st1=0:0; fcw=37e st0=0:0 st1=0:0; st0=3fff:8000000000000000 st1=0:0; fcw=37b st0=3fff:8000000000000000 st1=0:0; st0=0:1 st1=3fff:8000000000000000; fcw=37d st0=0:1 st1=3fff:8000000000000000;"
                 "st0=7ffe:ffffffffffffffff st1=3ffe:8000000000000000; fcw=377 st0=7ffe:ffffffffffffffff st1=3ffe:8000000000000000; st0=1:8000000000000000 st1=4000:c000000000000000; fcw=36f st0=1:8000000000000000 st1=4000:c000000000000000;"
                 "st0=3fff:8000000000000000 st1=4000:c000000000000000; fcw=35f st0=3fff:8000000000000000 st1=4000:c000000000000000; fcw=b7f st0=3fff:8000000000000000 st1=4000:c000000000000000; fcw=7f st0=3fff:8000000000000000 st1=4000:c000000000000000"},
    {64, "d8c9", "st0=7fff:8000000000000000 st1=0:0; st0=7fff:a000000000000000 st1=7fff:c000000000000001; st0=ffff:c000000000000000 st1=7fff:c000000000000001; st0=3fff:1 st1=3fff:8000000000000000"},
    {64, "d8e1", "st0=7fff:8000000000000000 st1=7fff:8000000000000000; fcw=77f st0=3fff:8000000000000000 st1=3fff:8000000000000000; st0=3fff:8000000000000000 st1=3fbf:8000000000000001"},
    {64, "d9fa", "st0=bfff:8000000000000000; st0=8000:0; st0=4000:8000000000000000; fcw=37e st0=bfff:8000000000000000; st0=0:1"},
    /* A pending exception meets waiting and other instructions. */
    {64, "d9e8", "fcw=37b fsw=8084"}, {64, "9b", "fcw=37b fsw=8084; fsw=4"}, {64, "dbe2", "fcw=37b fsw=b8ff"}, {64, "dbe3", "fcw=37b fsw=b8ff"}, {64, "dfe0", "fcw=37b fsw=8084"}, {64, "d933", "fcw=37b fsw=8084"},
    {64, "dd33", "fcw=37b fsw=8084 st0=3fff:8000000000000000"}, {64, "d92b", "fsw=4 @400=0003; @400=ffff; @400=7f03"}, {64, "0f77", "fcw=37b fsw=8084; tags=ff fsw=3800"}, {64, "dbe0", "fcw=37b fsw=8084"},
    /* Integers: ties in every rounding mode, what does not fit. */
    {64, "df1b", "st0=3ffe:8000000000000000; st0=3fff:c000000000000000; st0=4000:a000000000000000; fcw=77f st0=bffe:8000000000000000; fcw=b7f st0=3ffe:8000000000000000; fcw=f7f st0=bfff:c000000000000000; st0=400e:8000000000000000; st0=c00e:8000000000000000; st0=400d:ffff000000000000; fcw=37e st0=400e:8000000000000000"},
    {64, "df3b", "st0=403e:8000000000000000; st0=c03e:8000000000000000; st0=403d:fffffffffffffffe; st0=7fff:c000000000000000"}, {64, "db0b", "st0=c01e:8000000000000000; st0=bfff:ffffffffffffffff; st0=c01e:8000000100000000"},
    {64, "df33", "st0=403a:de0b6b3a763ffff0; st0=403a:de0b6b3a76400000; st0=bfff:8000000000000000; st0=3ffe:8000000000000000; st0=8000:0"}, {64, "df23", "@400=99999999999999999980; @400=00000000000000000080; @400=ffffffffffffffffffff"},
    {64, "d9fc", "st0=3ffe:8000000000000000; fcw=77f st0=bffe:8000000000000000; fcw=b7f st0=bffe:8000000000000000; st0=403e:8000000000000001; st0=7fff:a000000000000000"},
    /* Remainders, scaling, taking apart. */
    {64, "d9f8", "st0=4000:a000000000000000 st1=3fff:8000000000000000; st0=43ff:8000000000000000 st1=3fff:c000000000000000; st0=7fff:8000000000000000 st1=3fff:8000000000000000 fsw=4700; st0=3fff:8000000000000000 st1=0:0; st0=3fff:8000000000000000 st1=7fff:8000000000000000; st0=0:1 st1=0:3"},
    {64, "d9f5", "st0=4000:e000000000000000 st1=4000:8000000000000000; st0=4000:c000000000000000 st1=4000:8000000000000000; st0=c001:b000000000000000 st1=4000:8000000000000000"},
    {64, "d9fd", "st0=3fff:8000000000000000 st1=400d:ffff000000000000; st0=3fff:8000000000000000 st1=c00d:ffff000000000000; st0=0:0 st1=7fff:8000000000000000; st0=3fff:8000000000000000 st1=bfff:ffff000000000000"},
    {64, "d9f4", "st0=0:0; st0=7fff:8000000000000000; st0=4001:9000000000000000; st0=0:1; tags=7f st0=4001:9000000000000000"},
    /* Transcendentals at their ends. */
    {64, "d9fe", "st0=403e:8000000000000000; st0=403d:ffffffffffffffff; st0=4000:c90fdaa22168c235; st0=7fff:8000000000000000; st0=8000:0; st0=0:1"}, {64, "d9ff", "st0=403e:8000000000000000; st0=3fff:c90fdaa22168c235"},
    {64, "d9fb", "st0=3fff:8000000000000000; st0=403e:8000000000000000; tags=ff"}, {64, "d9f2", "st0=3ffe:c90fdaa22168c235; st0=403e:8000000000000000; tags=ff"},
    {64, "d9f3", "st0=0:0 st1=8000:0; st0=7fff:8000000000000000 st1=7fff:8000000000000000; st0=bfff:8000000000000000 st1=0:0"}, {64, "d9f0", "st0=3fff:8000000000000000; st0=bfff:8000000000000000; st0=0:1"},
    {64, "d9f1", "st0=0:0 st1=3fff:8000000000000000; st0=bfff:8000000000000000 st1=3fff:8000000000000000; st0=3fff:8000000000000000 st1=7fff:8000000000000000; fcw=37b st0=0:0 st1=3fff:8000000000000000"}, {64, "d9f9", "st0=3ffd:8000000000000000 st1=4000:8000000000000000; st0=8000:0 st1=3fff:8000000000000000"},
    /* Comparisons. */
    {64, "d8d1", "st0=8000:0 st1=0:0; st0=7fff:c000000000000000 st1=0:0; st0=3fff:8000000000000000 st1=4000:8000000000000000;"}, {64, "dde1", "st0=7fff:c000000000000000 st1=0:0; st0=7fff:a000000000000000 st1=0:0"},
    {64, "dbf1", "st0=7fff:c000000000000000 st1=0:0 flags=8d5; st0=3fff:8000000000000000 st1=0:0 flags=8d5; ; fcw=37e flags=8d5"}, {64, "dfe9", "st0=7fff:c000000000000000 st1=0:0; st0=0:0 st1=8000:0"},
    {64, "dac1", "st0=0:0 st1=3fff:8000000000000000 flags=1; st0=0:0 st1=3fff:8000000000000000; flags=1"}, {64, "d9e4", "st0=ffff:8000000000000000; st0=8000:0; st0=7fff:c000000000000000"},
    {64, "d903", "@400=0000a07f; @400=01000000; fcw=37e @400=0000a07f; fcw=37d @400=01000000; tags=ff @400=0000803f"}, {64, "dd03", "@400=000000000000f47f; @400=0100000000000000"}, {64, "db2b", "@400=000000000000a0ff7f00; @400=0000000000000000ff7f"},
    /* MMX and the x87 unit. */
    {64, "0ffcc1", "fsw=3800 tags=0 mm0=0:7f80ff0102030405 mm1=0:0101010101010101"}, {64, "0f6f03", "fsw=2800 @400=1122334455667788"}, {64, "0f7f03", "mm0=0:1122334455667788 fsw=2800"}, {64, "0f6303", "mm0=0:7fff800000ff0001 @400=0080ff7f80ff7f00"},
    {64, "0fd1c1", "mm0=0:8000800080008000 mm1=0:f; mm0=0:8000800080008000 mm1=0:10; mm0=0:8000800080008000 mm1=0:100000000"}, {64, "0f71e0ff", "mm0=0:8000700000010000"}, {64, "f20fd6c1", "fsw=3800 xmm1=1:2"}, {64, "f30fd6c1", "fsw=3800 mm1=0:5"}, {64, "0ff7c1", "rdi=20000801 mm0=0:1122334455667788 mm1=0:80008000800000ff; rdi=20001ffc mm1=0:80"},
    {64, "0f2dc1", "xmm1=0:7fc0000041200000; mxcsr=1f00 xmm1=0:7fc0000041200000"}, {64, "0f2ac1", "mm1=0:7fffffff80000001"}, {64, "0f3800c1", "mm0=0:0102030405060708 mm1=0:8007060504030a09"},
    /* SSE: signs and NaNs of minimum and maximum, square roots, conversions that do not fit, ties, flushing. */
    {64, "f30f5dc1", "xmm0=0:80000000 xmm1=0:0; xmm0=0:0 xmm1=0:80000000; xmm0=0:7fc00000 xmm1=0:3f800000; xmm0=0:3f800000 xmm1=0:7fc00000; xmm0=0:3f800000 xmm1=0:7fa00000"}, {64, "f20f5fc1", "xmm0=0:8000000000000000 xmm1=0:0; xmm0=0:7ff8000000000000 xmm1=0:3ff0000000000000"},
    {64, "f30f51c1", "xmm1=0:bf800000; xmm1=0:80000000; mxcsr=1f00 xmm1=0:bf800000"}, {64, "f3480f2dc1", "xmm1=0:5f000000; xmm1=0:df000000; xmm1=0:3f000000; xmm1=0:3fc00000; mxcsr=3f80 xmm1=0:bf000000; mxcsr=5f80 xmm1=0:3f000000; mxcsr=7f80 xmm1=0:bfc00000"},
    {64, "f20f2dc1", "xmm1=0:41dfffffffc00000; xmm1=0:41e0000000000000; xmm1=0:c1e0000000200000"}, {64, "f30f2cc1", "xmm1=0:4f000000; xmm1=0:7fc00000"}, {64, "0f5bc1", "xmm1=7fffffff80000000:0100000100ffffff"},
    {64, "f30f58c1", "xmm0=0:00800000 xmm1=0:80000001; mxcsr=9f80 xmm0=0:00800000 xmm1=0:80000001; mxcsr=1fc0 xmm0=0:1 xmm1=0:1; mxcsr=1f80 xmm0=0:1 xmm1=0:1; mxcsr=1e80 xmm0=0:1 xmm1=0:3f800000; mxcsr=1780 xmm0=0:1 xmm1=0:1; mxcsr=f80 xmm0=0:3f800000 xmm1=0:33000000"},
    {64, "0f58c1", "mxcsr=1f00 xmm0=3f8000007fa00000:7f7fffff3f800000 xmm1=3f8000003f800000:7f7fffff3f800001; mxcsr=1b80 xmm0=0:7f7fffff00000000 xmm1=0:7f7fffff00000001"}, {64, "0f5ec1", "xmm0=3f800000:0 xmm1=0:0; mxcsr=1d80 xmm0=3f800000:0 xmm1=0:0"},
    {64, "0f2ec1", "xmm0=0:7fc00000 flags=8d5; xmm0=0:3f800000 xmm1=0:40000000; xmm0=0:80000000 xmm1=0:0; xmm0=0:7fa00000"}, {64, "660f2fc1", "xmm0=0:7ff8000000000000; mxcsr=1f00 xmm0=0:7ff8000000000000 flags=8d5"},
    {64, "f20f5ac1", "xmm1=0:47efffffefffffff; xmm1=0:47efffffe0000000; xmm1=0:36a0000000000000; xmm1=0:369fffffffffffff; xmm1=0:7ff4000000000000; xmm1=0:380fffffffffffff"}, {64, "f30f5ac1", "xmm1=0:1; xmm1=0:7fa00000"},
    {64, "0f2803", "rbx=20000401; rbx=20000ff0; rbx=20002ff0; rbx=20003000"}, {64, "0f1003", "rbx=20000fff; rbx=20002ff1"}, {64, "0f2903", "rbx=20002000; rbx=20000408"}, {64, "0f1103", "rbx=20001ff8 xmm0=1:2"}, {64, "660f5803", "rbx=20000408"}, {64, "f20ff003", "rbx=20000401"},
    {64, "660f3a0bc10c", "xmm1=0:3fe0000000000000"}, {64, "660f3a0ac100", "xmm1=0:3fc00000; xmm1=0:40200000; xmm1=0:bf000000"}, {64, "660f3a63c10c", "xmm0=6867666564636261:0 xmm1=0:6261636261616200; xmm0=0:636261 xmm1=6464646464646464:6162636162636162"}, {64, "660f3a61c118", "rax=3 rdx=10 xmm0=0:636261 xmm1=6464646464646464:6162636162636162; rax=80000000 rdx=fffffffd xmm0=0:636261 xmm1=0:616263"},
    {64, "0fae13", "@400=801f0000; @400=00000100; @400=ffff0000"}, {64, "0fae1b", "mxcsr=ffc0"}, {64, "660ff7c1", "rdi=20000803 xmm0=1122334455667788:99aabbccddeeff00 xmm1=8000800080008000:0080008000800080; rdi=20002000 xmm1=0:0"},
    {64, "f2480f38f1c1", "rax=ffffffff12345678 rcx=123456789abcdef0"}, {64, "660f3817c1", "xmm0=ffffffffffffffff:0 xmm1=0:1; xmm0=0:1 xmm1=0:1"}, {64, "660f73d808", "xmm0=1:2"}, {64, "660f73f8ff", "xmm0=1:2"}, {64, "660f3a0fc118", "xmm0=1:2 xmm1=3:4"},
    /* The legacy forms keep the upper halves. */
    /* XRSTOR with a reserved bit of MXCSR: nothing is loaded, in the compacted format all but MXCSR and what follows SSE. */
    {64, "480fae2b", "rax=7 xmm1=1:2 ymm1=3:4 st0=3fff:8000000000000000 @400=7f03 @41a=01 @4b0=55 @600=0700000000000000 @640=66; rax=7 xmm1=1:2 ymm1=3:4 st0=3fff:8000000000000000 @400=7f03 @41a=01 @4b0=55 @600=0700000000000000 @608=0700000000000080 @640=66; rax=7 xmm1=1:2 ymm1=3:4 st0=3fff:8000000000000000 @400=7f03 @41a=01 @4b0=55 @600=0200000000000000 @608=0700000000000080 @640=66"},
    /* Overflow and underflow that are not masked: inexact only if it is so with any exponent. Dot products stop after a step. */
    {64, "f20f59c1", "mxcsr=1b80 xmm0=0:7fe0000000000000 xmm1=0:4000000000000000; mxcsr=1b80 xmm0=0:7fe0000000000001 xmm1=0:4008000000000001; mxcsr=1780 xmm0=0:0010000000000000 xmm1=0:3fe0000000000000; mxcsr=1780 xmm0=0:0010000000000001 xmm1=0:3fe8000000000001; mxcsr=9780 xmm0=0:0010000000000001 xmm1=0:3fe0000000000000"},
    {64, "f30f5ec1", "mxcsr=1b80 xmm0=0:7f000000 xmm1=0:3e800000; mxcsr=1b80 xmm0=0:7f000000 xmm1=0:3eaaaaab; mxcsr=1780 xmm0=0:00000003 xmm1=0:40000000; mxcsr=1780 xmm0=0:00000003 xmm1=0:40400001"},
    {64, "0f58c1", "mxcsr=1b80 xmm0=7f00000000800000:7f7fffff3f800000 xmm1=7f00000000800000:33800000; mxcsr=5b80 xmm0=0:7f7fffff xmm1=0:00000001"}, {64, "f20f5ac1", "mxcsr=1b80 xmm1=0:4ff0000000000000; mxcsr=1b80 xmm1=0:4ff0000000000001; mxcsr=1780 xmm1=0:36a8000000000000; mxcsr=1780 xmm1=0:3690000000000001"},
    {64, "c5fd5ac1", "mxcsr=1b80 ymm1=0:4ff0000000000000; mxcsr=1b80 ymm1=0:4ff0000000000001; mxcsr=1780 ymm1=0:36a8000000000000; mxcsr=1780 ymm1=36a0000000000000:0"},
    {64, "660f3a41149c63", "rbx=3f rsp=20000684 mxcsr=1c91 xmm2=3f8000013f800001:3e3124218871f5d5 @788=6f"}, {64, "660f3a40e9f8", "mxcsr=42c xmm1=6fd01a8cac0b6438:c2af9abacd97f81e xmm5=4b0000015f000000:100ae09f3eb"}, {64, "660f3a40c1ff", "mxcsr=1780 xmm0=800000008000000:800000008000000 xmm1=300000003000000:300000003000000; mxcsr=1b80 xmm0=7f0000007f000000:7f000000 xmm1=3f8000003f800000:3f800000"},
    {64, "c443791d667b7c", "mxcsr=470a xmm12=4004000000000000:c1e0000000200000"}, {64, "c4e2f1a8c2", "mxcsr=1b80 xmm0=0:7fe0000000000000 xmm1=0:4000000000000000; mxcsr=1780 xmm0=0:0010000000000000 xmm1=0:3fd8000000000000 xmm2=0:1"},
    /* Half precision: an exact tiny result in the upper lane; exceptions, flags and a store that faults. NaNs of FMA by order. */
    {64, "c4e37d1dc800", "ymm1=0:34000000 mxcsr=1780; ymm1=0:34000000; xmm1=0:477fefff477ff000; xmm1=0:7fa00000 ymm1=0:7fa00000"}, {64, "c4e37d1d0b04", "rbx=20002000 xmm1=0:7f800001; rbx=20002000 xmm1=0:7f800001 mxcsr=1f00; rbx=20001ff8; rbx=20002ff9"},
    {64, "c4e27d13c1", "xmm1=0:00017c017e01fc00; mxcsr=1f00 xmm1=7c01:0; mxcsr=9fc0 xmm1=0001:03ff"},
    {64, "c4e27198c2", "xmm0=0:7fc000017f800001 xmm1=0:7fc000027fc00002 xmm2=0:7fc000037fc00003"}, {64, "c4e271a8c2", "xmm0=0:7fc000017f800001 xmm1=0:7fc000027fc00002 xmm2=0:7fc000037fc00003; xmm0=0:7f800000 xmm2=0:7fc00003; xmm0=0:7f800000 xmm2=0:00000001 mxcsr=1e00"}, {64, "c4e271b8c2", "xmm0=0:7fc000017f800001 xmm1=0:7fc000027fc00002 xmm2=0:7fc000037fc00003"},
    {64, "660fefc0", "xmm0=1:2 ymm0=3:4 ymm15=5:6"}, {32, "0f28c1", "xmm1=1:2 ymm0=3:4 ymm1=5:6"},
    /* Outside 64-bit code the upper eight registers are neither stored nor cleared. */
    {32, "0fae23", "rax=7 ymm0=1:2 ymm7=3:4 ymm8=5:6 @6c0=1122334455667788"}, {32, "0fc723", "rax=7 xmm1=1:2 ymm0=1:2 ymm15=5:6 @6c0=1122334455667788"},
    /* XRSTOR looks at the legacy region only if anything of it is asked for; UD, PF and GP of what is no instruction. */
    {64, "65420fae2caa", "r13=fffffffffffffffe"}, {64, "430fae68d5", "rax=1 r8=1fffffeb"}, {64, "0fae2b", "rax=4 rbx=1fffffc0; rax=4 rbx=1fffffc0 @1c0=00000000000000000700000000000080; rax=5 rbx=1fffffc0 @1c0=00000000000000000700000000000080"},
    {64, "0f3fd5f34e7a", "rip=1ffc; rip=1ffb; rip=1ffa"}, {32, "0f3b6092e8dacb", "rip=1ffc"}, {64, "26ea000000000000", "rip=1ffa; rip=1ff8"}, {64, "06", "rip=1fff"}, {64, "0f04", "rip=1ffe; rip=1fff"}, {32, "c7af000000000000", "rip=1ff8; rip=1ffa"},
    {64, "0fae03", "rbx=20000400; rbx=20000408; rbx=20001f00"}, {64, "480fae03", "tags=ff fsw=3800 xmm15=1:2"}, {32, "0fae03", "tags=81"},
    {64, "d933", "tags=c1 fsw=3000 st0=0:0 st1=7fff:8000000000000000"}, {64, "66d933", "tags=ff"}, {32, "d933", "tags=ff"}, {16, "d933", "tags=ff"}, {16, "66dd33", "tags=ff"},
};
/* clang-format on */
const size_t written_case_count = ARRAY_SIZE(written_cases);
