/* What a process does to the files of one directory: counted, written down, or made to fail. Loaded with LD_PRELOAD.

   For: killing a process at its n-th write, sync, create or rename; failing that call; a record of all of them from which
   the disk of every moment can be made again.
   Not for: deciding what is killed when (points.py, errors.py) or what a disk may hold after a power cut (images.py).
   Runs in: the process under test. Settings come from the environment or, later, from the functions at the end.
   Promises: only calls on files below the directory count; those of other files pass untouched; a call is made and
   written down under one lock, so the record has the order of the calls.

   The calls are made by syscall(2), so nothing has to be looked up in libc and nothing can be intercepted twice. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL, FAIL_DONE, SHORT };
enum { WRITE = 1, TRUNCATE, SYNC, CREATE, MKDIR, RENAME, UNLINK, RMDIR, MARK, REFUSED };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char watched[PATH_MAX];
static size_t watched_size;
static char gate[PATH_MAX]; /* faults happen only while this file exists; "": always */
static int log_fd = -1, log_calls;
static int mode, error, sticky;
static long calls, when;

/* -- which files ----------------------------------------------------------------------------------------------- */

static int below(const char *path) {
    return watched_size && !strncmp(path, watched, watched_size) && (path[watched_size] == '/' || !path[watched_size]);
}

/* The path of a descriptor, if it is below the directory. */
static int path_of(int fd, char *path) {
    char link[64];
    ssize_t size;
    if (!watched_size) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return below(path);
}

/* The path of a name beside a directory's descriptor, if it is below the directory. */
static int path_at(int dir, const char *name, char *path) {
    char link[64];
    ssize_t size = 0;
    if (!watched_size || !name) return 0;
    if (name[0] != '/') {
        if (dir == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        size = readlink(link, path, PATH_MAX - 1);
        if (size <= 0 || size + strlen(name) + 2 > PATH_MAX) return 0;
        path[size++] = '/';
    }
    if (size + strlen(name) + 1 > PATH_MAX) return 0;
    strcpy(path + size, name);
    return below(path);
}

/* -- what happens to a call ------------------------------------------------------------------------------------ */

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a call; what is to happen to it. */
static int due(void) {
    calls++;
    if (!mode || (gate[0] && access(gate, F_OK))) return NOTHING;
    if (calls != when && !(sticky && calls > when)) return NOTHING;
    if (mode == KILL_BEFORE) die();
    return mode;
}

/* Whether the call is to fail instead of being made. */
static int refused(int act) {
    if (act != FAIL) return 0;
    errno = error;
    return 1;
}

/* After the call was made: die, or deny that it was. */
static long made(int act, long result) {
    if (act == KILL_AFTER || act == KILL_HALF) die();
    if (act == FAIL_DONE && result >= 0) {
        errno = error;
        return -1;
    }
    return result;
}

/* -- the record: kind u8, dsync u8, path u16, data u32, offset u64 (little-endian), the path, the data ------------ */

static void note(int kind, int dsync, const char *path, uint64_t offset, const void *data, size_t size) {
    unsigned char head[16];
    uint16_t length = path ? strlen(path) : 0;
    uint32_t bytes = size;
    struct iovec parts[3] = {{head, 16}, {(void *)path, length}, {(void *)data, size}};
    if (log_fd < 0 || (kind != MARK && !log_calls)) return;
    head[0] = kind, head[1] = dsync;
    memcpy(head + 2, &length, 2), memcpy(head + 4, &bytes, 4), memcpy(head + 8, &offset, 8);
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(16 + length + size)) abort();
}

/* -- writes ---------------------------------------------------------------------------------------------------- */

/* offset < 0: at the descriptor's position. */
static ssize_t put(int fd, const struct iovec *parts, int count, int64_t offset, const char *path) {
    size_t size = 0, want, at = 0;
    int64_t where = offset;
    int act, flags, saved;
    ssize_t result;
    char *data;
    struct stat found;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    data = malloc(size ? size : 1);
    for (int i = 0; i < count; i++) memcpy(data + at, parts[i].iov_base, parts[i].iov_len), at += parts[i].iov_len;
    pthread_mutex_lock(&lock);
    flags = fcntl(fd, F_GETFL);
    if (offset < 0) where = (flags & O_APPEND) && !fstat(fd, &found) ? found.st_size : lseek(fd, 0, SEEK_CUR);
    act = due();
    if (refused(act)) result = -1;
    else {
        want = (act == KILL_HALF || act == SHORT) && size > 1 ? size / 2 : size;
        result = offset < 0 ? syscall(SYS_write, fd, data, want) : syscall(SYS_pwrite64, fd, data, want, offset);
        note(result < 0 ? REFUSED : WRITE, (flags & O_DSYNC) != 0, path, where, data, result < 0 ? 0 : result);
        result = made(act, result);
    }
    saved = errno;
    pthread_mutex_unlock(&lock);
    free(data);
    errno = saved;
    return result;
}

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    struct iovec part = {(void *)data, size};
    return path_of(fd, path) ? put(fd, &part, 1, -1, path) : syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    return path_of(fd, path) ? put(fd, parts, count, -1, path) : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    char path[PATH_MAX];
    struct iovec part = {(void *)data, size};
    return path_of(fd, path) ? put(fd, &part, 1, offset, path) : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    char path[PATH_MAX];
    return path_of(fd, path) ? put(fd, parts, count, offset, path) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

/* -- calls without data ------------------------------------------------------------------------------------------ */

#define COUNTED(kind, path, offset, data, size, call)                        \
    long result = -1;                                                        \
    int act, saved;                                                          \
    pthread_mutex_lock(&lock);                                               \
    act = due();                                                             \
    if (!refused(act)) {                                                     \
        result = call;                                                       \
        note(result < 0 ? REFUSED : kind, 0, path, offset, data, size);      \
        result = made(act, result);                                          \
    }                                                                        \
    saved = errno;                                                           \
    pthread_mutex_unlock(&lock);                                             \
    errno = saved;                                                           \
    return result

static int synced(int fd, long number) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(number, fd);
    COUNTED(SYNC, path, 0, NULL, 0, syscall(number, fd));
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

/* Of a mapping nobody knows the file; tq maps no file that must last. Counted as a write would be, so that it cannot go unseen. */
int msync(void *start, size_t size, int flags) {
    if (!watched_size) return syscall(SYS_msync, start, size, flags);
    COUNTED(SYNC, watched, 0, NULL, 0, syscall(SYS_msync, start, size, flags));
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_ftruncate, fd, size);
    COUNTED(TRUNCATE, path, size, NULL, 0, syscall(SYS_ftruncate, fd, size));
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Space that is asked for ahead: the file is longer, as a truncation makes it. It gives its error instead of setting it. */
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    char path[PATH_MAX];
    long result = 0;
    int act;
    struct stat found;
    if (!path_of(fd, path)) return syscall(SYS_fallocate, fd, 0, offset, size) ? errno : 0;
    pthread_mutex_lock(&lock);
    act = due();
    if (refused(act)) result = -1;
    else {
        result = syscall(SYS_fallocate, fd, 0, offset, size);
        if (fstat(fd, &found)) found.st_size = offset + size;
        note(result ? REFUSED : TRUNCATE, 0, path, found.st_size, NULL, 0);
        result = made(act, result);
    }
    pthread_mutex_unlock(&lock);
    return result ? errno : 0;
}

int posix_fallocate(int fd, off_t offset, off_t size) { return posix_fallocate64(fd, offset, size); }

/* Only opening that makes or empties a file counts. */
static int opened(int dir, const char *name, int flags, mode_t bits) {
    char path[PATH_MAX];
    struct stat found;
    int there;
    if (!(flags & (O_CREAT | O_TRUNC)) || !path_at(dir, name, path)) return syscall(SYS_openat, dir, name, flags, bits);
    there = !fstatat(dir, name, &found, 0);
    if (there ? !(flags & O_TRUNC) || !found.st_size : !(flags & O_CREAT)) return syscall(SYS_openat, dir, name, flags, bits);
    COUNTED(there ? TRUNCATE : CREATE, path, 0, NULL, 0, syscall(SYS_openat, dir, name, flags, bits));
}

#define BITS                                             \
    mode_t bits = 0;                                     \
    if (flags & (O_CREAT | __O_TMPFILE)) {               \
        va_list more;                                    \
        va_start(more, flags);                           \
        bits = va_arg(more, mode_t);                     \
        va_end(more);                                    \
    }

int open(const char *name, int flags, ...) { BITS return opened(AT_FDCWD, name, flags, bits); }
int open64(const char *name, int flags, ...) { BITS return opened(AT_FDCWD, name, flags, bits); }
int openat(int dir, const char *name, int flags, ...) { BITS return opened(dir, name, flags, bits); }
int openat64(int dir, const char *name, int flags, ...) { BITS return opened(dir, name, flags, bits); }

/* What the kernel refuses anyway is not worth a fault: no disk is asked for it. */
static int there(int dir, const char *name) {
    struct stat found;
    return !fstatat(dir, name, &found, AT_SYMLINK_NOFOLLOW);
}

int mkdirat(int dir, const char *name, mode_t bits) {
    char path[PATH_MAX];
    if (!path_at(dir, name, path) || there(dir, name)) return syscall(SYS_mkdirat, dir, name, bits);
    COUNTED(MKDIR, path, 0, NULL, 0, syscall(SYS_mkdirat, dir, name, bits));
}

int mkdir(const char *name, mode_t bits) { return mkdirat(AT_FDCWD, name, bits); }

int unlinkat(int dir, const char *name, int flags) {
    char path[PATH_MAX];
    if (!path_at(dir, name, path) || !there(dir, name)) return syscall(SYS_unlinkat, dir, name, flags);
    COUNTED(flags & AT_REMOVEDIR ? RMDIR : UNLINK, path, 0, NULL, 0, syscall(SYS_unlinkat, dir, name, flags));
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat(int dir, const char *name, int to_dir, const char *to) {
    char path[PATH_MAX], new[PATH_MAX];
    if (!path_at(dir, name, path) || !path_at(to_dir, to, new)) return syscall(SYS_renameat2, dir, name, to_dir, to, 0);
    COUNTED(RENAME, path, 0, new, strlen(new), syscall(SYS_renameat2, dir, name, to_dir, to, 0));
}

int rename(const char *name, const char *to) { return renameat(AT_FDCWD, name, AT_FDCWD, to); }

/* -- what a test says ------------------------------------------------------------------------------------------ */

/* The real path of the directory to watch; the count starts anew. */
void shim_watch(const char *dir) {
    snprintf(watched, sizeof watched, "%s", dir);
    watched_size = strlen(watched);
    calls = 0;
}

/* What happens at call `number` (from 1; with `from_then_on` at every later one too). */
void shim_fault(int what, long number, int code, int from_then_on) { mode = what, when = number, error = code, sticky = from_then_on; }

long shim_calls(void) { return calls; }

/* Where the record goes, and whether calls are in it beside marks. */
void shim_record(int fd, int all) { log_fd = fd, log_calls = all; }

void shim_mark(const char *text) {
    pthread_mutex_lock(&lock);
    note(MARK, 0, NULL, 0, text, strlen(text));
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void from_environment(void) {
    const char *dir = getenv("SHIM_DIR"), *fault = getenv("SHIM_FAULT"), *while_there = getenv("SHIM_GATE");
    int what, code, from_then_on;
    long number;
    if (while_there) snprintf(gate, sizeof gate, "%s", while_there);
    if (fault && sscanf(fault, "%d %ld %d %d", &what, &number, &code, &from_then_on) == 4) shim_fault(what, number, code, from_then_on);
    if (dir) shim_watch(dir);
}
