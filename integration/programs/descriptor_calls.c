// Uses what a C library does not: flags, hashes of metadata, advice, synchronization and times of
// descriptors in /data, where the host has put a file `from` and a symbolic link `soft` to it.
//
// builds: c_p2
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/wasip2.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s (error code %d)\n", __LINE__, #condition, code); \
            exit(1); \
        } \
    } while (0)

static filesystem_error_code_t code;
static filesystem_borrow_descriptor_t data;

static wasip2_string_t string(const char *text) {
    wasip2_string_t string;
    wasip2_string_set(&string, text);
    return string;
}

static bool open_at(const char *name, int follow, int how, int flags, filesystem_own_descriptor_t *file) {
    wasip2_string_t path = string(name);
    return filesystem_method_descriptor_open_at(data, follow, &path, how, flags, file, &code);
}

int main(void) {
    filesystem_preopens_list_tuple2_own_descriptor_string_t preopens;
    filesystem_preopens_get_directories(&preopens);
    CHECK(preopens.len == 1);
    data = filesystem_borrow_descriptor(preopens.ptr[0].f0);
    const int read = FILESYSTEM_DESCRIPTOR_FLAGS_READ, write = FILESYSTEM_DESCRIPTOR_FLAGS_WRITE;
    const int follow = FILESYSTEM_PATH_FLAGS_SYMLINK_FOLLOW;
    filesystem_own_descriptor_t own, other;
    filesystem_descriptor_flags_t flags;
    filesystem_descriptor_type_t type;

    // Flags and types are those of the opening.
    CHECK(filesystem_method_descriptor_get_flags(data, &flags, &code));
    CHECK(flags == (read | FILESYSTEM_DESCRIPTOR_FLAGS_MUTATE_DIRECTORY));
    CHECK(open_at("from", 0, 0, read, &own));
    filesystem_borrow_descriptor_t from = filesystem_borrow_descriptor(own);
    CHECK(filesystem_method_descriptor_get_flags(from, &flags, &code) && flags == read);
    CHECK(filesystem_method_descriptor_get_type(from, &type, &code));
    CHECK(type == FILESYSTEM_DESCRIPTOR_TYPE_REGULAR_FILE);

    // Links: the same object, the same hash, unless the link itself is meant.
    CHECK(!open_at("soft", 0, 0, read, &other) && code == FILESYSTEM_ERROR_CODE_LOOP);
    CHECK(open_at("soft", follow, 0, read, &other));
    CHECK(filesystem_method_descriptor_is_same_object(from, filesystem_borrow_descriptor(other)));
    CHECK(!filesystem_method_descriptor_is_same_object(from, data));
    filesystem_metadata_hash_value_t first, second;
    wasip2_string_t soft = string("soft");
    CHECK(filesystem_method_descriptor_metadata_hash(from, &first, &code));
    CHECK(filesystem_method_descriptor_metadata_hash_at(data, follow, &soft, &second, &code));
    CHECK(first.lower == second.lower && first.upper == second.upper);
    CHECK(filesystem_method_descriptor_metadata_hash_at(data, 0, &soft, &second, &code));
    CHECK(first.lower != second.lower || first.upper != second.upper);

    // What was not asked for at the opening cannot be done.
    wasip2_list_u8_t bytes = {(uint8_t *)"bytes", 5};
    filesystem_filesize_t written;
    CHECK(!filesystem_method_descriptor_write(from, &bytes, 0, &written, &code));
    CHECK(code == FILESYSTEM_ERROR_CODE_BAD_DESCRIPTOR);
    CHECK(!filesystem_method_descriptor_set_size(from, 0, &code));

    // Writing far into a new file, advice, and synchronization.
    CHECK(open_at("to", 0, FILESYSTEM_OPEN_FLAGS_CREATE | FILESYSTEM_OPEN_FLAGS_EXCLUSIVE, read | write, &own));
    filesystem_borrow_descriptor_t to = filesystem_borrow_descriptor(own);
    CHECK(filesystem_method_descriptor_write(to, &bytes, 5ull << 30, &written, &code) && written == 5);
    filesystem_descriptor_stat_t status;
    CHECK(filesystem_method_descriptor_stat(to, &status, &code) && status.size == (5ull << 30) + 5);
    for (int advice = FILESYSTEM_ADVICE_NORMAL; advice <= FILESYSTEM_ADVICE_NO_REUSE; advice++)
        CHECK(filesystem_method_descriptor_advise(to, 0, 4096, advice, &code));
    CHECK(filesystem_method_descriptor_sync_data(to, &code));
    CHECK(filesystem_method_descriptor_sync(to, &code));
    wasip2_tuple2_list_u8_bool_t got;
    CHECK(filesystem_method_descriptor_read(to, 100, 5ull << 30, &got, &code));
    CHECK(got.f0.len == 5 && !memcmp(got.f0.ptr, "bytes", 5));
    CHECK(filesystem_method_descriptor_read(to, 100, 6ull << 30, &got, &code) && got.f0.len == 0 && got.f1);
    CHECK(filesystem_method_descriptor_set_size(to, 3, &code));
    CHECK(filesystem_method_descriptor_metadata_hash(to, &second, &code));
    CHECK(first.lower != second.lower || first.upper != second.upper);

    // Times of a file, of what a link leads to, and one of them alone.
    filesystem_new_timestamp_t time = {FILESYSTEM_NEW_TIMESTAMP_TIMESTAMP, {{1000000000, 7}}};
    filesystem_new_timestamp_t keep = {.tag = FILESYSTEM_NEW_TIMESTAMP_NO_CHANGE};
    CHECK(filesystem_method_descriptor_set_times(to, &time, &time, &code));
    CHECK(filesystem_method_descriptor_set_times_at(data, follow, &soft, &keep, &time, &code));
    CHECK(filesystem_method_descriptor_stat(from, &status, &code));
    CHECK(status.data_modification_timestamp.is_some);
    CHECK(status.data_modification_timestamp.val.seconds == 1000000000);
    CHECK(status.data_modification_timestamp.val.nanoseconds == 7);
    CHECK(status.data_access_timestamp.val.seconds != 1000000000);

    // A directory cannot be read as a file, nor be removed as one.
    wasip2_string_t directory = string("directory");
    CHECK(filesystem_method_descriptor_create_directory_at(data, &directory, &code));
    CHECK(open_at("directory", 0, FILESYSTEM_OPEN_FLAGS_DIRECTORY, read, &other));
    CHECK(!filesystem_method_descriptor_read(filesystem_borrow_descriptor(other), 1, 0, &got, &code));
    CHECK(!filesystem_method_descriptor_unlink_file_at(data, &directory, &code));
    CHECK(filesystem_method_descriptor_remove_directory_at(data, &directory, &code));

    // The end of the world.
    wasip2_string_t up = string("../from"), root = string("/data/from"), empty = string("");
    CHECK(!filesystem_method_descriptor_stat_at(data, 0, &up, &status, &code));
    CHECK(code == FILESYSTEM_ERROR_CODE_NOT_PERMITTED);
    CHECK(!filesystem_method_descriptor_stat_at(data, 0, &root, &status, &code));
    CHECK(code == FILESYSTEM_ERROR_CODE_NOT_PERMITTED);
    CHECK(!filesystem_method_descriptor_stat_at(data, 0, &empty, &status, &code));
    puts("ok");
    return 0;
}
