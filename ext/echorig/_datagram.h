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
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>

#define ER_MOST 64

/* When a datagram came, the system tells as a control message, by the clock of CLOCK_REALTIME. */
#ifdef __linux__
#define ER_STAMP SO_TIMESTAMPNS
#define ER_STAMPED SCM_TIMESTAMPNS
typedef struct timespec er_stamp;
#define ER_NS(stamp) (stamp).tv_nsec
#else
#define ER_STAMP SO_TIMESTAMP
#define ER_STAMPED SCM_TIMESTAMP
typedef struct timeval er_stamp;
#define ER_NS(stamp) (stamp).tv_usec * 1000
#endif
typedef union {  /* aligned as a control message is */
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(er_stamp))];
} er_control;

typedef union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} er_address;

typedef struct {
    er_address from;
    socklen_t from_size;
    ssize_t size;
    int64_t came;  /* when it came, in nanoseconds; 0 if that is not known */
} er_datagram;

/* Ask the system to note when datagrams come. What has come before is taken to come when it is read. */
static void er_ask_for_stamps(int fd)
{
    int yes = 1;
    (void)setsockopt(fd, SOL_SOCKET, ER_STAMP, &yes, sizeof yes);  /* without it nothing is known, which is allowed */
}

/* The time by the clock of the stamps, in nanoseconds. */
static int64_t er_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void er_prepare(struct msghdr *head, struct iovec *place, char *buffer, size_t room, er_datagram *got,
                       er_control *control)
{
    memset(head, 0, sizeof *head);
    place->iov_base = buffer;
    place->iov_len = room;
    head->msg_iov = place;
    head->msg_iovlen = 1;
    head->msg_name = &got->from;
    head->msg_namelen = sizeof got->from;
    head->msg_control = control;
    head->msg_controllen = sizeof *control;
}

static void er_take(struct msghdr *head, ssize_t size, er_datagram *got)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(head);
    got->size = size;
    got->from_size = head->msg_namelen;
    got->came = 0;
    if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == ER_STAMPED) {
        er_stamp stamp;
        memcpy(&stamp, CMSG_DATA(control), sizeof stamp);
        got->came = (int64_t)stamp.tv_sec * 1000000000 + ER_NS(stamp);
    }
}

/* Read one datagram of at most `room` bytes; its size, or -1 with errno. */
static ssize_t er_read_one(int fd, char *buffer, size_t room, er_datagram *got)
{
    struct msghdr head;
    struct iovec place;
    er_control control;
    ssize_t size;
    er_prepare(&head, &place, buffer, room, got, &control);
    size = recvmsg(fd, &head, MSG_DONTWAIT);
    if (size >= 0)
        er_take(&head, size, got);
    return size;
}

/* Read up to n datagrams, each into its own `room` bytes of `buffers`; how many came, and what ended it, or 0. */
static int er_read_many(int fd, char *buffers, size_t room, int n, er_datagram *got, int *error)
{
#ifdef __linux__
    struct mmsghdr heads[ER_MOST];
    struct iovec places[ER_MOST];
    er_control controls[ER_MOST];
    int i, came;
    for (i = 0; i < n; i++)
        er_prepare(&heads[i].msg_hdr, &places[i], buffers + (size_t)i * room, room, &got[i], &controls[i]);
    came = recvmmsg(fd, heads, (unsigned int)n, MSG_DONTWAIT, NULL);
    *error = came < 0 ? errno : 0;
    if (came < 0)
        came = 0;
    for (i = 0; i < came; i++)
        er_take(&heads[i].msg_hdr, (ssize_t)heads[i].msg_len, &got[i]);
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
