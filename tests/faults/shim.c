/* Faults in the system calls of a process, below one folder. Preloaded; see shim.py for how it is told what.
 *
 * It stands between the process and the C library: calls of a few classes are counted, and some of them
 * fail, do half, end the process or stop it. What the C library does inside itself (the flush of a stdio
 * stream) does not come by here, so fopen, fwrite, fread and fclose are calls of their own.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

enum call { OPEN, WRITE, READ, FSYNC, RENAME, UNLINK, MKDIR, TRUNCATE, CLOSE, FLOCK, CALLS };
static const char *const NAMES[CALLS] = {
    "open", "write", "read", "fsync", "rename", "unlink", "mkdir", "truncate", "close", "flock"};

/* An errno, or one of these. */
enum { NONE = 0, SHORT = -1, KILL = -2, TORN = -3, STOP = -4 };

static struct {
    char folder[PATH_MAX];
    size_t length;
    unsigned calls;  /* bit i: calls of class i are counted */
    long first;      /* the first that fails; 0: none, count only */
    long every;      /* 0: it alone; otherwise each that many from there on */
    int fault;
    int log;         /* 1: every call that is counted; 0: those that fail */
    char log_path[PATH_MAX];
} plan;
static atomic_long count;
static atomic_int armed;

/* Tell it what to do; folder NULL ends it. Counts from here. */
EXPORT void faults_arm(const char *folder, unsigned calls, long first, long every, int fault, int log,
                       const char *log_path)
{
    atomic_store(&armed, 0);
    if (!folder) return;
    snprintf(plan.folder, sizeof plan.folder, "%s", folder);
    snprintf(plan.log_path, sizeof plan.log_path, "%s", log_path);
    plan.length = strlen(plan.folder);
    plan.calls = calls;
    plan.first = first;
    plan.every = every;
    plan.fault = fault;
    plan.log = log;
    atomic_store(&count, 0);
    atomic_store(&armed, 1);
}

/* Straight to the kernel: nothing of this is counted. */
static void note(enum call call, long n, const char *path, int fault)
{
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%ld %s %d %s\n", n, NAMES[call], fault, path);
    int file = syscall(SYS_openat, AT_FDCWD, plan.log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        syscall(SYS_write, file, line, size);
        syscall(SYS_close, file);
    }
}

static int is_below(const char *path)
{
    return !strncmp(path, plan.folder, plan.length)
        && (path[plan.length] == '/' || path[plan.length] == ' ' || !path[plan.length]);
}

/* What is to happen to a call that touches `path`. */
static int judge(enum call call, const char *path)
{
    if (!(plan.calls & 1u << call) || !is_below(path)) return NONE;
    long n = atomic_fetch_add(&count, 1) + 1;
    int hit = plan.first && (n == plan.first
        || (plan.every && n > plan.first && (n - plan.first) % plan.every == 0));
    if (hit || plan.log) note(call, n, path, hit ? plan.fault : NONE);
    if (!hit) return NONE;
    if (plan.fault == KILL) syscall(SYS_kill, getpid(), SIGKILL);
    if (plan.fault == STOP) syscall(SYS_kill, getpid(), SIGSTOP);
    return plan.fault == STOP ? NONE : plan.fault;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

static int of_fd(enum call call, int fd)
{
    if (!atomic_load(&armed)) return NONE;
    char name[64], path[PATH_MAX];
    int before = errno;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    errno = before;
    if (size < 0) return NONE;
    path[size] = 0;
    return judge(call, path);
}

static int of_path(enum call call, int folder, const char *path)
{
    if (!atomic_load(&armed) || !path) return NONE;
    char name[64], whole[2 * PATH_MAX];
    if (*path == '/') return judge(call, path);
    int before = errno;
    ssize_t size;
    if (folder == AT_FDCWD) {
        size = readlink("/proc/self/cwd", whole, PATH_MAX - 1);
    } else {
        snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
        size = readlink(name, whole, PATH_MAX - 1);
    }
    errno = before;
    if (size < 0) return NONE;
    snprintf(whole + size, sizeof whole - size, "/%s", path);
    return judge(call, whole);
}

#define FAIL(fault, value) do { if ((fault) > 0) { errno = (fault); return (value); } } while (0)

#define OPENS(name, fd, path, parameters, given, flags) \
    EXPORT int name parameters \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if ((flags) & (O_CREAT | __O_TMPFILE)) { \
            va_list more; \
            va_start(more, flags); \
            mode = va_arg(more, mode_t); \
            va_end(more); \
        } \
        int fault = of_path(OPEN, fd, path); \
        FAIL(fault, -1); \
        return real given; \
    }
OPENS(open, AT_FDCWD, path, (const char *path, int flags, ...), (path, flags, mode), flags)
OPENS(open64, AT_FDCWD, path, (const char *path, int flags, ...), (path, flags, mode), flags)
OPENS(openat, fd, path, (int fd, const char *path, int flags, ...), (fd, path, flags, mode), flags)
OPENS(openat64, fd, path, (int fd, const char *path, int flags, ...), (fd, path, flags, mode), flags)

EXPORT int creat(const char *path, mode_t mode)
{
    REAL(creat);
    int fault = of_path(OPEN, AT_FDCWD, path);
    FAIL(fault, -1);
    return real(path, mode);
}

EXPORT DIR *opendir(const char *path)
{
    REAL(opendir);
    int fault = of_path(OPEN, AT_FDCWD, path);
    FAIL(fault, NULL);
    return real(path);
}

#define STREAMS(name) \
    EXPORT FILE *name(const char *path, const char *mode) \
    { \
        REAL(name); \
        int fault = of_path(OPEN, AT_FDCWD, path); \
        FAIL(fault, NULL); \
        return real(path, mode); \
    }
STREAMS(fopen)
STREAMS(fopen64)

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

/* Fewer bytes than were asked for, though never none. */
#define BYTES(name, call, parameters, given, size) \
    EXPORT ssize_t name parameters \
    { \
        REAL(name); \
        int fault = of_fd(call, fd); \
        FAIL(fault, -1); \
        if (fault == SHORT || fault == TORN) size = half(size); \
        ssize_t done = real given; \
        if (fault == TORN) die(); \
        return done; \
    }
BYTES(write, WRITE, (int fd, const void *data, size_t size), (fd, data, size), size)
BYTES(pwrite, WRITE, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), size)
BYTES(pwrite64, WRITE, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), size)
BYTES(read, READ, (int fd, void *data, size_t size), (fd, data, size), size)
BYTES(pread, READ, (int fd, void *data, size_t size, off_t at), (fd, data, size, at), size)
BYTES(pread64, READ, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at), size)

/* The first pieces, and half of the last of them. */
static int cut(const struct iovec *pieces, int n, struct iovec *some)
{
    int kept = n > 1 ? n / 2 : n;
    memcpy(some, pieces, kept * sizeof *some);
    some[kept - 1].iov_len = half(some[kept - 1].iov_len);
    return kept;
}

#define PIECES(name, call, parameters, given) \
    EXPORT ssize_t name parameters \
    { \
        REAL(name); \
        int fault = of_fd(call, fd); \
        FAIL(fault, -1); \
        struct iovec some[IOV_MAX]; \
        if ((fault == SHORT || fault == TORN) && n > 0) { \
            n = cut(pieces, n, some); \
            pieces = some; \
        } \
        ssize_t done = real given; \
        if (fault == TORN) die(); \
        return done; \
    }
#define V (int fd, const struct iovec *pieces, int n)
#define VAT (int fd, const struct iovec *pieces, int n, off_t at)
#define VAT64 (int fd, const struct iovec *pieces, int n, off64_t at)
#define VAT2 (int fd, const struct iovec *pieces, int n, off_t at, int flags)
#define VAT642 (int fd, const struct iovec *pieces, int n, off64_t at, int flags)
PIECES(writev, WRITE, V, (fd, pieces, n))
PIECES(pwritev, WRITE, VAT, (fd, pieces, n, at))
PIECES(pwritev64, WRITE, VAT64, (fd, pieces, n, at))
PIECES(pwritev2, WRITE, VAT2, (fd, pieces, n, at, flags))
PIECES(pwritev64v2, WRITE, VAT642, (fd, pieces, n, at, flags))
PIECES(readv, READ, V, (fd, pieces, n))
PIECES(preadv, READ, VAT, (fd, pieces, n, at))
PIECES(preadv64, READ, VAT64, (fd, pieces, n, at))
PIECES(preadv2, READ, VAT2, (fd, pieces, n, at, flags))
PIECES(preadv64v2, READ, VAT642, (fd, pieces, n, at, flags))

#define ITEMS(name, call, data_type) \
    EXPORT size_t name(data_type data, size_t size, size_t n, FILE *file) \
    { \
        REAL(name); \
        int fault = of_fd(call, fileno(file)); \
        FAIL(fault, 0); \
        if (fault == SHORT || fault == TORN) { \
            /* A stream does it all, or has met an error. */ \
            size_t done = real(data, size, n / 2, file); \
            if (fault == TORN) { fflush(file); die(); } \
            errno = call == WRITE ? ENOSPC : EIO; \
            return done; \
        } \
        return real(data, size, n, file); \
    }
ITEMS(fwrite, WRITE, const void *)
ITEMS(fread, READ, void *)

/* The file is closed whatever is answered; a stream's last buffer is lost. */
EXPORT int close(int fd)
{
    REAL(close);
    int fault = of_fd(CLOSE, fd);
    int done = real(fd);
    FAIL(fault, -1);
    return done;
}

EXPORT int fclose(FILE *file)
{
    REAL(fclose);
    int fault = __fpending(file) ? of_fd(WRITE, fileno(file)) : NONE;
    if (fault == NONE) fault = of_fd(CLOSE, fileno(file));
    if (fault > 0) __fpurge(file);
    int done = real(file);
    FAIL(fault, EOF);
    return done;
}

#define PLAIN(name, judged, parameters, given) \
    EXPORT int name parameters \
    { \
        REAL(name); \
        int fault = judged; \
        FAIL(fault, -1); \
        return real given; \
    }
PLAIN(fsync, of_fd(FSYNC, fd), (int fd), (fd))
PLAIN(fdatasync, of_fd(FSYNC, fd), (int fd), (fd))
PLAIN(rename, of_path(RENAME, AT_FDCWD, to), (const char *from, const char *to), (from, to))
PLAIN(renameat, of_path(RENAME, there, to), (int here, const char *from, int there, const char *to),
      (here, from, there, to))
PLAIN(renameat2, of_path(RENAME, there, to),
      (int here, const char *from, int there, const char *to, unsigned flags), (here, from, there, to, flags))
PLAIN(unlink, of_path(UNLINK, AT_FDCWD, path), (const char *path), (path))
PLAIN(unlinkat, of_path(UNLINK, fd, path), (int fd, const char *path, int flags), (fd, path, flags))
PLAIN(rmdir, of_path(UNLINK, AT_FDCWD, path), (const char *path), (path))
PLAIN(mkdir, of_path(MKDIR, AT_FDCWD, path), (const char *path, mode_t mode), (path, mode))
PLAIN(mkdirat, of_path(MKDIR, fd, path), (int fd, const char *path, mode_t mode), (fd, path, mode))
PLAIN(ftruncate, of_fd(TRUNCATE, fd), (int fd, off_t size), (fd, size))
PLAIN(ftruncate64, of_fd(TRUNCATE, fd), (int fd, off64_t size), (fd, size))
PLAIN(flock, of_fd(FLOCK, fd), (int fd, int operation), (fd, operation))
