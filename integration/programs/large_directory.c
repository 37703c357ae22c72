// Lists its directory /data and tells how many names there are, and a sum over them in any order.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    unsigned count = 0, sum = 0;
    DIR *directory = opendir("/data");
    if (!directory) return 1;
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        unsigned hash = 2166136261u;
        for (const char *at = entry->d_name; *at; at++) hash = (hash ^ (unsigned char)*at) * 16777619u;
        count++;
        sum += hash;
    }
    if (errno || closedir(directory)) return 2;
    printf("%u names, %08x\n", count, sum);
    return 0;
}
