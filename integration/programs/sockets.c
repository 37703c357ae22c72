// The socket functions of C over loopback, with itself: each line says what a call gave.
//
// builds: c_p2
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int must(int result, const char *what) {
    if (result < 0) {
        printf("%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return result;
}

static struct sockaddr_in loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static struct sockaddr_in bound(int socket) {
    struct sockaddr_in address = loopback();
    socklen_t bytes = sizeof address;
    must(bind(socket, (struct sockaddr *)&address, bytes), "bind");
    must(getsockname(socket, (struct sockaddr *)&address, &bytes), "getsockname");
    printf("bound to %s, with a port: %d\n", inet_ntoa(address.sin_addr), address.sin_port != 0);
    return address;
}

static void option(int socket, int level, int name, int value, const char *what) {
    socklen_t bytes = sizeof value;
    must(setsockopt(socket, level, name, &value, bytes), what);
    value = 0;
    must(getsockopt(socket, level, name, &value, &bytes), what);
    printf("%s: %d\n", what, value);
}

static void tcp(void) {
    int listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    struct sockaddr_in address = bound(listener);
    must(listen(listener, 5), "listen");
    struct pollfd wanted = {.fd = listener, .events = POLLIN};
    printf("ready: %d\n", must(poll(&wanted, 1, 10), "poll"));

    int client = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    option(client, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    option(client, IPPROTO_TCP, TCP_KEEPIDLE, 77, "TCP_KEEPIDLE");
    option(client, IPPROTO_TCP, TCP_KEEPINTVL, 7, "TCP_KEEPINTVL");
    option(client, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT");
    option(client, IPPROTO_IP, IP_TTL, 17, "IP_TTL");
    must(fcntl(client, F_SETFL, O_NONBLOCK), "fcntl");
    int connecting = connect(client, (struct sockaddr *)&address, sizeof address);
    if (connecting < 0 && errno != EINPROGRESS) must(connecting, "connect");
    struct pollfd writable = {.fd = client, .events = POLLOUT};
    printf("connected: %d\n", must(poll(&writable, 1, 10000), "poll"));
    int error = -1;
    socklen_t bytes = sizeof error;
    must(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &bytes), "SO_ERROR");
    printf("error: %d\n", error);

    printf("ready: %d\n", must(poll(&wanted, 1, 10000), "poll"));
    struct sockaddr_in peer, own;
    bytes = sizeof peer;
    int server = must(accept(listener, (struct sockaddr *)&peer, &bytes), "accept");
    bytes = sizeof own;
    must(getsockname(client, (struct sockaddr *)&own, &bytes), "getsockname");
    printf("from the client: %d\n", peer.sin_port == own.sin_port);

    char buffer[64];
    ssize_t none = recv(client, buffer, sizeof buffer, 0);
    printf("nothing: %zd %s\n", none, errno == EAGAIN ? "EAGAIN" : strerror(errno));
    printf("sent: %d\n", (int)send(server, "from the server", 15, 0));
    struct pollfd readable = {.fd = client, .events = POLLIN};
    printf("ready: %d\n", must(poll(&readable, 1, 10000), "poll"));
    int read = must(recv(client, buffer, sizeof buffer, 0), "recv");
    printf("received: %.*s\n", read, buffer);
    must(shutdown(server, SHUT_WR), "shutdown");
    must(poll(&readable, 1, 10000), "poll");
    printf("the end: %d\n", (int)recv(client, buffer, sizeof buffer, 0));
    close(server);
    close(client);
    close(listener);

    int again = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    int refused = connect(again, (struct sockaddr *)&address, sizeof address);
    printf("refused: %d %d\n", refused, errno == ECONNREFUSED);
    close(again);
}

static void udp(void) {
    int left = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    int right = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    struct sockaddr_in at_left = bound(left), at_right = bound(right), from;
    must(sendto(right, "datagram", 8, 0, (struct sockaddr *)&at_left, sizeof at_left), "sendto");
    char buffer[64];
    socklen_t bytes = sizeof from;
    int read = must(recvfrom(left, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &bytes), "recvfrom");
    printf("received: %.*s, from the sender: %d\n", read, buffer, from.sin_port == at_right.sin_port);
    must(connect(left, (struct sockaddr *)&at_right, sizeof at_right), "connect");
    must(send(left, "connected", 9, 0), "send");
    read = must(recv(right, buffer, sizeof buffer, 0), "recv");
    printf("received: %.*s\n", read, buffer);
    close(left);
    close(right);
}

static void names(void) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int error = getaddrinfo("localhost", "80", &hints, &found);
    printf("localhost: %d\n", error);
    if (error == 0) {
        struct sockaddr_in *address = (struct sockaddr_in *)found->ai_addr;
        printf("%s %d\n", inet_ntoa(address->sin_addr), ntohs(address->sin_port));
        freeaddrinfo(found);
    }
    printf("nobody: %d\n", getaddrinfo("nobody.invalid", "80", &hints, &found) != 0);
}

int main(void) {
    tcp();
    udp();
    names();
    return 0;
}
