// Writes 100000 numbered lines, far more than a pipe or a host call holds.
//
// builds: c_p1 c_p2 c_adapted
#include <stdio.h>

int main(void) {
    for (int line = 0; line < 100000; line++)
        if (printf("line %d\n", line) < 0)
            return 1;
    return fflush(stdout) ? 1 : 0;
}
