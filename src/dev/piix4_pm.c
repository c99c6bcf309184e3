#include "dev/piix4_pm.h"

#include <string.h>

#include "dev/pci.h"
#include "machine/pc_map.h"
#include "machine/vm.h"

#define LOG_MODULE "dev/piix4_pm"
#include "base/log.h"

/* Configuration registers (PIIX4 7.1). */
enum { PMBASE = 0x40, DEVACTB = 0x58, PMREGMISC = 0x80, SMBBA = 0x90, SMBHSTCFG = 0xd2, SMBREV = 0xd6 };
enum { PMREGMISC_ENABLE = 1 << 0 };
enum { SMBHSTCFG_ENABLE = 1 << 0, SMBHSTCFG_INTERRUPT = 7 << 1, SMBHSTCFG_IRQ9 = 4 << 1 };
/* Bit 25 of DEVACTB: a write to APMC raises an SMI. Firmware takes it for "SMM is set up". There is no SMM here. */
enum { DEVACTB_APMC = 0x5b, APMC_EN = 1 << 1 };

/* Power management registers (PIIX4 7.2). */
enum {
    PM1_STS = 0x00,
    PM1_EN = 0x02,
    PM1_CNT = 0x04,
    PM_TMR = 0x08,
    PM_STORAGE =
        0x0c, /* from here on the block is storage: general purpose and device monitors, which see nothing */
};
enum {
    TMR_STS = 1 << 0,
    BM_STS = 1 << 4,
    GBL_STS = 1 << 5,
    PWRBTN_STS = 1 << 8,
    RTC_STS = 1 << 10,
    WAK_STS = 1 << 15
};
enum { PM1_STS_VALID = TMR_STS | BM_STS | GBL_STS | PWRBTN_STS | RTC_STS | WAK_STS };
enum { PM1_EN_VALID = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS };
enum { SCI_EN = 1 << 0, BM_RLD = 1 << 1, GBL_RLS = 1 << 2, SLP_TYP_SHIFT = 10, SLP_EN = 1 << 13 };
enum { PM1_CNT_VALID = SCI_EN | BM_RLD | 7 << SLP_TYP_SHIFT };

enum { PM_TIMER_HZ = 3579545, PM_TIMER_BITS = 24 };

/* SMBus host controller (PIIX4 7.3). */
enum {
    SMBHSTSTS = 0x00,
    SMBSLVSTS = 0x01,
    SMBHSTCNT = 0x02,
    SMBHSTCMD = 0x03,
    SMBHSTADD = 0x04,
    SMBHSTDAT0 = 0x05,
    SMBHSTDAT1 = 0x06,
    SMBBLKDAT = 0x07,
    SMBSLVCNT = 0x08,
    SMBSHDWCMD = 0x09,
    SMBSLVEVT = 0x0a, /* two bytes */
};
enum {
    HST_BUSY = 1 << 0,
    HST_INTR = 1 << 1,
    HST_DEV_ERR = 1 << 2,
    HST_COLLISION = 1 << 3,
    HST_FAILED = 1 << 4
};
enum { HSTCNT_INTEREN = 1 << 0, HSTCNT_KILL = 1 << 1, HSTCNT_START = 1 << 6 };
enum { SMB_BLOCK = 32 };

struct piix4_pm {
    struct device device; // not saved: wiring
    void *bus;            // not saved: wiring
    struct pci_device pci;
    u16 pm1_status, pm1_enable, pm1_control;
    u8 pm_storage[PC_PM_PORTS - PM_STORAGE];
    u16 gpe_status, gpe_enable;
    u8 apm_control, apm_status;
    u64 overflow_ns; /* when the top bit of the PM timer changes next after the last time TMR_STS was cleared */
    struct timer timer; /* armed for overflow_ns while TMR_EN is set */
    u8 smb_status, smb_control, smb_command, smb_address, smb_data[2];
    u8 smb_slave[PC_SMBUS_PORTS - SMBSLVCNT];
    u8 smb_block[SMB_BLOCK], smb_block_index;
    u32 pm_port, smb_port; // not saved: where the blocks are claimed now, 0: nowhere; follows from config
    struct irq_line sci;   // not saved: wiring
    int button_source;     // not saved: wiring
};

/* ---- Events and SCI (ACPI 4.8.3) ---- */

/* Ticks of the PM timer since power-up, all bits of them. */
static u64 pm_ticks(u64 ns)
{
    return (u64)((u128)ns * PM_TIMER_HZ / 1000000000);
}

/* First nanosecond after `ns` at which the timer's top bit changes. */
static u64 pm_next_overflow(u64 ns)
{
    u64 half = (u64)1 << (PM_TIMER_BITS - 1);
    u64 ticks = (pm_ticks(ns) / half + 1) * half;

    return (u64)(((u128)ticks * 1000000000 + PM_TIMER_HZ - 1) / PM_TIMER_HZ);
}

/* The bit is looked at when somebody asks, so that an idle machine need not wake up for it. */
static u16 pm1_status(struct piix4_pm *pm)
{
    if (timer_now(&pm->timer) >= pm->overflow_ns)
        pm->pm1_status |= TMR_STS;
    return pm->pm1_status;
}

static void pm_update(struct piix4_pm *pm)
{
    u16 status = pm1_status(pm);
    bool smbus = (pm->smb_control & HSTCNT_INTEREN) && (pm->smb_status & ~HST_BUSY) &&
                 (pm->pci.config[SMBHSTCFG] & SMBHSTCFG_INTERRUPT) == SMBHSTCFG_IRQ9;
    bool event = (status & pm->pm1_enable & PM1_EN_VALID) || (pm->gpe_status & pm->gpe_enable);

    irq_line_set(&pm->sci, ((pm->pm1_control & SCI_EN) && event) || smbus);
    if ((pm->pm1_enable & TMR_STS) && !(status & TMR_STS))
        timer_arm(&pm->timer, pm->overflow_ns);
    else
        timer_disarm(&pm->timer);
}

static void pm_timer_fire(void *opaque)
{
    pm_update(opaque);
}

static void pm_button(void *opaque, const u8 *bytes, size_t len)
{
    struct piix4_pm *pm = opaque;

    pm->pm1_status |= PWRBTN_STS;
    pm_update(pm);
}

bool piix4_pm_power_button(struct device *device)
{
    struct piix4_pm *pm = (struct piix4_pm *)device;

    return gate_post(&device->vm->gate, pm->button_source, NULL, 0);
}

/* ---- Power management block ---- */

static void pm_write_control(struct piix4_pm *pm, u16 value)
{
    pm->pm1_control = value & PM1_CNT_VALID;
    if (!(value & SLP_EN))
        return;
    if ((value >> SLP_TYP_SHIFT & 7) == PC_SLP_TYP_S5)
        vm_request_poweroff(pm->device.vm);
    else
        log_info("sleep type %u: there is no such state", value >> SLP_TYP_SHIFT & 7);
}

/* The 16-bit register that holds byte `offset`, which is below PM_TMR. */
static u16 pm_read16(struct piix4_pm *pm, unsigned offset)
{
    switch (offset & ~1u) {
    case PM1_STS: return pm1_status(pm);
    case PM1_EN: return pm->pm1_enable;
    case PM1_CNT: return pm->pm1_control;
    }
    return 0;
}

/* `mask` has ones in the bytes that are written. */
static void pm_write16(struct piix4_pm *pm, unsigned offset, u16 value, u16 mask)
{
    switch (offset & ~1u) {
    case PM1_STS:
        if ((pm1_status(pm) & value & mask & TMR_STS))
            pm->overflow_ns = pm_next_overflow(timer_now(&pm->timer));
        pm->pm1_status &= ~(value & mask);
        break;
    case PM1_EN: pm->pm1_enable = ((pm->pm1_enable & ~mask) | (value & mask)) & PM1_EN_VALID; break;
    case PM1_CNT: pm_write_control(pm, (pm->pm1_control & ~mask) | (value & mask)); break;
    }
    pm_update(pm);
}

/* Registers are read and written in parts too: drivers use bytes, words and dwords (ACPI 4.8.3.1). */
static u64 pm_read(void *opaque, u64 offset, unsigned size)
{
    struct piix4_pm *pm = opaque;
    u32 ticks = (u32)pm_ticks(timer_now(&pm->timer)) & ((1u << PM_TIMER_BITS) - 1);
    u64 value = 0;

    for (unsigned i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        u8 byte = 0;

        if (at < PM_TMR)
            byte = (u8)(pm_read16(pm, at) >> 8 * (at & 1));
        else if (at < PM_STORAGE)
            byte = (u8)(ticks >> 8 * (at - PM_TMR));
        else if (at < PC_PM_PORTS)
            byte = pm->pm_storage[at - PM_STORAGE];
        value |= (u64)byte << 8 * i;
    }
    return value;
}

static void pm_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct piix4_pm *pm = opaque;

    while (size > 0 && offset < PC_PM_PORTS) {
        unsigned step = 1;

        if (offset < PM_TMR) {
            unsigned shift = 8 * (offset & 1);

            step = size >= 2 && shift == 0 ? 2 : 1;
            pm_write16(pm, (unsigned)offset, (u16)(value << shift),
                       step == 2 ? 0xffff : (u16)(0xff << shift));
        } else if (offset >= PM_STORAGE) {
            pm->pm_storage[offset - PM_STORAGE] = (u8)value;
        }
        offset += step;
        size -= step;
        value >>= 8 * step;
    }
}

static const struct io_ops pm_ops = {.read = pm_read, .write = pm_write, .min_size = 1, .max_size = 4};

/* ---- General purpose events: status in the first half, enable in the second ---- */

static u64 gpe_read(void *opaque, u64 offset, unsigned size)
{
    struct piix4_pm *pm = opaque;

    return (u8)((offset < 2 ? pm->gpe_status : pm->gpe_enable) >> 8 * (offset & 1));
}

static void gpe_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct piix4_pm *pm = opaque;
    unsigned shift = 8 * (offset & 1);

    if (offset < 2)
        pm->gpe_status &= (u16) ~(value << shift);
    else
        pm->gpe_enable = (u16)((pm->gpe_enable & ~(0xffu << shift)) | value << shift);
    pm_update(pm);
}

static const struct io_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .min_size = 1, .max_size = 1};

/* ---- APM ports: what SMM code would do on ACPI's enable and disable commands is done here ---- */

static u64 apm_read(void *opaque, u64 offset, unsigned size)
{
    struct piix4_pm *pm = opaque;

    return offset == 0 ? pm->apm_control : pm->apm_status;
}

static void apm_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct piix4_pm *pm = opaque;

    if (offset == 1) {
        pm->apm_status = (u8)value;
        return;
    }
    pm->apm_control = (u8)value;
    if (value == PC_ACPI_ENABLE)
        pm->pm1_control |= SCI_EN;
    else if (value == PC_ACPI_DISABLE)
        pm->pm1_control &= ~SCI_EN;
    pm_update(pm);
}

static const struct io_ops apm_ops = {.read = apm_read, .write = apm_write, .min_size = 1, .max_size = 1};

/* ---- SMBus: a bus with nothing on it. Every transaction ends at once with "no device answered". ---- */

static u64 smb_read(void *opaque, u64 offset, unsigned size)
{
    struct piix4_pm *pm = opaque;

    switch (offset) {
    case SMBHSTSTS: return pm->smb_status;
    case SMBHSTCNT:
        pm->smb_block_index = 0; /* PIIX4 7.3.3 */
        return pm->smb_control;
    case SMBHSTCMD: return pm->smb_command;
    case SMBHSTADD: return pm->smb_address;
    case SMBHSTDAT0:
    case SMBHSTDAT1: return pm->smb_data[offset - SMBHSTDAT0];
    case SMBBLKDAT: return pm->smb_block[pm->smb_block_index++ % SMB_BLOCK];
    case SMBSLVCNT ... PC_SMBUS_PORTS - 1: return pm->smb_slave[offset - SMBSLVCNT];
    }
    return 0; /* SMBSLVSTS */
}

static void smb_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct piix4_pm *pm = opaque;
    u8 byte = (u8)value;

    switch (offset) {
    case SMBHSTSTS: pm->smb_status &= ~(byte & (HST_INTR | HST_DEV_ERR | HST_COLLISION | HST_FAILED)); break;
    case SMBHSTCNT:
        pm->smb_control = byte & ~(HSTCNT_START | HSTCNT_KILL);
        if (byte & HSTCNT_KILL)
            pm->smb_status |= HST_FAILED;
        else if (byte & HSTCNT_START)
            pm->smb_status |= HST_DEV_ERR;
        break;
    case SMBHSTCMD: pm->smb_command = byte; break;
    case SMBHSTADD: pm->smb_address = byte; break;
    case SMBHSTDAT0:
    case SMBHSTDAT1: pm->smb_data[offset - SMBHSTDAT0] = byte; break;
    case SMBBLKDAT: pm->smb_block[pm->smb_block_index++ % SMB_BLOCK] = byte; break;
    case SMBSLVCNT ... PC_SMBUS_PORTS - 1: pm->smb_slave[offset - SMBSLVCNT] = byte; break;
    }
    pm_update(pm);
}

static const struct io_ops smb_ops = {.read = smb_read, .write = smb_write, .min_size = 1, .max_size = 1};

/* ---- Where the blocks are ---- */

/* Move one block of ports to `wanted` (0: nowhere). As with BARs, the configuration ports are out of reach. */
static void pm_claim(struct piix4_pm *pm, u32 *port, u32 wanted, u32 size, const struct io_ops *ops)
{
    struct port_map *ports = &pm->device.vm->ports;
    struct error err = {{0}};

    if (wanted < PC_PORT_PCI_DATA + 4 && wanted + size > PC_PORT_PCI_ADDRESS)
        wanted = 0;
    if (*port == wanted)
        return;
    if (*port)
        port_map_remove(ports, *port, ops, pm);
    *port = 0;
    if (!wanted)
        return;
    if (port_map_add(ports, wanted, size, ops, pm, pm->device.name, &err) < 0)
        log_warn("%s", err.text);
    else
        *port = wanted;
}

static void pm_map(struct piix4_pm *pm)
{
    const struct pci_device *pci = &pm->pci;
    bool smbus = (pci->config[SMBHSTCFG] & SMBHSTCFG_ENABLE) && (pci->config[PCI_COMMAND] & PCI_COMMAND_IO);

    pm_claim(pm, &pm->pm_port,
             pci->config[PMREGMISC] & PMREGMISC_ENABLE ? pci_get32(pci, PMBASE) & 0xffc0 : 0, PC_PM_PORTS,
             &pm_ops);
    pm_claim(pm, &pm->smb_port, smbus ? pci_get32(pci, SMBBA) & 0xfff0 : 0, PC_SMBUS_PORTS, &smb_ops);
}

static void pm_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct piix4_pm *pm = container_of(pci, struct piix4_pm, pci);

    pm_map(pm);
    pm_update(pm);
}

static void pm_describe(struct piix4_pm *pm)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x7113,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x068000,
                                       .revision = 0x03};
    struct pci_device *pci = &pm->pci;

    pci_init(pci, &ids, pm->device.name);
    pci_set_pin(pci, 1);
    pci->config[PCI_HEADER_TYPE] = 0x80;
    pci->config[PCI_INTERRUPT_LINE] = PC_SCI_IRQ;
    pci->writable[PCI_COMMAND] = PCI_COMMAND_IO;
    pci_put16(pci, PCI_STATUS, 0x0280);
    pci_put32(pci, PMBASE, 1); /* in I/O space */
    pci->writable[PMBASE] = 0xc0;
    pci->writable[PMBASE + 1] = 0xff;
    memset(pci->writable + PMBASE + 4, 0xff,
           PMREGMISC - (PMBASE + 4)); /* counters, device monitors and their ports */
    pci->config[DEVACTB_APMC] = APMC_EN;
    pci->writable[PMREGMISC] = PMREGMISC_ENABLE;
    pci_put32(pci, SMBBA, 1);
    pci->writable[SMBBA] = 0xf0;
    pci->writable[SMBBA + 1] = 0xff;
    pci->writable[SMBHSTCFG] = SMBHSTCFG_ENABLE | SMBHSTCFG_INTERRUPT;
    memset(pci->writable + SMBHSTCFG + 1, 0xff, SMBREV - (SMBHSTCFG + 1)); /* slave addresses */
    pci->config_written = pm_config_written;
}

static int pm_attach(struct device *device, struct error *err)
{
    struct piix4_pm *pm = (struct piix4_pm *)device;
    struct vm *vm = device->vm;

    pm_describe(pm);
    pm->sci = irq_router_line(&vm->irqs, PC_SCI_IRQ);
    timer_init(&pm->timer, &vm->timers, pm_timer_fire, pm);
    pm->button_source = gate_register(&vm->gate, "power-button", pm_button, pm, err);
    if (pm->button_source < 0 || pci_register(&pm->pci, pm->bus, PC_DEVFN_PIIX4_PM, err) < 0 ||
        port_map_add(&vm->ports, PC_PORT_APM_CONTROL, 2, &apm_ops, pm, device->name, err) < 0 ||
        port_map_add(&vm->ports, PC_PORT_GPE0, PC_GPE0_PORTS, &gpe_ops, pm, device->name, err) < 0)
        return -1;
    return 0;
}

static void pm_reset(struct device *device)
{
    struct piix4_pm *pm = (struct piix4_pm *)device;

    pm->pm1_status = pm->pm1_enable = pm->pm1_control = 0;
    memset(pm->pm_storage, 0, sizeof(pm->pm_storage));
    pm->gpe_status = pm->gpe_enable = 0;
    pm->apm_control = pm->apm_status = 0;
    pm->overflow_ns = pm_next_overflow(timer_now(&pm->timer));
    pm->smb_status = pm->smb_control = pm->smb_command = pm->smb_address = 0;
    memset(pm->smb_data, 0, sizeof(pm->smb_data));
    memset(pm->smb_slave, 0, sizeof(pm->smb_slave));
    memset(pm->smb_block, 0, sizeof(pm->smb_block));
    pm->smb_block_index = 0;
    pci_reset(&pm->pci);
    pm_map(pm);
    pm_update(pm);
}

static int pm_post_load(void *object, struct error *err)
{
    struct piix4_pm *pm = object;

    if ((pm->pm1_status & ~PM1_STS_VALID) || (pm->pm1_enable & ~PM1_EN_VALID) ||
        (pm->pm1_control & ~PM1_CNT_VALID))
        return error_set(err, "piix4-pm: PM1 registers have reserved bits set");
    pm_map(pm);
    return 0;
}

static const struct state_field pm_fields[] = {
    STATE_STRUCT(struct piix4_pm, pci, &pci_device_state_table, 1),
    STATE_FIELD(struct piix4_pm, pm1_status, STATE_U16, 1),
    STATE_FIELD(struct piix4_pm, pm1_enable, STATE_U16, 1),
    STATE_FIELD(struct piix4_pm, pm1_control, STATE_U16, 1),
    STATE_ARRAY(struct piix4_pm, pm_storage, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, gpe_status, STATE_U16, 1),
    STATE_FIELD(struct piix4_pm, gpe_enable, STATE_U16, 1),
    STATE_FIELD(struct piix4_pm, apm_control, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, apm_status, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, overflow_ns, STATE_U64, 1),
    STATE_STRUCT(struct piix4_pm, timer, &timer_state_table, 1),
    STATE_FIELD(struct piix4_pm, smb_status, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, smb_control, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, smb_command, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, smb_address, STATE_U8, 1),
    STATE_ARRAY(struct piix4_pm, smb_data, STATE_U8, 1),
    STATE_ARRAY(struct piix4_pm, smb_slave, STATE_U8, 1),
    STATE_ARRAY(struct piix4_pm, smb_block, STATE_U8, 1),
    STATE_FIELD(struct piix4_pm, smb_block_index, STATE_U8, 1),
    STATE_END,
};
static const struct state_table pm_state_table = {
    .name = "piix4_pm",
    .version = 1,
    .size = sizeof(struct piix4_pm),
    .fields = pm_fields,
    .post_load = pm_post_load,
};

static const struct property pm_properties[] = {
    {.name = "bus",
     .type = PROP_POINTER,
     .offset = offsetof(struct piix4_pm, bus),
     .required = true,
     .help = "PCI bus"},
    {.name = NULL},
};

const struct device_class piix4_pm_class = {
    .name = "piix4-pm",
    .help = "PIIX4 power management: ACPI registers, PM timer, SMBus host controller",
    .size = sizeof(struct piix4_pm),
    .properties = pm_properties,
    .state = &pm_state_table,
    .attach = pm_attach,
    .reset = pm_reset,
};
