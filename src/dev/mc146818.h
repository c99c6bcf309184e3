/*
 * Motorola MC146818 real-time clock with the 256 bytes of battery-backed memory that a PIIX4 has around it. Facts:
 * MC146818 data sheet, PIIX4 data sheet (290562) for ports 70h..73h.
 *
 * The clock runs on virtual time from a given date. Nothing ticks: registers follow from the time of the last setting, and
 * a timer stands only for the next interrupt that is enabled and not yet pending.
 */
#ifndef DEV_MC146818_H
#define DEV_MC146818_H

#include "base/types.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/timer.h"
#include "state/state.h"

enum { CMOS_BYTES = 256 };

/* Bytes of the memory that PC firmware reads. */
enum {
    CMOS_FLOPPY = 0x10, /* types of drives A (high nibble) and B */
    CMOS_DISK = 0x12,   /* types of the first two fixed disks; Fh: see the next two */
    CMOS_DISK_C = 0x19,
    CMOS_DISK_D = 0x1a,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_MEMORY = 0x15,       /* 16 bits, KiB below 640 KiB */
    CMOS_EXTENDED_MEMORY = 0x17,   /* 16 bits, KiB above 1 MiB, at most 65535 */
    CMOS_CHECKSUM = 0x2e,          /* high byte, low byte: sum of 10h..2Dh */
    CMOS_EXTENDED_MEMORY_2 = 0x30, /* as 17h, what the memory test found */
    CMOS_CENTURY = 0x32,
    CMOS_MEMORY_16M = 0x34, /* 16 bits, units of 64 KiB between 16 MiB and 4 GiB */
    CMOS_BOOT_3 = 0x38,     /* high nibble: third boot device */
    CMOS_BOOT_1_2 = 0x3d,   /* first boot device (low nibble) and second */
    CMOS_MEMORY_4G = 0x5b,  /* 24 bits, units of 64 KiB above 4 GiB */
    CMOS_CPUS = 0x5f,       /* processors less one */
};
enum { CMOS_EQUIPMENT_FPU = 1 << 1, CMOS_EQUIPMENT_MOUSE = 1 << 2 };
enum {
    CMOS_BOOT_NONE = 0,
    CMOS_BOOT_FLOPPY = 1,
    CMOS_BOOT_DISK = 2,
    CMOS_BOOT_CDROM = 3,
    CMOS_BOOT_NETWORK = 4
};

struct mc146818 {
    u8 cmos[CMOS_BYTES]; /* 00h..0Dh: registers, of which the time is current only after rtc_refresh */
    u8 index, extended_index;
    bool nmi_disabled; /* bit 7 of port 70h */
    i64 base_seconds;  /* date at the phase, in seconds since 1970, as the guest set it */
    i64 phase_ns;      /* seconds begin at this time and every 1e9 ns before and after */
    u8 weekday_skew;   /* days by which the guest's day of the week is ahead of the date's */
    u64 checked_ns;    /* events up to this time are in register C */
    bool irq_enabled;  /* false while the HPET replaces the interrupt */
    struct timer timer;
    struct irq_line irq; // not saved: wiring
};
extern const struct state_table mc146818_state;

/* `start`: date that the clock shows now, in seconds since 1970 (its own time zone: what the guest takes it for). */
void mc146818_init(struct mc146818 *rtc, struct timer_queue *timers, struct irq_line irq, i64 start);

/* What the reset pin does: interrupts are off; time and memory stay (the battery). */
void mc146818_reset(struct mc146818 *rtc);

/* Ports 70h..73h: `offset` 0..3. */
u8 mc146818_read(struct mc146818 *rtc, unsigned offset);
void mc146818_write(struct mc146818 *rtc, unsigned offset, u8 value);

/* Set a byte of memory, 0Eh and up, as firmware finds it. */
void mc146818_set_cmos(struct mc146818 *rtc, u8 index, u8 value);

/* Set the bytes that tell of `low` bytes of memory from 0 up and `high` bytes from 4 GiB up. */
void mc146818_set_memory(struct mc146818 *rtc, u64 low, u64 high);

/* Set the checksum of 10h..2Dh; after everything in there was set. */
void mc146818_set_checksum(struct mc146818 *rtc);

/* Whether IRQ 8 is the chip's (and not the HPET's). */
void mc146818_enable_irq(struct mc146818 *rtc, bool enabled);

/* The device: ports 70h..73h, IRQ 8. Property start: date in seconds since 1970. */
extern const struct device_class mc146818_class;
struct mc146818 *mc146818_of(struct device *device);

#endif
