/*
 * The shared library as a host of plugins uses it: loaded by name, unloaded while a thread
 * that has used it lives on, and loaded again. Argument: the library's path.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdio.h>
#include <stdlib.h>

#include "cache_shm.h"

/* The library cannot be asked here what went wrong. */
#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

static const char *path;
static pthread_barrier_t barrier;

static void use_and_unload(void) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    int32_t (*open)(const char *, uint64_t, uint32_t, cshm_cache **);
    int32_t (*set)(const cshm_cache *, const void *, size_t, const void *, size_t, uint64_t);
    void (*close)(cshm_cache *);
    *(void **)&open = dlsym(library, "cshm_open");
    *(void **)&set = dlsym(library, "cshm_set");
    *(void **)&close = dlsym(library, "cshm_close");
    CHECK(open != NULL && set != NULL && close != NULL);
    cshm_cache *cache = NULL;
    CHECK(open("plugin", 1 << 20, CSHM_OPEN_EPHEMERAL, &cache) == CSHM_OK);
    CHECK(set(cache, "k", 1, "v", 1, CSHM_NEVER) == CSHM_OK);
    /* So that the thread has a message of its own, which ends with it. */
    CHECK(set(cache, "", 0, "v", 1, CSHM_NEVER) == CSHM_KEY_EMPTY);
    close(cache);
    CHECK(dlclose(library) == 0);
}

static void *run(void *nothing) {
    use_and_unload();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return nothing;
}

int main(int count, char **arguments) {
    pthread_t thread;
    CHECK(count == 2);
    path = arguments[1];
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0 && pthread_create(&thread, NULL, run, NULL) == 0);
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < 3; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        use_and_unload();
        if (child == 0) _exit(0);
        int status = 1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
    puts("ok");
    return 0;
}
