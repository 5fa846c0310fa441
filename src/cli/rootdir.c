/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --rootdir: a command of a container acts on the host whose root directory is mounted there. It joins the mount
 * and network namespaces of a process that has that root (namespaces(7), setns(2)), so that the library, sessions,
 * files and the collector's sockets are where the host's processes see them. A pid namespace can only be joined
 * downwards: where the container doesn't share the host's (docker run --pid=host), the host's systemd is asked to start
 * the command (systemd-run(1)), which it can by the number that this process has on the host: /proc/NUMBER/exe. Else it
 * leaves the container's control groups (cgroups(7)): its engine kills what is left in them when the container ends, and
 * a collector goes on.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <mntent.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"

static int open_ns(const char *root, const char *pid, const char *name)
{
    char *path = xasprintf("%s/proc/%s/ns/%s", root, pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    free(path);
    return fd;
}

static bool has_root(const char *root, const char *pid, const struct stat *want)
{
    char *path = xasprintf("%s/proc/%s/root/.", root, pid);
    struct stat st;
    bool yes = stat(path, &st) == 0 && st.st_dev == want->st_dev && st.st_ino == want->st_ino;

    free(path);
    return yes;
}

/* Whether a mount namespace is root's, or of our own user namespace: every user can have one with the same root
 * directory and other programs in it, in a user namespace of its own (ioctl_ns(2)). */
static bool is_of_trusted(int mnt)
{
    int user = ioctl(mnt, NS_GET_USERNS);
    struct stat its, ours;
    uid_t owner;
    bool yes;

    if (user < 0)
        return errno == ENOTTY; /* before Linux 4.9 */
    yes = fstat(user, &its) == 0 && stat("/proc/self/ns/user", &ours) == 0 && its.st_dev == ours.st_dev &&
          its.st_ino == ours.st_ino;
    yes |= ioctl(user, NS_GET_OWNER_UID, &owner) == 0 && owner == 0;
    close(user);
    return yes;
}

/* Joins the namespaces of the first process that has this root and lets us: false if none does. */
static bool join_one(const char *root)
{
    char *path = xasprintf("%s/proc", root);
    DIR *d = opendir(path);
    bool joined = false;
    struct dirent *e;
    struct stat want;

    free(path);
    path = xasprintf("%s/.", root);
    while (d && stat(path, &want) == 0 && !joined && (e = readdir(d))) {
        int net, mnt, groups;

        if (!isdigit((unsigned char)*e->d_name) || !has_root(root, e->d_name, &want))
            continue;
        net = open_ns(root, e->d_name, "net");
        mnt = open_ns(root, e->d_name, "mnt");
        groups = open_ns(root, e->d_name, "cgroup"); /* so that the top of each hierarchy is in sight */
        joined = net >= 0 && mnt >= 0 && is_of_trusted(mnt) && setns(net, CLONE_NEWNET) == 0 && setns(mnt, CLONE_NEWNS) == 0;
        if (joined && groups >= 0)
            setns(groups, CLONE_NEWCGROUP);
        if (net >= 0)
            close(net);
        if (mnt >= 0)
            close(mnt);
        if (groups >= 0)
            close(groups);
    }
    if (d)
        closedir(d);
    free(path);
    return joined;
}

/* To the top of each hierarchy of control groups, as the host has them mounted: false if one can't be left. */
static bool leave_groups(void)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    const struct mntent *m;
    bool left = mounts != NULL;

    while (mounts && (m = getmntent(mounts))) {
        char *path;
        int fd;

        if (strcmp(m->mnt_type, "cgroup") != 0 && strcmp(m->mnt_type, "cgroup2") != 0)
            continue;
        path = xasprintf("%s/cgroup.procs", m->mnt_dir);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        left &= fd >= 0 && write(fd, "0", 1) == 1; /* 0: the writer */
        if (fd >= 0)
            close(fd);
        free(path);
    }
    if (mounts)
        endmntent(mounts);
    return left;
}

/* Variables that say how to observe, and where sessions are. */
static bool is_ours(const char *variable)
{
    static const char *const names[] = {"SCOPE_", "OTEL_", "HOME=", "TMPDIR=", NULL};

    for (const char *const *n = names; *n; n++)
        if (strncmp(variable, *n, strlen(*n)) == 0)
            return true;
    return false;
}

/* The command as systemd-run(1) is told it. self: our number on the host. NULL-terminated; the caller ends soon. */
static char **for_systemd(const struct args *a, const char *self)
{
    static const char *const how[] = {"systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec",
                                      "--property=KillMode=process", /* the collector stays */
                                      "--description=AppScope"};
    size_t count = sizeof(how) / sizeof(*how), n = 0, vars = 0;
    char **argv;

    while (environ[vars])
        vars++;
    argv = xcalloc(count + vars + a->value_count + (size_t)a->word_count + 4, sizeof(char *));
    while (n < count) {
        argv[n] = (char *)how[n];
        n++;
    }
    for (char **e = environ; *e; e++)
        if (is_ours(*e))
            argv[n++] = xasprintf("--setenv=%s", *e);
    argv[n++] = xasprintf("/proc/%s/exe", self);
    argv[n++] = (char *)a->command->name;
    for (size_t i = 0; i < a->value_count; i++) {
        const struct cli_value *v = &a->values[i];

        if (strcmp(v->option->name, "rootdir") != 0)
            argv[n++] = v->value ? xasprintf("--%s=%s", v->option->name, v->value) : xasprintf("--%s", v->option->name);
    }
    argv[n++] = (char *)"--";
    for (int i = 0; i < a->word_count; i++)
        argv[n++] = a->words[i];
    return argv;
}

/* In the host's mount namespace. Doesn't return if the host runs systemd: it has done the command then. */
static void let_systemd(const struct args *a, const char *self)
{
    char *path = NULL, **argv;
    int status = 0;
    pid_t pid;

    if (cli_search_path("systemd-run", &path) < 0)
        return;
    argv = for_systemd(a, self);
    pid = fork(); /* we stay, as our executable is what it runs */
    if (pid == 0) {
        execv(path, argv);
        _exit(EXIT_FAILED);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status && access("/run/systemd/system", F_OK) < 0) /* sd_booted(3): it is installed, and doesn't run */
        return;
    exit(pid < 0 ? EXIT_FAILED : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

int cli_enter_root(const struct args *a)
{
    const char *root = args_get(a, "rootdir");
    char self[16];
    ssize_t n;

    if (!root)
        return 0;
    if (!join_one(root)) {
        cli_error("--rootdir: there is no process with root directory %s that we may join", root);
        cli_hint("the host's / and /proc must be mounted there (docker run -v /:DIR --privileged), and it takes root");
        return EXIT_FAILED;
    }
    n = readlink("/proc/self", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    if (n <= 0 || atoi(self) != getpid()) { // NOLINT(cert-err34-c): what is no number isn't ours
        if (n > 0)
            let_systemd(a, self);
        cli_error("--rootdir: the processes of %s have other numbers than we: its pid namespace isn't ours", root);
        cli_hint("start the container with the host's (docker run --pid=host); a host with systemd needs no such option");
        return EXIT_FAILED;
    }
    if (!leave_groups())
        cli_error("--rootdir: the control groups of this container can't be left: what is started here ends with it");
    return 0;
}
