/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http1_head.h"

#include <string.h>

#include "base/block.h"
#include "protocol/http_name.h"

#define METHOD_MAX 64u /* the longest registered one has 17 bytes */

enum { FIELD_OTHER, FIELD_HOST, FIELD_LENGTH, FIELD_CODING, FIELD_CONNECTION, FIELD_UPGRADE, FIELD_EXPECT };

/* tchar of RFC 9110, section 5.6.2 */
static const bool token_char[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
    ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
    ['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Obsolete folding leaves line ends within values. */
static bool is_filler(char c)
{
    return c <= ' ' && (is_space(c) || c == '\r' || c == '\n');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t token_length(const char *p, size_t len)
{
    size_t n = 0;

    while (n < len && token_char[(uint8_t)p[n]])
        n++;
    return n;
}

static struct slice trim(const char *p, size_t len)
{
    while (len && is_filler(p[len - 1]))
        len--;
    while (len && is_filler(*p)) {
        p++;
        len--;
    }
    return (struct slice){p, len};
}

/* Length of a line without LF or CRLF at its end. */
static size_t without_end(const char *line, size_t len)
{
    if (len && line[len - 1] == '\n' && --len && line[len - 1] == '\r')
        len--;
    return len;
}

/* --- many bytes at a time --- */

/* The first control character from p on, or the end; what is before p, from `begin` on, may be read. */
static inline const char *next_control(const char *begin, const char *p, const char *end)
{
    unsigned mask;

    for (; end - p >= (ptrdiff_t)BLOCK; p += BLOCK) {
        mask = block_mask((block)(block_load(p) < ' '));
        if (mask)
            return p + __builtin_ctz(mask);
    }
    if (end - begin >= (ptrdiff_t)BLOCK) { /* once more the bytes before it, which don't count */
        mask = block_mask((block)(block_load(end - BLOCK) < ' ')) >> (BLOCK - (size_t)(end - p));
        return mask ? p + __builtin_ctz(mask) : end;
    }
    while (p < end && (uint8_t)*p >= ' ')
        p++;
    return p;
}

static inline unsigned odd_control(char c)
{
    return c == '\r' ? HTTP_ODD_LINE : !c ? HTTP_ODD_NUL : 0u;
}

/* Where the next line begins, or the end of the text; *ret_len: length of this one without its end. What is odd in it is
 * added to *odd. begin: of the text. */
static inline const char *line_end(const char *begin, const char *line, const char *end, size_t *ret_len, uint32_t *odd)
{
    const char *p = line;

    for (; (p = next_control(begin, p, end)) < end; p++) {
        *ret_len = (size_t)(p - line);
        if (*p == '\r' && p + 1 < end && p[1] == '\n')
            return p + 2;
        if (*p == '\n')
            return p + 1;
        *odd |= odd_control(*p);
    }
    *ret_len = (size_t)(end - line);
    return end;
}

/* Length of the name that a line begins with. Nearly all are of letters and hyphens. end: up to where there are bytes;
 * what follows the line isn't looked at if that is no end of a line. */
static inline size_t name_length(const char *line, size_t len, const char *end)
{
    size_t n = 0;

    if (end - line >= (ptrdiff_t)BLOCK) {
        block b = block_load(line), lower = b | 0x20;
        unsigned mask = block_mask((block)((lower >= 'a') & (lower <= 'z')) | (block)(b == '-'));

        n = (size_t)__builtin_ctz(~mask);
    }
    while (n < len && token_char[(uint8_t)line[n]])
        n++;
    return n;
}

/* --- start lines --- */

static int version(const char *p, size_t len)
{
    return len == 8 && !memcmp(p, "HTTP/1.", 7) && is_digit(p[7]) ? p[7] - '0' : -1;
}

enum http1_kind http1_begins(const char *p, size_t len)
{
    static const char name[] = "HTTP/1.";
    size_t same = len < sizeof(name) - 1 ? len : sizeof(name) - 1;
    size_t n = token_length(p, len < METHOD_MAX ? len : METHOD_MAX);
    bool response = !memcmp(p, name, same);

    if (response && same == sizeof(name) - 1)
        return HTTP1_RESPONSE;
    if (n == len)
        return response ? HTTP1_EITHER : HTTP1_REQUEST;
    if (response)
        return HTTP1_RESPONSE;
    return n && p[n] == ' ' ? HTTP1_REQUEST : HTTP1_NEITHER;
}

static bool status_line(const char *line, size_t len, struct http_head *head)
{
    int minor = len >= 12 ? version(line, 8) : -1;
    size_t spaces = 0;

    if (minor < 0)
        return false;
    while (8 + spaces < len && is_space(line[8 + spaces]))
        spaces++;
    if (!spaces)
        return false;
    if (spaces > 1 || line[8] != ' ')
        head->odd |= HTTP_ODD_LINE;
    line += 8 + spaces;
    len -= 8 + spaces;
    if (len < 3 || line[0] < '1' || !is_digit(line[0]) || !is_digit(line[1]) || !is_digit(line[2]) ||
        (len > 3 && line[3] != ' '))
        return false;
    head->response = true;
    head->major = 1;
    head->minor = (uint8_t)minor;
    head->status = (unsigned)(line[0] - '0') * 100 + (unsigned)(line[1] - '0') * 10 + (unsigned)(line[2] - '0');
    head->reason = len > 4 ? (struct slice){line + 4, len - 4} : (struct slice){line + len, 0};
    return true;
}

int http1_request_version(const char *end, size_t len)
{
    len = without_end(end, len);
    while (len && is_space(end[len - 1]))
        len--;
    return len > 8 && is_space(end[len - 9]) ? version(end + len - 8, 8) : -1;
}

static bool request_line(const char *line, size_t len, int minor, struct http_head *head)
{
    size_t n = token_length(line, len < METHOD_MAX ? len : METHOD_MAX), end = len;

    if (!n || n == len || line[n] != ' ')
        return false;
    if (minor < 0) {
        minor = http1_request_version(line, len);
        if (minor < 0)
            return false;
        while (is_space(line[end - 1]))
            end--;
        if (end != len)
            head->odd |= HTTP_ODD_LINE;
        end -= 9; /* " HTTP/1.1" */
        if (end <= n + 1)
            return false;
    }
    head->response = false;
    head->major = 1;
    head->minor = (uint8_t)minor;
    head->method = (struct slice){line, n};
    head->target = trim(line + n + 1, end - n - 1);
    /* White space within the target: some take the last word for the version, others the third one. */
    if (head->target.len != end - n - 1 || memchr(head->target.p, ' ', head->target.len) ||
        memchr(head->target.p, '\t', head->target.len))
        head->odd |= HTTP_ODD_LINE;
    return head->target.len > 0;
}

bool http1_start_line(const char *line, size_t len, int minor, struct http_head *head)
{
    line_end(line, line, line + len, &len, &head->odd);
    return len > 4 && !memcmp(line, "HTTP/", 5) ? status_line(line, len, head) : request_line(line, len, minor, head);
}

bool http1_known_method(const char *line, size_t len)
{
    /* Hypertext Transfer Protocol (HTTP) Method Registry, but for PRI, which begins HTTP/2. */
    static const char methods[] =
        " ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY "
        "MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT REBIND "
        "REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL ";
    size_t n = token_length(line, len < METHOD_MAX ? len : METHOD_MAX);
    const char *at = methods;

    if (!n || n == len || line[n] != ' ')
        return false;
    do {
        at = memmem(at + 1, (size_t)(methods + sizeof(methods) - 1 - (at + 1)), line, n + 1);
    } while (at && at[-1] != ' ');
    return at;
}

bool http1_unmistakable(const char *line, size_t len, struct http_head *head)
{
    size_t text = without_end(line, len);

    if (len - text != 2 || !http1_start_line(line, text, -1, head) || head->odd)
        return false;
    for (size_t i = 0; i < text; i++)
        if ((uint8_t)line[i] < ' ' || line[i] == 0x7f)
            return false;
    return head->response || http1_known_method(line, text);
}

/* --- fields --- */

/* Whether it is nothing but the digits of a number. */
static bool is_number(struct slice s, int64_t *ret)
{
    int64_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, s.p[i] - '0', &n))
            return false;
    *ret = n;
    return s.len > 0;
}

/* Digits, or the same number several times as a list (RFC 9110, section 8.6). */
static void add_length(struct http1_framing *f, struct slice value)
{
    const char *p = value.p, *end = p + value.len;
    int64_t length = 0;

    if (!f->has_length && is_number(value, &f->length)) {
        f->has_length = true;
        return;
    }
    do {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        bool number = is_number(trim(p, (size_t)((comma ? comma : end) - p)), &length);

        if (!number || (f->has_length && f->length != length))
            f->odd |= HTTP_ODD_LENGTHS;
        f->has_length = true;
        f->length = length;
        p = comma ? comma + 1 : NULL;
    } while (p);
}

/* The first of a comma-separated list; the list goes on behind it. */
static struct slice next_member(struct slice *list)
{
    const char *comma = memchr(list->p, ',', list->len);
    struct slice member = trim(list->p, comma ? (size_t)(comma - list->p) : list->len);

    list->len -= comma ? (size_t)(comma + 1 - list->p) : list->len;
    list->p = comma ? comma + 1 : list->p;
    return member;
}

/* chunked has no parameters and is applied once, last (RFC 9112, sections 6.1 and 7). */
static void add_codings(struct http1_framing *f, struct slice list)
{
    f->has_coding = true;
    while (list.len) {
        struct slice coding = next_member(&list);

        if (!coding.len)
            continue;
        if (f->chunked)
            f->odd |= HTTP_ODD_CODING;
        f->chunked = http_name_is(coding, "chunked");
    }
}

static void add_options(struct http1_framing *f, struct slice list)
{
    while (list.len) {
        struct slice option = next_member(&list);

        f->close |= http_name_is(option, "close");
        f->keep_alive |= http_name_is(option, "keep-alive");
    }
}

static inline __attribute__((always_inline)) uint8_t field_of(struct slice name)
{
    switch (name.len) {
    case 4:
        return http_name_is(name, "host") ? FIELD_HOST : FIELD_OTHER;
    case 6:
        return http_name_is(name, "expect") ? FIELD_EXPECT : FIELD_OTHER;
    case 7:
        return http_name_is(name, "upgrade") ? FIELD_UPGRADE : FIELD_OTHER;
    case 10:
        return http_name_is(name, "connection") ? FIELD_CONNECTION : FIELD_OTHER;
    case 14:
        return http_name_is(name, "content-length") ? FIELD_LENGTH : FIELD_OTHER;
    case 17:
        return http_name_is(name, "transfer-encoding") ? FIELD_CODING : FIELD_OTHER;
    default:
        return FIELD_OTHER;
    }
}

static void add_value(struct http1_framing *f, struct slice value)
{
    switch (f->last) {
    case FIELD_LENGTH:
        f->no_length = !value.len;
        if (value.len)
            add_length(f, value);
        break;
    case FIELD_CODING:
        add_codings(f, value);
        break;
    case FIELD_CONNECTION:
        add_options(f, value);
        break;
    case FIELD_UPGRADE:
        f->upgrade = true;
        break;
    case FIELD_EXPECT:
        f->expect |= http_name_is(value, "100-continue");
        break;
    default:
        break;
    }
}

void http1_fields_end(struct http1_framing *f)
{
    if (!f->no_length)
        return;
    f->no_length = false;
    f->has_length = true;
    f->odd |= HTTP_ODD_LENGTHS;
}

/* A line that continues the one before. len: without the end of the line. */
static void folded_line(const char *line, size_t len, struct http1_framing *f, struct slice *value)
{
    f->odd |= HTTP_ODD_FOLD;
    *value = trim(line, len);
    if (!value->len)
        return;
    /* Whoever joins the lines gets a number with a space in it. */
    if (f->last == FIELD_LENGTH && !f->no_length)
        f->odd |= HTTP_ODD_LENGTHS;
    else
        add_value(f, *value);
}

/* len: without the end of the line; name: length of its name. Odd bytes within it are not looked for. */
static inline __attribute__((always_inline)) bool field_line(const char *line, size_t len, size_t name,
                                                             struct http1_framing *f, struct http_field *field)
{
    const char *value;

    if (f->no_length)
        http1_fields_end(f);
    field->name = (struct slice){line, name};
    if (__builtin_expect(name == len || line[name] != ':' || !name, 0)) {
        const char *colon = memchr(line, ':', len);

        f->odd |= HTTP_ODD_LINE;
        f->last = FIELD_OTHER;
        if (!colon || colon == line)
            return false;
        name = (size_t)(colon - line);
        field->name = trim(line, name);
    }
    value = line + name + 1;
    value += value < line + len && *value == ' ';
    field->value = trim(value, (size_t)(line + len - value));
    f->last = field_of(field->name);
    if (f->last != FIELD_OTHER)
        add_value(f, field->value);
    return true;
}

bool http1_field_line(const char *line, size_t len, struct http1_framing *f, struct http_field *field, bool *folded)
{
    line_end(line, line, line + len, &len, &f->odd);
    *folded = is_space(line[0]);
    if (!*folded)
        return field_line(line, len, name_length(line, len, line + len), f, field);
    folded_line(line, len, f, &field->value);
    return true;
}

/* The value, as sent, goes on to where this line's ends. */
static void join(struct slice *value, struct slice more)
{
    if (!value->len)
        *value = more;
    else if (more.len)
        value->len = (size_t)(more.p + more.len - value->p);
}

size_t http1_parse_fields(const char *p, size_t len, struct http_head *head, struct http_field *fields,
                          struct http1_framing *f)
{
    const char *end = p + len, *line = p, *next;
    struct http_field *field = fields, *last = NULL; /* that a folded line continues */
    struct http_field beyond;                        /* those there is no room for */
    const struct http_field *host = NULL;
    bool over = false;

    for (; line < end && !over; line = next) {
        bool room = field < fields + HTTP_FIELDS_MAX;
        size_t text, name;

        next = line_end(p, line, end, &text, &f->odd);
        if (!text) {
            over = true;
            continue;
        }
        name = name_length(line, text, end);
        if (!name && is_space(*line)) {
            struct slice more;

            folded_line(line, text, f, &more);
            if (last)
                join(&last->value, more);
            else if (field == fields)
                f->odd |= HTTP_ODD_LINE;
        } else if (!field_line(line, text, name, f, room ? field : &beyond)) {
            last = NULL;
        } else if (room) {
            if (f->last == FIELD_HOST && !host)
                host = field;
            last = field++;
        } else {
            head->cut = true;
            last = NULL;
        }
    }
    if (host)
        head->host = host->value;
    head->fields = fields;
    head->field_count = (size_t)(field - fields);
    return over ? (size_t)(line - p) : 0;
}
