#include "firmware/aml.h"

#include <string.h>

/* Opcodes of constructs that have functions here (ACPI 6.3 20.3). */
enum {
    AML_NAME = 0x08,
    AML_BYTE_PREFIX = 0x0a,
    AML_WORD_PREFIX = 0x0b,
    AML_DWORD_PREFIX = 0x0c,
    AML_STRING_PREFIX = 0x0d,
    AML_QWORD_PREFIX = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_EXT = 0x5b,
    AML_EXT_REGION = 0x80,
    AML_EXT_FIELD = 0x81,
    AML_EXT_DEVICE = 0x82,
    AML_EXT_PROCESSOR = 0x83,
    AML_IF = 0xa0,
};
enum { AML_SPACE_PCI_CONFIG = 2, AML_FIELD_BYTE_ACCESS = 1 };

void aml_path(struct blob *aml, const char *path)
{
    unsigned segments = 1;

    while (*path == '\\' || *path == '^')
        blob_u8(aml, (u8)*path++);
    if (!*path) { /* the root itself: NullName */
        blob_u8(aml, 0);
        return;
    }
    for (const char *p = path; *p; p++)
        segments += *p == '.';
    if (segments == 2) {
        blob_u8(aml, AML_DUAL_NAME);
    } else if (segments > 2) {
        blob_u8(aml, AML_MULTI_NAME);
        blob_u8(aml, (u8)segments);
    }
    while (*path) {
        u32 len = (u32)strcspn(path, ".");

        for (u32 i = 0; i < 4; i++)
            blob_u8(aml, i < len ? (u8)path[i] : '_');
        path += len;
        if (*path == '.')
            path++;
    }
}

void aml_int(struct blob *aml, u64 value)
{
    if (value <= 1) {
        blob_u8(aml, value ? AML_ONE : AML_ZERO);
    } else if (value <= UINT8_MAX) {
        blob_u8(aml, AML_BYTE_PREFIX);
        blob_u8(aml, (u8)value);
    } else if (value <= UINT16_MAX) {
        blob_u8(aml, AML_WORD_PREFIX);
        blob_u16(aml, (u16)value);
    } else if (value <= UINT32_MAX) {
        blob_u8(aml, AML_DWORD_PREFIX);
        blob_u32(aml, (u32)value);
    } else {
        blob_u8(aml, AML_QWORD_PREFIX);
        blob_u64(aml, value);
    }
}

void aml_string(struct blob *aml, const char *text)
{
    blob_u8(aml, AML_STRING_PREFIX);
    blob_bytes(aml, text, (u32)strlen(text) + 1);
}

static u32 hex_digit(char c)
{
    return c <= '9' ? (u32)(c - '0') : (u32)(c - 'A' + 10);
}

void aml_eisa_id(struct blob *aml, const char *id)
{
    /* Three letters of five bits each, then four hex digits; the number is stored with its bytes swapped. */
    u32 letters = (u32)(id[0] - '@') << 10 | (u32)(id[1] - '@') << 5 | (u32)(id[2] - '@');
    u32 number = letters << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 |
                 hex_digit(id[6]);

    aml_int(aml, __builtin_bswap32(number));
}

void aml_name(struct blob *aml, const char *path)
{
    blob_u8(aml, AML_NAME);
    aml_path(aml, path);
}

void aml_name_int(struct blob *aml, const char *path, u64 value)
{
    aml_name(aml, path);
    aml_int(aml, value);
}

/*
 * Package lengths (ACPI 6.3 20.2.4) are always written in their three-byte form: two bits of length-1, four low bits, two
 * bytes. A length counts itself. One form, so that nothing has to move when it is known.
 */
enum { PKG_LENGTH_BYTES = 3 };

static u32 pkg_open(struct blob *aml)
{
    u32 open = aml->len;

    blob_zero(aml, PKG_LENGTH_BYTES);
    return open;
}

void aml_close(struct blob *aml, u32 open)
{
    u32 len = aml->len - open;

    blob_set_u8(aml, open, (u8)((PKG_LENGTH_BYTES - 1) << 6 | (len & 0xf)));
    blob_set_u16(aml, open + 1, (u16)(len >> 4));
}

u32 aml_scope(struct blob *aml, const char *path)
{
    blob_u8(aml, AML_SCOPE);
    u32 open = pkg_open(aml);
    aml_path(aml, path);
    return open;
}

u32 aml_device(struct blob *aml, const char *name)
{
    blob_u8(aml, AML_EXT);
    blob_u8(aml, AML_EXT_DEVICE);
    u32 open = pkg_open(aml);
    aml_path(aml, name);
    return open;
}

u32 aml_processor(struct blob *aml, const char *name, u8 id)
{
    blob_u8(aml, AML_EXT);
    blob_u8(aml, AML_EXT_PROCESSOR);
    u32 open = pkg_open(aml);
    aml_path(aml, name);
    blob_u8(aml, id);
    blob_u32(aml, 0); /* P_BLK address and length: none */
    blob_u8(aml, 0);
    return open;
}

u32 aml_method(struct blob *aml, const char *name, unsigned args, bool serialized)
{
    blob_u8(aml, AML_METHOD);
    u32 open = pkg_open(aml);
    aml_path(aml, name);
    blob_u8(aml, (u8)(args | serialized << 3));
    return open;
}

u32 aml_package(struct blob *aml, u8 elements)
{
    blob_u8(aml, AML_PACKAGE);
    u32 open = pkg_open(aml);
    blob_u8(aml, elements);
    return open;
}

u32 aml_if(struct blob *aml)
{
    blob_u8(aml, AML_IF);
    return pkg_open(aml);
}

void aml_pci_config_bytes(struct blob *aml, const char *region, u8 offset, const char *const *names,
                          unsigned count)
{
    blob_u8(aml, AML_EXT);
    blob_u8(aml, AML_EXT_REGION);
    aml_path(aml, region);
    blob_u8(aml, AML_SPACE_PCI_CONFIG);
    aml_int(aml, offset);
    aml_int(aml, count);

    blob_u8(aml, AML_EXT);
    blob_u8(aml, AML_EXT_FIELD);
    u32 field = pkg_open(aml);
    aml_path(aml, region);
    blob_u8(aml, AML_FIELD_BYTE_ACCESS); /* NoLock, Preserve */
    for (unsigned i = 0; i < count; i++) {
        aml_path(aml, names[i]);
        blob_u8(aml, 8); /* bits, as a one-byte package length */
    }
    aml_close(aml, field);
}

/* Buffer, package length, size as a word constant, bytes. */
enum { RESOURCES_HEADER = PKG_LENGTH_BYTES + 3 };

u32 aml_resources(struct blob *aml)
{
    blob_u8(aml, AML_BUFFER);
    u32 open = pkg_open(aml);
    blob_u8(aml, AML_WORD_PREFIX);
    blob_u16(aml, 0);
    return open;
}

void aml_resources_close(struct blob *aml, u32 open)
{
    blob_u8(aml, 0x79); /* end tag; a checksum of 0 means: do not check */
    blob_u8(aml, 0);
    blob_set_u16(aml, open + PKG_LENGTH_BYTES + 1, (u16)(aml->len - open - RESOURCES_HEADER));
    aml_close(aml, open);
}

void aml_io(struct blob *aml, u16 port, u8 size)
{
    blob_u8(aml, 0x47); /* I/O port descriptor */
    blob_u8(aml, 1);    /* 16-bit decode */
    blob_u16(aml, port);
    blob_u16(aml, port);
    blob_u8(aml, 1); /* alignment */
    blob_u8(aml, size);
}

void aml_irq(struct blob *aml, unsigned irq)
{
    blob_u8(aml, 0x22); /* IRQ descriptor without flags: edge, active high, exclusive */
    blob_u16(aml, (u16)(1u << irq));
}

void aml_dma(struct blob *aml, unsigned channel)
{
    blob_u8(aml, 0x2a);
    blob_u8(aml, (u8)(1u << channel));
    blob_u8(aml, 0); /* compatibility timing, 8 bits */
}

void aml_memory(struct blob *aml, u32 start, u32 size)
{
    blob_u8(aml, 0x86); /* fixed 32-bit memory range */
    blob_u16(aml, 9);
    blob_u8(aml, 1); /* read-write */
    blob_u32(aml, start);
    blob_u32(aml, size);
}

void aml_interrupt(struct blob *aml, u32 irqs)
{
    unsigned count = irqs ? (unsigned)__builtin_popcount(irqs) : 1;

    blob_u8(aml, 0x89); /* extended interrupt descriptor */
    blob_u16(aml, (u16)(2 + 4 * count));
    blob_u8(aml, 1 << 0 | 1 << 3); /* consumer, shared; level-triggered and active high are zero bits */
    blob_u8(aml, (u8)count);
    if (!irqs)
        blob_u32(aml, 0);
    for (u32 n = 0; n < 32; n++)
        if (irqs >> n & 1)
            blob_u32(aml, n);
}

/* Address space descriptors: fixed minimum and maximum, positive decode, produced by the bridge. */
enum { WINDOW_MEMORY, WINDOW_IO, WINDOW_BUS };
enum {
    WINDOW_FIXED = 1 << 2 | 1 << 3,
    WINDOW_IO_ENTIRE = 3,
    WINDOW_READ_WRITE = 1,
    WINDOW_CACHEABLE = 1 << 1
};

static void word_window(struct blob *aml, u8 type, u8 type_flags, u16 first, u16 last)
{
    blob_u8(aml, 0x88);
    blob_u16(aml, 13);
    blob_u8(aml, type);
    blob_u8(aml, WINDOW_FIXED);
    blob_u8(aml, type_flags);
    blob_u16(aml, 0); /* granularity */
    blob_u16(aml, first);
    blob_u16(aml, last);
    blob_u16(aml, 0); /* translation */
    blob_u16(aml, (u16)(last - first + 1));
}

void aml_bus_window(struct blob *aml, u16 first, u16 last)
{
    word_window(aml, WINDOW_BUS, 0, first, last);
}

void aml_io_window(struct blob *aml, u16 first, u16 last)
{
    word_window(aml, WINDOW_IO, WINDOW_IO_ENTIRE, first, last);
}

void aml_memory_window(struct blob *aml, u32 first, u32 last, bool cacheable)
{
    blob_u8(aml, 0x87);
    blob_u16(aml, 23);
    blob_u8(aml, WINDOW_MEMORY);
    blob_u8(aml, WINDOW_FIXED);
    blob_u8(aml, cacheable ? WINDOW_READ_WRITE | WINDOW_CACHEABLE : WINDOW_READ_WRITE);
    blob_u32(aml, 0);
    blob_u32(aml, first);
    blob_u32(aml, last);
    blob_u32(aml, 0);
    blob_u32(aml, last - first + 1);
}
