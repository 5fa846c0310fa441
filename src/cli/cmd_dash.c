/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/dash_feed.h"
#include "dash/model.h"
#include "dash/screen.h"
#include "dash/view.h"

#define NS UINT64_C(1000000000)
#define TICK_MS 1000 /* live */
#define REPLAY_MS 250
#define BUDGET_MS 50 /* of reading, between looks at the keyboard */
#define SPEED_MAX 64

static const struct cli_option options[] = {
    {"pid", "PID", "Only this process, of whatever session", NULL, 'p', false, false},
    {"color", "WHEN", "Colours: always, never or auto", "always|never|auto", 0, true, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope dash", "everything that is being recorded; if nothing is, the last session"},
    {"scope dash -i 3", "session 3, live or from its end; Home and Space play it back"},
    {"scope dash 4711", "the process 4711, if there is no session of that number"},
    {0},
};

struct dash {
    struct feed *feed;
    struct model *model;
    struct view view;
    struct grid grid;
    struct buf what, losses, note;
    char filter[128], typing[128];
    bool is_typing;
    bool live, stopped, caught;
    uint64_t at_ns; /* the time that is shown */
    unsigned speed;
    char state[24];
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* --- time --- */

static void go_to(struct dash *d, uint64_t ns)
{
    d->at_ns = ns;
    d->caught = false;
    feed_seek(d->feed, d->model, ns);
}

static void go_live(struct dash *d)
{
    uint64_t from, to;

    feed_span(d->feed, &from, &to);
    d->live = feed_running(d->feed);
    d->stopped = !d->live;
    d->speed = 1;
    go_to(d, to);
}

static void move(struct dash *d, int seconds)
{
    uint64_t from, to, step = (uint64_t)abs(seconds) * NS, at = d->at_ns;

    feed_span(d->feed, &from, &to);
    if (seconds < 0)
        at = at > from + step ? at - step : from;
    else
        at += step;
    if (at >= to) {
        go_live(d);
        return;
    }
    d->stopped = d->stopped || d->live;
    d->live = false;
    go_to(d, at);
}

/* What passes while nobody touches anything. */
static void advance(struct dash *d, uint64_t passed_ns)
{
    uint64_t from, to;

    feed_span(d->feed, &from, &to);
    if (d->live) {
        d->at_ns = to;
        if (!feed_running(d->feed) && d->caught) {
            d->live = false;
            d->stopped = true;
        }
    } else if (!d->stopped && d->caught) {
        d->at_ns += passed_ns * d->speed;
        if (d->at_ns >= to) {
            d->at_ns = to;
            d->live = feed_running(d->feed);
            d->stopped = !d->live;
            d->speed = 1;
        }
    }
    dash_set_now(d->model, d->at_ns);
    dash_stands(d->model, d->stopped);
}

/* --- showing --- */

static void show(struct dash *d)
{
    struct view *v = &d->view;
    uint64_t from, to;

    feed_span(d->feed, &from, &to);
    buf_reset(&d->losses);
    buf_reset(&d->note);
    feed_losses(d->feed, &d->losses);
    feed_note(d->feed, &d->note);
    v->losses = buf_cstr(&d->losses);
    v->note = buf_cstr(&d->note);
    v->live = d->live;
    v->filter = d->filter;
    v->typing = d->is_typing ? d->typing : NULL;
    if (d->caught && !d->live && !d->stopped)
        snprintf(d->state, sizeof(d->state), "x%u", d->speed);
    else if (d->caught && d->stopped && d->speed > 1)
        snprintf(d->state, sizeof(d->state), "PAUSED x%u", d->speed);
    else
        snprintf(d->state, sizeof(d->state), "%s",
                 !d->caught ? "READING" : d->live ? "LIVE" : !feed_running(d->feed) && d->at_ns >= to ? "ENDED" : "PAUSED");
    v->state = d->state;
    screen_size(&d->grid.width, &d->grid.height);
    d->grid.utf8 = screen_utf8();
    view_draw(v, d->model, &d->grid);
    screen_draw(&d->grid);
}

/* --- keys --- */

/* Of a filter that is being typed. */
static void type(struct dash *d, int key)
{
    size_t len = strlen(d->typing);
    char text[8];
    int n;

    if (key == '\n') {
        d->is_typing = false;
        memcpy(d->filter, d->typing, sizeof(d->filter));
        dash_filter(d->model, d->filter);
        go_to(d, d->at_ns);
    } else if (key == 0x1b) {
        d->is_typing = false;
    } else if (key == 0x7f) {
        while (len && ((unsigned char)d->typing[--len] & 0xc0) == 0x80) {
        }
        d->typing[len] = '\0';
    } else if (key == 0x15) { /* ^U */
        d->typing[0] = '\0';
    } else if (key >= ' ' && key < KEY_IS_UP) {
        n = snprintf(text, sizeof(text), "%lc", (wint_t)key);
        if (n > 0 && len + (size_t)n < sizeof(d->typing))
            memcpy(d->typing + len, text, (size_t)n + 1);
    }
}

static void scroll(struct dash *d, int rows)
{
    struct view *v = &d->view;
    size_t *at = v->zoom == PANEL_PROCESSES ? &v->selected : &v->scroll;

    /* Logs have their end at the bottom. */
    if (v->zoom == PANEL_EVENTS || v->zoom == PANEL_CONSOLE)
        rows = -rows;
    if (rows < 0)
        *at = *at > (size_t)-rows ? *at - (size_t)-rows : 0;
    else
        *at += (size_t)rows;
}

static void zoom(struct dash *d, enum view_panel p)
{
    d->view.zoom = p;
    d->view.scroll = 0;
    d->view.help = false;
}

static void only(struct dash *d, uint32_t pid)
{
    dash_only(d->model, pid);
    d->view.selected = 0;
    go_to(d, d->at_ns);
}

/* False: it is to end. */
static bool act(struct dash *d, int key)
{
    struct view *v = &d->view;

    switch (key) {
    case 'q':
    case 'Q':
        return false;
    case 0x1b:
        if (!v->help && !v->zoom)
            return false;
        if (!v->help)
            zoom(d, PANEL_NONE);
        v->help = false;
        break;
    case '?':
    case 'h':
        v->help = !v->help;
        break;
    case '1' ... '8':
        zoom(d, (enum view_panel)(key - '0'));
        break;
    case '0':
        zoom(d, PANEL_NONE);
        break;
    case '\t':
        zoom(d, (enum view_panel)((v->zoom + 1) % PANEL_COUNT));
        break;
    case '/':
        d->is_typing = true;
        memcpy(d->typing, d->filter, sizeof(d->typing));
        break;
    case 's':
        v->order = (v->order + 1) % ORDER_COUNT;
        break;
    case '\n':
        if (v->zoom == PANEL_PROCESSES && view_selected_pid(v, d->model))
            only(d, view_selected_pid(v, d->model));
        break;
    case 'a':
        if (dash_only_pid(d->model))
            only(d, 0);
        break;
    case ' ':
        d->stopped = d->live || !d->stopped;
        d->live = false;
        break;
    case KEY_IS_LEFT:
        move(d, -10);
        break;
    case KEY_IS_RIGHT:
        move(d, 10);
        break;
    case '[':
        move(d, -60);
        break;
    case ']':
        move(d, 60);
        break;
    case KEY_IS_HOME:
        move(d, -INT32_MAX);
        break;
    case KEY_IS_END:
        go_live(d);
        break;
    case '+':
    case '=':
        d->speed = d->speed < SPEED_MAX ? d->speed * 2 : SPEED_MAX;
        break;
    case '-':
        d->speed = d->speed > 1 ? d->speed / 2 : 1;
        break;
    case KEY_IS_UP:
        scroll(d, -1);
        break;
    case KEY_IS_DOWN:
        scroll(d, 1);
        break;
    case KEY_IS_PAGE_UP:
        scroll(d, -10);
        break;
    case KEY_IS_PAGE_DOWN:
        scroll(d, 10);
        break;
    default:
        break;
    }
    return true;
}

/* Returns the exit status; a signal that has ended it is screen_signal(). */
static int loop(struct dash *d)
{
    uint64_t before = clock_ns(CLOCK_MONOTONIC), shown = 0;

    for (;;) {
        unsigned tick = d->live || d->stopped ? TICK_MS : REPLAY_MS;
        uint64_t now = clock_ns(CLOCK_MONOTONIC), wait;
        int key;

        feed_look(d->feed);
        advance(d, now - before);
        before = now;
        d->caught = feed_take(d->feed, d->model, d->live ? 0 : d->at_ns, BUDGET_MS);
        /* Much to read shows at once, not in each slice. */
        if (d->caught || now - shown > NS / 4) {
            show(d);
            shown = now;
        }
        wait = clock_ns(CLOCK_MONOTONIC);
        do {
            uint64_t passed = (clock_ns(CLOCK_MONOTONIC) - wait) / 1000000u;

            key = screen_key(d->caught && passed < tick ? (int)(tick - passed) : 0);
            if (key == KEY_IS_SIGNAL)
                return 0;
            if (key == KEY_IS_GONE)
                return EXIT_FAILED;
            if (key == KEY_IS_NONE || key == KEY_IS_RESIZED)
                break;
            if (d->is_typing)
                type(d, key);
            else if (!act(d, key))
                return 0;
        } while (d->is_typing ? (show(d), true) : false);
    }
}

/* --- what it is about --- */

static int no_terminal(const char *why)
{
    cli_error("the dashboard can't be shown: %s", why);
    cli_hint("`scope events -f` and `scope metrics` print to anything");
    return EXIT_FAILED;
}

/* Whether a word is the number of a session, which is loaded then. */
static bool is_session(const char *word, struct session *ret)
{
    uint64_t id = session_id_of(word);

    if (!id)
        return false;
    if (session_load(id, ret) == 0)
        return true;
    session_clear(ret);
    *ret = (struct session){0};
    return false;
}

static bool is_observed(pid_t pid)
{
    pid_t *pids;
    size_t count;
    bool found = false;

    cli_observed(NULL, &pids, &count);
    for (size_t i = 0; i < count; i++)
        found |= pids[i] == pid;
    free(pids);
    return found;
}

/* Session and process that the command line names. *ret_one: there is a session. */
static int choose(const struct args *a, struct session *s, bool *ret_one, int64_t *ret_pid)
{
    bool store = args_has(a, "host") || args_has(a, "service");
    int rc = args_number(a, "pid", 1, INT32_MAX, ret_pid);
    pid_t *pids;
    size_t count;

    if (rc)
        return rc;
    if (a->word_count && (args_has(a, "id") || args_has(a, "pid")))
        return cli_usage(a->command, "name the session or process once: as an argument, or with --id or --pid");
    if (args_has(a, "id") || store) {
        *ret_one = true;
        return cli_session(a, s);
    }
    if (!a->word_count)
        return 0;
    if (is_session(a->words[0], s)) {
        *ret_one = true;
        return 0;
    }
    rc = cli_targets(a, a->words[0], true, &pids, &count);
    if (rc)
        return rc;
    *ret_pid = pids[0];
    free(pids);
    if (!is_observed((pid_t)*ret_pid)) {
        cli_error("%s is neither a session nor a process that is observed", a->words[0]);
        cli_hint(
            "`scope history` and `scope ps` list them; `scope dash -i N --pid PID` shows a process that has ended");
        return EXIT_FAILED;
    }
    return 0;
}

static int run(struct args *a)
{
    struct dash d = {.speed = 1, .live = true, .view.filter = ""};
    struct session s = {0};
    const char *wrong =
        !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) ? "standard input and output have to be a terminal" : NULL;
    bool one = false;
    int64_t pid = 0;
    int why, rc;

    if (wrong)
        return no_terminal(wrong);
    rc = choose(a, &s, &one, &pid);
    if (rc)
        return rc;
    d.feed = feed_new(one ? &s : NULL);
    if (!one && !feed_sessions(d.feed) && !pid && session_load(0, &s) == 0) {
        feed_free(d.feed); /* nothing is being recorded */
        d.feed = feed_new(&s);
        one = true;
    }
    if (pid && !one && !is_observed((pid_t)pid)) {
        cli_error("process %lld is not observed", (long long)pid);
        cli_hint("`scope ps` lists those that are; of a recorded session: `scope dash -i N -p %lld`", (long long)pid);
        feed_free(d.feed);
        return EXIT_FAILED;
    }
    if (one && feed_unreadable(d.feed, &why)) {
        cli_error("the records of session %llu can't be shown: %s", (unsigned long long)s.id,
                  why == -ENOTSUP           ? "they are not kept in a journal"
                  : why == -EBADMSG         ? "it is no journal, or its beginning is damaged"
                  : why == -EPROTONOSUPPORT ? "its journal is of a version that this scope doesn't know"
                                            : strerror(-why));
        if (why == -ENOTSUP)
            cli_hint("`scope history -i %llu` says where they went", (unsigned long long)s.id);
        feed_free(d.feed);
        return EXIT_FAILED;
    }
    if (one) /* of s only its number is ours still */
        buf_printf(&d.what, "session %llu", (unsigned long long)s.id);
    else
        buf_str(&d.what, "all sessions");
    d.view.what = buf_cstr(&d.what);
    d.model = dash_new();
    dash_only(d.model, (uint32_t)pid);
    wrong = screen_open(cli_color(a));
    if (wrong) {
        rc = no_terminal(wrong);
    } else {
        go_live(&d);
        rc = loop(&d);
        screen_close();
    }
    dash_free(d.model);
    feed_free(d.feed);
    grid_free(&d.grid);
    buf_free(&d.what);
    buf_free(&d.losses);
    buf_free(&d.note);
    if (!wrong && screen_signal()) {
        signal(screen_signal(), SIG_DFL);
        raise(screen_signal());
    }
    return rc;
}

const struct cli_command command_dash = {
    .name = "dash",
    .summary = "Show live what is being recorded, full-screen",
    .usage = "[OPTIONS] [SESSION|PID|NAME]",
    .description =
        "Processes, network, connections, HTTP, DNS, files, console and events on the terminal, renewed each second, "
        "and "
        "what was lost. Without an argument: all sessions that are being recorded and that you may read, those of the "
        "host "
        "and of services too; if there are none, your last session. A number is a session, or else a process. The "
        "terminal "
        "has to have 80 columns and 24 rows. The keys are at the bottom; ? explains all of them.\n"
        "Arrow keys go back and forward in time, Home to the beginning, End to the end, and Space stops the time or "
        "lets it "
        "go on. What is shown are the ten minutes before that time. It reads what is recorded, and costs the observed "
        "program nothing.\n"
        "Of an HTTP exchange or DNS query whose both sides are observed, each side counts. Sessions whose records are "
        "not "
        "kept in a journal can't be shown.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .max_args = 1,
    .run = run,
};
