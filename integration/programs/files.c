// Makes, appends to, reads, lists, renames and removes files in its directory /data.
//
// builds: c_p1 c_p2 c_adapted
#include <dirent.h>
#include <errno.h>
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
    char text[64] = "";
    struct stat status;
    FILE *file;

    CHECK(mkdir("/data/directory", 0755) == 0);
    CHECK((file = fopen("/data/directory/first", "w")) && fputs("one\n", file) >= 0 && fclose(file) == 0);
    CHECK((file = fopen("/data/directory/first", "a")) && fputs("two\n", file) >= 0 && fclose(file) == 0);
    CHECK((file = fopen("/data/directory/first", "r")) && fread(text, 1, sizeof text, file) == 8);
    CHECK(fclose(file) == 0 && strcmp(text, "one\ntwo\n") == 0);
    CHECK(stat("/data/directory/first", &status) == 0 && status.st_size == 8 && S_ISREG(status.st_mode));
    CHECK(rename("/data/directory/first", "/data/directory/second") == 0);
    CHECK(stat("/data/directory/first", &status) == -1 && errno == ENOENT);

    int entries = 0;
    DIR *directory = opendir("/data/directory");
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') {
            CHECK(strcmp(entry->d_name, "second") == 0);
            entries++;
        }
    CHECK(closedir(directory) == 0 && entries == 1);

    CHECK(truncate("/data/directory/second", 3) == 0);
    CHECK(stat("/data/directory/second", &status) == 0 && status.st_size == 3);
    CHECK(rmdir("/data/directory") == -1 && errno == ENOTEMPTY);
    CHECK(unlink("/data/directory/second") == 0 && rmdir("/data/directory") == 0);

    // What the host put there is readable, and what is left there stays for the host.
    CHECK((file = fopen("/data/from-host", "r")) && fgets(text, sizeof text, file) && fclose(file) == 0);
    CHECK((file = fopen("/data/from-guest", "w")) && fprintf(file, "seen: %s", text) > 0 && fclose(file) == 0);
    // Above its directory there is nothing.
    CHECK(!fopen("/data/../etc/passwd", "r"));
    CHECK(!fopen("/etc/passwd", "r"));
    puts("ok");
    return 0;
}
