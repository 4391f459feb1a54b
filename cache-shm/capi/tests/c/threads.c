/*
 * One handle, used by several threads at once while a child that was forked in their midst
 * uses it too: no update is lost, no value is torn. The seed of what they do is printed.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* The sanitizer's allocator can be left locked in a child that is forked among threads. */
#ifdef __SANITIZE_ADDRESS__
#define FORKS_FIRST 1
#else
#define FORKS_FIRST 0
#endif

enum { THREADS = 4, ROUNDS = 3000, KEYS = 64, BYTES_MAX = 3000 };

static cshm_cache *cache;

static uint64_t next(uint64_t *state) {
    /* xorshift64* */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

static void check_whole(const unsigned char *value, size_t bytes) {
    for (size_t index = 0; index < bytes; index++) CHECK(value[index] == value[0]);
}

static void work(uint64_t state) {
    static __thread unsigned char buffer[BYTES_MAX];
    const int64_t zero = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t key = next(&state) % KEYS;
        size_t bytes = next(&state) % BYTES_MAX;
        void *value = NULL;
        cshm_view *view = NULL;
        cshm_guard *guard = NULL;
        int32_t result;
        CHECK(cshm_incr(cache, "count", 5, 1, &zero, NULL, NULL) == CSHM_OK);
        switch (next(&state) % 6) {
        case 0:
            memset(buffer, (int)next(&state), bytes);
            CHECK(cshm_set(cache, &key, sizeof key, buffer, bytes, CSHM_NEVER) == CSHM_OK);
            break;
        case 1:
            result = cshm_get(cache, &key, sizeof key, buffer, sizeof buffer, &bytes);
            CHECK(result == CSHM_OK || result == CSHM_NOT_FOUND);
            if (result == CSHM_OK) check_whole(buffer, bytes);
            break;
        case 2:
            result = cshm_get_alloc(cache, &key, sizeof key, &value, &bytes, NULL);
            CHECK(result == CSHM_OK || result == CSHM_NOT_FOUND);
            check_whole(value, bytes);
            cshm_free(value);
            break;
        case 3:
            result = cshm_get_view(cache, &key, sizeof key, &view);
            /* While another thread forks no view can be made for a moment. */
            CHECK(result == CSHM_OK || result == CSHM_NOT_FOUND || result == CSHM_BUSY);
            check_whole(cshm_view_data(view), cshm_view_bytes(view));
            cshm_view_release(view);
            break;
        case 4:
            result = cshm_delete(cache, &key, sizeof key);
            CHECK(result == CSHM_OK || result == CSHM_NOT_FOUND);
            break;
        default:
            CHECK(cshm_get(cache, "", 0, NULL, 0, NULL) == CSHM_KEY_EMPTY);
            CHECK(strstr(cshm_last_error(), "empty") != NULL);
            result = cshm_lock(cache, "lock", 4, CSHM_NEVER, 20000, &guard);
            CHECK(result == CSHM_OK);
            CHECK(cshm_unlock(guard) == CSHM_OK);
        }
    }
}

static void *run(void *seed) {
    work((uint64_t)(uintptr_t)seed);
    return NULL;
}

static pid_t start_child(uint64_t seed) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work(seed);
        _exit(0);
    }
    return child;
}

int main(int count, char **arguments) {
    uint64_t seed = count > 1 ? strtoull(arguments[1], NULL, 0) : 0x9e3779b97f4a7c15;
    pthread_t threads[THREADS];
    int64_t sum = 0;
    printf("seed %llu\n", (unsigned long long)seed);
    CHECK(cshm_open(NULL, 1 << 20, 0, &cache) == CSHM_OK);
    pid_t child = FORKS_FIRST ? start_child(seed) : 0;
    for (int index = 0; index < THREADS; index++) {
        CHECK(pthread_create(&threads[index], NULL, run, (void *)(uintptr_t)(seed + index + 1)) == 0);
    }
    if (!FORKS_FIRST) child = start_child(seed);
    for (int index = 0; index < THREADS; index++) CHECK(pthread_join(threads[index], NULL) == 0);
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(cshm_incr(cache, "count", 5, 0, NULL, NULL, &sum) == CSHM_OK && sum == (THREADS + 1) * (int64_t)ROUNDS);
    cshm_close(cache);
    puts("ok");
    return 0;
}
