/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/mem.h"
#include "cli/host_setup.h"
#include "config/config.h"
#include "reach/reach.h"
#include "rules/rules.h"

#define IN_FORCE_MS 10000 /* until the supervisor has compiled them */
#define ALL_MS      5000  /* and until collector and reach have read them, if they run */
#define LISTED      10    /* rules in a hint */
#define REACH_MAX   ((size_t)16 << 20)

static const struct cli_option options[] = {
    {"add", "PROGRAM", "Observe this program wherever it runs; _MatchAll_: all programs", NULL, 0, false, false},
    {"remove", "PROGRAM", "Take its rule out", NULL, 0, false, false},
    {"arg", "TEXT", "With --add or --remove: only with this text in the command line", NULL, 0, false, false},
    {"sourceid", "ID", "With --add or --remove: a name for the rule, of several for the same program", NULL, 0, false,
     false},
    {"unixpath", "PATH", "With --add: the socket of Cribl Edge, where rules with cribl.enable send to", NULL, 0, false,
     false},
    {"json", NULL, "Print the rules as one line of JSON", NULL, 'j', false, false},
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"scope rules", "the rules, what each of them reaches, and what can't be reached"},
    {"scope rules --add nginx", "observe every nginx of this host from now on"},
    {"scope rules --add java --arg myServer -e tcp://logs.example.org:9109", "with a destination of its own for events"},
    {"scope rules --remove nginx", "leave it alone again"},
    {0},
};

/* Names a rule for people: "java" with arg "x", sourceid "y". */
static void name_rule(struct buf *b, const struct rule *r)
{
    if (r->kind == RULES_DENY)
        buf_str(b, "denied ");
    buf_str(b, r->procname ? r->procname : RULES_ANY);
    if (r->arg)
        buf_printf(b, " with arg \"%s\"", r->arg);
    if (r->sourceid)
        buf_printf(b, "%s sourceid \"%s\"", r->arg ? "," : " with", r->sourceid);
}

/* What an option of the command line says; _MatchAll_ is any. */
static char *wanted(const struct args *a, const char *option)
{
    const char *value = args_get(a, option);

    return value && strcmp(value, RULES_ANY) != 0 ? xstrdup(value) : NULL;
}

/* Options that say how to observe: --add alone takes them. */
static const char *run_option(const struct args *a)
{
    for (size_t i = 0; i < a->value_count; i++)
        for (const struct cli_option *o = cli_run_options; o->name; o++)
            if (a->values[i].option == o)
                return o->name;
    return NULL;
}

static int check_options(const struct args *a)
{
    static const char *const ours[] = {"arg", "sourceid", "unixpath"};
    bool add = args_has(a, "add"), remove = args_has(a, "remove");
    const char *option = run_option(a);
    int rc = args_conflict(a, "add", "remove");

    if (rc)
        return rc;
    if (option && !add)
        return cli_usage(a->command, "--%s needs --add", option);
    for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
        if (args_has(a, ours[i]) && !add && !(remove && strcmp(ours[i], "unixpath") != 0))
            return cli_usage(a->command, "--%s needs --add%s", ours[i],
                             strcmp(ours[i], "unixpath") != 0 ? " or --remove" : "");
    if (args_has(a, "json") && (add || remove))
        return cli_usage(a->command, "--json is for printing the rules");
    if (args_has(a, "librarypath"))
        return cli_usage(a->command, "--librarypath is not possible here: programs of the whole host load one library");
    if (args_has(a, "nobreaker"))
        return cli_usage(a->command, "--nobreaker is not possible here: it has no key in scope.yml");
    return 0;
}

/* --- what is in force --- */

static uint64_t generation_of(const char *path)
{
    struct rules_head h = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd >= 0) {
        if (read(fd, &h, sizeof(h)) != (ssize_t)sizeof(h) || h.magic != RULES_MAGIC)
            h.generation = 0;
        close(fd);
    }
    return h.generation;
}

/* What reach knows; NULL: nothing. */
static json_t *read_reach(void)
{
    struct buf b = BUF_INIT;
    json_t *ret = NULL;
    ssize_t n = -1;
    int fd = open(HOST_REACH, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    while (fd >= 0 && b.len < REACH_MAX && (n = read(fd, buf_room(&b, 65536), 65536)) > 0)
        b.len += (size_t)n;
    if (fd >= 0)
        close(fd);
    if (n == 0 && b.len)
        ret = json_loadb(b.p, b.len, 0, NULL);
    buf_free(&b);
    if (!json_is_object(ret)) {
        json_decref(ret);
        ret = NULL;
    }
    return ret;
}

static uint64_t reached_generation(void)
{
    json_t *reach = read_reach();
    uint64_t ret = (uint64_t)json_integer_value(json_object_get(reach, "generation"));

    json_decref(reach);
    return ret;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The supervisor sees that the file has changed; returns when that is in force: 0 or an exit status after a message. */
static int wait_in_force(uint64_t before)
{
    uint64_t end = now_ms() + IN_FORCE_MS, is;
    struct host_status s = {0};
    int rc = 0;

    while ((is = generation_of(HOST_RULES_MAPPED)) == before && now_ms() < end)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    for (end = now_ms() + ALL_MS; is != before && reached_generation() < is && now_ms() < end;)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    if (host_status_read(&s) == 0 && s.rules_error) {
        cli_error("the rules are written, but not in force: %s", s.rules_error);
        rc = EXIT_FAILED;
    } else if (is == before) {
        cli_error("the rules are written, but were not taken up within %d s", IN_FORCE_MS / 1000);
        cli_hint("the log of the host's collector says why; `scope doctor` looks at all of it");
        rc = EXIT_FAILED;
    }
    host_status_clear(&s);
    return rc;
}

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->p, b->p, a->len));
}

/* Bytes of the file, to see whether it has been changed. */
static void file_text(struct buf *b)
{
    int fd = open(HOST_RULES, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n;

    while (fd >= 0 && b->len < (1u << 21) && (n = read(fd, buf_room(b, 65536), 65536)) > 0)
        b->len += (size_t)n;
    if (fd >= 0)
        close(fd);
}

/* --- changing --- */

/* The rule's configuration, malloc'ed, NULL: none. Options, --userconfig, or standard input. 0 or an exit status. */
static int read_config(const struct args *a, char **ret)
{
    struct config_sources *c = config_sources_new();
    struct buf input = BUF_INIT;
    char *text = NULL;
    size_t size = 0;
    bool fatal = false;
    const char *file = args_get(a, "userconfig");
    int rc = cli_apply_flags(a, c);

    *ret = NULL;
    if (rc == 0)
        rc = cli_add_input(a, c, &input);
    if (rc == 0 && file && (config_add_file(c, file, cli_problem, &fatal) < 0 || fatal))
        rc = EXIT_FAILED;
    if (rc == 0 && file) {
        int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        ssize_t n = -1;

        while (fd >= 0 && input.len <= (1u << 20) && (n = read(fd, buf_room(&input, 65536), 65536)) > 0)
            input.len += (size_t)n;
        if (fd < 0 || n < 0) {
            cli_error("%s: %s", file, strerror(errno));
            rc = EXIT_FAILED;
        } else if (!input.len) { /* a pipe has been read */
            cli_error("%s: is no file that can be read twice", file);
            rc = EXIT_FAILED;
        }
        if (fd >= 0)
            close(fd);
    }
    if (rc == 0 && input.len) {
        *ret = xstrdup(buf_cstr(&input));
    } else if (rc == 0) {
        FILE *f = open_memstream(&text, &size);

        if (f) {
            config_print_flags(c, f);
            fclose(f);
        }
        if (size)
            *ret = xstrdup(text);
        free(text);
    }
    buf_free(&input);
    config_sources_free(c);
    return rc;
}

static int need_root(void)
{
    if (geteuid() == 0)
        return 0;
    cli_error("only root can change the rules of this host");
    return EXIT_FAILED;
}

static void tell(const char *what, const struct rule *r)
{
    struct buf b = BUF_INIT, shown = BUF_INIT;

    name_rule(&b, r);
    text_clean(&shown, b.p, b.len);
    printf("%s: %s\n", what, buf_cstr(&shown));
    buf_free(&b);
    buf_free(&shown);
}

static int add(const struct args *a)
{
    const char *socket = args_get(a, "unixpath");
    struct rule r = {.kind = RULES_ALLOW};
    struct buf before = BUF_INIT, after = BUF_INIT;
    uint64_t generation;
    int rc = read_config(a, &r.config), done = 0;

    if (rc == 0 && socket && *socket != '/' && *socket != '@')
        rc = cli_usage(a->command, "--unixpath: an absolute path is needed, or @NAME");
    if (rc == 0)
        rc = cli_enter_root(a);
    if (rc == 0)
        rc = need_root();
    if (rc)
        goto out;
    r.procname = wanted(a, "add");
    r.arg = wanted(a, "arg");
    r.sourceid = xstrdup(args_get(a, "sourceid"));
    file_text(&before);
    generation = generation_of(HOST_RULES_MAPPED);
    if (socket && rules_set_socket(HOST_RULES, socket, cli_problem, NULL) < 0)
        rc = EXIT_FAILED;
    if (rc == 0)
        done = rules_add(HOST_RULES, &r, cli_problem, NULL);
    if (rc || (done < 0 && done != -EEXIST)) {
        rc = EXIT_FAILED;
        cli_error("no rule was added");
        goto out;
    }
    file_text(&after);
    if (!host_is_started())
        rc = host_start(true);
    else if (!same_bytes(&before, &after))
        rc = wait_in_force(generation);
    if (rc)
        cli_hint("the rule is in " HOST_RULES " and holds when `scope start` has been successful");
    else
        tell(done == -EEXIST ? "Rule replaced" : "Rule added", &r);
out:
    free(r.procname);
    free(r.arg);
    free(r.sourceid);
    free(r.config);
    buf_free(&before);
    buf_free(&after);
    return rc;
}

/* Which rules there are instead: those with the same name, or the first ones. */
static void tell_others(const struct rules *all, const struct rule *r)
{
    struct buf b = BUF_INIT, shown = BUF_INIT;
    size_t same = 0, listed = 0;

    for (size_t i = 0; i < all->count; i++)
        same += r->procname && all->rule[i].procname && !strcmp(all->rule[i].procname, r->procname);
    for (size_t i = 0; i < all->count && listed < LISTED; i++) {
        const struct rule *o = &all->rule[i];

        if (same && (!o->procname || strcmp(o->procname, r->procname) != 0))
            continue;
        buf_str(&b, listed++ ? "; " : "");
        name_rule(&b, o);
    }
    if ((same ? same : all->count) > listed)
        buf_str(&b, "; ...");
    text_clean(&shown, b.p, b.len);
    if (listed)
        cli_hint("rules that there are: %s", buf_cstr(&shown));
    buf_free(&b);
    buf_free(&shown);
}

static int remove_rule(const struct args *a)
{
    struct rule r = {.kind = RULES_ALLOW};
    struct rules all = {0};
    struct buf b = BUF_INIT, shown = BUF_INIT;
    uint64_t generation;
    size_t left = 0;
    int rc = cli_enter_root(a), done;

    if (rc == 0)
        rc = need_root();
    if (rc)
        return rc;
    r.procname = wanted(a, "remove");
    r.arg = wanted(a, "arg");
    r.sourceid = xstrdup(args_get(a, "sourceid"));
    generation = generation_of(HOST_RULES_MAPPED);
    done = rules_remove(HOST_RULES, &r, cli_problem, NULL);
    if (rules_read(HOST_RULES, &all, NULL, NULL) < 0)
        all = (struct rules){0};
    if (done == -ENOENT) {
        name_rule(&b, &r);
        text_clean(&shown, b.p, b.len);
        cli_error("there is no rule for %s", buf_cstr(&shown));
        tell_others(&all, &r);
        rc = EXIT_FAILED;
    } else if (done < 0) {
        rc = EXIT_FAILED;
    } else {
        if (host_is_started())
            rc = wait_in_force(generation);
        if (rc == 0)
            tell("Rule removed", &r);
        for (size_t i = 0; i < all.count; i++)
            left += all.rule[i].kind == RULES_ALLOW;
        if (rc == 0 && !left)
            cli_hint("no rule is left: nothing is observed; `scope stop -f` undoes `scope start`");
    }
    buf_free(&b);
    buf_free(&shown);
    rules_free(&all);
    free(r.procname);
    free(r.arg);
    free(r.sourceid);
    return rc;
}

/* --- showing --- */

static bool same(const json_t *value, const char *text)
{
    return text ? json_is_string(value) && !strcmp(json_string_value(value), text) : !json_is_string(value);
}

/* What reach tells of a rule, or NULL; *from: where it is looked for, as the order is that of the file. The rules that
 * reach knows may be those before the last change. */
static const json_t *reach_of(const json_t *reach, const struct rule *r, size_t *from)
{
    const json_t *list = json_object_get(reach, "rules");

    for (size_t i = *from; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);

        if (same(json_object_get(e, "procname"), r->procname) && same(json_object_get(e, "arg"), r->arg)) {
            *from = i + 1;
            return e;
        }
    }
    return NULL;
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void count_cell(struct table *t, const json_t *reach, json_int_t n)
{
    if (reach)
        table_cellf(t, "%lld", (long long)n);
    else
        table_cell(t, "-");
}

static void print_rules(const struct rules *all, const json_t *reach)
{
    static const struct table_column columns[] = {{"RULE", 0, 0, false},     {"PROCNAME", 0, 0, false},
                                                  {"ARG", 2, 12, false},     {"SOURCEID", 1, 0, false},
                                                  {"CONFIG", 1, 0, false},   {"LOADER", 0, 0, false},
                                                  {"ATTACHED", 0, 0, false}, {"WAITING", 0, 0, false},
                                                  {"NOT OBSERVED", 0, 0, false}};
    struct table *t = table_new(columns, sizeof(columns) / sizeof(*columns));
    size_t from = 0;

    for (size_t i = 0; i < all->count; i++) {
        const struct rule *r = &all->rule[i];
        const json_t *of = r->kind == RULES_ALLOW ? reach_of(reach, r, &from) : NULL;

        table_cell(t, r->kind == RULES_DENY ? "deny" : "allow");
        table_cell(t, r->procname ? r->procname : RULES_ANY);
        table_cell(t, r->arg ? r->arg : "-");
        table_cell(t, r->sourceid ? r->sourceid : "-");
        table_cell(t, r->config ? "own" : "-");
        count_cell(t, of, number(of, "loader"));
        count_cell(t, of, number(of, "attached"));
        count_cell(t, of, number(of, "waiting"));
        count_cell(t, of, number(of, "left") + number(of, "failed"));
    }
    table_print(t, stdout);
}

/* What rules name and isn't observed, with the reason. */
static void print_missed(const json_t *reach)
{
    static const struct table_column columns[] = {
        {"PID", 0, 0, false}, {"NAME", 0, 0, false}, {"SINCE", 1, 0, false}, {"NOT OBSERVED BECAUSE", 0, 0, false}};
    const json_t *list = json_object_get(reach, "rules"), *e, *p;
    struct table *t = table_new(columns, sizeof(columns) / sizeof(*columns));
    json_int_t unlisted = 0;
    size_t i, j, listed = 0;
    char when[32];

    json_array_foreach(list, i, e) {
        unlisted += number(e, "unlisted");
        json_array_foreach(json_object_get(e, "processes"), j, p) {
            const char *name = json_string_value(json_object_get(p, "name"));
            const char *reason = json_string_value(json_object_get(p, "reason"));

            table_cellf(t, "%lld", (long long)number(p, "pid"));
            table_cell(t, name ? name : "-");
            table_cell(t, text_time((uint64_t)number(p, "since") * 1000000000, when));
            table_cellf(t, "%s%s", reason ? reason : "-",
                        same(json_object_get(p, "state"), "retry") ? " (it is tried again)" : "");
            listed++;
        }
    }
    if (!listed) {
        table_free(t);
    } else {
        putchar('\n');
        table_print(t, stdout);
    }
    if (unlisted > 0)
        printf("and %lld more\n", (long long)unlisted);
    if (number(reach, "beyond") > 0)
        printf("%lld processes that rules name are not looked after: there are too many\n",
               (long long)number(reach, "beyond"));
    if (number(reach, "unanswered") > 0)
        printf("%lld times a process kept its command line from being read: of those only names were compared\n",
               (long long)number(reach, "unanswered"));
}

/* What stands between the file and what happens. */
static void print_state(const json_t *reach)
{
    struct host_status s = {0};
    const char *why = json_string_value(json_object_get(reach, "why"));
    bool started = host_is_started();

    if (host_status_read(&s) < 0)
        s = (struct host_status){0};
    if (!started)
        cli_hint("this host is not being observed; `scope start` begins it");
    if (s.rules_error)
        cli_error("not in force: %s", s.rules_error);
    if (s.preload_error)
        cli_error("programs that start are not observed by their loader: %s", s.preload_error);
    if (started && !reach)
        cli_hint("what the rules reach is not known yet");
    if (started && reach && !json_is_true(json_object_get(reach, "collector")))
        cli_hint("the collector doesn't answer at the moment: what the rules reach may be out of date");
    if (started && why)
        cli_hint("the kernel doesn't tell which programs start (%s): /proc is looked through each second", why);
    host_status_clear(&s);
}

/* Others can read what is masked here. */
static bool is_open(const struct rules *all)
{
    struct stat st;

    return rules_have_secrets(all) && stat(HOST_RULES, &st) == 0 && (st.st_mode & 0044);
}

static int show(const struct args *a)
{
    struct rules all = {0};
    struct buf b = BUF_INIT;
    bool fatal = false;
    size_t allowing = 0;
    json_t *reach;
    int rc = cli_enter_root(a);

    if (rc)
        return rc;
    rc = rules_read(HOST_RULES, &all, cli_problem, &fatal);
    if (rc < 0 && rc != -ENOENT) {
        cli_hint("what was in force before stays so");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < all.count; i++)
        allowing += all.rule[i].kind == RULES_ALLOW;
    if (!allowing) {
        cli_error("Empty rules file");
        cli_hint("`scope rules --add PROGRAM` has a program observed wherever it runs");
        rules_free(&all);
        return EXIT_FAILED;
    }
    if (args_has(a, "json")) {
        rules_json(&all, &b);
        puts(buf_cstr(&b));
        buf_free(&b);
    } else {
        reach = read_reach();
        print_rules(&all, reach);
        print_missed(reach);
        fflush(stdout);
        print_state(reach);
        json_decref(reach);
        if (is_open(&all))
            cli_hint("everybody can read the secrets in " HOST_RULES ": `chmod 600` it");
    }
    rules_free(&all);
    return 0;
}

static int run(struct args *a)
{
    int rc = check_options(a);

    if (rc)
        return rc;
    return args_has(a, "add") ? add(a) : args_has(a, "remove") ? remove_rule(a) : show(a);
}

const struct cli_command command_rules = {
    .name = "rules",
    .summary = "Show and change which programs of the whole host are observed",
    .usage = "[OPTIONS]",
    .description =
        "Rules name programs that are observed: those that run already, and those that are started from now on, by "
        "whomever. They stand in " HOST_RULES ", which can be edited by hand, too. What is saved there is in force at "
        "once; if it has a mistake, the rules from before stay in force. Without --add and --remove the rules are "
        "shown: how many running processes each of them reaches, by their loader or by attaching, and what can't be "
        "reached and why. A process counts for the first rule that names it.\n"
        "--add switches observing the host on, as `scope start` does, and returns when the rule is in force. The "
        "options of `scope run`, a scope.yml on standard input, or -u become the rule's configuration, which lies "
        "above " HOST_CONFIG_DIR "/scope.yml. A rule that is there already gets it in place of its own. --remove needs "
        "the PROGRAM, --arg and --sourceid of the rule. docs/host.md has more.",
    .options = options,
    .more_options = cli_run_options,
    .examples = examples,
    .words = "",
    .min_args = 0,
    .max_args = 0,
    .run = run,
};
