/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/door.h"

#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "collector/admission.h"
#include "collector/segment.h"
#include "model/clock.h"
#include "model/procinfo.h"

#define MINUTE_NS UINT64_C(60000000000)
#define NAMED_MAX 5u /* of them in a minute */

enum may {
    GUEST = 1 << DOOR_GUEST,
    OWNER = 1 << DOOR_OWNER,
    ORDER = 1 << 4, /* is done with the collector's rights, about any process: only by whom has all of these, too */
    MAIL = 1 << 5,  /* also over a connection that the collector has fetched */
};

static const unsigned table[] = {
    [JOIN_SEGMENT] = GUEST | OWNER | MAIL, /* here is what I do */
    [JOIN_PLAN] = GUEST | OWNER | MAIL,    /* how is this image patched? The answer is made with the asker's rights. */
    [JOIN_TRACE] = GUEST | OWNER | MAIL,   /* bring the probe into what I exec next; likewise */
    [JOIN_SYNC] = OWNER,                   /* write out what was recorded */
    [JOIN_INSPECT] = OWNER | ORDER,        /* what do you know of a process? */
    [JOIN_UPDATE] = OWNER | ORDER,         /* another configuration, which names files to write */
    [JOIN_ATTACH] = OWNER | ORDER,         /* here is what another process does */
    [JOIN_LEAVE] = OWNER | ORDER,          /* forget a process */
    [JOIN_CRASHES] = OWNER,                /* which crashes aren't told yet? */
    [JOIN_KNOWN] = OWNER | ORDER,          /* is this process observed? */
    [JOIN_LAST] = GUEST | OWNER,           /* we both end now; process 1 only */
    [JOIN_RELOAD] = OWNER | ORDER,         /* the rules of the host have changed */
};

/* In a time that doesn't tell where they differ. */
static bool same_secret(const char given[JOIN_SECRET_LEN], const char *expected)
{
    unsigned char differs = 0;

    for (unsigned i = 0; i < JOIN_SECRET_LEN; i++) {
        if (!expected[i])
            return false;
        differs |= (unsigned char)(given[i] ^ expected[i]);
    }
    return !differs && !expected[JOIN_SECRET_LEN];
}

/* Whether the rules of a host invite it: its program is named, or it is what one that is observed has forked. */
static bool is_invited(const struct peer *p, const struct door *door)
{
    struct pi_stat st;

    if (!door->rules || p->pid <= 0)
        return false;
    if (admission_names(door->rules, p->pid))
        return peer_lives(p);
    return door->observed && (door->observed(door->ctx, p->pid) ||
                              (pi_stat(p->pid, &st) == 0 && door->observed(door->ctx, st.ppid) && peer_lives(p)));
}

enum door_role door_role(const struct peer *p, const char secret[JOIN_SECRET_LEN], const struct door *door)
{
    uid_t me = geteuid();

    if (p->uid == me || p->uid == 0)
        return DOOR_OWNER;
    if (is_invited(p, door))
        return DOOR_GUEST;
    if (!door->secret || !same_secret(secret, door->secret))
        return DOOR_STRANGER;
    /* Programs of root become anybody's; those of others have other numbers in user namespaces of their own only. */
    return me == 0 || pi_in_own_userns(p->pid) ? DOOR_GUEST : DOOR_STRANGER;
}

enum door_role door_role_of_segment(const struct peer *p, const char secret[JOIN_SECRET_LEN], const struct door *door,
                                    int fd)
{
    enum door_role role = door_role(p, secret, door);
    struct segment_map m;
    const char *why;

    if (role != DOOR_STRANGER || !door->rules || fd < 0 || segment_open(&m, fd, UINT64_MAX, &why))
        return role;
    if ((!peer_lives(p) || !peer_runs(p, &m, false)) &&
        admission_names_as(door->rules, m.info.exe, m.info.comm, m.info.argv, m.info.argv_len))
        role = DOOR_GUEST;
    segment_unmap(&m);
    return role;
}

int door_allows(const struct peer *p, enum door_role role, uint32_t type, bool mail)
{
    unsigned may = type < sizeof(table) / sizeof(*table) ? table[type] : 0;

    if (!may)
        return role == DOOR_STRANGER ? -EPERM : -EINVAL;
    if (!(may & 1u << role) || (mail && !(may & MAIL)))
        return -EPERM;
    if ((may & ORDER) && !peer_is_as_privileged(p)) /* what one could do that has ended isn't known any more */
        return peer_lives(p) ? -EPERM : -ESRCH;
    return 0;
}

void door_sum(struct door_log *log, bool end)
{
    uint64_t now = clock_now_mono();

    if (!log->since_ns || (!end && now - log->since_ns < MINUTE_NS))
        return;
    if (log->unsaid)
        log_warning("%llu more %s", (unsigned long long)log->unsaid, log->what ? log->what : "requests were refused");
    *log = (struct door_log){.what = log->what};
}

bool door_says(struct door_log *log)
{
    door_sum(log, false);
    if (!log->since_ns)
        log->since_ns = clock_now_mono();
    if (log->said == NAMED_MAX) {
        log->unsaid++;
        return false;
    }
    log->said++;
    return true;
}

void door_refused(struct door_log *log, const struct peer *p, const char *why)
{
    if (!door_says(log))
        return;
    log_warning("process %d of user %u %s: refused", (int)p->pid, (unsigned)p->uid, why);
}
