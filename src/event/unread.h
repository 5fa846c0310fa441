/* SPDX-License-Identifier: Apache-2.0 */
/* Why the plaintext of a connection of TLS was not seen: docs/traffic.md, "What is seen of TLS". */
#ifndef SCOPE_EVENT_UNREAD_H
#define SCOPE_EVENT_UNREAD_H

enum unread_reason {
    UNREAD_NONE,         /* not judged, or it was seen */
    UNREAD_OPEN_BEFORE,  /* it was there when the process began to be observed */
    UNREAD_RECORDS_LOST, /* its plaintext may be among what was not captured */
    UNREAD_LIBRARY,      /* no TLS library that is known, nor a place where keys are set up */
    UNREAD_NOT_LOOKED,   /* ... in what could be looked at, which wasn't all of it */
    UNREAD_GO,           /* ... and it is written in Go */
    UNREAD_FORM,         /* keys are set up in it, by instructions that aren't known */
    UNREAD_SELF_CHECK,   /* ... in an image that checks its own code, which is left alone */
    UNREAD_JSSE,         /* Java's class library isn't as it is known */
    UNREAD_NOT_HOOKED,   /* functions were found, and none could be hooked */
    UNREAD_OTHER,        /* functions are hooked, and its plaintext doesn't pass there */
    UNREAD_SUITE,        /* keys are seen: a suite that can't be opened */
    UNREAD_CAPTURE,      /* ... too much of it was not captured */
    UNREAD_OVERWRITTEN,  /* ... some were gone before they were looked at */
    UNREAD_NO_KEY,       /* ... none fits */
    UNREAD_MAX
};

#endif
