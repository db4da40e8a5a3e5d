/* What is written in C (ext/echorig/_bytes.h, _crc.h and _datagram.h) against the same in the slowest and plainest way.

   The first byte of an input chooses what is tried, the others are what it is tried on. They are laid into memory that
   ends where they end, so that the sanitizer sees every byte read or written beyond.

   With libFuzzer: clang -fsanitize=fuzzer,address,undefined. With -DER_REPLAY it becomes a program of its own, for any
   compiler, that tries the files that are named to it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "_bytes.h"
#include "_crc.h"
#include "_datagram.h"

#define CHECK(true_thing) \
    do { \
        if (!(true_thing)) { \
            fprintf(stderr, "core.c:%d: not so: %s\n", __LINE__, #true_thing); \
            abort(); \
        } \
    } while (0)

/* A copy that ends where its memory ends; the caller frees it. */
static unsigned char *exactly(const unsigned char *data, size_t n)
{
    unsigned char *copy = malloc(n ? n : 1);
    CHECK(copy != NULL);
    if (n)
        memcpy(copy, data, n);
    return copy;
}

static uint32_t number(const unsigned char *data)
{
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

/* --- tags --- */

static void try_write_bits(const unsigned char *data, size_t n)
{
    unsigned char *out;
    uint32_t value;
    int i;
    if (n < 4)
        return;
    value = number(data);
    out = malloc(32);
    er_write_bits(out, value);
    for (i = 0; i < 32; i++)
        CHECK(out[i] == (value >> (31 - i) & 1 ? '\t' : ' '));
    CHECK(er_read_bits(out) == (int64_t)value);
    free(out);
}

static void try_read_bits(const unsigned char *data, size_t n)
{
    unsigned char *in, back[32];
    int64_t expected = 0, value;
    int i;
    if (n < 32)
        return;
    in = exactly(data, 32);
    for (i = 0; i < 32 && expected >= 0; i++)
        expected = in[i] == ' ' || in[i] == '\t' ? expected << 1 | (in[i] == '\t') : -1;
    value = er_read_bits(in);
    CHECK(value == expected);
    if (value >= 0) {
        er_write_bits(back, (uint32_t)value);
        CHECK(memcmp(back, in, 32) == 0);
    }
    free(in);
}

static void try_crc(const unsigned char *data, size_t n)
{
    unsigned char *in;
    uint32_t begin, expected;
    size_t place, i;
    int bit;
    if (n < 5)
        return;
    er_crc_init();
    begin = expected = number(data);
    data += 4, n -= 4;
    place = data[0] % n;
    in = exactly(data, n);
    for (i = 0; i < n; i++)
        for (expected ^= in[i], bit = 0; bit < 8; bit++)
            expected = expected >> 1 ^ (expected & 1 ? 0x82F63B78u : 0);
    CHECK(er_crc_by_table(begin, in, n) == expected);
    CHECK(er_crc_by_table(er_crc_by_table(begin, in, place), in + place, n - place) == expected);
    if (er_crc_supported()) {
        CHECK(er_crc_by_processor(begin, in, n) == expected);
        CHECK(er_crc_by_processor(er_crc_by_processor(begin, in, place), in + place, n - place) == expected);
    }
    free(in);
}

/* --- text --- */

static int is_plain(unsigned char c)
{
    return c >= 32 && c != '"' && c != '\\' && c != 127;
}

static void try_copy_plain(const unsigned char *data, size_t n)
{
    unsigned char *in = exactly(data, n), *out = malloc(n + 2);
    int expected = 1;
    size_t i;
    for (i = 0; i < n; i++)
        expected &= is_plain(data[i]);
    out[0] = out[n + 1] = 'x';
    CHECK(er_copy_plain((char *)out + 1, (const char *)in, n) == expected);
    CHECK(out[0] == 'x' && out[n + 1] == 'x');
    CHECK(n == 0 || memcmp(out + 1, in, n) == 0);
    free(in);
    free(out);
}

static void try_skip_plain(const unsigned char *data, size_t n)
{
    unsigned char *in;
    const char *text, *end;
    size_t first, i;
    if (n < 1)
        return;
    first = data[0] % n; /* it may start anywhere, at the end too */
    data++, n--;
    in = exactly(data, n);
    text = (const char *)in;
    end = er_skip_plain(text + first, text + n);
    for (i = first; i < n && is_plain(in[i]) && in[i] < 128; i++)
        ;
    CHECK(end == text + i);
    free(in);
}

/* --- numbers out of bytes --- */

static void try_mix(const unsigned char *data, size_t n)
{
    unsigned char *in, *shifted;
    uint64_t hash;
    size_t place, i;
    if (n < 4)
        return;
    place = data[0] | (size_t)data[1] << 8;
    i = 1 + data[2] % 7;
    data += 3, n -= 3;
    in = exactly(data, n);
    hash = er_mix(in, n);
    CHECK(er_mix(in, n) == hash);
    shifted = malloc(n + i);
    memcpy(shifted + i, in, n);
    CHECK(er_mix(shifted + i, n) == hash); /* wherever it stands */
    shifted[i + place % n] ^= (unsigned char)(1u << place % 8);
    CHECK(er_mix(shifted + i, n) != hash); /* each step can be undone, so no changed byte goes unseen */
    free(shifted);
    free(in);
}

static void try_load(const unsigned char *data, size_t n)
{
    unsigned char *in;
    uint64_t expected = 0, value;
    int i;
    if (n < 8)
        return;
    in = exactly(data, 8);
    value = er_load(in);
    for (i = 7; i >= 0; i--)
        expected = expected * 256 + in[i];
    CHECK(value == expected);
    free(in);
}

/* --- addresses --- */

static void try_address(const unsigned char *data, size_t n)
{
    er_address *address;
    const char *host;
    unsigned char *in;
    unsigned port, flow, scope, read_port, read_flow, read_scope;
    int six;
    socklen_t size;
    if (n < 13)
        return;
    six = data[0] & 1;
    port = number(data + 1);
    flow = number(data + 5);
    scope = number(data + 9);
    data += 13, n -= 13;
    if (n < (six ? 16u : 4u))
        return;
    in = exactly(data, six ? 16 : 4);
    address = malloc(sizeof *address);
    memset(address, 0xA5, sizeof *address);
    size = er_write_address(address, (const char *)in, six, port, flow, scope);
    CHECK(size == (six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)));
    CHECK(er_read_address(address, &host, &read_port, &read_flow, &read_scope) == six);
    CHECK(memcmp(host, in, six ? 16 : 4) == 0);
    CHECK(read_port == port % 65536);
    CHECK(read_flow == (six ? flow : 0) && read_scope == (six ? scope : 0));
    free(address);
    free(in);
}

static void try_foreign_address(const unsigned char *data, size_t n)
{
    er_address *address = calloc(1, sizeof *address);
    const char *host;
    unsigned port, flow, scope;
    int six;
    unsigned char whole[16];
    memcpy(address, data, n < sizeof *address ? n : sizeof *address);
    if (n > sizeof *address && data[n - 1] & 1)
        address->any.sa_family = data[n - 1] & 2 ? AF_INET6 : AF_INET;
    six = er_read_address(address, &host, &port, &flow, &scope);
    CHECK(six == (address->any.sa_family == AF_INET6));
    CHECK(port <= 65535);
    memcpy(whole, host, six ? 16 : 4);
    CHECK(memcmp(whole, six ? (void *)&address->six.sin6_addr : (void *)&address->four.sin_addr, six ? 16 : 4) == 0);
    free(address);
}

/* --- datagrams, over real sockets of this computer --- */

static int from = -1, to = -1, timed;
static struct sockaddr_in sender, receiver;

static int bound(struct sockaddr_in *name)
{
    socklen_t size = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(name, 0, sizeof *name);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)name, sizeof *name) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)name, &size) == 0);
    return fd;
}

static void check_datagram(const er_datagram *got, const char *buffer, size_t room, const unsigned char *data, size_t size)
{
    const char *host;
    unsigned port, flow, scope;
    CHECK(got->size == (ssize_t)(size < room ? size : room));
    CHECK(memcmp(buffer, data, (size_t)got->size) == 0);
    CHECK(got->from_size == sizeof sender);
    CHECK(er_read_address(&got->from, &host, &port, &flow, &scope) == 0);
    CHECK(port == ntohs(sender.sin_port) && memcmp(host, &sender.sin_addr, 4) == 0);
}

static void try_datagrams(const unsigned char *data, size_t n)
{
    er_datagram *got;
    char *buffers;
    size_t room, sizes[ER_MOST + 2];
    const unsigned char *begins[ER_MOST + 2];
    int sent = 0, wanted, came, error, i;
    if (n < 2)
        return;
    if (from < 0) {
        from = bound(&sender);
        to = bound(&receiver);
        timed = er_has_timestamps(to);
    }
    room = 1 + data[0];
    wanted = 1 + data[1] % ER_MOST;
    data += 2, n -= 2;
    while (n > 0 && sent < ER_MOST + 2) { /* a size, then so many bytes */
        sizes[sent] = data[0] < n - 1 ? data[0] : n - 1;
        begins[sent] = data + 1;
        CHECK(sendto(from, data + 1, sizes[sent], 0, (struct sockaddr *)&receiver, sizeof receiver)
              == (ssize_t)sizes[sent]);
        data += 1 + sizes[sent];
        n -= 1 + sizes[sent];
        sent++;
    }
    got = malloc(sizeof *got * (size_t)wanted);
    buffers = malloc(room * (size_t)wanted);
    came = er_read_many(to, buffers, room, wanted, got, 0, &error);
    CHECK(came == (sent < wanted ? sent : wanted));
    CHECK(error == 0 || (came == 0 && error == EAGAIN) || came < wanted);
    for (i = 0; i < came; i++)
        check_datagram(&got[i], buffers + (size_t)i * room, room, begins[i], sizes[i]);
    for (; i < sent; i++) { /* the others one by one */
        CHECK(er_read_one(to, buffers, room, got, 0) >= 0);
        check_datagram(got, buffers, room, begins[i], sizes[i]);
    }
    CHECK(er_read_one(to, buffers, room, got, 0) < 0 && errno == EAGAIN);
    if (sent > 0 && timed) { /* the clock of the system may be set meanwhile, but not by an hour */
        int64_t ago = er_clock() - er_received_at(to), hour = (int64_t)3600 * 1000000000;
        CHECK(-hour < ago && ago < hour);
    }
    free(buffers);
    free(got);
}

static void (*const tries[])(const unsigned char *, size_t) = {
    try_write_bits, try_read_bits, try_copy_plain,      try_skip_plain, try_mix,
    try_load,       try_address,   try_foreign_address, try_datagrams,  try_crc,
};

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n)
{
    if (n > 0)
        tries[data[0] % (sizeof tries / sizeof tries[0])](data + 1, n - 1);
    return 0;
}

#ifdef ER_REPLAY
int main(int argc, char **argv)
{
    unsigned char *data = malloc(1 << 20);
    int i, done = 0;
    for (i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        size_t n;
        if (file == NULL) {
            perror(argv[i]);
            return 2;
        }
        n = fread(data, 1, 1 << 20, file);
        fclose(file);
        fprintf(stderr, "%s\n", argv[i]); /* the last one named is the one that failed */
        LLVMFuzzerTestOneInput(data, n);
        done++;
    }
    free(data);
    printf("%d inputs\n", done);
    return 0;
}
#endif
