// Leaves ten functions at once by longjmp, which is an exception in wasm.
//
// builds: c_p1 c_p2
// flags: -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false -lsetjmp
#include <setjmp.h>
#include <stdio.h>

static jmp_buf start;

static void descend(int depth) {
    if (depth == 10) longjmp(start, depth);
    descend(depth + 1);
    printf("returned from %d\n", depth);
}

int main(void) {
    int depth = setjmp(start);
    printf("at depth %d\n", depth);
    if (depth == 0) descend(1);
    return 0;
}
