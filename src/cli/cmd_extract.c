/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "config/config.h"
#include "inject/launch.h"

static const struct cli_option options[] = {
    {"parents", NULL, "Make the directory and those above it if they are missing", NULL, 'p', false, false},
    {"json", NULL, "Print the result as JSON", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope extract -p /opt/scope",
     "then LD_PRELOAD=/opt/scope/libscope.so PROGRAM"},
    {"scope extract -e tcp://collector.example.org:9109 .", "with a scope.yml that sends events there"},
    {0},
};

/* Returns 0 or an exit status after a message. */
static int write_file(int dir, const char *name, const void *bytes, size_t size, mode_t mode)
{
    int rc = safe_replace(dir, name, bytes, size, mode);

    if (rc < 0)
        cli_error("%s: %s", name, strerror(-rc));
    return rc < 0 ? EXIT_FAILED : 0;
}

static int write_yaml(int dir, const char *name, const struct config_sources *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int rc;

    if (!f) {
        cli_error("out of memory");
        return EXIT_FAILED;
    }
    if (c)
        config_print_yaml(c, f, false);
    else
        config_print_default_yaml(f);
    fclose(f);
    rc = write_file(dir, name, text, size, 0644);
    free(text);
    return rc;
}

/* Ourselves: where nobody else starts a collector, the library starts the one that lies beside it. */
static int write_self(int at)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), rc = EXIT_FAILED;
    void *self = MAP_FAILED;
    struct stat st, there;

    if (fd < 0 || fstat(fd, &st) < 0) {
        cli_error("/proc/self/exe: %s", strerror(errno));
    } else if (fstatat(at, "scope", &there, 0) == 0 && there.st_dev == st.st_dev && there.st_ino == st.st_ino) {
        rc = 0; /* we lie there */
    } else {
        self = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (self == MAP_FAILED)
            cli_error("/proc/self/exe: %s", strerror(errno));
        else
            rc = write_file(at, "scope", self, (size_t)st.st_size, 0755);
    }
    if (self != MAP_FAILED)
        munmap(self, (size_t)st.st_size);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int run(struct args *a)
{
    static const char *const dests[] = {"cribldest",  "metricformat", "metricprefix",
                                        "metricdest", "eventdest",    "authtoken",    "otlp"};
    struct config_sources *c = config_sources_new();
    const char *dir = a->words[0];
    bool own = false;
    char *real = NULL, *why = NULL;
    const void *probe;
    size_t size;
    int rc, at = -1;

    rc = cli_apply_flags(a, c);
    if (rc)
        goto out;
    if (args_has(a, "nobreaker")) {
        cli_error("--nobreaker has no key in scope.yml");
        cli_hint("SCOPE_CRIBL_NO_BREAKER=true in the environment of the programs does it");
    }
    rc = EXIT_FAILED;
    probe = launch_probe(&size);
    if (!size) {
        cli_error("this scope was built without libscope.so");
        goto out;
    }
    at = safe_dir(dir, SAFE_NAMED, args_has(a, "parents") ? 0755 : 0, &why);
    if (at == -ENOENT || at == -ENOTDIR) {
        cli_error("%s does not exist or is not a directory", dir);
        cli_hint("--parents makes it");
        goto out;
    }
    if (at < 0 || !(real = realpath(dir, NULL))) { /* only to tell it */
        cli_error("%s: %s", dir, why ? why : strerror(at < 0 ? -at : errno));
        goto out;
    }
    for (size_t i = 0; i < sizeof(dests) / sizeof(*dests); i++)
        own |= args_has(a, dests[i]);
    rc = write_file(at, "libscope.so", probe, size, 0755);
    if (rc == 0)
        rc = write_self(at);
    if (rc == 0)
        rc = write_yaml(at, own ? "scope_example.yml" : "scope.yml", NULL);
    if (rc == 0 && own)
        rc = write_yaml(at, "scope.yml", c);
    if (rc == 0 && args_has(a, "json")) {
        struct buf b = BUF_INIT;

        buf_str(&b, "{\"dir\":");
        buf_json_str(&b, real);
        printf("%s}\n", buf_cstr(&b));
        buf_free(&b);
    } else if (rc == 0) {
        printf("Successfully extracted to %s.\n", real);
    }
out:
    if (at >= 0)
        close(at);
    free(why);
    free(real);
    config_sources_free(c);
    return rc;
}

const struct cli_command command_extract = {
    .name = "extract",
    .aliases = "excrete expunge extricate exorcise",
    .summary = "Write libscope.so, scope and scope.yml into a directory",
    .usage = "[OPTIONS] DIR",
    .description =
        "For programs that are started with LD_PRELOAD by other means than scope. The library starts the scope that lies "
        "beside it, or that SCOPE_EXEC_PATH names, as collector; without one the program runs unobserved. With options for destinations, "
        "scope.yml says so and the documented default file is scope_example.yml.",
    .options = options,
    .more_options = cli_dest_options,
    .examples = examples,
    .words = "<dir>",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
