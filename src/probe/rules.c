/* SPDX-License-Identifier: Apache-2.0 */
#include "rules.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#include "wire/rules.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define S_ISREG_(m) (((m)&0170000) == 0100000)
#define WORDS 1024u    /* of an exec's arguments */
#define NAME_SIZE 256u /* NAME_MAX and its end */

/* ---- the file ---- */

struct rules {
    const struct rules_head *head;
    int fd;
    size_t mapped; /* bytes of memory at head; 0: it lies in the caller's */
};

static void rules_close(struct rules *r)
{
    if (r->mapped)
        SYS2(__NR_munmap, r->head, r->mapped);
    own_close(r->fd);
}

static size_t read_more(int fd, char *to, size_t have, size_t size)
{
    while (have < size) {
        long n = SYS3(__NR_read, fd, to + have, size - have);

        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

/* Reads the rules to `near`, 8-aligned, or to memory of their own if they are longer. True if they make sense; whether
 * they may be believed is not known yet. Else nothing stays. */
static bool rules_open(struct rules *r, void *near, size_t size)
{
    struct rules_head *h = near;
    size_t have;
    long at, got;

    r->mapped = 0;
    r->head = h;
    r->fd = own_fd(
        SYS4(__NR_openat, AT_FDCWD, HOST_RULES_MAPPED, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0));
    if (r->fd < 0)
        return false;
    got = SYS3(__NR_read, r->fd, near, size);
    have = got > 0 ? (size_t)got : 0;
    if (have < sizeof(*h) || h->magic != RULES_MAGIC || h->size > RULES_SIZE_MAX)
        goto fail;
    if (h->size > have) {
        size_t whole = ROUND_UP((size_t)h->size, PROBE_PAGE);

        at = SYS6(__NR_mmap, 0, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (sys_failed(at))
            goto fail;
        memcpy((void *)at, near, have);
        r->head = (const struct rules_head *)at;
        r->mapped = whole;
        have = read_more(r->fd, (char *)at, have, h->size);
    }
    if (rules_valid(r->head, have))
        return true;
fail:
    rules_close(r);
    return false;
}

static const struct rules_entry *entries(const struct rules_head *h)
{
    return (const struct rules_entry *)(const void *)(h + 1);
}

/* Of this build; root's, and nobody else can write to it. Asked when a program has been named: what nobody may believe
 * names none, and others don't pay for it. */
static bool rules_believed(const struct rules *r)
{
    struct statx st;

    return r->head->table_hash == syscall_table_hash() &&
           SYS6(__NR_statx, r->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st, 0) == 0 && S_ISREG_(st.stx_mode) &&
           st.stx_uid == 0 && !(st.stx_mode & 0022) && st.stx_size == r->head->size;
}

/* ---- this program ---- */

/* Lines of a file in /proc, read piece by piece: what is far behind costs the kernel as much as what is in front. */
struct lines {
    int fd;
    size_t at, have; /* in text: the next line begins, what was read ends */
    size_t piece;    /* bytes that are asked for at a time */
    bool segment;    /* of maps: one of ours is among those that were passed over */
    char text[4608]; /* longer than any: a path and what stands before it */
};

/* The next line without its end, or NULL. */
static char *next_line(struct lines *l)
{
    for (size_t from = l->at;;) {
        long n;

        for (; from < l->have; from++)
            if (l->text[from] == '\n') {
                char *line = l->text + l->at;

                l->text[from] = 0;
                l->at = from + 1;
                return line;
            }
        if (l->at) {
            l->have -= l->at;
            from -= l->at;
            for (size_t i = 0; i < l->have; i++) /* memcpy() of what may overlap */
                l->text[i] = l->text[l->at + i];
            l->at = 0;
        }
        n = SYS3(__NR_read, l->fd, l->text + l->have, MIN(l->piece, sizeof(l->text) - l->have));
        if (n <= 0)
            return NULL;
        l->have += (size_t)n;
    }
}

static const char *hex(const char *s, uint64_t *ret)
{
    for (*ret = 0;; s++) {
        if (*s >= '0' && *s <= '9')
            *ret = *ret << 4 | (uint64_t)(*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            *ret = *ret << 4 | (uint64_t)(*s - 'a' + 10);
        else
            return s;
    }
}

/* The last component of a path, without what the kernel adds to that of a file that is gone. */
static bool last_component(const char *path, char name[NAME_SIZE])
{
    static const char gone[] = " (deleted)";
    const char *base = path;
    size_t n;

    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    n = (size_t)(path - base);
    if (n > sizeof(gone) - 1 && str_eq(path - (sizeof(gone) - 1), gone))
        n -= sizeof(gone) - 1;
    if (!n || n >= NAME_SIZE)
        return false;
    copy_bytes(name, base, n);
    name[n] = 0;
    return true;
}

static bool is_segment(const char *line)
{
    return str_contains(line, "/memfd:" SEG_NAME " (deleted)");
}

/* The name of the file that is mapped there: what /proc/self/exe leads to, without the call for links that a filter may
 * not know. */
static bool name_of_mapping(struct lines *maps, uint64_t at, char name[NAME_SIZE])
{
    uint64_t lo, hi;
    char *line;

    while ((line = next_line(maps))) {
        const char *rest = hex(line, &lo);

        if (*rest != '-')
            return false;
        rest = hex(rest + 1, &hi);
        if (at < lo || at >= hi) { /* who attaches maps it wherever there is room, also below the program */
            maps->segment |= is_segment(rest);
            continue;
        }
        while (*rest && *rest != '/')
            rest++;
        return last_component(rest, name);
    }
    return false;
}

/* Whether a probe observes this program already: it has a segment. */
static bool has_segment(struct lines *maps)
{
    const char *line;

    maps->piece = sizeof(maps->text);
    while (!maps->segment && (line = next_line(maps)))
        maps->segment = is_segment(line);
    return maps->segment;
}

static int proc_open(const char *path)
{
    return own_fd(SYS4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

/* Whether a seccomp filter is in force, as far as is known; then our calls may be the program's end. */
static bool filtered(struct lines *l)
{
    const char *line, *mode;
    bool known = false, yes = false;
    int fd = proc_open("/proc/self/status");

    if (fd < 0)
        return true;
    *l = (struct lines){.fd = fd, .piece = sizeof(l->text)};
    while (!known && (line = next_line(l))) {
        mode = str_after(line, "Seccomp:\t");
        known = mode != NULL;
        yes = known && *mode != '0';
    }
    own_close(fd);
    return yes; /* a kernel that doesn't tell has none */
}

/* The words of the command line lie one behind the other, as the kernel has put them there; /proc/self/cmdline. */
static bool args_of(const struct rules_self *self, struct rules_subject *to)
{
    const char *first = self->argc > 0 ? self->argv[0] : NULL, *last = first ? self->argv[self->argc - 1] : NULL;

    if (last < first)
        return false;
    to->args = first;
    to->args_len = first ? (size_t)(last - first) + str_len(last, SIZE_MAX >> 1) + 1 : 0;
    return true;
}

/* The first process, or one that the kernel has started by itself (kthreadd is number 2). */
static bool is_of_host(void)
{
    return SYS1(__NR_getpid, 0) == 1 || SYS1(__NR_getppid, 0) == 2;
}

/* Takes over what the file and this entry of it say. */
static bool take(const struct rules_head *h, uint32_t entry, const char *lib)
{
    const char *text = (const char *)h, *socket = text + h->socket;

    if (*socket != '/' || str_len(socket, sizeof(probe.socket)) == sizeof(probe.socket))
        return false;
    str_add(probe.socket, 0, sizeof(probe.socket), socket);
    probe_set_paths(lib, h->plans ? text + h->plans : "");
    probe.mode = entries(h)[entry].mode;
    return true;
}

HIDDEN bool rules_name_self(const struct rules_self *self, const char *lib)
{
    _Alignas(struct rules_head) char near[RULES_NEAR];
    struct rules_subject subject = {.execfn = self->execfn};
    char name[NAME_SIZE];
    struct lines l;
    struct rules r;
    uint32_t found = RULES_NONE;
    bool named = false;

    if (!rules_open(&r, near, sizeof(near)))
        return false;
    l.fd = r.head->count && args_of(self, &subject) ? proc_open("/proc/self/maps") : -1;
    if (l.fd >= 0) {
        l.at = l.have = 0;
        l.segment = false;
        l.piece = 512; /* the program lies in front of its libraries, mostly */
        if (name_of_mapping(&l, self->headers, name)) {
            subject.exe = name;
            found = rules_match(r.head, &subject);
        }
        if (found != RULES_NONE && has_segment(&l))
            found = RULES_NONE;
        own_close(l.fd);
    }
    /* Calls that a filter may not know come behind the question for one. */
    named = found != RULES_NONE && !filtered(&l) && rules_believed(&r);
    if (named && !entries(r.head)[found].name && is_of_host()) {
        subject.spared = true;
        found = rules_match(r.head, &subject);
        named = found != RULES_NONE;
    }
    named = named && take(r.head, found, lib);
    rules_close(&r);
    return named;
}

/* ---- a program that is about to be ---- */

/* Appends a word with its end; false if there is no room, or it can't be read. */
static bool add_word(char *to, size_t *len, const char *word)
{
    size_t room = RULES_ARGS_MAX - *len, n = mem_string(word, room);

    if (n >= room) /* MEM_BAD, too */
        return false;
    memcpy(to + *len, word, n);
    to[*len + n] = 0;
    *len += n + 1;
    return true;
}

/* The name by which /proc has a descriptor of ours. */
static void link_of(char *to, size_t size, int fd)
{
    char digits[12], *p = digits + sizeof(digits) - 1;

    *p = 0;
    do
        *--p = (char)('0' + fd % 10);
    while (fd /= 10);
    str_add(to, str_add(to, 0, size, "/proc/self/fd/"), size, p);
}

HIDDEN bool rules_name_exec(int image, const char *path, bool script, char *const *argv)
{
    /* Not on the stack: this may run in a signal handler. */
    struct scratch {
        _Alignas(struct rules_head) char near[RULES_NEAR];
        char link[64], exe[SEG_PATH_MAX], args[RULES_ARGS_MAX];
    } * s;
    struct rules_subject subject = {.execfn = path};
    struct rules r;
    bool named = false;
    long at = SYS6(__NR_mmap, 0, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (sys_failed(at))
        return false;
    s = (struct scratch *)at;
    if (rules_open(&r, s->near, sizeof(s->near))) {
        link_of(s->link, sizeof(s->link), image);
        if (SYS4(__NR_readlinkat, AT_FDCWD, s->link, s->exe, sizeof(s->exe) - 1) > 0)
            subject.exe = s->exe;
        subject.args = s->args;
        if (script) { /* what the kernel puts before the arguments: without that of its first line */
            add_word(s->args, &subject.args_len, s->exe);
            add_word(s->args, &subject.args_len, path);
        }
        for (unsigned i = script; i < WORDS && mem_readable(&argv[i], sizeof(*argv)) && argv[i]; i++)
            if (!add_word(s->args, &subject.args_len, argv[i]))
                break;
        named = rules_match(r.head, &subject) != RULES_NONE && rules_believed(&r);
        rules_close(&r);
    }
    SYS2(__NR_munmap, at, sizeof(*s));
    return named;
}

/* ---- who brings the probe ---- */

HIDDEN bool rules_preloaded(const char *lib)
{
    char text[1024]; /* a name or two; what stands behind is not looked at */
    const char *base = lib;
    size_t have, len;
    int fd = own_fd(SYS4(__NR_openat, AT_FDCWD, "/etc/ld.so.preload", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0));

    if (fd < 0)
        return false;
    have = read_more(fd, text, 0, sizeof(text) - 1);
    own_close(fd);
    text[have] = 0;
    for (const char *p = lib; *p; p++)
        if (*p == '/')
            base = p + 1;
    len = str_len(base, SEG_PATH_MAX);
    for (const char *p = text; *p && len; p++) {
        const char *after =
            (p == text || p[-1] == '/' || p[-1] == ' ' || p[-1] == '\t' || p[-1] == '\n' || p[-1] == ':')
                ? str_after(p, base)
                : NULL;

        if (after && (!*after || *after == ' ' || *after == '\t' || *after == '\n' || *after == ':'))
            return true;
    }
    return false;
}
