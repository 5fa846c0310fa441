/* SPDX-License-Identifier: Apache-2.0 */
/* From the bytes of a DNS message to struct dns_message. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/dns.h"

#define HEADER 12u
#define NAME_MAX_ 255u /* bytes of a name on the wire (RFC 1035, section 2.3.4) */
#define HOPS_MAX 127u  /* pointers in a name: no name has more labels */

#define TYPE_A 1
#define TYPE_SOA 6
#define TYPE_TXT 16
#define TYPE_OPT 41
#define CLASS_IN 1
#define TOP 0x8000u

/* Names of types, and how their data is laid out, a letter for each part:
 *   1 2 4  numbers of so many bytes     a 6  addresses        n  a name
 *   q      a string with its length     w    the same without quotes
 *   s      such strings up to the end   t    all that is left, as a string
 *   x      the same in hexadecimal      v    parameters of a service (RFC 9460) */
static const struct {
    uint16_t type;
    const char *name, *layout;
} types[] = {
    {TYPE_A, "A", "a"},       {2, "NS", "n"},      {5, "CNAME", "n"},        {TYPE_SOA, "SOA", "nn44444"},
    {12, "PTR", "n"},         {13, "HINFO", "qq"}, {15, "MX", "2n"},         {TYPE_TXT, "TXT", "s"},
    {17, "RP", "nn"},         {18, "AFSDB", "2n"}, {24, "SIG", NULL},        {25, "KEY", NULL},
    {28, "AAAA", "6"},        {29, "LOC", NULL},   {33, "SRV", "222n"},      {35, "NAPTR", "22qqqn"},
    {37, "CERT", NULL},       {39, "DNAME", "n"},  {TYPE_OPT, "OPT", NULL},  {43, "DS", "211x"},
    {44, "SSHFP", "11x"},     {46, "RRSIG", NULL}, {47, "NSEC", NULL},       {48, "DNSKEY", NULL},
    {49, "DHCID", NULL},      {50, "NSEC3", NULL}, {51, "NSEC3PARAM", NULL}, {52, "TLSA", "111x"},
    {53, "SMIMEA", "111x"},   {55, "HIP", NULL},   {59, "CDS", "211x"},      {60, "CDNSKEY", NULL},
    {61, "OPENPGPKEY", NULL}, {62, "CSYNC", NULL}, {63, "ZONEMD", NULL},     {64, "SVCB", "2nv"},
    {65, "HTTPS", "2nv"},     {99, "SPF", "s"},    {108, "EUI48", NULL},     {109, "EUI64", NULL},
    {249, "TKEY", NULL},      {250, "TSIG", NULL}, {251, "IXFR", NULL},      {252, "AXFR", NULL},
    {255, "ANY", NULL},       {256, "URI", "22t"}, {257, "CAA", "1wt"},
};

static const char *const opcodes[] = {"QUERY", "IQUERY", "STATUS", NULL, "NOTIFY", "UPDATE", "DSO"};
static const char *const rcodes[] = {
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",  "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",  "DSOTYPENI", NULL,      NULL,      NULL,       NULL,
    "BADVERS", "BADKEY",  "BADTIME",  "BADMODE",   "BADNAME", "BADALG",  "BADTRUNC", "BADCOOKIE",
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const char *word(char text[DNS_WORD], const char *format, unsigned number)
{
    (void)snprintf(text, DNS_WORD, format, number);
    return text;
}

static size_t type_row(uint16_t type)
{
    size_t i = 0;

    while (i < COUNT(types) && types[i].type != type)
        i++;
    return i;
}

const char *dns_type_text(uint16_t type, char text[DNS_WORD])
{
    size_t row = type_row(type);

    return row < COUNT(types) ? types[row].name : word(text, "TYPE%u", type);
}

const char *dns_class_text(uint16_t class_, char text[DNS_WORD])
{
    switch (class_) {
    case CLASS_IN:
        return "IN";
    case 3:
        return "CH";
    case 4:
        return "HS";
    case 254:
        return "NONE";
    case 255:
        return "ANY";
    default:
        return word(text, "CLASS%u", class_);
    }
}

const char *dns_opcode_text(unsigned opcode, char text[DNS_WORD])
{
    return opcode < COUNT(opcodes) && opcodes[opcode] ? opcodes[opcode] : word(text, "OPCODE%u", opcode);
}

const char *dns_rcode_text(unsigned rcode, char text[DNS_WORD])
{
    return rcode < COUNT(rcodes) && rcodes[rcode] ? rcodes[rcode] : word(text, "RCODE%u", rcode);
}

/* Text ------------------------------------------------------------------- */

struct writer {
    char *p;
    size_t len, cap;
    bool full; /* something didn't fit */
};

static void put(struct writer *w, const void *p, size_t n)
{
    if (n > w->cap - w->len)
        w->full = true;
    if (w->full)
        return;
    memcpy(w->p + w->len, p, n);
    w->len += n;
}

__attribute__((format(printf, 2, 3))) static void put_format(struct writer *w, const char *format, ...)
{
    char text[64];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    put(w, text, n < 0 ? 0 : (size_t)n);
}

/* Bytes as text. special: what gets a backslash; first: the lowest byte that is plain. */
static void put_text(struct writer *w, const uint8_t *p, size_t n, const char *special, uint8_t first)
{
    for (size_t i = 0; i < n && !w->full;) {
        unsigned sequence = utf8_sequence((const char *)p + i, n - i);
        uint8_t c = p[i];

        if (sequence == 2 && c == 0xc2 && p[i + 1] < 0xa0)
            sequence = 0; /* a control character of C1 */
        if (sequence > 1) {
            put(w, p + i, sequence);
            i += sequence;
            continue;
        }
        if (c < first || c > 0x7e)
            put_format(w, "\\%03u", c);
        else if (strchr(special, c))
            put_format(w, "\\%c", c);
        else
            put(w, p + i, 1);
        i++;
    }
}

static void put_quoted(struct writer *w, const uint8_t *p, size_t n)
{
    put(w, "\"", 1);
    put_text(w, p, n, "\"\\", ' ');
    put(w, "\"", 1);
}

static void put_hex(struct writer *w, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && !w->full; i++)
        put_format(w, "%02x", p[i]);
}

static void put_base64(struct writer *w, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n && !w->full; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], digits[v >> 6 & 63], digits[v & 63]};

        if (i + 2 >= n)
            out[3] = '=';
        if (i + 1 >= n)
            out[2] = '=';
        put(w, out, 4);
    }
}

static void put_address(struct writer *w, int family, const uint8_t *p)
{
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(family, p, text, sizeof(text)))
        put(w, text, strlen(text));
}

/* Reading ---------------------------------------------------------------- */

enum outcome { GOOD, BAD, SHORT }; /* SHORT: goes on behind what was captured */

/* end: behind the last byte that may be read; size: of the message. */
struct reader {
    const uint8_t *p;
    size_t at, end, size;
};

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* Whether n bytes are there at `at`. */
static enum outcome need(const struct reader *r, size_t at, size_t n)
{
    if (at <= r->end && n <= r->end - at)
        return GOOD;
    return r->end < r->size && n <= r->size - at ? SHORT : BAD;
}

/* A name, and past it. w NULL: it is skipped. Pointers lead to names that were complete before the one that has the
 * pointer began (RFC 1035, section 4.1.4): so each goes to a lower place than the last, and none in a circle. */
static enum outcome read_name(struct reader *r, struct writer *w)
{
    size_t at = r->at, lowest = at, length = 1, begin = w ? w->len : 0;
    unsigned hops = 0;

    for (;;) {
        enum outcome o = need(r, at, 1);
        uint8_t c;

        if (o != GOOD)
            return o;
        c = r->p[at];
        if (c >= 0xc0) {
            size_t to;

            o = need(r, at, 2);
            if (o != GOOD)
                return o;
            to = get16(r->p + at) & 0x3fff;
            if (to < HEADER || to >= lowest || hops == HOPS_MAX)
                return BAD;
            if (hops++ == 0)
                r->at = at + 2;
            if (!w)
                return GOOD;
            at = lowest = to;
        } else if (c >= 0x40) {
            return BAD;
        } else if (c == 0) {
            break;
        } else {
            o = need(r, at, 1u + c);
            if (o != GOOD)
                return o;
            length += 1u + c;
            if (length > NAME_MAX_)
                return BAD;
            if (w) {
                if (w->len > begin)
                    put(w, ".", 1);
                put_text(w, r->p + at + 1, c, ".\\", 0x21);
            }
            at += 1u + c;
        }
    }
    if (hops == 0)
        r->at = at + 1;
    if (w && w->len == begin)
        put(w, ".", 1);
    return GOOD;
}

static struct slice text_since(const struct writer *w, size_t begin)
{
    return (struct slice){w->p + begin, w->len - begin};
}

/* List of strings, each with its length in front, as the value of alpn (RFC 9460, section 7.1.1). */
static enum outcome put_list(struct writer *w, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 1u + p[i]) {
        if (p[i] >= n - i)
            return BAD;
        if (i)
            put(w, ",", 1);
        put_text(w, p + i + 1, p[i], ",\\\"", 0x21);
    }
    return GOOD;
}

static enum outcome put_parameter(struct writer *w, unsigned key, const uint8_t *p, size_t n)
{
    static const char *const keys[] = {"mandatory", "alpn", "no-default-alpn", "port",
                                       "ipv4hint",  "ech",  "ipv6hint",        "dohpath"};
    size_t step = key == 0 ? 2 : key == 4 ? 4 : 16;

    if (key < COUNT(keys))
        put(w, keys[key], strlen(keys[key]));
    else
        put_format(w, "key%u", key);
    if (n == 0)
        return GOOD;
    put(w, "=", 1);
    switch (key) {
    case 1:
        return put_list(w, p, n);
    case 3:
        if (n != 2)
            return BAD;
        put_format(w, "%u", get16(p));
        return GOOD;
    case 5:
        put_base64(w, p, n);
        return GOOD;
    case 0:
    case 4:
    case 6:
        if (n % step)
            return BAD;
        for (size_t i = 0; i < n && !w->full; i += step) {
            unsigned named = get16(p + i);

            if (i)
                put(w, ",", 1);
            if (key)
                put_address(w, key == 4 ? AF_INET : AF_INET6, p + i);
            else if (named < COUNT(keys))
                put(w, keys[named], strlen(keys[named]));
            else
                put_format(w, "key%u", named);
        }
        return GOOD;
    default:
        put_quoted(w, p, n);
        return GOOD;
    }
}

/* r: up to the end of the data, all of which is there. */
static enum outcome put_part(struct writer *w, struct reader *r, char layout)
{
    const uint8_t *p = r->p + r->at;
    size_t left = r->end - r->at, n;

    switch (layout) {
    case 'n':
        return read_name(r, w);
    case '1':
    case '2':
    case '4':
        n = (size_t)(layout - '0');
        if (left < n)
            return BAD;
        put_format(w, "%" PRIu32, n == 1 ? p[0] : n == 2 ? get16(p) : get32(p));
        break;
    case 'a':
    case '6':
        n = layout == 'a' ? 4 : 16;
        if (left < n)
            return BAD;
        put_address(w, layout == 'a' ? AF_INET : AF_INET6, p);
        break;
    case 'q':
    case 'w':
    case 's':
        if (left == 0 || p[0] >= left)
            return BAD;
        n = 1u + p[0];
        if (layout == 'w')
            put_text(w, p + 1, n - 1, "\"\\", 0x21);
        else
            put_quoted(w, p + 1, n - 1);
        break;
    case 'v':
        if (left < 4 || get16(p + 2) > left - 4)
            return BAD;
        n = 4 + get16(p + 2);
        if (put_parameter(w, get16(p), p + 4, n - 4) != GOOD)
            return BAD;
        break;
    case 't':
        n = left;
        put_quoted(w, p, n);
        break;
    default:
        n = left;
        put_hex(w, p, n);
        break;
    }
    r->at += n;
    return GOOD;
}

/* The data of a record: r->at to r->at + length, all of which is there. */
static enum outcome put_data(struct writer *w, const struct reader *message, size_t length,
                             const struct dns_record *record)
{
    struct reader r = {message->p, message->at, message->at + length, message->at + length};
    size_t row = type_row(record->type), begin = w->len;
    const char *layout = row < COUNT(types) ? types[row].layout : NULL;
    bool any_class = record->type <= TYPE_TXT && record->type != TYPE_A; /* RFC 1035, section 3.3 */

    if (length == 0 && (record->class_ == 254 || record->class_ == 255))
        return GOOD; /* an UPDATE names records without data (RFC 2136, section 2.4) */
    if (!layout || (record->class_ != CLASS_IN && !any_class)) {
        put_format(w, "\\# %zu%s", length, length ? " " : "");
        put_hex(w, r.p + r.at, length);
        return GOOD;
    }
    for (; *layout; layout++) {
        do {
            enum outcome o;

            if (*layout == 'v' && r.at == r.end)
                break; /* there need not be any */
            if (w->len > begin)
                put(w, " ", 1);
            o = put_part(w, &r, *layout);
            if (o != GOOD)
                return BAD;
        } while ((*layout == 's' || *layout == 'v') && r.at < r.end);
    }
    return r.at == r.end ? GOOD : BAD;
}

static enum outcome read_question(struct reader *r, struct writer *w, struct dns_message *m)
{
    bool told = m->question_count < DNS_QUESTIONS_MAX && !w->full;
    size_t begin = w->len;
    enum outcome o = read_name(r, told ? w : NULL);
    unsigned class_;

    if (o == GOOD)
        o = need(r, r->at, 4);
    if (o != GOOD)
        return o;
    class_ = get16(r->p + r->at + 2);
    if (told && !w->full)
        m->questions[m->question_count++] = (struct dns_question){
            .name = text_since(w, begin),
            .type = (uint16_t)get16(r->p + r->at),
            .class_ = class_ & ~TOP & 0xffff,
            .top = class_ & TOP,
        };
    else
        m->cut = true;
    r->at += 4;
    return GOOD;
}

/* section: 1 answers, 2 authority, 3 additional. */
static enum outcome read_record(struct reader *r, struct writer *w, struct dns_message *m, unsigned section)
{
    struct dns_record record = {0};
    bool told = section == 1 && m->answer_count < DNS_ANSWERS_MAX && !w->full;
    size_t begin = w->len, length;
    enum outcome o = read_name(r, told ? w : NULL);
    const uint8_t *p;
    unsigned class_;

    if (o == GOOD)
        o = need(r, r->at, 10);
    if (o != GOOD)
        return o;
    p = r->p + r->at;
    record.type = (uint16_t)get16(p);
    class_ = get16(p + 2);
    record.class_ = class_ & ~TOP & 0xffff;
    record.top = class_ & TOP;
    record.ttl = get32(p + 4);
    length = get16(p + 8);
    r->at += 10;
    o = need(r, r->at, length);
    if (o != GOOD)
        return o;
    if (record.type == TYPE_OPT && section == 3) {
        m->edns = true;
        m->edns_size = (uint16_t)class_;
        m->rcode |= (record.ttl >> 24) << 4;
        m->edns_version = record.ttl >> 16 & 0xff;
        m->edns_do = record.ttl & 0x8000;
    }
    if (record.ttl > INT32_MAX)
        record.ttl = 0; /* RFC 2181, section 8 */
    if (section == 1 && (!m->ttl_known || record.ttl < m->ttl)) {
        m->ttl = record.ttl;
        m->ttl_known = true;
    }
    if (section == 2 && record.type == TYPE_SOA && m->response && m->counts[1] == 0 && length >= 20) {
        uint32_t least = get32(r->p + r->at + length - 4);

        m->ttl = least < record.ttl ? least : record.ttl;
        m->ttl_known = true;
    }
    if (told && !w->full) {
        size_t data = w->len;

        record.name = text_since(w, begin);
        if (put_data(w, r, length, &record) != GOOD)
            return BAD;
        record.text = text_since(w, data);
        record.cut = w->full;
        m->cut |= w->full;
        m->answers[m->answer_count++] = record;
    } else if (section == 1) {
        m->cut = true;
    }
    r->at += length;
    return GOOD;
}

/* ret_end: where the last record ended. */
static int parse(const uint8_t *data, size_t captured, size_t size, struct dns_message *m, size_t *ret_end)
{
    struct reader r = {data, HEADER, captured, size};
    struct writer w = {m->text, 0, sizeof(m->text), false};
    enum outcome o = GOOD;
    unsigned flags;

    memset(m, 0, offsetof(struct dns_message, questions));
    if (captured < HEADER)
        return -EBADMSG;
    flags = get16(data + 2);
    m->id = (uint16_t)get16(data);
    m->response = flags & 0x8000;
    m->opcode = flags >> 11 & 15;
    m->authoritative = flags & 0x0400;
    m->truncated = flags & 0x0200;
    m->recursion_desired = flags & 0x0100;
    m->recursion_available = flags & 0x0080;
    m->authentic_data = flags & 0x0020;
    m->checking_disabled = flags & 0x0010;
    m->rcode = flags & 15;
    m->size = size;
    m->cut = captured < size;
    for (unsigned i = 0; i < 4; i++)
        m->counts[i] = get16(data + 4 + 2 * i);
    for (unsigned i = 0; i < m->counts[0]; i++) {
        o = read_question(&r, &w, m);
        if (o != GOOD)
            return -EBADMSG;
    }
    for (unsigned section = 1; section < 4 && o == GOOD; section++)
        for (unsigned i = 0; i < m->counts[section] && o == GOOD; i++)
            o = read_record(&r, &w, m, section);
    m->malformed = o == BAD;
    *ret_end = r.at;
    return 0;
}

int dns_parse(const uint8_t *data, size_t captured, size_t size, struct dns_message *ret)
{
    size_t end;

    return parse(data, captured, size, ret, &end);
}

/* Detection -------------------------------------------------------------- */

/* Names of NetBIOS (RFC 1002, section 4.1) make messages that look like DNS: a label of 32 letters, A to P. */
static bool netbios(const uint8_t *name, size_t len)
{
    size_t i = 1;

    if (len < 33 || name[0] != 32)
        return false;
    while (i < 33 && name[i] >= 'A' && name[i] <= 'P')
        i++;
    return i == 33;
}

/* What header bytes of a plain query or its response look like; questions: with a question, as unicast has it. */
static bool plausible_header(const uint8_t *p, bool questions)
{
    unsigned flags = get16(p + 2), qd = get16(p + 4), an = get16(p + 6), ns = get16(p + 8), ar = get16(p + 10);

    if (flags & 0x7840 || (flags & 15) > 10) /* another opcode, the bit that must be 0 */
        return false;
    if (flags & 0x8000)
        return qd == 1 || (!questions && qd == 0 && an > 0 && flags & 0x0400);
    /* A query is neither authoritative nor a failure; multicast ones have known answers, or records to be probed. */
    if (flags & 0x048f || qd == 0)
        return false;
    return !questions || (qd == 1 && an == 0 && ns == 0 && ar <= 2);
}

/* Any type: new ones come, and all that stands around it is evidence enough. */
static bool plausible_question(uint16_t type, uint16_t class_)
{
    return type != 0 && type != TYPE_OPT && (class_ == CLASS_IN || class_ == 3 || class_ == 255);
}

bool dns_detect(const uint8_t *data, size_t len)
{
    struct dns_message m;
    size_t end;

    if (len < HEADER || !plausible_header(data, false) || netbios(data + HEADER, len - HEADER) ||
        parse(data, len, len, &m, &end) < 0 || m.malformed || end != len)
        return false;
    for (size_t i = 0; i < m.question_count; i++)
        if (!plausible_question(m.questions[i].type, m.questions[i].class_))
            return false;
    return true;
}

int dns_detect_stream(const uint8_t *data, size_t len)
{
    struct reader r;
    enum outcome o;

    if (len < 2)
        return -1;
    r = (struct reader){data + 2, HEADER, len - 2, get16(data)};
    if (r.size < HEADER + 5)
        return 0;
    if (r.end < HEADER) {
        /* Flags and number of questions tell most of other protocols apart. */
        bool odd = (r.end > 2 && r.p[2] & 0x78) || (r.end > 4 && r.p[4]) || (r.end > 5 && r.p[5] != 1);

        return odd ? 0 : -1;
    }
    if (r.end > r.size)
        r.end = r.size;
    if (!plausible_header(r.p, true) || netbios(r.p + HEADER, r.end - HEADER))
        return 0;
    o = read_name(&r, NULL);
    if (o == GOOD)
        o = need(&r, r.at, 4);
    if (o != GOOD)
        return o == SHORT ? -1 : 0;
    return plausible_question((uint16_t)get16(r.p + r.at), get16(r.p + r.at + 2) & 0x7fff);
}
