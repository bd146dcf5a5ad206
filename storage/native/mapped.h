/* Rows of passages out of mappings of their files, decoded on the way; included by decode.c.
 *
 * A mapping costs no system call and no copy by the kernel, but what goes wrong under it comes as a signal: a
 * disk error, or a file that was cut off, would end the process (SIGBUS). So every byte is copied out of it by
 * `copied` alone, which comes back from that signal and says so; everything else works on the copy, which
 * nobody changes meanwhile. Who calls reads by `pread` what is not done here, and that says what is wrong.
 *
 * The signal is watched in the whole process. What is not ours goes to whoever watched it before.
 */

#if defined(__linux__) && defined(__GLIBC__)
#define HAVE_MAPPINGS 1

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    sigjmp_buf back;
    const uint8_t *first, *stop; /* what is being read */
} guard;

/* Of this thread, while it copies. In the thread's static block: a signal handler must not allocate one. */
static __thread guard *volatile watching __attribute__((tls_model("initial-exec")));
static struct sigaction before;
static volatile sig_atomic_t passed_on;

static void on_bus_error(int number, siginfo_t *info, void *context) {
    guard *mine = watching;
    const uint8_t *at = info->si_addr;
    /* Positive codes come from the kernel, and from nobody's kill(). */
    if (mine && info->si_code > 0 && at >= mine->first && at < mine->stop) {
        watching = NULL;
        siglongjmp(mine->back, 1);
    }
    /* One that was set after ours may hand it back to us: then it ends here. */
    const int again = passed_on;
    passed_on = 1;
    if (!again && (before.sa_flags & SA_SIGINFO) && before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
    } else if (!again && !(before.sa_flags & SA_SIGINFO) && before.sa_handler != SIG_DFL &&
               before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else if (!again && info->si_code <= 0 && before.sa_handler == SIG_IGN) {
        /* Somebody's kill(), which was to be ignored. */
    } else {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    passed_on = 0;
}

/* Watch, whoever has put another handler in our place meanwhile. Returns 0 where it cannot be. */
static int watch(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now))
        return 0;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error)
        return 1;
    /* Not waited for: in a forked process the thread that held it may not be there. */
    if (pthread_mutex_trylock(&lock))
        return 0;
    int watched = sigaction(SIGBUS, NULL, &now) == 0;
    if (watched && !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error)) {
        struct sigaction ours = {0};
        ours.sa_sigaction = on_bus_error;
        /* Not deferred: a jump out of the handler leaves the mask as it is there. */
        ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
        before = now;
        watched = sigaction(SIGBUS, &ours, NULL) == 0;
    }
    pthread_mutex_unlock(&lock);
    return watched;
}

static void copy(int64_t isa, uint8_t *to, const uint8_t *from, int64_t bytes) { DISPATCH(copy, to, from, bytes) }

/* A copy out of a mapping; 0 where what is read is not there. */
static __attribute__((noinline)) int copied(int64_t isa, uint8_t *to, const uint8_t *from, int64_t bytes) {
    guard mine;
    mine.first = from;
    mine.stop = from + bytes;
    if (sigsetjmp(mine.back, 0))
        return 0;
    watching = &mine;
    copy(isa, to, from, bytes);
    __asm__ volatile("" ::: "memory");
    watching = NULL;
    return 1;
}

/* Is all of it in the page cache? A disk is read by many requests at once, which a mapping cannot. */
static int resident(const uint8_t *from, const uint8_t *stop) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char there[512];
    for (uintptr_t at = (uintptr_t)from / page * page; at < (uintptr_t)stop;) {
        size_t pages = ((uintptr_t)stop - at + page - 1) / page;
        if (pages > sizeof there)
            pages = sizeof there;
        if (mincore((void *)at, pages * page, there))
            return 0;
        unsigned char all = 1;
        for (size_t i = 0; i < pages; i++)
            all &= there[i];
        if (!(all & 1))
            return 0;
        at += pages * page;
    }
    return 1;
}
#endif

/* A file of values that is mapped. */
typedef struct {
    const uint8_t *map;
    int64_t bytes; /* of the file when it was opened */
    int64_t descriptor;
    int64_t chunk_rows;
} mapped_file;

/* Where the passages of one generation lie, as storage/memory_rows.py and memory_files.py keep it. */
typedef struct {
    int64_t first, passages, per_shard;
    const int64_t *slots;     /* [shards], of its rows, from 1; 0: not known yet */
    const uint32_t *numbers;  /* [slots, 2 per_shard + 1]: offsets, then checksums */
    const uint8_t *right;     /* [passages], compared with their checksum */
    const int64_t *files;     /* [shards], the addresses of their mapped_file; 0: none yet, -1: there can be none */
} segment;

/* Rows that are wanted of a file, and where they go. */
typedef struct {
    const mapped_file *file; /* NULL: not to be served */
    int64_t row, stop;
    int64_t at;           /* the row of the result that they begin with */
    const uint8_t *right; /* stays 1 as long as they are; NULL: nobody asks */
    int64_t done;         /* 1 when they are there */
} span;

/* A shard that spans are of, once or more. */
typedef struct {
    int64_t segment, shard;
    int64_t file; /* as in `segment` */
} opened;

/* How far back a shard is looked for among those that were met. */
enum { LOOK_BACK = 32 };

INLINE int64_t bound(int64_t at, int64_t length) {
    return at < 0 ? (at + length > 0 ? at + length : 0) : at < length ? at : length;
}

/* Plan a fetch: spans of passages [count], and the first row of each in the result, [count + 1]. Nothing that
 * `files` leads to is looked at, so that it may be gone.
 *
 * Of each passage tokens `begin` to `end` are wanted, as Python slices a list. `apart`: rows of the result from one
 * passage to the next; 0 where they lie back to back. `always`: nobody asks which were compared with their
 * checksum. Shards go to `shards` [count]; to `counts` how many, and 0, the span that is served first.
 *
 * Returns the rows of the result; -1 where a passage is not there, or it is not known where. */
EXPORT int64_t memcorpus_plan(const segment *segments, int64_t several, const int64_t *ids, int64_t count,
                              int64_t begin, int64_t end, int64_t apart, int64_t always, span *spans,
                              int64_t *offsets, opened *shards, int64_t *counts) {
    int64_t total = 0, found = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t number = several - 1;
        while (number > 0 && ids[i] < segments[number].first)
            number--;
        const segment *in = segments + number;
        const int64_t place = ids[i] - in->first;
        if (place < 0 || place >= in->passages || !in->slots)
            return -1;
        const int64_t shard = place / in->per_shard, slot = in->slots[shard];
        if (!slot)
            return -1;
        const uint32_t *at = in->numbers + slot * (2 * in->per_shard + 1) + place % in->per_shard;
        const int64_t length = (int64_t)at[1] - at[0];
        const int64_t from = bound(begin, length), to = bound(end, length);
        span *one = spans + i;
        one->file = NULL;
        one->row = at[0] + from;
        one->stop = at[0] + (to > from ? to : from);
        one->at = apart ? i * apart : total;
        one->right = always ? NULL : in->right + place;
        one->done = 0;
        total += one->stop - one->row;
        offsets[i + 1] = total;
        if (!always && !in->right[place])
            continue;
        const int64_t file = in->files[shard];
        if (file > 0)
            one->file = (const mapped_file *)(intptr_t)file;
        if (file < 0)
            continue;
        int64_t k = found;
        while (k > 0 && k + LOOK_BACK > found && (shards[k - 1].shard != shard || shards[k - 1].segment != number))
            k--;
        if (k > 0 && k + LOOK_BACK > found)
            continue;
        shards[found++] = (opened){number, shard, file};
    }
    counts[0] = found;
    counts[1] = 0;
    return total;
}

/* How stored rows become values; kinds as storage/native/__init__.py numbers them. */
enum { COPY, INT8, GATHER, TURBO, ADD };
typedef struct {
    int64_t kind, isa;
    int64_t row_bytes, value_bytes; /* of a row, stored and decoded */
    int64_t width;
    const void *table;                            /* scales, books or levels */
    int64_t groups, codes, code_bytes, item_bytes; /* GATHER, ADD: but code_bytes */
    int64_t steps;                                /* ADD */
    int64_t bits;                                 /* TURBO */
    rotation turn;
} recipe;

static int32_t decoded(const recipe *how, const uint8_t *stored, uint8_t *out, int64_t rows, float *scratch) {
    switch (how->kind) {
    case INT8:
        return memcorpus_int8((int32_t)how->isa, stored, out, rows, how->width, how->table);
    case GATHER:
        return memcorpus_gather((int32_t)how->isa, stored, out, rows, how->groups, how->codes, how->code_bytes,
                                how->item_bytes, how->table);
    case ADD:
        return memcorpus_add((int32_t)how->isa, stored, out, rows, how->groups, how->steps, how->codes,
                             how->item_bytes / 2, how->table);
    case TURBO:
        return memcorpus_turbo((int32_t)how->isa, stored, out, rows, how->bits, how->table, how->turn.blocks,
                               how->turn.block, how->turn.run, how->turn.norm, how->turn.mix, how->turn.first,
                               how->turn.second, scratch);
    default:
        return 0;
    }
}

#ifdef HAVE_MAPPINGS
/* What is copied at a time before it is decoded: half of a small first-level cache. */
enum { BLOCK_BYTES = 16384, CRC_BYTES = 4 };

static int served(const span *wanted, const recipe *how, uint8_t *values, uint8_t *block, float *scratch) {
    const mapped_file *file = wanted->file;
    /* As storage/shard_files.py lays rows out: behind each chunk lies its checksum. */
#define PLACE(row) ((row) * size + (row) / chunk * CRC_BYTES)
    if (!file)
        return 0;
    if (wanted->row >= wanted->stop)
        return 1;
    const int64_t size = how->row_bytes, chunk = file->chunk_rows;
    const int64_t end = PLACE(wanted->stop - 1) + size;
    if (wanted->row < 0 || end > file->bytes || !resident(file->map + PLACE(wanted->row), file->map + end))
        return 0;
    const int64_t most = how->kind == COPY ? chunk : BLOCK_BYTES / size > 1 ? BLOCK_BYTES / size : 1;
    uint8_t *out = values + wanted->at * how->value_bytes;
    for (int64_t row = wanted->row, rows; row < wanted->stop; row += rows, out += rows * how->value_bytes) {
        rows = chunk - row % chunk;
        if (rows > wanted->stop - row)
            rows = wanted->stop - row;
        if (rows > most)
            rows = most;
        uint8_t *to = how->kind == COPY ? out : block;
        if (!copied(how->isa, to, file->map + PLACE(row), rows * size))
            return 0;
        if (to == block && !decoded(how, block, out, rows, scratch))
            return 0;
    }
#undef PLACE
    /* Of a file that was cut off meanwhile, the rest of its last page reads as zeros. */
    struct stat status;
    if (fstat((int)file->descriptor, &status) || status.st_size < file->bytes)
        return 0;
    /* Of a file that was replaced meanwhile, nothing counts as right any more. */
    return !wanted->right || __atomic_load_n(wanted->right, __ATOMIC_ACQUIRE);
}
#endif

/* Map a file to be read. Returns NULL where it cannot be, or where nobody would say what of it is in the page
 * cache: that is told to whoever owns it or may write to it. */
EXPORT void *memcorpus_map(int64_t descriptor, int64_t bytes) {
#ifdef HAVE_MAPPINGS
    struct stat status;
    char path[64];
    if (bytes <= 0 || fstat((int)descriptor, &status) || status.st_size < bytes)
        return NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", (int)descriptor);
    if (status.st_uid != geteuid() && faccessat(AT_FDCWD, path, W_OK, AT_EACCESS))
        return NULL;
    void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, (int)descriptor, 0);
    return map == MAP_FAILED ? NULL : map;
#else
    (void)descriptor, (void)bytes;
    return NULL;
#endif
}

EXPORT void memcorpus_unmap(void *map, int64_t bytes) {
#ifdef HAVE_MAPPINGS
    munmap(map, (size_t)bytes);
#else
    (void)map, (void)bytes;
#endif
}

/* Serve spans into `values`, as many as can be; returns how many. Threads that are given the same ones share them by
 * `next`. */
EXPORT int64_t memcorpus_serve(span *spans, int64_t count, int64_t *next, const recipe *how, uint8_t *values) {
    int64_t all = 0;
#ifdef HAVE_MAPPINGS
    if (!watch())
        return 0;
    /* What a block of stored rows is decoded from, and floats of two rows. */
    uint8_t *block = NULL;
    const int64_t bytes = how->row_bytes > BLOCK_BYTES ? how->row_bytes : BLOCK_BYTES;
    if (how->kind != COPY && !(block = malloc((size_t)(bytes + 16 + 8 * how->width))))
        return 0;
    float *floats = block ? (float *)(void *)(block + (bytes + 15) / 16 * 16) : NULL;
    for (int64_t i; (i = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < count;)
        all += spans[i].done = served(&spans[i], how, values, block, floats);
    free(block);
#else
    (void)spans, (void)count, (void)next, (void)how, (void)values;
#endif
    return all;
}

/* One guarded copy, for tests and those who look for what goes wrong. Returns 0 where the bytes are not there. */
EXPORT int32_t memcorpus_copied(int64_t isa, uint8_t *to, const uint8_t *from, int64_t bytes) {
#ifdef HAVE_MAPPINGS
    return watch() && copied(isa, to, from, bytes);
#else
    (void)isa, (void)to, (void)from, (void)bytes;
    return 0;
#endif
}
