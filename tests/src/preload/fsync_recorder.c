/* Preloaded into a server: writes down how much of each file it has asked the disk to keep.
 *
 * A killed process loses nothing that it wrote, because the kernel still has it; a machine without power loses what was
 * not synced. With these notes a test can cut the files back to that. Lines, one write each:
 *
 *     S <device> <inode> <size> <monotonic ms>   synced up to size, as it was before the sync began
 *     U <device> <inode>                         unlinked: the next file may get its inode
 *
 * Not recorded: directories (a rename counts as kept), sync_file_range (it is no promise), mapped memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int notes = -1;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WORKYARD_FSYNC_NOTES");
    /* A test that is killed takes with it what it started. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_unlink = dlsym(RTLD_NEXT, "unlink");
    if (path) notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(const char *line, int length) {
    /* Without its notes a run proves nothing: better no server than one that looks as if it had lost data. */
    if (notes < 0 || write(notes, line, (size_t)length) != length) abort();
}

static int synced(int fd, int (*sync)(int)) {
    struct stat before;
    struct timespec now;
    char line[128];
    int regular = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    clock_gettime(CLOCK_MONOTONIC, &now);
    int result = sync(fd);
    if (result == 0 && regular) {
        long long ms = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
        note(line, snprintf(line, sizeof line, "S %llu %llu %lld %lld\n", (unsigned long long)before.st_dev,
                            (unsigned long long)before.st_ino, (long long)before.st_size, ms));
    }
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }

int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int unlink(const char *path) {
    struct stat gone;
    char line[128];
    int last = stat(path, &gone) == 0 && S_ISREG(gone.st_mode) && gone.st_nlink == 1;
    int result = real_unlink(path);
    if (result == 0 && last)
        note(line, snprintf(line, sizeof line, "U %llu %llu\n", (unsigned long long)gone.st_dev,
                            (unsigned long long)gone.st_ino));
    return result;
}
