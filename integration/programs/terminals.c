// Tells which of its standard streams are terminals.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    for (int stream = 0; stream < 3; stream++)
        printf("%d: %s\n", stream, isatty(stream) ? "terminal" : "no terminal");
    return 0;
}
