/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files reached in roundabout ways. Prints what their events must call them:
 * where they are in truth, but for symbolic links, which are names like others
 * where nothing goes up behind them.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/openat2.h>

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))
#define LEVELS 90
#define LEVEL "a-name-of-a-directory-that-makes-paths-longer-than-PATH_MAX-in-some-ninety-steps"

static FILE *expect;
static char dir[PATH_MAX];

static void told(const char *event, const char *prefix, const char *name)
{
    fprintf(expect, "{\"event\":\"%s\",\"file\":\"%s%s\"}\n", event, prefix, name);
}

/* Opens `name` below `at`, which makes the file `is` below the first directory. */
static void makes(int at, const char *name, const char *is)
{
    int fd = openat(at, name, O_CREAT | O_EXCL | O_WRONLY, 0600);

    MUST(fd >= 0);
    close(fd);
    told("fs.open", dir, is);
}

static void writes(int at, const char *name, const char *text)
{
    int fd = openat(at, name, O_CREAT | O_WRONLY, 0600);

    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* As fts(3) goes down and up again. */
static void deep(void)
{
    static char name[LEVELS * sizeof(LEVEL) + 16];
    size_t len = 0;
    int at = open(".", O_PATH), next;

    for (int i = 0; i < LEVELS; i++) {
        MUST(!mkdirat(at, LEVEL, 0700));
        MUST((next = openat(at, LEVEL, O_DIRECTORY | O_NOFOLLOW)) >= 0);
        close(at);
        at = next;
        len += (size_t)sprintf(name + len, "/%s", LEVEL);
    }
    strcpy(name + len, "/bottom");
    makes(at, "bottom", name);
    for (int i = 0; i < LEVELS / 2; i++) {
        MUST((next = openat(at, "..", O_DIRECTORY | O_NOFOLLOW)) >= 0);
        close(at);
        at = next;
        len -= sizeof(LEVEL);
    }
    strcpy(name + len, "/half-way");
    makes(at, "half-way", name);
    MUST(!fchdir(at) && !chdir(".."));
    strcpy(name + len - sizeof(LEVEL), "/above");
    makes(AT_FDCWD, "above", name);
    close(at);
    MUST(!chdir(dir));
}

static void jail(void)
{
    int status, at = open("a/b", O_DIRECTORY), fd;
    pid_t child;

    fflush(expect);
    MUST((child = fork()) >= 0);
    if (!child) {
        MUST(!chroot("a") && !chdir("/b/../b"));
        MUST((fd = open("../in-jail", O_CREAT | O_WRONLY, 0600)) >= 0);
        MUST((fd = open("/../../at-root", O_CREAT | O_WRONLY, 0600)) >= 0);
        MUST(!chdir("/") && (fd = open("../b/up-link/../by-link", O_CREAT | O_WRONLY, 0600)) >= 0);
        pause();
    }
    told("fs.open", "", "/in-jail");
    told("fs.open", "", "/at-root");
    told("fs.open", "", "/by-link");
    while (faccessat(at, "../by-link", F_OK, 0)) {
        MUST(waitpid(child, &status, WNOHANG) == 0);
        usleep(1000);
    }
    usleep(100000); /* where its files are is looked up in its root directory */
    kill(child, SIGTERM);
    MUST(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    close(at);
}

int main(void)
{
    char base[PATH_MAX + 64], *last;
    struct open_how how = {.flags = O_CREAT | O_WRONLY | O_CLOEXEC, .mode = 0600, .resolve = RESOLVE_IN_ROOT};
    int at, path, fd;

    MUST(getcwd(dir, sizeof(dir)) && (expect = fopen(getenv("EXPECT"), "w")));
    MUST(!mkdir("a", 0700) && !mkdir("a/b", 0700) && !mkdir("a/b/c", 0700) && !symlink("b/c", "a/link"));
    MUST(!symlink("..", "a/b/up-link") && !mkdir("v", 0700) && !mkdir("v/log", 0700) && !mkdir("v/lib", 0700));
    usleep(20000); /* in the first tick of a link's life each use of it changes a time stamp, which takes more than a look */
    last = strrchr(dir, '/');

    makes(AT_FDCWD, ".//a/./b//dots", "/a/b/dots");
    makes(AT_FDCWD, "a/b/../real", "/a/real");
    makes(AT_FDCWD, "a/link/../behind-link", "/a/b/behind-link");
    makes(AT_FDCWD, "a/link/through-link", "/a/link/through-link");
    snprintf(base, sizeof(base), "../%s/up", last + 1);
    makes(AT_FDCWD, base, "/up");
    snprintf(base, sizeof(base), "/../..%s/absolute", dir);
    makes(AT_FDCWD, base, "/absolute");
    snprintf(base, sizeof(base), "%s//a/link/.././absolute-link", dir);
    makes(AT_FDCWD, base, "/a/b/absolute-link");

    MUST(!chdir("a/link"));
    makes(AT_FDCWD, "in-link", "/a/link/in-link");
    MUST(chdir("nowhere") < 0);
    makes(AT_FDCWD, "../above-link", "/a/b/above-link");
    MUST(!chdir(".."));
    makes(AT_FDCWD, "moved", "/a/b/moved");
    MUST(!chdir("../.."));
    makes(AT_FDCWD, "back", "/back");

    MUST((at = open("a//b/", O_DIRECTORY)) >= 0 && (path = open("a/link", O_PATH)) >= 0);
    makes(at, "./at", "/a/b/at");
    makes(at, "../at", "/a/at");
    makes(path, "../path", "/a/b/path");
    MUST(!fchdir(at));
    makes(AT_FDCWD, "../fchdir", "/a/fchdir");
    MUST(!chdir(dir));
    fd = (int)syscall(SYS_openat2, at, "/../in-root", &how, sizeof(how));
    if (fd >= 0) {
        told("fs.open", dir, "/a/b/in-root");
        MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        close(fd);
    }

    MUST(!mkdirat(at, "../new/", 0700));
    told("fs.create", dir, "/a/new");
    MUST(!linkat(at, "at", path, "../hard", 0));
    told("fs.create", dir, "/a/b/hard");
    MUST(!symlinkat("../any/../text", at, ".//soft"));
    told("fs.create", dir, "/a/b/soft");
    MUST(!renameat(at, "../at", path, "../../renamed"));
    told("fs.rename", dir, "/a/at");
    MUST(!unlinkat(at, "./c/../hard", 0));
    told("fs.delete", dir, "/a/b/hard");
    MUST(!fchownat(at, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH));
    told("fs.change", dir, "/a/b");

    /* A directory that is gone: where it goes up to is known of what was opened there. */
    MUST(!mkdir("gone", 0700) && !chdir("gone") && !rmdir("../gone/"));
    MUST((fd = open("..", O_DIRECTORY)) >= 0);
    makes(fd, "above-gone", "/above-gone");
    MUST(!chdir(dir));

    /* What is a log file is decided by where it is. */
    MUST(!chdir("v/log") && !chdir("../lib"));
    writes(AT_FDCWD, "secret.txt", "secret by chdir\n");
    MUST(!chdir(dir));
    writes(AT_FDCWD, "v/log/../lib/secret2.txt", "secret by name\n");
    writes(AT_FDCWD, "v/lib/../log/open.txt", "not secret\n");

    deep();
    if (!geteuid())
        jail();
    fclose(expect);
    return 0;
}
