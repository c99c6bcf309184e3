/*
 * Where things are in the guest of the sequence tests; for C and for system.S. All of user space lies below 2 GiB, so that
 * code reaches everything by 32-bit addresses.
 */
#ifndef TESTS_SEQ_LAYOUT_H
#define TESTS_SEQ_LAYOUT_H

/* Code: pages 0 to 4 hold the sequence; 5 and 6 hold functions, other ones at the same places, and are exchanged. */
#define CODE_BASE  0x10000000
#define CODE_PAGES 7
#define CODE_SIZE  0x7000
#define CODE_SWAP  5
/* The same frames once more. */
#define ALIAS_BASE 0x18000000

/* Data, by page: usual ones (0, 1, 3); read-only with the jump tables (2); not present until it is touched (4); a
   supervisor's (5); page 0 once more (6); page 1 of the code once more (7); behind it nothing. Page 1 loses its right to be
   written now and then. */
#define DATA_BASE       0x20000000
#define DATA_PAGES      8
#define DATA_REVOKED    1
#define DATA_TABLES     2
#define DATA_SWAP       3
#define DATA_ABSENT     4
#define DATA_SUPERVISOR 5
#define DATA_ALIAS      6
#define DATA_CODE       7
#define STACK_BASE      0x30000000
#define STACK_PAGES     2
#define STACK_SIZE      0x2000
#define STACK_USUAL     (STACK_BASE + 0x1800)

/* The supervisor's pages. */
#define SYSTEM_BASE    0xffffff8000000000
#define SYSTEM_GDT     0x0000
#define SYSTEM_TSS     0x0800
#define SYSTEM_IDT     0x1000
#define SYSTEM_STUBS   0x2000 /* 3 pages */
#define SYSTEM_LOG     0x5000 /* events, other interrupts; from 32 on the last LOG_ENTRIES events */
#define LOG_PASSES     0xff0
#define LOG_LIMIT      0xff8
#define LOG_SPACES     24     /* CR3 of one space XOR that of the other */
#define SYSTEM_RESUME  0x6000 /* u32 addresses, where to go on from nowhere */
#define SYSTEM_STACKS  0x7000 /* interrupt stacks, one page each */
#define SYSTEM_SKIP    0xa000 /* u16 for each byte of the code: where the next instruction is; 0: unknown */
#define SYSTEM_PAGES   0x18
#define SYSTEM_CODE_PT 0x18000 /* page tables of the code and of the data, once more */
#define SYSTEM_DATA_PT 0x19000
#define LOG_ENTRIES    64
#define RESUME_ENTRIES 32

/* Frames. Pages that lie side by side do not in physical memory. */
#define PHYS_TABLES 0x01000 /* up to PHYS_SYSTEM */
#define PHYS_SYSTEM 0x20000
#define PHYS_CODE   0x40000
#define PHYS_DATA   0x50000
#define PHYS_STACK  0x60000
#define PHYS_OTHER  0x68000 /* what the second address space has in place of some pages */
#define RAM_SIZE    0x70000

#define SELECTOR_KERNEL      0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_DATA   0x23
#define SELECTOR_USER        0x2b

/* INT n that the system serves at every privilege. */
#define SERVICE_NONE     0x80
#define SERVICE_RING     0x81 /* to the other privilege level */
#define SERVICE_SPACE    0x82 /* to the other address space */
#define SERVICE_CODE     0x83 /* exchange code pages 5 and 6 */
#define SERVICE_DATA     0x84 /* exchange data pages 0 and 3 */
#define SERVICE_ABSENT   0x85 /* take data page 4 away */
#define SERVICE_REVOKE   0x86 /* take the right to write to data page 1 away */
#define SERVICE_FETCH    0x87 /* take code page 3 away, or the right to execute it, until it is executed */
#define SERVICE_LAST     SERVICE_FETCH
#define SERVICE_AGAIN    0x88 /* the end of the program: halts for good after so many times */
#define CODE_FETCH       3
#define INTERRUPT_VECTOR 0xa0

/* With PCIDs, those of the two spaces. */
#define PCID_A 1
#define PCID_B 2

#endif
