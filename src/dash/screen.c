/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/screen.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGPIPE};
static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

static struct {
    SCREEN *screen;
    sigset_t mask; /* as it was */
    int signals;   /* signalfd */
    int ended;     /* the signal that asked for it */
    bool utf8, colors;
    struct termios modes; /* as they were */
    char restore[256];    /* what leaves the alternate screen and shows the cursor */
    size_t restore_len;
} s;

/* --- the locale --- */

/* glibc in a static program knows C.UTF-8 without files; others only where they are installed. */
static bool is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *value = NULL;

    if (setlocale(LC_CTYPE, "") && strcmp(nl_langinfo(CODESET), "UTF-8") == 0)
        return true;
    for (size_t i = 0; i < 3 && (!value || !*value); i++)
        value = getenv(names[i]);
    value = value ? strchr(value, '.') : NULL;
    if (value && (strncasecmp(value, ".UTF-8", 6) == 0 || strncasecmp(value, ".utf8", 5) == 0))
        return setlocale(LC_CTYPE, "C.UTF-8") != NULL;
    setlocale(LC_CTYPE, "C");
    return false;
}

/* --- a crash of our own --- */

static void note_text(const char *text)
{
    size_t len = text && text != (const char *)-1 ? strlen(text) : 0;

    if (len > sizeof(s.restore) - s.restore_len)
        return;
    if (len)
        memcpy(s.restore + s.restore_len, text, len);
    s.restore_len += len;
}

/* Only what is async-signal-safe; behind it the fault comes again, or is raised again, and is what it always is. */
static void on_fault(int sig)
{
    size_t done = 0;

    while (done < s.restore_len) {
        ssize_t n = write(STDOUT_FILENO, s.restore + done, s.restore_len - done);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &s.modes);
    raise(sig); /* SA_RESETHAND; blocked until the handler returns */
}

static void set_faults(bool ours)
{
    struct sigaction a = {.sa_handler = ours ? on_fault : SIG_DFL, .sa_flags = ours ? SA_RESETHAND : 0};

    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
        sigaction(faults[i], &a, NULL);
}

/* --- opening and closing --- */

/* What terminals send although terminfo says otherwise: it names one form of each. */
static void add_keys(void)
{
    static const struct {
        const char *sequence;
        int key;
    } more[] = {{"\033[A", KEY_UP},     {"\033OA", KEY_UP},    {"\033[B", KEY_DOWN},  {"\033OB", KEY_DOWN},
                {"\033[C", KEY_RIGHT},  {"\033OC", KEY_RIGHT}, {"\033[D", KEY_LEFT},  {"\033OD", KEY_LEFT},
                {"\033[H", KEY_HOME},   {"\033OH", KEY_HOME},  {"\033[1~", KEY_HOME}, {"\033[7~", KEY_HOME},
                {"\033[F", KEY_END},    {"\033OF", KEY_END},   {"\033[4~", KEY_END},  {"\033[8~", KEY_END},
                {"\033[5~", KEY_PPAGE}, {"\033[6~", KEY_NPAGE}};

    for (size_t i = 0; i < sizeof(more) / sizeof(*more); i++)
        define_key(more[i].sequence, more[i].key);
}

static void set_up(bool colors)
{
    static const short foreground[STYLE_COUNT] = {
        [STYLE_TITLE] = COLOR_CYAN, [STYLE_DIM] = -1,          [STYLE_GOOD] = COLOR_GREEN,
        [STYLE_BAD] = COLOR_RED,    [STYLE_BAR] = COLOR_GREEN, [STYLE_SELECTED] = -1};

    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    add_keys();
    nodelay(stdscr, TRUE);
    set_escdelay(25);
    curs_set(0);
    leaveok(stdscr, TRUE);
    s.colors = colors && has_colors() && start_color() == OK && use_default_colors() == OK;
    for (short i = 1; s.colors && i < STYLE_COUNT; i++)
        init_pair(i, foreground[i], -1);
}

/* The text of terminfo, NULL if there is none: tigetstr(3) isn't const-correct. */
static const char *capability(const char *name)
{
    char copy[16];

    strncpy(copy, name, sizeof(copy) - 1);
    copy[sizeof(copy) - 1] = '\0';
    return tigetstr(copy);
}

/* As large as it is, whatever LINES and COLUMNS in the environment say. */
static void take_size(void)
{
    struct winsize w;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col)
        resizeterm(w.ws_row, w.ws_col);
    clearok(curscr, TRUE);
}

static const char *check_terminal(void)
{
    const char *term = getenv("TERM"), *move;
    int error = 0;

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return "standard input and output have to be a terminal";
    if (!term || !*term)
        return "TERM isn't set: it has to name the kind of the terminal, such as xterm-256color";
    if (setupterm(NULL, STDOUT_FILENO, &error) == ERR) {
        if (error < 0)
            return "there is no terminfo database: install ncurses-base, or let TERMINFO name a directory that has one";
        return "terminfo doesn't know the terminal that TERM names, or that can't do it: try TERM=xterm-256color, or set "
               "TERMINFO to the directory that has it";
    }
    move = capability("cup");
    if (!move || move == (const char *)-1)
        return "this kind of terminal (TERM) can't move the cursor";
    return NULL;
}

const char *screen_open(bool colors)
{
    const char *wrong = check_terminal();
    sigset_t set;

    if (wrong)
        return wrong;
    if (tcgetattr(STDIN_FILENO, &s.modes) < 0)
        return "the modes of the terminal can't be read";
    s.utf8 = is_utf8();
    s.ended = 0;
    s.restore_len = 0;
    note_text(capability("sgr0"));
    note_text(capability("cnorm"));
    note_text(capability("rmkx"));
    note_text(capability("rmcup"));
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
        sigaddset(&set, taken[i]);
    sigprocmask(SIG_BLOCK, &set, &s.mask);
    s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s.signals < 0) {
        sigprocmask(SIG_SETMASK, &s.mask, NULL);
        return "there is no descriptor left";
    }
    s.screen = newterm(NULL, stdout, stdin);
    if (!s.screen) {
        close(s.signals);
        sigprocmask(SIG_SETMASK, &s.mask, NULL);
        return "ncurses can't use this terminal";
    }
    set_faults(true);
    set_up(colors);
    take_size();
    return NULL;
}

void screen_close(void)
{
    if (!s.screen)
        return;
    endwin();
    tcsetattr(STDIN_FILENO, TCSANOW, &s.modes);
    set_faults(false);
    delscreen(s.screen);
    s.screen = NULL;
    close(s.signals);
    /* Those that came meanwhile have been acted upon, or are acted upon now. */
    sigprocmask(SIG_SETMASK, &s.mask, NULL);
}

bool screen_utf8(void)
{
    return s.utf8;
}

void screen_size(unsigned *ret_width, unsigned *ret_height)
{
    *ret_width = COLS > 0 ? (unsigned)COLS : 1;
    *ret_height = LINES > 0 ? (unsigned)LINES : 1;
}

/* --- drawing --- */

static attr_t attributes(enum grid_style style)
{
    switch (style) {
    case STYLE_TITLE:
    case STYLE_BAD:
        return A_BOLD;
    case STYLE_DIM:
        return A_DIM;
    case STYLE_SELECTED:
        return A_REVERSE;
    default:
        return A_NORMAL;
    }
}

void screen_draw(const struct grid *g)
{
    erase();
    for (unsigned y = 0; y < g->height; y++) {
        for (unsigned x = 0; x < g->width; x++) {
            const struct grid_cell *c = &g->cells[(size_t)y * g->width + x];
            cchar_t ch;

            if (!c->ch[0] || (c->ch[0] == L' ' && c->style != STYLE_SELECTED))
                continue;
            if (setcchar(&ch, c->ch, attributes(c->style), (short)(s.colors ? c->style : 0), NULL) == OK)
                mvadd_wch((int)y, (int)x, &ch);
        }
    }
    refresh();
}

/* --- keys and signals --- */

static void stop(void)
{
    sigset_t set, old;
    struct sigaction def = {.sa_handler = SIG_DFL}, was;

    endwin();
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    sigaction(SIGTSTP, &def, &was);
    raise(SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &set, &old); /* here it stops */
    sigprocmask(SIG_SETMASK, &old, NULL);
    sigaction(SIGTSTP, &was, NULL);
}

/* KEY_IS_NONE: nothing that its caller has to know. */
static int take_signal(void)
{
    struct signalfd_siginfo info;
    int key = KEY_IS_NONE;

    while (read(s.signals, &info, sizeof(info)) == sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGTSTP:
            stop();
            take_size();
            key = KEY_IS_RESIZED;
            break;
        case SIGCONT:
        case SIGWINCH:
            take_size();
            key = KEY_IS_RESIZED;
            break;
        default:
            s.ended = (int)info.ssi_signo;
            return KEY_IS_SIGNAL;
        }
    }
    return key;
}

static int translate(int rc, wint_t ch)
{
    static const struct {
        int curses, ours;
    } keys[] = {{KEY_UP, KEY_IS_UP},       {KEY_DOWN, KEY_IS_DOWN},     {KEY_LEFT, KEY_IS_LEFT},
                {KEY_RIGHT, KEY_IS_RIGHT}, {KEY_PPAGE, KEY_IS_PAGE_UP}, {KEY_NPAGE, KEY_IS_PAGE_DOWN},
                {KEY_HOME, KEY_IS_HOME},   {KEY_END, KEY_IS_END},       {KEY_ENTER, '\n'},
                {KEY_BACKSPACE, 0x7f},     {KEY_RESIZE, KEY_IS_RESIZED}};

    if (rc == OK)
        return ch == '\r' ? '\n' : ch == '\b' ? 0x7f : (int)ch;
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (rc == KEY_CODE_YES && (int)ch == keys[i].curses)
            return keys[i].ours;
    return KEY_IS_NONE;
}

int screen_key(int timeout_ms)
{
    struct pollfd fds[] = {
        {.fd = STDIN_FILENO, .events = POLLIN}, {.fd = s.signals, .events = POLLIN}, {.fd = STDOUT_FILENO}};
    wint_t ch = 0;
    int rc = get_wch(&ch), waiting = 0; /* ncurses may hold one already */

    if (rc != ERR)
        return translate(rc, ch);
    if (poll(fds, 3, timeout_ms) <= 0)
        return KEY_IS_NONE;
    if (fds[1].revents)
        return take_signal();
    if ((fds[0].revents | fds[2].revents) & (POLLERR | POLLHUP | POLLNVAL))
        return KEY_IS_GONE;
    if (!(fds[0].revents & POLLIN))
        return KEY_IS_NONE;
    if (ioctl(STDIN_FILENO, FIONREAD, &waiting) == 0 && waiting == 0)
        return KEY_IS_GONE; /* readable and empty: the end of it */
    rc = get_wch(&ch);
    return translate(rc, ch);
}

int screen_signal(void)
{
    return s.ended;
}
