/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as scope.yml, environment and flags. The input is a
 * scope.yml; lines after "--ENV--" are NAME=value of the environment, lines
 * after "--SET--" key=value as flags set them, lines after "--URL--"
 * destinations. Besides not crashing: what is printed must load without a
 * fatal problem, and give the same configuration.
 *
 * Without libFuzzer, compile with -DFUZZ_REPLAY: runs the files that are named.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/config.h"

#define MAX_ENV 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_problem(void *ctx, const struct cfg_problem *p)
{
    unsigned *fatal = ctx;

    if (!p->file || !p->key || !p->text || strlen(p->text) > 65536)
        abort();
    *fatal += p->fatal;
}

static char *section(const char *text, const char *mark)
{
    const char *at = strstr(text, mark), *end;

    if (!at)
        return NULL;
    at += strlen(mark);
    end = strstr(at, "\n--");
    return end ? xstrndup(at, (size_t)(end - at)) : xstrdup(at);
}

static void parse_urls(char *lines)
{
    char *save = NULL;

    for (char *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        for (int flag = 0; flag < 2; flag++) {
            struct cfg_transport t, again;
            const char *why = NULL;
            char *url;

            if (cfg_transport_parse(line, flag, &t, &why) < 0) {
                if (!why)
                    abort();
                continue;
            }
            url = cfg_transport_url(&t);
            if (cfg_transport_parse(url, flag, &again, &why) < 0)
                abort();
            cfg_transport_clear(&again);
            cfg_transport_clear(&t);
            free(url);
        }
    }
}

static void check_strings(const struct config *c)
{
    for (int i = 0; i < CFG_EW_MAX; i++)
        if (!c->event.watch[i].name || !c->event.watch[i].field || !c->event.watch[i].value)
            abort();
    if (!c->metric.statsdprefix || !c->payload.dir || !c->libscope.commanddir || !c->libscope.summaryperiod ||
        !c->metric.statsdmaxlen || c->metric.verbosity > 9)
        abort();
    for (int s = 0; s < CFG_OTLP_MAX; s++) {
        const struct cfg_otlp_to *to = &c->otlp.to[s];

        if (to->enable && (!to->transport.host || !to->transport.port || !to->path || *to->path != '/' ||
                           strpbrk(to->path, " \r\n") || !to->timeout_ms))
            abort();
        for (size_t i = 0; i < to->header_count; i++)
            if (strpbrk(to->headers[i].name, ": \r\n") || strpbrk(to->headers[i].value, "\r\n"))
                abort();
    }
    if (!(c->otlp.ratio >= 0 && c->otlp.ratio <= 1) || !c->otlp.interval_ms)
        abort();
}

/* What is printed for people can be loaded, whatever has been masked. */
static void check_printed(const struct config_sources *s)
{
    struct config_sources *again = config_sources_new();
    char *text = NULL;
    size_t len = 0;
    unsigned fatal = 0;
    FILE *f = open_memstream(&text, &len);

    config_print_yaml(s, f, true);
    fclose(f);
    if (config_add_text(again, "printed", text, len, use_problem, &fatal) < 0) {
        fputs(text, stderr);
        abort();
    }
    free(text);
    config_sources_free(again);
}

/* Tags keep their $NAME: they are read with the same environment, without our own variables. */
static void check_round_trip(const struct config_sources *s, const char *const *envp)
{
    const char *plain[MAX_ENV + 1] = {0};
    size_t n = 0;
    struct config_sources *again = config_sources_new();
    struct config *a = config_for(s, NULL), *b;
    char *text = NULL, *json;
    size_t len = 0;
    unsigned fatal = 0;
    FILE *f = open_memstream(&text, &len);

    for (; *envp; envp++)
        if (strncmp(*envp, "SCOPE_", 6) != 0 && strncmp(*envp, "OTEL_", 5) != 0)
            plain[n++] = *envp;
    config_add_environ(again, plain, NULL, NULL);
    config_print_whole(s, f);
    fclose(f);
    if (config_add_text(again, "printed", text, len, use_problem, &fatal) < 0) {
        fputs(text, stderr);
        abort();
    }
    b = config_for(again, NULL);
    check_strings(a);
    json = config_to_json(a);
    if (!config_equal(a, b)) {
        fprintf(stderr, "%s\n%s\n", text, json);
        abort();
    }
    free(json);
    free(text);
    config_free(a);
    config_free(b);
    config_sources_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const proc_env[] = {"A=b", "HOME=/root", NULL};
    static const char *const ancestors[] = {"bash", NULL};
    static const struct cfg_process proc = {.procname = "nginx",
                                            .cmdline = "nginx -g x",
                                            .hostname = "h",
                                            .username = "u",
                                            .environ_ = proc_env,
                                            .ancestors = ancestors};
    char *text = xstrndup((const char *)data, size), *env = section(text, "\n--ENV--\n"),
         *set = section(text, "\n--SET--\n"), *urls = section(text, "\n--URL--\n"), *save = NULL;
    const char *end = strstr(text, "\n--"), *envp[MAX_ENV + 1] = {0};
    struct config_sources *s = config_sources_new();
    unsigned fatal = 0;
    size_t n = 0;

    for (char *line = env ? strtok_r(env, "\n", &save) : NULL; line && n < MAX_ENV; line = strtok_r(NULL, "\n", &save))
        envp[n++] = line;
    if (n % 2)
        config_add_environ(s, envp, use_problem, &fatal);
    /* Without the marks the bytes go in as they are, NULs included. */
    config_add_text(s, "input", (const char *)data, end ? (size_t)(end - text) : size, use_problem, &fatal);
    if (n % 2 == 0)
        config_add_environ(s, envp, use_problem, &fatal);
    for (char *line = set ? strtok_r(set, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        char *eq = strchr(line, '=');

        if (eq) {
            *eq = 0;
            config_set(s, line, eq + 1, "--flag", use_problem, &fatal);
        }
    }
    if (urls)
        parse_urls(urls);
    check_printed(s);
    check_round_trip(s, envp);
    config_free(config_for(s, &proc));
    config_sources_free(s);
    free(text);
    free(env);
    free(set);
    free(urls);
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
