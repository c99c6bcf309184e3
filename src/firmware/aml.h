/*
 * A small writer of ACPI machine language (ACPI 6.3 chapter 20) into a blob.
 *
 * Constructs with a package length are opened and closed; aml_open's result is given to the matching aml_close, innermost
 * first:
 *
 *     u32 device = aml_device(aml, "RTC");
 *     aml_name(aml, "_HID");
 *     aml_eisa_id(aml, "PNP0B00");
 *     aml_close(aml, device);
 */
#ifndef FIRMWARE_AML_H
#define FIRMWARE_AML_H

#include "firmware/blob.h"

/* Opcodes that dsdt.c writes by themselves: terms whose operands simply follow (ACPI 20.2.5, 20.2.6). */
enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_ARG0 = 0x68,
    AML_STORE = 0x70,
    AML_AND = 0x7b,
    AML_OR = 0x7d,
    AML_CREATE_DWORD_FIELD = 0x8a,
    AML_RETURN = 0xa4,
};
static inline void aml_op(struct blob *aml, u8 opcode)
{
    blob_u8(aml, opcode);
}

/* A name or path as in ASL: "_SB", "\\_SB.PCI0", "^ISA.PRQ0". Segments are padded to four characters. */
void aml_path(struct blob *aml, const char *path);

/* Constants, in the shortest form. */
void aml_int(struct blob *aml, u64 value);
void aml_string(struct blob *aml, const char *text);
/* "PNP0A03" as the compressed number (ACPI 6.3 19.3.4). */
void aml_eisa_id(struct blob *aml, const char *id);

/* Name (`path`, ...): the value follows. */
void aml_name(struct blob *aml, const char *path);
void aml_name_int(struct blob *aml, const char *path, u64 value);

u32 aml_scope(struct blob *aml, const char *path);
u32 aml_device(struct blob *aml, const char *name);
/* A Processor with that ID and no power block. */
u32 aml_processor(struct blob *aml, const char *name, u8 id);
u32 aml_method(struct blob *aml, const char *name, unsigned args, bool serialized);
/* The elements follow. */
u32 aml_package(struct blob *aml, u8 elements);
/* If: the condition and then the body follow. */
u32 aml_if(struct blob *aml);
void aml_close(struct blob *aml, u32 open);

/* OperationRegion (`name`, PCI_Config, `offset`, `size`) and a Field of byte-wide names over it. */
void aml_pci_config_bytes(struct blob *aml, const char *region, u8 offset, const char *const *names,
                          unsigned count);

/* A resource template; descriptors follow until the close (ACPI 6.3 6.4). */
u32 aml_resources(struct blob *aml);
void aml_resources_close(struct blob *aml, u32 open);
void aml_io(struct blob *aml, u16 port, u8 size);
void aml_irq(struct blob *aml, unsigned irq);
void aml_dma(struct blob *aml, unsigned channel);
void aml_memory(struct blob *aml, u32 start, u32 size);
/* Level-triggered, active high, shared interrupts, one bit of `irqs` each; 0 writes one number 0, to be filled in. */
void aml_interrupt(struct blob *aml, u32 irqs);
/* Windows that a bridge decodes: [first, last]. */
void aml_bus_window(struct blob *aml, u16 first, u16 last);
void aml_io_window(struct blob *aml, u16 first, u16 last);
void aml_memory_window(struct blob *aml, u32 first, u32 last, bool cacheable);

#endif
