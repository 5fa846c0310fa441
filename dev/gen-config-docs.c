/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen-config-docs DIR: writes what comes from the configuration schema into
 * the source tree DIR: conf/scope.yml, and docs/config.md between its two
 * "generated" marks. Run it after a change of src/config/schema.c; a unit test
 * tells when it was forgotten.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/config.h"

#define BEGIN "<!-- generated from src/config/schema.c: begin -->\n"
#define END "<!-- generated: end -->\n"

static int fail(const char *path, const char *why)
{
    fprintf(stderr, "gen-config-docs: %s: %s\n", path, why);
    return 1;
}

static int write_yaml(const char *dir)
{
    char *path = xasprintf("%s/conf/scope.yml", dir);
    FILE *f = fopen(path, "w");
    int r = 0;

    if (f)
        config_print_default_yaml(f);
    if (!f || fclose(f))
        r = fail(path, "can't be written");
    free(path);
    return r;
}

static int write_markdown(const char *dir)
{
    char *path = xasprintf("%s/docs/config.md", dir);
    struct buf b = BUF_INIT;
    FILE *f = fopen(path, "r");
    char *text, *begin = NULL, *end = NULL;
    size_t n;
    int r = 0;

    while (f && (n = fread(buf_room(&b, 65536), 1, 65536, f)) > 0)
        b.len += n;
    if (f)
        fclose(f);
    text = buf_cstr(&b);
    begin = strstr(text, BEGIN);
    end = begin ? strstr(begin, END) : NULL;
    if (!end) {
        r = fail(path, "has no generated part");
    } else if (!(f = fopen(path, "w"))) {
        r = fail(path, "can't be written");
    } else {
        fwrite(text, 1, (size_t)(begin - text) + strlen(BEGIN), f);
        config_print_markdown(f);
        fputs("\n", f);
        fputs(end, f);
        if (fclose(f))
            r = fail(path, "can't be written");
    }
    buf_free(&b);
    free(path);
    return r;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: gen-config-docs SOURCE-DIRECTORY\n", stderr);
        return 2;
    }
    return write_yaml(argv[1]) || write_markdown(argv[1]);
}
