/* SPDX-License-Identifier: Apache-2.0 */
/* Puts records together; src/journal/store.c brings blocks into the file. */
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "journal/format.h"
#include "journal/store.h"
#include "journal/writer.h"

#define GROUP_SIZE     (128u << 10) /* bytes of raw bodies, then a block begins anew */
#define GROUP_BLOCKS   1024u        /* ... or so many blocks: who wants the last of them reads all */
#define RECORD_MAX     (8u << 20)   /* of one record with its strings */
#define STRINGS_MAX    8192u        /* ... or so many strings: the table below is half full */
#define STRING_SLOTS   16384u
#define STRING_KNOWN   4096u        /* longer ones are not looked up */
#define SHAPES_KEPT    4096u        /* across groups */
#define SHAPE_BUCKETS  1024u
#define SHAPE_CACHE    512u
#define PROCESS_BUCKETS 1024u

/* What is put together, and how much of it is in a block already. */
struct section {
    struct buf b;
    size_t done;
};

struct string {
    uint32_t offset, len, hash;
};

/* The value of the last record of that shape in this group. */
struct last {
    uint64_t u;           /* integers, bits of a double, bool */
    uint32_t offset, len; /* of a string, or of a list's encoding */
};

/* Begins as a struct tm_field does: so both are compared at once. */
struct shape_field {
    const char *where; /* the name, if that can't change */
    uint32_t unused;
    enum tm_type type;
    struct last last;
};
typedef uint64_t field_head __attribute__((vector_size(16)));
_Static_assert(offsetof(struct tm_field, name) == offsetof(struct shape_field, where) &&
               offsetof(struct tm_field, type) == offsetof(struct shape_field, type) &&
               offsetof(struct shape_field, last) == sizeof(field_head), "fields begin alike");

struct shape_name {
    char *text;
    size_t len;
};

struct text {
    const char *where; /* as above */
    char *copy;
};

struct shape {
    struct shape *next;   /* in the bucket */
    uint64_t hash;        /* of all that makes a shape */
    enum ev_kind kind;
    struct text type, source; /* sourcetype and source; of a metric type and name */
    struct ev_tag *tags;
    size_t tag_count;
    uint64_t group;       /* in which it is defined */
    uint32_t index;       /* there */
    uint32_t count;       /* records since the last block */
    uint64_t channel;
    size_t count_fields, mask_len; /* with the one for the text or value, bytes of a mask of all */
    struct shape_field *fields;
    struct shape_name *names;
};

struct process {
    struct process *next; /* in the bucket */
    const struct tm_process *who;
    uint64_t group;
    uint32_t index;
};

/* One that is defined in this group. */
struct counted {
    uint32_t pid, host_pid, count;
};

struct journal_writer {
    struct store *store;
    uintptr_t fixed;      /* where constants of this program are: what lies there stays as it is */
    size_t fixed_len;

    uint64_t group;       /* which is being put together, from 1 */
    unsigned blocks;      /* of it that are with the store */
    struct section strings, processes, shapes, records;
    uint32_t string_count, shape_count, process_count;
    uint32_t slots[STRING_SLOTS]; /* number of a string, or 0 */
    struct string known[STRINGS_MAX];
    struct shape **defined; /* of this group, by number */
    size_t defined_room;
    struct counted *counted;
    size_t counted_room;
    bool full;            /* nothing more may go into this group */
    bool too_large;       /* the record that is being put together */

    uint32_t pending;     /* records that aren't in a block yet */
    uint64_t since_ns;    /* CLOCK_MONOTONIC: the first of them */
    uint64_t from_ns, to_ns, base_ns, prev_ns;
    const struct process *prev_process;
    struct buf index;

    struct shape *shape_buckets[SHAPE_BUCKETS], *shape_cache[SHAPE_CACHE];
    unsigned shapes_kept;
    struct process *process_buckets[PROCESS_BUCKETS];
    uint64_t lost_queue;
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline bool same_bytes(const char *a, const char *b, size_t len)
{
    if (len >= 8) {
        for (; len > 8; len -= 8, a += 8, b += 8)
            if (hash_load(a, 8) != hash_load(b, 8))
                return false;
        return hash_load(a + len - 8, 8) == hash_load(b + len - 8, 8);
    }
    if (len >= 4)
        return hash_load(a, 4) == hash_load(b, 4) && hash_load(a + len - 4, 4) == hash_load(b + len - 4, 4);
    return !len || (a[0] == b[0] && a[len / 2] == b[len / 2] && a[len - 1] == b[len - 1]);
}

/* --- strings: number 0 is the empty one --- */

static uint32_t add_string(struct journal_writer *w, const char *p, size_t len, uint32_t *ret_offset)
{
    uint8_t *to = (uint8_t *)buf_room(&w->strings.b, VARINT_MAX + len + 1), *end = put_varint(to, len);

    memcpy(end, p, len);
    end[len] = '\0';
    *ret_offset = (uint32_t)(w->strings.b.len + (size_t)(end - to));
    w->strings.b.len += (size_t)(end - to) + len + 1;
    return ++w->string_count;
}

/* The number of a string in this group, and where it is in the section. */
static uint32_t intern(struct journal_writer *w, const char *p, size_t len, uint32_t *ret_offset)
{
    uint32_t hash, slot, number;

    *ret_offset = 0;
    if (len == 0)
        return 0;
    if (len > RECORD_MAX || w->strings.b.len > 2 * RECORD_MAX) {
        w->too_large = true;
        return 0;
    }
    if (len > STRING_KNOWN)
        return add_string(w, p, len, ret_offset);
    hash = (uint32_t)hash_bytes(p, len);
    for (slot = hash % STRING_SLOTS; (number = w->slots[slot]); slot = (slot + 1) % STRING_SLOTS) {
        const struct string *s = &w->known[number - 1];

        if (s->hash == hash && s->len == len && same_bytes(w->strings.b.p + s->offset, p, len)) {
            *ret_offset = s->offset;
            return number;
        }
    }
    number = add_string(w, p, len, ret_offset);
    if (number <= STRINGS_MAX) {
        w->slots[slot] = number;
        w->known[number - 1] = (struct string){*ret_offset, (uint32_t)len, hash};
    }
    return number;
}

static uint32_t intern_text(struct journal_writer *w, const char *text)
{
    uint32_t offset;

    return text ? intern(w, text, strlen(text), &offset) : 0;
}

static void add_varint(struct buf *b, uint64_t v)
{
    uint8_t *p = (uint8_t *)buf_room(b, VARINT_MAX);

    b->len += (size_t)(put_varint(p, v) - p);
}

/* A definition: its length, then what `from` on has been written behind the section's end. */
static void end_definition(struct buf *b, size_t from)
{
    uint8_t len[VARINT_MAX];
    size_t n = (size_t)(put_varint(len, b->len - from) - len);

    buf_room(b, n);
    memmove(b->p + from + n, b->p + from, b->len - from);
    memcpy(b->p + from, len, n);
    b->len += n;
}

/* --- groups and blocks --- */

static void begin_group(struct journal_writer *w)
{
    struct section *all[] = {&w->strings, &w->processes, &w->shapes, &w->records};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (all[i]->b.cap > 4 * GROUP_SIZE) /* after one large record */
            buf_free(&all[i]->b);
        all[i]->b.len = all[i]->done = 0;
    }
    memset(w->slots, 0, sizeof(w->slots));
    w->string_count = w->shape_count = w->process_count = 0;
    w->group++;
    w->blocks = 0;
    w->pending = 0;
    w->prev_process = NULL;
    w->full = w->too_large = false;
}

static void add_text(struct buf *b, const char *text)
{
    size_t len = strlen(text);

    add_varint(b, len);
    buf_add(b, text, len);
}

static void make_index(struct journal_writer *w)
{
    struct buf *b = &w->index;
    uint32_t n = 0;

    buf_reset(b);
    for (uint32_t i = 0; i < w->shape_count; i++)
        n += w->defined[i]->count != 0;
    add_varint(b, n);
    for (uint32_t i = 0; i < w->shape_count; i++) {
        struct shape *s = w->defined[i];

        if (!s->count)
            continue;
        buf_char(b, (char)s->kind);
        add_text(b, s->kind == EV_METRIC ? "" : s->type.copy);
        add_text(b, s->source.copy);
        add_varint(b, s->count);
        s->count = 0;
    }
    n = 0;
    for (uint32_t i = 0; i < w->process_count; i++)
        n += w->counted[i].count != 0;
    add_varint(b, n);
    for (uint32_t i = 0; i < w->process_count; i++) {
        struct counted *c = &w->counted[i];

        if (!c->count)
            continue;
        add_varint(b, c->pid);
        add_varint(b, c->host_pid);
        add_varint(b, c->count);
        c->count = 0;
    }
}

/* What is pending becomes a block. False: the store has no room for it now. */
static bool flush(struct journal_writer *w)
{
    struct section *all[] = {&w->strings, &w->processes, &w->shapes, &w->records};
    size_t raw = BLOCK_SECTIONS;
    struct store_block *b;
    uint8_t *p;

    if (!w->pending)
        return true;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        raw += all[i]->b.len - all[i]->done;
    if (!store_has_room(w->store, BLOCK_HEAD + raw + BLOCK_TRAIL))
        return false;
    make_index(w);
    b = store_block_new(w->store, BLOCK_HEAD + raw + w->index.len + BLOCK_TRAIL);
    b->group = w->group;
    b->head = (struct block_head){
        .flags = w->blocks ? BLOCK_F_CONTINUES : 0, .from_ns = w->from_ns, .to_ns = w->to_ns, .base_ns = w->base_ns,
        .records = w->pending, .body_len = (uint32_t)raw, .raw_len = (uint32_t)raw, .index_len = (uint32_t)w->index.len,
    };
    p = b->bytes + BLOCK_HEAD;
    for (size_t i = 0; i < 3; i++, p += 4)
        put_u32(p, (uint32_t)(all[i]->b.len - all[i]->done));
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        if (all[i]->b.len > all[i]->done)
            p = mempcpy(p, all[i]->b.p + all[i]->done, all[i]->b.len - all[i]->done);
        all[i]->done = all[i]->b.len;
    }
    memcpy(p, w->index.p, w->index.len);
    store_put(w->store, b);
    w->blocks++;
    w->pending = 0;
    w->prev_process = NULL;
    return true;
}

static size_t group_size(const struct journal_writer *w)
{
    return w->strings.b.len + w->processes.b.len + w->shapes.b.len + w->records.b.len;
}

static bool group_full(const struct journal_writer *w)
{
    return group_size(w) >= GROUP_SIZE || w->string_count >= STRINGS_MAX || w->blocks >= GROUP_BLOCKS;
}

/* --- processes --- */

static void member_string(struct journal_writer *w, const char *name, const char *value)
{
    if (!value)
        return;
    add_varint(&w->processes.b, intern_text(w, name));
    buf_char(&w->processes.b, WIRE_STR);
    add_varint(&w->processes.b, intern_text(w, value));
}

static void member_number(struct journal_writer *w, const char *name, uint64_t value)
{
    add_varint(&w->processes.b, intern_text(w, name));
    buf_char(&w->processes.b, WIRE_UINT);
    add_varint(&w->processes.b, zigzag(value));
}

static void define_process(struct journal_writer *w, struct process *p)
{
    const struct tm_process *who = p->who;
    size_t from = w->processes.b.len;

    member_number(w, "pid", who->pid);
    member_number(w, "ppid", who->ppid);
    member_number(w, "uid", who->uid);
    member_number(w, "gid", who->gid);
    member_number(w, "host_pid", who->host_pid);
    member_string(w, "username", who->username);
    member_string(w, "groupname", who->groupname);
    member_string(w, "host", who->host);
    member_string(w, "proc", who->proc);
    member_string(w, "cmd", who->cmd);
    member_string(w, "cgroup", who->cgroup);
    member_string(w, "exe", who->exe);
    member_string(w, "machine_id", who->machine_id);
    member_string(w, "container", who->container);
    member_string(w, "uuid", who->uuid);
    member_string(w, "id", who->id);
    member_string(w, "k8s_pod", who->k8s_pod);
    end_definition(&w->processes.b, from);
    if (w->process_count == w->counted_room) {
        w->counted_room = w->counted_room ? 2 * w->counted_room : 64;
        w->counted = xrealloc(w->counted, w->counted_room, sizeof(*w->counted));
    }
    w->counted[w->process_count] = (struct counted){who->pid, who->host_pid, 0};
    p->group = w->group;
    p->index = w->process_count++;
}

static struct process **process_bucket(struct journal_writer *w, const struct tm_process *who)
{
    return &w->process_buckets[hash_mix((uintptr_t)who, 1) % PROCESS_BUCKETS];
}

static const struct process *find_process(struct journal_writer *w, const struct tm_process *who)
{
    struct process **bucket = process_bucket(w, who), *p = *bucket;

    while (p && p->who != who)
        p = p->next;
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->who = who;
        p->next = *bucket;
        *bucket = p;
    }
    if (p->group != w->group)
        define_process(w, p);
    return p;
}

void journal_forget(struct journal_writer *w, const struct tm_process *who)
{
    struct process **link = process_bucket(w, who), *p;

    while ((p = *link) && p->who != who)
        link = &p->next;
    if (!p)
        return;
    *link = p->next;
    if (w->prev_process == p)
        w->prev_process = NULL;
    free(p);
}

/* --- shapes --- */

static inline const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

static inline const char *fixed_or_null(const struct journal_writer *w, const char *p)
{
    return (uintptr_t)p - w->fixed < w->fixed_len ? p : NULL;
}

static inline const char *record_type(const struct ev_record *r)
{
    return text_or_empty(r->kind == EV_METRIC ? r->type : r->sourcetype);
}

static inline const char *record_source(const struct ev_record *r)
{
    return text_or_empty(r->kind == EV_METRIC ? r->name : r->source);
}

static inline bool same_text(const struct text *t, const char *now)
{
    return now == t->where || strcmp(now, t->copy) == 0;
}

static inline field_head head_of(const void *field)
{
    field_head h;

    memcpy(&h, field, sizeof(h));
    return h;
}

/* Whether the fields have the types of a shape, and names that lie where it knows them: nearly always. */
static inline bool same_heads(const struct shape_field *known, const struct tm_field *f, size_t count)
{
    static const struct shape_field all = {.where = (const char *)UINTPTR_MAX, .type = ~0u};
    field_head differ = {0};

    for (size_t i = 0; i < count; i++)
        differ |= head_of(&known[i]) ^ head_of(&f[i]);
    differ &= head_of(&all);
    return !(differ[0] | differ[1]);
}

static bool same_fields(const struct shape *s, size_t extra, const struct ev_record *r)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (r->fields[i].type != s->fields[extra + i].type ||
            strcmp(text_or_empty(r->fields[i].name), s->names[extra + i].text) != 0)
            return false;
    return true;
}

static inline bool shape_fits(const struct shape *s, const struct ev_record *r)
{
    size_t extra = r->kind != EV_EVENT;

    if (s->kind != r->kind || s->count_fields != r->field_count + extra || s->tag_count != r->tag_count ||
        !same_text(&s->source, record_source(r)) || !same_text(&s->type, record_type(r)))
        return false;
    if (r->kind == EV_METRIC && s->fields[0].type != r->value.type)
        return false;
    if (!same_heads(s->fields + extra, r->fields, r->field_count) && !same_fields(s, extra, r))
        return false;
    for (size_t i = 0; i < r->tag_count; i++)
        if (strcmp(r->tags[i].name, s->tags[i].name) != 0 || strcmp(text_or_empty(r->tags[i].value), s->tags[i].value) != 0)
            return false;
    return true;
}

static uint64_t hash_text(uint64_t h, const char *text)
{
    return hash_mix(h, hash_bytes(text, strlen(text)));
}

static uint64_t shape_hash(const struct ev_record *r)
{
    uint64_t h = hash_text(hash_text(r->kind, record_source(r)), record_type(r));

    if (r->kind == EV_METRIC)
        h = hash_mix(h, r->value.type);
    for (size_t i = 0; i < r->field_count; i++)
        h = hash_text(hash_mix(h, r->fields[i].type), text_or_empty(r->fields[i].name));
    for (size_t i = 0; i < r->tag_count; i++)
        h = hash_text(hash_text(h, r->tags[i].name), text_or_empty(r->tags[i].value));
    return h;
}

static struct text keep_text(const struct journal_writer *w, const char *text)
{
    return (struct text){fixed_or_null(w, text), xstrdup(text)};
}

static void keep_field(const struct journal_writer *w, struct shape *s, size_t at, const char *name, enum tm_type type)
{
    s->fields[at].where = fixed_or_null(w, name);
    s->fields[at].type = type;
    s->names[at].text = xstrdup(text_or_empty(name));
    s->names[at].len = strlen(s->names[at].text);
}

static struct shape *new_shape(struct journal_writer *w, const struct ev_record *r, uint64_t hash)
{
    struct shape *s = xcalloc(1, sizeof(*s)), **bucket = &w->shape_buckets[hash % SHAPE_BUCKETS];
    size_t extra = r->kind != EV_EVENT;

    s->hash = hash;
    s->kind = r->kind;
    s->type = keep_text(w, record_type(r));
    s->source = keep_text(w, record_source(r));
    s->tag_count = r->tag_count;
    s->tags = xcalloc(r->tag_count + 1, sizeof(*s->tags));
    for (size_t i = 0; i < r->tag_count; i++)
        s->tags[i] = (struct ev_tag){xstrdup(r->tags[i].name), xstrdup(text_or_empty(r->tags[i].value))};
    s->count_fields = r->field_count + extra;
    s->mask_len = (s->count_fields + 7) / 8;
    s->fields = xcalloc(s->count_fields + 1, sizeof(*s->fields));
    s->names = xcalloc(s->count_fields + 1, sizeof(*s->names));
    if (extra)
        keep_field(w, s, 0, "", r->kind == EV_METRIC ? r->value.type : TM_STR);
    for (size_t i = 0; i < r->field_count; i++)
        keep_field(w, s, extra + i, r->fields[i].name, r->fields[i].type);
    s->next = *bucket;
    *bucket = s;
    w->shapes_kept++;
    return s;
}

static void free_shape(struct shape *s)
{
    free(s->type.copy);
    free(s->source.copy);
    for (size_t i = 0; i < s->tag_count; i++) {
        free((char *)s->tags[i].name);
        free((char *)s->tags[i].value);
    }
    for (size_t i = 0; i < s->count_fields; i++)
        free(s->names[i].text);
    free(s->tags);
    free(s->fields);
    free(s->names);
    free(s);
}

static void free_shapes(struct journal_writer *w)
{
    for (unsigned i = 0; i < SHAPE_BUCKETS; i++)
        for (struct shape *s; (s = w->shape_buckets[i]);) {
            w->shape_buckets[i] = s->next;
            free_shape(s);
        }
    memset(w->shape_cache, 0, sizeof(w->shape_cache));
    w->shapes_kept = 0;
}

static const uint8_t wire_types[] = {
    [TM_STR] = WIRE_STR, [TM_INT] = WIRE_INT, [TM_UINT] = WIRE_UINT, [TM_NUM] = WIRE_NUM, [TM_BOOL] = WIRE_BOOL,
    [TM_STRLIST] = WIRE_LIST, [TM_HUNDREDTHS] = WIRE_HUNDREDTHS, [TM_WHO] = WIRE_WHO, [TM_OWNER] = WIRE_OWNER,
};

static void define_shape(struct journal_writer *w, struct shape *s)
{
    struct buf *b = &w->shapes.b;
    size_t from = b->len;
    uint32_t offset;

    buf_char(b, (char)s->kind);
    add_varint(b, intern_text(w, s->type.copy));
    add_varint(b, intern_text(w, s->source.copy));
    add_varint(b, s->tag_count);
    for (size_t i = 0; i < s->tag_count; i++) {
        add_varint(b, intern_text(w, s->tags[i].name));
        add_varint(b, intern_text(w, s->tags[i].value));
    }
    for (size_t i = 0; i < s->count_fields; i++) {
        add_varint(b, intern(w, s->names[i].text, s->names[i].len, &offset));
        buf_char(b, (char)wire_types[s->fields[i].type]);
        s->fields[i].last = (struct last){0};
    }
    end_definition(b, from);
    if (w->shape_count == w->defined_room) {
        w->defined_room = w->defined_room ? 2 * w->defined_room : 64;
        w->defined = xrealloc(w->defined, w->defined_room, sizeof(struct shape *));
    }
    w->defined[w->shape_count] = s;
    s->group = w->group;
    s->index = w->shape_count++;
    s->count = 0;
    s->channel = 0;
}

static struct shape *look_up_shape(struct journal_writer *w, const struct ev_record *r)
{
    uint64_t hash = shape_hash(r);
    struct shape *s = w->shape_buckets[hash % SHAPE_BUCKETS];

    while (s && (s->hash != hash || !shape_fits(s, r)))
        s = s->next;
    return s ? s : new_shape(w, r, hash);
}

/* Records of one shape mostly come with the same addresses: the place in the cache is by these, what lies there is
 * compared by content. */
static struct shape *find_shape(struct journal_writer *w, const struct ev_record *r)
{
    uint64_t key = hash_mix((uintptr_t)record_source(r) ^ r->field_count << 56,
                       r->field_count ? (uintptr_t)r->fields[r->field_count - 1].name : r->kind);
    struct shape **cached = &w->shape_cache[key % SHAPE_CACHE];

    if (!*cached || !shape_fits(*cached, r))
        *cached = look_up_shape(w, r);
    if ((*cached)->group != w->group)
        define_shape(w, *cached);
    return *cached;
}

static void next_group(struct journal_writer *w)
{
    begin_group(w);
    if (w->shapes_kept > SHAPES_KEPT)
        free_shapes(w);
}

static bool end_group(struct journal_writer *w)
{
    if (!flush(w))
        return false;
    next_group(w);
    return true;
}

/* --- records --- */

/* Encodes a list at *p, which may move; behind it there is room for `room` bytes. */
static bool put_list(struct journal_writer *w, uint8_t **p, const struct tm_field *f, struct last *l, size_t room)
{
    struct buf *b = &w->records.b;
    size_t len = b->len, from = (size_t)(*p - (uint8_t *)b->p);
    uint8_t *end;

    if (f->v.list.count > RECORD_MAX / VARINT_MAX) {
        w->too_large = true;
        return false;
    }
    b->len = from;
    end = put_varint((uint8_t *)buf_room(b, (f->v.list.count + 1) * VARINT_MAX + room), f->v.list.count);
    b->len = len;
    for (size_t i = 0; i < f->v.list.count; i++)
        end = put_varint(end, intern_text(w, f->v.list.p[i]));
    *p = (uint8_t *)b->p + from;
    len = (size_t)(end - *p);
    if (l->len ? l->len == len && memcmp(b->p + l->offset, *p, len) == 0 : !f->v.list.count)
        return false;
    l->offset = (uint32_t)from;
    l->len = (uint32_t)len;
    *p = end;
    return true;
}

/* Whether a value is certainly the last one: most are. What is left is for put_value() to see, which is not inlined so
 * that the loop over all fields has its registers for itself (a tenth less for a record). */
static inline bool same_value(const struct journal_writer *w, const struct tm_field *f, const struct last *l)
{
    if (f->type == TM_STR)
        return f->v.str.len == l->len && same_bytes(w->strings.b.p + l->offset, f->v.str.p, l->len);
    if (f->type >= TM_WHO) /* groups have none, and what stands in its place was never set */
        return true;
    return f->type != TM_STRLIST && f->type != TM_BOOL && f->v.u == l->u;
}

/* Appends a value, unless it is the last one: false. */
static __attribute__((noinline)) bool put_value(struct journal_writer *w, uint8_t **p, const struct tm_field *f,
                                                struct last *l, size_t room)
{
    uint64_t v;

    switch (f->type) {
    case TM_INT: case TM_UINT: case TM_HUNDREDTHS:
        if (f->v.u == l->u)
            return false;
        *p = put_varint(*p, zigzag(f->v.u - l->u));
        l->u = f->v.u;
        return true;
    case TM_STR:
        v = f->v.str.len;
        if (v == l->len && same_bytes(w->strings.b.p + l->offset, f->v.str.p, v))
            return false;
        *p = put_varint(*p, intern(w, f->v.str.p, v, &l->offset));
        l->len = (uint32_t)v;
        return true;
    case TM_BOOL:
        if (f->v.b == l->u)
            return false;
        l->u = f->v.b;
        return true;
    case TM_NUM:
        memcpy(&v, &f->v.num, sizeof(v));
        if (v == l->u)
            return false;
        put_u64(*p, v);
        *p += sizeof(v);
        l->u = v;
        return true;
    case TM_STRLIST:
        return put_list(w, p, f, l, room);
    case TM_WHO: case TM_OWNER:
        break;
    }
    return false;
}

/* Puts the length before a record that begins at `from`, where one byte is left for it. */
static void put_length(struct journal_writer *w, struct shape *s, size_t from)
{
    struct buf *b = &w->records.b;
    size_t len = b->len - from - 1, more;
    uint8_t bytes[VARINT_MAX];

    if (len < 0x80) {
        b->p[from] = (char)len;
        return;
    }
    more = (size_t)(put_varint(bytes, len) - bytes) - 1;
    buf_room(b, more);
    memmove(b->p + from + 1 + more, b->p + from + 1, len);
    memcpy(b->p + from, bytes, more + 1);
    b->len += more;
    for (size_t i = 0; i < s->count_fields; i++)
        if (s->fields[i].type == TM_STRLIST && s->fields[i].last.offset > from)
            s->fields[i].last.offset += (uint32_t)more;
}

/* Of up to 64 fields. Returns a bit for each whose value was appended. */
static inline uint64_t put_some(struct journal_writer *w, uint8_t **p, struct shape_field *known,
                                const struct tm_field *f, size_t count, uint64_t bit, size_t room)
{
    uint64_t bits = 0;

    for (const struct tm_field *end = f + count; f < end; f++, known++, bit <<= 1)
        if (!same_value(w, f, &known->last) && put_value(w, p, f, &known->last, room))
            bits |= bit;
    return bits;
}

/* Values, and before them a bit for each that is there. */
static uint8_t *put_values(struct journal_writer *w, uint8_t *p, struct shape *s, const struct ev_record *r, size_t room)
{
    size_t mask = (size_t)(p - (uint8_t *)w->records.b.p), done = 0, extra = r->kind != EV_EVENT;
    uint64_t bits = 0;

    p += s->mask_len;
    if (extra) {
        const struct tm_field text = {.type = TM_STR, .v.str = {r->text, r->text ? r->text_len : 0}};

        bits = put_some(w, &p, s->fields, r->kind == EV_METRIC ? &r->value : &text, 1, 1, room);
    }
    for (size_t i = 0, n; i < r->field_count; i += n) {
        size_t at = (extra + i) % 64, left = r->field_count - i;

        if (!at && i) { /* a word of bits is complete */
            put_u64((uint8_t *)w->records.b.p + mask + done, bits);
            done += 8;
            bits = 0;
        }
        n = left < 64 - at ? left : 64 - at;
        bits |= put_some(w, &p, s->fields + extra + i, r->fields + i, n, UINT64_C(1) << at, room);
    }
    for (; done < s->mask_len; done++, bits >>= 8)
        w->records.b.p[mask + done] = (char)bits;
    return p;
}

static void put_record(struct journal_writer *w, struct shape *s, const struct process *process, const struct ev_record *r)
{
    size_t room = (s->count_fields + 5) * VARINT_MAX + s->mask_len, from = w->records.b.len;
    uint8_t *p = (uint8_t *)buf_room(&w->records.b, room) + 1;
    unsigned flags = 0;

    if (process != w->prev_process)
        flags |= RECORD_PROCESS;
    if (r->kind != EV_METRIC && r->channel != s->channel)
        flags |= RECORD_CHANNEL;
    p = put_varint(p, (uint64_t)s->index << RECORD_SHIFT | flags);
    p = put_varint(p, zigzag(r->time_ns - w->prev_ns));
    if (flags & RECORD_PROCESS)
        p = put_varint(p, process->index);
    if (flags & RECORD_CHANNEL) {
        p = put_varint(p, zigzag(r->channel - s->channel));
        s->channel = r->channel;
    }
    p = put_values(w, p, s, r, room);
    w->records.b.len = (size_t)(p - (uint8_t *)w->records.b.p);
    put_length(w, s, from);
}

static void first_record(struct journal_writer *w, const struct ev_record *r)
{
    w->from_ns = w->to_ns = w->base_ns = w->prev_ns = r->time_ns;
    w->since_ns = now_ns();
}

static bool refuse(struct journal_writer *w)
{
    w->lost_queue++;
    return false;
}

bool journal_write(struct journal_writer *w, const struct ev_record *r)
{
    size_t strings, processes, shapes, records;
    uint32_t process_count, shape_count;
    const struct process *process;
    struct shape *s;

    if (w->blocks && store_has_lost(w->store, w->group)) { /* what would follow couldn't be read */
        store_lose(w->store, w->pending);
        next_group(w);
    }
    if (w->full && !end_group(w))
        return refuse(w);
    if (!w->pending)
        first_record(w, r);
    strings = w->strings.b.len;
    processes = w->processes.b.len;
    shapes = w->shapes.b.len;
    records = w->records.b.len;
    process_count = w->process_count;
    shape_count = w->shape_count;
    process = w->prev_process && w->prev_process->who == r->who ? w->prev_process : find_process(w, r->who);
    s = find_shape(w, r);
    put_record(w, s, process, r);
    if (__builtin_expect(w->too_large || w->records.b.len - records > RECORD_MAX, 0)) {
        /* None of it stays. What is remembered of it is not true then, so nothing may follow in this group. */
        w->strings.b.len = strings;
        w->processes.b.len = processes;
        w->shapes.b.len = shapes;
        w->records.b.len = records;
        w->process_count = process_count;
        w->shape_count = shape_count;
        w->full = !end_group(w);
        return refuse(w);
    }
    w->prev_process = process;
    w->prev_ns = r->time_ns;
    if (r->time_ns < w->from_ns)
        w->from_ns = r->time_ns;
    if (r->time_ns > w->to_ns)
        w->to_ns = r->time_ns;
    s->count++;
    w->counted[process->index].count++;
    w->pending++;
    if (group_full(w))
        w->full = !end_group(w);
    return true;
}

void journal_tick(struct journal_writer *w, unsigned ms)
{
    if (w->pending && (!ms || now_ns() - w->since_ns >= (uint64_t)ms * 1000000u))
        flush(w);
}

bool journal_flush(struct journal_writer *w, unsigned ms)
{
    return flush(w) ? store_wait(w->store, ms) : store_wait(w->store, ms) && flush(w) && store_wait(w->store, ms);
}

bool journal_idle(struct journal_writer *w)
{
    return store_trim(w->store);
}

void journal_writer_stats(const struct journal_writer *w, struct journal_stats *ret)
{
    store_stats(w->store, ret);
    ret->lost_queue += w->lost_queue;
    ret->queued += w->pending;
}

/* --- beginning and end --- */

/* Constants lie in the first segments of the program, those that are not writable. */
static int find_fixed(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct journal_writer *w = arg;
    uintptr_t end = 0;

    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type != PT_LOAD)
            continue;
        if (ph->p_flags & PF_W)
            break;
        if (!end)
            w->fixed = info->dlpi_addr + ph->p_vaddr;
        end = info->dlpi_addr + ph->p_vaddr + ph->p_memsz;
    }
    w->fixed_len = end ? end - w->fixed : 0;
    return 1; /* the program itself is the first */
}

struct journal_writer *journal_writer_new(int fd)
{
    struct store *store = store_new(fd);
    struct journal_writer *w;

    if (!store)
        return NULL;
    w = xcalloc(1, sizeof(*w));
    w->store = store;
    dl_iterate_phdr(find_fixed, w);
    buf_room(&w->strings.b, GROUP_SIZE);
    buf_room(&w->records.b, GROUP_SIZE);
    begin_group(w);
    return w;
}

void journal_writer_free(struct journal_writer *w, unsigned ms)
{
    if (!w)
        return;
    journal_flush(w, ms);
    store_free(w->store, ms);
    free_shapes(w);
    for (unsigned i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p; (p = w->process_buckets[i]);) {
            w->process_buckets[i] = p->next;
            free(p);
        }
    buf_free(&w->strings.b);
    buf_free(&w->processes.b);
    buf_free(&w->shapes.b);
    buf_free(&w->records.b);
    buf_free(&w->index);
    free(w->defined);
    free(w->counted);
    free(w);
}
