// Writes to both standard streams and keeps them apart.
//
// builds: c_p1 c_p2 c_adapted
#include <stdio.h>

int main(void) {
    puts("to standard output");
    fputs("to standard error\n", stderr);
    return 0;
}
