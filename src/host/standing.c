/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service that runs the host's collector: its files for systemd (systemd.service(5), systemd.socket(5)), OpenRC
 * (openrc-run(8), supervise-daemon(8)) and SysV's init scripts (the LSB's, as far as they are in use). docs/host.md says
 * why the unit has which restrictions.
 */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/safe_path.h"

#define UNIT_MAX  16384
#define SHOWN_MAX 400u
#define EXE       "@EXE@" /* in the texts: the executable */

/* Mount options and namespaces of its own aren't among the restrictions: it has to see mounts, files and the host's name
 * as the programs do that it observes. Nor is anything that systemd does by a seccomp filter: who has one may not suspend
 * those of others (ptrace(2), PTRACE_O_SUSPEND_SECCOMP), and could attach to no program in a sandbox. */
static const char systemd_service[] =
    "[Unit]\n"
    "Description=AppScope, observing the programs of this host that its rules name\n"
    "Requires=" HOST_SERVICE ".socket\n"
    "After=" HOST_SERVICE ".socket\n"
    "StartLimitIntervalSec=0\n"
    "\n"
    "[Service]\n"
    "Type=notify\n"
    "NotifyAccess=main\n"
    "ExecStart=" EXE " collector --host\n"
    "ExecReload=/bin/kill -HUP $MAINPID\n"
    "Restart=always\n"
    "RestartSec=1\n"
    "WatchdogSec=120\n"
    "TimeoutStartSec=180\n"
    "TimeoutStopSec=60\n"
    "KillMode=mixed\n"
    "OOMScoreAdjust=300\n"
    "LimitNOFILE=524288\n"
    "TasksMax=4096\n"
    "UMask=0077\n"
    "CapabilityBoundingSet=CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_RESOURCE CAP_SYS_NICE CAP_NET_ADMIN"
    " CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_KILL CAP_SETUID CAP_SETGID"
    " CAP_SETPCAP\n"
    "NoNewPrivileges=yes\n"
    "DevicePolicy=closed\n"
    "KeyringMode=private\n"
    "\n"
    "[Install]\n"
    "WantedBy=multi-user.target\n"
    "Also=" HOST_SERVICE ".socket\n";

static const char systemd_socket[] =
    "[Unit]\n"
    "Description=AppScope, where programs of this host join\n"
    "\n"
    "[Socket]\n"
    "ListenSequentialPacket=/run/appscope/collector\n"
    "ListenSequentialPacket=/run/appscope/collector+\n"
    "SocketMode=0666\n"
    "DirectoryMode=0755\n"
    "PassCredentials=yes\n"
    "Backlog=4096\n"
    "RemoveOnStop=yes\n"
    "\n"
    "[Install]\n"
    "WantedBy=sockets.target\n";

static const char openrc_script[] =
    "#!/sbin/openrc-run\n"
    "\n"
    "description=\"AppScope, observing the programs of this host that its rules name\"\n"
    "extra_started_commands=\"reload\"\n"
    "supervisor=supervise-daemon\n"
    "command=\"" EXE "\"\n"
    "command_args=\"collector --host\"\n"
    "respawn_delay=1\n"
    "respawn_max=0\n"
    "output_log=\"" HOST_LOG "\"\n"
    "error_log=\"" HOST_LOG "\"\n"
    "\n"
    "depend() {\n"
    "    need localmount\n"
    "    after bootmisc\n"
    "}\n"
    "\n"
    "reload() {\n"
    "    ebegin \"Reloading the rules of AppScope\"\n"
    "    supervise-daemon \"$RC_SVCNAME\" --signal HUP\n"
    "    eend $?\n"
    "}\n";

static const char sysv_script[] =
    "#!/bin/sh\n"
    "### BEGIN INIT INFO\n"
    "# Provides:          " HOST_SERVICE "\n"
    "# Required-Start:    $local_fs\n"
    "# Required-Stop:     $local_fs\n"
    "# Default-Start:     2 3 4 5\n"
    "# Default-Stop:      0 1 6\n"
    "# Short-Description: AppScope, observing the programs of this host that its rules name\n"
    "### END INIT INFO\n"
    "# chkconfig: 2345 20 80\n"
    "# description: AppScope, observing the programs of this host that its rules name\n"
    "\n"
    "exe=\"" EXE "\"\n"
    "\n"
    "case \"$1\" in\n"
    "start) exec \"$exe\" collector --host --daemon ;;\n"
    "stop) exec \"$exe\" collector --host --stop ;;\n"
    "reload | force-reload) exec \"$exe\" collector --host --reload ;;\n"
    "restart) \"$exe\" collector --host --stop; exec \"$exe\" collector --host --daemon ;;\n"
    "status) exec \"$exe\" collector --host --status ;;\n"
    "*)\n"
    "    echo \"usage: $0 start|stop|restart|reload|status\" >&2\n"
    "    exit 2\n"
    "    ;;\n"
    "esac\n";

static const struct file {
    enum host_init init;
    const char *dir, *name, *text;
    mode_t mode;
} files[] = {
    {HOST_INIT_SYSTEMD, "/etc/systemd/system", HOST_SERVICE ".socket", systemd_socket, 0644},
    {HOST_INIT_SYSTEMD, "/etc/systemd/system", HOST_SERVICE ".service", systemd_service, 0644},
    {HOST_INIT_OPENRC, "/etc/init.d", HOST_SERVICE, openrc_script, 0755},
    {HOST_INIT_SYSV, "/etc/init.d", HOST_SERVICE, sysv_script, 0755},
};
#define FILES (sizeof(files) / sizeof(*files))

/* --- commands of the init system --- */

/* Runs it with nothing of our environment and without our terminal, so that a signal from there doesn't end it in the
 * middle. 0; -ENOENT: there is no such command; -EIO with what it wrote in *ret_why. */
static int run(char **ret_why, const char *const *argv)
{
    char *env[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL};
    struct buf out = BUF_INIT, shown = BUF_INIT;
    int fds[2], status = 0, rc = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        setsid();
        dup2(null, 0);
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        environ = env;
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (pid < 0)
        rc = -errno;
    close(fds[1]);
    while (rc == 0 && ((n = read(fds[0], buf_room(&out, 1024), 1024)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0 && out.len < 65536)
            out.len += (size_t)n;
    close(fds[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 127)
        rc = -ENOENT;
    if (rc == 0 && status) {
        rc = -EIO;
        if (ret_why && !*ret_why) {
            buf_visible(&shown, out.p, out.len < SHOWN_MAX ? out.len : SHOWN_MAX);
            *ret_why = xasprintf("%s %s: %s", argv[0], argv[1], shown.len ? buf_cstr(&shown) : "failed");
        }
    }
    buf_free(&out);
    buf_free(&shown);
    return rc;
}

#define RUN(why, ...) run(why, (const char *const[]){__VA_ARGS__, NULL})

/* --- files --- */

static void fill(struct buf *b, const char *text, const char *exe)
{
    const char *at;

    while ((at = strstr(text, EXE))) {
        buf_add(b, text, (size_t)(at - text));
        buf_str(b, exe);
        text = at + strlen(EXE);
    }
    buf_str(b, text);
}

static bool same(int dir, const char *name, const struct buf *b)
{
    char text[UNIT_MAX];
    int fd = safe_read_at(dir, name);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (fd >= 0)
        close(fd);
    return n > 0 && (size_t)n == b->len && memcmp(text, b->p, b->len) == 0;
}

int host_service_install(enum host_init init, const char *exe, char **ret_why)
{
    bool changed = false;
    int rc = 0;

    *ret_why = NULL;
    if (strpbrk(exe, " \t\n\"'\\$%`@"))
        return -EINVAL;
    for (size_t i = 0; rc == 0 && i < FILES; i++) {
        const struct file *f = &files[i];
        struct buf b = BUF_INIT;
        int dir;

        if (f->init != init)
            continue;
        fill(&b, f->text, exe);
        dir = safe_dir(f->dir, SAFE_OURS, 0755, ret_why);
        rc = dir < 0 ? dir : 0;
        if (rc == 0 && !same(dir, f->name, &b)) {
            rc = safe_replace_lasting(dir, f->name, b.p, b.len, f->mode);
            changed = true;
        }
        if (rc < 0 && !*ret_why)
            *ret_why = xasprintf("%s/%s: %s", f->dir, f->name, strerror(-rc));
        if (dir >= 0)
            close(dir);
        buf_free(&b);
    }
    if (rc == 0 && changed && init == HOST_INIT_SYSTEMD)
        rc = RUN(ret_why, "systemctl", "daemon-reload");
    return rc;
}

int host_service_remove(char **ret_why)
{
    bool units = false;
    int rc = 0;

    *ret_why = NULL;
    for (size_t i = 0; i < FILES; i++) {
        int dir = safe_dir(files[i].dir, SAFE_OURS, 0, NULL);

        if (dir < 0)
            continue;
        if (unlinkat(dir, files[i].name, 0) == 0) {
            units |= files[i].init == HOST_INIT_SYSTEMD;
        } else if (errno != ENOENT && rc == 0) {
            rc = -errno;
            *ret_why = xasprintf("%s/%s: %s", files[i].dir, files[i].name, strerror(errno));
        }
        close(dir);
    }
    if (units && host_init("") == HOST_INIT_SYSTEMD)
        RUN(NULL, "systemctl", "daemon-reload");
    return rc;
}

/* --- starting and stopping --- */

static bool installed(enum host_init init)
{
    for (size_t i = 0; i < FILES; i++)
        if (files[i].init == init) {
            char *path = xasprintf("%s/%s", files[i].dir, files[i].name);
            bool there = access(path, F_OK) == 0;

            free(path);
            if (there)
                return true;
        }
    return false;
}

/* Links in the directories of run levels, by what the distribution has for that. */
static int sysv_enable(bool on, char **ret_why)
{
    int rc = on ? RUN(ret_why, "update-rc.d", HOST_SERVICE, "defaults")
                : RUN(ret_why, "update-rc.d", "-f", HOST_SERVICE, "remove");

    if (rc == -ENOENT)
        rc = RUN(ret_why, "chkconfig", on ? "--add" : "--del", HOST_SERVICE);
    return rc == -ENOENT ? 0 : rc; /* neither is here: what starts /etc/init.d then isn't known */
}

int host_service_start(enum host_init init, bool restart, char **ret_why)
{
    int rc;

    *ret_why = NULL;
    switch (init) {
    case HOST_INIT_SYSTEMD:
        rc = RUN(ret_why, "systemctl", "enable", HOST_SERVICE ".socket", HOST_SERVICE ".service");
        if (rc == 0)
            rc = RUN(ret_why, "systemctl", "start", HOST_SERVICE ".socket");
        if (rc == 0)
            rc = RUN(ret_why, "systemctl", restart ? "restart" : "start", HOST_SERVICE ".service");
        break;
    case HOST_INIT_OPENRC:
        rc = RUN(ret_why, "rc-update", "add", HOST_SERVICE, "default");
        if (rc == 0)
            rc = RUN(ret_why, "rc-service", HOST_SERVICE, restart ? "restart" : "start");
        break;
    case HOST_INIT_SYSV:
        rc = sysv_enable(true, ret_why);
        if (rc == 0)
            rc = RUN(ret_why, "/etc/init.d/" HOST_SERVICE, restart ? "restart" : "start");
        break;
    default:
        return -ENOTSUP;
    }
    if (rc == -ENOENT && !*ret_why)
        *ret_why = xstrdup("the init system's own commands are not here");
    return rc;
}

int host_service_stop(enum host_init init, char **ret_why)
{
    int rc = 0;

    *ret_why = NULL;
    if (!installed(init))
        return 0;
    switch (init) {
    case HOST_INIT_SYSTEMD:
        rc = RUN(ret_why, "systemctl", "disable", "--now", HOST_SERVICE ".service", HOST_SERVICE ".socket");
        break;
    case HOST_INIT_OPENRC:
        rc = RUN(ret_why, "rc-service", HOST_SERVICE, "--ifstarted", "stop");
        RUN(NULL, "rc-update", "delete", HOST_SERVICE, "default");
        break;
    case HOST_INIT_SYSV:
        rc = RUN(ret_why, "/etc/init.d/" HOST_SERVICE, "stop");
        if (rc == 0)
            rc = sysv_enable(false, ret_why);
        break;
    default:
        break;
    }
    return rc;
}
