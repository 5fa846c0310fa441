/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of a whole host: which programs are observed wherever they are started, and how. This room reads and writes the
 * file that people edit (docs/host.md has its format, the one of AppScope 1.4), compiles it into what probes map
 * (wire/rules.h), and gives each rule's configuration to config_sources. It touches no process. Single-threaded.
 */
#ifndef SCOPE_RULES_RULES_H
#define SCOPE_RULES_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"
#include "wire/rules.h"

#define HOST_CONFIG_DIR "/etc/scope"
#define HOST_RULES      HOST_CONFIG_DIR "/rules.yml"

#define RULES_ANY "_MatchAll_" /* in the file: any program, any arguments */

struct rule {
    enum rules_kind kind;
    char *procname;        /* NULL: any (_MatchAll_, or not given) */
    char *arg;             /* NULL: any */
    char *sourceid;        /* for people and `scope rules --remove`; may be NULL */
    char *config;          /* YAML of a scope.yml; NULL: none */
    unsigned line;         /* where it begins in the file, 0: not from a file */
    unsigned config_line;  /* where its config does */
};

struct rules {
    char *name;            /* of the file, for messages */
    struct rule *rule;     /* in file order: a rule's number is its index */
    size_t count;
    char *unix_socket_path, *auth_token; /* source: of the file; may be NULL */
    uint64_t sessions_maxsize;  /* bytes of all the host's sessions together; 0: the default */
    unsigned sessions_days;     /* oldest that are kept; 0: the default */
};

/* Reads a rules file. Mistakes are told to fn with file, line and remedy; any fatal one makes the whole file invalid
 * (-EINVAL): whoever has an earlier state keeps it. An unknown key is a mistake that isn't fatal. -ENOENT: there is no
 * file, which is the same as one without rules. *ret is the caller's (rules_free) if 0 is returned. */
int rules_read(const char *path, struct rules *ret, cfg_problem_fn fn, void *ctx);
int rules_parse(const char *name, const char *text, size_t len, struct rules *ret, cfg_problem_fn fn, void *ctx);
void rules_free(struct rules *);

/* Edits the file so that comments, order and unknown keys stay; written anew by rename, 0644 or with the mode that it
 * had, but for its owner alone if it has secrets, in a directory that is made if it is missing (0755). -EEXIST: an entry with the same kind, procname, arg and
 * sourceid is there already, and its config is replaced. -ENOENT: there is none to remove. -EINVAL: the file has
 * mistakes, or the new rule has. All but -ENOENT and -EEXIST are told to fn. */
int rules_add(const char *path, const struct rule *, cfg_problem_fn fn, void *ctx);
int rules_remove(const char *path, const struct rule *, cfg_problem_fn fn, void *ctx);
/* Sets source.unixSocketPath likewise. */
int rules_set_socket(const char *path, const char *socket, cfg_problem_fn fn, void *ctx);

/* What probes map: malloc'ed. mode_of gives enum seg_mode for a rule's effective configuration, rules_config(). NULL: it
 * would be longer than RULES_SIZE_MAX, of which rules_parse() has told, or plans is. plans may be NULL. */
void *rules_compile(const struct rules *, uint64_t generation, const char *plans,
                    uint32_t (*mode_of)(void *ctx, const struct rule *), void *ctx, size_t *ret_size);

/* The rules that apply to a program: all allowing ones that name it, if no denying one does; numbers ascending, for
 * cfg_process.rules. Returns how many; max of them are stored. 0 if and only if rules_match() is RULES_NONE. h is
 * rules_valid(). */
size_t rules_which(const struct rules_head *h, const struct rules_subject *, uint32_t *ret, size_t max);
/* The number of the rule that an entry was made of; RULES_NONE: of none. */
uint32_t rules_of_entry(const struct rules_head *h, uint32_t entry);

/* Adds each rule's configuration, for the programs that it names: config_for() takes those whose numbers are in
 * cfg_process.rules. In file order; later ones lie above earlier ones, all of them above what was added before. */
void rules_configure(const struct rules *, struct config_sources *, cfg_problem_fn fn, void *ctx);
/* The configuration of a program of which nothing is known but that this rule names it: with it apply those rules that
 * name all that it names. The sources have been through rules_configure(). The caller frees it. */
struct config *rules_config(const struct rules *, const struct config_sources *, const struct rule *);

/* The model as `scope rules -j` prints it, one line of JSON; secrets are masked. */
void rules_json(const struct rules *, struct buf *);
/* Whether something is masked in it: who reads the file can send in this host's name. */
bool rules_have_secrets(const struct rules *);

#endif
