/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of a whole host in the form that is looked at when a program starts: which programs are observed, and how. The
 * file for people is HOST_RULES (src/rules/rules.h); `scope start` and the host's collector make this one of it, by
 * rename(2), so that who has mapped it keeps what it was. It lies in a directory that is root's and is gone after a
 * boot: until the collector is there again nothing is observed.
 *
 * The probe that /etc/ld.so.preload has brought into a program believes the file only if it is a regular one of root's
 * that nobody else can write to, not longer than RULES_SIZE_MAX, and rules_valid(). Probe, collector and who attaches to
 * running programs all ask rules_match(), so they agree.
 *
 * Layout: struct rules_head, `count` struct rules_entry, text (names, each ended by a NUL). Offsets count from the
 * beginning of the file. All of it is read, never written, by its readers; numbers are the machine's own.
 */
#ifndef SCOPE_WIRE_RULES_H
#define SCOPE_WIRE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOST_DIR          "/run/appscope"        /* root's, 0755; emptied by a boot */
#define HOST_RULES_MAPPED HOST_DIR "/rules"
#define HOST_SOCKET       HOST_DIR "/collector"  /* SOCK_SEQPACKET, 0666; requests: with JOIN_REQUESTS behind it */

#define RULES_MAGIC    UINT64_C(0x3165527570637353) /* changes with the layout */
#define RULES_SIZE_MAX (1u << 20)
#define RULES_MAX      4096u
#define RULES_NONE     UINT32_MAX
#define RULES_ARGS_MAX ((size_t)16 << 10) /* of a command line; what stands behind that names no program */

/* SPARE: programs that only an entry with a name is for (rules/spare.h): such entries come before all others. */
enum rules_kind { RULES_ALLOW = 1, RULES_DENY = 2, RULES_SPARE = 3 };

struct rules_entry {
    uint32_t kind;        /* enum rules_kind */
    uint32_t name;        /* offset of the program's name; 0: any. RULES_SPARE: a '*' at its end is for any further text */
    uint32_t arg;         /* offset of a text that its command line has in it; 0: any */
    uint32_t mode;        /* RULES_ALLOW: initial enum seg_mode, from the rule's configuration */
};

struct rules_head {
    uint64_t magic;
    uint64_t table_hash;  /* syscall_table_hash(): a probe of another version keeps away */
    uint32_t size;        /* of the file */
    uint32_t count;       /* of entries */
    uint32_t socket;      /* offset of the collector's name as in $SCOPE_SOCKET; "/..." is a path */
    uint32_t plans;       /* offset of the directory of plans as in $SCOPE_PLANS; 0: none */
    uint64_t generation;  /* one more with each change of the rules */
};

/* What is known of a program that begins, or runs. */
struct rules_subject {
    const char *exe;      /* path of its executable file, as /proc/self/exe has it */
    const char *execfn;   /* name that it was executed by (AT_EXECFN): of a script its own, not the interpreter's; NULL if
                           * that isn't known */
    const char *args;     /* /proc/PID/cmdline: words, each ended by a NUL */
    size_t args_len;
    bool spared;          /* process 1, or what the kernel has started itself: only an entry with a name is for it */
};

static inline bool rules_text_ok(const struct rules_head *h, uint32_t at)
{
    return at >= sizeof(*h) && at < h->size;
}

/* size: of the file, which may be longer than what is believed of it. Checks everything that rules_match() follows. */
static inline bool rules_valid(const struct rules_head *h, size_t size)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1);
    size_t texts;

    if (size < sizeof(*h) + 1 || h->magic != RULES_MAGIC || h->size != size || size > RULES_SIZE_MAX ||
        h->count > RULES_MAX)
        return false;
    texts = sizeof(*h) + h->count * sizeof(*e);
    if (texts >= size || ((const char *)h)[size - 1] || !rules_text_ok(h, h->socket) || h->socket < texts ||
        (h->plans && (!rules_text_ok(h, h->plans) || h->plans < texts)))
        return false;
    for (uint32_t i = 0; i < h->count; i++)
        if (e[i].kind < RULES_ALLOW || e[i].kind > RULES_SPARE ||
            (e[i].name && (e[i].name < texts || !rules_text_ok(h, e[i].name))) ||
            (e[i].arg && (e[i].arg < texts || !rules_text_ok(h, e[i].arg))))
            return false;
    return true;
}

/* The last component of a path; of NULL "". */
static inline const char *rules_base(const char *path)
{
    const char *base = path ? path : "";

    for (; path && *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
}

static inline bool rules_named(const char *base, const char *name, bool wild)
{
    while (*base && *base == *name)
        base++, name++;
    return *base == *name || (wild && *name == '*' && !name[1]);
}

/* Whether a text occurs in the command line as people write it: words separated by blanks. */
static inline bool rules_in_args(const char *args, size_t len, const char *text)
{
    while (len && !args[len - 1])
        len--;
    for (size_t at = 0; at <= len; at++) {
        size_t n = 0;

        while (text[n] && at + n < len && (args[at + n] ? args[at + n] : ' ') == text[n])
            n++;
        if (!text[n])
            return true;
    }
    return false;
}

/* What rules_match() has worked out of a subject. */
struct rules_look {
    const struct rules_subject *s;
    const char *exe, *execfn; /* last components */
    size_t args_len;
    bool spared;
};

static inline struct rules_look rules_look(const struct rules_subject *s)
{
    return (struct rules_look){s, rules_base(s->exe), rules_base(s->execfn),
                               s->args_len < RULES_ARGS_MAX ? s->args_len : RULES_ARGS_MAX, s->spared};
}

/* Whether an entry is for the subject: both name and arg must fit. Entries are asked in their order. */
static inline bool rules_fits(const struct rules_head *h, const struct rules_entry *e, struct rules_look *l)
{
    const char *text = (const char *)h, *name = text + e->name;
    bool spare = e->kind == RULES_SPARE;

    if ((e->name && !rules_named(l->exe, name, spare) && !rules_named(l->execfn, name, spare)) ||
        (!e->name && e->kind == RULES_ALLOW && l->spared) ||
        (e->arg && !rules_in_args(l->s->args, l->args_len, text + e->arg)))
        return false;
    l->spared |= spare;
    return true;
}

/* The first allowing entry for this program, if no denying one is for it, else RULES_NONE. h is rules_valid(). */
static inline uint32_t rules_match(const struct rules_head *h, const struct rules_subject *s)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1);
    struct rules_look look = rules_look(s);
    uint32_t found = RULES_NONE;

    for (uint32_t i = 0; i < h->count; i++) {
        if (!rules_fits(h, &e[i], &look))
            continue;
        if (e[i].kind == RULES_DENY)
            return RULES_NONE;
        if (e[i].kind == RULES_ALLOW && found == RULES_NONE)
            found = i;
    }
    return found;
}

#endif
