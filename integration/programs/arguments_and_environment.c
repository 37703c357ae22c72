// Prints its arguments and its environment, one a line, without the program's own name.
//
// builds: c_p1 c_p2 c_adapted
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **variable = environ; variable && *variable; variable++)
        printf("environment %s\n", *variable);
    return 0;
}
