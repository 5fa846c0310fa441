/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/http1_head.h"

#include <string.h>
#include <strings.h>

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

static bool equals(struct slice s, const char *lower, size_t len)
{
    return s.len == len && (s.p[0] | 0x20) == lower[0] &&
           !strncasecmp(s.p, lower, len); /* most differ in the first one */
}
#define EQUALS(s, literal) equals(s, literal, sizeof(literal) - 1)

/* Length of a line without LF or CRLF at its end. */
static size_t without_end(const char *line, size_t len)
{
    if (len && line[len - 1] == '\n' && --len && line[len - 1] == '\r')
        len--;
    return len;
}

/* Odd bytes within a line, without its end. */
static unsigned odd_bytes(const char *line, size_t len)
{
    return (memchr(line, '\r', len) ? HTTP_ODD_LINE : 0u) | (memchr(line, 0, len) ? HTTP_ODD_NUL : 0u);
}

/* Control characters, line ends included. In blocks, so that bytes are counted in bytes: many at a time. */
static size_t count_controls(const char *p, size_t len)
{
    size_t count = 0;

    while (len) {
        size_t block = len < 240 ? len : 240;
        uint8_t n = 0;

        for (size_t i = 0; i < block; i++)
            n = (uint8_t)(n + ((uint8_t)p[i] < ' '));
        count += n;
        p += block;
        len -= block;
    }
    return count;
}

/* Odd bytes within lines, of whose ends so many bytes are CR or LF. Hardly any line has other control characters; tabs
 * are looked at for nothing. */
static unsigned odd_in_lines(const char *p, size_t len, size_t ends)
{
    const char *end = p + len;
    unsigned odd = 0;

    if (count_controls(p, len) == ends)
        return 0;
    for (const char *line = p, *lf; line < end; line = lf) {
        lf = memchr(line, '\n', (size_t)(end - line));
        lf = lf ? lf + 1 : end;
        odd |= odd_bytes(line, without_end(line, (size_t)(lf - line)));
    }
    return odd;
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
    size_t all = len;

    len = without_end(line, len);
    head->odd |= odd_in_lines(line, all, all - len);
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

/* Digits, or the same number several times as a list (RFC 9110, section 8.6). */
static void add_length(struct http1_framing *f, struct slice value)
{
    const char *p = value.p, *end = p + value.len;

    do {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        struct slice part = trim(p, (size_t)((comma ? comma : end) - p));
        int64_t length = 0;
        bool number = part.len > 0;

        for (size_t i = 0; i < part.len && number; i++)
            number = is_digit(part.p[i]) && !__builtin_mul_overflow(length, 10, &length) &&
                     !__builtin_add_overflow(length, part.p[i] - '0', &length);
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
        f->chunked = EQUALS(coding, "chunked");
    }
}

static void add_options(struct http1_framing *f, struct slice list)
{
    while (list.len) {
        struct slice option = next_member(&list);

        f->close |= EQUALS(option, "close");
        f->keep_alive |= EQUALS(option, "keep-alive");
    }
}

static uint8_t field_of(struct slice name)
{
    switch (name.len) {
    case 4:
        return EQUALS(name, "host") ? FIELD_HOST : FIELD_OTHER;
    case 6:
        return EQUALS(name, "expect") ? FIELD_EXPECT : FIELD_OTHER;
    case 7:
        return EQUALS(name, "upgrade") ? FIELD_UPGRADE : FIELD_OTHER;
    case 10:
        return EQUALS(name, "connection") ? FIELD_CONNECTION : FIELD_OTHER;
    case 14:
        return EQUALS(name, "content-length") ? FIELD_LENGTH : FIELD_OTHER;
    case 17:
        return EQUALS(name, "transfer-encoding") ? FIELD_CODING : FIELD_OTHER;
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
        f->expect |= EQUALS(value, "100-continue");
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

/* len: without the end of the line. Odd bytes within it are not looked for. */
static bool field_line(const char *line, size_t len, struct http1_framing *f, struct http_field *field, bool *folded)
{
    size_t name;

    *folded = is_space(line[0]);
    if (*folded) {
        f->odd |= HTTP_ODD_FOLD;
        field->value = trim(line, len);
        if (!field->value.len)
            return true;
        /* Whoever joins the lines gets a number with a space in it. */
        if (f->last == FIELD_LENGTH && !f->no_length)
            f->odd |= HTTP_ODD_LENGTHS;
        else
            add_value(f, field->value);
        return true;
    }
    http1_fields_end(f);
    name = token_length(line, len);
    field->name = (struct slice){line, name};
    if (name == len || line[name] != ':' || !name) {
        const char *colon = memchr(line, ':', len);

        f->odd |= HTTP_ODD_LINE;
        f->last = FIELD_OTHER;
        if (!colon || colon == line)
            return false;
        name = (size_t)(colon - line);
        field->name = trim(line, name);
    }
    field->value = trim(line + name + 1, len - name - 1);
    f->last = field_of(field->name);
    add_value(f, field->value);
    return true;
}

bool http1_field_line(const char *line, size_t len, struct http1_framing *f, struct http_field *field, bool *folded)
{
    len = without_end(line, len);
    f->odd |= odd_bytes(line, len);
    return field_line(line, len, f, field, folded);
}

size_t http1_parse_fields(const char *p, size_t len, struct http_head *head, struct http_field *fields,
                          struct http1_framing *f)
{
    const char *end = p + len, *line = p;
    const struct http_field *host = NULL;
    size_t count = 0, ends = 0;
    bool last_kept = false, over = false;

    while (line < end && !over) {
        const char *lf = memchr(line, '\n', (size_t)(end - line)), *next = lf ? lf + 1 : end;
        size_t all = (size_t)(next - line), text = without_end(line, all);
        struct http_field field;
        bool folded;

        ends += all - text;
        if (lf && !text) {
            over = true;
        } else if (!field_line(line, text, f, &field, &folded)) {
            last_kept = false;
        } else if (folded) { /* the value, as sent, goes on to where this line's ends */
            struct slice *value = &fields[count - (count > 0)].value;

            if (last_kept && !value->len)
                *value = field.value;
            else if (last_kept && field.value.len)
                value->len = (size_t)(field.value.p + field.value.len - value->p);
            else if (!last_kept && !count)
                f->odd |= HTTP_ODD_LINE;
        } else if (count < HTTP_FIELDS_MAX) {
            if (f->last == FIELD_HOST && !host)
                host = &fields[count];
            fields[count++] = field;
            last_kept = true;
        } else {
            head->cut = true;
            last_kept = false;
        }
        line = next;
    }
    f->odd |= odd_in_lines(p, (size_t)(line - p), ends);
    if (host)
        head->host = host->value;
    head->fields = fields;
    head->field_count = count;
    return over ? (size_t)(line - p) : 0;
}
