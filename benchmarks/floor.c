/* The floor of a round trip: what the system alone needs. Four calls in one process, no event loop, no Python.
 *
 *     floor udp|tcp     reads how many round trips to make, one number a line; prints the nanoseconds of CPU of each
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
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

int main(int argc, char **argv) {
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
