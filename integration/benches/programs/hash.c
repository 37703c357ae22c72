/* Integer work: FNV-1a over a small buffer, many times. Prints the last hash. */
#include <stdint.h>
#include <stdio.h>

int main(void) {
  static uint8_t buffer[4096];
  uint64_t hash = 0xcbf29ce484222325u;
  for (int round = 0; round < 100000; round++) {
    buffer[round % sizeof buffer] = (uint8_t)hash;
    for (unsigned i = 0; i < sizeof buffer; i++) hash = (hash ^ buffer[i]) * 0x100000001b3u;
  }
  printf("%016llx\n", (unsigned long long)hash);
  return 0;
}
