/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal, by ncurses: one at a time. Signals that end or stop the process are taken over from screen_open() to
 * screen_close(), so that the terminal is restored first.
 */
#ifndef SCOPE_DASH_SCREEN_H
#define SCOPE_DASH_SCREEN_H

#include <stdbool.h>

#include "dash/grid.h"

enum screen_key {
    KEY_IS_NONE = 0, /* time is over */
    /* 1 to 0x10ffff: a character; '\n' for Enter, 0x1b for Esc, 0x7f for backspace */
    KEY_IS_UP = 0x110000,
    KEY_IS_DOWN,
    KEY_IS_LEFT,
    KEY_IS_RIGHT,
    KEY_IS_PAGE_UP,
    KEY_IS_PAGE_DOWN,
    KEY_IS_HOME,
    KEY_IS_END,
    KEY_IS_RESIZED, /* or continued: everything has to be drawn */
    KEY_IS_SIGNAL,  /* screen_signal() says which: it is to end */
    KEY_IS_GONE,    /* nobody is at the terminal any more */
};

/* Takes the terminal of standard input and output. NULL, or what is wrong with it, for people; then nothing was
 * changed. colors: false where none are wanted. Sets LC_CTYPE. */
const char *screen_open(bool colors);
/* Gives it back as it was. */
void screen_close(void);
/* A terminal shows UTF-8, as the locale says. */
bool screen_utf8(void);
void screen_size(unsigned *ret_width, unsigned *ret_height);
void screen_draw(const struct grid *g);
/* Waits for a key, timeout_ms at most. */
int screen_key(int timeout_ms);
/* The signal that asked it to end; 0: none. Behind screen_close() the caller dies of it. */
int screen_signal(void);

#endif
