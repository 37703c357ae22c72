// Waits for standard input by poll(2): in vain, until there is a line, and until there is no more.
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(void) {
    char text[64];
    struct pollfd input = {.fd = 0, .events = POLLIN};

    double before = now();
    int ready = poll(&input, 1, 200);
    printf("nothing: %d %s\n", ready, now() - before >= 0.2 ? "after its time" : "too early");
    fflush(stdout);

    for (;;) {
        if (poll(&input, 1, 60000) != 1) return 1;
        ssize_t length = read(0, text, sizeof text);
        if (length < 0) return 2;
        if (length == 0) break;
        printf("read: %.*s", (int)length, text);
        fflush(stdout);
    }
    puts("the end");
    return 0;
}
