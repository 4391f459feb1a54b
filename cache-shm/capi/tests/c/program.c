/*
 * A C program on the cache: what it promises, and what bad input gets. Ends with 0, or
 * with the line of the first thing that is wrong.
 */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void stores_reads_and_deletes(cshm_cache *cache) {
    char buffer[64];
    size_t bytes = 99;
    CHECK(cshm_get(cache, "key", 3, buffer, sizeof buffer, &bytes) == CSHM_NOT_FOUND);
    CHECK(bytes == 0);
    CHECK(cshm_set(cache, "key", 3, "value", 5, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get(cache, "key", 3, buffer, sizeof buffer, &bytes) == CSHM_OK);
    CHECK(bytes == 5 && memcmp(buffer, "value", 5) == 0);
    CHECK(cshm_get(cache, "key", 3, buffer, sizeof buffer, NULL) == CSHM_OK);
    CHECK(cshm_delete(cache, "key", 3) == CSHM_OK);
    CHECK(cshm_delete(cache, "key", 3) == CSHM_NOT_FOUND);

    /* Keys and values are bytes, zeros and nothing included. */
    CHECK(cshm_set(cache, "a\0b", 3, "x\0y", 3, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get(cache, "a\0b", 3, buffer, sizeof buffer, &bytes) == CSHM_OK);
    CHECK(bytes == 3 && memcmp(buffer, "x\0y", 3) == 0);
    CHECK(cshm_get(cache, "a", 1, buffer, sizeof buffer, &bytes) == CSHM_NOT_FOUND);
    CHECK(cshm_set(cache, "empty", 5, NULL, 0, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get(cache, "empty", 5, NULL, 0, &bytes) == CSHM_OK && bytes == 0);
}

static void a_buffer_that_is_too_small_learns_the_length(cshm_cache *cache) {
    static char large[100000], back[100000];
    size_t bytes = 0;
    memset(large, 7, sizeof large);
    CHECK(cshm_set(cache, "large", 5, large, sizeof large, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get(cache, "large", 5, NULL, 0, &bytes) == CSHM_BUFFER_TOO_SMALL);
    CHECK(bytes == sizeof large);
    CHECK(strstr(cshm_last_error(), "100000") != NULL);
    CHECK(cshm_get(cache, "large", 5, back, sizeof back - 1, NULL) == CSHM_BUFFER_TOO_SMALL);
    CHECK(cshm_get(cache, "large", 5, back, sizeof back, &bytes) == CSHM_OK);
    CHECK(memcmp(back, large, sizeof large) == 0);
}

static void time_to_live(cshm_cache *cache) {
    char buffer[8];
    CHECK(cshm_set(cache, "long", 4, "v", 1, 3600 * 1000) == CSHM_OK);
    CHECK(cshm_get(cache, "long", 4, buffer, sizeof buffer, NULL) == CSHM_OK);
    CHECK(cshm_set(cache, "long", 4, "v", 1, 0) == CSHM_OK);
    CHECK(cshm_get(cache, "long", 4, buffer, sizeof buffer, NULL) == CSHM_NOT_FOUND);
    CHECK(cshm_set(cache, "longer", 6, "v", 1, UINT64_MAX - 1) == CSHM_OK);
    CHECK(cshm_get(cache, "longer", 6, buffer, sizeof buffer, NULL) == CSHM_OK);
}

static void a_region_that_cannot_be_is_named(cshm_cache *cache) {
    static char key[65536];
    cshm_cache *out = cache;
    CHECK(cshm_open("", 1 << 20, 0, &out) == CSHM_INVALID_NAME && out == NULL);
    CHECK(cshm_open("../name", 1 << 20, 0, &out) == CSHM_INVALID_NAME);
    CHECK(cshm_open("na\nme", 1 << 20, 0, &out) == CSHM_INVALID_NAME);
    CHECK(cshm_open("\xff\xfe", 1 << 20, 0, &out) == CSHM_INVALID_NAME);
    CHECK(cshm_open("name", 4096, 0, &out) == CSHM_INVALID_SIZE);
    CHECK(strstr(cshm_last_error(), "1048576") != NULL);
    CHECK(cshm_open("name", 0, CSHM_OPEN_EXISTING, &out) == CSHM_MISSING && out == NULL);
    CHECK(cshm_open(NULL, 0, CSHM_OPEN_EXISTING, &out) == CSHM_INVALID_ARGUMENT);
    CHECK(cshm_set(cache, key, sizeof key, "v", 1, CSHM_NEVER) == CSHM_KEY_TOO_LONG);
}

static void errors_have_words(void) {
    CHECK(strcmp(cshm_error_text(CSHM_OK), "ok") == 0);
    CHECK(strcmp(cshm_error_text(CSHM_NOT_FOUND), "not_found") == 0);
    CHECK(strcmp(cshm_error_text(CSHM_NO_SPACE), "no_space") == 0);
    CHECK(strcmp(cshm_error_text(CSHM_NOT_STORED), "not_stored") == 0);
    CHECK(strcmp(cshm_error_text(CSHM_NOT_GRANTED), "not_granted") == 0);
    CHECK(strcmp(cshm_error_text(INT32_MIN), "unknown") == 0);
    CHECK(strcmp(cshm_error_text(INT32_MAX), "unknown") == 0);
}

static void a_forked_child_uses_the_handle(cshm_cache *cache) {
    char buffer[8];
    CHECK(cshm_set(cache, "who", 3, "parent", 6, CSHM_NEVER) == CSHM_OK);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(cshm_get(cache, "who", 3, buffer, sizeof buffer, NULL) == CSHM_OK);
        CHECK(cshm_set(cache, "who", 3, "child", 5, CSHM_NEVER) == CSHM_OK);
        cshm_close(cache);
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(cshm_get(cache, "who", 3, buffer, sizeof buffer, NULL) == CSHM_OK);
    CHECK(memcmp(buffer, "child", 5) == 0);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    char path[4096];
    cshm_cache *cache = NULL, *second = NULL;
    char buffer[8];
    struct stat stat_of_region;

    errors_have_words();
    CHECK(cshm_open("region", 2 << 20, CSHM_OPEN_NEW, &cache) == CSHM_OK && cache != NULL);
    CHECK(cshm_open("region", 2 << 20, CSHM_OPEN_NEW, &second) == CSHM_EXISTS && second == NULL);
    snprintf(path, sizeof path, "%s/region", arguments[1]);
    CHECK(stat(path, &stat_of_region) == 0);
    CHECK(stat_of_region.st_size == 2 << 20 && (stat_of_region.st_mode & 0777) == 0600);

    stores_reads_and_deletes(cache);
    a_buffer_that_is_too_small_learns_the_length(cache);
    time_to_live(cache);
    a_region_that_cannot_be_is_named(cache);
    a_forked_child_uses_the_handle(cache);

    /* By path, without a size, as a reader. */
    CHECK(cshm_open(path, 0, CSHM_OPEN_EXISTING | CSHM_OPEN_READ_ONLY, &second) == CSHM_OK);
    CHECK(cshm_get(second, "who", 3, buffer, sizeof buffer, NULL) == CSHM_OK);
    CHECK(cshm_set(second, "who", 3, "reader", 6, CSHM_NEVER) == CSHM_READ_ONLY);
    CHECK(cshm_delete(second, "who", 3) == CSHM_READ_ONLY);
    cshm_close(second);
    cshm_close(cache);

    /* A file that is not a region is named and left alone. */
    CHECK(truncate(path, 5000) == 0);
    CHECK(cshm_open("region", 2 << 20, 0, &cache) == CSHM_TRUNCATED && cache == NULL);
    CHECK(strstr(cshm_last_error(), "5000") != NULL);
    CHECK(unlink(path) == 0);

    /* A private region, and one that refuses instead of evicting. */
    CHECK(cshm_open(NULL, 1 << 20, 0, &cache) == CSHM_OK);
    a_forked_child_uses_the_handle(cache);
    cshm_close(cache);
    CHECK(cshm_open("full", 1 << 20, CSHM_OPEN_NO_EVICT | CSHM_OPEN_EPHEMERAL, &cache) == CSHM_OK);
    static char value[10000];
    int32_t result = CSHM_OK;
    for (int number = 0; result == CSHM_OK && number < 1000; number++) {
        result = cshm_set(cache, &number, sizeof number, value, sizeof value, CSHM_NEVER);
    }
    CHECK(result == CSHM_FULL);
    cshm_close(cache);
    CHECK(cshm_open("full", 0, CSHM_OPEN_EXISTING, &cache) == CSHM_MISSING);
    puts("ok");
    return 0;
}
