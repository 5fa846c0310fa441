/* SPDX-License-Identifier: Apache-2.0 */
/* /etc/ld.so.preload: what is ours in it, and that nothing else changes. */
#include <setjmp.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/host.h"
#include "host/internal.h"

#define OURS  "/usr/lib/appscope/2.0.0-1234/$PLATFORM/libscope.so"
#define OLDER "/usr/lib/appscope/1.4.0/libscope.so"

static void edit(const char *from, const char *entry, const char *to)
{
    struct buf b = BUF_INIT;

    assert_int_equal(preload_edit(from, strlen(from), entry, &b), 0);
    assert_string_equal(buf_cstr(&b), to);
    buf_free(&b);
}

/* Adding and taking out give the same bytes again. */
static void there_and_back(const char *text, const char *with)
{
    edit(text, OURS, with);
    edit(with, NULL, text);
    edit(with, OURS, with);
}

static void test_add_and_remove(void **state)
{
    there_and_back("", OURS "\n");
    there_and_back("/lib/a.so\n", "/lib/a.so\n" OURS "\n");
    there_and_back("/lib/a.so", "/lib/a.so\n" OURS);
    there_and_back("/lib/a.so /lib/b.so:/lib/c.so\n\n", "/lib/a.so /lib/b.so:/lib/c.so\n\n" OURS "\n");
    there_and_back("# comment", "# comment\n" OURS);
    there_and_back("# " OURS "\n", "# " OURS "\n" OURS "\n"); /* a comment is none of ours */
    there_and_back("\n", "\n" OURS "\n");
    there_and_back("a\r\n", "a\r\n" OURS "\n");
}

static void test_replace(void **state)
{
    edit(OLDER "\n", OURS, OURS "\n");
    edit("a\n" OLDER "\nb\n", OURS, "a\n" OURS "\nb\n");
    edit("a " OLDER ":b", OURS, "a " OURS ":b");
    edit(OLDER "\nx\n" OURS "\n", OURS, OURS "\nx\n");
    edit(OLDER " " OLDER " x", OURS, OURS " x");
}

static void test_remove(void **state)
{
    edit("a " OURS " b\n", NULL, "a b\n");
    edit(OURS " b\n", NULL, "b\n");
    edit("a:" OURS "\nb", NULL, "a\nb");
    edit("a\n" OURS "#x\nb", NULL, "a\n#x\nb");
    edit(OURS ":" OLDER, NULL, "");
    edit("\t" OURS "\n", NULL, "\n");
    edit("/usr/lib/appscope/x/libscope.so.1 /opt/libscope.so", NULL, "/usr/lib/appscope/x/libscope.so.1 /opt/libscope.so");
}

static void test_find(void **state)
{
    size_t at = 0;

    assert_int_equal(preload_find("", 0, &at), 0);
    assert_int_equal(preload_find("x#" OURS, strlen("x#" OURS), &at), 0);
    assert_int_equal(preload_find("x#y\n" OURS, strlen("x#y\n" OURS), &at), strlen(OURS));
    assert_int_equal(at, 4);
    assert_int_equal(preload_find("a\0" OURS, 2 + strlen(OURS), &at), 0); /* not read by the loader either */
}

static void test_nul(void **state)
{
    struct buf b = BUF_INIT;

    assert_int_equal(preload_edit("a\0b\n", 4, OURS, &b), -EINVAL);
    assert_int_equal(preload_edit("a\0b\n", 4, NULL, &b), 0);
    assert_int_equal(b.len, 4);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_and_remove), cmocka_unit_test(test_replace), cmocka_unit_test(test_remove),
        cmocka_unit_test(test_find),           cmocka_unit_test(test_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
