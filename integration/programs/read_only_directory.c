// Reads in its directory /data, which it may not change, and tries to change it.
//
// builds: c_p1 c_p2 c_adapted
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IS_READ_ONLY(expression) \
    do { \
        errno = 0; \
        if ((expression) != -1 || errno != EROFS) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #expression, strerror(errno)); \
            return 1; \
        } \
    } while (0)

int main(void) {
    char text[8];
    int file = open("/data/file", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text) != 3) return 2;

    const struct timespec times[2] = {{1, 0}, {1, 0}};
    IS_READ_ONLY(open("/data/file", O_WRONLY));
    IS_READ_ONLY(open("/data/new", O_WRONLY | O_CREAT, 0600));
    IS_READ_ONLY(open("/data/file", O_RDWR | O_TRUNC));
    IS_READ_ONLY(mkdir("/data/new", 0700));
    IS_READ_ONLY(unlink("/data/file"));
    IS_READ_ONLY(rename("/data/file", "/data/other"));
    IS_READ_ONLY(link("/data/file", "/data/other"));
    IS_READ_ONLY(symlink("file", "/data/other"));
    IS_READ_ONLY(utimensat(AT_FDCWD, "/data/file", times, 0));
    puts("ok");
    return 0;
}
