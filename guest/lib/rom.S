/*
 * A kernel as a ROM: what a machine without a loader starts. The reset vector is in the last 16 bytes below 4 GiB; from
 * there to protected mode, the image is copied to where it was linked for, and entered as by a multiboot loader.
 * KERNEL is the file of the image, as memory from LOAD on; it begins with the multiboot header.
 */
        .set    LOAD, 0x100000
        .set    BSS_END, LOAD + 24      /* in the header */
        .set    ENTRY, LOAD + 28
        .set    ROM_SIZE, 128 << 10
        .text
        .code16
image:  .incbin KERNEL
image_end:
        .set    IMAGE_SIZE, image_end - image

        .org    ROM_SIZE - 0x100
code:   cli
        cld
        in      $0x92, %al              /* A20 on, no reset */
        or      $2, %al
        and     $0xfe, %al
        out     %al, $0x92
        lgdtl   %cs:gdtr - code + 0xff00
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $8, $protected - code + 0xffffff00
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word   gdtr - gdt - 1
        .long   gdt - code + 0xffffff00

        .code32
protected:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $-ROM_SIZE, %esi
        mov     $LOAD, %edi
        mov     $IMAGE_SIZE, %ecx
        rep movsb
        mov     BSS_END, %ecx
        sub     %edi, %ecx
        xor     %eax, %eax
        rep stosb
        mov     $0x2badb002, %eax
        xor     %ebx, %ebx
        jmp     *ENTRY

        .code16
        .org    ROM_SIZE - 0x10
        jmp     code
        .org    ROM_SIZE

        .section .note.GNU-stack, "", @progbits
