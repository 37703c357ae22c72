/* Branches and indirect calls over 4 MiB: qsort. Prints a checksum. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

int main(void) {
  size_t count = 1 << 20;
  uint32_t *values = malloc(count * sizeof *values), state = 1, sum = 0;
  if (!values) return 1;
  for (size_t i = 0; i < count; i++) values[i] = state = state * 1664525u + 1013904223u;
  qsort(values, count, sizeof *values, ascending);
  for (size_t i = 0; i < count; i++) sum = sum * 31 + values[i];
  printf("%08x\n", sum);
  return 0;
}
