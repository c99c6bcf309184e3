/*
 * The slow paths that handlers call by KEEP_CALL (mem.h), which passes c in RSI, i in RDX and the other arguments in RAX,
 * RCX and R8: every general register but RAX survives. A fault leaves by longjmp
 * and needs nothing restored.
 */
.macro keep name
    .globl \name\()_keep
    .hidden \name\()_keep
    .type \name\()_keep, @function
\name\()_keep:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    and $-16, %rsp
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rax, %rdx
    call \name
    lea -64(%rbp), %rsp
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size \name\()_keep, . - \name\()_keep
.endm

    .text
    keep interp_ea_slow
    keep interp_aligned_ea_slow
    keep interp_load_slow
    keep interp_store_slow
    keep interp_load_bytes
    keep interp_store_bytes
    keep interp_rmw_slow
    keep interp_rmw_finish
    keep interp_rmw_alone
    keep interp_push_slow
    keep interp_pop_slow

    .section .note.GNU-stack, "", @progbits
