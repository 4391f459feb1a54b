/*
 * Every function with every pointer NULL, and with bad numbers, lengths and flags: each gets
 * the number that the header says, and nothing that is stored changes.
 *
 * A row is NULLED(function, parameter, result, call) or BAD(result, call). The test that runs
 * this program reads the header, and fails unless there is a NULLED row for each pointer of
 * each function: it looks for the names, and for a NULL in the call.
 */
#include "check.h"

static cshm_cache *cache;

/* What would tell a change: what is stored, and how often anything was. */
static uint64_t changes(void) {
    uint64_t keys = 0, sets = 0, deletes = 0, digest = 0;
    size_t namespaces = 0, bytes = 0;
    char value[16];
    CHECK(cshm_len(cache, &keys) == CSHM_OK);
    CHECK(cshm_stat_value(cache, "sets", &sets) == CSHM_OK);
    CHECK(cshm_stat_value(cache, "deletes", &deletes) == CSHM_OK);
    CHECK(cshm_namespaces(cache, NULL, 0, &namespaces) == CSHM_OK);
    CHECK(cshm_get(cache, "k", 1, value, sizeof value, &bytes) == CSHM_OK);
    for (size_t index = 0; index < bytes; index++) digest = digest * 31 + (unsigned char)value[index];
    return keys + 31 * (sets + 31 * (deletes + 31 * (namespaces + 31 * digest)));
}

#define BAD(expected, call)                                                                     \
    do {                                                                                        \
        uint64_t before = changes();                                                            \
        int32_t got = (call);                                                                   \
        if (got != (expected)) fprintf(stderr, "%s: %s\n", #call, cshm_error_text(got));        \
        CHECK(got == (expected));                                                               \
        CHECK(changes() == before);                                                             \
        rows++;                                                                                 \
    } while (0)

/* A NULL that is allowed may go with a change. */
#define FINE(call)                       \
    do {                                 \
        CHECK((call) == CSHM_OK);        \
        rows++;                          \
    } while (0)

#define NULLED(function, parameter, expected, call) \
    do {                                            \
        if ((expected) == CSHM_OK)                  \
            FINE(call);                             \
        else                                        \
            BAD(expected, call);                    \
    } while (0)

/* For those that return nothing, or a pointer, or a number that is no result. */
#define HOLDS(condition) ((condition) ? CSHM_OK : CSHM_INTERNAL)

#define WRONG CSHM_INVALID_ARGUMENT
#define HUGE_BYTES ((size_t)PTRDIFF_MAX + 1)

static void hear_nothing(void *context, int32_t level, const char *message) {
    CHECK(context == NULL && level >= CSHM_LOG_ERROR && level <= CSHM_LOG_INFO && message != NULL);
}

int main(void) {
    static char room[16], long_key[65536], long_label[256];
    cshm_write_options options = {.struct_bytes = sizeof options};
    cshm_meta meta = {.struct_bytes = sizeof meta};
    cshm_bytes key = {"k", 1};
    cshm_item item = {{"k", 1}, {"v", 1}};
    cshm_label label;
    cshm_stat stat;
    cshm_cache *other = NULL;
    cshm_view *view = NULL;
    cshm_values *values = NULL;
    cshm_scan *scan = NULL;
    cshm_guard *guard = NULL;
    void *owned = NULL;
    const void *lent = NULL;
    int32_t number = 0;
    int64_t sum = 0, initial = 0;
    uint64_t word = 0;
    size_t bytes = 0;
    int rows = 0;

    CHECK(cshm_open("matrix", 2 << 20, CSHM_OPEN_NEW, &cache) == CSHM_OK);
    CHECK(cshm_set(cache, "k", 1, "value", 5, CSHM_NEVER) == CSHM_OK);
    CHECK(cshm_get_view(cache, "k", 1, &view) == CSHM_OK);
    CHECK(cshm_get_many(cache, &key, 1, &values) == CSHM_OK);

    /* Handles. */
    NULLED(cshm_open, name, CSHM_OK, cshm_open(NULL, 1 << 20, 0, &other));
    cshm_close(other);
    NULLED(cshm_open, out, WRONG, cshm_open("matrix", 0, 0, NULL));
    other = cache;
    BAD(WRONG, cshm_open("matrix", 0, 1u << 31, &other));
    CHECK(other == NULL);
    BAD(WRONG, cshm_open("matrix", 0, CSHM_OPEN_EXISTING | CSHM_OPEN_NEW, &other));
    BAD(CSHM_INVALID_SIZE, cshm_open("new", UINT64_MAX, 0, &other));
    cshm_open_options opening = {.struct_bytes = sizeof opening};
    opening.size_bytes = 1 << 20;
    NULLED(cshm_open_with, name, CSHM_OK, cshm_open_with(NULL, &opening, &other));
    cshm_close(other);
    NULLED(cshm_open_with, options, CSHM_OK, cshm_open_with("matrix", NULL, &other));
    cshm_close(other);
    NULLED(cshm_open_with, out, WRONG, cshm_open_with("matrix", &opening, NULL));
    opening.mode = 0777;
    BAD(WRONG, cshm_open_with("new", &opening, &other));
    opening.mode = 0600;
    opening.group = "no such group";
    BAD(WRONG, cshm_open_with("new", &opening, &other));
    opening.group = "0";
    BAD(WRONG, cshm_open_with("new", &opening, &other));
    opening.group = NULL;
    opening.directory = "/dev/null";
    BAD(CSHM_PERMISSION, cshm_open_with("new", &opening, &other));
    opening.directory = NULL;
    opening.struct_bytes = 8;
    BAD(WRONG, cshm_open_with("new", &opening, &other));
    CHECK(other == NULL);
    NULLED(cshm_close, cache, CSHM_OK, (cshm_close(NULL), CSHM_OK));
    NULLED(cshm_name, cache, CSHM_OK, HOLDS(cshm_name(NULL) == NULL));
    NULLED(cshm_path, cache, CSHM_OK, HOLDS(cshm_path(NULL) == NULL));
    NULLED(cshm_set_default_ttl, cache, WRONG, cshm_set_default_ttl(NULL, 1));
    BAD(WRONG, cshm_set_default_ttl(cache, 0));
    NULLED(cshm_destroy, cache, WRONG, cshm_destroy(NULL));
    NULLED(cshm_destroy_name, name, WRONG, cshm_destroy_name(NULL));
    BAD(CSHM_INVALID_NAME, cshm_destroy_name(""));
    BAD(CSHM_MISSING, cshm_destroy_name("none"));

    /* Reads. */
    NULLED(cshm_get, cache, WRONG, cshm_get(NULL, "k", 1, room, sizeof room, &bytes));
    NULLED(cshm_get, key, WRONG, cshm_get(cache, NULL, 1, room, sizeof room, &bytes));
    NULLED(cshm_get, buffer, WRONG, cshm_get(cache, "k", 1, NULL, 1, &bytes));
    NULLED(cshm_get, value_bytes, CSHM_OK, cshm_get(cache, "k", 1, room, sizeof room, NULL));
    BAD(WRONG, cshm_get(cache, room, 1, room, sizeof room, &bytes));
    BAD(WRONG, cshm_get(cache, room + sizeof room - 1, 1, room, sizeof room, &bytes));
    BAD(WRONG, cshm_gets(cache, room, 2, room + 1, sizeof room - 1, &meta));
    BAD(CSHM_NOT_FOUND, cshm_get(cache, room, 1, room + 1, sizeof room - 1, &bytes));
    BAD(CSHM_KEY_EMPTY, cshm_get(cache, NULL, 0, room, sizeof room, &bytes));
    BAD(CSHM_KEY_TOO_LONG, cshm_get(cache, long_key, sizeof long_key, room, sizeof room, &bytes));
    BAD(WRONG, cshm_get(cache, "k", HUGE_BYTES, room, sizeof room, &bytes));
    BAD(WRONG, cshm_get(cache, "k", SIZE_MAX, room, sizeof room, &bytes));
    BAD(WRONG, cshm_get(cache, "k", 1, room, HUGE_BYTES, &bytes));
    BAD(CSHM_BUFFER_TOO_SMALL, cshm_get(cache, "k", 1, NULL, 0, &bytes));
    NULLED(cshm_gets, cache, WRONG, cshm_gets(NULL, "k", 1, room, sizeof room, &meta));
    NULLED(cshm_gets, key, WRONG, cshm_gets(cache, NULL, 1, room, sizeof room, &meta));
    NULLED(cshm_gets, buffer, WRONG, cshm_gets(cache, "k", 1, NULL, 1, &meta));
    NULLED(cshm_gets, meta, WRONG, cshm_gets(cache, "k", 1, room, sizeof room, NULL));
    BAD(CSHM_KEY_EMPTY, cshm_gets(cache, "", 0, room, sizeof room, &meta));
    meta.struct_bytes = 0;
    BAD(WRONG, cshm_gets(cache, "k", 1, room, sizeof room, &meta));
    meta.struct_bytes = SIZE_MAX;
    BAD(WRONG, cshm_gets(cache, "k", 1, room, sizeof room, &meta));
    meta.struct_bytes = sizeof meta - 1;
    BAD(WRONG, cshm_get_meta(cache, "k", 1, &meta));
    meta.struct_bytes = sizeof meta;
    NULLED(cshm_get_alloc, cache, WRONG, cshm_get_alloc(NULL, "k", 1, &owned, &bytes, &meta));
    NULLED(cshm_get_alloc, key, WRONG, cshm_get_alloc(cache, NULL, 1, &owned, &bytes, &meta));
    NULLED(cshm_get_alloc, value, WRONG, cshm_get_alloc(cache, "k", 1, NULL, &bytes, &meta));
    NULLED(cshm_get_alloc, value_bytes, WRONG, cshm_get_alloc(cache, "k", 1, &owned, NULL, &meta));
    NULLED(cshm_get_alloc, meta, CSHM_OK, cshm_get_alloc(cache, "k", 1, &owned, &bytes, NULL));
    cshm_free(owned);
    BAD(CSHM_KEY_EMPTY, cshm_get_alloc(cache, "", 0, &owned, &bytes, &meta));
    CHECK(owned == NULL);
    NULLED(cshm_free, value, CSHM_OK, (cshm_free(NULL), CSHM_OK));
    NULLED(cshm_get_meta, cache, WRONG, cshm_get_meta(NULL, "k", 1, &meta));
    NULLED(cshm_get_meta, key, WRONG, cshm_get_meta(cache, NULL, 1, &meta));
    NULLED(cshm_get_meta, meta, WRONG, cshm_get_meta(cache, "k", 1, NULL));
    NULLED(cshm_contains, cache, WRONG, cshm_contains(NULL, "k", 1));
    NULLED(cshm_contains, key, WRONG, cshm_contains(cache, NULL, 1));
    BAD(CSHM_KEY_EMPTY, cshm_contains(cache, NULL, 0));
    NULLED(cshm_ttl, cache, WRONG, cshm_ttl(NULL, "k", 1, &word));
    NULLED(cshm_ttl, key, WRONG, cshm_ttl(cache, NULL, 1, &word));
    NULLED(cshm_ttl, ttl_ms, WRONG, cshm_ttl(cache, "k", 1, NULL));

    /* Views. */
    NULLED(cshm_get_view, cache, WRONG, cshm_get_view(NULL, "k", 1, (cshm_view **)&lent));
    NULLED(cshm_get_view, key, WRONG, cshm_get_view(cache, NULL, 1, (cshm_view **)&lent));
    NULLED(cshm_get_view, out, WRONG, cshm_get_view(cache, "k", 1, NULL));
    BAD(CSHM_KEY_EMPTY, cshm_get_view(cache, "", 0, (cshm_view **)&lent));
    NULLED(cshm_view_data, view, CSHM_OK, HOLDS(cshm_view_data(NULL) == NULL));
    NULLED(cshm_view_bytes, view, CSHM_OK, HOLDS(cshm_view_bytes(NULL) == 0));
    NULLED(cshm_view_meta, view, WRONG, cshm_view_meta(NULL, &meta));
    NULLED(cshm_view_meta, meta, WRONG, cshm_view_meta(view, NULL));
    NULLED(cshm_view_release, view, CSHM_OK, (cshm_view_release(NULL), CSHM_OK));

    /* Writes. */
    NULLED(cshm_set, cache, WRONG, cshm_set(NULL, "k", 1, "v", 1, CSHM_NEVER));
    NULLED(cshm_set, key, WRONG, cshm_set(cache, NULL, 1, "v", 1, CSHM_NEVER));
    NULLED(cshm_set, value, WRONG, cshm_set(cache, "k", 1, NULL, 1, CSHM_NEVER));
    BAD(CSHM_KEY_EMPTY, cshm_set(cache, "k", 0, "v", 1, CSHM_NEVER));
    BAD(CSHM_KEY_TOO_LONG, cshm_set(cache, long_key, sizeof long_key, "v", 1, CSHM_NEVER));
    BAD(WRONG, cshm_set(cache, "k", HUGE_BYTES, "v", 1, CSHM_NEVER));
    BAD(WRONG, cshm_set(cache, "k", 1, "v", SIZE_MAX, CSHM_NEVER));
    NULLED(cshm_set_with, cache, WRONG, cshm_set_with(NULL, "k", 1, "v", 1, &options, &word));
    NULLED(cshm_set_with, key, WRONG, cshm_set_with(cache, NULL, 1, "v", 1, &options, &word));
    NULLED(cshm_set_with, value, WRONG, cshm_set_with(cache, "k", 1, NULL, 1, &options, &word));
    NULLED(cshm_set_with, options, CSHM_OK, cshm_set_with(cache, "k", 1, "v", 1, NULL, &word));
    NULLED(cshm_set_with, version, CSHM_OK, cshm_set_with(cache, "k", 1, "v", 1, &options, NULL));
    NULLED(cshm_add, cache, WRONG, cshm_add(NULL, "a", 1, "v", 1, &options, &word));
    NULLED(cshm_add, key, WRONG, cshm_add(cache, NULL, 1, "v", 1, &options, &word));
    NULLED(cshm_add, value, WRONG, cshm_add(cache, "a", 1, NULL, 1, &options, &word));
    NULLED(cshm_add, options, CSHM_OK, cshm_add(cache, "a", 1, "v", 1, NULL, &word));
    NULLED(cshm_add, version, CSHM_OK, cshm_add(cache, "b", 1, "v", 1, &options, NULL));
    NULLED(cshm_replace, cache, WRONG, cshm_replace(NULL, "k", 1, "v", 1, &options, &word));
    NULLED(cshm_replace, key, WRONG, cshm_replace(cache, NULL, 1, "v", 1, &options, &word));
    NULLED(cshm_replace, value, WRONG, cshm_replace(cache, "k", 1, NULL, 1, &options, &word));
    NULLED(cshm_replace, options, CSHM_OK, cshm_replace(cache, "k", 1, "v", 1, NULL, &word));
    NULLED(cshm_replace, version, CSHM_OK, cshm_replace(cache, "k", 1, "v", 1, &options, NULL));
    NULLED(cshm_cas, cache, WRONG, cshm_cas(NULL, "k", 1, 1, "v", 1, &options, &word));
    NULLED(cshm_cas, key, WRONG, cshm_cas(cache, NULL, 1, 1, "v", 1, &options, &word));
    NULLED(cshm_cas, value, WRONG, cshm_cas(cache, "k", 1, 1, NULL, 1, &options, &word));
    NULLED(cshm_cas, options, CSHM_NOT_STORED, cshm_cas(cache, "k", 1, UINT64_MAX, "v", 1, NULL, &word));
    NULLED(cshm_cas, version, CSHM_NOT_STORED, cshm_cas(cache, "k", 1, UINT64_MAX, "v", 1, &options, NULL));
    options.kind = 255;
    BAD(WRONG, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    options.kind = UINT32_MAX;
    BAD(WRONG, cshm_add(cache, "c", 1, "w", 1, &options, &word));
    options.kind = 16;
    BAD(WRONG, cshm_replace(cache, "k", 1, "w", 1, &options, &word));
    options.kind = 0;
    options.tag_count = 1;
    BAD(WRONG, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    options.tags = &key;
    options.tag_count = SIZE_MAX / 2;
    BAD(WRONG, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    cshm_bytes tags[65] = {{NULL, 1}};
    options.tags = tags;
    options.tag_count = 1;
    BAD(WRONG, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    tags[0] = (cshm_bytes){NULL, 0};
    BAD(CSHM_LABEL_LENGTH, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    tags[0] = (cshm_bytes){long_label, 256};
    BAD(CSHM_LABEL_LENGTH, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    for (int tag = 0; tag < 65; tag++) tags[tag] = (cshm_bytes){&tags[tag], 8};
    options.tag_count = 65;
    BAD(CSHM_TOO_MANY_TAGS, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    options.tags = NULL;
    options.tag_count = 0;
    options.struct_bytes = 0;
    BAD(WRONG, cshm_set_with(cache, "k", 1, "w", 1, &options, &word));
    options.struct_bytes = SIZE_MAX;
    BAD(WRONG, cshm_incr(cache, "i", 1, 1, &initial, &options, &sum));
    options.struct_bytes = sizeof options;
    NULLED(cshm_delete, cache, WRONG, cshm_delete(NULL, "k", 1));
    NULLED(cshm_delete, key, WRONG, cshm_delete(cache, NULL, 1));
    BAD(CSHM_KEY_EMPTY, cshm_delete(cache, "", 0));
    NULLED(cshm_incr, cache, WRONG, cshm_incr(NULL, "i", 1, 1, &initial, &options, &sum));
    NULLED(cshm_incr, key, WRONG, cshm_incr(cache, NULL, 1, 1, &initial, &options, &sum));
    NULLED(cshm_incr, initial, CSHM_NOT_FOUND, cshm_incr(cache, "i", 1, 1, NULL, &options, &sum));
    NULLED(cshm_incr, options, CSHM_OK, cshm_incr(cache, "i", 1, 1, &initial, NULL, &sum));
    NULLED(cshm_incr, sum, CSHM_OK, cshm_incr(cache, "i", 1, 1, &initial, &options, NULL));
    BAD(CSHM_NOT_INTEGER, cshm_incr(cache, "k", 1, 1, &initial, NULL, &sum));
    BAD(CSHM_OVERFLOW, cshm_incr(cache, "i", 1, INT64_MAX, &initial, NULL, &sum));
    NULLED(cshm_append, cache, WRONG, cshm_append(NULL, "k", 1, "v", 1, &bytes));
    NULLED(cshm_append, key, WRONG, cshm_append(cache, NULL, 1, "v", 1, &bytes));
    NULLED(cshm_append, tail, WRONG, cshm_append(cache, "k", 1, NULL, 1, &bytes));
    NULLED(cshm_append, value_bytes, CSHM_OK, cshm_append(cache, "k", 1, "v", 1, NULL));
    BAD(WRONG, cshm_append(cache, "k", 1, "v", HUGE_BYTES, &bytes));
    NULLED(cshm_touch, cache, WRONG, cshm_touch(NULL, "k", 1, 1));
    NULLED(cshm_touch, key, WRONG, cshm_touch(cache, NULL, 1, 1));
    BAD(CSHM_KEY_EMPTY, cshm_touch(cache, "", 0, 1));

    /* Batches. */
    cshm_values *none = NULL;
    NULLED(cshm_get_many, cache, WRONG, cshm_get_many(NULL, &key, 1, &none));
    NULLED(cshm_get_many, keys, WRONG, cshm_get_many(cache, NULL, 1, &none));
    NULLED(cshm_get_many, out, WRONG, cshm_get_many(cache, &key, 1, NULL));
    BAD(WRONG, cshm_get_many(cache, &key, SIZE_MAX / 2, &none));
    key = (cshm_bytes){NULL, 1};
    BAD(WRONG, cshm_get_many(cache, &key, 1, &none));
    BAD(WRONG, cshm_delete_many(cache, &key, 1, &number, &bytes));
    key = (cshm_bytes){"k", 0};
    BAD(CSHM_KEY_EMPTY, cshm_get_many(cache, &key, 1, &none));
    CHECK(none == NULL);
    BAD(CSHM_KEY_EMPTY, cshm_delete_many(cache, &key, 1, &number, &bytes));
    CHECK(number == CSHM_KEY_EMPTY && bytes == 0);
    key = (cshm_bytes){"none", 4};
    NULLED(cshm_values_get, values, WRONG, cshm_values_get(NULL, 0, &lent, &bytes, &meta));
    NULLED(cshm_values_get, value, WRONG, cshm_values_get(values, 0, NULL, &bytes, &meta));
    NULLED(cshm_values_get, value_bytes, CSHM_OK, cshm_values_get(values, 0, &lent, NULL, &meta));
    NULLED(cshm_values_get, meta, CSHM_OK, cshm_values_get(values, 0, &lent, &bytes, NULL));
    BAD(WRONG, cshm_values_get(values, SIZE_MAX, &lent, &bytes, &meta));
    NULLED(cshm_values_free, values, CSHM_OK, (cshm_values_free(NULL), CSHM_OK));
    NULLED(cshm_set_many, cache, WRONG, cshm_set_many(NULL, &item, 1, &options, &number, &bytes));
    NULLED(cshm_set_many, items, WRONG, cshm_set_many(cache, NULL, 1, &options, &number, &bytes));
    NULLED(cshm_set_many, options, CSHM_OK, cshm_set_many(cache, &item, 1, NULL, &number, &bytes));
    NULLED(cshm_set_many, results, CSHM_OK, cshm_set_many(cache, &item, 1, &options, NULL, &bytes));
    NULLED(cshm_set_many, stored, CSHM_OK, cshm_set_many(cache, &item, 1, &options, &number, NULL));
    BAD(WRONG, cshm_set_many(cache, &item, SIZE_MAX / 2, &options, &number, &bytes));
    item.value = (cshm_bytes){NULL, 1};
    BAD(WRONG, cshm_set_many(cache, &item, 1, &options, &number, &bytes));
    item.value = (cshm_bytes){"v", SIZE_MAX};
    BAD(WRONG, cshm_set_many(cache, &item, 1, &options, &number, &bytes));
    NULLED(cshm_delete_many, cache, WRONG, cshm_delete_many(NULL, &key, 1, &number, &bytes));
    NULLED(cshm_delete_many, keys, WRONG, cshm_delete_many(cache, NULL, 1, &number, &bytes));
    NULLED(cshm_delete_many, results, CSHM_OK, cshm_delete_many(cache, &key, 1, NULL, &bytes));
    NULLED(cshm_delete_many, deleted, CSHM_OK, cshm_delete_many(cache, &key, 1, &number, NULL));

    /* Scans. */
    NULLED(cshm_scan_open, cache, WRONG, cshm_scan_open(NULL, "p", 1, &scan));
    NULLED(cshm_scan_open, prefix, WRONG, cshm_scan_open(cache, NULL, 1, &scan));
    NULLED(cshm_scan_open, out, WRONG, cshm_scan_open(cache, "p", 1, NULL));
    BAD(WRONG, cshm_scan_open(cache, "p", HUGE_BYTES, &scan));
    CHECK(scan == NULL && cshm_scan_open(cache, NULL, 0, &scan) == CSHM_OK);
    NULLED(cshm_scan_next, scan, WRONG, cshm_scan_next(NULL, &lent, &bytes, &meta));
    NULLED(cshm_scan_next, key, WRONG, cshm_scan_next(scan, NULL, &bytes, &meta));
    NULLED(cshm_scan_next, key_bytes, WRONG, cshm_scan_next(scan, &lent, NULL, &meta));
    NULLED(cshm_scan_next, meta, CSHM_OK, cshm_scan_next(scan, &lent, &bytes, NULL));
    NULLED(cshm_scan_close, scan, CSHM_OK, (cshm_scan_close(NULL), CSHM_OK));
    NULLED(cshm_len, cache, WRONG, cshm_len(NULL, &word));
    NULLED(cshm_len, count, WRONG, cshm_len(cache, NULL));

    /* Namespaces and tags. */
    NULLED(cshm_namespace, cache, WRONG, cshm_namespace(NULL, "n", 1, &other));
    NULLED(cshm_namespace, name, WRONG, cshm_namespace(cache, NULL, 1, &other));
    NULLED(cshm_namespace, out, WRONG, cshm_namespace(cache, "n", 1, NULL));
    BAD(CSHM_LABEL_LENGTH, cshm_namespace(cache, NULL, 0, &other));
    BAD(CSHM_LABEL_LENGTH, cshm_namespace(cache, long_label, 65, &other));
    CHECK(other == NULL);
    NULLED(cshm_namespaces, cache, WRONG, cshm_namespaces(NULL, &label, 1, &bytes));
    NULLED(cshm_namespaces, names, WRONG, cshm_namespaces(cache, NULL, 1, &bytes));
    NULLED(cshm_namespaces, count, WRONG, cshm_namespaces(cache, &label, 1, NULL));
    NULLED(cshm_evict_tag, cache, WRONG, cshm_evict_tag(NULL, "t", 1));
    NULLED(cshm_evict_tag, name, WRONG, cshm_evict_tag(cache, NULL, 1));
    BAD(CSHM_LABEL_LENGTH, cshm_evict_tag(cache, NULL, 0));
    BAD(CSHM_LABEL_LENGTH, cshm_evict_tag(cache, long_label, 256));
    NULLED(cshm_clear, cache, WRONG, cshm_clear(NULL));
    NULLED(cshm_clear_all, cache, WRONG, cshm_clear_all(NULL));

    /* Locks and rates. */
    NULLED(cshm_lock, cache, WRONG, cshm_lock(NULL, "l", 1, CSHM_NEVER, 0, &guard));
    NULLED(cshm_lock, name, WRONG, cshm_lock(cache, NULL, 1, CSHM_NEVER, 0, &guard));
    NULLED(cshm_lock, out, WRONG, cshm_lock(cache, "l", 1, CSHM_NEVER, 0, NULL));
    BAD(CSHM_KEY_EMPTY, cshm_lock(cache, "", 0, CSHM_NEVER, 0, &guard));
    BAD(WRONG, cshm_lock(cache, "l", 1, 0, 0, &guard));
    NULLED(cshm_permit, cache, WRONG, cshm_permit(NULL, "p", 1, 1, CSHM_NEVER, 0, &guard));
    NULLED(cshm_permit, name, WRONG, cshm_permit(cache, NULL, 1, 1, CSHM_NEVER, 0, &guard));
    NULLED(cshm_permit, out, WRONG, cshm_permit(cache, "p", 1, 1, CSHM_NEVER, 0, NULL));
    BAD(WRONG, cshm_permit(cache, "p", 1, 0, CSHM_NEVER, 0, &guard));
    BAD(WRONG, cshm_permit(cache, "p", 1, 1025, CSHM_NEVER, 0, &guard));
    CHECK(guard == NULL && cshm_lock(cache, "l", 1, CSHM_NEVER, 0, &guard) == CSHM_OK);
    NULLED(cshm_unlock, guard, CSHM_OK, cshm_unlock(NULL));
    NULLED(cshm_guard_extend, guard, WRONG, cshm_guard_extend(NULL, 1));
    BAD(WRONG, cshm_guard_extend(guard, 0));
    NULLED(cshm_guard_token, guard, CSHM_OK, HOLDS(cshm_guard_token(NULL) == 0));
    NULLED(cshm_hit, cache, WRONG, cshm_hit(NULL, "r", 1, "k", 1, 9, 1000, 1, &word, &word));
    NULLED(cshm_hit, name, WRONG, cshm_hit(cache, NULL, 1, "k", 1, 9, 1000, 1, &word, &word));
    NULLED(cshm_hit, key, WRONG, cshm_hit(cache, "r", 1, NULL, 1, 9, 1000, 1, &word, &word));
    NULLED(cshm_hit, remaining, CSHM_OK, cshm_hit(cache, "r", 1, NULL, 0, 9, 1000, 1, NULL, &word));
    NULLED(cshm_hit, retry_after_ms, CSHM_OK, cshm_hit(cache, "r", 1, NULL, 0, 9, 1000, 1, &word, NULL));
    BAD(WRONG, cshm_hit(cache, "r", 1, "k", 1, 0, 1000, 1, &word, &word));
    BAD(WRONG, cshm_hit(cache, "r", 1, "k", 1, 9, 1000, 10, &word, &word));
    BAD(WRONG, cshm_hit(cache, "r", 1, "k", 1, 9, UINT64_MAX, 1, &word, &word));

    /* Statistics. */
    NULLED(cshm_stats, cache, WRONG, cshm_stats(NULL, &stat, 1, &bytes));
    NULLED(cshm_stats, stats, WRONG, cshm_stats(cache, NULL, 1, &bytes));
    NULLED(cshm_stats, count, WRONG, cshm_stats(cache, &stat, 1, NULL));
    NULLED(cshm_namespace_stats, cache, WRONG, cshm_namespace_stats(NULL, &stat, 1, &bytes));
    NULLED(cshm_namespace_stats, stats, WRONG, cshm_namespace_stats(cache, NULL, 1, &bytes));
    NULLED(cshm_namespace_stats, count, WRONG, cshm_namespace_stats(cache, &stat, 1, NULL));
    NULLED(cshm_stat_value, cache, WRONG, cshm_stat_value(NULL, "hits", &word));
    NULLED(cshm_stat_value, name, WRONG, cshm_stat_value(cache, NULL, &word));
    NULLED(cshm_stat_value, value, WRONG, cshm_stat_value(cache, "hits", NULL));
    BAD(CSHM_NOT_FOUND, cshm_stat_value(cache, "", &word));
    NULLED(cshm_reset_stats, cache, WRONG, cshm_reset_stats(NULL));

    /* The log. */
    NULLED(cshm_set_log, function, WRONG, cshm_set_log(NULL, &rows));
    NULLED(cshm_set_log, context, CSHM_OK, cshm_set_log(hear_nothing, NULL));
    BAD(WRONG, cshm_set_log(hear_nothing, &rows));

    /* A region that was destroyed, and attached anew by the next write. */
    CHECK(cshm_destroy(cache) == CSHM_OK);
    CHECK(cshm_touch(cache, "k", 1, 1) == CSHM_GONE);
    CHECK(cshm_touch(cache, "k", 1, 1) == CSHM_NOT_FOUND);
    CHECK(cshm_unlock(guard) != CSHM_OK);
    CHECK(cshm_destroy(cache) == CSHM_OK);
    cshm_scan_close(scan);
    cshm_values_free(values);
    cshm_view_release(view);
    cshm_close(cache);
    printf("%d rows\n", rows);
    return 0;
}
