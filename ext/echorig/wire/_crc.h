/* CRC-32C (Castagnoli), as in RFC 3720, appendix B.4: by the processor's own instruction where it has one. */
#ifndef ECHORIG_CRC_H
#define ECHORIG_CRC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "_bytes.h"

#define ER_CRC_POLYNOMIAL 0x82F63B78u /* reflected */

static uint32_t er_crc_table[8][256];

static void er_crc_init(void)
{
    uint32_t i, j, crc;
    for (i = 0; i < 256; i++) {
        crc = i;
        for (j = 0; j < 8; j++)
            crc = crc >> 1 ^ (crc & 1 ? ER_CRC_POLYNOMIAL : 0);
        er_crc_table[0][i] = crc;
    }
    for (i = 0; i < 256; i++)
        for (j = 1; j < 8; j++)
            er_crc_table[j][i] = er_crc_table[j - 1][i] >> 8 ^ er_crc_table[0][er_crc_table[j - 1][i] & 255];
}

/* Eight bytes at a time ("slicing-by-8", Kounavis and Berry, 2005). */
static uint32_t er_crc_by_table(uint32_t crc, const unsigned char *in, size_t n)
{
    for (; n >= 8; in += 8, n -= 8) {
        uint64_t word = er_load(in) ^ crc;
        crc = er_crc_table[7][word & 255] ^ er_crc_table[6][word >> 8 & 255] ^ er_crc_table[5][word >> 16 & 255]
            ^ er_crc_table[4][word >> 24 & 255] ^ er_crc_table[3][word >> 32 & 255]
            ^ er_crc_table[2][word >> 40 & 255] ^ er_crc_table[1][word >> 48 & 255] ^ er_crc_table[0][word >> 56];
    }
    for (; n; in++, n--)
        crc = crc >> 8 ^ er_crc_table[0][(crc ^ *in) & 255];
    return crc;
}

#if (defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))) || (defined(_MSC_VER) && defined(_M_X64))
#include <nmmintrin.h>
#ifdef _MSC_VER
#include <intrin.h>
#define ER_SSE42
static int er_crc_supported(void)
{
    int registers[4];
    __cpuid(registers, 1);
    return registers[2] >> 20 & 1;
}
#else
#define ER_SSE42 __attribute__((target("sse4.2")))
static int er_crc_supported(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#endif
ER_SSE42 static uint32_t er_crc_by_processor(uint32_t crc, const unsigned char *in, size_t n)
{
    uint64_t wide = crc;
    for (; n >= 8; in += 8, n -= 8)
        wide = _mm_crc32_u64(wide, er_load(in));
    crc = (uint32_t)wide;
    for (; n; in++, n--)
        crc = _mm_crc32_u8(crc, *in);
    return crc;
}
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
static int er_crc_supported(void)
{
    return 1;
}
static uint32_t er_crc_by_processor(uint32_t crc, const unsigned char *in, size_t n)
{
    for (; n >= 8; in += 8, n -= 8)
        crc = __crc32cd(crc, er_load(in));
    for (; n; in++, n--)
        crc = __crc32cb(crc, *in);
    return crc;
}
#else
static int er_crc_supported(void)
{
    return 0;
}
#define er_crc_by_processor er_crc_by_table
#endif
#endif
