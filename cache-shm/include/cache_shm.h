/*
 * cache_shm.h - a shared-memory cache for any number of processes on one host.
 *
 * Conventions, true of every function:
 *
 * - Functions that can fail return an int32_t: CSHM_OK (0), CSHM_NOT_FOUND (1), or an
 *   error (2 and up). The numbers never change meaning; new ones may be added.
 * - cshm_error_text(number) is a short word for an error, cshm_last_error() the full
 *   message of this thread's last failed call, which says what to do.
 * - No pointer may be NULL unless its description says so; a NULL that may not be is
 *   CSHM_INVALID_ARGUMENT and nothing happens. A key or value of 0 bytes may be NULL.
 * - Keys are 1 to 65,535 bytes of any content. Bytes are copied in and out: nothing that
 *   is passed in is kept, nothing that is returned must be freed.
 * - A cshm_cache may be used by any number of threads at once, and in forked children
 *   without opening it again. Only cshm_close must be the last call on it, and it gives
 *   the pointer up: using it afterwards is undefined.
 * - No call waits longer than a second for other processes (CSHM_BUSY), and reads never
 *   wait.
 * - After an error nothing that is stored has changed.
 */

#ifndef CACHE_SHM_H
#define CACHE_SHM_H

/* Generated from cache-shm/capi/src/lib.rs by cbindgen. Do not edit. */

#include <stddef.h>
#include <stdint.h>

/*
 Success.
 */
#define CSHM_OK 0

/*
 The key is not there. Not an error.
 */
#define CSHM_NOT_FOUND 1

/*
 A key has no bytes.
 */
#define CSHM_KEY_EMPTY 2

/*
 A key is longer than 65,535 bytes.
 */
#define CSHM_KEY_TOO_LONG 3

/*
 A value is larger than a quarter of the region.
 */
#define CSHM_VALUE_TOO_LARGE 4

/*
 The stored value is not an integer.
 */
#define CSHM_NOT_INTEGER 5

/*
 The result does not fit 64 bits; nothing changed.
 */
#define CSHM_OVERFLOW 6

/*
 Another process held what was needed until the deadline.
 */
#define CSHM_BUSY 7

/*
 A no-evict region has no room.
 */
#define CSHM_FULL 8

/*
 The file system has no space left (in Docker, /dev/shm is 64 MiB by default).
 */
#define CSHM_NO_SPACE 9

/*
 A write on a read-only attachment.
 */
#define CSHM_READ_ONLY 10

/*
 The handle was closed.
 */
#define CSHM_CLOSED 11

/*
 The region was destroyed or replaced; the next call uses the new one.
 */
#define CSHM_GONE 12

/*
 The file is not a region.
 */
#define CSHM_NOT_REGION 13

/*
 The region has another format version.
 */
#define CSHM_FORMAT_VERSION 14

/*
 The region's fixed bytes contradict each other.
 */
#define CSHM_CORRUPT 15

/*
 The file is shorter than its header says.
 */
#define CSHM_TRUNCATED 16

/*
 The region was made before this boot and is opened read-only.
 */
#define CSHM_EARLIER_BOOT 17

/*
 The region belongs to another user.
 */
#define CSHM_FOREIGN_OWNER 18

/*
 The file or its directory may be changed by others, or may not be opened.
 */
#define CSHM_PERMISSION 19

/*
 A symbolic link stands where the region should be.
 */
#define CSHM_SYMLINK 20

/*
 The name cannot be a region's.
 */
#define CSHM_INVALID_NAME 21

/*
 The size is below 1 MiB or above 4 TiB.
 */
#define CSHM_INVALID_SIZE 22

/*
 The region exists with another size.
 */
#define CSHM_SIZE_MISMATCH 23

/*
 The region exists.
 */
#define CSHM_EXISTS 24

/*
 There is no such region.
 */
#define CSHM_MISSING 25

/*
 Every participant slot is taken by a living process.
 */
#define CSHM_PARTICIPANTS_FULL 26

/*
 Every pin of this process is in use.
 */
#define CSHM_PINS_FULL 27

/*
 The file system cannot hold a region.
 */
#define CSHM_UNSUPPORTED_FILESYSTEM 28

/*
 The operating system refused a call.
 */
#define CSHM_IO 29

/*
 The buffer is too small for the value.
 */
#define CSHM_BUFFER_TOO_SMALL 30

/*
 An argument makes no sense, or is NULL.
 */
#define CSHM_INVALID_ARGUMENT 31

/*
 Another process is still making the region.
 */
#define CSHM_HALF_MADE 32

/*
 A defect of the library; please report it.
 */
#define CSHM_INTERNAL 33

/*
 The value's type cannot be stored.
 */
#define CSHM_UNSUPPORTED_TYPE 34

/*
 The value is nested too deep.
 */
#define CSHM_NESTED_TOO_DEEP 35

/*
 The stored bytes do not decode.
 */
#define CSHM_BAD_ENCODING 36

/*
 The stored value needs another serializer.
 */
#define CSHM_WRONG_SERIALIZER 37

/*
 The value cannot be appended to.
 */
#define CSHM_NOT_APPENDABLE 38

/*
 Every lease row for this name is in use.
 */
#define CSHM_LEASES_FULL 39

/*
 A lease is given back by who does not hold it.
 */
#define CSHM_NOT_HOLDER 40

/*
 The stored value is not signed as it should be.
 */
#define CSHM_BAD_SIGNATURE 41

/*
 An option in the environment or in a configuration file makes no sense.
 */
#define CSHM_INVALID_CONFIG 42

/*
 The name of a namespace has 1 to 64 bytes, that of a tag 1 to 255.
 */
#define CSHM_LABEL_LENGTH 43

/*
 The region has no room for another namespace.
 */
#define CSHM_NAMESPACES_FULL 44

/*
 A value has at most 64 tags.
 */
#define CSHM_TOO_MANY_TAGS 45

/*
 Attach only: CSHM_MISSING if there is no region.
 */
#define CSHM_OPEN_EXISTING 1

/*
 Make only: CSHM_EXISTS if there is one.
 */
#define CSHM_OPEN_NEW 2

/*
 Map read-only: the kernel refuses every write, and nothing shows the attachment.
 */
#define CSHM_OPEN_READ_ONLY 4

/*
 A new region refuses writes when it is full, instead of evicting.
 */
#define CSHM_OPEN_NO_EVICT 8

/*
 A new region goes with its last process.
 */
#define CSHM_OPEN_EPHEMERAL 16

/*
 A new region gets all its memory at once.
 */
#define CSHM_OPEN_PREALLOC 32

/*
 The time to live of what never expires.
 */
#define CSHM_NEVER UINT64_MAX

/*
 A handle on a region.
 */
typedef struct cshm_cache cshm_cache;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Opens the region `name`, or makes it, and stores a handle in `*out`.

 `name` is UTF-8: a plain name in the per-user directory (CACHE_SHM_DIR to change), or a
 path if it has a slash. NULL is a private region that only this process and the
 children it forks can reach. `size_bytes` is at least 1 MiB; 0 attaches to whatever
 size there is, or makes 256 MiB or half of what the file system has free. `flags` are
 CSHM_OPEN_ constants, added. What neither they nor `size_bytes` say comes from the
 environment (CACHE_SHM_) or the configuration file. On failure `*out` is NULL.

 # Safety
 - `name` is NULL or a zero-terminated string.
 - `out` is NULL or may be written.
 */
int32_t cshm_open(const char *name,
                  uint64_t size_bytes,
                  uint32_t flags,
                  struct cshm_cache **out);

/*
 Gives a handle up. NULL is allowed and does nothing.

 # Safety
 `cache` is NULL, or came from cshm_open and is used by nobody any more.
 */
void cshm_close(struct cshm_cache *cache);

/*
 Copies the value of a key into `buffer` and its length into `*value_bytes`.

 CSHM_NOT_FOUND if the key is not there. CSHM_BUFFER_TOO_SMALL if the value is longer
 than `buffer_bytes`: `*value_bytes` then says how long it is, and the buffer's content
 is undefined. `buffer` may be NULL if `buffer_bytes` is 0, which asks for the length.
 `value_bytes` may be NULL if nobody wants to know.

 # Safety
 - `cache` came from cshm_open and was not closed.
 - `key` points to `key_bytes` bytes.
 - `buffer` points to `buffer_bytes` bytes that may be written.
 */
int32_t cshm_get(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 void *buffer,
                 size_t buffer_bytes,
                 size_t *value_bytes);

/*
 Stores a value, to expire after `ttl_ms` milliseconds or never (CSHM_NEVER). With a
 `ttl_ms` of 0 it has expired already: the key is removed.

 # Safety
 - `cache` came from cshm_open and was not closed.
 - `key` points to `key_bytes` bytes, `value` to `value_bytes`.
 */
int32_t cshm_set(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 const void *value,
                 size_t value_bytes,
                 uint64_t ttl_ms);

/*
 Removes a key. CSHM_NOT_FOUND if it was not there.

 # Safety
 - `cache` came from cshm_open and was not closed.
 - `key` points to `key_bytes` bytes.
 */
int32_t cshm_delete(const struct cshm_cache *cache, const void *key, size_t key_bytes);

/*
 A short word for a number that a function returned, such as "no_space"; never NULL,
 "unknown" for a number of a later version. Lives for ever.
 */
const char *cshm_error_text(int32_t number);

/*
 The message of this thread's last failed call: what went wrong, with numbers, and what
 to do. Never NULL, empty before the first failure, valid until this thread's next
 failed call.
 */
const char *cshm_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CACHE_SHM_H */
