/* Key names (QEMU's QKeyCode, so that known clients fit) to scan code set 2, as in IBM's PS/2 technical reference. */
#include <stdlib.h>
#include <string.h>

#include "api/vm.h"
#include "base/text.h"

/* `code`: the byte, with 0xe000 for keys that send E0h before it. Two keys that send more have a row with code 0 and are in
   long_keys. */
static const struct {
    const char *name;
    u16 code;
} keys[] = {
    {"esc", 0x76},
    {"1", 0x16},
    {"2", 0x1e},
    {"3", 0x26},
    {"4", 0x25},
    {"5", 0x2e},
    {"6", 0x36},
    {"7", 0x3d},
    {"8", 0x3e},
    {"9", 0x46},
    {"0", 0x45},
    {"minus", 0x4e},
    {"equal", 0x55},
    {"backspace", 0x66},
    {"tab", 0x0d},
    {"q", 0x15},
    {"w", 0x1d},
    {"e", 0x24},
    {"r", 0x2d},
    {"t", 0x2c},
    {"y", 0x35},
    {"u", 0x3c},
    {"i", 0x43},
    {"o", 0x44},
    {"p", 0x4d},
    {"bracket_left", 0x54},
    {"bracket_right", 0x5b},
    {"ret", 0x5a},
    {"ctrl", 0x14},
    {"a", 0x1c},
    {"s", 0x1b},
    {"d", 0x23},
    {"f", 0x2b},
    {"g", 0x34},
    {"h", 0x33},
    {"j", 0x3b},
    {"k", 0x42},
    {"l", 0x4b},
    {"semicolon", 0x4c},
    {"apostrophe", 0x52},
    {"grave_accent", 0x0e},
    {"shift", 0x12},
    {"backslash", 0x5d},
    {"z", 0x1a},
    {"x", 0x22},
    {"c", 0x21},
    {"v", 0x2a},
    {"b", 0x32},
    {"n", 0x31},
    {"m", 0x3a},
    {"comma", 0x41},
    {"dot", 0x49},
    {"slash", 0x4a},
    {"shift_r", 0x59},
    {"kp_multiply", 0x7c},
    {"alt", 0x11},
    {"spc", 0x29},
    {"caps_lock", 0x58},
    {"f1", 0x05},
    {"f2", 0x06},
    {"f3", 0x04},
    {"f4", 0x0c},
    {"f5", 0x03},
    {"f6", 0x0b},
    {"f7", 0x83},
    {"f8", 0x0a},
    {"f9", 0x01},
    {"f10", 0x09},
    {"f11", 0x78},
    {"f12", 0x07},
    {"num_lock", 0x77},
    {"scroll_lock", 0x7e},
    {"kp_7", 0x6c},
    {"kp_8", 0x75},
    {"kp_9", 0x7d},
    {"kp_subtract", 0x7b},
    {"kp_4", 0x6b},
    {"kp_5", 0x73},
    {"kp_6", 0x74},
    {"kp_add", 0x79},
    {"kp_1", 0x69},
    {"kp_2", 0x72},
    {"kp_3", 0x7a},
    {"kp_0", 0x70},
    {"kp_decimal", 0x71},
    {"less", 0x61},
    {"kp_enter", 0xe05a},
    {"ctrl_r", 0xe014},
    {"kp_divide", 0xe04a},
    {"alt_r", 0xe011},
    {"home", 0xe06c},
    {"up", 0xe075},
    {"pgup", 0xe07d},
    {"left", 0xe06b},
    {"right", 0xe074},
    {"end", 0xe069},
    {"down", 0xe072},
    {"pgdn", 0xe07a},
    {"insert", 0xe070},
    {"delete", 0xe071},
    {"meta_l", 0xe01f},
    {"meta_r", 0xe027},
    {"menu", 0xe02f},
    {"print", 0},
    {"pause", 0},
};

static const struct {
    const char *name;
    u8 make_len, break_len;
    u8 make_codes[8], break_codes[6];
} long_keys[] = {
    {"print", 4, 6, {0xe0, 0x12, 0xe0, 0x7c}, {0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12}},
    {"pause", 8, 0, {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77}, {0}},
};

enum { BREAK = 0xf0, KEYS_AT_ONCE = 16, KEY_BYTES_MAX = 8 };

static unsigned key_codes(unsigned key, bool release, u8 *codes)
{
    unsigned n = 0;

    for (unsigned i = 0; !keys[key].code && i < ARRAY_SIZE(long_keys); i++) {
        if (strcmp(long_keys[i].name, keys[key].name))
            continue;
        n = release ? long_keys[i].break_len : long_keys[i].make_len;
        memcpy(codes, release ? long_keys[i].break_codes : long_keys[i].make_codes, n);
        return n;
    }
    if (keys[key].code >> 8)
        codes[n++] = (u8)(keys[key].code >> 8);
    if (release)
        codes[n++] = BREAK;
    codes[n++] = (u8)keys[key].code;
    return n;
}

static int key_find(const char *name, struct error *err)
{
    struct text_nearest nearest = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        if (!strcmp(keys[i].name, name))
            return (int)i;
        text_nearest_offer(&nearest, name, keys[i].name);
    }
    if (nearest.best)
        return error_set(err, "there is no key '%s'; is '%s' meant?", name, nearest.best);
    return error_set(err, "there is no key '%s': keys have QEMU's names, as ctrl, ret, spc, f1", name);
}

int keys_to_scancodes(const char *text, u8 *codes, size_t max, struct error *err)
{
    char copy[256], *rest = copy;
    unsigned pressed[KEYS_AT_ONCE], count = 0;
    u8 bytes[KEY_BYTES_MAX];
    size_t len = 0;

    if (strlen(text) >= sizeof(copy))
        return error_set(err, "too many keys at once");
    strcpy(copy, text);
    while (rest) {
        int key = key_find(strsep(&rest, "-"), err);
        if (key < 0)
            return -1;
        if (count == KEYS_AT_ONCE)
            return error_set(err, "too many keys at once: %d can be pressed", KEYS_AT_ONCE);
        pressed[count++] = (unsigned)key;
    }
    /* Down in the order of the names, up in the reverse. */
    for (unsigned i = 0; i < 2 * count; i++) {
        bool release = i >= count;
        unsigned n = key_codes(pressed[release ? 2 * count - 1 - i : i], release, bytes);
        if (len + n > max)
            return error_set(err, "too many keys at once");
        memcpy(codes + len, bytes, n);
        len += n;
    }
    return (int)len;
}
