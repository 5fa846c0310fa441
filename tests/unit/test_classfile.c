/* SPDX-License-Identifier: Apache-2.0 */
/* The rewriter of class files, on classes that are put together here: where calls go, and what has to follow them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/classfile.h"

#define ROOM 65536u
#define HELPER "helper/Class"

static struct class_scratch scratch;

/* --- a class with one method --- */

struct bytes {
    uint8_t v[ROOM];
    size_t n;
};

static void add(struct bytes *b, uint32_t v, unsigned bytes)
{
    while (bytes--)
        b->v[b->n++] = (uint8_t)(v >> 8 * bytes);
}

static void add_all(struct bytes *b, const void *p, size_t n)
{
    if (n)
        memcpy(b->v + b->n, p, n);
    b->n += n;
}

static void add_text(struct bytes *b, const char *text)
{
    add(b, 1, 1);
    add(b, (uint32_t)strlen(text), 2);
    add_all(b, text, strlen(text));
}

/* Constants: 1 this class, 2 its name, 3 "m", 4 "()V", 5 "Code", 6 "StackMapTable", 7 "LineNumberTable",
 * 8 "LocalVariableTable", 9 a long (and 10), 11 "Strange". */
enum { CODE = 5, STACK_MAP, LINES, LOCALS, STRANGE = 11, CONSTANTS };

struct attribute {
    uint32_t name;
    const void *p;
    size_t n;
};

static void make(struct bytes *b, const void *code, size_t size, const void *handlers, uint32_t count,
                 const struct attribute *attributes, uint32_t attribute_count)
{
    size_t at;

    b->n = 0;
    add(b, 0xcafebabe, 4);
    add(b, 61, 4);
    add(b, CONSTANTS, 2);
    add(b, 7, 1);
    add(b, 2, 2);
    add_text(b, "a/Class");
    add_text(b, "m");
    add_text(b, "()V");
    add_text(b, "Code");
    add_text(b, "StackMapTable");
    add_text(b, "LineNumberTable");
    add_text(b, "LocalVariableTable");
    add(b, 5, 1);
    add(b, 1, 4);
    add(b, 2, 4);
    add_text(b, "Strange");
    add(b, 0x21, 2);
    add(b, 1, 2);
    add(b, 1, 2);
    add(b, 0, 4);
    add(b, 1, 2); /* methods */
    add(b, 9, 2);
    add(b, 3, 2);
    add(b, 4, 2);
    add(b, 1, 2);
    add(b, CODE, 2);
    at = b->n;
    add(b, 0, 4);
    add(b, 2, 2); /* stack, locals */
    add(b, 3, 2);
    add(b, (uint32_t)size, 4);
    add_all(b, code, size);
    add(b, count, 2);
    add_all(b, handlers, 8 * count);
    add(b, attribute_count, 2);
    for (uint32_t i = 0; i < attribute_count; i++) {
        add(b, attributes[i].name, 2);
        add(b, (uint32_t)attributes[i].n, 4);
        add_all(b, attributes[i].p, attributes[i].n);
    }
    for (unsigned i = 0; i < 4; i++)
        b->v[at + i] = (uint8_t)((b->n - at - 4) >> 8 * (3 - i));
    add(b, 0, 2);
}

/* A call of 3 bytes in front of the method, with one instruction that pushes: 4 bytes; 3 before each return. */
static const struct class_site both = {"m", "()V", {"in", "(I)V", {0x03}, 1, 1}, {.name = "out", .type = "()V"}};

/* The rewritten method's code; its size is at 4 bytes before. NULL: refused. */
static uint8_t *rewritten(const struct bytes *b, const struct class_site *site, struct bytes *to)
{
    static const uint8_t head[] = {0, 9, 0, 3, 0, 4, 0, 1, 0, CODE};

    to->n = class_rewrite(b->v, b->n, HELPER, site, 1, NULL, &scratch, to->v, sizeof(to->v));
    for (size_t i = 0; to->n && i + sizeof(head) + 12 < to->n; i++)
        if (!memcmp(to->v + i, head, sizeof(head)))
            return to->v + i + sizeof(head) + 12;
    return NULL;
}

/* What goes in front of the code and of a return is a call of one of the constants that were added. */
static void is_call(const uint8_t *p)
{
    assert_int_equal(p[0], 0xb8);
    assert_true((p[1] << 8 | p[2]) > CONSTANTS);
}

static uint32_t size_at(const uint8_t *code)
{
    return (uint32_t)code[-2] << 8 | code[-1];
}

/* --- tests --- */

static void calls_go_to_the_entry_and_before_returns(void **state)
{
    static const uint8_t code[] = {0x00, 0xb1}; /* nop, return */
    static struct bytes in, out;
    const uint8_t *c;

    (void)state;
    make(&in, code, sizeof(code), NULL, 0, NULL, 0);
    c = rewritten(&in, &both, &out);
    assert_non_null(c);
    assert_int_equal(size_at(c), 4 + 1 + 3 + 1);
    assert_int_equal(c[0], 0x03);
    is_call(c + 1);
    assert_int_equal(c[4], 0x00);
    is_call(c + 5);
    assert_int_equal(c[8], 0xb1);
    assert_int_equal(c[-8] << 8 | c[-7], 3); /* the stack has room for what is pushed */
}

static void branches_follow(void **state)
{
    /* 0 iconst_0, 1 ifeq 5, 4 return, 5 goto 0, 8 return, 9 goto_w 8 */
    static const uint8_t code[] = {0x03, 0x99, 0, 4, 0xb1, 0xa7, 0xff, 0xfb, 0xb1, 0xc8, 0xff, 0xff, 0xff, 0xff};
    static struct bytes in, out;
    const uint8_t *c;

    (void)state;
    make(&in, code, sizeof(code), NULL, 0, NULL, 0);
    c = rewritten(&in, &both, &out);
    assert_non_null(c);
    /* 0 entry, 4 iconst_0, 5 ifeq 12, 8 call, 11 return, 12 goto 4, 15 call, 18 return, 19 goto_w 15 */
    assert_memory_equal(c + 5, "\x99\x00\x07", 3);
    assert_memory_equal(c + 12, "\xa7\xff\xf8", 3); /* not through the entry again */
    assert_memory_equal(c + 19, "\xc8\xff\xff\xff\xfc", 5);
}

static void switches_follow(void **state)
{
    /* 0 iconst_0, 1 lookupswitch (2 bytes of padding), one case: 20, default 21; 20 return, 21 return */
    static const uint8_t lookup[] = {0x03, 0xab, 0, 0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 19, 0xb1, 0xb1};
    /* 0 tableswitch (3), 5 to 6: 24, 25; default 25 */
    static const uint8_t table[] = {0xaa, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 24, 0, 0, 0, 25, 0xb1, 0xb1};
    struct class_site site = both;
    static struct bytes in, out;
    const uint8_t *c;

    (void)state;
    make(&in, lookup, sizeof(lookup), NULL, 0, NULL, 0);
    c = rewritten(&in, &both, &out);
    assert_non_null(c);
    /* 4 iconst_0, 5 lookupswitch with its tables at 8 as before; 24 call, 27 return, 28 call */
    assert_memory_equal(c + 5, "\xab\0\0\0\0\0\x17\0\0\0\1\0\0\0\5\0\0\0\x13", 19);
    assert_int_equal(c[27], 0xb1);
    site.enter.push_size = 2; /* another padding */
    site.enter.push[1] = 0x03;
    make(&in, table, sizeof(table), NULL, 0, NULL, 0);
    c = rewritten(&in, &site, &out);
    assert_non_null(c);
    /* 5 tableswitch with its tables at 8, so one byte less; 28 call, 31 return, 32 call */
    assert_memory_equal(c + 5, "\xaa\0\0\0\0\0\x1b\0\0\0\5\0\0\0\6\0\0\0\x17\0\0\0\x1b", 23);
    assert_int_equal(size_at(c), 36);
}

static void tables_follow(void **state)
{
    /* 0 new, 3 nop, 4 return, 5 nop, 6 return */
    static const uint8_t code[] = {0xbb, 0, 1, 0x00, 0xb1, 0x00, 0xb1};
    static const uint8_t handler[] = {0, 0, 0, 4, 0, 5, 0, 0};
    static const uint8_t frames[] = {0, 4, 3,                /* same, at 3 */
                                     64, 8, 0, 0,            /* one on the stack, at 4: what `new` has made */
                                     252, 0, 0, 7, 0, 1,     /* one local more, at 5 */
                                     255, 0, 0, 0, 1, 1, 0, 0}; /* full, at 6 */
    static const uint8_t lines[] = {0, 2, 0, 0, 0, 10, 0, 4, 0, 11};
    static const uint8_t locals[] = {0, 2, 0, 0, 0, 7, 0, 3, 0, 4, 0, 0, 0, 4, 0, 3, 0, 3, 0, 4, 0, 1};
    static const struct attribute attributes[] = {
        {STACK_MAP, frames, sizeof(frames)}, {LINES, lines, sizeof(lines)}, {LOCALS, locals, sizeof(locals)}};
    /* 4 new, 7 nop, 8 call, 11 return, 12 nop, 13 call, 16 return */
    static const uint8_t want[] = {0, 1, 0, 4, 0, 8, 0, 12, 0, 0, 0, 3,
                                   0, STACK_MAP, 0, 0, 0, sizeof(frames),
                                   0, 4, 7, 64, 8, 0, 4, 252, 0, 3, 7, 0, 1, 255, 0, 0, 0, 1, 1, 0, 0,
                                   0, LINES, 0, 0, 0, sizeof(lines), 0, 2, 0, 0, 0, 10, 0, 8, 0, 11,
                                   0, LOCALS, 0, 0, 0, sizeof(locals),
                                   0, 2, 0, 0, 0, 17, 0, 3, 0, 4, 0, 0, 0, 8, 0, 9, 0, 3, 0, 4, 0, 1};
    static struct bytes in, out;
    const uint8_t *c;

    (void)state;
    make(&in, code, sizeof(code), handler, 1, attributes, 3);
    c = rewritten(&in, &both, &out);
    assert_non_null(c);
    assert_int_equal(size_at(c), 17);
    assert_memory_equal(c + 17, want, sizeof(want));
}

static void short_frames_become_long(void **state)
{
    uint8_t code[100] = {0};
    static const uint8_t frames[] = {0, 2, 62, 64 + 30, 1};
    struct class_site site = both;
    struct attribute a = {STACK_MAP, frames, sizeof(frames)};
    static struct bytes in, out;
    const uint8_t *c;

    (void)state;
    code[99] = 0xb1;
    code[70] = 0xb1;
    code[80] = 0xb1;
    code[90] = 0xb1;
    site.leave.push_size = 20; /* of nothing */
    make(&in, code, sizeof(code), NULL, 0, &a, 1);
    c = rewritten(&in, &site, &out);
    assert_non_null(c);
    /* 62 is 66 now, and 93 66 further, with three calls of 23 bytes between */
    assert_memory_equal(c + size_at(c) + 2 + 2 + 6, "\0\2\xfb\0\x42\xf7\0\x63\1", 9);
}

static void what_is_not_understood_is_refused(void **state)
{
    static const uint8_t code[] = {0x00, 0xb1}, stores[] = {0x03, 0x3b, 0xb1}, wide[] = {0xc4, 0x84, 0, 0, 0, 1, 0xb1},
                         cut[] = {0xb1, 0xbb, 0}, unknown[] = {0xcb, 0xb1}, inside[] = {0x11, 0, 0, 0xa7, 0xff, 0xfe};
    static const uint8_t places[] = {0, 1, 0, 1, 0, 9};
    struct attribute strange = {STRANGE, places, sizeof(places)};
    struct class_site loads = {"m", "()V", {0}, {"out", "(I)V", {0x1a}, 1, 1}}, other = {"n", "()V", {0}, both.leave};
    static uint8_t far[32768] = {0xa7, 0x7f, 0xff}; /* goto the end */
    static struct bytes in, out;

    (void)state;
    make(&in, stores, sizeof(stores), NULL, 0, NULL, 0); /* into a variable that the call is given */
    assert_null(rewritten(&in, &loads, &out));
    assert_non_null(rewritten(&in, &both, &out));
    make(&in, wide, sizeof(wide), NULL, 0, NULL, 0);
    assert_null(rewritten(&in, &loads, &out));
    make(&in, code, sizeof(code), NULL, 0, NULL, 0);
    assert_null(rewritten(&in, &other, &out)); /* no such method */
    assert_non_null(rewritten(&in, &loads, &out));
    make(&in, code, sizeof(code), NULL, 0, &strange, 1);
    assert_null(rewritten(&in, &both, &out));
    make(&in, cut, sizeof(cut), NULL, 0, NULL, 0);
    assert_null(rewritten(&in, &both, &out));
    make(&in, unknown, sizeof(unknown), NULL, 0, NULL, 0);
    assert_null(rewritten(&in, &both, &out));
    make(&in, inside, sizeof(inside), NULL, 0, NULL, 0); /* a branch into an instruction */
    assert_null(rewritten(&in, &both, &out));
    far[32767] = 0xb1;
    make(&in, far, sizeof(far), NULL, 0, NULL, 0);
    assert_non_null(rewritten(&in, &both, &out));
    far[3] = 0xb1; /* a call more between the two */
    make(&in, far, sizeof(far), NULL, 0, NULL, 0);
    assert_null(rewritten(&in, &both, &out));
}

/* Cut anywhere: nothing is read behind the end (the copy ends there), nothing is made of it. */
static void half_a_class_is_refused(void **state)
{
    static const uint8_t code[] = {0x00, 0xb1};
    static struct bytes in, out;

    (void)state;
    make(&in, code, sizeof(code), NULL, 0, NULL, 0);
    for (size_t n = 0; n < in.n; n++) {
        uint8_t *part = malloc(n ? n : 1);

        memcpy(part, in.v, n);
        assert_int_equal(class_rewrite(part, n, HELPER, &both, 1, NULL, &scratch, out.v, sizeof(out.v)), 0);
        free(part);
    }
    out.n = class_rewrite(in.v, in.n, HELPER, &both, 1, NULL, &scratch, out.v, sizeof(out.v));
    assert_true(out.n > in.n);
    for (size_t room = 0; room < out.n; room++) {
        uint8_t *to = malloc(room ? room : 1);

        assert_int_equal(class_rewrite(in.v, in.n, HELPER, &both, 1, NULL, &scratch, to, room), 0);
        free(to);
    }
}

static void the_helper_is_a_class(void **state)
{
    static const struct class_call one = {.name = "read", .type = "(I)V"}, two = {.name = "write", .type = "()V"};
    static const struct class_call *const calls[] = {&one, &two};
    static const uint8_t methods[] = {0x00, 0x31, 0, 2, 0, 4, 0, 0, 0, 0, 0, 2,
                                      0x01, 0x09, 0, 5, 0, 6, 0, 0, 0x01, 0x09, 0, 7, 0, 8, 0, 0, 0, 0};
    static struct bytes out;

    (void)state;
    out.n = class_make("helper/Class", calls, 2, out.v, sizeof(out.v));
    assert_true(out.n > sizeof(methods));
    assert_memory_equal(out.v, "\xca\xfe\xba\xbe\0\0\0\x34\0\x09\1\0\x0chelper/Class\7\0\1", 28);
    assert_memory_equal(out.v + out.n - sizeof(methods), methods, sizeof(methods));
    for (size_t room = 0; room < out.n; room++)
        assert_int_equal(class_make("helper/Class", calls, 2, out.v, room), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_go_to_the_entry_and_before_returns),
        cmocka_unit_test(branches_follow),
        cmocka_unit_test(switches_follow),
        cmocka_unit_test(tables_follow),
        cmocka_unit_test(short_frames_become_long),
        cmocka_unit_test(what_is_not_understood_is_refused),
        cmocka_unit_test(half_a_class_is_refused),
        cmocka_unit_test(the_helper_is_a_class),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
