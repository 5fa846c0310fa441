/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of systemd as their files say them (systemd.unit(5)): the file, and the drop-ins of all directories. It is read
 * whether systemd runs or not, and is not asked: so the same is found for a root directory that isn't running, and by a
 * collector that systemd itself is waiting for. Specifiers (%i) stay as they are. Single-threaded.
 */
#ifndef SCOPE_HOST_UNIT_H
#define SCOPE_HOST_UNIT_H

#include <stdbool.h>
#include <stddef.h>

#define UNIT_DIR "/etc/systemd/system" /* where an administrator's units and drop-ins are */

struct unit {
    char *name;           /* with ".service": of the unit itself, if an alias was asked for */
    char *path;           /* of its file */
    bool template;        /* NAME@.service */
    struct unit_line {
        char *section, *key, *value;
    } * line;             /* in the order in which they count */
    size_t count;
};

/* Reads a unit. word: its name, with or without ".service". skip: base name of a drop-in that is left out, or NULL. 0, or -errno
 * with *ret_why (malloc'ed): -EINVAL no name of a service, -ENOENT there is none, -EPERM it is there, but can't be set
 * up (masked; a unit of users' own managers). */
int unit_load(const char *word, const char *skip, struct unit *ret, char **ret_why);
void unit_clear(struct unit *);

/* The last value of a key, NULL if there is none or an empty one. */
const char *unit_value(const struct unit *, const char *section, const char *key);
/* The next value of a key that is a list: of those behind the last empty one. *at: 0 first. NULL at the end. */
const char *unit_next(const struct unit *, const char *section, const char *key, size_t *at);

/* Whether NAME.socket starts an instance of the template NAME@ for each connection (systemd.socket(5), Accept=). */
bool unit_accepts(const char *name);

/* Names of all services (without ".service") that there are files of: NULL-terminated, to be freed with each of its
 * members. */
char **unit_names(void);

/* The next word of a value, without quotes and escapes (systemd.syntax(7)): malloc'ed, NULL at the end. */
char *unit_word(const char **at);

#endif
