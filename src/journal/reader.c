/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "journal/reader.h"
#include "journal/scan.h"

#define IDENTITIES_MAX (1u << 20) /* of processes that are kept */
#define IDENTITY_TEXT_MAX (256u << 20) /* bytes of their texts */
#define RECORD_TEXT_MAX (64u << 20)   /* bytes of all texts of a record: references to one string cost nothing in the file */
#define IDENTITY_BUCKETS 4096u
#define FIELDS_MAX     (1u << 20) /* of all shapes in a group */

struct text {
    const char *p; /* terminated */
    uint32_t len;
};

struct list {
    const char **p;
    size_t room, text; /* text: bytes of all its entries */
};

/* One field as it is written; what is known of it is among fields of the shape. */
struct column {
    uint8_t wire;
    int out; /* its place there; -1: of a type that this reader doesn't know */
    struct list list;
};

struct shape {
    bool wanted, skipped; /* skipped: it can't be read */
    struct ev_record record; /* of kind, sourcetype, source, tags, fields */
    struct column *columns;
    size_t column_count, mask_len, text; /* text: bytes of names and tags */
    struct tm_field *fields; /* record.fields, and for notices and metrics the one before them */
    struct ev_tag *tags;
};

struct identity {
    struct tm_process who; /* first: of its members those that are here are pointed to */
    struct identity *next;
    uint64_t hash;
    char text[];
};

struct process {
    const struct tm_process *who;
    bool wanted;
};

struct want {
    uint32_t kinds;
    uint64_t from_ns, to_ns;
    char **sourcetypes, **sources;
    size_t sourcetype_count, source_count;
    uint32_t *pids;
    size_t pid_count;
    bool any_sourcetype, any_source, any_pid, any_time, source_beginnings;
};

struct journal_reader {
    int fd;
    struct want want;
    bool everything;     /* is wanted */
    bool head_read;
    int error;           /* why the head can't be read */
    unsigned version;
    uint64_t next;       /* where the next block is */
    struct journal_damage damage, damage_before; /* before: of the head */

    /* The group: what its blocks have defined. */
    bool in_group;       /* its blocks up to now could be read */
    uint64_t group_at, number;
    size_t raw;          /* bytes of their bodies */
    uint8_t **bodies;
    size_t body_count, body_room;
    struct text *strings;
    size_t string_count, string_room;
    struct process *processes;
    size_t process_count, process_room;
    struct shape *shapes;
    size_t shape_count, shape_room, column_count;
    /* Blocks of it that were passed over because their index said that there is nothing in them: the first. */
    uint64_t passed;
    uint64_t quiet_until; /* what is in blocks before that was told, or counted */

    /* The block. */
    uint64_t at;
    const uint8_t *p, *end;
    uint32_t records, left;
    uint64_t time_ns;
    const struct process *process;

    struct identity *buckets[IDENTITY_BUCKETS];
    size_t identities, identity_text; /* bytes */
};

/* --- what is wanted --- */

static char **copy_strings(const char *const *from, size_t count)
{
    char **to = xcalloc(count + 1, sizeof(*to));

    for (size_t i = 0; i < count; i++)
        to[i] = xstrdup(from[i]);
    return to;
}

static void want_set(struct want *w, const struct journal_want *from)
{
    static const struct journal_want all;

    if (!from)
        from = &all;
    w->kinds = from->kinds ? from->kinds : ~0u;
    w->from_ns = from->from_ns;
    w->to_ns = from->to_ns ? from->to_ns : UINT64_MAX;
    w->any_time = !from->from_ns && !from->to_ns;
    w->any_sourcetype = !from->sourcetypes;
    w->any_source = !from->sources;
    w->any_pid = !from->pids;
    w->source_beginnings = from->source_beginnings;
    w->sourcetype_count = from->sourcetypes ? from->sourcetype_count : 0;
    w->source_count = from->sources ? from->source_count : 0;
    w->pid_count = from->pids ? from->pid_count : 0;
    w->sourcetypes = copy_strings(from->sourcetypes, w->sourcetype_count);
    w->sources = copy_strings(from->sources, w->source_count);
    w->pids = xmemdup(w->pid_count ? from->pids : &w->kinds, (w->pid_count ? w->pid_count : 1) * sizeof(*w->pids));
}

static void want_clear(struct want *w)
{
    for (size_t i = 0; i < w->sourcetype_count; i++)
        free(w->sourcetypes[i]);
    for (size_t i = 0; i < w->source_count; i++)
        free(w->sources[i]);
    free(w->sourcetypes);
    free(w->sources);
    free(w->pids);
}

static bool among(char *const *list, size_t count, const char *p, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == len && memcmp(list[i], p, len) == 0)
            return true;
    return false;
}

static bool begins(char *const *list, size_t count, const char *p, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) <= len && memcmp(list[i], p, strlen(list[i])) == 0)
            return true;
    return false;
}

static bool want_source(const struct want *w, unsigned kind, const char *type, size_t type_len, const char *source,
                        size_t source_len)
{
    return kind <= EV_METRIC && w->kinds >> kind & 1 &&
           (w->any_sourcetype || (kind != EV_METRIC && among(w->sourcetypes, w->sourcetype_count, type, type_len))) &&
           (w->any_source || (w->source_beginnings ? begins(w->sources, w->source_count, source, source_len)
                                                   : among(w->sources, w->source_count, source, source_len)));
}

static bool want_pid(const struct want *w, uint64_t pid, uint64_t host_pid)
{
    if (w->any_pid)
        return true;
    for (size_t i = 0; i < w->pid_count; i++)
        if (w->pids[i] == pid || (host_pid && w->pids[i] == host_pid))
            return true;
    return false;
}

/* --- identities of processes --- */

/* One is written as names and values: here, those that this reader knows. */
static const struct {
    const char *name;
    uint16_t offset, size; /* size: of an array; 0: a pointer, 1: a number */
} members[] = {
#define NUMBER(m) {#m, offsetof(struct tm_process, m), 1}
#define TEXT(m)   {#m, offsetof(struct tm_process, m), 0}
#define ARRAY(m)  {#m, offsetof(struct tm_process, m), sizeof(((struct tm_process *)0)->m)}
    NUMBER(pid), NUMBER(ppid), NUMBER(uid), NUMBER(gid), NUMBER(host_pid), TEXT(username), TEXT(groupname), TEXT(host),
    TEXT(proc), TEXT(cmd), TEXT(cgroup), TEXT(exe), TEXT(machine_id), ARRAY(container), ARRAY(uuid), ARRAY(id),
    TEXT(k8s_pod),
};
#define MEMBERS (sizeof(members) / sizeof(*members))

static uint64_t hash_add(uint64_t h, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return (h ^ len) * UINT64_C(0x100000001b3);
}

static bool same_identity(const struct identity *id, const struct text text[MEMBERS], const uint32_t number[MEMBERS])
{
    for (size_t i = 0; i < MEMBERS; i++) {
        const char *at = (const char *)&id->who + members[i].offset, *kept;

        if (members[i].size == 1) {
            if (memcmp(at, &number[i], sizeof(number[i])) != 0)
                return false;
        } else if (members[i].size) {
            if (strncmp(at, text[i].p ? text[i].p : "", members[i].size - 1u) != 0)
                return false;
        } else {
            memcpy(&kept, at, sizeof(kept));
            if (!kept != !text[i].p || (kept && strcmp(kept, text[i].p) != 0))
                return false;
        }
    }
    return true;
}

/* One address for equal identities. NULL: there are too many. */
static const struct tm_process *keep_identity(struct journal_reader *r, const struct text text[MEMBERS],
                                              const uint32_t number[MEMBERS])
{
    uint64_t hash = hash_add(UINT64_C(0xcbf29ce484222325), number, MEMBERS * sizeof(*number));
    struct identity *id;
    size_t len = 0;
    char *p;

    for (size_t i = 0; i < MEMBERS; i++) {
        hash = hash_add(hash, text[i].p ? text[i].p : "", text[i].p ? text[i].len + 1 : 0);
        len += text[i].p && members[i].size == 0 ? text[i].len + 1 : 0;
    }
    for (id = r->buckets[hash % IDENTITY_BUCKETS]; id; id = id->next)
        if (id->hash == hash && same_identity(id, text, number))
            return &id->who;
    if (r->identities >= IDENTITIES_MAX || len > IDENTITY_TEXT_MAX - r->identity_text)
        return NULL;
    r->identity_text += len;
    id = xcalloc(1, sizeof(*id) + len);
    id->hash = hash;
    p = id->text;
    for (size_t i = 0; i < MEMBERS; i++) {
        char *to = (char *)&id->who + members[i].offset;

        if (members[i].size == 1) {
            memcpy(to, &number[i], sizeof(number[i]));
        } else if (text[i].p && members[i].size) {
            memcpy(to, text[i].p, text[i].len < members[i].size ? text[i].len : members[i].size - 1u);
        } else if (text[i].p) {
            memcpy(to, &p, sizeof(p));
            p = mempcpy(p, text[i].p, text[i].len + 1);
        }
    }
    id->next = r->buckets[hash % IDENTITY_BUCKETS];
    r->buckets[hash % IDENTITY_BUCKETS] = id;
    r->identities++;
    return &id->who;
}

/* --- the group: tables --- */

static void free_shape(struct shape *s)
{
    for (size_t i = 0; i < s->column_count; i++)
        free(s->columns[i].list.p);
    free(s->columns);
    free(s->fields);
    free(s->tags);
}

static void clear_group(struct journal_reader *r)
{
    for (size_t i = 0; i < r->body_count; i++)
        free(r->bodies[i]);
    for (size_t i = 0; i < r->shape_count; i++)
        free_shape(&r->shapes[i]);
    r->body_count = r->string_count = r->process_count = r->shape_count = r->column_count = 0;
    r->raw = 0;
    r->in_group = false;
    r->p = r->end = NULL;
    r->left = 0;
}

/* Room for one more, at the end of an array. */
#define ROOM(array, count, room) \
    do { \
        if ((count) == (room)) { \
            (room) = (room) ? 2 * (room) : 64; \
            (array) = xrealloc(array, room, sizeof(*(array))); \
        } \
    } while (0)

static void begin_group(struct journal_reader *r, uint64_t at)
{
    clear_group(r);
    r->in_group = true;
    r->group_at = at;
    ROOM(r->strings, r->string_count, r->string_room);
    r->strings[r->string_count++] = (struct text){"", 0};
}

static const uint8_t *get_text(const struct journal_reader *r, const uint8_t *p, const uint8_t *end, struct text *ret)
{
    uint64_t n;

    p = get_varint(p, end, &n);
    if (!p || n >= r->string_count)
        return NULL;
    *ret = r->strings[n];
    return p;
}

/* Passes a value by. NULL: it is damaged, or of a class that isn't known. */
static const uint8_t *skip_value(const uint8_t *p, const uint8_t *end, uint8_t wire)
{
    uint64_t n = 1;

    switch (wire & 0xf0) {
    case WIRE_CLASS_NONE: case WIRE_CLASS_FLIP:
        return p;
    case WIRE_CLASS_FIXED:
        return end - p < 8 ? NULL : p + 8;
    case WIRE_CLASS_LIST:
        p = get_varint(p, end, &n);
        break;
    case WIRE_CLASS_INT: case WIRE_CLASS_STR:
        break;
    default:
        return NULL;
    }
    for (uint64_t unused; p && n; n--)
        p = get_varint(p, end, &unused);
    return p;
}

static bool take_strings(struct journal_reader *r, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        uint64_t len;

        p = get_varint(p, end, &len);
        if (!p || len >= (uint64_t)(end - p) || p[len])
            return false;
        ROOM(r->strings, r->string_count, r->string_room);
        r->strings[r->string_count++] = (struct text){(const char *)p, (uint32_t)len};
        p += len + 1;
    }
    return true;
}

/* A definition begins with its length: where it ends, or NULL. */
static const uint8_t *definition(const uint8_t **p, const uint8_t *end)
{
    uint64_t len;

    *p = get_varint(*p, end, &len);
    return *p && len <= (uint64_t)(end - *p) ? *p + len : NULL;
}

static bool take_process(struct journal_reader *r, const uint8_t *p, const uint8_t *end)
{
    struct text text[MEMBERS] = {0}, name, value = {0};
    uint32_t number[MEMBERS] = {0};
    const struct tm_process *who;

    while (p < end) {
        const uint8_t *from;
        uint64_t n = 0;
        uint8_t wire;
        size_t i = 0;

        p = get_text(r, p, end, &name);
        if (!p || p == end)
            return false;
        wire = *p++;
        from = p;
        p = skip_value(p, end, wire);
        if (!p)
            return false;
        while (i < MEMBERS && strcmp(members[i].name, name.p) != 0)
            i++;
        if (i == MEMBERS)
            continue;
        if ((wire & 0xf0) == WIRE_CLASS_INT && members[i].size == 1) {
            get_varint(from, end, &n);
            number[i] = (uint32_t)unzigzag(n);
        } else if (wire == WIRE_STR && members[i].size != 1) {
            if (!get_text(r, from, end, &value))
                return false;
            text[i] = value;
        }
    }
    who = keep_identity(r, text, number);
    if (!who)
        return false;
    ROOM(r->processes, r->process_count, r->process_room);
    r->processes[r->process_count++] = (struct process){who, want_pid(&r->want, who->pid, who->host_pid)};
    return true;
}

static int tm_type_of(uint8_t wire)
{
    switch (wire) {
    case WIRE_WHO: return TM_WHO;
    case WIRE_OWNER: return TM_OWNER;
    case WIRE_INT: return TM_INT;
    case WIRE_UINT: return TM_UINT;
    case WIRE_HUNDREDTHS: return TM_HUNDREDTHS;
    case WIRE_NUM: return TM_NUM;
    case WIRE_STR: return TM_STR;
    case WIRE_LIST: return TM_STRLIST;
    case WIRE_BOOL: return TM_BOOL;
    default: return -1;
    }
}

static bool take_columns(struct journal_reader *r, struct shape *s, const uint8_t *p, const uint8_t *end)
{
    size_t room = (size_t)(end - p) / 2, out = 0;

    if (room > FIELDS_MAX - r->column_count)
        return false;
    s->columns = xcalloc(room + 1, sizeof(*s->columns));
    s->fields = xcalloc(room + 1, sizeof(*s->fields));
    while (p < end) {
        struct column *c = &s->columns[s->column_count];
        struct text name;
        int type;

        p = get_text(r, p, end, &name);
        if (!p || p == end)
            return false;
        c->wire = *p++;
        c->out = -1;
        s->text += name.len;
        s->column_count++;
        r->column_count++;
        if (c->wire >= WIRE_CLASS_END)
            s->skipped = true;
        type = tm_type_of(c->wire);
        if (type < 0)
            continue;
        c->out = (int)out;
        s->fields[out].name = name.p;
        s->fields[out].name_len = name.len <= UINT8_MAX ? (uint8_t)name.len : 0;
        s->fields[out].type = (enum tm_type)type;
        if (type == TM_STR)
            s->fields[out].v.str.p = "";
        out++;
    }
    s->record.fields = s->fields;
    s->record.field_count = out;
    s->mask_len = (s->column_count + 7) / 8;
    return true;
}

static bool take_shape(struct journal_reader *r, const uint8_t *p, const uint8_t *end)
{
    struct text type, source;
    struct shape *s;
    uint64_t tags;
    unsigned kind;

    if (p == end)
        return false;
    kind = *p++;
    p = get_text(r, p, end, &type);
    p = p ? get_text(r, p, end, &source) : NULL;
    p = p ? get_varint(p, end, &tags) : NULL;
    if (!p || tags > (uint64_t)(end - p) / 2 || tags >= FIELDS_MAX - r->column_count)
        return false;
    ROOM(r->shapes, r->shape_count, r->shape_room);
    s = &r->shapes[r->shape_count++];
    *s = (struct shape){.tags = xcalloc((size_t)tags + 1, sizeof(struct ev_tag))};
    r->column_count += (size_t)tags + 1; /* a shape without any takes room, too */
    for (uint64_t i = 0; i < tags; i++) {
        struct text name, value;

        p = get_text(r, p, end, &name);
        p = p ? get_text(r, p, end, &value) : NULL;
        if (!p)
            return false;
        s->tags[i] = (struct ev_tag){name.p, value.p};
        s->text += name.len + value.len;
    }
    s->record = (struct ev_record){.kind = (enum ev_kind)kind, .tags = s->tags, .tag_count = (size_t)tags};
    if (!take_columns(r, s, p, end))
        return false;
    if (kind == EV_METRIC) {
        s->record.name = source.p;
        s->record.type = type.p;
    } else {
        s->record.sourcetype = type.p;
        s->record.source = source.p;
    }
    if (kind == EV_METRIC || kind == EV_NOTICE) { /* the first is no field: it is the value, the text */
        if (!s->column_count || s->columns[0].out < 0 || (kind == EV_NOTICE && s->fields[0].type != TM_STR)) {
            s->skipped = true;
        } else {
            s->record.fields++;
            s->record.field_count--;
        }
    }
    s->wanted = !s->skipped && want_source(&r->want, kind, type.p, type.len, source.p, source.len);
    return true;
}

/* --- records --- */

static const uint8_t *take_list(const struct journal_reader *r, const uint8_t *p, const uint8_t *end, struct column *c,
                                struct tm_field *f)
{
    struct text text;
    uint64_t n;

    p = get_varint(p, end, &n);
    if (!p || n > (uint64_t)(end - p))
        return NULL;
    if (n > c->list.room) {
        c->list.room = (size_t)n;
        c->list.p = xrealloc(c->list.p, c->list.room, sizeof(*c->list.p));
    }
    c->list.text = 0;
    for (uint64_t i = 0; p && i < n; i++) {
        p = get_text(r, p, end, &text);
        c->list.p[i] = p ? text.p : "";
        c->list.text += p ? text.len : 0;
    }
    f->v.list.p = c->list.p;
    f->v.list.count = (size_t)n;
    return p;
}

/* A value that is another one than in the last record of the shape. */
static const uint8_t *take_value(const struct journal_reader *r, const uint8_t *p, const uint8_t *end, struct column *c,
                                 struct tm_field *f)
{
    struct text text;
    uint64_t n;

    switch (f->type) {
    case TM_INT: case TM_UINT: case TM_HUNDREDTHS:
        p = get_varint(p, end, &n);
        if (p)
            f->v.u += unzigzag(n);
        return p;
    case TM_STR:
        p = get_text(r, p, end, &text);
        if (p) {
            f->v.str.p = text.p;
            f->v.str.len = text.len;
        }
        return p;
    case TM_NUM:
        if (end - p < 8)
            return NULL;
        n = get_u64(p);
        memcpy(&f->v.num, &n, sizeof(n));
        return p + 8;
    case TM_BOOL:
        f->v.b = !f->v.b;
        return p;
    case TM_STRLIST:
        return take_list(r, p, end, c, f);
    case TM_WHO: case TM_OWNER:
        break;
    }
    return p;
}

static bool take_values(const struct journal_reader *r, struct shape *s, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *mask = p;

    if ((size_t)(end - p) < s->mask_len)
        return false;
    p += s->mask_len;
    for (size_t i = 0; p && i < s->mask_len; i++)
        for (unsigned bits = mask[i]; p && bits; bits &= bits - 1) {
            size_t n = i * 8 + (unsigned)__builtin_ctz(bits);
            struct column *c = &s->columns[n];

            if (n >= s->column_count)
                return false;
            p = c->out < 0 ? skip_value(p, end, c->wire) : take_value(r, p, end, c, &s->fields[c->out]);
        }
    return p != NULL;
}

static bool too_long(const struct shape *s)
{
    size_t text = s->text;

    for (size_t i = 0; i < s->column_count; i++) {
        const struct column *c = &s->columns[i];

        if (c->wire == WIRE_STR)
            text += s->fields[c->out].v.str.len;
        else if (c->wire == WIRE_LIST)
            text += c->list.text;
    }
    return text > RECORD_TEXT_MAX;
}

/* The next record. 1: *ret is set, 0: it isn't wanted, -1: it is damaged. */
static int take_record(struct journal_reader *r, struct shape **ret)
{
    uint64_t head, number, n;
    const uint8_t *p = r->p, *end = definition(&p, r->end);
    struct shape *s;

    if (!end)
        return -1;
    r->p = end;
    r->left--;
    p = get_varint(p, end, &head);
    p = p ? get_varint(p, end, &n) : NULL;
    if (!p || head >> RECORD_SHIFT >= r->shape_count)
        return -1;
    r->time_ns += unzigzag(n);
    if (head & RECORD_PROCESS) {
        p = get_varint(p, end, &number);
        if (!p || number >= r->process_count)
            return -1;
        r->process = &r->processes[number];
    }
    s = &r->shapes[head >> RECORD_SHIFT];
    if (!r->process)
        return -1;
    if (!s->wanted)
        return 0;
    if (head & RECORD_CHANNEL) {
        p = get_varint(p, end, &n);
        if (!p)
            return -1;
        s->record.channel += unzigzag(n);
    }
    if (!take_values(r, s, p, end) || too_long(s))
        return -1;
    *ret = s;
    return r->process->wanted && r->time_ns >= r->want.from_ns && r->time_ns <= r->want.to_ns && r->at >= r->quiet_until;
}

static void tell(const struct journal_reader *r, const struct shape *s, struct ev_record *ret)
{
    *ret = s->record;
    ret->who = r->process->who;
    ret->time_ns = r->time_ns;
    if (ret->kind == EV_METRIC) {
        ret->value = s->fields[0];
    } else if (ret->kind == EV_NOTICE) {
        ret->text = s->fields[0].v.str.p;
        ret->text_len = s->fields[0].v.str.len;
    }
}

/* The next one of the block that is wanted. A block that is damaged ends there. */
static struct shape *next_in_block(struct journal_reader *r)
{
    struct shape *s;

    while (r->left) {
        int rc = take_record(r, &s);

        if (rc > 0)
            return s;
        if (rc < 0) { /* its check sum was right: whoever wrote it was wrong */
            r->damage.blocks++;
            r->damage.bytes += (uint64_t)(r->end - r->p);
            r->left = 0;
            r->in_group = false;
        }
    }
    return NULL;
}

/* --- blocks --- */

/* The body of a block, kept as long as the group. NULL: it is damaged. */
static uint8_t *read_body(struct journal_reader *r, uint64_t at, const struct block_head *h)
{
    uint8_t *body = xmalloc(h->body_len + 1), *raw;

    if (read_at(r->fd, body, h->body_len, at + BLOCK_HEAD) != (ssize_t)h->body_len ||
        crc32c(body, h->body_len) != h->body_crc) {
        free(body);
        return NULL;
    }
    if (h->flags & BLOCK_F_ZSTD) {
        raw = xmalloc(h->raw_len);
        if (ZSTD_decompress(raw, h->raw_len, body, h->body_len) != h->raw_len) {
            free(raw);
            raw = NULL;
        }
        free(body);
        body = raw;
    }
    if (body) {
        ROOM(r->bodies, r->body_count, r->body_room);
        r->bodies[r->body_count++] = body;
    }
    return body;
}

static bool take_tables(struct journal_reader *r, const uint8_t *body, size_t raw_len)
{
    const uint8_t *p = body + BLOCK_SECTIONS, *ends[3], *end = body + raw_len, *next;

    for (int i = 0; i < 3; i++) {
        uint32_t len = get_u32(body + 4 * i);

        next = i ? ends[i - 1] : p;
        if (len > (size_t)(end - next))
            return false;
        ends[i] = next + len;
    }
    if (!take_strings(r, p, ends[0]))
        return false;
    for (p = ends[0]; p < ends[1]; p = next)
        if (!(next = definition(&p, ends[1])) || !take_process(r, p, next))
            return false;
    for (p = ends[1]; p < ends[2]; p = next)
        if (!(next = definition(&p, ends[2])) || !take_shape(r, p, next))
            return false;
    r->p = ends[2];
    r->end = end;
    return true;
}

/* The tables of a block, and its records from the first one on. */
static bool load(struct journal_reader *r, uint64_t at, const struct block_head *h)
{
    uint8_t *body;

    if (!(h->flags & BLOCK_F_CONTINUES))
        begin_group(r, at);
    else if (!r->in_group || r->group_at != at - h->back || r->number + 1 != h->number)
        return false;
    r->p = r->end = NULL;
    r->left = 0;
    if (h->flags & ~(BLOCK_F_KNOWN | 0xffffu) || h->raw_len > GROUP_RAW_MAX - r->raw)
        return false;
    body = read_body(r, at, h);
    if (!body || !take_tables(r, body, h->raw_len))
        return false;
    r->raw += h->raw_len;
    r->at = at;
    r->number = h->number;
    r->left = r->records = h->records;
    r->time_ns = h->base_ns;
    r->process = NULL;
    return true;
}

/* How many wanted records a block's index says there are: *ret. False: it doesn't. */
static bool count_by_index(const struct journal_reader *r, const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    const struct want *w = &r->want;
    uint64_t n, sources = 0, processes = 0, pid, host_pid, count;
    bool every_source = true;

    p = get_varint(p, end, &n);
    for (; p && n; n--) {
        struct index_source s;

        if (!index_source_get(&p, end, &s))
            return false;
        if (want_source(w, s.kind, s.sourcetype, s.sourcetype_len, s.source, s.source_len))
            sources += s.count;
        else
            every_source = false;
    }
    p = p ? get_varint(p, end, &n) : NULL;
    for (; p && n && !w->any_pid; n--) {
        p = get_varint(p, end, &pid);
        p = p ? get_varint(p, end, &host_pid) : NULL;
        p = p ? get_varint(p, end, &count) : NULL;
        if (p && want_pid(w, pid, host_pid))
            processes += count;
    }
    if (!p)
        return false;
    *ret = w->any_pid ? sources : every_source ? processes : 0;
    return w->any_pid || every_source || !sources || !processes;
}

static bool count_by_head(const struct journal_reader *r, uint64_t at, const struct block_head *h, uint64_t *ret)
{
    const struct want *w = &r->want;
    uint8_t *index;
    bool known;

    *ret = 0;
    if (h->from_ns > w->to_ns || h->to_ns < w->from_ns)
        return true;
    if (h->flags & ~(BLOCK_F_KNOWN | 0xffffu))
        return false;
    index = xmalloc(h->index_len + 1);
    known = read_at(r->fd, index, h->index_len, at + BLOCK_HEAD + h->body_len) == (ssize_t)h->index_len &&
            crc32c(index, h->index_len) == h->index_crc && count_by_index(r, index, index + h->index_len, ret);
    free(index);
    return known && (*ret == 0 || (h->from_ns >= w->from_ns && h->to_ns <= w->to_ns));
}

static uint64_t file_size(const struct journal_reader *r)
{
    struct stat st;

    return fstat(r->fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

/* The file's head. One that is damaged is none to despair of if a block follows. False: it isn't there yet, or r->error. */
static bool read_head(struct journal_reader *r, uint64_t size)
{
    uint8_t head[JOURNAL_HEAD], ours[JOURNAL_HEAD];
    struct block_head h;
    ssize_t n = read_at(r->fd, head, sizeof(head), 0);
    int rc;

    journal_head_put(ours);
    r->error = 0;
    if (n < 0) {
        r->error = (int)-n;
        return false;
    }
    if (n < (ssize_t)sizeof(head)) {
        r->damage.torn = n > 0;
        r->damage.torn_bytes = (uint64_t)n;
        r->error = memcmp(head, ours, (size_t)n) == 0 ? 0 : EBADMSG;
        return false;
    }
    rc = journal_head_get(head, &r->version);
    if (rc == -EBADMSG && block_at(r->fd, JOURNAL_HEAD, size, &h) == BLOCK_AT_WHOLE) {
        r->damage_before.bytes = JOURNAL_HEAD;
        r->damage.bytes += JOURNAL_HEAD;
        rc = 0;
    }
    r->error = -rc;
    r->head_read = rc == 0;
    r->next = JOURNAL_HEAD;
    return r->head_read;
}

static void skip_damage(struct journal_reader *r, uint64_t to)
{
    r->damage.blocks++;
    r->damage.bytes += to - r->next;
    r->next = to;
    r->in_group = false;
    r->passed = 0;
    r->left = 0;
}

/* Records that are counted without being read. */
struct tally {
    uint64_t count, max;
};

/* Goes to the next block, whose records are then read, or, as far as the tally goes, counted. False: there is none. */
static bool next_block(struct journal_reader *r, struct tally *t)
{
    uint64_t size = file_size(r), at, count;
    struct block_head h;

    if (!r->head_read && !read_head(r, size))
        return false;
    r->damage.torn = false;
    r->damage.torn_bytes = 0;
    if (r->next >= size)
        return false;
    if (block_at(r->fd, r->next, size, &h) != BLOCK_AT_WHOLE) {
        if (block_find(r->fd, r->next, size, &at, &h)) {
            skip_damage(r, at);
            return true;
        }
        r->damage.torn = true;
        r->damage.torn_bytes = size - r->next;
        return false;
    }
    at = r->next;
    if (!(h.flags & BLOCK_F_CONTINUES))
        r->passed = 0;
    if (at >= r->quiet_until && (t || !r->everything) && count_by_head(r, at, &h, &count) &&
        count <= (t ? t->max - t->count : 0)) {
        if (t)
            t->count += count;
        if (!r->passed)
            r->passed = at;
        r->next = at + h.len;
        r->p = r->end = NULL;
        return true;
    }
    if (h.flags & BLOCK_F_CONTINUES && r->passed) { /* what it continues is needed now */
        r->quiet_until = at;
        r->next = r->passed;
        r->passed = 0;
        return true;
    }
    if (!load(r, at, &h))
        skip_damage(r, at + h.len);
    else
        r->next = at + h.len;
    return true;
}

bool journal_next(struct journal_reader *r, struct ev_record *ret)
{
    do {
        const struct shape *s = next_in_block(r);

        if (s) {
            tell(r, s, ret);
            return true;
        }
    } while (next_block(r, NULL));
    return false;
}

bool journal_more(struct journal_reader *r)
{
    uint64_t before = r->next;

    while (!r->left && next_block(r, NULL))
        ;
    return r->left || r->next != before;
}

uint64_t journal_count(struct journal_reader *r)
{
    struct tally t = {0, UINT64_MAX};

    do
        while (next_in_block(r))
            t.count++;
    while (next_block(r, &t));
    return t.count;
}

static void seek(struct journal_reader *r, uint64_t to)
{
    clear_group(r);
    r->next = to;
    r->passed = r->quiet_until = 0;
    r->damage = r->damage_before;
}

/* Passes by that many wanted records. */
static void skip(struct journal_reader *r, uint64_t count)
{
    struct tally t = {0, count};

    while (t.count < count) {
        if (next_in_block(r))
            t.count++;
        else if (!next_block(r, &t))
            return;
    }
}

/* Wanted records of the blocks between two places; `by_index`: where a block's index says it, its body isn't looked at. */
static uint64_t count_between(struct journal_reader *r, uint64_t from, uint64_t to, bool by_index)
{
    struct tally t = {0, by_index ? UINT64_MAX : 0};
    uint64_t count = 0;

    seek(r, from);
    do
        while (next_in_block(r))
            count++;
    while (r->next < to && next_block(r, &t));
    return count + t.count;
}

/* Walks back, group by group, from the end of a block to where at least `count` can be read. False: there is damage. */
static bool seek_back(struct journal_reader *r, uint64_t end, uint64_t count, uint64_t *ret, uint64_t *ret_left)
{
    uint64_t at, group_end = end;
    struct block_head h;

    *ret_left = 0;
    while (end > JOURNAL_HEAD && *ret_left < count) {
        if (!block_before(r->fd, end, &at, &h))
            return false;
        end = at;
        if (h.flags & BLOCK_F_CONTINUES)
            continue;
        *ret_left += count_between(r, at, group_end, false);
        group_end = at;
    }
    *ret = end;
    return end == group_end;
}

/* Where the last block ends that is wholly there. */
static uint64_t last_end(const struct journal_reader *r, uint64_t size)
{
    uint64_t end = JOURNAL_HEAD, at;
    struct block_head h;

    while (block_at(r->fd, end, size, &h) == BLOCK_AT_WHOLE || (block_find(r->fd, end, size, &at, &h) && (end = at)))
        end += h.len;
    return end;
}

void journal_last(struct journal_reader *r, uint64_t count)
{
    uint64_t size = file_size(r), from, left;

    if (!r->head_read && !read_head(r, size))
        return;
    if (!seek_back(r, size, count, &from, &left) && !seek_back(r, last_end(r, size), count, &from, &left)) {
        from = JOURNAL_HEAD;
        left = count_between(r, from, UINT64_MAX, true);
    }
    seek(r, from);
    if (left > count)
        skip(r, left - count);
}

/* --- positions: a block's number, and the record's in it --- */

#define POSITION_SHIFT 24
_Static_assert(BLOCK_PART_MAX <= 1u << POSITION_SHIFT, "as many records as bytes at most");

uint64_t journal_offset(const struct journal_reader *r)
{
    return r->next;
}

uint64_t journal_position(const struct journal_reader *r)
{
    return r->number << POSITION_SHIFT | (r->records - r->left - 1);
}

/* The block of a number, at `from` or behind. */
static bool find_number(struct journal_reader *r, uint64_t number, uint64_t from, uint64_t *ret, struct block_head *h)
{
    uint64_t size = file_size(r);

    for (;; from += h->len) {
        if (block_at(r->fd, from, size, h) != BLOCK_AT_WHOLE && !block_find(r->fd, from, size, &from, h))
            return false;
        if (h->number >= number)
            break;
    }
    *ret = from;
    return h->number == number;
}

/* Reads on to a record of a block of the group. */
static bool read_to(struct journal_reader *r, uint64_t at, uint32_t index)
{
    struct shape *s;

    while (r->at != at || r->records - r->left != index) {
        if (r->left ? take_record(r, &s) < 0 : r->next > at || !next_block(r, NULL))
            return false;
    }
    return r->left;
}

bool journal_seek(struct journal_reader *r, uint64_t position)
{
    uint64_t number = position >> POSITION_SHIFT, at;
    uint32_t index = (uint32_t)(position & ((1u << POSITION_SHIFT) - 1));
    const struct journal_damage damage = r->damage;
    const bool everything = r->everything, ahead = r->in_group && !r->passed && r->records;
    struct block_head h;
    bool found;

    if (ahead && r->number == number && r->records - r->left <= index) {
        at = r->at;
    } else if (!find_number(r, number, ahead && r->number < number ? r->next : JOURNAL_HEAD, &at, &h) ||
               index >= h.records) {
        return false;
    } else if (!ahead || r->group_at != at - h.back || r->at >= at) {
        if (h.back > at)
            return false;
        seek(r, at - h.back);
    }
    r->everything = true; /* no block is passed over */
    r->quiet_until = 0;
    found = read_to(r, at, index);
    r->everything = everything;
    r->damage = damage;
    return found;
}

void journal_reader_damage(const struct journal_reader *r, struct journal_damage *ret)
{
    *ret = r->damage;
}

/* --- beginning and end --- */

struct journal_reader *journal_reader_new(int fd, const struct journal_want *want, unsigned *ret_version)
{
    struct journal_reader *r = xcalloc(1, sizeof(*r));
    unsigned version = 0;

    r->fd = fd;
    want_set(&r->want, want);
    r->everything = r->want.any_time && r->want.any_pid && r->want.any_source && r->want.any_sourcetype &&
                    r->want.kinds == ~0u;
    if (!read_head(r, file_size(r)) && r->error) {
        version = r->version;
        if (ret_version)
            *ret_version = version;
        errno = r->error;
        journal_reader_free(r);
        return NULL;
    }
    return r;
}

void journal_reader_free(struct journal_reader *r)
{
    int error = errno;

    if (!r)
        return;
    clear_group(r);
    for (size_t i = 0; i < IDENTITY_BUCKETS; i++)
        for (struct identity *id; (id = r->buckets[i]);) {
            r->buckets[i] = id->next;
            free(id);
        }
    want_clear(&r->want);
    free(r->bodies);
    free(r->strings);
    free(r->processes);
    free(r->shapes);
    close(r->fd);
    free(r);
    errno = error;
}
