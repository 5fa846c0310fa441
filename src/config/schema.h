/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to src/config: the schema table, and the two forms between text and
 * struct config.
 *
 *   scope.yml --tree.c--> struct node --load.c--> struct layer (settings)
 *   environment, flags ----------------env.c----> struct layer (settings)
 *   layers --merge.c--> struct config --print.c--> scope.yml, JSON
 *
 * A setting is one key with its text and where it came from. Checking happens
 * when a setting is made, so that merging can't fail.
 */
#ifndef SCOPE_CONFIG_SCHEMA_H
#define SCOPE_CONFIG_SCHEMA_H

#include <stdarg.h>

#include "base/buf.h"
#include "config/config.h"

enum key_kind {
    KEY_SECTION, /* map of further keys */
    KEY_BOOL,
    KEY_UINT, /* min..max */
    KEY_INT,  /* the same, read as int64_t */
    KEY_BYTES, /* uint64_t, min..max; K, M, G, T, with iB or without: powers of 1024 */
    KEY_WORD, /* one of words, stored as its index */
    KEY_STRING,
    KEY_PREFIX, /* string that ends with a dot unless it is empty */
    KEY_PATH,   /* file, directory or socket; relative ones start at the directory of config_sources_new() */
    KEY_HOST,
    KEY_PORT,
    KEY_REGEX,     /* PCRE2; no $VAR substitution */
    KEY_PATTERNS,  /* list of PCRE2 patterns */
    KEY_LIST,      /* list of `items`, stored as one text (lists.c) */
    KEY_RATIO,     /* number from 0 to 1, stored as text */
    KEY_PAIRS,     /* map of names and values, stored as one text (pairs.c); secret: headers of requests */
    KEY_ENDPOINT,  /* URL that OTLP goes to (otlp.c) */
    KEY_TRANSPORT, /* section that environment and flags set as one URL */
    KEY_WATCH,     /* list of maps, each with a type that names a child of this key */
    KEY_TAGS,
    KEY_PROTOCOLS,
    KEY_CUSTOM,
};

enum list_items {
    LIST_PATHS, /* names of files and directories, with wildcards */
    LIST_PEERS, /* addresses, networks, names of hosts */
    LIST_TYPES, /* of DNS records */
    LIST_LOGS,  /* what OTLP tells as logs */
};

enum key_base { BASE_NONE, BASE_CONFIG, BASE_PROTOCOL, BASE_FILTER };

/* What a custom filter asks for; NULL: not asked. */
struct filter {
    char *procname, *arg, *hostname, *username, *env, *ancestor;
};

struct key {
    const char *path; /* "metric.format.verbosity"; "protocol[].len"; "custom.NAME.filter.env" */
    enum key_kind kind;
    enum key_base base; /* which structure offset is in */
    size_t offset;
    const char *const *words; /* KEY_WORD: NULL-terminated */
    unsigned word_mask;       /* KEY_WORD: which of them are allowed here; 0: all */
    uint64_t min, max;        /* KEY_UINT, KEY_INT, KEY_BYTES */
    enum list_items items;    /* KEY_LIST */
    bool clamp;               /* KEY_UINT: larger values become max, with a remark */
    bool optional;            /* '' and an empty value mean: not set */
    bool text;                /* KEY_BOOL, KEY_UINT, KEY_WORD: stored as text, NULL if it isn't set */
    bool secret;
    const char *def; /* NULL: not set */
    const char *env;
    const char *missing; /* the feature that isn't built yet, or NULL */
    const char *help;
};

extern const struct key schema[];
extern const size_t schema_count;

const struct key *key_find(const char *path);
const struct key *key_find_child(const struct key *parent, const char *name);
/* The last component of the path. */
const char *key_name(const struct key *);
/* True if k lies directly below the section `path` ("" is the top). */
bool key_is_child(const struct key *k, const char *path);
static inline size_t key_index(const struct key *k)
{
    return (size_t)(k - schema);
}
/* "true or false", "one of udp, tcp", ... malloc'ed */
char *key_expected(const struct key *k);

/* The closest of the candidates, or NULL if none is close. */
struct guess {
    const char *word;
    unsigned best;
    const char *ret;
};
void guess_try(struct guess *g, const char *candidate);

/* Values -------------------------------------------------------------- */

/* Why a text can't be a value (fatal), or what was made of it (not fatal). */
struct complaint {
    char *text; /* malloc'ed, NULL: nothing to complain about */
    bool fatal;
};

#define MAX_VALUE 4096 /* bytes of one value; patterns may be twice as long */
#define MAX_TAGS 128
#define MAX_PROTOCOLS 128
#define MAX_PATTERNS 64
#define MAX_CUSTOM 256
#define MAX_LIST (512 * 1024) /* bytes of a list */
#define LIST_DEFAULT "default" /* an item that stands for those of the list by default */

/* Checks text and, if obj isn't NULL, stores it into the structure of key->base. Returns 0 or -EINVAL,
 * with *c filled if c isn't NULL. Patterns are compiled only when c isn't NULL. */
int key_store(const struct key *k, void *obj, const char *text, struct complaint *c);
/* Stores a list as it is. */
void key_store_list(const struct key *k, void *obj, const char *text);
/* Text of the stored value, malloc'ed, or NULL if it isn't set. */
char *key_text(const struct key *k, const void *obj);
bool parse_bool(const char *text, bool *ret);
/* Appends an item to a list. */
void list_add(struct buf *list, const char *item);
/* The list with what LIST_DEFAULT stands for, and without empty items; malloc'ed. */
char *list_expand(const struct key *k, const char *text);
/* NULL or a complaint; malloc'ed. */
char *list_check_item(const struct key *k, const char *item);
#define MAX_PAIRS (64 * 1024) /* bytes of a list of pairs */
#define MAX_PAIR_COUNT 128
/* An entry of a list of names and values; both malloc'ed and decoded. NULL: there is none, or (undecoded) it can't be
 * decoded. */
struct pair {
    char *name, *value;
    bool undecoded;
    const char *raw;
    size_t raw_len;
};
/* The next one that isn't empty; *at is the list at first, and moved on. */
bool pairs_next(const char **at, struct pair *ret);
void pair_clear(struct pair *p);
/* Appends one, encoded. */
void pairs_add(struct buf *list, const char *name, const char *value);
/* What a list is stored as: the entries that can be used; malloc'ed. *ret_why is NULL or malloc'ed: what is wrong with
 * the first of the others. */
char *pairs_check(const struct key *k, const char *text, char **ret_why);
/* Of equal names the last value; lower: names in lower case. */
void pairs_store(const char *text, bool lower, struct cfg_tag **ret, size_t *ret_count);

enum endpoint_scheme { SCHEME_NONE, SCHEME_HTTP, SCHEME_HTTPS, SCHEME_GRPC, SCHEME_GRPCS };
struct endpoint {
    enum endpoint_scheme scheme;
    char *host, *port; /* port is NULL if there is none */
    char *path;        /* with its query; "" if there is none */
};
/* Returns 0, or -EINVAL with *ret_error set to static text. */
int endpoint_parse(const char *text, struct endpoint *ret, const char **ret_error);
/* What an endpoint is stored as, malloc'ed; *c is filled, if c isn't NULL, where it can't be used. */
char *endpoint_check(const struct key *k, const char *text, struct complaint *c);
/* An event source, OTLP_LOG_CRASHES, or -1 for other words. */
#define OTLP_LOG_CRASHES CFG_EW_MAX
int otlp_log_source(const char *word);

/* NULL or a complaint; malloc'ed. */
char *check_regex(const char *pattern);
char *check_tag_name(const char *name);
/* UTF-8 without control characters; multiline: but tabs, newlines and carriage returns. */
bool valid_text(const char *s, bool multiline);
/* UTF-8. PCRE2 takes control characters as they are. */
bool valid_pattern(const char *s);

/* Replaces $NAME (letters, digits, underscores) by lookup()'s answer; where that is NULL the text stays. A
 * backslash and a dollar become a dollar. malloc'ed; NULL if the result exceeds MAX_VALUE, or a longer text by so
 * much. */
typedef const char *(*lookup_fn)(void *ctx, const char *name, size_t len);
char *expand(const char *text, lookup_fn fn, void *ctx);
/* The same in each value of a list of pairs; NULL if that becomes longer than MAX_PAIRS. */
char *pairs_expand(const char *text, lookup_fn fn, void *ctx);
/* The reverse: backslashes where expand() would change the text. malloc'ed. */
char *expand_protect(const char *text);
bool expand_needed(const char *text);
/* Value of NAME in an environment, or NULL. */
const char *environ_get(const char *const *envp, const char *name, size_t len);

/* Layers -------------------------------------------------------------- */

/* Weakest first. */
enum origin_kind { FROM_DEFAULT, FROM_OTEL, FROM_FILE, FROM_ENV, FROM_FLAG, FROM_CRIBL };

struct origin {
    enum origin_kind kind;
    const char *name; /* file, variable or flag; owned by the sources */
    unsigned line;
};

enum setting_op {
    SET_VALUE,
    SET_URL,         /* destination of a transport; TLS and buffering stay (environment) */
    SET_URL_FLAG,    /* the same from a flag, whose scheme says whether there is TLS */
    SET_URL_CLOUD,   /* SCOPE_CRIBL_CLOUD: TLS with validation against the system bundle */
    SET_WATCH_RESET, /* all types off, all filters at their defaults */
    SET_LIST_CLEAR,
    SET_LIST_ADD,
    SET_TAG,
    SET_PROTOCOL_BEGIN,
    SET_PROTOCOL_END,
};

struct setting {
    const struct key *key;
    enum setting_op op;
    bool literal;   /* no $VAR in text */
    bool unchecked; /* has $VAR and the environment isn't known yet */
    bool clean;     /* KEY_LIST, KEY_PAIRS: text is what is stored: it is merged for each process, and may be long */
    char *name;     /* SET_TAG */
    char *text;
    struct origin from;
};

struct layer {
    struct setting *v;
    size_t n, cap;
};

struct custom {
    char *name;
    unsigned line;
    bool usable; /* false: it has no filter, or a broken one */
    struct setting filter[6];
    size_t filter_count;
    struct layer layer;
};

struct source_file {
    char *name;
    bool of_rule; /* for processes that this rule names */
    uint32_t rule;
    struct layer layer;
    struct custom *customs;
    size_t custom_count;
};

struct config_sources {
    char *cwd;
    struct layer defaults;
    struct source_file **files;
    size_t file_count;
    const struct source_file *checked; /* this one applies, whatever its rule: it is being checked */
    char **environ_; /* copy of the whole environment, or NULL: for $VAR */
    struct layer otel, env, flags; /* otel: of OTEL_* variables */
    char **names; /* of variables and flags, owned */
    size_t name_count;
};

struct setting *layer_add(struct layer *l, const struct key *k, enum setting_op op, const char *text,
                          struct origin from);
void layer_clear(struct layer *l);
/* Keeps a copy of s as long as the sources live. */
const char *sources_name(struct config_sources *s, const char *text);
/* Value of the setting after substitution; malloc'ed, NULL if it became too long. */
char *setting_text(const struct config_sources *s, const struct setting *t);

/* Reports -------------------------------------------------------------- */

struct reporter {
    cfg_problem_fn fn;
    void *ctx;
    const char *file;
    unsigned count;
};
#define MAX_PROBLEMS 100 /* per file; the rest is only counted */
void report(struct reporter *r, unsigned line, const char *key, bool fatal, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void report_end(struct reporter *r);
/* Checks a setting and reports. Returns 0 or -EINVAL. shown is the key as the user wrote it. */
int check_setting(struct config_sources *s, struct setting *t, struct reporter *r, const char *shown);
/* Reports what only the merged result can show: a transport without what its type needs. */
void check_merged(struct config_sources *s, const struct layer *added, const struct layer *custom, struct reporter *r,
                  const char *prefix);

/* Merging -------------------------------------------------------------- */

struct merged {
    struct config *cfg;
    const struct origin **key_from;  /* per schema row; NULL: not set by any layer that was merged */
    const struct setting **tag_from; /* per tag */
    const struct origin **protocol_from;
};
/* Everything that applies to proc. */
void merge(const struct config_sources *s, const struct cfg_process *proc, bool cribl, struct merged *ret);
/* One layer over all that applies to every process. With `only`, over the defaults, and key_from tells what it set;
 * such keys have the value of environment or flags where those set them too. */
void merge_layer(const struct config_sources *s, const struct layer *l, bool only, struct merged *ret);
void merged_clear(struct merged *m);

/* Which of host, port, path, buffering, tls a type uses. */
bool transport_uses(enum cfg_transport_type type, const char *member);
/* What is wrong with host and port for its type; empty: nothing. */
const char *transport_remark(const struct cfg_transport *t);
bool transport_equal(const struct cfg_transport *a, const struct cfg_transport *b);
#define MASK "***" /* what stands for a secret */

/* OTLP ----------------------------------------------------------------- */

/* What a source says for all signals stands above what a weaker one says for one of them. Afterwards a key of a signal
 * that is set counts, whatever their sources are. */
void otlp_settle(struct merged *m);
/* Makes cfg->otlp of cfg->otlp_keys. */
void otlp_resolve(struct config *cfg);
void otlp_clear(struct cfg_otlp *o);
/* Whether a signal is switched on, wherever it goes. */
bool otlp_wanted(const struct config *cfg);
/* Reports what only several keys together show. */
void otlp_check(const struct merged *m, struct reporter *r, const char *prefix);
/* The OTEL_* variables of an environment as settings. */
void otel_add(struct config_sources *s, const char *const *envp, struct reporter *r);

#endif
