// Opens a file of /data until it cannot, tells why, closes all and can open it again.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 1 << 20 };

int main(void) {
    static int files[MANY];
    int count = 0;
    while (count < MANY && (files[count] = open("/data/file", O_RDONLY)) >= 0) count++;
    const char *why = strerror(errno);
    for (int i = 0; i < count; i++)
        if (close(files[i])) return 1;
    int again = open("/data/file", O_RDONLY);
    char byte;
    if (again < 0 || read(again, &byte, 1) != 1) return 2;
    printf("%s\n%s\n", count < MANY ? why : "no end", count >= 1000 ? "enough" : "too few");
    return 0;
}
