/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, in words. Pure. */
#ifndef SCOPE_CRASH_WORDS_H
#define SCOPE_CRASH_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crash/view.h"

/* "SIGSEGV", "SIGRTMIN+3", "signal 99"; valid until the next call. */
const char *words_signal(int signo);
/* "address not mapped to an object", "sent by kill(2)": si_code of sigaction(2), after its name; "" if unknown. */
const char *words_code(int signo, int code);
const char *words_code_name(int signo, int code); /* "SEGV_MAPERR", or "" */
/* Whether si_addr says something with that signal and code. */
bool words_has_address(int signo, int code);

/* What an address lies in, or near to: "NULL + 0x18", "40 bytes below the stack of thread 3 (guard page)". */
void words_address(const struct crash_view *v, uint64_t address, char *ret, size_t size);
/* The same with the signal in mind: where the kernel couldn't tell an address. */
void words_where(const struct crash_view *v, char *ret, size_t size);

/* Whether the value of a variable of that name is kept from everybody (passwords, tokens, keys). */
bool words_is_secret(const char *name, size_t len);
/* Length of the user and password in a URL that begins at or behind s ("user:password@"): *ret_at is where; 0: none. */
size_t words_credentials(const char *s, size_t len, size_t *ret_at);

#endif
