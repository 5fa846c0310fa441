/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of a whole host: reading, editing, compiling, matching, configurations. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rules/rules.h"
#include "rules/spare.h"
#include "wire/segment.h"

/* What fsync(2) is asked for, in place of the C library's. */
static unsigned synced_files, synced_directories;
static bool sync_fails;

int fsync(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    if (S_ISDIR(st.st_mode))
        synced_directories++;
    else
        synced_files++;
    errno = EIO;
    return sync_fails && !S_ISDIR(st.st_mode) ? -1 : 0;
}

struct told {
    struct buf b;
    unsigned fatal;
};

static void note(void *ctx, const struct cfg_problem *p)
{
    struct told *t = ctx;

    assert_non_null(p->file);
    assert_non_null(p->key);
    buf_printf(&t->b, "%s:%u: %s: %s%s\n", p->file, p->line, p->key, p->text, p->fatal ? "" : " (remark)");
    t->fatal += p->fatal;
}

static struct rules parsed(const char *text)
{
    struct told t = {.b = BUF_INIT};
    struct rules r;
    int rc = rules_parse("rules.yml", text, strlen(text), &r, note, &t);

    if (rc)
        print_error("%s", buf_cstr(&t.b));
    assert_int_equal(rc, 0);
    buf_free(&t.b);
    return r;
}

/* Every line of wanted occurs in what is told, and the file is refused. */
static void refused(const char *text, const char *wanted)
{
    struct told t = {.b = BUF_INIT};
    struct rules r;
    int rc = rules_parse("rules.yml", text, strlen(text), &r, note, &t);

    if (rc != -EINVAL || !strstr(buf_cstr(&t.b), wanted))
        fail_msg("%d\n%s\nwanted: %s", rc, buf_cstr(&t.b), wanted);
    assert_true(t.fatal > 0);
    assert_int_equal(r.count, 0);
    assert_null(r.rule);
    buf_free(&t.b);
}

/* --- reading --- */

static void test_reads_what_1_4_reads(void **state)
{
    struct rules r = parsed("# all of it\n"
                            "allow:\n"
                            "- procname: nginx\n"
                            "  arg: --port 80\n"
                            "  sourceid: whatever\n"
                            "  config:\n"
                            "    metric:\n"
                            "      enable: false\n"
                            "- arg: _MatchAll_\n"
                            "  procname: redis-server\n"
                            "- procname: _MatchAll_\n"
                            "deny:\n"
                            "- procname: sshd\n"
                            "  arg: foo\n"
                            "source:\n"
                            "  unixSocketPath: /var/run/appscope/appscope.sock\n"
                            "  authToken: abc\n"
                            "sessions: {maxsize: 2GiB, days: 3}\n");

    (void)state;
    assert_int_equal(r.count, 4);
    assert_int_equal(r.rule[0].kind, RULES_ALLOW);
    assert_string_equal(r.rule[0].procname, "nginx");
    assert_string_equal(r.rule[0].arg, "--port 80");
    assert_string_equal(r.rule[0].sourceid, "whatever");
    assert_non_null(r.rule[0].config);
    assert_int_equal(r.rule[0].line, 3);
    assert_string_equal(r.rule[1].procname, "redis-server");
    assert_null(r.rule[1].arg);
    assert_null(r.rule[2].procname);
    assert_null(r.rule[2].arg);
    assert_int_equal(r.rule[3].kind, RULES_DENY);
    assert_string_equal(r.rule[3].procname, "sshd");
    assert_string_equal(r.unix_socket_path, "/var/run/appscope/appscope.sock");
    assert_string_equal(r.auth_token, "abc");
    assert_int_equal(r.sessions_maxsize, UINT64_C(2) << 30);
    assert_int_equal(r.sessions_days, 3);
    rules_free(&r);
}

static void test_nothing_is_no_rules(void **state)
{
    static const char *const texts[] = {"", "\n", "# nothing\n", "---\n", "~\n", "{}\n", "allow:\n", "allow: []\ndeny: ~\n",
                                        "\xef\xbb\xbf# a byte order mark\r\nallow:\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct rules r = parsed(texts[i]);

        assert_int_equal(r.count, 0);
        rules_free(&r);
    }
}

static void test_names_mistakes_by_line(void **state)
{
    (void)state;
    refused("- procname: a\n", "rules.yml:1: : has a list; expected a map with allow");
    refused("allow:\n  procname: a\n", "rules.yml:2: allow: has a map; expected a list of rules");
    refused("allow:\n- nginx\n", "rules.yml:2: allow[0]: has a single value; expected a map");
    refused("allow:\n- sourceid: x\n", "rules.yml:2: allow[0]: names no program");
    refused("allow:\n- procname: a\n- procname:\n", "rules.yml:3: allow[1]: names no program");
    refused("allow:\n- procname: ''\n", "rules.yml:2: allow[0].procname: is empty; _MatchAll_ stands for any");
    refused("allow:\n- procname: /usr/sbin/nginx\n", "rules.yml:2: allow[0].procname: \"/usr/sbin/nginx\": expected the program's name without its directories, such as nginx");
    refused("allow:\n- procname: [a]\n", "rules.yml:2: allow[0].procname: has a list; expected a text");
    refused("allow:\n- procname: a\n  procname: b\n", "rules.yml:3: allow[0]: \"procname\" is given twice, in line 2, too");
    refused("allow:\n- procname: a\nallow:\n- procname: b\n", "rules.yml:3: : \"allow\" is given twice");
    refused("allow:\n- procname: \"a\\0b\"\n", "rules.yml:2: allow[0].procname: has a NUL byte");
    refused("allow:\n- procname: a\n---\nallow:\n", "more than one YAML document");
    refused("allow: [\n- procname: a\n", "not YAML");
    refused("allow:\n- procname: a\n  config: yes\n", "rules.yml:3: allow[0].config: has a single value; expected a map");
    refused("allow:\n- procname: a\n  config:\n    metric:\n      format:\n        verbosity: 99x\n",
            "rules.yml:6: allow[0].config.metric.format.verbosity:");
    refused("allow:\n- procname: a\n  config:\n    metric: {enable: true}\n\n    metric: {}\n",
            "rules.yml:6: allow[0].config: \"metric\" is given twice; the one in line 4");
    refused("allow:\n- procname: a\n  config:\n    event:\n      transport:\n        type: tcp\n        host: ''\n",
            "allow[0].config.event.transport.host: is needed");
    refused("sessions: {maxsize: 12, days: 0}\n", "rules.yml:1: sessions.maxsize: \"12\": expected a size");
    refused("sessions: {days: 99999999999}\n", "rules.yml:1: sessions.days:");
    refused("sessions: {maxsize: 99999999999999T}\n", "rules.yml:1: sessions.maxsize:");
    refused("sessions: 4GiB\n", "rules.yml:1: sessions: has a single value; expected a map of keys");
    refused("? [a]\n: b\n", "rules.yml:1: : has a list where the name of a key is expected");
    refused("allow: &a\n- procname: x\n  config: *a\n", "an alias refers to a node that contains it");
}

static void test_unknown_keys_are_remarks(void **state)
{
    static const char text[] = "alow: []\nallow:\n- procname: a\n  comment: x\nsource: {unixsocketpath: /x}\n"
                               "sessions: {size: 3}\ndeny:\n- procname: b\n  config: {}\n";
    struct told t = {.b = BUF_INIT};
    struct rules r;

    (void)state;
    assert_int_equal(rules_parse("rules.yml", text, strlen(text), &r, note, &t), 0);
    assert_int_equal(r.count, 2);
    assert_int_equal(t.fatal, 0);
    assert_non_null(strstr(buf_cstr(&t.b), "rules.yml:1: alow: unknown key; expected allow"));
    assert_non_null(strstr(buf_cstr(&t.b), "rules.yml:4: allow[0].comment: unknown key"));
    assert_non_null(strstr(buf_cstr(&t.b), "rules.yml:5: source.unixsocketpath: unknown key"));
    assert_non_null(strstr(buf_cstr(&t.b), "rules.yml:6: sessions.size: unknown key"));
    assert_non_null(strstr(buf_cstr(&t.b), "rules.yml:9: deny[0].config: has no effect"));
    rules_free(&r);
    buf_free(&t.b);
}

/* --- what becomes of them --- */

static uint32_t no_mode(void *ctx, const struct rule *r)
{
    (void)ctx;
    (void)r;
    return SEG_M_ON;
}

static struct rules_head *compiled(const struct rules *r)
{
    size_t size;
    struct rules_head *h = rules_compile(r, 7, "/plans", no_mode, NULL, &size);

    assert_non_null(h);
    assert_true(rules_valid(h, size));
    assert_int_equal(h->generation, 7);
    assert_string_equal((char *)h + h->socket, HOST_SOCKET);
    assert_string_equal((char *)h + h->plans, "/plans");
    return h;
}

/* The numbers of the rules that apply, as text; args: words with blanks between them. */
static const char *which(const struct rules_head *h, const char *exe, const char *execfn, const char *args, bool spared)
{
    static char out[256];
    char words[256];
    struct rules_subject s = {.exe = exe, .execfn = execfn, .args = words, .args_len = strlen(args) + 1, .spared = spared};
    uint32_t list[16], entry;
    size_t n;

    for (size_t i = 0; i <= strlen(args); i++)
        words[i] = (char)(args[i] == ' ' ? 0 : args[i]);
    entry = rules_match(h, &s);
    n = rules_which(h, &s, list, 16);
    assert_int_equal(n == 0, entry == RULES_NONE);
    if (n)
        assert_int_equal(rules_of_entry(h, entry), list[0]);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        sprintf(out + strlen(out), "%s%u", i ? " " : "", list[i]);
    return out;
}

static void test_and_within_or_across(void **state)
{
    struct rules r = parsed("allow:\n"
                            "- {procname: nginx, arg: --port 80}\n"
                            "- {procname: java}\n"
                            "- {arg: myServer}\n"
                            "- {procname: java, arg: other}\n"
                            "deny:\n"
                            "- {procname: java, arg: denied}\n");
    struct rules_head *h = compiled(&r);

    (void)state;
    assert_string_equal(which(h, "/usr/sbin/nginx", NULL, "nginx --port 80", false), "0");
    assert_string_equal(which(h, "/usr/sbin/nginx", NULL, "nginx --port 8", false), "");
    assert_string_equal(which(h, "/usr/sbin/nginx2", NULL, "nginx --port 80", false), "");
    assert_string_equal(which(h, "/usr/bin/java", NULL, "java -jar x", false), "1");
    assert_string_equal(which(h, "/usr/bin/java", NULL, "java -jar myServer other", false), "1 2 3");
    assert_string_equal(which(h, "/usr/bin/java", NULL, "java -jar myServer denied", false), "");
    assert_string_equal(which(h, "/bin/dash", "./java", "./java x", false), "1");
    assert_string_equal(which(h, "/bin/dash", "./run", "sh myServer", false), "2");
    assert_string_equal(which(h, NULL, NULL, "", false), "");
    free(h);
    rules_free(&r);
}

static void test_all_is_not_what_the_host_needs(void **state)
{
    struct rules r = parsed("allow:\n- procname: _MatchAll_\n- procname: dbus-daemon\n  arg: --session\n");
    struct rules_head *h = compiled(&r);

    (void)state;
    assert_string_equal(which(h, "/usr/sbin/nginx", NULL, "nginx", false), "0");
    assert_string_equal(which(h, "/usr/sbin/nginx", NULL, "nginx", true), "");
    assert_string_equal(which(h, "/usr/lib/systemd/systemd", "/sbin/init", "/sbin/init", false), "");
    assert_string_equal(which(h, "/usr/lib/systemd/systemd-resolved", NULL, "x", false), "");
    assert_string_equal(which(h, "/usr/bin/python3.11", "/usr/bin/networkd-dispatcher", "x", false), "");
    assert_string_equal(which(h, "/usr/bin/systemd*", NULL, "x", false), "0");
    assert_string_equal(which(h, "/usr/bin/dbus-daemon", NULL, "dbus-daemon --system", false), "");
    assert_string_equal(which(h, "/usr/bin/dbus-daemon", NULL, "dbus-daemon --session", false), "1");
    assert_string_equal(which(h, "/usr/bin/dbus-daemon", NULL, "dbus-daemon --session", true), "1");
    assert_string_equal(which(h, "/opt/bin/scope", NULL, "scope collector", false), "");
    free(h);
    rules_free(&r);
}

/* What docs/host.md says, word by word: numbers of the rules that apply, into a list. */
static size_t naive(const struct rules *r, const char *exe, const char *execfn, const char *line, bool spared, uint32_t *ret)
{
    const char *names[2] = {exe ? (strrchr(exe, '/') ? strrchr(exe, '/') + 1 : exe) : "",
                            execfn ? (strrchr(execfn, '/') ? strrchr(execfn, '/') + 1 : execfn) : ""};
    size_t n = 0;

    for (const char *const *p = rules_spare; *p; p++) {
        size_t len = strlen(*p);

        for (int i = 0; i < 2; i++)
            if ((*p)[len - 1] == '*' ? !strncmp(names[i], *p, len - 1) : !strcmp(names[i], *p))
                spared = true;
    }
    for (size_t i = 0; i < r->count; i++) {
        const struct rule *rule = &r->rule[i];
        bool name = rule->procname ? !strcmp(rule->procname, names[0]) || !strcmp(rule->procname, names[1])
                                   : rule->kind == RULES_DENY || !spared;

        if (!name || (rule->arg && !strstr(line, rule->arg)))
            continue;
        if (rule->kind == RULES_DENY)
            return 0;
        ret[n++] = (uint32_t)i;
    }
    return n;
}

static const char *one_of(const char *const *list, size_t n)
{
    return list[(size_t)rand() % n];
}
#define ONE_OF(list) one_of(list, sizeof(list) / sizeof(*(list)))

static void test_agrees_with_a_naive_matcher(void **state)
{
    static const char *const names[] = {"a", "ab", "abc", "b", "systemd", "systemd-x", "scope", "gdm*", "_MatchAll_"},
                            *const args[] = {"-x", "x y", "y", "-x x", " ", "_MatchAll_", "_MatchAll_", "_MatchAll_"},
                            *const exes[] = {"/bin/a", "/usr/bin/ab", "abc", "/b", "/lib/systemd", "/lib/systemd-x", "/gdm", "/x/", "",
                                             NULL},
                            *const words[] = {"a", "-x", "x", "y", ""};
    unsigned matched = 0;

    (void)state;
    srand(1);
    for (int round = 0; round < 400; round++) {
        struct buf text = BUF_INIT;
        struct rules_head *h;
        struct rules r;

        for (int kind = 0; kind < 2; kind++) {
            buf_printf(&text, "%s:\n", kind ? "deny" : "allow");
            for (int n = rand() % (kind ? 3 : 6); n > 0; n--)
                buf_printf(&text, "- {procname: \"%s\", arg: \"%s\"}\n", ONE_OF(names), ONE_OF(args));
        }
        r = parsed(buf_cstr(&text));
        h = compiled(&r);
        for (int i = 0; i < 50; i++) {
            char line[64] = "", raw[64];
            struct rules_subject s = {.exe = ONE_OF(exes), .execfn = ONE_OF(exes), .args = raw, .spared = rand() % 8 == 0};
            uint32_t got[16] = {0}, want[16] = {0};
            size_t n, m;

            for (int k = rand() % 5; k > 0; k--) {
                const char *word = ONE_OF(words);

                memcpy(raw + s.args_len, word, strlen(word) + 1);
                s.args_len += strlen(word) + 1;
                strcat(strcat(line, *line || s.args_len > strlen(word) + 1 ? " " : ""), word);
            }
            for (n = strlen(line); s.args_len && n && line[n - 1] == ' '; n--)
                line[n - 1] = '\0'; /* empty words at the end are none */
            n = rules_which(h, &s, got, 16);
            m = naive(&r, s.exe, s.execfn, line, s.spared, want);
            if (n != m || memcmp(got, want, sizeof(got)) != 0 || (n == 0) != (rules_match(h, &s) == RULES_NONE) ||
                (n && rules_of_entry(h, rules_match(h, &s)) != got[0]))
                fail_msg("%s%s %s [%s]: %zu, %zu", buf_cstr(&text), s.exe, s.execfn, line, n, m);
            matched += n > 0;
        }
        free(h);
        rules_free(&r);
        buf_free(&text);
    }
    assert_true(matched > 1000);
}

static uint32_t traffic_of_b(void *ctx, const struct rule *r)
{
    (void)ctx;
    return SEG_M_ON | (r->procname && !strcmp(r->procname, "b") ? SEG_M_TRAFFIC : 0);
}

/* A program of two rules starts with the TLS hooks that either of them asks for. */
static void test_mode_has_what_any_rule_asks_for(void **state)
{
    struct rules r = parsed("allow:\n- arg: x\n- procname: a\n- procname: b\n- {procname: b, arg: y}\ndeny:\n- procname: b\n");
    size_t size;
    struct rules_head *h = rules_compile(&r, 1, NULL, traffic_of_b, NULL, &size);
    const struct rules_entry *e = (const void *)(h + 1);

    (void)state;
    assert_true(rules_valid(h, size));
    assert_int_equal(h->plans, 0);
    e += rules_spare_count();
    assert_int_equal(e[0].mode, SEG_M_ON | SEG_M_TRAFFIC);
    assert_int_equal(e[1].mode, SEG_M_ON);
    assert_int_equal(e[2].mode, SEG_M_ON | SEG_M_TRAFFIC);
    assert_int_equal(e[3].mode, SEG_M_ON | SEG_M_TRAFFIC);
    assert_int_equal(e[4].mode, 0);
    free(h);
    rules_free(&r);
}

/* --- hostile files --- */

static void refused_bytes(char *text, size_t len, const char *wanted)
{
    struct told t = {.b = BUF_INIT};
    struct rules r;
    int rc = rules_parse("rules.yml", text, len, &r, note, &t);

    if (rc != -EINVAL || !strstr(buf_cstr(&t.b), wanted))
        fail_msg("%d\n%.2000s\nwanted: %s", rc, buf_cstr(&t.b), wanted);
    assert_true(t.b.len < 300000);
    buf_free(&t.b);
    free(text);
}

static char *many(const char *before, const char *what, size_t times, const char *after)
{
    struct buf b = BUF_INIT;

    buf_str(&b, before);
    for (size_t i = 0; i < times; i++)
        buf_str(&b, what);
    buf_str(&b, after);
    return buf_cstr(&b);
}

static void test_bounds(void **state)
{
    struct buf b = BUF_INIT;
    struct rules r;
    size_t size, fit = RULES_MAX - rules_spare_count();
    void *h;
    char *text;

    (void)state;
    text = many("allow:\n", "- procname: a\n", 750000, ""); /* 10 MB */
    refused_bytes(text, strlen(text), "larger than 1 MiB");
    text = many("allow: ", "[", 5000, "");
    refused_bytes(text, strlen(text), "nested more than 32 levels deep");
    text = many("allow:\n- procname: a\n  config: ", "{tags: ", 500, "");
    refused_bytes(text, strlen(text), "nested more than 32 levels deep");
    text = many("allow:\n- &a {procname: \"", "x", 250, "\", arg: ");
    buf_str(&b, text);
    free(text);
    for (int i = 0; i < 60000; i++)
        buf_char(&b, 'y');
    buf_str(&b, "}\n");
    for (int i = 0; i < 2000; i++)
        buf_str(&b, "- *a\n");
    refused_bytes(buf_cstr(&b), b.len, "rules.yml:");
    b = (struct buf)BUF_INIT;
    buf_str(&b, "x: &x0 [a, a, a, a, a, a, a, a, a]\n"); /* a bomb */
    for (int i = 0; i < 9; i++)
        buf_printf(&b, "x%d: &x%d [*x%d, *x%d, *x%d, *x%d, *x%d, *x%d, *x%d]\n", i, i + 1, i, i, i, i, i, i, i);
    buf_str(&b, "allow: *x9\n");
    refused_bytes(buf_cstr(&b), b.len, "aliases count with what they stand for");
    b = (struct buf)BUF_INIT;
    for (int i = 0; i < 4096; i++)
        buf_char(&b, (char)(i * 167 + i / 256));
    refused_bytes(buf_cstr(&b), b.len, "not YAML");
    text = many("allow:\n", "- {arg: x}\n", fit + 1, "");
    refused_bytes(text, strlen(text), "rules; one without an arg");
    text = many("allow:\n", "- {procnam: x}\n", 500, ""); /* not a message for each */
    refused_bytes(text, strlen(text), "may be, more problems");
    text = many("allow:\n", "- {procname: x, y: z}\n", 500, ""); /* but remarks cut nothing off */
    r = parsed(text);
    assert_int_equal(r.count, 500);
    rules_free(&r);
    free(text);

    /* as many as possible; texts that are shared by an alias make more of the file than it is long */
    text = many("allow:\n", "- {arg: x, procname: y}\n", fit, "");
    r = parsed(text);
    assert_int_equal(r.count, fit);
    free(compiled(&r));
    rules_free(&r);
    free(text);
    b = (struct buf)BUF_INIT;
    buf_str(&b, "x: &x ");
    for (int i = 0; i < 4096; i++)
        buf_char(&b, 'y');
    buf_str(&b, "\nallow:\n");
    for (int i = 0; i < 300; i++)
        buf_str(&b, "- {arg: *x}\n");
    refused_bytes(buf_cstr(&b), b.len, "the names and arguments of all rules take");

    /* rules_compile() knows its bound itself, too */
    r = (struct rules){.rule = xcalloc(2, sizeof(struct rule)), .count = 1};
    r.rule[0].kind = RULES_ALLOW;
    r.rule[0].arg = many("", "z", RULES_SIZE_MAX, "");
    h = rules_compile(&r, 1, NULL, no_mode, NULL, &size);
    assert_null(h);
    rules_free(&r);
}

/* Lines in messages are right however long the file is, and configurations don't grow with it. */
static void test_long_files_stay_small(void **state)
{
    char *text = many("allow:\n- procname: a\n  config: &c\n    tags: {a: b}\n", "\n", 100000, "    event: {enable: true}\n");
    struct buf b = BUF_INIT;
    struct rules r;
    size_t total = 0;

    (void)state;
    buf_str(&b, text);
    for (int i = 0; i < 1000; i++)
        buf_str(&b, "- {procname: b, config: *c}\n");
    r = parsed(buf_cstr(&b));
    for (size_t i = 0; i < r.count; i++)
        total += strlen(r.rule[i].config);
    assert_true(total < 400000);
    rules_free(&r);
    buf_str(&b, "- procname: c\n  config:\n    event: {enabel: true}\n");
    refused(buf_cstr(&b), "rules.yml:101008: allow[1001].config.event.enabel: unknown key");
    free(text);
    buf_free(&b);
}

static void test_json(void **state)
{
    struct rules r = parsed("allow:\n"
                            "- procname: a\n"
                            "  arg: \"x\\ty\"\n"
                            "  sourceid: s\n"
                            "  config:\n"
                            "    metric: {enable: false, format: {verbosity: 4, statsdprefix: '5'}}\n"
                            "    cribl: {authtoken: secret}\n"
                            "    otlp: {headers: {k: secret}, endpoint: 'https://h/?secret'}\n"
                            "    event: {watch: [{type: http, headers: [a]}]}\n"
                            "    tags: {n: 007, e: 1.5, f: '1.5', z: ~}\n"
                            "- procname: _MatchAll_\n"
                            "deny: [{procname: d}]\n"
                            "source: {unixSocketPath: /s, authToken: secret}\n"
                            "sessions: {maxsize: 4GiB, days: 7}\n");
    struct buf b = BUF_INIT;

    (void)state;
    rules_json(&r, &b);
    assert_string_equal(
        buf_cstr(&b),
        "{\"allow\":[{\"procname\":\"a\",\"arg\":\"x\\ty\",\"sourceid\":\"s\",\"config\":{\"metric\":{\"enable\":false,"
        "\"format\":{\"verbosity\":4,\"statsdprefix\":\"5\"}},\"cribl\":{\"authtoken\":\"***\"},\"otlp\":{\"headers\":"
        "{\"k\":\"***\"},\"endpoint\":\"https://h/?***\"},\"event\":{\"watch\":[{\"type\":\"http\",\"headers\":[\"a\"]}]},"
        "\"tags\":{\"n\":\"007\",\"e\":1.5,\"f\":\"1.5\",\"z\":null}}},{\"procname\":\"_MatchAll_\"}],\"deny\":["
        "{\"procname\":\"d\"}],\"source\":{\"UnixSocketPath\":\"/s\",\"AuthToken\":\"***\"},\"sessions\":{\"maxsize\":4294967296,"
        "\"days\":7}}");
    buf_free(&b);
    rules_free(&r);
}

/* --- editing --- */

static char *write_rules(const char *text)
{
    char *path = xasprintf("/tmp/scope-rules-%ld/rules.yml", (long)getpid());
    char *dir = xstrndup(path, strlen(path) - strlen("/rules.yml"));
    FILE *f;

    unlink(path);
    rmdir(dir);
    if (text) {
        assert_int_equal(mkdir(dir, 0755), 0);
        f = fopen(path, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
        chmod(path, 0640);
    }
    free(dir);
    return path;
}

static void file_says(const char *path, const char *wanted)
{
    char text[65536];
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    assert_string_equal(text, wanted);
}

static void clear(char *path)
{
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    free(path);
}

static void edits(int (*how)(const char *, const struct rule *, cfg_problem_fn, void *), const struct rule *r,
                  const char *before, int wanted, const char *after)
{
    char *path = write_rules(before);
    struct told t = {.b = BUF_INIT};
    struct stat st;
    int rc = how(path, r, note, &t);

    if (rc != wanted)
        fail_msg("%d, wanted %d\n%s\n%s", rc, wanted, before, buf_cstr(&t.b));
    file_says(path, after ? after : before);
    assert_int_equal(stat(path, &st), 0);
    /* What has a secret in it is its owner's alone once it has been written. */
    assert_int_equal(st.st_mode & 07777, rc == 0 && after && strstr(after, "authToken") ? 0600 : 0640);
    clear(path);
    buf_free(&t.b);
}

static struct rule rule_of(const char *procname, const char *arg, const char *sourceid, const char *config)
{
    return (struct rule){RULES_ALLOW, (char *)procname, (char *)arg, (char *)sourceid, (char *)config, 0, 0};
}

static void test_adds_where_people_would(void **state)
{
    const struct rule a = rule_of("a", NULL, NULL, NULL), b = rule_of("b b", "-x: 1", "id", "# why\nmetric:\n  enable: no\n"),
                      any = rule_of(NULL, NULL, NULL, NULL);

    (void)state;
    edits(rules_add, &a, "", 0, "# Programs of this host that AppScope observes, and how. `scope rules` shows what comes of it,\n"
                                "# `scope rules --add` and `--remove` change it; docs/host.md has the format.\n"
                                "allow:\n- procname: a\n");
    edits(rules_add, &a, "# mine\n---\n", 0, "# mine\n---\nallow:\n- procname: a\n");
    edits(rules_add, &a, "x: 1\n# end", 0, "x: 1\n# end\nallow:\n- procname: a\n");
    edits(rules_add, &a, "x: 1\n...\n", 0, "x: 1\nallow:\n- procname: a\n...\n");
    edits(rules_add, &a, "allow:\ndeny:\n- procname: z\n", 0, "allow:\n- procname: a\ndeny:\n- procname: z\n");
    edits(rules_add, &a, "allow: # none\n\n# x\ndeny: []\n", 0, "allow: # none\n- procname: a\n\n# x\ndeny: []\n");
    edits(rules_add, &a, "allow: []   # none\ndeny:\n", 0, "allow:    # none\n- procname: a\ndeny:\n");
    edits(rules_add, &a, "allow: ~", 0, "allow: \n- procname: a\n");
    edits(rules_add, &any, "allow:\n  # first\n  - procname: z # z\n  # last\n\ndeny:\n  - procname: q\n", 0,
          "allow:\n  # first\n  - procname: z # z\n  - procname: _MatchAll_\n  # last\n\ndeny:\n  - procname: q\n");
    edits(rules_add, &b, "deny:\n- procname: q\nallow:\n- arg: z\n  unknown: [1, 2]", 0,
          "deny:\n- procname: q\nallow:\n- arg: z\n  unknown: [1, 2]\n- procname: \"b b\"\n  arg: \"-x: 1\"\n  sourceid: id\n"
          "  config:\n    # why\n    metric:\n      enable: no\n");
    edits(rules_add, &a, "allow: [{procname: z}]\n", 0, "allow: [{procname: z}, {\"procname\": \"a\"}]\n");
    edits(rules_add, &b, "{\"deny\": [], }\n", 0,
          "{\"deny\": [],\"allow\": [{\"procname\": \"b b\", \"arg\": \"-x: 1\", \"sourceid\": \"id\", "
          "\"config\": {\"metric\" : {\"enable\" : no}}}] }\n");
    edits(rules_add, &a, "{}", 0, "{\"allow\": [{\"procname\": \"a\"}]}");
    edits(rules_add, &a, "allow:\r\n- procname: z\r\n# \xc3\xa4\r\ndeny:\r\n", 0,
          "allow:\r\n- procname: z\r\n- procname: a\r\n# \xc3\xa4\r\ndeny:\r\n");
    edits(rules_add, &a, "\xef\xbb\xbf# \xe2\x82\xac\nallow:\n- procname: \xc3\xa4\nx: 1\n", 0,
          "\xef\xbb\xbf# \xe2\x82\xac\nallow:\n- procname: \xc3\xa4\n- procname: a\nx: 1\n");
    edits(rules_add, &a, "allow:\n- procname: z\n  config:\n    tags:\n      t: |\n        x\n\ndeny:\n", 0,
          "allow:\n- procname: z\n  config:\n    tags:\n      t: |\n        x\n\n- procname: a\ndeny:\n");
}

static void test_replaces_configurations(void **state)
{
    const struct rule none = rule_of("a", NULL, NULL, NULL), one = rule_of("a", NULL, NULL, "metric:\n  enable: false\n"),
                      odd = rule_of("a", NULL, NULL, "tags:\n  t: 'x\n\n   y'\n---\nother: document\n"),
                      empty = rule_of("a", NULL, NULL, "# nothing\n");

    (void)state;
    edits(rules_add, &one, "allow:\n- procname: a\n  more: 1 # m\n- procname: b\n", -EEXIST,
          "allow:\n- procname: a\n  more: 1 # m\n  config:\n    metric:\n      enable: false\n- procname: b\n");
    edits(rules_add, &one, "allow:\n- procname: a\n  config:\n    event:\n      enable: false\n  more: 1\n", -EEXIST,
          "allow:\n- procname: a\n  config:\n    metric:\n      enable: false\n  more: 1\n");
    edits(rules_add, &one, "allow:\n- procname: a\n  config:\n  more: 1\n", -EEXIST,
          "allow:\n- procname: a\n  config:\n    metric:\n      enable: false\n  more: 1\n");
    edits(rules_add, &one, "allow:\n- config: {} # c\n  procname: a\n", -EEXIST,
          "allow:\n- config:\n    metric:\n      enable: false # c\n  procname: a\n");
    edits(rules_add, &none, "allow:\n- procname: a\n  config: {event: {enable: no}}\n  more: 1\n", -EEXIST,
          "allow:\n- procname: a\n  more: 1\n");
    edits(rules_add, &empty, "allow:\n- config: {event: {enable: no}}\n  procname: a\n", -EEXIST, "allow:\n- procname: a\n");
    edits(rules_add, &none, "allow:\n- procname: a\n", -EEXIST, NULL);
    edits(rules_add, &one, "allow: [{procname: a}, {procname: b}]\n", -EEXIST,
          "allow: [{procname: a, \"config\": {\"metric\" : {\"enable\" : false}}}, {procname: b}]\n");
    edits(rules_add, &none, "allow: [{procname: a, config: {event: {}}}]\n", -EEXIST, "allow: [{procname: a, config: ~}]\n");
    edits(rules_add, &odd, "allow:\n- procname: a\n", -EEXIST,
          "allow:\n- procname: a\n  config: {\"tags\" : {\"t\" : \"x\\x0ay\"}}\n");
}

static void test_removes_only_that(void **state)
{
    const struct rule a = rule_of("a", NULL, NULL, NULL), b = rule_of("b", "x", "s", NULL),
                      deny = {.kind = RULES_DENY, .procname = (char *)"a"};

    (void)state;
    edits(rules_remove, &a, "allow:\n# first\n- procname: a # a\n  more: 1\n\n# second\n- procname: b\n", 0,
          "allow:\n# first\n\n# second\n- procname: b\n");
    edits(rules_remove, &a, "allow:\n  - arg: z\n  -\n    procname: a\n    config:\n      tags: {x: y}\n# end\ndeny:\n  - procname: a\n", 0,
          "allow:\n  - arg: z\n# end\ndeny:\n  - procname: a\n");
    edits(rules_remove, &deny, "allow:\n- procname: a\ndeny:\n- procname: a\n", 0, "allow:\n- procname: a\ndeny:\n");
    edits(rules_remove, &b, "allow:\n- procname: b\n- {procname: b, arg: x, sourceid: s}\n- procname: b\n  arg: x\n", 0,
          "allow:\n- procname: b\n- procname: b\n  arg: x\n");
    edits(rules_remove, &a, "{\"allow\": [{\"procname\": \"z\"}, {\"procname\": \"a\"}]}", 0, "{\"allow\": [{\"procname\": \"z\"}]}");
    edits(rules_remove, &a, "{\"allow\": [{\"procname\": \"a\"}, {\"procname\": \"z\"}]}", 0, "{\"allow\": [{\"procname\": \"z\"}]}");
    edits(rules_remove, &a, "allow: [{procname: a}]\n", 0, "allow: []\n");
    /* the last of those that are equal */
    edits(rules_remove, &a, "allow:\n- {procname: a, x: 1}\n- {procname: a, x: 2}\n", 0, "allow:\n- {procname: a, x: 1}\n");
    edits(rules_remove, &a, "allow:\n- procname: b\n", -ENOENT, NULL);
    edits(rules_remove, &b, "", -ENOENT, NULL);
}

static void test_leaves_alone_what_it_cant_change(void **state)
{
    const struct rule a = rule_of("a", NULL, NULL, NULL), bad = rule_of("a", NULL, NULL, "metric: {format: {verbosity: x}}\n"),
                      broken = rule_of("a", NULL, NULL, "metric: {\n"), slash = rule_of("/a", NULL, NULL, NULL);

    (void)state;
    edits(rules_remove, &a, "allow:\n- &x {procname: a}\n- {procname: b, config: *x}\n", -EINVAL, NULL);
    edits(rules_remove, &a, "allow:\n- procname: a\n  config: &x {tags: {}}\n- {procname: b, config: *x}\n", -EINVAL, NULL);
    edits(rules_add, &a, "deny: &d\n- procname: a\nallow: *d\n", -EEXIST, NULL);
    edits(rules_add, &bad, "allow:\n", -EINVAL, NULL);
    edits(rules_add, &broken, "allow:\n", -EINVAL, NULL);
    edits(rules_add, &slash, "allow:\n", -EINVAL, NULL);
    edits(rules_add, &a, "allow: 3\n", -EINVAL, NULL);
}

static int set_socket(const char *path, const struct rule *r, cfg_problem_fn fn, void *ctx)
{
    return rules_set_socket(path, r->procname, fn, ctx);
}

static void test_sets_the_socket(void **state)
{
    const struct rule s = rule_of("/run/x", NULL, NULL, NULL);

    (void)state;
    edits(set_socket, &s, "allow:\n- procname: a\n", 0, "allow:\n- procname: a\nsource:\n  unixSocketPath: \"/run/x\"\n");
    edits(set_socket, &s, "source:\n  authToken: t # t\nallow:\n", 0,
          "source:\n  authToken: t # t\n  unixSocketPath: \"/run/x\"\nallow:\n");
    edits(set_socket, &s, "source:\n  unixSocketPath: /y # y\n", 0, "source:\n  unixSocketPath: \"/run/x\" # y\n");
    edits(set_socket, &s, "source: # none\nallow:\n", 0, "source: {\"unixSocketPath\": \"/run/x\"} # none\nallow:\n");
    edits(set_socket, &s, "{\"source\": {}}", 0, "{\"source\": {\"unixSocketPath\": \"/run/x\"}}");
    edits(set_socket, &s, "source: {unixSocketPath: /run/x}\n", 0, NULL);
}

static void test_makes_file_and_directory(void **state)
{
    const struct rule a = rule_of("a", NULL, NULL, NULL);
    char *path = write_rules(NULL), *link = xasprintf("%s.link", path);
    struct told t = {.b = BUF_INIT};
    struct rules r;
    struct stat st;

    (void)state;
    assert_int_equal(rules_read(path, &r, note, &t), -ENOENT);
    assert_int_equal(rules_remove(path, &a, note, &t), -ENOENT);
    assert_string_equal(buf_cstr(&t.b), "");
    assert_int_equal(rules_add(path, &a, note, &t), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(rules_read(path, &r, note, &t), 0);
    assert_int_equal(r.count, 1);
    rules_free(&r);
    /* a link isn't replaced by a file, nor is believed what others can write */
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(rules_add(link, &a, note, &t), -ELOOP);
    assert_non_null(strstr(buf_cstr(&t.b), "it is a symbolic link"));
    unlink(link);
    chmod(path, 0666);
    assert_int_equal(rules_read(path, &r, note, &t), -EPERM);
    free(link);
    clear(path);
    buf_free(&t.b);
}

/* --- documentation --- */

static void test_the_list_is_documented(void **state)
{
    FILE *f = fopen(SOURCE_ROOT "/docs/host.md", "r");
    struct buf b = BUF_INIT;
    const char *list;
    size_t n;

    (void)state;
    assert_non_null(f);
    while ((n = fread(buf_room(&b, 65536), 1, 65536, f)) > 0)
        b.len += n;
    fclose(f);
    list = strstr(buf_cstr(&b), "### What a rule without a name leaves alone");
    assert_non_null(list);
    for (const char *const *p = rules_spare; *p; p++) {
        char *word = xasprintf("`%s`", *p);

        if (!strstr(list, word))
            fail_msg("docs/host.md lacks %s", word);
        free(word);
    }
    buf_free(&b);
}

/* --- configurations --- */

static struct config *for_rules(const struct config_sources *c, const char *procname, const uint32_t *rules, size_t count)
{
    struct cfg_process who = {.procname = procname, .rules = rules, .rule_count = count};

    return config_for(c, &who);
}

static void test_each_rule_has_its_configuration(void **state)
{
    struct rules r = parsed("allow:\n"
                            "- procname: a\n"
                            "  config: {metric: {format: {verbosity: 1, statsdprefix: one}}}\n"
                            "- procname: b\n"
                            "- procname: _MatchAll_\n"
                            "  config:\n"
                            "    metric: {format: {verbosity: 2}}\n"
                            "    custom:\n"
                            "      x: {filter: {procname: a}, config: {event: {enable: false}}}\n"
                            "source: {unixSocketPath: /run/edge, authToken: \"t\\\"x\"}\n");
    struct config_sources *c = config_sources_new();
    struct told t = {.b = BUF_INIT};
    struct config *cfg;

    (void)state;
    config_add_text(c, "scope.yml", "metric: {format: {verbosity: 5}}\n", 33, note, &t);
    assert_true(config_is_common(c));
    rules_configure(&r, c, note, &t);
    config_add_environ(c, NULL, note, &t);
    assert_string_equal(buf_cstr(&t.b), "");
    assert_false(config_is_common(c));

    cfg = config_for(c, NULL);
    assert_int_equal(cfg->metric.verbosity, 5);
    assert_true(cfg->event.enable);
    assert_int_equal(cfg->cribl.transport.type, CFG_UNIX);
    assert_string_equal(cfg->cribl.transport.path, "/run/edge");
    assert_string_equal(cfg->cribl.authtoken, "t\"x");
    config_free(cfg);
    cfg = for_rules(c, "a", (uint32_t[]){0}, 1);
    assert_int_equal(cfg->metric.verbosity, 1);
    assert_true(cfg->event.enable);
    config_free(cfg);
    cfg = for_rules(c, "a", (uint32_t[]){0, 2}, 2);
    assert_int_equal(cfg->metric.verbosity, 2);
    assert_string_equal(cfg->metric.statsdprefix, "one.");
    assert_false(cfg->event.enable);
    config_free(cfg);
    cfg = for_rules(c, "b", (uint32_t[]){1}, 1);
    assert_int_equal(cfg->metric.verbosity, 5);
    config_free(cfg);
    cfg = rules_config(&r, c, &r.rule[0]);
    assert_int_equal(cfg->metric.verbosity, 2);
    assert_string_equal(cfg->metric.statsdprefix, "one.");
    config_free(cfg);
    config_sources_free(c);
    rules_free(&r);
    buf_free(&t.b);
}

/* A power cut must leave the old file or the new one: the bytes are on the disk before the name leads to them. */
static void test_edit_lasts(void **state)
{
    const struct rule r = rule_of("nginx", NULL, NULL, NULL), other = rule_of("java", NULL, NULL, NULL);
    char dir[] = "/tmp/scope-rules-XXXXXX", *path;
    struct told t = {.b = BUF_INIT};
    struct rules now;

    (void)state;
    assert_non_null(mkdtemp(dir));
    path = xasprintf("%s/rules.yml", dir);
    synced_files = synced_directories = 0;
    assert_int_equal(rules_add(path, &r, note, &t), 0);
    assert_int_equal(synced_files, 1);
    assert_int_equal(synced_directories, 1);
    assert_int_equal(rules_remove(path, &r, note, &t), 0);
    assert_int_equal(synced_files, 2);
    assert_int_equal(rules_add(path, &r, note, &t), 0);
    sync_fails = true;
    assert_int_equal(rules_add(path, &other, note, &t), -EIO);
    sync_fails = false;
    assert_int_equal(rules_read(path, &now, note, &t), 0);
    assert_int_equal(now.count, 1);
    assert_string_equal(now.rule[0].procname, "nginx");
    rules_free(&now);
    buf_free(&t.b);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edit_lasts),
        cmocka_unit_test(test_reads_what_1_4_reads),
        cmocka_unit_test(test_nothing_is_no_rules),
        cmocka_unit_test(test_names_mistakes_by_line),
        cmocka_unit_test(test_unknown_keys_are_remarks),
        cmocka_unit_test(test_and_within_or_across),
        cmocka_unit_test(test_all_is_not_what_the_host_needs),
        cmocka_unit_test(test_agrees_with_a_naive_matcher),
        cmocka_unit_test(test_mode_has_what_any_rule_asks_for),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_long_files_stay_small),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_adds_where_people_would),
        cmocka_unit_test(test_replaces_configurations),
        cmocka_unit_test(test_removes_only_that),
        cmocka_unit_test(test_leaves_alone_what_it_cant_change),
        cmocka_unit_test(test_sets_the_socket),
        cmocka_unit_test(test_makes_file_and_directory),
        cmocka_unit_test(test_the_list_is_documented),
        cmocka_unit_test(test_each_rule_has_its_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
