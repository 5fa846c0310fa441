/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The effective configuration of one observed process: scope.yml, environment,
 * flags and custom filters merged. Values and defaults: docs/config.md, which
 * is generated from the schema in schema.c.
 *
 * Precedence, highest first: command-line flags, environment, custom sections
 * of the file, the file, OpenTelemetry's variables (OTEL_*), built-in defaults. With several files each is laid,
 * its custom sections included, over those before it. While cribl.enable is
 * true, the cribl transport takes the place of those of events and metrics.
 */
#ifndef SCOPE_CONFIG_CONFIG_H
#define SCOPE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cfg_transport_type { CFG_UDP, CFG_TCP, CFG_UNIX, CFG_FILE, CFG_EDGE, CFG_JOURNAL, CFG_PROMETHEUS, CFG_OTLP };
#define PROMETHEUS_PORT "9109" /* unless another one is configured */
enum cfg_buffering { CFG_BUFFER_LINE, CFG_BUFFER_FULL };
enum cfg_format { CFG_STATSD, CFG_NDJSON };
enum cfg_loglevel { CFG_LOG_TRACE, CFG_LOG_DEBUG, CFG_LOG_INFO, CFG_LOG_WARNING, CFG_LOG_ERROR, CFG_LOG_NONE };

struct cfg_tls {
    bool enable;
    bool validateserver;
    char *cacertpath;          /* NULL: system bundle */
    char *certpath, *keypath;  /* of the client, PEM; NULL: it has none. otlp only */
};

struct cfg_transport {
    enum cfg_transport_type type;
    char *host, *port;         /* udp, tcp, prometheus (where to listen); never NULL there. IPv6 without brackets */
    char *path;                /* unix ("@name" is abstract), file ("stdout", "stderr" too), journal; absolute, not NULL */
    enum cfg_buffering buffering;
    struct cfg_tls tls;
};

enum cfg_metric_watch { CFG_MW_FS, CFG_MW_NET, CFG_MW_HTTP, CFG_MW_DNS, CFG_MW_PROCESS, CFG_MW_STATSD, CFG_MW_MAX };

/* Event sources. PROCESS and SYSCALL are new since 1.4: the life of processes
 * (on by default), and every observed call with arguments and result (off). */
enum cfg_event_watch {
    CFG_EW_FILE, CFG_EW_CONSOLE, CFG_EW_SYSLOG, CFG_EW_METRIC, CFG_EW_HTTP, CFG_EW_NET, CFG_EW_FS, CFG_EW_DNS,
    CFG_EW_PROCESS, CFG_EW_SYSCALL,
    CFG_EW_NOTICE, /* what somebody should look at: switched on by notice.enable, not by event.watch */
    CFG_EW_MAX
};

struct cfg_watch {
    bool enable;
    char *name, *field, *value; /* PCRE2 patterns, unanchored; never NULL */
    char **headers;             /* http: NULL-terminated, or NULL */
    bool allowbinary;           /* console */
};

struct cfg_protocol {
    char *name, *regex;
    bool binary, detect, payload;
    unsigned len;
};

struct cfg_tag {
    char *name, *value;
};

/* OpenTelemetry's protocol: destinations beside those of events and metrics (docs/otlp.md). */
enum cfg_otlp_signal { CFG_OTLP_TRACES, CFG_OTLP_METRICS, CFG_OTLP_LOGS, CFG_OTLP_MAX };
enum cfg_otlp_protocol { CFG_OTLP_HTTP, CFG_OTLP_GRPC }; /* http/protobuf, grpc */
struct cfg_otlp_to {
    bool enable;
    enum cfg_otlp_protocol protocol;
    struct cfg_transport transport; /* CFG_OTLP: host, port, tls; never NULL while enable is true */
    char *path;                /* http: of the URL, with its query: "/v1/traces"; never NULL while enable is true */
    struct cfg_tag *headers;   /* of each request */
    size_t header_count;
    bool gzip;
    unsigned timeout_ms;       /* of one request */
};
struct cfg_otlp {
    struct cfg_otlp_to to[CFG_OTLP_MAX];
    char *service_name;        /* of all processes, by a key; NULL: each has its own (tm_process.service_name) */
    struct cfg_tag *resource;  /* attributes of all processes' resources, by keys, without service.name */
    size_t resource_count;
    unsigned interval_ms;      /* of metrics */
    bool delta;                /* temporality of counts and histograms; false: cumulative */
    bool lowmemory;            /* with delta: what is read as a sum, such as CPU time, is cumulative all the same */
    bool exponential;          /* histograms have exponential buckets */
    double ratio;              /* of traces that are told, 0 to 1 */
    bool parent_based;         /* what the parent says counts before ratio */
    bool processes;            /* a span for each process */
    bool log_events[CFG_EW_MAX]; /* event sources that are told as logs */
    bool log_crashes;          /* crashes (proc.crash of CFG_EW_PROCESS) are; true if all of those events are */
};

/* The keys of otlp as they were set, NULL if they weren't: config_for() makes struct cfg_otlp of them. */
struct cfg_otlp_keys {
    char *enable, *endpoint, *protocol, *headers, *compression, *timeout, *insecure, *validateserver, *cacertpath,
        *certpath, *keypath;
};

struct config {
    struct {
        bool enable;
        enum cfg_format format;
        char *statsdprefix;     /* "" or ends with '.' */
        unsigned statsdmaxlen;  /* bytes of one datagram */
        unsigned verbosity;     /* 0..9 */
        bool watch[CFG_MW_MAX];
        struct cfg_transport transport;
    } metric;
    struct {
        bool enable;
        unsigned maxeventpersec; /* 0: no limit */
        bool enhancefs;
        struct cfg_watch watch[CFG_EW_MAX];
        struct cfg_transport transport;
    } event;
    struct {
        bool enable;
        char *dir;
    } payload;
    struct {
        bool configevent;
        unsigned summaryperiod; /* seconds, >= 1 */
        char *commanddir;
        bool lossless;          /* new since 1.4: writers wait for room instead of dropping */
        struct {
            enum cfg_loglevel level;
            struct cfg_transport transport;
        } log;
        struct {
            bool coredump, backtrace;
            uint64_t coremax;   /* bytes; new since 1.4 */
        } snapshot;
    } libscope;
    struct {
        int priority;           /* nice value, -20..19; new since 1.4 */
    } collector;
    /* Its switch and filters are event.watch[CFG_EW_NOTICE]. Lists are texts: cfg_list_item(). New since 1.4. */
    struct {
        unsigned maxpersec, maxperrule; /* 0: no limit */
        struct {
            char *write, *read, *send, *system;
        } file;
        struct {
            bool writable, deleted;
        } exec;
        struct {
            char *allow, *deny;
        } net;
        struct {
            bool malformed;
            unsigned maxlength, maxname, maxlabels; /* 0: no limit */
            char *types;
        } dns;
    } notice;
    struct {
        bool enable;
        struct cfg_transport transport;
        char *authtoken;        /* NULL if none */
    } cribl;
    struct cfg_otlp otlp;      /* new since 1.4 */
    struct {
        struct cfg_otlp_keys all, to[CFG_OTLP_MAX];
        char *servicename, *resource, *interval, *temporality, *histogram, *ratio, *parentbased, *processes, *events;
    } otlp_keys;
    struct cfg_tag *tags;
    size_t tag_count;
    struct cfg_protocol *protocols;
    size_t protocol_count;
};

/* What a custom filter is matched against. Strings may be NULL: unknown, no match. */
struct cfg_process {
    const char *procname;       /* base name of the program */
    const char *cmdline;        /* words separated by blanks */
    const char *hostname;
    const char *username;
    const char *const *environ_; /* NULL-terminated NAME=value, or NULL */
    const char *const *ancestors; /* base names, parent first, NULL-terminated, or NULL */
    const uint32_t *rules;      /* numbers of the host's rules that name it (rules_which()); may be NULL */
    size_t rule_count;
};

/* One complaint about configuration. */
struct cfg_problem {
    const char *file;           /* file name, or "environment", or "command line" */
    unsigned line;              /* 0 if it has none */
    const char *key;            /* dotted path, e.g. metric.format.verbosity */
    const char *text;           /* what is wrong and what was expected */
    bool fatal;                 /* the value could not be used (false: a remark, e.g. a feature that isn't built yet) */
};
typedef void (*cfg_problem_fn)(void *ctx, const struct cfg_problem *);

/*
 * The sources of a session, read once; config_for() merges them for a process.
 * Not thread-safe; all strings are copied.
 */
struct config_sources;

/* Relative paths in values start at the working directory of this call. Never fails but for lack of memory (aborts). */
struct config_sources *config_sources_new(void);
void config_sources_free(struct config_sources *);
/* Relative paths in values start at this directory instead, if it is an absolute path. */
void config_sources_start_at(struct config_sources *, const char *directory);

/* Reads a scope.yml (at most 1 MiB). Problems go to fn (may be NULL), loading goes on. Returns 0, or -errno
 * if the file can't be read, or -EINVAL if it isn't YAML at all; both have been told to fn. Of a pipe it waits for what
 * its writer has to say, at most 10 s for each piece (-ETIMEDOUT). */
int config_add_file(struct config_sources *, const char *path, cfg_problem_fn fn, void *ctx);
int config_add_text(struct config_sources *, const char *name, const char *text, size_t len, cfg_problem_fn fn,
                    void *ctx);

/* The same, for the processes that a rule of the host names (cfg_process.rules): none, while there is no process. It
 * begins in this line of the file. */
int config_add_rule(struct config_sources *, uint32_t rule, const char *name, unsigned line, const char *text, size_t len,
                    cfg_problem_fn fn, void *ctx);

/* Takes the SCOPE_* and OTEL_* variables of an environment, and all of it for $NAME in values. Values of files added before
 * that needed it are checked now. Later files and flags may follow in any order: precedence is fixed. */
void config_add_environ(struct config_sources *, const char *const *envp, cfg_problem_fn fn, void *ctx);

/* Sets one key by its dotted path, as a flag does: "metric.format.verbosity", "7". Watches are set one by one
 * ("event.watch.syscall", "true"; "event.watch.fs.name", PATTERN), the destination of a transport by its URL in flag
 * syntax
 * ("event.transport", "tcp://[::1]:9109"), a tag as "tags.NAME". origin names the flag for config_print_yaml().
 * Returns 0, -ENOENT (no such key) or -EINVAL, after calling fn. */
int config_set(struct config_sources *, const char *key, const char *value, const char *origin, cfg_problem_fn fn,
               void *ctx);

/* Finds the file that would be used: $SCOPE_CONF_PATH, then the search path of
 * docs/config.md. Returns a malloc'ed path, or NULL if there is none. An explicit
 * $SCOPE_CONF_PATH is returned even when it doesn't exist, so that opening it reports the error. */
char *config_find_file(const char *const *envp);

/* The configuration for one process; never NULL; the caller frees it with config_free(). proc may be NULL. */
struct config *config_for(const struct config_sources *, const struct cfg_process *proc);
void config_free(struct config *);

/* Whether it is the same one for all processes: no file is, or has sections, for some of them, and no tag's value is from
 * their environment. */
bool config_is_common(const struct config_sources *);

/* True if a file, a variable or a flag sets this key or one below it, for every process. */
bool config_sets(const struct config_sources *, const char *key);

/* 1 if both give the same outputs and filters. */
bool config_equal(const struct config *, const struct config *);

/* Files that lie below one directory (journal, payloads, commands, log) lie below another one from now on. Absolute paths
 * without a slash at the end. */
void config_move(struct config *, const char *from, const char *to);

/* Prints what is in effect as scope.yml, custom sections included; with origins each line gets a comment that says
 * where its value came from. Loading the output gives the same again, but for the secrets, which are masked. */
void config_print_yaml(const struct config_sources *, FILE *, bool origins);
/* The same without origins and with the secrets: not for files. */
void config_print_whole(const struct config_sources *, FILE *);
/* ... of a process that these rules of the host name (cfg_process.rules). */
void config_print_for(const struct config_sources *, const uint32_t *rules, size_t count, FILE *);
/* What config_set() has set and nothing else, as scope.yml, with the secrets; nothing if that is nothing. */
void config_print_flags(const struct config_sources *, FILE *);
/* The object info.configuration.current of the start message (docs/data-model.md); secrets are masked.
 * malloc'ed compact JSON. */
char *config_to_json(const struct config *);

/* Parses a destination URL (docs/config.md): udp:// tcp:// tls:// unix:// file:// journal:// prometheus:// edge, IPv6 in brackets,
 * bare paths and host:port as the command-line flags take them. Returns 0 or -EINVAL with *ret_error set to
 * static text. */
int cfg_transport_parse(const char *url, bool flag_syntax, struct cfg_transport *ret, const char **ret_error);
void cfg_transport_clear(struct cfg_transport *);
/* malloc'ed URL form, for people. */
char *cfg_transport_url(const struct cfg_transport *);

/* Where OTLP goes, in one line for people: "traces, metrics to http://localhost:4318; logs to grpc://h:4317", malloc'ed;
 * NULL if it is off. Never with a query, which may be a secret. */
char *cfg_otlp_text(const struct cfg_otlp *);
/* malloc'ed URL of one signal, in the forms that flags take, for people. */
char *cfg_otlp_url(const struct cfg_otlp_to *);
const char *cfg_otlp_name(enum cfg_otlp_signal); /* "traces" */
/* Checks the URL of a flag: http://, https://, grpc:// or grpcs://. Returns 0 with *ret_http, or -EINVAL with
 * *ret_error set to static text. */
int cfg_endpoint_check(const char *url, bool *ret_http, const char **ret_error);
/* An endpoint without user, password and query, for messages; malloc'ed. It may be wrong. */
char *cfg_endpoint_shown(const char *text);
/* Value of a name in NAME=value,NAME=value with percent-encoding (OTEL_RESOURCE_ATTRIBUTES), malloc'ed. NULL if it isn't
 * there, is empty or no text, or if anything in the list can't be decoded. */
char *cfg_pair_of(const char *text, const char *name);

/* The next item of a list of the configuration (texts with commas between them): malloc'ed, NULL at the end. *at is the
 * list at first, and moved on; NULL is an empty one. */
char *cfg_list_item(const char **at);

/* An item of a list of peers. */
struct cfg_peer {
    bool name;            /* a host name, or *.NAME: all below it; lower case, without the last dot */
    char text[256];       /* the name */
    uint8_t address[16];  /* IPv4 as IPv6 (RFC 4291, 2.5.5.2); bits behind the prefix are 0 */
    unsigned bits;        /* of the prefix: 0..128 */
};
/* ADDRESS, ADDRESS/BITS, NAME or *.NAME. Returns 0 or -EINVAL with *ret_error set to static text. */
int cfg_peer_parse(const char *text, struct cfg_peer *ret, const char **ret_error);

/* The documented default scope.yml, generated from the schema. */
void config_print_default_yaml(FILE *);
/* docs/config.md's reference table. */
void config_print_markdown(FILE *);

#endif
