/* The baselines: the system calls alone, without an event loop or Python.
 *
 *     c_baseline udp|tcp        reads how many round trips to make, one number a line; prints the nanoseconds of CPU of
 *                               each: four system calls in one process
 *     c_baseline fan PORT...    for each line it reads, it sends one message to each rig on these ports (see
 *                               wire_rigs.py) in one loop; prints the time between the first receipt and the last, in
 *                               nanoseconds, from their answers
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char FRAME[] = "[2,\"2022-01-01_1_subject\",null]";

static void check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static double cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Wait for the answer of a rig; return the time in it. */
static long long answered(int rig) {
    char buffer[65536], *comma;
    struct pollfd waiting = {.fd = rig, .events = POLLIN};
    for (;;) {
        int ready = poll(&waiting, 1, 10000);
        check(ready, "poll");
        if (!ready) {
            fputs("a rig did not answer within 10 s\n", stderr);
            exit(1);
        }
        long got = recv(rig, buffer, sizeof buffer - 1, 0);
        check(got, "recv");
        buffer[got] = 0;
        if (strcmp(buffer, FRAME) && (comma = strrchr(buffer, ','))) return atoll(comma + 1);
    }
}

static int fan(int n, char **ports) {
    int *rigs = calloc(n, sizeof *rigs);
    char line[32];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < n; i++) {
        addr.sin_port = htons(atoi(ports[i]));
        check(rigs[i] = socket(AF_INET, SOCK_DGRAM, 0), "socket");
        check(connect(rigs[i], (struct sockaddr *)&addr, sizeof addr), "connect");
    }
    while (fgets(line, sizeof line, stdin)) {
        long long first = 0, last = 0;
        for (int i = 0; i < n; i++) check(send(rigs[i], FRAME, sizeof FRAME - 1, 0), "send");
        for (int i = 0; i < n; i++) {
            long long at = answered(rigs[i]);
            if (!i || at < first) first = at;
            if (at > last) last = at;
        }
        printf("%lld\n", last - first);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && !strcmp(argv[1], "fan")) return fan(argc - 2, argv + 2);
    int udp = argc > 1 && !strcmp(argv[1], "udp"), on = 1;
    char buffer[65536], line[32];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t size = sizeof addr;
    int server = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    int client = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);

    check(bind(server, (struct sockaddr *)&addr, size), "bind");
    check(getsockname(server, (struct sockaddr *)&addr, &size), "getsockname");
    if (!udp) check(listen(server, 1), "listen");
    check(connect(client, (struct sockaddr *)&addr, size), "connect");
    if (!udp) {
        int listening = server;
        check(server = accept(listening, NULL, NULL), "accept");
        close(listening);
        check(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
        check(setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
    }
    while (fgets(line, sizeof line, stdin)) {
        long n = atol(line);
        double begun = cpu_ns();
        for (long i = 0; i < n; i++) {
            size = sizeof from;
            check(send(client, FRAME, sizeof FRAME - 1, 0), "send");
            long got = recvfrom(server, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &size);
            check(got, "recvfrom");
            check(sendto(server, buffer, got, 0, udp ? (struct sockaddr *)&from : NULL, udp ? size : 0), "sendto");
            check(recv(client, buffer, sizeof buffer, 0), "recv");
        }
        printf("%.1f\n", (cpu_ns() - begun) / n);
        fflush(stdout);
    }
    return 0;
}
