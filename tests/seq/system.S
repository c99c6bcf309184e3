/*
 * The guest's system: an entry for each vector, 16 bytes each, and what they all run. Faults are noted in the log, and the
 * sequence goes on behind the instruction, or where it was when the fault's cause could be taken away. Copied to
 * SYSTEM_STUBS, so it must not depend on where it is linked.
 */
#include "layout.h"

    .section .rodata
    .globl seq_system, seq_system_size, seq_syscall_offset
    .balign 16
seq_system:
    .set vector, 0
    .rept 256
    .balign 16, 0xcc
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp common
    .set vector, vector + 1
    .endr
    .balign 16, 0xcc

#define FRAME_VECTOR 24
#define FRAME_ERROR  32
#define FRAME_RIP    40
#define FRAME_CS     48
#define FRAME_FLAGS  56
#define FRAME_RSP    64
#define FRAME_SS     72

common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    movabsq $SYSTEM_BASE + SYSTEM_LOG, %rax
    movq (%rax), %rcx
    incq (%rax)
    andl $LOG_ENTRIES - 1, %ecx
    shll $5, %ecx
    leaq 32(%rax, %rcx), %rcx
    movq FRAME_VECTOR(%rsp), %rdx
    movq %rdx, (%rcx)
    movq FRAME_ERROR(%rsp), %rdx
    movq %rdx, 8(%rcx)
    movq FRAME_RIP(%rsp), %rdx
    movq %rdx, 16(%rcx)
    movq %cr2, %rdx
    movq %rdx, 24(%rcx)

    movl FRAME_VECTOR(%rsp), %ecx
    cmpl $32, %ecx
    jae service
    cmpl $14, %ecx
    je page_fault
    cmpl $1, %ecx
    je debug
    cmpl $4, %ecx
    ja skip /* traps: where they are; an overflow and a breakpoint have RIP behind them, an NMI goes on */
    testl %ecx, %ecx
    jz skip
out:
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

debug: /* stepping ends by itself after a while; RF for breakpoints */
    orl $0x10000, FRAME_FLAGS(%rsp)
    testl $7, (%rax)
    jnz out
    andl $~0x100, FRAME_FLAGS(%rsp)
    jmp out

page_fault: /* pages 1 and 4 of the data are given back */
    subq $DATA_BASE, %rdx
    movl %edx, %ecx
    shrq $12, %rdx
    cmpq $DATA_REVOKED, %rdx
    je 1f
    cmpq $DATA_ABSENT, %rdx
    jne fetch_fault
1:  movabsq $SYSTEM_BASE + SYSTEM_DATA_PT, %rax
    leaq (%rax, %rdx, 8), %rax
    movl (%rax), %edx
    andl $3, %edx
    cmpl $3, %edx
    je skip /* it is not that */
    orl $3, (%rax)
    movq %cr2, %rdx
    testl $8, %ecx /* a page that was not writable may also be found again by the fault itself */
    jz out
    invlpg (%rdx)
    jmp out

fetch_fault:
    movq %cr2, %rdx
    subq $CODE_BASE + CODE_FETCH * 0x1000, %rdx
    cmpq $0x1000, %rdx
    jae skip
    movabsq $SYSTEM_BASE + SYSTEM_CODE_PT + CODE_FETCH * 8, %rax
    movq (%rax), %rdx
    btrq $63, %rdx
    btsq $0, %rdx
    cmpq (%rax), %rdx
    je skip
    movq %rdx, (%rax)
    movq %cr2, %rdx
    invlpg (%rdx)
    jmp out

skip:
    movl FRAME_RSP(%rsp), %edx
    cmpl $0, FRAME_RSP + 4(%rsp)
    jne 1f
    subl $STACK_BASE, %edx
    cmpl $STACK_SIZE + 1, %edx
    jb 2f
1:  movq $STACK_USUAL, FRAME_RSP(%rsp)
2:  movq FRAME_RIP(%rsp), %rdx
    subq $CODE_BASE, %rdx
    cmpq $CODE_SIZE, %rdx
    jae 3f
    movabsq $SYSTEM_BASE + SYSTEM_SKIP, %rcx
    movzwl (%rcx, %rdx, 2), %edx
    testl %edx, %edx
    jz 3f
    addl $CODE_BASE, %edx
    movq %rdx, FRAME_RIP(%rsp)
    jmp out
3:  movabsq $SYSTEM_BASE + SYSTEM_RESUME, %rcx
    movabsq $SYSTEM_BASE + SYSTEM_LOG, %rax
    movl (%rax), %edx
    andl $RESUME_ENTRIES - 1, %edx
    movl (%rcx, %rdx, 4), %edx
    movq %rdx, FRAME_RIP(%rsp)
    jmp out

service:
    cmpl $SERVICE_RING, %ecx
    je ring
    cmpl $SERVICE_SPACE, %ecx
    je space
    cmpl $SERVICE_CODE, %ecx
    je code
    cmpl $SERVICE_DATA, %ecx
    je data
    cmpl $SERVICE_ABSENT, %ecx
    je absent
    cmpl $SERVICE_REVOKE, %ecx
    je revoke
    cmpl $SERVICE_FETCH, %ecx
    je fetch
    cmpl $SERVICE_AGAIN, %ecx
    je again
    incl 8(%rax)
    jmp out

ring:
    xorl $SELECTOR_KERNEL ^ SELECTOR_USER, FRAME_CS(%rsp)
    movl $SELECTOR_USER_DATA, %edx
    testl $3, FRAME_CS(%rsp)
    jnz 1f
    movl $SELECTOR_KERNEL_DATA, %edx
1:  movq %rdx, FRAME_SS(%rsp)
    jmp out

space:
    movq %cr3, %rdx
    xorq LOG_SPACES(%rax), %rdx
    movq %cr4, %rcx
    btl $17, %ecx /* with PCIDs, every other time nothing is flushed */
    jnc 1f
    testl $1, (%rax)
    jz 1f
    btsq $63, %rdx
1:  movq %rdx, %cr3
    jmp out

code:
    movabsq $SYSTEM_BASE + SYSTEM_CODE_PT + CODE_SWAP * 8, %rax
    movl $CODE_BASE + CODE_SWAP * 0x1000, %ecx
    movq (%rax), %rdx
    xchgq 8(%rax), %rdx
    movq %rdx, (%rax)
    invlpg (%rcx)
    invlpg 0x1000(%rcx)
    jmp out

data:
    movabsq $SYSTEM_BASE + SYSTEM_DATA_PT, %rax
    movl $DATA_BASE, %ecx
    movq (%rax), %rdx
    xchgq DATA_SWAP * 8(%rax), %rdx
    movq %rdx, (%rax)
    invlpg (%rcx)
    invlpg DATA_SWAP * 0x1000(%rcx)
    jmp out

absent:
    movabsq $SYSTEM_BASE + SYSTEM_DATA_PT, %rax
    andl $~1, DATA_ABSENT * 8(%rax)
    movl $DATA_BASE + DATA_ABSENT * 0x1000, %ecx
    invlpg (%rcx)
    jmp out

revoke:
    movabsq $SYSTEM_BASE + SYSTEM_DATA_PT, %rax
    andl $~2, DATA_REVOKED * 8(%rax)
    movl $DATA_BASE + DATA_REVOKED * 0x1000, %ecx
    invlpg (%rcx)
    jmp out

again:
    incq LOG_PASSES(%rax)
    movq LOG_PASSES(%rax), %rdx
    cmpq LOG_LIMIT(%rax), %rdx
    jne out
1:  hlt
    jmp 1b

fetch: /* by the number of the event: not present, or not to be executed */
    movq (%rax), %rdx
    andl $1, %edx
    movabsq $SYSTEM_BASE + SYSTEM_CODE_PT + CODE_FETCH * 8, %rax
    movq (%rax), %rcx
    btsq $63, %rcx
    testl %edx, %edx
    jz 1f
    btrq $63, %rcx
    btrq $0, %rcx
1:  movq %rcx, (%rax)
    movl $CODE_BASE + CODE_FETCH * 0x1000, %ecx
    invlpg (%rcx)
    jmp out

    .balign 16, 0xcc
syscall_entry: /* RCX, R11: where to, with which flags; no stack of its own */
    movabsq %rax, SYSTEM_BASE + SYSTEM_LOG + 16
    movabsq SYSTEM_BASE + SYSTEM_LOG + 8, %rax
    incq %rax
    movabsq %rax, SYSTEM_BASE + SYSTEM_LOG + 8
    movabsq SYSTEM_BASE + SYSTEM_LOG + 16, %rax
    sysretq
system_end:
    .balign 4
seq_system_size:
    .long system_end - seq_system
seq_syscall_offset:
    .long syscall_entry - seq_system
    .section .note.GNU-stack, "", @progbits
