/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/flags.h"
#include "cli/service.h"
#include "config/config.h"
#include "host/service.h"
#include "inject/exe.h"
#include "k8s/yaml.h"

static const struct cli_option options[] = {
    {"force", NULL, "Don't ask before changing anything", NULL, 'f', false, false},
    {"user", "USER",
     "Whom its collector runs as, who then owns the sessions; the service has to run as the same user or as root", NULL,
     'u', false, false},
    {"undo", NULL, "Take out what was put in; sessions stay", NULL, 0, false, false},
    {"list", NULL, "Services that are set up", NULL, 0, false, false},
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"sudo scope service redis-server", "set it up; from its next start on it is observed"},
    {"sudo scope service nginx -e tcp://collector:9109 --force", "its events go elsewhere; nothing is asked"},
    {"sudo scope events --service redis-server", "what it did"},
    {"sudo scope service --list", "what is set up"},
    {"sudo scope service --undo redis-server", "as it was before"},
    {0},
};

/* --- scope.yml, from the options --- */

/* What the options say, and nothing else: all other keys have the values of a session. NULL if they say nothing. */
static json_t *settings(const struct args *a, const struct config *c)
{
    json_t *o = json_object(), *part;

    if (args_has(a, "cribldest")) {
        part = json_pack("{s:o}", "transport", flags_transport(&c->cribl.transport));
        json_object_set_new(part, "enable", json_true());
        if (args_has(a, "authtoken"))
            json_object_set_new(part, "authtoken", flags_text(c->cribl.authtoken));
        json_object_set_new(o, "cribl", part);
    }
    if (args_has(a, "metricdest") || args_has(a, "metricformat") || args_has(a, "metricprefix")) {
        part = args_has(a, "metricdest") ? json_pack("{s:o}", "transport", flags_transport(&c->metric.transport))
                                         : json_object();
        if (args_has(a, "metricformat") || args_has(a, "metricprefix"))
            json_object_set_new(part, "format", flags_format(c));
        json_object_set_new(o, "metric", part);
    }
    if (args_has(a, "eventdest"))
        json_object_set_new(o, "event", json_pack("{s:o}", "transport", flags_transport(&c->event.transport)));
    if (args_has(a, "otlp")) {
        part = json_pack("{s:b}", "enable", 1);
        if (args_get(a, "otlp"))
            json_object_update_new(part,
                                   json_pack("{s:o, s:s}", "endpoint", flags_text(args_get(a, "otlp")), "protocol",
                                             strncmp(args_get(a, "otlp"), "grpc", 4) == 0 ? "grpc" : "http/protobuf"));
        json_object_set_new(o, "otlp", part);
    }
    if (json_object_size(o))
        return o;
    json_decref(o);
    return NULL;
}

/* 0, or an exit status after a message. */
static int make_config(const struct args *a, struct buf *ret)
{
    struct config_sources *sources = config_sources_new();
    int rc = cli_apply_flags(a, sources);
    struct config *c;
    json_t *o;

    if (rc == 0 && args_has(a, "nobreaker")) {
        cli_error("--nobreaker has no key in scope.yml");
        cli_hint("SCOPE_CRIBL_NO_BREAKER=true in the environment of its collector does it");
        rc = EXIT_FAILED;
    }
    if (rc == 0) {
        c = config_for(sources, NULL);
        o = settings(a, c);
        if (o)
            yaml_put(ret, o);
        json_decref(o);
        config_free(c);
    }
    config_sources_free(sources);
    return rc;
}

/* --- what is told --- */

static void free_list(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

static int no_such(const char *word, const char *why, int rc)
{
    char **names;

    if (rc != -ENOENT) {
        cli_error("%s: %s", word, why ? why : strerror(-rc));
        return EXIT_FAILED;
    }
    names = service_names(host_init(""));
    cli_error("there is no service %s", word);
    if (cli_closest(word, (const char *const *)names))
        cli_hint("did you mean %s?", cli_closest(word, (const char *const *)names));
    free_list(names);
    return EXIT_FAILED;
}

/* Each line of a file that will be written; of one that is changed, the whole new one. */
static void show(const struct service_plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct service_change *c = &p->change[i];

        printf("%s %s\n", !c->text ? "remove" : c->there ? "change" : "create", c->path);
        for (const char *line = c->text; line && *line; line += strcspn(line, "\n") + 1) {
            struct buf b = BUF_INIT;

            text_clean(&b, line, strcspn(line, "\n"));
            printf("    %s\n", strstr(c->path, "scope.yml") && strstr(line, "authtoken") == line + strspn(line, " ")
                                   ? "  authtoken: ***"
                                   : buf_cstr(&b));
            buf_free(&b);
            if (!strchr(line, '\n'))
                break;
        }
    }
}

static bool agreed(const struct args *a, const struct service_plan *p)
{
    char answer[16];

    if (args_has(a, "force"))
        return true;
    show(p);
    fputs("Ready to proceed? [y/n]: ", stdout);
    fflush(stdout);
    if (!fgets(answer, sizeof(answer), stdin))
        answer[0] = '\0';
    if (strcmp(answer, "y\n") == 0 || strcmp(answer, "Y\n") == 0 || strcmp(answer, "yes\n") == 0)
        return true;
    puts("Nothing was changed.");
    return false;
}

/* Runs a command of the init system: its exit status, -1 if it can't be started. */
static int command(const char *const argv[])
{
    int status = 0;
    pid_t pid;

    fflush(NULL);
    if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ) != 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* systemd is told of files that were written; the service is restarted by people. */
static void reload(enum host_init init)
{
    static const char *const argv[] = {"systemctl", "daemon-reload", NULL};

    if (init != HOST_INIT_SYSTEMD || access("/run/systemd/system", F_OK) < 0)
        return;
    if (command(argv) != 0)
        cli_hint("run `systemctl daemon-reload` before the service is started again");
}

static const char *restart_of(enum host_init init)
{
    return init == HOST_INIT_SYSTEMD ? "systemctl restart" : init == HOST_INIT_OPENRC ? "rc-service" : "service";
}

static void advise(const struct service *s)
{
    bool template = s->init == HOST_INIT_SYSTEMD && strchr(s->name, '@') && !strchr(s->name, '@')[1];

    printf("\nFrom its next start on it is observed: `%s %s%s%s`.\n", restart_of(s->init), s->name,
           template ? "INSTANCE" : "", s->init == HOST_INIT_SYSTEMD ? "" : " restart");
    printf("What it did: `scope events --service %s`. Its configuration: %s/%s/scope.yml.\n", s->name, SERVICE_CONFIG,
           s->name);
}

/* --- setting up --- */

/* A collector that runs takes the configuration at once. */
static void tell_collector(const struct service *s, bool changed)
{
    int rc = service_reload(s->name);

    if (rc == 0 && changed)
        puts("What runs of it is observed by its new configuration from now on.");
    else if (rc < 0 && changed && rc != -ENOENT && rc != -ECONNREFUSED) {
        cli_error("its collector doesn't take the new configuration: %s",
                  rc == -EINVAL ? "it can't use it, or not read it, as it isn't root's" : strerror(-rc));
        if (s->init == HOST_INIT_SYSTEMD)
            cli_hint("`systemctl restart 'appscope-%s'` starts another one, which does", s->key);
    }
}

/* The tool's own path, which a service manager can start as root: malloc'ed, or NULL after a message. */
static char *own_path(void)
{
    char exe[PATH_MAX], *why = NULL;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    int rc;

    exe[n > 0 ? n : 0] = '\0';
    rc = n > 0 ? safe_author(exe, &why) : -errno;
    if (rc == 0 && !strpbrk(exe, " \t\n%\"'\\$`"))
        return xstrdup(exe);
    cli_error("%s can't be what the init system starts as root: %s", exe,
              why ? why : rc < 0 ? strerror(-rc) : "its path has characters that mean something there");
    cli_hint("put scope where only root can change it, such as /usr/local/bin, and use it from there");
    free(why);
    return NULL;
}

static int check_user(const struct service *s, const char *user)
{
    uid_t uid;
    gid_t gid;

    if (!user)
        return 0;
    if (!service_user(user, &uid, &gid)) {
        cli_error("there is no user %s", user);
        return EXIT_FAILED;
    }
    if (s->dynamic_user || (s->user && strcmp(s->user, user) != 0)) {
        cli_error("%s runs as %s, and a collector of %s has no right to observe that", s->name,
                  s->dynamic_user ? "a user of its own making" : s->user, user);
        cli_hint("without --user the collector is root's");
        return EXIT_FAILED;
    }
    return 0;
}

static int set_up(struct args *a, const char *word)
{
    struct service_setup how = {.user = args_get(a, "user")};
    enum exe_kind kind = EXE_UNKNOWN;
    struct buf config = BUF_INIT;
    char *why = NULL, *scope = NULL;
    struct service_plan p = {0};
    struct service s;
    int rc = service_find(word, &s, &why);

    if (rc < 0) {
        rc = no_such(word, why, rc);
        free(why);
        return rc;
    }
    if (how.user && strcmp(how.user, "root") == 0)
        how.user = NULL;
    if (s.program)
        launch_classify(s.program, &kind, NULL);
    how.attach = kind == EXE_STATIC && !s.oneshot;
    rc = check_user(&s, how.user);
    if (rc == 0)
        rc = make_config(a, &config);
    if (rc == 0 && !(scope = own_path()))
        rc = EXIT_FAILED;
    if (rc)
        goto out;
    how.scope = scope;
    how.config = config.len ? buf_cstr(&config) : NULL;
    if (strcmp(s.name, word) != 0 && strncmp(word, s.name, strlen(s.name)) != 0)
        printf("%s is another name of %s.\n", word, s.name);
    for (char **note = s.note; note && *note; note++)
        cli_error("%s", *note);
    if (kind == EXE_STATIC)
        cli_error("%s is statically linked: %s", s.program,
                  s.oneshot ? "nothing can be brought into it before it has ended; it is not observed"
                            : "it is attached to once it has been started, so its first moments are missing");
    else if (launch_reason(kind))
        cli_error("%s %s: not observed itself; programs that it starts are", s.program, launch_reason(kind));
    for (char **line = s.sandbox; line && *line; line++)
        cli_error("its sandbox is widened by %.*s=, without which it can't be observed (docs/services.md)",
                  (int)strcspn(*line, "="), *line);
    service_plan(&s, &how, &p, &why);
    if (!p.count) {
        printf("%s is set up already.\n", s.name);
        tell_collector(&s, false);
    } else if (!agreed(a, &p)) {
        rc = EXIT_FAILED;
    } else if (service_apply(&p, &why) < 0) {
        cli_error("%s", why);
        rc = EXIT_FAILED;
    } else {
        reload(s.init);
        printf("%s is set up.\n", s.name);
        tell_collector(&s, how.config != NULL);
        advise(&s);
    }
out:
    service_plan_clear(&p);
    service_clear(&s);
    buf_free(&config);
    free(scope);
    free(why);
    return rc;
}

/* What runs is left alone, and the collector ends: without its unit's file systemd would have it run for ever. */
static void end_observing(const char *name)
{
    char *store = service_store(name);
    const char *key = store ? strrchr(store, '/') + 1 : name;
    char *socket = xasprintf("appscope-%s.socket", key), *collector = xasprintf("appscope-%s.service", key);

    service_leave(name, key);
    command((const char *const[]){"systemctl", "--quiet", "stop", collector, socket, NULL});
    free(socket);
    free(collector);
    free(store);
}

static int undo(struct args *a, const char *word)
{
    enum host_init init = host_init("");
    bool systemd = init == HOST_INIT_SYSTEMD && access("/run/systemd/system", F_OK) == 0;
    char *name = NULL, *why = NULL;
    struct service_plan p;
    int rc = service_plan_undo(init, word, &p, &name, &why);

    if (rc == -ENOENT)
        cli_error("%s isn't set up", name);
    else if (rc < 0)
        cli_error("%s: %s", word, why ? why : strerror(-rc));
    else if (!agreed(a, &p))
        rc = -ECANCELED;
    else if ((rc = service_apply(&p, &why)) < 0)
        cli_error("%s", why);
    else {
        if (systemd)
            end_observing(name);
        reload(init);
        for (char **k = p.kept; k && *k; k++)
            cli_error("%s", *k);
        if (systemd)
            printf("%s is as it was before, and not observed any more.\n", name);
        else
            printf("%s is as it was before; what runs of it is observed until it is restarted.\n", name);
    }
    service_plan_clear(&p);
    free(name);
    free(why);
    return rc < 0 ? EXIT_FAILED : 0;
}

static int list(void)
{
    char **names = service_list(host_init(""));

    for (char **n = names; *n; n++)
        puts(*n);
    free_list(names);
    return 0;
}

static int run(struct args *a)
{
    int rc;

    if (args_has(a, "list") && (a->word_count || args_has(a, "undo")))
        return cli_usage(a->command, "--list is about all services");
    if (!args_has(a, "list") && a->word_count != 1)
        return cli_usage(a->command, "name a service");
    if ((rc = args_conflict(a, "undo", "user")))
        return rc;
    if (geteuid() != 0) {
        cli_error("must be run as root");
        return EXIT_FAILED;
    }
    if ((rc = cli_enter_root(a)))
        return rc;
    if (args_has(a, "list"))
        return list();
    return args_has(a, "undo") ? undo(a, a->words[0]) : set_up(a, a->words[0]);
}

const struct cli_command command_service = {
    .name = "service",
    .summary = "Have a service observed whenever it is started",
    .usage = "[OPTIONS] NAME | --undo NAME | --list",
    .description =
        "Puts into the set-up of a service of systemd, OpenRC or /etc/init.d that it is observed from its next start on, and "
        "says what will be changed before it does. Nothing of the service's own files is changed: with systemd it is a "
        "drop-in, else a block of lines in /etc/conf.d/NAME, /etc/default/NAME or /etc/sysconfig/NAME. Doing it again with "
        "other options changes it; --undo takes out exactly what was put in.\n"
        "Each service has a collector of its own, which is started before it, ends after it, and runs outside of the "
        "service's sandbox. If there is none, for whatever reason, the service runs unobserved. Sessions are in "
        "/var/lib/appscope-service, one for each run of the service; `--service NAME` of events, metrics, history and others "
        "reads them. /etc/scope/NAME/scope.yml configures the collector; options that name destinations write it.\n"
        "A service whose program is statically linked is attached to once systemd has started it. docs/services.md tells what "
        "works in which sandbox.",
    .options = options,
    .more_options = cli_dest_options,
    .examples = examples,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
