/* run(): into a context, and back with whatever interrupts it. */
#include "guest.h"

        .section .rodata
        .global trap_entries
trap_entries:
        .set    vector, 0
        .rept   256
#ifdef __x86_64__
        .quad   stubs + 16 * vector
#else
        .long   stubs + 16 * vector
#endif
        .set    vector, vector + 1
        .endr

        .text
        .balign 16
stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        /* Those that have an error code: 8, 10 to 14, 17, 21, 29, 30. */
        .if     vector > 31
        push    $0
        .elseif !((1 << vector) & 0x60227d00)
        push    $0
        .endif
        push    $vector
        jmp     common
        .set    vector, vector + 1
        .endr

#ifdef __x86_64__
        .global run_context
run_context:                            /* rdi: struct context */
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, run_stack(%rip)
        pushq   CTX_SS(%rdi)
        pushq   CTX_SP(%rdi)
        pushq   CTX_FLAGS(%rdi)
        pushq   CTX_CS(%rdi)
        pushq   CTX_IP(%rdi)
        mov     CTX_DS(%rdi), %ds
        mov     CTX_ES(%rdi), %es
        /* A load of FS or GS changes its base: only if asked for. */
        cmpq    $0, CTX_FS(%rdi)
        je      1f
        mov     CTX_FS(%rdi), %fs
1:      cmpq    $0, CTX_GS(%rdi)
        je      1f
        mov     CTX_GS(%rdi), %gs
1:      mov     CTX_AX(%rdi), %rax
        mov     CTX_CX(%rdi), %rcx
        mov     CTX_DX(%rdi), %rdx
        mov     CTX_BX(%rdi), %rbx
        mov     CTX_BP(%rdi), %rbp
        mov     CTX_SI(%rdi), %rsi
        .set    i, 0
        .irp    r, %r8, %r9, %r10, %r11, %r12, %r13, %r14, %r15
        mov     CTX_R8 + 8 * i(%rdi), \r
        .set    i, i + 1
        .endr
        mov     CTX_DI(%rdi), %rdi
        iretq

common: /* vector, error code, RIP, CS, RFLAGS, RSP, SS */
        push    %r15
        push    %r14
        push    %r13
        push    %r12
        push    %r11
        push    %r10
        push    %r9
        push    %r8
        mov     %gs, %r8d
        mov     %fs, %r9d
        mov     %es, %r10d
        mov     %ds, %r11d
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        sub     $4 * 8, %rsp            /* IP, FLAGS, CS, SS: trap_enter() fills them */
        push    %rdi
        push    %rsi
        push    %rbp
        push    $0                      /* SP */
        push    %rbx
        push    %rdx
        push    %rcx
        push    %rax
        mov     $SEL_KDATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        cld
        mov     %rsp, %rdi
        lea     24 * 8(%rsp), %rsi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    trap_enter
        mov     $SEL_KDATA, %eax
        mov     %eax, %ss
        mov     run_stack(%rip), %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
#else
        .global run_context
run_context:                            /* 4(%esp): struct context */
        push    %ebp
        push    %ebx
        push    %esi
        push    %edi
        mov     %esp, run_stack
        mov     20(%esp), %eax
        testl   $1 << 17, CTX_FLAGS(%eax)
        jnz     virtual
        testl   $3, CTX_CS(%eax)
        jnz     outer
        mov     CTX_SP(%eax), %esp      /* IRET within ring 0 does not load the stack */
        jmp     1f
virtual:
        pushl   CTX_GS(%eax)
        pushl   CTX_FS(%eax)
        pushl   CTX_DS(%eax)
        pushl   CTX_ES(%eax)
outer:  pushl   CTX_SS(%eax)
        pushl   CTX_SP(%eax)
1:      pushl   CTX_FLAGS(%eax)
        pushl   CTX_CS(%eax)
        pushl   CTX_IP(%eax)
        mov     CTX_CX(%eax), %ecx
        mov     CTX_DX(%eax), %edx
        mov     CTX_BX(%eax), %ebx
        mov     CTX_BP(%eax), %ebp
        mov     CTX_SI(%eax), %esi
        mov     CTX_DI(%eax), %edi
        testl   $1 << 17, CTX_FLAGS(%eax)
        jnz     1f
        mov     CTX_ES(%eax), %es
        mov     CTX_FS(%eax), %fs
        mov     CTX_GS(%eax), %gs
        pushl   CTX_DS(%eax)
        mov     CTX_AX(%eax), %eax
        pop     %ds
        iret
1:      mov     CTX_AX(%eax), %eax
        iret

common: /* vector, error code, EIP, CS, EFLAGS, and for an outer ring ESP, SS; from virtual-8086 mode also ES, DS, FS, GS */
        cld
        push    %gs
        push    %fs
        push    %es
        push    %ds
        sub     $4 * 4, %esp            /* IP, FLAGS, CS, SS: trap_enter() fills them */
        push    %edi
        push    %esi
        push    %ebp
        push    $0                      /* SP */
        push    %ebx
        push    %edx
        push    %ecx
        push    %eax
        mov     $SEL_KDATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %esp, %eax
        lea     16 * 4(%esp), %edx
        push    %edx
        push    %eax
        call    trap_enter
        .global run_leave
run_leave:                              /* back to run()'s caller */
        mov     $SEL_KDATA, %eax
        mov     %eax, %ss
        mov     run_stack, %esp
        pop     %edi
        pop     %esi
        pop     %ebx
        pop     %ebp
        ret
#endif

        .bss
        .align  8
        .global run_stack
run_stack: .skip 8

        .section .note.GNU-stack, "", @progbits
