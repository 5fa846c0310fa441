/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which protocol a connection or datagram socket speaks, by its first bytes.
 * Ports say nothing.
 *
 * Rules are tried in this order: the user's, in the order of their definition;
 * then what is built in, in the order of its table. A user's rule that has the name
 * of some that may be replaced (upper and lower case are equal) stands for all of
 * that name, which aren't tried then. Where it fits, the first bytes say which of
 * them it is: one that they fit, or else the last.
 *
 * The rules are tried on the direction in which the first byte passed; on the
 * other one if none of them fits the first, or while those built in can't say
 * yet. The first that fits is the answer.
 *
 * What the bytes of one direction are, for a user's rule, is its window: from
 * the first byte up to
 *   - `len` bytes of the rule (0: DETECT_WINDOW), or
 *   - the byte before the first that passes in the other direction later, or
 *   - the end of the direction,
 * whatever comes first. A match that doesn't depend on what may follow is taken
 * before the window is complete. For the rules that are built in the window has
 * DETECT_BUDGET bytes, or ends with the direction. A datagram is always complete;
 * only the first of each direction counts.
 *
 * So the answer depends on the bytes of each direction and on which direction
 * followed which, and not on how they were divided into pieces; only how soon it
 * is told does. What was not captured (a gap) ends its direction: nothing behind it
 * is looked at. So does the DETECT_TURNS-th change of direction for both.
 *
 * Memory: DETECT_BUDGET bytes for each direction, which the decoder gets in the
 * end (detect_replay()), until then or detect_free().
 */
#ifndef SCOPE_PROTOCOL_DETECT_H
#define SCOPE_PROTOCOL_DETECT_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define DETECT_BUDGET 16384u /* bytes of a direction; request lines of HTTP are that long at most in common servers */
#define DETECT_WINDOW 4096u  /* bytes that a user's rule sees at most */
#define DETECT_STEPS 20000u  /* of a user's pattern on one window, all starting points together; more is no match */
#define DETECT_LOOKS \
    16u /* pieces of a direction after each of which it is looked; later after half as many bytes more */
#define DETECT_TURNS 64u
#define DETECT_PIECES 256u /* pieces that detect_replay() tells apart */

/* What the user defines (docs/config.md, `protocol`). */
struct detect_rule {
    const char *name;
    const char *regex; /* PCRE2, on bytes, not anchored */
    bool binary;       /* it is matched with the bytes as lower-case hexadecimal digits, two for each */
    unsigned len;      /* bytes that are looked at; 0: DETECT_WINDOW */
};

/* What is built in: how the first bytes of a direction look. The functions say 1: so; 0: not so; -1: more bytes are
 * needed to tell. whole: none will follow (always so of a datagram). */
struct detect_builtin {
    const char *name; /* what it is called in the answer; HTTP/1 and HTTP/2 have the same */
    int (*stream)(const uint8_t *data, size_t len, bool whole);   /* NULL: never on a connection */
    int (*datagram)(const uint8_t *data, size_t len, bool whole); /* NULL: never in a datagram */
    /* Instead of `stream`: it takes the bytes of both directions to tell, those of who has spoken first, and of the other. */
    int (*exchange)(const uint8_t *first, size_t first_len, const uint8_t *other, size_t other_len);
    bool replaceable;  /* by a user's rule of that name */
    bool unmistakable; /* hardly anything else looks so: it is also looked for in the middle of a connection */
};

enum detect_state {
    DETECT_MORE, /* can't say yet */
    DETECT_FOUND,
    DETECT_NOTHING, /* none of them, for good */
};

struct detect_answer {
    enum detect_state state;
    bool more[PROTO_DIRS]; /* DETECT_MORE: bytes in these directions can decide it */
    /* DETECT_FOUND: */
    size_t builtin;     /* index of what is built in, DETECT_NONE: a user's rule of another name */
    const char *name;   /* of the user's rule, else of what is built in; as long as the rules */
    size_t rule;        /* index of the user's rule, DETECT_NONE if it was none */
    enum proto_dir dir; /* whose bytes decided it */
};
#define DETECT_NONE SIZE_MAX

/* The rules of one configuration, compiled. */
struct detect_rules;

/* Names and patterns are copied; what `builtin` points to is kept by reference. A rule whose pattern can't be compiled
 * never fits; problem (may be NULL) is told which and why. Never fails. */
struct detect_rules *detect_rules_new(const struct detect_rule *rules, size_t count,
                                      const struct detect_builtin *const *builtin, size_t builtin_count,
                                      void (*problem)(void *ctx, size_t rule, const char *text), void *ctx);
/* They go with the last struct detect that uses them; names that were told stay for good. NULL is fine. */
void detect_rules_free(struct detect_rules *r);

/* One connection, or one datagram socket. */
struct detect;

/* rules are kept by reference. Never fails. */
struct detect *detect_new(struct detect_rules *rules, bool datagrams);
/* One connection, in the middle: what begins with a turn of direction. Tries only what is unmistakable, in the direction
 * of the first byte, unless a rule of the user's stands for it. */
struct detect *detect_new_turn(struct detect_rules *rules);
void detect_free(struct detect *d);

/* len bytes (or a datagram) that passed in this direction; data NULL: that weren't captured. Returns how many of them
 * are kept for detect_replay(). If there is an answer now, the others belong to the decoder after that; if there is
 * none, they are missed. Nothing is kept once there was an answer. */
size_t detect_feed(struct detect *d, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns);
/* Nothing more comes in this direction. */
void detect_end(struct detect *d, enum proto_dir dir);
struct detect_answer detect_answer(const struct detect *d);

/* Gives all that was fed to the decoder, in order and with its times; then it is forgotten. data NULL: bytes that
 * weren't captured, or not kept. Pieces of a stream that follow each other in one direction are joined if there are
 * more than DETECT_PIECES. */
void detect_replay(struct detect *d,
                   void (*feed)(void *ctx, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns),
                   void *ctx);

#endif
