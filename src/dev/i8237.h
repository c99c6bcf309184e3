/*
 * The two Intel 8237A DMA controllers of an AT with their page registers. Facts: 8237A data sheet (231466), PIIX3 data sheet
 * (290550) 2.5.1.
 *
 * Channels 0..3 move bytes within 64 KiB, 5..7 words within 128 KiB; 4 is the cascade. A peripheral moves its data by
 * i8237_transfer when it has some and the guest has let the channel go.
 */
#ifndef DEV_I8237_H
#define DEV_I8237_H

#include "base/types.h"
#include "machine/device.h"
#include "state/state.h"

enum { I8237_CHANNELS = 4, I8237_PAGES = 16 };

struct i8237_channel {
    u16 base_address, base_count;
    u16 address, count; /* current; in words on the second controller; count is one less than what is left */
    u8 mode;
};

struct i8237 {
    struct i8237_channel channels[I8237_CHANNELS];
    u8 command;
    u8 status;  /* terminal count of channels 0..3 */
    u8 request; /* software requests; also the upper half of the status */
    u8 mask;
    bool high; /* byte pointer flip-flop: the next access to a 16-bit register is its high byte */
};

/* Guest memory, for both directions. `len` bytes at a physical address; what is not there reads as FFh. */
struct i8237_memory {
    void (*read)(void *opaque, u32 phys, void *to, u32 len);
    void (*write)(void *opaque, u32 phys, const void *from, u32 len);
    void *opaque;
};

struct i8237_pair {
    struct i8237 chips[2];
    u8 pages[I8237_PAGES];      /* ports 80h..8Fh, of which 80h is not ours */
    struct i8237_memory memory; // not saved: wiring
};
extern const struct state_table i8237_pair_state;

void i8237_init(struct i8237_pair *pair, const struct i8237_memory *memory);
void i8237_reset(struct i8237_pair *pair);

/* Registers of a controller: `offset` 0..15. */
u8 i8237_read(struct i8237_pair *pair, unsigned chip, unsigned offset);
void i8237_write(struct i8237_pair *pair, unsigned chip, unsigned offset, u8 value);

/* Page registers: `offset` from port 80h. */
u8 i8237_page_read(const struct i8237_pair *pair, unsigned offset);
void i8237_page_write(struct i8237_pair *pair, unsigned offset, u8 value);

/*
 * For the peripheral of `channel` (0..3, 5..7), which asserts DREQ: move at most `len` bytes (whole words on channels 5..7)
 * between `buffer` and memory. The guest's mode decides the direction, which must be what the peripheral wants: `to_memory`;
 * a verify transfer moves nothing, but counts. Returns how many bytes went by: 0 while the channel is masked, its controller
 * disabled, or set to the other direction; and sets *terminal_count when the channel reached its count (no more will go by
 * until it is programmed again, or it has begun anew by autoinitialisation).
 */
u32 i8237_transfer(struct i8237_pair *pair, unsigned channel, bool to_memory, void *buffer, u32 len,
                   bool *terminal_count);

/* The device: ports 00h..0Fh, 81h..8Fh, C0h..DFh. */
extern const struct device_class i8237_class;
struct i8237_pair *i8237_of(struct device *device);

#endif
