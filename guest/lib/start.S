/* From multiboot's 32-bit entry (or rom.S) to test(), in 32-bit protected or in 64-bit mode, with paging only in the latter. */
#include "guest.h"

        .set    MAGIC, 0x1badb002
        .set    FLAGS, 1 << 16          /* the addresses are given: ELF64 is no obstacle */
        .section .multiboot, "a"
        .align  4
header: .long   MAGIC, FLAGS, -(MAGIC + FLAGS)
        .long   header, image_start, image_end, bss_end, start

        .text
        .code32
        .global start
start:
        cli
        cld
        mov     $boot_stack_top, %esp
#ifdef __x86_64__
        /* 4 GiB identity-mapped by 2 MiB pages, open to user mode. */
        mov     $boot_pml4, %edi
        movl    $boot_pdpt + 7, (%edi)
        mov     $boot_pdpt, %edi
        mov     $boot_pd + 7, %eax
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $0x1000, %eax
        add     $8, %edi
        loop    1b
        mov     $boot_pd, %edi
        mov     $0x87, %eax
        mov     $4 * 512, %ecx
1:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        mov     $0x20, %eax             /* PAE */
        mov     %eax, %cr4
        mov     $boot_pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx
        xor     %edx, %edx
        mov     $0x100, %eax            /* LME */
        wrmsr
        mov     $0x80000031, %eax       /* PG, NE, ET, PE */
        mov     %eax, %cr0
        lgdt    boot_gdtr
        ljmp    $8, $1f
        .code64
1:
#else
        mov     $0x31, %eax             /* NE, ET, PE */
        mov     %eax, %cr0
        lgdt    boot_gdtr
        ljmp    $8, $1f
1:
#endif
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        fninit
        call    runtime_main

        .section .rodata
        .align  8
boot_gdt:
        .quad   0
#ifdef __x86_64__
        .quad   0x00af9b000000ffff
#else
        .quad   0x00cf9b000000ffff
#endif
        .quad   0x00cf93000000ffff
boot_gdtr:
        .word   . - boot_gdt - 1
        .long   boot_gdt, 0

        .bss
        .align  4096
#ifdef __x86_64__
        .global boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip  4 * 4096
#endif
        .skip   32768
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
