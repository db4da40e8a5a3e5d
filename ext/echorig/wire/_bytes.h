/* What the compiled modules do with bytes eight at a time. */
#ifndef ECHORIG_BYTES_H
#define ECHORIG_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ER_SPACES 0x2020202020202020u
#define ER_ONES 0x0101010101010101u
#define ER_FLIP 0x29u /* makes a tab of a space */

static inline uint64_t er_load(const unsigned char *in)
{
    return (uint64_t)in[0] | (uint64_t)in[1] << 8 | (uint64_t)in[2] << 16 | (uint64_t)in[3] << 24
        | (uint64_t)in[4] << 32 | (uint64_t)in[5] << 40 | (uint64_t)in[6] << 48 | (uint64_t)in[7] << 56;
}

/* Write 32 bits, the most significant first, each as a space (0) or a tab (1). */
static inline void er_write_bits(unsigned char *out, uint32_t value)
{
    static const char four[16][5] = {
        "    ", "   \t", "  \t ", "  \t\t", " \t  ", " \t \t", " \t\t ", " \t\t\t",
        "\t   ", "\t  \t", "\t \t ", "\t \t\t", "\t\t  ", "\t\t \t", "\t\t\t ", "\t\t\t\t",
    };
    int i;
    for (i = 0; i < 8; i++)
        memcpy(out + 4 * i, four[value >> (28 - 4 * i) & 15u], 4);
}

/* Whether eight bytes are all spaces and tabs. */
static inline int er_is_blank(const unsigned char *in)
{
    uint64_t flipped = er_load(in) ^ ER_SPACES;
    return flipped == (flipped & ER_ONES) * ER_FLIP;
}

/* Read what er_write_bits wrote; -1 if a byte is neither a space nor a tab. */
static inline int64_t er_read_bits(const unsigned char *in)
{
    uint64_t value = 0, wrong = 0;
    int i;
    for (i = 0; i < 4; i++) {
        uint64_t flipped = er_load(in + 8 * i) ^ ER_SPACES, bits = flipped & ER_ONES;
        wrong |= flipped ^ bits * ER_FLIP;
        value = value << 8 | (bits * 0x8040201008040201u) >> 56;
    }
    return wrong ? -1 : (int64_t)value;
}

/* Copy ASCII text that stands in JSON as it is; 0 if there is something in it that must be escaped. */
static inline int er_copy_plain(char *out, const char *text, size_t n)
{
    unsigned wrong = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        wrong |= (unsigned)(c < 32) | (unsigned)(c == 34) | (unsigned)(c == 92) | (unsigned)(c == 127);
        out[i] = (char)c;
    }
    return !wrong;
}

/* Return where text ends that stands in JSON as it is and is ASCII; `end` at the latest. */
static inline const char *er_skip_plain(const char *text, const char *end)
{
    while (text < end && (unsigned char)(*text - 32) < 95 && *text != 34 && *text != 92)
        text++;
    return text;
}

/* Mix bytes into 64 bits, to tell frames apart that come from one peer: quick, and not meant against an attacker. */
static inline uint64_t er_mix(const unsigned char *in, size_t n)
{
    uint64_t hash = 0x9E3779B97F4A7C15u ^ n;
    for (; n >= 8; in += 8, n -= 8) {
        hash = (hash ^ er_load(in)) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    for (; n; in++, n--)
        hash = (hash ^ *in) * 0x100000001B3u;
    return hash ^ hash >> 29;
}
#endif
