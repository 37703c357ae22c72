// Prints 16 random bytes in hexadecimal: they differ between two runs.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    unsigned char bytes[16];
    if (getentropy(bytes, sizeof bytes))
        return 1;
    for (unsigned i = 0; i < sizeof bytes; i++)
        printf("%02x", bytes[i]);
    puts("");
    return 0;
}
