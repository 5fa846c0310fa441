/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled rules (wire/rules.h): which programs they name, and that nothing a file can hold leads out of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/rules.h"

struct row {
    uint32_t kind;
    const char *name, *arg;
};

/* A file with these rules, exactly as long as it says, so that the sanitizers see what is read beyond. */
static struct rules_head *make(const struct row *rows, size_t count)
{
    size_t texts = sizeof(struct rules_head) + count * sizeof(struct rules_entry), size = texts + sizeof("/sock");
    struct rules_head *h;
    struct rules_entry *e;
    char *to;

    for (size_t i = 0; i < count; i++)
        size += (rows[i].name ? strlen(rows[i].name) + 1 : 0) + (rows[i].arg ? strlen(rows[i].arg) + 1 : 0);
    h = calloc(1, size);
    assert_non_null(h);
    *h = (struct rules_head){.magic = RULES_MAGIC, .size = (uint32_t)size, .count = (uint32_t)count, .socket = (uint32_t)texts};
    to = (char *)h + texts;
    to = stpcpy(to, "/sock") + 1;
    e = (struct rules_entry *)(void *)(h + 1);
    for (size_t i = 0; i < count; i++) {
        e[i] = (struct rules_entry){.kind = rows[i].kind, .mode = (uint32_t)i};
        if (rows[i].name) {
            e[i].name = (uint32_t)(to - (char *)h);
            to = stpcpy(to, rows[i].name) + 1;
        }
        if (rows[i].arg) {
            e[i].arg = (uint32_t)(to - (char *)h);
            to = stpcpy(to, rows[i].arg) + 1;
        }
    }
    assert_true(rules_valid(h, size));
    return h;
}

static uint32_t match(const struct rules_head *h, const char *exe, const char *execfn, const char *args, size_t len)
{
    /* Exactly as long as it is, too. */
    char *copy = malloc(len ? len : 1);
    uint32_t found;

    assert_non_null(copy);
    memcpy(copy, args, len);
    found = rules_match(h, &(struct rules_subject){.exe = exe, .execfn = execfn, .args = copy, .args_len = len});
    free(copy);
    return found;
}

#define MATCH(h, exe, execfn, args) match(h, exe, execfn, args, sizeof(args))

static void names_programs(void **state)
{
    static const struct row rows[] = {
        {RULES_ALLOW, "nginx", NULL},       {RULES_ALLOW, NULL, "app.js --port 80"}, {RULES_ALLOW, "python3", "manage.py"},
        {RULES_DENY, "secret", NULL},       {RULES_DENY, NULL, "--no-scope"},        {RULES_ALLOW, NULL, ""},
    };
    struct rules_head *h = make(rows, 5), *all = make(rows, 6);

    (void)state;
    assert_int_equal(MATCH(h, "/usr/sbin/nginx", NULL, "nginx"), 0);
    assert_int_equal(MATCH(h, "nginx", NULL, "nginx"), 0);
    assert_int_equal(MATCH(h, NULL, "./nginx", "x"), 0);
    assert_int_equal(MATCH(h, "/bin/busybox", "/sbin/nginx", "x"), 0);
    assert_int_equal(MATCH(h, "/nginx/", NULL, "x"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/sbin/nginx2", "/usr/sbin/ngin", "nginx"), RULES_NONE);
    assert_int_equal(MATCH(h, "", "", ""), RULES_NONE);
    assert_int_equal(MATCH(h, NULL, NULL, ""), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/bin/node", NULL, "node\0app.js\0--port\0" "80"), 1);
    assert_int_equal(MATCH(h, "/usr/bin/node", NULL, "node\0/x/app.js --port\0" "8080"), 1);
    assert_int_equal(MATCH(h, "/usr/bin/node", NULL, "node\0app.js\0\0--port\0" "80"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/bin/node", NULL, "node\0app.js\0--port\0" "8"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/bin/python3", NULL, "python3\0manage.py"), 2);
    assert_int_equal(MATCH(h, "/usr/bin/python3", NULL, "python3\0other.py"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/bin/node", NULL, "node\0manage.py"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/sbin/nginx", "/x/secret", "nginx"), RULES_NONE);
    assert_int_equal(MATCH(h, "/usr/sbin/nginx", NULL, "nginx\0--no-scope"), RULES_NONE);
    assert_int_equal(MATCH(all, "/bin/sh", NULL, "sh"), 5);
    assert_int_equal(match(all, "/bin/sh", NULL, "", 0), 5);
    free(h);
    free(all);
}

static void looks_at_so_much_of_arguments(void **state)
{
    static const struct row rows[] = {{RULES_ALLOW, NULL, "word"}};
    struct rules_head *h = make(rows, 1);
    char *args = malloc(RULES_ARGS_MAX + 64);

    (void)state;
    assert_non_null(args);
    memset(args, 'a', RULES_ARGS_MAX + 64);
    memcpy(args + RULES_ARGS_MAX - 4, "word", 4);
    assert_int_equal(match(h, "x", NULL, args, RULES_ARGS_MAX + 64), 0);
    memcpy(args + RULES_ARGS_MAX - 4, "aword", 5);
    assert_int_equal(match(h, "x", NULL, args, RULES_ARGS_MAX + 64), RULES_NONE);
    free(args);
    free(h);
}

static void refuses_what_leads_elsewhere(void **state)
{
    static const struct row rows[] = {{RULES_ALLOW, "nginx", "x"}};
    struct rules_head *good = make(rows, 1), *h = malloc(good->size);
    struct rules_entry *e = (struct rules_entry *)(void *)(h + 1);
    const size_t size = good->size;
    uint32_t *const words[] = {&h->count, &h->socket, &h->plans, &h->size, &e->name, &e->arg, &e->kind};
    static const uint32_t wrong[] = {7, sizeof(*h) - 1, sizeof(*h), RULES_MAX + 1, 1u << 28, (1u << 28) + 1, UINT32_MAX};

    (void)state;
    assert_non_null(h);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        for (size_t k = 0; k <= sizeof(wrong) / sizeof(*wrong); k++) {
            memcpy(h, good, size);
            *words[i] = k < sizeof(wrong) / sizeof(*wrong) ? wrong[k] : (uint32_t)size;
            assert_true(rules_valid(h, size) == (words[i] == &h->size && *words[i] == size));
        }
    for (size_t cut = 0; cut < size; cut++) { /* of its own size, so that reading beyond is seen */
        struct rules_head *part = malloc(cut ? cut : 1);

        assert_non_null(part);
        memcpy(part, good, cut);
        assert_false(rules_valid(part, cut));
        free(part);
    }
    memcpy(h, good, size);
    for (size_t i = sizeof(*h); i < size; i++) /* no text has an end */
        ((char *)h)[i] = 'x';
    assert_false(rules_valid(h, size));
    free(h);
    free(good);
}

static void mutations_stay_inside(void **state)
{
    static const struct row rows[] = {
        {RULES_ALLOW, "nginx", NULL}, {RULES_ALLOW, NULL, "app.js"}, {RULES_DENY, "sh", "-x"}, {RULES_ALLOW, "redis", "6379"},
    };
    struct rules_head *good = make(rows, 4);
    unsigned seed = 1, valid = 0;

    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        size_t size = good->size;
        struct rules_head *h = malloc(size);

        assert_non_null(h);
        memcpy(h, good, size);
        for (int n = rand_r(&seed) % 4; n >= 0; n--) {
            size_t at = (size_t)rand_r(&seed) % size;
            uint32_t value = rand_r(&seed) % 2 ? (uint32_t)rand_r(&seed) % (uint32_t)(2 * size) : (uint32_t)rand_r(&seed);

            if (rand_r(&seed) % 2 && at + 4 <= size)
                memcpy((char *)h + (at & ~(size_t)3), &value, 4);
            else
                ((char *)h)[at] = (char)value;
        }
        if (rules_valid(h, size)) {
            uint32_t found = MATCH(h, "/usr/bin/nginx", "./app", "node\0app.js\0-x");

            assert_true(found == RULES_NONE || found < h->count);
            valid++;
        }
        free(h);
    }
    assert_true(valid > 1000);
    free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_programs),
        cmocka_unit_test(looks_at_so_much_of_arguments),
        cmocka_unit_test(refuses_what_leads_elsewhere),
        cmocka_unit_test(mutations_stay_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
