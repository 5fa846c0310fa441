/* SPDX-License-Identifier: Apache-2.0 */
/* Launching: what kind of program a file is, the environment, the first mode, a collector process without traces. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "inject/launch.h"
#include "wire/join.h"
#include "wire/segment.h"

/* An ELF file with an optional interpreter; enough for execve(2) to look at. */
struct image {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[2];
    char interp[32];
    Elf64_Dyn dyn[4];
    char strings[32];
    uint32_t table[8]; /* DT_GNU_HASH */
};

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/scope-test-launch-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char *command = xasprintf("rm -rf '%s'", dir);
    int rc = system(command);

    (void)state;
    free(command);
    return rc;
}

static char *put(const char *name, const void *bytes, size_t size, mode_t mode)
{
    char *path = xasprintf("%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

static struct image make_image(bool interpreter)
{
    struct image m = {.eh = {.e_type = ET_DYN,
                             .e_machine = __ehdr_start.e_machine,
                             .e_version = EV_CURRENT,
                             .e_phoff = offsetof(struct image, ph),
                             .e_ehsize = sizeof(Elf64_Ehdr),
                             .e_phentsize = sizeof(Elf64_Phdr),
                             .e_phnum = 2},
                      .interp = "/lib/ld.so"};

    memcpy(m.eh.e_ident, ELFMAG, SELFMAG);
    m.eh.e_ident[EI_CLASS] = ELFCLASS64;
    m.eh.e_ident[EI_DATA] = ELFDATA2LSB;
    m.eh.e_ident[EI_VERSION] = EV_CURRENT;
    m.ph[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_filesz = sizeof(m), .p_memsz = sizeof(m)};
    m.ph[1] = (Elf64_Phdr){.p_type = interpreter ? PT_INTERP : PT_NOTE,
                           .p_offset = offsetof(struct image, interp),
                           .p_filesz = sizeof(m.interp)};
    return m;
}

static enum exe_kind kind_of(const char *path, const char *want_image)
{
    enum exe_kind kind;
    char *image = NULL;

    assert_int_equal(launch_classify(path, &kind, &image), 0);
    if (want_image)
        assert_string_equal(image, want_image);
    free(image);
    return kind;
}

static void test_kinds(void **state)
{
    struct image m = make_image(true);
    char *dynamic = put("dynamic", &m, sizeof(m), 0755), *path;
    char *script, *text;

    (void)state;
    assert_int_equal(kind_of(dynamic, dynamic), EXE_DYNAMIC);
    assert_int_equal(kind_of("/proc/self/exe", NULL), EXE_DYNAMIC);

    text = xasprintf("#! \t%s -x y\necho\n", dynamic);
    script = put("script", text, strlen(text), 0755);
    assert_int_equal(kind_of(script, dynamic), EXE_DYNAMIC);
    free(text);
    text = xasprintf("#!%s\n", script);
    path = put("script2", text, strlen(text), 0755);
    assert_int_equal(kind_of(path, dynamic), EXE_DYNAMIC);
    free(text);
    free(path);
    free(script);
    free(dynamic);

    m = make_image(false);
    m.eh.e_type = ET_EXEC;
    path = put("static", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_STATIC);
    free(path);
    m = make_image(false);
    m.ph[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = offsetof(struct image, dyn), .p_filesz = sizeof(m.dyn)};
    m.dyn[0] = (Elf64_Dyn){.d_tag = DT_FLAGS_1, .d_un.d_val = DF_1_PIE};
    path = put("static-pie", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_STATIC);
    free(path);

    /* One whose linker didn't say so has nothing for others: one bucket, which is empty; else it is a loader. */
    m.dyn[0] = (Elf64_Dyn){.d_tag = DT_GNU_HASH, .d_un.d_ptr = offsetof(struct image, table)};
    for (uint32_t symbol = 0; symbol < 2; symbol++) {
        memcpy(m.table, (const uint32_t[8]){1, 1, 1, 0, 0, 0, symbol}, sizeof(m.table));
        path = put("unsaid", &m, sizeof(m), 0755);
        assert_int_equal(kind_of(path, NULL), symbol ? EXE_DYNAMIC : EXE_STATIC);
        free(path);
    }

    /* A shared object that wasn't linked as a program and has no interpreter is the dynamic loader. */
    m.ph[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = offsetof(struct image, dyn), .p_filesz = sizeof(m.dyn)};
    m.dyn[0] = (Elf64_Dyn){.d_tag = DT_STRTAB, .d_un.d_ptr = offsetof(struct image, strings)};
    m.dyn[1] = (Elf64_Dyn){.d_tag = DT_STRSZ, .d_un.d_val = sizeof(m.strings)};
    m.dyn[2] = (Elf64_Dyn){.d_tag = DT_SONAME, .d_un.d_val = 1};
    path = put("loader", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_DYNAMIC);
    free(path);

    m.eh.e_machine = EM_S390;
    path = put("other", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_OTHER_ARCH);
    free(path);

    m.eh.e_machine = EM_386;
    m.eh.e_ident[EI_CLASS] = ELFCLASS32;
    path = put("small", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_32BIT);
    free(path);

    path = put("text", "echo hello\n", 11, 0755);
    assert_int_equal(kind_of(path, NULL), EXE_UNKNOWN);
    free(path);
    path = put("empty", "", 0, 0755);
    assert_int_equal(kind_of(path, NULL), EXE_UNKNOWN);
    free(path);
}

static void test_hostile_headers(void **state)
{
    struct image m = make_image(true);
    enum exe_kind kind;
    char *path;

    (void)state;
    for (size_t cut = 0; cut < sizeof(m); cut++) { /* truncated anywhere */
        path = put("cut", &m, cut, 0755);
        assert_int_equal(launch_classify(path, &kind, NULL), 0);
        free(path);
    }
    m.eh.e_phoff = UINT64_MAX - 8;
    path = put("far", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_UNKNOWN);
    free(path);
    m = make_image(true);
    m.eh.e_phnum = 0xffff;
    path = put("many", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_UNKNOWN);
    free(path);
    m = make_image(false);
    m.ph[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = UINT64_MAX, .p_filesz = UINT64_MAX};
    path = put("dyn", &m, sizeof(m), 0755);
    assert_int_equal(kind_of(path, NULL), EXE_DYNAMIC);
    free(path);
    path = put("loop", "", 0, 0755);
    free(path);
    path = xasprintf("#!%s/loop\n", dir);
    free(put("loop", path, strlen(path), 0755));
    free(path);
    path = xasprintf("%s/loop", dir);
    assert_int_equal(launch_classify(path, &kind, NULL), -ELOOP);
    free(path);
    path = put("nowhere", "#!/nonexistent/sh\n", 18, 0755);
    assert_int_equal(launch_classify(path, &kind, NULL), -ENOENT);
    free(path);
    assert_int_equal(launch_classify(dir, &kind, NULL), -EACCES);
}

static void test_setid(void **state)
{
    struct image m = make_image(true);
    char *path = put("mine", &m, sizeof(m), 04755);

    (void)state;
    /* Set to the user who runs it anyway: nothing changes. */
    assert_int_equal(kind_of(path, NULL), EXE_DYNAMIC);
    if (geteuid() == 0 && getuid() == 0) { /* only root can make one of somebody else */
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_int_equal(chmod(path, 04755), 0);
        assert_int_equal(kind_of(path, NULL), EXE_SETID);
        assert_int_equal(chmod(path, 02755), 0);
        assert_int_equal(kind_of(path, NULL), EXE_SETID);
        assert_int_equal(chmod(path, 02745), 0); /* setgid without group execution means something else */
        assert_int_equal(kind_of(path, NULL), EXE_DYNAMIC);
    }
    free(path);
    assert_false(launch_preloads(EXE_SETID));
    assert_false(launch_preloads(EXE_32BIT));
    assert_true(launch_preloads(EXE_STATIC));
    assert_null(launch_reason(EXE_STATIC));
    assert_non_null(launch_reason(EXE_32BIT));
    assert_null(launch_reason(EXE_DYNAMIC));
}

static const char *value_of(char **env, const char *name)
{
    const char *found = NULL;
    size_t len = strlen(name);

    for (; *env; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=') {
            assert_null(found); /* never twice */
            found = *env + len + 1;
        }
    return found;
}

static void free_env(char **env)
{
    for (char **e = env; *e; e++)
        free(*e);
    free(env);
}

static void test_environment(void **state)
{
    static const char *const plain[] = {"A=1", "LD_PRELOADED=no", "EMPTY=", NULL};
    static const char *const nested[] = {"LD_PRELOAD=/mine.so /x/libscope.so:/other.so",
                                         "SCOPE_SOCKET=old",
                                         "SCOPE_PLANS=old",
                                         "SCOPE_MODE=old",
                                         "B=2",
                                         NULL};
    char **env = launch_environ(plain, "/x/libscope.so", "sock", "/plans", 0x1f);

    (void)state;
    assert_string_equal(env[0], "A=1");
    assert_string_equal(value_of(env, "LD_PRELOADED"), "no");
    assert_string_equal(value_of(env, "EMPTY"), "");
    assert_string_equal(value_of(env, "LD_PRELOAD"), "/x/libscope.so");
    assert_string_equal(value_of(env, ENV_SOCKET), "sock");
    assert_string_equal(value_of(env, ENV_PLANS), "/plans");
    assert_string_equal(value_of(env, ENV_MODE), "1f");
    free_env(env);
    env = launch_environ(nested, "/x/libscope.so", "sock", "/plans", 1);
    assert_string_equal(value_of(env, "LD_PRELOAD"), "/x/libscope.so:/mine.so:/other.so");
    assert_string_equal(value_of(env, ENV_SOCKET), "sock");
    assert_string_equal(value_of(env, "B"), "2");
    free_env(env);
    env = launch_environ(nested, NULL, "sock", "/plans", 1); /* a program that must not be told about the library */
    assert_string_equal(value_of(env, "LD_PRELOAD"), "/mine.so /x/libscope.so:/other.so");
    free_env(env);
}

static uint32_t mode_with(const char *key, const char *value)
{
    struct config_sources *s = config_sources_new();
    struct config *c;
    uint32_t mode;

    if (key)
        assert_int_equal(config_set(s, key, value, "test", NULL, NULL), 0);
    c = config_for(s, NULL);
    mode = launch_mode(c);
    config_free(c);
    config_sources_free(s);
    return mode & ~(uint32_t)(SEG_M_TSC | SEG_M_POINTER); /* this machine's matter */
}

static void test_mode(void **state)
{
    uint32_t usual = SEG_M_ON | SEG_M_TIMING | SEG_M_CAPTURE | SEG_M_ENHANCEFS | SEG_M_TRAFFIC;

    (void)state;
    assert_int_equal(mode_with(NULL, NULL), usual);
    assert_int_equal(mode_with("metric.format.verbosity", "7"), usual | SEG_M_REC_STAT);
    assert_int_equal(mode_with("metric.format.verbosity", "9"), usual | SEG_M_REC_STAT | SEG_M_REC_SEEK | SEG_M_REC_RW);
    assert_int_equal(mode_with("libscope.lossless", "true"), usual | SEG_M_LOSSLESS);
    assert_int_equal(mode_with("event.watch.syscall", "true"), usual | SEG_M_REC_ALL);
    assert_int_equal(mode_with("event.format.enhancefs", "false"), usual & ~(uint32_t)SEG_M_ENHANCEFS);
    assert_int_equal(mode_with("event.enable", "false"), SEG_M_ON | SEG_M_TIMING | SEG_M_TRAFFIC);
    assert_int_equal(mode_with("payload.enable", "true"), usual | SEG_M_PAYLOADS);
}

/* --- the collector process --- */

struct facts {
    pid_t pid, ppid, sid;
    int listen_fd, open_fds;
    bool usr1_default, usr1_blocked, tty, cwd_root, soft_is_hard;
};

static int fake_collector(void *ctx, int listen_fd, int ready_fd)
{
    int *report = ctx;
    struct facts f = {.pid = getpid(), .sid = getsid(0), .listen_fd = listen_fd};
    struct sigaction act;
    struct rlimit lim;
    sigset_t mask;
    char cwd[16] = "";
    int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);

    close(fd);
    for (int i = 0; i < 256; i++)
        f.open_fds += fcntl(i, F_GETFD) >= 0;
    usleep(20000); /* the process in between is gone by now */
    f.ppid = getppid();
    sigaction(SIGUSR1, NULL, &act);
    f.usr1_default = act.sa_handler == SIG_DFL;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    f.usr1_blocked = sigismember(&mask, SIGUSR1);
    f.tty = isatty(0) || isatty(1) || isatty(2);
    f.cwd_root = getcwd(cwd, sizeof(cwd)) && strcmp(cwd, "/") == 0;
    getrlimit(RLIMIT_NOFILE, &lim);
    f.soft_is_hard = lim.rlim_cur == lim.rlim_max;
    /* The only way out: descriptors of the caller are closed here. */
    fd = open("/proc/self/root/tmp", O_RDONLY | O_DIRECTORY);
    close(fd);
    fd = open((const char *)report, O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || write(fd, &f, sizeof(f)) != (ssize_t)sizeof(f))
        return 1;
    close(fd);
    if (write(ready_fd, "", 1) != 1)
        return 1;
    close(ready_fd);
    poll(&(struct pollfd){.fd = listen_fd, .events = POLLIN}, 1, 60000); /* until the test connects */
    return 0;
}

static void test_collector_process(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct config_sources *sources = config_sources_new();
    struct config *config = config_for(sources, NULL);
    struct session s = {.dir = dir, .exit_code = -1};
    struct sigaction handler = {.sa_handler = SIG_IGN}, before, after;
    struct rusage usage, usage_before; /* of children: cleaning up after other tests made some */
    struct facts f;
    char *report = xasprintf("%s/report", dir), *socket_name = NULL, title[64] = "", path[64];
    struct rlimit lim;
    sigset_t mask;
    int fd;

    (void)state;
    sigaction(SIGUSR1, &handler, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    sigaction(SIGCHLD, NULL, &before);
    getrusage(RUSAGE_CHILDREN, &usage_before);
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max < 512 ? lim.rlim_max : 512;
    setrlimit(RLIMIT_NOFILE, &lim);
    assert_int_equal(launch_collector(config, &s, fake_collector, report, &socket_name), 0);

    /* Nothing of it is left in us. */
    errno = 0;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    getrusage(RUSAGE_CHILDREN, &usage);
    assert_int_equal(usage.ru_maxrss, usage_before.ru_maxrss);
    assert_int_equal(usage.ru_minflt, usage_before.ru_minflt);
    sigaction(SIGCHLD, NULL, &after);
    assert_true(before.sa_handler == after.sa_handler);
    /* libc's sigaction(2) adds SA_RESTORER; exec clears it. */
    assert_int_equal(before.sa_flags & ~0x04000000, after.sa_flags & ~0x04000000);
    sigpending(&mask);
    assert_false(sigismember(&mask, SIGCHLD));

    fd = open(report, O_RDONLY);
    assert_int_equal(read(fd, &f, sizeof(f)), sizeof(f));
    close(fd);
    assert_int_equal(s.collector, f.pid);
    assert_string_equal(s.socket, socket_name);
    assert_true(f.ppid != getpid());
    assert_true(f.sid != getsid(0));
    assert_int_equal(f.open_fds, 5); /* standard ones, socket, ready */
    assert_true(f.usr1_default);
    assert_false(f.usr1_blocked);
    assert_false(f.tty);
    assert_true(f.cwd_root);
    assert_true(f.soft_is_hard);
    /* Its command line is its own, not ours. */
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)f.pid);
    fd = open(path, O_RDONLY);
    assert_true(read(fd, title, sizeof(title) - 1) > 0);
    close(fd);
    assert_int_equal(strncmp("scope-collector", title, strlen(title)), 0); /* cut to the room that there was */
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)f.pid);
    fd = open(path, O_RDONLY);
    assert_true(read(fd, title, sizeof(title) - 1) > 0);
    close(fd);
    assert_int_equal(strncmp("scope-collector", title, 15), 0);
    fd = open("/proc/self/cmdline", O_RDONLY);
    assert_true(read(fd, title, sizeof(title) - 1) > 0);
    close(fd);
    assert_null(strstr(title, "scope-collec"));

    fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    memcpy(addr.sun_path + 1, socket_name, strlen(socket_name));
    assert_int_equal(connect(fd, (struct sockaddr *)&addr,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(socket_name))),
                     0);
    close(fd);
    free(socket_name);
    free(s.socket);
    free(report);
    config_free(config);
    config_sources_free(sources);
}

static int failing_collector(void *ctx, int listen_fd, int ready_fd)
{
    (void)ctx;
    (void)listen_fd;
    (void)ready_fd;
    return 1;
}

static void test_collector_fails(void **state)
{
    char *socket_name = NULL;

    (void)state;
    assert_int_equal(launch_collector(NULL, NULL, failing_collector, NULL, &socket_name), -EPIPE);
    assert_null(socket_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kinds, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_hostile_headers, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_setid, make_dir, remove_dir),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_mode),
        cmocka_unit_test_setup_teardown(test_collector_process, make_dir, remove_dir),
        cmocka_unit_test(test_collector_fails),
    };

    return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
