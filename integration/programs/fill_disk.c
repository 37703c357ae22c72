// Writes to /data/file until that fails, and tells how much was written and why it ended.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    static char pattern[251 * 40];
    for (int i = 0; i < (int)sizeof pattern; i++) pattern[i] = (char)(i % 251);
    int file = open("/data/file", O_WRONLY | O_CREAT, 0600);
    if (file < 0) return 1;
    size_t written = 0;
    for (;;) {
        size_t skip = written % 251;
        ssize_t count = write(file, pattern + skip, sizeof pattern - skip);
        if (count < 0) break;
        written += count;
    }
    printf("%zu: %s\n", written, strerror(errno));
    return 0;
}
