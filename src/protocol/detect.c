/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "protocol/detect.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"

/* Of a match, as in src/telemetry/filter.c. */
#define MATCH_LIMIT 200000
#define HEAP_KIB 4096

enum verdict { NO, YES, MAYBE };

/* The rules ------------------------------------------------------------- */

struct rule {
    const char *name; /* name_for_good() */
    pcre2_code *code; /* NULL: never fits */
    bool anchored;    /* fits at the first byte or not at all */
    bool binary;
    size_t window; /* bytes */
    size_t builtin; /* the last one that it stands for; DETECT_NONE: it stands for none */
};

struct builtin {
    const struct detect_builtin *is;
    bool replaced; /* by a rule of the user */
};

struct detect_rules {
    unsigned refs;   /* detect objects, and one until detect_rules_free() */
    struct rule *rules;
    size_t count;
    struct builtin *builtin;
    size_t builtin_count;
    pcre2_match_data *match;
    pcre2_match_context *context;
    unsigned *steps; /* of the match under way */
};

/* Who was told one keeps the pointer for as long as there is a connection. Configurations come and go, and few names are
 * in them. */
static const char *name_for_good(const char *text)
{
    static struct name {
        struct name *next;
        char text[];
    } *names;
    struct name *n;
    size_t size = strlen(text) + 1;

    for (n = names; n; n = n->next)
        if (strcmp(n->text, text) == 0)
            return n->text;
    n = xmalloc(sizeof(*n) + size);
    memcpy(n->text, text, size);
    n->next = names;
    names = n;
    return n->text;
}

static int step(pcre2_callout_block *block, void *ctx)
{
    unsigned *steps = ctx;

    return ++*steps > DETECT_STEPS ? PCRE2_ERROR_MATCHLIMIT : 0;
}

static bool stands_for(const char *name, const struct detect_builtin *b)
{
    return b->replaceable && strcasecmp(name, b->name) == 0;
}

/* The last of those that a rule of this name stands for; they aren't tried any more. */
static size_t replace(struct detect_rules *r, const char *name)
{
    size_t last = DETECT_NONE;

    for (size_t i = 0; i < r->builtin_count; i++) {
        if (!stands_for(name, r->builtin[i].is))
            continue;
        r->builtin[i].replaced = true;
        last = i;
    }
    return last;
}

struct detect_rules *detect_rules_new(const struct detect_rule *rules, size_t count,
                                      const struct detect_builtin *const *builtin, size_t builtin_count,
                                      void (*problem)(void *ctx, size_t rule, const char *text), void *ctx)
{
    struct detect_rules *r = xcalloc(1, sizeof(*r));

    r->refs = 1;
    r->rules = xcalloc(count + 1, sizeof(*r->rules));
    r->count = count;
    r->builtin = xcalloc(builtin_count + 1, sizeof(*r->builtin));
    r->builtin_count = builtin_count;
    for (size_t i = 0; i < builtin_count; i++)
        r->builtin[i].is = builtin[i];
    r->steps = xcalloc(1, sizeof(*r->steps));
    for (size_t i = 0; i < count; i++) {
        struct rule *rule = &r->rules[i];
        PCRE2_UCHAR text[120] = "";
        uint32_t options = 0;
        PCRE2_SIZE at;
        int error;

        rule->name = name_for_good(rules[i].name);
        rule->binary = rules[i].binary;
        rule->window = rules[i].len && rules[i].len < DETECT_WINDOW ? rules[i].len : DETECT_WINDOW;
        rule->builtin = replace(r, rule->name);
        /* PCRE2's own limit counts anew at each starting point; so steps are counted by callouts. */
        rule->code =
            pcre2_compile((PCRE2_SPTR)rules[i].regex, PCRE2_ZERO_TERMINATED, PCRE2_AUTO_CALLOUT, &error, &at, NULL);
        if (rule->code && pcre2_pattern_info(rule->code, PCRE2_INFO_ALLOPTIONS, &options) == 0)
            rule->anchored = options & PCRE2_ANCHORED;
        if (!rule->code && problem) {
            pcre2_get_error_message(error, text, sizeof(text));
            problem(ctx, i, (const char *)text);
        }
    }
    r->match = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->match || !r->context)
        abort(); /* out of memory */
    pcre2_set_callout(r->context, step, r->steps);
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    pcre2_set_heap_limit(r->context, HEAP_KIB);
    return r;
}

void detect_rules_free(struct detect_rules *r)
{
    if (!r || --r->refs)
        return;
    for (size_t i = 0; i < r->count; i++)
        pcre2_code_free(r->rules[i].code);
    free(r->rules);
    free(r->builtin);
    free(r->steps);
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->context);
    free(r);
}

/* complete: nothing can follow. A partial match is one that came upon the end of the bytes, whether or not it fitted so
 * far: pcre2partial(3), PCRE2_PARTIAL_HARD. All other outcomes are the same whatever follows. */
static enum verdict fits(const struct detect_rules *r, const struct rule *rule, const uint8_t *data, size_t len,
                         bool complete)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * DETECT_WINDOW];
    int rc;

    if (!rule->code)
        return NO;
    if (rule->binary) {
        for (size_t i = 0; i < len; i++) {
            hex[2 * i] = digits[data[i] >> 4];
            hex[2 * i + 1] = digits[data[i] & 15];
        }
        data = (const uint8_t *)hex;
        len *= 2;
    }
    *r->steps = 0;
    rc = pcre2_match(rule->code, data, len, 0, complete ? 0 : PCRE2_PARTIAL_HARD, r->match, r->context);
    if (rc >= 0)
        return YES;
    return complete || (rc == PCRE2_ERROR_NOMATCH && rule->anchored) ? NO : MAYBE;
}

/* A connection ------------------------------------------------------------ */

struct side {
    struct buf bytes; /* at most DETECT_BUDGET */
    bool turned;      /* the other direction has followed */
    bool ended;       /* nothing more is looked at */
    size_t tried;     /* rules that are known not to fit, from the first on */
    unsigned looks;   /* of DETECT_LOOKS */
    size_t next;      /* bytes with which it is worth while to look again, after those */
};

struct piece {
    uint64_t len, time_ns;
    uint8_t dir;
    bool missed;
};

struct detect {
    struct detect_rules *rules;
    bool datagrams;
    bool turn; /* detect_new_turn() */
    bool begun;
    enum proto_dir first, last; /* direction of the first byte, of the last one */
    unsigned turns;
    struct side sides[PROTO_DIRS];
    struct piece *pieces;
    size_t piece_count;
    struct detect_answer answer;
};

static void forget(struct detect *d)
{
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        buf_free(&d->sides[dir].bytes);
    free(d->pieces);
    d->pieces = NULL;
    d->piece_count = 0;
}

struct detect *detect_new(struct detect_rules *rules, bool datagrams)
{
    struct detect *d = xcalloc(1, sizeof(*d));

    rules->refs++;
    d->rules = rules;
    d->datagrams = datagrams;
    d->answer.more[PROTO_RX] = d->answer.more[PROTO_TX] = true;
    return d;
}

struct detect *detect_new_turn(struct detect_rules *rules)
{
    struct detect *d = detect_new(rules, false);

    d->turn = true;
    return d;
}

void detect_free(struct detect *d)
{
    if (!d)
        return;
    forget(d);
    detect_rules_free(d->rules);
    free(d);
}

struct detect_answer detect_answer(const struct detect *d)
{
    return d->answer;
}

static enum verdict verdict_of(int detected, bool complete)
{
    return detected > 0 ? YES : detected == 0 || complete ? NO : MAYBE;
}

/* Who has spoken first asks, and the other answers. */
static enum verdict fits_exchange(const struct detect *d, const struct detect_builtin *b, const struct side *s)
{
    const struct side *other = &d->sides[proto_other(d->first)];
    bool more = s->bytes.len >= 2 && other->bytes.len < 2 ? !other->ended : !s->ended;

    if (s != &d->sides[d->first])
        return NO;
    return verdict_of(
        b->exchange((const uint8_t *)s->bytes.p, s->bytes.len, (const uint8_t *)other->bytes.p, other->bytes.len), !more);
}

static bool waits_for_answer(const struct detect *d, const struct side *s)
{
    size_t i = s->tried - d->rules->count;

    return s->tried >= d->rules->count && i < d->rules->builtin_count && d->rules->builtin[i].is->exchange;
}

static enum verdict looks_like(const struct detect *d, const struct detect_builtin *b, const struct side *s)
{
    int (*look)(const uint8_t *, size_t, bool) = d->datagrams ? b->datagram : b->stream;

    return look ? verdict_of(look((const uint8_t *)s->bytes.p, s->bytes.len, s->ended), s->ended) : NO;
}

static enum verdict fits_builtin(const struct detect *d, const struct builtin *builtin, const struct side *s)
{
    const struct detect_builtin *b = builtin->is;

    if (builtin->replaced || (d->turn && (!b->unmistakable || s != &d->sides[d->first])))
        return NO;
    return b->exchange && !d->datagrams ? fits_exchange(d, b, s) : looks_like(d, b, s);
}

/* Which of those that the rule stands for, if it fits: all but the last must look so. */
static enum verdict choose(const struct detect *d, const struct rule *rule, const struct side *s, size_t *ret_builtin)
{
    *ret_builtin = rule->builtin;
    for (size_t i = 0; rule->builtin != DETECT_NONE && i < rule->builtin; i++) {
        const struct detect_builtin *b = d->rules->builtin[i].is;
        enum verdict v = stands_for(rule->name, b) ? looks_like(d, b, s) : NO;

        if (v == YES)
            *ret_builtin = i;
        if (v != NO)
            return v;
    }
    return YES;
}

/* Tries the next rule for a direction. */
static enum verdict try_rule(const struct detect *d, const struct side *s, size_t *ret_builtin)
{
    size_t len = s->bytes.len, i = s->tried;

    if (i < d->rules->count) {
        const struct rule *rule = &d->rules->rules[i];
        size_t window = len < rule->window ? len : rule->window;
        enum verdict v = fits(d->rules, rule, (const uint8_t *)s->bytes.p, window,
                              s->turned || s->ended || len >= rule->window);

        return v == YES ? choose(d, rule, s, ret_builtin) : v;
    }
    *ret_builtin = i - d->rules->count;
    return fits_builtin(d, &d->rules->builtin[*ret_builtin], s);
}

/* Tries the rules for a direction in their order, as far as they can say. */
static enum verdict try_rules(struct detect *d, enum proto_dir dir)
{
    struct side *s = &d->sides[dir];
    size_t count = d->rules->count + d->rules->builtin_count;

    if (s->bytes.len == 0)
        return s->ended ? NO : MAYBE;
    if (d->turn && s->tried < d->rules->count)
        s->tried = d->rules->count;
    for (; s->tried < count; s->tried++) {
        size_t builtin;
        enum verdict v = try_rule(d, s, &builtin);

        if (v == YES) {
            bool users = s->tried < d->rules->count;

            d->answer = (struct detect_answer){
                .state = DETECT_FOUND,
                .builtin = builtin,
                .name = users ? d->rules->rules[s->tried].name : d->rules->builtin[builtin].is->name,
                .rule = users ? s->tried : DETECT_NONE,
                .dir = dir,
            };
        }
        if (v != NO)
            return v;
    }
    return NO;
}

static void look(struct detect *d)
{
    enum proto_dir other = proto_other(d->first);
    const struct side *first = &d->sides[d->first];
    enum verdict one, two;

    if (d->answer.state != DETECT_MORE || (!d->begun && !(first->ended && d->sides[other].ended)))
        return;
    /* While bytes of the other direction have passed, only rules that are built in can be undecided about the first. */
    one = try_rules(d, d->first);
    two = one == YES || d->turn ? NO : try_rules(d, other);
    if (one == YES || two == YES)
        return;
    if (one == NO && two == NO)
        d->answer.state = DETECT_NOTHING;
    d->answer.more[d->first] = one == MAYBE && !first->ended;
    d->answer.more[other] = (two == MAYBE || (one == MAYBE && waits_for_answer(d, first))) && !d->sides[other].ended;
}

/* Notes that bytes passed. Pieces are joined if there is room only for those that change the direction. */
static void note_piece(struct detect *d, enum proto_dir dir, uint64_t len, bool missed, uint64_t time_ns)
{
    struct piece *last = d->piece_count ? &d->pieces[d->piece_count - 1] : NULL;
    bool same = last && last->dir == dir && last->missed == missed;

    if (len == 0)
        return;
    if (same && (missed || d->piece_count >= DETECT_PIECES - 3 * DETECT_TURNS)) {
        last->len += len;
        return;
    }
    d->pieces = xrealloc(d->pieces, d->piece_count + 1, sizeof(*d->pieces)); /* they are few */
    d->pieces[d->piece_count++] = (struct piece){len, time_ns, dir, missed};
}

static void end_both(struct detect *d)
{
    d->sides[PROTO_RX].ended = d->sides[PROTO_TX].ended = true;
}

/* The first byte of all, or the first after one in the other direction. */
static void turn(struct detect *d, enum proto_dir dir)
{
    if (!d->begun) {
        d->begun = true;
        d->first = d->last = dir;
    } else if (d->last != dir) {
        d->sides[d->last].turned = true;
        d->last = dir;
        if (++d->turns == DETECT_TURNS)
            end_both(d);
        look(d);
    }
}

size_t detect_feed(struct detect *d, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct side *s = &d->sides[dir];
    size_t kept;
    bool ended;

    if (d->answer.state != DETECT_MORE || len == 0)
        return 0;
    turn(d, dir);
    if (d->answer.state != DETECT_MORE)
        return 0;
    ended = s->ended;
    kept = !data || ended ? 0 : DETECT_BUDGET - s->bytes.len < len ? DETECT_BUDGET - s->bytes.len : len;
    if (kept)
        buf_add(&s->bytes, data, kept);
    note_piece(d, dir, kept, false, time_ns);
    if (!data || d->datagrams || s->bytes.len == DETECT_BUDGET)
        s->ended = true;
    /* Not after each byte: that would be quadratic. */
    if (s->ended ? !ended : s->looks < DETECT_LOOKS || s->bytes.len >= s->next) {
        s->looks++;
        s->next = s->bytes.len + s->bytes.len / 2 + 1;
        look(d);
    }
    if (d->answer.state != DETECT_FOUND)
        note_piece(d, dir, len - kept, true, time_ns);
    return kept;
}

void detect_end(struct detect *d, enum proto_dir dir)
{
    d->sides[dir].ended = true;
    d->answer.more[dir] = false;
    look(d);
}

void detect_replay(struct detect *d,
                   void (*feed)(void *ctx, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns),
                   void *ctx)
{
    size_t at[PROTO_DIRS] = {0, 0};

    for (size_t i = 0; i < d->piece_count; i++) {
        const struct piece *p = &d->pieces[i];

        if (p->missed) {
            feed(ctx, p->dir, NULL, p->len, p->time_ns);
        } else {
            feed(ctx, p->dir, (const uint8_t *)d->sides[p->dir].bytes.p + at[p->dir], p->len, p->time_ns);
            at[p->dir] += p->len;
        }
    }
    forget(d);
}
