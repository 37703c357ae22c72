// Uses what a C library does not: check-write, zeroes, skipping, splicing and pollables of streams of
// /data/from, which holds "0123456789", and of the standard streams.
//
// builds: c_p2
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/wasip2.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static filesystem_own_descriptor_t open_at(const char *name, int create, int flags) {
    static filesystem_preopens_list_tuple2_own_descriptor_string_t preopens;
    if (!preopens.len) filesystem_preopens_get_directories(&preopens);
    CHECK(preopens.len == 1 && !memcmp(preopens.ptr[0].f1.ptr, "/data", 5));
    wasip2_string_t path;
    wasip2_string_set(&path, name);
    filesystem_own_descriptor_t file;
    filesystem_error_code_t code;
    CHECK(filesystem_method_descriptor_open_at(filesystem_borrow_descriptor(preopens.ptr[0].f0), 0, &path,
        create ? FILESYSTEM_OPEN_FLAGS_CREATE : 0, flags, &file, &code));
    return file;
}

int main(void) {
    filesystem_error_code_t code;
    streams_stream_error_t error;
    wasip2_list_u8_t bytes;
    uint64_t count;
    filesystem_own_descriptor_t from = open_at("from", 0, FILESYSTEM_DESCRIPTOR_FLAGS_READ);
    filesystem_own_descriptor_t to = open_at("to", 1, FILESYSTEM_DESCRIPTOR_FLAGS_WRITE);
    streams_own_input_stream_t own_input;
    streams_own_output_stream_t own_output;

    // A stream starts where it is told to, skips, and ends.
    CHECK(filesystem_method_descriptor_read_via_stream(filesystem_borrow_descriptor(from), 2, &own_input, &code));
    streams_borrow_input_stream_t input = streams_borrow_input_stream(own_input);
    CHECK(streams_method_input_stream_blocking_skip(input, 3, &count, &error) && count == 3);
    CHECK(streams_method_input_stream_blocking_read(input, 2, &bytes, &error));
    CHECK(bytes.len == 2 && !memcmp(bytes.ptr, "56", 2));
    CHECK(streams_method_input_stream_read(input, 0, &bytes, &error) && bytes.len == 0);
    streams_own_pollable_t readable = streams_method_input_stream_subscribe(input);
    poll_method_pollable_block(poll_borrow_pollable(readable));
    CHECK(poll_method_pollable_ready(poll_borrow_pollable(readable)));
    poll_pollable_drop_own(readable);

    // What may be written is told before, zeroes need no buffer, and a splice moves what is left.
    CHECK(filesystem_method_descriptor_write_via_stream(filesystem_borrow_descriptor(to), 1, &own_output, &code));
    streams_borrow_output_stream_t output = streams_borrow_output_stream(own_output);
    streams_own_pollable_t writable = streams_method_output_stream_subscribe(output);
    poll_method_pollable_block(poll_borrow_pollable(writable));
    CHECK(streams_method_output_stream_check_write(output, &count, &error) && count >= 4096);
    wasip2_list_u8_t word = {(uint8_t *)"word", 4};
    CHECK(streams_method_output_stream_write(output, &word, &error));
    CHECK(streams_method_output_stream_blocking_flush(output, &error));
    CHECK(streams_method_output_stream_blocking_write_zeroes_and_flush(output, 3, &error));
    CHECK(streams_method_output_stream_check_write(output, &count, &error) && count >= 2);
    CHECK(streams_method_output_stream_write_zeroes(output, 2, &error));
    CHECK(streams_method_output_stream_blocking_flush(output, &error));
    uint64_t moved = 0;
    while (streams_method_output_stream_blocking_splice(output, input, 100, &count, &error)) moved += count;
    CHECK(error.tag == STREAMS_STREAM_ERROR_CLOSED && moved == 3);
    CHECK(streams_method_output_stream_blocking_flush(output, &error));
    CHECK(!streams_method_input_stream_blocking_read(input, 1, &bytes, &error));
    CHECK(error.tag == STREAMS_STREAM_ERROR_CLOSED);
    poll_pollable_drop_own(writable);
    streams_output_stream_drop_own(own_output);
    streams_input_stream_drop_own(own_input);

    // Of several pollables those that are ready are told, the timer last.
    streams_own_input_stream_t standard_input = stdin_get_stdin();
    poll_own_pollable_t timer = monotonic_clock_subscribe_duration(20 * 1000 * 1000);
    poll_own_pollable_t never = monotonic_clock_subscribe_duration(3600ull * 1000 * 1000 * 1000);
    poll_borrow_pollable_t both[] = {poll_borrow_pollable(never), poll_borrow_pollable(timer)};
    poll_list_borrow_pollable_t list = {both, 2};
    wasip2_list_u32_t ready;
    CHECK(!poll_method_pollable_ready(both[1]));
    poll_poll(&list, &ready);
    CHECK(ready.len == 1 && ready.ptr[0] == 1);
    poll_pollable_drop_own(timer);
    poll_pollable_drop_own(never);

    // Standard input goes to standard output without passing through the program.
    streams_own_output_stream_t standard_output = stdout_get_stdout();
    output = streams_borrow_output_stream(standard_output);
    input = streams_borrow_input_stream(standard_input);
    while (streams_method_output_stream_blocking_splice(output, input, 4096, &count, &error)) {
    }
    CHECK(error.tag == STREAMS_STREAM_ERROR_CLOSED);
    CHECK(streams_method_output_stream_blocking_flush(output, &error));
    return 0;
}
