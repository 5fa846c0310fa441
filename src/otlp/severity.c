/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/severity.h"

#include <string.h>
#include <strings.h>

#define HEAD_MAX   256u  /* bytes of a line in which its level must be stated */
#define JSON_MAX   4096u /* ... of a JSON object */
#define TOKENS_MAX 12u   /* words in front of it */

/* --- names of levels; numbers as the log data model has them for syslog and others (specification/logs/data-model-appendix.md) --- */

enum { ANY_CASE, UPPER, LOWER };
static const struct level {
    const char *name;
    uint8_t len, number, as; /* as: the only way it is written in logs */
} levels[] = {
#define LEVEL(name, number, as) {name, sizeof(name) - 1, number, as}
    LEVEL("info", OTLP_INFO, ANY_CASE),           LEVEL("error", OTLP_ERROR, ANY_CASE),
    LEVEL("warn", OTLP_WARN, ANY_CASE),           LEVEL("warning", OTLP_WARN, ANY_CASE),
    LEVEL("debug", OTLP_DEBUG, ANY_CASE),         LEVEL("trace", OTLP_TRACE, ANY_CASE),
    LEVEL("verbose", OTLP_TRACE, ANY_CASE),       LEVEL("information", OTLP_INFO, ANY_CASE),
    LEVEL("informational", OTLP_INFO, ANY_CASE),  LEVEL("notice", OTLP_INFO2, ANY_CASE),
    LEVEL("err", OTLP_ERROR, ANY_CASE),           LEVEL("severe", OTLP_ERROR, ANY_CASE),
    LEVEL("critical", OTLP_ERROR2, ANY_CASE),     LEVEL("crit", OTLP_ERROR2, ANY_CASE),
    LEVEL("alert", OTLP_ERROR3, ANY_CASE),        LEVEL("fatal", OTLP_FATAL, ANY_CASE),
    LEVEL("emerg", OTLP_FATAL, ANY_CASE),         LEVEL("emergency", OTLP_FATAL, ANY_CASE),
    LEVEL("panic", OTLP_FATAL, ANY_CASE),         LEVEL("inf", OTLP_INFO, UPPER),
    LEVEL("wrn", OTLP_WARN, UPPER),               LEVEL("dbg", OTLP_DEBUG, UPPER),
    LEVEL("trc", OTLP_TRACE, UPPER),              LEVEL("vrb", OTLP_TRACE, UPPER),
    LEVEL("ftl", OTLP_FATAL, UPPER),              LEVEL("trce", OTLP_TRACE, LOWER),
    LEVEL("dbug", OTLP_DEBUG, LOWER),             LEVEL("fail", OTLP_ERROR, LOWER),
#undef LEVEL
};

/* What characters may be part of. */
enum { LETTER = 1, DIGIT = 2, BLANK = 4, STAMP = 8, KEY = 16, SEPARATOR = 32, NEXT = 64 /* ends a word */ };
static const uint8_t classes[256] = {
    ['a' ... 'z'] = LETTER, ['A' ... 'S'] = LETTER, ['U' ... 'Y'] = LETTER, ['T'] = LETTER | STAMP, ['Z'] = LETTER | STAMP,
    ['0' ... '9'] = DIGIT | STAMP, [' '] = BLANK | NEXT, ['\t'] = BLANK | NEXT, ['|'] = NEXT, ['['] = NEXT, [0x1b] = NEXT,
    ['-'] = STAMP | KEY | SEPARATOR, [':'] = STAMP | SEPARATOR, ['+'] = STAMP, ['.'] = STAMP | KEY, [','] = STAMP,
    ['/'] = STAMP | KEY, ['#'] = STAMP, ['_'] = STAMP | KEY, ['@'] = KEY,
};

static bool is(char c, unsigned class) { return classes[(unsigned char)c] & class; }
static bool letter(char c) { return is(c, LETTER); }
static bool digit(char c) { return is(c, DIGIT); }
static bool blank(char c) { return is(c, BLANK); }

/* Number of letters that are upper case. */
static size_t upper(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += s[i] >= 'A' && s[i] <= 'Z';
    return n;
}

static const struct level *level_of(const char *s, size_t len)
{
    if (len < 3 || len > 13)
        return NULL;
    for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
        const struct level *l = &levels[i];

        if (l->len == len && (s[0] | 32) == l->name[0] && strncasecmp(s, l->name, len) == 0)
            return l->as == ANY_CASE || upper(s, len) == (l->as == UPPER ? len : 0) ? l : NULL;
    }
    return NULL;
}

struct line {
    const char *s;
    size_t len;
    unsigned *number;
    struct tm_str *text;
};

static bool found(const struct line *l, const struct level *level, const char *s, size_t len)
{
    if (!level)
        return false;
    *l->number = level->number;
    *l->text = (struct tm_str){s, len};
    return true;
}

static bool named(const struct line *l, unsigned number, const char *name)
{
    *l->number = number;
    *l->text = (struct tm_str){name, strlen(name)};
    return true;
}

/* --- "level": "info" and level=info --- */

static bool level_key(const char *s, size_t len)
{
    static const char *const keys[] = {"level", "severity", "lvl", "loglevel", "log_level", "log.level", "levelname",
                                       "severity_text", "severityText", "@l"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (strlen(keys[i]) == len && strncasecmp(keys[i], s, len) == 0)
            return true;
    return false;
}

/* Behind the string whose quote stands at i; l->len + 1 if it doesn't end. */
static size_t string_end(const struct line *l, size_t i)
{
    for (i++; i < l->len; i++) {
        if (l->s[i] == '"')
            return i + 1;
        if (l->s[i] == '\\')
            i++;
    }
    return l->len + 1;
}

static size_t json_blanks(const struct line *l, size_t i)
{
    while (i < l->len && (blank(l->s[i]) || l->s[i] == '\r'))
        i++;
    return i;
}

/* Behind the value that begins at i: at the comma or bracket that ends it. */
static size_t json_value_end(const struct line *l, size_t i)
{
    unsigned depth = 0;

    while (i < l->len) {
        char c = l->s[i];

        if (c == '"') {
            i = string_end(l, i);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}'))
            break;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        i++;
    }
    return i;
}

/* Of bunyan and pino. */
static bool numeric(const struct line *l, const char *s, size_t len)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error", "fatal"};

    if (len != 2 || s[0] < '1' || s[0] > '6' || s[1] != '0')
        return false;
    return named(l, OTLP_TRACE + 4 * (unsigned)(s[0] - '1'), names[s[0] - '1']);
}

/* A member of the object itself, not of one in it. */
static bool json(const struct line *l, size_t i)
{
    for (i = json_blanks(l, i + 1); i < l->len && l->s[i] == '"'; i = json_blanks(l, i + 1)) {
        size_t key = i + 1, key_end = string_end(l, i), end;

        if (key_end > l->len)
            return false;
        i = json_blanks(l, key_end);
        if (i >= l->len || l->s[i] != ':')
            return false;
        i = json_blanks(l, i + 1);
        end = json_value_end(l, i);
        if (end >= l->len)
            return false;
        if (level_key(l->s + key, key_end - 1 - key)) {
            size_t n = end - i;

            while (n && (blank(l->s[i + n - 1]) || l->s[i + n - 1] == '\r'))
                n--;
            if (n > 2 && l->s[i] == '"' ? found(l, level_of(l->s + i + 1, n - 2), l->s + i + 1, n - 2)
                                        : numeric(l, l->s + i, n))
                return true;
        }
        i = end;
        if (l->s[i] != ',')
            return false;
    }
    return false;
}

static bool stamp(const char *s, size_t len);

/* All words up to the level's must be NAME=VALUE, too, or a time. */
static bool logfmt(const struct line *l, size_t i)
{
    for (unsigned n = 0; n < TOKENS_MAX && i < l->len; n++) {
        size_t key = i, key_end, value, end;

        while (i < l->len && is(l->s[i], LETTER | DIGIT | KEY))
            i++;
        key_end = i;
        if (i > key && i < l->len && l->s[i] == '=') {
            value = i + 1;
            if (value < l->len && l->s[value] == '"') {
                i = string_end(l, value);
                if (i > l->len)
                    return false;
                value++;
                end = i - 1;
            } else {
                for (i = value; i < l->len && !blank(l->s[i]) && l->s[i] != '"'; i++)
                    ;
                end = i;
            }
            if (i < l->len && !blank(l->s[i]))
                return false;
            if (level_key(l->s + key, key_end - key))
                return found(l, level_of(l->s + value, end - value), l->s + value, end - value);
        } else {
            while (i < l->len && !blank(l->s[i]))
                i++;
            if (!stamp(l->s + key, i - key))
                return false;
        }
        while (i < l->len && blank(l->s[i]))
            i++;
    }
    return false;
}

/* --- <PRI> of syslog (RFC 5424) and sd-daemon(3) --- */

static bool syslog_priority(const struct line *l, size_t i)
{
    static const struct {
        uint8_t number;
        const char *name;
    } severity[] = {{OTLP_FATAL, "emerg"}, {OTLP_ERROR3, "alert"}, {OTLP_ERROR2, "crit"}, {OTLP_ERROR, "err"},
                    {OTLP_WARN, "warning"}, {OTLP_INFO2, "notice"}, {OTLP_INFO, "info"}, {OTLP_DEBUG, "debug"}};
    unsigned n = 0, digits = 0;

    for (i++; i < l->len && digit(l->s[i]) && digits < 4; i++, digits++)
        n = n * 10 + (unsigned)(l->s[i] - '0');
    if (!digits || i >= l->len || l->s[i] != '>' || n > 191 || (l->s[i - digits] == '0' && digits > 1))
        return false;
    return named(l, severity[n & 7].number, severity[n & 7].name);
}

/* --- E0102 15:04:05.000000 of glog and klog --- */

static bool glog(const struct line *l, size_t i)
{
    static const char shape[] = "?dddd dd:dd:dd";
    static const char letters[] = "DIWEF";
    static const struct {
        uint8_t number;
        const char *name;
    } is[] = {{OTLP_DEBUG, "DEBUG"}, {OTLP_INFO, "INFO"}, {OTLP_WARN, "WARNING"}, {OTLP_ERROR, "ERROR"}, {OTLP_FATAL, "FATAL"}};
    const char *at, *s = l->s + i;
    unsigned month, day;

    if (l->len - i < sizeof(shape) - 1 || !(at = memchr(letters, s[0], sizeof(letters) - 1)))
        return false;
    for (size_t k = 1; k < sizeof(shape) - 1; k++)
        if (shape[k] == 'd' ? !digit(s[k]) : s[k] != shape[k])
            return false;
    month = (unsigned)(s[1] - '0') * 10 + (unsigned)(s[2] - '0');
    day = (unsigned)(s[3] - '0') * 10 + (unsigned)(s[4] - '0');
    if (month < 1 || month > 12 || day < 1 || day > 31)
        return false;
    return named(l, is[at - letters].number, is[at - letters].name);
}

/* --- a word at the beginning --- */

/* Part of a date or a time, or a number: of a process, a thread, a line. */
static bool stamp(const char *s, size_t len)
{
    static const char words[][4] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May",
                                    "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "UTC", "GMT", "CET", "EST", "PST"};
    bool any = false;

    if (len && s[len - 1] == ',')
        len--;
    for (size_t i = 0; len == 3 && letter(s[0]) && i < sizeof(words) / sizeof(*words); i++)
        if (memcmp(s, words[i], 3) == 0)
            return true;
    if (len >= 2 && s[len - 1] == 'M' && (s[len - 2] == 'A' || s[len - 2] == 'P')) {
        len -= 2;
        any = len == 0;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is(s[i], STAMP))
            return false;
        any = any || digit(s[i]);
    }
    return any;
}

static bool separator(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is(s[i], SEPARATOR))
            return false;
    return true;
}

/* Behind the colour that a terminal would show, if one begins at i. */
static size_t colour(const struct line *l, size_t i)
{
    size_t k = i + 2;

    if (k >= l->len || l->s[i] != 0x1b || l->s[i + 1] != '[')
        return i;
    while (k < l->len && (digit(l->s[k]) || l->s[k] == ';'))
        k++;
    return k < l->len && l->s[k] == 'm' ? k + 1 : i;
}

/* Behind blanks, bars and colours. *ret_apart: there was more than blanks, or the line ends. */
static size_t gap(const struct line *l, size_t i, bool *ret_apart)
{
    *ret_apart = false;
    for (size_t next; i < l->len; i = next) {
        next = blank(l->s[i]) || l->s[i] == '|' ? i + 1 : colour(l, i);
        if (next == i)
            return i;
        *ret_apart = *ret_apart || l->s[i] != ' ';
    }
    *ret_apart = true;
    return i;
}

static size_t word_end(const struct line *l, size_t i)
{
    while (i < l->len && letter(l->s[i]))
        i++;
    return i;
}

static size_t token_end(const struct line *l, size_t i)
{
    while (i < l->len && !is(l->s[i], NEXT))
        i++;
    return i;
}

/* [error], [core:error], [2026-01-02T03:04:05Z ERROR module]: what begins at i, up to its bracket. */
static bool in_brackets(const struct line *l, size_t i, size_t end)
{
    const struct line in = {l->s, end, l->number, l->text};
    bool behind = false, apart;
    size_t to, rest;

    for (i = gap(&in, i, &apart); i < end && stamp(l->s + i, token_end(&in, i) - i); i = gap(&in, token_end(&in, i), &apart))
        behind = true;
    for (to = i; to < end && (letter(l->s[to]) || digit(l->s[to]) || l->s[to] == '_' || l->s[to] == '-'); to++)
        ;
    if (to > i && to < end && l->s[to] == ':') { /* a module of Apache's */
        i = to + 1;
        to = word_end(&in, i);
        return to == end && found(l, level_of(l->s + i, to - i), l->s + i, to - i);
    }
    to = word_end(&in, i);
    rest = gap(&in, to, &apart);
    if (rest < end && !(behind && rest > to && upper(l->s + i, to - i) == to - i))
        return false;
    return found(l, level_of(l->s + i, to - i), l->s + i, to - i);
}

static bool at_head(const struct line *l, size_t i)
{
    static const char ruby_letters[] = {'D', 'I', 'W', 'E', 'F', 'A'};
    bool behind = false, separated = false; /* something that logs begin with; its last part was a separator */

    for (unsigned n = 0; n < TOKENS_MAX; n++) {
        bool apart, apart_behind;
        const struct level *level;
        size_t word, end, next;

        i = gap(l, i, &apart);
        if (i >= l->len)
            return false;
        if (l->s[i] == '[' || l->s[i] == '(') {
            const char *close = memchr(l->s + i, l->s[i] == '[' ? ']' : ')', l->len - i);

            if (!close)
                return false;
            if (in_brackets(l, i + 1, (size_t)(close - l->s)))
                return true;
            i = (size_t)(close - l->s) + 1;
            i += i < l->len && l->s[i] == ':';
            behind = true;
            separated = false;
            continue;
        }
        word = word_end(l, i);
        end = token_end(l, i);
        if (end == i)
            return false;
        next = gap(l, end, &apart_behind);
        level = level_of(l->s + i, word - i);
        if (level) {
            size_t colon = colour(l, word);
            bool capital = upper(l->s + i, word - i) == word - i;

            if ((colon < l->len && l->s[colon] == ':') ||
                (word == end && ((capital && (behind || n == 0)) || (behind && apart && apart_behind))))
                return found(l, level, l->s + i, word - i);
            return false;
        }
        if (separator(l->s + i, end - i)) {
            separated = true;
        } else {
            bool ruby = end - i == 2 && l->s[i + 1] == ',' && memchr(ruby_letters, l->s[i], sizeof(ruby_letters));
            bool logger = (separated || apart) && behind && /* its name, between separators */
                          (apart_behind || separator(l->s + next, token_end(l, next) - next));

            if (!ruby && !logger && !stamp(l->s + i, end - i))
                return false;
            separated = false;
        }
        behind = true;
        i = end;
    }
    return false;
}

bool otlp_severity(const char *line, size_t len, unsigned *ret_number, struct tm_str *ret_text)
{
    struct line l = {.s = line, .len = len, .text = ret_text};
    bool apart;
    size_t i = gap(&l, 0, &apart);

    l.number = ret_number;
    if (i >= len)
        return false;
    if (line[i] == '{') {
        l.len = len < JSON_MAX ? len : JSON_MAX;
        return json(&l, i);
    }
    l.len = len < HEAD_MAX ? len : HEAD_MAX;
    if (line[i] == '<' && syslog_priority(&l, i))
        return true;
    return glog(&l, i) || (memchr(line, '=', l.len) && logfmt(&l, i)) || at_head(&l, i);
}
