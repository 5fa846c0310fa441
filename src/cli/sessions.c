/* SPDX-License-Identifier: Apache-2.0 */
/* Which session a command is about, and reading its files. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "host/host.h"
#include "host/service.h"

#define SYNC_MS 5000 /* a collector that ends gives its destinations some seconds, in which it answers nobody */

const struct cli_option cli_session_options[] = {
    {"id", "N", "The session with this number (default: the most recent one)", NULL, 'i', false, false},
    CLI_HOST_OPTION,
    {0},
};

static int use_service(const char *name)
{
    char *store = service_store(name);
    int rc = store ? access(store, R_OK | X_OK) < 0 ? errno : 0 : ENOENT;

    if (rc == ENOENT) {
        cli_error("there are no sessions of a service %s", name);
        cli_hint("`scope service %s` has it observed from its next start on", name);
    } else if (rc) {
        cli_error("%s: %s", store,
                  rc == EACCES ? "the sessions are root's, or of the user of its collector" : strerror(rc));
    } else {
        setenv("SCOPE_HOME", store, 1);
    }
    free(store);
    return rc ? EXIT_FAILED : 0;
}

int cli_use_host(const struct args *a)
{
    int rc = args_conflict(a, "host", "service");

    if (rc || args_has(a, "service"))
        return rc ? rc : use_service(args_get(a, "service"));
    if (!args_has(a, "host"))
        return 0;
    if (access(HOST_STORE, R_OK | X_OK) < 0) {
        if (errno == ENOENT)
            cli_error("there are no sessions of the host; `scope start` begins to observe it");
        else if (errno == EACCES)
            cli_error("the sessions of the host, in %s, are root's alone: they tell what the programs of all users do",
                      HOST_STORE);
        else
            cli_error("%s: %s", HOST_STORE, strerror(errno));
        return EXIT_FAILED;
    }
    setenv("SCOPE_HOME", HOST_STORE, 1);
    return 0;
}

int cli_session(const struct args *a, struct session *ret)
{
    int64_t id = 0;
    int rc;

    *ret = (struct session){0};
    rc = cli_use_host(a);
    if (rc)
        return rc;
    rc = args_number(a, "id", 1, INT64_MAX, &id);
    if (rc)
        return rc;
    rc = session_load((uint64_t)id, ret);
    if (rc == -ENOENT) {
        char *base = session_base();

        if (id)
            cli_error("session %lld not found in %s", (long long)id, base);
        else
            cli_error("there is no session in %s yet", base);
        cli_hint(id ? "`scope history` lists them" : "`scope run PROGRAM` makes one");
        free(base);
        return EXIT_FAILED;
    }
    /* Damaged metadata is no reason not to show the data. */
    if (rc == -EINVAL)
        cli_error("session %llu: session.json is missing or damaged", (unsigned long long)ret->id);
    if (rc < 0 && rc != -EINVAL) {
        char *base = session_base();

        cli_error("can't read the sessions in %s: %s", base, session_error(rc));
        free(base);
        return EXIT_FAILED;
    }
    if (cli_refresh(ret, SYNC_MS) == -ETIMEDOUT)
        cli_error("session %llu: its collector does not answer; what is shown may not be complete",
                  (unsigned long long)ret->id);
    return 0;
}

int cli_refresh(struct session *s, unsigned timeout_ms)
{
    struct session now;
    int rc, load;

    if (!session_running(s))
        return 0;
    rc = session_sync(s, timeout_ms);
    load = session_load(s->id, &now);
    if (load < 0 && load != -EINVAL) {
        session_clear(&now);
        return rc;
    }
    session_clear(s);
    *s = now;
    return rc;
}

char *cli_path_of(const char *url)
{
    static const char *const schemes[] = {"file://", "journal://"};

    for (size_t i = 0; url && i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t len = strlen(schemes[i]);

        if (strncmp(url, schemes[i], len) == 0 && url[len] == '/')
            return xstrdup(url + len);
    }
    return NULL;
}

json_t *cli_json(const char *line, size_t len)
{
    json_t *o = json_loadb(line, len, JSON_ALLOW_NUL, NULL);

    if (!o) /* integers beyond 63 bits */
        o = json_loadb(line, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    if (o && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}
