/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a rules file. What is accepted must compile into what rules_valid() accepts, whatever bytes of that
 * are changed must be refused or be harmless to match, its configurations must be usable, and one rule more must be in
 * the file that is written, which must come back when that is removed. The last bytes behind "\n--SUBJECT--\n" are a
 * program: its path, the name that it was executed by and its words, each ended by a newline.
 *
 * Without libFuzzer, compile with -DFUZZ_REPLAY: runs the files that are named.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "rules/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_problem(void *ctx, const struct cfg_problem *p)
{
    bool *fatal = ctx;

    if (!p->file || !p->key || !p->text || strlen(p->text) > 65536)
        abort();
    *fatal |= p->fatal;
}

static uint32_t mode_of(void *ctx, const struct rule *r)
{
    (void)ctx;
    return (uint32_t)(r->line * 5);
}

static void match(const struct rules *r, const struct rules_head *h, const struct rules_subject *s)
{
    uint32_t which[64];
    size_t n = rules_which(h, s, which, 64);
    uint32_t entry = rules_match(h, s);

    if ((n == 0) != (entry == RULES_NONE) || (n && rules_of_entry(h, entry) != which[0]))
        abort();
    for (size_t i = 0; i < n && i < 64; i++)
        if (which[i] >= r->count || r->rule[which[i]].kind != RULES_ALLOW || (i && which[i] <= which[i - 1]))
            abort();
}

static void configure(const struct rules *r)
{
    struct config_sources *c = config_sources_new();
    bool fatal = false;

    rules_configure(r, c, use_problem, &fatal);
    config_add_environ(c, NULL, NULL, NULL);
    for (size_t i = 0; i < r->count && i < 2; i++)
        if (r->rule[i].kind == RULES_ALLOW)
            config_free(rules_config(r, c, &r->rule[i]));
    config_sources_free(c);
}

/* A copy of what would be mapped with a few bytes changed. */
static void damage(const struct rules_head *h, size_t size, const struct rules_subject *s, const uint8_t *data,
                   size_t len)
{
    uint8_t *copy = xmemdup(h, size);

    for (size_t i = 0; i + 2 < len && i < 12; i += 3)
        copy[(data[i] | (size_t)data[i + 1] << 8) % size] = data[i + 2];
    if (rules_valid((const struct rules_head *)(void *)copy, size))
        rules_match((const struct rules_head *)(void *)copy, s);
    free(copy);
}

/* One rule more, and away again: what the file says is as before. What can't be edited is left alone. */
static void edit(const uint8_t *text, size_t len, const struct buf *json)
{
    static char path[64];
    const struct rule mine = {.kind = RULES_ALLOW, .procname = (char *)"mine", .sourceid = (char *)"of the fuzzer",
                              .config = (char *)"# why\ntags:\n  a: |\n    b\n\n"};
    struct buf again = BUF_INIT;
    struct rules r;
    FILE *f;
    int rc;

    snprintf(path, sizeof(path), "/tmp/scope-fuzz-rules-%ld.yml", (long)getpid());
    f = fopen(path, "w");
    if (!f)
        return;
    fwrite(text, 1, len, f);
    fclose(f);
    if (rules_add(path, &mine, NULL, NULL) == 0) {
        rc = rules_remove(path, &mine, NULL, NULL);
        if (rc == 0 && rules_read(path, &r, NULL, NULL) == 0) {
            rules_json(&r, &again);
            if (again.len != json->len || memcmp(again.p, json->p, json->len) != 0)
                abort();
            rules_free(&r);
        } else if (rc != -EINVAL) {
            abort();
        }
    }
    unlink(path);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "\n--SUBJECT--\n";
    const uint8_t *at = memmem(data, size, mark, sizeof(mark) - 1);
    size_t len = at ? (size_t)(at - data) : size, rest = at ? size - len - (sizeof(mark) - 1) : 0;
    char *words = at ? xstrndup((const char *)at + sizeof(mark) - 1, rest) : xstrdup("/bin/a\na\n-x\n"), *end,
         *execfn = words;
    struct rules_subject s = {.exe = words};
    struct rules_head *h;
    bool fatal = false;
    struct rules r;

    for (end = words; *end; end++)
        if (*end == '\n')
            *end = '\0';
    execfn += strlen(words) < (size_t)(end - words) ? strlen(words) + 1 : strlen(words);
    s.execfn = execfn;
    s.args = execfn + (execfn < end && strlen(execfn) < (size_t)(end - execfn) ? strlen(execfn) + 1 : strlen(execfn));
    s.args_len = (size_t)(end - s.args);
    if (rules_parse("input", (const char *)data, len, &r, use_problem, &fatal) == 0) {
        struct buf json = BUF_INIT;
        size_t h_size;

        if (fatal)
            abort();
        h = rules_compile(&r, 3, "/plans", mode_of, NULL, &h_size);
        if (!h || !rules_valid(h, h_size))
            abort();
        match(&r, h, &s);
        s.spared = true;
        match(&r, h, &s);
        damage(h, h_size, &s, data, size);
        configure(&r);
        rules_json(&r, &json);
        if (len % 4 == 0) /* it takes most of the time */
            edit(data, len, &json);
        buf_free(&json);
        free(h);
        rules_free(&r);
    } else if (!fatal || r.rule) {
        abort();
    }
    free(words);
    return 0;
}

#ifdef FUZZ_REPLAY
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        static uint8_t data[1 << 20];
        size_t n;

        if (!f) {
            perror(argv[i]);
            return 1;
        }
        n = fread(data, 1, sizeof(data), f);
        fclose(f);
        LLVMFuzzerTestOneInput(data, n);
    }
    return 0;
}
#endif
