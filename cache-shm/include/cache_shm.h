/*
 * cache_shm.h - a shared-memory cache for any number of processes on one host.
 *
 * Conventions, true of every function:
 *
 * RESULTS. Functions that can fail return an int32_t: CSHM_OK (0), an outcome that is no
 * error (CSHM_NOT_FOUND, CSHM_NOT_STORED, CSHM_NOT_GRANTED: 1 and below 0), or an error (2
 * and up). The numbers never change meaning; new ones may be added. cshm_error_text(number)
 * is a short word for a number, cshm_last_error() the full message of this thread's last
 * failed call, which says what to do. After an error nothing that is stored has changed
 * (in a batch: of the items that failed), and results that have no value are left alone,
 * but that objects and memory (a pointer to a pointer) are NULL.
 *
 * OVERLAP. What a function writes to overlaps none of its other arguments; a buffer that
 * overlaps the key is CSHM_INVALID_ARGUMENT.
 *
 * NULL. No pointer may be NULL unless its description says so; a NULL that may not be is
 * CSHM_INVALID_ARGUMENT and nothing happens. A key or value of 0 bytes may be NULL.
 *
 * MEMORY. Bytes are copied in: nothing that is passed in is kept. What a function gives out
 * is the caller's, and is given up once, with the function that its description names:
 * cshm_close, cshm_free, cshm_view_release, cshm_values_free, cshm_scan_close, cshm_unlock.
 * Each of them may outlive the handle that it came from. Using one that was given up is
 * undefined.
 *
 * KEYS AND VALUES. Keys are 1 to 65,535 bytes of any content. A value, with its key and
 * some bytes of description, has at most a quarter of the region, and at most 4 GiB. Times
 * are in milliseconds; a time to live is CSHM_NEVER for what does not expire, and what has
 * one is never gone early and at most 10 ms late.
 *
 * THREADS. A cshm_cache, a cshm_view, a cshm_values and a cshm_guard may be used by any
 * number of threads at once; a cshm_scan by one at a time. Only the function that gives one
 * up must be the last call on it.
 *
 * PROCESSES. After a fork() the handles and views work in the child as well, without opening
 * anything again; what the parent holds (locks) stays the parent's. A process that is killed
 * anywhere leaves nothing locked and nothing half written.
 *
 * WAITING. Reads never wait for writers or for other processes; two may say CSHM_BUSY: a view
 * while another thread is in the middle of a fork(), and a scan whose bucket others change
 * without end. Writes wait for other processes for a second at most, or for
 * what the options or the configuration say (CSHM_BUSY), and for a lock as long as the
 * caller says. No signal is used or blocked.
 *
 * STRUCTS that may become longer begin with struct_bytes: set it to sizeof the struct and
 * the rest to zero. An older library refuses fields that it does not know unless they are
 * zero; a newer one takes the shorter struct.
 *
 * BINARY INTERFACE. What was compiled for this header runs with every libcache_shm.so.N of
 * the same N, CSHM_ABI_VERSION, that is not older: functions, numbers, fields at the end of
 * structs with struct_bytes, and names of statistics are only ever added.
 */

#ifndef CACHE_SHM_H
#define CACHE_SHM_H

/* Generated from cache-shm/capi/src by cbindgen. Do not edit. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 What cshm_set_log wants: `message` is valid during the call. It must return (no longjmp,
 no exception), and may use the cache.
 */
typedef void (*cshm_log_function)(void *context, int32_t level, const char *message);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus


/*
 Success.
 */
#define CSHM_OK 0

/*
 The key, or whatever was asked for, is not there. Not an error.
 */
#define CSHM_NOT_FOUND 1

/*
 Nothing was stored: the key is there (add), or has another version (cas). Not an error.
 */
#define CSHM_NOT_STORED -1

/*
 Others hold the lock or all permits, or the rate is used up. Not an error.
 */
#define CSHM_NOT_GRANTED -2

/*
 A key has no bytes.
 */
#define CSHM_KEY_EMPTY 2

/*
 A key is longer than 65,535 bytes.
 */
#define CSHM_KEY_TOO_LONG 3

/*
 A value, with its key and its description, is larger than a quarter of the region.
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
 The time to live of what never expires.
 */
#define CSHM_NEVER UINT64_MAX

/*
 Plain bytes.
 */
#define CSHM_KIND_BYTES 0

/*
 A signed 64-bit integer, 8 bytes, little-endian.
 */
#define CSHM_KIND_INT 1

/*
 UTF-8 text, without a zero at its end.
 */
#define CSHM_KIND_STR 2

/*
 An IEEE 754 double, 8 bytes, little-endian.
 */
#define CSHM_KIND_FLOAT 3

/*
 Nothing (Python's None); no bytes.
 */
#define CSHM_KIND_NONE 4

/*
 False; no bytes.
 */
#define CSHM_KIND_FALSE 5

/*
 True; no bytes.
 */
#define CSHM_KIND_TRUE 6

/*
 One item of CBOR: lists, dicts, dates and whatever else Python stores by itself.
 */
#define CSHM_KIND_TAGGED 7

/*
 Mutable bytes (Python's bytearray).
 */
#define CSHM_KIND_BYTEARRAY 8

/*
 An array of numbers: a .npy file.
 */
#define CSHM_KIND_ARRAY 9

/*
 A table: a stream of Arrow's IPC format.
 */
#define CSHM_KIND_ARROW 10

/*
 A record batch: such a stream of one batch.
 */
#define CSHM_KIND_ARROW_BATCH 11

/*
 JSON, UTF-8.
 */
#define CSHM_KIND_JSON 17

/*
 One object of MessagePack.
 */
#define CSHM_KIND_MSGPACK 18

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
 The version of the binary interface, the number in the library's SONAME: what was
 compiled for it runs with every library of the same number that is not older.
 */
#define CSHM_ABI_VERSION 0

/*
 Something failed.
 */
#define CSHM_LOG_ERROR 1

/*
 Something that a person should know: a process ended in the middle of something, a
 region was removed from outside.
 */
#define CSHM_LOG_WARN 2

/*
 Something that explains: a region was destroyed, or made with a default size.
 */
#define CSHM_LOG_INFO 3

/*
 A handle on a region, and in it on one namespace.
 */
typedef struct cshm_cache cshm_cache;

/*
 A lock or permit that is held.
 */
typedef struct cshm_guard cshm_guard;

/*
 A walk over keys.
 */
typedef struct cshm_scan cshm_scan;

/*
 What cshm_get_many found.
 */
typedef struct cshm_values cshm_values;

/*
 A value where it lies in shared memory, without a copy.
 */
typedef struct cshm_view cshm_view;

/*
 How to open a region. Set struct_bytes to sizeof(cshm_open_options) and the rest to zero,
 which leaves everything to the environment and the configuration file.
 */
typedef struct cshm_open_options {
    /*
     sizeof(cshm_open_options).
     */
    size_t struct_bytes;
    /*
     As for cshm_open.
     */
    uint64_t size_bytes;
    /*
     CSHM_OPEN_ constants, added.
     */
    uint32_t flags;
    /*
     Permission bits of a new region: 0600, 0640 or 0660.
     */
    uint32_t mode;
    /*
     Longest wait of a write for other processes, and of opening for one that is just making
     the region; in milliseconds.
     */
    uint64_t timeout_ms;
    /*
     As for cshm_set_default_ttl.
     */
    uint64_t default_ttl_ms;
    /*
     The directory for a name without a slash, made if it is not there; NULL: configured.
     */
    const char *directory;
    /*
     The group that shares the region, by name or number; NULL: configured.
     */
    const char *group;
} cshm_open_options;

/*
 What is known of a value beside its bytes. Set struct_bytes to sizeof(cshm_meta) before
 the call.
 */
typedef struct cshm_meta {
    /*
     sizeof(cshm_meta).
     */
    size_t struct_bytes;
    /*
     Bytes of the value.
     */
    uint64_t value_bytes;
    /*
     Changes with every change of the key; the token of cshm_cas.
     */
    uint64_t version;
    /*
     Milliseconds that are left, at least 1; CSHM_NEVER if it does not expire.
     */
    uint64_t ttl_ms;
    /*
     What the bytes mean: a CSHM_KIND_ constant, or a number that is none of them.
     */
    uint32_t kind;
    /*
     32 bits that belong to whoever stored it.
     */
    uint32_t client_flags;
} cshm_meta;

/*
 Bytes of the caller's, such as a key or a tag.
 */
typedef struct cshm_bytes {
    /*
     Where they are; may be NULL if there are none.
     */
    const void *data;
    /*
     How many.
     */
    size_t bytes;
} cshm_bytes;

/*
 How to store a value. Set struct_bytes to sizeof(cshm_write_options) and the rest to
 zero, which are the defaults, before setting what is wanted.
 */
typedef struct cshm_write_options {
    /*
     sizeof(cshm_write_options).
     */
    size_t struct_bytes;
    /*
     Milliseconds until it expires; CSHM_NEVER; or 0: the handle's default, which is for ever
     unless there is one. (An argument `ttl_ms` of 0, as of cshm_set, is over already.)
     */
    uint64_t ttl_ms;
    /*
     What the bytes mean: a CSHM_KIND_ constant; 0 is plain bytes.
     */
    uint32_t kind;
    /*
     32 bits that belong to you (memcached's flags).
     */
    uint32_t client_flags;
    /*
     Tags, each 1 to 255 bytes, by which cshm_evict_tag finds the value.
     */
    const struct cshm_bytes *tags;
    /*
     How many, 64 at most.
     */
    size_t tag_count;
} cshm_write_options;

/*
 A key and its value, for cshm_set_many.
 */
typedef struct cshm_item {
    /*
     The key.
     */
    struct cshm_bytes key;
    /*
     The value.
     */
    struct cshm_bytes value;
} cshm_item;

/*
 The name of a namespace.
 */
typedef struct cshm_label {
    /*
     How many bytes of `text` it has; 0 for the default namespace.
     */
    size_t bytes;
    /*
     Its bytes, which no zero ends.
     */
    uint8_t text[64];
} cshm_label;

/*
 A counter or size, with its name.
 */
typedef struct cshm_stat {
    /*
     Such as "hits". Lives for ever.
     */
    const char *name;
    /*
     What it is now.
     */
    uint64_t value;
} cshm_stat;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

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

/*
 The version of the library, such as "0.1.0". Lives for ever.
 */
const char *cshm_version(void);

/*
 CSHM_ABI_VERSION of the library that the program runs with.
 */
uint32_t cshm_abi_version(void);

/*
 Opens the region `name`, or makes it, and stores a handle in `*out`, to be given up with
 cshm_close.

 `name` is UTF-8: a plain name in the per-user directory (CACHE_SHM_DIR to change), or a
 path if it has a slash. NULL is a private region that only this process and the
 children it forks can reach. `size_bytes` is at least 1 MiB; 0 attaches to whatever
 size there is (as another size does, with a warning to cshm_set_log), or makes 256 MiB or half of what the file system has free. `flags` are
 CSHM_OPEN_ constants, added. What neither they nor `size_bytes` say comes from the
 environment (CACHE_SHM_) or the configuration file. On failure `*out` is NULL.
 */
int32_t cshm_open(const char *name,
                  uint64_t size_bytes,
                  uint32_t flags,
                  struct cshm_cache **out);

/*
 As cshm_open with more options, which may be NULL for none: where the region is, who
 shares it, how long writes wait, and how long values live.
 */
int32_t cshm_open_with(const char *name,
                       const struct cshm_open_options *options,
                       struct cshm_cache **out);

/*
 Gives a handle up. Views, scans and locks that it gave stay valid. NULL is allowed and
 does nothing.
 */
void cshm_close(struct cshm_cache *cache);

/*
 The name of the handle's region, without its directory; NULL if it is private. Valid
 until cshm_close.
 */
const char *cshm_name(const struct cshm_cache *cache);

/*
 The file of the handle's region; NULL if it is private. Valid until cshm_close.
 */
const char *cshm_path(const struct cshm_cache *cache);

/*
 Lets values that are stored through this handle without a time to live of their own
 expire after `ttl_ms` milliseconds, or never (CSHM_NEVER, which it is at first unless
 the configuration says otherwise). Values that are there keep theirs.
 */
int32_t cshm_set_default_ttl(const struct cshm_cache *cache, uint64_t ttl_ms);

/*
 Destroys the region: its name is free at once, and everybody who is attached gets
 CSHM_GONE on the next write. The handle stays valid, and must still be closed.
 */
int32_t cshm_destroy(const struct cshm_cache *cache);

/*
 Destroys the region of that name without attaching to it, whatever state it is in.
 CSHM_MISSING if there is none.
 */
int32_t cshm_destroy_name(const char *name);

/*
 Copies the value of a key into `buffer` and its length into `*value_bytes`.

 CSHM_NOT_FOUND if the key is not there. CSHM_BUFFER_TOO_SMALL if the value is longer
 than `buffer_bytes`: `*value_bytes` then says how long it is, and the buffer's content
 is undefined. `buffer` may be NULL if `buffer_bytes` is 0, which asks for the length.
 `value_bytes` may be NULL if nobody wants to know.
 */
int32_t cshm_get(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 void *buffer,
                 size_t buffer_bytes,
                 size_t *value_bytes);

/*
 As cshm_get, and describes the value in `*meta`, of which `version` is the token for
 cshm_cas. Neither is told if the buffer is too small or the key is not there.
 */
int32_t cshm_gets(const struct cshm_cache *cache,
                  const void *key,
                  size_t key_bytes,
                  void *buffer,
                  size_t buffer_bytes,
                  struct cshm_meta *meta);

/*
 Copies the value of a key into new memory, of which the caller is the owner: give it up
 with cshm_free. `*value` is NULL unless CSHM_OK is returned, and then never, even for a
 value of 0 bytes. `meta`, which may be NULL, gets the description of the value.
 */
int32_t cshm_get_alloc(const struct cshm_cache *cache,
                       const void *key,
                       size_t key_bytes,
                       void **value,
                       size_t *value_bytes,
                       struct cshm_meta *meta);

/*
 Frees what cshm_get_alloc gave. NULL is allowed and does nothing.
 */
void cshm_free(void *value);

/*
 Describes the value of a key without reading it, and without counting as a use of it.
 */
int32_t cshm_get_meta(const struct cshm_cache *cache,
                      const void *key,
                      size_t key_bytes,
                      struct cshm_meta *meta);

/*
 CSHM_OK if the key is there, else CSHM_NOT_FOUND. Does not count as a use of it.
 */
int32_t cshm_contains(const struct cshm_cache *cache, const void *key, size_t key_bytes);

/*
 Stores in `*ttl_ms` how many milliseconds a key has left, at least 1; CSHM_NEVER if it
 does not expire.
 */
int32_t cshm_ttl(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 uint64_t *ttl_ms);

/*
 Lends the value of a key where it lies: `*out` is a view, to be given up with
 cshm_view_release; NULL unless CSHM_OK is returned.

 Its bytes stay as they are when the key is overwritten, deleted or evicted, when the
 handle is closed and when the region is destroyed; in a forked child too. While it is
 held its memory is not used again: hold views for as long as they are read, not for
 ever. Where nothing can be pinned (a read-only handle, too many views at once) it is a
 private copy. Any thread may read and release it. CSHM_BUSY if another thread is in the
 middle of a fork() for too long.
 */
int32_t cshm_get_view(const struct cshm_cache *cache,
                      const void *key,
                      size_t key_bytes,
                      struct cshm_view **out);

/*
 The bytes of a view, to be read and never written; valid until cshm_view_release. They
 begin at a multiple of 64 if there are more than 16 KiB. NULL for NULL.
 */
const void *cshm_view_data(const struct cshm_view *view);

/*
 How many bytes a view has; 0 for NULL.
 */
size_t cshm_view_bytes(const struct cshm_view *view);

/*
 Describes the value of a view, as it was when it was lent.
 */
int32_t cshm_view_meta(const struct cshm_view *view, struct cshm_meta *meta);

/*
 Gives a view up: its bytes must not be read any more. NULL is allowed and does nothing.
 */
void cshm_view_release(struct cshm_view *view);

/*
 Stores a value, to expire after `ttl_ms` milliseconds or never (CSHM_NEVER), whatever the
 handle's default is. With a `ttl_ms` of 0 it has expired already: the key is removed.
 */
int32_t cshm_set(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 const void *value,
                 size_t value_bytes,
                 uint64_t ttl_ms);

/*
 Stores a value as `options` say, which may be NULL for the defaults. `version`, which
 may be NULL, gets the version that the value has.
 */
int32_t cshm_set_with(const struct cshm_cache *cache,
                      const void *key,
                      size_t key_bytes,
                      const void *value,
                      size_t value_bytes,
                      const struct cshm_write_options *options,
                      uint64_t *version);

/*
 Stores a value if the key is not there, else CSHM_NOT_STORED; as cshm_set_with. Of any
 number of callers at once, one stores.
 */
int32_t cshm_add(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 const void *value,
                 size_t value_bytes,
                 const struct cshm_write_options *options,
                 uint64_t *version);

/*
 Stores a value if the key is there, else CSHM_NOT_FOUND; as cshm_set_with.
 */
int32_t cshm_replace(const struct cshm_cache *cache,
                     const void *key,
                     size_t key_bytes,
                     const void *value,
                     size_t value_bytes,
                     const struct cshm_write_options *options,
                     uint64_t *version);

/*
 Stores a value if the key still has the version `expected`, which cshm_gets told:
 compare and swap. CSHM_NOT_STORED if it has another, which `*version` then names;
 CSHM_NOT_FOUND if it is not there. Otherwise as cshm_set_with.
 */
int32_t cshm_cas(const struct cshm_cache *cache,
                 const void *key,
                 size_t key_bytes,
                 uint64_t expected,
                 const void *value,
                 size_t value_bytes,
                 const struct cshm_write_options *options,
                 uint64_t *version);

/*
 Removes a key. CSHM_NOT_FOUND if it was not there.
 */
int32_t cshm_delete(const struct cshm_cache *cache, const void *key, size_t key_bytes);

/*
 Adds `delta` to the integer of a key and stores the sum in `*sum`, which may be NULL.

 A key that is not there counts as `*initial` and is stored as `options` say (NULL: the
 defaults; `kind` is always CSHM_KIND_INT); without `initial` (NULL) it is
 CSHM_NOT_FOUND. A key that is there keeps its time to live, flags and tags. Works on
 CSHM_KIND_INT, and on canonical decimal text, which stays text. CSHM_NOT_INTEGER and
 CSHM_OVERFLOW leave the value as it was.
 */
int32_t cshm_incr(const struct cshm_cache *cache,
                  const void *key,
                  size_t key_bytes,
                  int64_t delta,
                  const int64_t *initial,
                  const struct cshm_write_options *options,
                  int64_t *sum);

/*
 Appends to the value of a key, which keeps its kind and time to live, and stores its new
 length in `*value_bytes`, which may be NULL. CSHM_NOT_FOUND if the key is not there.
 */
int32_t cshm_append(const struct cshm_cache *cache,
                    const void *key,
                    size_t key_bytes,
                    const void *tail,
                    size_t tail_bytes,
                    size_t *value_bytes);

/*
 Lets a key expire `ttl_ms` milliseconds from now, or never (CSHM_NEVER). With a
 `ttl_ms` of 0 it is removed. CSHM_NOT_FOUND if it is not there.
 */
int32_t cshm_touch(const struct cshm_cache *cache,
                   const void *key,
                   size_t key_bytes,
                   uint64_t ttl_ms);

/*
 Looks `count` keys up, faster than one by one, and stores what is there in `*out`, to be
 read with cshm_values_get and given up with cshm_values_free. Each key is read by
 itself: what others write meanwhile may be seen for some and not for others. A key that
 cannot be one (empty, or too long) fails the call. On failure `*out` is NULL.
 */
int32_t cshm_get_many(const struct cshm_cache *cache,
                      const struct cshm_bytes *keys,
                      size_t count,
                      struct cshm_values **out);

/*
 The value that cshm_get_many found for the key at `index`, counted from 0: CSHM_OK, or
 CSHM_NOT_FOUND. `*value` is valid until cshm_values_free; `value_bytes` and `meta` may
 be NULL.
 */
int32_t cshm_values_get(const struct cshm_values *values,
                        size_t index,
                        const void **value,
                        size_t *value_bytes,
                        struct cshm_meta *meta);

/*
 Gives up what cshm_get_many found. NULL is allowed and does nothing.
 */
void cshm_values_free(struct cshm_values *values);

/*
 Stores `count` values, each an operation of its own, as `options` say (NULL: the
 defaults).

 `results`, which may be NULL, has room for `count` numbers and gets one for each item;
 `stored`, which may be NULL, how many were stored. Returns CSHM_OK if all were, else
 the number of the last that was not; the others are stored all the same. If the call fails
 as a whole (the region is gone, an argument makes no sense), each result is its number
 and `*stored` is 0.
 */
int32_t cshm_set_many(const struct cshm_cache *cache,
                      const struct cshm_item *items,
                      size_t count,
                      const struct cshm_write_options *options,
                      int32_t *results,
                      size_t *stored);

/*
 Removes `count` keys, each an operation of its own.

 `results`, which may be NULL, has room for `count` numbers and gets one for each key:
 CSHM_OK, CSHM_NOT_FOUND or an error. `deleted`, which may be NULL, gets how many were
 there. Returns CSHM_OK, or the number of the last that failed. If the call fails as a whole,
 each result is its number and `*deleted` is 0.
 */
int32_t cshm_delete_many(const struct cshm_cache *cache,
                         const struct cshm_bytes *keys,
                         size_t count,
                         int32_t *results,
                         size_t *deleted);

/*
 Begins a walk over the keys of the handle's namespace that begin with `prefix`, or over
 all if `prefix_bytes` is 0; `*out` is the scan, to be given up with cshm_scan_close. It
 holds nothing in the region, however long it stays open, and outlives the handle. One
 thread at a time may use it.
 */
int32_t cshm_scan_open(const struct cshm_cache *cache,
                       const void *prefix,
                       size_t prefix_bytes,
                       struct cshm_scan **out);

/*
 The next key of a scan: CSHM_OK, or CSHM_NOT_FOUND at the end. `*key` is valid until the
 next call on this scan. `meta`, which may be NULL, describes its value. A key that is
 there all the time is met once; one that comes or goes meanwhile, perhaps; in no order.
 After an error (CSHM_BUSY) the next call goes on.
 */
int32_t cshm_scan_next(struct cshm_scan *scan,
                       const void **key,
                       size_t *key_bytes,
                       struct cshm_meta *meta);

/*
 Gives a scan up, at its end or before. NULL is allowed and does nothing.
 */
void cshm_scan_close(struct cshm_scan *scan);

/*
 Counts the keys of the handle's namespace that have not expired, by a walk over all of
 them: exact when nobody writes. The statistic "items" is the cheap estimate.
 */
int32_t cshm_len(const struct cshm_cache *cache, uint64_t *count);

/*
 Opens another handle on the same region, in the namespace `name` of 1 to 64 bytes, which
 is made if it is not there yet; `*out` is given up with cshm_close, and may outlive
 `cache`. The same bytes are another key in each namespace, and the same name another
 lock. Namespaces stay for the life of the region, which has room for 15 (1 MiB) to 255
 (16 MiB and more): else CSHM_NAMESPACES_FULL.
 */
int32_t cshm_namespace(const struct cshm_cache *cache,
                       const void *name,
                       size_t name_bytes,
                       struct cshm_cache **out);

/*
 Lists the namespaces of the region, the default one first: fills up to `capacity` of
 `names`, and stores in `*count` how many there are. `names` may be NULL if `capacity`
 is 0.
 */
int32_t cshm_namespaces(const struct cshm_cache *cache,
                        struct cshm_label *names,
                        size_t capacity,
                        size_t *count);

/*
 Removes every value of the handle's namespace that was stored with the tag `name`, of 1
 to 255 bytes, in one step. Tags share words: a value of another tag may go as well,
 seldom.
 */
int32_t cshm_evict_tag(const struct cshm_cache *cache, const void *name, size_t name_bytes);

/*
 Removes all keys of the handle's namespace in one step. Locks and rates stay.
 */
int32_t cshm_clear(const struct cshm_cache *cache);

/*
 Removes the keys of all namespaces in one step. Locks and rates stay.
 */
int32_t cshm_clear_all(const struct cshm_cache *cache);

/*
 Takes the lock `name`, of 1 to 65,535 bytes, which one thread of all processes holds at a
 time; it has nothing to do with a key of that name.

 Waits for up to `timeout_ms` milliseconds (0: one try), and is CSHM_NOT_GRANTED if others
 held it all the time. `*out` stands for it, and is given back with cshm_unlock, by any
 thread of this process. It ends after `ttl_ms` milliseconds too, unless that is CSHM_NEVER,
 and with this process however that dies. Not recursive: a thread that holds it waits
 for itself. In a forked child it is the parent's.
 */
int32_t cshm_lock(const struct cshm_cache *cache,
                  const void *name,
                  size_t name_bytes,
                  uint64_t ttl_ms,
                  uint64_t timeout_ms,
                  struct cshm_guard **out);

/*
 Takes one of the `count` permits, 1 to 1,024, of the semaphore `name`; otherwise as
 cshm_lock.
 */
int32_t cshm_permit(const struct cshm_cache *cache,
                    const void *name,
                    size_t name_bytes,
                    uint32_t count,
                    uint64_t ttl_ms,
                    uint64_t timeout_ms,
                    struct cshm_guard **out);

/*
 Gives a lock or permit back, and the guard up whatever is returned. CSHM_NOT_HOLDER if
 its time to live has passed: others may have had it meanwhile. NULL is allowed and does
 nothing.
 */
int32_t cshm_unlock(struct cshm_guard *guard);

/*
 Lets a lock or permit end `ttl_ms` milliseconds from now, or with this process only
 (CSHM_NEVER). CSHM_NOT_HOLDER if its time to live has passed.
 */
int32_t cshm_guard_extend(const struct cshm_guard *guard, uint64_t ttl_ms);

/*
 The fencing token of a lock or permit, greater than that of any earlier holder: whatever
 it guards can refuse a smaller one than it has seen. 0 for NULL.
 */
uint64_t cshm_guard_token(const struct cshm_guard *guard);

/*
 Counts `cost` units of what `name` limits to `count` units in each `per_ms`
 milliseconds, for `key` alone if it has bytes. CSHM_OK if that is allowed, else
 CSHM_NOT_GRANTED, and nothing was counted. Never waits.

 `remaining`, which may be NULL, gets how many units would be allowed now;
 `retry_after_ms`, which may be NULL, in how many milliseconds this cost is allowed if
 nobody else comes, 0 if it was.
 */
int32_t cshm_hit(const struct cshm_cache *cache,
                 const void *name,
                 size_t name_bytes,
                 const void *key,
                 size_t key_bytes,
                 uint64_t count,
                 uint64_t per_ms,
                 uint64_t cost,
                 uint64_t *remaining,
                 uint64_t *retry_after_ms);

/*
 Lets `function` hear, until the process ends, what the library notices beside the results
 of calls: that another process died in the middle of something, that a region was
 destroyed or removed. It is called with `context`, which may be NULL, a CSHM_LOG_ level
 and a message, by whichever thread is in a call that noticed it, perhaps several at once.
 Once in a process: the second time it is CSHM_INVALID_ARGUMENT.
 */
int32_t cshm_set_log(cshm_log_function function, void *context);

/*
 Tells the counters and sizes of the region: fills up to `capacity` of `stats`, and stores
 in `*count` how many there are, of which later versions have more. `stats` may be NULL if
 `capacity` is 0. Each is exact when nobody is at work, but that of items and their bytes
 what expired, or died with a clear, a namespace or a tag, may be counted until it is met.
 Together they are not one instant.
 */
int32_t cshm_stats(const struct cshm_cache *cache,
                   struct cshm_stat *stats,
                   size_t capacity,
                   size_t *count);

/*
 As cshm_stats for the counters of the handle's namespace. CSHM_NOT_FOUND if it is not
 there, which only a read-only handle can see.
 */
int32_t cshm_namespace_stats(const struct cshm_cache *cache,
                             struct cshm_stat *stats,
                             size_t capacity,
                             size_t *count);

/*
 Stores one statistic of the region in `*value`, by its name, such as "hits".
 CSHM_NOT_FOUND if this version has none of that name.
 */
int32_t cshm_stat_value(const struct cshm_cache *cache, const char *name, uint64_t *value);

/*
 Begins to count anew, for everybody: the counters of the handle's namespace, or from a
 handle in the default one those of the whole region.
 */
int32_t cshm_reset_stats(const struct cshm_cache *cache);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CACHE_SHM_H */
