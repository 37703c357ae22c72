// Makes pollables, and lets none go, until it is ended: their interface has no way to refuse.
//
// builds: c_p2
#include <stdio.h>
#include <wasi/wasip2.h>

int main(void) {
    for (int count = 0; count < 1 << 24; count++) {
        monotonic_clock_subscribe_duration(1000000000);
        if (count == 1000) {
            puts("enough");
            fflush(stdout);
        }
    }
    puts("no end");
    return 0;
}
