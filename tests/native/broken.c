/* What a sanitizer must find: a data race, and a read behind the end of an array. */
#include <stdlib.h>

static volatile long count;

void race(long n) {
    for (long i = 0; i < n; ++i) ++count;
}

int overrun(long n) {
    volatile char* bytes = malloc((size_t)n);
    bytes[0] = 1;
    const int found = bytes[n];
    free((void*)bytes);
    return found;
}
