/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/unread.h"

#include <string.h>

static const struct {
    const char *name, *text;
} reasons[UNREAD_MAX] = {
    [UNREAD_OPEN_BEFORE] = {"open-before",
                            "the connection was open before the program was observed; or it passes on what others "
                            "encrypt"},
    [UNREAD_RECORDS_LOST] =
        {"records-lost", "part of what it did was not captured, and the plaintext may be among that; --lossless helps"},
    [UNREAD_LIBRARY] = {"unknown-library",
                        "it has a TLS library of its own that is not known here, or passes on what others encrypt"},
    [UNREAD_NOT_LOOKED] = {"not-looked-at",
                           "no TLS library is observed in it, and not all of its code could be looked at"},
    [UNREAD_GO] = {"unknown-go",
                   "it is written in Go, and no crypto/tls is found in it that can be observed here; or it "
                   "passes on what others encrypt"},
    [UNREAD_FORM] = {"unknown-form",
                     "a TLS library without names may be linked into it, and the instructions by which that "
                     "sets up keys aren't known"},
    [UNREAD_SELF_CHECK] = {"self-check", "the TLS library in it checks its own code (FIPS 140), and is left alone"},
    [UNREAD_JSSE] = {"unknown-jsse",
                     "it is Java, whose class library is not as it is known; or it has another TLS library"},
    [UNREAD_NOT_HOOKED] = {"not-hooked", "the functions of its TLS library could not be hooked"},
    [UNREAD_OTHER] = {"other-library",
                      "its plaintext does not pass through the TLS library that is observed in it, but "
                      "through another one; or it passes on what others encrypt"},
    [UNREAD_SUITE] = {"cipher-suite",
                      "keys of its TLS library are seen, but only those of AES-GCM, and this connection has "
                      "another cipher suite"},
    [UNREAD_CAPTURE] =
        {"not-captured",
         "keys of its TLS library are seen, but too much of the connection was not captured; --lossless helps"},
    [UNREAD_OVERWRITTEN] = {"keys-overwritten",
                            "keys of its TLS library are seen, but some were overwritten before they were looked at"},
    [UNREAD_NO_KEY] = {"no-key",
                       "keys of a TLS library are seen in it, but none is this connection's; or it passes on what "
                       "others encrypt"},
};

const char *unread_name(enum unread_reason why)
{
    return (unsigned)why < UNREAD_MAX ? reasons[why].name : NULL;
}

const char *unread_text(enum unread_reason why)
{
    return (unsigned)why < UNREAD_MAX ? reasons[why].text : NULL;
}

enum unread_reason unread_find(const char *name)
{
    for (unsigned i = 1; name && i < UNREAD_MAX; i++)
        if (strcmp(reasons[i].name, name) == 0)
            return (enum unread_reason)i;
    return UNREAD_NONE;
}
