// Writes to both standard streams and keeps them apart.
#include <stdio.h>

int main(void) {
    puts("to standard output");
    fputs("to standard error\n", stderr);
    return 0;
}
