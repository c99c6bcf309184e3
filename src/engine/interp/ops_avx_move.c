/*
 * AVX and AVX2: moves of registers and parts of them, broadcasts, permutations across lanes, masked moves, gathers.
 */
#include "engine/interp/ops_avx.h"

/* ---- whole registers: one set of handlers for all types ---- */

AVX_SHAPE(move, b)

static void load_aligned_128_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set_low(s, i->reg, sse_load(s, c, i, 16));
    NEXT;
}
static void load_aligned_256_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set(s, i->reg, load256(c, i, sse_aligned_ea(s, c, i, 32, MEM_READ)));
    NEXT;
}
static void move_back_128_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set_low(s, i->rm, xmm_get(s, i->reg));
    NEXT;
}
static void move_back_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set(s, i->rm, ymm_get(s, i->reg));
    NEXT;
}
#define STORE(name, bytes, address)                                                                          \
    static void name(struct vcpu_state *s, struct interp *c, const struct cell *i)                           \
    {                                                                                                        \
        store_bytes(c, i, address, s->vec[i->reg], bytes);                                                   \
        NEXT;                                                                                                \
    }
STORE(store_128_m, 16, interp_ea(s, c, i, 16, MEM_WRITE))
STORE(store_256_m, 32, interp_ea(s, c, i, 32, MEM_WRITE))
STORE(store_aligned_128_m, 16, sse_aligned_ea(s, c, i, 16, MEM_WRITE))
STORE(store_aligned_256_m, 32, sse_aligned_ea(s, c, i, 32, MEM_WRITE))

/* Handlers for both lengths, of registers and memory. */
#define LENGTHS(name, suffix)                                                                                \
    {                                                                                                        \
        name##_128_##suffix, name##_256_##suffix                                                             \
    }
#define ROW_LENGTHS(op, from_r, from_m) {OP_##op, ROW_VEX_L, LENGTHS(from_r, r), LENGTHS(from_m, m)},
#define ROW_LENGTHS_M(op, from_m)       {OP_##op, ROW_VEX_L, .mem = LENGTHS(from_m, m)},

static void vzeroupper(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    unsigned count = (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 16 : 8;

    for (unsigned n = 0; n < count; n++)
        *(xmm_unaligned *)(s->vec[n] + 16) = (xmm){0, 0};
    NEXT;
}
static void vzeroall(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    unsigned count = (c->mode & MODE_CODE_MASK) == MODE_CODE64 ? 16 : 8;

    for (unsigned n = 0; n < count; n++)
        ymm_set_low(s, n, (xmm){0, 0});
    NEXT;
}

/* ---- parts ---- */

AVX_SHAPE_128_M(movss, 4, b)
AVX_SHAPE_128_M(movsd, 8, b)
static ALWAYS_INLINE xmm merge32(xmm a, xmm b)
{
    return (xmm){(a[0] & ~0xffffffffull) | (u32)b[0], a[1]};
}
AVX_SHAPE_128_R(movss_merge, merge32(a, b))
AVX_SHAPE_128_R(movsd_merge, ((xmm){b[0], a[1]}))
/* From reg to rm. */
static void movss_merge_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set_low(s, i->rm, merge32(xmm_get(s, i->vvvv), xmm_get(s, i->reg)));
    NEXT;
}
static void movsd_merge_back_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    ymm_set_low(s, i->rm, (xmm){xmm_get64(s, i->reg), xmm_get(s, i->vvvv)[1]});
    NEXT;
}
AVX_SHAPE_128_M(movlps, 8, ((xmm){b[0], a[1]}))
AVX_SHAPE_128_M(movhps, 8, ((xmm){a[0], b[0]}))
AVX_SHAPE_128_R(movhlps, ((xmm){b[1], a[1]}))
AVX_SHAPE_128_R(movlhps, ((xmm){a[0], b[0]}))

static void insert128_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct ymm v = ymm_get(s, i->vvvv);
    xmm b = xmm_get(s, i->rm);

    ymm_set(s, i->reg, i->imm & 1 ? (struct ymm){v.lo, b} : (struct ymm){b, v.hi});
    NEXT;
}
static void insert128_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm b = avx_load(s, c, i, 16);
    struct ymm v = ymm_get(s, i->vvvv);

    ymm_set(s, i->reg, i->imm & 1 ? (struct ymm){v.lo, b} : (struct ymm){b, v.hi});
    NEXT;
}
static void extract128_r(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    struct ymm v = ymm_get(s, i->reg);

    ymm_set_low(s, i->rm, i->imm & 1 ? v.hi : v.lo);
    NEXT;
}
static void extract128_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    store_bytes(c, i, interp_ea(s, c, i, 16, MEM_WRITE), s->vec[i->reg] + (i->imm & 1) * 16, 16);
    NEXT;
}

/* ---- broadcasts ---- */

#define BROADCAST(name, bytes, expression)                                                                   \
    AVX_SHAPE_128(name, bytes, expression)                                                                   \
    static void name##_256_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm b = xmm_get(s, i->rm), r = expression;                                                           \
                                                                                                             \
        ymm_set(s, i->reg, (struct ymm){r, r});                                                              \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_256_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                   \
    {                                                                                                        \
        xmm b = avx_load(s, c, i, bytes), r = expression;                                                    \
                                                                                                             \
        ymm_set(s, i->reg, (struct ymm){r, r});                                                              \
        NEXT;                                                                                                \
    }
static ALWAYS_INLINE xmm twice(u64 v)
{
    return (xmm){v, v};
}
BROADCAST(broadcast8, 1, twice((u8)b[0] * 0x0101010101010101ull))
BROADCAST(broadcast16, 2, twice((u16)b[0] * 0x0001000100010001ull))
BROADCAST(broadcast32, 4, twice((u32)b[0] * 0x0000000100000001ull))
BROADCAST(broadcast64, 8, twice(b[0]))
static void broadcast128_m(struct vcpu_state *s, struct interp *c, const struct cell *i)
{
    xmm b = avx_load(s, c, i, 16);

    ymm_set(s, i->reg, (struct ymm){b, b});
    NEXT;
}

/* ---- permutations across lanes ---- */

union ymm_parts {
    struct ymm v;
    u32 d[8];
    u64 q[4];
};
#define PERMUTE(name, expression)                                                                            \
    static void name##_r(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        struct ymm x = ymm_get(s, i->vvvv), y = ymm_get(s, i->rm);                                           \
                                                                                                             \
        ymm_set(s, i->reg, expression);                                                                      \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)                       \
    {                                                                                                        \
        struct ymm y = avx_load_ymm(s, c, i), x = ymm_get(s, i->vvvv);                                       \
                                                                                                             \
        ymm_set(s, i->reg, expression);                                                                      \
        NEXT;                                                                                                \
    }
static struct ymm permute32(struct ymm control, struct ymm from)
{
    union ymm_parts x = {control}, y = {from}, r;

    for (unsigned n = 0; n < 8; n++)
        r.d[n] = y.d[x.d[n] & 7];
    return r.v;
}
static struct ymm permute64(struct ymm from, u8 imm)
{
    union ymm_parts y = {from}, r;

    for (unsigned n = 0; n < 4; n++)
        r.q[n] = y.q[imm >> 2 * n & 3];
    return r.v;
}
/* One of four lanes, or zero. */
static xmm choose_lane(struct ymm x, struct ymm y, u8 control)
{
    if (control & 8)
        return (xmm){0, 0};
    return control & 2 ? control & 1 ? y.hi : y.lo : control & 1 ? x.hi : x.lo;
}
PERMUTE(permute32, permute32(x, y))
PERMUTE(permute64, ((void)x, permute64(y, (u8)i->imm)))
PERMUTE(permute128, ((struct ymm){choose_lane(x, y, (u8)i->imm), choose_lane(x, y, (u8)i->imm >> 4)}))

/*
 * ---- masked moves ----
 *
 * Element n is loaded or stored where the top bit of element n of the mask (vvvv) is set; others are zero or left alone, and
 * nothing that their addresses would raise is raised. The segment is asked for all elements before the first is touched,
 * and a store asks the paging structures likewise.
 */

static bool mask_bit(const struct vcpu_state *s, unsigned reg, unsigned n, unsigned size)
{
    return s->vec[reg][(n + 1) * size - 1] & 0x80;
}
/* Linear addresses of the `count` elements that the mask selects. An operand that runs over the end of a
   16- or 32-bit offset does not wrap. */
static void masked_addresses(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned count,
                             unsigned size, enum mem_access access, u64 lin[8])
{
    u64 offset = interp_ea_offset(c, i);

    for (unsigned n = 0; n < count; n++)
        if (mask_bit(s, i->vvvv, n, size))
            lin[n] = interp_linear(c, i, i->seg, offset + n * size, size, access);
}
static void masked_load(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned bytes,
                        unsigned size)
{
    u8 value[32] = {0};
    u64 lin[8];

    masked_addresses(s, c, i, bytes / size, size, MEM_READ, lin);
    for (unsigned n = 0; n < bytes / size; n++)
        if (mask_bit(s, i->vvvv, n, size))
            load_bytes(c, i, lin[n], value + n * size, size);
    memcpy(s->vec[i->reg], value, 32);
}
/* On Intel's CPUs a fault of the second page tells the last byte that is stored. */
static void masked_store(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned bytes,
                         unsigned size)
{
    unsigned count = bytes / size, first = 0;
    u64 lin[8], last = 0;

    masked_addresses(s, c, i, count, size, MEM_WRITE, lin);
    while (first < count && !mask_bit(s, i->vvvv, first, size))
        first++;
    if (first == count)
        return;
    for (unsigned n = first; n < count; n++)
        if (mask_bit(s, i->vvvv, n, size))
            last = lin[n] + size - 1;
    if ((c->mode & MODE_CODE_MASK) != MODE_CODE64)
        last = (u32)last;
    interp_probe(c, i, lin[first], 1, MEM_WRITE);
    if ((lin[first] ^ last) & PAGE_MASK)
        interp_probe(c, i, last, 1, MEM_WRITE);
    for (unsigned n = first; n < count; n++)
        if (mask_bit(s, i->vvvv, n, size))
            store_bytes(c, i, lin[n], s->vec[i->reg] + n * size, size);
}
#define MASKED(name, bytes, size)                                                                            \
    static void masked_load##name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)          \
    {                                                                                                        \
        masked_load(s, c, i, bytes, size);                                                                   \
        NEXT;                                                                                                \
    }                                                                                                        \
    static void masked_store##name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)         \
    {                                                                                                        \
        masked_store(s, c, i, bytes, size);                                                                  \
        NEXT;                                                                                                \
    }
MASKED(32_128, 16, 4)
MASKED(32_256, 32, 4)
MASKED(64_128, 16, 8)
MASKED(64_256, 32, 8)

/*
 * ---- gathers ----
 *
 * Element after element, each with its index; one that is loaded clears its element of the mask, so that after a fault the
 * instruction goes on where it was (SDM 2C VGATHERDPS). What else a fault leaves is as on Intel's CPUs: every element of the
 * mask is all ones or zeros, also those that no index belongs to, and with VEX.128 the upper half of the destination is
 * clear once an element is loaded.
 */

/* `count` elements of `size` bytes, with indices of `index_size`, in vectors of `bytes`. */
static void gather(struct vcpu_state *s, struct interp *c, const struct cell *i, unsigned bytes,
                   unsigned count, unsigned size, unsigned index_size)
{
    u8 *to = s->vec[i->reg], *mask = s->vec[i->vvvv];

    for (unsigned n = 0; n < bytes / size; n++)
        memset(mask + n * size, mask_bit(s, i->vvvv, n, size) ? 0xff : 0, size);
    memset(mask + bytes, 0, 32 - bytes);
    for (unsigned n = 0; n < count; n++) {
        u64 offset = s->gpr[i->base] + (u64)i->disp, index;

        if (!mask[n * size])
            continue;
        if (index_size == 4)
            index = (u64)(i64)((const i32 *)s->vec[i->index])[n];
        else
            index = ((const u64 *)s->vec[i->index])[n];
        offset += index << i->scale;
        if (i->flags & CELL_ADDR32)
            offset = (u32)offset;
        load_bytes(c, i, interp_linear(c, i, i->seg, offset, size, MEM_READ), to + n * size, size);
        memset(mask + n * size, 0, size);
        c->gathered = true;
        if (bytes == 16)
            memset(to + 16, 0, 16);
    }
    c->gathered = false;
    memset(to + count * size, 0, 32 - count * size);
    memset(mask, 0, 32);
}
#define GATHER(name, bytes, count, size, index_size)                                                         \
    static void gather##name##_m(struct vcpu_state *s, struct interp *c, const struct cell *i)               \
    {                                                                                                        \
        gather(s, c, i, bytes, count, size, index_size);                                                     \
        NEXT;                                                                                                \
    }
GATHER(dd_128, 16, 4, 4, 4)
GATHER(dd_256, 32, 8, 4, 4)
GATHER(dq_128, 16, 2, 8, 4)
GATHER(dq_256, 32, 4, 8, 4)
GATHER(qd_128, 16, 2, 4, 8)
GATHER(qd_256, 32, 4, 4, 8)
GATHER(qq_128, 16, 2, 8, 8)
GATHER(qq_256, 32, 4, 8, 8)

/* clang-format off */
const struct interp_row interp_avx_move_rows[] = {
    ROW_LENGTHS(VMOVUPS_Vps_Wps, move, move)
    ROW_LENGTHS(VMOVUPD_Vpd_Wpd, move, move)
    ROW_LENGTHS(VMOVDQU_Vx_Wx, move, move)
    ROW_LENGTHS(VMOVAPS_Vps_Wps, move, load_aligned)
    ROW_LENGTHS(VMOVAPD_Vpd_Wpd, move, load_aligned)
    ROW_LENGTHS(VMOVDQA_Vx_Wx, move, load_aligned)
    ROW_LENGTHS(VMOVUPS_Wps_Vps, move_back, store)
    ROW_LENGTHS(VMOVUPD_Wpd_Vpd, move_back, store)
    ROW_LENGTHS(VMOVDQU_Wx_Vx, move_back, store)
    ROW_LENGTHS(VMOVAPS_Wps_Vps, move_back, store_aligned)
    ROW_LENGTHS(VMOVAPD_Wpd_Vpd, move_back, store_aligned)
    ROW_LENGTHS(VMOVDQA_Wx_Vx, move_back, store_aligned)
    ROW_LENGTHS_M(VLDDQU_Vx_Mx, move)
    ROW_M(VMOVNTDQA_Vdq_Mdq, load_aligned_128_m)
    ROW_M(VMOVNTDQA_Vqq_Mqq, load_aligned_256_m)
    ROW_LENGTHS_M(VMOVNTPS_Mps_Vps, store_aligned)
    ROW_LENGTHS_M(VMOVNTPD_Mpd_Vpd, store_aligned)
    ROW_LENGTHS_M(VMOVNTDQ_Mx_Vx, store_aligned)
    ROW_R(VZEROUPPER, vzeroupper)
    ROW_R(VZEROALL, vzeroall)

    ROW_M(VMOVSS_Vss_Mss, movss_128_m)
    ROW_M(VMOVSD_Vsd_Msd, movsd_128_m)
    ROW_R(VMOVSS_Vss_Hss_Uss, movss_merge_128_r)
    ROW_R(VMOVSD_Vsd_Hsd_Usd, movsd_merge_128_r)
    ROW_R(VMOVSS_Uss_Hss_Vss, movss_merge_back_r)
    ROW_R(VMOVSD_Usd_Hsd_Vsd, movsd_merge_back_r)
    ROW_M(VMOVLPS_Vq_Hq_Mq, movlps_128_m)
    ROW_M(VMOVLPD_Vq_Hq_Mq, movlps_128_m)
    ROW_M(VMOVHPS_Vq_Hq_Mq, movhps_128_m)
    ROW_M(VMOVHPD_Vq_Hq_Mq, movhps_128_m)
    ROW_R(VMOVHLPS_Vq_Hq_Uq, movhlps_128_r)
    ROW_R(VMOVLHPS_Vq_Hq_Uq, movlhps_128_r)
    ROW_RM(VINSERTF128_Vqq_Hqq_Wdq_Ib, insert128_r, insert128_m)
    ROW_RM(VINSERTI128_Vqq_Hqq_Wdq_Ib, insert128_r, insert128_m)
    ROW_RM(VEXTRACTF128_Wdq_Vqq_Ib, extract128_r, extract128_m)
    ROW_RM(VEXTRACTI128_Wdq_Vqq_Ib, extract128_r, extract128_m)

    ROW_L(VPBROADCASTB_Vx_Wb, broadcast8)
    ROW_L(VPBROADCASTW_Vx_Ww, broadcast16)
    ROW_L(VPBROADCASTD_Vx_Wd, broadcast32)
    ROW_L(VPBROADCASTQ_Vx_Wq, broadcast64)
    ROW_LENGTHS_M(VBROADCASTSS_Vx_Md, broadcast32)
    {OP_VBROADCASTSS_Vx_Udq, ROW_VEX_L, .reg = LENGTHS(broadcast32, r)},
    ROW_M(VBROADCASTSD_Vqq_Mq, broadcast64_256_m)
    ROW_R(VBROADCASTSD_Vqq_Udq, broadcast64_256_r)
    ROW_M(VBROADCASTF128_Vqq_Mdq, broadcast128_m)
    ROW_M(VBROADCASTI128_Vqq_Mdq, broadcast128_m)

    ROW_RM(VPERMD_Vqq_Hqq_Wqq, permute32_r, permute32_m)
    ROW_RM(VPERMPS_Vqq_Hqq_Wqq, permute32_r, permute32_m)
    ROW_RM(VPERMQ_Vqq_Wqq_Ib, permute64_r, permute64_m)
    ROW_RM(VPERMPD_Vqq_Wqq_Ib, permute64_r, permute64_m)
    ROW_RM(VPERM2F128_Vqq_Hqq_Wqq_Ib, permute128_r, permute128_m)
    ROW_RM(VPERM2I128_Vqq_Hqq_Wqq_Ib, permute128_r, permute128_m)

    ROW_LENGTHS_M(VMASKMOVPS_Vx_Hx_Mx, masked_load32)
    ROW_LENGTHS_M(VMASKMOVPD_Vx_Hx_Mx, masked_load64)
    ROW_LENGTHS_M(VPMASKMOVD_Vx_Hx_Mx, masked_load32)
    ROW_LENGTHS_M(VPMASKMOVQ_Vx_Hx_Mx, masked_load64)
    ROW_LENGTHS_M(VMASKMOVPS_Mx_Hx_Vx, masked_store32)
    ROW_LENGTHS_M(VMASKMOVPD_Mx_Hx_Vx, masked_store64)
    ROW_LENGTHS_M(VPMASKMOVD_Mx_Hx_Vx, masked_store32)
    ROW_LENGTHS_M(VPMASKMOVQ_Mx_Hx_Vx, masked_store64)

    ROW_LENGTHS_M(VPGATHERDD_Vx_Md_Hx, gatherdd)
    ROW_LENGTHS_M(VPGATHERDQ_Vx_Mq_Hx, gatherdq)
    ROW_LENGTHS_M(VPGATHERQD_Vx_Md_Hx, gatherqd)
    ROW_LENGTHS_M(VPGATHERQQ_Vx_Mq_Hx, gatherqq)
    ROW_LENGTHS_M(VGATHERDPS_Vx_Md_Hx, gatherdd)
    ROW_LENGTHS_M(VGATHERDPD_Vx_Mq_Hx, gatherdq)
    ROW_LENGTHS_M(VGATHERQPS_Vx_Md_Hx, gatherqd)
    ROW_LENGTHS_M(VGATHERQPD_Vx_Mq_Hx, gatherqq)
    ROW_LAST,
};
