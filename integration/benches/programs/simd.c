/* Vectors of 128 bits: a product of matrices of 32-bit floats and a sum of bytes. Prints both sums. */
// flags: -O3 -msimd128
#include <stdint.h>
#include <stdio.h>

typedef float floats __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(16)));

enum { SIZE = 256, ROUNDS = 8 };

static float left[SIZE][SIZE], right[SIZE][SIZE];
static floats product[SIZE][SIZE / 4];
static bytes pixels[4096];

int main(void) {
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE; x++) {
      left[y][x] = (float)((y * 7 + x) % 13) / 8;
      right[y][x] = (float)((y + x * 3) % 11) / 8;
    }
  for (int round = 0; round < ROUNDS; round++)
    for (int y = 0; y < SIZE; y++)
      for (int x = 0; x < SIZE / 4; x++) {
        floats sum = product[y][x];
        for (int k = 0; k < SIZE; k++) sum += left[y][k] * ((floats *)right[k])[x];
        product[y][x] = sum / 2;
      }
  float total = 0;
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE / 4; x++) total += product[y][x][y % 4];

  bytes mixed = {1, 2, 3};
  for (int round = 0; round < 7000; round++)
    for (int i = 0; i < 4096; i++) {
      pixels[i] += mixed;
      mixed ^= pixels[i] >> 1;
    }
  unsigned hash = 0;
  for (int i = 0; i < 16; i++) hash = hash * 31 + mixed[i];
  printf("%.3f %u\n", (double)total, hash);
  return 0;
}
