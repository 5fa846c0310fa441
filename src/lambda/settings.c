/* SPDX-License-Identifier: Apache-2.0 */
#include "lambda/settings.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define TASK "/var/task" /* LAMBDA_TASK_ROOT, which extensions don't get */

static const char *get(const char *const *envp, const char *name)
{
    size_t len = strlen(name);

    for (; *envp; envp++)
        if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=' && (*envp)[len + 1])
            return *envp + len + 1;
    return NULL;
}

/* As YAML's double quoting, which JSON's is; "\$" keeps a '$' from being replaced. */
static void pair(struct buf *b, const char *indent, const char *name, const char *value)
{
    struct buf text = BUF_INIT;

    if (!value)
        return;
    for (; *value; value++) {
        if (*value == '$')
            buf_char(&text, '\\');
        buf_char(&text, *value);
    }
    buf_printf(b, "%s%s: ", indent, name);
    buf_json(b, text.p, text.len);
    buf_char(b, '\n');
    buf_free(&text);
}

/* Names are those of OpenTelemetry's semantic conventions (faas, cloud). As tags they are in each event and metric, and
 * in resources. faas.instance stands only in the runtime's environment (collector/identify.c). */
static void describe(struct buf *b, const char *const *envp)
{
    const char *name = get(envp, "AWS_LAMBDA_FUNCTION_NAME"), *attributes = get(envp, "OTEL_RESOURCE_ATTRIBUTES");

    if (name) {
        buf_str(b, "tags:\n");
        pair(b, "  ", "faas.name", name);
        pair(b, "  ", "faas.version", get(envp, "AWS_LAMBDA_FUNCTION_VERSION"));
        pair(b, "  ", "cloud.region", get(envp, "AWS_REGION"));
    }
    buf_str(b, "otlp:\n");
    if (!get(envp, "OTEL_SERVICE_NAME") && !(attributes && strstr(attributes, "service.name=")))
        pair(b, "  ", "servicename", name);
    buf_str(b, "  resource:\n    cloud.provider: aws\n    cloud.platform: aws_lambda\n");
}

/* No line of what the function says itself, which Lambda takes to CloudWatch anyway, and no file: a runtime opens
 * hundreds of them at its start, and each line has its price. */
static const char quiet[] =
    "event:\n  watch:\n    - type: http\n    - type: net\n    - type: dns\n    - type: process\n";

static const char log_to[] =
    "libscope:\n  log:\n    level: warning\n    transport:\n      type: file\n      path: stderr\n";

static char *find_file(const char *const *envp)
{
    if (!get(envp, "SCOPE_CONF_PATH") && access(TASK "/scope.yml", R_OK) == 0)
        return xstrdup(TASK "/scope.yml");
    return config_find_file(envp);
}

static struct config_sources *sources(const struct buf *defaults, const char *file, const char *const *envp,
                                      cfg_problem_fn fn, void *ctx)
{
    struct config_sources *s = config_sources_new();

    if (defaults)
        config_add_text(s, "defaults for Lambda", defaults->p, defaults->len, fn, ctx);
    if (file)
        config_add_file(s, file, fn, ctx);
    config_add_environ(s, envp, fn, ctx);
    return s;
}

struct config_sources *lambda_config(const char *const *envp, cfg_problem_fn fn, void *ctx)
{
    char *file = find_file(envp);
    struct config_sources *s = sources(NULL, file, envp, NULL, NULL);
    struct config *c = config_for(s, NULL);
    struct buf b = BUF_INIT;
    bool events = !c->event.enable || c->cribl.enable || config_sets(s, "event.transport"),
         metrics = !c->metric.enable || c->cribl.enable || config_sets(s, "metric.transport"), otlp = false;

    for (int i = 0; i < CFG_OTLP_MAX; i++)
        otlp |= c->otlp.to[i].enable;
    config_free(c);
    config_sources_free(s);
    describe(&b, envp);
    buf_str(&b, log_to);
    if (!events && !otlp)
        buf_str(&b, quiet);
    s = sources(&b, file, envp, fn, ctx);
    buf_free(&b);
    free(file);
    /* What OTLP tells has to be made all the same. */
    if (!events)
        config_set(s, "event.transport", otlp ? "file:///dev/null" : "file://stdout", "Lambda", NULL, NULL);
    if (!metrics)
        config_set(s, otlp ? "metric.transport" : "metric.enable", otlp ? "file:///dev/null" : "false", "Lambda", NULL,
                   NULL);
    return s;
}
