/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session store: $SCOPE_HOME, or ~/.scope.
 *
 *   history/<id>/session.json   metadata (below), rewritten atomically
 *   history/<id>/scope.yml      configuration given to the collector
 *   history/<id>/journal        events and metrics (docs/journal.md)
 *   history/<id>/events.json    ... of sessions of earlier versions: ndjson
 *   history/<id>/metrics.json   ... ndjson or StatsD lines
 *   history/<id>/scope.log      the collector's log: what was not observed and why
 *   history/<id>/payloads/      captured traffic (payload.h)
 *   history/<id>/cmd/           commands
 *
 * Directories are 0700, files 0600, whatever the umask. Ids are handed out under a lock and never reused.
 *
 * What is written and removed goes through directories that were opened and checked (base/safe_path.h): the store
 * belongs to the effective user, nobody else but root can write to it or to what it lies in, and below it no link is
 * followed. A session that is being recorded keeps its directory open. Stores of others can be read, by root for
 * instance, but not written to.
 */
#ifndef SCOPE_SESSION_SESSION_H
#define SCOPE_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SESSION_JOURNAL "journal"

struct session {
    uint64_t id;
    char *dir;     /* absolute */
    char *command; /* base name of the program */
    char **argv;   /* NULL-terminated */
    char *cwd;
    char *kind;                     /* "run", "watch", "attach", "host" */
    pid_t pid;                      /* of the program */
    pid_t collector;                /* pid of the collector, 0 before it started */
    char *socket;                   /* socket of the collector: abstract name, or path */
    uint64_t start_ns;              /* CLOCK_REALTIME */
    uint64_t end_ns;                /* 0 while running */
    char *event_dest, *metric_dest; /* URLs */
    char *otlp_dest;                /* which signals go where by OTLP, for people; NULL: none */
    char *metric_format;
    char *payload_dir; /* where captured traffic is; NULL: payloads/ */
    uint64_t events, metrics, processes; /* so far; updated about once a second and at the end */
    uint64_t held_back;                  /* events held back by the rate limiter */
    struct session_count {
        char *kind;
        uint64_t count;
    } * lost, *unread; /* loss per kind; connections of TLS that could not be read, per reason (traffic/unread.h) */
    size_t lost_count, unread_count;
    int exit_code;          /* of the program if known, else -1 */
    int exit_signal;        /* 0 if none or unknown */
    bool telemetry_stopped; /* the collector died before the program */
};

/* Base directory: malloc'ed absolute path. For root a $HOME where another user could change root's files (sudo can leave
 * the caller's) doesn't count: it is root's own home, then. */
char *session_base(void);
/* Creates the next session: directory, id, files. Fills id and dir; other members are the caller's.
 * 0, or -errno with *ret_what naming the path that failed, for -EPERM and -ELOOP with the reason (malloc'ed); nothing is
 * left of the session then. */
int session_create(struct session *s, char **ret_what);
/* Writes session.json (temporary file, rename). 0 or -errno. With the lock of session_lock() (-1: none) a disk that is
 * full by then is no obstacle: the space that the lock file keeps for this is given up, so that what was lost can still
 * be told. */
int session_save(const struct session *s, int lock_fd);
/* Its two parts: what is to be written (malloc'ed, or NULL), and writing it to the session's directory. The second one
 * may run in another thread. */
char *session_text(const struct session *s);
int session_write(const char *dir, const char *text, int lock_fd);
/* Loads by id; id 0 means the most recent. 0, -ENOENT, -EINVAL for damaged metadata (dir is still set), or why the
 * sessions can't be read. */
int session_load(uint64_t id, struct session *ret);
/* All sessions, oldest first; damaged ones are included with command "?". */
int session_list(struct session **ret, size_t *ret_count);
/* For people: what an error of these two is about. */
const char *session_error(int rc);
/* A session's id from the name of its directory in history/: decimal, no sign, no leading zero. 0: it is none. */
uint64_t session_id_of(const char *name);
void session_clear(struct session *s);
/* So much of a kind was lost. */
void session_set_lost(struct session *s, const char *kind, uint64_t count);
/* So many connections of TLS could not be read for this reason. */
void session_set_unread(struct session *s, const char *why, uint64_t count);
/* Whether what the metadata of a session name (and this is open) may be taken for its data: always if the session is the
 * effective user's own, else only if it belongs to whom the session does. Else root could be shown any file as events. */
bool session_owns(const struct session *s, int fd);
/* Removes the directory of a session. 0, -EBUSY while its collector runs, or -errno. */
int session_remove(const struct session *s);
/* Removes a session that no collector was started for. 0 or -errno. */
int session_discard(const struct session *s);
/* The collector holds a lock on <dir>/lock while it runs. */
int session_lock(const char *dir); /* descriptor or -EWOULDBLOCK/-errno */
void session_unlock(int lock_fd);
bool session_running(const struct session *s);
/* Asks the session's collector to write out everything recorded so far and waits at most timeout_ms.
 * 0: done or no collector; -ETIMEDOUT. */
int session_sync(const struct session *s, unsigned timeout_ms);
/* Sends a request, of which all but magic and table_hash is the caller's, to the collector that listens at this socket
 * (wire/join.h), and waits at most timeout_ms for its answer. The connection (close-on-exec, non-blocking) if the
 * answer is good, else its status, -ETIMEDOUT, or the error of the socket. */
struct join_request;
int session_request(const char *socket, struct join_request *req, unsigned timeout_ms);
/* The same with descriptors: send_fd (-1: none; stays the caller's), and one that comes with the answer (-1: none; the
 * caller's, unless ret_fd is NULL). owner: nothing is sent to a collector but this user's and root's, -EACCES; NULL: to
 * anybody's, as the name of the socket is known from a safe place. 0 or -errno; the connection is closed. */
int session_ask(const char *socket, const uid_t *owner, struct join_request *req, int send_fd, int *ret_fd,
                unsigned timeout_ms);
/* A request in two steps: sends it, with `count` descriptors (at most 2, which stay the caller's): a connection or
 * -errno ... */
int session_send(const char *socket, struct join_request *req, const int *fds, size_t count, unsigned timeout_ms);
/* ... and waits for the answer: its status, or -ETIMEDOUT. The connection stays open. */
int session_answer(int fd, unsigned timeout_ms);

#endif
