/*
 * The few BIOS services that the 16-bit set-up code of a kernel calls. Loaded at a paragraph boundary P of the F segment and
 * entered at segment P, so that offsets from realmode_start are all there is. bios.c appends the data at realmode_data:
 *
 *     +0   number of memory map entries, u16
 *     +2   INT 15h E801h: KiB between 1 and 16 MiB, u16; 64 KiB blocks above 16 MiB, u16
 *     +6   INT 15h 88h: KiB above 1 MiB, u16
 *     +8   INT 11h: equipment word, u16
 *     +10  INT 12h: KiB below 640 KiB, u16
 *     +12  memory map entries of 20 bytes
 */
    .section .rodata
    .code16
    .globl realmode_start, realmode_none, realmode_int11, realmode_int12, realmode_int15, realmode_data, realmode_halt

#define DATA(n) %cs:(realmode_data - realmode_start + (n))

    .balign 16
realmode_start:

/* Reset and jumps to nowhere: stand still. */
realmode_halt:
    cli
    hlt
    jmp realmode_halt

/* Every service and interrupt that is not there. */
realmode_none:
    iret

realmode_int11:
    movw DATA(8), %ax
    iret

realmode_int12:
    movw DATA(10), %ax
    iret

realmode_int15:
    cmpw $0xe820, %ax
    je e820
    cmpw $0xe801, %ax
    je e801
    cmpb $0x88, %ah
    je ext_memory
    movb $0x86, %ah /* no such function */
return_carry:
    pushw %bp
    movw %sp, %bp
    orw $1, 6(%bp) /* CF of the caller's flags: BP, IP, CS, FLAGS */
    popw %bp
    iret

return_no_carry:
    pushw %bp
    movw %sp, %bp
    andw $~1, 6(%bp)
    popw %bp
    iret

ext_memory:
    movw DATA(6), %ax
    jmp return_no_carry

e801:
    movw DATA(2), %ax
    movw DATA(4), %bx
    movw %ax, %cx
    movw %bx, %dx
    jmp return_no_carry

/* In: EBX the entry's number (0 first), ECX bytes wanted, EDX 'SMAP', ES:DI buffer. Out: EAX 'SMAP', ECX 20, EBX the next
   number or 0. */
e820:
    cmpl $0x534d4150, %edx
    jne return_carry
    cmpl $20, %ecx
    jb return_carry
    movzwl DATA(0), %eax
    cmpl %eax, %ebx
    jae return_carry
    pushw %si
    pushw %di
    pushw %ds
    pushw %cs
    popw %ds
    imulw $20, %bx, %si
    addw $(realmode_data - realmode_start + 12), %si
    cld
    movw $10, %cx
    rep movsw
    popw %ds
    popw %di
    popw %si
    movl $20, %ecx
    incw %bx
    cmpw %ax, %bx
    jb 1f
    xorl %ebx, %ebx
1:  movl %edx, %eax
    jmp return_no_carry

    .balign 2
realmode_data:
    .section .note.GNU-stack, "", @progbits
