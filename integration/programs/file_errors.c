// Does what must fail in its directory /data, and compares errno. The host has put `file`, `directory`,
// `outside` (a symbolic link to /etc) and `loop` (one to itself) there.
//
// builds: c_p1 c_p2 c_adapted
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILS(expression, expected) \
    do { \
        errno = 0; \
        if ((expression) != -1 || errno != (expected)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #expression, strerror(errno)); \
            return 1; \
        } \
    } while (0)

int main(void) {
    char text[8];
    int file = open("/data/file", O_RDONLY);
    if (file < 0) return 2;

    FAILS(open("/data/absent", O_RDONLY), ENOENT);
    FAILS(open("/data/file", O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("/data/file/below", O_RDONLY), ENOTDIR);
    FAILS(openat(file, "below", O_RDONLY), ENOTDIR);
    FAILS(open("/data/file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("/data/directory", O_WRONLY), EISDIR);
    FAILS(open("/data/loop", O_RDONLY), ELOOP);
    FAILS(open("/data/outside/passwd", O_RDONLY), EPERM);
    FAILS(symlink("/etc/passwd", "/data/escape"), EPERM);
    FAILS(mkdir("/data/directory", 0700), EEXIST);
    FAILS(rmdir("/data/file"), ENOTDIR);
    FAILS(unlink("/data/absent"), ENOENT);
    FAILS(rename("/data/absent", "/data/other"), ENOENT);
    FAILS(rename("/data/directory", "/data/file"), ENOTDIR);
    FAILS(write(file, "x", 1), EBADF);
    FAILS(ftruncate(file, 0), EBADF);
    FAILS(pread(file, text, sizeof text, -1), EINVAL);
    puts("ok");
    return 0;
}
