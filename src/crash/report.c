/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "crash/words.h"
#include "machine.h"
#include "version.h"

#define STRUCK_OUT "(struck out)"
#define NAME_SHOWN 256

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static const struct module *module_at(const struct look *l, uint64_t pc)
{
    const struct module *m = modules_at(&l->modules, pc);

    return m ? m : modules_at(&l->modules, pc - 1);
}

static uint64_t word_of(const machine_regs *regs, const struct machine_register *r)
{
    uint64_t v;

    memcpy(&v, (const char *)regs + r->offset, sizeof(v));
    return v;
}

/* A file is the program's, or a directory away. */
static void module_name(const struct look *l, uint64_t pc, char *ret, size_t size)
{
    const struct module *m = module_at(l, pc);
    const struct process_map *v = process_map_at(&l->view.maps, pc);

    if (m && *m->name)
        snprintf(ret, size, "%s", base_name(m->name));
    else if (v && *v->name)
        snprintf(ret, size, "%s", base_name(v->name));
    else
        *ret = '\0';
}

void report_summary(const struct look *l, const struct results *results, struct crash_summary *ret)
{
    struct result_frame f;

    ret->threads = (unsigned)l->view.thread_count;
    ret->stopped_ns = l->stopped_ns;
    words_where(&l->view, ret->where, sizeof(ret->where));
    for (size_t i = 0; results && i < l->view.thread_count; i++)
        ret->frames_total += (unsigned)results_frames(results, i);
    for (size_t i = 0;
         results && l->view.thread_count && ret->top_count < CRASH_TOP && results_frame(results, 0, i, &f); i++) {
        struct crash_frame *to = &ret->top[ret->top_count++];
        const char *file = results_text(results, f.file);

        *to = (struct crash_frame){.pc = f.pc, .offset = f.offset, .line = f.line, .guessed = f.flags & FRAME_GUESSED};
        module_name(l, f.pc, to->module, sizeof(to->module));
        snprintf(to->function, sizeof(to->function), "%s", results_text(results, f.function));
        snprintf(to->file, sizeof(to->file), "%s", strlen(file) < sizeof(to->file) ? file : base_name(file));
    }
    if (results && l->view.thread_count)
        snprintf(ret->goroutine, sizeof(ret->goroutine), "%s", results_text(results, results->threads[0].goroutine));
}

/* --- for people --- */

static void add_text(struct buf *to, const char *s)
{
    buf_visible(to, s, strlen(s));
}

static void text_frame(const struct report *r, unsigned number, const struct result_frame *f, struct buf *to)
{
    const char *function = results_text(r->results, f->function), *file = results_text(r->results, f->file);
    char module[NAME_SHOWN];

    module_name(r->look, f->pc, module, sizeof(module));
    if (f->flags & FRAME_SIGNAL)
        buf_str(to, "       -- a signal came here --\n");
    if (f->flags & FRAME_INLINED)
        buf_printf(to, "  #%-3u %-18s ", number, "(inlined)");
    else
        buf_printf(to, "  #%-3u 0x%016" PRIx64 " ", number, f->pc);
    if (*function) {
        add_text(to, function);
        if (!(f->flags & FRAME_INLINED))
            buf_printf(to, " + 0x%" PRIx64, f->offset);
    } else {
        buf_str(to, "?");
        if (f->flags & FRAME_OF_MODULE)
            buf_printf(to, " (module + 0x%" PRIx64 ")", f->offset);
    }
    if (*module) {
        buf_str(to, " in ");
        add_text(to, module);
    }
    if (*file) {
        buf_str(to, " at ");
        add_text(to, file);
        buf_printf(to, ":%u", f->line);
    }
    if (f->flags & FRAME_GUESSED)
        buf_str(to, " (guessed)");
    buf_char(to, '\n');
}

/* The first frame of a thread that is a guess, on which all that follow rest; SIZE_MAX: there is none. */
static size_t first_guess(const struct report *r, size_t thread)
{
    struct result_frame f;

    for (size_t n = 0; r->results && results_frame(r->results, thread, n, &f); n++)
        if (f.flags & FRAME_GUESSED)
            return n;
    return SIZE_MAX;
}

static void text_thread(const struct report *r, size_t i, struct buf *to)
{
    const struct crash_thread *th = &r->look->view.threads[i];
    const char *goroutine = r->results ? results_text(r->results, r->results->threads[i].goroutine) : "";
    uint32_t flags = r->results ? r->results->threads[i].flags : 0;
    struct result_frame f;
    size_t n = 0, guess = first_guess(r, i);

    buf_printf(to, "\nThread %zu: %d", i + 1, (int)th->tid);
    if (th->own_tid != th->tid)
        buf_printf(to, " (%d in its namespace)", (int)th->own_tid);
    buf_str(to, ", ");
    add_text(to, th->comm);
    if (*goroutine)
        buf_printf(to, ", goroutine %s", goroutine);
    if (!th->stands) {
        buf_str(to, ": it could not be stopped\n");
        return;
    }
    buf_char(to, '\n');
    for (; r->results && results_frame(r->results, i, n, &f); n++)
        text_frame(r, (unsigned)n, &f, to);
    if (!n)
        buf_printf(to, "  pc 0x%" PRIx64 ", sp 0x%" PRIx64 "; no frames are known\n", machine_pc(&th->regs),
                   machine_sp(&th->regs));
    else if (flags & THREAD_CUT)
        buf_printf(to, "  (there are more than %u frames)\n", CRASH_FRAMES);
    else if (flags & THREAD_BROKEN)
        buf_str(to, "  (the way further up isn't known)\n");
    if (guess < n)
        buf_printf(to, "  (#%zu is a guess, as the code before it has no unwind information: all from there on may be wrong)\n", guess);
}

static void text_registers(const struct crash_thread *th, struct buf *to)
{
    buf_printf(to, "\nRegisters of thread 1%s:\n", th->from_context ? " when the signal came" : "");
    for (size_t i = 0; i < machine_register_count; i++)
        buf_printf(to, "%s%-8s 0x%016" PRIx64,
                   i % 3 ? "   "
                   : i   ? "\n  "
                         : "  ",
                   machine_registers[i].name, word_of(&th->regs, &machine_registers[i]));
    buf_char(to, '\n');
}

/* Seconds, in UTC; format: of strftime(3). */
static void add_seconds(uint64_t ns, const char *format, struct buf *to)
{
    time_t s = (time_t)(ns / 1000000000u);
    struct tm tm;
    char text[64] = "?";

    if (gmtime_r(&s, &tm))
        strftime(text, sizeof(text), format, &tm);
    buf_str(to, text);
}

static void text_time(uint64_t ns, struct buf *to)
{
    add_seconds(ns, "%Y-%m-%d %H:%M:%S", to);
    buf_printf(to, ".%03u UTC", (unsigned)(ns % 1000000000u / 1000000u));
}

static void text_words(const struct buf *words, struct buf *to)
{
    for (size_t at = 0; at < words->len;) {
        size_t n = strnlen(words->p + at, words->len - at);

        if (at)
            buf_char(to, ' ');
        buf_visible(to, words->p + at, n);
        at += n + 1;
    }
}

/* A variable, with what nobody else shall know struck out. */
static void add_variable(const char *s, size_t len, struct buf *to)
{
    const char *equals = memchr(s, '=', len);
    size_t at, n;

    if (equals && words_is_secret(s, (size_t)(equals - s))) {
        buf_add(to, s, (size_t)(equals - s) + 1);
        buf_str(to, STRUCK_OUT);
        return;
    }
    while ((n = words_credentials(s, len, &at))) {
        buf_add(to, s, at);
        buf_str(to, STRUCK_OUT "@");
        s += at + n + 1;
        len -= at + n + 1;
    }
    buf_add(to, s, len);
}

static void text_environment(const struct buf *environment, struct buf *to)
{
    buf_str(to, "\nEnvironment:\n");
    for (size_t at = 0; at < environment->len;) {
        size_t n = strnlen(environment->p + at, environment->len - at);
        struct buf one = BUF_INIT;

        add_variable(environment->p + at, n, &one);
        buf_str(to, "  ");
        buf_visible(to, one.p, one.len);
        buf_char(to, '\n');
        buf_free(&one);
        at += n + 1;
    }
}

static void text_cause(const struct report *r, struct buf *to)
{
    const struct crash_cause *c = r->look->view.cause;

    if (c->signo) {
        const char *name = words_code_name(c->signo, c->code), *words = words_code(c->signo, c->code);

        buf_printf(to, "Signal:    %d, %s", c->signo, words_signal(c->signo));
        if (*words)
            buf_printf(to, ": %s (%s)", words, name);
        else
            buf_printf(to, ", code %d", c->code);
        if (c->code <= 0 && c->sender == r->look->facts.own_pid)
            buf_str(to, ", by itself");
        else if (c->code <= 0 && c->sender)
            buf_printf(to, ", by process %d of user %u", (int)c->sender, (unsigned)c->sender_uid);
        buf_char(to, '\n');
        if (words_has_address(c->signo, c->code) || *r->summary->where) {
            buf_str(to, "Address:   ");
            if (words_has_address(c->signo, c->code))
                buf_printf(to, "0x%" PRIx64 ": ", c->addr);
            add_text(to, r->summary->where);
            buf_char(to, '\n');
        }
    } else if (c->tid) {
        buf_printf(to, "Exit:      status %d, with an error that ends a Go program\n", c->status);
    } else {
        buf_str(to, "Cause:     a snapshot; the process goes on\n");
    }
}

void report_text(const struct report *r, struct buf *to)
{
    const struct look *l = r->look;
    const struct facts *f = &l->facts;

    buf_str(to, "Process:   ");
    buf_printf(to, "%d", (int)l->view.pid);
    if (f->own_pid != l->view.pid)
        buf_printf(to, " (%d in its namespace)", (int)f->own_pid);
    buf_str(to, ", ");
    add_text(to, f->name);
    buf_str(to, "\nProgram:   ");
    add_text(to, f->exe);
    buf_str(to, "\nCommand:   ");
    text_words(&f->arguments, to);
    buf_str(to, "\nDirectory: ");
    add_text(to, f->cwd);
    if (strcmp(f->root, "/") != 0 && *f->root) {
        buf_str(to, "\nRoot:      ");
        add_text(to, f->root);
    }
    buf_printf(to, "\nUser:      %u", f->uid[0]);
    if (*f->user) {
        buf_str(to, " (");
        add_text(to, f->user);
        buf_char(to, ')');
    }
    buf_printf(to, ", effective %u; group %u, effective %u\nTime:      ", f->uid[1], f->gid[0], f->gid[1]);
    text_time(r->time_ns, to);
    buf_printf(to, "\nSystem:    ");
    add_text(to, f->system.nodename);
    buf_printf(to, ", %s %s %s\n", f->system.sysname, f->system.release, f->system.machine);
    text_cause(r, to);
    if (*r->summary->goroutine)
        buf_printf(to, "Goroutine: %s\n", r->summary->goroutine);
    buf_printf(to, "Threads:   %zu, which stood for %" PRIu64 ".%03" PRIu64 " ms\n", l->view.thread_count,
               l->stopped_ns / 1000000, l->stopped_ns / 1000 % 1000);
    if (*r->summary->why) {
        buf_str(to, "Missing:   ");
        add_text(to, r->summary->why);
        buf_char(to, '\n');
    }
    for (size_t i = 0; i < l->view.thread_count; i++)
        text_thread(r, i, to);
    if (l->view.thread_count && l->view.threads[0].stands)
        text_registers(&l->view.threads[0], to);
    buf_str(to, "\nDescriptors:\n");
    for (size_t i = 0; i < f->descriptor_count; i++) {
        buf_printf(to, "  %-4d ", f->descriptors[i].fd);
        add_text(to, f->descriptors[i].target);
        buf_char(to, '\n');
    }
    if (f->descriptor_all > f->descriptor_count)
        buf_printf(to, "  (%zu more)\n", f->descriptor_all - f->descriptor_count);
    buf_str(to, "\nMappings:\n");
    for (size_t i = 0; i < l->view.maps.count; i++) {
        const struct process_map *m = &l->view.maps.v[i];

        buf_printf(to, "  %012" PRIx64 "-%012" PRIx64 " %c%c%c%c %08" PRIx64 " ", m->lo, m->hi, m->read ? 'r' : '-',
                   m->write ? 'w' : '-', m->execute ? 'x' : '-', m->shared ? 's' : 'p', m->offset);
        add_text(to, m->name);
        buf_char(to, '\n');
    }
    if (r->wishes->environment)
        text_environment(&f->environment, to);
    buf_str(to, "\nLimits:\n");
    for (size_t at = 0; at < f->limits.len;) {
        const char *end = memchr(f->limits.p + at, '\n', f->limits.len - at);
        size_t n = end ? (size_t)(end - (f->limits.p + at)) : f->limits.len - at;

        buf_str(to, "  ");
        buf_visible(to, f->limits.p + at, n);
        buf_char(to, '\n');
        at += n + 1;
    }
}

/* --- for programs --- */

static void key(struct buf *to, const char *name)
{
    char last = to->len ? to->p[to->len - 1] : '{';

    if (last != '{' && last != '[')
        buf_char(to, ',');
    if (name) {
        buf_json_str(to, name);
        buf_char(to, ':');
    }
}

static void text_member(struct buf *to, const char *name, const char *s)
{
    if (!*s)
        return;
    key(to, name);
    buf_json_str(to, s);
}

static void number_member(struct buf *to, const char *name, int64_t v)
{
    key(to, name);
    buf_int(to, v);
}

static void address_member(struct buf *to, const char *name, uint64_t v)
{
    key(to, name);
    buf_printf(to, "\"0x%" PRIx64 "\"", v);
}

static void json_frame(const struct report *r, const struct result_frame *f, struct buf *to)
{
    const struct module *m = module_at(r->look, f->pc);
    char module[NAME_SHOWN];

    key(to, NULL);
    buf_char(to, '{');
    address_member(to, "pc", f->pc);
    module_name(r->look, f->pc, module, sizeof(module));
    text_member(to, "module", m && *m->name ? m->name : module);
    if (m)
        address_member(to, "moduleOffset", f->pc - m->lo);
    text_member(to, "function", results_text(r->results, f->function));
    if (!(f->flags & (FRAME_INLINED | FRAME_OF_MODULE)) && f->function)
        number_member(to, "offset", (int64_t)f->offset);
    text_member(to, "file", results_text(r->results, f->file));
    if (f->line)
        number_member(to, "line", f->line);
    if (f->flags & FRAME_INLINED) {
        key(to, "inlined");
        buf_str(to, "true");
    }
    if (f->flags & FRAME_SIGNAL) {
        key(to, "signal");
        buf_str(to, "true");
    }
    if (f->flags & FRAME_GUESSED) {
        key(to, "guessed");
        buf_str(to, "true");
    }
    buf_char(to, '}');
}

static void json_thread(const struct report *r, size_t i, struct buf *to)
{
    const struct crash_thread *th = &r->look->view.threads[i];
    uint32_t flags = r->results ? r->results->threads[i].flags : 0;
    struct result_frame f;

    key(to, NULL);
    buf_char(to, '{');
    number_member(to, "tid", th->tid);
    if (th->own_tid != th->tid)
        number_member(to, "ownTid", th->own_tid);
    text_member(to, "name", th->comm);
    if (r->results)
        text_member(to, "goroutine", results_text(r->results, r->results->threads[i].goroutine));
    if (!th->stands) {
        key(to, "stopped");
        buf_str(to, "false}");
        return;
    }
    key(to, "registers");
    buf_char(to, '{');
    for (size_t k = 0; k < machine_register_count; k++)
        address_member(to, machine_registers[k].name, word_of(&th->regs, &machine_registers[k]));
    buf_char(to, '}');
    key(to, "frames");
    buf_char(to, '[');
    for (size_t n = 0; r->results && results_frame(r->results, i, n, &f); n++)
        json_frame(r, &f, to);
    buf_char(to, ']');
    if (first_guess(r, i) != SIZE_MAX)
        number_member(to, "guessedFrom", (int64_t)first_guess(r, i));
    if (flags & (THREAD_CUT | THREAD_BROKEN))
        text_member(to, "incomplete",
                    flags & THREAD_CUT ? "more frames than are kept" : "the way further up isn't known");
    buf_char(to, '}');
}

static void json_words(struct buf *to, const char *name, const struct buf *words, bool strike)
{
    key(to, name);
    buf_char(to, '[');
    for (size_t at = 0; at < words->len;) {
        size_t n = strnlen(words->p + at, words->len - at);
        struct buf one = BUF_INIT;

        key(to, NULL);
        if (strike)
            add_variable(words->p + at, n, &one);
        else
            buf_add(&one, words->p + at, n);
        buf_json(to, one.p ? one.p : "", one.len);
        buf_free(&one);
        at += n + 1;
    }
    buf_char(to, ']');
}

static void json_cause(const struct report *r, struct buf *to)
{
    const struct crash_cause *c = r->look->view.cause;

    if (c->signo) {
        number_member(to, "SignalNumber", c->signo);
        text_member(to, "Signal", words_signal(c->signo));
        number_member(to, "SignalCode", c->code);
        text_member(to, "SignalCodeName", words_code_name(c->signo, c->code));
        text_member(to, "SignalReason", words_code(c->signo, c->code));
        if (words_has_address(c->signo, c->code))
            address_member(to, "Address", c->addr);
        text_member(to, "AddressIn", r->summary->where);
        if (c->code <= 0 && c->sender) {
            number_member(to, "SenderPid", c->sender);
            number_member(to, "SenderUid", c->sender_uid);
        }
        number_member(to, "Errno", c->err);
    } else if (c->tid) {
        number_member(to, "ExitStatus", c->status);
    }
    if (c->tid)
        number_member(to, "Tid", c->tid);
}

/* RFC 3339 */
static void json_time(uint64_t ns, struct buf *to)
{
    key(to, "Time");
    buf_char(to, '"');
    add_seconds(ns, "%Y-%m-%dT%H:%M:%S", to);
    buf_printf(to, ".%06uZ\"", (unsigned)(ns % 1000000000u / 1000u));
}

void report_json(const struct report *r, struct buf *to)
{
    const struct look *l = r->look;
    const struct facts *f = &l->facts;
    struct buf command = BUF_INIT;

    buf_char(to, '{');
    json_time(r->time_ns, to);
    text_member(to, "Version", SCOPE_VERSION);
    text_member(to, "Username", f->user);
    if (r->wishes->environment)
        json_words(to, "Environment", &f->environment, true);
    text_member(to, "Arch", f->system.machine);
    text_member(to, "Kernel", f->system.release);
    json_cause(r, to);
    text_member(to, "ProcessName", f->name);
    for (size_t at = 0; at < f->arguments.len; at++)
        buf_char(&command, f->arguments.p[at] || at + 1 == f->arguments.len ? f->arguments.p[at] : ' ');
    text_member(to, "ProcessArgs", buf_cstr(&command));
    buf_free(&command);
    number_member(to, "Pid", l->view.pid);
    number_member(to, "Uid", f->uid[0]);
    number_member(to, "Gid", f->gid[0]);
    text_member(to, "Hostname", f->system.nodename);

    json_words(to, "Arguments", &f->arguments, false);
    text_member(to, "Executable", f->exe);
    text_member(to, "Directory", f->cwd);
    text_member(to, "Root", f->root);
    if (f->own_pid != l->view.pid)
        number_member(to, "OwnPid", f->own_pid);
    number_member(to, "ParentPid", f->parent);
    number_member(to, "EffectiveUid", f->uid[1]);
    number_member(to, "EffectiveGid", f->gid[1]);
    number_member(to, "StoppedNs", (int64_t)l->stopped_ns);
    text_member(to, "Goroutine", r->summary->goroutine);
    text_member(to, "Missing", r->summary->why);
    key(to, "threads");
    buf_char(to, '[');
    for (size_t i = 0; i < l->view.thread_count; i++)
        json_thread(r, i, to);
    buf_char(to, ']');
    key(to, "mappings");
    buf_char(to, '[');
    for (size_t i = 0; i < l->view.maps.count; i++) {
        const struct process_map *m = &l->view.maps.v[i];

        key(to, NULL);
        buf_char(to, '{');
        address_member(to, "start", m->lo);
        address_member(to, "end", m->hi);
        key(to, "access");
        buf_printf(to, "\"%c%c%c%c\"", m->read ? 'r' : '-', m->write ? 'w' : '-', m->execute ? 'x' : '-',
                   m->shared ? 's' : 'p');
        address_member(to, "offset", m->offset);
        text_member(to, "name", m->name);
        buf_char(to, '}');
    }
    buf_char(to, ']');
    key(to, "descriptors");
    buf_char(to, '[');
    for (size_t i = 0; i < f->descriptor_count; i++) {
        key(to, NULL);
        buf_char(to, '{');
        number_member(to, "fd", f->descriptors[i].fd);
        text_member(to, "name", f->descriptors[i].target);
        buf_char(to, '}');
    }
    buf_char(to, ']');
    if (f->descriptor_all > f->descriptor_count)
        number_member(to, "descriptorsLeftOut", (int64_t)(f->descriptor_all - f->descriptor_count));
    key(to, "limits");
    buf_json(to, f->limits.p ? f->limits.p : "", f->limits.len);
    buf_str(to, "}\n");
}
