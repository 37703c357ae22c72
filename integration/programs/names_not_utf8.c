// Lists its directory /data, whose names need not be UTF-8, in hexadecimal, and opens what it has seen.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    DIR *directory = opendir("/data");
    if (!directory) return 1;
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory))) {
        if (entry->d_name[0] == '.') continue;
        for (const char *at = entry->d_name; *at; at++) printf("%02x", (unsigned char)*at);
        int file = openat(dirfd(directory), entry->d_name, O_RDONLY);
        printf(" %s\n", file < 0 ? strerror(errno) : "opened");
        if (file >= 0) close(file);
    }
    if (errno) printf("%s\n", strerror(errno));
    return 0;
}
