// What input and output cost. One operation, so many times; raw calls of WASI preview 1, so that no
// library's buffers stand between. The last line on standard error is the nanoseconds that it took.
//
//   io OPERATION COUNT    in a directory that may be written, at /data
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define CHUNK 65536
// Of a file of 64 MiB, which no cache of a CPU holds.
#define CHUNKS 1024

static uint8_t chunk[CHUNK];
static __wasi_fd_t file;

static void check(__wasi_errno_t error, const char *what) {
    if (error != 0) {
        fprintf(stderr, "%s: error %d\n", what, error);
        exit(1);
    }
}

static uint64_t now(void) {
    __wasi_timestamp_t time;
    check(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &time), "clock");
    return time;
}

static void arguments(void) {
    static uint8_t *pointers[8];
    static uint8_t text[256];
    __wasi_size_t count, bytes;
    check(__wasi_args_sizes_get(&count, &bytes), "args");
    check(__wasi_args_get(pointers, text), "args");
}

static void environment(void) {
    static uint8_t *pointers[64];
    static uint8_t text[4096];
    __wasi_size_t count, bytes;
    check(__wasi_environ_sizes_get(&count, &bytes), "environ");
    check(__wasi_environ_get(pointers, text), "environ");
}

static void clock_now(void) { now(); }

static void random_16(void) { check(__wasi_random_get(chunk, 16), "random"); }

static void line(void) {
    __wasi_ciovec_t parts[] = {{(const uint8_t *)"a lin", 5}, {(const uint8_t *)"e\n", 2}};
    __wasi_size_t done;
    check(__wasi_fd_write(1, parts, 2, &done), "write a line");
}

static void open_file(__wasi_oflags_t flags) {
    __wasi_rights_t rights = __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_SEEK;
    check(__wasi_path_open(3, 0, "io", flags, rights, rights, 0, &file), "open");
}

static void open_close(void) {
    __wasi_fd_t first = file;
    open_file(0);
    check(__wasi_fd_close(file), "close");
    file = first;
}

static void describe(void) {
    __wasi_filestat_t stat;
    check(__wasi_fd_filestat_get(file, &stat), "filestat");
}

static void describe_path(void) {
    __wasi_filestat_t stat;
    check(__wasi_path_filestat_get(3, 0, "io", &stat), "path filestat");
}

static void flags(void) {
    __wasi_fdstat_t stat;
    check(__wasi_fd_fdstat_get(file, &stat), "fdstat");
}

static void seek(void) {
    __wasi_filesize_t position;
    check(__wasi_fd_seek(file, 0, __WASI_WHENCE_SET, &position), "seek");
}

static __wasi_size_t read_from(__wasi_fd_t fd, __wasi_size_t len) {
    __wasi_iovec_t part = {chunk, len};
    __wasi_size_t done;
    check(__wasi_fd_read(fd, &part, 1, &done), "read");
    return done;
}

static void write_to(__wasi_fd_t fd, __wasi_size_t len) {
    for (__wasi_size_t sent = 0; sent < len;) {
        __wasi_ciovec_t part = {chunk + sent, len - sent};
        __wasi_size_t done;
        check(__wasi_fd_write(fd, &part, 1, &done), "write");
        sent += done;
    }
}

static void read_file(void) {
    if (read_from(file, CHUNK) != CHUNK) {
        seek();
        read_from(file, CHUNK);
    }
}

static void write_file(void) {
    static unsigned chunks;
    if (chunks++ % CHUNKS == 0) seek();
    write_to(file, CHUNK);
}

static void read_pipe(void) {
    for (__wasi_size_t got = 0; got < CHUNK;) {
        __wasi_size_t more = read_from(0, CHUNK - got);
        if (more == 0) check(1, "standard input ended");
        got += more;
    }
}

static void write_pipe(void) { write_to(1, CHUNK); }

static void wait_for(uint64_t ns) {
    __wasi_subscription_t subscription = {0};
    __wasi_event_t event;
    __wasi_size_t happened;
    subscription.u.tag = __WASI_EVENTTYPE_CLOCK;
    subscription.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    subscription.u.u.clock.timeout = ns;
    check(__wasi_poll_oneoff(&subscription, &event, 1, &happened), "poll");
}

static void sleep_1_ms(void) { wait_for(1000000); }

static void poll_output(void) {
    __wasi_subscription_t subscription = {0};
    __wasi_event_t event;
    __wasi_size_t happened;
    subscription.u.tag = __WASI_EVENTTYPE_FD_WRITE;
    subscription.u.u.fd_write.file_descriptor = 1;
    check(__wasi_poll_oneoff(&subscription, &event, 1, &happened), "poll");
}

static const struct {
    const char *name;
    void (*run)(void);
} operations[] = {
    {"arguments", arguments},     {"environment", environment},     {"clock", clock_now},
    {"random-16", random_16},     {"line", line},                   {"open-close", open_close},
    {"describe", describe},       {"describe-path", describe_path}, {"flags", flags},
    {"seek", seek},               {"read-file", read_file},         {"write-file", write_file},
    {"read-pipe", read_pipe},     {"write-pipe", write_pipe},       {"poll", poll_output},
    {"sleep", sleep_1_ms},
};

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    open_file(__WASI_OFLAGS_CREAT);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (strcmp(operations[i].name, argv[1]) != 0) continue;
        if (strcmp(argv[1], "read-file") == 0) {
            for (int chunks = 0; chunks < CHUNKS; chunks++) write_to(file, CHUNK);
            seek();
        }
        long count = atol(argv[2]);
        uint64_t start = now();
        for (long done = 0; done < count; done++) operations[i].run();
        fprintf(stderr, "%llu\n", (unsigned long long)(now() - start));
        return 0;
    }
    return 2;
}
