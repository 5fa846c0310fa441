/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of scope.yml. Loading, checking, defaults, printing and the
 * reference in docs/config.md come from these rows; a new key is a new row and
 * a member of struct config. Order: as printed, parents before children. The
 * environment is applied in this order as well.
 */
#include "config/schema.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static const char *const words_transport[] = {
    [CFG_UDP] = "udp", [CFG_TCP] = "tcp", [CFG_UNIX] = "unix", [CFG_FILE] = "file", [CFG_EDGE] = "edge",
    [CFG_JOURNAL] = "journal", [CFG_PROMETHEUS] = "prometheus", NULL};
static const char *const words_buffering[] = {[CFG_BUFFER_LINE] = "line", [CFG_BUFFER_FULL] = "full", NULL};
static const char *const words_format[] = {[CFG_STATSD] = "statsd", [CFG_NDJSON] = "ndjson", NULL};
static const char *const words_level[] = {[CFG_LOG_TRACE] = "trace", [CFG_LOG_DEBUG] = "debug",
                                          [CFG_LOG_INFO] = "info",   [CFG_LOG_WARNING] = "warning",
                                          [CFG_LOG_ERROR] = "error", [CFG_LOG_NONE] = "none",
                                          NULL};
static const char *const words_protocol[] = {[CFG_OTLP_HTTP] = "http/protobuf", [CFG_OTLP_GRPC] = "grpc", NULL};
static const char *const words_compression[] = {"none", "gzip", NULL};
static const char *const words_temporality[] = {"cumulative", "delta", "lowmemory", NULL};
static const char *const words_histogram[] = {"explicit", "exponential", NULL};
_Static_assert(sizeof(enum cfg_transport_type) == sizeof(int) && sizeof(enum cfg_buffering) == sizeof(int) &&
                   sizeof(enum cfg_format) == sizeof(int) && sizeof(enum cfg_loglevel) == sizeof(int),
               "words are stored as int");

#define AT(member) .base = BASE_CONFIG, .offset = offsetof(struct config, member)

/* The keys of one transport. ENV is the beginning of its TLS variables, DEST the variable with the URL; URL and KIND say
 * what else than the usual there is. */
#define TRANSPORT(PATH, MEMBER, MASK, TYPE, HOST, PORT, FILEPATH, DEST, ENV, WHAT, URL, KIND, LISTEN, PORT_HELP)       \
    {.path = PATH, .kind = KEY_TRANSPORT, AT(MEMBER), .env = DEST,                                                     \
     .help = "Where " WHAT " go. The variable takes a URL: udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, "        \
             "unix://PATH, unix://@NAME (abstract socket), file://PATH, file://stdout, file://stderr" URL " or edge."}, \
    {.path = PATH ".type", .kind = KEY_WORD, AT(MEMBER.type), .words = words_transport, .word_mask = MASK,             \
     .def = TYPE, .help = "Kind of destination. edge: the socket of a Cribl Edge on this host." KIND},                 \
    {.path = PATH ".host", .kind = KEY_HOST, AT(MEMBER.host), .def = HOST, .optional = true,                           \
     .help = "Name or address (IPv4, IPv6) of the host, for udp and tcp" LISTEN "."},                                            \
    {.path = PATH ".port", .kind = KEY_PORT, AT(MEMBER.port), .def = PORT, .optional = true,                           \
     .help = "Number or service name of the port, for udp and tcp" PORT_HELP "."},                                                  \
    {.path = PATH ".path", .kind = KEY_PATH, AT(MEMBER.path), .def = FILEPATH, .optional = true,                       \
     .help = "For file: the path, or stdout or stderr (of the collector). For unix: the socket, or @NAME for an "      \
             "abstract one. For journal: the file."},                                                                   \
    {.path = PATH ".buffering", .kind = KEY_WORD, AT(MEMBER.buffering), .words = words_buffering, .def = "line",       \
     .help = "For file. line: written soon after each record; full: in large pieces."},                                \
    {.path = PATH ".tls", .kind = KEY_SECTION, .help = "Encryption of a tcp connection."},                             \
    {.path = PATH ".tls.enable", .kind = KEY_BOOL, AT(MEMBER.tls.enable), .def = "false", .env = ENV "_TLS_ENABLE",    \
     .help = "Use TLS."},                                                                                              \
    {.path = PATH ".tls.validateserver", .kind = KEY_BOOL, AT(MEMBER.tls.validateserver), .def = "true",               \
     .env = ENV "_TLS_VALIDATE_SERVER", .help = "Refuse a server whose certificate can't be verified."},               \
    {.path = PATH ".tls.cacertpath", .kind = KEY_PATH, AT(MEMBER.tls.cacertpath), .optional = true,                    \
     .env = ENV "_TLS_CA_CERT_PATH", .help = "PEM file of trusted certificates. Not set: those of the system."}

#define METRIC_WATCH(NAME, INDEX, ENV, MISSING, HELP)                                                                  \
    {.path = "metric.watch." NAME, .kind = KEY_BOOL, AT(metric.watch[INDEX]), .def = "true", .env = ENV,               \
     .missing = MISSING, .help = HELP}

#define EVENT_WATCH(NAME, INDEX, ENV, ON, PATTERN, FIELD, MISSING, HELP, SUBJECT)                                      \
    {.path = "event.watch." NAME, .kind = KEY_BOOL, AT(event.watch[INDEX].enable), .def = ON, .env = ENV,              \
     .missing = MISSING, .help = HELP},                                                                                \
    {.path = "event.watch." NAME ".name", .kind = KEY_REGEX, AT(event.watch[INDEX].name), .def = PATTERN,              \
     .env = ENV "_NAME", .help = "Pattern for " SUBJECT "; events that don't match are dropped."},                     \
    {.path = "event.watch." NAME ".field", .kind = KEY_REGEX, AT(event.watch[INDEX].field), .def = FIELD,              \
     .env = ENV "_FIELD", .help = "Pattern for the names of the fields that are kept."},                               \
    {.path = "event.watch." NAME ".value", .kind = KEY_REGEX, AT(event.watch[INDEX].value), .def = ".*",               \
     .env = ENV "_VALUE", .help = "Pattern that at least one value, or the text written, must match."}

#define FILTER(NAME, HELP)                                                                                             \
    {.path = "custom.NAME.filter." #NAME, .kind = KEY_STRING, .base = BASE_FILTER,                                     \
     .offset = offsetof(struct filter, NAME), .help = HELP}

#define LIST(PATH, MEMBER, ITEMS, DEFAULT, ENV, HELP)                                                                  \
    {.path = PATH, .kind = KEY_LIST, AT(MEMBER), .items = ITEMS, .optional = true, .def = DEFAULT, .env = ENV, .help = HELP}

/* Secrets: of the system, of users, of programs. */
#define SECRETS                                                                                                        \
    "/etc/shadow,/etc/shadow-,/etc/gshadow,/etc/gshadow-,/etc/sudoers,/etc/sudoers.d,/etc/krb5.keytab,"                \
    "/etc/ssh/ssh_host_*_key,/etc/ssl/private,/proc/*/mem,.ssh,!.ssh/*.pub,!.ssh/config,"  \
    "!.ssh/known_hosts,.gnupg/private-keys-v1.d,.aws/credentials,.azure,.config/gcloud,.config/gh/hosts.yml,.kube/config,"  \
    ".docker/config.json,.git-credentials,.netrc,.pypirc,.pgpass,.vault-token,.npmrc,.cargo/credentials,"      \
    ".cargo/credentials.toml,.gem/credentials,.aws/sso/cache,.config/op,.config/rclone/rclone.conf,.password-store,*.kdbx,"  \
    ".terraform.d/credentials.tfrc.json,.env,.env.*,!.env.example,!.env.sample,!.env.template,id_rsa,id_ecdsa,id_ed25519," \
    ".mozilla/firefox/*/logins.json,.mozilla/firefox/*/key4.db,.mozilla/firefox/*/cookies.sqlite,"                     \
    ".config/google-chrome/*/Login Data,.config/google-chrome/*/Cookies,.config/chromium/*/Login Data,"                \
    ".config/chromium/*/Cookies,.config/BraveSoftware/*/*/Login Data,.config/BraveSoftware/*/*/Cookies,"               \
    ".config/microsoft-edge/*/Login Data,.config/microsoft-edge/*/Cookies,.thunderbird/*/logins.json,"                 \
    ".thunderbird/*/key4.db,.local/share/keyrings,.local/share/kwalletd"
/* Where the system and what begins with a session are kept. */
#define SYSTEM                                                                                                         \
    "/bin,/boot,/etc,/lib,/lib32,/lib64,/libx32,/sbin,/usr/bin,/usr/lib,/usr/lib32,/usr/lib64,/usr/libexec,"        \
    "/usr/sbin,/usr/local/bin,/usr/local/lib,/usr/local/sbin,/var/spool/cron,/proc/sysrq-trigger,/proc/sys/kernel,"    \
    ".ssh/authorized_keys,.ssh/config,.ssh/rc,.bashrc,.bash_profile,.bash_login,.bash_logout,.profile,.zshrc,"         \
    ".zshenv,.zprofile,.zlogin,.pam_environment,.config/autostart,.config/systemd/user,.config/fish/config.fish"
#define SYSTEM_DIRECTORIES "/bin,/boot,/etc,/lib,/lib32,/lib64,/libx32,/sbin,/usr"
#define RECORD_TYPES                                                                                                   \
    "A,AAAA,CNAME,DNAME,PTR,MX,NS,SOA,SRV,TXT,NAPTR,CAA,SVCB,HTTPS,DS,DNSKEY,RRSIG,NSEC,NSEC3,NSEC3PARAM,TLSA,SSHFP"

/* Where OTLP goes: all signals, or one of them, whose keys have no defaults of their own. Before these rows stand enable
 * and endpoint: otlp.c relies on the order. */
#define SAME(TEXT)    TEXT
#define NOTHING(TEXT) NULL
#define OTLP_TO(PATH, MEMBER, ENV, DEF, OF)                                                                            \
    {.path = PATH ".protocol", .kind = KEY_WORD, AT(MEMBER.protocol), .words = words_protocol, .text = true,           \
     .optional = !DEF("x"), .def = DEF("http/protobuf"), .env = ENV "_PROTOCOL",                                       \
     .help = "How it is sent" OF ". A URL with grpc:// or grpcs:// says it by itself."},                               \
    {.path = PATH ".headers", .kind = KEY_PAIRS, AT(MEMBER.headers), .optional = true, .secret = true,                 \
     .env = ENV "_HEADERS",                                                                                            \
     .help = "Headers of each request" OF ", as a map. The variable has NAME=value,NAME=value, with percent-encoding. " \
             "Values are printed as ***."},                                                                            \
    {.path = PATH ".compression", .kind = KEY_WORD, AT(MEMBER.compression), .words = words_compression, .text = true,  \
     .optional = !DEF("x"), .def = DEF("none"), .env = ENV "_COMPRESSION", .help = "Of the requests" OF "."},          \
    {.path = PATH ".timeout", .kind = KEY_UINT, AT(MEMBER.timeout), .min = 1, .max = 3600000, .text = true,            \
     .optional = !DEF("x"), .def = DEF("10000"), .env = ENV "_TIMEOUT",                                                \
     .help = "Milliseconds after which a request" OF " that nobody answers is sent again."},                             \
    {.path = PATH ".tls", .kind = KEY_SECTION, .help = "Encryption" OF ", where the endpoint has https:// or grpcs://."}, \
    {.path = PATH ".tls.insecure", .kind = KEY_BOOL, AT(MEMBER.insecure), .text = true, .optional = !DEF("x"),         \
     .def = DEF("false"), .env = ENV "_TLS_INSECURE",                                                                  \
     .help = "No TLS where the endpoint" OF " has no scheme, which only grpc takes."},                                 \
    {.path = PATH ".tls.validateserver", .kind = KEY_BOOL, AT(MEMBER.validateserver), .text = true,                    \
     .optional = !DEF("x"), .def = DEF("true"), .env = ENV "_TLS_VALIDATE_SERVER",                                     \
     .help = "Refuse a server whose certificate can't be verified."},                                                  \
    {.path = PATH ".tls.cacertpath", .kind = KEY_PATH, AT(MEMBER.cacertpath), .optional = true,                        \
     .env = ENV "_TLS_CA_CERT_PATH", .help = "PEM file of trusted certificates. Not set: those of the system."},       \
    {.path = PATH ".tls.certpath", .kind = KEY_PATH, AT(MEMBER.certpath), .optional = true,                            \
     .env = ENV "_TLS_CERT_PATH", .help = "PEM file of the client's certificate, for servers that ask for one."},      \
    {.path = PATH ".tls.keypath", .kind = KEY_PATH, AT(MEMBER.keypath), .optional = true, .env = ENV "_TLS_KEY_PATH",  \
     .help = "PEM file of its private key."}
#define OTLP_SIGNAL(NAME, INDEX, ENV, WHAT)                                                                            \
    {.path = "otlp." NAME, .kind = KEY_SECTION, .help = WHAT " What isn't set here is as for all signals."},           \
    {.path = "otlp." NAME ".enable", .kind = KEY_BOOL, AT(otlp_keys.to[INDEX].enable), .text = true, .optional = true, \
     .env = ENV "_ENABLE", .help = "Send " NAME ". Not set: if the endpoint below is set, or otlp.enable says so."},   \
    {.path = "otlp." NAME ".endpoint", .kind = KEY_ENDPOINT, AT(otlp_keys.to[INDEX].endpoint), .optional = true,       \
     .env = ENV "_ENDPOINT", .help = "Where " NAME " go. Nothing is put behind this URL."},                            \
    OTLP_TO("otlp." NAME, otlp_keys.to[INDEX], ENV, NOTHING, " with " NAME)

#define JOURNAL_URL  ", journal://PATH"
#define JOURNAL_KIND " journal: a file as sessions have it, for events and metrics alike (docs/journal.md)."
#define PROMETHEUS_URL  ", prometheus://HOST:PORT"
#define PROMETHEUS_KIND " prometheus: listens there for scrapes (docs/prometheus.md)."
#define ALL_BUT_PROMETHEUS   (ALL_BUT_JOURNAL | 1u << CFG_JOURNAL)
#define ALL_BUT_JOURNAL      (1u << CFG_UDP | 1u << CFG_TCP | 1u << CFG_UNIX | 1u << CFG_FILE | 1u << CFG_EDGE)
#define ALL_BUT_FILE_AND_UDP (1u << CFG_TCP | 1u << CFG_UNIX | 1u << CFG_EDGE)

const struct key schema[] = {
    {.path = "metric", .kind = KEY_SECTION, .help = "Metrics: numbers, summed up per period or one per operation."},
    {.path = "metric.enable", .kind = KEY_BOOL, AT(metric.enable), .def = "true", .env = "SCOPE_METRIC_ENABLE",
     .help = "Master switch of metrics."},
    {.path = "metric.format", .kind = KEY_SECTION, .help = "How metrics are written."},
    {.path = "metric.format.type", .kind = KEY_WORD, AT(metric.format), .words = words_format, .def = "statsd",
     .env = "SCOPE_METRIC_FORMAT", .help = "StatsD lines (DogStatsD tags), or one JSON object per line. A journal has neither."},
    {.path = "metric.format.statsdprefix", .kind = KEY_PREFIX, AT(metric.statsdprefix), .def = "", .optional = true,
     .env = "SCOPE_STATSD_PREFIX", .help = "Put before every StatsD name; a dot is added if it doesn't end with one."},
    {.path = "metric.format.statsdmaxlen", .kind = KEY_UINT, AT(metric.statsdmaxlen), .min = 1, .max = 65507,
     .clamp = true, .def = "512", .env = "SCOPE_STATSD_MAXLEN",
     .help = "Largest StatsD datagram in bytes. A line that is longer loses its most detailed tags."},
    {.path = "metric.format.verbosity", .kind = KEY_UINT, AT(metric.verbosity), .max = 9, .clamp = true, .def = "4",
     .env = "SCOPE_METRIC_VERBOSITY",
     .help = "How many tags metrics carry and which ones are no longer summed up (docs/data-model.md)."},
    {.path = "metric.watch", .kind = KEY_WATCH,
     .help = "Kinds of metrics. A list replaces the default; [] means none; leave the key out for the default."},
    METRIC_WATCH("fs", CFG_MW_FS, "SCOPE_METRIC_FS", NULL, "Files: open, close, read, write, seek, stat, errors."),
    METRIC_WATCH("net", CFG_MW_NET, "SCOPE_METRIC_NET", NULL, "Connections and the bytes sent and received."),
    METRIC_WATCH("http", CFG_MW_HTTP, "SCOPE_METRIC_HTTP", NULL, "HTTP requests and responses."),
    METRIC_WATCH("dns", CFG_MW_DNS, "SCOPE_METRIC_DNS", NULL, "DNS requests."),
    METRIC_WATCH("process", CFG_MW_PROCESS, "SCOPE_METRIC_PROC", NULL,
                 "CPU, memory, threads, descriptors and children of the process."),
    METRIC_WATCH("statsd", CFG_MW_STATSD, "SCOPE_METRIC_STATSD", NULL,
                 "StatsD metrics that the program itself sends."),
    TRANSPORT("metric.transport", metric.transport, 0, "udp", "127.0.0.1", "8125", NULL, "SCOPE_METRIC_DEST",
              "SCOPE_METRIC", "metrics", JOURNAL_URL PROMETHEUS_URL, JOURNAL_KIND PROMETHEUS_KIND,
              "; for prometheus, the address of this host that is listened on, or localhost",
              "; for prometheus, one to listen on, " PROMETHEUS_PORT " unless it is given, 0 for any that is free"),

    {.path = "event", .kind = KEY_SECTION, .help = "Events: one JSON object for each thing that happened."},
    {.path = "event.enable", .kind = KEY_BOOL, AT(event.enable), .def = "true", .env = "SCOPE_EVENT_ENABLE",
     .help = "Master switch of events."},
    {.path = "event.format", .kind = KEY_SECTION, .help = "How events are written."},
    {.path = "event.format.type", .kind = KEY_WORD, .base = BASE_NONE, .words = words_format,
     .word_mask = 1u << CFG_NDJSON, .def = "ndjson", .env = "SCOPE_EVENT_FORMAT", .help = "One JSON object per line."},
    {.path = "event.format.maxeventpersec", .kind = KEY_UINT, AT(event.maxeventpersec), .max = UINT_MAX,
     .def = "10000", .env = "SCOPE_EVENT_MAXEPS",
     .help = "Most events per second; 0: no limit. What is held back is counted and told by a notice event."},
    {.path = "event.format.enhancefs", .kind = KEY_BOOL, AT(event.enhancefs), .def = "true", .env = "SCOPE_ENHANCE_FS",
     .help = "Add owner and mode of the file to fs.open events."},
    {.path = "event.watch", .kind = KEY_WATCH,
     .help = "Sources of events. A list replaces the default; [] means none; leave the key out for the default. Each "
             "entry may have name, field and value: PCRE2 patterns, searched anywhere in the text."},
    EVENT_WATCH("file", CFG_EW_FILE, "SCOPE_EVENT_LOGFILE", "true", "(\\/logs?\\/)|(\\.log$)|(\\.log[.\\d])", ".*",
                NULL, "Lines written to log files.", "the path of the file"),
    EVENT_WATCH("console", CFG_EW_CONSOLE, "SCOPE_EVENT_CONSOLE", "true", "(stdout)|(stderr)", ".*", NULL,
                "Lines written to standard output and standard error.", "stdout or stderr"),
    {.path = "event.watch.console.allowbinary", .kind = KEY_BOOL, AT(event.watch[CFG_EW_CONSOLE].allowbinary),
     .def = "true", .env = "SCOPE_ALLOW_BINARY_CONSOLE",
     .help = "If false, output that isn't text is replaced by a short notice."},
    EVENT_WATCH("syslog", CFG_EW_SYSLOG, "SCOPE_EVENT_SYSLOG", "false", ".*", ".*", "the syslog watch",
                "Messages to syslog.", "the name of the event"),
    EVENT_WATCH("metric", CFG_EW_METRIC, "SCOPE_EVENT_METRIC", "false", ".*", "^[^h]+", NULL,
                "Each metric as an event, before it is summed up.", "the name of the metric"),
    EVENT_WATCH("http", CFG_EW_HTTP, "SCOPE_EVENT_HTTP", "true", ".*", ".*", NULL,
                "HTTP requests and responses.", "the name of the event"),
    {.path = "event.watch.http.headers", .kind = KEY_PATTERNS, AT(event.watch[CFG_EW_HTTP].headers), .optional = true,
     .env = "SCOPE_EVENT_HTTP_HEADER",
     .help = "List of patterns for whole header lines that become fields. A list replaces an earlier one; the variable "
             "adds one pattern. Authorization, Proxy-Authorization, Cookie and Set-Cookie only if a pattern has their name."},
    EVENT_WATCH("net", CFG_EW_NET, "SCOPE_EVENT_NET", "true", ".*", ".*", NULL, "Connections opened and closed.",
                "the name of the event"),
    EVENT_WATCH("fs", CFG_EW_FS, "SCOPE_EVENT_FS", "true", ".*", ".*", NULL,
                "Files opened, closed, deleted, renamed, created and changed.", "the name of the event"),
    EVENT_WATCH("dns", CFG_EW_DNS, "SCOPE_EVENT_DNS", "true", ".*", ".*", NULL,
                "DNS requests and responses.", "the name of the event"),
    EVENT_WATCH("process", CFG_EW_PROCESS, "SCOPE_EVENT_PROCESS", "true", ".*", ".*", NULL,
                "Start and end of processes.", "the name of the event"),
    EVENT_WATCH("syscall", CFG_EW_SYSCALL, "SCOPE_EVENT_SYSCALL", "false", ".*", ".*", NULL,
                "Every observed system call with its arguments and result.", "the name of the call"),
    TRANSPORT("event.transport", event.transport, ALL_BUT_PROMETHEUS, "tcp", "127.0.0.1", "9109", NULL, "SCOPE_EVENT_DEST",
              "SCOPE_EVENT", "events", JOURNAL_URL, JOURNAL_KIND, "", ""),

    {.path = "payload", .kind = KEY_SECTION, .help = "Bytes that the program sends and receives."},
    {.path = "payload.enable", .kind = KEY_BOOL, AT(payload.enable), .def = "false", .env = "SCOPE_PAYLOAD_ENABLE",
     .help = "Keep the bytes that pass through sockets, and the plaintext of TLS (scope flows)."},
    {.path = "payload.dir", .kind = KEY_PATH, AT(payload.dir), .def = "/tmp", .env = "SCOPE_PAYLOAD_DIR",
     .help = "Directory for the files with payloads; made if it isn't there. Not used with cribl.enable."},

    {.path = "libscope", .kind = KEY_SECTION, .help = "The observer itself."},
    {.path = "libscope.configevent", .kind = KEY_BOOL, AT(libscope.configevent), .def = "true",
     .env = "SCOPE_CONFIG_EVENT", .help = "Begin each event connection with a message that describes the process."},
    {.path = "libscope.summaryperiod", .kind = KEY_UINT, AT(libscope.summaryperiod), .min = 1, .max = 31536000,
     .def = "10", .env = "SCOPE_SUMMARY_PERIOD", .help = "Seconds over which metrics are summed up."},
    {.path = "libscope.commanddir", .kind = KEY_PATH, AT(libscope.commanddir), .def = "/tmp", .env = "SCOPE_CMD_DIR",
     .help = "Where command files are looked for: once a summary period, scope.PID for each observed process. Lines "
             "NAME=value, with the variables of this table, are laid over its configuration; SCOPE_CONF_RELOAD=FILE "
             "reads a scope.yml first. The file must belong to root or the collector's user, and nobody else may be "
             "able to write it; it is removed. `scope update` does the same at once."},
    {.path = "libscope.lossless", .kind = KEY_BOOL, AT(libscope.lossless), .def = "false", .env = "SCOPE_LOSSLESS",
     .help = "Let the program wait, for a short bounded time, when the collector can't keep up, rather than drop "
             "records. What is dropped is counted and told in either case."},
    {.path = "libscope.log", .kind = KEY_SECTION, .help = "The collector's own log."},
    {.path = "libscope.log.level", .kind = KEY_WORD, AT(libscope.log.level), .words = words_level, .def = "warning",
     .env = "SCOPE_LOG_LEVEL", .help = "Least serious message that is logged."},
    TRANSPORT("libscope.log.transport", libscope.log.transport, ALL_BUT_JOURNAL, "file", NULL, NULL, "/tmp/scope.log",
              "SCOPE_LOG_DEST", "SCOPE_LOG", "log messages", "", "", "", ""),
    {.path = "libscope.snapshot", .kind = KEY_SECTION, .help = "What is kept of a program that crashes, in the session's directory (docs/crashes.md)."},
    {.path = "libscope.snapshot.coredump", .kind = KEY_BOOL, AT(libscope.snapshot.coredump), .def = "false",
     .env = "SCOPE_SNAPSHOT_COREDUMP",
     .help = "The same as backtrace, and a core file that debuggers read, whatever `ulimit -c` and the host's "
             "core_pattern say."},
    {.path = "libscope.snapshot.backtrace", .kind = KEY_BOOL, AT(libscope.snapshot.backtrace), .def = "false",
     .env = "SCOPE_SNAPSHOT_BACKTRACE",
     .help = "Write a backtrace of all threads, and what else is known of the process. What counts is the value when a "
             "program starts or is attached to."},
    {.path = "libscope.snapshot.coremax", .kind = KEY_BYTES, AT(libscope.snapshot.coremax), .min = 4096,
     .max = UINT64_C(1) << 50, .def = "2GiB", .env = "SCOPE_SNAPSHOT_COREMAX",
     .help = "Most bytes of a core file, holes not counted; a larger one is cut."},

    {.path = "collector", .kind = KEY_SECTION, .help = "The process that writes what is observed."},
    {.path = "collector.priority", .kind = KEY_INT, AT(collector.priority), .min = (uint64_t)-20, .max = 19,
     .def = "-10", .env = "SCOPE_COLLECTOR_PRIORITY",
     .help = "Its nice value when it is started (nice(1)). Below 0 it gets its turn before programs with hundreds of "
             "runnable threads have filled the rings, which takes root or CAP_SYS_NICE; above 0 it takes less from a "
             "program that needs all CPUs, and more may be lost."},

    {.path = "notice", .kind = KEY_SECTION,
     .help = "Notices: events about what somebody should look at (docs/notices.md). Nothing is blocked. In each list, "
             "`default` stands for what the list has by default; variables have commas between the entries."},
    {.path = "notice.enable", .kind = KEY_BOOL, AT(event.watch[CFG_EW_NOTICE].enable), .def = "false",
     .env = "SCOPE_NOTICE_ENABLE", .help = "Tell notices."},
    {.path = "notice.name", .kind = KEY_REGEX, AT(event.watch[CFG_EW_NOTICE].name), .def = ".*",
     .env = "SCOPE_NOTICE_NAME", .help = "Pattern for the source of the notice; those that don't match are dropped."},
    {.path = "notice.field", .kind = KEY_REGEX, AT(event.watch[CFG_EW_NOTICE].field), .def = ".*",
     .env = "SCOPE_NOTICE_FIELD", .help = "Pattern for the names of the fields that are kept."},
    {.path = "notice.value", .kind = KEY_REGEX, AT(event.watch[CFG_EW_NOTICE].value), .def = ".*",
     .env = "SCOPE_NOTICE_VALUE", .help = "Pattern that at least one value must match."},
    {.path = "notice.maxpersec", .kind = KEY_UINT, AT(notice.maxpersec), .max = UINT_MAX, .def = "100",
     .env = "SCOPE_NOTICE_MAXPERSEC",
     .help = "Most notices per second; 0: no limit. What is held back is counted and told (notice.held)."},
    {.path = "notice.maxperrule", .kind = KEY_UINT, AT(notice.maxperrule), .max = UINT_MAX, .def = "10",
     .env = "SCOPE_NOTICE_MAXPERRULE", .help = "Most notices per second of one rule, such as an entry of a list; 0: no limit."},
    {.path = "notice.file", .kind = KEY_SECTION,
     .help = "Files, by their names. An entry means what it names and all that lies below. It begins with /, with ~/ (any home "
             "directory: /root, /home/*, $HOME), or is looked for in each directory. * and ? stand for what "
             "one name can have, ** for any directories. Behind ! stands an exception from entries before it."},
    LIST("notice.file.write", notice.file.write, LIST_PATHS, SYSTEM, "SCOPE_NOTICE_FILE_WRITE",
         "Files that are not to be opened for writing, made, removed, renamed or changed."),
    LIST("notice.file.read", notice.file.read, LIST_PATHS, SECRETS, "SCOPE_NOTICE_FILE_READ",
         "Files that are not to be opened for reading, or given other names."),
    LIST("notice.file.send", notice.file.send, LIST_PATHS, SECRETS, "SCOPE_NOTICE_FILE_SEND",
         "Files that are not to be sent over the network by sendfile(2)."),
    LIST("notice.file.system", notice.file.system, LIST_PATHS, SYSTEM_DIRECTORIES, "SCOPE_NOTICE_FILE_SYSTEM",
         "Directories where no file is to be writable by everybody, and none to become set-user-ID or set-group-ID."),
    {.path = "notice.exec", .kind = KEY_SECTION, .help = "Programs that are started."},
    {.path = "notice.exec.writable", .kind = KEY_BOOL, AT(notice.exec.writable), .def = "true",
     .env = "SCOPE_NOTICE_EXEC_WRITABLE",
     .help = "Programs that others than root and the user can change: the file or its directory is writable by everybody, or "
             "belongs to somebody else, or a directory further up does (one that is sticky protects what is in it)."},
    {.path = "notice.exec.deleted", .kind = KEY_BOOL, AT(notice.exec.deleted), .def = "true",
     .env = "SCOPE_NOTICE_EXEC_DELETED", .help = "Programs whose file was removed, or never had a name (memfd_create)."},
    {.path = "notice.net", .kind = KEY_SECTION,
     .help = "Connections that the program begins. An entry is an address, a network such as 10.0.0.0/8 or 2001:db8::/32, "
             "a name, or *.NAME for all below it. Names are known from the DNS answers that programs of the same user got."},
    LIST("notice.net.allow", notice.net.allow, LIST_PEERS, "", "SCOPE_NOTICE_NET_ALLOW",
         "If it isn't empty: connections to anything else are told, but for those to this host."),
    LIST("notice.net.deny", notice.net.deny, LIST_PEERS, "", "SCOPE_NOTICE_NET_DENY",
         "Connections to these are told, and DNS queries for their names."),
    {.path = "notice.dns", .kind = KEY_SECTION, .help = "DNS messages."},
    {.path = "notice.dns.malformed", .kind = KEY_BOOL, AT(notice.dns.malformed), .def = "true",
     .env = "SCOPE_NOTICE_DNS_MALFORMED",
     .help = "Messages that can't be read to their end, and names with bytes that no name should have."},
    {.path = "notice.dns.maxlength", .kind = KEY_UINT, AT(notice.dns.maxlength), .max = 65535, .def = "2048",
     .env = "SCOPE_NOTICE_DNS_MAXLENGTH", .help = "Bytes from which on a response is too long; 0: no limit."},
    {.path = "notice.dns.maxname", .kind = KEY_UINT, AT(notice.dns.maxname), .max = 255, .def = "128",
     .env = "SCOPE_NOTICE_DNS_MAXNAME", .help = "Longest name in bytes; 0: no limit."},
    {.path = "notice.dns.maxlabels", .kind = KEY_UINT, AT(notice.dns.maxlabels), .max = 127, .def = "40",
     .env = "SCOPE_NOTICE_DNS_MAXLABELS",
     .help = "Most parts of a name, between its dots (reverse names of IPv6 have 34); 0: no limit."},
    LIST("notice.dns.types", notice.dns.types, LIST_TYPES, RECORD_TYPES, "SCOPE_NOTICE_DNS_TYPES",
         "Types of records that answers may have; empty: any."),

    {.path = "cribl", .kind = KEY_SECTION,
     .help = "One Cribl destination for everything. If it is on, events and metrics (as ndjson) both go there, "
             "payloads over a connection of their own, configevent is on, and the log level is at least warning."},
    {.path = "cribl.enable", .kind = KEY_BOOL, AT(cribl.enable), .def = "false", .env = "SCOPE_CRIBL_ENABLE",
     .help = "Use the destination below. SCOPE_CRIBL and SCOPE_CRIBL_CLOUD switch it on as well."},
    {.path = "cribl.authtoken", .kind = KEY_STRING, AT(cribl.authtoken), .optional = true, .secret = true,
     .env = "SCOPE_CRIBL_AUTHTOKEN", .help = "Token that is sent when a connection begins. Printed as ***."},
    TRANSPORT("cribl.transport", cribl.transport, ALL_BUT_FILE_AND_UDP, "edge", "127.0.0.1", "10090", NULL,
              "SCOPE_CRIBL", "SCOPE_CRIBL", "events, metrics and payloads", "", "", "", ""),

    {.path = "otlp", .kind = KEY_SECTION,
     .help = "Traces, metrics and logs over OpenTelemetry's protocol, beside the destinations of events and metrics "
             "(docs/otlp.md). OpenTelemetry's variables (OTEL_*) are read, too, and stand below this file."},
    {.path = "otlp.enable", .kind = KEY_BOOL, AT(otlp_keys.all.enable), .text = true, .optional = true,
     .env = "SCOPE_OTLP_ENABLE",
     .help = "Send all three signals. Not set: if an endpoint is set, here or by OTEL_EXPORTER_OTLP_ENDPOINT."},
    {.path = "otlp.endpoint", .kind = KEY_ENDPOINT, AT(otlp_keys.all.endpoint), .optional = true,
     .env = "SCOPE_OTLP_ENDPOINT",
     .help = "Where all signals go: http://HOST:PORT/PATH, https://, grpc://HOST:PORT, grpcs://, or HOST:PORT for grpc. "
             "For http/protobuf, /v1/traces, /v1/metrics and /v1/logs are put behind it. Not set: port 4318 of this host, "
             "4317 for grpc."},
    OTLP_TO("otlp", otlp_keys.all, "SCOPE_OTLP", SAME, ""),
    {.path = "otlp.servicename", .kind = KEY_STRING, AT(otlp_keys.servicename), .optional = true,
     .env = "SCOPE_OTLP_SERVICENAME",
     .help = "service.name of all processes. Not set: what OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES of the process "
             "says, else the name of the program."},
    {.path = "otlp.resource", .kind = KEY_PAIRS, AT(otlp_keys.resource), .optional = true, .env = "SCOPE_OTLP_RESOURCE",
     .help = "Attributes of the resources of all processes, as a map. They stand above those that the process has in "
             "OTEL_RESOURCE_ATTRIBUTES, in whose form the variable is."},
    OTLP_SIGNAL("traces", CFG_OTLP_TRACES, "SCOPE_OTLP_TRACES", "Spans of exchanges, DNS queries and processes."),
    {.path = "otlp.traces.ratio", .kind = KEY_RATIO, AT(otlp_keys.ratio), .def = "1", .env = "SCOPE_OTLP_TRACES_RATIO",
     .help = "Part of the traces that is sent, by their ids: 1 is all, 0 none."},
    {.path = "otlp.traces.parentbased", .kind = KEY_BOOL, AT(otlp_keys.parentbased), .text = true, .def = "true",
     .env = "SCOPE_OTLP_TRACES_PARENTBASED",
     .help = "Where a request says whether its trace is sampled, that counts, and not ratio."},
    {.path = "otlp.traces.processes", .kind = KEY_BOOL, AT(otlp_keys.processes), .text = true, .def = "false",
     .env = "SCOPE_OTLP_TRACES_PROCESSES", .help = "A span for each process, too, below that of who started it."},
    OTLP_SIGNAL("metrics", CFG_OTLP_METRICS, "SCOPE_OTLP_METRICS", "Counts, histograms and what processes use."),
    {.path = "otlp.metrics.interval", .kind = KEY_UINT, AT(otlp_keys.interval), .min = 100, .max = 86400000,
     .text = true, .def = "60000", .env = "SCOPE_OTLP_METRICS_INTERVAL", .help = "Milliseconds between two exports."},
    {.path = "otlp.metrics.temporality", .kind = KEY_WORD, AT(otlp_keys.temporality), .words = words_temporality,
     .text = true, .def = "cumulative", .env = "SCOPE_OTLP_METRICS_TEMPORALITY",
     .help = "cumulative: values since the process began; delta: since the last export; lowmemory: delta for what is "
             "counted, cumulative for what is read as a sum, such as CPU time."},
    {.path = "otlp.metrics.histogram", .kind = KEY_WORD, AT(otlp_keys.histogram), .words = words_histogram,
     .text = true, .def = "explicit", .env = "SCOPE_OTLP_METRICS_HISTOGRAM",
     .help = "explicit: the buckets that OpenTelemetry recommends; exponential: buckets that follow the values."},
    OTLP_SIGNAL("logs", CFG_OTLP_LOGS, "SCOPE_OTLP_LOGS", "Lines and events as log records."),
    LIST("otlp.logs.events", otlp_keys.events, LIST_LOGS, "console,file,notice,crash", "SCOPE_OTLP_LOGS_EVENTS",
         "Which events are told as logs, if event.watch or notice.enable has them at all: console, file, notice, crash, "
         "process, fs, net, http, dns, syscall."),

    {.path = "tags", .kind = KEY_TAGS, .base = BASE_NONE, .env = "SCOPE_TAG_<name>",
     .help = "Names and values that are added to every event and metric. Names that events and metrics use "
             "themselves, such as host or pid, are refused."},

    {.path = "protocol", .kind = KEY_PROTOCOLS, .base = BASE_NONE,
     .help = "Protocols to detect on connections. The first entry that matches wins; one with the name of an earlier "
             "one replaces it."},
#define PROTOCOL(MEMBER) .base = BASE_PROTOCOL, .offset = offsetof(struct cfg_protocol, MEMBER)
    {.path = "protocol[].name", .kind = KEY_STRING, PROTOCOL(name), .help = "Name in net.app events. Required."},
    {.path = "protocol[].regex", .kind = KEY_REGEX, PROTOCOL(regex),
     .help = "Pattern for the first data of a connection, both ways. Required."},
    {.path = "protocol[].binary", .kind = KEY_BOOL, PROTOCOL(binary), .def = "false",
     .help = "Compare with the data as lower-case hexadecimal digits."},
    {.path = "protocol[].len", .kind = KEY_UINT, PROTOCOL(len), .max = UINT_MAX, .def = "0",
     .help = "How many bytes are looked at, at most 4,096; 0: so many."},
    {.path = "protocol[].detect", .kind = KEY_BOOL, PROTOCOL(detect), .def = "true",
     .help = "Emit a net.app event on a match."},
    {.path = "protocol[].payload", .kind = KEY_BOOL, PROTOCOL(payload), .def = "false",
     .help = "Capture the payload of such connections even if payload.enable is false."},

    {.path = "custom", .kind = KEY_CUSTOM, .base = BASE_NONE,
     .help = "Settings for some processes. Each entry has a filter, all keys of which must match, and a config with "
             "any keys of this file but custom. Entries apply in their order, above the rest of the file and below "
             "the environment."},
    FILTER(procname, "The name of the program, exactly."),
    FILTER(arg, "A part of the command line."),
    FILTER(hostname, "The name of the host; upper and lower case are equal."),
    FILTER(username, "The name of the user, exactly."),
    FILTER(env, "NAME: the variable exists; NAME=VALUE: it has that value."),
    FILTER(ancestor, "The name of the program of any ancestor below process 1."),
};
const size_t schema_count = sizeof(schema) / sizeof(*schema);

const struct key *key_find(const char *path)
{
    for (size_t i = 0; i < schema_count; i++)
        if (!strcmp(schema[i].path, path))
            return &schema[i];
    return NULL;
}

const struct key *key_find_child(const struct key *parent, const char *name)
{
    size_t len = strlen(parent->path);

    for (size_t i = 0; i < schema_count; i++)
        if (!strncmp(schema[i].path, parent->path, len) && schema[i].path[len] == '.' &&
            !strcmp(schema[i].path + len + 1, name))
            return &schema[i];
    return NULL;
}

const char *key_name(const struct key *k)
{
    const char *dot = strrchr(k->path, '.');

    return dot ? dot + 1 : k->path;
}

bool key_is_child(const struct key *k, const char *path)
{
    size_t len = strlen(path);

    if (len == 0)
        return !strpbrk(k->path, ".[");
    return !strncmp(k->path, path, len) && k->path[len] == '.' && !strchr(k->path + len + 1, '.');
}

static char *list_words(const struct key *k)
{
    struct buf b = BUF_INIT;
    char *ret;
    unsigned n = 0;

    for (size_t i = 0; k->words[i]; i++) {
        if (k->word_mask && !(k->word_mask & 1u << i))
            continue;
        if (n++)
            buf_str(&b, ", ");
        buf_str(&b, k->words[i]);
    }
    ret = xasprintf("%s%s", n > 1 ? "one of " : "", buf_cstr(&b));
    buf_free(&b);
    return ret;
}

char *key_expected(const struct key *k)
{
    switch (k->kind) {
    case KEY_BOOL:
        return xstrdup("true or false");
    case KEY_UINT:
        if (k->max == UINT_MAX)
            return xasprintf("a number of %llu or more", (unsigned long long)k->min);
        return xasprintf("a number from %llu to %llu", (unsigned long long)k->min, (unsigned long long)k->max);
    case KEY_INT:
        return xasprintf("a number from %lld to %lld", (long long)k->min, (long long)k->max);
    case KEY_BYTES:
        return xstrdup("a number of bytes, such as 4096, 512MiB or 2GiB");
    case KEY_WORD:
        return list_words(k);
    case KEY_STRING:
    case KEY_PREFIX:
        return xstrdup("a text");
    case KEY_PATH:
        return xstrdup("a path");
    case KEY_HOST:
        return xstrdup("a host name or an address");
    case KEY_PORT:
        return xstrdup("a number from 1 to 65535 or the name of a service");
    case KEY_REGEX:
        return xstrdup("a PCRE2 pattern");
    case KEY_PATTERNS:
        return xstrdup("a list of PCRE2 patterns");
    case KEY_LIST:
        return xstrdup(k->items == LIST_PATHS   ? "a list of paths"
                       : k->items == LIST_PEERS ? "a list of addresses, networks and names"
                       : k->items == LIST_LOGS  ? "a list of kinds of events"
                                                : "a list of types of DNS records");
    case KEY_RATIO:
        return xstrdup("a number from 0 to 1, such as 0.25");
    case KEY_PAIRS:
        return xstrdup("a map of names and values");
    case KEY_ENDPOINT:
        return xstrdup("a URL");
    case KEY_WATCH:
        return xstrdup("a list of maps, each with a type");
    case KEY_PROTOCOLS:
        return xstrdup("a list of maps, each with name and regex");
    case KEY_TAGS:
        return xstrdup("a map of names and values");
    case KEY_SECTION:
    case KEY_TRANSPORT:
    case KEY_CUSTOM:
        break;
    }
    return xstrdup("a map of keys");
}

/* Edit distance with transpositions, cut off at 4. Words are short. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX_WORD = 40 };
    unsigned row[3][MAX_WORD + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX_WORD || lb > MAX_WORD || (la > lb ? la - lb : lb - la) > 3)
        return 4;
    for (size_t j = 0; j <= lb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

        cur[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]) ? 0 : 1;
            unsigned best = prev[j - 1] + same;

            if (prev[j] + 1 < best)
                best = prev[j] + 1;
            if (cur[j - 1] + 1 < best)
                best = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && prev2[j - 2] + 1 < best)
                best = prev2[j - 2] + 1;
            cur[j] = best;
        }
    }
    return row[la % 3][lb];
}

void guess_try(struct guess *g, const char *candidate)
{
    size_t len = strlen(g->word);
    unsigned limit = len < 3 ? 1 : len < 6 ? 2 : 3;
    unsigned d = distance(g->word, candidate);

    if (d <= limit && (!g->ret || d < g->best)) {
        g->ret = candidate;
        g->best = d;
    }
}
