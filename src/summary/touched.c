/* SPDX-License-Identifier: Apache-2.0 */
#include "summary/touched.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/config.h"
#include "config/path_set.h"
#include "summary/record.h"

#define EPHEMERAL 32768u        /* the lowest port that Linux gives to clients, unless told otherwise */
#define CONNECTIONS_MAX 100000u /* that are open at a time; and addresses with names */

/* A finding as it is kept: texts are its own. */
struct found {
    struct touched_item item;
    size_t order;
    const struct path *path; /* WRITE, DELETE; NULL: there was no room */
};

/* What the session did to a name, so that what it made itself and removed again isn't taken for somebody else's. Events
 * of several processes are in no strict order: what came first is told by their times, at the end. 0: never. */
struct path {
    char *name;
    uint64_t written_ns, made_ns, removed_ns; /* the first time; made: it wasn't there before, for certain */
    uint64_t there_ns, gone_ns;               /* the last time that a file got the name, and lost it */
    bool inside, renamed; /* renamed: it may be what was elsewhere before */
};

struct connection {
    uint64_t channel;
    struct found *host;
};

struct address {
    char *text;
    char *name[TOUCHED_NAMES];
};

struct port {
    unsigned number;
};

struct touched {
    struct chains *chains;
    char *dir;
    struct path_set *secrets;
    char **entry; /* of the list, by their numbers */
    int32_t entries;
    void *tree; /* struct found, of tsearch(3) */
    struct list {
        struct found **v;
        size_t n, cap;
        uint64_t cut;
    } list[TOUCHED_KINDS];
    void *paths, *open, *addresses, *ports; /* struct path, connection, address, port */
    size_t path_count, open_count, address_count, inside;
    size_t bytes;
    uint64_t lost;
};

/* --- keeping --- */

static int compare_texts(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) : (a != NULL) - (b != NULL);
}

static int compare_found(const void *a, const void *b)
{
    const struct touched_item *x = &((const struct found *)a)->item, *y = &((const struct found *)b)->item;
    int order;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->who->names != y->who->names)
        return (uintptr_t)x->who->names < (uintptr_t)y->who->names ? -1 : 1;
    if (x->port != y->port)
        return x->port < y->port ? -1 : 1;
    if ((x->how ^ y->how) & TOUCHED_INCOMING)
        return x->how & TOUCHED_INCOMING ? -1 : 1;
    order = compare_texts(x->what, y->what);
    if (!order && (x->kind == TOUCHED_UNSEEN || x->kind == TOUCHED_PROGRAM))
        order = compare_texts(x->more, y->more);
    return order ? order : compare_texts(x->transport, y->transport);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const struct path *)a)->name, ((const struct path *)b)->name);
}

static int compare_connections(const void *a, const void *b)
{
    const struct connection *x = a, *y = b;

    return x->channel < y->channel ? -1 : x->channel > y->channel;
}

static int compare_addresses(const void *a, const void *b)
{
    return strcmp(((const struct address *)a)->text, ((const struct address *)b)->text);
}

static int compare_ports(const void *a, const void *b)
{
    const struct port *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

static void insert(void *key, void **tree, int (*compare)(const void *, const void *))
{
    if (!tsearch(key, tree, compare))
        abort(); /* no memory */
}

static char *keep(struct touched *t, const char *text)
{
    if (!text)
        return NULL;
    t->bytes += strlen(text) + 1;
    return xstrdup(text);
}

static void first_of(uint64_t *at, uint64_t ns)
{
    if (!*at || ns < *at)
        *at = ns;
}

static void last_of(uint64_t *at, uint64_t ns)
{
    if (ns > *at)
        *at = ns;
}

/* The finding that is like `key`, a new one if there is none; NULL: there is no room, which is counted. */
static struct found *find(struct touched *t, const struct touched_item *key, const struct sum_event *e)
{
    struct found wanted = {.item = *key}, **at = tfind(&wanted, &t->tree, compare_found), *f;
    struct list *l = &t->list[key->kind];

    if (at) {
        f = *at;
    } else if (l->n >= TOUCHED_MAX || t->bytes >= TOUCHED_BYTES_MAX) {
        l->cut++;
        return NULL;
    } else {
        f = xcalloc(1, sizeof(*f));
        f->item = *key;
        f->item.what = keep(t, key->what);
        f->item.more = keep(t, key->more);
        f->item.transport = keep(t, key->transport);
        f->order = l->n;
        if (l->n == l->cap) {
            l->cap = l->cap ? l->cap * 2 : 64;
            l->v = xrealloc(l->v, l->cap, sizeof(*l->v));
        }
        l->v[l->n++] = f;
        insert(f, &t->tree, compare_found);
    }
    f->item.how |= key->how;
    f->item.unresolved |= key->unresolved;
    if (!f->item.more && key->more)
        f->item.more = keep(t, key->more);
    first_of(&f->item.first_ns, e->time_ns);
    last_of(&f->item.last_ns, e->time_ns);
    return f;
}

static void free_found(struct found *f)
{
    free((char *)f->item.what);
    free((char *)f->item.more);
    free((char *)f->item.transport);
    for (size_t i = 0; i < TOUCHED_NAMES; i++)
        free((char *)f->item.name[i]);
    free(f);
}

static void free_path(void *node)
{
    struct path *p = node;

    free(p->name);
    free(p);
}

static void free_address(void *node)
{
    struct address *a = node;

    free(a->text);
    for (size_t i = 0; i < TOUCHED_NAMES; i++)
        free(a->name[i]);
    free(a);
}

static void no_free(void *node) {}

struct touched *touched_new(const char *dir, const char *secrets, const char *home)
{
    struct touched *t = xcalloc(1, sizeof(*t));
    char *item;

    t->chains = chains_new();
    t->dir = dir && *dir == '/' && dir[1] ? xstrdup(dir) : NULL;
    t->secrets = path_set_new();
    for (; (item = cfg_list_item(&secrets)); t->entries++) {
        t->entry = xrealloc(t->entry, (size_t)t->entries + 1, sizeof(char *));
        t->entry[t->entries] = item;
        path_set_add(t->secrets, 0, item, t->entries, home);
    }
    return t;
}

void touched_free(struct touched *t)
{
    if (!t)
        return;
    for (int k = 0; k < TOUCHED_KINDS; k++) {
        for (size_t i = 0; i < t->list[k].n; i++)
            free_found(t->list[k].v[i]);
        free(t->list[k].v);
    }
    tdestroy(t->tree, no_free);
    tdestroy(t->paths, free_path);
    tdestroy(t->open, free);
    tdestroy(t->addresses, free_address);
    tdestroy(t->ports, free);
    for (int32_t i = 0; i < t->entries; i++)
        free(t->entry[i]);
    free(t->entry);
    path_set_free(t->secrets);
    chains_free(t->chains);
    free(t->dir);
    free(t);
}

/* --- files --- */

static bool is_below(const char *file, const char *dir)
{
    size_t len = dir ? strlen(dir) : 0;

    return len && strncmp(file, dir, len) == 0 && (!file[len] || file[len] == '/');
}

static bool is_one_of(const char *text, const char *const *list)
{
    while (*list && strcmp(text, *list) != 0)
        list++;
    return *list != NULL;
}

/* What is written there stays nowhere. */
static bool is_sink(const char *file)
{
    static const char *const devices[] = {"/dev/null",    "/dev/zero",   "/dev/full",    "/dev/tty",
                                          "/dev/console", "/dev/ptmx",   "/dev/stdin",   "/dev/stdout",
                                          "/dev/stderr",  "/dev/random", "/dev/urandom", NULL};

    return is_one_of(file, devices) || is_below(file, "/dev/pts") || is_below(file, "/dev/fd");
}

static struct path *path_of(struct touched *t, const char *file)
{
    struct path key = {.name = (char *)file}, **found = tfind(&key, &t->paths, compare_paths), *p;

    if (found)
        return *found;
    if (t->path_count >= 2 * TOUCHED_MAX || t->bytes >= TOUCHED_BYTES_MAX)
        return NULL;
    p = xcalloc(1, sizeof(*p));
    p->name = keep(t, file);
    insert(p, &t->paths, compare_paths);
    t->path_count++;
    return p;
}

static bool has_flag(const struct sum_event *e, const char *flag)
{
    const char *f;

    for (size_t i = 0; (f = sum_text_at(e, "flags", i)); i++)
        if (strcmp(f, flag) == 0)
            return true;
    return false;
}

static bool unresolved(const struct sum_event *e, const char *file, const char *mark)
{
    return *file != '/' || sum_true(e, mark);
}

/* file was written, in some way. made: it wasn't there before, for certain. */
static struct found *write_to(struct touched *t, const struct who *who, const struct sum_event *e, const char *file,
                              bool unsure, unsigned how, bool made, const char *more)
{
    struct touched_item key = {
        .kind = TOUCHED_WRITE, .what = file, .how = how, .who = who, .more = more, .unresolved = unsure};
    struct path *path;
    struct found *f = NULL;
    bool inside = !unsure && is_below(file, t->dir);

    if (is_sink(file))
        return NULL;
    path = path_of(t, file);
    if (path) {
        first_of(&path->written_ns, e->time_ns);
        if (how & ~(TOUCHED_BYTES | TOUCHED_CHANGED)) /* these are told of a file that has no name any more, too */
            last_of(&path->there_ns, e->time_ns);
        path->renamed |= how & TOUCHED_RENAMED;
        if (made)
            first_of(&path->made_ns, e->time_ns);
        if (inside && !path->inside) {
            path->inside = true;
            t->inside++;
        }
    }
    if (!inside)
        f = find(t, &key, e);
    if (f) {
        f->path = path;
        f->item.count++;
    }
    return f;
}

static void delete_of(struct touched *t, const struct who *who, const struct sum_event *e, const char *file,
                      bool unsure, unsigned how, const char *more)
{
    struct touched_item key = {
        .kind = TOUCHED_DELETE, .what = file, .how = how, .who = who, .more = more, .unresolved = unsure};
    struct path *path = path_of(t, file);
    struct found *f = find(t, &key, e);

    if (f) {
        f->item.count++;
        f->path = path;
    }
    if (path && how != TOUCHED_REPLACED) {
        first_of(&path->removed_ns, e->time_ns);
        last_of(&path->gone_ns, e->time_ns);
    }
}

static const char *secret(struct touched *t, const char *file)
{
    int32_t rule = path_set_find(t->secrets, file, strlen(file))[0];

    return rule >= 0 ? t->entry[rule] : NULL;
}

static struct found *read_secret(struct touched *t, const struct who *who, const struct sum_event *e, const char *file,
                                 bool unsure, unsigned how)
{
    const char *entry = secret(t, file);
    struct touched_item key = {
        .kind = TOUCHED_SECRET, .what = file, .how = how, .who = who, .more = entry, .unresolved = unsure};

    return entry ? find(t, &key, e) : NULL;
}

static void opened(struct touched *t, const struct who *who, const struct sum_event *e, const char *file, bool unsure)
{
    const char *op = sum_text(e, "op");
    bool only_writes = has_flag(e, "O_WRONLY"), makes = has_flag(e, "O_CREAT");

    if (!op || strncmp(op, "dup", 3) == 0 || strcmp(op, "fcntl") == 0 || has_flag(e, "O_PATH") ||
        has_flag(e, "O_DIRECTORY") || has_flag(e, "O_TMPFILE"))
        return; /* is open already, or has nothing that could be read or written; or no name */
    if (makes || has_flag(e, "O_TRUNC") || (only_writes && has_flag(e, "O_APPEND"))) {
        bool made = makes && has_flag(e, "O_EXCL");

        write_to(t, who, e, file, unsure, TOUCHED_OPENED | (made ? TOUCHED_MADE : 0), made, NULL);
    }
    if (!only_writes) {
        struct found *f = read_secret(t, who, e, file, unsure, TOUCHED_OPENED);

        if (f)
            f->item.count++;
    }
}

static void closed(struct touched *t, const struct who *who, const struct sum_event *e, const char *file, bool unsure)
{
    uint64_t in = sum_number(e, "file_read_bytes"), out = sum_number(e, "file_write_bytes");
    struct found *f;

    if (out && (f = write_to(t, who, e, file, unsure, TOUCHED_BYTES, false, NULL))) {
        f->item.written += out;
        if (f->item.how & TOUCHED_OPENED)
            f->item.count--; /* it was counted when it was opened */
    }
    if (in && (f = read_secret(t, who, e, file, unsure, TOUCHED_BYTES))) {
        f->item.read += in;
        f->item.count += !(f->item.how & TOUCHED_OPENED);
    }
}

/* from has the name `to` from now on, too, or instead. */
static void named(struct touched *t, const struct who *who, const struct sum_event *e, const char *from,
                  bool from_unsure, const char *to, unsigned how)
{
    struct found *f;

    if (secret(t, to) || !(f = read_secret(t, who, e, from, from_unsure, how)))
        return;
    f->item.count++;
}

static void renamed(struct touched *t, const struct who *who, const struct sum_event *e, const char *file, bool unsure)
{
    const char *to = sum_text(e, "file_to");
    bool to_unsure;

    if (!to)
        return;
    to_unsure = unresolved(e, to, "file_to_unresolved");
    named(t, who, e, file, unsure, to, TOUCHED_RENAMED);
    if (has_flag(e, "RENAME_EXCHANGE")) {
        write_to(t, who, e, file, unsure, TOUCHED_RENAMED, false, to);
        write_to(t, who, e, to, to_unsure, TOUCHED_RENAMED, false, file);
        return;
    }
    if (!has_flag(e, "RENAME_NOREPLACE"))
        delete_of(t, who, e, to, to_unsure, TOUCHED_REPLACED, file); /* if there was one: touched_end() */
    delete_of(t, who, e, file, unsure, TOUCHED_RENAMED, to);
    write_to(t, who, e, to, to_unsure, TOUCHED_RENAMED, false, file);
}

/* What a symbolic link leads to, by its text alone: malloc'ed. A link in between may lead elsewhere. */
static char *target_of(const char *link, const char *text)
{
    const char *slash = strrchr(link, '/');
    struct buf b = BUF_INIT;

    if (*text == '/' || !slash)
        return xstrdup(text);
    buf_add(&b, link, (size_t)(slash - link));
    while (*text) {
        size_t n = strcspn(text, "/");

        if (n == 2 && memcmp(text, "..", 2) == 0) {
            while (b.len && b.p[--b.len] != '/')
                ;
        } else if (n && !(n == 1 && *text == '.')) {
            buf_char(&b, '/');
            buf_add(&b, text, n);
        }
        text += n + (text[n] == '/');
    }
    if (!b.len)
        buf_char(&b, '/');
    buf_char(&b, 0);
    return b.p;
}

static void created(struct touched *t, const struct who *who, const struct sum_event *e, const char *file, bool unsure)
{
    const char *to = sum_text(e, "file_to");
    char *target;

    write_to(t, who, e, file, unsure, TOUCHED_MADE | (to ? TOUCHED_LINKED : 0), true, to);
    if (!to)
        return;
    target = target_of(file, to);
    named(t, who, e, target, unresolved(e, target, "file_to_unresolved"), file, TOUCHED_LINKED);
    free(target);
}

static void file_event(struct touched *t, const struct who *who, const struct sum_event *e)
{
    const char *file = sum_text(e, "file"), *what = e->source + 3; /* "fs." */
    bool unsure;

    if (!file || !*file)
        return;
    unsure = unresolved(e, file, "file_unresolved");
    if (unsure && !sum_true(e, "file_unresolved"))
        return; /* "pipe", "stdin", "Received_File_Descriptor": no names of files */
    if (strcmp(what, "open") == 0)
        opened(t, who, e, file, unsure);
    else if (strcmp(what, "close") == 0)
        closed(t, who, e, file, unsure);
    else if (strcmp(what, "delete") == 0)
        delete_of(t, who, e, file, unsure, TOUCHED_REMOVED, NULL);
    else if (strcmp(what, "rename") == 0)
        renamed(t, who, e, file, unsure);
    else if (strcmp(what, "create") == 0)
        created(t, who, e, file, unsure);
    else if (strcmp(what, "change") == 0)
        write_to(t, who, e, file, unsure, TOUCHED_CHANGED, false, NULL);
}

/* --- network --- */

static void add_name(struct touched *t, char *names[TOUCHED_NAMES], const char *name, size_t len)
{
    for (size_t i = 0; len && i < TOUCHED_NAMES && t->bytes < TOUCHED_BYTES_MAX; i++) {
        if (names[i] && strlen(names[i]) == len && strncmp(names[i], name, len) == 0)
            return;
        if (!names[i]) {
            names[i] = xstrndup(name, len);
            t->bytes += len + 1;
            return;
        }
    }
}

static struct address *address_of(struct touched *t, const char *text, bool make)
{
    struct address key = {.text = (char *)text}, **found = tfind(&key, &t->addresses, compare_addresses), *a;

    if (found)
        return *found;
    if (!make || t->address_count >= CONNECTIONS_MAX || t->bytes >= TOUCHED_BYTES_MAX)
        return NULL;
    a = xcalloc(1, sizeof(*a));
    a->text = keep(t, text);
    insert(a, &t->addresses, compare_addresses);
    t->address_count++;
    return a;
}

static bool is_listening(struct touched *t, unsigned port)
{
    struct port key = {port};

    return tfind(&key, &t->ports, compare_ports) != NULL;
}

static void listens(struct touched *t, const struct who *who, const struct sum_event *e)
{
    const char *ip = sum_text(e, "net_host_ip"), *transport = sum_text(e, "net_transport");
    unsigned port = (unsigned)sum_number(e, "net_host_port") & 0xffff;
    struct touched_item key = {
        .kind = TOUCHED_LISTEN, .what = ip ? ip : "", .transport = transport, .port = port, .who = who};
    struct found *f;

    if (!transport || strncmp(transport, "IP.", 3) != 0)
        return; /* a unix socket: it has no name that events tell */
    if (port && !is_listening(t, port)) {
        struct port *p = xmalloc(sizeof(*p));

        p->number = port;
        insert(p, &t->ports, compare_ports);
    }
    f = find(t, &key, e);
    if (f)
        f->item.count++;
}

/* The other side of a connection; NULL: it has no address, or there is no room. Whether it has come in is known of
 * ports that somebody in the session has listened at; else the lower port is the service's. */
static struct found *host_of(struct touched *t, const struct who *who, const struct sum_event *e)
{
    const char *ip = sum_text(e, "net_peer_ip"), *transport = sum_text(e, "net_transport");
    unsigned peer = (unsigned)sum_number(e, "net_peer_port") & 0xffff;
    unsigned host = (unsigned)sum_number(e, "net_host_port") & 0xffff;
    bool in = host && (is_listening(t, host) || (host < EPHEMERAL && peer >= EPHEMERAL));
    struct touched_item key = {.kind = TOUCHED_HOST,
                               .what = ip,
                               .transport = transport,
                               .port = in ? host : peer,
                               .how = in ? TOUCHED_INCOMING : 0,
                               .who = who};

    return ip && transport ? find(t, &key, e) : NULL;
}

static struct connection **connection_of(struct touched *t, uint64_t channel)
{
    struct connection key = {.channel = channel};

    return channel ? (struct connection **)tfind(&key, &t->open, compare_connections) : NULL;
}

static void net_event(struct touched *t, const struct who *who, const struct sum_event *e)
{
    const char *what = e->source + 4, *name; /* "net." */
    struct connection **at = connection_of(t, e->channel), *c;
    struct found *f;

    if (strcmp(what, "listen") == 0) {
        listens(t, who, e);
    } else if (strcmp(what, "app") == 0) {
        name = sum_text(e, "tls_client_server_name");
        if (at && name && !((*at)->host->item.how & TOUCHED_INCOMING))
            add_name(t, (char **)(*at)->host->item.name, name, strlen(name));
    } else if (strcmp(what, "open") == 0) {
        f = host_of(t, who, e);
        if (f)
            f->item.count++;
        if (!f || at || !e->channel || t->open_count >= CONNECTIONS_MAX)
            return;
        c = xmalloc(sizeof(*c));
        *c = (struct connection){e->channel, f};
        insert(c, &t->open, compare_connections);
        t->open_count++;
    } else if (strcmp(what, "close") == 0) {
        f = at ? (*at)->host : host_of(t, who, e);
        if (f) {
            f->item.count += !at; /* it was open before it was observed */
            f->item.written += sum_number(e, "net_bytes_sent");
            f->item.read += sum_number(e, "net_bytes_recv");
            last_of(&f->item.last_ns, e->time_ns);
        }
        if (at) {
            c = *at;
            tdelete(c, &t->open, compare_connections);
            free(c);
            t->open_count--;
        }
    }
}

/* Of a host in an HTTP request the port is no part of the name; and an address is none. */
static void http_event(struct touched *t, const struct sum_event *e)
{
    struct connection **at = connection_of(t, e->channel);
    const char *host = sum_text(e, "http_host");
    size_t len = host ? strcspn(host, ":") : 0;

    if (at && len && *host != '[' && strspn(host, "0123456789.") < len && !((*at)->host->item.how & TOUCHED_INCOMING))
        add_name(t, (char **)(*at)->host->item.name, host, len);
}

static void dns_event(struct touched *t, const struct sum_event *e)
{
    const char *domain = sum_text(e, "domain"), *text;

    if (strcmp(e->source, "dns.resp") != 0 || !domain)
        return;
    for (size_t i = 0; (text = sum_text_at(e, "addrs", i)); i++) {
        struct address *a = address_of(t, text, true);

        if (a)
            add_name(t, a->name, domain, strlen(domain));
    }
}

/* --- processes --- */

static void process_event(struct touched *t, const struct who *who, const struct sum_event *e)
{
    const char *start = sum_text(e, "start"), *exe = sum_text(e, "exe"), *text = sum_text(e, "text");
    struct touched_item key = {.who = who};
    struct found *f;

    if (strcmp(e->source, "proc.start") == 0 && start && exe && strcmp(start, "fork") != 0) {
        key.kind = TOUCHED_PROGRAM;
        key.what = exe;
        key.more = e->cmd;
    } else if (strcmp(e->source, "proc.note") == 0 && text) {
        key.kind = TOUCHED_UNSEEN;
        key.what = text;
        key.more = sum_text(e, "file");
    } else {
        return;
    }
    f = find(t, &key, e);
    if (f)
        f->item.count++;
}

void touched_event(struct touched *t, const struct sum_event *e)
{
    const struct who *who = chains_of(t->chains, e);

    if (strcmp(e->type, "fs") == 0 && strncmp(e->source, "fs.", 3) == 0)
        file_event(t, who, e);
    else if (strcmp(e->type, "net") == 0 && strncmp(e->source, "net.", 4) == 0)
        net_event(t, who, e);
    else if (strcmp(e->type, "dns") == 0)
        dns_event(t, e);
    else if (strcmp(e->type, "http") == 0)
        http_event(t, e);
    else if (strcmp(e->type, "process") == 0)
        process_event(t, who, e);
}

/* --- the end --- */

/* Whether there is no such file any more: it, or a directory that it was in, was removed or renamed. */
static bool is_gone(const struct touched *t, const struct path *p)
{
    struct path *above, key;
    bool gone = p->gone_ns > p->there_ns;

    key.name = xstrdup(p->name);
    for (char *slash; !gone && (slash = strrchr(key.name, '/')) && slash != key.name;) {
        struct path **found;

        *slash = 0;
        found = tfind(&key, &t->paths, compare_paths);
        above = found ? *found : NULL;
        gone = above && above->gone_ns > p->there_ns && p->there_ns;
    }
    free(key.name);
    return gone;
}

static int compare_gone(const void *a, const void *b)
{
    const struct found *x = *(struct found *const *)a, *y = *(struct found *const *)b;

    if (x->item.gone != y->item.gone)
        return x->item.gone ? 1 : -1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Whether what was deleted had come from the session itself: made, or (which takes nothing away) renamed after it had
 * been written. */
static bool is_own(const struct touched_item *i, const struct path *p)
{
    uint64_t first = p ? i->how & TOUCHED_REMOVED ? p->made_ns : p->written_ns : 0;

    return first && first <= i->first_ns && p->written_ns >= first && (!p->removed_ns || p->removed_ns >= first);
}

/* Whether it lies in a directory that the session has made itself: then it has made all that is in there and was not
 * renamed. */
static bool is_in_own(const struct touched *t, const struct touched_item *i, const struct path *p)
{
    char *name = xstrdup(i->what), *slash;
    bool own = false;

    while (p && !p->renamed && !own && (slash = strrchr(name, '/')) && slash != name) {
        struct path key = {.name = name}, **found;

        *slash = '\0';
        found = tfind(&key, &t->paths, compare_paths);
        own = found && (*found)->made_ns && (*found)->made_ns <= i->first_ns;
    }
    free(name);
    return own;
}

/* Who gets a name is known to have taken it from another file only if that was seen. */
static bool has_replaced(const struct touched_item *i, const struct path *p)
{
    return p && p->written_ns && p->written_ns < i->first_ns && (!p->removed_ns || p->removed_ns > i->first_ns);
}

static void judge_deleted(const struct touched *t, struct list *l)
{
    size_t n = 0;

    for (size_t k = 0; k < l->n; k++) {
        struct found *f = l->v[k];

        if (f->item.how & TOUCHED_REPLACED && !has_replaced(&f->item, f->path))
            f->item.how &= ~TOUCHED_REPLACED;
        f->item.own = is_own(&f->item, f->path) || (f->item.how & TOUCHED_REMOVED && is_in_own(t, &f->item, f->path));
        if (f->item.how)
            l->v[n++] = f;
        else
            free_found(f);
    }
    l->n = n;
}

void touched_end(struct touched *t, uint64_t lost)
{
    struct list *files = &t->list[TOUCHED_WRITE], *hosts = &t->list[TOUCHED_HOST];

    t->lost = lost;
    tdestroy(t->tree, no_free); /* nothing is looked for any more */
    t->tree = NULL;
    judge_deleted(t, &t->list[TOUCHED_DELETE]);
    for (size_t i = 0; i < files->n; i++)
        files->v[i]->item.gone = files->v[i]->path && is_gone(t, files->v[i]->path);
    if (files->n)
        qsort(files->v, files->n, sizeof(*files->v), compare_gone);
    for (size_t i = 0; i < hosts->n; i++) {
        struct touched_item *h = &hosts->v[i]->item;
        struct address *a = h->how & TOUCHED_INCOMING ? NULL : address_of(t, h->what, false);

        for (size_t k = 0; a && k < TOUCHED_NAMES && a->name[k]; k++)
            add_name(t, (char **)h->name, a->name[k], strlen(a->name[k]));
    }
}

size_t touched_count(const struct touched *t, enum touched_kind kind)
{
    return t->list[kind].n;
}

const struct touched_item *touched_at(const struct touched *t, enum touched_kind kind, size_t n)
{
    return &t->list[kind].v[n]->item;
}

uint64_t touched_cut(const struct touched *t, enum touched_kind kind)
{
    return t->list[kind].cut;
}

uint64_t touched_lost(const struct touched *t)
{
    return t->lost;
}

uint64_t touched_cut_processes(const struct touched *t)
{
    return chains_cut(t->chains);
}

const char *touched_dir(const struct touched *t)
{
    return t->dir;
}

size_t touched_inside(const struct touched *t)
{
    return t->inside;
}
