/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that are walked, and what is in the way. What needs another user's files is tried as root only (tests/security
 * tries it with real users). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/safe_path.h"

#define STRANGER 54321

static char top[] = "/tmp/test-safe-path-XXXXXX";

/* A path below top; valid until the tenth call after. */
static const char *in(const char *name)
{
    static char paths[10][256];
    static unsigned next;
    char *p = paths[next++ % 10];

    snprintf(p, sizeof(paths[0]), "%s/%s", top, name);
    return p;
}

static int setup(void **state)
{
    (void)state;
    strcpy(top, "/tmp/test-safe-path-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
    char *command = xasprintf("rm -rf '%s'", top);
    int rc = system(command);

    (void)state;
    free(command);
    return rc;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void assert_text(const char *path, const char *want)
{
    char text[64] = "";
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(text, want);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void make(const char *path, mode_t mode)
{
    assert_int_equal(mkdir(path, mode), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* Opens, and closes: 0 or what went wrong. */
static int dir(const char *path, enum safe_rule rule, mode_t mode)
{
    int fd = safe_dir(path, rule, mode, NULL);

    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : 0;
}

static int append(const char *path, const char *text, mode_t mode)
{
    int fd = safe_file(path, O_WRONLY | O_APPEND | O_CREAT, mode, NULL);

    if (fd < 0)
        return fd;
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return 0;
}

static void test_directories_are_made_with_their_mode(void **state)
{
    mode_t mask = umask(0277);

    (void)state;
    assert_int_equal(dir(in("a/b/c"), SAFE_OURS, 0), -ENOENT);
    assert_int_equal(dir(in("a/./b//c/"), SAFE_OURS, 0750), 0);
    umask(mask);
    assert_int_equal(mode_of(in("a")), 0750);
    assert_int_equal(mode_of(in("a/b/c")), 0750);
    assert_int_equal(dir(in("a/b/../b/c"), SAFE_OURS, 0), 0);
    put(in("a/file"), "");
    assert_int_equal(dir(in("a/file"), SAFE_OURS, 0700), -ENOTDIR);
    assert_int_equal(dir(in("a/file/x"), SAFE_OURS, 0700), -ENOTDIR);
    assert_int_equal(dir("", SAFE_OURS, 0700), -ENOENT);
}

static void test_what_others_can_exchange(void **state)
{
    char *why;

    (void)state;
    make(in("open"), 0777);
    make(in("open/sub"), 0700);
    assert_int_equal(safe_dir(in("open/sub"), SAFE_OURS, 0, &why), -EPERM);
    assert_non_null(strstr(why, in("open")));
    free(why);
    assert_int_equal(safe_dir(in("open/missing"), SAFE_OURS, 0, &why), -EPERM);
    free(why);
    assert_int_equal(dir(in("open/sub"), SAFE_NAMED, 0), 0);
    assert_int_equal(chmod(in("open"), 01777), 0);
    assert_int_equal(dir(in("open/sub"), SAFE_OURS, 0), 0);
    assert_int_equal(safe_dir(in("open/missing"), SAFE_OURS, 0, &why), -ENOENT);
    assert_null(why);
}

static void test_links(void **state)
{
    int fd;
    struct stat st;

    (void)state;
    make(in("real"), 0700);
    assert_int_equal(symlink("real", in("relative")), 0);
    assert_int_equal(symlink(in("real"), in("absolute")), 0);
    assert_int_equal(symlink("two", in("one")), 0);
    assert_int_equal(symlink("one", in("two")), 0);
    assert_int_equal(symlink("../real/file", in("real/last")), 0);
    for (int rule = SAFE_OURS; rule <= SAFE_NAMED; rule++) {
        assert_int_equal(dir(in("relative"), (enum safe_rule)rule, 0), 0);
        assert_int_equal(dir(in("absolute/../relative/."), (enum safe_rule)rule, 0), 0);
        assert_int_equal(dir(in("one"), (enum safe_rule)rule, 0), -ELOOP);
    }
    assert_int_equal(append(in("relative/last"), "x", 0640), 0); /* makes what it leads to */
    assert_text(in("real/file"), "x");
    assert_int_equal(mode_of(in("real/file")), 0640);
    assert_int_equal(append(in("absolute/last"), "y", 0600), 0);
    assert_text(in("real/file"), "xy");
    assert_int_equal(safe_stat(in("absolute/last"), &st), 0);
    assert_int_equal(st.st_size, 2);
    assert_int_equal(safe_stat(in("absolute/none"), &st), -ENOENT);
    assert_int_equal(append(in("one"), "x", 0600), -ELOOP);
    assert_int_equal(append(in("real/"), "x", 0600), -EISDIR);
    assert_int_equal(append(in("real"), "x", 0600), -EISDIR);
    fd = safe_read(in("relative/last"));
    assert_true(fd >= 0);
    close(fd);
}

/* What the kernel leads to by itself. */
static void test_proc(void **state)
{
    char path[64];
    int fd;

    (void)state;
    put(in("file"), "");
    fd = open(in("file"), O_RDWR | O_APPEND);
    assert_int_equal(unlink(in("file")), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_int_equal(append(path, "x", 0600), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 1);
    close(fd);
    assert_int_equal(append("/dev/null", "x", 0600), 0);
}

static void test_files_that_are_none(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in("pipe"), 0600), 0);
    assert_int_equal(safe_read(in("pipe")), -EINVAL);
    assert_int_equal(safe_read("/dev/null"), -EINVAL);
    assert_int_equal(safe_read(top), -EINVAL);
    assert_int_equal(append(in("pipe"), "x", 0600), -ENXIO); /* nobody reads */
}

static void test_second_names(void **state)
{
    char *why;

    (void)state;
    make(in("shared"), 01777);
    put(in("file"), "mine");
    assert_int_equal(link(in("file"), in("shared/other")), 0);
    assert_int_equal(safe_file(in("shared/other"), O_WRONLY | O_TRUNC, 0600, &why), -EPERM);
    assert_non_null(strstr(why, "names"));
    free(why);
    assert_text(in("file"), "mine");
    assert_int_equal(unlink(in("file")), 0);
    assert_int_equal(append(in("shared/other"), "!", 0600), 0);
}

static void test_modes(void **state)
{
    mode_t mask = umask(027);

    (void)state;
    assert_int_equal(append(in("exact"), "", 0666), 0);
    assert_int_equal(append(in("masked"), "", 0666 | SAFE_UMASK), 0);
    umask(mask);
    assert_int_equal(mode_of(in("exact")), 0666);
    assert_int_equal(mode_of(in("masked")), 0640);
}

static void test_kept(void **state)
{
    int kept[SAFE_KEPT_MAX], fd;
    struct stat st;

    (void)state;
    make(in("session"), 0700);
    safe_keep(in("session"), safe_dir(in("session"), SAFE_OURS, 0, NULL));
    assert_int_equal(safe_kept(kept), 1);
    assert_int_equal(rename(in("session"), in("moved")), 0);
    make(in("elsewhere"), 0700);
    assert_int_equal(symlink("elsewhere", in("session")), 0);
    assert_int_equal(append(in("session/events"), "x", 0666 | SAFE_UMASK), 0);
    assert_text(in("moved/events"), "x");
    assert_int_equal(mode_of(in("moved/events")), 0600);
    assert_int_equal(safe_stat(in("elsewhere/events"), &st), -ENOENT);
    assert_int_equal(safe_stat(in("session/events"), &st), 0);
    assert_int_equal(dir(in("session/sub/deep"), SAFE_NAMED, 0700), 0);
    assert_int_equal(mode_of(in("moved/sub/deep")), 0700);
    assert_int_equal(symlink("events", in("moved/link")), 0);
    assert_int_equal(append(in("session/link"), "x", 0600), -ELOOP);
    assert_int_equal(safe_stat(in("session/link"), &st), -ELOOP);
    assert_int_equal(symlink("sub", in("moved/dir")), 0);
    assert_int_equal(dir(in("session/dir"), SAFE_NAMED, 0), -ELOOP);
    assert_int_equal(dir(in("session/../elsewhere"), SAFE_NAMED, 0), -EPERM);
    assert_int_equal(append(in("sessions"), "x", 0600), 0); /* begins alike */
    fd = safe_dir(in("session"), SAFE_OURS, 0, NULL);
    assert_true(safe_private(fd));
    close(fd);
    safe_keep(in("session"), -1);
    assert_int_equal(safe_kept(kept), 0);
    assert_int_equal(safe_stat(in("session/events"), &st), -ENOENT);
}

static void test_only_some_are_kept(void **state)
{
    int kept[SAFE_KEPT_MAX];

    (void)state;
    for (int i = 0; i < SAFE_KEPT_MAX + 2; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        safe_keep(in(name), safe_dir(in(name), SAFE_OURS, 0700, NULL));
    }
    assert_int_equal(safe_kept(kept), SAFE_KEPT_MAX);
    for (int i = 1; i < SAFE_KEPT_MAX; i++)
        assert_true(kept[i - 1] < kept[i]);
    for (int i = 0; i < SAFE_KEPT_MAX + 2; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        safe_keep(in(name), -1);
    }
    assert_int_equal(safe_kept(kept), 0);
}

static void test_replace(void **state)
{
    int at = safe_dir(top, SAFE_OURS, 0, NULL), fd;
    mode_t mask = umask(0777);

    (void)state;
    assert_int_equal(safe_replace(at, "file", "old", 3, 0640), 0);
    umask(mask);
    assert_int_equal(mode_of(in("file")), 0640);
    put(in("victim"), "kept");
    assert_int_equal(unlink(in("file")), 0);
    assert_int_equal(symlink("victim", in("file")), 0);
    assert_int_equal(safe_read_at(at, "file"), -ELOOP);
    assert_int_equal(safe_create(at, "file", 0600), -EEXIST);
    assert_int_equal(safe_replace(at, "file", "new", 3, 0600), 0);
    assert_text(in("victim"), "kept");
    assert_text(in("file"), "new");
    make(in("sub"), 0700);
    assert_int_equal(safe_replace(at, "sub", "x", 1, 0600), -EISDIR);
    fd = safe_make_dir(at, "sub", 0755); /* it is there */
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(symlink("sub", in("to-sub")), 0);
    assert_int_equal(safe_make_dir(at, "to-sub", 0755), -ENOTDIR);
    assert_int_equal(safe_make_dir(at, "victim", 0755), -ENOTDIR);
    assert_int_equal(chmod(in("sub"), 0777), 0);
    assert_int_equal(safe_make_dir(at, "sub", 0755), -EPERM);
    close(at);
}

static void remove_trees(bool without)
{
    int at = safe_dir(top, SAFE_OURS, 0, NULL);
    char *deep;

    safe_without_openat2(without);
    make(in("victim"), 0700);
    put(in("victim/file"), "kept");
    make(in("tree"), 0700);
    make(in("tree/sub"), 0700);
    put(in("tree/sub/file"), "");
    put(in("tree/last"), "");
    assert_int_equal(symlink("../../victim", in("tree/sub/link")), 0);
    assert_int_equal(symlink("tree", in("to-tree")), 0);
    assert_int_equal(safe_remove_tree(at, "to-tree", "last"), -ENOTDIR);
    assert_text(in("tree/last"), "");
    assert_int_equal(safe_remove_tree(at, "none", NULL), -ENOENT);
    assert_int_equal(safe_remove_tree(at, "tree", "last"), 0);
    assert_int_equal(access(in("tree"), F_OK), -1);
    assert_text(in("victim/file"), "kept");

    deep = xasprintf("%s/deep", top);
    for (int i = 0; i < 30; i++) {
        char *next = xasprintf("%s/d", deep);

        make(deep, 0700);
        free(deep);
        deep = next;
    }
    free(deep);
    put(in("deep/last"), "");
    assert_int_equal(safe_remove_tree(at, "deep", "last"), -ELOOP);
    assert_text(in("deep/last"), ""); /* still known */
    if (geteuid() == 0) {
        make(in("theirs"), 0777);
        put(in("theirs/file"), "");
        assert_int_equal(chown(in("theirs"), STRANGER, STRANGER), 0);
        assert_int_equal(safe_remove_tree(at, "theirs", NULL), -EPERM);
        assert_text(in("theirs/file"), "");
    }
    safe_without_openat2(false);
    close(at);
}

static void test_remove(void **state)
{
    (void)state;
    remove_trees(false);
}

static void test_remove_without_openat2(void **state)
{
    (void)state;
    remove_trees(true);
}

static void test_strangers(void **state)
{
    struct stat st;
    int at;

    (void)state;
    if (geteuid() != 0)
        skip();
    put(in("victim"), "kept");
    make(in("home"), 0755);
    make(in("home/sub"), 0755);
    assert_int_equal(chown(in("home"), STRANGER, STRANGER), 0);
    assert_int_equal(dir(in("home"), SAFE_OURS, 0), -EPERM);
    assert_int_equal(dir(in("home/sub"), SAFE_OURS, 0), -EPERM);
    assert_int_equal(dir(in("home/new"), SAFE_OURS, 0700), -EPERM);
    assert_int_equal(dir(in("home/sub"), SAFE_NAMED, 0), 0);
    at = safe_dir(top, SAFE_OURS, 0, NULL);
    assert_int_equal(safe_make_dir(at, "home", 0755), -EPERM);
    close(at);

    /* Root's own link where a stranger could have put it, and the stranger's where it can't put anything. */
    assert_int_equal(symlink("../victim", in("home/link")), 0);
    assert_int_equal(symlink("victim", in("link")), 0);
    assert_int_equal(lchown(in("link"), STRANGER, STRANGER), 0);
    assert_int_equal(append(in("home/link"), "x", 0600), -ELOOP);
    assert_int_equal(append(in("link"), "x", 0600), -ELOOP);
    assert_int_equal(safe_read(in("link")), -ELOOP);
    assert_int_equal(safe_stat(in("link"), &st), -ELOOP);
    assert_text(in("victim"), "kept");

    /* Files: a stranger's in its own directory, but not in a shared one. */
    put(in("home/file"), "");
    assert_int_equal(chown(in("home/file"), STRANGER, STRANGER), 0);
    assert_int_equal(append(in("home/file"), "x", 0600), 0);
    make(in("shared"), 01777);
    put(in("shared/file"), "");
    assert_int_equal(append(in("shared/file"), "x", 0600), 0);
    assert_int_equal(chown(in("shared/file"), STRANGER, STRANGER), 0);
    assert_int_equal(append(in("shared/file"), "x", 0600), -EPERM);

    /* A group that isn't root's can write there. */
    make(in("group"), 0775);
    assert_int_equal(dir(in("group"), SAFE_OURS, 0), 0);
    assert_int_equal(chown(in("group"), 0, STRANGER), 0);
    assert_int_equal(dir(in("group"), SAFE_OURS, 0), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_directories_are_made_with_their_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_others_can_exchange, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links, setup, teardown),
        cmocka_unit_test_setup_teardown(test_proc, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_some_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_without_openat2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
