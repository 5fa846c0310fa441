/* SPDX-License-Identifier: Apache-2.0 */
#include "report/notices.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "config/path_set.h"
#include "model/fds.h"
#include "model/model.h"
#include "model/owner.h"
#include "model/path.h"
#include "model/procinfo.h"
#include "protocol/dns.h"
#include "report/fields.h"
#include "report/report.h"
#include "report/watchlist.h"

#define DELETED " (deleted)" /* what the kernel puts behind the name of a file that has none any more */
#define OVERFLOW_ID 65534u   /* owners that have no number in our user namespace */

enum { LIST_WRITE, LIST_READ, LIST_SEND, LIST_SYSTEM };
_Static_assert(LIST_SYSTEM < PATH_LISTS, "a set has too few lists");

struct notices {
    struct tm_rule **rule; /* those of entries have their numbers in the lists */
    int32_t rules;
    struct path_set *paths;
    struct peer_list *allow, *deny;
    struct address_names *names; /* NULL: no list has names */
    struct tm_rule *not_allowed, *writable, *deleted, *malformed, *maxlength, *maxname, *maxlabels,
        *types; /* NULL: off */
    unsigned length_max, name_max, labels_max;
    uint8_t send_list; /* of files on LIST_SEND; of others one less: file.send_list. Configurations differ */
    char **type;       /* that are expected; NULL-terminated */
};

/* --- rules --- */

static int32_t add_rule(struct notices *n, const char *key, const char *entry)
{
    struct tm_rule *rule = xcalloc(1, sizeof(*rule));

    rule->name = entry ? xasprintf("%s: %s", key, entry) : xstrdup(key);
    n->rule = xrealloc(n->rule, (size_t)n->rules + 1, sizeof(struct tm_rule *));
    n->rule[n->rules] = rule;
    return n->rules++;
}

static struct tm_rule *rule_if(struct notices *n, bool on, const char *key)
{
    int32_t at = on ? add_rule(n, key, NULL) : -1;

    return on ? n->rule[at] : NULL;
}

static void add_paths(struct notices *n, unsigned list, const char *key, const char *text)
{
    char *item;

    for (; (item = cfg_list_item(&text)); free(item))
        path_set_add(n->paths, list, item, add_rule(n, key, item), getenv("HOME"));
}

static void add_peers(struct notices *n, struct peer_list *list, const char *key, const char *text)
{
    char *item;

    for (; (item = cfg_list_item(&text)); free(item))
        peer_list_add(list, item, add_rule(n, key, item));
}

static void add_types(struct notices *n, const char *text)
{
    char *item;
    size_t count = 0;

    for (; (item = cfg_list_item(&text)); count++) {
        n->type = xrealloc(n->type, count + 2, sizeof(char *));
        n->type[count] = item;
        n->type[count + 1] = NULL;
    }
    n->types = rule_if(n, count > 0, "notice.dns.types");
}

void notices_prepare(struct pipeline *pl)
{
    static uint8_t last = 1;
    const struct config *c = pl->cfg;
    struct notices *n;

    if (!pl->event[CFG_EW_NOTICE])
        return;
    pl->notices = n = xcalloc(1, sizeof(*n));
    n->send_list = last = (uint8_t)(last < 254 ? last + 2 : 3);
    n->paths = path_set_new();
    n->allow = peer_list_new();
    n->deny = peer_list_new();
    add_paths(n, LIST_WRITE, "notice.file.write", c->notice.file.write);
    add_paths(n, LIST_READ, "notice.file.read", c->notice.file.read);
    add_paths(n, LIST_SEND, "notice.file.send", c->notice.file.send);
    add_paths(n, LIST_SYSTEM, "notice.file.system", c->notice.file.system);
    add_peers(n, n->allow, "notice.net.allow", c->notice.net.allow);
    add_peers(n, n->deny, "notice.net.deny", c->notice.net.deny);
    if (peer_list_has_names(n->allow) || peer_list_has_names(n->deny))
        n->names = address_names_new();
    n->not_allowed = rule_if(n, !peer_list_empty(n->allow), "notice.net.allow");
    n->writable = rule_if(n, c->notice.exec.writable, "notice.exec.writable");
    n->deleted = rule_if(n, c->notice.exec.deleted, "notice.exec.deleted");
    n->malformed = rule_if(n, c->notice.dns.malformed, "notice.dns.malformed");
    n->maxlength = rule_if(n, c->notice.dns.maxlength, "notice.dns.maxlength");
    n->maxname = rule_if(n, c->notice.dns.maxname, "notice.dns.maxname");
    n->maxlabels = rule_if(n, c->notice.dns.maxlabels, "notice.dns.maxlabels");
    n->length_max = c->notice.dns.maxlength;
    n->name_max = c->notice.dns.maxname;
    n->labels_max = c->notice.dns.maxlabels;
    add_types(n, c->notice.dns.types);
}

void notices_unprepare(struct pipeline *pl)
{
    struct notices *n = pl->notices;

    if (!n)
        return;
    for (int32_t i = 0; i < n->rules; i++) {
        free((char *)n->rule[i]->name);
        free(n->rule[i]);
    }
    for (char **t = n->type; t && *t; t++)
        free(*t);
    free(n->type);
    free(n->rule);
    path_set_free(n->paths);
    peer_list_free(n->allow);
    peer_list_free(n->deny);
    address_names_free(n->names);
    free(n);
    pl->notices = NULL;
}

bool notices_want_dns(const struct pipeline *pl)
{
    const struct notices *n = pl->notices;

    return n && (n->names || n->malformed || n->maxlength || n->maxname || n->maxlabels || n->types);
}

/* --- telling --- */

static void begin(struct fields *f, const struct tm_rule *rule, const char *why)
{
    add(f, "who", TM_WHO, 0);
    add_str(f, "rule", 0, rule->name);
    add_str(f, "why", 0, why);
}

static void tell(struct proc *p, struct tm_rule *rule, const char *source, uint64_t channel, uint64_t time_ns,
                 const struct fields *f)
{
    struct tm_event e = {.watch = CFG_EW_NOTICE,
                         .source = source,
                         .time_ns = time_ns,
                         .channel = channel,
                         .fields = f->f,
                         .field_count = f->n};

    telemetry_notice(p->pl->tm, &p->tm, rule, &e);
}

/* --- files --- */

/* What a notice about files tells. */
struct about {
    const char *op;
    struct slice file, other;
    const char *other_as; /* what the other name is; NULL: there is none */
    bool unresolved;
    uint64_t channel, time_ns;
};

static void tell_file(struct proc *p, int32_t rule, const char *source, const char *why, const struct about *a)
{
    struct tm_rule *r = p->pl->notices->rule[rule];
    FIELDS(f, TM_MAX_FIELDS);

    begin(&f, r, why);
    add_str(&f, "op", 0, a->op);
    add_mem(&f, "file", 0, a->file.p, a->file.len);
    if (a->unresolved)
        add(&f, "file_unresolved", TM_BOOL, 0)->v.b = true;
    if (a->other_as)
        add_mem(&f, a->other_as, 0, a->other.p, a->other.len);
    tell(p, r, source, a->channel, a->time_ns, &f);
}

static void tell_mode(struct proc *p, int32_t rule, uint32_t mode, const char *why, const struct about *a)
{
    struct tm_rule *r = p->pl->notices->rule[rule];
    char text[16];

    FIELDS(f, TM_MAX_FIELDS);
    snprintf(text, sizeof(text), "%04o", mode & 07777);
    begin(&f, r, why);
    add_str(&f, "op", 0, a->op);
    add_mem(&f, "file", 0, a->file.p, a->file.len);
    add_str(&f, "file_mode", 0, text);
    tell(p, r, "notice.file.mode", a->channel, a->time_ns, &f);
}

/* Set-group-ID without the right to execute means something else (fcntl(2), mandatory locking). */
static const char *set_id(uint32_t mode)
{
    return mode & S_ISUID ? "set-user-ID" : (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ? "set-group-ID" : NULL;
}

/* What is told of a file that is on a list and was opened. */
static void tell_open(struct proc *p, const int32_t rule[PATH_LISTS], const struct desc *d, const struct rec_stat *st,
                      uint64_t flags, const struct about *a)
{
    bool write = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC, read = (flags & O_ACCMODE) != O_WRONLY;
    const char *id;
    char why[64];

    if (write && rule[LIST_WRITE] >= 0)
        tell_file(p, rule[LIST_WRITE], "notice.file.write", "opened for writing", a);
    if (read && rule[LIST_READ] >= 0 && d->file->kind != FDK_DIR) /* what is in it has a name of its own */
        tell_file(p, rule[LIST_READ], "notice.file.read", "opened for reading", a);
    if (rule[LIST_SYSTEM] < 0 || !st || !S_ISREG(st->mode))
        return;
    id = write ? set_id(st->mode) : NULL;
    if (st->mode & S_IWOTH) {
        tell_mode(p, rule[LIST_SYSTEM], st->mode, "everybody can write to it", a);
    } else if (id) {
        snprintf(why, sizeof(why), "%s, and opened for writing", id);
        tell_mode(p, rule[LIST_SYSTEM], st->mode, why, a);
    }
}

void notices_open(struct proc *p, const struct desc *d, uint64_t flags, const struct rec_stat *st, const char *op,
                  uint64_t time_ns)
{
    const struct notices *n = p->pl->notices;
    const int32_t *rule;
    const char *name;
    size_t len;

    if (flags & O_PATH || !d->file)
        return;
    name = fds_name(d, &len);
    rule = path_set_find(n->paths, name, len);
    d->file->send_list = (uint8_t)(n->send_list - (rule[LIST_SEND] < 0));
    if (rule[LIST_WRITE] >= 0 || rule[LIST_READ] >= 0 || rule[LIST_SYSTEM] >= 0) {
        struct about a = {
            .op = op, .file = {name, len}, .unresolved = fds_unresolved(d), .channel = d->channel, .time_ns = time_ns};

        tell_open(p, rule, d, st, flags, &a);
    }
}

static bool is_exe(const struct proc *p, const char *file, size_t len)
{
    return p->tm.exe && strlen(p->tm.exe) == len && memcmp(p->tm.exe, file, len) == 0;
}

static void tell_exec(struct proc *p, struct tm_rule *rule, const char *why, const char *file, size_t len,
                      const char *place, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    begin(&f, rule, why);
    add_mem(&f, "file", 0, file, len);
    if (place)
        add_str(&f, "place", 0, place);
    tell(p, rule, "notice.exec", 0, time_ns, &f);
}

/* A secret that gets another name, under which it may not be found to be one. */
static void other_name(struct proc *p, const char *why, const struct about *a)
{
    int32_t rule = path_set_find(p->pl->notices->paths, a->file.p, a->file.len)[LIST_READ];

    if (rule >= 0 && path_set_find(p->pl->notices->paths, a->other.p, a->other.len)[LIST_READ] < 0)
        tell_file(p, rule, "notice.file.read", why, a);
}

void notices_names(struct proc *p, enum tm_metric metric, const char *op, const char *file, size_t len,
                   const char *file_to, size_t to_len, unsigned unresolved, uint64_t time_ns)
{
    struct notices *n = p->pl->notices;
    bool renamed = metric == TM_FS_RENAME && file_to;
    struct about first = {.op = op,
                          .file = {file, len},
                          .other = {file_to, to_len},
                          .unresolved = unresolved & NAME_FIRST,
                          .other_as = file_to ? "file_to" : NULL,
                          .time_ns = time_ns};
    struct about second = {.op = op,
                           .file = first.other,
                           .other = first.file,
                           .unresolved = unresolved & NAME_SECOND,
                           .other_as = "file_from",
                           .time_ns = time_ns};
    int32_t rule = path_set_find(n->paths, file, len)[LIST_WRITE];
    const char *why = metric == TM_FS_DELETE   ? "removed"
                      : metric == TM_FS_RENAME ? "renamed"
                      : metric == TM_FS_CREATE ? "made"
                                               : "changed";

    if (rule >= 0)
        tell_file(p, rule, "notice.file.write", why, &first);
    else if (renamed && (rule = path_set_find(n->paths, file_to, to_len)[LIST_WRITE]) >= 0)
        tell_file(p, rule, "notice.file.write", "another file was given this name", &second);
    if (renamed) {
        other_name(p, "renamed", &first);
    } else if (metric == TM_FS_CREATE && file_to && to_len && *file_to == '/') { /* the first is what was made */
        second.other_as = "file_to";
        other_name(p, strncmp(op, "symlink", 7) ? "linked under another name" : "a symbolic link to it was made",
                   &second);
    }
    if (n->deleted && !p->exe_gone &&
        (metric == TM_FS_DELETE ? is_exe(p, file, len) : renamed && is_exe(p, file_to, to_len))) {
        p->exe_gone = true;
        tell_exec(p, n->deleted, "the program removes its own file", p->tm.exe, strlen(p->tm.exe), NULL, time_ns);
    }
}

void notices_mode(struct proc *p, uint32_t mode, const char *op, const char *file, size_t len, uint64_t time_ns)
{
    int32_t rule = path_set_find(p->pl->notices->paths, file, len)[LIST_SYSTEM];
    struct about a = {.op = op, .file = {file, len}, .time_ns = time_ns};
    const char *id = set_id(mode);
    struct rec_stat st = {0};
    char why[64];
    bool dir;

    if (rule < 0 || !(mode & S_IWOTH || id))
        return;
    dir = owner_lookup(p, file, len, &st) && S_ISDIR(st.mode);
    if (mode & S_IWOTH && !(dir && mode & S_ISVTX)) {
        tell_mode(p, rule, mode, "becomes writable by everybody", &a);
    } else if (id && !dir) { /* of a directory it says whose group new files have */
        snprintf(why, sizeof(why), "becomes %s", id);
        tell_mode(p, rule, mode, why, &a);
    }
}

/* --- programs --- */

/* Whom the process trusts: numbers as they are here. */
struct trusted {
    bool known;
    uint32_t user, root;
};

/* The user who is root in the process's user namespace (user_namespaces(7)). */
static uint32_t root_of(pid_t pid)
{
    char path[40], line[128], *end;
    uint32_t ret = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f)) /* inside, outside, how many */
        if (strtoul(line, &end, 10) == 0)
            ret = (uint32_t)strtoul(end, NULL, 10);
    fclose(f);
    return ret;
}

static struct trusted trusted_by(const struct proc *p)
{
    struct pi_ids ids;

    if (p->host_pid > 0 && !p->dead && pi_ids(p->host_pid, &ids) == 0)
        return (struct trusted){true, ids.euid, root_of(p->host_pid)};
    /* Gone: it had these numbers, unless it was in a namespace where they mean others. */
    return (struct trusted){!tm_two_pids(&p->tm) && !p->tm.container[0] && p->root != ROOT_OTHER, p->tm.uid, 0};
}

static bool is_strangers(const struct proc *p, struct trusted *t, bool *asked, uint32_t uid)
{
    if (uid == 0 || uid == OVERFLOW_ID)
        return false;
    if (!*asked) {
        *t = trusted_by(p);
        *asked = true;
    }
    return t->known && uid != t->user && uid != t->root;
}

/* Why others can change the program, or NULL. place: room for the name of what they can write to. */
static const char *changeable(struct proc *p, const char *file, size_t len, char place[PATH_MAX])
{
    struct trusted t = {0};
    struct rec_stat st;
    bool asked = false, of_file = true, own_dir = true;

    if (!len || len >= PATH_MAX || *file != '/')
        return NULL;
    memcpy(place, file, len);
    place[len] = 0;
    while (owner_lookup(p, place, len, &st)) {
        bool open = st.mode & S_IWOTH && !S_ISLNK(st.mode);

        if (of_file && !S_ISREG(st.mode))
            return NULL;
        if (of_file ? open : open && (own_dir || !(st.mode & S_ISVTX)))
            return of_file   ? "everybody can write to the program"
                   : own_dir ? "everybody can write to the program's directory"
                             : "everybody can write to a directory above the program";
        if (is_strangers(p, &t, &asked, st.uid))
            return of_file ? "the program belongs to another user"
                           : "a directory that the program lies in belongs to another user";
        own_dir = of_file;
        of_file = false;
        if (len <= 1)
            break;
        while (len > 1 && place[len - 1] != '/')
            len--;
        if (len > 1)
            len--;
        place[len] = 0;
    }
    return NULL;
}

static bool check_place(struct proc *p, const char *file, size_t len, uint64_t time_ns)
{
    char place[PATH_MAX];
    const char *why = changeable(p, file, len, place);

    if (why)
        tell_exec(p, p->pl->notices->writable, why, file, len, place, time_ns);
    return why != NULL;
}

/* Files may really be called so: then it is the one that runs. */
static bool is_deleted(struct proc *p, const char *exe)
{
    size_t len = strlen(exe), tail = sizeof(DELETED) - 1;
    struct rec_stat named;
    struct statx runs;
    char path[40];

    if (len <= tail || strcmp(exe + len - tail, DELETED) != 0)
        return false;
    if (!owner_lookup(p, exe, len, &named))
        return true;
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)p->host_pid);
    return p->host_pid > 0 && !p->dead && statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &runs) == 0 &&
           (runs.stx_ino != named.ino || makedev(runs.stx_dev_major, runs.stx_dev_minor) != named.dev);
}

static void tell_deleted(struct proc *p, const char *exe, uint64_t time_ns)
{
    size_t len = strlen(exe) - (sizeof(DELETED) - 1);

    p->exe_gone = true;
    tell_exec(p, p->pl->notices->deleted,
              strncmp(exe, "/memfd:", 7) ? "the file of the program was removed" : "the program is in memory only", exe,
              len, NULL, time_ns);
}

void notices_exec(struct proc *p, const char *name, uint64_t time_ns)
{
    const struct notices *n = p->pl->notices;
    const char *exe = p->tm.exe ? p->tm.exe : "";

    p->exe_gone = false;
    if (is_deleted(p, exe)) {
        if (n->deleted)
            tell_deleted(p, exe, time_ns);
        return;
    }
    /* A script, or a link, may be in other hands than what it leads to. */
    if (n->writable && !(name && strcmp(name, exe) != 0 && check_place(p, name, strlen(name), time_ns)))
        check_place(p, exe, strlen(exe), time_ns);
}

void notices_exec_unobserved(struct proc *p, const char *name, size_t len, uint64_t time_ns)
{
    if (p->pl->notices->writable)
        check_place(p, name, len, time_ns);
}

void notices_period(struct proc *p, uint64_t time_ns)
{
    char *exe;

    if (!p->pl->notices->deleted || p->exe_gone || p->dead || p->host_pid <= 0)
        return;
    exe = pi_exe(p->host_pid);
    if (is_deleted(p, exe))
        tell_deleted(p, exe, time_ns);
    free(exe);
}

/* --- network --- */

/* Addresses that lead to this host, wherever that is. */
static bool is_own(const union address *a)
{
    const struct in6_addr *v6 = &a->in6.sin6_addr;
    uint32_t v4;

    if (a->family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(v6))
        return IN6_IS_ADDR_LOOPBACK(v6) || IN6_IS_ADDR_UNSPECIFIED(v6);
    memcpy(&v4, a->family == AF_INET ? (const void *)&a->in.sin_addr : &v6->s6_addr[12], sizeof(v4));
    v4 = ntohl(v4);
    return v4 >> 24 == 127 || v4 == 0;
}

void notices_connect(struct proc *p, const struct desc *d, const union address *peer, uint64_t time_ns)
{
    const struct notices *n = p->pl->notices;
    struct tm_rule *rule = NULL;
    struct address_texts t;
    const char *name;
    int32_t found;

    FIELDS(f, TM_MAX_FIELDS);
    if (!d->file->sock || (peer->family != AF_INET && peer->family != AF_INET6))
        return;
    name = n->names ? address_names_find(n->names, p->tm.uid, peer) : NULL;
    found = peer_list_find(n->deny, peer);
    if (found < 0 && name)
        found = peer_list_find_name(n->deny, name, strlen(name));
    if (found >= 0)
        rule = n->rule[found];
    else if (n->not_allowed && !is_own(peer) && peer_list_find(n->allow, peer) < 0 &&
             !(name && peer_list_find_name(n->allow, name, strlen(name)) >= 0))
        rule = n->not_allowed;
    if (!rule)
        return;
    begin(&f, rule, found >= 0 ? "a connection to a peer that is denied" : "a connection to a peer that isn't allowed");
    if (name)
        add_str(&f, "domain", 0, name);
    report_net_fields(&f, d->file->sock, peer, &t);
    tell(p, rule, "notice.net", sock_channel(d->file), time_ns, &f);
}

void notices_sent(struct proc *p, const struct desc *from, const struct desc *to, uint64_t bytes, const char *op,
                  uint64_t time_ns)
{
    const struct sock *s = to ? to->file->sock : NULL;
    struct address_texts t;
    struct tm_rule *rule;
    const char *name;
    int32_t found;
    size_t len;

    FIELDS(f, TM_MAX_FIELDS);
    if (from->file->send_list == p->pl->notices->send_list - 1 || (s && s->domain != AF_INET && s->domain != AF_INET6))
        return;
    name = fds_name(from, &len);
    found = path_set_find(p->pl->notices->paths, name, len)[LIST_SEND];
    if (found < 0)
        return;
    rule = p->pl->notices->rule[found];
    begin(&f, rule, s ? "sent over the network" : "sent through a socket");
    add_str(&f, "op", 0, op);
    add_mem(&f, "file", 0, name, len);
    add_uint(&f, "bytes", 0, bytes);
    if (s)
        report_net_fields(&f, s, &s->peer, &t);
    tell(p, rule, "notice.file.send", s ? sock_channel(to->file) : from->channel, time_ns, &f);
}

/* --- DNS --- */

struct dns_told {
    struct proc *p;
    const struct dns_message *m;
    const struct fields *net;
    bool sent;
    uint64_t channel, time_ns;
};

static void tell_dns(const struct dns_told *x, struct tm_rule *rule, const char *why, const struct slice *name,
                     const char *counted, uint64_t count, const char *type)
{
    FIELDS(f, TM_MAX_FIELDS);

    begin(&f, rule, why);
    if (name)
        add_mem(&f, "domain", 0, name->p, name->len);
    if (counted)
        add_uint(&f, counted, 0, count);
    if (type)
        add_str(&f, "record_type", 0, type);
    if (x->m)
        add_str(&f, "role", 0, x->sent == x->m->response ? "server" : "client");
    for (size_t i = 0; i < x->net->n; i++)
        add_field(&f, &x->net->f[i]);
    tell(x->p, rule, "notice.dns", x->channel, x->time_ns, &f);
}

/* Of a name as text (protocol/dns.h): its bytes, its labels, and whether a byte is in it that no name should have:
 * blanks are in names of services (RFC 6763, section 4.1.1). */
static void measure(const struct slice *name, unsigned *ret_len, unsigned *ret_labels, bool *ret_odd)
{
    unsigned len = 0, labels = name->len > 1 || (name->len && *name->p != '.');
    bool odd = false;

    for (size_t i = 0; i < name->len; i++, len++) {
        if (name->p[i] == '.') {
            labels += i + 1 < name->len;
        } else if (name->p[i] == '\\') {
            bool number = i + 3 < name->len && name->p[i + 1] >= '0' && name->p[i + 1] <= '9';

            odd |= number && memcmp(name->p + i + 1, "032", 3) != 0;
            i += number ? 3 : 1;
        }
    }
    *ret_len = len;
    *ret_labels = labels;
    *ret_odd = odd;
}

/* One notice is enough for a message. */
static bool check_name(const struct dns_told *x, const struct slice *name)
{
    const struct notices *n = x->p->pl->notices;
    unsigned len, labels;
    bool odd;

    measure(name, &len, &labels, &odd);
    if (n->malformed && odd)
        tell_dns(x, n->malformed, "a name has bytes that no name should have", name, NULL, 0, NULL);
    else if (n->maxname && len > n->name_max)
        tell_dns(x, n->maxname, "a name is very long", name, "length", len, NULL);
    else if (n->maxlabels && labels > n->labels_max)
        tell_dns(x, n->maxlabels, "a name has very many parts", name, "labels", labels, NULL);
    else
        return false;
    return true;
}

static bool is_expected(const struct notices *n, const char *type)
{
    for (char **t = n->type; t && *t; t++)
        if (strcmp(*t, type) == 0)
            return true;
    return false;
}

#define TYPE_A 1
#define TYPE_CNAME 5
#define TYPE_AAAA 28
#define TYPE_DNAME 39

static void check_answers(const struct dns_told *x)
{
    const struct notices *n = x->p->pl->notices;
    const struct dns_message *m = x->m;
    bool named = false, typed = false;
    char word[DNS_WORD];

    for (size_t i = 0; i < m->answer_count; i++) {
        const struct dns_record *r = &m->answers[i];
        const char *type = dns_type_text(r->type, word);

        named = named || check_name(x, &r->name) ||
                ((r->type == TYPE_CNAME || r->type == TYPE_DNAME) && check_name(x, &r->text));
        if (n->types && !typed && !is_expected(n, type)) {
            tell_dns(x, n->types, "an answer is of a kind that isn't expected", &r->name, NULL, 0, type);
            typed = true;
        }
    }
}

/* Remembers the addresses of names that the lists have: of what was asked for, or of what that leads to. */
static void learn(struct notices *n, uint32_t uid, const struct dns_message *m)
{
    const struct slice *name = NULL;

    if (m->question_count)
        name = &m->questions[0].name;
    for (size_t i = 0; i <= m->answer_count; i++) {
        if (name && (peer_list_find_name(n->deny, name->p, name->len) >= 0 ||
                     peer_list_find_name(n->allow, name->p, name->len) >= 0))
            break;
        name = i < m->answer_count ? &m->answers[i].name : NULL;
    }
    for (size_t i = 0; name && i < m->answer_count; i++)
        if (m->answers[i].type == TYPE_A || m->answers[i].type == TYPE_AAAA)
            address_names_add(n->names, uid, m->answers[i].text.p, m->answers[i].text.len, name->p, name->len);
}

void notices_dns(struct proc *p, const struct dns_message *m, bool sent, uint64_t channel, const struct fields *net,
                 uint64_t time_ns)
{
    struct notices *n = p->pl->notices;
    struct dns_told x = {p, m, net, sent, channel, time_ns};
    bool named = false;

    if (m->malformed && n->malformed)
        tell_dns(&x, n->malformed, "the message can't be read to its end",
                 m->question_count ? &m->questions[0].name : NULL, NULL, 0, NULL);
    if (m->response && n->maxlength && m->size > n->length_max)
        tell_dns(&x, n->maxlength, "the response is very long", m->question_count ? &m->questions[0].name : NULL,
                 "length", m->size, NULL);
    for (size_t i = 0; i < m->question_count && !m->response; i++) {
        const struct slice *name = &m->questions[i].name;
        int32_t rule = sent ? peer_list_find_name(n->deny, name->p, name->len) : -1;

        if (rule >= 0)
            tell_dns(&x, n->rule[rule], "a query for a name that is denied", name, NULL, 0, NULL);
        named = named || check_name(&x, name);
    }
    if (!m->response)
        return;
    check_answers(&x);
    if (n->names && !sent)
        learn(n, p->tm.uid, m);
}

void notices_dns_unreadable(struct proc *p, uint64_t channel, const struct fields *net, uint64_t time_ns)
{
    struct dns_told x = {p, NULL, net, false, channel, time_ns};

    if (p->pl->notices->malformed)
        tell_dns(&x, p->pl->notices->malformed, "the message can't be read", NULL, NULL, 0, NULL);
}
