// What a component sees of its micro-VM: arguments, one variable, the time, and its own files.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char path[] = "/greeting.txt";

int main(int argc, char **argv) {
    const char *name = getenv("NAME");
    printf("Hello, %s!\n", name ? name : "world (set NAME to be greeted)");

    for (int i = 1; i < argc; i++)
        printf("argument %d is \"%s\"\n", i, argv[i]);

    time_t now = time(NULL);
    char when[32];
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", gmtime(&now));
    printf("it is %s UTC\n", when);

    FILE *file = fopen(path, "w");
    if (!file) {
        printf("no directory to write to (give one: --dir HOST::/)\n");
        return 0;
    }
    fprintf(file, "written inside the micro-VM at %s", when);
    char text[80] = "";
    if (fclose(file) || !(file = fopen(path, "r")) || !fgets(text, sizeof text, file)) {
        perror(path);
        return 1;
    }
    fclose(file);
    printf("%s says \"%s\"\n", path, text);
    return 0;
}
