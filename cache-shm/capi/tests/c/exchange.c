/*
 * One end of an exchange with a Python process: reads what that stored, by its kind, stores
 * values for it, and counts along with it. Arguments: the region's path, and how far to count.
 */
#include <math.h>

#include "check.h"

static cshm_cache *cache;

static void expect(const char *key, uint32_t kind, const void *value, size_t bytes) {
    static unsigned char buffer[1 << 20];
    cshm_meta meta = {.struct_bytes = sizeof meta};
    int32_t result = cshm_gets(cache, key, strlen(key), buffer, sizeof buffer, &meta);
    if (result != CSHM_OK || meta.kind != kind || meta.value_bytes != bytes) {
        fprintf(stderr, "%s: %s, kind %u, %u bytes\n", key, cshm_error_text(result), meta.kind,
                (unsigned)meta.value_bytes);
    }
    CHECK(result == CSHM_OK && meta.kind == kind && meta.value_bytes == bytes);
    CHECK(memcmp(buffer, value, bytes) == 0);
}

static void give(const char *key, uint32_t kind, const void *value, size_t bytes) {
    cshm_write_options options = {.struct_bytes = sizeof options};
    options.kind = kind;
    options.ttl_ms = 600000;
    CHECK(cshm_set_with(cache, key, strlen(key), value, bytes, &options, NULL) == CSHM_OK);
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    static unsigned char large[300000];
    const int64_t number = -1234567890123, zero = 0;
    const double half = 1.5, infinity = INFINITY;
    uint64_t ttl_ms = 0;
    int64_t sum = 0;
    memset(large, 'x', sizeof large);
    CHECK(cshm_open(arguments[1], 0, CSHM_OPEN_EXISTING, &cache) == CSHM_OK);

    expect("bytes", CSHM_KIND_BYTES, "\0\1\xff", 3);
    expect("text", CSHM_KIND_STR, "h\xc3\xa9", 3);
    expect("int", CSHM_KIND_INT, &number, sizeof number);
    expect("float", CSHM_KIND_FLOAT, &half, sizeof half);
    expect("none", CSHM_KIND_NONE, NULL, 0);
    expect("true", CSHM_KIND_TRUE, NULL, 0);
    expect("false", CSHM_KIND_FALSE, NULL, 0);
    /* [1, -1, "a", None, 1.5], as docs/value-encoding.md shows it. */
    expect("list", CSHM_KIND_TAGGED, "\x85\x01\x20\x61\x61\xf6\xfb\x3f\xf8\0\0\0\0\0\0", 15);
    expect("bytearray", CSHM_KIND_BYTEARRAY, "abc", 3);
    expect("large", CSHM_KIND_BYTES, large, sizeof large);
    expect("7", CSHM_KIND_STR, "an int is a key by its digits", 29);
    CHECK(cshm_ttl(cache, "text", 4, &ttl_ms) == CSHM_OK && ttl_ms > 500000 && ttl_ms <= 600000);

    give("c bytes", CSHM_KIND_BYTES, "\0\1\xff", 3);
    give("c text", CSHM_KIND_STR, "h\xc3\xa9", 3);
    give("c int", CSHM_KIND_INT, &number, sizeof number);
    give("c float", CSHM_KIND_FLOAT, &infinity, sizeof infinity);
    give("c none", CSHM_KIND_NONE, NULL, 0);
    give("c true", CSHM_KIND_TRUE, NULL, 0);
    give("c false", CSHM_KIND_FALSE, NULL, 0);
    give("c list", CSHM_KIND_TAGGED, "\x85\x01\x20\x61\x61\xf6\xfb\x3f\xf8\0\0\0\0\0\0", 15);
    give("c large", CSHM_KIND_BYTES, large, sizeof large);
    CHECK(cshm_set(cache, "c plain", 7, "plain", 5, CSHM_NEVER) == CSHM_OK);

    cshm_cache *users = NULL;
    CHECK(cshm_namespace(cache, "users", 5, &users) == CSHM_OK);
    CHECK(cshm_contains(users, "ada", 3) == CSHM_OK && cshm_contains(cache, "ada", 3) == CSHM_NOT_FOUND);
    cshm_close(users);

    /* Waits for the other end, then counts while that counts too. */
    cshm_guard *guard = NULL;
    CHECK(cshm_lock(cache, "start", 5, CSHM_NEVER, 60000, &guard) == CSHM_OK);
    CHECK(cshm_unlock(guard) == CSHM_OK);
    for (long left = atol(arguments[2]); left > 0; left--) {
        CHECK(cshm_incr(cache, "count", 5, 1, &zero, NULL, &sum) == CSHM_OK);
    }
    cshm_close(cache);
    puts("ok");
    return 0;
}
