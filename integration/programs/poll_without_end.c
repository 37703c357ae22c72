// Waits for more at once than there may be, by poll_oneoff, and is told so; then for two.
//
// builds: c_p1
#include <stdio.h>
#include <stdlib.h>
#include <wasi/api.h>

enum { MANY = 1 << 20 };

int main(void) {
    __wasi_subscription_t *wanted = calloc(MANY, sizeof *wanted);
    __wasi_event_t *events = calloc(MANY, sizeof *events);
    __wasi_size_t count = 0;
    if (!wanted || !events) return 1;
    for (int i = 0; i < MANY; i++) {
        wanted[i].userdata = i;
        wanted[i].u.tag = __WASI_EVENTTYPE_CLOCK;
        wanted[i].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
        wanted[i].u.u.clock.timeout = i == 1 ? 1000 : 3600000000000ull;
    }
    printf("many: %s\n", __wasi_poll_oneoff(wanted, events, MANY, &count) ? "refused" : "done");
    printf("none: %s\n", __wasi_poll_oneoff(wanted, events, 0, &count) ? "refused" : "done");
    if (__wasi_poll_oneoff(wanted, events, 2, &count)) return 2;
    printf("two: %u, first %llu\n", (unsigned)count, (unsigned long long)events[0].userdata);
    return 0;
}
