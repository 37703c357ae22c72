// The wall clock is of this century, the monotonic clock moves on by what is slept, at least.
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec wall, before, after, pause = {0, 20 * 1000 * 1000};
    if (clock_gettime(CLOCK_REALTIME, &wall) || clock_gettime(CLOCK_MONOTONIC, &before))
        return 1;
    if (nanosleep(&pause, NULL) || clock_gettime(CLOCK_MONOTONIC, &after))
        return 2;
    long long slept = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    if (slept < pause.tv_nsec) {
        fprintf(stderr, "slept %lld ns\n", slept);
        return 3;
    }
    printf("%lld\n", (long long)wall.tv_sec);
    return 0;
}
