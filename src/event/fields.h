/* SPDX-License-Identifier: Apache-2.0 */
/* The members that a field of type TM_WHO or TM_OWNER stands for. */
#ifndef SCOPE_EVENT_FIELDS_H
#define SCOPE_EVENT_FIELDS_H

#include <string.h>

#include "event/event.h"

#define TM_GROUP_FIELDS 3

static inline bool tm_is_group(const struct tm_field *f)
{
    return f->type == TM_WHO || f->type == TM_OWNER;
}

static inline struct tm_field tm_text_field(const char *name, const char *text)
{
    return (struct tm_field){.name = name, .type = TM_STR, .v.str = {text, text ? strlen(text) : 0}};
}

static inline struct tm_field tm_number_field(const char *name, uint64_t n)
{
    return (struct tm_field){.name = name, .type = TM_UINT, .v.u = n};
}

/* In their order. What they point to belongs to `who`. */
static inline void tm_expand_group(const struct tm_process *who, enum tm_type group, struct tm_field ret[TM_GROUP_FIELDS])
{
    if (group == TM_WHO) {
        ret[0] = tm_text_field("proc", who->proc);
        ret[1] = tm_number_field("pid", who->pid);
        ret[2] = tm_text_field("host", who->host);
    } else {
        ret[0] = tm_number_field("proc_uid", who->uid);
        ret[1] = tm_number_field("proc_gid", who->gid);
        ret[2] = tm_text_field("proc_cgroup", who->cgroup);
    }
}

#endif
