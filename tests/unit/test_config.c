/* SPDX-License-Identifier: Apache-2.0 */
/* scope.yml, environment and flags: what is accepted, what is reported, and what comes out. */
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

/* Helpers --------------------------------------------------------------- */

/* All problems of a test as lines "file:line: key: text", remarks with "remark: " in front. */
struct problems {
    struct buf text;
    unsigned fatal, remarks;
};

static void collect(void *ctx, const struct cfg_problem *p)
{
    struct problems *all = ctx;

    buf_printf(&all->text, "%s%s:%u: %s: %s\n", p->fatal ? "" : "remark: ", p->file, p->line, p->key, p->text);
    if (p->fatal)
        all->fatal++;
    else
        all->remarks++;
}

static char *text_of(struct problems *p)
{
    return buf_cstr(&p->text);
}

static void assert_problem(struct problems *p, const char *part)
{
    if (!strstr(text_of(p), part))
        fail_msg("no problem with \"%s\" in:\n%s", part, text_of(p));
}

static void assert_no_problem(struct problems *p)
{
    if (p->text.len)
        fail_msg("unexpected:\n%s", text_of(p));
}

static void problems_clear(struct problems *p)
{
    buf_free(&p->text);
    *p = (struct problems){0};
}

static struct config_sources *from_text(const char *text, struct problems *p)
{
    struct config_sources *s = config_sources_new();

    assert_int_equal(config_add_text(s, "f.yml", text, strlen(text), p ? collect : NULL, p), 0);
    return s;
}

static struct config *config_of(const char *text, struct problems *p)
{
    struct config_sources *s = from_text(text, p);
    struct config *c = config_for(s, NULL);

    config_sources_free(s);
    return c;
}

static struct config *defaults(void)
{
    return config_of("", NULL);
}

static char *print(const struct config_sources *s, bool origins)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    config_print_yaml(s, f, origins);
    fclose(f);
    return text;
}

/* Tags are printed with their $NAME: the same environment, but without our own variables. */
static void add_plain_environ(struct config_sources *to, const struct config_sources *from)
{
    const char *envp[32] = {0};
    size_t n = 0;

    for (char **p = from->environ_; p && *p; p++)
        if (strncmp(*p, "SCOPE_", 6) != 0 && n < 31)
            envp[n++] = *p;
    config_add_environ(to, envp, NULL, NULL);
}

/* Prints, loads that, and compares. */
static void assert_round_trip(const struct config_sources *s, const struct cfg_process *proc)
{
    for (int origins = 0; origins < 2; origins++) {
        struct problems p = {0};
        char *text = print(s, origins);
        struct config_sources *again = config_sources_new();
        struct config *a = config_for(s, proc), *b;
        char *ja, *jb;

        add_plain_environ(again, s);
        assert_int_equal(config_add_text(again, "printed", text, strlen(text), collect, &p), 0);
        b = config_for(again, proc);
        ja = config_to_json(a);
        jb = config_to_json(b);
        if (!config_equal(a, b) || p.fatal)
            fail_msg("not the same again: %s%s\n%s", text_of(&p), ja, jb);
        free(ja);
        free(jb);
        config_free(a);
        config_free(b);
        config_sources_free(again);
        free(text);
        problems_clear(&p);
    }
}

static char *repository_file(const char *name)
{
    const char *root = getenv("SOURCE_ROOT");
    char *path, *dir = xstrdup(__FILE__), *slash;
    struct buf b = BUF_INIT;
    FILE *f;
    size_t n;

    for (int i = 0; i < 3; i++) { /* tests/unit/test_config.c */
        slash = strrchr(dir, '/');
        if (slash)
            *slash = 0;
        else
            strcpy(dir, ".");
    }
    path = xasprintf("%s/%s", root ? root : dir, name);
    f = fopen(path, "r");
    if (!f)
        f = fopen(name, "r");
    if (!f)
        fail_msg("%s: can't be opened; set SOURCE_ROOT to the root of the repository", path);
    while ((n = fread(buf_room(&b, 65536), 1, 65536, f)) > 0)
        b.len += n;
    fclose(f);
    free(path);
    free(dir);
    return buf_cstr(&b);
}

/* Defaults and generated files ------------------------------------------- */

static void test_defaults(void **state)
{
    struct config *c = defaults();

    assert_true(c->metric.enable);
    assert_int_equal(c->metric.format, CFG_STATSD);
    assert_string_equal(c->metric.statsdprefix, "");
    assert_int_equal(c->metric.statsdmaxlen, 512);
    assert_int_equal(c->metric.verbosity, 4);
    for (int i = 0; i < CFG_MW_MAX; i++)
        assert_true(c->metric.watch[i]);
    assert_int_equal(c->metric.transport.type, CFG_UDP);
    assert_string_equal(c->metric.transport.host, "127.0.0.1");
    assert_string_equal(c->metric.transport.port, "8125");
    assert_true(c->event.enable);
    assert_int_equal(c->event.maxeventpersec, 10000);
    assert_true(c->event.enhancefs);
    assert_int_equal(c->event.transport.type, CFG_TCP);
    assert_string_equal(c->event.transport.port, "9109");
    assert_false(c->event.transport.tls.enable);
    assert_true(c->event.transport.tls.validateserver);
    for (int i = 0; i < CFG_EW_MAX; i++)
        assert_int_equal(c->event.watch[i].enable, i != CFG_EW_SYSLOG && i != CFG_EW_METRIC && i != CFG_EW_SYSCALL && i != CFG_EW_NOTICE);
    assert_string_equal(c->event.watch[CFG_EW_FILE].name, "(\\/logs?\\/)|(\\.log$)|(\\.log[.\\d])");
    assert_string_equal(c->event.watch[CFG_EW_CONSOLE].name, "(stdout)|(stderr)");
    assert_true(c->event.watch[CFG_EW_CONSOLE].allowbinary);
    assert_string_equal(c->event.watch[CFG_EW_METRIC].field, "^[^h]+");
    assert_null(c->event.watch[CFG_EW_HTTP].headers);
    assert_false(c->payload.enable);
    assert_string_equal(c->payload.dir, "/tmp");
    assert_true(c->libscope.configevent);
    assert_int_equal(c->libscope.summaryperiod, 10);
    assert_string_equal(c->libscope.commanddir, "/tmp");
    assert_false(c->libscope.lossless);
    assert_int_equal(c->collector.priority, -10);
    assert_int_equal(c->libscope.log.level, CFG_LOG_WARNING);
    assert_int_equal(c->libscope.log.transport.type, CFG_FILE);
    assert_string_equal(c->libscope.log.transport.path, "/tmp/scope.log");
    assert_false(c->libscope.snapshot.coredump);
    assert_false(c->libscope.snapshot.backtrace);
    assert_true(c->libscope.snapshot.coremax == UINT64_C(2) << 30);
    assert_false(c->cribl.enable);
    assert_null(c->cribl.authtoken);
    assert_int_equal(c->cribl.transport.type, CFG_EDGE);
    assert_int_equal(c->tag_count, 0);
    assert_int_equal(c->protocol_count, 0);
    config_free(c);
}

static void test_default_file(void **state)
{
    char *file = repository_file("conf/scope.yml"), *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct problems p = {0};
    struct config *a = defaults(), *b;

    config_print_default_yaml(f);
    fclose(f);
    if (strcmp(file, text) != 0)
        fail_msg("conf/scope.yml isn't what the schema says: run gen-config-docs");
    b = config_of(file, &p);
    assert_no_problem(&p);
    assert_true(config_equal(a, b));
    config_free(a);
    config_free(b);
    free(file);
    free(text);
}

/* Every commented-out default in the file has the right syntax, too. */
static void test_default_file_uncommented(void **state)
{
    char *file = repository_file("conf/scope.yml");
    struct problems p = {0};
    struct config *c;
    char *out = file, *in = file;

    while (*in) { /* "  #key: value" and "  #- type: x", but not "  # text" */
        char *line_end = in + strcspn(in, "\n");
        size_t blanks = strspn(in, " ");

        if (in[blanks] == '#' && in[blanks + 1] != ' ' && in[blanks + 1] != '\n') {
            memmove(out, in, blanks);
            out += blanks;
            in += blanks + 1;
        } else if (in[blanks] == '#' && !strncmp(in + blanks, "#  ", 3)) {
            memmove(out, in, blanks);
            out += blanks;
            in += blanks + 1;
        }
        memmove(out, in, (size_t)(line_end - in) + 1);
        out += line_end - in + 1;
        in = line_end + 1;
    }
    *out = 0;
    c = config_of(file, &p);
    if (p.fatal)
        fail_msg("%s", text_of(&p));
    assert_int_equal(c->protocol_count, 1);
    assert_int_equal(c->tag_count, 2);
    for (int i = 0; i < CFG_EW_MAX; i++)
        assert_int_equal(c->event.watch[i].enable, i != CFG_EW_NOTICE); /* has a switch of its own */
    config_free(c);
    problems_clear(&p);
    free(file);
}

static void test_documentation(void **state)
{
    char *file = repository_file("docs/config.md"), *text = NULL, *begin, *end;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    config_print_markdown(f);
    fputs("\n", f);
    fclose(f);
    begin = strstr(file, "begin -->\n");
    end = strstr(file, "<!-- generated: end -->");
    assert_non_null(begin);
    assert_non_null(end);
    begin += strlen("begin -->\n");
    if ((size_t)(end - begin) != len || memcmp(begin, text, len) != 0)
        fail_msg("docs/config.md isn't what the schema says: run gen-config-docs");
    free(file);
    free(text);
}

/* Values and problems ------------------------------------------------------ */

static void test_booleans(void **state)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
                                      "on",   "On",   "ON",   "y",   "Y",   "'true'"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"};
    static const char *const bad[] = {"1", "0", "tRue", "t", "truee", "enable", "[true]", "{a: b}", "tru", "yES"};
    char text[64];

    for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++) {
        struct problems p = {0};
        struct config *c;

        snprintf(text, sizeof(text), "payload: {enable: %s}", yes[i]);
        c = config_of(text, &p);
        assert_int_equal(p.fatal, 0);
        assert_true(c->payload.enable);
        config_free(c);
        problems_clear(&p);
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++) {
        struct problems p = {0};
        struct config *c;

        snprintf(text, sizeof(text), "event: {enable: %s}", no[i]);
        c = config_of(text, &p);
        assert_no_problem(&p);
        assert_false(c->event.enable);
        config_free(c);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct problems p = {0};
        struct config *c;

        snprintf(text, sizeof(text), "event:\n\n  enable: %s", bad[i]);
        c = config_of(text, &p);
        assert_int_equal(p.fatal, 1);
        assert_problem(&p, "f.yml:3: event.enable: ");
        assert_problem(&p, "expected true or false");
        assert_true(c->event.enable);
        config_free(c);
        problems_clear(&p);
    }
}

static void test_problems(void **state)
{
    static const struct {
        const char *text, *problem;
        unsigned fatal, remarks;
    } table[] = {
        {"metric:\n  format:\n    verbosity: nine\n",
         "f.yml:3: metric.format.verbosity: \"nine\" can't be used; expected a number from 0 to 9", 1, 0},
        {"metric: {format: {verbosity: -1}}", "expected a number from 0 to 9", 1, 0},
        {"metric: {format: {verbosity: 4.0}}", "expected a number from 0 to 9", 1, 0},
        {"metric: {format: {verbosity: 0x4}}", "expected a number from 0 to 9", 1, 0},
        {"metric: {format: {verbosity: [4]}}", "metric.format.verbosity: has a list; expected a number", 1, 0},
        {"metric: {format: {verbosity: {a: 4}}}", "has a map; expected a number", 1, 0},
        {"metric: {format: {verbosity: }}", "has no value; expected a number", 0, 1},
        {"metric: {format: {verbosity: 10}}", "10 is too large; 9 is used", 0, 1},
        {"metric: {format: {verbosity: 99999999999999999999999}}", "9 is used", 0, 1},
        {"metric: {format: {statsdmaxlen: 0}}", "expected a number from 1 to 65507", 1, 0},
        {"libscope: {summaryperiod: 0}", "expected a number from 1 to 31536000", 1, 0},
        {"collector: {priority: -21}", "expected a number from -20 to 19", 1, 0},
        {"collector: {priority: 20}", "expected a number from -20 to 19", 1, 0},
        {"collector: {priority: 1-}", "expected a number from -20 to 19", 1, 0},
        {"collector: {priority: ''}", "expected a number from -20 to 19", 1, 0},
        {"event: {format: {maxeventpersec: 4294967296}}", "expected a number of 0 or more", 1, 0},
        {"metric: {format: {type: prometheus}}", "\"prometheus\" can't be used; expected one of statsd, ndjson", 1, 0},
        {"metric: {format: {type: Statsd}}", "did you mean statsd?", 1, 0},
        {"event: {format: {type: statsd}}", "\"statsd\" can't be used; expected ndjson", 1, 0},
        {"libscope:\n  log:\n    level: warn\n", "f.yml:3: libscope.log.level: ", 1, 0},
        {"metrics: {}", "f.yml:1: metrics: unknown key; did you mean metric?", 1, 0},
        {"a: 1\nb: 2\n\nzzzzzzzzz: 3", "f.yml:4: zzzzzzzzz: unknown key\n", 3, 0},
        {"metric: {format: {verbosty: 1}}", "metric.format.verbosty: unknown key; did you mean verbosity?", 1, 0},
        {"metric: {transport: {hots: x}}", "metric.transport.hots: unknown key; did you mean host?", 1, 0},
        {"metric: {transport: {tls: {enabled: true}}}", "did you mean enable?", 1, 0},
        {"metric.format: {verbosity: 1}", "metric.format: unknown key", 1, 0},
        {"metric: 5", "f.yml:1: metric: has a single value; expected a map of keys", 1, 0},
        {"metric: [a]", "has a list; expected a map of keys", 1, 0},
        {"metric: {enable: true, enable: false}", "\"enable\" is given twice; the one in line 1 is used", 1, 0},
        {"? [a, b]\n: c\n", "has a list where the name of a key is expected", 1, 0},
        {"metric: {transport: {buffer: full}}", "metric.transport.buffer: is the old name of buffering", 0, 1},
        {"metric: {transport: {buffer: full, buffering: line}}", "which is given too", 1, 0},
        {"metric: {transport: {buffer: fuul}}", "did you mean full?", 1, 1},
        {"metric: {transport: {host: 'a b'}}", "expected a host name or an address", 1, 0},
        {"metric: {transport: {host: 'http://x'}}", "expected a host name or an address", 1, 0},
        {"metric: {transport: {port: 65536}}", "expected a number from 1 to 65535", 1, 0},
        {"metric: {transport: {port: 0}}", "port 0, any that is free, is only for type prometheus", 1, 0},
        {"metric: {transport: {type: prometheus, host: example.org}}", "an address of this host, or localhost", 1, 0},
        {"metric: {transport: {type: prometheus, port: http}}", "is a number from 0 to 65535", 1, 0},
        {"event: {transport: {type: prometheus}}", "\"prometheus\" can't be used; expected one of udp, tcp, unix, file", 1, 0},
        {"metric: {transport: {port: ''}}", "metric.transport.port: is needed for a destination of type udp", 1, 0},
        {"event:\n  transport:\n    type: unix\n",
         "f.yml:3: event.transport.path: is needed for a destination of type unix", 1, 0},
        {"event: {transport: {type: file}}", "event.transport.path: is needed for a destination of type file", 1, 0},
        {"libscope: {log: {transport: {type: tcp}}}", "libscope.log.transport.host: is needed", 2, 0},
        {"cribl: {transport: {type: file}}", "expected one of tcp, unix, edge", 1, 0},
        {"cribl: {authtoken: '***'}", "not the secret itself", 1, 0},
        {"payload: {dir: ''}", "expected a path", 1, 0},
        {"payload: {dir: \"a\\x07b\"}", "the value has control characters", 1, 0},
        {"payload: {dir: \"a\\0b\"}", "has a NUL byte", 1, 0},
        {"payload: {enable: true}", NULL, 0, 0},
        {"payload: {enable: false}", NULL, 0, 0},
        {"libscope: {snapshot: {coredump: true, backtrace: true, coremax: 16 MiB}}", NULL, 0, 0},
        {"libscope: {snapshot: {coremax: 4095}}", "libscope.snapshot.coremax: \"4095\" can't be used; expected a number of bytes", 1, 0},
        {"libscope: {snapshot: {coremax: 2XB}}", "expected a number of bytes", 1, 0},
        {"libscope: {snapshot: {coremax: GiB}}", "expected a number of bytes", 1, 0},
        {"libscope: {snapshot: {coremax: 16777216TiB}}", "expected a number of bytes", 1, 0},
        {"event: {watch: [{type: fs}, {type: syslog}]}", "the syslog watch is not built yet", 0, 1},
        {"event: {watch: [{type: http}, {type: dns}]}", NULL, 0, 0},
        {"metric: {watch: [{type: http}, {type: dns}, {type: statsd}]}", NULL, 0, 0},
        {"protocol: [{name: x, regex: y}]", NULL, 0, 0},
        {"metric: {watch: [{type: fs}]}", NULL, 0, 0},
        {"metric: {watch: }", "metric.watch: has no value", 0, 1},
        {"metric: {watch: fs}", "metric.watch: has a single value; expected a list of maps", 1, 0},
        {"metric: {watch: [fs]}", "metric.watch[0]: has a single value; expected a map with a type", 1, 0},
        {"metric: {watch: [{type: fs}, {typ: fs}]}", "metric.watch[1]: has no type", 1, 0},
        {"metric: {watch: [{type: fss}]}", "\"fss\" is no type of metric.watch; did you mean fs?", 1, 0},
        {"metric: {watch: [{type: fs, name: x}]}", "metric.watch[0].name: unknown key", 1, 0},
        {"event: {watch: [{type: fs.name}]}", "\"fs.name\" is no type of event.watch", 1, 0},
        {"event: {watch: [{type: fs, nmae: x}]}", "event.watch[0].nmae: unknown key; did you mean name?", 1, 0},
        {"event: {watch: [{type: fs, headers: []}]}", "this key belongs to type http", 1, 0},
        {"event: {watch: [{type: fs, allowbinary: true}]}", "this key belongs to type console", 1, 0},
        {"event:\n  watch:\n  - type: fs\n    name: 'a('\n",
         "f.yml:4: event.watch[0].name: the pattern can't be compiled: missing closing parenthesis", 2, 0},
        {"event: {watch: [{type: http, headers: [a, 'b[']}]}", "event.watch[0].headers: \"b[\": the pattern can't", 1,
         0},
        {"tags: [a]", "tags: has a list; expected a map of names and values", 1, 0},
        {"tags: {a: [b]}", "tags.a: has a list; expected a text", 1, 0},
        {"tags: {'': b}", "a tag needs a name", 1, 0},
        {"tags: {a: 1, a: 2}", "\"a\" is given twice", 1, 0},
        {"protocol: {}", "protocol: has a map; expected a list of maps, each with name and regex", 1, 0},
        {"protocol: [a]", "protocol[0]: has a single value", 1, 0},
        {"protocol: [{name: a}]", "protocol[0]: needs name and regex", 1, 0},
        {"protocol: [{name: a, regex: '['}]", "protocol[0].regex: the pattern can't be compiled", 2, 0},
        {"protocol: [{name: a, regex: b, lenn: 5}]", "protocol[0].lenn: unknown key; did you mean len?", 1, 0},
        {"protocol: [{name: a, regex: b, len: x}]", "protocol[0].len: \"x\" can't be used", 1, 0},
        {"custom: []", "custom: has a list; expected a map of keys", 1, 0},
        {"custom: {a: b}", "custom.a: has a single value; expected a map with filter and config", 1, 0},
        {"custom: {a: {config: {}}}", "custom.a: has no filter: the entry never applies", 0, 1},
        {"custom: {a: {filter: {procnme: x}}}", "custom.a.filter.procnme: unknown key; did you mean procname?", 2, 0},
        {"custom: {a: {filter: {arg: ''}}}", "custom.a.filter.arg: \"\" can't be used; expected a text", 2, 0},
        {"custom: {a: {filter: {arg: x}, confg: {}}}", "custom.a.confg: unknown key; did you mean config?", 1, 0},
        {"custom: {a: {filter: {arg: x}, config: {custom: {}}}}", "custom.a.config.custom: is not possible", 1, 0},
        {"custom:\n  a:\n    filter: {arg: x}\n    config:\n      metric: {format: {verbosity: x}}\n",
         "f.yml:5: custom.a.config.metric.format.verbosity: \"x\" can't be used", 1, 0},
        {"custom: {a: {filter: {arg: x}, config: {event: {transport: {type: unix}}}}}",
         "custom.a.config.event.transport.path: is needed for a destination of type unix", 1, 0},
        {"--- {}\n--- {metric: x}\n", "only the first YAML document", 0, 1},
        {"tags: {}\nprotocol: []\ncustom:\nmetric:\n", NULL, 0, 0},
        {"{\"metric\": {\"enable\": false, \"format\": {\"verbosity\": 3}}}", NULL, 0, 0},
        {"", NULL, 0, 0},
        {"# nothing but a comment\n", NULL, 0, 0},
        {"~", NULL, 0, 0},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct problems p = {0};
        struct config *c = config_of(table[i].text, &p);

        if (p.fatal != table[i].fatal || p.remarks != table[i].remarks)
            fail_msg("%s\n%u fatal, %u remarks:\n%s", table[i].text, p.fatal, p.remarks, text_of(&p));
        if (table[i].problem)
            assert_problem(&p, table[i].problem);
        config_free(c);
        problems_clear(&p);
    }
}

/* What can't be used leaves everything else alone. */
static void test_problem_keeps_the_rest(void **state)
{
    struct config *c = config_of("metric:\n  format: {verbosity: x, statsdprefix: cow}\n  nonsense: 1\nevent: 5\n"
                                 "libscope: {summaryperiod: 3}\n",
                                 NULL);

    assert_int_equal(c->metric.verbosity, 4);
    assert_string_equal(c->metric.statsdprefix, "cow.");
    assert_true(c->event.enable);
    assert_int_equal(c->libscope.summaryperiod, 3);
    config_free(c);
}

static void test_not_yaml(void **state)
{
    static const char *const bad[] = {
        "metric: [",         "a: b: c",     "\tmetric: x",   "metric: {enable: true",
        "just a sentence",   "- a\n- b\n",  "a: *nowhere\n", "a: &x [*x]\n",
        "\x89PNG\r\n\x1a\n", "a: \xff\xfe", "\"unfinished",  "%YAML 9.9\n---\na: b\n",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct config_sources *s = config_sources_new();
        struct problems p = {0};
        struct config *a = defaults(), *b;

        assert_int_equal(config_add_text(s, "f.yml", bad[i], strlen(bad[i]), collect, &p), -EINVAL);
        assert_int_equal(p.fatal, 1);
        assert_problem(&p, "f.yml:");
        b = config_for(s, NULL);
        assert_true(config_equal(a, b));
        config_free(a);
        config_free(b);
        config_sources_free(s);
        problems_clear(&p);
    }
}

static void assert_refused(const char *text, size_t len, const char *why)
{
    struct config_sources *s = config_sources_new();
    struct problems p = {0};

    assert_int_equal(config_add_text(s, "f.yml", text, len, collect, &p), -EINVAL);
    assert_problem(&p, why);
    config_sources_free(s);
    problems_clear(&p);
}

static void test_bombs(void **state)
{
    struct buf b = BUF_INIT;
    char letter = 'a';

    /* Each alias stands for ten of the one before: 10^10 nodes. */
    buf_str(&b, "x0: &a [z,z,z,z,z,z,z,z,z,z]\n");
    for (int i = 1; i < 10; i++, letter++) {
        buf_printf(&b, "x%d: &%c [", i, letter + 1);
        for (int j = 0; j < 10; j++)
            buf_printf(&b, "%s*%c", j ? "," : "", letter);
        buf_str(&b, "]\n");
    }
    assert_refused(b.p, b.len, "too large");
    buf_reset(&b);

    /* Few nodes, but 200 KB each. */
    buf_str(&b, "a: &a '");
    for (int i = 0; i < 20000; i++)
        buf_str(&b, "0123456789");
    buf_str(&b, "'\nb: [");
    for (int i = 0; i < 1000; i++)
        buf_str(&b, "*a,");
    buf_str(&b, "]\n");
    assert_refused(b.p, b.len, "too large");
    buf_reset(&b);

    for (int i = 0; i < 100000; i++)
        buf_char(&b, '[');
    assert_refused(b.p, b.len, "nested more than 32 levels");
    buf_reset(&b);

    for (int i = 0; i < 200000; i++)
        buf_str(&b, "a: 1\n");
    assert_refused(b.p, b.len, "too large");
    for (int i = 0; i < 200000; i++)
        buf_str(&b, "a: 1\n");
    assert_refused(b.p, b.len, "larger than 1 MiB");
    buf_reset(&b);

    for (int i = 0; i < 300; i++)
        buf_printf(&b, "k%d: &a%d x\n", i, i);
    assert_refused(b.p, b.len, "more than 256 anchors");
    buf_free(&b);
}

static void test_limits(void **state)
{
    struct problems p = {0};
    struct buf b = BUF_INIT;
    struct config_sources *s;
    struct config *c;

    buf_str(&b, "tags:\n");
    for (int i = 0; i < 200; i++)
        buf_printf(&b, "  t%d: v\n", i);
    c = config_of(buf_cstr(&b), &p);
    assert_int_equal(c->tag_count, MAX_TAGS);
    assert_int_equal(p.fatal, 200 - MAX_TAGS);
    config_free(c);
    problems_clear(&p);
    buf_reset(&b);

    /* A hundred problems and the number of the rest. */
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "x%d: v\n", i);
    c = config_of(buf_cstr(&b), &p);
    assert_int_equal(p.fatal, MAX_PROBLEMS + 1);
    assert_problem(&p, "900 more problems are not shown");
    config_free(c);
    problems_clear(&p);
    buf_reset(&b);

    for (int i = 0; i < 3000; i++)
        buf_printf(&b, "x%d: v\n", i);
    c = config_of(buf_cstr(&b), &p);
    config_free(c);
    problems_clear(&p);
    buf_reset(&b);

    buf_str(&b, "payload: {dir: '/");
    for (int i = 0; i < 5000; i++)
        buf_char(&b, 'x');
    buf_str(&b, "'}");
    c = config_of(buf_cstr(&b), &p);
    assert_problem(&p, "longer than 4096 bytes");
    assert_string_equal(c->payload.dir, "/tmp");
    config_free(c);
    problems_clear(&p);
    buf_reset(&b);

    /* Substitution doesn't grow without bound. */
    buf_str(&b, "V=");
    for (int i = 0; i < 3000; i++)
        buf_char(&b, 'y');
    {
        const char *envp[] = {buf_cstr(&b), NULL};

        s = config_sources_new();
        config_add_environ(s, envp, NULL, NULL);
        config_add_text(s, "f.yml", "tags: {a: $V$V$V}", 17, collect, &p);
        assert_problem(&p, "after substitution");
        c = config_for(s, NULL);
        assert_int_equal(c->tag_count, 0);
        config_free(c);
        config_sources_free(s);
    }
    problems_clear(&p);
    buf_free(&b);
}

static void test_file_errors(void **state)
{
    struct config_sources *s = config_sources_new();
    char dir[] = "/tmp/test-config-XXXXXX", *path;
    struct problems p = {0};

    assert_non_null(mkdtemp(dir));
    path = xasprintf("%s/scope.yml", dir);
    assert_int_equal(config_add_file(s, path, collect, &p), -ENOENT);
    assert_problem(&p, "can't be read: No such file or directory");
    assert_int_equal(config_add_file(s, dir, collect, &p), -EISDIR);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(config_add_file(s, path, NULL, NULL), 0); /* empty, and doesn't wait for a writer */
    unlink(path);
    assert_int_equal(config_add_file(s, "/dev/zero", collect, &p), -EINVAL);
    assert_problem(&p, "larger than 1 MiB");
    rmdir(dir);
    free(path);
    config_sources_free(s);
    problems_clear(&p);
}

static void test_find_file(void **state)
{
    char dir[] = "/tmp/test-config-XXXXXX", *sub, *path, *found, *home, *scope_home, *explicit_;
    const char *envp[4] = {0};
    FILE *f;

    assert_non_null(mkdtemp(dir));
    sub = xasprintf("%s/conf", dir);
    path = xasprintf("%s/conf/scope.yml", dir);
    home = xasprintf("HOME=%s", dir);
    scope_home = xasprintf("SCOPE_HOME=%s", dir);
    explicit_ = xasprintf("SCOPE_CONF_PATH=%s/none.yml", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    envp[0] = scope_home;
    found = config_find_file(envp);
    assert_string_equal(found, path);
    free(found);
    if (access("/etc/scope/scope.yml", R_OK) != 0) {
        envp[0] = home;
        found = config_find_file(envp);
        assert_string_equal(found, path);
        free(found);
    }
    envp[1] = explicit_;
    found = config_find_file(envp);
    assert_string_equal(found, explicit_ + strlen("SCOPE_CONF_PATH="));
    free(found);
    unlink(path);
    rmdir(sub);
    rmdir(dir);
    free(path);
    free(sub);
    free(home);
    free(scope_home);
    free(explicit_);
}

/* Precedence ---------------------------------------------------------------- */

static void test_precedence(void **state)
{
    static const char file[] = "metric: {format: {verbosity: 1}}\n"
                               "custom:\n"
                               "  a: {filter: {procname: web}, config: {metric: {format: {verbosity: 2}}}}\n"
                               "  b: {filter: {procname: web, arg: -x}, config: {metric: {format: {verbosity: 3}}}}\n";
    const char *envp[] = {"SCOPE_METRIC_VERBOSITY=5", NULL};
    const struct cfg_process web = {.procname = "web", .cmdline = "web -y"};
    const struct cfg_process webx = {.procname = "web", .cmdline = "web -x"};
    struct config_sources *s = config_sources_new();
    struct problems p = {0};
    struct config *c;

#define VERBOSITY(proc, expected) \
    do { \
        c = config_for(s, proc); \
        assert_int_equal(c->metric.verbosity, expected); \
        config_free(c); \
    } while (0)
    VERBOSITY(NULL, 4);
    config_add_text(s, "f.yml", file, strlen(file), collect, &p);
    VERBOSITY(NULL, 1);
    VERBOSITY(&web, 2);
    VERBOSITY(&webx, 3);
    assert_int_equal(config_set(s, "metric.format.verbosity", "7", "--verbosity", collect, &p), 0);
    VERBOSITY(&webx, 7);
    config_add_environ(s, envp, collect, &p); /* later, but weaker */
    VERBOSITY(&webx, 7);
    config_sources_free(s);

    s = config_sources_new();
    config_add_environ(s, envp, collect, &p);
    config_add_text(s, "f.yml", file, strlen(file), collect, &p);
    VERBOSITY(&webx, 5);
    VERBOSITY(NULL, 5);
    config_sources_free(s);

    s = config_sources_new(); /* a second file stands above the first */
    config_add_text(s, "f.yml", file, strlen(file), collect, &p);
    config_add_text(s, "g.yml", "metric: {format: {verbosity: 6}}", 32, collect, &p);
    VERBOSITY(NULL, 6);
    VERBOSITY(&web, 6);
    config_sources_free(s);
    assert_no_problem(&p);
}

static void test_origins(void **state)
{
    const char *envp[] = {"SCOPE_SUMMARY_PERIOD=3", "SCOPE_TAG_team=blue", NULL};
    struct config_sources *s = from_text("metric:\n  format:\n    verbosity: 6\ncribl: {authtoken: sesame}\n", NULL);
    char *text;

    config_add_environ(s, envp, NULL, NULL);
    config_set(s, "libscope.lossless", "true", "--lossless", NULL, NULL);
    text = print(s, true);
    assert_non_null(strstr(text, "verbosity: 6  # f.yml:3\n"));
    assert_non_null(strstr(text, "summaryperiod: 3  # environment SCOPE_SUMMARY_PERIOD\n"));
    assert_non_null(strstr(text, "lossless: true  # flag --lossless\n"));
    assert_non_null(strstr(text, "statsdmaxlen: 512  # default\n"));
    assert_non_null(strstr(text, "team: blue  # environment SCOPE_TAG_team\n"));
    assert_non_null(strstr(text, "authtoken: '***'  # f.yml:4\n"));
    assert_null(strstr(text, "sesame"));
    free(text);
    text = print(s, false);
    assert_null(strstr(text, "#"));
    assert_null(strstr(text, "sesame"));
    free(text);
    config_sources_free(s);
}

/* Round trips --------------------------------------------------------------- */

/* A value that differs from the default, or NULL. */
static const char *other_value(const struct key *k)
{
    switch (k->kind) {
    case KEY_BOOL:
        return k->def && !strcmp(k->def, "true") ? "false" : "true";
    case KEY_RATIO:
        return "0.25";
    case KEY_PAIRS:
        return "x-a=b%20c,x-d=%25,X_e= \\$HOME";
    case KEY_ENDPOINT:
        return "https://[2001:db8::1]:4318/base/";
    case KEY_UINT:
        if (k->min > 7)
            return "777";
        return "7";
    case KEY_INT:
        return "7";
    case KEY_BYTES:
        return "7MiB";
    case KEY_WORD:
        for (size_t i = 0; k->words[i]; i++)
            if ((!k->word_mask || k->word_mask & 1u << i) && strcmp(k->words[i], k->def ? k->def : "") != 0)
                return k->words[i];
        return NULL;
    case KEY_STRING:
        return "it's a \\text: # \"$HOME\" \\$x";
    case KEY_PREFIX:
        return "cow";
    case KEY_PATH:
        return "/a b/c: #d/$HOME/\\$x";
    case KEY_HOST:
        return "fe80::1%eth0";
    case KEY_PORT:
        return "https";
    case KEY_REGEX:
    case KEY_PATTERNS:
        return "^(it's)|\\$foo$|\"[#: ]\\d\n";
    default:
        return NULL;
    }
}

static bool is_watch(const char *path)
{
    return !strncmp(path, "event.watch.", 12) || !strncmp(path, "metric.watch.", 13);
}

static void test_every_key_round_trips(void **state)
{
    unsigned tried = 0;

    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        const char *value = other_value(k);
        struct config_sources *s;
        struct problems p = {0};
        struct config *a, *b;

        if (k->base != BASE_CONFIG || !value)
            continue;
        s = config_sources_new();
        if (strstr(k->path, ".transport.")) { /* so that the member matters */
            char *parent = xstrndup(k->path, (size_t)(strstr(k->path, ".transport.") - k->path) + 10);
            const char *url = strstr(k->path, ".tls.") && !strstr(k->path, ".tls.enable") ? "tls://h:1" : "tcp://h:1";

            if (strstr(k->path, ".type"))
                url = !strncmp(parent, "cribl", 5) ? "edge" : !strcmp(value, "tcp") ? "udp://h:1" : "tcp://h:1";
            if (strstr(k->path, ".path") || strstr(k->path, ".buffering"))
                url = "unix:///x";
            if (strstr(k->path, ".buffering"))
                url = "file:///x";
            if (!strcmp(k->path, "cribl.transport.buffering"))
                value = NULL; /* never used: there is no file */
            else if (strcmp(url, "edge") != 0)
                assert_int_equal(config_set(s, parent, url, "--dest", NULL, NULL), 0);
            free(parent);
        }
        if (is_watch(k->path) && !key_is_child(k, "event.watch") && !key_is_child(k, "metric.watch")) {
            char *parent = xstrndup(k->path, (size_t)(strrchr(k->path, '.') - k->path));

            config_set(s, parent, "true", "--watch", NULL, NULL);
            free(parent);
        }
        a = config_for(s, NULL);
        if (value && config_set(s, k->path, value, "--flag", collect, &p) < 0)
            fail_msg("%s", text_of(&p));
        b = config_for(s, NULL);
        if (value && config_equal(a, b))
            fail_msg("%s=%s makes no difference", k->path, value);
        config_free(a);
        config_free(b);
        if (!k->secret)
            assert_round_trip(s, NULL);
        config_sources_free(s);
        problems_clear(&p);
        tried++;
    }
    assert_in_range(tried, 140, 260);
}

static void test_big_round_trip(void **state)
{
    static const char file[] =
        "metric:\n  enable: false\n  watch: [{type: process}]\n  transport: {type: unix, path: '@abs$X'}\n"
        "event:\n  watch:\n  - {type: console, name: '(stderr)', allowbinary: no}\n"
        "  - {type: http, headers: ['(?i)^x-', 'b']}\n  transport: {type: tcp, host: '::1', port: 5, tls: {enable: "
        "on}}\n"
        "tags: {a: '$HOME', 'b c': '\\$HOME', 'k\\\"': \"line\\nline\", n: 5, t: 'true', e: '', u: $UNSET}\n"
        "protocol:\n- {name: p1, regex: '^\\$a$', binary: y, len: 5, detect: n, payload: y}\n- {name: 'p 2', regex: "
        "x}\n"
        "custom:\n"
        "  one: {filter: {procname: web, env: 'A=b$HOME'}, config: {event: {watch: [], transport: {type: udp}},\n"
        "    metric: {watch: [{type: fs}]}, tags: {z: 1}, protocol: [{name: p1, regex: z}]}}\n"
        "  'two: x': {filter: {arg: x}, config: {metric: {format: {verbosity: 9}}}}\n"
        "  never: {config: {metric: {format: {verbosity: 8}}}}\n"
        "  broken: {filter: {argg: x}, config: {metric: {format: {verbosity: 7}}}}\n";
    const char *envp[] = {"HOME=/home/joe", "X=$x", "SCOPE_EVENT_FS=true", "SCOPE_TAG_z=2", "SCOPE_TAG_q=$HOME", NULL};
    const char *proc_env[] = {"A=b/home/joe", NULL};
    const struct cfg_process web = {.procname = "web", .cmdline = "web x", .environ_ = proc_env};
    struct config_sources *s = from_text(file, NULL);
    struct config *c;

    config_add_environ(s, envp, NULL, NULL);
    config_set(s, "metric.format.verbosity", "3", "--verbosity", NULL, NULL);
    assert_round_trip(s, NULL);
    assert_round_trip(s, &web);
    c = config_for(s, &web);
    assert_string_equal(c->metric.transport.path, "@abs$x");
    assert_int_equal(c->metric.verbosity, 3);
    assert_true(c->event.watch[CFG_EW_FS].enable);
    assert_false(c->event.watch[CFG_EW_CONSOLE].enable);
    assert_int_equal(c->event.transport.type, CFG_UDP);
    assert_int_equal(c->protocol_count, 2);
    assert_string_equal(c->protocols[0].regex, "z");
    assert_false(c->protocols[0].binary);
    config_free(c);
    config_sources_free(s);
}

/* Watch lists --------------------------------------------------------------- */

static unsigned metric_mask(const struct config *c)
{
    unsigned mask = 0;

    for (int i = 0; i < CFG_MW_MAX; i++)
        mask |= (unsigned)c->metric.watch[i] << i;
    return mask;
}

static unsigned event_mask(const struct config *c)
{
    unsigned mask = 0;

    for (int i = 0; i < CFG_EW_MAX; i++)
        mask |= (unsigned)c->event.watch[i].enable << i;
    return mask;
}

static void test_watch(void **state)
{
    struct config *c, *def = defaults();
    const char *envp[] = {"SCOPE_EVENT_SYSCALL=true", "SCOPE_METRIC_FS=false", "SCOPE_EVENT_NET_NAME=open", NULL};
    struct config_sources *s;

    c = config_of("metric: {watch: []}\nevent: {watch: []}", NULL);
    assert_int_equal(metric_mask(c), 0);
    assert_int_equal(event_mask(c), 0);
    config_free(c);

    c = config_of("metric: {watch: }\nevent: {watch: }", NULL);
    assert_int_equal(metric_mask(c), metric_mask(def));
    assert_int_equal(event_mask(c), event_mask(def));
    config_free(c);

    /* The type need not come first; filters that aren't given are the defaults. */
    c = config_of("event: {watch: [{value: v, name: n, type: net}, {type: syscall}]}", NULL);
    assert_int_equal(event_mask(c), 1u << CFG_EW_NET | 1u << CFG_EW_SYSCALL);
    assert_string_equal(c->event.watch[CFG_EW_NET].name, "n");
    assert_string_equal(c->event.watch[CFG_EW_NET].field, ".*");
    assert_string_equal(c->event.watch[CFG_EW_NET].value, "v");
    config_free(c);

    /* A later list replaces filters too. */
    s = from_text("event: {watch: [{type: net, name: n}, {type: http, headers: [a]}]}", NULL);
    config_add_text(s, "g.yml", "event: {watch: [{type: net}, {type: http}]}", 43, NULL, NULL);
    c = config_for(s, NULL);
    assert_string_equal(c->event.watch[CFG_EW_NET].name, ".*");
    assert_null(c->event.watch[CFG_EW_HTTP].headers);
    config_free(c);
    config_sources_free(s);

    /* A broken filter switches its source off, not the filter. */
    c = config_of("event: {watch: [{type: net, value: '('}, {type: fs}]}", NULL);
    assert_int_equal(event_mask(c), 1u << CFG_EW_FS);
    config_free(c);

    s = from_text("event: {watch: [{type: fs}]}", NULL);
    config_add_environ(s, envp, NULL, NULL);
    c = config_for(s, NULL);
    assert_int_equal(event_mask(c), 1u << CFG_EW_FS | 1u << CFG_EW_SYSCALL);
    assert_int_equal(metric_mask(c), metric_mask(def) & ~(1u << CFG_MW_FS));
    assert_string_equal(c->event.watch[CFG_EW_NET].name, "open");
    config_free(c);
    config_sources_free(s);
    config_free(def);
}

/* Environment ---------------------------------------------------------------- */

static void test_every_variable(void **state)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        const char *value = k->kind == KEY_TRANSPORT ? "tcp://other:99" : other_value(k);
        struct config_sources *s = config_sources_new();
        struct problems p = {0};
        const char *envp[4] = {0};
        struct config *a = defaults(), *b;
        char *var;

        if (!k->env || !value || k->base != BASE_CONFIG) {
            config_free(a);
            config_sources_free(s);
            continue;
        }
        var = xasprintf("%s=%s", k->env, k->kind == KEY_PATH ? "/x" : k->kind == KEY_REGEX ? "x$" : value);
        envp[0] = var;
        config_add_environ(s, envp, collect, &p);
        if (p.fatal)
            fail_msg("%s", text_of(&p));
        b = config_for(s, NULL);
        if (!strstr(k->path, ".tls.") && k->kind != KEY_REGEX &&
            strcmp(k->path, "event.watch.console.allowbinary") != 0)
            assert_false(config_equal(a, b));
        if (k->kind == KEY_BOOL && !k->text) {
            bool on;

            memcpy(&on, (char *)b + k->offset, sizeof(on));
            assert_int_equal(on, !strcmp(value, "true"));
        }
        if (k->kind == KEY_REGEX) {
            char *text = key_text(k, b);

            assert_string_equal(text, "x$");
            free(text);
        }
        config_free(a);
        config_free(b);
        config_sources_free(s);
        problems_clear(&p);
        free(var);
    }
}

static void test_environment_problems(void **state)
{
    static const struct {
        const char *var, *problem;
        unsigned fatal, remarks;
    } table[] = {
        {"SCOPE_EVENT_ENABLE=1", "environment:0: SCOPE_EVENT_ENABLE: \"1\" can't be used; expected true or false", 1,
         0},
        {"SCOPE_EVENT_ENABLE=", "\"\" can't be used", 1, 0},
        {"SCOPE_EVENT_ENABLE=t", "\"t\" can't be used", 1, 0},
        {"SCOPE_METRIC_VERBOSITY=12", "9 is used", 0, 1},
        {"SCOPE_METRIC_DEST=nonsense", "SCOPE_METRIC_DEST: \"nonsense\": not a destination", 1, 0},
        {"SCOPE_METRIC_DEST=udp://h", "the port is missing", 1, 0},
        {"SCOPE_CRIBL=udp://h:1", "this destination can't be udp; expected one of tcp, unix, edge", 1, 0},
        {"SCOPE_EVENT_NET_VALUE=(", "SCOPE_EVENT_NET_VALUE: the pattern can't be compiled", 2, 0},
        {"SCOPE_EVENT_HTTP_HEADER=[", "the pattern can't be compiled", 1, 0},
        {"SCOPE_TAG_host=x", "SCOPE_TAG_host: \"host\" is a name that events and metrics use", 1, 0},
        {"SCOPE_TAG_=x", "a tag needs a name", 1, 0},
        {"SCOPE_METRIC_VERBOSTY=1", "SCOPE_METRIC_VERBOSTY: unknown variable; did you mean SCOPE_METRIC_VERBOSITY?", 0,
         1},
        {"SCOPE_SNAPSHOT_COREDUMP_X=true", "did you mean SCOPE_SNAPSHOT_COREDUMP?", 0, 1},
        {"SCOPE_EVENT_SYSLOG=true", "the syslog watch is not built yet", 0, 1},
        {"SCOPE_EVENT_HTTP=true", NULL, 0, 0},
        {"SCOPE_OF_WORK=x", NULL, 0, 0},
        {"scope_event_enable=false", NULL, 0, 0},
        {"SCOPE_HOME=/x", NULL, 0, 0},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        const char *envp[] = {table[i].var, NULL};
        struct config_sources *s = config_sources_new();
        struct problems p = {0};

        config_add_environ(s, envp, collect, &p);
        if (p.fatal != table[i].fatal || p.remarks != table[i].remarks)
            fail_msg("%s: %u fatal, %u remarks:\n%s", table[i].var, p.fatal, p.remarks, text_of(&p));
        if (table[i].problem)
            assert_problem(&p, table[i].problem);
        config_sources_free(s);
        problems_clear(&p);
    }
}

static void test_environment_off_by_broken_filter(void **state)
{
    const char *envp[] = {"SCOPE_EVENT_NET_NAME=(", "SCOPE_EVENT_NET=true", NULL};
    struct config_sources *s = config_sources_new();
    struct config *c;

    config_add_environ(s, envp, NULL, NULL);
    c = config_for(s, NULL);
    assert_int_equal(event_mask(c) & 1u << CFG_EW_NET, 0);
    config_free(c);
    config_sources_free(s);
}

static struct config *with_env(const char *const *envp, struct problems *p)
{
    struct config_sources *s = config_sources_new();
    struct config *c;

    config_add_environ(s, envp, collect, p);
    c = config_for(s, NULL);
    config_sources_free(s);
    return c;
}

static void test_cribl(void **state)
{
    struct problems p = {0};
    struct config *c;
    struct config_sources *s;
    char *text;

    c = with_env((const char *[]){"SCOPE_CRIBL=tcp://in.example:10090", NULL}, &p);
    assert_true(c->cribl.enable);
    assert_int_equal(c->event.transport.type, CFG_TCP);
    assert_string_equal(c->event.transport.host, "in.example");
    assert_true(transport_equal(&c->event.transport, &c->metric.transport));
    assert_int_equal(c->metric.format, CFG_NDJSON);
    assert_false(c->event.transport.tls.enable);
    assert_no_problem(&p);
    config_free(c);

    /* Both: the cloud, in either order, with TLS that nothing weakens. */
    for (int i = 0; i < 2; i++) {
        const char *envp[] = {i ? "SCOPE_CRIBL_CLOUD=tcp://cloud:1" : "SCOPE_CRIBL=tcp://plain:2",
                              i ? "SCOPE_CRIBL=tcp://plain:2" : "SCOPE_CRIBL_CLOUD=tcp://cloud:1",
                              "SCOPE_CRIBL_TLS_VALIDATE_SERVER=false", "SCOPE_CRIBL_TLS_CA_CERT_PATH=/x", NULL};

        c = with_env(envp, &p);
        assert_string_equal(c->event.transport.host, "cloud");
        assert_true(c->event.transport.tls.enable);
        assert_true(c->event.transport.tls.validateserver);
        assert_null(c->event.transport.tls.cacertpath);
        assert_problem(&p, "SCOPE_CRIBL is ignored because SCOPE_CRIBL_CLOUD is set");
        assert_int_equal(p.fatal, 0);
        config_free(c);
        problems_clear(&p);
    }

    c = with_env((const char *[]){"SCOPE_CRIBL_ENABLE=false", "SCOPE_CRIBL=unix://@x", NULL}, &p);
    assert_false(c->cribl.enable);
    assert_string_equal(c->event.transport.port, "9109");
    assert_problem(&p, "nothing is sent there");
    config_free(c);
    problems_clear(&p);

    s = from_text("libscope: {log: {level: none}, configevent: false}\n"
                  "cribl: {enable: true, transport: {type: unix, path: /s}}",
                  &p);
    assert_no_problem(&p);
    c = config_for(s, NULL);
    assert_int_equal(c->libscope.log.level, CFG_LOG_WARNING);
    assert_true(c->libscope.configevent);
    assert_string_equal(c->metric.transport.path, "/s");
    config_free(c);
    text = print(s, true);
    assert_non_null(strstr(text, "type: ndjson  # cribl.enable\n"));
    free(text);
    assert_round_trip(s, NULL);
    config_sources_free(s);

    c = config_of("libscope: {log: {level: debug}}\ncribl: {enable: true}", NULL);
    assert_int_equal(c->libscope.log.level, CFG_LOG_DEBUG);
    config_free(c);
}

static void test_env_url_keeps_tls(void **state)
{
    static const char file[] = "event: {transport: {type: tcp, tls: {enable: true, cacertpath: /ca}, buffering: full}}";
    struct config_sources *s = from_text(file, NULL);
    struct config *c;

    config_add_environ(s, (const char *[]){"SCOPE_EVENT_DEST=tcp://[fe80::1%eth0]:9", NULL}, NULL, NULL);
    c = config_for(s, NULL);
    assert_string_equal(c->event.transport.host, "fe80::1%eth0");
    assert_string_equal(c->event.transport.port, "9");
    assert_true(c->event.transport.tls.enable);
    assert_string_equal(c->event.transport.tls.cacertpath, "/ca");
    assert_int_equal(c->event.transport.buffering, CFG_BUFFER_FULL);
    config_free(c);
    /* A flag names the destination, and whether there is TLS; how to verify is said elsewhere. */
    config_set(s, "event.transport", "tcp://h:1", "--eventdest", NULL, NULL);
    c = config_for(s, NULL);
    assert_false(c->event.transport.tls.enable);
    assert_string_equal(c->event.transport.host, "h");
    assert_int_equal(c->event.transport.buffering, CFG_BUFFER_FULL);
    config_free(c);
    config_set(s, "event.transport", "tls://h:1", "--eventdest", NULL, NULL);
    c = config_for(s, NULL);
    assert_true(c->event.transport.tls.enable);
    assert_string_equal(c->event.transport.tls.cacertpath, "/ca");
    config_free(c);
    assert_round_trip(s, NULL);
    config_sources_free(s);
}

static void test_patterns_with_controls(void **state)
{
    static const char text[] = "event:\n  watch:\n  - {type: http, value: \"a\\r\\n\", headers: [\"^X\\r$\"]}\n"
                               "protocol:\n- {name: p, regex: \"\\x01\\e\\r\"}\n"
                               "tags: {t: \"x\\r\"}\ncribl: {authtoken: \"y\\r\"}\n";
    struct problems p = {0};
    struct config_sources *s = from_text(text, &p);
    struct config *c;

    (void)state;
    assert_no_problem(&p);
    config_add_environ(s, (const char *[]){"SCOPE_EVENT_FS_NAME=fs\r?", NULL}, collect, &p);
    assert_no_problem(&p);
    c = config_for(s, NULL);
    assert_string_equal(c->event.watch[CFG_EW_HTTP].value, "a\r\n");
    assert_string_equal(c->event.watch[CFG_EW_HTTP].headers[0], "^X\r$");
    assert_string_equal(c->event.watch[CFG_EW_FS].name, "fs\r?");
    assert_string_equal(c->protocols[0].regex, "\x01\x1b\r");
    assert_string_equal(c->tags[0].value, "x\r");
    config_free(c);
    config_sources_free(s);
    s = from_text("event: {watch: [{type: http, value: \"a\\r\", headers: [\"^X\\r$\"]}]}", NULL);
    assert_round_trip(s, NULL);
    config_sources_free(s);
    problems_clear(&p);
}

static void test_flag_keeps_tls_variables(void **state)
{
    static const struct {
        const char *key, *variables;
    } all[] = {
        {"event.transport", "SCOPE_EVENT"}, {"metric.transport", "SCOPE_METRIC"}, {"cribl.transport", "SCOPE_CRIBL"}};

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        struct config_sources *s = config_sources_new();
        char ca[80], check[80];
        struct config *c;
        char *text;

        snprintf(ca, sizeof(ca), "%s_TLS_CA_CERT_PATH=/my/ca", all[i].variables);
        snprintf(check, sizeof(check), "%s_TLS_VALIDATE_SERVER=false", all[i].variables);
        config_set(s, all[i].key, "tls://h:1", "--dest", NULL, NULL);
        config_add_environ(s, (const char *[]){ca, check, NULL}, NULL, NULL);
        c = config_for(s, NULL);
        const struct cfg_transport *t = i == 0   ? &c->event.transport
                                        : i == 1 ? &c->metric.transport
                                                 : &c->cribl.transport;

        assert_true(t->tls.enable);
        assert_false(t->tls.validateserver);
        assert_string_equal(t->tls.cacertpath, "/my/ca");
        config_free(c);
        text = print(s, true);
        assert_non_null(strstr(text, "_TLS_CA_CERT_PATH"));
        free(text);
        config_sources_free(s);
    }
}

static void test_flags(void **state)
{
    struct config_sources *s = config_sources_new();
    struct problems p = {0};
    struct config *c;

    assert_int_equal(config_set(s, "metric.format.verbositi", "1", "-v", collect, &p), -ENOENT);
    assert_problem(&p, "command line:0: metric.format.verbositi: unknown key; did you mean metric.format.verbosity?");
    assert_int_equal(config_set(s, "metric.format.verbosity", "x", "-v", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "metric", "x", "-v", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "event.watch", "x", "-v", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "tags", "x", "-v", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "protocol[].name", "x", "-v", collect, &p), -ENOENT);
    assert_int_equal(config_set(s, "custom.NAME.filter.arg", "x", "-v", collect, &p), -ENOENT);
    assert_int_equal(config_set(s, "event.transport", "tcp://h", "-e", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "tags.pid", "1", "-t", collect, &p), -EINVAL);
    assert_int_equal(config_set(s, "tags.a", "$HOME", "-t", collect, &p), 0);
    assert_int_equal(config_set(s, "event.watch.syscall", "true", "--syscalls", collect, &p), 0);
    assert_int_equal(config_set(s, "event.watch.http.headers", "x", "--header", collect, &p), 0);
    assert_int_equal(config_set(s, "metric.transport", "[::1]:9", "-m", collect, &p), 0);
    c = config_for(s, NULL);
    assert_string_equal(c->tags[0].value, "$HOME"); /* the shell's business */
    assert_true(c->event.watch[CFG_EW_SYSCALL].enable);
    assert_string_equal(c->event.watch[CFG_EW_HTTP].headers[0], "x");
    assert_null(c->event.watch[CFG_EW_HTTP].headers[1]);
    assert_true(c->metric.transport.tls.enable);
    assert_string_equal(c->metric.transport.host, "::1");
    config_free(c);
    assert_round_trip(s, NULL);
    config_sources_free(s);
    problems_clear(&p);
}

/* Substitution --------------------------------------------------------------- */

static void test_expand(void **state)
{
    static const struct {
        const char *text, *result;
    } table[] = {
        {"", ""},
        {"$A", "1"},
        {"x$A.y", "x1.y"},
        {"$A$B", "12"},
        {"$AB", "$AB"},
        {"$C", "$C"},
        {"\\$A", "$A"},
        {"\\\\$A", "\\$A"},
        {"$", "$"},
        {"$$A", "$1"},
        {"a$ b", "a$ b"},
        {"${A}", "${A}"},
        {"(\\.log$)", "(\\.log$)"},
        {"$E", ""},
        {"$D", "$A"},
        {"\\x$A", "\\x1"},
        {"$A\\", "1\\"},
        {"\\$)", "$)"},
    };
    const char *envp[] = {"A=1", "B=2", "D=$A", "E=", "A=first counts", NULL};

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct config_sources *s = config_sources_new();
        struct config *c;
        struct buf b = BUF_INIT;

        buf_str(&b, "tags: {t: ");
        buf_json_str(&b, table[i].text);
        buf_str(&b, "}");
        config_add_environ(s, envp, NULL, NULL);
        config_add_text(s, "f.yml", b.p, b.len, NULL, NULL);
        c = config_for(s, NULL);
        assert_int_equal(c->tag_count, 1);
        assert_string_equal(c->tags[0].value, table[i].result);
        config_free(c);
        assert_round_trip(s, NULL);
        config_sources_free(s);
        buf_free(&b);
    }
}

static void test_substitution_places(void **state)
{
    static const char file[] = "metric: {format: {verbosity: $V, statsdprefix: $U}, transport: {host: '$H'}}\n"
                               "event: {watch: [{type: fs, name: $U}]}\n"
                               "tags: {$U: $P, plain: $U}\n";
    const char *envp[] = {"V=7", "U=joe", "H=a b", "P=session", "SCOPE_STATSD_MAXLEN=1$V", NULL};
    const char *proc_env[] = {"P=process", "V=2", NULL};
    const struct cfg_process proc = {.procname = "x", .environ_ = proc_env};

    /* Before or after the file: the same result, and each problem told once. */
    for (int first = 0; first < 2; first++) {
        struct config_sources *s = config_sources_new();
        struct problems p = {0};
        struct config *c;

        if (first)
            config_add_environ(s, envp, collect, &p);
        config_add_text(s, "f.yml", file, strlen(file), collect, &p);
        if (!first)
            config_add_environ(s, envp, collect, &p);
        assert_int_equal(p.fatal, 1);
        assert_problem(&p, "f.yml:1: metric.transport.host: \"a b\" can't be used");
        c = config_for(s, &proc);
        assert_int_equal(c->metric.verbosity, 7);
        assert_int_equal(c->metric.statsdmaxlen, 17);
        assert_string_equal(c->metric.statsdprefix, "joe.");
        assert_string_equal(c->metric.transport.host, "127.0.0.1");
        assert_string_equal(c->event.watch[CFG_EW_FS].name, "$U"); /* a pattern */
        assert_string_equal(c->tags[0].name, "joe");
        assert_string_equal(c->tags[0].value, "process");
        assert_string_equal(c->tags[1].value, "joe");
        config_free(c);
        c = config_for(s, NULL);
        assert_string_equal(c->tags[0].value, "session");
        config_free(c);
        config_sources_free(s);
        problems_clear(&p);
    }
}

static void test_tags(void **state)
{
    static const char *const reserved[] = {"host", "proc", "pid",  "source", "sourcetype", "_time",   "cmd",
                                           "data", "id",   "type", "body",   "_channel",   "_metric", "_value"};
    struct config_sources *s;
    struct problems p = {0};
    struct config *c;

    for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++) {
        char *text = xasprintf("tags: {%s: x, ok: y}", reserved[i]);

        c = config_of(text, &p);
        assert_int_equal(p.fatal, 1);
        assert_problem(&p, "choose another name");
        assert_int_equal(c->tag_count, 1);
        config_free(c);
        problems_clear(&p);
        free(text);
    }
    s = from_text("tags: {a: file, b: 'x: y'}", &p);
    config_add_environ(s, (const char *[]){"SCOPE_TAG_a=env=1", "SCOPE_TAG_C=", NULL}, collect, &p);
    assert_no_problem(&p);
    c = config_for(s, NULL);
    assert_int_equal(c->tag_count, 3);
    assert_string_equal(c->tags[0].value, "env=1");
    assert_string_equal(c->tags[1].value, "x: y");
    assert_string_equal(c->tags[2].name, "C");
    assert_string_equal(c->tags[2].value, "");
    config_free(c);
    config_sources_free(s);
}

static void test_paths(void **state)
{
    char *cwd = getcwd(NULL, 0), *expected = xasprintf("%s/m.json", strcmp(cwd, "/") != 0 ? cwd : "");
    struct config *c = config_of("metric: {transport: {type: file, path: ./m.json}}\n"
                                 "event: {transport: {type: file, path: stdout}}\n"
                                 "libscope: {log: {transport: {type: unix, path: '@x'}}}\n",
                                 NULL);

    assert_string_equal(c->metric.transport.path, expected);
    assert_string_equal(c->event.transport.path, "stdout");
    assert_string_equal(c->libscope.log.transport.path, "@x");
    config_free(c);
    /* What is needed and missing is never NULL. */
    c = config_of("event: {transport: {type: file}}\nlibscope: {log: {transport: {type: tcp}}}", NULL);
    assert_string_equal(c->event.transport.path, "");
    assert_string_equal(c->libscope.log.transport.host, "");
    assert_string_equal(c->libscope.log.transport.port, "");
    config_free(c);
    free(expected);
    free(cwd);
}

/* Destinations ---------------------------------------------------------------- */

static void test_urls(void **state)
{
    static const struct {
        const char *url;
        bool flag;
        int type; /* -1: refused */
        const char *host, *port, *path;
        bool tls;
        const char *text; /* cfg_transport_url(), if it isn't the same */
    } table[] = {
        {"udp://127.0.0.1:8125", false, CFG_UDP, "127.0.0.1", "8125", NULL, false, NULL},
        {"tcp://host.example:syslog", false, CFG_TCP, "host.example", "syslog", NULL, false, NULL},
        {"TCP://h:1", false, CFG_TCP, "h", "1", NULL, false, "tcp://h:1"},
        {"tcp://h:1/", false, CFG_TCP, "h", "1", NULL, false, "tcp://h:1"},
        {"tls://h:1", false, CFG_TCP, "h", "1", NULL, true, NULL},
        {"tcp://[::1]:9000", false, CFG_TCP, "::1", "9000", NULL, false, NULL},
        {"udp://[fe80::1%eth0]:9000", false, CFG_UDP, "fe80::1%eth0", "9000", NULL, false, NULL},
        {"unix:///run/x.sock", false, CFG_UNIX, NULL, NULL, "/run/x.sock", false, NULL},
        {"unix://@abstract", false, CFG_UNIX, NULL, NULL, "@abstract", false, NULL},
        {"file:///tmp/a b:c", false, CFG_FILE, NULL, NULL, "/tmp/a b:c", false, NULL},
        {"file://stdout", false, CFG_FILE, NULL, NULL, "stdout", false, NULL},
        {"file://stderr", false, CFG_FILE, NULL, NULL, "stderr", false, NULL},
        {"file://relative.json", false, CFG_FILE, NULL, NULL, "relative.json", false, NULL},
        {"edge", false, CFG_EDGE, NULL, NULL, NULL, false, NULL},
        {"edge", true, CFG_EDGE, NULL, NULL, NULL, false, NULL},
        {"host:9000", true, CFG_TCP, "host", "9000", NULL, true, "tls://host:9000"},
        {"[::1]:9000", true, CFG_TCP, "::1", "9000", NULL, true, "tls://[::1]:9000"},
        {"/tmp/x.json", true, CFG_FILE, NULL, NULL, "/tmp/x.json", false, "file:///tmp/x.json"},
        {"./a:b", true, CFG_FILE, NULL, NULL, "./a:b", false, "file://./a:b"},
        {"stderr", true, CFG_FILE, NULL, NULL, "stderr", false, "file://stderr"},
        {"tcp://h:1", true, CFG_TCP, "h", "1", NULL, false, NULL},
        {"", false, -1, NULL, NULL, NULL, false, "not a destination"},
        {"", true, -1, NULL, NULL, NULL, false, "not a destination"},
        {"edgeware", false, -1, NULL, NULL, NULL, false, "not a destination"},
        {"host:9000", false, -1, NULL, NULL, NULL, false, "not a destination"},
        {"/tmp/x.json", false, -1, NULL, NULL, NULL, false, "not a destination"},
        {"host", true, -1, NULL, NULL, NULL, false, "neither HOST:PORT nor a path"},
        {"tcp://host", false, -1, NULL, NULL, NULL, false, "port is missing"},
        {"tcp://host:", false, -1, NULL, NULL, NULL, false, "port is not"},
        {"tcp://host:0", false, -1, NULL, NULL, NULL, false, "port is not"},
        {"prometheus://0.0.0.0:9200", false, CFG_PROMETHEUS, "0.0.0.0", "9200", NULL, false, NULL},
        {"prometheus://[::1]:0/", true, CFG_PROMETHEUS, "::1", "0", NULL, false, "prometheus://[::1]:0"},
        {"prometheus://localhost:1", true, CFG_PROMETHEUS, "localhost", "1", NULL, false, NULL},
        {"prometheus://", false, CFG_PROMETHEUS, "127.0.0.1", "9109", NULL, false, "prometheus://127.0.0.1:9109"},
        {"prometheus://host.example:1", false, -1, NULL, NULL, NULL, false, "an address of this host"},
        {"prometheus://127.0.0.1:http", false, -1, NULL, NULL, NULL, false, "a number from 0"},
        {"prometheus://127.0.0.1:65536", false, -1, NULL, NULL, NULL, false, "a number from 0"},
        {"prometheus://127.0.0.1", false, -1, NULL, NULL, NULL, false, "port is missing"},
        {"tcp://host:65536", false, -1, NULL, NULL, NULL, false, "port is not"},
        {"tcp://host:1/path", false, -1, NULL, NULL, NULL, false, "port is not"},
        {"tcp://:9000", false, -1, NULL, NULL, NULL, false, "host is not"},
        {"tcp://user@host:9000", false, -1, NULL, NULL, NULL, false, "host is not"},
        {"tcp://::1:9000", false, -1, NULL, NULL, NULL, false, "in brackets"},
        {"tcp://[::1]", false, -1, NULL, NULL, NULL, false, "port is missing"},
        {"tcp://[::1:9000", false, -1, NULL, NULL, NULL, false, "isn't closed"},
        {"tcp://[host]:9000", false, -1, NULL, NULL, NULL, false, "not an IPv6 address"},
        {"tcp://[]:9000", false, -1, NULL, NULL, NULL, false, "host is not"},
        {"http://h:1", false, -1, NULL, NULL, NULL, false, "unknown scheme"},
        {"://h:1", false, -1, NULL, NULL, NULL, false, "unknown scheme"},
        {"unix://", false, -1, NULL, NULL, NULL, false, "path is missing"},
        {"unix://@", false, -1, NULL, NULL, NULL, false, "path is missing"},
        {"file://", false, -1, NULL, NULL, NULL, false, "path is missing"},
        {"file:///a\nb", false, -1, NULL, NULL, NULL, false, "control characters"},
    };
    char longest[200];

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct cfg_transport t;
        const char *why = "";
        int r = cfg_transport_parse(table[i].url, table[i].flag, &t, &why);
        char *url;

        if (table[i].type < 0) {
            if (r != -EINVAL || !strstr(why, table[i].text))
                fail_msg("%s: %d %s", table[i].url, r, why);
            continue;
        }
        if (r < 0)
            fail_msg("%s: %s", table[i].url, why);
        assert_int_equal(t.type, table[i].type);
        assert_int_equal(t.tls.enable, table[i].tls);
        assert_true(t.tls.validateserver);
        if (table[i].host) {
            assert_string_equal(t.host, table[i].host);
            assert_string_equal(t.port, table[i].port);
        }
        if (table[i].path)
            assert_string_equal(t.path, table[i].path);
        url = cfg_transport_url(&t);
        assert_string_equal(url, table[i].text ? table[i].text : table[i].url);
        free(url);
        cfg_transport_clear(&t);
    }
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, "unix:///", 8);
    longest[7 + 108] = 0; /* "/" and 107 more */
    assert_int_equal(cfg_transport_parse(longest, false, &(struct cfg_transport){0}, &(const char *){0}), -EINVAL);
    longest[7 + 107] = 0;
    {
        struct cfg_transport t;

        assert_int_equal(cfg_transport_parse(longest, false, &t, NULL), 0);
        cfg_transport_clear(&t);
    }
}

static void test_prometheus_has_a_port_of_its_own(void **state)
{
    static const struct {
        const char *text, *port;
    } table[] = {{"metric: {transport: {type: prometheus}}", "9109"},
                 {"metric: {transport: {type: prometheus, port: 8125}}", "8125"},
                 {"metric: {transport: {type: prometheus, port: 0}}", "0"},
                 {"metric: {transport: {type: udp}}", "8125"}};

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct problems p = {0};
        struct config_sources *s = from_text(table[i].text, &p);
        struct config *c = config_for(s, NULL);

        assert_int_equal(p.fatal + p.remarks, 0);
        assert_string_equal(c->metric.transport.host, "127.0.0.1");
        assert_string_equal(c->metric.transport.port, table[i].port);
        assert_round_trip(s, NULL);
        config_free(c);
        config_sources_free(s);
    }
}

/* Custom filters ---------------------------------------------------------------- */

static void test_filters(void **state)
{
    static const char *const envp[] = {"SHELL=/bin/sh", "EMPTY=", "LANG=C=D", NULL};
    static const char *const ancestors[] = {"make", "bash", "sshd", NULL};
    static const struct cfg_process full = {.procname = "nginx",
                                            .cmdline = "nginx -g daemon off;",
                                            .hostname = "Web1",
                                            .username = "www",
                                            .environ_ = envp,
                                            .ancestors = ancestors};
    static const struct cfg_process unknown = {0};
    static const struct {
        const char *filter;
        bool match;
    } table[] = {
        {"procname: nginx", true},
        {"procname: Nginx", false},
        {"procname: ngin", false},
        {"arg: nginx", true},
        {"arg: '-g daemon'", true},
        {"arg: off.", false},
        {"hostname: web1", true},
        {"hostname: WEB1", true},
        {"hostname: web", false},
        {"username: www", true},
        {"username: WWW", false},
        {"env: SHELL", true},
        {"env: SHEL", false},
        {"env: SHELL=/bin/sh", true},
        {"env: SHELL=/bin", false},
        {"env: EMPTY", true},
        {"env: EMPTY=", true},
        {"env: EMPTY=x", false},
        {"env: LANG=C=D", true},
        {"env: LANG=C", false},
        {"ancestor: bash", true},
        {"ancestor: sshd", true},
        {"ancestor: nginx", false},
        {"procname: nginx, username: www, ancestor: make, env: SHELL, arg: daemon, hostname: web1", true},
        {"procname: nginx, username: root", false},
        {"procname: apache, username: www", false},
        {"procname: $NAME", true},
        {"procname: $OTHER", false},
        {"procname: nginx, nonsense: x", false}, /* a mistake must not widen it */
        {"procname: nginx, arg: ''", false},
        {"", false},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        char *text =
            xasprintf("custom: {x: {config: {metric: {format: {verbosity: 9}}}, filter: {%s}}}", table[i].filter);
        struct config_sources *s = from_text(text, NULL);
        struct config *c;

        config_add_environ(s, (const char *[]){"NAME=nginx", NULL}, NULL, NULL);
        c = config_for(s, &full);
        if ((c->metric.verbosity == 9) != table[i].match)
            fail_msg("filter {%s}", table[i].filter);
        config_free(c);
        c = config_for(s, &unknown);
        assert_int_equal(c->metric.verbosity, 4);
        config_free(c);
        c = config_for(s, NULL);
        assert_int_equal(c->metric.verbosity, 4);
        config_free(c);
        assert_round_trip(s, &full);
        config_sources_free(s);
        free(text);
    }
}

static void test_custom_order(void **state)
{
    static const char file[] =
        "custom:\n"
        "  z: {filter: {procname: a}, config: {libscope: {summaryperiod: 2}, tags: {x: 1, y: 1}}}\n"
        "  a: {filter: {procname: a}, config: {libscope: {summaryperiod: 3}, tags: {y: 2}}}\n"
        "  m: {filter: {procname: b}, config: {libscope: {summaryperiod: 4}}}\n"
        "libscope: {summaryperiod: 1}\n";
    const struct cfg_process a = {.procname = "a"};
    struct config_sources *s = from_text(file, NULL);
    struct config *c = config_for(s, &a);

    assert_int_equal(c->libscope.summaryperiod, 3); /* in file order, and above what comes later in the file */
    assert_int_equal(c->tag_count, 2);
    assert_string_equal(c->tags[1].value, "2");
    config_free(c);
    assert_false(config_is_common(s));
    config_sources_free(s);
    s = from_text("libscope: {summaryperiod: 1}\n", NULL);
    assert_true(config_is_common(s));
    config_sources_free(s);
    s = from_text("tags: {team: $TEAM}\n", NULL); /* each process's own */
    assert_false(config_is_common(s));
    config_sources_free(s);
    s = from_text("libscope: {commanddir: $HOME}\ntags: {team: x}\n", NULL);
    assert_true(config_is_common(s));
    config_sources_free(s);
}

static void test_protocols(void **state)
{
    struct config *c = config_of("protocol:\n"
                                 "- {name: a, regex: 'x$y'}\n"
                                 "- {regex: b, name: b, binary: true, len: 7, detect: false, payload: true}\n"
                                 "- {name: a, regex: z}\n"
                                 "- {name: c, regex: '('}\n",
                                 NULL);

    assert_int_equal(c->protocol_count, 2);
    assert_string_equal(c->protocols[0].name, "a");
    assert_string_equal(c->protocols[0].regex, "z");
    assert_false(c->protocols[0].binary);
    assert_true(c->protocols[0].detect);
    assert_false(c->protocols[0].payload);
    assert_int_equal(c->protocols[0].len, 0);
    assert_true(c->protocols[1].binary);
    assert_false(c->protocols[1].detect);
    assert_true(c->protocols[1].payload);
    assert_int_equal(c->protocols[1].len, 7);
    config_free(c);
}

/* Equality and JSON ---------------------------------------------------------------- */

static void test_equal(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } table[] = {
        {"", "metric: {enable: true}", true},
        {"tags: {a: 1, b: 2}", "tags: {b: 2, a: 1}", true},
        {"tags: {a: 1}", "tags: {a: 2}", false},
        {"tags: {a: 1}", "", false},
        {"event: {watch: [{type: http, headers: [a]}]}", "event: {watch: [{type: http, headers: [b]}]}", false},
        {"event: {watch: [{type: fs}]}", "event: {watch: [{type: fs, name: x}]}", false},
        {"event: {transport: {path: /x}}", "", true}, /* means nothing for tcp */
        {"event: {transport: {type: file, path: /x}}", "event: {transport: {type: file, path: /y}}", false},
        {"protocol: [{name: a, regex: b}]", "protocol: [{name: a, regex: b, len: 1}]", false},
        {"libscope: {lossless: true}", "", false},
        {"cribl: {authtoken: a}", "cribl: {authtoken: b}", false},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct config *a = config_of(table[i].a, NULL), *b = config_of(table[i].b, NULL);

        if (config_equal(a, b) != table[i].equal || config_equal(b, a) != table[i].equal)
            fail_msg("%s | %s", table[i].a, table[i].b);
        config_free(a);
        config_free(b);
    }
}

/* --- lists --- */

static void items_are(const char *list, const char *expected)
{
    struct buf b = BUF_INIT;
    char *item;

    for (; (item = cfg_list_item(&list)); free(item))
        buf_printf(&b, "<%s>", item);
    assert_string_equal(buf_cstr(&b), expected);
    buf_free(&b);
}

static void test_lists(void **state)
{
    static const char yaml[] = "notice: {file: {read: [~/secret, '$HOME/mine', 'a,b'], send: []}}\n";
    static const char *const env[] = {"HOME=/h", "SCOPE_NOTICE_FILE_WRITE=/x,$HOME/y,,a\\,b", "SCOPE_NOTICE_NET_DENY=default, evil",
                                      "SCOPE_NOTICE_DNS_TYPES=A,default,a", NULL};
    struct config_sources *s = config_sources_new();
    struct problems p = {0};
    struct config *c, *d;
    char *text;

    config_add_text(s, "f", yaml, sizeof(yaml) - 1, collect, &p);
    config_add_environ(s, env, collect, &p);
    c = config_for(s, NULL);
    items_are(c->notice.file.read, "<~/secret></h/mine><a,b>");
    items_are(c->notice.file.send, "");
    items_are(c->notice.file.write, "</x></h/y><a,b>");
    items_are(c->notice.net.deny, "");
    assert_memory_equal(c->notice.dns.types, "A,A,AAAA,", 9);
    assert_int_equal(p.fatal, 2);
    assert_non_null(strstr(text_of(&p), "SCOPE_NOTICE_NET_DENY: \" evil\": expected an address, a network such as 10.0.0.0/8, "
                                        "a name or *.NAME; this entry isn't used"));
    assert_non_null(strstr(text_of(&p), "SCOPE_NOTICE_DNS_TYPES: \"a\": expected the name of a type of DNS records in capitals"));
    problems_clear(&p);
    /* What is printed means the same. */
    text = print(s, false);
    d = config_of(text, &p);
    assert_no_problem(&p);
    assert_true(config_equal(c, d));
    config_free(d);
    config_free(c);
    config_sources_free(s);
    free(text);
    /* `default` is what there would be without the key; an empty list is none. */
    d = defaults();
    c = config_of("notice: {file: {read: [default, /srv/key], write: ''}}\n", &p);
    assert_no_problem(&p);
    assert_memory_equal(c->notice.file.read, d->notice.file.read, strlen(d->notice.file.read));
    assert_string_equal(c->notice.file.read + strlen(d->notice.file.read), ",/srv/key");
    items_are(c->notice.file.write, "");
    assert_false(config_equal(c, d));
    config_free(c);
    config_free(d);
}

static void test_list_mistakes(void **state)
{
    static const struct {
        const char *text, *problem;
    } table[] = {
        {"notice: {file: {read: [/]}}", "notice.file.read: \"/\": the whole tree can't be watched; name what lies below it"},
        {"notice: {file: {read: ['!']}}", "expected a path behind the !"},
        {"notice: {file: {read: [~root/x]}}", "~ stands for home directories only as ~/NAME"},
        {"notice: {file: {read: [/a/../b]}}", "write the path without empty components, . and .."},
        {"notice: {file: {read: [\"a\\nb\"]}}", "an entry has control characters or isn't UTF-8; ? and * stand for such bytes"},
        {"notice: {file: {read: [{a: b}]}}", "has a map in the list; expected a list of paths"},
        {"notice: {file: {read: {a: b}}}", "has a map; expected a list of paths"},
        {"notice: {net: {deny: [10.0.0.0/33]}}", "the prefix of an IPv4 network has 0 to 32 bits"},
        {"notice: {net: {deny: ['::/129']}}", "the prefix of an IPv6 network has 0 to 128 bits"},
        {"notice: {net: {deny: [10.0.0/8]}}", "this is no address"},
        {"notice: {net: {deny: [10.0.0.256]}}", "this is no address"},
        {"notice: {net: {deny: [a.*.b]}}", "a * stands only at the beginning, as in *.example.com"},
        {"notice: {net: {deny: ['a b']}}", "expected an address, a network such as 10.0.0.0/8, a name or *.NAME"},
        {"notice: {enabled: true}", "unknown key; did you mean enable?"},
        {"notice: {maxpersec: -1}", "expected a number of 0 or more"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct problems p = {0};
        struct config *c = config_of(table[i].text, &p);

        if (p.fatal != 1 || !strstr(text_of(&p), table[i].problem))
            fail_msg("%s: %s", table[i].text, text_of(&p));
        problems_clear(&p);
        config_free(c);
    }
}

static void test_peers(void **state)
{
    struct cfg_peer p;
    const char *error;

    assert_int_equal(cfg_peer_parse("10.1.2.3/8", &p, &error), 0);
    assert_int_equal(p.bits, 104);
    assert_memory_equal(p.address, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\0", 16);
    assert_int_equal(cfg_peer_parse("192.0.2.1", &p, &error), 0);
    assert_int_equal(p.bits, 128);
    assert_int_equal(cfg_peer_parse("2001:db8:ffff::/33", &p, &error), 0);
    assert_int_equal(p.bits, 33);
    assert_memory_equal(p.address, "\x20\x01\x0d\xb8\x80\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(cfg_peer_parse("[::1]", &p, &error), 0);
    assert_false(p.name);
    assert_int_equal(cfg_peer_parse("*.Example.COM.", &p, &error), 0);
    assert_true(p.name);
    assert_string_equal(p.text, "*.example.com");
    assert_int_equal(cfg_peer_parse("fe80", &p, &error), 0);
    assert_true(p.name);
    assert_int_equal(cfg_peer_parse("0.0.0.0/0", &p, &error), 0);
    assert_int_equal(p.bits, 96);
    assert_int_equal(cfg_peer_parse("*.", &p, &error), -EINVAL);
    assert_int_equal(cfg_peer_parse("10.0.0.0/", &p, &error), -EINVAL);
    assert_int_equal(cfg_peer_parse("10.0.0.0/8x", &p, &error), -EINVAL);
}

static const char *at(json_t *root, const char *path)
{
    char *copy = xstrdup(path), *save = NULL;
    json_t *j = root;

    for (char *part = strtok_r(copy, ".", &save); part && j; part = strtok_r(NULL, ".", &save))
        j = json_is_array(j) ? json_array_get(j, (size_t)atoi(part)) : json_object_get(j, part);
    free(copy);
    if (!j)
        fail_msg("no %s", path);
    return json_string_value(j);
}

static void test_json(void **state)
{
    struct config *c = config_of("cribl: {authtoken: sesame}\ntags: {a: \"q\\\"\\n\"}\n"
                                 "event: {watch: [{type: http, headers: [x]}, {type: console}]}\n"
                                 "metric: {transport: {type: file, path: /m}}\n",
                                 NULL);
    char *text = config_to_json(c);
    json_error_t error;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    static const char *const order[] = {"metric", "libscope", "event",  "payload", "collector",
                                        "notice", "otlp",     "tags",   "protocol", "cribl"};
    const char *key;
    json_t *value;
    size_t i = 0;

    if (!j)
        fail_msg("%s: %s", error.text, text);
    json_object_foreach(j, key, value) assert_string_equal(key, order[i++]);
    assert_int_equal(i, 10);
    assert_null(strstr(text, "sesame"));
    assert_string_equal(at(j, "cribl.authtoken"), "***");
    assert_string_equal(at(j, "cribl.enable"), "false");
    assert_string_equal(at(j, "tags.a"), "q\"\n");
    assert_string_equal(at(j, "metric.transport.path"), "/m");
    assert_string_equal(at(j, "metric.transport.buffering"), "line");
    assert_string_equal(at(j, "metric.format.type"), "statsd");
    assert_string_equal(at(j, "metric.watch.0.type"), "fs");
    assert_string_equal(at(j, "metric.watch.5.type"), "statsd");
    assert_string_equal(at(j, "event.transport.port"), "9109");
    assert_string_equal(at(j, "event.transport.tls.validateserver"), "true");
    assert_string_equal(at(j, "event.watch.0.type"), "console");
    assert_string_equal(at(j, "event.watch.0.allowbinary"), "true");
    assert_string_equal(at(j, "event.watch.1.headers.0"), "x");
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "event"), "watch")), 2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "libscope"), "summaryperiod")), 10);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "collector"), "priority")), -10);
    assert_string_equal(at(j, "notice.enable"), "false");
    assert_null(json_object_get(json_object_get(j, "notice"), "file"));
    json_decref(j);
    free(text);
    config_free(c);
    c = config_of("notice: {enable: true, file: {write: [/a, '/b,c']}, net: {deny: [10.0.0.0/8]}, maxperrule: 3}\n", NULL);
    text = config_to_json(c);
    j = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!j)
        fail_msg("%s: %s", error.text, text);
    assert_string_equal(at(j, "notice.enable"), "true");
    assert_string_equal(at(j, "notice.file.write.1"), "/b,c");
    assert_int_equal(json_array_size(json_object_get(json_object_get(json_object_get(j, "notice"), "file"), "write")), 2);
    assert_string_equal(at(j, "notice.file.read.0"), "/etc/shadow");
    assert_string_equal(at(j, "notice.net.deny.0"), "10.0.0.0/8");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "notice"), "maxperrule")), 3);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "event"), "watch")), 7);
    json_decref(j);
    free(text);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_default_file),
        cmocka_unit_test(test_default_file_uncommented),
        cmocka_unit_test(test_documentation),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_problem_keeps_the_rest),
        cmocka_unit_test(test_not_yaml),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_find_file),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_every_key_round_trips),
        cmocka_unit_test(test_big_round_trip),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_every_variable),
        cmocka_unit_test(test_environment_problems),
        cmocka_unit_test(test_environment_off_by_broken_filter),
        cmocka_unit_test(test_cribl),
        cmocka_unit_test(test_env_url_keeps_tls),
        cmocka_unit_test(test_flag_keeps_tls_variables),
        cmocka_unit_test(test_patterns_with_controls),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_substitution_places),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_prometheus_has_a_port_of_its_own),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_custom_order),
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_list_mistakes),
        cmocka_unit_test(test_peers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
