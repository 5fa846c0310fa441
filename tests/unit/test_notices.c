/* SPDX-License-Identifier: Apache-2.0 */
/* What is on a list of files or of peers, and what isn't. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config/path_set.h"
#include "report/watchlist.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* --- files --- */

static struct path_set *set_of(const char *const *entries, size_t n)
{
    struct path_set *s = path_set_new();

    for (size_t i = 0; i < n; i++)
        path_set_add(s, 1, entries[i], (int32_t)i, "/srv/people/ann");
    return s;
}

static void check(struct path_set *s, const char *path, size_t len, int expected)
{
    for (int again = 0; again < 2; again++) { /* the second answer is remembered */
        const int32_t *rule = path_set_find(s, path, len);

        if (rule[1] != expected || rule[0] != -1 || rule[2] != -1 || rule[3] != -1)
            fail_msg("%.*s: %d, not %d", (int)len, path, rule[1], expected);
    }
}

static void names_are_found(void **state)
{
    static const char *const entries[] = {
        "/etc",  "/usr/lib/", ".ssh",     "!.ssh/*.pub", "~/.bashrc",   ".aws/credentials", "/proc/*/mem",
        "*.pem", "/a/**/z",   "/var/?og", "**/deep/x*y", "!/etc/hosts", "/etc/hosts/not",   "a b",
    };
    static const struct {
        const char *path;
        int rule;
    } table[] = {
        {"/etc", 0},
        {"/etc/passwd", 0},
        {"/etc/ssl/x.conf", 0},
        {"/etcetera", -1},
        {"/et", -1},
        {"/x/etc/passwd", -1},
        {"/etc/hosts", -1},
        {"/etc/hosts/not", 12},
        {"/etc/hosts/nothing", -1},
        {"/etc/hostsx", 0},
        {"/usr/lib", 1},
        {"/usr/lib/libc.so.6", 1},
        {"/usr/libexec/x", -1},
        {"/usr/lib64", -1},
        {"/lib/usr/lib", -1},
        {"/root/.ssh/id_rsa", 2},
        {"/.ssh", 2},
        {"/x/y/.ssh/known/deep", 2},
        {"/x/.sshd/id", -1},
        {"/x/a.ssh/id", -1},
        {"/root/.ssh/id_rsa.pub", -1},
        {"/root/.ssh/id.pub/x", -1},
        {"/root/.ssh/id_rsa.pubx", 2},
        {"/root/.bashrc", 4},
        {"/home/bob/.bashrc", 4},
        {"/srv/people/ann/.bashrc", 4},
        {"/srv/people/bob/.bashrc", -1},
        {"/home/.bashrc", -1},
        {"/home/bob/x/.bashrc", -1},
        {"/etc/skel/.bashrc", 0},
        {"/root/.aws/credentials", 5},
        {"/root/.aws/config", -1},
        {"/root/.aws", -1},
        {"/.aws/credentials.bak", -1},
        {"/proc/12/mem", 6},
        {"/proc/self/mem", 6},
        {"/proc/12/maps", -1},
        {"/proc/12/task/12/mem", -1},
        {"/proc/mem", -1},
        {"/srv/tls/key.pem", 7},
        {"/key.pem", 7},
        {"/key.pem/inside", 7},
        {"/key.pem.old", -1},
        {"/pem", -1},
        {"/.pem", 7},
        {"/a/z", 8},
        {"/a/b/z", 8},
        {"/a/b/c/d/z/e", 8},
        {"/a/b/zz", -1},
        {"/b/a/z", -1},
        {"/var/log/x", 9},
        {"/var/xog", 9},
        {"/var/og", -1},
        {"/var/xxog", -1},
        {"/var//og", -1},
        {"/q/w/deep/xy", 10},
        {"/deep/x123y/z", 10},
        {"/deep/q/xy", -1},
        {"/x/a b/c", 13},
        {"/x/a", -1},
        {"/x/b", -1},
        {"/", -1},
        {"", -1},
        {"etc/passwd", -1},
        {"x/.ssh/id", 2},
        {".ssh", 2},
        {"/usr/bin/ld.so.2 old.sh", -1},
    };
    struct path_set *s = set_of(entries, COUNT(entries));

    for (size_t i = 0; i < COUNT(table); i++)
        check(s, table[i].path, strlen(table[i].path), table[i].rule);
    path_set_free(s);
}

/* The last entry that fits counts, in whichever way it is found. */
static void later_entries_win(void **state)
{
    static const char *const entries[] = {"/a", "!/a/b", "/a/b/c", "!/a/b/*/d", "/a/b/c/d/e", "/a"};
    static const char *const without[] = {"/a", "!/a/b", "/a/b/c", "!/a/b/*/d", "/a/b/c/d/e"};
    struct path_set *s = set_of(entries, COUNT(entries));

    check(s, "/a/b/x", 6, 5);
    path_set_free(s);
    s = set_of(without, COUNT(without));
    check(s, "/a/x", 4, 0);
    check(s, "/a/b", 4, -1);
    check(s, "/a/b/c", 6, 2);
    check(s, "/a/b/c/d", 8, -1);
    check(s, "/a/b/c/d/e", 10, 4);
    path_set_add(s, 1, "/a", 7, NULL); /* what was remembered is not any more */
    check(s, "/a/b", 4, 7);
    path_set_free(s);
}

static void lists_are_kept_apart(void **state)
{
    struct path_set *s = path_set_new();
    const int32_t *rule;

    path_set_add(s, 0, "/etc", 10, NULL);
    path_set_add(s, 1, "shadow", 11, NULL);
    path_set_add(s, 2, "!/etc", 12, NULL);
    path_set_add(s, 3, "/*/shadow", 13, NULL);
    rule = path_set_find(s, "/etc/shadow", 11);
    assert_int_equal(rule[0], 10);
    assert_int_equal(rule[1], 11);
    assert_int_equal(rule[2], -1);
    assert_int_equal(rule[3], 13);
    path_set_free(s);
    s = path_set_new(); /* an empty one */
    assert_int_equal(path_set_find(s, "/etc/shadow", 11)[0], -1);
    path_set_free(s);
}

static void many_entries_and_hostile_names(void **state)
{
    struct path_set *s = path_set_new();
    char name[64], *deep = xmalloc(16384);
    static const char odd[] = "/x/\xff\n\033]0;t\a/.ssh/\0k";

    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "/dir%d/file%d", i % 100, i);
        path_set_add(s, 1, name, i, NULL);
    }
    path_set_add(s, 1, ".ssh", 10000, NULL);
    path_set_add(s, 1, "/**/a*a*a*b", 10001, NULL);
    for (int i = 0; i < 10000; i += 7) {
        snprintf(name, sizeof(name), "/dir%d/file%d/x", i % 100, i);
        check(s, name, strlen(name), i);
    }
    check(s, "/dir1/file2", 11, -1);
    check(s, odd, sizeof(odd) - 1, 10000);
    memset(deep, '/', 16384);
    check(s, deep, 16384, -1);
    for (int i = 1; i < 16384; i++)
        deep[i] = i % 200 ? 'a' : '/';
    check(s, deep, 16384, -1);
    deep[16383] = 'b';
    check(s, deep, 16384, 10001);
    memset(deep + 1, 'a', 16383);
    check(s, deep, 16384, -1);
    free(deep);
    path_set_free(s);
}

/* What stands before a ** is looked for once, not anew at each component that it fits. */
static void deep_names_take_few_steps(void **state)
{
    enum { COMPONENTS = 2048 };
    static const char *const entries[] = {"a*/**/nowhere", "a?/b*/**/x/nowhere", "**/a*/nowhere", "a*/a*/**/nowhere/**/x"};
    struct path_set *s = set_of(entries, COUNT(entries));
    char *deep = xmalloc(COMPONENTS * 3 + 9);
    uint64_t before;

    for (int i = 0; i < COMPONENTS; i++)
        memcpy(deep + (size_t)i * 3, i % 2 ? "/bb" : "/aa", 3);
    before = path_set_steps(s);
    assert_int_equal(path_set_find(s, deep, COMPONENTS * 3)[1], -1);
    assert_in_range(path_set_steps(s) - before, COMPONENTS, 4 * COUNT(entries) * COMPONENTS);
    memcpy(deep + COMPONENTS * 3, "/nowhere", 8);
    assert_int_equal(path_set_find(s, deep, COMPONENTS * 3 + 8)[1], 0);
    free(deep);
    path_set_free(s);
}

/* --- peers --- */

static union address address(const char *text)
{
    union address a = {0};

    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
        a.family = AF_INET;
    } else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1) {
        a.family = AF_INET6;
    } else {
        fail_msg("%s is no address", text);
    }
    return a;
}

static struct peer_list *peers(const char *const *entries, size_t n)
{
    struct peer_list *l = peer_list_new();

    for (size_t i = 0; i < n; i++)
        peer_list_add(l, entries[i], (int32_t)i);
    return l;
}

static void addresses_are_found(void **state)
{
    static const char *const entries[] = {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3",  "192.0.2.128/25", "2001:db8::/33",
                                          "::1",        "fe80::/10",   "nonsense!", "203.0.113.0/31"};
    static const struct {
        const char *text;
        int rule;
    } table[] = {
        {"10.9.9.9", 0},
        {"10.1.9.9", 1},
        {"10.1.2.3", 2},
        {"10.1.2.4", 1},
        {"11.0.0.0", -1},
        {"9.255.255.255", -1},
        {"192.0.2.127", -1},
        {"192.0.2.128", 3},
        {"192.0.2.255", 3},
        {"192.0.3.0", -1},
        {"2001:db8:7fff::", 4},
        {"2001:db8:8000::", -1},
        {"::1", 5},
        {"::2", -1},
        {"fe80::1", 6},
        {"febf::1", 6},
        {"fec0::1", -1},
        {"::ffff:10.1.2.3", 2},
        {"::ffff:11.1.2.3", -1},
        {"203.0.113.0", 8},
        {"203.0.113.1", 8},
        {"203.0.113.2", -1},
        {"0.0.0.0", -1},
    };
    static const char *const everything[] = {"0.0.0.0/0"};
    struct peer_list *l = peers(entries, COUNT(entries));
    union address other = {.family = AF_UNIX};

    for (size_t i = 0; i < COUNT(table); i++) {
        union address a = address(table[i].text);

        if (peer_list_find(l, &a) != table[i].rule)
            fail_msg("%s: %d, not %d", table[i].text, peer_list_find(l, &a), table[i].rule);
    }
    assert_int_equal(peer_list_find(l, &other), -1);
    assert_false(peer_list_empty(l));
    assert_false(peer_list_has_names(l));
    peer_list_free(l);
    l = peers(everything, 1);
    other = address("198.51.100.7");
    assert_int_equal(peer_list_find(l, &other), 0);
    other = address("2001:db8::1");
    assert_int_equal(peer_list_find(l, &other), -1);
    peer_list_free(l);
}

static void host_names_are_found(void **state)
{
    static const char *const entries[] = {"example.com", "*.Example.org.", "*.b.example.org", "x.b.example.org",
                                          "*.com"};
    static const struct {
        const char *name;
        int rule;
    } table[] = {
        {"example.com", 0},
        {"EXAMPLE.com.", 0},
        {"www.example.com", 4},
        {"example.org", -1},
        {"a.example.org", 1},
        {"a.a.example.org", 1},
        {"b.example.org", 1},
        {"y.b.example.org", 2},
        {"x.b.example.org", 3},
        {"z.x.b.example.org", 2},
        {"notexample.org", -1},
        {"com", -1},
        {"", -1},
        {".", -1},
        {"..com", 4},
    };
    struct peer_list *l = peers(entries, COUNT(entries));
    char longest[300];

    for (size_t i = 0; i < COUNT(table); i++)
        if (peer_list_find_name(l, table[i].name, strlen(table[i].name)) != table[i].rule)
            fail_msg("%s: %d, not %d", table[i].name, peer_list_find_name(l, table[i].name, strlen(table[i].name)),
                     table[i].rule);
    memset(longest, 'a', sizeof(longest));
    assert_int_equal(peer_list_find_name(l, longest, sizeof(longest)), -1);
    assert_int_equal(peer_list_find_name(l, longest, 253), -1);
    memcpy(longest + 249, ".com", 4);
    assert_int_equal(peer_list_find_name(l, longest, 253), 4);
    peer_list_free(l);
}

static void addresses_have_names(void **state)
{
    struct address_names *t = address_names_new();
    union address a = address("192.0.2.1"), b = address("2001:db8::1"), c = address("::ffff:192.0.2.1");
    char text[32];
    unsigned known = 0;

    assert_null(address_names_find(t, 1000, &a));
    address_names_add(t, 1000, "192.0.2.1", 9, "one.example", 11);
    address_names_add(t, 1000, "2001:db8::1 and more", 11, "two.example and more", 11);
    address_names_add(t, 1000, "nonsense", 8, "x", 1);
    assert_string_equal(address_names_find(t, 1000, &a), "one.example");
    assert_string_equal(address_names_find(t, 1000, &b), "two.example");
    assert_string_equal(address_names_find(t, 1000, &c), "one.example");
    address_names_add(t, 1000, "192.0.2.1", 9, "other.example", 13);
    assert_string_equal(address_names_find(t, 1000, &a), "other.example");
    for (int i = 0; i < 20000; i++) { /* more than there is room for */
        snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
        address_names_add(t, 1000, text, strlen(text), "n", 1);
        a = address(text);
        assert_string_equal(address_names_find(t, 1000, &a), "n");
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
        a = address(text);
        known += address_names_find(t, 1000, &a) != NULL;
    }
    assert_in_range(known, ADDRESS_NAMES / 2, ADDRESS_NAMES);
    address_names_free(t);
}

/* A forged answer tells something of its own user's connections only. */
static void names_are_known_by_user(void **state)
{
    struct address_names *t = address_names_new();
    union address a = address("192.0.2.1");
    char text[32];

    address_names_add(t, 1000, "192.0.2.1", 9, "one.example", 11);
    assert_null(address_names_find(t, 1001, &a));
    address_names_add(t, 1001, "192.0.2.1", 9, "evil.example", 12);
    assert_string_equal(address_names_find(t, 1000, &a), "one.example");
    assert_string_equal(address_names_find(t, 1001, &a), "evil.example");
    for (int i = 0; i < 50000; i++) { /* nor does it push out what others were told */
        snprintf(text, sizeof(text), "10.1.%d.%d", i / 250, i % 250);
        address_names_add(t, 1001, text, strlen(text), "n", 1);
    }
    assert_string_equal(address_names_find(t, 1000, &a), "one.example");
    address_names_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found),      cmocka_unit_test(later_entries_win),
        cmocka_unit_test(lists_are_kept_apart), cmocka_unit_test(many_entries_and_hostile_names),
        cmocka_unit_test(addresses_are_found),  cmocka_unit_test(host_names_are_found),
        cmocka_unit_test(addresses_have_names), cmocka_unit_test(names_are_known_by_user),
        cmocka_unit_test(deep_names_take_few_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
