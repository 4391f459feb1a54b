/* What the sanitizers must stop, by the word that it is given: so it is seen that they are there. */
#include <limits.h>

#include "check.h"

int main(int count, char **arguments) {
    cshm_cache *cache = NULL;
    void *value = NULL;
    size_t bytes = 0;
    CHECK(count == 2);
    CHECK(cshm_open(NULL, 1 << 20, 0, &cache) == CSHM_OK);
    CHECK(cshm_set(cache, "k", 1, "value", 5, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get_alloc(cache, "k", 1, &value, &bytes, NULL) == CSHM_OK);
    if (strcmp(arguments[1], "use-after-free") == 0) {
        cshm_free(value);
        return ((volatile char *)value)[0] == 'v';
    }
    if (strcmp(arguments[1], "leak") == 0) {
        value = NULL;
        cshm_close(cache);
        return 0;
    }
    if (strcmp(arguments[1], "overflow") == 0) {
        volatile int number = INT_MAX;
        number = number + (int)bytes;
        return 0;
    }
    return 1;
}
