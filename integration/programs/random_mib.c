// Takes 1 MiB of random bytes at once: every value is there about as often as any other.
#include <stdio.h>
#include <stdlib.h>

#ifdef __wasip2__
#include <wasi/wasip2.h>
#else
#include <wasi/api.h>
#endif

enum { SIZE = 1 << 20 };

int main(void) {
    static unsigned counts[256];
    unsigned char *bytes;
#ifdef __wasip2__
    wasip2_list_u8_t list;
    random_get_random_bytes(SIZE, &list);
    if (list.len != SIZE) return 1;
    bytes = list.ptr;
#else
    bytes = malloc(SIZE);
    if (!bytes || __wasi_random_get(bytes, SIZE)) return 1;
#endif
    for (int i = 0; i < SIZE; i++) counts[bytes[i]]++;
    for (int value = 0; value < 256; value++)
        // 4096 are expected, and the standard deviation is 64.
        if (counts[value] < 3584 || counts[value] > 4608) {
            fprintf(stderr, "%u times %d\n", counts[value], value);
            return 2;
        }
    puts("ok");
    return 0;
}
