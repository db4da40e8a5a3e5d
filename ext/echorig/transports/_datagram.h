/* The system calls of _datagram.pyx, and the addresses as the system writes them. */
#ifndef ECHORIG_DATAGRAM_H
#define ECHORIG_DATAGRAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  /* recvmmsg */
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <sys/ioctl.h>
#endif

#define ER_MOST 64

typedef union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} er_address;

typedef struct {
    er_address from;
    socklen_t from_size;
    ssize_t size;
} er_datagram;

/* When the datagram came that was read last, by CLOCK_REALTIME in nanoseconds; 0 if the system does not say.
 *
 * The first call has the system note it from then on. That costs nothing where nobody asks, unlike control messages. */
static inline int64_t er_last_came(int fd)
{
#ifdef SIOCGSTAMPNS
    struct timespec came;
    if (ioctl(fd, SIOCGSTAMPNS, &came) == 0)
        return (int64_t)came.tv_sec * 1000000000 + came.tv_nsec;
#else
    (void)fd;
#endif
    return 0;
}

/* Whether the system says it at all, which it begins to do with this call. */
static inline int er_notes_times(int fd)
{
#ifdef SIOCGSTAMPNS
    struct timespec came;
    return ioctl(fd, SIOCGSTAMPNS, &came) == 0 || errno == ENOENT; /* nothing has come yet */
#else
    (void)fd;
    return 0;
#endif
}

/* The time by the same clock. */
static inline int64_t er_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Read one datagram of at most `room` bytes; its size, or -1 with errno. */
static ssize_t er_read_one(int fd, char *buffer, size_t room, er_datagram *got)
{
    got->from_size = sizeof got->from;
    got->size = recvfrom(fd, buffer, room, MSG_DONTWAIT, &got->from.any, &got->from_size);
    return got->size;
}

/* Read up to n datagrams, each into its own `room` bytes of `buffers`; how many came, and what ended it, or 0. */
static int er_read_many(int fd, char *buffers, size_t room, int n, er_datagram *got, int *error)
{
#ifdef __linux__
    struct mmsghdr heads[ER_MOST];
    struct iovec places[ER_MOST];
    int i, came;
    memset(heads, 0, sizeof heads[0] * (size_t)n);
    for (i = 0; i < n; i++) {
        places[i].iov_base = buffers + (size_t)i * room;
        places[i].iov_len = room;
        heads[i].msg_hdr.msg_iov = &places[i];
        heads[i].msg_hdr.msg_iovlen = 1;
        heads[i].msg_hdr.msg_name = &got[i].from;
        heads[i].msg_hdr.msg_namelen = sizeof got[i].from;
    }
    came = recvmmsg(fd, heads, (unsigned int)n, MSG_DONTWAIT, NULL);
    *error = came < 0 ? errno : 0;
    if (came < 0)
        came = 0;
    for (i = 0; i < came; i++) {
        got[i].size = (ssize_t)heads[i].msg_len;
        got[i].from_size = heads[i].msg_hdr.msg_namelen;
    }
    return came;
#else
    int came = 0;
    *error = 0;
    while (came < n && !*error) {
        if (er_read_one(fd, buffers + (size_t)came * room, room, &got[came]) < 0)
            *error = errno;
        else
            came++;
    }
    return came;
#endif
}

/* Write an address as the system wants it; its size. `host` has 4 bytes for IPv4 and 16 for IPv6. */
static socklen_t er_write_address(er_address *out, const char *host, int six, unsigned port, unsigned flow,
                                  unsigned scope)
{
    memset(out, 0, sizeof *out);
    if (six) {
        out->six.sin6_family = AF_INET6;
        out->six.sin6_port = htons((unsigned short)port);
        out->six.sin6_flowinfo = htonl(flow);
        out->six.sin6_scope_id = scope;
        memcpy(&out->six.sin6_addr, host, 16);
        return sizeof out->six;
    }
    out->four.sin_family = AF_INET;
    out->four.sin_port = htons((unsigned short)port);
    memcpy(&out->four.sin_addr, host, 4);
    return sizeof out->four;
}

/* Read an address of the system; whether it is IPv6. */
static int er_read_address(const er_address *in, const char **host, unsigned *port, unsigned *flow, unsigned *scope)
{
    if (in->any.sa_family == AF_INET6) {
        *host = (const char *)&in->six.sin6_addr;
        *port = ntohs(in->six.sin6_port);
        *flow = ntohl(in->six.sin6_flowinfo);
        *scope = in->six.sin6_scope_id;
        return 1;
    }
    *host = (const char *)&in->four.sin_addr;
    *port = ntohs(in->four.sin_port);
    *flow = *scope = 0;
    return 0;
}
#endif
