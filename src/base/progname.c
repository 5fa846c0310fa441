/* SPDX-License-Identifier: Apache-2.0 */
#include "base/progname.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define COMM_MAX 15 /* TASK_COMM_MAX without its NUL */
#define WORDS_MAX 6 /* interpreter, its argument, script; an interpreter may be a script */
#define DELETED " (deleted)"
#define MEMFD "/memfd:"
#define PROC_DIR "/proc/"

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* The file's own name, without what the kernel adds to it. */
static char *exe_name(const char *exe)
{
    size_t len = strlen(exe), mark = sizeof(DELETED) - 1;

    if (len > mark && !strcmp(exe + len - mark, DELETED))
        len -= mark;
    if (!strncmp(exe, MEMFD, sizeof(MEMFD) - 1)) {
        size_t n = strcspn(exe + sizeof(MEMFD) - 1, "/:"), room = len - (sizeof(MEMFD) - 1);

        return xstrndup(exe + sizeof(MEMFD) - 1, n < room ? n : room);
    }
    for (size_t i = len; i-- > 0;)
        if (exe[i] == '/' && i + 1 < len)
            return xstrndup(exe + i + 1, len - i - 1);
    return xstrndup(exe, len);
}

/* Whether comm is what the kernel makes of this name. */
static bool makes(const char *name, const char *comm)
{
    size_t len = strlen(name);

    return *name && !strncmp(name, comm, COMM_MAX) && strlen(comm) == (len < COMM_MAX ? len : COMM_MAX);
}

/* Titles are texts for people. */
static bool is_plain(const char *word)
{
    return *word && !word[strcspn(word, " :")];
}

/* Programs that run others under names of their own: what they are called by is the only name there is. */
static bool is_interpreter(const char *name)
{
    static const char *const names[] = {"python", "pypy",   "perl", "ruby", "php",  "lua",     "luajit", "sh",
                                        "bash",   "dash",   "ash",  "ksh",  "mksh", "zsh",     "fish",   "tclsh",
                                        "wish",   "expect", "awk",  "gawk", "mawk", "Rscript", "guile",  "busybox"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t n = strlen(names[i]);

        if (!strncmp(name, names[i], n) && !name[n + strspn(name + n, "0123456789.-")])
            return true;
    }
    return false;
}

/* The word behind the first one whose last part fits; NULL: none. Of comm, if that is given, else of a name. */
static const char *script_of(const char *argv, size_t len, const char *comm, const char *name)
{
    size_t at = strnlen(argv, len) + 1;

    for (int i = 1; i < WORDS_MAX && at < len; i++, at += strnlen(argv + at, len - at) + 1) {
        const char *base = base_of(argv + at);

        if (!strncmp(argv + at, PROC_DIR, sizeof(PROC_DIR) - 1))
            continue;
        if (comm ? makes(base, comm) : !strncmp(base, name, PROGRAM_NAME_MAX))
            return base;
    }
    return NULL;
}

/* How the program was called. */
static const char *called(const char *argv)
{
    const char *base = base_of(argv);

    return *base == '-' && base == argv ? base + 1 : base; /* a login shell */
}

char *program_name(const char *exe, const char *comm, const char *argv, size_t argv_len)
{
    char *file = exe_name(exe), *name;
    const char *word = argv_len ? called(argv) : "", *script = script_of(argv, argv_len, comm, NULL);
    size_t len;

    if (!*comm) /* it is gone */
        name = is_plain(word) || !*file ? xstrndup(word, PROGRAM_NAME_MAX) : xstrdup(file);
    else if (strlen(comm) == COMM_MAX && is_plain(word) && makes(word, comm)) /* cut: two names may begin so */
        name = xstrdup(word);
    else if (makes(file, comm))
        name = xstrdup(file);
    else if (script)
        name = xstrdup(script);
    else if (*file && (!strcmp(comm, "exe") || !comm[strspn(comm, "0123456789")])) /* /proc/self/exe; fexecve(3) */
        name = xstrdup(file);
    else if (is_plain(word) && makes(word, comm))
        name = xstrdup(word);
    else if (*file && !is_interpreter(file)) /* it has renamed itself */
        name = xstrdup(file);
    else if ((len = strcspn(comm, " :")) && comm[len] != ' ') /* one word, as of "gunicorn: maste" */
        name = xstrndup(comm, len);
    else
        name = xstrdup(*file ? file : comm);
    free(file);
    if (strlen(name) > PROGRAM_NAME_MAX)
        name[PROGRAM_NAME_MAX] = '\0';
    return name;
}

bool program_has_title(const char *name, const char *exe, const char *argv, size_t argv_len)
{
    char *file;
    bool own;

    if (!argv_len || !*argv || !strncmp(called(argv), name, PROGRAM_NAME_MAX) ||
        !strncmp(argv, PROC_DIR, sizeof(PROC_DIR) - 1) || script_of(argv, argv_len, NULL, name))
        return false;
    file = exe_name(exe);
    own = !strcmp(called(argv), file);
    free(file);
    return !own;
}
