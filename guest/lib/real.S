/*
 * Real mode and back. What is between real_blob and real_blob_end is copied to REAL_BLOB; there its segment is REAL_BLOB >> 4.
 */
#include "guest.h"
#include "real.h"

#define AT(label) (label - real_blob)   /* offset in the segment */
#define SEGMENT (REAL_BLOB >> 4)

        .section .rodata
        .code16
        .global real_blob, real_blob_end, real_in, real_out, real_vector, real_ivt, real_data_selector
real_blob:
        /* The vectors: each calls, and so says which it is. */
        .rept   256
        call    real_common
        .endr

        /* Return address (3 * (vector + 1)), IP, CS, FLAGS. Any DS. */
real_common:
        push    %ds
        push    %cs
        pop     %ds
        mov     %eax, AT(real_out) + CTX_AX
        pop     %ax
        mov     %ax, AT(real_out) + CTX_DS
        pop     %ax
        mov     %ax, AT(real_vector)
        pop     %ax
        mov     %ax, AT(real_out) + CTX_IP
        pop     %ax
        mov     %ax, AT(real_out) + CTX_CS
        pop     %ax
        mov     %ax, AT(real_out) + CTX_FLAGS
        mov     %esp, AT(real_out) + CTX_SP
        mov     %ecx, AT(real_out) + CTX_CX
        mov     %edx, AT(real_out) + CTX_DX
        mov     %ebx, AT(real_out) + CTX_BX
        mov     %ebp, AT(real_out) + CTX_BP
        mov     %esi, AT(real_out) + CTX_SI
        mov     %edi, AT(real_out) + CTX_DI
        mov     %es, AT(real_out) + CTX_ES
        mov     %fs, AT(real_out) + CTX_FS
        mov     %gs, AT(real_out) + CTX_GS
        mov     %ss, AT(real_out) + CTX_SS
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $SEL_KCODE, $real_back

        /* From a 16-bit segment with base 0. */
real_enter:
        mov     $SEL_KDATA16, %ax
        mov     %ax, %ss
        mov     REAL_BLOB + AT(real_data_selector), %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %fs
        mov     %ax, %gs
        lidtl   REAL_BLOB + AT(real_ivt)
        mov     %cr0, %eax
        and     $0xfe, %al
        mov     %eax, %cr0
        ljmp    $SEGMENT, $AT(1f)
1:      mov     %cs, %ax
        mov     %ax, %ds
        mov     AT(real_in) + CTX_SS, %ss
        mov     AT(real_in) + CTX_SP, %esp
        pushw   AT(real_in) + CTX_FLAGS
        pushw   AT(real_in) + CTX_CS
        pushw   AT(real_in) + CTX_IP
        mov     AT(real_in) + CTX_ES, %es
        mov     AT(real_in) + CTX_FS, %fs
        mov     AT(real_in) + CTX_GS, %gs
        pushw   AT(real_in) + CTX_DS
        mov     AT(real_in) + CTX_AX, %eax
        mov     AT(real_in) + CTX_CX, %ecx
        mov     AT(real_in) + CTX_DX, %edx
        mov     AT(real_in) + CTX_BX, %ebx
        mov     AT(real_in) + CTX_BP, %ebp
        mov     AT(real_in) + CTX_SI, %esi
        mov     AT(real_in) + CTX_DI, %edi
        pop     %ds
        iretw

        .balign 4
real_in: .skip  16 * 4
real_out: .skip 16 * 4
real_ivt: .word 0
        .long   0
real_vector: .word 0
real_data_selector: .word 0
real_blob_end:

        .text
        .code32
        .global run_real_context
run_real_context:
        pusha
        mov     %esp, real_stack
        ljmp    $SEL_KCODE16, $REAL_BLOB + AT(real_enter)
real_back:
        mov     $SEL_KDATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     real_stack, %esp
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        cld
        popa
        ret

        .bss
        .balign 4
real_stack: .skip 4

        .section .note.GNU-stack, "", @progbits
