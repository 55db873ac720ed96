/* Lets one call that touches a file fail, or kills the process just before it.
 *
 * Loaded before all other libraries, it sees what Python, PyTorch's writer (C++) and safetensors (Rust) ask of libc.
 * A call is known by its name, its path, and how many like it came before. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST 4096
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folder[LONGEST], wanted[2 * LONGEST];
static long before;   /* calls like the wanted one that are let through */
static int with;      /* errno of the failure; 0 kills; -1 lets everything through */
static int book = -1; /* where calls are written down */

/* From now on, calls below `path` are written down in `log`, and one of them is met with `error`. */
void faults_arm(const char *path, const char *log, const char *call, long occurrence, int error)
{
    snprintf(wanted, sizeof wanted, "%s", call);
    before = occurrence;
    with = error;
    book = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    snprintf(folder, sizeof folder, "%s", path);
}

/* Whether this call is to fail. */
static int meets(const char *name, const char *path)
{
    char call[2 * LONGEST];
    size_t length = strlen(folder);
    if (length == 0 || strncmp(path, folder, length) != 0)
        return 0;
    const char *random = strstr(path + length, "/.tmp"); /* safetensors writes to a file with a name by chance */
    int shown = random ? (int)(random - path - length) + 5 : LONGEST;
    int size = snprintf(call, sizeof call, "%s %.*s\n", name, shown, path + length);
    syscall(SYS_write, book, call, (size_t)size);
    call[size - 1] = 0;
    if (with < 0 || strcmp(call, wanted) != 0 || __atomic_fetch_sub(&before, 1, __ATOMIC_SEQ_CST) != 0)
        return 0;
    syscall(SYS_write, book, "HIT\n", 4);
    if (with > 0)
        errno = with;
    return 1;
}

static void die(void)
{
    if (with == 0)
        syscall(SYS_kill, getpid(), SIGKILL);
}

static int below(const char *name, int directory, const char *path)
{
    char whole[2 * LONGEST] = "";
    if (path[0] == '/')
        return meets(name, path);
    if (directory == AT_FDCWD)
        return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t size = readlink(link, whole, LONGEST);
    if (size <= 0)
        return 0;
    snprintf(whole + size, sizeof whole - (size_t)size, "/%s", path);
    return meets(name, whole);
}

static int on_file(const char *name, int file)
{
    char link[64], path[LONGEST] = "";
    if (folder[0] == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    return readlink(link, path, sizeof path - 1) > 0 && meets(name, path);
}

#define GUARD(condition, failure) do { int kept = errno; if (condition) { die(); return failure; } errno = kept; } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        GUARD(below("open", AT_FDCWD, path), -1); \
        return REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        GUARD(below("open", directory, path), -1); \
        return REAL(name)(directory, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *path, const char *mode)
{
    GUARD(below("open", AT_FDCWD, path), NULL);
    return REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    GUARD(below("open", AT_FDCWD, path), NULL);
    return REAL(fopen64)(path, mode);
}

ssize_t read(int file, void *data, size_t size)
{
    GUARD(on_file("read", file), -1);
    return REAL(read)(file, data, size);
}

ssize_t write(int file, const void *data, size_t size)
{
    int kept = errno;
    if (on_file("write", file)) {
        if (with == 0)
            syscall(SYS_write, file, data, size / 2); /* half of it arrives */
        die();
        return -1;
    }
    errno = kept;
    return REAL(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    GUARD(on_file("write", file), -1);
    return REAL(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset)
{
    GUARD(on_file("write", file), -1);
    return REAL(pwrite64)(file, data, size, offset);
}

int ftruncate64(int file, off64_t size)
{
    GUARD(on_file("truncate", file), -1);
    return REAL(ftruncate64)(file, size);
}

int fallocate64(int file, int mode, off64_t offset, off64_t size)
{
    GUARD(on_file("truncate", file), -1);
    return REAL(fallocate64)(file, mode, offset, size);
}

int fsync(int file)
{
    GUARD(on_file("fsync", file), -1);
    return REAL(fsync)(file);
}

int fdatasync(int file)
{
    GUARD(on_file("fsync", file), -1);
    return REAL(fdatasync)(file);
}

int rename(const char *from, const char *to)
{
    GUARD(below("rename", AT_FDCWD, from), -1);
    return REAL(rename)(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    GUARD(below("rename", from_directory, from), -1);
    return REAL(renameat)(from_directory, from, to_directory, to);
}

int mkdir(const char *path, mode_t mode)
{
    GUARD(below("mkdir", AT_FDCWD, path), -1);
    return REAL(mkdir)(path, mode);
}

int mkdirat(int directory, const char *path, mode_t mode)
{
    GUARD(below("mkdir", directory, path), -1);
    return REAL(mkdirat)(directory, path, mode);
}

int unlink(const char *path)
{
    GUARD(below("remove", AT_FDCWD, path), -1);
    return REAL(unlink)(path);
}

int rmdir(const char *path)
{
    GUARD(below("remove", AT_FDCWD, path), -1);
    return REAL(rmdir)(path);
}

int unlinkat(int directory, const char *path, int flags)
{
    GUARD(below("remove", directory, path), -1);
    return REAL(unlinkat)(directory, path, flags);
}
