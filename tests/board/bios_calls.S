/*
 * Set-up code of a 16-bit kernel: calls what the firmware has of BIOS services, writes down the answers from 2000h on (see
 * test_boot.c), and powers off. Runs at any offset of the segment it is entered in.
 */
    .section .rodata
    .code16
    .globl bios_calls, bios_calls_end
    .set ENTRIES, 0x2000    /* u16: number of memory map entries */
    .set E801, 0x2002       /* four u16: AX, BX, CX, DX */
    .set EXTENDED, 0x200a   /* u16: INT 15h 88h */
    .set BASE, 0x200c       /* u16: INT 12h */
    .set EQUIPMENT, 0x200e  /* u16: INT 11h */
    .set UNKNOWN, 0x2010    /* u8: AH of a function that is not there */
    .set RESULT, 0x2011     /* u8: 1: all as it should be */
    .set MAP, 0x2100

bios_calls:
    xorw %ax, %ax
    movw %ax, %es
    movw $MAP, %di
    xorl %ebx, %ebx
1:  movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $24, %ecx
    stc
    int $0x15
    jc fail
    cmpl $0x534d4150, %eax
    jne fail
    cmpl $20, %ecx
    jne fail
    incw %es:ENTRIES
    addw $20, %di
    testl %ebx, %ebx
    jnz 1b

    movl $0xe820, %eax /* an entry that is not there */
    movl $100, %ebx
    int $0x15
    jnc fail
    movl $0xe820, %eax /* too little room */
    xorl %ebx, %ebx
    movl $19, %ecx
    movl $0x534d4150, %edx
    int $0x15
    jnc fail
    movl $0xe820, %eax /* not that call */
    movl $20, %ecx
    movl $0x504d4153, %edx
    int $0x15
    jnc fail

    stc
    movw $0xe801, %ax
    int $0x15
    jc fail
    movw %ax, %es:E801
    movw %bx, %es:E801+2
    movw %cx, %es:E801+4
    movw %dx, %es:E801+6
    stc
    movb $0x88, %ah
    int $0x15
    jc fail
    movw %ax, %es:EXTENDED
    int $0x12
    movw %ax, %es:BASE
    int $0x11
    movw %ax, %es:EQUIPMENT
    clc
    movw $0xc000, %ax
    int $0x15
    jnc fail
    movb %ah, %es:UNKNOWN
    int $0x10 /* nothing, and it comes back */
    int $0x16
    movb $1, %es:RESULT
fail:
    movw $0x604, %dx
    movw $0x2000, %ax
    outw %ax, %dx
2:  hlt
    jmp 2b
bios_calls_end:
    .section .note.GNU-stack, "", @progbits
