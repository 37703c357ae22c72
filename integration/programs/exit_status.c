// Exits with the status that its argument names, through atexit and with unflushed output.
#include <stdio.h>
#include <stdlib.h>

static void farewell(void) { printf("and flushed\n"); }

int main(int argc, char **argv) {
    atexit(farewell);
    printf("buffered ");
    exit(argc > 1 ? atoi(argv[1]) : 99);
}
