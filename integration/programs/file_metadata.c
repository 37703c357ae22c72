// Links, times, sizes and positions of files in its directory /data.
//
// builds: c_p1 c_p2 c_adapted
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno)); \
            return 1; \
        } \
    } while (0)

int main(void) {
    char text[16] = "";
    struct stat first, second;
    const long long far = 5LL << 30;

    int file = open("/data/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK(pwrite(file, "far", 3, far) == 3 && pread(file, text, sizeof text, far) == 3);
    CHECK(strcmp(text, "far") == 0 && lseek(file, 0, SEEK_END) == far + 3);
    CHECK(fstat(file, &first) == 0 && first.st_size == far + 3);
    CHECK(pread(file, text, 1, 1) == 1 && text[0] == 0 && pread(file, text, 1, far + 3) == 0);
    CHECK(ftruncate(file, 5) == 0 && fstat(file, &first) == 0 && first.st_size == 5);
    CHECK(fsync(file) == 0 && fdatasync(file) == 0);

    const struct timespec times[2] = {{1000000000, 5}, {1500000000, 999999999}};
    CHECK(futimens(file, times) == 0 && fstat(file, &first) == 0);
    CHECK(first.st_atim.tv_sec == 1000000000 && first.st_atim.tv_nsec == 5);
    CHECK(first.st_mtim.tv_sec == 1500000000 && first.st_mtim.tv_nsec == 999999999);

    CHECK(link("/data/file", "/data/hard") == 0 && stat("/data/hard", &second) == 0);
    CHECK(second.st_ino == first.st_ino && second.st_nlink == 2);
    CHECK(symlink("file", "/data/soft") == 0 && lstat("/data/soft", &second) == 0);
    CHECK(S_ISLNK(second.st_mode) && stat("/data/soft", &second) == 0 && S_ISREG(second.st_mode));
    CHECK(readlink("/data/soft", text, sizeof text) == 4 && memcmp(text, "file", 4) == 0);
    const struct timespec later[2] = {{0, UTIME_OMIT}, {1600000000, 0}};
    CHECK(utimensat(AT_FDCWD, "/data/soft", later, 0) == 0 && fstat(file, &first) == 0);
    CHECK(first.st_atim.tv_sec == 1000000000 && first.st_mtim.tv_sec == 1600000000);

    int end = open("/data/hard", O_WRONLY | O_APPEND);
    CHECK(end >= 0 && write(end, "+", 1) == 1 && write(end, "+", 1) == 1 && close(end) == 0);
    CHECK(fstat(file, &first) == 0 && first.st_size == 7);
    CHECK(unlink("/data/hard") == 0 && unlink("/data/soft") == 0 && unlink("/data/file") == 0);
    CHECK(fstat(file, &first) == 0 && first.st_nlink == 0 && close(file) == 0);
    puts("ok");
    return 0;
}
