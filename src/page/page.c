/* SPDX-License-Identifier: Apache-2.0 */
#include "page/page.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "page/parts.h"
#include "session/session.h"
#include "summary/overview.h"

extern const char page_css[], page_css_end[], page_js[], page_js_end[], page_d3[], page_d3_end[], page_d3_licence[],
    page_d3_licence_end[];

struct piece {
    const char *p;
    size_t len;
};

static struct piece piece(const char *from, const char *to)
{
    return (struct piece){from, (size_t)(to - from)};
}

/* A source of CSP: the hash of an inline script or style. */
static void add_hash(struct html *h, struct piece of)
{
    unsigned char digest[EVP_MAX_MD_SIZE], text[2 * EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (!EVP_Digest(of.p, of.len, digest, &len, EVP_sha256(), NULL))
        abort(); /* no memory */
    EVP_EncodeBlock(text, digest, (int)len);
    html_printf(h, " 'sha256-%s'", text);
}

static void head(struct html *h, const struct page *p)
{
    html_raw(
        h, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; base-uri 'none'; "
           "form-action 'none'; style-src");
    add_hash(h, piece(page_css, page_css_end));
    html_raw(h, "; script-src");
    add_hash(h, piece(page_d3, page_d3_end));
    add_hash(h, piece(page_js, page_js_end));
    html_raw(h, "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
                "<meta name=\"referrer\" content=\"no-referrer\"><meta name=\"color-scheme\" content=\"light dark\">"
                "<link rel=\"icon\" href=\"data:,\">\n<title>");
    html_text_cut(h, p->session->command, 80);
    html_printf(h, ", session %llu \u2013 AppScope</title>\n<style>", (unsigned long long)p->session->id);
    buf_add(&h->out, page_css, (size_t)(page_css_end - page_css));
    html_raw(h, "</style></head>\n<body>\n<a class=\"skip\" href=\"#main\">To the report</a>\n");
}

static const char *when(char text[64], uint64_t ns)
{
    time_t t = (time_t)(ns / 1000000000u);
    struct tm tm;

    if (!localtime_r(&t, &tm) || !strftime(text, 64, "%Y-%m-%d %H:%M:%S %z", &tm))
        snprintf(text, 64, "?");
    return text;
}

static void command_line(struct html *h, const struct session *s)
{
    struct buf b = BUF_INIT;

    for (char **word = s->argv; word && *word && b.len < 1000; word++) {
        bool quote = !**word || strpbrk(*word, " \t\n\"'$;&|<>()*?\\");

        buf_printf(&b, "%s%s%.400s%s", b.len ? " " : "", quote ? "\"" : "", *word, quote ? "\"" : "");
    }
    html_text_cut(h, b.len ? buf_cstr(&b) : s->command ? s->command : "?", 600);
    buf_free(&b);
}

/* --- the summary --- */

static void bytes(struct html *h, uint64_t n)
{
    char text[32];

    html_raw(h, html_bytes(text, n));
}

static void counted(struct html *h, uint64_t n, const char *one, const char *more)
{
    html_count(h, n);
    html_printf(h, "\u00a0%s", n == 1 ? one : more);
}

/* The session's program, as its events tell of it; the session's metadata may not know yet how it has ended. */
static const struct ov_process *program(const struct page *p)
{
    const struct overview *o = p->overview;

    for (size_t i = 0; i < o->process_count; i++)
        if (o->processes[i].pid == p->session->pid)
            return &o->processes[i];
    return NULL;
}

static void how_it_went(struct html *h, const struct page *p)
{
    const struct session *s = p->session;
    const struct overview *o = p->overview;
    const struct ov_process *q = program(p);
    bool known = q && q->ended && !s->end_ns;
    int64_t code = known && q->has_code ? q->exit_code : known ? -1 : s->exit_code;
    uint64_t start = s->start_ns ? s->start_ns : o->from_ns, end = known ? q->end_ns : s->end_ns ? s->end_ns : o->to_ns;
    char text[64];

    html_raw(h, "<p><strong><bdi>");
    html_text_cut(h, s->command, 80);
    html_raw(h, "</bdi></strong> ");
    if (p->running) {
        html_printf(h, "<strong>is still running</strong>, as of %s; ", when(text, p->now_ns));
        end = p->now_ns;
    } else if (known && q->signal) {
        html_raw(h, "<strong class=\"bad\">was killed by ");
        html_text_cut(h, q->signal, 40);
        html_raw(h, "</strong>, ");
    } else if (!known && s->exit_signal) {
        html_printf(h, "<strong class=\"bad\">was killed by signal %d</strong>, ", s->exit_signal);
    } else if (code > 0) {
        html_printf(h, "<strong class=\"bad\">failed with exit status %lld</strong>, ", (long long)code);
    } else if (code == 0) {
        html_raw(h, "<strong class=\"good\">ended well</strong> (exit status 0), ");
    } else {
        html_raw(h, "has ended (how isn\u2019t known), ");
    }
    html_printf(h, "after %s. ", html_duration(text, end > start ? end - start : 0));
}

static void what_it_did(struct html *h, const struct overview *o)
{
    uint64_t failed = 0, killed = 0;

    for (size_t i = 0; i < o->process_count; i++) {
        killed += o->processes[i].signal != NULL;
        failed += !o->processes[i].signal && o->processes[i].has_code && o->processes[i].exit_code;
    }
    counted(h, o->process_count + o->processes_more, "process was", "processes were");
    html_raw(h, " seen");
    if (failed) {
        html_raw(h, "; ");
        html_count(h, failed);
        html_raw(h, " exited with an error");
    }
    if (killed) {
        html_raw(h, "; ");
        html_count(h, killed);
        html_raw(h, killed == 1 ? " was ended by a signal" : " were ended by a signal");
    }
    html_raw(h, ".</p><p>");
    if (o->file_opens || o->file_read || o->file_written) {
        html_raw(h, o->files.refused ? "It opened more than " : "It opened ");
        counted(h, o->files.count, "file", "files");
        html_raw(h, ", read ");
        bytes(h, o->file_read);
        html_raw(h, " and wrote ");
        bytes(h, o->file_written);
        html_raw(h, o->lines ? ", output to the console included. " : ". ");
    }
    if (o->connections) {
        html_raw(h, "It made or accepted ");
        counted(h, o->connections, "connection", "connections");
        html_raw(h, ", sent ");
        bytes(h, o->sent);
        html_raw(h, " and received ");
        bytes(h, o->received);
        html_raw(h, ". ");
    }
    if (o->requests || o->responses) {
        const struct ov_times *t = o->server.count > 2 * o->client.count ? &o->server : &o->client;
        char text[32];

        html_raw(h, "Of ");
        counted(h, o->requests > o->responses ? o->requests : o->responses, "HTTP request", "HTTP requests");
        html_raw(h, o->client.count && o->server.count ? ", counted at each end that was observed, " : ", ");
        html_count(h, o->failed);
        html_raw(h, " failed");
        if (t->count && t->count < 10) {
            html_printf(h, "; the slowest was answered within %s", html_duration(text, t->max_ns));
        } else if (t->count) {
            html_printf(h, "; half were answered within %s", html_duration(text, ov_times_quantile(t, 500)));
            html_printf(h, ", 99\u00a0%% within %s", html_duration(text, ov_times_quantile(t, 990)));
        }
        html_raw(h, ". ");
    }
    if (o->dns_queries) {
        counted(h, o->dns_queries, "DNS query was", "DNS queries were");
        html_raw(h, " sent. ");
    }
    if (o->lines) {
        counted(h, o->lines, "line was", "lines were");
        html_raw(h, " written to the console. ");
    }
    if (!o->events)
        html_raw(h, "No event was recorded.");
    html_raw(h, "</p>\n");
}

static void what_is_missing(struct html *h, const struct page *p)
{
    const struct session *s = p->session;
    const struct overview *o = p->overview;
    uint64_t unseen = 0;
    char text[64];
    void **list = keyed_list(&o->notes);

    for (size_t i = 0; i < o->notes.count; i++)
        unseen += !((const struct ov_note *)list[i])->kind;
    free(list);
    html_raw(h, "<ul class=\"facts\">");
    if (!s->lost_count && !s->held_back && !s->telemetry_stopped)
        html_raw(h, "<li class=\"good\">Nothing was lost.</li>");
    for (size_t i = 0; i < s->lost_count; i++) {
        html_raw(h, "<li class=\"bad\">Lost: ");
        html_count(h, s->lost[i].count);
        html_raw(h, " of <code>");
        html_text_cut(h, s->lost[i].kind, 80);
        html_printf(h, "</code> (<code>scope history -i %llu</code> says what that means).</li>", (unsigned long long)s->id);
    }
    if (s->held_back) {
        html_raw(h, "<li class=\"bad\">Held back by the limit of events a second: ");
        html_count(h, s->held_back);
        html_raw(h, ".</li>");
    }
    if (p->open && !p->running) {
        html_printf(
            h, "<li>The program has ended, but something that it started was still running when this page was made (%s).</li>",
            when(text, p->now_ns));
    }
    if (s->telemetry_stopped)
        html_raw(h,
                 "<li class=\"bad\">The collector ended before the program: what happened then isn\u2019t known.</li>");
    if (unseen) {
        html_raw(h, "<li class=\"bad\"><a href=\"#unseen\">");
        counted(h, unseen, "thing was", "things were");
        html_raw(h, " not observed</a>.</li>");
    }
    if (o->crashes) {
        html_raw(h, "<li class=\"bad\"><a href=\"#notices\">");
        counted(h, o->crashes, "crash", "crashes");
        html_raw(h, "</a>.</li>");
    }
    html_raw(h, "</ul>\n");
}

static void tile(struct html *h, const char *label, const char *value)
{
    html_printf(h, "<div><dt>%s</dt><dd>%s</dd></div>", label, value);
}

static void tile_count(struct html *h, const char *label, uint64_t n)
{
    html_printf(h, "<div><dt>%s</dt><dd>", label);
    html_count(h, n);
    html_raw(h, "</dd></div>");
}

static void tile_bytes(struct html *h, const char *label, uint64_t n)
{
    char text[32];

    if (n)
        tile(h, label, html_bytes(text, n));
}

static void summary(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;
    char text[32];

    html_raw(h, "<section id=\"summary\" aria-labelledby=\"summary-h\"><h2 id=\"summary-h\">Summary</h2>\n");
    how_it_went(h, p);
    what_it_did(h, o);
    what_is_missing(h, p);
    html_raw(h, "<dl class=\"tiles\">");
    tile(h, "First to last event", html_duration(text, o->to_ns - o->from_ns));
    tile_count(h, "Processes", o->process_count + o->processes_more);
    tile_count(h, "Events", o->events);
    tile_bytes(h, "Read", o->file_read);
    tile_bytes(h, "Written", o->file_written);
    if (o->connections)
        tile_count(h, "Connections", o->connections);
    if (o->requests || o->responses) {
        tile_count(h, "HTTP requests", o->requests);
        tile_count(h, "HTTP failed", o->failed);
    }
    if (o->dns_queries)
        tile_count(h, "DNS queries", o->dns_queries);
    html_raw(h, "</dl></section>\n");
}

/* --- the whole --- */

static void header(struct html *h, const struct page *p)
{
    const struct session *s = p->session;
    char text[64];

    html_raw(h, "<header><p class=\"brand\">AppScope <span>report</span></p><h1><bdi>");
    command_line(h, s);
    html_printf(h, "</bdi></h1><p class=\"meta\">Session %llu, started %s", (unsigned long long)s->id,
                when(text, s->start_ns > 1000000000u ? s->start_ns : p->overview->from_ns));
    if (s->cwd) {
        html_raw(h, " in <code><bdi>");
        html_text(h, s->cwd);
        html_raw(h, "</bdi></code>");
    }
    html_raw(h, "</p></header>\n");
}

static void navigation(struct html *h, const struct page *p)
{
    const struct overview *o = p->overview;

    html_raw(h, "<nav aria-label=\"Sections\"><a href=\"#summary\">Summary</a>");
    if (page_has_notes(p))
        html_raw(h, "<a href=\"#notices\">Notices</a>");
    if (o->process_count)
        html_raw(h, "<a href=\"#timeline\">Timeline</a>");
    if (o->edges.count)
        html_raw(h, "<a href=\"#services\">Services</a>");
    if (o->routes.count)
        html_raw(h, "<a href=\"#http\">HTTP</a>");
    if (o->dns.count)
        html_raw(h, "<a href=\"#dns\">DNS</a>");
    if (o->files.count)
        html_raw(h, "<a href=\"#files\">Files</a>");
    if (page_touched_any(p))
        html_raw(h, "<a href=\"#touched\">Touched</a>");
    if (o->process_count)
        html_raw(h, "<a href=\"#processes\">Processes</a>");
    if (o->errors.count)
        html_raw(h, "<a href=\"#errors\">Errors</a>");
    if (o->flow_count)
        html_raw(h, "<a href=\"#flows\">Flows</a>");
    html_raw(h, "</nav>\n");
}

static void timeline(struct html *h, const struct page *p)
{
    if (!p->overview->process_count)
        return;
    html_raw(
        h,
        "<section id=\"timeline\" aria-labelledby=\"timeline-h\"><h2 id=\"timeline-h\">Timeline</h2><p "
        "class=\"lead\">Each bar is a "
        "process, from its beginning to its end; on it, what it did.</p>\n"
        "<figure class=\"chart\" id=\"chart-timeline\" role=\"group\" aria-label=\"Timeline of processes\"><figcaption "
        "class=\"needs-script\">Timeline of processes. It is drawn by a script; the table of processes has the same "
        "numbers.</figcaption></figure></section>\n");
}

/* As it is in the package: lines, and no markup. */
static void licence(struct html *h)
{
    for (const char *p = page_d3_licence; p < page_d3_licence_end; p++) {
        if (*p == '<')
            html_raw(h, "&lt;");
        else if (*p == '&')
            html_raw(h, "&amp;");
        else
            buf_char(&h->out, *p);
    }
}

static void footer(struct html *h, const struct page *p)
{
    char text[64];

    html_printf(h,
                "<footer><p>Made by AppScope from what was recorded, %s. This file asks for nothing from anywhere. It "
                "has names of "
                "files, hosts and programs in it, and their output: look at it before you pass it on.</p>\n",
                when(text, p->now_ns));
    html_raw(h, "<details><summary>Licence of d3, which draws the charts</summary><pre>");
    licence(h);
    html_raw(h, "</pre></details></footer>\n");
}

void page_write(struct buf *out, const struct page *p)
{
    struct html h = {.out = *out};

    head(&h, p);
    header(&h, p);
    navigation(&h, p);
    html_raw(&h, "<main id=\"main\">\n");
    summary(&h, p);
    page_notes(&h, p);
    timeline(&h, p);
    page_services(&h, p);
    page_http(&h, p);
    page_dns(&h, p);
    page_files(&h, p);
    if (page_touched_any(p))
        page_touched(&h, p);
    page_processes(&h, p);
    page_errors(&h, p);
    page_flows(&h, p);
    html_raw(&h, "</main>\n");
    footer(&h, p);
    html_raw(&h, "<script type=\"application/json\" id=\"data\">\n");
    page_data(&h, p);
    html_raw(&h, "</script>\n<script>");
    buf_add(&h.out, page_d3, (size_t)(page_d3_end - page_d3));
    html_raw(&h, "</script>\n<script>");
    buf_add(&h.out, page_js, (size_t)(page_js_end - page_js));
    html_raw(&h, "</script>\n</body></html>\n");
    *out = h.out;
    buf_free(&h.text);
}
