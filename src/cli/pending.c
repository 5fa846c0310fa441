/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pending.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "session/session.h"
#include "wire/join.h"

#define MS UINT64_C(1000000)
#define ANSWER_MS 2000u
#define ANSWER_MAX (1 << 20)
#define ENDING_MS 15000u /* a collector that ends listens no more, and may have crashes to write */
#define WAIT_MS 60000u   /* more than the collector gives a crash: to look at it, and to write what was done last */
#define QUIET_MS 300u
#define LOOK_MS 50

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* *ret_ends: the collector is there, and listens no more. */
static json_t *ask(const struct session *s, bool *ret_ends)
{
    struct join_request req = {.type = JOIN_CRASHES};
    json_t *found = NULL;
    struct stat st;
    int fd = -1, rc;

    *ret_ends = false;
    if (!session_running(s))
        return json_array();
    rc = s->socket ? session_ask(s->socket, NULL, &req, -1, &fd, ANSWER_MS) : -ECONNREFUSED;
    *ret_ends = rc == -ECONNREFUSED || rc == -ECONNRESET;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= ANSWER_MAX)
        found = json_loadfd(fd, 0, NULL);
    if (fd >= 0)
        close(fd);
    if (json_is_array(found))
        return found;
    json_decref(found);
    return json_array();
}

struct json_t *pending_crashes(const struct session *s)
{
    bool ends;

    return ask(s, &ends);
}

static json_int_t number(const json_t *crash, const char *key)
{
    return json_integer_value(json_object_get(crash, key));
}

/* The oldest of a process (0: of all) up to this number; a reference that is the array's. */
static json_t *first_of(const json_t *all, uint32_t pid, json_int_t last)
{
    json_t *crash;
    size_t i;

    json_array_foreach(all, i, crash)
    {
        if (number(crash, "number") <= last &&
            (!pid || number(crash, "pid") == (json_int_t)pid || number(crash, "hostPid") == (json_int_t)pid))
            return crash;
    }
    return NULL;
}

static void say(const json_t *crash, const char *what)
{
    const char *proc = json_string_value(json_object_get(crash, "proc"));
    struct buf name = BUF_INIT;

    text_clean(&name, proc ? proc : "", proc ? strlen(proc) : 0);
    buf_char(&name, '\0');
    cli_error("%s (process %lld) has crashed and is %sbeing looked at%s", name.p, (long long)number(crash, "pid"),
              *what ? "still " : "", what);
    buf_free(&name);
}

int pending_wait(struct session *s, uint32_t pid)
{
    uint64_t since = now_ns(), waited = 0;
    json_t *all, *crash;
    json_int_t last = -1;
    bool ends, said = false;

    for (;;) {
        all = ask(s, &ends);
        if (last < 0) /* those that come later are others */
            last = json_array_size(all) ? number(json_array_get(all, json_array_size(all) - 1), "number") : 0;
        crash = first_of(all, pid, last);
        if (!crash || waited >= WAIT_MS * MS)
            break;
        if (!said && waited >= QUIET_MS * MS) {
            say(crash, "");
            said = true;
        }
        json_decref(all);
        poll(NULL, 0, LOOK_MS);
        waited = now_ns() - since;
    }
    if (crash)
        say(crash, "; try again");
    json_decref(all);
    if (crash)
        return -ETIMEDOUT;
    cli_refresh(s, ends ? ENDING_MS : ANSWER_MS);
    return 0;
}
