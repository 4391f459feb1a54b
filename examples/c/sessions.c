/*
 * Web sessions that all worker processes of a host share: each expires an hour after it was
 * last used, a user is logged out everywhere in one step, and logins are limited.
 *
 *   cc -std=c11 sessions.c $(pkg-config --cflags --libs cache_shm) -o sessions && ./sessions
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cache_shm.h>

enum { SESSION_MS = 3600 * 1000, LOGINS = 3, MINUTE_MS = 60 * 1000 };

/* An error ends this program; one that serves would answer 503, or go on without a session. */
static int32_t check(int32_t result) {
    if (result > CSHM_NOT_FOUND) {
        fprintf(stderr, "%s: %s\n", cshm_error_text(result), cshm_last_error());
        exit(EXIT_FAILURE);
    }
    return result;
}

/* Remembers that `token` is `user`. False if the user logged in too often. */
static int login(const cshm_cache *sessions, const char *token, const char *user) {
    int32_t allowed = cshm_hit(sessions, "login", 5, user, strlen(user), LOGINS, MINUTE_MS, 1, NULL, NULL);
    if (check(allowed) == CSHM_NOT_GRANTED) return 0;
    cshm_bytes tag = {user, strlen(user)};
    cshm_write_options options = {.struct_bytes = sizeof options};
    options.ttl_ms = SESSION_MS;
    options.kind = CSHM_KIND_STR;
    options.tags = &tag;
    options.tag_count = 1;
    check(cshm_set_with(sessions, token, strlen(token), user, strlen(user), &options, NULL));
    return 1;
}

/* Who `token` is, and another hour for them; "nobody" if it is of no session. */
static const char *user_of(const cshm_cache *sessions, const char *token, char *user, size_t room) {
    size_t bytes = 0;
    if (check(cshm_get(sessions, token, strlen(token), user, room - 1, &bytes)) == CSHM_NOT_FOUND) return "nobody";
    user[bytes] = '\0';
    check(cshm_touch(sessions, token, strlen(token), SESSION_MS));
    return user;
}

static void logout_everywhere(const cshm_cache *sessions, const char *user) {
    check(cshm_evict_tag(sessions, user, strlen(user)));
}

int main(void) {
    cshm_cache *region = NULL, *sessions = NULL;
    char user[64];
    check(cshm_open("example-sessions", 16 << 20, CSHM_OPEN_EPHEMERAL, &region));
    check(cshm_namespace(region, "sessions", 8, &sessions));

    if (!login(sessions, "token-of-a-phone", "ada") || !login(sessions, "token-of-a-laptop", "ada") ||
        !login(sessions, "token-of-bob", "bob")) {
        return EXIT_FAILURE;
    }
    printf("phone is %s\n", user_of(sessions, "token-of-a-phone", user, sizeof user));
    logout_everywhere(sessions, "ada");
    printf("laptop is %s\n", user_of(sessions, "token-of-a-laptop", user, sizeof user));
    printf("bob is still %s\n", user_of(sessions, "token-of-bob", user, sizeof user));
    printf("a third login is %s\n", login(sessions, "third", "ada") ? "let in" : "refused");
    printf("a fourth login is %s\n", login(sessions, "fourth", "ada") ? "let in" : "refused");

    cshm_close(sessions);
    cshm_close(region);
    return 0;
}
