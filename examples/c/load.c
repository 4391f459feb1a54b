/*
 * Fills a region from lines "key=value", a thousand at a time, and reads them back in one
 * call. Reads standard input, and stores for an hour.
 *
 *   cc -std=c11 load.c $(pkg-config --cflags --libs cache_shm) -o load && ./load prices <prices.txt
 */
#define _POSIX_C_SOURCE 200809L /* getline */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cache_shm.h>

enum { BATCH = 1000 };

struct batch {
    char *lines[BATCH];
    cshm_item items[BATCH];
    size_t count;
};

static void fail(int32_t result) {
    fprintf(stderr, "%s: %s\n", cshm_error_text(result), cshm_last_error());
    exit(EXIT_FAILURE);
}

/* Stores what was collected, and looks it up again; returns how many were there. */
static size_t flush(const cshm_cache *cache, struct batch *batch) {
    int32_t results[BATCH];
    cshm_bytes keys[BATCH];
    cshm_values *values = NULL;
    size_t there = 0;
    cshm_write_options options = {.struct_bytes = sizeof options};
    options.ttl_ms = 3600 * 1000;
    options.kind = CSHM_KIND_STR;

    int32_t result = cshm_set_many(cache, batch->items, batch->count, &options, results, NULL);
    if (result != CSHM_OK) {
        /* Those that could be stored are; say which were not. */
        for (size_t index = 0; index < batch->count; index++) {
            if (results[index] == CSHM_OK) continue;
            fprintf(stderr, "\"%s\": %s\n", batch->lines[index], cshm_error_text(results[index]));
            batch->items[index].key = (cshm_bytes){"?", 1};
        }
    }
    for (size_t index = 0; index < batch->count; index++) keys[index] = batch->items[index].key;
    result = cshm_get_many(cache, keys, batch->count, &values);
    if (result != CSHM_OK) fail(result);
    for (size_t index = 0; index < batch->count; index++) {
        const void *value;
        there += cshm_values_get(values, index, &value, NULL, NULL) == CSHM_OK;
    }
    cshm_values_free(values);
    for (size_t index = 0; index < batch->count; index++) free(batch->lines[index]);
    batch->count = 0;
    return there;
}

int main(int count, char **arguments) {
    static struct batch batch;
    cshm_cache *cache = NULL;
    char *line = NULL;
    size_t room = 0, lines = 0, there = 0;
    ssize_t bytes;
    if (count != 2) {
        fprintf(stderr, "usage: %s REGION <LINES\n", arguments[0]);
        return EXIT_FAILURE;
    }
    int32_t result = cshm_open(arguments[1], 0, 0, &cache);
    if (result != CSHM_OK) fail(result);
    while ((bytes = getline(&line, &room, stdin)) > 0) {
        char *equals = strchr(line, '=');
        if (line[bytes - 1] == '\n') line[--bytes] = '\0';
        if (equals == NULL) continue;
        size_t key_bytes = equals - line;
        batch.lines[batch.count] = line;
        batch.items[batch.count].key = (cshm_bytes){line, key_bytes};
        batch.items[batch.count].value = (cshm_bytes){equals + 1, bytes - key_bytes - 1};
        line = NULL; /* The batch has it now. */
        room = 0;
        lines++;
        if (++batch.count == BATCH) there += flush(cache, &batch);
    }
    if (ferror(stdin)) {
        perror("the lines");
        return EXIT_FAILURE;
    }
    there += flush(cache, &batch);
    free(line);
    printf("%zu lines, %zu there\n", lines, there);
    cshm_close(cache);
    return 0;
}
