/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of the processes that run the compiled rules name (wire/rules.h). What /proc tells is asked for in steps, so that
 * a program that no rule names costs a few system calls, however many rules there are.
 */
#ifndef SCOPE_REACH_WANTED_H
#define SCOPE_REACH_WANTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "reach/memory.h"
#include "wire/rules.h"

/* Rules in force. Without a file it is as if there were none. */
struct wanted {
    struct rules_head *rules;       /* NULL: none */
    struct name {
        const char *text;           /* in `rules`; NULL: the place is free */
        size_t len;
    } *names, *short_names;         /* of allowing entries, by hash; as comm has them */
    uint32_t slots;                 /* of each: a power of two; 0: none */
    bool any;                       /* an allowing entry fits every name */
    bool args;                      /* an entry looks at the command line */
};

/* Reads HOST_RULES_MAPPED; what was in force stays if it can't be used: -EPERM if others could have written it, -EINVAL
 * if it isn't valid, -ESTALE if it is of another version, or another -errno. 0 also if there is none. */
int wanted_load(struct wanted *w);
void wanted_free(struct wanted *w);

/* What rules are asked about, kept: a process may change its command line later. */
struct subject {
    char *exe, *execfn; /* malloc'ed; execfn may be NULL */
    char *args;
    size_t args_len;
    bool spared;
};
void subject_clear(struct subject *s);

/* The entry that names a process of `proc` (a directory's descriptor), or RULES_NONE. With *ret, if there is one, what
 * it was decided by, the caller's. ret may be NULL. Processes without a program (kernel's, zombies) and this very
 * executable are never named. Of a process whose memory doesn't answer it is the file and its name (comm) that count.
 *
 * By which name a program was executed is looked at where its name (comm) begins like one in the rules, as that is what
 * the kernel makes it at exec: a script that has called itself something else since isn't found by its own name. */
uint32_t wanted_process(const struct wanted *w, int proc, struct memory *m, pid_t pid, struct subject *ret);
/* The same from what was known before. */
uint32_t wanted_subject(const struct wanted *w, const struct subject *s);

/* Changes with each exec, and with each process that gets the number: 0 if there is none, or it only waits for its parent.
 * ret_name: gets its name (comm), at least 16 bytes. */
uint64_t wanted_signature(int proc, pid_t pid, char *ret_name);

#endif
