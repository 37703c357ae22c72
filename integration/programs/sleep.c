// Says that it sleeps, sleeps for two seconds, and says so again until its input ends.
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec pause = {2, 0};
    puts("asleep");
    fflush(stdout);
    if (nanosleep(&pause, NULL)) return 1;
    puts("awake");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
