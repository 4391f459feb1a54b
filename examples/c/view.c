/*
 * A table of numbers, stored once and summed by several processes where it lies: none of them
 * copies it, and a new table that is stored meanwhile disturbs nobody.
 *
 *   cc -std=c11 view.c $(pkg-config --cflags --libs cache_shm) -o view && ./view
 */
#define _POSIX_C_SOURCE 200809L /* fork */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cache_shm.h>

enum { NUMBERS = 1 << 18, PROCESSES = 3 };

static void check(int32_t result) {
    if (result == CSHM_OK) return;
    fprintf(stderr, "%s: %s\n", cshm_error_text(result), cshm_last_error());
    exit(EXIT_FAILURE);
}

static double sum(const cshm_cache *cache) {
    cshm_view *view = NULL;
    double total = 0;
    check(cshm_get_view(cache, "table", 5, &view));
    /* So large a value begins at a multiple of 64 and may be used as what it is. */
    const double *numbers = cshm_view_data(view);
    for (size_t index = 0; index < cshm_view_bytes(view) / sizeof *numbers; index++) total += numbers[index];
    cshm_view_release(view);
    return total;
}

int main(void) {
    cshm_cache *cache = NULL;
    cshm_view *old = NULL;
    double *numbers = malloc(NUMBERS * sizeof *numbers);
    if (numbers == NULL) return EXIT_FAILURE;
    check(cshm_open(NULL, 64 << 20, 0, &cache)); /* Private: for this process and its children. */
    for (int index = 0; index < NUMBERS; index++) numbers[index] = 0.5;
    check(cshm_set(cache, "table", 5, numbers, NUMBERS * sizeof *numbers, CSHM_NEVER));

    for (int process = 0; process < PROCESSES; process++) {
        pid_t child = fork();
        if (child < 0) return EXIT_FAILURE;
        if (child == 0) _exit(sum(cache) == NUMBERS * 0.5 ? 0 : 1);
    }
    int failed = 0, status;
    while (wait(&status) > 0) failed += status != 0;
    printf("%d of %d processes found the sum\n", PROCESSES - failed, PROCESSES);

    /* Who holds the old table goes on reading it. */
    check(cshm_get_view(cache, "table", 5, &old));
    for (int index = 0; index < NUMBERS; index++) numbers[index] = 2;
    check(cshm_set(cache, "table", 5, numbers, NUMBERS * sizeof *numbers, CSHM_NEVER));
    printf("the old table has %.1f, the new sum is %.0f\n", *(const double *)cshm_view_data(old), sum(cache));
    cshm_view_release(old);
    cshm_close(cache);
    free(numbers);
    return failed;
}
