// Makes streams of one file of /data, and lets none go, until it is refused.
//
// builds: c_p2
#include <stdio.h>
#include <wasi/wasip2.h>

int main(void) {
    filesystem_preopens_list_tuple2_own_descriptor_string_t preopens;
    filesystem_own_descriptor_t file;
    filesystem_own_input_stream_t stream;
    filesystem_error_code_t code;
    wasip2_string_t path;
    filesystem_preopens_get_directories(&preopens);
    wasip2_string_set(&path, "file");
    if (!filesystem_method_descriptor_open_at(filesystem_borrow_descriptor(preopens.ptr[0].f0), 0, &path, 0,
            FILESYSTEM_DESCRIPTOR_FLAGS_READ, &file, &code))
        return 1;
    int count = 0;
    while (filesystem_method_descriptor_read_via_stream(filesystem_borrow_descriptor(file), 0, &stream, &code)
        && count < 1 << 24)
        count++;
    printf("error code %d\n%s\n", code, count >= 1000 ? "enough" : "too few");
    return 0;
}
