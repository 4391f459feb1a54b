/*
 * Every operation of the C interface does what the header says. Ends with 0, or with the
 * line of the first thing that is wrong.
 */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static const cshm_write_options DEFAULTS = {.struct_bytes = sizeof(cshm_write_options)};
static const cshm_meta NOTHING = {.struct_bytes = sizeof(cshm_meta)};

static int holds(const cshm_cache *cache, const char *key, const char *value) {
    char buffer[256];
    size_t bytes = 0;
    int32_t result = cshm_get(cache, key, strlen(key), buffer, sizeof buffer, &bytes);
    if (value == NULL) return result == CSHM_NOT_FOUND;
    return result == CSHM_OK && bytes == strlen(value) && memcmp(buffer, value, bytes) == 0;
}

static void store(const cshm_cache *cache, const char *key, const char *value) {
    CHECK(cshm_set(cache, key, strlen(key), value, strlen(value), CSHM_NEVER) == CSHM_OK);
}

static void add_replace_and_cas(const cshm_cache *cache) {
    char buffer[8];
    uint64_t first = 0, version = 0;
    cshm_meta meta = NOTHING;
    CHECK(cshm_replace(cache, "k", 1, "v", 1, NULL, NULL) == CSHM_NOT_FOUND && holds(cache, "k", NULL));
    CHECK(cshm_add(cache, "k", 1, "one", 3, NULL, &first) == CSHM_OK && first != 0);
    CHECK(cshm_add(cache, "k", 1, "two", 3, NULL, &version) == CSHM_NOT_STORED && holds(cache, "k", "one"));
    CHECK(cshm_gets(cache, "k", 1, buffer, sizeof buffer, &meta) == CSHM_OK);
    CHECK(meta.version == first && meta.value_bytes == 3 && meta.ttl_ms == CSHM_NEVER);
    CHECK(meta.kind == CSHM_KIND_BYTES && meta.client_flags == 0 && meta.struct_bytes == sizeof meta);
    CHECK(cshm_cas(cache, "k", 1, first, "three", 5, NULL, &version) == CSHM_OK && version != first);
    CHECK(cshm_cas(cache, "k", 1, first, "four", 4, NULL, &first) == CSHM_NOT_STORED);
    CHECK(first == version && holds(cache, "k", "three"));
    CHECK(cshm_replace(cache, "k", 1, "five", 4, NULL, NULL) == CSHM_OK && holds(cache, "k", "five"));
    CHECK(cshm_delete(cache, "k", 1) == CSHM_OK);
    CHECK(cshm_cas(cache, "k", 1, first, "six", 3, NULL, NULL) == CSHM_NOT_FOUND && holds(cache, "k", NULL));
}

static void options_are_kept_with_the_value(const cshm_cache *cache) {
    cshm_write_options options = DEFAULTS;
    cshm_meta meta = NOTHING;
    uint64_t ttl_ms = 0;
    options.ttl_ms = 60000;
    options.kind = CSHM_KIND_STR;
    options.client_flags = 0xdeadbeef;
    CHECK(cshm_set_with(cache, "text", 4, "abc", 3, &options, NULL) == CSHM_OK);
    CHECK(cshm_get_meta(cache, "text", 4, &meta) == CSHM_OK);
    CHECK(meta.kind == CSHM_KIND_STR && meta.client_flags == 0xdeadbeef && meta.value_bytes == 3);
    CHECK(meta.ttl_ms > 50000 && meta.ttl_ms <= 60000);
    CHECK(cshm_ttl(cache, "text", 4, &ttl_ms) == CSHM_OK && ttl_ms > 50000 && ttl_ms <= 60000);
    CHECK(cshm_touch(cache, "text", 4, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_ttl(cache, "text", 4, &ttl_ms) == CSHM_OK && ttl_ms == CSHM_NEVER);
    CHECK(cshm_touch(cache, "text", 4, 0) == CSHM_OK && holds(cache, "text", NULL));
    CHECK(cshm_touch(cache, "text", 4, 1000) == CSHM_NOT_FOUND);
    CHECK(cshm_ttl(cache, "text", 4, &ttl_ms) == CSHM_NOT_FOUND);
    CHECK(cshm_get_meta(cache, "text", 4, &meta) == CSHM_NOT_FOUND);
}

static void a_handle_has_a_default_time_to_live(const cshm_cache *cache) {
    uint64_t ttl_ms = 0;
    cshm_write_options never = DEFAULTS;
    never.ttl_ms = CSHM_NEVER;
    CHECK(cshm_set_default_ttl(cache, 5000) == CSHM_OK);
    CHECK(cshm_add(cache, "d", 1, "v", 1, NULL, NULL) == CSHM_OK);
    CHECK(cshm_ttl(cache, "d", 1, &ttl_ms) == CSHM_OK && ttl_ms > 4000 && ttl_ms <= 5000);
    CHECK(cshm_set_with(cache, "d", 1, "v", 1, &never, NULL) == CSHM_OK);
    CHECK(cshm_ttl(cache, "d", 1, &ttl_ms) == CSHM_OK && ttl_ms == CSHM_NEVER);
    CHECK(cshm_set_default_ttl(cache, CSHM_NEVER) == CSHM_OK);
}

static void structs_of_other_versions_are_understood(const cshm_cache *cache) {
    struct {
        cshm_write_options known;
        uint64_t later;
    } options = {.known = {.struct_bytes = sizeof options}, .later = 0};
    struct {
        cshm_meta known;
        uint64_t later;
    } meta = {.known = {.struct_bytes = sizeof meta}, .later = 7};
    cshm_write_options unset = {.ttl_ms = 1000};
    CHECK(cshm_set_with(cache, "s", 1, "v", 1, &options.known, NULL) == CSHM_OK);
    options.later = 1;
    CHECK(cshm_set_with(cache, "s", 1, "w", 1, &options.known, NULL) == CSHM_INVALID_ARGUMENT);
    CHECK(cshm_set_with(cache, "s", 1, "w", 1, &unset, NULL) == CSHM_INVALID_ARGUMENT);
    CHECK(strstr(cshm_last_error(), "struct_bytes") != NULL && holds(cache, "s", "v"));
    CHECK(cshm_get_meta(cache, "s", 1, &meta.known) == CSHM_OK);
    CHECK(meta.known.value_bytes == 1 && meta.known.struct_bytes == sizeof meta && meta.later == 0);
}

static void memory_that_is_given_out_is_the_callers(const cshm_cache *cache) {
    void *value = &value;
    size_t bytes = 9;
    cshm_meta meta = NOTHING;
    CHECK(cshm_get_alloc(cache, "none", 4, &value, &bytes, NULL) == CSHM_NOT_FOUND);
    CHECK(value == NULL && bytes == 0);
    store(cache, "owned", "mine");
    CHECK(cshm_get_alloc(cache, "owned", 5, &value, &bytes, &meta) == CSHM_OK);
    CHECK(bytes == 4 && memcmp(value, "mine", 4) == 0 && meta.value_bytes == 4 && meta.version != 0);
    memset(value, 0, bytes);
    cshm_free(value);
    CHECK(holds(cache, "owned", "mine"));
    CHECK(cshm_set(cache, "owned", 5, NULL, 0, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get_alloc(cache, "owned", 5, &value, &bytes, NULL) == CSHM_OK && value != NULL && bytes == 0);
    cshm_free(value);
    cshm_free(NULL);
}

static void a_view_outlives_its_key_its_handle_and_its_region(void) {
    static char large[100000];
    cshm_cache *cache = NULL;
    cshm_view *view = NULL, *small = NULL, *none = NULL;
    cshm_meta meta = NOTHING;
    memset(large, 7, sizeof large);
    CHECK(cshm_open("viewed", 4 << 20, CSHM_OPEN_NEW, &cache) == CSHM_OK);
    CHECK(cshm_get_view(cache, "large", 5, &none) == CSHM_NOT_FOUND && none == NULL);
    CHECK(cshm_set(cache, "large", 5, large, sizeof large, CSHM_NEVER) == CSHM_OK);
    store(cache, "small", "tiny");
    CHECK(cshm_get_view(cache, "large", 5, &view) == CSHM_OK);
    CHECK(cshm_get_view(cache, "small", 5, &small) == CSHM_OK);
    CHECK(cshm_view_meta(view, &meta) == CSHM_OK && meta.value_bytes == sizeof large);
    memset(large, 8, sizeof large);
    CHECK(cshm_set(cache, "large", 5, large, sizeof large, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_delete(cache, "small", 5) == CSHM_OK);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_close(cache);
    pid_t child = fork();
    CHECK(child >= 0);
    memset(large, 7, sizeof large);
    CHECK(cshm_view_bytes(view) == sizeof large && memcmp(cshm_view_data(view), large, sizeof large) == 0);
    CHECK(cshm_view_bytes(small) == 4 && memcmp(cshm_view_data(small), "tiny", 4) == 0);
    CHECK((uintptr_t)cshm_view_data(view) % 64 == 0);
    cshm_view_release(view);
    cshm_view_release(small);
    cshm_view_release(NULL);
    if (child == 0) _exit(0);
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void counters_and_appends(const cshm_cache *cache) {
    int64_t sum = 0, zero = 0, most = INT64_MAX;
    size_t bytes = 0;
    uint64_t ttl_ms = 0;
    cshm_meta meta = NOTHING;
    cshm_write_options options = DEFAULTS;
    options.ttl_ms = 60000;
    CHECK(cshm_incr(cache, "n", 1, 1, NULL, NULL, &sum) == CSHM_NOT_FOUND);
    CHECK(cshm_incr(cache, "n", 1, 5, &zero, &options, &sum) == CSHM_OK && sum == 5);
    CHECK(cshm_incr(cache, "n", 1, -7, NULL, NULL, &sum) == CSHM_OK && sum == -2);
    CHECK(cshm_ttl(cache, "n", 1, &ttl_ms) == CSHM_OK && ttl_ms <= 60000);
    CHECK(cshm_get_meta(cache, "n", 1, &meta) == CSHM_OK && meta.kind == CSHM_KIND_INT && meta.value_bytes == 8);
    CHECK(cshm_incr(cache, "most", 4, 1, &most, NULL, &sum) == CSHM_OVERFLOW && holds(cache, "most", NULL));
    store(cache, "digits", "41");
    CHECK(cshm_incr(cache, "digits", 6, 1, NULL, NULL, NULL) == CSHM_OK && holds(cache, "digits", "42"));
    CHECK(cshm_append(cache, "digits", 6, "abc", 3, &bytes) == CSHM_OK && bytes == 5);
    CHECK(holds(cache, "digits", "42abc"));
    CHECK(cshm_incr(cache, "digits", 6, 1, NULL, NULL, &sum) == CSHM_NOT_INTEGER && holds(cache, "digits", "42abc"));
    CHECK(cshm_append(cache, "nothing", 7, "abc", 3, &bytes) == CSHM_NOT_FOUND && holds(cache, "nothing", NULL));
}

static void batches(const cshm_cache *cache) {
    enum { COUNT = 300 };
    static char names[COUNT][8];
    static cshm_item items[COUNT];
    static cshm_bytes keys[COUNT + 1];
    static int32_t results[COUNT + 1];
    const void *value = NULL;
    size_t count = 0, bytes = 0;
    cshm_values *values = NULL;
    cshm_meta meta = NOTHING;
    for (int number = 0; number < COUNT; number++) {
        snprintf(names[number], sizeof names[number], "b%d", number);
        keys[number] = (cshm_bytes){names[number], strlen(names[number])};
        items[number] = (cshm_item){keys[number], keys[number]};
    }
    keys[COUNT] = (cshm_bytes){"missing", 7};
    CHECK(cshm_set_many(cache, items, COUNT, NULL, results, &count) == CSHM_OK && count == COUNT);
    CHECK(cshm_get_many(cache, keys, COUNT + 1, &values) == CSHM_OK);
    for (int number = 0; number < COUNT; number++) {
        CHECK(results[number] == CSHM_OK);
        CHECK(cshm_values_get(values, number, &value, &bytes, &meta) == CSHM_OK);
        CHECK(bytes == keys[number].bytes && memcmp(value, names[number], bytes) == 0 && meta.value_bytes == bytes);
    }
    CHECK(cshm_values_get(values, COUNT, &value, &bytes, NULL) == CSHM_NOT_FOUND && value == NULL);
    CHECK(cshm_values_get(values, COUNT + 1, &value, &bytes, NULL) == CSHM_INVALID_ARGUMENT);
    cshm_values_free(values);
    cshm_values_free(NULL);

    /* One item that cannot be stored leaves the others stored, and is named. */
    items[1].key = (cshm_bytes){"", 0};
    items[0].value = (cshm_bytes){"new", 3};
    CHECK(cshm_set_many(cache, items, 3, NULL, results, &count) == CSHM_KEY_EMPTY && count == 2);
    CHECK(results[0] == CSHM_OK && results[1] == CSHM_KEY_EMPTY && results[2] == CSHM_OK);
    CHECK(holds(cache, "b0", "new"));
    CHECK(cshm_get_many(cache, NULL, 0, &values) == CSHM_OK);
    cshm_values_free(values);

    keys[1] = (cshm_bytes){"", 0};
    CHECK(cshm_delete_many(cache, keys, COUNT + 1, results, &count) == CSHM_KEY_EMPTY && count == COUNT - 1);
    CHECK(results[0] == CSHM_OK && results[1] == CSHM_KEY_EMPTY && results[COUNT] == CSHM_NOT_FOUND);
    CHECK(holds(cache, "b1", "b1") && holds(cache, "b2", NULL));
    CHECK(cshm_delete(cache, "b1", 2) == CSHM_OK);
}

/* A time to live of 0 would mean the default to a write that passes it on. */
static void what_can_be_read_has_time_left(const cshm_cache *cache) {
    uint64_t ttl_ms = 0;
    for (int round = 0; round < 20; round++) {
        int32_t result = cshm_set(cache, "short", 5, "v", 1, 2);
        for (int reads = 0; result == CSHM_OK && reads < 1000000; reads++) {
            cshm_meta meta = NOTHING;
            result = cshm_get_meta(cache, "short", 5, &meta);
            CHECK(result != CSHM_OK || meta.ttl_ms >= 1);
            if (result == CSHM_OK) result = cshm_ttl(cache, "short", 5, &ttl_ms);
            CHECK(result != CSHM_OK || ttl_ms >= 1);
        }
        CHECK(result == CSHM_NOT_FOUND);
    }
}

/* A whole batch that fails says so of each item: nobody takes one for stored that is not. */
static void a_batch_that_fails_says_so_of_each_item(void) {
    enum { COUNT = 3 };
    cshm_cache *cache = NULL;
    cshm_values *values = NULL;
    cshm_bytes keys[COUNT] = {{"a", 1}, {"b", 1}, {"c", 1}};
    cshm_item items[COUNT] = {{{"a", 1}, {"1", 1}}, {{"b", 1}, {"2", 1}}, {{"c", 1}, {"3", 1}}};
    int32_t results[COUNT] = {0, 0, 0};
    size_t count = COUNT;
    CHECK(cshm_open("batches", 1 << 20, CSHM_OPEN_NEW, &cache) == CSHM_OK);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    CHECK(cshm_set_many(cache, items, COUNT, NULL, results, &count) == CSHM_GONE && count == 0);
    for (int index = 0; index < COUNT; index++) CHECK(results[index] == CSHM_GONE);
    CHECK(cshm_set_many(cache, items, COUNT, NULL, results, &count) == CSHM_OK && count == COUNT);
    for (int index = 0; index < COUNT; index++) CHECK(results[index] == CSHM_OK);
    count = COUNT;
    CHECK(cshm_delete_many(cache, NULL, COUNT, results, &count) == CSHM_INVALID_ARGUMENT && count == 0);
    for (int index = 0; index < COUNT; index++) CHECK(results[index] == CSHM_INVALID_ARGUMENT);
    keys[1].bytes = 0;
    CHECK(cshm_get_many(cache, keys, COUNT, &values) == CSHM_KEY_EMPTY && values == NULL);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_close(cache);
}

static void a_scan_meets_each_key_once(void) {
    enum { COUNT = 2000 };
    static char seen[COUNT];
    cshm_cache *cache = NULL;
    cshm_scan *scan = NULL;
    const void *key = NULL;
    size_t bytes = 0;
    uint64_t count = 0;
    cshm_meta meta = NOTHING;
    CHECK(cshm_open(NULL, 4 << 20, 0, &cache) == CSHM_OK);
    for (int number = 0; number < COUNT; number++) {
        char name[16];
        int length = snprintf(name, sizeof name, "%s%d", number % 2 ? "odd:" : "even:", number);
        CHECK(cshm_set(cache, name, length, &number, sizeof number, CSHM_NEVER) == CSHM_OK);
    }
    CHECK(cshm_len(cache, &count) == CSHM_OK && count == COUNT);
    CHECK(cshm_scan_open(cache, "odd:", 4, &scan) == CSHM_OK);
    count = 0;
    int32_t result;
    while ((result = cshm_scan_next(scan, &key, &bytes, &meta)) == CSHM_OK) {
        char name[16] = {0};
        CHECK(bytes < sizeof name && meta.value_bytes == sizeof(int));
        memcpy(name, key, bytes);
        CHECK(strncmp(name, "odd:", 4) == 0);
        int number = atoi(name + 4);
        CHECK(number % 2 == 1 && seen[number]++ == 0);
        /* Whoever scans may write, and even delete what it has just met. */
        CHECK(cshm_delete(cache, key, bytes) == CSHM_OK);
        count++;
    }
    CHECK(result == CSHM_NOT_FOUND && key == NULL && bytes == 0 && count == COUNT / 2);
    CHECK(cshm_scan_next(scan, &key, &bytes, NULL) == CSHM_NOT_FOUND);
    cshm_scan_close(scan);
    CHECK(cshm_len(cache, &count) == CSHM_OK && count == COUNT / 2);

    /* A scan outlives its handle; it is given up before its end. */
    CHECK(cshm_scan_open(cache, NULL, 0, &scan) == CSHM_OK);
    cshm_close(cache);
    CHECK(cshm_scan_next(scan, &key, &bytes, NULL) == CSHM_OK && bytes > 5 && memcmp(key, "even:", 5) == 0);
    cshm_scan_close(scan);
    cshm_scan_close(NULL);
}

static void namespaces_and_tags(void) {
    cshm_cache *cache = NULL, *users = NULL, *again = NULL;
    static cshm_label names[8];
    static cshm_stat stats[64];
    size_t count = 0;
    uint64_t keys = 0;
    // So large that no two of a handful of tags share a word.
    CHECK(cshm_open(NULL, 512 << 20, 0, &cache) == CSHM_OK);
    store(cache, "7", "default");
    CHECK(cshm_namespace(cache, "users", 5, &users) == CSHM_OK);
    CHECK(cshm_namespace(cache, "", 0, &again) == CSHM_LABEL_LENGTH && again == NULL);
    CHECK(cshm_namespace(cache, "users", 5, &again) == CSHM_OK);
    CHECK(holds(users, "7", NULL));
    store(users, "7", "Ada");
    CHECK(holds(again, "7", "Ada") && holds(cache, "7", "default"));
    CHECK(cshm_namespaces(cache, NULL, 0, &count) == CSHM_OK && count == 2);
    CHECK(cshm_namespaces(users, names, 8, &count) == CSHM_OK && count == 2);
    CHECK(names[0].bytes == 0 && names[1].bytes == 5 && memcmp(names[1].text, "users", 5) == 0);
    CHECK(cshm_namespace_stats(users, stats, 64, &count) == CSHM_OK && count >= 6);
    CHECK(strcmp(stats[0].name, "hits") == 0 && stats[0].value == 1);
    CHECK(strcmp(stats[1].name, "misses") == 0 && stats[1].value == 1);

    cshm_bytes tags[] = {{"user:7", 6}, {"page", 4}};
    cshm_write_options options = DEFAULTS;
    options.tags = tags;
    options.tag_count = 2;
    CHECK(cshm_set_with(users, "page:1", 6, "Hello", 5, &options, NULL) == CSHM_OK);
    CHECK(cshm_evict_tag(cache, "user:7", 6) == CSHM_OK && holds(users, "page:1", "Hello"));
    CHECK(cshm_evict_tag(users, "user:7", 6) == CSHM_OK && holds(users, "page:1", NULL));
    CHECK(cshm_evict_tag(users, "", 0) == CSHM_LABEL_LENGTH);
    CHECK(cshm_clear(users) == CSHM_OK && holds(users, "7", NULL) && holds(cache, "7", "default"));
    store(users, "7", "Bob");
    CHECK(cshm_clear_all(users) == CSHM_OK && holds(users, "7", NULL) && holds(cache, "7", NULL));
    CHECK(cshm_len(users, &keys) == CSHM_OK && keys == 0);
    cshm_close(again);
    cshm_close(users);
    cshm_close(cache);
}

static void statistics_by_name(const cshm_cache *cache) {
    static cshm_stat stats[128];
    uint64_t hits = 9, value = 0;
    size_t count = 0, few = 0;
    CHECK(cshm_reset_stats(cache) == CSHM_OK);
    CHECK(cshm_stat_value(cache, "hits", &hits) == CSHM_OK && hits == 0);
    store(cache, "s", "v");
    CHECK(holds(cache, "s", "v"));
    CHECK(cshm_stat_value(cache, "hits", &hits) == CSHM_OK && hits == 1);
    CHECK(cshm_stat_value(cache, "no such", &value) == CSHM_NOT_FOUND);
    CHECK(cshm_stats(cache, stats, 128, &count) == CSHM_OK && count > 20 && count < 128);
    for (size_t index = 0; index < count; index++) {
        CHECK(stats[index].name[0] != '\0');
        CHECK(cshm_stat_value(cache, stats[index].name, &value) == CSHM_OK);
    }
    CHECK(stats[count].name == NULL);
    CHECK(cshm_stats(cache, stats, 1, &few) == CSHM_OK && few == count);
}

static void locks_permits_and_rates(const cshm_cache *cache) {
    cshm_guard *guard = NULL, *other = NULL, *third = NULL;
    uint64_t remaining = 0, retry_after_ms = 0;
    CHECK(cshm_lock(cache, "job", 3, CSHM_NEVER, 0, &guard) == CSHM_OK);
    uint64_t token = cshm_guard_token(guard);
    CHECK(cshm_lock(cache, "job", 3, CSHM_NEVER, 0, &other) == CSHM_NOT_GRANTED && other == NULL);
    CHECK(cshm_guard_extend(guard, 60000) == CSHM_OK && cshm_guard_extend(guard, 0) == CSHM_INVALID_ARGUMENT);
    CHECK(cshm_unlock(guard) == CSHM_OK && cshm_unlock(NULL) == CSHM_OK);
    CHECK(cshm_lock(cache, "job", 3, 0, 0, &guard) == CSHM_INVALID_ARGUMENT && guard == NULL);
    CHECK(cshm_lock(cache, "job", 3, 60000, 1000, &guard) == CSHM_OK && cshm_guard_token(guard) > token);

    /* A process that dies gives its lock back; one that is forked does not have it. */
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(cshm_unlock(guard) == CSHM_NOT_HOLDER);
        CHECK(cshm_lock(cache, "child's", 7, CSHM_NEVER, 0, &other) == CSHM_OK);
        CHECK(write(ready[1], "!", 1) == 1);
        _exit(0);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(cshm_lock(cache, "child's", 7, CSHM_NEVER, 5000, &other) == CSHM_OK);
    CHECK(cshm_unlock(other) == CSHM_OK && cshm_unlock(guard) == CSHM_OK);
    close(ready[0]);
    close(ready[1]);

    CHECK(cshm_permit(cache, "two", 3, 2, CSHM_NEVER, 0, &guard) == CSHM_OK);
    CHECK(cshm_permit(cache, "two", 3, 2, CSHM_NEVER, 0, &other) == CSHM_OK);
    CHECK(cshm_permit(cache, "two", 3, 2, CSHM_NEVER, 0, &third) == CSHM_NOT_GRANTED);
    CHECK(cshm_unlock(guard) == CSHM_OK);
    CHECK(cshm_permit(cache, "two", 3, 2, CSHM_NEVER, 0, &third) == CSHM_OK);
    CHECK(cshm_unlock(third) == CSHM_OK && cshm_unlock(other) == CSHM_OK);

    for (int number = 0; number < 3; number++) {
        CHECK(cshm_hit(cache, "api", 3, "ada", 3, 3, 3600000, 1, &remaining, &retry_after_ms) == CSHM_OK);
        CHECK(remaining == 2u - number && retry_after_ms == 0);
    }
    CHECK(cshm_hit(cache, "api", 3, "ada", 3, 3, 3600000, 1, &remaining, &retry_after_ms) == CSHM_NOT_GRANTED);
    CHECK(remaining == 0 && retry_after_ms > 0 && retry_after_ms <= 3600000);
    CHECK(cshm_hit(cache, "api", 3, "bob", 3, 3, 3600000, 1, NULL, NULL) == CSHM_OK);
}

static void a_region_is_opened_as_the_options_say(void) {
    char directory[256], path[300];
    struct stat file;
    cshm_cache *cache = NULL;
    uint64_t ttl_ms = 0;
    cshm_open_options options = {.struct_bytes = sizeof options};
    snprintf(directory, sizeof directory, "%s/opened", getenv("CACHE_SHM_DIR"));
    snprintf(path, sizeof path, "%s/region", directory);
    char group[16];
    snprintf(group, sizeof group, "%u", (unsigned)getegid());
    options.size_bytes = 2 << 20;
    options.flags = CSHM_OPEN_NEW;
    options.mode = 0660;
    options.group = group;
    options.timeout_ms = 20000;
    options.default_ttl_ms = 30000;
    options.directory = directory;
    CHECK(cshm_open_with("region", &options, &cache) == CSHM_OK);
    CHECK(strcmp(cshm_path(cache), path) == 0 && stat(path, &file) == 0);
    CHECK(file.st_size == 2 << 20 && (file.st_mode & 0777) == 0660 && file.st_gid == getegid());
    CHECK(cshm_add(cache, "k", 1, "v", 1, NULL, NULL) == CSHM_OK);
    CHECK(cshm_ttl(cache, "k", 1, &ttl_ms) == CSHM_OK && ttl_ms > 20000 && ttl_ms <= 30000);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_close(cache);
}

struct heard {
    int32_t level;
    char message[256];
};

static void hear(void *context, int32_t level, const char *message) {
    struct heard *heard = context;
    heard->level = level;
    snprintf(heard->message, sizeof heard->message, "%s", message);
}

static void the_program_hears_what_is_noticed(void) {
    static struct heard heard;
    cshm_cache *cache = NULL, *larger = NULL;
    CHECK(cshm_set_log(hear, &heard) == CSHM_OK);
    CHECK(cshm_open("heard", 1 << 20, 0, &cache) == CSHM_OK && heard.level == 0);
    CHECK(cshm_open("heard", 2 << 20, 0, &larger) == CSHM_OK && heard.level == CSHM_LOG_WARN);
    CHECK(strstr(heard.message, "1048576 bytes and 2097152 were asked for") != NULL);
    cshm_close(larger);
    heard.level = 0;
    CHECK(unlink(cshm_path(cache)) == 0);
    /* The file is looked at once a second: a write that finds it gone says so. */
    int32_t result = CSHM_OK;
    for (int tries = 0; result == CSHM_OK && tries < 3000; tries++) {
        result = cshm_set(cache, "k", 1, "v", 1, CSHM_NEVER);
        usleep(1000);
    }
    CHECK(result == CSHM_GONE && heard.level == CSHM_LOG_WARN);
    CHECK(strstr(heard.message, "heard was removed") != NULL);
    cshm_close(cache);
}

static void a_region_says_what_it_is_and_goes(void) {
    cshm_cache *cache = NULL, *private = NULL;
    CHECK(cshm_open("named", 1 << 20, 0, &cache) == CSHM_OK);
    CHECK(strcmp(cshm_name(cache), "named") == 0);
    CHECK(strcmp(strrchr(cshm_path(cache), '/'), "/named") == 0);
    CHECK(cshm_destroy_name("named") == CSHM_OK);
    CHECK(cshm_destroy_name("named") == CSHM_MISSING);
    CHECK(cshm_set(cache, "k", 1, "v", 1, CSHM_NEVER) == CSHM_GONE);
    CHECK(cshm_set(cache, "k", 1, "v", 1, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_close(cache);
    CHECK(cshm_open(NULL, 1 << 20, 0, &private) == CSHM_OK);
    CHECK(cshm_name(private) == NULL && cshm_path(private) == NULL);
    cshm_close(private);
    CHECK(cshm_abi_version() == CSHM_ABI_VERSION && strchr(cshm_version(), '.') != NULL);
}

static void a_reader_reads_everything_and_changes_nothing(const cshm_cache *cache) {
    cshm_cache *reader = NULL, *users = NULL;
    cshm_view *view = NULL;
    cshm_guard *guard = NULL;
    int64_t zero = 0;
    size_t count = 9;
    store(cache, "r", "value");
    CHECK(cshm_open(cshm_path(cache), 0, CSHM_OPEN_EXISTING | CSHM_OPEN_READ_ONLY, &reader) == CSHM_OK);
    CHECK(holds(reader, "r", "value") && cshm_contains(reader, "r", 1) == CSHM_OK);
    CHECK(cshm_contains(reader, "q", 1) == CSHM_NOT_FOUND);
    CHECK(cshm_get_view(reader, "r", 1, &view) == CSHM_OK && cshm_view_bytes(view) == 5);
    cshm_view_release(view);
    CHECK(cshm_incr(reader, "n", 1, 1, &zero, NULL, NULL) == CSHM_READ_ONLY);
    CHECK(cshm_clear(reader) == CSHM_READ_ONLY && cshm_destroy(reader) == CSHM_READ_ONLY);
    CHECK(cshm_lock(reader, "l", 1, CSHM_NEVER, 0, &guard) == CSHM_READ_ONLY && guard == NULL);
    CHECK(cshm_namespace(reader, "nobody's", 8, &users) == CSHM_OK);
    CHECK(cshm_namespace_stats(users, NULL, 0, &count) == CSHM_NOT_FOUND && count == 0);
    CHECK(holds(users, "r", NULL));
    cshm_close(users);
    cshm_close(reader);
    CHECK(holds(cache, "r", "value"));
}

int main(void) {
    cshm_cache *cache = NULL;
    CHECK(cshm_open("operations", 4 << 20, CSHM_OPEN_NEW, &cache) == CSHM_OK);
    add_replace_and_cas(cache);
    options_are_kept_with_the_value(cache);
    a_handle_has_a_default_time_to_live(cache);
    structs_of_other_versions_are_understood(cache);
    memory_that_is_given_out_is_the_callers(cache);
    a_view_outlives_its_key_its_handle_and_its_region();
    counters_and_appends(cache);
    batches(cache);
    what_can_be_read_has_time_left(cache);
    a_batch_that_fails_says_so_of_each_item();
    a_scan_meets_each_key_once();
    namespaces_and_tags();
    statistics_by_name(cache);
    locks_permits_and_rates(cache);
    a_region_says_what_it_is_and_goes();
    a_region_is_opened_as_the_options_say();
    the_program_hears_what_is_noticed();
    a_reader_reads_everything_and_changes_nothing(cache);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_close(cache);
    puts("ok");
    return 0;
}
