// Answers by path, by the bare interface: passes a body on as it comes, makes a request of its own, and does
// what a handler must not.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef wasi_http_types_own_fields_t fields_t;
typedef wasi_http_types_own_incoming_request_t request_t;
typedef wasi_http_types_own_outgoing_response_t response_t;
typedef wasi_http_types_own_outgoing_body_t body_t;
typedef wasi_http_types_own_response_outparam_t outparam_t;
typedef wasi_io_streams_own_input_stream_t input_t;
typedef wasi_io_streams_own_output_stream_t output_t;

// A response that has begun.
struct answer {
    body_t body;
    output_t stream;
};

// As the error codes of the interface are numbered.
static const char *const ERROR_CODES[] = {
    "DNS-timeout",
    "DNS-error",
    "destination-not-found",
    "destination-unavailable",
    "destination-IP-prohibited",
    "destination-IP-unroutable",
    "connection-refused",
    "connection-terminated",
    "connection-timeout",
    "connection-read-timeout",
    "connection-write-timeout",
    "connection-limit-reached",
    "TLS-protocol-error",
    "TLS-certificate-error",
    "TLS-alert-received",
    "HTTP-request-denied",
    "HTTP-request-length-required",
    "HTTP-request-body-size",
    "HTTP-request-method-invalid",
    "HTTP-request-URI-invalid",
    "HTTP-request-URI-too-long",
    "HTTP-request-header-section-size",
    "HTTP-request-header-size",
    "HTTP-request-trailer-section-size",
    "HTTP-request-trailer-size",
    "HTTP-response-incomplete",
    "HTTP-response-header-section-size",
    "HTTP-response-header-size",
    "HTTP-response-body-size",
    "HTTP-response-trailer-section-size",
    "HTTP-response-trailer-size",
    "HTTP-response-transfer-coding",
    "HTTP-response-content-coding",
    "HTTP-response-timeout",
    "HTTP-upgrade-failed",
    "HTTP-protocol-error",
    "loop-detected",
    "configuration-error",
    "internal-error",
};

static const char *const HEADER_ERRORS[] = {"invalid-syntax", "forbidden", "immutable"};

static program_string_t string(const char *text) {
    program_string_t string = {(uint8_t *)text, strlen(text)};
    return string;
}

// What comes of adding a field.
static const char *append(fields_t fields, const char *name, const char *value, size_t len) {
    wasi_http_types_field_name_t named = string(name);
    wasi_http_types_field_value_t valued = {(uint8_t *)value, len};
    wasi_http_types_header_error_t error;
    bool done = wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &named, &valued, &error);
    return done ? "ok" : HEADER_ERRORS[error.tag];
}

static response_t new_response(fields_t fields, body_t *body) {
    response_t response = wasi_http_types_constructor_outgoing_response(fields);
    if (!wasi_http_types_method_outgoing_response_body(wasi_http_types_borrow_outgoing_response(response), body)) {
        abort();
    }
    return response;
}

static void set(outparam_t outparam, response_t response) {
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
    wasi_http_types_static_response_outparam_set(outparam, &result);
}

// Begins a response with these fields.
static struct answer begin(outparam_t outparam, fields_t fields) {
    struct answer answer;
    set(outparam, new_response(fields, &answer.body));
    if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(answer.body), &answer.stream)) {
        abort();
    }
    return answer;
}

static struct answer begin_plain(outparam_t outparam) {
    return begin(outparam, wasi_http_types_constructor_fields());
}

// Has bytes sent, as many at a time as the interface takes; false once the stream is of no use.
static bool put(struct answer *answer, const uint8_t *bytes, size_t len) {
    wasi_io_streams_borrow_output_stream_t stream = wasi_io_streams_borrow_output_stream(answer->stream);
    while (len > 0) {
        program_list_u8_t piece = {(uint8_t *)bytes, len < 4096 ? len : 4096};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(stream, &piece, &error)) {
            return false;
        }
        bytes += piece.len;
        len -= piece.len;
    }
    return true;
}

static bool say(struct answer *answer, const char *text) {
    return put(answer, (const uint8_t *)text, strlen(text));
}

// In two pieces, so that the first is on its way.
static void begin_saying(struct answer *answer) {
    say(answer, "be");
    say(answer, "gun");
}

// Ends the body: what comes of it.
static const char *finish(struct answer *answer, fields_t *trailers) {
    wasi_http_types_error_code_t error;
    wasi_io_streams_output_stream_drop_own(answer->stream);
    bool done = wasi_http_types_static_outgoing_body_finish(answer->body, trailers, &error);
    return done ? "ok" : ERROR_CODES[error.tag];
}

// The next bytes of a body, into a buffer; 0 at its end. One that breaks off is no whole one.
static size_t get(input_t stream, uint8_t *buffer, size_t len) {
    program_list_u8_t piece;
    wasi_io_streams_stream_error_t error;
    if (!wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), len, &piece, &error)) {
        if (error.tag != WASI_IO_STREAMS_STREAM_ERROR_CLOSED) {
            abort();
        }
        return 0;
    }
    memcpy(buffer, piece.ptr, piece.len);
    len = piece.len;
    program_list_u8_free(&piece);
    return len;
}

// The value of a field of the request, for as long as the program runs.
static char *field(request_t request, const char *name) {
    fields_t fields = wasi_http_types_method_incoming_request_headers(wasi_http_types_borrow_incoming_request(request));
    wasi_http_types_field_name_t named = string(name);
    wasi_http_types_list_field_value_t values;
    wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(fields), &named, &values);
    return values.len == 0 ? "" : strndup((char *)values.ptr[0].ptr, values.ptr[0].len);
}

// Gives back the body in upper case, every piece before the next one, and tells its length in a trailer.
static void upper(request_t request, outparam_t outparam) {
    static uint8_t buffer[65536];
    wasi_http_types_own_incoming_body_t body;
    input_t stream;
    if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request), &body) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream)) {
        abort();
    }
    fields_t fields = wasi_http_types_constructor_fields();
    append(fields, "trailer", "x-bytes", 7);
    struct answer answer = begin(outparam, fields);
    size_t total = 0, len;
    while ((len = get(stream, buffer, sizeof buffer)) > 0) {
        for (size_t at = 0; at < len; at++) {
            buffer[at] -= buffer[at] >= 'a' && buffer[at] <= 'z' ? 'a' - 'A' : 0;
        }
        if (!put(&answer, buffer, len)) {
            return;
        }
        total += len;
    }
    char text[32];
    snprintf(text, sizeof text, "%zu", total);
    fields_t trailers = wasi_http_types_constructor_fields();
    append(trailers, "x-bytes", text, strlen(text));
    finish(&answer, &trailers);
}

// Sets how long a request waits, by the fields `x-connect-ms`, `x-first-byte-ms` and `x-between-bytes-ms`.
static wasi_http_types_own_request_options_t waits(request_t request) {
    wasi_http_types_own_request_options_t options = wasi_http_types_constructor_request_options();
    wasi_http_types_borrow_request_options_t setting = wasi_http_types_borrow_request_options(options);
    wasi_http_types_duration_t connect = atoll(field(request, "x-connect-ms")) * 1000000,
                               first_byte = atoll(field(request, "x-first-byte-ms")) * 1000000,
                               between_bytes = atoll(field(request, "x-between-bytes-ms")) * 1000000;
    if ((connect > 0 && !wasi_http_types_method_request_options_set_connect_timeout(setting, &connect)) ||
        (first_byte > 0 && !wasi_http_types_method_request_options_set_first_byte_timeout(setting, &first_byte)) ||
        (between_bytes > 0 && !wasi_http_types_method_request_options_set_between_bytes_timeout(setting, &between_bytes))) {
        abort();
    }
    return options;
}

// The request that the fields `x-scheme`, `x-authority` and `x-path` name, with the method of this one.
static wasi_http_types_own_outgoing_request_t request_like(request_t request) {
    wasi_http_types_own_outgoing_request_t asked =
        wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_request_t asking = wasi_http_types_borrow_outgoing_request(asked);
    bool is_tls = strcmp(field(request, "x-scheme"), "https") == 0;
    wasi_http_types_scheme_t scheme = {.tag = is_tls ? WASI_HTTP_TYPES_SCHEME_HTTPS : WASI_HTTP_TYPES_SCHEME_HTTP};
    program_string_t authority = string(field(request, "x-authority")), path = string(field(request, "x-path"));
    wasi_http_types_method_t method;
    wasi_http_types_method_incoming_request_method(wasi_http_types_borrow_incoming_request(request), &method);
    if (!wasi_http_types_method_outgoing_request_set_method(asking, &method) ||
        !wasi_http_types_method_outgoing_request_set_scheme(asking, &scheme) ||
        !wasi_http_types_method_outgoing_request_set_authority(asking, &authority) ||
        !wasi_http_types_method_outgoing_request_set_path_with_query(asking, &path)) {
        abort();
    }
    return asked;
}

// Passes the body on: all of one stream, as it comes.
static void pass(request_t request, body_t to) {
    static uint8_t buffer[65536];
    struct answer passed = {.body = to};
    wasi_http_types_own_incoming_body_t from;
    input_t stream;
    if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request), &from) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(from), &stream) ||
        !wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(to), &passed.stream)) {
        abort();
    }
    size_t len;
    while ((len = get(stream, buffer, sizeof buffer)) > 0 && put(&passed, buffer, len)) {
    }
    finish(&passed, NULL);
}

// The response to a request that is made with the body of this one, or why there is none.
static const char *response_to(request_t request, wasi_http_types_own_incoming_response_t *response) {
    wasi_http_types_own_outgoing_request_t asked = request_like(request);
    wasi_http_types_own_request_options_t options = waits(request);
    wasi_http_types_own_future_incoming_response_t future;
    wasi_http_types_error_code_t error;
    body_t body;
    if (!wasi_http_types_method_outgoing_request_body(wasi_http_types_borrow_outgoing_request(asked), &body)) {
        abort();
    }
    if (!wasi_http_outgoing_handler_handle(asked, &options, &future, &error)) {
        return ERROR_CODES[error.tag];
    }
    pass(request, body);
    wasi_http_types_borrow_future_incoming_response_t borrowed = wasi_http_types_borrow_future_incoming_response(future);
    wasi_io_poll_own_pollable_t pollable = wasi_http_types_method_future_incoming_response_subscribe(borrowed);
    wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
    wasi_http_types_result_result_own_incoming_response_error_code_void_t result;
    if (!wasi_http_types_method_future_incoming_response_get(borrowed, &result) || result.is_err) {
        abort();
    }
    if (result.val.ok.is_err) {
        return ERROR_CODES[result.val.ok.val.err.tag];
    }
    *response = result.val.ok.val.ok;
    return NULL;
}

// Makes a request and tells its status and its body, or the error code.
static void fetch(request_t request, outparam_t outparam) {
    wasi_http_types_own_incoming_response_t response;
    const char *error = response_to(request, &response);
    struct answer answer = begin_plain(outparam);
    if (error != NULL) {
        say(&answer, error);
        finish(&answer, NULL);
        return;
    }
    wasi_http_types_borrow_incoming_response_t responded = wasi_http_types_borrow_incoming_response(response);
    char text[8];
    snprintf(text, sizeof text, "%u ", wasi_http_types_method_incoming_response_status(responded));
    say(&answer, text);
    wasi_http_types_own_incoming_body_t body;
    input_t stream;
    if (!wasi_http_types_method_incoming_response_consume(responded, &body) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream)) {
        abort();
    }
    wasi_io_streams_borrow_input_stream_t reading = wasi_io_streams_borrow_input_stream(stream);
    program_list_u8_t piece;
    wasi_io_streams_stream_error_t end;
    while (wasi_io_streams_method_input_stream_blocking_read(reading, 65536, &piece, &end)) {
        put(&answer, piece.ptr, piece.len);
        program_list_u8_free(&piece);
    }
    wasi_http_types_error_code_t code;
    if (end.tag == WASI_IO_STREAMS_STREAM_ERROR_LAST_OPERATION_FAILED &&
        wasi_http_types_http_error_code(wasi_io_error_borrow_error(end.val.last_operation_failed), &code)) {
        say(&answer, " ");
        say(&answer, ERROR_CODES[code.tag]);
    }
    finish(&answer, NULL);
}

// What comes of fields that are none, each on a line.
static void malformed_fields(outparam_t outparam) {
    static const struct { const char *name, *value; size_t len; } FIELDS[] = {
        {"", "value", 5},
        {"two words", "value", 5},
        {"colon:", "value", 5},
        {"line\r\nx-other", "value", 5},
        {"n\xc3\xa4me", "value", 5},
        {"x-split", "value\r\nx-other: value", 20},
        {"x-feed", "value\nvalue", 11},
        {"x-return", "value\rvalue", 11},
        {"x-zero", "value\0value", 11},
        {"x-delete", "value\x7f", 6},
        {"content-length", "ten", 3},
        {"content-length", "-1", 2},
        {"connection", "close", 5},
        {"transfer-encoding", "chunked", 7},
        {"host", "elsewhere", 9},
        {"upgrade", "h2c", 3},
        {"x-bytes", "\xff\x80", 2},
    };
    fields_t fields = wasi_http_types_constructor_fields();
    char text[2048] = "";
    for (size_t at = 0; at < sizeof FIELDS / sizeof FIELDS[0]; at++) {
        strcat(text, append(fields, FIELDS[at].name, FIELDS[at].value, FIELDS[at].len));
        strcat(text, "\n");
    }
    struct answer answer = begin(outparam, fields);
    say(&answer, text);
    finish(&answer, NULL);
}

// Says that the body has so many bytes, writes others, and tells what comes of it on standard error.
static void other_length(outparam_t outparam, const char *announced, const char *bytes) {
    fields_t fields = wasi_http_types_constructor_fields();
    append(fields, "content-length", announced, strlen(announced));
    struct answer answer = begin(outparam, fields);
    bool written = say(&answer, bytes);
    fprintf(stderr, "written %d, finished %s\n", written, finish(&answer, NULL));
}

static const size_t LARGE = 200000;

// A value that is larger than all fields of a head may be.
static const char *large_value(void) {
    char *large = malloc(LARGE);
    return large == NULL ? "" : memset(large, 'x', LARGE);
}

void exports_wasi_http_incoming_handler_handle(request_t request, outparam_t outparam) {
    program_string_t target;
    if (!wasi_http_types_method_incoming_request_path_with_query(wasi_http_types_borrow_incoming_request(request), &target)) {
        abort();
    }
    const char *path = strndup((char *)target.ptr, target.len);
    struct answer answer;
    body_t body;
    if (strcmp(path, "/upper") == 0) {
        upper(request, outparam);
    } else if (strcmp(path, "/fetch") == 0) {
        fetch(request, outparam);
    } else if (strcmp(path, "/malformed-fields") == 0) {
        malformed_fields(outparam);
    } else if (strcmp(path, "/twice") == 0) {
        outparam_t again = outparam;
        answer = begin_plain(outparam);
        say(&answer, "once");
        set(again, new_response(wasi_http_types_constructor_fields(), &body));
    } else if (strcmp(path, "/never") == 0) {
        // Nothing.
    } else if (strcmp(path, "/drop") == 0) {
        wasi_http_types_response_outparam_drop_own(outparam);
    } else if (strcmp(path, "/unfinished") == 0) {
        answer = begin_plain(outparam);
        begin_saying(&answer);
    } else if (strcmp(path, "/dropped-body") == 0) {
        answer = begin_plain(outparam);
        begin_saying(&answer);
        wasi_io_streams_output_stream_drop_own(answer.stream);
        wasi_http_types_outgoing_body_drop_own(answer.body);
    } else if (strcmp(path, "/error") == 0) {
        wasi_http_types_result_own_outgoing_response_error_code_t result = {
            .is_err = true, .val.err.tag = WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_REFUSED};
        wasi_http_types_static_response_outparam_set(outparam, &result);
    } else if (strcmp(path, "/trap") == 0) {
        __builtin_trap();
    } else if (strcmp(path, "/trap-midway") == 0) {
        answer = begin_plain(outparam);
        begin_saying(&answer);
        __builtin_trap();
    } else if (strcmp(path, "/trap-at-end") == 0) {
        answer = begin_plain(outparam);
        say(&answer, "whole");
        finish(&answer, NULL);
        __builtin_trap();
    } else if (strcmp(path, "/spin-midway") == 0) {
        answer = begin_plain(outparam);
        begin_saying(&answer);
        for (volatile int spin = 1; spin;) {
        }
    } else if (strcmp(path, "/large-field") == 0) {
        fields_t fields = wasi_http_types_constructor_fields();
        const char *outcome = append(fields, "x-large", large_value(), LARGE);
        answer = begin(outparam, fields);
        say(&answer, outcome);
        finish(&answer, NULL);
    } else if (strcmp(path, "/many-fields") == 0) {
        // As many as are taken, and a response with all of them.
        fields_t fields = wasi_http_types_constructor_fields();
        const char *value = large_value();
        while (strcmp(append(fields, "x-many", value, 1000), "ok") == 0) {
        }
        answer = begin(outparam, fields);
        say(&answer, "sent");
        finish(&answer, NULL);
    } else if (strcmp(path, "/large-trailers") == 0) {
        fields_t trailers = wasi_http_types_constructor_fields();
        append(trailers, "x-large", large_value(), LARGE);
        append(trailers, "x-small", "small", 5);
        answer = begin_plain(outparam);
        say(&answer, "body");
        finish(&answer, &trailers);
    } else if (strcmp(path, "/length-in-trailers") == 0) {
        fields_t trailers = wasi_http_types_constructor_fields();
        append(trailers, "content-length", "3", 1);
        answer = begin_plain(outparam);
        say(&answer, "body");
        fprintf(stderr, "finished %s\n", finish(&answer, &trailers));
    } else if (strcmp(path, "/write-after-finish") == 0) {
        answer = begin_plain(outparam);
        say(&answer, "whole");
        finish(&answer, NULL);
        say(&answer, "more");
    } else if (strcmp(path, "/finish-with-stream") == 0) {
        answer = begin_plain(outparam);
        begin_saying(&answer);
        wasi_http_types_error_code_t error;
        wasi_http_types_static_outgoing_body_finish(answer.body, NULL, &error);
    } else if (strcmp(path, "/too-short") == 0) {
        other_length(outparam, "10", "short");
    } else if (strcmp(path, "/too-long") == 0) {
        other_length(outparam, "4", "too long");
    } else {
        answer = begin_plain(outparam);
        say(&answer, "bare");
        finish(&answer, NULL);
    }
}
