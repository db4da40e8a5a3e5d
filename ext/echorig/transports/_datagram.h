/* System calls and socket addresses for _datagram.pyx. */
#ifndef ECHORIG_DATAGRAM_H
#define ECHORIG_DATAGRAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  /* recvmmsg, in6_pktinfo */
#endif
#ifdef __APPLE__
#define __APPLE_USE_RFC_3542  /* IPV6_PKTINFO */
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

/* The address of this computer that a datagram was sent to, with `family` AF_INET or AF_INET6, or 0 if it is unknown. */
typedef struct {
    int family;
    unsigned int interface; /* of a link-local address, else 0: the system chooses the interface */
    union {
        struct in_addr four;
        struct in6_addr six;
    } addr;
} er_local;

typedef struct {
    er_address from;
    socklen_t from_size;
    ssize_t size;
    er_local local;
} er_datagram;

#if defined(IP_PKTINFO) && defined(IPV6_PKTINFO) && defined(IPV6_RECVPKTINFO)
#define ER_HAS_PKTINFO 1
/* Room for the control message of a received or sent datagram: struct in6_pktinfo is the larger one (RFC 3542). */
typedef union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
} er_control;
#else
#define ER_HAS_PKTINFO 0
#endif

/* Have the system report the local address of each datagram; return whether it does. */
static inline int er_ask_local(int fd, int six)
{
#if ER_HAS_PKTINFO
    int on = 1;
    return setsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof on) == 0;
#else
    (void)fd, (void)six;
    return 0;
#endif
}

#if ER_HAS_PKTINFO
static inline void er_read_local(struct msghdr *head, er_local *local)
{
    struct cmsghdr *control;
    memset(local, 0, sizeof *local); /* it is compared byte by byte */
    for (control = CMSG_FIRSTHDR(head); control; control = CMSG_NXTHDR(head, control)) {
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(control), sizeof info);
            local->family = AF_INET;
            local->addr.four = info.ipi_spec_dst;
        } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(control), sizeof info);
            if (IN6_IS_ADDR_MULTICAST(&info.ipi6_addr))
                return; /* no address to send from */
            local->family = AF_INET6;
            local->addr.six = info.ipi6_addr;
            if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
                local->interface = info.ipi6_ifindex;
        }
    }
}
#endif

/* Send a datagram from a local address; return its size, or -1 with errno. */
static inline ssize_t er_send_from(int fd, const char *data, size_t size, const struct sockaddr *to, socklen_t to_size,
                            const er_local *local)
{
#if ER_HAS_PKTINFO
    struct iovec place = {(void *)data, size};
    struct msghdr head;
    er_control control;
    struct cmsghdr *first;
    memset(&head, 0, sizeof head);
    memset(&control, 0, sizeof control);
    head.msg_iov = &place;
    head.msg_iovlen = 1;
    head.msg_name = (void *)to;
    head.msg_namelen = to_size;
    head.msg_control = control.bytes;
    head.msg_controllen = sizeof control.bytes;
    first = CMSG_FIRSTHDR(&head);
    if (local->family == AF_INET) {
        struct in_pktinfo info;
        memset(&info, 0, sizeof info);
        info.ipi_spec_dst = local->addr.four;
        first->cmsg_level = IPPROTO_IP;
        first->cmsg_type = IP_PKTINFO;
        first->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(first), &info, sizeof info);
        head.msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in6_pktinfo info;
        memset(&info, 0, sizeof info);
        info.ipi6_addr = local->addr.six;
        info.ipi6_ifindex = local->interface;
        first->cmsg_level = IPPROTO_IPV6;
        first->cmsg_type = IPV6_PKTINFO;
        first->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(first), &info, sizeof info);
        head.msg_controllen = CMSG_SPACE(sizeof info);
    }
    return sendmsg(fd, &head, MSG_DONTWAIT);
#else
    (void)local;
    return sendto(fd, data, size, MSG_DONTWAIT, to, to_size);
#endif
}

/* Return when the datagram that was read last was received, by CLOCK_REALTIME in nanoseconds; 0 if that is unknown.
 *
 * The first call turns the timestamps on. Unlike control messages they cost nothing for datagrams not asked about. */
static inline int64_t er_received_at(int fd)
{
#ifdef SIOCGSTAMPNS
    struct timespec stamp;
    if (ioctl(fd, SIOCGSTAMPNS, &stamp) == 0)
        return (int64_t)stamp.tv_sec * 1000000000 + stamp.tv_nsec;
#else
    (void)fd;
#endif
    return 0;
}

/* Turn the timestamps on; return whether the system has them. */
static inline int er_has_timestamps(int fd)
{
#ifdef SIOCGSTAMPNS
    struct timespec stamp;
    return ioctl(fd, SIOCGSTAMPNS, &stamp) == 0 || errno == ENOENT; /* nothing was received yet */
#else
    (void)fd;
    return 0;
#endif
}

/* Return the time of the same clock. */
static inline int64_t er_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Read one datagram of at most `room` bytes, and its local address if asked; return its size, or -1 with errno. */
static ssize_t er_read_one(int fd, char *buffer, size_t room, er_datagram *got, int with_local)
{
#if ER_HAS_PKTINFO
    if (with_local) {
        struct iovec place = {buffer, room};
        struct msghdr head;
        er_control control;
        memset(&head, 0, sizeof head);
        head.msg_iov = &place;
        head.msg_iovlen = 1;
        head.msg_name = &got->from;
        head.msg_namelen = sizeof got->from;
        head.msg_control = control.bytes;
        head.msg_controllen = sizeof control.bytes;
        got->size = recvmsg(fd, &head, MSG_DONTWAIT);
        if (got->size >= 0) {
            got->from_size = head.msg_namelen;
            er_read_local(&head, &got->local);
        }
        return got->size;
    }
#endif
    got->local.family = 0;
    got->from_size = sizeof got->from;
    got->size = recvfrom(fd, buffer, room, MSG_DONTWAIT, &got->from.any, &got->from_size);
    return got->size;
}

/* Read up to n datagrams, each into its own `room` bytes of `buffers`; return their number, and set the error or 0. */
static int er_read_many(int fd, char *buffers, size_t room, int n, er_datagram *got, int with_local,
                        int *error)
{
#ifdef __linux__
    er_control controls[ER_MOST];
    struct mmsghdr heads[ER_MOST];
    struct iovec places[ER_MOST];
    int i, n_read;
    memset(heads, 0, sizeof heads[0] * (size_t)n);
    for (i = 0; i < n; i++) {
        places[i].iov_base = buffers + (size_t)i * room;
        places[i].iov_len = room;
        heads[i].msg_hdr.msg_iov = &places[i];
        heads[i].msg_hdr.msg_iovlen = 1;
        heads[i].msg_hdr.msg_name = &got[i].from;
        heads[i].msg_hdr.msg_namelen = sizeof got[i].from;
        if (with_local) {
            heads[i].msg_hdr.msg_control = controls[i].bytes;
            heads[i].msg_hdr.msg_controllen = sizeof controls[i].bytes;
        }
    }
    n_read = recvmmsg(fd, heads, (unsigned int)n, MSG_DONTWAIT, NULL);
    *error = n_read < 0 ? errno : 0;
    if (n_read < 0)
        n_read = 0;
    for (i = 0; i < n_read; i++) {
        got[i].size = (ssize_t)heads[i].msg_len;
        got[i].from_size = heads[i].msg_hdr.msg_namelen;
        got[i].local.family = 0;
        if (with_local)
            er_read_local(&heads[i].msg_hdr, &got[i].local);
    }
    return n_read;
#else
    int n_read = 0;
    *error = 0;
    while (n_read < n && !*error) {
        if (er_read_one(fd, buffers + (size_t)n_read * room, room, &got[n_read], with_local) < 0)
            *error = errno;
        else
            n_read++;
    }
    return n_read;
#endif
}

/* Write a socket address and return its size. `host` has 4 bytes for IPv4 and 16 for IPv6. */
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

/* Read a socket address; return whether it is IPv6. */
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
