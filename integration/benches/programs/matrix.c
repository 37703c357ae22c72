/* Floating-point work over a few MiB: matrix products. Prints the trace. */
#include <stdio.h>

enum { N = 384 };
static double a[N][N], b[N][N], c[N][N];

int main(void) {
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) a[i][j] = i + j, b[i][j] = i - j;
  for (int round = 0; round < 12; round++) {
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++) c[i][j] = 0;
    for (int i = 0; i < N; i++)
      for (int k = 0; k < N; k++)
        for (int j = 0; j < N; j++) c[i][j] += a[i][k] * b[k][j];
    a[0][0] = c[1][1] / 1e6;
  }
  double trace = 0;
  for (int i = 0; i < N; i++) trace += c[i][i];
  printf("%.6e\n", trace);
  return 0;
}
