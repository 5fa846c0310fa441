/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, times and text as people read them. */
#include "cli/cli.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

bool cli_colors;

bool cli_color(const struct args *a)
{
    const char *when = args_get(a, "color"), *force = getenv("CLICOLOR_FORCE"), *no = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    if (args_has(a, "color") && (!when || strcmp(when, "always") == 0))
        cli_colors = true;
    else if (when && strcmp(when, "never") == 0)
        cli_colors = false;
    else if (no && *no)
        cli_colors = false;
    else if (force && *force && strcmp(force, "0") != 0)
        cli_colors = true;
    else
        cli_colors = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
    return cli_colors;
}

unsigned cli_width(void)
{
    struct winsize w;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
        return 0;
    return w.ws_col;
}

const char *text_duration(uint64_t ns, char buf[32])
{
    uint64_t s = ns / 1000000000u;

    if (s == 0)
        snprintf(buf, 32, "%ums", (unsigned)(ns / 1000000u));
    else if (s < 60)
        snprintf(buf, 32, "%us", (unsigned)s);
    else if (s < 3600)
        snprintf(buf, 32, "%um%us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(buf, 32, "%uh%um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else if (s < UINT64_C(7) * 86400)
        snprintf(buf, 32, "%ud%uh", (unsigned)(s / 86400), (unsigned)(s / 3600 % 24));
    else
        snprintf(buf, 32, "%llud", (unsigned long long)(s / 86400));
    return buf;
}

const char *text_time(uint64_t ns, char buf[32])
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)(ns / 1000000000u);
    struct tm tm;

    if (!localtime_r(&t, &tm)) {
        snprintf(buf, 32, "-");
        return buf;
    }
    snprintf(buf, 32, "%.3s %2d %02d:%02d:%02d", &months[(size_t)3 * (size_t)tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return buf;
}

static const char digits62[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const char *text_base62(uint64_t v, char buf[16])
{
    size_t n = 0;

    do {
        buf[n++] = digits62[v % 62];
        v /= 62;
    } while (v);
    buf[n] = '\0';
    return buf;
}

int text_parse_base62(const char *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t len = strlen(s);

    if (len == 0)
        return -EINVAL;
    while (len-- > 0) {
        const char *d = strchr(digits62, s[len]);

        if (!d || __builtin_mul_overflow(v, 62, &v) || __builtin_add_overflow(v, (uint64_t)(d - digits62), &v))
            return -EINVAL;
    }
    *ret = v;
    return 0;
}

void text_clean(struct buf *b, const char *s, size_t len)
{
    buf_visible(b, s, len);
}

void text_json(const char *text, size_t len, FILE *to)
{
    struct buf b = BUF_INIT;

    buf_visible_json(&b, text, len);
    fwrite(b.p, 1, b.len, to);
    buf_free(&b);
}

unsigned text_columns(const char *s, size_t len)
{
    unsigned columns = 0;

    for (size_t i = 0; i < len; i++)
        columns += ((unsigned char)s[i] & 0xc0) != 0x80;
    return columns;
}

size_t text_fit(const char *s, size_t len, unsigned columns)
{
    size_t i = 0;

    while (i < len) {
        if (((unsigned char)s[i] & 0xc0) != 0x80 && columns-- == 0)
            break;
        i++;
    }
    return i;
}

int text_parse_duration(const char *s, uint64_t *ret)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {
        {"ms", 1000000u},  {"us", 1000u}, {"ns", 1}, {"h", UINT64_C(3600000000000)}, {"m", UINT64_C(60000000000)},
        {"s", 1000000000u}};
    double total = 0;

    if (*s == '\0')
        return -EINVAL;
    while (*s) {
        char *end;
        double v;
        size_t i;

        if (!strchr("0123456789.", *s))
            return -EINVAL;
        v = strtod(s, &end);
        if (end == s)
            return -EINVAL;
        for (i = 0; i < sizeof(units) / sizeof(*units); i++)
            if (strncmp(end, units[i].unit, strlen(units[i].unit)) == 0)
                break;
        if (i == sizeof(units) / sizeof(*units))
            return -EINVAL;
        total += v * (double)units[i].ns;
        s = end + strlen(units[i].unit);
    }
    if (total < 0 || total > 1e18)
        return -EINVAL;
    *ret = (uint64_t)total;
    return 0;
}

int text_parse_time(const char *s, uint64_t *ret_ns)
{
    static const char *const dates[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                        "%Y-%m-%dT%H:%M:%S", "%H:%M", "%H:%M:%S"};
    struct timespec now;
    uint64_t ns;
    char *end;
    double v;

    clock_gettime(CLOCK_REALTIME, &now);
    if (text_parse_duration(s, &ns) == 0) {
        uint64_t t = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;

        *ret_ns = t > ns ? t - ns : 1;
        return 0;
    }
    v = strtod(s, &end);
    if (*s >= '0' && *s <= '9' && *end == '\0' && v < 1e10) {
        *ret_ns = (uint64_t)(v * 1e6 + 0.5) * 1000u; /* as precise as times of events */
        return 0;
    }
    for (size_t i = 0; i < sizeof(dates) / sizeof(*dates); i++) {
        struct tm tm;
        time_t t;

        localtime_r(&now.tv_sec, &tm);
        tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
        tm.tm_isdst = -1;
        end = strptime(s, dates[i], &tm);
        if (end && *end == '\0' && (t = mktime(&tm)) > 0) {
            *ret_ns = (uint64_t)t * 1000000000u;
            return 0;
        }
    }
    return -EINVAL;
}

const char *text_signal(int sig, char buf[16])
{
    const char *name = sigabbrev_np(sig);

    if (name)
        snprintf(buf, 16, "SIG%s", name);
    else if (sig >= SIGRTMIN && sig <= SIGRTMAX)
        snprintf(buf, 16, "SIGRTMIN+%d", sig - SIGRTMIN);
    else
        snprintf(buf, 16, "signal %d", sig);
    return buf;
}

/* getpwuid(3) loads name service modules, which a static executable can't count on. */
const char *text_user(unsigned uid, char buf[64])
{
    FILE *f = fopen("/etc/passwd", "re");
    struct passwd *pw;

    snprintf(buf, 64, "%u", uid);
    if (!f)
        return buf;
    while ((pw = fgetpwent(f))) {
        if (pw->pw_uid == uid) {
            snprintf(buf, 64, "%s", pw->pw_name);
            break;
        }
    }
    fclose(f);
    return buf;
}
